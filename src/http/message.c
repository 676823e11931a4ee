/*
 * Strict HTTP/1.1. Request smuggling lives on the difference between two lenient readers of one
 * message, so this one has no lenience to differ in. What it does not take for well-formed it
 * refuses; the caller answers and closes.
 *
 * Of requests (RFC 9112 where only a section is named):
 *
 * 400  any line that does not end with CRLF; CR, LF, NUL, controls or bytes from 0x80 in it
 * (2.2, 5.5); an empty line before the start line (2.2 would let a server skip one); a request line
 * that is not three words with single spaces; a method that is no token, or one of ours in other
 * letters ("get"); a target that is none of the four forms of 3.2 (target.c); a version that is not
 * "HTTP/" digit "." digit; a field without colon or name, with a space before the colon (5.1), or
 * folded (5.2); no Host in HTTP/1.1, two, or a malformed one (3.2); a target whose authority is not
 * the one that Host names; Content-Length twice, also when equal, or anything but one decimal
 * number below 2^64 (6.3); Transfer-Encoding twice, in HTTP/1.0, beside Content-Length, or anything
 * but "chunked" (6.1: 501 would be allowed, but then the end of the message is not known); a
 * Connection option that is no token or names a field that must reach the end (Host, Authorization,
 * ...); a malformed chunk line, no CRLF behind chunk data (7.1), a forbidden trailer (RFC 9110
 * section 6.5.1; chunked.c). 413  a body over the limit, as soon as its length is known; too many
 * bytes of chunk extensions. 414  a start line over the limit. 415  Content-Encoding other than
 * identity: nothing here unpacks. 417  Expect other than 100-continue. 431  a head, field line,
 * trailer section or number of fields over the limit. 505  a version of that form that is not
 * HTTP/1.0 or HTTP/1.1. Also HTTP/1.2 to 1.9: no such version exists.
 *
 * Upgrade is never followed and needs no rule. Extension methods are HTTP_METHOD_OTHER: refusing
 * them is up to the caller.
 *
 * Responses are held to the same rules for lines, fields and framing, and refused with 502;
 * besides: a status that is not three digits from 100 to 599; 101; more than eight interim
 * responses (others are swallowed); an interim or 204 response that announces a body (6.1, 6.3).
 * The space before an empty reason may be missing: common servers leave it out. A response to HEAD
 * and 204 and 304 have no body, whatever the fields say.
 *
 * The head is collected line by line. A line is searched for its end once and parsed once, however
 * it is cut into feeds, so a peer that sends single bytes costs no more work than it sent. Body
 * bytes are never copied.
 */
#include "http/message.h"

#include <errno.h>

#include "base/checked.h"
#include "base/mem.h"
#include "chars.h"
#include "parser.h"

enum {
    FIRST_TEXT_CAP = 1024,
    FIRST_FIELDS = 16,
    KEEP_TEXT = 4096, /* what an idle connection may hold on to */
    KEEP_LINE = 512,
};

/* What a step came to; negative is an errno. */
enum { STEP_AGAIN = 0, STEP_EVENT = 1 };

struct feed {
    struct slice rest; /* not consumed yet */
    enum http_event event;
    struct slice data;
};

static int report(struct feed *feed, enum http_event event) {
    feed->event = event;
    return STEP_EVENT;
}

static void consume(struct feed *feed, size_t n) {
    feed->rest = slice_make(feed->rest.ptr + n, feed->rest.len - n);
}

int http_parser_new(enum http_role role, const struct http_limits *limits,
                    struct http_parser **ret_parser) {
    static const struct http_limits defaults = {.max_head = 0};
    const struct http_limits *given = limits != NULL ? limits : &defaults;
    struct http_parser *parser = mem_alloc(sizeof *parser);
    if (parser == NULL)
        return -ENOMEM;
    uint64_t max_body = role == HTTP_REQUESTS ? LIMIT_REQUEST_BODY : LIMIT_UPSTREAM_MESSAGE;
    parser->role = role;
    /* Half of all memory at most, so that sums with it fit. */
    parser->max_head =
        size_min(given->max_head != 0 ? given->max_head : LIMIT_HTTP_HEADER_BLOCK, SIZE_MAX / 2);
    size_t max_line = given->max_line;
    parser->max_start_line =
        size_min(max_line != 0 ? max_line : LIMIT_HTTP_START_LINE, parser->max_head);
    parser->max_field_line =
        size_min(max_line != 0 ? max_line : LIMIT_HTTP_FIELD_LINE, parser->max_head);
    parser->max_fields = given->max_fields != 0 ? given->max_fields : LIMIT_HTTP_FIELDS;
    parser->max_body = given->max_body != 0 ? given->max_body : max_body;
    buf_init(&parser->line, LIMIT_HTTP_TRAILERS);
    *ret_parser = parser;
    return 0;
}

