/*
 * What the files of upstream/ share.
 *
 *     set.c        all upstreams        worker.c   what each loop has for them
 *     owners.c     whose instance is which
 *     instance.c   one server for one owner: states, restarts, time
 *     handshake.c  its start and lists  inbound.c  what it sends
 *     transport.h  stdio_child.c (with children.c), http_session.c, sse_session.c (with
 *                  sse_endpoint.c); both of HTTP send through outbox.c
 *     post.c       one HTTP request (with post_token.c, post_answer.c, fields.c), of a route.c;
 *                  http_failure.c: why it had no answer
 *     call.c       calls through the home; http_call.c: from the worker where they were made
 *     catalog.c    what it offers (with list_page.c, list_text.c, shape.c)
 *     watch.c      who wants to hear of changes, and of which (topic.c), asked for by subscribe.c
 *                  or listen.c (with listen_news.c)
 *     permit.c     who may call: max_in_flight, and the circuit breaker (breaker.c)
 *     room.c       how many instances there may be, and which one goes
 *     token.c      tokens of callers
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "children.h"
#include "client/client.h"
#include "json/reader.h"
#include "json/writer.h"
#include "mcp/bridge.h"
#include "mcp/message.h"
#include "oauth/source.h"
#include "permit.h"
#include "post.h"
#include "room.h"
#include "transport.h"
#include "upstream/upstream.h"
#include "watch.h"

struct upstream_worker {
    struct upstream_set *set;
    struct io_loop *loop;
    struct client *client;
    struct json_reader *reader;      /* of what comes from HTTP servers for calls of this worker */
    struct json_reader *home_reader; /* of what comes for the instances that are at home here */
    struct buf fields;               /* of one request at a time */
    struct list posts;               /* running; those whose owner is gone too */
    struct map askable;              /* id to struct upstream_call: see asks.c */
};

struct upstream_set {
    struct upstream_set_options options;
    struct upstream_worker *workers;   /* options.n_loops */
    struct mcp_implementation gateway; /* what servers are told of us */
    struct children *children;
    struct oauth_tokens *tokens;
    pthread_mutex_t list_mutex;      /* guards `list`: a reload swaps it, any thread takes it */
    struct upstream_list *list;      /* the current one, with a reference */
    atomic_uint_fast64_t generation; /* counts changes, see upstream_set_generation() */
    atomic_uint_fast64_t last_id;
    atomic_size_t n_open;       /* instances that are not closed for good */
    pthread_mutex_t open_mutex; /* guards the list of them: homes add and remove, the end walks */
    struct list open;
    struct room room;        /* those of them that are not on their way out; same mutex */
    atomic_bool is_stopping; /* set under that mutex: none is added afterwards */
    void (*on_stopped)(void *context);
    void *stop_context;
    struct io_message stopped_message;
    atomic_bool stopped_sent;
};

struct upstream_list {
    atomic_uint refs;
    size_t n;
    bool has_sessions, wants_tokens;
    struct map by_name; /* to the place in items */
    struct list_item {
        struct upstream *upstream; /* a reference */
        bool waits;                /* see upstream_list_waits() */
    } items[];
};

/* How an upstream's process wants to be spoken to; the probe finds out once. */
enum verdict { VERDICT_UNKNOWN, VERDICT_LEGACY, VERDICT_MODERN };

/* Lives while a list, an instance, a route or a request knows it. */
struct upstream {
    atomic_uint refs;
    struct upstream_set *set;
    struct config *all;                 /* a reference: the configuration that it was made of */
    const struct config_server *config; /* in there */
    atomic_bool is_retired;             /* set under the mutex: it gets no instance any more */
    /* Of HTTP servers; fixed at birth. */
    struct client_target *target;         /* NULL: a child */
    struct client_target *message_target; /* of message_url; NULL: HTTP+SSE finds it, or none is */
    struct oauth_source *source; /* of the tokens that it is sent; NULL: none are got for it */
    bool wants_caller_fields;
    struct slice rule_fields; /* whole lines of requests without a caller */
    struct buf fields;        /* their memory */
    char agent[64];           /* what User-Agent says, unless a rule says something else */
    /*
     * Guards the rest, and of each instance the fields that it names: workers look instances up and
     * read their status, the homes change it. Held for a few instructions, never across I/O.
     */
    pthread_mutex_t mutex;
    struct map instances; /* owner to struct upstream_instance, with a reference: not closed yet */
    size_t n_running;
    enum verdict verdict;
    struct breaker breaker;
    /* permit.c's; any worker, without the lock. */
    atomic_uint_fast64_t gate; /* what the breaker says, for those who only pass */
    atomic_bool has_failures;  /* an answer is news to the breaker */
    atomic_size_t n_in_flight;
};

