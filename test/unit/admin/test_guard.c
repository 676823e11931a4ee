/* What a head has to be: Host, Origin, credentials, versions, paths, queries. */
#include "base/limits.h"
#include "guard.h"
#include "test.h"

/* A head as the codec reads it: the rows are whole requests. */
struct request {
    struct http_parser *parser;
    const struct http_head *head; /* NULL: it was refused */
};

static struct request read_request(struct slice text) {
    struct request request = {.head = NULL};
    size_t consumed = 0;
    enum http_event event = HTTP_NEED_MORE;
    struct slice data;
    if (http_parser_new(HTTP_REQUESTS, NULL, &request.parser) == 0 &&
        http_parser_feed(request.parser, text, &consumed, &event, &data) == 0 && event == HTTP_HEAD)
        request.head = http_parser_head(request.parser);
    return request;
}

static void free_request(struct request *request) {
    http_parser_free(request->parser);
}

#define WITH(fields) SLICE_INIT("GET /x HTTP/1.1\r\nHost: gw:7443\r\n" fields "\r\n")

/* --- Host --- */

static void test_host(void) {
    static const struct slice names[] = {SLICE_INIT("gw.example.com"), SLICE_INIT("only.port:9443"),
                                         SLICE_INIT("*.wild.example"), SLICE_INIT("fd00::7"),
                                         SLICE_INIT("0.0.0.0")};
    static const struct {
        const char *host;
        bool is_ours;
    } cases[] = {
        {"localhost", true},
        {"LOCALHOST:7443", true},
        {"localhost:1", true},
        {"127.0.0.1:7443", true},
        {"127.9.9.9", true},
        {"[::1]:7443", true},
        {"192.0.2.7:7443", true},
        {"192.0.2.7", true},
        {"gw.example.com", true},
        {"GW.example.com:7443", true},
        {"gw.example.com:1", true},
        {"only.port:9443", true},
        {"[fd00::7]:7443", true},
        {"only.port", false},
        {"only.port:7443", false},
        {"evil.example", false},
        {"gw.example.com.evil.example", false},
        {"a.wild.example", false},
        {"*.wild.example", false},
        {"localhost.evil.example", false},
        {"127.0.0.1.evil.example", false},
        {"192.0.2.8", false},
        {"0.0.0.0", false},
        {"[::]", false},
        {"128.0.0.1", false},
    };
    struct guard_hosts *hosts = NULL;
    REQUIRE(guard_hosts_new(SLICE("192.0.2.7:7443"), names, ARRAY_LEN(names), &hosts) == 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_head head = {.host = slice_from_cstr(cases[i].host)};
        test_row(cases[i].host);
        CHECK_INT(guard_host_is_ours(hosts, &head), cases[i].is_ours);
    }
    test_row("nobody");
    CHECK(!guard_host_is_ours(hosts, &(struct http_head){.host = SLICE_EMPTY}));
    test_row("the absolute form says otherwise");
    CHECK(!guard_host_is_ours(hosts, &(struct http_head){.host = SLICE("localhost"),
                                                         .authority = SLICE("evil.example")}));
    guard_hosts_free(hosts);
}

static void test_unspecified_listener(void) {
    struct guard_hosts *hosts = NULL;
    REQUIRE(guard_hosts_new(SLICE("0.0.0.0:7443"), NULL, 0, &hosts) == 0);
    CHECK(guard_host_is_ours(hosts, &(struct http_head){.host = SLICE("localhost")}));
    CHECK(!guard_host_is_ours(hosts, &(struct http_head){.host = SLICE("0.0.0.0:7443")}));
    CHECK(!guard_host_is_ours(hosts, &(struct http_head){.host = SLICE("198.51.100.1")}));
    guard_hosts_free(hosts);
}

/* --- Origin --- */

