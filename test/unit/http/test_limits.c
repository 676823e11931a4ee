/* What a peer may grow, and what it may cost: each limit, lack of memory, work for each byte. */
#include <time.h>

#include "rows.h"

/* Limits: a message at the limit and one past it. */

static void append_n(struct buf *out, char byte, size_t n) {
    for (size_t i = 0; i < n; i++)
        buf_append_byte(out, byte);
}

static void check_limit(const struct trace_setup *setup, const struct buf *input,
                        const char *expect) {
    check_cut(setup, buf_slice(input), (struct trace_cut){.step = 0}, expect);
    check_cut(setup, buf_slice(input), (struct trace_cut){.step = 1}, expect);
    check_cut(setup, buf_slice(input), (struct trace_cut){.step = 1000}, expect);
    for (size_t i = 1; i <= 4 && i < buf_len(input); i++)
        check_cut(setup, buf_slice(input), (struct trace_cut){.first = buf_len(input) - i}, expect);
}

/* The trace must not name the long target: a method that has no path does not. */
static void test_limit_of_start_line(void) {
    for (size_t past = 0; past <= 1; past++) {
        struct buf input CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        const struct trace_setup setup = {.role = HTTP_REQUESTS};
        buf_append_cstr(&input, "GET http://h/?");
        append_n(&input, 'a', LIMIT_HTTP_START_LINE + past - buf_len(&input) - 9);
        buf_append_cstr(&input, " HTTP/1.1");
        CHECK_INT(buf_len(&input), LIMIT_HTTP_START_LINE + past);
        buf_append_cstr(&input, "\r\n\r\n");
        test_row(past ? "past" : "at");
        check_limit(&setup, &input,
                    past ? "! 414 the start line is longer than the limit"
                         : "! 400 Host is missing");
    }
    test_row("a line without end");
    struct buf input CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    const struct trace_setup setup = {.role = HTTP_REQUESTS};
    append_n(&input, 'A', LIMIT_HTTP_START_LINE + 2);
    check_limit(&setup, &input, "! 414 the start line is longer than the limit");
}

static void test_limit_of_field_line(void) {
    for (size_t past = 0; past <= 1; past++) {
        struct buf input CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        const struct trace_setup setup = {.role = HTTP_REQUESTS};
        buf_append_cstr(&input, "GET / HTTP/1.1\r\nHost: h\r\nA:");
        append_n(&input, 'a', LIMIT_HTTP_FIELD_LINE + past - 2);
        buf_append_cstr(&input, "\r\n\r\n");
        test_row(past ? "past" : "at");
        check_limit(&setup, &input,
                    past ? "! 431 a header field is longer than the limit" : "GET / host=h keep .");
    }
}

static void test_limit_of_head(void) {
    for (size_t past = 0; past <= 1; past++) {
        struct buf input CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        const struct trace_setup setup = {.role = HTTP_REQUESTS};
        buf_append_cstr(&input, "GET / HTTP/1.1\r\nHost: h\r\nA:");
        append_n(&input, 'a', KIB(15));
        buf_append_cstr(&input, "\r\nB:");
        append_n(&input, 'b', KIB(15));
        buf_append_cstr(&input, "\r\nC:");
        append_n(&input, 'b', LIMIT_HTTP_HEADER_BLOCK + past - buf_len(&input) - 4);
        buf_append_cstr(&input, "\r\n\r\n");
        CHECK_INT(buf_len(&input), LIMIT_HTTP_HEADER_BLOCK + past);
        test_row(past ? "past" : "at");
        check_limit(&setup, &input,
                    past ? "! 431 the head is longer than the limit" : "GET / host=h keep .");
        /* The next head has the same room again. */
        test_row("twice");
        struct slice again = buf_slice(&input);
        struct buf twice CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        buf_append(&twice, again);
        buf_append(&twice, again);
        if (!past)
            check_limit(&setup, &twice, "GET / host=h keep . GET / host=h keep .");
    }
}

static void test_limit_of_fields(void) {
    for (size_t past = 0; past <= 1; past++) {
        struct buf input CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        const struct trace_setup setup = {.role = HTTP_REQUESTS};
        buf_append_cstr(&input, "GET / HTTP/1.1\r\nHost: h\r\n");
        for (size_t i = 1; i < LIMIT_HTTP_FIELDS + past; i++)
            buf_append_cstr(&input, "A: b\r\n");
        buf_append_cstr(&input, "\r\n");
        test_row(past ? "past" : "at");
        check_limit(&setup, &input,
                    past ? "! 431 there are more header fields than the limit"
                         : "GET / host=h keep .");
    }
}

