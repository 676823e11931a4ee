/*
 * The process has no more descriptors, or no more memory. Both pass: connections end, answers are
 * read, somebody raises a limit. Until then those who are inside go on, and newcomers are told to
 * come back, by a text that needs neither of the two. The log says what is short and how to cure
 * it, once a second at most, and when it is over.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "io/file.h"
#include "private.h"

enum { TELL_MS = 1000 };

/*
 * A new socket takes an answer of this size at once. What the client has sent already is read, or
 * closing would take the answer back (RFC 9112 section 9.6); there is no descriptor or memory to
 * wait for more of it.
 */
static void answer_and_close(const struct gw_worker *worker, int fd, const char *what) {
    if (worker->tls != NULL) { /* who speaks TLS would take it for nonsense */
        io_fd_close(&fd);
        return;
    }
    char body[160], answer[400], dropped[4096];
    int body_len =
        snprintf(body, sizeof body,
                 "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":%d,\"message\":\"the gateway is "
                 "out of %s; try again later\"}}",
                 MCP_E_UNAVAILABLE, what);
    int len = snprintf(answer, sizeof answer,
                       "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                       "Content-Length: %d\r\nRetry-After: 5\r\nConnection: close\r\n\r\n%s",
                       body_len, body);
    (void)!send(fd, answer, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
    while (recv(fd, dropped, sizeof dropped, MSG_DONTWAIT) > 0)
        continue;
    io_fd_close(&fd);
}

static void tell(struct gw_worker *worker) {
    struct gw_shortage *shortage = &worker->shortage;
    struct log *log = worker->gateway->log;
    struct rlimit limit = {.rlim_cur = 0};
    if (shortage->n_no_descriptors != 0) {
        (void)getrlimit(RLIMIT_NOFILE, &limit);
        log_write(log, LOG_WARN, "gateway",
                  "out of file descriptors: connections were answered with 503, or wait; allow "
                  "more (ulimit -n, LimitNOFILE), or lower server.limits.max_connections",
                  LOG_NUM("connections", shortage->n_no_descriptors),
                  LOG_NUM("descriptors", limit.rlim_cur));
    }
    if (shortage->n_no_memory != 0)
        log_write(log, LOG_WARN, "gateway",
                  "out of memory: connections and requests were answered with 503; allow more "
                  "(ulimit -v, MemoryMax), or lower server.max_held",
                  LOG_NUM("refused", shortage->n_no_memory),
                  LOG_NUM("held", budget_held(&worker->gateway->budget)));
    shortage->n_no_descriptors = shortage->n_no_memory = 0;
}

static bool has_descriptors(void) {
    int fd = -1;
    int error = io_null_open(&fd);
    io_fd_close(&fd);
    return error == 0;
}

static void on_tell(void *context) {
    struct gw_worker *worker = context;
    struct gw_shortage *shortage = &worker->shortage;
    if (shortage->n_no_descriptors != 0 || shortage->n_no_memory != 0) {
        tell(worker);
        io_timer_start(shortage->timer, TELL_MS);
    } else if (mem_is_short() || !has_descriptors()) {
        io_timer_start(shortage->timer, TELL_MS);
    } else {
        log_write(worker->gateway->log, LOG_INFO, "gateway", "has room again for all who come");
    }
}

/* The first one is told at once, those of the second that follows together. */
static void note(struct gw_worker *worker) {
    if (io_timer_is_running(worker->shortage.timer))
        return;
    tell(worker);
    io_timer_start(worker->shortage.timer, TELL_MS);
}

void gw_shortage_init(struct gw_worker *worker) {
    worker->shortage.timer = io_timer_new(worker->loop, on_tell, worker);
}

void gw_shortage_deinit(struct gw_worker *worker) {
    worker->shortage.timer = io_timer_free(worker->shortage.timer);
}

void gw_shortage_of_descriptors(void *context, int fd, int error) {
    struct gw_worker *worker = context;
    (void)error;
    if (fd >= 0)
        answer_and_close(worker, fd, "file descriptors");
    worker->shortage.n_no_descriptors++;
    note(worker);
}

bool gw_shortage_of_memory(struct gw_worker *worker) {
    if (LIKELY(!mem_is_short()))
        return false;
    worker->shortage.n_no_memory++;
    note(worker);
    return true;
}

void gw_shortage_refuse(const struct gw_worker *worker, int fd) {
    answer_and_close(worker, fd, "memory");
}
