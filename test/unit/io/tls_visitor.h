/*
 * Both ends of a TLS connection that comes: the client is a thread with a blocking socket, whose
 * behaviour is a function; the server is a stream on a loop. (tls_peer.h is the other way round.)
 */
#pragma once

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>

#include "base/buf.h"
#include "base/limits.h"
#include "io/stream.h"
#include "io/tls.h"
#include "loop_guard.h"
#include "tcp_pair.h"
#include "tls_certs.h"

/* --- texts --- */

/* The certificates, one behind the other, and the key of the first. */
static void cert_pem(struct buf *out, const struct cert *const *certs, size_t n) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    for (size_t i = 0; i < n; i++) {
        if (PEM_write_bio_X509(bio, certs[i]->x509) != 1)
            CANNOT_GO_ON();
    }
    long len = BIO_get_mem_data(bio, &text);
    CHECK_INT(buf_append(out, slice_make(text, (size_t)len)), 0);
    BIO_free(bio);
}

static void key_pem(struct buf *out, EVP_PKEY *key, const char *passphrase) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    if (PEM_write_bio_PrivateKey(bio, key, passphrase != NULL ? EVP_aes_128_cbc() : NULL,
                                 (const unsigned char *)passphrase,
                                 passphrase != NULL ? (int)strlen(passphrase) : 0, NULL, NULL) != 1)
        CANNOT_GO_ON();
    long len = BIO_get_mem_data(bio, &text);
    CHECK_INT(buf_append(out, slice_make(text, (size_t)len)), 0);
    BIO_free(bio);
}

/* --- the client --- */

struct visitor;
typedef void visitor_fn(struct visitor *visitor);

struct visitor {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    visitor_fn *run;
    pthread_t thread;
    /* What the thread found; to be read after visitor_stop(). */
    bool shook, is_wrong;
    int version, ssl_error, reason; /* reason: of the first error of OpenSSL */
    char cipher[64], group[32], alpn[32];
    size_t count;   /* bytes */
    size_t records; /* that came after the handshake */
    char said[4096];
};

static char pattern_at(size_t i) {
    return (char)(i * 31 + i / 251);
}

MAYBE_UNUSED static void pattern_fill(char *out, size_t from, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = pattern_at(from + i);
}

MAYBE_UNUSED static bool pattern_is(const char *bytes, size_t from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != pattern_at(from + i))
            return false;
    }
    return true;
}

static void visitor_on_record(int is_out, int version, int type, const void *bytes, size_t len,
                              SSL *ssl, void *arg) {
    struct visitor *visitor = arg;
    (void)version, (void)len, (void)ssl;
    if (is_out == 0 && type == SSL3_RT_HEADER &&
        *(const unsigned char *)bytes == SSL3_RT_APPLICATION_DATA && visitor->shook)
        visitor->records++;
}

static bool visitor_shake(struct visitor *visitor) {
    int r = SSL_connect(visitor->ssl);
    visitor->shook = r == 1;
    visitor->ssl_error = SSL_get_error(visitor->ssl, r);
    visitor->reason = ERR_GET_REASON(ERR_peek_error());
    if (!visitor->shook)
        return false;
    const unsigned char *alpn = NULL;
    unsigned alpn_len = 0;
    int group = (int)SSL_get_negotiated_group(visitor->ssl);
    SSL_get0_alpn_selected(visitor->ssl, &alpn, &alpn_len);
    visitor->version = SSL_version(visitor->ssl);
    snprintf(visitor->cipher, sizeof visitor->cipher, "%s", SSL_get_cipher(visitor->ssl));
    snprintf(visitor->group, sizeof visitor->group, "%s",
             group == NID_X9_62_prime256v1 ? "P-256"
             : group == NID_secp384r1      ? "P-384"
             : group == NID_X25519         ? "X25519"
                                           : "other");
    snprintf(visitor->alpn, sizeof visitor->alpn, "%.*s", (int)alpn_len, (const char *)alpn);
    return true;
}

/* Reads until the end, and notes how it came. */
static void visitor_drain(struct visitor *visitor) {
    char bytes[4096];
    int r;
    while ((r = SSL_read(visitor->ssl, bytes, sizeof bytes)) > 0) {
        visitor->is_wrong |= !pattern_is(bytes, visitor->count, (size_t)r);
        visitor->count += (size_t)r;
    }
    visitor->ssl_error = SSL_get_error(visitor->ssl, r);
    visitor->reason = ERR_GET_REASON(ERR_peek_error());
}

MAYBE_UNUSED static void visitor_shakes_and_drains(struct visitor *visitor) {
    if (visitor_shake(visitor))
        visitor_drain(visitor);
}

static void *visitor_main(void *arg) {
    struct visitor *visitor = arg;
    visitor->run(visitor);
    if (visitor->fd >= 0)
        shutdown(visitor->fd, SHUT_WR);
    ERR_clear_error();
    return NULL;
}

/* Prepares; the test may change ctx before visitor_start(). */
static void visitor_init(struct visitor *visitor, visitor_fn *run) {
    *visitor = (struct visitor){.fd = -1, .run = run, .ctx = SSL_CTX_new(TLS_client_method())};
    SSL_CTX_set_security_level(visitor->ctx, 0);
    SSL_CTX_set_min_proto_version(visitor->ctx, TLS1_VERSION);
    SSL_CTX_set_mode(visitor->ctx, SSL_MODE_AUTO_RETRY);
}

