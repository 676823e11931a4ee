/* SQLite for the index (index_db.h). */
#include "index_db.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"

enum { BUSY_MS = 5000 };

/* Everything in the file can be made anew from the trail; what is lost by a crash is read again. */
static const char *const writer_settings[] = {
    "PRAGMA auto_vacuum = INCREMENTAL", /* before there is any table */
    "PRAGMA journal_mode = WAL",        "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -16000",       "PRAGMA journal_size_limit = 16777216",
    "PRAGMA cell_size_check = ON",
};

static const char *const reader_settings[] = {
    "PRAGMA query_only = ON",
    "PRAGMA cache_size = -16000",
    "PRAGMA cell_size_check = ON",
};

static const char *const schema[] = {
    /* A record that can be looked for, and where it and its outcome stand in the trail. */
    "CREATE TABLE records(seq INTEGER PRIMARY KEY, event INTEGER, decision INTEGER, status INTEGER,"
    " user INTEGER, groups INTEGER, operation INTEGER, upstream_operation INTEGER,"
    " upstream INTEGER, address INTEGER, time INTEGER NOT NULL, segment INTEGER NOT NULL,"
    " offset INTEGER NOT NULL, length INTEGER NOT NULL, outcome_segment INTEGER,"
    " outcome_offset INTEGER, outcome_length INTEGER)",
    /* `parent`: of an address, the block that it is in. */
    "CREATE TABLE vals(id INTEGER PRIMARY KEY, dim INTEGER NOT NULL, text BLOB NOT NULL,"
    " parent INTEGER, UNIQUE(dim, text))",
    /* Which sets a group is in. */
    "CREATE TABLE members(value INTEGER NOT NULL, groups INTEGER NOT NULL,"
    " PRIMARY KEY(value, groups)) WITHOUT ROWID",
    /* key: block << 32 | value; value 0: all records of the block. */
    "CREATE TABLE postings(key INTEGER PRIMARY KEY, bits BLOB NOT NULL)",
    "CREATE TABLE blocks(block INTEGER PRIMARY KEY, earliest INTEGER NOT NULL,"
    " latest INTEGER NOT NULL)",
    /* Intents whose outcome has not come. */
    "CREATE TABLE intents(id BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
    /* How far the index came: behind the line with this number, length and hash. */
    "CREATE TABLE state(one INTEGER PRIMARY KEY CHECK(one = 1), segment INTEGER, offset INTEGER,"
    " seq INTEGER, length INTEGER, hash BLOB, records INTEGER)",
    "INSERT INTO state VALUES(1, 0, 0, 0, 0, zeroblob(32), 0)",
};

#define ROW_PLACE                                                                                  \
    "SELECT seq, time, segment, offset, length, outcome_segment, outcome_offset, outcome_length "  \
    "FROM records "

#define ROW_VALUES                                                                                 \
    "SELECT seq, event, decision, status, user, groups, operation, upstream_operation, upstream, " \
    "address, time FROM records WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq"

#define ROW_OUTCOME                                                                                \
    "UPDATE records SET outcome_segment = ?2, outcome_offset = ?3, outcome_length = ?4, "          \
    "status = ?5 WHERE seq = ?1"

