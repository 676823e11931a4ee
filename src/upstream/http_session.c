/*
 * The endpoint of a server over Streamable HTTP as an instance sees it: what the instance sends
 * goes through an outbox. A legacy server gets a GET stream for what it tells by itself. Calls do
 * not come through here (http_call.c); they use the route.
 */
#include <errno.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "http_failure.h"
#include "outbox.h"
#include "private.h"

enum {
    STREAM_RETRY_MS = 1000,
    STREAM_RETRY_MAX_MS = 30000,
    STREAM_STABLE_MS = 10000,
    STREAM_WAIT_MS = 5000, /* for a token to open it with */
};

struct http {
    struct transport base;
    struct upstream_instance *instance;
    struct upstream_worker *worker;
    struct outbox outbox;
    struct route *route; /* a reference; NULL before the handshake agreed on a revision */
    char session[LIMIT_SESSION_ID + 1];
    struct post *stream; /* GET */
    uint64_t stream_retry_ms, stream_since_ms;
    bool wants_stream, had_stream; /* in this session */
    struct io_timer *timer;        /* the beginning; the end */
    struct io_timer *stream_timer; /* the next attempt */
    struct post *farewell;         /* DELETE */
    bool is_started, is_ending;
    const char *reason; /* of the end */
};

static struct http *of(struct transport *transport) {
    return CONTAINER_OF(transport, struct http, base);
}

/* The end. */

static void on_farewell_end(void *context, const struct post_end *end) {
    struct http *http = context;
    (void)end;
    http->farewell = NULL;
    io_timer_start(http->timer, 0);
}

static bool on_farewell_message(void *context, struct slice document) {
    (void)context;
    (void)document;
    return false;
}

static void drop_all(struct http *http) {
    http->wants_stream = false;
    http->stream = post_cancel(http->stream);
    io_timer_stop(http->stream_timer);
    outbox_close(&http->outbox);
}

/* A session is said goodbye to (MCP 2025-11-25, basic/transports, session management). */
static void stop(struct http *http) {
    static const struct post_events events = {.on_message = on_farewell_message,
                                              .on_end = on_farewell_end};
    if (http->is_ending)
        return;
    http->is_ending = true;
    http->reason = "it was stopped";
    drop_all(http);
    uint64_t delay = 0;
    if (http->route != NULL && http->route->session.len != 0) {
        CLEANUP(oauth_token_unrefp)
        struct oauth_token *token = instance_token(http->instance);
        struct post_options options = {.worker = http->worker,
                                       .route = http->route,
                                       .method = HTTP_METHOD_DELETE,
                                       .token = token};
        if (post_start(&options, &events, http, &http->farewell) == 0)
            delay = http->instance->upstream->config->shutdown_timeout_ms;
    }
    io_timer_start(http->timer, delay);
}

static void kill_now(struct http *http) {
    if (http->is_ending) { /* it has waited long enough for the answer to its goodbye */
        io_timer_start(http->timer, 0);
        return;
    }
    http->is_ending = true;
    http->reason = "the gateway ended the session";
    drop_all(http);
    /* Or each start that fails would leave one with the server. */
    if (http->route != NULL && http->route->session.len != 0) {
        CLEANUP(oauth_token_unrefp)
        struct oauth_token *token = instance_token(http->instance);
        upstream_worker_farewell(http->worker, http->route, token);
    }
    io_timer_start(http->timer, 0);
}

static void on_timer(void *context) {
    struct http *http = context;
    if (!http->is_started && !http->is_ending) {
        http->is_started = true;
        http->base.events.on_started(http->base.context);
        return;
    }
    http->farewell = post_cancel(http->farewell);
    http->base.events.on_gone(http->base.context, slice_from_cstr(http->reason));
}

/* The stream of what the server tells by itself. */

static bool on_stream_message(void *context, struct slice document) {
    struct http *http = context;
    (void)http->base.events.on_message(http->base.context, 0, document);
    return false;
}

static void on_stream_head(void *context, const struct http_head *head) {
    struct http *http = context;
    if (head->status == 200)
        watches_hearing(http->instance, true);
}

