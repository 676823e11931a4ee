/*
 * One request to an MCP endpoint, as the files see it that it is made of: post.c sends it and ends
 * it, post_token.c gets the token that it is sent with, post_answer.c reads what comes back.
 */
#pragma once

#include "base/limits.h"
#include "http/sse.h"
#include "oauth/source.h"
#include "private.h"

enum { POST_REASON = 256 };

enum answer_kind {
    ANSWER_NONE,   /* no head yet */
    ANSWER_JSON,   /* collected, one message */
    ANSWER_EVENTS, /* messages as they come */
    ANSWER_ERROR,  /* another status: collected, for the reason */
    ANSWER_IGNORED,
};

/* What is sent. The slices have to last until it is: they point into post->kept, or to the caller's
 * memory while he waits. */
struct post_request {
    enum http_method method;
    enum mcp_method mcp_method;
    struct slice name, fields, body;
    struct slice event_id; /* of the stream that is taken up again */
    bool has_rule_fields, is_idempotent;
};

struct post_wait;

struct post {
    struct list_link link; /* in worker->posts */
    struct upstream_worker *worker;
    struct route *route;
    struct post_events events;
    void *context;
    struct client_call *call;
    struct io_timer *timer; /* the pause before a stream is taken up again; the end of draining */
    struct io_timer *limit; /* NULL: the owner watches the time */
    bool is_idempotent, may_have_arrived, was_accepted, ends_with_token;
    enum http_method method;
    enum answer_kind kind;
    uint16_t status;
    struct buf body;
    struct sse_parser *sse;
    bool is_letter, opens_session;
    bool is_answered; /* the owner is gone; the rest of the stream is read */
    bool is_cancelled;
    bool is_paused;
    bool is_broken; /* refused in mid-answer; ends by the timer */
    bool is_ours;   /* ... for a limit of ours, not for what the server did wrong */
    bool is_cut, was_reset, is_late;
    char reason[POST_REASON];
    char event_id[LIMIT_SSE_ID + 1]; /* empty: the server gave none */
    uint64_t retry_ms;
    unsigned n_resumed, n_in_vain;

    /* Tokens. Both references, or NULL: what the caller has shown, and what is sent. */
    struct oauth_token *subject, *token;
    struct oauth_source *source; /* a reference; NULL: the subject itself is sent, or nothing */
    struct post_request again;   /* with a source: to be sent when there is a token */
    struct buf kept;             /* what it points to */
    struct post_wait *waiting;   /* for a token */
    bool is_to_ask;              /* the timer does */
    bool has_left;               /* the server may know of it: it was sent, and not refused */
    bool was_renewed;            /* the server has refused one token already */
    bool is_probe, was_probed;   /* sent without one, to be told where they come from */
    enum post_obstacle obstacle;
    enum oauth_lack lack;
    bool (*may_leave)(const void *context, uint64_t value);
    const void *may_leave_context;
    uint64_t may_leave_value;
};

/* post.c */
/* -ENOMEM, -EACCES without the token that it has to have, or what client_start() says. */
MUST_CHECK int post_send(struct post *post, const struct post_request *request);
/* Tells the owner, and frees it. */
void post_end_with(struct post *post, bool can_reach, const char *reason);
void post_free(struct post *post);
/* By the timer, outside of the caller's work. */
void post_break_off(struct post *post, const char *reason);
void post_break_off_by_limit(struct post *post, const char *reason);

/* post_token.c */
/* Sends post->again when there is a token, now or later; without one it is broken off. As
 * post_send(). */
MUST_CHECK int post_ask(struct post *post);
/* Keeps what `request` points to, for post->again. -ENOMEM. */
MUST_CHECK int post_keep(struct post *post, const struct post_request *request);
/* The answer says something of tokens alone: another one is tried, or there is none. Nobody need
 * hear of it. */
bool post_renews(struct post *post, const struct http_head *head);
/* A token that comes is of no use any more: nothing is sent. */
void post_stop_waiting(struct post *post);
void post_forget_token(struct post *post);

/* post_answer.c */
/* The owner has what it wanted, or is told by on_accepted: the rest is read, but not for long. */
void post_drain(struct post *post);
extern const struct client_events post_client_events;
/* A stream may be taken up again. */
bool post_can_resume(const struct post *post);
