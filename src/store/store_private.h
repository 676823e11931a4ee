/*
 * What the parts of the store share.
 *
 * A `struct store_tx` is a connection to the database and, while work runs, its transaction. It
 * belongs to one thread at a time. What differs between the databases is behind struct
 * store_driver; what both do alike (rules about values, errors that stay, retries, the count of
 * changes) is in transaction.c.
 *
 * Writers stand in line: in one process one at a time (jobs.c), among all of them by a lock that
 * begin() takes, the file's in SQLite and that of the row of `changes` in PostgreSQL. So whatever a
 * writer has read is still so when it commits, and no two of them can be in each other's way.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "store/store.h"

/* Not for callers: another transaction was in the way, and trying again is worth it. */
enum { STORE_BUSY = 15 };
_Static_assert((int)STORE_BUSY < (int)STORE_E_USER, "it is no code of the work");

enum {
    STORE_PARAMETERS = 32,  /* of one statement */
    STORE_STATEMENTS = 512, /* prepared ones that a connection keeps */
};

/* How long things may take, in milliseconds. */
struct store_times {
    unsigned connect_ms;
    unsigned statement_ms, lock_ms; /* of one statement; of that waiting for a lock */
};
extern const struct store_times store_times_usual; /* of jobs */
extern const struct store_times store_times_watch; /* of those who only look */
extern const struct store_times store_times_long;  /* of migrations and copies */
extern const struct store_times store_times_beside;

struct store_driver;

/* Which database. */
struct store_target {
    const struct store_driver *driver;
    char *place;      /* SQLite: the path. PostgreSQL: the URL, with its password */
    size_t place_len; /* bytes that are wiped at the end */
    struct log *log;
    bool may_make;     /* a file that is missing */
    bool is_read_only; /* it is looked at, and nothing beside it is changed */
};

struct store_tx {
    const struct store_driver *driver;
    struct log *log;
    enum store_kind kind;
    bool is_open;     /* a transaction */
    bool has_written; /* in it */
    bool is_of_work;  /* the last one's error: of whoever wrote the work, not of the database */
    bool is_unsure;   /* the last one may have been kept although its end was an error */
    int error;        /* the transaction's first; nothing more is done in it then */
    struct list rows; /* that have not ended */
};

struct store_rows {
    struct store_tx *tx;
    struct list_link link;
    bool is_over;
    int error;
};

/* What a database holds before anything is done with it. */
enum store_found { STORE_FOUND_NOTHING, STORE_FOUND_OURS, STORE_FOUND_OTHERS };

/* Errors are those of store.h, and STORE_BUSY. */
struct store_driver {
    const char *name;
    size_t n_threads;
    bool is_shared;
    MUST_CHECK int (*connect)(const struct store_target *target, const struct store_times *times,
                              struct store_tx **ret_tx, struct buf *reason);
    void (*close)(struct store_tx *tx);
    bool (*is_alive)(const struct store_tx *tx); /* else it has to be closed */
    void (*describe)(const struct store_tx *tx, struct buf *out);

    MUST_CHECK int (*begin)(struct store_tx *tx, enum store_kind kind);
    /* Sets is_unsure where the database did not tell. */
    MUST_CHECK int (*commit)(struct store_tx *tx);
    void (*rollback)(struct store_tx *tx);

    MUST_CHECK int (*exec)(struct store_tx *tx, const char *sql, const struct store_value *values,
                           size_t n_values, uint64_t *ret_changed);
    /* `is_streamed`: row by row, and nothing else is done until the end. */
    MUST_CHECK int (*query)(struct store_tx *tx, const char *sql, const struct store_value *values,
                            size_t n_values, bool is_streamed, struct store_rows **ret_rows);
    MUST_CHECK int (*next)(struct store_rows *rows, bool *ret_has);
    struct store_value (*value)(const struct store_rows *rows, int column);
    void (*free_rows)(struct store_rows *rows);
    MUST_CHECK int (*now)(struct store_tx *tx, uint64_t *ret_now_ms);

    /* Outside of a transaction: the row of `changes` and the schema's version. */
    MUST_CHECK int (*look)(struct store_tx *tx, uint64_t *ret_number, uint64_t *ret_version);
    MUST_CHECK int (*check)(struct store_tx *tx, struct buf *reason); /* that it is not damaged */

