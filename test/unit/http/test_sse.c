/* Server-sent events: the standard's quirks, each fed whole, byte by byte and cut at every place.
 */
#include <time.h>

#include "test.h"
#include "trace.h"

#define BOM "\xef\xbb\xbf"

static void check_stream(const char *name, size_t max_event, struct slice input,
                         const char *expect) {
    test_row(name);
    for (size_t i = 0; i < input.len + 2; i++) {
        struct trace_cut cut = {.step = 1};
        if (i < input.len)
            cut = (struct trace_cut){.first = i};
        else if (i == input.len)
            cut = (struct trace_cut){.step = 2};
        struct buf trace CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
        CHECK_INT(trace_sse(max_event, input, cut, &trace), 0);
        struct slice got = buf_slice(&trace);
        CHECK_STR(got, expect);
    }
}

static void test_streams(void) {
    static const struct {
        const char *name;
        struct slice input;
        const char *expect;
    } rows[] = {
        {"one event", SLICE_INIT("data: a\n\n"), "[|a|]"},
        {"CRLF", SLICE_INIT("data: a\r\n\r\n"), "[|a|]"},
        {"CR", SLICE_INIT("data: a\r\r"), "[|a|]"},
        {"mixed ends", SLICE_INIT("data: a\rdata: b\r\ndata: c\n\r\ndata: d\n\r"),
         "[|a\nb\nc|][|d|]"},
        {"LF CR are two ends", SLICE_INIT("data: a\n\rdata: b\r\n\r\n"), "[|a|][|b|]"},
        {"several lines", SLICE_INIT("data: a\ndata\ndata:\ndata: b\n\n"), "[|a\n\n\nb|]"},
        {"no space behind the colon", SLICE_INIT("data:a\n\n"), "[|a|]"},
        {"one space goes", SLICE_INIT("data:  a \n\n"), "[| a |]"},
        {"a tab stays", SLICE_INIT("data:\ta\n\n"), "[|\ta|]"},
        {"data without colon", SLICE_INIT("data\n\n"), "[||]"},
        {"data without colon twice", SLICE_INIT("data\ndata\n\n"), "[|\n|]"},
        {"empty data", SLICE_INIT("data:\n\n"), "[||]"},
        {"colon in the data", SLICE_INIT("data: a: b:c\n\n"), "[|a: b:c|]"},
        {"type", SLICE_INIT("event: message\ndata: a\n\n"), "[message|a|]"},
        {"last type counts", SLICE_INIT("event: x\nevent: y\ndata: a\n\n"), "[y|a|]"},
        {"type can be taken back", SLICE_INIT("event: x\nevent\ndata: a\n\n"), "[|a|]"},
        {"type is of one event", SLICE_INIT("event: x\ndata: a\n\ndata: b\n\n"), "[x|a|][|b|]"},
        {"type alone is no event", SLICE_INIT("event: x\n\ndata: b\n\n"), "[|b|]"},
        {"id", SLICE_INIT("id: 1\ndata: a\n\n"), "[|a|1!]"},
        {"id stays", SLICE_INIT("id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\ndata: d\n\n"),
         "[|a|1!][|b|1][|c|!][|d|]"},
        {"id alone is reported", SLICE_INIT("id: 7\n\ndata: a\n\n"), "[||7!][|a|7]"},
        {"id and empty data", SLICE_INIT("id: 7\ndata:\n\n"), "[||7!]"},
        {"id with NUL is ignored", SLICE_INIT("id: 1\n\nid: 2\0\ndata: a\n\n"), "[||1!][|a|1]"},
        {"id before a NUL one stays", SLICE_INIT("id: 1\nid: 2\0\ndata: a\n\n"), "[|a|1!]"},
        {"NUL in the data", SLICE_INIT("data: a\n\n"), "[|a|]"},
        {"retry", SLICE_INIT("retry: 1500\n\n"), "[|||1500]"},
        {"retry with data", SLICE_INIT("retry: 0\ndata: a\n\n"), "[|a||0]"},
        {"retry is of one event", SLICE_INIT("retry: 5\n\ndata: a\n\n"), "[|||5][|a|]"},
        {"retry of letters", SLICE_INIT("retry: 15s\n\n"), ""},
        {"retry empty", SLICE_INIT("retry\n\nretry:\n\n"), ""},
        {"retry signed", SLICE_INIT("retry: -1\n\nretry: +1\n\n"), ""},
        {"retry with a space", SLICE_INIT("retry:  1\n\n"), ""},
        {"retry at most", SLICE_INIT("retry: 18446744073709551615\n\n"),
         "[|||18446744073709551615]"},
        {"retry too large", SLICE_INIT("retry: 18446744073709551616\n\n"), ""},
        {"bad retry leaves the good one", SLICE_INIT("retry: 5\nretry: x\n\n"), "[|||5]"},
        {"comments", SLICE_INIT(": hi\n:\n::\ndata: a\n: in between\ndata: b\n\n"),
         ":::"
         ":"
         "[|a\nb|]"},
        {"unknown fields",
         SLICE_INIT("datax: 1\ndat: 2\nDATA: 3\n data: 4\nfoo\nretry2: 5\ndata : 6\n\n"), ""},
        {"long unknown name", SLICE_INIT("a-field-with-a-very-long-name: 1\ndata: a\n\n"), "[|a|]"},
        {"blank lines", SLICE_INIT("\n\n\r\n\rdata: a\n\n\n\n"), "[|a|]"},
        {"no blank line at the end", SLICE_INIT("data: a\n\ndata: b\n"), "[|a|]"},
        {"no line end", SLICE_INIT("data: a"), ""},
        {"mark", SLICE_INIT(BOM "data: a\n\n"), "[|a|]"},
        {"mark and blank line", SLICE_INIT(BOM "\ndata: a\n\n"), "[|a|]"},
        {"two marks: the second makes the name another", SLICE_INIT(BOM BOM "data: a\n\n"), ""},
        {"mark later", SLICE_INIT("data: a\n\n" BOM "data: b\n\n"), "[|a|]"},
        {"mark in the data", SLICE_INIT("data: " BOM "\n\n"), "[|" BOM "|]"},
        {"begins like a mark, is another character", SLICE_INIT("\xef\xbb\xbe: 1\ndata: a\n\n"),
         "[|a|]"},
        {"begins like a mark, ends with a line", SLICE_INIT("\xef\xbb\ndata: a\n\n"), "!"},
        {"begins like a mark, is ASCII",
         SLICE_INIT("\xef"
                    "data: a\n\n"),
         "!"},
        {"nothing but a mark", SLICE_INIT(BOM), ""},
        {"UTF-8", SLICE_INIT("data: \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\n\n"),
         "[|\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80|]"},
        {"lone continuation", SLICE_INIT("data: a\n\ndata: \x80\n\n"), "[|a|]!"},
        {"overlong", SLICE_INIT("data: \xc0\xaf\n\n"), "!"},
        {"overlong, three bytes", SLICE_INIT("data: \xe0\x80\xaf\n\n"), "!"},
        {"overlong, four bytes", SLICE_INIT("data: \xf0\x80\x80\xaf\n\n"), "!"},
        {"surrogate", SLICE_INIT("data: \xed\xa0\x80\n\n"), "!"},
        {"past U+10FFFF", SLICE_INIT("data: \xf4\x90\x80\x80\n\n"), "!"},
        {"0xff", SLICE_INIT("data: \xff\n\n"), "!"},
        {"sequence cut by the line", SLICE_INIT("data: \xe2\x82\ndata: \xac\n\n"), "!"},
        {"sequence cut by CR", SLICE_INIT("data: \xe2\x82\r\ndata: \xac\n\n"), "!"},
        {"bad in a comment", SLICE_INIT(": \xff\ndata: a\n\n"), "!"},
        {"bad in an unknown field", SLICE_INIT("x: \xff\ndata: a\n\n"), "!"},
        {"bad in a name", SLICE_INIT("\xff: a\n\n"), "!"},
        {"two messages in one event", SLICE_INIT("data: {\"a\":1}\ndata: {\"b\":2}\n\n"),
         "[|{\"a\":1}\n{\"b\":2}|]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_stream(rows[i].name, 64, rows[i].input, rows[i].expect);
}

static void test_limits(void) {
    static const struct {
        const char *name;
        struct slice input;
        const char *expect;
    } rows[] = {
        {"data at", SLICE_INIT("data: 12345678\n\n"), "[|12345678|]"},
        {"data past", SLICE_INIT("data: 123456789\n\n"), "!"},
        {"lines at", SLICE_INIT("data: 123\ndata: 4567\n\n"), "[|123\n4567|]"},
        {"lines past", SLICE_INIT("data: 123\ndata: 45678\n\n"), "!"},
        {"the LF between is past", SLICE_INIT("data: 12345678\ndata\n\n"), "!"},
        {"empty lines past",
         SLICE_INIT("data\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\n\n"), "!"},
        {"each event anew", SLICE_INIT("data: 12345678\n\ndata: 12345678\n\n"),
         "[|12345678|][|12345678|]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_stream(rows[i].name, 8, rows[i].input, rows[i].expect);
}

static void test_limit_of_line(void) {
    static const char *const begins[] = {": ", "x", "id: ", "event: ", "retry: "};
    for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
        for (size_t past = 0; past <= 1; past++) {
            struct buf input CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
            buf_append_cstr(&input, begins[i]);
            while (buf_len(&input) < 8 + LIMIT_SSE_LINE_OVERHEAD + past)
                buf_append_byte(&input, '1');
            buf_append_cstr(&input, "\n\n");
            test_row(begins[i]);
            for (size_t step = 0; step <= 1; step++) {
                struct buf trace CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
                CHECK_INT(trace_sse(8, buf_slice(&input), (struct trace_cut){.step = step}, &trace),
                          0);
                CHECK_INT(slice_ends_with(buf_slice(&trace), SLICE("!")), past);
            }
        }
    }
}

static void test_refusal(void) {
    struct sse_parser *parser CLEANUP(sse_parser_freep) = NULL;
    struct sse_event event;
    enum sse_result result;
    size_t consumed;
    REQUIRE(sse_parser_new(SIZE_MAX, &parser) == 0);
    CHECK_STR(slice_from_cstr(sse_parser_reason(parser)), "");
    REQUIRE(sse_parser_feed(parser, SLICE("\xff"), &consumed, &result, &event) == 0);
    CHECK_INT(result, SSE_REFUSED);
    CHECK_STR(slice_from_cstr(sse_parser_reason(parser)), "the stream is not valid UTF-8");
    REQUIRE(sse_parser_feed(parser, SLICE("data: a\n\n"), &consumed, &result, &event) == 0);
    CHECK_INT(result, SSE_REFUSED);
    CHECK_INT(consumed, 0);
    CHECK(sse_parser_free(NULL) == NULL);
}

static void test_write(void) {
    static const struct {
        struct slice type, id, data;
        int result;
        const char *expect;
    } rows[] = {
        {SLICE_INIT(""), SLICE_INIT(""), SLICE_INIT("a"), 0, "data: a\n\n"},
        {SLICE_INIT("message"), SLICE_INIT("1"), SLICE_INIT("a"), 0,
         "event: message\nid: 1\ndata: a\n\n"},
        {SLICE_INIT(""), SLICE_INIT("1"), SLICE_INIT(""), 0, "id: 1\ndata: \n\n"},
        {SLICE_INIT(""), SLICE_INIT(""), SLICE_INIT("a\n\nb\n"), 0,
         "data: a\ndata: \ndata: b\ndata: \n\n"},
        {SLICE_INIT(""), SLICE_INIT(""), SLICE_INIT("a\rb"), -EINVAL, ""},
        {SLICE_INIT("a\nb"), SLICE_INIT(""), SLICE_INIT("a"), -EINVAL, ""},
        {SLICE_INIT("a\r"), SLICE_INIT(""), SLICE_INIT("a"), -EINVAL, ""},
        {SLICE_INIT("a\0"), SLICE_INIT(""), SLICE_INIT("a"), -EINVAL, ""},
        {SLICE_INIT(""), SLICE_INIT("1\ndata: evil"), SLICE_INIT("a"), -EINVAL, ""},
        {SLICE_INIT(""), SLICE_INIT("1\r"), SLICE_INIT("a"), -EINVAL, ""},
        {SLICE_INIT(""), SLICE_INIT("\0"), SLICE_INIT("a"), -EINVAL, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(256);
        CHECK_INT(sse_write_event(&out, rows[i].type, rows[i].id, rows[i].data), rows[i].result);
        CHECK_STR(buf_slice(&out), rows[i].expect);
    }
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(256), trace CLEANUP(buf_deinit) = BUF_INIT(256);
    CHECK_INT(sse_write_comment(&out, SLICE("alive")), 0);
    CHECK_STR(buf_slice(&out), ": alive\n\n");
    CHECK_INT(sse_write_comment(&out, SLICE("a\nb")), -EINVAL);
    CHECK_INT(sse_write_comment(&out, SLICE("a\rb")), -EINVAL);
    CHECK_INT(sse_write_event(&out, SLICE("t"), SLICE("i"), SLICE(" a\n\n:b")), 0);
    CHECK_INT(trace_sse(256, buf_slice(&out), (struct trace_cut){.step = 1}, &trace), 0);
    CHECK_STR(buf_slice(&trace), ":[t| a\n\n:b|i!]");
}

static void run_without_memory(void *arg) {
    (void)arg;
    struct buf trace CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
    int r =
        trace_sse(1000, SLICE("event: x\nid: 1\ndata: a\ndata: b\nretry: 5\n\nid: 2\ndata: c\n\n"),
                  (struct trace_cut){.step = 3}, &trace);
    CHECK(r == 0 || r == -ENOMEM);
}

static void test_without_memory(void) {
    test_torture(run_without_memory, NULL);
}

static uint64_t time_stream(size_t size, const char *piece, size_t step) {
    uint64_t best = UINT64_MAX;
    struct buf input CLEANUP(buf_deinit) = BUF_INIT(MIB(32)),
                     trace CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
    while (buf_len(&input) < size)
        buf_append_cstr(&input, piece);
    for (int run = 0; run < 3; run++) {
        struct timespec start, end;
        buf_reset(&trace, SIZE_MAX);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
        if (trace_sse(MIB(32), buf_slice(&input), (struct trace_cut){.step = step}, &trace) != 0)
            return 0;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        uint64_t took = (uint64_t)(end.tv_sec - start.tv_sec) * 1000000000u +
                        (uint64_t)end.tv_nsec - (uint64_t)start.tv_nsec;
        best = took < best ? took : best;
    }
    return best;
}

/* Sixteen times the bytes cost about sixteen times the work, also where each line ends with CR
 * alone. */
static void test_cost_is_linear(void) {
    static const struct {
        const char *piece;
        size_t step;
    } rows[] = {{"data: a\r", 0}, {"x", 1}, {"data: a\n\n", 0}, {"data: a\n", 1}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t small = time_stream(KIB(16), rows[i].piece, rows[i].step);
        uint64_t large = time_stream(KIB(256), rows[i].piece, rows[i].step);
        test_row(rows[i].piece);
        CHECK(small > 0);
        CHECK(large < 64 * small);
    }
}

TEST_MAIN(TEST(test_streams), TEST(test_limits), TEST(test_limit_of_line), TEST(test_refusal),
          TEST(test_write), TEST(test_without_memory), TEST(test_cost_is_linear))
