/*
 * The keeper: a thread that looks whether others have written, and ends jobs that have waited for
 * too long. It looks five times a second, on a connection of its own: an edit window that was
 * closed on another instance is closed here within 300 ms, and whoever asks store_heard_ms() knows
 * how old that knowledge is.
 */
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "migrations.h"
#include "store_private.h"

enum {
    LOOK_MS = 200,
    TRY_MS = 1000,  /* between attempts to write where that failed */
    WAIT_MS = 5000, /* of a job, until it begins */
};

/* --- the message --- */

static void deliver(struct io_message *message) {
    struct store_watch *watch = CONTAINER_OF(message, struct store_watch, message);
    if (watch->is_over) { /* the store may be gone, too */
        mem_free(watch);
        return;
    }
    struct store *store = watch->store;
    pthread_mutex_lock(&store->mutex);
    watch->is_posted = false;
    uint64_t number = watch->number;
    bool is_news = number != watch->told;
    watch->told = number;
    pthread_mutex_unlock(&store->mutex);
    if (is_news)
        watch->fn(watch->context, number);
}

static void post(struct store_watch *watch) {
    if (watch->is_posted)
        return;
    watch->is_posted = true;
    io_loop_post(watch->loop, &watch->message);
}

void store_tell(struct store *store, uint64_t number) {
    struct store_watch *watch = store->watch;
    if (watch == NULL || number <= watch->number)
        return;
    watch->number = number;
    post(watch);
}

/* With the mutex. Behind a new connection may be another file or database, whose count says nothing
 * about what was known. */
static void tell_anew(struct store *store, uint64_t number) {
    struct store_watch *watch = store->watch;
    if (watch == NULL)
        return;
    watch->number = number;
    watch->told = UINT64_MAX;
    post(watch);
}

MUST_CHECK static int read_number(struct store_tx *tx, void *context) {
    return store_get_number(tx, "SELECT number FROM changes WHERE id = 1", context);
}

int store_watch(struct store *store, struct io_loop *loop, store_changed_fn *fn, void *context) {
    struct store_watch *watch = mem_alloc(sizeof *watch);
    uint64_t number = 0;
    if (watch == NULL)
        return -ENOMEM;
    /* Where it does not answer now, all that it says later is news. */
    if (store_run(store, STORE_READ, read_number, &number) != 0)
        number = 0;
    *watch = (struct store_watch){
        .message.deliver = deliver,
        .store = store,
        .loop = loop,
        .fn = fn,
        .context = context,
        .number = number,
        .told = number,
    };
    pthread_mutex_lock(&store->mutex);
    bool is_taken = store->watch != NULL;
    if (!is_taken)
        store->watch = watch;
    pthread_cond_signal(&store->wake_keeper);
    pthread_mutex_unlock(&store->mutex);
    if (is_taken)
        mem_free(watch);
    return is_taken ? -EBUSY : 0;
}

void store_unwatch(struct store *store) {
    pthread_mutex_lock(&store->mutex);
    struct store_watch *watch = TAKE(store->watch);
    bool is_posted = watch != NULL && watch->is_posted;
    pthread_mutex_unlock(&store->mutex);
    if (watch == NULL)
        return;
    watch->is_over = true;
    if (!is_posted)
        mem_free(watch);
}

uint64_t store_heard_ms(const struct store *store) {
    return atomic_load(&store->heard_ms);
}

/* --- the log --- */

void store_note_health(struct store *store, int error, struct slice reason) {
    bool is_gone = error != 0;
    if (atomic_exchange(&store->is_told_gone, is_gone) == is_gone)
        return;
    if (reason.len == 0)
        reason = slice_from_cstr(store_error_text(error));
    if (is_gone)
        log_write(store->target.log, LOG_WARN, "store", "the store does not answer",
                  LOG_TEXT("reason", reason));
    else
        log_write(store->target.log, LOG_INFO, "store", "the store answers again");
}

void store_note_write(struct store *store, const struct store_tx *tx, int error) {
    bool cannot = !tx->is_of_work && (error == -ENOSPC || error == -EROFS || error == -EIO);
    bool has = error == 0 && tx->has_written;
    if ((!cannot && !has) || atomic_exchange(&store->is_unwritable, cannot) == cannot)
        return;
    if (cannot)
        log_write(store->target.log, LOG_WARN, "store",
                  "the store cannot be written: what would change it is refused, and edit mode, "
                  "which nobody could close, counts as off",
                  LOG_CSTR("reason", store_error_text(error)));
    else
        log_write(store->target.log, LOG_INFO, "store", "the store can be written again");
}

