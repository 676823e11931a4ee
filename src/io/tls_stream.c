/*
 * The layer between a stream and its wire, for both sides. OpenSSL sees no descriptor but the wire
 * of tls_wire.c. So it never blocks, queue and limits stay those of the stream, and back-pressure
 * is what it is without TLS: a stream that is not read takes nothing from the wire, and at most one
 * chunk is held.
 *
 * What is left when reading is turned on again is read in the loop's next turn, by a message to
 * itself, because nothing may be called from inside io_stream_read(). The same message starts the
 * handshake, posted by the thread that loads the roots. It may be under way when the stream is
 * freed; then the layer waits for it.
 *
 * A server's connection is nothing but this small struct until its first byte has come: whoever
 * connects and says nothing costs no more than without TLS.
 */
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

enum tls_state {
    TLS_LOADING, /* the context */
    TLS_SILENT,  /* a server: the client has said nothing yet */
    TLS_HANDSHAKE,
    TLS_OPEN,
    TLS_FAILED,
};

enum {
    /* Answers that the peer makes us give (KeyUpdate, RFC 8446 section 4.6.3; refused
     * renegotiation) while it takes nothing from us. */
    UNASKED_MAX = 16 * 1024,
    NAME_MAX_SIZE = 256,
};

struct tls_stream {
    struct tls_waiter waiter;
    bool is_posted;           /* the waiter's message is under way, or waits for the context */
    struct io_stream *stream; /* NULL: gone; the message's delivery frees the layer */
    struct io_tls *tls;
    enum tls_state state;
    char *name; /* owned: of the server that is to be proved; NULL: this is the server */
    io_tls_ready_fn *ready;
    void *context;
    SSL *ssl;
    struct tls_wire wire;
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
    list_remove(&layer->wire.link);
    stream_read_wire(layer->stream, false);
    layer->stream->has_ended = true;
    layer->stream->is_broken = true;
    layer->ready(layer->context, error);
}

/* --- the handshake --- */

static const char *broke_off(const struct tls_stream *layer) {
    return layer->name != NULL ? "the server closed the connection during the TLS handshake"
                               : "the client closed the connection during the TLS handshake";
}

/* One step, with what has come. 1: done; 0: more has to come; else -errno. */
static int step(struct tls_stream *layer, const char **ret_reason) {
    wire_cork(&layer->wire);
    ERR_clear_error();
    int r = SSL_do_handshake(layer->ssl);
    int code = SSL_get_error(layer->ssl, r);
    int error = 0;
    if (r != 1 && code != SSL_ERROR_WANT_READ)
        error = tls_reason(layer->ssl, ret_reason);
    int sent = wire_uncork(&layer->wire); /* also the alert that tells the peer why */
    if (error == 0 && sent != 0) {
        error = sent;
        *ret_reason = "the connection broke during the TLS handshake";
    }
    if (error == 0 && r != 1 && layer->wire_ended) {
        error = layer->wire_error != 0 ? layer->wire_error : -ECONNRESET;
        *ret_reason = broke_off(layer);
    }
    return error != 0 ? error : r == 1;
}

static void handshake(struct tls_stream *layer) {
    const char *reason = NULL;
    bool is_turn = wire_begin_turn(&layer->wire);
    int result = is_turn ? step(layer, &reason) : 0;
    if (is_turn)
        wire_end_turn(&layer->wire);
    if (wire_keep_rest(&layer->wire) != 0) {
        result = -ENOMEM;
        reason = "out of memory";
    }
    if (result < 0) {
        fail(layer, result, reason);
    } else if (result == 1) {
        layer->state = TLS_OPEN;
        stream_read_wire(layer->stream, false);
        layer->ready(layer->context, 0);
    } else if (!layer->wire_ended) {
        stream_read_wire(layer->stream, is_turn);
    }
}

static void on_turn(struct tls_wire *wire) {
    handshake(CONTAINER_OF(wire, struct tls_stream, wire));
}

/*
 * SNI is for names only (RFC 6066 section 3), and is sent also where the name in the certificate
 * does not count: the server chooses by it. An address is compared as one.
 */
