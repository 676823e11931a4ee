#include <errno.h>
#include <openssl/sha.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "private.h"

/* Between two sweeps of the memory, by whichever worker. */
enum { SWEEP_MS = 250 };

/* --- names --- */

static uint64_t load(const unsigned char *bytes) {
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof number; i++)
        number = number << 8 | bytes[i];
    return number;
}

/*
 * SHA-256, cut to 128 bits. The key cannot be secret, for every gateway has to come to the same;
 * and under a known key SipHash is no obstacle to who may choose a name ("sub" of a token) and
 * wants it to fall together with somebody else's, to use that one's limits up.
 */
struct limits_subject limits_subject_of(struct slice name) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    /* It fails without memory: then they all share one limit. */
    struct limits_subject subject = {.high = UINT64_MAX, .low = UINT64_MAX};
    if (SHA256((const unsigned char *)name.ptr, name.len, digest) != NULL)
        subject = (struct limits_subject){.high = load(digest), .low = load(digest + 8)};
    if ((subject.high | subject.low) == 0)
        subject.low = 1; /* nobody is everybody */
    return subject;
}

void limits_rule_init(struct limits_rule *rule, struct slice id, struct config_limit limit) {
    /* Ids are the operator's: what is wanted is that all threads and generations agree. */
    static const struct hash_key fixed = {.k0 = 0x6c696d697473, .k1 = 0x72756c65};
    /* The configuration has the same bounds. */
    if (limit.limit > LIMIT_RATE)
        limit.limit = LIMIT_RATE;
    if (limit.interval_ms > LIMIT_RATE_INTERVAL_MS)
        limit.interval_ms = LIMIT_RATE_INTERVAL_MS;
    *rule = (struct limits_rule){.id = id, .limit = limit, .hash = hash_siphash(&fixed, id)};
}

/* --- the process --- */

int limits_new(const struct limits_options *options, struct limits **ret_limits) {
    struct limits *limits = mem_alloc(sizeof *limits);
    if (limits == NULL)
        return -ENOMEM;
    limits->log = options->log;
    limits->n_workers = options->n_workers > 0 ? options->n_workers : 1;
    pthread_mutex_init(&limits->mutex, NULL);
    int r = memory_new(options->max_counters > 0 ? options->max_counters : LIMIT_COUNTERS,
                       &limits->memory);
    if (r < 0) {
        limits_free(limits);
        return r;
    }
    *ret_limits = limits;
    return 0;
}

struct limits *limits_free(struct limits *limits) {
    if (limits == NULL)
        return NULL;
    memory_free(limits->memory);
    pthread_mutex_destroy(&limits->mutex);
    mem_free(limits);
    return NULL;
}

void limits_take_at(struct limits *limits, const struct limits_charge *charges, size_t n,
                    uint64_t now_ms, struct limits_answer *ret_answer) {
    memory_take(limits->memory, charges, n, now_ms, ret_answer);
}

enum limits_health limits_health(const struct limits *limits) {
    return atomic_load(&limits->health);
}

/* The worst of any worker; the enumeration is in that order. */
static enum limits_health worst(const size_t *workers_in) {
    enum limits_health health = LIMITS_REDIS_REFUSED;
    while (health > LIMITS_IN_MEMORY && workers_in[health] == 0)
        health--;
    return health;
}

static bool count_worker(struct limits *limits, const enum limits_health *before,
                         const enum limits_health *after) {
    pthread_mutex_lock(&limits->mutex);
    if (before != NULL)
        limits->workers_in[*before]--;
    if (after != NULL)
        limits->workers_in[*after]++;
    enum limits_health health = worst(limits->workers_in);
    bool is_other = health != atomic_exchange(&limits->health, health);
    pthread_mutex_unlock(&limits->mutex);
    return is_other;
}

bool limits_set_health(struct limits_worker *worker, enum limits_health health) {
    enum limits_health before = worker->health;
    worker->health = health;
    return count_worker(worker->limits, &before, &health);
}

/* --- a worker --- */

/* Runs while there are counters. Each worker has its turn, so that there is one sweep in SWEEP_MS.
 */
static void keep_sweeping(struct limits_worker *worker) {
    if (!io_timer_is_running(worker->sweep))
        io_timer_start(worker->sweep, SWEEP_MS * (uint64_t)worker->limits->n_workers);
}

static void on_sweep(void *context) {
    struct limits_worker *worker = context;
    memory_sweep(worker->limits->memory, clock_monotonic_ms());
    if (memory_n_counters(worker->limits->memory) > 0)
        keep_sweeping(worker);
}

int limits_worker_new(struct limits *limits, struct io_loop *loop,
                      struct limits_worker **ret_worker) {
    struct limits_worker *worker = mem_alloc(sizeof *worker);
    if (worker == NULL)
        return -ENOMEM;
    worker->limits = limits;
    worker->loop = loop;
    worker->storage = CONFIG_STORAGE_MEMORY;
    worker->health = LIMITS_IN_MEMORY;
    int r = redis_new(worker, &worker->redis);
    if (r < 0) {
        mem_free(worker);
        return r;
    }
    worker->sweep = io_timer_new(loop, on_sweep, worker);
    count_worker(limits, NULL, &worker->health);
    *ret_worker = worker;
    return 0;
}

struct limits_worker *limits_worker_free(struct limits_worker *worker) {
    if (worker == NULL)
        return NULL;
    redis_free(worker->redis);
    io_timer_free(worker->sweep);
    count_worker(worker->limits, &worker->health, NULL);
    mem_free(worker);
    return NULL;
}

int limits_worker_configure(struct limits_worker *worker, const struct config_storage *storage) {
    worker->storage = storage->type;
    worker->on_failure = storage->on_failure;
    return redis_configure(worker->redis, storage);
}

/* --- checks --- */

static void take_in_memory(struct limits_worker *worker, const struct limits_charge *charges,
                           size_t n, struct limits_answer *ret_answer) {
    memory_take(worker->limits->memory, charges, n, clock_monotonic_ms(), ret_answer);
    keep_sweeping(worker);
}

void limits_conclude(struct limits_worker *worker, const struct limits_charge *charges, size_t n,
                     const struct limits_answer *asked, struct limits_answer *ret_answer) {
    if (asked != NULL) {
        *ret_answer = *asked;
        if (asked->verdict == LIMITS_PASS) {
            memory_force(worker->limits->memory, charges, n, clock_monotonic_ms());
            keep_sweeping(worker);
        }
        return;
    }
    switch (worker->on_failure) {
    case CONFIG_FAILURE_LOCAL:
        take_in_memory(worker, charges, n, ret_answer);
        return;
    case CONFIG_FAILURE_DENY:
        break;
    }
    *ret_answer = (struct limits_answer){.verdict = LIMITS_UNAVAILABLE};
}

enum limits_verdict limits_take(struct limits_worker *worker, const struct limits_charge *charges,
                                size_t n, limits_done_fn *done, void *context,
                                struct limits_answer *ret_answer, struct limits_check **ret_check) {
    if (n == 0) {
        *ret_answer = (struct limits_answer){.verdict = LIMITS_PASS};
        return LIMITS_PASS;
    }
    if (LIKELY(worker->storage == CONFIG_STORAGE_MEMORY)) {
        take_in_memory(worker, charges, n, ret_answer);
        return ret_answer->verdict;
    }
    if (redis_take(worker->redis, charges, n, done, context, ret_check) == LIMITS_WAITS)
        return LIMITS_WAITS;
    limits_conclude(worker, charges, n, NULL, ret_answer);
    return ret_answer->verdict;
}
