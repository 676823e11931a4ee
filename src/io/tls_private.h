/* What the files of TLS share: the context, and the layer between a stream and its wire. */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "base/slice.h"
#include "io/loop.h"
#include "io/tls.h"

/* --- the context (tls.c) --- */

struct tls_waiter {
    struct io_message message;
    struct io_loop *loop;
    bool is_waiting; /* under the context's mutex */
};

/* Posts the message as soon as the roots are loaded: now, or by the loading thread. */
void tls_wait(struct io_tls *tls, struct tls_waiter *waiter);
/* True: the message will not be posted. False: it has been, and is delivered some time. */
bool tls_wait_cancel(struct io_tls *tls, struct tls_waiter *waiter);
/* After loading: 0 and the context, or -errno and a fixed sentence. */
MUST_CHECK int tls_context(const struct io_tls *tls, SSL_CTX **ret_context,
                           const char **ret_reason);

/* --- sentences (tls_reason.c) --- */

/* -errno and a fixed sentence for what went wrong with `ssl`; empties the queue of errors. */
int tls_reason(const SSL *ssl, const char **ret_reason);

/* --- the layer (tls_stream.c) --- */

struct tls_stream;

/* Bytes from the wire (which lie in the loop's read_chunk), or its end (n < 0). */
void tls_stream_input(struct tls_stream *layer, const char *bytes, ssize_t n);
/* The handshake is done: the stream is the user's. */
bool tls_stream_is_open(const struct tls_stream *layer);
void tls_stream_read(struct tls_stream *layer, bool on);
MUST_CHECK int tls_stream_write(struct tls_stream *layer, struct slice bytes);
/* Sends close_notify. */
void tls_stream_shutdown(struct tls_stream *layer);
/* The wire broke. True: the handshake was under way and has now failed, so on_end is not called. */
bool tls_stream_break(struct tls_stream *layer, int error);
/* The stream was freed; the layer itself lives until tls_stream_free(). */
void tls_stream_stop(struct tls_stream *layer);
void tls_stream_free(struct tls_stream *layer);
