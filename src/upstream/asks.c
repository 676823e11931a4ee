/*
 * What a server asks of a call's client, and the answers. A child has one pipe for all its calls (a
 * server of HTTP+SSE one stream), and does not say for which of them it asks: its request goes to
 * the newest of those that are under way, if all of them have one asker, or to nobody. On the
 * stream of an HTTP server's answer there is no doubt; but many servers ask on the stream that
 * belongs to no call, and then it is the same with them.
 *
 * An answer to a child goes over the home of the instance, like the call itself. The home of an
 * HTTP server's instance has no calls: those that can be asked are on a list, and found on their
 * own worker by their id, for they may be over by then.
 */
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "mcp/capabilities.h"
#include "mcp/message.h"
#include "private.h"

/* From the home to the call's worker. */
struct ask_note {
    struct io_message message;
    struct upstream_worker *worker;
    struct upstream_instance *instance; /* a reference */
    struct upstream_call *call;         /* a child's; NULL: by `id` */
    uint64_t id;
    struct upstream_ask ask; /* into `bytes` */
    bool is_cancelled;
    size_t len;
    char bytes[];
};

/* From there to the home. */
struct reply_note {
    struct io_message message;
    struct upstream_instance *instance; /* a reference: the call may be over by then */
    uint64_t call;
    uint64_t life_ms; /* of the child that asked; 0: it was none */
    bool ends_ask;
    size_t len; /* of the line; 0: there is none */
    char line[];
};

/* --- to the server --- */

static struct slice id_key(const uint64_t *id) {
    return slice_make(id, sizeof *id);
}

/* A child that has started anew may have a question of its own with that id. */
static bool may_wait(const struct reply_note *note, const struct upstream_call *call) {
    const struct upstream_instance *instance = note->instance;
    return call != NULL || instance_is_http(instance) ||
           (instance->state == UPSTREAM_READY && note->life_ms != 0 &&
            note->life_ms == instance->ready_since_ms);
}

static void deliver_reply(struct io_message *message) {
    struct reply_note *note = CONTAINER_OF(message, struct reply_note, message);
    struct upstream_instance *instance = note->instance;
    struct upstream_call *call = map_get(&instance->pending, id_key(&note->call));
    if (call != NULL && note->ends_ask && call->n_asks != 0) {
        call->n_asks--;
        call->heard_ms = io_loop_now(instance->loop);
    }
    if (note->len != 0 && may_wait(note, call)) {
        struct buf line = BUF_INIT(note->len + 1);
        buf_append(&line, slice_make(note->line, note->len));
        (void)!instance_send(instance, 0, MCP_METHOD_UNKNOWN, true, &line);
    }
    budget_give_back(io_loop_budget(instance->loop), note->len);
    upstream_instance_unref(instance);
    mem_free(note);
}

/* `call` NULL: of none. */
static void reply_at_home(struct upstream_worker *worker, struct upstream_instance *instance,
                          const struct upstream_call *call, bool ends_ask, struct slice line) {
    struct reply_note *note = mem_xalloc(sizeof *note + line.len);
    note->message.deliver = deliver_reply;
    note->instance = upstream_instance_ref(instance);
    note->call = call != NULL ? call->request.id : 0;
    note->life_ms = call != NULL ? call->life_ms : 0;
    note->ends_ask = ends_ask;
    note->len = line.len;
    if (line.len != 0)
        memcpy(note->line, line.ptr, line.len);
    budget_add(io_loop_budget(worker->loop), line.len);
    io_loop_post(instance->loop, &note->message);
}

static void reply(struct upstream_call *call, bool ends_ask, struct slice line) {
    if (call->place != CALL_RUNNING) {
        reply_at_home(call->worker, call->instance, call, ends_ask, line);
        return;
    }
    if (ends_ask && call->n_asks != 0)
        call->n_asks--;
    call->direct_heard_ms = io_loop_now(call->worker->loop);
    if (line.len != 0)
        upstream_worker_note(call->worker, call->route, call->request.token, line);
}

