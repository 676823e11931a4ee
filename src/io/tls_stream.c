#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "io/tls.h"
#include "resolver.h"
#include "stream_private.h"
#include "tls_private.h"

/*
 * The layer between a stream and its wire. OpenSSL sees two memory BIOs and no descriptor: what the
 * wire gives is put into `in`, what OpenSSL wants sent is taken out of `out`. So OpenSSL never
 * blocks, queue and limits stay those of the stream, and back-pressure is what it is without TLS: a
 * stream that is not read takes nothing from the wire, and `in` holds at most one chunk.
 *
 * What is left in `in` when reading is turned on again is read in the loop's next turn, by a
 * message to itself, because nothing may be called from inside io_stream_read(). The same message
 * starts the handshake, posted by the thread that loads the roots. It may be under way when the
 * stream is freed; then the layer waits for it.
 *
 * Plain text is put into the loop's read_chunk. The cipher text came in the same place, but has
 * been copied into `in` by then.
 */

enum tls_state {
    TLS_LOADING, /* the roots */
    TLS_HANDSHAKE,
    TLS_OPEN,
    TLS_FAILED,
};

enum {
    WRITE_CHUNK = 64 * 1024,
    /* Answers that the peer makes us give (KeyUpdate, RFC 8446 section 4.6.3; refused
     * renegotiation) while it takes nothing from us. */
    UNASKED_MAX = 16 * 1024,
    NAME_MAX_SIZE = 256,
};

struct tls_stream {
    struct tls_waiter waiter;
    bool is_posted;           /* the waiter's message is under way, or waits for the roots */
    struct io_stream *stream; /* NULL: gone; the message's delivery frees the layer */
    struct io_tls *tls;
    enum tls_state state;
    char name[NAME_MAX_SIZE];
    io_tls_ready_fn *ready;
    void *context;
    SSL *ssl;
    BIO *in, *out; /* of `ssl` */
    bool wants_read;
    bool is_shut; /* close_notify was sent */
    bool wire_ended;
    int wire_error;
    bool has_end; /* nothing more can be read; to be told when all before it was */
    int end_error;
    size_t unasked;
    const char *reason;
};

/* The end of everything during the handshake. The callback may free the stream. */
static void fail(struct tls_stream *layer, int error, const char *reason) {
    layer->state = TLS_FAILED;
    layer->reason = reason;
    stream_read_wire(layer->stream, false);
    layer->stream->has_ended = true;
    layer->stream->is_broken = true;
    layer->ready(layer->context, error);
}

/* Sends what OpenSSL has made. */
static int flush(struct tls_stream *layer) {
    char *bytes = NULL;
    long n = BIO_get_mem_data(layer->out, &bytes);
    if (n <= 0)
        return 0;
    struct slice piece = slice_make(bytes, (size_t)n);
    int error = stream_send(layer->stream, &piece, 1);
    (void)BIO_reset(layer->out);
    return error;
}

/* --- the handshake --- */

static void handshake(struct tls_stream *layer) {
    const char *reason = NULL;
    ERR_clear_error();
    int r = SSL_do_handshake(layer->ssl);
    int code = SSL_get_error(layer->ssl, r);
    int error = 0;
    if (r != 1 && code != SSL_ERROR_WANT_READ)
        error = tls_reason(layer->ssl, &reason);
    int sent = flush(layer); /* also the alert that tells the peer why */
    if (error == 0 && sent != 0) {
        error = sent;
        reason = "the connection broke during the TLS handshake";
    }
    if (error == 0 && r != 1 && layer->wire_ended) {
        error = layer->wire_error != 0 ? layer->wire_error : -ECONNRESET;
        reason = "the server closed the connection during the TLS handshake";
    }
    if (error != 0) {
        fail(layer, error, reason);
    } else if (r == 1) {
        layer->state = TLS_OPEN;
        stream_read_wire(layer->stream, false);
        layer->ready(layer->context, 0);
    }
}

