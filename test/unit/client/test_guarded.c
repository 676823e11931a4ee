/*
 * Guarded requests from end to end: URLs that strangers could write, and names whose answers change
 * or are of two minds. A canary listens on loopback beside them, and must never see a connection.
 * Where an address of the internet is needed, 127.0.0.2 is it, which the rules open.
 */
#include <errno.h>

#include "exchange.h"
#include "name_server.h"
#include "private.h"
#include "resolver.h"

#define HELLO                 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
#define CURE                  "security.allow_networks opens"
#define CLOSED(address, kind) address " is " kind ", which nobody configured: " CURE " networks"
#define CLOSED_LOOPBACK       CLOSED("127.0.0.1", "a loopback address")

/* --- the canary --- */

static const char *const perches[] = {"127.0.0.1", "127.0.1.1", "[::1]"};

struct canary {
    struct io_listener *listeners[ARRAY_LEN(perches)];
    size_t n_seen;
};

static void canary_on_accept(void *context, int fd, const struct network *address) {
    struct canary *canary = context;
    (void)address;
    canary->n_seen++;
    io_fd_close(&fd);
}

static void canary_free(struct canary *canary) {
    for (size_t i = 0; i < ARRAY_LEN(perches); i++)
        canary->listeners[i] = io_listener_free(canary->listeners[i]);
}

/* On the port of the server, which is at an address of its own. False: somebody else has it. */
static bool canary_start(struct canary *canary, struct io_loop *loop, const char *port) {
    *canary = (struct canary){.n_seen = 0};
    for (size_t i = 0; i < ARRAY_LEN(perches); i++) {
        char text[64];
        struct io_address address;
        int fd = -1;
        snprintf(text, sizeof text, "%s:%s", perches[i], port);
        if (io_address_parse(slice_from_cstr(text), &address) != 0)
            CANNOT_GO_ON();
        int error = io_listen_socket(&address, true, &fd);
        if (error == -EADDRNOTAVAIL)
            continue; /* a machine without IPv6 */
        if (error != 0) {
            canary_free(canary);
            return false;
        }
        if (io_listener_new(loop, fd, canary_on_accept, canary, &canary->listeners[i]) != 0)
            CANNOT_GO_ON();
    }
    return true;
}

/* --- the world --- */

struct rules_world {
    struct world world;
    struct canary canary;
    struct name_server names;
    struct io_tls *tls;
    struct client_rules *rules;
    const char *port; /* of server and canary */
};

static struct client_rules *make_rules(const char *network) {
    struct network opened;
    struct client_rules *rules = NULL;
    if ((network != NULL && !network_parse(slice_from_cstr(network), &opened)) ||
        client_rules_new(NULL, 0, &opened, network != NULL, &rules) != 0)
        CANNOT_GO_ON();
    return rules;
}

static void rules_open(struct rules_world *rules, const struct reply *replies, size_t n_replies,
                       const struct zone_row *zone, size_t zone_len, const char *network) {
    struct world *world = &rules->world;
    *rules = (struct rules_world){.port = NULL};
    guarded_new(&world->guarded);
    for (unsigned i = 0;; i++) {
        server_start_at(&world->server, &world->guarded, SLICE("127.0.0.2:0"), replies, n_replies);
        rules->port = strchr(world->server.address.text, ':') + 1;
        if (canary_start(&rules->canary, world->guarded.loop, rules->port))
            break;
        server_free(&world->server);
        if (i == 100)
            CANNOT_GO_ON();
    }
    /* No handshake comes to its end here, so nothing has to be trusted. */
    struct io_tls_client_options tls = {.is_lazy = true, .accept_anything = true};
    if (io_tls_client_new(&tls, &rules->tls) != 0)
        CANNOT_GO_ON();
    struct client_options options = {.loop = world->guarded.loop, .tls = rules->tls};
    if (client_new(&options, &world->client) != 0)
        CANNOT_GO_ON();
    CHECK(zone_len <= ARRAY_LEN(rules->names.turns));
    name_server_start(&rules->names, world->guarded.loop, zone, zone_len);
    resolver_set_test_servers(world->client->resolver, rules->names.address);
    rules->rules = make_rules(network);
}

/* Whoever came is in the backlog by now, so some turns later the canary has seen it. */
static void rules_close(struct rules_world *rules) {
    world_settle(&rules->world);
    test_row("");
    CHECK_INT(rules->canary.n_seen, 0);
    name_server_stop(&rules->names);
    canary_free(&rules->canary);
    client_rules_unref(rules->rules);
    world_close(&rules->world);
    io_tls_unref(rules->tls);
}

