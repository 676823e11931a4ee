/* Statements and rows of PostgreSQL. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "postgres_private.h"

/* Types of values and columns: pg_type.dat. */
enum {
    TYPE_BOOL = 16,
    TYPE_BYTEA = 17,
    TYPE_NAME = 19,
    TYPE_INT8 = 20,
    TYPE_TEXT = 25,
    TYPE_VARCHAR = 1043
};

struct pg_rows {
    struct store_rows rows;
    PGresult *result;
    int row;          /* -1: before the first */
    bool is_streamed; /* a result for each row */
};

/* --- values --- */

enum { NUMBER_CHARS = 24 };

/* As libpq takes them: as texts that end with a NUL. */
struct arguments {
    const char *texts[STORE_PARAMETERS];
    Oid types[STORE_PARAMETERS];
    char numbers[STORE_PARAMETERS][NUMBER_CHARS];
    char *copies; /* of the texts, one behind the other */
    size_t copied;
};

static void arguments_deinit(struct arguments *arguments) {
    if (arguments->copies != NULL)
        memset(arguments->copies, 0, arguments->copied);
    mem_free(arguments->copies);
}

MUST_CHECK static int arguments_init(struct arguments *arguments, const struct store_value *values,
                                     size_t n) {
    size_t size = 1, at = 0;
    for (size_t i = 0; i < n; i++)
        size += values[i].type == STORE_TEXT ? values[i].text.len + 1 : 0;
    arguments->copies = mem_alloc(size);
    arguments->copied = size;
    if (arguments->copies == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct store_value *value = &values[i];
        switch (value->type) {
        case STORE_NULL:
            break;
        case STORE_NUMBER:
            snprintf(arguments->numbers[i], NUMBER_CHARS, "%lld", (long long)value->number);
            arguments->texts[i] = arguments->numbers[i];
            arguments->types[i] = TYPE_INT8;
            break;
        case STORE_TEXT:
            arguments->texts[i] = arguments->copies + at;
            arguments->types[i] = TYPE_TEXT;
            if (value->text.len != 0)
                memcpy(arguments->copies + at, value->text.ptr, value->text.len);
            at += value->text.len + 1;
            break;
        }
    }
    return 0;
}

/* --- statements --- */

enum { NAME_CHARS = 24 };

static void write_name(size_t i, char name[static NAME_CHARS]) {
    snprintf(name, NAME_CHARS, "s%zu", i);
}

MUST_CHECK static int make_room(struct pg *pg) {
    if (pg->n_statements < pg->cap_statements)
        return 0;
    size_t cap = pg->cap_statements == 0 ? 32 : pg->cap_statements * 2;
    if (cap > STORE_STATEMENTS)
        return -E2BIG;
    void *grown = mem_realloc(pg->statements, cap * sizeof *pg->statements);
    if (grown == NULL)
        return -ENOMEM;
    pg->statements = grown;
    pg->cap_statements = cap;
    return 0;
}

/* The parameters that a text has: their number; -EINVAL for a gap. PostgreSQL would take more
 * values than that. */
MUST_CHECK static int count_parameters(const char *sql, size_t *ret_n) {
    uint64_t seen = 0;
    bool is_quoted = false;
    for (const char *at = sql; *at != '\0'; at++) {
        is_quoted = is_quoted != (*at == '\'');
        if (is_quoted || *at != '$' || at[1] < '1' || at[1] > '9')
            continue;
        unsigned n = (unsigned)(at[1] - '0');
        if (at[2] >= '0' && at[2] <= '9')
            n = n * 10 + (unsigned)(at[2] - '0');
        if (n > STORE_PARAMETERS)
            return -EINVAL;
        seen |= UINT64_C(1) << n;
    }
    size_t n = 0;
    while ((seen >> (n + 1) & 1) != 0)
        n++;
    if (seen >> (n + 1) != 0)
        return -EINVAL;
    *ret_n = n;
    return 0;
}

static const struct pg_statement *find(const struct pg *pg, const char *sql, size_t *ret_i) {
    for (size_t i = 0; i < pg->n_statements; i++) {
        if (pg->statements[i].sql != sql)
            continue;
        *ret_i = i;
        return &pg->statements[i];
    }
    return NULL;
}

/* Its types are those of the values of the first call. */
MUST_CHECK static int prepare(struct pg *pg, const char *sql, const struct arguments *arguments,
                              size_t n_values, char name[static NAME_CHARS]) {
    struct pg_statement statement = {.sql = sql};
    size_t i = pg->n_statements;
    const struct pg_statement *known = find(pg, sql, &i);
    write_name(i, name);
    if (known != NULL)
        return known->n_parameters == n_values ? 0 : -EINVAL;
    int error = count_parameters(sql, &statement.n_parameters);
    if (error == 0 && statement.n_parameters != n_values)
        error = -EINVAL;
    int room = error == 0 ? make_room(pg) : error;
    if (room == -E2BIG)
        name[0] = '\0'; /* the one without a name is not kept */
    else if (room != 0)
        return room;
    CLEANUP(pg_clear) PGresult *result = NULL;
    int sent = PQsendPrepare(pg->conn, name, sql, (int)n_values, arguments->types);
    error = pg_wait_all(pg, sent, sql, &result);
    if (error == 0 && room == 0)
        pg->statements[pg->n_statements++] = statement;
    return error;
}

