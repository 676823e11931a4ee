/* Whom to ask: the server's metadata, the issuer's, where they are, and when they are not believed.
 * And redirects, which documents are fetched through and credentials never. */
#include "client/rules.h"
#include "source_world.h"

#define RESOURCE "{\"resource\":\"%s/mcp\",\"authorization_servers\":[\"%s/as\"]}"
#define ISSUER   "{\"issuer\":\"%s/as\",\"token_endpoint\":\"%s/token\"}"

#define PATH_R "GET /.well-known/oauth-protected-resource/mcp "
#define ROOT_R "GET /.well-known/oauth-protected-resource "
#define AS_1   "GET /.well-known/oauth-authorization-server/as "
#define AS_2   "GET /.well-known/openid-configuration/as "
#define AS_3   "GET /as/.well-known/openid-configuration "
#define POST   "POST /token "

enum { MAX_ANSWERS = 10 };

struct row {
    const char *name;
    bool is_configured; /* the issuer is */
    const char *answers[2 * MAX_ANSWERS];
    const char *expect; /* the end of what comes */
    const char *targets;
};

static void check_row(const struct row *row) {
    struct source_world world;
    test_row(row->name);
    struct config_server *server = world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    if (row->is_configured)
        server->auth_client.issuer = world_url(&world, "/as");
    for (size_t i = 0; row->answers[i] != NULL; i += 2)
        reply(&world, row->answers[i], row->answers[i + 1]);
    world_start(&world);
    check_end(world_get(&world, NULL), row->expect);
    check_targets(&world, row->targets);
    CHECK_INT(world_count_got(&world, "Authorization: "), world_count_got(&world, POST));
    world_close(&world);
}

#define OTHERS                                                                                     \
    "client: of the server: its metadata name other authorization servers than the issuer"
#define NOBODY                                                                                     \
    "challenge: the server names no authorization server, and auth.issuer is not set: it answers " \
    "with status 404"
#define RESOURCES "client: of the server: its metadata are those of another resource"

