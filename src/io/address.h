/* What the files of io/ share about addresses. */
#pragma once

#include <netinet/in.h>

#include "io/stream.h"

/* Fills in text and is_loopback from storage. */
void address_describe(struct io_address *address);

/*
 * Addresses to connect to. An IPv4 address in IPv6 clothes (::ffff:127.0.0.1, RFC 4291 section
 * 2.5.5.2) is made IPv4, and the unspecified addresses, which Linux connects to itself, count as
 * loopback: who looks at the address before it is used sees what it is.
 */
void address_of_peer_v4(const struct in_addr *in, uint16_t port, struct io_address *ret_address);
void address_of_peer_v6(const struct in6_addr *in, uint16_t port, struct io_address *ret_address);
/* A dotted quad or an IPv6 address (without brackets and zone). -EINVAL when it is neither. */
MUST_CHECK int address_of_literal(struct slice host, uint16_t port, struct io_address *ret_address);

static inline const struct sockaddr *address_sockaddr(const struct io_address *address) {
    return (const struct sockaddr *)(const void *)address->storage;
}
