/* How many connections there are, for how long, and to which server. */
#include "redis_world.h"
#include "test.h"

static size_t n_ready(const struct world *world) {
    return world->worker->redis->pool->n_ready;
}

static bool has_three(struct world *world) {
    return n_ready(world) == 3;
}

static bool has_four(struct world *world) {
    return n_ready(world) == 4;
}

/* Of nine connections of the gateway and five that are kept each of two workers has its part. */
static void test_pool(void) {
    enum { N = 400 };
    struct world world = {.log = NULL};
    static struct wish wishes[N];
    redis_server_start(&world.server);
    world_open_workers(&world, 2);
    world.storage.pool_max_size = 9;
    world.storage.pool_min_idle = 5;
    world.storage.pool_timeout_recycle_ms = 200;
    world_configure(&world);
    world_await(&world, has_three);
    for (size_t i = 0; i < N; i++)
        wish_start(&world, &wishes[i]);
    world_await(&world, has_four);
    CHECK_INT(world.worker->redis->pool->n_connections, 4);
    world_await(&world, is_quiet);
    /* Those that were idle for long go: one for good, three are made anew. */
    world_await(&world, has_three);
    CHECK_INT(said(&world, "cannot be asked"), 0);
    world_close(&world);
}

static uint64_t ready_at(const struct world *world) {
    struct list_link *link = list_first(&world->worker->redis->pool->connections);
    return link != NULL ? CONTAINER_OF(link, struct redis_connection, link)->ready_at : 0;
}

struct idle_world {
    struct world world; /* first: world_await() hands it to is_made_anew() */
    uint64_t made_at;
};

static bool is_made_anew(struct world *world) {
    const struct idle_world *idle = CONTAINER_OF(world, struct idle_world, world);
    return n_ready(world) == 1 && ready_at(world) > idle->made_at;
}

/* One that the server ends while it is idle is nobody's failure; and one that was idle for long is
 * made anew. */
static void test_idle(void) {
    struct idle_world idle;
    struct world *world = &idle.world;
    world_open(world);
    world->storage.pool_timeout_recycle_ms = 1200;
    world_configure(world);
    world_await(world, is_up);
    idle.made_at = ready_at(world);
    world_await(world, is_made_anew);
    CHECK(ready_at(world) >= idle.made_at + 1200);
    idle.made_at = ready_at(world) + 1100;
    CHECK_INT(ask_one(world), LIMITS_PASS);
    world->until = NULL;
    redis_do(&world->server, "CONFIG SET timeout 1"); /* shorter than ours */
    world_await(world, is_made_anew);
    CHECK_INT(ask_one(world), LIMITS_PASS);
    CHECK_INT(said(world, "cannot be asked"), 0);
    CHECK_INT(said(world, "limits are counted in Redis"), 1);
    world_close(world);
}

/* Checks that wait are answered by the connections on which they wait. */
static void test_another_server(void) {
    struct world world, other = {.log = NULL};
    struct wish wishes[5] = {{.check = NULL}}, late = {.then = NULL};
    world_open(&world);
    redis_server_start(&other.server);
    world_configure(&world);
    world_await(&world, is_up);
    for (size_t i = 0; i < 5; i++)
        wish_start(&world, &wishes[i]);
    snprintf(world.url, sizeof world.url, "redis://127.0.0.1:%s", other.server.port);
    world_configure(&world);
    wish_start(&world, &late);
    world_await(&world, is_quiet);
    for (size_t i = 0; i < 5; i++)
        CHECK_INT(wishes[i].n_answers, 1);
    CHECK_INT(late.answer.verdict, LIMITS_PASS);
    static const char count[] =
        "LLEN nexus:rate_limit:{cardea}:server:a:3600000:00000000000000000000000000000000";
    CHECK_INT(redis_number(&world.server, count), 5);
    CHECK_INT(redis_number(&other.server, count), 1);
    CHECK(list_is_empty(&world.worker->redis->old));
    /* The same again is the same. */
    struct redis_pool *pool = world.worker->redis->pool;
    world_configure(&world);
    CHECK(world.worker->redis->pool == pool);
    redis_server_end(&other.server);
    world_close(&world);
}

TEST_MAIN(TEST(test_pool), TEST(test_idle), TEST(test_another_server))
