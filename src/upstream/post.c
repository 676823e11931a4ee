#include "post.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/secret.h"
#include "http/sse.h"
#include "mcp/modern.h"
#include "private.h"

enum {
    DRAIN_MS = 1000, /* for the end of a stream behind its answer */
    DEFAULT_RETRY_MS = 1000,
    QUICK_RESUMES = 10, /* that brought no message, as soon as the server wants */
    REASON = 200,
};

enum answer_kind {
    ANSWER_NONE,   /* no head yet */
    ANSWER_JSON,   /* collected, one message */
    ANSWER_EVENTS, /* messages as they come */
    ANSWER_ERROR,  /* another status: collected, for the reason */
    ANSWER_IGNORED,
};

struct post {
    struct list_link link; /* in worker->posts */
    struct upstream_worker *worker;
    struct route *route;
    struct oauth_token *token; /* a reference, or NULL */
    struct post_events events;
    void *context;
    struct client_call *call;
    struct io_timer *timer; /* the pause before a stream is taken up again; the end of draining */
    struct io_timer *limit; /* NULL: the owner watches the time */
    bool is_idempotent, may_have_arrived, was_accepted;
    enum http_method method;
    enum answer_kind kind;
    uint16_t status;
    struct buf body;
    struct sse_parser *sse;
    bool is_answered; /* the owner is gone; the rest of the stream is read */
    bool is_cancelled;
    bool is_paused;
    bool is_broken; /* refused in mid-answer; ends by the timer */
    bool is_ours;   /* ... for a limit of ours, not for what the server did wrong */
    bool is_cut, was_reset;
    char reason[REASON];
    char event_id[LIMIT_SSE_ID + 1]; /* empty: the server gave none */
    uint64_t retry_ms;
    unsigned n_resumed, n_in_vain;
};

/* Routes. */

struct route *route_new(const struct route *from) {
    struct counted_route *route =
        mem_xalloc(sizeof *route + from->session.len + from->partition.len);
    atomic_init(&route->refs, 1);
    route->route = *from;
    upstream_ref(from->upstream);
    if (from->session.len != 0)
        memcpy(route->bytes, from->session.ptr, from->session.len);
    if (from->partition.len != 0)
        memcpy(route->bytes + from->session.len, from->partition.ptr, from->partition.len);
    route->route.session = slice_make(route->bytes, from->session.len);
    route->route.partition = slice_make(route->bytes + from->session.len, from->partition.len);
    return &route->route;
}

struct route *route_ref(struct route *route) {
    atomic_fetch_add(&CONTAINER_OF(route, struct counted_route, route)->refs, 1);
    return route;
}

struct route *route_unref(struct route *route) {
    if (route == NULL)
        return NULL;
    struct counted_route *counted = CONTAINER_OF(route, struct counted_route, route);
    if (atomic_fetch_sub(&counted->refs, 1) == 1) {
        upstream_unref(route->upstream);
        mem_free(counted);
    }
    return NULL;
}

/* The request. */

static int write_mcp_fields(struct buf *out, const struct post_options *options) {
    const struct route *route = options->route;
    bool is_modern = mcp_revision_is_modern(route->revision);
    /* Not on initialize, and not before 2025-06-18, which had no such field. */
    if (route->revision >= MCP_2025_06_18)
        (void)!http_write_field(out, SLICE("MCP-Protocol-Version"),
                                mcp_revision_name(route->revision));
    if (route->session.len != 0)
        (void)!http_write_field(out, SLICE("Mcp-Session-Id"), route->session);
    if (!is_modern || options->mcp_method == MCP_METHOD_UNKNOWN)
        return buf_error(out);
    (void)!http_write_field(out, SLICE("Mcp-Method"), mcp_method_name(options->mcp_method));
    if (options->name.len != 0) {
        struct buf value = BUF_INIT(LIMIT_HTTP_FIELD_LINE);
        int error = mcp_field_encode(&value, options->name);
        if (error == 0)
            error = http_write_field(out, SLICE("Mcp-Name"), buf_slice(&value));
        buf_deinit(&value);
        if (error != 0)
            return error;
    }
    return buf_error(out);
}

