/*
 * The answer on a connection that carries a request. Callbacks may do anything but free the call in
 * on_end and on_failed: cancel it, pause it, start others, free the whole client. So the loop below
 * looks at nothing after a callback before it knows that the connection is still there
 * (is_freed), and a connection is given back before its call hears of the end.
 *
 * While a call is paused it hears nothing at all: what was read already is held, and handed on by
 * the timer when the call goes on, so outside of whatever made it go on.
 */
#include <errno.h>

#include "base/limits.h"
#include "private.h"

enum { KEPT_MAX_S = 60 };

/* --- keeping the connection --- */

/* "timeout=5, max=100": how long we may count on it, in milliseconds. The server's clock runs since
 * it sent the answer, so a second is taken off. */
static uint64_t idle_time(const struct http_head *head) {
    struct slice list = http_head_get(head, SLICE("keep-alive")), parameter, name, value;
    while (list.len != 0) {
        slice_cut(list, ',', &parameter, &list);
        uint64_t seconds;
        if (!slice_cut(parameter, '=', &name, &value) ||
            !slice_eq_nocase(slice_trim(name), SLICE("timeout")) ||
            slice_to_u64(slice_trim(value), &seconds) != 0)
            continue;
        if (seconds > KEPT_MAX_S)
            return KEPT_MAX_S * 1000u;
        return seconds > 0 ? (seconds - 1) * 1000u : 0;
    }
    return LIMIT_KEPT_MS;
}

/*
 * Bytes behind the answer belong to nothing that was asked. And while the request still waits to be
 * written, the server has answered without reading it all: the next one would be read as its rest.
 */
static bool keep(struct client_connection *connection, const struct http_head *head,
                 bool has_rest) {
    uint64_t idle_ms = idle_time(head);
    if (!head->keep_alive || has_rest || connection->has_ended || idle_ms == 0 ||
        io_stream_queued(connection->stream) != 0)
        return false;
    connection->call->connection = NULL;
    connection->call = NULL;
    http_parser_next(connection->parser);
    io_stream_read(connection->stream, true);
    client_pool_keep(connection, idle_ms);
    return true;
}

static void finish(struct client_connection *connection, bool has_rest) {
    struct client_call *call = connection->call;
    if (!keep(connection, http_parser_head(connection->parser), has_rest))
        client_connection_free(connection);
    client_call_end(call);
}

/* --- reading it --- */

/* What became of an event. */
enum step {
    STEP_ON,     /* there may be more in these bytes */
    STEP_ENOUGH, /* the call waits for more */
    STEP_GONE,   /* the call is over, or was cancelled: nothing here may be looked at */
};

static enum step fail(struct client_connection *connection, enum client_failure_kind kind,
                      const char *what) {
    struct client_call *call = connection->call;
    struct client_failure failure = client_failure_make(call, kind, &call->target->origin, what);
    client_call_fail(call, &failure);
    return STEP_GONE;
}

/* Nothing here unpacks; it was asked for with Accept-Encoding: identity (RFC 9110 section 12.5.3).
 */
static bool is_packed(const struct http_head *head) {
    bool is_empty = head->body == HTTP_BODY_NONE ||
                    (head->body == HTTP_BODY_LENGTH && head->content_length == 0);
    for (size_t i = 0; i < head->n_fields && !is_empty; i++) {
        const struct http_field *field = &head->fields[i];
        if (slice_eq_nocase(field->name, SLICE("content-encoding")) && field->value.len != 0 &&
            !slice_eq_nocase(field->value, SLICE("identity")))
            return true;
    }
    return false;
}

static enum step handle_head(struct client_connection *connection) {
    struct client_call *call = connection->call;
    const struct http_head *head = http_parser_head(connection->parser);
    if (is_packed(head))
        return fail(connection, CLIENT_FAILED_PROTOCOL,
                    "the answer is compressed, which was not asked for");
    if (head->body == HTTP_BODY_LENGTH && head->content_length > call->max_body)
        return fail(connection, CLIENT_FAILED_PROTOCOL, "the answer is longer than the limit");
    call->events.on_head(call->context, head);
    return connection->is_freed ? STEP_GONE : STEP_ON;
}

