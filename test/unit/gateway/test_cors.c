/* Which origins may call, and the lines that browsers are told so with. */
#include "cors.h"
#include "head.h"

enum { ENTRIES = 4 };

static struct slice list[4][8];

static size_t fill(size_t which, const char *const *items, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n && items[i] != NULL; i++)
        list[which][count++] = slice_from_cstr(items[i]);
    return count;
}

static const struct {
    const char *entry, *origin;
    bool allowed;
} origin_rows[] = {
    /* as written */
    {"https://app.example", "https://app.example", true},
    {"https://app.example", "HTTPS://APP.Example", true},
    {"https://app.example", "https://app.example:443", true},
    {"https://app.example:443", "https://app.example", true},
    {"http://app.example", "http://app.example:80", true},
    {"https://app.example:8443", "https://app.example:8443", true},
    {"https://app.example/", "https://app.example", true},
    {"https://app.example/deep/path?x", "https://app.example", true},
    {"http://127.0.0.1:3000", "http://127.0.0.1:3000", true},
    {"http://[::1]:3000", "http://[::1]:3000", true},
    {"vscode-webview://abc", "vscode-webview://abc", true},
    {"https://app.example", "http://app.example", false},
    {"https://app.example", "https://app.example:8443", false},
    {"https://app.example:8443", "https://app.example", false},
    {"https://app.example", "https://www.app.example", false},
    {"https://app.example", "https://app.example.evil.example", false},
    {"https://app.example", "https://evil-app.example", false},
    {"https://app.example", "https://app.exampl", false},
    {"https://app.example", "https://app.example/", false},
    {"https://app.example", "https://app.example?x", false},
    {"https://app.example", "https://app.example#x", false},
    {"https://app.example", "https://u@app.example", false},
    {"https://app.example", "https://app.example https://evil.example", false},
    {"https://app.example", "https://app.example, https://evil.example", false},
    {"https://app.example", "app.example", false},
    {"https://app.example", "null", false},
    {"https://app.example", "", false},
    {"https://app.example", "*", false},
    {"http://[::1]:3000", "http://[::2]:3000", false},
    /* "*." in front: labels, as many as there are, but some */
    {"https://*.example.com", "https://a.example.com", true},
    {"https://*.example.com", "https://A.B.Example.Com", true},
    {"https://*.example.com", "https://a-1_x.example.com", true},
    {"https://*.example.com", "https://example.com", false},
    {"https://*.example.com", "https://badexample.com", false},
    {"https://*.example.com", "https://a.badexample.com", false},
    {"https://*.example.com", "https://a.example.com.evil.example", false},
    {"https://*.example.com", "https://evil.example/.example.com", false},
    {"https://*.example.com", "https://evil.example:80.example.com", false},
    {"https://*.example.com", "https://evil.example?.example.com", false},
    {"https://*.example.com", "https://evil.example#.example.com", false},
    {"https://*.example.com", "https://evil.example@a.example.com", false},
    {"https://*.example.com", "https://a.example.com:8443", false},
    {"https://*.example.com", "http://a.example.com", false},
    {"https://*.example.com", "https://.example.com", false},
    {"https://*.example.com", "https://*.example.com", false},
    {"https://*.example.com", "null", false},
    {"https://*.example.com:8443", "https://a.example.com:8443", true},
    {"https://*.example.com:8443", "https://a.example.com", false},
    {"https://*.com", "https://a.com", true},
    {"https://*.app-*.example.com", "https://x.y.app-1.example.com", true},
    {"https://*.app-*.example.com", "https://app-1.example.com", false},
    {"https://*.app-*.example.com", "https://x.app-1.y.example.com", false},
    /* inside a label: of that label */
    {"https://app-*.example.com", "https://app-1.example.com", true},
    {"https://app-*.example.com", "https://app-.example.com", false}, /* is no name */
    {"https://app-*.example.com", "https://app-1.evil.example.com", false},
    {"https://app-*.example.com", "https://app.example.com", false},
    {"https://*-app.example.com", "https://x-app.example.com", true},
    {"https://*-app.example.com", "https://x.y-app.example.com", false},
    {"https://a*b*c.example.com", "https://aXXbYYbc.example.com", true},
    {"https://a*b*c.example.com", "https://aXXbYYb.example.com", false},
    {"https://app?.example.com", "https://app1.example.com", true},
    {"https://app?.example.com", "https://app12.example.com", false},
    {"https://app?.example.com", "https://app.example.com", false},
    {"https://a?b.example.com", "https://a.b.example.com", false},
    /* any host of a scheme and port */
    {"https://*", "https://anything.example", true},
    {"https://*", "https://10.0.0.1", true},
    {"https://*", "https://[::1]", true},
    {"https://*", "http://anything.example", false},
    {"https://*", "https://anything.example:8443", false},
    {"https://*", "null", false},
    /* wildcards where none may be: they match nothing, themselves neither */
    {"https://example.*", "https://example.com", false},
    {"https://example.*", "https://example.a", false},
    {"https://exam*", "https://example", false},
    {"https://*.*", "https://a.b", false},
    {"*://app.example", "https://app.example", false},
    {"https://app.example:*", "https://app.example:8443", false},
    {"https://app.example:44?", "https://app.example:443", false},
    {"https://127.0.0.*", "https://127.0.0.1", false},
    {"https://*.0.0.1", "https://127.0.0.1", false},
    {"https://[::*]", "https://[::1]", false},
    {"https://*@app.example", "https://app.example", false},
    {"https://app[12].example", "https://app1.example", false},
    {"https://{a,b}.example", "https://a.example", false},
    {"app.example", "https://app.example", false},
    {"", "https://app.example", false},
    {"null", "null", false},
    /* all */
    {"*", "https://app.example", true},
    {"*", "http://localhost:3000", true},
    {"*", "chrome-extension://abc", true},
    {"*", "null", false},
    {"*", "", false},
    {"*", "*", false},
    {"*", "file://", false},
    {"*", "https://app.example/", false},
    {"*", "https://a b", false},
};