static bool set_name(struct tls_stream *layer) {
    unsigned char address[sizeof(struct in6_addr)];
    X509_VERIFY_PARAM *param = SSL_get0_param(layer->ssl);
    bool is_proved = !layer->tls->accepts_any_name;
    if (inet_pton(AF_INET, layer->name, address) == 1)
        return !is_proved || X509_VERIFY_PARAM_set1_ip(param, address, sizeof(struct in_addr)) == 1;
    if (inet_pton(AF_INET6, layer->name, address) == 1)
        return !is_proved ||
               X509_VERIFY_PARAM_set1_ip(param, address, sizeof(struct in6_addr)) == 1;
    return (!is_proved ||
            X509_VERIFY_PARAM_set1_host(param, layer->name, strlen(layer->name)) == 1) &&
           SSL_set_tlsext_host_name(layer->ssl, layer->name) == 1;
}

static bool set_up(struct tls_stream *layer, SSL_CTX *context) {
    struct tls_loop *shared = tls_loop_get(layer->stream->loop);
    if (shared == NULL)
        return false;
    layer->wire.shared = shared;
    layer->ssl = SSL_new(context);
    BIO *bio = layer->ssl != NULL ? wire_bio(&layer->wire) : NULL;
    if (bio == NULL)
        return false;
    SSL_set_bio(layer->ssl, bio, bio);
    if (layer->name == NULL) {
        SSL_set_accept_state(layer->ssl);
        return true;
    }
    SSL_set_connect_state(layer->ssl);
    return set_name(layer);
}

static void begin_handshake(struct tls_stream *layer) {
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

static void destroy(struct tls_stream *layer);

/* No record of TLS begins with a letter (RFC 8446 section 5.1), every method of HTTP does. */
static bool is_letter(char c) {
    return c >= 'A' && c <= 'Z';
}

/* The stream is a plain one from now on. */
static void give_back(struct tls_stream *layer) {
    io_tls_ready_fn *ready = layer->ready;
    void *context = layer->context;
    layer->stream->tls = NULL;
    stream_read_wire(layer->stream, false);
    destroy(layer);
    ready(context, -EPROTONOSUPPORT);
}

/* A server gets the first bytes of its client, or the end without any. */
static void begin_server(struct tls_stream *layer) {
    struct slice held = buf_slice(&layer->wire.held),
                 first = held.len != 0 ? held : layer->wire.input;
    if (first.len == 0)
        fail(layer, layer->wire_error != 0 ? layer->wire_error : -ENODATA,
             "the client closed the connection before the TLS handshake");
    else if (is_letter(first.ptr[0]))
        give_back(layer);
    else
        begin_handshake(layer);
}

/* The context is loaded. */
static void begin(struct tls_stream *layer) {
    if (layer->name != NULL) {
        begin_handshake(layer);
        return;
    }
    layer->state = TLS_SILENT;
    if (wire_has_input(&layer->wire))
        begin_server(layer);
    else
        stream_read_wire(layer->stream, true);
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
    size_t pending = wire_corked(&layer->wire);
    if (pending != 0)
        layer->unasked = io_stream_queued(layer->stream) != 0 ? layer->unasked + pending : pending;
    if (layer->unasked > UNASKED_MAX) {
        wire_forget(&layer->wire);
        note_end(layer, -EPROTO, "the peer asks for new keys without end");
        return;
    }
    int error = wire_uncork(&layer->wire);
    if (error != 0)
        note_end(layer, error, NULL);
}

/* There is something that on_read or on_end could be called for at once. */
static bool has_more(const struct tls_stream *layer) {
    return layer->has_end || layer->wire_ended || wire_has_input(&layer->wire) ||
           SSL_pending(layer->ssl) != 0;
}

static void post(struct tls_stream *layer) {
    if (!layer->is_posted) {
        layer->is_posted = true;
        io_loop_post(layer->waiter.loop, &layer->waiter.message);
    }
}

static size_t fill(struct tls_stream *layer) {
    char *plain = layer->wire.shared->plain;
    size_t got = 0;
    wire_cork(&layer->wire);
    while (got < TLS_PLAIN) {
        size_t n = 0;
        ERR_clear_error();
        int r = SSL_read_ex(layer->ssl, plain + got, TLS_PLAIN - got, &n);
        if (r != 1) {
            note_stop(layer, SSL_get_error(layer->ssl, r));
            break;
        }
        got += n;
        /* Asking once more would only say that there is nothing. */
        if (!has_more(layer))
            break;
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
            break;
        }
        stream->events.on_read(stream->context, slice_make(layer->wire.shared->plain, got));
        if (!has_more(layer))
            break;
    }
    if (wire_keep_rest(&layer->wire) != 0) {
        note_end(layer, -ENOMEM, "out of memory");
        post(layer);
    }
}

