/*
 * One client connection: bytes to HTTP messages and back. One request at a time: what is pipelined
 * behind it waits, and when enough waits, nothing more is read.
 *
 * Clients have time limits in both directions. Of what is to come: a head has header_timeout as a
 * whole, from its first byte or from the connection's begin, so that dripping it does not help. A
 * body has body_timeout between bytes, and as a whole body_timeout and a second for each
 * LIMIT_BODY_RATE bytes: a client that is slow is served, one that sends a byte now and then is
 * not. Of what is to be read: write_timeout passes without the client's system taking a byte. How
 * much there is does not matter: who reads steadily gets all of it.
 *
 * A client that reads nothing while answers come is clogged; see pressure.c.
 */
#include <errno.h>

#include "base/mem.h"
#include "private.h"

enum {
    LINGER_MS = 2000,    /* for the client to read the last answer */
    IN_USE_MS = 500,     /* behind an answer: there may be a next request */
    WRITE_CHECKS = 4,    /* in a write_timeout */
    LEAST_CHECK_MS = 20, /* between two of them */
};

static void process(struct gw_connection *connection, struct slice bytes);

static const struct config_limits *limits_of(const struct gw_connection *connection) {
    return &connection->worker->config->limits;
}

static uint64_t now_of(const struct gw_connection *connection) {
    return io_loop_now(connection->worker->loop);
}

struct gw_connection *gw_connection_free(struct gw_connection *connection) {
    struct gw_worker *worker = connection->worker;
    list_remove(&connection->link);
    worker->n_connections--;
    if (connection->exchange != NULL) {
        struct gw_exchange *exchange = TAKE(connection->exchange);
        if (connection->is_clogged)
            gw_exchange_clog(exchange, false); /* what goes on goes on unheard */
        gw_exchange_unref_connection(exchange);
    }
    io_stream_free(connection->stream);
    io_timer_free(connection->timer);
    io_timer_free(connection->write_timer);
    http_parser_free(connection->parser);
    buf_deinit(&connection->pipelined);
    gw_caller_unref(connection->caller);
    if (connection->is_counted)
        peers_leave(&worker->gateway->peers, &connection->client);
    mem_free(connection);
    gw_worker_check_drained(worker);
    return NULL;
}

static void update_reading(struct gw_connection *connection) {
    io_stream_read(connection->stream, !connection->is_paused && !connection->is_held);
}

void gw_connection_hold(struct gw_connection *connection, bool on) {
    connection->is_held = on;
    update_reading(connection);
}

void gw_connection_read(struct gw_connection *connection, struct slice bytes) {
    if (connection->closes)
        return; /* lingering: read and forgotten */
    if (!connection->is_busy) {
        process(connection, bytes);
        return;
    }
    if (buf_append(&connection->pipelined, bytes) != 0) {
        gw_connection_free(connection);
        return;
    }
    if (buf_len(&connection->pipelined) >= LIMIT_PIPELINED) {
        connection->is_paused = true;
        update_reading(connection);
    }
}

static void on_read(void *context, struct slice bytes) {
    struct gw_connection *connection = context;
    if (LIKELY(connection->opening == GW_OPENED))
        gw_connection_read(connection, bytes);
    else
        gw_opening_read(connection, bytes);
}

static void on_end(void *context, int error) {
    struct gw_connection *connection = context;
    (void)error;
    /* Half-closed clients exist, but an answer to one that hung up is worth nothing to anybody. */
    gw_connection_free(connection);
}

/* What the client reads. */

/* Notes whether it has become more. False: not for write_timeout. */
static bool makes_progress(struct gw_connection *connection) {
    uint64_t delivered = io_stream_delivered(connection->stream), now = now_of(connection);
    if (delivered != connection->delivered) {
        connection->delivered = delivered;
        connection->progress_ms = now;
    }
    return now - connection->progress_ms < limits_of(connection)->write_timeout_ms;
}