static void test_origins(void) {
    for (size_t i = 0; i < ARRAY_LEN(origin_rows); i++) {
        struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(KIB(64));
        struct slice entry = slice_from_cstr(origin_rows[i].entry);
        const struct config_cors config = {.is_set = true,
                                           .allow_origins = &entry,
                                           .n_allow_origins = 1,
                                           .max_age_ms = UINT64_MAX};
        char name[256];
        struct cors cors;
        snprintf(name, sizeof name, "%s and %s", origin_rows[i].entry, origin_rows[i].origin);
        test_row(name);
        REQUIRE(cors_init(&cors, &config, &arena) == 0);
        CHECK_INT(cors_allows(&cors, slice_from_cstr(origin_rows[i].origin)),
                  origin_rows[i].allowed);
    }
}

/* Nothing that a name can hold lets a glob outside of its labels: against the plain definition. */
static bool matches_by_definition(const char *pattern, const char *host) {
    if (*pattern == '\0')
        return *host == '\0';
    if (*pattern == '*')
        return matches_by_definition(pattern + 1, host) ||
               (*host != '\0' && *host != '.' && matches_by_definition(pattern, host + 1));
    if (*host == '\0' || (*pattern == '?' ? *host == '.' : *pattern != *host))
        return false;
    return matches_by_definition(pattern + 1, host + 1);
}

static void spell(char *out, size_t len, size_t number, const char *letters) {
    size_t n = strlen(letters);
    for (size_t i = 0; i < len; i++, number /= n)
        out[i] = letters[number % n];
    out[len] = '\0';
}

static size_t power(size_t base, size_t exponent) {
    size_t result = 1;
    while (exponent-- != 0)
        result *= base;
    return result;
}

static void check_glob(const char *pattern) {
    struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(KIB(64));
    char entry[32], origin[32], host[16];
    struct cors cors;
    snprintf(entry, sizeof entry, "https://%s.z", pattern);
    struct slice text = slice_from_cstr(entry);
    const struct config_cors config = {
        .is_set = true, .allow_origins = &text, .n_allow_origins = 1, .max_age_ms = UINT64_MAX};
    REQUIRE(cors_init(&cors, &config, &arena) == 0);
    if (cors.n_origins == 0)
        return;
    for (size_t len = 1; len <= 5; len++) {
        for (size_t i = 0; i < power(3, len); i++) {
            spell(host, len, i, "ab.");
            bool is_name = host[0] != '.' && host[len - 1] != '.' && strstr(host, "..") == NULL;
            snprintf(origin, sizeof origin, "https://%s.z", host);
            CHECK_INT(cors_allows(&cors, slice_from_cstr(origin)),
                      is_name && matches_by_definition(pattern, host));
        }
    }
}

