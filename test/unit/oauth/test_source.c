/* A source's tokens: what is asked for, who gets them, how long they are kept. */
#include "source_world.h"

/* --- what is sent --- */

#define FORM_CREDENTIALS "grant_type=client_credentials&resource=http%3A%2F%2F127.0.0.1%3A"

static void test_client_credentials(void) {
    struct source_world world;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    reply(&world, "200 OK", TOKEN("abc", ",\"expires_in\":3600"));
    world_start(&world);
    CHECK_GET(&world, NULL, "abc");
    CHECK_GET(&world, NULL, "abc");
    CHECK_INT(world.server.n_requests, 1);
    CHECK_INT(world_count_got(&world, "POST /token HTTP/1.1\r\n"), 1);
    CHECK_INT(world_count_got(&world, FORM_CREDENTIALS), 1);
    CHECK_INT(world_count_got(&world, "%2Fmcp"), 1);
    CHECK_INT(world_count_got(&world, "scope="), 0);
    CHECK_INT(world_count_got(&world, "Content-Type: application/x-www-form-urlencoded\r\n"), 1);
    /* gw:top%20secret%3A1 */
    CHECK_INT(world_count_got(&world, "Authorization: Basic Z3c6dG9wJTIwc2VjcmV0JTNBMQ==\r\n"), 1);
    CHECK_INT(world_count_got(&world, "secret"), 0);
    CHECK_INT(world_count_log(&world, "token got for the server"), 1);
    CHECK_INT(world_count_log(&world, "abc"), 0);
    CHECK_INT(world_count_log(&world, "secret"), 0);
    world_close(&world);
}

static void test_scopes_and_post(void) {
    struct source_world world;
    struct slice scopes[] = {SLICE_INIT("a:b"), SLICE_INIT("c"), SLICE_INIT("a:b")};
    struct config_server *server = world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    server->auth_scopes = scopes;
    server->n_auth_scopes = ARRAY_LEN(scopes);
    server->auth_client.method = CONFIG_CLIENT_AUTH_POST;
    server->auth_audience = SLICE("of an exchange alone");
    reply(&world, "200 OK", TOKEN("abc", ""));
    world_start(&world);
    CHECK_GET(&world, NULL, "abc");
    CHECK_INT(world_count_got(&world, "&scope=a%3Ab%20c&client_id=gw&"
                                      "client_secret=top%20secret%3A1"),
              1);
    CHECK_INT(world_count_got(&world, "Authorization"), 0);
    CHECK_INT(world_count_got(&world, "audience"), 0);
    world_close(&world);
}

static void test_exchange(void) {
    struct source_world world;
    struct config_server *server = world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    struct oauth_token *alice = make_subject("alice.token", UINT64_MAX);
    struct oauth_token *bob = make_subject("bob.token==", UINT64_MAX);
    struct oauth_token *again = make_subject("alice.token", UINT64_MAX);
    server->auth_audience = SLICE("the api");
    reply(&world, "200 OK", EXCHANGED("for-alice", ",\"expires_in\":3600"));
    reply(&world, "200 OK", EXCHANGED("for-bob", ",\"expires_in\":3600"));
    world_start(&world);
    CHECK_GET(&world, alice, "for-alice");
    CHECK_GET(&world, bob, "for-bob");
    CHECK_GET(&world, again, "for-alice");
    CHECK_GET(&world, bob, "for-bob");
    CHECK_GET(&world, NULL, "refused: there is no access token to exchange");
    CHECK_INT(world.server.n_requests, 2);
    CHECK_INT(world_count_got(&world, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3A"
                                      "token-exchange&resource=http"),
              2);
    CHECK_INT(world_count_got(&world,
                              "&audience=the%20api&requested_token_type=urn%3Aietf%3Aparams%3A"
                              "oauth%3Atoken-type%3Aaccess_token&subject_token=alice.token&"
                              "subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3A"
                              "access_token"),
              1);
    CHECK_INT(world_count_got(&world, "&subject_token=bob.token%3D%3D&"), 1);
    CHECK_INT(world_count_log(&world, "alice"), 0);
    oauth_token_unref(alice);
    oauth_token_unref(bob);
    oauth_token_unref(again);
    world_close(&world);
}

