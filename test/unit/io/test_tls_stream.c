/*
 * What travels over TLS: large transfers both ways with back-pressure, limits of writing, how a
 * connection ends and how it does not, servers that drip, that ask for new keys without end, that
 * break off. The handshake is in test_tls.c.
 */
#include <unistd.h>

#include "tls_peer.h"

static struct cert root, cert;
static char root_file[] = "/tmp/root-XXXXXX";

static void prepare(void) {
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    root = cert_make(&(struct cert_spec){.subject = "test root", .is_authority = true}, NULL);
    cert = cert_make(&(struct cert_spec){.subject = "s", .names = "DNS:host.test"}, &root);
    cert_write(&root, root_file);
}

static void clean_up(void) {
    CHECK_INT(unlink(root_file), 0);
    cert_free(&root);
    cert_free(&cert);
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* A connection whose handshake is done. */
struct pair {
    struct client client;
    struct peer peer;
};

static void pair_init(struct pair *pair, peer_fn *run) {
    client_open(&pair->client, root_file);
    peer_init(&pair->peer, &cert, run);
    pair->client.stops_when_ready = true;
}

static void pair_shake(struct pair *pair) {
    client_start(&pair->client, &pair->peer, SLICE("host.test"));
    guarded_run(&pair->client.guarded);
    CHECK_INT(pair->client.readies, 1);
    CHECK_INT(pair->client.ready_error, 0);
}

static void pair_open(struct pair *pair, peer_fn *run, int version) {
    pair_init(pair, run);
    SSL_CTX_set_max_proto_version(pair->peer.ctx, version);
    pair_shake(pair);
}

static void pair_close(struct pair *pair) {
    client_close(&pair->client);
    peer_stop(&pair->peer);
}

static void run_to_end(struct pair *pair) {
    pair->client.stops_at_end = true;
    io_stream_read(pair->client.stream, true);
    guarded_run(&pair->client.guarded);
    CHECK_INT(pair->client.ends, 1);
}

/* --- large transfers --- */

enum { LARGE = 16 * 1024 * 1024, MAX_QUEUED = 256 * 1024, RECORDS_OVERHEAD = 4096 };

/* Writes what has room, all of it at last. */
struct upload {
    size_t written, total, block;
    size_t most_queued;
};

static void upload_more(struct client *client) {
    struct upload *upload = client->more;
    static char block[128 * 1024];
    while (upload->written < upload->total) {
        size_t n = upload->total - upload->written;
        n = n < upload->block ? n : upload->block;
        pattern_fill(block, upload->written, n);
        size_t before = io_stream_queued(client->stream);
        int r = io_stream_write(client->stream, slice_make(block, n), MAX_QUEUED);
        if (r == -ENOBUFS) {
            CHECK_INT(io_stream_queued(client->stream), before);
            return;
        }
        CHECK_INT(r, 0);
        if (r != 0)
            return;
        upload->written += n;
        size_t queued = io_stream_queued(client->stream);
        if (queued > upload->most_queued)
            upload->most_queued = queued;
    }
    io_stream_shutdown(client->stream);
}

/* Reads nothing until it is told to. */
static void peer_drains_later(struct peer *peer) {
    if (peer_shake(peer)) {
        sem_wait(&peer->gate);
        peer_drain(peer);
    }
}

static void test_upload(void) {
    static const size_t blocks[] = {128 * 1024, 16384, 1000};
    for (size_t i = 0; i < ARRAY_LEN(blocks) * ARRAY_LEN(versions); i++) {
        struct upload upload = {.total = LARGE, .block = blocks[i / 2]};
        struct pair pair;
        pair_open(&pair, peer_drains_later, versions[i % 2]);
        pair.client.more = &upload;
        pair.client.on_room = upload_more;
        upload_more(&pair.client);
        CHECK(io_stream_queued(pair.client.stream) > 0);
        CHECK(upload.written < LARGE);
        sem_post(&pair.peer.gate);
        run_to_end(&pair);
        CHECK_INT(pair.client.end_error, -ECONNRESET); /* the peer ends without close_notify */
        CHECK(upload.most_queued <= MAX_QUEUED + RECORDS_OVERHEAD);
        CHECK(pair.client.drains > 0);
        pair_close(&pair);
        CHECK_INT(pair.peer.count, LARGE);
        CHECK(!pair.peer.is_wrong);
        CHECK_INT(pair.peer.ssl_error, SSL_ERROR_ZERO_RETURN); /* close_notify came before FIN */
    }
}

static void send_pattern(struct peer *peer, size_t n) {
    peer->result = 1;
    static char block[64 * 1024];
    for (size_t sent = 0; sent < n && peer->result > 0; sent += (size_t)peer->result) {
        size_t part = n - sent < sizeof block ? n - sent : sizeof block;
        pattern_fill(block, sent, part);
        peer->result = SSL_write(peer->ssl, block, (int)part);
        peer->sent += peer->result > 0 ? (size_t)peer->result : 0;
    }
}

static void peer_uploads(struct peer *peer) {
    if (peer_shake(peer)) {
        send_pattern(peer, LARGE);
        peer->result = SSL_shutdown(peer->ssl);
    }
}

/* Reading is turned off after each call, and on again some turns later. */
struct pauses {
    struct later later;
    size_t buffered_most;
    unsigned count;
};

static void resume(void *context) {
    struct client *client = context;
    if (client->stream == NULL)
        return;
    client->is_paused = false;
    unsigned reads = client->reads;
    io_stream_read(client->stream, true);
    CHECK_INT(client->reads, reads); /* never from inside */
}

static void pause_now_and_then(struct client *client) {
    struct pauses *pauses = client->more;
    if (client->reads % 3 == 0)
        return;
    io_stream_read(client->stream, false);
    if (client->reads % 5 == 0) { /* off and on is on */
        io_stream_read(client->stream, true);
        return;
    }
    client->is_paused = true;
    pauses->count++;
    pauses->later = (struct later){
        .loop = client->loop, .n = client->reads % 4, .fn = resume, .context = client};
    later_start(&pauses->later);
}

static void test_download(void) {
    for (size_t i = 0; i < 2 * ARRAY_LEN(versions); i++) {
        struct pauses pauses = {.count = 0};
        struct pair pair;
        pair_open(&pair, peer_uploads, versions[i % 2]);
        pair.client.more = &pauses;
        if (i / 2 == 1)
            pair.client.on_bytes = pause_now_and_then;
        run_to_end(&pair);
        CHECK_INT(pair.client.end_error, 0);
        CHECK_INT(buf_len(&pair.client.got), LARGE);
        CHECK(pattern_is(buf_slice(&pair.client.got).ptr, 0, buf_len(&pair.client.got)));
        CHECK(i / 2 == 0 || pauses.count > 20);
        CHECK_INT(pair.client.drains, 0);
        pair_close(&pair);
    }
}

static void pause_for_good(struct client *client) {
    io_stream_read(client->stream, false);
    client->is_paused = true;
}

/* A stream that is not read takes nothing: the server cannot send more than sockets hold. */
static void test_pause_reaches_the_server(void) {
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct pair pair;
        pair_init(&pair, peer_uploads);
        SSL_CTX_set_max_proto_version(pair.peer.ctx, versions[i]);
        pair.client.receive_buffer = 64 * 1024;
        pair_shake(&pair);
        /* Once it is read, then no more. */
        pair.client.on_bytes = pause_for_good;
        io_stream_read(pair.client.stream, true);
        struct io_timer *timer = io_timer_new(pair.client.loop, client_stop, &pair.client);
        io_timer_start(timer, 300);
        guarded_run(&pair.client.guarded);
        CHECK_INT(pair.client.reads, 1);
        pair.client.stream = io_stream_free(pair.client.stream);
        io_timer_free(timer);
        pair_close(&pair);
        CHECK(pair.peer.sent < LARGE / 2);
    }
}

