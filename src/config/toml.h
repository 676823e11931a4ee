/*
 * TOML 1.0 as a plain tree in an arena. toml.cpp is the one C++ file: toml++ parses, the result is
 * copied, and neither its types nor its exceptions come out. toml_scan.c looks at the text first,
 * because toml++ 3.3 has two holes: the depth of dotted keys is not limited (its destructor then
 * overflows the stack), and what follows the bracket of a table's header is asserted, not checked.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

#ifdef __cplusplus
extern "C" {
/* What toml.cpp needs of base/arena.h and base/slice.h, which are C and no C++. */
struct slice {
    const char *ptr;
    size_t len;
};
struct arena;
void *arena_alloc(struct arena *arena, size_t size);
#else
#include "base/arena.h"
#include "base/slice.h"
#endif

enum toml_type {
    TOML_TABLE,
    TOML_ARRAY,
    TOML_STRING,
    TOML_INTEGER,
    TOML_FLOAT,
    TOML_BOOL,
    TOML_TIME, /* a date, a time or both */
};

struct toml_position {
    uint32_t line, column; /* 1-based, 0 for unknown; columns count code points */
};

struct toml_node {
    enum toml_type type;
    bool boolean;
    struct toml_position at;     /* of the value */
    struct toml_position key_at; /* of the key; of the value in an array */
    struct slice key;            /* empty in an array; may hold any byte */
    struct slice string;         /* may hold NUL, which TOML can spell; a time as RFC 3339 has it */
    int64_t integer;
    double number;
    struct toml_node *children; /* in the order of the file */
    size_t n_children;
};

struct toml_error {
    struct toml_position at;
    char message[256]; /* may quote bytes of the file: escape before printing */
};

/*
 * Parses a document. 0: *ret_root is its table. TOML_E_SYNTAX: *ret_error says what and where.
 * -ENOMEM. The tree lives in the arena and does not point into the text. Nesting and the parts of
 * a dotted key are limited (limits.h), so that recursion over the tree is safe.
 */
enum { TOML_E_SYNTAX = 1 };
MUST_CHECK int toml_parse(struct arena *arena, struct slice text, struct toml_node **ret_root,
                          struct toml_error *ret_error);

/* The entry of a table, or NULL. */
const struct toml_node *toml_get(const struct toml_node *table, const char *key);

/* The first look alone. Same results. */
MUST_CHECK int toml_scan(struct slice text, struct toml_error *ret_error);

#ifdef __cplusplus
}
#endif
