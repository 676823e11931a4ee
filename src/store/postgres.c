/*
 * PostgreSQL: connecting, transactions, the schema.
 *
 * Our tables are in a schema of their own, `cardea`, so that others may be in the same database and
 * nobody who may only write to `public` can put a function or a table in their place: search_path
 * is set to it alone. Writers stand in line behind the row of `changes`, which each of them locks
 * before anything else; with that, READ COMMITTED is enough for them.
 */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "postgres_private.h"

/* Of all instances that migrate the same database; "Cardea" in ASCII. */
#define MIGRATION_LOCK "SELECT pg_advisory_xact_lock(74043930273121)"

#define SETTINGS                                                                                   \
    "SELECT set_config('search_path', 'cardea, pg_temp', false),"                                  \
    " set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),"          \
    " set_config('idle_in_transaction_session_timeout', '10000', false),"                          \
    " set_config('standard_conforming_strings', 'on', false),"                                     \
    " set_config('client_min_messages', 'error', false)"

/* --- connecting --- */

enum { PARAMETERS = 128 };

struct parameters {
    const char *keys[PARAMETERS], *values[PARAMETERS];
    size_t n;
};

static void set_parameter(struct parameters *parameters, const char *key, const char *value) {
    size_t i = 0;
    while (i < parameters->n && strcmp(parameters->keys[i], key) != 0)
        i++;
    if (i + 1 >= PARAMETERS)
        return;
    parameters->keys[i] = key;
    parameters->values[i] = value;
    parameters->n += i == parameters->n;
}

/* What the URL says goes before what we would have, but for how texts are written. */
static void fill_parameters(struct parameters *parameters, const PQconninfoOption *options) {
    set_parameter(parameters, "application_name", "cardea");
    set_parameter(parameters, "keepalives", "1");
    set_parameter(parameters, "keepalives_idle", "30");
    set_parameter(parameters, "keepalives_interval", "10");
    set_parameter(parameters, "keepalives_count", "3");
    set_parameter(parameters, "tcp_user_timeout", "20000");
    set_parameter(parameters, "sslmode", "prefer");
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
        if (option->val != NULL)
            set_parameter(parameters, option->keyword, option->val);
    set_parameter(parameters, "client_encoding", "UTF8");
}

static void hear_nothing(void *context, const char *notice) {
    (void)context;
    (void)notice;
}

/* On one line. */
static void append_words(struct buf *out, struct slice text) {
    struct slice line;
    while (text.len != 0) {
        (void)slice_cut(text, '\n', &line, &text);
        line = slice_trim(line);
        if (line.len != 0 && buf_len(out) != 0)
            buf_append_byte(out, ' ');
        buf_append(out, line);
    }
}

/* As libpq says it; its words about a connection have no password in them. */
static void tell_why(const struct pg *pg, int error, struct buf *reason) {
    const char *text = pg->conn != NULL ? PQerrorMessage(pg->conn) : "";
    buf_append_cstr(reason, "PostgreSQL:");
    if (error == -ETIMEDOUT)
        buf_printf(reason, " no answer from %s:%s", PQhost(pg->conn), PQport(pg->conn));
    else
        append_words(reason, slice_from_cstr(text[0] != '\0' ? text : store_error_text(error)));
}

MUST_CHECK static int set_up(struct pg *pg) {
    char statement_ms[16], lock_ms[16];
    const char *const values[] = {statement_ms, lock_ms};
    CLEANUP(pg_clear) PGresult *result = NULL;
    snprintf(statement_ms, sizeof statement_ms, "%u", pg->times.statement_ms);
    snprintf(lock_ms, sizeof lock_ms, "%u", pg->times.lock_ms);
    int sent = PQsendQueryParams(pg->conn, SETTINGS, 2, NULL, values, NULL, NULL, 0);
    return pg_wait_all(pg, sent, SETTINGS, &result);
}

