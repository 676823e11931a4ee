/*
 * What lives longer than a request: principals and their sessions, what a configuration is made
 * into, the workers, the gateway.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "accounts/accounts.h"
#include "accounts/directory.h"
#include "admission.h"
#include "audit/record.h"
#include "audit/trail.h"
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
#include "oauth/token.h"
#include "peers.h"
#include "policy/policy.h"
#include "replay.h"
#include "upstream/upstream.h"

enum { GW_PIECES = IO_STREAM_PIECES - 2 }; /* of one message that is written */
enum { GW_SERVER_NAME_CHARS = 32 };        /* as check_server_name() allows */
/* Of an id: "INSTANCE.RANDOM", or "RANDOM". */
enum {
    GW_SESSION_SHARDS = 16,
    GW_SESSION_RANDOM_BYTES = 32,
    GW_SESSION_ID_CHARS = CONFIG_INSTANCE_MAX + 1 + 43,
};

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
    atomic_size_t n_parked;        /* calls that wait for its input (parked.c) */
    atomic_size_t replay_held;     /* bytes of events of its sessions (replay.h) */
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
    uint64_t used_ms; /* when it was noted that the token is used; 0: not yet */
};

/* What may be done, by one configuration. Counted: whoever waits for a counter holds the rules. */
struct gw_policy {
    atomic_uint refs;
    struct policy *policy;
    struct config *config; /* a reference: the policy's texts are in there */
};

/* Windows of edit mode, in memory of their own. */
struct gw_windows {
    struct accounts_edit *items;
    size_t n;
};

/* Edit mode (edit.c). */
struct gw_edit {
    atomic_bool is_always; /* security.edit_mode */
    /* Grows whenever something opens or closes: what was decided before that may not hold. */
    atomic_uint_fast64_t epoch;
    /* Of worker 0, as all that follows. */
    bool is_configured; /* it was looked at */
    struct gw_windows windows;
    struct io_timer *timer; /* when the next one closes */
};

/* The picture of the store (directory.c). */
struct gw_directories {
    pthread_mutex_t mutex; /* guards newest, number, uses: any worker */
    struct directory *newest;
    uint64_t number;
    struct accounts_use *uses; /* tokens that were used since they were noted last */
    size_t n_uses;
    struct io_message seen_message; /* to worker 0: one goes by a newer one */
    atomic_bool seen_posted;
    /* Of worker 0, as all that follows. */
    struct list refreshes;      /* struct gateway_refresh */
    uint64_t n_asked;           /* refreshes, ever */
    struct gw_loading *loading; /* NULL: none is under way */
    struct gw_noting *noting;
    bool is_wanted, is_fine;
    struct io_timer *timer;
    /* The upstreams of the store: as they are, and the last state that was asked to be served. */
    struct buf mark, tried_mark;
    uint64_t n_reloads, n_reloaded; /* that were asked for, and are over */
    void (*on_upstreams)(void *context);
    void *upstreams_context;
};

/* What commands have changed, on its way to the trail (notes.c). Worker 0's. */
struct gw_notes {
    struct gw_notes_batch *batch; /* NULL: none is under way */
    struct io_timer *timer;
    bool is_wanted; /* there may be more */
    bool is_others; /* those that were found were taken by somebody else, who was waited for */
    bool is_over;   /* the store is closed */
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
    struct gw_policy *policy;    /* a reference */
    struct audit_redact *redact; /* what records must not show */
};

/* Definitions as they were seen first (definitions.c). */
struct gw_definitions {
    pthread_mutex_t mutex; /* guards all: any worker looks */
    struct map by_name;    /* to the definition */
    struct map counts;     /* server to how many it has */
    int fd;                /* of the file; -1: there is none */
    bool is_broken;        /* it could not be read: nothing can be compared with it */
};