static void on_stream_end(void *context, const struct post_end *end) {
    struct http *http = context;
    http->stream = NULL;
    if (http->is_ending || !http->wants_stream)
        return;
    struct transport_failure failure = http_failure(http->worker->home_reader, http->route, end);
    http->had_stream = http->had_stream || end->was_accepted;
    watches_hearing(http->instance, false);
    /* 404 for the first one is also how servers say that they have no such stream; when the session
     * is lost indeed, the next call learns it. */
    if (failure.is_session_lost && http->had_stream) {
        instance_renew(http->instance);
        return;
    }
    bool may_pass = end->status == 408 || end->status == 429;
    if (end->status >= 400 && end->status < 500 && !may_pass) {
        http->wants_stream = false; /* 405: it has no such stream, and need not have one */
        watches_hearing(http->instance, true); /* nothing that it would miss */
        return;
    }
    if (!end->can_reach) {
        instance_give_up(http->instance, end->reason);
        return;
    }
    uint64_t lived = io_loop_now(http->worker->loop) - http->stream_since_ms;
    if (lived >= STREAM_STABLE_MS)
        http->stream_retry_ms = STREAM_RETRY_MS;
    io_timer_start(http->stream_timer, http->stream_retry_ms);
    http->stream_retry_ms = http->stream_retry_ms * 2 < STREAM_RETRY_MAX_MS
                                ? http->stream_retry_ms * 2
                                : STREAM_RETRY_MAX_MS;
}

static void open_stream(struct http *http) {
    static const struct post_events events = {
        .on_head = on_stream_head, .on_message = on_stream_message, .on_end = on_stream_end};
    CLEANUP(oauth_token_unrefp)
    struct oauth_token *token = instance_token(http->instance);
    struct post_options options = {.worker = http->worker,
                                   .route = http->route,
                                   .method = HTTP_METHOD_GET,
                                   .token = token,
                                   .ends_with_token = true};
    http->stream_since_ms = io_loop_now(http->worker->loop);
    int error = post_start(&options, &events, http, &http->stream);
    if (error != 0)
        io_timer_start(http->stream_timer,
                       error == -EACCES ? STREAM_WAIT_MS : http->stream_retry_ms);
}

static void on_stream_timer(void *context) {
    struct http *http = context;
    if (!http->wants_stream || http->stream != NULL || http->route == NULL)
        return;
    open_stream(http);
    /* What was told in the meantime is lost: look. */
    handshake_lists_changed(http->instance, UPSTREAM_ALL_LISTS, false);
}

/* Messages. */

/* A session id is visible ASCII (MCP 2025-11-25, basic/transports). */
static void on_item_head(struct outbox_item *item, const struct http_head *head) {
    struct http *http = item->outbox->context;
    struct slice id = http_head_get(head, SLICE("mcp-session-id"));
    if (item->method != MCP_INITIALIZE || item->is_answer || head->status != 200 || id.ptr == NULL)
        return;
    bool is_valid = id.len != 0 && slice_to_cstr(id, http->session, sizeof http->session) == 0;
    for (size_t i = 0; i < id.len; i++)
        is_valid = is_valid && id.ptr[i] > ' ' && id.ptr[i] <= '~';
    if (!is_valid)
        instance_give_up(http->instance,
                         "its session id is not visible ASCII of at most 1,024 bytes");
}

static bool on_item_message(struct outbox_item *item, struct slice document) {
    struct http *http = item->outbox->context;
    return http->base.events.on_message(http->base.context, item->id, document);
}

static void on_item_end(struct outbox_item *item, const struct post_end *end) {
    struct http *http = item->outbox->context;
    if (item->id != 0) {
        struct transport_failure failure =
            http_failure(http->worker->home_reader, http->route, end);
        http->base.events.on_failed(http->base.context, item->id, &failure);
    } else if (item->method == MCP_NOTIFY_INITIALIZED && !item->is_answer) {
        http->wants_stream = true;
        http->stream_retry_ms = STREAM_RETRY_MS;
        if (http->route != NULL)
            open_stream(http);
    }
}

