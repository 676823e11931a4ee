/*
 * The gateway: listener, HTTP connections, phases, sessions, calls. One event loop per worker
 * thread; a call is served on the worker where it lands.
 */
#pragma once

#include <stdatomic.h>
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

struct audit;
struct gateway;
struct store;

struct gateway_options {
    struct config *config;            /* a reference is taken */
    struct log *log;                  /* outlives the gateway, as does what follows */
    const struct secret *token;       /* the local bearer token */
    const struct secret *api_token;   /* MCP_API_TOKEN; NULL: it is not set */
    struct spawner *isolated, *plain; /* as upstream_set_options */
    struct slice version;
    /* Where definitions of tools are kept as they were seen first; NULL: in memory alone. */
    const char *definitions_path;
    struct audit *audit; /* the trail; NULL: nothing is recorded */
    bool is_local;       /* no listener: for the commands that use upstreams directly */
    /* The same for all gateways that clients take for one: of what comes back from clients. NULL:
     * this process's own. */
    const struct secret *cluster_key;
};

/* How many workers there will be by this configuration. */
size_t gateway_count_workers(const struct config *config);

MUST_CHECK int gateway_new(const struct gateway_options *options, struct gateway **ret_gateway);
/* After gateway_run() has returned. */
struct gateway *gateway_free(struct gateway *gateway);

/*
 * Binds the listen address, and that of server.health.listen. -EADDRINUSE and the like: of
 * *ret_address, as configured. The address, with the port that was picked for port 0, is then
 * gateway_address(). Which addresses may be listened on is for the caller to decide.
 */
MUST_CHECK int gateway_listen(struct gateway *gateway, struct slice *ret_address);
const struct io_address *gateway_address(const struct gateway *gateway);

/*
 * In the place of gateway_listen(): nobody reaches it but this process, by gateway_connect() from
 * worker 0. That returns the client's end of a connection, non-blocking and close-on-exec, or
 * -errno; to the gateway it comes from loopback, in the clear. `gateway`: a struct gateway, so that
 * it is a client_connect_fn.
 */
void gateway_open_inside(struct gateway *gateway);
MUST_CHECK int gateway_connect(void *gateway);

/*
 * Connections that come speak TLS with this context of io_tls_server_new(), of which a reference is
 * taken. Before gateway_run(), or from worker 0 while it runs: then it is for connections that come
 * from now on (on other workers: a moment later), and those that are open go on with theirs.
 */
void gateway_set_tls(struct gateway *gateway, struct io_tls *tls);

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

/*
 * A record of the configuration (from worker 0): `action` "start" or "reload"; `changes`: JSON, or
 * empty; `error`: why it was not taken, NULL when it was. And of each variable of the environment
 * that it uses one.
 */
void gateway_record_configuration(struct gateway *gateway, const struct config *config,
                                  const char *action, struct slice changes, const char *error);

/*
 * A reload, from worker 0: another configuration in place of the one that is served by, all or
 * nothing. Requests that run go on by the configuration that they began with; servers that are
 * configured as before are not touched.
 *
 * Preparing does all that can fail, and nothing that shows; a reference of the configuration is
 * taken, and what in it needs a restart is put back to the values of today. -ESHUTDOWN: the gateway
 * is stopping; -EBUSY: another one is under way; -EINVAL: `reason` says why; -ENOMEM.
 */
struct gateway_reload;
MUST_CHECK int gateway_reload_prepare(struct gateway *gateway, struct config *config,
                                      struct buf *reason, struct gateway_reload **ret_reload);
/*
 * {"applied":[KEY,...],"needs_restart":[KEY,...],
 *  "servers":{"added":[NAME,...],"changed":[...],"removed":[...],"unchanged":N}}
 */
struct slice gateway_reload_report(const struct gateway_reload *reload);
/* Gives a prepared one up. Accepts NULL. */
struct gateway_reload *gateway_reload_drop(struct gateway_reload *reload);
/* Cannot fail. `done` runs on worker 0 when every worker serves by the new configuration; it does
 * not when the gateway ends before. */
void gateway_reload_commit(struct gateway_reload *reload, void (*done)(void *context),
                           void *context);

