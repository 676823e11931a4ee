/*
 * Everything here waits with poll(2), for the peer or for the sink's stop, whichever comes first.
 *
 * Syslog over TCP has no answers: that a record has left says nothing. What can be known is what
 * the other side's TCP has acknowledged (SIOCOUTQ): what has not been is sent again over the next
 * connection.
 */
#include "syslog_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"
#include "syslog_lookup.h"

enum { LOOKUP_MS = 10000, CONNECT_MS = 10000, WRITE_MS = 30000, ADDRESSES = 16, LOOK_MS = 20 };

/* --- the target --- */

bool syslog_peer_parse(struct slice url, struct syslog_peer *ret_peer) {
    static const struct {
        struct slice scheme;
        enum syslog_transport transport;
    } rows[] = {{SLICE_INIT("udp://"), SYSLOG_UDP},
                {SLICE_INIT("tcp://"), SYSLOG_TCP},
                {SLICE_INIT("tls://"), SYSLOG_TLS}};
    struct syslog_peer peer = {.fd = -1};
    size_t i = 0;
    while (i < ARRAY_LEN(rows) && !slice_starts_with_nocase(url, rows[i].scheme))
        i++;
    if (i == ARRAY_LEN(rows))
        return false;
    peer.transport = rows[i].transport;
    struct slice rest = slice_from(url, rows[i].scheme.len), host, port;
    if (slice_ends_with(rest, SLICE("/")))
        rest.len--;
    if (slice_starts_with(rest, SLICE("["))) {
        if (!slice_cut(slice_from(rest, 1), ']', &host, &port) ||
            !slice_starts_with(port, SLICE(":")))
            return false;
        port = slice_from(port, 1);
    } else if (!slice_cut(rest, ':', &host, &port)) {
        return false;
    }
    uint64_t number = 0;
    if (host.len == 0 || slice_to_u64(port, &number) != 0 || number == 0 || number > UINT16_MAX ||
        slice_to_cstr(host, peer.host, sizeof peer.host) != 0 ||
        slice_to_cstr(port, peer.port, sizeof peer.port) != 0)
        return false;
    *ret_peer = peer;
    return true;
}

/* --- connecting --- */

static int finish_connect(struct audit_sink *sink, int fd, uint64_t until_ms) {
    int error = 0;
    socklen_t len = sizeof error;
    if (sink_poll(sink, fd, POLLOUT, until_ms, false) == 0)
        return -ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        return -errno;
    return -error;
}

static int connect_to(struct audit_sink *sink, const struct addrinfo *address, uint64_t until_ms,
                      int *ret_fd) {
    CLEANUP(io_fd_close)
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    address->ai_protocol);
    if (fd < 0)
        return -errno;
    if (connect(fd, address->ai_addr, address->ai_addrlen) != 0) {
        int error = errno == EINPROGRESS ? finish_connect(sink, fd, until_ms) : -errno;
        if (error != 0)
            return error;
    }
    if (address->ai_socktype == SOCK_STREAM) {
        int on = 1;
        unsigned most_ms = WRITE_MS; /* without an acknowledgement: else it takes a quarter hour */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &most_ms, sizeof most_ms);
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static int connect_any(struct audit_sink *sink, struct syslog_peer *peer) {
    struct addrinfo *found = NULL;
    int type = peer->transport == SYSLOG_UDP ? SOCK_DGRAM : SOCK_STREAM;
    int error =
        syslog_lookup(sink, peer->host, peer->port, type, clock_monotonic_ms() + LOOKUP_MS, &found);
    if (error != 0)
        return error;
    error = -ENOENT;
    int n = 0;
    for (const struct addrinfo *at = found; at != NULL && error != 0 && n < ADDRESSES;
         at = at->ai_next, n++)
        error = connect_to(sink, at, clock_monotonic_ms() + CONNECT_MS, &peer->fd);
    freeaddrinfo(found);
    if (error != 0)
        sink_tell(sink, "cannot connect to %.60s port %s: %s", peer->host, peer->port,
                  strerror(-error));
    peer->n_sent = 0;
    return error;
}

/* --- TLS --- */

