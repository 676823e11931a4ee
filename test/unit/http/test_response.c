/* Responses of upstreams: the rules that differ from those of requests, fed whole, byte by byte,
 * and cut at every place. */
#include "test.h"
#include "trace.h"

struct row {
    const char *name;
    struct slice input;
    const char *expect;
};

#define CRLF                   "\r\n"
#define RESPONSE(line, fields) SLICE_INIT(line CRLF fields CRLF)
#define EMPTY                  "Content-Length: 0\r\n"

static void check_cut(const struct row *row, bool no_body, struct trace_cut cut) {
    const struct trace_setup setup = {.role = HTTP_RESPONSES, .no_body = no_body};
    struct buf trace CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
    CHECK_INT(trace_http(&setup, row->input, cut, &trace), 0);
    struct slice got = buf_slice(&trace);
    CHECK_STR(got, row->expect);
}

/* `no_body`: they answer HEAD. */
static void check_rows(const struct row *rows, size_t n, bool no_body) {
    for (size_t i = 0; i < n; i++) {
        test_row(rows[i].name);
        check_cut(&rows[i], no_body, (struct trace_cut){.step = 0});
        check_cut(&rows[i], no_body, (struct trace_cut){.step = 1});
        for (size_t cut = 1; cut < rows[i].input.len; cut++)
            check_cut(&rows[i], no_body, (struct trace_cut){.first = cut});
    }
}
#define CHECK_ROWS(rows) check_rows(rows, ARRAY_LEN(rows), false)

