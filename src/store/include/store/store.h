/*
 * The database: users and roles, tokens, sessions, edit mode, sealed secrets, upstreams that are
 * not in a file. SQLite in the data directory, or PostgreSQL for several instances; one list of
 * migrations and one set of statements for both.
 *
 * Whoever wants something of it writes a function that works with a transaction, one statement
 * after the other, and hands it over: it runs on a thread of the store, and its end comes back as a
 * message (struct store_job). Commands run the same functions and wait (store_run()).
 *
 * Statements are constant text with $1, $2, ... for every value: nothing is ever put together. What
 * both databases understand is what may be used: TEXT and BIGINT (a boolean is 0 or 1, a time is
 * milliseconds since 1970), ON CONFLICT, RETURNING; secrets and documents are TEXT.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"
#include "io/loop.h"

struct store;

/* What can go wrong, beside negative errno: -ENOMEM, -ENOSPC and -EROFS (full, read-only), -EIO. */
enum {
    STORE_E_GONE = 1,     /* the database does not answer */
    STORE_E_CONFLICT = 2, /* a row like that is there already, or one that it refers to is not */
    STORE_E_NEWER = 3,    /* its schema is newer than this program */
    STORE_E_OLDER = 4,    /* ... older, or there is none, and making it was not asked for */
    STORE_E_URL = 5,      /* it is no URL of a store */
    STORE_E_BROKEN = 6,   /* it says that it is damaged, or has tables that are not ours */
    STORE_E_USER = 16,    /* and above: of whoever wrote the work; rolls back, is passed on */
};

/* --- opening --- */

struct store_options {
    struct slice url; /* "postgres://..."; empty: SQLite at `path` */
    const char *path; /* made with mode 0600 */
    struct log *log;  /* outlives it; NULL: for commands */
    bool make;        /* where there is none yet, it is made, or STORE_E_OLDER */
    bool migrate;     /* that, and an older schema is brought up to date, or STORE_E_OLDER */
    bool replace;     /* of store_copy()'s target: what is in it goes; else it has to be empty */
    bool is_restored; /* ... and sessions, edit windows and the like are not brought into it */
    size_t n_threads; /* 0: as many as suit the database */
};
/*
 * Connects, checks the schema, starts the threads. `reason` gets a sentence for people, without
 * the URL's password.
 */
MUST_CHECK int store_open(const struct store_options *options, struct store **ret_store,
                          struct buf *reason);
/* What has begun is finished first; -ECANCELED for what has not. No loop may be gone before its
 * messages are delivered. On the loop of the watch, if there is one. Accepts NULL. */
struct store *store_close(struct store *store);
/* "SQLite 3.40 at /var/lib/...", "PostgreSQL 15.18 at host:5432/name": without a password. */
void store_describe(const struct store *store, struct buf *out);
bool store_is_shared(const struct store *store); /* PostgreSQL: there may be other instances */

/* --- working --- */

struct store_tx; /* a transaction, of one thread of the store */

/*
 * 0: what it did is kept. Else it is rolled back, and the number is the result. It may be run
 * again when another one was in the way, so it must not do anything beside, and begins with fresh
 * outputs. The first error of a statement stays: each one behind it fails with the same, and the
 * transaction is rolled back even when the work returns 0 (ON CONFLICT is for what may be there
 * already). Where the database went away while it was asked to keep what was written, nobody knows
 * whether it did: STORE_E_GONE, too.
 */
typedef int store_work_fn(struct store_tx *tx, void *context);

enum store_kind {
    STORE_READ,
    STORE_WRITE, /* others learn of it: store_watch() */
    STORE_NOTE,  /* writes what nobody has to learn of: when something was used last */
};

struct store_job {
    struct io_message message; /* its `deliver` is called on `loop` when the job is done */
    struct io_loop *loop;
    enum store_kind kind;
    store_work_fn *work;
    void *context;
    int result;
    /* Private. */
    struct list_link link;
    uint64_t submitted_ms;
};
/* Any thread. The job is the store's until its message is delivered. A job that did not begin
 * within some seconds ends with STORE_E_GONE: nobody waits for ever. */
void store_submit(struct store *store, struct store_job *job);
/* Blocks: for commands and the start. */
MUST_CHECK int store_run(struct store *store, enum store_kind kind, store_work_fn *work,
                         void *context);

/* --- statements, in a transaction --- */