static int tell_openssl(struct audit_sink *sink, const char *what, const struct syslog_peer *peer) {
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    long verified = peer->ssl != NULL ? SSL_get_verify_result(peer->ssl) : X509_V_OK;
    if (verified != X509_V_OK)
        reason = X509_verify_cert_error_string(verified);
    sink_tell(sink, "%s (%.60s port %s): %s", what, peer->host, peer->port,
              reason != NULL ? reason : "the server ended the connection");
    ERR_clear_error();
    return -EPROTO;
}

/* RFC 5425 section 4.2, RFC 9662: TLS 1.2 at least, with forward secrecy. Names as RFC 9525 has it:
 * in the subject alternative names alone, a star as a whole label only. */
static int make_context(struct audit_sink *sink, struct syslog_peer *peer) {
    if (peer->context != NULL)
        return 0;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL)
        return tell_openssl(sink, "no TLS", peer);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    X509_VERIFY_PARAM_set_hostflags(SSL_CTX_get0_param(context),
                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                        X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    bool is_set =
        SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
        SSL_CTX_set_cipher_list(
            context, "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!PSK") == 1 &&
        X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN) == 1;
    bool has_roots = peer->ca_bundle != NULL
                         ? SSL_CTX_load_verify_file(context, peer->ca_bundle) == 1
                         : SSL_CTX_set_default_verify_paths(context) == 1;
    if (!is_set || !has_roots) {
        SSL_CTX_free(context);
        if (peer->ca_bundle == NULL)
            return tell_openssl(sink, "no roots", peer);
        sink_tell(sink, "audit.syslog.ca_bundle %.80s cannot be read as certificates",
                  peer->ca_bundle);
        ERR_clear_error();
        return -ENOKEY;
    }
    peer->context = context;
    return 0;
}

