/*
 * Clients of HTTP+SSE (MCP 2024-11-05, basic/transports; deprecated since 2025-03-26). A GET opens
 * a session and its stream, whose first event says where to POST to; a POST is answered with 202,
 * and what there is to say of its message is said on the stream.
 *
 * So the session is one like all others, but it is there as long as its stream: nobody could open
 * that again, and hanging up is how such a client ends its session (2024-11-05, basic/lifecycle,
 * shutdown). What it has running is cancelled then. The transports that came later have sessions
 * that outlive their connections, and hanging up cancels nothing.
 *
 * A POST lands on any worker; its message is run on the one that has the stream, as an exchange
 * without a connection which the stream carries. The POST is answered when that has begun, so that
 * a client that does not read its stream waits with the next message.
 *
 * Clients that open a lost stream again by themselves (EventSource does) do not initialize again. A
 * session without initialize is therefore served, by the revision of MCP-Protocol-Version, else by
 * 2024-11-05: who asks was proved, and what it may do does not depend on it.
 */
#include "base/mem.h"
#include "private.h"

_Static_assert(LIMIT_CARRIED == 256, "the refusal says so");

static struct gw_post *free_post(struct gw_post *post) {
    gw_session_unref(post->session);
    auth_identity_unref(post->identity);
    upstream_unref(post->only);
    mem_free(post->head);
    buf_deinit(&post->body);
    buf_deinit(&post->answer);
    mem_free(post);
    return NULL;
}

/* The answer of the POST, on its own worker. */

static void deliver_answer(struct io_message *message) {
    struct gw_post *post = CONTAINER_OF(message, struct gw_post, message);
    struct gw_exchange *exchange = post->exchange;
    if (exchange != NULL) {
        exchange->post = NULL;
        exchange->session = gw_session_unref(exchange->session); /* its worker writes to it */
        if (post->status == 404)
            gw_exchange_refuse(exchange, 404, MCP_E_NOT_FOUND,
                               "there is no such session: open the stream again");
        else if (post->status == 503)
            gw_exchange_refuse(exchange, 503, MCP_E_UNAVAILABLE, "the gateway is out of memory");
        else
            gw_exchange_send(exchange, post->status, buf_slice(&post->answer));
    }
    free_post(post);
}

/* When the client is gone nobody waits for it, perhaps not even its loop. */
static void send_back(struct gw_post *post) {
    post->message.deliver = deliver_answer;
    if (atomic_load(&post->is_abandoned))
        free_post(post);
    else
        io_loop_post(post->from->loop, &post->message);
}

void gw_sse_abandon(struct gw_post *post) {
    post->exchange = NULL;
    atomic_store(&post->is_abandoned, true);
}

/* The message, on the worker of the stream. */

/* The POST does not wait for the answer, so no connection bounds how many there are. */
bool gw_sse_is_full(struct gw_exchange *exchange) {
    if (exchange->carrier == NULL || exchange->carrier->n_carried <= LIMIT_CARRIED)
        return false;
    gw_exchange_refuse(exchange, 429, MCP_E_BUSY,
                       "256 messages of this session are being answered; wait for some of them");
    return true;
}

/* NULL: there is no memory. */
static struct gw_exchange *carry(struct gw_exchange *stream, struct gw_post *post) {
    struct gw_exchange *exchange = gw_exchange_new(stream->worker, NULL);
    struct gw_caller *caller =
        exchange != NULL ? gw_caller_new(stream->worker, auth_identity_ref(post->identity)) : NULL;
    if (caller == NULL) {
        mem_free(exchange);
        return NULL;
    }
    exchange->carrier = stream;
    stream->n_carried++;
    list_push_back(&stream->carried, &exchange->carried_link);
    exchange->caller = caller;
    exchange->principal = caller->principal;
    exchange->session = gw_session_ref(post->session);
    exchange->only = post->only != NULL ? upstream_ref(post->only) : NULL;
    exchange->method = HTTP_METHOD_POST;
    exchange->client = post->client;
    exchange->is_from_proxy = post->is_from_proxy;
    exchange->kept_head = TAKE(post->head);
    exchange->body = post->body;
    buf_init(&post->body, 0);
    exchange->post = post;
    post->run = exchange;
    return exchange;
}

/* `has_waited`: what was proved of the caller may not hold any more. */
static void run(struct gw_exchange *stream, struct gw_post *post, bool has_waited) {
    struct gw_session *session = post->session;
    struct gw_exchange *exchange = carry(stream, post);
    if (exchange == NULL) {
        post->status = 503;
        send_back(post);
        return;
    }
    post->status = 202;
    atomic_store(&session->is_begun, true);
    gw_session_note_caller(session, post->identity);
    if (!session->is_initialized && post->version_header != MCP_REVISION_NONE)
        session->revision = post->version_header;
    if (has_waited && !gw_authn_still_holds(exchange))
        gw_exchange_refuse(exchange, 401, MCP_E_UNAUTHENTICATED,
                           "the credentials ended while the message waited");
    else
        gw_message_run(exchange);
    if (post->run != NULL)
        post->run->post = NULL;
    send_back(post);
}

