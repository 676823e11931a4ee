/* What an authorization server may answer, and what becomes of it: for whom, and for how long. */
#include "source_world.h"

struct row {
    const char *name;
    const char *status, *body;
    const char *expect; /* the end of it */
};

/* --- answers that are no tokens --- */

static void check_rows(const struct row *rows, size_t n, enum config_upstream_auth type) {
    for (size_t i = 0; i < n; i++) {
        struct source_world world;
        bool is_exchange = type == CONFIG_UPSTREAM_AUTH_EXCHANGE;
        struct oauth_token *subject = is_exchange ? make_subject("caller", UINT64_MAX) : NULL;
        test_row(rows[i].name);
        world_with_endpoint(&world, type)->auth_client.issuer = SLICE("https://as.example");
        reply(&world, rows[i].status, rows[i].body);
        world_start(&world);
        check_end(world_get(&world, subject), rows[i].expect);
        check_end(world_get(&world, subject), rows[i].expect);
        CHECK_INT(world.server.n_requests, 1);
        CHECK_INT(world_count_log(&world, "there is no token for the server"), 1);
        oauth_token_unref(subject);
        world_close(&world);
    }
}

#define NO_TOKEN "unreachable: its answer has no access_token"
#define NO_KIND  "unreachable: the issued_token_type of its answer is that of no access token"
#define UNSENT   "unreachable: the access_token of its answer is none that can be sent"
#define ENDED    "unreachable: the token of its answer has ended already"

static void test_no_tokens(void) {
    static const struct row rows[] = {
        {"empty", "200 OK", "", "unreachable: its answer is no JSON"},
        {"form", "200 OK", "access_token=x&token_type=bearer",
         "unreachable: its answer is no JSON"},
        {"array", "200 OK", "[]", "unreachable: its answer is no JSON object"},
        {"no token", "200 OK", "{\"token_type\":\"Bearer\"}", NO_TOKEN},
        {"null", "200 OK", "{\"access_token\":null,\"token_type\":\"Bearer\"}", NO_TOKEN},
        {"twice", "200 OK", TOKEN("x", ",\"access_token\":\"y\""),
         "unreachable: its answer is no JSON"},
        {"twice, one in escapes", "200 OK", TOKEN("x", ",\"access\\u005ftoken\":\"y\""),
         "unreachable: its answer is no JSON"},
        {"no type", "200 OK", "{\"access_token\":\"x\"}",
         "unreachable: the token_type of its answer is not Bearer"},
        {"DPoP", "200 OK", "{\"access_token\":\"x\",\"token_type\":\"DPoP\"}",
         "unreachable: the token_type of its answer is not Bearer"},
        {"N_A", "200 OK", "{\"access_token\":\"x\",\"token_type\":\"N_A\"}",
         "unreachable: the token_type of its answer is not Bearer"},
        {"empty token", "200 OK", TOKEN("", ""), UNSENT},
        {"line end", "200 OK", TOKEN("x\\r\\nHost: y", ""), UNSENT},
        {"space", "200 OK", TOKEN("x y", ""), UNSENT},
        {"nul", "200 OK", TOKEN("x\\u0000y", ""), UNSENT},
        {"not ASCII", "200 OK", TOKEN("x\xc3\xa9", ""), UNSENT},
        {"ended", "200 OK", TOKEN("x", ",\"expires_in\":0"), ENDED},
        {"ended, as text", "200 OK", TOKEN("x", ",\"expires_in\":\"0\""), ENDED},
        {"ended before", "200 OK", TOKEN("x", ",\"expires_in\":-1"), ENDED},
        {"ended long before", "200 OK", TOKEN("x", ",\"expires_in\":-99999999999999999999"), ENDED},
        {"a fraction of a second", "200 OK", TOKEN("x", ",\"expires_in\":0.9"), ENDED},
        {"another issuer", "200 OK", TOKEN("x", ",\"iss\":\"https://other.example\""),
         "unreachable: its answer is that of another issuer"},
        {"an issuer that is no text", "200 OK", TOKEN("x", ",\"iss\":7"),
         "unreachable: its answer is that of another issuer"},
        {"page", "200 OK\r\nContent-Type: text/html", TOKEN("x", ""),
         "unreachable: it answers with a web page"},
        {"201", "201 X", TOKEN("x", ""), "unreachable: it answers with status 201"},
        {"302", "302 X\r\nLocation: /token", TOKEN("x", ""),
         "unreachable: it redirects, which is not followed"},
        {"307", "307 X\r\nLocation: http://127.0.0.1:1/", TOKEN("x", ""),
         "unreachable: it redirects, which is not followed"},
        {"404", "404 X", "", "unreachable: it answers with status 404"},
        {"404 with a page", "404 X\r\nContent-Type: text/html", "<p>",
         "unreachable: it answers with status 404"},
        {"500", "500 X", ERROR("invalid_client"), "unreachable: it answers with status 500"},
        {"503", "503 X", "", "unreachable: it answers with status 503"},
        {"429", "429 X", "", "unreachable: it answers with status 429"},
        {"gzip", "200 OK\r\nContent-Encoding: gzip", "x",
         "the answer is compressed, which was not asked for"},
    };
    check_rows(rows, ARRAY_LEN(rows), CONFIG_UPSTREAM_AUTH_CLIENT);
}

