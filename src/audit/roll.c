/* New segments, the deletion of old ones, and the reserve. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"
#include "trail_private.h"

enum {
    PARTS = 16, /* segments, of max_bytes */
    AHEAD = 2,  /* of them are kept free */
};
#define MOST_SEGMENT MIB(64)

static const char reserve_name[] = "reserve";

uint64_t trail_segment_bytes(const struct audit *audit) {
    uint64_t part = atomic_load(&audit->max_bytes) / PARTS;
    if (part < audit->system->least_segment)
        return audit->system->least_segment;
    return part < MOST_SEGMENT ? part : MOST_SEGMENT;
}

bool trail_file_is_full(const struct audit *audit) {
    const struct trail_file *file = audit->file;
    uint64_t age_ms = clock_monotonic_ms() - file->opened_ms + file->age_ms;
    return file->bytes + buf_len(&audit->out) >= trail_segment_bytes(audit) ||
           age_ms >= audit->system->day_ms;
}

/* --- a new segment --- */

/* Its last line is a checkpoint, and all of it is durable. Of a broken one nothing is durable any
 * more; the checkpoint is tried, since readers look for one. */
static int close_segment(struct audit *audit, struct list *answered) {
    int error = audit->file->is_broken ? 0 : trail_bound_checkpoints(audit, answered);
    if (error == 0)
        error = trail_add_checkpoint(audit);
    if (error == 0)
        error = trail_flush(audit);
    if (audit->file->is_broken)
        return 0;
    return error != 0 ? error : trail_sync_here(audit, answered);
}

static int write_first_lines(struct audit *audit, uint64_t number) {
    const struct audit_chain *chain = &audit->kept.chain;
    struct audit_segment_body segment = {
        .time_us = audit->system->wall_us(),
        .log = slice_from_cstr(audit->log_id),
        .number = number,
        .key = slice_from_cstr(audit_keys_id(audit->keys)),
        .program = slice_from_cstr(audit->program),
    };
    memcpy(segment.previous, chain->hash, sizeof segment.previous);
    audit->head = audit->kept;
    buf_reset(&audit->out, TRAIL_KEEP);
    buf_reset(&audit->body, KIB(4));
    int error = audit_body_segment(&segment, &audit->body);
    if (error == 0)
        error = trail_add_own(audit);
    return error != 0 ? error : trail_add_checkpoint(audit);
}

/* What has its name already is no segment of this chain. */
static int create(struct audit *audit, uint64_t first_seq, struct trail_file **ret_file) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    int error = trail_file_open(audit->dir_fd, first_seq, true, ret_file);
    if (error != -EEXIST)
        return error;
    audit_segment_name(first_seq, name);
    error = trail_tear_off(audit->dir_fd, audit->system, name, 0, first_seq);
    return error != 0 ? error : trail_file_open(audit->dir_fd, first_seq, true, ret_file);
}

/* File and name are durable before anything else is written to it. */
static int fill(struct audit *audit, struct trail_file *file) {
    int error = trail_file_append(file, audit->system, buf_slice(&audit->out));
    if (error != 0)
        return error;
    if (audit->system->sync_whole(file->fd) != 0 || audit->system->sync_whole(audit->dir_fd) != 0)
        return -errno;
    return 0;
}

static int begin_segment(struct audit *audit, struct trail_file **ret_file) {
    uint64_t number = audit->file != NULL ? audit->file->number + 1 : 1;
    uint64_t first_seq = audit->kept.chain.seq + 1;
    struct trail_file *file = NULL;
    int error = write_first_lines(audit, number);
    if (error == 0)
        error = create(audit, first_seq, &file);
    if (error == 0)
        error = fill(audit, file);
    if (error == 0) {
        file->number = number;
        *ret_file = file;
        return 0;
    }
    audit->head = audit->kept;
    buf_reset(&audit->out, TRAIL_KEEP);
    if (file != NULL) {
        char name[AUDIT_SEGMENT_CHARS + 1];
        audit_segment_name(first_seq, name);
        unlinkat(audit->dir_fd, name, 0);
        trail_file_free(file);
    }
    return error;
}

