/*
 * What comes back: one JSON message, or events as they come. A stream of a legacy server that ends
 * early is taken up again where it gave an id (post.c sends the GET).
 */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "post_private.h"

enum {
    DRAIN_MS = 1000, /* for the end of a stream behind its answer */
    DEFAULT_RETRY_MS = 1000,
    QUICK_RESUMES = 10, /* that brought no message, as soon as the server wants */
};

static void break_off_too_long(struct post *post) {
    const struct config_server *config = post->route->upstream->config;
    char reason[POST_REASON];
    snprintf(reason, sizeof reason,
             "a message of it is longer than mcp.servers.%.*s.max_message, %llu",
             SLICE_ARGS(slice_sub(config->name, 0, 64)), (unsigned long long)config->max_message);
    post_break_off_by_limit(post, reason);
}

bool post_can_resume(const struct post *post) {
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

static void on_head(void *context, const struct http_head *head) {
    struct post *post = context;
    struct slice type = http_content_type(head);
    bool is_json = slice_eq_nocase(type, SLICE("application/json"));
    if (post_renews(post, head))
        return;
    if (post->is_answered) { /* let go of before it was answered */
        post->kind = ANSWER_IGNORED;
        return;
    }
    post->status = head->status;
    if (post->events.on_alive != NULL)
        post->events.on_alive(post->context);
    if (post->events.on_head != NULL && post->n_resumed == 0)
        post->events.on_head(post->context, head);
    if (post->is_cancelled)
        return; /* by one of these */
    post->may_have_arrived = true;
    post->was_accepted = post->was_accepted || head->status == 200;
    if (post->is_letter && head->status >= 200 && head->status < 300) {
        post->kind = ANSWER_IGNORED;
        post_drain(post);
        post->events.on_accepted(post->context);
    } else if (head->status == 202 || head->status == 204) {
        post->kind = ANSWER_IGNORED;
    } else if (head->status != 200) {
        post->kind = is_json || post->is_letter ? ANSWER_ERROR : ANSWER_IGNORED;
        post->body.max = LIMIT_ERROR_BODY;
    } else if (is_json) {
        post->kind = ANSWER_JSON;
    } else if (slice_eq_nocase(type, SLICE("text/event-stream"))) {
        post->kind = ANSWER_EVENTS;
        if (sse_parser_new((size_t)post->route->upstream->config->max_message, &post->sse) != 0)
            post_break_off_by_limit(post, "there is no memory for the answer");
        else
            sse_parser_hold(post->sse, io_loop_budget(post->worker->loop));
    } else {
        post->kind = ANSWER_IGNORED;
        if (post->method != HTTP_METHOD_DELETE)
            post_break_off(post, "its answer is neither application/json nor text/event-stream");
    }
}

void post_drain(struct post *post) {
    post->is_answered = true;
    io_timer_start(post->timer, DRAIN_MS);
}

/* When the owner has what it wanted, the post lives on by itself to read the rest. */
static void deliver(struct post *post, struct slice document) {
    post->n_in_vain = 0;
    if (post->is_answered || post->is_cancelled ||
        !post->events.on_message(post->context, document) || post->is_cancelled)
        return;
    post_drain(post);
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
            post_break_off_by_limit(post, "there is no memory for the answer");
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
                post_break_off(post, sse_parser_reason(post->sse));
            return;
        case SSE_EVENT:
            note_event(post, &event);
            bool is_message = event.type.len == 0 || slice_eq(event.type, SLICE("message"));
            if (is_message && event.data.len != 0)
                deliver(post, event.data);
            else if (!is_message && post->events.on_event != NULL && !post->is_answered)
                post->events.on_event(post->context, event.type, event.data);
            break;
        }
    }
}

static void take_body(struct post *post, struct slice bytes) {
    int error = buf_append(&post->body, bytes);
    if (error == -E2BIG)
        break_off_too_long(post);
    else if (error != 0)
        post_break_off_by_limit(post, "there is no memory for the answer");
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
    if (post->status == 200 && post->method == HTTP_METHOD_GET)
        snprintf(text, size, "its stream ended");
    else if (post->status == 200)
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
    char text[POST_REASON];
    post->call = NULL;
    if (post->is_cancelled)
        return;
    if (post->is_answered) {
        post_free(post);
        return;
    }
    if (post->is_broken)
        return; /* the timer is about to say so */
    bool is_over =
        post->kind == ANSWER_JSON && post->events.on_message(post->context, buf_slice(&post->body));
    if (is_over || post->is_cancelled) {
        post_free(post);
        return;
    }
    if (post->kind == ANSWER_EVENTS && post_can_resume(post)) {
        resume_later(post);
        if (post->events.on_recess != NULL)
            post->events.on_recess(post->context);
        return;
    }
    describe_end(post, text, sizeof text);
    post_end_with(post, true, text);
}

static void on_failed(void *context, const struct client_failure *failure) {
    struct post *post = context;
    post->call = NULL;
    if (post->is_cancelled)
        return;
    post->may_have_arrived = post->may_have_arrived || failure->may_have_arrived;
    if (post->is_answered) {
        post_free(post);
        return;
    }
    if (post->is_broken)
        return;
    if (post->kind == ANSWER_EVENTS && post_can_resume(post) &&
        failure->kind == CLIENT_FAILED_RESET) {
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
    post_end_with(post, can_reach, failure->reason);
}

unsigned post_status(const struct post *post) {
    return post->status;
}

const struct client_events post_client_events = {
    .on_head = on_head,
    .on_data = on_data,
    .on_end = on_end,
    .on_failed = on_failed,
};