static void visitor_start(struct visitor *visitor, int fd) {
    struct timeval limit = {.tv_sec = 20};
    visitor->fd = fd;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    visitor->ssl = SSL_new(visitor->ctx);
    SSL_set_fd(visitor->ssl, fd);
    SSL_set_msg_callback(visitor->ssl, visitor_on_record);
    SSL_set_msg_callback_arg(visitor->ssl, visitor);
    if (pthread_create(&visitor->thread, NULL, visitor_main, visitor) != 0)
        CANNOT_GO_ON();
}

static void visitor_stop(struct visitor *visitor) {
    pthread_join(visitor->thread, NULL);
    SSL_free(visitor->ssl);
    SSL_CTX_free(visitor->ctx);
    io_fd_close(&visitor->fd);
}

/* --- the server --- */

struct house {
    struct guarded guarded;
    struct io_loop *loop;
    struct io_tls *tls;
    struct io_stream *stream;
    unsigned readies, reads, ends, drains;
    int ready_error, end_error;
    const char *reason;
    struct buf got;
    bool frees_when_ready, stops_when_ready, reads_when_ready, stops_at_end, stops_at_read;
    int send_buffer;
    struct slice early;
    void (*on_ready)(struct house *house);
    void (*on_bytes)(struct house *house, struct slice bytes);
    void (*on_room)(struct house *house);
    void *more; /* the test's */
};

static void house_on_read(void *context, struct slice bytes) {
    struct house *house = context;
    house->reads++;
    CHECK_INT(house->readies, 1);
    CHECK(bytes.len > 0);
    CHECK_INT(buf_append(&house->got, bytes), 0);
    if (house->on_bytes != NULL)
        house->on_bytes(house, bytes);
    if (house->stops_at_read)
        io_loop_stop(house->loop);
}

static void house_on_end(void *context, int error) {
    struct house *house = context;
    house->ends++;
    house->end_error = error;
    house->reason = io_stream_tls_reason(house->stream);
    if (house->stops_at_end)
        io_loop_stop(house->loop);
}

static void house_on_drain(void *context) {
    struct house *house = context;
    house->drains++;
    if (house->on_room != NULL)
        house->on_room(house);
}

static void house_on_ready(void *context, int error) {
    struct house *house = context;
    house->readies++;
    house->ready_error = error;
    house->reason = io_stream_tls_reason(house->stream);
    if (house->frees_when_ready)
        house->stream = io_stream_free(house->stream);
    else if (house->reads_when_ready && (error == 0 || error == -EPROTONOSUPPORT))
        io_stream_read(house->stream, true);
    if (house->on_ready != NULL)
        house->on_ready(house);
    if (house->stops_when_ready)
        io_loop_stop(house->loop);
}

static struct io_tls *server_tls(const struct cert *cert, const struct cert *client_ca,
                                 bool is_required) {
    struct buf chain = BUF_INIT(KIB(64)), key = BUF_INIT(KIB(64)), ca = BUF_INIT(KIB(64));
    struct io_tls *tls = NULL;
    const char *reason = "";
    cert_pem(&chain, &cert, 1);
    key_pem(&key, cert->key, NULL);
    if (client_ca != NULL)
        cert_pem(&ca, &client_ca, 1);
    struct io_tls_server_options options = {.chain = buf_slice(&chain),
                                            .key = buf_slice(&key),
                                            .client_ca = buf_slice(&ca),
                                            .require_certificate = is_required};
    if (io_tls_server_new(&options, &tls, &reason) != 0) {
        fprintf(stderr, "%s\n", reason);
        CANNOT_GO_ON();
    }
    buf_deinit(&chain);
    buf_deinit(&key);
    buf_deinit(&ca);
    return tls;
}

static void house_open(struct house *house, struct io_tls *tls) {
    *house = (struct house){.got = BUF_INIT(MIB(64)), .stops_when_ready = true, .tls = tls};
    house->loop = guarded_new(&house->guarded);
}

/* Returns the client's end, with TLS begun on the other one. */
static int house_connect(struct house *house) {
    static const struct io_stream_events events = {
        .on_read = house_on_read, .on_end = house_on_end, .on_drain = house_on_drain};
    int fds[2];
    if (!tcp_pair(fds, house->send_buffer != 0 ? house->send_buffer : 64 * 1024) ||
        io_stream_new(house->loop, IO_STREAM_TCP, fds[0], &events, house, &house->stream) != 0)
        CANNOT_GO_ON();
    CHECK_INT(io_stream_accept_tls(house->stream, house->tls, house->early, house_on_ready, house),
              0);
    CHECK_INT(house->readies, 0);
    return fds[1];
}

static void house_close(struct house *house) {
    house->stream = io_stream_free(house->stream);
    buf_deinit(&house->got);
    guarded_free(&house->guarded);
}

static void house_stop(void *context) {
    struct house *house = context;
    io_loop_stop(house->loop);
}

/* Turns the loop until nothing more can be under way on this side. */
MAYBE_UNUSED static void house_settle(struct house *house) {
    struct later later = {.loop = house->loop, .n = 50, .fn = house_stop, .context = house};
    later_start(&later);
    do {
        guarded_run(&house->guarded);
    } while (list_is_linked(&later.message.link));
}
