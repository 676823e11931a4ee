/*
 * The connections of one worker to one server. One is always kept, for what is not asked cannot be
 * known to be there; more are made when the file wants them kept, or when those there are have much
 * to do.
 *
 * Checks wait for a connection only while nothing speaks against it: at the beginning, and when an
 * idle one has ended. Once a try has failed, or a connection broke on which something was under
 * way, the server is down until a connection has stood its first check; until then nobody waits.
 */
#include <errno.h>

#include "base/mem.h"
#include "base/random.h"
#include "redis_private.h"

enum {
    BACKOFF_FIRST_MS = 200, /* half of it is left to chance */
    BACKOFF_MAX_MS = 5000,
    REFUSED_MS = 60000,
    STEADY_MS = 1000, /* after so long an idle connection may end without being a failure */
    CROWD = 64,       /* checks under way on each connection, before another one is made */
};

static struct io_loop *loop_of(const struct redis_pool *pool) {
    return pool->redis->worker->loop;
}

static struct log *log_of(const struct redis_pool *pool) {
    return pool->redis->worker->limits->log;
}

/* --- what is said --- */

static const char *what_holds(const struct redis_pool *pool) {
    switch (pool->redis->worker->on_failure) {
    case CONFIG_FAILURE_LOCAL:
        return "this gateway counts by itself until it is back (storage.on_failure = \"local\")";
    case CONFIG_FAILURE_DENY:
        break;
    }
    return "what has a limit is refused until it is back (storage.on_failure = \"deny\")";
}

static void say_refused(struct redis_pool *pool, struct slice reason) {
    if (!limits_set_health(pool->redis->worker, LIMITS_REDIS_REFUSED))
        return;
    log_write(log_of(pool), LOG_ERROR, "limits",
              "Redis is a cluster, which is not supported: a single server is needed",
              LOG_TEXT("server", pool->target.name), LOG_TEXT("reason", reason),
              LOG_CSTR("until_then", what_holds(pool)));
}

static void say_down(struct redis_pool *pool, struct slice reason) {
    if (!limits_set_health(pool->redis->worker, LIMITS_REDIS_DOWN)) {
        log_write(log_of(pool), LOG_DEBUG, "limits", "no connection to Redis",
                  LOG_TEXT("server", pool->target.name), LOG_TEXT("reason", reason));
        return;
    }
    log_write(log_of(pool), LOG_WARN, "limits", "Redis cannot be asked",
              LOG_TEXT("server", pool->target.name), LOG_TEXT("reason", reason),
              LOG_CSTR("until_then", what_holds(pool)));
}

static void say_up(struct redis_pool *pool) {
    if (limits_set_health(pool->redis->worker, LIMITS_REDIS_UP))
        log_write(log_of(pool), LOG_INFO, "limits", "limits are counted in Redis",
                  LOG_TEXT("server", pool->target.name));
}

/* --- making connections --- */