static int write_fields(struct buf *out, const struct post_options *options,
                        struct slice event_id) {
    const struct upstream *upstream = options->route->upstream;
    if (options->method == HTTP_METHOD_POST) {
        buf_append_cstr(out, "Content-Type: application/json\r\n"
                             "Accept: application/json, text/event-stream\r\n");
    } else {
        buf_append_cstr(out, "Accept: text/event-stream\r\n");
    }
    if (!options->has_rule_fields)
        buf_append(out, upstream->rule_fields);
    buf_append(out, options->fields);
    int error = write_mcp_fields(out, options);
    if (error == 0 && event_id.len != 0)
        error = http_write_field(out, SLICE("Last-Event-ID"), event_id);
    if (error == 0 && upstream_wants_token(upstream))
        error = buf_append(out, oauth_token_line(options->token));
    return error != 0 ? error : buf_error(out);
}

static int send_request(struct post *post, const struct post_options *options,
                        struct slice event_id);

/* The answer. */

static void free_post(struct post *post) {
    list_remove(&post->link);
    client_cancel(post->call);
    io_timer_free(post->timer);
    io_timer_free(post->limit);
    sse_parser_free(post->sse);
    route_unref(post->route);
    oauth_token_unref(post->token);
    buf_deinit(&post->body);
    mem_free(post);
}

static void end_with(struct post *post, bool can_reach, const char *reason) {
    struct post_end end = {
        .status = post->status,
        .body = post->kind == ANSWER_ERROR ? buf_slice(&post->body) : SLICE_EMPTY,
        .may_have_arrived = post->may_have_arrived,
        .was_accepted = post->was_accepted,
        .can_reach = can_reach,
        .is_cut = post->is_cut,
        .was_reset = post->was_reset,
        .is_ours = post->is_ours,
        .reason = reason,
    };
    if (!post->is_answered)
        post->events.on_end(post->context, &end);
    free_post(post);
}

/* By the timer, outside of the caller's work. */
static void break_off(struct post *post, const char *reason) {
    post->is_broken = true;
    snprintf(post->reason, sizeof post->reason, "%s", reason);
    io_timer_start(post->timer, 0);
}

static void break_off_by_limit(struct post *post, const char *reason) {
    post->is_ours = true;
    break_off(post, reason);
}

static void break_off_too_long(struct post *post) {
    const struct config_server *config = post->route->upstream->config;
    char reason[REASON];
    snprintf(reason, sizeof reason,
             "a message of it is longer than mcp.servers.%.*s.max_message, %llu",
             SLICE_ARGS(slice_sub(config->name, 0, 64)), (unsigned long long)config->max_message);
    break_off_by_limit(post, reason);
}

static bool can_resume(const struct post *post) {
    return post->event_id[0] != '\0' && !mcp_revision_is_modern(post->route->revision) &&
           post->method == HTTP_METHOD_POST && !post->is_answered;
}

/* MCP 2025-11-25, basic/transports: the server may close a stream after it gave an event id; the
 * client comes back with GET, after `retry`. */
static void resume_later(struct post *post) {
    post->n_resumed++;
    uint64_t pause = post->retry_ms != 0 ? post->retry_ms : DEFAULT_RETRY_MS;
    if (++post->n_in_vain > QUICK_RESUMES && pause < DEFAULT_RETRY_MS)
        pause = DEFAULT_RETRY_MS;
    io_timer_start(post->timer, pause < LIMIT_SSE_RETRY_MS ? pause : LIMIT_SSE_RETRY_MS);
}

static void on_timer(void *context) {
    struct post *post = context;
    if (post->is_answered || post->is_cancelled) {
        free_post(post);
        return;
    }
    if (post->is_broken) {
        end_with(post, true, post->reason);
        return;
    }
    struct post_options options = {.worker = post->worker,
                                   .route = post->route,
                                   .method = HTTP_METHOD_GET,
                                   .token = post->token};
    post->sse = sse_parser_free(post->sse);
    post->kind = ANSWER_NONE;
    post->status = 0;
    int error = send_request(post, &options, slice_from_cstr(post->event_id));
    if (error == -EACCES)
        end_with(post, true, "the access token of its caller has ended");
    else if (error != 0)
        end_with(post, true, "there is no memory to take the stream up again");
}

static void on_limit(void *context) {
    struct post *post = context;
    if (post->is_answered || post->is_cancelled || post->is_broken)
        return; /* the other timer ends it */
    post->call = client_cancel(post->call);
    post->kind = ANSWER_NONE;
    post->status = 0;
    post->may_have_arrived = true;
    end_with(post, true, "it did not answer in time");
}

