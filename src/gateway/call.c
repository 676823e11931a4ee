/*
 * One request of a client that is being answered: it is made, perhaps waits for an upstream, is
 * answered or cancelled, and is gone. What the client hears is said in the words of its revision.
 */
#include <errno.h>

#include "base/mem.h"
#include "private.h"

#define SCRATCH_KEPT KIB(256)

static const struct slice out_of_memory = SLICE_INIT("the gateway is out of memory");

/* Why an answer could not be put together. */
static struct slice why_not(int error) {
    return error == -ENOMEM ? out_of_memory : SLICE("the answer is too long for the gateway");
}

struct buf *gw_worker_scratch(struct gw_worker *worker) {
    buf_reset(&worker->scratch, SCRATCH_KEPT);
    worker->scratch.max = worker->gateway->max_message + worker->config->max_request_body + MIB(1);
    return &worker->scratch;
}

struct slice gw_call_id(const struct gw_call *call) {
    return slice_make(call->id, call->id_len);
}

struct slice gw_call_uri(const struct gw_call *call) {
    return slice_make(call->uri, call->uri_len);
}

static bool is_modern(const struct gw_call *call) {
    return mcp_revision_is_modern(call->revision);
}

/* Its life. */

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

void gw_call_rest(struct gw_call *call) {
    list_remove(&call->waiter_link);
    call->wait_timer = io_timer_free(call->wait_timer);
}

void gw_call_stop_waiting(struct gw_call *call) {
    gw_call_rest(call);
    mem_free(TAKE(call->document));
    budget_give_back(io_loop_budget(call->worker->loop), call->document_len);
    call->document_len = 0;
}

bool gw_call_keep(struct gw_call *call, const struct mcp_message *message) {
    if (call->document != NULL)
        return true;
    struct buf copy = BUF_INIT(call->worker->config->max_request_body + KIB(16));
    mcp_write_request(&copy, message->id, message->method,
                      message->params != NULL ? message->params->raw : SLICE_EMPTY);
    call->document = buf_take(&copy, &call->document_len);
    buf_deinit(&copy);
    if (call->document == NULL) {
        gw_call_answer_error(call, MCP_E_INTERNAL, out_of_memory, SLICE_EMPTY);
        return false;
    }
    budget_add(io_loop_budget(call->worker->loop), call->document_len);
    return true;
}

static void free_parts(struct gw_call *call) {
    mem_free(call->id);
    mem_free(call->token);
    mem_free(call->uri);
    mem_free(call->task);
    mem_free(call);
}

static void free_call(struct gw_call *call) {
    struct gw_worker *worker = call->worker;
    gw_call_drop_asks(call);
    gw_listen_drop(call);
    gw_call_free_input(call);
    call->run = gw_run_free(call->run);
    gw_call_leave(call);
    gw_call_leave_slot(call);
    gw_record_free(call);
    call->units = gw_units_free(call->units);
    list_remove(&call->exchange_link);
    forget_place(call);
    gw_call_stop_waiting(call);
    list_remove(&call->link);
    map_remove(&worker->calls_by_serial, serial_key(&call->serial));
    gw_session_unref(call->session);
    free_parts(call);
    gw_worker_check_drained(worker);
}

static char *own(struct slice bytes) {
    char *copy = mem_alloc(bytes.len);
    if (copy != NULL)
        memcpy(copy, bytes.ptr, bytes.len);
    return copy;
}