struct http_parser *http_parser_free(struct http_parser *parser) {
    if (parser == NULL)
        return NULL;
    mem_free(parser->text);
    mem_free(parser->head.fields);
    buf_deinit(&parser->line);
    mem_free(parser);
    return NULL;
}

void http_parser_freep(struct http_parser **parser) {
    *parser = http_parser_free(*parser);
}

bool http_refuse(struct http_parser *parser, uint16_t status, const char *reason) {
    parser->state = HTTP_STATE_REFUSED;
    parser->refusal.status = parser->role == HTTP_REQUESTS ? status : 502;
    parser->refusal.reason = reason;
    return false;
}

bool http_refuse_limit(struct http_parser *parser, uint16_t status, const char *reason,
                       uint64_t limit) {
    parser->refusal.limit = limit;
    return http_refuse(parser, status, reason);
}

struct http_refusal http_parser_refusal(const struct http_parser *parser) {
    return parser->refusal;
}

const struct http_head *http_parser_head(const struct http_parser *parser) {
    return &parser->head;
}

void http_parser_expect_no_body(struct http_parser *parser) {
    parser->no_body = true;
}

bool http_parser_in_message(const struct http_parser *parser) {
    return parser->begun;
}

/* Memory of the head. */

static void forget_head(struct http_parser *parser) {
    parser->head = (struct http_head){.fields = parser->head.fields};
    parser->seen = (struct http_seen){.host = false};
    parser->text_len = 0;
    parser->line_start = 0;
    parser->state = HTTP_STATE_START;
}

void http_parser_next(struct http_parser *parser) {
    if (parser->state == HTTP_STATE_REFUSED)
        return;
    forget_head(parser);
    if (parser->text_cap > KEEP_TEXT) {
        mem_free(parser->text);
        parser->text = NULL;
        parser->text_cap = 0;
    }
    buf_reset(&parser->line, KEEP_LINE);
    parser->begun = false;
    parser->no_body = false;
    parser->interim = 0;
    parser->body_len = parser->remaining = 0;
    parser->extension_len = parser->trailer_len = parser->n_trailers = 0;
}

/* The text moves: a slice of it follows; one of a literal stays. */
static void follow(struct slice *s, const struct http_parser *parser, char *to) {
    uintptr_t at = (uintptr_t)s->ptr, from = (uintptr_t)parser->text;
    if (s->ptr != NULL && at >= from && at - from <= parser->text_len)
        s->ptr = to + (at - from);
}

static int grow_text(struct http_parser *parser, size_t needed) {
    size_t cap = size_max(parser->text_cap, FIRST_TEXT_CAP);
    while (cap < needed)
        cap *= 2; /* needed is at most max_head */
    char *text = mem_alloc(cap);
    if (text == NULL)
        return -ENOMEM;
    if (parser->text != NULL) {
        struct http_head *head = &parser->head;
        struct slice *slices[] = {&head->method_text, &head->target, &head->path,  &head->query,
                                  &head->authority,   &head->host,   &head->reason};
        memcpy(text, parser->text, parser->text_len);
        for (size_t i = 0; i < ARRAY_LEN(slices); i++)
            follow(slices[i], parser, text);
        for (size_t i = 0; i < head->n_fields; i++) {
            follow(&head->fields[i].name, parser, text);
            follow(&head->fields[i].value, parser, text);
        }
        mem_free(parser->text);
    }
    parser->text = text;
    parser->text_cap = cap;
    return 0;
}

