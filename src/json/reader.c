/*
 * The reading loop. A position in the document is a `const char *` that each step takes and gives
 * back; NULL says that the step failed and left its reason in the reader. No byte is looked at
 * before it is compared with the end, because nothing ends the input but its length.
 *
 * What grows with the input: the stack of frames (max_depth), the keys of the open objects (keys.h)
 * and the tape (max_nodes). All three belong to the reader, and what grew past a bound is given
 * back after the document.
 */
#include "json/reader.h"

#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "scan.h"
#include "tape.h"
#include "unescape.h"

enum {
    FRAMES_FIRST = 17, /* frames[0] and a usual depth */
    FRAMES_KEPT = LIMIT_JSON_DEPTH + 1,
    NODES_FIRST = 64,
    NODES_KEPT = 4096, /* 192 KiB */
};

/* Offsets are 32 bits wide, one of them a flag. */
static const size_t document_max = 0x7fffffff;

const struct json_want json_want_root = {.key = NULL, .children = NULL};

static NO_INLINE const char *refuse(struct json_reader *reader, int error, const char *reason,
                                    const char *at) {
    reader->error = error;
    reader->why = (struct json_error){.reason = reason, .offset = (size_t)(at - reader->begin)};
    return NULL;
}

static NO_INLINE const char *refuse_limit(struct json_reader *reader, const char *what,
                                          uint32_t limit, const char *at) {
    snprintf(reader->text, sizeof reader->text, "%s, %u", what, limit);
    return refuse(reader, JSON_E_LIMIT, reader->text, at);
}

static const char *syntax(struct json_reader *reader, const char *reason, const char *at) {
    return refuse(reader, JSON_E_SYNTAX, at == reader->end ? "the document ends too early" : reason,
                  at);
}

static const char *no_memory(struct json_reader *reader, const char *at) {
    return refuse(reader, -ENOMEM, "no memory", at);
}

/* --- strings, numbers, literals --- */

static NO_INLINE const char *scan_long_escape(struct json_reader *reader, const char *p) {
    char text[4];
    size_t len;
    struct json_escape_error error;
    const char *behind = json_read_escape(p, reader->end, text, &len, &error);
    if (behind != NULL)
        return behind;
    if (error.lone_surrogate)
        return refuse(reader, JSON_E_UTF8, error.reason, error.at);
    return syntax(reader, error.reason, error.at);
}

/* `p` is behind the backslash. */
static inline const char *scan_escape(struct json_reader *reader, const char *p) {
    static const bool is_short[256] = {['"'] = true, ['\\'] = true, ['/'] = true, ['b'] = true,
                                       ['f'] = true, ['n'] = true,  ['r'] = true, ['t'] = true};
    if (LIKELY(p < reader->end && is_short[(unsigned char)*p]))
        return p + 1;
    return scan_long_escape(reader, p);
}

