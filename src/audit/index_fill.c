/* Following the trail into the index (index_fill.h). */
#include "index_fill.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "index_db.h"
#include "io/file.h"

enum {
    LINES = 20000, /* of one transaction */
    LONGEST_MS = 500,
    LOOK_EVERY = 256,
};

void index_filler_close(struct index_filler *filler) {
    filler->follow = audit_follow_free(filler->follow);
    if (filler->writer != NULL)
        filler->writer->driver->free(filler->writer);
    filler->writer = NULL;
}

void index_filler_deinit(struct index_filler *filler) {
    index_filler_close(filler);
    buf_deinit(&filler->why);
}

static bool is_that_line(const struct index_writer *writer, struct slice text) {
    struct audit_line line;
    return audit_line_read(text, &line, NULL) == 0 && line.seq == writer->at.seq &&
           memcmp(line.hash, writer->hash, sizeof line.hash) == 0;
}

int index_writer_check(const struct index_writer *writer, const char *dir) {
    char name[AUDIT_SEGMENT_CHARS + 1], path[INDEX_PATH];
    char text[LIMIT_AUDIT_BODY + KIB(8)];
    audit_segment_name(writer->at.segment, name);
    if (index_path(dir, name, path) != 0 || writer->length >= sizeof text ||
        writer->at.offset > INT64_MAX || writer->at.offset <= writer->length)
        return 2;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno == ENOENT ? 1 : -errno;
    size_t length = (size_t)writer->length + 1;
    ssize_t n = pread(fd, text, length, (off_t)(writer->at.offset - length));
    io_fd_close(&fd);
    bool is_there = n == (ssize_t)length && text[length - 1] == '\n' &&
                    is_that_line(writer, slice_make(text, length - 1));
    return is_there ? 0 : 2;
}

/* The trail has lost what stood there. */
MUST_CHECK static int has_lost(struct index_filler *filler, uint64_t seq, bool *ret_has_lost) {
    uint64_t *segments = NULL;
    size_t n = 0;
    int error = audit_segments(filler->where.dir, &segments, &n);
    if (error != 0)
        return error;
    *ret_has_lost = n == 0 || segments[0] <= seq;
    mem_free(segments);
    return 0;
}

/* 0; 1: the index is of another trail, or of more of it than there is. */
MUST_CHECK static int find_place(struct index_filler *filler) {
    struct audit_place place = filler->writer->at;
    if (place.seq == 0)
        return 0;
    int status = index_writer_check(filler->writer, filler->where.dir);
    if (status == 1) { /* deleted: by retention, which deletes from the beginning on? */
        bool is_lost = true;
        int error = has_lost(filler, place.seq, &is_lost);
        if (error != 0 || is_lost)
            return error != 0 ? error : 1;
        place = (struct audit_place){.seq = 0};
        status = 0;
    }
    if (status != 0)
        return status < 0 ? status : 1;
    status = audit_follow_seek(filler->follow, &place);
    return status == AUDIT_E_PLACE ? 1 : status;
}

MUST_CHECK static int open_once(struct index_filler *filler) {
    const struct index_where *where = &filler->where;
    int error = index_driver_of(where)->open(where, &filler->writer, &filler->why);
    if (error == 0)
        error = audit_follow_new(filler->where.dir, filler->stop_fd, &filler->follow);
    return error != 0 ? error : find_place(filler);
}

int index_filler_open(struct index_filler *filler, bool anew) {
    const struct index_where *where = &filler->where;
    buf_reset(&filler->why, KIB(1));
    int status = anew ? index_driver_of(where)->clear(where, &filler->why) : 0;
    if (status == 0)
        status = open_once(filler);
    if (status == 1 || status == -EBADMSG) {
        log_write(where->log, LOG_WARN, "audit",
                  status == 1 ? "the index is not of this trail; it is made anew"
                              : "the index is damaged or of another version; it is made anew",
                  LOG_CSTR("dir", filler->where.dir));
        index_filler_close(filler);
        status = index_driver_of(where)->clear(where, &filler->why);
        if (status == 0)
            status = open_once(filler);
    }
    if (status == 0 && anew)
        index_anew_begun(filler->where.dir);
    if (status != 0)
        index_filler_close(filler);
    return status > 0 ? -ESTALE : status;
}