static void start_write_timer(struct gw_connection *connection) {
    uint64_t pause_ms = limits_of(connection)->write_timeout_ms / WRITE_CHECKS;
    io_timer_start(connection->write_timer, pause_ms > LEAST_CHECK_MS ? pause_ms : LEAST_CHECK_MS);
}

static void on_write_timer(void *context) {
    struct gw_connection *connection = context;
    if (io_stream_queued(connection->stream) == 0)
        return;
    if (makes_progress(connection)) {
        start_write_timer(connection);
        return;
    }
    log_write(connection->worker->gateway->log, LOG_INFO, "http",
              "closed a connection: the client did not read within server.limits.write_timeout",
              LOG_NUM("write_timeout_ms", limits_of(connection)->write_timeout_ms),
              LOG_NUM("unread", io_stream_queued(connection->stream)));
    gw_connection_free(connection);
}

static void watch_reader(struct gw_connection *connection) {
    if (connection->write_timer == NULL)
        connection->write_timer =
            io_timer_new(connection->worker->loop, on_write_timer, connection);
    if (!io_timer_is_running(connection->write_timer)) {
        connection->progress_ms = now_of(connection);
        connection->delivered = io_stream_delivered(connection->stream);
        start_write_timer(connection);
    }
    if (!connection->is_clogged && io_stream_queued(connection->stream) > LIMIT_UNREAD) {
        connection->is_clogged = true;
        if (connection->exchange != NULL)
            gw_exchange_clog(connection->exchange, true);
    }
}

static void on_queued(void *context) {
    watch_reader(context);
}

static void next_request(struct gw_connection *connection);

static void on_drain(void *context) {
    struct gw_connection *connection = context;
    bool was_clogged = connection->is_clogged;
    connection->is_clogged = false;
    if (connection->write_timer != NULL)
        io_timer_stop(connection->write_timer);
    if (connection->closes) {
        io_stream_shutdown(connection->stream);
        io_timer_start(connection->timer, LINGER_MS);
    } else if (connection->is_draining) {
        connection->is_draining = false;
        next_request(connection);
    } else if (was_clogged && connection->exchange != NULL) {
        gw_exchange_clog(connection->exchange, false);
    }
}

/* Times of what is to come. */

static void refuse_late(struct gw_connection *connection) {
    const struct config_limits *limits = limits_of(connection);
    bool is_head = connection->exchange == NULL;
    gw_connection_refuse(
        connection,
        (struct http_refusal){
            .status = 408,
            .reason = is_head ? "the head of the request did not come within the time that "
                                "server.limits.header_timeout gives it, in ms"
                              : "the body of the request did not come, or slower than 1 KiB/s, "
                                "within the time that server.limits.body_timeout gives it, in ms",
            .limit = is_head ? limits->header_timeout_ms : limits->body_timeout_ms,
        });
}

/* The last answer, or part of it, is still on its way to a client that reads it. */
static bool is_read_on(struct gw_connection *connection) {
    return io_stream_undelivered(connection->stream) != 0 && makes_progress(connection);
}

/*
 * What it has sent is not read, because too much is held, or an issuer is asked for its keys: that
 * time is not its own. Not so with a body of which a part was read: that part is what is held, and
 * when all wait for each other somebody has to give way.
 */
static bool waits_for_us(const struct gw_connection *connection) {
    if (connection->closes || connection->is_busy)
        return false;
    if (connection->exchange != NULL)
        return connection->exchange->is_waiting;
    return io_stream_is_starved(connection->stream) && io_stream_has_input(connection->stream);
}

static void grant_time(struct gw_connection *connection) {
    const struct config_limits *limits = limits_of(connection);
    connection->body_began_ms = connection->body_len = 0;
    io_timer_start(connection->timer, connection->exchange != NULL ? limits->body_timeout_ms
                                                                   : limits->header_timeout_ms);
}

