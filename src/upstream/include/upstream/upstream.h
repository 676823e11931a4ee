/*
 * Upstreams: the MCP servers behind the gateway. A set has one struct upstream per
 * [mcp.servers.NAME]; each of them has instances, one per owner (by `share`: a principal, a
 * session, or everybody). An instance is what the gateway knows of the server for that owner: a
 * child process or an HTTP endpoint, the MCP session to it where its revision has one, and the
 * catalog. It belongs to one worker's loop, its home. State of one owner never serves another.
 *
 * An instance starts by itself when it is first asked for, comes back after a crash (backoff with
 * jitter), and stops when nobody used it for idle_timeout; its catalog stays for the next call.
 * Which revision the server speaks is found by probing: catalog->revision tells.
 *
 * The upstreams of one configuration are a list, immutable and counted. A reload makes another one
 * (upstream_set_prepare), in which those that are configured as before are the same as in the old
 * one, with all that they have; workers go over to it one after the other, and when nobody uses the
 * old one any more, what is only in there retires: no call finds it, those that run end as they
 * would have, and each instance stops with its last one.
 *
 * Threading: upstream_set_* and upstream_call_* from any worker; callbacks of a call run on the
 * worker that made it, hooks on the home of the instance. A call to a child goes through the home,
 * whose loop has its pipes; one to an HTTP server leaves from the worker that made it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"
#include "config/config.h"
#include "io/loop.h"
#include "io/spawner.h"
#include "io/tls.h"
#include "mcp/protocol.h"
#include "upstream/catalog.h"

struct upstream_set;
struct upstream_list;
struct upstream;
struct upstream_instance;
struct upstream_call;
struct oauth_token; /* oauth/token.h */
/* What upstreams need on each worker's loop: the HTTP client, a reader of answers. */
struct upstream_worker;

/* Bits of a list mask: 1u << enum mcp_list. */
#define UPSTREAM_ALL_LISTS ((1u << MCP_LIST_COUNT) - 1)

struct upstream_hooks {
    void *context;
    /* Lists of an instance came, went or changed. `owner`: its session where
     * `share` is "session" and it has one, else its principal. */
    void (*on_changed)(void *context, const struct upstream *upstream, struct slice owner,
                       unsigned list_mask);
    /* A log message that no running call can be named for: to all sessions of the owner. `params`
     * is JSON. */
    void (*on_log)(void *context, const struct upstream *upstream, struct slice owner, int level,
                   struct slice params);
    /* A task of the owner's has another status (params of notifications/tasks/status), which no
     * call was told. `capabilities`: of the clients of the instance. */
    void (*on_task_status)(void *context, const struct upstream *upstream, struct slice owner,
                           unsigned capabilities, struct slice params);
    /* The spawner is gone, and every child with it: the gateway cannot go on. */
    void (*on_spawner_lost)(void *context);
    /* As oauth_tokens_options has it, on the first loop; may be NULL. */
    void (*on_token)(void *context, const struct config_server *server, struct slice issuer,
                     uint64_t lifetime_ms, const char *reason);
};

struct upstream_set_options {
    struct config *config; /* of the first list; a reference is taken */
    struct log *log;
    struct io_loop *const
        *loops; /* of the workers; the first watches the spawners, hears of the end */
    size_t n_loops;
    struct io_tls *tls;       /* for https; a reference is taken; NULL when no upstream needs it */
    struct spawner *isolated; /* for isolation = "auto"; may be NULL when no upstream needs it */
    struct spawner *plain;    /* for isolation = "none"; may be NULL when no upstream needs it */
    struct slice version;     /* of the gateway, told to upstreams */
    struct upstream_hooks hooks;
};

MUST_CHECK int upstream_set_new(const struct upstream_set_options *options,
                                struct upstream_set **ret_set);
/* Stops every child and session; `on_stopped` runs on the first loop when the last one is gone.
 * Once. */
void upstream_set_stop(struct upstream_set *set, void (*on_stopped)(void *context), void *context);
/* What has not stopped by then ends at once: no server is waited for any more. */
void upstream_set_kill(struct upstream_set *set);
/* After the loops have stopped. */
struct upstream_set *upstream_set_free(struct upstream_set *set);

