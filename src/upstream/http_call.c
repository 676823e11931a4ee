/*
 * A call to an HTTP server: one POST from the worker that made it, while the instance, whose home
 * may be another worker, keeps the session. What a call learns (session gone, server gone, lists
 * changed) is reported there.
 *
 * Sent again, once, is what the server cannot have begun: it was not reached, or refused for a
 * session that it no longer knows; and what call_may_repeat() allows when the connection broke.
 * Everything else may have been carried out, and the caller is told so.
 */
#include <errno.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "http_failure.h"
#include "private.h"

enum {
    MAX_RETRIES = 1,
};

static void leave(struct upstream_call *call) {
    struct upstream_instance *instance = call->instance;
    call_ask_leave(call);
    if (call->post != NULL)
        call->http_status = post_status(call->post);
    call->post = post_cancel(call->post);
    call->timer = io_timer_free(call->timer);
    atomic_store(&instance->last_used_ms, io_loop_now(call->worker->loop));
    atomic_fetch_sub(&instance->n_direct, 1);
}

unsigned upstream_call_http_status(const struct upstream_call *call) {
    return call->http_status;
}

static void finish(struct upstream_call *call, enum upstream_outcome outcome, struct slice bytes) {
    leave(call);
    permit_return(&call->permit, call_verdict(call, outcome), io_loop_now(call->worker->loop));
    call->place = CALL_FINISHED;
    call->events.on_done(call->context, outcome, bytes);
    call_free_when_over(call);
}

/* From inside upstream_call_start(), where no event may come: by the own mailbox. */
static void finish_later(struct upstream_call *call, enum upstream_outcome outcome,
                         struct slice text) {
    leave(call);
    call_fail_later(call, outcome, text);
}

/* What the server sends beside the answer. */

static void on_request(struct upstream_call *call, const struct mcp_message *message) {
    struct buf line = BUF_INIT(KIB(8));
    if (mcp_revision_is_modern(call->route->revision))
        return; /* it must not ask, and nobody may answer (MCP 2026-07-28, transports) */
    if (call_ask(call, message) || call->n_refused++ >= LIMIT_REFUSED_REQUESTS)
        return;
    message_write_answer(&line, message, call->instance->capabilities);
    if (buf_error(&line) == 0)
        upstream_worker_note(call->worker, call->route, call->request.token, buf_slice(&line));
    buf_deinit(&line);
}

static bool is_own_token(const struct json_node *token, const struct upstream_request *request) {
    uint64_t number;
    return token != NULL && slice_to_u64(token->raw, &number) == 0 &&
           (number == request->id || request->progress == UPSTREAM_ANY_REQUEST ||
            (request->progress != 0 && number == request->progress));
}

static void on_notification(struct upstream_call *call, const struct mcp_message *message) {
    struct json_reader *reader = call->worker->reader;
    const struct config_server *config = call->instance->upstream->config;
    bool is_modern = mcp_revision_is_modern(call->route->revision);
    switch ((int)message->method) {
    case MCP_NOTIFY_PROGRESS:
        if (!is_own_token(mcp_param(reader, message, SLICE("progressToken"), JSON_NUMBER),
                          &call->request))
            return;
        call_made_progress(call, io_loop_now(call->worker->loop));
        call->events.on_notification(call->context, message->method, message->params->raw);
        return;
    case MCP_NOTIFY_MESSAGE:
        /* Of a session that several principals share, the log is the operator's; in 2026-07-28 it
         * belongs to this request and to nobody else. */
        if (message->params != NULL && (is_modern || config->share != CONFIG_SHARE_ALL))
            call->events.on_notification(call->context, message->method, message->params->raw);
        return;
    case MCP_NOTIFY_TASKS_STATUS:
        if (message->params != NULL)
            call->events.on_notification(call->context, message->method, message->params->raw);
        return;
    case MCP_NOTIFY_CANCELLED: {
        const struct json_node *id = message->params != NULL
                                         ? json_member(reader, message->params, SLICE("requestId"))
                                         : NULL;
        if (id != NULL)
            call_ask_cancelled(call, id->raw);
        return;
    }
    case MCP_NOTIFY_RESOURCE_UPDATED:
        if (!is_modern) /* else it is told where it was asked for */
            watches_overhear(call->instance, reader, message);
        return;
    default:
        break;
    }
    unsigned mask = watches_list_mask(message->method);
    if (mask != 0) {
        atomic_fetch_or(&call->instance->changes_heard, mask);
        instance_report(call->instance);
    }
}

