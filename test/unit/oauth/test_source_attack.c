/* Servers and callers who try to make others go without tokens, or the gateway ask without end. */
#include "http/challenge.h"
#include "source_world.h"

struct answered {
    struct http_field field;
    struct http_head head;
};

#define NEEDS(scope) "Bearer error=\"insufficient_scope\", scope=\"" scope "\""

/* False: there was no token to refuse, or it would not help to ask again. */
static bool refuse(struct source_world *world, struct oauth_token *subject, uint16_t status,
                   const char *challenge) {
    struct answered answered = {
        .field = {SLICE_INIT("WWW-Authenticate"), slice_from_cstr(challenge)},
        .head = {.status = status, .n_fields = 1}};
    struct waiter waiter;
    answered.head.fields = &answered.field;
    if (waiter_ask(&waiter, world, world->source, subject) == OAUTH_ANSWER_WAIT)
        guarded_run(&world->guarded);
    CHECK(waiter.wait.token != NULL);
    bool helps = waiter.wait.token != NULL &&
                 oauth_source_refused(world->source, subject, waiter.wait.token, &answered.head);
    waiter_drop(&waiter);
    return helps;
}

/* Each time it wants another scope, which is denied each time. */
static void test_endless_denials(void) {
    enum { CALLS = 100 };
    struct source_world world;
    char challenge[128];
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    reply(&world, "200 OK", TOKEN("x", ",\"expires_in\":86400"));
    for (size_t i = 0; i < 31; i++) {
        reply(&world, "400 X", ERROR("invalid_scope"));
        reply(&world, "200 OK", TOKEN("x", ",\"expires_in\":86400"));
    }
    world_start(&world);
    for (size_t i = 0; i < CALLS; i++) {
        snprintf(challenge, sizeof challenge, NEEDS("s%zu"), i);
        (void)!refuse(&world, NULL, 403, challenge);
        world_settle(&world);
        if (world.server.n_requests >= 62)
            break;
    }
    CHECK(world.server.n_requests < 20);
    world_close(&world);
}

/* Of one caller's challenge others must not suffer. */
static void test_a_challenge_that_is_denied(void) {
    struct source_world world;
    struct oauth_token *alice = make_subject("alice", UINT64_MAX);
    struct oauth_token *bob = make_subject("bob", UINT64_MAX);
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    reply(&world, "200 OK", EXCHANGED("for-alice", ",\"expires_in\":3600"));
    reply(&world, "400 X", ERROR("invalid_scope"));
    reply(&world, "200 OK", EXCHANGED("for-bob", ",\"expires_in\":3600"));
    world_start(&world);
    CHECK(refuse(&world, alice, 401, "Bearer scope=\"admin\""));
    CHECK_GET(&world, bob, "for-bob");
    CHECK_INT(world.server.n_requests, 3);
    CHECK_INT(world_count_got(&world, "scope="), 1);
    oauth_token_unref(alice);
    oauth_token_unref(bob);
    world_close(&world);
}

TEST_MAIN(TEST(test_endless_denials), TEST(test_a_challenge_that_is_denied))