static void on_head(void *context, const struct http_head *head) {
    struct post *post = context;
    struct slice type = http_content_type(head);
    bool is_json = slice_eq_nocase(type, SLICE("application/json"));
    post->status = head->status;
    if (post->events.on_alive != NULL)
        post->events.on_alive(post->context);
    if (post->events.on_head != NULL && post->n_resumed == 0)
        post->events.on_head(post->context, head);
    if (post->is_cancelled)
        return; /* by one of these */
    post->may_have_arrived = true;
    post->was_accepted = post->was_accepted || head->status == 200;
    if (head->status == 202 || head->status == 204) {
        post->kind = ANSWER_IGNORED;
    } else if (head->status != 200) {
        post->kind = is_json ? ANSWER_ERROR : ANSWER_IGNORED;
        post->body.max = LIMIT_ERROR_BODY;
    } else if (is_json) {
        post->kind = ANSWER_JSON;
    } else if (slice_eq_nocase(type, SLICE("text/event-stream"))) {
        post->kind = ANSWER_EVENTS;
        if (sse_parser_new((size_t)post->route->upstream->config->max_message, &post->sse) != 0)
            break_off_by_limit(post, "there is no memory for the answer");
        else
            sse_parser_hold(post->sse, io_loop_budget(post->worker->loop));
    } else {
        post->kind = ANSWER_IGNORED;
        if (post->method != HTTP_METHOD_DELETE)
            break_off(post, "its answer is neither application/json nor text/event-stream");
    }
}

/* When the owner has what it wanted, the post lives on by itself to read the rest. */
static void deliver(struct post *post, struct slice document) {
    post->n_in_vain = 0;
    if (post->is_answered || post->is_cancelled ||
        !post->events.on_message(post->context, document) || post->is_cancelled)
        return;
    post->is_answered = true;
    io_timer_start(post->timer, DRAIN_MS);
}

static void note_event(struct post *post, const struct sse_event *event) {
    if (event->has_id && event->id.len < sizeof post->event_id)
        (void)!slice_to_cstr(event->id, post->event_id, sizeof post->event_id);
    if (event->has_retry)
        post->retry_ms = event->retry_ms;
}

static void feed_events(struct post *post, struct slice bytes) {
    while (!post->is_broken && !post->is_cancelled) {
        struct sse_event event = {0};
        enum sse_result result = SSE_NEED_MORE;
        size_t consumed = 0;
        if (sse_parser_feed(post->sse, bytes, &consumed, &result, &event) != 0) {
            break_off_by_limit(post, "there is no memory for the answer");
            return;
        }
        bytes = slice_from(bytes, consumed);
        switch (result) {
        case SSE_NEED_MORE:
            return;
        case SSE_COMMENT:
            break;
        case SSE_REFUSED:
            if (sse_parser_is_too_long(post->sse))
                break_off_too_long(post);
            else
                break_off(post, sse_parser_reason(post->sse));
            return;
        case SSE_EVENT:
            note_event(post, &event);
            bool is_message = event.type.len == 0 || slice_eq(event.type, SLICE("message"));
            if (is_message && event.data.len != 0)
                deliver(post, event.data);
            break;
        }
    }
}

static void take_body(struct post *post, struct slice bytes) {
    int error = buf_append(&post->body, bytes);
    if (error == -E2BIG)
        break_off_too_long(post);
    else if (error != 0)
        break_off_by_limit(post, "there is no memory for the answer");
}

static void on_data(void *context, struct slice bytes) {
    struct post *post = context;
    if (post->is_broken || post->is_cancelled)
        return;
    if (!post->is_answered && post->events.on_alive != NULL)
        post->events.on_alive(post->context);
    switch (post->kind) {
    case ANSWER_EVENTS:
        feed_events(post, bytes);
        return;
    case ANSWER_JSON:
        take_body(post, bytes);
        return;
    case ANSWER_ERROR:
        /* What is longer than an error needs to be is no error of JSON-RPC. */
        if (buf_append(&post->body, bytes) != 0)
            post->kind = ANSWER_IGNORED;
        return;
    case ANSWER_NONE:
    case ANSWER_IGNORED:
        return;
    }
}

static void describe_end(struct post *post, char *text, size_t size) {
    if (post->status == 200)
        snprintf(text, size, "its answer ended without a message for this request");
    else if (post->status >= 300 && post->status < 400)
        snprintf(text, size,
                 "it redirects (HTTP %u), which is not followed; put its own URL in url",
                 post->status);
    else
        snprintf(text, size, "it answered with HTTP %u (%s)", post->status,
                 http_status_text(post->status));
}