/* What of the message is needed when the request's body is gone. False: there is no memory. */
static bool keep_parts(struct gw_call *call, const struct mcp_message *message) {
    const struct json_reader *reader = call->worker->reader;
    bool has_all = true;
    call->id = own(message->id);
    call->id_len = message->id.len;
    const struct json_node *token =
        message->meta != NULL ? json_member(reader, message->meta, SLICE("progressToken")) : NULL;
    if (token != NULL && (token->type == JSON_STRING || token->type == JSON_NUMBER) &&
        token->raw.len <= LIMIT_RPC_ID) {
        call->token = own(token->raw);
        call->token_len = token->raw.len;
    }
    const struct json_node *uri = message->method == MCP_RESOURCES_READ
                                      ? mcp_param(reader, message, SLICE("uri"), JSON_STRING)
                                      : NULL;
    if (uri != NULL && uri->raw.len <= LIMIT_URI_LENGTH) {
        call->uri = own(uri->raw);
        call->uri_len = uri->raw.len;
        has_all = call->uri != NULL;
    }
    return has_all && call->id != NULL && (call->token != NULL || call->token_len == 0);
}

/* Notes where the call runs, so that a cancellation finds it. -EEXIST: its id is in use. */
static int note_place(struct gw_call *call) {
    struct buf key = BUF_INIT(LIMIT_RPC_ID + 1);
    struct gw_call_place *place = mem_alloc(sizeof *place);
    int error = place != NULL ? mcp_id_key(&key, gw_call_id(call)) : -ENOMEM;
    if (error == 0) {
        *place = (struct gw_call_place){.worker = call->worker, .serial = call->serial};
        pthread_mutex_lock(&call->session->mutex);
        error = map_has(&call->session->calls, buf_slice(&key))
                    ? -EEXIST
                    : map_set(&call->session->calls, buf_slice(&key), place);
        pthread_mutex_unlock(&call->session->mutex);
    }
    if (error != 0)
        mem_free(place);
    buf_deinit(&key);
    return error;
}

/* The call, which nobody knows yet; NULL: there is no memory. */
static struct gw_call *make(struct gw_worker *worker, const struct mcp_message *message) {
    struct gw_call *call = mem_alloc(sizeof *call);
    if (call == NULL)
        return NULL;
    call->worker = worker;
    call->serial = ++worker->last_serial;
    list_init(&call->asks);
    if (keep_parts(call, message) &&
        map_set(&worker->calls_by_serial, serial_key(&call->serial), call) == 0)
        return call;
    free_parts(call);
    return NULL;
}

static void refuse_new(struct gw_exchange *exchange, const struct mcp_message *message) {
    gw_record_refused(exchange, 200, "memory", out_of_memory);
    struct buf *out = gw_worker_scratch(exchange->worker);
    mcp_write_error(out, message->id, MCP_E_INTERNAL, out_of_memory, SLICE_EMPTY);
    struct slice whole = buf_slice(out);
    gw_exchange_answer(exchange, &whole, 1);
}

struct gw_call *gw_call_new(struct gw_exchange *exchange, const struct mcp_message *message,
                            enum mcp_revision revision) {
    struct gw_worker *worker = exchange->worker;
    struct gw_call *call = make(worker, message);
    if (call == NULL) {
        refuse_new(exchange, message);
        return NULL;
    }
    call->exchange = exchange;
    call->principal = exchange->principal;
    call->only = exchange->only;
    call->session = exchange->session != NULL ? gw_session_ref(exchange->session) : NULL;
    call->method = message->method;
    call->revision = revision;
    call->capabilities = call->session != NULL ? call->session->capabilities : 0;
    call->log_level = -1;
    call->began_ms = io_loop_now(worker->loop);
    list_push_back(&worker->calls, &call->link);
    list_push_back(&exchange->calls, &call->exchange_link);
    log_write(worker->gateway->log, LOG_DEBUG, "mcp", "request",
              LOG_TEXT("method", message->method_text),
              LOG_TEXT("principal", exchange->principal->id));
    gw_record_begin(call, message);
    int error = call->session != NULL ? note_place(call) : 0;
    if (error != 0) {
        bool is_in_use = error == -EEXIST;
        gw_call_answer_error(call, is_in_use ? MCP_E_INVALID_REQUEST : MCP_E_INTERNAL,
                             is_in_use ? SLICE("a request with this id is still running")
                                       : out_of_memory,
                             SLICE_EMPTY);
        return NULL;
    }
    if (call->session != NULL && atomic_load(&call->session->is_closed)) {
        /* Ended on another worker after it was found here, perhaps too early to see this call. */
        gw_call_cancel(call->worker, call->serial, SLICE("the session has ended"));
        return NULL;
    }
    return call;
}

