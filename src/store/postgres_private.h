/*
 * What the files of PostgreSQL share: postgres.c opens and transacts, postgres_wait.c waits for the
 * server, postgres_rows.c has the statements.
 *
 * libpq's calls that wait for the server would wait for ever for one that stands still. So only
 * those are used that do not, and what they wait for is waited for here, until a deadline. A
 * connection whose answer did not come in time, or whose end is not known, is given up.
 */
#pragma once

#include <libpq-fe.h>

#include "store_private.h"

struct pg_statement {
    const char *sql; /* the address is its name */
    size_t n_parameters;
};

struct pg {
    struct store_tx tx;
    PGconn *conn;
    struct store_times times;
    struct pg_statement *statements; /* the n-th is prepared as "s<n>" */
    size_t n_statements, cap_statements;
    bool is_found; /* our tables are there */
    bool is_lost;  /* it has to be closed */
};

static inline struct pg *pg_of(struct store_tx *tx) {
    return CONTAINER_OF(tx, struct pg, tx);
}

/* --- postgres_wait.c --- */

/* Until the connection stands, or the time is over (STORE_E_GONE). */
MUST_CHECK int pg_wait_connected(PGconn *conn, unsigned for_ms);
/* The next result, NULL at the end. */
MUST_CHECK int pg_wait_result(struct pg *pg, PGresult **ret_result);
/*
 * Of what was sent (`sent`: what the sending function answered): the last result, or the error of
 * the first that is one. The caller clears it.
 */
MUST_CHECK int pg_wait_all(struct pg *pg, int sent, const char *sql, PGresult **ret_result);
/* What a result says: 0 or an error. */
MUST_CHECK int pg_error(struct pg *pg, const PGresult *result, const char *sql);
/* One or several statements without values. */
MUST_CHECK int pg_run(struct pg *pg, const char *sql, PGresult **ret_result);
/* COPY ... FROM STDIN. */
MUST_CHECK int pg_copy_in(struct pg *pg, const char *sql, struct slice rows);
void pg_clear(PGresult **result);

/* --- postgres_rows.c --- */

MUST_CHECK int pg_exec(struct store_tx *tx, const char *sql, const struct store_value *values,
                       size_t n_values, uint64_t *ret_changed);
MUST_CHECK int pg_query(struct store_tx *tx, const char *sql, const struct store_value *values,
                        size_t n_values, bool is_streamed, struct store_rows **ret_rows);
MUST_CHECK int pg_next(struct store_rows *base, bool *ret_has);
struct store_value pg_value(const struct store_rows *base, int column);
void pg_free_rows(struct store_rows *base);
/* A number in a result. */
int64_t pg_number(const PGresult *result, int row, int column);