static void on_timer(void *context) {
    struct gw_connection *connection = context;
    if (connection->opening != GW_OPENED) {
        gw_opening_late(connection);
        return;
    }
    if (waits_for_us(connection)) {
        grant_time(connection);
        return;
    }
    bool is_late =
        !connection->closes && !connection->is_busy && http_parser_in_message(connection->parser);
    if (is_late)
        refuse_late(connection);
    else if (!connection->is_aborted && is_read_on(connection))
        io_timer_start(connection->timer,
                       connection->closes ? LINGER_MS : limits_of(connection)->idle_timeout_ms);
    else
        gw_connection_free(connection);
}

/* Until the next byte of the body has to be there. */
static uint64_t body_time_left(struct gw_connection *connection) {
    uint64_t most_ms = limits_of(connection)->body_timeout_ms, now = now_of(connection);
    if (connection->body_began_ms == 0)
        connection->body_began_ms = now;
    uint64_t ends_ms =
        connection->body_began_ms + most_ms + connection->body_len * 1000 / LIMIT_BODY_RATE;
    uint64_t left_ms = ends_ms > now ? ends_ms - now : 0;
    return left_ms < most_ms ? left_ms : most_ms;
}

static uint64_t idle_time(const struct gw_connection *connection) {
    return connection->worker->is_draining ? IN_USE_MS : limits_of(connection)->idle_timeout_ms;
}

static void watch_sender(struct gw_connection *connection) {
    const struct config_limits *limits = limits_of(connection);
    bool is_in_message = http_parser_in_message(connection->parser);
    bool is_in_head = is_in_message && connection->exchange == NULL;
    if (!is_in_message)
        io_timer_start(connection->timer, idle_time(connection));
    else if (!is_in_head)
        io_timer_start(connection->timer, body_time_left(connection));
    else if (!connection->is_head_timed)
        io_timer_start(connection->timer, limits->header_timeout_ms);
    connection->is_head_timed = is_in_head;
}

/* Begin and end. */

void gw_connection_new(struct gw_worker *worker, int fd, const struct network *peer,
                       bool is_health_only) {
    static const struct io_stream_events events = {
        .on_read = on_read,
        .on_end = on_end,
        .on_queued = on_queued,
        .on_drain = on_drain,
    };
    const struct config *config = worker->config;
    struct gw_connection *connection = mem_alloc(sizeof *connection);
    struct http_parser *parser = NULL;
    struct http_limits limits = {.max_head = (size_t)config->limits.max_header,
                                 .max_body = config->max_request_body};
    if (connection == NULL || http_parser_new(HTTP_REQUESTS, &limits, &parser) != 0) {
        mem_free(connection);
        peers_leave(&worker->gateway->peers, peer);
        gw_shortage_refuse(worker, fd);
        return;
    }
    connection->worker = worker;
    connection->parser = parser;
    connection->peer = connection->client = *peer;
    connection->is_counted = true;
    connection->is_health_only = is_health_only;
    buf_init_held(&connection->pipelined, LIMIT_PIPELINED * 2, io_loop_budget(worker->loop));
    if (io_stream_new(worker->loop, IO_STREAM_TCP, fd, &events, connection, &connection->stream) !=
        0) {
        http_parser_free(connection->parser);
        peers_leave(&worker->gateway->peers, peer);
        mem_free(connection);
        return;
    }
    connection->used_ms = now_of(connection);
    connection->timer = io_timer_new(worker->loop, on_timer, connection);
    connection->is_head_timed = true; /* the first head's time begins now */
    io_timer_start(connection->timer, config->limits.header_timeout_ms);
    list_push_back(&worker->connections, &connection->link);
    worker->n_connections++;
    gw_opening_begin(connection);
}

void gw_connection_close(struct gw_connection *connection) {
    io_stream_flush(connection->stream);
    bool is_sent = io_stream_queued(connection->stream) == 0;
    connection->closes = true;
    connection->is_paused = connection->is_held = false;
    connection->progress_ms = now_of(connection);
    update_reading(connection);
    if (is_sent) {
        io_stream_shutdown(connection->stream);
        io_timer_start(connection->timer, LINGER_MS);
    } else {
        io_timer_stop(connection->timer); /* the other one sees to what is queued */
    }
}

