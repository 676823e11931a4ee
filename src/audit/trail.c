#include "audit/trail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"
#include "trail_private.h"

/* --- handing over --- */

/* With worker->mutex. False: there is no room. */
static bool hold(struct audit_worker *worker, const struct slice *pieces, size_t n_pieces,
                 size_t len, struct audit_wait *wait) {
    struct buf *held = &worker->held;
    uint32_t head = (uint32_t)len | (wait != NULL ? RECORD_WAITED : 0);
    size_t used = worker->n_kept + buf_len(held); /* each of both may be all that is allowed */
    if (used > LIMIT_AUDIT_HELD || len + RECORD_HEAD > LIMIT_AUDIT_HELD - used)
        return false;
    if (buf_reserve(held, RECORD_HEAD + len) == NULL) {
        held->error = 0; /* what is in it is whole */
        return false;
    }
    buf_append(held, slice_make(&head, sizeof head));
    for (size_t i = 0; i < n_pieces; i++)
        buf_append(held, pieces[i]);
    if (wait != NULL)
        list_push_back(&worker->waits, &wait->link);
    return true;
}

static int hand_over(struct audit_worker *worker, const struct slice *pieces, size_t n_pieces,
                     struct audit_wait *wait) {
    struct audit *audit = worker->audit;
    size_t len = 0, before = 0, after = 0;
    bool is_held = false;
    for (size_t i = 0; i < n_pieces && len <= LIMIT_AUDIT_BODY; i++)
        len = pieces[i].len <= LIMIT_AUDIT_BODY ? len + pieces[i].len : SIZE_MAX;
    if (len <= LIMIT_AUDIT_BODY) {
        pthread_mutex_lock(&worker->mutex);
        before = buf_len(&worker->held);
        is_held = hold(worker, pieces, n_pieces, len, wait);
        after = buf_len(&worker->held);
        pthread_mutex_unlock(&worker->mutex);
    }
    if (len <= LIMIT_AUDIT_BODY && !is_held)
        atomic_store(&audit->can_write, false); /* until something was written */
    bool is_half_full = before < LIMIT_AUDIT_HELD / 2 && after >= LIMIT_AUDIT_HELD / 2;
    if ((wait != NULL && !wait->is_patient) || is_half_full)
        trail_want(audit);
    if (atomic_load(&audit->is_keeper_dozing) && atomic_exchange(&audit->is_keeper_dozing, false))
        trail_wake_keeper(audit);
    return is_held ? 0 : AUDIT_E_LOST;
}

int audit_submit(struct audit_worker *worker, const struct slice *pieces, size_t n_pieces,
                 struct audit_wait *wait) {
    struct audit *audit = worker->audit;
    if (wait != NULL && !atomic_load(&audit->can_write))
        return AUDIT_E_LOST;
    if (hand_over(worker, pieces, n_pieces, wait) == 0) {
        atomic_fetch_add_explicit(&worker->n_submitted, 1, memory_order_relaxed);
        return 0;
    }
    if (wait == NULL) {
        atomic_fetch_add(&worker->n_lost, 1);
        trail_want(audit); /* to tell it */
    }
    return AUDIT_E_LOST;
}

void audit_flush(struct audit_worker *worker) {
    trail_want(worker->audit);
}

int trail_submit_own(struct audit *audit, struct slice body) {
    return hand_over(&audit->workers[audit->n_workers], &body, 1, NULL);
}

void audit_deny(struct audit_worker *worker, const struct network *address, const char *reason) {
    uint64_t now_us = worker->audit->system->wall_us();
    atomic_fetch_add_explicit(&worker->n_denied, 1, memory_order_relaxed);
    pthread_mutex_lock(&worker->mutex);
    denied_count(&worker->denied, address, reason, now_us);
    pthread_mutex_unlock(&worker->mutex);
}

void audit_count_requests(struct audit_worker *worker, uint64_t n) {
    atomic_fetch_add_explicit(&worker->n_requests, n, memory_order_relaxed);
}

/* --- asking --- */

uint64_t trail_n_lost(const struct audit *audit) {
    uint64_t n = 0;
    for (size_t i = 0; i <= audit->n_workers; i++)
        n += atomic_load(&audit->workers[i].n_lost);
    return n;
}

bool audit_can_write(const struct audit *audit) {
    return atomic_load_explicit(&audit->can_write, memory_order_relaxed);
}

