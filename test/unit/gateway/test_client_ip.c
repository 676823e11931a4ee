/* Whose address a request has: what proxies say, and what everybody can say. */
#include "border.h"
#include "head.h"

#define NO_HOPS UINT64_MAX

static struct slice trusted[] = {SLICE_INIT("10.0.0.0/8"), SLICE_INIT("fd00::/8"),
                                 SLICE_INIT("192.0.2.1"), SLICE_INIT("nonsense")};

struct row {
    const char *name;
    bool x_real_ip, x_forwarded_for;
    uint64_t hops;
    const char *peer, *fields, *client;
};

static void check(const struct row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct config config = {
            .listen_address = SLICE("0.0.0.0:8000"),
            .trusted_proxies = trusted,
            .n_trusted_proxies = ARRAY_LEN(trusted),
            .client_ip = {.x_real_ip = rows[i].x_real_ip,
                          .x_forwarded_for = rows[i].x_forwarded_for,
                          .hops = rows[i].hops},
        };
        CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
        struct border *border = NULL;
        struct network peer;
        char fields[KIB(8)], text[NETWORK_TEXT];
        test_row(rows[i].name);
        snprintf(fields, sizeof fields, "Host: x\r\n%s", rows[i].fields);
        const struct http_head *head = read_head(parser, "GET / HTTP/1.1", fields);
        REQUIRE(head != NULL);
        REQUIRE(network_parse_address(slice_from_cstr(rows[i].peer), &peer));
        REQUIRE(border_new(&config, &border) == 0);
        struct network client = border_client(border, head, &peer);
        CHECK_STR(network_write_address(&client, text), rows[i].client);
        border_free(border);
    }
}

#define REAL(ip)      "X-Real-IP: " ip "\r\n"
#define FORWARDED(ip) "X-Forwarded-For: " ip "\r\n"

static void test_who_is_believed(void) {
    static const struct row rows[] = {
        {"nothing is configured", false, false, NO_HOPS, "10.0.0.1",
         REAL("1.1.1.1") FORWARDED("2.2.2.2"), "10.0.0.1"},
        {"real ip of a trusted proxy", true, false, NO_HOPS, "10.0.0.1", REAL("1.1.1.1"),
         "1.1.1.1"},
        {"real ip of anybody", true, false, NO_HOPS, "11.0.0.1", REAL("1.1.1.1"), "11.0.0.1"},
        {"forwarded of anybody", false, true, NO_HOPS, "11.0.0.1", FORWARDED("1.1.1.1"),
         "11.0.0.1"},
        {"hops of anybody", false, false, 0, "11.0.0.1", FORWARDED("1.1.1.1"), "11.0.0.1"},
        {"one address", true, false, NO_HOPS, "192.0.2.1", REAL("1.1.1.1"), "1.1.1.1"},
        {"its neighbour", true, false, NO_HOPS, "192.0.2.2", REAL("1.1.1.1"), "192.0.2.2"},
        {"IPv6", true, false, NO_HOPS, "fd00::1", REAL("2001:db8::1"), "2001:db8::1"},
        {"an IPv4 peer in IPv6 form", true, false, NO_HOPS, "::ffff:10.0.0.1", REAL("1.1.1.1"),
         "1.1.1.1"},
        {"real ip goes first", true, true, NO_HOPS, "10.0.0.1",
         FORWARDED("2.2.2.2") REAL("1.1.1.1"), "1.1.1.1"},
        {"real ip that is not asked for", false, true, NO_HOPS, "10.0.0.1",
         REAL("1.1.1.1") FORWARDED("2.2.2.2"), "2.2.2.2"},
        {"forwarded that is not asked for", true, false, NO_HOPS, "10.0.0.1", FORWARDED("2.2.2.2"),
         "10.0.0.1"},
        {"neither is there", true, true, NO_HOPS, "10.0.0.1", "", "10.0.0.1"},
    };
    check(rows, ARRAY_LEN(rows));
}

