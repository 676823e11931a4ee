/*
 * One JSON-RPC message, or a batch of them: its era first (modern.c has the one without sessions),
 * then its session, then its kind. Requests go on as calls.
 */
#include "base/mem.h"
#include "private.h"

void gw_message_refuse(struct gw_exchange *exchange, uint16_t status, struct slice id,
                       enum mcp_error_code code, const char *reason, struct slice data) {
    struct buf body = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK * 6 + KIB(8));
    mcp_write_error(&body, id, code, slice_from_cstr(reason), data);
    log_write(exchange->worker->gateway->log, LOG_INFO, "mcp", "refused a message",
              LOG_NUM("status", status), LOG_CSTR("reason", reason));
    gw_exchange_refuse_json(exchange, status, reason, buf_slice(&body));
    buf_deinit(&body);
}

static void refuse(struct gw_exchange *exchange, const struct mcp_refusal *refusal) {
    gw_message_refuse(exchange, 400, refusal->id, refusal->code, refusal->reason, SLICE_EMPTY);
}

/* The exchange counts the call already. */
static void start_call(struct gw_exchange *exchange, const struct mcp_message *message) {
    enum mcp_revision revision =
        exchange->session != NULL ? exchange->session->revision : MCP_LEGACY_LATEST;
    struct gw_call *call = gw_call_new(exchange, message, revision);
    if (call != NULL)
        gw_method_run(call, message);
}

/* Notifications. */

static void handle_cancelled(struct gw_exchange *exchange, const struct mcp_message *message) {
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
        struct slice cut = slice_sub(buf_slice(&reason), 0, LIMIT_CANCEL_REASON);
        gw_call_order_cancel(&place, cut);
    }
    buf_deinit(&key);
    buf_deinit(&reason);
}

/* What belongs to no request (initialized, roots/list_changed) is taken and dropped. */
static void handle_notification(struct gw_exchange *exchange, const struct mcp_message *message) {
    if (message->method == MCP_NOTIFY_CANCELLED)
        handle_cancelled(exchange, message);
    else if (message->method == MCP_NOTIFY_PROGRESS)
        gw_ask_progress(exchange, message);
}

/* An answer or a notification. */
static void handle_other(struct gw_exchange *exchange, const struct mcp_message *message) {
    if (message->kind == MCP_NOTIFICATION)
        handle_notification(exchange, message);
    else if (message->kind != MCP_REQUEST)
        gw_ask_answered(exchange, message);
}

/* One POST. */

/* The elements are read twice: here, to refuse the batch as a whole, and when they are run. */
static int check_batch(struct json_reader *reader, const struct slice *elements, size_t count,
                       size_t *ret_n_requests, struct mcp_refusal *refusal) {
    struct mcp_message message;
    size_t n_requests = 0;
    for (size_t i = 0; i < count; i++) {
        int error = mcp_message_read(reader, elements[i], &message, refusal);
        if (error != 0)
            return error;
        refusal->code = MCP_E_INVALID_REQUEST;
        if (message.kind == MCP_REQUEST && message.method == MCP_INITIALIZE) {
            refusal->reason = "initialize must not be part of a batch";
            return MCP_E_REFUSED;
        }
        if (mcp_has_envelope(reader, &message)) {
            refusal->reason = "a message of 2026-07-28 must not be part of a batch";
            return MCP_E_REFUSED;
        }
        n_requests += message.kind == MCP_REQUEST ? 1 : 0;
    }
    *ret_n_requests = n_requests;
    return 0;
}

/* There is no memory to look at the rest of a batch: whom they belong to learns it by the end of
 * the connection. */
static void leave_unanswered(struct gw_exchange *exchange, size_t n_requests) {
    struct gw_connection *connection =
        exchange->carrier != NULL ? exchange->carrier->connection : exchange->connection;
    if (connection != NULL)
        gw_connection_abort(connection);
    for (; n_requests != 0; n_requests--) {
        gw_record_refused(exchange, 503, "memory", SLICE_EMPTY);
        gw_exchange_answer(exchange, NULL, 0);
    }
}

