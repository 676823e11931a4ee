/*
 * Counters behind the rate limits. What is counted is for policy/ and the gateway to say: a check
 * takes one unit of each of several rules, of all of them or of none.
 *
 * In no window of a rule's interval more than `limit` units pass: exactly so up to a limit of
 * LIMIT_RATE_EXACT; above that units come back up to one percent of the interval late, never early.
 * Time is CLOCK_MONOTONIC here and the server's clock with Redis.
 *
 * Counters are in the memory of the process, shared by all workers, or in Redis, shared by all
 * gateways. While Redis cannot be asked, its on_failure says what holds: the counters in memory,
 * which have counted along meanwhile, or nobody passes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"
#include "config/config.h"

struct io_loop;

/* Whose units are counted: everybody's together, or those of one user or address. Made once, for it
 * costs more than a check. Equal on every gateway that shares a Redis. */
struct limits_subject {
    uint64_t high, low; /* both 0: everybody */
};

struct limits_subject limits_subject_of(struct slice name);

/* Owned by whoever compiled it; `id` outlives it. */
struct limits_rule {
    struct slice id; /* "server:github:tool:search_code": names the counter, never a secret */
    struct config_limit limit;
    uint64_t hash; /* by limits_rule_init() */
};

void limits_rule_init(struct limits_rule *rule, struct slice id, struct config_limit limit);

struct limits_charge {
    const struct limits_rule *rule;
    struct limits_subject subject;
};

/* --- counters, for the whole process; any thread --- */

struct limits;

struct limits_options {
    struct log *log; /* outlives it */
    size_t n_workers;
    size_t max_counters; /* of subjects; 0: LIMIT_COUNTERS. One rule has three quarters at most */
};

MUST_CHECK int limits_new(const struct limits_options *options, struct limits **ret_limits);
/* After its workers. Accepts NULL. */
struct limits *limits_free(struct limits *limits);

enum limits_verdict {
    LIMITS_PASS,
    LIMITS_EXCEEDED,    /* by one rule at least; nothing was taken */
    LIMITS_UNAVAILABLE, /* Redis cannot be asked, and on_failure is deny; or there is no memory for
                           a counter. Nothing was taken. */
    LIMITS_WAITS,       /* the answer comes later */
};

struct limits_answer {
    enum limits_verdict verdict;
    size_t charge;    /* EXCEEDED: the one of which the wait is longest */
    uint64_t wait_ms; /* EXCEEDED: until it may pass, when nobody else comes; at least 1 */
};

/* In memory alone, at that time (monotonic): what a worker does without Redis, and the tests with a
 * clock of their own. `n` up to LIMIT_RATE_LEVELS. */
void limits_take_at(struct limits *limits, const struct limits_charge *charges, size_t n,
                    uint64_t now_ms, struct limits_answer *ret_answer);

/* --- on a worker's loop --- */

struct limits_worker;
struct limits_check; /* that waits for Redis */

MUST_CHECK int limits_worker_new(struct limits *limits, struct io_loop *loop,
                                 struct limits_worker **ret_worker);
/* Checks that wait are forgotten. Accepts NULL. */
struct limits_worker *limits_worker_free(struct limits_worker *worker);
/* Where counters are from now on; `storage` is copied. Connections to Redis that it does not name
 * any more end when what waits for them is answered. -ENOMEM, or -EINVAL with the log saying why
 * (then on_failure holds). */
MUST_CHECK int limits_worker_configure(struct limits_worker *worker,
                                       const struct config_storage *storage);

typedef void limits_done_fn(void *context, const struct limits_answer *answer);

/*
 * Takes one unit of each. LIMITS_WAITS: `done` comes on this loop, once, unless the check is
 * cancelled first, and *ret_check names it until then; else *ret_answer says all. The charges are
 * copied; the rules live until the answer.
 */
enum limits_verdict limits_take(struct limits_worker *worker, const struct limits_charge *charges,
                                size_t n, limits_done_fn *done, void *context,
                                struct limits_answer *ret_answer, struct limits_check **ret_check);
/* What Redis has counted by then stays counted. Accepts NULL. */
struct limits_check *limits_check_cancel(struct limits_check *check);

/* For /ready and the status; any thread. */
enum limits_health {
    LIMITS_IN_MEMORY,
    LIMITS_REDIS_UP,
    LIMITS_REDIS_DOWN,
    LIMITS_REDIS_REFUSED, /* it is no server for us: a cluster */
};
enum limits_health limits_health(const struct limits *limits);
