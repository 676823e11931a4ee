/* Through a CONNECT proxy: one that does its work, and those that do not. The scripted server is
 * proxy and server in one: what comes behind CONNECT is the request itself. */
#include "exchange.h"

#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

static const struct reply hello = {SLICE_INIT(HELLO), REPLY_HOLD};

struct row {
    const char *name;
    struct reply proxy;
    const char *expect;
    uint64_t timeout_ms; /* 0: long */
};

static struct client_target *through(const struct world *world, const char *url,
                                     const char *userinfo) {
    char proxy[160];
    snprintf(proxy, sizeof proxy, "http://%s%s", userinfo, world->server.address.text);
    return target_new(url, proxy);
}

static void check_row(const struct row *row, size_t piece) {
    struct world world;
    struct reply replies[] = {row->proxy, hello};
    test_row(row->name);
    world_open(&world, replies, ARRAY_LEN(replies));
    world.server.piece = piece;
    struct client_target *target = through(&world, "http://server.test/x", "user:secret@");
    struct client_request request = request_to(target);
    struct exchange exchange;
    exchange_init(&exchange, &world);
    if (row->timeout_ms != 0)
        request.connect_timeout_ms = row->timeout_ms;
    exchange_run(&exchange, &request);
    bool is_through = slice_eq(exchange_trace(&exchange), SLICE("200 x ."));
    CHECK_STR(exchange_trace(&exchange), row->expect);
    CHECK(slice_find(exchange_trace(&exchange), SLICE("secret")) == SIZE_MAX);
    CHECK_INT(world.server.n_requests, is_through ? 2 : 1);
    CHECK_INT(world.server.n_accepted, 1);
    CHECK_INT(client_count_connections(world.client), is_through);
    buf_deinit(&exchange.trace);
    world_close(&world);
    client_target_free(target);
}

#define PROXY_SAID(what) "! proxy: " what

