/*
 * One HTTP request and its answer. The phases up to the body are a table: each looks at the head
 * and goes on or answers. The answer is one JSON message, or a stream of them when something has to
 * be said before the end.
 */
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "http/sse.h"
#include "private.h"

/* What /ready says of all upstreams. */
#define READY_BYTES MIB(8)

struct gw_exchange *gw_exchange_new(struct gw_connection *connection) {
    struct gw_exchange *exchange = mem_alloc(sizeof *exchange);
    if (exchange == NULL)
        return NULL;
    exchange->worker = connection->worker;
    exchange->connection = connection;
    buf_init_held(&exchange->body, connection->worker->gateway->config->max_request_body,
                  io_loop_budget(connection->worker->loop));
    buf_init(&exchange->early, KIB(8));
    list_init(&exchange->calls);
    return exchange;
}

static void free_exchange(struct gw_exchange *exchange) {
    gw_exchange_tell_dropped(exchange);
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

/* Nobody will get their answers, and nothing is to wait for them. With the last one the exchange is
 * gone. */
static void cancel_calls(struct gw_exchange *exchange) {
    struct gw_worker *worker = exchange->worker;
    size_t n = 0;
    LIST_FOREACH_SAFE (&exchange->calls, link, tmp)
        n++;
    for (; n != 0; n--) {
        struct gw_call *call =
            CONTAINER_OF(list_first(&exchange->calls), struct gw_call, exchange_link);
        gw_call_cancel(worker, call->serial, SLICE("the gateway stops"));
    }
}

/* The client is gone. From 2026-07-28 on that cancels its request; before, disconnecting is not
 * cancelling: its calls go on, and their answers are dropped. */
void gw_exchange_unref_connection(struct gw_exchange *exchange) {
    exchange->connection = NULL;
    if (exchange->alive_timer != NULL)
        io_timer_stop(exchange->alive_timer);
    if (exchange->n_calls == 0) {
        free_exchange(exchange);
    } else if (exchange->worker->is_draining) {
        cancel_calls(exchange);
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
    time_t now = (time_t)(clock_wall_ms() / 1000);
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

static size_t total_len(const struct slice *pieces, size_t n_pieces) {
    size_t len = 0;
    for (size_t i = 0; i < n_pieces; i++)
        len += pieces[i].len;
    return len;
}

static void append_head(struct buf *out, struct gw_exchange *exchange, uint16_t status,
                        struct slice extra_fields, size_t body_len) {
    http_write_status(out, status);
    append_common_fields(out, exchange);
    buf_append(out, extra_fields);
    if (body_len != 0)
        buf_append_cstr(out, "Content-Type: application/json\r\n");
    http_write_field_u64(out, SLICE("Content-Length"), body_len);
    buf_append_cstr(out, "\r\n");
}

static void append_whole(struct buf *out, struct gw_exchange *exchange, uint16_t status,
                         struct slice extra_fields, struct slice body) {
    append_head(out, exchange, status, extra_fields, body.len);
    if (exchange->method != HTTP_METHOD_HEAD)
        buf_append(out, body);
}

/* What stands around a message on the wire: heads and frames, never the message. */
static struct buf *frame_buf(struct gw_exchange *exchange) {
    buf_reset(&exchange->worker->frame, KIB(4));
    return &exchange->worker->frame;
}

/*
 * Writes `n_before` bytes of the frame, the pieces, and the rest of the frame. A part of an answer
 * is worth nothing: where the frame is not whole the connection ends.
 */
static void write_framed(struct gw_exchange *exchange, const struct buf *frame, size_t n_before,
                         const struct slice *pieces, size_t n_pieces) {
    struct slice all[IO_STREAM_PIECES] UNCLEARED;
    if (exchange->connection == NULL)
        return;
    if (buf_error(frame) != 0) {
        gw_connection_abort(exchange->connection);
        return;
    }
    all[0] = slice_sub(buf_slice(frame), 0, n_before);
    for (size_t i = 0; i < n_pieces; i++)
        all[1 + i] = pieces[i];
    all[1 + n_pieces] = slice_from(buf_slice(frame), n_before);
    (void)!gw_connection_write(exchange->connection, all, n_pieces + 2);
}

static void write_frame(struct gw_exchange *exchange, const struct buf *frame) {
    write_framed(exchange, frame, buf_len(frame), NULL, 0);
}

/* Sends a whole answer and ends the exchange. */
static void send_whole(struct gw_exchange *exchange, uint16_t status, const struct slice *pieces,
                       size_t n_pieces) {
    exchange->is_answered = true;
    if (exchange->connection != NULL) {
        struct buf *frame = frame_buf(exchange);
        append_head(frame, exchange, status, SLICE_EMPTY, total_len(pieces, n_pieces));
        if (exchange->method == HTTP_METHOD_HEAD)
            n_pieces = 0;
        write_framed(exchange, frame, buf_len(frame), pieces, n_pieces);
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
    struct slice piece = buf_slice(&body);
    send_whole(exchange, status, &piece, 1);
    buf_deinit(&body);
}

static void start_alive_timer(struct gw_exchange *exchange) {
    io_timer_start(exchange->alive_timer, exchange->worker->gateway->config->limits.keepalive_ms);
}

static void on_alive(void *context) {
    struct gw_exchange *exchange = context;
    if (gw_exchange_is_clogged(exchange)) {
        start_alive_timer(exchange);
        return; /* there is enough to read */
    }
    if (!exchange->streams)
        gw_exchange_notify(exchange, SLICE_EMPTY);
    struct buf *frame = frame_buf(exchange);
    struct slice comment = SLICE(": alive\n\n");
    if (exchange->is_http10)
        buf_append(frame, comment);
    else
        http_write_chunk(frame, comment);
    write_frame(exchange, frame);
    if (exchange->connection != NULL)
        start_alive_timer(exchange);
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
    start_alive_timer(exchange);
}

/* One event, in a chunk of its own (HTML, server-sent events). The message is one line. */
static void write_event(struct gw_exchange *exchange, struct buf *frame, const struct slice *pieces,
                        size_t n_pieces) {
    static const struct slice begin = SLICE_INIT("event: message\ndata: "),
                              end = SLICE_INIT("\n\n");
    if (!exchange->is_http10)
        http_write_chunk_begin(frame, begin.len + total_len(pieces, n_pieces) + end.len);
    buf_append(frame, begin);
    size_t n_before = buf_len(frame);
    buf_append(frame, end);
    if (!exchange->is_http10)
        buf_append(frame, SLICE("\r\n"));
    write_framed(exchange, frame, n_before, pieces, n_pieces);
}

static bool has_line_end(const struct slice *pieces, size_t n_pieces) {
    for (size_t i = 0; i < n_pieces; i++) {
        if (slice_find_byte(pieces[i], '\n') != SIZE_MAX ||
            slice_find_byte(pieces[i], '\r') != SIZE_MAX)
            return true;
    }
    return false;
}

static void notify(struct gw_exchange *exchange, const struct slice *pieces, size_t n_pieces) {
    if (exchange->connection == NULL || exchange->is_answered)
        return;
    struct buf *frame = frame_buf(exchange);
    if (!exchange->streams)
        begin_stream(exchange, frame);
    if (n_pieces == 0) {
        write_frame(exchange, frame);
    } else if (!has_line_end(pieces, n_pieces)) {
        write_event(exchange, frame, pieces, n_pieces);
    } else {
        struct buf line CLEANUP(buf_deinit) = BUF_INIT(total_len(pieces, n_pieces));
        for (size_t i = 0; i < n_pieces; i++)
            buf_append(&line, pieces[i]);
        mcp_make_one_line(&line, 0);
        frame->error = frame->error != 0 ? frame->error : buf_error(&line);
        struct slice piece = buf_slice(&line);
        write_event(exchange, frame, &piece, 1);
    }
    if (exchange->connection != NULL)
        keep_alive_soon(exchange);
}

void gw_exchange_notify(struct gw_exchange *exchange, struct slice json) {
    notify(exchange, &json, json.len != 0);
}

void gw_exchange_end_stream(struct gw_exchange *exchange) {
    struct buf *frame = frame_buf(exchange);
    exchange->is_answered = true;
    if (!exchange->is_http10)
        http_write_last_chunk(frame);
    write_frame(exchange, frame);
    finish(exchange);
}

void gw_exchange_answer(struct gw_exchange *exchange, const struct slice *pieces, size_t n_pieces) {
    exchange->n_calls--;
    if (exchange->connection == NULL) {
        if (exchange->n_calls == 0)
            free_exchange(exchange);
        return;
    }
    if (n_pieces != 0 && !exchange->streams && !exchange->is_batch) {
        send_whole(exchange, exchange->status != 0 ? exchange->status : 200, pieces, n_pieces);
        return;
    }
    if (n_pieces != 0)
        notify(exchange, pieces, n_pieces);
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
                                        struct slice body) {
    append_whole(&exchange->early, exchange, is_fine ? 200 : 503,
                 SLICE("Cache-Control: no-store\r\n"), body);
    return PHASE_ANSWERED;
}

/*
 * Who proves to be a caller, from a page of ours if from any, is told of the upstreams. All others,
 * those with a wrong token too, get what a balancer needs to know.
 */
static enum phase_verdict answer_ready(struct gw_exchange *exchange, const struct http_head *head) {
    struct gateway *gateway = exchange->worker->gateway;
    struct gw_principal *principal = NULL;
    bool is_known = gw_host_is_ours(gateway, head) && gw_origin_is_ours(gateway, head) &&
                    gw_authenticate(gateway, head, &principal) == GW_AUTHN_OK;
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(READY_BYTES);
    bool is_ready = gw_write_ready(exchange->worker, is_known, &body);
    if (buf_error(&body) != 0) {
        buf_reset(&body, KIB(1));
        is_ready = gw_write_ready(exchange->worker, false, &body);
    }
    exchange->early.max = READY_BYTES + KIB(8);
    return answer_status(exchange, is_ready, buf_slice(&body));
}

/* Exempt from everything that follows, and to strangers saying nothing but alive and ready. */
static enum phase_verdict phase_health(struct gw_exchange *exchange, const struct http_head *head) {
    const struct config *config = exchange->worker->gateway->config;
    bool is_health = slice_eq(head->path, config->health_path);
    if (!config->health_enabled || (!is_health && !slice_eq(head->path, SLICE("/ready"))))
        return PHASE_CONTINUE;
    if (head->method != HTTP_METHOD_GET && head->method != HTTP_METHOD_HEAD)
        return answer_early(exchange, 405, SLICE("Allow: GET, HEAD\r\n"), MCP_E_INVALID_REQUEST,
                            "this path takes GET and HEAD");
    if (is_health)
        return answer_status(exchange, true, SLICE("{\"status\":\"healthy\"}"));
    return answer_ready(exchange, head);
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

/* What is begun now could not be answered. */
static enum phase_verdict phase_memory(struct gw_exchange *exchange, const struct http_head *head) {
    (void)head;
    if (!gw_shortage_of_memory(exchange->worker))
        return PHASE_CONTINUE;
    return answer_early(exchange, 503, SLICE("Retry-After: 5\r\n"), MCP_E_UNAVAILABLE,
                        "the gateway is out of memory; try again later");
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

static bool accepts(const struct http_head *head, struct slice type) {
    /* As nearly all clients write it. */
    static const struct slice both = SLICE_INIT("application/json, text/event-stream");
    return (slice_eq(http_head_get(head, SLICE("accept")), both) &&
            http_head_count(head, SLICE("accept")) == 1) ||
           http_accepts(head, type);
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
    bool takes_events = accepts(head, SLICE("text/event-stream"));
    bool takes_json = accepts(head, SLICE("application/json"));
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
    {"health", phase_health},         {"origin", phase_origin},
    {"memory", phase_memory},         {"authenticate", phase_authenticate},
    {"endpoint", phase_endpoint},     {"method", phase_method},
    {"mcp fields", phase_mcp_fields},
};

/* A client that waits for "100 Continue" gets the refusal in its place, at once. */
static void answer_expectation(struct gw_exchange *exchange) {
    struct gw_connection *connection = exchange->connection;
    exchange->is_answered = true;
    struct slice early = buf_slice(&exchange->early);
    if (gw_connection_write(connection, &early, 1))
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
            exchange->is_refused = true;
            if (buf_error(&exchange->early) != 0)
                gw_connection_abort(exchange->connection); /* no memory to say why */
            else if (head->expect_continue)
                answer_expectation(exchange);
            return;
        }
    }
    exchange->keep_alive = head->keep_alive;
    static const struct slice go_on = SLICE_INIT("HTTP/1.1 100 Continue\r\n\r\n");
    if (head->expect_continue && exchange->connection != NULL)
        (void)!gw_connection_write(exchange->connection, &go_on, 1);
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
    if (map_set(&worker->streams, slice_from_cstr(session->id), exchange) != 0) {
        exchange->is_get_stream = false;
        pthread_mutex_lock(&session->mutex);
        session->stream_worker = NULL;
        pthread_mutex_unlock(&session->mutex);
        gw_exchange_refuse(exchange, 503, MCP_E_UNAVAILABLE, "the gateway is out of memory");
        return;
    }
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
    send_whole(exchange, 200, NULL, 0);
}

bool gw_exchange_has_session(struct gw_exchange *exchange) {
    return exchange->session != NULL || find_session(exchange);
}

void gw_exchange_accepted(struct gw_exchange *exchange) {
    send_whole(exchange, 202, NULL, 0);
}

void gw_exchange_refuse_json(struct gw_exchange *exchange, uint16_t status, struct slice json) {
    send_whole(exchange, status, &json, 1);
}

void gw_exchange_wait(struct gw_exchange *exchange) {
    if (exchange->connection != NULL)
        keep_alive_soon(exchange);
}

void gw_exchange_run(struct gw_exchange *exchange) {
    if (exchange->is_refused) {
        struct slice early = buf_slice(&exchange->early);
        if (exchange->connection != NULL)
            (void)!gw_connection_write(exchange->connection, &early, 1);
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
