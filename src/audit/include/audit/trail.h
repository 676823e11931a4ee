/*
 * The trail: segment files in one directory, to which lines are appended, and nothing else.
 *
 *     DIR/00000000000000000001.jsonl   a segment, named by the number of its first line
 *     DIR/signing.pem public.pem hmac.key
 *     DIR/reserve                      space that is given free when the disk is full
 *
 * Workers hand over bodies of records; committing threads number, chain, write and (where somebody
 * waits, else now and then) sync them. A committer takes all that is there, writes it under the
 * lock, syncs without it: syncs overlap, because the next committer writes meanwhile. What a worker
 * waits for is delivered on its loop when a sync that began after the write has succeeded.
 *
 * A segment is closed when it is full or a day old: its last line is a checkpoint. The next one
 * begins with the hash before it. Segments are deleted, the oldest first, when all of them (and
 * what audit_tell_size() tells of) are over max_bytes, or their last line is older than max_age;
 * before that a line says so. The newest one stays.
 *
 * Opening reads the last segment: what is behind its last good line was torn by a crash, is put
 * into a file of its own (DIR/torn-SEQ) and cut off; the first line of the new run says so.
 *
 * What cannot be written: the buffer of each worker takes AUDIT_HELD bytes, then records are lost
 * and counted, and a gap is written as soon as something can be. audit_can_write() is false from
 * the first failure until something was written (and synced, where that was what failed).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "audit/keys.h"
#include "audit/line.h"
#include "base/list.h"
#include "base/log.h"
#include "base/network.h"
#include "io/loop.h"

enum audit_mode {
    AUDIT_BEST_EFFORT, /* written within a moment, synced with each checkpoint */
    AUDIT_REQUIRED,    /* each wait is for a sync */
};

struct audit_options {
    const char *dir;               /* made with mode 0700 when it is missing */
    const struct sealing *sealing; /* of its private keys; NULL: they are in plain */
    enum audit_mode mode;
    uint64_t max_bytes, max_age_ms;
    size_t n_workers;
    struct slice program; /* "cardea 0.1.0", for start lines */
    struct log *log;
};

struct audit;        /* any thread, except where it says otherwise */
struct audit_worker; /* of one thread */

/* AUDIT_E_KEY: *ret_reason says what is wrong; -errno: the directory cannot be used. Writes and
 * syncs the start line: when it returns 0 the trail can be written. */
MUST_CHECK int audit_open(const struct audit_options *options, struct audit **ret_audit,
                          const char **ret_reason);
/*
 * Writes what is left, a stop line and a checkpoint, syncs, ends the threads. No worker submits any
 * more. Waits that are not delivered yet are posted before it returns. Accepts NULL.
 */
struct audit *audit_close(struct audit *audit);
/* Retention, by a reload. */
void audit_set_bounds(struct audit *audit, uint64_t max_bytes, uint64_t max_age_ms);

const struct audit_keys *audit_trail_keys(const struct audit *audit);
const char *audit_dir(const struct audit *audit);
enum audit_mode audit_mode(const struct audit *audit);

struct audit_worker *audit_worker(struct audit *audit, size_t index);

/* Somebody who waits until a record is durable: inside a struct of their own, which stays until the
 * message was delivered, exactly once. */
struct audit_wait {
    struct io_message message; /* `deliver` is the waiter's */
    struct io_loop *loop;
    bool is_patient; /* nobody is woken for it: the waiter does that, with audit_flush() */
    bool is_durable; /* the answer: false, it could not be written or synced */
    /* Private. */
    struct list_link link;
    uint64_t written; /* how much has to be synced */
};

/*
 * A body, in pieces; it is copied. 0. AUDIT_E_LOST: there is no room, or (with `wait`) nothing can
 * be written now: it is not in the trail, no message comes, and it is counted as lost where nobody
 * waits. `wait` may be NULL; in best-effort mode it is delivered when the record was written.
 */
enum { AUDIT_E_LOST = 1 };
MUST_CHECK int audit_submit(struct audit_worker *worker, const struct slice *pieces,
                            size_t n_pieces, struct audit_wait *wait);

/* Those who wait have been handed over, as many as there will be for now: they are written. */
void audit_flush(struct audit_worker *worker);

/* Records can be written now, as far as is known: one atomic load. */
bool audit_can_write(const struct audit *audit);

/*
 * Requests of those who have not proved to be anybody: counted by block of addresses (IPv4 /24,
 * IPv6 /48) and reason, and written once a minute and at the end, at most AUDIT_DENIED_ROWS lines
 * at a time: {"event":"denied","from":"192.0.2.0/24","reason":"...","count":N,"first":TIME}. What
 * does not fit is in one line without `from`. When the disk is nearly full they are not written but
 * kept counting: the rest of the space is for those who are known.
 */
void audit_deny(struct audit_worker *worker, const struct network *address, const char *reason);

/* Requests that were asked for (for the stop line: it has to be the sum of the others). */
void audit_count_requests(struct audit_worker *worker, uint64_t n);

struct audit_state {
    struct audit_chain head;        /* the last line that was written */
    struct audit_chain signed_head; /* the last checkpoint that was synced */
    uint64_t n_lost;                /* since the start */
    uint64_t bytes, n_segments;
    bool can_write;
    char error[160]; /* why not, the last time; empty: it never failed */
};

void audit_get_state(struct audit *audit, struct audit_state *ret_state);
/* What else belongs to the trail and counts for max_bytes: the index. */
void audit_tell_size(struct audit *audit, uint64_t bytes);