static void test_proxies(void) {
    static const struct row rows[] = {
        {.name = "200",
         .proxy = {SLICE_INIT("HTTP/1.1 200 OK\r\n\r\n"), REPLY_HOLD},
         .expect = "200 x ."},
        {.name = "1.0",
         .proxy = {SLICE_INIT("HTTP/1.0 200 Connection established\r\n\r\n"), REPLY_HOLD},
         .expect = "200 x ."},
        {.name = "299 with fields",
         .proxy = {SLICE_INIT("HTTP/1.1 299 X\r\nVia: p\r\nConnection: close\r\n\r\n"), REPLY_HOLD},
         .expect = "200 x ."},
        /* RFC 9110 section 9.3.6: such fields are to be ignored. */
        {.name = "a length that means nothing",
         .proxy = {SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), REPLY_HOLD},
         .expect = "200 x ."},
        {.name = "a coding that means nothing",
         .proxy = {SLICE_INIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), REPLY_HOLD},
         .expect = "200 x ."},
        {.name = "interim first",
         .proxy = {SLICE_INIT("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), REPLY_HOLD},
         .expect = "200 x ."},
        {.name = "407",
         .proxy = {SLICE_INIT("HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=secret\r\n"
                              "Content-Length: 6\r\n\r\nsecret"),
                   REPLY_HOLD},
         .expect = PROXY_SAID("it wants other credentials (status 407)")},
        {.name = "403",
         .proxy = {SLICE_INIT("HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n"), REPLY_CLOSE},
         .expect = PROXY_SAID("it refused to connect (status 403)")},
        {.name = "502",
         .proxy = {SLICE_INIT("HTTP/1.1 502 X\r\n\r\n<html>"), REPLY_CLOSE},
         .expect = PROXY_SAID("it refused to connect (status 502)")},
        {.name = "301",
         .proxy = {SLICE_INIT("HTTP/1.1 301 X\r\nLocation: http://evil/\r\n\r\n"), REPLY_HOLD},
         .expect = PROXY_SAID("it refused to connect (status 301)")},
        {.name = "101",
         .proxy = {SLICE_INIT("HTTP/1.1 101 X\r\n\r\n"), REPLY_HOLD},
         .expect = PROXY_SAID("the response switches protocols")},
        {.name = "no HTTP",
         .proxy = {SLICE_INIT("\x05\x00"), REPLY_HOLD},
         .expect = PROXY_SAID("the start line does not begin with a word")},
        {.name = "a bare line end",
         .proxy = {SLICE_INIT("HTTP/1.1 200 OK\n\n"), REPLY_HOLD},
         .expect = PROXY_SAID("a line ends with LF alone")},
        {.name = "a folded field",
         .proxy = {SLICE_INIT("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), REPLY_HOLD},
         .expect = PROXY_SAID("a header field is folded")},
        {.name = "closed at once",
         .proxy = {SLICE_INIT(""), REPLY_CLOSE},
         .expect = PROXY_SAID("it closed the connection before it answered")},
        {.name = "reset at once",
         .proxy = {SLICE_INIT(""), REPLY_RESET},
         .expect = PROXY_SAID("it closed the connection before it answered")},
        {.name = "closed in its head",
         .proxy = {SLICE_INIT("HTTP/1.1 200 OK\r\n"), REPLY_CLOSE},
         .expect = PROXY_SAID("it closed the connection before it answered")},
        {.name = "hangs",
         .proxy = {SLICE_INIT(""), REPLY_HOLD},
         .expect = PROXY_SAID("it did not answer in time"),
         .timeout_ms = 60},
        {.name = "hangs in its head",
         .proxy = {SLICE_INIT("HTTP/1.1 200 OK\r\nX: "), REPLY_HOLD},
         .expect = PROXY_SAID("it did not answer in time"),
         .timeout_ms = 60},
        {.name = "hangs behind an interim answer",
         .proxy = {SLICE_INIT("HTTP/1.1 100 C\r\n\r\n"), REPLY_HOLD},
         .expect = PROXY_SAID("it did not answer in time"),
         .timeout_ms = 60},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        check_row(&rows[i], 0);
        check_row(&rows[i], 1);
    }
}

/* Bytes that the proxy puts where the server's answer is expected, in one piece with its own. */
static void test_bytes_behind(void) {
    static const struct row rows[] = {
        {.name = "an answer",
         .proxy = {SLICE_INIT("HTTP/1.1 200 OK\r\n\r\n" HELLO), REPLY_HOLD},
         .expect = PROXY_SAID("it sent bytes behind its answer to CONNECT")},
        {.name = "a body",
         .proxy = {SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"), REPLY_HOLD},
         .expect = PROXY_SAID("it sent bytes behind its answer to CONNECT")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_row(&rows[i], 0);
}

/* The password goes to the proxy, once for each connection, and nowhere else. */
static void test_bytes(void) {
    const struct reply replies[] = {{SLICE_INIT("HTTP/1.1 200 OK\r\n\r\n"), REPLY_HOLD}, hello};
    struct world world;
    world_open(&world, replies, ARRAY_LEN(replies));
    struct client_target *target = through(&world, "http://server.test:81/x?y", "u:p%2fq@");
    struct client_request request = request_to(target);
    CHECK_STR(client_target_proxy(target), world.server.address.text);
    check_exchange(&world, &request, "200 x .");
    check_exchange(&world, &request, "200 x .");
    CHECK_INT(world.server.n_accepted, 1);
    CHECK_STR(buf_slice(&world.server.got),
              "CONNECT server.test:81 HTTP/1.1\r\nHost: server.test:81\r\n"
              "Proxy-Authorization: Basic dTpwL3E=\r\n\r\n"
              "GET /x?y HTTP/1.1\r\nHost: server.test:81\r\nAccept-Encoding: identity\r\n\r\n"
              "GET /x?y HTTP/1.1\r\nHost: server.test:81\r\nAccept-Encoding: identity\r\n\r\n");
    world_close(&world);
    client_target_free(target);
}

/* A kept tunnel that breaks: the new connection gets a tunnel of its own. */
static void test_again(void) {
    static const struct reply tunnel = {SLICE_INIT("HTTP/1.1 200 OK\r\n\r\n"), REPLY_HOLD};
    const struct reply replies[] = {tunnel, hello, {SLICE_INIT(""), REPLY_CLOSE}, tunnel, hello};
    struct world world;
    world_open(&world, replies, ARRAY_LEN(replies));
    struct client_target *target = through(&world, "http://server.test/", "");
    struct client_request request = request_to(target);
    request.is_idempotent = true;
    check_exchange(&world, &request, "200 x .");
    check_exchange(&world, &request, "200 x .");
    CHECK_INT(world.server.n_accepted, 2);
    CHECK_INT(world.server.n_requests, 5);
    world_close(&world);
    client_target_free(target);
}

/* A proxy that is not there is a failed connection, told as the proxy's. */
static void test_no_proxy_there(void) {
    struct world world;
    world_open(&world, &hello, 1);
    struct client_target *target = target_new("http://server.test/", "http://u:secret@127.0.0.1:1");
    struct client_request request = request_to(target);
    struct exchange exchange;
    exchange_init(&exchange, &world);
    exchange_run(&exchange, &request);
    CHECK_STR(exchange_trace(&exchange), "! connect: 127.0.0.1:1: connection refused");
    buf_deinit(&exchange.trace);
    client_target_free(target);
    world_close(&world);
}

/* At each turn of the loop until long after the end. */
static void give_up_after(unsigned turns, bool frees) {
    const struct reply replies[] = {{SLICE_INIT("HTTP/1.1 200 OK\r\n\r\n"), REPLY_HOLD}, hello};
    struct world world;
    struct exchange exchange;
    world_open(&world, replies, ARRAY_LEN(replies));
    world.server.piece = 5;
    struct client_target *target = through(&world, "http://server.test/", "");
    struct client_request request = request_to(target);
    exchange_init(&exchange, &world);
    exchange_start(&exchange, &request);
    exchange.stops_at_end = false;
    world.later =
        (struct later){.loop = world.guarded.loop, .n = turns, .fn = world_stop, .context = &world};
    later_start(&world.later);
    guarded_run(&world.guarded);
    size_t len = buf_len(&exchange.trace);
    if (frees)
        world.client = client_free(world.client);
    else
        client_cancel(exchange.call);
    world_settle(&world);
    CHECK_INT(buf_len(&exchange.trace), len);
    buf_deinit(&exchange.trace);
    world_close(&world);
    client_target_free(target);
}

static void test_give_up(void) {
    for (unsigned turns = 0; turns < 60; turns++) {
        give_up_after(turns, true);
        give_up_after(turns, false);
    }
}

TEST_MAIN(TEST(test_proxies), TEST(test_bytes_behind), TEST(test_bytes), TEST(test_again),
          TEST(test_no_proxy_there), TEST(test_give_up))
