/*
 * What strangers may name, in three parts: the table of what is not public, the authorities and
 * networks of a configuration, and what they mean for a URL and for an address.
 *
 * The table decides by the bytes that are connected to, never by text: a name, a number in another
 * base or an address in other clothes has become a socket address long before (io/dial.h). What no
 * row has is public, so the rows of IPv6 close all but 2000::/3, and a registry row of which IANA
 * says that it is globally reachable is closed as well: nobody's issuer lives there.
 */
#include "client/rules.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/mem.h"
#include "private.h"

/* --- what is not public --- */

struct row {
    const char *kind; /* what it is, for "it is ..." */
    struct network network;
    unsigned at; /* the byte of the address at which the network begins */
};

#define V4(n_bits, ...)                                                                            \
    {                                                                                              \
        .family_bits = NETWORK_V4_BITS, .bits = (n_bits), .bytes = { __VA_ARGS__ }                 \
    }
#define V6(n_bits, ...)                                                                            \
    {                                                                                              \
        .family_bits = NETWORK_V6_BITS, .bits = (n_bits), .bytes = { __VA_ARGS__ }                 \
    }

/* The first row that fits names the address: what is special stands before what it is part of. */
static const struct row closed[] = {
    {"an unspecified address", V4(8, 0), 0},                         /* RFC 791 section 3.2 */
    {"a private address", V4(8, 10), 0},                             /* RFC 1918 */
    {"a carrier-grade NAT address", V4(10, 100, 64), 0},             /* RFC 6598 */
    {"a loopback address", V4(8, 127), 0},                           /* RFC 1122 section 3.2.1.3 */
    {"a cloud's own address", V4(32, 168, 63, 129, 16), 0},          /* Azure's host */
    {"a link-local address", V4(16, 169, 254), 0},                   /* RFC 3927 */
    {"a private address", V4(12, 172, 16), 0},                       /* RFC 1918 */
    {"an address of IETF protocols", V4(24, 192, 0, 0), 0},          /* RFC 6890 section 2.1 */
    {"a documentation address", V4(24, 192, 0, 2), 0},               /* RFC 5737 */
    {"an AS112 address", V4(24, 192, 31, 196), 0},                   /* RFC 7535 */
    {"an AMT address", V4(24, 192, 52, 193), 0},                     /* RFC 7450 */
    {"a 6to4 relay's address", V4(24, 192, 88, 99), 0},              /* RFC 7526 */
    {"a private address", V4(16, 192, 168), 0},                      /* RFC 1918 */
    {"an AS112 address", V4(24, 192, 175, 48), 0},                   /* RFC 7534 */
    {"a benchmarking address", V4(15, 198, 18), 0},                  /* RFC 2544 */
    {"a documentation address", V4(24, 198, 51, 100), 0},            /* RFC 5737 */
    {"a documentation address", V4(24, 203, 0, 113), 0},             /* RFC 5737 */
    {"a multicast address", V4(4, 224), 0},                          /* RFC 5771 */
    {"the broadcast address", V4(32, 255, 255, 255, 255), 0},        /* RFC 919 */
    {"a reserved address", V4(4, 240), 0},                           /* RFC 1112 section 4 */
    {"a loopback address", V6(128, [15] = 1), 0},                    /* RFC 4291 section 2.5.3 */
    {"an unspecified address", V6(128, 0), 0},                       /* RFC 4291 section 2.5.2 */
    {"an IPv4-compatible address", V6(96, 0), 0},                    /* RFC 4291 section 2.5.5.1 */
    {"an IPv4-mapped address", V6(96, [10] = 0xff, [11] = 0xff), 0}, /* section 2.5.5.2 */
    {"an IPv4-translated address", V6(96, [8] = 0xff, [9] = 0xff), 0}, /* RFC 2765 section 2.1 */
    {"a NAT64 address", V6(96, 0x00, 0x64, 0xff, 0x9b), 0},            /* RFC 6052 section 2.1 */
    {"a NAT64 address", V6(48, 0x00, 0x64, 0xff, 0x9b, 0, 1), 0},      /* RFC 8215 */
    {"a discard-only address", V6(48, 0x01, 0x00), 0},                 /* RFC 6666, RFC 9780 */
    {"a Teredo address", V6(32, 0x20, 0x01), 0},                       /* RFC 4380 */
    {"a benchmarking address", V6(48, 0x20, 0x01, 0, 2), 0},           /* RFC 5180 */
    {"an ORCHID", V6(28, 0x20, 0x01, 0, 0x10), 0},                     /* RFC 4843 */
    {"an ORCHID", V6(28, 0x20, 0x01, 0, 0x20), 0},                     /* RFC 7343 */
    {"an address of IETF protocols", V6(23, 0x20, 0x01), 0},           /* RFC 2928 */
    {"a documentation address", V6(32, 0x20, 0x01, 0x0d, 0xb8), 0},    /* RFC 3849 */
    {"a 6to4 address", V6(16, 0x20, 0x02), 0},                         /* RFC 3056 */
    {"an AS112 address", V6(48, 0x26, 0x20, 0, 0x4f, 0x80), 0},        /* RFC 7534 */
    {"a documentation address", V6(20, 0x3f, 0xff), 0},                /* RFC 9637 */
    {"a segment routing address", V6(16, 0x5f, 0x00), 0},              /* RFC 9602 */
    {"a private address", V6(7, 0xfc), 0},                             /* RFC 4193 */
    {"a link-local address", V6(10, 0xfe, 0x80), 0},                   /* RFC 4291 section 2.5.6 */
    {"a site-local address", V6(10, 0xfe, 0xc0), 0},                   /* RFC 3879 */
    {"a multicast address", V6(8, 0xff), 0},                           /* RFC 4291 section 2.7 */
    {"an ISATAP address", V6(32, 0x00, 0x00, 0x5e, 0xfe), 8},          /* RFC 5214 section 6.1 */
    {"an ISATAP address", V6(32, 0x02, 0x00, 0x5e, 0xfe), 8},
    /* RFC 4291 section 2.4: unicast addresses that were given out are in 2000::/3. */
    {"a reserved address", V6(3, 0x00), 0},
    {"a reserved address", V6(2, 0x40), 0},
    {"a reserved address", V6(1, 0x80), 0},
};