/* --- how long --- */

static void test_renewal(void) {
    struct source_world world;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    world.config.cache_idle_timeout_ms = 0;
    reply(&world, "200 OK", TOKEN("one", ",\"expires_in\":1000"));
    reply(&world, "200 OK", TOKEN("two", ",\"expires_in\":1000"));
    reply(&world, "503 X", "");
    reply(&world, "200 OK", TOKEN("three", ",\"expires_in\":1000"));
    world_start(&world);
    CHECK_GET(&world, NULL, "one");
    world_advance(&world, 799200); /* four fifths of 999 s */
    CHECK_GET(&world, NULL, "one");
    world_settle(&world);
    CHECK_INT(world.server.n_requests, 1);
    world_advance(&world, 1);
    CHECK_GET(&world, NULL, "one"); /* meanwhile the next one is asked for */
    world_settle(&world);
    CHECK_INT(world.server.n_requests, 2);
    CHECK_GET(&world, NULL, "two");
    /* A renewal that fails costs nothing as long as there is a token. */
    world_advance(&world, 900 * 1000);
    CHECK_GET(&world, NULL, "two");
    world_settle(&world);
    CHECK_GET(&world, NULL, "two");
    world_settle(&world);
    CHECK_INT(world.server.n_requests, 3);
    world_advance(&world, 99 * 1000 - 1);
    CHECK_GET(&world, NULL, "two");
    world_settle(&world);
    CHECK_GET(&world, NULL, "three");
    CHECK_INT(world.server.n_requests, 4);
    world_close(&world);
}

static void test_an_ended_token_is_not_used(void) {
    struct source_world world;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    for (int i = 0; i < 8; i++) {
        char body[128];
        snprintf(body, sizeof body,
                 "{\"access_token\":\"t%d\",\"token_type\":\"Bearer\",\"expires_in\":100}", i);
        reply(&world, "200 OK", body);
    }
    world_start(&world);
    CHECK_GET(&world, NULL, "t0");
    world_advance(&world, 100 * 1000);
    CHECK_GET(&world, NULL, "t1");
    /* The wall's clock is set forward: it may have ended; and back: then the other clock says so.
     */
    world.wall += 100 * 1000;
    CHECK_GET(&world, NULL, "t2");
    CHECK_GET(&world, NULL, "t2");
    world.wall -= 5000 * 1000;
    CHECK_GET(&world, NULL, "t2");
    world.now += 50 * 1000;
    CHECK_GET(&world, NULL, "t2");
    world.now += 50 * 1000;
    CHECK_GET(&world, NULL, "t3");
    world_settle(&world);
    CHECK_INT(world.server.n_requests, 4);
    /* Nor is it renewed for ever. */
    for (int i = 0; i < 10; i++) {
        CHECK_GET(&world, NULL, "t3");
        world_settle(&world);
    }
    CHECK_INT(world.server.n_requests, 4);
    world_close(&world);
}

static void test_lifetimes(void) {
    static const struct {
        const char *more;
        uint64_t expect_s;
    } rows[] = {
        {"", 299},
        /* One second less than it says. */
        {",\"expires_in\":60", 59},
        {",\"expires_in\":\"60\"", 59},
        {",\"expires_in\":60.9", 59},
        {",\"expires_in\":6e1", 299},
        {",\"expires_in\":\"soon\"", 299},
        {",\"expires_in\":\"\"", 299},
        {",\"expires_in\":null", 299},
        {",\"expires_in\":[60]", 299},
        {",\"expires_in\":86400", 86399},
        {",\"expires_in\":99999999", 86399},
        {",\"expires_in\":18446744073709551617", 86399},
        {",\"expires_in\":999999999999999999999999999999999999999999", 86399},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct source_world world;
        char body[256];
        struct waiter waiter;
        test_row(rows[i].more);
        world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
        snprintf(body, sizeof body, "{\"access_token\":\"x\",\"token_type\":\"Bearer\"%s}",
                 rows[i].more);
        reply(&world, "200 OK", body);
        world_start(&world);
        CHECK_GET(&world, NULL, "x");
        REQUIRE(waiter_ask(&waiter, &world, world.source, NULL) == OAUTH_ANSWER_TOKEN);
        CHECK_INT(oauth_token_ends(waiter.wait.token), START_WALL_MS + rows[i].expect_s * 1000);
        waiter_drop(&waiter);
        world_close(&world);
    }
}

