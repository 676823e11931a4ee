/*
 * What must hold for the JSON reader with any input: it agrees with a second, plain reader; all
 * spans lie inside the document; the tape is a tree whose links agree; keys differ; each value is
 * accepted alone as well; what the writer makes of it is accepted and stays as it is when done
 * again; text survives escaping. A rule that breaks ends the process.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "json/reader.h"
#include "json/writer.h"
#include "json_reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum {
    ALONE_MAX = 1000, /* values that are read alone, of one document */
    PAIRS_MAX = 100,  /* keys of one object that are compared with each other */
};

static const struct json_limits limits = {.max_nodes = 100000000};

/* Opens everything: each value is on the tape. */
static const struct json_want everything[2] = {{"*", everything}, {NULL, NULL}};
static const struct json_want want_all = {NULL, everything};

/* Opens some. */
static const struct json_want want_leaf[] = {{"params", NULL}, {"a", NULL}, {NULL, NULL}};
static const struct json_want want_some[] = {
    {"a", want_leaf}, {"params", NULL}, {"*", want_leaf}, {NULL, NULL}};
static const struct json_want want_part = {NULL, want_some};

struct walk {
    struct slice document;
    struct json_reader *reader;
    struct json_reader *other; /* for what is read again */
    uint32_t visited, alone;
};

static bool is_inside(struct slice outer, struct slice inner) {
    return inner.ptr >= outer.ptr && inner.len <= outer.len &&
           (size_t)(inner.ptr - outer.ptr) <= outer.len - inner.len;
}

static void check_alone(struct walk *walk, const struct json_node *node) {
    if (walk->alone++ >= ALONE_MAX)
        return;
    MUST(json_read(walk->other, node->raw, NULL, &limits, NULL) == 0);
    const struct json_node *again = json_root(walk->other);
    MUST(again->type == node->type && again->value_escaped == node->value_escaped);
    MUST(again->raw.ptr == node->raw.ptr && again->raw.len == node->raw.len);
    int64_t number;
    if (json_to_i64(node, &number) == 0) {
        struct buf digits = BUF_INIT(64);
        struct json_writer writer;
        json_writer_init(&writer, &digits);
        json_i64(&writer, number);
        MUST(slice_eq(buf_slice(&digits), node->raw) || slice_eq(node->raw, SLICE("-0")));
        buf_deinit(&digits);
    }
}

/* Text written as a JSON string is read as the same text. */
static void check_text(struct walk *walk, struct slice text) {
    struct buf document = BUF_INIT(text.len * 6 + 2), back = BUF_INIT(text.len);
    struct json_writer writer;
    json_writer_init(&writer, &document);
    json_string(&writer, text);
    MUST(buf_error(&document) == 0);
    MUST(json_read(walk->other, buf_slice(&document), NULL, NULL, NULL) == 0);
    const struct json_node *root = json_root(walk->other);
    if (utf8_is_valid(text)) {
        MUST(json_string_is(root, text));
        MUST(json_string_append(&back, root) == 0);
        MUST(slice_eq(buf_slice(&back), text));
    }
    buf_deinit(&document);
    buf_deinit(&back);
}

static void check_string(struct walk *walk, const struct json_node *node) {
    struct buf text = BUF_INIT(node->raw.len);
    MUST(json_string_append(&text, node) == 0);
    MUST(utf8_is_valid(buf_slice(&text)));
    MUST(json_string_is(node, buf_slice(&text)));
    check_text(walk, buf_slice(&text));
    buf_deinit(&text);
}

static void check_keys(const struct walk *walk, const struct json_node *object) {
    size_t n = 0;
    for (const struct json_node *a = json_first(walk->reader, object); a != NULL && n < PAIRS_MAX;
         a = json_next(walk->reader, a), n++) {
        struct buf key = BUF_INIT(a->key.len);
        MUST(json_unescape(&key, a->key) == 0);
        MUST(a->key_escaped == (memchr(a->key.ptr, '\\', a->key.len) != NULL));
        MUST(json_member(walk->reader, object, buf_slice(&key)) == a);
        buf_deinit(&key);
    }
}

