/*
 * What lives longer than a message: the session of the era before 2026-07-28, its stream of
 * messages from the server, and HTTP+SSE, of which the stream is the session.
 */
#include <errno.h>

#include "base/mem.h"
#include "base/secret.h"
#include "http/uri.h"
#include "private.h"

enum {
    PAUSE_MS = 1000, /* before the stream is opened again */
    LONGEST_PAUSE_MS = 30000,
    GOODBYE_MS = 2000,
};

static void open_stream(struct bridge *bridge);

/* The stream. */

void bridge_stream_close(struct bridge *bridge) {
    struct bridge_stream *stream = &bridge->stream;
    stream->call = client_cancel(stream->call);
    stream->events = sse_parser_free(stream->events);
    stream->retry = io_timer_free(stream->retry);
}

static void on_retry(void *context) {
    open_stream(context);
}

static void open_later(struct bridge *bridge) {
    struct bridge_stream *stream = &bridge->stream;
    if (bridge->is_ending)
        return;
    if (stream->retry == NULL)
        stream->retry = io_timer_new(bridge->loop, on_retry, bridge);
    io_timer_start(stream->retry, stream->pause_ms);
    stream->pause_ms =
        stream->pause_ms * 2 < LONGEST_PAUSE_MS ? stream->pause_ms * 2 : LONGEST_PAUSE_MS;
}

/* HTTP+SSE: nobody will answer what was posted. */
static void fail_posted(struct bridge *bridge) {
    LIST_FOREACH_SAFE (&bridge->running, link, tmp) {
        struct bridge_post *post = CONTAINER_OF(link, struct bridge_post, link);
        bridge_post_fail(post, MCP_E_UNAVAILABLE,
                         SLICE("the server ended the stream before it answered; whether it has "
                               "done what was asked is not known"));
    }
}

static void stream_over(struct bridge *bridge) {
    struct bridge_stream *stream = &bridge->stream;
    uint16_t status = stream->status;
    stream->call = NULL;
    stream->events = sse_parser_free(stream->events);
    if (bridge->transport == BRIDGE_OPENING_SSE && bridge->initialized == NULL && status != 0) {
        bridge_fail(bridge, -EPROTO,
                    "the server takes neither Streamable HTTP nor HTTP+SSE at this URL");
    } else if (bridge->transport == BRIDGE_SSE) {
        fail_posted(bridge);
        bridge->is_restarting = false;
        (void)bridge_session_restart(bridge);
    } else if (status == 404 && bridge->transport == BRIDGE_HTTP) {
        (void)bridge_session_restart(bridge);
    } else if (bridge->transport == BRIDGE_OPENING_SSE || status == 0 || status / 100 == 2 ||
               status == 409 || status >= 500) {
        open_later(bridge);
    } /* else: there is none, which is fine */
}

static void on_head(void *context, const struct http_head *head) {
    struct bridge *bridge = context;
    struct bridge_stream *stream = &bridge->stream;
    stream->status = head->status;
    bool is_stream = head->status / 100 == 2 &&
                     slice_eq_nocase(http_content_type(head), SLICE("text/event-stream"));
    if (is_stream && sse_parser_new(LIMIT_UPSTREAM_MESSAGE, &stream->events) == 0)
        stream->pause_ms = PAUSE_MS;
    else if (head->status / 100 == 2)
        stream->status = 405; /* some page */
}

static void on_data(void *context, struct slice bytes) {
    struct bridge *bridge = context;
    struct bridge_stream *stream = &bridge->stream;
    if (stream->events == NULL || bridge_feed(bridge, NULL, stream->events, bytes))
        return;
    log_write(bridge->log, LOG_WARN, "connect", "the server sent a stream that cannot be read");
    stream->call = client_cancel(stream->call);
    stream_over(bridge);
    bridge_settle(bridge);
}

static void on_end(void *context) {
    struct bridge *bridge = context;
    stream_over(bridge);
    bridge_settle(bridge);
}

