/*
 * A call crosses two threads: the worker that made it and the home of the instance. Each touches
 * only its own part; what one wants of the other goes through the loops' mailboxes, in order. The
 * home ends its part with exactly one message, the final one or (HTTP) the one that hands the call
 * back to be sent, after which it does not touch the call; a cancel message is always sent back.
 * The worker frees the call when it is over and no cancel message is out.
 */
#include <errno.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "http_failure.h"
#include "json/writer.h"
#include "mcp/message.h"
#include "private.h"

struct call_note {
    struct io_message message;
    struct upstream_call *call;
    enum mcp_method method;
    size_t len;
    char params[];
};

static struct slice id_key(const uint64_t *id) {
    return slice_make(id, sizeof *id);
}

/* The caller's part. */

void call_free_when_over(struct upstream_call *call) {
    if (call->place != CALL_FINISHED || call->cancel_under_way)
        return;
    permit_return(&call->permit, BREAKER_NOTHING, io_loop_now(call->worker->loop));
    budget_give_back(io_loop_budget(call->worker->loop), call->n_bytes + call->answer_len);
    instance_call_over(call->instance);
    upstream_instance_unref(call->instance);
    oauth_token_unref(call->request.token);
    route_unref(call->route);
    io_timer_free(call->timer);
    mem_free(call->answer);
    mem_free(call);
}

static void deliver_note(struct io_message *message) {
    struct call_note *note = CONTAINER_OF(message, struct call_note, message);
    struct upstream_call *call = note->call;
    if (!call->is_cancelled)
        call->events.on_notification(call->context, note->method,
                                     slice_make(note->params, note->len));
    budget_give_back(io_loop_budget(call->worker->loop), note->len);
    mem_free(note);
}

static void deliver_final(struct io_message *message) {
    struct upstream_call *call = CONTAINER_OF(message, struct upstream_call, final_message);
    call->place = CALL_FINISHED;
    if (!call->is_cancelled)
        call->events.on_done(call->context, call->outcome,
                             slice_make(call->answer, call->answer_len));
    call_free_when_over(call);
}

static void deliver_cancel_back(struct io_message *message) {
    struct upstream_call *call = CONTAINER_OF(message, struct upstream_call, cancel_message);
    call->cancel_under_way = false;
    call_free_when_over(call);
}

/* The home has an instance that is ready: the request goes out from here. */
static void deliver_release(struct io_message *message) {
    struct upstream_call *call = CONTAINER_OF(message, struct upstream_call, release_message);
    if (call->is_cancelled) {
        call->place = CALL_FINISHED;
        call_free_when_over(call);
        return;
    }
    http_call_run(call);
}

void call_fail_later(struct upstream_call *call, enum upstream_outcome outcome, struct slice text) {
    call->place = CALL_AT_HOME; /* as if the home had answered */
    call->is_finished = true;
    call->outcome = outcome;
    call->answer = mem_xalloc(text.len);
    memcpy(call->answer, text.ptr, text.len);
    call->answer_len = text.len;
    budget_add(io_loop_budget(call->worker->loop), text.len);
    io_loop_post(call->worker->loop, &call->final_message);
}

/* Whoever has the call. */

bool call_may_repeat(const struct upstream_call *call) {
    return mcp_method_is_repeatable(call->request.method) && call->n_retries == 0 &&
           !call->was_told && !call->permit.ticket.is_probe;
}

void call_made_progress(struct upstream_call *call, uint64_t now_ms) {
    call->was_told = true;
    if (call->permit.ticket.is_probe) /* the others need not wait for its end */
        permit_settle(&call->permit, BREAKER_FINE, now_ms);
}

enum breaker_verdict call_verdict(const struct upstream_call *call, enum upstream_outcome outcome) {
    switch (outcome) {
    case UPSTREAM_RESULT:
    case UPSTREAM_ERROR:
        return BREAKER_FINE;
    case UPSTREAM_TIMEOUT:
        /* Whose client does not read has not waited for the server. */
        if (call->place == CALL_RUNNING)
            return call->is_paused ? BREAKER_NOTHING : BREAKER_FAILED;
        return call->is_sent ? BREAKER_FAILED : BREAKER_NOTHING;
    case UPSTREAM_FAILED:
        break;
    }
    return BREAKER_NOTHING;
}

/* The home's part. */

