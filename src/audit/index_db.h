/*
 * The index's database: its schema and all of its SQL, in one place, and a thin layer over SQLite.
 *
 * A record's number is cut into a block (the upper bits) and a place in it. For each value that can
 * be looked for (a user, an operation, a status ...) and each block there is one posting: which of
 * the block's records have that value. All filters of a query together are then the AND of a few
 * bitmaps a block, whatever the values are, and however seldom they come together. Postings are
 * written when a block is complete, and stand in the order of the blocks: filling appends,
 * retention deletes at the other end. The records of the last block, which has no postings yet, are
 * looked at one by one.
 *
 * Times may jump back, so they have no order to rely on: each block knows its earliest and latest.
 */
#pragma once

#include <sqlite3.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

#define INDEX_FILE "index.sqlite"
#define INDEX_LOCK "index.lock" /* held by who fills it */
#define INDEX_ANEW "index.anew" /* asks who fills it to begin anew */

enum {
    INDEX_SCHEMA = 1,
    INDEX_BLOCK_BITS = 15,
    INDEX_BLOCK = 1 << INDEX_BLOCK_BITS,
    INDEX_TEXT_MOST = 2048, /* of a value; longer ones are cut */
};

/* The numbers of records that fit: block << 32 | value is a number of SQLite. */
#define INDEX_SEQ_MOST (UINT64_C(1) << 45)

/* What values are of. The numbers are in the database. */
enum index_dim {
    INDEX_USER = 1,
    INDEX_GROUP,
    INDEX_OPERATION,
    INDEX_UPSTREAM,
    INDEX_STATUS,
    INDEX_DECISION,
    INDEX_EVENT,
    INDEX_GROUPS, /* a set of groups: the numbers of their values, ascending */
    /* Addresses and the blocks that they are in: 16 bytes, with zeros behind the prefix. */
    INDEX_V4_8,
    INDEX_V4_16,
    INDEX_V4_24,
    INDEX_V4_32,
    INDEX_V6_32,
    INDEX_V6_48,
    INDEX_V6_64,
    INDEX_V6_128,
};

enum index_sql {
    SQL_BEGIN_WRITE,
    SQL_BEGIN_READ,
    SQL_COMMIT,
    SQL_STATE_GET,
    SQL_STATE_SET,
    SQL_ROW_ADD,
    SQL_ROW_OUTCOME,
    SQL_ROWS_VALUES,
    SQL_ROWS_MATCHING,
    SQL_ROWS_NEWEST_FIRST,
    SQL_ROWS_OLDEST_FIRST,
    SQL_ROWS_LAST,
    SQL_ROWS_DROP,
    SQL_VALUE_FIND,
    SQL_VALUE_ADD,
    SQL_VALUE_GET,
    SQL_VALUE_RANGE,
    SQL_VALUE_DROP,
    SQL_MEMBER_ADD,
    SQL_MEMBER_DROP,
    SQL_POSTING_PUT,
    SQL_POSTING_GET,
    SQL_POSTING_VALUES,
    SQL_POSTINGS_DROP,
    SQL_BLOCK_PUT,
    SQL_BLOCKS,
    SQL_BLOCK_FIRST,
    SQL_BLOCK_LAST,
    SQL_BLOCKS_DROP,
    SQL_OPEN_PUT,
    SQL_OPEN_GET,
    SQL_OPEN_DROP,
    SQL_OPEN_DROP_BELOW,
    SQL_FREE_PAGES,
    SQL_PAGES,
    SQL_SHRINK,
    SQL_ALL
};

/* The columns of SQL_ROWS_VALUES. */
enum index_column {
    COLUMN_SEQ,
    COLUMN_EVENT,
    COLUMN_DECISION,
    COLUMN_STATUS,
    COLUMN_USER,
    COLUMN_GROUPS,
    COLUMN_OPERATION,
    COLUMN_UPSTREAM_OPERATION,
    COLUMN_UPSTREAM,
    COLUMN_ADDRESS,
    COLUMN_TIME,
};

struct index_db {
    sqlite3 *sqlite;
    sqlite3_stmt *statements[SQL_ALL];
};

/*
 * Errors of all of these: -ENOMEM, -ENOSPC, -EBUSY, -EIO; -EBADMSG: the file is no database, is
 * damaged, or of another version: it has to be made anew; -ENOENT: there is none to be read.
 */
MUST_CHECK int index_db_open(const char *dir, bool is_writer, struct index_db **ret_db);
struct index_db *index_db_close(struct index_db *db);
/* Between transactions: forgets what it has read, which is up to 16 MB. */
void index_db_rest(struct index_db *db);
void index_db_closep(struct index_db **db);
/* Deletes the files. */
void index_db_delete(const char *dir);
/* The bytes of all of its files. */
uint64_t index_db_size(const char *dir);
/* DIR/NAME; -ENAMETOOLONG. */
enum { INDEX_PATH = 4096 };
MUST_CHECK int index_path(const char *dir, const char *name, char path[INDEX_PATH]);

/* A statement, ready for values. NULL: it cannot be prepared (index_db_error()). */
sqlite3_stmt *index_sql(struct index_db *db, enum index_sql which);
int index_db_error(const struct index_db *db);
/* 1: a row; 0: no more (the statement is reset). */
MUST_CHECK int index_step(struct index_db *db, sqlite3_stmt *statement);
/* Runs a statement to its end, with numbers. */
MUST_CHECK int index_run(struct index_db *db, enum index_sql which, const int64_t *numbers,
                         size_t n);
/* The first column of its only row. 1: there is none, or it is NULL. */
MUST_CHECK int index_get(struct index_db *db, enum index_sql which, const int64_t *numbers,
                         size_t n, int64_t *ret_number);
struct slice index_column_blob(sqlite3_stmt *statement, int column);

static inline int64_t index_posting_key(uint64_t block, uint64_t value) {
    return (int64_t)(block << 32 | value);
}