static const char *const statements[SQL_ALL] = {
    [SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [SQL_BEGIN_READ] = "BEGIN",
    [SQL_COMMIT] = "COMMIT",
    [SQL_STATE_GET] = "SELECT segment, offset, seq, length, hash, records FROM state",
    [SQL_STATE_SET] =
        "UPDATE state SET segment=?1, offset=?2, seq=?3, length=?4, hash=?5, records=?6",
    [SQL_ROW_ADD] = "INSERT INTO records VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SQL_ROW_OUTCOME] = (ROW_OUTCOME),
    [SQL_ROWS_VALUES] = (ROW_VALUES),
    /* 0: any. */
    [SQL_ROWS_MATCHING] = "SELECT seq, address FROM records WHERE seq BETWEEN ?1 AND ?2"
                          " AND (?3 = 0 OR event = ?3) AND (?4 = 0 OR decision = ?4)"
                          " AND (?5 = 0 OR status = ?5) AND (?6 = 0 OR user = ?6)"
                          " AND (?7 = 0 OR operation = ?7 OR upstream_operation = ?7)"
                          " AND (?8 = 0 OR upstream = ?8) AND (?9 = 0 OR groups IN"
                          " (SELECT groups FROM members WHERE value = ?9))",
    [SQL_ROWS_NEWEST_FIRST] = (ROW_PLACE "WHERE seq <= ?1 ORDER BY seq DESC"),
    [SQL_ROWS_OLDEST_FIRST] = (ROW_PLACE "WHERE seq >= ?1 ORDER BY seq"),
    [SQL_ROWS_LAST] = "SELECT max(seq) FROM records",
    [SQL_ROWS_DROP] = "DELETE FROM records WHERE seq < ?1",
    [SQL_VALUE_FIND] = "SELECT id FROM vals WHERE dim = ?1 AND text = ?2",
    [SQL_VALUE_ADD] = "INSERT INTO vals(dim, text, parent) VALUES(?1, ?2, ?3)",
    [SQL_VALUE_GET] = "SELECT dim, text, parent FROM vals WHERE id = ?1",
    [SQL_VALUE_RANGE] = "SELECT id FROM vals WHERE dim = ?1 AND text BETWEEN ?2 AND ?3",
    [SQL_VALUE_DROP] = "DELETE FROM vals WHERE id = ?1",
    [SQL_MEMBER_ADD] = "INSERT OR IGNORE INTO members VALUES(?1, ?2)",
    [SQL_MEMBER_DROP] = "DELETE FROM members WHERE value = ?1 AND groups = ?2",
    [SQL_POSTING_PUT] = "INSERT OR REPLACE INTO postings VALUES(?1, ?2)",
    [SQL_POSTING_GET] = "SELECT bits FROM postings WHERE key = ?1",
    [SQL_POSTING_VALUES] = "SELECT key & 4294967295 FROM postings WHERE key BETWEEN ?1 AND ?2",
    [SQL_POSTINGS_DROP] = "DELETE FROM postings WHERE key < ?1",
    [SQL_BLOCK_PUT] = "INSERT OR REPLACE INTO blocks VALUES(?1, ?2, ?3)",
    [SQL_BLOCKS] = "SELECT block, earliest, latest FROM blocks ORDER BY block",
    [SQL_BLOCK_FIRST] = "SELECT min(block) FROM blocks",
    [SQL_BLOCK_LAST] = "SELECT max(block) FROM blocks",
    [SQL_BLOCKS_DROP] = "DELETE FROM blocks WHERE block < ?1",
    [SQL_OPEN_PUT] = "INSERT OR REPLACE INTO intents VALUES(?1, ?2)",
    [SQL_OPEN_GET] = "SELECT seq FROM intents WHERE id = ?1",
    [SQL_OPEN_DROP] = "DELETE FROM intents WHERE id = ?1",
    [SQL_OPEN_DROP_BELOW] = "DELETE FROM intents WHERE seq < ?1",
    [SQL_FREE_PAGES] = "PRAGMA freelist_count",
    [SQL_PAGES] = "PRAGMA page_count",
    [SQL_SHRINK] = "PRAGMA incremental_vacuum(512)",
};

static int error_of(int code) {
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: /* the schema is not ours: no such table */
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_READONLY: /* of a newer format; a file that must not be written is no use either */
        return -EBADMSG;
    case SQLITE_CANTOPEN:
        return -ENOENT;
    default:
        return -EIO;
    }
}

int index_db_error(const struct index_db *db) {
    return error_of(sqlite3_errcode(db->sqlite));
}

/* --- statements --- */

sqlite3_stmt *index_sql(struct index_db *db, enum index_sql which) {
    sqlite3_stmt **statement = &db->statements[which];
    if (*statement == NULL &&
        sqlite3_prepare_v3(db->sqlite, statements[which], -1, SQLITE_PREPARE_PERSISTENT, statement,
                           NULL) != SQLITE_OK)
        return NULL;
    return *statement;
}

int index_step(struct index_db *db, sqlite3_stmt *statement) {
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        return 1;
    int error = code == SQLITE_DONE ? 0 : index_db_error(db);
    (void)sqlite3_reset(statement);
    return error;
}

static sqlite3_stmt *with_numbers(struct index_db *db, enum index_sql which, const int64_t *numbers,
                                  size_t n) {
    sqlite3_stmt *statement = index_sql(db, which);
    for (size_t i = 0; statement != NULL && i < n; i++)
        if (sqlite3_bind_int64(statement, (int)i + 1, numbers[i]) != SQLITE_OK)
            return NULL;
    return statement;
}

int index_run(struct index_db *db, enum index_sql which, const int64_t *numbers, size_t n) {
    sqlite3_stmt *statement = with_numbers(db, which, numbers, n);
    if (statement == NULL)
        return index_db_error(db);
    int status;
    do
        status = index_step(db, statement);
    while (status == 1);
    return status;
}

int index_get(struct index_db *db, enum index_sql which, const int64_t *numbers, size_t n,
              int64_t *ret_number) {
    sqlite3_stmt *statement = with_numbers(db, which, numbers, n);
    if (statement == NULL)
        return index_db_error(db);
    int status = index_step(db, statement);
    if (status < 0)
        return status;
    bool is_there = status == 1 && sqlite3_column_type(statement, 0) != SQLITE_NULL;
    if (is_there)
        *ret_number = sqlite3_column_int64(statement, 0);
    (void)sqlite3_reset(statement);
    return is_there ? 0 : 1;
}

