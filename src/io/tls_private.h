/* What the files of TLS share: the context, and the layer between a stream and its wire. */
#pragma once

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/list.h"
#include "base/slice.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/tls.h"

struct io_tls {
    atomic_uint refs;
    bool is_server;
    SSL_CTX *context; /* not changed any more when it is loaded */
    int error;        /* of the loading */
    const char *reason;
    pthread_mutex_t mutex;
    bool is_loaded;
    struct list waiters;
    /* Of clients. */
    pthread_t loader;
    bool has_loader, use_system_roots;
    bool is_lazy; /* the first who waits starts the loader; under the mutex */
    bool accepts_any_name, accepts_anything;
    char *ca_file, *env_file, *env_directory; /* owned; or NULL */
    char *cert_file, *key_file;               /* owned; or NULL */
};

/* --- the context (tls.c, tls_client.c, tls_server.c) --- */

/* What ALPN agrees on: http/1.1 (RFC 7301), as a list of one. */
enum { TLS_ALPN_LEN = 9 };
extern const unsigned char tls_alpn[];
extern const char tls_no_context[]; /* a reason */

struct io_tls *tls_new(void);
/* What clients and servers have in common. */
MUST_CHECK bool tls_set_up(SSL_CTX *context, const char *ciphers);
/* It can be used, or cannot: whoever waits for it is told. */
void tls_loaded(struct io_tls *tls, int error);

/* Of a context for clients that is not loading yet. -errno. */
MUST_CHECK int tls_start_loader(struct io_tls *tls);

struct tls_waiter {
    struct io_message message;
    struct io_loop *loop;
    bool is_waiting; /* under the context's mutex */
};

/* Posts the message as soon as the context is loaded: now, or by the loading thread. */
void tls_wait(struct io_tls *tls, struct tls_waiter *waiter);
/* True: the message will not be posted. False: it has been, and is delivered some time. */
bool tls_wait_cancel(struct io_tls *tls, struct tls_waiter *waiter);
/* After loading: 0 and the context, or -errno and a fixed sentence. */
MUST_CHECK int tls_context(const struct io_tls *tls, SSL_CTX **ret_context,
                           const char **ret_reason);

/* --- sentences (tls_reason.c) --- */

/* -errno and a fixed sentence for what went wrong with `ssl`; empties the queue of errors. */
int tls_reason(const SSL *ssl, const char **ret_reason);

/* --- the wire (tls_wire.c) --- */

enum {
    TLS_RECORD = 16 * 1024,       /* of plain text: RFC 8446 section 5.1 */
    TLS_PLAIN = 64 * 1024,        /* handed on at once */
    TLS_SENT_AT_ONCE = 68 * 1024, /* four records and what is around them */
};

/* What the TLS streams of one loop share; made when the first one comes. */
struct tls_loop {
    struct io_loop *loop;
    /* Handshakes: so much time of each turn of the loop is theirs, then they wait (tls_wire.c). */
    struct io_message message;
    bool is_posted;
    uint64_t used_ns, began_ns;
    struct list waiting; /* struct tls_wire */
    BIO_METHOD *method;
    /* What was sent while a wire is corked; of one wire, and empty between callbacks. */
    size_t n_out;
    char out[TLS_SENT_AT_ONCE];
    char record[TLS_RECORD]; /* pieces are put together here */
    char plain[TLS_PLAIN];   /* what was read */
};

/* NULL: there is no memory. */
struct tls_loop *tls_loop_get(struct io_loop *loop);
void tls_loop_free(struct tls_loop *shared);

/* What OpenSSL reads from and writes to. */
struct tls_wire {
    struct io_stream *stream;
    struct tls_loop *shared;
    struct slice input;                  /* what has just come, in the loop's read_chunk */
    struct buf held;                     /* what came before and was not taken; goes first */
    bool is_corked;                      /* what is written is collected until it is flushed */
    int error;                           /* of sending */
    struct list_link link;               /* in shared->waiting */
    void (*turn)(struct tls_wire *wire); /* it waited, and it is its turn */
};

/* `shared` is to be set before anything but `held` and `input` is used. */
void wire_init(struct tls_wire *wire, struct io_stream *stream,
               void (*turn)(struct tls_wire *wire));
void wire_deinit(struct tls_wire *wire);
/* A BIO for it, which has to live as long. NULL: there is no memory. */
BIO *wire_bio(struct tls_wire *wire);
static inline bool wire_has_input(const struct tls_wire *wire) {
    return wire->input.len != 0 || buf_len(&wire->held) != 0;
}
/* Before the callback ends in which `input` came: what is left of it is held. -ENOMEM. */
MUST_CHECK int wire_keep_rest(struct tls_wire *wire);
static inline void wire_cork(struct tls_wire *wire) {
    wire->is_corked = true;
}
static inline size_t wire_corked(const struct tls_wire *wire) {
    return wire->shared->n_out;
}
/* Sends what was collected, or forgets it. */
MUST_CHECK int wire_uncork(struct tls_wire *wire);
void wire_forget(struct tls_wire *wire);
/* True: a handshake may go on now, between these two. False: `turn` is called later. */
MUST_CHECK bool wire_begin_turn(struct tls_wire *wire);
void wire_end_turn(struct tls_wire *wire);

/* --- the layer (tls_stream.c) --- */

struct tls_stream;

/* Bytes from the wire (which lie in the loop's read_chunk), or its end (n < 0). */
void tls_stream_input(struct tls_stream *layer, const char *bytes, ssize_t n);
/* The handshake is done: the stream is the user's. */
bool tls_stream_is_open(const struct tls_stream *layer);
/* Something came and has not been read. */
bool tls_stream_has_input(const struct tls_stream *layer);
/* NULL: there was no handshake yet. */
const SSL *tls_stream_ssl(const struct tls_stream *layer);
void tls_stream_read(struct tls_stream *layer, bool on);
MUST_CHECK int tls_stream_write(struct tls_stream *layer, const struct slice *pieces,
                                size_t n_pieces);
/* Sends close_notify. */
void tls_stream_shutdown(struct tls_stream *layer);
/* The wire broke. True: the handshake was under way and has now failed, so on_end is not called. */
bool tls_stream_break(struct tls_stream *layer, int error);
/* The stream was freed; the layer itself lives until tls_stream_free(). */
void tls_stream_stop(struct tls_stream *layer);
void tls_stream_free(struct tls_stream *layer);