/* That of options.loops[index]; lives as long as the set. */
struct upstream_worker *upstream_set_worker(struct upstream_set *set, size_t index);

/* The upstreams of one configuration, in the order of the file. */

/* The current list, with a reference. Any thread. */
struct upstream_list *upstream_set_list(struct upstream_set *set);
struct upstream_list *upstream_list_ref(struct upstream_list *list);
/* Accepts NULL. */
struct upstream_list *upstream_list_unref(struct upstream_list *list);
size_t upstream_list_count(const struct upstream_list *list);
struct upstream *upstream_list_at(const struct upstream_list *list, size_t index);
/* NULL when there is none of that name; its place otherwise (may be NULL). */
struct upstream *upstream_list_find(const struct upstream_list *list, struct slice name,
                                    size_t *ret_index);
/* Some upstream in it has an instance for each session. */
bool upstream_list_has_sessions(const struct upstream_list *list);
/* Who keeps one longer than its list. */
struct upstream *upstream_ref(struct upstream *upstream);
struct upstream *upstream_unref(struct upstream *upstream);

/*
 * A reload, on one thread. First the list of a new configuration, of which a reference is taken;
 * nobody sees it yet, and to give it up is to unref it. -EINVAL: a URL or proxy cannot be used,
 * *ret_name says whose and *ret_reason why; -ENOMEM. A server that is to run without isolation,
 * when there is no spawner for that, stays as it was where it ran (upstream_list_waits()).
 */
MUST_CHECK int upstream_set_prepare(struct upstream_set *set, struct config *config,
                                    struct upstream_list **ret_list, struct slice *ret_name,
                                    const char **ret_reason);
/* The server needs a spawner that is started with the gateway only. */
bool upstream_list_waits(const struct upstream_list *list, size_t index);
/* Makes it the current one. */
void upstream_set_adopt(struct upstream_set *set, struct upstream_list *list);
/* Nobody makes calls by `old` any more: what is not in `list` retires. */
void upstream_list_retire(const struct upstream_list *old, const struct upstream_list *list);
/* On the worker's loop: it goes by the limits of this configuration from now on. */
void upstream_worker_configure(struct upstream_worker *worker, const struct config *config);

/*
 * Grows with every change of what upstream_instance_status() says of any instance, and of which
 * instance upstream_get() finds. Who has looked at the number before looking at the instances need
 * not look again while it stays the same.
 */
uint64_t upstream_set_generation(const struct upstream_set *set);
struct slice upstream_name(const struct upstream *upstream);
const struct config_server *upstream_config(const struct upstream *upstream);

/*
 * Whose instance. A session of a server says once what its client can do; so callers who can do
 * different things have different instances, unless the server is shared by all: that one is told
 * of nothing.
 */
struct upstream_owner {
    struct slice principal;
    struct slice session;  /* empty for clients without one */
    unsigned capabilities; /* of the client; mcp/capabilities.h */
};

/* An owner as hooks name it, where each session has an instance: this session, or (empty) the
 * clients of this principal that have none. */
bool upstream_owner_is(struct slice owner, struct slice principal, struct slice session);

/*
 * The instance that serves this owner (clients without a session share one a principal where
 * `share` is "session"), with a reference. Made when there is none, with `worker`
 * as its home; not started yet (a call starts it, or upstream_instance_start()).
 *
 * There are never more than mcp.downstream_cache.max_size, of all upstreams together: the one that
 * was unused longest, has no call under way and is not starting, is closed and forgotten to make
 * room. Whoever has a reference to that one may use it as before: a call by it goes to the one that
 * its owner has then.
 *
 * -ECANCELED: the set is stopping, or the upstream has retired. UPSTREAM_E_ROOM: none can go, the
 * caller is told UPSTREAM_LACKS_ROOM. -ENOMEM.
 */
