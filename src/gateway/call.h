/* What becomes of a JSON-RPC message: a call, and what its caller sees. */
#pragma once

#include "mcp/cache.h"
#include "record.h"

/* call.c */

enum { GW_PARKED_ID = 16 };

/* One request of a client that is being answered. */
struct gw_call {
    struct list_link link;          /* in worker->calls */
    struct list_link exchange_link; /* in exchange->calls */
    struct gw_worker *worker;
    uint64_t serial;
    struct gw_exchange *exchange;
    struct gw_principal *principal;
    struct gw_session *session; /* a reference; NULL for initialize, but over HTTP+SSE */
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
    bool has_refreshed;   /* asked upstreams to read their lists again */
    struct upstream_call *upstream_call;
    /* Waiting for upstreams that start: tried again by gw_calls_recheck(), for the last time when
     * the timer fires. */
    void (*resume)(struct gw_call *call, bool is_late);
    struct list_link waiter_link;
    struct io_timer *wait_timer;
    struct gw_units *units; /* owned: it waits for its limits, or has */
    unsigned capabilities;  /* what its client can be asked (mcp/capabilities.h) */
    struct list asks;       /* struct gw_ask: what its server has asked the client */
    uint64_t last_ask;
    struct gw_worker *host; /* it visits a call that is parked there; NULL: it does not */
    char host_id[GW_PARKED_ID];
    struct gw_input *input;    /* owned; NULL: its server of 2026-07-28 has not asked for any */
    struct gw_session *listen; /* a reference: what it begins to listen to */
    size_t n_pending;          /* subscriptions that have to be live before it is answered */
    struct gw_run *run;        /* owned: its server runs it as a task, or may; NULL */
    /* Where tasks are that its server tells of. */
    struct gw_call_home {
        char upstream[GW_SERVER_NAME_CHARS + 1];
        bool is_session; /* its instance is the session's own */
        unsigned capabilities;
    } home;
    char *task; /* owned: of tasks/...: the server's id of it; NULL */
    size_t task_len;
    bool takes_task;     /* 2026-07-28: the client declared the extension on this request */
    bool asked_for_task; /* 2025-11-25: ... `task` in the call */
    struct gw_record record;
    char *document; /* owned: the message, while the call waits */
    size_t document_len;
    enum mcp_list list;
    uint32_t from_upstream, from_item; /* where the page begins */
    bool is_later_page, is_public; /* the page goes on in a list that was called so, or private */
    struct mcp_cache read_cache;   /* of resources/read: the most that its result may say */
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
/* With the answer that was held until the end of the call was recorded. */
void gw_call_answer_held(struct gw_call *call);
/* The same with what stands in worker->scratch. */
void gw_call_answer_scratch(struct gw_call *call);
/* Empty, for one message to be put together in it. */
struct buf *gw_worker_scratch(struct gw_worker *worker);
/* What we are, as told to clients and upstreams. */
struct mcp_implementation gw_implementation(const struct gateway *gateway);
void gw_write_implementation(struct json_writer *writer, const struct gateway *gateway);
/* Members that results have in 2026-07-28; `cache`: with what clients may keep of it, or NULL. */
void gw_write_modern_members(struct json_writer *writer, const struct gateway *gateway,
                             const struct mcp_cache *cache);
/* Their _meta alone: who answers. */
void gw_write_result_meta(struct json_writer *writer, const struct gateway *gateway);
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
    unsigned capabilities;                 /* of the client */
    uint64_t generation;                   /* of the set: while it has this one, the view is true */
    const struct upstream_list *list; /* the worker's; when it has another one, views are dropped */
    struct gw_view_item *items;
    size_t n;
    size_t n_starting;                       /* that have never been up yet */
    bool lacks_room;                         /* some are not in it (UPSTREAM_E_ROOM) */
    uint64_t fresh_until_ms[MCP_LIST_COUNT]; /* no list can be stale before */
    const struct hash_key *key;
    struct gw_uris *uris[MCP_LIST_COUNT]; /* made when they are asked for, as what follows */
    struct gw_places hidden, locked;      /* tools that lists leave out, or show as locked */
    bool tools_are_known, was_cut_off;    /* ... while edit mode is as it was */
    uint64_t edit_epoch;
};

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

