/*
 * Committing: records become lines, lines a write, writes a sync, and a sync an answer.
 *
 * Whoever commits takes under audit->commit all that the workers handed over, gives it numbers and
 * hashes, and writes it with one write(2) (in pieces of TRAIL_CHUNK, when there is more). Then the
 * lock is given up, and only then comes the sync. So the next thread can write while this one waits
 * for the disk, and with TRAIL_SYNCERS of them nobody waits much longer than one sync takes. A sync
 * answers for what was written when it began, no more; and when one of them fails, nothing that was
 * not synced before is trusted, whatever the others say (file: trail_file.sync_fds).
 *
 * What cannot be written leaves no trace in numbers and chain: `head` is where the chain stands
 * with what is in the buffer, `kept` where it stands in the file, and a failure puts the first back
 * to the second. Records that nobody waits for stay with their worker then, until the next try;
 * those that somebody waits for are dropped, because he is told that they are not there. Where a
 * sync failed the lines stand in the file, perhaps: the chain goes on behind them in a new segment,
 * and a gap line says how many they are ("unsynced").
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "trail_private.h"

/* --- lines --- */

void trail_body_begin(struct audit *audit, const char *event) {
    char time[AUDIT_TIME_CHARS + 1];
    audit_time_write(audit->system->wall_us(), time);
    buf_reset(&audit->body, KIB(4));
    buf_printf(&audit->body, "\"time\":\"%s\",\"event\":\"%s\"", time, event);
}

static int add_line(struct audit *audit, struct slice body) {
    struct trail_head *head = &audit->head;
    int error = audit_line_write(audit->hasher, &head->chain, &body, 1, &audit->out);
    if (error == 0 && head->chain.seq == head->checkpoint.seq + 1)
        head->unsigned_ms = clock_monotonic_ms();
    return error;
}

int trail_add_own(struct audit *audit) {
    int error = buf_error(&audit->body);
    return error != 0 ? error : add_line(audit, buf_slice(&audit->body));
}

int trail_add_checkpoint(struct audit *audit) {
    struct trail_head *head = &audit->head;
    if (head->chain.seq == head->checkpoint.seq)
        return 0;
    buf_reset(&audit->body, KIB(4));
    int error =
        audit_body_checkpoint(audit->keys, audit->system->wall_us(), slice_from_cstr(audit->log_id),
                              head->chain.seq - head->checkpoint.seq, &head->chain, &audit->body);
    if (error == 0)
        error = trail_add_own(audit);
    if (error == 0) {
        head->checkpoint_before = head->checkpoint.seq;
        head->checkpoint = head->chain;
    }
    return error;
}

/* --- writing --- */

/* Nothing of what is in `out` was ever there. */
static void put_back(struct audit *audit) {
    audit->head = audit->kept;
    buf_reset(&audit->out, TRAIL_KEEP);
    for (size_t i = 0; i <= audit->n_workers; i++)
        audit->workers[i].n_lined = 0;
}

static void note_written(struct audit *audit) {
    struct trail_segment *segment = &audit->segments[audit->n_segments - 1];
    uint64_t now_us = audit->system->wall_us();
    audit->n_commits++;
    if (audit->head.checkpoint.seq != audit->kept.checkpoint.seq)
        audit->checkpoint_commit = audit->n_commits;
    if (!list_is_empty(&audit->chunk_waits))
        audit->wait_commit = audit->n_commits;
    LIST_FOREACH_SAFE (&audit->chunk_waits, link, next) {
        CONTAINER_OF(link, struct audit_wait, link)->written = audit->n_commits;
    }
    list_splice_back(&audit->waiting, &audit->chunk_waits);
    for (size_t i = 0; i <= audit->n_workers; i++) {
        buf_consume(&audit->workers[i].taken, audit->workers[i].n_lined);
        audit->workers[i].n_lined = 0;
    }
    audit->kept = audit->head;
    segment->bytes = audit->file->bytes;
    if (segment->end_us < now_us)
        segment->end_us = now_us;
    buf_reset(&audit->out, TRAIL_KEEP);
}

int trail_flush(struct audit *audit) {
    int error = buf_error(&audit->out);
    if (error == 0 && buf_len(&audit->out) == 0)
        return 0;
    if (error == 0)
        error = trail_file_append(audit->file, audit->system, buf_slice(&audit->out));
    if (trail_is_full_disk(error) && trail_reserve_drop(audit))
        error = trail_file_append(audit->file, audit->system, buf_slice(&audit->out));
    if (error != 0)
        put_back(audit);
    else
        note_written(audit);
    return error;
}

/*
 * What a crash can take must not be more than two checkpoints, so that somebody who cuts off more
 * can be told from one: when the last two are not durable, nobody goes on before they are.
 */
