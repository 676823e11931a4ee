/*
 * Between OpenSSL and a stream: a BIO that copies nothing that it need not. What has come is read
 * by OpenSSL where it lies, in the loop's read_chunk; only what it does not take before the
 * callback ends is held. What OpenSSL writes goes to the kernel from OpenSSL's own buffer; only
 * where more than one record is on its way (a wire is corked then) they are collected, because a
 * system call for each record costs more than the copy. An idle connection has no buffer at all.
 *
 * Nothing of this blocks, and what the kernel does not take is queued by the stream, whose limits
 * hold.
 *
 * Handshakes are what TLS costs: a private key is used, which takes from some tenths of a
 * millisecond (P-256) to several (RSA). A crowd that connects at once must not stop those who are
 * connected. So they get TURN_NS of each turn of the loop, and those that come later wait in a
 * queue, unread.
 */
#include <errno.h>
#include <openssl/bio.h>
#include <string.h>
#include <uv.h>

#include "base/mem.h"
#include "base/secret.h"
#include "loop_private.h"
#include "stream_private.h"
#include "tls_private.h"

enum { TURN_NS = 1000000 };

/* --- the BIO --- */

static size_t take_held(struct tls_wire *wire, char *out, size_t n) {
    size_t len = buf_len(&wire->held);
    n = n < len ? n : len;
    memcpy(out, buf_slice(&wire->held).ptr, n);
    buf_consume(&wire->held, n);
    if (n == len)
        buf_reset(&wire->held, 0);
    return n;
}

static int bio_read(BIO *bio, char *out, size_t n, size_t *ret_n) {
    struct tls_wire *wire = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (UNLIKELY(buf_len(&wire->held) != 0)) {
        *ret_n = take_held(wire, out, n);
        return 1;
    }
    n = n < wire->input.len ? n : wire->input.len;
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(out, wire->input.ptr, n);
    wire->input = slice_from(wire->input, n);
    *ret_n = n;
    return 1;
}

static int flush(struct tls_wire *wire) {
    struct tls_loop *shared = wire->shared;
    struct slice piece = slice_make(shared->out, shared->n_out);
    shared->n_out = 0;
    if (piece.len != 0 && wire->error == 0)
        wire->error = stream_send(wire->stream, &piece, 1);
    return wire->error;
}

static int bio_write(BIO *bio, const char *bytes, size_t n, size_t *ret_n) {
    struct tls_wire *wire = BIO_get_data(bio);
    struct tls_loop *shared = wire->shared;
    struct slice piece = slice_make(bytes, n);
    BIO_clear_retry_flags(bio);
    if (wire->is_corked && n > sizeof shared->out - shared->n_out && flush(wire) != 0)
        return 0;
    if (wire->is_corked && n <= sizeof shared->out) {
        memcpy(shared->out + shared->n_out, bytes, n);
        shared->n_out += n;
    } else {
        if (wire->error == 0)
            wire->error = stream_send(wire->stream, &piece, 1);
        if (wire->error != 0)
            return 0;
    }
    *ret_n = n;
    return 1;
}

static long bio_ctrl(BIO *bio, int command, long n, void *arg) {
    (void)bio, (void)n, (void)arg;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *new_method(void) {
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "wire");
    if (method != NULL && (BIO_meth_set_read_ex(method, bio_read) != 1 ||
                           BIO_meth_set_write_ex(method, bio_write) != 1 ||
                           BIO_meth_set_ctrl(method, bio_ctrl) != 1)) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}

BIO *wire_bio(struct tls_wire *wire) {
    BIO *bio = BIO_new(wire->shared->method);
    if (bio == NULL)
        return NULL;
    BIO_set_data(bio, wire);
    BIO_set_init(bio, 1);
    return bio;
}

/* --- what a loop has --- */

static void on_turn(struct io_message *message) {
    struct tls_loop *shared = CONTAINER_OF(message, struct tls_loop, message);
    struct list_link *link;
    shared->is_posted = false;
    shared->used_ns = 0;
    while (shared->used_ns < TURN_NS && (link = list_pop_front(&shared->waiting)) != NULL) {
        struct tls_wire *wire = CONTAINER_OF(link, struct tls_wire, link);
        wire->turn(wire);
    }
    if (!list_is_empty(&shared->waiting) && !shared->is_posted) {
        shared->is_posted = true;
        io_loop_post(shared->loop, message);
    }
}

struct tls_loop *tls_loop_get(struct io_loop *loop) {
    if (loop->tls == NULL) {
        struct tls_loop *shared = mem_alloc(sizeof *shared);
        if (shared == NULL)
            return NULL;
        shared->method = new_method();
        if (shared->method == NULL) {
            mem_free(shared);
            return NULL;
        }
        shared->loop = loop;
        shared->message.deliver = on_turn;
        list_init(&shared->waiting);
        loop->tls = shared;
    }
    return loop->tls;
}

void tls_loop_free(struct tls_loop *shared) {
    if (shared == NULL)
        return;
    BIO_meth_free(shared->method);
    secret_wipe(shared, sizeof *shared); /* what travelled last */
    mem_free(shared);
}

/* --- the wire --- */

void wire_init(struct tls_wire *wire, struct io_stream *stream,
               void (*turn)(struct tls_wire *wire)) {
    wire->stream = stream;
    wire->turn = turn;
    buf_init_held(&wire->held, SIZE_MAX, stream->loop->budget);
}

void wire_deinit(struct tls_wire *wire) {
    list_remove(&wire->link);
    buf_deinit(&wire->held);
}

int wire_keep_rest(struct tls_wire *wire) {
    struct slice rest = wire->input;
    wire->input = SLICE_EMPTY;
    return rest.len != 0 ? buf_append(&wire->held, rest) : 0;
}

int wire_uncork(struct tls_wire *wire) {
    wire->is_corked = false;
    return flush(wire);
}

void wire_forget(struct tls_wire *wire) {
    wire->is_corked = false;
    wire->shared->n_out = 0;
}

/* --- turns --- */

bool wire_begin_turn(struct tls_wire *wire) {
    struct tls_loop *shared = wire->shared;
    if (!shared->is_posted) {
        shared->is_posted = true;
        io_loop_post(shared->loop, &shared->message);
    }
    if (shared->used_ns >= TURN_NS) {
        list_push_back(&shared->waiting, &wire->link);
        return false;
    }
    shared->began_ns = uv_hrtime();
    return true;
}

void wire_end_turn(struct tls_wire *wire) {
    struct tls_loop *shared = wire->shared;
    shared->used_ns += uv_hrtime() - shared->began_ns;
}