/* Whether the server may know of it. */
static bool forget(const struct upstream_call *call) {
    struct transport *transport = call->instance->transport;
    return transport != NULL && transport->ops->forget(transport, call->request.id);
}

static void finish(struct upstream_call *call, enum upstream_outcome outcome, struct slice bytes) {
    struct upstream_instance *instance = call->instance;
    permit_return(&call->permit, call_verdict(call, outcome), io_loop_now(instance->loop));
    list_remove(&call->link);
    instance->n_calls--;
    if (call->is_sent) {
        map_remove(&instance->pending, id_key(&call->request.id));
        (void)forget(call);
    }
    call->is_finished = true;
    call->outcome = outcome;
    call->answer = mem_alloc(bytes.len);
    if (call->answer == NULL) { /* this is small: see mem.h */
        bytes = SLICE("the gateway is out of memory for the answer; the call may have been carried "
                      "out");
        call->outcome = UPSTREAM_FAILED;
        call->answer = mem_xalloc(bytes.len);
    }
    if (bytes.len != 0)
        memcpy(call->answer, bytes.ptr, bytes.len);
    call->answer_len = bytes.len;
    budget_add(io_loop_budget(instance->loop), bytes.len);
    atomic_store(&instance->last_used_ms, io_loop_now(instance->loop));
    io_loop_post(call->worker->loop, &call->final_message);
}

void call_write_cancelled(const struct upstream_call *call, struct slice reason, struct buf *line) {
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct json_writer writer;
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_kv_u64(&writer, SLICE("requestId"), call->request.id);
    if (reason.len != 0)
        json_kv_string(&writer, SLICE("reason"), reason);
    json_object_end(&writer);
    mcp_write_notification(line, MCP_NOTIFY_CANCELLED, buf_slice(&params));
}

/* False: there was nothing to tell the server of. */
static bool send_cancelled(struct upstream_call *call, struct slice reason) {
    struct buf line = BUF_INIT(KIB(2));
    if (!forget(call))
        return false;
    call_write_cancelled(call, reason, &line);
    /* A child that takes no bytes will notice its own end. */
    (void)!instance_send(call->instance, 0, MCP_NOTIFY_CANCELLED, false, &line);
    return true;
}

/* To the worker that made the call, which sends it itself. */
static void release(struct upstream_call *call) {
    list_remove(&call->link);
    call->instance->n_calls--;
    call->is_released = true;
    io_loop_post(call->worker->loop, &call->release_message);
}

static bool may_leave(const struct upstream_call *call) {
    return call->request.may_leave == NULL ||
           call->request.may_leave(call->request.may_leave_context, call->request.may_leave_value);
}

static void send(struct upstream_call *call) {
    struct upstream_instance *instance = call->instance;
    if (!may_leave(call)) {
        finish(call, UPSTREAM_FAILED, SLICE(CALL_MAY_NOT_LEAVE));
        return;
    }
    if (instance->kind == TRANSPORT_STREAMABLE) {
        release(call);
        return;
    }
    if (mcp_revision_is_modern(instance->catalog->revision) !=
        mcp_revision_is_modern(call->request.revision)) {
        finish(call, UPSTREAM_FAILED,
               SLICE("the upstream has changed its protocol revision; try again"));
        return;
    }
    int error = map_set(&instance->pending, id_key(&call->request.id), call);
    if (error != 0) {
        finish(call, UPSTREAM_FAILED, SLICE("the gateway is out of memory"));
        return;
    }
    struct transport_message message = {
        .id = call->request.id,
        .method = call->request.method,
        .line = call->request.line,
        .call = &call->request,
        .may_repeat = call_may_repeat(call),
    };
    call->is_sent = true;
    call->life_ms = call->instance->ready_since_ms;
    error = instance->transport->ops->send(instance->transport, &message);
    if (error == -ENOBUFS)
        finish(call, UPSTREAM_FAILED,
               SLICE("the upstream does not read its input; try again later"));
    else if (error == -EACCES)
        finish(call, UPSTREAM_FAILED, SLICE(LACKS_TOKEN));
    else if (error == -ENOMEM)
        finish(call, UPSTREAM_FAILED, SLICE("the gateway is out of memory"));
    else if (error != 0)
        finish(call, UPSTREAM_FAILED, SLICE("the upstream has stopped; it is being started again"));
}

