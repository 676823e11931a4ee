/*
 * Whose Host and Origin are ours, by configurations on loopback and beyond. Each row is a real
 * request, read by the parser, as it comes in.
 */
#include "border.h"
#include "head.h"

static struct border *border_of(const struct config *config) {
    struct border *border = NULL;
    if (border_new(config, &border) != 0)
        CANNOT_GO_ON();
    return border;
}

enum verdict { OURS, NOT_OURS, REFUSED };

struct host_row {
    const char *host;
    enum verdict verdict;
};

static void check_hosts(const struct config *config, const struct host_row *rows, size_t n) {
    struct border *border = border_of(config);
    for (size_t i = 0; i < n; i++) {
        CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
        char fields[512];
        test_row(rows[i].host);
        snprintf(fields, sizeof fields, "Host: %s\r\n", rows[i].host);
        const struct http_head *head = read_head(parser, "GET / HTTP/1.1", fields);
        /* What the parser refuses is refused; should it let it in, it must not be ours. */
        CHECK_INT(head != NULL && border_host_is_ours(border, head), rows[i].verdict == OURS);
        if (rows[i].verdict == NOT_OURS)
            CHECK(head != NULL);
    }
    border_free(border);
}

static void test_host(void) {
    static const struct host_row rows[] = {
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
        {"Ported.example:8443", OURS},
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
        {"0.0.0.0:8000", NOT_OURS},
        {"[::]", NOT_OURS},
        {"[::ffff:127.0.0.1]", NOT_OURS},
        {"[::ffff:10.1.2.3]", NOT_OURS},
        {"[2001:db8::2]", NOT_OURS},
        {"localhost.", REFUSED},
        {"gw.example.", REFUSED},
        {"127.1", REFUSED},
        {"2130706433", REFUSED},
        {"user@localhost", REFUSED},
        {"localhost:99999", REFUSED},
        {"localhost:", REFUSED},
        {"localhost/", REFUSED},
        {"a b", REFUSED},
        {"not an authority", REFUSED},
    };
    static struct slice hosts[] = {
        SLICE_INIT("gw.example"),
        SLICE_INIT("Ported.example:8443"),
        SLICE_INIT("[2001:db8::1]"),
        SLICE_INIT("not an authority"),
        SLICE_INIT(""),
    };
    const struct config config = {
        .listen_address = SLICE("10.1.2.3:8000"), .hosts = hosts, .n_hosts = ARRAY_LEN(hosts)};
    check_hosts(&config, rows, ARRAY_LEN(rows));
}

/* Every address is no name: what is reached by 0.0.0.0 in a browser is reached by any page. */
static void test_host_beyond_loopback(void) {
    static const struct host_row rows[] = {
        {"localhost:8000", OURS},
        {"127.0.0.1:8000", OURS},
        {"gw.example", OURS},
        {"gw.example:8000", OURS},
        {"GW.EXAMPLE", OURS},
        {"10.0.0.5:8000", OURS},
        {"[fd00::5]:8000", OURS},
        {"a.wild.example", NOT_OURS}, /* a certificate's names are not all ours */
        {"A.Wild.Example:443", NOT_OURS},
        {"api.example", OURS},
        {"api.example:443", OURS},
        {"api.example:8443", OURS},
        {"0.0.0.0:8000", NOT_OURS},
        {"0.0.0.0", NOT_OURS},
        {"[::]:8000", NOT_OURS},
        {"[0:0:0:0:0:0:0:0]", NOT_OURS},
        {"[::ffff:0.0.0.0]", NOT_OURS},
        {"10.0.0.6", NOT_OURS},
        {"[fd00::6]", NOT_OURS},
        {"wild.example", NOT_OURS},
        {"a.b.wild.example", NOT_OURS},
        {"xwild.example", NOT_OURS},
        {"a.wild.example.evil.example", NOT_OURS},
        {"api.example.evil.example", NOT_OURS},
        {"evil.example", NOT_OURS},
        {"*.wild.example", REFUSED},
        {".wild.example", REFUSED},
    };
    static struct slice names[] = {
        SLICE_INIT("gw.example"), SLICE_INIT("10.0.0.5"), SLICE_INIT("fd00::5"),
        SLICE_INIT("0.0.0.0"),    SLICE_INIT("::"),       SLICE_INIT("*.wild.example"),
        SLICE_INIT("*.0.0.5"),    SLICE_INIT("*"),        SLICE_INIT("evil.example:8000 "),
    };
    struct config config = {
        .listen_address = SLICE("0.0.0.0:8000"),
        .tls = {.names = names, .n_names = ARRAY_LEN(names)},
        .oauth = {.resource = SLICE("https://api.example:8443/mcp")},
    };
    check_hosts(&config, rows, ARRAY_LEN(rows));
    config.listen_address = SLICE("[::]:8000");
    check_hosts(&config, rows, ARRAY_LEN(rows));
}

static void test_host_of_resource_by_address(void) {
    static const struct host_row rows[] = {
        {"[2001:db8::7]:99", OURS},
        {"[2001:DB8::7]", OURS},
        {"[2001:db8::8]", NOT_OURS},
    };
    const struct config config = {.listen_address = SLICE("127.0.0.1:8000"),
                                  .oauth = {.resource = SLICE("https://[2001:db8::7]/mcp")}};
    check_hosts(&config, rows, ARRAY_LEN(rows));
}