/* What the instance has asked its server and waits for. */
enum ask { ASK_NOTHING, ASK_DISCOVER, ASK_INITIALIZE, ASK_LIST };

struct upstream_instance {
    atomic_uint refs;
    struct upstream *upstream; /* a reference */
    struct slice partition;    /* owned memory: of kept connections */
    struct slice key;          /* in there: the owner and what its client can do */
    struct slice owner;        /* the same without the mark */
    unsigned capabilities;     /* of the clients that it serves */
    struct upstream_worker *worker;
    struct io_loop *loop; /* the worker's */

    /* Guarded by upstream->mutex; written by the home only. */
    enum upstream_state state;
    enum transport_kind kind; /* of the last start */
    bool is_listed, is_first_start;
    uint64_t first_started_ms;
    struct catalog *catalog;
    struct upstream_freshness lists[MCP_LIST_COUNT];
    char error[160];
    struct route *route; /* a reference; NULL: no HTTP server, or not up */
    /* Likewise, but written by any worker: its owner's, that ends last; or NULL. */
    struct oauth_token *token;
    struct oauth_token *refused_token; /* with which it could not start; until the next attempt */
    struct oauth_token *tried_token;   /* the home's: what it was started with */
    atomic_bool waits_for_token;       /* it is to start when there is one */
    const char *told; /* to callers while it is down: a fixed sentence; NULL: nothing special */
    /* Guarded likewise; written by any worker. */
    int wanted_level;
    int told_level;      /* that the server has taken */
    struct list askable; /* calls to an HTTP server, whose clients can be asked */

    /* The home's own. */
    struct list_link open_link; /* set->open_mutex */
    size_t room_place;          /* likewise; room.c's */
    atomic_bool is_starting;    /* as `state` says */
    struct io_message kill_message;
    atomic_bool kill_posted;
    struct io_message start_message, level_message, close_message, refresh_message, look_message;
    atomic_bool start_posted, level_posted, close_posted, refresh_posted, look_posted;
    atomic_uint refresh_wanted, changes_heard; /* masks of lists, for refresh_message */
    /* Likewise: of routes whose session a call found lost, or whose server it could not reach. */
    atomic_uint_fast64_t lost_generation, unreachable_generation;
    struct transport *transport;
    bool has_slot; /* counted in n_running */
    bool is_probing,
        is_reprobe; /* the process was started for the probe; it is to start again at once */
    bool is_stopping_idle, is_closing;
    /* It refused what Streamable HTTP begins with, and why: it is tried as HTTP+SSE, until it
     * fails. */
    bool tries_sse;
    char refusal[96];
    const char *late_reason; /* why it would not be ready in time; NULL: nothing special */
    bool is_refused; /* the server does not take its owner's token: no fault of the server */
    enum ask ask;
    uint64_t ask_id;
    enum mcp_list ask_list;
    unsigned lists_wanted, lists_declared, lists_changed, lists_stale, lists_told, lists_read,
        lists_failed;
    uint64_t list_cost_us;          /* what the lists at hand cost this loop so far */
    struct io_timer *pause_timer;   /* runs: what the server calls changed is read when it fires */
    struct catalog *next;           /* being built */
    struct catalog_list *page_list; /* the list being read */
    unsigned n_pages, n_discovered;
    uint64_t reading_since_ms;
    struct io_timer *start_timer, *probe_timer, *retry_timer, *tick_timer;
    bool ticks_for_calls; /* within a second; else for idleness, or not at all */
    uint64_t retry_delay_ms, ready_since_ms;
    atomic_uint_fast64_t last_used_ms;
    atomic_size_t n_direct;    /* calls that run on their own workers */
    atomic_size_t n_under_way; /* all calls, from their start to the end of their memory; room.h */
    int sent_level;
    uint64_t level_id; /* of the request that tells it, while it runs */
    unsigned n_garbage;
    uint64_t log_second;
    unsigned n_logged;   /* in that second */
    char complaint[160]; /* why the gateway ends it; empty: it ended by itself */
    struct map pending;  /* id to struct upstream_call: sent, not answered */
    struct list calls;   /* all: waiting and sent, in order of arrival */
    size_t n_calls;
    struct watches watches;
};