/* methods.c */

/* By the table; what upstreams are known not to have is not looked at. */
bool gw_method_is_served(enum mcp_method method, enum mcp_revision revision);
/* The upstream of an endpoint of one is known to lack the capability that the method needs. */
bool gw_method_is_absent(enum mcp_method method, const struct gw_view *view);
/* Some server in the view has tasks of this revision, or may. */
bool gw_has_tasks(const struct gw_view *view, enum mcp_revision revision);
void gw_method_run(struct gw_call *call, const struct mcp_message *message);

/* offers.c */

/* Members of the capabilities that a client is told: what its servers declare beside what methods.c
 * answers for; `has_tasks`: with the extension for tasks. */
void gw_write_offers(struct json_writer *writer, const struct gw_view *view,
                     const struct gw_call *call, bool has_tasks);

/* view.c */

void gw_views_init(struct gw_views *views);
/* Those that are not of this generation of the set. */
void gw_views_drop_old(struct gw_views *views, uint64_t generation);
void gw_views_drop_all(struct gw_views *views);
/* With a reference, for this worker alone. */
struct gw_view *gw_view_open(struct gw_worker *worker, const struct gw_caller *caller,
                             const struct gw_session *session, unsigned capabilities,
                             struct upstream *only);
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

/* cache.c */

/* What an answer for a client of 2026-07-28 says of being kept. */
struct mcp_cache gw_cache_of_list(const struct gw_worker *worker, const struct gw_view *view,
                                  enum mcp_list list);
struct mcp_cache gw_cache_of_discovery(const struct gw_worker *worker, const struct gw_view *view);
/* The most that what this server says of a resource may be. */
struct mcp_cache gw_cache_of_read(const struct gw_worker *worker, const struct gw_view *view,
                                  const struct gw_view_item *item);

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

/* ask.c */

/* What the server of a call asks of its client. For upstream_call_events. */
void gw_call_on_ask(void *context, const struct upstream_ask *ask);
bool gw_call_on_ask_cancelled(void *context, struct slice id);
/* The call to the server is over, or about to be cancelled: it is told what nobody answers now. */
void gw_call_decline_asks(struct gw_call *call);
/* The call ends: its client need not answer any more. */
void gw_call_drop_asks(struct gw_call *call);
/* A client with a session has answered; what nobody asked is dropped. */
void gw_ask_answered(struct gw_exchange *exchange, const struct mcp_message *message);
/* ... or tells how far it is with that. */
void gw_ask_progress(struct gw_exchange *exchange, const struct mcp_message *message);

/* One more request for the client; its answer is that of this item of call->input. False: the call
 * has been refused. */
bool gw_call_ask(struct gw_call *call, enum mcp_method method, struct slice params, size_t item);

/* seal.c: texts that clients keep for us */

enum { GW_SEAL_BOUND = 32 }; /* bytes of a digest of what a text is bound to */
enum { GW_E_STATE = 1 };     /* it is none of ours, or bound to something else */
/* Appends it, in characters that JSON need not escape. -ENOMEM, -E2BIG. */
MUST_CHECK int gw_seal(const struct gateway *gateway,
                       const unsigned char bound[static GW_SEAL_BOUND], struct slice plain,
                       struct buf *out);
/* The same each time, so that it can be compared. */
MUST_CHECK int gw_seal_name(const struct gateway *gateway,
                            const unsigned char bound[static GW_SEAL_BOUND], struct slice plain,
                            struct buf *out);
/* Appends what was sealed. GW_E_STATE. */
MUST_CHECK int gw_unseal(const struct gateway *gateway,
                         const unsigned char bound[static GW_SEAL_BOUND], struct slice text,
                         struct buf *out);

/* request_state.c */

/* What a state is good for. */
struct gw_state_binding {
    struct slice principal, upstream, name, arguments; /* the last: JSON, or empty */
    enum mcp_method method;
};
enum gw_state_kind {
    GW_STATE_OF_SERVER, /* its own requestState, JSON as written */
    GW_STATE_PARKED,    /* where the call waits (parked.c) */
};
/* Appends it, in characters that JSON need not escape. -ENOMEM, -E2BIG. */
MUST_CHECK int gw_state_seal(const struct gateway *gateway, const struct gw_state_binding *binding,
                             enum gw_state_kind kind, struct slice payload, struct buf *out);