static int append_text(struct http_parser *parser, struct slice bytes) {
    size_t needed = parser->text_len + bytes.len;
    if (needed > parser->text_cap) {
        int r = grow_text(parser, needed);
        if (r != 0)
            return r;
    }
    memcpy(parser->text + parser->text_len, bytes.ptr, bytes.len);
    parser->text_len = needed;
    return 0;
}

/* Room for one more field in the array. */
static int grow_fields(struct http_parser *parser) {
    if (parser->head.n_fields < parser->cap_fields)
        return 0;
    size_t cap = parser->cap_fields == 0 ? FIRST_FIELDS : 2 * parser->cap_fields, size;
    if (size_mul_overflows(cap, sizeof *parser->head.fields, &size))
        return -ENOMEM;
    struct http_field *fields = mem_realloc(parser->head.fields, size);
    if (fields == NULL)
        return -ENOMEM;
    parser->head.fields = fields;
    parser->cap_fields = cap;
    return 0;
}

/* Head. */

/* A line with its LF: *ret_line is without CRLF. */
static bool strip_line_end(struct http_parser *parser, struct slice whole, struct slice *ret_line) {
    if (whole.len < 2 || whole.ptr[whole.len - 2] != '\r')
        return http_refuse(parser, 400, "a line ends with LF alone");
    *ret_line = slice_make(whole.ptr, whole.len - 2);
    return true;
}

static int parse_field(struct http_parser *parser, struct slice line) {
    struct http_head *head = &parser->head;
    if (head->n_fields >= parser->max_fields) {
        http_refuse_limit(parser, 431, "there are more header fields than the limit",
                          parser->max_fields);
        return 0;
    }
    int r = grow_fields(parser);
    if (r != 0)
        return r;
    struct http_field *field = &head->fields[head->n_fields];
    const char *reason = http_parse_field_line(line, field);
    if (reason != NULL) {
        http_refuse(parser, 400, reason);
        return 0;
    }
    head->n_fields++;
    (void)http_note_field(parser, field); /* a refusal shows in the state */
    return 0;
}

/* Which body follows, by the framing of the head. */
static void begin_body(struct http_parser *parser) {
    switch (parser->head.body) {
    case HTTP_BODY_NONE:
        parser->state = HTTP_STATE_END;
        return;
    case HTTP_BODY_LENGTH:
        parser->remaining = parser->head.content_length;
        parser->state = parser->remaining > 0 ? HTTP_STATE_BODY_LENGTH : HTTP_STATE_END;
        return;
    case HTTP_BODY_CHUNKED:
        parser->state = HTTP_STATE_CHUNK_LINE;
        return;
    case HTTP_BODY_UNTIL_CLOSE:
        parser->state = HTTP_STATE_BODY_CLOSE;
        return;
    }
}

static int end_of_head(struct http_parser *parser, struct feed *feed) {
    if (!http_finish_head(parser))
        return STEP_AGAIN;
    if (parser->role == HTTP_RESPONSES && parser->head.status < 200) {
        if (++parser->interim > LIMIT_HTTP_INTERIM)
            http_refuse(parser, 502, "there are more interim responses than the limit");
        else
            forget_head(parser);
        return STEP_AGAIN;
    }
    begin_body(parser);
    return report(feed, HTTP_HEAD);
}

/* The head's text has one more whole line, at line_start. */
static int parse_head_line(struct http_parser *parser, struct feed *feed) {
    struct slice line = SLICE_EMPTY, whole = slice_make(parser->text + parser->line_start,
                                                        parser->text_len - parser->line_start);
    parser->line_start = parser->text_len;
    if (!strip_line_end(parser, whole, &line))
        return STEP_AGAIN;
    if (parser->state == HTTP_STATE_START) {
        if (http_parse_start_line(parser, line))
            parser->state = HTTP_STATE_FIELDS;
        return STEP_AGAIN;
    }
    return line.len > 0 ? parse_field(parser, line) : end_of_head(parser, feed);
}

/*
 * How many bytes the line that is being collected may still get, its CRLF included. Both limits are
 * in it, so that the one which is passed first decides, however the input is cut.
 */
