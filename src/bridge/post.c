/*
 * One message of the client on its way: the POST, its answer (JSON, a stream of events, or
 * nothing), and what the client is told when there is none. A request is answered exactly once,
 * unless it was cancelled.
 */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/secret.h"
#include "private.h"

enum {
    RETRY_MS = 250,     /* a server that is being started again is asked so often */
    PATIENCE_MS = 10000 /* for so long */
};

/* Its life. */

static bool is_request(const struct bridge_post *post) {
    return post->is_batch || post->kind == MCP_REQUEST;
}

struct bridge_post *bridge_post_new(struct bridge *bridge, struct slice line) {
    struct bridge_post *post = mem_xalloc(sizeof *post);
    *post = (struct bridge_post){.bridge = bridge, .line = mem_alloc(line.len), .len = line.len};
    if (post->line == NULL) {
        mem_free(post);
        return NULL;
    }
    memcpy(post->line, line.ptr, line.len);
    buf_init(&post->body, LIMIT_UPSTREAM_MESSAGE);
    return post;
}

struct bridge_post *bridge_post_copy(const struct bridge_post *post) {
    struct bridge_post *copy = bridge_post_new(post->bridge, slice_make(post->line, post->len));
    if (copy == NULL)
        return NULL;
    copy->kind = post->kind;
    copy->method = post->method;
    copy->is_own = true;
    if (post->id.len != 0)
        copy->id = slice_make(copy->line + (post->id.ptr - post->line), post->id.len);
    return copy;
}

struct bridge_post *bridge_post_free(struct bridge_post *post) {
    if (post == NULL)
        return NULL;
    list_remove(&post->link);
    client_cancel(post->call);
    sse_parser_free(post->events);
    io_timer_free(post->retry);
    buf_deinit(&post->body);
    mem_free(post->line);
    mem_free(post);
    return NULL;
}

bool bridge_post_blocks(const struct bridge_post *post) {
    return !post->is_modern &&
           (!is_request(post) || (post->method == MCP_INITIALIZE && !post->is_answered));
}

void bridge_post_fail(struct bridge_post *post, enum mcp_error_code code, struct slice text) {
    struct bridge *bridge = post->bridge;
    bool is_heard = !post->is_own && !post->is_answered;
    if (is_heard && post->kind == MCP_REQUEST && !post->is_batch) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
        if (mcp_write_error(&out, post->id, code, text, SLICE_EMPTY) == 0)
            bridge_write(bridge, buf_slice(&out));
    }
    if (is_heard || post->is_own)
        log_write(bridge->log, LOG_WARN, "connect", "a message was lost",
                  LOG_TEXT("method", mcp_method_name(post->method)), LOG_TEXT("reason", text));
    bridge_post_free(post);
}

/* What the server says. */

struct bridge_post *bridge_post_find(struct list *list, struct slice id) {
    struct buf wanted CLEANUP(buf_deinit) = BUF_INIT(LIMIT_RPC_ID + 1);
    if (mcp_id_key(&wanted, id) != 0)
        return NULL;
    LIST_FOREACH_SAFE (list, link, tmp) {
        struct bridge_post *post = CONTAINER_OF(link, struct bridge_post, link);
        struct buf key CLEANUP(buf_deinit) = BUF_INIT(LIMIT_RPC_ID + 1);
        if (post->id.len != 0 && !post->is_answered && mcp_id_key(&key, post->id) == 0 &&
            slice_eq(buf_slice(&key), buf_slice(&wanted)))
            return post;
    }
    return NULL;
}

/* `message` answers `post`. */
static void take_answer(struct bridge *bridge, struct bridge_post *post,
                        const struct mcp_message *message, struct slice json) {
    bool is_result = message->kind == MCP_RESULT;
    bool is_initialize = post->method == MCP_INITIALIZE;
    struct slice result = message->result; /* in `json`: the reader goes on to others */
    post->is_answered = true;
    if (!post->is_own)
        bridge_write(bridge, json);
    if (is_initialize && is_result)
        bridge_session_agreed(bridge, post, result);
    else if (is_initialize && post->is_own)
        bridge_fail(bridge, -EPROTO, "the server does not begin the session anew");
    else if (post->is_modern && post->method == MCP_TOOLS_LIST && is_result)
        bridge_learn_mirrors(bridge, result);
    else if (is_result)
        bridge_session_note(bridge, post);
    if (post->waits_for_stream) {
        bridge_post_free(post);
        bridge_settle(bridge);
    }
}

