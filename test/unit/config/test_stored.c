/* Upstreams of the store: they are loaded as those of the file are, may say less, and spoil
 * nothing. */
#include "loaded.h"

struct fake_store {
    const struct config_stored *items;
    size_t n;
    int result;
};

static int test_secret(void *context, const struct config *config, struct slice name,
                       struct slice *ret_value, struct buf *reason) {
    (void)context;
    (void)config;
    (void)reason;
    static char long_text[4097];
    memset(long_text, 'a', sizeof long_text - 1);
    if (slice_eq(name, SLICE("long"))) {
        *ret_value = slice_from_cstr(long_text);
        return 0;
    }
    if (!slice_eq(name, SLICE("token")) && !slice_eq(name, SLICE("inner")))
        return CONFIG_SECRET_NONE;
    *ret_value =
        slice_eq(name, SLICE("token")) ? SLICE("t0_s3cr3t") : SLICE("http://169.254.169.254");
    return 0;
}

static int test_stored(void *context, const struct config *config,
                       struct config_stored_list *ret_list, struct buf *reason) {
    const struct fake_store *store = context;
    (void)config;
    if (store->result != 0)
        buf_append_cstr(reason, "the store does not answer");
    else
        *ret_list = (struct config_stored_list){store->items, store->n, SLICE("mark 1")};
    return store->result;
}

static struct loaded load_with(const char *text, const struct fake_store *store) {
    struct loaded l = {.config = NULL, .text = BUF_INIT(MIB(1))};
    struct config_resolvers resolvers = {
        .secret_fn = test_secret, .stored_fn = test_stored, .context = (void *)(uintptr_t)store};
    config_problems_init(&l.problems);
    l.result = config_load_text_with(SLICE("/etc/gw/f.toml"), slice_from_cstr(text), &resolvers,
                                     &l.problems, &l.config);
    for (size_t i = 0; i < l.problems.n; i++)
        config_problem_format(&l.text, &l.problems.items[i]);
    return l;
}

static struct loaded load_one(const char *text, const char *definition) {
    const struct config_stored one = {.name = SLICE("it"),
                                      .definition = slice_from_cstr(definition)};
    const struct fake_store store = {.items = &one, .n = 1};
    return load_with(text, &store);
}

static const char usual[] = "[mcp.servers.file]\nurl = \"http://127.0.0.1:1/mcp\"\n";

/* Rows, units, defaults and rules over several keys are those of the file. */
static void test_as_in_the_file(void) {
    struct loaded l = load_one(
        usual,
        "{\"url\":\"http://127.0.0.1:9/mcp\",\"auth\":{\"token\":\"{{ secret.token }}\"},"
        "\"timeout\":\"7s\",\"max_message\":131072,\"allow\":[\"ops\"],\"share\":\"all\","
        "\"headers\":[{\"rule\":\"insert\",\"name\":\"X-Team\",\"value\":\"a\\u0062c\"}],"
        "\"rate_limits\":{\"limit\":5,\"interval\":\"1m\"},"
        "\"tools\":{\"read it\":{\"access\":\"read\",\"arguments\":{\"n\":{\"max\":2.5}}}}}");
    REQUIRE(l.result == 0);
    REQUIRE(l.config->n_servers == 2 && l.config->n_stored == 1);
    const struct config_server *server = config_find_server(l.config, SLICE("it"));
    REQUIRE(server != NULL);
    CHECK(server->is_stored && server->line == 0);
    CHECK(!config_find_server(l.config, SLICE("file"))->is_stored);
    CHECK_STR(server->url, "http://127.0.0.1:9/mcp");
    CHECK_STR(server->auth_token, "t0_s3cr3t");
    CHECK_INT(server->call_idle_timeout_ms, 7000);
    CHECK_INT(server->max_message, 131072);
    CHECK_INT(server->max_instances, 1000);
    CHECK(server->has_allow && server->n_allow == 1);
    REQUIRE(server->n_headers == 1 && server->n_tools == 1);
    CHECK_STR(server->headers[0].value, "abc");
    CHECK_STR(server->tools[0].name, "read it");
    CHECK(server->tools[0].arguments[0].has_max);
    CHECK_INT(l.config->stored[0].kind, CONFIG_STORED_SERVED);
    CHECK_INT(l.config->stored[0].needs, CONFIG_NEEDS_SECRETS);
    CHECK_STR(l.config->stored_mark, "mark 1");
    CHECK_STR(l.config->text, usual);
    unload(&l);
}