static void test_no_exchanged_tokens(void) {
    static const struct row rows[] = {
        {"no kind", "200 OK", TOKEN("x", ""), NO_KIND},
        {"a refresh token", "200 OK",
         TOKEN("x", ",\"issued_token_type\":\"urn:ietf:params:oauth:token-type:refresh_token\""),
         NO_KIND},
        {"an id token", "200 OK",
         TOKEN("x", ",\"issued_token_type\":\"urn:ietf:params:oauth:token-type:id_token\""),
         NO_KIND},
        {"no text", "200 OK", TOKEN("x", ",\"issued_token_type\":[]"), NO_KIND},
    };
    check_rows(rows, ARRAY_LEN(rows), CONFIG_UPSTREAM_AUTH_EXCHANGE);
}

static void test_odd_but_good(void) {
    static const char *const bodies[] = {
        EXCHANGED("x", ",\"scope\":\"far more than was asked for\""),
        EXCHANGED("x", ",\"iss\":\"https://as.example\""),
        TOKEN("x", ",\"issued_token_type\":\"urn:ietf:params:oauth:token-type:jwt\""),
        "{\"token_type\":\"BEARER\",\"issued_token_type\":"
        "\"urn:ietf:params:oauth:token-type:access_token\",\"access_token\":\"\\u0078\"}",
        EXCHANGED("x", ",\"refresh_token\":\"not kept\",\"error\":\"none\""),
    };
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct source_world world;
        struct oauth_token *subject = make_subject("caller", UINT64_MAX);
        test_row(bodies[i]);
        world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE)->auth_client.issuer =
            SLICE("https://as.example");
        reply(&world, "200 OK\r\nCache-Control: no-store", bodies[i]);
        world_start(&world);
        CHECK_GET(&world, subject, "x");
        oauth_token_unref(subject);
        world_close(&world);
    }
}

/* At the limits, and one past them. */
static void test_size(void) {
    static char text[LIMIT_TOKEN_ANSWER + 1024];
    static const size_t sizes[] = {LIMIT_JWT, LIMIT_JWT + 1, LIMIT_TOKEN_ANSWER};
    static const char *const expect[] = {"", UNSENT, "the answer is longer than the limit"};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct source_world world;
        world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
        size_t at =
            (size_t)snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"");
        memset(text + at, 'x', sizes[i]);
        at += sizes[i];
        snprintf(text + at, sizeof text - at, "\",\"token_type\":\"Bearer\"}");
        reply_bytes(&world, text, REPLY_CLOSE);
        world_start(&world);
        if (i == 0)
            CHECK_INT(strspn(world_get(&world, NULL), "x"), 511);
        else
            check_end(world_get(&world, NULL), expect[i]);
        world_close(&world);
    }
}

/* --- errors --- */

