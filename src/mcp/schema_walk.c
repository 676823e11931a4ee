#include "schema_walk.h"

#include <assert.h>

#include "base/compiler.h"

static const struct json_want everything[2] = {{"*", everything}, {0}};
const struct json_want schema_want = {.children = everything};

void schema_walk_init(struct schema_walk *walk, const struct json_reader *reader) {
    walk->reader = reader;
    walk->next = 1;
    walk->n_levels = 1;
    walk->levels[0] = (struct schema_level){
        .node = json_root(reader), .inside = SCHEMA_KEYWORDS, .by_properties = true};
}

static bool is_one_of(const struct json_node *node, const struct slice *keys, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (json_key_is(node, keys[i]))
            return true;
    }
    return false;
}

/* JSON Schema 2020-12 core and validation; `definitions` and `dependencies` are older. */
static struct schema_level level_of(const struct schema_level *around,
                                    const struct json_node *node) {
    static const struct slice of_names[] = {
        SLICE_INIT("$defs"),
        SLICE_INIT("definitions"),
        SLICE_INIT("patternProperties"),
        SLICE_INIT("dependentSchemas"),
        SLICE_INIT("dependencies"),
    };
    static const struct slice of_data[] = {SLICE_INIT("const"), SLICE_INIT("enum"),
                                           SLICE_INIT("default"), SLICE_INIT("examples")};
    struct schema_level level = {.node = node, .inside = SCHEMA_KEYWORDS};
    bool is_object = node->type == JSON_OBJECT;
    if (around->inside == SCHEMA_DATA) {
        level.inside = SCHEMA_DATA;
    } else if (around->inside == SCHEMA_NAMES) {
        level.by_properties = around->by_properties;
    } else if (around->node->type == JSON_OBJECT) {
        if (is_one_of(node, of_data, ARRAY_LEN(of_data))) {
            level.inside = SCHEMA_DATA;
        } else if (is_object && json_key_is(node, SLICE("properties"))) {
            level.inside = SCHEMA_NAMES;
            level.by_properties = around->by_properties;
        } else if (is_object && is_one_of(node, of_names, ARRAY_LEN(of_names))) {
            level.inside = SCHEMA_NAMES;
        }
    }
    return level;
}

const struct json_node *schema_walk_next(struct schema_walk *walk) {
    const struct json_node *root = json_root(walk->reader);
    if (walk->next >= root->next)
        return NULL;
    const struct json_node *node = root + walk->next;
    /* The container in front is entered by going on to its first member. */
    const struct json_node *before = node - 1;
    if (before != root && node->parent == (uint32_t)(before - root)) {
        struct schema_level level = level_of(schema_walk_top(walk), before);
        assert(walk->n_levels < ARRAY_LEN(walk->levels));
        walk->levels[walk->n_levels++] = level;
    }
    while (schema_walk_top(walk)->node != root + node->parent)
        walk->n_levels--;
    walk->next++;
    return node;
}

void schema_walk_leave(struct schema_walk *walk) {
    walk->next = schema_walk_top(walk)->node->next;
}
