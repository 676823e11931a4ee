#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "address.h"
#include "base/mem.h"
#include "io/file.h"
#include "io/stream.h"
#include "loop_private.h"

enum { BACKLOG = 1024 };

static int bind_socket(const struct io_address *address, bool reuse_port, int *ret_fd) {
    const struct sockaddr *sockaddr = (const struct sockaddr *)(const void *)address->storage;
    int on = 1;
    int fd = socket(sockaddr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
        goto failed;
    if (sockaddr->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, sockaddr, address->size) != 0)
        goto failed;
    *ret_fd = fd;
    return 0;

failed:;
    int error = -errno;
    io_fd_close(&fd);
    return error;
}

int io_listen_socket(struct io_address *address, bool exclusive, int *ret_fd) {
    int fd = -1;
    if (exclusive) {
        /* Two gateways of one user could share a port by SO_REUSEPORT without noticing: bind once
         * without. */
        int error = bind_socket(address, false, &fd);
        if (error != 0)
            return error;
        if (listen(fd, 1) != 0) {
            error = -errno;
            io_fd_close(&fd);
            return error;
        }
        io_fd_close(&fd);
    }
    int error = bind_socket(address, true, &fd);
    if (error != 0)
        return error;
    if (listen(fd, BACKLOG) != 0) {
        error = -errno;
        io_fd_close(&fd);
        return error;
    }
    socklen_t size = sizeof address->storage;
    if (getsockname(fd, (struct sockaddr *)(void *)address->storage, &size) == 0) {
        address->size = size;
        address_describe(address);
    }
    *ret_fd = fd;
    return 0;
}

int io_listen_unix(const char *path, int *ret_fd) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (slice_to_cstr(slice_from_cstr(path), address.sun_path, sizeof address.sun_path) != 0)
        return -ENAMETOOLONG;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    unlink(path);
    /* The directory is 0700 already; the mode of the socket itself is set before anybody may
     * connect. */
    mode_t old_mask = umask(0177);
    bool failed = bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
                  listen(fd, BACKLOG) != 0;
    int error = failed ? -errno : 0;
    umask(old_mask);
    if (error != 0) {
        io_fd_close(&fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

/*
 * Accepting is done here with accept4(2) on a watched descriptor, so that the accepted one is
 * close-on-exec at once and a full descriptor table is a pause, not a spin.
 */
struct io_listener {
    struct io_loop *loop;
    int fd;
    struct io_watch *watch;
    struct io_timer *pause;
    io_accept_fn *fn;
    io_full_fn *full_fn;
    void *context;
    /* Descriptors that are given up, one at a time, when there are no more; -1: it is. Several,
     * because another thread may take what was given up before the listener can. */
    int reserve[4];
    bool is_accepting, is_freed; /* fn may free the listener */
};

enum { ACCEPTS_PER_TURN = 64, PAUSE_MS = 100 };

static void on_acceptable(void *context);

static void keep_reserve(struct io_listener *listener) {
    for (size_t i = 0; listener->full_fn != NULL && i < ARRAY_LEN(listener->reserve); i++) {
        if (listener->reserve[i] < 0 && io_null_open(&listener->reserve[i]) != 0)
            break; /* tried again when it is needed */
    }
}

static void give_up(struct io_listener *listener, size_t most) {
    for (size_t i = ARRAY_LEN(listener->reserve); i-- > 0 && most != 0;) {
        if (listener->reserve[i] < 0)
            continue;
        io_fd_close(&listener->reserve[i]);
        most--;
    }
}

/*
 * 0, or the errno of an attempt that did not help either. Without descriptors accept(2) says so
 * also when nobody is there: EAGAIN then.
 */
static int accept_by_reserve(struct io_listener *listener, int error) {
    if (listener->full_fn == NULL)
        return error;
    give_up(listener, 1);
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int second_error = fd < 0 ? errno : 0;
    if (second_error != EAGAIN)
        listener->full_fn(listener->context, fd, error);
    if (!listener->is_freed)
        keep_reserve(listener);
    return second_error;
}

static void on_pause_over(void *context) {
    struct io_listener *listener = context;
    if (io_watch_new(listener->loop, listener->fd, on_acceptable, listener, &listener->watch) != 0)
        io_timer_start(listener->pause, PAUSE_MS);
}

static void on_acceptable(void *context) {
    struct io_listener *listener = context;
    listener->is_accepting = true;
    for (int i = 0; i < ACCEPTS_PER_TURN && !listener->is_freed; i++) {
        struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
        socklen_t size = sizeof storage;
        int fd = accept4(listener->fd, (struct sockaddr *)(void *)&storage, &size,
                         SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            struct network peer =
                io_sockaddr_network((const struct sockaddr *)(const void *)&storage);
            listener->fn(listener->context, fd, &peer);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        int error = errno;
        if (error == EMFILE || error == ENFILE)
            error = accept_by_reserve(listener, error);
        if (error == 0)
            continue;
        if (error != EAGAIN && !listener->is_freed) {
            listener->watch = io_watch_free(listener->watch);
            io_timer_start(listener->pause, PAUSE_MS);
        }
        break;
    }
    listener->is_accepting = false;
    if (listener->is_freed)
        mem_free(listener);
}

int io_listener_new(struct io_loop *loop, int fd, io_accept_fn *fn, void *context,
                    struct io_listener **ret_listener) {
    struct io_listener *listener = mem_xalloc(sizeof *listener);
    listener->loop = loop;
    listener->fd = fd;
    listener->fn = fn;
    listener->context = context;
    for (size_t i = 0; i < ARRAY_LEN(listener->reserve); i++)
        listener->reserve[i] = -1;
    listener->pause = io_timer_new(loop, on_pause_over, listener);
    int error = io_watch_new(loop, fd, on_acceptable, listener, &listener->watch);
    if (error != 0) {
        io_listener_free(listener);
        return error;
    }
    *ret_listener = listener;
    return 0;
}

void io_listener_accept_rest(struct io_listener *listener) {
    if (listener != NULL && listener->watch != NULL)
        on_acceptable(listener);
}

void io_listener_on_full(struct io_listener *listener, io_full_fn *fn) {
    listener->full_fn = fn;
    keep_reserve(listener);
}

struct io_listener *io_listener_free(struct io_listener *listener) {
    if (listener != NULL) {
        io_watch_free(listener->watch);
        io_timer_free(listener->pause);
        io_fd_close(&listener->fd);
        give_up(listener, SIZE_MAX);
        listener->is_freed = true;
        if (!listener->is_accepting)
            mem_free(listener);
    }
    return NULL;
}