static void test_origin(void) {
    static const struct {
        const char *name;
        struct slice text;
        bool is_ours;
    } cases[] = {
        {"none", WITH(""), true},
        {"ours", WITH("Origin: https://gw:7443\r\n"), true},
        {"ours, other case", WITH("Origin: HTTPS://GW:7443\r\n"), true},
        {"another port", WITH("Origin: https://gw:3000\r\n"), false},
        {"no port", WITH("Origin: https://gw\r\n"), false},
        {"in the clear", WITH("Origin: http://gw:7443\r\n"), false},
        {"null", WITH("Origin: null\r\n"), false},
        {"empty", WITH("Origin:\r\n"), false},
        {"another host", WITH("Origin: https://evil.example\r\n"), false},
        {"ours as user", WITH("Origin: https://gw:7443@evil.example\r\n"), false},
        {"with a path", WITH("Origin: https://gw:7443/\r\n"), false},
        {"two", WITH("Origin: https://gw:7443\r\nOrigin: https://gw:7443\r\n"), false},
        {"same-origin", WITH("Sec-Fetch-Site: same-origin\r\n"), true},
        {"typed", WITH("Sec-Fetch-Site: none\r\n"), true},
        {"same-site", WITH("Sec-Fetch-Site: same-site\r\n"), false},
        {"cross-site", WITH("Sec-Fetch-Site: cross-site\r\n"), false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct request request = read_request(cases[i].text);
        test_row(cases[i].name);
        CHECK(request.head != NULL);
        if (request.head != NULL)
            CHECK_INT(guard_origin_is_ours(request.head), cases[i].is_ours);
        free_request(&request);
    }
}

/* --- credentials --- */

#define ID     "AAAAAAAAAAAAAAAAAAAAAA"
#define SECRET "ssssssssssssssssssssssssssssssssssssssssssS"
#define COOKIE GUARD_COOKIE "=" ID "." SECRET
#define TOKEN  "cardea_abcdefgh_ttttttttttttttttttttttttttttttttttttttttttT"

static void test_credentials(void) {
    static const struct {
        const char *name;
        struct slice text;
        enum guard_credentials expected;
    } cases[] = {
        {"nobody", WITH(""), GUARD_NOBODY},
        {"other cookies", WITH("Cookie: a=b; cardea-session=" ID "." SECRET "\r\n"), GUARD_NOBODY},
        {"a cookie", WITH("Cookie: " COOKIE "\r\n"), GUARD_COOKIE_SENT},
        {"among others", WITH("Cookie: a=b; " COOKIE ";c=d\r\n"), GUARD_COOKIE_SENT},
        {"two of one name", WITH("Cookie: " COOKIE "; " COOKIE "\r\n"), GUARD_AMBIGUOUS},
        {"two, the first one bad", WITH("Cookie: " GUARD_COOKIE "=x; " COOKIE "\r\n"),
         GUARD_AMBIGUOUS},
        {"two, in another case", WITH("Cookie: __host-cardea-session=x; " COOKIE "\r\n"),
         GUARD_AMBIGUOUS},
        {"another case", WITH("Cookie: __host-cardea-session=" ID "." SECRET "\r\n"),
         GUARD_MALFORMED},
        {"two fields", WITH("Cookie: " COOKIE "\r\nCookie: " COOKIE "\r\n"), GUARD_AMBIGUOUS},
        {"short", WITH("Cookie: " GUARD_COOKIE "=" ID ".x\r\n"), GUARD_MALFORMED},
        {"quoted", WITH("Cookie: " GUARD_COOKIE "=\"" ID "." SECRET "\"\r\n"), GUARD_MALFORMED},
        {"empty", WITH("Cookie: " GUARD_COOKIE "=\r\n"), GUARD_MALFORMED},
        {"without a value", WITH("Cookie: " GUARD_COOKIE "\r\n"), GUARD_MALFORMED},
        {"a token", WITH("Authorization: Bearer " TOKEN "\r\n"), GUARD_BEARER},
        {"a token, small", WITH("Authorization: bearer " TOKEN "\r\n"), GUARD_BEARER},
        {"both", WITH("Cookie: " COOKIE "\r\nAuthorization: Bearer " TOKEN "\r\n"),
         GUARD_AMBIGUOUS},
        {"two tokens", WITH("Authorization: Bearer " TOKEN "\r\nAuthorization: Bearer x\r\n"),
         GUARD_AMBIGUOUS},
        {"another scheme", WITH("Authorization: Basic YTpi\r\n"), GUARD_MALFORMED},
        {"another token", WITH("Authorization: Bearer abc\r\n"), GUARD_MALFORMED},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct request request = read_request(cases[i].text);
        struct guard_who who;
        test_row(cases[i].name);
        CHECK(request.head != NULL);
        if (request.head != NULL) {
            CHECK_INT(guard_credentials(request.head, &who), cases[i].expected);
            if (cases[i].expected == GUARD_COOKIE_SENT) {
                CHECK_STR(who.session, ID);
                CHECK_STR(who.secret, SECRET);
            } else if (cases[i].expected == GUARD_BEARER) {
                CHECK_STR(who.token, TOKEN);
            } else {
                CHECK(who.session.len == 0 && who.token.len == 0);
            }
        }
        free_request(&request);
    }
}

/* --- versions --- */

static void test_if_match(void) {
    static const struct {
        const char *name;
        struct slice text;
        enum guard_match expected;
        uint64_t version;
    } cases[] = {
        {"none", WITH(""), GUARD_MATCH_NONE, 0},
        {"ours", WITH("If-Match: \"7\"\r\n"), GUARD_MATCH_ONE, 7},
        {"any", WITH("If-Match: *\r\n"), GUARD_MATCH_ANY, 0},
        {"weak", WITH("If-Match: W/\"7\"\r\n"), GUARD_MATCH_OTHER, 0},
        {"no number", WITH("If-Match: \"x\"\r\n"), GUARD_MATCH_OTHER, 0},
        {"zero would be any", WITH("If-Match: \"0\"\r\n"), GUARD_MATCH_OTHER, 0},
        {"another spelling", WITH("If-Match: \"07\"\r\n"), GUARD_MATCH_OTHER, 0},
        {"too large", WITH("If-Match: \"99999999999999999999\"\r\n"), GUARD_MATCH_OTHER, 0},
        {"empty tag", WITH("If-Match: \"\"\r\n"), GUARD_MATCH_OTHER, 0},
        {"bare", WITH("If-Match: 7\r\n"), GUARD_MATCH_BAD, 0},
        {"empty", WITH("If-Match:\r\n"), GUARD_MATCH_BAD, 0},
        {"open", WITH("If-Match: \"7\r\n"), GUARD_MATCH_BAD, 0},
        {"a quote", WITH("If-Match: \"\r\n"), GUARD_MATCH_BAD, 0},
        {"several", WITH("If-Match: \"7\", \"8\"\r\n"), GUARD_MATCH_BAD, 0},
        {"two fields", WITH("If-Match: \"7\"\r\nIf-Match: \"7\"\r\n"), GUARD_MATCH_BAD, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct request request = read_request(cases[i].text);
        uint64_t version = 0;
        test_row(cases[i].name);
        CHECK(request.head != NULL);
        if (request.head != NULL)
            CHECK_INT(guard_if_match(request.head, &version), cases[i].expected);
        CHECK_INT(version, cases[i].version);
        free_request(&request);
    }
}

/* --- paths --- */

static void test_paths(void) {
    static const struct {
        const char *pattern, *path;
        const char *parameter; /* NULL: it does not match */
    } cases[] = {
        {"/api/v1/users", "/api/v1/users", ""},
        {"/api/v1/users/{user}", "/api/v1/users/ann", "ann"},
        {"/api/v1/users/{user}", "/api/v1/users/a%40b.c", "a@b.c"},
        {"/api/v1/users/{user}", "/api/v1/users/%C3%A4", "\xc3\xa4"},
        {"/api/v1/users/{user}/password", "/api/v1/users/ann/password", "ann"},
        {"/api/v1/users", "/api/v1/users/", NULL},
        {"/api/v1/users", "/api/v1//users", NULL},
        {"/api/v1/users", "//api/v1/users", NULL},
        {"/api/v1/users", "/api/v1/./users", NULL},
        {"/api/v1/users", "/api/v1/x/../users", NULL},
        {"/api/v1/users", "/api/v1/%75sers", NULL},
        {"/api/v1/users", "/api/v1/Users", NULL},
        {"/api/v1/users", "/api/v1/users;x=1", NULL},
        {"/api/v1/users", "/api/v1/users%2f", NULL},
        {"/api/v1/users", "/api/v1/users%00", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/.", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/..", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/%2e%2e", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/a%2fb", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/a%5cb", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/a%00", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/a%0d%0aSet-Cookie:x", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/%ff", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/%", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/%zz", NULL},
        {"/api/v1/users/{user}", "/api/v1/users/a/b", NULL},
        {"/api/v1/users/{user}", "/api/v1/users", NULL},
        {"/api/v1/users/{user}/password", "/api/v1/users//password", NULL},
        {"/api/v1/users/{user}/password", "/api/v1/users/ann/passwor%64", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(arena_deinit) struct arena arena = ARENA_INIT(KIB(64));
        struct slice parameters[GUARD_PARAMETERS] = {{0}};
        test_row(cases[i].path);
        int error = guard_match_path(slice_from_cstr(cases[i].pattern),
                                     slice_from_cstr(cases[i].path), &arena, parameters);
        CHECK_INT(error, cases[i].parameter != NULL ? 0 : GUARD_E_NO_MATCH);
        if (error == 0)
            CHECK_STR(parameters[0], cases[i].parameter);
    }
}

/* --- queries --- */

static void test_queries(void) {
    static const struct {
        const char *query, *name, *value;
        int error;
    } cases[] = {
        {"a=b", "a", "b", 0},
        {"a=", "a", "", 0},
        {"a=b%20c", "a", "b c", 0},
        {"a=b+c", "a", "b+c", 0},
        {"%61=b", "a", "b", 0},
        {"a=b=c", "a", "b=c", 0},
        {"a", NULL, NULL, GUARD_E_QUERY},
        {"&a=b", NULL, NULL, GUARD_E_QUERY},
        {"a=%", NULL, NULL, GUARD_E_QUERY},
        {"a=%00", NULL, NULL, GUARD_E_QUERY},
        {"a=%ff", NULL, NULL, GUARD_E_QUERY},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(arena_deinit) struct arena arena = ARENA_INIT(KIB(64));
        struct slice rest = slice_from_cstr(cases[i].query), name = SLICE_EMPTY,
                     value = SLICE_EMPTY;
        int error = -1;
        test_row(cases[i].query);
        CHECK(guard_next_query(&rest, &arena, &name, &value, &error));
        CHECK_INT(error, cases[i].error);
        if (error != 0)
            continue;
        CHECK_STR(name, cases[i].name);
        CHECK_STR(value, cases[i].value);
        CHECK(!guard_next_query(&rest, &arena, &name, &value, &error));
    }
}

static void test_cursor(void) {
    CLEANUP(buf_deinit) struct buf cursor = BUF_INIT(KIB(1));
    CLEANUP(buf_deinit) struct buf place = BUF_INIT(KIB(1));
    CHECK_INT(guard_write_cursor(&cursor, SLICE("ann")), 0);
    CHECK_INT(guard_read_cursor(buf_slice(&cursor), &place), 0);
    CHECK_STR(buf_slice(&place), "ann");
    static const char *const bad[] = {"", "!", "YW5u=", "_w", "AA"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        test_row(bad[i]);
        buf_reset(&place, 0);
        CHECK_INT(guard_read_cursor(slice_from_cstr(bad[i]), &place), GUARD_E_QUERY);
    }
}

static void test_place(void) {
    CLEANUP(buf_deinit) struct buf cursor = BUF_INIT(KIB(1));
    const struct accounts_place place = {.created_ms = 1700000000123,
                                         .id = "AAAAAAAAAAAAAAAAAAAAA-"};
    struct accounts_place again = {.created_ms = 7};
    CHECK_INT(guard_write_place(&cursor, &place), 0);
    CHECK_INT(guard_read_place(buf_slice(&cursor), &again), 0);
    CHECK_INT(again.created_ms, place.created_ms);
    CHECK_STR(slice_from_cstr(again.id), place.id);
    static const char *const bad[] = {
        "",
        "AAAAAAAAAAAAAAAAAAAAAA",
        ".AAAAAAAAAAAAAAAAAAAAAA",
        "-1.AAAAAAAAAAAAAAAAAAAAAA",
        "9223372036854775808.AAAAAAAAAAAAAAAAAAAAAA",
        "1.AAAAAAAAAAAAAAAAAAAAA",
        "1.AAAAAAAAAAAAAAAAAAAAAAA",
        "1.AAAAAAAAAAAAAAAAAAAAA'",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        test_row(bad[i]);
        buf_reset(&cursor, KIB(1));
        CHECK_INT(guard_write_cursor(&cursor, slice_from_cstr(bad[i])), 0);
        CHECK_INT(guard_read_place(buf_slice(&cursor), &again), GUARD_E_QUERY);
    }
    CHECK_INT(again.created_ms, place.created_ms);
}

/* --- without memory --- */

static void torture(void *arg) {
    CLEANUP(arena_deinit) struct arena arena = ARENA_INIT(KIB(64));
    static const struct slice names[] = {SLICE_INIT("gw.example.com"), SLICE_INIT("fd00::7")};
    struct guard_hosts *hosts = NULL;
    struct slice parameters[GUARD_PARAMETERS];
    (void)arg;
    int error = guard_hosts_new(SLICE("127.0.0.1:1"), names, ARRAY_LEN(names), &hosts);
    CHECK(error == 0 || error == -ENOMEM);
    guard_hosts_free(hosts);
    error = guard_match_path(SLICE("/users/{user}"), SLICE("/users/ann"), &arena, parameters);
    CHECK(error == 0 || error == -ENOMEM);
}

static void test_without_memory(void) {
    test_torture(torture, NULL);
}

TEST_MAIN(TEST(test_host), TEST(test_unspecified_listener), TEST(test_origin),
          TEST(test_credentials), TEST(test_if_match), TEST(test_paths), TEST(test_queries),
          TEST(test_cursor), TEST(test_place), TEST(test_without_memory))
