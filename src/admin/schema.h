/*
 * What bodies and answers look like, as rows: bodies are checked against them, and the OpenAPI
 * document is made of them. A member that has no row is refused, with its place.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "json/reader.h"
#include "json/writer.h"

enum schema_type {
    SCHEMA_TEXT,   /* one line; `choices`: one of these */
    SCHEMA_SECRET, /* any text; is never written down or given out */
    SCHEMA_BOOL,
    SCHEMA_NUMBER,  /* a whole one, 0 to `most` */
    SCHEMA_TIME,    /* RFC 3339; of answers, and of queries */
    SCHEMA_TEXTS,   /* a list of texts, each at most once */
    SCHEMA_OBJECT,  /* `of`, or any object */
    SCHEMA_OBJECTS, /* a list of `of` */
};

struct schema_field {
    const char *name;
    enum schema_type type;
    bool is_required; /* of a body; of an answer: always there */
    bool may_be_null;
    uint64_t least, most; /* bytes of a text, entries of a list, a number; most 0: KIB(4), 1000 */
    const char *const *choices;
    const struct schema *of;
    const char *doc;
};

struct schema {
    const char *name;
    const struct schema_field *fields; /* NULL: any members */
};

/* Of `fields`, which end with an entry whose name is NULL. */
#define SCHEMA_END                                                                                 \
    { .name = NULL }

/*
 * Checks what a reader has read (its root's members, and theirs, opened) against a schema.
 * SCHEMA_E_WRONG: `reason` gets a sentence that begins with the place: "roles[2]: ...".
 */
enum { SCHEMA_E_WRONG = 1 };
extern const struct json_want api_schema_want;
MUST_CHECK int schema_check(const struct schema *schema, const struct json_reader *reader,
                            struct buf *reason);
/* A single text (of a query) against a row. The same. */
MUST_CHECK int schema_check_text(const struct schema_field *field, struct slice text,
                                 struct buf *reason);
/* The member's text, unescaped, in the arena; ptr NULL: it is not there, or null. Of a body that
 * was checked. -ENOMEM. */
MUST_CHECK int schema_text(const struct json_reader *reader, const char *name, struct arena *arena,
                           struct slice *ret_text);
/* The same of a list; *ret_texts NULL: it is not there. */
MUST_CHECK int schema_texts(const struct json_reader *reader, const char *name, struct arena *arena,
                            struct slice **ret_texts, size_t *ret_n);
/* -1: it is not there. */
int schema_bool(const struct json_reader *reader, const char *name);
/* False: it is not there. */
bool schema_number(const struct json_reader *reader, const char *name, uint64_t *ret_number);
/* The member as it stands; empty: it is not there. */
struct slice schema_raw(const struct json_reader *reader, const char *name);

/* As JSON Schema 2020-12, for OpenAPI 3.1. `is_answer`: its required members are always there. */
void schema_write(struct json_writer *writer, const struct schema *schema);
void schema_write_field(struct json_writer *writer, const struct schema_field *field);
