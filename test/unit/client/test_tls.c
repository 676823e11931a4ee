/* https from end to end, directly and through a proxy, and what may go wrong before the first byte
 * of a request leaves. */
#include <signal.h>

#include "exchange.h"
#include "tls_layer.h"

#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

static const struct reply hello = {SLICE_INIT(HELLO), REPLY_HOLD};
static const struct reply tunnel = {SLICE_INIT("HTTP/1.1 200 OK\r\n\r\n"), REPLY_HOLD};

struct secure_world {
    struct world world;
    struct authority authority;
    struct io_tls *tls;
    struct client_target *target;
};

/* `host` is 127.0.0.1 or, through the server as its own proxy, any other. */
static void secure_open(struct secure_world *secure, const struct reply *replies, size_t n,
                        const char *host) {
    char url[160], proxy[96] = "none";
    struct world *world = &secure->world;
    world_open(world, replies, n);
    authority_make(&secure->authority);
    world->server.layer = &tls_layer;
    world->server.layer_context = tls_server_new(&secure->authority);
    struct io_tls_client_options options = {.ca_file = secure->authority.path};
    if (io_tls_client_new(&options, &secure->tls) != 0)
        CANNOT_GO_ON();
    world_use_tls(world, secure->tls);
    snprintf(url, sizeof url, "https://%s/p", world->server.address.text);
    if (host != NULL) {
        world->server.is_proxy = true;
        snprintf(url, sizeof url, "https://%s/p", host);
        snprintf(proxy, sizeof proxy, "http://%s", world->server.address.text);
    }
    secure->target = target_new(url, proxy);
}

static void secure_close(struct secure_world *secure) {
    SSL_CTX *context = secure->world.server.layer_context;
    world_close(&secure->world);
    client_target_free(secure->target);
    io_tls_unref(secure->tls);
    authority_drop(&secure->authority);
    SSL_CTX_free(context);
}

static void test_requests(void) {
    struct secure_world secure;
    struct world *world = &secure.world;
    char expect[256];
    secure_open(&secure, &hello, 1, NULL);
    struct client_request request = request_to(secure.target);
    check_exchange(world, &request, "200 x .");
    check_exchange(world, &request, "200 x .");
    CHECK_INT(world->server.n_accepted, 1);
    CHECK_INT(client_count_connections(world->client), 1);
    snprintf(expect, sizeof expect,
             "GET /p HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: identity\r\n\r\n",
             world->server.address.text);
    size_t len = strlen(expect);
    CHECK_STR(slice_sub(buf_slice(&world->server.got), 0, len), expect);
    CHECK_STR(slice_from(buf_slice(&world->server.got), len), expect);
    secure_close(&secure);
}

static void test_large(void) {
    enum { BODY = 3 * 1024 * 1024, HEAD = 64 };
    char *body = mem_xalloc(BODY + HEAD);
    int head = snprintf(body, HEAD, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BODY);
    memset(body + head, 'b', BODY);
    struct reply reply = {slice_make(body, (size_t)head + BODY), REPLY_HOLD};
    struct secure_world secure;
    struct exchange exchange;
    secure_open(&secure, &reply, 1, NULL);
    struct client_request request = request_to(secure.target);
    request.method = HTTP_METHOD_POST;
    request.body = slice_make(body + head, BODY);
    exchange_init(&exchange, &secure.world);
    exchange_run(&exchange, &request);
    CHECK_INT(exchange.n_body, BODY);
    CHECK(slice_ends_with(buf_slice(&secure.world.server.got), request.body));
    CHECK_INT(client_count_connections(secure.world.client), 1);
    buf_deinit(&exchange.trace);
    secure_close(&secure);
    mem_free(body);
}

struct row {
    const char *name;
    struct reply reply;
    const char *expect;
    bool is_kept;
};

#define MIDST "! reset, may have arrived: it closed the connection in the midst of the answer"

