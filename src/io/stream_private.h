/* What stream.c and its TLS layer share of a stream. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"
#include "io/stream.h"
#include "loop_private.h"

struct tls_stream;

/*
 * Where a loop has much to write, what is written in one turn is collected in `queue` and goes to
 * the kernel in one piece when the turn ends: peers are woken once instead of once for each answer
 * (decision 0020). Else, and much at once, it goes straight there. What the kernel does not take
 * stays in `queue` while `sending`, one uv_write at a time, holds what it took over: bytes in
 * flight never move. With TLS, all of these are what is on the wire.
 */
struct io_stream {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct io_loop *loop;
    struct io_stream_events events;
    void *context;
    struct tls_stream *tls; /* NULL: none */
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct buf queue;
    char *sending; /* owned; NULL when no write is under way: then `queue` waits for no peer */
    size_t sending_len;
    uint64_t n_accepted; /* bytes that were sent or queued so far */
    bool is_broken, has_ended, is_closed, shutdown_wanted, is_shut;
    int write_error; /* -errno that was met at the end of a turn, and is to be told */
    bool wants_read, drains, never_starves, has_secrets;
    unsigned n_full_chunks;        /* read one behind the other */
    struct list_link starved_link; /* in loop->starved */
    struct list_link unsent_link;  /* in loop->unsent */
};

/* Writes or queues bytes of the wire, without a limit; at most IO_STREAM_PIECES. */
MUST_CHECK int stream_send(struct io_stream *stream, const struct slice *pieces, size_t n_pieces);
/* Reads from the wire, or stops. */
void stream_read_wire(struct io_stream *stream, bool on);
/* on_end, once. */
void stream_report_end(struct io_stream *stream, int error);
