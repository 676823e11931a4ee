/*
 * Everything that finds something in a text is a finder: the built-in shapes, the keys that go with
 * ids of AWS, each pattern. Each goes through the original text by itself, so that none of them
 * depends on what another one has replaced; where their parts overlap or touch, what is replaced is
 * all of them.
 *
 * Whatever cannot be finished, for want of steps or memory, replaces the whole text.
 */
#include "redact.h"

#include <errno.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "shapes.h"

enum {
    FINDERS_INSIDE = 8,
    MOST_PARTS = 512, /* of one text and finder: then the whole of it is replaced */
    KEY_MAX = 256,    /* bytes of a key that paths are compared with */
};

/* Of a text that is longer than a record shows, this much is looked at, and half of it shown. */
static const size_t window = 4 * (size_t)LIMIT_AUDIT_STRING;

/* A path of the configuration: its names, separated by dots. */
struct path {
    struct slice text, last;
    bool is_deep; /* one name: at any depth */
};

struct audit_redact {
    const struct config_audit *config;
    struct shapes shapes;
    struct path *paths;
    size_t n_paths;
    struct regex **patterns;
    size_t n_patterns;
};

/* --- rules --- */

struct audit_redact *audit_redact_free(struct audit_redact *redact) {
    if (redact == NULL)
        return NULL;
    for (size_t i = 0; i < redact->n_patterns; i++)
        regex_free(redact->patterns[i]);
    mem_free(redact->patterns);
    mem_free(redact->paths);
    mem_free(redact);
    return NULL;
}

static void free_redact(struct audit_redact **redact) {
    *redact = audit_redact_free(*redact);
}

static int wrong_rule(struct buf *ret_reason, const char *list, size_t i, const char *why) {
    buf_printf(ret_reason, "audit.redact.%s: entry %zu %s", list, i + 1, why);
    return AUDIT_E_RULE;
}

static int read_paths(struct audit_redact *redact, struct buf *ret_reason) {
    const struct config_audit *config = redact->config;
    redact->paths = mem_alloc(config->n_redact_paths * sizeof *redact->paths);
    if (redact->paths == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_redact_paths; i++) {
        struct slice text = config->redact_paths[i], last = text, head, rest = text;
        while (slice_cut(rest, '.', &head, &rest)) {
            if (slice_is_empty(head))
                return wrong_rule(ret_reason, "paths", i, "has an empty part");
            last = rest;
        }
        if (slice_is_empty(last))
            return wrong_rule(ret_reason, "paths", i, "has an empty part");
        redact->paths[redact->n_paths++] =
            (struct path){.text = text, .last = last, .is_deep = last.len == text.len};
    }
    return 0;
}

static int read_patterns(struct audit_redact *redact, struct buf *ret_reason) {
    const struct config_audit *config = redact->config;
    redact->patterns = mem_alloc(config->n_redact_patterns * sizeof(struct regex *));
    if (redact->patterns == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_redact_patterns; i++) {
        struct regex_error error;
        int r = slice_is_empty(config->redact_patterns[i])
                    ? wrong_rule(ret_reason, "patterns", i, "is empty")
                    : regex_new_search(config->redact_patterns[i], &redact->patterns[i], &error);
        if (r == REGEX_E_PATTERN && !slice_is_empty(config->redact_patterns[i])) {
            wrong_rule(ret_reason, "patterns", i, "is no pattern: ");
            buf_printf(ret_reason, "%s (at byte %zu of it)", error.text, error.offset);
        }
        if (r != 0)
            return r < 0 ? r : AUDIT_E_RULE;
        redact->n_patterns++;
    }
    return 0;
}

int audit_redact_new(const struct config_audit *config, struct audit_redact **ret_redact,
                     struct buf *ret_reason) {
    struct audit_redact *redact CLEANUP(free_redact) = mem_alloc(sizeof *redact);
    if (redact == NULL)
        return -ENOMEM;
    redact->config = config;
    shapes_init(&redact->shapes);
    int error = read_paths(redact, ret_reason);
    if (error == 0)
        error = read_patterns(redact, ret_reason);
    if (error != 0)
        return error;
    *ret_redact = TAKE(redact);
    return 0;
}

const struct config_audit *redact_config(const struct audit_redact *redact) {
    return redact->config;
}

/* --- texts --- */

struct part {
    size_t begin, end; /* begin SIZE_MAX: there is none any more */
};

enum finder_kind { FIND_SHAPES, FIND_AWS, FIND_PATTERN };

