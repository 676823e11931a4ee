/*
 * The token that a request is sent with, where the gateway gets one from an authorization server:
 * for itself, or for the caller's (oauth/source.h). The request waits here, at the last place
 * before it leaves, so that everything has one that the gateway sends: calls, handshakes, lists,
 * streams, goodbyes. A server that refuses a token has not looked at the request, which is sent
 * once more with another one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/secret.h"
#include "post_private.h"

/* Its own memory: a message that is under way outlives the post. */
struct post_wait {
    struct oauth_token_wait wait;
    struct post *post; /* NULL: it is gone */
};

static void swap_token(struct post *post, struct oauth_token *token) {
    oauth_token_unref(post->token);
    post->token = token;
}

/* MCP 2026-07-28, basic/authorization, "Authorization Server Discovery": by the answer to a request
 * without a token. Only one that opens a session: it does nothing, should the server take it. */
static bool begin_probe(struct post *post, const struct oauth_token_wait *wait) {
    bool opens = post->opens_session || post->again.mcp_method == MCP_SERVER_DISCOVER ||
                 post->again.mcp_method == MCP_INITIALIZE;
    if (wait->lack != OAUTH_LACK_CHALLENGE || !opens || post->was_probed)
        return false;
    post->is_probe = post->was_probed = true;
    int error = post_send(post, &post->again);
    if (error != 0)
        post_break_off_by_limit(post, "there is no memory to send the request");
    return true;
}

static void lack(struct post *post, const struct oauth_token_wait *wait) {
    char reason[POST_REASON];
    if (begin_probe(post, wait))
        return;
    snprintf(reason, sizeof reason, "no token: %s", wait->reason);
    post->obstacle = POST_LACKS_TOKEN;
    post->lack = wait->lack;
    post_break_off(post, reason);
}

static void deliver(struct io_message *message) {
    struct post_wait *waiting = CONTAINER_OF(message, struct post_wait, wait.message);
    struct post *post = waiting->post;
    if (post == NULL) {
        oauth_token_unref(waiting->wait.token);
        mem_free(waiting);
        return;
    }
    post->waiting = NULL;
    if (waiting->wait.token != NULL) {
        swap_token(post, waiting->wait.token);
        int error = post_send(post, &post->again);
        if (error == -EACCES)
            post_break_off(post, "the token had ended when it came");
        else if (error != 0)
            post_break_off_by_limit(post, "there is no memory to send the request");
    } else {
        lack(post, &waiting->wait);
    }
    mem_free(waiting);
}

int post_ask(struct post *post) {
    struct post_wait *waiting = mem_alloc(sizeof *waiting);
    if (waiting == NULL)
        return -ENOMEM;
    waiting->post = post;
    waiting->wait.message.deliver = deliver;
    waiting->wait.loop = post->worker->loop;
    swap_token(post, NULL);
    switch (oauth_source_get(post->source, post->subject, &waiting->wait)) {
    case OAUTH_ANSWER_WAIT:
        post->waiting = waiting;
        return 0;
    case OAUTH_ANSWER_TOKEN:
        swap_token(post, waiting->wait.token);
        mem_free(waiting);
        return post_send(post, &post->again);
    case OAUTH_ANSWER_NONE:
        break;
    }
    lack(post, &waiting->wait);
    mem_free(waiting);
    return 0;
}

int post_keep(struct post *post, const struct post_request *request) {
    size_t size = request->name.len + request->fields.len + request->body.len;
    /* In one piece, so that no copy stays behind when the buffer grows. */
    if (size != 0 && buf_reserve(&post->kept, size) == NULL)
        return -ENOMEM;
    buf_append(&post->kept, request->name);
    buf_append(&post->kept, request->fields);
    int error = buf_append(&post->kept, request->body);
    struct slice all = buf_slice(&post->kept);
    post->again = *request;
    if (error != 0)
        return error;
    post->again.name = slice_sub(all, 0, request->name.len);
    all = slice_from(all, request->name.len);
    post->again.fields = slice_sub(all, 0, request->fields.len);
    post->again.body = slice_from(all, request->fields.len);
    return 0;
}

static void forget_kept(struct post *post) {
    if (post->kept.data != NULL) /* rules may have put something secret into the fields */
        secret_wipe(post->kept.data, post->kept.cap);
    buf_deinit(&post->kept);
}

bool post_renews(struct post *post, const struct http_head *head) {
    bool may_be_refusal = head->status == 401 || head->status == 403;
    if (post->source == NULL)
        return false;
    if (post->is_probe && head->status != 401) {
        post->call = client_cancel(post->call);
        post->obstacle = POST_LACKS_TOKEN;
        post->lack = OAUTH_LACK_CLIENT;
        post_break_off(post, "the server does not say where its tokens come from: set auth.issuer");
        return true;
    }
    bool was_probe = post->is_probe;
    post->is_probe = false;
    if (!may_be_refusal || post->was_renewed || post->is_answered) {
        forget_kept(post);
        return false;
    }
    if (!oauth_source_refused(post->source, post->subject, post->token, head))
        return false;
    post->was_renewed = post->was_renewed || !was_probe;
    post->is_to_ask = true;
    post->has_left = post->n_resumed != 0;
    post->call = client_cancel(post->call);
    io_timer_start(post->timer, 0);
    return true;
}

void post_stop_waiting(struct post *post) {
    if (post->waiting != NULL && oauth_token_wait_cancel(&post->waiting->wait))
        mem_free(post->waiting);
    else if (post->waiting != NULL)
        post->waiting->post = NULL; /* the message frees it */
    post->waiting = NULL;
}

void post_forget_token(struct post *post) {
    post_stop_waiting(post);
    oauth_token_unref(post->token);
    oauth_token_unref(post->subject);
    oauth_source_unref(post->source);
    forget_kept(post);
}
