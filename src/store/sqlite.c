/*
 * SQLite: opening, transactions, errors.
 *
 * The file is ours alone (mode 0600; what SQLite puts beside it gets the same), and what stands in
 * it gets no power over the process: no triggers, no views, no functions from its schema. Written
 * is with a log beside it (WAL), so that readers see one moment while somebody writes, and each
 * commit is on the disk when it returns.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"
#include "sqlite_private.h"

/* "Card": `file` and others show it. */
enum { APPLICATION_ID = 1130459748 };
#define SET_APPLICATION_ID "PRAGMA application_id = 1130459748"

static const char *const settings[] = {
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON", /* hashes and sealed secrets that are deleted are overwritten */
    "PRAGMA cell_size_check = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 16777216",
};

/* --- errors --- */

static int error_of_system(int number) {
    switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return -ENOSPC;
    case EROFS:
        return -EROFS;
    case ENOENT:
        return STORE_E_GONE;
    case ENOMEM:
        return -ENOMEM;
    case EACCES:
    case EPERM:
        return -EACCES;
    default:
        return -EIO;
    }
}

/* What SQLite keeps as the last error of the process may be of something that it did since; of its
 * files it keeps their own. */
static int error_of_files(struct lite *lite) {
    static const int files[] = {SQLITE_FCNTL_JOURNAL_POINTER, SQLITE_FCNTL_FILE_POINTER};
    int error = error_of_system(sqlite3_system_errno(lite->db));
    for (size_t i = 0; i < ARRAY_LEN(files) && error == -EIO; i++) {
        sqlite3_file *file = NULL;
        int number = 0;
        if (sqlite3_file_control(lite->db, "main", files[i], &file) == SQLITE_OK && file != NULL &&
            file->pMethods != NULL &&
            file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &number) == SQLITE_OK)
            error = error_of_system(number);
    }
    return error;
}

int lite_error(struct lite *lite, const char *sql) {
    int code = sqlite3_extended_errcode(lite->db);
    int error = -EIO;
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return STORE_BUSY;
    case SQLITE_CONSTRAINT:
        return STORE_E_CONFLICT;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_READONLY:
        return code == SQLITE_READONLY_DBMOVED ? STORE_E_GONE : -EROFS;
    case SQLITE_INTERRUPT:
        return STORE_E_GONE;
    case SQLITE_TOOBIG:
        return -E2BIG;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: /* no such table */
    case SQLITE_MISMATCH:
        error = STORE_E_BROKEN;
        break;
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
        error = error_of_files(lite);
        break;
    default:
        break;
    }
    if (error == -ENOSPC || error == -EROFS)
        return error; /* store_note_write() says so, once */
    log_write(lite->tx.log, LOG_WARN, "store", "SQLite refuses",
              LOG_CSTR("reason", sqlite3_errmsg(lite->db)), LOG_NUM("code", code),
              LOG_CSTR("statement", sql != NULL ? sql : ""));
    return error;
}

/* --- the file --- */

/* The folder may be behind a symbolic link, the file must not be one: SQLite is told to follow
 * none. */
MUST_CHECK static int find_path(const char *path, char **ret_path) {
    struct slice whole = slice_from_cstr(path);
    size_t slash = whole.len;
    while (slash > 0 && whole.ptr[slash - 1] != '/')
        slash--;
    CLEANUP(mem_freep) char *folder = NULL;
    int error = slice_dup_cstr(slash > 0 ? slice_sub(whole, 0, slash) : SLICE("."), &folder);
    if (error != 0)
        return error;
    CLEANUP(mem_freep) char *real = realpath(folder, NULL);
    if (real == NULL)
        return -errno;
    CLEANUP(buf_deinit) struct buf joined = BUF_INIT(PATH_MAX);
    buf_append_cstr(&joined, strcmp(real, "/") == 0 ? "" : real);
    buf_append_byte(&joined, '/');
    buf_append(&joined, slice_from(whole, slash));
    if (buf_error(&joined) != 0)
        return buf_error(&joined) == -E2BIG ? -ENAMETOOLONG : buf_error(&joined);
    return slice_dup_cstr(buf_slice(&joined), ret_path);
}

/* What others could read holds the hashes of all passwords. */
MUST_CHECK static int close_to_others(const char *path) {
    struct stat info;
    if (lstat(path, &info) != 0)
        return -errno;
    if (!S_ISREG(info.st_mode))
        return S_ISLNK(info.st_mode) ? -ELOOP : -EINVAL;
    if ((info.st_mode & 077) == 0)
        return 0;
    return chmod(path, 0600) == 0 ? 0 : -errno;
}

MUST_CHECK static int close_companions(const char *path) {
    static const char *const endings[] = {"-wal", "-shm", "-journal"};
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        char beside[PATH_MAX];
        if (snprintf(beside, sizeof beside, "%s%s", path, endings[i]) >= PATH_MAX)
            return -ENAMETOOLONG;
        int error = close_to_others(beside);
        if (error != 0 && error != -ENOENT)
            return error;
    }
    return 0;
}

