/*
 * The phases of a JSON-RPC message: era, session, kind; requests then go by the table of methods.
 * What limits, access and guard will have to say belongs between the session and the method's
 * handler.
 */
#include "base/mem.h"
#include "json/writer.h"
#include "private.h"

enum { MAX_BATCH = 100 };

#define SCRATCH_KEPT KIB(256)

struct buf *gw_worker_scratch(struct gw_worker *worker) {
    buf_reset(&worker->scratch, SCRATCH_KEPT);
    worker->scratch.max =
        LIMIT_UPSTREAM_MESSAGE + worker->gateway->config->max_request_body + MIB(1);
    return &worker->scratch;
}

struct slice gw_call_id(const struct gw_call *call) {
    return slice_make(call->id, call->id_len);
}

/* The life of a call. */

static struct slice serial_key(const uint64_t *serial) {
    return slice_make(serial, sizeof *serial);
}

static void forget_place(struct gw_call *call) {
    if (call->session == NULL)
        return;
    struct buf key = BUF_INIT(LIMIT_RPC_ID + 1);
    struct gw_call_place *place = NULL;
    if (mcp_id_key(&key, gw_call_id(call)) == 0) {
        pthread_mutex_lock(&call->session->mutex);
        place = map_get(&call->session->calls, buf_slice(&key));
        if (place != NULL && place->worker == call->worker && place->serial == call->serial)
            map_remove(&call->session->calls, buf_slice(&key));
        else
            place = NULL; /* it was refused because another one has its id */
        pthread_mutex_unlock(&call->session->mutex);
    }
    mem_free(place);
    buf_deinit(&key);
}

void gw_call_stop_waiting(struct gw_call *call) {
    list_remove(&call->waiter_link);
    call->wait_timer = io_timer_free(call->wait_timer);
    mem_free(TAKE(call->document));
    call->document_len = 0;
}

static void free_call(struct gw_call *call) {
    struct gw_worker *worker = call->worker;
    forget_place(call);
    gw_call_stop_waiting(call);
    list_remove(&call->link);
    map_remove(&worker->calls_by_serial, serial_key(&call->serial));
    upstream_instance_unref(call->instance);
    gw_session_unref(call->session);
    mem_free(call->id);
    mem_free(call->token);
    mem_free(call);
    gw_worker_check_drained(worker);
}

static char *own(struct slice bytes) {
    char *copy = mem_xalloc(bytes.len);
    memcpy(copy, bytes.ptr, bytes.len);
    return copy;
}

static struct gw_call *new_call(struct gw_exchange *exchange, const struct mcp_message *message) {
    struct gw_worker *worker = exchange->worker;
    struct gw_call *call = mem_xalloc(sizeof *call);
    call->worker = worker;
    call->serial = ++worker->last_serial;
    call->exchange = exchange;
    call->principal = exchange->principal;
    call->only = exchange->only;
    call->session = exchange->session != NULL ? gw_session_ref(exchange->session) : NULL;
    call->method = message->method;
    call->id = own(message->id);
    call->id_len = message->id.len;
    const struct json_node *token =
        message->meta != NULL ? json_member(worker->reader, message->meta, SLICE("progressToken"))
                              : NULL;
    if (token != NULL && (token->type == JSON_STRING || token->type == JSON_NUMBER) &&
        token->raw.len <= LIMIT_RPC_ID) {
        call->token = own(token->raw);
        call->token_len = token->raw.len;
    }
    list_push_back(&worker->calls, &call->link);
    if (map_set(&worker->calls_by_serial, serial_key(&call->serial), call) != 0)
        mem_exhausted(sizeof *call);
    return call;
}