/* The post. */

/* True: it was the answer, and the call is over. */
static bool on_garbage(struct upstream_call *call, struct slice document, const char *reason) {
    uint64_t id = 0;
    log_write(instance_log(call->instance), LOG_WARN, "upstream",
              "sent something that is no valid message",
              LOG_TEXT("upstream", instance_name(call->instance)), LOG_CSTR("reason", reason));
    bool is_answer = slice_to_u64(message_shown_id(document), &id) == 0 && id == call->request.id;
    if (!is_answer && call->n_garbage++ < LIMIT_GARBAGE_MESSAGES)
        return false;
    call->http_status = post_status(call->post);
    call->post = NULL;
    permit_settle(&call->permit, BREAKER_FAILED, io_loop_now(call->worker->loop));
    char text[MESSAGE_GARBAGE];
    finish(call, UPSTREAM_FAILED, message_garbage(text, reason));
    return true;
}

static bool on_message(void *context, struct slice document) {
    struct upstream_call *call = context;
    struct mcp_message message;
    struct mcp_refusal refusal;
    uint64_t id = 0;
    int error = mcp_message_read(call->worker->reader, document, &message, &refusal);
    if (error != 0)
        return on_garbage(call, document, error > 0 ? refusal.reason : "out of memory");
    switch (message.kind) {
    case MCP_RESULT:
    case MCP_ERROR:
        if (slice_to_u64(message.id, &id) != 0 || id != call->request.id)
            return false; /* for nobody here */
        call->http_status = post_status(call->post);
        call->post = NULL; /* it reads the rest of the stream by itself */
        finish(call, message.kind == MCP_RESULT ? UPSTREAM_RESULT : UPSTREAM_ERROR,
               message.kind == MCP_RESULT ? message.result : message.error);
        return true;
    case MCP_REQUEST:
        on_request(call, &message);
        return false;
    case MCP_NOTIFICATION:
        on_notification(call, &message);
        return false;
    }
    return false;
}

/*
 * The server refused the request in a way that none of its revision does: perhaps one of the other
 * era stands there now. A server with sessions that gets a request without one, or one of
 * 2026-07-28 that gets a request without its envelope.
 */
static bool is_other_era(const struct upstream_call *call, const struct post_end *end,
                         const struct transport_failure *failure) {
    static const int codes[] = {0,
                                -32000,
                                -32001,
                                MCP_E_INVALID_REQUEST,
                                MCP_E_METHOD_NOT_FOUND,
                                MCP_E_UNSUPPORTED_VERSION};
    bool is_refusal = end->status == 400 || end->status == 404 || end->status == 405;
    if (!is_refusal || end->was_accepted)
        return false;
    if (!mcp_revision_is_modern(call->route->revision))
        return failure->code == MCP_E_UNSUPPORTED_VERSION || failure->code == MCP_E_HEADER_MISMATCH;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (failure->code == codes[i])
            return true;
    }
    return false;
}

/* Of several reports before the home looks, the one of the newest session counts. */
static void note_generation(atomic_uint_fast64_t *place, uint64_t generation) {
    uint64_t known = atomic_load(place);
    while (known < generation && !atomic_compare_exchange_weak(place, &known, generation))
        continue;
}