/* A file without any server, or without [mcp], takes them too. */
static void test_without_servers(void) {
    static const char *const texts[] = {"", "[server]\nworkers = 1\n", "[mcp]\npath = \"/m\"\n",
                                        "mcp = {}\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        test_row(texts[i]);
        struct loaded l = load_one(texts[i], "{\"url\":\"http://127.0.0.1:9/mcp\"}");
        REQUIRE(l.result == 0);
        CHECK_INT(l.config->n_servers, 1);
        CHECK_INT(l.problems.n, 0);
        unload(&l);
    }
}

/* Those that are wrong are left out one by one; the rest is as if they were not there. */
static void test_left_out(void) {
    static const struct config_stored items[] = {
        {SLICE_INIT("a"), SLICE_INIT("{\"url\":\"http://127.0.0.1:9/mcp\"}"), false},
        {SLICE_INIT("b"), SLICE_INIT("{\"url\":\"http://127.0.0.1:9/mcp\",\"tiemout\":\"1s\"}"),
         false},
        {SLICE_INIT("c"), SLICE_INIT("not JSON"), false},
        {SLICE_INIT("d"), SLICE_INIT("not looked at"), true},
        {SLICE_INIT("file"), SLICE_INIT("{\"url\":\"http://127.0.0.1:8/mcp\"}"), false},
        {SLICE_INIT("a__b"), SLICE_INIT("{\"url\":\"http://127.0.0.1:9/mcp\"}"), false},
    };
    static const enum config_stored_kind kinds[] = {
        CONFIG_STORED_SERVED,   CONFIG_STORED_INVALID,  CONFIG_STORED_INVALID,
        CONFIG_STORED_DISABLED, CONFIG_STORED_SHADOWED, CONFIG_STORED_INVALID,
    };
    const struct fake_store store = {.items = items, .n = ARRAY_LEN(items)};
    struct loaded l = load_with(usual, &store);
    REQUIRE(l.result == 0);
    REQUIRE(l.config->n_stored == ARRAY_LEN(items));
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        test_row(items[i].name.ptr);
        CHECK_INT(l.config->stored[i].kind, kinds[i]);
    }
    CHECK_INT(l.config->n_servers, 2);
    CHECK_STR(config_find_server(l.config, SLICE("file"))->url, "http://127.0.0.1:1/mcp");
    CHECK_STR(l.config->stored[1].reason, "unknown key tiemout (did you mean timeout?)");
    CHECK(slice_starts_with(l.config->stored[2].reason, SLICE("c is not valid JSON")));
    CHECK_INT(l.problems.n, 3);
    CHECK_INT(l.problems.n_errors, 3);
    unload(&l);
}

/* The file's own errors are errors, whatever the store has. */
static void test_errors_of_the_file(void) {
    struct loaded l = load_one("[server]\nworkrs = 1\n", "{\"tiemout\":1}");
    CHECK_INT(l.result, CONFIG_E_INVALID);
    CHECK(slice_find(buf_slice(&l.text), SLICE("workrs")) != SIZE_MAX);
    unload(&l);
    const struct fake_store gone = {.result = CONFIG_STORED_REFUSED};
    l = load_with(usual, &gone);
    CHECK_INT(l.result, CONFIG_E_INVALID);
    unload(&l);
    const struct fake_store hidden = {.result = CONFIG_STORED_HIDDEN};
    l = load_with(usual, &hidden);
    CHECK_INT(l.result, 0);
    CHECK_INT(l.problems.n, 1);
    unload(&l);
}

