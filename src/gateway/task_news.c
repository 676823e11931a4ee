/*
 * notifications/tasks of the extension (2026-07-28; "Task Status Notifications"): what its server
 * says of a task goes to who listens to it, as tasks/get would answer, with the id that the client
 * knows and under the same conditions.
 *
 * What the server has said is kept like any update (subscriptions.c): the last of it, where it is
 * short. Where it is longer, or something may have been missed, nobody but the server knows what
 * the task is like: it is asked with tasks/get when the client can be told, a few at a time.
 */
#include "base/mem.h"
#include "mcp/tasks.h"
#include "private.h"

enum { MOST_LOOKS = 4 };

struct gw_task_look {
    struct list_link link; /* in stream->looks */
    struct gw_exchange *stream;
    struct gw_subscription *subscription; /* a reference */
    struct upstream_call *call;
};

static bool is_allowed(const struct gw_worker *worker, struct gw_session *session,
                       const struct gw_subscription *subscription) {
    const struct upstream *upstream =
        upstream_list_find(worker->list, slice_from_cstr(subscription->upstream), NULL);
    pthread_mutex_lock(&session->mutex);
    bool may = upstream != NULL && worker->policy != NULL && session->identity != NULL &&
               gw_task_lets_ask(worker, upstream, session->identity);
    pthread_mutex_unlock(&session->mutex);
    return may;
}

/* --- what is written --- */

struct naming {
    struct slice theirs, ours;
};

/* A mcp_task_rename_fn. */
static int write_id(void *context, const struct json_node *id, struct buf *out) {
    const struct naming *naming = context;
    if (!json_string_is(id, naming->theirs))
        return MCP_E_REFUSED;
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_string(&writer, naming->ours);
    return buf_error(out);
}

static bool is_last(const struct mcp_task *task) {
    return task->status == MCP_TASK_COMPLETED || task->status == MCP_TASK_FAILED ||
           task->status == MCP_TASK_CANCELLED;
}

static int write_news(struct buf *out, struct gw_worker *worker, const struct gw_session *session,
                      const struct gw_subscription *subscription, struct slice said, bool is_answer,
                      bool *ret_is_last) {
    struct json_reader *reader = worker->second_reader;
    struct buf plain CLEANUP(buf_deinit) = BUF_INIT(said.len + 1);
    struct buf named CLEANUP(buf_deinit) = BUF_INIT(said.len + LIMIT_TASK_NAME + KIB(1));
    struct buf news CLEANUP(buf_deinit) =
        BUF_INIT(said.len + LIMIT_TASK_NAME + LIMIT_RPC_ID + KIB(2));
    struct naming naming = {.theirs = subscription->wish.name, .ours = subscription->id};
    struct mcp_task task;
    bool is_task = mcp_task_read(reader, said, &task);
    bool is_over = is_task && is_last(&task);
    if (is_answer && !(is_task && json_string_is(task.id, subscription->wish.name)))
        return MCP_E_REFUSED;
    int error = is_answer ? mcp_task_bare(&plain, reader, said) : 0;
    if (error == 0)
        error = mcp_tasks_rename(&named, reader, is_answer ? buf_slice(&plain) : said,
                                 MCP_TASK_AT_ROOT, write_id, &naming);
    if (error == 0)
        error =
            mcp_bridge_news(&news, reader, buf_slice(&named), slice_from_cstr(session->listen_id));
    if (error == 0)
        error = mcp_write_notification(out, MCP_NOTIFY_TASKS, buf_slice(&news));
    if (error == 0)
        *ret_is_last = is_over;
    return error;
}

/* A NULL ptr: nobody can say what it is like. */
static void tell_task(struct gw_exchange *stream, struct gw_subscription *subscription,
                      struct slice said, bool is_answer) {
    struct gw_session *session = stream->session;
    struct buf *out = gw_worker_scratch(stream->worker);
    bool is_last = false;
    bool is_told =
        said.ptr != NULL && is_allowed(stream->worker, session, subscription) &&
        write_news(out, stream->worker, session, subscription, said, is_answer, &is_last) == 0;
    if (is_told)
        gw_exchange_notify(stream, buf_slice(out));
    pthread_mutex_lock(&session->mutex);
    bool is_over = is_last || !is_told || subscription->state == GW_SUBSCRIPTION_OVER;
    pthread_mutex_unlock(&session->mutex);
    if (is_over)
        gw_subscription_drop(session, subscription);
    if (is_over && !is_last)
        gw_notify_end_stream(session);
}

/* --- what is asked --- */

static void ignore_note(void *context, enum mcp_method method, struct slice params) {
    (void)context, (void)method, (void)params;
}

static void look_free(struct gw_task_look *look) {
    list_remove(&look->link);
    look->stream->n_looks--;
    gw_subscription_unref(look->subscription);
    mem_free(look);
}