/* Sends back what comes, while more comes. */
static void peer_echoes(struct peer *peer) {
    static char block[20000];
    if (!peer_shake(peer))
        return;
    while ((peer->result = SSL_read(peer->ssl, block, sizeof block)) > 0) {
        peer->count += (size_t)peer->result;
        if (SSL_write(peer->ssl, block, peer->result) <= 0)
            return;
    }
    peer->ssl_error = SSL_get_error(peer->ssl, peer->result);
    SSL_shutdown(peer->ssl);
}

static void test_both_ways(void) {
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct upload upload = {.total = LARGE, .block = 30000};
        struct pair pair;
        pair_open(&pair, peer_echoes, versions[i]);
        pair.client.more = &upload;
        pair.client.on_room = upload_more;
        upload_more(&pair.client);
        run_to_end(&pair);
        CHECK_INT(pair.client.end_error, 0);
        CHECK_INT(buf_len(&pair.client.got), LARGE);
        CHECK(pattern_is(buf_slice(&pair.client.got).ptr, 0, buf_len(&pair.client.got)));
        pair_close(&pair);
        CHECK_INT(pair.peer.count, LARGE);
        CHECK_INT(pair.peer.ssl_error, SSL_ERROR_ZERO_RETURN);
    }
}

/* Every byte a segment of its own, from the first of the handshake on. */
static void peer_drips(struct peer *peer) {
    if (peer_shake(peer)) {
        send_pattern(peer, 3000);
        SSL_shutdown(peer->ssl);
        peer_drain(peer);
    }
}

