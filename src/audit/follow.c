/*
 * Reading a trail that grows.
 *
 * The file is read in large pieces into one buffer; a line is given out when its end is there. What
 * stands behind the last line end is thrown away when the file has no more for now, and read again
 * later: a crash may have torn it, and then the program that comes back cuts it off and writes
 * something else in its place. For the same reason reading goes on one byte early: that byte has to
 * be a line end still. If it is not, the lines before it were cut off too, and the place is gone
 * (ESTALE).
 *
 * A segment is left when there is a newer one: that one is made after the last line of the older
 * one was written. So the older one is read to its end once more after the newer one was seen.
 *
 * Changes are told by inotify(7): of the directory only new names, and writes of the one file that
 * is read, so that the index, which lives in the same directory, wakes nobody. Since some file
 * systems tell nothing, there is another look now and then in any case.
 *
 * Nothing in the directory is trusted: what is no regular file is passed over without waiting for
 * it, and a line that is longer than any that is written is passed over and counted.
 */
#include "audit/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/file.h"

enum {
    BUFFER = KIB(256),
    LINE_MOST = LIMIT_AUDIT_BODY + KIB(8), /* with number, hash and line end */
    LOOK_MS = 200,                         /* without inotify */
    LOOK_NOTIFIED_MS = 2000,
    PATH_MOST = 4096,
    SEQ_DIGITS = 20,
};

struct audit_follow {
    char *dir;
    int stop_fd;
    bool is_watching;          /* from the first wait on */
    int notify_fd;             /* -1: none */
    int dir_watch, file_watch; /* -1: none */
    bool is_dir_changed;       /* there may be other segments than before */
    int fd;                    /* of `segment`; -1: none is open */
    uint64_t segment;          /* that is read; 0: none yet */
    uint64_t at;               /* offset of data[start] in it */
    bool is_last_look;         /* a newer one was seen: at its end the next one is opened */
    bool is_skipping;          /* to the end of a line that is too long */
    uint64_t skip_to;          /* lines up to this number are not given out */
    struct audit_place place;  /* behind the line that was given out last */
    uint64_t seq;              /* of the line that was read last; place.seq, or behind it */
    uint64_t n_missed;
    size_t start, end;
    char data[BUFFER];
};

/* --- watching --- */

MUST_CHECK static int segment_path(const struct audit_follow *follow, uint64_t segment,
                                   char path[PATH_MOST]) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    audit_segment_name(segment, name);
    return snprintf(path, PATH_MOST, "%s/%s", follow->dir, name) < PATH_MOST ? 0 : -ENAMETOOLONG;
}

static void watch_file(struct audit_follow *follow, const char *path) {
    if (follow->notify_fd < 0)
        return;
    if (follow->file_watch >= 0)
        (void)inotify_rm_watch(follow->notify_fd, follow->file_watch);
    follow->file_watch = inotify_add_watch(follow->notify_fd, path, IN_MODIFY | IN_DONT_FOLLOW);
}

