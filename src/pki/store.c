/*
 * The folder DIR/tls, and files that change in one step.
 *
 * A file is written beside its place under a fixed name, made durable, and renamed; then the folder
 * is made durable. So whoever reads finds the old or the new one, wherever the writer was ended.
 * What an ended writer left is removed by the next one, who alone holds the lock: the name need not
 * be guessed by anybody, because the folder is open to its owner only.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/file.h"
#include "private.h"

enum { LOCK_WAIT_MS = 10000, LOCK_STEP_MS = 10, FILE_NAME_SIZE = 64 };

MUST_CHECK static int read_whole(int fd, struct buf *out, size_t size) {
    char *room = buf_reserve(out, size);
    if (room == NULL)
        return buf_error(out);
    size_t have = 0;
    while (have < size) {
        ssize_t n = read(fd, room + have, size - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break; /* it became shorter meanwhile: the next look will tell */
        have += (size_t)n;
    }
    buf_commit(out, have);
    return 0;
}

int pki_file_read(int directory, const char *path, struct buf *out, mode_t *ret_mode) {
    struct stat info;
    /* O_NONBLOCK: a pipe without a writer would keep us in open(2). */
    CLEANUP(io_fd_close)
    int fd = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &info) != 0)
        return -errno;
    if (S_ISDIR(info.st_mode))
        return -EISDIR;
    if (!S_ISREG(info.st_mode))
        return -EINVAL;
    if (info.st_size < 0 || (uint64_t)info.st_size > LIMIT_CERTIFICATE_FILE)
        return -EFBIG;
    pki_buf_wipe(out);
    buf_init(out, LIMIT_CERTIFICATE_FILE);
    int error = info.st_size == 0 ? 0 : read_whole(fd, out, (size_t)info.st_size);
    if (error == 0 && ret_mode != NULL)
        *ret_mode = info.st_mode;
    return error;
}

void pki_folder_close(struct pki_folder *folder) {
    io_fd_close(&folder->lock);
    io_fd_close(&folder->fd);
}

/* What root makes in the folder of another account belongs to that account. */
static bool is_for_another(const struct pki_folder *folder) {
    return geteuid() == 0 && folder->owner != 0;
}

/* Whoever else may write there could put keys of their own into it. */
MUST_CHECK static int check_folder(struct pki_folder *folder) {
    struct stat info;
    if (fstat(folder->fd, &info) != 0)
        return -errno;
    if (info.st_uid != geteuid() && geteuid() != 0)
        return -EPERM;
    folder->owner = info.st_uid;
    folder->group = info.st_gid;
    if ((info.st_mode & 0077) != 0 && fchmod(folder->fd, 0700) != 0)
        return -errno;
    return 0;
}

/* With the owner of DIR, when root makes it. */
MUST_CHECK static int make_folder(int data_dir) {
    struct stat info;
    if (mkdirat(data_dir, "tls", 0700) != 0)
        return errno == EEXIST ? 0 : -errno;
    if (fstat(data_dir, &info) != 0)
        return -errno;
    if (geteuid() == 0 && info.st_uid != 0 &&
        fchownat(data_dir, "tls", info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
        return -errno;
    return fsync(data_dir) == 0 ? 0 : -errno;
}

int pki_folder_open(const char *data_dir, bool make, struct pki_folder *folder) {
    CLEANUP(io_fd_close) int above = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (above < 0)
        return -errno;
    int error = make ? make_folder(above) : 0;
    if (error != 0)
        return error;
    struct pki_folder opened = PKI_FOLDER_INIT;
    opened.fd = openat(above, "tls", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (opened.fd < 0)
        return -errno;
    error = check_folder(&opened);
    if (error != 0) {
        pki_folder_close(&opened);
        return error;
    }
    pki_folder_close(folder);
    *folder = opened;
    return 0;
}

MUST_CHECK static int give_away(const struct pki_folder *folder, int fd) {
    return is_for_another(folder) && fchown(fd, folder->owner, folder->group) != 0 ? -errno : 0;
}

int pki_folder_lock(struct pki_folder *folder) {
    CLEANUP(io_fd_close)
    int fd = openat(folder->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int error = give_away(folder, fd);
    if (error != 0)
        return error;
    uint64_t end = clock_monotonic_ms() + LOCK_WAIT_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (clock_monotonic_ms() >= end)
            return -EWOULDBLOCK;
        (void)poll(NULL, 0, LOCK_STEP_MS);
    }
    folder->lock = fd;
    fd = -1;
    return 0;
}

MUST_CHECK static int write_whole(int fd, struct slice content) {
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

MUST_CHECK static int write_beside(const struct pki_folder *folder, const char *beside,
                                   struct slice content) {
    CLEANUP(io_fd_close)
    int fd = openat(folder->fd, beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int error = give_away(folder, fd);
    return error == 0 ? write_whole(fd, content) : error;
}

int pki_folder_write(const struct pki_folder *folder, const char *name, struct slice content) {
    char beside[FILE_NAME_SIZE];
    (void)snprintf(beside, sizeof beside, "%s.new", name);
    if (unlinkat(folder->fd, beside, 0) != 0 && errno != ENOENT)
        return -errno;
    int error = write_beside(folder, beside, content);
    if (error == 0 && renameat(folder->fd, beside, folder->fd, name) != 0)
        error = -errno;
    if (error != 0) {
        (void)unlinkat(folder->fd, beside, 0);
        return error;
    }
    return fsync(folder->fd) == 0 ? 0 : -errno;
}