/* By the timer, so that it happens outside of the caller's work. */
void gw_connection_abort(struct gw_connection *connection) {
    connection->closes = connection->is_aborted = true;
    io_timer_start(connection->timer, 0);
}

bool gw_connection_write(struct gw_connection *connection, const struct slice *pieces,
                         size_t n_pieces) {
    if (io_stream_writev(connection->stream, pieces, n_pieces,
                         connection->worker->gateway->write_queue) != 0) {
        gw_connection_abort(connection);
        return false;
    }
    if (UNLIKELY(io_stream_queued(connection->stream) != 0))
        watch_reader(connection);
    return true;
}

/* The option that sets this limit; NULL: it is fixed. */
static const char *option_of(const struct gw_connection *connection,
                             const struct http_refusal *refusal) {
    const struct config *config = connection->worker->config;
    if (refusal->status == 413 && refusal->limit == config->max_request_body)
        return "server.max_request_body";
    if (refusal->status == 431 && refusal->limit == config->limits.max_header)
        return "server.limits.max_header";
    return NULL;
}

/* Of a request that is refused already its body is no other one. */
static void record_refusal(struct gw_connection *connection, const struct http_refusal *refusal,
                           struct slice text) {
    struct gw_exchange *exchange = connection->exchange;
    if (exchange == NULL) {
        gw_record_stranger(connection->worker, &connection->client, "malformed");
    } else if (!exchange->is_refused && !exchange->is_answered) {
        exchange->n_asked = 1;
        gw_record_refused(exchange, refusal->status, "malformed", text);
    }
}

void gw_connection_refuse(struct gw_connection *connection, struct http_refusal refusal) {
    struct buf out = BUF_INIT(KIB(16)), body = BUF_INIT(KIB(2)), text = BUF_INIT(KIB(1));
    const char *option = option_of(connection, &refusal);
    buf_append_cstr(&text, refusal.reason);
    if (refusal.limit != 0)
        buf_printf(&text, ": %llu", (unsigned long long)refusal.limit);
    if (option != NULL)
        buf_printf(&text, " (%s)", option);
    mcp_write_error(&body, SLICE_EMPTY,
                    refusal.status == 503 ? MCP_E_UNAVAILABLE : MCP_E_INVALID_REQUEST,
                    buf_slice(&text), SLICE_EMPTY);
    http_write_status(&out, refusal.status);
    buf_append_cstr(&out, "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
                          "Connection: close\r\n");
    if (connection->exchange != NULL)
        gw_exchange_append_border(connection->exchange, &out);
    http_write_field_u64(&out, SLICE("Content-Length"), buf_len(&body));
    buf_append_cstr(&out, "\r\n");
    buf_append(&out, buf_slice(&body));
    struct slice piece = buf_slice(&out);
    bool is_written = buf_error(&out) == 0 && gw_connection_write(connection, &piece, 1);
    gw_door_tell_refusal(connection->worker, refusal.status, buf_slice(&text), &connection->client);
    record_refusal(connection, &refusal, buf_slice(&text));
    buf_deinit(&out);
    buf_deinit(&body);
    buf_deinit(&text);
    if (is_written)
        gw_connection_close(connection);
}

/* Requests. */

static bool take_body(struct gw_connection *connection, struct slice data) {
    struct gw_exchange *exchange = connection->exchange;
    connection->body_len += data.len;
    if (exchange->is_answered || exchange->is_refused)
        return true; /* refused already: the rest of the body is read and forgotten */
    int error = buf_append(&exchange->body, data);
    if (error == 0)
        return true;
    if (error == -ENOMEM) {
        (void)gw_shortage_of_memory(connection->worker);
        gw_connection_refuse(connection,
                             (struct http_refusal){.status = 503,
                                                   .reason = "the gateway is out of memory for the "
                                                             "request body; try again later"});
        return false;
    }
    gw_connection_refuse(connection, (struct http_refusal){.status = 413,
                                                           .reason = "the request body is too long",
                                                           .limit = exchange->body.max});
    return false;
}

