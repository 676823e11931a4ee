/*
 * What the files of the trail share: trail.c (opening, handing over, closing), recover.c (what a
 * crash left), torn.c (what it tore off), file.c (one segment), commit.c (numbers, chain, writing,
 * syncing), roll.c (new segments, retention, the reserve), keep.c (the threads), denied.c
 * (strangers).
 *
 * Locks, in the order in which they are taken; none of them is held by a worker for more than a
 * copy in memory:
 *
 *   audit->commit         who writes; held across write(2), and across the few syncs at which
 *                         nobody may write: of a new segment, and before files are deleted
 *   audit->wake           what the committing threads sleep on
 *   audit_worker->mutex   of one worker: what it handed over
 *   audit->publish        the copy of the state for audit_get_state()
 */
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include "audit/follow.h"
#include "audit/trail.h"
#include "base/hash.h"
#include "base/limits.h"
#include "own.h"

enum {
    TRAIL_SYNCERS =
        16, /* threads that commit where somebody waits: more make commits smaller, not faster */
    TRAIL_CHUNK = KIB(256),
    TRAIL_LINE = LIMIT_AUDIT_BODY + 256, /* the longest line, with its end */
    TRAIL_KEEP = MIB(1),                 /* of a buffer, for the next time */
    TRAIL_SIGN_LINES = 8192,             /* or after sign_ms */
    TRAIL_ERROR = 160
};

/* --- the system, so that tests can be one that fails --- */

struct trail_system {
    ssize_t (*write)(int fd, const void *bytes, size_t n); /* as write(2), and so on */
    int (*sync_data)(int fd);
    int (*sync_whole)(int fd);
    uint64_t (*wall_us)(void);
    uint64_t tick_ms;   /* how long a record waits for others */
    uint64_t sign_ms;   /* how long a line stays unsigned */
    uint64_t retry_ms;  /* after a failure */
    uint64_t denied_ms; /* between lines about strangers */
    uint64_t day_ms;    /* the age at which a segment is closed */
    uint64_t least_segment;
};

extern const struct trail_system trail_system;

/* --- strangers --- */

struct denied_row {
    struct network block;
    const char *reason; /* NULL: the row is free */
    uint64_t count, first_us;
};

enum { DENIED_SLOTS = 2 * LIMIT_AUDIT_ROWS };

/* At most LIMIT_AUDIT_ROWS rows; what does not fit is in `rest`. Of one thread, or under a lock. */
struct denied {
    struct hash_key key;
    struct denied_row *rows; /* DENIED_SLOTS; made with the first one */
    size_t n_rows;
    struct denied_row rest;
};

void denied_init(struct denied *denied);
void denied_deinit(struct denied *denied);
bool denied_is_empty(const struct denied *denied);
void denied_count(struct denied *denied, const struct network *address, const char *reason,
                  uint64_t now_us);
/* Adds all of `from`, which is empty afterwards. */
void denied_merge(struct denied *to, struct denied *from);
/* One body after the other, until `take` does not take one; what it took is not counted any more.
 */
void denied_write(struct denied *denied, uint64_t now_us,
                  bool (*take)(void *context, struct slice body), void *context);

/* --- one segment --- */

struct trail_file {
    uint64_t first_seq, number;
    uint64_t bytes;     /* that were written; what is behind them has to be cut off */
    uint64_t opened_ms; /* of the monotonic clock; now, when it is not known */
    uint64_t age_ms;    /* that it had then */
    int fd;             /* for appending */
    /*
     * For syncing, one a thread. The kernel tells an error of writing back once to each open file
     * (errseq): with one for all of them, a thread could consume the error of what another one is
     * about to call durable. They are opened before anything else is written to the file.
     */
    int sync_fds[1 + TRAIL_SYNCERS];
    size_t n_syncing; /* without the lock: it must stay */
    bool is_torn;     /* there is something behind `bytes` */
    bool is_broken;   /* a sync failed: what was not synced before may be gone */
    bool is_old;      /* there is a newer one */
};

/* Creates (-EEXIST) or opens DIR/SEGMENT for appending. */
MUST_CHECK int trail_file_open(int dir_fd, uint64_t first_seq, bool is_new,
                               struct trail_file **ret_file);
struct trail_file *trail_file_free(struct trail_file *file);
/* Descriptors for `n_syncers` threads, as many as can be had. */
void trail_file_open_syncers(struct trail_file *file, int dir_fd, size_t n_syncers);
/* All of it or, as far as that can be made so, nothing. */
MUST_CHECK int trail_file_append(struct trail_file *file, const struct trail_system *system,
                                 struct slice bytes);
