/* Opening and closing stores. */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "migrations.h"
#include "store_private.h"

static void init_locks(struct store *store) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&store->run_mutex, NULL);
    pthread_mutex_init(&store->mutex, NULL);
    pthread_cond_init(&store->wake_workers, NULL);
    pthread_cond_init(&store->wake_keeper, &attributes);
    pthread_condattr_destroy(&attributes);
    list_init(&store->jobs);
    store->direct.store = store;
}

static void deinit_locks(struct store *store) {
    pthread_cond_destroy(&store->wake_keeper);
    pthread_cond_destroy(&store->wake_workers);
    pthread_mutex_destroy(&store->mutex);
    pthread_mutex_destroy(&store->run_mutex);
}

/* What is wrong, with the name of the store before it. */
static void tell_where(const struct store_tx *tx, const struct buf *what, struct buf *reason) {
    tx->driver->describe(tx, reason);
    buf_append_cstr(reason, ": ");
    buf_append(reason, buf_slice(what));
}

/* Migrating takes its time; then its connection is not the one of the work. */
MUST_CHECK static int prepare(const struct store_target *target,
                              const struct store_options *options, size_t *ret_done,
                              struct buf *reason) {
    CLEANUP(store_tx_closep) struct store_tx *tx = NULL;
    CLEANUP(buf_deinit) struct buf what = BUF_INIT(KIB(4));
    int error = target->driver->connect(target, &store_times_long, &tx, reason);
    if (error != 0)
        return error == -ENOENT ? STORE_E_OLDER : error;
    error = target->driver->check(tx, &what);
    if (error == 0)
        error = store_prepare_schema(tx, store_schema_of(options), ret_done, &what);
    if (error != 0)
        tell_where(tx, &what, reason);
    return error;
}

MUST_CHECK static int connect_first(struct store *store, struct buf *reason) {
    const struct store_driver *driver = store->target.driver;
    store->target.may_make = false;
    int error = driver->connect(&store->target, &store_times_usual, &store->direct.tx, reason);
    if (error != 0)
        return error == -ENOENT ? STORE_E_GONE : error;
    driver->describe(store->direct.tx, &store->about);
    atomic_store(&store->heard_ms, clock_boot_ms());
    return 0;
}

int store_open(const struct store_options *options, struct store **ret_store, struct buf *reason) {
    size_t n_done = 0;
    struct store *store = mem_alloc(sizeof *store);
    if (store == NULL)
        return -ENOMEM;
    init_locks(store);
    buf_init(&store->about, KIB(8));
    int error = store_target_init(&store->target, options, reason);
    if (error == 0)
        error = prepare(&store->target, options, &n_done, reason);
    if (error == 0)
        error = connect_first(store, reason);
    if (error == 0)
        error = store_start_threads(
            store, options->n_threads != 0 ? options->n_threads : store->target.driver->n_threads);
    if (error != 0) {
        (void)store_close(store);
        return error;
    }
    if (n_done > 0)
        log_write(options->log, LOG_INFO, "store", "the schema was brought up to date",
                  LOG_TEXT("store", buf_slice(&store->about)), LOG_NUM("steps", n_done));
    *ret_store = store;
    return 0;
}

struct store *store_close(struct store *store) {
    if (store == NULL)
        return NULL;
    store_unwatch(store);
    store_stop_threads(store);
    store_tx_closep(&store->direct.tx);
    store_target_deinit(&store->target);
    buf_deinit(&store->about);
    deinit_locks(store);
    mem_free(store);
    return NULL;
}

void store_describe(const struct store *store, struct buf *out) {
    buf_append(out, buf_slice(&store->about));
}

bool store_is_shared(const struct store *store) {
    return store->target.driver->is_shared;
}

int store_migrate(const struct store_options *options, size_t *ret_done, struct buf *reason) {
    struct store_target target = {.place = NULL};
    struct store_options migrating = *options;
    migrating.migrate = true;
    int error = store_target_init(&target, &migrating, reason);
    if (error == 0)
        error = prepare(&target, &migrating, ret_done, reason);
    store_target_deinit(&target);
    return error;
}