static void test_host_and_target(void) {
    static const struct {
        const char *first, *fields;
        bool ours;
    } rows[] = {
        {"GET http://localhost:8000/ HTTP/1.1", "Host: localhost:8000\r\n", true},
        {"GET http://LOCALHOST:8000/ HTTP/1.1", "Host: localhost:8000\r\n", true},
        {"GET http://127.0.0.1:8000/ HTTP/1.1", "Host: 127.0.0.1:8000\r\n", true},
        {"GET http://evil.example/ HTTP/1.1", "Host: localhost:8000\r\n", false},
        {"GET http://evil.example/ HTTP/1.1", "Host: 127.0.0.1:8000\r\n", false},
        {"GET http://localhost:8000/ HTTP/1.1", "Host: evil.example\r\n", false},
        {"GET http://localhost/ HTTP/1.1", "Host: localhost:8000\r\n", false},
        {"GET / HTTP/1.0", "", false},
        {"GET / HTTP/1.0", "Host: localhost\r\n", true},
    };
    const struct config config = {.listen_address = SLICE("127.0.0.1:8000")};
    struct border *border = border_of(&config);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
        test_row(rows[i].first);
        const struct http_head *head = read_head(parser, rows[i].first, rows[i].fields);
        CHECK_INT(head != NULL && border_host_is_ours(border, head), rows[i].ours);
    }
    border_free(border);
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
        {"Origin: http://0.0.0.0:8000\r\n", false},
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
    static struct slice hosts[] = {SLICE_INIT("gw.example"), SLICE_INIT("ported.example:8443")};
    static const struct slice listen[] = {SLICE_INIT("127.0.0.1:8000"), SLICE_INIT("0.0.0.0:8000")};
    for (size_t k = 0; k < ARRAY_LEN(listen); k++) {
        const struct config config = {
            .listen_address = listen[k], .hosts = hosts, .n_hosts = ARRAY_LEN(hosts)};
        struct border *border = border_of(&config);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
            char fields[256];
            test_row(rows[i].fields);
            snprintf(fields, sizeof fields, "Host: localhost\r\n%s", rows[i].fields);
            const struct http_head *head = read_head(parser, "GET / HTTP/1.1", fields);
            CHECK_INT(head != NULL && border_origin_is_ours(border, head), rows[i].ours);
        }
        border_free(border);
    }
}

static void test_hsts(void) {
    static const struct {
        const char *name;
        bool is_set;
        uint64_t ms;
        const char *line;
    } rows[] = {
        {"a year", true, 365ull * 24 * 3600 * 1000,
         "Strict-Transport-Security: max-age=31536000\r\n"},
        {"off", true, 0, ""},
        {"automatic TLS", false, 1999, "Strict-Transport-Security: max-age=1\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct config config = {.listen_address = SLICE("127.0.0.1:8000"),
                                      .tls = {.is_set = rows[i].is_set, .hsts_ms = rows[i].ms}};
        struct border *border = border_of(&config);
        test_row(rows[i].name);
        CHECK_STR(border->hsts, rows[i].line);
        border_free(border);
    }
}

static void test_pinned(void) {
    CHECK(border_is_pinned(SLICE("gw.example:8443")));
    CHECK(border_is_pinned(SLICE("localhost.example")));
    CHECK(!border_is_pinned(SLICE("localhost")));
    CHECK(!border_is_pinned(SLICE("LocalHost:8443")));
    CHECK(!border_is_pinned(SLICE_EMPTY));
}

/* Everything that a border is made of. */
static void make_and_free(void *arg) {
    struct border *border = NULL;
    int error = border_new(arg, &border);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK((error == 0) == (border != NULL));
    border_free(border);
}

static void test_no_memory(void) {
    static struct slice names[] = {SLICE_INIT("gw.example"), SLICE_INIT("fd00::5")};
    static struct slice trusted[] = {SLICE_INIT("10.0.0.0/8")};
    static struct slice origins[] = {SLICE_INIT("https://*.example.com"), SLICE_INIT("*")};
    static struct slice scopes[] = {SLICE_INIT("b"), SLICE_INIT("a"), SLICE_INIT("b")};
    struct config config = {
        .listen_address = SLICE("127.0.0.1:8000"),
        .hosts = names,
        .n_hosts = 1,
        .tls = {.is_set = true, .hsts_ms = 5000, .names = names, .n_names = 2},
        .trusted_proxies = trusted,
        .n_trusted_proxies = 1,
        .oauth = {.is_set = true,
                  .resource = SLICE("https://gw.example/mcp"),
                  .scopes = scopes,
                  .n_scopes = 3},
        .cors = {.is_set = true,
                 .allow_origins = origins,
                 .n_allow_origins = 2,
                 .allow_methods = scopes,
                 .n_allow_methods = 3,
                 .max_age_ms = 5000},
    };
    test_torture(make_and_free, &config);
    border_free(NULL);
}

TEST_MAIN(TEST(test_host), TEST(test_host_beyond_loopback), TEST(test_host_of_resource_by_address),
          TEST(test_host_and_target), TEST(test_origin), TEST(test_hsts), TEST(test_pinned),
          TEST(test_no_memory))