static void test_globs(void) {
    char pattern[16];
    for (size_t len = 1; len <= 4; len++) {
        for (size_t i = 0; i < power(4, len); i++) {
            spell(pattern, len, i, "a*.?");
            if (pattern[0] == '*' && (pattern[1] == '.' || pattern[1] == '\0'))
                continue; /* several labels: the table above */
            test_row(pattern);
            check_glob(pattern);
        }
    }
}

struct lines_row {
    const char *name;
    const char *origins[ENTRIES], *methods[ENTRIES], *headers[ENTRIES], *expose[ENTRIES];
    bool credentials, private_network;
    uint64_t max_age_ms;
    const char *origin; /* that was allowed; "" for none */
    const char *asks;   /* more lines of the preflight */
    const char *answer, *preflight;
};

#define VARY "Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n"

static const struct lines_row lines_rows[] = {
    {
        .name = "an origin alone opens nothing else",
        .origins = {"https://app.example"},
        .max_age_ms = UINT64_MAX,
        .origin = "https://app.example",
        .answer = "Vary: Origin\r\nAccess-Control-Allow-Origin: https://app.example\r\n",
        .preflight = VARY,
    },
    {
        .name = "a request without an allowed origin",
        .origins = {"https://app.example"},
        .credentials = true,
        .expose = {"X-A"},
        .max_age_ms = UINT64_MAX,
        .origin = "",
        .answer = "Vary: Origin\r\n",
        .preflight = VARY,
    },
    {
        .name = "all of it",
        .origins = {"https://app.example"},
        .methods = {"GET", "POST"},
        .headers = {"Authorization", "Content-Type"},
        .expose = {"Mcp-Session-Id"},
        .credentials = true,
        .private_network = true,
        .max_age_ms = 3600999,
        .origin = "https://app.example",
        .asks = "Access-Control-Request-Private-Network: true\r\n",
        .answer = "Vary: Origin\r\nAccess-Control-Allow-Origin: https://app.example\r\n"
                  "Access-Control-Allow-Credentials: true\r\n"
                  "Access-Control-Expose-Headers: Mcp-Session-Id\r\n",
        .preflight = VARY "Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n"
                          "Access-Control-Allow-Headers: Authorization, Content-Type\r\n"
                          "Access-Control-Max-Age: 3600\r\n"
                          "Access-Control-Allow-Private-Network: true\r\n",
    },
    {
        .name = "a private network that is not asked for",
        .origins = {"https://app.example"},
        .private_network = true,
        .max_age_ms = 0,
        .origin = "https://app.example",
        .asks = "Access-Control-Request-Private-Network: false\r\n",
        .answer = "Vary: Origin\r\nAccess-Control-Allow-Origin: https://app.example\r\n",
        .preflight = VARY "Access-Control-Max-Age: 0\r\n",
    },
    {
        .name = "a private network that is not allowed",
        .origins = {"https://app.example"},
        .max_age_ms = UINT64_MAX,
        .origin = "https://app.example",
        .asks = "Access-Control-Request-Private-Network: true\r\n",
        .answer = "Vary: Origin\r\nAccess-Control-Allow-Origin: https://app.example\r\n",
        .preflight = VARY,
    },
    {
        .name = "stars",
        .origins = {"*"},
        .methods = {"*"},
        .headers = {"*"},
        .expose = {"*"},
        .max_age_ms = UINT64_MAX,
        .origin = "https://app.example",
        .answer = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n",
        .preflight = VARY "Access-Control-Allow-Methods: *\r\n"
                          "Access-Control-Allow-Headers: *, Authorization\r\n",
    },
    {
        .name = "never credentials for everybody",
        .origins = {"https://app.example", "*"},
        .credentials = true,
        .max_age_ms = UINT64_MAX,
        .origin = "https://app.example",
        .answer = "Access-Control-Allow-Origin: *\r\n",
        .preflight = VARY,
    },
    {
        .name = "nothing of the file begins a line",
        .origins = {"https://app.example"},
        .methods = {"GET\r\nX: y", "OPTIONS", ""},
        .headers = {"X-A, X-B", "X-C"},
        .expose = {"X-A:", "\x80"},
        .max_age_ms = UINT64_MAX,
        .origin = "https://app.example",
        .answer = "Vary: Origin\r\nAccess-Control-Allow-Origin: https://app.example\r\n",
        .preflight = VARY "Access-Control-Allow-Methods: OPTIONS\r\n"
                          "Access-Control-Allow-Headers: X-C\r\n",
    },
};

