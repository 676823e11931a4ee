/* The URLs of the endpoints and of their metadata. */
#include "base/limits.h"
#include "config/config.h"
#include "test.h"

static void test_names(void) {
    static const struct {
        const char *path, *name; /* NULL: no endpoint */
    } rows[] = {
        {"/mcp", ""},
        {"/mcp/files", "files"},
        {"/mcp/a_b-C9", "a_b-C9"},
        {"/mcp/", NULL},
        {"/mcp//files", NULL},
        {"/mcp/files/", NULL},
        {"/mcp/a/b", NULL},
        {"/mcp/a__b", NULL},
        {"/mcp/_a", NULL},
        {"/mcp/a%20", NULL},
        {"/mcp/\"", NULL},
        {"/mcp/..", NULL},
        {"/mcp/sse", NULL},
        {"/mcpx", NULL},
        {"/MCP", NULL},
        {"/", NULL},
        {"", NULL},
        {"/mcp/abcdefghijklmnopqrstuvwxyz0123456", NULL}, /* 33 */
        {"/mcp/abcdefghijklmnopqrstuvwxyz012345", "abcdefghijklmnopqrstuvwxyz012345"},
    };
    struct config config = {.mcp_path = SLICE("/mcp"), .mcp_enabled = true};
    struct slice name;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].path);
        bool is_one = config_is_endpoint(&config, slice_from_cstr(rows[i].path), &name);
        CHECK_INT(is_one, rows[i].name != NULL);
        if (is_one && rows[i].name != NULL)
            CHECK_STR(name, rows[i].name);
    }
    config.mcp_enabled = false;
    CHECK(!config_is_endpoint(&config, SLICE("/mcp"), &name));
}

static void test_doors(void) {
    static const struct {
        const char *path, *endpoint;
        enum config_door door;
        const char *message; /* NULL: no endpoint's */
    } rows[] = {
        {"/mcp", "/mcp", CONFIG_DOOR_HTTP, "/mcp/message"},
        {"/mcp/files", "/mcp/files", CONFIG_DOOR_HTTP, "/mcp/files/message"},
        {"/mcp/sse", "/mcp", CONFIG_DOOR_SSE, "/mcp/message"},
        {"/mcp/message", "/mcp", CONFIG_DOOR_MESSAGE, "/mcp/message"},
        {"/mcp/files/sse", "/mcp/files", CONFIG_DOOR_SSE, "/mcp/files/message"},
        {"/mcp/files/message", "/mcp/files", CONFIG_DOOR_MESSAGE, "/mcp/files/message"},
        {"/mcp/sse/sse", "/mcp/sse/sse", CONFIG_DOOR_HTTP, NULL},
        {"/mcp/sse/message", "/mcp/sse/message", CONFIG_DOOR_HTTP, NULL},
        {"/mcp/sse/", "/mcp/sse/", CONFIG_DOOR_HTTP, NULL},
        {"/mcp/SSE", "/mcp/SSE", CONFIG_DOOR_HTTP, NULL},
        {"/mcpsse", "/mcpsse", CONFIG_DOOR_HTTP, NULL},
        {"/sse", "/sse", CONFIG_DOOR_HTTP, NULL},
        {"", "", CONFIG_DOOR_HTTP, NULL},
    };
    struct config config = {.mcp_path = SLICE("/mcp"), .mcp_enabled = true};
    struct config prefixed = config;
    prefixed.oauth.resource = SLICE("https://gw.example/tools/mcp");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf plain = BUF_INIT(KIB(1)), behind = BUF_INIT(KIB(1));
        enum config_door door = CONFIG_DOOR_HTTP;
        test_row(rows[i].path);
        struct slice endpoint = config_endpoint_of(&config, slice_from_cstr(rows[i].path), &door);
        CHECK_STR(endpoint, rows[i].endpoint);
        CHECK_INT(door, rows[i].door);
        if (rows[i].message != NULL) {
            CHECK_INT(config_message_path(&config, endpoint, &plain), 0);
            CHECK_STR(buf_slice(&plain), rows[i].message);
            CHECK_INT(config_message_path(&prefixed, endpoint, &behind), 0);
            CHECK(slice_starts_with(buf_slice(&behind), SLICE("/tools/mcp")));
            CHECK(slice_ends_with(buf_slice(&behind), buf_slice(&plain)));
        }
        buf_deinit(&plain);
        buf_deinit(&behind);
    }
}

