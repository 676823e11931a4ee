/*
 * no_proxy has no standard; what is read here is what the common clients agree on, and where they
 * do not, the meaning that goes to fewer places by accident: a name matches itself and what lies
 * below it ("example.com" and ".example.com" alike: a.example.com, but not badexample.com); names
 * match names and addresses match addresses, so "0.1" is not the end of 10.0.0.1. An entry that is
 * none of the known forms matches nothing.
 */
#include <arpa/inet.h>

#include "private.h"

enum { ADDRESS_TEXT = 46, V4_BITS = 32, V6_BITS = 128 };

/* An IPv4 address in IPv6 form (RFC 4291 section 2.5.5.2) is taken for what it stands for. */
struct address {
    unsigned bits; /* V4_BITS or V6_BITS */
    unsigned char bytes[16];
};

static bool parse_address(struct slice text, struct address *ret_address) {
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    char cstr[ADDRESS_TEXT];
    struct address address = {.bits = V4_BITS};
    if (slice_to_cstr(text, cstr, sizeof cstr) != 0)
        return false;
    if (inet_pton(AF_INET, cstr, address.bytes) != 1) {
        if (inet_pton(AF_INET6, cstr, address.bytes) != 1)
            return false;
        address.bits = V6_BITS;
        if (memcmp(address.bytes, mapped, sizeof mapped) == 0) {
            memmove(address.bytes, address.bytes + sizeof mapped, V4_BITS / 8);
            address.bits = V4_BITS;
        }
    }
    *ret_address = address;
    return true;
}

static bool same_prefix(const struct address *a, const struct address *b, unsigned bits) {
    unsigned whole = bits / 8, rest = bits % 8;
    if (a->bits != b->bits || bits > a->bits || memcmp(a->bytes, b->bytes, whole) != 0)
        return false;
    return rest == 0 || ((a->bytes[whole] ^ b->bytes[whole]) & (0xffu << (8 - rest)) & 0xffu) == 0;
}

/* "10.0.0.0/8", "fd00::/8". */
static bool block_has(struct slice network, struct slice length, const struct address *host) {
    struct address block;
    uint64_t bits;
    bool is_v6_text = slice_find_byte(network, ':') != SIZE_MAX;
    if (!parse_address(network, &block) || slice_to_u64(length, &bits) != 0)
        return false;
    if (bits > (is_v6_text ? V6_BITS : V4_BITS))
        return false;
    if (is_v6_text && block.bits == V4_BITS) { /* ::ffff:10.0.0.0/104 */
        if (bits < V6_BITS - V4_BITS)
            return false;
        bits -= V6_BITS - V4_BITS;
    }
    return same_prefix(&block, host, (unsigned)bits);
}

/* Splits "host:port" and "[v6]:port"; a bare IPv6 address has no port. False: malformed. */
static bool split_port(struct slice entry, struct slice *ret_host, uint64_t *ret_port) {
    struct slice host = entry, rest = SLICE_EMPTY;
    *ret_port = 0;
    if (slice_starts_with(entry, SLICE("["))) {
        size_t close = slice_find_byte(entry, ']');
        host = slice_sub(entry, 1, close);
        rest = slice_from(entry, close < entry.len ? close + 1 : close);
        if (close == SIZE_MAX || (rest.len != 0 && rest.ptr[0] != ':'))
            return false;
    } else {
        size_t colon = slice_find_byte(entry, ':');
        if (colon != SIZE_MAX && slice_find_byte(slice_from(entry, colon + 1), ':') == SIZE_MAX) {
            host = slice_sub(entry, 0, colon);
            rest = slice_from(entry, colon);
        }
    }
    *ret_host = host;
    if (rest.len == 0)
        return true;
    return slice_to_u64(slice_from(rest, 1), ret_port) == 0 && *ret_port >= 1 &&
           *ret_port <= UINT16_MAX;
}

/* `domain` itself or, from a border of labels on, what ends in it. */
static bool name_is_in(struct slice name, struct slice domain) {
    if (slice_starts_with(domain, SLICE("*.")))
        domain = slice_from(domain, 2);
    else if (slice_starts_with(domain, SLICE(".")))
        domain = slice_from(domain, 1);
    if (slice_ends_with(domain, SLICE(".")))
        domain = slice_sub(domain, 0, domain.len - 1);
    if (domain.len == 0 || domain.len > name.len)
        return false;
    size_t from = name.len - domain.len;
    return slice_eq_nocase(slice_from(name, from), domain) &&
           (from == 0 || name.ptr[from - 1] == '.');
}

static bool entry_has(struct slice entry, const struct uri *uri, const struct address *address) {
    struct slice host, length, network;
    struct address other;
    uint64_t port;
    if (slice_eq(entry, SLICE("*")))
        return true;
    if (slice_cut(entry, '/', &network, &length))
        return address != NULL && block_has(network, length, address);
    if (!split_port(entry, &host, &port) || (port != 0 && port != uri->port))
        return false;
    if (address == NULL)
        return name_is_in(uri->host, host);
    return parse_address(host, &other) && same_prefix(&other, address, other.bits);
}

bool client_no_proxy_has(struct slice list, const struct uri *uri) {
    struct address address;
    bool is_address = parse_address(uri->host, &address);
    while (list.len != 0) {
        size_t n = 0;
        while (n < list.len && list.ptr[n] != ',' && list.ptr[n] != ' ' && list.ptr[n] != '\t')
            n++;
        struct slice entry = slice_sub(list, 0, n);
        list = slice_from(list, n + 1);
        if (entry.len != 0 && entry_has(entry, uri, is_address ? &address : NULL))
            return true;
    }
    return false;
}

/* 127.0.0.0/8, ::1, and names that are loopback by RFC 6761 section 6.3. */
bool client_is_loopback(const struct uri *uri) {
    static const struct address v6 = {.bits = V6_BITS, .bytes = {[15] = 1}};
    static const struct address v4 = {.bits = V4_BITS, .bytes = {127}};
    struct address address;
    if (!parse_address(uri->host, &address))
        return name_is_in(uri->host, SLICE("localhost"));
    return same_prefix(&address, &v6, V6_BITS) || same_prefix(&address, &v4, 8);
}