enum store_type { STORE_NULL, STORE_TEXT, STORE_NUMBER };
struct store_value {
    enum store_type type;
    struct slice text; /* valid UTF-8 without NUL; else -EINVAL */
    int64_t number;
};
static inline struct store_value store_text(struct slice text) {
    return (struct store_value){.type = STORE_TEXT, .text = text};
}
static inline struct store_value store_number(int64_t number) {
    return (struct store_value){.type = STORE_NUMBER, .number = number};
}
static inline struct store_value store_null(void) {
    return (struct store_value){.type = STORE_NULL};
}
#define STORE_VALUES(...)                                                                          \
    (const struct store_value[]){__VA_ARGS__},                                                     \
        sizeof((const struct store_value[]){__VA_ARGS__}) / sizeof(struct store_value)

/* `sql` is a constant: its prepared statement is kept by its address. It has all of $1 to
 * $n_values, at most 32, or -EINVAL. *ret_changed (may be NULL): rows. */
MUST_CHECK int store_exec(struct store_tx *tx, const char *sql, const struct store_value *values,
                          size_t n_values, uint64_t *ret_changed);

struct store_rows;
MUST_CHECK int store_query(struct store_tx *tx, const char *sql, const struct store_value *values,
                           size_t n_values, struct store_rows **ret_rows);
/* True: there is one more row, and the columns are of it. False: the end, or an error:
 * store_rows_end(). */
bool store_rows_next(struct store_rows *rows);
/* Valid until the next row. NULL is an empty text, and 0. */
struct slice store_rows_text(const struct store_rows *rows, int column);
int64_t store_rows_number(const struct store_rows *rows, int column);
bool store_rows_is_null(const struct store_rows *rows, int column);
/* Always, also behind the last row: 0, or what went wrong. NULL: 0. */
MUST_CHECK int store_rows_end(struct store_rows *rows);

/* Milliseconds since 1970 by the clock of the database: of all instances the same. */
MUST_CHECK int store_now_ms(struct store_tx *tx, uint64_t *ret_now_ms);

/* --- what changed --- */

/*
 * `fn` is called on the loop after each write by anybody: this process, another instance, a command
 * that works on the same file. Own writes: at once, before the job's message, if it has the same
 * loop; those of others: within 300 ms. `number` grows with each, but where another file or
 * database has taken its place: that is told in any case. One watch; at most one call is on its
 * way.
 */
typedef void store_changed_fn(void *context, uint64_t number);
MUST_CHECK int store_watch(struct store *store, struct io_loop *loop, store_changed_fn *fn,
                           void *context);
/* On the loop: no call comes from then on. */
void store_unwatch(struct store *store);
/* clock_boot_ms() when the database answered last; any thread. It is asked at least twice a
 * second while there is a watch. */
uint64_t store_heard_ms(const struct store *store);

/* False: the last that was to be written found the database full or read-only. It is tried again
 * every second while there is a watch. Any thread. */
bool store_can_write(const struct store *store);

/* --- whole stores --- */

/* Brings the schema up to date. *ret_done: how many migrations that took. */
MUST_CHECK int store_migrate(const struct store_options *options, size_t *ret_done,
                             struct buf *reason);
/* A copy of everything into an empty store, as of one moment, while others work with it. A backup
 * is one into a new SQLite file, and the reverse restores it. *ret_rows: of all tables. */
MUST_CHECK int store_copy(const struct store_options *from, const struct store_options *to,
                          uint64_t *ret_rows, struct buf *reason);

/* --- beside the store --- */

/*
 * A connection to the PostgreSQL of a store, for tables that are in its schema and no part of it
 * (the index of the audit trail): store_copy() leaves them alone, nobody is told of changes, and
 * transactions do not stand in line with those of the store. store_exec() and store_query() work
 * in them. Of one thread at a time. Nothing is planned there but nested loops along indexes, and
 * a commit does not wait for the disk: what was committed last may be lost when the database's
 * machine crashes, and what was committed before it is not.
 */
MUST_CHECK int store_beside_open(struct slice url, struct log *log, struct store_tx **ret_tx,
                                 struct buf *reason);
struct store_tx *store_beside_close(struct store_tx *tx); /* accepts NULL */
bool store_beside_is_alive(const struct store_tx *tx);    /* else it has to be closed */
/* STORE_READ: all of it sees one moment. Else it writes, under READ COMMITTED. */
MUST_CHECK int store_beside_begin(struct store_tx *tx, enum store_kind kind);
/* Keeps what was done, or rolls it back where `error` is one; the result is that error, or another.
 * STORE_E_CONFLICT also for a transaction that was in the way. */
MUST_CHECK int store_beside_end(struct store_tx *tx, int error);
/* COPY ... FROM STDIN with these rows, in the format that the statement says. */
MUST_CHECK int store_beside_copy(struct store_tx *tx, const char *sql, struct slice rows);
/* What an error means. */
const char *store_error_text(int error);
