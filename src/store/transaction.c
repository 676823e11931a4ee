/* Transactions and statements: what is alike in both databases. */
#include <errno.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "store_private.h"

const struct store_times store_times_usual = {
    .connect_ms = 3000, .statement_ms = 5000, .lock_ms = 3000};
const struct store_times store_times_watch = {
    .connect_ms = 1500, .statement_ms = 1000, .lock_ms = 500};
const struct store_times store_times_long = {
    .connect_ms = 10000, .statement_ms = 600000, .lock_ms = 60000};
const struct store_times store_times_beside = {
    .connect_ms = 3000, .statement_ms = 10000, .lock_ms = 5000};

/* --- statements --- */

/* Some values would be taken by one database and not by the other. */
MUST_CHECK static int check_values(const struct store_value *values, size_t n) {
    if (n > STORE_PARAMETERS)
        return -EINVAL;
    for (size_t i = 0; i < n; i++)
        if (values[i].type == STORE_TEXT &&
            (slice_find_byte(values[i].text, '\0') != SIZE_MAX || !utf8_is_valid(values[i].text)))
            return -EINVAL;
    return 0;
}

static int remember(struct store_tx *tx, int error) {
    if (error != 0 && tx->error == 0)
        tx->error = error;
    return error;
}

MUST_CHECK static int may_go_on(struct store_tx *tx, const struct store_value *values, size_t n) {
    if (tx->error != 0)
        return tx->error;
    return remember(tx, check_values(values, n));
}

int store_exec(struct store_tx *tx, const char *sql, const struct store_value *values,
               size_t n_values, uint64_t *ret_changed) {
    uint64_t changed = 0;
    int error = may_go_on(tx, values, n_values);
    if (error != 0)
        return error;
    error = tx->driver->exec(tx, sql, values, n_values, &changed);
    if (error == 0 && ret_changed != NULL)
        *ret_changed = changed;
    return remember(tx, error);
}

static int query(struct store_tx *tx, const char *sql, const struct store_value *values,
                 size_t n_values, bool is_streamed, struct store_rows **ret_rows) {
    struct store_rows *rows = NULL;
    int error = may_go_on(tx, values, n_values);
    if (error != 0)
        return error;
    error = tx->driver->query(tx, sql, values, n_values, is_streamed, &rows);
    if (error != 0)
        return remember(tx, error);
    rows->tx = tx;
    list_push_back(&tx->rows, &rows->link);
    *ret_rows = rows;
    return 0;
}

int store_query(struct store_tx *tx, const char *sql, const struct store_value *values,
                size_t n_values, struct store_rows **ret_rows) {
    return query(tx, sql, values, n_values, false, ret_rows);
}

int store_stream(struct store_tx *tx, const char *sql, struct store_rows **ret_rows) {
    return query(tx, sql, NULL, 0, true, ret_rows);
}

bool store_rows_next(struct store_rows *rows) {
    bool has = false;
    if (rows == NULL || rows->is_over)
        return false;
    rows->error = rows->tx->error;
    if (rows->error == 0)
        rows->error = remember(rows->tx, rows->tx->driver->next(rows, &has));
    rows->is_over = rows->error != 0 || !has;
    return !rows->is_over;
}

struct store_value store_rows_value(const struct store_rows *rows, int column) {
    return rows->is_over ? store_null() : rows->tx->driver->value(rows, column);
}

struct slice store_rows_text(const struct store_rows *rows, int column) {
    struct store_value value = store_rows_value(rows, column);
    return value.type == STORE_TEXT ? value.text : SLICE_EMPTY;
}

int64_t store_rows_number(const struct store_rows *rows, int column) {
    struct store_value value = store_rows_value(rows, column);
    return value.type == STORE_NUMBER ? value.number : 0;
}

bool store_rows_is_null(const struct store_rows *rows, int column) {
    return store_rows_value(rows, column).type == STORE_NULL;
}

