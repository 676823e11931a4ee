/*
 * The redacted copy of a call's arguments: the tape of the whole value is gone through from the
 * front, until the copy is as long as it may be. Then what is open is closed, so that what is
 * written is always JSON. There is no recursion: what is open is known by the parents on the tape.
 *
 * No object may have a key twice, as the reader of records is strict. So a key that is not written
 * as it was gets a number, which no other key of the copy has: keys that are written as they were
 * are short and have no "[redacted]" in them, all others are long or have it.
 */
#include "base/limits.h"
#include "names.h"
#include "record.h"
#include "shapes.h"

enum {
    KEY_PLAIN = 240, /* bytes of a key that is written as it was */
    KEY_SHOWN = 256,
    KEPT = 64 * 1024,
    AROUND = 2, /* containers that the value stands in, in a record or what it is passed on in */
    QUOTES_AND_DOTS = 5
};

static const struct json_want everything[] = {{.key = "*", .children = everything}, {.key = NULL}};
static const struct json_want all = {.children = everything};

struct walk {
    const struct audit_redact *redact;
    struct redact_room *room;
    const struct json_node *root;
    struct buf *out;
    size_t start, max; /* in out */
    size_t depth;
    const struct json_node *open;        /* the innermost container; NULL: around the root */
    const struct json_node *behind_flag; /* its value is the secret that a flag is given */
    unsigned n_changed;                  /* keys */
    bool is_cut;
};

/* Bytes that may still be appended, when all that is open gets closed. */
static size_t room_of(const struct walk *walk) {
    size_t used = buf_len(walk->out) - walk->start + walk->depth;
    return used < walk->max ? walk->max - used : 0;
}

static bool is_too_long(const struct walk *walk) {
    return buf_len(walk->out) - walk->start + walk->depth > walk->max;
}

/* NULL ptr: no memory. */
static struct slice unescape(struct walk *walk, struct slice text, bool is_escaped) {
    struct buf *unescaped = &walk->room->unescaped;
    if (!is_escaped)
        return text;
    buf_reset(unescaped, KEPT);
    return json_unescape(unescaped, text) == 0 ? buf_slice(unescaped) : slice_make(NULL, 0);
}

static void append_redacted(struct walk *walk) {
    buf_append(walk->out, SLICE("\"" AUDIT_REDACTED "\""));
}

/* *ret_hidden: its name says that the value is a secret. */
static void write_key(struct walk *walk, struct slice key, bool *ret_hidden) {
    if (memo_knows(&walk->room->memo, key, MEMO_KEY) &&
        record_copy(walk->out, SLICE("\""), key, SLICE("\":"))) {
        *ret_hidden = false;
        return;
    }
    bool is_cut = false;
    struct slice shown = redact_front(walk->redact, walk->room, key, &is_cut);
    bool is_changed =
        shown.ptr != key.ptr || is_cut || slice_find(key, SLICE(AUDIT_REDACTED)) != SIZE_MAX;
    buf_append_byte(walk->out, '"');
    size_t before = buf_len(walk->out);
    record_escape(walk->out, shown, is_cut, KEY_SHOWN);
    *ret_hidden = name_is_secret(key);
    if (is_changed || buf_len(walk->out) - before > KEY_PLAIN) {
        buf_append_byte(walk->out, '#');
        buf_append_u64(walk->out, ++walk->n_changed);
    } else if (!*ret_hidden && text_is_plain(key)) {
        memo_note(&walk->room->memo, key, MEMO_KEY);
    }
    buf_append(walk->out, SLICE("\":"));
}

static void write_string(struct walk *walk, const struct json_node *node) {
    struct slice text = unescape(walk, json_string_raw(node), node->value_escaped);
    if (text.ptr == NULL) {
        append_redacted(walk);
        return;
    }
    bool has_next = walk->open != NULL && node->next < walk->open->next;
    if (has_next && walk->open->type == JSON_ARRAY && flag_is_secret(text))
        walk->behind_flag = &walk->root[node->next];
    bool is_cut = false;
    struct slice shown = redact_front(walk->redact, walk->room, text, &is_cut);
    size_t room = room_of(walk), most = LIMIT_AUDIT_STRING;
    if (room < most + QUOTES_AND_DOTS)
        most = room > QUOTES_AND_DOTS ? room - QUOTES_AND_DOTS : 0;
    if (!is_cut && record_plain(walk->out, SLICE("\""), shown, most, SLICE("\"")))
        return;
    buf_append_byte(walk->out, '"');
    if (record_escape(walk->out, shown, is_cut, most))
        walk->is_cut = true;
    buf_append_byte(walk->out, '"');
}

static void write_number(struct walk *walk, const struct json_node *node) {
    if (redact_hides_number(walk->redact, walk->room, node->raw)) {
        append_redacted(walk);
        return;
    }
    size_t most = room_of(walk) + 1; /* one more shows that there is no room for it */
    buf_append(walk->out, slice_sub(node->raw, 0, most));
}

