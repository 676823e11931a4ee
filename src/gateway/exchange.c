/*
 * One HTTP request and its answer. The phases up to the body are a table: each looks at the head
 * and goes on or answers. The answer is one JSON message, or a stream of them when something has to
 * be said before the end.
 */
#include <time.h>

#include "base/mem.h"
#include "http/sse.h"
#include "private.h"

enum { ALIVE_MS = 15000 };

struct gw_exchange *gw_exchange_new(struct gw_connection *connection) {
    struct gw_exchange *exchange = mem_xalloc(sizeof *exchange);
    exchange->worker = connection->worker;
    exchange->connection = connection;
    buf_init_held(&exchange->body, connection->worker->gateway->config->max_request_body,
                  io_loop_budget(connection->worker->loop));
    buf_init(&exchange->early, KIB(8));
    return exchange;
}

static void free_exchange(struct gw_exchange *exchange) {
    if (exchange->is_get_stream && exchange->session != NULL) {
        struct gw_session *session = exchange->session;
        map_remove(&exchange->worker->streams, slice_from_cstr(session->id));
        pthread_mutex_lock(&session->mutex);
        session->stream_worker = NULL;
        pthread_mutex_unlock(&session->mutex);
        atomic_store(&session->last_used_ms, io_loop_now(exchange->worker->loop));
    }
    gw_session_unref(exchange->session);
    io_timer_free(exchange->alive_timer);
    buf_deinit(&exchange->body);
    buf_deinit(&exchange->early);
    mem_free(exchange);
}

/* The client is gone. From 2026-07-28 on that cancels its request; before, disconnecting is not
 * cancelling: its calls go on, and their answers are dropped. */
void gw_exchange_unref_connection(struct gw_exchange *exchange) {
    exchange->connection = NULL;
    if (exchange->alive_timer != NULL)
        io_timer_stop(exchange->alive_timer);
    if (exchange->n_calls == 0) {
        free_exchange(exchange);
    } else if (exchange->is_modern) {
        log_write(exchange->worker->gateway->log, LOG_DEBUG, "mcp", "the client hung up",
                  LOG_TEXT("principal", exchange->principal->id));
        gw_call_cancel(exchange->worker, exchange->serial, SLICE("the client hung up"));
    }
}

static void finish(struct gw_exchange *exchange) {
    struct gw_connection *connection = exchange->connection;
    bool keep_alive = exchange->keep_alive;
    if (connection != NULL)
        connection->exchange = NULL;
    free_exchange(exchange);
    if (connection != NULL)
        gw_connection_answered(connection, keep_alive);
}

/* Writing. */

