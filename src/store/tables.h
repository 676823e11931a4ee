/* All tables, and how their rows are copied: constant text for each. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store_table {
    const char *name, *select, *insert, *delete, *count;
    size_t n_columns;
    uint64_t n_fresh; /* rows that a new store has */
    bool is_passing;  /* of the moment: sessions, edit windows */
};

/* Those first that others refer to. But for `changes` and `store_version`, which belong to the
 * store and not to what is in it. */
extern const struct store_table store_all_tables[];
extern const size_t n_store_all_tables;
