/* Connections beside the store (store.h). */
#include <errno.h>

#include "postgres_private.h"

/*
 * Statistics of tables that grow fast are behind, and what is planned by them then reads a whole
 * table for a few rows. And no commit waits for the disk: what PostgreSQL loses in a crash is made
 * anew, because it loses the place up to which it went with it.
 */
#define OFF(setting) "set_config('" setting "', 'off', false), "
#define SETTINGS                                                                                   \
    "SELECT " OFF("enable_seqscan") OFF("enable_bitmapscan") OFF("enable_hashjoin")                \
        OFF("enable_mergejoin") OFF("enable_sort") OFF("enable_incremental_sort") OFF("jit")       \
            OFF("synchronous_commit") "set_config('max_parallel_workers_per_gather', '0', false)," \
                                      " set_config('plan_cache_mode', 'force_custom_plan', false)"

MUST_CHECK static int run(struct store_tx *tx, const char *sql) {
    CLEANUP(pg_clear) PGresult *result = NULL;
    return pg_run(pg_of(tx), sql, &result);
}

int store_beside_open(struct slice url, struct log *log, struct store_tx **ret_tx,
                      struct buf *reason) {
    const struct store_options options = {.url = url, .log = log};
    CLEANUP(store_tx_closep) struct store_tx *tx = NULL;
    struct store_target target = {.place = NULL};
    if (url.len == 0)
        return STORE_E_URL;
    int error = store_target_init(&target, &options, reason);
    if (error == 0)
        error = store_postgres.connect(&target, &store_times_beside, &tx, reason);
    store_target_deinit(&target);
    if (error == 0)
        error = run(tx, SETTINGS);
    if (error == 0)
        *ret_tx = TAKE(tx);
    return error;
}

struct store_tx *store_beside_close(struct store_tx *tx) {
    store_tx_closep(&tx);
    return NULL;
}

bool store_beside_is_alive(const struct store_tx *tx) {
    return store_postgres.is_alive(tx);
}

static int as_told(int error) {
    return error == STORE_BUSY ? (int)STORE_E_CONFLICT : error;
}

int store_beside_begin(struct store_tx *tx, enum store_kind kind) {
    tx->kind = kind;
    tx->error = 0;
    tx->has_written = tx->is_unsure = false;
    int error = kind == STORE_READ ? store_postgres.begin(tx, kind)
                                   : run(tx, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");
    tx->is_open = error == 0;
    return as_told(error);
}

int store_beside_end(struct store_tx *tx, int error) {
    return tx->is_open ? as_told(store_finish(tx, error)) : error;
}

int store_beside_copy(struct store_tx *tx, const char *sql, struct slice rows) {
    if (tx->error != 0)
        return as_told(tx->error);
    tx->error = pg_copy_in(pg_of(tx), sql, rows);
    tx->has_written = true;
    return as_told(tx->error);
}
