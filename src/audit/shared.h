/*
 * The index in PostgreSQL, of all instances that keep their store there.
 *
 * A row a record, with its time, the line itself and its terms: for each value that can be looked
 * for (a user, a status, a block of addresses ...) a hash of what it is and what it is of. The
 * numbers of a trail are cut into blocks. For each block that is complete and each term in it there
 * is one posting: which of the block's records have the term; and for each block the times of its
 * records. All filters of a query together are then the AND of a few bitmaps a block. The records
 * behind the last complete block of each trail are looked at one by one. Two values with the same
 * hash do no harm: what is found is compared with the record itself.
 *
 * Each trail (log) is filled by the one process that holds its lock; its row in audit_logs is
 * locked in each transaction and says how far it came. So killed at any point nothing is missing,
 * and nothing is there twice.
 *
 * Records of several trails are in the order of time, then log, then number.
 */
#pragma once

#include "bitmap.h"
#include "find_private.h"
#include "index_record.h"
#include "own.h"
#include "store/store.h"

enum {
    SHARED_VERSION = 1,
    SHARED_BLOCK_BITS = 13,
    SHARED_BLOCK = 1 << SHARED_BLOCK_BITS,
    SHARED_TERMS = 160, /* of one record */
    SHARED_ID = 256,    /* the longest id of an intent that waits for its outcome */
};
_Static_assert((int)SHARED_BLOCK <= (int)INDEX_BLOCK, "a block fits into a bitmap");
_Static_assert(INDEX_RECORD_GROUPS + 24 <= SHARED_TERMS, "groups, addresses and the rest");

/* --- shared_db.c --- */

/* What an error of the store means here: -errno as of struct index_driver. */
int shared_error(int store_error);
/* The store's functions with these errors. */
MUST_CHECK static inline int shared_begin(struct store_tx *tx, enum store_kind kind) {
    return shared_error(store_beside_begin(tx, kind));
}
MUST_CHECK static inline int shared_end(struct store_tx *tx, int error) {
    return shared_error(store_beside_end(tx, error));
}
MUST_CHECK static inline int shared_exec(struct store_tx *tx, const char *sql,
                                         const struct store_value *values, size_t n_values,
                                         uint64_t *ret_changed) {
    return shared_error(store_exec(tx, sql, values, n_values, ret_changed));
}
MUST_CHECK static inline int shared_query(struct store_tx *tx, const char *sql,
                                          const struct store_value *values, size_t n_values,
                                          struct store_rows **ret_rows) {
    return shared_error(store_query(tx, sql, values, n_values, ret_rows));
}
MUST_CHECK static inline int shared_rows_end(struct store_rows *rows) {
    return shared_error(store_rows_end(rows));
}
MUST_CHECK static inline int shared_copy(struct store_tx *tx, const char *sql, struct slice rows) {
    return shared_error(store_beside_copy(tx, sql, rows));
}
/* A connection; -ENOENT: the tables are not there. `why` is told more. */
MUST_CHECK int shared_open(struct slice url, struct log *log, struct store_tx **ret_tx,
                           struct buf *why);
/* The same, and makes them. */
MUST_CHECK int shared_open_made(struct slice url, struct log *log, struct store_tx **ret_tx,
                                struct buf *why);
/* The log of the trail in `dir`. -ENOENT: it has none yet. */
MUST_CHECK int shared_log(const char *dir, char log[AUDIT_LOG_CHARS + 1]);
/* audit_index_forget(). *ret_is_there: it was. */
MUST_CHECK int shared_forget(struct slice url, struct slice name, bool *ret_is_there,
                             struct buf *why);
/* One number of the first row; `none` where there is no row, or it is NULL. */
MUST_CHECK int shared_number(struct store_tx *tx, const char *sql, const struct store_value *values,
                             size_t n_values, int64_t none, int64_t *ret_number);

/* --- shared_match.c: what is looked for --- */

/* Of a record, without regard to how often each is there; at most SHARED_TERMS. */
size_t shared_terms_of(const struct index_record *record, int64_t terms[SHARED_TERMS]);
int64_t shared_term(enum index_dim dim, struct slice text);
/* Those that all records have that can be it. FIND_E_ADDRESS. */
enum { SHARED_ASKED = 8 };
MUST_CHECK int shared_terms_asked(const struct audit_query *query, int64_t terms[SHARED_ASKED],
                                  size_t *ret_n);

/* Whether a record is it, but for its time and text. */
struct shared_matcher {
    struct json_reader *reader;
    struct buf scratch;
    struct index_record record;
};
MUST_CHECK int shared_matcher_init(struct shared_matcher *matcher);
void shared_matcher_deinit(struct shared_matcher *matcher);
/* `outcome`: of an intent, or empty. */
MUST_CHECK int shared_matches(struct shared_matcher *matcher, const struct audit_query *query,
                              struct slice line, struct slice outcome, bool *ret_matches);

/* --- shared_rows.c: bytes that PostgreSQL takes and gives --- */

/* Rows of COPY ... (FORMAT binary). */
void shared_copy_begin(struct buf *rows);
void shared_copy_row(struct buf *rows, uint16_t n_columns);
void shared_copy_number(struct buf *rows, int64_t number);
void shared_copy_bytes(struct buf *rows, struct slice bytes);
void shared_copy_null(struct buf *rows);
void shared_copy_numbers(struct buf *rows, const int64_t *numbers, size_t n);
void shared_copy_end(struct buf *rows);
/* "{1,2}" for a parameter, and from a column. `numbers_next`: false: the end. */
void shared_array_begin(struct buf *text);
void shared_array_add(struct buf *text, int64_t number);
void shared_array_end(struct buf *text);
bool shared_array_next(struct slice *text, int64_t *ret_number);
/* "\x00ff" of a BYTEA; into `out`, which is emptied first. */
MUST_CHECK int shared_read_bytes(struct slice text, struct buf *out);

/* Which of a block's records, ascending and each once. Appends. */
void shared_write_lows(struct buf *out, const uint16_t *lows, size_t n);
/* Adds to the bitmap. False: that cannot have been written. */
bool shared_read_lows(struct slice bytes, struct bitmap *bitmap);

/* The times of a block's records, in the order of their numbers. */
struct shared_times {
    struct buf *out;
    unsigned low;
    int64_t time;
};
void shared_write_time(struct shared_times *times, unsigned low, int64_t time);
/* False: there is no other one, or it cannot have been written. */
bool shared_read_time(struct slice *bytes, unsigned *low, int64_t *time);

/* --- shared_blocks.c: complete blocks --- */

/* Writes what a block needs to be complete, from its records. In a transaction. */
MUST_CHECK int shared_complete(struct store_tx *tx, int64_t log, uint64_t block);
/* One more record of a complete block has this term. */
MUST_CHECK int shared_post(struct store_tx *tx, int64_t log, uint64_t seq, int64_t term);
/* Deletes the records of a log below `seq`, at most those of one block. *ret_n: how many records;
 * 1: there is more to do. */
MUST_CHECK int shared_drop(struct store_tx *tx, int64_t log, uint64_t seq, uint64_t *ret_n);
/* Deletes a piece of what belongs to logs that were forgotten, or that nobody has filled for a day
 * and that are older than `max_age_ms` (0: never). 1: there is more to do. */
MUST_CHECK int shared_sweep(struct store_tx *tx, uint64_t max_age_ms);

/* --- shared_find.c --- */

MUST_CHECK int find_in_shared(struct store_tx *tx, const char *dir, struct find_request *request);
