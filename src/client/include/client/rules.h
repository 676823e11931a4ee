/*
 * Which addresses may be dialled that nobody configured. What a server says (metadata, key sets,
 * token endpoints, redirects, endpoint events) may point anywhere; what is inside this machine's
 * network, or the cloud's own, is not for strangers to name. So such a URL is dialled only when
 *
 *  - its authority (scheme, host, port) is one that the configuration names: then anything goes; or
 *  - it is https, goes through no proxy (which would look its name up by itself), and the address
 *    that is connected to is public, or in a network that security.allow_networks opens. http will
 *    do for loopback that is opened so.
 *
 * The name is looked up once, and the address that was looked at is the one that is connected to.
 * Rules are immutable and counted; any thread.
 *
 * What is not public: the IANA special-purpose registries of IPv4 and IPv6 (RFC 6890 and its
 * updates), multicast, every form of IPv6 that carries an IPv4 address (mapped, compatible,
 * translated, 6to4, Teredo, NAT64, ISATAP), all of IPv6 outside 2000::/3, and 168.63.129.16, which
 * is the inside of one cloud.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/network.h"
#include "base/slice.h"

struct client_rules;

/* `urls`: those of which the authorities are exempt (others than http and https are left out);
 * `networks`: CIDR blocks. Both are copied. -ENOMEM. */
MUST_CHECK int client_rules_new(const struct slice *urls, size_t n_urls,
                                const struct network *networks, size_t n_networks,
                                struct client_rules **ret_rules);
/* For URLs of the store: everything but addresses of the link and of clouds themselves
 * (network_is_inner()), also by name. A proxy looks names up by itself, and is trusted to. */
MUST_CHECK int client_rules_for_stored(struct client_rules **ret_rules);
struct client_rules *client_rules_ref(struct client_rules *rules);
/* Accepts NULL. */
struct client_rules *client_rules_unref(struct client_rules *rules);

/* The same authorities and networks, in whatever order. */
bool client_rules_equal(const struct client_rules *a, const struct client_rules *b);

/* The kind of address that it is, as the end of "it is ..." ("a private address", "a 6to4
 * address"); NULL: a public one. */
const char *client_address_kind(const struct network *address);
