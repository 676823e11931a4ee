#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/secret.h"

void io_fd_close(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int io_file_read(const char *path, struct buf *out) {
    enum { CHUNK = 16 * 1024 };
    CLEANUP(io_fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (;;) {
        char chunk[CHUNK];
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        int error = buf_append(out, slice_make(chunk, (size_t)n));
        if (error != 0)
            return error == -E2BIG ? -EFBIG : error;
    }
}

int io_file_read_regular(const char *path, struct buf *out, struct stat *ret_info) {
    struct stat info;
    CLEANUP(io_fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &info) != 0)
        return -errno;
    if (!S_ISREG(info.st_mode))
        return S_ISDIR(info.st_mode) ? -EISDIR : -EINVAL;
    for (;;) { /* one more than fits, to see the end */
        char more = 0;
        size_t left = out->max - buf_len(out);
        char *room = left != 0 ? buf_reserve(out, left) : &more;
        if (room == NULL)
            return buf_error(out);
        ssize_t n = read(fd, room, left != 0 ? left : 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        if (left == 0)
            return -EFBIG;
        buf_commit(out, (size_t)n);
    }
    if (ret_info != NULL)
        *ret_info = info;
    return 0;
}

static int write_whole(int fd, struct slice content) {
    while (content.len != 0) {
        ssize_t n = write(fd, content.ptr, content.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        content = slice_from(content, (size_t)n);
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

int io_file_create_private(const char *path, struct slice content) {
    CLEANUP(io_fd_close)
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int error = write_whole(fd, content);
    if (error != 0)
        unlink(path);
    return error;
}

static int sync_folder_of(const char *path) {
    struct slice whole = slice_from_cstr(path);
    size_t slash = whole.len;
    while (slash > 1 && whole.ptr[slash - 1] != '/')
        slash--;
    CLEANUP(mem_freep) char *folder = NULL;
    int error = slice_dup_cstr(slash > 0 ? slice_sub(whole, 0, slash) : SLICE("."), &folder);
    if (error != 0)
        return error;
    CLEANUP(io_fd_close) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 ? 0 : -errno;
}

/* Between the look and the renaming is a moment that no call of the system closes; an editor that
 * saves in it loses, as it would against another editor. */
static int check_unchanged(const char *path, struct slice old) {
    CLEANUP(secret_buf_deinit) struct buf now = BUF_INIT(old.len + 1);
    if (buf_reserve(&now, old.len + 1) == NULL)
        return buf_error(&now);
    int error = io_file_read(path, &now);
    if (error == -EFBIG || (error == 0 && !slice_eq(buf_slice(&now), old)))
        return -ESTALE;
    return error;
}

/* Owner first: that takes bits of the mode away. Until then it is for us alone. */
static int write_beside(int fd, const struct stat *info, struct slice content) {
    struct stat own;
    if (fstat(fd, &own) != 0)
        return -errno;
    if ((own.st_uid != info->st_uid || own.st_gid != info->st_gid) &&
        fchown(fd, info->st_uid, info->st_gid) != 0)
        return -errno;
    if (fchmod(fd, info->st_mode & 07777) != 0)
        return -errno;
    return write_whole(fd, content);
}

int io_file_replace(const char *path, struct slice old, struct slice content) {
    struct stat info;
    char *real CLEANUP(mem_freep) = realpath(path, NULL);
    if (real == NULL || stat(real, &info) != 0)
        return -errno;
    if (!S_ISREG(info.st_mode) || info.st_nlink != 1)
        return S_ISREG(info.st_mode) ? -EMLINK : -EINVAL;
    CLEANUP(buf_deinit) struct buf beside = BUF_INIT(PATH_MAX + 16);
    buf_append_cstr(&beside, real);
    buf_append_cstr(&beside, ".XXXXXX");
    if (buf_append_byte(&beside, '\0') != 0)
        return buf_error(&beside) == -E2BIG ? -ENAMETOOLONG : buf_error(&beside);
    CLEANUP(io_fd_close) int fd = mkostemp(beside.data, O_CLOEXEC); /* mode 0600, a new one */
    if (fd < 0)
        return -errno;
    int error = write_beside(fd, &info, content);
    if (error == 0)
        error = check_unchanged(real, old);
    if (error == 0 && rename(beside.data, real) != 0)
        error = -errno;
    if (error != 0) {
        unlink(beside.data);
        return error;
    }
    return sync_folder_of(real);
}

/* What root writes in the place of somebody's file stays theirs. */
static int keep_owner(const char *path, const char *beside) {
    struct stat info;
    if (geteuid() != 0 || lstat(path, &info) != 0 || info.st_uid == 0)
        return 0;
    return chown(beside, info.st_uid, info.st_gid) == 0 ? 0 : -errno;
}

int io_file_put_private(const char *path, struct slice content) {
    CLEANUP(buf_deinit) struct buf beside = BUF_INIT(PATH_MAX + 8);
    buf_append_cstr(&beside, path);
    buf_append_cstr(&beside, ".new");
    if (buf_append_byte(&beside, '\0') != 0)
        return buf_error(&beside) == -E2BIG ? -ENAMETOOLONG : buf_error(&beside);
    const char *name = buf_slice(&beside).ptr;
    if (unlink(name) != 0 && errno != ENOENT) /* of one that was killed */
        return -errno;
    int error = io_file_create_private(name, content);
    if (error == 0)
        error = keep_owner(path, name);
    if (error == 0)
        error = check_unchanged(name, content);
    if (error == 0 && rename(name, path) != 0)
        error = -errno;
    if (error != 0) {
        unlink(name);
        return error;
    }
    return sync_folder_of(path);
}

int io_directory_make(const char *path) {
    if (mkdir(path, 0700) == 0 || errno == EEXIST) {
        struct stat info;
        if (stat(path, &info) != 0)
            return -errno;
        return S_ISDIR(info.st_mode) ? 0 : -ENOTDIR;
    }
    if (errno != ENOENT)
        return -errno;
    struct slice whole = slice_from_cstr(path);
    size_t slash = whole.len;
    while (slash > 1 && whole.ptr[slash - 1] != '/')
        slash--;
    if (slash <= 1)
        return -ENOENT;
    CLEANUP(mem_freep) char *parent = NULL;
    int error = slice_dup_cstr(slice_sub(whole, 0, slash - 1), &parent);
    if (error == 0)
        error = io_directory_make(parent);
    if (error != 0)
        return error;
    return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

static int lock_file(const char *path, int flags, int *ret_fd) {
    CLEANUP(io_fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    while (flock(fd, LOCK_EX | flags) != 0) {
        if (errno != EINTR)
            return -errno;
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int io_lock_file(const char *path, int *ret_fd) {
    return lock_file(path, LOCK_NB, ret_fd);
}

int io_lock_file_wait(const char *path, int *ret_fd) {
    return lock_file(path, 0, ret_fd);
}

void io_write_softly(int fd, struct slice text) {
    enum { PIECE = 4096 }; /* which a pipe has room for when it has any */
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    while (text.len != 0 && poll(&writable, 1, 0) == 1) {
        ssize_t n = write(fd, text.ptr, text.len < PIECE ? text.len : PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        text = slice_from(text, (size_t)n);
    }
}

int io_pipe(int *ret_read_fd, int *ret_write_fd) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return -errno;
    *ret_read_fd = fds[0];
    *ret_write_fd = fds[1];
    return 0;
}

int io_file_open_append(const char *path, int *ret_fd) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

int io_null_open(int *ret_fd) {
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}
