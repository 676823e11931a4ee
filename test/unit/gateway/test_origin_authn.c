/*
 * The doors of the gateway: whose Host and Origin are ours, and who is calling. Each row is a real
 * request, read by the parser, as it comes in.
 */
#include "base/limits.h"
#include "private.h"
#include "test.h"

/* What a gateway needs for these questions. */
struct doors {
    struct gateway *gateway;
    struct config *config;
};

static struct doors doors_open(const char *listen, bool anonymous) {
    static struct slice hosts[] = {
        SLICE_INIT("gw.example"),
        SLICE_INIT("Ported.example:8443"),
        SLICE_INIT("[2001:db8::1]"),
        SLICE_INIT("not an authority"),
        SLICE_INIT(""),
    };
    struct doors doors = {.gateway = mem_xalloc(sizeof *doors.gateway),
                          .config = mem_xalloc(sizeof *doors.config)};
    doors.config->hosts = hosts;
    doors.config->n_hosts = ARRAY_LEN(hosts);
    doors.config->auth_anonymous = anonymous;
    doors.gateway->config = doors.config;
    snprintf(doors.gateway->address.text, sizeof doors.gateway->address.text, "%s", listen);
    if (secret_new(SLICE("s3cret-Token"), &doors.gateway->token) != 0)
        CANNOT_GO_ON();
    return doors;
}

static void doors_close(struct doors *doors) {
    secret_free(doors->gateway->token);
    mem_free(doors->gateway);
    mem_free(doors->config);
}

/* The head of one request with these lines behind the first; NULL: the parser refuses it. */
static const struct http_head *read_head(struct http_parser *parser, const char *first,
                                         const char *fields) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    enum http_event event = HTTP_NEED_MORE;
    struct slice data;
    size_t consumed;
    buf_printf(&text, "%s\r\n%s\r\n", first, fields);
    if (http_parser_feed(parser, buf_slice(&text), &consumed, &event, &data) != 0)
        CANNOT_GO_ON();
    return event == HTTP_HEAD ? http_parser_head(parser) : NULL;
}

static struct http_parser *new_parser(void) {
    struct http_parser *parser = NULL;
    if (http_parser_new(HTTP_REQUESTS, NULL, &parser) != 0)
        CANNOT_GO_ON();
    return parser;
}

enum verdict { OURS, NOT_OURS, REFUSED };

static void test_host(void) {
    static const struct {
        const char *host;
        enum verdict verdict;
    } rows[] = {
        {"localhost", OURS},
        {"localhost:1", OURS},
        {"LocalHost:8000", OURS},
        {"127.0.0.1", OURS},
        {"127.0.0.1:9", OURS},
        {"[::1]", OURS},
        {"[::1]:8000", OURS},
        {"10.1.2.3", OURS},
        {"10.1.2.3:8000", OURS},
        {"10.1.2.3:80", OURS},
        {"gw.example", OURS},
        {"GW.example:1234", OURS},
        {"ported.example:8443", OURS},
        {"[2001:db8::1]:80", OURS},
        {"ported.example", NOT_OURS},
        {"ported.example:8444", NOT_OURS},
        {"evil.example", NOT_OURS},
        {"localhost.evil.example", NOT_OURS},
        {"evil.localhost", NOT_OURS},
        {"xgw.example", NOT_OURS},
        {"gw.example.evil.example", NOT_OURS},
        {"127.0.0.2", NOT_OURS},
        {"127.0.0.1.evil.example", NOT_OURS},
        {"0.0.0.0", NOT_OURS},
        {"[::]", NOT_OURS},
        {"[::ffff:127.0.0.1]", NOT_OURS},
        {"[2001:db8::2]", NOT_OURS},
        {"localhost.", REFUSED},
        {"127.1", REFUSED},
        {"2130706433", REFUSED},
        {"user@localhost", REFUSED},
        {"localhost:99999", REFUSED},
        {"localhost:", REFUSED},
        {"localhost/", REFUSED},
        {"a b", REFUSED},
    };
    struct doors doors = doors_open("10.1.2.3:8000", false);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
        char fields[256];
        test_row(rows[i].host);
        snprintf(fields, sizeof fields, "Host: %s\r\n", rows[i].host);
        const struct http_head *head = read_head(parser, "GET / HTTP/1.1", fields);
        /* What the parser refuses is refused; should it let it in, it must not be ours. */
        bool ours = head != NULL && gw_host_is_ours(doors.gateway, head);
        CHECK_INT(ours, rows[i].verdict == OURS);
        if (rows[i].verdict == NOT_OURS)
            CHECK(head != NULL);
    }
    doors_close(&doors);
}

static void test_host_and_target(void) {
    static const struct {
        const char *first, *fields;
        bool ours;
    } rows[] = {
        {"GET http://localhost:8000/ HTTP/1.1", "Host: localhost:8000\r\n", true},
        {"GET http://LOCALHOST:8000/ HTTP/1.1", "Host: localhost:8000\r\n", true},
        {"GET http://evil.example/ HTTP/1.1", "Host: localhost:8000\r\n", false},
        {"GET http://localhost:8000/ HTTP/1.1", "Host: evil.example\r\n", false},
        {"GET http://localhost/ HTTP/1.1", "Host: localhost:8000\r\n", false},
        {"GET / HTTP/1.0", "", false},
        {"GET / HTTP/1.0", "Host: localhost\r\n", true},
    };
    struct doors doors = doors_open("127.0.0.1:8000", true);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
        test_row(rows[i].first);
        const struct http_head *head = read_head(parser, rows[i].first, rows[i].fields);
        CHECK_INT(head != NULL && gw_host_is_ours(doors.gateway, head), rows[i].ours);
    }
    doors_close(&doors);
}