/* Notes where the call runs, so that a cancellation finds it. False: its id is in use. */
static bool note_place(struct gw_call *call) {
    struct buf key = BUF_INIT(LIMIT_RPC_ID + 1);
    struct gw_call_place *place = mem_xalloc(sizeof *place);
    *place = (struct gw_call_place){.worker = call->worker, .serial = call->serial};
    bool is_noted = false;
    if (mcp_id_key(&key, gw_call_id(call)) == 0) {
        pthread_mutex_lock(&call->session->mutex);
        is_noted = !map_has(&call->session->calls, buf_slice(&key)) &&
                   map_set(&call->session->calls, buf_slice(&key), place) == 0;
        pthread_mutex_unlock(&call->session->mutex);
    }
    if (!is_noted)
        mem_free(place);
    buf_deinit(&key);
    return is_noted;
}

void gw_call_answer_scratch(struct gw_call *call) {
    struct gw_exchange *exchange = call->exchange;
    struct buf *scratch = &call->worker->scratch;
    if (buf_error(scratch) != 0) {
        struct slice id = gw_call_id(call);
        scratch = gw_worker_scratch(call->worker);
        mcp_write_error(scratch, id, MCP_E_INTERNAL,
                        SLICE("the answer is too long for the gateway"), SLICE_EMPTY);
    }
    free_call(call);
    gw_exchange_answer(exchange, buf_slice(scratch));
}

void gw_call_answer_result(struct gw_call *call, struct slice result) {
    mcp_write_result(gw_worker_scratch(call->worker), gw_call_id(call), result);
    gw_call_answer_scratch(call);
}

void gw_call_answer_error(struct gw_call *call, enum mcp_error_code code, struct slice text,
                          struct slice data) {
    mcp_write_error(gw_worker_scratch(call->worker), gw_call_id(call), code, text, data);
    gw_call_answer_scratch(call);
}

void gw_call_refuse(struct gw_call *call, enum mcp_error_code code, struct slice text) {
    if (call->method != MCP_TOOLS_CALL) {
        gw_call_answer_error(call, code, text, SLICE_EMPTY);
        return;
    }
    mcp_write_tool_error(gw_worker_scratch(call->worker), gw_call_id(call), text);
    gw_call_answer_scratch(call);
}

void gw_call_cancel(struct gw_worker *worker, uint64_t serial, struct slice reason) {
    struct gw_call *call = map_get(&worker->calls_by_serial, serial_key(&serial));
    if (call == NULL)
        return;
    struct gw_exchange *exchange = call->exchange;
    if (call->upstream_call != NULL)
        upstream_call_cancel(call->upstream_call, reason);
    free_call(call);
    /* A cancelled request gets no answer; the HTTP request gets its end. */
    gw_exchange_answer(exchange, SLICE_EMPTY);
}

/* Waiting. */

static void on_wait_over(void *context) {
    struct gw_call *call = context;
    call->resume(call, true);
}

void gw_call_wait(struct gw_call *call, void (*resume)(struct gw_call *call, bool is_late),
                  uint64_t most_ms) {
    call->resume = resume;
    if (!list_is_linked(&call->waiter_link))
        list_push_back(&call->worker->waiters, &call->waiter_link);
    if (call->wait_timer == NULL) {
        call->wait_timer = io_timer_new(call->worker->loop, on_wait_over, call);
        io_timer_start(call->wait_timer, most_ms);
    }
    gw_exchange_wait(call->exchange);
}

void gw_calls_recheck(struct gw_worker *worker) {
    struct list waiters;
    list_init(&waiters);
    list_splice_back(&waiters, &worker->waiters);
    struct list_link *link;
    while ((link = list_pop_front(&waiters)) != NULL) {
        struct gw_call *call = CONTAINER_OF(link, struct gw_call, waiter_link);
        call->resume(call, false);
    }
}

/* Methods. */

static void handle_ping(struct gw_call *call, const struct mcp_message *message) {
    (void)message;
    gw_call_answer_result(call, SLICE("{}"));
}