/* Made by us and not by SQLite, because of its mode. */
MUST_CHECK static int prepare_file(const struct store_target *target, const char *path) {
    struct stat info;
    int error = target->may_make ? io_file_create_private(path, SLICE_EMPTY) : 0;
    if (error != 0 && error != -EEXIST)
        return error;
    if (!target->is_read_only) {
        error = close_to_others(path);
        return error == 0 ? close_companions(path) : error;
    }
    if (lstat(path, &info) != 0)
        return -errno;
    return S_ISREG(info.st_mode) ? 0 : S_ISLNK(info.st_mode) ? -ELOOP : -EINVAL;
}

/* --- opening --- */

/* The file is only a file. */
static void distrust(sqlite3 *db) {
    (void)sqlite3_extended_result_codes(db, 1);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
}

/* Nobody is waited for here by SQLite: when several open a new file at once, each of them tries. */
MUST_CHECK static int use_log(struct lite *lite, unsigned for_ms) {
    enum { PAUSE_MS = 10 };
    uint64_t until = clock_monotonic_ms() + for_ms;
    int error;
    while ((error = lite_run(lite, "PRAGMA journal_mode = WAL")) == STORE_BUSY &&
           clock_monotonic_ms() < until)
        (void)sqlite3_sleep(PAUSE_MS);
    return error;
}

MUST_CHECK static int set_up(struct lite *lite, const struct store_target *target,
                             const struct store_times *times) {
    (void)sqlite3_busy_timeout(lite->db, (int)times->lock_ms);
    if (!target->is_read_only && sqlite3_db_readonly(lite->db, "main") != 0)
        return -EROFS;
    int64_t n = 0;
    int error = lite_get(lite, "SELECT count(*) FROM sqlite_schema", &n); /* is it a database? */
    if (error == 0 && !target->is_read_only)
        error = use_log(lite, times->lock_ms);
    for (size_t i = 0; i < ARRAY_LEN(settings) && error == 0; i++)
        error = lite_run(lite, settings[i]);
    return error;
}

