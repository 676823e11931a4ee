/*
 * Verification of a directory. The files are read with read(2), in blocks: a file that shrinks
 * while it is read ends earlier, where a mapping would end the process.
 *
 * The gateway may be at work: the newest file grows, and retention may delete the oldest ones. What
 * was there at the beginning is what is verified, and what has come to it by the time its file is
 * read. A file that is gone when it is its turn was deleted by retention if all before it are gone
 * as well; then the trail begins behind it, and has to say so.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/follow.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/file.h"
#include "verifying.h"

enum {
    BLOCK = MIB(1),
    WAITS = 10, /* for the end of a line that somebody is just writing */
    WAIT_MS = 20
};

struct walk {
    const struct audit_verify_options *options;
    struct audit_verifier *verifier;
    int dir;
    uint64_t *segments; /* owned */
    size_t n;
    char *block; /* owned */
    uint64_t done, all;
};

static bool is_there(const struct walk *walk, uint64_t segment, struct stat *ret_info) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    audit_segment_name(segment, name);
    return fstatat(walk->dir, name, ret_info, 0) == 0;
}

static void count_bytes(struct walk *walk) {
    struct stat info;
    for (size_t i = 0; i < walk->n; i++) {
        if (is_there(walk, walk->segments[i], &info) && S_ISREG(info.st_mode) && info.st_size > 0)
            walk->all += (uint64_t)info.st_size;
    }
}

static void tell(struct walk *walk, size_t n) {
    walk->done += n;
    if (walk->done > walk->all)
        walk->all = walk->done;
    if (walk->options->on_progress != NULL)
        walk->options->on_progress(walk->options->context, walk->done, walk->all);
}

static int read_file(struct walk *walk, int fd, bool is_newest) {
    for (unsigned waits = 0;;) {
        ssize_t n = read(fd, walk->block, BLOCK);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            int error = audit_verifier_feed(walk->verifier, slice_make(walk->block, (size_t)n));
            if (error != 0)
                return error;
            tell(walk, (size_t)n);
        }
        if (n != 0)
            continue;
        if (!is_newest || waits == WAITS || !audit_verifier_is_within_line(walk->verifier))
            return 0;
        waits++;
        (void)poll(NULL, 0, WAIT_MS);
    }
}

/* The file is gone: by retention, or else there will be a finding at the next one. */
static void miss(struct walk *walk) {
    struct stat info;
    if (!is_there(walk, walk->segments[0], &info))
        audit_verifier_forget(walk->verifier);
}

static int verify_segment(struct walk *walk, size_t i) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    struct stat info;
    bool is_newest = i + 1 == walk->n;
    audit_segment_name(walk->segments[i], name);
    /* A pipe would keep us waiting. */
    CLEANUP(io_fd_close) int fd = openat(walk->dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        miss(walk);
        return 0;
    }
    if (fd < 0 || fstat(fd, &info) != 0)
        return -errno;
    if (!S_ISREG(info.st_mode)) {
        audit_verifier_no_file(walk->verifier, walk->segments[i]);
        return 0;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    audit_verifier_begin(walk->verifier, walk->segments[i], is_newest);
    int error = read_file(walk, fd, is_newest);
    return error == 0 ? audit_verifier_end(walk->verifier) : error;
}

static int verify_all(struct walk *walk, struct audit_verified *ret_verified) {
    int error = audit_segments(walk->options->dir, &walk->segments, &walk->n);
    if (error == 0 && (walk->block = mem_alloc(BLOCK)) == NULL)
        error = -ENOMEM;
    if (error == 0)
        error = audit_verifier_new(walk->options, &walk->verifier);
    if (error != 0)
        return error;
    count_bytes(walk);
    for (size_t i = 0; i < walk->n && error == 0; i++)
        error = verify_segment(walk, i);
    return error == 0 ? audit_verifier_finish(walk->verifier, ret_verified) : error;
}

int audit_verify(const struct audit_verify_options *options, struct audit_verified *ret_verified) {
    struct walk walk = {.options = options};
    walk.dir = open(options->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (walk.dir < 0)
        return -errno;
    int error = verify_all(&walk, ret_verified);
    audit_verifier_free(walk.verifier);
    mem_free(walk.segments);
    mem_free(walk.block);
    io_fd_close(&walk.dir);
    return error;
}
