/*
 * How an instance reaches its server: a child's pipes (stdio_child.c), an HTTP endpoint
 * (http_session.c), or the stream and the endpoint of HTTP+SSE (sse_session.c). The session's
 * business (what is said, and when) is instance.c's and handshake.c's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/slice.h"
#include "mcp/protocol.h"

struct post_end;
struct upstream_request;

/* Calls to a server over Streamable HTTP leave from their own workers; what the other two answer
 * comes on one pipe, at the home of the instance, and their calls go through there. */
enum transport_kind { TRANSPORT_CHILD, TRANSPORT_STREAMABLE, TRANSPORT_SSE };

/* Why a request got no answer. */
struct transport_failure {
    uint16_t status;      /* of the HTTP answer; 0: there was none */
    int code;             /* of a JSON-RPC error in its body; 0: there was none */
    struct slice error;   /* that error object as written */
    bool is_session_lost; /* the server does not know the session any more */
    const char *told;     /* what callers hear of it: a fixed sentence; NULL: nothing special */
    bool lacks_token;     /* it was not sent, because there is no token to send it with */
    struct slice reason;  /* for the operator */
    const struct post_end *end; /* all that is known of it */
};

struct transport_events {
    void (*on_started)(void *context);
    /*
     * One JSON-RPC message, valid during the call. `request`: the id of the request on whose answer
     * it came, 0 when that is not known. True: it answered that request.
     */
    bool (*on_message)(void *context, uint64_t request, struct slice document);
    /* The request ended without an answer. */
    void (*on_failed)(void *context, uint64_t request, const struct transport_failure *failure);
    /* It is over, everything that was heard was handed on. Once; the owner frees it then. */
    void (*on_gone)(void *context, struct slice reason);
};

struct transport_message {
    uint64_t id; /* of a request; 0: a notification or an answer */
    bool is_answer;
    enum mcp_method method;
    struct slice line;                   /* with its line end */
    const struct upstream_request *call; /* NULL: the gateway says it by itself */
    bool may_repeat;                     /* the call: to send it twice does no harm */
};

struct transport;

struct transport_ops {
    /* -ENOBUFS: the server does not read and too much is waiting already; -EPIPE: it is gone. */
    int (*send)(struct transport *transport, const struct transport_message *message);
    /* Nobody waits for the answer to that request any more. False: it has not left, and will not.
     */
    bool (*forget)(struct transport *transport, uint64_t id);
    /* A request was not answered in time. */
    void (*doubt)(struct transport *transport);
    /* The handshake agreed on this revision: what the following messages are sent as. */
    void (*agree)(struct transport *transport, enum mcp_revision revision);
    /* Orderly, and at once. on_gone tells the end of both. */
    void (*stop)(struct transport *transport);
    void (*kill)(struct transport *transport);
    /* After on_gone, or when the loop has stopped. */
    void (*free)(struct transport *transport);
};

/* The first member of each kind's own struct. */
struct transport {
    const struct transport_ops *ops;
    struct transport_events events;
    void *context;
};
