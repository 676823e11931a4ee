/*
 * One connection, from the name of a host to the socket that carries a request, and its end. The
 * steps have one deadline together; each that fails is reported with its own kind, and none of them
 * has let a byte of the request out.
 */
#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"
#include "private.h"

static void on_read(void *context, struct slice bytes);
static void on_end(void *context, int error);
static void on_timer(void *context);

static const struct io_stream_events stream_events = {.on_read = on_read, .on_end = on_end};

void client_connection_enter(struct client_connection *connection, enum client_state state) {
    connection->state = state;
}

/* --- life --- */

static void release(struct client_connection *connection) {
    http_parser_free(connection->parser);
    buf_deinit(&connection->held);
    mem_free(connection);
}

struct client_connection *client_connection_free(struct client_connection *connection) {
    struct client_pool *pool = connection->pool;
    client_pool_forget(connection);
    list_remove(&connection->link);
    connection->client->n_connections--;
    pool->n_connections--;
    client_pool_put(pool);
    if (connection->call != NULL)
        connection->call->connection = NULL;
    connection->call = NULL;
    connection->dial = io_dial_free(connection->dial);
    connection->stream = io_stream_free(connection->stream);
    connection->timer = io_timer_free(connection->timer);
    if (connection->is_feeding)
        connection->is_freed = true; /* a callback looks into the parser's head */
    else
        release(connection);
    return NULL;
}

void client_connection_end_feeding(struct client_connection *connection) {
    connection->is_feeding = false;
    if (connection->is_freed)
        release(connection);
}

/* --- failing before the request was sent --- */

static const struct client_peer *first_hop(const struct client_target *target) {
    return target->has_proxy ? &target->proxy : &target->origin;
}

static void fail(struct client_connection *connection, enum client_failure_kind kind,
                 const struct client_peer *peer, const char *what) {
    struct client_failure failure = client_failure_make(connection->call, kind, peer, what);
    client_call_fail(connection->call, &failure);
}

static void fail_at_proxy(struct client_connection *connection, const char *what) {
    fail(connection, CLIENT_FAILED_PROXY, &connection->target->proxy, what);
}

static void fail_at_tls(struct client_connection *connection, const char *what) {
    fail(connection, CLIENT_FAILED_TLS, &connection->target->origin, what);
}

void client_connection_fail_later(struct client_connection *connection,
                                  const struct client_failure *failure) {
    connection->failure = *failure;
    client_connection_enter(connection, CLIENT_FAILED);
    io_timer_start(connection->timer, 0);
}

/* --- ready --- */

int client_connection_send(struct client_connection *connection) {
    struct client_call *call = connection->call;
    client_connection_enter(connection, CLIENT_BUSY);
    io_timer_stop(connection->timer);
    connection->is_held = connection->has_ended = false;
    if (call->is_head)
        http_parser_expect_no_body(connection->parser);
    if (call->has_secret)
        io_stream_has_secrets(connection->stream);
    connection->accepted_before = io_stream_accepted(connection->stream);
    int error = io_stream_write(connection->stream, buf_slice(&call->request), SIZE_MAX);
    call->is_sent |= error == 0 || error == -ENOMEM || error == -EIO;
    if (error != 0)
        return error;
    if (!client_call_may_need_request(call))
        client_call_forget_request(call);
    io_stream_read(connection->stream, !call->is_paused);
    return 0;
}

static void ready(struct client_connection *connection) {
    connection->target = NULL;
    if (client_connection_send(connection) == 0)
        return;
    client_call_broken(connection->call, "the connection broke while the request was sent");
}

/* --- TLS --- */

static void on_secured(void *context, int error) {
    struct client_connection *connection = context;
    if (error == 0)
        ready(connection);
    else
        fail_at_tls(connection, io_stream_tls_reason(connection->stream));
}

static struct io_tls *tls_for(const struct client_connection *connection) {
    struct io_tls *own = connection->target->tls;
    return own != NULL ? own : connection->client->tls;
}

static void secure(struct client_connection *connection) {
    const struct client_target *target = connection->target;
    if (!target->is_tls) {
        ready(connection);
        return;
    }
    client_connection_enter(connection, CLIENT_SECURING);
    if (io_stream_start_tls(connection->stream, tls_for(connection), target->origin.host,
                            on_secured, connection) != 0)
        fail_at_tls(connection, "TLS could not be started");
}

/* --- the proxy --- */

static void refused_by_proxy(struct client_connection *connection, uint16_t status) {
    char what[80];
    if (status == 407)
        snprintf(what, sizeof what, "it wants other credentials (status 407)");
    else
        snprintf(what, sizeof what, "it refused to connect (status %u)", (unsigned)status);
    fail_at_proxy(connection, what);
}

/*
 * RFC 9110 section 9.3.6: any 2xx begins the tunnel right behind the head, whatever the framing
 * fields say. The server on the far side waits for us, so a byte behind the head comes from the
 * proxy and would be read as the server's.
 */
