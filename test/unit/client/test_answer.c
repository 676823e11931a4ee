/* Answers of scripted servers: whole, in pieces, cut off at every byte, too long, paused. */
#include "exchange.h"

#define OK(fields)     "HTTP/1.1 200 OK\r\n" fields "\r\n"
#define LENGTH(n)      "Content-Length: " #n "\r\n"
#define CHUNKED        "Transfer-Encoding: chunked\r\n"
#define PACKED(coding) "Content-Encoding: " coding "\r\n"

struct row {
    const char *name;
    struct reply reply;
    const char *expect;
    bool is_kept;
    enum http_method method;
    uint64_t max_body; /* 0: 100 */
};

static void check_row(const struct row *row, size_t piece) {
    struct world world;
    test_row(row->name);
    world_open(&world, &row->reply, 1);
    world.server.piece = piece;
    struct client_request request = request_to(world.target);
    request.method = row->method;
    request.max_body = row->max_body != 0 ? row->max_body : 100;
    check_exchange(&world, &request, row->expect);
    if (piece == 0 && row->reply.then == REPLY_HOLD)
        CHECK_INT(client_count_connections(world.client), row->is_kept);
    world_settle(&world); /* until bytes behind the answer came, too */
    CHECK_INT(client_count_connections(world.client), row->is_kept);
    CHECK_INT(world.server.n_open, row->is_kept);
    CHECK_INT(world.server.n_requests, 1);
    world_close(&world);
}

#define TOO_LONG  "! protocol, may have arrived: the answer is longer than the limit"
#define IS_PACKED "! protocol, may have arrived: the answer is compressed, which was not asked for"
#define MIDST     "! reset, may have arrived: it closed the connection in the midst of the answer"
#define NO_ANSWER "! reset, may have arrived: it closed the connection before it answered"

static void check_rows(const struct row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        check_row(&rows[i], 0);
        check_row(&rows[i], 1);
        check_row(&rows[i], 3);
    }
}

