/*
 * Who may go to the upstreams now: of one principal at most `max` requests at a time, over all
 * workers. The others wait in flows (a client each), and the slots that get free are handed out
 * among the flows in turn, so that one that has a thousand waiting does not make another one wait
 * for a thousand. A flow of which nothing waited goes first, every second time at the latest: a
 * client that asks now and then is served at once, and one that calls itself by a new name with
 * every request gets no more than half.
 *
 * How it counts. `count` is all that run or wait. Who enters adds one: below `max` it runs, and
 * that was all. Who leaves takes one away: if more than `max` were there, somebody waits or is
 * about to, and is owed a slot. Only then the lock is taken. What is owed is kept as a number of
 * its own, because the one that it is for may not have come to the queue yet, or may have given up
 * in between; then its giving up is what takes it back.
 *
 *     admission_enter()                true: it runs          false: admission_wait()
 *     admission_wait()                 true: it runs after all; false: it is in the queue
 *     admission_leave()                true: admission_next() has to be called
 *     admission_give_up()              true: it waited, and is out of the queue; false: it was
 *                                      chosen already, runs, and has to leave
 *
 * What waits is bounded by others: each waiting request belongs to a connection that is not read
 * meanwhile (connections are counted, a batch has at most 100), and its document counts for
 * server.max_held.
 *
 * Everything here may be called from any thread; the lock is held for a few instructions. Nothing
 * here knows loops, sessions or calls.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "base/map.h"

/* One request that waits. A member of the waiting object. */
struct admission_ticket {
    struct list_link link;
    struct admission_flow *flow; /* NULL: does not wait */
};

struct admission {
    char apart[64]; /* every call changes the count: alone on its cache line */
    atomic_size_t count;
    char from_the_rest[64];
    size_t max;
    pthread_mutex_t mutex;     /* guards what follows */
    struct map flows;          /* number of the flow to struct admission_flow: those that wait */
    struct list fresh, served; /* the same: had no turn since they came, had one */
    bool was_fresh;            /* the last turn */
    long owed;                 /* slots that are free, less those whose waiter gave up */
    size_t n_waiting;
};

void admission_init(struct admission *admission, size_t max);
/* Nothing waits any more. */
void admission_deinit(struct admission *admission);

/* One atomic addition below the limit. */
static inline bool admission_enter(struct admission *admission) {
    return LIKELY(atomic_fetch_add(&admission->count, 1) < admission->max);
}

/* After admission_enter() gave false. `flow` is the number of the client's flow. */
MUST_CHECK bool admission_wait(struct admission *admission, struct admission_ticket *ticket,
                               uint64_t flow);

/* One atomic subtraction while nobody waits. */
MUST_CHECK static inline bool admission_leave(struct admission *admission) {
    return UNLIKELY(atomic_fetch_sub(&admission->count, 1) > admission->max);
}

/* After admission_leave() gave true: the ticket that runs now, out of the queue; NULL: none. */
MUST_CHECK struct admission_ticket *admission_next(struct admission *admission);

/* A ticket that admission_wait() had put into the queue. */
MUST_CHECK bool admission_give_up(struct admission *admission, struct admission_ticket *ticket);

/* How many wait now, for whoever asks. */
static inline size_t admission_waiting(const struct admission *admission) {
    size_t count = atomic_load(&admission->count);
    return count > admission->max ? count - admission->max : 0;
}
