/*
 * Byte streams on a loop: TCP and Unix connections, pipes. Writing never blocks and never calls
 * back from inside. Where a loop has much to write, what is written in one turn leaves together
 * when the turn ends. What the kernel does not take is queued up to a limit. Reading can be paused,
 * which is how back-pressure travels.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/network.h"
#include "base/slice.h"
#include "io/loop.h"

struct io_stream;
struct io_listener;
struct sockaddr;

struct io_stream_events {
    /* Bytes came; they are valid during the call. The stream may be freed inside. */
    void (*on_read)(void *context, struct slice bytes);
    /* The peer ended (error 0) or the connection broke (-errno). Once; nothing is read after it. */
    void (*on_end)(void *context, int error);
    /* What left at the end of a turn was more than the kernel took: the rest is queued. May be
     * NULL. */
    void (*on_queued)(void *context);
    /* The queue, which was not empty, is: time to go on writing, or the end of a flush. May be
     * NULL. */
    void (*on_drain)(void *context);
};

enum io_stream_kind { IO_STREAM_TCP, IO_STREAM_PIPE };

/* Takes the descriptor over, also when it fails. Reading is off. */
MUST_CHECK int io_stream_new(struct io_loop *loop, enum io_stream_kind kind, int fd,
                             const struct io_stream_events *events, void *context,
                             struct io_stream **ret_stream);
/* Closes at once, with what was written in this turn; what is queued is dropped. No callback
 * afterwards. Accepts NULL. */
struct io_stream *io_stream_free(struct io_stream *stream);

void io_stream_read(struct io_stream *stream, bool on);
/*
 * What this stream reads ends the holding of something else: answers of upstreams. It reads on
 * until the budget of its loop is exceeded by a quarter, so that those who wait can finish.
 */
void io_stream_drains(struct io_stream *stream);
/* When too much is held, one stream of the loop may read on until its message is whole. It is:
 * another one's turn. Turning reading on or off says so, too. */
void io_stream_yield(struct io_stream *stream);
/* It would be read, but too much is held. */
bool io_stream_is_starved(const struct io_stream *stream);
/* What this stream reads is little, and not held. */
void io_stream_never_starves(struct io_stream *stream);
/*
 * Writes or queues a copy. 0; -ENOBUFS when more than `max_queued` bytes would wait (nothing is
 * written then); -EPIPE and the like when the stream is broken (on_end says so too) and took
 * nothing of it; -ENOMEM, -EIO: the stream is broken now, and a part of it may have left. What
 * leaves at the end of the turn meets its errors there: on_end tells them.
 */
MUST_CHECK int io_stream_write(struct io_stream *stream, struct slice bytes, size_t max_queued);
/* The same of several pieces, one behind the other; they are copied only as far as they have to
 * wait.
 */
enum { IO_STREAM_PIECES = 256 };
/* The most of a stream that waits for the end of a turn; more leaves at once, and is not copied. */
enum { IO_STREAM_TURN = 16 * 1024 };
MUST_CHECK int io_stream_writev(struct io_stream *stream, const struct slice *pieces,
                                size_t n_pieces, size_t max_queued);
/* What waits for the peer to read. */
size_t io_stream_queued(const struct io_stream *stream);
/* From now on copies of what is written are wiped when they are not needed any more. Not reached:
 * those of several writes that wait for the peer one behind the other. */
void io_stream_has_secrets(struct io_stream *stream);
/* Gives to the kernel what was written in this turn, as far as it takes that. */
void io_stream_flush(struct io_stream *stream);
/* Bytes of the wire that left or wait to leave; those that are given up do not count any more. */
uint64_t io_stream_accepted(const struct io_stream *stream);
/*
 * True if nothing has left of what was written since it had `accepted` so many, and now nothing of
 * it will: the stream is broken then, and to be freed. No callback.
 */
bool io_stream_withdraw(struct io_stream *stream, uint64_t accepted);
/* What was written and the peer's system has not taken yet: it waits here or in our kernel. A
 * system call. */
size_t io_stream_undelivered(const struct io_stream *stream);
/* What it has taken so far: grows as long as the peer reads, however slowly. A system call. */
uint64_t io_stream_delivered(const struct io_stream *stream);
/* The peer will send no more, or is gone; also while nothing is read. A system call. */
bool io_stream_has_hung_up(const struct io_stream *stream);
/* Something waits to be read, if only the end. A system call. */
bool io_stream_has_input(const struct io_stream *stream);
/* Sends FIN after what is queued (TCP); reading goes on. */
void io_stream_shutdown(struct io_stream *stream);

/* Listening. */

struct io_address {
    char text[64]; /* "127.0.0.1:8000" */
    bool is_loopback;
    _Alignas(8) unsigned char storage[128]; /* struct sockaddr_storage */
    unsigned size;
};

/* "127.0.0.1:8000", "[::1]:8000": numeric only. -EINVAL. */
MUST_CHECK int io_address_parse(struct slice text, struct io_address *ret_address);
/* The address without its port, to compare; family_bits is 0 when it is neither IPv4 nor IPv6. */
struct network io_address_network(const struct io_address *address);
struct network io_sockaddr_network(const struct sockaddr *address);

/*
 * A listening socket with SO_REUSEPORT, so that each worker has one of its own on the same address.
 * `exclusive`: first makes sure that nobody else listens there (-EADDRINUSE). Port 0 picks one,
 * *address then tells it.
 */
MUST_CHECK int io_listen_socket(struct io_address *address, bool exclusive, int *ret_fd);
/* A Unix socket at `path` with mode 0600; an old socket file is replaced. */
MUST_CHECK int io_listen_unix(const char *path, int *ret_fd);

/*
 * on_accept gets a connected descriptor, which it owns, and may free the listener. `peer` is the
 * address of whoever connected, with all its bits; family_bits is 0 for a Unix socket. Takes `fd`
 * over.
 */
typedef void io_accept_fn(void *context, int fd, const struct network *peer);
MUST_CHECK int io_listener_new(struct io_loop *loop, int fd, io_accept_fn *fn, void *context,
                               struct io_listener **ret_listener);
/*
 * The process has no descriptors left. One was kept back, so that who connects is not left waiting:
 * `fn` gets the connection in it, with the listener's context, and has to close it before it
 * returns. `fd` -1: even that was not possible; those who connect wait, and it is tried again.
 * `error` is the errno.
 */
typedef void io_full_fn(void *context, int fd, int error);
void io_listener_on_full(struct io_listener *listener, io_full_fn *fn);
/* Takes those who are connected already, as far as they fit in a turn. */
void io_listener_accept_rest(struct io_listener *listener);
struct io_listener *io_listener_free(struct io_listener *listener);