static void on_failed(void *context, const struct client_failure *failure) {
    struct bridge *bridge = context;
    log_write(bridge->log, LOG_DEBUG, "connect", "the stream of the session is gone",
              LOG_CSTR("reason", failure->reason));
    stream_over(bridge);
    bridge_settle(bridge);
}

static void open_stream(struct bridge *bridge) {
    static const struct client_events events = {
        .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_failed = on_failed};
    struct buf fields CLEANUP(secret_buf_deinit) = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK);
    struct bridge_stream *stream = &bridge->stream;
    struct client_request request = {.target = bridge->target,
                                     .method = HTTP_METHOD_GET,
                                     .has_secret = true,
                                     .max_body = UINT64_MAX};
    if (stream->call != NULL)
        return;
    if (stream->pause_ms == 0)
        stream->pause_ms = PAUSE_MS;
    stream->status = 0;
    buf_append_cstr(&fields, "Accept: text/event-stream\r\n");
    int error = bridge_write_session_fields(bridge, &fields);
    request.fields = buf_slice(&fields);
    if (error == 0)
        error = client_start(bridge->client, &request, &events, bridge, &stream->call);
    if (error != 0)
        open_later(bridge);
}

/* HTTP+SSE. */

void bridge_session_try_sse(struct bridge *bridge) {
    bridge->transport = BRIDGE_OPENING_SSE;
    open_stream(bridge);
}

/* MCP 2024-11-05, basic/transports. Of another origin it would be shown our credentials. */
void bridge_session_endpoint(struct bridge *bridge, struct slice reference) {
    struct uri base, uri;
    struct buf url CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
    const char *reason = "it has another origin than the stream";
    if (bridge->transport != BRIDGE_OPENING_SSE)
        return;
    struct client_target_options options = {.connect = bridge->connect,
                                            .connect_context = bridge->connect_context};
    bridge->endpoint = client_target_free(bridge->endpoint);
    bool is_fine = uri_parse(buf_slice(&bridge->url), &base, &reason) == 0 &&
                   uri_resolve(&url, &base, reference) == 0 &&
                   uri_parse(buf_slice(&url), &uri, &reason) == 0 && uri_same_origin(&base, &uri);
    options.url = buf_slice(&url);
    if (!is_fine || client_target_new(&options, &bridge->endpoint, &reason) != 0) {
        log_write(bridge->log, LOG_ERROR, "connect", "the server's endpoint cannot be used",
                  LOG_CSTR("reason", reason));
        bridge_fail(bridge, -EPROTO, "the server names an endpoint that cannot be used");
        return;
    }
    bridge->transport = BRIDGE_SSE;
    bridge_pump(bridge);
}

/* The session. */

/* What the client said last of its kind, to be said again to a new session. */
static void keep(struct bridge_post **kept, const struct bridge_post *post) {
    bridge_post_free(*kept);
    *kept = bridge_post_copy(post);
}

static void push_own(struct bridge *bridge, const struct bridge_post *kept) {
    struct bridge_post *post = kept != NULL ? bridge_post_copy(kept) : NULL;
    if (post == NULL)
        return;
    list_push_back(&bridge->running, &post->link);
    bridge_post_start(post);
}

static enum mcp_revision agreed_revision(struct json_reader *reader, struct slice result) {
    if (json_read(reader, result, &json_want_root, NULL, NULL) != 0)
        return MCP_REVISION_NONE;
    const struct json_node *version =
        json_member_typed(reader, json_root(reader), SLICE("protocolVersion"), JSON_STRING);
    return version != NULL ? mcp_revision_parse(json_string_raw(version)) : MCP_REVISION_NONE;
}

