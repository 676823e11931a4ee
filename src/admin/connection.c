/*
 * One connection: TLS, then HTTP messages and back, one request at a time. Clients have time in
 * both directions: a handshake and a head API_HEADER_MS as a whole, a body API_BODY_MS between
 * bytes and as a whole that and a second for each KiB, and what is sent to them has to be taken
 * within API_WRITE_MS, a byte at least.
 *
 * Who is refused by the head is answered at once and the connection ends behind the answer: a body
 * of somebody whom nobody knows is not read, and nothing that stands behind it can be taken for a
 * request.
 */
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"
#include "private.h"

enum { WRITE_CHECKS = 4, BODY_RATE = 1024 };

static void process(struct api_connection *connection, struct slice bytes);

static uint64_t now_of(const struct api_connection *connection) {
    return io_loop_now(connection->api->loop);
}

void api_connection_free(struct api_connection *connection) {
    struct api *api = connection->api;
    list_remove(&connection->link);
    api->n_connections--;
    if (connection->request != NULL)
        api_request_gone(TAKE(connection->request));
    io_stream_free(connection->stream);
    io_timer_free(connection->timer);
    io_timer_free(connection->write_timer);
    http_parser_free(connection->parser);
    buf_deinit(&connection->pipelined);
    mem_free(connection);
}

/* Reading goes on while a request is answered, so that it is noticed when the client goes. */
static void read_on(struct api_connection *connection, struct slice bytes) {
    if (connection->closes)
        return; /* lingering: read and forgotten */
    if (!connection->is_busy)
        process(connection, bytes);
    else if (buf_len(&connection->pipelined) + bytes.len > API_PIPELINED ||
             buf_append(&connection->pipelined, bytes) != 0)
        api_connection_free(connection);
}

static void on_read(void *context, struct slice bytes) {
    read_on(context, bytes);
}

static void on_end(void *context, int error) {
    (void)error;
    api_connection_free(context);
}

/* --- what the client takes --- */

static bool makes_progress(struct api_connection *connection) {
    uint64_t delivered = io_stream_delivered(connection->stream), now = now_of(connection);
    if (delivered != connection->delivered) {
        connection->delivered = delivered;
        connection->progress_ms = now;
    }
    return now - connection->progress_ms < API_WRITE_MS;
}

static void on_write_timer(void *context) {
    struct api_connection *connection = context;
    if (io_stream_queued(connection->stream) == 0)
        return;
    if (makes_progress(connection))
        io_timer_start(connection->write_timer, API_WRITE_MS / WRITE_CHECKS);
    else
        api_connection_free(connection);
}

static void watch_reader(struct api_connection *connection) {
    if (io_timer_is_running(connection->write_timer))
        return;
    connection->progress_ms = now_of(connection);
    connection->delivered = io_stream_delivered(connection->stream);
    io_timer_start(connection->write_timer, API_WRITE_MS / WRITE_CHECKS);
}

static void on_queued(void *context) {
    watch_reader(context);
}

static void end_sending(struct api_connection *connection) {
    io_stream_shutdown(connection->stream);
    io_timer_start(connection->timer, API_LINGER_MS);
}

static void on_drain(void *context) {
    struct api_connection *connection = context;
    io_timer_stop(connection->write_timer);
    if (connection->closes)
        end_sending(connection);
    else if (connection->request != NULL && connection->request->on_drain != NULL)
        connection->request->on_drain(connection->request);
}

/* By the timer, so that it happens outside of the caller's work. */
static void abort_soon(struct api_connection *connection) {
    connection->closes = connection->is_aborted = true;
    io_timer_start(connection->timer, 0);
}

static void close_soon(struct api_connection *connection) {
    connection->closes = true;
    io_stream_flush(connection->stream);
    if (io_stream_queued(connection->stream) == 0)
        end_sending(connection);
    else
        io_timer_stop(connection->timer); /* the other one sees to what is queued */
}

bool api_connection_write(struct api_connection *connection, struct slice bytes) {
    if (connection->is_aborted)
        return false;
    if (io_stream_write(connection->stream, bytes, API_QUEUED) != 0) {
        abort_soon(connection);
        return false;
    }
    if (io_stream_queued(connection->stream) != 0)
        watch_reader(connection);
    return true;
}

size_t api_connection_queued(const struct api_connection *connection) {
    return io_stream_queued(connection->stream);
}

/* --- what comes --- */

