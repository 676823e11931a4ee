/*
 * IP addresses and CIDR blocks (RFC 4632, RFC 4291 section 2.3) as values to compare. An IPv4
 * address in IPv6 form (RFC 4291 section 2.5.5.2) is taken for what it stands for.
 */
#pragma once

#include <stdbool.h>

#include "base/compiler.h"
#include "base/slice.h"

enum { NETWORK_V4_BITS = 32, NETWORK_V6_BITS = 128 };

/* An address has as many bits as its family. */
struct network {
    unsigned family_bits; /* NETWORK_V4_BITS or NETWORK_V6_BITS */
    unsigned bits;        /* of the prefix */
    unsigned char bytes[16];
};

/* An address of `bits` (NETWORK_V4_BITS or NETWORK_V6_BITS) in network order. */
void network_from_bytes(const void *bytes, unsigned bits, struct network *ret_network);
/* False: no numeric address. *ret_network is untouched then. */
bool network_parse_address(struct slice text, struct network *ret_network);
/* An address, or "10.0.0.0/8", "fd00::/8", "::ffff:10.0.0.0/104". */
bool network_parse(struct slice text, struct network *ret_network);
/* Of this machine: 127.0.0.0/8, ::1. */
bool network_is_loopback(const struct network *address);
/* Of the link (RFC 3927, RFC 4291 section 2.5.6), or where clouds tell machines who they are and
 * what their credentials are; also in the forms of IPv6 that carry an IPv4 address. */
bool network_is_inner(const struct network *address);
bool network_has(const struct network *network, const struct network *address);
/* The address as text, in `text`; "" for none. */
enum { NETWORK_TEXT = 46 };
struct slice network_write_address(const struct network *address, char text[NETWORK_TEXT]);
