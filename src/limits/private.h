/*
 * Between the parts of limits/. limits.c says where a check goes and what its answer comes to,
 * memory.c has the counters of this process, redis.c asks Redis. What Redis lets pass is counted in
 * memory too, so that on_failure = "local" does not begin with a fresh budget for everybody.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/limits.h"
#include "base/log.h"
#include "config/config.h"
#include "io/loop.h"
#include "limits/limits.h"

/*
 * A unit of a rule above LIMIT_RATE_EXACT is counted in a bucket of so many milliseconds, on a grid
 * of that width, and comes back when the youngest that may be in the bucket is older than the
 * interval: at most (width - 1) ms, which is less than 0.8 % of the interval, late.
 */
enum { LIMITS_BUCKETS = 128 };

static inline uint64_t limits_width_ms(const struct config_limit *limit) {
    if (limit->limit <= LIMIT_RATE_EXACT || limit->interval_ms <= LIMITS_BUCKETS)
        return 1; /* each millisecond by itself: exact */
    return (limit->interval_ms + LIMITS_BUCKETS - 1) / LIMITS_BUCKETS;
}

/* --- memory.c; any thread --- */

struct memory;

MUST_CHECK int memory_new(size_t max_counters, struct memory **ret_memory);
/* Accepts NULL. */
struct memory *memory_free(struct memory *memory);
/* One unit of each or of none: LIMITS_PASS, LIMITS_EXCEEDED; LIMITS_UNAVAILABLE: there is no memory
 * to count in. */
void memory_take(struct memory *memory, const struct limits_charge *charges, size_t n,
                 uint64_t now_ms, struct limits_answer *ret_answer);
/* Counts what has passed elsewhere, whatever the limits say; what there is no memory for is not
 * counted. */
void memory_force(struct memory *memory, const struct limits_charge *charges, size_t n,
                  uint64_t now_ms);
/* Gives back counters whose units have all expired: those of one shard, the next with each call. */
void memory_sweep(struct memory *memory, uint64_t now_ms);
/* How many there are. */
size_t memory_n_counters(const struct memory *memory);

/* --- limits.c --- */

enum { LIMITS_HEALTHS = LIMITS_REDIS_REFUSED + 1 };

struct limits {
    struct log *log;
    size_t n_workers;
    struct memory *memory;
    pthread_mutex_t mutex; /* of workers_in and of what changes health */
    size_t workers_in[LIMITS_HEALTHS];
    _Atomic enum limits_health health; /* the worst of them */
};

struct redis;

struct limits_worker {
    struct limits *limits;
    struct io_loop *loop;
    struct redis *redis;
    enum config_storage_type storage;
    enum config_on_failure on_failure; /* set before redis_configure() */
    enum limits_health health;         /* by limits_set_health() alone */
    struct io_timer *sweep;
};

/*
 * What a check comes to. `asked`: LIMITS_PASS or LIMITS_EXCEEDED as Redis says; NULL: it could not
 * be asked, or did not answer in time, or not as it should. Then on_failure holds.
 */
void limits_conclude(struct limits_worker *worker, const struct limits_charge *charges, size_t n,
                     const struct limits_answer *asked, struct limits_answer *ret_answer);
/* How this worker's Redis is. True: the health of the whole process is another one now, which is to
 * be said in the log by who asked. */
MUST_CHECK bool limits_set_health(struct limits_worker *worker, enum limits_health health);

/* --- redis.c; a worker's loop ---
 *
 * Also there: limits_check_cancel(). When a check is answered: limits_conclude(), then `done`. */

/* There is one for each worker from its beginning to its end, without a server at first. */
MUST_CHECK int redis_new(struct limits_worker *worker, struct redis **ret_redis);
/* Checks that wait are forgotten. Accepts NULL. */
struct redis *redis_free(struct redis *redis);
/*
 * The server from now on; with CONFIG_STORAGE_MEMORY none. Says the health. The checks that wait
 * are answered by the connections on which they wait. -ENOMEM; -EINVAL with the log saying why:
 * from then on it cannot be asked.
 */
MUST_CHECK int redis_configure(struct redis *redis, const struct config_storage *storage);
/* LIMITS_WAITS and *ret_check, whose `done` comes later and never from inside this call; or
 * LIMITS_UNAVAILABLE: it cannot be asked (the caller concludes). */
enum limits_verdict redis_take(struct redis *redis, const struct limits_charge *charges, size_t n,
                               limits_done_fn *done, void *context,
                               struct limits_check **ret_check);