/* Moves a file, or its end from `offset` on, to DIR/torn-SEQ; durable when it returns 0. */
MUST_CHECK int trail_tear_off(int dir_fd, const struct trail_system *system, const char *name,
                              uint64_t offset, uint64_t seq);
bool trail_is_full_disk(int error);
/* The name that the `place`-th of them has, from 1 on. */
enum { TRAIL_TORN_NAME = 64 };
void trail_torn_name(uint64_t seq, uint64_t place, char name[TRAIL_TORN_NAME]);

/* --- what is there at the beginning --- */

struct trail_segment {
    uint64_t first_seq, bytes;
    uint64_t end_us; /* when it ended, as far as can be said (segments.c) */
};

struct trail_found {
    struct trail_segment *segments; /* owned; all, the newest one last */
    size_t n_segments;
    bool has_log;                  /* there are lines; else a log begins */
    char log[AUDIT_LOG_CHARS + 1]; /* "": none yet */
    struct audit_chain chain;
    struct audit_chain checkpoint; /* seq 0: none */
    uint64_t number;               /* of the newest segment */
    uint64_t first_us;             /* time of its first line */
    uint64_t n_torn;               /* bytes */
    uint64_t n_torn_checkpoints;   /* in them */
};

/* Cuts off what is torn. -errno. */
MUST_CHECK int trail_recover(const char *dir, int dir_fd, const struct trail_system *system,
                             struct trail_found *ret_found);
void trail_found_deinit(struct trail_found *found);
/* When each one ended; all of them have first_seq and bytes. */
void trail_date_segments(int dir_fd, struct trail_segment *segments, size_t n, uint64_t now_us);

/* --- the trail --- */

struct audit_worker {
    struct audit *audit;
    pthread_mutex_t mutex; /* guards what follows */
    struct buf held;       /* records: uint32_t length, RECORD_WAITED in it, bytes */
    struct list waits;     /* of those records that somebody waits for, in their order */
    size_t n_kept;         /* bytes of `taken` that could not be written */
    struct denied denied;

    /* Written by the worker alone, read by anybody. */
    atomic_uint_fast64_t n_submitted, n_denied, n_requests;
    atomic_uint_fast64_t n_lost; /* also by who commits */

    /* Under audit->commit: what was taken over, what of it stands in audit->out, and who waits for
     * what does not. */
    struct buf taken;
    size_t n_lined;
    struct list taken_waits;
};

enum { RECORD_HEAD = sizeof(uint32_t) };
#define RECORD_WAITED UINT32_C(0x80000000) /* somebody waits for it */
#define RECORD_BAD    UINT32_C(0x40000000) /* is no record, and was counted as lost */
#define RECORD_LEN    UINT32_C(0x3fffffff)

/* Where the chain stands; goes back to where it was when something cannot be written. */
struct trail_head {
    struct audit_chain chain;
    struct audit_chain checkpoint; /* the last one; seq 0: none */
    uint64_t checkpoint_before;    /* the number of the one before */
    uint64_t unsigned_ms;          /* when the first line behind it was written */
    uint64_t n_lost_told;          /* by gap lines */
    bool is_gap_due;               /* it could not be written for a time */
    uint64_t n_unsynced;           /* for the gap line: lines whose sync failed */
};

struct audit {
    const struct trail_system *system;
    char *dir, *program;
    enum audit_mode mode;
    struct log *log;
    int dir_fd, lock_fd;
    struct audit_keys *keys;
    char log_id[AUDIT_LOG_CHARS + 1];
    struct audit_worker *workers; /* n_workers, and one for the program's own lines */
    size_t n_workers;
    atomic_uint_fast64_t max_bytes, max_age_ms, told_bytes;
    atomic_bool can_write;

    pthread_mutex_t commit; /* guards what follows */
    struct audit_hasher *hasher;
    struct trail_head head; /* with what stands in `out` */
    struct trail_head kept; /* with what was written */
    struct buf out, body;
    struct list chunk_waits; /* for what stands in `out` */
    struct list waiting;     /* for a sync */
    struct trail_file *file;
    struct trail_segment *segments; /* the last one is `file` */
    size_t n_segments;
    uint64_t old_bytes;         /* of all segments but the last */
    unsigned n_unretained;      /* segments that were begun since old ones were looked at */
    uint64_t torn_bytes;        /* of the files with what crashes tore off */
    uint64_t n_commits;         /* writes that succeeded */
    uint64_t n_refused;         /* records whose waiter was told that they are not written */
    uint64_t wait_commit;       /* the last one that somebody waits for */
    uint64_t checkpoint_commit; /* the last one with a checkpoint */
    uint64_t begun_commit;      /* the last one that a sync was begun for */
    uint64_t durable_commit, durable_seq;
    struct audit_chain signed_head;
    int error; /* that keeps it from writing; 0: none */
    uint64_t retry_ms;
    bool has_reserve;
    char error_text[TRAIL_ERROR];