/* By the transport that opened it; no other one finds it. */
enum gw_session_kind {
    GW_SESSION_HTTP,
    GW_SESSION_SSE, /* of HTTP+SSE: there while its stream is */
    /* What a client of 2026-07-28 listens to, who has no sessions: there while that stream is. */
    GW_SESSION_LISTEN,
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
    enum gw_session_kind kind;
    uint64_t opened_ms;
    /* Of GW_SESSION_SSE it belongs to the stream's worker, as what its client calls itself: there
     * initialize comes later. */
    enum mcp_revision revision;
    bool is_initialized;   /* likewise */
    atomic_bool is_begun;  /* a message came */
    char client[96];       /* what its client calls itself, cut */
    unsigned capabilities; /* what it can be asked (mcp/capabilities.h) */
    char *declared;        /* owned: its extensions, then its experiments; or NULL */
    size_t extensions_len, experimental_len;
    struct list_link principal_link; /* principal->mutex */
    struct auth_identity *identity;  /* mutex; a reference: of who used it last */

    atomic_uint_fast64_t last_used_ms;
    atomic_int log_level; /* -1: the client did not ask */
    /* Of GW_SESSION_LISTEN: the id of its request, JSON, owned; and the lists that it asked for. */
    char *listen_id;
    unsigned listen_mask;
    atomic_bool is_closed;
    atomic_uint changed;             /* lists that the client has not heard of, a mask */
    pthread_mutex_t mutex;           /* guards what follows: calls land on any worker */
    struct map calls;                /* id key to struct gw_call_place */
    struct gw_worker *stream_worker; /* where its GET stream lives; NULL: none */
    struct list subscriptions;       /* struct gw_subscription */
    size_t n_subscriptions;
    struct gw_task_tokens *task_tokens; /* owned; NULL: it has asked for no task with progress */
    struct gw_replays replays;          /* with a mutex of their own */
};

/* Something that a session hears of (subscriptions.c). What may change is guarded by
 * session->mutex. */
