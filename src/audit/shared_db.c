/* The tables in PostgreSQL (shared.h): made where there are none, and what errors mean. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "index_fill.h"
#include "io/file.h"
#include "shared.h"

/*
 * Of all instances that start at once; "CardeI" in ASCII. The tables are in the store's schema, and
 * no part of the store: its backups and copies leave them out, because trails have all of it.
 */
#define MAKING_LOCK "SELECT pg_advisory_xact_lock(74043930273097)"

/* Run in one transaction. */
static const char *const schema[] = {
    "CREATE TABLE audit_index (id BIGINT PRIMARY KEY, version BIGINT NOT NULL)",
    /* `name`: of the log as its lines have it; NULL: it was forgotten, and its records go bit by
     * bit. `segment` to `hash`: the place behind the last line. Blocks below `tail` are complete.
     */
    "CREATE TABLE audit_logs ("
    " id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name TEXT UNIQUE,"
    " segment BIGINT NOT NULL, place BIGINT NOT NULL, seq BIGINT NOT NULL, length BIGINT NOT NULL,"
    " hash TEXT NOT NULL, records BIGINT NOT NULL, tail BIGINT NOT NULL, seen_ms BIGINT NOT NULL)",
    /* `intent`: the id of an intent whose outcome has not come. Times: microseconds since 1970. */
    "CREATE TABLE audit_records ("
    " log BIGINT NOT NULL, seq BIGINT NOT NULL, time BIGINT NOT NULL, terms BIGINT[] NOT NULL,"
    " line TEXT NOT NULL, outcome TEXT, intent TEXT, PRIMARY KEY (log, seq))",
    "CREATE INDEX audit_records_by_time ON audit_records (time, log, seq)",
    "CREATE INDEX audit_records_open ON audit_records (log, intent) WHERE intent IS NOT NULL",
    "CREATE TABLE audit_blocks ("
    " log BIGINT NOT NULL, block BIGINT NOT NULL, earliest BIGINT NOT NULL, latest BIGINT NOT NULL,"
    " times BYTEA NOT NULL, PRIMARY KEY (log, block))",
    "ALTER TABLE audit_blocks ALTER COLUMN times SET STORAGE EXTERNAL",
    "CREATE TABLE audit_postings ("
    " log BIGINT NOT NULL, block BIGINT NOT NULL, term BIGINT NOT NULL, bits BYTEA NOT NULL,"
    " PRIMARY KEY (log, block, term))",
    "INSERT INTO audit_index (id, version) VALUES (1, 1)",
};
_Static_assert(SHARED_VERSION == 1, "the last statement has it");

int shared_error(int store_error) {
    switch (store_error) {
    case STORE_E_GONE:
        return -ENOTCONN;
    case STORE_E_CONFLICT:
        return -ESTALE;
    case STORE_E_NEWER:
        return -EPROTO;
    case STORE_E_OLDER:
    case STORE_E_BROKEN:
        return -EUCLEAN;
    case STORE_E_URL:
        return -EINVAL;
    default:
        return store_error <= 0 ? store_error : -EIO;
    }
}

int shared_number(struct store_tx *tx, const char *sql, const struct store_value *values,
                  size_t n_values, int64_t none, int64_t *ret_number) {
    struct store_rows *rows = NULL;
    int64_t number = none;
    int error = shared_query(tx, sql, values, n_values, &rows);
    if (error == 0 && store_rows_next(rows) && !store_rows_is_null(rows, 0))
        number = store_rows_number(rows, 0);
    int end = shared_rows_end(rows);
    error = error != 0 ? error : end;
    if (error == 0)
        *ret_number = number;
    return error;
}

/* --- what is there --- */

enum there { THERE_NO_STORE, THERE_NOTHING, THERE_OURS };

MUST_CHECK static int look(struct store_tx *tx, enum there *ret_there, int64_t *ret_version) {
    int64_t there = THERE_NO_STORE;
    int error = shared_number(tx,
                              "SELECT CASE WHEN to_regclass('cardea.store_version') IS NULL THEN 0"
                              " WHEN to_regclass('cardea.audit_index') IS NULL THEN 1 ELSE 2 END",
                              NULL, 0, 0, &there);
    *ret_there = (enum there)there;
    if (error == 0 && there == THERE_OURS)
        error = shared_number(tx, "SELECT version FROM audit_index WHERE id = 1", NULL, 0, 0,
                              ret_version);
    return error;
}

MUST_CHECK static int check_version(int64_t version) {
    return version == SHARED_VERSION ? 0 : version > SHARED_VERSION ? -EPROTO : -EUCLEAN;
}

MUST_CHECK static int check(struct store_tx *tx, bool *ret_is_missing, struct buf *why) {
    enum there there = THERE_NO_STORE;
    int64_t version = 0;
    int error = shared_begin(tx, STORE_READ);
    if (error == 0)
        error = shared_end(tx, look(tx, &there, &version));
    if (error != 0)
        return error;
    *ret_is_missing = there != THERE_OURS;
    if (there == THERE_NO_STORE)
        buf_append_cstr(why, "there is no store in that database yet");
    return there == THERE_OURS ? check_version(version) : -ENOENT;
}

