/*
 * subscriptions/listen (MCP 2026-07-28, server/utilities/subscriptions). Its client has no session,
 * but what it listens to is one in all but name: a stream that the server's news go to, which is
 * there as long as the stream is (GW_SESSION_LISTEN). So news, their permissions, the end of a
 * credential and slow readers are what they are for the GET stream of the era before.
 *
 * The request is a call until everything that it asks for is watched, and is answered with the
 * acknowledgement; from then on its exchange is the stream. What a server refuses, or does not
 * promise in time, is left out of what is acknowledged.
 */
#include <errno.h>

#include "base/mem.h"
#include "private.h"

#define TOOLS     (1u << MCP_LIST_TOOLS)
#define PROMPTS   (1u << MCP_LIST_PROMPTS)
#define RESOURCES (1u << MCP_LIST_RESOURCES | 1u << MCP_LIST_TEMPLATES)

static const struct {
    struct slice key;
    unsigned lists;
} list_keys[] = {
    {SLICE_INIT("toolsListChanged"), TOOLS},
    {SLICE_INIT("promptsListChanged"), PROMPTS},
    {SLICE_INIT("resourcesListChanged"), RESOURCES},
};
static const struct slice uris_key = SLICE_INIT("resourceSubscriptions");
static const struct slice tasks_key = SLICE_INIT("taskIds");

/* What is asked for. */
struct filter {
    unsigned lists;
    struct buf bytes; /* of all URIs, then of all ids of tasks, one behind the other */
    size_t ends[LIMIT_SUBSCRIPTIONS];
    size_t n_uris, n; /* the latter: tasks too */
};

static void filter_init(struct filter *filter) {
    filter->lists = 0;
    filter->n_uris = filter->n = 0;
    buf_init(&filter->bytes, LIMIT_SUBSCRIPTIONS * LIMIT_URI_LENGTH);
}

/* `wrong`: what is said of what is no array of strings. */
static const char *read_names(const struct json_reader *reader, const struct json_node *names,
                              const char *wrong, struct filter *filter) {
    if (names == NULL)
        return NULL;
    if (names->type != JSON_ARRAY)
        return wrong;
    for (const struct json_node *node = json_first(reader, names); node != NULL;
         node = json_next(reader, node)) {
        size_t before = buf_len(&filter->bytes);
        if (node->type != JSON_STRING)
            return wrong;
        if (filter->n == LIMIT_SUBSCRIPTIONS)
            return "one listen hears of 256 resources and tasks at most: use several";
        if (json_string_append(&filter->bytes, node) != 0 ||
            buf_len(&filter->bytes) - before > LIMIT_URI_LENGTH)
            return "params name something that is longer than 8,192 bytes";
        filter->ends[filter->n++] = buf_len(&filter->bytes);
    }
    return NULL;
}

/* NULL, or what is wrong with it. */
static const char *read_filter(struct gw_worker *worker, const struct mcp_message *message,
                               struct filter *ret) {
    static const struct json_want nothing[] = {{.key = NULL}};
    static const struct json_want members[] = {
        {.key = "resourceSubscriptions", .children = nothing},
        {.key = "taskIds", .children = nothing},
        {.key = NULL}};
    static const struct json_want want = {.key = NULL, .children = members};
    struct json_reader *reader = worker->second_reader;
    const struct json_node *filter =
        mcp_param(worker->reader, message, SLICE("notifications"), JSON_OBJECT);
    if (filter == NULL || json_read(reader, filter->raw, &want, NULL, NULL) != 0)
        return "params.notifications must be an object that says what to hear of";
    const struct json_node *root = json_root(reader);
    for (size_t i = 0; i < ARRAY_LEN(list_keys); i++) {
        const struct json_node *node = json_member(reader, root, list_keys[i].key);
        if (node != NULL && node->type != JSON_TRUE && node->type != JSON_FALSE)
            return "the members ...ListChanged of params.notifications must be true or false";
        if (node != NULL && node->type == JSON_TRUE)
            ret->lists |= list_keys[i].lists;
    }
    const char *problem =
        read_names(reader, json_member(reader, root, uris_key),
                   "params.notifications.resourceSubscriptions must be an array of strings", ret);
    ret->n_uris = ret->n;
    return problem != NULL
               ? problem
               : read_names(reader, json_member(reader, root, tasks_key),
                            "params.notifications.taskIds must be an array of strings", ret);
}

/* --- beginning --- */

static int open_session(struct gw_call *call, unsigned lists) {
    struct gw_session *session =
        gw_session_new(call->worker->gateway, call->principal, call->only, GW_SESSION_LISTEN,
                       call->revision, call->capabilities, io_loop_now(call->worker->loop));
    if (session == NULL)
        return mem_is_short() ? -ENOMEM : -EBUSY;
    session->listen_mask = lists;
    session->listen_id = mem_alloc(call->id_len + 1);
    if (session->listen_id != NULL)
        memcpy(session->listen_id, call->id, call->id_len);
    gw_session_note_caller(session, call->exchange->caller->identity);
    call->listen = session;
    return session->listen_id != NULL ? 0 : -ENOMEM;
}

