/*
 * What the files of gateway/ share. A request travels through them in this order:
 *
 *     worker.c      accepts, runs the loops
 *     connection.c  bytes to HTTP messages and back
 *     exchange.c    one HTTP request: the phases up to its body, the answer (JSON or SSE)
 *     message.c     one JSON-RPC message: its era, then the session, notifications, batches
 *     modern.c      what a request of 2026-07-28 has to carry
 *     call.c        a request that is being answered: its life, waiting, answers
 *     methods.c     the table of methods; those that the gateway answers by itself
 *     lists.c       merged lists        route.c  one call to one upstream
 *     session.c     legacy sessions     notify.c what upstreams tell on their own
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/secret.h"
#include "gateway/gateway.h"
#include "http/message.h"
#include "io/loop.h"
#include "io/stream.h"
#include "json/reader.h"
#include "json/writer.h"
#include "mcp/bridge.h"
#include "mcp/message.h"
#include "mcp/modern.h"
#include "mcp/protocol.h"
#include "upstream/upstream.h"

enum { GW_PIECES = IO_STREAM_PIECES - 2 }; /* of one message that is written */
enum { GW_SESSION_SHARDS = 16, GW_SESSION_ID_BYTES = 32, GW_SESSION_ID_CHARS = 43 };

/* Who is calling. Two of them so far; they live as long as the gateway. */
struct gw_principal {
    struct slice id;
    pthread_mutex_t mutex; /* guards sessions: any worker adds, removes and walks */
    struct list sessions;
    size_t n_sessions;
    /* The most verbose level that a request of 2026-07-28 asked for so far; -1: none did. */
    atomic_int requests_log_level;
};

struct gw_session {
    atomic_uint refs;
    char id[GW_SESSION_ID_CHARS + 1];
    /* Fixed at birth, readable by every worker. */
    struct gateway *gateway;
    struct gw_principal *principal;
    struct upstream *only; /* the endpoint it belongs to; NULL: the merged one */
    enum mcp_revision revision;
    struct list_link principal_link; /* principal->mutex */

    atomic_uint_fast64_t last_used_ms;
    atomic_int log_level; /* -1: the client did not ask */
    atomic_bool is_closed;
    atomic_uint changed;             /* lists that the client has not heard of, a mask */
    pthread_mutex_t mutex;           /* guards what follows: calls land on any worker */
    struct map calls;                /* id key to struct gw_call_place */
    struct gw_worker *stream_worker; /* where its GET stream lives; NULL: none */
};

/* Where a running call is: never a pointer into another worker. */
struct gw_call_place {
    struct gw_worker *worker;
    uint64_t serial;
};

struct gw_sessions {
    struct gw_session_shard {
        pthread_mutex_t mutex; /* guards by_id: any worker looks up */
        struct map by_id;      /* with a reference */
    } shards[GW_SESSION_SHARDS];
    struct hash_key key;
    atomic_size_t count;
};

struct gw_worker {
    struct gateway *gateway;
    size_t index;
    struct io_loop *loop;
    struct upstream_worker *upstreams;
    pthread_t thread;
    bool has_thread;
    int listen_fd;
    struct io_listener *listener;
    struct json_reader *reader;        /* of the message at hand, whose nodes point into its tape */
    struct json_reader *second_reader; /* of parts: arguments, results */
    struct buf scratch;                /* one message at a time is put together here */
    struct buf frame;                  /* and here what HTTP and SSE put around it */
    struct list connections, calls, waiters;
    size_t n_connections;
    struct map calls_by_serial; /* to struct gw_call */
    struct map streams;         /* session id to the exchange of its GET stream */
    uint64_t last_serial;
    struct io_timer *housekeeping;
    struct io_message recheck_message, drain_message, end_message;
    atomic_bool recheck_posted;
    bool is_draining, is_ended;
    uint64_t date_second;
    char date[40];
};

struct gateway {
    const struct config *config;
    struct log *log;
    struct secret *token;
    struct slice version;
    struct spawner *isolated, *plain;
    struct io_address address;
    struct gw_principal local, anonymous;
    struct budget budget; /* what all workers' streams and calls hold */
    struct gw_sessions sessions;
    struct upstream_set *upstreams;
    struct gw_worker *workers;
    struct io_loop **loops; /* of the workers */
    size_t n_workers;
    struct hash_key cursor_key;
    struct io_timer *drain_timer;
    struct io_message lost_message, drained_message;
    atomic_size_t n_undrained; /* workers that still serve something */
    atomic_bool lost_posted;
    bool is_local; /* serves the command line only: sessions' instances are started too */
    bool is_stopping, upstreams_stopping;
    int result;
    void (*on_change)(void *context);
    void *change_context;
};