enum { UPSTREAM_E_ROOM = 1 };
#define UPSTREAM_LACKS_ROOM                                                                        \
    "the gateway may keep no more sessions and processes of its servers "                          \
    "(mcp.downstream_cache.max_size), and all of them are in use; try again later"
MUST_CHECK int upstream_get(struct upstream *upstream, const struct upstream_owner *owner,
                            struct upstream_worker *worker,
                            struct upstream_instance **ret_instance);
/* The same, but never made: NULL when there is none. */
struct upstream_instance *upstream_find(struct upstream *upstream,
                                        const struct upstream_owner *owner);
struct upstream_instance *upstream_instance_ref(struct upstream_instance *instance);
struct upstream_instance *upstream_instance_unref(struct upstream_instance *instance);
void upstream_instance_start(struct upstream_instance *instance);
/* A session ended: instances of its own stop. */
void upstream_set_forget_session(struct upstream_set *set, struct slice session,
                                 unsigned capabilities);

enum upstream_state {
    UPSTREAM_IDLE,     /* not running; starts when called */
    UPSTREAM_STARTING, /* process, handshake, lists */
    UPSTREAM_READY,
    UPSTREAM_BACKOFF, /* failed; starts again by itself */
    UPSTREAM_STOPPING,
    UPSTREAM_CLOSED, /* for good */
};

/* When a list was last read, and until when the server calls it fresh (monotonic; UINT64_MAX: until
 * it tells of a change). */
struct upstream_freshness {
    uint64_t read_ms, until_ms;
};

struct upstream_status {
    enum upstream_state state;
    bool is_listed;            /* its items belong into lists */
    bool is_first_start;       /* never been ready nor failed so far */
    uint64_t first_started_ms; /* monotonic; 0: never */
    struct catalog *catalog;   /* a reference, or NULL: also when it is not listed, for routing */
    struct upstream_freshness lists[MCP_LIST_COUNT];
    char error[160];  /* why it last failed; empty: it did not */
    const char *told; /* to callers while it is down: a fixed sentence; NULL: nothing special */
};

void upstream_instance_status(struct upstream_instance *instance,
                              struct upstream_status *ret_status);
const char *upstream_state_name(enum upstream_state state);

/* Reads these lists again; on_changed tells the end, also when nothing changed (mask 0). Does
 * nothing unless it is ready. */
void upstream_instance_refresh(struct upstream_instance *instance, unsigned list_mask);

/* The most verbose log level that the owner's sessions want; -1: none asked. Sent to the upstream
 * when it changes. */
void upstream_instance_set_log_level(struct upstream_instance *instance, int level);

/* The upstream as a whole, over all its instances: what stands between it and calls. Any thread. */
struct upstream_health {
    const char *breaker; /* "closed", "open", "half-open" */
    uint64_t n_failures; /* in a row */
    uint64_t retry_ms;   /* until a call is let through again; 0 unless it is open */
    size_t n_in_flight;
};

void upstream_health(struct upstream *upstream, uint64_t now_ms,
                     struct upstream_health *ret_health);

/* Header fields for HTTP servers. */

/* The value of the caller's field of that name; a NULL ptr: there is none. */
typedef struct slice upstream_caller_field(void *context, struct slice name);
/* True when a rule of the configuration passes on fields of the caller: upstream_write_fields() has
 * to be asked then, and its lines go first into the request's `fields`. */
bool upstream_wants_caller_fields(const struct upstream *upstream);
MUST_CHECK int upstream_write_fields(const struct upstream *upstream, struct buf *out,
                                     upstream_caller_field *caller, void *context);

/*
 * Tokens of callers, for servers with auth.type "forward" (they are sent) and "exchange" (others
 * are got for them). Whether a caller's token may be used so is for the gateway to judge; here it
 * is, for that server and for its owner only.
 */
bool upstream_wants_token(const struct upstream *upstream);
/* Some upstream in the list does. */
bool upstream_list_wants_tokens(const struct upstream_list *list);
/*
 * The principal that the instance belongs to has shown this token, which ends then. A reference,
 * for the calls that came with it; and the instance uses it by itself (handshake, lists, streams,
 * the end of a session) as long as it has none that ends later. It starts now if it was waiting for
 * one. NULL: there is no memory. Any thread.
 */
