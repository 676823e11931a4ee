/*
 * A call crosses two threads: the worker that made it (origin) and the home of the instance. Each
 * touches only its own part; what one wants of the other goes through the loops' mailboxes, in
 * order. The home sends exactly one final message, after which it does not touch the call; a cancel
 * message is always sent back. The origin frees the call when it has got the final message and has
 * no cancel message out.
 */
#include <errno.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "json/writer.h"
#include "mcp/message.h"
#include "set_private.h"

enum { MAX_CALLS = 1024 };

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

/* The origin's part. */

static void free_when_over(struct upstream_call *call) {
    if (!call->is_done || call->cancel_under_way)
        return;
    upstream_instance_unref(call->instance);
    mem_free(call->line);
    mem_free(call->answer);
    mem_free(call);
}

static void deliver_note(struct io_message *message) {
    struct call_note *note = CONTAINER_OF(message, struct call_note, message);
    struct upstream_call *call = note->call;
    if (!call->is_cancelled)
        call->events.on_notification(call->context, note->method,
                                     slice_make(note->params, note->len));
    mem_free(note);
}

static void deliver_final(struct io_message *message) {
    struct upstream_call *call = CONTAINER_OF(message, struct upstream_call, final_message);
    call->is_done = true;
    if (!call->is_cancelled)
        call->events.on_done(call->context, call->outcome,
                             slice_make(call->answer, call->answer_len));
    free_when_over(call);
}

static void deliver_cancel_back(struct io_message *message) {
    struct upstream_call *call = CONTAINER_OF(message, struct upstream_call, cancel_message);
    call->cancel_under_way = false;
    free_when_over(call);
}

/* The home's part. */

static void finish(struct upstream_call *call, enum upstream_outcome outcome, struct slice bytes) {
    struct upstream_instance *instance = call->instance;
    list_remove(&call->link);
    instance->n_calls--;
    if (call->is_sent)
        map_remove(&instance->pending, id_key(&call->id));
    call->is_finished = true;
    call->outcome = outcome;
    call->answer = mem_alloc(bytes.len);
    if (call->answer != NULL && bytes.len != 0) {
        memcpy(call->answer, bytes.ptr, bytes.len);
        call->answer_len = bytes.len;
    } else if (bytes.len != 0) {
        call->outcome = UPSTREAM_FAILED;
    }
    instance->last_used_ms = io_loop_now(instance->loop);
    call->final_message.deliver = deliver_final;
    io_loop_post(call->origin, &call->final_message);
}

static void send_cancelled(struct upstream_call *call, struct slice reason) {
    struct buf params = BUF_INIT(KIB(1)), line = BUF_INIT(KIB(2));
    struct json_writer writer;
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_kv_u64(&writer, SLICE("requestId"), call->id);
    if (reason.len != 0)
        json_kv_string(&writer, SLICE("reason"), reason);
    json_object_end(&writer);
    mcp_write_notification(&line, MCP_NOTIFY_CANCELLED, buf_slice(&params));
    buf_append_byte(&line, '\n');
    /* A child that takes no bytes will notice its own end. */
    if (buf_error(&line) == 0 && call->instance->child != NULL)
        (void)!stdio_write(call->instance->child, buf_slice(&line));
    buf_deinit(&params);
    buf_deinit(&line);
}

static void send(struct upstream_call *call) {
    struct upstream_instance *instance = call->instance;
    int error = map_set(&instance->pending, id_key(&call->id), call);
    if (error != 0) {
        finish(call, UPSTREAM_FAILED, SLICE("the gateway is out of memory"));
        return;
    }
    call->is_sent = true;
    error = stdio_write(instance->child, slice_make(call->line, call->line_len));
    mem_free(TAKE(call->line));
    if (error == -ENOBUFS)
        finish(call, UPSTREAM_FAILED,
               SLICE("the upstream does not read its input; try again later"));
    else if (error != 0)
        finish(call, UPSTREAM_FAILED, SLICE("the upstream has stopped; it is being started again"));
}