bool store_can_write(const struct store *store) {
    return !atomic_load(&store->is_unwritable);
}

/* --- the thread --- */

static void end_waiting(struct store *store) {
    uint64_t now = clock_monotonic_ms();
    LIST_FOREACH_SAFE (&store->jobs, link, tmp) {
        struct store_job *job = CONTAINER_OF(link, struct store_job, link);
        if (now - job->submitted_ms < WAIT_MS)
            break; /* those behind it are younger */
        list_remove(link);
        store->n_jobs--;
        store_end_job(job, STORE_E_GONE);
    }
}

struct keeper {
    struct store *store;
    struct store_tx *tx; /* NULL: none */
    bool was_connected, is_again;
    uint64_t tried_ms; /* to write; clock_monotonic_ms() */
};

MUST_CHECK static int ask(struct keeper *keeper, uint64_t *ret_number, uint64_t *ret_version) {
    const struct store_target *target = &keeper->store->target;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(4096);
    int error = 0;
    if (keeper->tx == NULL) {
        error = target->driver->connect(target, &store_times_watch, &keeper->tx, &reason);
        keeper->is_again = keeper->was_connected;
        keeper->was_connected = keeper->was_connected || error == 0;
    }
    if (error == 0)
        error = target->driver->look(keeper->tx, ret_number, ret_version);
    if (keeper->tx != NULL && !target->driver->is_alive(keeper->tx))
        store_tx_closep(&keeper->tx);
    return error;
}

static void set_newer(struct store *store, bool is_newer) {
    if (atomic_exchange(&store->is_newer, is_newer) == is_newer)
        return;
    if (is_newer)
        log_write(store->target.log, LOG_ERROR, "store",
                  "a newer Cardea has changed the schema of the store: this one stops using it");
}

/* What is as it was SQLite does not write. */
MUST_CHECK static int write_something(struct store_tx *tx, void *context) {
    (void)context;
    return store_exec(tx, "UPDATE changes SET number = number + 1 WHERE id = 1", NULL, 0, NULL);
}

static void try_to_write(struct keeper *keeper) {
    uint64_t now = clock_monotonic_ms(), number = 0;
    if (store_can_write(keeper->store) || keeper->tx == NULL || now - keeper->tried_ms < TRY_MS)
        return;
    keeper->tried_ms = now;
    int error = store_attempt(keeper->tx, STORE_NOTE, write_something, NULL, &number);
    store_note_write(keeper->store, keeper->tx, error);
    if (!keeper->tx->driver->is_alive(keeper->tx))
        store_tx_closep(&keeper->tx);
}

static void look(struct keeper *keeper) {
    struct store *store = keeper->store;
    uint64_t asked_ms = clock_boot_ms(), number = 0, version = 0;
    int error = ask(keeper, &number, &version);
    if (error == 0)
        set_newer(store, version > n_migrations);
    if (error == 0 && version != n_migrations)
        error = version > n_migrations ? STORE_E_NEWER : STORE_E_OLDER;
    store_note_health(store, error, SLICE_EMPTY);
    if (error != 0)
        return;
    atomic_store(&store->heard_ms, asked_ms);
    pthread_mutex_lock(&store->mutex);
    if (keeper->is_again)
        tell_anew(store, number);
    else
        store_tell(store, number);
    pthread_mutex_unlock(&store->mutex);
    keeper->is_again = false;
    try_to_write(keeper);
}

/* With the mutex. */
static void wait_a_while(struct store *store) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += LOOK_MS * 1000000L;
    at.tv_sec += at.tv_nsec / 1000000000L;
    at.tv_nsec %= 1000000000L;
    if (store->watch == NULL && list_is_empty(&store->jobs))
        pthread_cond_wait(&store->wake_keeper, &store->mutex);
    else
        pthread_cond_timedwait(&store->wake_keeper, &store->mutex, &at);
}

void *store_keep(void *arg) {
    struct store *store = arg;
    struct keeper keeper = {.store = store};
    pthread_mutex_lock(&store->mutex);
    while (!store->is_closing) {
        end_waiting(store);
        if (store->watch != NULL) {
            pthread_mutex_unlock(&store->mutex);
            look(&keeper);
            pthread_mutex_lock(&store->mutex);
        }
        if (!store->is_closing)
            wait_a_while(store);
    }
    pthread_mutex_unlock(&store->mutex);
    store_tx_closep(&keeper.tx);
    return NULL;
}
