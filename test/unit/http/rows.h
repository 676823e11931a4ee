/*
 * Rows of requests: each is fed whole, byte by byte, and cut at every place, and must come out as
 * the trace (trace.h) that the row expects.
 */
#pragma once

#include "test.h"
#include "trace.h"

struct row {
    const char *name;
    struct slice input;
    const char *expect;
};

#define CRLF "\r\n"
#define HOST "Host: h\r\n"
/* A request whose line and fields are given; one with a good line; a POST. */
#define REQUEST(line, fields) SLICE_INIT(line CRLF fields CRLF)
#define FIELDS(fields)        SLICE_INIT("POST / HTTP/1.1" CRLF HOST fields CRLF)
#define BODY(fields, body)    SLICE_INIT("POST / HTTP/1.1" CRLF HOST fields CRLF CRLF body)
#define TARGET(target)        SLICE_INIT("GET " target " HTTP/1.1" CRLF HOST CRLF)
#define HOST_IS(value)        SLICE_INIT("GET / HTTP/1.1" CRLF "Host: " value CRLF CRLF)
#define CHUNKS(body)                                                                               \
    SLICE_INIT("POST / HTTP/1.1" CRLF HOST "Transfer-Encoding: chunked" CRLF CRLF body)
#define CHUNKED "POST / host=h keep chunked "

MAYBE_UNUSED static void check_cut(const struct trace_setup *setup, struct slice input,
                                   struct trace_cut cut, const char *expect) {
    struct buf trace CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
    CHECK_INT(trace_http(setup, input, cut, &trace), 0);
    struct slice got = buf_slice(&trace);
    CHECK_STR(got, expect);
}

MAYBE_UNUSED static void check_row(const struct trace_setup *setup, const struct row *row) {
    test_row(row->name);
    check_cut(setup, row->input, (struct trace_cut){.step = 0}, row->expect);
    check_cut(setup, row->input, (struct trace_cut){.step = 1}, row->expect);
    check_cut(setup, row->input, (struct trace_cut){.step = 3}, row->expect);
    for (size_t i = 1; i < row->input.len; i++)
        check_cut(setup, row->input, (struct trace_cut){.first = i}, row->expect);
}

MAYBE_UNUSED static void check_rows(const struct row *rows, size_t n) {
    const struct trace_setup setup = {.role = HTTP_REQUESTS};
    for (size_t i = 0; i < n; i++)
        check_row(&setup, &rows[i]);
}
#define CHECK_ROWS(rows) check_rows(rows, ARRAY_LEN(rows))
