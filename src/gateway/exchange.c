/*
 * One HTTP request and its answer: one JSON message, or a stream of them when something has to be
 * said before the end. What its head decides is in phases.c.
 */
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "http/sse.h"
#include "private.h"

enum { EVENT_BEGIN = GW_EVENT_ID_CHARS + 64 };

struct gw_exchange *gw_exchange_new(struct gw_worker *worker, struct gw_connection *connection) {
    struct gw_exchange *exchange = mem_alloc(sizeof *exchange);
    if (exchange == NULL)
        return NULL;
    exchange->worker = worker;
    exchange->connection = connection;
    buf_init_held(&exchange->body, worker->config->max_request_body, io_loop_budget(worker->loop));
    buf_init(&exchange->early, KIB(32));
    buf_init(&exchange->fields, KIB(16));
    list_init(&exchange->calls);
    list_init(&exchange->carried);
    list_init(&exchange->held);
    list_init(&exchange->looks);
    return exchange;
}

bool gw_exchange_is_heard(const struct gw_exchange *exchange) {
    return exchange->connection != NULL || exchange->carrier != NULL;
}

bool gw_exchange_is_followed(const struct gw_exchange *exchange) {
    return gw_exchange_is_heard(exchange) ||
           (exchange->replay != NULL && gw_replay_is_heard(exchange));
}

bool gw_exchange_can_be_told(const struct gw_exchange *exchange) {
    return gw_exchange_is_heard(exchange) || exchange->replay != NULL;
}

const struct http_head *gw_exchange_fields(const struct gw_exchange *exchange) {
    if (exchange->connection == NULL)
        return exchange->kept_head;
    return http_parser_head(exchange->connection->parser);
}

/* Of a stream that only waited for it, this is the end. */
static void leave_carrier(struct gw_exchange *exchange) {
    struct gw_exchange *stream = TAKE(exchange->carrier);
    if (stream == NULL)
        return;
    list_remove(&exchange->carried_link);
    stream->n_carried--;
    if (stream->ends_when_answered && list_is_empty(&stream->carried))
        gw_exchange_end_stream(stream);
}

/* But for one whose place another one has taken. */
static void leave_session(struct gw_exchange *exchange) {
    struct gw_worker *worker = exchange->worker;
    struct gw_session *session = exchange->session;
    if (map_get(&worker->streams, slice_from_cstr(session->id)) != exchange)
        return;
    map_remove(&worker->streams, slice_from_cstr(session->id));
    pthread_mutex_lock(&session->mutex);
    if (session->stream_worker == worker)
        session->stream_worker = NULL;
    pthread_mutex_unlock(&session->mutex);
}

static void free_exchange(struct gw_exchange *exchange) {
    gw_exchange_tell_dropped(exchange);
    gw_replay_leave(exchange);
    gw_task_looks_end(exchange);
    if (exchange->is_get_stream && exchange->session != NULL) {
        struct gw_session *session = exchange->session;
        leave_session(exchange);
        atomic_store(&session->last_used_ms, io_loop_now(exchange->worker->loop));
        if (session->kind == GW_SESSION_SSE)
            gw_sse_end(exchange);
        else if (session->kind == GW_SESSION_LISTEN)
            gw_session_close(session);
    }
    if (exchange->post != NULL && exchange->carrier != NULL)
        exchange->post->run = NULL;
    else if (exchange->post != NULL)
        gw_sse_abandon(exchange->post);
    leave_carrier(exchange);
    if (exchange->n_asked != 0 && exchange->worker->audit != NULL)
        audit_count_requests(exchange->worker->audit, exchange->n_asked);
    gw_authn_cancel(exchange);
    gw_units_free(exchange->units);
    mem_free(exchange->kept_head);
    gw_session_unref(exchange->session);
    gw_caller_unref(exchange->caller);
    upstream_unref(exchange->only);
    io_timer_free(exchange->alive_timer);
    buf_deinit(&exchange->body);
    buf_deinit(&exchange->early);
    buf_deinit(&exchange->fields);
    mem_free(exchange);
}