void bridge_deliver(struct bridge *bridge, struct bridge_post *post, struct slice json) {
    struct mcp_message message;
    struct mcp_refusal refusal = {.reason = "out of memory"};
    if (mcp_is_batch(json)) { /* 2025-03-26: answers to a batch */
        if (json_read(bridge->reader, json, NULL, NULL, NULL) == 0) {
            if (post != NULL)
                post->is_answered = true;
            bridge_write(bridge, json);
        }
        return;
    }
    if (mcp_message_read(bridge->reader, json, &message, &refusal) != 0) {
        log_write(bridge->log, LOG_WARN, "connect", "the server sent what is no message; dropped",
                  LOG_CSTR("reason", refusal.reason));
        return;
    }
    bool is_answer = message.kind == MCP_RESULT || message.kind == MCP_ERROR;
    struct bridge_post *asked =
        is_answer && message.id.len != 0 ? bridge_post_find(&bridge->running, message.id) : NULL;
    if (asked != NULL)
        take_answer(bridge, asked, &message, json);
    else if (!is_answer || (post != NULL && post->is_batch))
        bridge_write(bridge, json);
    else
        log_write(bridge->log, LOG_DEBUG, "connect",
                  "the server answered what nobody waits for; dropped");
}

bool bridge_feed(struct bridge *bridge, struct bridge_post *post, struct sse_parser *events,
                 struct slice bytes) {
    for (;;) {
        size_t consumed = 0;
        enum sse_result result = SSE_NEED_MORE;
        struct sse_event event;
        if (sse_parser_feed(events, bytes, &consumed, &result, &event) != 0 ||
            result == SSE_REFUSED)
            return false;
        bytes = slice_from(bytes, consumed);
        if (result == SSE_NEED_MORE)
            return true;
        if (result != SSE_EVENT || event.data.len == 0)
            continue;
        if (slice_eq(event.type, SLICE("endpoint")) && post == NULL)
            bridge_session_endpoint(bridge, event.data);
        else if (event.type.len == 0 || slice_eq(event.type, SLICE("message")))
            bridge_deliver(bridge, post, event.data);
    }
}

/* An answer that is whole. */

static void tell_cure(const struct bridge *bridge, uint16_t status) {
    const char *cure = NULL;
    if (status == 401)
        cure = "the server wants to know who asks: give a token in CARDEA_TOKEN or with "
               "--token-file FILE";
    else if (status == 403)
        cure = "the server refuses this caller; its answer says why";
    else if (status == 404)
        cure = "there is no MCP server at this URL";
    if (cure != NULL)
        log_write(bridge->log, LOG_ERROR, "connect", cure, LOG_NUM("status", status));
}

/* The error that came with an HTTP status, as the answer to this request. */
static void pass_error(struct bridge_post *post) {
    struct bridge *bridge = post->bridge;
    struct mcp_message message;
    struct mcp_refusal refusal;
    char text[64];
    tell_cure(bridge, post->status);
    if (post->is_json && is_request(post) && !post->is_batch && !post->is_own &&
        mcp_message_read(bridge->reader, buf_slice(&post->body), &message, &refusal) == 0 &&
        message.kind == MCP_ERROR) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(LIMIT_UPSTREAM_MESSAGE + KIB(4));
        mcp_write_error_object(&out, post->id, message.error);
        if (buf_error(&out) == 0) {
            bridge_write(bridge, buf_slice(&out));
            bridge_post_free(post);
            return;
        }
    }
    snprintf(text, sizeof text, "the server answered with the HTTP status %u", post->status);
    bridge_post_fail(post, MCP_E_UNAVAILABLE, slice_from_cstr(text));
}