/* Where a call is; only its own thread knows and changes it. */
enum call_place {
    CALL_AT_HOME, /* with the instance's home: every call to a child, and those that wait */
    CALL_RUNNING, /* HTTP: its request is out */
    CALL_FINISHED,
};

struct upstream_call {
    /* The caller's. */
    struct upstream_worker *worker;
    struct upstream_call_events events;
    void *context;
    enum call_place place;
    bool is_cancelled;
    bool is_paused;
    bool cancel_under_way; /* cancel_message is with the home */
    char cancel_reason[64];

    /* Set before the home hears of it. */
    struct upstream_instance *instance; /* a reference */
    struct upstream_request request;    /* slices into `bytes` */
    struct io_message start_message, cancel_message, final_message, release_message;
    /* Of whoever has the call at the time. */
    struct permit permit;
    bool was_told; /* its caller has heard of progress */
    unsigned n_retries;

    /* The home's. */
    struct list_link link; /* in instance->calls */
    bool is_sent, is_finished, is_released, was_spared;
    unsigned n_asks;      /* of its server, unanswered. Of whoever has the call */
    uint64_t life_ms;     /* ready_since_ms of the instance that it was sent to */
    bool was_asked_apart; /* its worker's: on a pipe, or stream, that does not say for which call */
    struct list_link askable_link;
    uint64_t started_ms, heard_ms;
    enum upstream_outcome outcome;
    char *answer; /* owned; for the final message */
    size_t answer_len;

    /* The caller's, of HTTP servers. */
    struct post *post;
    struct route *route; /* a reference: what it was sent to */
    struct io_timer *timer;
    uint64_t direct_started_ms, direct_heard_ms;
    unsigned n_refused, n_garbage;
    unsigned http_status; /* of the answer; 0: none came */

    size_t n_bytes;
    char bytes[];
};

/* worker.c */
MUST_CHECK int upstream_worker_init(struct upstream_worker *worker, struct upstream_set *set,
                                    struct io_loop *loop, const struct config *config);
void upstream_worker_deinit(struct upstream_worker *worker);
/* A message that nobody waits for the answer of. */
void upstream_worker_note(struct upstream_worker *worker, struct route *route,
                          struct oauth_token *token, struct slice line);
/* Ends the route's session; nobody waits for that. */
void upstream_worker_farewell(struct upstream_worker *worker, struct route *route,
                              struct oauth_token *token);

/* route.c */
struct counted_route {
    atomic_uint refs;
    struct route route;
    char bytes[];
};

/* post.c */
/* What still runs is dropped without an event. */
void posts_free(struct upstream_worker *worker);

/* http_session.c, sse_session.c */
MUST_CHECK int http_session_start(struct upstream_instance *instance,
                                  const struct transport_events *events,
                                  struct transport **ret_transport, const char **ret_reason);
MUST_CHECK int sse_session_start(struct upstream_instance *instance,
                                 const struct transport_events *events,
                                 struct transport **ret_transport, const char **ret_reason);

/* instance.c, on the home */
struct log *instance_log(const struct upstream_instance *instance);
struct slice instance_name(const struct upstream_instance *instance);
/* Before a principal where each session has an instance; no session's id has a colon. */
#define OWNER_IS_PRINCIPAL "principal:"
/* What a key has at its end: this and two hexadecimal digits. */
enum { OWNER_MARK = '\x1f', OWNER_MARK_CHARS = 3 };
/* For the log: the id of a session is as good as a credential, and only begun. */
struct slice instance_owner_name(const struct upstream_instance *instance);
/* Ends the line, sends it and frees the buffer. id 0: no request. */
int instance_send(struct upstream_instance *instance, uint64_t id, enum mcp_method method,
                  bool is_answer, struct buf *line);
