/*
 * Where things stand in a TOML text: the tables, and the keys with their values, of all that lies
 * at or below mcp.servers. For text that toml_parse() has accepted; what is not understood all the
 * same is refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/compiler.h"
#include "base/slice.h"

struct edit_path {
    struct slice *parts; /* unescaped */
    size_t n;
};

enum edit_table_kind {
    EDIT_TABLE,  /* [a.b], and the root */
    EDIT_ARRAY,  /* [[a.b]] */
    EDIT_INLINE, /* { } */
};

struct edit_table {
    enum edit_table_kind kind;
    struct edit_path path;
    struct slice indent; /* what stands before its lines */
    /* In the text. Of an inline table: right behind its brace. Else the begin of a line: behind its
     * last key, or behind its header. */
    size_t end;
    size_t end_of_block; /* the same, behind comments that belong to what is above them */
    bool is_empty;
};

struct edit_entry {        /* a key with a value */
    struct edit_path path; /* from the root */
    size_t table;          /* that it stands in */
    size_t end;            /* the begin of the next line; of no use in an inline table */
};

struct edit_scan {
    struct slice text;
    struct arena *arena; /* owns what it found, which points into the text, too */
    struct edit_table *tables;
    struct edit_entry *entries;
    size_t n_tables, cap_tables, n_entries, cap_entries;
    size_t i;    /* where it reads */
    size_t line; /* 1-based; after EDIT_E_UNKNOWN: the one that is not understood */
};

enum { EDIT_E_UNKNOWN = 1 };
/* 0, EDIT_E_UNKNOWN, -ENOMEM. */
MUST_CHECK int edit_scan(struct slice text, struct arena *arena, struct edit_scan *ret_scan);