static void test_errors(void) {
    static const struct {
        const char *status, *code, *of_client, *of_exchange;
        const char *named; /* NULL: as it is */
    } rows[] = {
        {"400 X", "invalid_request", "client: ", "refused: ", NULL},
        {"400 X", "invalid_grant", "client: ", "refused: ", NULL},
        {"400 X", "invalid_scope", "client: ", "refused: ", NULL},
        {"400 X", "invalid_target", "client: ", "refused: ", NULL},
        {"403 X", "access_denied", "client: ", "refused: ", NULL},
        {"400 X", "consent_required", "client: ", "refused: ", NULL},
        {"401 X", "invalid_client", "client: ", "client: ", NULL},
        {"400 X", "invalid_client", "client: ", "client: ", NULL},
        {"400 X", "unauthorized_client", "client: ", "client: ", NULL},
        {"400 X", "unsupported_grant_type", "client: ", "client: ", NULL},
        {"400 X", "temporarily_unavailable", "unreachable: ", "unreachable: ", NULL},
        {"400 X", "server_error", "unreachable: ", "unreachable: ", NULL},
        {"400 X", "what\\nis this", "client: ", "refused: ", "an error that is not known"},
        {"400 X", "INVALID_GRANT", "client: ", "refused: ", "an error that is not known"},
    };
    for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
        struct source_world world;
        bool is_exchange = i % 2 == 1;
        struct oauth_token *subject = is_exchange ? make_subject("caller", UINT64_MAX) : NULL;
        char body[256], expect[256];
        test_row(rows[i / 2].code);
        snprintf(body, sizeof body, "{\"error\":\"%s\",\"error_description\":\"a\\nsecret\"}",
                 rows[i / 2].code);
        snprintf(expect, sizeof expect, "%sit answers with status %.3s: %s",
                 is_exchange ? rows[i / 2].of_exchange : rows[i / 2].of_client, rows[i / 2].status,
                 rows[i / 2].named != NULL ? rows[i / 2].named : rows[i / 2].code);
        world_with_endpoint(&world, is_exchange ? CONFIG_UPSTREAM_AUTH_EXCHANGE
                                                : CONFIG_UPSTREAM_AUTH_CLIENT);
        reply(&world, rows[i / 2].status, body);
        world_start(&world);
        CHECK_GET(&world, subject, expect);
        /* What the server says about it is for whoever reads the log at that level, on one line. */
        CHECK_INT(world_count_log(&world, "a\\x0asecret") + world_count_log(&world, "a\\nsecret"),
                  1);
        oauth_token_unref(subject);
        world_close(&world);
    }
}

static void test_errors_without_a_code(void) {
    static const struct row rows[] = {
        {"400 empty", "400 X", "", "unreachable: it answers with status 400"},
        {"400 page", "400 X\r\nContent-Type: text/html", "<p>",
         "unreachable: it answers with status 400"},
        {"400 array", "400 X", "[\"error\"]", "unreachable: it answers with status 400"},
        {"400 number", "400 X", "{\"error\":5}", "unreachable: it answers with status 400"},
        {"400 twice", "400 X", "{\"error\":\"invalid_grant\",\"error\":\"x\"}",
         "unreachable: it answers with status 400"},
        {"401 empty", "401 X", "", "client: it answers with status 401"},
    };
    check_rows(rows, ARRAY_LEN(rows), CONFIG_UPSTREAM_AUTH_CLIENT);
    check_rows(rows, ARRAY_LEN(rows), CONFIG_UPSTREAM_AUTH_EXCHANGE);
}

/* --- for whom, and for how long --- */

static void test_a_refusal_is_one_subjects(void) {
    struct source_world world;
    struct oauth_token *alice = make_subject("alice", UINT64_MAX);
    struct oauth_token *bob = make_subject("bob", UINT64_MAX);
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    reply(&world, "400 X", ERROR("invalid_grant"));
    reply(&world, "200 OK", EXCHANGED("b", ""));
    reply(&world, "200 OK", EXCHANGED("a", ""));
    world_start(&world);
    CHECK_GET(&world, alice, "refused: it answers with status 400: invalid_grant");
    CHECK_GET(&world, bob, "b");
    world_advance(&world, 5000 - 1);
    CHECK_GET(&world, alice, "refused: it answers with status 400: invalid_grant");
    CHECK_INT(world.server.n_requests, 2);
    world_advance(&world, 1);
    CHECK_GET(&world, alice, "a");
    oauth_token_unref(alice);
    oauth_token_unref(bob);
    world_close(&world);
}

/* A token on which the server stumbles is no reason to keep it from all others. */
static void test_nonsense_is_one_subjects(void) {
    struct source_world world;
    struct oauth_token *alice = make_subject("alice", UINT64_MAX);
    struct oauth_token *bob = make_subject("bob", UINT64_MAX);
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    reply(&world, "500 X", "");
    reply(&world, "200 OK", "what?");
    reply(&world, "200 OK", EXCHANGED("b", ""));
    world_start(&world);
    CHECK_GET(&world, alice, "unreachable: it answers with status 500");
    world_advance(&world, 1000);
    CHECK_GET(&world, alice, "unreachable: its answer is no JSON");
    CHECK_GET(&world, bob, "b");
    world_advance(&world, 2000 - 1);
    CHECK_GET(&world, alice, "unreachable: its answer is no JSON");
    CHECK_INT(world.server.n_requests, 3);
    oauth_token_unref(alice);
    oauth_token_unref(bob);
    world_close(&world);
}