static void run_elements(struct gw_exchange *exchange, const struct slice *elements, size_t count,
                         size_t n_requests) {
    struct json_reader *reader = exchange->worker->reader;
    struct mcp_message message;
    struct mcp_refusal refusal;
    exchange->is_batch = true;
    exchange->n_calls = exchange->n_asked = n_requests;
    if (n_requests != 0)
        gw_exchange_wait(exchange);
    /* Every element was read once already and cannot be refused now. Requests last: the answer to
     * the last of them ends the exchange. */
    for (size_t i = 0; i < count; i++) {
        if (mcp_message_read(reader, elements[i], &message, &refusal) == 0)
            handle_other(exchange, &message);
    }
    for (size_t i = 0; i < count && n_requests != 0; i++) {
        if (mcp_message_read(reader, elements[i], &message, &refusal) != 0) {
            leave_unanswered(exchange, n_requests);
            return;
        }
        if (message.kind != MCP_REQUEST)
            continue;
        bool is_last = --n_requests == 0;
        start_call(exchange, &message);
        if (is_last)
            return;
    }
    gw_exchange_accepted(exchange);
}

static void run_batch(struct gw_exchange *exchange, struct slice document) {
    struct json_reader *reader = exchange->worker->reader;
    _Static_assert(LIMIT_BATCH == 100, "the refusal says so");
    struct slice elements[LIMIT_BATCH];
    struct mcp_refusal refusal = {0};
    size_t count = 0, n_requests = 0;
    int error = mcp_batch_split(reader, document, elements, LIMIT_BATCH, &count, &refusal);
    if (error == 0)
        error = check_batch(reader, elements, count, &n_requests, &refusal);
    if (error != 0) {
        if (error < 0)
            refusal = (struct mcp_refusal){.code = MCP_E_INTERNAL, .reason = "out of memory"};
        refuse(exchange, &refusal);
        return;
    }
    if (!exchange->version_header_is_modern && !gw_exchange_has_session(exchange))
        return;
    if (exchange->session == NULL || exchange->session->revision > MCP_2025_03_26) {
        refusal = (struct mcp_refusal){.code = MCP_E_INVALID_REQUEST,
                                       .reason = "batches exist up to 2025-03-26 only"};
        refuse(exchange, &refusal);
        return;
    }
    if (n_requests == 0 || (gw_exchange_takes_requests(exchange) && !gw_sse_is_full(exchange)))
        run_elements(exchange, elements, count, n_requests);
}

/* Up to 2025-11-25: initialize opens a session, all else belongs to one. */
static void run_legacy(struct gw_exchange *exchange, const struct mcp_message *message) {
    bool is_initialize = message->kind == MCP_REQUEST && message->method == MCP_INITIALIZE;
    if (is_initialize && exchange->session_id_sent) {
        gw_exchange_refuse(exchange, 400, MCP_E_INVALID_REQUEST,
                           "initialize opens a session; it cannot be sent inside one");
        return;
    }
    if (!is_initialize && !gw_exchange_has_session(exchange))
        return;
    if (message->kind != MCP_REQUEST) {
        handle_other(exchange, message);
        gw_exchange_accepted(exchange);
        return;
    }
    if (!gw_exchange_takes_requests(exchange) || gw_sse_is_full(exchange))
        return;
    exchange->n_calls = exchange->n_asked = 1;
    start_call(exchange, message);
}

static void run(struct gw_exchange *exchange, struct slice document) {
    struct mcp_message message;
    struct mcp_refusal refusal;
    if (mcp_is_batch(document)) {
        run_batch(exchange, document);
        return;
    }
    int error = mcp_message_read(exchange->worker->reader, document, &message, &refusal);
    if (error != 0) {
        if (error < 0)
            refusal = (struct mcp_refusal){.code = MCP_E_INTERNAL, .reason = "out of memory"};
        refuse(exchange, &refusal);
        return;
    }
    if (!gw_modern_run(exchange, &message))
        run_legacy(exchange, &message);
}

void gw_message_run(struct gw_exchange *exchange) {
    /* Not held while the upstream works: who needs the message later keeps a copy. The exchange may
     * be gone afterwards. */
    struct buf body = exchange->body;
    buf_init(&exchange->body, 0);
    run(exchange, buf_slice(&body));
    buf_deinit(&body);
}