static inline bool is_continuation(char byte) {
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/*
 * A run of bytes from 0x80 (RFC 3629; RFC 8259 section 8.1). The sequences of two and three bytes
 * whose first byte allows any continuation are looked at here, all others by utf8_decode().
 */
static const char *scan_utf8(struct json_reader *reader, const char *p) {
    const char *end = reader->end;
    do {
        unsigned char first = (unsigned char)*p;
        uint32_t code_point;
        size_t len;
        if (first >= 0xc2 && first <= 0xdf && end - p >= 2 && is_continuation(p[1]))
            len = 2;
        else if (first >= 0xe1 && first <= 0xec && end - p >= 3 && is_continuation(p[1]) &&
                 is_continuation(p[2]))
            len = 3;
        else
            len = utf8_decode(slice_make(p, (size_t)(end - p)), &code_point);
        if (UNLIKELY(len == 0))
            return refuse(reader, JSON_E_UTF8, "invalid UTF-8", p);
        p += len;
    } while (p < end && (unsigned char)*p >= 0x80);
    return p;
}

/* `p` is behind the opening quote; the answer is the closing one. */
static ALWAYS_INLINE const char *scan_string(struct json_reader *reader, const char *p,
                                             bool *ret_escaped) {
    const char *end = reader->end;
    *ret_escaped = false;
    for (;;) {
        p = json_skip_plain(p, end);
        if (UNLIKELY(p == end))
            return syntax(reader, "", p);
        unsigned char c = (unsigned char)*p;
        if (LIKELY(c == '"'))
            return p;
        if (c == '\\') {
            *ret_escaped = true;
            p = scan_escape(reader, p + 1);
        } else if (c >= 0x80) {
            p = scan_utf8(reader, p);
        } else {
            return syntax(reader, "a control character in a string", p);
        }
        if (UNLIKELY(p == NULL))
            return NULL;
    }
}

static inline const char *skip_digits(const char *p, const char *end) {
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

/* One digit or more. */
static inline const char *scan_digits(struct json_reader *reader, const char *p) {
    const char *behind = skip_digits(p, reader->end);
    return LIKELY(behind != p) ? behind : syntax(reader, "a number lacks a digit", p);
}

/* RFC 8259 section 6. What may stand behind a number, the next step looks at. */
static inline const char *scan_number(struct json_reader *reader, const char *p) {
    const char *end = reader->end;
    if (*p == '-')
        p++;
    const char *digits = p;
    p = scan_digits(reader, p);
    if (UNLIKELY(p == NULL))
        return NULL;
    if (UNLIKELY(*digits == '0' && p - digits > 1))
        return syntax(reader, "a number with a leading zero", digits + 1);
    if (p < end && *p == '.') {
        p = scan_digits(reader, p + 1);
        if (UNLIKELY(p == NULL))
            return NULL;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        p = scan_digits(reader, p);
    }
    return p;
}

static const char *scan_literal(struct json_reader *reader, const char *p, struct slice literal) {
    for (size_t i = 0; i < literal.len; i++)
        if (p + i == reader->end || p[i] != literal.ptr[i])
            return syntax(reader, "neither a value nor true, false or null", p + i);
    return p + literal.len;
}

/* Text, a number or a literal; `p` is inside the document. */
static ALWAYS_INLINE const char *scan_leaf(struct json_reader *reader, const char *p,
                                           enum json_type *ret_type, bool *ret_escaped) {
    *ret_escaped = false;
    if (*p == '"') {
        *ret_type = JSON_STRING;
        p = scan_string(reader, p + 1, ret_escaped);
        return p != NULL ? p + 1 : NULL;
    }
    if (*p == '-' || (*p >= '0' && *p <= '9')) {
        *ret_type = JSON_NUMBER;
        return scan_number(reader, p);
    }
    if (*p == 't') {
        *ret_type = JSON_TRUE;
        return scan_literal(reader, p, SLICE("true"));
    }
    if (*p == 'f') {
        *ret_type = JSON_FALSE;
        return scan_literal(reader, p, SLICE("false"));
    }
    *ret_type = JSON_NULL;
    return scan_literal(reader, p, SLICE("null"));
}

/* --- the tape --- */

static NO_INLINE bool grow_nodes(struct json_reader *reader, const char *at) {
    if (reader->n_nodes >= reader->limits.max_nodes) {
        refuse_limit(reader, "more values than may be looked at", reader->limits.max_nodes, at);
        return false;
    }
    uint32_t cap = reader->cap_nodes == 0 ? NODES_FIRST : 2 * reader->cap_nodes;
    struct json_node *grown = mem_realloc(reader->nodes, cap * sizeof *grown);
    if (grown == NULL) {
        no_memory(reader, at);
        return false;
    }
    reader->nodes = grown;
    reader->cap_nodes = cap;
    return true;
}

/* The node of the value that starts at `at`; its end is set when that is known. NULL: failed. */
static struct json_node *push_node(struct json_reader *reader, const char *at) {
    const struct json_frame *parent = reader->top;
    if (UNLIKELY(reader->n_nodes == reader->cap_nodes ||
                 reader->n_nodes >= reader->limits.max_nodes) &&
        !grow_nodes(reader, at))
        return NULL;
    struct json_node *node = &reader->nodes[reader->n_nodes++];
    *node = (struct json_node){
        .key = parent->is_object ? reader->key : SLICE_EMPTY,
        .key_escaped = parent->is_object && reader->key_escaped,
        .raw = slice_make(at, 0),
        .next = reader->n_nodes,
        .parent = parent->node,
    };
    return node;
}

/* Most names differ in their first byte. No key has a NUL where a name ends: as it stands in the
 * document it has no control character. */
static inline bool is_name_of(const char *name, struct slice key, bool escaped) {
    if (UNLIKELY(escaped))
        return json_equal_unescaped(key, true, slice_from_cstr(name), false);
    if (key.len == 0)
        return *name == '\0';
    return *name == *key.ptr && strncmp(name, key.ptr, key.len) == 0 && name[key.len] == '\0';
}

/* The first row that names the key, or has the star. */
static const struct json_want *find_want(const struct json_want *children, struct slice key,
                                         bool escaped) {
    for (; children != NULL && children->key != NULL; children++) {
        bool is_star = children->key[0] == '*' && children->key[1] == '\0';
        if (is_star || is_name_of(children->key, key, escaped))
            return children;
    }
    return NULL;
}

/* --- containers --- */

static NO_INLINE bool grow_frames(struct json_reader *reader, const char *at) {
    if (reader->depth >= reader->limits.max_depth) {
        refuse_limit(reader, "nested deeper than max_json_depth", reader->limits.max_depth, at);
        return false;
    }
    uint32_t cap = reader->cap_frames == 0 ? FRAMES_FIRST : 2 * reader->cap_frames;
    struct json_frame *grown = mem_realloc(reader->frames, cap * sizeof *grown);
    if (grown == NULL) {
        no_memory(reader, at);
        return false;
    }
    reader->frames = grown;
    reader->cap_frames = cap;
    reader->top = &grown[reader->depth];
    return true;
}

/* `p` is the bracket; the answer is behind it. */
static const char *open_container(struct json_reader *reader, const char *p) {
    bool is_object = *p == '{';
    if (UNLIKELY(reader->depth + 1 >= reader->cap_frames ||
                 reader->depth >= reader->limits.max_depth) &&
        !grow_frames(reader, p))
        return NULL;
    uint32_t place = JSON_NO_NODE;
    const struct json_want *want = NULL;
    if (reader->top->opened) {
        want = reader->top->is_object || reader->depth == 0 ? reader->want : reader->top->element;
        place = reader->n_nodes;
        struct json_node *node = push_node(reader, p);
        if (node == NULL)
            return NULL;
        node->type = is_object ? JSON_OBJECT : JSON_ARRAY;
        node->opened = want != NULL;
    }
    const struct json_want *children = want != NULL ? want->children : NULL;
    reader->depth++;
    struct json_frame *frame = ++reader->top;
    frame->is_object = is_object;
    frame->closer = is_object ? '}' : ']';
    frame->opened = want != NULL;
    frame->node = place;
    frame->children = children;
    frame->element = is_object ? NULL : find_want(children, SLICE("*"), false);
    json_object_keys_begin(&reader->keys, &frame->keys);
    return p + 1;
}

/* `p` is behind the closing bracket. */
static void close_container(struct json_reader *reader, const char *p) {
    const struct json_frame *frame = reader->top;
    if (frame->node != JSON_NO_NODE) {
        struct json_node *node = &reader->nodes[frame->node];
        node->raw.len = (size_t)(p - node->raw.ptr);
        node->next = reader->n_nodes;
    }
    json_object_keys_end(&reader->keys, &frame->keys);
    reader->depth--;
    reader->top--;
}

/* `p` is where a key must stand; the answer is the start of its value, inside the document. */
static ALWAYS_INLINE const char *read_key(struct json_reader *reader, const char *p) {
    struct json_frame *frame = reader->top;
    if (UNLIKELY(p == reader->end || *p != '"'))
        return syntax(reader, "a key must stand here", p);
    bool escaped;
    const char *start = p + 1;
    const char *quote = scan_string(reader, start, &escaped);
    if (UNLIKELY(quote == NULL))
        return NULL;
    struct slice key = slice_make(start, (size_t)(quote - start));
    if (UNLIKELY(json_object_n_keys(&reader->keys, &frame->keys) >= reader->limits.max_keys))
        return refuse_limit(reader, "an object with more keys than max_json_keys",
                            reader->limits.max_keys, p);
    enum json_keys_result result = json_keys_add(&reader->keys, &frame->keys, reader->begin, key,
                                                 (size_t)(reader->end - start), escaped);
    if (UNLIKELY(result == JSON_KEYS_DUPLICATE))
        return refuse(reader, JSON_E_DUPLICATE, "the same key twice in one object", p);
    if (UNLIKELY(result == JSON_KEYS_NO_MEMORY))
        return no_memory(reader, p);
    if (frame->opened) {
        reader->key = key;
        reader->key_escaped = escaped;
        reader->want = find_want(frame->children, key, escaped);
    }
    p = json_skip_space(quote + 1, reader->end);
    if (UNLIKELY(p == reader->end || *p != ':'))
        return syntax(reader, "a colon must stand here", p);
    return json_skip_space(p + 1, reader->end);
}

/* --- the loop --- */

/*
 * Behind a value: closes the containers that end here and goes on to where the next value must
 * stand. At depth 0 it stays behind the root.
 */
static ALWAYS_INLINE const char *step(struct json_reader *reader, const char *p) {
    const char *end = reader->end;
    while (reader->depth > 0) {
        const struct json_frame *frame = reader->top;
        p = json_skip_space(p, end);
        if (UNLIKELY(p == end))
            return syntax(reader, "", p);
        if (*p == ',') {
            p = json_skip_space(p + 1, end);
            return frame->is_object ? read_key(reader, p) : p;
        }
        if (UNLIKELY(*p != frame->closer))
            return syntax(reader, "a comma or the closing bracket must stand here", p);
        p++;
        close_container(reader, p);
    }
    return p;
}

/* `p` is where the root must stand; the answer is behind it. */
static const char *read_root(struct json_reader *reader, const char *p) {
    const char *end = reader->end;
    do {
        if (UNLIKELY(p == end))
            return syntax(reader, "", p);
        if (*p == '{' || *p == '[') {
            p = open_container(reader, p);
            if (UNLIKELY(p == NULL))
                return NULL;
            p = json_skip_space(p, end);
            if (UNLIKELY(p == end))
                return syntax(reader, "", p);
            if (*p != reader->top->closer) {
                if (reader->top->is_object)
                    p = read_key(reader, p);
                continue;
            }
            p++;
            close_container(reader, p);
        } else {
            enum json_type type;
            bool escaped;
            const char *start = p;
            p = scan_leaf(reader, p, &type, &escaped);
            if (UNLIKELY(p == NULL))
                return NULL;
            if (reader->top->opened) {
                struct json_node *node = push_node(reader, start);
                if (UNLIKELY(node == NULL))
                    return NULL;
                node->type = type;
                node->value_escaped = escaped;
                node->raw.len = (size_t)(p - start);
            }
        }
        p = step(reader, p);
    } while (p != NULL && reader->depth > 0);
    return p;
}

/* Gives back what a large document made grow. The tape goes at the next call: it is the answer. */
static void shrink_nodes(struct json_reader *reader) {
    reader->n_nodes = 0;
    if (reader->cap_nodes > NODES_KEPT) {
        mem_free(reader->nodes);
        reader->nodes = NULL;
        reader->cap_nodes = 0;
    }
}

static void shrink_scratch(struct json_reader *reader) {
    json_keys_reset(&reader->keys);
    reader->key = SLICE_EMPTY;
    reader->depth = 0;
    reader->top = NULL;
    if (reader->cap_frames > FRAMES_KEPT) {
        mem_free(reader->frames);
        reader->frames = NULL;
        reader->cap_frames = 0;
    }
}

static void read_document(struct json_reader *reader, const struct json_want *want) {
    if (reader->cap_frames == 0 && !grow_frames(reader, reader->begin))
        return;
    reader->top = reader->frames;
    /* Around the root: its only member, the root, is on the tape. */
    *reader->top = (struct json_frame){.opened = true};
    reader->want = want;
    const char *p = read_root(reader, json_skip_space(reader->begin, reader->end));
    if (p == NULL)
        return;
    p = json_skip_space(p, reader->end);
    if (p != reader->end)
        refuse(reader, JSON_E_SYNTAX, "something stands behind the document", p);
}

static struct json_limits whole(const struct json_limits *asked) {
    return (struct json_limits){
        .max_depth = asked->max_depth != 0 ? asked->max_depth : LIMIT_JSON_DEPTH,
        .max_keys = asked->max_keys != 0 ? asked->max_keys : LIMIT_JSON_KEYS,
        .max_nodes = asked->max_nodes != 0 ? asked->max_nodes : LIMIT_JSON_TAPE_NODES,
    };
}

void json_reader_set_limits(struct json_reader *reader, const struct json_limits *limits) {
    reader->defaults = whole(limits);
}

int json_read(struct json_reader *reader, struct slice document, const struct json_want *want,
              const struct json_limits *limits, struct json_error *ret_error) {
    reader->limits = limits != NULL ? whole(limits) : reader->defaults;
    shrink_nodes(reader);
    reader->has_document = false;
    reader->error = 0;
    reader->begin = document.len > 0 ? document.ptr : "";
    reader->end = reader->begin + document.len;
    reader->keys.unescaped.max = document.len;
    if (document.len > document_max)
        refuse(reader, JSON_E_LIMIT, "the document is too large", reader->begin);
    else
        read_document(reader, want);
    shrink_scratch(reader);
    reader->has_document = reader->error == 0;
    if (reader->error != 0 && ret_error != NULL)
        *ret_error = reader->why;
    return reader->error;
}

int json_reader_new(struct json_reader **ret_reader) {
    struct json_reader *reader = mem_alloc(sizeof *reader);
    if (reader == NULL)
        return -ENOMEM;
    json_keys_init(&reader->keys);
    json_reader_set_limits(reader, &(struct json_limits){0});
    *ret_reader = reader;
    return 0;
}

struct json_reader *json_reader_free(struct json_reader *reader) {
    if (reader == NULL)
        return NULL;
    json_keys_deinit(&reader->keys);
    mem_free(reader->frames);
    mem_free(reader->nodes);
    mem_free(reader);
    return NULL;
}

void json_reader_freep(struct json_reader **reader) {
    *reader = json_reader_free(*reader);
}