static void adopt(struct audit *audit, struct trail_file *file, struct list *answered) {
    struct trail_file *old = audit->file;
    audit->file = file;
    audit->kept = audit->head;
    buf_reset(&audit->out, TRAIL_KEEP);
    trail_file_open_syncers(file, audit->dir_fd,
                            audit->mode == AUDIT_REQUIRED ? 1 + TRAIL_SYNCERS : 1);
    audit->segments[audit->n_segments++] = (struct trail_segment){
        .first_seq = file->first_seq, .bytes = file->bytes, .end_us = audit->system->wall_us()};
    if (old != NULL) {
        audit->old_bytes += old->bytes;
        old->is_old = true;
        if (old->n_syncing == 0)
            trail_file_free(old);
    }
    audit->n_commits++;
    audit->checkpoint_commit = audit->begun_commit = audit->n_commits;
    trail_set_durable(audit, audit->n_commits, audit->kept.chain.seq, &audit->kept.checkpoint,
                      answered);
}

/* --- retention --- */

/*
 * How many of the oldest segments have to go. The newest one counts as full, and so do the two that
 * may come while the oldest is being deleted and the index follows: so the whole stays below
 * max_bytes also while it grows.
 */
static size_t count_expired(const struct audit *audit, const char **ret_reason) {
    uint64_t now_us = audit->system->wall_us(), max_age_ms = atomic_load(&audit->max_age_ms);
    uint64_t max_bytes = atomic_load(&audit->max_bytes), whole = trail_segment_bytes(audit);
    uint64_t bytes = audit->old_bytes + audit->torn_bytes + atomic_load(&audit->told_bytes) +
                     AHEAD * whole + (audit->file->bytes > whole ? audit->file->bytes : whole);
    size_t n = 0;
    while (n + 1 < audit->n_segments) {
        const struct trail_segment *segment = &audit->segments[n];
        bool is_old = now_us > segment->end_us && (now_us - segment->end_us) / 1000 > max_age_ms;
        if (!is_old && bytes <= max_bytes)
            break;
        *ret_reason = is_old ? "age" : "size";
        bytes -= segment->bytes < bytes ? segment->bytes : bytes;
        n++;
    }
    return n;
}

int trail_announce(struct audit *audit, int error, struct list *answered) {
    if (error == 0)
        error = trail_add_checkpoint(audit);
    if (error == 0)
        error = trail_flush(audit);
    if (error != 0) {
        trail_fail(audit, error, "writing", answered);
        return error;
    }
    error = trail_sync_here(audit, answered);
    if (error != 0)
        trail_fail(audit, error, "syncing", answered);
    return error;
}

/* Nobody may say later that somebody else deleted them. */
static int announce(struct audit *audit, size_t n, const char *reason, struct list *answered) {
    int error = trail_bound_checkpoints(audit, answered);
    buf_reset(&audit->body, KIB(4));
    if (error == 0)
        error = audit_body_retention(audit->system->wall_us(), audit->segments[n].first_seq, reason,
                                     &audit->body);
    if (error == 0)
        error = trail_add_own(audit);
    return trail_announce(audit, error, answered);
}

/* The keeper does it without the lock: that may take a while. */
static void delete_files(struct audit *audit, const struct trail_segment *segments, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char name[AUDIT_SEGMENT_CHARS + 1];
        audit_segment_name(segments[i].first_seq, name);
        if (unlinkat(audit->dir_fd, name, 0) != 0 && errno != ENOENT)
            log_write(audit->log, LOG_WARN, "audit", "an old segment cannot be deleted",
                      LOG_CSTR("file", name), LOG_CSTR("error", strerror(errno)));
    }
    if (audit->system->sync_whole(audit->dir_fd) != 0)
        log_write(audit->log, LOG_WARN, "audit", "the directory cannot be synced",
                  LOG_CSTR("directory", audit->dir), LOG_CSTR("error", strerror(errno)));
}