static void read_proxy(struct client_connection *connection, struct slice bytes) {
    size_t consumed = 0;
    enum http_event event = HTTP_NEED_MORE;
    struct slice data = SLICE_EMPTY;
    if (http_parser_feed(connection->parser, bytes, &consumed, &event, &data) != 0) {
        fail(connection, CLIENT_FAILED_MEMORY, &connection->target->proxy,
             "there is not enough memory");
        return;
    }
    if (event == HTTP_REFUSED) {
        fail_at_proxy(connection, http_parser_refusal(connection->parser).reason);
        return;
    }
    if (event != HTTP_HEAD)
        return;
    uint16_t status = http_parser_head(connection->parser)->status;
    if (status / 100 != 2) {
        refused_by_proxy(connection, status);
    } else if (consumed != bytes.len) {
        fail_at_proxy(connection, "it sent bytes behind its answer to CONNECT");
    } else {
        http_parser_next(connection->parser);
        io_stream_read(connection->stream, false);
        secure(connection);
    }
}

static void tunnel(struct client_connection *connection) {
    client_connection_enter(connection, CLIENT_TUNNELLING);
    io_stream_has_secrets(connection->stream);
    if (io_stream_write(connection->stream, secret_reveal(connection->target->connect), SIZE_MAX) !=
        0) {
        fail_at_proxy(connection, "it closed the connection before it answered");
        return;
    }
    io_stream_read(connection->stream, true);
}

/* --- dialling --- */

/*
 * The address itself, of each attempt, just before it is connected to: what a name said at another
 * time counts for nothing. Without a proxy the first hop is the origin.
 */
static bool may_dial(void *context, const struct io_address *address) {
    const struct client_connection *connection = context;
    const struct client_target *target = connection->target;
    struct network network = io_address_network(address);
    return target->rules == NULL || client_rules_allow(target->rules, &network, target->is_tls);
}

static bool is_refused(struct client_connection *connection, const struct io_dial_result *result) {
    return result->error == -EACCES && !may_dial(connection, &result->peer);
}

static void report_refused(struct client_connection *connection, const struct io_address *address) {
    char what[CLIENT_RULES_TEXT];
    struct network network = io_address_network(address);
    client_rules_explain(connection->target->rules, &network, connection->target->is_tls, what);
    fail(connection, CLIENT_FAILED_REFUSED, first_hop(connection->target), what);
}

static void report_dial(struct client_connection *connection, const struct io_dial_result *result) {
    char what[128];
    const char *reason = result->reason != NULL ? result->reason : "no connection";
    bool is_resolve = result->step == IO_DIAL_RESOLVE;
    const struct client_peer *peer = first_hop(connection->target);
    /* The address too, where the name does not say it already. */
    bool is_said = slice_eq(slice_from_cstr(result->peer.text), peer->label);
    const char *address = is_resolve || is_said ? "" : result->peer.text;
    snprintf(what, sizeof what, "%s%s%s", address, address[0] != '\0' ? ": " : "", reason);
    /* What this process lacks says nothing of the server. */
    bool is_ours = result->error == -EMFILE || result->error == -ENFILE ||
                   result->error == -ENOMEM || result->error == -ENOBUFS;
    fail(connection,
         is_ours      ? CLIENT_FAILED_MEMORY
         : is_resolve ? CLIENT_FAILED_RESOLVE
                      : CLIENT_FAILED_CONNECT,
         peer, what);
}

static void use_socket(struct client_connection *connection, int fd) {
    struct io_loop *loop = connection->client->loop;
    if (io_stream_new(loop, IO_STREAM_TCP, fd, &stream_events, connection, &connection->stream) !=
        0) {
        fail(connection, CLIENT_FAILED_CONNECT, first_hop(connection->target),
             "the socket cannot be used");
        return;
    }
    io_stream_drains(connection->stream);
    uint64_t now = io_loop_now(loop);
    io_timer_start(connection->timer, connection->deadline > now ? connection->deadline - now : 0);
    if (connection->target->has_proxy)
        tunnel(connection);
    else
        secure(connection);
}

static void on_dialled(void *context, const struct io_dial_result *result) {
    struct client_connection *connection = context;
    if (result->fd < 0 && is_refused(connection, result)) {
        report_refused(connection, &result->peer);
        return;
    }
    if (result->fd < 0) {
        report_dial(connection, result);
        return;
    }
    connection->dial = io_dial_free(connection->dial);
    use_socket(connection, result->fd);
}

/* Someone else has the other end already. */
static void connect_here(struct client_connection *connection) {
    const struct client_target *target = connection->target;
    int fd = target->connect_fn(target->connect_context);
    if (fd >= 0)
        use_socket(connection, fd);
    else
        fail(connection, CLIENT_FAILED_CONNECT, first_hop(target), "no connection is taken");
}