/* No later than the caller's, whatever the server says; and near that end none is asked for that
 * would not last longer. */
static void test_ends_with_the_subject(void) {
    struct source_world world;
    struct waiter waiter;
    struct oauth_token *subject = make_subject("s", 50 * 1000);
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    reply(&world, "200 OK", EXCHANGED("x", ",\"expires_in\":3600"));
    world_start(&world);
    CHECK_GET(&world, subject, "x");
    REQUIRE(waiter_ask(&waiter, &world, world.source, subject) == OAUTH_ANSWER_TOKEN);
    CHECK_INT(oauth_token_ends(waiter.wait.token), START_WALL_MS + 50 * 1000);
    waiter_drop(&waiter);
    world_advance(&world, 50 * 1000 - 1);
    CHECK_GET(&world, subject, "x");
    world_settle(&world);
    world_advance(&world, 1);
    CHECK_GET(&world, subject, "refused: the caller's access token has ended");
    CHECK_INT(world.server.n_requests, 1);
    oauth_token_unref(subject);
    world_close(&world);
}

/* --- how many --- */

static void test_the_least_used_goes(void) {
    struct source_world world;
    struct oauth_token *subjects[4];
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    world.config.cache_max_size = 3;
    for (int i = 0; i < 4; i++) {
        char name[8];
        snprintf(name, sizeof name, "s%d", i);
        subjects[i] = make_subject(name, UINT64_MAX);
    }
    reply(&world, "200 OK", EXCHANGED("x", ",\"expires_in\":3600"));
    world_start(&world);
    for (int i = 0; i < 3; i++)
        CHECK_GET(&world, subjects[i], "x");
    CHECK_GET(&world, subjects[0], "x");
    CHECK_INT(world.server.n_requests, 3);
    CHECK_GET(&world, subjects[3], "x"); /* takes the place of the second */
    CHECK_INT(world.source->subjects.count, 3);
    CHECK_GET(&world, subjects[0], "x");
    CHECK_GET(&world, subjects[2], "x");
    CHECK_INT(world.server.n_requests, 4);
    CHECK_GET(&world, subjects[1], "x");
    CHECK_INT(world.server.n_requests, 5);
    CHECK_INT(world.source->subjects.count, 3);
    /* Those that were not used for long go by themselves. */
    world_advance(&world, 600 * 1000 - 1);
    CHECK_INT(world.source->subjects.count, 3);
    world_advance(&world, 1);
    CHECK_INT(world.source->subjects.count, 0);
    for (int i = 0; i < 4; i++)
        oauth_token_unref(subjects[i]);
    world_close(&world);
}

static void test_never_idle(void) {
    struct source_world world;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    world.config.cache_idle_timeout_ms = 0;
    reply(&world, "200 OK", TOKEN("x", ",\"expires_in\":86400"));
    world_start(&world);
    CHECK_GET(&world, NULL, "x");
    world_advance(&world, 3600 * 1000 * 10);
    CHECK_GET(&world, NULL, "x");
    CHECK_INT(world.server.n_requests, 1);
    world_close(&world);
}

/* --- those who wait --- */

static void test_one_request_for_all(void) {
    enum { N = 500 };
    static struct waiter waiters[N];
    struct source_world world;
    size_t n_left = N - 1;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    reply(&world, "200 OK", TOKEN("x", ""));
    world_start(&world);
    for (size_t i = 0; i < N; i++) {
        CHECK_INT(waiter_ask(&waiters[i], &world, world.source, NULL), OAUTH_ANSWER_WAIT);
        waiters[i].n_left = &n_left;
    }
    CHECK(oauth_token_wait_cancel(&waiters[7].wait));
    CHECK(!oauth_token_wait_cancel(&waiters[7].wait));
    guarded_run(&world.guarded);
    for (size_t i = 0; i < N; i++) {
        CHECK_INT(waiters[i].n_told, i != 7);
        CHECK((waiters[i].wait.token != NULL) == (i != 7));
        CHECK(!oauth_token_wait_cancel(&waiters[i].wait));
        waiter_drop(&waiters[i]);
    }
    CHECK_INT(world.server.n_requests, 1);
    world_close(&world);
}

