/* Statements and rows of SQLite. */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "sqlite_private.h"

struct lite_rows {
    struct store_rows rows;
    struct lite_statement own;   /* where the kept one is in use, or there is no room */
    struct lite_statement *kept; /* NULL: it is `own` */
    sqlite3_stmt *handle;
    int first; /* what the first step gave */
    bool is_begun;
};

/* --- statements --- */

MUST_CHECK static int find_places(struct lite_statement *statement) {
    int n = sqlite3_bind_parameter_count(statement->handle);
    if (n > STORE_PARAMETERS)
        return -EINVAL;
    for (int i = 0; i < n; i++) {
        char name[8];
        snprintf(name, sizeof name, "$%d", i + 1);
        statement->places[i] = sqlite3_bind_parameter_index(statement->handle, name);
        if (statement->places[i] == 0)
            return -EINVAL; /* another name, or a gap */
    }
    return 0;
}

MUST_CHECK static int prepare(struct lite *lite, const char *sql,
                              struct lite_statement *ret_statement) {
    struct lite_statement statement = {.sql = sql};
    const char *rest = NULL;
    if (sqlite3_prepare_v3(lite->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement.handle,
                           &rest) != SQLITE_OK)
        return lite_error(lite, sql);
    int error = statement.handle == NULL || rest[0] != '\0' ? -EINVAL : find_places(&statement);
    if (error != 0) {
        (void)sqlite3_finalize(statement.handle);
        return error;
    }
    *ret_statement = statement;
    return 0;
}

/* NULL: there is no room. */
static struct lite_statement *keep(struct lite *lite, const struct lite_statement *statement) {
    if (lite->n_statements == lite->cap_statements) {
        size_t cap = lite->cap_statements == 0 ? 32 : lite->cap_statements * 2;
        if (cap > STORE_STATEMENTS)
            return NULL;
        /* Rows point to what is in use: it must not move. */
        for (size_t i = 0; i < lite->n_statements; i++)
            if (lite->statements[i].is_used)
                return NULL;
        void *grown = mem_realloc(lite->statements, cap * sizeof *lite->statements);
        if (grown == NULL)
            return NULL;
        lite->statements = grown;
        lite->cap_statements = cap;
    }
    lite->statements[lite->n_statements] = *statement;
    return &lite->statements[lite->n_statements++];
}

static struct lite_statement *find(struct lite *lite, const char *sql) {
    for (size_t i = 0; i < lite->n_statements; i++)
        if (lite->statements[i].sql == sql)
            return &lite->statements[i];
    return NULL;
}

/* *ret_kept; or *own where it is not kept. */
MUST_CHECK static int get(struct lite *lite, const char *sql, struct lite_statement *own,
                          struct lite_statement **ret_kept) {
    struct lite_statement *kept = find(lite, sql);
    bool is_known = kept != NULL;
    if (is_known && !kept->is_used) {
        *ret_kept = kept;
        return 0;
    }
    int error = prepare(lite, sql, own);
    if (error != 0)
        return error;
    kept = is_known ? NULL : keep(lite, own);
    if (kept != NULL)
        own->handle = NULL;
    *ret_kept = kept;
    return 0;
}

void lite_forget_statements(struct lite *lite) {
    for (size_t i = 0; i < lite->n_statements; i++)
        (void)sqlite3_finalize(lite->statements[i].handle);
    mem_free(lite->statements);
    lite->statements = NULL;
    lite->n_statements = lite->cap_statements = 0;
}

static int bind_one(sqlite3_stmt *handle, int place, const struct store_value *value) {
    switch (value->type) {
    case STORE_NULL:
        return sqlite3_bind_null(handle, place);
    case STORE_NUMBER:
        return sqlite3_bind_int64(handle, place, value->number);
    case STORE_TEXT:
        break;
    }
    /* A NULL pointer would be a NULL. */
    const char *text = value->text.len != 0 ? value->text.ptr : "";
    return sqlite3_bind_text64(handle, place, text, value->text.len, SQLITE_TRANSIENT, SQLITE_UTF8);
}

MUST_CHECK static int bind(struct lite *lite, const struct lite_statement *statement,
                           const struct store_value *values, size_t n_values) {
    if ((size_t)sqlite3_bind_parameter_count(statement->handle) != n_values)
        return -EINVAL;
    if (lite->tx.kind == STORE_READ && sqlite3_stmt_readonly(statement->handle) == 0)
        return -EROFS;
    for (size_t i = 0; i < n_values; i++)
        if (bind_one(statement->handle, statement->places[i], &values[i]) != SQLITE_OK)
            return lite_error(lite, statement->sql);
    return 0;
}

static void let_go(sqlite3_stmt *handle) {
    (void)sqlite3_reset(handle);
    (void)sqlite3_clear_bindings(handle); /* they may be secrets */
}

MUST_CHECK static int step_all(struct lite *lite, const struct lite_statement *statement) {
    int code;
    do
        code = sqlite3_step(statement->handle);
    while (code == SQLITE_ROW);
    return code == SQLITE_DONE ? 0 : lite_error(lite, statement->sql);
}