/* connection.c */

struct gw_connection {
    struct list_link link;
    struct gw_worker *worker;
    struct io_stream *stream;
    struct http_parser *parser;
    struct gw_exchange *exchange; /* the one being received or answered */
    struct buf pipelined;         /* what came while the exchange was being answered */
    struct io_timer *timer;
    bool is_busy;       /* the request is whole, the answer is not */
    bool is_paused;     /* enough was pipelined */
    bool closes;        /* after what is queued */
    bool is_reading;    /* inside the feeding loop */
    bool is_head_timed; /* the timer runs for the whole head, however it drips in */
};

void gw_connection_new(struct gw_worker *worker, int fd);
struct gw_connection *gw_connection_free(struct gw_connection *connection);
/* Writes; closes the connection when the client does not read or is gone (returns false then). */
bool gw_connection_write(struct gw_connection *connection, const struct slice *pieces,
                         size_t n_pieces);
/* Ends the connection soon: what should have been written cannot be. */
void gw_connection_abort(struct gw_connection *connection);
/* The answer is whole: next request, or the end. */
void gw_connection_answered(struct gw_connection *connection, bool keep_alive);
/* The connection ends when what is queued is out; the client gets a moment to read it. */
void gw_connection_close(struct gw_connection *connection);

/* exchange.c */

/* Where answers and notifications of a call go; never called from inside the call's making. */
struct gw_exchange {
    struct gw_worker *worker;
    struct gw_connection *connection; /* NULL: the client is gone */
    struct gw_principal *principal;
    struct gw_session *session; /* a reference */
    struct upstream *only;
    struct buf body;
    struct buf early; /* an answer that was decided before the body was read */
    enum http_method method;
    bool keep_alive, is_http10;
    bool has_version_header;
    enum mcp_revision version_header;
    bool version_header_known;
    bool version_header_is_modern;            /* also a revision that comes after ours */
    char session_id[GW_SESSION_ID_CHARS + 1]; /* as sent, empty when absent */
    bool session_id_sent, session_id_malformed;
    bool is_answered, streams, is_batch, is_get_stream;
    bool returns_session; /* the answer names the new session */
    bool is_modern;       /* of 2026-07-28: hanging up cancels its call */
    uint64_t serial;      /* of that call */
    uint16_t status;      /* of an answer that is no stream; 0: 200 */
    size_t n_calls;       /* running */
    struct io_timer *alive_timer;
};

struct gw_exchange *gw_exchange_new(struct gw_connection *connection);
void gw_exchange_unref_connection(struct gw_exchange *exchange);
/* The phases that need the head only. */
void gw_exchange_head(struct gw_exchange *exchange, const struct http_head *head);
/* The request is whole. */
void gw_exchange_run(struct gw_exchange *exchange);
/* A message for the client that does not end the exchange. */
void gw_exchange_notify(struct gw_exchange *exchange, struct slice json);
/* The answer to one of its calls, in at most GW_PIECES pieces (none: it gets no answer); the last
 * one ends it. */
void gw_exchange_answer(struct gw_exchange *exchange, const struct slice *pieces, size_t n_pieces);
void gw_exchange_refuse(struct gw_exchange *exchange, uint16_t status, enum mcp_error_code code,
                        const char *text);
void gw_exchange_end_stream(struct gw_exchange *exchange);
/* 202 without a body: notifications and answers were taken. */
void gw_exchange_accepted(struct gw_exchange *exchange);
/* An answer with this status and JSON body, before any call was started. */
void gw_exchange_refuse_json(struct gw_exchange *exchange, uint16_t status, struct slice json);
/* Looks up the session that the header fields name; false: it has been refused. */
bool gw_exchange_has_session(struct gw_exchange *exchange);
/* A call runs on: a stream with comments begins when nothing is said for a while. */
void gw_exchange_wait(struct gw_exchange *exchange);
/* An answer before there is an exchange; ends the connection. */
void gw_connection_refuse(struct gw_connection *connection, struct http_refusal refusal);

/* session.c */

void gw_sessions_init(struct gw_sessions *sessions);
void gw_sessions_deinit(struct gw_sessions *sessions);
/* NULL: the principal has max_sessions open, all in use. With a reference. */
struct gw_session *gw_session_new(struct gateway *gateway, struct gw_principal *principal,
                                  struct upstream *only, enum mcp_revision revision,
                                  uint64_t now_ms);