static void home_start(struct io_message *message) {
    struct upstream_call *call = CONTAINER_OF(message, struct upstream_call, start_message);
    struct upstream_instance *instance = call->instance;
    call->started_ms = call->heard_ms = instance->last_used_ms = io_loop_now(instance->loop);
    list_push_back(&instance->calls, &call->link);
    instance->n_calls++;
    char refusal[256];
    struct slice reason = instance_refusal(instance, refusal, sizeof refusal);
    if (reason.len != 0) {
        finish(call, UPSTREAM_FAILED, reason);
        return;
    }
    if (instance->n_calls > MAX_CALLS) {
        finish(call, UPSTREAM_FAILED, SLICE("1,024 calls wait for this upstream; try again later"));
        return;
    }
    if (!io_timer_is_running(instance->tick_timer))
        io_timer_start(instance->tick_timer, 1000);
    if (instance->state == UPSTREAM_READY)
        send(call);
    else
        instance_wake(instance);
}

static void home_cancel(struct io_message *message) {
    struct upstream_call *call = CONTAINER_OF(message, struct upstream_call, cancel_message);
    if (!call->is_finished) {
        if (call->is_sent)
            send_cancelled(call, slice_from_cstr(call->cancel_reason));
        finish(call, UPSTREAM_FAILED, SLICE_EMPTY);
    }
    call->cancel_message.deliver = deliver_cancel_back;
    io_loop_post(call->origin, &call->cancel_message);
}

void calls_flush(struct upstream_instance *instance) {
    LIST_FOREACH_SAFE (&instance->calls, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, link);
        if (!call->is_sent)
            send(call);
    }
}

void calls_fail_all(struct upstream_instance *instance, struct slice reason) {
    LIST_FOREACH_SAFE (&instance->calls, link, tmp)
        finish(CONTAINER_OF(link, struct upstream_call, link), UPSTREAM_FAILED, reason);
}

bool calls_check_time(struct upstream_instance *instance, uint64_t now_ms) {
    const struct config_server *config = instance->upstream->config;
    LIST_FOREACH_SAFE (&instance->calls, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, link);
        uint64_t silent = now_ms - call->heard_ms, total = now_ms - call->started_ms;
        if (silent < config->call_idle_timeout_ms && total < config->call_total_timeout_ms)
            continue;
        if (call->is_sent)
            send_cancelled(call, SLICE("timeout"));
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
    finish(call, outcome, bytes);
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
    io_loop_post(call->origin, &note->message);
}

bool calls_progress(struct upstream_instance *instance, struct slice token, struct slice params) {
    struct upstream_call *call = find(instance, token);
    if (call == NULL)
        return false;
    note(call, MCP_NOTIFY_PROGRESS, params);
    return true;
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

struct upstream_call *upstream_call_start(struct upstream_instance *instance, struct io_loop *loop,
                                          uint64_t id, struct slice line,
                                          const struct upstream_call_events *events,
                                          void *context) {
    char *copy = mem_alloc(line.len);
    if (copy == NULL)
        return NULL;
    struct upstream_call *call = mem_xalloc(sizeof *call);
    call->origin = loop;
    call->events = *events;
    call->context = context;
    call->instance = instance_ref(instance);
    call->id = id;
    memcpy(copy, line.ptr, line.len);
    call->line = copy;
    call->line_len = line.len;
    call->start_message.deliver = home_start;
    io_loop_post(instance->loop, &call->start_message);
    return call;
}

void upstream_call_cancel(struct upstream_call *call, struct slice reason) {
    if (call->is_cancelled || call->is_done)
        return;
    struct slice cut = slice_sub(reason, 0, sizeof call->cancel_reason - 1);
    if (cut.len != 0)
        memcpy(call->cancel_reason, cut.ptr, cut.len);
    call->is_cancelled = true;
    call->cancel_under_way = true;
    call->cancel_message.deliver = home_cancel;
    io_loop_post(call->instance->loop, &call->cancel_message);
}
