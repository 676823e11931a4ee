/* Targets: URLs, the proxy that is chosen for them, and the bytes that are sent to it. */
#include <errno.h>

#include "base/limits.h"
#include "private.h"
#include "test.h"

struct variable {
    const char *name, *value;
};

static const char *get_variable(void *context, const char *name) {
    const struct variable *variables = context;
    for (; variables->name != NULL; variables++) {
        if (strcmp(variables->name, name) == 0)
            return variables->value;
    }
    return NULL;
}

static const char *no_variable(void *context, const char *name) {
    (void)context;
    (void)name;
    return NULL;
}

static int make(struct slice url, const char *proxy, struct client_target **ret_target,
                const char **ret_reason) {
    struct client_target_options options = {
        .url = url, .proxy = slice_from_cstr(proxy), .getenv_fn = no_variable};
    return client_target_new(&options, ret_target, ret_reason);
}

static void test_urls(void) {
    static const struct {
        struct slice url;
        const char *dialled, *host, *path; /* path NULL: refused, and host is the reason */
        bool is_tls;
    } rows[] = {
        {SLICE_INIT("http://h"), "h:80", "h", "/", false},
        {SLICE_INIT("HTTP://h/"), "h:80", "h", "/", false},
        {SLICE_INIT("http://h:80/a"), "h:80", "h", "/a", false},
        {SLICE_INIT("http://h:443/a"), "h:443", "h:443", "/a", false},
        {SLICE_INIT("https://h/a/b?c=d&e"), "h:443", "h", "/a/b?c=d&e", true},
        {SLICE_INIT("https://h:443"), "h:443", "h", "/", true},
        {SLICE_INIT("https://h:80"), "h:80", "h:80", "/", true},
        {SLICE_INIT("http://h?q"), "h:80", "h", "/?q", false},
        {SLICE_INIT("http://h/a?"), "h:80", "h", "/a?", false},
        {SLICE_INIT("http://10.0.0.1:8000/mcp"), "10.0.0.1:8000", "10.0.0.1:8000", "/mcp", false},
        {SLICE_INIT("http://[::1]/"), "[::1]:80", "[::1]", "/", false},
        {SLICE_INIT("https://[fd00::1]:8443/"), "[fd00::1]:8443", "[fd00::1]:8443", "/", true},
        {SLICE_INIT("http://h/%41%20b"), "h:80", "h", "/%41%20b", false},
        {SLICE_INIT(""), NULL, "the scheme is missing", NULL, false},
        {SLICE_INIT("h:80"), NULL, "the URL is neither http nor https", NULL, false},
        {SLICE_INIT("ftp://h/"), NULL, "the URL is neither http nor https", NULL, false},
        {SLICE_INIT("ws://h/"), NULL, "the URL is neither http nor https", NULL, false},
        {SLICE_INIT("http:///a"), NULL, "the host is missing", NULL, false},
        {SLICE_INIT("http://u@h/"), NULL, "the URL has a user or password in it", NULL, false},
        {SLICE_INIT("http://u:p@h/"), NULL, "the URL has a user or password in it", NULL, false},
        {SLICE_INIT("http://@h/"), NULL, "the URL has a user or password in it", NULL, false},
        {SLICE_INIT("http://h/#f"), NULL, "the URL has a fragment", NULL, false},
        {SLICE_INIT("http://h/#"), NULL, "the URL has a fragment", NULL, false},
        {SLICE_INIT("http://h/a b"), NULL, "the path is not valid", NULL, false},
        {SLICE_INIT("http://h/a\r\nX: y"), NULL, "the path is not valid", NULL, false},
        {SLICE_INIT("http://h/a\0b"), NULL, "the path is not valid", NULL, false},
        {SLICE_INIT("http://h/?a b"), NULL, "the query is not valid", NULL, false},
        {SLICE_INIT("http://h:0/"), NULL, "the port is not a number from 1 to 65535", NULL, false},
        {SLICE_INIT("http://0x7f.1/"), NULL,
         "a numeric host must be an IPv4 address of four numbers", NULL, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct client_target *target = NULL;
        const char *reason = NULL;
        char fields[128];
        test_row(rows[i].url.ptr);
        int r = make(rows[i].url, "", &target, &reason);
        CHECK_INT(r, rows[i].path != NULL ? 0 : CLIENT_E_INVALID);
        CHECK((target != NULL) == (r == 0));
        if (r != 0) {
            CHECK_STR(slice_from_cstr(reason), rows[i].host);
            continue;
        }
        snprintf(fields, sizeof fields, "Host: %s\r\nAccept-Encoding: identity\r\n", rows[i].host);
        CHECK_STR(target->origin.name, rows[i].dialled);
        CHECK_STR(target->origin.label, rows[i].dialled);
        CHECK_STR(target->fields, fields);
        CHECK_STR(target->path, rows[i].path);
        CHECK_INT(client_target_is_tls(target), rows[i].is_tls);
        CHECK_STR(client_target_proxy(target), "");
        client_target_free(target);
    }
}

static void test_long_url(void) {
    static char url[LIMIT_URI + 1] = "http://h/";
    struct client_target *target = NULL;
    const char *reason = NULL;
    memset(url + 9, 'a', sizeof url - 9);
    CHECK_INT(make(slice_make(url, LIMIT_URI), "", &target, &reason), 0);
    CHECK_INT(target->path.len, LIMIT_URI - 8);
    target = client_target_free(target);
    CHECK_INT(make(slice_make(url, LIMIT_URI + 1), "", &target, &reason), CLIENT_E_INVALID);
    CHECK(target == NULL);
}

/* A URL, what no_proxy says, and whether it is reached directly then. */
struct exempt_row {
    const char *no_proxy, *url;
    bool is_direct;
};

static void check_exempt(const struct exempt_row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char row[128];
        struct variable variables[] = {
            {"all_proxy", "http://p:3128"}, {"no_proxy", rows[i].no_proxy}, {NULL, NULL}};
        struct client_target_options options = {
            .url = slice_from_cstr(rows[i].url),
            .getenv_fn = get_variable,
            .getenv_context = variables,
        };
        struct client_target *target = NULL;
        const char *reason = NULL;
        snprintf(row, sizeof row, "%s: %s", rows[i].no_proxy, rows[i].url);
        test_row(row);
        CHECK_INT(client_target_new(&options, &target, &reason), 0);
        if (target != NULL)
            CHECK_STR(client_target_proxy(target), rows[i].is_direct ? "" : "p:3128");
        client_target_free(target);
        /* The capital form holds as well, and neither does when the proxy is named. */
        variables[1].name = "NO_PROXY";
        target = NULL;
        CHECK_INT(client_target_new(&options, &target, &reason), 0);
        if (target != NULL)
            CHECK_STR(client_target_proxy(target), rows[i].is_direct ? "" : "p:3128");
        client_target_free(target);
        target = NULL;
        options.proxy = SLICE("http://q:1");
        CHECK_INT(client_target_new(&options, &target, &reason), 0);
        if (target != NULL)
            CHECK_STR(client_target_proxy(target), "q:1");
        client_target_free(target);
    }
}

