/*
 * Two gateways of two workers each, one Redis, 20,000 calls: not one too many. And a Redis that
 * comes and goes meanwhile: not one that is lost.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "redis_world.h"
#include "test.h"

enum { GATEWAYS = 2, WORKERS = 2, CALLS = 20000, IN_FLIGHT = 64, USERS = 10 };

struct scene {
    const struct config_storage *storage;
    const struct limits_rule *rules; /* the first one for everybody, others for a user each */
    size_t n_rules;
    atomic_size_t passed[USERS];
    atomic_size_t n_answered, n_unavailable;
    bool goes_on; /* with as many calls as there can be, until ... */
    atomic_bool is_over;
};

struct caller {
    struct scene *scene;
    struct limits *limits;
    pthread_t thread;
    struct guarded guarded;
    struct limits_worker *worker;
    size_t n_started, n_running;
};

struct call {
    struct caller *caller;
    size_t user;
    struct io_timer *again;
};

static void count(struct call *call, enum limits_verdict verdict) {
    struct scene *scene = call->caller->scene;
    atomic_fetch_add(&scene->n_answered, 1);
    if (verdict == LIMITS_PASS)
        atomic_fetch_add(&scene->passed[call->user], 1);
    if (verdict == LIMITS_UNAVAILABLE)
        atomic_fetch_add(&scene->n_unavailable, 1);
}

static bool has_more(const struct caller *caller) {
    const struct scene *scene = caller->scene;
    return scene->goes_on ? !scene->is_over : caller->n_started < CALLS / GATEWAYS / WORKERS;
}

static void call_done(void *context, const struct limits_answer *answer);

/* One after the other, until one has to wait. */
static void start_calls(void *context) {
    struct call *call = context;
    struct caller *caller = call->caller;
    while (has_more(caller)) {
        struct limits_charge charges[LIMIT_RATE_LEVELS];
        struct limits_answer answer;
        struct limits_check *check;
        call->user = caller->n_started++ % USERS;
        for (size_t i = 0; i < caller->scene->n_rules; i++)
            charges[i] = (struct limits_charge){
                .rule = &caller->scene->rules[i],
                .subject = subject_of(i == 0 ? 0 : call->user + 1),
            };
        enum limits_verdict verdict = limits_take(caller->worker, charges, caller->scene->n_rules,
                                                  call_done, call, &answer, &check);
        if (verdict == LIMITS_WAITS)
            return;
        count(call, verdict);
        if (caller->scene->goes_on) {
            io_timer_start(call->again, 1);
            return;
        }
    }
    if (--caller->n_running == 0)
        io_loop_stop(caller->guarded.loop);
}

static void call_done(void *context, const struct limits_answer *answer) {
    struct call *call = context;
    count(call, answer->verdict);
    start_calls(call);
}

static void *run_caller(void *context) {
    struct caller *caller = context;
    struct call calls[IN_FLIGHT];
    guarded_new(&caller->guarded);
    io_timer_start(caller->guarded.guard, 60000);
    if (limits_worker_new(caller->limits, caller->guarded.loop, &caller->worker) != 0 ||
        limits_worker_configure(caller->worker, caller->scene->storage) != 0)
        CANNOT_GO_ON();
    caller->n_running = IN_FLIGHT;
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        calls[i] = (struct call){.caller = caller};
        calls[i].again = io_timer_new(caller->guarded.loop, start_calls, &calls[i]);
        io_timer_start(calls[i].again, 0);
    }
    guarded_run(&caller->guarded);
    for (size_t i = 0; i < IN_FLIGHT; i++)
        io_timer_free(calls[i].again);
    limits_worker_free(caller->worker);
    guarded_free(&caller->guarded);
    return NULL;
}