static void test_answers(void) {
    static const struct row rows[] = {
        {"length", {SLICE_INIT(HELLO), REPLY_HOLD}, "200 x .", true},
        {"until close", {SLICE_INIT("HTTP/1.1 200 OK\r\n\r\nx"), REPLY_CLOSE}, "200 x .", false},
        /* RFC 8446 section 6.1: an end that TLS does not tell of may be anybody's. */
        {"until the wire ends",
         {SLICE_INIT("HTTP/1.1 200 OK\r\n\r\nx"), REPLY_CUT},
         "200 x" MIDST,
         false},
        {"whole before the wire ends", {SLICE_INIT(HELLO), REPLY_CUT}, "200 x .", false},
        {"cut off",
         {SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx"), REPLY_CLOSE},
         "200 x" MIDST,
         false},
        {"bytes behind", {SLICE_INIT(HELLO "HTTP/1.1"), REPLY_HOLD}, "200 x .", false},
        {"no HTTP",
         {SLICE_INIT("\x16\x03"), REPLY_HOLD},
         "! protocol, may have arrived: the start line does not begin with a word",
         false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t piece = 0; piece < 2; piece++) {
            struct secure_world secure;
            test_row(rows[i].name);
            secure_open(&secure, &rows[i].reply, 1, NULL);
            secure.world.server.piece = piece;
            struct client_request request = request_to(secure.target);
            check_exchange(&secure.world, &request, rows[i].expect);
            world_settle(&secure.world);
            CHECK_INT(client_count_connections(secure.world.client), rows[i].is_kept);
            secure_close(&secure);
        }
    }
}

static void test_through_proxy(void) {
    const struct reply replies[] = {tunnel, hello};
    for (size_t piece = 0; piece < 2; piece++) {
        struct secure_world secure;
        secure_open(&secure, replies, ARRAY_LEN(replies), "server.test");
        secure.world.server.piece = piece;
        struct client_request request = request_to(secure.target);
        check_exchange(&secure.world, &request, "200 x .");
        check_exchange(&secure.world, &request, "200 x .");
        CHECK_INT(secure.world.server.n_accepted, 1);
        CHECK_STR(buf_slice(&secure.world.server.got),
                  "CONNECT server.test:443 HTTP/1.1\r\nHost: server.test:443\r\n\r\n"
                  "GET /p HTTP/1.1\r\nHost: server.test\r\nAccept-Encoding: identity\r\n\r\n"
                  "GET /p HTTP/1.1\r\nHost: server.test\r\nAccept-Encoding: identity\r\n\r\n");
        secure_close(&secure);
    }
}

/* A failure of kind `tls` without "may have arrived", and not a byte of the request out. */
static void check_tls_failure(struct secure_world *secure, uint64_t timeout_ms) {
    struct exchange exchange;
    struct client_request request = request_to(secure->target);
    request.connect_timeout_ms = timeout_ms;
    exchange_init(&exchange, &secure->world);
    exchange_run(&exchange, &request);
    CHECK(slice_starts_with(exchange_trace(&exchange), SLICE("! tls: ")));
    CHECK(exchange_trace(&exchange).len > 10);
    CHECK(slice_find(buf_slice(&secure->world.server.got), SLICE("GET")) == SIZE_MAX);
    CHECK_INT(client_count_connections(secure->world.client), 0);
    buf_deinit(&exchange.trace);
}

static void test_wrong_name(void) {
    struct secure_world secure;
    secure_open(&secure, &tunnel, 1, "other.test");
    check_tls_failure(&secure, 15000);
    secure_close(&secure);
}

static void test_unknown_authority(void) {
    struct secure_world secure;
    struct authority other;
    secure_open(&secure, &hello, 1, NULL);
    authority_make(&other);
    SSL_CTX_free(secure.world.server.layer_context);
    secure.world.server.layer_context = tls_server_new(&other);
    check_tls_failure(&secure, 15000);
    authority_drop(&other);
    secure_close(&secure);
}

/* A plain server, which takes the client's hello for a malformed request and closes; one that says
 * nothing at all. */
static void *no_layer(struct server_peer *peer) {
    return peer;
}

static void close_at_read(struct server_peer *peer, struct slice bytes) {
    (void)bytes;
    server_close(peer, REPLY_CUT);
}

static void ignore_read(struct server_peer *peer, struct slice bytes) {
    (void)peer;
    (void)bytes;
}

static void answer_in_the_clear(struct server_peer *peer, struct slice bytes) {
    (void)bytes;
    CHECK_INT(io_stream_write(peer->stream, SLICE("HTTP/1.1 400 Bad\r\n\r\n"), KIB(1)), 0);
}

static void close_layer(struct server_peer *peer, bool says_so) {
    (void)says_so;
    peer->layer = NULL;
}

static void test_no_tls(void) {
    static const struct {
        struct server_layer layer;
        uint64_t timeout_ms;
    } rows[] = {
        {{.open = no_layer, .read = close_at_read, .close = close_layer}, 15000},
        {{.open = no_layer, .read = answer_in_the_clear, .close = close_layer}, 15000},
        {{.open = no_layer, .read = ignore_read, .close = close_layer}, 200},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct secure_world secure;
        secure_open(&secure, &hello, 1, NULL);
        secure.world.server.layer = &rows[i].layer;
        check_tls_failure(&secure, rows[i].timeout_ms);
        secure_close(&secure);
    }
}

/* At many turns of the loop: while the roots are read, in the handshake, in the answer, idle. */
static void test_give_up(void) {
    for (unsigned turns = 0; turns < 40; turns++) {
        for (int frees = 0; frees < 2; frees++) {
            struct secure_world secure;
            struct world *world = &secure.world;
            struct exchange exchange;
            secure_open(&secure, &hello, 1, NULL);
            world->server.piece = 7;
            struct client_request request = request_to(secure.target);
            exchange_init(&exchange, world);
            exchange_start(&exchange, &request);
            exchange.stops_at_end = false;
            world->later = (struct later){
                .loop = world->guarded.loop, .n = turns, .fn = world_stop, .context = world};
            later_start(&world->later);
            guarded_run(&world->guarded);
            size_t len = buf_len(&exchange.trace);
            if (frees)
                world->client = client_free(world->client);
            else
                client_cancel(exchange.call);
            world_settle(world);
            CHECK_INT(buf_len(&exchange.trace), len);
            buf_deinit(&exchange.trace);
            secure_close(&secure);
        }
    }
}

/* --- what may have arrived is not sent again --- */

static void reset_now(void *context) {
    struct server_peer *peer = context;
    peer->is_sending = false;
    server_close(peer, REPLY_RESET);
}

/* In place of the reply "again": asks for another handshake, and resets when the refusal of that
 * could be on its way. */
static void write_or_ask_again(struct server_peer *peer, struct slice bytes) {
    if (!slice_eq(bytes, SLICE("again"))) {
        tls_layer_write(peer, bytes);
        return;
    }
    CHECK_INT(SSL_renegotiate(peer->layer), 1);
    CHECK_INT(SSL_do_handshake(peer->layer), 1);
    tls_layer_flush(peer);
    peer->later = (struct later){
        .loop = peer->server->guarded->loop, .n = 0, .fn = reset_now, .context = peer};
    peer->is_sending = true;
    later_start(&peer->later);
}

/* The request left turns ago: what the kernel does not take is an alert of TLS. */
static void test_reset_at_an_alert(void) {
    static const struct reply replies[] = {{SLICE_INIT(HELLO), REPLY_HOLD},
                                           {SLICE_INIT("again"), REPLY_HOLD},
                                           {SLICE_INIT(HELLO), REPLY_HOLD}};
    struct secure_world secure;
    struct server_layer layer = tls_layer;
    layer.write = write_or_ask_again;
    secure_open(&secure, replies, ARRAY_LEN(replies), NULL);
    secure.world.server.layer = &layer;
    CHECK_INT(SSL_CTX_set_max_proto_version(secure.world.server.layer_context, TLS1_2_VERSION), 1);
    struct client_request request = request_to(secure.target);
    request.method = HTTP_METHOD_POST;
    check_exchange(&secure.world, &request, "200 x .");
    check_exchange(&secure.world, &request,
                   "! reset, may have arrived: it closed the connection before it answered");
    CHECK_INT(secure.world.server.n_requests, 2);
    CHECK_INT(secure.world.server.n_accepted, 1);
    secure_close(&secure);
}

/* Four records leave at once, the rest waits for the end of the turn, and the server is gone. */
static void test_gone_in_the_midst(void) {
    enum { BODY = 72 * 1024 };
    char *body = mem_xalloc(BODY);
    struct secure_world secure;
    struct exchange exchange;
    secure_open(&secure, &hello, 1, NULL);
    struct client_request request = request_to(secure.target);
    request.method = HTTP_METHOD_POST;
    check_exchange(&secure.world, &request, "200 x .");
    server_drop(&secure.world.server, REPLY_CLOSE);
    request.body = slice_make(body, BODY);
    exchange_init(&exchange, &secure.world);
    exchange_run(&exchange, &request);
    CHECK(slice_starts_with(exchange_trace(&exchange), SLICE("! reset, may have arrived: ")));
    CHECK_INT(secure.world.server.n_accepted, 1);
    buf_deinit(&exchange.trace);
    secure_close(&secure);
    mem_free(body);
}

static void prepare(void) {
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR); /* as main() does */
}

TEST_MAIN(TEST(prepare), TEST(test_requests), TEST(test_large), TEST(test_answers),
          TEST(test_through_proxy), TEST(test_wrong_name), TEST(test_unknown_authority),
          TEST(test_no_tls), TEST(test_give_up), TEST(test_reset_at_an_alert),
          TEST(test_gone_in_the_midst))