void api_append_date(struct api *api, struct buf *out) {
    time_t now = (time_t)(clock_wall_ms() / 1000);
    if ((uint64_t)now != api->date_second) {
        struct tm parts;
        api->date_second = (uint64_t)now;
        gmtime_r(&now, &parts);
        strftime(api->date, sizeof api->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
    }
    buf_append_cstr(out, api->date);
}

/* Before there is a head: of whoever is connected. */
static const struct network *client_of(const struct api_connection *connection) {
    return connection->request != NULL ? &connection->request->client : &connection->peer;
}

/* Of what is no request: no route, nobody, and nothing of it is repeated. */
static void refuse(struct api_connection *connection, uint16_t status, const char *reason) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(8));
    CLEANUP(buf_deinit) struct buf body = BUF_INIT(KIB(4));
    struct json_writer writer;
    api_count_stranger(connection->api, client_of(connection), "console: no whole request");
    json_writer_init(&writer, &body);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("type"), SLICE("about:blank"));
    json_kv_string(&writer, SLICE("title"), slice_from_cstr(http_status_text(status)));
    json_kv_u64(&writer, SLICE("status"), status);
    json_kv_string(&writer, SLICE("detail"), slice_from_cstr(reason));
    json_object_end(&writer);
    http_write_status(&out, status);
    api_append_date(connection->api, &out);
    buf_append_cstr(&out, "Content-Type: application/problem+json\r\n"
                          "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                          "Connection: close\r\n");
    http_write_field_u64(&out, SLICE("Content-Length"), buf_len(&body));
    buf_append_cstr(&out, "\r\n");
    buf_append(&out, buf_slice(&body));
    if (buf_error(&out) == 0 && api_connection_write(connection, buf_slice(&out)))
        close_soon(connection);
    else
        abort_soon(connection);
}

static void on_timer(void *context) {
    struct api_connection *connection = context;
    if (connection->is_tls && !connection->closes && !connection->is_busy &&
        http_parser_in_message(connection->parser))
        refuse(connection, 408, "the request did not come within its time");
    else if (!connection->is_busy || connection->closes)
        api_connection_free(connection);
}

static uint64_t body_time_left(struct api_connection *connection) {
    uint64_t now = now_of(connection);
    if (connection->body_began_ms == 0)
        connection->body_began_ms = now;
    uint64_t ends_ms =
        connection->body_began_ms + API_BODY_MS + connection->body_len * 1000 / BODY_RATE;
    uint64_t left_ms = ends_ms > now ? ends_ms - now : 0;
    return left_ms < API_BODY_MS ? left_ms : API_BODY_MS;
}

static void watch_sender(struct api_connection *connection) {
    bool is_in_message = http_parser_in_message(connection->parser);
    bool is_in_head = is_in_message && connection->request == NULL;
    if (!is_in_message)
        io_timer_start(connection->timer, API_IDLE_MS);
    else if (!is_in_head)
        io_timer_start(connection->timer, body_time_left(connection));
    else if (!connection->is_head_timed)
        io_timer_start(connection->timer, API_HEADER_MS);
    connection->is_head_timed = is_in_head;
}

static bool take_head(struct api_connection *connection) {
    connection->request = api_request_new(connection);
    connection->body_began_ms = connection->body_len = 0;
    if (connection->request == NULL) {
        refuse(connection, 503, "out of memory");
        return false;
    }
    if (api_request_head(connection->request, http_parser_head(connection->parser)))
        return true;
    return false; /* answered */
}

/* IPv6: a household has a /64 at the least. */
static bool is_same_peer(const struct network *a, const struct network *b) {
    size_t n = a->family_bits == NETWORK_V6_BITS ? 8 : 4;
    return a->family_bits == b->family_bits && memcmp(a->bytes, b->bytes, n) == 0;
}

/* Who sends a body is asked of the store when it is whole. Until then one address has a part of the
 * room alone: it could take that of all others. */
static bool holds_too_much(const struct api_connection *connection) {
    uint64_t held = 0;
    if (connection->body_len <= API_PUBLIC_BODY)
        return false;
    LIST_FOREACH_SAFE (&connection->api->connections, link, tmp) {
        const struct api_connection *other = CONTAINER_OF(link, struct api_connection, link);
        if (other->request != NULL && is_same_peer(client_of(other), client_of(connection)))
            held += buf_len(&other->request->body);
    }
    return held > API_HELD_OF_ONE;
}

static bool take_body(struct api_connection *connection, struct slice data) {
    struct api_request *request = connection->request;
    connection->body_len += data.len;
    if (holds_too_much(connection) || budget_is_exceeded(&connection->api->held)) {
        refuse(connection, 503, "too much is held of other requests; try again later");
        return false;
    }
    int error = buf_append(&request->body, data);
    if (error != 0)
        refuse(connection, error == -ENOMEM ? 503 : 413,
               error == -ENOMEM ? "out of memory" : "the body is too long for this route");
    return error == 0;
}

/* One event of the parser. False: stop feeding. */
static bool handle_event(struct api_connection *connection, enum http_event event,
                         struct slice data) {
    switch (event) {
    case HTTP_NEED_MORE:
        return false;
    case HTTP_HEAD:
        return take_head(connection);
    case HTTP_DATA:
        return take_body(connection, data);
    case HTTP_END:
        connection->is_busy = true;
        io_timer_stop(connection->timer);
        api_request_run(connection->request);
        return !connection->closes;
    case HTTP_REFUSED:
        refuse(connection, http_parser_refusal(connection->parser).status,
               http_parser_refusal(connection->parser).reason);
        return false;
    }
    return false;
}