struct gw_subscription {
    struct list_link link;      /* in session->subscriptions */
    atomic_uint refs;           /* the session's, and that of its watch */
    struct gw_session *session; /* a reference, as long as it is watched */
    char upstream[GW_SERVER_NAME_CHARS + 1];
    struct upstream_watch *watch; /* NULL: none */
    enum gw_subscription_state {
        GW_SUBSCRIPTION_PENDING,
        GW_SUBSCRIPTION_LIVE,
        GW_SUBSCRIPTION_LOST, /* its instance is gone: it is begun again */
        GW_SUBSCRIPTION_OVER, /* nobody will hear of it but what is noted already */
    } state;
    bool is_dropped;               /* it is in no list any more */
    bool is_gone;                  /* its watch has ended */
    bool is_again;                 /* it was lost before: what was missed is not known */
    bool is_updated;               /* and the client has not heard of it */
    bool is_asked;                 /* a task, of the stream's worker: its server is asked for it */
    struct gw_call_place *waiters; /* owned: calls that are answered when it is live */
    size_t n_waiters;
    char *params; /* owned: of the last update, JSON; NULL: none is kept */
    size_t params_len;
    struct upstream_wish wish; /* its name is in `text` */
    struct slice id;           /* of a task: as the client knows it; likewise */
    unsigned capabilities;     /* ... and what the clients of its instance can do */
    char text[];
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
    struct hash_key key, event_key;         /* the second one: of ids of events */
    char instance[CONFIG_INSTANCE_MAX + 1]; /* what ids begin with; empty: nothing */
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
    struct directory *directory; /* a reference; NULL: there is no store */
    uint64_t directory_number;
    atomic_uint_fast64_t directory_seen; /* the same, for worker 0 */
    uint64_t edit_epoch;                 /* when it took the picture over */
    struct io_message directory_message;
    atomic_bool directory_posted;
    struct gw_policy *policy;          /* the generation's */
    struct limits_worker *limits;      /* NULL: for the command line */
    struct audit_worker *audit;        /* NULL: nothing is recorded */
    struct audit_writer *audit_writer; /* with `audit` */
    struct list record_waits;          /* struct gw_record_wait */
    struct io_message record_message;  /* what waits is written at the end of this turn */
    bool is_record_posted;
    unsigned n_unflushed;                /* records that wait since it was posted */
    uint64_t record_base;                /* of the ids of records */
    struct buf record_begin, record_end; /* of the record at hand */
    struct buf client_info, client_text; /* the client of the last record, as it said and as told */
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
    struct list parked;         /* struct gw_parked */
    struct map parked_by_id;
    struct map streams; /* session id to the exchange of its GET stream */
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

enum { GW_DERIVED_KEY = 32 };

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
    struct audit *audit;       /* NULL: nothing is recorded */
    struct store *store;       /* NULL: for the command line */
    struct gw_directories directories;
    struct gw_notes notes;
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
    atomic_uint_fast64_t max_sessions;        /* of each principal */
    atomic_uint_fast64_t session_lifetime_ms; /* 0: they have none */
    atomic_size_t resume_buffer;              /* bytes of events that are kept, of each session */
    atomic_size_t replay_held;                /* ... of all sessions */
    atomic_size_t n_replays;                  /* streams of theirs */
    struct upstream_set *upstreams;
    atomic_bool has_lost_subscriptions;
    atomic_bool has_instances_of_sessions; /* some upstream has one for each session */
    struct gateway_reload *reload;         /* under way; worker 0's */
    struct gw_worker *workers;
    struct io_loop **loops; /* of the workers */
    size_t n_workers;
    struct hash_key cursor_key;              /* of the cluster */
    unsigned char state_key[GW_DERIVED_KEY]; /* of what seal.c seals */
    unsigned char name_key[GW_DERIVED_KEY];  /* of what it seals the same each time */
    struct io_timer *drain_timer;
    struct io_message lost_message, drained_message;
    atomic_size_t n_undrained; /* workers that still serve something */
    atomic_bool lost_posted;
    bool is_local;  /* serves the command line only: sessions' instances are started too */
    bool is_inside; /* serves this process only: nothing stands in between */
    bool is_stopping, is_hurried, upstreams_stopping;
    int result;
    void (*on_change)(void *context);
    void *change_context;
};

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

/* session.c */

void gw_sessions_init(struct gw_sessions *sessions, struct slice instance);
void gw_sessions_deinit(struct gw_sessions *sessions);
/* NULL: the principal has max_sessions open, all in use, or there is no memory. With a reference.
 */
struct gw_session *gw_session_new(struct gateway *gateway, struct gw_principal *principal,
                                  struct upstream *only, enum gw_session_kind kind,
                                  enum mcp_revision revision, unsigned capabilities,
                                  uint64_t now_ms);
/* The session with this id, if it is this principal's, of this endpoint and kind, and has not had
 * its time (or has calls running); with a reference. */
struct gw_session *gw_session_find(struct gateway *gateway, struct slice id,
                                   const struct gw_principal *principal,
                                   const struct upstream *only, enum gw_session_kind kind,
                                   uint64_t now_ms);
/* What its client declared beside that, as JSON; when it begins. */
void gw_session_declare(struct gw_session *session, struct slice extensions,
                        struct slice experimental);
struct gw_session *gw_session_ref(struct gw_session *session);
struct gw_session *gw_session_unref(struct gw_session *session);
/* Ends it: it is not found any more, its stream ends, its own upstream instances stop. */
void gw_session_close(struct gw_session *session);
/* It belongs to this endpoint (NULL: the merged one). */
bool gw_session_is_at(const struct gw_session *session, const struct upstream *only);
/* It has had its time: it takes no requests any more, and ends with its last call. */
bool gw_session_is_over(const struct gw_session *session, uint64_t now_ms);
void gw_sessions_expire(struct gateway *gateway, uint64_t now_ms);
/* Who uses it now: what it may be told of. */
void gw_session_note_caller(struct gw_session *session, struct auth_identity *identity);
/* Each that is there now; `fn` may close it. */
typedef void gw_session_fn(void *context, struct gw_session *session);
void gw_sessions_each(struct gw_sessions *sessions, gw_session_fn *fn, void *context);
/* The level that the owner of instances has to be told: the most verbose of the principal's
 * sessions. */
