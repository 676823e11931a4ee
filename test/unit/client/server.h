/*
 * A server on the loop of the test, which does as its script says: to the n-th request that comes
 * whole, whichever connection it comes on, it gives the n-th reply; the last one is repeated.
 */
#pragma once

#include <sys/socket.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/list.h"
#include "http/message.h"
#include "io/file.h"
#include "io/stream.h"
#include "loop_guard.h"
#include "test.h"

/* REPLY_CUT: closes the socket without the end that its layer would send. */
enum reply_then { REPLY_HOLD, REPLY_CLOSE, REPLY_RESET, REPLY_CUT };

struct reply {
    struct slice bytes;
    enum reply_then then;
};

struct server_peer;

/* What lies between the server and its sockets: TLS (tls_layer.h). */
struct server_layer {
    void *(*open)(struct server_peer *peer);
    void (*read)(struct server_peer *peer, struct slice bytes); /* hands on by server_input() */
    void (*write)(struct server_peer *peer, struct slice bytes);
    void (*close)(struct server_peer *peer, bool says_so);
};

struct server {
    struct guarded *guarded;
    const struct server_layer *layer; /* or NULL */
    void *layer_context;
    bool is_proxy; /* the first reply on each connection is written before the layer begins */
    struct io_listener *listener;
    struct io_address address;
    const struct reply *replies;
    size_t n_replies;
    size_t piece;   /* bytes that are sent in one turn of the loop; 0: all */
    bool at_head;   /* replies as soon as the head is there, and reads no more */
    struct buf got; /* all that came, in the order in which it came */
    struct list peers;
    size_t n_accepted, n_requests, n_open;
    size_t stop_at_open; /* stops the loop when so many connections are open... */
    bool stops_at_open;
    size_t stop_at_requests; /* ... or so many requests came */
};

struct server_peer {
    struct list_link link;
    struct server *server;
    int fd; /* of the stream, for tricks */
    struct io_stream *stream;
    struct http_parser *parser;
    void *layer;       /* of the server's layer, once it has begun */
    struct slice rest; /* of the reply */
    enum reply_then then;
    size_t n_replies;
    struct later later;
    bool is_sending, is_gone, is_deaf;
};

static void server_check_open(struct server *server) {
    if (server->stops_at_open && server->n_open == server->stop_at_open)
        io_loop_stop(server->guarded->loop);
}

static void server_release(struct server_peer *peer) {
    if (!peer->is_sending)
        mem_free(peer);
}

static void server_close(struct server_peer *peer, enum reply_then how) {
    struct linger linger = {.l_onoff = 1};
    if (how == REPLY_RESET)
        setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (peer->layer != NULL)
        peer->server->layer->close(peer, how == REPLY_CLOSE);
    list_remove(&peer->link);
    peer->server->n_open--;
    peer->is_gone = true;
    io_stream_free(peer->stream);
    http_parser_free(peer->parser);
    server_check_open(peer->server);
    server_release(peer);
}

static void server_begin_layer(struct server_peer *peer) {
    if (peer->server->layer != NULL)
        peer->layer = peer->server->layer->open(peer);
}

static void server_write(struct server_peer *peer, struct slice bytes) {
    if (peer->layer != NULL)
        peer->server->layer->write(peer, bytes);
    else
        CHECK_INT(io_stream_write(peer->stream, bytes, MIB(64)), 0);
}

static void server_send(void *context);

static void server_send_later(struct server_peer *peer) {
    peer->later = (struct later){
        .loop = peer->server->guarded->loop, .n = 2, .fn = server_send, .context = peer};
    peer->is_sending = true;
    later_start(&peer->later);
}

/* The end comes some turns behind the last byte: a reset that comes with data is told from an
 * orderly end by nobody. */
static void server_send(void *context) {
    struct server_peer *peer = context;
    peer->is_sending = false;
    if (peer->is_gone) {
        server_release(peer);
        return;
    }
    size_t piece = peer->server->piece;
    if (peer->rest.len == 0) {
        if (peer->then != REPLY_HOLD && io_stream_queued(peer->stream) == 0)
            server_close(peer, peer->then);
        return;
    }
    if (piece == 0 || piece > peer->rest.len)
        piece = peer->rest.len;
    server_write(peer, slice_sub(peer->rest, 0, piece));
    peer->rest = slice_from(peer->rest, piece);
    if (peer->rest.len == 0 && peer->server->is_proxy && peer->n_replies == 1)
        server_begin_layer(peer);
    if (peer->rest.len != 0 || peer->then != REPLY_HOLD)
        server_send_later(peer);
}

