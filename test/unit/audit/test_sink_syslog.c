/* The sink that speaks syslog, against real sockets on loopback. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "sink_world.h"
#include "syslog_peer.h"
#include "tls_certs.h"

/* --- servers --- */

struct server {
    int fd;      /* UDP; or TCP, listening */
    int peer_fd; /* TCP, accepted; -1 */
    SSL *ssl;
    unsigned port;
    char url[64];
    struct buf in;
};

static void set_patience(int fd) {
    struct timeval most = {.tv_sec = WAIT_MS / 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most) != 0)
        CANNOT_GO_ON();
}

/* `port` 0: any. */
static struct server server_open(const char *scheme, int type, unsigned port) {
    struct server server = {.peer_fd = -1, .in = BUF_INIT(MIB(64))};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int on = 1;
    server.fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (server.fd < 0 || setsockopt(server.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(server.fd, (struct sockaddr *)&address, len) != 0 ||
        (type == SOCK_STREAM && listen(server.fd, 8) != 0) ||
        getsockname(server.fd, (struct sockaddr *)&address, &len) != 0)
        CANNOT_GO_ON();
    set_patience(server.fd);
    server.port = ntohs(address.sin_port);
    snprintf(server.url, sizeof server.url, "%s://127.0.0.1:%u", scheme, server.port);
    return server;
}

static void server_hang_up(struct server *server, bool reset) {
    struct linger linger = {.l_onoff = reset};
    if (server->peer_fd >= 0 && reset)
        (void)setsockopt(server->peer_fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    SSL_free(server->ssl);
    server->ssl = NULL;
    io_fd_close(&server->peer_fd);
    buf_reset(&server->in, 0);
}

static void server_close(struct server *server) {
    server_hang_up(server, false);
    io_fd_close(&server->fd);
    buf_deinit(&server->in);
}

static bool server_accept(struct server *server) {
    server->peer_fd = accept(server->fd, NULL, NULL);
    if (server->peer_fd < 0)
        return false;
    set_patience(server->peer_fd);
    return true;
}

static bool server_read(struct server *server) {
    char bytes[8192];
    ssize_t n = server->ssl != NULL ? SSL_read(server->ssl, bytes, sizeof bytes)
                                    : recv(server->peer_fd, bytes, sizeof bytes, 0);
    return n > 0 && buf_append(&server->in, slice_make(bytes, (size_t)n)) == 0;
}

/* The next message that came, by its length; empty: the connection ended. */
static struct slice server_next(struct server *server) {
    for (;;) {
        struct slice length, rest, all = buf_slice(&server->in);
        uint64_t n = 0;
        if (slice_cut(all, ' ', &length, &rest)) {
            CHECK_INT(slice_to_u64(length, &n), 0);
            CHECK(length.len != 0 && length.ptr[0] != '0');
            if (rest.len >= n) {
                buf_consume(&server->in, length.len + 1 + (size_t)n);
                return slice_sub(rest, 0, (size_t)n);
            }
        }
        if (!server_read(server))
            return SLICE_EMPTY;
    }
}

static void start(struct world *world, const struct server *server) {
    world->config.syslog_url = slice_from_cstr(server->url);
    CHECK_INT(audit_sink_syslog(world->dir, &world->config, NULL, &world->sink), 0);
}

/* The line that a message carries, and the number of it. */
static struct slice line_of(struct slice message, uint64_t *ret_seq) {
    size_t at = slice_find(message, SLICE("{\"seq\":"));
    struct slice line = slice_from(message, at), number, rest;
    slice_cut(slice_from(line, 7), ',', &number, &rest);
    if (slice_to_u64(number, ret_seq) != 0)
        *ret_seq = 0;
    return line;
}

/* --- what is sent --- */

struct kind_case {
    const char *event, *members, *priority;
};

/* authpriv is 10: 80 and the severity. */
static const struct kind_case kinds[] = {
    {"call", ",\"decision\":\"allowed\"", "<86>1 "},
    {"call", ",\"decision\":\"denied\"", "<84>1 "},
    {"call", ",\"arguments\":{\"decision\":\"denied\"}", "<86>1 "},
    {"call", ",\"reason\":\"\\\"decision\\\":\\\"denied\\\"\"", "<86>1 "},
    {"denied", ",\"count\":3", "<84>1 "},
    {"start", ",\"program\":\"x\"", "<85>1 "},
    {"stop", "", "<85>1 "},
    {"checkpoint", "", "<86>1 "},
    {"gap", ",\"lost\":3", "<83>1 "},
    {"edit", ",\"set\":\"on\"", "<85>1 "},
};

static void check_message(struct slice message, const struct kind_case *kind, struct slice line) {
    char hostname[256], head[512];
    CHECK_INT(gethostname(hostname, sizeof hostname), 0);
    snprintf(head, sizeof head, "%s2026-11-21T22:55:01.123456Z %s cardea %d %s - ", kind->priority,
             hostname, (int)getpid(), kind->event);
    CHECK(slice_starts_with(message, slice_from_cstr(head)));
    CHECK_SLICE(slice_from(message, strlen(head)), line);
}

static void write_kinds(struct world *world) {
    world->config.syslog_facility = CONFIG_SYSLOG_AUTHPRIV;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        world_line(world, kinds[i].event, slice_from_cstr(kinds[i].members));
}

static void test_datagrams(void) {
    struct world world = world_begin();
    struct server server = server_open("udp", SOCK_DGRAM, 0);
    write_kinds(&world);
    start(&world, &server);
    struct slice lines = buf_slice(&world.all), line;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char bytes[4096];
        test_row(kinds[i].members);
        ssize_t n = recv(server.fd, bytes, sizeof bytes, 0);
        REQUIRE(n > 0);
        slice_cut(lines, '\n', &line, &lines);
        check_message(slice_make(bytes, (size_t)n), &kinds[i], line);
    }
    WAIT_UNTIL(state_of(&world).seq == ARRAY_LEN(kinds));
    server_close(&server);
    world_end(&world);
}

static void test_long_datagram(void) {
    static char bytes[70000];
    struct world world = world_begin();
    struct server server = server_open("udp", SOCK_DGRAM, 0);
    struct buf members = BUF_INIT(MIB(1));
    buf_append_cstr(&members, ",\"arguments\":\"");
    for (int i = 0; i < 15500; i++)
        buf_append_cstr(&members, "\\\"\u00e9");
    buf_append_byte(&members, '"');
    world_line(&world, "call", buf_slice(&members));
    start(&world, &server);
    ssize_t n = recv(server.fd, bytes, sizeof bytes, 0);
    REQUIRE(n > 0);
    struct slice message = slice_make(bytes, (size_t)n);
    CHECK(message.len > KIB(28) && message.len <= KIB(60));
    char expected[128];
    snprintf(expected, sizeof expected,
             " - {\"cut\":true,\"bytes\":%zu,\"begin\":\"{\\\"seq\\\":1,", buf_len(&world.all) - 1);
    CHECK(slice_find(message, slice_from_cstr(expected)) != SIZE_MAX);
    CHECK(slice_ends_with(message, SLICE("\"}")));
    buf_deinit(&members);
    server_close(&server);
    world_end(&world);
}

static void test_stream(void) {
    struct world world = world_begin();
    struct server server = server_open("tcp", SOCK_STREAM, 0);
    write_kinds(&world);
    start(&world, &server);
    REQUIRE(server_accept(&server));
    struct slice lines = buf_slice(&world.all), line;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        slice_cut(lines, '\n', &line, &lines);
        check_message(server_next(&server), &kinds[i], line);
    }
    WAIT_UNTIL(state_of(&world).seq == ARRAY_LEN(kinds));
    world_stop(&world);
    CHECK_INT(server_next(&server).len, 0); /* closed, and nothing else came */
    world_calls(&world, 1);
    server_hang_up(&server, false);
    start(&world, &server); /* goes on behind what was acknowledged */
    REQUIRE(server_accept(&server));
    uint64_t seq = 0;
    CHECK(line_of(server_next(&server), &seq).len != 0);
    CHECK_INT(seq, ARRAY_LEN(kinds) + 1);
    server_close(&server);
    world_end(&world);
}

