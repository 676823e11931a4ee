/* Writing, and questions about heads: lists, media types, Accept. */
#include "test.h"
#include "trace.h"

static void test_status(void) {
    static const struct {
        uint16_t status;
        int result;
        const char *expect;
    } rows[] = {
        {200, 0, "HTTP/1.1 200 OK\r\n"},
        {431, 0, "HTTP/1.1 431 Request Header Fields Too Large\r\n"},
        {299, 0, "HTTP/1.1 299 \r\n"},
        {999, 0, "HTTP/1.1 999 \r\n"},
        {99, -EINVAL, ""},
        {1000, -EINVAL, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(256);
        CHECK_INT(http_write_status(&out, rows[i].status), rows[i].result);
        CHECK_STR(buf_slice(&out), rows[i].expect);
    }
    CHECK_STR(slice_from_cstr(http_status_text(413)), "Content Too Large");
    CHECK_STR(slice_from_cstr(http_status_text(99)), "");
}

/* Values are looked at in blocks: each byte at each place of some blocks. */
static void test_each_byte_everywhere(void) {
    char value[144];
    for (int c = 0; c < 256; c++) {
        bool fine = c == '\t' || (c >= 0x20 && c < 0x7f);
        for (size_t at = 1; at + 1 < sizeof value; at++) {
            struct buf out CLEANUP(buf_deinit) = BUF_INIT(512);
            memset(value, 'a', sizeof value);
            value[at] = (char)c;
            int error = http_write_field(&out, SLICE("x"), slice_make(value, sizeof value));
            if ((error == 0) != fine)
                printf("# byte %d at %zu\n", c, at);
            CHECK_INT(error == 0, fine);
        }
    }
}

static void test_request_line(void) {
    static const struct {
        enum http_method method;
        struct slice target;
        int result;
        const char *expect;
    } rows[] = {
        {HTTP_METHOD_POST, SLICE_INIT("/mcp?a"), 0, "POST /mcp?a HTTP/1.1\r\n"},
        {HTTP_METHOD_HEAD, SLICE_INIT("/"), 0, "HEAD / HTTP/1.1\r\n"},
        {HTTP_METHOD_PATCH, SLICE_INIT("/"), 0, "PATCH / HTTP/1.1\r\n"},
        {HTTP_METHOD_OTHER, SLICE_INIT("/"), -EINVAL, ""},
        {HTTP_METHOD_GET, SLICE_INIT(""), -EINVAL, ""},
        {HTTP_METHOD_GET, SLICE_INIT("/a b"), -EINVAL, ""},
        {HTTP_METHOD_GET, SLICE_INIT("/a\tb"), -EINVAL, ""},
        {HTTP_METHOD_GET, SLICE_INIT("/ HTTP/1.1\r\nHost: evil\r\n\r\n"), -EINVAL, ""},
        {HTTP_METHOD_GET, SLICE_INIT("/\n"), -EINVAL, ""},
        {HTTP_METHOD_GET, SLICE_INIT("/\0"), -EINVAL, ""},
        {HTTP_METHOD_GET, SLICE_INIT("/\x7f"), -EINVAL, ""},
        {HTTP_METHOD_GET, SLICE_INIT("/\xc3\xa4"), -EINVAL, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(256);
        CHECK_INT(http_write_request_line(&out, rows[i].method, rows[i].target), rows[i].result);
        CHECK_STR(buf_slice(&out), rows[i].expect);
    }
}

static void test_fields(void) {
    static const struct {
        struct slice name, value;
        int result;
        const char *expect;
    } rows[] = {
        {SLICE_INIT("A"), SLICE_INIT("b c\td"), 0, "A: b c\td\r\n"},
        {SLICE_INIT("A"), SLICE_INIT(""), 0, "A: \r\n"},
        {SLICE_INIT(""), SLICE_INIT("b"), -EINVAL, ""},
        {SLICE_INIT("A b"), SLICE_INIT("c"), -EINVAL, ""},
        {SLICE_INIT("A:"), SLICE_INIT("c"), -EINVAL, ""},
        {SLICE_INIT("A\r\nB"), SLICE_INIT("c"), -EINVAL, ""},
        {SLICE_INIT("A"), SLICE_INIT("b\r\nSet-Cookie: c"), -EINVAL, ""},
        {SLICE_INIT("A"), SLICE_INIT("b\r\n\r\nbody"), -EINVAL, ""},
        {SLICE_INIT("A"), SLICE_INIT("b\r"), -EINVAL, ""},
        {SLICE_INIT("A"), SLICE_INIT("\nb"), -EINVAL, ""},
        {SLICE_INIT("A"), SLICE_INIT("b\0"), -EINVAL, ""},
        {SLICE_INIT("A"), SLICE_INIT("b\x1b[0m"), -EINVAL, ""},
        {SLICE_INIT("A"), SLICE_INIT("b\x7f"), -EINVAL, ""},
        {SLICE_INIT("A"), SLICE_INIT("b\x80"), -EINVAL, ""},
        {SLICE_INIT("A"),
         SLICE_INIT("\xe5\x98\x8a\xe5\x98\x8d"
                    "b"),
         -EINVAL, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(256);
        CHECK_INT(http_write_field(&out, rows[i].name, rows[i].value), rows[i].result);
        CHECK_STR(buf_slice(&out), rows[i].expect);
    }
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(256);
    CHECK_INT(http_write_field_u64(&out, SLICE("Content-Length"), UINT64_MAX), 0);
    CHECK_STR(buf_slice(&out), "Content-Length: 18446744073709551615\r\n");
    CHECK_INT(http_write_field_u64(&out, SLICE("a b"), 1), -EINVAL);
}

/* What does not fit is not written in part. */
static void test_full_buffer(void) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(7);
    CHECK_INT(http_write_field(&out, SLICE("A"), SLICE("bcd")), -E2BIG);
    CHECK_INT(buf_len(&out), 0);
    buf_reset(&out, 0);
    CHECK_INT(http_write_field(&out, SLICE("A"), SLICE("bc")), 0);
    CHECK_INT(http_write_chunk(&out, SLICE("x")), -E2BIG);
    CHECK_STR(buf_slice(&out), "A: bc\r\n");
    CHECK_INT(http_write_last_chunk(&out), -E2BIG);
}

static void test_chunks(void) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(256);
    CHECK_INT(http_write_chunk(&out, SLICE("hello")), 0);
    CHECK_INT(http_write_chunk(&out, SLICE_EMPTY), 0);
    CHECK_INT(http_write_chunk(&out, SLICE("0123456789abcdefg")), 0);
    CHECK_INT(http_write_last_chunk(&out), 0);
    CHECK_STR(buf_slice(&out), "5\r\nhello\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n");
}

/* What is written, the parser reads back. */
static void test_round_trip(void) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(1024), trace CLEANUP(buf_deinit) = BUF_INIT(1024);
    CHECK_INT(http_write_request_line(&out, HTTP_METHOD_PUT, SLICE("/a?b")), 0);
    CHECK_INT(http_write_field(&out, SLICE("Host"), SLICE("h:1")), 0);
    CHECK_INT(http_write_field(&out, SLICE("Transfer-Encoding"), SLICE("chunked")), 0);
    buf_append(&out, SLICE("\r\n"));
    CHECK_INT(http_write_chunk(&out, SLICE("x")), 0);
    CHECK_INT(http_write_last_chunk(&out), 0);
    const struct trace_setup setup = {.role = HTTP_REQUESTS};
    CHECK_INT(trace_http(&setup, buf_slice(&out), (struct trace_cut){.step = 1}, &trace), 0);
    CHECK_STR(buf_slice(&trace), "PUT /a?b host=h:1 keep chunked <x> .");
}