static void handle_set_level(struct gw_call *call, const struct mcp_message *message) {
    const struct json_node *node =
        mcp_param(call->worker->reader, message, SLICE("level"), JSON_STRING);
    int level = node != NULL ? mcp_log_level_parse(json_string_raw(node)) : -1;
    if (level < 0) {
        gw_call_answer_error(
            call, MCP_E_INVALID_PARAMS,
            SLICE("level must be one of debug, info, notice, warning, error, critical, "
                  "alert, emergency"),
            SLICE_EMPTY);
        return;
    }
    atomic_store(&call->session->log_level, level);
    int owner_level = gw_principal_log_level(call->principal);
    struct gw_view view;
    gw_view_open(&view, call->worker, call->principal, call->session, call->only);
    for (size_t i = 0; i < view.n; i++) {
        enum config_share share = upstream_config(view.items[i].upstream)->share;
        if (share != CONFIG_SHARE_ALL) /* whose log nobody gets but the operator */
            upstream_instance_set_log_level(view.items[i].instance,
                                            share == CONFIG_SHARE_SESSION ? level : owner_level);
    }
    gw_view_close(&view);
    gw_call_answer_result(call, SLICE("{}"));
}

/* Every revision that a client may name is answered with one that both know (MCP 2025-11-25,
 * basic/lifecycle). */
static enum mcp_revision negotiate(const struct json_reader *reader,
                                   const struct mcp_message *message) {
    const struct json_node *node =
        mcp_param(reader, message, SLICE("protocolVersion"), JSON_STRING);
    enum mcp_revision wanted =
        node != NULL ? mcp_revision_parse(json_string_raw(node)) : MCP_REVISION_NONE;
    return mcp_revision_is_legacy_http(wanted) ? wanted : MCP_LEGACY_LATEST;
}

static void write_capabilities(struct json_writer *writer, const struct gw_view *view,
                               bool is_only) {
    /* An endpoint of one upstream has what that one has, once it is known. */
    const struct catalog *known = is_only && view->n == 1 ? view->items[0].status.catalog : NULL;
    json_object_begin(writer);
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        if (i == MCP_LIST_TEMPLATES || (known != NULL && (known->declared & (1u << i)) == 0))
            continue;
        json_kv_raw(writer, mcp_list_info((enum mcp_list)i)->capability,
                    SLICE("{\"listChanged\":true}"));
    }
    if (known == NULL || known->has_logging)
        json_kv_raw(writer, SLICE("logging"), SLICE("{}"));
    if (known == NULL || known->has_completions)
        json_kv_raw(writer, SLICE("completions"), SLICE("{}"));
    json_object_end(writer);
}

/* What the upstreams say of themselves, each under its name when there are several. */
static void write_instructions(struct json_writer *writer, const struct gw_view *view,
                               bool is_only) {
    struct buf text = BUF_INIT(KIB(64));
    for (size_t i = 0; i < view->n; i++) {
        const struct catalog *catalog = view->items[i].status.catalog;
        if (catalog == NULL || catalog->instructions.len == 0 || !view->items[i].status.is_listed)
            continue;
        size_t before = buf_len(&text);
        if (!is_only)
            buf_printf(&text, "%s# %.*s\n\n", before != 0 ? "\n\n" : "",
                       SLICE_ARGS(upstream_name(view->items[i].upstream)));
        if (buf_append(&text, catalog->instructions) != 0) {
            text.error = 0; /* what does not fit is left out */
            buf_truncate(&text, before);
        }
    }
    if (buf_len(&text) != 0)
        json_kv_string(writer, SLICE("instructions"), buf_slice(&text));
    buf_deinit(&text);
}