static void watch_start(struct audit_follow *follow) {
    char path[PATH_MOST];
    follow->is_watching = follow->is_dir_changed = true;
    follow->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (follow->notify_fd < 0)
        return;
    follow->dir_watch =
        inotify_add_watch(follow->notify_fd, follow->dir, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
    if (follow->dir_watch < 0)
        io_fd_close(&follow->notify_fd);
    if (follow->fd >= 0 && segment_path(follow, follow->segment, path) == 0)
        watch_file(follow, path);
}

/* Takes what inotify has to tell: any event of the directory, and any that was lost, means that
 * there may be another segment. */
static void watch_drain(struct audit_follow *follow) {
    ALIGNED(8) char events[4096];
    if (follow->notify_fd < 0) {
        follow->is_dir_changed = true;
        return;
    }
    for (;;) {
        ssize_t n = read(follow->notify_fd, events, sizeof events);
        if (n <= 0)
            return;
        for (size_t at = 0; at + sizeof(struct inotify_event) <= (size_t)n;) {
            struct inotify_event event;
            memcpy(&event, events + at, sizeof event);
            if (event.wd != follow->file_watch || (event.mask & IN_MODIFY) == 0)
                follow->is_dir_changed = true;
            at += sizeof event + event.len;
        }
    }
}

/* False: there was something to read at stop_fd. */
static bool watch_wait(struct audit_follow *follow, uint64_t until_ms) {
    uint64_t now = clock_monotonic_ms();
    bool is_told = follow->notify_fd >= 0 && follow->file_watch >= 0;
    uint64_t ms = is_told ? LOOK_NOTIFIED_MS : LOOK_MS;
    if (until_ms <= now)
        ms = 0;
    else if (until_ms - now < ms)
        ms = until_ms - now;
    struct pollfd fds[] = {{.fd = follow->stop_fd, .events = POLLIN},
                           {.fd = follow->notify_fd, .events = POLLIN}};
    int n = poll(fds, ARRAY_LEN(fds), (int)ms);
    if (n == 0) /* some file systems tell nothing */
        follow->is_dir_changed = true;
    return n <= 0 || fds[0].revents == 0;
}

/* --- segments --- */

static void close_segment(struct audit_follow *follow) {
    io_fd_close(&follow->fd);
    follow->start = follow->end = 0;
    follow->at = 0;
    follow->is_last_look = follow->is_skipping = false;
}

/* 1: there is no such file, or it is none to be read. -errno. */
MUST_CHECK static int open_segment(struct audit_follow *follow, uint64_t segment) {
    char path[PATH_MOST];
    struct stat info;
    int error = segment_path(follow, segment, path);
    if (error != 0)
        return error;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP || errno == ENXIO ? 1 : -errno;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        io_fd_close(&fd);
        return 1;
    }
    close_segment(follow);
    follow->fd = fd;
    follow->segment = segment;
    watch_file(follow, path); /* before it is read, so that no write goes unnoticed */
    return 0;
}

/* The first one of them that can be opened and is not below `least`. 1: there is none. */
MUST_CHECK static int open_from(struct audit_follow *follow, uint64_t least) {
    uint64_t *segments = NULL;
    size_t n = 0;
    int error = audit_segments(follow->dir, &segments, &n);
    if (error != 0)
        return error;
    error = 1;
    for (size_t i = 0; i < n && error == 1; i++)
        if (segments[i] >= least)
            error = open_segment(follow, segments[i]);
    mem_free(segments);
    return error;
}

/* The one in which the line with this number is, if it is anywhere: 0: there is none. */
MUST_CHECK static int segment_of(struct audit_follow *follow, uint64_t seq, uint64_t *ret_segment) {
    uint64_t *segments = NULL;
    size_t n = 0;
    int error = audit_segments(follow->dir, &segments, &n);
    if (error != 0)
        return error;
    *ret_segment = n != 0 ? segments[0] : 0;
    for (size_t i = 1; i < n && segments[i] <= seq; i++)
        *ret_segment = segments[i];
    mem_free(segments);
    return 0;
}

/* --- */

int audit_follow_new(const char *dir, int stop_fd, struct audit_follow **ret_follow) {
    struct stat info;
    if (stat(dir, &info) != 0)
        return -errno;
    if (!S_ISDIR(info.st_mode))
        return -ENOTDIR;
    struct audit_follow *follow = mem_alloc(sizeof *follow);
    if (follow == NULL)
        return -ENOMEM;
    follow->fd = follow->notify_fd = follow->dir_watch = follow->file_watch = -1;
    follow->stop_fd = stop_fd;
    follow->is_dir_changed = true;
    if (slice_dup_cstr(slice_from_cstr(dir), &follow->dir) != 0) {
        audit_follow_free(follow);
        return -ENOMEM;
    }
    *ret_follow = follow;
    return 0;
}

struct audit_follow *audit_follow_free(struct audit_follow *follow) {
    if (follow == NULL)
        return NULL;
    io_fd_close(&follow->fd);
    io_fd_close(&follow->notify_fd);
    mem_free(follow->dir);
    mem_free(follow);
    return NULL;
}

static void forget(struct audit_follow *follow) {
    close_segment(follow);
    follow->segment = follow->seq = follow->skip_to = 0;
    follow->place = (struct audit_place){.seq = 0};
    follow->is_dir_changed = true;
}

