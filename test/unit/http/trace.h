/*
 * What a parser reports of some input, as one line of text, so that a table can say what is
 * expected and runs that cut the input differently can be compared:
 *
 *     POST /mcp?q host=h keep length=5 <hello> . GET / host=h close . ! 400 Host is missing
 *
 * "<...>" is body data, however many pieces it came in; "." the end of a message; "!" a refusal;
 * "~" an input that ends in the midst of a message. Used by the unit tests and the fuzz targets; it
 * checks on the way that slices lie where they should.
 */
#pragma once

#include <assert.h>
#include <errno.h>

#include "base/buf.h"
#include "base/mem.h"
#include "http/message.h"
#include "http/sse.h"

#define TRACE_MAX MIB(64)

/* How the input is cut into feeds. */
struct trace_cut {
    size_t first; /* bytes in the first feed; 0: as the others */
    size_t step;  /* bytes in the others; 0: all the rest */
};

struct trace_setup {
    enum http_role role;
    struct http_limits limits;
    bool no_body; /* each response answers HEAD */
    bool no_eof;  /* do not tell the parser that the input is over */
};

static void trace_word(struct buf *out, const char *word) {
    if (buf_len(out) > 0)
        buf_append_byte(out, ' ');
    buf_append_cstr(out, word);
}

static void trace_named(struct buf *out, const char *name, struct slice value) {
    if (value.len == 0)
        return;
    trace_word(out, name);
    buf_append_byte(out, '=');
    buf_append(out, value);
}

static void trace_head(struct buf *out, enum http_role role, const struct http_head *head) {
    if (role == HTTP_REQUESTS) {
        trace_word(out, "");
        buf_append(out, head->method_text);
        buf_append_cstr(out, head->method == HTTP_METHOD_OTHER ? "(other) " : " ");
        buf_append(out, head->path);
        if (head->query.len > 0)
            buf_append_byte(out, '?');
        buf_append(out, head->query);
        trace_named(out, "authority", head->authority);
        trace_named(out, "host", head->host);
    } else {
        trace_word(out, "");
        buf_append_u64(out, head->status);
        if (head->reason.len > 0)
            buf_append_byte(out, ' ');
        buf_append(out, head->reason);
    }
    if (head->minor_version == 0)
        trace_word(out, "1.0");
    trace_word(out, head->keep_alive ? "keep" : "close");
    if (head->expect_continue)
        trace_word(out, "expect");
    switch (head->body) {
    case HTTP_BODY_NONE:
        break;
    case HTTP_BODY_LENGTH:
        trace_word(out, "length=");
        buf_append_u64(out, head->content_length);
        break;
    case HTTP_BODY_CHUNKED:
        trace_word(out, "chunked");
        break;
    case HTTP_BODY_UNTIL_CLOSE:
        trace_word(out, "until-close");
        break;
    }
}

static uint64_t trace_add(uint64_t sum, struct slice s) {
    for (size_t i = 0; i < s.len; i++)
        sum = sum * 31 + (unsigned char)s.ptr[i];
    return sum;
}

/* Reads every byte that the head's slices name: a sanitizer sees one that is not there any more. */
static uint64_t trace_touch(const struct http_head *head) {
    const struct slice slices[] = {head->method_text, head->target, head->path,  head->query,
                                   head->authority,   head->host,   head->reason};
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++)
        sum = trace_add(sum, slices[i]);
    for (size_t i = 0; i < head->n_fields; i++)
        sum = trace_add(trace_add(sum, head->fields[i].name), head->fields[i].value);
    return sum;
}

struct trace_state {
    const struct trace_setup *setup;
    struct http_parser *parser;
    struct buf *out;
    bool in_data;
    uint64_t head_sum;
    bool refused;
};

static void trace_refusal(struct trace_state *state) {
    struct http_refusal refusal = http_parser_refusal(state->parser);
    if (state->in_data)
        buf_append_byte(state->out, '>');
    state->in_data = false;
    state->refused = true;
    trace_word(state->out, "! ");
    buf_append_u64(state->out, refusal.status);
    trace_word(state->out, refusal.reason);
}

static void trace_data(struct trace_state *state, struct slice input, struct slice data) {
    assert(data.len > 0 && (uintptr_t)data.ptr >= (uintptr_t)input.ptr &&
           (uintptr_t)data.ptr + data.len <= (uintptr_t)input.ptr + input.len);
    if (!state->in_data)
        trace_word(state->out, "<");
    state->in_data = true;
    buf_append(state->out, data);
}

static void trace_end(struct trace_state *state) {
    if (state->in_data)
        buf_append_byte(state->out, '>');
    state->in_data = false;
    trace_word(state->out, ".");
    assert(trace_touch(http_parser_head(state->parser)) == state->head_sum);
    assert(!http_parser_in_message(state->parser));
    http_parser_next(state->parser);
    if (state->setup->no_body)
        http_parser_expect_no_body(state->parser);
}