static void test_a_dead_server_is_left_alone(void) {
    struct source_world world;
    struct oauth_token *alice = make_subject("alice", UINT64_MAX);
    struct oauth_token *bob = make_subject("bob", UINT64_MAX);
    uint64_t pauses[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000};
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    reply(&world, "503 X", "");
    world_start(&world);
    for (size_t i = 0; i < ARRAY_LEN(pauses); i++) {
        CHECK_GET(&world, i % 2 == 0 ? alice : bob, "unreachable: it answers with status 503");
        CHECK_INT(world.server.n_requests, i + 1);
        world_advance(&world, pauses[i] - 1);
        CHECK_GET(&world, alice, "unreachable: it answers with status 503");
        CHECK_GET(&world, bob, "unreachable: it answers with status 503");
        CHECK_INT(world.server.n_requests, i + 1);
        world_advance(&world, 1);
    }
    CHECK_INT(world_count_log(&world, "WARN"), 1);
    /* It answers again: all is forgotten. */
    world.replies[0] =
        (struct reply){SLICE_INIT("HTTP/1.1 200 OK\r\n\r\n" EXCHANGED("x", "")), REPLY_CLOSE};
    CHECK_GET(&world, alice, "x");
    CHECK_GET(&world, bob, "x");
    CHECK_INT(world.source->failure.n, 0);
    oauth_token_unref(alice);
    oauth_token_unref(bob);
    world_close(&world);
}

/* All who wait hear of it at once, also those whose turn has not come. */
static void test_no_connection(void) {
    struct source_world world;
    struct waiter waiters[40];
    struct oauth_token *subjects[40];
    size_t n_left = ARRAY_LEN(waiters);
    struct config_server *server = world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    server->auth_client.token_endpoint = SLICE("http://127.0.0.1:1/token");
    world_start(&world);
    for (size_t i = 0; i < ARRAY_LEN(waiters); i++) {
        char name[8];
        snprintf(name, sizeof name, "s%zu.", i);
        subjects[i] = make_subject(name, UINT64_MAX);
        CHECK_INT(waiter_ask(&waiters[i], &world, world.source, subjects[i]), OAUTH_ANSWER_WAIT);
        waiters[i].n_left = &n_left;
    }
    guarded_run(&world.guarded);
    for (size_t i = 0; i < ARRAY_LEN(waiters); i++) {
        CHECK_INT(waiters[i].wait.lack, OAUTH_LACK_UNREACHABLE);
        CHECK(slice_starts_with(slice_from_cstr(waiters[i].wait.reason), SLICE("127.0.0.1:1: ")));
        oauth_token_unref(subjects[i]);
    }
    world_close(&world);
}

/* --- who has the key --- */

static void test_methods(void) {
    struct source_world world;
    struct config_server *server = world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    server->auth_client.method = CONFIG_CLIENT_AUTH_KEY;
    reply(&world, "200 OK", TOKEN("x", ""));
    world_start(&world);
    CHECK_GET(&world, NULL, "client: there is no key for auth.client_auth = \"private_key_jwt\"");
    CHECK_INT(world.server.n_requests, 0);
    world_close(&world);

    server = world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    server->auth_client.client_secret = SLICE_EMPTY;
    reply(&world, "200 OK", TOKEN("x", ""));
    world_start(&world);
    CHECK_GET(&world, NULL, "x");
    CHECK_INT(world_count_got(&world, "&client_id=gw"), 1);
    CHECK_INT(world_count_got(&world, "Authorization"), 0);
    world_close(&world);
}

TEST_MAIN(TEST(test_no_tokens), TEST(test_no_exchanged_tokens), TEST(test_odd_but_good),
          TEST(test_size), TEST(test_errors), TEST(test_errors_without_a_code),
          TEST(test_a_refusal_is_one_subjects), TEST(test_nonsense_is_one_subjects),
          TEST(test_a_dead_server_is_left_alone), TEST(test_no_connection), TEST(test_methods))