static const struct network loopback_v4 = V4(8, 127);
static const struct network loopback_v6 = V6(128, [15] = 1);

static bool row_has(const struct row *row, const struct network *address) {
    struct network part = {.family_bits = address->family_bits};
    memcpy(part.bytes, address->bytes + row->at, sizeof part.bytes - row->at);
    return network_has(&row->network, &part);
}

const char *client_address_kind(const struct network *address) {
    if (address->family_bits != NETWORK_V4_BITS && address->family_bits != NETWORK_V6_BITS)
        return "no address of the internet";
    for (size_t i = 0; i < ARRAY_LEN(closed); i++) {
        if (row_has(&closed[i], address))
            return closed[i].kind;
    }
    return NULL;
}

static bool is_loopback(const struct network *address) {
    return network_has(&loopback_v4, address) || network_has(&loopback_v6, address);
}

/* --- authorities --- */

/* "https://host:port" in one spelling: small letters, the port always, addresses by their value. */
enum { AUTHORITY_MAX = 8 + 253 + 2 + 6 };

struct authority {
    char text[AUTHORITY_MAX + 1];
    size_t len;
};

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static void write_authority(const struct uri *uri, bool is_tls, struct authority *ret_authority) {
    char address_text[NETWORK_TEXT];
    struct network address;
    struct slice host = uri->host;
    if (network_parse_address(host, &address))
        host = network_write_address(&address, address_text);
    /* A host is no longer than 253 bytes (http/uri.h), so all of it fits. */
    int n = snprintf(ret_authority->text, sizeof ret_authority->text, "http%s://%.*s:%u",
                     is_tls ? "s" : "", SLICE_ARGS(host), (unsigned)uri->port);
    ret_authority->len = n > 0 ? (size_t)n : 0;
    for (size_t i = 0; i < ret_authority->len; i++)
        ret_authority->text[i] = lower(ret_authority->text[i]);
}