static void test_lengths(void) {
    static const struct row rows[] = {
        {.name = "length",
         .reply = {SLICE_INIT(OK(LENGTH(3)) "abc"), REPLY_HOLD},
         .expect = "200 abc .",
         .is_kept = true},
        {.name = "empty",
         .reply = {SLICE_INIT(OK(LENGTH(0))), REPLY_HOLD},
         .expect = "200 .",
         .is_kept = true},
        {.name = "chunked",
         .reply = {SLICE_INIT(OK(CHUNKED) "1\r\na\r\n2;x=y\r\nbc\r\n0\r\nX: y\r\n\r\n"),
                   REPLY_HOLD},
         .expect = "200 abc .",
         .is_kept = true},
        {.name = "204",
         .reply = {SLICE_INIT("HTTP/1.1 204 No\r\n\r\n"), REPLY_HOLD},
         .expect = "204 .",
         .is_kept = true},
        {.name = "304",
         .reply = {SLICE_INIT("HTTP/1.1 304 No\r\n" LENGTH(5) "\r\n"), REPLY_HOLD},
         .expect = "304 .",
         .is_kept = true},
        {.name = "HEAD",
         .reply = {SLICE_INIT(OK(LENGTH(5))), REPLY_HOLD},
         .expect = "200 .",
         .is_kept = true,
         .method = HTTP_METHOD_HEAD},
        {.name = "HEAD of something huge",
         .reply = {SLICE_INIT(OK(LENGTH(500) PACKED("gzip"))), REPLY_HOLD},
         .expect = "200 .",
         .is_kept = true,
         .method = HTTP_METHOD_HEAD},
        {.name = "HEAD with a body is a desync",
         .reply = {SLICE_INIT(OK(LENGTH(3)) "abc"), REPLY_HOLD},
         .expect = "200 .",
         .method = HTTP_METHOD_HEAD},
        {.name = "500",
         .reply = {SLICE_INIT("HTTP/1.1 500 X\r\n" LENGTH(1) "\r\nx"), REPLY_HOLD},
         .expect = "500 x .",
         .is_kept = true},
        {.name = "302",
         .reply = {SLICE_INIT("HTTP/1.1 302 X\r\nLocation: /\r\n" LENGTH(0) "\r\n"), REPLY_HOLD},
         .expect = "302 .",
         .is_kept = true},
        {.name = "401 with Connection: close",
         .reply = {SLICE_INIT("HTTP/1.1 401 X\r\nConnection: close\r\n" LENGTH(1) "\r\nx"),
                   REPLY_HOLD},
         .expect = "401 x ."},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void test_ends(void) {
    static const struct row rows[] = {
        {.name = "until close",
         .reply = {SLICE_INIT(OK("") "abc"), REPLY_CLOSE},
         .expect = "200 abc ."},
        {.name = "until close, nothing",
         .reply = {SLICE_INIT(OK("")), REPLY_CLOSE},
         .expect = "200 ."},
        {.name = "until close, but reset",
         .reply = {SLICE_INIT(OK("") "abc"), REPLY_RESET},
         .expect = "200 abc" MIDST},
        {.name = "whole, then closed",
         .reply = {SLICE_INIT(OK(LENGTH(3)) "abc"), REPLY_CLOSE},
         .expect = "200 abc ."},
        {.name = "1.0",
         .reply = {SLICE_INIT("HTTP/1.0 200 OK\r\n" LENGTH(1) "\r\na"), REPLY_HOLD},
         .expect = "200 a ."},
        {.name = "1.0 kept",
         .reply = {SLICE_INIT("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" LENGTH(1) "\r\na"),
                   REPLY_HOLD},
         .expect = "200 a .",
         .is_kept = true},
        {.name = "1.0 until close",
         .reply = {SLICE_INIT("HTTP/1.0 200 OK\r\n\r\na"), REPLY_CLOSE},
         .expect = "200 a ."},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void test_interim(void) {
    static const struct row rows[] = {
        {.name = "interim",
         .reply = {SLICE_INIT("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" OK(
                       LENGTH(1)) "a"),
                   REPLY_HOLD},
         .expect = "200 a .",
         .is_kept = true},
        {.name = "nine interim",
         .reply = {SLICE_INIT("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\n"
                              "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\n"
                              "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\n"),
                   REPLY_HOLD},
         .expect = "! protocol, may have arrived: there are more interim responses than the limit"},
        {.name = "interim, then closed",
         .reply = {SLICE_INIT("HTTP/1.1 100 Continue\r\n\r\n"), REPLY_CLOSE},
         .expect = MIDST},
        {.name = "101",
         .reply = {SLICE_INIT(
                       "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
                   REPLY_HOLD},
         .expect = "! protocol, may have arrived: the response switches protocols"},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void test_refused(void) {
    static const struct row rows[] = {
        {.name = "nothing, closed", .reply = {SLICE_INIT(""), REPLY_CLOSE}, .expect = NO_ANSWER},
        {.name = "nothing, reset", .reply = {SLICE_INIT(""), REPLY_RESET}, .expect = NO_ANSWER},
        {.name = "no HTTP",
         .reply = {SLICE_INIT("\x15\x03\x01\x02\x02"), REPLY_HOLD},
         .expect = "! protocol, may have arrived: the start line does not begin with a word"},
        {.name = "2.0",
         .reply = {SLICE_INIT("HTTP/2.0 200 OK\r\n\r\n"), REPLY_HOLD},
         .expect = "! protocol, may have arrived: the version is neither HTTP/1.0 nor HTTP/1.1"},
        {.name = "two lengths",
         .reply = {SLICE_INIT(OK(LENGTH(1) LENGTH(1)) "a"), REPLY_HOLD},
         .expect = "! protocol, may have arrived: there is more than one Content-Length"},
        {.name = "length and chunked",
         .reply = {SLICE_INIT(OK(LENGTH(1) CHUNKED) "0\r\n\r\n"), REPLY_HOLD},
         .expect = "! protocol, may have arrived: both Content-Length and Transfer-Encoding"},
        {.name = "gzip",
         .reply = {SLICE_INIT(OK(LENGTH(1) PACKED("gzip")) "a"), REPLY_HOLD},
         .expect = IS_PACKED},
        {.name = "two codings",
         .reply = {SLICE_INIT(OK(CHUNKED PACKED("identity") PACKED("br")) "0\r\n\r\n"), REPLY_HOLD},
         .expect = IS_PACKED},
        {.name = "a list of codings",
         .reply = {SLICE_INIT(OK(LENGTH(1) PACKED("identity, gzip")) "a"), REPLY_HOLD},
         .expect = IS_PACKED},
        {.name = "gzip until close",
         .reply = {SLICE_INIT(OK(PACKED("gzip")) "a"), REPLY_CLOSE},
         .expect = IS_PACKED},
        {.name = "identity",
         .reply = {SLICE_INIT(OK(LENGTH(1) PACKED("Identity")) "a"), REPLY_HOLD},
         .expect = "200 a .",
         .is_kept = true},
        {.name = "gzip of nothing",
         .reply = {SLICE_INIT(OK(LENGTH(0) PACKED("gzip"))), REPLY_HOLD},
         .expect = "200 .",
         .is_kept = true},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void test_limit(void) {
    static const struct row rows[] = {
        {.name = "at the limit",
         .reply = {SLICE_INIT(OK(LENGTH(3)) "abc"), REPLY_HOLD},
         .expect = "200 abc .",
         .is_kept = true,
         .max_body = 3},
        {.name = "past it",
         .reply = {SLICE_INIT(OK(LENGTH(4)) "abcd"), REPLY_HOLD},
         .expect = TOO_LONG,
         .max_body = 3},
        {.name = "chunked at the limit",
         .reply = {SLICE_INIT(OK(CHUNKED) "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), REPLY_HOLD},
         .expect = "200 abc .",
         .is_kept = true,
         .max_body = 3},
        {.name = "chunked past it",
         .reply = {SLICE_INIT(OK(CHUNKED) "1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n"), REPLY_HOLD},
         .expect = "200 abc" TOO_LONG,
         .max_body = 3},
        {.name = "until close at the limit",
         .reply = {SLICE_INIT(OK("") "abc"), REPLY_CLOSE},
         .expect = "200 abc .",
         .max_body = 3},
        {.name = "endless",
         .reply = {SLICE_INIT(OK(CHUNKED) "1\r\na\r\n0\r\n\r\n"), REPLY_HOLD},
         .expect = "200 a .",
         .is_kept = true,
         .max_body = UINT64_MAX},
        {.name = "a chunk of nearly all there is",
         .reply = {SLICE_INIT(OK(CHUNKED) "1\r\na\r\nffffffffffffffff\r\nb"), REPLY_HOLD},
         .expect = "200 a! protocol, may have arrived: the body is longer than the limit",
         .max_body = UINT64_MAX},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void test_bytes_behind(void) {
    static const struct row rows[] = {
        {.name = "a second answer",
         .reply = {SLICE_INIT(OK(LENGTH(1)) "a" OK(LENGTH(1)) "b"), REPLY_HOLD},
         .expect = "200 a ."},
        {.name = "a line end too many",
         .reply = {SLICE_INIT(OK(LENGTH(1)) "a\r\n"), REPLY_HOLD},
         .expect = "200 a ."},
        {.name = "behind the last chunk",
         .reply = {SLICE_INIT(OK(CHUNKED) "0\r\n\r\nx"), REPLY_HOLD},
         .expect = "200 ."},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

/* What differs by how much comes at once: a part of a body over the limit. */
static void test_past_the_limit_in_pieces(void) {
    static const struct row whole = {.name = "until close",
                                     .reply = {SLICE_INIT(OK("") "abcd"), REPLY_CLOSE},
                                     .expect = "200 " TOO_LONG,
                                     .max_body = 3};
    static const struct row pieces = {.name = "until close",
                                      .reply = {SLICE_INIT(OK("") "abcd"), REPLY_CLOSE},
                                      .expect = "200 abc" TOO_LONG,
                                      .max_body = 3};
    check_row(&whole, 0);
    check_row(&pieces, 1);
}

/* --- cut off at every byte --- */

static size_t head_length(struct slice answer) {
    return slice_find(answer, SLICE("\r\n\r\n")) + 4;
}

static void check_cut(struct slice answer, size_t at, enum reply_then then, bool is_whole_body) {
    struct world world;
    struct exchange exchange;
    struct reply reply = {slice_sub(answer, 0, at), then};
    world_open(&world, &reply, 1);
    exchange_init(&exchange, &world);
    struct client_request request = request_to(world.target);
    request.is_idempotent = true; /* which makes no difference on a new connection */
    exchange_run(&exchange, &request);
    struct slice trace = exchange_trace(&exchange);
    CHECK_INT(exchange.n_heads, at >= head_length(answer));
    if (is_whole_body)
        CHECK(slice_ends_with(trace, SLICE(" .")));
    else
        CHECK(slice_ends_with(trace, at == 0 ? SLICE(NO_ANSWER) : SLICE(MIDST)));
    CHECK_INT(client_count_connections(world.client), 0);
    CHECK_INT(world.server.n_requests, 1);
    buf_deinit(&exchange.trace);
    world_close(&world);
}

static void test_cut_off(void) {
    static const struct {
        struct slice answer;
        bool ends_by_close;
    } rows[] = {
        {SLICE_INIT(OK(LENGTH(5)) "abcde"), false},
        {SLICE_INIT(OK(CHUNKED) "1\r\na\r\n3\r\nbcd\r\n0\r\nX: y\r\n\r\n"), false},
        {SLICE_INIT("HTTP/1.1 103 E\r\n\r\n" OK(LENGTH(1)) "a"), false},
        {SLICE_INIT(OK("X: y\r\n") "abcde"), true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice answer = rows[i].answer;
        size_t head = head_length(answer);
        if (slice_starts_with(answer, SLICE("HTTP/1.1 103")))
            head += head_length(slice_from(answer, head));
        test_row(answer.ptr);
        for (size_t at = 0; at < answer.len; at++) {
            if (at > 0 && at < head && head_length(answer) != head)
                continue; /* checked by the table above: the first head is not the final one */
            check_cut(answer, at, REPLY_CLOSE, rows[i].ends_by_close && at >= head);
            check_cut(answer, at, REPLY_RESET, false);
        }
    }
}

/* --- pausing --- */

static void pause_at_data(struct exchange *exchange) {
    if (exchange->n_body == 1) {
        client_pause(exchange->call, true);
        io_loop_stop(exchange->world->guarded.loop);
    }
}

static void pause_at_head(struct exchange *exchange) {
    client_pause(exchange->call, true);
    io_loop_stop(exchange->world->guarded.loop);
}

static void check_paused(const struct reply *reply, size_t piece,
                         void (*at_head)(struct exchange *), void (*at_data)(struct exchange *),
                         const char *before, const char *after) {
    struct world world;
    struct exchange exchange;
    world_open(&world, reply, 1);
    world.server.piece = piece;
    exchange_init(&exchange, &world);
    exchange.at_head = at_head;
    exchange.at_data = at_data;
    struct client_request request = request_to(world.target);
    exchange_start(&exchange, &request);
    guarded_run(&world.guarded);
    world_settle(&world);
    CHECK_STR(exchange_trace(&exchange), before);
    /* On, off and on again before anything can happen. */
    client_pause(exchange.call, false);
    client_pause(exchange.call, true);
    world_settle(&world);
    CHECK_STR(exchange_trace(&exchange), before);
    client_pause(exchange.call, false);
    CHECK_STR(exchange_trace(&exchange), before);
    guarded_run(&world.guarded);
    CHECK_INT(exchange.n_ends, 1);
    CHECK_STR(exchange_trace(&exchange), after);
    /* A connection that was kept is read again: its end is noticed. */
    server_drop(&world.server, REPLY_CLOSE);
    world_settle(&world);
    CHECK_INT(client_count_connections(world.client), 0);
    buf_deinit(&exchange.trace);
    world_close(&world);
}

static void test_pause(void) {
    static const struct {
        const char *name;
        struct reply reply;
        const char *after;
    } rows[] = {
        {"chunks",
         {SLICE_INIT(OK(CHUNKED) "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"), REPLY_HOLD},
         "200 abc ."},
        {"nothing but the end", {SLICE_INIT(OK(LENGTH(1)) "a"), REPLY_HOLD}, "200 a ."},
        {"closed",
         {SLICE_INIT(OK(CHUNKED) "1\r\na\r\n1\r\nb\r\n0\r\n\r\n"), REPLY_CLOSE},
         "200 ab ."},
        {"cut off", {SLICE_INIT(OK(CHUNKED) "1\r\na\r\n1\r\nb\r\n"), REPLY_CLOSE}, "200 ab" MIDST},
        {"until close, one byte", {SLICE_INIT(OK("") "a"), REPLY_CLOSE}, "200 a ."},
        {"garbage behind", {SLICE_INIT(OK(LENGTH(1)) "aHTTP/1.1"), REPLY_HOLD}, "200 a ."},
        {"malformed",
         {SLICE_INIT(OK(CHUNKED) "1\r\na\r\nx\r\n"), REPLY_HOLD},
         "200 a! protocol, may have arrived: the chunk size is not 1 to 16 hexadecimal digits"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        for (size_t piece = 0; piece < 2; piece++) {
            check_paused(&rows[i].reply, piece, NULL, pause_at_data, "200 a", rows[i].after);
            check_paused(&rows[i].reply, piece, pause_at_head, NULL, "200 ", rows[i].after);
        }
    }
}

/* Before anything was dialled; the answer waits in the kernel. */
static void test_pause_from_the_start(void) {
    static const struct reply reply = {SLICE_INIT(OK(LENGTH(1)) "a"), REPLY_HOLD};
    struct world world;
    struct exchange exchange;
    world_open(&world, &reply, 1);
    exchange_init(&exchange, &world);
    struct client_request request = request_to(world.target);
    exchange_start(&exchange, &request);
    client_pause(exchange.call, true);
    world.server.stop_at_requests = 1;
    guarded_run(&world.guarded);
    world_settle(&world);
    CHECK_INT(exchange.n_heads, 0);
    client_pause(exchange.call, false);
    guarded_run(&world.guarded);
    CHECK_STR(exchange_trace(&exchange), "200 a .");
    buf_deinit(&exchange.trace);
    world_close(&world);
}

/* Back-pressure reaches the server: it cannot write all of it. */
static void test_pause_stops_the_server(void) {
    enum { HEAD = 64, BODY = 16 * 1024 * 1024 };
    static char bytes[HEAD + BODY];
    int head = snprintf(bytes, HEAD, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BODY);
    struct reply reply = {slice_make(bytes, (size_t)head + BODY), REPLY_HOLD};
    struct world world;
    struct exchange exchange;
    memset(bytes + head, 'a', BODY);
    world_open(&world, &reply, 1);
    exchange_init(&exchange, &world);
    exchange.at_head = pause_at_head;
    struct client_request request = request_to(world.target);
    request.max_body = BODY;
    exchange_start(&exchange, &request);
    guarded_run(&world.guarded);
    world_settle(&world);
    struct server_peer *peer =
        CONTAINER_OF(list_first(&world.server.peers), struct server_peer, link);
    CHECK(io_stream_queued(peer->stream) > 0);
    CHECK_INT(exchange.n_body, 0);
    client_pause(exchange.call, false);
    guarded_run(&world.guarded);
    CHECK_INT(exchange.n_body, BODY);
    CHECK_INT(exchange.n_ends, 1);
    buf_deinit(&exchange.trace);
    world_close(&world);
}

TEST_MAIN(TEST(test_lengths), TEST(test_ends), TEST(test_interim), TEST(test_refused),
          TEST(test_limit), TEST(test_bytes_behind), TEST(test_past_the_limit_in_pieces),
          TEST(test_cut_off), TEST(test_pause), TEST(test_pause_from_the_start),
          TEST(test_pause_stops_the_server))