static size_t line_room(const struct http_parser *parser, bool *ret_head_is_full) {
    size_t max_line =
        parser->state == HTTP_STATE_START ? parser->max_start_line : parser->max_field_line;
    size_t line = max_line + 2 - (parser->text_len - parser->line_start);
    size_t head = parser->max_head - parser->text_len;
    *ret_head_is_full = head < line;
    return size_min(head, line);
}

static int step_head(struct http_parser *parser, struct feed *feed) {
    if (feed->rest.len == 0)
        return report(feed, HTTP_NEED_MORE);
    if (parser->text_len == 0 && !char_is(feed->rest.ptr[0], CHAR_TOKEN)) {
        /* No start line begins so: do not wait for the end of what may be TLS or line noise. */
        parser->begun = true;
        http_refuse(parser, 400, "the start line does not begin with a word");
        return STEP_AGAIN;
    }
    parser->begun = true;
    bool head_is_full;
    size_t room = line_room(parser, &head_is_full);
    struct slice part = slice_sub(feed->rest, 0, room);
    size_t lf = slice_find_byte(part, '\n');
    if (lf == SIZE_MAX && part.len == room) {
        if (head_is_full)
            http_refuse_limit(parser, 431, "the head is longer than the limit", parser->max_head);
        else if (parser->state == HTTP_STATE_START)
            http_refuse_limit(parser, 414, "the start line is longer than the limit",
                              parser->max_start_line);
        else
            http_refuse_limit(parser, 431, "a header field is longer than the limit",
                              parser->max_field_line);
        return STEP_AGAIN;
    }
    if (lf != SIZE_MAX)
        part.len = lf + 1;
    int r = append_text(parser, part);
    if (r != 0)
        return r;
    consume(feed, part.len);
    return lf != SIZE_MAX ? parse_head_line(parser, feed) : STEP_AGAIN;
}

/* Body. */

static int step_length(struct http_parser *parser, struct feed *feed, enum http_state next) {
    if (feed->rest.len == 0)
        return report(feed, HTTP_NEED_MORE);
    size_t n = feed->rest.len;
    if (n > parser->remaining)
        n = (size_t)parser->remaining;
    feed->data = slice_make(feed->rest.ptr, n);
    consume(feed, n);
    parser->remaining -= n;
    if (parser->remaining == 0)
        parser->state = next;
    return report(feed, HTTP_DATA);
}

static int step_until_close(struct http_parser *parser, struct feed *feed) {
    if (feed->rest.len == 0)
        return report(feed, HTTP_NEED_MORE);
    uint64_t room = parser->max_body - parser->body_len;
    if (room == 0) {
        http_refuse_limit(parser, 413, "the body is longer than the limit", parser->max_body);
        return STEP_AGAIN;
    }
    feed->data = slice_make(feed->rest.ptr, feed->rest.len < room ? feed->rest.len : (size_t)room);
    parser->body_len += feed->data.len;
    consume(feed, feed->data.len);
    return report(feed, HTTP_DATA);
}

/*
 * A line of the chunked coding, from the input alone if it lies there whole. *ret_is_whole is false
 * when more is needed, or after a refusal.
 */
static int take_line(struct http_parser *parser, struct feed *feed, size_t max_line,
                     const char *too_long, struct slice *ret_line, bool *ret_is_whole) {
    size_t had = buf_len(&parser->line);
    size_t room = max_line - had;
    struct slice part = slice_sub(feed->rest, 0, room);
    size_t lf = slice_find_byte(part, '\n');
    *ret_is_whole = false;
    if (lf == SIZE_MAX && part.len == room) {
        http_refuse(parser, parser->state == HTTP_STATE_TRAILERS ? 431 : 400, too_long);
        return 0;
    }
    if (lf != SIZE_MAX)
        part.len = lf + 1;
    if (lf == SIZE_MAX || had > 0) {
        int r = buf_append(&parser->line, part);
        if (r != 0)
            return r;
    }
    consume(feed, part.len);
    if (lf == SIZE_MAX)
        return 0;
    *ret_is_whole = strip_line_end(parser, had > 0 ? buf_slice(&parser->line) : part, ret_line);
    return 0;
}

