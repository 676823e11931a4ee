/*
 * What a connection begins with, before HTTP, in this order:
 *
 *     the PROXY header   of trusted proxies, where server.proxy_protocol says so. Nobody else is
 *                        believed to have one: to the others it is garbage where TLS or HTTP has to
 *                        begin. From then on the connection is its source's, who counts for it.
 *     the TLS handshake  where there is a certificate. A client that speaks HTTP in the clear is
 *                        told so, in the clear, and nothing else.
 *
 * Both together have header_timeout. Whoever does not get through is closed without a word: those
 * who would read it do not speak HTTP yet. The log counts them, a line a second at most; why one of
 * them failed is there for those who look (debug), because strangers can make as many as they like.
 */
#include <errno.h>

#include "http/proxy_protocol.h"
#include "io/tls.h"
#include "private.h"

enum { DRAIN_MS = 1000 };

static void close_without_proxy_header(struct gw_connection *connection, const char *reason) {
    char text[NETWORK_TEXT];
    log_write(connection->worker->gateway->log, LOG_DEBUG, "http",
              "closed a connection of a trusted proxy",
              LOG_TEXT("peer", network_write_address(&connection->peer, text)),
              LOG_CSTR("reason", reason));
    gw_door_note_no_proxy_header(connection->worker);
    gw_record_stranger(connection->worker, &connection->peer, "proxy header");
    gw_connection_free(connection);
}

static void close_without_tls(struct gw_connection *connection, const char *reason) {
    char text[NETWORK_TEXT];
    log_write(connection->worker->gateway->log, LOG_DEBUG, "tls", "a TLS handshake failed",
              LOG_TEXT("client", network_write_address(&connection->client, text)),
              LOG_CSTR("reason", reason));
    gw_door_note_no_tls(connection->worker);
    gw_record_stranger(connection->worker, &connection->client, "tls");
    gw_connection_free(connection);
}

/* RFC 9110 has no status for it; 400 is what others say, too. */
static void answer_in_the_clear(struct gw_connection *connection) {
    static const struct slice answer =
        SLICE_INIT("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                   "Content-Length: 49\r\n\r\nThis port speaks HTTPS: use https:// in the URL.\n");
    connection->opening = GW_OPENED; /* what still comes is read and forgotten */
    gw_door_note_no_tls(connection->worker);
    gw_record_stranger(connection->worker, &connection->client, "tls");
    if (gw_connection_write(connection, &answer, 1))
        gw_connection_close(connection);
}

/* Its certificate is who it is for as long as it is connected, so it has to be good by the context
 * that is served now. */
static bool is_trusted_still(const struct gw_connection *connection) {
    const struct gw_worker *worker = connection->worker;
    return connection->tls_number == worker->tls_number ||
           !io_stream_tls_has_certificate(connection->stream) ||
           io_stream_tls_would_be_trusted(connection->stream, worker->tls);
}

void gw_opening_recheck(struct gw_worker *worker) {
    LIST_FOREACH_SAFE (&worker->connections, link, tmp) {
        struct gw_connection *connection = CONTAINER_OF(link, struct gw_connection, link);
        if (connection->opening == GW_OPENED && !is_trusted_still(connection))
            gw_connection_abort(connection);
    }
}

static void open_http(struct gw_connection *connection) {
    connection->opening = GW_OPENED;
    connection->is_head_timed = true; /* the first head's time begins now */
    io_stream_read(connection->stream, true);
}

static void on_tls(void *context, int error) {
    struct gw_connection *connection = context;
    struct gw_worker *worker = connection->worker;
    if (error == -EPROTONOSUPPORT) {
        answer_in_the_clear(connection);
    } else if (error == -ENODATA) {
        gw_connection_free(connection); /* whether somebody is here is asked like that */
    } else if (error != 0) {
        close_without_tls(connection, io_stream_tls_reason(connection->stream));
    } else if (!is_trusted_still(connection)) {
        close_without_tls(connection, "its authority has just been taken away");
    } else {
        uint64_t most_ms = worker->config->limits.header_timeout_ms;
        bool is_short = worker->is_draining && most_ms > DRAIN_MS;
        io_timer_start(connection->timer, is_short ? DRAIN_MS : most_ms);
        open_http(connection);
    }
}

/* `early`: what has come behind the PROXY header. */
static void begin_tls_or_http(struct gw_connection *connection, struct slice early) {
    struct gw_worker *worker = connection->worker;
    if (worker->tls == NULL) {
        open_http(connection);
        if (early.len != 0)
            gw_connection_read(connection, early);
        return;
    }
    connection->opening = GW_OPENING_TLS;
    connection->tls_number = worker->tls_number;
    if (io_stream_accept_tls(connection->stream, worker->tls, early, on_tls, connection) != 0)
        gw_connection_free(connection);
}

/* The connection is the source's from now on. False: that one has too many, and it is closed. */
static bool become(struct gw_connection *connection, const struct network *source) {
    struct peers *peers = &connection->worker->gateway->peers;
    peers_leave(peers, &connection->client);
    connection->client = *source;
    connection->is_from_proxy = true;
    enum peers_verdict verdict =
        peers_enter(peers, source, border_trusts(connection->worker->border, source));
    connection->is_counted = verdict == PEERS_WELCOME;
    if (connection->is_counted)
        return true;
    gw_door_note_refused(connection->worker, verdict);
    gw_connection_free(connection);
    return false;
}

/* The header is small, and comes in one piece nearly always. */
void gw_opening_read(struct gw_connection *connection, struct slice bytes) {
    struct proxy_header header = {.len = 0};
    if (buf_append(&connection->pipelined, bytes) != 0) {
        close_without_proxy_header(connection, "too much came at once");
        return;
    }
    switch (proxy_header_read(buf_slice(&connection->pipelined), &header)) {
    case PROXY_NEED_MORE:
        return;
    case PROXY_REFUSED:
        close_without_proxy_header(connection, header.reason);
        return;
    case PROXY_DONE:
        break;
    }
    if (header.has_source && !become(connection, &header.source))
        return;
    /* Taken out first: what follows may use the buffer for requests. */
    struct buf whole = connection->pipelined;
    buf_init_held(&connection->pipelined, whole.max, whole.budget);
    begin_tls_or_http(connection, slice_from(buf_slice(&whole), header.len));
    buf_deinit(&whole);
}

void gw_opening_late(struct gw_connection *connection) {
    if (connection->opening == GW_OPENING_PROXY)
        close_without_proxy_header(connection,
                                   "it did not come within server.limits.header_timeout");
    else
        close_without_tls(connection, "it did not end within server.limits.header_timeout");
}

void gw_opening_begin(struct gw_connection *connection) {
    const struct gw_worker *worker = connection->worker;
    /* Health checks come from the balancer itself. */
    if (worker->config->proxy_protocol && !connection->is_health_only &&
        !worker->gateway->is_inside && border_trusts(worker->border, &connection->peer)) {
        connection->opening = GW_OPENING_PROXY;
        io_stream_read(connection->stream, true);
        return;
    }
    begin_tls_or_http(connection, SLICE_EMPTY);
}