MUST_CHECK static int start(struct pg *pg, const struct store_target *target) {
    PQconninfoOption *options = PQconninfoParse(target->place, NULL);
    if (options == NULL)
        return STORE_E_URL;
    struct parameters parameters = {.n = 0};
    fill_parameters(&parameters, options);
    pg->conn = PQconnectStartParams(parameters.keys, parameters.values, 0);
    PQconninfoFree(options);
    if (pg->conn == NULL)
        return -ENOMEM;
    PQsetNoticeProcessor(pg->conn, hear_nothing, NULL);
    int error = PQstatus(pg->conn) == CONNECTION_BAD
                    ? STORE_E_GONE
                    : pg_wait_connected(pg->conn, pg->times.connect_ms);
    if (error != 0)
        return error;
    if (PQsetnonblocking(pg->conn, 1) != 0)
        return -ENOMEM;
    return set_up(pg);
}

static void pg_close(struct store_tx *tx) {
    struct pg *pg = pg_of(tx);
    PQfinish(pg->conn);
    mem_free(pg->statements);
    mem_free(pg);
}

static int pg_connect(const struct store_target *target, const struct store_times *times,
                      struct store_tx **ret_tx, struct buf *reason) {
    struct pg *pg = mem_alloc(sizeof *pg);
    if (pg == NULL)
        return -ENOMEM;
    pg->tx.driver = &store_postgres;
    pg->tx.log = target->log;
    pg->times = *times;
    list_init(&pg->tx.rows);
    int error = start(pg, target);
    if (error == STORE_E_URL)
        /* libpq's words about it would have parts of it in them. */
        buf_append_cstr(reason, "the URL of the store is not understood: "
                                "postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=verify-full");
    else if (error != 0)
        tell_why(pg, error, reason);
    if (error != 0) {
        pg_close(&pg->tx);
        return error == -ETIMEDOUT ? STORE_E_GONE : error;
    }
    *ret_tx = &pg->tx;
    return 0;
}

static bool pg_is_alive(const struct store_tx *tx) {
    const struct pg *pg = (const struct pg *)tx;
    return !pg->is_lost && PQstatus(pg->conn) == CONNECTION_OK;
}

static void pg_describe(const struct store_tx *tx, struct buf *out) {
    const struct pg *pg = (const struct pg *)tx;
    const char *version = PQparameterStatus(pg->conn, "server_version");
    struct slice number = SLICE_EMPTY, rest;
    (void)slice_cut(slice_from_cstr(version), ' ', &number, &rest);
    buf_printf(out, "PostgreSQL %.*s at %s:%s/%s", SLICE_ARGS(number), PQhost(pg->conn),
               PQport(pg->conn), PQdb(pg->conn));
}

/* --- transactions --- */

MUST_CHECK static int run(struct pg *pg, const char *sql) {
    CLEANUP(pg_clear) PGresult *result = NULL;
    return pg_run(pg, sql, &result);
}

static void pg_rollback(struct store_tx *tx) {
    struct pg *pg = pg_of(tx);
    if (pg->is_lost || PQtransactionStatus(pg->conn) == PQTRANS_IDLE)
        return;
    if (run(pg, "ROLLBACK") != 0)
        pg->is_lost = true;
}

/* `n_rows`: that the last statement has to answer with; what is not there cannot be locked. */
MUST_CHECK static int begin_with(struct store_tx *tx, const char *sql, int n_rows) {
    CLEANUP(pg_clear) PGresult *result = NULL;
    int error = pg_run(pg_of(tx), sql, &result);
    if (error == 0 && PQntuples(result) != n_rows)
        error = STORE_E_BROKEN;
    if (error != 0)
        pg_rollback(tx);
    return error;
}

