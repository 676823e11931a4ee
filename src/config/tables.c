/* Arrays of tables, and tables by name: one object for each entry, which rows below the array's own
 * fill. */
#include <errno.h>

#include "load.h"

/* One problem for each key that must be there and is not. */
static bool has_required(struct loader *l, const struct place *place, const char *parent,
                         const struct toml_node *node) {
    bool fine = true;
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        struct slice name;
        if (!row->required || !option_is_child(row, parent, &name) ||
            toml_get(node, name.ptr) != NULL)
            continue;
        problem_of(l, CONFIG_ERROR, node->key_at, place, "needs %s", name.ptr);
        fine = false;
    }
    return fine;
}

/* What is wrong with single keys may be the reason for what is wrong with all together, so that is
 * looked at when nothing else is. */
static void load_entry(struct loader *l, const struct place *place, const struct option *row,
                       const struct toml_node *node, void *object) {
    size_t n_errors = l->n_errors;
    const char *parent = row->path;
    store_defaults(l, row->entry->owner, object);
    if (row->type == OPTION_NAMED) {
        struct slice name = arena_dup(&l->config->arena, node->key);
        const char *wrong = row->check(node->key);
        parent = option_find(row->path, node->key)->path;
        if (name.ptr == NULL)
            l->error = -ENOMEM;
        if (wrong != NULL)
            problem_of(l, CONFIG_ERROR, node->key_at, place, "%s", wrong);
        memcpy(object, &name, sizeof name);
    }
    if (l->error == 0)
        walk_table(l, place, node, parent, object, WALK_ALL);
    if (l->error == 0 && l->n_errors == n_errors && has_required(l, place, parent, node) &&
        row->entry->finish != NULL)
        row->entry->finish(l, place, node, object);
}

void store_tables(struct loader *l, const struct place *place, const struct option *row,
                  const struct toml_node *node, void *object) {
    size_t n = node->n_children;
    if (n > row->max) {
        problem_of(l, CONFIG_ERROR, node->key_at, place, "must have at most %llu entries",
                   (unsigned long long)row->max);
        return;
    }
    char *entries = arena_alloc_array(&l->config->arena, n + 1, row->entry->size);
    if (entries == NULL) {
        l->error = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < n && l->error == 0; i++) {
        struct place entry = {.up = place, .index = i};
        if (row->type == OPTION_NAMED)
            entry.key = node->children[i].key;
        load_entry(l, &entry, row, &node->children[i], entries + i * row->entry->size);
    }
    memcpy((char *)object + row->offset, &entries, sizeof entries);
    memcpy((char *)object + row->count_offset, &n, sizeof n);
}
