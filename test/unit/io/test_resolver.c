/*
 * Names: the hosts file, DNS over UDP and TCP, search lists, name servers that refuse, lie, are
 * silent or are not there.
 */
#include <unistd.h>

#include "dial_fixture.h"

static const struct zone_row zone[] = {
    {"four.test", DNS_A, ZONE_ANSWER, {"127.0.0.1"}},
    {"six.test", DNS_AAAA, ZONE_ANSWER, {"::1"}},
    {"both.test", DNS_A, ZONE_ANSWER, {"127.0.0.2", "127.0.0.3", "127.0.0.4"}},
    {"both.test", DNS_AAAA, ZONE_ANSWER, {"2001:db8::1", "2001:db8::2"}},
    {"none.test", 0, ZONE_NODATA, {NULL}},
    {"broken.test", 0, ZONE_SERVFAIL, {NULL}},
    {"refused.test", 0, ZONE_REFUSED, {NULL}},
    {"no-six.test", DNS_A, ZONE_ANSWER, {"127.0.0.1"}},
    {"no-six.test", DNS_AAAA, ZONE_SILENT, {NULL}},
    {"broken-six.test", DNS_A, ZONE_ANSWER, {"127.0.0.1"}},
    {"broken-six.test", DNS_AAAA, ZONE_SERVFAIL, {NULL}},
    {"quiet.test", 0, ZONE_SILENT, {NULL}},
    {"*.quiet.test", 0, ZONE_SILENT, {NULL}},
    {"many.test", DNS_A, ZONE_MANY, {NULL}},
    {"twice.test", DNS_A, ZONE_ANSWER, {"127.0.0.5", "127.0.0.5", "127.0.0.6", "127.0.0.5"}},
    {"mapped.test", DNS_AAAA, ZONE_ANSWER, {"::ffff:127.0.0.1"}},
    {"zero.test", DNS_A, ZONE_ANSWER, {"0.0.0.0"}},
    {"long.test", DNS_A, ZONE_OVER_TCP, {"127.0.0.1"}},
    {"a.one.test", DNS_AAAA, ZONE_ANSWER, {"::1"}},
    {"a.two.test", DNS_A, ZONE_ANSWER, {"127.0.0.7"}},
    {"b.two.test", DNS_A, ZONE_ANSWER, {"127.0.0.7"}},
    {"b.two.test", DNS_AAAA, ZONE_NODATA, {NULL}},
    {"b", DNS_A, ZONE_ANSWER, {"127.0.0.8"}},
    {"c.one.test", 0, ZONE_SERVFAIL, {NULL}},
    {"c.two.test", DNS_A, ZONE_ANSWER, {"127.0.0.7"}},
    {"d.one.test", DNS_A, ZONE_SERVFAIL, {NULL}},
    {"d.one.test", DNS_AAAA, ZONE_NODATA, {NULL}},
    {"d.two.test", DNS_A, ZONE_ANSWER, {"127.0.0.7"}},
    {"late-six.test", DNS_A, ZONE_ANSWER, {"127.0.0.9"}},
    {"late-six.test", DNS_AAAA, ZONE_LATE, {"::1"}},
    {"x.one.test", DNS_A, ZONE_ANSWER, {"127.0.0.8"}},
    {"x.y.one.test", DNS_A, ZONE_ANSWER, {"127.0.0.7"}},
    {"x.y", DNS_A, ZONE_ANSWER, {"127.0.0.8"}},
    {"*.cut.test", 0, ZONE_CUT, {"127.0.0.1"}},
    {"*.flipped.test", DNS_A, ZONE_FLIPPED, {"127.0.0.1"}},
    {"*.nonsense.test", 0, ZONE_LONG, {NULL}},
};

/* Host names as they are looked up: in this order these addresses are tried. */
static void check_seen(const struct call *call, const char *const *expected, uint16_t port) {
    size_t n = 0;
    for (; n < 20 && expected[n] != NULL; n++) {
        char text[64];
        snprintf(text, sizeof text, strchr(expected[n], ':') != NULL ? "[%s]:%u" : "%s:%u",
                 expected[n], (unsigned)port);
        CHECK_STR(slice_from_cstr(call->seen[n]), text);
    }
    CHECK_INT(call->seen_count, n);
}

static void prepare(void) {
    CHECK_INT(setenv("LOCALDOMAIN", "one.test two.test", 1), 0);
    CHECK_INT(setenv("CARES_HOSTS", "/dev/null", 1), 0);
}

/* --- what is found --- */