/* SNI is for names only (RFC 6066 section 3); an address is compared as one. */
static bool set_name(struct tls_stream *layer) {
    unsigned char address[sizeof(struct in6_addr)];
    X509_VERIFY_PARAM *param = SSL_get0_param(layer->ssl);
    if (inet_pton(AF_INET, layer->name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip(param, address, sizeof(struct in_addr)) == 1;
    if (inet_pton(AF_INET6, layer->name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip(param, address, sizeof(struct in6_addr)) == 1;
    return X509_VERIFY_PARAM_set1_host(param, layer->name, strlen(layer->name)) == 1 &&
           SSL_set_tlsext_host_name(layer->ssl, layer->name) == 1;
}

static bool set_up(struct tls_stream *layer, SSL_CTX *context) {
    layer->ssl = SSL_new(context);
    if (layer->ssl == NULL)
        return false;
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    if (in == NULL || out == NULL) {
        BIO_free(in);
        BIO_free(out);
        return false;
    }
    layer->in = in;
    layer->out = out;
    SSL_set_bio(layer->ssl, in, out);
    SSL_set_connect_state(layer->ssl);
    return set_name(layer);
}

static void begin(struct tls_stream *layer) {
    SSL_CTX *context = NULL;
    const char *reason = NULL;
    int error = tls_context(layer->tls, &context, &reason);
    if (error == 0 && !set_up(layer, context)) {
        ERR_clear_error();
        error = -ENOMEM;
        reason = "out of memory";
    }
    if (error != 0) {
        fail(layer, error, reason);
        return;
    }
    layer->state = TLS_HANDSHAKE;
    stream_read_wire(layer->stream, true);
    handshake(layer);
}

/* --- reading --- */

static void note_end(struct tls_stream *layer, int error, const char *reason) {
    layer->has_end = true;
    layer->end_error = error;
    if (reason != NULL)
        layer->reason = reason;
}

/*
 * Why nothing more can be read now. An end of the wire without close_notify may be anybody's work:
 * it is an error, so that nobody takes what came for the whole (RFC 8446 section 6.1).
 */
static void note_stop(struct tls_stream *layer, int code) {
    const char *reason = NULL;
    if (code == SSL_ERROR_ZERO_RETURN) {
        note_end(layer, 0, NULL);
    } else if (code != SSL_ERROR_WANT_READ) {
        int error = tls_reason(layer->ssl, &reason);
        note_end(layer, error, reason);
    } else if (layer->wire_ended) {
        note_end(layer, layer->wire_error != 0 ? layer->wire_error : -ECONNRESET,
                 "the connection ended without the end of TLS");
    }
}

static void flush_unasked(struct tls_stream *layer) {
    size_t pending = BIO_ctrl_pending(layer->out);
    if (pending == 0)
        return;
    layer->unasked = io_stream_queued(layer->stream) != 0 ? layer->unasked + pending : pending;
    if (layer->unasked > UNASKED_MAX) {
        (void)BIO_reset(layer->out);
        note_end(layer, -EPROTO, "the server asks for new keys without end");
        return;
    }
    int error = flush(layer);
    if (error != 0)
        note_end(layer, error, NULL);
}

static size_t fill(struct tls_stream *layer) {
    char *chunk = layer->stream->loop->read_chunk;
    size_t got = 0;
    while (got < IO_READ_CHUNK) {
        size_t n = 0;
        ERR_clear_error();
        int r = SSL_read_ex(layer->ssl, chunk + got, IO_READ_CHUNK - got, &n);
        if (r != 1) {
            note_stop(layer, SSL_get_error(layer->ssl, r));
            break;
        }
        got += n;
    }
    flush_unasked(layer);
    return got;
}

/* The callbacks may turn reading off and free the stream, which stays in memory until later in
 * this turn of the loop. */
static void pump(struct tls_stream *layer) {
    struct io_stream *stream = layer->stream;
    while (layer->wants_read && !stream->has_ended && !stream->is_closed) {
        size_t got = layer->has_end ? 0 : fill(layer);
        if (got == 0) {
            if (layer->has_end)
                stream_report_end(stream, layer->end_error);
            return;
        }
        stream->events.on_read(stream->context, slice_make(stream->loop->read_chunk, got));
    }
}

void tls_stream_input(struct tls_stream *layer, const char *bytes, ssize_t n) {
    if (n < 0) {
        layer->wire_ended = true;
        layer->wire_error = n == UV_EOF ? 0 : (int)n;
    } else if (BIO_write(layer->in, bytes, (int)n) != n) {
        layer->wire_ended = true;
        layer->wire_error = -ENOMEM;
        stream_read_wire(layer->stream, false);
    }
    if (layer->state == TLS_HANDSHAKE)
        handshake(layer);
    else if (layer->state == TLS_OPEN)
        pump(layer);
}

static void post(struct tls_stream *layer) {
    if (!layer->is_posted) {
        layer->is_posted = true;
        io_loop_post(layer->waiter.loop, &layer->waiter.message);
    }
}

void tls_stream_read(struct tls_stream *layer, bool on) {
    if (layer->state != TLS_OPEN)
        return;
    layer->wants_read = on;
    stream_read_wire(layer->stream, on && !layer->has_end && !layer->wire_ended);
    if (on && (layer->has_end || layer->wire_ended || BIO_ctrl_pending(layer->in) != 0 ||
               SSL_has_pending(layer->ssl) != 0))
        post(layer);
}

bool tls_stream_is_open(const struct tls_stream *layer) {
    return layer->state == TLS_OPEN;
}

bool tls_stream_break(struct tls_stream *layer, int error) {
    if (layer->state != TLS_HANDSHAKE)
        return false;
    fail(layer, error, "the connection broke during the TLS handshake");
    return true;
}

/* --- writing --- */

int tls_stream_write(struct tls_stream *layer, struct slice bytes) {
    if (layer->state != TLS_OPEN)
        return -ENOTCONN;
    if (layer->is_shut)
        return -EPIPE;
    bool has_part = false;
    while (bytes.len != 0) {
        size_t n = bytes.len < WRITE_CHUNK ? bytes.len : WRITE_CHUNK, written = 0;
        ERR_clear_error();
        int error = 0;
        if (SSL_write_ex(layer->ssl, bytes.ptr, n, &written) != 1)
            error = -EPIPE;
        ERR_clear_error();
        int sent = flush(layer);
        if (error == 0)
            error = sent;
        if (error != 0) {
            layer->stream->is_broken = true;
            return has_part ? -EIO : error;
        }
        has_part = true;
        bytes = slice_from(bytes, written);
    }
    return 0;
}

void tls_stream_shutdown(struct tls_stream *layer) {
    if (layer->state != TLS_OPEN || layer->is_shut)
        return;
    layer->is_shut = true;
    ERR_clear_error();
    (void)SSL_shutdown(layer->ssl);
    ERR_clear_error();
    if (flush(layer) != 0)
        layer->stream->is_broken = true;
}

/* --- life --- */

static void destroy(struct tls_stream *layer) {
    SSL_free(layer->ssl); /* and its BIOs */
    io_tls_unref(layer->tls);
    mem_free(layer);
}

static void on_message(struct io_message *message) {
    struct tls_waiter *waiter = CONTAINER_OF(message, struct tls_waiter, message);
    struct tls_stream *layer = CONTAINER_OF(waiter, struct tls_stream, waiter);
    layer->is_posted = false;
    if (layer->stream == NULL)
        destroy(layer);
    else if (layer->stream->is_closed)
        return;
    else if (layer->state == TLS_LOADING)
        begin(layer);
    else if (layer->state == TLS_OPEN)
        pump(layer);
}

/*
 * The name as OpenSSL gets it: without a last dot, and nothing but a name or an address: to
 * X509_VERIFY_PARAM_set1_host() an empty name is no check, and a dot in front is any subdomain.
 */
static int copy_name(struct tls_stream *layer, struct slice name) {
    unsigned char address[sizeof(struct in6_addr)];
    if (slice_to_cstr(name, layer->name, sizeof layer->name) != 0)
        return -EINVAL;
    if (inet_pton(AF_INET, layer->name, address) == 1 ||
        inet_pton(AF_INET6, layer->name, address) == 1)
        return 0;
    if (!lookup_is_name(name))
        return -EINVAL;
    if (layer->name[name.len - 1] == '.')
        layer->name[name.len - 1] = '\0';
    return 0;
}

int io_stream_start_tls(struct io_stream *stream, struct io_tls *tls, struct slice name,
                        io_tls_ready_fn *ready, void *context) {
    if (stream->is_broken || stream->has_ended || stream->is_closed)
        return -EPIPE;
    if (stream->tls != NULL)
        return -EALREADY;
    struct tls_stream *layer = mem_xalloc(sizeof *layer);
    int error = copy_name(layer, name);
    if (error != 0) {
        mem_free(layer);
        return error;
    }
    stream_read_wire(stream, false);
    layer->stream = stream;
    layer->tls = io_tls_ref(tls);
    layer->ready = ready;
    layer->context = context;
    layer->reason = "";
    layer->waiter.message.deliver = on_message;
    layer->waiter.loop = stream->loop;
    layer->is_posted = true;
    stream->tls = layer;
    tls_wait(tls, &layer->waiter);
    return 0;
}

const char *io_stream_tls_reason(const struct io_stream *stream) {
    return stream->tls != NULL ? stream->tls->reason : "";
}

void tls_stream_stop(struct tls_stream *layer) {
    if (layer->is_posted && tls_wait_cancel(layer->tls, &layer->waiter))
        layer->is_posted = false;
}

void tls_stream_free(struct tls_stream *layer) {
    if (layer->is_posted)
        layer->stream = NULL;
    else
        destroy(layer);
}