static void home_start(struct io_message *message) {
    struct upstream_call *call = CONTAINER_OF(message, struct upstream_call, start_message);
    struct upstream_instance *instance = call->instance;
    uint64_t now = io_loop_now(instance->loop);
    bool was_out = call->direct_started_ms != 0; /* and its time runs since then */
    call->started_ms = was_out ? call->direct_started_ms : now;
    call->heard_ms = was_out ? call->direct_heard_ms : now;
    atomic_store(&instance->last_used_ms, now);
    call->is_released = false;
    list_push_back(&instance->calls, &call->link);
    instance->n_calls++;
    char refusal[PERMIT_REASON];
    struct slice reason = permit_lost(&call->permit, now, refusal, sizeof refusal);
    bool is_probe = call->permit.ticket.is_probe; /* the breaker says that it is time to try */
    if (reason.len == 0 && (!is_probe || instance->is_closing))
        reason = instance_refusal(instance, refusal, sizeof refusal);
    if (reason.len != 0) {
        finish(call, UPSTREAM_FAILED, reason);
        return;
    }
    instance_tick_soon(instance);
    instance_keep_token(instance, call->request.token); /* it may have dropped it */
    if (instance_takes_calls(instance))
        send(call);
    else if (is_probe)
        instance_start_now(instance);
    else
        instance_wake(instance);
}

static void home_cancel(struct io_message *message) {
    struct upstream_call *call = CONTAINER_OF(message, struct upstream_call, cancel_message);
    if (!call->is_finished && !call->is_released) {
        if (call->is_sent)
            (void)send_cancelled(call, slice_from_cstr(call->cancel_reason));
        finish(call, UPSTREAM_FAILED, SLICE_EMPTY);
    }
    call->cancel_message.deliver = deliver_cancel_back;
    io_loop_post(call->worker->loop, &call->cancel_message);
}

void calls_flush(struct upstream_instance *instance) {
    LIST_FOREACH_SAFE (&instance->calls, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, link);
        if (!call->is_sent)
            send(call);
    }
}

/*
 * It waits for the next start, if that comes soon, and is sent again then: because it came back
 * when the server could not be reached, which is what fails now; or because its child ended, and to
 * ask it once more does no harm.
 */
static bool waits_on(const struct upstream_call *call) {
    char text[PERMIT_REASON];
    if (call->was_spared || instance_refusal(call->instance, text, sizeof text).len != 0)
        return false;
    return call->is_sent ? call_may_repeat(call) : call->n_retries != 0;
}

/* Back among those that wait; it is sent again. */
static void take_back(struct upstream_call *call) {
    map_remove(&call->instance->pending, id_key(&call->request.id));
    call->is_sent = false;
    call->n_retries++;
}

static void spare(struct upstream_call *call) {
    call->was_spared = true;
    if (call->is_sent)
        take_back(call);
}

void calls_fail_all(struct upstream_instance *instance, struct slice reason,
                    enum breaker_verdict verdict) {
    LIST_FOREACH_SAFE (&instance->calls, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, link);
        if (waits_on(call)) {
            spare(call);
            continue;
        }
        if (call->permit.ticket.is_probe)
            permit_settle(&call->permit, verdict, io_loop_now(instance->loop));
        finish(call, UPSTREAM_FAILED, reason);
    }
}

void calls_look_at_waiting(struct upstream_instance *instance) {
    char text[PERMIT_REASON];
    LIST_FOREACH_SAFE (&instance->calls, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, link);
        if (call->is_sent)
            continue;
        struct slice reason =
            permit_lost(&call->permit, io_loop_now(instance->loop), text, sizeof text);
        if (reason.len != 0)
            finish(call, UPSTREAM_FAILED, reason);
    }
}

bool calls_any_sent(const struct upstream_instance *instance) {
    return instance->pending.count != 0;
}

static void give_up_waiting(struct upstream_call *call) {
    struct transport *transport = call->instance->transport;
    if (send_cancelled(call, SLICE("timeout")))
        transport->ops->doubt(transport);
    else /* what it waited for is an authorization server */
        permit_settle(&call->permit, BREAKER_NOTHING, io_loop_now(call->instance->loop));
}