/* A NULL ptr: there was none. */
static void take_answer(struct gw_exchange *stream, struct gw_subscription *subscription,
                        struct slice answer) {
    struct gw_session *session = stream->session;
    subscription->is_asked = false;
    if (stream->connection == NULL)
        return;
    pthread_mutex_lock(&session->mutex);
    bool has_newer = subscription->is_updated && subscription->params != NULL;
    bool is_there = !subscription->is_dropped;
    pthread_mutex_unlock(&session->mutex);
    if (is_there && !has_newer)
        tell_task(stream, subscription, answer, true);
    gw_subscriptions_flush(stream);
}

static void on_done(void *context, enum upstream_outcome outcome, struct slice bytes) {
    struct gw_task_look *look = context;
    struct gw_exchange *stream = look->stream;
    struct gw_subscription *subscription = look->subscription;
    struct slice nothing = {.ptr = NULL};
    atomic_fetch_add(&subscription->refs, 1);
    look_free(look);
    take_answer(stream, subscription, outcome == UPSTREAM_RESULT ? bytes : nothing);
    gw_subscription_unref(subscription);
}

static struct upstream_call *ask(struct gw_task_look *look, struct upstream *upstream) {
    static const struct upstream_call_events events = {.on_notification = ignore_note,
                                                       .on_done = on_done};
    struct gw_worker *worker = look->stream->worker;
    const struct gw_caller *caller = look->stream->caller;
    const struct gw_subscription *subscription = look->subscription;
    struct gw_task_home home = {.upstream = upstream_name(upstream),
                                .capabilities = subscription->capabilities};
    struct upstream_call *call = NULL;
    CLEANUP(oauth_token_unrefp) struct oauth_token *token = NULL;
    struct gw_task_request request = {
        .worker = worker,
        .upstream = upstream,
        .revision = MCP_2026_07_28,
        .client = MCP_LEGACY_LATEST, /* who gives no envelope: the gateway's own is written */
        .capabilities = subscription->capabilities,
        .asker = (uintptr_t)look,
        .method = MCP_TASKS_GET,
        .id = subscription->wish.name,
    };
    if (gw_task_instance(worker, caller, upstream, &home, &request.instance) != 0)
        return NULL;
    if (gw_token_take(caller, upstream, request.instance, &token) == 0) {
        request.token = token;
        call = gw_task_request(&request, &events, look);
    }
    upstream_instance_unref(request.instance);
    return call;
}

static bool look_for(struct gw_exchange *stream, struct gw_subscription *subscription) {
    struct upstream *upstream =
        upstream_list_find(stream->worker->list, slice_from_cstr(subscription->upstream), NULL);
    struct gw_task_look *look = upstream != NULL ? mem_alloc(sizeof *look) : NULL;
    if (look == NULL)
        return false;
    atomic_fetch_add(&subscription->refs, 1);
    look->stream = stream;
    look->subscription = subscription;
    list_push_back(&stream->looks, &look->link);
    stream->n_looks++;
    look->call = ask(look, upstream);
    if (look->call != NULL)
        return true;
    look_free(look);
    return false;
}

/* What it is like is not known: its server is asked, some time. */
static void look_for_task(struct gw_exchange *stream, struct gw_subscription *subscription) {
    struct gw_session *session = stream->session;
    if (stream->n_looks >= MOST_LOOKS)
        return; /* it stays updated */
    pthread_mutex_lock(&session->mutex);
    subscription->is_updated = subscription->params != NULL; /* which came just now */
    pthread_mutex_unlock(&session->mutex);
    subscription->is_asked =
        is_allowed(stream->worker, session, subscription) && look_for(stream, subscription);
    if (!subscription->is_asked)
        tell_task(stream, subscription, (struct slice){.ptr = NULL}, false);
}

void gw_task_news_tell(struct gw_exchange *stream, struct gw_subscription *subscription) {
    struct gw_session *session = stream->session;
    if (subscription->is_asked)
        return; /* what its server answers was said before */
    pthread_mutex_lock(&session->mutex);
    CLEANUP(mem_freep) char *params = TAKE(subscription->params);
    size_t len = subscription->params_len;
    bool is_new = subscription->is_updated && !subscription->is_dropped;
    subscription->params_len = 0;
    subscription->is_updated = is_new && params == NULL;
    pthread_mutex_unlock(&session->mutex);
    if (is_new && params != NULL)
        tell_task(stream, subscription, slice_make(params, len), false);
    else if (is_new)
        look_for_task(stream, subscription);
}

void gw_task_looks_end(struct gw_exchange *stream) {
    LIST_FOREACH_SAFE (&stream->looks, link, tmp) {
        struct gw_task_look *look = CONTAINER_OF(link, struct gw_task_look, link);
        upstream_call_cancel(look->call, SLICE_EMPTY);
        look_free(look);
    }
}