static void test_refused(void) {
#define HTTP "{\"url\":\"http://127.0.0.1:9/mcp\","
    static const struct {
        const char *definition, *reason;
    } rows[] = {
        {"{}", "it has neither cmd nor url"},
        {"[]", "it must be a JSON object"},
        {"{\"url\":null}", "url must not be null"},
        {"{\"url\":\"http://a/\",\"url\":\"http://b/\"}", "it is not valid JSON"},
        {"{\"cmd\":[\"sh\"]}", "cmd starts a program"},
        {"{\"cmd\":[\"sh\"],\"url\":\"http://a.example/\"}", "it has both"},
        {"{\"url\":\"{{ env.TOKEN }}\"}", "url must not hold {{ env"},
        {"{\"url\":\"{{ file./etc/passwd }}\"}", "url must not hold {{ file"},
        {"{\"url\":\"\\u007b\\u007b env.TOKEN }}\"}", "url must not hold {{ env"},
        {"{\"url\":\"http://a.example/?api_key=abc\"}", "url must not hold a credential"},
        {"{\"url\":\"http://a.example/?x=1&access_token=abc\"}", "url must not hold a credential"},
        {"{\"url\":\"http://169.254.169.254/mcp\"}", "url is an address of the link"},
        {"{\"url\":\"http://[fe80::1]/mcp\"}", "url is an address of the link"},
        {"{\"url\":\"http://[::ffff:169.254.0.1]/mcp\"}", "url is an address of the link"},
        {"{\"url\":\"{{ secret.inner }}\"}", "url is an address of the link"},
        {"{\"url\":\"http://127.0.0.1:8000/mcp\"}", "url is the gateway itself"},
        {"{\"url\":\"http://localhost:8000/mcp\"}", "url is the gateway itself"},
        {"{\"url\":\"http://127.3.2.1:8000/mcp\"}", "url is the gateway itself"},
        {"{\"url\":\"https://localhost:7443/mcp\"}", "url is the gateway itself"},
        {"{\"url\":\"http://[::1]:8000/mcp\"}", "url is the gateway itself"},
        {HTTP "\"enabled\":false}", "enabled is for the configuration file"},
        {HTTP "\"proxy\":\"http://u:p@proxy:3128\"}", "proxy must not hold a credential"},
        {HTTP "\"proxy\":\"{{ secret.inner }}\"}", "proxy is an address of the link"},
        {HTTP "\"auth\":{\"token\":\"abc\"}}", "auth.token must not hold a credential"},
        {HTTP "\"auth\":{\"token\":\"a{{ secret.token }}\"}}", "auth.token must not hold"},
        {HTTP "\"auth\":{\"token\":\"{{ secret.none | default(\\\"abc\\\") }}\"}}",
         "auth.token must not hold a credential"},
        {HTTP "\"auth\":{\"token\":\"{{ \\\"abc\\\" }}\"}}", "auth.token must not hold"},
        {HTTP "\"auth\":{\"token\":\"{{ secret.none }}\"}}", "auth.token needs the secret none"},
        {HTTP "\"auth\":{\"token_file\":\"/etc/shadow\"}}", "auth.token_file names a file"},
        {HTTP "\"auth\":{\"client_key_path\":\"/etc/k\"}}", "auth.client_key_path names a file"},
        {HTTP "\"tls\":{\"ca_bundle\":\"/etc/k\"}}", "tls.ca_bundle names a file"},
        {HTTP "\"tls\":{\"client_cert_path\":\"/etc/k\"}}", "tls.client_cert_path names a file"},
        {HTTP "\"headers\":[{\"rule\":\"insert\",\"name\":\"X-Api-Key\",\"value\":\"abc\"}]}",
         "headers[0].value must not hold a credential"},
        {HTTP "\"headers\":[{\"rule\":\"insert\",\"name\":\"X-Team\","
              "\"value\":\"{{ secret.none | default(\\\"abc\\\") }}\"}]}",
         "headers[0].value must not hold a credential"},
        {HTTP "\"max_in_flight\":1.5}", "max_in_flight must be an integer"},
        {HTTP "\"max_in_flight\":0}", "max_in_flight"},
        {HTTP "\"timeout\":5}", "timeout must be a duration"},
        {HTTP "\"auth\":{\"type\":\"client_credentials\",\"client_id\":\"a\",\"issuer\":"
              "\"https://169.254.169.254\",\"client_secret\":\"{{ secret.token }}\"}}",
         "auth.issuer is an address of the link"},
#define COMMAND "{\"cmd\":[\"sh\"],"
        {COMMAND "\"user\":\"root\"}", "user names an account"},
        {COMMAND "\"inherit_env\":[\"HOME\"]}", "inherit_env takes variables"},
        {COMMAND "\"isolation\":\"none\"}", "isolation opens"},
        {COMMAND "\"cwd\":\"/\"}", "cwd names a file"},
        {COMMAND "\"stderr\":{\"file\":\"/tmp/x\"}}", "stderr names a file"},
        {COMMAND "\"env\":{\"API_KEY\":\"abc\"}}", "env.API_KEY must not hold a credential"},
        {"{\"cmd\":[\"sh\",\"{{ secret.token }}\"]}", "cmd[1] must not hold {{ secret"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool is_command = slice_starts_with(slice_from_cstr(rows[i].definition), SLICE("{\"cmd"));
        bool is_allowed = is_command && i > 5;
        test_row(rows[i].definition);
        struct loaded l =
            load_one(is_allowed ? "[admin]\nallow_commands = true\n" : usual, rows[i].definition);
        REQUIRE(l.result == 0);
        CHECK_INT(l.config->stored[0].kind, CONFIG_STORED_INVALID);
        if (slice_find(l.config->stored[0].reason, slice_from_cstr(rows[i].reason)) == SIZE_MAX)
            CHECK_STR(l.config->stored[0].reason, rows[i].reason);
        CHECK(config_find_server(l.config, SLICE("it")) == NULL);
        CHECK(slice_find(buf_slice(&l.text), SLICE("t0_s3cr3t")) == SIZE_MAX);
        unload(&l);
    }
}

static void test_allowed(void) {
    static const struct {
        const char *definition;
        unsigned needs;
    } rows[] = {
        {"{\"url\":\"http://127.0.0.1:8001/mcp\"}", 0},
        {"{\"url\":\"http://192.0.2.7:8000/mcp\"}", 0},
        {"{\"url\":\"http://a.example/?x=1\"}", 0},
        {"{\"url\":\"http://a.example/?api_key={{ secret.token }}\"}", CONFIG_NEEDS_SECRETS},
        {HTTP "\"proxy\":\"none\"}", 0},
        {HTTP "\"headers\":[{\"rule\":\"insert\",\"name\":\"Authorization\",\"value\":"
              "\"Basic {{ secret.token }}\"}]}",
         CONFIG_NEEDS_SECRETS},
        {HTTP "\"headers\":[{\"rule\":\"forward\",\"name\":\"X-Team\"}]}", CONFIG_NEEDS_CALLERS},
        {"{\"url\":\"https://a.example/\",\"auth\":{\"type\":\"forward\"}}", CONFIG_NEEDS_CALLERS},
        {"{\"url\":\"https://a.example/\",\"auth\":{\"type\":\"{{ \\\"forward\\\" }}\"}}",
         CONFIG_NEEDS_CALLERS | CONFIG_NEEDS_SECRETS},
        {COMMAND "\"isolation\":\"auto\",\"stderr\":\"pipe\",\"env\":{\"TEAM\":\"a\"}}",
         CONFIG_NEEDS_COMMANDS},
        {COMMAND "\"env\":{\"API_KEY\":\"{{ secret.token }}\"}}",
         CONFIG_NEEDS_COMMANDS | CONFIG_NEEDS_SECRETS},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].definition);
        struct loaded l = load_one("[admin]\nallow_commands = true\n", rows[i].definition);
        REQUIRE(l.result == 0);
        CHECK_STR(l.config->stored[0].reason, "");
        CHECK_INT(l.config->stored[0].kind, CONFIG_STORED_SERVED);
        CHECK_INT(l.config->stored[0].needs, rows[i].needs);
        unload(&l);
    }
}