int lite_exec(struct store_tx *tx, const char *sql, const struct store_value *values,
              size_t n_values, uint64_t *ret_changed) {
    struct lite *lite = lite_of(tx);
    struct lite_statement own = {.handle = NULL}, *kept = NULL;
    int error = get(lite, sql, &own, &kept);
    if (error != 0)
        return error;
    struct lite_statement *statement = kept != NULL ? kept : &own;
    error = bind(lite, statement, values, n_values);
    if (error == 0)
        error = step_all(lite, statement);
    if (error == 0 && sqlite3_stmt_readonly(statement->handle) == 0) {
        int changed = sqlite3_changes(lite->db);
        *ret_changed = changed > 0 ? (uint64_t)changed : 0;
        tx->has_written = tx->has_written || changed > 0;
    }
    let_go(statement->handle);
    (void)sqlite3_finalize(own.handle);
    return error;
}

int lite_run(struct lite *lite, const char *sql) {
    return sqlite3_exec(lite->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : lite_error(lite, sql);
}

int lite_get(struct lite *lite, const char *sql, int64_t *ret_number) {
    sqlite3_stmt *handle = NULL;
    if (sqlite3_prepare_v2(lite->db, sql, -1, &handle, NULL) != SQLITE_OK)
        return lite_error(lite, sql);
    int code = sqlite3_step(handle);
    if (code == SQLITE_ROW)
        *ret_number = sqlite3_column_int64(handle, 0);
    else if (code == SQLITE_DONE)
        *ret_number = 0;
    int error = code == SQLITE_ROW || code == SQLITE_DONE ? 0 : lite_error(lite, sql);
    (void)sqlite3_finalize(handle);
    return error;
}

/* --- rows --- */

static const struct lite_rows *const_rows_of(const struct store_rows *rows) {
    return (const struct lite_rows *)rows;
}

static struct lite_rows *rows_of(struct store_rows *rows) {
    return CONTAINER_OF(rows, struct lite_rows, rows);
}

/* At once, as PostgreSQL does: what writes has written then, whether its rows are looked at or not.
 */
MUST_CHECK static int step_first(struct lite *lite, struct lite_rows *rows) {
    rows->first = sqlite3_step(rows->handle);
    if (rows->first != SQLITE_ROW && rows->first != SQLITE_DONE)
        return lite_error(lite, sqlite3_sql(rows->handle));
    if (sqlite3_stmt_readonly(rows->handle) == 0 &&
        (rows->first == SQLITE_ROW || sqlite3_changes(lite->db) > 0))
        lite->tx.has_written = true;
    return 0;
}

int lite_query(struct store_tx *tx, const char *sql, const struct store_value *values,
               size_t n_values, bool is_streamed, struct store_rows **ret_rows) {
    struct lite *lite = lite_of(tx);
    (void)is_streamed; /* it always is */
    struct lite_rows *rows = mem_alloc(sizeof *rows);
    if (rows == NULL)
        return -ENOMEM;
    int error = get(lite, sql, &rows->own, &rows->kept);
    if (error != 0) {
        mem_free(rows);
        return error;
    }
    struct lite_statement *statement = rows->kept != NULL ? rows->kept : &rows->own;
    rows->handle = statement->handle;
    statement->is_used = true;
    rows->rows.tx = tx;
    error = bind(lite, statement, values, n_values);
    if (error == 0)
        error = step_first(lite, rows);
    if (error != 0) {
        lite_free_rows(&rows->rows);
        return error;
    }
    *ret_rows = &rows->rows;
    return 0;
}

/* What is in a file need not be what could be put into it. */
MUST_CHECK static int check_row(sqlite3_stmt *handle) {
    int n = sqlite3_column_count(handle);
    for (int i = 0; i < n; i++) {
        int type = sqlite3_column_type(handle, i);
        if (type == SQLITE_INTEGER || type == SQLITE_NULL)
            continue;
        if (type != SQLITE_TEXT)
            return STORE_E_BROKEN;
        const void *text = sqlite3_column_text(handle, i);
        if (text == NULL)
            return -ENOMEM;
        struct slice slice = slice_make(text, (size_t)sqlite3_column_bytes(handle, i));
        if (slice_find_byte(slice, '\0') != SIZE_MAX || !utf8_is_valid(slice))
            return STORE_E_BROKEN;
    }
    return 0;
}

int lite_next(struct store_rows *base, bool *ret_has) {
    struct lite_rows *rows = rows_of(base);
    int code = rows->is_begun ? sqlite3_step(rows->handle) : rows->first;
    rows->is_begun = true;
    if (code == SQLITE_DONE) {
        *ret_has = false;
        return 0;
    }
    if (code != SQLITE_ROW)
        return lite_error(lite_of(base->tx), sqlite3_sql(rows->handle));
    int error = check_row(rows->handle);
    *ret_has = error == 0;
    return error;
}

struct store_value lite_value(const struct store_rows *base, int column) {
    sqlite3_stmt *handle = const_rows_of(base)->handle;
    switch (sqlite3_column_type(handle, column)) {
    case SQLITE_INTEGER:
        return store_number(sqlite3_column_int64(handle, column));
    case SQLITE_TEXT:
        break;
    default:
        return store_null();
    }
    const void *text = sqlite3_column_text(handle, column);
    int len = sqlite3_column_bytes(handle, column);
    return store_text(text != NULL && len > 0 ? slice_make(text, (size_t)len) : SLICE_EMPTY);
}

void lite_free_rows(struct store_rows *base) {
    struct lite_rows *rows = rows_of(base);
    let_go(rows->handle);
    if (rows->kept != NULL)
        rows->kept->is_used = false;
    (void)sqlite3_finalize(rows->own.handle);
    mem_free(rows);
}