static void test_order(void) {
    static const struct {
        const char *host;
        const char *expected[20];
    } rows[] = {
        {"four.test", {"127.0.0.1"}},
        {"FOUR.Test.", {"127.0.0.1"}},
        {"six.test", {"::1"}},
        {"twice.test", {"127.0.0.5", "127.0.0.6"}},
        {"mapped.test", {"127.0.0.1"}},
        {"broken-six.test", {"127.0.0.1"}},
        {"no-six.test", {"127.0.0.1"}},
        {"long.test", {"127.0.0.1"}},
        {"late-six.test", {"::1", "127.0.0.9"}}, /* RFC 8305 section 3 */
        {"many.test",
         {"127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4", "127.0.1.5", "127.0.1.6", "127.0.1.7",
          "127.0.1.8", "127.0.1.9", "127.0.1.10", "127.0.1.11", "127.0.1.12", "127.0.1.13",
          "127.0.1.14", "127.0.1.15", "127.0.1.16"}},
        /* The search list: both kinds of addresses come from one domain. */
        {"a", {"::1"}},
        {"b", {"127.0.0.7"}},
        {"b.", {"127.0.0.8"}},
        {"x.y", {"127.0.0.8"}},
        {"x.y.", {"127.0.0.8"}},
    };
    struct dialer dialer;
    dialer_open(&dialer, zone, ARRAY_LEN(zone));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].host);
        struct call call = {.allowed_from = 100}; /* nothing is connected to */
        /* Where one kind never comes, the time ends the dial; that the other one was refused is
         * still what there is to say. */
        bool is_half = strcmp(rows[i].host, "no-six.test") == 0;
        call_start(&call, &dialer, slice_from_cstr(rows[i].host), 80, is_half ? 300 : 5000);
        guarded_run(&dialer.guarded);
        CHECK_INT(call.result.error, -EACCES);
        CHECK_INT(call.result.step, IO_DIAL_CONNECT);
        check_seen(&call, rows[i].expected, 80);
        call_close(&call);
    }
    CHECK(dialer.server.tcp_queries > 0);
    dialer_close(&dialer);
}

static void test_loopback_in_disguise(void) {
    static const char *const hosts[] = {"mapped.test", "zero.test", "four.test", "six.test"};
    struct dialer dialer;
    dialer_open(&dialer, zone, ARRAY_LEN(zone));
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        test_row(hosts[i]);
        struct call call = {.allowed_from = 100};
        call_start(&call, &dialer, slice_from_cstr(hosts[i]), 80, 5000);
        guarded_run(&dialer.guarded);
        CHECK_INT(call.seen_count, 1);
        CHECK(call.seen_loopback[0]);
        call_close(&call);
    }
    dialer_close(&dialer);
}

static void test_connects(void) {
    static const char *const hosts[] = {"four.test", "long.test", "no-six.test", "broken-six.test"};
    struct dialer dialer;
    uint16_t port = 0;
    int listener = listen_at("127.0.0.1", &port, 8);
    dialer_open(&dialer, zone, ARRAY_LEN(zone));
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        test_row(hosts[i]);
        struct call call = dial_once(&dialer, hosts[i], port);
        CHECK_INT(call.result.error, 0);
        CHECK(call.took < 1400); /* also without the answer for IPv6 */
    }
    dialer_close(&dialer);
    io_fd_close(&listener);
}

/* --- what is not found --- */

static void test_not_found(void) {
    static const struct {
        const char *host;
        int error;
        const char *reason;
    } rows[] = {
        {"nobody.test", -ENOENT, "no such host"},
        {"nobody", -ENOENT, "no such host"},
        {"nobody.", -ENOENT, "no such host"},
        {"hidden.onion", -ENOENT, "no such host"},
        {"none.test", -ENOENT, "the host name has no address"},
        {"broken.test", -EIO, "no name server could answer"},
        {"refused.test", -EIO, "no name server could answer"},
        {"quiet.test", -ETIMEDOUT, "the name server did not answer in time"},
        {"d", -EIO, "no name server could answer"},
        {"c", -EIO, "no name server could answer"}, /* not the one of the next domain */
    };
    struct dialer dialer;
    dialer_open(&dialer, zone, ARRAY_LEN(zone));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].host);
        struct call call = {.allowed_from = 0};
        call_start(&call, &dialer, slice_from_cstr(rows[i].host), 80,
                   rows[i].error == -ETIMEDOUT ? 300 : 5000);
        guarded_run(&dialer.guarded);
        CHECK_INT(call.calls, 1);
        CHECK_INT(call.result.fd, -1);
        CHECK_INT(call.result.step, IO_DIAL_RESOLVE);
        CHECK_INT(call.result.error, rows[i].error);
        CHECK_STR(slice_from_cstr(call.result.reason), rows[i].reason);
        CHECK_INT(call.seen_count, 0);
        call_close(&call);
    }
    dialer_close(&dialer);
}

static void test_no_name_server(void) {
    struct dialer dialer;
    char address[64];
    dialer_open(&dialer, zone, ARRAY_LEN(zone));
    snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)dead_port());
    resolver_set_test_servers(dialer.resolver, address);
    struct call call = dial_once(&dialer, "four.test", 80);
    CHECK_INT(call.result.step, IO_DIAL_RESOLVE);
    CHECK_INT(call.result.error, -EIO);
    CHECK_STR(slice_from_cstr(call.result.reason), "no name server could answer");
    /* The next in the list is asked. */
    char list[160];
    snprintf(list, sizeof list, "%s,%s", address, dialer.server.address);
    resolver_set_test_servers(dialer.resolver, list);
    call = dial_once(&dialer, "four.test", dead_port());
    CHECK_INT(call.result.step, IO_DIAL_CONNECT);
    CHECK_INT(call.seen_count, 1);
    dialer_close(&dialer);
}

