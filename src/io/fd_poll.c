#include "fd_poll.h"

#include "base/mem.h"
#include "loop_private.h"

struct fd_poll {
    uv_poll_t uv;
    int fd;
    fd_poll_fn *fn;
    void *context;
};

static void on_poll(uv_poll_t *uv, int status, int events) {
    struct fd_poll *poll = uv->data;
    poll->fn(poll->context, poll->fd, status < 0 ? UV_READABLE | UV_WRITABLE : events);
}

int fd_poll_new(struct io_loop *loop, int fd, fd_poll_fn *fn, void *context,
                struct fd_poll **ret_poll) {
    struct fd_poll *poll = mem_xalloc(sizeof *poll);
    int error = uv_poll_init(&loop->uv, &poll->uv, fd);
    if (error != 0) {
        mem_free(poll);
        return error;
    }
    poll->uv.data = poll;
    poll->fd = fd;
    poll->fn = fn;
    poll->context = context;
    *ret_poll = poll;
    return 0;
}

int fd_poll_start(struct fd_poll *poll, int events) {
    return uv_poll_start(&poll->uv, events, on_poll);
}

int fd_poll_fd(const struct fd_poll *poll) {
    return poll->fd;
}

static void free_poll(uv_handle_t *handle) {
    mem_free(handle->data);
}

struct fd_poll *fd_poll_free(struct fd_poll *poll) {
    if (poll != NULL)
        uv_close((uv_handle_t *)&poll->uv, free_poll);
    return NULL;
}