/* Appends what is in it. GW_E_STATE: it is none, or of something else, or its time is over. */
MUST_CHECK int gw_state_open(const struct gateway *gateway, const struct gw_state_binding *binding,
                             struct slice text, enum gw_state_kind *ret_kind, struct buf *out);

/*
 * input.c: a server of 2026-07-28 does not ask. It answers that it wants input, and is called again
 * with that (basic/patterns/mrtr). A client with a session is asked for it.
 */

/* Such a call can be sent once more: it has to keep its message. */
bool gw_call_may_want_input(const struct gw_call *call);
/* True: the result asks for input, and the call goes on, or has been refused. */
bool gw_call_take_input(struct gw_call *call, struct slice result);
/* The client has answered (JSON of a result or an error). */
void gw_call_input_answered(struct gw_call *call, size_t item, bool is_error, struct slice bytes);
void gw_call_input_late(struct gw_call *call);
/* What the next request carries; empty: nothing. */
struct slice gw_call_input_responses(const struct gw_call *call);
struct slice gw_call_request_state(const struct gw_call *call);
void gw_call_free_input(struct gw_call *call);
/* A task wants this (inputRequests; of the second reader): true: its client is asked for what it
 * has not given yet, or the call has been refused; gw_run_update() comes. */
bool gw_call_ask_for_task(struct gw_call *call, const struct json_node *requests);

/* rounds.c: the same of a client of 2026-07-28, which comes back by itself. */

/* Of a request as it was sent to its server; `name` has the memory of what it names. Uses the
 * second reader. False: there is no memory. */
bool gw_state_bind(const struct gw_worker *worker, const struct gw_principal *principal,
                   struct slice upstream, struct slice line, struct buf *name,
                   struct gw_state_binding *ret_binding);
/* A result that asks for input: its requestState becomes one of ours. True: it was one, and has
 * been answered. */
bool gw_call_answer_sealed(struct gw_call *call, const struct upstream_call *sent,
                           struct slice result, unsigned http_status);
/* Opens the client's requestState into *out. False: it is none, and the call has been refused. */
bool gw_call_open_state(struct gw_call *call, const struct json_node *state,
                        const struct gw_state_binding *binding, enum gw_state_kind *ret_kind,
                        struct buf *out);

/* task_id.c */

enum gw_task_kind { GW_TASK_LEGACY, GW_TASK_MODERN, GW_TASK_CURSOR };
/* Which instance knows of it. */
struct gw_task_home {
    struct slice upstream, session; /* the latter empty where the instance is the principal's */
    unsigned capabilities;
};
struct gw_task_name {
    enum gw_task_kind kind;
    struct gw_task_home home;
    struct slice id; /* the server's, unescaped: LIMIT_TASK_ID; or the cursor of a list */
};
/* Appends what a client gets, in characters that JSON need not escape; the same each time.
 * `endpoint`: of one server: its name. -ENOMEM, -E2BIG. */
MUST_CHECK int gw_task_seal(const struct gateway *gateway, struct slice principal,
                            struct slice endpoint, const struct gw_task_name *name,
                            struct buf *out);
/* GW_E_STATE: this caller has got no such thing here. `memory` has what *ret_name points to. */
MUST_CHECK int gw_task_open(const struct gateway *gateway, struct slice principal,
                            struct slice endpoint, struct slice text, struct buf *memory,
                            struct gw_task_name *ret_name);

/* tasks.c: requests about tasks, and ids in what servers and clients say */

/* Who reads of tasks, and where they are. */
struct gw_task_reader {
    const struct gateway *gateway;
    struct slice principal, endpoint;
    enum gw_task_kind kind;
    struct gw_task_home home;
};
/* Appends it with our ids (MCP_TASK_*: mcp/tasks.h). As mcp_tasks_rename(). */
MUST_CHECK int gw_task_rename(const struct gw_task_reader *whose, struct json_reader *reader,
                              unsigned places, struct slice text, struct buf *out);