/* A child that does not run changes nothing; a server that is down is told of when it is back. */
static bool is_awake(const struct gw_view_item *item) {
    enum upstream_state state = item->status.state;
    bool is_child = upstream_config(item->upstream)->url.len == 0;
    return state == UPSTREAM_READY || state == UPSTREAM_STARTING ||
           (state == UPSTREAM_IDLE && (!is_child || item->status.catalog == NULL));
}

static bool is_visible(const struct gw_view *view, const struct gw_view_item *item,
                       unsigned lists) {
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        if ((lists & (1u << i)) != 0 && gw_view_item_has(view, item, (enum mcp_list)i))
            return true;
    }
    return false;
}

static int begin_one(struct gw_call *call, const struct gw_subject *subject) {
    int error = gw_subscription_begin(call, call->listen, subject);
    call->n_pending += error == 0 ? 1 : 0;
    return error == GW_E_SUBSCRIBED ? 0 : error;
}

static int begin_lists(struct gw_call *call, const struct gw_view *view, unsigned lists) {
    int error = 0;
    for (size_t i = 0; lists != 0 && i < view->n && error == 0; i++) {
        const struct gw_view_item *item = &view->items[i];
        if (!is_visible(view, item, lists) || !is_awake(item))
            continue;
        struct gw_subject subject = {
            .upstream = item->upstream,
            .instance = item->instance,
            .wish = {.kind = UPSTREAM_WATCHED_LISTS, .list_mask = lists},
        };
        error = begin_one(call, &subject);
    }
    return error;
}

/* What there is not, or not for this caller, is not acknowledged: both look the same. */
static int begin_uri(struct gw_call *call, struct gw_view *view, struct slice uri) {
    const struct catalog_item *found = NULL;
    struct gw_view_item *item = uri.len != 0 ? gw_view_find_resource(view, uri, &found) : NULL;
    if (item == NULL ||
        gw_decide(call->worker, view, item, MCP_LIST_RESOURCES, found).verdict != POLICY_ALLOWED)
        return 0;
    struct gw_subject subject = {
        .upstream = item->upstream,
        .instance = item->instance,
        .wish = {.kind = UPSTREAM_WATCHED_RESOURCE, .name = uri},
    };
    return begin_one(call, &subject);
}

static int begin_task(struct gw_call *call, struct slice id) {
    CLEANUP(gw_task_place_deinit) struct gw_task_place place = {.memory = BUF_INIT(KIB(4))};
    int error = gw_task_find(call, id, &place);
    if (error != 0)
        return error == GW_E_STATE ? 0 : error;
    struct gw_subject subject = {
        .upstream = place.upstream,
        .instance = place.instance,
        .wish = {.kind = UPSTREAM_WATCHED_TASK, .name = place.name.id},
        .id = id,
        .capabilities = place.name.home.capabilities,
    };
    return begin_one(call, &subject);
}

static int begin(struct gw_call *call, struct gw_view *view, const struct filter *filter) {
    int error = open_session(call, filter->lists);
    for (size_t i = 0, from = 0; i < filter->n && error == 0; from = filter->ends[i++]) {
        struct slice name = slice_sub(buf_slice(&filter->bytes), from, filter->ends[i]);
        error = i < filter->n_uris ? begin_uri(call, view, name) : begin_task(call, name);
    }
    return error != 0 ? error : begin_lists(call, view, filter->lists);
}

static void refuse(struct gw_call *call, int error) {
    if (error == -EBUSY)
        gw_call_answer_error(call, MCP_E_BUSY,
                             SLICE("max_sessions are open and in use; try again later"),
                             SLICE_EMPTY);
    else
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
}

static void try_listen(struct gw_call *call, bool is_late);

static void watch_all(struct gw_call *call, struct gw_view *view,
                      const struct mcp_message *message) {
    struct filter filter UNCLEARED;
    gw_record_allow(call);
    if (!gw_record_intent(call, message, false))
        return;
    filter_init(&filter);
    int error = read_filter(call->worker, message, &filter) == NULL /* as before */
                    ? begin(call, view, &filter)
                    : -ENOMEM;
    buf_deinit(&filter.bytes);
    gw_call_rest(call);
    if (error != 0)
        refuse(call, error);
    else if (call->n_pending == 0)
        gw_listen_live(call);
    else
        gw_call_wait(call, try_listen, call->worker->config->list_timeout_ms);
}

static void try_listen(struct gw_call *call, bool is_late) {
    struct mcp_message message;
    struct mcp_refusal refusal;
    struct slice document = slice_make(call->document, call->document_len);
    if (call->listen != NULL) {
        if (is_late)
            gw_listen_live(call);
        else
            gw_call_wait(call, try_listen, 0); /* its timer runs on */
        return;
    }
    if (!gw_call_may_go_on(call))
        return;
    struct gw_view *view =
        gw_view_open(call->worker, call->exchange->caller, NULL, call->capabilities, call->only);
    uint64_t patience = gw_view_patience(view, io_loop_now(call->worker->loop),
                                         call->worker->config->list_timeout_ms);
    if (patience != 0 && !is_late)
        gw_call_wait(call, try_listen, patience);
    else if (mcp_message_read(call->worker->reader, document, &message, &refusal) != 0)
        refuse(call, -ENOMEM); /* it was read once already */
    else
        watch_all(call, view, &message);
    gw_view_close(view);
}