static void process(struct api_connection *connection, struct slice bytes) {
    connection->is_reading = true;
    bool goes_on = true;
    while (goes_on && !connection->is_busy && !connection->closes) {
        size_t consumed = 0;
        enum http_event event = HTTP_NEED_MORE;
        struct slice data = SLICE_EMPTY;
        if (http_parser_feed(connection->parser, bytes, &consumed, &event, &data) != 0) {
            connection->is_reading = false;
            api_connection_free(connection);
            return;
        }
        bytes = slice_from(bytes, consumed);
        goes_on = handle_event(connection, event, data);
    }
    connection->is_reading = false;
    if (connection->closes)
        return;
    if (!connection->is_busy)
        watch_sender(connection);
    else if (bytes.len != 0)
        read_on(connection, bytes);
}

void api_connection_answered(struct api_connection *connection, bool keep_alive) {
    connection->request = NULL;
    connection->is_busy = false;
    if (connection->closes)
        return;
    if (!keep_alive || connection->api->is_stopping) {
        close_soon(connection);
        return;
    }
    http_parser_next(connection->parser);
    if (connection->is_reading)
        return; /* process() goes on by itself */
    struct buf waiting = connection->pipelined;
    buf_init(&connection->pipelined, waiting.max);
    process(connection, buf_slice(&waiting));
    buf_deinit(&waiting);
}

/* --- the beginning --- */

static void on_tls(void *context, int error) {
    static const struct slice in_the_clear =
        SLICE_INIT("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                   "Content-Length: 49\r\n\r\nThis port speaks HTTPS: use https:// in the URL.\n");
    struct api_connection *connection = context;
    if (error == -EPROTONOSUPPORT) {
        io_stream_read(connection->stream, true);
        if (api_connection_write(connection, in_the_clear))
            close_soon(connection);
    } else if (error != 0) {
        char text[NETWORK_TEXT];
        log_write(connection->api->options.log, LOG_DEBUG, "admin", "a TLS handshake failed",
                  LOG_TEXT("client", network_write_address(&connection->peer, text)),
                  LOG_CSTR("reason", io_stream_tls_reason(connection->stream)));
        api_connection_free(connection);
    } else {
        connection->is_tls = connection->is_head_timed = true;
        io_timer_start(connection->timer, API_HEADER_MS);
        io_stream_read(connection->stream, true);
    }
}

/* Behind a proxy are many. */
static bool has_room(struct api *api, const struct network *peer) {
    size_t n = 0;
    if (api->n_connections >= API_CONNECTIONS)
        return false;
    if (api_trusts(api, peer))
        return true;
    LIST_FOREACH_SAFE (&api->connections, link, tmp)
        n += is_same_peer(&CONTAINER_OF(link, struct api_connection, link)->peer, peer);
    return n < API_CONNECTIONS_OF_ONE;
}

static struct io_tls *take_tls(struct api *api) {
    pthread_mutex_lock(&api->mutex);
    struct io_tls *tls = io_tls_ref(api->tls);
    pthread_mutex_unlock(&api->mutex);
    return tls;
}

void api_connection_new(struct api *api, int fd, const struct network *peer) {
    static const struct io_stream_events events = {
        .on_read = on_read, .on_end = on_end, .on_queued = on_queued, .on_drain = on_drain};
    const struct http_limits limits = {.max_head = API_HEAD, .max_body = API_BODY};
    struct io_stream *stream = NULL;
    struct http_parser *parser = NULL;
    struct api_connection *connection = has_room(api, peer) ? mem_alloc(sizeof *connection) : NULL;
    if (connection == NULL || http_parser_new(HTTP_REQUESTS, &limits, &parser) != 0) {
        mem_free(connection);
        io_fd_close(&fd);
        return;
    }
    if (io_stream_new(api->loop, IO_STREAM_TCP, fd, &events, connection, &stream) != 0) {
        http_parser_free(parser);
        mem_free(connection);
        return;
    }
    connection->api = api;
    connection->peer = *peer;
    connection->stream = stream;
    connection->parser = parser;
    buf_init(&connection->pipelined, API_PIPELINED * 2);
    connection->timer = io_timer_new(api->loop, on_timer, connection);
    connection->write_timer = io_timer_new(api->loop, on_write_timer, connection);
    io_timer_start(connection->timer, API_HEADER_MS);
    list_push_back(&api->connections, &connection->link);
    api->n_connections++;
    struct io_tls *tls = take_tls(api);
    int error = io_stream_accept_tls(stream, tls, SLICE_EMPTY, on_tls, connection);
    io_tls_unref(tls);
    if (error != 0)
        api_connection_free(connection);
}
