/* Checks that wait for Redis, and the ways in which it does not answer. */
#include "redis_world.h"
#include "test.h"

/* --- it answers --- */

static void test_counts(void) {
    struct world world;
    world_open(&world);
    world_configure(&world);
    /* The first one waits for the connection. */
    CHECK_INT(ask_all(&world), 10);
    CHECK_INT(limits_health(world.limits), LIMITS_REDIS_UP);
    struct wish wish = {.then = NULL};
    wish_start(&world, &wish);
    world_await(&world, is_quiet);
    CHECK_INT(wish.answer.verdict, LIMITS_EXCEEDED);
    CHECK(wish.answer.wait_ms > 3500000 && wish.answer.wait_ms <= 3600000);
    CHECK_INT(redis_number(&world.server, "LLEN nexus:rate_limit:{cardea}:server:a:3600000:"
                                          "00000000000000000000000000000000"),
              10);
    CHECK_INT(said(&world, "limits are counted in Redis"), 1);
    struct limits_charge charge = {.rule = &world.rule};
    limits_take_at(world.limits, &charge, 1, clock_monotonic_ms(), &wish.answer);
    CHECK_INT(wish.answer.verdict, LIMITS_EXCEEDED); /* the memory has counted along */
    world_close(&world);
}

/* All are on their way before the first reply is read, and each one gets its own. */
static void test_pipelined(void) {
    enum { N = 500 };
    struct world world;
    static struct wish wishes[N];
    size_t n_passed = 0;
    world_open(&world);
    world.storage.pool_max_size = 1;
    world_configure(&world);
    world_await(&world, is_up);
    redis_do(&world.server, "CONFIG RESETSTAT");
    for (size_t i = 0; i < N; i++)
        wish_start(&world, &wishes[i]);
    CHECK_INT(world.worker->redis->n_checks, N);
    world_await(&world, is_quiet);
    for (size_t i = 0; i < N; i++) {
        CHECK_INT(wishes[i].n_answers, 1);
        CHECK_INT(wishes[i].answer.verdict, i < 10 ? LIMITS_PASS : LIMITS_EXCEEDED);
        n_passed += wishes[i].answer.verdict == LIMITS_PASS;
    }
    CHECK_INT(n_passed, 10);
    world_close(&world);
}

/* The server forgets the script in the midst of it. */
static void test_script_flush(void) {
    enum { N = 50 };
    struct world world;
    struct wish wishes[N] = {{.check = NULL}};
    world_open(&world);
    world_configure(&world);
    world_await(&world, is_up);
    for (int round = 0; round < 3; round++) {
        redis_do(&world.server, "SCRIPT FLUSH");
        redis_do(&world.server, "FLUSHALL");
        for (size_t i = 0; i < N; i++)
            wish_start(&world, &wishes[i]);
        limits_check_cancel(TAKE(wishes[0].check));
        limits_check_cancel(TAKE(wishes[7].check));
        world_await(&world, is_quiet);
        size_t n_passed = 0;
        for (size_t i = 0; i < N; i++) {
            CHECK_INT(wishes[i].n_answers, i == 0 || i == 7 ? 0 : 1);
            n_passed += wishes[i].n_answers == 1 && wishes[i].answer.verdict == LIMITS_PASS;
        }
        /* What was cancelled was never counted: it had not found the script. */
        CHECK_INT(n_passed, 10);
    }
    CHECK_INT(said(&world, "cannot be asked"), 0);
    world_close(&world);
}

static void test_cancel(void) {
    struct world world;
    struct wish waiting = {.then = NULL}, sent = {.then = NULL};
    world_open(&world);
    world_configure(&world);
    wish_start(&world, &waiting); /* for a connection */
    CHECK(!waiting.was_at_once);
    waiting.check = limits_check_cancel(waiting.check);
    CHECK_INT(world.worker->redis->n_checks, 0);
    world_await(&world, is_up);
    wish_start(&world, &sent);
    sent.check = limits_check_cancel(sent.check);
    CHECK_INT(ask_one(&world), LIMITS_PASS);
    CHECK_INT(waiting.n_answers + sent.n_answers, 0);
    CHECK_INT(ask_all(&world), 8); /* one was counted for the one that did not wait for it */
    world_close(&world);
}

static void ask_again(struct wish *wish) {
    wish->then = NULL;
    wish_start(wish->world, wish);
}