static void test_drip(void) {
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct pair pair;
        char block[2000];
        pattern_fill(block, 0, sizeof block);
        pair_init(&pair, peer_drips);
        SSL_CTX_set_max_proto_version(pair.peer.ctx, versions[i]);
        pair.peer.drips = true;
        pair_shake(&pair);
        CHECK_INT(io_stream_write(pair.client.stream, slice_make(block, sizeof block), KIB(64)), 0);
        io_stream_shutdown(pair.client.stream);
        run_to_end(&pair);
        CHECK_INT(pair.client.end_error, 0);
        CHECK_INT(buf_len(&pair.client.got), 3000);
        CHECK(pattern_is(buf_slice(&pair.client.got).ptr, 0, 3000));
        pair_close(&pair);
        CHECK_INT(pair.peer.count, sizeof block);
        CHECK(!pair.peer.is_wrong);
    }
}

/* --- limits of writing --- */

static void peer_waits_for_end(struct peer *peer) {
    char in[1];
    if (peer_shake(peer))
        peer->result = (int)recv(peer->fd, in, 1, MSG_PEEK); /* and reads nothing */
    for (;;) {
        struct tcp_info info;
        socklen_t size = sizeof info;
        if (getsockopt(peer->fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
            info.tcpi_state != TCP_ESTABLISHED)
            return;
        sched_yield();
    }
}

static void test_limits(void) {
    static char block[512 * 1024];
    struct pair pair;
    pair_open(&pair, peer_waits_for_end, TLS1_3_VERSION);
    struct io_stream *stream = pair.client.stream;
    CHECK_INT(io_stream_write(stream, SLICE(""), 0), 0);
    CHECK_INT(io_stream_write(stream, SLICE("hello"), 4), -ENOBUFS);
    CHECK_INT(io_stream_write(stream, SLICE("hello"), 5), 0);
    CHECK_INT(io_stream_queued(stream), 0);
    int r = 0;
    for (int i = 0; i < 100 && r == 0; i++) {
        r = io_stream_write(stream, slice_make(block, sizeof block), MIB(1));
        CHECK(io_stream_queued(stream) <= MIB(1) + RECORDS_OVERHEAD);
    }
    CHECK_INT(r, -ENOBUFS);
    size_t queued = io_stream_queued(stream);
    CHECK(queued > 0);
    CHECK_INT(io_stream_write(stream, slice_make(block, 2), queued + 1), -ENOBUFS);
    CHECK_INT(io_stream_queued(stream), queued);
    CHECK_INT(io_stream_write(stream, slice_make(block, 2), queued + 2), 0);
    CHECK(io_stream_queued(stream) > queued + 2); /* what is on the wire counts */
    CHECK_INT(io_stream_write(stream, slice_make(block, 1), queued), -ENOBUFS);
    pair.client.stream = io_stream_free(pair.client.stream);
    pair_close(&pair);
}

/* With the n-th allocation of ours failing: told, and the stream is used no more. */
static void test_write_out_of_memory(void) {
    static char block[KIB(256)];
    uint64_t asked = 1;
    for (uint64_t n = 1; asked >= n; n++) {
        struct pair pair;
        pair_open(&pair, peer_waits_for_end, TLS1_3_VERSION);
        mem_fail_after(n);
        int error = 0;
        for (int i = 0; i < 20 && error == 0; i++)
            error = io_stream_write(pair.client.stream, slice_make(block, sizeof block), MIB(64));
        asked = mem_alloc_count();
        mem_fail_after(0);
        CHECK(error == 0 || error == -ENOMEM || error == -EPIPE || error == -EIO);
        if (error != 0)
            CHECK_INT(io_stream_write(pair.client.stream, SLICE("x"), MIB(64)), -EPIPE);
        pair_close(&pair);
        REQUIRE(n < 1000);
    }
}

/* --- ends --- */

static void peer_says_goodbye(struct peer *peer) {
    if (peer_shake(peer)) {
        send_pattern(peer, 70000);
        SSL_shutdown(peer->ssl);
        peer_drain(peer);
    }
}

/* The connection ends in the middle of the text; anybody on the way could have done that. */
static void peer_breaks_off(struct peer *peer) {
    if (peer_shake(peer))
        send_pattern(peer, 70000);
}

static void peer_breaks_off_in_record(struct peer *peer) {
    peer_breaks_off(peer);
    if (write(peer->fd, "\x17\x03\x03\x01\x00half", 9) != 9)
        peer->is_wrong = true;
}

static void peer_sends_wrong_record(struct peer *peer) {
    static const char record[] = "\x17\x03\x03\x00\x20"
                                 "0123456789abcdef0123456789abcdef";
    peer_breaks_off(peer);
    if (write(peer->fd, record, 37) != 37)
        peer->is_wrong = true;
}

static void peer_sends_plain_text(struct peer *peer) {
    peer_breaks_off(peer);
    if (write(peer->fd, "HTTP/1.1 200 OK\r\n\r\n", 19) != 19)
        peer->is_wrong = true;
}

static void peer_sends_alert(struct peer *peer) {
    SSL_set_verify(peer->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    peer_shake(peer);
}

static const struct end_row {
    const char *label;
    peer_fn *run;
    int error;
    size_t bytes;
    const char *reason;
} end_rows[] = {
    {"close_notify", peer_says_goodbye, 0, 70000, ""},
    {"no close_notify", peer_breaks_off, -ECONNRESET, 70000,
     "the connection ended without the end of TLS"},
    {"in a record", peer_breaks_off_in_record, -ECONNRESET, 70000,
     "the connection ended without the end of TLS"},
    {"wrong record", peer_sends_wrong_record, -EPROTO, 70000,
     "the server does not keep to the protocol of TLS"},
    {"plain text", peer_sends_plain_text, -EPROTO, 70000, NULL},
};

static void test_ends(void) {
    for (size_t i = 0; i < ARRAY_LEN(end_rows) * 4; i++) {
        const struct end_row *row = &end_rows[i / 4];
        struct pauses pauses = {.count = 0};
        struct pair pair;
        test_row(row->label);
        pair_open(&pair, row->run, versions[i % 2]);
        pair.client.more = &pauses;
        if (i / 2 % 2 == 1) {
            pair.client.on_bytes = pause_now_and_then;
            client_settle(&pair.client);
            CHECK_INT(pair.client.reads + pair.client.ends, 0);
        }
        run_to_end(&pair);
        CHECK_INT(pair.client.end_error, row->error);
        CHECK_INT(buf_len(&pair.client.got), row->bytes);
        if (row->reason != NULL)
            CHECK_STR(slice_from_cstr(pair.client.reason), row->reason);
        io_stream_read(pair.client.stream, true); /* behind the end: nothing */
        client_settle(&pair.client);
        CHECK_INT(pair.client.ends, 1);
        pair_close(&pair);
        CHECK(!pair.peer.is_wrong);
    }
}

/* In TLS 1.3 the server can ask for a certificate when the client's handshake is already done. */
static void test_late_alert(void) {
    struct pair pair;
    pair_open(&pair, peer_sends_alert, TLS1_3_VERSION);
    run_to_end(&pair);
    CHECK_INT(pair.client.end_error, -EPROTO);
    CHECK_STR(slice_from_cstr(pair.client.reason), "the server wants a certificate of the client");
    pair_close(&pair);
}

/* The direction that is still open goes on. */
static void peer_answers_after_end(struct peer *peer) {
    if (peer_shake(peer)) {
        peer_drain(peer);
        send_pattern(peer, 50000);
        SSL_shutdown(peer->ssl);
    }
}

static void test_half_close(void) {
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct pair pair;
        char block[100];
        pattern_fill(block, 0, sizeof block);
        pair_open(&pair, peer_answers_after_end, versions[i]);
        CHECK_INT(io_stream_write(pair.client.stream, slice_make(block, sizeof block), 100), 0);
        io_stream_shutdown(pair.client.stream);
        io_stream_shutdown(pair.client.stream); /* again: nothing */
        CHECK_INT(io_stream_write(pair.client.stream, SLICE("more"), 100), -EPIPE);
        run_to_end(&pair);
        CHECK_INT(pair.client.end_error, 0);
        CHECK_INT(buf_len(&pair.client.got), 50000);
        pair_close(&pair);
        CHECK_INT(pair.peer.count, sizeof block);
    }
}

static void test_free_inside(void) {
    for (unsigned mask = 0; mask < 4; mask++) {
        struct pair pair;
        pair_open(&pair, peer_says_goodbye, versions[mask % 2]);
        pair.client.frees_at_read = mask / 2 == 0;
        pair.client.frees_at_end = true;
        pair.client.stop_after = mask / 2 == 0 ? 1 : 0;
        pair.client.stops_at_end = true;
        io_stream_read(pair.client.stream, true);
        guarded_run(&pair.client.guarded);
        client_settle(&pair.client);
        CHECK(pair.client.stream == NULL);
        CHECK_INT(pair.client.ends, mask / 2);
        if (mask / 2 == 0)
            CHECK_INT(pair.client.reads, 1);
        pair_close(&pair);
    }
}

/* Freed with a message to itself under way, and with bytes that nobody read. */
static void test_free_before_delivery(void) {
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct pair pair;
        pair_open(&pair, peer_uploads, versions[i]);
        pair.client.on_bytes = pause_now_and_then;
        pair.client.more = &(struct pauses){.count = 0};
        pair.client.stop_after = 100000;
        io_stream_read(pair.client.stream, true);
        guarded_run(&pair.client.guarded);
        pair.client.on_bytes = NULL;
        pair.client.is_paused = false;
        unsigned reads = pair.client.reads;
        io_stream_read(pair.client.stream, false);
        io_stream_read(pair.client.stream, true);
        pair.client.stream = io_stream_free(pair.client.stream);
        client_settle(&pair.client);
        CHECK_INT(pair.client.reads, reads);
        CHECK_INT(pair.client.ends, 0);
        pair_close(&pair);
    }
}