int trail_bound_checkpoints(struct audit *audit, struct list *answered) {
    if (audit->head.checkpoint_before <= audit->signed_head.seq)
        return 0;
    int error = trail_flush(audit);
    return error != 0 ? error : trail_sync_here(audit, answered);
}

static int add_checkpoint(struct audit *audit, struct list *answered) {
    int error = trail_bound_checkpoints(audit, answered);
    return error != 0 ? error : trail_add_checkpoint(audit);
}

int trail_make_room(struct audit *audit, struct list *answered) {
    bool is_at_start = buf_len(&audit->out) == 0;
    return is_at_start && trail_file_is_full(audit) ? trail_roll(audit, answered) : 0;
}

static void move_to_answered(struct audit *audit, struct list *waits, struct list *answered) {
    LIST_FOREACH_SAFE (waits, link, next) {
        CONTAINER_OF(link, struct audit_wait, link)->is_durable = false;
        audit->n_refused++;
    }
    list_splice_back(answered, waits);
}

/* One that a line cannot be made of: a mistake of whoever made it. It is not met twice. */
static void give_up_record(struct audit *audit, struct audit_worker *worker, char *at,
                           uint32_t head, struct list *answered) {
    struct list waits;
    list_init(&waits);
    if ((head & RECORD_WAITED) != 0)
        list_push_back(&waits, list_pop_front(&worker->taken_waits));
    else
        atomic_fetch_add(&worker->n_lost, 1);
    move_to_answered(audit, &waits, answered);
    head = (head & RECORD_LEN) | RECORD_BAD;
    memcpy(at, &head, sizeof head);
}

static int line_record(struct audit *audit, struct audit_worker *worker, struct list *answered) {
    char *at = worker->taken.data + worker->taken.start + worker->n_lined;
    uint32_t head;
    memcpy(&head, at, sizeof head);
    size_t len = head & RECORD_LEN;
    int error = 0;
    if ((head & RECORD_BAD) == 0) {
        error = add_line(audit, slice_make(at + RECORD_HEAD, len));
        if (error == -EINVAL || error == -EMSGSIZE)
            give_up_record(audit, worker, at, head, answered);
        else if (error == 0 && (head & RECORD_WAITED) != 0)
            list_push_back(&audit->chunk_waits, list_pop_front(&worker->taken_waits));
    }
    if (error != 0 && error != -EINVAL && error != -EMSGSIZE)
        return error;
    worker->n_lined += RECORD_HEAD + len;
    return audit->head.chain.seq - audit->head.checkpoint.seq >= TRAIL_SIGN_LINES
               ? add_checkpoint(audit, answered)
               : 0;
}

static int line_taken(struct audit *audit, struct audit_worker *worker, struct list *answered) {
    while (worker->n_lined < buf_len(&worker->taken)) {
        int error = trail_make_room(audit, answered);
        if (error == 0)
            error = line_record(audit, worker, answered);
        if (error == 0 && (buf_len(&audit->out) >= TRAIL_CHUNK || trail_file_is_full(audit)))
            error = trail_flush(audit);
        if (error != 0)
            return error;
    }
    return 0;
}

/* Takes over what it handed over; what was taken before has to be written. */
static void take_held(struct audit_worker *worker) {
    buf_reset(&worker->taken, TRAIL_KEEP);
    pthread_mutex_lock(&worker->mutex);
    struct buf held = worker->held;
    worker->held = worker->taken;
    worker->n_kept = 0;
    list_splice_back(&worker->taken_waits, &worker->waits);
    pthread_mutex_unlock(&worker->mutex);
    worker->taken = held;
}

static int line_worker(struct audit *audit, struct audit_worker *worker, struct list *answered) {
    int error = 0;
    if (buf_len(&worker->taken) > worker->n_lined) { /* it could not be written before */
        error = line_taken(audit, worker, answered);
        if (error == 0)
            error = trail_flush(audit);
    }
    if (error != 0)
        return error;
    take_held(worker);
    return line_taken(audit, worker, answered);
}

/* What is missing, and why: also when it is nothing, because it might have been. */
static int line_gap(struct audit *audit, struct list *answered) {
    struct trail_head *head = &audit->head;
    uint64_t n_lost = trail_n_lost(audit);
    if (!head->is_gap_due && n_lost == head->n_lost_told)
        return 0;
    int error = trail_make_room(audit, answered);
    if (error != 0)
        return error;
    const char *reason =
        head->is_gap_due ? audit->error_text : "it came faster than it was written";
    buf_reset(&audit->body, KIB(4));
    error =
        audit_body_gap(audit->system->wall_us(), n_lost - head->n_lost_told, reason, &audit->body);
    if (head->n_unsynced != 0)
        buf_printf(&audit->body, ",\"unsynced\":%" PRIu64, head->n_unsynced);
    head->is_gap_due = false;
    head->n_unsynced = 0;
    head->n_lost_told = n_lost;
    return error != 0 ? error : trail_add_own(audit);
}

