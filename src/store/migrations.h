/* The schema, as the list of the steps that made it. What was released is never changed: the next
 * step changes what it did. */
#pragma once

#include <stddef.h>

struct migration {
    const char *name;
    /* NULL-terminated; for both databases. */
    const char *const *statements;
};

/* The n-th brings the schema from version n to n + 1. */
extern const struct migration migrations[];
extern const size_t n_migrations;