static void server_reply(struct server_peer *peer) {
    struct server *server = peer->server;
    size_t n = server->n_requests++;
    peer->n_replies++;
    const struct reply *reply = &server->replies[n < server->n_replies ? n : server->n_replies - 1];
    if (server->stop_at_requests != 0 && server->n_requests == server->stop_at_requests)
        io_loop_stop(server->guarded->loop);
    peer->rest = reply->bytes;
    peer->then = reply->then;
    server_send_later(peer);
}

static void server_input(struct server_peer *peer, struct slice bytes) {
    CHECK_INT(buf_append(&peer->server->got, bytes), 0);
    while (!peer->is_deaf) {
        size_t consumed = 0;
        enum http_event event = HTTP_NEED_MORE;
        struct slice data;
        CHECK_INT(http_parser_feed(peer->parser, bytes, &consumed, &event, &data), 0);
        bytes = slice_from(bytes, consumed);
        CHECK(event != HTTP_REFUSED);
        if (event == HTTP_HEAD && peer->server->at_head) {
            peer->is_deaf = true;
            io_stream_read(peer->stream, false);
            server_reply(peer);
        } else if (event == HTTP_END) {
            http_parser_next(peer->parser);
            server_reply(peer);
            CHECK_INT(bytes.len, 0);
            return;
        } else if (event == HTTP_NEED_MORE || event == HTTP_REFUSED) {
            return;
        }
    }
}

static void server_on_read(void *context, struct slice bytes) {
    struct server_peer *peer = context;
    if (peer->layer != NULL)
        peer->server->layer->read(peer, bytes);
    else
        server_input(peer, bytes);
}

static void server_on_end(void *context, int error) {
    struct server_peer *peer = context;
    (void)error;
    server_close(peer, REPLY_CUT);
}

static void server_on_drain(void *context) {
    struct server_peer *peer = context;
    if (!peer->is_sending && peer->rest.len == 0 && peer->then != REPLY_HOLD)
        server_close(peer, peer->then);
}

static void server_on_accept(void *context, int fd, const struct network *address) {
    (void)address;
    static const struct io_stream_events events = {
        .on_read = server_on_read, .on_end = server_on_end, .on_drain = server_on_drain};
    static const struct http_limits limits = {.max_body = MIB(64)};
    struct server *server = context;
    struct server_peer *peer = mem_xalloc(sizeof *peer);
    peer->server = server;
    peer->fd = fd;
    if (io_stream_new(server->guarded->loop, IO_STREAM_TCP, fd, &events, peer, &peer->stream) !=
            0 ||
        http_parser_new(HTTP_REQUESTS, &limits, &peer->parser) != 0)
        CANNOT_GO_ON();
    list_push_back(&server->peers, &peer->link);
    server->n_accepted++;
    server->n_open++;
    if (!server->is_proxy)
        server_begin_layer(peer);
    io_stream_read(peer->stream, true);
    server_check_open(server);
}

static void server_stop_listening(struct server *server) {
    server->listener = io_listener_free(server->listener);
}

static void server_start_at(struct server *server, struct guarded *guarded, struct slice address,
                            const struct reply *replies, size_t n_replies) {
    int fd;
    *server = (struct server){
        .guarded = guarded, .replies = replies, .n_replies = n_replies, .got = BUF_INIT(MIB(64))};
    list_init(&server->peers);
    if (io_address_parse(address, &server->address) != 0 ||
        io_listen_socket(&server->address, false, &fd) != 0 ||
        io_listener_new(guarded->loop, fd, server_on_accept, server, &server->listener) != 0)
        CANNOT_GO_ON();
}

static void server_start(struct server *server, struct guarded *guarded,
                         const struct reply *replies, size_t n_replies) {
    server_start_at(server, guarded, SLICE("127.0.0.1:0"), replies, n_replies);
}

/* Closes all connections; the listener stays. */
MAYBE_UNUSED static void server_drop(struct server *server, enum reply_then how) {
    LIST_FOREACH_SAFE (&server->peers, link, next) {
        server_close(CONTAINER_OF(link, struct server_peer, link), how);
    }
}

static void server_free(struct server *server) {
    server->stops_at_open = false;
    server_drop(server, REPLY_CLOSE);
    server_stop_listening(server);
    buf_deinit(&server->got);
}