MUST_CHECK static int make_tables(struct store_tx *tx) {
    enum there there = THERE_NO_STORE;
    int64_t version = 0, locked = 0;
    int error = shared_number(tx, MAKING_LOCK, NULL, 0, 0, &locked);
    if (error == 0)
        error = look(tx, &there, &version);
    if (error != 0 || there != THERE_NOTHING) /* another instance was faster */
        return error;
    for (size_t i = 0; i < ARRAY_LEN(schema) && error == 0; i++)
        error = shared_exec(tx, schema[i], NULL, 0, NULL);
    return error;
}

MUST_CHECK static int open_checked(struct slice url, struct log *log, bool makes,
                                   struct store_tx **ret_tx, struct buf *why) {
    struct store_tx *tx = NULL;
    bool is_missing = false;
    int error = shared_error(store_beside_open(url, log, &tx, why));
    if (error == 0)
        error = check(tx, &is_missing, why);
    if (error == -ENOENT && makes && buf_len(why) == 0) {
        error = shared_begin(tx, STORE_NOTE);
        if (error == 0)
            error = shared_end(tx, make_tables(tx));
        error = error != 0 ? error : check(tx, &is_missing, why);
    }
    if (error != 0)
        tx = store_beside_close(tx);
    else
        *ret_tx = tx;
    return error;
}

int shared_open(struct slice url, struct log *log, struct store_tx **ret_tx, struct buf *why) {
    return open_checked(url, log, false, ret_tx, why);
}

int shared_open_made(struct slice url, struct log *log, struct store_tx **ret_tx, struct buf *why) {
    return open_checked(url, log, true, ret_tx, why);
}

/* --- the log of a trail --- */

MUST_CHECK static int read_beginning(const char *dir, uint64_t segment, char *text, size_t size,
                                     size_t *ret_len) {
    char name[AUDIT_SEGMENT_CHARS + 1], path[INDEX_PATH];
    audit_segment_name(segment, name);
    int error = index_path(dir, name, path);
    if (error != 0)
        return error;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    ssize_t n = pread(fd, text, size, 0);
    io_fd_close(&fd);
    if (n < 0)
        return -EIO;
    *ret_len = (size_t)n;
    return 0;
}

/* From the first line of its last segment. */
int shared_log(const char *dir, char log[AUDIT_LOG_CHARS + 1]) {
    char text[KIB(4)];
    uint64_t *segments = NULL;
    size_t n = 0, len = 0;
    struct audit_line line;
    struct audit_segment_body body;
    int error = audit_segments(dir, &segments, &n);
    if (error == 0 && n == 0)
        error = -ENOENT;
    if (error == 0)
        error = read_beginning(dir, segments[n - 1], text, sizeof text, &len);
    mem_free(segments);
    if (error != 0)
        return error;
    struct slice first = slice_make(text, len);
    size_t end = slice_find_byte(first, '\n');
    if (end == SIZE_MAX || audit_line_read(slice_sub(first, 0, end), &line, NULL) != 0 ||
        !audit_segment_body_read(&line, &body))
        return -ENOENT;
    return slice_to_cstr(body.log, log, AUDIT_LOG_CHARS + 1);
}

/* --- forgetting --- */

MUST_CHECK static int forget(struct store_tx *tx, struct slice name, bool *ret_is_there) {
    uint64_t n = 0;
    int error = shared_exec(tx, "UPDATE audit_logs SET name = NULL WHERE name = $1",
                            STORE_VALUES(store_text(name)), &n);
    *ret_is_there = n != 0;
    return error;
}

int shared_forget(struct slice url, struct slice name, bool *ret_is_there, struct buf *why) {
    struct store_tx *tx = NULL;
    int error = shared_open(url, NULL, &tx, why);
    if (error == 0)
        error = shared_begin(tx, STORE_NOTE);
    if (error == 0)
        error = shared_end(tx, forget(tx, name, ret_is_there));
    store_beside_close(tx);
    return error;
}

int audit_index_forget(struct slice url, struct slice log, struct buf *ret_reason) {
    CLEANUP(buf_deinit) struct buf why = BUF_INIT(KIB(4));
    bool is_there = false;
    int error = shared_forget(url, log, &is_there, &why);
    if (error == -ENOMEM || (error == 0 && is_there))
        return error;
    if (error == 0) {
        buf_append_cstr(ret_reason, "there is no such log in the index: ");
        log_escape(ret_reason, log, 80);
    } else if (error == -ENOENT && buf_len(&why) == 0) {
        buf_append_cstr(ret_reason, "there is no index in PostgreSQL (yet)");
    } else {
        buf_append_cstr(ret_reason, "the index in PostgreSQL cannot be used: ");
        buf_append(ret_reason,
                   buf_len(&why) != 0 ? buf_slice(&why) : slice_from_cstr(index_error_text(error)));
    }
    return AUDIT_E_INDEX;
}