/* True: it goes back to the home, and is sent again from there. */
static bool try_again(struct upstream_call *call, const struct post_end *end,
                      const struct transport_failure *failure) {
    struct upstream_instance *instance = call->instance;
    bool is_unsent = !end->may_have_arrived && !end->can_reach && !end->is_ours &&
                     end->obstacle == POST_NO_OBSTACLE;
    bool is_modern = mcp_revision_is_modern(call->route->revision);
    if (is_modern && failure->code == MCP_E_HEADER_MISMATCH)
        upstream_instance_refresh(instance, 1u << MCP_LIST_TOOLS); /* an annotation has changed */
    if (end->was_reset && end->status == 0 && call_may_repeat(call)) {
        call->n_retries++;
        leave(call);
        call_go_home(call);
        return true;
    }
    bool is_changed = !failure->is_session_lost && is_other_era(call, end, failure);
    if (failure->is_session_lost || is_changed)
        note_generation(&instance->lost_generation, call->route->generation);
    else if (is_unsent)
        note_generation(&instance->unreachable_generation, call->route->generation);
    else
        return false;
    instance_report(instance);
    /* What was written for one era is nothing to send to the other. And a probe has its answer when
     * nobody is there. */
    if (is_changed || end->was_accepted || (is_unsent && call->permit.ticket.is_probe) ||
        call->n_retries++ >= MAX_RETRIES)
        return false;
    if (is_unsent)
        permit_blame(instance->upstream, BREAKER_UNREACHABLE, io_loop_now(call->worker->loop));
    leave(call);
    call_go_home(call);
    return true;
}

static void on_end(void *context, const struct post_end *end) {
    struct upstream_call *call = context;
    struct transport_failure failure = http_failure(call->worker->reader, call->route, end);
    char text[HTTP_DESCRIPTION];
    call->http_status = end->status;
    call->post = NULL;
    log_write(instance_log(call->instance), failure.error.len != 0 ? LOG_DEBUG : LOG_WARN,
              "upstream", "a call was refused, or got no answer",
              LOG_TEXT("upstream", instance_name(call->instance)), LOG_NUM("status", end->status),
              LOG_CSTR("reason", end->reason));
    if (try_again(call, end, &failure))
        return;
    permit_settle(&call->permit, http_verdict(end, failure.is_session_lost),
                  io_loop_now(call->worker->loop));
    /* One to the GET that takes a stream up again says nothing of the call. */
    if (failure.error.len != 0 && !failure.is_session_lost && !end->was_accepted) {
        finish(call, UPSTREAM_ERROR, failure.error);
        return;
    }
    finish(call, UPSTREAM_FAILED,
           http_describe(call->instance->upstream, end, failure.is_session_lost, text));
}

static void on_alive(void *context) {
    struct upstream_call *call = context;
    call->direct_heard_ms = io_loop_now(call->worker->loop);
}

static void on_recess(void *context) {
    struct upstream_call *call = context;
    if (call->events.on_recess != NULL)
        call->events.on_recess(call->context);
}

/* Time. */

static void tell_cancelled(struct upstream_call *call, struct slice reason) {
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(KIB(2));
    if (mcp_revision_is_modern(call->route->revision) || !post_has_left(call->post))
        return; /* closing the stream says it; or there is nothing to say */
    call_write_cancelled(call, reason, &line);
    if (buf_error(&line) == 0)
        upstream_worker_note(call->worker, call->route, call->request.token, buf_slice(&line));
}

/* Until one of the timeouts; 0: it is over. */
static uint64_t time_left(const struct upstream_call *call, uint64_t now) {
    const struct config_server *config = call->instance->upstream->config;
    uint64_t silence_ends = call->direct_heard_ms + config->call_idle_timeout_ms;
    uint64_t all_ends = call->direct_started_ms + config->call_total_timeout_ms;
    uint64_t ends = silence_ends < all_ends ? silence_ends : all_ends;
    return now < ends ? ends - now : 0;
}