static enum step handle_data(struct client_connection *connection, struct slice data) {
    struct client_call *call = connection->call;
    if (data.len > call->max_body - call->n_body)
        return fail(connection, CLIENT_FAILED_PROTOCOL, "the answer is longer than the limit");
    call->n_body += data.len;
    call->events.on_data(call->context, data);
    return connection->is_freed ? STEP_GONE : STEP_ON;
}

static enum step handle_event(struct client_connection *connection, enum http_event event,
                              struct slice data, bool has_rest) {
    switch (event) {
    case HTTP_NEED_MORE:
        return STEP_ENOUGH;
    case HTTP_HEAD:
        return handle_head(connection);
    case HTTP_DATA:
        return handle_data(connection, data);
    case HTTP_END:
        finish(connection, has_rest);
        return STEP_GONE;
    case HTTP_REFUSED:
        return fail(connection, CLIENT_FAILED_PROTOCOL,
                    http_parser_refusal(connection->parser).reason);
    }
    return STEP_ENOUGH;
}

static enum step hold(struct client_connection *connection, struct slice bytes) {
    connection->is_held = true;
    if (buf_append(&connection->held, bytes) != 0)
        return fail(connection, CLIENT_FAILED_MEMORY, "there is not enough memory");
    return STEP_ENOUGH;
}

/* The next event in *bytes, which is cut by what it took. */
static enum step feed_step(struct client_connection *connection, struct slice *bytes) {
    size_t consumed = 0;
    enum http_event event = HTTP_NEED_MORE;
    struct slice data = SLICE_EMPTY;
    if (connection->call->is_paused)
        return hold(connection, *bytes);
    if (http_parser_feed(connection->parser, *bytes, &consumed, &event, &data) != 0)
        return fail(connection, CLIENT_FAILED_MEMORY, "there is not enough memory");
    *bytes = slice_from(*bytes, consumed);
    return handle_event(connection, event, data, bytes->len != 0);
}

/* STEP_ENOUGH or STEP_GONE. */
static enum step feed(struct client_connection *connection, struct slice bytes) {
    enum step step;
    connection->is_feeding = true;
    do {
        step = feed_step(connection, &bytes);
    } while (step == STEP_ON);
    client_connection_end_feeding(connection);
    return step;
}

void client_answer_read(struct client_connection *connection, struct slice bytes) {
    struct client_call *call = connection->call;
    if (!call->is_answered) {
        call->is_answered = true;
        client_call_forget_request(call);
    }
    (void)feed(connection, bytes);
}

/* --- its end without HTTP_END --- */

/*
 * With TLS 1.3 the handshake is over for a client before the server has looked at its certificate:
 * what the server thinks of that comes as an alert, in place of an answer (RFC 8446
 * section 4.4.2.4).
 */
static const char *describe_end(const struct client_connection *connection) {
    const char *reason = io_stream_tls_reason(connection->stream);
    if (connection->call->is_answered)
        return "it closed the connection in the midst of the answer";
    return connection->end_error == -EPROTO && reason[0] != '\0'
               ? reason
               : "it closed the connection before it answered";
}

static void end_now(struct client_connection *connection) {
    /* A connection that was reset has not ended a body, whatever its framing. */
    if (connection->end_error == 0 && http_parser_eof(connection->parser) == HTTP_END)
        finish(connection, false);
    else
        client_call_broken(connection->call, describe_end(connection));
}

void client_answer_end(struct client_connection *connection, int error) {
    connection->has_ended = true;
    connection->end_error = error;
    if (!connection->is_held && !connection->call->is_paused)
        end_now(connection);
}

void client_answer_resume(struct client_connection *connection) {
    struct client_call *call = connection->call;
    if (call->is_paused)
        return;
    if (connection->is_held) {
        struct buf held CLEANUP(buf_deinit) = connection->held;
        buf_init_held(&connection->held, held.max, held.budget);
        connection->is_held = false;
        if (feed(connection, buf_slice(&held)) == STEP_GONE)
            return;
    }
    if (call->is_paused)
        return;
    if (connection->has_ended)
        end_now(connection);
    else
        io_stream_read(connection->stream, true);
}
