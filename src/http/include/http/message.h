/*
 * Strict HTTP/1.1 messages (RFC 9110, RFC 9112), sans-io: the caller feeds bytes as they come and
 * is handed the head and pieces of the body. Both sides: requests of clients, responses of
 * upstreams.
 *
 * What is refused, with the status to answer and close: docs in message.c, one row per case in the
 * test table. After a refusal the parser stays refused.
 *
 * Memory: the head is kept in the parser until http_parser_next(); all slices of a head point
 * there. Bodies are not kept. Floor 1: no fd, no clock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "base/slice.h"

enum http_method {
    HTTP_METHOD_GET,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_CONNECT,
    HTTP_METHOD_OPTIONS,
    HTTP_METHOD_TRACE,
    HTTP_METHOD_PATCH,
    HTTP_METHOD_OTHER, /* a token that is none of these: 501 */
};

struct http_field {
    struct slice name;  /* as sent; compare without case */
    struct slice value; /* without surrounding white space; printable ASCII, spaces and tabs only */
};

enum http_body_kind {
    HTTP_BODY_NONE,
    HTTP_BODY_LENGTH,
    HTTP_BODY_CHUNKED,
    HTTP_BODY_UNTIL_CLOSE, /* responses only */
};

struct http_head {
    /* requests */
    enum http_method method;
    struct slice method_text;
    struct slice target; /* as sent */
    struct slice
        path; /* origin-form: without the query; absolute-form: the path of the URI, "/" if empty */
    struct slice query;     /* behind '?', empty when there is none */
    struct slice authority; /* of the absolute form, else empty */
    struct slice host;      /* the one Host field's value; empty only in HTTP/1.0 without one */
    bool expect_continue;   /* Expect: 100-continue; any other expectation is refused with 417 */

    /* responses */
    uint16_t status;
    struct slice reason;

    /* both */
    uint8_t minor_version; /* of HTTP/1.x: 0 or 1 */
    bool keep_alive;       /* by version and Connection */
    enum http_body_kind body;
    uint64_t content_length; /* with HTTP_BODY_LENGTH */
    struct http_field *fields;
    size_t n_fields;
};

/* The value of the first field of that name, or an empty slice with a NULL ptr. */
struct slice http_head_get(const struct http_head *head, struct slice name);
/* How many fields have that name. */
size_t http_head_count(const struct http_head *head, struct slice name);
/* Both at once: how many, and the value of the first of them as http_head_get() gives it. */
size_t http_head_find(const struct http_head *head, struct slice name, struct slice *ret_value);
/* The path and the fields of a request, in one piece, for mem_free(); NULL: there is no memory. */
struct http_head *http_head_copy(const struct http_head *head);

enum http_role { HTTP_REQUESTS, HTTP_RESPONSES };

/* A 0 takes the default of limits.h. */
struct http_limits {
    size_t max_head;   /* start line, fields and the empty line, with all line ends */
    size_t max_line;   /* any line of the head without its end; the defaults are two, by its kind */
    size_t max_fields; /* of the head, and again of the trailers */
    uint64_t max_body; /* of one message; a longer one is refused as soon as that is known */
};

struct http_parser; /* opaque */

MUST_CHECK int http_parser_new(enum http_role role, const struct http_limits *limits,
                               struct http_parser **ret_parser);
struct http_parser *http_parser_free(struct http_parser *parser);
void http_parser_freep(struct http_parser **parser);

enum http_event {
    HTTP_NEED_MORE, /* everything was consumed, nothing is whole yet */
    HTTP_HEAD,      /* the head is whole: http_parser_head() */
    HTTP_DATA,      /* `ret_data` holds body bytes, pointing into the input */
    HTTP_END,       /* the message is whole; call http_parser_next() before feeding what follows */
    HTTP_REFUSED,   /* http_parser_refusal() says why */
};

/*
 * Looks at `input` and reports one event; *ret_consumed bytes of it are done with (never more than
 * input.len). Call again with the rest until HTTP_NEED_MORE, HTTP_REFUSED or HTTP_END. A message
 * without a body reports HTTP_HEAD and then HTTP_END. -ENOMEM is fatal for the connection.
 */
MUST_CHECK int http_parser_feed(struct http_parser *parser, struct slice input,
                                size_t *ret_consumed, enum http_event *ret_event,
                                struct slice *ret_data);
/*
 * The peer closed. HTTP_END for a body that ends so, and for a whole message whose HTTP_END was not
 * fetched yet; HTTP_NEED_MORE between messages; HTTP_REFUSED in the midst of one.
 */
enum http_event http_parser_eof(struct http_parser *parser);
/* Ready for the next message on the connection; the old head is gone. */
void http_parser_next(struct http_parser *parser);
/* Responses only, before the head comes: the request was HEAD, so there is no body. */
void http_parser_expect_no_body(struct http_parser *parser);
/* True from the first byte of a message until HTTP_END: a timeout or an end now cuts one short. */
bool http_parser_in_message(const struct http_parser *parser);

const struct http_head *http_parser_head(const struct http_parser *parser);

struct http_refusal {
    uint16_t status; /* 400, 413, 414, 415, 417, 431, 505; 500 after -ENOMEM; 502 for responses */
    const char *reason; /* a fixed sentence that names rule or limit */
    uint64_t limit;     /* that was exceeded: bytes or a number; 0: none was */
};
struct http_refusal http_parser_refusal(const struct http_parser *parser);

/* Writing. */

/* "HTTP/1.1 200 OK\r\n". -EINVAL outside 100 to 999. */
int http_write_status(struct buf *out, uint16_t status);
/*
 * "POST /path HTTP/1.1\r\n". -EINVAL for HTTP_METHOD_OTHER, and a target that is empty or has
 * spaces, controls or bytes from 0x80.
 */
MUST_CHECK int http_write_request_line(struct buf *out, enum http_method method,
                                       struct slice target);
/*
 * "Name: value\r\n". -EINVAL (nothing written) for a name that is no token or a value with CR, LF,
 * NUL, controls or bytes from 0x80: what is written here, the parser above accepts.
 */
MUST_CHECK int http_write_field(struct buf *out, struct slice name, struct slice value);
int http_write_field_u64(struct buf *out, struct slice name, uint64_t number);
/* The line before the `len` > 0 bytes of a chunk, behind which the caller writes CR LF. */
int http_write_chunk_begin(struct buf *out, size_t len);
/* One chunk of a chunked body; an empty slice writes nothing. */
int http_write_chunk(struct buf *out, struct slice data);
/* The last chunk, without trailers. */
int http_write_last_chunk(struct buf *out);

const char *http_status_text(uint16_t status);
bool http_is_token(struct slice s); /* RFC 9110 section 5.6.2 */

/*
 * True when a comma-separated list field holds `token` (without case, parameters ignored):
 * Connection, Accept and the like. All fields of that name are looked at.
 */
bool http_list_has(const struct http_head *head, struct slice name, struct slice token);
/* The media type of Content-Type without parameters, trimmed; empty when absent. */
struct slice http_content_type(const struct http_head *head);
/* True when Accept allows `type/subtype` (exact, type/wildcard, or full wildcard, q=0 refuses);
 * absent allows all. */
bool http_accepts(const struct http_head *head, struct slice media_type);