void gw_exchange_cancel_calls(struct gw_exchange *exchange) {
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
 * cancelling: its calls go on, and what they say is kept if its stream can be resumed. */
void gw_exchange_unref_connection(struct gw_exchange *exchange) {
    exchange->connection = NULL;
    if (exchange->alive_timer != NULL)
        io_timer_stop(exchange->alive_timer);
    if (exchange->replay != NULL)
        gw_replay_unhear(exchange);
    if (exchange->n_calls == 0) {
        free_exchange(exchange);
    } else if (exchange->worker->is_draining) {
        if (!gw_exchange_is_followed(exchange))
            gw_exchange_cancel_calls(exchange);
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

void gw_exchange_append_border(const struct gw_exchange *exchange, struct buf *out) {
    const struct border *border = exchange->worker->border;
    bool is_cors = border->cors.is_set, is_tls = exchange->worker->tls != NULL;
    if (LIKELY(!is_cors && !is_tls) || exchange->connection == NULL)
        return;
    const struct http_head *head = http_parser_head(exchange->connection->parser);
    if (is_tls && border_is_pinned(head->host))
        buf_append(out, border->hsts);
    if (is_cors)
        cors_write(&border->cors,
                   exchange->is_cors ? http_head_get(head, SLICE("origin")) : SLICE_EMPTY, out);
}

static void append_common_fields(struct buf *out, struct gw_exchange *exchange) {
    append_date(out, exchange->worker);
    if (exchange->returns_session) {
        buf_append_cstr(out, "Mcp-Session-Id: ");
        buf_append_cstr(out, exchange->session->id);
        buf_append_cstr(out, "\r\n");
    }
    gw_exchange_append_border(exchange, out);
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
        buf_append(out, SLICE("Content-Type: application/json\r\n"
                              "X-Content-Type-Options: nosniff\r\n"));
    if (status != 204) /* RFC 9110 section 8.6 */
        http_write_field_u64(out, SLICE("Content-Length"), body_len);
    buf_append_cstr(out, "\r\n");
}

void gw_exchange_write_early(struct gw_exchange *exchange, uint16_t status,
                             struct slice extra_fields, struct slice body) {
    append_head(&exchange->early, exchange, status, extra_fields, body.len);
    if (exchange->method != HTTP_METHOD_HEAD)
        buf_append(&exchange->early, body);
}

/* What stands around a message on the wire: heads and frames, never the message. */
static struct buf *frame_buf(struct gw_exchange *exchange) {
    buf_reset(&exchange->worker->frame, KIB(32));
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

/* What the POST of a carried message is answered with, which is on another worker. */
static void note_answer(struct gw_post *post, uint16_t status, const struct slice *pieces,
                        size_t n_pieces) {
    post->status = status;
    for (size_t i = 0; i < n_pieces; i++)
        buf_append(&post->answer, pieces[i]);
}

/* Sends a whole answer and ends the exchange. */
static void send_whole(struct gw_exchange *exchange, uint16_t status, const struct slice *pieces,
                       size_t n_pieces) {
    exchange->is_answered = true;
    if (exchange->carrier != NULL && exchange->post != NULL) {
        note_answer(exchange->post, status, pieces, n_pieces);
    } else if (exchange->connection != NULL) {
        struct buf *frame = frame_buf(exchange);
        append_head(frame, exchange, status, buf_slice(&exchange->fields),
                    total_len(pieces, n_pieces));
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
    gw_door_tell_refusal(exchange->worker, status, slice_from_cstr(text), &exchange->client);
    exchange->n_asked = 1;
    gw_record_refused(exchange, status, "request", slice_from_cstr(text));
    struct slice piece = buf_slice(&body);
    send_whole(exchange, status, &piece, 1);
    buf_deinit(&body);
}

static void start_alive_timer(struct gw_exchange *exchange) {
    io_timer_start(exchange->alive_timer, exchange->worker->config->limits.keepalive_ms);
}

static void on_alive(void *context) {
    struct gw_exchange *exchange = context;
    if (gw_exchange_is_clogged(exchange)) {
        start_alive_timer(exchange);
        return; /* there is enough to read */
    }
    bool is_long = exchange->method == HTTP_METHOD_GET || exchange->is_get_stream;
    if (is_long && !gw_authn_still_holds(exchange)) {
        gw_exchange_end_stream(exchange); /* whoever opens it again has to prove itself again */
        return;
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

/* Begins an event with what it is known by. */
static struct slice begin_event(const struct gw_exchange *exchange, uint64_t number,
                                char text[static EVENT_BEGIN]) {
    char id[GW_EVENT_ID_CHARS];
    int len = snprintf(text, EVENT_BEGIN, "id: %.*s\nevent: message\ndata: ",
                       SLICE_ARGS(gw_replay_id(exchange, number, id)));
    return slice_make(text, (size_t)len);
}

/*
 * MCP 2025-11-25, basic/transports: an event that says nothing, so that the client has an id from
 * the beginning. Clients of earlier revisions do not expect it, and fail to read it.
 */
static void append_priming(struct buf *out, const struct gw_exchange *exchange) {
    char id[GW_EVENT_ID_CHARS], text[EVENT_BEGIN];
    if (exchange->replay == NULL || exchange->session->revision < MCP_2025_11_25)
        return;
    int len = snprintf(text, sizeof text, "id: %.*s\nretry: %u\ndata: \n\n",
                       SLICE_ARGS(gw_replay_id(exchange, exchange->resumed_at, id)),
                       LIMIT_REPLAY_RETRY_MS);
    if (exchange->is_http10)
        buf_append(out, slice_make(text, (size_t)len));
    else
        http_write_chunk(out, slice_make(text, (size_t)len));
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
    if (exchange->replay == NULL)
        gw_replay_begin(exchange);
    append_priming(out, exchange);
}

static void keep_alive_soon(struct gw_exchange *exchange) {
    if (exchange->alive_timer == NULL)
        exchange->alive_timer = io_timer_new(exchange->worker->loop, on_alive, exchange);
    start_alive_timer(exchange);
}

static const struct slice message_event = SLICE_INIT("event: message\ndata: ");

/* One event, in a chunk of its own (HTML, server-sent events). The message is one line. */
static void write_event(struct gw_exchange *exchange, struct buf *frame, struct slice begin,
                        const struct slice *pieces, size_t n_pieces) {
    static const struct slice end = SLICE_INIT("\n\n");
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

/* Writes a message of one line, or keeps it for whoever listens in the place of the exchange. */
static void say(struct gw_exchange *exchange, struct buf *frame, const struct slice *pieces,
                size_t n_pieces) {
    char begin[EVENT_BEGIN];
    uint64_t number = 0;
    if (exchange->replay == NULL)
        write_event(exchange, frame, message_event, pieces, n_pieces);
    else if (gw_replay_add(exchange, pieces, n_pieces, &number))
        write_event(exchange, frame, begin_event(exchange, number, begin), pieces, n_pieces);
}

static void notify(struct gw_exchange *exchange, const struct slice *pieces, size_t n_pieces) {
    if (exchange->carrier != NULL)
        exchange = exchange->carrier;
    if (!gw_exchange_can_be_told(exchange) || exchange->is_answered)
        return;
    struct buf *frame = frame_buf(exchange);
    if (!exchange->streams)
        begin_stream(exchange, frame);
    if (n_pieces == 0) {
        write_frame(exchange, frame);
    } else if (!has_line_end(pieces, n_pieces)) {
        say(exchange, frame, pieces, n_pieces);
    } else {
        struct buf line CLEANUP(buf_deinit) = BUF_INIT(total_len(pieces, n_pieces));
        for (size_t i = 0; i < n_pieces; i++)
            buf_append(&line, pieces[i]);
        mcp_make_one_line(&line, 0);
        frame->error = frame->error != 0 ? frame->error : buf_error(&line);
        struct slice piece = buf_slice(&line);
        say(exchange, frame, &piece, 1);
    }
    if (exchange->connection != NULL)
        keep_alive_soon(exchange);
}

void gw_exchange_write_event(struct gw_exchange *exchange, uint64_t number, struct slice message) {
    char begin[EVENT_BEGIN];
    write_event(exchange, frame_buf(exchange), begin_event(exchange, number, begin), &message, 1);
    if (exchange->connection != NULL)
        keep_alive_soon(exchange);
}

void gw_exchange_notify(struct gw_exchange *exchange, struct slice json) {
    notify(exchange, &json, json.len != 0);
}

void gw_exchange_notify_parts(struct gw_exchange *exchange, const struct slice *parts,
                              size_t n_parts) {
    notify(exchange, parts, n_parts);
}

void gw_exchange_tell(struct gw_exchange *exchange, struct slice event, struct slice data) {
    struct buf *frame = frame_buf(exchange);
    struct buf begin CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    buf_append_cstr(&begin, "event: ");
    buf_append(&begin, event);
    buf_append_cstr(&begin, "\ndata: ");
    if (!exchange->streams)
        begin_stream(exchange, frame);
    frame->error = frame->error != 0 ? frame->error : buf_error(&begin);
    write_event(exchange, frame, buf_slice(&begin), &data, 1);
    if (exchange->connection != NULL)
        keep_alive_soon(exchange);
}

void gw_exchange_drain_stream(struct gw_exchange *exchange) {
    exchange->ends_when_answered = !list_is_empty(&exchange->carried);
    if (!exchange->ends_when_answered)
        gw_exchange_end_stream(exchange);
}

void gw_exchange_end_stream(struct gw_exchange *exchange) {
    if (exchange->is_get_stream && exchange->session->kind == GW_SESSION_LISTEN)
        gw_listen_tell_end(exchange);
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
        if (n_pieces != 0 && gw_exchange_can_be_told(exchange))
            notify(exchange, pieces, n_pieces);
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

static void refuse_session(struct gw_exchange *exchange, enum gw_session_kind kind) {
    gw_exchange_refuse(exchange, 404, MCP_E_NOT_FOUND,
                       kind == GW_SESSION_HTTP ? "there is no such session: send initialize again"
                                               : "there is no such session: open the stream again");
}

bool gw_exchange_find_session(struct gw_exchange *exchange, enum gw_session_kind kind) {
    if (!exchange->session_id_malformed)
        exchange->session = gw_session_find(
            exchange->worker->gateway, slice_from_cstr(exchange->session_id), exchange->principal,
            exchange->only, kind, io_loop_now(exchange->worker->loop));
    if (exchange->session != NULL)
        return true;
    refuse_session(exchange, kind);
    return false;
}

bool gw_exchange_takes_requests(struct gw_exchange *exchange) {
    const struct gw_session *session = exchange->session;
    if (session == NULL || !gw_session_is_over(session, io_loop_now(exchange->worker->loop)))
        return true;
    refuse_session(exchange, session->kind);
    return false;
}

/* The session that the fields name, or an answer. */
static bool find_session(struct gw_exchange *exchange) {
    if (exchange->has_version_header &&
        !(exchange->version_header_known && mcp_revision_is_legacy(exchange->version_header))) {
        gw_exchange_refuse(exchange, 400, MCP_E_INVALID_REQUEST,
                           "MCP-Protocol-Version must be the revision that initialize was answered "
                           "with: 2024-11-05, 2025-03-26, 2025-06-18 or 2025-11-25");
        return false;
    }
    if (!exchange->session_id_sent) {
        gw_exchange_refuse(exchange, 400, MCP_E_INVALID_REQUEST,
                           "Mcp-Session-Id is missing: send initialize first");
        return false;
    }
    if (!gw_exchange_find_session(exchange, GW_SESSION_HTTP))
        return false;
    gw_session_note_caller(exchange->session, exchange->caller->identity);
    return true;
}

bool gw_exchange_begin_session_stream(struct gw_exchange *exchange) {
    struct gw_worker *worker = exchange->worker;
    struct gw_session *session = exchange->session;
    pthread_mutex_lock(&session->mutex);
    /* A stream that is taken up again is the same one, whoever seems to listen to it. */
    bool can_begin = session->stream_worker == NULL || exchange->replay != NULL;
    if (can_begin)
        session->stream_worker = worker;
    pthread_mutex_unlock(&session->mutex);
    if (!can_begin) {
        gw_exchange_refuse(exchange, 409, MCP_E_INVALID_REQUEST,
                           "this session has a GET stream already");
        return false;
    }
    exchange->is_get_stream = true;
    if (map_set(&worker->streams, slice_from_cstr(session->id), exchange) != 0) {
        exchange->is_get_stream = false;
        pthread_mutex_lock(&session->mutex);
        session->stream_worker = NULL;
        pthread_mutex_unlock(&session->mutex);
        gw_exchange_refuse(exchange, 503, MCP_E_UNAVAILABLE, "the gateway is out of memory");
        return false;
    }
    if (session->kind == GW_SESSION_LISTEN)
        return true; /* its call has a record */
    exchange->n_asked = 1;
    gw_record_done(exchange, "stream");
    return true;
}

static void run_get(struct gw_exchange *exchange) {
    struct gw_worker *worker = exchange->worker;
    if (!find_session(exchange) || !gw_exchange_takes_requests(exchange))
        return;
    struct slice event_id = http_head_get(gw_exchange_fields(exchange), SLICE("last-event-id"));
    if (event_id.len != 0) {
        gw_resume_run(exchange, event_id);
        return;
    }
    if (!gw_exchange_begin_session_stream(exchange))
        return;
    struct gw_session *session = exchange->session;
    gw_exchange_notify(exchange, SLICE_EMPTY);
    if (atomic_load(&session->is_closed) || worker->is_draining)
        gw_exchange_end_stream(exchange);
    else
        gw_notify_flush(worker, session);
}

static void run_delete(struct gw_exchange *exchange) {
    if (!find_session(exchange))
        return;
    exchange->n_asked = 1;
    gw_record_done(exchange, "session");
    gw_session_close(exchange->session);
    send_whole(exchange, 200, NULL, 0);
}

bool gw_exchange_has_session(struct gw_exchange *exchange) {
    return exchange->session != NULL || find_session(exchange);
}

void gw_exchange_accepted(struct gw_exchange *exchange) {
    send_whole(exchange, 202, NULL, 0);
}

void gw_exchange_send(struct gw_exchange *exchange, uint16_t status, struct slice json) {
    send_whole(exchange, status, &json, json.len != 0 ? 1 : 0);
}

void gw_exchange_refuse_json(struct gw_exchange *exchange, uint16_t status, const char *reason,
                             struct slice json) {
    exchange->n_asked = 1;
    gw_record_refused(exchange, status, "request", slice_from_cstr(reason));
    send_whole(exchange, status, &json, 1);
}

void gw_exchange_wait(struct gw_exchange *exchange) {
    if (exchange->connection != NULL)
        keep_alive_soon(exchange);
}

/* A reload has taken it away while the body was coming. */
static bool is_endpoint_gone(const struct gw_exchange *exchange) {
    return exchange->only != NULL &&
           upstream_list_find(exchange->worker->list, upstream_name(exchange->only), NULL) == NULL;
}

/*
 * The head was judged when it came, but a body may take an hour: meanwhile the token may have
 * expired, or been taken away by a reload. Whoever saw that coming must not have requests in store.
 */
static bool is_still_let_in(struct gw_exchange *exchange) {
    enum { FRESH_MS = 1000 };
    struct gw_worker *worker = exchange->worker;
    if (LIKELY(io_loop_now(worker->loop) - exchange->judged_ms < FRESH_MS) ||
        exchange->connection == NULL || gw_authn_still_holds(exchange))
        return true;
    buf_reset(&exchange->fields, KIB(16));
    gw_challenge_write(&exchange->fields, worker,
                       http_parser_head(exchange->connection->parser)->path, "invalid_token", NULL,
                       0);
    gw_exchange_refuse(exchange, 401, MCP_E_UNAUTHENTICATED,
                       "the credentials ended while the request came in");
    return false;
}

void gw_exchange_run(struct gw_exchange *exchange) {
    if (exchange->is_waiting) {
        exchange->is_whole = true;
        return;
    }
    if (exchange->is_refused) {
        struct slice early = buf_slice(&exchange->early);
        if (exchange->connection != NULL)
            (void)!gw_connection_write(exchange->connection, &early, 1);
        exchange->is_answered = true;
        finish(exchange);
        return;
    }
    if (!is_still_let_in(exchange))
        return;
    if (is_endpoint_gone(exchange))
        gw_exchange_refuse(exchange, 404, MCP_E_NOT_FOUND, "there is nothing at this path");
    else if (exchange->door == CONFIG_DOOR_SSE)
        gw_sse_open(exchange);
    else if (exchange->door == CONFIG_DOOR_MESSAGE)
        gw_sse_post(exchange);
    else if (exchange->method == HTTP_METHOD_GET)
        run_get(exchange);
    else if (exchange->method == HTTP_METHOD_DELETE)
        run_delete(exchange);
    else
        gw_message_run(exchange);
}