void audit_get_state(struct audit *audit, struct audit_state *ret_state) {
    pthread_mutex_lock(&audit->publish);
    *ret_state = audit->state;
    pthread_mutex_unlock(&audit->publish);
    ret_state->n_lost = trail_n_lost(audit);
    ret_state->can_write = audit_can_write(audit);
}

const struct audit_keys *audit_trail_keys(const struct audit *audit) {
    return audit->keys;
}

const char *audit_dir(const struct audit *audit) {
    return audit->dir;
}

enum audit_mode audit_mode(const struct audit *audit) {
    return audit->mode;
}

struct audit_worker *audit_worker(struct audit *audit, size_t index) {
    return &audit->workers[index];
}

static void want_retention(struct audit *audit) {
    pthread_mutex_lock(&audit->wake);
    audit->is_retention_wanted = true;
    pthread_cond_signal(&audit->keeper_cond);
    pthread_mutex_unlock(&audit->wake);
}

void audit_set_bounds(struct audit *audit, uint64_t max_bytes, uint64_t max_age_ms) {
    atomic_store(&audit->max_bytes, max_bytes);
    atomic_store(&audit->max_age_ms, max_age_ms);
    want_retention(audit);
}

void audit_tell_size(struct audit *audit, uint64_t bytes) {
    atomic_store(&audit->told_bytes, bytes);
}

/* --- opening --- */

static void worker_init(struct audit_worker *worker, struct audit *audit) {
    worker->audit = audit;
    pthread_mutex_init(&worker->mutex, NULL);
    buf_init(&worker->held, LIMIT_AUDIT_HELD);
    buf_init(&worker->taken, LIMIT_AUDIT_HELD);
    list_init(&worker->waits);
    list_init(&worker->taken_waits);
    denied_init(&worker->denied);
}

static void worker_deinit(struct audit_worker *worker) {
    pthread_mutex_destroy(&worker->mutex);
    buf_deinit(&worker->held);
    buf_deinit(&worker->taken);
    denied_deinit(&worker->denied);
}

static struct audit *trail_free(struct audit *audit) {
    if (audit == NULL)
        return NULL;
    for (size_t i = 0; audit->workers != NULL && i <= audit->n_workers; i++)
        worker_deinit(&audit->workers[i]);
    mem_free(audit->workers);
    trail_file_free(audit->file);
    mem_free(audit->segments);
    buf_deinit(&audit->out);
    buf_deinit(&audit->body);
    denied_deinit(&audit->denied);
    audit_hasher_free(audit->hasher);
    audit_keys_free(audit->keys);
    pthread_mutex_destroy(&audit->commit);
    pthread_mutex_destroy(&audit->publish);
    pthread_mutex_destroy(&audit->wake);
    pthread_cond_destroy(&audit->keeper_cond);
    pthread_cond_destroy(&audit->syncer_cond);
    io_fd_close(&audit->dir_fd);
    io_fd_close(&audit->lock_fd);
    mem_free(audit->program);
    mem_free(audit->dir);
    mem_free(audit);
    return NULL;
}

static void trail_freep(struct audit **audit) {
    *audit = trail_free(*audit);
}

