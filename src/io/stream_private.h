/* What stream.c and its TLS layer share of a stream. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"
#include "io/stream.h"
#include "loop_private.h"

struct tls_stream;

/*
 * Writing goes straight to the kernel while nothing is queued. The rest is collected in `queue`;
 * one uv_write at a time takes it over as `sending`, so that bytes in flight never move. With TLS,
 * all of these are what is on the wire.
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
    char *sending; /* owned; NULL when no write is under way */
    size_t sending_len;
    uint64_t n_accepted; /* bytes that were sent or queued so far */
    bool is_broken, has_ended, is_closed, shutdown_wanted;
    bool wants_read, drains, never_starves;
    unsigned n_full_chunks;        /* read one behind the other */
    struct list_link starved_link; /* in loop->starved */
};

/* Writes or queues bytes of the wire, without a limit; at most IO_STREAM_PIECES. */
MUST_CHECK int stream_send(struct io_stream *stream, const struct slice *pieces, size_t n_pieces);
/* Reads from the wire, or stops. */
void stream_read_wire(struct io_stream *stream, bool on);
/* on_end, once. */
void stream_report_end(struct io_stream *stream, int error);
