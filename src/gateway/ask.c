/*
 * What the server of a call asks of its client: sampling, elicitation, roots. A client with a
 * session gets a request on the stream of the call that it belongs to, and answers with a POST of
 * its own, which may land on any worker: the id of our request says where the call is.
 *
 * An ask is the call's: it ends with it. The client has LIMIT_ASK_MS to answer; then the server is
 * told that nobody did.
 */
#include <stdio.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/random.h"
#include "json/writer.h"
#include "mcp/capabilities.h"
#include "mcp/tasks.h"
#include "private.h"

#define NO_ITEM SIZE_MAX
enum { ASK_ID_CHARS = 80 };

struct gw_ask {
    struct list_link link; /* in call->asks */
    struct gw_call *call;
    uint64_t number; /* of those of the call */
    enum mcp_method method;
    struct io_timer *timer;
    size_t item; /* of call->input: then the server has not asked by a request; NO_ITEM */
    char *token; /* owned: the server's progress token, as written; NULL: none */
    size_t token_len;
    size_t id_len;
    char id[]; /* the server's, as written */
};

static struct slice id_of(const struct gw_ask *ask) {
    return slice_make(ask->id, ask->id_len);
}

static struct gw_ask *free_ask(struct gw_ask *ask) {
    list_remove(&ask->link);
    io_timer_free(ask->timer);
    mem_free(ask->token);
    mem_free(ask);
    return NULL;
}

/* "cardea-0-17-1": worker, call, ask. Whoever else may write it: it is looked for in the calls of
 * the session that it comes with. */
static struct slice write_id(const struct gw_ask *ask, char text[static ASK_ID_CHARS]) {
    int len = snprintf(text, ASK_ID_CHARS, "\"cardea-%zu-%llu-%llu\"", ask->call->worker->index,
                       (unsigned long long)ask->call->serial, (unsigned long long)ask->number);
    return slice_make(text, (size_t)len);
}

struct ask_place {
    struct gw_worker *worker;
    uint64_t serial, number;
};

static bool take_number(struct slice *rest, uint64_t *ret_number) {
    size_t end = slice_find_byte(*rest, '-');
    struct slice digits = end != SIZE_MAX ? slice_sub(*rest, 0, end) : *rest;
    *rest = end != SIZE_MAX ? slice_from(*rest, end + 1) : SLICE_EMPTY;
    return slice_to_u64(digits, ret_number) == 0;
}

/* False: it is no id of ours. */
static bool read_id(struct gateway *gateway, struct slice id, struct ask_place *ret_place) {
    static const struct slice begin = SLICE_INIT("\"cardea-");
    uint64_t worker = 0;
    if (!slice_starts_with(id, begin) || !slice_ends_with(id, SLICE("\"")))
        return false;
    struct slice rest = slice_sub(id, begin.len, id.len - 1);
    if (!take_number(&rest, &worker) || worker >= gateway->n_workers ||
        !take_number(&rest, &ret_place->serial) || !take_number(&rest, &ret_place->number) ||
        rest.len != 0)
        return false;
    ret_place->worker = &gateway->workers[worker];
    return true;
}

/* --- asking --- */

static void answer_error(struct gw_call *call, struct slice id, enum mcp_error_code code,
                         const char *text) {
    struct buf error CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct json_writer writer;
    json_writer_init(&writer, &error);
    json_object_begin(&writer);
    json_kv_i64(&writer, SLICE("code"), code);
    json_kv_string(&writer, SLICE("message"), slice_from_cstr(text));
    json_object_end(&writer);
    upstream_call_respond(call->upstream_call, id, true, buf_slice(&error));
}

static void tell_cancelled(struct gw_ask *ask, struct slice reason) {
    char text[ASK_ID_CHARS];
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct json_writer writer;
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_kv_raw(&writer, SLICE("requestId"), write_id(ask, text));
    json_kv_string(&writer, SLICE("reason"), reason);
    json_object_end(&writer);
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(KIB(2));
    if (mcp_write_notification(&line, MCP_NOTIFY_CANCELLED, buf_slice(&params)) == 0)
        gw_exchange_notify(ask->call->exchange, buf_slice(&line));
}

