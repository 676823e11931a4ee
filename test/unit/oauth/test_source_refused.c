/* What a server says when it refuses a token, and how often that moves us to ask for another one.
 */
#include "http/challenge.h"
#include "source_world.h"

struct answered {
    struct http_field field;
    struct http_head head;
};

static void answer(struct answered *answered, uint16_t status, const char *challenge) {
    *answered =
        (struct answered){.field = {SLICE_INIT("WWW-Authenticate"), slice_from_cstr(challenge)},
                          .head = {.status = status, .n_fields = challenge != NULL ? 1 : 0}};
    answered->head.fields = &answered->field;
}

/* Gets the token that there is, has it refused, and says whether that helps. */
static bool refuse(struct source_world *world, uint16_t status, const char *challenge) {
    struct answered answered;
    struct waiter waiter;
    answer(&answered, status, challenge);
    if (waiter_ask(&waiter, world, world->source, NULL) == OAUTH_ANSWER_WAIT)
        guarded_run(&world->guarded);
    CHECK(waiter.wait.token != NULL);
    bool helps = oauth_source_refused(world->source, NULL, waiter.wait.token, &answered.head);
    waiter_drop(&waiter);
    return helps;
}

static void open_with_tokens(struct source_world *world, size_t n) {
    world_with_endpoint(world, CONFIG_UPSTREAM_AUTH_CLIENT);
    for (size_t i = 0; i < n; i++) {
        char body[128];
        snprintf(body, sizeof body,
                 "{\"access_token\":\"t%zu\",\"token_type\":\"Bearer\",\"expires_in\":3600}", i);
        reply(world, "200 OK", body);
    }
}

/* --- 401 --- */

static void test_401_drops_it(void) {
    struct source_world world;
    open_with_tokens(&world, 4);
    world_start(&world);
    CHECK_GET(&world, NULL, "t0");
    CHECK(refuse(&world, 401, NULL));
    CHECK_GET(&world, NULL, "t1");
    CHECK(refuse(&world, 401, "Bearer error=\"invalid_token\""));
    CHECK_GET(&world, NULL, "t2");
    CHECK(refuse(&world, 401, "Basic"));
    CHECK_GET(&world, NULL, "t3");
    /* Others are not about the token. */
    CHECK(!refuse(&world, 403, NULL));
    CHECK(!refuse(&world, 403, "Bearer error=\"invalid_token\""));
    CHECK(!refuse(&world, 400, "Bearer error=\"insufficient_scope\", scope=\"a\""));
    CHECK(!refuse(&world, 500, "Bearer"));
    CHECK_GET(&world, NULL, "t3");
    world_close(&world);
}

static void test_an_old_token_drops_no_newer_one(void) {
    struct source_world world;
    struct answered answered;
    struct waiter waiter;
    open_with_tokens(&world, 2);
    world_start(&world);
    answer(&answered, 401, NULL);
    CHECK_GET(&world, NULL, "t0");
    REQUIRE(waiter_ask(&waiter, &world, world.source, NULL) == OAUTH_ANSWER_TOKEN);
    CHECK(oauth_source_refused(world.source, NULL, waiter.wait.token, &answered.head));
    CHECK_GET(&world, NULL, "t1");
    for (int i = 0; i < 10; i++)
        CHECK(oauth_source_refused(world.source, NULL, waiter.wait.token, &answered.head));
    CHECK_GET(&world, NULL, "t1");
    CHECK_INT(world.server.n_requests, 2);
    waiter_drop(&waiter);
    world_close(&world);
}

/* A server that takes no token does not make us ask for ever. */
static void test_one_that_refuses_all(void) {
    struct source_world world;
    open_with_tokens(&world, 20);
    world_start(&world);
    for (size_t i = 0; i < 50; i++)
        CHECK(refuse(&world, 401, NULL) == (i < TOKENS_DROPS));
    world_settle(&world);
    CHECK_INT(world.server.n_requests, TOKENS_DROPS + 1);
    world_advance(&world, TOKENS_DROP_MS - 1);
    CHECK(!refuse(&world, 401, NULL));
    world_advance(&world, 1);
    CHECK(refuse(&world, 401, NULL));
    CHECK(!refuse(&world, 401, NULL));
    world_advance(&world, TOKENS_DROP_MS * 2);
    CHECK(refuse(&world, 401, NULL));
    CHECK(refuse(&world, 401, NULL));
    CHECK(!refuse(&world, 401, NULL));
    CHECK_INT(world.server.n_requests, TOKENS_DROPS + 4);
    world_close(&world);
}