/* A name is looked up; many lines go together. */
static void test_many(void) {
    enum { N = 20000 };
    struct world world = world_begin();
    struct server server = server_open("tcp", SOCK_STREAM, 0);
    world_calls(&world, N);
    snprintf(server.url, sizeof server.url, "tcp://localhost:%u", server.port);
    start(&world, &server);
    REQUIRE(server_accept(&server));
    for (uint64_t i = 1; i <= N; i++) {
        uint64_t seq = 0;
        (void)line_of(server_next(&server), &seq);
        if (seq != i) {
            CHECK_INT(seq, i);
            break;
        }
    }
    server_close(&server);
    world_end(&world);
}

/* --- servers that fail --- */

/* Each line comes at least once, in order, though the server breaks off again and again. */
static void test_broken_off(void) {
    enum { N = 3000, BREAKS = 2 };
    struct world world = world_begin();
    struct server server = server_open("tcp", SOCK_STREAM, 0);
    world_calls(&world, N);
    start(&world, &server);
    uint64_t most = 0;
    for (int i = 0; i <= BREAKS && most < N; i++) {
        REQUIRE(server_accept(&server));
        for (int k = 0; (i == BREAKS || k < 100) && most < N; k++) {
            uint64_t seq = 0;
            struct slice message = server_next(&server);
            REQUIRE(message.len != 0);
            (void)line_of(message, &seq);
            CHECK(seq != 0 && seq <= most + 1);
            most = seq > most ? seq : most;
        }
        if (i < BREAKS)
            server_hang_up(&server, true);
    }
    CHECK_INT(most, N);
    server_close(&server);
    world_end(&world);
}

