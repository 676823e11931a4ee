/*
 * What a tool most likely does, from what its server says of it: a name and two hints. For a person
 * to look at: the server may lie, and what is not clear is a write.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"
#include "config/config.h"

enum suggest_hint { SUGGEST_NOT_SAID, SUGGEST_FALSE, SUGGEST_TRUE };

struct suggest_facts {
    struct slice name; /* as the server calls it */
    enum suggest_hint read_only, destructive;
};

struct suggestion {
    enum config_access access; /* READ or WRITE */
    bool is_contradiction;     /* name and hints do not go together */
    const char *why;           /* a few words; a verb may belong behind them */
    struct slice verb;         /* out of the name, in lower case; empty: none */
};

struct suggestion suggest_access(const struct suggest_facts *facts);