/* The call goes to that upstream, to an instance of clients that can do this. */
void gw_call_set_home(struct gw_call *call, const struct upstream *upstream, unsigned capabilities);
/* The endpoint that it came to: the name of its server, or empty. */
struct slice gw_call_endpoint(const struct gw_call *call);
/* What the call's server says, with our ids; `text` itself where there are none, or in *out. A NULL
 * ptr: it cannot be passed on. Uses the second reader. */
struct slice gw_task_told(struct gw_call *call, unsigned places, struct slice text,
                          struct buf *out);
/* The same of its answer. */
struct slice gw_task_answer(struct gw_call *call, struct slice result, struct buf *out);
/* What the client answers its server, with the server's ids. */
struct slice gw_task_said(struct gw_call *call, struct slice text, struct buf *out);
/* The call, sent with this id, asks for a task: progress of it goes on under the client's token. */
void gw_task_note_token(const struct gw_call *call, uint64_t id);
/* Appends the token of the call that was sent with this id (JSON, as the server says it). False: it
 * was none of the session's, or too long ago. */
bool gw_task_find_token(const struct gw_call *call, struct slice id, struct buf *out);
void gw_task_tokens_free(struct gw_task_tokens *tokens);
/* For gw_route_start(), likewise from call->document. */
void gw_task_route(struct gw_call *call, const struct mcp_message *message, bool is_late);

/* A client of 2026-07-28 has declared the extension on this request. False: it has been refused. */
bool gw_task_check_declared(struct gw_call *call);

/* task_place.c */

/* The upstream of that name, if the caller may know of it at this endpoint (NULL: the merged one).
 * NULL: there is none. */
struct upstream *gw_task_upstream(const struct gw_worker *worker, const struct gw_caller *caller,
                                  struct upstream *only, struct slice name);
/* The caller's instance that knows of the tasks of this home, with a reference, and with the
 * caller's token where it may use that. As upstream_get(). */
MUST_CHECK int gw_task_instance(const struct gw_worker *worker, const struct gw_caller *caller,
                                struct upstream *upstream, const struct gw_task_home *home,
                                struct upstream_instance **ret_instance);
/* What holds for tasks/get holds for what is told: it may know of the server, which is not shared
 * by all, and has its scopes and the token that it wants. */
bool gw_task_lets_ask(const struct gw_worker *worker, const struct upstream *upstream,
                      const struct auth_identity *identity);

/* A task of 2026-07-28. */
struct gw_task_place {
    struct buf memory; /* of name: KIB(4) */
    struct gw_task_name name;
    struct upstream *upstream;
    struct upstream_instance *instance; /* a reference */
};
/* By what the client calls it. -ENOMEM; GW_E_STATE: there is none that it may ask about here,
 * whatever the reason. */
MUST_CHECK int gw_task_find(const struct gw_call *call, struct slice id,
                            struct gw_task_place *place);
void gw_task_place_deinit(struct gw_task_place *place);

/* task_request.c */

struct gw_task_request {
    struct gw_worker *worker;
    struct upstream *upstream;
    struct upstream_instance *instance;
    struct oauth_token *token;  /* NULL: none */
    enum mcp_revision revision; /* of the server */
    enum mcp_revision client;   /* in whose words `responses` are */
    unsigned capabilities;
    uintptr_t asker;
    uint64_t first_id; /* tasks/result: of the request that began the task */
    enum mcp_method method;
    struct slice id;        /* the server's, unescaped */
    struct slice responses; /* inputResponses, JSON; empty: none */
};
/* Sends it. NULL: there is no memory. */
MUST_CHECK struct upstream_call *gw_task_request(const struct gw_task_request *request,
                                                 const struct upstream_call_events *events,
                                                 void *context);

/* task_news.c: what who listens hears of tasks */

/* On the stream of the session: what has become of it since, or after its server was asked. */
void gw_task_news_tell(struct gw_exchange *stream, struct gw_subscription *subscription);
/* The stream ends. */
void gw_task_looks_end(struct gw_exchange *stream);

/* task_run.c: calls that their servers run as tasks, of which their clients know nothing */

