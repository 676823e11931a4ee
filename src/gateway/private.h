/*
 * What the files of gateway/ share. A request travels through them in this order:
 *
 *     worker.c      runs the loops
 *     door.c        accepts, or refuses when there are too many (peers.h)
 *     opening.c     before HTTP: the PROXY header, the TLS handshake
 *     connection.c  bytes to HTTP messages and back
 *     phases.c      what the head of a request decides, before its body
 *     border.c      who may come near (border.h): origin.c whose hosts, cors.c whose pages,
 *                   client_ip.c whose address
 *     metadata.c    where tokens come from
 *     authn.c       who is calling (principals.c: whose state is whose)
 *     generation.c  what is exchanged when the configuration is (reload.c: how)
 *     exchange.c    one HTTP request and its answer (JSON or SSE)
 *     message.c     one JSON-RPC message: its era, then the session, notifications, batches
 *     modern.c      what a request of 2026-07-28 has to carry
 *     call.c        a request that is being answered: its life, waiting, answers
 *     waiting.c     requests beyond those that a principal may have running (admission.h)
 *     pressure.c    what happens when a client does not read
 *     methods.c     the table of methods; those that the gateway answers by itself
 *     view.c        what a caller sees of the upstreams
 *     access.c      what it may do with it (policy/); edit.c the switch that lets writes through;
 *                   definitions.c what tools were when they were seen first
 *     units.c       how often (limits/)
 *     lists.c       merged lists        route.c  one call to one upstream
 *     forward.c     callers' tokens, for upstreams that are sent them
 *     session.c     legacy sessions     notify.c what upstreams tell on their own
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "admission.h"
#include "auth/auth.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/secret.h"
#include "border.h"
#include "gateway/gateway.h"
#include "http/message.h"
#include "io/loop.h"
#include "io/stream.h"
#include "json/reader.h"
#include "json/writer.h"
#include "limits/limits.h"
#include "mcp/bridge.h"
#include "mcp/message.h"
#include "mcp/modern.h"
#include "mcp/protocol.h"
#include "peers.h"
#include "policy/policy.h"
#include "upstream/upstream.h"

enum { GW_PIECES = IO_STREAM_PIECES - 2 }; /* of one message that is written */
enum { GW_SERVER_NAME_CHARS = 32 };        /* as check_server_name() allows */
enum { GW_SESSION_SHARDS = 16, GW_SESSION_ID_BYTES = 32, GW_SESSION_ID_CHARS = 43 };

struct gw_principals;

/* Whose state something is (principals.c): sessions, views, slots. */
struct gw_principal {
    atomic_uint refs;
    struct gw_principals *registry;
    struct slice id;
    pthread_mutex_t mutex; /* guards sessions: any worker adds, removes and walks */
    struct list sessions;
    size_t n_sessions;
    /* The most verbose level that a request of 2026-07-28 asked for so far; -1: none did. */
    atomic_int requests_log_level;
    struct admission admission;    /* of its calls to upstreams */
    struct limits_subject subject; /* whose units its calls take */
    char id_text[];
};

enum { GW_PRINCIPAL_SHARDS = 16 };

struct gw_principals {
    struct gw_principal_shard {
        pthread_mutex_t mutex; /* guards by_id: any worker looks up */
        struct map by_id;      /* without a reference: the last one to let go takes it out */
    } shards[GW_PRINCIPAL_SHARDS];
    struct hash_key key;
    size_t max_in_flight; /* of each */
};

/* Who a connection has proved to be. Of one worker, and counted without a lock. */
struct gw_caller {
    unsigned refs;
    struct auth_identity *identity; /* a reference, as the next */
    struct gw_principal *principal;
};

/* What may be done, by one configuration. Counted: whoever waits for a counter holds the rules. */
struct gw_policy {
    atomic_uint refs;
    struct policy *policy;
    struct config *config; /* a reference: the policy's texts are in there */
};

/* Edit mode (edit.c). */
struct gw_edit {
    atomic_uint_fast64_t until_ms; /* clock_boot_ms(); 0: it is closed, UINT64_MAX: open for good */
    /* Of worker 0, as all that follows. */
    bool configured; /* security.edit_mode, when it was looked at last */
    const char *by;  /* "configuration", "command", "time"; NULL: not looked at yet */
    char *reason;    /* owned */
    struct io_timer *timer;
};