static void append_date(struct buf *out, struct gw_worker *worker) {
    time_t now = time(NULL);
    if ((uint64_t)now != worker->date_second) {
        struct tm parts;
        worker->date_second = (uint64_t)now;
        gmtime_r(&now, &parts);
        strftime(worker->date, sizeof worker->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
    }
    buf_append_cstr(out, worker->date);
}

static void append_common_fields(struct buf *out, struct gw_exchange *exchange) {
    append_date(out, exchange->worker);
    if (exchange->returns_session) {
        buf_append_cstr(out, "Mcp-Session-Id: ");
        buf_append_cstr(out, exchange->session->id);
        buf_append_cstr(out, "\r\n");
    }
    if (exchange->worker->is_draining)
        exchange->keep_alive = false;
    if (!exchange->keep_alive)
        buf_append_cstr(out, "Connection: close\r\n");
    else if (exchange->is_http10)
        buf_append_cstr(out, "Connection: keep-alive\r\n");
}

static void append_whole(struct buf *out, struct gw_exchange *exchange, uint16_t status,
                         struct slice extra_fields, struct slice body) {
    http_write_status(out, status);
    append_common_fields(out, exchange);
    buf_append(out, extra_fields);
    if (body.len != 0)
        buf_append_cstr(out, "Content-Type: application/json\r\n");
    http_write_field_u64(out, SLICE("Content-Length"), body.len);
    buf_append_cstr(out, "\r\n");
    if (exchange->method != HTTP_METHOD_HEAD)
        buf_append(out, body);
}

/* Frees the buffer. A part of an answer is worth nothing: without memory for it the connection
 * ends. */
static void write_or_abort(struct gw_exchange *exchange, struct buf *out) {
    if (exchange->connection != NULL && buf_error(out) != 0)
        gw_connection_abort(exchange->connection);
    else if (exchange->connection != NULL)
        (void)!gw_connection_write(exchange->connection, buf_slice(out));
    buf_deinit(out);
}

/* Sends a whole answer and ends the exchange. */
static void send_whole(struct gw_exchange *exchange, uint16_t status, struct slice extra_fields,
                       struct slice body) {
    exchange->is_answered = true;
    if (exchange->connection != NULL) {
        struct buf out = BUF_INIT(LIMIT_UPSTREAM_MESSAGE * 2);
        append_whole(&out, exchange, status, extra_fields, body);
        write_or_abort(exchange, &out);
    }
    if (exchange->n_calls == 0)
        finish(exchange);
}

void gw_exchange_refuse(struct gw_exchange *exchange, uint16_t status, enum mcp_error_code code,
                        const char *text) {
    struct buf body = BUF_INIT(KIB(4));
    mcp_write_error(&body, SLICE_EMPTY, code, slice_from_cstr(text), SLICE_EMPTY);
    log_write(exchange->worker->gateway->log, LOG_INFO, "http", "refused a request",
              LOG_NUM("status", status), LOG_CSTR("reason", text));
    send_whole(exchange, status, SLICE_EMPTY, buf_slice(&body));
    buf_deinit(&body);
}

static void append_chunk(struct buf *out, const struct gw_exchange *exchange, struct slice data) {
    if (exchange->is_http10)
        buf_append(out, data);
    else
        http_write_chunk(out, data);
}

static void on_alive(void *context) {
    struct gw_exchange *exchange = context;
    struct buf out = BUF_INIT(KIB(4));
    if (!exchange->streams)
        gw_exchange_notify(exchange, SLICE_EMPTY);
    append_chunk(&out, exchange, SLICE(": alive\n\n"));
    write_or_abort(exchange, &out);
    if (exchange->connection != NULL)
        io_timer_start(exchange->alive_timer, ALIVE_MS);
}

/* From now on the answer is a stream of events. */
static void begin_stream(struct gw_exchange *exchange, struct buf *out) {
    exchange->streams = true;
    if (exchange->is_http10)
        exchange->keep_alive = false;
    http_write_status(out, 200);
    append_common_fields(out, exchange);
    buf_append_cstr(out, "Content-Type: text/event-stream\r\nCache-Control: no-store\r\n"
                         "X-Accel-Buffering: no\r\n");
    if (!exchange->is_http10)
        buf_append_cstr(out, "Transfer-Encoding: chunked\r\n");
    buf_append_cstr(out, "\r\n");
}

static void keep_alive_soon(struct gw_exchange *exchange) {
    if (exchange->alive_timer == NULL)
        exchange->alive_timer = io_timer_new(exchange->worker->loop, on_alive, exchange);
    io_timer_start(exchange->alive_timer, ALIVE_MS);
}

static void append_event(struct buf *out, const struct gw_exchange *exchange, struct slice json) {
    struct buf data = BUF_INIT(LIMIT_UPSTREAM_MESSAGE * 2),
               event = BUF_INIT(LIMIT_UPSTREAM_MESSAGE * 2);
    int error = buf_append(&data, json);
    if (error == 0) {
        mcp_make_one_line(&data, 0);
        error = sse_write_event(&event, SLICE("message"), SLICE_EMPTY, buf_slice(&data));
    }
    if (error == 0)
        append_chunk(out, exchange, buf_slice(&event));
    else
        out->error = error; /* an answer without this message would be another answer */
    buf_deinit(&data);
    buf_deinit(&event);
}

void gw_exchange_notify(struct gw_exchange *exchange, struct slice json) {
    if (exchange->connection == NULL || exchange->is_answered)
        return;
    struct buf out = BUF_INIT(LIMIT_UPSTREAM_MESSAGE * 3);
    if (!exchange->streams)
        begin_stream(exchange, &out);
    if (json.len != 0)
        append_event(&out, exchange, json);
    write_or_abort(exchange, &out);
    if (exchange->connection != NULL)
        keep_alive_soon(exchange);
}

void gw_exchange_end_stream(struct gw_exchange *exchange) {
    struct buf out = BUF_INIT(KIB(1));
    exchange->is_answered = true;
    if (!exchange->is_http10)
        http_write_last_chunk(&out);
    write_or_abort(exchange, &out);
    finish(exchange);
}

void gw_exchange_answer(struct gw_exchange *exchange, struct slice json) {
    exchange->n_calls--;
    if (exchange->connection == NULL) {
        if (exchange->n_calls == 0)
            free_exchange(exchange);
        return;
    }
    if (json.len != 0 && !exchange->streams && !exchange->is_batch) {
        send_whole(exchange, exchange->status != 0 ? exchange->status : 200, SLICE_EMPTY, json);
        return;
    }
    if (json.len != 0)
        gw_exchange_notify(exchange, json);
    if (exchange->n_calls == 0) {
        if (!exchange->streams)
            gw_exchange_notify(exchange, SLICE_EMPTY);
        gw_exchange_end_stream(exchange);
    }
}

/* The phases of the head. */

enum phase_verdict { PHASE_CONTINUE, PHASE_ANSWERED };

/* Decides now, answers when the body was read and forgotten: so the connection stays usable. */
static enum phase_verdict answer_early(struct gw_exchange *exchange, uint16_t status,
                                       struct slice extra_fields, enum mcp_error_code code,
                                       const char *text) {
    struct buf body = BUF_INIT(KIB(2));
    mcp_write_error(&body, SLICE_EMPTY, code, slice_from_cstr(text), SLICE_EMPTY);
    append_whole(&exchange->early, exchange, status, extra_fields, buf_slice(&body));
    buf_deinit(&body);
    log_write(exchange->worker->gateway->log, LOG_INFO, "http", "refused a request",
              LOG_NUM("status", status), LOG_CSTR("reason", text));
    return PHASE_ANSWERED;
}

static enum phase_verdict answer_status(struct gw_exchange *exchange, bool is_fine,
                                        const char *fine, const char *not_fine) {
    append_whole(&exchange->early, exchange, is_fine ? 200 : 503,
                 SLICE("Cache-Control: no-store\r\n"), slice_from_cstr(is_fine ? fine : not_fine));
    return PHASE_ANSWERED;
}

/* Exempt from everything that follows, and saying nothing but alive and ready. */
static enum phase_verdict phase_health(struct gw_exchange *exchange, const struct http_head *head) {
    const struct config *config = exchange->worker->gateway->config;
    bool is_health = slice_eq(head->path, config->health_path);
    if (!config->health_enabled || (!is_health && !slice_eq(head->path, SLICE("/ready"))))
        return PHASE_CONTINUE;
    if (head->method != HTTP_METHOD_GET && head->method != HTTP_METHOD_HEAD)
        return answer_early(exchange, 405, SLICE("Allow: GET, HEAD\r\n"), MCP_E_INVALID_REQUEST,
                            "this path takes GET and HEAD");
    if (is_health)
        return answer_status(exchange, true, "{\"status\":\"healthy\"}", "");
    return answer_status(exchange, !exchange->worker->is_draining, "{\"status\":\"ready\"}",
                         "{\"status\":\"draining\"}");
}

static enum phase_verdict phase_origin(struct gw_exchange *exchange, const struct http_head *head) {
    const struct gateway *gateway = exchange->worker->gateway;
    if (!gw_host_is_ours(gateway, head))
        return answer_early(exchange, 403, SLICE_EMPTY, MCP_E_FORBIDDEN,
                            "the Host field names another host; allow it in server.hosts");
    if (!gw_origin_is_ours(gateway, head))
        return answer_early(exchange, 403, SLICE_EMPTY, MCP_E_FORBIDDEN,
                            "requests of this Origin are refused; allow its host in server.hosts");
    return PHASE_CONTINUE;
}

static enum phase_verdict phase_authenticate(struct gw_exchange *exchange,
                                             const struct http_head *head) {
    switch (gw_authenticate(exchange->worker->gateway, head, &exchange->principal)) {
    case GW_AUTHN_OK:
        return PHASE_CONTINUE;
    case GW_AUTHN_MISSING:
        return answer_early(exchange, 401, SLICE("WWW-Authenticate: Bearer realm=\"cardea\"\r\n"),
                            MCP_E_UNAUTHENTICATED,
                            "a bearer token is required: Authorization: Bearer TOKEN");
    case GW_AUTHN_INVALID:
        break;
    }
    return answer_early(
        exchange, 401,
        SLICE("WWW-Authenticate: Bearer realm=\"cardea\", error=\"invalid_token\"\r\n"),
        MCP_E_UNAUTHENTICATED, "the bearer token is not valid");
}

static enum phase_verdict phase_endpoint(struct gw_exchange *exchange,
                                         const struct http_head *head) {
    struct gateway *gateway = exchange->worker->gateway;
    struct slice path = head->path, base = gateway->config->mcp_path;
    bool is_endpoint = gateway->config->mcp_enabled && slice_starts_with(path, base);
    path = slice_from(path, base.len);
    if (is_endpoint && path.len > 1 && path.ptr[0] == '/') {
        exchange->only = upstream_set_find(gateway->upstreams, slice_from(path, 1));
        is_endpoint = exchange->only != NULL;
    } else if (path.len != 0) {
        is_endpoint = false;
    }
    if (is_endpoint)
        return PHASE_CONTINUE;
    return answer_early(exchange, 404, SLICE_EMPTY, MCP_E_NOT_FOUND,
                        "there is nothing at this path");
}

/* One field, and it names a revision without sessions. */
static bool claims_modern(const struct http_head *head) {
    return http_head_count(head, SLICE("mcp-protocol-version")) == 1 &&
           gw_version_is_modern(http_head_get(head, SLICE("mcp-protocol-version")));
}

static enum phase_verdict phase_method(struct gw_exchange *exchange, const struct http_head *head) {
    bool is_post = head->method == HTTP_METHOD_POST;
    if (!is_post && head->method != HTTP_METHOD_GET && head->method != HTTP_METHOD_DELETE)
        return answer_early(exchange, 405, SLICE("Allow: GET, POST, DELETE\r\n"),
                            MCP_E_INVALID_REQUEST, "this endpoint takes POST, GET and DELETE");
    if (!is_post && claims_modern(head))
        return answer_early(exchange, 405, SLICE("Allow: POST\r\n"), MCP_E_INVALID_REQUEST,
                            "from 2026-07-28 on this endpoint takes POST only");
    if (is_post && !slice_eq_nocase(http_content_type(head), SLICE("application/json")))
        return answer_early(exchange, 415, SLICE_EMPTY, MCP_E_UNSUPPORTED,
                            "Content-Type must be application/json");
    bool takes_events = http_accepts(head, SLICE("text/event-stream"));
    bool takes_json = http_accepts(head, SLICE("application/json"));
    if ((is_post && (!takes_events || !takes_json)) ||
        (head->method == HTTP_METHOD_GET && !takes_events))
        return answer_early(exchange, 406, SLICE_EMPTY, MCP_E_INVALID_REQUEST,
                            is_post ? "Accept must allow application/json and text/event-stream"
                                    : "Accept must allow text/event-stream");
    return PHASE_CONTINUE;
}

/* Notes the MCP header fields; they mean something only together with the body. */
static enum phase_verdict phase_mcp_fields(struct gw_exchange *exchange,
                                           const struct http_head *head) {
    struct slice session = http_head_get(head, SLICE("mcp-session-id"));
    if (session.ptr != NULL) {
        exchange->session_id_sent = true;
        exchange->session_id_malformed =
            http_head_count(head, SLICE("mcp-session-id")) != 1 ||
            slice_to_cstr(session, exchange->session_id, sizeof exchange->session_id) != 0;
    }
    struct slice version = http_head_get(head, SLICE("mcp-protocol-version"));
    if (version.ptr != NULL) {
        exchange->has_version_header = true;
        exchange->version_header = mcp_revision_parse(version);
        exchange->version_header_known = exchange->version_header != MCP_REVISION_NONE &&
                                         http_head_count(head, SLICE("mcp-protocol-version")) == 1;
        exchange->version_header_is_modern = claims_modern(head);
    }
    return PHASE_CONTINUE;
}

struct head_phase {
    const char *name;
    enum phase_verdict (*run)(struct gw_exchange *exchange, const struct http_head *head);
};

static const struct head_phase head_phases[] = {
    {"health", phase_health},     {"origin", phase_origin}, {"authenticate", phase_authenticate},
    {"endpoint", phase_endpoint}, {"method", phase_method}, {"mcp fields", phase_mcp_fields},
};

/* A client that waits for "100 Continue" gets the refusal in its place, at once. */
static void answer_expectation(struct gw_exchange *exchange) {
    struct gw_connection *connection = exchange->connection;
    exchange->is_answered = true;
    if (gw_connection_write(connection, buf_slice(&exchange->early)))
        gw_connection_close(connection);
}

void gw_exchange_head(struct gw_exchange *exchange, const struct http_head *head) {
    exchange->method = head->method;
    exchange->is_http10 = head->minor_version == 0;
    /* Whether a refused body comes nevertheless is not known: the connection ends (RFC 9110 section
     * 10.1.1). */
    exchange->keep_alive = head->keep_alive && !head->expect_continue;
    for (size_t i = 0; i < ARRAY_LEN(head_phases); i++) {
        if (head_phases[i].run(exchange, head) == PHASE_ANSWERED) {
            log_write(exchange->worker->gateway->log, LOG_DEBUG, "http", "answered by phase",
                      LOG_CSTR("phase", head_phases[i].name), LOG_TEXT("path", head->path));
            if (head->expect_continue)
                answer_expectation(exchange);
            return;
        }
    }
    exchange->keep_alive = head->keep_alive;
    if (head->expect_continue && exchange->connection != NULL)
        (void)!gw_connection_write(exchange->connection, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
}

/* The session that the fields name, or an answer. */
static bool find_session(struct gw_exchange *exchange) {
    if (exchange->has_version_header && !(exchange->version_header_known &&
                                          mcp_revision_is_legacy_http(exchange->version_header))) {
        gw_exchange_refuse(exchange, 400, MCP_E_INVALID_REQUEST,
                           "MCP-Protocol-Version must be 2025-03-26, 2025-06-18 or 2025-11-25");
        return false;
    }
    if (!exchange->session_id_sent) {
        gw_exchange_refuse(exchange, 400, MCP_E_INVALID_REQUEST,
                           "Mcp-Session-Id is missing: send initialize first");
        return false;
    }
    if (!exchange->session_id_malformed)
        exchange->session = gw_session_find(
            exchange->worker->gateway, slice_from_cstr(exchange->session_id), exchange->principal,
            exchange->only, io_loop_now(exchange->worker->loop));
    if (exchange->session == NULL) {
        gw_exchange_refuse(exchange, 404, MCP_E_NOT_FOUND,
                           "there is no such session: send initialize again");
        return false;
    }
    return true;
}

static void run_get(struct gw_exchange *exchange) {
    struct gw_worker *worker = exchange->worker;
    if (!find_session(exchange))
        return;
    struct gw_session *session = exchange->session;
    pthread_mutex_lock(&session->mutex);
    bool is_first = session->stream_worker == NULL;
    if (is_first)
        session->stream_worker = worker;
    pthread_mutex_unlock(&session->mutex);
    if (!is_first) {
        gw_exchange_refuse(exchange, 409, MCP_E_INVALID_REQUEST,
                           "this session has a GET stream already");
        return;
    }
    exchange->is_get_stream = true;
    if (map_set(&worker->streams, slice_from_cstr(session->id), exchange) != 0)
        mem_exhausted(sizeof *exchange);
    gw_exchange_notify(exchange, SLICE_EMPTY);
    if (atomic_load(&session->is_closed) || worker->is_draining)
        gw_exchange_end_stream(exchange);
    else
        gw_notify_flush(worker, session);
}

static void run_delete(struct gw_exchange *exchange) {
    if (!find_session(exchange))
        return;
    gw_session_close(exchange->session);
    send_whole(exchange, 200, SLICE_EMPTY, SLICE_EMPTY);
}

bool gw_exchange_has_session(struct gw_exchange *exchange) {
    return exchange->session != NULL || find_session(exchange);
}

void gw_exchange_accepted(struct gw_exchange *exchange) {
    send_whole(exchange, 202, SLICE_EMPTY, SLICE_EMPTY);
}

void gw_exchange_refuse_json(struct gw_exchange *exchange, uint16_t status, struct slice json) {
    send_whole(exchange, status, SLICE_EMPTY, json);
}

void gw_exchange_wait(struct gw_exchange *exchange) {
    if (exchange->connection != NULL)
        keep_alive_soon(exchange);
}

void gw_exchange_run(struct gw_exchange *exchange) {
    if (buf_len(&exchange->early) != 0) {
        if (exchange->connection != NULL)
            (void)!gw_connection_write(exchange->connection, buf_slice(&exchange->early));
        exchange->is_answered = true;
        finish(exchange);
        return;
    }
    if (exchange->method == HTTP_METHOD_GET)
        run_get(exchange);
    else if (exchange->method == HTTP_METHOD_DELETE)
        run_delete(exchange);
    else
        gw_message_run(exchange);
}
