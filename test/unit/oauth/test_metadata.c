/* Where an issuer's metadata may be, and what of it is believed. */
#include "base/limits.h"
#include "private.h"
#include "test.h"

/* --- addresses --- */

static void test_candidates(void) {
    static const struct {
        const char *issuer;
        const char *expect[4];
    } rows[] = {
        {"https://as.example",
         {"https://as.example/.well-known/oauth-authorization-server",
          "https://as.example/.well-known/openid-configuration"}},
        {"https://as.example/",
         {"https://as.example/.well-known/oauth-authorization-server",
          "https://as.example/.well-known/openid-configuration"}},
        {"https://as.example:8443/tenant",
         {"https://as.example:8443/.well-known/oauth-authorization-server/tenant",
          "https://as.example:8443/.well-known/openid-configuration/tenant",
          "https://as.example:8443/tenant/.well-known/openid-configuration"}},
        {"https://as.example/a/b/",
         {"https://as.example/.well-known/oauth-authorization-server/a/b",
          "https://as.example/.well-known/openid-configuration/a/b",
          "https://as.example/a/b/.well-known/openid-configuration"}},
        {"http://[::1]:9/x",
         {"http://[::1]:9/.well-known/oauth-authorization-server/x",
          "http://[::1]:9/.well-known/openid-configuration/x",
          "http://[::1]:9/x/.well-known/openid-configuration"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].issuer);
        for (unsigned n = 0; n < 5; n++) {
            struct buf url CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
            const char *expect = n < ARRAY_LEN(rows[i].expect) ? rows[i].expect[n] : NULL;
            CHECK_INT(oauth_candidate(slice_from_cstr(rows[i].issuer), n, &url),
                      expect != NULL ? 0 : OAUTH_E_END);
            CHECK_STR(buf_slice(&url), expect != NULL ? expect : "");
        }
    }
}

static void test_no_issuers(void) {
    static const char *const rows[] = {
        "",
        "as.example",
        "/tenant",
        "ftp://as.example",
        "file:///etc/passwd",
        "https://",
        "https://as.example?x",
        "https://as.example/a?x=/.well-known/",
        "https://as.example/a#x",
        "https://user@as.example",
        "https://user:password@as.example",
        "https://as.example/a b",
        "https://as.example\\@other.example",
        "https://as.example/\r\nHost: x",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf url CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
        test_row(rows[i]);
        CHECK_INT(oauth_candidate(slice_from_cstr(rows[i]), 0, &url), OAUTH_E_INVALID);
        CHECK_INT(buf_len(&url), 0);
    }
}

/* --- documents --- */

#define AS        "https://as.example/t"
#define ISSUER(s) "\"issuer\":\"" s "\""
#define JWKS(s)   "\"jwks_uri\":\"" s "\""
#define NO_JSON   "its metadata is no JSON"
#define NO_OBJECT "its metadata is no JSON object"
#define NO_ISSUER "its metadata names no issuer"
#define ANOTHER   "its metadata is that of another issuer"
#define NO_KEYS   "its metadata has no jwks_uri"
#define NO_URL    "the jwks_uri of its metadata is no URL that can be fetched"
#define NOT_HTTPS "the jwks_uri of its metadata is not https"
#define FINE(s)   "= " s

struct row {
    const char *issuer, *document;
    const char *expect; /* FINE(jwks_uri), or the reason */
};

static void check_row(struct json_reader *reader, const struct row *row) {
    struct buf uri CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
    const char *reason = NULL;
    struct slice document = slice_from_cstr(row->document);
    int error = oauth_metadata_read(reader, document, slice_from_cstr(row->issuer), OAUTH_JWKS_URI,
                                    &uri, NULL, &reason);
    test_row(row->document);
    if (row->expect[0] == '=') {
        CHECK_INT(error, 0);
        CHECK_STR(buf_slice(&uri), row->expect + 2);
        CHECK(reason == NULL);
    } else {
        CHECK_INT(error, OAUTH_E_INVALID);
        CHECK_INT(buf_len(&uri), 0);
        CHECK_STR(slice_from_cstr(reason), row->expect);
    }
}