void upstream_call_respond(struct upstream_call *call, struct slice id, bool is_error,
                           struct slice bytes) {
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(bytes.len + id.len + KIB(1));
    if (call->place == CALL_FINISHED || call->is_cancelled)
        return;
    if (is_error)
        mcp_write_error_object(&line, id, bytes);
    else
        mcp_write_result(&line, id, bytes);
    mcp_make_one_line(&line, 0);
    if (buf_error(&line) != 0) { /* no memory for it: a word of it there is */
        buf_reset(&line, KIB(1));
        mcp_write_error(&line, id, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                        SLICE_EMPTY);
    }
    reply(call, true, buf_slice(&line));
}

void upstream_call_tell(struct upstream_call *call, enum mcp_method method, struct slice params) {
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(params.len + KIB(1));
    if (call->place == CALL_FINISHED || call->is_cancelled)
        return;
    mcp_write_notification(&line, method, params);
    mcp_make_one_line(&line, 0);
    if (buf_error(&line) == 0)
        reply(call, false, buf_slice(&line));
}

static void write_declined(struct buf *line, const struct upstream_instance *instance,
                           struct slice id, enum mcp_method method) {
    struct mcp_message message = {.method = method, .id = id};
    message_write_answer(line, &message, instance->capabilities);
}

void upstream_call_decline(struct upstream_call *call, struct slice id, enum mcp_method method) {
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    if (!call->was_asked_apart || call->is_cancelled)
        return;
    write_declined(&line, call->instance, id, method);
    if (buf_error(&line) == 0)
        reply_at_home(call->worker, call->instance, call, true, buf_slice(&line));
}

/* --- to the client --- */

/* The call was over before it heard of it. */
static void decline(const struct ask_note *note) {
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    write_declined(&line, note->instance, note->ask.id, note->ask.method);
    if (buf_error(&line) == 0)
        reply_at_home(note->worker, note->instance, note->call, false, buf_slice(&line));
}

static void deliver_ask(struct io_message *message) {
    struct ask_note *note = CONTAINER_OF(message, struct ask_note, message);
    struct upstream_call *call =
        note->call != NULL ? note->call : map_get(&note->worker->askable, id_key(&note->id));
    if (note->is_cancelled) {
        if (call != NULL && !call->is_cancelled)
            call_ask_cancelled(call, note->ask.id);
    } else if (call != NULL && !call->is_cancelled) {
        call->n_asks += note->call == NULL ? 1 : 0; /* else the home counts */
        call->was_asked_apart = true;
        call->events.on_ask(call->context, &note->ask);
    } else {
        decline(note);
    }
    budget_give_back(io_loop_budget(note->worker->loop), note->len);
    upstream_instance_unref(note->instance);
    mem_free(note);
}

/* Where it goes: `call` NULL, by its id. False: there is no memory. */
static bool post_ask(struct upstream_instance *instance, struct upstream_worker *worker,
                     struct upstream_call *call, uint64_t id, const struct upstream_ask *ask,
                     bool is_cancelled) {
    size_t len = ask->id.len + ask->params.len;
    struct ask_note *note = mem_alloc(sizeof *note + len);
    if (note == NULL)
        return false;
    note->message.deliver = deliver_ask;
    note->worker = worker;
    note->instance = upstream_instance_ref(instance);
    note->call = call;
    note->id = id;
    note->is_cancelled = is_cancelled;
    note->len = len;
    memcpy(note->bytes, ask->id.ptr, ask->id.len);
    if (ask->params.len != 0)
        memcpy(note->bytes + ask->id.len, ask->params.ptr, ask->params.len);
    note->ask = (struct upstream_ask){
        .id = slice_make(note->bytes, ask->id.len),
        .method = ask->method,
        .params = slice_make(note->bytes + ask->id.len, ask->params.len),
    };
    budget_add(io_loop_budget(instance->loop), len);
    io_loop_post(worker->loop, &note->message);
    return true;
}

static struct upstream_ask ask_of(const struct mcp_message *message) {
    return (struct upstream_ask){
        .id = message->id,
        .method = message->method,
        .params = message->params != NULL ? message->params->raw : SLICE_EMPTY,
    };
}

static bool is_declared(const struct upstream_instance *instance, const struct json_reader *reader,
                        const struct mcp_message *message) {
    unsigned needed = mcp_capabilities_needed(reader, message->method, message->params);
    return needed != 0 && (instance->capabilities & needed) == needed;
}