void tls_stream_input(struct tls_stream *layer, const char *bytes, ssize_t n) {
    if (n < 0) {
        layer->wire_ended = true;
        layer->wire_error = n == UV_EOF ? 0 : (int)n;
    } else {
        layer->wire.input = slice_make(bytes, (size_t)n);
    }
    if (layer->state == TLS_SILENT)
        begin_server(layer);
    else if (layer->state == TLS_HANDSHAKE)
        handshake(layer);
    else if (layer->state == TLS_OPEN)
        pump(layer);
}

void tls_stream_read(struct tls_stream *layer, bool on) {
    if (layer->state != TLS_OPEN)
        return;
    layer->wants_read = on;
    stream_read_wire(layer->stream, on && !layer->has_end && !layer->wire_ended);
    if (on && has_more(layer))
        post(layer);
}

bool tls_stream_is_open(const struct tls_stream *layer) {
    return layer->state == TLS_OPEN;
}

bool tls_stream_has_input(const struct tls_stream *layer) {
    return wire_has_input(&layer->wire) || (layer->ssl != NULL && SSL_pending(layer->ssl) != 0);
}

const SSL *tls_stream_ssl(const struct tls_stream *layer) {
    return layer->state == TLS_OPEN ? layer->ssl : NULL;
}

bool tls_stream_break(struct tls_stream *layer, int error) {
    if (layer->state != TLS_HANDSHAKE && layer->state != TLS_SILENT)
        return false;
    fail(layer, error, "the connection broke during the TLS handshake");
    return true;
}

/* --- writing --- */

static bool encrypt(struct tls_stream *layer, struct slice bytes) {
    size_t written = 0;
    ERR_clear_error();
    return SSL_write_ex(layer->ssl, bytes.ptr, bytes.len, &written) == 1;
}

/* What stands in shared->record, and is not a whole record yet, gets what the piece has for it. */
static struct slice fill_record(struct tls_loop *shared, size_t *len, struct slice piece) {
    size_t n = TLS_RECORD - *len < piece.len ? TLS_RECORD - *len : piece.len;
    memcpy(shared->record + *len, piece.ptr, n);
    *len += n;
    return slice_from(piece, n);
}

/*
 * Records are filled across the borders of pieces: each record costs the peer and us as much as 1
 * KiB does. What is whole records by itself is encrypted where it lies.
 */
static bool encrypt_pieces(struct tls_stream *layer, const struct slice *pieces, size_t n_pieces) {
    struct tls_loop *shared = layer->wire.shared;
    size_t len = 0; /* of shared->record */
    for (size_t i = 0; i < n_pieces; i++) {
        struct slice piece = pieces[i];
        while (piece.len != 0) {
            if (len == 0 && piece.len >= TLS_RECORD) {
                struct slice whole = slice_make(piece.ptr, piece.len - piece.len % TLS_RECORD);
                if (!encrypt(layer, whole))
                    return false;
                piece = slice_from(piece, whole.len);
                continue;
            }
            piece = fill_record(shared, &len, piece);
            if (len == TLS_RECORD) {
                if (!encrypt(layer, slice_make(shared->record, len)))
                    return false;
                len = 0;
            }
        }
    }
    return len == 0 || encrypt(layer, slice_make(shared->record, len));
}

int tls_stream_write(struct tls_stream *layer, const struct slice *pieces, size_t n_pieces) {
    if (layer->state != TLS_OPEN)
        return -ENOTCONN;
    if (layer->is_shut)
        return -EPIPE;
    struct tls_wire *wire = &layer->wire;
    size_t len = 0, only = 0;
    for (size_t i = 0; i < n_pieces; i++) {
        len += pieces[i].len;
        only = pieces[i].len == len ? i : only;
    }
    if (len == 0)
        return 0;
    uint64_t n_before = layer->stream->n_accepted;
    bool is_fine;
    int error = 0;
    if (pieces[only].len == len && len <= TLS_RECORD) {
        is_fine = encrypt(layer, pieces[only]);
    } else if (len <= TLS_RECORD) {
        is_fine = encrypt_pieces(layer, pieces, n_pieces);
    } else {
        wire_cork(wire);
        is_fine = encrypt_pieces(layer, pieces, n_pieces);
        error = wire_uncork(wire);
    }
    if (LIKELY(is_fine && error == 0))
        return 0;
    ERR_clear_error();
    layer->stream->is_broken = true;
    if (layer->stream->n_accepted > n_before)
        return -EIO;
    return wire->error != 0 ? wire->error : -EPIPE;
}