/* "PORT" in the text becomes the port of the canary. */
static void fill_in(const char *text, const char *port, struct buf *out) {
    const char *mark = strstr(text, "PORT");
    if (mark != NULL) {
        buf_append(out, slice_make(text, (size_t)(mark - text)));
        buf_append(out, slice_from_cstr(port));
        text = mark + 4;
    }
    buf_append(out, slice_from_cstr(text));
}

/* NULL, and *ret_reason: the URL is refused. */
static struct client_target *guarded_target(struct rules_world *rules, const char *text,
                                            const char **ret_reason) {
    struct buf url CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    struct client_target *target = NULL;
    fill_in(text, rules->port, &url);
    struct client_target_options options = {
        .url = buf_slice(&url), .getenv_fn = no_variable, .rules = rules->rules};
    int r = client_target_new(&options, &target, ret_reason);
    CHECK(r == 0 || r == CLIENT_E_INVALID);
    CHECK((target != NULL) == (r == 0));
    return target;
}

/* --- what strangers write --- */

struct form {
    const char *url;
    const char *says; /* a part of the reason */
    bool is_refused_url;
};

#define DIALLED(host, kind)                                                                        \
    { "https://" host ":PORT/", "is " kind ", which nobody configured: " CURE, false }
#define BAD_HOST(host, reason)                                                                     \
    { "https://" host ":PORT/", reason, true }
#define BAD_URL(url, reason)                                                                       \
    { url, reason, true }

#define LOOPBACK "a loopback address"
#define PRIVATE  "a private address"
#define MAPPED   "a loopback address" /* dialled as what it stands for */
#define DOCUMENT "a documentation address"
#define NUMBER   "a numeric host must be an IPv4 address of four numbers"
#define NAME     "the host name is not valid"
#define IPV6     "the IPv6 address is not valid"
#define BEHIND   "the authority does not end behind the host"
#define USERINFO "the URL has a user or password in it"
#define SCHEME   "the URL is neither http nor https"
#define HTTP     "http is for loopback that " CURE

