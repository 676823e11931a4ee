/*
 * The sink that writes JSON Lines into a file of the operator's.
 *
 * Lines go in as they are, several at a time, and all of them or none: what a full disk has cut
 * short is taken back. Before each write the path is looked at: when the file there is another one
 * by now, or none (logrotate), it is made anew. A file that a power failure has left with half a
 * line is mended first: those lines come again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "io/file.h"
#include "sink_private.h"

enum { BATCH = KIB(48), TORN_MOST = KIB(256), RETRY_MS = 1000 };

struct jsonl {
    char *path;
    char *names[2]; /* scratch: PATH.N */
    size_t name_size;
    uint64_t max_bytes, n_files;
    int fd; /* -1: none is open */
    uint64_t size;
    dev_t device;
    ino_t inode;
};

static struct jsonl *jsonl_of(const struct audit_sink *sink) {
    return sink->of_kind;
}

static int encode(struct audit_sink *sink, struct slice line) {
    buf_append(&sink->batch, line);
    return buf_append_byte(&sink->batch, '\n');
}

/* A place that is saved later says that what is in it is safe. */
static void close_file(struct audit_sink *sink) {
    if (jsonl_of(sink)->fd >= 0)
        (void)fdatasync(jsonl_of(sink)->fd);
    io_fd_close(&jsonl_of(sink)->fd);
}

static int fail_with(struct audit_sink *sink, const char *what, int error) {
    sink_tell(sink, "%s %.60s: %s", what, jsonl_of(sink)->path, strerror(-error));
    return error;
}

/* --- opening --- */

/* How long the file is without the half line at its end. Only what looks like a line of ours is cut
 * off: the file may have been somebody else's. */
static uint64_t whole_lines(int fd, uint64_t size) {
    uint64_t from = size > TORN_MOST ? size - TORN_MOST : 0;
    size_t len = (size_t)(size - from);
    CLEANUP(mem_freep) char *tail = mem_alloc(len);
    if (tail == NULL || pread(fd, tail, len, (off_t)from) != (ssize_t)len || len == 0)
        return size;
    const char *line_end = memrchr(tail, '\n', len);
    size_t kept = line_end != NULL ? (size_t)(line_end - tail) + 1 : 0;
    struct slice torn = slice_make(tail + kept, len - kept), start = SLICE("{\"seq\":");
    bool is_ours =
        torn.len < start.len ? slice_starts_with(start, torn) : slice_starts_with(torn, start);
    return is_ours && (kept != 0 || from == 0) ? from + kept : size;
}

