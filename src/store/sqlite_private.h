/* What the two files of SQLite share: sqlite.c opens and transacts, sqlite_rows.c has the
 * statements. */
#pragma once

#include <sqlite3.h>

#include "store_private.h"

struct lite_statement {
    const char *sql; /* the address is its name */
    sqlite3_stmt *handle;
    int places[STORE_PARAMETERS]; /* of $1, $2, ... */
    bool is_used;                 /* by rows */
};

struct lite {
    struct store_tx tx;
    sqlite3 *db;
    char *path; /* real */
    struct lite_statement *statements;
    size_t n_statements, cap_statements;
    bool is_gone;   /* the file is another one by now */
    bool is_looked; /* the following are known */
    int64_t data_version;
    uint64_t number, version;
};

static inline struct lite *lite_of(struct store_tx *tx) {
    return CONTAINER_OF(tx, struct lite, tx);
}

/* Of what SQLite said last. */
int lite_error(struct lite *lite, const char *sql);
/* A statement without values, of which no rows are wanted. */
MUST_CHECK int lite_run(struct lite *lite, const char *sql);
/* The first column of the first row; 0 where there is none. */
MUST_CHECK int lite_get(struct lite *lite, const char *sql, int64_t *ret_number);

MUST_CHECK int lite_exec(struct store_tx *tx, const char *sql, const struct store_value *values,
                         size_t n_values, uint64_t *ret_changed);
MUST_CHECK int lite_query(struct store_tx *tx, const char *sql, const struct store_value *values,
                          size_t n_values, bool is_streamed, struct store_rows **ret_rows);
MUST_CHECK int lite_next(struct store_rows *base, bool *ret_has);
struct store_value lite_value(const struct store_rows *base, int column);
void lite_free_rows(struct store_rows *base);
void lite_forget_statements(struct lite *lite);
