#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

_Static_assert(sizeof(struct sockaddr_storage) <= sizeof(((struct io_address *)0)->storage),
               "io_address holds any socket address");

void address_describe(struct io_address *address) {
    char host[INET6_ADDRSTRLEN] = "";
    if (address_sockaddr(address)->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address->storage, sizeof in);
        inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
        snprintf(address->text, sizeof address->text, "%s:%u", host, (unsigned)ntohs(in.sin_port));
        address->is_loopback = (ntohl(in.sin_addr.s_addr) >> 24) == 127;
    } else {
        struct sockaddr_in6 in;
        memcpy(&in, address->storage, sizeof in);
        inet_ntop(AF_INET6, &in.sin6_addr, host, sizeof host);
        snprintf(address->text, sizeof address->text, "[%s]:%u", host,
                 (unsigned)ntohs(in.sin6_port));
        address->is_loopback = IN6_IS_ADDR_LOOPBACK(&in.sin6_addr) != 0;
    }
}

static void set_v4(const struct in_addr *in, uint16_t port, struct io_address *ret_address) {
    struct io_address address = {.size = sizeof(struct sockaddr_in)};
    struct sockaddr_in whole = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = *in};
    memcpy(address.storage, &whole, sizeof whole);
    address_describe(&address);
    *ret_address = address;
}

static void set_v6(const struct in6_addr *in, uint16_t port, struct io_address *ret_address) {
    struct io_address address = {.size = sizeof(struct sockaddr_in6)};
    struct sockaddr_in6 whole = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *in};
    memcpy(address.storage, &whole, sizeof whole);
    address_describe(&address);
    *ret_address = address;
}

int io_address_parse(struct slice text, struct io_address *ret_address) {
    char host[INET6_ADDRSTRLEN];
    uint64_t port;
    size_t colon = text.len;
    while (colon != 0 && text.ptr[colon - 1] != ':')
        colon--;
    if (colon == 0 || slice_to_u64(slice_from(text, colon), &port) != 0 || port > UINT16_MAX)
        return -EINVAL;
    struct slice name = slice_sub(text, 0, colon - 1);
    bool is_v6 = slice_starts_with(name, SLICE("[")) && slice_ends_with(name, SLICE("]"));
    if (is_v6)
        name = slice_sub(name, 1, name.len - 1);
    if (slice_to_cstr(name, host, sizeof host) != 0)
        return -EINVAL;
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(is_v6 ? AF_INET6 : AF_INET, host, is_v6 ? (void *)&v6 : (void *)&v4) != 1)
        return -EINVAL;
    if (is_v6)
        set_v6(&v6, (uint16_t)port, ret_address);
    else
        set_v4(&v4, (uint16_t)port, ret_address);
    return 0;
}

struct network io_sockaddr_network(const struct sockaddr *address) {
    struct network network = {.family_bits = 0};
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof v4);
        network_from_bytes(&v4.sin_addr, NETWORK_V4_BITS, &network);
    } else if (address->sa_family == AF_INET6) {
        memcpy(&v6, address, sizeof v6);
        network_from_bytes(&v6.sin6_addr, NETWORK_V6_BITS, &network);
    }
    return network;
}

struct network io_address_network(const struct io_address *address) {
    return io_sockaddr_network(address_sockaddr(address));
}

void address_of_peer_v4(const struct in_addr *in, uint16_t port, struct io_address *ret_address) {
    set_v4(in, port, ret_address);
    if (in->s_addr == htonl(INADDR_ANY))
        ret_address->is_loopback = true;
}

void address_of_peer_v6(const struct in6_addr *in, uint16_t port, struct io_address *ret_address) {
    if (IN6_IS_ADDR_V4MAPPED(in)) {
        struct in_addr mapped;
        memcpy(&mapped, &in->s6_addr[12], sizeof mapped);
        address_of_peer_v4(&mapped, port, ret_address);
        return;
    }
    set_v6(in, port, ret_address);
    if (IN6_IS_ADDR_UNSPECIFIED(in))
        ret_address->is_loopback = true;
}

int address_of_literal(struct slice host, uint16_t port, struct io_address *ret_address) {
    char text[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;
    if (slice_to_cstr(host, text, sizeof text) != 0)
        return -EINVAL;
    if (inet_pton(AF_INET, text, &v4) == 1)
        address_of_peer_v4(&v4, port, ret_address);
    else if (inet_pton(AF_INET6, text, &v6) == 1)
        address_of_peer_v6(&v6, port, ret_address);
    else
        return -EINVAL;
    return 0;
}