struct slice index_column_blob(sqlite3_stmt *statement, int column) {
    const void *bytes = sqlite3_column_blob(statement, column); /* before its length is asked */
    int n = sqlite3_column_bytes(statement, column);
    return bytes == NULL || n < 0 ? SLICE_EMPTY : slice_make(bytes, (size_t)n);
}

/* --- files --- */

int index_path(const char *dir, const char *name, char path[INDEX_PATH]) {
    return snprintf(path, INDEX_PATH, "%s/%s", dir, name) < INDEX_PATH ? 0 : -ENAMETOOLONG;
}

/* The log first: SQLite would put a log that is left over into the next database. */
static const char *const files[] = {INDEX_FILE "-wal", INDEX_FILE "-shm", INDEX_FILE "-journal",
                                    INDEX_FILE};

void index_db_delete(const char *dir) {
    char path[INDEX_PATH];
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (index_path(dir, files[i], path) == 0)
            (void)unlink(path);
}

uint64_t index_db_size(const char *dir) {
    char path[INDEX_PATH];
    struct stat info;
    uint64_t size = 0;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (index_path(dir, files[i], path) == 0 && stat(path, &info) == 0 && info.st_size > 0)
            size += (uint64_t)info.st_size;
    return size;
}

/* --- opening --- */

MUST_CHECK static int execute(struct index_db *db, const char *const *texts, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (sqlite3_exec(db->sqlite, texts[i], NULL, NULL, NULL) != SQLITE_OK)
            return index_db_error(db);
    return 0;
}

/* The file is only a file: what may stand in it gets no power over the process that reads it. */
static void distrust(sqlite3 *sqlite) {
    (void)sqlite3_db_config(sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(sqlite, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(sqlite, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    (void)sqlite3_db_config(sqlite, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    (void)sqlite3_busy_timeout(sqlite, BUSY_MS);
}

MUST_CHECK static int get_version(struct index_db *db, int *ret_version) {
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db->sqlite, "PRAGMA user_version", -1, &statement, NULL) != SQLITE_OK)
        return index_db_error(db);
    int status = index_step(db, statement);
    if (status == 1)
        *ret_version = sqlite3_column_int(statement, 0);
    (void)sqlite3_finalize(statement);
    return status < 0 ? status : 0;
}

MUST_CHECK static int make_schema(struct index_db *db) {
    char version[64];
    snprintf(version, sizeof version, "PRAGMA user_version = %d", INDEX_SCHEMA);
    const char *const set_version = version;
    int error = index_run(db, SQL_BEGIN_WRITE, NULL, 0);
    if (error == 0)
        error = execute(db, schema, ARRAY_LEN(schema));
    if (error == 0)
        error = execute(db, &set_version, 1);
    return error == 0 ? index_run(db, SQL_COMMIT, NULL, 0) : error;
}

MUST_CHECK static int prepare(struct index_db *db, bool is_writer) {
    int version = 0;
    int error = is_writer ? execute(db, writer_settings, ARRAY_LEN(writer_settings))
                          : execute(db, reader_settings, ARRAY_LEN(reader_settings));
    if (error == 0)
        error = get_version(db, &version);
    if (error == 0 && version == 0 && is_writer)
        return make_schema(db);
    if (error == 0 && version != INDEX_SCHEMA)
        error = version == 0 ? -ENOENT : -EBADMSG; /* being made just now */
    return error;
}

int index_db_open(const char *dir, bool is_writer, struct index_db **ret_db) {
    char path[INDEX_PATH];
    int error = index_path(dir, INDEX_FILE, path);
    if (error != 0)
        return error;
    CLEANUP(index_db_closep) struct index_db *db = mem_alloc(sizeof *db);
    if (db == NULL)
        return -ENOMEM;
    if (is_writer) { /* what is beside it later has its mode */
        error = io_file_create_private(path, SLICE_EMPTY);
        if (error != 0 && error != -EEXIST)
            return error;
    }
    int flags = is_writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    int code = sqlite3_open_v2(path, &db->sqlite,
                               flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
    if (code != SQLITE_OK)
        return error_of(code);
    distrust(db->sqlite);
    error = prepare(db, is_writer);
    if (error == 0)
        *ret_db = TAKE(db);
    return error;
}

void index_db_rest(struct index_db *db) {
    sqlite3_db_release_memory(db->sqlite);
}

struct index_db *index_db_close(struct index_db *db) {
    if (db == NULL)
        return NULL;
    for (size_t i = 0; i < SQL_ALL; i++)
        (void)sqlite3_finalize(db->statements[i]);
    (void)sqlite3_close_v2(db->sqlite);
    mem_free(db);
    return NULL;
}

void index_db_closep(struct index_db **db) {
    *db = index_db_close(*db);
}
