/* Those who wait: many at once, from many threads, and those who give up. */
#include <pthread.h>

#include "base/limits.h"
#include "base/random.h"
#include "world.h"

static const struct reply good = ANSWER(KEYS(KEY_EC));

/* --- on one loop --- */

static void test_a_thousand(void) {
    enum { N = 1000 };
    static struct waiter waiters[N];
    struct world world;
    struct waiter one;
    world_open(&world, &good, 1);
    world_add(&world, "/keys", NULL);
    world_start(&world);
    world_wait(&world);
    CHECK_INT(world.server.n_requests, 1);
    for (uint64_t round = 2; round < 5; round++) {
        size_t n_left = N;
        for (size_t i = 0; i < N; i++) {
            waiter_init(&waiters[i], &world);
            waiters[i].n_left = &n_left;
            CHECK(oauth_wait_for_keys(oauth_at(world.oauth, 0), &waiters[i].wait));
        }
        guarded_run(&world.guarded);
        for (size_t i = 0; i < N; i++)
            CHECK_INT(waiters[i].n_told, 1);
        CHECK_INT(world.server.n_requests, round);
        /* Again at once: there is nothing newer to come. */
        for (size_t i = 0; i < N; i++)
            CHECK(!waiter_start(&one, &world));
        world_advance(&world, LIMIT_JWKS_PAUSE_MS - 1);
        CHECK(!waiter_start(&one, &world));
        world_settle(&world);
        CHECK_INT(world.server.n_requests, round);
        world_advance(&world, 1);
    }
    world_close(&world);
}

/* Who looked before they came, and asks after it, is told of them: nothing is fetched for it, and
 * the next one with an unknown key can still ask. */
static void test_keys_that_came_meanwhile(void) {
    static const struct reply replies[] = {ANSWER(KEYS(KEY_EC)), ANSWER(KEYS(KEY_EC))};
    struct world world;
    struct waiter late, next;
    world_open(&world, replies, ARRAY_LEN(replies));
    world_add(&world, "/keys", NULL);
    world_start(&world);
    uint64_t before = oauth_generation(oauth_at(world.oauth, 0));
    world_wait(&world);
    world_advance(&world, LIMIT_JWKS_PAUSE_MS);
    CHECK_INT(world.server.n_requests, 1);
    waiter_init(&late, &world);
    late.wait.generation = before;
    CHECK(oauth_wait_for_keys(oauth_at(world.oauth, 0), &late.wait));
    CHECK(!oauth_wait_cancel(&late.wait));
    guarded_run(&world.guarded);
    CHECK_INT(late.n_told, 1);
    CHECK_INT(world.server.n_requests, 1);
    CHECK(waiter_start(&next, &world));
    guarded_run(&world.guarded);
    CHECK_INT(world.server.n_requests, 2);
    world_close(&world);
}

/* The issuer comes up a moment after us: whoever asks meanwhile waits for the next attempt. */
static void test_a_late_issuer(void) {
    static const struct reply replies[] = {STATUS("503 X"), STATUS("503 X"), ANSWER(KEYS(KEY_EC))};
    struct world world;
    struct waiter waiter;
    world_open(&world, replies, ARRAY_LEN(replies));
    world_add(&world, "/keys", NULL);
    world_start(&world);
    world_wait(&world);
    world_wait(&world); /* the one that may be asked for at once */
    CHECK_INT(world.server.n_requests, 2);
    CHECK(waiter_start(&waiter, &world));
    world_settle(&world);
    CHECK_INT(world.server.n_requests, 2);
    world_advance(&world, 2000);
    guarded_run(&world.guarded);
    CHECK_INT(waiter.n_told, 1);
    CHECK_INT(world.server.n_requests, 3);
    CHECK_INT(world_keys(&world, 0), 1);
    world_close(&world);
}

static void test_patience(void) {
    static const struct reply silent = {SLICE_INIT(""), REPLY_HOLD};
    struct world world;
    struct waiter first, second;
    world_open(&world, &silent, 1);
    world_add(&world, "/keys", NULL);
    world_start(&world);
    CHECK(waiter_start(&first, &world));
    world.now += 1000;
    CHECK(waiter_start(&second, &world));
    world_advance(&world, LIMIT_JWKS_WAIT_MS - 1000);
    guarded_run(&world.guarded);
    CHECK_INT(first.n_told, 1);
    CHECK_INT(second.n_told, 0);
    CHECK(!oauth_wait_cancel(&first.wait));
    world_advance(&world, 1000);
    guarded_run(&world.guarded);
    CHECK_INT(second.n_told, 1);
    world_close(&world);
}

