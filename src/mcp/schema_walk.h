/*
 * A walk over a JSON Schema that was read with everything opened: each node in the order of the
 * document, with what it is to the schema around it. Keywords that nobody knows are taken for
 * places where schemas may stand.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "json/reader.h"

/* What the members of an object, or the elements of an array, are. */
enum schema_inside {
    SCHEMA_KEYWORDS, /* of a schema; of an array: schemas */
    SCHEMA_NAMES,    /* names of somebody's choice, with a schema each: `properties`, `$defs` */
    SCHEMA_DATA,     /* `const`, `enum`, `default`, `examples` */
};

struct schema_level {
    const struct json_node *node;
    enum schema_inside inside;
    bool by_properties; /* the way here leads through `properties` and names alone */
};

struct schema_walk {
    const struct json_reader *reader;
    uint32_t next;
    size_t n_levels;                                  /* containers around the current node */
    struct schema_level levels[LIMIT_JSON_DEPTH + 1]; /* the root's first */
};

/* Opens everything. */
extern const struct json_want schema_want;

/* The reader holds the schema, read with schema_want and no more than LIMIT_JSON_DEPTH. */
void schema_walk_init(struct schema_walk *walk, const struct json_reader *reader);
/* The next node behind the root, NULL at the end. The levels are those around it. */
const struct json_node *schema_walk_next(struct schema_walk *walk);
/* Leaves out what is inside the innermost level. */
void schema_walk_leave(struct schema_walk *walk);

static inline const struct schema_level *schema_walk_top(const struct schema_walk *walk) {
    return &walk->levels[walk->n_levels - 1];
}
