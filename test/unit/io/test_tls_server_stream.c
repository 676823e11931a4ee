/*
 * What travels over TLS when this side is the server: how much it takes on the wire, large answers
 * with back-pressure, requests that drip, clients that ask for new keys without end, crowds. The
 * handshake is in test_tls_server.c; much of the layer itself is in test_tls_stream.c, from the
 * other side.
 */
#include <netinet/tcp.h>
#include <semaphore.h>

#include "tls_visitor.h"

static struct cert root, cert;
static struct io_tls *tls;

static void prepare(void) {
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    root = cert_make(&(struct cert_spec){.subject = "test root", .is_authority = true}, NULL);
    cert = cert_make(&(struct cert_spec){.subject = "s", .names = "DNS:host.test"}, &root);
    tls = server_tls(&cert, NULL, false);
}

static void clean_up(void) {
    tls = io_tls_unref(tls);
    cert_free(&root);
    cert_free(&cert);
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void shake(struct house *house, struct visitor *visitor, visitor_fn *run, int version) {
    house_open(house, tls);
    visitor_init(visitor, run);
    SSL_CTX_set_max_proto_version(visitor->ctx, version);
    visitor_start(visitor, house_connect(house));
    guarded_run(&house->guarded);
    CHECK_INT(house->readies, 1);
    CHECK_INT(house->ready_error, 0);
}

static void leave(struct house *house, struct visitor *visitor) {
    house_close(house);
    visitor_stop(visitor);
}

/* --- records --- */

enum { RECORD = 16 * 1024 };

static const struct pieces_row {
    const char *label;
    size_t lens[6];
    size_t records;
} pieces_rows[] = {
    {"one", {100}, 1},
    {"head, frame, body, end", {200, 20, 136, 4}, 1},
    {"empty ones between", {0, 200, 0, 0, 136, 0}, 1},
    {"nothing", {0, 0}, 0},
    {"a whole record", {RECORD}, 1},
    {"a record of pieces", {1000, RECORD - 1001, 1}, 1},
    {"a byte more", {1000, RECORD - 1001, 2}, 2},
    {"a head and a large body", {200, 5 * RECORD}, 6},
    {"a large body and an end", {5 * RECORD, 2}, 6},
    {"a large one between", {200, 3 * RECORD - 200, RECORD, 7}, 5},
    {"more than what is sent at once", {10, 20 * RECORD, 10, 20 * RECORD, 10}, 41},
    {"many bytes", {1, 1, 1, 1, 1, 1}, 1},
};

static void test_records(void) {
    static char bytes[48 * RECORD];
    pattern_fill(bytes, 0, sizeof bytes);
    for (size_t i = 0; i < ARRAY_LEN(pieces_rows) * ARRAY_LEN(versions); i++) {
        const struct pieces_row *row = &pieces_rows[i / 2];
        struct slice pieces[ARRAY_LEN(row->lens)];
        struct house house;
        struct visitor visitor;
        size_t total = 0;
        test_row(row->label);
        for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
            pieces[p] = slice_make(bytes + total, row->lens[p]);
            total += row->lens[p];
        }
        shake(&house, &visitor, visitor_shakes_and_drains, versions[i % 2]);
        CHECK_INT(io_stream_writev(house.stream, pieces, ARRAY_LEN(pieces), MIB(4)), 0);
        io_stream_shutdown(house.stream);
        house.stops_at_end = true;
        io_stream_read(house.stream, true);
        guarded_run(&house.guarded);
        leave(&house, &visitor);
        CHECK_INT(visitor.count, total);
        CHECK(!visitor.is_wrong);
        CHECK_INT(visitor.ssl_error, SSL_ERROR_ZERO_RETURN);
        /* In TLS 1.3 close_notify looks like data, too. */
        CHECK_INT(visitor.records, row->records + (versions[i % 2] == TLS1_3_VERSION ? 1 : 0));
    }
}