static const struct form forms[] = {
    /* Addresses as everybody writes them. */
    DIALLED("127.0.0.1", LOOPBACK),
    DIALLED("127.0.0.0", LOOPBACK),
    DIALLED("127.1.2.3", LOOPBACK),
    DIALLED("127.255.255.255", LOOPBACK),
    DIALLED("0.0.0.0", "an unspecified address"),
    DIALLED("0.0.0.1", "an unspecified address"),
    DIALLED("10.0.0.1", PRIVATE),
    DIALLED("172.16.0.1", PRIVATE),
    DIALLED("172.31.255.255", PRIVATE),
    DIALLED("192.168.0.1", PRIVATE),
    DIALLED("169.254.169.254", "a link-local address"),
    DIALLED("100.64.0.1", "a carrier-grade NAT address"),
    DIALLED("100.100.100.200", "a carrier-grade NAT address"),
    DIALLED("168.63.129.16", "a cloud's own address"),
    DIALLED("192.0.0.192", "an address of IETF protocols"),
    DIALLED("192.0.2.1", DOCUMENT),
    DIALLED("198.51.100.1", DOCUMENT),
    DIALLED("203.0.113.1", DOCUMENT),
    DIALLED("198.18.0.1", "a benchmarking address"),
    DIALLED("192.88.99.1", "a 6to4 relay's address"),
    DIALLED("224.0.0.1", "a multicast address"),
    DIALLED("239.255.255.250", "a multicast address"),
    DIALLED("240.0.0.1", "a reserved address"),
    DIALLED("255.255.255.255", "the broadcast address"),
    /* IPv6, and IPv4 inside of it. */
    DIALLED("[::1]", LOOPBACK),
    DIALLED("[0:0:0:0:0:0:0:1]", LOOPBACK),
    DIALLED("[0000:0000::0001]", LOOPBACK),
    DIALLED("[::0.0.0.1]", LOOPBACK),
    DIALLED("[::]", "an unspecified address"),
    DIALLED("[::ffff:127.0.0.1]", MAPPED),
    DIALLED("[::ffff:7f00:1]", MAPPED),
    DIALLED("[::FFFF:7F00:0001]", MAPPED),
    DIALLED("[0:0:0:0:0:ffff:127.0.0.1]", MAPPED),
    DIALLED("[::ffff:10.0.0.1]", PRIVATE),
    DIALLED("[::ffff:0.0.0.0]", "an unspecified address"),
    DIALLED("[::ffff:169.254.169.254]", "a link-local address"),
    DIALLED("[::127.0.0.1]", "an IPv4-compatible address"),
    DIALLED("[::7f00:1]", "an IPv4-compatible address"),
    DIALLED("[::ffff:0:127.0.0.1]", "an IPv4-translated address"),
    DIALLED("[64:ff9b::7f00:1]", "a NAT64 address"),
    DIALLED("[64:ff9b::127.0.0.1]", "a NAT64 address"),
    DIALLED("[64:ff9b:1::7f00:1]", "a NAT64 address"),
    DIALLED("[2002:7f00:1::]", "a 6to4 address"),
    DIALLED("[2002:7f00:1::1]", "a 6to4 address"),
    DIALLED("[2002:a9fe:a9fe::1]", "a 6to4 address"),
    DIALLED("[2001:0:7f00:1::]", "a Teredo address"),
    DIALLED("[2001:0:808:808:0:0:80ff:fffe]", "a Teredo address"),
    DIALLED("[2a00::5efe:7f00:1]", "an ISATAP address"),
    DIALLED("[2a00::200:5efe:127.0.0.1]", "an ISATAP address"),
    DIALLED("[fe80::1]", "a link-local address"),
    DIALLED("[fe80::5efe:127.0.0.1]", "a link-local address"),
    DIALLED("[fec0::1]", "a site-local address"),
    DIALLED("[fc00::1]", PRIVATE),
    DIALLED("[fd00:ec2::254]", PRIVATE),
    DIALLED("[ff02::1]", "a multicast address"),
    DIALLED("[100::1]", "a discard-only address"),
    DIALLED("[2001:db8::1]", DOCUMENT),
    DIALLED("[3fff::1]", DOCUMENT),
    DIALLED("[5f00::1]", "a segment routing address"),
    DIALLED("[4000::1]", "a reserved address"),
    /* Numbers that some take for addresses. */
    BAD_HOST("127.1", NUMBER),
    BAD_HOST("127.0.1", NUMBER),
    BAD_HOST("127", NUMBER),
    BAD_HOST("0", NUMBER),
    BAD_HOST("2130706433", NUMBER),
    BAD_HOST("6425673729", NUMBER),
    BAD_HOST("017700000001", NUMBER),
    BAD_HOST("0177.0.0.1", NUMBER),
    BAD_HOST("127.0.0.01", NUMBER),
    BAD_HOST("0x7f.1", NUMBER),
    BAD_HOST("0x7f.0.0.0x1", NUMBER),
    BAD_HOST("0x7f000001", NUMBER),
    BAD_HOST("0X7F.0X0.0X0.0X1", NUMBER),
    BAD_HOST("127.0x1", NUMBER),
    BAD_HOST("127.0.0.1.1", NUMBER),
    BAD_HOST("127.0.0.256", NUMBER),
    BAD_HOST("127.0.0.1.", NAME),
    BAD_HOST("127.0.0.1..", NAME),
    BAD_HOST("127.1.", NAME),
    BAD_HOST("localhost.", NAME),
    BAD_HOST(".localhost", NAME),
    /* Brackets. */
    BAD_HOST("[127.0.0.1]", IPV6),
    BAD_HOST("[::ffff:127.1]", IPV6),
    BAD_HOST("[::ffff:0177.0.0.1]", IPV6),
    BAD_HOST("[::ffff:0x7f000001]", IPV6),
    BAD_HOST("[::1%lo]", IPV6),
    BAD_HOST("[::1%25lo]", IPV6),
    BAD_HOST("[fe80::1%251]", IPV6),
    BAD_HOST("[:::1]", IPV6),
    BAD_HOST("[::00001]", IPV6),
    BAD_HOST("[0:0:0:0:0:0:0:0:1]", IPV6),
    BAD_HOST("[v1.127.0.0.1]", IPV6),
    BAD_HOST("[]", IPV6),
    BAD_HOST("[::1", "the bracket of an IPv6 address is not closed"),
    BAD_HOST("[::1].evil.test", BEHIND),
    BAD_HOST("::1", NAME),
    /* Letters that are none, and what is encoded. */
    BAD_HOST("\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1", ""), /* fullwidth 127 */
    BAD_HOST("127\xe3\x80\x82"
             "0\xe3\x80\x82"
             "0\xe3\x80\x82"
             "1",
             ""),                                               /* ideographic stop */
    BAD_HOST("\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.0.0.1", ""), /* circled digits */
    BAD_HOST("\xef\xbd\x8cocalhost", ""),                       /* fullwidth l */
    BAD_HOST("loc\xc2\xad"
             "alhost",
             ""), /* soft hyphen */
    BAD_HOST("%31%32%37.0.0.1", ""),
    BAD_HOST("127%2e0%2e0%2e1", ""),
    BAD_HOST("%6cocalhost", ""),
    BAD_HOST("localhost%00.public.test", ""),
    BAD_HOST("localhost%2f.public.test", ""),
    BAD_HOST("[%3a%3a1]", ""),
    /* Who is the host? */
    BAD_HOST("public.test@127.0.0.1", USERINFO),
    BAD_HOST("public.test:443@127.0.0.1", USERINFO),
    BAD_HOST("127.0.0.1@public.test", USERINFO),
    BAD_HOST("@127.0.0.1", USERINFO),
    BAD_HOST("public.test%40@127.0.0.1", USERINFO),
    BAD_HOST("public.test\\@127.0.0.1", ""),
    BAD_HOST("127.0.0.1\\@public.test", ""),
    BAD_HOST("127.0.0.1\\.public.test", ""),
    BAD_HOST("127.0.0.1\t", ""),
    BAD_HOST("local\nhost", ""),
    BAD_HOST("127.0.0.1 ", ""),
    BAD_HOST("127.0.0.1;public.test", ""),
    BAD_HOST("127.0.0.1,public.test", ""),
    BAD_HOST("*", ""),
    BAD_URL("https://127.0.0.1:PORT/#@public.test/", "the URL has a fragment"),
    BAD_URL("https://127.0.0.1:0/", "the port is not a number from 1 to 65535"),
    BAD_URL("https://127.0.0.1:65536/", "the port is not a number from 1 to 65535"),
    BAD_URL("https://127.0.0.1:0PORT/", "the port is not a number from 1 to 65535"),
    BAD_URL("https://127.0.0.1:PORT:PORT/", "the port is not a number from 1 to 65535"),
    /* Schemes, and their absence. */
    BAD_URL("http://127.0.0.1:PORT/", HTTP),
    BAD_URL("http://localhost:PORT/", HTTP),
    BAD_URL("http://v4.test:PORT/", HTTP),
    BAD_URL("http://public.test:PORT/", HTTP),
    BAD_URL("HTTP://[::1]:PORT/", HTTP),
    BAD_URL("https:127.0.0.1:PORT/", ""),
    BAD_URL("https:/127.0.0.1:PORT/", ""),
    BAD_URL("https:///127.0.0.1:PORT/", ""),
    BAD_URL("https:\\\\127.0.0.1:PORT/", ""),
    BAD_URL("//127.0.0.1:PORT/", ""),
    BAD_URL("127.0.0.1:PORT/", ""),
    BAD_URL(" https://127.0.0.1:PORT/", ""),
    BAD_URL("", ""),
    BAD_URL("ftp://127.0.0.1:PORT/", SCHEME),
    BAD_URL("ws://127.0.0.1:PORT/", SCHEME),
    BAD_URL("gopher://127.0.0.1:PORT/_GET", SCHEME),
    BAD_URL("redis://127.0.0.1:PORT/", SCHEME),
    BAD_URL("file:///etc/passwd", SCHEME),
    BAD_URL("file://127.0.0.1/etc/passwd", SCHEME),
    BAD_URL("data:application/json,1", SCHEME),
    BAD_URL("jar:https://127.0.0.1:PORT/", SCHEME),
    {"HTTPS://127.0.0.1:PORT/", CLOSED_LOOPBACK, false},
    {"https://127.0.0.1:PORT/?@public.test", CLOSED_LOOPBACK, false},
    {"https://127.0.0.1:PORT/public.test/", CLOSED_LOOPBACK, false},
    {"https://127.0.0.1:PORT", CLOSED_LOOPBACK, false},
    {"https://127.0.0.1/", CLOSED_LOOPBACK, false},
    /* Names. */
    DIALLED("localhost", LOOPBACK),
    DIALLED("LocalHost", LOOPBACK),
    DIALLED("foo.localhost", LOOPBACK),
    DIALLED("a.b.LOCALHOST", LOOPBACK),
    DIALLED("v4.test", LOOPBACK),
    DIALLED("V4.Test", LOOPBACK),
    DIALLED("v6.test", LOOPBACK),
    DIALLED("both.test", LOOPBACK),
    DIALLED("mapped.test", LOOPBACK),
    DIALLED("compatible.test", "an IPv4-compatible address"),
    DIALLED("nat64.test", "a NAT64 address"),
    DIALLED("sixtofour.test", "a 6to4 address"),
    DIALLED("isatap.test", "an ISATAP address"),
    DIALLED("ula.test", PRIVATE),
    DIALLED("private.test", PRIVATE),
    DIALLED("metadata.test", "a link-local address"),
    DIALLED("zero.test", "an unspecified address"),
    DIALLED("many.test", LOOPBACK),
    DIALLED("tcp.test", LOOPBACK),
    DIALLED("chain.test", LOOPBACK),
    DIALLED("chain6.test", LOOPBACK),
    DIALLED("127.0.0.1.wild.test", LOOPBACK),
    DIALLED("127-0-0-1.wild.test", LOOPBACK),
};

