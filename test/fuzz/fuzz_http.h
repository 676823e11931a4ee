/*
 * What must hold for the HTTP parser with any input, in either role: however the input is cut into
 * feeds, the same is reported (trace.h, which also checks where slices lie and that the head stays
 * as it is); and a head that was accepted, written again by our writer, is accepted again and is
 * the same. A rule that breaks ends the process.
 */
#pragma once

#include <stdint.h>
#include <stdlib.h>

#include "trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void must_trace_alike(const struct trace_setup *setup, struct slice input) {
    struct buf whole CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
    /* The second cut depends on the input, so that the fuzzer may choose it. */
    size_t step = input.len > 0 ? (unsigned char)input.ptr[input.len - 1] % 31 + 2 : 2;
    const struct trace_cut cuts[] = {{.step = 1}, {.step = step}, {.first = step, .step = 0}};
    MUST(trace_http(setup, input, (struct trace_cut){.step = 0}, &whole) == 0);
    MUST(buf_error(&whole) == 0);
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        struct buf other CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
        MUST(trace_http(setup, input, cuts[i], &other) == 0);
        MUST(slice_eq(buf_slice(&whole), buf_slice(&other)));
    }
}

/* The start line is written as the writer would, if it can be: extension methods and HTTP/1.0 it
 * does not write. */
static bool write_head(struct buf *out, enum http_role role, const struct http_head *head) {
    if (role == HTTP_REQUESTS) {
        if (head->method == HTTP_METHOD_OTHER || head->minor_version == 0)
            return false;
        MUST(http_write_request_line(out, head->method, head->target) == 0);
    } else {
        if (head->minor_version == 0)
            return false;
        MUST(http_write_status(out, head->status) == 0);
    }
    for (size_t i = 0; i < head->n_fields; i++)
        MUST(http_write_field(out, head->fields[i].name, head->fields[i].value) == 0);
    MUST(buf_append(out, SLICE("\r\n")) == 0);
    return true;
}

static void must_be_same_head(const struct http_head *a, const struct http_head *b) {
    MUST(a->method == b->method && a->status == b->status && a->body == b->body);
    MUST(slice_eq(a->target, b->target) && slice_eq(a->path, b->path));
    MUST(slice_eq(a->query, b->query) && slice_eq(a->host, b->host));
    MUST(slice_eq(a->authority, b->authority));
    MUST(a->content_length == b->content_length && a->keep_alive == b->keep_alive);
    MUST(a->expect_continue == b->expect_continue && a->n_fields == b->n_fields);
    for (size_t i = 0; i < a->n_fields; i++) {
        MUST(slice_eq(a->fields[i].name, b->fields[i].name));
        MUST(slice_eq(a->fields[i].value, b->fields[i].value));
        MUST(http_head_count(a, a->fields[i].name) > 0);
    }
}

/* What the questions say is not compared; they must not read past anything. */
static void ask(const struct http_head *head) {
    (void)http_content_type(head);
    (void)http_accepts(head, SLICE("application/json"));
    (void)http_list_has(head, SLICE("connection"), SLICE("close"));
}

static void must_survive_writing(enum http_role role, struct slice input) {
    struct http_parser *parser CLEANUP(http_parser_freep) = NULL;
    struct http_parser *again CLEANUP(http_parser_freep) = NULL;
    struct buf written CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
    const struct http_limits roomy = {.max_head = MIB(1), .max_line = MIB(1)};
    enum http_event event;
    struct slice data;
    size_t consumed;
    MUST(http_parser_new(role, NULL, &parser) == 0);
    MUST(http_parser_new(role, &roomy, &again) == 0);
    MUST(http_parser_feed(parser, input, &consumed, &event, &data) == 0);
    if (event != HTTP_HEAD)
        return;
    ask(http_parser_head(parser));
    if (!write_head(&written, role, http_parser_head(parser)))
        return;
    MUST(http_parser_feed(again, buf_slice(&written), &consumed, &event, &data) == 0);
    MUST(event == HTTP_HEAD && consumed == buf_len(&written));
    must_be_same_head(http_parser_head(parser), http_parser_head(again));
}