bool instance_is_http(const struct upstream_instance *instance);
/* Any thread: what a call learned of the server. */
void instance_report(struct upstream_instance *instance);
/* What callers hear while it is down. */
void instance_tell(struct upstream_instance *instance, const char *told);
/* The session is gone: a new handshake, without a new start. */
void instance_renew(struct upstream_instance *instance);
/* Any thread: its last call may be over, and it is of an upstream that has retired. */
void instance_call_over(struct upstream_instance *instance);
/* Ready, and nothing has to be said before a call. */
bool instance_takes_calls(struct upstream_instance *instance);
/* The request for a log level was answered. */
void instance_level_told(struct upstream_instance *instance);
/* Any thread: where calls go while the instance is ready; a reference, or NULL. */
struct route *instance_route(struct upstream_instance *instance);
void instance_announce(struct upstream_instance *instance, unsigned list_mask);
/* It is no server of Streamable HTTP, for that reason: starts it as one of HTTP+SSE. */
void instance_try_sse(struct upstream_instance *instance, struct slice reason);
/* Ends it until somebody uses it again; what is in flight fails with `reason`. */
void instance_rest(struct upstream_instance *instance, struct slice reason);
/* Ends a process that has not kept its side; it is started again after a pause. */
void instance_give_up(struct upstream_instance *instance, const char *reason);
/* The handshake is over. */
void instance_ready(struct upstream_instance *instance);
/* NULL: there is no memory. */
struct upstream_instance *instance_new(struct upstream *upstream, struct slice key,
                                       struct upstream_worker *worker);
/* A new one that nobody has seen. */
struct upstream_instance *instance_discard(struct upstream_instance *instance);
/* Starts when it is idle; does nothing otherwise. */
void instance_wake(struct upstream_instance *instance);
/* A call began: its time is looked at within a second. */
void instance_tick_soon(struct upstream_instance *instance);
/* Starts also when it waits to be started again. */
void instance_start_now(struct upstream_instance *instance);
/* Any thread: the breaker has opened, and what waits at the home is not to be sent. */
void instance_look_at_waiting(struct upstream_instance *instance);
/* Any thread: closes it for good on its home. */
void instance_close(struct upstream_instance *instance);
/* Any thread: after instance_close(), without waiting for the server. */
void instance_kill(struct upstream_instance *instance);

/* With the lock: what upstream_instance_status() says, or whose an instance is, has changed. */
static inline void upstream_note_change(struct upstream *upstream) {
    atomic_fetch_add(&upstream->set->generation, 1);
}

/* handshake.c, on the home */
void handshake_begin(struct upstream_instance *instance);
/* The answer to what was asked last; or there will be none. */
void handshake_answer(struct upstream_instance *instance, const struct mcp_message *message);
void handshake_failed(struct upstream_instance *instance, const struct transport_failure *failure);
/* `is_told`: the server says so, and clients are told too; else they are only when it is true. */
void handshake_lists_changed(struct upstream_instance *instance, unsigned list_mask, bool is_told);
/* A list that is read again does not come: the old one stays. */
void handshake_lists_late(struct upstream_instance *instance);
/* The pause after lists that changed is over. */
void handshake_pause_over(struct upstream_instance *instance);
void handshake_forget(struct upstream_instance *instance);
/* What every request of 2026-07-28 says of its sender. */
void handshake_write_envelope(struct json_writer *writer, const struct upstream_instance *instance,
                              unsigned capabilities);
void handshake_set_verdict(struct upstream_instance *instance, enum verdict verdict);

/* inbound.c */
enum { MESSAGE_GARBAGE = 192 };
/* What a caller is told whose answer was refused. */
struct slice message_garbage(char text[static MESSAGE_GARBAGE], const char *reason);
/* The first number behind an "id" of what cannot be read as a message; empty: there is none. */
struct slice message_shown_id(struct slice line);
/* What a server's request gets of the gateway: ping an answer, what no client was said to do an
 * error, and what no client can be asked now is declined. */
void message_write_answer(struct buf *line, const struct mcp_message *message,
                          unsigned capabilities);
/* On the home. */
bool instance_handle_message(struct upstream_instance *instance, uint64_t request,
                             struct slice document);

/* call.c, on the home */
void calls_flush(struct upstream_instance *instance);
/* What waits for the next start stays. `verdict`: on a probe among them. */
void calls_fail_all(struct upstream_instance *instance, struct slice reason,
                    enum breaker_verdict verdict);
/* Refuses what waits and may not be sent any more. */
void calls_look_at_waiting(struct upstream_instance *instance);
/* The server has requests that it has not answered. */
bool calls_any_sent(const struct upstream_instance *instance);
/* Fails those over time; true when any are left. */
bool calls_check_time(struct upstream_instance *instance, uint64_t now_ms);
/* The answer to a call; false: no call has that id. */
bool calls_answer(struct upstream_instance *instance, struct slice id,
                  enum upstream_outcome outcome, struct slice bytes);
