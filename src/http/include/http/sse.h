/*
 * Server-sent events (WHATWG HTML, section 9.2), sans-io. An event leaves the parser when it is
 * whole. Strict where the standard is lenient and a gateway must not be: invalid UTF-8 is refused,
 * and so is what passes the limit.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

struct sse_event {
    struct slice type; /* of `event:`; empty means "message" */
    struct slice data; /* lines joined with LF */
    struct slice id; /* the last event id, also when it came with an earlier event; may be empty */
    bool has_id;     /* this event carried an id field */
    bool has_retry;
    uint64_t retry_ms;
};

struct sse_parser; /* opaque */

/* `max_event`: bytes of data of one event; a line may have LIMIT_SSE_LINE_OVERHEAD more. */
MUST_CHECK int sse_parser_new(size_t max_event, struct sse_parser **ret_parser);
/* Before the first byte: what it keeps counts for `budget`. */
void sse_parser_hold(struct sse_parser *parser, struct budget *budget);
struct sse_parser *sse_parser_free(struct sse_parser *parser);
void sse_parser_freep(struct sse_parser **parser);

enum sse_result {
    SSE_NEED_MORE, /* everything was consumed */
    SSE_EVENT,     /* *ret_event is whole; valid until the next call */
    SSE_COMMENT,   /* a comment line: the stream is alive */
    SSE_REFUSED,   /* sse_parser_reason() */
};

/*
 * CR, LF and CRLF end lines, also cut in two by the input; one byte order mark at the start is
 * skipped. An event with no data field is reported only when it carries an id or retry (then data
 * is empty); unknown fields are ignored; an id with NUL is ignored, and so is a retry that is not
 * all digits. -ENOMEM is fatal.
 */
MUST_CHECK int sse_parser_feed(struct sse_parser *parser, struct slice input, size_t *ret_consumed,
                               enum sse_result *ret_result, struct sse_event *ret_event);
const char *sse_parser_reason(const struct sse_parser *parser);
/* It was refused for its length alone. */
bool sse_parser_is_too_long(const struct sse_parser *parser);

/*
 * Writing. data may hold LF (one `data:` line each); CR in it is refused with -EINVAL, as are CR,
 * LF and NUL in type and id. An empty type or id leaves the field out.
 */
MUST_CHECK int sse_write_event(struct buf *out, struct slice type, struct slice id,
                               struct slice data);
MUST_CHECK int sse_write_comment(struct buf *out, struct slice text);
