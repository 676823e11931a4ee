/* Following the trail into the index (index_fill.h). */
#include "index_fill.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"

enum {
    LINES = 20000,   /* of one transaction */
    COMMIT_MS = 500, /* it is not open for longer */
    LOOK_EVERY = 256,
};

void index_filler_close(struct index_filler *filler) {
    filler->follow = audit_follow_free(filler->follow);
    filler->writer = index_writer_free(filler->writer);
}

/* The trail has lost what stood there. */
MUST_CHECK static int has_lost(struct index_filler *filler, uint64_t seq, bool *ret_has_lost) {
    uint64_t *segments = NULL;
    size_t n = 0;
    int error = audit_segments(filler->dir, &segments, &n);
    if (error != 0)
        return error;
    *ret_has_lost = n == 0 || segments[0] <= seq;
    mem_free(segments);
    return 0;
}

/* 0; 1: the index is of another trail, or of more of it than there is. */
MUST_CHECK static int find_place(struct index_filler *filler) {
    struct audit_place place = index_writer_place(filler->writer);
    if (place.seq == 0)
        return 0;
    int status = index_writer_check(filler->writer, filler->dir);
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
    int error = index_writer_open(filler->dir, &filler->writer);
    if (error == 0)
        error = audit_follow_new(filler->dir, filler->stop_fd, &filler->follow);
    return error != 0 ? error : find_place(filler);
}

int index_filler_open(struct index_filler *filler, bool anew) {
    if (anew)
        index_db_delete(filler->dir);
    int status = open_once(filler);
    if (status == 1 || status == -EBADMSG) {
        log_write(filler->log, LOG_WARN, "audit",
                  status == 1 ? "the index is not of this trail; it is made anew"
                              : "the index is damaged or of another version; it is made anew",
                  LOG_CSTR("dir", filler->dir));
        index_filler_close(filler);
        index_db_delete(filler->dir);
        status = open_once(filler);
    }
    if (status == 0 && anew)
        index_anew_begun(filler->dir);
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
        error = index_writer_add(filler->writer, text, &behind);
        if (error != 0)
            return error;
        if (until == 0)
            until = clock_monotonic_ms() + COMMIT_MS;
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
        error = index_writer_commit(filler->writer);
    return error != 0 ? error : status;
}

int index_filler_retain(struct index_filler *filler) {
    uint64_t *segments = NULL;
    size_t n = 0;
    int error = audit_segments(filler->dir, &segments, &n);
    if (error != 0)
        return error;
    uint64_t first = n != 0 ? segments[0] : 0;
    mem_free(segments);
    return index_writer_retain(filler->writer, first);
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
    case -EIO:
        return "it cannot be read or written";
    default:
        return strerror(-error);
    }
}
