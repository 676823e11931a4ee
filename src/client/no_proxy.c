/*
 * no_proxy has no standard; what is read here is what the common clients agree on, and where they
 * do not, the meaning that goes to fewer places by accident: a name matches itself and what lies
 * below it ("example.com" and ".example.com" alike: a.example.com, but not badexample.com); names
 * match names and addresses match addresses, so "0.1" is not the end of 10.0.0.1. An entry that is
 * none of the known forms matches nothing.
 */
#include "base/network.h"
#include "private.h"

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

static bool entry_has(struct slice entry, const struct uri *uri, const struct network *address) {
    struct slice host;
    struct network network;
    uint64_t port;
    if (slice_eq(entry, SLICE("*")))
        return true;
    if (slice_find_byte(entry, '/') != SIZE_MAX)
        return address != NULL && network_parse(entry, &network) && network_has(&network, address);
    if (!split_port(entry, &host, &port) || (port != 0 && port != uri->port))
        return false;
    if (address == NULL)
        return name_is_in(uri->host, host);
    return network_parse_address(host, &network) && network_has(&network, address);
}

bool client_no_proxy_has(struct slice list, const struct uri *uri) {
    struct network address;
    bool is_address = network_parse_address(uri->host, &address);
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
    static const struct network v4 = {.family_bits = NETWORK_V4_BITS, .bits = 8, .bytes = {127}};
    static const struct network v6 = {
        .family_bits = NETWORK_V6_BITS, .bits = NETWORK_V6_BITS, .bytes = {[15] = 1}};
    struct network address;
    if (!network_parse_address(uri->host, &address))
        return name_is_in(uri->host, SLICE("localhost"));
    return network_has(&v6, &address) || network_has(&v4, &address);
}