/* As above, by the timer: nobody turns the clock but itself. */
static void test_patience_by_the_timer(void) {
    static const struct reply silent = {SLICE_INIT(""), REPLY_HOLD};
    struct world world;
    struct waiter waiter;
    world_open(&world, &silent, 1);
    world_add(&world, "/keys", NULL);
    world_start(&world);
    world_run_until_requests(&world, 1);
    world_settle(&world);
    CHECK(waiter_start(&waiter, &world));
    waiter.wait.waiter.deadline_ms = world.now; /* it has waited that long already */
    guarded_run(&world.guarded);
    CHECK_INT(waiter.n_told, 1);
    world_close(&world);
}

static void test_cancel(void) {
    struct world world;
    struct waiter waiters[3];
    world_open(&world, &good, 1);
    world_add(&world, "/keys", NULL);
    world_start(&world);
    for (size_t i = 0; i < 3; i++)
        CHECK(waiter_start(&waiters[i], &world));
    CHECK(oauth_wait_cancel(&waiters[1].wait));
    CHECK(!oauth_wait_cancel(&waiters[1].wait));
    CHECK(oauth_wait_cancel(&waiters[0].wait));
    guarded_run(&world.guarded);
    world_settle(&world);
    CHECK_INT(waiters[0].n_told, 0);
    CHECK_INT(waiters[1].n_told, 0);
    CHECK_INT(waiters[2].n_told, 1);
    CHECK(!oauth_wait_cancel(&waiters[2].wait));
    world_close(&world);
}

/* Told, but not delivered yet. */
static void test_cancel_too_late(void) {
    static const struct reply silent = {SLICE_INIT(""), REPLY_HOLD};
    struct world world;
    struct waiter waiter;
    world_open(&world, &silent, 1);
    world_add(&world, "/keys", NULL);
    world_start(&world);
    CHECK(waiter_start(&waiter, &world));
    world_advance(&world, LIMIT_JWKS_WAIT_MS);
    CHECK_INT(waiter.n_told, 0);
    CHECK(!oauth_wait_cancel(&waiter.wait));
    guarded_run(&world.guarded);
    CHECK_INT(waiter.n_told, 1);
    world_close(&world);
}

static void test_the_end(void) {
    struct world world;
    struct waiter waiters[2];
    world_open(&world, &good, 1);
    world_add(&world, "/keys", NULL);
    world_start(&world);
    CHECK(waiter_start(&waiters[0], &world));
    CHECK(waiter_start(&waiters[1], &world));
    CHECK(oauth_wait_cancel(&waiters[1].wait));
    world.oauth = oauth_free(world.oauth);
    CHECK(!oauth_wait_cancel(&waiters[0].wait));
    guarded_run(&world.guarded);
    world_settle(&world);
    CHECK_INT(waiters[0].n_told, 1);
    CHECK_INT(waiters[1].n_told, 0);
    CHECK_INT(world.server.n_requests, 0);
    world_close(&world);
}

/* --- from other threads --- */

enum { N_THREADS = 4, N_ROUNDS = 400, N_AT_ONCE = 8 };

struct mutineer;

struct crowd {
    struct world *world;
    atomic_uint_least64_t now;
    atomic_size_t n_waiting; /* of the last round: those who are in */
    atomic_size_t n_done;
};

/* A thread with a loop of its own, that asks, waits, and changes its mind. */
struct mutineer {
    struct crowd *crowd;
    struct io_loop *loop;
    pthread_t thread;
    struct mutinous {
        struct oauth_wait wait;
        struct mutineer *owner;
        size_t n_told;
        bool is_in, is_cancelled;
    } waits[N_AT_ONCE];
    size_t n_left;
    size_t n_asked, n_told, n_cancelled;
};

/* Time flies: a second at each look. */
static uint64_t crowd_now(void *context) {
    struct crowd *crowd = context;
    return atomic_fetch_add(&crowd->now, 1000);
}

