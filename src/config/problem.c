#include <errno.h>
#include <stdarg.h>

#include "base/limits.h"
#include "base/mem.h"
#include "load.h"

enum { MESSAGE_MAX = 2048, KEY_SHOWN_MAX = 80 };

void config_problems_init(struct config_problems *problems) {
    *problems = (struct config_problems){.items = NULL};
    arena_init(&problems->arena, LIMIT_CONFIG_MEMORY);
}

void config_problems_deinit(struct config_problems *problems) {
    mem_free(problems->items);
    arena_deinit(&problems->arena);
    *problems = (struct config_problems){.items = NULL};
}

int problem_add(struct config_problems *problems, enum config_severity severity, struct slice file,
                struct toml_position at, struct slice message) {
    if (problems->n == problems->cap) {
        size_t cap = problems->cap == 0 ? 16 : 2 * problems->cap;
        void *items = mem_realloc(problems->items, cap * sizeof *problems->items);
        if (items == NULL)
            return -ENOMEM;
        problems->items = items;
        problems->cap = cap;
    }
    struct config_problem problem = {
        .severity = severity,
        .path = arena_dup(&problems->arena, file),
        .line = at.line,
        .column = at.column,
        .message = arena_dup(&problems->arena, message),
    };
    if (problem.path.ptr == NULL || problem.message.ptr == NULL)
        return -ENOMEM;
    problems->items[problems->n++] = problem;
    problems->n_errors += severity == CONFIG_ERROR;
    return 0;
}

static void add(struct loader *l, enum config_severity severity, struct toml_position at,
                const struct buf *message) {
    size_t index;
    if (l->error == 0 && stored_is_at(at, &index)) {
        stored_problem(l, index, severity, buf_slice(message));
        return;
    }
    l->n_errors += severity == CONFIG_ERROR;
    if (l->error != 0)
        return;
    if (buf_error(message) == -ENOMEM) {
        l->error = -ENOMEM;
    } else if (l->problems->n - l->first_problem >= LIMIT_CONFIG_PROBLEMS) {
        l->left_out++;
        l->problems->n_errors += severity == CONFIG_ERROR;
    } else {
        l->error = problem_add(l->problems, severity, l->file, at, buf_slice(message));
    }
}

static bool is_bare(struct slice key) {
    for (size_t i = 0; i < key.len; i++) {
        char c = key.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_'))
            return false;
    }
    return key.len > 0;
}

static void append_key(struct buf *out, struct slice key) {
    const char *mark = is_bare(key) ? "" : "\"";
    buf_append_cstr(out, mark);
    log_escape(out, key, KEY_SHOWN_MAX);
    buf_append_cstr(out, mark);
}

/* The depth of the chain is that of the tree, which the parser limits. */
void append_place(struct buf *out, const struct place *place) {
    if (place == NULL)
        return;
    append_place(out, place->up);
    if (place->key.ptr == NULL) {
        buf_printf(out, "[%zu]", place->index);
        return;
    }
    if (place->up != NULL)
        buf_append_byte(out, '.');
    append_key(out, place->key);
}

void problem_at(struct loader *l, enum config_severity severity, struct toml_position at,
                const char *format, ...) {
    CLEANUP(buf_deinit) struct buf message = BUF_INIT(MESSAGE_MAX);
    va_list args;
    va_start(args, format);
    buf_vprintf(&message, format, args);
    va_end(args);
    add(l, severity, at, &message);
}

void problem_of(struct loader *l, enum config_severity severity, struct toml_position at,
                const struct place *place, const char *format, ...) {
    CLEANUP(buf_deinit) struct buf message = BUF_INIT(MESSAGE_MAX);
    append_place(&message, place);
    buf_append_byte(&message, ' ');
    va_list args;
    va_start(args, format);
    buf_vprintf(&message, format, args);
    va_end(args);
    add(l, severity, at, &message);
}

/* The known key that is nearest, when it is near enough to be what was meant. */
static struct slice nearest_key(const char *parent, struct slice key) {
    struct slice best = SLICE_EMPTY;
    size_t best_distance = key.len < 5 ? 2 : 3; /* one past what is taken for a slip */
    best_distance = key.len < 3 ? 1 : best_distance;
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        struct slice name;
        if (!option_is_child(row, parent, &name) || slice_eq(name, SLICE("*")) ||
            row->status == OPTION_REFUSED)
            continue;
        size_t distance = edit_distance(key, name);
        if (distance < best_distance) {
            best = name;
            best_distance = distance;
        }
    }
    return best;
}

void problem_unknown_key(struct loader *l, const struct place *place, struct toml_position at,
                         const char *parent) {
    CLEANUP(buf_deinit) struct buf message = BUF_INIT(MESSAGE_MAX);
    buf_append_cstr(&message, "unknown key ");
    append_place(&message, place);
    struct slice near = nearest_key(parent, place->key);
    if (near.len > 0)
        buf_printf(&message, " (did you mean %.*s?)", SLICE_ARGS(near));
    add(l, CONFIG_ERROR, at, &message);
}

static bool is_before(const struct config_problem *a, const struct config_problem *b) {
    return a->line != b->line ? a->line < b->line : a->column < b->column;
}

/* Insertion keeps the order of equals, and there are few. */
static void sort(struct config_problem *items, size_t n) {
    for (size_t i = 1; i < n; i++) {
        struct config_problem moved = items[i];
        size_t k = i;
        for (; k > 0 && is_before(&moved, &items[k - 1]); k--)
            items[k] = items[k - 1];
        items[k] = moved;
    }
}

void problems_finish(struct loader *l) {
    struct config_problems *problems = l->problems;
    if (problems->n > l->first_problem)
        sort(problems->items + l->first_problem, problems->n - l->first_problem);
    if (l->left_out == 0 || l->error != 0)
        return;
    CLEANUP(buf_deinit) struct buf message = BUF_INIT(MESSAGE_MAX);
    buf_printf(&message, "%zu more problems are not shown", l->left_out);
    l->error = buf_error(&message);
    if (l->error == 0)
        l->error = problem_add(problems, CONFIG_WARNING, l->file, (struct toml_position){0, 0},
                               buf_slice(&message));
}

int config_problem_format(struct buf *out, const struct config_problem *problem) {
    if (problem->path.len > 0) {
        log_escape(out, problem->path, SIZE_MAX);
        buf_append_byte(out, ':');
    }
    if (problem->line > 0)
        buf_printf(out, "%u:%u:", problem->line, problem->column);
    if (buf_len(out) > 0 && problem->path.len + problem->line > 0)
        buf_append_byte(out, ' ');
    buf_append_cstr(out, problem->severity == CONFIG_ERROR ? "error: " : "warning: ");
    log_escape(out, problem->message, SIZE_MAX);
    return buf_append_byte(out, '\n');
}