/* Waiting for counters that are elsewhere (units.c). */
struct gw_units {
    struct limits_check *check; /* NULL: it does not wait */
    struct gw_policy *policy;   /* a reference, while it waits */
    struct limits_charge charges[LIMIT_RATE_LEVELS];
    size_t n;
    struct limits_answer answer;
    bool is_answered; /* what it waited for is in `answer` */
};

/* What of a configuration is exchanged as a whole (generation.c). */
struct gw_generation {
    const struct config *config;
    struct border *border;
    struct oauth *oauth; /* NULL: no issuers */
    struct auth *auth;
    struct gw_policy *policy; /* a reference */
};

/* Definitions as they were seen first (definitions.c). */
struct gw_definitions {
    pthread_mutex_t mutex; /* guards all: any worker looks */
    struct map by_name;    /* to the definition */
    struct map counts;     /* server to how many it has */
    int fd;                /* of the file; -1: there is none */
    bool is_broken;        /* it could not be read: nothing can be compared with it */
};

struct gw_session {
    atomic_uint refs;
    char id[GW_SESSION_ID_CHARS + 1];
    /* Fixed at birth, readable by every worker. */
    struct gateway *gateway;
    struct gw_principal *principal; /* a reference */
    /* The endpoint it belongs to, by name: the server may be configured anew. Empty: the merged
     * one. */
    char only[GW_SERVER_NAME_CHARS + 1];
    enum mcp_revision revision;
    struct list_link principal_link; /* principal->mutex */
    struct auth_identity *identity;  /* mutex; a reference: of who used it last */

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

/* What a worker keeps of views, the most recently used one first. */
struct gw_views {
    struct list recent; /* struct gw_view, with a reference */
    size_t n;
    struct hash_key key; /* of what they look up */
};

/* Connections that were refused: until they are closed, until the log has said so. */
struct gw_door {
    struct list lingering; /* struct gw_refused */
    size_t n_lingering;
    struct io_timer *tell_timer;
    /* Not told yet: refused; closed before their first request. */
    size_t n_full, n_full_of_one, n_no_proxy_header, n_no_tls;
    size_t n_refusals; /* of requests, since the timer began */
};

struct gw_worker {
    struct gateway *gateway;
    /* What it serves by; they change together, between callbacks only. */
    struct gw_generation *generation;
    const struct config *config;
    struct upstream_list *list; /* a reference */
    const struct border *border;
    struct auth *auth;
    struct auth_memory *auth_memory;
    struct gw_policy *policy;     /* the generation's */
    struct limits_worker *limits; /* NULL: for the command line */
    struct list authn_waits; /* struct gw_authn_wait: requests that wait for keys of an issuer */
    size_t index;
    struct io_loop *loop;
    struct upstream_worker *upstreams;
    pthread_t thread;
    bool has_thread;
    int listen_fd, health_fd;
    struct io_listener *listener, *health_listener; /* the second one: of worker 0, if at all */
    struct io_tls *tls;  /* of connections that come; a reference. NULL: they are in the clear */
    uint64_t tls_number; /* grows with each other one */
    struct io_message tls_message;
    atomic_bool tls_posted;
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
    struct gw_door door;
    struct gw_shortage {
        struct io_timer *timer;
        size_t n_no_descriptors, n_no_memory; /* not told yet */
    } shortage;
    struct list waits; /* struct gw_wait of clients whose hang-up cancels */
    struct io_timer *hangup_timer;
    struct gw_views views;
    struct io_message recheck_message, drain_message, end_message;
    atomic_bool recheck_posted;
    bool is_draining, is_ended;
    uint64_t date_second;
    char date[40];
};

struct gateway {
    struct config
        *config; /* of the newest generation; a reference. Worker 0's: others use their own */
    struct log *log;
    const struct secret *token, *api_token;
    struct io_tls *client_tls; /* toward upstreams and issuers */
    struct gw_generation *generation;
    pthread_mutex_t policy_mutex; /* guards policy: any thread that tells sessions looks */
    struct gw_policy *policy;     /* the newest; a reference */
    struct slice version;
    struct spawner *isolated, *plain;
    struct io_address address, health_address;
    pthread_mutex_t tls_mutex; /* guards tls: workers take theirs from it */
    struct io_tls *tls;        /* a reference */
    bool is_running;           /* the workers have their threads */
    struct limits *limits;     /* NULL: for the command line */
    struct gw_edit edit;
    struct gw_definitions definitions;
    struct gw_principals principals;
    struct gw_principal *own; /* whose upstreams are started with the gateway */
    struct budget budget;     /* what all workers' streams and calls hold */
    struct peers peers;       /* connections, of all workers */
    /* The longest that any upstream may send, and the most that one of them may have to read; a
     * reload does not make them less, because old upstreams may still be answering. */
    atomic_size_t max_message, write_queue;
    struct gw_sessions sessions;
    atomic_uint_fast64_t max_sessions; /* of each principal */
    struct upstream_set *upstreams;
    atomic_bool has_instances_of_sessions; /* some upstream has one for each session */
    struct gateway_reload *reload;         /* under way; worker 0's */
    struct gw_worker *workers;
    struct io_loop **loops; /* of the workers */
    size_t n_workers;
    struct hash_key cursor_key;
    struct io_timer *drain_timer;
    struct io_message lost_message, drained_message;
    atomic_size_t n_undrained; /* workers that still serve something */
    atomic_bool lost_posted;
    bool is_local; /* serves the command line only: sessions' instances are started too */
    bool is_stopping, is_hurried, upstreams_stopping;
    int result;
    void (*on_change)(void *context);
    void *change_context;
};

/* connection.c */

/* What a connection begins with, before HTTP. */
enum gw_opening {
    GW_OPENING_PROXY, /* the PROXY header has to come */
    GW_OPENING_TLS,   /* the handshake is under way */
    GW_OPENED,
};

struct gw_connection {
    struct list_link link;
    struct gw_worker *worker;
    struct io_stream *stream;
    struct http_parser *parser;
    struct gw_exchange *exchange; /* the one being received or answered */
    struct gw_caller *caller;     /* of the last request; a reference, or NULL */
    struct buf pipelined;         /* what came while the exchange was being answered */
    struct network peer;          /* who is connected to us */
    struct network client; /* it, or whom its PROXY header names: an address that is counted */
    bool is_from_proxy;    /* there was such a header */
    bool is_counted;       /* among the peers */
    uint64_t tls_number;   /* the worker's, when the handshake began */
    bool is_health_only;   /* of the listener for health checks: nothing else is served */
    enum gw_opening opening;
    struct io_timer *timer;           /* of what is to come; of the end */
    struct io_timer *write_timer;     /* of what is to be read; NULL: never needed so far */
    uint64_t delivered, progress_ms;  /* how much of it, and when it last became more */
    uint64_t body_began_ms, body_len; /* of the body that comes in; 0: not yet timed */
    bool is_busy;       /* the request is whole, the answer is not, or has to drain first */
    bool is_paused;     /* enough was pipelined */
    bool is_held;       /* a call of it waits for its turn: nothing is read */
    bool is_clogged;    /* the client does not read what waits for it */
    bool is_draining;   /* answered; goes on when it is clogged no more */
    bool closes;        /* after what is queued */
    bool is_aborted;    /* at once */
    bool is_reading;    /* inside the feeding loop */
    bool is_head_timed; /* the timer runs for the whole head, however it drips in */
};

/* Takes the descriptor and the place among the peers over. */
void gw_connection_new(struct gw_worker *worker, int fd, const struct network *peer,
                       bool is_health_only);
/* Bytes of HTTP. */
void gw_connection_read(struct gw_connection *connection, struct slice bytes);
struct gw_connection *gw_connection_free(struct gw_connection *connection);
/* Writes; closes the connection when the client does not read or is gone (returns false then). */
bool gw_connection_write(struct gw_connection *connection, const struct slice *pieces,
                         size_t n_pieces);
/* Reads nothing from the client for now, or again. */
void gw_connection_hold(struct gw_connection *connection, bool on);
/* Ends the connection soon: what should have been written cannot be. */
void gw_connection_abort(struct gw_connection *connection);
/* The answer is whole: next request, or the end. */
void gw_connection_answered(struct gw_connection *connection, bool keep_alive);
/* The connection ends when what is queued is out; the client gets a moment to read it. */
void gw_connection_close(struct gw_connection *connection);

/* opening.c */

/* The stream is there, and its timer runs for header_timeout. May free the connection. */
void gw_opening_begin(struct gw_connection *connection);
/* Bytes that came before it was open, in the clear. */
void gw_opening_read(struct gw_connection *connection, struct slice bytes);
/* The time is over. */
void gw_opening_late(struct gw_connection *connection);
/* The worker has another TLS context: clients whose authority is gone, go. */
void gw_opening_recheck(struct gw_worker *worker);

/* exchange.c */

/* Where answers and notifications of a call go; never called from inside the call's making. */
struct gw_exchange {
    struct gw_worker *worker;
    struct gw_connection *connection; /* NULL: the client is gone */
    struct gw_principal *principal;   /* the caller's */
    struct gw_session *session;       /* a reference */
    struct upstream *only;            /* a reference; NULL: the merged endpoint */
    struct buf body;
    struct network client;            /* its address, by server.client_ip */
    bool is_from_proxy;               /* a trusted one: what it says of the client counts */
    bool is_cors;                     /* of a page whose origin [server.cors] allows */
    struct buf early;                 /* an answer that was decided before the body was read */
    bool is_refused;                  /* there is one */
    bool is_hurried;                  /* which does not wait for a body that may never come */
    struct gw_units *units;           /* owned: it waits for its limits, or has */
    size_t phase;                     /* of the head: the one that is at work */
    bool is_waiting;                  /* it waits; the body is kept */
    bool is_whole;                    /* the body has come meanwhile */
    bool has_waited;                  /* for keys: not again */
    uint64_t judged_ms;               /* when its head was let in */
    struct gw_authn_wait *authn_wait; /* NULL: does not */
    struct gw_caller *caller;         /* a reference; NULL: not known yet */
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
    struct buf fields;    /* of the same, further ones; mostly none */
    size_t n_calls;       /* running or waiting */
    struct list calls;    /* those of them that were made so far */
    size_t n_waiting;     /* for a slot */
    size_t n_dropped;     /* notifications that the client did not read */
    struct io_timer *alive_timer;
};

/* NULL: there is no memory. */
struct gw_exchange *gw_exchange_new(struct gw_connection *connection);
void gw_exchange_unref_connection(struct gw_exchange *exchange);
/* A whole answer into exchange->early, which is sent when the body was read and forgotten. The
 * fields are whole lines. */
void gw_exchange_write_early(struct gw_exchange *exchange, uint16_t status,
                             struct slice extra_fields, struct slice body);
/* The lines that browsers are told with which pages may read the answer, and to come by TLS only.
 */
void gw_exchange_append_border(const struct gw_exchange *exchange, struct buf *out);
/* The request is whole. */
void gw_exchange_run(struct gw_exchange *exchange);
/* A message for the client that does not end the exchange. */
void gw_exchange_notify(struct gw_exchange *exchange, struct slice json);
/* An answer that is no stream has status 403 and says in its head what is needed. */
void gw_exchange_challenge(struct gw_exchange *exchange, const char *error,
                           const struct slice *scopes, size_t n_scopes);
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

/* phases.c */

/* It is refused and hurried, and its body has not come whole: answers, and ends the connection. */
void gw_exchange_hurry(struct gw_exchange *exchange);

/* The phases that need the head only. */
void gw_exchange_head(struct gw_exchange *exchange, const struct http_head *head);
/* What a phase waited for is there: that phase runs again, and those behind it. From the loop,
 * never from inside a phase. */
void gw_exchange_go_on(struct gw_exchange *exchange);

/* session.c */

void gw_sessions_init(struct gw_sessions *sessions);
void gw_sessions_deinit(struct gw_sessions *sessions);
/* NULL: the principal has max_sessions open, all in use, or there is no memory. With a reference.
 */
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
/* It belongs to this endpoint (NULL: the merged one). */
bool gw_session_is_at(const struct gw_session *session, const struct upstream *only);
void gw_sessions_expire(struct gateway *gateway, uint64_t now_ms);
/* Who uses it now: what it may be told of. */
void gw_session_note_caller(struct gw_session *session, struct auth_identity *identity);
/* Each that is there now; `fn` may close it. */
typedef void gw_session_fn(void *context, struct gw_session *session);
void gw_sessions_each(struct gw_sessions *sessions, gw_session_fn *fn, void *context);
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
    struct list_link link;          /* in worker->calls */
    struct list_link exchange_link; /* in exchange->calls */
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
    struct gw_wait *wait; /* NULL: does not wait for a slot */
    bool has_slot;        /* counts as running for its principal */
    bool is_to_child;     /* whose output cannot be stopped for one caller */
    bool has_refreshed;   /* asked upstreams to read their lists again */
    struct upstream_call *upstream_call;
    struct upstream_instance *instance; /* a reference, with upstream_call */
    /* Waiting for upstreams that start: tried again by gw_calls_recheck(), for the last time when
     * the timer fires. */
    void (*resume)(struct gw_call *call, bool is_late);
    struct list_link waiter_link;
    struct io_timer *wait_timer;
    struct gw_units *units; /* owned: it waits for its limits, or has */
    char *document;         /* owned: the message, while the call waits */
    size_t document_len;
    enum mcp_list list;
    uint32_t from_upstream, from_item; /* where the page begins */
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
/* Sends these pieces, a whole message in at most GW_PIECES, as the answer; the call is gone then.
 */
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
/* It waits for no upstream any more; its document stays. */
void gw_call_rest(struct gw_call *call);
/* It waits no more; its document is gone. */
void gw_call_stop_waiting(struct gw_call *call);
/* Keeps the message as call->document: the reader's tape and the request's body will be gone.
 * False: there is no memory, and the call has been refused. */
bool gw_call_keep(struct gw_call *call, const struct mcp_message *message);
void gw_calls_recheck(struct gw_worker *worker);

struct gw_view_item {
    struct upstream *upstream;
    struct upstream_instance *instance; /* a reference */
    struct upstream_status status;      /* its catalog is a reference */
    const struct policy_server *policy; /* of the worker's generation */
};

struct gw_uris;

/* Where an item is in a view. */
struct gw_place {
    uint32_t upstream, item;
};

struct gw_places {
    struct gw_place *items; /* owned; in order */
    size_t n, cap;
};

/* The upstreams that a caller sees, in the order of the file, started where they never ran. */
struct gw_view {
    struct list_link link; /* in worker->views.recent */
    unsigned refs;
    /* Whose it is; both are references. */
    struct gw_principal *principal;
    struct auth_identity *identity;
    struct policy_caller caller; /* the identity, for policy/ */
    const struct upstream *only;
    char session[GW_SESSION_ID_CHARS + 1]; /* empty: of all of the principal's sessions */
    uint64_t generation;                   /* of the set: while it has this one, the view is true */
    const struct upstream_list *list; /* the worker's; when it has another one, views are dropped */
    struct gw_view_item *items;
    size_t n;
    size_t n_starting;                       /* that have never been up yet */
    uint64_t fresh_until_ms[MCP_LIST_COUNT]; /* no list can be stale before */
    const struct hash_key *key;
    struct gw_uris *uris[MCP_LIST_COUNT]; /* made when they are asked for, as what follows */
    struct gw_places hidden, locked;      /* tools that lists leave out, or show as locked */
    bool tools_are_known, edit_was_open;  /* ... while edit mode is as it was */
};

/* methods.c */

/* By the table; what upstreams are known not to have is not looked at. */
bool gw_method_is_served(enum mcp_method method, enum mcp_revision revision);
/* The upstream of an endpoint of one is known to lack the capability that the method needs. */
bool gw_method_is_absent(enum mcp_method method, const struct gw_view *view);
void gw_method_run(struct gw_call *call, const struct mcp_message *message);

/* view.c */

void gw_views_init(struct gw_views *views);
/* Those that are not of this generation of the set. */
void gw_views_drop_old(struct gw_views *views, uint64_t generation);
void gw_views_drop_all(struct gw_views *views);
/* With a reference, for this worker alone. */
struct gw_view *gw_view_open(struct gw_worker *worker, const struct gw_caller *caller,
                             const struct gw_session *session, struct upstream *only);
void gw_view_close(struct gw_view *view);
/* After `items` were put in: what the view knows of all of them. */
void gw_view_summarise(struct gw_view *view);
void gw_view_forget_uris(struct gw_view *view);
/* The upstream that a tool or prompt of this name would be from. NULL: none. */
struct gw_view_item *gw_view_named(const struct gw_view *view, struct slice name);
/* By the name, URI or template that clients see. NULL: nobody has it. */
struct gw_view_item *gw_view_find(struct gw_view *view, enum mcp_list list, struct slice name,
                                  const struct catalog_item **ret_found);
/* The items that lists leave out because an earlier upstream has them, in order. -ENOMEM. */
MUST_CHECK int gw_view_repeated(struct gw_view *view, enum mcp_list list,
                                const struct gw_place **ret_places, size_t *ret_n);
/* The caller may know of items of this list (tools: of some of them). */
bool gw_view_item_has(const struct gw_view *view, const struct gw_view_item *item,
                      enum mcp_list list);
/* How long lists wait for an upstream that has never been up yet; 0: they do not. */
uint64_t gw_view_patience(const struct gw_view *view, uint64_t now_ms, uint64_t most_ms);
uint64_t gw_view_item_patience(const struct gw_view_item *item, uint64_t now_ms, uint64_t most_ms);
bool gw_view_item_can_refresh(const struct gw_view_item *item);
/*
 * Servers of 2026-07-28 say how long their lists are fresh. Asks those of the view whose lists (a
 * mask) are not to read them again, once a call; what was read since the call began is fresh
 * enough. Returns how long the call may gw_call_wait() for them; 0: it need not.
 */
uint64_t gw_view_refresh(const struct gw_view *view, struct gw_call *call, unsigned list_mask);

/* lists.c */

enum { GW_PAGE_ITEMS = 1000 };
#define GW_PAGE_BYTES MIB(4)

/* A page of a list: slices of the lists' texts, the first of them for what comes before. */
struct gw_page {
    struct slice parts[3 * GW_PAGE_ITEMS + 2]; /* a locked item has three */
    size_t n_parts, n_items;
    size_t len; /* of the answer so far */
    bool is_full;
    struct gw_place next;       /* when it is full */
    struct json_reader *reader; /* finds where a locked item says so; NULL: none does */
};

void gw_page_init(struct gw_page *page, size_t len);
/* Cuts the page that begins at this place. -ENOMEM. */
MUST_CHECK int gw_page_cut(struct gw_view *view, enum mcp_list list, struct gw_place from,
                           enum mcp_revision to, struct gw_page *page);
void gw_list_start(struct gw_call *call, const struct mcp_message *message);

/* route.c */
void gw_route_start(struct gw_call *call, const struct mcp_message *message);
/* From call->document: what it waited for is there. */
void gw_route_go_on(struct gw_call *call);
/* Of one that has waited: who asks is asked again, for a reload may have taken token or groups.
 * False: it has been refused. */
bool gw_call_may_go_on(struct gw_call *call);

/* notify.c */
void gw_notify_changed(void *context, const struct upstream *upstream, struct slice owner,
                       unsigned list_mask);
/* These lists are others now for the client of this session. */
void gw_notify_lists(struct gw_session *session, unsigned list_mask);
/* Every worker looks again at what waits for upstreams, and drops what it has kept of them. */
void gw_notify_recheck(struct gateway *gateway);
void gw_notify_log(void *context, const struct upstream *upstream, struct slice owner, int level,
                   struct slice params);
/* The session's GET stream has just been opened on this worker, or something waits for it. */
void gw_notify_flush(struct gw_worker *worker, struct gw_session *session);
/* Asks the worker of the session's stream to end it. */
void gw_notify_end_stream(struct gw_session *session);

/* waiting.c */
void gw_waits_init(struct gw_worker *worker);
void gw_waits_deinit(struct gw_worker *worker);
/* Routes the call to its upstream as soon as its principal has a slot. */
void gw_call_start(struct gw_call *call, const struct mcp_message *message);
/* The call ends: it gives its slot to the next one, or its place in the queue up. */
void gw_call_leave_slot(struct gw_call *call);

/* pressure.c */
bool gw_exchange_is_clogged(const struct gw_exchange *exchange);
/* Its connection is clogged, or has drained. */
void gw_exchange_clog(struct gw_exchange *exchange, bool is_clogged);
/* A notification that need not be: true, and counted, when the client does not read. */
bool gw_exchange_drops(struct gw_exchange *exchange);
/* For the log, at the end. */
void gw_exchange_tell_dropped(const struct gw_exchange *exchange);

/* door.c */
void gw_door_init(struct gw_worker *worker);
void gw_door_deinit(struct gw_worker *worker);
/* How many connections fit beside everything else; not more than are wanted. */
size_t gw_door_size(size_t wanted, size_t descriptors, size_t n_workers, size_t n_servers);
/* Decides how many are let in, and says so when that is fewer than configured. */
void gw_door_open(struct gateway *gateway);
/* A refused request, for the log: strangers can make as many as they like, so beyond
 * LIMIT_REFUSAL_LINES a second they are only counted. `client` NULL: not known yet. */
void gw_door_tell_refusal(struct gw_worker *worker, uint16_t status, struct slice reason,
                          const struct network *client);
/* Takes the descriptor over. An io_accept_fn; the context is the worker. */
void gw_door_enter(void *context, int fd, const struct network *peer);
/* Of the listener for health checks. */
void gw_door_enter_health(void *context, int fd, const struct network *peer);
/* The log says it, once a second at most. */
void gw_door_note_no_proxy_header(struct gw_worker *worker);
void gw_door_note_no_tls(struct gw_worker *worker);
void gw_door_note_refused(struct gw_worker *worker, enum peers_verdict verdict);

/* shortage.c */
void gw_shortage_init(struct gw_worker *worker);
void gw_shortage_deinit(struct gw_worker *worker);
/* An io_full_fn; the context is the worker. */
void gw_shortage_of_descriptors(void *context, int fd, int error);
/* True, and noted: nothing new is begun now. */
bool gw_shortage_of_memory(struct gw_worker *worker);
/* 503 for a connection for which there is no memory. Closes it. */
void gw_shortage_refuse(const struct gw_worker *worker, int fd);

/* metadata.c */

/* The body of the answer to a request for metadata. False: there are none at this path. */
bool gw_write_metadata(const struct gw_worker *worker, struct slice path, struct buf *out);

/* Where the metadata are of the endpoint that the request's path names, else those of the
 * configured resource. 0, -ENOENT without server.oauth, the buffer's error. */
MUST_CHECK int gw_metadata_url(const struct gw_worker *worker, struct slice path, struct buf *out);

/* principals.c */
void gw_principals_init(struct gw_principals *principals, size_t max_in_flight);
/* Nobody holds one any more. */
void gw_principals_deinit(struct gw_principals *principals);
/* With a reference, made when it is not there; NULL: no memory. Any thread. */
struct gw_principal *gw_principal_get(struct gw_principals *principals, struct slice id);
/* With a reference; NULL: nobody holds one of that name. */
struct gw_principal *gw_principal_find(struct gw_principals *principals, struct slice id);
struct gw_principal *gw_principal_ref(struct gw_principal *principal);
struct gw_principal *gw_principal_unref(struct gw_principal *principal);
/* Each that is there, under a lock: `fn` must neither get nor let go of one. */
typedef void gw_principal_fn(void *context, struct gw_principal *principal);
void gw_principals_each(struct gw_principals *principals, gw_principal_fn *fn, void *context);
/* Takes the identity over, also when there is no memory (NULL then). */
struct gw_caller *gw_caller_new(struct gw_worker *worker, struct auth_identity *identity);
struct gw_caller *gw_caller_ref(struct gw_caller *caller);
struct gw_caller *gw_caller_unref(struct gw_caller *caller);

/* forward.c */
/* Whether the caller's access token may go to that upstream, where it wants one. False: the call
 * has been refused, with the rule and the cure. */
bool gw_forward_check(struct gw_call *call, const struct upstream *upstream);
/* The credential that a call is sent with, a reference; untouched where none is wanted or may be
 * had. -ENOMEM. */
MUST_CHECK int gw_forward_take(const struct gw_caller *caller, const struct upstream *upstream,
                               struct upstream_instance *instance, struct oauth_token **ret_token);
/* The caller has come with a token that its instance may use by itself, if it may have it. */
void gw_forward_offer(const struct gw_caller *caller, const struct upstream *upstream,
                      struct upstream_instance *instance);
/* To all of the view, which belongs to the caller's principal. */
void gw_forward_offer_all(const struct gw_caller *caller, const struct gw_view *view);

/* generation.c */
/* `previous`: the one that it will follow; NULL: the first. -errno. */
MUST_CHECK int gw_generation_new(struct gateway *gateway, struct config *config,
                                 const struct gw_generation *previous,
                                 struct gw_generation **ret_generation);
/* No worker serves by it any more; on worker 0, whose loop is still there. */
struct gw_generation *gw_generation_free(struct gw_generation *generation);
/* On the worker's loop, or before it runs. */
void gw_worker_adopt(struct gw_worker *worker, struct gw_generation *generation);

/* edit.c */
/* Any thread. */
bool gw_edit_is_open(const struct gateway *gateway);
/* From worker 0, or before the workers run: as the file says, when that has changed. */
void gw_edit_configure(struct gateway *gateway, const struct config *config);
void gw_edit_deinit(struct gateway *gateway);

/* access.c */
MUST_CHECK int gw_policy_new(struct config *config, struct gw_policy **ret_policy);
struct gw_policy *gw_policy_ref(struct gw_policy *policy);
struct gw_policy *gw_policy_unref(struct gw_policy *policy);
/* The newest, with a reference; any thread. NULL: there is none yet. */
struct gw_policy *gw_policy_newest(struct gateway *gateway);
void gw_policy_adopt(struct gateway *gateway, struct gw_policy *policy);
/* The caller may know of something of the server. */
bool gw_policy_lets_know(const struct gw_policy *policy, struct slice server,
                         const struct auth_identity *identity);
/* And not only of some of its tools. */
bool gw_policy_lets_know_all(const struct gw_policy *policy, struct slice server,
                             const struct auth_identity *identity);
/* Points into the identity. */
struct policy_caller gw_policy_caller(const struct auth_identity *identity);
/* NULL: there is no such server for this caller. */
const struct policy_server *gw_policy_server(const struct gw_worker *worker, struct slice name,
                                             const struct auth_identity *identity);
/* `found` NULL: a resource that nobody lists. */
struct policy_item gw_policy_item(struct gw_worker *worker, const struct gw_view_item *item,
                                  enum mcp_list list, const struct catalog_item *found);
struct policy_decision gw_decide(struct gw_worker *worker, const struct gw_view *view,
                                 const struct gw_view_item *item, enum mcp_list list,
                                 const struct catalog_item *found);
/* Fills view->hidden and view->locked. -ENOMEM. */
MUST_CHECK int gw_view_find_tools(struct gw_worker *worker, struct gw_view *view);
void gw_view_forget_tools(struct gw_view *view);

/* definitions.c */
void gw_definitions_init(struct gw_definitions *definitions);
void gw_definitions_deinit(struct gw_definitions *definitions);
/* Reads the file, and appends to it from now on. -errno. */
MUST_CHECK int gw_definitions_open(struct gw_definitions *definitions, const char *path);
/* The item of this list is the tool as it was seen first, and that says readOnlyHint. Uses the
 * worker's second reader. */
bool gw_definition_says_read_only(struct gw_worker *worker, struct slice server,
                                  struct catalog_list *list, const struct catalog_item *item);

/* units.c */
struct gw_units *gw_units_free(struct gw_units *units);
/* Of the limits of requests. LIMITS_WAITS: gw_exchange_go_on() comes. What it waited for is in the
 * answer when it is asked again. */
enum limits_verdict gw_exchange_take_units(struct gw_exchange *exchange, struct gw_units *ret);
/* False: it has been refused, or waits, and gw_route_go_on() comes. */
bool gw_call_take_units(struct gw_call *call, const struct mcp_message *message,
                        const struct policy_server *server, const struct policy_item *item);
/* Whole seconds, rounded up. */
uint64_t gw_units_seconds(uint64_t ms);

/* authn.c */
/* AUTH_OK: exchange->caller and principal are set. */
enum auth_verdict gw_authenticate(struct gw_exchange *exchange, const struct http_head *head,
                                  bool is_last, struct auth_answer *ret_answer);
/* A stream that is open for long: whether its request would be let in now. */
bool gw_authn_still_holds(struct gw_exchange *exchange);
/* gw_exchange_go_on() comes when the issuer has been asked for keys. False: it is not asked now. */
bool gw_authn_wait(struct gw_exchange *exchange, struct oauth_issuer *issuer);
void gw_authn_cancel(struct gw_exchange *exchange);
/* The worker has another generation: whoever waits is looked at again. */
void gw_authn_restart(struct gw_worker *worker);

/* challenge.c */
/* WWW-Authenticate, and Cache-Control: `error` of RFC 6750 section 3.1, NULL without credentials;
 * the scopes that the operation needs beside those that all do. */
void gw_challenge_write(struct buf *out, const struct gw_worker *worker, struct slice path,
                        const char *error, const struct slice *scopes, size_t n_scopes);

/* status.c */
/* The instance that was started with the gateway, its home on this worker when it is made now;
 * NULL: its instances belong to sessions. */
struct upstream_instance *gw_own_instance(struct gw_worker *worker, struct upstream *upstream);
/* What /ready says of the gateway and, to a caller (NULL: a stranger), of the upstreams that it may
 * use. False: it is not ready, because it drains or because the spawner is gone; a single upstream
 * is never the reason. */
bool gw_write_ready(struct gw_worker *worker, const struct auth_identity *caller, struct buf *out);

/* reload.c */
/* What was under way when the loops stopped: before they are freed, and after. */
void gw_reload_abandon(struct gateway *gateway);
void gw_reload_free(struct gateway *gateway);

/* worker.c */
/* The limits of readers, buffers and the like, by the worker's configuration. */
void gw_worker_configure(struct gw_worker *worker);
/* What all workers share, for this configuration. */
void gw_make_room(struct gateway *gateway, const struct config *config);
/* How long idle sessions live may have changed. */
void gw_housekeeping_soon(struct gateway *gateway);
/* On the worker's loop, or before it runs. Starts the worker's share of the instances (but for
 * those of upstreams in `known`, which may be NULL) that somebody will most likely want. */
void gw_start_upstreams(struct gw_worker *worker, const struct upstream_list *known);
void gw_worker_check_drained(struct gw_worker *worker);