static void mutinous_told(struct io_message *message) {
    struct oauth_wait *wait = CONTAINER_OF(message, struct oauth_wait, message);
    struct mutinous *mutinous = CONTAINER_OF(wait, struct mutinous, wait);
    mutinous->n_told++;
    mutinous->owner->n_told++;
    if (--mutinous->owner->n_left == 0)
        io_loop_stop(mutinous->owner->loop);
}

static void enter(struct mutineer *mutineer) {
    struct oauth_issuer *issuer = oauth_at(mutineer->crowd->world->oauth, 0);
    for (size_t i = 0; i < N_AT_ONCE; i++) {
        struct mutinous *mutinous = &mutineer->waits[i];
        *mutinous = (struct mutinous){.owner = mutineer};
        mutinous->wait.loop = mutineer->loop;
        mutinous->wait.message.deliver = mutinous_told;
        mutinous->wait.generation = oauth_generation(issuer);
        mutinous->is_in = oauth_wait_for_keys(issuer, &mutinous->wait);
        mutineer->n_left += mutinous->is_in;
        mutineer->n_asked += mutinous->is_in;
        jose_keys_unref(oauth_keys(issuer, 0, NULL));
    }
}

static void change_minds(struct mutineer *mutineer, unsigned share) {
    for (size_t i = 0; i < N_AT_ONCE; i++) {
        struct mutinous *mutinous = &mutineer->waits[i];
        if (!mutinous->is_in || mutinous->is_cancelled || random_below(4) >= share)
            continue;
        mutinous->is_cancelled = oauth_wait_cancel(&mutinous->wait);
        mutineer->n_left -= mutinous->is_cancelled;
        mutineer->n_cancelled += mutinous->is_cancelled;
    }
}

static void leave(struct mutineer *mutineer) {
    if (mutineer->n_left != 0)
        io_loop_run(mutineer->loop);
    for (size_t i = 0; i < N_AT_ONCE; i++) {
        struct mutinous *mutinous = &mutineer->waits[i];
        CHECK_INT(mutinous->n_told, mutinous->is_in && !mutinous->is_cancelled);
    }
}

static void *mutiny(void *arg) {
    struct mutineer *mutineer = arg;
    struct crowd *crowd = mutineer->crowd;
    for (int round = 0; round < N_ROUNDS; round++) {
        enter(mutineer);
        change_minds(mutineer, 2);
        leave(mutineer);
    }
    /* The last time: the issuers are freed in the midst of it. */
    enter(mutineer);
    if (atomic_fetch_add(&crowd->n_waiting, 1) + 1 == N_THREADS)
        io_loop_stop(crowd->world->guarded.loop);
    while (atomic_load(&crowd->n_done) == 0)
        change_minds(mutineer, 1);
    leave(mutineer);
    return NULL;
}

static void test_threads(void) {
    struct world world;
    struct crowd crowd = {.world = &world, .now = START_MS};
    static struct mutineer mutineers[N_THREADS];
    size_t n_asked = 0, n_told = 0, n_cancelled = 0;
    world_open(&world, &good, 1);
    world_add(&world, "/keys", NULL);
    world.oauth = world_make(&world, NULL);
    world.oauth->now_fn = crowd_now;
    world.oauth->now_context = &crowd;
    oauth_start(world.oauth);
    for (size_t i = 0; i < N_THREADS; i++) {
        mutineers[i] = (struct mutineer){.crowd = &crowd};
        if (io_loop_new(&mutineers[i].loop) != 0 ||
            pthread_create(&mutineers[i].thread, NULL, mutiny, &mutineers[i]) != 0)
            CANNOT_GO_ON();
    }
    guarded_run(&world.guarded);
    world.oauth = oauth_free(world.oauth);
    atomic_store(&crowd.n_done, 1);
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_join(mutineers[i].thread, NULL);
        io_loop_free(mutineers[i].loop);
        n_asked += mutineers[i].n_asked;
        n_told += mutineers[i].n_told;
        n_cancelled += mutineers[i].n_cancelled;
    }
    CHECK_INT(n_told + n_cancelled, n_asked);
    CHECK(n_told > 100);
    CHECK(n_cancelled > 100);
    world_close(&world);
}

TEST_MAIN(TEST(test_a_thousand), TEST(test_keys_that_came_meanwhile), TEST(test_a_late_issuer),
          TEST(test_patience), TEST(test_patience_by_the_timer), TEST(test_cancel),
          TEST(test_cancel_too_late), TEST(test_the_end), TEST(test_threads))
