/*
 * What upstreams tell on their own: lists that changed, resources that were updated
 * (subscriptions.c), log messages. It goes to the GET stream of each session concerned, which lives
 * on one worker; changes that come while there is no stream are kept as a mask, logs for who takes
 * it up again (replay.h).
 */
#include "base/mem.h"
#include "private.h"

struct session_note {
    struct io_message message;
    struct gw_worker *worker;
    struct gw_session *session; /* a reference */
    bool ends_stream;
    size_t len; /* of a log message's params; 0: only look what has changed */
    char params[];
};

/* Any thread. For a client that takes its stream up again, if there was one. */
static void keep(struct gw_session *session, struct slice params) {
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(params.len + KIB(1));
    if (mcp_write_notification(&line, MCP_NOTIFY_MESSAGE, params) != 0)
        return;
    mcp_make_one_line(&line, 0);
    gw_replay_keep(session, buf_slice(&line));
}

static void deliver(struct io_message *message) {
    struct session_note *note = CONTAINER_OF(message, struct session_note, message);
    struct gw_exchange *stream =
        map_get(&note->worker->streams, slice_from_cstr(note->session->id));
    if (note->ends_stream) {
        if (stream != NULL)
            gw_exchange_end_stream(stream);
    } else if (note->len == 0) {
        gw_notify_flush(note->worker, note->session);
    } else if (stream == NULL) {
        keep(note->session, slice_make(note->params, note->len));
    } else if (!gw_exchange_drops(stream)) {
        struct buf *out = gw_worker_scratch(note->worker);
        mcp_write_notification(out, MCP_NOTIFY_MESSAGE, slice_make(note->params, note->len));
        if (buf_error(out) == 0)
            gw_exchange_notify(stream, buf_slice(out));
    }
    gw_session_unref(note->session);
    budget_give_back(io_loop_budget(note->worker->loop), note->len);
    mem_free(note);
}

/* Any thread. What the session has no stream for is nothing but kept. */
static void post(struct gw_session *session, struct slice params, bool ends_stream) {
    pthread_mutex_lock(&session->mutex);
    struct gw_worker *worker = session->stream_worker;
    pthread_mutex_unlock(&session->mutex);
    if (worker == NULL) {
        if (params.len != 0)
            keep(session, params);
        return;
    }
    struct session_note *note = mem_alloc(sizeof *note + params.len);
    if (note == NULL)
        return;
    note->message.deliver = deliver;
    note->worker = worker;
    note->session = gw_session_ref(session);
    note->ends_stream = ends_stream;
    note->len = params.len;
    if (params.len != 0)
        memcpy(note->params, params.ptr, params.len);
    budget_add(io_loop_budget(worker->loop), params.len);
    io_loop_post(worker->loop, &note->message);
}

void gw_notify_end_stream(struct gw_session *session) {
    post(session, SLICE_EMPTY, true);
}

void gw_notify_flush(struct gw_worker *worker, struct gw_session *session) {
    struct gw_exchange *stream = map_get(&worker->streams, slice_from_cstr(session->id));
    if (stream == NULL || gw_exchange_is_clogged(stream))
        return; /* the mask is kept until there is one that drains */
    if (gw_authn_has_ended(stream)) {
        gw_notify_end_stream(session);
        return;
    }
    bool is_listen = session->kind == GW_SESSION_LISTEN;
    unsigned mask = atomic_exchange(&session->changed, 0);
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(LIMIT_RPC_ID + KIB(1));
    if (is_listen) {
        mask &= session->listen_mask;
        (void)!mcp_bridge_news(&params, worker->second_reader, SLICE("{}"),
                               slice_from_cstr(session->listen_id));
    }
    enum mcp_method last = MCP_METHOD_UNKNOWN;
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        enum mcp_method method = mcp_list_info((enum mcp_list)i)->changed;
        if ((mask & (1u << i)) == 0 || method == last)
            continue; /* resources and templates share a notification */
        last = method;
        struct buf *out = gw_worker_scratch(worker);
        mcp_write_notification(out, method, buf_slice(&params));
        gw_exchange_notify(stream, buf_slice(out));
    }
    gw_subscriptions_flush(stream);
}

/* What is told, and to whom. */
struct news {
    const struct upstream *upstream;
    struct slice owner;             /* of the instance that it comes from */
    unsigned list_mask;             /* 0: it is a log message */
    const struct gw_policy *policy; /* NULL: there is none yet */
    int level;
    struct slice params;
};