/* No more than so many requests at once; the others in their order; and who has gone has no turn.
 */
static void test_turns(void) {
    enum { N = LIMIT_TOKEN_REQUESTS + 4 };
    static struct waiter waiters[N];
    struct oauth_token *subjects[N];
    struct source_world world;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    world.config.cache_max_size = 1; /* those that run are not counted */
    reply_bytes(&world, "", REPLY_HOLD);
    world_start(&world);
    for (size_t i = 0; i < N; i++) {
        char name[8];
        snprintf(name, sizeof name, "s%zu.", i);
        subjects[i] = make_subject(name, UINT64_MAX);
        CHECK_INT(waiter_ask(&waiters[i], &world, world.source, subjects[i]), OAUTH_ANSWER_WAIT);
    }
    world.server.stop_at_requests = LIMIT_TOKEN_REQUESTS;
    guarded_run(&world.guarded);
    world_settle(&world);
    CHECK_INT(world.server.n_requests, LIMIT_TOKEN_REQUESTS);
    CHECK_INT(world.source->n_running, LIMIT_TOKEN_REQUESTS);
    CHECK(oauth_token_wait_cancel(&waiters[N - 3].wait));
    for (size_t i = 0; i < N; i++) {
        if (i != N - 3)
            CHECK(oauth_token_wait_cancel(&waiters[i].wait) == (i != N - 3));
        oauth_token_unref(subjects[i]);
    }
    /* Nobody waits any more: what runs is ended by its time, and nothing else begins. */
    world_advance(&world, LIMIT_TOKEN_FETCH_MS);
    world_settle(&world);
    CHECK_INT(world.server.n_requests, LIMIT_TOKEN_REQUESTS);
    CHECK_INT(world.source->n_running, 0);
    CHECK_INT(world.source->subjects.count, 1);
    world_close(&world);
}

static void test_patience(void) {
    struct source_world world;
    struct waiter first, second;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    reply_bytes(&world, "HTTP/1.1 200 OK\r\n", REPLY_HOLD);
    reply(&world, "200 OK", TOKEN("x", ""));
    world_start(&world);
    CHECK_INT(waiter_ask(&first, &world, world.source, NULL), OAUTH_ANSWER_WAIT);
    world_settle(&world);
    world_advance(&world, LIMIT_TOKEN_FETCH_MS - 1);
    CHECK_INT(waiter_ask(&second, &world, world.source, NULL), OAUTH_ANSWER_WAIT);
    world_settle(&world);
    CHECK_INT(first.n_told + second.n_told, 0);
    world_advance(&world, 1);
    world_settle(&world);
    CHECK_INT(first.n_told, 1);
    CHECK_INT(second.n_told, 1);
    CHECK_INT(first.wait.lack, OAUTH_LACK_UNREACHABLE);
    CHECK_STR(slice_from_cstr(first.wait.reason), "it did not answer in time");
    CHECK_INT(world.server.n_requests, 1);
    CHECK_GET(&world, NULL, "unreachable: it did not answer in time");
    world_advance(&world, 1000);
    CHECK_GET(&world, NULL, "x");
    world_close(&world);
}

/* A source whose server is silent holds up no other one. */
static void test_one_hung_source(void) {
    struct source_world world;
    struct waiter waiters[LIMIT_TOKEN_REQUESTS + 1];
    struct oauth_token *subjects[LIMIT_TOKEN_REQUESTS + 1];
    struct config_server *server = world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    world.servers[1] = *server;
    world.servers[1].auth_type = CONFIG_UPSTREAM_AUTH_CLIENT;
    world.config.n_servers = 2;
    for (size_t i = 0; i < LIMIT_TOKEN_REQUESTS; i++)
        reply_bytes(&world, "", REPLY_HOLD);
    reply(&world, "200 OK", TOKEN("x", ""));
    world_start(&world);
    struct oauth_source *other = world_source(&world, 1);
    for (size_t i = 0; i < ARRAY_LEN(waiters); i++) {
        char name[8];
        snprintf(name, sizeof name, "s%zu.", i);
        subjects[i] = make_subject(name, UINT64_MAX);
        CHECK_INT(waiter_ask(&waiters[i], &world, world.source, subjects[i]), OAUTH_ANSWER_WAIT);
    }
    world.server.stop_at_requests = LIMIT_TOKEN_REQUESTS;
    guarded_run(&world.guarded);
    world.server.stop_at_requests = 0;
    CHECK_STR(slice_from_cstr(world_get_from(&world, other, NULL)), "x");
    for (size_t i = 0; i < ARRAY_LEN(waiters); i++) {
        CHECK(oauth_token_wait_cancel(&waiters[i].wait));
        oauth_token_unref(subjects[i]);
    }
    oauth_source_unref(other);
    world_close(&world);
}

