/*
 * A strict JSON reader (RFC 8259, I-JSON RFC 7493 where a gateway must be stricter than a parser).
 *
 * One pass over a whole document checks everything: grammar, UTF-8, escapes, depth, number of keys,
 * duplicate keys (compared after unescaping), nothing behind the end. Into the caller's hands go
 * only the entries that it asked for: a flat tape of nodes with spans into the input. Everything
 * else is one span, forwarded byte for byte.
 *
 * Refused: a byte order mark, control characters in strings, lone surrogates (\ud800 without its
 * half), numbers outside the grammar, invalid UTF-8, duplicate keys, nesting past max_depth,
 * objects with more than max_keys keys. Accepted as they are: numbers of any length and size
 * (forwarded as text), \u0000 in strings.
 *
 * No recursion; no allocation per document once the reader has grown to its working size. A reader
 * belongs to one thread. Nodes are valid until the next json_read() with the same reader, spans as
 * long as the input.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

enum json_type {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_OBJECT,
    JSON_ARRAY
};

/*
 * What to open. A container that is opened has its direct members on the tape; one that is not is a
 * single node whose span is the whole container. The root is opened by the json_want given to
 * json_read(); its members are opened when a child names their key ("*": any key, and the elements
 * of arrays). A static table; `children` ends with an entry whose key is NULL, and is NULL for
 * "open, but nothing inside".
 */
struct json_want {
    const char *key;
    const struct json_want *children;
};

/* Opens the root only. */
extern const struct json_want json_want_root;

struct json_limits {
    uint32_t max_depth; /* 0 = LIMIT_JSON_DEPTH */
    uint32_t max_keys;  /* per object, 0 = LIMIT_JSON_KEYS */
    uint32_t max_nodes; /* on the tape, 0 = LIMIT_JSON_TAPE_NODES */
};

struct json_node {
    enum json_type type;
    bool key_escaped;   /* the key holds a backslash: compare with json_key_is() */
    bool value_escaped; /* the string holds a backslash */
    bool opened;        /* members follow on the tape */
    struct slice key;   /* between the quotes, as written; empty for array elements and the root */
    struct slice raw;   /* the whole value as written, strings with their quotes */
    uint32_t next; /* index of the node behind this one and its members: the next sibling, if any */
    uint32_t parent; /* index of the opened container; 0 for the root itself */
};

struct json_reader; /* opaque: scratch memory and the tape */

MUST_CHECK int json_reader_new(struct json_reader **ret_reader); /* 0, -ENOMEM */
struct json_reader *json_reader_free(struct json_reader *reader);
void json_reader_freep(struct json_reader **reader);

/* What json_read() goes by when it is given no limits. */
void json_reader_set_limits(struct json_reader *reader, const struct json_limits *limits);

/* Why a document was refused: a sentence, valid until the reader reads again, which tells limit and
 * value where one was exceeded; and the offset of the byte at which it became clear. */
struct json_error {
    const char *reason;
    size_t offset;
};

/*
 * Reads one document. 0: the root is json_root(). Positive JSON_E_*: refused, *ret_error (may be
 * NULL) says why. -ENOMEM: no memory. `want` NULL checks the document and keeps the root node
 * alone.
 */
enum { JSON_E_SYNTAX = 1, JSON_E_LIMIT = 2, JSON_E_DUPLICATE = 3, JSON_E_UTF8 = 4 };
MUST_CHECK int json_read(struct json_reader *reader, struct slice document,
                         const struct json_want *want, const struct json_limits *limits,
                         struct json_error *ret_error);

/* The root of the last document, or NULL when that was refused. */
const struct json_node *json_root(const struct json_reader *reader);
/* First member or element of an opened container, NULL when it has none or was not opened. */
const struct json_node *json_first(const struct json_reader *reader,
                                   const struct json_node *container);
/* The sibling behind `node`, NULL at the end. */
const struct json_node *json_next(const struct json_reader *reader, const struct json_node *node);
/* The member of an opened object with this key (compared after unescaping), or NULL. */
const struct json_node *json_member(const struct json_reader *reader,
                                    const struct json_node *object, struct slice key);
/* The member when it has the given type, else NULL. */
const struct json_node *json_member_typed(const struct json_reader *reader,
                                          const struct json_node *object, struct slice key,
                                          enum json_type type);

bool json_key_is(const struct json_node *node, struct slice key);
/* A string's content between the quotes, as written (escapes still in it); empty slice for other
 * types. */
struct slice json_string_raw(const struct json_node *node);
/* True for a string whose unescaped content equals `text`. */
bool json_string_is(const struct json_node *node, struct slice text);
/* Appends the unescaped content of a string. 0 or the buffer's error. */
MUST_CHECK int json_string_append(struct buf *out, const struct json_node *node);
/*
 * Appends unescaped what stands between two quotes of a document that was read with 0: 0 or the
 * buffer's error. Of other text, an escape that is none gives -EINVAL and appends nothing.
 */
MUST_CHECK int json_unescape(struct buf *out, struct slice between_quotes);

/* A number that is an integer in plain digits (optional minus, no fraction, no exponent) and fits;
 * else -EINVAL. */
MUST_CHECK int json_to_i64(const struct json_node *node, int64_t *ret_number);