static void test_status_line(void) {
    static const struct row rows[] = {
        {"plain", RESPONSE("HTTP/1.1 200 OK", EMPTY), "200 OK keep length=0 ."},
        {"empty reason", RESPONSE("HTTP/1.1 200 ", EMPTY), "200 keep length=0 ."},
        {"no reason and no space", RESPONSE("HTTP/1.1 200", EMPTY), "200 keep length=0 ."},
        {"reason of several words", RESPONSE("HTTP/1.1 404 Not  here\tat all", EMPTY),
         "404 Not  here\tat all keep length=0 ."},
        {"1.0", RESPONSE("HTTP/1.0 200 OK", EMPTY), "200 OK 1.0 close length=0 ."},
        {"1.0 keep-alive", RESPONSE("HTTP/1.0 200 OK", "Connection: keep-alive" CRLF EMPTY),
         "200 OK 1.0 keep length=0 ."},
        {"close", RESPONSE("HTTP/1.1 200 OK", "Connection: close" CRLF EMPTY),
         "200 OK close length=0 ."},
        {"599", RESPONSE("HTTP/1.1 599 x", EMPTY), "599 x keep length=0 ."},
        {"600", RESPONSE("HTTP/1.1 600 x", EMPTY),
         "! 502 the status is not a number from 100 to 599"},
        {"099", RESPONSE("HTTP/1.1 099 x", EMPTY),
         "! 502 the status is not a number from 100 to 599"},
        {"two digits", RESPONSE("HTTP/1.1 20 x", EMPTY),
         "! 502 the status is not a number from 100 to 599"},
        {"four digits", RESPONSE("HTTP/1.1 2000 x", EMPTY),
         "! 502 the status is not a number from 100 to 599"},
        {"sign", RESPONSE("HTTP/1.1 +20 x", EMPTY),
         "! 502 the status is not a number from 100 to 599"},
        {"letters", RESPONSE("HTTP/1.1 2OO x", EMPTY),
         "! 502 the status is not a number from 100 to 599"},
        {"two spaces", RESPONSE("HTTP/1.1  200 OK", EMPTY),
         "! 502 the status is not a number from 100 to 599"},
        {"tab", RESPONSE("HTTP/1.1\t200 OK", EMPTY), "! 502 the version is not valid"},
        {"tab behind the status", RESPONSE("HTTP/1.1 200\tOK", EMPTY),
         "! 502 the status is not a number from 100 to 599"},
        {"no status", RESPONSE("HTTP/1.1", EMPTY),
         "! 502 the status is not a number from 100 to 599"},
        {"small letters", RESPONSE("http/1.1 200 OK", EMPTY), "! 502 the version is not valid"},
        {"2.0", RESPONSE("HTTP/2.0 200 OK", EMPTY),
         "! 502 the version is neither HTTP/1.0 nor HTTP/1.1"},
        {"1.2", RESPONSE("HTTP/1.2 200 OK", EMPTY),
         "! 502 the version is neither HTTP/1.0 nor HTTP/1.1"},
        {"ICY", RESPONSE("ICY 200 OK", EMPTY), "! 502 the version is not valid"},
        {"control in the reason", RESPONSE("HTTP/1.1 200 O\x01K", EMPTY),
         "! 502 the reason has a byte that is not allowed"},
        {"0x80 in the reason", RESPONSE("HTTP/1.1 200 O\x80K", EMPTY),
         "! 502 the reason has a byte that is not allowed"},
        {"bare CR in the reason", RESPONSE("HTTP/1.1 200 O\rK", EMPTY),
         "! 502 the reason has a byte that is not allowed"},
        {"bare LF", SLICE_INIT("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
         "! 502 a line ends with LF alone"},
        {"leading CRLF", SLICE_INIT("\r\nHTTP/1.1 200 OK\r\n\r\n"),
         "! 502 the start line does not begin with a word"},
        {"a request", SLICE_INIT("GET / HTTP/1.1\r\n\r\n"), "! 502 the version is not valid"},
        {"field with 0x80", RESPONSE("HTTP/1.1 200 OK", "A: \x80" CRLF),
         "! 502 a field value has a byte that is not allowed"},
        {"field folded", RESPONSE("HTTP/1.1 200 OK", "A: b" CRLF " c" CRLF),
         "! 502 a header field is folded"},
        {"Host, Expect and gzip mean nothing",
         RESPONSE("HTTP/1.1 200 OK", "Host: a b" CRLF "Host: c" CRLF "Expect: x" CRLF
                                     "Content-Encoding: gzip" CRLF EMPTY),
         "200 OK keep length=0 ."},
        {"Connection lists what it likes",
         RESPONSE("HTTP/1.1 200 OK", "Connection: Transfer-Encoding" CRLF EMPTY),
         "200 OK keep length=0 ."},
        {"Connection no list", RESPONSE("HTTP/1.1 200 OK", "Connection: a b" CRLF EMPTY),
         "! 502 Connection is not a list of words"},
        {"two",
         SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 "
                    "No\r\nContent-Length: 0\r\n\r\n"),
         "200 OK keep length=1 <a> . 404 No keep length=0 ."},
        {"cut in the head", SLICE_INIT("HTTP/1.1 200 OK\r\n"), "~"},
    };
    CHECK_ROWS(rows);
}

#define LENGTH(n, body) SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: " n "\r\n\r\n" body)
#define CHUNKS(body)    SLICE_INIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" body)
#define CONTINUE        "HTTP/1.1 100 Continue\r\n\r\n"
#define HINTS           "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
#define FINAL           "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

