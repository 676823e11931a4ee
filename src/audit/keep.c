/*
 * The threads. The keeper commits what nobody waits for, once every tick while records come, and
 * sleeps when none do: then the first record wakes it. It signs what is unsigned for too long,
 * tries again after a failure, and does what has to be done now and then. In best-effort mode it is
 * alone.
 *
 * Where waits are for a sync there are syncers beside it. One that is woken writes, syncs, and
 * looks again whether somebody waits before it sleeps. While it syncs another one has to be able to
 * write, so the last idle one makes one more before it goes, up to TRAIL_SYNCERS. `is_wanted` is
 * set by who waits and cleared by who takes over: however many come in between, one thread is
 * woken.
 */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "trail_private.h"

enum { LONGEST_SLEEP_MS = 60000, RESERVE_LOOK_MS = 1000 };

/* --- waking --- */

void trail_want(struct audit *audit) {
    if (atomic_exchange(&audit->is_wanted, true))
        return;
    pthread_mutex_lock(&audit->wake);
    pthread_cond_signal(audit->mode == AUDIT_REQUIRED ? &audit->syncer_cond : &audit->keeper_cond);
    pthread_mutex_unlock(&audit->wake);
}

void trail_wake_keeper(struct audit *audit) {
    pthread_mutex_lock(&audit->wake);
    audit->is_keeper_wanted = true;
    pthread_cond_signal(&audit->keeper_cond);
    pthread_mutex_unlock(&audit->wake);
}

static int start_thread(pthread_t *thread, void *(*run)(void *), void *context) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

/* --- syncers --- */

struct syncer {
    struct audit *audit;
    size_t index; /* of its descriptor: 0 is the keeper's */
};

static void add_syncer(struct audit *audit);

static void *run_syncer(void *context) {
    struct syncer self = *(struct syncer *)context;
    struct audit *audit = self.audit;
    mem_free(context);
    pthread_mutex_lock(&audit->wake);
    for (;;) {
        while (!atomic_load(&audit->is_wanted) && !audit->is_closing) {
            audit->n_idle++;
            pthread_cond_wait(&audit->syncer_cond, &audit->wake);
            audit->n_idle--;
        }
        if (!atomic_load(&audit->is_wanted))
            break;
        atomic_store(&audit->is_wanted, false);
        if (audit->n_idle == 0 && !audit->is_closing)
            add_syncer(audit);
        pthread_mutex_unlock(&audit->wake);
        trail_commit(audit, self.index, 0);
        pthread_mutex_lock(&audit->wake);
    }
    pthread_mutex_unlock(&audit->wake);
    return NULL;
}

/* With audit->wake. Without memory or threads there are as many as there are. */
static void add_syncer(struct audit *audit) {
    if (audit->n_syncers == TRAIL_SYNCERS)
        return;
    struct syncer *syncer = mem_alloc(sizeof *syncer);
    if (syncer == NULL)
        return;
    *syncer = (struct syncer){.audit = audit, .index = 1 + audit->n_syncers};
    if (start_thread(&audit->syncers[audit->n_syncers], run_syncer, syncer) != 0)
        mem_free(syncer);
    else
        audit->n_syncers++;
}

/* --- the keeper --- */

static bool take_own(void *context, struct slice body) {
    return trail_submit_own(context, body) == 0;
}

void trail_write_denied(struct audit *audit, bool is_end) {
    if (!is_end && clock_monotonic_ms() < audit->denied_ms)
        return;
    audit->denied_ms = clock_monotonic_ms() + audit->system->denied_ms;
    for (size_t i = 0; i < audit->n_workers; i++) {
        struct audit_worker *worker = &audit->workers[i];
        pthread_mutex_lock(&worker->mutex);
        struct denied counted = worker->denied;
        worker->denied = (struct denied){.key = counted.key};
        pthread_mutex_unlock(&worker->mutex);
        denied_merge(&audit->denied, &counted);
        denied_deinit(&counted);
    }
    pthread_mutex_lock(&audit->commit);
    bool is_tight = !audit->has_reserve || audit->error != 0;
    pthread_mutex_unlock(&audit->commit);
    if ((!is_tight || is_end) && !denied_is_empty(&audit->denied))
        denied_write(&audit->denied, audit->system->wall_us(), take_own, audit);
}