static void test_no_proxy_names(void) {
    static const struct exempt_row rows[] = {
        {"", "http://example.com", false},
        {"*", "http://example.com", true},
        {" * ", "http://10.1.2.3", true},
        {"a,*", "http://[2001:db8::1]", true},
        {"*x", "http://xx", false},
        {"example.com", "http://example.com", true},
        {"example.com", "http://EXAMPLE.com", true},
        {"EXAMPLE.com", "http://example.com", true},
        {"example.com", "http://a.example.com", true},
        {"example.com", "http://a.b.example.com", true},
        {"example.com", "http://badexample.com", false},
        {"example.com", "http://example.com.evil.org", false},
        {"example.com", "http://example.co", false},
        {"example.com", "http://com", false},
        {".example.com", "http://example.com", true},
        {".example.com", "http://a.example.com", true},
        {".example.com", "http://badexample.com", false},
        {"*.example.com", "http://a.example.com", true},
        {"*.example.com", "http://badexample.com", false},
        {"example.com.", "http://example.com", true},
        {"com", "http://example.com", true},
        {".", "http://example.com", false},
        {"..", "http://example.com", false},
        {"*.", "http://example.com", false},
        {"exa*", "http://example.com", false},
    };
    check_exempt(rows, ARRAY_LEN(rows));
}

