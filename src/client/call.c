/* One request: written once, kept until it cannot be needed again, and how it ends. */
#include <errno.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/limits.h"
#include "base/mem.h"
#include "private.h"

/* --- the request as bytes --- */

/* What decides where a message ends, or is written here already. */
static bool is_ours(struct slice name) {
    static const struct slice names[] = {
        SLICE_INIT("host"),           SLICE_INIT("expect"),
        SLICE_INIT("upgrade"),        SLICE_INIT("connection"),
        SLICE_INIT("content-length"), SLICE_INIT("accept-encoding"),
        SLICE_INIT("keep-alive"),     SLICE_INIT("transfer-encoding"),
    };
    /* The lengths of these names, a bit each: most fields need no further look. */
    static const uint32_t lengths =
        1u << 4 | 1u << 6 | 1u << 7 | 1u << 10 | 1u << 14 | 1u << 15 | 1u << 17;
    if (name.len >= 32 || (lengths >> name.len & 1u) == 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (slice_eq_nocase(name, names[i]))
            return true;
    }
    return false;
}

/* Whole lines, none of which ends the head or is ours: a mistake further up must not become a
 * second request. */
static bool fields_are_fit(struct slice fields) {
    while (fields.len != 0) {
        size_t lf = slice_find_byte(fields, '\n');
        size_t colon = slice_find_byte(slice_sub(fields, 0, lf), ':');
        if (lf == SIZE_MAX || colon == SIZE_MAX || fields.ptr[lf - 1] != '\r')
            return false;
        struct slice name = slice_sub(fields, 0, colon);
        if (!http_is_token(name) || is_ours(name))
            return false;
        fields = slice_from(fields, lf + 1);
    }
    return true;
}

/* RFC 9110 section 8.6: where a body has a meaning, its length is told also when it is 0. */
static bool has_length(const struct client_request *request) {
    return request->body.len != 0 || request->method == HTTP_METHOD_POST ||
           request->method == HTTP_METHOD_PUT || request->method == HTTP_METHOD_PATCH;
}

/* Head and body in one piece of memory, so that they leave in one write. */
static int write_request(const struct client_request *request, struct buf *out) {
    const struct client_target *target = request->target;
    struct slice path = request->path.len != 0 ? request->path : target->path;
    size_t size = 128 + path.len + target->fields.len;
    if (!fields_are_fit(request->fields) || request->method == HTTP_METHOD_CONNECT)
        return -EINVAL;
    if (size_add_overflows(size, request->fields.len, &size) ||
        size_add_overflows(size, request->body.len, &size))
        return -ENOMEM;
    out->max = size;
    if (buf_reserve(out, size) == NULL)
        return -ENOMEM;
    int error = http_write_request_line(out, request->method, path);
    if (error != 0)
        return error;
    buf_append(out, target->fields);
    buf_append(out, request->fields);
    if (has_length(request))
        http_write_field_u64(out, SLICE("Content-Length"), request->body.len);
    buf_append(out, SLICE("\r\n"));
    return buf_append(out, request->body);
}

/* --- its start --- */

void client_call_forget_request(struct client_call *call) {
    if (call->has_secret && call->request.data != NULL)
        secret_wipe(call->request.data, call->request.cap);
    buf_deinit(&call->request);
}

static struct client_call *call_free(struct client_call *call) {
    if (call != NULL) {
        client_call_forget_request(call);
        mem_free(call);
    }
    return NULL;
}

static void call_freep(struct client_call **call) {
    *call = call_free(*call);
}

static int call_new(struct client *client, const struct client_request *request,
                    const struct client_events *events, void *context,
                    struct client_call **ret_call) {
    struct client_call *call CLEANUP(call_freep) = mem_alloc(sizeof *call);
    if (call == NULL)
        return -ENOMEM;
    call->client = client;
    call->events = *events;
    call->context = context;
    call->target = request->target;
    call->connect_timeout_ms =
        request->connect_timeout_ms != 0 ? request->connect_timeout_ms : LIMIT_CONNECT_MS;
    call->max_body = request->max_body != 0 ? request->max_body : LIMIT_UPSTREAM_MESSAGE;
    call->is_head = request->method == HTTP_METHOD_HEAD;
    call->is_idempotent = request->is_idempotent;
    call->has_secret = request->has_secret;
    buf_init_held(&call->request, 0, io_loop_budget(client->loop));
    int error = write_request(request, &call->request);
    if (error == 0)
        *ret_call = TAKE(call);
    return error;
}

