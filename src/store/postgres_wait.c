/* Waiting for PostgreSQL (postgres_private.h), and what its errors mean. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "postgres_private.h"

/* False: the time is over. */
static bool wait_for(PGconn *conn, short events, uint64_t until) {
    for (;;) {
        uint64_t now = clock_monotonic_ms();
        struct pollfd fd = {.fd = PQsocket(conn), .events = events};
        if (fd.fd < 0)
            return true; /* libpq says what is wrong */
        if (now >= until)
            return false;
        int n = poll(&fd, 1, (int)(until - now));
        if (n > 0 || (n < 0 && errno != EINTR))
            return true;
    }
}

int pg_wait_connected(PGconn *conn, unsigned for_ms) {
    uint64_t until = clock_monotonic_ms() + for_ms;
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED || PQstatus(conn) == CONNECTION_BAD)
            return STORE_E_GONE;
        if (!wait_for(conn, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, until))
            return -ETIMEDOUT;
        status = PQconnectPoll(conn);
    }
    return 0;
}

static int lose(struct pg *pg) {
    pg->is_lost = true;
    return STORE_E_GONE;
}

/* The server ends a statement itself when it takes too long: that answer is worth waiting for. */
enum { ANSWER_MS = 1000 };

int pg_wait_result(struct pg *pg, PGresult **ret_result) {
    uint64_t until = clock_monotonic_ms() + pg->times.statement_ms + ANSWER_MS;
    int unsent;
    while ((unsent = PQflush(pg->conn)) == 1) {
        if (!wait_for(pg->conn, POLLIN | POLLOUT, until) || PQconsumeInput(pg->conn) == 0)
            return lose(pg);
    }
    if (unsent != 0)
        return lose(pg);
    while (PQisBusy(pg->conn) != 0) {
        if (!wait_for(pg->conn, POLLIN, until) || PQconsumeInput(pg->conn) == 0)
            return lose(pg);
    }
    *ret_result = PQgetResult(pg->conn);
    return 0;
}

/* --- errors --- */

/* SQLSTATE, or its class. Appendix A of the manual. */
static const struct {
    const char *state;
    int error;
    bool is_lost; /* another connection may help */
} states[] = {
    {"08P01", -EINVAL, false},
    {"08", STORE_E_GONE, true},
    {"0A000", STORE_E_GONE, true}, /* a plan of an older schema */
    {"21", -EINVAL, false},
    {"22", -EINVAL, false},
    {"23", STORE_E_CONFLICT, false},
    {"25006", -EROFS, false},
    {"25P03", STORE_E_GONE, true}, /* idle for too long */
    {"26", STORE_E_GONE, true},    /* somebody took our statements away */
    {"28", -EACCES, true},
    {"40", STORE_BUSY, false},
    {"42501", -EACCES, false},
    {"42601", -EINVAL, false},
    {"42P02", -EINVAL, false},
    {"42P18", -EINVAL, false},
    {"42", STORE_E_BROKEN, false},
    {"3D", STORE_E_GONE, true},
    {"3F", STORE_E_BROKEN, false},
    {"53100", -ENOSPC, false},
    {"53200", -ENOMEM, false},
    {"53", STORE_E_GONE, true},
    {"54", -E2BIG, false},
    {"55P03", STORE_BUSY, false},
    {"57014", STORE_E_GONE, false},
    {"57", STORE_E_GONE, true},
    {"58", -EIO, false},
    {"XX001", STORE_E_BROKEN, false},
    {"XX002", STORE_E_BROKEN, false},
};

int pg_error(struct pg *pg, const PGresult *result, const char *sql) {
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_SINGLE_TUPLE)
        return 0;
    if (status == PGRES_EMPTY_QUERY)
        return -EINVAL;
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (state == NULL)
        return lose(pg);
    int error = -EIO;
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        if (strncmp(state, states[i].state, strlen(states[i].state)) != 0)
            continue;
        error = states[i].error;
        pg->is_lost = pg->is_lost || states[i].is_lost;
        break;
    }
    /* Without the server's words, which may have values in them. */
    if (error != STORE_E_CONFLICT && error != STORE_BUSY && error != -ENOSPC && error != -EROFS)
        log_write(pg->tx.log, LOG_WARN, "store", "PostgreSQL refuses", LOG_CSTR("state", state),
                  LOG_CSTR("statement", sql));
    return error;
}

void pg_clear(PGresult **result) {
    PQclear(*result);
    *result = NULL;
}

int pg_wait_all(struct pg *pg, int sent, const char *sql, PGresult **ret_result) {
    CLEANUP(pg_clear) PGresult *last = NULL;
    int error = 0;
    if (sent == 0) {
        if (PQstatus(pg->conn) == CONNECTION_BAD)
            return lose(pg);
        pg->is_lost = true; /* there is no memory, or something is still under way */
        return -ENOMEM;
    }
    for (;;) {
        PGresult *result = NULL;
        int waited = pg_wait_result(pg, &result);
        if (waited != 0)
            return waited;
        if (result == NULL)
            break;
        ExecStatusType status = PQresultStatus(result);
        if (error == 0)
            error = pg_error(pg, result, sql);
        pg_clear(&last);
        last = result;
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
            return lose(pg); /* nobody has asked for that */
    }
    if (error == 0 && last == NULL)
        return lose(pg);
    if (error == 0)
        *ret_result = TAKE(last);
    return error;
}

int pg_run(struct pg *pg, const char *sql, PGresult **ret_result) {
    return pg_wait_all(pg, PQsendQuery(pg->conn, sql), sql, ret_result);
}

/* --- COPY --- */

enum { CHUNK = 64 * 1024 };

/* As much as goes, and then more when there is room again. */
MUST_CHECK static int put(struct pg *pg, struct slice rows) {
    uint64_t until = clock_monotonic_ms() + pg->times.statement_ms + ANSWER_MS;
    while (rows.len != 0) {
        struct slice chunk = slice_sub(rows, 0, CHUNK);
        int sent = PQputCopyData(pg->conn, chunk.ptr, (int)chunk.len);
        if (sent < 0)
            return lose(pg);
        if (sent == 1)
            rows = slice_from(rows, chunk.len);
        int unsent = PQflush(pg->conn);
        if (unsent < 0)
            return lose(pg);
        if (unsent == 1 &&
            (!wait_for(pg->conn, POLLIN | POLLOUT, until) || PQconsumeInput(pg->conn) == 0))
            return lose(pg);
    }
    return 0;
}

int pg_copy_in(struct pg *pg, const char *sql, struct slice rows) {
    CLEANUP(pg_clear) PGresult *begun = NULL;
    CLEANUP(pg_clear) PGresult *result = NULL;
    if (PQsendQuery(pg->conn, sql) == 0)
        return lose(pg);
    int error = pg_wait_result(pg, &begun);
    if (error != 0)
        return error;
    if (PQresultStatus(begun) != PGRES_COPY_IN) {
        error = begun != NULL ? pg_error(pg, begun, sql) : lose(pg);
        pg->is_lost = true; /* what follows it is not read */
        return error != 0 ? error : -EINVAL;
    }
    error = put(pg, rows);
    if (error != 0)
        return error;
    int sent;
    while ((sent = PQputCopyEnd(pg->conn, NULL)) == 0)
        if (!wait_for(pg->conn, POLLOUT, clock_monotonic_ms() + ANSWER_MS))
            return lose(pg);
    return pg_wait_all(pg, sent == 1, sql, &result);
}