static const struct row rows[] = {
    {AS, "{" ISSUER(AS) "," JWKS("https://as.example/k") "}", FINE("https://as.example/k")},
    {AS, " {\"x\":{\"issuer\":1}," JWKS("https://k.example:1/k?q") "," ISSUER(AS) "} ",
     FINE("https://k.example:1/k?q")},
    {AS, "{" ISSUER("https:\\/\\/as.example/\\u0074") "," JWKS("https:\\/\\/as.example") "}",
     FINE("https://as.example")},
    /* the same origin as an issuer that is http */
    {"http://as.example:80/t",
     "{" ISSUER("http://as.example:80/t") "," JWKS("http://AS.example/k") "}",
     FINE("http://AS.example/k")},
    {"http://127.0.0.1:9", "{" ISSUER("http://127.0.0.1:9") "," JWKS("https://other.example/k") "}",
     FINE("https://other.example/k")},
    /* Whether it may be dialled is another matter: client/rules.h. */
    {"http://127.0.0.1:9", "{" ISSUER("http://127.0.0.1:9") "," JWKS("http://127.0.0.1:8/k") "}",
     FINE("http://127.0.0.1:8/k")},
    {"http://127.0.0.1:9", "{" ISSUER("http://127.0.0.1:9") "," JWKS("http://localhost:9/k") "}",
     FINE("http://localhost:9/k")},
    {"http://127.0.0.1:9", "{" ISSUER("http://127.0.0.1:9") "," JWKS("http://169.254.169.254/") "}",
     NOT_HTTPS},
    {AS, "{" ISSUER(AS) "," JWKS("http://as.example/k") "}", NOT_HTTPS},
    {AS, "{" ISSUER(AS) "," JWKS("http://as.example:443/k") "}", NOT_HTTPS},
    {AS, "{" ISSUER(AS) "," JWKS("file:///etc/shadow") "}", NO_URL},
    {AS, "{" ISSUER(AS) "," JWKS("ftp://as.example/k") "}", NO_URL},
    {AS, "{" ISSUER(AS) "," JWKS("/k") "}", NO_URL},
    {AS, "{" ISSUER(AS) "," JWKS("") "}", NO_URL},
    {AS, "{" ISSUER(AS) "," JWKS("https://u:p@as.example/k") "}", NO_URL},
    {AS, "{" ISSUER(AS) "," JWKS("https://as.example/k#f") "}", NO_URL},
    {AS, "{" ISSUER(AS) "," JWKS("https://as.example/k\\r\\nX: y") "}", NO_URL},
    {AS, "{" ISSUER(AS) "," JWKS("https://as.example/\\u0000") "}", NO_URL},
    {AS, "{" ISSUER(AS) ",\"jwks_uri\":null}", NO_KEYS},
    {AS, "{" ISSUER(AS) ",\"jwks_uri\":[\"https://as.example/k\"]}", NO_KEYS},
    {AS, "{" ISSUER(AS) "}", NO_KEYS},
    /* RFC 8414 section 3.3: identical */
    {AS, "{" ISSUER("https://as.example") "," JWKS("https://as.example/k") "}", ANOTHER},
    {AS, "{" ISSUER(AS "/") "," JWKS("https://as.example/k") "}", ANOTHER},
    {AS, "{" ISSUER("https://AS.example/t") "," JWKS("https://as.example/k") "}", ANOTHER},
    {AS, "{" ISSUER("https://as.example:443/t") "," JWKS("https://as.example/k") "}", ANOTHER},
    {AS, "{" ISSUER("https://as.example/%74") "," JWKS("https://as.example/k") "}", ANOTHER},
    {AS, "{" ISSUER(AS "\\u0000") "," JWKS("https://as.example/k") "}", ANOTHER},
    {AS, "{" ISSUER("") "," JWKS("https://as.example/k") "}", ANOTHER},
    {"https://as.example", "{" ISSUER("https://as.example/") "," JWKS("https://as.example/k") "}",
     ANOTHER},
    {AS, "{\"issuer\":null," JWKS("https://as.example/k") "}", NO_ISSUER},
    {AS, "{\"issuer\":[\"" AS "\"]," JWKS("https://as.example/k") "}", NO_ISSUER},
    {AS, "{\"Issuer\":\"" AS "\"," JWKS("https://as.example/k") "}", NO_ISSUER},
    {AS, "{" JWKS("https://as.example/k") "}", NO_ISSUER},
    {AS, "{}", NO_ISSUER},
    {AS, "[]", NO_OBJECT},
    {AS, "\"" AS "\"", NO_OBJECT},
    {AS, "null", NO_OBJECT},
    {AS, "", NO_JSON},
    {AS, "<html>", NO_JSON},
    {AS, "{" ISSUER(AS) "," JWKS("https://as.example/k") "", NO_JSON},
    {AS, "{" ISSUER(AS) "," JWKS("https://as.example/k") "}}", NO_JSON},
    {AS, "\xef\xbb\xbf{" ISSUER(AS) "," JWKS("https://as.example/k") "}", NO_JSON},
    /* which of the two would it be? */
    {AS, "{" ISSUER(AS) "," ISSUER("https://x.example") "," JWKS("https://as.example/k") "}",
     NO_JSON},
    {AS, "{" ISSUER(AS) "," JWKS("https://as.example/k") ",\"jwks_\\u0075ri\":\"https://x/\"}",
     NO_JSON},
};