static void test_401_with_scopes(void) {
    static const struct {
        const char *challenge, *expect;
    } rows[] = {
        {"Bearer scope=\"a b\"", "scope=a%20b"},
        {"Basic scope=x, Bearer scope=\"  a   b a \"", "scope=a%20b"},
        {"Bearer scope=\"\"", NULL},
        {"Bearer scope=\"a \\\"\"", NULL},
        {"Bearer scope=\"a\" broken", NULL},
        {"Basic scope=a", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct source_world world;
        test_row(rows[i].challenge);
        open_with_tokens(&world, 2);
        world_start(&world);
        CHECK(refuse(&world, 401, rows[i].challenge));
        CHECK_GET(&world, NULL, "t1");
        CHECK_INT(world_count_got(&world, "scope="), rows[i].expect != NULL);
        if (rows[i].expect != NULL)
            CHECK_INT(world_count_got(&world, rows[i].expect), 1);
        world_close(&world);
    }
}

static void test_configured_scopes_stay(void) {
    struct source_world world;
    struct slice scope = SLICE("own");
    open_with_tokens(&world, 3);
    world.servers[0].auth_scopes = &scope;
    world.servers[0].n_auth_scopes = 1;
    world_start(&world);
    CHECK(refuse(&world, 401, "Bearer scope=\"a\""));
    CHECK(!refuse(&world, 403, "Bearer error=\"insufficient_scope\", scope=\"a\""));
    CHECK_GET(&world, NULL, "t1");
    CHECK_INT(world_count_got(&world, "scope=own"), 2);
    world_close(&world);
}

/* --- 401 that names metadata --- */

#define METADATA                                                                                   \
    "{\"resource\":\"%s/mcp\",\"authorization_servers\":[\"%s/as\"],\"scopes_supported\":[\"m\"]}"
#define ISSUER "{\"issuer\":\"%s/as\",\"token_endpoint\":\"%s/token\"}"

static void test_named_metadata(void) {
    struct source_world world;
    char challenge[256];
    world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    reply(&world, "200 X", METADATA);
    reply(&world, "200 X", ISSUER);
    reply(&world, "200 X", TOKEN("one", ""));
    reply(&world, "200 X", METADATA);
    reply(&world, "200 X", ISSUER);
    reply(&world, "200 X", TOKEN("two", ""));
    reply(&world, "200 X", TOKEN("three", ""));
    world_start(&world);
    snprintf(challenge, sizeof challenge, "Bearer resource_metadata=\"http://%s/named?x=1\"",
             world.server.address.text);
    CHECK(refuse(&world, 401, challenge));
    CHECK_GET(&world, NULL, "two");
    CHECK_INT(world_count_got(&world, "GET /named?x=1 "), 1);
    /* The same again is nothing new. */
    CHECK(refuse(&world, 401, challenge));
    CHECK_GET(&world, NULL, "three");
    CHECK_INT(world_count_got(&world, "GET /named?x=1 "), 1);
    CHECK_INT(world_count_got(&world, "scope=m"), 3);
    world_close(&world);
}

static void test_named_metadata_of_no_use(void) {
    static const char *const urls[] = {
        "http://127.0.0.1:1/m", "https://10.0.0.1/m",    "http://public.example/m",
        "https://[::1]/m",      "https://169.254.0.1/m", "ftp://127.0.0.1/m",
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct source_world world;
        char challenge[256];
        test_row(urls[i]);
        world_open(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
        reply(&world, "200 X", METADATA);
        reply(&world, "200 X", ISSUER);
        reply(&world, "200 X", TOKEN("one", ""));
        reply(&world, "200 X", METADATA);
        reply(&world, "200 X", ISSUER);
        reply(&world, "200 X", TOKEN("two", ""));
        world_start(&world);
        snprintf(challenge, sizeof challenge, "Bearer resource_metadata=\"%s\"", urls[i]);
        CHECK(refuse(&world, 401, challenge));
        CHECK_GET(&world, NULL, "two"); /* as if it had said nothing */
        CHECK_INT(world_count_got(&world, "/m "), 0);
        world_close(&world);
    }
}

/* --- 403 --- */

#define NEEDS(scopes) "Bearer error=\"insufficient_scope\", scope=\"" scopes "\""

static void test_step_up(void) {
    struct source_world world;
    open_with_tokens(&world, 5);
    world.config.cache_idle_timeout_ms = 0;
    world_start(&world);
    CHECK(refuse(&world, 401, "Bearer scope=\"a\""));
    CHECK(refuse(&world, 403, NEEDS("b c")));
    CHECK_GET(&world, NULL, "t2");
    CHECK_INT(world_count_got(&world, "scope=a%20b%20c"), 1);
    /* It has been asked for them: nothing else will help. */
    CHECK(!refuse(&world, 403, NEEDS("c")));
    CHECK(!refuse(&world, 403, NEEDS("")));
    CHECK(!refuse(&world, 403, NEEDS("a \\\\")));
    CHECK_GET(&world, NULL, "t2");
    CHECK(refuse(&world, 403, NEEDS("d")));
    CHECK_GET(&world, NULL, "t3");
    CHECK_INT(world_count_got(&world, "scope=a%20b%20c%20d"), 1);
    /* A renewal asks for the same. */
    world_advance(&world, 3600 * 1000);
    CHECK_GET(&world, NULL, "t4");
    CHECK_INT(world_count_got(&world, "scope=a%20b%20c%20d"), 2);
    world_close(&world);
}

/* Scopes that are denied cost nobody those that there are, and are not asked for again. */
static void test_denied(void) {
    struct source_world world;
    open_with_tokens(&world, 1);
    reply(&world, "400 X", ERROR("invalid_scope"));
    reply(&world, "200 OK", TOKEN("again", ",\"expires_in\":86400"));
    reply(&world, "200 OK", TOKEN("with-b", ",\"expires_in\":86400"));
    world.config.cache_idle_timeout_ms = 0;
    world_start(&world);
    CHECK(refuse(&world, 403, NEEDS("b")));
    CHECK_GET(&world, NULL, "again");
    CHECK_INT(world.server.n_requests, 3);
    CHECK_INT(world_count_got(&world, "scope=b"), 1);
    for (int i = 0; i < 5; i++)
        CHECK(!refuse(&world, 403, NEEDS("b")));
    CHECK_GET(&world, NULL, "again");
    CHECK_INT(world.server.n_requests, 3);
    world_advance(&world, TOKENS_DENIED_MS);
    CHECK(refuse(&world, 403, NEEDS("b")));
    CHECK_GET(&world, NULL, "with-b");
    CHECK_INT(world_count_got(&world, "scope=b"), 2);
    world_close(&world);
}

/* New scopes each time come to an end. */
static void test_endless_scopes(void) {
    struct source_world world;
    char challenge[128];
    size_t n = 0;
    open_with_tokens(&world, 60);
    world_start(&world);
    for (size_t i = 0; i < 60; i++) {
        snprintf(challenge, sizeof challenge, NEEDS("s%zu"), i);
        n += refuse(&world, 403, challenge);
    }
    CHECK_INT(n, LIMIT_SCOPES);
    CHECK_INT(world.server.n_requests, LIMIT_SCOPES + 1);
    world_close(&world);
}

/* What one caller needs is not asked for another. */
static void test_steps_are_a_subjects_own(void) {
    struct source_world world;
    struct answered answered;
    struct waiter waiter;
    struct oauth_token *alice = make_subject("alice", UINT64_MAX);
    struct oauth_token *bob = make_subject("bob", UINT64_MAX);
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    reply(&world, "200 OK", EXCHANGED("x", ",\"expires_in\":3600"));
    world_start(&world);
    answer(&answered, 403, NEEDS("admin"));
    CHECK_GET(&world, alice, "x");
    REQUIRE(waiter_ask(&waiter, &world, world.source, alice) == OAUTH_ANSWER_TOKEN);
    CHECK(oauth_source_refused(world.source, alice, waiter.wait.token, &answered.head));
    waiter_drop(&waiter);
    CHECK_GET(&world, bob, "x");
    CHECK_INT(world_count_got(&world, "scope=admin"), 0);
    CHECK_GET(&world, alice, "x");
    CHECK_INT(world_count_got(&world, "scope=admin"), 1);
    oauth_token_unref(alice);
    oauth_token_unref(bob);
    world_close(&world);
}

TEST_MAIN(TEST(test_401_drops_it), TEST(test_an_old_token_drops_no_newer_one),
          TEST(test_one_that_refuses_all), TEST(test_401_with_scopes),
          TEST(test_configured_scopes_stay), TEST(test_named_metadata),
          TEST(test_named_metadata_of_no_use), TEST(test_step_up), TEST(test_denied),
          TEST(test_endless_scopes), TEST(test_steps_are_a_subjects_own))
