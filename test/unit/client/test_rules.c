/*
 * The rules for addresses that nobody configured: the table of what is not public against its
 * borders and against an oracle that was written apart from it, authorities that are exempt,
 * networks that are opened, and what that means for a URL.
 */
#include <errno.h>

#include "private.h"
#include "test.h"

/* --- the table --- */

#define UNSPECIFIED "an unspecified address"
#define PRIVATE     "a private address"
#define CGNAT       "a carrier-grade NAT address"
#define LOOPBACK    "a loopback address"
#define CLOUD       "a cloud's own address"
#define LINK        "a link-local address"
#define IETF        "an address of IETF protocols"
#define DOCUMENT    "a documentation address"
#define AS112       "an AS112 address"
#define MULTICAST   "a multicast address"
#define BROADCAST   "the broadcast address"
#define BENCHMARK   "a benchmarking address"
#define RESERVED    "a reserved address"
#define COMPATIBLE  "an IPv4-compatible address"
#define MAPPED      "an IPv4-mapped address"
#define TRANSLATED  "an IPv4-translated address"
#define NAT64       "a NAT64 address"
#define DISCARD     "a discard-only address"
#define TEREDO      "a Teredo address"
#define ORCHID      "an ORCHID"
#define SIX_TO_FOUR "a 6to4 address"
#define SEGMENT     "a segment routing address"
#define SITE        "a site-local address"
#define ISATAP      "an ISATAP address"
#define PUBLIC      NULL
#define NOTHING     "" /* there is no address behind this border */

struct registry_row {
    const char *first, *last, *kind;
    const char *before, *after; /* the kinds of the addresses beside it */
};

