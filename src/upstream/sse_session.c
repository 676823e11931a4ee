/*
 * A server over HTTP+SSE (MCP 2024-11-05, basic/transports) as an instance sees it: one stream, on
 * which all comes that the server says, and POSTs to the endpoint that the stream named first. So
 * it is like a child: calls go through the home of the instance, and the end of the stream is the
 * end of the session, with everything that was in flight.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "http_failure.h"
#include "mcp/message.h"
#include "outbox.h"
#include "private.h"
#include "sse_endpoint.h"

enum { PULSE_MS = 10000 }; /* for an event on the stream, after a ping */

struct sse {
    struct transport base;
    struct upstream_instance *instance;
    struct upstream_worker *worker;
    struct outbox outbox;
    struct post *stream;
    struct route *route;          /* a reference: of messages; NULL before the endpoint is known */
    struct io_timer *timer;       /* the beginning; the end */
    struct io_timer *token_timer; /* the one ends that the stream was opened with */
    struct io_timer *pulse_timer; /* runs: a ping is out, and nothing came since */
    bool is_started, is_ending;
    char reason[256]; /* of the end */
};

static struct sse *of(struct transport *transport) {
    return CONTAINER_OF(transport, struct sse, base);
}

/* The end. */

static void end(struct sse *sse, const char *reason) {
    if (sse->is_ending)
        return;
    sse->is_ending = true;
    snprintf(sse->reason, sizeof sse->reason, "%s", reason);
    sse->stream = post_cancel(sse->stream);
    outbox_close(&sse->outbox);
    io_timer_stop(sse->token_timer);
    io_timer_stop(sse->pulse_timer);
    io_timer_start(sse->timer, 0); /* outside of whoever caused it */
}

/* Whether somebody is there. */

static void on_pulse_timer(void *context) {
    end(context, "its stream is dead: nothing came on it after a ping");
}

static void op_doubt(struct transport *transport) {
    struct sse *sse = of(transport);
    struct buf line = BUF_INIT(KIB(1));
    char id[24];
    if (sse->is_ending || !sse->is_started || io_timer_is_running(sse->pulse_timer))
        return;
    uint64_t number = upstream_next_id(sse->worker->set);
    int len = snprintf(id, sizeof id, "%llu", (unsigned long long)number);
    mcp_write_request(&line, slice_make(id, (size_t)len), MCP_PING, SLICE_EMPTY);
    if (instance_send(sse->instance, number, MCP_PING, false, &line) == 0)
        io_timer_start(sse->pulse_timer, PULSE_MS);
}

/* The stream. */

/* Where messages go, and as what. */
static void set_route(struct sse *sse, enum mcp_revision revision, struct slice path) {
    struct upstream *upstream = sse->instance->upstream;
    bool is_configured = upstream->message_target != NULL;
    struct route route = {
        .upstream = upstream,
        .revision = revision,
        .partition = sse->instance->partition,
        .target = is_configured ? upstream->message_target : upstream->target,
        .path = path,
    };
    struct route *new = route_new(&route); /* `path` may be the old one's */
    route_unref(sse->route);
    sse->route = new;
}

static void begin_session(struct sse *sse, struct slice path) {
    set_route(sse, MCP_REVISION_NONE, path);
    sse->is_started = true;
    sse->instance->late_reason = NULL;
    sse->base.events.on_started(sse->base.context);
}

static void on_endpoint(struct sse *sse, struct slice event) {
    struct upstream *upstream = sse->instance->upstream;
    struct buf path CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
    const char *reason = "";
    if (upstream->message_target != NULL)
        return; /* the operator knows better */
    int error = sse_endpoint_read(&path, upstream->config->url, event, &reason);
    if (error != 0)
        instance_give_up(sse->instance, error > 0 ? reason : "the gateway is out of memory");
    else if (!sse->is_started)
        begin_session(sse, buf_slice(&path));
    else if (!slice_eq(sse->route->path, buf_slice(&path)))
        instance_give_up(sse->instance, "a second endpoint event names another address");
}

static void on_stream_head(void *context, const struct http_head *head) {
    struct sse *sse = context;
    bool is_stream = slice_eq_nocase(http_content_type(head), SLICE("text/event-stream"));
    if (head->status != 200)
        return; /* its end will tell */
    if (!is_stream)
        instance_give_up(sse->instance, "it did not answer GET with text/event-stream");
    else if (sse->instance->upstream->message_target != NULL)
        begin_session(sse, SLICE_EMPTY);
}

static void on_stream_event(void *context, struct slice type, struct slice data) {
    struct sse *sse = context;
    io_timer_stop(sse->pulse_timer);
    if (slice_eq(type, SLICE("endpoint")))
        on_endpoint(sse, data);
}

static bool on_stream_message(void *context, struct slice document) {
    struct sse *sse = context;
    io_timer_stop(sse->pulse_timer);
    if (sse->is_started) /* else nobody has asked it anything */
        (void)sse->base.events.on_message(sse->base.context, 0, document);
    return false;
}