/* Timeouts by the monotonic clock. */
static void init_threads(struct audit *audit) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&audit->commit, NULL);
    pthread_mutex_init(&audit->publish, NULL);
    pthread_mutex_init(&audit->wake, NULL);
    pthread_cond_init(&audit->keeper_cond, &monotonic);
    pthread_cond_init(&audit->syncer_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static int trail_new(const struct audit_options *options, const struct trail_system *system,
                     struct audit **ret_audit) {
    CLEANUP(trail_freep) struct audit *audit = mem_alloc(sizeof *audit);
    if (audit == NULL)
        return -ENOMEM;
    init_threads(audit);
    audit->system = system;
    audit->mode = options->mode;
    audit->log = options->log;
    audit->dir_fd = audit->lock_fd = -1;
    atomic_store(&audit->max_bytes, options->max_bytes);
    atomic_store(&audit->max_age_ms, options->max_age_ms);
    list_init(&audit->chunk_waits);
    list_init(&audit->waiting);
    buf_init(&audit->out, TRAIL_CHUNK + 4 * (size_t)TRAIL_LINE);
    buf_init(&audit->body, KIB(8));
    denied_init(&audit->denied);
    audit->denied_ms = clock_monotonic_ms() + system->denied_ms;
    int error = slice_dup_cstr(slice_from_cstr(options->dir), &audit->dir);
    if (error == 0)
        error = slice_dup_cstr(options->program, &audit->program);
    if (error == 0)
        error = audit_hasher_new(&audit->hasher);
    if (error != 0)
        return error;
    audit->workers = mem_alloc((options->n_workers + 1) * sizeof *audit->workers);
    if (audit->workers == NULL)
        return -ENOMEM;
    audit->n_workers = options->n_workers;
    for (size_t i = 0; i <= audit->n_workers; i++)
        worker_init(&audit->workers[i], audit);
    *ret_audit = TAKE(audit);
    return 0;
}

/* The directory, for one process alone. */
static int take_directory(struct audit *audit, const struct sealing *sealing,
                          const char **ret_reason) {
    CLEANUP(buf_deinit) struct buf path = BUF_INIT(KIB(8));
    int error = io_directory_make(audit->dir);
    if (error != 0)
        return error;
    buf_append_cstr(&path, audit->dir);
    buf_append(&path, SLICE("/lock"));
    if (buf_append_byte(&path, '\0') != 0)
        return buf_error(&path);
    error = io_lock_file(path.data, &audit->lock_fd);
    if (error != 0)
        return error;
    struct stat info;
    audit->dir_fd = open(audit->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (audit->dir_fd < 0 || fstat(audit->dir_fd, &info) != 0)
        return -errno;
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        log_write(audit->log, LOG_WARN, "audit",
                  "others may write into the directory of the audit trail: chmod go-w",
                  LOG_CSTR("directory", audit->dir));
    return audit_keys_open(audit->dir, sealing, &audit->keys, ret_reason);
}

/* Goes on in the newest segment. */
static int go_on(struct audit *audit, const struct trail_found *found) {
    const struct trail_segment *newest = &found->segments[found->n_segments - 1];
    int error = trail_file_open(audit->dir_fd, newest->first_seq, false, &audit->file);
    if (error != 0)
        return error;
    uint64_t now_us = audit->system->wall_us();
    audit->file->number = found->number;
    audit->file->age_ms = now_us > found->first_us ? (now_us - found->first_us) / 1000 : 0;
    trail_file_open_syncers(audit->file, audit->dir_fd,
                            audit->mode == AUDIT_REQUIRED ? 1 + TRAIL_SYNCERS : 1);
    memcpy(audit->log_id, found->log, sizeof audit->log_id);
    for (size_t i = 0; i + 1 < found->n_segments; i++)
        audit->old_bytes += found->segments[i].bytes;
    return 0;
}

static int adopt_found(struct audit *audit, struct trail_found *found) {
    int error = 0;
    if (found->has_log)
        error = go_on(audit, found);
    else
        audit_log_new(audit->log_id);
    if (error != 0)
        return error;
    audit->segments = TAKE(found->segments);
    audit->n_segments = found->n_segments;
    audit->head.chain = found->chain;
    audit->head.checkpoint = found->checkpoint;
    audit->head.unsigned_ms = clock_monotonic_ms();
    audit->kept = audit->head;
    audit->durable_seq = found->chain.seq; /* it was synced when it was read */
    audit->signed_head = found->checkpoint;
    if (found->n_torn_checkpoints >= AUDIT_TORN_CHECKPOINTS)
        log_write(audit->log, LOG_ERROR, "audit",
                  "the end of the audit trail is not what was written, and more of it than a crash "
                  "can change; it is put away",
                  LOG_CSTR("directory", audit->dir), LOG_NUM("bytes", found->n_torn),
                  LOG_NUM("checkpoints", found->n_torn_checkpoints),
                  LOG_NUM("behind", found->chain.seq));
    else if (found->n_torn != 0)
        log_write(audit->log, LOG_WARN, "audit",
                  "the end of the audit trail was torn and is put away",
                  LOG_CSTR("directory", audit->dir), LOG_NUM("bytes", found->n_torn),
                  LOG_NUM("behind", found->chain.seq));
    return 0;
}

/* The first line of this run; nothing is told before it is durable. */
static int write_start(struct audit *audit, uint64_t n_torn, uint64_t n_torn_checkpoints) {
    trail_body_begin(audit, "start");
    buf_printf(&audit->body, ",\"program\":\"%s\",\"mode\":\"%s\"", audit->program,
               audit->mode == AUDIT_REQUIRED ? "required" : "best_effort");
    if (n_torn != 0)
        buf_printf(&audit->body, ",\"recovered\":%" PRIu64, n_torn);
    if (n_torn_checkpoints >= AUDIT_TORN_CHECKPOINTS)
        buf_printf(&audit->body, ",\"recovered_checkpoints\":%" PRIu64, n_torn_checkpoints);
    int error = buf_error(&audit->body);
    if (error == 0 && trail_submit_own(audit, buf_slice(&audit->body)) != 0)
        error = -ENOMEM;
    if (error != 0)
        return error;
    trail_commit(audit, 0, TRAIL_NOW | TRAIL_SIGN);
    return audit->error;
}

int trail_open(const struct audit_options *options, const struct trail_system *system,
               struct audit **ret_audit, const char **ret_reason) {
    CLEANUP(trail_found_deinit) struct trail_found found = {.segments = NULL};
    CLEANUP(trail_freep) struct audit *audit = NULL;
    int error = trail_new(options, system, &audit);
    if (error == 0)
        error = take_directory(audit, options->sealing, ret_reason);
    if (error == 0)
        error = trail_recover(audit->dir, audit->dir_fd, system, &found);
    if (error != 0)
        return error;
    uint64_t n_torn = found.n_torn, n_torn_checkpoints = found.n_torn_checkpoints;
    error = adopt_found(audit, &found);
    if (error != 0)
        return error;
    trail_reserve_make(audit);
    error = write_start(audit, n_torn, n_torn_checkpoints);
    if (error != 0)
        return error;
    error = trail_start(audit);
    if (error != 0) {
        trail_stop(audit);
        return error;
    }
    *ret_audit = TAKE(audit);
    return 0;
}

int audit_open(const struct audit_options *options, struct audit **ret_audit,
               const char **ret_reason) {
    return trail_open(options, &trail_system, ret_audit, ret_reason);
}

/* --- closing --- */

static void write_stop(struct audit *audit) {
    uint64_t n_requests = 0, n_submitted = 0, n_denied = 0;
    for (size_t i = 0; i < audit->n_workers; i++) {
        n_requests += atomic_load(&audit->workers[i].n_requests);
        n_submitted += atomic_load(&audit->workers[i].n_submitted);
        n_denied += atomic_load(&audit->workers[i].n_denied);
    }
    trail_body_begin(audit, "stop");
    buf_printf(&audit->body,
               ",\"requests\":%" PRIu64 ",\"submitted\":%" PRIu64 ",\"refused\":%" PRIu64
               ",\"denied\":%" PRIu64 ",\"lost\":%" PRIu64,
               n_requests, n_submitted, audit->n_refused, n_denied, trail_n_lost(audit));
    if (buf_error(&audit->body) != 0 || trail_submit_own(audit, buf_slice(&audit->body)) != 0)
        log_write(audit->log, LOG_ERROR, "audit", "the stop cannot be written down",
                  LOG_CSTR("directory", audit->dir));
}

/* Who still waits is told that it is not there. */
static void refuse_rest(struct audit *audit) {
    struct list answered;
    list_init(&answered);
    pthread_mutex_lock(&audit->commit);
    for (size_t i = 0; i <= audit->n_workers; i++) {
        struct audit_worker *worker = &audit->workers[i];
        pthread_mutex_lock(&worker->mutex);
        list_splice_back(&answered, &worker->taken_waits);
        list_splice_back(&answered, &worker->waits);
        pthread_mutex_unlock(&worker->mutex);
    }
    list_splice_back(&answered, &audit->waiting);
    pthread_mutex_unlock(&audit->commit);
    LIST_FOREACH_SAFE (&answered, link, next) {
        CONTAINER_OF(link, struct audit_wait, link)->is_durable = false;
    }
    trail_answer(&answered);
}

struct audit *audit_close(struct audit *audit) {
    if (audit == NULL)
        return NULL;
    trail_stop(audit);
    trail_commit(audit, 0, TRAIL_NOW);
    trail_write_denied(audit, true);
    write_stop(audit);
    trail_commit(audit, 0, TRAIL_NOW | TRAIL_SIGN);
    refuse_rest(audit);
    return trail_free(audit);
}