/* What the file says for all servers is for those of the file. */
static void test_rules_for_all(void) {
    struct loaded l = load_one("[[mcp.headers]]\nrule = \"insert\"\nname = \"Authorization\"\n"
                               "value = \"Basic abc\"\n",
                               HTTP "\"auth\":{\"token\":\"{{ secret.token }}\"}}");
    CHECK_INT(l.result, 0);
    CHECK_INT(l.config->stored[0].kind, CONFIG_STORED_SERVED);
    unload(&l);
}

/* At the limit, and past it. */
static void test_size(void) {
    for (size_t past = 0; past < 2; past++) {
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(128));
        buf_append_cstr(&text, "{\"url\":\"http://127.0.0.1:9/mcp\"");
        while (buf_len(&text) < LIMIT_STORED_DEFINITION - 1 + past)
            buf_append_byte(&text, ' ');
        buf_append_cstr(&text, "}");
        buf_append_byte(&text, '\0');
        REQUIRE(buf_error(&text) == 0);
        struct loaded l = load_one(usual, buf_slice(&text).ptr);
        REQUIRE(l.result == 0);
        CHECK_INT(l.config->stored[0].kind, past ? CONFIG_STORED_INVALID : CONFIG_STORED_SERVED);
        unload(&l);
    }
}