static void dial(struct client_connection *connection, uint64_t timeout_ms) {
    const struct client_target *target = connection->target;
    const struct client_peer *peer = first_hop(target);
    enum client_failure_kind kind = CLIENT_FAILED_TLS;
    const char *what = "TLS is not set up";
    if (target->connect_fn != NULL) {
        client_connection_enter(connection, CLIENT_DIALLING);
        connection->deadline = io_loop_now(connection->client->loop) + timeout_ms;
        io_timer_start(connection->timer, 0); /* not from inside client_start() */
        return;
    }
    if (!target->is_tls || tls_for(connection) != NULL) {
        client_connection_enter(connection, CLIENT_DIALLING);
        int error = io_dial_start(connection->client->resolver, peer->host, peer->port, timeout_ms,
                                  may_dial, on_dialled, connection, &connection->dial);
        /* Now: the dial has made the loop look at the clock. */
        connection->deadline = io_loop_now(connection->client->loop) + timeout_ms;
        if (error == 0)
            return;
        kind = error == -ENOMEM ? CLIENT_FAILED_MEMORY : CLIENT_FAILED_CONNECT;
        what = "dialling could not be started";
    }
    struct client_failure failure = client_failure_make(connection->call, kind, peer, what);
    client_connection_fail_later(connection, &failure);
}

int client_connection_open(struct client_pool *pool, struct client_call *call,
                           const struct client_target *target) {
    /* The length of an answer is the call's to limit: its connection serves others too. */
    static const struct http_limits limits = {.max_body = UINT64_MAX};
    struct client_connection *connection = mem_alloc(sizeof *connection);
    if (connection == NULL)
        return -ENOMEM;
    int error = http_parser_new(HTTP_RESPONSES, &limits, &connection->parser);
    if (error != 0) {
        mem_free(connection);
        return error;
    }
    connection->client = pool->client;
    connection->pool = pool;
    connection->target = target;
    buf_init_held(&connection->held, MIB(1), io_loop_budget(pool->client->loop));
    connection->timer = io_timer_new(pool->client->loop, on_timer, connection);
    list_push_back(&pool->client->connections, &connection->link);
    pool->n_connections++;
    pool->client->n_connections++;
    connection->call = call;
    call->connection = connection;
    call->is_on_kept = false;
    dial(connection, call->connect_timeout_ms);
    return 0;
}

/* --- what the loop says --- */

/* True: nothing of the request has left, and now nothing of it will. */
static bool withdraw(struct client_connection *connection) {
    if (!io_stream_withdraw(connection->stream, connection->accepted_before))
        return false;
    client_call_unsent(connection->call);
    return true;
}

/* An answer to nothing: the next request would be taken for its cause. */
static void tell_unasked(const struct client_connection *connection) {
    log_write(connection->client->log, LOG_WARN, "client",
              "a server sent bytes that nobody asked for",
              LOG_TEXT("server", connection->pool->origin));
}

static void read_answer(struct client_connection *connection, struct slice bytes) {
    struct client_call *call = connection->call;
    if (UNLIKELY(call->is_on_kept && !call->is_answered && withdraw(connection))) {
        tell_unasked(connection);
        client_call_broken(call, "it sent bytes that nobody asked for");
        return;
    }
    client_answer_read(connection, bytes);
}

static void on_read(void *context, struct slice bytes) {
    struct client_connection *connection = context;
    switch (connection->state) {
    case CLIENT_TUNNELLING:
        read_proxy(connection, bytes);
        return;
    case CLIENT_BUSY:
        read_answer(connection, bytes);
        return;
    case CLIENT_IDLE:
        tell_unasked(connection);
        client_connection_free(connection);
        return;
    case CLIENT_DIALLING:
    case CLIENT_SECURING:
    case CLIENT_FAILED:
        return; /* reading is off */
    }
}

static void on_end(void *context, int error) {
    struct client_connection *connection = context;
    switch (connection->state) {
    case CLIENT_TUNNELLING:
        fail_at_proxy(connection, "it closed the connection before it answered");
        return;
    case CLIENT_SECURING:
        fail_at_tls(connection, "it closed the connection during the handshake");
        return;
    case CLIENT_BUSY:
        (void)withdraw(connection);
        client_answer_end(connection, error);
        return;
    case CLIENT_IDLE:
        client_connection_free(connection);
        return;
    case CLIENT_DIALLING:
    case CLIENT_FAILED:
        return; /* there is no stream yet, or nobody cares for it */
    }
}

static void on_timer(void *context) {
    struct client_connection *connection = context;
    switch (connection->state) {
    case CLIENT_TUNNELLING:
        fail_at_proxy(connection, "it did not answer in time");
        return;
    case CLIENT_SECURING:
        fail_at_tls(connection, "the handshake was not done in time");
        return;
    case CLIENT_BUSY:
        client_answer_resume(connection);
        return;
    case CLIENT_IDLE:
        client_connection_free(connection);
        return;
    case CLIENT_FAILED: {
        struct client_failure failure = connection->failure;
        client_call_fail(connection->call, &failure);
        return;
    }
    case CLIENT_DIALLING:
        if (connection->target->connect_fn != NULL)
            connect_here(connection);
        return; /* else: the dial watches its time itself */
    }
}