static int pg_begin(struct store_tx *tx, enum store_kind kind) {
    if (kind == STORE_READ)
        return begin_with(tx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", 0);
    return begin_with(tx,
                      "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
                      " SELECT number FROM changes WHERE id = 1 FOR UPDATE",
                      1);
}

static int pg_commit(struct store_tx *tx) {
    struct pg *pg = pg_of(tx);
    CLEANUP(pg_clear) PGresult *result = NULL;
    int error = pg_run(pg, "COMMIT", &result);
    if (error != 0) {
        tx->is_unsure = pg->is_lost && tx->has_written;
        return error;
    }
    /* That is its answer when the transaction had failed before. */
    return strcmp(PQcmdStatus(result), "COMMIT") == 0 ? 0 : -EIO;
}

static int pg_now(struct store_tx *tx, uint64_t *ret_now_ms) {
    CLEANUP(pg_clear) PGresult *result = NULL;
    int error =
        pg_run(pg_of(tx), "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", &result);
    if (error != 0)
        return error;
    int64_t now = pg_number(result, 0, 0);
    if (now <= 0)
        return -EIO;
    *ret_now_ms = (uint64_t)now;
    return 0;
}

/* Asked first on each connection, so that a store that is not there is no error of the server. */
MUST_CHECK static int find_out(struct pg *pg, enum store_found *ret_found) {
    CLEANUP(pg_clear) PGresult *result = NULL;
    int error = pg_run(pg,
                       "SELECT CASE WHEN to_regclass('cardea.store_version') IS NOT NULL THEN 1"
                       " WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_class c"
                       " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                       " WHERE n.nspname = 'cardea') THEN 2 ELSE 0 END",
                       &result);
    if (error != 0)
        return error;
    int64_t found = pg_number(result, 0, 0);
    *ret_found = found == 0   ? STORE_FOUND_NOTHING
                 : found == 1 ? STORE_FOUND_OURS
                              : STORE_FOUND_OTHERS;
    return 0;
}

static int pg_find(struct store_tx *tx, enum store_found *ret_found) {
    return find_out(pg_of(tx), ret_found);
}

static int pg_look(struct store_tx *tx, uint64_t *ret_number, uint64_t *ret_version) {
    struct pg *pg = pg_of(tx);
    CLEANUP(pg_clear) PGresult *result = NULL;
    enum store_found found = STORE_FOUND_OURS;
    int error = pg->is_found ? 0 : find_out(pg, &found);
    if (error == 0 && found != STORE_FOUND_OURS)
        return STORE_E_OLDER;
    pg->is_found = error == 0;
    if (error == 0)
        error = pg_run(pg,
                       "SELECT changes.number, store_version.version FROM changes, store_version"
                       " WHERE changes.id = 1 AND store_version.id = 1",
                       &result);
    if (error != 0)
        return error;
    if (PQntuples(result) != 1)
        return STORE_E_BROKEN;
    int64_t number = pg_number(result, 0, 0), version = pg_number(result, 0, 1);
    *ret_number = number > 0 ? (uint64_t)number : 0;
    *ret_version = version > 0 ? (uint64_t)version : 0;
    return 0;
}

static int pg_check(struct store_tx *tx, struct buf *reason) {
    (void)tx;
    (void)reason;
    return 0; /* the server's own business */
}

/* --- the schema --- */

static int pg_begin_migration(struct store_tx *tx) {
    return begin_with(tx, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;" MIGRATION_LOCK, 1);
}

static const char *const foundation[] = {
    /* IF NOT EXISTS would need the right to make one even where there is one. */
    "DO $$BEGIN IF to_regnamespace('cardea') IS NULL THEN CREATE SCHEMA cardea; END IF; END$$",
    STORE_VERSION_TABLE,
    STORE_VERSION_ROW,
    NULL,
};

const struct store_driver store_postgres = {
    .name = "PostgreSQL",
    .n_threads = 4,
    .is_shared = true,
    .connect = pg_connect,
    .close = pg_close,
    .is_alive = pg_is_alive,
    .describe = pg_describe,
    .begin = pg_begin,
    .commit = pg_commit,
    .rollback = pg_rollback,
    .exec = pg_exec,
    .query = pg_query,
    .next = pg_next,
    .value = pg_value,
    .free_rows = pg_free_rows,
    .now = pg_now,
    .look = pg_look,
    .check = pg_check,
    .begin_migration = pg_begin_migration,
    .find = pg_find,
    .foundation = foundation,
};