static void on_end(void *context) {
    struct post *post = context;
    char text[REASON];
    post->call = NULL;
    if (post->is_cancelled)
        return;
    if (post->is_answered) {
        free_post(post);
        return;
    }
    if (post->is_broken)
        return; /* the timer is about to say so */
    bool is_over =
        post->kind == ANSWER_JSON && post->events.on_message(post->context, buf_slice(&post->body));
    if (is_over || post->is_cancelled) {
        free_post(post);
        return;
    }
    if (post->kind == ANSWER_EVENTS && can_resume(post)) {
        resume_later(post);
        return;
    }
    describe_end(post, text, sizeof text);
    end_with(post, true, text);
}

static void on_failed(void *context, const struct client_failure *failure) {
    struct post *post = context;
    post->call = NULL;
    if (post->is_cancelled)
        return;
    post->may_have_arrived = post->may_have_arrived || failure->may_have_arrived;
    if (post->is_answered) {
        free_post(post);
        return;
    }
    if (post->is_broken)
        return;
    if (post->kind == ANSWER_EVENTS && can_resume(post) && failure->kind == CLIENT_FAILED_RESET) {
        resume_later(post);
        return;
    }
    bool can_reach = failure->kind == CLIENT_FAILED_RESET ||
                     failure->kind == CLIENT_FAILED_PROTOCOL ||
                     failure->kind == CLIENT_FAILED_MEMORY;
    if (post->kind != ANSWER_ERROR)
        post->status = 0;
    post->is_cut = failure->kind == CLIENT_FAILED_RESET;
    post->was_reset = post->is_cut && !failure->was_repeated;
    post->is_ours = failure->kind == CLIENT_FAILED_MEMORY;
    end_with(post, can_reach, failure->reason);
}

static int send_request(struct post *post, const struct post_options *options,
                        struct slice event_id) {
    static const struct client_events events = {
        .on_head = on_head,
        .on_data = on_data,
        .on_end = on_end,
        .on_failed = on_failed,
    };
    const struct upstream *upstream = post->route->upstream;
    struct buf *fields = &post->worker->fields;
    bool wants_token = upstream_wants_token(upstream);
    if (wants_token && (options->token == NULL || oauth_token_has_ended(options->token)))
        return -EACCES;
    buf_reset(fields, KIB(16));
    int error = write_fields(fields, options, event_id);
    if (error != 0)
        return error;
    struct client_request request = {
        .target = upstream->target,
        .partition = post->route->partition,
        .method = options->method,
        .fields = buf_slice(fields),
        .has_secret = wants_token,
        .body = options->body,
        .connect_timeout_ms = upstream->config->connect_timeout_ms,
        .max_body = UINT64_MAX, /* each message has its limit, the stream has none */
        .is_idempotent = options->is_idempotent || options->method != HTTP_METHOD_POST,
    };
    error = client_start(post->worker->client, &request, &events, post, &post->call);
    if (wants_token)
        secret_wipe(fields->data, fields->end);
    if (error == 0 && post->is_paused)
        client_pause(post->call, true);
    return error;
}

int post_start(const struct post_options *options, const struct post_events *events, void *context,
               struct post **ret_post) {
    struct post *post = mem_alloc(sizeof *post);
    if (post == NULL)
        return -ENOMEM;
    *post = (struct post){
        .worker = options->worker,
        .route = route_ref(options->route),
        .token = oauth_token_ref(options->token),
        .events = *events,
        .context = context,
        .method = options->method,
        .is_idempotent = options->is_idempotent,
        .timer = io_timer_new(options->worker->loop, on_timer, post),
    };
    buf_init_held(&post->body, (size_t)options->route->upstream->config->max_message,
                  io_loop_budget(options->worker->loop));
    list_push_back(&options->worker->posts, &post->link);
    int error = send_request(post, options, SLICE_EMPTY);
    if (error != 0) {
        free_post(post);
        return error;
    }
    if (options->most_ms != 0) {
        post->limit = io_timer_new(options->worker->loop, on_limit, post);
        io_timer_start(post->limit, options->most_ms);
    }
    *ret_post = post;
    return 0;
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
    post->call = client_cancel(post->call);
    io_timer_start(post->timer, 0); /* it may be in the midst of a callback of this post */
    return NULL;
}

void posts_free(struct upstream_worker *worker) {
    LIST_FOREACH_SAFE (&worker->posts, link, tmp)
        free_post(CONTAINER_OF(link, struct post, link));
}