static void handle_initialize(struct gw_call *call, const struct mcp_message *message) {
    struct gateway *gateway = call->worker->gateway;
    struct gw_exchange *exchange = call->exchange;
    enum mcp_revision revision = negotiate(call->worker->reader, message);
    exchange->session = gw_session_new(gateway, call->principal, call->only, revision,
                                       io_loop_now(call->worker->loop));
    if (exchange->session == NULL) {
        gw_call_answer_error(call, MCP_E_BUSY,
                             SLICE("max_sessions are open and in use; try again later"),
                             SLICE_EMPTY);
        return;
    }
    exchange->returns_session = true;
    struct gw_view view;
    struct json_writer writer;
    struct buf result = BUF_INIT(KIB(512)); /* escaping makes six bytes of one */
    gw_view_open(&view, call->worker, call->principal, exchange->session, call->only);
    json_writer_init(&writer, &result);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("protocolVersion"), mcp_revision_name(revision));
    json_key(&writer, SLICE("capabilities"));
    write_capabilities(&writer, &view, call->only != NULL);
    json_key(&writer, SLICE("serverInfo"));
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("name"), SLICE("cardea"));
    json_kv_string(&writer, SLICE("version"), gateway->version);
    json_object_end(&writer);
    write_instructions(&writer, &view, call->only != NULL);
    json_object_end(&writer);
    gw_view_close(&view);
    gw_call_answer_result(call, buf_slice(&result));
    buf_deinit(&result);
}

typedef void method_handler(struct gw_call *call, const struct mcp_message *message);

/* What clients may ask. A method without a row does not exist. */
static method_handler *const handlers[MCP_METHOD_COUNT] = {
    [MCP_INITIALIZE] = handle_initialize,       [MCP_PING] = handle_ping,
    [MCP_TOOLS_LIST] = gw_list_start,           [MCP_PROMPTS_LIST] = gw_list_start,
    [MCP_RESOURCES_LIST] = gw_list_start,       [MCP_RESOURCES_TEMPLATES_LIST] = gw_list_start,
    [MCP_TOOLS_CALL] = gw_route_start,          [MCP_PROMPTS_GET] = gw_route_start,
    [MCP_RESOURCES_READ] = gw_route_start,      [MCP_COMPLETION_COMPLETE] = gw_route_start,
    [MCP_LOGGING_SET_LEVEL] = handle_set_level,
};

/* The exchange counts the call already. */
static void start_call(struct gw_exchange *exchange, const struct mcp_message *message) {
    struct gw_call *call = new_call(exchange, message);
    log_write(exchange->worker->gateway->log, LOG_DEBUG, "mcp", "request",
              LOG_TEXT("method", message->method_text),
              LOG_TEXT("principal", exchange->principal->id));
    if (call->session != NULL && !note_place(call)) {
        gw_call_answer_error(call, MCP_E_INVALID_REQUEST,
                             SLICE("a request with this id is still running"), SLICE_EMPTY);
        return;
    }
    if (call->session != NULL && atomic_load(&call->session->is_closed)) {
        /* Ended on another worker after it was found here, perhaps too early to see this call. */
        gw_call_cancel(call->worker, call->serial, SLICE("the session has ended"));
        return;
    }
    if (handlers[message->method] == NULL) {
        gw_call_answer_error(call, MCP_E_METHOD_NOT_FOUND, SLICE("Method not found"), SLICE_EMPTY);
        return;
    }
    handlers[message->method](call, message);
}

/* Notifications. */

struct cancel_order {
    struct io_message message;
    struct gw_worker *worker;
    uint64_t serial;
    size_t reason_len;
    char reason[];
};

static void deliver_cancel(struct io_message *message) {
    struct cancel_order *order = CONTAINER_OF(message, struct cancel_order, message);
    gw_call_cancel(order->worker, order->serial, slice_make(order->reason, order->reason_len));
    mem_free(order);
}

/* The call may run on another worker: the order goes there. */
static void order_cancel(const struct gw_call_place *place, struct slice reason) {
    struct cancel_order *order = mem_xalloc(sizeof *order + reason.len);
    order->message.deliver = deliver_cancel;
    order->worker = place->worker;
    order->serial = place->serial;
    order->reason_len = reason.len;
    if (reason.len != 0)
        memcpy(order->reason, reason.ptr, reason.len);
    io_loop_post(place->worker->loop, &order->message);
}

void gw_session_cancel_calls(struct gw_session *session) {
    size_t cursor = 0;
    void *place = NULL;
    pthread_mutex_lock(&session->mutex);
    while (map_next(&session->calls, &cursor, NULL, &place))
        order_cancel(place, SLICE("the session has ended"));
    pthread_mutex_unlock(&session->mutex);
}