static const struct zone_row forms_zone[] = {
    {"v4.test", DNS_A, ZONE_ANSWER, {"127.0.0.1"}},
    {"v6.test", DNS_AAAA, ZONE_ANSWER, {"::1"}},
    {"both.test", DNS_A, ZONE_ANSWER, {"127.0.0.1"}},
    {"both.test", DNS_AAAA, ZONE_ANSWER, {"::1"}},
    {"mapped.test", DNS_AAAA, ZONE_ANSWER, {"::ffff:127.0.0.1"}},
    {"compatible.test", DNS_AAAA, ZONE_ANSWER, {"::127.0.0.1"}},
    {"nat64.test", DNS_AAAA, ZONE_ANSWER, {"64:ff9b::127.0.0.1"}},
    {"sixtofour.test", DNS_AAAA, ZONE_ANSWER, {"2002:7f00:1::1"}},
    {"isatap.test", DNS_AAAA, ZONE_ANSWER, {"2a00::5efe:127.0.0.1"}},
    {"ula.test", DNS_AAAA, ZONE_ANSWER, {"fd00::1"}},
    {"private.test", DNS_A, ZONE_ANSWER, {"10.0.0.1", "192.168.0.1", "172.16.0.1"}},
    {"metadata.test", DNS_A, ZONE_ANSWER, {"169.254.169.254"}},
    {"zero.test", DNS_A, ZONE_ANSWER, {"0.0.0.0"}},
    {"many.test", DNS_A, ZONE_MANY, {NULL}},
    {"tcp.test", DNS_A, ZONE_OVER_TCP, {"127.0.0.1"}},
    {"chain.test", DNS_A, ZONE_ALIAS, {"one.test", "two.test", "127.0.0.1"}},
    {"chain6.test", DNS_AAAA, ZONE_ALIAS, {"one.test", "::1"}},
    {"*.wild.test", DNS_A, ZONE_ANSWER, {"127.0.0.1"}},
};