static void end_worker(struct wish *wish) {
    struct world *world = wish->world;
    world->worker = limits_worker_free(world->worker);
    io_loop_stop(world->guarded.loop);
}

static void to_memory(struct wish *wish) {
    wish->world->storage.type = CONFIG_STORAGE_MEMORY;
    world_configure(wish->world);
}

/* What may be done from inside the answer. */
static void test_inside(void) {
    struct world world;
    struct wish again = {.then = ask_again}, change = {.then = to_memory}, behind = {.then = NULL},
                last = {.then = end_worker};
    world_open(&world);
    world_configure(&world);
    wish_start(&world, &again);
    world_await(&world, is_quiet);
    CHECK_INT(again.n_answers, 1);
    wish_start(&world, &change);
    wish_start(&world, &behind);
    world_await(&world, is_quiet);
    CHECK_INT(change.n_answers + behind.n_answers, 2);
    CHECK_INT(limits_health(world.limits), LIMITS_IN_MEMORY);
    world_storage(&world);
    world_configure(&world);
    wish_start(&world, &last);
    wish_start(&world, &behind);
    guarded_run(&world.guarded);
    CHECK_INT(last.n_answers, 1);
    CHECK_INT(behind.n_answers, 0); /* forgotten */
    world_close(&world);
}

/* The same from inside an answer that on_failure gives. */
static void test_inside_failure(void) {
    struct world world;
    struct wish last = {.then = end_worker}, behind = {.then = NULL};
    world_open(&world);
    world_configure(&world);
    world_await(&world, is_up);
    redis_server_stop(&world.server);
    wish_start(&world, &last);
    wish_start(&world, &behind);
    redis_server_kill(&world.server);
    guarded_run(&world.guarded);
    CHECK_INT(last.n_answers, 1);
    CHECK_INT(behind.n_answers, 0);
    redis_server_run(&world.server);
    world_close(&world);
}

/* --- it is gone --- */

static void test_killed(void) {
    enum { N = 20 };
    struct world world;
    struct wish wishes[N] = {{.check = NULL}};
    world_open(&world);
    world_configure(&world);
    world_await(&world, is_up);
    for (size_t i = 0; i < 6; i++)
        CHECK_INT(ask_one(&world), LIMITS_PASS);
    redis_server_stop(&world.server);
    for (size_t i = 0; i < N; i++)
        wish_start(&world, &wishes[i]);
    uint64_t start = clock_monotonic_ms();
    redis_server_kill(&world.server);
    world_await(&world, is_quiet);
    CHECK(clock_monotonic_ms() - start < 5000); /* at once, not after response_timeout */
    size_t n_passed = 0;
    for (size_t i = 0; i < N; i++) {
        CHECK_INT(wishes[i].n_answers, 1);
        n_passed += wishes[i].answer.verdict == LIMITS_PASS;
    }
    CHECK_INT(n_passed, 4); /* the memory has counted the six */
    world_await(&world, is_down);
    struct wish wish = {.then = NULL};
    wish_start(&world, &wish);
    CHECK(wish.was_at_once);
    CHECK_INT(wish.answer.verdict, LIMITS_EXCEEDED);
    redis_server_run(&world.server);
    world_await(&world, is_up);
    CHECK_INT(ask_all(&world), 10); /* a new one, which has counted nothing */
    CHECK_INT(said(&world, "Redis cannot be asked"), 1);
    CHECK_INT(said(&world, "this gateway counts by itself"), 1);
    CHECK_INT(said(&world, "limits are counted in Redis"), 2);
    world_close(&world);
}

static void test_deny(void) {
    struct world world;
    struct wish wish = {.then = NULL};
    world_open(&world);
    world.storage.on_failure = CONFIG_FAILURE_DENY;
    redis_server_kill(&world.server);
    world_configure(&world);
    wish_start(&world, &wish); /* nothing speaks against it yet */
    CHECK(!wish.was_at_once);
    world_await(&world, is_quiet);
    CHECK_INT(wish.answer.verdict, LIMITS_UNAVAILABLE);
    CHECK(is_down(&world));
    CHECK_INT(ask_one(&world), LIMITS_UNAVAILABLE);
    CHECK_INT(said(&world, "what has a limit is refused"), 1);
    /* The file says otherwise now. */
    world.storage.on_failure = CONFIG_FAILURE_LOCAL;
    world_configure(&world);
    CHECK_INT(ask_all(&world), 10);
    redis_server_run(&world.server);
    world_await(&world, is_up);
    CHECK_INT(ask_all(&world), 10);
    world_close(&world);
}

