/*
 * What the files of bridge/ share. bridge.c: lines that come, the order in which they are sent, the
 * end. post.c: one message and its answer. session.c: what lives longer than a message: the
 * session, its stream, HTTP+SSE. fields.c: the head of a request.
 */
#pragma once

#include "base/buf.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/map.h"
#include "bridge/bridge.h"
#include "http/sse.h"
#include "io/stream.h"
#include "json/reader.h"
#include "mcp/message.h"
#include "mcp/modern.h"

/* A line from the client, or one that is said again to a new session. */
struct bridge_post {
    struct list_link link; /* in bridge->waiting or bridge->running */
    struct bridge *bridge;
    char *line; /* owned */
    size_t len;
    struct slice id; /* of a request, in the line; else empty */
    enum mcp_kind kind;
    enum mcp_method method;
    bool is_batch, is_modern;
    bool is_own;             /* said again: the client does not hear the answer */
    bool is_repeated;        /* its session was gone once */
    unsigned session_number; /* of the session that it was sent to */
    bool is_answered;
    bool waits_for_stream; /* HTTP+SSE: taken by the server, the answer comes on the stream */
    uint64_t began_ms;
    struct client_call *call;
    struct sse_parser *events; /* of an answer that is a stream */
    struct buf body;           /* of one that is not */
    uint16_t status;
    bool is_json;
    struct io_timer *retry;
};

/* A GET that stays: messages from the server. */
struct bridge_stream {
    struct client_call *call;
    struct sse_parser *events;
    uint16_t status;
    struct io_timer *retry;
    uint64_t pause_ms;
};

enum bridge_transport {
    BRIDGE_UNKNOWN, /* Streamable HTTP is tried */
    BRIDGE_HTTP,
    BRIDGE_OPENING_SSE, /* the stream was asked for, the endpoint event has not come */
    BRIDGE_SSE,
};

struct bridge {
    struct io_loop *loop;
    struct log *log;
    struct client *client;
    struct client_target *target;
    struct client_target *endpoint; /* of HTTP+SSE: where to POST to */
    client_connect_fn *connect;
    void *connect_context;
    struct buf url, fields;
    struct io_stream *in, *out;
    struct buf input; /* a line that is not whole */
    struct json_reader *reader, *second_reader;
    struct list waiting, running; /* struct bridge_post, in the order of the client */
    size_t n_waiting;
    bool is_flooded; /* the client does not read: nothing is fetched for it */

    enum bridge_transport transport;
    char *session;                  /* owned, NUL-terminated; NULL: none */
    unsigned session_number;        /* grows with each one that is begun */
    enum mcp_revision revision;     /* that initialize has agreed on */
    struct buf modern_version;      /* the last one that the client named */
    struct bridge_post *initialize; /* owned: what begins a session anew; NULL: none so far */
    struct bridge_post *initialized;
    struct bridge_post *level; /* the last logging/setLevel */
    bool has_subscribed;
    bool is_restarting; /* nothing but posts of our own leaves */
    struct bridge_stream stream;
    struct map mirrors; /* tool to struct bridge_mirrors, by lists of 2026-07-28 */

    bool is_ending; /* the client says no more */
    bool is_saying_goodbye, is_flushing;
    struct client_call *goodbye;
    struct io_timer *end_timer;
    int error;
    void (*on_end)(void *context, int error);
    void *context;
};

/* bridge.c */

/* Sends what may leave now. */
void bridge_pump(struct bridge *bridge);
/* One message for the client, which is JSON. */
void bridge_write(struct bridge *bridge, struct slice json);
/* It cannot go on: all that waits is answered with that. */
void bridge_fail(struct bridge *bridge, int error, const char *why);
/* An answer was worked through: what waits for it goes on, perhaps the end. */
void bridge_settle(struct bridge *bridge);

/* post.c */

struct bridge_post *bridge_post_new(struct bridge *bridge, struct slice line);
struct bridge_post *bridge_post_copy(const struct bridge_post *post);
struct bridge_post *bridge_post_free(struct bridge_post *post);
void bridge_post_start(struct bridge_post *post);
/* Nothing else may leave before it was taken. */
bool bridge_post_blocks(const struct bridge_post *post);
/* Of a request that is not answered yet; frees it. */
void bridge_post_fail(struct bridge_post *post, enum mcp_error_code code, struct slice text);
/* A message of the server; `post`: that it came for, NULL: on a stream of its own. */
void bridge_deliver(struct bridge *bridge, struct bridge_post *post, struct slice json);
/* The post of the client that this id, JSON as written, belongs to; NULL: none, or answered. */
struct bridge_post *bridge_post_find(struct list *list, struct slice id);
/* Feeds a stream of events: each message is delivered. False: it is no such stream. */
bool bridge_feed(struct bridge *bridge, struct bridge_post *post, struct sse_parser *events,
                 struct slice bytes);
void bridge_pause(struct bridge *bridge, bool is_paused);

/* session.c */

/* The answer to initialize, ours or the client's. */
void bridge_session_agreed(struct bridge *bridge, const struct bridge_post *post,
                           struct slice result);
/* Something of which a new session has to hear was taken. */
void bridge_session_note(struct bridge *bridge, const struct bridge_post *post);
/* The first message to a session that is begun anew. */
void bridge_session_begin(struct bridge *bridge);
/* The server has forgotten it. False: it cannot be begun anew, and the bridge has failed. */
bool bridge_session_restart(struct bridge *bridge);
/* Streamable HTTP is not what the server speaks: HTTP+SSE is tried. */
void bridge_session_try_sse(struct bridge *bridge);
void bridge_session_endpoint(struct bridge *bridge, struct slice reference);
void bridge_stream_close(struct bridge *bridge);
/* DELETE; then bridge_settle() is called. False: there is nothing to end. */
bool bridge_session_goodbye(struct bridge *bridge);
void bridge_session_forget(struct bridge *bridge);

/* fields.c */

struct bridge_mirrors;
struct bridge_mirrors *bridge_mirrors_free(struct bridge_mirrors *mirrors);
/* The fields of a POST. The buffer's error, -EINVAL. */
MUST_CHECK int bridge_write_fields(struct bridge *bridge, const struct bridge_post *post,
                                   struct buf *out);
/* Those of a request without a body. */
MUST_CHECK int bridge_write_session_fields(const struct bridge *bridge, struct buf *out);
/* A list of tools: which arguments are repeated in the head. */
void bridge_learn_mirrors(struct bridge *bridge, struct slice result);