static const struct registry_row registry[] = {
    {"0.0.0.0", "0.255.255.255", UNSPECIFIED, NOTHING, PUBLIC},
    {"1.0.0.0", "9.255.255.255", PUBLIC, UNSPECIFIED, PRIVATE},
    {"10.0.0.0", "10.255.255.255", PRIVATE, PUBLIC, PUBLIC},
    {"100.64.0.0", "100.127.255.255", CGNAT, PUBLIC, PUBLIC},
    {"127.0.0.0", "127.255.255.255", LOOPBACK, PUBLIC, PUBLIC},
    {"168.63.129.16", "168.63.129.16", CLOUD, PUBLIC, PUBLIC},
    {"169.254.0.0", "169.254.255.255", LINK, PUBLIC, PUBLIC},
    {"172.16.0.0", "172.31.255.255", PRIVATE, PUBLIC, PUBLIC},
    {"192.0.0.0", "192.0.0.255", IETF, PUBLIC, PUBLIC},
    {"192.0.2.0", "192.0.2.255", DOCUMENT, PUBLIC, PUBLIC},
    {"192.31.196.0", "192.31.196.255", AS112, PUBLIC, PUBLIC},
    {"192.52.193.0", "192.52.193.255", "an AMT address", PUBLIC, PUBLIC},
    {"192.88.99.0", "192.88.99.255", "a 6to4 relay's address", PUBLIC, PUBLIC},
    {"192.168.0.0", "192.168.255.255", PRIVATE, PUBLIC, PUBLIC},
    {"192.175.48.0", "192.175.48.255", AS112, PUBLIC, PUBLIC},
    {"198.18.0.0", "198.19.255.255", BENCHMARK, PUBLIC, PUBLIC},
    {"198.51.100.0", "198.51.100.255", DOCUMENT, PUBLIC, PUBLIC},
    {"203.0.113.0", "203.0.113.255", DOCUMENT, PUBLIC, PUBLIC},
    {"224.0.0.0", "239.255.255.255", MULTICAST, PUBLIC, RESERVED},
    {"240.0.0.0", "255.255.255.254", RESERVED, MULTICAST, BROADCAST},
    {"255.255.255.255", "255.255.255.255", BROADCAST, RESERVED, NOTHING},
    {"::", "::", UNSPECIFIED, NOTHING, LOOPBACK},
    {"::1", "::1", LOOPBACK, UNSPECIFIED, COMPATIBLE},
    {"::2", "::ffff:ffff", COMPATIBLE, LOOPBACK, RESERVED},
    {"::ffff:0:0:0", "::ffff:0:ffff:ffff", TRANSLATED, RESERVED, RESERVED},
    {"64:ff9b::", "64:ff9b::ffff:ffff", NAT64, RESERVED, RESERVED},
    {"64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", NAT64, RESERVED, RESERVED},
    {"100::", "100::ffff:ffff:ffff:ffff:ffff", DISCARD, RESERVED, RESERVED},
    {"2000::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PUBLIC, RESERVED, TEREDO},
    {"2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", TEREDO, PUBLIC, IETF},
    {"2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", BENCHMARK, IETF, IETF},
    {"2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", ORCHID, IETF, ORCHID},
    {"2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", ORCHID, ORCHID, IETF},
    {"2001:30::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", IETF, ORCHID, PUBLIC},
    {"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", DOCUMENT, PUBLIC, PUBLIC},
    {"2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", SIX_TO_FOUR, PUBLIC, PUBLIC},
    {"2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff", AS112, PUBLIC, PUBLIC},
    {"2a00::5efe:0:0", "2a00::5efe:ffff:ffff", ISATAP, PUBLIC, PUBLIC},
    {"2a00::200:5efe:0:0", "2a00::200:5efe:ffff:ffff", ISATAP, PUBLIC, PUBLIC},
    {"3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", DOCUMENT, PUBLIC, PUBLIC},
    {"4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", RESERVED, PUBLIC, SEGMENT},
    {"5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", SEGMENT, RESERVED, RESERVED},
    {"6000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", RESERVED, RESERVED, PRIVATE},
    {"fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PRIVATE, RESERVED, RESERVED},
    {"fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", RESERVED, PRIVATE, LINK},
    {"fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", LINK, RESERVED, SITE},
    {"fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", SITE, LINK, MULTICAST},
    {"ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", MULTICAST, SITE, NOTHING},
};

static struct network address_of(const char *text) {
    struct network address = {.family_bits = 0};
    if (!network_parse_address(slice_from_cstr(text), &address))
        test_fail(__FILE__, __LINE__, text);
    return address;
}

static void check_kind(const struct network *address, const char *expect) {
    const char *kind = client_address_kind(address);
    CHECK((kind == NULL) == (expect == NULL));
    CHECK_STR(slice_from_cstr(kind), expect);
}

/* The next address, or the one before; false: there is none. */
static bool step(struct network *address, bool up) {
    for (unsigned i = address->family_bits / 8; i-- > 0;) {
        unsigned char border = up ? 0xff : 0;
        bool carries = address->bytes[i] == border;
        address->bytes[i] = (unsigned char)(address->bytes[i] + (up ? 1 : 0xff));
        if (!carries)
            return true;
    }
    return false;
}

static void check_border(const char *text, bool up, const char *inside, const char *outside) {
    struct network address = address_of(text);
    check_kind(&address, inside);
    bool has_more = step(&address, up);
    CHECK(has_more == (outside == NULL || outside[0] != '\0'));
    if (has_more)
        check_kind(&address, outside);
}

static void test_registry(void) {
    for (size_t i = 0; i < ARRAY_LEN(registry); i++) {
        test_row(registry[i].first);
        check_border(registry[i].first, false, registry[i].kind, registry[i].before);
        check_border(registry[i].last, true, registry[i].kind, registry[i].after);
    }
}

static void test_addresses(void) {
    static const struct {
        const char *text, *kind;
    } rows[] = {
        {"8.8.8.8", PUBLIC},
        {"93.184.215.14", PUBLIC},
        {"172.15.255.255", PUBLIC},
        {"172.32.0.1", PUBLIC},
        {"2606:4700:4700::1111", PUBLIC},
        {"2a00:1450:4001:80b::200e", PUBLIC},
        {"169.254.169.254", LINK},      /* what clouds tell their machines */
        {"169.254.170.2", LINK},        /* and their containers */
        {"100.100.100.200", CGNAT},     /* the same of another cloud */
        {"192.0.0.192", IETF},          /* and another */
        {"fd00:ec2::254", PRIVATE},     /* the same by IPv6 */
        {"::ffff:127.0.0.1", LOOPBACK}, /* mapped: what it stands for */
        {"::ffff:7f00:1", LOOPBACK},
        {"::ffff:8.8.8.8", PUBLIC},
        {"::ffff:10.0.0.1", PRIVATE},
        {"::ffff:0.0.0.0", UNSPECIFIED},
        {"::ffff:0:127.0.0.1", TRANSLATED},
        {"::127.0.0.1", COMPATIBLE},
        {"::8.8.8.8", COMPATIBLE},
        {"64:ff9b::127.0.0.1", NAT64},
        {"64:ff9b::8.8.8.8", NAT64},
        {"64:ff9b:1::a9fe:a9fe", NAT64},
        {"2002:7f00:1::", SIX_TO_FOUR},
        {"2002:808:808::1", SIX_TO_FOUR},
        {"2001:0:a00:1::", TEREDO},
        {"2001:0:808:808:0:0:80ff:fffe", TEREDO},
        {"2a00:1:2:3:0:5efe:7f00:1", ISATAP},
        {"2a00:1:2:3:200:5efe:10.0.0.1", ISATAP},
        {"fe80::5efe:127.0.0.1", LINK},
        {"fe80::1", LINK},
        {"ff02::1", MULTICAST},
        {"fec0::1", SITE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].text);
        struct network address = address_of(rows[i].text);
        check_kind(&address, rows[i].kind);
    }
}

/* Values that no parser makes. */
static void test_odd_values(void) {
    struct network mapped = {.family_bits = NETWORK_V6_BITS,
                             .bits = NETWORK_V6_BITS,
                             .bytes = {[10] = 0xff, [11] = 0xff, [12] = 8, [13] = 8}};
    struct network none = {.family_bits = 0};
    struct network other = {.family_bits = 64, .bytes = {0x20, 0x01}};
    check_kind(&mapped, MAPPED);
    check_kind(&none, "no address of the internet");
    check_kind(&other, "no address of the internet");
}

/* --- an oracle: numbers instead of rows --- */

static bool is_between(uint32_t address, unsigned a, unsigned b, unsigned c, unsigned d,
                       unsigned bits) {
    uint32_t first = (uint32_t)a << 24 | (uint32_t)b << 16 | (uint32_t)c << 8 | (uint32_t)d;
    return (uint64_t)address >= first && (uint64_t)address < first + (UINT64_C(1) << (32 - bits));
}

static bool oracle_v4(uint32_t a) {
    uint32_t top = a >> 24;
    if (top == 0 || top == 10 || top == 127 || top >= 224)
        return false;
    return !(is_between(a, 100, 64, 0, 0, 10) || is_between(a, 168, 63, 129, 16, 32) ||
             is_between(a, 169, 254, 0, 0, 16) || is_between(a, 172, 16, 0, 0, 12) ||
             is_between(a, 192, 0, 0, 0, 24) || is_between(a, 192, 0, 2, 0, 24) ||
             is_between(a, 192, 31, 196, 0, 24) || is_between(a, 192, 52, 193, 0, 24) ||
             is_between(a, 192, 88, 99, 0, 24) || is_between(a, 192, 168, 0, 0, 16) ||
             is_between(a, 192, 175, 48, 0, 24) || is_between(a, 198, 18, 0, 0, 15) ||
             is_between(a, 198, 51, 100, 0, 24) || is_between(a, 203, 0, 113, 0, 24));
}

static bool oracle_v6(uint64_t high, uint64_t low) {
    uint64_t first = high >> 48, two = high >> 32;
    if (first < 0x2000 || first > 0x3fff)
        return high == 0 && low >> 32 == 0xffff && oracle_v4((uint32_t)low);
    if (first == 0x2001 && (two & 0xffff) < 0x0200)
        return false;
    if (two == UINT64_C(0x20010db8) || first == 0x2002 || high >> 16 == UINT64_C(0x2620004f8000))
        return false;
    if (first == 0x3fff && (two & 0xffff) < 0x1000)
        return false;
    return ((low >> 32) & ~UINT64_C(0x02000000)) != 0x5efe;
}

static uint64_t next_random(uint64_t *state) { /* xorshift64* */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static uint64_t number_of(const unsigned char *bytes, size_t n) {
    uint64_t number = 0;
    for (size_t i = 0; i < n; i++)
        number = number << 8 | bytes[i];
    return number;
}

/* Near a border, with a bit or a byte changed, or anything at all. */
static struct network random_address(uint64_t *state) {
    const struct registry_row *row = &registry[next_random(state) % ARRAY_LEN(registry)];
    struct network address = address_of(next_random(state) % 2 == 0 ? row->first : row->last);
    uint64_t kind = next_random(state) % 5, n = next_random(state);
    size_t len = address.family_bits / 8;
    if (kind == 0)
        address.bytes[n % len] ^= (unsigned char)(1u << (n >> 32) % 8);
    if (kind == 1)
        address.bytes[n % len] = (unsigned char)(n >> 32);
    if (kind == 2)
        (void)step(&address, n % 2 == 0);
    for (size_t i = kind == 3 ? n % len : len; i < len; i++)
        address.bytes[i] = (unsigned char)next_random(state);
    for (size_t i = 0; kind == 4 && i < len; i++)
        address.bytes[i] = (unsigned char)next_random(state);
    return address;
}

static void test_oracle(void) {
    enum { ROUNDS = 300000 };
    uint64_t state = 0x9e3779b97f4a7c15;
    size_t n_public = 0, n_wrong = 0;
    test_row("");
    for (size_t i = 0; i < ROUNDS; i++) {
        struct network address = random_address(&state);
        bool is_v4 = address.family_bits == NETWORK_V4_BITS;
        /* What looks mapped is read as every socket address is. */
        struct network read;
        network_from_bytes(address.bytes, address.family_bits, &read);
        bool expect = is_v4
                          ? oracle_v4((uint32_t)number_of(address.bytes, 4))
                          : oracle_v6(number_of(address.bytes, 8), number_of(address.bytes + 8, 8));
        bool is_public = client_address_kind(&read) == NULL;
        n_public += is_public;
        if (is_public != expect && n_wrong++ < 10) {
            char text[NETWORK_TEXT];
            (void)network_write_address(&address, text);
            test_fail(__FILE__, __LINE__, text);
        }
    }
    CHECK_INT(n_wrong, 0);
    CHECK(n_public > ROUNDS / 10 && n_public < ROUNDS - ROUNDS / 10);
}

/* --- sets of rules --- */

enum { SET_MAX = 6 };

/* Texts up to the first NULL. */
static struct client_rules *rules_of(const char *const urls[SET_MAX],
                                     const char *const networks[SET_MAX]) {
    struct slice url_list[SET_MAX];
    struct network network_list[SET_MAX];
    size_t n_urls = 0, n_networks = 0;
    struct client_rules *rules = NULL;
    for (; urls != NULL && n_urls < SET_MAX && urls[n_urls] != NULL; n_urls++)
        url_list[n_urls] = slice_from_cstr(urls[n_urls]);
    for (; networks != NULL && n_networks < SET_MAX && networks[n_networks] != NULL; n_networks++)
        CHECK(network_parse(slice_from_cstr(networks[n_networks]), &network_list[n_networks]));
    int r = client_rules_new(url_list, n_urls, network_list, n_networks, &rules);
    CHECK(r == 0 || r == -ENOMEM);
    CHECK((rules != NULL) == (r == 0));
    return rules;
}

struct set {
    const char *urls[SET_MAX], *networks[SET_MAX];
};

static void test_equal(void) {
    static const struct {
        const char *name;
        struct set a, b;
        bool is_equal;
    } rows[] = {
        {"empty", {{NULL}, {NULL}}, {{NULL}, {NULL}}, true},
        {"order", {{"http://a", "http://b"}, {NULL}}, {{"http://b", "http://a"}, {NULL}}, true},
        {"twice", {{"http://a", "http://a"}, {NULL}}, {{"http://a"}, {NULL}}, true},
        {"spelling",
         {{"HTTP://A:80/x?y", "https://[0:0::1]:443/"}, {NULL}},
         {{"https://[::1]", "http://a/z"}, {NULL}},
         true},
        {"not http",
         {{"redis://a", "", "h", "ftp://x", "http://"}, {NULL}},
         {{NULL}, {NULL}},
         true},
        {"scheme", {{"http://a:80"}, {NULL}}, {{"https://a:80"}, {NULL}}, false},
        {"port", {{"http://a"}, {NULL}}, {{"http://a:81"}, {NULL}}, false},
        {"host", {{"http://a"}, {NULL}}, {{"http://b"}, {NULL}}, false},
        {"more", {{"http://a"}, {NULL}}, {{"http://a", "http://b"}, {NULL}}, false},
        {"networks",
         {{NULL}, {"10.0.0.0/8", "fd00::/8", "10.0.0.0/8"}},
         {{NULL}, {"fd00::/8", "10.0.0.0/8"}},
         true},
        {"bits behind the prefix", {{NULL}, {"10.1.2.3/8"}}, {{NULL}, {"10.0.0.0/8"}}, true},
        {"odd prefix", {{NULL}, {"10.255.0.0/9"}}, {{NULL}, {"10.128.0.0/9"}}, true},
        {"mapped", {{NULL}, {"::ffff:10.0.0.0/104"}}, {{NULL}, {"10.0.0.0/8"}}, true},
        {"length", {{NULL}, {"10.0.0.0/8"}}, {{NULL}, {"10.0.0.0/9"}}, false},
        {"family", {{NULL}, {"0.0.0.0/0"}}, {{NULL}, {"::/0"}}, false},
        {"one is missing", {{NULL}, {"10.0.0.0/8"}}, {{NULL}, {NULL}}, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        struct client_rules *a = rules_of(rows[i].a.urls, rows[i].a.networks);
        struct client_rules *b = rules_of(rows[i].b.urls, rows[i].b.networks);
        CHECK(client_rules_equal(a, b) == rows[i].is_equal);
        CHECK(client_rules_equal(b, a) == rows[i].is_equal);
        CHECK(client_rules_equal(a, a));
        client_rules_unref(client_rules_ref(a));
        CHECK(client_rules_unref(a) == NULL);
        client_rules_unref(b);
    }
    CHECK(client_rules_unref(NULL) == NULL);
}

/* --- targets --- */

static const char *no_variable(void *context, const char *name) {
    (void)context;
    (void)name;
    return NULL;
}

struct outcome {
    int error;
    bool is_guarded;
    const char *reason;
};

static struct outcome try_url(struct client_rules *rules, const char *url, const char *proxy) {
    struct outcome outcome = {.reason = ""};
    struct client_target *target = NULL;
    struct client_target_options options = {.url = slice_from_cstr(url),
                                            .proxy = slice_from_cstr(proxy),
                                            .getenv_fn = no_variable,
                                            .rules = rules};
    outcome.error = client_target_new(&options, &target, &outcome.reason);
    outcome.is_guarded = target != NULL && target->rules != NULL;
    client_target_free(target);
    return outcome;
}

static void test_exempt(void) {
    static const struct {
        const char *named, *asked;
        bool is_exempt;
    } rows[] = {
        {"https://h", "https://h/", true},
        {"https://h/mcp?x", "https://h/keys", true},
        {"https://h", "https://h:443/", true},
        {"https://h:443", "https://H/", true},
        {"HTTPS://H.Example", "https://h.eXample", true},
        {"http://h", "http://h:80/a", true},
        {"http://h:8080", "http://h:8080", true},
        {"https://h:0443", "https://h", false}, /* no port: left out */
        {"http://h", "https://h", false},
        {"http://h:443", "https://h:443", false},
        {"https://h", "https://h:8443", false},
        {"https://h", "https://a.h", false},
        {"https://a.h", "https://h", false},
        {"https://h", "https://hh", false},
        {"https://h.", "https://h", false},
        {"https://u:p@h", "https://h", true},
        {"https://[::1]", "https://[0:0:0:0:0:0:0:1]", true},
        {"https://[0000::0001]:443", "https://[::1]", true},
        {"https://[::1]", "https://[::2]", false},
        {"https://[::1]", "https://127.0.0.1", false},
        {"https://[::ffff:10.0.0.1]", "https://10.0.0.1", true},
        {"https://10.0.0.1", "https://[::ffff:a00:1]", true},
        {"https://10.0.0.1", "https://[::10.0.0.1]", false},
        {"https://10.0.0.1", "https://10.0.0.2", false},
        {"https://10.0.0.1", "https://10.0.0.1:444", false},
        {"https://localhost", "https://127.0.0.1", false},
        {"https://[FD00::AB]", "https://[fd00::ab]", true},
        {"wss://h", "https://h", false},
        {"https://h#f", "https://h", true},
        {"", "https://h", false},
        {"https://", "https://h", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].asked);
        const char *const urls[SET_MAX] = {"http://first.example:1", rows[i].named,
                                           "https://zzz.example"};
        struct client_rules *rules = rules_of(urls, NULL);
        struct outcome outcome = try_url(rules, rows[i].asked, "none");
        CHECK_INT(outcome.error, 0);
        CHECK(outcome.is_guarded == !rows[i].is_exempt);
        /* What the configuration names may go through a proxy; nothing else. */
        outcome = try_url(rules, rows[i].asked, "http://proxy.example:3128");
        CHECK_INT(outcome.error, rows[i].is_exempt ? 0 : CLIENT_E_INVALID);
        client_rules_unref(rules);
    }
}

#define HTTPS_ONLY                                                                                 \
    "a URL that nobody configured has to be https; http is for loopback that "                     \
    "security.allow_networks opens"
#define NO_PROXY                                                                                   \
    "a URL that nobody configured is not asked through a proxy, which would look its name up "     \
    "unchecked: name its host in the configuration, or in no_proxy"

static void test_refused_urls(void) {
    static const struct {
        const char *url, *proxy, *networks[SET_MAX], *reason; /* NULL: fine, but guarded */
    } rows[] = {
        {"https://h/", "", {NULL}, NULL},
        {"https://10.0.0.1/", "", {NULL}, NULL}, /* the dial refuses it, and says what it is */
        {"http://h/", "", {NULL}, HTTPS_ONLY},
        {"http://localhost/", "", {NULL}, HTTPS_ONLY},
        {"http://127.0.0.1/", "", {NULL}, HTTPS_ONLY},
        {"http://[::1]/", "", {NULL}, HTTPS_ONLY},
        {"http://8.8.8.8/", "", {NULL}, HTTPS_ONLY},
        {"http://8.8.8.8/", "", {"0.0.0.0/0", "::/0"}, HTTPS_ONLY},
        {"http://10.0.0.1/", "", {"10.0.0.0/8"}, HTTPS_ONLY},
        {"http://10.0.0.1/", "", {"0.0.0.0/0"}, HTTPS_ONLY},
        {"http://0.0.0.0/", "", {"0.0.0.0/0"}, HTTPS_ONLY},
        {"http://[::]/", "", {"::/0"}, HTTPS_ONLY},
        {"http://[::127.0.0.1]/", "", {"127.0.0.0/8", "::/0"}, HTTPS_ONLY},
        {"http://h/", "", {"10.0.0.0/8", "::2/128", "128.0.0.0/1"}, HTTPS_ONLY},
        {"http://h/", "", {"10.0.0.0/8", "127.0.0.0/8"}, NULL},
        {"http://h/", "", {"127.1.2.3/32"}, NULL},
        {"http://h/", "", {"::1/128"}, NULL},
        {"http://h/", "", {"0.0.0.0/0"}, NULL},
        {"http://h/", "", {"64.0.0.0/2"}, NULL},
        {"http://h/", "", {"::/0"}, NULL},
        {"http://127.0.0.1/", "", {"127.0.0.0/8"}, NULL},
        {"http://127.0.0.1/", "", {"::ffff:127.0.0.0/104"}, NULL},
        {"http://127.0.0.1/", "", {"127.0.0.2/32"}, HTTPS_ONLY},
        {"http://127.0.0.1/", "", {"::1/128"}, HTTPS_ONLY},
        {"http://[::1]/", "", {"127.0.0.0/8"}, HTTPS_ONLY},
        {"http://[::1]/", "", {"::1/128"}, NULL},
        {"http://[::ffff:127.0.0.1]/", "", {"127.0.0.0/8"}, NULL},
        {"https://h/", "http://proxy.example:3128", {NULL}, NO_PROXY},
        {"https://h/", "http://proxy.example:3128", {"0.0.0.0/0", "::/0"}, NO_PROXY},
        {"https://8.8.8.8/", "http://proxy.example:3128", {NULL}, NO_PROXY},
        {"https://h/", "socks5://u:p@proxy.example", {NULL}, NO_PROXY},
        {"http://h/", "http://proxy.example:3128", {NULL}, HTTPS_ONLY},
        {"http://localhost/", "http://proxy.example:3128", {"127.0.0.0/8"}, NO_PROXY},
        {"https://u@h/", "", {NULL}, "the URL has a user or password in it"},
        {"https://h/#f", "", {NULL}, "the URL has a fragment"},
        {"ftp://h/", "", {NULL}, "the URL is neither http nor https"},
        {"file:///etc/passwd", "", {NULL}, "the URL is neither http nor https"},
        {"gopher://127.0.0.1:6379/_x", "", {NULL}, "the URL is neither http nor https"},
        {"data:,x", "", {NULL}, "the URL is neither http nor https"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].url);
        struct client_rules *rules = rules_of(NULL, rows[i].networks);
        struct outcome outcome = try_url(rules, rows[i].url, rows[i].proxy);
        CHECK_INT(outcome.error, rows[i].reason == NULL ? 0 : CLIENT_E_INVALID);
        CHECK_STR(slice_from_cstr(outcome.reason), rows[i].reason);
        CHECK(outcome.is_guarded == (rows[i].reason == NULL));
        client_rules_unref(rules);
    }
}

/* The environment's proxy is one as well; no_proxy takes it away, and with it the refusal. */
static const char *a_proxy(void *context, const char *name) {
    const char *exempt = context;
    if (strcmp(name, "https_proxy") == 0)
        return "http://proxy.example:3128";
    return strcmp(name, "no_proxy") == 0 ? exempt : NULL;
}

static void test_environment(void) {
    static const struct {
        const char *url, *no_proxy;
        int error;
    } rows[] = {
        {"https://h.example/", "", CLIENT_E_INVALID},
        {"https://h.example/", ".example", 0},
        {"https://h.example/", "other.example", CLIENT_E_INVALID},
        {"https://localhost/", "", 0},
        {"https://named.example/", "", 0},
    };
    const char *const urls[SET_MAX] = {"https://named.example"};
    struct client_rules *rules = rules_of(urls, NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char exempt[32];
        struct client_target *target = NULL;
        const char *reason = "";
        test_row(rows[i].url);
        snprintf(exempt, sizeof exempt, "%s", rows[i].no_proxy);
        struct client_target_options options = {.url = slice_from_cstr(rows[i].url),
                                                .getenv_fn = a_proxy,
                                                .getenv_context = exempt,
                                                .rules = rules};
        CHECK_INT(client_target_new(&options, &target, &reason), rows[i].error);
        CHECK_STR(slice_from_cstr(reason), rows[i].error != 0 ? NO_PROXY : "");
        client_target_free(target);
    }
    client_rules_unref(rules);
}

/* --- addresses --- */

static void test_allowed(void) {
    static const struct {
        const char *address, *networks[SET_MAX];
        bool by_https, by_http;
        const char *reason; /* of https, or else of http */
    } rows[] = {
        {"8.8.8.8",
         {NULL},
         true,
         false,
         "8.8.8.8 is a public address, and http is for loopback that security.allow_networks "
         "opens"},
        {"8.8.8.8",
         {"8.0.0.0/8"},
         true,
         false,
         "8.8.8.8 is a public address, and http is for loopback that security.allow_networks "
         "opens"},
        {"10.0.0.7",
         {NULL},
         false,
         false,
         "10.0.0.7 is a private address, which nobody configured: security.allow_networks opens "
         "networks"},
        {"10.0.0.7",
         {"10.0.0.0/29"},
         true,
         false,
         "10.0.0.7 is a private address, and http is for loopback that "
         "security.allow_networks opens"},
        {"10.0.0.8",
         {"10.0.0.0/29"},
         false,
         false,
         "10.0.0.8 is a private address, which nobody configured: security.allow_networks opens "
         "networks"},
        {"127.0.0.1",
         {"10.0.0.0/8"},
         false,
         false,
         "127.0.0.1 is a loopback address, which nobody configured: security.allow_networks opens "
         "networks"},
        {"127.0.0.1", {"127.0.0.1/32"}, true, true, NULL},
        {"::1", {"::/127"}, true, true, NULL},
        {"::1", {"127.0.0.0/8"}, false, false, NULL},
        {"127.0.0.1", {"::/0"}, false, false, NULL},
        {"::ffff:10.0.0.7", {"10.0.0.0/8"}, true, false, NULL},
        {"::10.0.0.7", {"10.0.0.0/8"}, false, false, NULL},
        {"64:ff9b::10.0.0.7", {"10.0.0.0/8"}, false, false, NULL},
        {"2002:a00:7::", {"10.0.0.0/8"}, false, false, NULL},
        {"2a00::5efe:10.0.0.7", {"10.0.0.0/8"}, false, false, NULL},
        {"2a00::5efe:10.0.0.7", {"2a00::/16"}, true, false, NULL},
        {"64:ff9b::10.0.0.7", {"64:ff9b::/96"}, true, false, NULL},
        {"fd12:3456::1", {"fd12:3456::/32"}, true, false, NULL},
        {"169.254.169.254", {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}, false, false, NULL},
        {"0.0.0.0", {"127.0.0.0/8", "::1/128"}, false, false, NULL},
        {"::", {"127.0.0.0/8", "::1/128"}, false, false, NULL},
        {"fe80::1234:5678:9abc:def0",
         {NULL},
         false,
         false,
         "fe80::1234:5678:9abc:def0 is a link-local address, which nobody configured: "
         "security.allow_networks opens networks"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[CLIENT_RULES_TEXT];
        test_row(rows[i].address);
        struct client_rules *rules = rules_of(NULL, rows[i].networks);
        struct network address = address_of(rows[i].address);
        CHECK(client_rules_allow(rules, &address, true) == rows[i].by_https);
        CHECK(client_rules_allow(rules, &address, false) == rows[i].by_http);
        client_rules_explain(rules, &address, !rows[i].by_https, text);
        if (rows[i].reason != NULL)
            CHECK_STR(slice_from_cstr(text), rows[i].reason);
        client_rules_unref(rules);
    }
}

/* The longest sentence is whole. */
static void test_long_sentences(void) {
    static const char cure[] = "security.allow_networks opens";
    static const char *const none[SET_MAX] = {NULL};
    struct client_rules *rules = rules_of(none, none);
    REQUIRE(rules != NULL);
    for (size_t i = 0; i < ARRAY_LEN(registry); i++) {
        char text[CLIENT_RULES_TEXT];
        struct network address = address_of(registry[i].last);
        for (int is_tls = 0; is_tls < 2; is_tls++) {
            client_rules_explain(rules, &address, is_tls != 0, text);
            test_row(text);
            CHECK(strstr(text, cure) != NULL);
            CHECK(strlen(text) + 1 < sizeof text);
        }
    }
    client_rules_unref(rules);
}

/* Of the store: no address of the link or of a cloud, whatever clothes it wears. */
static void test_rules_for_stored(void) {
    static const struct {
        const char *address;
        bool is_allowed;
    } rows[] = {
        {"127.0.0.1", true},
        {"10.0.0.1", true},
        {"192.0.2.1", true},
        {"::1", true},
        {"fd00::1", true},
        {"169.254.169.254", false},
        {"169.254.0.1", false},
        {"169.253.255.255", true},
        {"169.255.0.0", true},
        {"168.63.129.16", false},
        {"100.100.100.200", false},
        {"100.100.100.201", true},
        {"192.0.0.192", false},
        {"fe80::1", false},
        {"febf::1", false},
        {"fec0::1", true},
        {"fd00:ec2::254", false},
        {"::ffff:169.254.169.254", false},
        {"::169.254.169.254", false},
        {"::ffff:0:169.254.169.254", false},
        {"64:ff9b::a9fe:a9fe", false},
        {"64:ff9b:1::a9fe:a9fe", false},
        {"2002:a9fe:a9fe::1", false},
        {"2002:a00:1::1", true},
    };
    struct client_rules *rules = NULL;
    REQUIRE(client_rules_for_stored(&rules) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[CLIENT_RULES_TEXT];
        struct network address = address_of(rows[i].address);
        test_row(rows[i].address);
        CHECK(client_rules_allow(rules, &address, false) == rows[i].is_allowed);
        CHECK(client_rules_allow(rules, &address, true) == rows[i].is_allowed);
        client_rules_explain(rules, &address, true, text);
        CHECK(strlen(text) + 1 < sizeof text);
    }
    client_rules_unref(rules);
}

/* --- memory --- */

static void run_rules(void *arg) {
    static const char *const urls[SET_MAX] = {"https://b.example", "http://[::1]:8080/x",
                                              "https://a.example:444/y", "redis://z"};
    static const char *const networks[SET_MAX] = {"10.0.0.0/8", "fd00::/8"};
    size_t *n_done = arg;
    struct client_rules *rules = rules_of(urls, networks);
    if (rules == NULL)
        return;
    struct outcome named = try_url(rules, "https://a.example:444/", "http://proxy.example:3128");
    struct outcome other = try_url(rules, "https://c.example/", "none");
    CHECK(named.error == 0 || named.error == -ENOMEM);
    CHECK(other.error == 0 || other.error == -ENOMEM);
    CHECK(!named.is_guarded);
    CHECK(other.is_guarded == (other.error == 0));
    *n_done += named.error == 0 && other.error == 0;
    client_rules_unref(rules);
}

static void test_memory(void) {
    size_t n_done = 0;
    test_torture(run_rules, &n_done);
    CHECK_INT(n_done, 1);
}

TEST_MAIN(TEST(test_registry), TEST(test_addresses), TEST(test_odd_values), TEST(test_oracle),
          TEST(test_equal), TEST(test_exempt), TEST(test_refused_urls), TEST(test_environment),
          TEST(test_allowed), TEST(test_long_sentences), TEST(test_rules_for_stored),
          TEST(test_memory))