/* The session with this id, if it is this principal's and of this endpoint; with a reference. */
struct gw_session *gw_session_find(struct gateway *gateway, struct slice id,
                                   const struct gw_principal *principal,
                                   const struct upstream *only, uint64_t now_ms);
struct gw_session *gw_session_ref(struct gw_session *session);
struct gw_session *gw_session_unref(struct gw_session *session);
/* Ends it: it is not found any more, its stream ends, its own upstream instances stop. */
void gw_session_close(struct gw_session *session);
void gw_sessions_expire(struct gateway *gateway, uint64_t now_ms);
/* The level that the owner of instances has to be told: the most verbose of the principal's
 * sessions. */
int gw_principal_log_level(struct gw_principal *principal);

/* message.c */

/* A POST whose body is whole. */
void gw_message_run(struct gw_exchange *exchange);
/* An answer with this status, the message's id (empty: none) and an error. */
void gw_message_refuse(struct gw_exchange *exchange, uint16_t status, struct slice id,
                       enum mcp_error_code code, const char *reason, struct slice data);

/* modern.c */

/* Whether the text names a revision without sessions: 2026-07-28 or one that comes after it. */
bool gw_version_is_modern(struct slice version);
/* Takes a message of 2026-07-28; false: it is of the era before. */
bool gw_modern_run(struct gw_exchange *exchange, const struct mcp_message *message);

/* call.c */

/* One request of a client that is being answered. */
struct gw_call {
    struct list_link link; /* in worker->calls */
    struct gw_worker *worker;
    uint64_t serial;
    struct gw_exchange *exchange;
    struct gw_principal *principal;
    struct gw_session *session; /* a reference; NULL for initialize */
    struct upstream *only;      /* of the endpoint; NULL: the merged one */
    enum mcp_method method;
    enum mcp_revision revision;          /* that the client speaks: the session's, or 2026-07-28 */
    enum mcp_revision upstream_revision; /* that the request was written for, with upstream_call */
    int log_level; /* 2026-07-28: what this request wants to hear; -1: nothing */
    char *id;      /* owned: as the client wrote it */
    size_t id_len;
    char *token; /* owned: the client's progress token as written; NULL: none */
    size_t token_len;
    char *uri; /* owned: of resources/read, JSON as written; NULL: none */
    size_t uri_len;
    uint64_t began_ms;
    bool has_refreshed; /* asked upstreams to read their lists again */
    struct upstream_call *upstream_call;
    struct upstream_instance *instance; /* a reference, with upstream_call */
    /* Waiting for upstreams that start: tried again by gw_calls_recheck(), for the last time when
     * the timer fires. */
    void (*resume)(struct gw_call *call, bool is_late);
    struct list_link waiter_link;
    struct io_timer *wait_timer;
    char *document; /* owned: the message, while the call waits */
    size_t document_len;
    enum mcp_list list;
    size_t from_upstream, from_item; /* where the page begins */
};

/* The exchange counts it already. NULL: it has been refused. */
struct gw_call *gw_call_new(struct gw_exchange *exchange, const struct mcp_message *message,
                            enum mcp_revision revision);
struct slice gw_call_id(const struct gw_call *call);
/* What resources/read is to read, JSON as written; else empty. */
struct slice gw_call_uri(const struct gw_call *call);
/* The head of the HTTP request, until that is answered; NULL: the client is gone. */
const struct http_head *gw_call_head(const struct gw_call *call);
/* The Mcp-Param-* fields of the request, until it is answered; `max`: LIMIT_HTTP_FIELDS are all. */
size_t gw_call_param_fields(const struct gw_call *call, struct mcp_param_field *fields, size_t max);
/*
 * The call of a client of 2026-07-28 wants log messages, which a server of the era before sends by
 * the level of its session: that is made verbose enough. Whoever asked for less is given less.
 */
void gw_call_want_logs(const struct gw_call *call, const struct upstream *upstream,
                       struct upstream_instance *instance);
/* A result in the words of revision `from`; the client gets it in those of its own. */
void gw_call_answer_result(struct gw_call *call, struct slice result, enum mcp_revision from);
/* An upstream's error object, likewise; `uri`: what was to be read, JSON as written, or empty. */
void gw_call_answer_error_object(struct gw_call *call, struct slice error, struct slice uri,
                                 enum mcp_revision from);
/* An error of ours; those of 2026-07-28 that have an HTTP status of their own get it. */
void gw_call_answer_error(struct gw_call *call, enum mcp_error_code code, struct slice text,
                          struct slice data);