void tls_stream_shutdown(struct tls_stream *layer) {
    if (layer->state != TLS_OPEN || layer->is_shut)
        return;
    layer->is_shut = true;
    ERR_clear_error();
    (void)SSL_shutdown(layer->ssl);
    ERR_clear_error();
    if (layer->wire.error != 0)
        layer->stream->is_broken = true;
}

/* --- life --- */

static void destroy(struct tls_stream *layer) {
    SSL_free(layer->ssl); /* and its BIO */
    wire_deinit(&layer->wire);
    io_tls_unref(layer->tls);
    mem_free(layer->name);
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
static int copy_name(struct slice name, char **ret_name) {
    unsigned char address[sizeof(struct in6_addr)];
    char cstr[NAME_MAX_SIZE];
    if (slice_to_cstr(name, cstr, sizeof cstr) != 0)
        return -EINVAL;
    if (inet_pton(AF_INET, cstr, address) != 1 && inet_pton(AF_INET6, cstr, address) != 1) {
        if (!lookup_is_name(name))
            return -EINVAL;
        if (cstr[name.len - 1] == '.')
            cstr[name.len - 1] = '\0';
    }
    *ret_name = mem_xstrdup(cstr);
    return 0;
}

static int check_stream(const struct io_stream *stream) {
    if (stream->is_broken || stream->has_ended || stream->is_closed)
        return -EPIPE;
    return stream->tls != NULL ? -EALREADY : 0;
}

static void start(struct tls_stream *layer, struct io_stream *stream, struct io_tls *tls) {
    stream_read_wire(stream, false);
    layer->stream = stream;
    layer->tls = io_tls_ref(tls);
    layer->reason = "";
    layer->waiter.message.deliver = on_message;
    layer->waiter.loop = stream->loop;
    layer->is_posted = true;
    stream->tls = layer;
    tls_wait(tls, &layer->waiter);
}

int io_stream_start_tls(struct io_stream *stream, struct io_tls *tls, struct slice name,
                        io_tls_ready_fn *ready, void *context) {
    char *copy = NULL;
    int error = check_stream(stream);
    if (error == 0)
        error = copy_name(name, &copy);
    if (error != 0)
        return error;
    struct tls_stream *layer = mem_xalloc(sizeof *layer);
    layer->name = copy;
    layer->ready = ready;
    layer->context = context;
    wire_init(&layer->wire, stream, on_turn);
    start(layer, stream, tls);
    return 0;
}

int io_stream_accept_tls(struct io_stream *stream, struct io_tls *tls, struct slice early,
                         io_tls_ready_fn *ready, void *context) {
    int error = check_stream(stream);
    if (error != 0)
        return error;
    struct tls_stream *layer = mem_alloc(sizeof *layer);
    if (layer == NULL)
        return -ENOMEM;
    layer->ready = ready;
    layer->context = context;
    wire_init(&layer->wire, stream, on_turn);
    if (early.len != 0)
        error = buf_append(&layer->wire.held, early);
    if (error != 0) {
        wire_deinit(&layer->wire);
        mem_free(layer);
        return error;
    }
    start(layer, stream, tls);
    return 0;
}

const char *io_stream_tls_reason(const struct io_stream *stream) {
    return stream->tls != NULL ? stream->tls->reason : "";
}

void tls_stream_stop(struct tls_stream *layer) {
    list_remove(&layer->wire.link); /* its turn will not come */
    if (layer->is_posted && tls_wait_cancel(layer->tls, &layer->waiter))
        layer->is_posted = false;
}

void tls_stream_free(struct tls_stream *layer) {
    if (layer->is_posted)
        layer->stream = NULL;
    else
        destroy(layer);
}