/* A line ends there: the file is not shorter, and what was there was not written over. */
static bool is_behind_line(int fd, uint64_t offset) {
    char byte = '\0';
    return offset == 0 ||
           (offset <= INT64_MAX && pread(fd, &byte, 1, (off_t)(offset - 1)) == 1 && byte == '\n');
}

/* {"seq":7, */
static bool read_seq(struct slice line, uint64_t *ret_seq) {
    const struct slice head = SLICE("{\"seq\":");
    if (!slice_starts_with(line, head))
        return false;
    struct slice rest = slice_sub(line, head.len, head.len + SEQ_DIGITS + 1);
    size_t n = slice_find_byte(rest, ',');
    return n != SIZE_MAX && slice_to_u64(slice_sub(rest, 0, n), ret_seq) == 0;
}

void audit_follow_seek_end(struct audit_follow *follow) {
    uint64_t segment = 0;
    struct stat info;
    forget(follow);
    if (segment_of(follow, UINT64_MAX, &segment) != 0 || segment == 0 ||
        open_segment(follow, segment) != 0)
        return;
    follow->place.segment = segment;
    follow->place.seq = follow->seq = segment - 1;
    uint64_t size = fstat(follow->fd, &info) == 0 ? (uint64_t)info.st_size : 0;
    uint64_t from = size > BUFFER ? size - BUFFER : 0;
    ssize_t n = pread(follow->fd, follow->data, BUFFER, (off_t)from);
    struct slice tail = slice_make(follow->data, n > 0 ? (size_t)n : 0);
    while (tail.len != 0 && tail.ptr[tail.len - 1] != '\n')
        tail.len--;
    if (tail.len == 0)
        return;
    follow->place.offset = follow->at = from + tail.len;
    const char *before = tail.len < 2 ? NULL : memrchr(tail.ptr, '\n', tail.len - 1);
    struct slice last = slice_from(tail, before != NULL ? (size_t)(before - tail.ptr) + 1 : 0);
    if (read_seq(last, &follow->seq))
        follow->place.seq = follow->seq;
}

MUST_CHECK static int seek_behind(struct audit_follow *follow, uint64_t seq) {
    uint64_t segment = 0;
    audit_follow_seek_end(follow);
    uint64_t newest = follow->place.seq;
    forget(follow);
    if (newest < seq)
        return AUDIT_E_PLACE;
    int error = segment_of(follow, seq == UINT64_MAX ? seq : seq + 1, &segment);
    if (error == 0 && segment != 0)
        error = open_segment(follow, segment);
    if (error < 0)
        return error;
    follow->skip_to = seq;
    follow->place.seq = seq;
    follow->seq = seq;
    if (segment > seq && segment - seq > 1) {
        follow->n_missed += segment - seq - 1;
        follow->seq = segment - 1;
    }
    return 0;
}

int audit_follow_seek(struct audit_follow *follow, const struct audit_place *place) {
    forget(follow);
    if (place->segment == 0)
        return place->seq != 0 ? seek_behind(follow, place->seq) : 0;
    int error = open_segment(follow, place->segment);
    if (error != 0)
        return error == 1 ? AUDIT_E_PLACE : error;
    if (!is_behind_line(follow->fd, place->offset)) {
        forget(follow);
        return AUDIT_E_PLACE;
    }
    follow->at = place->offset;
    follow->place = *place;
    follow->seq = place->offset != 0 || place->seq != 0 ? place->seq : place->segment - 1;
    return 0;
}

/* --- reading --- */

/* Behind a line end in the buffer, or nothing. */
static bool take_line(struct audit_follow *follow, struct slice *ret_line) {
    if (follow->start == follow->end)
        return false;
    const char *from = follow->data + follow->start;
    const char *line_end = memchr(from, '\n', follow->end - follow->start);
    if (line_end == NULL)
        return false;
    *ret_line = slice_make(from, (size_t)(line_end - from));
    follow->start += ret_line->len + 1;
    follow->at += ret_line->len + 1;
    return true;
}