/* A refusal in the form that its method has: isError for tools, an error for others. */
void gw_call_refuse(struct gw_call *call, enum mcp_error_code code, struct slice text);
/* Sends these pieces, a whole message in at most GW_PIECES, as the answer; the call is gone then. */
void gw_call_answer_parts(struct gw_call *call, const struct slice *parts, size_t n_parts);
/* The same with what stands in worker->scratch. */
void gw_call_answer_scratch(struct gw_call *call);
/* Empty, for one message to be put together in it. */
struct buf *gw_worker_scratch(struct gw_worker *worker);
/* What we are, as told to clients and upstreams. */
struct mcp_implementation gw_implementation(const struct gateway *gateway);
void gw_write_implementation(struct json_writer *writer, const struct gateway *gateway);
/* Members that results have in 2026-07-28; `is_cached`: with those of what clients may keep. */
void gw_write_modern_members(struct json_writer *writer, const struct gateway *gateway,
                             bool is_cached);
/* The session ends: what it has running is cancelled, wherever it runs. */
void gw_session_cancel_calls(struct gw_session *session);
/* The call is cancelled on its worker, which may be another one. */
void gw_call_order_cancel(const struct gw_call_place *place, struct slice reason);
void gw_call_cancel(struct gw_worker *worker, uint64_t serial, struct slice reason);
/* Waits until an upstream changes, at most `most_ms` in all. */
void gw_call_wait(struct gw_call *call, void (*resume)(struct gw_call *call, bool is_late),
                  uint64_t most_ms);
/* It waits no more; its document is gone. */
void gw_call_stop_waiting(struct gw_call *call);
void gw_calls_recheck(struct gw_worker *worker);

struct gw_view_item {
    struct upstream *upstream;
    struct upstream_instance *instance; /* a reference */
    struct upstream_status status;      /* its catalog is a reference */
};

/* The upstreams that a session sees, in the order of the file, started where they never ran. */
struct gw_view {
    struct gw_view_item *items;
    size_t n;
};

/* methods.c */

/* By the table; what upstreams are known not to have is not looked at. */
bool gw_method_is_served(enum mcp_method method, enum mcp_revision revision);
/* The upstream of an endpoint of one is known to lack the capability that the method needs. */
bool gw_method_is_absent(enum mcp_method method, const struct gw_view *view);
void gw_method_run(struct gw_call *call, const struct mcp_message *message);

/* lists.c */

void gw_view_open(struct gw_view *view, struct gw_worker *worker, struct gw_principal *principal,
                  const struct gw_session *session, struct upstream *only);
void gw_view_close(struct gw_view *view);
/* How long lists wait for an upstream that has never been up yet; 0: they do not. */
uint64_t gw_view_patience(const struct gw_view *view, uint64_t now_ms, uint64_t most_ms);
/*
 * Servers of 2026-07-28 say how long their lists are fresh. Asks those of the view whose lists (a
 * mask) are not to read them again, once a call; what was read since the call began is fresh
 * enough. Returns how long the call may gw_call_wait() for them; 0: it need not.
 */
uint64_t gw_view_refresh(const struct gw_view *view, struct gw_call *call, unsigned list_mask);
void gw_list_start(struct gw_call *call, const struct mcp_message *message);

/* route.c */
void gw_route_start(struct gw_call *call, const struct mcp_message *message);

/* notify.c */
void gw_notify_changed(void *context, const struct upstream *upstream, struct slice owner,
                       unsigned list_mask);
void gw_notify_log(void *context, const struct upstream *upstream, struct slice owner, int level,
                   struct slice params);
/* The session's GET stream has just been opened on this worker, or something waits for it. */
void gw_notify_flush(struct gw_worker *worker, struct gw_session *session);
/* Asks the worker of the session's stream to end it. */
void gw_notify_end_stream(struct gw_session *session);

/* origin.c */
/* The Host field, and Origin when there is one, name this gateway. */
bool gw_host_is_ours(const struct gateway *gateway, const struct http_head *head);
bool gw_origin_is_ours(const struct gateway *gateway, const struct http_head *head);

/* authn.c */
enum gw_authn { GW_AUTHN_OK, GW_AUTHN_MISSING, GW_AUTHN_INVALID };
enum gw_authn gw_authenticate(struct gateway *gateway, const struct http_head *head,
                              struct gw_principal **ret_principal);

/* status.c */
/* The instance that was started with the gateway, its home on worker 0 when it is made now; NULL:
 * its instances belong to sessions. */
struct upstream_instance *gw_own_instance(struct gateway *gateway, struct upstream *upstream);

/* worker.c */
void gw_worker_check_drained(struct gw_worker *worker);
