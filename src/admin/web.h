/* Files of web/, which are in the program (scripts/embed.py): each is served by a row of the
 * routes. */
#pragma once

#include <stddef.h>

#include "base/slice.h"

struct web_file {
    const char *name; /* "setup.html" */
    struct slice content;
};
extern const struct web_file web_files[];
extern const size_t n_web_files;