/* So many that the memory of a configuration is not in danger: of values, and of secrets' bytes. */
static void test_number(void) {
    enum { FIXED = 4 }; /* the object, url, allow, and what the list may have less */
    for (size_t past = 0; past < 2; past++) {
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(128));
        buf_append_cstr(&text, "{\"url\":\"http://127.0.0.1:9/mcp\",\"allow\":[\"a\"");
        for (size_t i = 0; i < LIMIT_STORED_VALUES - FIXED + past; i++)
            buf_append_cstr(&text, ",\"a\"");
        buf_append_cstr(&text, "]}");
        buf_append_byte(&text, '\0');
        struct loaded l = load_one(usual, buf_slice(&text).ptr);
        REQUIRE(l.result == 0);
        CHECK_INT(l.config->stored[0].kind, past ? CONFIG_STORED_INVALID : CONFIG_STORED_SERVED);
        unload(&l);
    }
}

static void test_text(void) {
    for (size_t past = 0; past < 2; past++) {
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(128));
        size_t n = LIMIT_STORED_TEXT / 4096 - 1 + 2 * past; /* the URL and names are some, too */
        buf_append_cstr(&text, "{\"url\":\"http://127.0.0.1:9/mcp\",\"headers\":[");
        for (size_t i = 0; i < n; i++)
            buf_printf(&text,
                       "%s{\"rule\":\"insert\",\"name\":\"X-%zu\",\"value\":\"{{ secret.long }}\"}",
                       i == 0 ? "" : ",", i);
        buf_append_cstr(&text, "]}");
        buf_append_byte(&text, '\0');
        struct loaded l = load_one(usual, buf_slice(&text).ptr);
        REQUIRE(l.result == 0);
        bool is_told =
            slice_find(l.config->stored[0].reason, SLICE("past the 128 KiB")) != SIZE_MAX;
        CHECK(is_told == (past == 1));
        unload(&l);
    }
}

static void test_keep_server(void) {
    struct loaded l = load_one(usual, "{\"url\":\"http://127.0.0.1:9/mcp\"}");
    REQUIRE(l.result == 0);
    config_keep_server(l.config, SLICE("it"));
    REQUIRE(l.config->n_servers == 1);
    CHECK_STR(l.config->servers[0].name, "it");
    config_keep_server(l.config, SLICE("none"));
    CHECK_INT(l.config->n_servers, 0);
    unload(&l);
}

TEST_MAIN(TEST(test_as_in_the_file), TEST(test_without_servers), TEST(test_left_out),
          TEST(test_errors_of_the_file), TEST(test_refused), TEST(test_allowed),
          TEST(test_rules_for_all), TEST(test_size), TEST(test_number), TEST(test_text),
          TEST(test_keep_server))