static void test_where(void) {
    static const struct row rows[] = {
        {"by the path",
         false,
         {"200 X", RESOURCE, "200 X", ISSUER, "200 X", TOKEN("x", "")},
         "x",
         PATH_R AS_1 POST},
        {"at the root",
         false,
         {"404 X", "", "200 X", "{\"resource\":\"%s/\",\"authorization_servers\":[\"%s/as\"]}",
          "404 X", "", "200 X", ISSUER, "200 X", TOKEN("x", "")},
         "x",
         PATH_R ROOT_R AS_1 AS_2 POST},
        {"behind a page",
         false,
         {"200 X\r\nContent-Type: text/html", "<p>", "200 X", RESOURCE, "200 X", "<p>", "500 X", "",
          "200 X", ISSUER, "200 X", TOKEN("x", "")},
         "x",
         PATH_R ROOT_R AS_1 AS_2 AS_3 POST},
        {"behind a stream",
         false,
         {"200 X\r\nContent-Type: text/event-stream", ": hello\n\n", "200 X", RESOURCE, "200 X",
          ISSUER, "200 X", TOKEN("x", "")},
         "x",
         PATH_R ROOT_R AS_1 POST},
        {"configured, no metadata",
         true,
         {"404 X", "", "401 X", "", "200 X", ISSUER, "200 X", TOKEN("x", "")},
         "x",
         PATH_R ROOT_R AS_1 POST},
        {"configured and named",
         true,
         {"200 X",
          "{\"resource\":\"%s/mcp\",\"authorization_servers\":[\"https://a.example\",\"%s/as\"]}",
          "200 X", ISSUER, "200 X", TOKEN("x", "")},
         "x",
         PATH_R AS_1 POST},
        {"configured, and nobody named",
         true,
         {"200 X", "{\"resource\":\"%s/mcp\"}", "200 X", ISSUER, "200 X", TOKEN("x", "")},
         "x",
         PATH_R AS_1 POST},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_row(&rows[i]);
}

static void test_not_believed(void) {
    static const struct row rows[] = {
        {"configured, others named",
         true,
         {"200 X", "{\"resource\":\"%s/mcp\",\"authorization_servers\":[\"%s/as/\",\"%s\",7]}"},
         OTHERS,
         PATH_R},
        {"nobody", false, {"404 X", "", "404 X", ""}, NOBODY, PATH_R ROOT_R},
        {"nobody in it",
         false,
         {"200 X", "{\"resource\":\"%s/mcp\"}"},
         "client: of the server: its metadata name no authorization server",
         PATH_R},
        {"none that can be asked",
         false,
         {"200 X", "{\"resource\":\"%s/mcp\",\"authorization_servers\":[\"as\",\"https://u@h/\"]}"},
         "client: of the server: its metadata name no authorization server",
         PATH_R},
        {"broken",
         false,
         {"503 X", "", "404 X", ""},
         "unreachable: the server names no authorization server, and auth.issuer is not set: it "
         "answers with status 503",
         PATH_R ROOT_R},
        {"another resource",
         false,
         {"200 X", "{\"resource\":\"%s/other\",\"authorization_servers\":[\"%s/as\"]}"},
         RESOURCES,
         PATH_R},
        {"a longer path",
         false,
         {"200 X", "{\"resource\":\"%s/mcp/x\",\"authorization_servers\":[\"%s/as\"]}"},
         RESOURCES,
         PATH_R},
        {"half a segment",
         false,
         {"200 X", "{\"resource\":\"%s/mc\",\"authorization_servers\":[\"%s/as\"]}"},
         RESOURCES,
         PATH_R},
        {"another host",
         true,
         {"200 X",
          "{\"resource\":\"https://x.example/mcp\",\"authorization_servers\":[\"%s/as\"]}"},
         RESOURCES,
         PATH_R},
        {"no resource",
         false,
         {"200 X", "{\"authorization_servers\":[\"%s/as\"]}", "404 X", ""},
         "unreachable: the server names no authorization server, and auth.issuer is not set: its "
         "metadata name no resource",
         PATH_R ROOT_R},
        {"resource twice",
         false,
         {"200 X",
          "{\"resource\":\"%s/mcp\",\"resource\":\"%s/mcp\",\"authorization_servers\":[\"%s/as\"]}",
          "404 X", ""},
         "its metadata is no JSON",
         PATH_R ROOT_R},
        {"another issuer",
         true,
         {"404 X", "", "404 X", "", "200 X",
          "{\"issuer\":\"%s/as/\",\"token_endpoint\":\"%s/token\"}", "404 X", "", "404 X", ""},
         "unreachable: its metadata is that of another issuer",
         PATH_R ROOT_R AS_1 AS_2 AS_3},
        {"no endpoint",
         true,
         {"404 X", "", "404 X", "", "200 X", "{\"issuer\":\"%s/as\"}", "404 X", "", "404 X", ""},
         "unreachable: its metadata has no token_endpoint",
         PATH_R ROOT_R AS_1 AS_2 AS_3},
        {"an endpoint that is not https",
         true,
         {"404 X", "", "404 X", "", "200 X",
          "{\"issuer\":\"%s/as\",\"token_endpoint\":\"http://127.0.0.1:1/token\"}"},
         "client: a URL that nobody configured has to be https; http is for loopback that "
         "security.allow_networks opens",
         PATH_R ROOT_R AS_1},
        {"an endpoint inside of a network",
         true,
         {"404 X", "", "404 X", "", "200 X",
          "{\"issuer\":\"%s/as\",\"token_endpoint\":\"https://127.0.0.1:1/token\"}"},
         "",
         PATH_R ROOT_R AS_1},
        {"an issuer inside of a network",
         false,
         {"200 X",
          "{\"resource\":\"%s/mcp\",\"authorization_servers\":[\"http://127.0.0.1:1/as\"]}"},
         "",
         PATH_R},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_row(&rows[i]);
}

/* --- for how long --- */

static void test_kept_and_found_anew(void) {
    struct source_world world;
    world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    world.config.cache_idle_timeout_ms = 0;
    reply(&world, "200 X", RESOURCE);
    reply(&world, "200 X", ISSUER);
    reply(&world, "200 X", TOKEN("one", ",\"expires_in\":1000"));
    reply(&world, "200 X", TOKEN("two", ",\"expires_in\":2600"));
    reply(&world, "200 X", RESOURCE);
    reply(&world, "200 X", ISSUER);
    reply(&world, "200 X", TOKEN("three", ",\"expires_in\":100"));
    reply(&world, "404 X", "");
    reply(&world, "200 X", RESOURCE);
    reply(&world, "200 X", ISSUER);
    reply(&world, "200 X", TOKEN("four", ",\"expires_in\":100"));
    world_start(&world);
    CHECK_GET(&world, NULL, "one");
    world_advance(&world, 1000 * 1000);
    CHECK_GET(&world, NULL, "two");
    world_advance(&world, 2600 * 1000);
    CHECK_GET(&world, NULL, "three");
    CHECK_INT(world.server.n_requests, 7);
    world_advance(&world, 100 * 1000);
    CHECK_GET(&world, NULL, "unreachable: it answers with status 404");
    world_advance(&world, 1000);
    CHECK_GET(&world, NULL, "four");
    CHECK_INT(world.server.n_requests, 11);
    world_close(&world);
}

/* Whoever can change what a server says does not get the credentials. */
static void test_the_first_issuer_stays(void) {
    struct source_world world;
    world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    world.config.cache_idle_timeout_ms = 0;
    reply(&world, "200 X", RESOURCE);
    reply(&world, "200 X", ISSUER);
    reply(&world, "200 X", TOKEN("one", ",\"expires_in\":86400"));
    reply(&world, "200 X", "{\"resource\":\"%s/mcp\",\"authorization_servers\":[\"%s/evil\"]}");
    reply(&world, "200 X",
          "{\"resource\":\"%s/mcp\",\"authorization_servers\":[\"%s/evil\",\"%s/as\"]}");
    reply(&world, "200 X", ISSUER);
    reply(&world, "200 X", TOKEN("two", ",\"expires_in\":86400"));
    world_start(&world);
    CHECK_GET(&world, NULL, "one");
    world_advance(&world, 86400 * 1000);
    CHECK_GET(&world, NULL, OTHERS " that was used first");
    CHECK_INT(world_count_got(&world, POST), 1);
    world_advance(&world, 1000);
    CHECK_GET(&world, NULL, "two");
    CHECK_INT(world_count_got(&world, "evil"), 0);
    world_close(&world);
}

/* Nobody was shown the credentials by the first one: another one may come. */
static void test_an_issuer_that_was_not_used(void) {
    struct source_world world;
    world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    reply(&world, "200 X", "{\"resource\":\"%s/mcp\",\"authorization_servers\":[\"%s/gone\"]}");
    reply(&world, "404 X", "");
    reply(&world, "404 X", "");
    reply(&world, "404 X", "");
    reply(&world, "200 X", RESOURCE);
    reply(&world, "200 X", ISSUER);
    reply(&world, "200 X", TOKEN("x", ""));
    world_start(&world);
    CHECK_GET(&world, NULL, "unreachable: it answers with status 404");
    world_advance(&world, 1000);
    CHECK_GET(&world, NULL, "x");
    world_close(&world);
}

/* One search for all; a silent server leaves time for the issuer that is configured. */
static void test_patience(void) {
    struct source_world world;
    struct waiter first, second;
    size_t n_left = 2;
    world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT)->auth_client.issuer = world_url(&world, "/as");
    reply_bytes(&world, "", REPLY_HOLD);
    reply(&world, "200 X", ISSUER);
    reply(&world, "200 X", TOKEN("x", ""));
    world_start(&world);
    CHECK_INT(waiter_ask(&first, &world, world.source, NULL), OAUTH_ANSWER_WAIT);
    CHECK_INT(waiter_ask(&second, &world, world.source, NULL), OAUTH_ANSWER_WAIT);
    first.n_left = second.n_left = &n_left;
    world_settle(&world);
    CHECK_INT(world.server.n_requests, 1);
    world_advance(&world, LIMIT_TOKEN_FETCH_MS / 2);
    guarded_run(&world.guarded);
    CHECK(first.wait.token != NULL && second.wait.token != NULL);
    waiter_drop(&first);
    waiter_drop(&second);
    check_targets(&world, PATH_R AS_1 POST);
    world_close(&world);
}

/* --- scopes and methods --- */

static void test_what_metadata_say(void) {
    static const struct {
        const char *scopes, *methods, *expect;
        bool is_basic;
    } rows[] = {
        {"", "", "&resource", true},
        {",\"scopes_supported\":[\"a\",\"b\",\"a\"]", "", "&scope=a%20b", true},
        {",\"scopes_supported\":[\"a\",\"b c\",\"\",7,\"d\\\"e\",\"f\"]", "", "&scope=a%20f", true},
        {",\"scopes_supported\":[]", "", "&resource", true},
        {",\"scopes_supported\":\"a\"", "", "&resource", true},
        {"", ",\"token_endpoint_auth_methods_supported\":[\"client_secret_post\"]",
         "&client_secret=", false},
        {"",
         ",\"token_endpoint_auth_methods_supported\":[\"client_secret_post\","
         "\"client_secret_basic\"]",
         "&resource", true},
        {"", ",\"token_endpoint_auth_methods_supported\":[\"private_key_jwt\"]", NULL, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct source_world world;
        char resource[512], issuer[512];
        snprintf(resource, sizeof resource,
                 "{\"resource\":\"%%s/mcp\",\"authorization_servers\":[\"%%s/as\"]%s}",
                 rows[i].scopes);
        snprintf(issuer, sizeof issuer,
                 "{\"issuer\":\"%%s/as\",\"token_endpoint\":\"%%s/token\"%s}", rows[i].methods);
        test_row(i < 5 ? rows[i].scopes : rows[i].methods);
        world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
        reply(&world, "200 X", resource);
        reply(&world, "200 X", issuer);
        reply(&world, "200 X", TOKEN("x", ""));
        world_start(&world);
        if (rows[i].expect == NULL) {
            CHECK_GET(&world, NULL,
                      "client: the authorization server takes no client secret, neither by "
                      "client_secret_basic nor by client_secret_post");
            CHECK_INT(world_count_got(&world, POST), 0);
        } else {
            CHECK_GET(&world, NULL, "x");
            CHECK_INT(world_count_got(&world, rows[i].expect), 1);
            CHECK_INT(world_count_got(&world, "Authorization: Basic"), rows[i].is_basic);
            CHECK_INT(world_count_got(&world, "scope="), rows[i].expect[1] == 's');
        }
        world_close(&world);
    }
}

static void test_many_scopes(void) {
    for (size_t n = LIMIT_SCOPES; n <= LIMIT_SCOPES + 1; n++) {
        struct source_world world;
        char resource[1024];
        size_t at =
            (size_t)snprintf(resource, sizeof resource,
                             "{\"resource\":\"%%s/mcp\",\"authorization_servers\":[\"%%s/as\"],"
                             "\"scopes_supported\":[\"s\"");
        for (size_t i = 1; i < n; i++)
            at += (size_t)snprintf(resource + at, sizeof resource - at, ",\"s%zu\"", i);
        snprintf(resource + at, sizeof resource - at, "]}");
        world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
        reply(&world, "200 X", resource);
        reply(&world, "200 X", ISSUER);
        reply(&world, "200 X", TOKEN("x", ""));
        world_start(&world);
        CHECK_GET(&world, NULL, "x");
        CHECK_INT(world_count_got(&world, "&scope=s%20s1%20"), n == LIMIT_SCOPES);
        CHECK_INT(world_count_got(&world, "scope="), n == LIMIT_SCOPES);
        world_close(&world);
    }
}

static void test_grants_are_a_hint(void) {
    struct source_world world;
    world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    reply(&world, "200 X", RESOURCE);
    reply(&world, "200 X",
          "{\"issuer\":\"%s/as\",\"token_endpoint\":\"%s/token\",\"grant_types_supported\":"
          "[\"authorization_code\"]}");
    reply(&world, "200 X", TOKEN("x", ""));
    world_start(&world);
    CHECK_GET(&world, NULL, "x");
    CHECK_INT(world_count_log(&world, "does not list this kind of grant"), 1);
    world_close(&world);
}

/* --- redirects --- */

static void test_redirects(void) {
    static const struct row rows[] = {
        {"each kind that there is",
         false,
         {"301 X\r\nLocation: /r1", "", "302 X\r\nLocation: r2", "",
          "303 X\r\nLocation: ../r3?a=b#c", "", "200 X", RESOURCE, "307 X\r\nLocation: /i1", "",
          "308 X\r\nLocation: ./i2", "", "200 X", ISSUER, "200 X", TOKEN("x", "")},
         "x",
         PATH_R "GET /r1 GET /r2 GET /r3?a=b " AS_1 "GET /i1 GET /i2 " POST},
        {"too many",
         true,
         {"404 X", "", "404 X", "", "302 X\r\nLocation: /1", "", "302 X\r\nLocation: /2", "",
          "302 X\r\nLocation: /3", "", "302 X\r\nLocation: /4", "", "404 X", "", "404 X", ""},
         "unreachable: it redirects too often",
         PATH_R ROOT_R AS_1 "GET /1 GET /2 GET /3 " AS_2 AS_3},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_row(&rows[i]);
}

static void test_redirects_by_the_rules(void) {
    static const char *const locations[] = {
        "http://127.0.0.1:1/x",    "https://127.0.0.1:1/x",       "http://192.0.2.1/x",
        "https://10.0.0.1/x",      "https://169.254.169.254/x",   "https://[::1]/x",
        "http://public.example/x", "https://[::ffff:10.0.0.1]/x",
    };
    for (size_t i = 0; i < ARRAY_LEN(locations); i++) {
        struct source_world world;
        char status[128];
        test_row(locations[i]);
        snprintf(status, sizeof status, "302 X\r\nLocation: %s", locations[i]);
        world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT)->auth_client.issuer =
            world_url(&world, "/as");
        reply(&world, "404 X", "");
        reply(&world, "404 X", "");
        reply(&world, status, "");
        reply(&world, "404 X", "");
        reply(&world, "404 X", "");
        world_start(&world);
        CHECK(slice_starts_with(slice_from_cstr(world_get(&world, NULL)), SLICE("unreachable: ")));
        CHECK_INT(world_count_got(&world, "/x "), 0);
        world_close(&world);
    }
}

/* --- silence --- */

static void test_nothing_is_asked_with_an_endpoint(void) {
    struct source_world world;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT)->auth_client.issuer =
        SLICE("https://as.example");
    reply(&world, "200 X", TOKEN("x", ""));
    world_start(&world);
    CHECK_GET(&world, NULL, "x");
    check_targets(&world, POST);
    world_close(&world);
}

TEST_MAIN(TEST(test_where), TEST(test_not_believed), TEST(test_kept_and_found_anew),
          TEST(test_the_first_issuer_stays), TEST(test_an_issuer_that_was_not_used),
          TEST(test_patience), TEST(test_what_metadata_say), TEST(test_many_scopes),
          TEST(test_grants_are_a_hint), TEST(test_redirects), TEST(test_redirects_by_the_rules),
          TEST(test_nothing_is_asked_with_an_endpoint))