static void retry_later(struct redis_pool *pool) {
    uint64_t ms = BACKOFF_FIRST_MS;
    for (unsigned i = 0; i < pool->n_failures && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    pool->n_failures++;
    if (!io_timer_is_running(pool->retry))
        io_timer_start(pool->retry, ms / 2 + random_below(ms / 2 + 1));
}

static void connect_one(struct redis_pool *pool) {
    struct redis_connection *connection;
    if (redis_connection_new(pool, &connection) != 0) {
        retry_later(pool);
        return;
    }
    list_push_back(&pool->connections, &connection->link);
    pool->n_connections++;
}

static void on_retry(void *context) {
    struct redis_pool *pool = context;
    /* One is enough to find out whether it is there. */
    size_t wanted = pool->state == REDIS_UP ? pool->target.n_min : 1;
    if (pool->n_connections < wanted)
        connect_one(pool);
}

/* --- the end --- */

static void drop(struct redis_pool *pool, struct redis_connection *connection) {
    pool->n_connections--;
    if (connection->state == REDIS_READY)
        pool->n_ready--;
    redis_connection_free(connection);
}

struct redis_pool *redis_pool_free(struct redis_pool *pool) {
    if (pool == NULL)
        return NULL;
    list_remove(&pool->link);
    redis_forget(&pool->waiting);
    LIST_FOREACH_SAFE (&pool->connections, link, next) {
        struct redis_connection *connection = CONTAINER_OF(link, struct redis_connection, link);
        redis_forget(&connection->sent);
        drop(pool, connection);
    }
    io_timer_free(pool->retry);
    io_timer_free(pool->patience);
    io_timer_free(pool->flush);
    redis_target_deinit(&pool->target);
    mem_free(pool);
    return NULL;
}

void redis_pool_retire(struct redis_pool *pool) {
    pool->is_old = true;
    io_timer_stop(pool->retry);
    redis_give_up(pool->redis, &pool->waiting);
    LIST_FOREACH_SAFE (&pool->connections, link, next) {
        struct redis_connection *connection = CONTAINER_OF(link, struct redis_connection, link);
        if (connection->n_sent == 0)
            drop(pool, connection);
    }
    if (pool->n_connections == 0)
        redis_pool_free(pool);
    else
        list_push_back(&pool->redis->old, &pool->link);
}

/* --- asking --- */

static struct redis_connection *least_busy(const struct redis_pool *pool) {
    struct redis_connection *found = NULL;
    LIST_FOREACH_SAFE (&pool->connections, link, next) {
        struct redis_connection *connection = CONTAINER_OF(link, struct redis_connection, link);
        if (connection->state == REDIS_READY &&
            (found == NULL || connection->n_sent < found->n_sent))
            found = connection;
    }
    return found;
}

static bool wait_for_connection(struct redis_pool *pool, struct limits_check *check) {
    uint64_t wait_ms = pool->target.wait_ms;
    if (pool->state != REDIS_STARTING || wait_ms == 0)
        return false;
    check->deadline = io_loop_now(loop_of(pool)) + wait_ms;
    list_push_back(&pool->waiting, &check->link);
    if (!io_timer_is_running(pool->patience))
        io_timer_start(pool->patience, wait_ms);
    return true;
}

bool redis_pool_ask(struct redis_pool *pool, struct limits_check *check) {
    struct redis_connection *connection = least_busy(pool);
    if (connection == NULL)
        return wait_for_connection(pool, check);
    if (connection->n_sent >= CROWD && pool->n_ready == pool->n_connections &&
        pool->n_connections < pool->target.n_max && !io_timer_is_running(pool->retry))
        connect_one(pool);
    if (redis_connection_ask(connection, check) == 0)
        return true;
    redis_pool_broken(pool, connection, REDIS_BROKEN, SLICE("there is no memory to ask it"));
    return false;
}

/* Those in front have waited longest. */
static void on_patience(void *context) {
    struct redis_pool *pool = context;
    struct list late = LIST_INIT(late);
    uint64_t now = io_loop_now(loop_of(pool));
    LIST_FOREACH_SAFE (&pool->waiting, link, next) {
        struct limits_check *check = CONTAINER_OF(link, struct limits_check, link);
        if (check->deadline > now) {
            io_timer_start(pool->patience, check->deadline - now);
            break;
        }
        list_remove(link);
        list_push_back(&late, link);
    }
    redis_give_up(pool->redis, &late);
}

static void on_flush(void *context) {
    struct redis_pool *pool = context;
    LIST_FOREACH_SAFE (&pool->connections, link, next) {
        struct redis_connection *connection = CONTAINER_OF(link, struct redis_connection, link);
        if (connection->state != REDIS_READY || redis_connection_flush(connection) == 0)
            continue;
        /* The pool may go with it; if not, the others have their turn. */
        io_timer_start(pool->flush, 0);
        redis_pool_broken(pool, connection, REDIS_BROKEN, SLICE("the connection broke"));
        return;
    }
}

int redis_pool_new(struct redis *redis, struct redis_target *target, struct redis_pool **ret_pool) {
    struct io_loop *loop = redis->worker->loop;
    struct redis_pool *pool = mem_alloc(sizeof *pool);
    if (pool == NULL) {
        redis_target_deinit(target);
        return -ENOMEM;
    }
    pool->redis = redis;
    pool->target = *target;
    *target = (struct redis_target){.port = 0};
    list_init(&pool->connections);
    list_init(&pool->waiting);
    pool->retry = io_timer_new(loop, on_retry, pool);
    pool->patience = io_timer_new(loop, on_patience, pool);
    pool->flush = io_timer_new(loop, on_flush, pool);
    connect_one(pool);
    *ret_pool = pool;
    return 0;
}

/* --- what connections tell --- */

void redis_pool_ready(struct redis_pool *pool, struct redis_connection *connection) {
    struct list_link *link;
    pool->n_ready++;
    pool->state = REDIS_UP;
    say_up(pool);
    while ((link = list_pop_front(&pool->waiting)) != NULL) {
        struct limits_check *check = CONTAINER_OF(link, struct limits_check, link);
        if (redis_connection_ask(connection, check) == 0)
            continue;
        list_push_front(&pool->waiting, link);
        redis_pool_broken(pool, connection, REDIS_BROKEN, SLICE("there is no memory to ask it"));
        return;
    }
    if (pool->n_connections < pool->target.n_min && pool->n_ready == pool->n_connections &&
        !io_timer_is_running(pool->retry))
        connect_one(pool);
}

/* What one of them has found holds for all. */
static void drop_all(struct redis_pool *pool) {
    LIST_FOREACH_SAFE (&pool->connections, link, next) {
        struct redis_connection *connection = CONTAINER_OF(link, struct redis_connection, link);
        redis_give_up(pool->redis, &connection->sent);
        drop(pool, connection);
    }
}

/* No connection is left, and none that was just idle. */
static void go_down(struct redis_pool *pool, bool is_cluster, struct slice reason) {
    redis_give_up(pool->redis, &pool->waiting);
    if (is_cluster) {
        pool->state = REDIS_REFUSED;
        say_refused(pool, reason);
        io_timer_start(pool->retry, REFUSED_MS);
        return;
    }
    pool->state = REDIS_DOWN;
    say_down(pool, reason);
    retry_later(pool);
}

void redis_pool_broken(struct redis_pool *pool, struct redis_connection *connection,
                       enum redis_failure failure, struct slice reason) {
    bool was_steady = connection->state == REDIS_READY &&
                      io_loop_now(loop_of(pool)) - connection->ready_at >= STEADY_MS;
    redis_give_up(pool->redis, &connection->sent);
    drop(pool, connection);
    if (pool->is_old) {
        if (pool->n_connections == 0)
            redis_pool_free(pool);
        return;
    }
    bool is_cluster = failure == REDIS_IS_CLUSTER;
    if (is_cluster)
        drop_all(pool);
    if (pool->n_ready > 0 && !is_cluster) {
        log_write(log_of(pool), LOG_DEBUG, "limits", "a connection to Redis broke",
                  LOG_TEXT("server", pool->target.name), LOG_TEXT("reason", reason));
        retry_later(pool);
    } else if (failure == REDIS_CLOSED_IDLE && was_steady) {
        pool->state = REDIS_STARTING;
        connect_one(pool);
    } else {
        go_down(pool, is_cluster, reason);
    }
}

void redis_pool_recycle(struct redis_pool *pool, struct redis_connection *connection) {
    drop(pool, connection);
    if (pool->is_old || pool->n_connections >= pool->target.n_min)
        return;
    if (pool->n_ready == 0)
        pool->state = REDIS_STARTING;
    connect_one(pool);
}

void redis_pool_idle(struct redis_pool *pool, struct redis_connection *connection) {
    if (!pool->is_old)
        return;
    drop(pool, connection);
    if (pool->n_connections == 0)
        redis_pool_free(pool);
}
