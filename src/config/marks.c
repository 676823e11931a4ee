/* Where each key stands in the file, and the names that its value was made of: for those who ask
 * what is served by, and why. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "load.h"

void mark_key(struct loader *l, const struct place *place, struct toml_position at) {
    CLEANUP(buf_deinit) struct buf path = BUF_INIT(KIB(64));
    if (l->n_marks == l->cap_marks) {
        size_t cap = l->cap_marks == 0 ? 64 : 2 * l->cap_marks;
        void *marks = mem_realloc(l->marks, cap * sizeof *l->marks);
        if (marks == NULL) {
            l->error = -ENOMEM;
            return;
        }
        l->marks = marks;
        l->cap_marks = cap;
    }
    append_place(&path, place);
    struct config_mark mark = {.path = arena_dup(&l->config->arena, buf_slice(&path)),
                               .line = at.line,
                               .column = at.column};
    if (buf_error(&path) != 0 || mark.path.ptr == NULL)
        l->error = -ENOMEM;
    else
        l->marks[l->n_marks++] = mark;
}

void mark_reference(struct loader *l, const char *scope, struct slice name) {
    if (l->n_marks == 0)
        return;
    struct config_mark *mark = &l->marks[l->n_marks - 1];
    struct config_reference *reference = arena_alloc(&l->config->arena, sizeof *reference);
    const char *text = arena_printf(&l->config->arena, "%s%.*s", scope, SLICE_ARGS(name));
    if (reference == NULL || text == NULL) {
        l->error = -ENOMEM;
        return;
    }
    *reference = (struct config_reference){.next = mark->references, .name = slice_from_cstr(text)};
    mark->references = reference;
}

static int compare_paths(struct slice a, struct slice b) {
    int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_marks(const void *a, const void *b) {
    const struct config_mark *x = a, *y = b;
    return compare_paths(x->path, y->path);
}

void marks_finish(struct loader *l) {
    struct config *config = l->config;
    config->marks = arena_alloc_array(&config->arena, l->n_marks + 1, sizeof *config->marks);
    if (config->marks == NULL) {
        l->error = -ENOMEM;
        return;
    }
    if (l->n_marks != 0)
        memcpy(config->marks, l->marks, l->n_marks * sizeof *config->marks);
    config->n_marks = l->n_marks;
    qsort(config->marks, config->n_marks, sizeof *config->marks, compare_marks);
}

const struct config_mark *mark_find(const struct config *config, struct slice path) {
    const struct config_mark wanted = {.path = path};
    return config->n_marks != 0 ? bsearch(&wanted, config->marks, config->n_marks,
                                          sizeof *config->marks, compare_marks)
                                : NULL;
}

const struct config_kept *kept_find(const struct config *config, const char *path) {
    const struct config_kept *kept = config->kept;
    while (kept != NULL && strcmp(kept->path, path) != 0)
        kept = kept->next;
    return kept;
}