static void write_value(struct walk *walk, const struct json_node *node) {
    switch (node->type) {
    case JSON_NULL:
    case JSON_FALSE:
    case JSON_TRUE:
        buf_append(walk->out, node->raw);
        return;
    case JSON_NUMBER:
        write_number(walk, node);
        return;
    case JSON_STRING:
        write_string(walk, node);
        return;
    case JSON_OBJECT:
    case JSON_ARRAY:
        buf_append_byte(walk->out, node->type == JSON_OBJECT ? '{' : '[');
        walk->depth++;
        walk->open = node;
        return;
    }
}

static const struct json_node *parent_of(const struct walk *walk, const struct json_node *node) {
    return node == walk->root ? NULL : &walk->root[node->parent];
}

static void close_container(struct walk *walk) {
    buf_append_byte(walk->out, walk->open->type == JSON_OBJECT ? '}' : ']');
    walk->depth--;
    walk->open = parent_of(walk, walk->open);
}

static bool is_any_of(struct slice key, const struct slice *names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (slice_eq_nocase(key, names[i]))
            return true;
    }
    return false;
}

/* {"name":"API_KEY","value":"..."}: variables, header fields. `key` is that of `node`. */
static bool is_named_by_sibling(struct walk *walk, const struct json_node *node, struct slice key) {
    static const struct slice values[] = {SLICE_INIT("value"), SLICE_INIT("values"),
                                          SLICE_INIT("val"), SLICE_INIT("v")};
    static const struct slice names[] = {SLICE_INIT("name"), SLICE_INIT("key"),
                                         SLICE_INIT("header"), SLICE_INIT("field"),
                                         SLICE_INIT("k")};
    if (!is_any_of(key, values, ARRAY_LEN(values)))
        return false;
    const struct json_node *object = &walk->root[node->parent];
    const struct json_node *behind = &walk->root[object->next];
    for (const struct json_node *at = object + 1; at < behind; at = &walk->root[at->next]) {
        if (at->type != JSON_STRING || !is_any_of(at->key, names, ARRAY_LEN(names)))
            continue;
        struct slice name = unescape(walk, json_string_raw(at), at->value_escaped);
        if (name.ptr == NULL || name_is_secret(name))
            return true;
    }
    return false;
}

/* One node, with what stands in front of it. False: there is no room for it. */
static bool write_node(struct walk *walk, const struct json_node *node) {
    size_t before = buf_len(walk->out), depth = walk->depth;
    const struct json_node *open = walk->open;
    bool is_hidden = node == walk->behind_flag;
    walk->behind_flag = NULL;
    if (open != NULL && node != open + 1)
        buf_append_byte(walk->out, ',');
    if (open != NULL && open->type == JSON_OBJECT) {
        struct slice key = unescape(walk, node->key, node->key_escaped);
        bool has_secret_name;
        write_key(walk, key.ptr != NULL ? key : SLICE(AUDIT_REDACTED), &has_secret_name);
        is_hidden = is_hidden || key.ptr == NULL || has_secret_name ||
                    redact_hides_by_path(walk->redact, walk->root, node, key) ||
                    is_named_by_sibling(walk, node, key);
    }
    if (is_hidden)
        append_redacted(walk);
    else
        write_value(walk, node);
    /* A text of which nothing is left needs no place. */
    if (!is_too_long(walk))
        return true;
    buf_truncate(walk->out, before);
    walk->depth = depth;
    walk->open = open;
    return false;
}

static void write_all(struct walk *walk) {
    const struct json_node *node = walk->root, *behind = &walk->root[walk->root->next];
    while (node < behind) {
        while (walk->open != NULL && node >= &walk->root[walk->open->next])
            close_container(walk);
        const struct json_node *open = walk->open;
        if (!write_node(walk, node)) {
            walk->is_cut = true;
            break;
        }
        node = walk->open != open ? node + 1 : &walk->root[node->next];
    }
    while (walk->open != NULL)
        close_container(walk);
}

bool arguments_write(const struct audit_redact *redact, struct redact_room *room,
                     struct json_reader *reader, struct slice json, size_t max, struct buf *out,
                     bool *ret_cut) {
    /* As many keys as there are; the gateway has read it with its own limit. As deep as whoever
     * reads the record can. */
    static const struct json_limits limits = {
        .max_depth = LIMIT_JSON_DEPTH - AROUND, .max_keys = UINT32_MAX, .max_nodes = UINT32_MAX};
    enum { SHOWN_OF = 16 }; /* of so many times as much; of more it would be a poor sample */
    if (json.len / SHOWN_OF > max || json_read(reader, json, &all, &limits, NULL) != 0) {
        *ret_cut = true;
        return false;
    }
    struct walk walk = {.redact = redact,
                        .room = room,
                        .root = json_root(reader),
                        .out = out,
                        .start = buf_len(out),
                        .max = max};
    write_all(&walk);
    *ret_cut = walk.is_cut;
    return buf_len(out) != walk.start;
}
