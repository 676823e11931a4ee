/*
 * One HTTP request to an MCP endpoint and the messages of its answer, JSON or events (MCP
 * 2025-11-25 and 2026-07-28, basic/transports, Streamable HTTP). A stream of a legacy server that
 * ends early is taken up again with GET and Last-Event-ID where the server gave an id. Belongs to
 * one worker's loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/slice.h"
#include "client/client.h"
#include "http/message.h"
#include "mcp/protocol.h"
#include "oauth/source.h"

struct upstream;
struct upstream_worker;
struct post;

/* To whom: what all requests of one session have in common. Immutable; references from any thread.
 */
struct route {
    struct upstream *upstream;  /* a reference */
    uint64_t generation;        /* a renewed session has another one */
    enum mcp_revision revision; /* NONE: not agreed on yet */
    struct slice session;       /* its id; empty: there is none */
    struct slice partition;     /* of kept connections */
    /* Of HTTP+SSE: where messages go. The upstream's; NULL: to its URL. */
    const struct client_target *target;
    struct slice path; /* path and query on that target's origin; empty: the target's own */
};

/* Copies the slices. */
struct route *route_new(const struct route *from);
struct route *route_ref(struct route *route);
struct route *route_unref(struct route *route);
/* Of HTTP+SSE, where answers come on a stream. */
static inline bool route_is_of_stream(const struct route *route) {
    return route->target != NULL;
}

/* Why a request did not leave. */
enum post_obstacle { POST_NO_OBSTACLE, POST_LACKS_TOKEN, POST_MAY_NOT_LEAVE };

/* Of the answer so far; 0: none came. */
unsigned post_status(const struct post *post);

struct post_end {
    uint16_t status; /* of the answer; 0: there was none */
    /* Of an answer other than 200: the body when it is JSON (bounded), else empty. */
    struct slice body;
    bool may_have_arrived;
    bool was_accepted; /* an answer had begun, with status 200 */
    bool can_reach;    /* false: no connection could be made */
    bool is_cut;       /* the connection broke before the answer was whole */
    bool was_reset;    /* ... after the request was sent once */
    bool is_ours;      /* a limit or the memory of ours ended it */
    bool is_late;      /* most_ms did */
    enum post_obstacle obstacle;
    enum oauth_lack lack; /* POST_LACKS_TOKEN: the kind of it */
    const char *reason;   /* for the operator; NUL-terminated */
};

struct post_events {
    /* The head of the answer; may be NULL. */
    void (*on_head)(void *context, const struct http_head *head);
    /*
     * A message as it came. True: it is the answer, which ends the post: no event follows, and the
     * rest of the stream is read in the background so that its connection can be kept.
     */
    bool (*on_message)(void *context, struct slice document);
    /* An event of another type than "message", as it came; may be NULL. */
    void (*on_event)(void *context, struct slice type, struct slice data);
    /* Of a letter: the server has taken it, which ends the post: no event follows. */
    void (*on_accepted)(void *context);
    /* The answer ended without on_message having said true. The post is gone afterwards. */
    void (*on_end)(void *context, const struct post_end *end);
    /* A byte came, be it a comment: the server lives. May be NULL. */
    void (*on_alive)(void *context);
    /* The server has ended its stream for now: it is taken up again. May be NULL. */
    void (*on_recess)(void *context);
};

struct post_options {
    struct upstream_worker *worker;
    struct route *route; /* a reference is taken */
    enum http_method method;
    enum mcp_method mcp_method; /* MCP_METHOD_UNKNOWN: an answer to the server, or no POST */
    struct slice name;          /* what Mcp-Name says, unescaped; empty: nothing */
    struct slice fields;        /* further lines */
    bool has_rule_fields;       /* `fields` holds what the header rules make */
    struct slice body;
    /* The caller's, where the upstream wants one: with it all of this is sent, or with what it is
     * exchanged for; a reference is taken. */
    struct oauth_token *token;
    bool is_idempotent;
    bool is_letter;       /* what it asks is answered elsewhere: any 2xx will do, and ends it */
    bool opens_session;   /* it does nothing yet, and may be sent without a token to be refused */
    uint64_t most_ms;     /* ends it when the answer takes longer; 0: the owner watches the time */
    bool ends_with_token; /* ends it when the token has ended that it was sent with */
    /* Asked again just before it leaves, for it may wait for a token; NULL: nothing has to hold. */
    bool (*may_leave)(const void *context, uint64_t value);
    const void *may_leave_context;
    uint64_t may_leave_value;
};

/* -ENOMEM, -EACCES (the upstream wants a token of the caller's, and there is none, or it has
 * ended), or what
 * client_start() says. */
MUST_CHECK int post_start(const struct post_options *options, const struct post_events *events,
                          void *context, struct post **ret_post);
/* Stops and resumes the reading of the answer. */
void post_pause(struct post *post, bool paused);
/* The server may know of it. False: it waits for its token, or was refused for the one that it had;
 * so there is nothing to tell the server of. Accepts NULL. */
bool post_has_left(const struct post *post);
/* No event follows. Accepts NULL. */
struct post *post_cancel(struct post *post);
/* The same, but what has left may reach the server whole, and its answer is read for a moment, so
 * that the connection can be kept. */
struct post *post_let_go(struct post *post);