bool calls_check_time(struct upstream_instance *instance, uint64_t now_ms) {
    const struct config_server *config = instance->upstream->config;
    LIST_FOREACH_SAFE (&instance->calls, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, link);
        /* The server waits, not we; or it has nothing to say yet. */
        if (call->n_asks != 0 || call->request.is_patient)
            call->heard_ms = now_ms;
        uint64_t silent = now_ms - call->heard_ms, total = now_ms - call->started_ms;
        if (silent < config->call_idle_timeout_ms && total < config->call_total_timeout_ms)
            continue;
        if (call->is_sent)
            give_up_waiting(call);
        char text[128];
        bool is_silent = silent >= config->call_idle_timeout_ms;
        int len = snprintf(text, sizeof text, "the upstream did not answer within %llu ms (%s)",
                           (unsigned long long)(is_silent ? config->call_idle_timeout_ms
                                                          : config->call_total_timeout_ms),
                           is_silent ? "timeout" : "max_timeout");
        finish(call, UPSTREAM_TIMEOUT, slice_make(text, (size_t)len));
    }
    return !list_is_empty(&instance->calls);
}

static struct upstream_call *find(struct upstream_instance *instance, struct slice id) {
    uint64_t number;
    if (slice_to_u64(id, &number) != 0)
        return NULL;
    return map_get(&instance->pending, id_key(&number));
}

bool calls_answer(struct upstream_instance *instance, struct slice id,
                  enum upstream_outcome outcome, struct slice bytes) {
    struct upstream_call *call = find(instance, id);
    if (call == NULL)
        return false;
    if (outcome == UPSTREAM_FAILED) /* it answered, with what is no message */
        permit_settle(&call->permit, BREAKER_FAILED, io_loop_now(instance->loop));
    finish(call, outcome, bytes);
    return true;
}

bool calls_refused(struct upstream_instance *instance, uint64_t id,
                   const struct transport_failure *failure) {
    struct upstream_call *call = map_get(&instance->pending, id_key(&id));
    const struct post_end *end = failure->end;
    char text[HTTP_DESCRIPTION];
    if (call == NULL)
        return false;
    call->http_status = end->status;
    if (failure->is_session_lost && call->n_retries == 0) {
        take_back(call); /* for the next session, which is about to be opened */
        return true;
    }
    permit_settle(&call->permit, http_verdict(end, failure->is_session_lost),
                  io_loop_now(instance->loop));
    if (failure->error.len != 0 && !failure->is_session_lost)
        finish(call, UPSTREAM_ERROR, failure->error);
    else
        finish(call, UPSTREAM_FAILED,
               http_describe(instance->upstream, end, failure->is_session_lost, text));
    return true;
}

static void note(struct upstream_call *call, enum mcp_method method, struct slice params) {
    struct call_note *note = mem_alloc(sizeof *note + params.len);
    call->heard_ms = io_loop_now(call->instance->loop);
    if (note == NULL)
        return;
    note->message.deliver = deliver_note;
    note->call = call;
    note->method = method;
    note->len = params.len;
    memcpy(note->params, params.ptr, params.len);
    budget_add(io_loop_budget(call->instance->loop), params.len);
    io_loop_post(call->worker->loop, &note->message);
}

static void made_progress(struct upstream_call *call, struct slice params) {
    call_made_progress(call, io_loop_now(call->instance->loop));
    note(call, MCP_NOTIFY_PROGRESS, params);
}

bool calls_progress(struct upstream_instance *instance, struct slice token, struct slice params) {
    struct upstream_call *call = find(instance, token);
    uint64_t number;
    bool any = call != NULL;
    if (call != NULL)
        made_progress(call, params);
    if (call != NULL || slice_to_u64(token, &number) != 0 || number == 0)
        return any;
    /* Those that wait for the result of what that request has begun. */
    LIST_FOREACH_SAFE (&instance->calls, link, tmp) {
        struct upstream_call *follower = CONTAINER_OF(link, struct upstream_call, link);
        uint64_t progress = follower->request.progress;
        if (!follower->is_sent || (progress != number && progress != UPSTREAM_ANY_REQUEST))
            continue;
        made_progress(follower, params);
        any = true;
    }
    return any;
}

bool calls_log(struct upstream_instance *instance, struct slice params) {
    bool any = false;
    LIST_FOREACH_SAFE (&instance->calls, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, link);
        if (!call->is_sent)
            continue;
        /* One running call is enough to carry it; a second one may be of another session, which
         * shares the owner. */
        note(call, MCP_NOTIFY_MESSAGE, params);
        any = true;
        break;
    }
    return any;
}