/*
 * Users, their tokens and edit mode are of this store, which is watched from now on; it outlives
 * gateway_run(), and is closed before gateway_free(). After gateway_make_upstreams() and before
 * gateway_run(). The store's codes.
 */
MUST_CHECK int gateway_use_store(struct gateway *gateway, struct store *store);

/*
 * The upstreams of the store are others than those of the configuration that is served by: `fn` (on
 * worker 0) has it loaded and reloaded, and gateway_upstreams_done() is called when that is over,
 * however it went; once for each call of `fn`. Before gateway_run().
 */
void gateway_on_upstreams(struct gateway *gateway, void (*fn)(void *context), void *context);
void gateway_upstreams_done(struct gateway *gateway);

/*
 * Any thread: `done` is called on `loop` when every worker goes by all that was in the store when
 * this was asked. So what was closed is closed for the next call, wherever it lands.
 */
struct gateway_refresh {
    struct io_loop *loop; /* NULL, when it is gone by then: `done` is called all the same */
    void (*done)(struct io_message *message);
    struct io_message message;
    /* Private. */
    struct gateway *gateway;
    struct list_link link;
    uint64_t asked, number, reload;
};
void gateway_refresh(struct gateway *gateway, struct gateway_refresh *refresh);

/*
 * Edit mode, from worker 0: whether writes are let through for everybody, and all windows that are
 * open. {"edit_mode":true,"by":"ann","reason":"...","left_ms":840000,"until":"2026-...",
 *  "windows":[{"scope":"role","name":"ops","by","reason","left_ms","until"}]}, without what is not
 * known.
 */
int gateway_write_edit(struct gateway *gateway, struct buf *out);

/* What worker 0 serves by, from worker 0; a reference for the caller. */
struct config *gateway_config(const struct gateway *gateway);

/* The loop of worker 0, for signals and the control socket. */
struct io_loop *gateway_loop(struct gateway *gateway);

/* What runs, as one JSON object, for the control socket:
 * {"address","upstreams":[{"name","state","tools",...}]}. */
int gateway_write_status(struct gateway *gateway, struct buf *out);
/* Calls `fn` on worker 0 whenever an upstream came, went or changed. Before gateway_run(). */
void gateway_on_change(struct gateway *gateway, void (*fn)(void *context), void *context);
/* True when no upstream is in its first start any more. */
bool gateway_is_settled(struct gateway *gateway);

/* Trying upstreams (trial.c). */

/*
 * Connects to the one server of this configuration, which has a url, as a gateway does before it
 * lists its tools, and ends the session again. Blocks, for `most_ms` and a moment more, or until
 * *gives_up (may be NULL) is set; any thread. The configuration is nobody else's, and is changed.
 * Appends {"ok":true,"revision","server":{"name","version"},"n_tools","duration_ms"}, or
 * {"ok":false,"reason","duration_ms"}: nothing that the server sent beside what it calls itself.
 */
MUST_CHECK int gateway_try(struct config *config, struct slice version, uint64_t most_ms,
                           const atomic_bool *gives_up, struct buf *out);
/*
 * The same of one that the gateway serves, from worker 0: starts it where it does not run, and
 * appends nothing while it has not come to an end; to be called again, with the same `since_ms`
 * (monotonic). `is_over`: nobody waits longer. -ENOENT: there is none of that name.
 */
MUST_CHECK int gateway_look_at_upstream(struct gateway *gateway, struct slice name,
                                        uint64_t since_ms, bool is_over, struct buf *out);

/* For the command line. */

/*
 * {"tools":[...],"access":[{"server","tool","access":"read","locked":false},...]}: every tool that
 * is served now, whole, with the name that clients see; and in the same order of which server it
 * is, what that calls it, and what the gateway makes of it.
 */
int gateway_write_tools(struct gateway *gateway, struct buf *out);
/*
 * Calls a tool as the local principal; `arguments` is a JSON object. `done` comes once, on worker
 * 0: `result` is the result object, or empty and `error` says why. 0; -ENOENT: there is no such
 * tool; -EINVAL: arguments are no object.
 */
typedef void gateway_called_fn(void *context, struct slice result, struct slice error);
MUST_CHECK int gateway_call_tool(struct gateway *gateway, struct slice tool, struct slice arguments,
                                 gateway_called_fn *done, void *context);
