/*
 * What is there when the trail is opened. Lines are read from the beginning of the newest segment
 * as long as each follows the one before. What is behind them was torn by a crash (or by somebody
 * who would rather have it so): it is kept in a file of its own, durable before it is cut off, and
 * the start line says how much it was.
 *
 * How much a crash can take is bounded: the trail never has more than two checkpoints that are not
 * durable (commit.c), and its own last words in a file whose sync failed make a third one at most
 * where two things go wrong at once. Of what is put away the checkpoints are counted, so that
 * signed lines cannot be made to go away by changing a bit before them and waiting for a restart.
 *
 * A `retention` line that no checkpoint follows has had no effect: both are durable before files
 * are deleted. So the end is cut off there, too; else whoever writes such a line behind the last
 * checkpoint would have it signed by the next one, and the files that he deletes excused.
 *
 * A segment counts from the moment on in which its first two lines, segment and checkpoint, are
 * durable; nothing is written to it before, and nobody was told anything. A file without them is
 * what a crash left of a segment that was just begun, and is put away whole; the trail goes on
 * behind the one before.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "trail_private.h"

/* The good lines of a file. */
struct good {
    uint64_t first_seq;
    struct audit_hasher *hasher;
    struct audit_chain chain, checkpoint;
    uint64_t bytes, number, first_us;
    /* Before a retention line that is not signed; bytes 0: there is none. */
    uint64_t bytes_before;
    struct audit_chain chain_before;
    char log[AUDIT_LOG_CHARS + 1];
};

static bool take_first(struct good *good, const struct audit_line *line) {
    static const unsigned char nothing[AUDIT_HASH];
    struct audit_segment_body body;
    if (line->seq != good->first_seq || !audit_segment_body_read(line, &body) ||
        (line->seq == 1 && memcmp(body.previous, nothing, AUDIT_HASH) != 0))
        return false;
    good->chain.seq = line->seq - 1;
    memcpy(good->chain.hash, body.previous, AUDIT_HASH);
    if (!audit_line_follows(good->hasher, &good->chain, line))
        return false;
    good->number = body.number;
    good->first_us = line->time_us;
    return slice_to_cstr(body.log, good->log, sizeof good->log) == 0;
}

static bool take_line(struct good *good, struct slice text) {
    struct audit_checkpoint_body checkpoint;
    struct audit_chain before = good->chain;
    struct audit_line line;
    if (audit_line_read(text, &line, NULL) != 0)
        return false;
    if (good->bytes == 0 ? !take_first(good, &line)
                         : !audit_line_follows(good->hasher, &good->chain, &line))
        return false;
    if (slice_eq(line.event, SLICE("checkpoint")) &&
        audit_checkpoint_body_read(&line, &checkpoint)) {
        good->checkpoint = good->chain;
        good->bytes_before = 0;
    } else if (slice_eq(line.event, SLICE("retention")) && good->bytes_before == 0) {
        good->bytes_before = good->bytes;
        good->chain_before = before;
    }
    good->bytes += text.len + 1;
    return true;
}

/* Takes the lines that are whole. False: the last one that was looked at is not good. */
static bool take_lines(struct good *good, struct buf *text) {
    for (;;) {
        size_t end = slice_find_byte(buf_slice(text), '\n');
        if (end == SIZE_MAX)
            return buf_len(text) < TRAIL_LINE;
        if (!take_line(good, slice_sub(buf_slice(text), 0, end)))
            return false;
        buf_consume(text, end + 1);
    }
}

static int read_good(int fd, struct good *good) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(TRAIL_LINE + TRAIL_CHUNK);
    for (;;) {
        char *room = buf_reserve(&text, TRAIL_CHUNK);
        if (room == NULL)
            return buf_error(&text);
        ssize_t n = read(fd, room, TRAIL_CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        buf_commit(&text, (size_t)n);
        if (n == 0 || !take_lines(good, &text))
            return 0;
    }
}

/* --- the torn end --- */

static void count_line(struct slice text, uint64_t *n_checkpoints) {
    struct audit_line line;
    if (audit_line_read(text, &line, NULL) == 0 && slice_eq(line.event, SLICE("checkpoint")))
        ++*n_checkpoints;
}