static void on_stream_end(void *context, const struct post_end *post_end) {
    struct sse *sse = context;
    sse->stream = NULL;
    if (sse->is_ending)
        return;
    if (sse->is_started) {
        end(sse, post_end->reason);
        return;
    }
    struct transport_failure failure = http_failure(sse->worker->home_reader, NULL, post_end);
    handshake_failed(sse->instance, &failure);
}

/* Streams are not read for longer than their owner is known. Another token of the same owner will
 * do: the server has seen it with its calls. */
static void watch_token(struct sse *sse, const struct oauth_token *token) {
    uint64_t left = token != NULL ? oauth_token_time_left(token) : UINT64_MAX;
    if (left != UINT64_MAX)
        io_timer_start(sse->token_timer, left);
}

static void on_token_timer(void *context) {
    struct sse *sse = context;
    CLEANUP(oauth_token_unrefp)
    struct oauth_token *token = instance_token(sse->instance);
    if (token != NULL)
        watch_token(sse, token);
    else
        instance_rest(sse->instance, SLICE(LACKS_TOKEN));
}

static int open_stream(struct sse *sse) {
    static const struct post_events events = {
        .on_head = on_stream_head,
        .on_message = on_stream_message,
        .on_event = on_stream_event,
        .on_end = on_stream_end,
    };
    struct upstream_instance *instance = sse->instance;
    struct route route = {.upstream = instance->upstream, .partition = instance->partition};
    struct route *counted = route_new(&route);
    CLEANUP(oauth_token_unrefp)
    struct oauth_token *token = instance_token(instance);
    struct post_options options = {
        .worker = sse->worker,
        .route = counted,
        .method = HTTP_METHOD_GET,
        .token = token,
        .opens_session = true,
    };
    int error = post_start(&options, &events, sse, &sse->stream);
    route_unref(counted);
    if (error == 0)
        watch_token(sse, token);
    return error;
}

static void on_timer(void *context) {
    struct sse *sse = context;
    if (sse->is_ending) {
        sse->base.events.on_gone(sse->base.context, slice_from_cstr(sse->reason));
        return;
    }
    int error = open_stream(sse);
    if (error != 0)
        end(sse, error == -EACCES ? "the access token of its user has ended"
                                  : "there is no memory to open its stream");
}

/* Messages. */

static struct route *route_for(void *context, const struct outbox_item *item) {
    struct sse *sse = context;
    (void)item;
    return route_ref(sse->route);
}

static void on_item_end(struct outbox_item *item, const struct post_end *post_end) {
    struct sse *sse = item->outbox->context;
    struct transport_failure failure = http_failure(sse->worker->home_reader, sse->route, post_end);
    bool is_lost = failure.is_session_lost && sse->instance->state == UPSTREAM_READY;
    if (item->id != 0 && (!is_lost || item->is_call)) /* its lists are read by the next session */
        sse->base.events.on_failed(sse->base.context, item->id, &failure);
    if (is_lost)
        end(sse, post_end->reason);
}

static void on_broken(void *context) {
    end(context, "there is no memory for what it is sent");
}

/* The transport. */

static int op_send(struct transport *transport, const struct transport_message *message) {
    return outbox_send(&of(transport)->outbox, message);
}

static bool op_forget(struct transport *transport, uint64_t id) {
    return outbox_forget(&of(transport)->outbox, id);
}

static void op_agree(struct transport *transport, enum mcp_revision revision) {
    struct sse *sse = of(transport);
    if (sse->route != NULL)
        set_route(sse, revision, sse->route->path);
}

/* There is no goodbye: the server sees the end of its stream. */
static void op_stop(struct transport *transport) {
    end(of(transport), "it was stopped");
}

static void op_kill(struct transport *transport) {
    end(of(transport), "the gateway ended the session");
}

static void op_free(struct transport *transport) {
    struct sse *sse = of(transport);
    sse->instance->late_reason = NULL;
    post_cancel(sse->stream);
    outbox_deinit(&sse->outbox);
    route_unref(sse->route);
    io_timer_free(sse->timer);
    io_timer_free(sse->token_timer);
    io_timer_free(sse->pulse_timer);
    mem_free(sse);
}

int sse_session_start(struct upstream_instance *instance, const struct transport_events *events,
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
        .route_for = route_for, .on_end = on_item_end, .on_broken = on_broken};
    struct sse *sse = mem_alloc(sizeof *sse);
    if (sse == NULL) {
        *ret_reason = "there is no memory for its session";
        return -ENOMEM;
    }
    *sse = (struct sse){
        .base = {.ops = &ops, .events = *events, .context = instance},
        .instance = instance,
        .worker = instance->worker,
    };
    outbox_init(&sse->outbox, instance, &outbox_events, sse);
    sse->outbox.sends_letters = true;
    sse->timer = io_timer_new(instance->loop, on_timer, sse);
    sse->token_timer = io_timer_new(instance->loop, on_token_timer, sse);
    sse->pulse_timer = io_timer_new(instance->loop, on_pulse_timer, sse);
    instance->late_reason = instance->upstream->message_target == NULL
                                ? "it sent no endpoint event within startup_timeout"
                                : NULL;
    io_timer_start(sse->timer, 0);
    *ret_transport = &sse->base;
    return 0;
}