void gw_listen_start(struct gw_call *call, const struct mcp_message *message) {
    struct filter filter UNCLEARED;
    filter_init(&filter);
    const char *problem = read_filter(call->worker, message, &filter);
    bool has_tasks = filter.n != filter.n_uris;
    buf_deinit(&filter.bytes);
    if (problem != NULL)
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS, slice_from_cstr(problem), SLICE_EMPTY);
    else if (has_tasks && !gw_task_check_declared(call))
        return;
    else if (gw_call_keep(call, message))
        try_listen(call, false);
}

void gw_listen_go_on(struct gw_call *call) {
    try_listen(call, true);
}

/* --- the stream --- */

static void write_meta(struct json_writer *writer, const struct gw_session *session) {
    json_key(writer, SLICE("_meta"));
    json_object_begin(writer);
    json_kv_raw(writer, MCP_META_SUBSCRIPTION, slice_from_cstr(session->listen_id));
    json_object_end(writer);
}

/* Of lists, those that the endpoint has: the gateway tells of their changes itself. */
static unsigned served_lists(const struct gw_call *call) {
    unsigned served = UPSTREAM_ALL_LISTS;
    if (call->only == NULL)
        return served;
    struct gw_view *view =
        gw_view_open(call->worker, call->exchange->caller, NULL, call->capabilities, call->only);
    const struct catalog *known = view->n == 1 ? view->items[0].status.catalog : NULL;
    if (known != NULL)
        served = known->declared;
    if ((served & RESOURCES) != 0)
        served |= RESOURCES;
    gw_view_close(view);
    return served;
}

static void write_acknowledged(struct buf *out, struct gw_call *call) {
    struct gw_session *session = call->listen;
    struct buf params CLEANUP(buf_deinit) =
        BUF_INIT((LIMIT_URI_LENGTH * 6 + 8) * LIMIT_SUBSCRIPTIONS + KIB(8));
    struct json_writer writer;
    session->listen_mask &= served_lists(call);
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_key(&writer, SLICE("notifications"));
    json_object_begin(&writer);
    for (size_t i = 0; i < ARRAY_LEN(list_keys); i++) {
        if ((session->listen_mask & list_keys[i].lists) != 0)
            json_kv_bool(&writer, list_keys[i].key, true);
    }
    gw_subscriptions_write(session, UPSTREAM_WATCHED_RESOURCE, uris_key, &writer);
    gw_subscriptions_write(session, UPSTREAM_WATCHED_TASK, tasks_key, &writer);
    json_object_end(&writer);
    write_meta(&writer, session);
    json_object_end(&writer);
    if (buf_error(&params) != 0)
        out->error = buf_error(&params);
    else
        mcp_write_notification(out, MCP_NOTIFY_SUBSCRIPTIONS_ACKNOWLEDGED, buf_slice(&params));
}

void gw_listen_live(struct gw_call *call) {
    gw_call_stop_waiting(call);
    gw_subscriptions_settle(call->listen, call->worker->list);
    struct buf *out = gw_worker_scratch(call->worker);
    write_acknowledged(out, call);
    struct slice whole = buf_slice(out);
    if (buf_error(out) != 0)
        refuse(call, -ENOMEM);
    else
        gw_call_answer_parts(call, &whole, 1);
}

void gw_listen_drop(struct gw_call *call) {
    struct gw_session *session = TAKE(call->listen);
    if (session != NULL)
        gw_session_close(session);
    gw_session_unref(session);
}

void gw_listen_begin(struct gw_exchange *exchange, struct gw_session *session,
                     const struct slice *parts, size_t n_parts) {
    if (exchange->connection == NULL) {
        gw_session_close(session);
        gw_exchange_answer(exchange, NULL, 0);
        gw_session_unref(session);
        return;
    }
    exchange->n_calls--;
    exchange->session = gw_session_ref(session);
    if (!gw_exchange_begin_session_stream(exchange)) {
        gw_session_close(session);
    } else {
        gw_exchange_notify_parts(exchange, parts, n_parts);
        if (atomic_load(&session->is_closed) || exchange->worker->is_draining)
            gw_exchange_end_stream(exchange);
        else
            gw_notify_flush(exchange->worker, session);
    }
    gw_session_unref(session);
}

void gw_listen_tell_end(struct gw_exchange *stream) {
    struct buf result CLEANUP(buf_deinit) = BUF_INIT(LIMIT_RPC_ID + KIB(1));
    struct slice id = slice_from_cstr(stream->session->listen_id);
    struct json_writer writer;
    json_writer_init(&writer, &result);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("resultType"), SLICE("complete"));
    write_meta(&writer, stream->session);
    json_object_end(&writer);
    struct buf *out = gw_worker_scratch(stream->worker);
    mcp_write_result(out, id, buf_slice(&result));
    if (buf_error(&result) == 0 && buf_error(out) == 0)
        gw_exchange_notify(stream, buf_slice(out));
}