static void check_says(const char *reason, const char *says) {
    if (strstr(reason, says) == NULL)
        test_fail(__FILE__, __LINE__, reason);
}

static void check_form(struct rules_world *rules, const struct form *form) {
    const char *reason = "";
    struct client_target *target = guarded_target(rules, form->url, &reason);
    CHECK((target == NULL) == form->is_refused_url);
    if (target == NULL) {
        CHECK(reason[0] != '\0');
        check_says(reason, form->says);
        return;
    }
    struct client_request request = request_to(target);
    struct exchange exchange;
    exchange_init(&exchange, &rules->world);
    exchange_run(&exchange, &request);
    CHECK_INT(buf_append_byte(&exchange.trace, '\0'), 0);
    const char *trace = exchange_trace(&exchange).ptr;
    check_says(trace, "! refused: ");
    check_says(trace, form->says);
    buf_deinit(&exchange.trace);
    client_target_free(target);
}

static void test_forms(void) {
    struct rules_world rules;
    rules_open(&rules, NULL, 0, forms_zone, ARRAY_LEN(forms_zone), NULL);
    CHECK(ARRAY_LEN(forms) >= 100);
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        test_row(forms[i].url);
        check_form(&rules, &forms[i]);
    }
    CHECK(rules.names.queries != 0 && rules.names.tcp_queries != 0);
    rules_close(&rules);
}

