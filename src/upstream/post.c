#include "post.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/secret.h"
#include "mcp/modern.h"
#include "post_private.h"

/* The request. */

static int write_mcp_fields(struct buf *out, const struct route *route,
                            const struct post_request *request) {
    bool is_modern = mcp_revision_is_modern(route->revision);
    /* Not on initialize, and not before 2025-06-18, which had no such field. */
    if (route->revision >= MCP_2025_06_18)
        (void)!http_write_field(out, SLICE("MCP-Protocol-Version"),
                                mcp_revision_name(route->revision));
    if (route->session.len != 0)
        (void)!http_write_field(out, SLICE("Mcp-Session-Id"), route->session);
    if (!is_modern || request->mcp_method == MCP_METHOD_UNKNOWN)
        return buf_error(out);
    (void)!http_write_field(out, SLICE("Mcp-Method"), mcp_method_name(request->mcp_method));
    if (request->name.len != 0 && mcp_field_is_plain(request->name)) {
        int error = http_write_field(out, SLICE("Mcp-Name"), request->name);
        if (error != 0)
            return error;
    } else if (request->name.len != 0) {
        struct buf value = BUF_INIT(LIMIT_HTTP_FIELD_LINE);
        int error = mcp_field_encode(&value, request->name);
        if (error == 0)
            error = http_write_field(out, SLICE("Mcp-Name"), buf_slice(&value));
        buf_deinit(&value);
        if (error != 0)
            return error;
    }
    return buf_error(out);
}

static int write_fields(struct buf *out, const struct post *post,
                        const struct post_request *request) {
    const struct upstream *upstream = post->route->upstream;
    if (request->method == HTTP_METHOD_POST) {
        buf_append_cstr(out, "Content-Type: application/json\r\n"
                             "Accept: application/json, text/event-stream\r\n");
    } else {
        buf_append_cstr(out, "Accept: text/event-stream\r\n");
    }
    if (!request->has_rule_fields)
        buf_append(out, upstream->rule_fields);
    buf_append(out, request->fields);
    int error = write_mcp_fields(out, post->route, request);
    if (error == 0 && request->event_id.len != 0)
        error = http_write_field(out, SLICE("Last-Event-ID"), request->event_id);
    if (error == 0 && post->token != NULL)
        error = buf_append(out, oauth_token_line(post->token));
    return error != 0 ? error : buf_error(out);
}

/* It is not read for longer than its token is good for. */
static void watch_token(struct post *post) {
    uint64_t left = post->token != NULL ? oauth_token_time_left(post->token) : UINT64_MAX;
    if (post->ends_with_token && left != UINT64_MAX)
        io_timer_start(post->limit, left);
}

int post_send(struct post *post, const struct post_request *request) {
    const struct upstream *upstream = post->route->upstream;
    struct buf *fields = &post->worker->fields;
    bool wants_token = upstream->source != NULL || upstream_wants_token(upstream);
    bool has_token = post->token != NULL && !oauth_token_has_ended(post->token);
    if (wants_token && !has_token && !post->is_probe)
        return -EACCES;
    bool is_resumption = request->event_id.len != 0; /* of what has left before */
    if (post->may_leave != NULL && !is_resumption &&
        !post->may_leave(post->may_leave_context, post->may_leave_value)) {
        post->obstacle = POST_MAY_NOT_LEAVE;
        post_break_off(post, "it may not be sent any more");
        return 0;
    }
    buf_reset(fields, KIB(16));
    int error = write_fields(fields, post, request);
    if (error != 0)
        return error;
    struct client_request sent = {
        .target = post->route->target != NULL ? post->route->target : upstream->target,
        .path = post->route->path,
        .partition = post->route->partition,
        .method = request->method,
        .fields = buf_slice(fields),
        .has_secret = wants_token,
        .body = request->body,
        .connect_timeout_ms = upstream->config->connect_timeout_ms,
        .max_body = UINT64_MAX, /* each message has its limit, the stream has none */
        .is_idempotent = request->is_idempotent || request->method != HTTP_METHOD_POST,
    };
    error = client_start(post->worker->client, &sent, &post_client_events, post, &post->call);
    if (wants_token)
        secret_wipe(fields->data, fields->end);
    if (error == 0 && post->is_paused)
        client_pause(post->call, true);
    post->has_left = post->has_left || error == 0;
    if (error == 0)
        watch_token(post);
    return error;
}

/* Its end. */

void post_free(struct post *post) {
    list_remove(&post->link);
    client_cancel(post->call);
    io_timer_free(post->timer);
    io_timer_free(post->limit);
    sse_parser_free(post->sse);
    route_unref(post->route);
    post_forget_token(post);
    buf_deinit(&post->body);
    mem_free(post);
}

void post_end_with(struct post *post, bool can_reach, const char *reason) {
    struct post_end end = {
        .status = post->status,
        .body = post->kind == ANSWER_ERROR ? buf_slice(&post->body) : SLICE_EMPTY,
        .may_have_arrived = post->may_have_arrived,
        .was_accepted = post->was_accepted,
        .can_reach = can_reach,
        .is_cut = post->is_cut,
        .was_reset = post->was_reset,
        .is_ours = post->is_ours,
        .is_late = post->is_late,
        .obstacle = post->obstacle,
        .lack = post->lack,
        .reason = reason,
    };
    if (!post->is_answered)
        post->events.on_end(post->context, &end);
    post_free(post);
}

