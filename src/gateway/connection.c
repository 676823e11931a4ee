/*
 * One client connection: bytes to HTTP messages and back. One request at a time: what is pipelined
 * behind it waits, and when enough waits, nothing more is read.
 */
#include "base/mem.h"
#include "private.h"

enum {
    HEAD_TIMEOUT_MS = 30000,  /* for a whole head, once begun, and between bytes of a body */
    IDLE_TIMEOUT_MS = 120000, /* between requests */
    LINGER_MS = 2000,         /* for the client to read the last answer */
};

/* Answers that a client does not read. */
#define WRITE_QUEUE MIB(64)
#define PIPELINE    KIB(64)

static void process(struct gw_connection *connection, struct slice bytes);

struct gw_connection *gw_connection_free(struct gw_connection *connection) {
    struct gw_worker *worker = connection->worker;
    list_remove(&connection->link);
    worker->n_connections--;
    if (connection->exchange != NULL)
        gw_exchange_unref_connection(TAKE(connection->exchange));
    io_stream_free(connection->stream);
    io_timer_free(connection->timer);
    http_parser_free(connection->parser);
    buf_deinit(&connection->pipelined);
    mem_free(connection);
    gw_worker_check_drained(worker);
    return NULL;
}

static void on_read(void *context, struct slice bytes) {
    struct gw_connection *connection = context;
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
    if (buf_len(&connection->pipelined) >= PIPELINE) {
        connection->is_paused = true;
        io_stream_read(connection->stream, false);
    }
}

static void on_end(void *context, int error) {
    struct gw_connection *connection = context;
    (void)error;
    /* Half-closed clients exist, but an answer to one that hung up is worth nothing to anybody. */
    gw_connection_free(connection);
}

static void on_drain(void *context) {
    struct gw_connection *connection = context;
    if (connection->closes) {
        io_stream_shutdown(connection->stream);
        io_timer_start(connection->timer, LINGER_MS);
    }
}

static void on_timer(void *context) {
    struct gw_connection *connection = context;
    if (!connection->closes && !connection->is_busy && http_parser_in_message(connection->parser)) {
        gw_connection_refuse(connection,
                             (struct http_refusal){408, "the request did not come in time"});
        return;
    }
    gw_connection_free(connection);
}

void gw_connection_new(struct gw_worker *worker, int fd) {
    static const struct io_stream_events events = {
        .on_read = on_read,
        .on_end = on_end,
        .on_drain = on_drain,
    };
    struct gw_connection *connection = mem_xalloc(sizeof *connection);
    struct http_limits limits = {.max_body = worker->gateway->config->max_request_body};
    connection->worker = worker;
    buf_init_held(&connection->pipelined, PIPELINE + KIB(64), io_loop_budget(worker->loop));
    if (http_parser_new(HTTP_REQUESTS, &limits, &connection->parser) != 0)
        mem_exhausted(sizeof *connection);
    if (io_stream_new(worker->loop, IO_STREAM_TCP, fd, &events, connection, &connection->stream) !=
        0) {
        http_parser_free(connection->parser);
        mem_free(connection);
        return;
    }
    connection->timer = io_timer_new(worker->loop, on_timer, connection);
    io_timer_start(connection->timer, HEAD_TIMEOUT_MS);
    list_push_back(&worker->connections, &connection->link);
    worker->n_connections++;
    io_stream_read(connection->stream, true);
}

void gw_connection_close(struct gw_connection *connection) {
    bool is_sent = io_stream_queued(connection->stream) == 0;
    connection->closes = true;
    io_timer_start(connection->timer, is_sent ? LINGER_MS : IDLE_TIMEOUT_MS);
    if (connection->is_paused) {
        connection->is_paused = false;
        io_stream_read(connection->stream, true);
    }
    if (is_sent)
        io_stream_shutdown(connection->stream);
}

/* By the timer, so that it happens outside of the caller's work. */
void gw_connection_abort(struct gw_connection *connection) {
    connection->closes = true;
    io_timer_start(connection->timer, 0);
}

bool gw_connection_write(struct gw_connection *connection, const struct slice *pieces,
                         size_t n_pieces) {
    if (io_stream_writev(connection->stream, pieces, n_pieces, WRITE_QUEUE) == 0)
        return true;
    gw_connection_abort(connection);
    return false;
}

static void append_json_error(struct buf *out, enum mcp_error_code code, const char *text) {
    mcp_write_error(out, SLICE_EMPTY, code, slice_from_cstr(text), SLICE_EMPTY);
}

void gw_connection_refuse(struct gw_connection *connection, struct http_refusal refusal) {
    struct buf out = BUF_INIT(KIB(4)), body = BUF_INIT(KIB(1));
    append_json_error(&body, MCP_E_INVALID_REQUEST, refusal.reason);
    http_write_status(&out, refusal.status);
    buf_append_cstr(&out, "Content-Type: application/json\r\nConnection: close\r\n");
    http_write_field_u64(&out, SLICE("Content-Length"), buf_len(&body));
    buf_append_cstr(&out, "\r\n");
    buf_append(&out, buf_slice(&body));
    struct slice piece = buf_slice(&out);
    bool is_written = buf_error(&out) == 0 && gw_connection_write(connection, &piece, 1);
    buf_deinit(&out);
    buf_deinit(&body);
    log_write(connection->worker->gateway->log, LOG_INFO, "http", "refused a request",
              LOG_NUM("status", refusal.status), LOG_CSTR("reason", refusal.reason));
    if (is_written)
        gw_connection_close(connection);
}

/* One event of the parser. False: stop feeding. */
static bool handle_event(struct gw_connection *connection, enum http_event event,
                         struct slice data) {
    switch (event) {
    case HTTP_NEED_MORE:
        return false;
    case HTTP_HEAD:
        connection->exchange = gw_exchange_new(connection);
        gw_exchange_head(connection->exchange, http_parser_head(connection->parser));
        return !connection->closes;
    case HTTP_DATA:
        if (connection->exchange->is_answered || buf_len(&connection->exchange->early) != 0)
            return true; /* refused already: the rest of the body is read and forgotten */
        if (buf_append(&connection->exchange->body, data) == 0)
            return true;
        gw_connection_refuse(connection,
                             (struct http_refusal){413, "the request body is too long"});
        return false;
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
    if (connection->is_busy) {
        if (bytes.len != 0)
            on_read(connection, bytes);
        return;
    }
    bool is_in_message = http_parser_in_message(connection->parser);
    bool is_in_head = is_in_message && connection->exchange == NULL;
    if (!is_in_head || !connection->is_head_timed)
        io_timer_start(connection->timer, is_in_message ? HEAD_TIMEOUT_MS : IDLE_TIMEOUT_MS);
    connection->is_head_timed = is_in_head;
}

void gw_connection_answered(struct gw_connection *connection, bool keep_alive) {
    connection->exchange = NULL;
    connection->is_busy = false;
    if (connection->closes)
        return;
    if (!keep_alive || connection->worker->is_draining) {
        gw_connection_close(connection);
        return;
    }
    http_parser_next(connection->parser);
    if (connection->is_reading)
        return; /* process() goes on by itself */
    if (connection->is_paused) {
        connection->is_paused = false;
        io_stream_read(connection->stream, true);
    }
    /* Each pipelined request is taken out before it is processed: its answer may come at once. */
    struct buf waiting = connection->pipelined;
    buf_init_held(&connection->pipelined, waiting.max, waiting.budget);
    process(connection, buf_slice(&waiting));
    buf_deinit(&waiting);
}