static int mend(struct jsonl *jsonl) {
    CLEANUP(io_fd_close) int fd = open(jsonl->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char last = '\n';
    if (fd < 0 || jsonl->size == 0)
        return fd < 0 ? -errno : 0;
    if (pread(fd, &last, 1, (off_t)jsonl->size - 1) == 1 && last == '\n')
        return 0;
    uint64_t kept = whole_lines(fd, jsonl->size);
    if (kept == jsonl->size) {
        if (write(jsonl->fd, "\n", 1) != 1)
            return -errno;
        jsonl->size++;
        return 0;
    }
    if (ftruncate(jsonl->fd, (off_t)kept) != 0)
        return -errno;
    jsonl->size = kept;
    return 0;
}

static int open_file(struct audit_sink *sink) {
    struct jsonl *jsonl = jsonl_of(sink);
    struct stat info;
    /* Opening a pipe would wait for its reader. */
    if (lstat(jsonl->path, &info) == 0 && !S_ISREG(info.st_mode)) {
        sink_tell(sink, "%.80s is no regular file", jsonl->path);
        return -EINVAL;
    }
    int error = io_file_open_append(jsonl->path, &jsonl->fd);
    if (error != 0)
        return fail_with(sink, "cannot open", error);
    if (fstat(jsonl->fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        sink_tell(sink, "%.80s is no regular file", jsonl->path);
        io_fd_close(&jsonl->fd);
        return -EINVAL;
    }
    jsonl->size = (uint64_t)info.st_size;
    jsonl->device = info.st_dev;
    jsonl->inode = info.st_ino;
    error = mend(jsonl);
    if (error != 0) {
        io_fd_close(&jsonl->fd);
        return fail_with(sink, "cannot mend", error);
    }
    return 0;
}

/* The file may have been moved away, or cut by others. */
static int settle_on_file(struct audit_sink *sink) {
    struct jsonl *jsonl = jsonl_of(sink);
    struct stat info;
    if (jsonl->fd >= 0 && (stat(jsonl->path, &info) != 0 || info.st_dev != jsonl->device ||
                           info.st_ino != jsonl->inode))
        close_file(sink);
    if (jsonl->fd < 0)
        return open_file(sink);
    jsonl->size = (uint64_t)info.st_size;
    return 0;
}

/* --- rotation --- */

static const char *name_of(struct jsonl *jsonl, size_t scratch, uint64_t number) {
    if (number == 0)
        return jsonl->path;
    snprintf(jsonl->names[scratch], jsonl->name_size, "%s.%llu", jsonl->path,
             (unsigned long long)number);
    return jsonl->names[scratch];
}

/* The highest ones first; the last one is overwritten. */
static int rotate(struct audit_sink *sink) {
    struct jsonl *jsonl = jsonl_of(sink);
    close_file(sink);
    if (jsonl->n_files == 1 && unlink(jsonl->path) != 0 && errno != ENOENT)
        return fail_with(sink, "cannot delete", -errno);
    for (uint64_t i = jsonl->n_files - 1; i > 0; i--) {
        const char *from = name_of(jsonl, 0, i - 1), *to = name_of(jsonl, 1, i);
        if (rename(from, to) != 0 && errno != ENOENT)
            return fail_with(sink, "cannot rename", -errno);
    }
    return open_file(sink);
}

/* --- writing --- */

/* All of it, or nothing. */
static int write_whole(struct audit_sink *sink) {
    struct jsonl *jsonl = jsonl_of(sink);
    struct slice rest = buf_slice(&sink->batch);
    while (rest.len != 0) {
        ssize_t n = write(jsonl->fd, rest.ptr, rest.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int error = n < 0 ? -errno : -EIO;
            if (ftruncate(jsonl->fd, (off_t)jsonl->size) != 0)
                io_fd_close(&jsonl->fd); /* it is mended when it is opened again */
            return fail_with(sink, "cannot write", error);
        }
        rest = slice_from(rest, (size_t)n);
    }
    jsonl->size += buf_len(&sink->batch);
    return 0;
}

static int flush(struct audit_sink *sink) {
    struct jsonl *jsonl = jsonl_of(sink);
    int error = settle_on_file(sink);
    if (error == 0 && jsonl->size != 0 && jsonl->size + buf_len(&sink->batch) > jsonl->max_bytes)
        error = rotate(sink);
    return error == 0 ? write_whole(sink) : error;
}

static int sync_file(struct audit_sink *sink) {
    int fd = jsonl_of(sink)->fd;
    return fd < 0 || fdatasync(fd) == 0 ? 0 : -errno;
}

static void free_jsonl(struct audit_sink *sink) {
    struct jsonl *jsonl = jsonl_of(sink);
    io_fd_close(&jsonl->fd);
    mem_free(jsonl->path);
    mem_free(jsonl->names[0]);
    mem_free(jsonl->names[1]);
    mem_free(jsonl);
}

int audit_sink_jsonl(const char *dir, const struct config_audit *config, struct log *log,
                     struct audit_sink **ret_sink) {
    static const struct sink_kind kind = {
        .name = "jsonl",
        .batch = BATCH,
        .pause_first_ms = RETRY_MS,
        .pause_most_ms = RETRY_MS,
        .encode = encode,
        .flush = flush,
        .sync = sync_file,
        .close = close_file,
        .free = free_jsonl,
    };
    char *path = NULL;
    int error = slice_dup_cstr(config->jsonl_path, &path);
    if (error != 0)
        return error;
    struct jsonl *jsonl = mem_xalloc(sizeof *jsonl);
    jsonl->path = path;
    jsonl->name_size = config->jsonl_path.len + 1 + 20 + 1;
    jsonl->names[0] = mem_xalloc(jsonl->name_size);
    jsonl->names[1] = mem_xalloc(jsonl->name_size);
    jsonl->max_bytes = config->jsonl_max_bytes;
    jsonl->n_files = config->jsonl_files;
    jsonl->fd = -1;
    return sink_start(&kind, jsonl, dir, log, ret_sink);
}
