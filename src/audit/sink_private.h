/*
 * What sinks share: the thread that follows the trail, the place that it came to, pauses and the
 * log. A kind of sink says how lines are handed over.
 *
 * `sent` is the place behind the last line that was handed over, `safe` the one behind the last
 * line that need not be handed over again: what a peer's TCP has acknowledged, what a sync has put
 * on the disk. After a failure the trail is read again from `safe` on; DIR/NAME.place holds it. So
 * a line may come twice and none is left out.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "audit/follow.h"
#include "audit/sink.h"
#include "base/buf.h"

enum { SINK_SETTLE_MS = 1000 };

struct sink_kind {
    const char *name;
    size_t batch; /* lines go together, up to so many bytes; 0: each one alone */
    uint64_t pause_first_ms, pause_most_ms; /* after failures: doubled each time */
    /* Appends the line as it is handed over to sink->batch. */
    int (*encode)(struct audit_sink *sink, struct slice line);
    /* Hands sink->batch over. -errno: it was not (or nobody knows), and sink_tell() was told why.
     */
    int (*flush)(struct audit_sink *sink);
    /* How much was ever handed over on this connection, and how much of that was acknowledged.
     * -errno: it is broken. What has been acknowledged for SINK_SETTLE_MS is safe. NULL: what was
     * handed over is. */
    int (*look)(struct audit_sink *sink, uint64_t *ret_sent, uint64_t *ret_acknowledged);
    /* Before a place is saved: what was handed over is to survive a power failure. NULL: nothing */
    int (*sync)(struct audit_sink *sink);
    /* The trail has ended. NULL: nothing is to do. */
    void (*finish)(struct audit_sink *sink);
    /* After a failure, and before the end. */
    void (*close)(struct audit_sink *sink);
    void (*free)(struct audit_sink *sink);
};

struct audit_sink {
    const struct sink_kind *kind;
    void *of_kind;
    struct log *log;
    char *place_path, *place_new_path;
    struct audit_follow *follow;
    pthread_t thread;
    int stop_fd;
    atomic_uint_fast64_t deadline; /* clock_monotonic_ms(); 0: go on */

    /* Of the thread alone. */
    struct buf batch;
    struct audit_place behind_batch, sent, safe, saved, candidate;
    uint64_t candidate_sent; /* safe is `candidate` when so much is acknowledged */
    uint64_t candidate_at;   /* since when it is; 0: not yet */
    bool has_candidate;
    bool is_over; /* nothing more can be done before the deadline */
    bool place_failed;
    uint64_t saved_at, pause_ms, retry_at;
    char reason[160], told[160];

    pthread_mutex_t lock; /* short; around: */
    struct audit_sink_state state;
};

/* Takes over `of_kind`, frees it also when it fails. -errno. */
MUST_CHECK int sink_start(const struct sink_kind *kind, void *of_kind, const char *dir,
                          struct log *log, struct audit_sink **ret_sink);
/* Why something cannot be done, for people: the end of "cannot be written: ". */
void sink_tell(struct audit_sink *sink, const char *format, ...) PRINTF_LIKE(2, 3);
/* 1: ready, or in error; 0: the time is over, or that until which the sink has to end. `fd` may be
 * -1. With `until_stop` it is over as soon as the sink is to stop. */
int sink_poll(struct audit_sink *sink, int fd, short events, uint64_t until_ms, bool until_stop);
bool sink_is_stopping(const struct audit_sink *sink);