void bridge_session_agreed(struct bridge *bridge, const struct bridge_post *post,
                           struct slice result) {
    enum mcp_revision revision = agreed_revision(bridge->second_reader, result);
    if (post->is_own && revision != bridge->revision) {
        bridge_fail(bridge, -EPROTO,
                    "the server speaks another revision now than it agreed on with the client; "
                    "start the client again");
        return;
    }
    bridge->revision = revision;
    if (bridge->transport == BRIDGE_UNKNOWN)
        bridge->transport = BRIDGE_HTTP;
    if (post->is_own)
        push_own(bridge, bridge->initialized);
    else
        keep(&bridge->initialize, post);
}

static void ready(struct bridge *bridge) {
    if (bridge->is_restarting) {
        bridge->is_restarting = false;
        push_own(bridge, bridge->level);
        log_write(bridge->log, LOG_INFO, "connect", "the session was begun anew");
    }
    if (bridge->transport == BRIDGE_HTTP)
        open_stream(bridge);
}

void bridge_session_note(struct bridge *bridge, const struct bridge_post *post) {
    if (post->method == MCP_NOTIFY_INITIALIZED && !post->is_own)
        keep(&bridge->initialized, post);
    else if (post->method == MCP_LOGGING_SET_LEVEL && !post->is_own)
        keep(&bridge->level, post);
    else if (post->method == MCP_RESOURCES_SUBSCRIBE && !post->is_modern)
        bridge->has_subscribed = true;
    if (post->method == MCP_NOTIFY_INITIALIZED)
        ready(bridge);
}

void bridge_session_begin(struct bridge *bridge) {
    push_own(bridge, bridge->initialize);
}

bool bridge_session_restart(struct bridge *bridge) {
    if (bridge->is_restarting || bridge->is_ending)
        return true;
    if (bridge->initialize == NULL || bridge->initialized == NULL || bridge->has_subscribed) {
        bridge_fail(bridge, -ECONNRESET,
                    bridge->has_subscribed
                        ? "the server has forgotten the session, and with it what the client has "
                          "subscribed to; start the client again"
                        : "the server has forgotten the session; start the client again");
        return false;
    }
    bridge->is_restarting = true;
    bridge_stream_close(bridge);
    mem_free(TAKE(bridge->session));
    if (bridge->transport == BRIDGE_SSE) {
        bridge->transport = BRIDGE_OPENING_SSE;
        open_stream(bridge);
    }
    bridge_pump(bridge);
    return true;
}

void bridge_session_forget(struct bridge *bridge) {
    mem_free(TAKE(bridge->session));
    bridge->initialize = bridge_post_free(bridge->initialize);
    bridge->initialized = bridge_post_free(bridge->initialized);
    bridge->level = bridge_post_free(bridge->level);
}

/* The end. */

static void on_goodbye_end(void *context) {
    struct bridge *bridge = context;
    bridge->goodbye = NULL;
    bridge_settle(bridge);
}

static void on_goodbye_failed(void *context, const struct client_failure *failure) {
    (void)failure; /* nobody is left to hear of it */
    on_goodbye_end(context);
}

static void ignore_head(void *context, const struct http_head *head) {
    (void)context;
    (void)head; /* 405: sessions end by themselves there */
}

static void ignore_data(void *context, struct slice bytes) {
    (void)context;
    (void)bytes;
}

bool bridge_session_goodbye(struct bridge *bridge) {
    static const struct client_events events = {.on_head = ignore_head,
                                                .on_data = ignore_data,
                                                .on_end = on_goodbye_end,
                                                .on_failed = on_goodbye_failed};
    struct buf fields CLEANUP(secret_buf_deinit) = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK);
    struct client_request request = {.target = bridge->target,
                                     .method = HTTP_METHOD_DELETE,
                                     .has_secret = true,
                                     .connect_timeout_ms = GOODBYE_MS};
    bridge_stream_close(bridge);
    if (bridge->session == NULL || bridge_write_session_fields(bridge, &fields) != 0)
        return false;
    request.fields = buf_slice(&fields);
    return client_start(bridge->client, &request, &events, bridge, &bridge->goodbye) == 0;
}