/* False: not of http or https. */
static bool parse_authority(struct slice url, struct authority *ret_authority) {
    struct uri uri;
    if (uri_parse(url, &uri, NULL) != 0)
        return false;
    bool is_tls = slice_eq_nocase(uri.scheme, SLICE("https"));
    if (!is_tls && !slice_eq_nocase(uri.scheme, SLICE("http")))
        return false;
    write_authority(&uri, is_tls, ret_authority);
    return true;
}

/* --- a set of rules --- */

struct client_rules {
    atomic_size_t refs;
    /* Both sorted, each item once. */
    struct slice *authorities; /* in `text` */
    size_t n_authorities;
    struct network *networks;
    size_t n_networks;
    char *text;
    bool is_for_stored; /* everything but what is inner */
};

static int compare_slices(const void *a, const void *b) {
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

static int compare_networks(const void *a, const void *b) {
    const struct network *one = a, *other = b;
    if (one->family_bits != other->family_bits)
        return one->family_bits < other->family_bits ? -1 : 1;
    if (one->bits != other->bits)
        return one->bits < other->bits ? -1 : 1;
    return memcmp(one->bytes, other->bytes, sizeof one->bytes);
}

static int copy_authorities(struct client_rules *rules, const struct slice *urls, size_t n_urls) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(SIZE_MAX);
    struct authority authority = {.len = 0};
    size_t n = 0, len, at = 0;
    int error = 0;
    rules->authorities = mem_alloc(n_urls * sizeof *rules->authorities);
    if (rules->authorities == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n_urls && error == 0; i++) {
        if (!parse_authority(urls[i], &authority))
            continue;
        error = buf_append(&text, slice_make(authority.text, authority.len));
        rules->authorities[n++].len = authority.len;
    }
    if (error != 0)
        return error;
    if (n == 0)
        return 0;
    rules->text = buf_take(&text, &len);
    if (rules->text == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        rules->authorities[i].ptr = rules->text + at;
        at += rules->authorities[i].len;
    }
    qsort(rules->authorities, n, sizeof *rules->authorities, compare_slices);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || !slice_eq(rules->authorities[i], rules->authorities[i - 1]))
            rules->authorities[rules->n_authorities++] = rules->authorities[i];
    }
    return 0;
}

/* Without the bits behind its prefix: 10.1.2.3/8 is 10.0.0.0/8. */
static struct network bare_network(const struct network *network) {
    struct network bare = *network;
    for (unsigned bit = bare.bits; bit < 8 * sizeof bare.bytes; bit++)
        bare.bytes[bit / 8] &= (unsigned char)~(0x80u >> (bit % 8));
    return bare;
}

static int copy_networks(struct client_rules *rules, const struct network *networks, size_t n) {
    rules->networks = mem_alloc(n * sizeof *rules->networks);
    if (rules->networks == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        rules->networks[i] = bare_network(&networks[i]);
    qsort(rules->networks, n, sizeof *rules->networks, compare_networks);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || compare_networks(&rules->networks[i], &rules->networks[i - 1]) != 0)
            rules->networks[rules->n_networks++] = rules->networks[i];
    }
    return 0;
}

int client_rules_new(const struct slice *urls, size_t n_urls, const struct network *networks,
                     size_t n_networks, struct client_rules **ret_rules) {
    struct client_rules *rules = mem_alloc(sizeof *rules);
    size_t size;
    int error = 0;
    if (rules == NULL)
        return -ENOMEM;
    atomic_init(&rules->refs, 1);
    if (size_mul_overflows(n_urls, sizeof *rules->authorities, &size) ||
        size_mul_overflows(n_networks, sizeof *rules->networks, &size))
        error = -ENOMEM;
    if (error == 0)
        error = copy_authorities(rules, urls, n_urls);
    if (error == 0)
        error = copy_networks(rules, networks, n_networks);
    if (error == 0)
        *ret_rules = rules;
    else
        client_rules_unref(rules);
    return error;
}

int client_rules_for_stored(struct client_rules **ret_rules) {
    int error = client_rules_new(NULL, 0, NULL, 0, ret_rules);
    if (error == 0)
        (*ret_rules)->is_for_stored = true;
    return error;
}

struct client_rules *client_rules_ref(struct client_rules *rules) {
    atomic_fetch_add(&rules->refs, 1);
    return rules;
}

