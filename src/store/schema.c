/*
 * The schema and its version. All steps that are missing are one transaction under a lock that one
 * process has at a time: killed at any point, either all of them were done or none; and of several
 * that start at once one does the work, the others wait and find it done.
 */
#include <errno.h>

#include "migrations.h"
#include "store_private.h"

enum store_schema store_schema_of(const struct store_options *options) {
    return options->migrate ? STORE_SCHEMA_MIGRATE
           : options->make  ? STORE_SCHEMA_MAKE
                            : STORE_SCHEMA_AS_IT_IS;
}

MUST_CHECK static int run_all(struct store_tx *tx, const char *const *statements) {
    int error = 0;
    for (size_t i = 0; statements[i] != NULL && error == 0; i++)
        error = store_exec(tx, statements[i], NULL, 0, NULL);
    return error;
}

MUST_CHECK static int get_version(struct store_tx *tx, uint64_t *ret_version) {
    return store_get_number(tx, "SELECT version FROM store_version WHERE id = 1", ret_version);
}

MUST_CHECK static int run_steps(struct store_tx *tx, uint64_t version) {
    int error = 0;
    for (uint64_t i = version; i < n_migrations && error == 0; i++)
        error = run_all(tx, migrations[i].statements);
    if (error == 0)
        error = store_exec(tx, "UPDATE store_version SET version = $1 WHERE id = 1",
                           STORE_VALUES(store_number((int64_t)n_migrations)), NULL);
    return error;
}

static int tell_newer(uint64_t version, struct buf *reason) {
    buf_printf(reason,
               "its schema has version %llu, and this program knows %zu: a newer Cardea has worked "
               "with it",
               (unsigned long long)version, n_migrations);
    return STORE_E_NEWER;
}

static int tell_older(uint64_t version, struct buf *reason) {
    buf_printf(reason,
               "its schema has version %llu, and this program needs %zu: `cardea store migrate` "
               "brings it up to date",
               (unsigned long long)version, n_migrations);
    return STORE_E_OLDER;
}

/* In the transaction, under the lock. */
MUST_CHECK static int prepare(struct store_tx *tx, enum store_schema may, size_t *ret_done,
                              struct buf *reason) {
    enum store_found found = STORE_FOUND_OURS;
    uint64_t version = 0;
    int error = tx->driver->find(tx, &found);
    if (error != 0)
        return error;
    if (found == STORE_FOUND_OTHERS) {
        buf_append_cstr(reason, "there are tables in it that are not Cardea's");
        return STORE_E_BROKEN;
    }
    if (found == STORE_FOUND_NOTHING && may == STORE_SCHEMA_AS_IT_IS) {
        buf_append_cstr(reason, "there is no store in it yet");
        return STORE_E_OLDER;
    }
    error = found == STORE_FOUND_NOTHING ? run_all(tx, tx->driver->foundation)
                                         : get_version(tx, &version);
    if (error != 0)
        return error;
    if (version > n_migrations)
        return tell_newer(version, reason);
    if (version < n_migrations && found == STORE_FOUND_OURS && may != STORE_SCHEMA_MIGRATE)
        return tell_older(version, reason);
    *ret_done = n_migrations - version;
    return *ret_done > 0 ? run_steps(tx, version) : 0;
}

/* Most starts find all as it has to be, and need no lock. */
static bool is_current(struct store_tx *tx) {
    uint64_t number = 0, version = 0;
    return tx->driver->look(tx, &number, &version) == 0 && version == n_migrations;
}

int store_prepare_schema(struct store_tx *tx, enum store_schema may, size_t *ret_done,
                         struct buf *reason) {
    size_t done = 0;
    tx->error = 0;
    if (is_current(tx)) {
        *ret_done = 0;
        return 0;
    }
    if (!tx->driver->is_alive(tx)) {
        buf_append_cstr(reason, store_error_text(STORE_E_GONE));
        return STORE_E_GONE;
    }
    size_t before = buf_len(reason);
    tx->kind = may == STORE_SCHEMA_AS_IT_IS ? STORE_READ : STORE_WRITE;
    int error = may == STORE_SCHEMA_AS_IT_IS ? tx->driver->begin(tx, STORE_READ)
                                             : tx->driver->begin_migration(tx);
    if (error == 0) {
        tx->is_open = true;
        error = store_finish(tx, prepare(tx, may, &done, reason));
    }
    if (error == STORE_BUSY)
        error = STORE_E_GONE;
    if (error != 0 && buf_len(reason) == before)
        buf_append_cstr(reason, store_error_text(error));
    if (error == 0)
        *ret_done = done;
    return error;
}