/* Sends it with its values. *ret_sent: what libpq said to that. */
MUST_CHECK static int send(struct pg *pg, const char *sql, const struct store_value *values,
                           size_t n_values, int *ret_sent) {
    CLEANUP(arguments_deinit) struct arguments arguments = {.copies = NULL};
    char name[NAME_CHARS];
    int error = arguments_init(&arguments, values, n_values);
    if (error == 0)
        error = prepare(pg, sql, &arguments, n_values, name);
    if (error == 0)
        *ret_sent =
            PQsendQueryPrepared(pg->conn, name, (int)n_values, arguments.texts, NULL, NULL, 0);
    return error;
}

static uint64_t count_of(PGresult *result) {
    uint64_t n = 0;
    return slice_to_u64(slice_from_cstr(PQcmdTuples(result)), &n) == 0 ? n : 0;
}

/* What has changed rows says so, also when it answers with some. */
static void note_written(struct pg *pg, PGresult *result) {
    if (strncmp(PQcmdStatus(result), "SELECT", 6) != 0 && count_of(result) > 0)
        pg->tx.has_written = true;
}

int pg_exec(struct store_tx *tx, const char *sql, const struct store_value *values, size_t n_values,
            uint64_t *ret_changed) {
    struct pg *pg = pg_of(tx);
    CLEANUP(pg_clear) PGresult *result = NULL;
    int sent = 0;
    int error = send(pg, sql, values, n_values, &sent);
    if (error == 0)
        error = pg_wait_all(pg, sent, sql, &result);
    if (error != 0)
        return error;
    note_written(pg, result);
    *ret_changed = PQresultStatus(result) == PGRES_COMMAND_OK ? count_of(result) : 0;
    return 0;
}

/* --- rows --- */

static struct pg_rows *rows_of(struct store_rows *rows) {
    return CONTAINER_OF(rows, struct pg_rows, rows);
}

int pg_query(struct store_tx *tx, const char *sql, const struct store_value *values,
             size_t n_values, bool is_streamed, struct store_rows **ret_rows) {
    struct pg *pg = pg_of(tx);
    int sent = 0;
    struct pg_rows *rows = mem_alloc(sizeof *rows);
    if (rows == NULL)
        return -ENOMEM;
    rows->rows.tx = tx;
    rows->row = -1;
    rows->is_streamed = is_streamed;
    int error = send(pg, sql, values, n_values, &sent);
    if (error == 0 && is_streamed && sent != 0)
        (void)PQsetSingleRowMode(pg->conn);
    else if (error == 0)
        error = pg_wait_all(pg, sent, sql, &rows->result);
    if (error != 0) {
        mem_free(rows);
        return error;
    }
    if (rows->result != NULL)
        note_written(pg, rows->result);
    *ret_rows = &rows->rows;
    return 0;
}

/* A result for each row, then one without, then none. */
MUST_CHECK static int next_streamed(struct pg_rows *rows, bool *ret_has) {
    struct pg *pg = pg_of(rows->rows.tx);
    pg_clear(&rows->result);
    int error = pg_wait_result(pg, &rows->result);
    if (error == 0 && rows->result != NULL)
        error = pg_error(pg, rows->result, "");
    if (error == 0 && rows->result != NULL && PQntuples(rows->result) == 0) {
        pg_clear(&rows->result);
        error = pg_wait_result(pg, &rows->result);
    }
    rows->row = 0;
    if (error == 0)
        *ret_has = rows->result != NULL;
    return error;
}

int pg_next(struct store_rows *base, bool *ret_has) {
    struct pg_rows *rows = rows_of(base);
    if (rows->is_streamed)
        return next_streamed(rows, ret_has);
    rows->row++;
    *ret_has = rows->row < PQntuples(rows->result);
    return 0;
}

int64_t pg_number(const PGresult *result, int row, int column) {
    char *end = NULL;
    const char *text = PQgetvalue(result, row, column);
    errno = 0;
    long long number = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' ? number : 0;
}

struct store_value pg_value(const struct store_rows *base, int column) {
    const struct pg_rows *rows = (const struct pg_rows *)base;
    const PGresult *result = rows->result;
    if (column < 0 || column >= PQnfields(result) || PQgetisnull(result, rows->row, column) != 0)
        return store_null();
    const char *text = PQgetvalue(result, rows->row, column);
    int len = PQgetlength(result, rows->row, column);
    switch (PQftype(result, column)) {
    case TYPE_BOOL:
        return store_number(text[0] == 't');
    case TYPE_BYTEA: /* "\\x" and hexadecimal digits */
    case TYPE_TEXT:
    case TYPE_NAME:
    case TYPE_VARCHAR:
        return store_text(slice_make(text, (size_t)len));
    default:
        return store_number(pg_number(result, rows->row, column));
    }
}

void pg_free_rows(struct store_rows *base) {
    struct pg_rows *rows = rows_of(base);
    /* What of a stream was not read is in the way of what comes next. */
    if (rows->is_streamed && !base->is_over)
        pg_of(base->tx)->is_lost = true;
    PQclear(rows->result);
    mem_free(rows);
}