    /* In begin_migration(): one at a time, everywhere. */
    MUST_CHECK int (*begin_migration)(struct store_tx *tx);
    MUST_CHECK int (*find)(struct store_tx *tx, enum store_found *ret_found);
    void (*tidy)(struct store_tx *tx); /* behind a copy; NULL: there is nothing to do */
    const char *const *foundation;     /* what is run in an empty database first; NULL-terminated */
};
extern const struct store_driver store_sqlite, store_postgres;

/* The database has the schema's version in this table. */
#define STORE_VERSION_TABLE                                                                        \
    "CREATE TABLE store_version (id BIGINT PRIMARY KEY, version BIGINT NOT NULL)"
#define STORE_VERSION_ROW "INSERT INTO store_version (id, version) VALUES (1, 0)"

/* --- target.c --- */

MUST_CHECK int store_target_init(struct store_target *target, const struct store_options *options,
                                 struct buf *reason);
void store_target_deinit(struct store_target *target);

/* --- transaction.c --- */

/* A transaction around `work`. *ret_number: what `changes` is then; 0: nothing was written. */
MUST_CHECK int store_attempt(struct store_tx *tx, enum store_kind kind, store_work_fn *work,
                             void *context, uint64_t *ret_number);
/* Without a fresh start: it was begun by begin_migration(). */
MUST_CHECK int store_finish(struct store_tx *tx, int error);
/* Row by row: nothing else may be done until its end. */
MUST_CHECK int store_stream(struct store_tx *tx, const char *sql, struct store_rows **ret_rows);
struct store_value store_rows_value(const struct store_rows *rows, int column);
/* One number of the first row; 0 where there is none. */
MUST_CHECK int store_get_number(struct store_tx *tx, const char *sql, uint64_t *ret_number);
/* Closes and sets to NULL; accepts NULL. */
void store_tx_closep(struct store_tx **tx);

/* --- schema.c --- */

enum store_schema { STORE_SCHEMA_AS_IT_IS, STORE_SCHEMA_MAKE, STORE_SCHEMA_MIGRATE };
/* Makes the schema where there is none, or brings it up to date, as far as `may` says. */
MUST_CHECK int store_prepare_schema(struct store_tx *tx, enum store_schema may, size_t *ret_done,
                                    struct buf *reason);
enum store_schema store_schema_of(const struct store_options *options);

/* --- jobs.c --- */

/* A connection that is opened when it is needed, and again when it is lost. */
struct store_seat {
    struct store *store;
    struct store_tx *tx; /* NULL: none */
};

struct store_watch {
    struct io_message message;
    struct store *store;
    struct io_loop *loop;
    store_changed_fn *fn;
    void *context;
    uint64_t number, told; /* the latest; what was told last */
    bool is_posted;        /* under the store's mutex */
    bool is_over;          /* of the loop alone: it is freed when its message comes */
};

struct store {
    struct store_target target;
    struct buf about;
    pthread_mutex_t run_mutex; /* of `direct`; taken before the other one */
    struct store_seat direct;  /* of store_run() */

    pthread_mutex_t mutex; /* of: */
    pthread_cond_t wake_workers, wake_keeper;
    struct list jobs;
    size_t n_jobs;
    bool is_writing, is_closing;
    struct store_watch *watch; /* NULL: none */

    atomic_uint_least64_t heard_ms;      /* clock_boot_ms() */
    atomic_uint_least64_t gone_until_ms; /* clock_monotonic_ms(): not tried before */
    atomic_bool is_newer;                /* somebody else migrated it */
    atomic_bool is_told_gone;            /* the log says so */
    atomic_bool is_unwritable;           /* full or read-only; the log says so */

    struct store_seat *seats; /* of the workers */
    pthread_t *threads;
    size_t n_threads; /* that run */
    pthread_t keeper;
    bool has_keeper;
};

MUST_CHECK int store_start_threads(struct store *store, size_t n);
void store_stop_threads(struct store *store);

/* --- watch.c --- */

void *store_keep(void *arg); /* the store */
/* With the mutex: this number was written. */
void store_tell(struct store *store, uint64_t number);
void store_end_job(struct store_job *job, int result);
/* Into the log, when it is news. */
void store_note_health(struct store *store, int error, struct slice reason);
/* What came of a transaction that was to write. */
void store_note_write(struct store *store, const struct store_tx *tx, int error);
