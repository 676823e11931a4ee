/*
 * Names to addresses, for dial.c: one look-up is one object with a c-ares channel (so a socket, a
 * port and timeouts) of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/limits.h"
#include "io/dial.h"
#include "io/loop.h"

struct lookup;

enum lookup_family { LOOKUP_V6, LOOKUP_V4 };

enum { LOOKUP_FAMILIES = 2 };

/* The look-up learnt something. It may be freed inside. */
typedef void lookup_fn(void *context);

/*
 * Looks the name up, in /etc/hosts at once (so it may be finished on return), then by DNS. `name`
 * is a host name that lookup_is_name() takes. 0, or -errno with a sentence in *ret_reason.
 */
MUST_CHECK int lookup_start(struct io_resolver *resolver, struct slice name, uint16_t port,
                            lookup_fn *fn, void *context, struct lookup **ret_lookup,
                            const char **ret_reason);
/* Accepts NULL. */
struct lookup *lookup_free(struct lookup *lookup);

/* No more addresses of this family will come. */
bool lookup_is_done(const struct lookup *lookup, enum lookup_family family);
/* What has come, at most LIMIT_DIAL_ADDRESSES; in the order of RFC 6724. */
size_t lookup_count(const struct lookup *lookup, enum lookup_family family);
const struct io_address *lookup_address(const struct lookup *lookup, enum lookup_family family,
                                        size_t index);
/* Why there is no address, when there is none: -errno and a fixed sentence. */
int lookup_error(const struct lookup *lookup, const char **ret_reason);

/*
 * Letters, digits, hyphens and underscores in labels of at most 63, 253 in all, a last dot allowed;
 * and the last label is no number, because what looks like an address and is none ("127.1",
 * "0x7f000001") means something else to everybody.
 */
bool lookup_is_name(struct slice name);

struct io_loop *resolver_loop(const struct io_resolver *resolver);

/*
 * Test support: ask these servers ("127.0.0.1:5353,[::1]:5354") instead of those of the system, and
 * read the file that the environment names in CARES_HOSTS instead of /etc/hosts.
 */
void resolver_set_test_servers(struct io_resolver *resolver, const char *servers);