struct client_rules *client_rules_unref(struct client_rules *rules) {
    if (rules != NULL && atomic_fetch_sub(&rules->refs, 1) == 1) {
        mem_free(rules->authorities);
        mem_free(rules->networks);
        mem_free(rules->text);
        mem_free(rules);
    }
    return NULL;
}

bool client_rules_equal(const struct client_rules *a, const struct client_rules *b) {
    if (a->n_authorities != b->n_authorities || a->n_networks != b->n_networks ||
        a->is_for_stored != b->is_for_stored)
        return false;
    for (size_t i = 0; i < a->n_authorities; i++) {
        if (!slice_eq(a->authorities[i], b->authorities[i]))
            return false;
    }
    for (size_t i = 0; i < a->n_networks; i++) {
        if (compare_networks(&a->networks[i], &b->networks[i]) != 0)
            return false;
    }
    return true;
}

/* --- what they mean --- */

static bool is_opened(const struct client_rules *rules, const struct network *address) {
    for (size_t i = 0; i < rules->n_networks; i++) {
        if (network_has(&rules->networks[i], address))
            return true;
    }
    return false;
}

/* Of each two networks of which one lies in the other, one has the other's first address. */
static bool overlaps(const struct network *a, const struct network *b) {
    return network_has(a, b) || network_has(b, a);
}

static bool opens_loopback(const struct client_rules *rules) {
    for (size_t i = 0; i < rules->n_networks; i++) {
        const struct network *network = &rules->networks[i];
        if (overlaps(network, &loopback_v4) || overlaps(network, &loopback_v6))
            return true;
    }
    return false;
}

bool client_rules_exempt(const struct client_rules *rules, const struct uri *uri, bool is_tls) {
    struct authority authority = {.len = 0};
    write_authority(uri, is_tls, &authority);
    struct slice key = slice_make(authority.text, authority.len);
    return rules->n_authorities != 0 && bsearch(&key, rules->authorities, rules->n_authorities,
                                                sizeof key, compare_slices) != NULL;
}

bool client_rules_allow(const struct client_rules *rules, const struct network *address,
                        bool is_tls) {
    if (rules->is_for_stored)
        return !network_is_inner(address);
    if (!is_tls)
        return is_loopback(address) && is_opened(rules, address);
    return client_address_kind(address) == NULL || is_opened(rules, address);
}

const char *client_rules_refuse_url(const struct client_rules *rules, const struct uri *uri,
                                    bool is_tls, bool has_proxy) {
    struct network address;
    bool is_literal = network_parse_address(uri->host, &address);
    if (rules->is_for_stored)
        return is_literal && network_is_inner(&address) ? "it is an address of the link, or of a "
                                                          "cloud itself"
                                                        : NULL;
    if (!is_tls &&
        !(is_literal ? client_rules_allow(rules, &address, is_tls) : opens_loopback(rules)))
        return "a URL that nobody configured has to be https; http is for loopback that "
               "security.allow_networks opens";
    if (has_proxy)
        return "a URL that nobody configured is not asked through a proxy, which would look its "
               "name up unchecked: name its host in the configuration, or in no_proxy";
    return NULL;
}

void client_rules_explain(const struct client_rules *rules, const struct network *address,
                          bool is_tls, char ret_text[CLIENT_RULES_TEXT]) {
    char text[NETWORK_TEXT];
    struct slice shown = network_write_address(address, text);
    const char *kind = client_address_kind(address);
    if (rules->is_for_stored)
        snprintf(ret_text, CLIENT_RULES_TEXT,
                 "%.*s is an address of the link or of a cloud itself, where only the "
                 "configuration file may send it",
                 SLICE_ARGS(shown));
    else if (!is_tls && !is_loopback(address))
        snprintf(ret_text, CLIENT_RULES_TEXT,
                 "%.*s is %s, and http is for loopback that security.allow_networks opens",
                 SLICE_ARGS(shown), kind != NULL ? kind : "a public address");
    else
        snprintf(ret_text, CLIENT_RULES_TEXT,
                 "%.*s is %s, which nobody configured: security.allow_networks opens networks",
                 SLICE_ARGS(shown), kind != NULL ? kind : "a public address");
}