/* Codes by which a server of 2026-07-28 is known: it is no HTTP+SSE server. */
static bool is_modern_error(struct bridge_post *post) {
    struct json_reader *reader = post->bridge->reader;
    struct mcp_message message;
    struct mcp_refusal refusal;
    int64_t code = 0;
    if (!post->is_json ||
        mcp_message_read(reader, buf_slice(&post->body), &message, &refusal) != 0 ||
        message.kind != MCP_ERROR || json_read(reader, message.error, &json_want_root, NULL, NULL))
        return false;
    const struct json_node *number = json_member(reader, json_root(reader), SLICE("code"));
    return number != NULL && json_to_i64(number, &code) == 0 && code <= MCP_E_HEADER_MISMATCH &&
           code >= MCP_E_UNSUPPORTED_VERSION;
}

static bool wants_sse(struct bridge_post *post) {
    uint16_t status = post->status;
    return post->bridge->transport == BRIDGE_UNKNOWN && post->method == MCP_INITIALIZE &&
           (status == 400 || status == 404 || status == 405) && !is_modern_error(post);
}

/* To the front of what waits, as it was before it left. */
static void send_again(struct bridge_post *post) {
    struct bridge *bridge = post->bridge;
    list_remove(&post->link);
    list_push_front(&bridge->waiting, &post->link);
    bridge->n_waiting++;
    post->events = sse_parser_free(post->events);
    post->status = 0;
    post->is_json = false;
    buf_reset(&post->body, 0);
}

static void finish_refused(struct bridge_post *post) {
    struct bridge *bridge = post->bridge;
    bool is_session_gone = post->status == 404 && !post->is_modern && !post->is_repeated &&
                           !post->is_own && post->method != MCP_INITIALIZE &&
                           bridge->initialize != NULL;
    if (wants_sse(post)) {
        send_again(post);
        bridge_session_try_sse(bridge);
    } else if (is_session_gone) {
        bool is_known = post->session_number != bridge->session_number;
        post->is_repeated = true;
        send_again(post);
        if (!is_known)
            (void)bridge_session_restart(bridge);
    } else {
        bool is_ours = post->is_own;
        pass_error(post);
        if (is_ours)
            bridge_fail(bridge, -EPROTO, "the server does not begin the session anew");
    }
}

static void finish(struct bridge_post *post) {
    struct bridge *bridge = post->bridge;
    if (post->status / 100 != 2) {
        finish_refused(post);
        return;
    }
    if (post->is_json && buf_len(&post->body) != 0) {
        struct buf body = post->body;
        buf_init(&post->body, 0);
        bridge_deliver(bridge, post, buf_slice(&body));
        buf_deinit(&body);
    }
    if (!is_request(post))
        bridge_session_note(bridge, post);
    if (is_request(post) && !post->is_answered && bridge->transport == BRIDGE_SSE &&
        !post->is_batch)
        post->waits_for_stream = true;
    else if (is_request(post) && !post->is_answered && !post->is_batch)
        bridge_post_fail(post, MCP_E_UNAVAILABLE,
                         SLICE("the server ended its answer before it was whole; whether it has "
                               "done what was asked is not known"));
    else
        bridge_post_free(post);
}

/* What the client of HTTP says. */

static void on_head(void *context, const struct http_head *head) {
    struct bridge_post *post = context;
    struct bridge *bridge = post->bridge;
    struct slice type = http_content_type(head);
    struct slice session = http_head_get(head, SLICE("mcp-session-id"));
    post->status = head->status;
    post->is_json = slice_eq_nocase(type, SLICE("application/json"));
    if (head->status / 100 == 2 && slice_eq_nocase(type, SLICE("text/event-stream")) &&
        sse_parser_new(LIMIT_UPSTREAM_MESSAGE, &post->events) != 0)
        post->events = NULL;
    if (post->method == MCP_INITIALIZE && !post->is_modern && head->status / 100 == 2) {
        mem_free(TAKE(bridge->session));
        bridge->session = mem_xalloc(session.len + 1);
        memcpy(bridge->session, session.ptr != NULL ? session.ptr : "", session.len);
        bridge->session[session.len] = '\0';
        if (session.len == 0)
            mem_free(TAKE(bridge->session));
        bridge->session_number++;
    }
}