static bool has_records(struct audit *audit) {
    bool has = false;
    for (size_t i = 0; i <= audit->n_workers && !has; i++) {
        pthread_mutex_lock(&audit->workers[i].mutex);
        has = buf_len(&audit->workers[i].held) != 0;
        pthread_mutex_unlock(&audit->workers[i].mutex);
    }
    return has;
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* When it has to be up again when nothing comes. */
static uint64_t next_look(struct audit *audit) {
    uint64_t now = clock_monotonic_ms();
    uint64_t due = earlier(now + LONGEST_SLEEP_MS, audit->denied_ms);
    pthread_mutex_lock(&audit->commit);
    if (audit->error != 0)
        due = earlier(due, audit->retry_ms);
    else if (audit->kept.chain.seq != audit->kept.checkpoint.seq)
        due = earlier(due, audit->kept.unsigned_ms + audit->system->sign_ms);
    if (!audit->has_reserve)
        due = earlier(due, now + RESERVE_LOOK_MS);
    pthread_mutex_unlock(&audit->commit);
    return due;
}

/* Sleeps until `due` or until it is wanted. False: it is to end. */
static bool sleep_until(struct audit *audit, uint64_t *due, bool *ret_retain) {
    pthread_mutex_lock(&audit->wake);
    for (;;) {
        uint64_t now = clock_monotonic_ms();
        bool is_wanted = audit->mode == AUDIT_BEST_EFFORT && atomic_load(&audit->is_wanted);
        if (audit->is_keeper_wanted) { /* a first record: others will follow */
            audit->is_keeper_wanted = false;
            *due = earlier(*due, now + audit->system->tick_ms);
        }
        if (audit->is_closing || audit->is_retention_wanted || is_wanted || now >= *due)
            break;
        struct timespec until = {.tv_sec = (time_t)(*due / 1000),
                                 .tv_nsec = (long)(*due % 1000) * 1000000};
        pthread_cond_timedwait(&audit->keeper_cond, &audit->wake, &until);
    }
    *ret_retain = audit->is_retention_wanted;
    audit->is_retention_wanted = false;
    bool goes_on = !audit->is_closing;
    if (audit->mode == AUDIT_BEST_EFFORT)
        atomic_store(&audit->is_wanted, false);
    pthread_mutex_unlock(&audit->wake);
    return goes_on;
}

static void keep_reserve(struct audit *audit) {
    pthread_mutex_lock(&audit->commit);
    if (!audit->has_reserve)
        trail_reserve_make(audit);
    pthread_mutex_unlock(&audit->commit);
}

static void *run_keeper(void *context) {
    struct audit *audit = context;
    uint64_t due = clock_monotonic_ms(), retain_ms = 0;
    bool retain = false;
    while (sleep_until(audit, &due, &retain)) {
        atomic_store(&audit->is_keeper_dozing, false);
        bool had_records = has_records(audit);
        trail_write_denied(audit, false);
        trail_commit(audit, 0, 0);
        keep_reserve(audit);
        uint64_t now = clock_monotonic_ms();
        if (retain || now >= retain_ms) {
            trail_retain(audit);
            retain_ms = now + LONGEST_SLEEP_MS;
        }
        due = next_look(audit);
        if (!had_records) {
            /* First the flag, then the look: who hands over does it the other way round. */
            atomic_store(&audit->is_keeper_dozing, true);
            had_records = has_records(audit);
        }
        if (had_records)
            due = earlier(due, now + audit->system->tick_ms);
    }
    return NULL;
}

/* --- both --- */

int trail_start(struct audit *audit) {
    int error = start_thread(&audit->keeper, run_keeper, audit);
    if (error != 0)
        return error;
    audit->has_keeper = true;
    if (audit->mode != AUDIT_REQUIRED)
        return 0;
    pthread_mutex_lock(&audit->wake);
    add_syncer(audit);
    bool has_one = audit->n_syncers != 0;
    pthread_mutex_unlock(&audit->wake);
    return has_one ? 0 : -EAGAIN;
}

void trail_stop(struct audit *audit) {
    pthread_mutex_lock(&audit->wake);
    audit->is_closing = true;
    pthread_cond_broadcast(&audit->syncer_cond);
    pthread_cond_broadcast(&audit->keeper_cond);
    size_t n_syncers = audit->n_syncers; /* no more will come */
    pthread_mutex_unlock(&audit->wake);
    for (size_t i = 0; i < n_syncers; i++)
        pthread_join(audit->syncers[i], NULL);
    if (audit->has_keeper)
        pthread_join(audit->keeper, NULL);
    audit->has_keeper = false;
    audit->n_syncers = 0;
}
