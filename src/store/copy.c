/*
 * Copies of whole stores: one transaction that reads all of one store as it was at one moment,
 * around one that writes all of the other. Whoever works with the first one goes on, and whoever
 * works with the second sees either nothing of it or all.
 */
#include <errno.h>

#include "base/limits.h"
#include "store_private.h"
#include "tables.h"

struct copying {
    struct store_tx *from, *to;
    bool replaces, is_restored;
    uint64_t n_rows;
    struct buf *reason;
};

MUST_CHECK static int copy_row(struct store_tx *to, const struct store_table *table,
                               const struct store_rows *rows) {
    struct store_value values[STORE_PARAMETERS];
    uint64_t n = 0;
    for (size_t i = 0; i < table->n_columns; i++)
        values[i] = store_rows_value(rows, (int)i);
    int error = store_exec(to, table->insert, values, table->n_columns, &n);
    return error == 0 && n != 1 ? -EIO : error;
}

MUST_CHECK static int copy_table(struct copying *copying, const struct store_table *table) {
    struct store_rows *rows = NULL;
    int error = store_stream(copying->from, table->select, &rows);
    while (error == 0 && store_rows_next(rows)) {
        error = copy_row(copying->to, table, rows);
        copying->n_rows++;
    }
    int end = store_rows_end(rows);
    return error != 0 ? error : end;
}

/* What is in the way is said; nobody loses users by a command that was meant for another store. */
MUST_CHECK static int check_empty(struct copying *copying) {
    for (size_t i = 0; i < n_store_all_tables; i++) {
        const struct store_table *table = &store_all_tables[i];
        uint64_t n = 0;
        int error = store_get_number(copying->to, table->count, &n);
        if (error != 0)
            return error;
        if (n <= table->n_fresh || table->is_passing)
            continue;
        buf_printf(copying->reason, "it is not empty: there are %llu rows in its table %s",
                   (unsigned long long)n, table->name);
        return STORE_E_CONFLICT;
    }
    return 0;
}

MUST_CHECK static int delete_all(struct store_tx *to) {
    int error = 0;
    for (size_t i = n_store_all_tables; i > 0 && error == 0; i--)
        error = store_exec(to, store_all_tables[i - 1].delete, NULL, 0, NULL);
    return error;
}

MUST_CHECK static int copy_all(struct store_tx *to, void *context) {
    struct copying *copying = context;
    int error = copying->replaces ? 0 : check_empty(copying);
    if (error == 0)
        error = delete_all(to); /* the roles of a fresh one, too */
    for (size_t i = 0; i < n_store_all_tables && error == 0; i++) {
        /* A session that was ended since, a window that was closed must not come back. */
        if (copying->is_restored && store_all_tables[i].is_passing)
            continue;
        error = copy_table(copying, &store_all_tables[i]);
        if (error != 0)
            buf_printf(copying->reason, "table %s: %s", store_all_tables[i].name,
                       store_error_text(error));
    }
    return error;
}

MUST_CHECK static int copy_within(struct store_tx *from, void *context) {
    struct copying *copying = context;
    uint64_t number = 0;
    (void)from;
    return store_attempt(copying->to, STORE_WRITE, copy_all, copying, &number);
}

/* `what`: without the name of the store, which is put before it. */
static int tell(const struct store_tx *tx, int error, const struct buf *what, struct buf *reason) {
    tx->driver->describe(tx, reason);
    buf_append_cstr(reason, ": ");
    buf_append(reason,
               buf_len(what) != 0 ? buf_slice(what) : slice_from_cstr(store_error_text(error)));
    return error == STORE_BUSY ? STORE_E_GONE : error;
}

MUST_CHECK static int open_one(const struct store_target *target, enum store_schema may,
                               struct store_tx **ret_tx, struct buf *reason) {
    CLEANUP(store_tx_closep) struct store_tx *tx = NULL;
    CLEANUP(buf_deinit) struct buf what = BUF_INIT(KIB(4));
    size_t n_done = 0;
    int error = target->driver->connect(target, &store_times_long, &tx, reason);
    if (error != 0)
        return error == -ENOENT ? STORE_E_OLDER : error;
    error = target->driver->check(tx, &what);
    if (error == 0)
        error = store_prepare_schema(tx, may, &n_done, &what);
    if (error != 0)
        return tell(tx, error, &what, reason);
    *ret_tx = TAKE(tx);
    return 0;
}

MUST_CHECK static int check_apart(const struct store_tx *from, const struct store_tx *to,
                                  struct buf *reason) {
    CLEANUP(buf_deinit) struct buf one = BUF_INIT(KIB(8));
    CLEANUP(buf_deinit) struct buf other = BUF_INIT(KIB(8));
    from->driver->describe(from, &one);
    to->driver->describe(to, &other);
    if (buf_error(&one) != 0 || buf_error(&other) != 0)
        return -ENOMEM;
    if (!slice_eq(buf_slice(&one), buf_slice(&other)))
        return 0;
    buf_append_cstr(reason, "a store is not copied onto itself");
    return STORE_E_CONFLICT;
}

MUST_CHECK static int copy(const struct store_target *from, const struct store_target *to,
                           const struct store_options *how, uint64_t *ret_rows,
                           struct buf *reason) {
    CLEANUP(store_tx_closep) struct store_tx *source = NULL;
    CLEANUP(store_tx_closep) struct store_tx *target = NULL;
    CLEANUP(buf_deinit) struct buf what = BUF_INIT(KIB(4));
    uint64_t number = 0;
    int error = open_one(from, STORE_SCHEMA_AS_IT_IS, &source, reason);
    if (error == 0)
        error = open_one(to, STORE_SCHEMA_MIGRATE, &target, reason);
    if (error == 0)
        error = check_apart(source, target, reason);
    if (error != 0)
        return error;
    struct copying copying = {
        .from = source,
        .to = target,
        .replaces = how->replace,
        .is_restored = how->is_restored,
        .reason = &what,
    };
    error = store_attempt(source, STORE_READ, copy_within, &copying, &number);
    if (error != 0)
        return tell(source->error != 0 ? source : target, error, &what, reason);
    if (target->driver->tidy != NULL)
        target->driver->tidy(target);
    *ret_rows = copying.n_rows;
    return 0;
}

int store_copy(const struct store_options *from, const struct store_options *to, uint64_t *ret_rows,
               struct buf *reason) {
    struct store_target source = {.place = NULL}, target = {.place = NULL};
    struct store_options making = *to;
    making.make = true;
    int error = store_target_init(&source, from, reason);
    if (error == 0)
        error = store_target_init(&target, &making, reason);
    source.may_make = false;
    source.is_read_only = true;
    if (error == 0)
        error = copy(&source, &target, to, ret_rows, reason);
    store_target_deinit(&source);
    store_target_deinit(&target);
    return error;
}
