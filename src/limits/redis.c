/*
 * Counters in Redis: what a worker owes and is owed. Each worker has its own connections and its
 * own checks, and knows by itself whether Redis can be asked; the log says it once for all of them
 * (limits_set_health()).
 *
 * A check is always answered: by Redis, or, when it is too late, when its connection breaks or none
 * comes to be, by on_failure. Those of the second kind hear of it in the next turn of the loop.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/mem.h"
#include "redis_private.h"

/* --- checks --- */

static void end_check(struct limits_check *check) {
    check->redis->n_checks--;
    mem_free(check);
}

/* A cancelled one is not concluded: the rules that it names may be gone. */
void redis_answer(struct limits_check *check, const struct limits_answer *asked) {
    limits_done_fn *done = check->done;
    void *context = check->context;
    struct limits_answer answer;
    if (done != NULL)
        limits_conclude(check->redis->worker, check->charges, check->n, asked, &answer);
    end_check(check);
    if (done != NULL)
        done(context, &answer);
}

void redis_give_up(struct redis *redis, struct list *checks) {
    if (list_is_empty(checks))
        return;
    list_splice_back(&redis->unanswered, checks);
    io_timer_start(redis->conclude, 0);
}

void redis_forget(struct list *checks) {
    struct list_link *link;
    while ((link = list_pop_front(checks)) != NULL)
        end_check(CONTAINER_OF(link, struct limits_check, link));
}

static void on_conclude(void *context) {
    struct redis *redis = context;
    struct list_link *link;
    redis->is_concluding = true;
    while ((link = list_pop_front(&redis->unanswered)) != NULL)
        redis_answer(CONTAINER_OF(link, struct limits_check, link), NULL);
    redis->is_concluding = false;
    if (redis->is_freed)
        mem_free(redis);
}

enum limits_verdict redis_take(struct redis *redis, const struct limits_charge *charges, size_t n,
                               limits_done_fn *done, void *context,
                               struct limits_check **ret_check) {
    if (redis->pool == NULL || redis->n_checks >= LIMIT_REDIS_PENDING || n > LIMIT_RATE_LEVELS)
        return LIMITS_UNAVAILABLE;
    struct limits_check *check = mem_alloc(sizeof *check);
    if (check == NULL)
        return LIMITS_UNAVAILABLE;
    check->redis = redis;
    check->done = done;
    check->context = context;
    check->n = n;
    memcpy(check->charges, charges, n * sizeof *charges);
    redis->n_checks++;
    if (!redis_pool_ask(redis->pool, check)) {
        end_check(check);
        return LIMITS_UNAVAILABLE;
    }
    *ret_check = check;
    return LIMITS_WAITS;
}

/* What was sent is answered, and has to be recognised then. */
struct limits_check *limits_check_cancel(struct limits_check *check) {
    if (check == NULL)
        return NULL;
    check->done = NULL;
    if (check->n_sent == 0) {
        list_remove(&check->link);
        end_check(check);
    }
    return NULL;
}

/* --- which server --- */

static void add_text(struct buf *out, struct slice text) {
    buf_printf(out, "%zu:", text.len);
    buf_append(out, text);
}

/* What differs here are different connections. */
static int write_identity(struct buf *out, const struct config_storage *storage) {
    const uint64_t numbers[] = {
        storage->response_timeout_ms,
        storage->connection_timeout_ms,
        storage->pool_max_size,
        storage->pool_min_idle,
        storage->pool_timeout_create_ms,
        storage->pool_timeout_wait_ms,
        storage->pool_timeout_recycle_ms,
        storage->tls_enabled,
        storage->tls_insecure,
    };
    add_text(out, storage->url);
    add_text(out, storage->key_prefix);
    add_text(out, storage->tls_ca);
    add_text(out, storage->tls_cert);
    add_text(out, storage->tls_key);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        buf_printf(out, "%" PRIu64 ",", numbers[i]);
    return buf_error(out);
}