/* What leaves at the end of a turn is known only then to have left. */
bool client_call_may_need_request(const struct client_call *call) {
    return call->is_on_kept && (call->is_idempotent || buf_len(&call->request) <= IO_STREAM_TURN);
}

void client_call_unsent(struct client_call *call) {
    call->is_sent = call->was_repeated; /* by the one before */
}

static bool may_be_sent_again(const struct client_call *call) {
    return call->is_on_kept && !call->is_answered && buf_len(&call->request) != 0 &&
           (call->is_idempotent || !call->is_sent);
}

/* On another connection than the one that broke. The pool lives on by the new one. */
static int send_again(struct client_call *call) {
    struct client_connection *broken = call->connection;
    call->was_repeated = call->is_sent;
    int error = client_connection_open(broken->pool, call, call->target);
    if (error == 0) {
        broken->call = NULL;
        client_connection_free(broken);
    }
    return error;
}

/* On a kept connection, whose end may not have been noticed yet. */
static int start_on(struct client_connection *connection, struct client_call *call) {
    connection->call = call;
    call->connection = connection;
    call->is_on_kept = true;
    if (client_connection_send(connection) == 0)
        return 0;
    if (may_be_sent_again(call))
        return send_again(call);
    struct client_failure failure =
        client_failure_make(call, CLIENT_FAILED_RESET, &call->target->origin,
                            "the connection broke while the request was sent");
    client_connection_fail_later(connection, &failure);
    return 0;
}

int client_start(struct client *client, const struct client_request *request,
                 const struct client_events *events, void *context, struct client_call **ret_call) {
    struct client_call *call CLEANUP(call_freep) = NULL;
    struct client_pool *pool = NULL;
    int error = call_new(client, request, events, context, &call);
    if (error == 0)
        error = client_pool_get(client, request->target, request->partition, &pool);
    if (error != 0)
        return error;
    struct client_connection *connection = client_pool_take(pool);
    error = connection != NULL ? start_on(connection, call)
                               : client_connection_open(pool, call, call->target);
    if (error == 0) {
        *ret_call = TAKE(call);
        return 0;
    }
    if (call->connection != NULL)
        client_connection_free(call->connection);
    else
        client_pool_put(pool);
    return error;
}

/* --- its end --- */

struct client_failure client_failure_make(const struct client_call *call,
                                          enum client_failure_kind kind,
                                          const struct client_peer *peer, const char *what) {
    enum { LABEL_SHOWN = 56 };
    struct client_failure failure = {
        .kind = kind,
        .may_have_arrived = call->is_sent,
        .was_repeated = call->was_repeated,
    };
    struct slice label = slice_sub(peer->label, 0, LABEL_SHOWN);
    snprintf(failure.reason, sizeof failure.reason, "%.*s%s: %s", SLICE_ARGS(label),
             label.len < peer->label.len ? "..." : "", what);
    return failure;
}

/* Takes everything apart before anybody hears of it. */
void client_call_fail(struct client_call *call, const struct client_failure *failure) {
    struct client_failure told = *failure;
    struct client_events events = call->events;
    void *context = call->context;
    if (call->connection != NULL)
        client_connection_free(call->connection);
    call_free(call);
    events.on_failed(context, &told);
}

void client_call_broken(struct client_call *call, const char *what) {
    struct client_failure failure =
        client_failure_make(call, CLIENT_FAILED_RESET, &call->target->origin, what);
    if (may_be_sent_again(call)) {
        if (send_again(call) == 0)
            return;
        failure = client_failure_make(call, CLIENT_FAILED_MEMORY, &call->target->origin,
                                      "there is not enough memory to send it again");
    }
    client_call_fail(call, &failure);
}

void client_call_end(struct client_call *call) {
    struct client_events events = call->events;
    void *context = call->context;
    call_free(call);
    events.on_end(context);
}

struct client_call *client_cancel(struct client_call *call) {
    if (call == NULL)
        return NULL;
    client_connection_free(call->connection);
    return call_free(call);
}

void client_pause(struct client_call *call, bool paused) {
    struct client_connection *connection = call->connection;
    if (call->is_paused == paused)
        return;
    call->is_paused = paused;
    if (connection->state != CLIENT_BUSY)
        return; /* looked at when the request is sent */
    if (paused)
        io_stream_read(connection->stream, false);
    else if (connection->is_held || connection->has_ended)
        io_timer_start(connection->timer, 0);
    else
        io_stream_read(connection->stream, true);
}