static void on_late(void *context) {
    struct gw_ask *ask = context;
    struct gw_call *call = ask->call;
    bool is_input = ask->item != NO_ITEM;
    tell_cancelled(ask, SLICE("it was not answered in time"));
    asked_end(&call->record.asked, ask->method, ASKED_LATE);
    if (!is_input)
        answer_error(call, id_of(ask), MCP_E_TIMEOUT,
                     "the client did not answer within 10 minutes");
    free_ask(ask);
    if (is_input)
        gw_call_input_late(call);
}

/* NULL: there is no memory. */
static struct gw_ask *new_ask(struct gw_call *call, struct slice id, struct slice token) {
    struct gw_ask *ask = mem_alloc(sizeof *ask + id.len);
    char *copy = ask != NULL && token.len != 0 ? mem_alloc(token.len) : NULL;
    if (ask == NULL || (token.len != 0 && copy == NULL)) {
        mem_free(ask);
        return NULL;
    }
    if (token.len != 0)
        memcpy(copy, token.ptr, token.len);
    if (id.len != 0)
        memcpy(ask->id, id.ptr, id.len);
    ask->item = NO_ITEM;
    ask->id_len = id.len;
    ask->token = copy;
    ask->token_len = token.len;
    ask->call = call;
    ask->number = ++call->last_ask;
    ask->timer = io_timer_new(call->worker->loop, on_late, ask);
    io_timer_start(ask->timer, LIMIT_ASK_MS);
    list_push_back(&call->asks, &ask->link);
    return ask;
}

static const struct json_want want_meta_members[] = {{0}};
static const struct json_want want_meta[] = {{"_meta", want_meta_members}, {0}};
static const struct json_want want_params = {.children = want_meta};

/* The server's progress token in its params; a NULL node: there is none. Uses the second reader. */
static const struct json_node *find_token(struct gw_call *call, struct slice params) {
    struct json_reader *reader = call->worker->second_reader;
    if (params.len == 0 || json_read(reader, params, &want_params, NULL, NULL) != 0)
        return NULL;
    const struct json_node *meta =
        json_member_typed(reader, json_root(reader), SLICE("_meta"), JSON_OBJECT);
    return meta != NULL ? json_member(reader, meta, SLICE("progressToken")) : NULL;
}

/* Two servers may have chosen one token: ours is the id of our request. */
static int write_request(const struct gw_ask *ask, const struct upstream_ask *asked,
                         const struct json_node *token, struct buf *out) {
    char text[ASK_ID_CHARS];
    struct slice id = write_id(ask, text);
    if (token == NULL)
        return mcp_write_request(out, id, asked->method, asked->params);
    struct mcp_edit edit = {.span = token->raw, .replacement = id};
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(asked->params.len + ASK_ID_CHARS);
    int error = mcp_splice(&params, asked->params, &edit, 1);
    return error != 0 ? error : mcp_write_request(out, id, asked->method, buf_slice(&params));
}

/* False: there is no memory, or it cannot be said. */
static bool ask_client(struct gw_call *call, const struct upstream_ask *by_server, size_t item) {
    struct buf told CLEANUP(buf_deinit) = BUF_INIT(by_server->params.len * 2 + KIB(8));
    struct upstream_ask with_ids = *by_server;
    const struct upstream_ask *asked = &with_ids;
    if (asked->params.len != 0)
        with_ids.params = gw_task_told(call, MCP_TASK_RELATED, asked->params, &told);
    if (asked->params.ptr == NULL)
        return false;
    const struct json_node *token = find_token(call, asked->params);
    struct gw_ask *ask = new_ask(call, asked->id, token != NULL ? token->raw : SLICE_EMPTY);
    struct buf *out = gw_worker_scratch(call->worker);
    if (ask == NULL || write_request(ask, asked, token, out) != 0) {
        if (ask != NULL)
            free_ask(ask);
        return false;
    }
    ask->item = item;
    ask->method = asked->method;
    asked_add(&call->record.asked, ask->method, ASKED_OPEN);
    log_write(call->worker->gateway->log, LOG_DEBUG, "mcp", "the server asks the client",
              LOG_TEXT("method", mcp_method_name(asked->method)),
              LOG_TEXT("principal", call->principal->id));
    gw_exchange_notify(call->exchange, buf_slice(out));
    return true;
}