/* The public part. */

void call_go_home(struct upstream_call *call) {
    call->place = CALL_AT_HOME;
    call->start_message.deliver = home_start;
    io_loop_post(call->instance->loop, &call->start_message);
}

static struct slice keep(char **at, struct slice bytes) {
    char *begin = *at;
    if (bytes.len != 0)
        memcpy(begin, bytes.ptr, bytes.len);
    *at += bytes.len;
    return slice_make(begin, bytes.len);
}

/*
 * Counts a call of this instance, which is not closed to make room from then on. When that has been
 * decided already, it is a call of the one that its owner has now. A reference; *ret_refusal: there
 * is none.
 */
static struct upstream_instance *enter(struct upstream_instance *instance,
                                       struct upstream_worker *worker, struct slice *ret_refusal) {
    upstream_instance_ref(instance);
    while ((atomic_fetch_add(&instance->n_under_way, 1) & ROOM_CLAIMED) != 0) {
        struct upstream_instance *next = NULL;
        int error = set_get(instance->upstream, instance->key, worker, &next);
        if (error != 0) {
            *ret_refusal = error == UPSTREAM_E_ROOM ? SLICE(UPSTREAM_LACKS_ROOM)
                           : error == -ENOMEM       ? SLICE("the gateway is out of memory")
                                                    : SLICE("the upstream is stopping");
            break;
        }
        atomic_fetch_sub(&instance->n_under_way, 1);
        upstream_instance_unref(instance);
        instance = next;
    }
    return instance;
}

struct upstream_call *upstream_call_start(struct upstream_instance *instance,
                                          struct upstream_worker *worker,
                                          const struct upstream_request *request,
                                          const struct upstream_call_events *events,
                                          void *context) {
    size_t size = request->line.len + request->name.len + request->fields.len;
    struct upstream_call *call = mem_alloc(sizeof *call + size);
    struct slice refusal = SLICE_EMPTY;
    if (call == NULL)
        return NULL;
    instance = enter(instance, worker, &refusal);
    *call = (struct upstream_call){
        .worker = worker,
        .events = *events,
        .context = context,
        .instance = instance,
        .request = *request,
        .final_message = {.deliver = deliver_final},
        .release_message = {.deliver = deliver_release},
    };
    call->n_bytes = size;
    budget_add(io_loop_budget(worker->loop), size);
    char *at = call->bytes;
    call->request.line = keep(&at, request->line);
    call->request.name = keep(&at, request->name);
    call->request.fields = keep(&at, request->fields);
    oauth_token_ref(call->request.token);
    char text[PERMIT_REASON];
    if (refusal.len == 0)
        refusal = permit_take(&call->permit, instance->upstream, io_loop_now(worker->loop), text,
                              sizeof text);
    if (refusal.len != 0)
        call_fail_later(call, UPSTREAM_FAILED, refusal);
    else if (instance_is_http(instance))
        http_call_run(call);
    else
        call_go_home(call);
    return call;
}

struct slice upstream_call_line(const struct upstream_call *call) {
    return call->request.line;
}

struct slice upstream_call_upstream(const struct upstream_call *call) {
    return instance_name(call->instance);
}

void upstream_call_adopt(struct upstream_call *call, const struct upstream_call_events *events,
                         void *context) {
    call->events = *events;
    call->context = context;
}

bool upstream_call_shares_pipe(const struct upstream_call *call) {
    return call->place == CALL_AT_HOME;
}

void upstream_call_pause(struct upstream_call *call, bool paused) {
    call->is_paused = paused;
    if (call->place == CALL_RUNNING)
        http_call_pause(call);
}

void upstream_call_cancel(struct upstream_call *call, struct slice reason) {
    if (call->is_cancelled || call->place == CALL_FINISHED)
        return;
    struct slice cut = slice_sub(reason, 0, sizeof call->cancel_reason - 1);
    if (cut.len != 0)
        memcpy(call->cancel_reason, cut.ptr, cut.len);
    call->is_cancelled = true;
    if (call->place == CALL_RUNNING) {
        http_call_cancel(call);
        return;
    }
    call->cancel_under_way = true;
    call->cancel_message.deliver = home_cancel;
    io_loop_post(call->instance->loop, &call->cancel_message);
}