/* The canary does sing: without rules, and where a network is opened. */
static void test_canary(void) {
    static const struct {
        const char *url, *network;
        size_t n_seen;
    } rows[] = {
        {"https://v4.test:PORT/", "127.0.0.0/8", 1},
        {"http://v4.test:PORT/", "127.0.0.1/32", 1},
        {"http://chain.test:PORT/", "0.0.0.0/0", 1},
        {"http://0.0.0.0:PORT/", "0.0.0.0/0", 0}, /* http, and not loopback by its number */
        {"https://0.0.0.0:PORT/", "0.0.0.0/8", 1},
        {"https://v4.test:PORT/", "::/0", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rules_world rules;
        const char *reason = "";
        test_row(rows[i].url);
        rules_open(&rules, NULL, 0, forms_zone, ARRAY_LEN(forms_zone), rows[i].network);
        struct client_target *target = guarded_target(&rules, rows[i].url, &reason);
        if (target != NULL) {
            struct exchange exchange;
            struct client_request request = request_to(target);
            exchange_init(&exchange, &rules.world);
            exchange_run(&exchange, &request);
            buf_deinit(&exchange.trace);
        }
        world_settle(&rules.world);
        CHECK_INT(rules.canary.n_seen, rows[i].n_seen);
        rules.canary.n_seen = 0;
        client_target_free(target);
        rules_close(&rules);
    }
}

/* --- names that change their mind --- */

static const struct zone_row turning_zone[] = {
    {"turn.test", DNS_A, ZONE_IN_TURN, {"127.0.0.2", "127.0.0.1"}},
    {"back.test", DNS_A, ZONE_IN_TURN, {"127.0.0.1", "127.0.0.2"}},
    {"inside.test", DNS_A, ZONE_ANSWER, {"127.0.0.1"}},
    {"mixed.test", DNS_A, ZONE_ANSWER, {"127.0.0.1", "127.0.0.2", "10.0.0.1"}},
    {"mixed6.test", DNS_A, ZONE_ANSWER, {"127.0.0.2"}},
    {"mixed6.test", DNS_AAAA, ZONE_ANSWER, {"::1", "fd00::1", "::ffff:127.0.0.1"}},
    {"late6.test", DNS_A, ZONE_ANSWER, {"127.0.0.2"}},
    {"late6.test", DNS_AAAA, ZONE_LATE, {"::1"}},
    {"chain.test", DNS_A, ZONE_ALIAS, {"one.test", "two.test", "127.0.0.2"}},
    {"chainboth.test", DNS_A, ZONE_ALIAS, {"one.test", "127.0.0.1", "127.0.0.2"}},
    {"half.test", DNS_A, ZONE_ANSWER, {"127.0.0.1"}},
    {"half.test", DNS_AAAA, ZONE_SILENT, {NULL}},
};

static void turning_open(struct rules_world *rules, const struct reply *replies, size_t n) {
    rules_open(rules, replies, n, turning_zone, ARRAY_LEN(turning_zone), "127.0.0.2/32");
}

static struct client_target *http_target(struct rules_world *rules, const char *url) {
    const char *reason = "";
    struct client_target *target = guarded_target(rules, url, &reason);
    if (target == NULL)
        test_fail(__FILE__, __LINE__, reason);
    return target;
}

/* One request, on a connection of its own. */
static void check_once(struct rules_world *rules, const char *url, const char *expect) {
    struct client_target *target = http_target(rules, url);
    struct client_request request = request_to(target);
    check_exchange(&rules->world, &request, expect);
    client_target_free(target);
}

static void test_turns(void) {
    static const struct reply hello = {SLICE_INIT(HELLO), REPLY_CLOSE};
    struct rules_world rules;
    turning_open(&rules, &hello, 1);
    struct client_target *target = http_target(&rules, "http://turn.test:PORT/");
    struct client_request request = request_to(target);
    /* One target, one pool: each connection is looked at anew. */
    check_exchange(&rules.world, &request, "200 x .");
    world_run_until_open(&rules.world, 0);
    world_settle(&rules.world);
    CHECK_INT(client_count_connections(rules.world.client), 0);
    check_exchange(&rules.world, &request, "! refused: " CLOSED_LOOPBACK);
    check_exchange(&rules.world, &request, "! refused: " CLOSED_LOOPBACK);
    CHECK_INT(rules.world.server.n_accepted, 1);
    client_target_free(target);
    /* A refusal is for this time only. */
    check_once(&rules, "http://back.test:PORT/", "! refused: " CLOSED_LOOPBACK);
    check_once(&rules, "http://back.test:PORT/", "200 x .");
    CHECK_INT(rules.world.server.n_accepted, 2);
    rules_close(&rules);
}

static void test_kept(void) {
    static const struct reply hello = {SLICE_INIT(HELLO), REPLY_HOLD};
    struct rules_world rules;
    struct exchange first, second;
    turning_open(&rules, &hello, 1);
    struct client_target *target = http_target(&rules, "http://turn.test:PORT/");
    struct client_request request = request_to(target);
    check_exchange(&rules.world, &request, "200 x .");
    unsigned queries = rules.names.queries;
    /* The kept connection goes where it went; the second beside it is dialled, and refused. */
    exchange_init(&first, &rules.world);
    exchange_init(&second, &rules.world);
    first.stops_at_end = false;
    exchange_start(&first, &request);
    exchange_start(&second, &request);
    guarded_run(&rules.world.guarded);
    world_settle(&rules.world);
    CHECK_STR(exchange_trace(&first), "200 x .");
    CHECK_STR(exchange_trace(&second), "! refused: " CLOSED_LOOPBACK);
    CHECK(rules.names.queries > queries);
    CHECK_INT(rules.world.server.n_accepted, 1);
    buf_deinit(&first.trace);
    buf_deinit(&second.trace);
    client_target_free(target);
    rules_close(&rules);
}

/* The second request on a kept connection ends without an answer, and is sent again. */
static void test_sent_again(void) {
    static const struct reply replies[] = {{SLICE_INIT(HELLO), REPLY_HOLD},
                                           {SLICE_INIT(""), REPLY_CLOSE}};
    struct rules_world rules;
    turning_open(&rules, replies, ARRAY_LEN(replies));
    struct client_target *target = http_target(&rules, "http://turn.test:PORT/");
    struct client_request request = request_to(target);
    request.is_idempotent = true;
    check_exchange(&rules.world, &request, "200 x .");
    check_exchange(&rules.world, &request, "! refused, may have arrived: " CLOSED_LOOPBACK);
    CHECK_INT(rules.world.server.n_accepted, 1);
    client_target_free(target);
    rules_close(&rules);
}

/* A connection that the configuration allowed is not there for what a stranger wrote. */
static void test_pools_apart(void) {
    static const struct reply hello = {SLICE_INIT(HELLO), REPLY_HOLD};
    char url[64];
    struct rules_world rules;
    turning_open(&rules, &hello, 1);
    client_rules_unref(rules.rules);
    rules.rules = make_rules("127.0.0.3/32");
    snprintf(url, sizeof url, "http://127.0.0.2:%s/", rules.port);
    struct slice named = slice_from_cstr(url);
    struct client_rules *naming = NULL;
    CHECK_INT(client_rules_new(&named, 1, NULL, 0, &naming), 0);
    struct client_target_options options = {
        .url = named, .getenv_fn = no_variable, .rules = naming};
    struct client_target *configured = NULL;
    const char *reason;
    CHECK_INT(client_target_new(&options, &configured, &reason), 0);
    struct client_request request = request_to(configured);
    check_exchange(&rules.world, &request, "200 x .");
    CHECK_INT(client_count_connections(rules.world.client), 1);
    check_once(&rules, "http://mixed6.test:PORT/",
               "! refused: " CLOSED("127.0.0.2", "a loopback address"));
    CHECK(guarded_target(&rules, url, &reason) == NULL);
    CHECK_INT(rules.world.server.n_accepted, 1);
    client_target_free(configured);
    client_rules_unref(naming);
    rules_close(&rules);
}

/* --- names of two minds --- */

static void test_mixed(void) {
    static const struct reply hello = {SLICE_INIT(HELLO), REPLY_CLOSE};
    static const char *const urls[] = {
        "http://mixed.test:PORT/", "http://mixed6.test:PORT/",    "http://late6.test:PORT/",
        "http://chain.test:PORT/", "http://chainboth.test:PORT/",
    };
    struct rules_world rules;
    turning_open(&rules, &hello, 1);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        test_row(urls[i]);
        check_once(&rules, urls[i], "200 x .");
        CHECK_INT(rules.world.server.n_accepted, i + 1);
    }
    rules_close(&rules);
}