/* False: the line is not given out. */
static bool admit(struct audit_follow *follow, struct slice line) {
    if (follow->is_skipping || line.len >= LINE_MOST) {
        follow->is_skipping = false;
        follow->n_missed++;
        follow->seq++;
        return false;
    }
    if (!read_seq(line, &follow->seq))
        follow->seq++;
    if (follow->seq <= follow->skip_to)
        return false;
    follow->skip_to = 0;
    follow->place =
        (struct audit_place){.segment = follow->segment, .offset = follow->at, .seq = follow->seq};
    return true;
}

static bool is_in_place(const struct audit_follow *follow) {
    struct stat info;
    if (!follow->is_skipping)
        return is_behind_line(follow->fd, follow->at);
    return fstat(follow->fd, &info) == 0 && (uint64_t)info.st_size >= follow->at;
}

/* More of the file. 1: there is no more for now, and nothing is kept of what has no end yet. */
MUST_CHECK static int fill(struct audit_follow *follow) {
    size_t kept = follow->end - follow->start;
    if (kept >= LINE_MOST) { /* without a line end: that is none of ours */
        follow->is_skipping = true;
        follow->at += kept;
        kept = 0;
    }
    memmove(follow->data, follow->data + follow->end - kept, kept);
    follow->start = 0;
    follow->end = kept;
    if (kept == 0 && !is_in_place(follow))
        return -ESTALE;
    ssize_t n = pread(follow->fd, follow->data + kept, BUFFER - kept, (off_t)(follow->at + kept));
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    if (n > 0) {
        follow->end += (size_t)n;
        return 0;
    }
    follow->end = 0;
    return 1;
}

/* At the end of what is open. 0: go on reading; 1: there is no more for now. */
MUST_CHECK static int move_on(struct audit_follow *follow) {
    watch_drain(follow);
    if (follow->fd >= 0 && follow->is_last_look) {
        int error = open_from(follow, follow->segment + 1);
        if (error != 0)
            return error;
        if (follow->seq != 0 && follow->segment > follow->seq + 1)
            follow->n_missed += follow->segment - follow->seq - 1;
        follow->seq = follow->segment - 1;
        return 0;
    }
    if (!follow->is_dir_changed)
        return 1;
    follow->is_dir_changed = false;
    if (follow->fd < 0)
        return open_from(follow, follow->segment + 1);
    uint64_t newest = 0;
    int error = segment_of(follow, UINT64_MAX, &newest);
    if (error != 0)
        return error;
    follow->is_last_look = newest > follow->segment;
    return follow->is_last_look ? 0 : 1;
}

MUST_CHECK static int read_on(struct audit_follow *follow) {
    int error = follow->fd >= 0 ? fill(follow) : 1;
    return error == 1 ? move_on(follow) : error;
}

enum audit_followed audit_follow_next(struct audit_follow *follow, uint64_t wait_ms,
                                      struct slice *ret_text, int *ret_error) {
    uint64_t until = 0;
    for (;;) {
        struct slice line;
        while (take_line(follow, &line))
            if (admit(follow, line)) {
                *ret_text = line;
                return AUDIT_FOLLOWED_LINE;
            }
        int error = read_on(follow);
        if (error < 0) {
            follow->is_dir_changed = true;
            *ret_error = -error;
            return AUDIT_FOLLOWED_ERROR;
        }
        if (error == 0)
            continue;
        if (wait_ms == 0)
            return AUDIT_FOLLOWED_END;
        uint64_t now = clock_monotonic_ms();
        if (until == 0)
            until = wait_ms > UINT64_MAX - now ? UINT64_MAX : now + wait_ms;
        else if (now >= until)
            return AUDIT_FOLLOWED_END;
        if (!follow->is_watching)
            watch_start(follow); /* and look once more: what came before is not told */
        else if (!watch_wait(follow, until))
            return AUDIT_FOLLOWED_STOP;
    }
}

struct audit_place audit_follow_place(const struct audit_follow *follow) {
    return follow->place;
}

uint64_t audit_follow_missed(struct audit_follow *follow) {
    uint64_t n = follow->n_missed;
    follow->n_missed = 0;
    return n;
}