void post_break_off(struct post *post, const char *reason) {
    post->is_broken = true;
    snprintf(post->reason, sizeof post->reason, "%s", reason);
    io_timer_start(post->timer, 0);
}

void post_break_off_by_limit(struct post *post, const char *reason) {
    post->is_ours = true;
    post_break_off(post, reason);
}

/* Once more: with another token, or to take the stream up again. */
static void send_again(struct post *post) {
    struct post_request resumption = {.method = HTTP_METHOD_GET,
                                      .event_id = slice_from_cstr(post->event_id)};
    bool is_resumption = !post->is_to_ask;
    post->is_to_ask = false;
    post->sse = sse_parser_free(post->sse);
    post->kind = ANSWER_NONE;
    post->status = 0;
    if (is_resumption)
        post->again = resumption;
    int error = post->source != NULL ? post_ask(post) : post_send(post, &post->again);
    if (error == -EACCES)
        post_end_with(post, true, "the access token of its caller has ended");
    else if (error != 0 && is_resumption)
        post_end_with(post, true, "there is no memory to take the stream up again");
    else if (error != 0)
        post_end_with(post, true, "there is no memory to send the request again");
}

static void on_timer(void *context) {
    struct post *post = context;
    if (post->is_answered || post->is_cancelled)
        post_free(post);
    else if (post->is_broken)
        post_end_with(post, true, post->reason);
    else
        send_again(post);
}

static void on_limit(void *context) {
    struct post *post = context;
    bool was_waiting = post->waiting != NULL;
    if (post->is_answered || post->is_cancelled || post->is_broken)
        return; /* the other timer ends it */
    post->call = client_cancel(post->call);
    post->kind = ANSWER_NONE;
    post->status = 0;
    if (was_waiting) {
        post->obstacle = POST_LACKS_TOKEN;
        post->lack = OAUTH_LACK_UNREACHABLE;
        post_end_with(post, true, "its authorization server did not answer in time");
        return;
    }
    post->may_have_arrived = true;
    post->is_late = true;
    post_end_with(post, true, "it did not answer in time");
}

/* Its beginning. */

static int begin(struct post *post, const struct post_options *options) {
    struct post_request request = {
        .method = options->method,
        .mcp_method = options->mcp_method,
        .name = options->name,
        .fields = options->fields,
        .body = options->body,
        .has_rule_fields = options->has_rule_fields,
        .is_idempotent = options->is_idempotent,
    };
    bool is_exchange = upstream_wants_token(post->route->upstream);
    if (post->source == NULL) {
        post->token = oauth_token_ref(options->token);
        return post_send(post, &request);
    }
    if (is_exchange && (options->token == NULL || oauth_token_has_ended(options->token)))
        return -EACCES;
    post->subject = is_exchange ? oauth_token_ref(options->token) : NULL;
    int error = post_keep(post, &request);
    return error != 0 ? error : post_ask(post);
}

int post_start(const struct post_options *options, const struct post_events *events, void *context,
               struct post **ret_post) {
    struct post *post = mem_alloc(sizeof *post);
    if (post == NULL)
        return -ENOMEM;
    struct io_loop *loop = options->worker->loop;
    *post = (struct post){
        .worker = options->worker,
        .route = route_ref(options->route),
        .events = *events,
        .context = context,
        .method = options->method,
        .is_idempotent = options->is_idempotent,
        .is_letter = options->is_letter,
        .opens_session = options->opens_session,
        .ends_with_token = options->ends_with_token,
        .may_leave = options->may_leave,
        .may_leave_context = options->may_leave_context,
        .may_leave_value = options->may_leave_value,
        .timer = io_timer_new(loop, on_timer, post),
    };
    buf_init_held(&post->body, (size_t)options->route->upstream->config->max_message,
                  io_loop_budget(loop));
    buf_init_held(&post->kept, SIZE_MAX, io_loop_budget(loop));
    if (post->route->upstream->source != NULL)
        post->source = oauth_source_ref(post->route->upstream->source);
    list_push_back(&options->worker->posts, &post->link);
    if (options->most_ms != 0 || options->ends_with_token)
        post->limit = io_timer_new(loop, on_limit, post);
    if (options->most_ms != 0)
        io_timer_start(post->limit, options->most_ms);
    int error = begin(post, options);
    if (error != 0) {
        post_free(post);
        return error;
    }
    *ret_post = post;
    return 0;
}

bool post_has_left(const struct post *post) {
    return post != NULL && post->has_left;
}

void post_pause(struct post *post, bool paused) {
    post->is_paused = paused;
    if (post->call != NULL && !post->is_answered)
        client_pause(post->call, paused);
}

struct post *post_cancel(struct post *post) {
    if (post == NULL || post->is_cancelled)
        return NULL;
    post->is_cancelled = true;
    post_stop_waiting(post);
    post->call = client_cancel(post->call);
    io_timer_start(post->timer, 0); /* it may be in the midst of a callback of this post */
    return NULL;
}

struct post *post_let_go(struct post *post) {
    if (!post_has_left(post) || post->is_broken)
        return post_cancel(post);
    if (!post->is_answered && !post->is_cancelled)
        post_drain(post);
    return NULL;
}

void posts_free(struct upstream_worker *worker) {
    LIST_FOREACH_SAFE (&worker->posts, link, tmp)
        post_free(CONTAINER_OF(link, struct post, link));
}
