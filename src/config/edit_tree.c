/*
 * Two trees of TOML, one of them with accesses that the other does not have. This is what says that
 * changing the text did what it should: it knows nothing of texts.
 */
#include "edit_tree.h"

struct slice edit_access_name(enum config_access access) {
    return access == CONFIG_ACCESS_READ ? SLICE("read") : SLICE("write");
}

void edit_path_of(const struct config_access_edit *edit, struct slice out[PATH_ACCESS]) {
    out[0] = SLICE("mcp");
    out[1] = SLICE("servers");
    out[2] = edit->server;
    out[3] = SLICE("tools");
    out[4] = edit->tool;
    out[5] = SLICE("access");
}

struct comparison {
    const struct config_access_edit *edits;
    size_t n, n_found, cursor;
};

static bool same_tree(struct comparison *c, const struct toml_node *old,
                      const struct toml_node *node, struct slice *path, size_t depth);

static bool is_same_path(const struct slice *a, const struct slice *b) {
    bool is_same = true;
    for (size_t i = PATH_ACCESS; i-- > 0 && is_same;) /* the last ones are what differs most */
        is_same = slice_eq(a[i], b[i]);
    return is_same;
}

/* One of the wanted leaves. They come nearly in order. */
static bool is_wanted(struct comparison *c, const struct toml_node *node,
                      const struct slice *path) {
    for (size_t i = 0; i < c->n; i++, c->cursor++) {
        if (c->cursor >= c->n)
            c->cursor = 0;
        const struct config_access_edit *edit = &c->edits[c->cursor];
        struct slice wanted[PATH_ACCESS];
        edit_path_of(edit, wanted);
        if (is_same_path(wanted, path))
            return node->type == TOML_STRING &&
                   slice_eq(node->string, edit_access_name(edit->access));
    }
    return false;
}

/* A wanted leaf, or a table on the way to some. */
static bool is_fine_addition(struct comparison *c, const struct toml_node *node, struct slice *path,
                             size_t depth) {
    if (depth >= PATH_ACCESS)
        return false;
    path[depth] = node->key;
    if (depth == PATH_ACCESS - 1) {
        c->n_found++;
        return is_wanted(c, node, path);
    }
    bool is_fine = node->type == TOML_TABLE && node->n_children != 0 && depth >= PATH_SERVER;
    for (size_t i = 0; i < node->n_children && is_fine; i++)
        is_fine = is_fine_addition(c, &node->children[i], path, depth + 1);
    return is_fine;
}

static bool same_scalar(const struct toml_node *a, const struct toml_node *b) {
    switch (a->type) {
    case TOML_STRING:
    case TOML_TIME:
        return slice_eq(a->string, b->string);
    case TOML_INTEGER:
        return a->integer == b->integer;
    case TOML_FLOAT: { /* bit by bit: there are two zeros, and what is no number */
        uint64_t bits_of_a, bits_of_b;
        memcpy(&bits_of_a, &a->number, sizeof bits_of_a);
        memcpy(&bits_of_b, &b->number, sizeof bits_of_b);
        return bits_of_a == bits_of_b;
    }
    case TOML_BOOL:
        return a->boolean == b->boolean;
    case TOML_TABLE:
    case TOML_ARRAY:
        break;
    }
    return false;
}

/* The old child with that key, from the cursor on and round: they are nearly in the same order. */
const struct toml_node *edit_find_child(const struct toml_node *table, struct slice key,
                                        size_t *cursor) {
    for (size_t i = 0; i < table->n_children; i++) {
        const struct toml_node *child = &table->children[(*cursor + i) % table->n_children];
        if (slice_eq(child->key, key)) {
            *cursor = (*cursor + i + 1) % table->n_children;
            return child;
        }
    }
    return NULL;
}

static bool same_table(struct comparison *c, const struct toml_node *old,
                       const struct toml_node *node, struct slice *path, size_t depth) {
    size_t n_same = 0, cursor = 0;
    for (size_t i = 0; i < node->n_children; i++) {
        const struct toml_node *child = &node->children[i];
        const struct toml_node *before = edit_find_child(old, child->key, &cursor);
        bool is_fine;
        if (before == NULL) {
            is_fine = is_fine_addition(c, child, path, depth);
        } else {
            if (depth < PATH_ACCESS)
                path[depth] = child->key;
            is_fine = same_tree(c, before, child, path, depth + 1);
            n_same++;
        }
        if (!is_fine)
            return false;
    }
    return n_same == old->n_children;
}

/* Of lists the elements, by place: nothing below one is added, its depth is past all paths. */
static bool same_tree(struct comparison *c, const struct toml_node *old,
                      const struct toml_node *node, struct slice *path, size_t depth) {
    if (old->type != node->type)
        return false;
    if (node->type == TOML_TABLE)
        return same_table(c, old, node, path, depth);
    if (node->type != TOML_ARRAY)
        return same_scalar(old, node);
    bool is_same = old->n_children == node->n_children;
    for (size_t i = 0; i < node->n_children && is_same; i++)
        is_same = same_tree(c, &old->children[i], &node->children[i], path, PATH_ACCESS);
    return is_same;
}

bool edit_is_all(const struct toml_node *old, const struct toml_node *root,
                 const struct config_access_edit *edits, size_t n) {
    struct comparison comparison = {.edits = edits, .n = n};
    struct slice path[PATH_ACCESS];
    return same_tree(&comparison, old, root, path, 0) && comparison.n_found == n;
}