static void handle_cancelled(struct gw_exchange *exchange, const struct mcp_message *message) {
    enum { MAX_REASON = 200 };
    struct json_reader *reader = exchange->worker->reader;
    const struct json_node *id =
        message->params != NULL ? json_member(reader, message->params, SLICE("requestId")) : NULL;
    if (id == NULL || (id->type != JSON_STRING && id->type != JSON_NUMBER) ||
        id->raw.len > LIMIT_RPC_ID)
        return;
    struct buf key = BUF_INIT(LIMIT_RPC_ID + 1), reason = BUF_INIT(KIB(8));
    struct gw_call_place place = {0};
    if (mcp_id_key(&key, id->raw) == 0) {
        pthread_mutex_lock(&exchange->session->mutex);
        struct gw_call_place *found = map_get(&exchange->session->calls, buf_slice(&key));
        if (found != NULL)
            place = *found;
        pthread_mutex_unlock(&exchange->session->mutex);
    }
    const struct json_node *text = mcp_param(reader, message, SLICE("reason"), JSON_STRING);
    if (place.worker != NULL) {
        if (text != NULL && json_string_append(&reason, text) != 0)
            buf_reset(&reason, 0);
        struct slice cut = slice_sub(buf_slice(&reason), 0, MAX_REASON);
        order_cancel(&place, cut);
    }
    buf_deinit(&key);
    buf_deinit(&reason);
}

/* initialized, progress and roots/list_changed concern requests that the gateway does not send yet:
 * taken, dropped. */
static void handle_notification(struct gw_exchange *exchange, const struct mcp_message *message) {
    if (message->method == MCP_NOTIFY_CANCELLED)
        handle_cancelled(exchange, message);
}

/* One POST. */

static void refuse_message(struct gw_exchange *exchange, const struct mcp_refusal *refusal) {
    struct buf body = BUF_INIT(KIB(4));
    mcp_write_error(&body, refusal->id, refusal->code, slice_from_cstr(refusal->reason),
                    SLICE_EMPTY);
    log_write(exchange->worker->gateway->log, LOG_INFO, "mcp", "refused a message",
              LOG_CSTR("reason", refusal->reason));
    gw_exchange_refuse_json(exchange, 400, buf_slice(&body));
    buf_deinit(&body);
}

/*
 * A client of the era without sessions names its revision in every request. It is told what is
 * served (MCP 2026-07-28, basic/versioning: -32022 with data.supported), and falls back to
 * initialize by itself.
 */
static bool refuse_modern(struct gw_exchange *exchange, const struct mcp_message *message) {
    enum { UNSUPPORTED_VERSION = -32022 };
    const struct json_node *claim =
        message->meta != NULL ? json_member(exchange->worker->reader, message->meta,
                                            SLICE("io.modelcontextprotocol/protocolVersion"))
                              : NULL;
    bool header_is_modern = exchange->has_version_header && exchange->version_header_known &&
                            exchange->version_header > MCP_LEGACY_LATEST;
    if (claim == NULL && !header_is_modern)
        return false;
    struct buf data = BUF_INIT(KIB(4)), body = BUF_INIT(KIB(8));
    struct json_writer writer;
    json_writer_init(&writer, &data);
    json_object_begin(&writer);
    json_key(&writer, SLICE("supported"));
    json_array_begin(&writer);
    for (int revision = MCP_LEGACY_LATEST; revision >= MCP_2025_03_26; revision--)
        json_string(&writer, mcp_revision_name((enum mcp_revision)revision));
    json_array_end(&writer);
    if (claim != NULL && claim->type == JSON_STRING && claim->raw.len < 64)
        json_kv_raw(&writer, SLICE("requested"), claim->raw);
    else
        json_kv_string(&writer, SLICE("requested"), mcp_revision_name(MCP_2026_07_28));
    json_object_end(&writer);
    mcp_write_error(&body, message->id, (enum mcp_error_code)UNSUPPORTED_VERSION,
                    SLICE("Unsupported protocol version: send initialize"), buf_slice(&data));
    gw_exchange_refuse_json(exchange, 400, buf_slice(&body));
    buf_deinit(&data);
    buf_deinit(&body);
    return true;
}