const struct http_head *gw_call_head(const struct gw_call *call) {
    return gw_exchange_fields(call->exchange);
}

size_t gw_call_param_fields(const struct gw_call *call, struct mcp_param_field *fields,
                            size_t max) {
    const struct slice prefix = SLICE("mcp-param-");
    const struct http_head *head = gw_call_head(call);
    size_t n = 0;
    for (size_t i = 0; head != NULL && i < head->n_fields && n < max; i++) {
        const struct http_field *field = &head->fields[i];
        if (slice_starts_with_nocase(field->name, prefix))
            fields[n++] = (struct mcp_param_field){.name = slice_from(field->name, prefix.len),
                                                   .value = field->value};
    }
    return n;
}

void gw_call_want_logs(const struct gw_call *call, const struct upstream *upstream,
                       struct upstream_instance *instance) {
    atomic_int *level = &call->principal->requests_log_level;
    if (call->log_level < 0 || upstream_config(upstream)->share == CONFIG_SHARE_ALL)
        return;
    int known = atomic_load(level);
    while ((known < 0 || call->log_level < known) &&
           !atomic_compare_exchange_weak(level, &known, call->log_level))
        ;
    upstream_instance_set_log_level(instance, gw_principal_log_level(call->principal));
}

/* Answers. */

struct mcp_implementation gw_implementation(const struct gateway *gateway) {
    return (struct mcp_implementation){.name = SLICE("cardea"), .version = gateway->version};
}

void gw_write_implementation(struct json_writer *writer, const struct gateway *gateway) {
    struct mcp_implementation self = gw_implementation(gateway);
    json_object_begin(writer);
    json_kv_string(writer, SLICE("name"), self.name);
    json_kv_string(writer, SLICE("version"), self.version);
    json_object_end(writer);
}

void gw_write_result_meta(struct json_writer *writer, const struct gateway *gateway) {
    json_key(writer, SLICE("_meta"));
    json_object_begin(writer);
    json_key(writer, MCP_META_SERVER_INFO);
    gw_write_implementation(writer, gateway);
    json_object_end(writer);
}

/* MCP 2026-07-28, basic/index and server/utilities/caching. */
void gw_write_modern_members(struct json_writer *writer, const struct gateway *gateway,
                             const struct mcp_cache *cache) {
    json_kv_string(writer, SLICE("resultType"), SLICE("complete"));
    if (cache != NULL)
        mcp_cache_write(writer, *cache);
    gw_write_result_meta(writer, gateway);
}

static void answer(struct gw_call *call, const struct slice *parts, size_t n_parts) {
    struct gw_exchange *exchange = call->exchange;
    struct gw_session *listen = TAKE(call->listen);
    free_call(call);
    if (listen != NULL)
        gw_listen_begin(exchange, listen, parts, n_parts);
    else
        gw_exchange_answer(exchange, parts, n_parts);
}

void gw_call_answer_parts(struct gw_call *call, const struct slice *parts, size_t n_parts) {
    if (!gw_record_end(call, parts, n_parts))
        answer(call, parts, n_parts);
}

void gw_call_answer_held(struct gw_call *call) {
    struct slice whole = slice_make(call->record.held, call->record.held_len);
    budget_give_back(io_loop_budget(call->worker->loop), whole.len);
    CLEANUP(mem_freep) char *held = TAKE(call->record.held);
    answer(call, &whole, 1);
}

