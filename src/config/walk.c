#include <stdio.h>

#include "load.h"

static void walk_key(struct loader *l, const struct place *place, const struct option *row,
                     const struct toml_node *node, void *object, enum walk walk);

static void walk_twin(struct loader *l, const struct place *place, const struct option *row,
                      const struct toml_node *table, const struct toml_node *node, void *object,
                      enum walk walk);

static void walk_child(struct loader *l, const struct place *place, const struct toml_node *table,
                       const struct toml_node *child, const char *parent, void *object,
                       enum walk walk) {
    struct place inner = {.up = place, .key = child->key};
    const struct option *row = option_find(parent, child->key);
    const struct option *secret = row == NULL ? option_find_twin(parent, child->key) : NULL;
    if (row != NULL)
        walk_key(l, &inner, row, child, object, walk);
    else if (secret != NULL)
        walk_twin(l, &inner, secret, table, child, object, walk);
    else
        problem_unknown_key(l, &inner, child->key_at, parent);
}

void walk_table(struct loader *l, const struct place *place, const struct toml_node *table,
                const char *parent, void *object, enum walk walk) {
    for (size_t i = 0; i < table->n_children && l->error == 0; i++)
        walk_child(l, place, table, &table->children[i], parent, object, walk);
}

void walk_root(struct loader *l, struct toml_node *root) {
    for (int pass = 0; pass < (l->is_store_only ? 1 : 2); pass++) {
        for (size_t i = 0; i < root->n_children && l->error == 0; i++) {
            bool is_store = slice_eq(root->children[i].key, SLICE("store"));
            if (is_store == (pass == 0))
                walk_child(l, NULL, root, &root->children[i], "", l->config, WALK_ALL);
        }
        if (pass == 0)
            l->store_is_broken = l->n_errors != 0;
        if (pass == 0 && !l->is_store_only)
            stored_graft(l, root);
    }
    if (!l->is_store_only)
        stored_load(l, root);
}

const struct toml_node *find_secret(const struct toml_node *table, const char *key) {
    char twin[64];
    const struct toml_node *node = toml_get(table, key);
    int len = snprintf(twin, sizeof twin, "%s" OPTION_TWIN, key);
    return node == NULL && len > 0 && (size_t)len < sizeof twin ? toml_get(table, twin) : node;
}

static void walk_names(struct loader *l, const struct place *place, const struct option *row,
                       const struct toml_node *node) {
    if (row->status == OPTION_REFUSED) {
        problem_of(l, CONFIG_ERROR, node->key_at, place, "%s", row->why);
        return;
    }
    if (!check_type(l, place, row, node))
        return;
    for (size_t i = 0; row->type == OPTION_TABLES && i < node->n_children; i++) {
        struct place entry = {.up = place, .index = i};
        walk_table(l, &entry, &node->children[i], row->path, NULL, WALK_NAMES);
    }
    for (size_t i = 0; row->type == OPTION_NAMED && i < node->n_children; i++) {
        const struct toml_node *child = &node->children[i];
        struct place entry = {.up = place, .key = child->key};
        walk_table(l, &entry, child, option_find(row->path, child->key)->path, NULL, WALK_NAMES);
    }
    if (node->type == TOML_TABLE && (row->type == OPTION_TABLE || row->type == OPTION_STDERR))
        walk_table(l, place, node, row->path, NULL, WALK_NAMES);
}

/* A key for the other kind of server; says so. */
static bool is_misplaced(struct loader *l, const struct place *place, const struct option *row,
                         const struct toml_node *node) {
    if (row->only == OPTION_FOR_ALL || l->kind == OPTION_FOR_ALL || row->only == l->kind)
        return false;
    problem_of(l, CONFIG_ERROR, node->key_at, place,
               row->only == OPTION_FOR_HTTP ? "is for servers with url, and this one has cmd"
                                            : "is for servers with cmd, and this one has url");
    return true;
}

static void walk_twin(struct loader *l, const struct place *place, const struct option *row,
                      const struct toml_node *table, const struct toml_node *node, void *object,
                      enum walk walk) {
    struct slice key = slice_sub(node->key, 0, node->key.len - SLICE(OPTION_TWIN).len);
    if (node->type != TOML_STRING) {
        problem_of(l, CONFIG_ERROR, node->type == TOML_TABLE ? node->key_at : node->at, place,
                   "must be a path, as a string");
        return;
    }
    if (walk == WALK_NAMES || is_misplaced(l, place, row, node))
        return;
    if (l->is_stored) {
        problem_of(l, CONFIG_ERROR, node->key_at, place,
                   "names a file of the gateway's machine: only the configuration file may have "
                   "it; {{ secret.NAME }} may stand here, without " OPTION_TWIN);
        return;
    }
    for (size_t i = 0; i < table->n_children; i++) {
        if (!slice_eq(table->children[i].key, key))
            continue;
        problem_of(l, CONFIG_ERROR, node->key_at, place, "and %.*s are the same; keep one of them",
                   SLICE_ARGS(key));
        return;
    }
    mark_key(l, &(struct place){.up = place->up, .key = key}, node->key_at);
    store_twin(l, place, row, node, object);
}

/* One problem for the whole of it. */
static void walk_built(struct loader *l, const struct place *place, const struct option *row,
                       const struct toml_node *node, void *object) {
    if (row->type != OPTION_TABLE) {
        store_value(l, place, row, node, object);
        return;
    }
    if (!check_type(l, place, row, node))
        return;
    if (row->owner != OPTION_OF_NOTHING)
        *(bool *)((char *)object + row->offset) = true;
    if (slice_eq(slice_from_cstr(row->path), SLICE("mcp.servers")))
        load_servers(l, place, node);
    else
        walk_table(l, place, node, row->path, object, WALK_ALL);
}

static void walk_key(struct loader *l, const struct place *place, const struct option *row,
                     const struct toml_node *node, void *object, enum walk walk) {
    if (walk == WALK_NAMES) {
        walk_names(l, place, row, node);
        return;
    }
    if (is_misplaced(l, place, row, node) || (l->is_stored && trust_refuses(l, place, row, node)))
        return;
    switch (row->status) {
    case OPTION_BUILT:
        mark_key(l, place, node->key_at);
        walk_built(l, place, row, node, object);
        return;
    case OPTION_IGNORED:
        problem_of(l, CONFIG_WARNING, node->key_at, place, "has no effect: %s", row->why);
        walk_names(l, place, row, node);
        return;
    case OPTION_REFUSED:
        walk_names(l, place, row, node);
        return;
    }
}