struct finder {
    enum finder_kind kind;
    const struct regex *pattern;
    struct shape_scan scan;
    struct part part; /* the one that it has found, and that is not behind yet */
    size_t n;
};

/* False: it cannot be told. */
static bool find_next(struct finder *finder, struct slice text, struct regex_work *work) {
    bool found = false;
    enum regex_verdict verdict;
    size_t from = finder->part.end;
    if (finder->n++ == MOST_PARTS)
        return false;
    switch (finder->kind) {
    case FIND_SHAPES:
        found = shapes_next(&finder->scan, &finder->part.begin, &finder->part.end);
        break;
    case FIND_AWS:
        found = shapes_next_aws_secret(text, from, &finder->part.begin, &finder->part.end);
        break;
    case FIND_PATTERN:
        verdict =
            regex_search(finder->pattern, text, from, work, &finder->part.begin, &finder->part.end);
        if (verdict == REGEX_UNDECIDED)
            return false;
        found = verdict == REGEX_MATCHES;
        break;
    }
    if (!found)
        finder->part.begin = SIZE_MAX;
    return true;
}

struct finders {
    struct finder inside[FINDERS_INSIDE];
    struct finder *all, *owned;
    size_t n;
};

static bool finders_start(const struct audit_redact *redact, struct slice text,
                          struct regex_work *work, struct finders *finders) {
    finders->n = 0;
    finders->owned = NULL;
    finders->all = finders->inside;
    if (redact->n_patterns + 2 > FINDERS_INSIDE) {
        finders->owned = mem_alloc((redact->n_patterns + 2) * sizeof *finders->owned);
        finders->all = finders->owned;
        if (finders->owned == NULL)
            return false;
    }
    if (redact->config->redact_shapes) {
        finders->all[finders->n++] =
            (struct finder){.kind = FIND_SHAPES, .scan = {.shapes = &redact->shapes, .text = text}};
        if (shapes_has_aws_id(text))
            finders->all[finders->n++] = (struct finder){.kind = FIND_AWS};
    }
    for (size_t i = 0; i < redact->n_patterns; i++)
        finders->all[finders->n++] =
            (struct finder){.kind = FIND_PATTERN, .pattern = redact->patterns[i]};
    for (size_t i = 0; i < finders->n; i++) {
        if (!find_next(&finders->all[i], text, work))
            return false;
    }
    return true;
}

/* The next stretch of parts that overlap or touch. False: it cannot be told. */
static bool finders_next(struct finders *finders, struct slice text, struct regex_work *work,
                         struct part *ret_part) {
    struct part part = {.begin = SIZE_MAX};
    for (size_t i = 0; i < finders->n; i++) {
        if (finders->all[i].part.begin < part.begin)
            part = finders->all[i].part;
    }
    bool grew = part.begin != SIZE_MAX;
    while (grew) {
        grew = false;
        for (size_t i = 0; i < finders->n; i++) {
            struct finder *finder = &finders->all[i];
            while (finder->part.begin <= part.end) {
                if (finder->part.end > part.end)
                    part.end = finder->part.end;
                if (!find_next(finder, text, work))
                    return false;
                grew = true;
            }
        }
    }
    *ret_part = part;
    return true;
}

/* Appends; at most the first `most` bytes of the text are shown of what is not replaced. */
static bool append_without(struct finders *finders, struct slice text, size_t most,
                           struct regex_work *work, struct buf *out) {
    size_t at = 0;
    for (;;) {
        struct part part;
        if (!finders_next(finders, text, work, &part))
            return false;
        size_t until = part.begin < most ? part.begin : most;
        if (until > at)
            buf_append(out, slice_sub(text, at, until));
        if (part.begin >= most)
            return true;
        buf_append(out, SLICE(AUDIT_REDACTED));
        at = part.end;
    }
}

static bool has_nothing(const struct finders *finders) {
    bool found = false;
    for (size_t i = 0; i < finders->n; i++)
        found = found || finders->all[i].part.begin != SIZE_MAX;
    return !found;
}

/* The usual text has no shape, and nobody has patterns. */
static bool is_clean(const struct audit_redact *redact, struct slice text) {
    struct shape_scan scan = {.shapes = &redact->shapes, .text = text};
    size_t begin, end;
    return redact->n_patterns == 0 &&
           (!redact->config->redact_shapes || !shapes_next(&scan, &begin, &end));
}

