/*
 * Both ends of a TLS connection: the server is a thread with a blocking socket, whose behaviour is
 * a function; the client is a stream on a loop.
 */
#pragma once

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

#include "base/buf.h"
#include "base/limits.h"
#include "io/stream.h"
#include "io/tls.h"
#include "loop_guard.h"
#include "tcp_pair.h"
#include "tls_certs.h"

/* --- the server --- */

struct peer;
typedef void peer_fn(struct peer *peer);

struct peer {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    peer_fn *run;
    pthread_t thread;
    sem_t gate; /* what some behaviours wait for */
    BIO_METHOD *drip;
    bool drips; /* the server's bytes go out one by one, and come in so */
    /* What the thread found; to be read after peer_stop(). */
    bool shook, has_sni;
    char sni[256], alpn[32];
    int result;    /* of the last call */
    int ssl_error; /* its SSL_get_error() */
    size_t sent;
    size_t count;  /* bytes, or rounds */
    bool is_wrong; /* the bytes were not those of the pattern */
};

/* Bytes that tell their place. */
static char pattern_at(size_t i) {
    return (char)(i * 31 + i / 251);
}

MAYBE_UNUSED static void pattern_fill(char *out, size_t from, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = pattern_at(from + i);
}

static bool pattern_is(const char *bytes, size_t from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != pattern_at(from + i))
            return false;
    }
    return true;
}

static int peer_on_name(SSL *ssl, int *alert, void *arg) {
    struct peer *peer = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    peer->has_sni = name != NULL;
    if (name != NULL)
        snprintf(peer->sni, sizeof peer->sni, "%s", name);
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    return name != NULL && strcmp(name, "stranger.test") == 0 ? SSL_TLSEXT_ERR_ALERT_FATAL
                                                              : SSL_TLSEXT_ERR_OK;
}

static int peer_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                        const unsigned char *in, unsigned in_len, void *arg) {
    struct peer *peer = arg;
    (void)ssl;
    snprintf(peer->alpn, sizeof peer->alpn, "%.*s", (int)in[0], (const char *)in + 1);
    *out = in + 1;
    *out_len = in[0];
    return in_len == (unsigned)in[0] + 1 ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int drip_write(BIO *bio, const char *bytes, int n) {
    struct peer *peer = BIO_get_data(bio);
    for (int i = 0; i < n; i++) {
        if (write(peer->fd, bytes + i, 1) != 1)
            return -1;
    }
    return n;
}

static int drip_read(BIO *bio, char *bytes, int n) {
    struct peer *peer = BIO_get_data(bio);
    return n > 0 ? (int)read(peer->fd, bytes, 1) : 0;
}

static long drip_ctrl(BIO *bio, int command, long n, void *arg) {
    (void)bio, (void)n, (void)arg;
    return command == BIO_CTRL_FLUSH;
}

static void peer_set_bio(struct peer *peer) {
    if (!peer->drips) {
        SSL_set_fd(peer->ssl, peer->fd);
        return;
    }
    int on = 1;
    setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    peer->drip = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "drip");
    BIO_meth_set_write(peer->drip, drip_write);
    BIO_meth_set_read(peer->drip, drip_read);
    BIO_meth_set_ctrl(peer->drip, drip_ctrl);
    BIO *bio = BIO_new(peer->drip);
    BIO_set_data(bio, peer);
    BIO_set_init(bio, 1);
    SSL_set_bio(peer->ssl, bio, bio);
}

static void *peer_main(void *arg) {
    struct peer *peer = arg;
    peer->run(peer);
    if (peer->fd >= 0)
        shutdown(peer->fd, SHUT_WR);
    ERR_clear_error();
    return NULL;
}

/* Prepares; the test may change ctx before peer_start(). */
static void peer_init(struct peer *peer, const struct cert *cert, peer_fn *run) {
    *peer = (struct peer){.fd = -1, .run = run, .ctx = SSL_CTX_new(TLS_server_method())};
    sem_init(&peer->gate, 0, 0);
    SSL_CTX_set_security_level(peer->ctx, 0);
    if (cert != NULL && (SSL_CTX_use_certificate(peer->ctx, cert->x509) != 1 ||
                         SSL_CTX_use_PrivateKey(peer->ctx, cert->key) != 1))
        CANNOT_GO_ON();
    SSL_CTX_set_tlsext_servername_callback(peer->ctx, peer_on_name);
    SSL_CTX_set_tlsext_servername_arg(peer->ctx, peer);
    SSL_CTX_set_alpn_select_cb(peer->ctx, peer_on_alpn, peer);
}

static void peer_start(struct peer *peer, int fd) {
    struct timeval limit = {.tv_sec = 20};
    peer->fd = fd;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    peer->ssl = SSL_new(peer->ctx);
    peer_set_bio(peer);
    if (pthread_create(&peer->thread, NULL, peer_main, peer) != 0)
        CANNOT_GO_ON();
}

static void peer_stop(struct peer *peer) {
    pthread_join(peer->thread, NULL);
    SSL_free(peer->ssl);
    SSL_CTX_free(peer->ctx);
    BIO_meth_free(peer->drip);
    sem_destroy(&peer->gate);
    io_fd_close(&peer->fd);
}

/* Behaviours, and what they are made of. */