/* What is written is read from where it lies, also when that is what has just been read. */
static void send_back(struct house *house, struct slice bytes) {
    struct slice pieces[] = {slice_sub(bytes, 0, bytes.len / 3), slice_from(bytes, bytes.len / 3)};
    CHECK_INT(io_stream_writev(house->stream, pieces, 2, MIB(64)), 0);
}

static void visitor_sends_and_compares(struct visitor *visitor) {
    static char out[300000];
    static const size_t lens[] = {1, 2, 100, 16384, 16385, 65536, 65537, 200000};
    char in[4096];
    if (!visitor_shake(visitor))
        return;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        size_t got = 0;
        pattern_fill(out, 0, lens[i]);
        visitor->is_wrong |= SSL_write(visitor->ssl, out, (int)lens[i]) != (int)lens[i];
        while (got < lens[i]) {
            int r = SSL_read(visitor->ssl, in, sizeof in);
            if (r <= 0 || !pattern_is(in, got, (size_t)r)) {
                visitor->is_wrong = true;
                return;
            }
            got += (size_t)r;
        }
    }
    SSL_shutdown(visitor->ssl);
}

static void test_echo(void) {
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct house house;
        struct visitor visitor;
        shake(&house, &visitor, visitor_sends_and_compares, versions[i]);
        house.on_bytes = send_back;
        house.stops_at_end = true;
        io_stream_read(house.stream, true);
        guarded_run(&house.guarded);
        CHECK_INT(house.end_error, 0);
        leave(&house, &visitor);
        CHECK(!visitor.is_wrong);
    }
}

/* --- large answers --- */

enum { LARGE = 16 * 1024 * 1024, MAX_QUEUED = 256 * 1024, OVERHEAD = 8192 };

struct answer {
    size_t written, most_queued;
};

static void write_more(struct house *house) {
    struct answer *answer = house->more;
    static char block[100 * 1000];
    while (answer->written < LARGE) {
        size_t n = LARGE - answer->written < sizeof block ? LARGE - answer->written : sizeof block;
        pattern_fill(block, answer->written, n);
        struct slice pieces[] = {slice_make(block, n / 7), slice_make(block + n / 7, n - n / 7)};
        int r = io_stream_writev(house->stream, pieces, 2, MAX_QUEUED);
        if (r == -ENOBUFS)
            return;
        CHECK_INT(r, 0);
        if (r != 0)
            return;
        answer->written += n;
        size_t queued = io_stream_queued(house->stream);
        answer->most_queued = queued > answer->most_queued ? queued : answer->most_queued;
    }
    io_stream_shutdown(house->stream);
}

/* Reads nothing until there is something that waits for it. */
static sem_t gate;

static void visitor_drains_later(struct visitor *visitor) {
    if (visitor_shake(visitor)) {
        sem_wait(&gate);
        visitor_drain(visitor);
    }
}

static void test_large_answer(void) {
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct answer answer = {.written = 0};
        struct house house;
        struct visitor visitor;
        sem_init(&gate, 0, 0);
        shake(&house, &visitor, visitor_drains_later, versions[i]);
        house.more = &answer;
        house.on_room = write_more;
        house.stops_at_end = true;
        io_stream_read(house.stream, true);
        write_more(&house);
        CHECK(answer.written < LARGE);
        sem_post(&gate);
        guarded_run(&house.guarded);
        CHECK(house.drains > 0);
        CHECK(answer.most_queued > 0 && answer.most_queued <= MAX_QUEUED + OVERHEAD);
        leave(&house, &visitor);
        CHECK_INT(visitor.count, LARGE);
        CHECK(!visitor.is_wrong);
        CHECK_INT(visitor.ssl_error, SSL_ERROR_ZERO_RETURN);
    }
}

static void visitor_uploads(struct visitor *visitor) {
    static char block[50000];
    int r = 1;
    if (!visitor_shake(visitor))
        return;
    while (visitor->count < LARGE && r > 0) {
        size_t n = LARGE - visitor->count < sizeof block ? LARGE - visitor->count : sizeof block;
        pattern_fill(block, visitor->count, n);
        r = SSL_write(visitor->ssl, block, (int)n);
        visitor->count += r > 0 ? (size_t)r : 0;
    }
    SSL_shutdown(visitor->ssl);
}