static void test_bodies(void) {
    static const struct row rows[] = {
        {"length", LENGTH("5", "hello"), "200 OK keep length=5 <hello> ."},
        {"length cut short", LENGTH("5", "hel"), "200 OK keep length=5 <hel> ~"},
        {"chunks", CHUNKS("5\r\nhello\r\n0\r\nX: y\r\n\r\n"), "200 OK keep chunked <hello> ."},
        {"chunks cut short", CHUNKS("5\r\nhello\r\n"), "200 OK keep chunked <hello> ~"},
        {"bad chunk", CHUNKS("x\r\n"),
         "200 OK keep chunked ! 502 the chunk size is not 1 to 16 hexadecimal digits"},
        {"forbidden trailer", CHUNKS("0\r\nSet-Cookie: a\r\n\r\n"),
         "200 OK keep chunked ! 502 a trailer has a name that is for the head only"},
        {"until close", RESPONSE("HTTP/1.1 200 OK", ""), "200 OK close until-close ."},
        {"until close, with bytes", SLICE_INIT("HTTP/1.1 200 OK\r\n\r\nhello"),
         "200 OK close until-close <hello> ."},
        {"until close, keep-alive",
         SLICE_INIT("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello"),
         "200 OK 1.0 close until-close <hello> ."},
        {"length and coding",
         RESPONSE("HTTP/1.1 200 OK", "Content-Length: 5" CRLF "Transfer-Encoding: chunked" CRLF),
         "! 502 both Content-Length and Transfer-Encoding"},
        {"two lengths", RESPONSE("HTTP/1.1 200 OK", EMPTY EMPTY),
         "! 502 there is more than one Content-Length"},
        {"gzip, chunked", RESPONSE("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked" CRLF),
         "! 502 Transfer-Encoding is not chunked"},
        {"coding in 1.0", RESPONSE("HTTP/1.0 200 OK", "Transfer-Encoding: chunked" CRLF),
         "! 502 Transfer-Encoding in HTTP/1.0"},
        {"10 MiB", RESPONSE("HTTP/1.1 200 OK", "Content-Length: 10485760" CRLF),
         "200 OK keep length=10485760 ~"},
        {"10 MiB and one", RESPONSE("HTTP/1.1 200 OK", "Content-Length: 10485761" CRLF),
         "! 502 the body is longer than the limit"},
        {"204", RESPONSE("HTTP/1.1 204 No", ""), "204 No keep ."},
        {"204 with length 0", RESPONSE("HTTP/1.1 204 No", EMPTY), "204 No keep ."},
        {"204 with a length", RESPONSE("HTTP/1.1 204 No", "Content-Length: 1" CRLF),
         "! 502 a response that has no body announces one"},
        {"204 with a coding", RESPONSE("HTTP/1.1 204 No", "Transfer-Encoding: chunked" CRLF),
         "! 502 a response that has no body announces one"},
        {"bytes behind 204", SLICE_INIT("HTTP/1.1 204 No\r\n\r\nx y z\r\n"),
         "204 No keep . ! 502 the version is not valid"},
        {"304", RESPONSE("HTTP/1.1 304 Not", ""), "304 Not keep ."},
        {"304 says the length of another",
         RESPONSE("HTTP/1.1 304 Not", "Content-Length: 1000" CRLF), "304 Not keep ."},
        {"304 with a coding", RESPONSE("HTTP/1.1 304 Not", "Transfer-Encoding: chunked" CRLF),
         "304 Not keep ."},
        {"304 with both", RESPONSE("HTTP/1.1 304 Not", EMPTY "Transfer-Encoding: chunked" CRLF),
         "! 502 both Content-Length and Transfer-Encoding"},
    };
    CHECK_ROWS(rows);
}

static void test_interim(void) {
    static const struct row rows[] = {
        {"100", SLICE_INIT(CONTINUE FINAL), "200 OK keep length=0 ."},
        {"eight", SLICE_INIT(CONTINUE CONTINUE CONTINUE CONTINUE HINTS HINTS HINTS HINTS FINAL),
         "200 OK keep length=0 ."},
        {"nine",
         SLICE_INIT(CONTINUE CONTINUE CONTINUE CONTINUE HINTS HINTS HINTS HINTS CONTINUE FINAL),
         "! 502 there are more interim responses than the limit"},
        {"eight, twice",
         SLICE_INIT(CONTINUE CONTINUE CONTINUE CONTINUE HINTS HINTS HINTS HINTS FINAL CONTINUE
                        CONTINUE CONTINUE CONTINUE HINTS HINTS HINTS HINTS FINAL),
         "200 OK keep length=0 . 200 OK keep length=0 ."},
        {"closed behind", SLICE_INIT(CONTINUE), "~"},
        {"101", SLICE_INIT("HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n"),
         "! 502 the response switches protocols"},
        {"with a length",
         SLICE_INIT("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" FINAL),
         "! 502 a response that has no body announces one"},
        {"with a coding",
         SLICE_INIT("HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" FINAL),
         "! 502 a response that has no body announces one"},
        {"close in it means nothing",
         SLICE_INIT("HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" FINAL),
         "200 OK keep length=0 ."},
    };
    CHECK_ROWS(rows);
}

