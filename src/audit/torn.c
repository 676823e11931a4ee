/*
 * What crashes have torn off the trail, in files beside it (file.c). They may be evidence, so they
 * are kept as long as the trail is; but whoever lets the gateway crash again and again must not
 * fill the disk by that. The oldest ones go when there are too many, when they take more than two
 * segments together, so that the newest one always stays, or when they are older than max_age. A
 * line in the trail says which and why, durable and signed before the file is deleted.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "trail_private.h"

struct torn {
    uint64_t seq;
    uint64_t place; /* of those of this number, from 1 on */
    uint64_t bytes, changed_us;
    const char *reason; /* why it has to go; NULL: it stays */
};

/* With a lock for each line a round should be short: the next one is a minute later. */
enum { OF_ONE_ROUND = 64 };

void trail_torn_name(uint64_t seq, uint64_t place, char name[TRAIL_TORN_NAME]) {
    if (place == 1)
        snprintf(name, TRAIL_TORN_NAME, "torn-%020" PRIu64, seq);
    else
        snprintf(name, TRAIL_TORN_NAME, "torn-%020" PRIu64 "-%" PRIu64, seq, place);
}

/* What it would be written as, and nothing else. */
static bool read_name(const char *text, struct torn *torn) {
    struct slice rest = slice_from_cstr(text), seq, place;
    char name[TRAIL_TORN_NAME];
    if (!slice_starts_with(rest, SLICE("torn-")))
        return false;
    torn->place = 1;
    if (slice_cut(slice_from(rest, strlen("torn-")), '-', &seq, &place) &&
        slice_to_u64(place, &torn->place) != 0)
        return false;
    if (slice_to_u64(seq, &torn->seq) != 0)
        return false;
    trail_torn_name(torn->seq, torn->place, name);
    return strcmp(name, text) == 0;
}

/* --- which there are --- */

static int add_file(int dir_fd, const char *name, struct buf *found) {
    struct torn torn = {.reason = NULL};
    struct stat info;
    if (!read_name(name, &torn) || fstatat(dir_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(info.st_mode))
        return 0;
    torn.bytes = info.st_size > 0 ? (uint64_t)info.st_size : 0;
    torn.changed_us = info.st_mtim.tv_sec > 0 ? (uint64_t)info.st_mtim.tv_sec * 1000000 : 0;
    return buf_append(found, slice_make((const char *)&torn, sizeof torn));
}

static int read_folder(int dir_fd, struct buf *found) {
    int error = 0, fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (folder == NULL) {
        error = -errno;
        io_fd_close(&fd);
        return error;
    }
    const struct dirent *entry;
    while (error == 0 && (entry = readdir(folder)) != NULL)
        error = add_file(dir_fd, entry->d_name, found);
    closedir(folder);
    return error;
}

static int compare(const void *a, const void *b) {
    const struct torn *left = a, *right = b;
    if (left->seq != right->seq)
        return left->seq < right->seq ? -1 : 1;
    return left->place < right->place ? -1 : left->place > right->place;
}

/* The oldest one first. */
static int list_torn(int dir_fd, struct torn **ret_list, size_t *ret_n) {
    CLEANUP(buf_deinit) struct buf found = BUF_INIT(MIB(8));
    int error = read_folder(dir_fd, &found);
    size_t n = buf_len(&found) / sizeof(struct torn);
    struct torn *list = error == 0 ? mem_alloc((n + 1) * sizeof *list) : NULL;
    if (list == NULL)
        return error != 0 ? error : -ENOMEM;
    if (n != 0)
        memcpy(list, buf_slice(&found).ptr, n * sizeof *list);
    qsort(list, n, sizeof *list, compare);
    *ret_list = list;
    *ret_n = n;
    return 0;
}

/* --- which have to go --- */

/* Bytes that stay. */
static uint64_t choose(const struct audit *audit, struct torn *list, size_t n) {
    uint64_t now_us = audit->system->wall_us(), max_age_ms = atomic_load(&audit->max_age_ms);
    uint64_t most = 2 * trail_segment_bytes(audit), bytes = 0;
    size_t left = n, n_gone = 0;
    for (size_t i = 0; i < n; i++)
        bytes += list[i].bytes;
    for (size_t i = 0; i < n && n_gone < OF_ONE_ROUND; i++) {
        struct torn *torn = &list[i];
        if (now_us > torn->changed_us && (now_us - torn->changed_us) / 1000 > max_age_ms)
            torn->reason = "age";
        else if (left > LIMIT_AUDIT_TORN)
            torn->reason = "count";
        else if (bytes > most && left > 1)
            torn->reason = "size";
        else
            continue;
        bytes -= torn->bytes;
        left--;
        n_gone++;
    }
    return bytes;
}

/* With the lock. */
static int announce(struct audit *audit, const struct torn *list, size_t n, struct list *answered) {
    int error = trail_bound_checkpoints(audit, answered);
    for (size_t i = 0; i < n && error == 0; i++) {
        char name[TRAIL_TORN_NAME];
        if (list[i].reason == NULL)
            continue;
        trail_torn_name(list[i].seq, list[i].place, name);
        buf_reset(&audit->body, KIB(4));
        error = audit_body_torn(audit->system->wall_us(), name, list[i].bytes, list[i].reason,
                                &audit->body);
        if (error == 0)
            error = trail_add_own(audit);
    }
    return trail_announce(audit, error, answered);
}

static void delete_files(struct audit *audit, const struct torn *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char name[TRAIL_TORN_NAME];
        if (list[i].reason == NULL)
            continue;
        trail_torn_name(list[i].seq, list[i].place, name);
        bool is_gone = unlinkat(audit->dir_fd, name, 0) == 0 || errno == ENOENT;
        log_write(audit->log, LOG_WARN, "audit",
                  is_gone ? "what was torn off the audit trail is deleted"
                          : "what was torn off the audit trail cannot be deleted",
                  LOG_CSTR("directory", audit->dir), LOG_CSTR("file", name),
                  LOG_NUM("bytes", list[i].bytes), LOG_CSTR("because", list[i].reason));
    }
    (void)!audit->system->sync_whole(audit->dir_fd);
}

static bool has_reason(const struct torn *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (list[i].reason != NULL)
            return true;
    }
    return false;
}

void trail_retain_torn(struct audit *audit) {
    CLEANUP(mem_freep) struct torn *list = NULL;
    struct list answered;
    size_t n = 0;
    if (list_torn(audit->dir_fd, &list, &n) != 0)
        return; /* tried again in a minute */
    uint64_t bytes = choose(audit, list, n);
    bool deletes = has_reason(list, n);
    list_init(&answered);
    pthread_mutex_lock(&audit->commit);
    bool is_fine = audit->error == 0 && audit->file != NULL && !audit->file->is_broken;
    if (deletes)
        deletes = is_fine && announce(audit, list, n, &answered) == 0;
    audit->torn_bytes = bytes;
    trail_publish(audit);
    pthread_mutex_unlock(&audit->commit);
    trail_answer(&answered);
    if (deletes)
        delete_files(audit, list, n);
}