/* `meanwhile` may be NULL. */
static void play(struct scene *scene,
                 void (*meanwhile)(struct scene *scene, struct redis_server *server),
                 struct redis_server *server) {
    struct limits *gateways[GATEWAYS];
    struct caller callers[GATEWAYS * WORKERS];
    struct limits_options options = {.n_workers = WORKERS};
    for (size_t i = 0; i < GATEWAYS; i++) {
        if (limits_new(&options, &gateways[i]) != 0)
            CANNOT_GO_ON();
    }
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        callers[i] = (struct caller){.scene = scene, .limits = gateways[i % GATEWAYS]};
        if (pthread_create(&callers[i].thread, NULL, run_caller, &callers[i]) != 0)
            CANNOT_GO_ON();
    }
    if (meanwhile != NULL)
        meanwhile(scene, server);
    for (size_t i = 0; i < ARRAY_LEN(callers); i++)
        pthread_join(callers[i].thread, NULL);
    for (size_t i = 0; i < GATEWAYS; i++)
        limits_free(gateways[i]);
    if (!scene->goes_on)
        CHECK_INT(scene->n_answered, CALLS);
}

static size_t passed_in_all(const struct scene *scene) {
    size_t n = 0;
    for (size_t i = 0; i < USERS; i++)
        n += scene->passed[i];
    return n;
}

static void open_scene(struct world *world, struct scene *scene, const struct limits_rule *rules,
                       size_t n_rules) {
    *world = (struct world){.log = NULL};
    redis_server_start(&world->server);
    world_storage(world);
    /* Who cannot ask must not pass, or it would not be seen. */
    world->storage.on_failure = CONFIG_FAILURE_DENY;
    *scene = (struct scene){.storage = &world->storage, .rules = rules, .n_rules = n_rules};
}

static void test_exact(void) {
    const struct limits_rule rules[] = {rule_of("all", 1000, 3600000)};
    struct world world;
    struct scene scene;
    open_scene(&world, &scene, rules, ARRAY_LEN(rules));
    play(&scene, NULL, NULL);
    CHECK_INT(passed_in_all(&scene), 1000);
    CHECK_INT(scene.n_unavailable, 0);
    redis_server_end(&world.server);
}

static void test_buckets(void) {
    const struct limits_rule rules[] = {rule_of("all", 7777, 3600000)};
    struct world world;
    struct scene scene;
    open_scene(&world, &scene, rules, ARRAY_LEN(rules));
    play(&scene, NULL, NULL);
    CHECK_INT(passed_in_all(&scene), 7777);
    CHECK_INT(scene.n_unavailable, 0);
    redis_server_end(&world.server);
}

/* Three levels together: what the user's own limits refuse takes nothing of everybody's. */
static void test_levels(void) {
    const struct limits_rule rules[] = {rule_of("all", 5000, 3600000),
                                        rule_of("user", 400, 3600000),
                                        rule_of("user:tool", 1500, 600000)};
    struct world world;
    struct scene scene;
    open_scene(&world, &scene, rules, ARRAY_LEN(rules));
    play(&scene, NULL, NULL);
    for (size_t i = 0; i < USERS; i++)
        CHECK_INT(scene.passed[i], 400);
    CHECK_INT(scene.n_unavailable, 0);
    redis_server_end(&world.server);
}

static void await_used_up(struct redis_server *server) {
    uint64_t start = clock_monotonic_ms();
    while (redis_number(server, "LLEN nexus:rate_limit:{cardea}:all:3600000:"
                                "00000000000000000000000000000000") < 100) {
        if (clock_monotonic_ms() - start > GUARD_MS) {
            CHECK(!"the limit is used up");
            return;
        }
    }
}

static void kill_and_run(struct scene *scene, struct redis_server *server) {
    for (int i = 0; i < 3; i++) {
        await_used_up(server);
        redis_server_kill(server);
        redis_server_run(server);
    }
    await_used_up(server);
    scene->is_over = true;
}

/* Each life of the server lets the limit pass once, for it keeps nothing on its disk; and of those
 * that pass the answer to the last ones may be lost. */
static void test_killed(void) {
    const struct limits_rule rules[] = {rule_of("all", 100, 3600000)};
    struct world world;
    struct scene scene;
    open_scene(&world, &scene, rules, ARRAY_LEN(rules));
    scene.goes_on = true;
    play(&scene, kill_and_run, &world.server);
    CHECK(passed_in_all(&scene) <= 4 * 100);
    CHECK(passed_in_all(&scene) > 2 * 100);
    CHECK(scene.n_unavailable > 0);
    redis_server_end(&world.server);
}

TEST_MAIN(TEST(test_exact), TEST(test_buckets), TEST(test_levels), TEST(test_killed))