static int step_chunk_line(struct http_parser *parser, struct feed *feed) {
    struct slice line = SLICE_EMPTY;
    bool is_whole;
    if (feed->rest.len == 0)
        return report(feed, HTTP_NEED_MORE);
    int r = take_line(parser, feed, LIMIT_HTTP_CHUNK_LINE + 2,
                      "a chunk line is longer than the limit", &line, &is_whole);
    if (r != 0 || !is_whole)
        return r;
    if (http_parse_chunk_line(parser, line))
        parser->state = parser->remaining > 0 ? HTTP_STATE_CHUNK_DATA : HTTP_STATE_TRAILERS;
    buf_reset(&parser->line, KEEP_LINE);
    return STEP_AGAIN;
}

static int step_chunk_end(struct http_parser *parser, struct feed *feed, char expected,
                          enum http_state next) {
    if (feed->rest.len == 0)
        return report(feed, HTTP_NEED_MORE);
    if (feed->rest.ptr[0] != expected) {
        http_refuse(parser, 400, "chunk data does not end with CRLF");
        return STEP_AGAIN;
    }
    consume(feed, 1);
    parser->state = next;
    return STEP_AGAIN;
}

static int step_trailers(struct http_parser *parser, struct feed *feed) {
    struct slice line = SLICE_EMPTY;
    bool is_whole;
    if (feed->rest.len == 0)
        return report(feed, HTTP_NEED_MORE);
    int r = take_line(parser, feed, LIMIT_HTTP_TRAILERS - parser->trailer_len,
                      "the trailer section is longer than the limit", &line, &is_whole);
    if (r != 0 || !is_whole)
        return r;
    parser->trailer_len += line.len + 2;
    if (line.len == 0)
        parser->state = HTTP_STATE_END;
    else
        (void)http_parse_trailer_line(parser, line); /* a refusal shows in the state */
    buf_reset(&parser->line, KEEP_LINE);
    return STEP_AGAIN;
}

static int step(struct http_parser *parser, struct feed *feed) {
    switch (parser->state) {
    case HTTP_STATE_START:
    case HTTP_STATE_FIELDS:
        return step_head(parser, feed);
    case HTTP_STATE_BODY_LENGTH:
        return step_length(parser, feed, HTTP_STATE_END);
    case HTTP_STATE_BODY_CLOSE:
        return step_until_close(parser, feed);
    case HTTP_STATE_CHUNK_LINE:
        return step_chunk_line(parser, feed);
    case HTTP_STATE_CHUNK_DATA:
        return step_length(parser, feed, HTTP_STATE_CHUNK_CR);
    case HTTP_STATE_CHUNK_CR:
        return step_chunk_end(parser, feed, '\r', HTTP_STATE_CHUNK_LF);
    case HTTP_STATE_CHUNK_LF:
        return step_chunk_end(parser, feed, '\n', HTTP_STATE_CHUNK_LINE);
    case HTTP_STATE_TRAILERS:
        return step_trailers(parser, feed);
    case HTTP_STATE_END:
        parser->begun = false;
        return report(feed, HTTP_END);
    case HTTP_STATE_REFUSED:
        return report(feed, HTTP_REFUSED);
    }
    return report(feed, HTTP_REFUSED);
}

int http_parser_feed(struct http_parser *parser, struct slice input, size_t *ret_consumed,
                     enum http_event *ret_event, struct slice *ret_data) {
    struct feed feed = {.rest = input};
    int r;
    do {
        r = step(parser, &feed);
    } while (r == STEP_AGAIN);
    if (r < 0) {
        http_refuse(parser, 500, "there is not enough memory");
        return r;
    }
    *ret_consumed = input.len - feed.rest.len;
    *ret_event = feed.event;
    if (feed.event == HTTP_DATA)
        *ret_data = feed.data;
    return 0;
}

enum http_event http_parser_eof(struct http_parser *parser) {
    if (parser->state == HTTP_STATE_BODY_CLOSE)
        parser->state = HTTP_STATE_END;
    if (parser->state == HTTP_STATE_REFUSED)
        return HTTP_REFUSED;
    if (!parser->begun)
        return HTTP_NEED_MORE;
    if (parser->state == HTTP_STATE_END) {
        parser->begun = false;
        return HTTP_END;
    }
    http_refuse(parser, 400, "the connection was closed in the midst of a message");
    return HTTP_REFUSED;
}