/* By which a client of 2025-11-25 tells one elicitation by URL from another. */
static int write_elicitation(struct gw_call *call, enum mcp_method method, struct slice params,
                             struct buf *out) {
    unsigned char bytes[16];
    struct buf id CLEANUP(buf_deinit) = BUF_INIT(64);
    random_bytes(bytes, sizeof bytes);
    base64url_encode(&id, slice_make(bytes, sizeof bytes));
    return mcp_bridge_ask_to_legacy(out, call->worker->second_reader, method, params,
                                    buf_slice(&id));
}

bool gw_call_ask(struct gw_call *call, enum mcp_method method, struct slice params, size_t item) {
    struct buf edited CLEANUP(buf_deinit) = BUF_INIT(params.len + 128);
    bool is_there = write_elicitation(call, method, params, &edited) == 0;
    struct upstream_ask ask = {.method = method, .params = buf_slice(&edited)};
    bool is_heard = gw_exchange_can_be_told(call->exchange);
    if (is_heard && is_there && ask_client(call, &ask, item))
        return true;
    asked_add(&call->record.asked, method, ASKED_REFUSED);
    if (!is_heard)
        gw_call_refuse(call, MCP_E_UNAVAILABLE,
                       SLICE("the server wants input, and the client has closed its connection"));
    else
        gw_call_refuse(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"));
    return false;
}

static size_t count_asks(const struct gw_call *call) {
    size_t n = 0;
    const struct list_link *link = call->asks.ring.next;
    for (; link != &call->asks.ring; link = link->next)
        n++;
    return n;
}

static void refuse_ask(struct gw_call *call, const struct upstream_ask *ask,
                       enum mcp_error_code code, const char *text) {
    asked_add(&call->record.asked, ask->method, ASKED_REFUSED);
    answer_error(call, ask->id, code, text);
}

/* The instance has declared it, for the client that began the task: another one may wait for it. */
static bool can_give(struct gw_call *call, const struct upstream_ask *ask) {
    struct json_reader *reader = call->worker->second_reader;
    if (call->task == NULL)
        return true;
    const struct json_node *params = NULL;
    if (ask->params.len != 0 && json_read(reader, ask->params, &want_params, NULL, NULL) == 0)
        params = json_root(reader);
    unsigned needed = mcp_capabilities_needed(reader, ask->method, params);
    return (call->capabilities & needed) == needed;
}

void gw_call_on_ask(void *context, const struct upstream_ask *ask) {
    struct gw_call *call = context;
    if (mcp_revision_is_modern(call->revision))
        gw_call_park(call, ask);
    else if (!gw_exchange_can_be_told(call->exchange))
        refuse_ask(call, ask, MCP_E_UNAVAILABLE,
                   "the client cannot be asked: it has closed its connection");
    else if (!can_give(call, ask))
        refuse_ask(call, ask, MCP_E_METHOD_NOT_FOUND,
                   "the client that waits for the task cannot give what the one that began it "
                   "could");
    else if (count_asks(call) >= LIMIT_ASKS)
        refuse_ask(call, ask, MCP_E_BUSY, "too many requests wait for the client's answer");
    else if (!ask_client(call, ask, NO_ITEM))
        refuse_ask(call, ask, MCP_E_INTERNAL, "the gateway is out of memory");
}

bool gw_call_on_ask_cancelled(void *context, struct slice id) {
    struct gw_call *call = context;
    LIST_FOREACH_SAFE (&call->asks, link, tmp) {
        struct gw_ask *ask = CONTAINER_OF(link, struct gw_ask, link);
        if (!slice_eq(id_of(ask), id))
            continue;
        tell_cancelled(ask, SLICE("the server does not wait for it any more"));
        asked_end(&call->record.asked, ask->method, ASKED_WITHDRAWN);
        free_ask(ask);
        return true;
    }
    return false;
}

void gw_call_decline_asks(struct gw_call *call) {
    LIST_FOREACH_SAFE (&call->asks, link, tmp) {
        struct gw_ask *ask = CONTAINER_OF(link, struct gw_ask, link);
        if (ask->item == NO_ITEM)
            upstream_call_decline(call->upstream_call, id_of(ask), ask->method);
    }
}

void gw_call_drop_asks(struct gw_call *call) {
    LIST_FOREACH_SAFE (&call->asks, link, tmp) {
        struct gw_ask *ask = CONTAINER_OF(link, struct gw_ask, link);
        tell_cancelled(ask, SLICE("the call that it belongs to is over"));
        free_ask(ask);
    }
}

/* --- being answered --- */

struct answer_note {
    struct io_message message;
    struct ask_place place;
    struct gw_session *session; /* a reference */
    enum mcp_kind kind;         /* MCP_NOTIFICATION: progress */
    size_t len;
    char bytes[];
};

static struct gw_ask *find_ask(const struct answer_note *note) {
    struct gw_call *call = map_get(&note->place.worker->calls_by_serial,
                                   slice_make(&note->place.serial, sizeof note->place.serial));
    if (call == NULL || call->session != note->session)
        return NULL;
    LIST_FOREACH_SAFE (&call->asks, link, tmp) {
        struct gw_ask *ask = CONTAINER_OF(link, struct gw_ask, link);
        if (ask->number == note->place.number)
            return ask;
    }
    return NULL;
}

/* Under the token that the server chose. */
static void tell_progress(struct gw_ask *ask, struct slice params) {
    struct json_reader *reader = ask->call->worker->second_reader;
    if (ask->token == NULL || ask->item != NO_ITEM ||
        json_read(reader, params, &json_want_root, NULL, NULL) != 0)
        return;
    const struct json_node *token = json_member(reader, json_root(reader), SLICE("progressToken"));
    if (token == NULL)
        return;
    struct mcp_edit edit = {.span = token->raw,
                            .replacement = slice_make(ask->token, ask->token_len)};
    struct buf edited CLEANUP(buf_deinit) = BUF_INIT(params.len + ask->token_len);
    if (mcp_splice(&edited, params, &edit, 1) == 0)
        upstream_call_tell(ask->call->upstream_call, MCP_NOTIFY_PROGRESS, buf_slice(&edited));
}

static void give_answer(struct gw_ask *ask, bool is_error, struct slice bytes) {
    struct gw_call *call = ask->call;
    size_t item = ask->item;
    asked_end(&call->record.asked, ask->method,
              is_error ? ASKED_FAILED
                       : asked_read(call->worker->second_reader, ask->method, bytes));
    struct buf said CLEANUP(buf_deinit) = BUF_INIT(bytes.len * 2 + KIB(8));
    if (item == NO_ITEM)
        upstream_call_respond(call->upstream_call, id_of(ask), is_error,
                              is_error ? bytes : gw_task_said(call, bytes, &said));
    free_ask(ask);
    if (item != NO_ITEM)
        gw_call_input_answered(call, item, is_error, bytes);
}

static void deliver_answer(struct io_message *message) {
    struct answer_note *note = CONTAINER_OF(message, struct answer_note, message);
    struct slice bytes = slice_make(note->bytes, note->len);
    struct gw_ask *ask = find_ask(note);
    if (ask != NULL && note->kind == MCP_NOTIFICATION) {
        io_timer_start(ask->timer, LIMIT_ASK_MS);
        tell_progress(ask, bytes);
    } else if (ask != NULL) {
        give_answer(ask, note->kind == MCP_ERROR, bytes);
    }
    budget_give_back(io_loop_budget(note->place.worker->loop), note->len);
    gw_session_unref(note->session);
    mem_free(note);
}

static void post(struct gw_exchange *exchange, struct slice id, enum mcp_kind kind,
                 struct slice bytes) {
    struct ask_place place;
    struct answer_note *note = NULL;
    if (exchange->session != NULL && read_id(exchange->worker->gateway, id, &place))
        note = mem_alloc(sizeof *note + bytes.len);
    if (note == NULL)
        return;
    note->message.deliver = deliver_answer;
    note->place = place;
    note->session = gw_session_ref(exchange->session);
    note->kind = kind;
    note->len = bytes.len;
    memcpy(note->bytes, bytes.ptr, bytes.len);
    budget_add(io_loop_budget(exchange->worker->loop), bytes.len);
    io_loop_post(place.worker->loop, &note->message);
}

void gw_ask_answered(struct gw_exchange *exchange, const struct mcp_message *message) {
    post(exchange, message->id, message->kind,
         message->kind == MCP_RESULT ? message->result : message->error);
}

void gw_ask_progress(struct gw_exchange *exchange, const struct mcp_message *message) {
    const struct json_node *token =
        mcp_param(exchange->worker->reader, message, SLICE("progressToken"), JSON_STRING);
    if (token != NULL)
        post(exchange, token->raw, MCP_NOTIFICATION, message->params->raw);
}
