/*
 * Outgoing TCP: names to addresses (c-ares: a name server that hangs holds up nobody else), and
 * connections to the first address that answers. Objects belong to the thread of their loop; no
 * callback runs from inside the call that set it up, and none after a *_free().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/slice.h"
#include "io/loop.h"
#include "io/stream.h"

struct io_resolver; /* one per loop */
struct io_dial;

MUST_CHECK int io_resolver_new(struct io_loop *loop, struct io_resolver **ret_resolver);
/* After all its dials were freed. Accepts NULL. */
struct io_resolver *io_resolver_free(struct io_resolver *resolver);

/* At which step a dial failed, for the message that a person reads. */
enum io_dial_step { IO_DIAL_RESOLVE, IO_DIAL_CONNECT };

struct io_dial_result {
    int fd;                 /* connected, non-blocking, close-on-exec; the receiver's. -1: failed */
    struct io_address peer; /* the address that answered, or the last one tried */
    enum io_dial_step step; /* of a failure */
    int error;          /* -errno of a failure; -ETIMEDOUT, -ENOENT for a name without addresses */
    const char *reason; /* of a failure: a fixed sentence, such as "no such host" */
};

/* May look at each address before it is connected to: false refuses it (reported as -EACCES when
 * none is left). NULL: all are fine. */
typedef bool io_dial_check_fn(void *context, const struct io_address *address);
typedef void io_dial_fn(void *context, const struct io_dial_result *result);

/*
 * Connects to host (a name, IPv4 or IPv6 address without brackets) and port. Several addresses are
 * tried in turn, IPv6 and IPv4 alternating, the next one after 250 ms without an answer (RFC 8305);
 * all within timeout_ms. Names are looked up in /etc/hosts and by DNS; "localhost" and what ends in
 * ".localhost" is loopback without asking anybody (RFC 6761), 127.0.0.1 before ::1. At most 16
 * addresses are tried. What is neither a name nor an address ("127.1", "a b", a zone behind an
 * address) is reported as -EINVAL by `done`. An IPv4 address in IPv6 clothes is connected to, and
 * shown to `check`, as IPv4; the unspecified addresses, which reach this machine, are loopback.
 */
MUST_CHECK int io_dial_start(struct io_resolver *resolver, struct slice host, uint16_t port,
                             uint64_t timeout_ms, io_dial_check_fn *check, io_dial_fn *done,
                             void *context, struct io_dial **ret_dial);
/* Before `done`: gives up, and it is not called. After it: frees what is left. Accepts NULL. */
struct io_dial *io_dial_free(struct io_dial *dial);