/* Requests of a child. */
static bool ask_by_pipe(struct upstream_instance *instance, const struct upstream_ask *ask) {
    struct upstream_call *newest = NULL;
    LIST_FOREACH_SAFE (&instance->calls, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, link);
        if (!call->is_sent)
            continue;
        if (newest != NULL && newest->request.asker != call->request.asker)
            return false;
        newest = call;
    }
    if (newest == NULL || newest->events.on_ask == NULL || newest->n_asks >= LIMIT_ASKS ||
        !post_ask(instance, newest->worker, newest, 0, ask, false))
        return false;
    newest->n_asks++;
    return true;
}

/* The newest call that can be asked. False: there is none, or they have several askers. */
static bool find_askable(struct upstream_instance *instance, struct upstream_worker **ret_worker,
                         uint64_t *ret_id) {
    uint64_t asker = 0;
    bool is_one = true;
    *ret_worker = NULL;
    pthread_mutex_lock(&instance->upstream->mutex);
    LIST_FOREACH_SAFE (&instance->askable, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, askable_link);
        is_one = is_one && (*ret_worker == NULL || call->request.asker == asker);
        asker = call->request.asker;
        *ret_worker = call->worker;
        *ret_id = call->request.id;
    }
    pthread_mutex_unlock(&instance->upstream->mutex);
    return is_one && *ret_worker != NULL;
}

bool calls_ask(struct upstream_instance *instance, const struct mcp_message *message) {
    struct upstream_ask ask = ask_of(message);
    struct upstream_worker *worker = NULL;
    uint64_t id = 0;
    if (!is_declared(instance, instance->worker->home_reader, message))
        return false;
    if (ask_by_pipe(instance, &ask))
        return true;
    return find_askable(instance, &worker, &id) &&
           post_ask(instance, worker, NULL, id, &ask, false);
}

/* Each call with something open looks whether it is that. */
void calls_ask_cancelled(struct upstream_instance *instance, struct slice id) {
    struct upstream_ask ask = {.id = id};
    LIST_FOREACH_SAFE (&instance->calls, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, link);
        if (call->n_asks != 0)
            (void)!post_ask(instance, call->worker, call, 0, &ask, true);
    }
    pthread_mutex_lock(&instance->upstream->mutex);
    LIST_FOREACH_SAFE (&instance->askable, link, tmp) {
        struct upstream_call *call = CONTAINER_OF(link, struct upstream_call, askable_link);
        (void)!post_ask(instance, call->worker, NULL, call->request.id, &ask, true);
    }
    pthread_mutex_unlock(&instance->upstream->mutex);
}

/* --- on the worker of a call to an HTTP server --- */

void call_ask_enter(struct upstream_call *call) {
    struct upstream_instance *instance = call->instance;
    if (instance->capabilities == 0 || call->events.on_ask == NULL ||
        mcp_revision_is_modern(call->request.revision) ||
        map_set(&call->worker->askable, id_key(&call->request.id), call) != 0)
        return;
    pthread_mutex_lock(&instance->upstream->mutex);
    list_push_back(&instance->askable, &call->askable_link);
    pthread_mutex_unlock(&instance->upstream->mutex);
}

void call_ask_leave(struct upstream_call *call) {
    if (!list_is_linked(&call->askable_link))
        return;
    map_remove(&call->worker->askable, id_key(&call->request.id));
    pthread_mutex_lock(&call->instance->upstream->mutex);
    list_remove(&call->askable_link);
    pthread_mutex_unlock(&call->instance->upstream->mutex);
}

bool call_ask(struct upstream_call *call, const struct mcp_message *message) {
    if (call->events.on_ask == NULL || call->n_asks >= LIMIT_ASKS ||
        !is_declared(call->instance, call->worker->reader, message))
        return false;
    struct upstream_ask ask = ask_of(message);
    call->n_asks++;
    call->events.on_ask(call->context, &ask);
    return true;
}

void call_ask_cancelled(struct upstream_call *call, struct slice id) {
    if (call->events.on_ask != NULL && call->events.on_ask_cancelled(call->context, id))
        reply(call, true, SLICE_EMPTY);
}