/* Of a call that is about to be sent; the token may be NULL. -ENOMEM. */
MUST_CHECK int gw_run_new(struct gw_call *call, struct upstream *upstream,
                          struct upstream_instance *instance, struct oauth_token *token,
                          struct slice line, uint64_t id);
/* Tells the server that nobody waits, unless it is over. */
struct gw_run *gw_run_free(struct gw_run *run);
/* The line that the call was sent with. */
struct slice gw_run_line(const struct gw_run *run);
/* 2025-11-25: it has begun a task, and this call waits for the result. NULL: it has not, and what
 * was answered is the answer; or (gw_run_is_lost()) there is no memory. */
struct upstream_call *gw_run_follow(struct gw_run *run, struct slice result,
                                    const struct upstream_call_events *events, void *context);
bool gw_run_is_lost(const struct gw_run *run);
/* The server has answered with what the client gets. */
void gw_run_end(struct gw_run *run);
/* 2026-07-28: true: the result is a task, and the call waits for it, or has been refused. */
bool gw_run_take(struct gw_call *call, struct slice result);
bool gw_run_is_task(const struct gw_run *run);
/* Its client has given (input.c) what it waits for; true: it has got something for this key. */
void gw_run_update(struct gw_call *call);
bool gw_run_knows_key(const struct gw_run *run, struct slice key);
/* -ENOMEM, -E2BIG. */
MUST_CHECK int gw_run_note_key(struct gw_run *run, struct slice key);

/* task_notes.c: upstream_hooks.on_task_status */
void gw_notify_task_status(void *context, const struct upstream *upstream, struct slice owner,
                           unsigned capabilities, struct slice params);

/* parked.c */

/* The server of a call asks; the client is answered that it has to come back with input. */
void gw_call_park(struct gw_call *call, const struct upstream_ask *ask);
/* It has: `place` is what was sealed. False: that says nothing. */
bool gw_call_visit(struct gw_call *call, const struct mcp_message *message, struct slice place);
/* The visit is over before its time; nothing otherwise. */
void gw_call_leave(struct gw_call *call);
/* The gateway stops: those that nobody visits, or all. */
void gw_parked_drop(struct gw_worker *worker, bool with_visited);

/* route.c */
/* A notification of the server, for the client. */
void gw_call_pass_on(struct gw_call *call, enum mcp_method method, struct slice params);
/* What the server has answered. */
void gw_call_finish(struct gw_call *call, enum upstream_outcome outcome, struct slice bytes,
                    unsigned http_status);
void gw_route_start(struct gw_call *call, const struct mcp_message *message);
/* Until an upstream changes; then it is tried again. */
void gw_route_wait(struct gw_call *call, const struct mcp_message *message, uint64_t patience_ms);
/* The scopes of the server and of the tool (NULL: none). False: it has been refused. */
bool gw_call_check_scopes(struct gw_call *call, const struct policy_server *of_server,
                          const struct config_tool *tool);
/* The request as a line, with this id, and what an HTTP server is told of its caller in the head.
 * -ENOMEM, -E2BIG. */
MUST_CHECK int gw_call_write_line(struct gw_call *call, const struct mcp_message *message,
                                  const struct mcp_params_edit *edit, uint64_t id,
                                  struct buf *line);
MUST_CHECK int gw_call_write_fields(const struct gw_call *call, const struct upstream *upstream,
                                    struct buf *out);
/* From call->document: what it waited for is there. */
void gw_route_go_on(struct gw_call *call);
/* Of one that has waited: who asks is asked again, for a reload may have taken token or groups.
 * False: it has been refused. */
bool gw_call_may_go_on(struct gw_call *call);

/* The first that has the resource or a template for it, or that may have it unlisted; NULL: none.
 */
struct gw_view_item *gw_view_find_resource(struct gw_view *view, struct slice uri,
                                           const struct catalog_item **ret_found);

/* subscriptions.c */

/* The server is asked to watch the resource, and the call answered with what it says. 0, -ENOMEM;
 * GW_E_SUBSCRIPTIONS: the session has too many. GW_E_SUBSCRIBED: it is there already. */
enum { GW_E_SUBSCRIPTIONS = 1, GW_E_SUBSCRIBED };
MUST_CHECK int gw_subscribe(struct gw_call *call, const struct gw_view_item *item,
                            struct slice uri);