/* What answers does not: its reason is what the operator hears, and the others are still closed. */
static void test_mixed_without_answer(void) {
    static const char *const urls[] = {"http://mixed.test:PORT/", "http://mixed6.test:PORT/",
                                       "http://late6.test:PORT/", "http://chainboth.test:PORT/"};
    struct rules_world rules;
    char expect[128];
    turning_open(&rules, NULL, 0);
    server_stop_listening(&rules.world.server);
    snprintf(expect, sizeof expect, "! connect: 127.0.0.2:%s: connection refused", rules.port);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        test_row(urls[i]);
        check_once(&rules, urls[i], expect);
    }
    rules_close(&rules);
}

/* The address that came is refused, the other question is never answered: still not "timed out". */
static void test_half_an_answer(void) {
    struct rules_world rules;
    turning_open(&rules, NULL, 0);
    struct client_target *target = http_target(&rules, "http://half.test:PORT/");
    struct client_request request = request_to(target);
    request.connect_timeout_ms = 200;
    check_exchange(&rules.world, &request, "! refused: " CLOSED_LOOPBACK);
    client_target_free(target);
    rules_close(&rules);
}

/* A long name does not cut off what it is about. */
static void test_long_name(void) {
    char url[400], expect[300];
    struct rules_world rules;
    const char *reason = "";
    rules_open(&rules, NULL, 0, forms_zone, ARRAY_LEN(forms_zone), NULL);
    int n = snprintf(url, sizeof url, "https://");
    for (unsigned i = 0; i < 60; i++)
        n += snprintf(url + n, sizeof url - (size_t)n, "abc.");
    snprintf(url + n, sizeof url - (size_t)n, "v.localhost/");
    struct client_target *target = guarded_target(&rules, url, &reason);
    CHECK_STR(slice_from_cstr(reason), "");
    struct client_request request = request_to(target);
    snprintf(expect, sizeof expect, "! refused: %s", CLOSED("::1", "a loopback address"));
    check_exchange(&rules.world, &request, expect);
    client_target_free(target);
    rules_close(&rules);
}

