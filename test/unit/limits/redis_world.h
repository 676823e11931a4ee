/* A worker on the loop of the test that counts in a Redis of the test; and what its log said. */
#pragma once

#include <sys/mman.h>

#include "base/clock.h"
#include "help.h"
#include "loop_guard.h"
#include "redis_private.h"
#include "redis_server.h"

struct world {
    struct redis_server server;
    struct guarded guarded;
    struct limits *limits;
    struct limits_worker *worker;
    struct config_storage storage;
    struct limits_rule rule; /* ten an hour */
    char url[256];
    struct log *log;
    int log_fd;
    struct io_timer *look;
    bool (*until)(struct world *world);
};

struct wish {
    struct limits_answer answer;
    struct limits_check *check;
    unsigned n_answers; /* 1: it was answered, and once */
    bool was_at_once;
    struct world *world;
    void (*then)(struct wish *wish);
};

static void wish_done(void *context, const struct limits_answer *answer) {
    struct wish *wish = context;
    wish->answer = *answer;
    wish->check = NULL;
    wish->n_answers++;
    if (wish->then != NULL)
        wish->then(wish);
}

/* At once, or later. */
static void wish_start_for(struct world *world, struct wish *wish, const struct limits_rule *rule,
                           size_t n) {
    struct limits_charge charges[LIMIT_RATE_LEVELS];
    for (size_t i = 0; i < n; i++)
        charges[i] = (struct limits_charge){.rule = rule};
    *wish = (struct wish){.world = world, .then = wish->then};
    enum limits_verdict verdict =
        limits_take(world->worker, charges, n, wish_done, wish, &wish->answer, &wish->check);
    if (verdict == LIMITS_WAITS)
        return;
    CHECK_INT(wish->answer.verdict, verdict);
    wish->was_at_once = true;
    wish->n_answers = 1;
}

static void wish_start(struct world *world, struct wish *wish) {
    wish_start_for(world, wish, &world->rule, 1);
}

/* --- waiting --- */

static void world_look(void *context) {
    struct world *world = context;
    if (world->until(world) || world->guarded.is_late)
        io_loop_stop(world->guarded.loop);
    else
        io_timer_start(world->look, 2);
}

static void world_await(struct world *world, bool (*until)(struct world *world)) {
    world->until = until;
    io_timer_start(world->guarded.guard, GUARD_MS);
    io_timer_start(world->look, 0);
    guarded_run(&world->guarded);
}

MAYBE_UNUSED static bool is_up(struct world *world) {
    return limits_health(world->limits) == LIMITS_REDIS_UP;
}

MAYBE_UNUSED static bool is_down(struct world *world) {
    return limits_health(world->limits) == LIMITS_REDIS_DOWN;
}

MAYBE_UNUSED static bool is_refused(struct world *world) {
    return limits_health(world->limits) == LIMITS_REDIS_REFUSED;
}

/* Nobody waits. */
MAYBE_UNUSED static bool is_quiet(struct world *world) {
    return world->worker->redis->n_checks == 0;
}

static enum limits_verdict ask_one(struct world *world) {
    struct wish wish = {.then = NULL};
    wish_start(world, &wish);
    if (!wish.was_at_once)
        world_await(world, is_quiet);
    CHECK_INT(wish.n_answers, 1);
    return wish.answer.verdict;
}

/* How many pass, one after the other. */
MAYBE_UNUSED static size_t ask_all(struct world *world) {
    size_t n = 0;
    while (ask_one(world) == LIMITS_PASS && n < 100)
        n++;
    return n;
}

/* --- the log --- */

static void world_log(const struct world *world, struct buf *out) {
    char chunk[4096];
    ssize_t n;
    off_t at = 0;
    while ((n = pread(world->log_fd, chunk, sizeof chunk, at)) > 0) {
        buf_append(out, slice_make(chunk, (size_t)n));
        at += n;
    }
}

/* How often it said that. */
MAYBE_UNUSED static size_t said(const struct world *world, const char *what) {
    struct buf log CLEANUP(buf_deinit) = BUF_INIT(MIB(16));
    size_t n = 0, at = 0, found;
    world_log(world, &log);
    while ((found = slice_find(slice_from(buf_slice(&log), at), slice_from_cstr(what))) !=
           SIZE_MAX) {
        n++;
        at += found + 1;
    }
    return n;
}

/* --- its life --- */

static void world_url(struct world *world, const char *scheme, const char *user,
                      const char *database) {
    snprintf(world->url, sizeof world->url, "%s://%s127.0.0.1:%s%s", scheme, user,
             world->server.port, database);
    world->storage.url = slice_from_cstr(world->url);
}

/* Times are short where the test waits for them, and long where it must not. */
static void world_storage(struct world *world) {
    world->storage = (struct config_storage){
        .type = CONFIG_STORAGE_REDIS,
        .on_failure = CONFIG_FAILURE_LOCAL,
        .key_prefix = SLICE("nexus:rate_limit:"),
        .response_timeout_ms = 10000,
        .connection_timeout_ms = 10000,
        .pool_max_size = 16,
        .pool_timeout_create_ms = 10000,
        .pool_timeout_wait_ms = 10000,
        .pool_timeout_recycle_ms = 300000,
    };
    world_url(world, "redis", "", "");
}

/* Without a server: its options may be in place already. */
static void world_open_workers(struct world *world, size_t n_workers) {
    guarded_new(&world->guarded);
    world->look = io_timer_new(world->guarded.loop, world_look, world);
    world->log_fd = memfd_create("log", MFD_CLOEXEC);
    world->log = log_new(world->log_fd, LOG_DEBUG, LOG_STYLE_JSON);
    struct limits_options options = {.log = world->log, .n_workers = n_workers};
    if (limits_new(&options, &world->limits) != 0 ||
        limits_worker_new(world->limits, world->guarded.loop, &world->worker) != 0)
        CANNOT_GO_ON();
    limits_rule_init(&world->rule, SLICE("server:a"),
                     (struct config_limit){.limit = 10, .interval_ms = 3600000});
    world_storage(world);
}

MAYBE_UNUSED static void world_open(struct world *world) {
    *world = (struct world){.log = NULL};
    redis_server_start(&world->server);
    world_open_workers(world, 1);
}

MAYBE_UNUSED static void world_configure(struct world *world) {
    CHECK_INT(limits_worker_configure(world->worker, &world->storage), 0);
}

static void world_close_worker(struct world *world) {
    limits_worker_free(world->worker);
    limits_free(world->limits);
    io_timer_free(world->look);
    guarded_free(&world->guarded);
    log_free(world->log);
    io_fd_close(&world->log_fd);
}

MAYBE_UNUSED static void world_close(struct world *world) {
    world_close_worker(world);
    redis_server_end(&world->server);
}
