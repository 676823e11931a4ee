/* Waiting for a descriptor to become readable or writable, for the files of io/: what io_watch is
 * for others, with both directions. */
#pragma once

#include <uv.h>

#include "io/loop.h"

struct fd_poll;

/* events: UV_READABLE | UV_WRITABLE; both when the descriptor has an error to tell. */
typedef void fd_poll_fn(void *context, int fd, int events);

/* The descriptor stays the caller's, who closes it only after fd_poll_free(). */
MUST_CHECK int fd_poll_new(struct io_loop *loop, int fd, fd_poll_fn *fn, void *context,
                           struct fd_poll **ret_poll);
MUST_CHECK int fd_poll_start(struct fd_poll *poll, int events);
int fd_poll_fd(const struct fd_poll *poll);
struct fd_poll *fd_poll_free(struct fd_poll *poll);