/* Heads made by hand. */

static struct http_head head_of(struct http_field *fields, size_t n) {
    return (struct http_head){.fields = fields, .n_fields = n};
}

static void test_lists(void) {
    static const struct {
        struct slice value;
        struct slice token;
        bool expect;
    } rows[] = {
        {SLICE_INIT("a, b, c"), SLICE_INIT("b"), true},
        {SLICE_INIT("a,B;q=1,c"), SLICE_INIT("b"), true},
        {SLICE_INIT(",, a ,\t"), SLICE_INIT("a"), true},
        {SLICE_INIT("ab, c"), SLICE_INIT("b"), false},
        {SLICE_INIT("abc"), SLICE_INIT("ab"), false},
        {SLICE_INIT(""), SLICE_INIT("a"), false},
        {SLICE_INIT("x;y=\"a, b, c\", d"), SLICE_INIT("b"), false},
        {SLICE_INIT("x;y=\"a, \\\" b, c\", d"), SLICE_INIT("d"), true},
        {SLICE_INIT("x;y=\"a, b"), SLICE_INIT("b"), false},
        {SLICE_INIT("text/event-stream; charset=utf-8"), SLICE_INIT("text/event-stream"), true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_field fields[] = {{SLICE("Other"), SLICE("b, a, d")},
                                      {SLICE("List"), rows[i].value}};
        struct http_head head = head_of(fields, 2);
        CHECK_INT(http_list_has(&head, SLICE("list"), rows[i].token), rows[i].expect);
    }
}

static void test_content_type(void) {
    static const struct {
        struct slice value;
        const char *expect;
    } rows[] = {
        {SLICE_INIT("application/json"), "application/json"},
        {SLICE_INIT("application/json;charset=utf-8"), "application/json"},
        {SLICE_INIT("application/json ; charset=utf-8"), "application/json"},
        {SLICE_INIT("; charset=utf-8"), ""},
        {SLICE_INIT(""), ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_field field = {SLICE("CONTENT-TYPE"), rows[i].value};
        struct http_head head = head_of(&field, 1);
        CHECK_STR(http_content_type(&head), rows[i].expect);
    }
    struct http_head none = head_of(NULL, 0);
    CHECK_STR(http_content_type(&none), "");
}

static void test_accepts(void) {
    static const struct {
        struct slice accept;
        bool json, stream;
    } rows[] = {
        {SLICE_INIT("application/json, text/event-stream"), true, true},
        {SLICE_INIT("application/json"), true, false},
        {SLICE_INIT("APPLICATION/JSON"), true, false},
        {SLICE_INIT("*/*"), true, true},
        {SLICE_INIT("text/*"), false, true},
        {SLICE_INIT("text/*;q=0, */*"), true, false},
        {SLICE_INIT("*/*;q=0.1, text/event-stream;q=0"), true, false},
        {SLICE_INIT("text/event-stream;q=0, */*"), true, false},
        {SLICE_INIT("*/*;q=0"), false, false},
        {SLICE_INIT("*/*;q=0, application/json;q=0.001"), true, false},
        {SLICE_INIT("application/json;q=0.000"), false, false},
        {SLICE_INIT("application/json;q=1.001"), false, false},
        {SLICE_INIT("application/json;q=2"), false, false},
        {SLICE_INIT("application/json;q="), false, false},
        {SLICE_INIT("application/json;q=0.0001"), false, false},
        {SLICE_INIT("application/json;q=x"), false, false},
        {SLICE_INIT("application/json; charset=utf-8; Q=0.5"), true, false},
        {SLICE_INIT("application/json;a=\"b;q=0\""), true, false},
        {SLICE_INIT("application/jsonp, application, /*, *"), false, false},
        {SLICE_INIT("image/png"), false, false},
        {SLICE_INIT(""), false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_field field = {SLICE("Accept"), rows[i].accept};
        struct http_head head = head_of(&field, 1);
        test_row(rows[i].accept.ptr);
        CHECK_INT(http_accepts(&head, SLICE("application/json")), rows[i].json);
        CHECK_INT(http_accepts(&head, SLICE("text/event-stream")), rows[i].stream);
    }
    test_row("several fields");
    struct http_field two[] = {{SLICE("accept"), SLICE("text/html")},
                               {SLICE("Accept"), SLICE("application/json")}};
    struct http_head both = head_of(two, 2), none = head_of(NULL, 0);
    CHECK(http_accepts(&both, SLICE("application/json")));
    CHECK(!http_accepts(&both, SLICE("text/event-stream")));
    test_row("absent");
    CHECK(http_accepts(&none, SLICE("application/json")));
}

static void run_without_memory(void *arg) {
    (void)arg;
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(1024);
    int r = http_write_status(&out, 200);
    if (r == 0)
        r = http_write_field(&out, SLICE("A"), SLICE("b"));
    CHECK(r == 0 || r == -ENOMEM);
}

static void test_without_memory(void) {
    test_torture(run_without_memory, NULL);
}

TEST_MAIN(TEST(test_status), TEST(test_each_byte_everywhere), TEST(test_request_line),
          TEST(test_fields), TEST(test_full_buffer), TEST(test_chunks), TEST(test_round_trip),
          TEST(test_lists), TEST(test_content_type), TEST(test_accepts), TEST(test_without_memory))