static bool is_checkpoint_due(const struct audit *audit, unsigned flags) {
    const struct trail_head *head = &audit->head;
    return head->chain.seq != head->checkpoint.seq &&
           ((flags & TRAIL_SIGN) != 0 ||
            clock_monotonic_ms() - head->unsigned_ms >= audit->system->sign_ms);
}

static int write_lines(struct audit *audit, unsigned flags, struct list *answered) {
    int error = 0;
    if (audit->file == NULL || audit->file->is_broken)
        error = trail_roll(audit, answered);
    for (size_t i = 0; error == 0 && i < audit->n_workers; i++)
        error = line_worker(audit, &audit->workers[i], answered);
    if (error == 0)
        error = line_gap(audit, answered);
    if (error == 0)
        error = line_worker(audit, &audit->workers[audit->n_workers], answered);
    if (error == 0 && is_checkpoint_due(audit, flags))
        error = add_checkpoint(audit, answered);
    return error != 0 ? error : trail_flush(audit);
}

/* --- failing --- */

/* Records that somebody waits for leave the buffer; the others move up. */
static void drop_waited(struct buf *records) {
    char *from = records->data + records->start, *to = from;
    const char *end = records->data + records->end;
    if (buf_len(records) == 0)
        return;
    while (from < end) {
        uint32_t head;
        memcpy(&head, from, sizeof head);
        size_t len = RECORD_HEAD + (head & RECORD_LEN);
        if ((head & RECORD_WAITED) == 0) {
            memmove(to, from, len);
            to += len;
        }
        from += len;
    }
    buf_truncate(records, (size_t)(to - (records->data + records->start)));
}

static void refuse_worker(struct audit *audit, struct audit_worker *worker, struct list *answered) {
    drop_waited(&worker->taken);
    move_to_answered(audit, &worker->taken_waits, answered);
    pthread_mutex_lock(&worker->mutex);
    if (!list_is_empty(&worker->waits))
        drop_waited(&worker->held);
    move_to_answered(audit, &worker->waits, answered);
    worker->n_kept = buf_len(&worker->taken);
    pthread_mutex_unlock(&worker->mutex);
}

static void refuse_all(struct audit *audit, struct list *answered) {
    put_back(audit);
    move_to_answered(audit, &audit->chunk_waits, answered);
    for (size_t i = 0; i <= audit->n_workers; i++)
        refuse_worker(audit, &audit->workers[i], answered);
}

void trail_fail(struct audit *audit, int error, const char *what, struct list *answered) {
    char name[AUDIT_SEGMENT_CHARS + 1] = "a new segment";
    bool is_news = audit->error != error;
    if (audit->file != NULL)
        audit_segment_name(audit->file->first_seq, name);
    audit->error = error;
    audit->retry_ms = clock_monotonic_ms() + audit->system->retry_ms;
    audit->kept.is_gap_due = true;
    atomic_store(&audit->can_write, false);
    snprintf(audit->error_text, sizeof audit->error_text, "%s %s: %s", what, name,
             strerror(-error));
    refuse_all(audit, answered);
    if (is_news)
        log_write(audit->log, LOG_ERROR, "audit", "the audit trail cannot be written",
                  LOG_CSTR("directory", audit->dir), LOG_CSTR("error", audit->error_text));
    trail_wake_keeper(audit);
}

static void recovered(struct audit *audit) {
    if (audit->error != 0)
        log_write(audit->log, LOG_WARN, "audit", "the audit trail can be written again",
                  LOG_CSTR("directory", audit->dir), LOG_NUM("lost", trail_n_lost(audit)));
    audit->error = 0;
    atomic_store(&audit->can_write, true);
}

static void write_all(struct audit *audit, unsigned flags, struct list *answered) {
    if (audit->error != 0 && (flags & TRAIL_NOW) == 0 && clock_monotonic_ms() < audit->retry_ms) {
        refuse_all(audit, answered);
        return;
    }
    int error = write_lines(audit, flags, answered);
    if (error != 0)
        trail_fail(audit, error, "writing", answered);
    else
        recovered(audit);
}

/* --- syncing --- */

void trail_set_durable(struct audit *audit, uint64_t n_commits, uint64_t seq,
                       const struct audit_chain *checkpoint, struct list *answered) {
    struct list_link *link;
    if (n_commits > audit->durable_commit)
        audit->durable_commit = n_commits;
    if (seq > audit->durable_seq)
        audit->durable_seq = seq;
    if (checkpoint->seq > audit->signed_head.seq)
        audit->signed_head = *checkpoint;
    while ((link = list_first(&audit->waiting)) != NULL) {
        struct audit_wait *wait = CONTAINER_OF(link, struct audit_wait, link);
        if (wait->written > audit->durable_commit)
            return;
        wait->is_durable = true;
        list_remove(link);
        list_push_back(answered, link);
    }
}