static void run_batch(struct gw_exchange *exchange) {
    struct json_reader *reader = exchange->worker->reader;
    struct slice elements[MAX_BATCH];
    struct mcp_message message;
    struct mcp_refusal refusal = {0};
    size_t count = 0, n_requests = 0;
    if (!gw_exchange_has_session(exchange))
        return;
    if (exchange->session->revision != MCP_2025_03_26) {
        refusal = (struct mcp_refusal){.code = MCP_E_INVALID_REQUEST,
                                       .reason = "batches exist in 2025-03-26 only"};
        refuse_message(exchange, &refusal);
        return;
    }
    int error =
        mcp_batch_split(reader, buf_slice(&exchange->body), elements, MAX_BATCH, &count, &refusal);
    for (size_t i = 0; i < count && error == 0; i++) {
        error = mcp_message_read(reader, elements[i], &message, &refusal);
        if (error == 0 && message.kind == MCP_REQUEST && message.method == MCP_INITIALIZE) {
            refusal.code = MCP_E_INVALID_REQUEST;
            refusal.reason = "initialize must not be part of a batch";
            error = MCP_E_REFUSED;
        }
        n_requests += error == 0 && message.kind == MCP_REQUEST ? 1 : 0;
    }
    if (error != 0) {
        if (error < 0)
            refusal = (struct mcp_refusal){.code = MCP_E_INTERNAL, .reason = "out of memory"};
        refuse_message(exchange, &refusal);
        return;
    }
    exchange->is_batch = true;
    exchange->n_calls = n_requests;
    if (n_requests != 0)
        gw_exchange_wait(exchange);
    /* Every element was read once already and cannot be refused now. Requests last: the answer to
     * the last of them ends the exchange. */
    for (size_t i = 0; i < count; i++) {
        if (mcp_message_read(reader, elements[i], &message, &refusal) != 0)
            mem_exhausted(elements[i].len);
        if (message.kind == MCP_NOTIFICATION)
            handle_notification(exchange, &message);
    }
    for (size_t i = 0; i < count && n_requests != 0; i++) {
        if (mcp_message_read(reader, elements[i], &message, &refusal) != 0)
            mem_exhausted(elements[i].len);
        if (message.kind != MCP_REQUEST)
            continue;
        bool is_last = --n_requests == 0;
        start_call(exchange, &message);
        if (is_last)
            return;
    }
    gw_exchange_accepted(exchange);
}

void gw_message_run(struct gw_exchange *exchange) {
    struct mcp_message message;
    struct mcp_refusal refusal;
    struct slice document = buf_slice(&exchange->body);
    if (mcp_is_batch(document)) {
        run_batch(exchange);
        return;
    }
    int error = mcp_message_read(exchange->worker->reader, document, &message, &refusal);
    if (error != 0) {
        if (error < 0)
            refusal = (struct mcp_refusal){.code = MCP_E_INTERNAL, .reason = "out of memory"};
        refuse_message(exchange, &refusal);
        return;
    }
    if (refuse_modern(exchange, &message))
        return;
    bool is_initialize = message.kind == MCP_REQUEST && message.method == MCP_INITIALIZE;
    if (is_initialize && exchange->session_id_sent) {
        gw_exchange_refuse(exchange, 400, MCP_E_INVALID_REQUEST,
                           "initialize opens a session; it cannot be sent inside one");
        return;
    }
    if (!is_initialize && !gw_exchange_has_session(exchange))
        return;
    if (message.kind != MCP_REQUEST) {
        if (message.kind == MCP_NOTIFICATION)
            handle_notification(exchange, &message);
        gw_exchange_accepted(exchange);
        return;
    }
    exchange->n_calls = 1;
    start_call(exchange, &message);
}