static void test_origin(void) {
    static const struct {
        const char *fields;
        bool ours;
    } rows[] = {
        {"", true},
        {"Origin: http://localhost\r\n", true},
        {"Origin: http://localhost:3000\r\n", true},
        {"origin: HTTPS://127.0.0.1:8000\r\n", true},
        {"Origin: http://[::1]:8000\r\n", true},
        {"Origin: https://gw.example\r\n", true},
        {"Origin: https://ported.example:8443\r\n", true},
        {"Origin: https://ported.example\r\n", false},
        {"Origin: \r\n", false},
        {"Origin: null\r\n", false},
        {"Origin: *\r\n", false},
        {"Origin: localhost\r\n", false},
        {"Origin: http://evil.example\r\n", false},
        {"Origin: http://localhost.evil.example\r\n", false},
        {"Origin: http://localhost@evil.example\r\n", false},
        {"Origin: http://evil.example@localhost\r\n", false},
        {"Origin: http://localhost/\r\n", false},
        {"Origin: http://localhost/path\r\n", false},
        {"Origin: http://localhost?q\r\n", false},
        {"Origin: http://localhost#f\r\n", false},
        {"Origin: http:localhost\r\n", false},
        {"Origin: file://localhost\r\n", false},
        {"Origin: chrome-extension://localhost\r\n", false},
        {"Origin: http://localhost http://evil.example\r\n", false},
        {"Origin: http://localhost, http://localhost\r\n", false},
        {"Origin: http://localhost\r\nOrigin: http://localhost\r\n", false},
        {"Origin: http://localhost\r\nORIGIN: http://evil.example\r\n", false},
        {"Origin: http://127.1\r\n", false},
        {"Origin: http://2130706433\r\n", false},
        {"Origin: http://localhost:99999\r\n", false},
    };
    struct doors doors = doors_open("127.0.0.1:8000", true);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
        char fields[256];
        test_row(rows[i].fields);
        snprintf(fields, sizeof fields, "Host: localhost\r\n%s", rows[i].fields);
        const struct http_head *head = read_head(parser, "GET / HTTP/1.1", fields);
        CHECK_INT(head != NULL && gw_origin_is_ours(doors.gateway, head), rows[i].ours);
    }
    doors_close(&doors);
}

static void test_token(void) {
    static const struct {
        const char *fields;
        enum gw_authn result;
    } rows[] = {
        {"", GW_AUTHN_MISSING},
        {"Authorization: Bearer s3cret-Token\r\n", GW_AUTHN_OK},
        {"authorization: bEARER s3cret-Token\r\n", GW_AUTHN_OK},
        {"Authorization: Bearer   s3cret-Token\r\n", GW_AUTHN_OK},
        {"Authorization:   Bearer s3cret-Token  \r\n", GW_AUTHN_OK},
        {"Authorization: Bearer s3cret-token\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Toke\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Token1\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Token s3cret-Token\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Token,\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer \"s3cret-Token\"\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer \r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer\r\n", GW_AUTHN_INVALID},
        {"Authorization: \r\n", GW_AUTHN_INVALID},
        {"Authorization: s3cret-Token\r\n", GW_AUTHN_INVALID},
        {"Authorization: Basic s3cret-Token\r\n", GW_AUTHN_INVALID},
        {"Authorization: BearerX s3cret-Token\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer\ts3cret-Token\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Token\r\nAuthorization: Bearer s3cret-Token\r\n",
         GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Token\r\nauthorization: Bearer other\r\n", GW_AUTHN_INVALID},
        {"Proxy-Authorization: Bearer s3cret-Token\r\n", GW_AUTHN_MISSING},
        {"X-Api-Key: s3cret-Token\r\n", GW_AUTHN_MISSING},
    };
    for (int anonymous = 0; anonymous <= 1; anonymous++) {
        struct doors doors = doors_open("127.0.0.1:8000", anonymous != 0);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
            struct gw_principal *principal = NULL;
            char fields[256];
            test_row(rows[i].fields);
            snprintf(fields, sizeof fields, "Host: localhost\r\n%s", rows[i].fields);
            const struct http_head *head = read_head(parser, "GET / HTTP/1.1", fields);
            REQUIRE(head != NULL);
            enum gw_authn result = gw_authenticate(doors.gateway, head, &principal);
            /* A wrong token is never taken for none. */
            bool open = rows[i].result == GW_AUTHN_MISSING && anonymous != 0;
            CHECK_INT(result, open ? GW_AUTHN_OK : rows[i].result);
            CHECK(principal == (open                            ? &doors.gateway->anonymous
                                : rows[i].result == GW_AUTHN_OK ? &doors.gateway->local
                                                                : NULL));
        }
        doors_close(&doors);
    }
}

TEST_MAIN(TEST(test_host), TEST(test_host_and_target), TEST(test_origin), TEST(test_token))
