/* How rows of the option table are written (options_*.c). */
#pragma once

#include "base/limits.h"
#include "config/config.h"
#include "options.h"

#define SECONDS(n) ((uint64_t)(n)*1000u)
#define MINUTES(n) SECONDS((n)*60u)
#define HOURS(n)   MINUTES((n)*60u)
#define DAYS(n)    HOURS((n)*24u)

#define OF_CONFIG(member) .owner = OPTION_OF_CONFIG, .offset = offsetof(struct config, member)

/* A key inside a table that is not built, or ignored: it only has to be known. */
#define INNER(name, kind)                                                                          \
    { .path = (name), .type = OPTION_##kind, .status = OPTION_IGNORED }
#define LIMIT_PAIR(name) INNER(name ".limit", INTEGER), INNER(name ".interval", STRING)