static void test_documents(void) {
    struct json_reader *reader CLEANUP(json_reader_freep) = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_row(reader, &rows[i]);
}

/* A document that ends too early is none, wherever. */
static void test_cut_off(void) {
    struct json_reader *reader CLEANUP(json_reader_freep) = NULL;
    struct slice whole = slice_from_cstr(rows[0].document);
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t at = 0; at < whole.len; at++) {
        struct buf uri CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
        const char *reason = NULL;
        CHECK_INT(oauth_metadata_read(reader, slice_sub(whole, 0, at), slice_from_cstr(AS),
                                      OAUTH_JWKS_URI, &uri, NULL, &reason),
                  OAUTH_E_INVALID);
    }
}

static void test_a_long_jwks_uri(void) {
    static char document[LIMIT_URI + 256];
    struct json_reader *reader CLEANUP(json_reader_freep) = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t len = LIMIT_URI; len <= LIMIT_URI + 1; len++) {
        static const char head[] = "{" ISSUER(AS) ",\"jwks_uri\":\"https://as.example/";
        enum { BEGUN = sizeof "https://as.example/" - 1 };
        struct buf uri CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
        const char *reason = NULL;
        memcpy(document, head, sizeof head);
        memset(document + sizeof head - 1, 'k', len - BEGUN);
        memcpy(document + sizeof head - 1 + len - BEGUN, "\"}", 3);
        CHECK_INT(oauth_metadata_read(reader, slice_from_cstr(document), slice_from_cstr(AS),
                                      OAUTH_JWKS_URI, &uri, NULL, &reason),
                  len <= LIMIT_URI ? 0 : OAUTH_E_INVALID);
        CHECK_INT(buf_len(&uri), len <= LIMIT_URI ? len : 0);
    }
}

static void read_once(void *arg) {
    const struct row *row = arg;
    struct json_reader *reader CLEANUP(json_reader_freep) = NULL;
    struct buf uri CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
    const char *reason = NULL;
    int error = json_reader_new(&reader);
    if (error == 0)
        error =
            oauth_metadata_read(reader, slice_from_cstr(row->document),
                                slice_from_cstr(row->issuer), OAUTH_JWKS_URI, &uri, NULL, &reason);
    CHECK(error == -ENOMEM || error == 0);
    CHECK(error != 0 || buf_len(&uri) != 0);
}

static void test_without_memory(void) {
    struct row row = rows[2];
    test_torture(read_once, &row);
}

TEST_MAIN(TEST(test_candidates), TEST(test_no_issuers), TEST(test_documents), TEST(test_cut_off),
          TEST(test_a_long_jwks_uri), TEST(test_without_memory))