static bool peer_shake(struct peer *peer) {
    peer->result = SSL_accept(peer->ssl);
    peer->ssl_error = SSL_get_error(peer->ssl, peer->result);
    peer->shook = peer->result == 1;
    return peer->shook;
}

/* Reads until the end, and notes how it came. */
static void peer_drain(struct peer *peer) {
    char bytes[4096];
    while ((peer->result = SSL_read(peer->ssl, bytes, sizeof bytes)) > 0) {
        peer->is_wrong |= !pattern_is(bytes, peer->count, (size_t)peer->result);
        peer->count += (size_t)peer->result;
    }
    peer->ssl_error = SSL_get_error(peer->ssl, peer->result);
}

MAYBE_UNUSED static void peer_shakes_and_drains(struct peer *peer) {
    if (peer_shake(peer))
        peer_drain(peer);
}

/* --- the client --- */

struct client {
    struct guarded guarded;
    struct io_loop *loop;
    struct io_tls *tls;
    struct io_stream *stream;
    unsigned readies, reads, ends, drains;
    int ready_error, end_error;
    const char *reason;
    struct buf got;
    bool is_paused, reads_when_ready, frees_when_ready, frees_at_read, frees_at_end;
    bool stops_when_ready, stops_at_end, stops_at_drain;
    size_t stop_after;               /* bytes */
    int send_buffer, receive_buffer; /* 0: as the system has it */
    void (*on_ready)(struct client *client);
    void (*on_bytes)(struct client *client);
    void (*on_room)(struct client *client);
    void *more; /* the test's */
};

static void client_on_read(void *context, struct slice bytes) {
    struct client *client = context;
    CHECK_INT(client->readies, 1);
    CHECK_INT(client->ends, 0);
    CHECK(!client->is_paused);
    CHECK(bytes.len > 0);
    client->reads++;
    CHECK_INT(buf_append(&client->got, bytes), 0);
    if (client->frees_at_read)
        client->stream = io_stream_free(client->stream);
    if (client->on_bytes != NULL)
        client->on_bytes(client);
    if (client->stop_after != 0 && buf_len(&client->got) >= client->stop_after)
        io_loop_stop(client->loop);
}

static void client_on_end(void *context, int error) {
    struct client *client = context;
    CHECK(!client->is_paused);
    client->ends++;
    client->end_error = error;
    client->reason = io_stream_tls_reason(client->stream);
    if (client->frees_at_end)
        client->stream = io_stream_free(client->stream);
    if (client->stops_at_end)
        io_loop_stop(client->loop);
}

static void client_on_drain(void *context) {
    struct client *client = context;
    CHECK_INT(client->readies, 1);
    CHECK_INT(io_stream_queued(client->stream), 0);
    client->drains++;
    if (client->on_room != NULL)
        client->on_room(client);
    if (client->stops_at_drain)
        io_loop_stop(client->loop);
}

static void client_on_ready(void *context, int error) {
    struct client *client = context;
    client->readies++;
    client->ready_error = error;
    client->reason = io_stream_tls_reason(client->stream);
    if (client->frees_when_ready)
        client->stream = io_stream_free(client->stream);
    else if (client->reads_when_ready && error == 0)
        io_stream_read(client->stream, true);
    if (client->on_ready != NULL && error == 0)
        client->on_ready(client);
    if (client->stops_when_ready || error != 0)
        io_loop_stop(client->loop);
}

/* A loop and a context; `ca_file` holds the roots. */
static void client_open(struct client *client, const char *ca_file) {
    struct io_tls_client_options options = {.ca_file = ca_file};
    *client = (struct client){.got = BUF_INIT(MIB(64)), .send_buffer = 64 * 1024};
    client->loop = guarded_new(&client->guarded);
    if (io_tls_client_new(&options, &client->tls) != 0)
        CANNOT_GO_ON();
}

/* Connects to the server, starts it, and TLS. */
static void client_start(struct client *client, struct peer *peer, struct slice name) {
    static const struct io_stream_events events = {
        .on_read = client_on_read, .on_end = client_on_end, .on_drain = client_on_drain};
    int fds[2], small = client->receive_buffer;
    if (!tcp_pair(fds, client->send_buffer) ||
        io_stream_new(client->loop, IO_STREAM_TCP, fds[0], &events, client, &client->stream) != 0)
        CANNOT_GO_ON();
    if (small != 0) {
        setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    }
    CHECK_INT(io_stream_start_tls(client->stream, client->tls, name, client_on_ready, client), 0);
    CHECK_INT(client->readies, 0);
    peer_start(peer, fds[1]);
}

static void client_close(struct client *client) {
    client->stream = io_stream_free(client->stream);
    client->tls = io_tls_unref(client->tls);
    buf_deinit(&client->got);
    guarded_free(&client->guarded);
}

static void client_stop(void *context) {
    struct client *client = context;
    io_loop_stop(client->loop);
}

/* Turns the loop until nothing more can be under way on this side. */
MAYBE_UNUSED static void client_settle(struct client *client) {
    struct later later = {.loop = client->loop, .n = 50, .fn = client_stop, .context = client};
    later_start(&later);
    do {
        guarded_run(&client->guarded);
    } while (list_is_linked(&later.message.link));
}