/* A server that ends the connection whenever it is idle: no failure, nothing is lost. */
static void test_idle_end(void) {
    struct world world = world_begin();
    struct server server = server_open("tcp", SOCK_STREAM, 0);
    start(&world, &server);
    for (uint64_t i = 1; i <= 5; i++) {
        uint64_t seq = 0;
        world_calls(&world, 1);
        REQUIRE(server_accept(&server));
        (void)line_of(server_next(&server), &seq);
        CHECK_INT(seq, i);
        WAIT_UNTIL(state_of(&world).seq == i);
        server_hang_up(&server, false);
        CHECK_STR(slice_from_cstr(state_of(&world).error), "");
    }
    server_close(&server);
    world_end(&world);
}

static void test_comes_later(void) {
    struct world world = world_begin();
    struct server server = server_open("tcp", SOCK_STREAM, 0);
    unsigned port = server.port;
    server_close(&server);
    world_calls(&world, 3);
    start(&world, &server);
    WAIT_UNTIL(strstr(state_of(&world).error, "Connection refused") != NULL);
    server = server_open("tcp", SOCK_STREAM, port);
    REQUIRE(server_accept(&server));
    for (uint64_t i = 1; i <= 3; i++) {
        uint64_t seq = 0;
        (void)line_of(server_next(&server), &seq);
        CHECK_INT(seq, i);
    }
    WAIT_UNTIL(state_of(&world).seq == 3 && state_of(&world).error[0] == '\0');
    server_close(&server);
    world_end(&world);
}

/* It ends in time whatever the peer does: reads nothing, says nothing, is not there at all. */
static void test_ends_in_time(void) {
    enum { UNREAD, NO_HANDSHAKE, NO_NAME, NOBODY, CASES };
    for (int i = 0; i < CASES; i++) {
        struct world world = world_begin();
        struct server server = server_open(i == NO_HANDSHAKE ? "tls" : "tcp", SOCK_STREAM, 0);
        if (i == NO_NAME)
            snprintf(server.url, sizeof server.url, "tcp://no-such-host.invalid:514");
        if (i == NOBODY)
            io_fd_close(&server.fd);
        world_calls(&world, i == UNREAD ? 100000 : 10);
        start(&world, &server);
        if (i == UNREAD || i == NO_HANDSHAKE)
            CHECK(server_accept(&server));
        if (i == UNREAD) { /* until the buffers of both sides are full */
            uint64_t seq = 0;
            WAIT_UNTIL(state_of(&world).seq != 0);
            do {
                seq = state_of(&world).seq;
                poll(NULL, 0, 300);
            } while (state_of(&world).seq != seq);
            CHECK(seq < 100000);
        }
        uint64_t begin = clock_monotonic_ms();
        world.sink = audit_sink_stop(world.sink, 300);
        CHECK(clock_monotonic_ms() - begin < 3000);
        server_close(&server);
        world_end(&world);
    }
}

/* --- TLS --- */

struct tls_case {
    const char *name, *names;
    bool is_stranger;  /* of an authority that is not in ca_bundle */
    const char *error; /* NULL: it is fine */
};