static void test_limits_that_were_given(void) {
    static const struct {
        const char *name;
        struct http_limits limits;
        struct slice input;
        const char *expect;
    } rows[] = {
        {"line at",
         {.max_line = 14},
         SLICE_INIT("GET / HTTP/1.1\r\nHost: abcdefgh\r\n\r\n"),
         "GET / host=abcdefgh keep ."},
        {"start line past",
         {.max_line = 13},
         SLICE_INIT("GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
         "! 414 the start line is longer than the limit"},
        {"field line past",
         {.max_line = 14},
         SLICE_INIT("GET / HTTP/1.1\r\nHost: abcdefghi\r\n\r\n"),
         "! 431 a header field is longer than the limit"},
        {"head at",
         {.max_head = 27},
         SLICE_INIT("GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
         "GET / host=h keep ."},
        {"head past",
         {.max_head = 26},
         SLICE_INIT("GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
         "! 431 the head is longer than the limit"},
        {"fields at",
         {.max_fields = 2},
         SLICE_INIT("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n"),
         "GET / host=h keep ."},
        {"fields past",
         {.max_fields = 1},
         SLICE_INIT("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n"),
         "! 431 there are more header fields than the limit"},
        {"body at",
         {.max_body = 3},
         BODY("Content-Length: 3", "abc"),
         "POST / host=h keep length=3 <abc> ."},
        {"body past",
         {.max_body = 3},
         BODY("Content-Length: 4", "abcd"),
         "! 413 the body is longer than the limit"},
        {"chunks at", {.max_body = 3}, CHUNKS("2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"), CHUNKED "<abc> ."},
        {"chunks past",
         {.max_body = 3},
         CHUNKS("2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"),
         CHUNKED "<ab> ! 413 the body is longer than the limit"},
        {"no limit: the sum overflows",
         {.max_body = UINT64_MAX},
         CHUNKS("1\r\na\r\nffffffffffffffff\r\n"),
         CHUNKED "<a> ! 413 the body is longer than the limit"},
        {"no limit: 2^64-1",
         {.max_body = UINT64_MAX},
         BODY("Content-Length: 18446744073709551615", "a"),
         "POST / host=h keep length=18446744073709551615 <a> ~"},
        {"all limits are endless",
         {SIZE_MAX, SIZE_MAX, SIZE_MAX, UINT64_MAX},
         TARGET("/"),
         "GET / host=h keep ."},
        {"trailers past",
         {.max_fields = 2},
         CHUNKS("0\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n"),
         CHUNKED "! 431 there are more trailers than the limit"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct trace_setup setup = {.role = HTTP_REQUESTS, .limits = rows[i].limits};
        check_row(&setup, &(struct row){rows[i].name, rows[i].input, rows[i].expect});
    }
}

static void begin_chunked(struct buf *input) {
    buf_append_cstr(input, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void test_limits_of_chunk_lines(void) {
    const struct trace_setup setup = {.role = HTTP_REQUESTS};
    for (size_t past = 0; past <= 1; past++) {
        struct buf input CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        test_row(past ? "line past" : "line at");
        begin_chunked(&input);
        buf_append_cstr(&input, "2;");
        append_n(&input, 'a', LIMIT_HTTP_CHUNK_LINE + past - 2);
        buf_append_cstr(&input, "\r\nhi\r\n0\r\n\r\n");
        check_limit(&setup, &input,
                    past ? CHUNKED "! 400 a chunk line is longer than the limit"
                         : CHUNKED "<hi> .");

        struct buf many CLEANUP(buf_deinit) = BUF_INIT(MIB(1)),
                        expect CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(past ? "extensions past" : "extensions at");
        begin_chunked(&many);
        buf_append_cstr(&expect, CHUNKED "<");
        for (size_t sum = 0; sum < LIMIT_HTTP_CHUNK_EXTENSIONS; sum += 128) {
            buf_append_cstr(&many, "1;");
            append_n(&many, 'e', 127);
            buf_append_cstr(&many, "\r\nx\r\n");
            buf_append_byte(&expect, 'x');
        }
        buf_append_cstr(&many, past ? "0;e\r\n\r\n" : "0\r\n\r\n");
        buf_append_cstr(&expect,
                        past ? "> ! 413 there are more chunk extensions than the limit" : "> .");
        buf_append_byte(&expect, '\0');
        check_limit(&setup, &many, buf_slice(&expect).ptr);

        struct buf trailers CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        test_row(past ? "trailers past" : "trailers at");
        begin_chunked(&trailers);
        buf_append_cstr(&trailers, "0\r\nX:");
        append_n(&trailers, 'e', LIMIT_HTTP_TRAILERS + past - 6);
        buf_append_cstr(&trailers, "\r\n\r\n");
        check_limit(&setup, &trailers,
                    past ? CHUNKED "! 431 the trailer section is longer than the limit"
                         : CHUNKED ".");
    }
}

static void run_without_memory(void *arg) {
    const struct row *row = arg;
    struct buf trace CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
    const struct trace_setup setup = {.role = HTTP_REQUESTS};
    int r = trace_http(&setup, row->input, (struct trace_cut){.step = 7}, &trace);
    CHECK(r == 0 || r == -ENOMEM);
}

static void test_without_memory(void) {
    static struct row rows[] = {
        {"length", BODY("Content-Length: 5", "hello"), ""},
        {"chunked", CHUNKS("5;a=b\r\nhello\r\n0\r\nX-Trailer: something\r\n\r\n"), ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        test_torture(run_without_memory, &rows[i]);

    struct row large;
    struct buf input CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    buf_append_cstr(&input, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (size_t i = 0; i < 90; i++)
        buf_append_cstr(&input, "A-Field: with a value of some length\r\n");
    buf_append_cstr(&input, "\r\n");
    large = (struct row){"large", buf_slice(&input), ""};
    test_torture(run_without_memory, &large);
}

/* After -ENOMEM the parser is refused, and does not touch what it could not allocate. */
static void test_after_no_memory(void) {
    struct http_parser *parser CLEANUP(http_parser_freep) = NULL;
    size_t consumed = 77;
    enum http_event event = HTTP_DATA;
    struct slice data;
    REQUIRE(http_parser_new(HTTP_REQUESTS, NULL, &parser) == 0);
    mem_fail_after(1);
    CHECK_INT(http_parser_feed(parser, SLICE("GET / HTTP/1.0\r\n\r\n"), &consumed, &event, &data),
              -ENOMEM);
    mem_fail_after(0);
    CHECK_INT(consumed, 77);
    CHECK_INT(event, HTTP_DATA);
    CHECK_INT(http_parser_feed(parser, SLICE("GET / HTTP/1.0\r\n\r\n"), &consumed, &event, &data),
              0);
    CHECK_INT(event, HTTP_REFUSED);
}

static uint64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The least CPU time of three runs of feeding byte by byte. */
static uint64_t time_bytewise(struct slice input) {
    uint64_t best = UINT64_MAX;
    for (int run = 0; run < 3; run++) {
        struct http_parser *parser CLEANUP(http_parser_freep) = NULL;
        const struct http_limits limits = {
            .max_head = MIB(8), .max_line = MIB(8), .max_fields = 1000000};
        enum http_event event = HTTP_NEED_MORE;
        struct slice data;
        size_t consumed;
        if (http_parser_new(HTTP_REQUESTS, &limits, &parser) != 0)
            return 0;
        uint64_t start = cpu_ns();
        for (size_t i = 0; i < input.len && event == HTTP_NEED_MORE; i++) {
            if (http_parser_feed(parser, slice_make(input.ptr + i, 1), &consumed, &event, &data) !=
                0)
                return 0;
        }
        uint64_t took = cpu_ns() - start;
        best = took < best ? took : best;
    }
    return best;
}

/* Sixteen times the bytes cost about sixteen times the work; were lines searched again, 256 times.
 */
static void test_bytewise_cost_is_linear(void) {
    static const char *const pieces[] = {"a", "A: b\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct buf input CLEANUP(buf_deinit) = BUF_INIT(MIB(4));
        buf_append_cstr(&input, i == 0 ? "GET /" : "GET / HTTP/1.1\r\n");
        while (buf_len(&input) < KIB(512))
            buf_append_cstr(&input, pieces[i]);
        uint64_t small = time_bytewise(slice_sub(buf_slice(&input), 0, KIB(32)));
        uint64_t large = time_bytewise(buf_slice(&input));
        CHECK(small > 0);
        CHECK(large < 64 * small);
    }
}

/* Memory stays near what was sent: a first byte does not cost a whole head. */
static void test_first_byte_is_cheap(void) {
    struct http_parser *parser CLEANUP(http_parser_freep) = NULL;
    enum http_event event;
    struct slice data;
    size_t consumed;
    REQUIRE(http_parser_new(HTTP_REQUESTS, NULL, &parser) == 0);
    mem_fail_after(UINT64_MAX);
    for (int i = 0; i < 100; i++) {
        REQUIRE(http_parser_feed(parser,
                                 SLICE("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"),
                                 &consumed, &event, &data) == 0);
        CHECK_INT(event, HTTP_HEAD);
        REQUIRE(http_parser_feed(parser, SLICE("hi"), &consumed, &event, &data) == 0);
        REQUIRE(http_parser_feed(parser, SLICE_EMPTY, &consumed, &event, &data) == 0);
        CHECK_INT(event, HTTP_END);
        http_parser_next(parser);
    }
    CHECK_INT(mem_alloc_count(), 2); /* the head's text and its fields, once for all hundred */
    mem_fail_after(0);
}

TEST_MAIN(TEST(test_limit_of_start_line), TEST(test_limit_of_field_line), TEST(test_limit_of_head),
          TEST(test_limit_of_fields), TEST(test_limits_that_were_given),
          TEST(test_limits_of_chunk_lines), TEST(test_without_memory), TEST(test_after_no_memory),
          TEST(test_bytewise_cost_is_linear), TEST(test_first_byte_is_cheap))
