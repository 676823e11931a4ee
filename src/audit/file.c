/*
 * One segment as a file. What is appended is whole lines, and either all of it stands there
 * afterwards or nothing: what a full disk cut is cut off again. Where not even that can be done,
 * the file is torn, and nothing is appended before it was.
 */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "trail_private.h"

const struct trail_system trail_system = {
    .write = write,
    .sync_data = fdatasync,
    .sync_whole = fsync,
    .wall_us = clock_wall_us,
    .tick_ms = 10,
    .sign_ms = 1000,
    .retry_ms = 1000,
    .denied_ms = 60000,
    .day_ms = UINT64_C(24) * 3600 * 1000,
    .least_segment = KIB(256),
};

bool trail_is_full_disk(int error) {
    return error == -ENOSPC || error == -EDQUOT;
}

int trail_file_open(int dir_fd, uint64_t first_seq, bool is_new, struct trail_file **ret_file) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    struct stat info;
    int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | (is_new ? O_CREAT | O_EXCL : 0);
    audit_segment_name(first_seq, name);
    CLEANUP(io_fd_close) int fd = openat(dir_fd, name, flags, 0600);
    if (fd < 0 || fstat(fd, &info) != 0)
        return -errno;
    struct trail_file *file = mem_alloc(sizeof *file);
    if (file == NULL)
        return -ENOMEM;
    file->first_seq = first_seq;
    file->bytes = (uint64_t)info.st_size;
    file->opened_ms = clock_monotonic_ms();
    for (size_t i = 0; i < ARRAY_LEN(file->sync_fds); i++)
        file->sync_fds[i] = -1;
    file->fd = fd;
    fd = -1;
    *ret_file = file;
    return 0;
}

struct trail_file *trail_file_free(struct trail_file *file) {
    if (file == NULL)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(file->sync_fds); i++)
        io_fd_close(&file->sync_fds[i]);
    io_fd_close(&file->fd);
    mem_free(file);
    return NULL;
}

void trail_file_open_syncers(struct trail_file *file, int dir_fd, size_t n_syncers) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    audit_segment_name(file->first_seq, name);
    for (size_t i = 0; i < n_syncers && i < ARRAY_LEN(file->sync_fds); i++) {
        file->sync_fds[i] = openat(dir_fd, name, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
        if (file->sync_fds[i] < 0)
            return;
    }
}

static int write_whole(int fd, const struct trail_system *system, struct slice bytes) {
    while (bytes.len != 0) {
        ssize_t n = system->write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        bytes = slice_from(bytes, (size_t)n);
    }
    return 0;
}

int trail_file_append(struct trail_file *file, const struct trail_system *system,
                      struct slice bytes) {
    if (file->is_torn && ftruncate(file->fd, (off_t)file->bytes) != 0)
        return -errno;
    file->is_torn = false;
    int error = write_whole(file->fd, system, bytes);
    if (error != 0)
        file->is_torn = ftruncate(file->fd, (off_t)file->bytes) != 0;
    else
        file->bytes += bytes.len;
    return error;
}

/* --- what is torn --- */

static int copy_rest(int from, uint64_t offset, int to, const struct trail_system *system) {
    enum { PIECE = 16 * 1024 };
    for (;;) {
        char piece[PIECE];
        ssize_t n = pread(from, piece, sizeof piece, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        int error = write_whole(to, system, slice_make(piece, (size_t)n));
        if (error != 0)
            return error;
        offset += (uint64_t)n;
    }
}

/* DIR/torn-SEQ, or torn-SEQ-2 and so on: after two crashes at the same place. */
static int create_torn(int dir_fd, uint64_t seq, char name[TRAIL_TORN_NAME], int *ret_fd) {
    enum { MOST = 1000 };
    for (unsigned i = 1; i <= MOST; i++) {
        trail_torn_name(seq, i, name);
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0) {
            *ret_fd = fd;
            return 0;
        }
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

int trail_tear_off(int dir_fd, const struct trail_system *system, const char *name, uint64_t offset,
                   uint64_t seq) {
    char torn_name[TRAIL_TORN_NAME];
    CLEANUP(io_fd_close) int torn = -1;
    CLEANUP(io_fd_close)
    int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int error = create_torn(dir_fd, seq, torn_name, &torn);
    if (error != 0)
        return error;
    error = copy_rest(fd, offset, torn, system);
    if (error == 0 && (system->sync_whole(torn) != 0 || system->sync_whole(dir_fd) != 0))
        error = -errno;
    if (error != 0) {
        unlinkat(dir_fd, torn_name, 0);
        return error;
    }
    if (offset == 0)
        return unlinkat(dir_fd, name, 0) == 0 && system->sync_whole(dir_fd) == 0 ? 0 : -errno;
    return ftruncate(fd, (off_t)offset) == 0 && system->sync_whole(fd) == 0 ? 0 : -errno;
}