int audit_redact_text(const struct audit_redact *redact, struct regex_work *work, struct slice text,
                      struct buf *out) {
    if (is_clean(redact, text))
        return buf_append(out, text);
    UNCLEARED struct finders finders;
    size_t before = buf_len(out);
    bool decided = finders_start(redact, text, work, &finders) &&
                   append_without(&finders, text, text.len, work, out);
    mem_free(finders.owned);
    if (decided)
        return buf_error(out);
    buf_truncate(out, before);
    return buf_append(out, SLICE(AUDIT_REDACTED));
}

struct slice redact_front(const struct audit_redact *redact, struct redact_room *room,
                          struct slice text, bool *ret_cut) {
    bool is_long = text.len > window;
    *ret_cut = is_long;
    if (is_long)
        text = utf8_truncate(text, window);
    struct slice shown = is_long ? utf8_truncate(text, window / 2) : text;
    if (is_clean(redact, text))
        return shown;
    UNCLEARED struct finders finders;
    bool decided = finders_start(redact, text, &room->work, &finders);
    bool is_same = decided && has_nothing(&finders);
    buf_reset(&room->clean, window);
    if (decided && !is_same)
        decided = append_without(&finders, text, shown.len, &room->work, &room->clean);
    mem_free(finders.owned);
    if (!decided || buf_error(&room->clean) != 0)
        return SLICE(AUDIT_REDACTED);
    return is_same ? shown : buf_slice(&room->clean);
}

void redact_room_init(struct redact_room *room) {
    /* Each part of a byte becomes "[redacted]", and another byte stands before the next. */
    *room = (struct redact_room){.unescaped = BUF_INIT(SIZE_MAX), .clean = BUF_INIT(8 * window)};
    regex_work_init(&room->work);
}

void redact_room_deinit(struct redact_room *room) {
    regex_work_deinit(&room->work);
    buf_deinit(&room->unescaped);
    buf_deinit(&room->clean);
}

void redact_room_forget(struct redact_room *room) {
    memo_clear(&room->memo);
}

/* As many texts as a section has are looked at with each pattern; what is above that is for
 * patterns that take long. */
void redact_room_begin(const struct audit_redact *redact, struct redact_room *room) {
    room->work.steps =
        LIMIT_PATTERN_WORK + redact->n_patterns * (redact->config->max_arguments + 8 * window);
}

/* --- values by their place --- */

static bool is_name(struct slice part, struct slice key) {
    return slice_eq(part, SLICE("*")) || slice_eq_nocase(part, key);
}

/* Compared after unescaping. */
static bool is_name_of(struct slice part, const struct json_node *node) {
    if (!node->key_escaped)
        return is_name(part, node->key);
    char space[KEY_MAX];
    struct buf key = {.data = space, .cap = sizeof space, .max = sizeof space};
    /* Unescaped it is no longer. A name that is too long to be compared may be the one. */
    bool fits = node->key.len <= sizeof space && json_unescape(&key, node->key) == 0;
    return !fits || is_name(part, buf_slice(&key));
}

/* The names around `node`, from the inside to the top, are those of the path before its last one.
 * Elements of arrays have the path of the array. */
static bool is_below(const struct path *path, const struct json_node *root,
                     const struct json_node *node) {
    struct slice left = slice_make(path->text.ptr, path->text.len - path->last.len);
    const struct json_node *at = &root[node->parent];
    while (left.len != 0) {
        while (at != root && root[at->parent].type == JSON_ARRAY)
            at = &root[at->parent];
        if (at == root)
            return false;
        left.len--; /* the dot */
        size_t begin = left.len;
        while (begin > 0 && left.ptr[begin - 1] != '.')
            begin--;
        if (!is_name_of(slice_sub(left, begin, left.len), at))
            return false;
        left.len = begin;
        at = &root[at->parent];
    }
    while (at != root && root[at->parent].type == JSON_ARRAY)
        at = &root[at->parent];
    return at == root;
}

bool redact_hides_by_path(const struct audit_redact *redact, const struct json_node *root,
                          const struct json_node *node, struct slice key) {
    for (size_t i = 0; i < redact->n_paths; i++) {
        const struct path *path = &redact->paths[i];
        if (is_name(path->last, key) && (path->is_deep || is_below(path, root, node)))
            return true;
    }
    return false;
}

bool redact_hides_number(const struct audit_redact *redact, struct redact_room *room,
                         struct slice number) {
    bool cut;
    if (redact->n_patterns == 0)
        return false;
    struct slice shown = redact_front(redact, room, number, &cut);
    return shown.ptr != number.ptr;
}