void gw_call_answer_scratch(struct gw_call *call) {
    struct buf *scratch = &call->worker->scratch;
    if (buf_error(scratch) != 0) {
        struct slice id = gw_call_id(call);
        struct slice text = why_not(buf_error(scratch));
        scratch = gw_worker_scratch(call->worker);
        mcp_write_error(scratch, id, MCP_E_INTERNAL, text, SLICE_EMPTY);
    }
    struct slice whole = buf_slice(scratch);
    gw_call_answer_parts(call, &whole, 1);
}

/* A result that goes on as it came is not copied. */
static void answer_as_is(struct gw_call *call, struct slice result) {
    struct buf *begin = gw_worker_scratch(call->worker);
    mcp_write_result_begin(begin, gw_call_id(call));
    struct slice parts[] = {buf_slice(begin), result, SLICE("}")};
    if (buf_error(begin) != 0)
        gw_call_answer_scratch(call);
    else
        gw_call_answer_parts(call, parts, ARRAY_LEN(parts));
}

static void answer_resource_not_found(struct gw_call *call) {
    struct buf data = BUF_INIT(LIMIT_URI_LENGTH + KIB(1));
    struct json_writer writer;
    if (call->uri != NULL) {
        json_writer_init(&writer, &data);
        json_object_begin(&writer);
        json_kv_raw(&writer, SLICE("uri"), gw_call_uri(call));
        json_object_end(&writer);
    }
    gw_call_answer_error(call, MCP_E_RESOURCE_NOT_FOUND, SLICE("Resource not found"),
                         buf_slice(&data));
    buf_deinit(&data);
}

void gw_call_answer_result(struct gw_call *call, struct slice result, enum mcp_revision from) {
    bool is_read = call->method == MCP_RESOURCES_READ && is_modern(call);
    bool is_needed = mcp_bridge_result_needed(from, call->revision);
    if (!is_needed && !is_read) {
        answer_as_is(call, result);
        return;
    }
    struct buf bridged = BUF_INIT(gw_worker_scratch(call->worker)->max);
    struct mcp_implementation self = gw_implementation(call->worker->gateway);
    struct json_reader *reader = call->worker->second_reader;
    const char *reason = NULL;
    int error = is_needed ? mcp_bridge_result(&bridged, reader, call->method, result, from,
                                              call->revision, &self, &reason)
                          : mcp_cache_limit(&bridged, reader, result, call->read_cache, &reason);
    if (error == 0) {
        answer_as_is(call, buf_slice(&bridged));
    } else if (error != MCP_E_REFUSED) {
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the answer is too long for the gateway"),
                             SLICE_EMPTY);
    } else if (reason == NULL) {
        answer_resource_not_found(call);
    } else {
        gw_call_refuse(call, MCP_E_UNSUPPORTED, slice_from_cstr(reason));
    }
    buf_deinit(&bridged);
}

/*
 * The codes of 2026-07-28 that say what is wrong with a request's envelope or header come with 400,
 * whoever found it (MCP 2026-07-28, basic/transports/streamable-http); all others are answers like
 * results. A stream that has begun keeps its 200.
 */
static void set_status(const struct gw_call *call, int code) {
    if (is_modern(call) && (code == MCP_E_HEADER_MISMATCH || code == MCP_E_MISSING_CAPABILITY ||
                            code == MCP_E_UNSUPPORTED_VERSION))
        call->exchange->status = 400;
}

/*
 * A server of 2026-07-28 refuses a tool that needs what the client cannot do; the model of a client
 * with sessions is told so in the tool's result, where it can read it. True: it has been.
 */