static void on_data(void *context, struct slice bytes) {
    struct bridge_post *post = context;
    struct bridge *bridge = post->bridge;
    if (post->events == NULL) {
        (void)buf_append(&post->body, bytes); /* what is too long is no message, and told then */
        return;
    }
    if (bridge_feed(bridge, post, post->events, bytes))
        return;
    log_write(bridge->log, LOG_WARN, "connect", "the server sent a stream that cannot be read",
              LOG_CSTR("reason", sse_parser_reason(post->events)));
    post->call = client_cancel(post->call);
    bridge_post_fail(post, MCP_E_UNAVAILABLE,
                     SLICE("the server sent a stream that cannot be read"));
    bridge_settle(bridge);
}

static void on_end(void *context) {
    struct bridge_post *post = context;
    struct bridge *bridge = post->bridge;
    post->call = NULL;
    finish(post);
    bridge_settle(bridge);
}

static void on_retry(void *context) {
    struct bridge_post *post = context;
    bridge_post_start(post);
}

static void on_failed(void *context, const struct client_failure *failure) {
    struct bridge_post *post = context;
    struct bridge *bridge = post->bridge;
    uint64_t now = io_loop_now(bridge->loop);
    post->call = NULL;
    post->events = sse_parser_free(post->events);
    if (!failure->may_have_arrived && !bridge->is_saying_goodbye &&
        (failure->kind == CLIENT_FAILED_CONNECT || failure->kind == CLIENT_FAILED_RESET) &&
        now - post->began_ms < PATIENCE_MS) {
        if (post->retry == NULL)
            post->retry = io_timer_new(bridge->loop, on_retry, post);
        io_timer_start(post->retry, RETRY_MS);
        return;
    }
    bool is_ours = post->is_own;
    bridge_post_fail(post, MCP_E_UNAVAILABLE, slice_from_cstr(failure->reason));
    if (is_ours)
        bridge_fail(bridge, -ECONNREFUSED, "the session cannot be begun anew");
    bridge_settle(bridge);
}

/* Doing it twice does no harm. */
static bool is_harmless(const struct bridge_post *post) {
    return !post->is_batch && post->kind == MCP_REQUEST &&
           (post->method == MCP_PING || post->method == MCP_TOOLS_LIST ||
            post->method == MCP_PROMPTS_LIST || post->method == MCP_RESOURCES_LIST ||
            post->method == MCP_RESOURCES_TEMPLATES_LIST || post->method == MCP_SERVER_DISCOVER);
}

void bridge_post_start(struct bridge_post *post) {
    static const struct client_events events = {
        .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_failed = on_failed};
    struct bridge *bridge = post->bridge;
    struct buf fields CLEANUP(secret_buf_deinit) = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK);
    struct client_request request = {
        .target = bridge->transport == BRIDGE_SSE ? bridge->endpoint : bridge->target,
        .method = HTTP_METHOD_POST,
        .has_secret = true,
        .body = slice_make(post->line, post->len),
        .max_body = UINT64_MAX,
        .is_idempotent = is_harmless(post),
    };
    post->session_number = bridge->session_number;
    if (post->began_ms == 0)
        post->began_ms = io_loop_now(bridge->loop);
    int error = bridge_write_fields(bridge, post, &fields);
    request.fields = buf_slice(&fields);
    if (error == 0)
        error = client_start(bridge->client, &request, &events, post, &post->call);
    if (error != 0)
        bridge_post_fail(post, MCP_E_INVALID_PARAMS,
                         SLICE("the message cannot be repeated in header fields"));
    else if (bridge->is_flooded)
        client_pause(post->call, true);
}

void bridge_pause(struct bridge *bridge, bool is_paused) {
    bridge->is_flooded = is_paused;
    LIST_FOREACH_SAFE (&bridge->running, link, tmp) {
        struct bridge_post *post = CONTAINER_OF(link, struct bridge_post, link);
        if (post->call != NULL)
            client_pause(post->call, is_paused);
    }
    if (bridge->stream.call != NULL)
        client_pause(bridge->stream.call, is_paused);
}