static void test_no_proxy_lists(void) {
    static const struct exempt_row rows[] = {
        {"a,example.com,b", "http://example.com", true},
        {" a , example.com , b ", "http://example.com", true},
        {"a example.com b", "http://example.com", true},
        {"a\texample.com", "http://example.com", true},
        {",,example.com", "http://example.com", true},
        {",", "http://example.com", false},
        {", ,", "http://example.com", false},
        {"example.com,", "http://example.com", true},
        {"a;example.com", "http://example.com", false},
        {"example.com:80", "http://example.com", true},
        {"example.com:80", "http://example.com:8080", false},
        {"example.com:443", "https://example.com", true},
        {"example.com:8080", "http://a.example.com:8080", true},
        {"example.com:", "http://example.com", false},
        {"example.com:0", "http://example.com", false},
        {"example.com:x", "http://example.com", false},
        {"example.com:65616", "http://example.com", false},
        {":80", "http://example.com", false},
    };
    check_exempt(rows, ARRAY_LEN(rows));
}

static void test_no_proxy_addresses(void) {
    static const struct exempt_row rows[] = {
        {"10.1.2.3", "http://10.1.2.3", true},
        {"10.1.2.3", "http://10.1.2.4", false},
        {"2.3", "http://10.1.2.3", false},
        {".2.3", "http://10.1.2.3", false},
        {"10.1.2.3", "http://a.10.1.2.3.example.com", false},
        {"10.1.2.3:80", "http://10.1.2.3", true},
        {"10.1.2.3:81", "http://10.1.2.3", false},
        {"2001:db8::1", "http://[2001:db8::1]", true},
        {"2001:db8:0:0::1", "http://[2001:db8::1]", true},
        {"[2001:db8::1]", "http://[2001:db8::1]", true},
        {"[2001:db8::1]:80", "http://[2001:db8::1]", true},
        {"[2001:db8::1]:81", "http://[2001:db8::1]", false},
        {"[2001:db8::1]x", "http://[2001:db8::1]", false},
        {"[2001:db8::1", "http://[2001:db8::1]", false},
        {"[", "http://[2001:db8::1]", false},
        {"2001:db8::2", "http://[2001:db8::1]", false},
        {"::ffff:10.1.2.3", "http://10.1.2.3", true},
        {"10.1.2.3", "http://[::ffff:10.1.2.3]", true},
    };
    check_exempt(rows, ARRAY_LEN(rows));
}

static void test_no_proxy_blocks(void) {
    static const struct exempt_row rows[] = {
        {"10.0.0.0/8", "http://10.255.1.2", true},
        {"10.0.0.0/8", "http://11.0.0.0", false},
        {"10.1.2.3/8", "http://10.255.1.2", true},
        {"10.1.2.0/23", "http://10.1.3.255", true},
        {"10.1.2.0/23", "http://10.1.4.0", false},
        {"10.1.2.3/32", "http://10.1.2.3", true},
        {"10.1.2.3/32", "http://10.1.2.2", false},
        {"0.0.0.0/0", "http://10.1.2.3", true},
        {"0.0.0.0/0", "http://[2001:db8::1]", false},
        {"0.0.0.0/0", "http://example.com", false},
        {"::/0", "http://[2001:db8::1]", true},
        {"::/0", "http://10.1.2.3", false},
        {"10.0.0.0/33", "http://10.0.0.0", false},
        {"10.0.0.0/129", "http://10.0.0.0", false},
        {"10.0.0.0/-1", "http://10.0.0.0", false},
        {"10.0.0.0/", "http://10.0.0.0", false},
        {"10.0.0.0/8/8", "http://10.0.0.0", false},
        {"10.0.0/8", "http://10.0.0.0", false},
        {"/8", "http://10.0.0.0", false},
        {"/", "http://10.0.0.0", false},
        {"10.0.0.0/99999999999999999999", "http://10.0.0.0", false},
        {"fd00::/8", "http://[fdff::1]", true},
        {"fd00::/8", "http://[fe00::1]", false},
        {"2001:db8::/33", "http://[2001:db8:7fff::1]", true},
        {"2001:db8::/33", "http://[2001:db8:8000::1]", false},
        {"2001:db8::1/128", "http://[2001:db8::1]", true},
        {"2001:db8::/129", "http://[2001:db8::]", false},
        {"::ffff:10.0.0.0/104", "http://10.1.1.1", true},
        {"::ffff:10.0.0.0/104", "http://11.1.1.1", false},
        {"::ffff:10.0.0.0/8", "http://10.1.1.1", false},
    };
    check_exempt(rows, ARRAY_LEN(rows));
}