static void deliver_message(struct io_message *message) {
    struct gw_post *post = CONTAINER_OF(message, struct gw_post, message);
    struct gw_exchange *stream =
        map_get(&post->worker->streams, slice_from_cstr(post->session->id));
    if (stream == NULL) {
        post->status = 404;
        send_back(post);
    } else if (gw_exchange_is_clogged(stream) || !list_is_empty(&stream->held)) {
        list_push_back(&stream->held, &post->link);
    } else {
        run(stream, post, false);
    }
}

void gw_sse_go_on(struct gw_exchange *stream) {
    struct list_link *link;
    while (!gw_exchange_is_clogged(stream) && (link = list_pop_front(&stream->held)) != NULL)
        run(stream, CONTAINER_OF(link, struct gw_post, link), true);
}

void gw_sse_end(struct gw_exchange *stream) {
    struct list_link *link;
    while ((link = list_pop_front(&stream->held)) != NULL) {
        struct gw_post *post = CONTAINER_OF(link, struct gw_post, link);
        post->status = 404;
        send_back(post);
    }
    stream->n_carried = 0;
    while ((link = list_pop_front(&stream->carried)) != NULL)
        CONTAINER_OF(link, struct gw_exchange, carried_link)->carrier = NULL;
    gw_session_close(stream->session); /* which cancels what it has running */
}

/* Requests. */

/* The first event: where to POST to, as a path, so that it holds behind whatever host name. */
static void tell_endpoint(struct gw_exchange *exchange) {
    const struct config *config = exchange->worker->config;
    struct buf url CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI + KIB(1));
    struct slice path = gw_exchange_fields(exchange)->path;
    struct slice endpoint = config_endpoint_of(config, path, &exchange->door);
    if (config_message_path(config, endpoint, &url) != 0 ||
        buf_printf(&url, "?sessionId=%s", exchange->session->id) != 0)
        gw_connection_abort(exchange->connection);
    else
        gw_exchange_tell(exchange, SLICE("endpoint"), buf_slice(&url));
}

void gw_sse_open(struct gw_exchange *exchange) {
    struct gw_worker *worker = exchange->worker;
    struct gw_session *session =
        gw_session_new(worker->gateway, exchange->principal, exchange->only, GW_SESSION_SSE,
                       MCP_2024_11_05, 0, io_loop_now(worker->loop));
    if (session == NULL) {
        bool is_short = mem_is_short();
        gw_exchange_refuse(exchange, is_short ? 503 : 429,
                           is_short ? MCP_E_UNAVAILABLE : MCP_E_BUSY,
                           is_short ? "the gateway is out of memory; try again later"
                                    : "max_sessions are open and in use; try again later");
        return;
    }
    gw_session_note_caller(session, exchange->caller->identity);
    exchange->session = gw_session_ref(session);
    if (gw_exchange_begin_session_stream(exchange)) {
        tell_endpoint(exchange);
        if (worker->is_draining)
            gw_exchange_end_stream(exchange);
        else
            gw_notify_flush(worker, session);
    } else {
        gw_session_close(session);
    }
    gw_session_unref(session);
}

static enum mcp_revision claimed_revision(const struct gw_exchange *exchange) {
    bool is_legacy =
        exchange->version_header_known && !mcp_revision_is_modern(exchange->version_header);
    return is_legacy ? exchange->version_header : MCP_REVISION_NONE;
}

/* Where the stream of the session is; NULL: it has ended. */
static struct gw_worker *worker_of(struct gw_session *session) {
    pthread_mutex_lock(&session->mutex);
    struct gw_worker *worker = session->stream_worker;
    pthread_mutex_unlock(&session->mutex);
    return worker;
}

void gw_sse_post(struct gw_exchange *exchange) {
    if (!gw_exchange_find_session(exchange, GW_SESSION_SSE))
        return;
    struct gw_worker *worker = worker_of(exchange->session);
    if (worker == NULL) {
        gw_exchange_refuse(exchange, 404, MCP_E_NOT_FOUND,
                           "there is no such session: open the stream again");
        return;
    }
    struct gw_post *post = mem_alloc(sizeof *post);
    struct http_head *head = post != NULL ? http_head_copy(gw_exchange_fields(exchange)) : NULL;
    if (head == NULL) {
        mem_free(post);
        gw_exchange_refuse(exchange, 503, MCP_E_UNAVAILABLE, "the gateway is out of memory");
        return;
    }
    post->message.deliver = deliver_message;
    post->from = exchange->worker;
    post->worker = worker;
    post->exchange = exchange;
    atomic_init(&post->is_abandoned, false);
    post->session = gw_session_ref(exchange->session);
    post->identity = auth_identity_ref(exchange->caller->identity);
    post->only = exchange->only != NULL ? upstream_ref(exchange->only) : NULL;
    post->client = exchange->client;
    post->is_from_proxy = exchange->is_from_proxy;
    post->version_header = claimed_revision(exchange);
    post->head = head;
    post->body = exchange->body;
    buf_init(&exchange->body, 0);
    buf_init(&post->answer, LIMIT_HTTP_HEADER_BLOCK * 6 + KIB(16));
    exchange->post = post;
    io_loop_post(worker->loop, &post->message);
}
