/*
 * Writing JSON into a capped buffer. Commas are put by the writer; what is nested wrongly is an
 * assert. Errors are those of the buffer, sticky: check buf_error() once at the end. Output is
 * compact, one line.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/slice.h"

struct json_writer {
    struct buf *out;
    uint32_t depth;
    uint64_t
        objects; /* bit n: the container at depth n is an object; deeper ones are not told apart */
    bool need_comma;
    bool after_key;
};

void json_writer_init(struct json_writer *writer, struct buf *out);

void json_object_begin(struct json_writer *writer);
void json_object_end(struct json_writer *writer);
void json_array_begin(struct json_writer *writer);
void json_array_end(struct json_writer *writer);
/* The next value belongs to this key (escaped as needed). */
void json_key(struct json_writer *writer, struct slice key);

/* Valid UTF-8 is written as it is; invalid bytes become U+FFFD. Controls, quote and backslash are
 * escaped. */
void json_string(struct json_writer *writer, struct slice text);
void json_i64(struct json_writer *writer, int64_t number);
void json_u64(struct json_writer *writer, uint64_t number);
void json_bool(struct json_writer *writer, bool value);
void json_null(struct json_writer *writer);
/* A value that is JSON already: a span of a document that was read. */
void json_raw(struct json_writer *writer, struct slice json);

/* key and value in one. */
void json_kv_string(struct json_writer *writer, struct slice key, struct slice text);
void json_kv_u64(struct json_writer *writer, struct slice key, uint64_t number);
void json_kv_i64(struct json_writer *writer, struct slice key, int64_t number);
void json_kv_bool(struct json_writer *writer, struct slice key, bool value);
void json_kv_raw(struct json_writer *writer, struct slice key, struct slice json);

/* Appends the escaped text without quotes. */
int json_escape(struct buf *out, struct slice text);
