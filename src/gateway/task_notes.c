/*
 * notifications/tasks/status of 2025-11-25, which a server sends when it likes: to the GET stream
 * of each session that its instance belongs to. The ids in it are written on the stream's worker,
 * for each session in its own way. Of a server that all callers share nobody is told: whose task it
 * is does not show.
 */
#include "base/mem.h"
#include "mcp/tasks.h"
#include "private.h"

struct status_note {
    struct io_message message;
    struct gw_worker *worker;
    struct gw_session *session; /* a reference */
    char upstream[GW_SERVER_NAME_CHARS + 1];
    bool is_session;
    unsigned capabilities; /* of the clients of the instance */
    size_t len;
    char params[];
};

static void tell(const struct status_note *note) {
    const struct gw_session *session = note->session;
    struct gw_worker *worker = note->worker;
    struct gw_exchange *stream = map_get(&worker->streams, slice_from_cstr(session->id));
    struct buf told CLEANUP(buf_deinit) = BUF_INIT(note->len * 2 + KIB(8));
    struct gw_task_reader whose = {
        .gateway = worker->gateway,
        .principal = session->principal->id,
        .endpoint = slice_from_cstr(session->only),
        .kind = GW_TASK_LEGACY,
        .home = {.upstream = slice_from_cstr(note->upstream),
                 .session = note->is_session ? slice_from_cstr(session->id) : SLICE_EMPTY,
                 .capabilities = session->capabilities},
    };
    if (session->revision != MCP_2025_11_25 || session->capabilities != note->capabilities)
        return;
    if (stream == NULL || gw_exchange_drops(stream) ||
        gw_task_rename(&whose, worker->second_reader, MCP_TASK_AT_ROOT | MCP_TASK_RELATED,
                       slice_make(note->params, note->len), &told) != 0)
        return;
    struct buf *out = gw_worker_scratch(worker);
    mcp_write_notification(out, MCP_NOTIFY_TASKS_STATUS, buf_slice(&told));
    if (buf_error(out) == 0)
        gw_exchange_notify(stream, buf_slice(out));
}

static void deliver(struct io_message *message) {
    struct status_note *note = CONTAINER_OF(message, struct status_note, message);
    tell(note);
    gw_session_unref(note->session);
    budget_give_back(io_loop_budget(note->worker->loop), note->len);
    mem_free(note);
}

/* What is told, and to whom. */
struct news {
    const struct upstream *upstream;
    struct slice owner; /* of the instance */
    unsigned capabilities;
    const struct gw_policy *policy; /* NULL: there is none yet */
    struct slice params;
};

static void post(struct gw_session *session, const struct news *news) {
    pthread_mutex_lock(&session->mutex);
    struct gw_worker *worker = session->stream_worker;
    pthread_mutex_unlock(&session->mutex);
    struct status_note *note = worker != NULL ? mem_alloc(sizeof *note + news->params.len) : NULL;
    if (note == NULL)
        return;
    note->message.deliver = deliver;
    note->worker = worker;
    note->session = gw_session_ref(session);
    (void)!slice_to_cstr(upstream_name(news->upstream), note->upstream, sizeof note->upstream);
    note->is_session = upstream_config(news->upstream)->share == CONFIG_SHARE_SESSION;
    note->capabilities = news->capabilities;
    note->len = news->params.len;
    memcpy(note->params, news->params.ptr, news->params.len);
    budget_add(io_loop_budget(worker->loop), note->len);
    io_loop_post(worker->loop, &note->message);
}

static bool concerns(struct gw_session *session, const struct news *news) {
    struct slice name = upstream_name(news->upstream);
    bool is_own = upstream_config(news->upstream)->share != CONFIG_SHARE_SESSION ||
                  slice_eq(slice_from_cstr(session->id), news->owner);
    if (!is_own || (session->only[0] != '\0' && !gw_session_is_at(session, news->upstream)))
        return false;
    pthread_mutex_lock(&session->mutex);
    bool may_know =
        news->policy == NULL ||
        (session->identity != NULL && gw_policy_lets_know(news->policy, name, session->identity));
    pthread_mutex_unlock(&session->mutex);
    return may_know;
}

static void tell_principal(void *context, struct gw_principal *principal) {
    const struct news *news = context;
    pthread_mutex_lock(&principal->mutex);
    LIST_FOREACH_SAFE (&principal->sessions, link, tmp) {
        struct gw_session *session = CONTAINER_OF(link, struct gw_session, principal_link);
        if (concerns(session, news))
            post(session, news);
    }
    pthread_mutex_unlock(&principal->mutex);
}

void gw_notify_task_status(void *context, const struct upstream *upstream, struct slice owner,
                           unsigned capabilities, struct slice params) {
    struct gateway *gateway = context;
    struct news news = {
        .upstream = upstream, .owner = owner, .capabilities = capabilities, .params = params};
    enum config_share share = upstream_config(upstream)->share;
    if (share == CONFIG_SHARE_ALL)
        return;
    struct gw_policy *policy = gw_policy_newest(gateway);
    news.policy = policy;
    if (share == CONFIG_SHARE_SESSION) {
        gw_principals_each(&gateway->principals, tell_principal, &news);
    } else {
        struct gw_principal *principal = gw_principal_find(&gateway->principals, owner);
        if (principal != NULL)
            tell_principal(&news, principal);
        gw_principal_unref(principal);
    }
    gw_policy_unref(policy);
}