/* With the lock; *ret_gone: segments that are not in the list any more. */
static size_t take_expired(struct audit *audit, struct trail_segment **ret_gone,
                           struct list *answered) {
    const char *reason = "";
    if (audit->error != 0 || audit->file == NULL || audit->file->is_broken)
        return 0;
    audit->n_unretained = 0;
    size_t n = count_expired(audit, &reason);
    struct trail_segment *gone = n != 0 ? mem_alloc(n * sizeof *gone) : NULL;
    if (gone == NULL || announce(audit, n, reason, answered) != 0) {
        mem_free(gone);
        return 0;
    }
    memcpy(gone, audit->segments, n * sizeof *gone);
    audit->n_segments -= n;
    memmove(audit->segments, audit->segments + n, audit->n_segments * sizeof *audit->segments);
    for (size_t i = 0; i < n; i++)
        audit->old_bytes -= gone[i].bytes;
    *ret_gone = gone;
    return n;
}

static void retain_here(struct audit *audit, struct list *answered) {
    struct trail_segment *gone CLEANUP(mem_freep) = NULL;
    size_t n = take_expired(audit, &gone, answered);
    if (n != 0)
        delete_files(audit, gone, n);
}

int trail_roll(struct audit *audit, struct list *answered) {
    struct trail_file *file = NULL;
    struct trail_segment *segments =
        mem_realloc(audit->segments, (audit->n_segments + 1) * sizeof *segments);
    if (segments == NULL)
        return -ENOMEM;
    audit->segments = segments;
    int error = audit->file != NULL ? close_segment(audit, answered) : 0;
    if (error != 0)
        return error;
    error = begin_segment(audit, &file);
    if (trail_is_full_disk(error) && trail_reserve_drop(audit))
        error = begin_segment(audit, &file);
    if (error != 0)
        return error;
    adopt(audit, file, answered);
    /* One commit may fill several: what comes while the keeper is on its way is bounded, too. */
    if (++audit->n_unretained >= AHEAD) {
        retain_here(audit, answered);
        return 0;
    }
    pthread_mutex_lock(&audit->wake);
    audit->is_retention_wanted = true;
    pthread_cond_signal(&audit->keeper_cond);
    pthread_mutex_unlock(&audit->wake);
    return 0;
}

void trail_retain(struct audit *audit) {
    struct trail_segment *gone CLEANUP(mem_freep) = NULL;
    struct list answered;
    trail_retain_torn(audit);
    list_init(&answered);
    pthread_mutex_lock(&audit->commit);
    size_t n = take_expired(audit, &gone, &answered);
    trail_publish(audit);
    pthread_mutex_unlock(&audit->commit);
    trail_answer(&answered);
    if (n != 0)
        delete_files(audit, gone, n);
}

/* --- the reserve --- */

bool trail_reserve_drop(struct audit *audit) {
    if (!audit->has_reserve || unlinkat(audit->dir_fd, reserve_name, 0) != 0)
        return false;
    audit->has_reserve = false;
    log_write(audit->log, LOG_ERROR, "audit",
              "the disk is full: the audit trail writes into its reserve, and strangers are only "
              "counted",
              LOG_CSTR("directory", audit->dir), LOG_NUM("bytes", LIMIT_AUDIT_RESERVE));
    trail_wake_keeper(audit);
    return true;
}

static bool is_whole_reserve(int fd) {
    struct stat info;
    return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 1 &&
           (uint64_t)info.st_size == LIMIT_AUDIT_RESERVE &&
           (uint64_t)info.st_blocks * 512 >= LIMIT_AUDIT_RESERVE;
}

void trail_reserve_make(struct audit *audit) {
    struct statvfs space;
    if (audit->has_reserve)
        return;
    CLEANUP(io_fd_close)
    int fd = openat(audit->dir_fd, reserve_name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && is_whole_reserve(fd)) {
        audit->has_reserve = true;
        return;
    }
    if (fstatvfs(audit->dir_fd, &space) != 0 ||
        (uint64_t)space.f_bavail * space.f_frsize < 2 * (uint64_t)LIMIT_AUDIT_RESERVE)
        return;
    io_fd_close(&fd);
    unlinkat(audit->dir_fd, reserve_name, 0);
    fd = openat(audit->dir_fd, reserve_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    audit->has_reserve = posix_fallocate(fd, 0, (off_t)LIMIT_AUDIT_RESERVE) == 0;
    if (!audit->has_reserve)
        unlinkat(audit->dir_fd, reserve_name, 0);
}