static void test_slow(void) {
    struct world world;
    struct wish wishes[3] = {{.check = NULL}};
    world_open(&world);
    world.storage.response_timeout_ms = 100;
    world_configure(&world);
    world_await(&world, is_up);
    CHECK_INT(ask_one(&world), LIMITS_PASS);
    redis_server_stop(&world.server);
    uint64_t start = clock_monotonic_ms();
    for (size_t i = 0; i < 3; i++)
        wish_start(&world, &wishes[i]);
    world_await(&world, is_quiet);
    uint64_t took = clock_monotonic_ms() - start;
    CHECK(took >= 90 && took < 5000);
    for (size_t i = 0; i < 3; i++)
        CHECK_INT(wishes[i].answer.verdict, LIMITS_PASS); /* in memory */
    CHECK(is_down(&world));
    CHECK_INT(said(&world, "storage.response_timeout"), 1);
    /* Connections are made, and nobody says a word on them. */
    CHECK_INT(ask_one(&world), LIMITS_PASS);
    redis_server_go_on(&world.server);
    world_await(&world, is_up);
    CHECK_INT(ask_one(&world), LIMITS_PASS);
    world_close(&world);
}

/* A slow one that was never up: pool.timeout_wait, and the smaller of the two for the connection.
 */
static void test_slow_from_the_start(void) {
    struct world world;
    struct wish wish = {.then = NULL};
    world_open(&world);
    world.storage.pool_timeout_wait_ms = 100;
    world.storage.pool_timeout_create_ms = 400;
    redis_server_stop(&world.server);
    uint64_t start = clock_monotonic_ms();
    world_configure(&world);
    wish_start(&world, &wish);
    CHECK(!wish.was_at_once);
    world_await(&world, is_quiet);
    CHECK(clock_monotonic_ms() - start >= 90);
    CHECK_INT(wish.answer.verdict, LIMITS_PASS);
    CHECK(!is_down(&world));
    world_await(&world, is_down);
    CHECK(clock_monotonic_ms() - start >= 390);
    CHECK_INT(said(&world, "did not answer in time when the connection was made"), 1);
    redis_server_go_on(&world.server);
    world_await(&world, is_up);
    world_close(&world);
}

static void test_too_many_wait(void) {
    struct world world;
    struct wish *wishes = mem_xalloc((LIMIT_REDIS_PENDING + 1) * sizeof *wishes);
    struct wish *last = &wishes[LIMIT_REDIS_PENDING];
    world_open(&world);
    world_configure(&world);
    world_await(&world, is_up);
    redis_server_stop(&world.server);
    for (size_t i = 0; i < LIMIT_REDIS_PENDING; i++)
        wish_start(&world, &wishes[i]);
    CHECK(!wishes[LIMIT_REDIS_PENDING - 1].was_at_once);
    wish_start(&world, last);
    CHECK(last->was_at_once);
    CHECK_INT(last->answer.verdict, LIMITS_PASS);
    redis_server_go_on(&world.server);
    world_await(&world, is_quiet);
    size_t n_passed = 0;
    for (size_t i = 0; i < LIMIT_REDIS_PENDING; i++)
        n_passed += wishes[i].n_answers == 1 && wishes[i].answer.verdict == LIMITS_PASS;
    CHECK_INT(n_passed, 10);
    world_close(&world);
    mem_free(wishes);
}

/* Without memory a check is not lost. */
static void test_without_memory(void) {
    struct world world;
    world_open(&world);
    world.storage.on_failure = CONFIG_FAILURE_DENY;
    world_configure(&world);
    for (uint64_t n = 1; n < 6; n++) {
        struct wish wish = {.then = NULL};
        world_await(&world, is_up);
        mem_fail_after(n);
        wish_start(&world, &wish);
        mem_fail_after(0);
        world_await(&world, is_quiet);
        CHECK_INT(wish.n_answers, 1);
        CHECK(n > 1 || wish.answer.verdict == LIMITS_UNAVAILABLE);
    }
    world_close(&world);
}

TEST_MAIN(TEST(test_counts), TEST(test_pipelined), TEST(test_script_flush), TEST(test_cancel),
          TEST(test_inside), TEST(test_inside_failure), TEST(test_killed), TEST(test_deny),
          TEST(test_slow), TEST(test_slow_from_the_start), TEST(test_too_many_wait),
          TEST(test_without_memory))