struct oauth_token *upstream_instance_take_token(struct upstream_instance *instance,
                                                 struct slice text, uint64_t ends_wall_ms);

/* Calls. */

enum upstream_outcome {
    UPSTREAM_RESULT,  /* bytes: the result object */
    UPSTREAM_ERROR,   /* bytes: the error object */
    UPSTREAM_FAILED,  /* bytes: a sentence for the caller; nothing internal in it */
    UPSTREAM_TIMEOUT, /* as UPSTREAM_FAILED */
};

/* What a server asks of the client of a call: sampling, elicitation, roots. JSON as it wrote it. */
struct upstream_ask {
    struct slice id; /* of its request; for the answer */
    enum mcp_method method;
    struct slice params; /* empty: there are none */
};

struct upstream_call_events {
    /* A notification that belongs to the call: progress or message, or of an HTTP server
     * notifications/tasks/status. `params` is JSON as the upstream wrote it. */
    void (*on_notification)(void *context, enum mcp_method method, struct slice params);
    /*
     * The server asks, and waits: whoever gets this owes it one upstream_call_respond(), now or
     * later, unless the call ends before. A child's request, which does not say which call it
     * belongs to, comes to the one that is under way, when all that are have one `asker`. NULL:
     * nobody can be asked.
     */
    void (*on_ask)(void *context, const struct upstream_ask *ask);
    /* It does not want to know any more: nothing is owed. False: it was answered already. With
     * on_ask. */
    bool (*on_ask_cancelled)(void *context, struct slice id);
    /* The server takes its time: it has ended its stream, and is asked again and again. May be
     * NULL.
     */
    void (*on_recess)(void *context);
    /* The end; exactly once, unless cancelled. The call is gone afterwards. */
    void (*on_done)(void *context, enum upstream_outcome outcome, struct slice bytes);
};

/* An id for a request to an upstream, which is its progress token too; unique in the process. */
uint64_t upstream_next_id(struct upstream_set *set);

struct upstream_request {
    uint64_t id;
    enum mcp_method method;
    struct slice line;          /* one whole JSON-RPC request with that id, with its line end */
    enum mcp_revision revision; /* that it is written for: the catalog's when it was routed */
    struct slice name;          /* what Mcp-Name says of it, unescaped; empty: nothing */
    /* For HTTP: further header lines of this request, those of upstream_write_fields() included
     * when it has to be asked. */
    struct slice fields;
    /* Where upstream_wants_token(); a reference is taken. Without one nothing is sent. */
    struct oauth_token *token;
    /* Asked again just before it leaves, on any thread, for it may have waited long for its
     * instance; NULL: nothing has to hold. */
    bool (*may_leave)(const void *context, uint64_t value);
    const void *may_leave_context;
    uint64_t may_leave_value;
    uint64_t asker; /* whom on_ask() would ask: a session, or the call itself */
    /* The result of a task: the server says nothing until that is there, and is waited for until
     * max_timeout. */
    bool is_patient;
    /* Of which request progress is told too: the one that began the task; UPSTREAM_ANY_REQUEST: it
     * is for the caller to know; 0: none. */
    uint64_t progress;
};
#define UPSTREAM_ANY_REQUEST UINT64_MAX

/*
 * Sends the request; waits while the instance starts. `worker` is the caller's, where the events
 * come. An expired session of an HTTP server is renewed, and what had not been sent is sent again.
 * All of the request is copied. NULL: no memory.
 */
MUST_CHECK struct upstream_call *upstream_call_start(struct upstream_instance *instance,
                                                     struct upstream_worker *worker,
                                                     const struct upstream_request *request,
                                                     const struct upstream_call_events *events,
                                                     void *context);
/* What was sent, and to which server: until the end of on_done(). */
struct slice upstream_call_line(const struct upstream_call *call);
struct slice upstream_call_upstream(const struct upstream_call *call);
/* Its events go elsewhere from now on; from inside one of them, or between them. */
void upstream_call_adopt(struct upstream_call *call, const struct upstream_call_events *events,
                         void *context);
