/* Names, rules and what a worker does without Redis. */
#include "help.h"
#include "test.h"

/* FIPS 180-2, appendix B.1: what every gateway has to come to. */
static void test_subjects(void) {
    struct limits_subject abc = limits_subject_of(SLICE("abc"));
    CHECK(abc.high == 0xba7816bf8f01cfea);
    CHECK(abc.low == 0x414140de5dae2223);
    struct limits_subject none = limits_subject_of(SLICE_EMPTY);
    CHECK(none.high == 0xe3b0c44298fc1c14); /* and so not everybody */
}

static void test_rules(void) {
    struct limits_rule a = rule_of("server:a", 5, 1000), b = rule_of("server:b", 5, 1000);
    struct limits_rule again = rule_of("server:a", 7, 2000);
    CHECK(a.hash != b.hash);
    CHECK(a.hash == again.hash);
    struct limits_rule large = rule_of("r", UINT64_MAX, UINT64_MAX);
    CHECK_INT(large.limit.limit, LIMIT_RATE);
    CHECK_INT(large.limit.interval_ms, LIMIT_RATE_INTERVAL_MS);
}

static void never(void *context, const struct limits_answer *answer) {
    (void)context;
    (void)answer;
    CHECK(false);
}

static void test_worker(void) {
    struct limits_options options = {.n_workers = 2, .max_counters = 100};
    struct config_storage storage = {.type = CONFIG_STORAGE_MEMORY};
    struct limits *limits = NULL;
    struct limits_worker *workers[2] = {0};
    struct io_loop *loop = NULL;
    struct limits_rule rule = rule_of("user", 3, 3600000);
    struct limits_charge charge = {.rule = &rule, .subject = subject_of(1)};
    struct limits_answer answer = {0};
    struct limits_check *check = NULL;
    REQUIRE(limits_new(&options, &limits) == 0);
    REQUIRE(io_loop_new(&loop) == 0);
    for (size_t i = 0; i < 2; i++) {
        REQUIRE(limits_worker_new(limits, loop, &workers[i]) == 0);
        CHECK_INT(limits_worker_configure(workers[i], &storage), 0);
    }
    CHECK_INT(limits_health(limits), LIMITS_IN_MEMORY);
    CHECK_INT(limits_take(workers[0], NULL, 0, never, NULL, &answer, &check), LIMITS_PASS);
    CHECK(!io_timer_is_running(workers[0]->sweep));
    for (size_t i = 0; i < 3; i++) /* one budget for both */
        CHECK_INT(limits_take(workers[i % 2], &charge, 1, never, NULL, &answer, &check),
                  LIMITS_PASS);
    CHECK(io_timer_is_running(workers[0]->sweep)); /* it is given back without traffic */
    CHECK_INT(limits_take(workers[1], &charge, 1, never, NULL, &answer, &check), LIMITS_EXCEEDED);
    CHECK_INT(answer.verdict, LIMITS_EXCEEDED);
    CHECK(answer.wait_ms > 3500000 && answer.wait_ms <= 3600001);
    CHECK(check == NULL);
    for (size_t i = 0; i < 2; i++)
        limits_worker_free(workers[i]);
    io_loop_free(loop);
    limits_free(limits);
}

/* Redis says, or nobody does. */
static void test_conclusions(void) {
    struct limits_options options = {.n_workers = 1};
    struct limits *limits = NULL;
    struct limits_rule rule = rule_of("user", 2, 3600000);
    struct limits_charge charge = {.rule = &rule, .subject = subject_of(1)};
    struct limits_answer pass = {.verdict = LIMITS_PASS}, answer;
    struct limits_answer exceeded = {.verdict = LIMITS_EXCEEDED, .wait_ms = 77};
    struct limits_worker *worker = NULL;
    struct io_loop *loop = NULL;
    REQUIRE(limits_new(&options, &limits) == 0);
    REQUIRE(io_loop_new(&loop) == 0);
    REQUIRE(limits_worker_new(limits, loop, &worker) == 0);
    worker->on_failure = CONFIG_FAILURE_LOCAL;
    limits_conclude(worker, &charge, 1, &exceeded, &answer);
    CHECK_INT(answer.verdict, LIMITS_EXCEEDED);
    CHECK_INT(answer.wait_ms, 77);
    limits_conclude(worker, &charge, 1, &pass, &answer);
    CHECK_INT(answer.verdict, LIMITS_PASS);
    limits_conclude(worker, &charge, 1, NULL, &answer); /* gone: one was counted along */
    CHECK_INT(answer.verdict, LIMITS_PASS);
    limits_conclude(worker, &charge, 1, NULL, &answer);
    CHECK_INT(answer.verdict, LIMITS_EXCEEDED);
    worker->on_failure = CONFIG_FAILURE_DENY;
    limits_conclude(worker, &charge, 1, NULL, &answer);
    CHECK_INT(answer.verdict, LIMITS_UNAVAILABLE);
    limits_worker_free(worker);
    io_loop_free(loop);
    limits_free(limits);
}

/* The worst worker is the health of all, and each change is told once. */
static void test_health(void) {
    struct limits_options options = {.n_workers = 2};
    struct limits *limits = NULL;
    struct limits_worker *a = NULL, *b = NULL;
    struct io_loop *loop = NULL;
    REQUIRE(limits_new(&options, &limits) == 0);
    REQUIRE(io_loop_new(&loop) == 0);
    REQUIRE(limits_worker_new(limits, loop, &a) == 0 && limits_worker_new(limits, loop, &b) == 0);
    CHECK(limits_set_health(a, LIMITS_REDIS_UP));
    CHECK(!limits_set_health(b, LIMITS_REDIS_UP));
    CHECK(limits_set_health(b, LIMITS_REDIS_DOWN));
    CHECK(!limits_set_health(a, LIMITS_REDIS_DOWN));
    CHECK(!limits_set_health(b, LIMITS_REDIS_UP));
    CHECK_INT(limits_health(limits), LIMITS_REDIS_DOWN);
    CHECK(limits_set_health(a, LIMITS_REDIS_UP));
    CHECK(limits_set_health(a, LIMITS_REDIS_REFUSED));
    limits_worker_free(a);
    CHECK_INT(limits_health(limits), LIMITS_REDIS_UP);
    limits_worker_free(b);
    io_loop_free(loop);
    limits_free(limits);
}

static void torture_new(void *arg) {
    struct limits_options options = {.n_workers = 1};
    struct limits *limits = NULL;
    (void)arg;
    if (limits_new(&options, &limits) != 0)
        CHECK(limits == NULL);
    limits_free(limits);
}

static void test_shortage(void) {
    test_torture(torture_new, NULL);
}

TEST_MAIN(TEST(test_subjects), TEST(test_rules), TEST(test_worker), TEST(test_conclusions),
          TEST(test_health), TEST(test_shortage))
