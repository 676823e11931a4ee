/*
 * Nobody waits for a log. It goes to a file on a disk that may be full, to a pipe whose reader may
 * have stopped reading, to a terminal that somebody has halted, to the journal's socket. A worker
 * that waited there would take all its clients with it. So: a line that cannot be written now is
 * lost and counted, and the number is told by the first line that can be written again.
 *
 * Writing that does not wait is a property of the open file, which is shared with whoever else has
 * it (the shell, children that inherit stderr), and it is not ours to change. A pipe or terminal is
 * therefore opened once more through /proc; where that is refused we look before we write, which
 * holds as long as nobody else fills the pipe in between. Files are written as they are: a disk
 * says that it is full, and does not keep anybody.
 */
#include "log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

void log_sink_init(struct log_sink *sink, int fd) {
    struct stat info;
    char path[32];
    *sink = (struct log_sink){.fd = fd, .own_fd = -1};
    pthread_mutex_init(&sink->mutex, NULL);
    if (fd < 0 || fstat(fd, &info) != 0)
        return;
    sink->is_socket = S_ISSOCK(info.st_mode);
    sink->may_wait = S_ISFIFO(info.st_mode) || (S_ISCHR(info.st_mode) && isatty(fd) != 0);
    if (!sink->may_wait)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    sink->own_fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

void log_sink_deinit(struct log_sink *sink) {
    if (sink->own_fd >= 0)
        close(sink->own_fd);
    mem_free(TAKE(sink->rest));
    pthread_mutex_destroy(&sink->mutex);
}

/* One piece that a pipe takes whole or not at all, where we can only look. */
enum { PIECE = 4096 };

static ssize_t try_write(const struct log_sink *sink, struct slice bytes) {
    struct pollfd writable = {.fd = sink->fd, .events = POLLOUT};
    if (sink->is_socket)
        return send(sink->fd, bytes.ptr, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sink->own_fd >= 0)
        return write(sink->own_fd, bytes.ptr, bytes.len);
    if (!sink->may_wait)
        return write(sink->fd, bytes.ptr, bytes.len);
    if (poll(&writable, 1, 0) != 1) {
        errno = EAGAIN;
        return -1;
    }
    return write(sink->fd, bytes.ptr, bytes.len < PIECE ? bytes.len : PIECE);
}

/* What is left of it. */
static struct slice write_some(struct log_sink *sink, struct slice bytes) {
    while (bytes.len != 0) {
        ssize_t n = try_write(sink, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            sink->error = n < 0 ? errno : ENOSPC;
            break;
        }
        bytes = slice_from(bytes, (size_t)n);
    }
    return bytes;
}

/* With the lock. False: a line that was begun before is not out yet. */
static bool finish_rest(struct log_sink *sink) {
    if (sink->rest == NULL)
        return true;
    struct slice left = write_some(sink, slice_make(sink->rest, sink->rest_len));
    memmove(sink->rest, left.ptr, left.len);
    sink->rest_len = left.len;
    if (left.len != 0)
        return false;
    mem_free(TAKE(sink->rest));
    return true;
}

bool log_sink_write(struct log_sink *sink, struct slice line) {
    pthread_mutex_lock(&sink->mutex);
    struct slice left = finish_rest(sink) ? write_some(sink, line) : line;
    bool is_begun = left.len != line.len;
    if (is_begun && left.len != 0)
        sink->rest = mem_alloc(left.len); /* without memory the line is cut */
    if (sink->rest != NULL && is_begun && left.len != 0) {
        memcpy(sink->rest, left.ptr, left.len);
        sink->rest_len = left.len;
    }
    bool is_taken = is_begun && (left.len == 0 || sink->rest != NULL);
    pthread_mutex_unlock(&sink->mutex);
    return is_taken;
}

void log_sink_lose(struct log_sink *sink, uint64_t n_lines, int error) {
    pthread_mutex_lock(&sink->mutex);
    sink->n_lost += n_lines;
    if (error != 0)
        sink->error = error;
    pthread_mutex_unlock(&sink->mutex);
}

uint64_t log_sink_take_lost(struct log_sink *sink, int *ret_error) {
    uint64_t n_lost = 0;
    pthread_mutex_lock(&sink->mutex);
    if (sink->n_lost != 0 && finish_rest(sink)) {
        n_lost = sink->n_lost;
        sink->n_lost = 0;
        *ret_error = sink->error;
    }
    pthread_mutex_unlock(&sink->mutex);
    return n_lost;
}
