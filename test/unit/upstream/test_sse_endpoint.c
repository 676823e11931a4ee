/* What an endpoint event may say, and what is made of it. */
#include "base/limits.h"
#include "sse_endpoint.h"
#include "test.h"

#define URL "https://mcp.example.com:8443/a/sse?key=1"

/* Path and query, or the sentence that refuses it. */
static struct slice endpoint_of(struct buf *out, const char *url, struct slice event) {
    const char *reason = "";
    int error = sse_endpoint_read(out, slice_from_cstr(url), event, &reason);
    return error == 0 ? buf_slice(out) : slice_from_cstr(reason);
}

static void test_taken(void) {
    static const struct {
        const char *url, *event, *path;
    } rows[] = {
        {URL, "/message?session=1", "/message?session=1"},
        {URL, "message", "/a/message"},
        {URL, "../message", "/message"},
        {URL, "?session=1", "/a/sse?session=1"},
        {URL, "https://mcp.example.com:8443/m", "/m"},
        {URL, "HTTPS://MCP.example.COM:8443", "/"},
        {URL, "//mcp.example.com:8443/m?x=//y", "/m?x=//y"},
        {"http://localhost/sse", "http://localhost:80/m", "/m"},
        {"http://localhost:80/sse", "http://localhost/m", "/m"},
        {"http://[::1]:9/sse", "http://[::1]:9/m", "/m"},
        {URL, "/m%2f..%2f?a=%20", "/m%2f..%2f?a=%20"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
        test_row(rows[i].event);
        CHECK_STR(endpoint_of(&out, rows[i].url, slice_from_cstr(rows[i].event)), rows[i].path);
    }
}

static void test_refused(void) {
    static const char origin[] =
        "its endpoint event points to another origin than url (scheme, host and port have to be "
        "the same); if that is meant to be so, put the address into message_url";
    static const char none[] = "its endpoint event is no URL";
    static const struct {
        const char *event, *reason;
    } rows[] = {
        {"http://mcp.example.com:8443/m", origin},
        {"https://mcp.example.com/m", origin},
        {"https://mcp.example.com:8444/m", origin},
        {"https://mcp.example.com.evil.example:8443/m", origin},
        {"https://evil.example:8443/m", origin},
        {"//evil.example/m", origin},
        {"//evil.example:8443/m", origin},
        {"https://127.0.0.1:8443/m", origin},
        {"https://mcp.example.com@evil.example:8443/m", origin},
        {"ftp://mcp.example.com:8443/m", origin},
        {"javascript:alert(1)", origin},
        {"file:///etc/passwd", origin},
        {"https://u:p@mcp.example.com:8443/m",
         "its endpoint event has a user name or password in it"},
        {"/m#here", "its endpoint event has a fragment"},
        {"", none},
        {" /m", none},
        {"/m ", none},
        {"/m\n/n", none},
        {"/m\r\nHost: evil", none},
        {"\\\\evil.example\\m", none},
        {"/\\evil.example", none},
        {"https:\\\\evil.example", none},
        {"/m%", none},
        {"/m%zz", none},
        {"https://mcp.example.com:99999/m", none},
        {"/\xc3\xa4", none},
        {"/m\x7f", none},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
        test_row(rows[i].event);
        CHECK_STR(endpoint_of(&out, URL, slice_from_cstr(rows[i].event)), rows[i].reason);
        CHECK(buf_len(&out) == 0);
    }
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    CHECK_STR(endpoint_of(&out, URL, SLICE("/m\0n")), none);
}

/* At the limit, and past it, alone and together with what it is resolved against. */
static void test_length(void) {
    static const char too_long[] = "its endpoint event is longer than 8192 bytes";
    static char path[LIMIT_URI + 2];
    size_t own = strlen("https://mcp.example.com:8443");
    memset(path, 'x', sizeof path);
    path[0] = '/';
    const struct {
        size_t len;
        const char *reason;
    } rows[] = {{LIMIT_URI - own, ""}, {LIMIT_URI - own + 1, too_long}, {LIMIT_URI + 1, too_long}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
        struct slice event = slice_make(path, rows[i].len);
        const char *reason = "";
        int error = sse_endpoint_read(&out, SLICE(URL), event, &reason);
        CHECK(error == (rows[i].reason[0] == '\0' ? 0 : ENDPOINT_E_REFUSED));
        if (error != 0)
            CHECK_STR(slice_from_cstr(reason), rows[i].reason);
        else
            CHECK(slice_eq(buf_slice(&out), event));
    }
}

TEST_MAIN(TEST(test_taken), TEST(test_refused), TEST(test_length))
