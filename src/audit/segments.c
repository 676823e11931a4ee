/* Which segments there are, and how old they are. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/follow.h"
#include "base/mem.h"
#include "io/file.h"
#include "trail_private.h"

enum { SEQ_DIGITS = 20 };

static const struct slice ending = SLICE_INIT(".jsonl");

void audit_segment_name(uint64_t first_seq, char text[AUDIT_SEGMENT_CHARS + 1]) {
    snprintf(text, AUDIT_SEGMENT_CHARS + 1, "%020" PRIu64 ".jsonl", first_seq);
}

bool audit_segment_parse(struct slice name, uint64_t *ret_first_seq) {
    uint64_t seq = 0;
    if (name.len != AUDIT_SEGMENT_CHARS || !slice_ends_with(name, ending) ||
        slice_to_u64(slice_sub(name, 0, SEQ_DIGITS), &seq) != 0 || seq == 0)
        return false;
    *ret_first_seq = seq;
    return true;
}

static int compare(const void *a, const void *b) {
    const uint64_t *left = a, *right = b;
    return *left < *right ? -1 : *left > *right;
}

static int add_segment(struct buf *found, const char *name) {
    uint64_t seq;
    if (!audit_segment_parse(slice_from_cstr(name), &seq))
        return 0;
    return buf_append(found, slice_make(&seq, sizeof seq));
}

static int read_names(DIR *folder, struct buf *found) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (entry == NULL)
            return -errno;
        int error = add_segment(found, entry->d_name);
        if (error != 0)
            return error;
    }
}

int audit_segments(const char *dir, uint64_t **ret_segments, size_t *ret_n) {
    struct buf found = BUF_INIT(MIB(8)); /* a million names */
    DIR *folder = opendir(dir);
    if (folder == NULL)
        return -errno;
    int error = read_names(folder, &found);
    closedir(folder);
    size_t len = 0;
    char *block = error == 0 ? buf_take(&found, &len) : NULL;
    uint64_t *segments = error == 0 ? mem_alloc(len) : NULL;
    if (error == 0 && segments == NULL)
        error = -ENOMEM;
    if (error == 0 && len != 0) {
        memcpy(segments, block, len);
        qsort(segments, len / sizeof *segments, sizeof *segments, compare);
    }
    mem_free(block);
    buf_deinit(&found);
    if (error != 0)
        return error;
    *ret_segments = segments;
    *ret_n = len / sizeof *segments;
    return 0;
}

/*
 * When a segment ended. Its lines say so, but by a clock that may have been wrong: what counts is
 * that nothing is deleted early because of that, and nothing kept for ever.
 *
 * A clock that was behind: lines are dated before those of an older segment. A segment is taken to
 * have ended no earlier than the one before it, nor before its own first line.
 *
 * A clock that was ahead: the last line is in the future. Then the file's own time counts, if that
 * is not in the future as well; and if it is, the file is given the time of now, so that from now
 * on it grows old. (max_bytes holds in any case.)
 *
 * While it runs, the trail goes by the time of day alone: who sets it ahead by a year, and not just
 * for a moment, makes the trail a year older. The newest segment stays in any case.
 */

/* The time of the one line, or the last one, that is whole in `text`; 0: of none. */
static uint64_t time_of_line(struct slice text, bool is_last) {
    struct audit_line line;
    if (is_last) {
        if (text.len == 0 || text.ptr[text.len - 1] != '\n')
            return 0;
        text.len--;
        for (size_t at = text.len; at > 0; at--) {
            if (text.ptr[at - 1] == '\n') {
                text = slice_from(text, at);
                break;
            }
        }
    } else {
        slice_cut(text, '\n', &text, &(struct slice){0});
    }
    return audit_line_read(text, &line, NULL) == 0 ? line.time_us : 0;
}

static uint64_t read_time(int fd, uint64_t bytes, bool is_last) {
    enum { LITTLE = 4096 }; /* first and last lines are the trail's own, and short */
    size_t n = bytes < LITTLE ? (size_t)bytes : LITTLE;
    char text[LITTLE];
    ssize_t got = pread(fd, text, n, is_last ? (off_t)(bytes - n) : 0);
    return got == (ssize_t)n ? time_of_line(slice_make(text, n), is_last) : 0;
}

static uint64_t end_of(int dir_fd, const struct trail_segment *segment, uint64_t now_us) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    struct stat info;
    audit_segment_name(segment->first_seq, name);
    CLEANUP(io_fd_close)
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0)
        return 0;
    uint64_t first = read_time(fd, segment->bytes, false);
    uint64_t last = read_time(fd, segment->bytes, true);
    uint64_t file = info.st_mtim.tv_sec > 0 ? (uint64_t)info.st_mtim.tv_sec * 1000000 : 0;
    uint64_t end = last > first ? last : first;
    if (end != 0 && end <= now_us)
        return end;
    if (file <= now_us)
        return file;
    const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
    if (futimens(fd, now) != 0)
        return 0; /* it cannot be given a time: it goes with the one before it */
    return now_us;
}

void trail_date_segments(int dir_fd, struct trail_segment *segments, size_t n, uint64_t now_us) {
    for (size_t i = 0; i < n; i++) {
        segments[i].end_us = end_of(dir_fd, &segments[i], now_us);
        if (i > 0 && segments[i].end_us < segments[i - 1].end_us)
            segments[i].end_us = segments[i - 1].end_us;
    }
}