/* 0: an end came; 1: enough for one transaction. */
MUST_CHECK static int run(struct index_filler *filler, uint64_t wait_ms, int *ret_status) {
    uint64_t until = 0;
    for (unsigned n = 1;; n++) {
        struct slice text;
        int error = 0;
        switch (audit_follow_next(filler->follow, n == 1 ? wait_ms : 0, &text, &error)) {
        case AUDIT_FOLLOWED_LINE:
            break;
        case AUDIT_FOLLOWED_END:
            *ret_status = 1;
            return 0;
        case AUDIT_FOLLOWED_STOP:
            *ret_status = 2;
            return 0;
        case AUDIT_FOLLOWED_ERROR:
            return -error;
        }
        struct audit_place behind = audit_follow_place(filler->follow);
        error = filler->writer->driver->add(filler->writer, text, &behind);
        if (error != 0)
            return error;
        if (until == 0)
            until =
                clock_monotonic_ms() + (filler->longest_ms != 0 ? filler->longest_ms : LONGEST_MS);
        if (n == LINES || (n % LOOK_EVERY == 0 && clock_monotonic_ms() >= until)) {
            *ret_status = 0;
            return 0;
        }
    }
}

int index_filler_run(struct index_filler *filler, uint64_t wait_ms) {
    int status = 0;
    int error = run(filler, wait_ms, &status);
    if (error == 0)
        error = filler->writer->driver->commit(filler->writer);
    return error != 0 ? error : status;
}

int index_filler_retain(struct index_filler *filler) {
    uint64_t *segments = NULL;
    size_t n = 0;
    int error = audit_segments(filler->where.dir, &segments, &n);
    if (error != 0)
        return error;
    uint64_t first = n != 0 ? segments[0] : 0;
    mem_free(segments);
    return filler->writer->driver->retain(filler->writer, first);
}

int index_newest(const char *dir, uint64_t *ret_seq) {
    struct audit_follow *follow = NULL;
    int error = audit_follow_new(dir, -1, &follow);
    if (error != 0)
        return error;
    audit_follow_seek_end(follow);
    *ret_seq = audit_follow_place(follow).seq;
    audit_follow_free(follow);
    return 0;
}

int index_lock(const char *dir, int *ret_fd) {
    char path[INDEX_PATH];
    int error = index_path(dir, INDEX_LOCK, path);
    return error != 0 ? error : io_lock_file(path, ret_fd);
}

bool index_is_asked_anew(const char *dir) {
    char path[INDEX_PATH];
    return index_path(dir, INDEX_ANEW, path) == 0 && access(path, F_OK) == 0;
}

void index_anew_begun(const char *dir) {
    char path[INDEX_PATH];
    if (index_path(dir, INDEX_ANEW, path) == 0)
        (void)unlink(path);
}

const char *index_error_text(int error) {
    switch (error) {
    case -EBADMSG:
        return "it is damaged or of another version, and has to be made anew";
    case -ENOENT:
        return "it is not there, or must not be read";
    case -EBUSY:
        return "another process holds it";
    case -ENOSPC:
        return "there is no space left";
    case -ENOTCONN:
        return "PostgreSQL does not answer";
    case -ESTALE:
        return "somebody else was at work with it";
    case -EPROTO:
        return "its tables are of a newer version of this program";
    case -EUCLEAN:
        return "its tables in PostgreSQL are damaged, or not those of this program";
    case -EIO:
        return "it cannot be read or written";
    default:
        return strerror(-error);
    }
}
