/* Single values, and the option table itself. */
#include "base/buf.h"
#include "base/limits.h"
#include "config/config.h"
#include "load.h"
#include "options.h"
#include "test.h"

static void test_durations(void) {
    static const struct {
        const char *text;
        bool valid;
        uint64_t ms;
        const char *written;
    } rows[] = {
        {"30s", true, 30000, "30s"},
        {"500ms", true, 500, "500ms"},
        {"5m", true, 300000, "5m"},
        {"1h 30m", true, 5400000, "1h 30m"},
        {"1h30m", true, 5400000, "1h 30m"},
        {" 2 days ", true, 172800000, "2d"},
        {"1w", true, 604800000, "7d"},
        {"90 sec", true, 90000, "1m 30s"},
        {"3600s", true, 3600000, "1h"},
        {"0s", true, 0, "0s"},
        {"1500ms", true, 1500, "1s 500ms"},
        {"18446744073709551615ms", true, UINT64_MAX, NULL},
        {"18446744073709551616ms", false, 0, NULL},
        {"18446744073709551615ms 1ms", false, 0, NULL},
        {"99999999999999999999999999999s", false, 0, NULL},
        {"18446744073709551615s", false, 0, NULL},
        {"", false, 0, NULL},
        {" ", false, 0, NULL},
        {"30", false, 0, NULL},
        {"s", false, 0, NULL},
        {"-1s", false, 0, NULL},
        {"+1s", false, 0, NULL},
        {"1.5s", false, 0, NULL},
        {"1s,2s", false, 0, NULL},
        {"10us", false, 0, NULL},
        {"1S", false, 0, NULL},
        {"1y", false, 0, NULL},
        {"0x10s", false, 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t ms = 42;
        const char *reason = NULL;
        test_row(rows[i].text);
        int r = option_parse_duration(slice_from_cstr(rows[i].text), &ms, &reason);
        CHECK_INT(r, rows[i].valid ? 0 : OPTION_E_INVALID);
        CHECK(ms == (rows[i].valid ? rows[i].ms : 42));
        CHECK((reason != NULL) == !rows[i].valid);
        if (rows[i].written == NULL)
            continue;
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(100);
        CHECK_INT(option_write_duration(&out, ms), 0);
        CHECK_STR(buf_slice(&out), rows[i].written);
    }
}

static void test_sizes(void) {
    static const struct {
        const char *text;
        bool valid;
        uint64_t bytes;
        const char *written;
    } rows[] = {
        {"4MiB", true, 4194304, "4MiB"},
        {"4 MiB", true, 4194304, "4MiB"},
        {"512KiB", true, 524288, "512KiB"},
        {"1GiB", true, 1073741824, "1GiB"},
        {"1000B", true, 1000, "1000B"},
        {"1025KiB", true, 1049600, "1025KiB"},
        {"0B", true, 0, "0B"},
        {"17179869184GiB", false, 0, NULL},
        {"4MB", false, 0, NULL},
        {"4M", false, 0, NULL},
        {"4", false, 0, NULL},
        {"MiB", false, 0, NULL},
        {"1MiB 1KiB", false, 0, NULL},
        {"-1B", false, 0, NULL},
        {"", false, 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t bytes = 42;
        const char *reason = NULL;
        test_row(rows[i].text);
        int r = option_parse_size(slice_from_cstr(rows[i].text), &bytes, &reason);
        CHECK_INT(r, rows[i].valid ? 0 : OPTION_E_INVALID);
        CHECK(bytes == (rows[i].valid ? rows[i].bytes : 42));
        CHECK((reason != NULL) == !rows[i].valid);
        if (rows[i].written == NULL)
            continue;
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(100);
        CHECK_INT(option_write_size(&out, bytes), 0);
        CHECK_STR(buf_slice(&out), rows[i].written);
    }
}

static const struct {
    option_check *check;
    const char *value;
    bool fine;
} checks[] = {
    {check_listen_address, "127.0.0.1:8000", true},
    {check_listen_address, "127.9.8.7:0", true},
    {check_listen_address, "[::1]:65535", true},
    {check_listen_address, "[0:0:0:0:0:0:0:1]:1", true},
    {check_listen_address, "0.0.0.0:8000", true},
    {check_listen_address, "[::]:8000", true},
    {check_listen_address, "[::ffff:127.0.0.1]:8000", true},
    {check_listen_address, "192.168.0.1:8000", true},
    {check_listen_address, "256.0.0.1:8000", false},
    {check_listen_address, "[:::1]:8000", false},
    {check_listen_address, "[::1]8000", false},
    {check_listen_address, "localhost:8000", false},
    {check_listen_address, "127.0.0.1", false},
    {check_listen_address, "127.0.0.1:", false},
    {check_listen_address, "127.0.0.1:65536", false},
    {check_listen_address, "127.0.0.1:08000", false},
    {check_listen_address, "127.0.0.1:+80", false},
    {check_listen_address, "127.1:80", false},
    {check_listen_address, "127.0.0.01:80", false},
    {check_listen_address, "::1:8000", false},
    {check_listen_address, "[127.0.0.1]:8000", false},
    {check_listen_address, "[::1%lo]:8000", false},
    {check_listen_address, ":8000", false},
    {check_listen_address, "8000", false},
    {check_listen_address, "", false},
    {check_url_path, "/mcp", true},
    {check_url_path, "/a/b-c_d.e~f", true},
    {check_url_path, "/", false},
    {check_url_path, "", false},
    {check_url_path, "mcp", false},
    {check_url_path, "/mcp/", false},
    {check_url_path, "//mcp", false},
    {check_url_path, "/a//b", false},
    {check_url_path, "/a/../b", false},
    {check_url_path, "/.", false},
    {check_url_path, "/a?b", false},
    {check_url_path, "/a#b", false},
    {check_url_path, "/a%2fb", false},
    {check_url_path, "/a b", false},
    {check_url_path, "/\xc3\xa4", false},
    {check_host, "gw.example.com", true},
    {check_host, "gw.example.com:8000", true},
    {check_host, "GW", true},
    {check_host, "10.0.0.1", true},
    {check_host, "[::1]:8000", true},
    {check_host, "0.0.0.0", false},
    {check_host, "0.0.0.0:8000", false},
    {check_host, "[::]:8000", false},
    {check_host, "[0:0:0:0:0:0:0:0]", false},
    {check_host, "[::ffff:0.0.0.0]", false},
    {check_host, "0.0.0.1", true},
    {check_host, "", false},
    {check_host, ":80", false},
    {check_host, "a b", false},
    {check_host, "a/b", false},
    {check_host, "http://a", false},
    {check_host, "user@a", false},
    {check_host, "*.example.com", false},
    {check_host, "a:99999", false},
    {check_env_name, "PATH", true},
    {check_env_name, "npm_config_//r/:_authToken", true},
    {check_env_name, "", false},
    {check_env_name, "A=B", false},
    {check_env_name, "A B", false},
    {check_env_name, "A\n", false},
    {check_env_name, "\xc3\xa4", false},
    {check_user, "nobody", true},
    {check_user, "1000", true},
    {check_user, "a.b-c_d", true},
    {check_user, "", false},
    {check_user, "-x", false},
    {check_user, "a b", false},
    {check_user, "../x", false},
    {check_user, "a:b", false},
    {check_user, "a23456789012345678901234567890123", false},
    {check_server_name, "github", true},
    {check_server_name, "GitHub-2", true},
    {check_server_name, "a_b_c", true},
    {check_server_name, "-", true},
    {check_server_name, "abcdefghijklmnopqrstuvwxyz012345", true},
    {check_server_name, "abcdefghijklmnopqrstuvwxyz0123456", false},
    {check_server_name, "", false},
    {check_server_name, "a__b", false},
    {check_server_name, "_a", false},
    {check_server_name, "a_", false},
    {check_server_name, "a.b", false},
    {check_server_name, "a/b", false},
    {check_server_name, "a b", false},
    {check_server_name, "\xc3\xa4", false},
    {check_server_name, "sse", false},
    {check_server_name, "message", false},
    {check_server_name, "server-card", false},
    {check_server_name, "SSE", false},
    {check_server_name, "sse2", true},
    {check_upstream_url, "https://x.example/mcp", true},
    {check_upstream_url, "http://[::1]:8000/a%20b?c=d", true},
    {check_upstream_url, "https://x.example", true},
    {check_upstream_url, "https://x.example:0/", false},
    {check_upstream_url, "https://user@x.example/", false},
    {check_upstream_url, "https://x.example/#", false},
    {check_upstream_url, "https:x.example", false},
    {check_upstream_url, "//x.example/", false},
    {check_upstream_url, "https://x.example\\@y.example/", false},
    {check_upstream_url, "https://[::1%25lo]/", false},
    {check_upstream_url, "https://*.example/", false},
    {check_upstream_url, "https://x.example/\xc3\xa4", false},
    {check_upstream_url, "", false},
    {check_proxy, "none", true},
    {check_proxy, "http://p", true},
    {check_proxy, "http://p:3128/", true},
    {check_proxy, "http://u:p%40ss@10.0.0.1:1", true},
    {check_proxy, "http://u:p@ss@10.0.0.1:1", false},
    {check_proxy, "http://p/a", false},
    {check_proxy, "http://u:a%3Ab:c@p:1", true},
    {check_proxy, "http://u%3ab:c@p:1", false},
    {check_proxy, "http://u%3Ab@p:1", false},
    {check_proxy, "http://u:a%0d%0aB@p:1", false},
    {check_proxy, "http://u%00:a@p:1", false},
    {check_proxy, "http://u:%1F@p:1", false},
    {check_proxy, "http://u:%7f@p:1", false},
    {check_proxy, "http://u:%20%7E%c3%a4@p:1", true},
    {check_proxy, "http://p//", false},
    {check_proxy, "none ", false},
    {check_proxy, "direct", false},
    {check_token, "abc.DEF-123_~+/=", true},
    {check_token, "a b", false},
    {check_token, "a\n", false},
    {check_token, "\x7f", false},
    {check_header_name, "X-A", true},
    {check_header_name, "x a", false},
    {check_header_name, "X-A:", false},
    {check_header_name, "(x)", false},
    {check_header_name, "hOST", false},
    {check_header_value, "", true},
    {check_header_value, "a\tb c", true},
    {check_header_value, "\ta", false},
    {check_header_value, "a ", false},
    {check_header_value, "a\rb", false},
    {check_header_value, "\xc3\xa4", false},
    {check_none, "I know", true},
    {check_none, "i know", false},
    {check_none, "I know ", false},
    {check_none, "true", false},
    {check_none, "", false},
    {check_hash, "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", true},
    {check_hash, "sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", true},
    {check_hash, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", false},
    {check_hash, "SHA256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", false},
    {check_hash, "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde", false},
    {check_hash, "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0", false},
    {check_hash, "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdeg", false},
    {check_hash, "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde ", false},
    {check_hash, "sha256:", false},
    {check_hash, "", false},
    {check_scope, "mcp:tools.read/x!~", true},
    {check_scope, "", false},
    {check_scope, "a b", false},
    {check_scope, "a\"b", false},
    {check_scope, "a\\b", false},
    {check_scope, "a\n", false},
    {check_scope, "\xc3\xa4", false},
    {check_issuer_url, "https://id.example.com", true},
    {check_issuer_url, "https://id.example.com/realms/x?y=z", true},
    {check_issuer_url, "HTTPS://id.example.com", true},
    {check_issuer_url, "http://localhost:8080/keys", true},
    {check_issuer_url, "http://127.3.2.1/keys", true},
    {check_issuer_url, "http://[::1]:1/", true},
    {check_issuer_url, "http://a.localhost/", true},
    {check_issuer_url, "http://id.example.com", false},
    {check_issuer_url, "http://localhost.example.com", false},
    {check_issuer_url, "http://notlocalhost", false},
    {check_issuer_url, "http://127.0.0.1.example.com", false},
    {check_issuer_url, "http://[::ffff:127.0.0.1]/", false},
    {check_issuer_url, "http://0.0.0.0/", false},
    {check_issuer_url, "http://localhost@id.example.com/", false},
    {check_issuer_url, "https://u@id.example.com/", false},
    {check_issuer_url, "https://id.example.com/#keys", false},
    {check_issuer_url, "ftp://id.example.com/", false},
    {check_issuer_url, "id.example.com", false},
    {check_issuer_url, "https:///x", false},
    {check_issuer_url, "", false},
    {check_resource, "https://gw.example.com", true},
    {check_resource, "https://gw.example.com/mcp", true},
    {check_resource, "http://127.0.0.1:8000/mcp", true},
    {check_resource, "http://gw.example.com/mcp", false},
    {check_resource, "https://gw.example.com/mcp?x", false},
    {check_resource, "https://gw.example.com/mcp#x", false},
    {check_resource, "urn:example:gw", false},
    {check_secret, "0123456789abcdef0123456789abcdef", true},
    {check_secret, "0123456789abcdef0123456789abcde", false},
    {check_secret, "", false},
    {check_algorithm, "RS256", true},
    {check_algorithm, "EdDSA", true},
    {check_algorithm, "HS512", true},
    {check_algorithm, "rs256", false},
    {check_algorithm, "none", false},
    {check_algorithm, "ES256K", false},
    {check_algorithm, "", false},
    {check_tls_name, "gw.example.com", true},
    {check_tls_name, "192.0.2.7", true},
    {check_tls_name, "fd00::7", true},
    {check_tls_name, "*.example.com", true},
    {check_tls_name, "*", false},
    {check_tls_name, "*.*.example.com", false},
    {check_tls_name, "a*.example.com", false},
    {check_tls_name, "x.*.example.com", false},
    {check_tls_name, "gw.example.com:8000", false},
    {check_tls_name, "[fd00::7]", false},
    {check_tls_name, "https://gw", false},
    {check_tls_name, "a b", false},
    {check_tls_name, "", false},
    {check_field_name, "X-Client-Id", true},
    {check_field_name, "X Client", false},
    {check_field_name, "", false},
    {check_field_name, "X:", false},
    {check_cors_header, "*", true},
    {check_cors_header, "Mcp-Session-Id", true},
    {check_cors_header, "a,b", false},
    {check_cors_header, "a\r\nb: c", false},
    {check_method, "*", true},
    {check_method, "POST", true},
    {check_method, "post", false},
    {check_method, "GET, POST", false},
    {check_method, "", false},
    {check_origin, "*", true},
    {check_origin, "https://app.example.com", true},
    {check_origin, "https://app.example.com:8443", true},
    {check_origin, "https://app.example.com/path?x#y", true},
    {check_origin, "http://localhost:3000/", true},
    {check_origin, "http://[::1]:3000", true},
    {check_origin, "https://*.example.com", true},
    {check_origin, "https://app-*.example.com:8443", true},
    {check_origin, "https://*", true},
    {check_origin, "https://?.example.com", true},
    {check_origin, "vscode-webview://abc", true},
    {check_origin, "https://example.*", false},
    {check_origin, "https://*com", false},
    {check_origin, "https://**", false},
    {check_origin, "https://a.*:80", false},
    {check_origin, "https://a.example.com:*", false},
    {check_origin, "htt*://a.example.com", false},
    {check_origin, "https://10.0.0.*", false},
    {check_origin, "https://user@a.example.com", false},
    {check_origin, "https://a.example.com?x", false},
    {check_origin, "https://", false},
    {check_origin, "null", false},
    {check_origin, "app.example.com", false},
    {check_origin, "https://{a,b}.example.com", false},
    {check_origin, "", false},
    {config_check_token_name, "ci-1.deploy_x", true},
    {config_check_token_name, "", false},
    {config_check_token_name, "-x", false},
    {config_check_token_name, "a b", false},
    {config_check_token_name, "a/b", false},
    {config_check_token_name, "a\"b", false},
    {config_check_token_name, "\xc3\xa4", false},
    {check_filled, "x", true},
    {check_filled, "", false},
};

static void test_checks(void) {
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        test_row(checks[i].value);
        CHECK((checks[i].check(slice_from_cstr(checks[i].value)) == NULL) == checks[i].fine);
    }
    CHECK(check_listen_address(SLICE("127.0.0.1\0:80")) != NULL);
    CHECK(check_url_path(SLICE("/a\0b")) != NULL);
    CHECK(check_server_name(SLICE("a\0b")) != NULL);
    CHECK(check_user(SLICE("a\0")) != NULL);
    CHECK(check_host(SLICE("a\0b")) != NULL);
    CHECK(check_scope(SLICE("a\0b")) != NULL);
    CHECK(check_method(SLICE("GET\0")) != NULL);
    CHECK(check_origin(SLICE("https://a\0b")) != NULL);
    CHECK(check_origin(SLICE("https://a\0/")) != NULL);
    CHECK(config_check_token_name(SLICE("a\0b")) != NULL);
}

static void test_row_is_whole(const struct option *row) {
    const struct option *other;
    if (row->max > 0 && !row->has_no_default && row->owner != OPTION_OF_NOTHING &&
        row->type != OPTION_TABLES && row->type != OPTION_NAMED)
        CHECK(row->fallback >= row->min && row->fallback <= row->max);
    if (row->text != NULL && row->check != NULL)
        CHECK(row->check(slice_from_cstr(row->text)) == NULL);
    if ((row->type == OPTION_MAP || row->type == OPTION_NAMED) && row->status == OPTION_BUILT)
        CHECK(row->check != NULL);
    CHECK((row->status == OPTION_BUILT) == (row->doc != NULL));
    if (row->status == OPTION_REFUSED)
        CHECK(row->why != NULL);
    if (row->type == OPTION_TABLES || row->type == OPTION_NAMED)
        CHECK(row->entry != NULL && row->max > 0 && row->entry->size > 0);
    if (row->type == OPTION_NAMED)
        CHECK(option_find(row->path, SLICE("any")) != NULL);
    if (row->single)
        CHECK(row->type == OPTION_LIST);
    /* The table that it is in has a row too. */
    const char *dot = strrchr(row->path, '.');
    bool found = dot == NULL;
    for (size_t k = 0; (other = option_at(k)) != NULL; k++) {
        CHECK(other == row || strcmp(other->path, row->path) != 0);
        found = found || slice_eq(slice_from_cstr(other->path),
                                  slice_make(row->path, (size_t)(dot - row->path)));
    }
    CHECK(found);
}

/* Each default lies within its bounds and passes its own check; each built key has its words. */
static void test_rows(void) {
    const struct option *row;
    size_t n = 0;
    for (; (row = option_at(n)) != NULL; n++) {
        test_row(row->path);
        test_row_is_whole(row);
    }
    CHECK(n > 200);
}

static void test_times(void) {
    static const struct {
        const char *text;
        uint64_t ms; /* 0: it is none */
    } rows[] = {
        {"1970-01-01", 86400000},
        {"2027-01-31", 1801440000000},
        {"2028-02-29", 1835481600000},
        {"2027-12-31", 1830297600000},
        {"2027-01-31T12:00:00Z", 1801396800000},
        {"2027-01-31t12:00:00z", 1801396800000},
        {"2027-01-31 12:00:00Z", 1801396800000},
        {"2027-01-31T12:00:00.5Z", 1801396800500},
        {"2027-01-31T12:00:00.123456789Z", 1801396800123},
        {"2027-01-31T12:00:00+01:00", 1801393200000},
        {"2027-01-31T12:00:00-23:59", 1801483140000},
        {"2027-01-31T23:59:60Z", 1801440000000},
        {"9999-12-31T23:59:59Z", 253402300799000},
        {"1970-01-01T00:00:00Z", 1},
        {"1970-01-01T00:00:00+01:00", 1},
        {"1969-12-31", 0},
        {"2027-02-29", 0},
        {"2100-02-29", 0},
        {"2027-00-10", 0},
        {"2027-13-10", 0},
        {"2027-01-00", 0},
        {"2027-01-32", 0},
        {"2027-04-31", 0},
        {"2027-1-31", 0},
        {"27-01-31", 0},
        {"2027-01-31T12:00:00", 0},
        {"2027-01-31T12:00Z", 0},
        {"2027-01-31T24:00:00Z", 0},
        {"2027-01-31T12:60:00Z", 0},
        {"2027-01-31T12:00:61Z", 0},
        {"2027-01-31T12:00:00.Z", 0},
        {"2027-01-31T12:00:00+0100", 0},
        {"2027-01-31T12:00:00+24:00", 0},
        {"2027-01-31T12:00:00Z ", 0},
        {" 2027-01-31", 0},
        {"2027-01-31T", 0},
        {"12:00:00", 0},
        {"never", 0},
        {"", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t ms = 42;
        const char *reason = NULL;
        test_row(rows[i].text);
        int r = option_parse_time(slice_from_cstr(rows[i].text), &ms, &reason);
        CHECK_INT(r, rows[i].ms != 0 ? 0 : OPTION_E_INVALID);
        CHECK(ms == (rows[i].ms != 0 ? rows[i].ms : 42));
        CHECK((reason == NULL) == (rows[i].ms != 0));
    }
}

static void test_distance(void) {
    static const struct {
        const char *a, *b;
        size_t distance;
    } rows[] = {
        {"", "", 0},         {"", "abc", 3},   {"abc", "abc", 0},        {"abc", "ABC", 0},
        {"abc", "abd", 1},   {"abc", "ab", 1}, {"abc", "xabc", 1},       {"abc", "acb", 1},
        {"abcd", "badc", 2}, {"ca", "abc", 3}, {"kitten", "sitting", 3}, {"workers", "wrokres", 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice a = slice_from_cstr(rows[i].a), b = slice_from_cstr(rows[i].b);
        test_row(rows[i].b);
        CHECK_INT(edit_distance(a, b), rows[i].distance);
        CHECK_INT(edit_distance(b, a), rows[i].distance);
    }
    char word[49];
    memset(word, 'x', sizeof word);
    CHECK_INT(edit_distance(slice_make(word, 48), SLICE("x")), 47);
    CHECK(edit_distance(slice_make(word, 49), SLICE("x")) == SIZE_MAX);
    CHECK(edit_distance(SLICE("x"), slice_make(word, 49)) == SIZE_MAX);
}

TEST_MAIN(TEST(test_durations), TEST(test_sizes), TEST(test_times), TEST(test_checks),
          TEST(test_rows), TEST(test_distance))