static void test_answers_to_head(void) {
    static const struct row rows[] = {
        {"HEAD", LENGTH("5", ""), "200 OK keep ."},
        {"HEAD, large", LENGTH("99999999999", ""), "200 OK keep ."},
        {"HEAD, chunked", CHUNKS(""), "200 OK keep ."},
        {"HEAD, until close", RESPONSE("HTTP/1.1 200 OK", ""), "200 OK keep ."},
        {"HEAD twice",
         SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 "
                    "OK\r\nContent-Length: 6\r\n\r\n"),
         "200 OK keep . 200 OK keep ."},
        {"103 before HEAD's", SLICE_INIT(HINTS FINAL), "200 OK keep ."},
    };
    check_rows(rows, ARRAY_LEN(rows), true);
}

/* A body until close ends at the limit. */
static void test_limit_until_close(void) {
    const struct trace_setup setup = {.role = HTTP_RESPONSES, .limits = {.max_body = 3}};
    static const struct {
        struct slice input;
        const char *expect;
    } rows[] = {
        {SLICE_INIT("HTTP/1.1 200 OK\r\n\r\nabc"), "200 OK close until-close <abc> ."},
        {SLICE_INIT("HTTP/1.1 200 OK\r\n\r\nabcd"),
         "200 OK close until-close <abc> ! 502 the body is longer than the limit"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t step = 0; step < 8; step++) {
            struct buf trace CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
            CHECK_INT(trace_http(&setup, rows[i].input, (struct trace_cut){.step = step}, &trace),
                      0);
            CHECK_STR(buf_slice(&trace), rows[i].expect);
        }
    }
}

/* Whether a message is open says whether a timeout cuts one short: an interim response opens it. */
static void test_in_message(void) {
    struct http_parser *parser CLEANUP(http_parser_freep) = NULL;
    enum http_event event;
    struct slice data;
    size_t consumed;
    REQUIRE(http_parser_new(HTTP_RESPONSES, NULL, &parser) == 0);
    CHECK_INT(http_parser_eof(parser), HTTP_NEED_MORE);
    REQUIRE(http_parser_feed(parser, SLICE(CONTINUE), &consumed, &event, &data) == 0);
    CHECK_INT(event, HTTP_NEED_MORE);
    CHECK(http_parser_in_message(parser));
    REQUIRE(http_parser_feed(parser, SLICE("HTTP/1.1 200 OK\r\n\r\n"), &consumed, &event, &data) ==
            0);
    CHECK_INT(event, HTTP_HEAD);
    CHECK_INT(http_parser_head(parser)->n_fields, 0);
    CHECK_INT(http_parser_eof(parser), HTTP_END);
    CHECK(!http_parser_in_message(parser));
    http_parser_next(parser);
    REQUIRE(http_parser_feed(parser, SLICE("HTTP/1.1 200"), &consumed, &event, &data) == 0);
    CHECK_INT(http_parser_eof(parser), HTTP_REFUSED);
    CHECK_INT(http_parser_refusal(parser).status, 502);
    CHECK_STR(slice_from_cstr(http_parser_refusal(parser).reason),
              "the connection was closed in the midst of a message");
}

static void run_without_memory(void *arg) {
    const struct trace_setup *setup = arg;
    struct buf trace CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
    int r = trace_http(
        setup,
        SLICE(CONTINUE
              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n"),
        (struct trace_cut){.step = 5}, &trace);
    CHECK(r == 0 || r == -ENOMEM);
}

static void test_without_memory(void) {
    struct trace_setup setup = {.role = HTTP_RESPONSES};
    test_torture(run_without_memory, &setup);
}

TEST_MAIN(TEST(test_status_line), TEST(test_bodies), TEST(test_interim), TEST(test_answers_to_head),
          TEST(test_limit_until_close), TEST(test_in_message), TEST(test_without_memory))