/* --- many at once --- */

/* A name server that is silent about a hundred names holds up nobody. */
static void test_silence_blocks_nobody(void) {
    enum { SILENT = 100 };
    struct dialer dialer;
    uint16_t port = 0;
    static struct call silent[SILENT], other;
    int listener = listen_at("127.0.0.1", &port, 8);
    size_t before = count_fds();
    dialer_open(&dialer, zone, ARRAY_LEN(zone));
    memset(silent, 0, sizeof silent);
    for (size_t i = 0; i < SILENT; i++) {
        char host[64];
        snprintf(host, sizeof host, "h%zu.quiet.test", i);
        call_start(&silent[i], &dialer, slice_from_cstr(host), port, 1000);
    }
    call_start(&other, &dialer, SLICE("four.test"), port, 5000);
    guarded_run(&dialer.guarded);
    CHECK_INT(other.result.error, 0);
    CHECK(other.took < 990);
    for (size_t i = 0; i < SILENT; i++) {
        CHECK_INT(silent[i].calls, 1);
        CHECK_INT(silent[i].result.error, -ETIMEDOUT);
        CHECK(silent[i].took >= 990 && silent[i].took < 3000);
        call_close(&silent[i]);
    }
    call_close(&other);
    dialer_close(&dialer);
    CHECK_INT(count_fds(), before);
    io_fd_close(&listener);
}

/* Answers cut at each length, with each byte wrong, and long nonsense: in the end every dial is
 * told something, and an address only where it was in the answer. */
static void test_bad_answers(void) {
    enum { N = 64 };
    static const char *const kinds[] = {"cut", "flipped", "nonsense"};
    static struct call calls[ARRAY_LEN(kinds) * N];
    struct dialer dialer;
    dialer_open(&dialer, zone, ARRAY_LEN(zone));
    memset(calls, 0, sizeof calls);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        char host[64];
        snprintf(host, sizeof host, "%zu.%s.test.", i / ARRAY_LEN(kinds),
                 kinds[i % ARRAY_LEN(kinds)]);
        calls[i].allowed_from = 100;
        call_start(&calls[i], &dialer, slice_from_cstr(host), 80, 400);
    }
    guarded_run(&dialer.guarded);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        CHECK_INT(calls[i].calls, 1);
        CHECK_INT(calls[i].result.fd, -1);
        CHECK(calls[i].result.error < 0 && calls[i].result.reason != NULL);
        CHECK(calls[i].seen_count <= 1);
        call_close(&calls[i]);
    }
    dialer_close(&dialer);
}

/* --- the hosts file --- */

static void test_hosts_file(void) {
    static const struct {
        const char *host;
        const char *expected[8];
    } rows[] = {
        {"own.name", {"127.0.0.21"}},
        {"alias", {"127.0.0.21"}},
        {"OWN.Name.", {"127.0.0.21"}}, /* IPv6 and IPv4 in turn */
        {"several.test",
         {"2001:db8::1", "127.0.0.22", "2001:db8::2", "127.0.0.23", "127.0.0.26", "127.0.0.27"}},
        {"both.test", {"127.0.0.24"}}, /* not the other kind from DNS */
    };
    char path[] = "/tmp/hosts-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] =
        "# comment\n127.0.0.21 own.name alias\n127.0.0.22 several.test\n127.0.0.23 several.test\n"
        "2001:db8::1\tseveral.test\n127.0.0.26 several.test x\n2001:db8::2 several.test\n"
        "127.0.0.27 several.test\n127.0.0.24 both.test\nnot-an-address own.name\n127.0.0.25\n";
    CHECK_INT(write(fd, text, sizeof text - 1), sizeof text - 1);
    io_fd_close(&fd);
    CHECK_INT(setenv("CARES_HOSTS", path, 1), 0);
    struct dialer dialer;
    dialer_open(&dialer, zone, ARRAY_LEN(zone));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].host);
        struct call call = {.allowed_from = 100};
        call_start(&call, &dialer, slice_from_cstr(rows[i].host), 80, 5000);
        guarded_run(&dialer.guarded);
        check_seen(&call, rows[i].expected, 80);
        call_close(&call);
    }
    CHECK_INT(dialer.server.queries, 0);
    struct call call = dial_once(&dialer, "four.test", dead_port());
    CHECK_INT(call.seen_count, 1);
    CHECK(dialer.server.queries > 0);
    dialer_close(&dialer);
    unlink(path);
    CHECK_INT(setenv("CARES_HOSTS", "/dev/null", 1), 0);
}

TEST_MAIN(TEST(prepare), TEST(test_order), TEST(test_loopback_in_disguise), TEST(test_connects),
          TEST(test_not_found), TEST(test_no_name_server), TEST(test_silence_blocks_nobody),
          TEST(test_bad_answers), TEST(test_hosts_file))