int gw_principal_log_level(struct gw_principal *principal);

/* generation.c */
/* `previous`: the one that it will follow; NULL: the first. -errno. */
MUST_CHECK int gw_generation_new(struct gateway *gateway, struct config *config,
                                 const struct gw_generation *previous,
                                 struct gw_generation **ret_generation);
/* No worker serves by it any more; on worker 0, whose loop is still there. */
struct gw_generation *gw_generation_free(struct gw_generation *generation);
/* Streams of credentials that are worth nothing any more. */
void gw_end_stale_streams(struct gw_worker *worker);
/* On the worker's loop, or before it runs. */
void gw_worker_adopt(struct gw_worker *worker, struct gw_generation *generation);

/* directory.c */
void gw_windows_deinit(struct gw_windows *windows);
void gw_directory_init(struct gateway *gateway);
/* Reads the store, and watches it. The store's codes. */
MUST_CHECK int gw_directory_open(struct gateway *gateway);
/* On worker 0. */
void gw_directory_stop(struct gateway *gateway);
void gw_directory_free(struct gateway *gateway);
/* All workers take the picture over, and the epoch of edit mode. */
void gw_directory_spread(struct gateway *gateway);
/* The store was not heard for so long; any thread. */
bool gw_directory_is_silent(const struct gateway *gateway, uint64_t for_ms);
/* A request came with the caller's token. */
void gw_directory_note_use(struct gw_worker *worker, struct gw_caller *caller);
/* Now and then, on worker 0. */
void gw_directory_tick(struct gateway *gateway);

/* notes.c: there are some in the store; on worker 0, or before it runs. */
void gw_notes_found(struct gateway *gateway);
void gw_notes_look(struct gateway *gateway);
/* The store is closed; what is under way ends with its message. */
void gw_notes_free(struct gateway *gateway);

/* edit.c */
/* For this caller (NULL: the owner of the machine) at this upstream, now. */
bool gw_edit_is_open(const struct gw_worker *worker, const struct auth_identity *identity,
                     struct slice upstream);
/* Windows count as closed: what was closed would not be heard, or cannot be written. */
bool gw_edit_is_cut_off(const struct gateway *gateway);
/* Nothing has been closed since gateway->edit.epoch was that; any thread. */
bool gw_edit_still_open(const struct gateway *gateway, uint64_t epoch);
/* The windows that the store has now; they are taken over. From worker 0, or before it runs. */
void gw_edit_take(struct gateway *gateway, struct gw_windows *windows);
/* From worker 0, or before the workers run: as the file says, when that has changed. */
void gw_edit_configure(struct gateway *gateway, const struct config *config);
void gw_edit_deinit(struct gateway *gateway);

/* derive.c. For one purpose, out of the cluster's key; NULL: by chance. -ENOMEM. */
MUST_CHECK int gw_key_derive(const struct secret *cluster_key, struct slice purpose,
                             unsigned char ret_key[static GW_DERIVED_KEY]);
MUST_CHECK int gw_hash_key_derive(const struct secret *cluster_key, struct slice purpose,
                                  struct hash_key *ret_key);

/* definitions.c */
void gw_definitions_init(struct gw_definitions *definitions);
void gw_definitions_deinit(struct gw_definitions *definitions);
/* Reads the file, and appends to it from now on. -errno. */
MUST_CHECK int gw_definitions_open(struct gw_definitions *definitions, const char *path);
/* The item of this list is the tool as it was seen first, and that says readOnlyHint. Uses the
 * worker's second reader. */
bool gw_definition_says_read_only(struct gw_worker *worker, struct slice server,
                                  struct catalog_list *list, const struct catalog_item *item);

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
