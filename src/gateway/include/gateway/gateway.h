/*
 * The gateway: listener, HTTP connections, phases, sessions, calls. One event loop per worker
 * thread; a call is served on the worker where it lands.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/secret.h"
#include "config/config.h"
#include "io/loop.h"
#include "io/spawner.h"
#include "io/stream.h"
#include "io/tls.h"

struct gateway;

struct gateway_options {
    const struct config *config; /* outlives the gateway, as does what follows */
    struct log *log;
    struct secret *token;             /* the local bearer token */
    struct spawner *isolated, *plain; /* as upstream_set_options */
    struct slice version;
    bool is_local; /* no listener: for the commands that use upstreams directly */
};

MUST_CHECK int gateway_new(const struct gateway_options *options, struct gateway **ret_gateway);
/* After gateway_run() has returned. */
struct gateway *gateway_free(struct gateway *gateway);

/*
 * Binds the listen address. -EADDRINUSE and the like; -EPERM for an address that is not loopback.
 * The address, with the port that was picked for port 0, is then gateway_address().
 */
MUST_CHECK int gateway_listen(struct gateway *gateway);
const struct io_address *gateway_address(const struct gateway *gateway);

/*
 * Makes what is behind the gateway, after listening and before gateway_run(), once. `tls` is for
 * upstreams with https and starts loading when it is made: after the socket is open, so that nobody
 * waits for it to connect; NULL when none needs it; a reference is taken. -EINVAL: a configured URL
 * or proxy cannot be used, the log says which.
 */
MUST_CHECK int gateway_make_upstreams(struct gateway *gateway, struct io_tls *tls);

/*
 * Serves until gateway_stop() has done its work; the calling thread is worker 0. Returns 0, or
 * -EPIPE when the gateway had to end because the spawner was lost.
 */
MUST_CHECK int gateway_run(struct gateway *gateway);
/*
 * From worker 0. The first call drains: nothing is accepted any more, what runs is answered
 * (shutdown_timeout), children stop. The second one ends at once.
 */
void gateway_stop(struct gateway *gateway);

/* The loop of worker 0, for signals and the control socket. */
struct io_loop *gateway_loop(struct gateway *gateway);

/* What runs, as one JSON object, for the control socket:
 * {"address","upstreams":[{"name","state","tools",...}]}. */
int gateway_write_status(struct gateway *gateway, struct buf *out);
/* Calls `fn` on worker 0 whenever an upstream came, went or changed. Before gateway_run(). */
void gateway_on_change(struct gateway *gateway, void (*fn)(void *context), void *context);
/* True when no upstream is in its first start any more. */
bool gateway_is_settled(struct gateway *gateway);

/* For the command line. */

/* {"tools":[...]}: every tool that is served now, whole, with the name that clients see. */
int gateway_write_tools(struct gateway *gateway, struct buf *out);
/*
 * Calls a tool as the local principal; `arguments` is a JSON object. `done` comes once, on worker
 * 0: `result` is the result object, or empty and `error` says why. 0; -ENOENT: there is no such
 * tool; -EINVAL: arguments are no object.
 */
typedef void gateway_called_fn(void *context, struct slice result, struct slice error);
MUST_CHECK int gateway_call_tool(struct gateway *gateway, struct slice tool, struct slice arguments,
                                 gateway_called_fn *done, void *context);