static int make_identity(const struct config_storage *storage, struct secret **ret_identity) {
    struct buf text = BUF_INIT(MIB(1));
    int error = buf_reserve(&text, KIB(64)) == NULL ? -ENOMEM : write_identity(&text, storage);
    if (error == 0)
        error = secret_new(buf_slice(&text), ret_identity);
    if (text.data != NULL)
        secret_wipe(text.data, text.cap);
    buf_deinit(&text);
    return error != 0 ? -ENOMEM : 0;
}

static void set_pool(struct redis *redis, struct redis_pool *pool, struct secret *identity) {
    struct redis_pool *old = redis->pool;
    redis->pool = pool;
    secret_free(redis->identity);
    redis->identity = identity;
    if (old != NULL)
        redis_pool_retire(old);
}

static void set_health(struct redis *redis, enum limits_health health) {
    /* Who changes the configuration knows. */
    bool is_other = limits_set_health(redis->worker, health);
    (void)is_other;
}

static int refuse(struct redis *redis, const char *reason) {
    set_pool(redis, NULL, NULL);
    set_health(redis, LIMITS_REDIS_DOWN);
    log_write(redis->worker->limits->log, LOG_ERROR, "limits", "Redis cannot be asked",
              LOG_CSTR("reason", reason));
    return -EINVAL;
}

static int make_pool(struct redis *redis, const struct config_storage *storage,
                     struct redis_pool **ret_pool, const char **ret_reason) {
    struct redis_target target;
    int error = 0;
    if (redis->resolver == NULL)
        error = io_resolver_new(redis->worker->loop, &redis->resolver);
    if (error == 0)
        error = redis_target_init(&target, storage, redis->worker->limits->n_workers, ret_reason);
    if (error == 0)
        error = redis_pool_new(redis, &target, ret_pool);
    return error;
}

/* With files of certificates a reload reads them anew, whether their names have changed or not. */
static bool is_same(const struct redis *redis, const struct config_storage *storage,
                    const struct secret *identity) {
    bool has_files =
        storage->tls_ca.len != 0 || storage->tls_cert.len != 0 || storage->tls_key.len != 0;
    return redis->pool != NULL && redis->identity != NULL && !has_files &&
           secret_equals(redis->identity, secret_reveal(identity));
}

int redis_configure(struct redis *redis, const struct config_storage *storage) {
    struct secret *identity CLEANUP(secret_freep) = NULL;
    struct redis_pool *pool = NULL;
    const char *reason = NULL;
    if (storage->type == CONFIG_STORAGE_MEMORY) {
        set_pool(redis, NULL, NULL);
        set_health(redis, LIMITS_IN_MEMORY);
        return 0;
    }
    int error = make_identity(storage, &identity);
    if (error != 0)
        return error;
    if (is_same(redis, storage, identity))
        return 0;
    error = make_pool(redis, storage, &pool, &reason);
    if (error == REDIS_E_INVALID)
        return refuse(redis, reason);
    if (error != 0)
        return -ENOMEM;
    set_pool(redis, pool, TAKE(identity));
    return 0;
}

/* --- life --- */

int redis_new(struct limits_worker *worker, struct redis **ret_redis) {
    struct redis *redis = mem_alloc(sizeof *redis);
    if (redis == NULL)
        return -ENOMEM;
    redis->worker = worker;
    list_init(&redis->old);
    list_init(&redis->unanswered);
    redis->conclude = io_timer_new(worker->loop, on_conclude, redis);
    *ret_redis = redis;
    return 0;
}

struct redis *redis_free(struct redis *redis) {
    if (redis == NULL)
        return NULL;
    redis_pool_free(redis->pool);
    LIST_FOREACH_SAFE (&redis->old, link, next) {
        redis_pool_free(CONTAINER_OF(link, struct redis_pool, link));
    }
    redis_forget(&redis->unanswered);
    io_timer_free(redis->conclude);
    io_resolver_free(redis->resolver);
    secret_free(redis->identity);
    if (redis->is_concluding)
        redis->is_freed = true;
    else
        mem_free(redis);
    return NULL;
}