MUST_CHECK static int open_file(const struct store_target *target, const struct store_times *times,
                                struct lite *lite) {
    int error = find_path(target->place, &lite->path);
    if (error == 0)
        error = prepare_file(target, lite->path);
    if (error != 0)
        return error;
    int flags = target->is_read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    int code = sqlite3_open_v2(lite->path, &lite->db,
                               flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
    if (code == SQLITE_OK) {
        distrust(lite->db);
        return set_up(lite, target, times);
    }
    return lite->db != NULL ? lite_error(lite, NULL) : -ENOMEM;
}

static void lite_close(struct store_tx *tx) {
    struct lite *lite = lite_of(tx);
    lite_forget_statements(lite);
    (void)sqlite3_close_v2(lite->db);
    mem_free(lite->path);
    mem_free(lite);
}

static void tell_open(int error, const char *path, struct buf *reason) {
    const char *text = store_error_text(error);
    if (error == STORE_E_BROKEN)
        text = "it is damaged, or no database of SQLite";
    else if (error == -ELOOP)
        text = "it is a symbolic link";
    else if (error == -EINVAL)
        text = "it is no file";
    else if (error == -ENOENT || error == STORE_E_GONE)
        text = "there is no such file";
    else if (error == -EPERM)
        text = "other accounts can read it, and its mode cannot be changed";
    else if (error < 0 && error != -EROFS && error != -ENOSPC)
        text = strerror(-error);
    buf_printf(reason, "%s: %s", path, text);
}

static int lite_connect(const struct store_target *target, const struct store_times *times,
                        struct store_tx **ret_tx, struct buf *reason) {
    struct lite *lite = mem_alloc(sizeof *lite);
    if (lite == NULL)
        return -ENOMEM;
    lite->tx.driver = &store_sqlite;
    lite->tx.log = target->log;
    list_init(&lite->tx.rows);
    int error = open_file(target, times, lite);
    if (error != 0) {
        tell_open(error, target->place, reason);
        lite_close(&lite->tx);
        return error == STORE_BUSY ? STORE_E_GONE : error;
    }
    *ret_tx = &lite->tx;
    return 0;
}

static bool lite_is_alive(const struct store_tx *tx) {
    return !((const struct lite *)tx)->is_gone;
}

static void lite_describe(const struct store_tx *tx, struct buf *out) {
    buf_printf(out, "SQLite %s at %s", sqlite3_libversion(), ((const struct lite *)tx)->path);
}

/* --- transactions --- */

/* Whoever goes on with a file that was deleted or moved writes into nowhere. */
MUST_CHECK static int check_place(struct lite *lite) {
    int has_moved = 0;
    if (sqlite3_file_control(lite->db, "main", SQLITE_FCNTL_HAS_MOVED, &has_moved) != SQLITE_OK ||
        has_moved == 0)
        return 0;
    lite->is_gone = true;
    return STORE_E_GONE;
}

static int lite_begin(struct store_tx *tx, enum store_kind kind) {
    struct lite *lite = lite_of(tx);
    int error = check_place(lite);
    if (error != 0)
        return error;
    return lite_run(lite, kind != STORE_READ ? "BEGIN IMMEDIATE" : "BEGIN");
}

static int lite_commit(struct store_tx *tx) {
    return lite_run(lite_of(tx), "COMMIT");
}

static void lite_rollback(struct store_tx *tx) {
    struct lite *lite = lite_of(tx);
    if (sqlite3_get_autocommit(lite->db) == 0 && lite_run(lite, "ROLLBACK") != 0)
        lite->is_gone = true; /* nothing can be done with it */
}

static int lite_now(struct store_tx *tx, uint64_t *ret_now_ms) {
    (void)tx; /* all who work with the file are on this machine */
    *ret_now_ms = clock_wall_ms();
    return 0;
}

/* All that is looked at, of a file that was changed. */
MUST_CHECK static int look_again(struct lite *lite) {
    int64_t id = 0, is_made = 0, number = 0, version = 0;
    int error = lite_get(lite, "PRAGMA application_id", &id);
    if (error == 0)
        error = lite_get(lite, "SELECT count(*) FROM sqlite_schema WHERE name = 'store_version'",
                         &is_made);
    if (error == 0 && (is_made == 0 || id != APPLICATION_ID))
        return STORE_E_OLDER;
    if (error == 0)
        error = lite_get(lite, "SELECT number FROM changes WHERE id = 1", &number);
    if (error == 0)
        error = lite_get(lite, "SELECT version FROM store_version WHERE id = 1", &version);
    if (error != 0)
        return error;
    lite->number = number > 0 ? (uint64_t)number : 0;
    lite->version = version > 0 ? (uint64_t)version : 0;
    return 0;
}

static int lite_look(struct store_tx *tx, uint64_t *ret_number, uint64_t *ret_version) {
    struct lite *lite = lite_of(tx);
    int64_t data_version = 0;
    int error = check_place(lite);
    if (error == 0)
        error = lite_get(lite, "PRAGMA data_version", &data_version);
    if (error == 0 && (!lite->is_looked || lite->data_version != data_version))
        error = look_again(lite);
    if (error != 0)
        return error;
    lite->is_looked = true;
    lite->data_version = data_version;
    *ret_number = lite->number;
    *ret_version = lite->version;
    return 0;
}

static int lite_check(struct store_tx *tx, struct buf *reason) {
    struct lite *lite = lite_of(tx);
    sqlite3_stmt *handle = NULL;
    int error = 0;
    if (sqlite3_prepare_v2(lite->db, "PRAGMA quick_check(1)", -1, &handle, NULL) != SQLITE_OK ||
        sqlite3_step(handle) != SQLITE_ROW) {
        error = lite_error(lite, NULL);
        buf_append_cstr(reason, store_error_text(error));
    } else if (strcmp((const char *)sqlite3_column_text(handle, 0), "ok") != 0) {
        buf_printf(reason, "it is damaged: %s", (const char *)sqlite3_column_text(handle, 0));
        error = STORE_E_BROKEN;
    }
    (void)sqlite3_finalize(handle);
    return error;
}

/* A copy that nobody else has open is one file, without a log beside it. */
static void lite_tidy(struct store_tx *tx) {
    struct lite *lite = lite_of(tx);
    lite_forget_statements(lite);
    (void)sqlite3_busy_timeout(lite->db, 0);
    if (lite_run(lite, "PRAGMA journal_mode = DELETE") != 0)
        return; /* somebody has */
}

/* --- the schema --- */

static int lite_begin_migration(struct store_tx *tx) {
    return lite_begin(tx, STORE_WRITE);
}

static int lite_find(struct store_tx *tx, enum store_found *ret_found) {
    struct lite *lite = lite_of(tx);
    int64_t id = 0, n = 0;
    int error = lite_get(lite, "PRAGMA application_id", &id);
    if (error == 0)
        error = lite_get(lite, "SELECT count(*) FROM sqlite_schema", &n);
    if (error != 0)
        return error;
    *ret_found = id == 0 && n == 0               ? STORE_FOUND_NOTHING
                 : id == APPLICATION_ID && n > 0 ? STORE_FOUND_OURS
                                                 : STORE_FOUND_OTHERS;
    return 0;
}

static const char *const foundation[] = {
    SET_APPLICATION_ID,
    STORE_VERSION_TABLE,
    STORE_VERSION_ROW,
    NULL,
};

const struct store_driver store_sqlite = {
    .name = "SQLite",
    .n_threads = 2, /* one that writes, one that reads */
    .connect = lite_connect,
    .close = lite_close,
    .is_alive = lite_is_alive,
    .describe = lite_describe,
    .begin = lite_begin,
    .commit = lite_commit,
    .rollback = lite_rollback,
    .exec = lite_exec,
    .query = lite_query,
    .next = lite_next,
    .value = lite_value,
    .free_rows = lite_free_rows,
    .now = lite_now,
    .look = lite_look,
    .check = lite_check,
    .begin_migration = lite_begin_migration,
    .find = lite_find,
    .tidy = lite_tidy,
    .foundation = foundation,
};