static bool handshake(struct server *server, const struct cert *cert) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate(context, cert->x509) != 1 ||
        SSL_CTX_use_PrivateKey(context, cert->key) != 1)
        CANNOT_GO_ON();
    server->ssl = SSL_new(context);
    SSL_CTX_free(context);
    if (server->ssl == NULL || SSL_set_fd(server->ssl, server->peer_fd) != 1)
        CANNOT_GO_ON();
    return SSL_accept(server->ssl) == 1;
}

static void test_tls(void) {
    static const struct tls_case cases[] = {
        {"fine", "IP:127.0.0.1", false, NULL},
        {"another name", "DNS:logs.test", false, "IP address mismatch"},
        {"another authority", "IP:127.0.0.1", true, "certificate"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        test_row(cases[i].name);
        struct cert_spec authority_spec = {.subject = "ca", .is_authority = true};
        struct cert_spec spec = {.subject = "logs", .names = cases[i].names};
        struct cert ca = cert_make(&authority_spec, NULL);
        struct cert other = cert_make(&authority_spec, NULL);
        struct cert cert = cert_make(&spec, cases[i].is_stranger ? &other : &ca);
        char ca_path[] = "/tmp/cardea-sink-ca-XXXXXX";
        cert_write(&ca, ca_path);
        struct world world = world_begin();
        struct server server = server_open("tls", SOCK_STREAM, 0);
        world.config.syslog_ca_bundle = slice_from_cstr(ca_path);
        world_calls(&world, 3);
        start(&world, &server);
        REQUIRE(server_accept(&server));
        bool is_fine = handshake(&server, &cert);
        struct slice first = server_next(&server);
        CHECK_INT(first.len != 0, cases[i].error == NULL);
        if (cases[i].error == NULL) {
            CHECK(is_fine);
            CHECK(SSL_version(server.ssl) >= TLS1_2_VERSION);
            WAIT_UNTIL(state_of(&world).seq == 3);
        } else {
            WAIT_UNTIL(strstr(state_of(&world).error, cases[i].error) != NULL);
            CHECK_INT(state_of(&world).seq, 0);
        }
        server_close(&server);
        world_end(&world);
        unlink(ca_path);
        cert_free(&ca);
        cert_free(&other);
        cert_free(&cert);
    }
}

static void test_bad_roots(void) {
    struct world world = world_begin();
    struct server server = server_open("tls", SOCK_STREAM, 0);
    world.config.syslog_ca_bundle = SLICE("/nonexistent.pem");
    world_calls(&world, 1);
    start(&world, &server);
    WAIT_UNTIL(strstr(state_of(&world).error, "/nonexistent.pem") != NULL);
    server_close(&server);
    world_end(&world);
}

/* --- */

struct url_case {
    const char *url;
    enum syslog_transport transport;
    const char *host, *port; /* host NULL: refused */
};

static void test_urls(void) {
    static const struct url_case cases[] = {
        {"udp://logs.example:514", SYSLOG_UDP, "logs.example", "514"},
        {"TLS://[2001:db8::1]:6514/", SYSLOG_TLS, "2001:db8::1", "6514"},
        {"tcp://10.0.0.1:601", SYSLOG_TCP, "10.0.0.1", "601"},
        {"tcp://10.0.0.1", 0, NULL, NULL},
        {"tcp://[::1]601", 0, NULL, NULL},
        {"tcp://[::1:601", 0, NULL, NULL},
        {"tcp://:601", 0, NULL, NULL},
        {"tcp://a:0", 0, NULL, NULL},
        {"tcp://a:65536", 0, NULL, NULL},
        {"tcp://a:-1", 0, NULL, NULL},
        {"http://a:1", 0, NULL, NULL},
        {"", 0, NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct syslog_peer peer = {.fd = -1};
        test_row(cases[i].url);
        bool is_one = syslog_peer_parse(slice_from_cstr(cases[i].url), &peer);
        CHECK_INT(is_one, cases[i].host != NULL);
        if (is_one) {
            CHECK_INT(peer.transport, cases[i].transport);
            CHECK_STR(slice_from_cstr(peer.host), cases[i].host);
            CHECK_STR(slice_from_cstr(peer.port), cases[i].port);
        }
    }
}

TEST_MAIN(TEST(test_datagrams), TEST(test_long_datagram), TEST(test_stream), TEST(test_many),
          TEST(test_broken_off), TEST(test_idle_end), TEST(test_comes_later),
          TEST(test_ends_in_time), TEST(test_tls), TEST(test_bad_roots), TEST(test_urls))