static void test_urls(void) {
    static const struct {
        const char *resource, *mcp_path, *path, *url, *metadata;
    } rows[] = {
        {"https://gw.example/mcp", "/mcp", "", "https://gw.example/mcp",
         "https://gw.example/.well-known/oauth-protected-resource"},
        {"https://gw.example/mcp", "/mcp", "/mcp", "https://gw.example/mcp",
         "https://gw.example/.well-known/oauth-protected-resource/mcp"},
        {"https://gw.example/mcp", "/mcp", "/mcp/files", "https://gw.example/mcp/files",
         "https://gw.example/.well-known/oauth-protected-resource/mcp/files"},
        {"https://gw.example/mcp/", "/mcp", "/mcp", "https://gw.example/mcp/",
         "https://gw.example/.well-known/oauth-protected-resource/mcp"},
        {"https://gw.example/mcp/", "/mcp", "/mcp/files", "https://gw.example/mcp/files",
         "https://gw.example/.well-known/oauth-protected-resource/mcp/files"},
        {"https://gw.example", "/mcp", "", "https://gw.example",
         "https://gw.example/.well-known/oauth-protected-resource"},
        {"https://gw.example", "/mcp", "/mcp", "https://gw.example/mcp",
         "https://gw.example/.well-known/oauth-protected-resource/mcp"},
        {"https://gw.example/", "/mcp", "/mcp/files", "https://gw.example/mcp/files",
         "https://gw.example/.well-known/oauth-protected-resource/mcp/files"},
        {"https://gw.example:8443", "/mcp", "/mcp", "https://gw.example:8443/mcp",
         "https://gw.example:8443/.well-known/oauth-protected-resource/mcp"},
        {"http://[::1]:8000/mcp", "/mcp", "/mcp/a", "http://[::1]:8000/mcp/a",
         "http://[::1]:8000/.well-known/oauth-protected-resource/mcp/a"},
        {"https://gw.example/tools/mcp", "/mcp", "/mcp/a", "https://gw.example/tools/mcp/a",
         "https://gw.example/.well-known/oauth-protected-resource/tools/mcp/a"},
        {"https://gw.example/tools", "/mcp", "/mcp", "https://gw.example/tools/mcp",
         "https://gw.example/.well-known/oauth-protected-resource/tools/mcp"},
        {"https://gw.example/tools//", "/mcp", "/mcp", "https://gw.example/tools/mcp",
         "https://gw.example/.well-known/oauth-protected-resource/tools/mcp"},
        {"https://gw.example/xmcp", "/mcp", "/mcp", "https://gw.example/xmcp/mcp",
         "https://gw.example/.well-known/oauth-protected-resource/xmcp/mcp"},
        {"https://gw.example/api/v1", "/api/v1", "/api/v1/a", "https://gw.example/api/v1/a",
         "https://gw.example/.well-known/oauth-protected-resource/api/v1/a"},
        {"https://gw.example?x=1", "/mcp", "/mcp", "https://gw.example/mcp",
         "https://gw.example/.well-known/oauth-protected-resource/mcp"},
        {"", "/mcp", "/mcp", NULL, NULL},
        {"nonsense", "/mcp", "/mcp", NULL, NULL},
        {"mailto:x", "/mcp", "/mcp", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct config config = {
            .mcp_enabled = true,
            .mcp_path = slice_from_cstr(rows[i].mcp_path),
            .oauth = {.is_set = true, .resource = slice_from_cstr(rows[i].resource)}};
        struct buf url CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
        struct buf metadata CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
        struct slice path = slice_from_cstr(rows[i].path), endpoint;
        char name[256];
        snprintf(name, sizeof name, "%s %s", rows[i].resource, rows[i].path);
        test_row(name);
        int expected = rows[i].url != NULL ? 0 : -ENOENT;
        CHECK_INT(config_endpoint_url(&config, path, &url), expected);
        CHECK_INT(config_metadata_url(&config, path, &metadata), expected);
        if (rows[i].url == NULL) {
            CHECK_INT(buf_len(&url) + buf_len(&metadata), 0);
            continue;
        }
        CHECK_STR(buf_slice(&url), rows[i].url);
        CHECK_STR(buf_slice(&metadata), rows[i].metadata);
        /* Where we say that they are, they are. */
        size_t at = slice_find(buf_slice(&metadata), SLICE("/.well-known"));
        REQUIRE(at != SIZE_MAX);
        REQUIRE(config_is_metadata(&config, slice_from(buf_slice(&metadata), at), &endpoint));
        CHECK_SLICE(endpoint, path);
    }
}

static void test_metadata_paths(void) {
    static const struct {
        const char *path, *endpoint;
    } rows[] = {
        {"", ""},
        {"/mcp", "/mcp"},
        {"/mcp/files", "/mcp/files"},
        {"/tools/mcp", "/mcp"},
        {"/tools/mcp/files", "/mcp/files"},
        {"/", NULL},
        {"/mcp/", NULL},
        {"x", NULL},
        {"/tools", NULL},
        {"/tools/", NULL},
        {"/toolsmcp", NULL},
        {"/tools/tools/mcp", NULL},
        {"/mcp/a b", NULL},
        {"/mcp/a/b", NULL},
        {"/evil", NULL},
    };
    struct config config = {
        .mcp_enabled = true,
        .mcp_path = SLICE("/mcp"),
        .oauth = {.is_set = true, .resource = SLICE("https://gw.example/tools/mcp")}};
    char path[256];
    struct slice endpoint;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(path, sizeof path, "/.well-known/oauth-protected-resource%s", rows[i].path);
        test_row(rows[i].path);
        bool is_one = config_is_metadata(&config, slice_from_cstr(path), &endpoint);
        CHECK_INT(is_one, rows[i].endpoint != NULL);
        if (is_one && rows[i].endpoint != NULL)
            CHECK_STR(endpoint, rows[i].endpoint);
    }
    test_row("without a resource");
    config.oauth.resource = SLICE_EMPTY;
    CHECK(!config_is_metadata(&config, SLICE("/.well-known/oauth-protected-resource"), &endpoint));
}

TEST_MAIN(TEST(test_names), TEST(test_doors), TEST(test_urls), TEST(test_metadata_paths))