/* resources/unsubscribe. */
void gw_unsubscribe(struct gw_call *call, const struct mcp_message *message);
/* What a session wants to hear of, and of whom. */
struct gw_subject {
    const struct upstream *upstream;
    struct upstream_instance *instance;
    struct upstream_wish wish;
    struct slice id;       /* of a task: as the client knows it */
    unsigned capabilities; /* ... and what the clients of the instance can do */
};
/* The call waits for one more, of its session or of what it listens to. As gw_subscribe(). */
MUST_CHECK int gw_subscription_begin(struct gw_call *call, struct gw_session *session,
                                     const struct gw_subject *subject);
/* Those that are not live by now never will be; and of children's lists nothing is watched longer
 * than until they are known. */
void gw_subscriptions_settle(struct gw_session *session, const struct upstream_list *list);
/* The resources or tasks that are live, as the client knows them, as an array of that key; nothing
 * when there are none. */
void gw_subscriptions_write(struct gw_session *session, enum upstream_watched kind,
                            struct slice key, struct json_writer *writer);
/* Tells the client on its stream which of them were updated. */
void gw_subscriptions_flush(struct gw_exchange *stream);

/* Those of the session that a rule picks, with references; NULL: none, or there is no memory. */
typedef bool gw_subscription_pick_fn(const struct gw_subscription *subscription);
struct gw_subscription **gw_subscriptions_pick(struct gw_session *session,
                                               gw_subscription_pick_fn *is_wanted, size_t *ret_n);
/* Has it watched by the instance. -ENOMEM. */
MUST_CHECK int gw_subscription_watch(struct gw_session *session,
                                     struct gw_subscription *subscription,
                                     struct upstream_instance *instance);
/* Takes the place in the session from it, whatever it is. */
void gw_subscription_drop(struct gw_session *session, struct gw_subscription *subscription);
void gw_subscription_unref(struct gw_subscription *subscription);
/* The session ends. */
void gw_subscriptions_drop(struct gw_session *session);

/* subscription_renew.c */
/* Begins those again whose instances are gone. */
void gw_subscriptions_renew(struct gw_worker *worker, struct gw_session *session);

/* listen.c: subscriptions/listen of 2026-07-28 */

void gw_listen_start(struct gw_call *call, const struct mcp_message *message);
/* What it waited for is there. */
void gw_listen_go_on(struct gw_call *call);
/* All that it asked for is watched, or will not be. */
void gw_listen_live(struct gw_call *call);
/* It has been answered with its first message (in parts): from now on it is a stream. Takes the
 * session's reference over. */
void gw_listen_begin(struct gw_exchange *exchange, struct gw_session *session,
                     const struct slice *parts, size_t n_parts);
/* Nothing more will be said on it: its result. */
void gw_listen_tell_end(struct gw_exchange *stream);
/* The call ends before it was answered. */
void gw_listen_drop(struct gw_call *call);

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

/* token.c */
/* Whether the caller's access token may go to that upstream, where it wants one. False: the call
 * has been refused, with the rule and the cure. */
bool gw_token_check(struct gw_call *call, const struct upstream *upstream);
/* The same, of whom nobody asks just now. */
bool gw_token_lets_use(const struct auth_identity *identity, const struct upstream *upstream);
/* The credential that a call is sent with, a reference; untouched where none is wanted or may be
 * had. -ENOMEM. */
MUST_CHECK int gw_token_take(const struct gw_caller *caller, const struct upstream *upstream,
                             struct upstream_instance *instance, struct oauth_token **ret_token);
/* The caller has come with a token that its instance may use by itself, if it may have it. */
void gw_token_offer(const struct gw_caller *caller, const struct upstream *upstream,
                    struct upstream_instance *instance);
/* To all of the view, which belongs to the caller's principal. */
void gw_token_offer_all(const struct gw_caller *caller, const struct gw_view *view);

/* access.c */
enum policy_kind gw_policy_kind(enum mcp_list list);
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
/* It has the scopes of the server and of the tool (NULL: none), all of them. */
bool gw_policy_has_scopes(const struct policy_server *of_server, const struct config_tool *tool,
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