/* Answers what the server has asked: `bytes` is the result, or (is_error) the error object. No
 * limit of time runs for the server while it waits. */
void upstream_call_respond(struct upstream_call *call, struct slice id, bool is_error,
                           struct slice bytes);
/*
 * The call ends, or is about to be cancelled, and its client has not answered this. Where it is not
 * known for which call a server asks, its question may be that of another one that goes on: it is
 * told that nobody can be asked. Does nothing elsewhere. Also from inside on_done().
 */
void upstream_call_decline(struct upstream_call *call, struct slice id, enum mcp_method method);
/* The client tells how far it is with what it was asked: params of notifications/progress. */
void upstream_call_tell(struct upstream_call *call, enum mcp_method method, struct slice params);
/* The status of the HTTP server's answer, from inside on_done(); 0: a child's, or there was none.
 */
unsigned upstream_call_http_status(const struct upstream_call *call);
/* What comes for it comes on one pipe, a child's or the stream of HTTP+SSE, that all calls share.
 */
bool upstream_call_shares_pipe(const struct upstream_call *call);
/*
 * The caller can take no more for now, or again: an HTTP server's answer is not read meanwhile, and
 * that time is not counted as its silence. Does nothing where calls share a pipe.
 */
void upstream_call_pause(struct upstream_call *call, bool paused);
/*
 * No event comes afterwards. Tells the upstream: with notifications/cancelled, with `reason` (may
 * be empty) as plain text, or by closing the stream where the revision wants that.
 */
void upstream_call_cancel(struct upstream_call *call, struct slice reason);

/* Watches. */

/*
 * Somebody wants to hear of a resource that is updated, of a task (2026-07-28 with its extension),
 * or of lists that change. What all watches of an instance want together is what its server is
 * asked for: by resources/subscribe, where the revision has sessions, or by one
 * subscriptions/listen. When the instance has to start anew the server is asked again, and each
 * resource and task is told as updated once: nobody knows what was missed.
 *
 * Events come on the home of the instance, on_gone() as the last one.
 */
struct upstream_watch;

struct upstream_watch_events {
    /*
     * Once. UPSTREAM_RESULT: the server is watched (`bytes` is empty); `list_mask` are those of the
     * wanted lists whose changes it promises to tell. UPSTREAM_ERROR: its error object. FAILED,
     * TIMEOUT: a sentence. After all but UPSTREAM_RESULT nothing comes but on_gone().
     */
    void (*on_live)(void *context, enum upstream_outcome outcome, unsigned list_mask,
                    struct slice bytes);
    /* The resource was updated: `params` is JSON as the server wrote it, or made by us. Of a task
     * it is the server's alone; empty: something was missed, or is too long (LIMIT_UPDATED). */
    void (*on_updated)(void *context, struct slice params);
    /* Of a task that was told of, and only of one (NULL elsewhere): its server does not any more.
     */
    void (*on_lost)(void *context);
    /* Nothing comes any more: it was stopped, or the instance is closed for good. Once. */
    void (*on_gone)(void *context);
};

enum upstream_watched { UPSTREAM_WATCHED_LISTS, UPSTREAM_WATCHED_RESOURCE, UPSTREAM_WATCHED_TASK };

/* What somebody wants to hear of. */
struct upstream_wish {
    enum upstream_watched kind;
    struct slice name;  /* a URI, or the server's id of a task; unescaped, copied */
    unsigned list_mask; /* of lists, whose changes the hook on_changed() tells */
};

/*
 * Starts the instance; while there are watches it is not stopped for being idle. Any thread. NULL:
 * no memory; no event comes.
 */
MUST_CHECK struct upstream_watch *upstream_watch_start(struct upstream_instance *instance,
                                                       const struct upstream_wish *wish,
                                                       const struct upstream_watch_events *events,
                                                       void *context);
/* Any thread, also from inside the events; whoever started it owes it this once, also after
 * on_gone(). What is on its way may still come until on_gone() has. */
void upstream_watch_stop(struct upstream_watch *watch);
