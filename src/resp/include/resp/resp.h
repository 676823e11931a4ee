/*
 * The Redis protocol, RESP2, as far as the limits need it: commands to bytes, bytes to replies.
 * hiredis reads; writing is ours. Here are the bounds, and no descriptor.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

/* Appends a command, each argument as a bulk string. */
int resp_write_command(struct buf *out, const struct slice *arguments, size_t n);

enum resp_type { RESP_STRING, RESP_STATUS, RESP_ERROR, RESP_INTEGER, RESP_NIL, RESP_ARRAY };

struct resp_reply; /* of a reader; freed by resp_reply_free() */

struct resp_reader;
MUST_CHECK int resp_reader_new(struct resp_reader **ret_reader);
struct resp_reader *resp_reader_free(struct resp_reader *reader);
/* -EPROTO: it is no RESP, or a reply is longer than LIMIT_REDIS_REPLY; the connection is of no use.
 * -ENOMEM. */
MUST_CHECK int resp_feed(struct resp_reader *reader, struct slice bytes);
/* 0 and the next whole reply; *ret_reply NULL: more has to come. -EPROTO, -ENOMEM. */
MUST_CHECK int resp_next(struct resp_reader *reader, struct resp_reply **ret_reply);
struct resp_reply *resp_reply_free(struct resp_reply *reply);
enum resp_type resp_type(const struct resp_reply *reply);
struct slice resp_text(const struct resp_reply *reply); /* STRING, STATUS, ERROR */
int64_t resp_integer(const struct resp_reply *reply);   /* INTEGER */
size_t resp_count(const struct resp_reply *reply);      /* ARRAY */
const struct resp_reply *resp_at(const struct resp_reply *reply, size_t index);