static void check_node(struct walk *walk, const struct json_node *node,
                       const struct json_node *parent) {
    const struct json_node *root = json_root(walk->reader);
    uint32_t index = (uint32_t)(node - root);
    MUST(index == walk->visited++); /* the tape is in the order of the document */
    MUST(node->raw.len > 0 && is_inside(walk->document, node->raw) &&
         is_inside(parent->raw, node->raw));
    MUST(node->parent == (uint32_t)(parent - root));
    MUST(node->next > index && node->next <= root->next);
    MUST(!node->opened || node->type == JSON_OBJECT || node->type == JSON_ARRAY);
    MUST(node->opened || node->next == index + 1);
    if (node != root && parent->type == JSON_OBJECT)
        MUST(is_inside(parent->raw, node->key) && node->key.ptr + node->key.len < node->raw.ptr);
    else
        MUST(node->key.len == 0 && !node->key_escaped);
    check_alone(walk, node);
    if (node->type == JSON_STRING)
        check_string(walk, node);
    if (node->type == JSON_OBJECT)
        check_keys(walk, node);
    const char *behind = node->raw.ptr;
    for (const struct json_node *child = json_first(walk->reader, node); child != NULL;
         child = json_next(walk->reader, child)) {
        MUST(child->raw.ptr > behind);
        behind = child->raw.ptr + child->raw.len;
        check_node(walk, child, node);
    }
    MUST(walk->visited == node->next);
}

static void write_node(struct json_writer *writer, const struct json_reader *reader,
                       const struct json_node *node) {
    struct buf text = BUF_INIT(node->raw.len + node->key.len);
    if (node->type == JSON_STRING) {
        MUST(json_string_append(&text, node) == 0);
        json_string(writer, buf_slice(&text));
    } else if (!node->opened) {
        json_raw(writer, node->raw);
    } else {
        bool keys = node->type == JSON_OBJECT;
        (keys ? json_object_begin : json_array_begin)(writer);
        for (const struct json_node *child = json_first(reader, node); child != NULL;
             child = json_next(reader, child)) {
            if (keys) {
                buf_reset(&text, SIZE_MAX);
                text.max = child->key.len;
                MUST(json_unescape(&text, child->key) == 0);
                json_key(writer, buf_slice(&text));
            }
            write_node(writer, reader, child);
        }
        (keys ? json_object_end : json_array_end)(writer);
    }
    buf_deinit(&text);
}

/* The document written anew is accepted, and writing that anew changes nothing. */
static void check_writer(struct walk *walk) {
    struct buf once = BUF_INIT(walk->document.len * 2), twice = BUF_INIT(walk->document.len * 2);
    struct json_writer writer;
    json_writer_init(&writer, &once);
    write_node(&writer, walk->reader, json_root(walk->reader));
    MUST(buf_error(&once) == 0);
    MUST(json_read(walk->other, buf_slice(&once), &want_all, &limits, NULL) == 0);
    json_writer_init(&writer, &twice);
    write_node(&writer, walk->other, json_root(walk->other));
    MUST(slice_eq(buf_slice(&once), buf_slice(&twice)));
    buf_deinit(&once);
    buf_deinit(&twice);
}

static void check_result(struct slice document, int result, const struct json_error *error) {
    bool is_json = reference_accepts(document, LIMIT_JSON_DEPTH);
    switch (result) {
    case 0:
        MUST(is_json);
        return;
    case JSON_E_SYNTAX:
    case JSON_E_UTF8:
        MUST(!is_json);
        break;
    case JSON_E_DUPLICATE:
    case JSON_E_LIMIT: /* depth, which the other reader refuses too, or the number of keys */
        break;
    default:
        abort();
    }
    MUST(error->reason != NULL && error->reason[0] != '\0' && error->offset <= document.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct json_limits tight = {.max_depth = 3, .max_keys = 2, .max_nodes = 5};
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    CLEANUP(json_reader_freep) struct json_reader *other = NULL;
    if (json_reader_new(&reader) != 0 || json_reader_new(&other) != 0)
        abort();
    struct slice document = slice_make(data, size);
    struct walk walk = {.document = document, .reader = reader, .other = other};
    struct json_error error = {.reason = NULL};
    int r = json_read(reader, document, &want_all, &limits, &error);
    check_result(document, r, &error);
    MUST(json_read(other, document, NULL, NULL, NULL) == r);
    int limited = json_read(other, document, &want_part, &tight, NULL);
    MUST(limited == r || (limited == JSON_E_LIMIT && r != -1));
    if (r == 0) {
        check_node(&walk, json_root(reader), json_root(reader));
        check_writer(&walk);
        MUST(json_read(reader, document, &want_part, &limits, NULL) == 0);
        walk.visited = walk.alone = 0;
        check_node(&walk, json_root(reader), json_root(reader));
    } else {
        MUST(json_root(reader) == NULL);
    }
    check_text(&walk, document);
    return 0;
}