/* One feed, in a block of exactly its size. 0 or a negative errno. */
static int trace_piece(struct trace_state *state, struct slice piece) {
    enum http_event event = HTTP_NEED_MORE;
    do {
        size_t consumed = SIZE_MAX;
        struct slice data = SLICE_EMPTY;
        int r = http_parser_feed(state->parser, piece, &consumed, &event, &data);
        if (r != 0)
            return r;
        assert(consumed <= piece.len);
        switch (event) {
        case HTTP_NEED_MORE:
            assert(consumed == piece.len);
            break;
        case HTTP_HEAD:
            trace_head(state->out, state->setup->role, http_parser_head(state->parser));
            state->head_sum = trace_touch(http_parser_head(state->parser));
            break;
        case HTTP_DATA:
            trace_data(state, slice_sub(piece, 0, consumed), data);
            break;
        case HTTP_END:
            trace_end(state);
            break;
        case HTTP_REFUSED:
            trace_refusal(state);
            return 0;
        }
        piece = slice_from(piece, consumed);
    } while (event != HTTP_NEED_MORE);
    return 0;
}

static int trace_pieces(struct trace_state *state, struct slice input, struct trace_cut cut) {
    size_t step = cut.first != 0 ? cut.first : cut.step;
    while (input.len > 0 && !state->refused) {
        size_t n = step == 0 || step > input.len ? input.len : step;
        char *copy CLEANUP(mem_freep) = mem_alloc(n);
        if (copy == NULL)
            return -ENOMEM;
        memcpy(copy, input.ptr, n);
        int r = trace_piece(state, slice_make(copy, n));
        if (r != 0)
            return r;
        input = slice_from(input, n);
        step = cut.step;
    }
    return 0;
}

/* Appends the trace to `out`. 0, or the parser's -ENOMEM. */
MAYBE_UNUSED static int trace_http(const struct trace_setup *setup, struct slice input,
                                   struct trace_cut cut, struct buf *out) {
    struct http_parser *parser CLEANUP(http_parser_freep) = NULL;
    int r = http_parser_new(setup->role, &setup->limits, &parser);
    if (r != 0)
        return r;
    struct trace_state state = {.setup = setup, .parser = parser, .out = out};
    if (setup->no_body)
        http_parser_expect_no_body(parser);
    r = trace_pieces(&state, input, cut);
    if (r != 0 || state.refused)
        return r;
    bool in_message = http_parser_in_message(parser);
    if (setup->no_eof) {
        if (state.in_data)
            buf_append_byte(out, '>');
        return 0;
    }
    enum http_event event = http_parser_eof(parser);
    if (event == HTTP_END) {
        trace_end(&state);
    } else if (in_message) {
        assert(event == HTTP_REFUSED && http_parser_eof(parser) == HTTP_REFUSED);
        if (state.in_data)
            buf_append_byte(out, '>');
        trace_word(out, "~");
    } else {
        assert(event == HTTP_NEED_MORE);
    }
    return 0;
}

/* The same for server-sent events: [type|data|id!|retry] for each (the '!': the event has an id
 * field), ":" a comment. */
static void trace_event(struct buf *out, const struct sse_event *event) {
    buf_append_byte(out, '[');
    buf_append(out, event->type);
    buf_append_byte(out, '|');
    buf_append(out, event->data);
    buf_append_byte(out, '|');
    buf_append(out, event->id);
    if (event->has_id)
        buf_append_byte(out, '!');
    if (event->has_retry) {
        buf_append_byte(out, '|');
        buf_append_u64(out, event->retry_ms);
    }
    buf_append_byte(out, ']');
}

static int trace_sse_piece(struct sse_parser *parser, struct slice piece, struct buf *out,
                           bool *ret_refused) {
    enum sse_result result;
    do {
        size_t consumed = SIZE_MAX;
        struct sse_event event;
        int r = sse_parser_feed(parser, piece, &consumed, &result, &event);
        if (r != 0)
            return r;
        assert(consumed <= piece.len);
        if (result == SSE_EVENT)
            trace_event(out, &event);
        else if (result == SSE_COMMENT)
            buf_append_byte(out, ':');
        else if (result == SSE_REFUSED)
            buf_append_byte(out, '!');
        else
            assert(consumed == piece.len);
        piece = slice_from(piece, consumed);
    } while (result != SSE_NEED_MORE && result != SSE_REFUSED);
    *ret_refused = result == SSE_REFUSED;
    return 0;
}

MAYBE_UNUSED static int trace_sse(size_t max_event, struct slice input, struct trace_cut cut,
                                  struct buf *out) {
    struct sse_parser *parser CLEANUP(sse_parser_freep) = NULL;
    int r = sse_parser_new(max_event, &parser);
    size_t step = cut.first != 0 ? cut.first : cut.step;
    bool refused = false;
    while (r == 0 && input.len > 0 && !refused) {
        size_t n = step == 0 || step > input.len ? input.len : step;
        char *copy CLEANUP(mem_freep) = mem_alloc(n);
        if (copy == NULL)
            return -ENOMEM;
        memcpy(copy, input.ptr, n);
        r = trace_sse_piece(parser, slice_make(copy, n), out, &refused);
        input = slice_from(input, n);
        step = cut.step;
    }
    return r;
}