/* What the two questions that open a session are sent as: they have no revision to speak of yet. */
static struct route *route_for(void *context, const struct outbox_item *item) {
    struct http *http = context;
    enum mcp_method method = item->is_answer ? MCP_METHOD_UNKNOWN : item->method;
    struct route route = {
        .upstream = http->instance->upstream,
        .partition = http->instance->partition,
        .revision = method == MCP_SERVER_DISCOVER ? MCP_2026_07_28 : MCP_REVISION_NONE,
    };
    if (method == MCP_SERVER_DISCOVER || method == MCP_INITIALIZE || http->route == NULL)
        return route_new(&route);
    return route_ref(http->route);
}

static void on_broken(void *context) {
    kill_now(context);
}

static int op_send(struct transport *transport, const struct transport_message *message) {
    return outbox_send(&of(transport)->outbox, message);
}

/* A request ends with its answer, which comes on its own connection. */
static bool op_forget(struct transport *transport, uint64_t id) {
    (void)transport;
    (void)id;
    return true;
}

static void op_doubt(struct transport *transport) {
    (void)transport;
}

static void publish(struct http *http, struct route *route) {
    struct upstream_instance *instance = http->instance;
    pthread_mutex_lock(&instance->upstream->mutex);
    struct route *old = instance->route;
    instance->route = route != NULL ? route_ref(route) : NULL;
    pthread_mutex_unlock(&instance->upstream->mutex);
    route_unref(old);
}

static void op_agree(struct transport *transport, enum mcp_revision revision) {
    struct http *http = of(transport);
    http->route = route_unref(http->route);
    if (revision == MCP_REVISION_NONE) {
        http->session[0] = '\0';
        http->wants_stream = http->had_stream = false;
        http->stream = post_cancel(http->stream);
        io_timer_stop(http->stream_timer);
    } else {
        bool is_modern = mcp_revision_is_modern(revision);
        struct route route = {
            .upstream = http->instance->upstream,
            .generation = upstream_next_id(http->worker->set),
            .revision = revision,
            .session = is_modern ? SLICE_EMPTY : slice_from_cstr(http->session),
            .partition = http->instance->partition,
        };
        http->route = route_new(&route);
        watches_hearing(http->instance, is_modern);
    }
    publish(http, http->route);
}

static void op_stop(struct transport *transport) {
    stop(of(transport));
}

static void op_kill(struct transport *transport) {
    kill_now(of(transport));
}

static void op_free(struct transport *transport) {
    struct http *http = of(transport);
    drop_all(http);
    post_cancel(http->farewell);
    outbox_deinit(&http->outbox);
    publish(http, NULL);
    watches_hearing(http->instance, true); /* the next one may be another kind of transport */
    route_unref(http->route);
    io_timer_free(http->timer);
    io_timer_free(http->stream_timer);
    mem_free(http);
}

int http_session_start(struct upstream_instance *instance, const struct transport_events *events,
                       struct transport **ret_transport, const char **ret_reason) {
    static const struct transport_ops ops = {
        .send = op_send,
        .forget = op_forget,
        .doubt = op_doubt,
        .agree = op_agree,
        .stop = op_stop,
        .kill = op_kill,
        .free = op_free,
    };
    static const struct outbox_events outbox_events = {
        .route_for = route_for,
        .on_head = on_item_head,
        .on_message = on_item_message,
        .on_end = on_item_end,
        .on_broken = on_broken,
    };
    struct http *http = mem_alloc(sizeof *http);
    if (http == NULL) {
        *ret_reason = "there is no memory for its session";
        return -ENOMEM;
    }
    *http = (struct http){
        .base = {.ops = &ops, .events = *events, .context = instance},
        .instance = instance,
        .worker = instance->worker,
    };
    outbox_init(&http->outbox, instance, &outbox_events, http);
    http->timer = io_timer_new(instance->loop, on_timer, http);
    http->stream_timer = io_timer_new(instance->loop, on_stream_timer, http);
    io_timer_start(http->timer, 0);
    *ret_transport = &http->base;
    return 0;
}