/* --- whose rules it goes by --- */

static void test_rules(void) {
    static struct slice networks[] = {SLICE_INIT("10.0.0.0/8")};
    struct source_world world;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    world_start(&world);
    struct config_server servers[2] = {world.servers[0], {.url = SLICE("https://w.example/mcp")}};
    struct config config = {.servers = servers, .n_servers = 1};
    CHECK(oauth_source_has_rules(world.source, &config));
    config.n_servers = 2; /* names one more */
    CHECK(!oauth_source_has_rules(world.source, &config));
    config.n_servers = 1;
    config.allow_networks = networks;
    config.n_allow_networks = 1;
    CHECK(!oauth_source_has_rules(world.source, &config));
    world_close(&world);
}

/* --- the end --- */

static void test_the_end(void) {
    struct source_world world;
    struct waiter waiters[2];
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    reply_bytes(&world, "", REPLY_HOLD);
    world_start(&world);
    CHECK_INT(waiter_ask(&waiters[0], &world, world.source, NULL), OAUTH_ANSWER_WAIT);
    CHECK_INT(waiter_ask(&waiters[1], &world, world.source, NULL), OAUTH_ANSWER_WAIT);
    world_settle(&world);
    CHECK_INT(world.server.n_requests, 1);
    CHECK(oauth_token_wait_cancel(&waiters[1].wait));
    world.tokens = oauth_tokens_free(world.tokens);
    CHECK(!oauth_token_wait_cancel(&waiters[0].wait));
    guarded_run(&world.guarded);
    CHECK_INT(waiters[0].n_told, 1);
    CHECK_INT(waiters[1].n_told, 0);
    CHECK_INT(waiters[0].wait.lack, OAUTH_LACK_UNREACHABLE);
    CHECK_GET(&world, NULL, "unreachable: the gateway is being stopped");
    world_close(&world);
}

/* The last reference goes while a request runs, from another place than the loop. */
static void test_a_source_goes(void) {
    struct source_world world;
    struct waiter waiter;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    reply_bytes(&world, "", REPLY_HOLD);
    world_start(&world);
    CHECK_INT(waiter_ask(&waiter, &world, world.source, NULL), OAUTH_ANSWER_WAIT);
    world_settle(&world);
    world.source = oauth_source_unref(world.source); /* the waiter has one yet */
    world_settle(&world);
    CHECK_INT(world.server.n_open, 1);
    CHECK(oauth_token_wait_cancel(&waiter.wait));
    world_settle(&world);
    CHECK_INT(world.server.n_open, 0);
    /* And one that goes between the loop's looks. */
    struct oauth_source *source = world_source(&world, 0);
    CHECK_INT(waiter_ask(&waiter, &world, source, NULL), OAUTH_ANSWER_WAIT);
    CHECK(oauth_token_wait_cancel(&waiter.wait));
    oauth_source_unref(source);
    world_close(&world);
}

TEST_MAIN(TEST(test_client_credentials), TEST(test_scopes_and_post), TEST(test_exchange),
          TEST(test_renewal), TEST(test_an_ended_token_is_not_used), TEST(test_lifetimes),
          TEST(test_ends_with_the_subject), TEST(test_the_least_used_goes), TEST(test_never_idle),
          TEST(test_one_request_for_all), TEST(test_turns), TEST(test_patience),
          TEST(test_one_hung_source), TEST(test_rules), TEST(test_the_end),
          TEST(test_a_source_goes))
