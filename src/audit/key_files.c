#include "key_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/keys.h"
#include "base/secret.h"
#include "io/file.h"

static int refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return AUDIT_E_KEY;
}

/* What can be wrong with each, in words of its own. */
static const struct file_row {
    const char *name;
    struct slice sealed_name; /* below the data directory */
    const char *exposed, *irregular, *damaged, *locked;
} file_rows[N_KEY_FILES] = {
    [KEY_FILE_SIGNING] = {"signing.pem", SLICE_INIT("audit/signing.pem"),
                          "signing.pem can be read by others than its owner",
                          "signing.pem is no regular file",
                          "signing.pem holds no Ed25519 private key",
                          "signing.pem is encrypted, and opened by no key that is here"},
    [KEY_FILE_PUBLIC] = {"public.pem", SLICE_INIT(""), "", "public.pem is no regular file",
                         "public.pem does not belong to signing.pem", ""},
    [KEY_FILE_HMAC] = {"hmac.key", SLICE_INIT("audit/hmac.key"),
                       "hmac.key can be read by others than its owner",
                       "hmac.key is no regular file",
                       "hmac.key does not hold 32 bytes in base64url and a line end",
                       "hmac.key is encrypted, and opened by no key that is here"},
};

static int path_of(const char *dir, const char *name, const char *suffix, char path[PATH_MAX]) {
    int n = snprintf(path, PATH_MAX, "%s/%s%s", dir, name, suffix);
    return n > 0 && n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int read_whole(int fd, struct buf *out) {
    for (;;) {
        char *room = buf_reserve(out, 1024);
        if (room == NULL)
            return buf_error(out) == -E2BIG ? -EFBIG : buf_error(out);
        ssize_t n = read(fd, room, 1024);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return 0;
        if (n > 0)
            buf_commit(out, (size_t)n);
    }
}

/* The memory is asked for once, so that nothing of a key stays in a block that was too small.
 * -ENOENT: it is missing. */
static int read_content(const char *dir, enum key_file which, struct buf *out,
                        const char **ret_reason) {
    const struct file_row *row = &file_rows[which];
    char path[PATH_MAX];
    struct stat info;
    secret_buf_deinit(out);
    buf_init(out, KEY_FILE_MAX + 1024);
    int error = path_of(dir, row->name, "", path);
    if (error == 0 && buf_reserve(out, KEY_FILE_MAX) == NULL)
        error = -ENOMEM;
    if (error != 0)
        return error;
    /* A pipe would keep us waiting. */
    CLEANUP(io_fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ELOOP ? refuse(ret_reason, row->irregular) : -errno;
    if (fstat(fd, &info) != 0)
        return -errno;
    if (!S_ISREG(info.st_mode))
        return refuse(ret_reason, row->irregular);
    if (which != KEY_FILE_PUBLIC && (info.st_mode & 077) != 0)
        return refuse(ret_reason, row->exposed);
    error = read_whole(fd, out);
    return error == -EFBIG ? refuse(ret_reason, row->damaged) : error;
}

/* In the place of what is encrypted. */
static int open_content(const struct key_place *place, enum key_file which, struct buf *content) {
    CLEANUP(buf_deinit) struct buf unused = BUF_INIT(KEY_FILE_MAX);
    CLEANUP(secret_freep) struct secret *plain = NULL;
    int error = place->sealing->open(place->sealing->context, file_rows[which].sealed_name,
                                     buf_slice(content), &plain, &unused);
    if (error != 0)
        return error;
    buf_reset(content, KEY_FILE_MAX);
    return buf_append(content, secret_reveal(plain)); /* to be parsed */
}

int key_file_read(const struct key_place *place, enum key_file which, struct buf *out,
                  const char **ret_reason) {
    int error = SEALING_E_REFUSED;
    for (int i = 0; i < SEALING_TRIES && error == SEALING_E_REFUSED; i++) {
        error = read_content(place->dir, which, out, ret_reason);
        if (error != 0 || which == KEY_FILE_PUBLIC || !sealing_is_sealed(buf_slice(out)))
            return error;
        if (place->sealing != NULL)
            error = open_content(place, which, out);
        else
            error = SEALING_E_REFUSED;
    }
    return error == SEALING_E_REFUSED ? refuse(ret_reason, file_rows[which].locked) : error;
}

static int sync_folder(const char *dir) {
    CLEANUP(io_fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 ? 0 : -errno;
}

struct writing {
    const char *dir;
    enum key_file which;
};

/* Whole or not at all; what is there stays. */
static int write_content(void *context, struct slice content) {
    const struct writing *writing = context;
    const char *dir = writing->dir;
    enum key_file which = writing->which;
    char path[PATH_MAX], beside[PATH_MAX];
    int error = path_of(dir, file_rows[which].name, "", path);
    if (error == 0)
        error = path_of(dir, file_rows[which].name, ".new", beside);
    if (error != 0)
        return error;
    /* Of a start that ended in the middle. */
    if (unlink(beside) != 0 && errno != ENOENT)
        return -errno;
    error = io_file_create_private(beside, content);
    if (error != 0)
        return error;
    if (renameat2(AT_FDCWD, beside, AT_FDCWD, path, RENAME_NOREPLACE) != 0 &&
        (errno != EINVAL || access(path, F_OK) == 0 || rename(beside, path) != 0)) {
        error = -errno;
        unlink(beside);
        return error;
    }
    return sync_folder(dir);
}

int key_file_write(const struct key_place *place, enum key_file which, struct slice content) {
    CLEANUP(buf_deinit) struct buf unused = BUF_INIT(KEY_FILE_MAX);
    struct writing writing = {.dir = place->dir, .which = which};
    const struct sealing *sealing = place->sealing;
    if (sealing == NULL || which == KEY_FILE_PUBLIC)
        return write_content(&writing, content);
    int error = sealing->seal(sealing->context, file_rows[which].sealed_name, content,
                              write_content, &writing, &unused);
    return error == SEALING_E_REFUSED ? -ENOKEY : error;
}

const char *key_file_damaged(enum key_file which) {
    return file_rows[which].damaged;
}