/* Nothing of it that was not synced before is trusted. */
static void break_file(struct audit *audit, struct list *answered) {
    audit->file->is_broken = true;
    audit->kept.n_unsynced += audit->kept.chain.seq - audit->durable_seq;
    audit->durable_seq = audit->kept.chain.seq;
    move_to_answered(audit, &audit->waiting, answered);
}

int trail_sync_here(struct audit *audit, struct list *answered) {
    if (audit->system->sync_data(audit->file->fd) != 0) {
        int error = -errno;
        break_file(audit, answered);
        return error;
    }
    audit->begun_commit = audit->n_commits;
    trail_set_durable(audit, audit->n_commits, audit->kept.chain.seq, &audit->kept.checkpoint,
                      answered);
    return 0;
}

/* What a sync answers for. */
struct point {
    struct trail_file *file; /* NULL: none is needed */
    uint64_t n_commits, seq;
    struct audit_chain checkpoint;
};

static struct point begin_sync(struct audit *audit, struct list *answered) {
    struct point point = {.file = NULL};
    uint64_t needed = audit->checkpoint_commit;
    if (audit->mode == AUDIT_REQUIRED && audit->wait_commit > needed)
        needed = audit->wait_commit;
    if (audit->mode == AUDIT_BEST_EFFORT) { /* written is enough for who waits */
        LIST_FOREACH_SAFE (&audit->waiting, link, next) {
            CONTAINER_OF(link, struct audit_wait, link)->is_durable = true;
        }
        list_splice_back(answered, &audit->waiting);
    }
    if (audit->file == NULL || audit->file->is_broken || needed <= audit->begun_commit)
        return point;
    audit->begun_commit = audit->n_commits;
    audit->file->n_syncing++;
    point.file = audit->file;
    point.n_commits = audit->n_commits;
    point.seq = audit->kept.chain.seq;
    point.checkpoint = audit->kept.checkpoint;
    return point;
}

static void end_sync(struct audit *audit, const struct point *point, int error,
                     struct list *answered) {
    struct trail_file *file = point->file;
    file->n_syncing--;
    if (error == 0 && !file->is_broken) {
        trail_set_durable(audit, point->n_commits, point->seq, &point->checkpoint, answered);
    } else if (error != 0 && !file->is_broken && !file->is_old) {
        /* (Of an old one all was synced when it was closed, through a descriptor of its own.) */
        break_file(audit, answered);
        trail_fail(audit, error, "syncing", answered);
    }
    if (file->is_old && file->n_syncing == 0)
        trail_file_free(file);
}

/* Without a descriptor of its own nobody else may sync meanwhile. */
static void run_sync(struct audit *audit, size_t syncer, const struct point *point,
                     struct list *answered) {
    int fd = point->file->sync_fds[syncer], error = 0;
    if (fd >= 0)
        error = audit->system->sync_data(fd) == 0 ? 0 : -errno;
    pthread_mutex_lock(&audit->commit);
    if (fd < 0)
        error = audit->system->sync_data(point->file->fd) == 0 ? 0 : -errno;
    end_sync(audit, point, error, answered);
    trail_publish(audit);
    pthread_mutex_unlock(&audit->commit);
}

void trail_publish(struct audit *audit) {
    pthread_mutex_lock(&audit->publish);
    audit->state.head = audit->kept.chain;
    audit->state.signed_head = audit->signed_head;
    audit->state.n_segments = audit->n_segments;
    audit->state.bytes = audit->old_bytes + (audit->file != NULL ? audit->file->bytes : 0);
    if (audit->error != 0)
        memcpy(audit->state.error, audit->error_text, sizeof audit->state.error);
    pthread_mutex_unlock(&audit->publish);
}

void trail_answer(struct list *answered) {
    struct list_link *link;
    while ((link = list_pop_front(answered)) != NULL) {
        struct audit_wait *wait = CONTAINER_OF(link, struct audit_wait, link);
        io_loop_post(wait->loop, &wait->message);
    }
}

void trail_commit(struct audit *audit, size_t syncer, unsigned flags) {
    struct list answered;
    list_init(&answered);
    pthread_mutex_lock(&audit->commit);
    write_all(audit, flags, &answered);
    struct point point = begin_sync(audit, &answered);
    trail_publish(audit);
    pthread_mutex_unlock(&audit->commit);
    trail_answer(&answered);
    if (point.file == NULL)
        return;
    run_sync(audit, syncer, &point, &answered);
    trail_answer(&answered);
}