int store_rows_end(struct store_rows *rows) {
    if (rows == NULL)
        return 0;
    int error = rows->error;
    list_remove(&rows->link);
    rows->tx->driver->free_rows(rows);
    return error;
}

int store_get_number(struct store_tx *tx, const char *sql, uint64_t *ret_number) {
    struct store_rows *rows = NULL;
    int64_t number = 0;
    int error = store_query(tx, sql, NULL, 0, &rows);
    if (error == 0 && store_rows_next(rows))
        number = store_rows_number(rows, 0);
    int end = store_rows_end(rows);
    error = error != 0 ? error : end;
    if (error == 0)
        *ret_number = number > 0 ? (uint64_t)number : 0;
    return error;
}

int store_now_ms(struct store_tx *tx, uint64_t *ret_now_ms) {
    return tx->error != 0 ? tx->error : remember(tx, tx->driver->now(tx, ret_now_ms));
}

/* --- transactions --- */

/* What the work has left open. */
static void end_rows(struct store_tx *tx) {
    struct list_link *link;
    while ((link = list_pop_front(&tx->rows)) != NULL)
        tx->driver->free_rows(CONTAINER_OF(link, struct store_rows, link));
}

int store_finish(struct store_tx *tx, int error) {
    end_rows(tx);
    /* The work may have made a result of its own of an error, unless the transaction is to be run
     * again. */
    if (tx->error != 0 && (error == 0 || tx->error == STORE_BUSY || tx->error == STORE_E_GONE))
        error = tx->error;
    if (error == 0)
        error = tx->driver->commit(tx);
    if (error != 0 && tx->is_open)
        tx->driver->rollback(tx);
    tx->is_open = false;
    return error;
}

MUST_CHECK static int count_up(struct store_tx *tx, uint64_t *ret_number) {
    int error = store_get_number(
        tx, "UPDATE changes SET number = number + 1 WHERE id = 1 RETURNING number", ret_number);
    return error == 0 && *ret_number == 0 ? STORE_E_BROKEN : error; /* somebody deleted the row */
}

int store_attempt(struct store_tx *tx, enum store_kind kind, store_work_fn *work, void *context,
                  uint64_t *ret_number) {
    uint64_t number = 0;
    tx->kind = kind;
    tx->error = 0;
    tx->has_written = tx->is_unsure = tx->is_of_work = false;
    int error = tx->driver->begin(tx, kind);
    if (error != 0)
        return error;
    tx->is_open = true;
    error = work(tx, context);
    tx->is_of_work = error != 0 && tx->error == 0;
    end_rows(tx);
    if (error == 0 && tx->error == 0 && tx->has_written && kind != STORE_NOTE)
        error = count_up(tx, &number);
    error = store_finish(tx, error);
    if (error == 0)
        *ret_number = number;
    return error;
}

void store_tx_closep(struct store_tx **tx) {
    if (*tx == NULL)
        return;
    end_rows(*tx);
    (*tx)->driver->close(*tx);
    *tx = NULL;
}

const char *store_error_text(int error) {
    static const struct {
        int error;
        const char *text;
    } texts[] = {
        {STORE_E_GONE, "the database does not answer"},
        {STORE_BUSY, "another process is writing to it and does not come to an end"},
        {STORE_E_CONFLICT, "a row is there already, or one that it refers to is not"},
        {STORE_E_NEWER, "its schema is newer than this program"},
        {STORE_E_OLDER, "its schema is older than this program"},
        {STORE_E_BROKEN, "it is damaged, or has tables that are not Cardea's"},
        {-ENOSPC, "the disk is full"},
        {-EROFS, "it can only be read"},
        {-EACCES, "the database does not let this account do that"},
        {-EINVAL, "a value is no text that a database takes"},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].error == error)
            return texts[i].text;
    return error < 0 ? strerror(-error) : "it failed";
}