/* Off after each read, on again some turns later: what came in between is kept. */
struct pauses {
    struct later later;
    unsigned count;
};

static void resume(void *context) {
    struct house *house = context;
    io_stream_read(house->stream, true);
}

static void pause_reading(struct house *house, struct slice bytes) {
    struct pauses *pauses = house->more;
    (void)bytes;
    io_stream_read(house->stream, false);
    pauses->count++;
    pauses->later =
        (struct later){.loop = house->loop, .n = house->reads % 3, .fn = resume, .context = house};
    later_start(&pauses->later);
}

static void test_upload_with_pauses(void) {
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct pauses pauses = {.count = 0};
        struct house house;
        struct visitor visitor;
        shake(&house, &visitor, visitor_uploads, versions[i]);
        house.more = &pauses;
        house.on_bytes = pause_reading;
        house.stops_at_end = true;
        io_stream_read(house.stream, true);
        guarded_run(&house.guarded);
        CHECK_INT(house.end_error, 0);
        CHECK_INT(buf_len(&house.got), LARGE);
        CHECK(pattern_is(buf_slice(&house.got).ptr, 0, buf_len(&house.got)));
        CHECK(pauses.count > 100);
        leave(&house, &visitor);
    }
}

/* --- what comes with the handshake --- */

/* The last message of the handshake and the first request in one segment, cut anywhere. */
static void visitor_says_all_at_once(struct visitor *visitor) {
    int on = 1;
    setsockopt(visitor->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    if (!visitor_shake(visitor))
        return;
    visitor->is_wrong |= SSL_write(visitor->ssl, "request", 7) != 7;
    on = 0;
    setsockopt(visitor->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    visitor_drain(visitor);
}

static void read_on(struct house *house) {
    CHECK_INT(house->ready_error, 0);
    io_stream_read(house->stream, true);
    CHECK_INT(house->reads, 0); /* never from inside */
}

static void test_request_with_handshake(void) {
    for (size_t i = 0; i < 2 * ARRAY_LEN(versions); i++) {
        struct house house;
        struct visitor visitor;
        house_open(&house, tls);
        visitor_init(&visitor, visitor_says_all_at_once);
        SSL_CTX_set_max_proto_version(visitor.ctx, versions[i % 2]);
        house.stops_when_ready = i / 2 == 1;
        house.stops_at_read = true;
        house.on_ready = i / 2 == 0 ? read_on : NULL;
        visitor_start(&visitor, house_connect(&house));
        guarded_run(&house.guarded);
        if (i / 2 == 1) { /* read much later */
            house_settle(&house);
            CHECK_INT(house.reads, 0);
            io_stream_read(house.stream, true);
            guarded_run(&house.guarded);
        }
        CHECK_STR(buf_slice(&house.got), "request");
        leave(&house, &visitor);
        CHECK(!visitor.is_wrong);
    }
}

/* --- hostile clients --- */

/* Every KeyUpdate wants an answer, and none is read. */
static void visitor_asks_for_keys(struct visitor *visitor) {
    int small = 2048;
    setsockopt(visitor->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (!visitor_shake(visitor))
        return;
    for (int i = 0; i < 200000; i++) {
        if (SSL_key_update(visitor->ssl, SSL_KEY_UPDATE_REQUESTED) != 1 ||
            SSL_do_handshake(visitor->ssl) != 1)
            return;
        visitor->count++;
    }
}

static void test_key_updates(void) {
    struct house house;
    struct visitor visitor;
    house_open(&house, tls);
    visitor_init(&visitor, visitor_asks_for_keys);
    house.send_buffer = SMALL_SEND_BUFFER;
    visitor_start(&visitor, house_connect(&house));
    guarded_run(&house.guarded);
    house.stops_at_end = true;
    io_stream_read(house.stream, true);
    guarded_run(&house.guarded);
    CHECK_INT(house.end_error, -EPROTO);
    leave(&house, &visitor);
    CHECK(visitor.count < 200000);
}

static void visitor_renegotiates(struct visitor *visitor) {
    if (!visitor_shake(visitor))
        return;
    visitor->is_wrong |= SSL_renegotiate(visitor->ssl) != 1;
    SSL_do_handshake(visitor->ssl);
    visitor->count = SSL_get_peer_finished(visitor->ssl, NULL, 0);
}

static void test_no_renegotiation(void) {
    struct house house;
    struct visitor visitor;
    shake(&house, &visitor, visitor_renegotiates, TLS1_2_VERSION);
    house.stops_at_end = true;
    io_stream_read(house.stream, true);
    guarded_run(&house.guarded);
    CHECK(house.end_error < 0);
    CHECK_INT(buf_len(&house.got), 0);
    CHECK_INT(house.readies, 1);
    leave(&house, &visitor);
}

static void visitor_sends_wrong_record(struct visitor *visitor) {
    static const char record[] = "\x17\x03\x03\x00\x20"
                                 "0123456789abcdef0123456789abcdef";
    if (!visitor_shake(visitor))
        return;
    visitor->is_wrong |= SSL_write(visitor->ssl, "abc", 3) != 3;
    visitor->is_wrong |= write(visitor->fd, record, 37) != 37;
    visitor_drain(visitor);
}

static void visitor_breaks_off(struct visitor *visitor) {
    if (visitor_shake(visitor))
        visitor->is_wrong |= SSL_write(visitor->ssl, "abc", 3) != 3;
}

static void test_ends(void) {
    static const struct {
        const char *label;
        visitor_fn *run;
        int error;
        const char *reason;
    } rows[] = {
        {"wrong record", visitor_sends_wrong_record, -EPROTO,
         "the client does not keep to the protocol of TLS"},
        {"no close_notify", visitor_breaks_off, -ECONNRESET,
         "the connection ended without the end of TLS"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows) * ARRAY_LEN(versions); i++) {
        struct house house;
        struct visitor visitor;
        test_row(rows[i / 2].label);
        shake(&house, &visitor, rows[i / 2].run, versions[i % 2]);
        house.stops_at_end = true;
        io_stream_read(house.stream, true);
        guarded_run(&house.guarded);
        CHECK_INT(house.end_error, rows[i / 2].error);
        CHECK_STR(slice_from_cstr(house.reason), rows[i / 2].reason);
        CHECK_STR(buf_slice(&house.got), "abc");
        leave(&house, &visitor);
        CHECK(!visitor.is_wrong);
    }
}

/* --- out of memory --- */

/* With the n-th allocation of ours failing: told, and the stream is used no more. */
static void test_out_of_memory(void) {
    static char block[KIB(256)];
    uint64_t asked = 1;
    for (uint64_t n = 1; asked >= n; n++) {
        struct house house;
        struct visitor visitor;
        house_open(&house, tls);
        visitor_init(&visitor, visitor_shakes_and_drains);
        visitor_start(&visitor, house_connect(&house));
        mem_fail_after(n);
        guarded_run(&house.guarded);
        int error = house.ready_error;
        for (int i = 0; i < 20 && error == 0; i++)
            error = io_stream_write(house.stream, slice_make(block, sizeof block), MIB(64));
        asked = mem_alloc_count();
        mem_fail_after(0);
        CHECK(error == 0 || error == -ENOMEM || error == -EPIPE || error == -EIO);
        if (error != 0)
            CHECK_INT(io_stream_write(house.stream, SLICE("x"), MIB(64)), -EPIPE);
        leave(&house, &visitor);
        REQUIRE(n < 1000);
    }
}

/* --- crowds --- */

enum { CROWD = 60 };

struct crowd {
    struct io_loop *loop;
    unsigned n_ready, n_turns, most_a_turn, a_turn;
    struct io_message message;
};

static void on_crowd_ready(void *context, int error) {
    struct crowd *crowd = context;
    CHECK_INT(error, 0);
    crowd->a_turn++;
    if (++crowd->n_ready == CROWD)
        io_loop_stop(crowd->loop);
}

/* What the loop does beside the handshakes: it comes to its turn between them. */
static void on_turn(struct io_message *message) {
    struct crowd *crowd = CONTAINER_OF(message, struct crowd, message);
    crowd->n_turns++;
    crowd->most_a_turn = crowd->a_turn > crowd->most_a_turn ? crowd->a_turn : crowd->most_a_turn;
    crowd->a_turn = 0;
    if (crowd->n_ready < CROWD)
        io_loop_post(crowd->loop, &crowd->message);
}

/* Nobody is turned away, and nobody else has to wait until all of them are through. */
static void test_crowd(void) {
    static const struct io_stream_events events = {.on_read = house_on_read,
                                                   .on_end = house_on_end};
    struct house house;
    struct visitor visitors[CROWD];
    struct io_stream *streams[CROWD];
    house_open(&house, tls);
    struct crowd crowd = {.loop = house.loop, .message = {.deliver = on_turn}};
    for (size_t i = 0; i < CROWD; i++) {
        int fds[2];
        REQUIRE(tcp_pair(fds, 64 * 1024));
        visitor_init(&visitors[i], visitor_shakes_and_drains);
        visitor_start(&visitors[i], fds[1]);
        REQUIRE(io_stream_new(house.loop, IO_STREAM_TCP, fds[0], &events, &house, &streams[i]) ==
                0);
    }
    /* All have said what they say first. */
    for (size_t i = 0; i < CROWD; i++) {
        while (!io_stream_has_input(streams[i]))
            sched_yield();
        CHECK_INT(io_stream_accept_tls(streams[i], tls, SLICE_EMPTY, on_crowd_ready, &crowd), 0);
    }
    io_loop_post(house.loop, &crowd.message);
    guarded_run(&house.guarded);
    CHECK_INT(crowd.n_ready, CROWD);
    CHECK(crowd.n_turns > 5);
    CHECK(crowd.most_a_turn < CROWD);
    for (size_t i = 0; i < CROWD; i++)
        io_stream_free(streams[i]);
    house_close(&house);
    for (size_t i = 0; i < CROWD; i++) {
        visitor_stop(&visitors[i]);
        CHECK(visitors[i].shook);
    }
}

/* Those that wait for their turn may go. */
static void test_crowd_goes(void) {
    static const struct io_stream_events events = {.on_read = house_on_read,
                                                   .on_end = house_on_end};
    struct house house;
    struct visitor visitors[CROWD];
    struct io_stream *streams[CROWD];
    struct crowd crowd = {.n_ready = CROWD};
    house_open(&house, tls);
    for (size_t i = 0; i < CROWD; i++) {
        int fds[2];
        REQUIRE(tcp_pair(fds, 64 * 1024));
        visitor_init(&visitors[i], visitor_shakes_and_drains);
        visitor_start(&visitors[i], fds[1]);
        REQUIRE(io_stream_new(house.loop, IO_STREAM_TCP, fds[0], &events, &house, &streams[i]) ==
                0);
    }
    for (size_t i = 0; i < CROWD; i++) {
        while (!io_stream_has_input(streams[i]))
            sched_yield();
        CHECK_INT(io_stream_accept_tls(streams[i], tls, SLICE_EMPTY, on_crowd_ready, &crowd), 0);
    }
    struct later later = {.loop = house.loop, .n = 2, .fn = house_stop, .context = &house};
    later_start(&later);
    guarded_run(&house.guarded);
    for (size_t i = 0; i < CROWD; i++)
        io_stream_free(streams[i]);
    house_settle(&house);
    CHECK(crowd.n_ready < 2 * CROWD);
    house_close(&house);
    for (size_t i = 0; i < CROWD; i++)
        visitor_stop(&visitors[i]);
}

TEST_MAIN(TEST(prepare), TEST(test_records), TEST(test_echo), TEST(test_large_answer),
          TEST(test_upload_with_pauses), TEST(test_request_with_handshake), TEST(test_key_updates),
          TEST(test_no_renegotiation), TEST(test_ends), TEST(test_out_of_memory), TEST(test_crowd),
          TEST(test_crowd_goes), TEST(clean_up))