static void test_real_ip(void) {
    static const struct row rows[] = {
        {"with a port", true, false, NO_HOPS, "10.0.0.1", REAL("1.1.1.1:55"), "1.1.1.1"},
        {"with brackets", true, false, NO_HOPS, "10.0.0.1", REAL("[2001:db8::1]"), "2001:db8::1"},
        {"with both", true, false, NO_HOPS, "10.0.0.1", REAL("[2001:db8::1]:5"), "2001:db8::1"},
        {"mapped", true, false, NO_HOPS, "10.0.0.1", REAL("::ffff:1.1.1.1"), "1.1.1.1"},
        {"a name", true, false, NO_HOPS, "10.0.0.1", REAL("evil.example"), "10.0.0.1"},
        {"a word", true, false, NO_HOPS, "10.0.0.1", REAL("unknown"), "10.0.0.1"},
        {"a list", true, false, NO_HOPS, "10.0.0.1", REAL("1.1.1.1, 2.2.2.2"), "10.0.0.1"},
        {"twice", true, false, NO_HOPS, "10.0.0.1", REAL("1.1.1.1") REAL("1.1.1.1"), "10.0.0.1"},
        {"empty", true, false, NO_HOPS, "10.0.0.1", REAL(""), "10.0.0.1"},
        {"short", true, false, NO_HOPS, "10.0.0.1", REAL("1.1"), "10.0.0.1"},
        {"octal", true, false, NO_HOPS, "10.0.0.1", REAL("01.1.1.1"), "10.0.0.1"},
        {"a zone", true, false, NO_HOPS, "10.0.0.1", REAL("fe80::1%eth0"), "10.0.0.1"},
        {"a block", true, false, NO_HOPS, "10.0.0.1", REAL("1.1.1.0/24"), "10.0.0.1"},
        {"malformed, then the list", true, true, NO_HOPS, "10.0.0.1",
         REAL("nonsense") FORWARDED("2.2.2.2"), "2.2.2.2"},
    };
    check(rows, ARRAY_LEN(rows));
}

static void test_hops(void) {
    static const struct row rows[] = {
        {"the last", false, false, 0, "10.0.0.1", FORWARDED("1.1.1.1, 2.2.2.2, 3.3.3.3"),
         "3.3.3.3"},
        {"the one before", false, false, 1, "10.0.0.1", FORWARDED("1.1.1.1, 2.2.2.2, 3.3.3.3"),
         "2.2.2.2"},
        {"the first", false, false, 2, "10.0.0.1", FORWARDED("1.1.1.1,2.2.2.2 ,3.3.3.3"),
         "1.1.1.1"},
        {"too few", false, false, 3, "10.0.0.1", FORWARDED("1.1.1.1, 2.2.2.2, 3.3.3.3"),
         "10.0.0.1"},
        {"over all lines", false, false, 2, "10.0.0.1",
         FORWARDED("1.1.1.1, 2.2.2.2") FORWARDED("3.3.3.3") FORWARDED("4.4.4.4"), "2.2.2.2"},
        {"lines between", false, false, 1, "10.0.0.1",
         FORWARDED("1.1.1.1") "X-Other: 9.9.9.9\r\n" FORWARDED("3.3.3.3"), "1.1.1.1"},
        {"a trusted one counts as any", false, false, 1, "10.0.0.1", FORWARDED("1.1.1.1, 10.0.0.2"),
         "1.1.1.1"},
        {"garbage there", false, false, 1, "10.0.0.1", FORWARDED("1.1.1.1, x, 3.3.3.3"),
         "10.0.0.1"},
        {"garbage elsewhere", false, false, 0, "10.0.0.1", FORWARDED("x, y, 3.3.3.3"), "3.3.3.3"},
        {"empty entries count", false, false, 1, "10.0.0.1", FORWARDED("1.1.1.1,,3.3.3.3"),
         "10.0.0.1"},
        {"with a port", false, false, 0, "10.0.0.1", FORWARDED("1.1.1.1, 3.3.3.3:99"), "3.3.3.3"},
        {"hops go before the walk", false, true, 1, "10.0.0.1", FORWARDED("1.1.1.1, 3.3.3.3"),
         "1.1.1.1"},
    };
    check(rows, ARRAY_LEN(rows));
}

