/*
 * Dials: literals, localhost, several addresses of which some refuse and some never answer, time,
 * giving up. Names and name servers are in test_resolver.c.
 */
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "dial_fixture.h"

/* --- one address --- */

static void test_literals(void) {
    static const struct {
        const char *host, *listens, *text;
    } rows[] = {
        {"127.0.0.1", "127.0.0.1", "127.0.0.1:%u"},
        {"127.0.0.9", "127.0.0.9", "127.0.0.9:%u"},
        {"::1", "::1", "[::1]:%u"},
        {"0:0:0:0:0:0:0:1", "::1", "[::1]:%u"},
        {"::ffff:127.0.0.1", "127.0.0.1", "127.0.0.1:%u"},
        {"::ffff:7f00:1", "127.0.0.1", "127.0.0.1:%u"},
        {"0.0.0.0", "127.0.0.1", "0.0.0.0:%u"},
        {"::", "::1", "[::]:%u"},
        {"localhost", "127.0.0.1", "127.0.0.1:%u"},
        {"localhost", "::1", "[::1]:%u"},
        {"LocalHost", "127.0.0.1", "127.0.0.1:%u"},
        {"localhost.", "127.0.0.1", "127.0.0.1:%u"},
        {"a.b.localhost", "127.0.0.1", "127.0.0.1:%u"},
        {"a.LOCALHOST.", "::1", "[::1]:%u"},
    };
    struct dialer dialer;
    dialer_open(&dialer, NULL, 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].host);
        uint16_t port = 0;
        char text[64];
        CLEANUP(io_fd_close) int listener = listen_at(rows[i].listens, &port, 8);
        struct call call = {.allowed_from = 0};
        call_start(&call, &dialer, slice_from_cstr(rows[i].host), port, 5000);
        guarded_run(&dialer.guarded);
        CHECK_INT(call.calls, 1);
        REQUIRE(call.result.fd >= 0);
        /* text has a %u of the table's */
        size_t n = strcspn(rows[i].text, "%");
        snprintf(text, sizeof text, "%.*s%u", (int)n, rows[i].text, (unsigned)port);
        CHECK_STR(slice_from_cstr(call.result.peer.text), text);
        CHECK_INT(fcntl(call.result.fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
        CHECK_INT(fcntl(call.result.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        CHECK(call.seen_loopback[0]);
        CLEANUP(io_fd_close) int accepted = accept(listener, NULL, NULL);
        CHECK_INT(write(accepted, "x", 1), 1);
        struct pollfd ready = {.fd = call.result.fd, .events = POLLIN};
        CHECK_INT(poll(&ready, 1, 5000), 1);
        call_close(&call);
    }
    CHECK_INT(dialer.server.queries, 0);
    dialer_close(&dialer);
}

static void test_not_a_host(void) {
    static const struct slice rows[] = {
        SLICE_INIT(""),
        SLICE_INIT("."),
        SLICE_INIT(".example.test"),
        SLICE_INIT("a..test"),
        SLICE_INIT("127.1"),
        SLICE_INIT("127.0.0.1.1"),
        SLICE_INIT("2130706433"),
        SLICE_INIT("0x7f.0.0.1"),
        SLICE_INIT("0x7f000001"),
        SLICE_INIT("test.0x1"),
        SLICE_INIT("256.0.0.1"),
        SLICE_INIT("127.0.0.01"),
        SLICE_INIT("[::1]"),
        SLICE_INIT("::1%lo"),
        SLICE_INIT("fe80::1%eth0"),
        SLICE_INIT("a b.test"),
        SLICE_INIT("a/b"),
        SLICE_INIT("user@host.test"),
        SLICE_INIT("*.test"),
        SLICE_INIT("b\xc3\xbc"
                   "cher.test"),
        SLICE_INIT("host.test\0.evil.test"),
        SLICE_INIT("host.test\n"),
        SLICE_INIT("a123456789012345678901234567890123456789012345678901234567890123.test"),
        SLICE_INIT("a23456789.a23456789.a23456789.a23456789.a23456789.a23456789.a23456789."
                   "a23456789.a23456789.a23456789.a23456789.a23456789.a23456789.a23456789."
                   "a23456789.a23456789.a23456789.a23456789.a23456789.a23456789.a23456789."
                   "a23456789.a23456789.a23456789.a23456789.a23456789"),
    };
    struct dialer dialer;
    dialer_open(&dialer, NULL, 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct call call = {.allowed_from = 0};
        test_row(rows[i].ptr);
        call_start(&call, &dialer, rows[i], 80, 5000);
        guarded_run(&dialer.guarded);
        CHECK_INT(call.calls, 1);
        CHECK_INT(call.result.fd, -1);
        CHECK_INT(call.result.error, -EINVAL);
        CHECK_INT(call.result.step, IO_DIAL_RESOLVE);
        CHECK_STR(slice_from_cstr(call.result.reason), "not a host name");
        CHECK_INT(call.seen_count, 0);
        call_close(&call);
    }
    CHECK_INT(dialer.server.queries, 0);
    dialer_close(&dialer);
}

static void test_refused(void) {
    struct dialer dialer;
    dialer_open(&dialer, NULL, 0);
    uint16_t port = dead_port();
    struct call call = dial_once(&dialer, "127.0.0.1", port);
    CHECK_INT(call.result.error, -ECONNREFUSED);
    CHECK_INT(call.result.step, IO_DIAL_CONNECT);
    CHECK_STR(slice_from_cstr(call.result.reason), "connection refused");
    CHECK_INT(port_of(&call.result.peer), port);
    call = dial_once(&dialer, "localhost", port);
    CHECK_INT(call.result.error, -ECONNREFUSED);
    CHECK_INT(call.seen_count, 2);
    CHECK(strncmp(call.seen[0], "127.0.0.1:", 10) == 0);
    CHECK(strncmp(call.seen[1], "[::1]:", 6) == 0);
    /* What refuses is not waited for; a busy machine may need another try to show it. */
    for (int i = 0; i < 5 && call.took >= 250; i++)
        call = dial_once(&dialer, "localhost", port);
    CHECK(call.took < 250);
    dialer_close(&dialer);
}

static void test_not_allowed(void) {
    struct dialer dialer;
    uint16_t port = 0;
    int listener = listen_at("127.0.0.1", &port, 8);
    dialer_open(&dialer, NULL, 0);
    struct call call = {.allowed_from = 100};
    call_start(&call, &dialer, SLICE("localhost"), port, 5000);
    guarded_run(&dialer.guarded);
    CHECK_INT(call.seen_count, 2);
    CHECK_INT(call.result.error, -EACCES);
    CHECK_INT(call.result.step, IO_DIAL_CONNECT);
    CHECK_STR(slice_from_cstr(call.result.reason), "the address is not allowed");
    CHECK_INT(port_of(&call.result.peer), port);
    call_close(&call);
    /* The first is refused, the second is allowed but has nobody. */
    call = (struct call){.allowed_from = 1};
    call_start(&call, &dialer, SLICE("localhost"), port, 5000);
    guarded_run(&dialer.guarded);
    CHECK_INT(call.result.error, -ECONNREFUSED);
    call_close(&call);
    dialer_close(&dialer);
    io_fd_close(&listener);
}

/* --- several addresses --- */

/* A listening socket whose queue is full: the kernel answers no more connections there. */
struct hole {
    int fds[12];
};

static void hole_close(struct hole *hole) {
    for (size_t i = 0; i < ARRAY_LEN(hole->fds); i++)
        io_fd_close(&hole->fds[i]);
}

/* False: the port is somebody's at that address. */
static bool hole_open(struct hole *hole, const char *host, uint16_t *port) {
    struct io_address address;
    socklen_t size = sizeof address.storage;
    struct sockaddr *sockaddr = (struct sockaddr *)(void *)address.storage;
    for (size_t i = 0; i < ARRAY_LEN(hole->fds); i++)
        hole->fds[i] = -1;
    hole->fds[0] = try_listen_at(host, port, 0);
    if (hole->fds[0] < 0)
        return false;
    if (getsockname(hole->fds[0], sockaddr, &size) != 0)
        CANNOT_GO_ON();
    for (size_t i = 1; i < ARRAY_LEN(hole->fds); i++) {
        hole->fds[i] = socket(sockaddr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(hole->fds[i], sockaddr, size) != 0 && errno != EINPROGRESS)
            CANNOT_GO_ON();
    }
    return true;
}

static const struct zone_row hanging_zone[] = {
    {"hang.test", DNS_A, ZONE_ANSWER, {"127.0.0.2", "127.0.0.3", "127.0.0.4"}},
    {"dual.test", DNS_A, ZONE_ANSWER, {"127.0.0.4"}},
    {"dual.test", DNS_AAAA, ZONE_ANSWER, {"::1"}},
    {"all.test", DNS_A, ZONE_ANSWER, {"127.0.0.2", "127.0.0.3"}},
};

struct holes {
    struct hole a, b, c;
    int good;
    uint16_t port;
};

static void holes_close(struct holes *holes) {
    hole_close(&holes->a);
    hole_close(&holes->b);
    hole_close(&holes->c);
    io_fd_close(&holes->good);
}

/* One port that is free at four addresses: which one is, nobody can know before. */
static void holes_open(struct holes *holes) {
    static const struct hole closed = {{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}};
    for (unsigned i = 0; i < 100; i++) {
        *holes = (struct holes){.a = closed, .b = closed, .c = closed};
        holes->good = listen_at("127.0.0.4", &holes->port, 32);
        if (hole_open(&holes->a, "127.0.0.2", &holes->port) &&
            hole_open(&holes->b, "127.0.0.3", &holes->port) &&
            hole_open(&holes->c, "::1", &holes->port))
            return;
        holes_close(holes);
    }
    fputs("no port is free at four addresses\n", stderr);
    CANNOT_GO_ON();
}

static void test_first_addresses_hang(void) {
    struct dialer dialer;
    struct holes holes;
    char good[64];
    holes_open(&holes);
    dialer_open(&dialer, hanging_zone, ARRAY_LEN(hanging_zone));
    snprintf(good, sizeof good, "127.0.0.4:%u", (unsigned)holes.port);
    struct call call = dial_once(&dialer, "hang.test", holes.port);
    CHECK_INT(call.result.error, 0);
    CHECK_STR(slice_from_cstr(call.result.peer.text), good);
    CHECK_INT(call.seen_count, 3);
    CHECK(call.took >= 490 && call.took < 2000);
    call = dial_once(&dialer, "dual.test", holes.port);
    CHECK_STR(slice_from_cstr(call.result.peer.text), good);
    CHECK_INT(call.seen_count, 2); /* IPv6 was first */
    CHECK(call.took >= 240 && call.took < 2000);
    dialer_close(&dialer);
    holes_close(&holes);
}

static void test_all_hang(void) {
    struct dialer dialer;
    struct holes holes;
    holes_open(&holes);
    dialer_open(&dialer, hanging_zone, ARRAY_LEN(hanging_zone));
    struct call call = {.allowed_from = 0};
    call_start(&call, &dialer, SLICE("all.test"), holes.port, 600);
    guarded_run(&dialer.guarded);
    CHECK_INT(call.result.error, -ETIMEDOUT);
    CHECK_INT(call.result.step, IO_DIAL_CONNECT);
    CHECK_STR(slice_from_cstr(call.result.reason), "timed out");
    CHECK_STR(slice_from_cstr(call.result.peer.text), call.seen[1]);
    CHECK(call.took >= 590 && call.took < 2000);
    call_close(&call);
    dialer_close(&dialer);
    holes_close(&holes);
}

/* Room in the queue of a hole: the kernel's next try, a second after the first, is answered. */
static void open_up(void *context) {
    struct hole *hole = context;
    int accepted;
    for (size_t i = 1; i < ARRAY_LEN(hole->fds); i++)
        io_fd_close(&hole->fds[i]);
    fcntl(hole->fds[0], F_SETFL, O_NONBLOCK);
    while ((accepted = accept(hole->fds[0], NULL, NULL)) >= 0)
        io_fd_close(&accepted);
}

/* An earlier attempt that is answered while a later one runs wins, and the later one is closed. */
static void test_late_winner(void) {
    struct dialer dialer;
    struct holes holes;
    holes_open(&holes);
    dialer_open(&dialer, hanging_zone, ARRAY_LEN(hanging_zone));
    struct call call = {.allowed_from = 0};
    size_t before = count_fds();
    call_start(&call, &dialer, SLICE("all.test"), holes.port, 10000);
    struct io_timer *timer = io_timer_new(dialer.loop, open_up, &holes.a);
    io_timer_start(timer, 400);
    guarded_run(&dialer.guarded);
    CHECK_INT(call.seen_count, 2);
    CHECK_INT(call.result.error, 0);
    CHECK_STR(slice_from_cstr(call.result.peer.text), call.seen[0]);
    CHECK_INT(count_fds(), before + 1 - (ARRAY_LEN(holes.a.fds) - 1));
    call_close(&call);
    io_timer_free(timer);
    dialer_close(&dialer);
    holes_close(&holes);
}

/* --- giving up --- */

static void stop(void *context) {
    struct dialer *dialer = context;
    io_loop_stop(dialer->loop);
}

/* After `turns` of the loop: in the timer, in the look-up, in the connection. */
static void test_free_in_flight(void) {
    static const char *const hosts[] = {"127.0.0.2", "all.test", "quiet.test", "localhost"};
    static const struct zone_row zone[] = {
        {"all.test", DNS_A, ZONE_ANSWER, {"127.0.0.2", "127.0.0.3"}},
        {"quiet.test", 0, ZONE_SILENT, {NULL}},
    };
    struct holes holes;
    holes_open(&holes);
    size_t before = count_fds();
    for (size_t i = 0; i < ARRAY_LEN(hosts) * 8; i++) {
        struct dialer dialer;
        dialer_open(&dialer, zone, ARRAY_LEN(zone));
        struct call call = {.allowed_from = 0};
        struct later later = {.loop = dialer.loop,
                              .n = (unsigned)(i / ARRAY_LEN(hosts)) * 4,
                              .fn = stop,
                              .context = &dialer};
        call_start(&call, &dialer, slice_from_cstr(hosts[i % ARRAY_LEN(hosts)]), holes.port, 9000);
        if (later.n != 0) {
            later_start(&later);
            guarded_run(&dialer.guarded);
        }
        unsigned calls = call.calls;
        call_close(&call);
        later.n = 20;
        later_start(&later);
        guarded_run(&dialer.guarded);
        CHECK_INT(call.calls, calls);
        dialer_close(&dialer);
    }
    CHECK_INT(count_fds(), before);
    CHECK(io_dial_free(NULL) == NULL);
    CHECK(io_resolver_free(NULL) == NULL);
    holes_close(&holes);
}

static void test_free_inside(void) {
    struct dialer dialer;
    uint16_t port = 0;
    int listener = listen_at("127.0.0.1", &port, 8);
    dialer_open(&dialer, NULL, 0);
    static const char *const hosts[] = {"127.0.0.1", "127.0.0.2", "localhost", "a b"};
    struct call calls[ARRAY_LEN(hosts)] = {{.calls = 0}};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        calls[i].frees_inside = true;
        call_start(&calls[i], &dialer, slice_from_cstr(hosts[i]), port, 5000);
    }
    guarded_run(&dialer.guarded);
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        CHECK_INT(calls[i].calls, 1);
        CHECK_INT(calls[i].result.fd >= 0, i % 2 == 0);
        call_close(&calls[i]);
    }
    dialer_close(&dialer);
    io_fd_close(&listener);
}

/* The time counts from the start of the dial, also when the loop was busy or idle before. */
static void test_time_of_an_idle_loop(void) {
    struct dialer dialer;
    uint16_t port = 0;
    int listener = listen_at("127.0.0.1", &port, 8);
    dialer_open(&dialer, NULL, 0);
    uint64_t until = clock_monotonic_ms() + 60;
    while (clock_monotonic_ms() < until)
        continue;
    struct call call = {.allowed_from = 0};
    call_start(&call, &dialer, SLICE("127.0.0.1"), port, 50);
    guarded_run(&dialer.guarded);
    CHECK_INT(call.result.error, 0);
    call_close(&call);
    dialer_close(&dialer);
    io_fd_close(&listener);
}

TEST_MAIN(TEST(test_literals), TEST(test_not_a_host), TEST(test_refused), TEST(test_not_allowed),
          TEST(test_first_addresses_hang), TEST(test_all_hang), TEST(test_late_winner),
          TEST(test_free_in_flight), TEST(test_free_inside), TEST(test_time_of_an_idle_loop))
