/*
 * Jobs, and the threads that do them. Each thread has a connection of its own, opened when the
 * first job comes. Of those jobs that write one at a time is taken, so that the others' threads are
 * left for reading; the order of submission is kept among writers, and among readers.
 */
#include <errno.h>
#include <signal.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store_private.h"

enum {
    ATTEMPTS = 5,
    ATTEMPTS_MS = 3000, /* after that nothing is tried again */
    GONE_MS = 250,      /* after a connection failed it is not tried for so long */
};

/* --- one job --- */

static void seat_close(struct store_seat *seat) {
    store_tx_closep(&seat->tx);
}

MUST_CHECK static int connect_seat(struct store_seat *seat) {
    struct store *store = seat->store;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(4096);
    if (clock_monotonic_ms() < atomic_load(&store->gone_until_ms))
        return STORE_E_GONE;
    int error =
        store->target.driver->connect(&store->target, &store_times_usual, &seat->tx, &reason);
    if (error == -ENOENT)
        error = STORE_E_GONE;
    if (error != 0)
        atomic_store(&store->gone_until_ms, clock_monotonic_ms() + GONE_MS);
    store_note_health(store, error, buf_slice(&reason));
    return error;
}

/* Another schema may be behind a new connection. */
MUST_CHECK static int open_seat(struct store_seat *seat) {
    if (seat->tx != NULL)
        return 0;
    int error = connect_seat(seat);
    if (error == 0)
        error = store_prepare_schema(seat->tx, STORE_SCHEMA_AS_IT_IS, &(size_t){0},
                                     &(struct buf){.max = 0});
    if (error == STORE_E_NEWER)
        atomic_store(&seat->store->is_newer, true);
    if (error != 0)
        seat_close(seat);
    return error;
}

static int work_on(struct store_seat *seat, enum store_kind kind, store_work_fn *work,
                   void *context, uint64_t *ret_number) {
    uint64_t until = clock_monotonic_ms() + ATTEMPTS_MS;
    int error = STORE_E_GONE;
    for (unsigned n = 0; n < ATTEMPTS; n++) {
        if (atomic_load(&seat->store->is_newer))
            return STORE_E_NEWER;
        error = open_seat(seat);
        if (error != 0)
            break;
        error = store_attempt(seat->tx, kind, work, context, ret_number);
        if (kind != STORE_READ)
            store_note_write(seat->store, seat->tx, error);
        bool is_unsure = seat->tx->is_unsure;
        if (!seat->tx->driver->is_alive(seat->tx))
            seat_close(seat);
        if ((error != STORE_BUSY && error != STORE_E_GONE) || is_unsure ||
            clock_monotonic_ms() >= until)
            break;
    }
    return error == STORE_BUSY ? STORE_E_GONE : error;
}

/* --- the queue --- */

/* The next one that may be done now; NULL: none. */
static struct store_job *take_job(struct store *store) {
    LIST_FOREACH_SAFE (&store->jobs, link, tmp) {
        struct store_job *job = CONTAINER_OF(link, struct store_job, link);
        if (job->kind != STORE_READ && store->is_writing)
            continue;
        list_remove(link);
        store->n_jobs--;
        store->is_writing = store->is_writing || job->kind != STORE_READ;
        return job;
    }
    return NULL;
}

static void finish_write(struct store *store, enum store_kind kind, uint64_t number) {
    if (kind == STORE_READ)
        return;
    store->is_writing = false;
    if (number != 0)
        store_tell(store, number);
    pthread_cond_broadcast(&store->wake_workers);
}

static void *run_jobs(void *arg) {
    struct store_seat *seat = arg;
    struct store *store = seat->store;
    pthread_mutex_lock(&store->mutex);
    while (!store->is_closing) {
        struct store_job *job = take_job(store);
        if (job == NULL) {
            pthread_cond_wait(&store->wake_workers, &store->mutex);
            continue;
        }
        enum store_kind kind = job->kind;
        uint64_t number = 0;
        pthread_mutex_unlock(&store->mutex);
        int result = work_on(seat, kind, job->work, job->context, &number);
        pthread_mutex_lock(&store->mutex);
        finish_write(store, kind, number);
        store_end_job(job, result);
    }
    pthread_mutex_unlock(&store->mutex);
    seat_close(seat);
    return NULL;
}

void store_end_job(struct store_job *job, int result) {
    job->result = result;
    io_loop_post(job->loop, &job->message);
}

void store_submit(struct store *store, struct store_job *job) {
    enum { QUEUE = 10000 };
    job->submitted_ms = clock_monotonic_ms();
    pthread_mutex_lock(&store->mutex);
    if (store->is_closing || store->n_jobs == QUEUE) {
        store_end_job(job, store->is_closing ? -ECANCELED : STORE_E_GONE);
    } else {
        bool was_empty = list_is_empty(&store->jobs);
        list_push_back(&store->jobs, &job->link);
        store->n_jobs++;
        pthread_cond_signal(&store->wake_workers);
        if (was_empty)
            pthread_cond_signal(&store->wake_keeper); /* who sees to it that it does not wait */
    }
    pthread_mutex_unlock(&store->mutex);
}

int store_run(struct store *store, enum store_kind kind, store_work_fn *work, void *context) {
    uint64_t number = 0;
    pthread_mutex_lock(&store->run_mutex);
    pthread_mutex_lock(&store->mutex);
    while (kind != STORE_READ && store->is_writing)
        pthread_cond_wait(&store->wake_workers, &store->mutex);
    store->is_writing = store->is_writing || kind != STORE_READ;
    pthread_mutex_unlock(&store->mutex);
    int result = work_on(&store->direct, kind, work, context, &number);
    pthread_mutex_lock(&store->mutex);
    finish_write(store, kind, number);
    pthread_mutex_unlock(&store->mutex);
    pthread_mutex_unlock(&store->run_mutex);
    return result;
}

/* --- threads --- */

MUST_CHECK static int start_all(struct store *store, size_t n) {
    for (; store->n_threads < n; store->n_threads++) {
        struct store_seat *seat = &store->seats[store->n_threads];
        seat->store = store;
        int error = pthread_create(&store->threads[store->n_threads], NULL, run_jobs, seat);
        if (error != 0)
            return -error;
    }
    int error = pthread_create(&store->keeper, NULL, store_keep, store);
    store->has_keeper = error == 0;
    return -error;
}

/* Signals are for the threads that wait for them. */
int store_start_threads(struct store *store, size_t n) {
    sigset_t all, old;
    store->seats = mem_alloc(n * sizeof *store->seats);
    store->threads = mem_alloc(n * sizeof *store->threads);
    if (store->seats == NULL || store->threads == NULL)
        return -ENOMEM;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = start_all(store, n);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error;
}

void store_stop_threads(struct store *store) {
    struct list_link *link;
    pthread_mutex_lock(&store->mutex);
    store->is_closing = true;
    while ((link = list_pop_front(&store->jobs)) != NULL)
        store_end_job(CONTAINER_OF(link, struct store_job, link), -ECANCELED);
    store->n_jobs = 0;
    pthread_cond_broadcast(&store->wake_workers);
    pthread_cond_broadcast(&store->wake_keeper);
    pthread_mutex_unlock(&store->mutex);
    for (size_t i = 0; i < store->n_threads; i++)
        pthread_join(store->threads[i], NULL);
    if (store->has_keeper)
        pthread_join(store->keeper, NULL);
    store->n_threads = 0;
    store->has_keeper = false;
    mem_free(store->seats);
    mem_free(store->threads);
    store->seats = NULL;
    store->threads = NULL;
}