static void test_walk(void) {
    static const struct row rows[] = {
        {"one", false, true, NO_HOPS, "10.0.0.1", FORWARDED("1.1.1.1"), "1.1.1.1"},
        {"what a stranger wrote", false, true, NO_HOPS, "10.0.0.1", FORWARDED("9.9.9.9, 1.1.1.1"),
         "1.1.1.1"},
        {"a chain of ours", false, true, NO_HOPS, "10.0.0.1",
         FORWARDED("9.9.9.9, 1.1.1.1, 10.0.0.3, fd00::2"), "1.1.1.1"},
        {"a chain over lines", false, true, NO_HOPS, "10.0.0.1",
         FORWARDED("9.9.9.9") FORWARDED("1.1.1.1, 10.0.0.3") FORWARDED("10.0.0.2"), "1.1.1.1"},
        {"nobody but ours", false, true, NO_HOPS, "10.0.0.1", FORWARDED("10.0.0.3, 10.0.0.2"),
         "10.0.0.1"},
        {"garbage is not passed", false, true, NO_HOPS, "10.0.0.1",
         FORWARDED("1.1.1.1, unknown, 10.0.0.2"), "10.0.0.1"},
        {"garbage behind it", false, true, NO_HOPS, "10.0.0.1", FORWARDED("unknown, 1.1.1.1"),
         "1.1.1.1"},
        {"empty", false, true, NO_HOPS, "10.0.0.1", FORWARDED(""), "10.0.0.1"},
        {"a comma", false, true, NO_HOPS, "10.0.0.1", FORWARDED(","), "10.0.0.1"},
        {"ports and brackets", false, true, NO_HOPS, "10.0.0.1",
         FORWARDED("[2001:db8::9]:1, 10.0.0.7:2, [fd00::1]"), "2001:db8::9"},
        {"one that claims to be ours", false, true, NO_HOPS, "10.0.0.1",
         FORWARDED("9.9.9.9, 10.1.1.1, 1.1.1.1"), "1.1.1.1"},
    };
    check(rows, ARRAY_LEN(rows));
}

/* At the limit, and one past it. */
static void test_bounds(void) {
    char chain[KIB(4)] = "X-Forwarded-For: 1.1.1.1";
    for (size_t i = 1; i < LIMIT_FORWARDED; i++)
        snprintf(chain + strlen(chain), sizeof chain - strlen(chain), ",10.0.0.2");
    char longer[KIB(5)];
    snprintf(longer, sizeof longer, "%s,10.0.0.2\r\n", chain);
    snprintf(chain + strlen(chain), sizeof chain - strlen(chain), "\r\n");
    const struct row rows[] = {
        {"a walk to the limit", false, true, NO_HOPS, "10.0.0.1", chain, "1.1.1.1"},
        {"a walk beyond", false, true, NO_HOPS, "10.0.0.1", longer, "10.0.0.1"},
        {"hops to the limit", false, false, LIMIT_FORWARDED - 1, "10.0.0.1", chain, "1.1.1.1"},
        {"hops beyond", false, false, LIMIT_FORWARDED, "10.0.0.1", longer, "10.0.0.1"},
    };
    check(rows, ARRAY_LEN(rows));
}

static void test_trust(void) {
    static const struct {
        const char *address;
        bool is_trusted;
    } rows[] = {
        {"10.0.0.0", true},       {"10.255.255.255", true}, {"11.0.0.0", false},
        {"9.255.255.255", false}, {"192.0.2.1", true},      {"192.0.2.0", false},
        {"fd12::1", true},        {"fe80::1", false},       {"::ffff:10.1.1.1", true},
        {"::10.1.1.1", false},    {"127.0.0.1", false},
    };
    const struct config config = {.listen_address = SLICE("0.0.0.0:8000"),
                                  .trusted_proxies = trusted,
                                  .n_trusted_proxies = ARRAY_LEN(trusted)};
    struct border *border = NULL;
    REQUIRE(border_new(&config, &border) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct network address;
        test_row(rows[i].address);
        REQUIRE(network_parse_address(slice_from_cstr(rows[i].address), &address));
        CHECK_INT(border_trusts(border, &address), rows[i].is_trusted);
    }
    const struct network none = {.family_bits = 0};
    test_row("no address");
    CHECK(!border_trusts(border, &none));
    border_free(border);
}

TEST_MAIN(TEST(test_who_is_believed), TEST(test_real_ip), TEST(test_hops), TEST(test_walk),
          TEST(test_bounds), TEST(test_trust))