/* --- hostile servers --- */

/* Every KeyUpdate wants an answer, and none is read. */
static void peer_asks_for_keys(struct peer *peer) {
    int small = 2048;
    setsockopt(peer->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (!peer_shake(peer))
        return;
    for (int i = 0; i < 200000; i++) {
        if (SSL_key_update(peer->ssl, SSL_KEY_UPDATE_REQUESTED) != 1 ||
            SSL_do_handshake(peer->ssl) != 1)
            return;
        peer->count++;
    }
}

static void test_key_updates(void) {
    struct pair pair;
    pair_init(&pair, peer_asks_for_keys);
    pair.client.send_buffer = SMALL_SEND_BUFFER;
    pair_shake(&pair);
    pair.client.frees_at_end = true;
    run_to_end(&pair);
    CHECK_INT(pair.client.end_error, -EPROTO);
    CHECK_INT(buf_len(&pair.client.got), 0);
    pair_close(&pair);
    CHECK(pair.peer.count < 200000);
}

/* New keys now and then are as they should be, in both directions. */
static void peer_changes_keys(struct peer *peer) {
    char bytes[100];
    if (!peer_shake(peer))
        return;
    for (int i = 0; i < 20; i++) {
        peer->is_wrong |= SSL_key_update(peer->ssl, SSL_KEY_UPDATE_REQUESTED) != 1;
        peer->is_wrong |= SSL_write(peer->ssl, "x", 1) != 1;
        peer->is_wrong |= SSL_read(peer->ssl, bytes, sizeof bytes) != 1;
    }
    SSL_shutdown(peer->ssl);
}

static void answer(struct client *client) {
    CHECK_INT(io_stream_write(client->stream, SLICE("y"), 1000), 0);
}

static void test_new_keys(void) {
    struct pair pair;
    pair_open(&pair, peer_changes_keys, TLS1_3_VERSION);
    pair.client.on_bytes = answer;
    run_to_end(&pair);
    CHECK_INT(pair.client.end_error, 0);
    CHECK_INT(buf_len(&pair.client.got), 20);
    pair_close(&pair);
    CHECK(!pair.peer.is_wrong);
}

static void peer_renegotiates(struct peer *peer) {
    if (peer_shake(peer)) {
        SSL_renegotiate(peer->ssl);
        peer->result = SSL_do_handshake(peer->ssl);
        peer_drain(peer);
    }
}

static void test_no_renegotiation(void) {
    struct pair pair;
    pair_init(&pair, peer_renegotiates);
    SSL_CTX_set_max_proto_version(pair.peer.ctx, TLS1_2_VERSION);
    pair_shake(&pair);
    CHECK_INT(io_stream_write(pair.client.stream, SLICE("x"), 1000), 0);
    run_to_end(&pair);
    CHECK(pair.client.end_error < 0);
    CHECK_INT(buf_len(&pair.client.got), 0);
    pair_close(&pair);
    CHECK_INT(pair.client.readies, 1);
}

TEST_MAIN(TEST(prepare), TEST(test_upload), TEST(test_download),
          TEST(test_pause_reaches_the_server), TEST(test_both_ways), TEST(test_drip),
          TEST(test_limits), TEST(test_write_out_of_memory), TEST(test_ends), TEST(test_late_alert),
          TEST(test_half_close), TEST(test_free_inside), TEST(test_free_before_delivery),
          TEST(test_key_updates), TEST(test_new_keys), TEST(test_no_renegotiation), TEST(clean_up))