static bool name_peer(struct syslog_peer *peer) {
    unsigned char address[sizeof(struct in6_addr)];
    X509_VERIFY_PARAM *param = SSL_get0_param(peer->ssl);
    if (inet_pton(AF_INET, peer->host, address) == 1 ||
        inet_pton(AF_INET6, peer->host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(param, peer->host) == 1;
    return X509_VERIFY_PARAM_set1_host(param, peer->host, 0) == 1 &&
           SSL_set_tlsext_host_name(peer->ssl, peer->host) == 1;
}

/* 0: try again; -errno. `n` is what the SSL function answered. */
static int wait_for_tls(struct audit_sink *sink, struct syslog_peer *peer, int n, uint64_t until_ms,
                        const char *what) {
    short events = 0;
    switch (SSL_get_error(peer->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        events = POLLIN;
        break;
    case SSL_ERROR_WANT_WRITE:
        events = POLLOUT;
        break;
    default:
        return tell_openssl(sink, what, peer);
    }
    if (sink_poll(sink, peer->fd, events, until_ms, false) == 1)
        return 0;
    sink_tell(sink, "%s (%.60s port %s): no answer in time", what, peer->host, peer->port);
    return -ETIMEDOUT;
}

static int start_tls(struct audit_sink *sink, struct syslog_peer *peer) {
    int error = make_context(sink, peer);
    if (error != 0)
        return error;
    peer->ssl = SSL_new(peer->context);
    if (peer->ssl == NULL || SSL_set_fd(peer->ssl, peer->fd) != 1 || !name_peer(peer))
        return tell_openssl(sink, "no TLS", peer);
    uint64_t until = clock_monotonic_ms() + CONNECT_MS;
    for (;;) {
        ERR_clear_error();
        int n = SSL_connect(peer->ssl);
        if (n == 1)
            return 0;
        error = wait_for_tls(sink, peer, n, until, "no TLS connection");
        if (error != 0)
            return error;
    }
}

/* --- */

int syslog_peer_open(struct audit_sink *sink, struct syslog_peer *peer) {
    if (peer->fd >= 0)
        return 0;
    int error = connect_any(sink, peer);
    if (error == 0 && peer->transport == SYSLOG_TLS)
        error = start_tls(sink, peer);
    if (error != 0) {
        syslog_peer_close(peer);
        SSL_CTX_free(peer->context); /* other roots may be there the next time */
        peer->context = NULL;
    }
    return error;
}

static int write_tls(struct audit_sink *sink, struct syslog_peer *peer, struct slice bytes) {
    uint64_t until = clock_monotonic_ms() + WRITE_MS;
    size_t n_written = 0;
    for (;;) {
        ERR_clear_error();
        int n = SSL_write_ex(peer->ssl, bytes.ptr, bytes.len, &n_written);
        if (n == 1)
            break;
        int error = wait_for_tls(sink, peer, n, until, "the connection broke");
        if (error != 0)
            return error;
    }
    peer->n_sent = BIO_number_written(SSL_get_wbio(peer->ssl));
    return 0;
}

static int tell_write(struct audit_sink *sink, const struct syslog_peer *peer, int error) {
    sink_tell(sink, "cannot send to %.60s port %s: %s", peer->host, peer->port, strerror(-error));
    return error;
}

int syslog_peer_write(struct audit_sink *sink, struct syslog_peer *peer, struct slice bytes) {
    if (peer->ssl != NULL)
        return write_tls(sink, peer, bytes);
    uint64_t until = clock_monotonic_ms() + WRITE_MS;
    while (bytes.len != 0) {
        ssize_t n = send(peer->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
            if (sink_poll(sink, peer->fd, POLLOUT, until, false) == 0)
                return tell_write(sink, peer, -ETIMEDOUT);
            continue;
        }
        if (n < 0)
            return tell_write(sink, peer, -errno);
        if (peer->transport == SYSLOG_UDP)
            return 0;
        peer->n_sent += (uint64_t)n;
        bytes = slice_from(bytes, (size_t)n);
    }
    return 0;
}

static enum syslog_connection look_tls(struct syslog_peer *peer) {
    char thrown_away[512];
    for (;;) {
        ERR_clear_error();
        errno = 0;
        int n = SSL_read(peer->ssl, thrown_away, sizeof thrown_away);
        if (n > 0)
            continue;
        int error = SSL_get_error(peer->ssl, n);
        ERR_clear_error();
        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
            return SYSLOG_OPEN;
        return error == SSL_ERROR_SYSCALL && errno != 0 ? SYSLOG_RESET : SYSLOG_ENDED;
    }
}

enum syslog_connection syslog_peer_look(struct syslog_peer *peer) {
    char thrown_away[512];
    if (peer->fd < 0)
        return SYSLOG_ENDED;
    if (peer->transport == SYSLOG_UDP)
        return SYSLOG_OPEN;
    if (peer->ssl != NULL)
        return look_tls(peer);
    for (;;) {
        ssize_t n = recv(peer->fd, thrown_away, sizeof thrown_away, MSG_DONTWAIT);
        if (n > 0 || (n < 0 && errno == EINTR))
            continue;
        if (n == 0)
            return SYSLOG_ENDED;
        return errno == EAGAIN ? SYSLOG_OPEN : SYSLOG_RESET;
    }
}

uint64_t syslog_peer_acknowledged(const struct syslog_peer *peer) {
    int queued = 0;
    if (ioctl(peer->fd, SIOCOUTQ, &queued) != 0 || queued < 0 || (uint64_t)queued > peer->n_sent)
        return 0;
    return peer->n_sent - (uint64_t)queued;
}

/* What a server says does not hold this up, and there is no event for "acknowledged": another look
 * every now and then. */
void syslog_peer_finish(struct audit_sink *sink, struct syslog_peer *peer) {
    if (peer->fd < 0 || peer->transport == SYSLOG_UDP)
        return;
    uint64_t deadline = atomic_load(&sink->deadline);
    while (syslog_peer_acknowledged(peer) < peer->n_sent && clock_monotonic_ms() < deadline &&
           syslog_peer_look(peer) == SYSLOG_OPEN)
        sink_poll(sink, -1, 0, clock_monotonic_ms() + LOOK_MS, false);
}

void syslog_peer_close(struct syslog_peer *peer) {
    if (peer->ssl != NULL) {
        ERR_clear_error();
        (void)SSL_shutdown(peer->ssl); /* RFC 5425 section 4.4: close_notify, without waiting */
        ERR_clear_error();
        SSL_free(peer->ssl);
        peer->ssl = NULL;
    }
    io_fd_close(&peer->fd);
    peer->n_sent = 0;
}

void syslog_peer_deinit(struct syslog_peer *peer) {
    syslog_peer_close(peer);
    SSL_CTX_free(peer->context);
    mem_free(peer->ca_bundle);
    peer->context = NULL;
    peer->ca_bundle = NULL;
}