/* One event of the parser. False: stop feeding. */
static bool handle_event(struct gw_connection *connection, enum http_event event,
                         struct slice data) {
    switch (event) {
    case HTTP_NEED_MORE:
        return false;
    case HTTP_HEAD:
        connection->exchange = gw_exchange_new(connection->worker, connection);
        if (connection->exchange == NULL) {
            gw_connection_abort(connection);
            return false;
        }
        connection->body_began_ms = connection->body_len = 0;
        gw_exchange_head(connection->exchange, http_parser_head(connection->parser));
        return !connection->closes;
    case HTTP_DATA:
        return take_body(connection, data);
    case HTTP_END:
        connection->is_busy = true;
        io_timer_stop(connection->timer);
        io_stream_yield(connection->stream);
        gw_exchange_run(connection->exchange);
        return !connection->closes;
    case HTTP_REFUSED:
        gw_connection_refuse(connection, http_parser_refusal(connection->parser));
        return false;
    }
    return false;
}

static void process(struct gw_connection *connection, struct slice bytes) {
    connection->is_reading = true;
    bool goes_on = true;
    while (goes_on && !connection->is_busy && !connection->closes) {
        size_t consumed = 0;
        enum http_event event = HTTP_NEED_MORE;
        struct slice data = SLICE_EMPTY;
        if (http_parser_feed(connection->parser, bytes, &consumed, &event, &data) != 0) {
            connection->is_reading = false;
            gw_connection_free(connection);
            return;
        }
        bytes = slice_from(bytes, consumed);
        goes_on = handle_event(connection, event, data);
    }
    connection->is_reading = false;
    if (connection->closes)
        return;
    struct gw_exchange *exchange = connection->exchange;
    if (!connection->is_busy && exchange != NULL && exchange->is_refused && exchange->is_hurried &&
        !exchange->is_answered)
        gw_exchange_hurry(exchange);
    else if (!connection->is_busy)
        watch_sender(connection);
    else if (bytes.len != 0)
        gw_connection_read(connection, bytes);
}

/* Nothing is being answered, nothing waits to be read. */
static void next_request(struct gw_connection *connection) {
    connection->is_busy = false;
    http_parser_next(connection->parser);
    if (connection->worker->is_draining) /* this answer had begun before, and promised more */
        io_timer_start(connection->timer, idle_time(connection));
    if (connection->is_reading)
        return; /* process() goes on by itself */
    if (connection->is_paused) {
        connection->is_paused = false;
        update_reading(connection);
    }
    /* Each pipelined request is taken out before it is processed: its answer may come at once. */
    struct buf waiting = connection->pipelined;
    buf_init_held(&connection->pipelined, waiting.max, waiting.budget);
    process(connection, buf_slice(&waiting));
    buf_deinit(&waiting);
}

void gw_connection_answered(struct gw_connection *connection, bool keep_alive) {
    connection->exchange = NULL;
    if (connection->closes)
        return;
    connection->used_ms = now_of(connection);
    if (!keep_alive) {
        connection->is_busy = false;
        gw_connection_close(connection);
    } else if (connection->is_clogged) {
        connection->is_draining = true; /* still busy */
    } else {
        next_request(connection);
    }
}

/*
 * To close a connection that is in use would lose the request that is on its way, and proxies do
 * not send it again: it is served for a moment more, and the next answer says that it is the last.
 */
void gw_connection_drain(struct gw_connection *connection) {
    if (connection->exchange != NULL || connection->closes ||
        http_parser_in_message(connection->parser) || io_stream_has_input(connection->stream))
        return; /* what has begun to come is answered, as the last on its connection */
    bool is_open = connection->opening == GW_OPENED;
    if (is_open && now_of(connection) - connection->used_ms < IN_USE_MS)
        io_timer_start(connection->timer, idle_time(connection));
    else if (is_open && io_stream_queued(connection->stream) != 0)
        gw_connection_close(connection); /* its last answer is being read */
    else
        gw_connection_free(connection);
}