    pthread_mutex_t publish; /* guards what follows */
    struct audit_state state;

    pthread_mutex_t wake; /* guards what follows */
    pthread_cond_t keeper_cond, syncer_cond;
    bool is_closing, is_keeper_wanted, is_retention_wanted;
    size_t n_idle, n_syncers;
    pthread_t keeper, syncers[TRAIL_SYNCERS];
    bool has_keeper;

    atomic_bool is_wanted;        /* somebody waits, or a buffer is half full */
    atomic_bool is_keeper_dozing; /* it has to be woken for the first record */

    struct denied denied; /* of all workers; of the keeper alone */
    uint64_t denied_ms;   /* when it is written next */
};

/* audit_open() with another system. */
MUST_CHECK int trail_open(const struct audit_options *options, const struct trail_system *system,
                          struct audit **ret_audit, const char **ret_reason);

/* commit.c */
enum {
    TRAIL_NOW = 1,  /* also after a failure a moment ago */
    TRAIL_SIGN = 2, /* with a checkpoint at the end, and a sync */
};
/* Writes what was handed over, syncs it where that is wanted, and tells who waits. `syncer`: which
 * descriptor. */
void trail_commit(struct audit *audit, size_t syncer, unsigned flags);
/* With audit->commit. One line of the trail's own behind what is in audit->out; the body is in
 * audit->body. */
void trail_body_begin(struct audit *audit, const char *event);
MUST_CHECK int trail_add_own(struct audit *audit);
MUST_CHECK int trail_add_checkpoint(struct audit *audit);
/* Writes audit->out; when it cannot, the head is put back. */
MUST_CHECK int trail_flush(struct audit *audit);
/* Goes on in a new segment when this one is full. */
MUST_CHECK int trail_make_room(struct audit *audit, struct list *answered);
/* Before a checkpoint: at most two that are not durable. */
MUST_CHECK int trail_bound_checkpoints(struct audit *audit, struct list *answered);
/* Of all that was written, without giving up the lock. */
MUST_CHECK int trail_sync_here(struct audit *audit, struct list *answered);
/* All that was written is durable: those who wait for it are moved to `answered`. */
void trail_set_durable(struct audit *audit, uint64_t n_commits, uint64_t seq,
                       const struct audit_chain *checkpoint, struct list *answered);
/* It cannot write: `what` could not be done with the segment. */
void trail_fail(struct audit *audit, int error, const char *what, struct list *answered);
/* Who waits is told; without any lock. */
void trail_answer(struct list *answered);
/* Writes down what audit_get_state() says. */
void trail_publish(struct audit *audit);

/* trail.c: a body of the trail's own, as if a worker had handed it over. AUDIT_E_LOST. */
MUST_CHECK int trail_submit_own(struct audit *audit, struct slice body);
/* Of all workers. */
uint64_t trail_n_lost(const struct audit *audit);

/* torn.c, without audit->commit: files that have to go. */
void trail_retain_torn(struct audit *audit);

/* roll.c; with audit->commit */
/* Lines of the trail's own that are in audit->out (`error`: what came of that) become signed and
 * durable: what they say may be done. */
MUST_CHECK int trail_announce(struct audit *audit, int error, struct list *answered);
uint64_t trail_segment_bytes(const struct audit *audit); /* without it, too */
bool trail_file_is_full(const struct audit *audit);
MUST_CHECK int trail_roll(struct audit *audit, struct list *answered);
bool trail_reserve_drop(struct audit *audit);
/* Without it. */
void trail_reserve_make(struct audit *audit);
void trail_retain(struct audit *audit);

/* keep.c */
MUST_CHECK int trail_start(struct audit *audit);
/* All threads have ended. */
void trail_stop(struct audit *audit);
/* Any thread: there is something that should not wait. */
void trail_want(struct audit *audit);
/* The keeper has to look after something. */
void trail_wake_keeper(struct audit *audit);
/* Counts of all workers are put together and written, when it is time or `is_end`. */
void trail_write_denied(struct audit *audit, bool is_end);