/* --- memory --- */

struct torture {
    struct rules_world *rules;
    struct client_target *target;
    size_t n_refused;
};

static void torture_on_failed(void *context, const struct client_failure *failure) {
    struct torture *torture = context;
    CHECK(failure->kind == CLIENT_FAILED_REFUSED || failure->kind == CLIENT_FAILED_MEMORY);
    CHECK(!failure->may_have_arrived);
    torture->n_refused += failure->kind == CLIENT_FAILED_REFUSED;
    io_loop_stop(torture->rules->world.guarded.loop);
}

static void torture_on_head(void *context, const struct http_head *head) {
    (void)context;
    (void)head;
    test_fail(__FILE__, __LINE__, "an answer");
}

static void torture_run(void *arg) {
    static const struct client_events events = {.on_head = torture_on_head,
                                                .on_failed = torture_on_failed};
    struct torture *torture = arg;
    struct client_request request = request_to(torture->target);
    struct client_call *call = NULL;
    int r = client_start(torture->rules->world.client, &request, &events, torture, &call);
    CHECK(r == 0 || r == -ENOMEM);
    if (r == 0)
        guarded_run(&torture->rules->world.guarded);
}

static void test_memory(void) {
    struct rules_world rules;
    const char *reason = "";
    rules_open(&rules, NULL, 0, forms_zone, ARRAY_LEN(forms_zone), NULL);
    struct torture torture = {.rules = &rules};
    torture.target = guarded_target(&rules, "https://127.0.0.1:PORT/", &reason);
    REQUIRE(torture.target != NULL);
    test_torture(torture_run, &torture);
    CHECK(torture.n_refused >= 1);
    CHECK_INT(client_count_connections(rules.world.client), 0);
    client_target_free(torture.target);
    rules_close(&rules);
}

TEST_MAIN(TEST(test_forms), TEST(test_canary), TEST(test_turns), TEST(test_kept),
          TEST(test_sent_again), TEST(test_pools_apart), TEST(test_mixed),
          TEST(test_mixed_without_answer), TEST(test_half_an_answer), TEST(test_long_name),
          TEST(test_memory))
