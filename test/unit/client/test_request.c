/* What is sent, and what becomes of a request whose connection breaks. */
#include <errno.h>
#include <unistd.h>

#include "exchange.h"

#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

static const struct reply hello = {SLICE_INIT(HELLO), REPLY_HOLD};

/* --- bytes --- */

static void test_bytes(void) {
    static const struct {
        const char *name, *path;
        enum http_method method;
        struct slice fields, body;
        const char *line, *more; /* around Host and Accept-Encoding */
        const char *other;       /* in place of the target's path; NULL: none */
    } rows[] = {
        {"GET", "/a?b", HTTP_METHOD_GET, SLICE_INIT(""), SLICE_INIT(""), "GET /a?b", "\r\n", NULL},
        {"no path", "", HTTP_METHOD_GET, SLICE_INIT(""), SLICE_INIT(""), "GET /", "\r\n", NULL},
        {"fields", "/", HTTP_METHOD_DELETE, SLICE_INIT("A: b\r\nC: d\r\n"), SLICE_INIT(""),
         "DELETE /", "A: b\r\nC: d\r\n\r\n", NULL},
        {"POST", "/", HTTP_METHOD_POST, SLICE_INIT("A: b\r\n"), SLICE_INIT("hello"), "POST /",
         "A: b\r\nContent-Length: 5\r\n\r\nhello", NULL},
        {"POST of nothing", "/", HTTP_METHOD_POST, SLICE_INIT(""), SLICE_INIT(""), "POST /",
         "Content-Length: 0\r\n\r\n", NULL},
        {"PUT of nothing", "/", HTTP_METHOD_PUT, SLICE_INIT(""), SLICE_INIT(""), "PUT /",
         "Content-Length: 0\r\n\r\n", NULL},
        {"PATCH of nothing", "/", HTTP_METHOD_PATCH, SLICE_INIT(""), SLICE_INIT(""), "PATCH /",
         "Content-Length: 0\r\n\r\n", NULL},
        {"DELETE with a body", "/", HTTP_METHOD_DELETE, SLICE_INIT(""), SLICE_INIT("x"), "DELETE /",
         "Content-Length: 1\r\n\r\nx", NULL},
        {"OPTIONS", "/", HTTP_METHOD_OPTIONS, SLICE_INIT(""), SLICE_INIT(""), "OPTIONS /", "\r\n",
         NULL},
        {"a body of any bytes", "/", HTTP_METHOD_POST, SLICE_INIT(""),
         SLICE_INIT("\r\n\r\n\x80\x01"), "POST /", "Content-Length: 6\r\n\r\n\r\n\r\n\x80\x01",
         NULL},
        {"another path", "/a?b", HTTP_METHOD_GET, SLICE_INIT(""), SLICE_INIT(""), "GET /c?d=e",
         "\r\n", "/c?d=e"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world world;
        char url[96], expect[256];
        test_row(rows[i].name);
        world_open(&world, &hello, 1);
        snprintf(url, sizeof url, "http://%s%s", world.server.address.text, rows[i].path);
        snprintf(expect, sizeof expect,
                 "%s HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: identity\r\n%s", rows[i].line,
                 world.server.address.text, rows[i].more);
        struct client_target *target = target_new(url, "");
        struct client_request request = request_to(target);
        request.method = rows[i].method;
        request.fields = rows[i].fields;
        request.body = rows[i].body;
        request.path = rows[i].other != NULL ? slice_from_cstr(rows[i].other) : SLICE_EMPTY;
        check_exchange(&world, &request, "200 x .");
        CHECK_STR(buf_slice(&world.server.got), expect);
        world_close(&world);
        client_target_free(target);
    }
}

/* Mistakes of the caller, which must not become two requests. */
static void test_unfit(void) {
    static const struct {
        enum http_method method;
        struct slice fields, path;
    } rows[] = {
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("A: b")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("A: b\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("A: b\r\n\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("A: b\r\n\r\nGET / HTTP/1.1\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("A b\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT(": b\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("A : b\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT(" A: b\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("A: b\r\n: c\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("A\r\nB: c\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("Host: b\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("A: b\r\nHOST: b\r\n")},
        {.method = HTTP_METHOD_POST, .fields = SLICE_INIT("content-length: 1\r\n")},
        {.method = HTTP_METHOD_POST, .fields = SLICE_INIT("Transfer-Encoding: chunked\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("Connection: close\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("Accept-Encoding: gzip\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("Expect: 100-continue\r\n")},
        {.method = HTTP_METHOD_GET, .fields = SLICE_INIT("Upgrade: h2c\r\n")},
        {.method = HTTP_METHOD_CONNECT, .fields = SLICE_INIT("")},
        {.method = HTTP_METHOD_OTHER, .fields = SLICE_INIT("")},
        {HTTP_METHOD_GET, SLICE_INIT(""), SLICE_INIT("/a b")},
        {HTTP_METHOD_GET, SLICE_INIT(""), SLICE_INIT("/a\r\nA: b")},
        {HTTP_METHOD_GET, SLICE_INIT(""), SLICE_INIT("/a HTTP/1.1\r\nHost: b\r\n\r\n")},
    };
    struct world world;
    world_open(&world, &hello, 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct client_request request = request_to(world.target);
        struct client_call *call = NULL;
        struct exchange exchange;
        exchange_init(&exchange, &world);
        request.method = rows[i].method;
        request.fields = rows[i].fields;
        request.path = rows[i].path;
        test_row(rows[i].path.len != 0 ? rows[i].path.ptr : rows[i].fields.ptr);
        CHECK_INT(client_start(world.client, &request, &exchange_events, &exchange, &call),
                  -EINVAL);
        CHECK(call == NULL);
        CHECK_INT(client_count_connections(world.client), 0);
    }
    world_settle(&world);
    CHECK_INT(world.server.n_accepted, 0);
    world_close(&world);
}

/* --- connections that cannot be had --- */

static void check_failure(const char *url, uint64_t timeout_ms, enum client_failure_kind kind,
                          const char *expect) {
    struct world world;
    struct exchange exchange;
    world_open(&world, &hello, 1);
    exchange_init(&exchange, &world);
    struct client_target *target = target_new(url, "");
    struct client_request request = request_to(target);
    request.connect_timeout_ms = timeout_ms;
    test_row(url);
    exchange_run(&exchange, &request);
    if (expect != NULL)
        CHECK_STR(exchange_trace(&exchange), expect);
    static const char *const begins[] = {[CLIENT_FAILED_RESOLVE] = "! resolve: ",
                                         [CLIENT_FAILED_CONNECT] = "! connect: ",
                                         [CLIENT_FAILED_TLS] = "! tls: "};
    CHECK(slice_starts_with(exchange_trace(&exchange), slice_from_cstr(begins[kind])));
    CHECK_INT(client_count_connections(world.client), 0);
    buf_deinit(&exchange.trace);
    client_target_free(target);
    world_close(&world);
}

static void test_no_connection(void) {
    /* Port 1 of loopback: nobody listens there. */
    check_failure("http://127.0.0.1:1/", 15000, CLIENT_FAILED_CONNECT,
                  "! connect: connection refused");
    check_failure("https://127.0.0.1:1/", 15000, CLIENT_FAILED_TLS, "! tls: TLS is not set up");
}

/* A long name must not push out what happened. */
static void test_long_reason(void) {
    char url[300] = "https://";
    memset(url + 8, 'a', 240);
    for (size_t i = 60; i < 240; i += 60)
        url[8 + i] = '.';
    check_failure(url, 15000, CLIENT_FAILED_TLS, "! tls: TLS is not set up");
}

/* --- requests on kept connections that break --- */

struct again {
    const char *name;
    struct reply second; /* on the kept connection */
    struct reply third;  /* on the new one, if there is one */
    bool is_idempotent;
    const char *expect;
    size_t n_requests, n_accepted;
};

#define SILENT(how)                                                                                \
    { SLICE_INIT(""), how }
#define BROKEN "! reset, may have arrived: it closed the connection before it answered"

static void check_again(const struct again *row) {
    struct world world;
    struct reply replies[] = {hello, row->second, row->third};
    test_row(row->name);
    world_open(&world, replies, ARRAY_LEN(replies));
    struct client_request request = request_to(world.target);
    request.method = HTTP_METHOD_POST;
    request.body = SLICE("body");
    check_exchange(&world, &request, "200 x .");
    CHECK_INT(client_count_connections(world.client), 1);
    request.is_idempotent = row->is_idempotent;
    check_exchange(&world, &request, row->expect);
    CHECK_INT(world.server.n_requests, row->n_requests);
    CHECK_INT(world.server.n_accepted, row->n_accepted);
    /* Each request that arrived is the same. */
    struct slice got = buf_slice(&world.server.got);
    size_t len = got.len / row->n_requests;
    for (size_t i = 1; i < row->n_requests; i++)
        CHECK(slice_eq(slice_sub(got, i * len, (i + 1) * len), slice_sub(got, 0, len)));
    world_close(&world);
}

static void test_again(void) {
    static const struct again rows[] = {
        {"kept and well",
         {SLICE_INIT(HELLO), REPLY_HOLD},
         SILENT(REPLY_HOLD),
         true,
         "200 x .",
         2,
         1},
        {"closed", SILENT(REPLY_CLOSE), {SLICE_INIT(HELLO), REPLY_HOLD}, true, "200 x .", 3, 2},
        {"reset", SILENT(REPLY_RESET), {SLICE_INIT(HELLO), REPLY_HOLD}, true, "200 x .", 3, 2},
        {"not idempotent", SILENT(REPLY_CLOSE), SILENT(REPLY_HOLD), false, BROKEN, 2, 1},
        {"not idempotent, reset", SILENT(REPLY_RESET), SILENT(REPLY_HOLD), false, BROKEN, 2, 1},
        {"once only", SILENT(REPLY_CLOSE), SILENT(REPLY_CLOSE), true, BROKEN, 3, 2},
        {"a byte of an answer",
         {SLICE_INIT("H"), REPLY_CLOSE},
         SILENT(REPLY_HOLD),
         true,
         "! reset, may have arrived: it closed the connection in the midst of the answer",
         2,
         1},
        {"an interim answer",
         {SLICE_INIT("HTTP/1.1 100 Continue\r\n\r\n"), REPLY_CLOSE},
         SILENT(REPLY_HOLD),
         true,
         "! reset, may have arrived: it closed the connection in the midst of the answer",
         2,
         1},
        {"garbage",
         {SLICE_INIT("x\r\n"), REPLY_CLOSE},
         SILENT(REPLY_HOLD),
         true,
         "! protocol, may have arrived: the version is not valid",
         2,
         1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_again(&rows[i]);
}

/* The first attempt may have arrived, whatever becomes of the second. */
static void test_again_without_server(void) {
    static const struct reply replies[] = {{SLICE_INIT(HELLO), REPLY_HOLD}, SILENT(REPLY_CLOSE)};
    struct world world;
    world_open(&world, replies, ARRAY_LEN(replies));
    struct client_request request = request_to(world.target);
    request.is_idempotent = true;
    check_exchange(&world, &request, "200 x .");
    server_stop_listening(&world.server);
    struct exchange exchange;
    exchange_init(&exchange, &world);
    exchange_run(&exchange, &request);
    CHECK(slice_starts_with(exchange_trace(&exchange), SLICE("! connect, may have arrived: ")));
    buf_deinit(&exchange.trace);
    world_close(&world);
}

/*
 * The server has gone and the kernel knows it, but the loop has not looked yet. After a reset it
 * takes not a byte, so that also what may be done once only is sent on a new connection; after an
 * orderly end it takes them all, and nobody can tell what became of them.
 */
static void test_gone_unnoticed(void) {
    static const struct {
        enum reply_then how;
        const char *expect;
        size_t n_requests;
    } rows[] = {{REPLY_RESET, "200 x .", 2}, {REPLY_CLOSE, BROKEN, 1}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world world;
        world_open(&world, &hello, 1);
        struct client_request request = request_to(world.target);
        request.method = HTTP_METHOD_POST;
        check_exchange(&world, &request, "200 x .");
        server_drop(&world.server, rows[i].how);
        CHECK_INT(client_count_connections(world.client), 1);
        check_exchange(&world, &request, rows[i].expect);
        CHECK_INT(world.server.n_requests, rows[i].n_requests);
        CHECK_INT(world.server.n_accepted, rows[i].n_requests);
        world_close(&world);
    }
}

struct in_poll {
    struct exchange exchange;
    struct client_request request;
    struct io_watch *watch;
};

static void start_now(void *context) {
    struct in_poll *in_poll = context;
    in_poll->watch = io_watch_free(in_poll->watch);
    exchange_start(&in_poll->exchange, &in_poll->request);
}

static void answer_nothing(struct server *server) {
    struct server_peer *peer = CONTAINER_OF(list_first(&server->peers), struct server_peer, link);
    CHECK_INT(io_stream_write(peer->stream, SLICE("HTTP/1.1 200 OK\r\n\r\nevil"), KIB(1)), 0);
    io_stream_flush(peer->stream);
}

static void close_all(struct server *server) {
    server_drop(server, REPLY_CLOSE);
}

static void reset_all(struct server *server) {
    server_drop(server, REPLY_RESET);
}

/* The end, or an answer to nothing, comes in the turn in which the request was written, and before
 * that turn's end: nothing of it has left, and nothing will. */
static void test_over_before_it_left(void) {
    static void (*const ends[])(struct server *) = {close_all, reset_all, answer_nothing};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct world world;
        struct in_poll in_poll;
        int fds[2];
        world_open(&world, &hello, 1);
        in_poll.request = request_to(world.target);
        in_poll.request.method = HTTP_METHOD_POST;
        check_exchange(&world, &in_poll.request, "200 x .");
        exchange_init(&in_poll.exchange, &world);
        if (io_pipe(&fds[0], &fds[1]) != 0 ||
            io_watch_new(world.guarded.loop, fds[0], start_now, &in_poll, &in_poll.watch) != 0)
            CANNOT_GO_ON();
        world_settle(&world);
        CHECK_INT(write(fds[1], "", 1), 1); /* first this is seen, then the end */
        ends[i](&world.server);
        guarded_run(&world.guarded);
        CHECK_STR(exchange_trace(&in_poll.exchange), "200 x .");
        CHECK_INT(world.server.n_requests, 2);
        CHECK_INT(world.server.n_accepted, 2);
        buf_deinit(&in_poll.exchange.trace);
        world_close(&world);
        io_fd_close(&fds[0]);
        io_fd_close(&fds[1]);
    }
}

/* --- early answers --- */

/* 413 before the body was read: told, and the connection is not kept, as the server would take the
 * rest of the body for a request. */
static void test_early_answer(void) {
    enum { BODY = 32 * 1024 * 1024 };
    static const struct reply too_large = {
        SLICE_INIT("HTTP/1.1 413 Too\r\nContent-Length: 1\r\n\r\nx"), REPLY_HOLD};
    char *body = mem_xalloc(BODY);
    struct world world;
    world_open(&world, &too_large, 1);
    world.server.at_head = true;
    struct client_request request = request_to(world.target);
    request.method = HTTP_METHOD_POST;
    request.body = slice_make(body, BODY);
    request.is_idempotent = true;
    check_exchange(&world, &request, "413 x .");
    CHECK_INT(client_count_connections(world.client), 0);
    CHECK_INT(world.server.n_requests, 1);
    CHECK(buf_len(&world.server.got) < BODY);
    world_close(&world);
    mem_free(body);
}

/* The same, but the server closes, or resets, behind its answer. */
static void test_early_answer_and_end(void) {
    enum { BODY = 32 * 1024 * 1024 };
    static const enum reply_then ends[] = {REPLY_CLOSE, REPLY_RESET};
    char *body = mem_xalloc(BODY);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct reply too_large = {SLICE_INIT("HTTP/1.1 413 Too\r\nContent-Length: 1\r\n\r\nx"),
                                  ends[i]};
        struct world world;
        world_open(&world, &too_large, 1);
        world.server.at_head = true;
        struct client_request request = request_to(world.target);
        request.method = HTTP_METHOD_POST;
        request.body = slice_make(body, BODY);
        check_exchange(&world, &request, "413 x .");
        CHECK_INT(client_count_connections(world.client), 0);
        world_close(&world);
    }
    mem_free(body);
}

/* The connection breaks while the body is written and the call is paused: it hears of it when it
 * goes on. */
static void test_break_while_paused(void) {
    enum { BODY = 32 * 1024 * 1024 };
    static const struct reply nothing = {SLICE_INIT(""), REPLY_RESET};
    char *body = mem_xalloc(BODY);
    struct world world;
    struct exchange exchange;
    world_open(&world, &nothing, 1);
    world.server.at_head = true;
    struct client_request request = request_to(world.target);
    request.method = HTTP_METHOD_POST;
    request.body = slice_make(body, BODY);
    exchange_init(&exchange, &world);
    exchange_start(&exchange, &request);
    client_pause(exchange.call, true);
    world.server.stops_at_open = true; /* runs until the server has closed */
    world.server.stop_at_open = 0;
    guarded_run(&world.guarded);
    world_settle(&world);
    CHECK_INT(world.server.n_requests, 1);
    CHECK_INT(exchange.n_ends, 0);
    client_pause(exchange.call, false);
    CHECK_INT(exchange.n_ends, 0);
    guarded_run(&world.guarded);
    CHECK_STR(exchange_trace(&exchange), BROKEN);
    CHECK_INT(client_count_connections(world.client), 0);
    buf_deinit(&exchange.trace);
    world_close(&world);
    mem_free(body);
}

/* A large body arrives whole, and the connection is kept then. */
static void test_large_body(void) {
    enum { BODY = 8 * 1024 * 1024 };
    char *body = mem_xalloc(BODY);
    struct world world;
    memset(body, 'b', BODY);
    world_open(&world, &hello, 1);
    struct client_request request = request_to(world.target);
    request.method = HTTP_METHOD_POST;
    request.body = slice_make(body, BODY);
    check_exchange(&world, &request, "200 x .");
    CHECK_INT(client_count_connections(world.client), 1);
    CHECK(slice_ends_with(buf_slice(&world.server.got), slice_make(body, BODY)));
    world_close(&world);
    mem_free(body);
}

TEST_MAIN(TEST(test_bytes), TEST(test_unfit), TEST(test_no_connection), TEST(test_long_reason),
          TEST(test_again), TEST(test_again_without_server), TEST(test_gone_unnoticed),
          TEST(test_over_before_it_left), TEST(test_early_answer), TEST(test_early_answer_and_end),
          TEST(test_break_while_paused), TEST(test_large_body))