static void test_lines(void) {
    for (size_t i = 0; i < ARRAY_LEN(lines_rows); i++) {
        const struct lines_row *row = &lines_rows[i];
        struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(KIB(64));
        CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
        struct buf answer CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
        struct buf preflight CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
        const struct config_cors config = {
            .is_set = true,
            .allow_credentials = row->credentials,
            .allow_private_network = row->private_network,
            .allow_origins = list[0],
            .n_allow_origins = fill(0, row->origins, ENTRIES),
            .allow_methods = list[1],
            .n_allow_methods = fill(1, row->methods, ENTRIES),
            .allow_headers = list[2],
            .n_allow_headers = fill(2, row->headers, ENTRIES),
            .expose_headers = list[3],
            .n_expose_headers = fill(3, row->expose, ENTRIES),
            .max_age_ms = row->max_age_ms,
        };
        char fields[512];
        struct cors cors;
        test_row(row->name);
        snprintf(fields, sizeof fields, "Host: x\r\n%s", row->asks != NULL ? row->asks : "");
        const struct http_head *head = read_head(parser, "OPTIONS /mcp HTTP/1.1", fields);
        REQUIRE(head != NULL);
        REQUIRE(cors_init(&cors, &config, &arena) == 0);
        cors_write(&cors, slice_from_cstr(row->origin), &answer);
        cors_write_preflight(&cors, head, &preflight);
        CHECK_STR(buf_slice(&answer), row->answer);
        CHECK_STR(buf_slice(&preflight), row->preflight);
    }
}

static void test_absent(void) {
    struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(KIB(4));
    struct slice all = SLICE("*");
    const struct config_cors config = {.allow_origins = &all, .n_allow_origins = 1};
    struct cors cors;
    REQUIRE(cors_init(&cors, &config, &arena) == 0);
    CHECK(!cors.is_set);
    CHECK(!cors_allows(&cors, SLICE("https://app.example")));
}

static void test_too_long(void) {
    struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(MIB(1));
    char name[KIB(4)];
    memset(name, 'x', sizeof name);
    struct slice long_name = slice_make(name, sizeof name);
    const struct config_cors config = {
        .is_set = true, .expose_headers = &long_name, .n_expose_headers = 1};
    struct cors cors;
    CHECK_INT(cors_init(&cors, &config, &arena), -E2BIG);
}

static void test_preflight(void) {
    static const struct {
        const char *method, *fields;
        bool is_one;
    } rows[] = {
        {"OPTIONS", "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n", true},
        {"OPTIONS", "origin: null\r\naccess-control-request-method: POST\r\n", true},
        {"OPTIONS", "Origin: https://a.example\r\n", false},
        {"OPTIONS", "Access-Control-Request-Method: POST\r\n", false},
        {"OPTIONS", "", false},
        {"POST", "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
        char first[64], fields[256];
        test_row(rows[i].fields);
        snprintf(first, sizeof first, "%s /mcp HTTP/1.1", rows[i].method);
        snprintf(fields, sizeof fields, "Host: x\r\n%s", rows[i].fields);
        const struct http_head *head = read_head(parser, first, fields);
        REQUIRE(head != NULL);
        CHECK_INT(cors_is_preflight(head), rows[i].is_one);
    }
}

TEST_MAIN(TEST(test_origins), TEST(test_globs), TEST(test_lines), TEST(test_absent),
          TEST(test_too_long), TEST(test_preflight))