static bool answered_missing_capability(struct gw_call *call, struct slice error,
                                        enum mcp_revision from) {
    struct json_reader *reader = call->worker->second_reader;
    int64_t code = 0;
    if (call->method != MCP_TOOLS_CALL || is_modern(call) || !mcp_revision_is_modern(from) ||
        json_read(reader, error, &json_want_root, NULL, NULL) != 0)
        return false;
    const struct json_node *number = json_member(reader, json_root(reader), SLICE("code"));
    const struct json_node *message =
        json_member_typed(reader, json_root(reader), SLICE("message"), JSON_STRING);
    if (number == NULL || json_to_i64(number, &code) != 0 || code != MCP_E_MISSING_CAPABILITY)
        return false;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    buf_append_cstr(&text, "the tool needs something that this client, or the gateway, cannot do");
    if (message != NULL) {
        buf_append_cstr(&text, ": ");
        if (json_string_append(&text, message) != 0)
            return false; /* too long to be told as text: as the error that it is, then */
    }
    gw_call_refuse(call, MCP_E_UNAVAILABLE, buf_slice(&text));
    return true;
}

void gw_call_answer_error_object(struct gw_call *call, struct slice error, struct slice uri,
                                 enum mcp_revision from) {
    if (answered_missing_capability(call, error, from))
        return;
    struct buf *out = gw_worker_scratch(call->worker);
    if (!is_modern(call) && !mcp_revision_is_modern(from)) {
        mcp_write_error_object(out, gw_call_id(call), error);
        gw_call_answer_scratch(call);
        return;
    }
    struct buf bridged = BUF_INIT(out->max);
    int code = 0;
    if (mcp_bridge_error(&bridged, call->worker->second_reader, call->method, error, uri, from,
                         call->revision, &code) == 0) {
        mcp_write_error_object(out, gw_call_id(call), buf_slice(&bridged));
        set_status(call, code);
        gw_call_answer_scratch(call);
    } else {
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the answer is too long for the gateway"),
                             SLICE_EMPTY);
    }
    buf_deinit(&bridged);
}

void gw_call_answer_error(struct gw_call *call, enum mcp_error_code code, struct slice text,
                          struct slice data) {
    /* A code that 2026-07-28 took back (server/resources). */
    if (code == MCP_E_RESOURCE_NOT_FOUND && is_modern(call))
        code = MCP_E_INVALID_PARAMS;
    gw_listen_drop(call); /* this is no acknowledgement */
    set_status(call, code);
    gw_record_refusal(call, code, text);
    mcp_write_error(gw_worker_scratch(call->worker), gw_call_id(call), code, text, data);
    gw_call_answer_scratch(call);
}

void gw_call_refuse(struct gw_call *call, enum mcp_error_code code, struct slice text) {
    struct buf result CLEANUP(buf_deinit) = BUF_INIT(call->worker->gateway->max_message);
    gw_record_refusal(call, code, text);
    if (call->method != MCP_TOOLS_CALL)
        gw_call_answer_error(call, code, text, SLICE_EMPTY);
    else if (mcp_write_tool_error(&result, text) == 0)
        gw_call_answer_result(call, buf_slice(&result), MCP_LEGACY_LATEST);
    else
        gw_call_answer_error(call, MCP_E_INTERNAL, out_of_memory, SLICE_EMPTY);
}

/* Cancelling. */

void gw_call_cancel(struct gw_worker *worker, uint64_t serial, struct slice reason) {
    struct gw_call *call = map_get(&worker->calls_by_serial, serial_key(&serial));
    if (call == NULL)
        return;
    struct gw_exchange *exchange = call->exchange;
    if (call->upstream_call != NULL) {
        gw_call_decline_asks(call);
        upstream_call_cancel(call->upstream_call, reason);
    }
    gw_record_cancelled(call);
    free_call(call);
    /* A cancelled request gets no answer; the HTTP request gets its end. */
    gw_exchange_answer(exchange, NULL, 0);
}

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

void gw_call_order_cancel(const struct gw_call_place *place, struct slice reason) {
    struct cancel_order *order = mem_xalloc(sizeof *order + reason.len); /* 200 bytes at most */
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
        gw_call_order_cancel(place, SLICE("the session has ended"));
    pthread_mutex_unlock(&session->mutex);
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