static void test_no_proxy_loopback(void) {
    static const struct exempt_row rows[] = {
        {"", "http://localhost", true},
        {"", "http://LocalHost:8000", true},
        {"", "http://a.localhost", true},
        {"", "http://notlocalhost", false},
        {"", "http://localhost.example.com", false},
        {"", "http://127.0.0.1", true},
        {"", "http://127.255.0.1", true},
        {"", "http://128.0.0.1", false},
        {"", "http://[::1]", true},
        {"", "http://[::2]", false},
        {"", "http://[::ffff:127.0.0.1]", true},
    };
    check_exempt(rows, ARRAY_LEN(rows));
}

static void test_environment(void) {
    static const struct {
        const char *name;
        struct variable variables[4];
        const char *proxy, *for_http, *for_https;
    } rows[] = {
        {"nothing", {{NULL, NULL}}, "", "", ""},
        {"by scheme",
         {{"http_proxy", "http://a:1"}, {"https_proxy", "http://b:2"}},
         "",
         "a:1",
         "b:2"},
        {"all", {{"all_proxy", "http://a:1"}}, "", "a:1", "a:1"},
        {"ALL", {{"ALL_PROXY", "http://a:1"}}, "", "a:1", "a:1"},
        {"scheme before all",
         {{"all_proxy", "http://a:1"}, {"https_proxy", "http://b:2"}},
         "",
         "a:1",
         "b:2"},
        {"capitals", {{"HTTPS_PROXY", "http://b:2"}}, "", "", "b:2"},
        {"not HTTP_PROXY", {{"HTTP_PROXY", "http://evil:1"}}, "", "", ""},
        {"small first",
         {{"https_proxy", "http://a:1"}, {"HTTPS_PROXY", "http://b:2"}},
         "",
         "",
         "a:1"},
        {"empty is unset",
         {{"https_proxy", ""}, {"HTTPS_PROXY", " "}, {"all_proxy", "http://c:3"}},
         "",
         "c:3",
         "c:3"},
        {"spaces around", {{"all_proxy", " http://a:1 "}}, "", "a:1", "a:1"},
        {"without scheme", {{"all_proxy", "a:1"}}, "", "a:1", "a:1"},
        {"without scheme, with user", {{"all_proxy", "u:p@a:1"}}, "", "a:1", "a:1"},
        {"without scheme, IPv6", {{"all_proxy", "[::1]:3128"}}, "", "[::1]:3128", "[::1]:3128"},
        {"named", {{"all_proxy", "http://a:1"}}, "http://n:9", "n:9", "n:9"},
        {"none", {{"all_proxy", "http://a:1"}}, "none", "", ""},
        {"no_proxy holds for the environment",
         {{"all_proxy", "http://a:1"}, {"no_proxy", "h.example"}},
         "",
         "",
         ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        for (int is_tls = 0; is_tls < 2; is_tls++) {
            struct variable variables[5] = {{NULL, NULL}};
            memcpy(variables, rows[i].variables, sizeof rows[i].variables);
            struct client_target_options options = {
                .url = is_tls ? SLICE("https://h.example") : SLICE("http://h.example"),
                .proxy = slice_from_cstr(rows[i].proxy),
                .getenv_fn = get_variable,
                .getenv_context = variables,
            };
            struct client_target *target = NULL;
            const char *reason = NULL;
            CHECK_INT(client_target_new(&options, &target, &reason), 0);
            if (target != NULL)
                CHECK_STR(client_target_proxy(target),
                          is_tls ? rows[i].for_https : rows[i].for_http);
            client_target_free(target);
        }
    }
}

#define CONNECT(authority, more)                                                                   \
    "CONNECT " authority " HTTP/1.1\r\nHost: " authority "\r\n" more "\r\n"
#define BASIC(text) "Proxy-Authorization: Basic " text "\r\n"

static void test_connect(void) {
    static const struct {
        const char *url, *proxy, *request; /* NULL: refused */
    } rows[] = {
        {"http://h/a", "http://p:3128", CONNECT("h:80", "")},
        {"https://h/a", "http://p:3128/", CONNECT("h:443", "")},
        {"https://h:8443/a", "HTTP://p:3128", CONNECT("h:8443", "")},
        {"http://[::1]/", "http://p", CONNECT("[::1]:80", "")},
        {"http://h/", "http://u:p@p:1", CONNECT("h:80", BASIC("dTpw"))},
        {"http://h/", "http://user:pass@p:1", CONNECT("h:80", BASIC("dXNlcjpwYXNz"))},
        {"http://h/", "http://u@p:1", CONNECT("h:80", BASIC("dTo="))},
        {"http://h/", "http://@p:1", CONNECT("h:80", "")},
        {"http://h/", "http://u:p:q@p:1", CONNECT("h:80", BASIC("dTpwOnE="))},
        {"http://h/", "http://u%40x:%70%2F%3a%25@p:1", CONNECT("h:80", BASIC("dUB4OnAvOiU="))},
        /* the letters in which the two alphabets differ: 3e and 3f */
        {"http://h/", "http://%c3%bb:%c3%bf%3e@p:1", CONNECT("h:80", BASIC("w7s6w78+"))},
        {"http://h/", "http://u:%ff%ff%fe@p:1", CONNECT("h:80", BASIC("dTr///4="))},
        {"http://h/", "https://p:1", NULL},
        {"http://h/", "socks5://p:1", NULL},
        {"http://h/", "socks5h://u:secret@p:1", NULL},
        {"http://h/", "p:3128", NULL},
        {"http://h/", "p", NULL},
        {"http://h/", "http://", NULL},
        {"http://h/", "http://u:secret@", NULL},
        {"http://h/", "http:p:1", NULL},
        {"http://h/", "http://p:1/secret", NULL},
        {"http://h/", "http://p:1?secret", NULL},
        {"http://h/", "http://p:1#secret", NULL},
        {"http://h/", "http://u:secret@x@p:1", NULL},
        {"http://h/", "http://u%3ax:secret@p:1", NULL},
        {"http://h/", "http://u:secret%0d%0ax@p:1", NULL},
        {"http://h/", "http://u:secret%00@p:1", NULL},
        {"http://h/", "http://u%7f:secret@p:1", NULL},
        {"http://h/", "http://u:secret%4@p:1", NULL},
        {"http://h/", "http://u:secret\r\nX: y@p:1", NULL},
        {"http://h/", "http://p:1 ", NULL},
        {"http://h/", "NONE", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct client_target *target = NULL;
        const char *reason = NULL;
        test_row(rows[i].proxy);
        int r = make(slice_from_cstr(rows[i].url), rows[i].proxy, &target, &reason);
        CHECK_INT(r, rows[i].request != NULL ? 0 : CLIENT_E_INVALID);
        if (r == 0) {
            CHECK_STR(secret_reveal(target->connect), rows[i].request);
        } else {
            CHECK(reason != NULL &&
                  slice_find(slice_from_cstr(reason), SLICE("proxy")) != SIZE_MAX);
            CHECK(reason == NULL || strstr(reason, "secret") == NULL);
        }
        client_target_free(target);
    }
}

/* A wrong value of the environment says where it comes from, and how to get around it. */
static void test_environment_refused(void) {
    static const char *const values[] = {"socks5://p:1", "https://p:1", "http://u:secret@p:x",
                                         "http://p:1/secret", "http://u%00:secret@p:1"};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct variable variables[] = {{"all_proxy", values[i]}, {NULL, NULL}};
        struct client_target_options options = {
            .url = SLICE("http://h"), .getenv_fn = get_variable, .getenv_context = variables};
        struct client_target *target = NULL;
        const char *reason = NULL;
        test_row(values[i]);
        CHECK_INT(client_target_new(&options, &target, &reason), CLIENT_E_INVALID);
        CHECK(reason != NULL && strstr(reason, "environment") != NULL);
        CHECK(reason == NULL || strstr(reason, "secret") == NULL);
    }
}

static void try_target(void *arg) {
    struct client_target *target = NULL;
    const char *reason = NULL;
    int r = make(SLICE("https://h/a?b"), arg, &target, &reason);
    CHECK(r == 0 || r == -ENOMEM);
    CHECK((target != NULL) == (r == 0));
    client_target_free(target);
}

static void test_without_memory(void) {
    static char proxy[] = "http://u:p@h:1", direct[] = "none";
    test_torture(try_target, proxy);
    test_torture(try_target, direct);
}

TEST_MAIN(TEST(test_urls), TEST(test_long_url), TEST(test_no_proxy_names),
          TEST(test_no_proxy_lists), TEST(test_no_proxy_addresses), TEST(test_no_proxy_blocks),
          TEST(test_no_proxy_loopback), TEST(test_environment), TEST(test_connect),
          TEST(test_environment_refused), TEST(test_without_memory))