/* From the offset on, whatever else is there. */
static int count_checkpoints(int fd, uint64_t offset, uint64_t *n_checkpoints) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(TRAIL_LINE + TRAIL_CHUNK);
    for (;;) {
        char *room = buf_reserve(&text, TRAIL_CHUNK);
        if (room == NULL)
            return buf_error(&text);
        ssize_t n = pread(fd, room, TRAIL_CHUNK, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        buf_commit(&text, (size_t)n);
        offset += (uint64_t)n;
        size_t end;
        while ((end = slice_find_byte(buf_slice(&text), '\n')) != SIZE_MAX) {
            count_line(slice_sub(buf_slice(&text), 0, end), n_checkpoints);
            buf_consume(&text, end + 1);
        }
        if (buf_len(&text) >= TRAIL_LINE) /* is no line */
            buf_reset(&text, TRAIL_KEEP);
    }
}

static int tear_off(int dir_fd, const struct trail_system *system, int fd, const struct good *good,
                    uint64_t cut_at, struct trail_found *found) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    audit_segment_name(good->first_seq, name);
    int error = count_checkpoints(fd, cut_at, &found->n_torn_checkpoints);
    return error != 0 ? error
                      : trail_tear_off(dir_fd, system, name, cut_at,
                                       cut_at == 0 ? good->first_seq : good->chain.seq + 1);
}

/* *ret_is_headless: it was put away. */
static int recover_segment(int dir_fd, const struct trail_system *system, struct good *good,
                           struct trail_found *found, bool *ret_is_headless) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    struct stat info;
    audit_segment_name(good->first_seq, name);
    CLEANUP(io_fd_close)
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0)
        return -errno;
    if (!S_ISREG(info.st_mode))
        return -EINVAL;
    int error = read_good(fd, good);
    if (error != 0)
        return error;
    if (good->bytes_before != 0) {
        good->bytes = good->bytes_before;
        good->chain = good->chain_before;
    }
    bool is_headless = good->checkpoint.seq == 0;
    uint64_t cut_at = is_headless ? 0 : good->bytes;
    uint64_t size = (uint64_t)info.st_size;
    if (is_headless || cut_at < size)
        error = tear_off(dir_fd, system, fd, good, cut_at, found);
    else if (system->sync_whole(fd) != 0) /* what was read may be in memory alone */
        error = -errno;
    if (error != 0)
        return error;
    found->n_torn += size - cut_at;
    *ret_is_headless = is_headless;
    return 0;
}

/* The newest one that has a head. */
static int recover_newest(int dir_fd, const struct trail_system *system,
                          struct audit_hasher *hasher, struct trail_found *found) {
    while (found->n_segments != 0) {
        struct trail_segment *newest = &found->segments[found->n_segments - 1];
        struct good good = {.first_seq = newest->first_seq, .hasher = hasher};
        bool is_headless = false;
        int error = recover_segment(dir_fd, system, &good, found, &is_headless);
        if (error != 0)
            return error;
        if (is_headless) {
            found->n_segments--;
            continue;
        }
        newest->bytes = good.bytes;
        found->has_log = true;
        memcpy(found->log, good.log, sizeof found->log);
        found->chain = good.chain;
        found->checkpoint = good.checkpoint;
        found->number = good.number;
        found->first_us = good.first_us;
        return 0;
    }
    return 0;
}

static int measure(int dir_fd, struct trail_found *found) {
    for (size_t i = 0; i < found->n_segments; i++) {
        char name[AUDIT_SEGMENT_CHARS + 1];
        struct stat info;
        audit_segment_name(found->segments[i].first_seq, name);
        if (fstatat(dir_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            return -errno;
        found->segments[i].bytes = (uint64_t)info.st_size;
    }
    return 0;
}

int trail_recover(const char *dir, int dir_fd, const struct trail_system *system,
                  struct trail_found *ret_found) {
    CLEANUP(mem_freep) uint64_t *names = NULL;
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = NULL;
    CLEANUP(trail_found_deinit) struct trail_found found = {.segments = NULL};
    int error = audit_segments(dir, &names, &found.n_segments);
    if (error == 0)
        error = audit_hasher_new(&hasher);
    if (error != 0)
        return error;
    found.segments = mem_alloc(found.n_segments * sizeof *found.segments);
    if (found.segments == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < found.n_segments; i++)
        found.segments[i].first_seq = names[i];
    error = measure(dir_fd, &found);
    if (error == 0)
        error = recover_newest(dir_fd, system, hasher, &found);
    if (error != 0)
        return error;
    trail_date_segments(dir_fd, found.segments, found.n_segments, system->wall_us());
    *ret_found = found;
    found = (struct trail_found){.segments = NULL};
    return 0;
}

void trail_found_deinit(struct trail_found *found) {
    mem_free(TAKE(found->segments));
}