/* There will be no answer to that request, which may be a call; false: none has that id. */
bool calls_refused(struct upstream_instance *instance, uint64_t id,
                   const struct transport_failure *failure);
/* A notification for the call with that progress token; false: there is none. */
bool calls_progress(struct upstream_instance *instance, struct slice token, struct slice params);
/* A request for the client of the call that is under way; false: there is no such call, or there
 * are several askers. */
bool calls_ask(struct upstream_instance *instance, const struct mcp_message *message);
/* The server does not wait for the answer to its request any more. */
void calls_ask_cancelled(struct upstream_instance *instance, struct slice id);
/* A log message, to the longest running call of each origin context; false when no call runs. */
bool calls_log(struct upstream_instance *instance, struct slice params);

/* asks.c, on the worker of a call that runs */
/* It can be found by requests that do not come on its own stream, until it has left. */
void call_ask_enter(struct upstream_call *call);
void call_ask_leave(struct upstream_call *call);
/* What comes on its own stream: as calls_ask(). */
bool call_ask(struct upstream_call *call, const struct mcp_message *message);
void call_ask_cancelled(struct upstream_call *call, struct slice id);

/* call.c, any thread that has the call */
#define CALL_MAY_NOT_LEAVE "it was locked while the call waited for the server; nothing was sent"
/*
 * Whether it may be sent once more though its answer was lost: the one rule for all transports.
 * Only what can be done twice without harm, once, and not when the caller has heard of it already.
 */
bool call_may_repeat(const struct upstream_call *call);
void call_made_progress(struct upstream_call *call, uint64_t now_ms);
/* What an end says of the server, unless the breaker has been told already. */
enum breaker_verdict call_verdict(const struct upstream_call *call, enum upstream_outcome outcome);

/* call.c, on the caller's worker */
/* From inside upstream_call_start(), where no event may come: by the own mailbox. */
void call_fail_later(struct upstream_call *call, enum upstream_outcome outcome, struct slice text);
void call_free_when_over(struct upstream_call *call);
/* notifications/cancelled for it. Any thread; its errors are the buffer's. */
void call_write_cancelled(const struct upstream_call *call, struct slice reason, struct buf *line);
/* Hands the call to the home, which waits until the instance is ready and hands it back. */
void call_go_home(struct upstream_call *call);

/* http_call.c, on the caller's worker */
/* The instance is ready, perhaps. */
void http_call_run(struct upstream_call *call);
void http_call_cancel(struct upstream_call *call);
/* As call->is_paused says. */
void http_call_pause(struct upstream_call *call);

/* Why a call would wait in vain now; empty: it would not. */
struct slice instance_refusal(const struct upstream_instance *instance, char *text, size_t size);

/* token.c, any thread */
#define LACKS_TOKEN                                                                                \
    "the server needs the access token of its caller (auth.type), and there is none, or it has "   \
    "ended"
/* What the instance sends by itself is sent with it. A reference; NULL: there is none that has not
 * ended. */
struct oauth_token *instance_token(struct upstream_instance *instance);
/* The server wants one, and there is none; it starts when there is. */
bool instance_lacks_token(struct upstream_instance *instance);
/* Takes a reference, unless it has one that ends later. Accepts NULL. */
void instance_keep_token(struct upstream_instance *instance, struct oauth_token *token);
void instance_drop_token(struct upstream_instance *instance);
/* It could not start with the one it has: another one is waited for, or the end of the pause. */
void instance_refuse_token(struct upstream_instance *instance);
/* The pause is over: with what there is. */
void instance_retry_token(struct upstream_instance *instance);
/* What callers hear. The operator finds the reason in the log, and in the status where it lasts. */
const char *token_lack(enum oauth_lack lack);

/* permit.c */
void upstream_permits_init(struct upstream *upstream);

/* set.c, any thread */
/* One of the set's open instances has gone; the last one's end is that of the set. */
void set_let_go(struct upstream_set *set);

/* owners.c, any thread */
/* As upstream_get(), for the key of an instance. */
MUST_CHECK int set_get(struct upstream *upstream, struct slice key, struct upstream_worker *worker,
                       struct upstream_instance **ret_instance);
/* max_size of the configuration may have changed. */
void set_resize(struct upstream_set *set, size_t max);
void set_instance_closed(struct upstream_set *set, struct upstream_instance *instance);