static void watch_time(struct upstream_call *call) {
    const struct config_server *config = call->instance->upstream->config;
    uint64_t now = io_loop_now(call->worker->loop);
    /* The server waits, not we; or it has nothing to say yet. */
    if (call->is_paused || call->n_asks != 0 || call->request.is_patient)
        call->direct_heard_ms = now;
    uint64_t left = time_left(call, now);
    if (left != 0) {
        io_timer_start(call->timer, left);
        return;
    }
    uint64_t silence_ends = call->direct_heard_ms + config->call_idle_timeout_ms;
    uint64_t all_ends = call->direct_started_ms + config->call_total_timeout_ms;
    char text[128];
    bool is_silent = silence_ends <= all_ends;
    int len = snprintf(text, sizeof text, "the upstream did not answer within %llu ms (%s)",
                       (unsigned long long)(is_silent ? config->call_idle_timeout_ms
                                                      : config->call_total_timeout_ms),
                       is_silent ? "timeout" : "max_timeout");
    if (!post_has_left(call->post)) /* what it waited for is an authorization server */
        permit_settle(&call->permit, BREAKER_NOTHING, now);
    tell_cancelled(call, SLICE("timeout"));
    finish(call, UPSTREAM_TIMEOUT, slice_make(text, (size_t)len));
}

static void on_timer(void *context) {
    watch_time(context);
}

/* Begin and end. */

static int start_post(struct upstream_call *call) {
    static const struct post_events events = {
        .on_message = on_message, .on_end = on_end, .on_alive = on_alive, .on_recess = on_recess};
    const struct upstream_request *request = &call->request;
    struct post_options options = {
        .worker = call->worker,
        .route = call->route,
        .method = HTTP_METHOD_POST,
        .mcp_method = request->method,
        .name = request->name,
        .fields = request->fields,
        .has_rule_fields = call->instance->upstream->wants_caller_fields,
        .body = request->line,
        .token = request->token,
        .is_idempotent = call_may_repeat(call),
        .may_leave = request->may_leave,
        .may_leave_context = request->may_leave_context,
        .may_leave_value = request->may_leave_value,
    };
    return post_start(&options, &events, call, &call->post);
}

void http_call_run(struct upstream_call *call) {
    struct upstream_instance *instance = call->instance;
    struct route *route = instance_route(instance);
    if (route == NULL) {
        call_go_home(call);
        return;
    }
    route_unref(call->route);
    call->route = route;
    call->place = CALL_RUNNING;
    atomic_fetch_add(&instance->n_direct, 1);
    uint64_t now = io_loop_now(call->worker->loop);
    if (call->direct_started_ms == 0) /* else it is sent again, in the same time */
        call->direct_started_ms = call->direct_heard_ms = now;
    call->timer = io_timer_new(call->worker->loop, on_timer, call);
    io_timer_start(call->timer, time_left(call, now));
    if (mcp_revision_is_modern(route->revision) != mcp_revision_is_modern(call->request.revision)) {
        finish_later(call, UPSTREAM_FAILED,
                     SLICE("the upstream has changed its protocol revision; try again"));
        return;
    }
    call_ask_enter(call);
    int error = start_post(call);
    if (error == -EACCES)
        finish_later(call, UPSTREAM_FAILED, SLICE(LACKS_TOKEN));
    else if (error != 0)
        finish_later(call, UPSTREAM_FAILED, SLICE("the gateway is out of memory"));
    else if (call->is_paused)
        http_call_pause(call);
}

void http_call_pause(struct upstream_call *call) {
    call->direct_heard_ms = io_loop_now(call->worker->loop);
    if (call->post != NULL)
        post_pause(call->post, call->is_paused);
}

void http_call_cancel(struct upstream_call *call) {
    tell_cancelled(call, slice_from_cstr(call->cancel_reason));
    leave(call);
    call->place = CALL_FINISHED;
    call_free_when_over(call);
}