/* Which lists it may hear of. Also of one's own instance, which outlives the permission by the time
 * until it is idle. Who may know of some tools alone hears of these, and of nothing else. */
static unsigned heard_lists(struct gw_session *session, const struct news *news) {
    struct slice name = upstream_name(news->upstream);
    unsigned heard = 0;
    if (news->policy == NULL)
        return UPSTREAM_ALL_LISTS;
    pthread_mutex_lock(&session->mutex);
    if (session->identity != NULL && gw_policy_lets_know(news->policy, name, session->identity))
        heard = gw_policy_lets_know_all(news->policy, name, session->identity)
                    ? UPSTREAM_ALL_LISTS
                    : 1u << MCP_LIST_TOOLS;
    pthread_mutex_unlock(&session->mutex);
    return heard;
}

static bool concerns(struct gw_session *session, const struct news *news) {
    if (session->only[0] != '\0' && !gw_session_is_at(session, news->upstream))
        return false;
    return upstream_config(news->upstream)->share != CONFIG_SHARE_SESSION ||
           upstream_owner_is(news->owner, session->principal->id,
                             session->kind != GW_SESSION_LISTEN ? slice_from_cstr(session->id)
                                                                : SLICE_EMPTY);
}

static void tell_principal(void *context, struct gw_principal *principal) {
    const struct news *news = context;
    pthread_mutex_lock(&principal->mutex);
    LIST_FOREACH_SAFE (&principal->sessions, link, tmp) {
        struct gw_session *session = CONTAINER_OF(link, struct gw_session, principal_link);
        if (!concerns(session, news))
            continue;
        unsigned heard = heard_lists(session, news);
        if ((heard & news->list_mask) != 0) {
            atomic_fetch_or(&session->changed, heard & news->list_mask);
            post(session, SLICE_EMPTY, false);
        } else if (news->list_mask == 0 && session->kind != GW_SESSION_LISTEN &&
                   heard == UPSTREAM_ALL_LISTS && news->level >= atomic_load(&session->log_level)) {
            post(session, news->params, false);
        }
    }
    pthread_mutex_unlock(&principal->mutex);
}

static void tell(struct gateway *gateway, struct news *news) {
    struct gw_policy *policy = gw_policy_newest(gateway);
    news->policy = policy;
    if (upstream_config(news->upstream)->share != CONFIG_SHARE_PRINCIPAL) {
        gw_principals_each(&gateway->principals, tell_principal, news);
    } else {
        struct gw_principal *principal = gw_principal_find(&gateway->principals, news->owner);
        if (principal != NULL)
            tell_principal(news, principal);
        gw_principal_unref(principal);
    }
    gw_policy_unref(policy);
}

void gw_notify_lists(struct gw_session *session, unsigned list_mask) {
    atomic_fetch_or(&session->changed, list_mask);
    post(session, SLICE_EMPTY, false);
}

static void deliver_recheck(struct io_message *message) {
    struct gw_worker *worker = CONTAINER_OF(message, struct gw_worker, recheck_message);
    atomic_store(&worker->recheck_posted, false);
    gw_views_drop_old(&worker->views, upstream_set_generation(worker->gateway->upstreams));
    gw_calls_recheck(worker);
    if (worker->index == 0 && worker->gateway->on_change != NULL)
        worker->gateway->on_change(worker->gateway->change_context);
}

void gw_notify_recheck(struct gateway *gateway) {
    for (size_t i = 0; i < gateway->n_workers; i++) {
        struct gw_worker *worker = &gateway->workers[i];
        if (atomic_exchange(&worker->recheck_posted, true))
            continue;
        worker->recheck_message.deliver = deliver_recheck;
        io_loop_post(worker->loop, &worker->recheck_message);
    }
}

void gw_notify_changed(void *context, const struct upstream *upstream, struct slice owner,
                       unsigned list_mask) {
    struct gateway *gateway = context;
    struct news news = {.upstream = upstream, .owner = owner, .list_mask = list_mask};
    if (list_mask != 0)
        tell(gateway, &news);
    gw_notify_recheck(gateway);
}

void gw_notify_log(void *context, const struct upstream *upstream, struct slice owner, int level,
                   struct slice params) {
    struct news news = {.upstream = upstream, .owner = owner, .level = level, .params = params};
    tell(context, &news);
}
