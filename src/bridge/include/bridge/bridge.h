/*
 * A client that knows only stdio (a JSON-RPC message a line) to an MCP server over HTTP, of any
 * revision: what the client says is posted, what the server says is written, unchanged. What HTTP
 * wants beside the messages is added here: the session and its stream of messages from the server
 * (up to 2025-11-25), or the header fields that repeat a part of the body (2026-07-28). Which era
 * it is says the client, message by message.
 *
 * A server that does not take `initialize` by POST is tried as HTTP+SSE (MCP 2025-11-25,
 * basic/transports, backwards compatibility). A session that the server has forgotten (404) is
 * begun anew with the client's own initialize, and the message that found out is sent again: it was
 * not looked at. Where that cannot be hidden (subscriptions, another revision) the bridge ends.
 *
 * Of one loop and its thread.
 */
#pragma once

#include <stddef.h>

#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"
#include "client/client.h"
#include "io/loop.h"
#include "io/tls.h"

struct bridge;

struct bridge_options {
    struct io_loop *loop;
    struct log *log;
    struct io_tls *tls; /* for https; a reference is taken; NULL: https fails */
    struct slice url;
    /* Whole lines for each request: credentials, what else the server wants. Copied, and wiped at
     * the end. */
    struct slice fields;
    /* How to connect; NULL: by the URL. */
    client_connect_fn *connect;
    void *connect_context;
    int in_fd, out_fd; /* pipes, sockets or terminals; taken over, also when it fails */
    /*
     * Once, as the last thing: 0 when the client closed its side and all was answered; else an
     * errno, and the log says why.
     */
    void (*on_end)(void *context, int error);
    void *context;
};

/* CLIENT_E_INVALID: *ret_reason says what is wrong with the URL. -errno. */
MUST_CHECK int bridge_new(const struct bridge_options *options, struct bridge **ret_bridge,
                          const char **ret_reason);
/* Ends the session with the server, waits for nothing else; on_end comes. */
void bridge_stop(struct bridge *bridge);
struct bridge *bridge_free(struct bridge *bridge);
