/*
 * What a session hears of: resources that its client subscribed to, and for who listens
 * (GW_SESSION_LISTEN) also tasks, and that lists are watched. What a server tells comes on the loop
 * of its instance, and goes to the stream of the session, which is elsewhere: it is noted here,
 * once for each of them however often that was updated, and told when there is a stream that
 * drains. So nothing is lost while a client has none, and nobody can fill memory with updates.
 *
 * A subscription outlives the instance that it is watched by: when that is gone (its server was
 * configured anew, another one needed its place) it is begun again with the one that serves the
 * session then, and told as updated, because nobody knows what was missed.
 *
 * Of a task nothing comes after its end. Where nobody will tell of one that goes on, the stream
 * ends: its client looks for itself, and listens again.
 */
#include <errno.h>

#include "base/mem.h"
#include "private.h"

_Static_assert(LIMIT_SUBSCRIPTIONS == 256, "the refusal says so");

enum { PARAMS_KEPT = KIB(16) };

static bool is_of_lists(const struct gw_subscription *subscription) {
    return subscription->wish.kind == UPSTREAM_WATCHED_LISTS;
}

static bool is_of_task(const struct gw_subscription *subscription) {
    return subscription->wish.kind == UPSTREAM_WATCHED_TASK;
}

/* As the client knows it. */
static struct slice name_of(const struct gw_subscription *subscription) {
    return is_of_task(subscription) ? subscription->id : subscription->wish.name;
}

void gw_subscription_unref(struct gw_subscription *subscription) {
    if (subscription == NULL || atomic_fetch_sub(&subscription->refs, 1) != 1)
        return;
    mem_free(subscription->waiters);
    mem_free(subscription->params);
    mem_free(subscription);
}

/* With the mutex. The watch that has to be stopped without it, or NULL; the session's reference is
 * the caller's then. */
static struct upstream_watch *take_out(struct gw_session *session,
                                       struct gw_subscription *subscription) {
    subscription->is_dropped = true;
    list_remove(&subscription->link);
    session->n_subscriptions--;
    return TAKE(subscription->watch);
}

static void stop(struct upstream_watch *watch) {
    if (watch != NULL)
        upstream_watch_stop(watch);
}

/* With the mutex. */
static struct gw_subscription *find(struct gw_session *session, enum upstream_watched kind,
                                    struct slice name) {
    LIST_FOREACH_SAFE (&session->subscriptions, link, tmp) {
        struct gw_subscription *subscription = CONTAINER_OF(link, struct gw_subscription, link);
        if (subscription->wish.kind == kind && slice_eq(name_of(subscription), name))
            return subscription;
    }
    return NULL;
}

struct gw_subscription **gw_subscriptions_pick(struct gw_session *session,
                                               gw_subscription_pick_fn *is_wanted, size_t *ret_n) {
    size_t n = 0;
    pthread_mutex_lock(&session->mutex);
    struct gw_subscription **picked =
        session->n_subscriptions != 0
            ? mem_alloc(session->n_subscriptions * sizeof(struct gw_subscription *))
            : NULL;
    LIST_FOREACH_SAFE (&session->subscriptions, link, tmp) {
        struct gw_subscription *subscription = CONTAINER_OF(link, struct gw_subscription, link);
        if (picked == NULL || !is_wanted(subscription))
            continue;
        atomic_fetch_add(&subscription->refs, 1);
        picked[n++] = subscription;
    }
    pthread_mutex_unlock(&session->mutex);
    *ret_n = n;
    return picked;
}

void gw_subscription_drop(struct gw_session *session, struct gw_subscription *subscription) {
    pthread_mutex_lock(&session->mutex);
    bool is_there = !subscription->is_dropped;
    struct upstream_watch *watch = is_there ? take_out(session, subscription) : NULL;
    pthread_mutex_unlock(&session->mutex);
    stop(watch);
    if (is_there)
        gw_subscription_unref(subscription);
}

/* --- calls that wait --- */

struct live_order {
    struct io_message message;
    struct gw_call_place place;
    enum upstream_outcome outcome;
    size_t len;
    char bytes[];
};

static void deliver_live(struct io_message *message) {
    struct live_order *order = CONTAINER_OF(message, struct live_order, message);
    struct gw_call *call = map_get(&order->place.worker->calls_by_serial,
                                   slice_make(&order->place.serial, sizeof order->place.serial));
    bool is_live = order->outcome == UPSTREAM_RESULT;
    if (call != NULL && call->listen != NULL) {
        if (--call->n_pending == 0)
            gw_listen_live(call);
    } else if (call != NULL) {
        if (is_live)
            call->upstream_revision = call->revision; /* of what is said here */
        gw_call_finish(call, order->outcome,
                       is_live ? SLICE("{}") : slice_make(order->bytes, order->len), 0);
    }
    mem_free(order);
}

static void tell_waiters(struct gw_call_place *waiters, size_t n, enum upstream_outcome outcome,
                         struct slice bytes) {
    for (size_t i = 0; i < n; i++) {
        struct live_order *order = mem_xalloc(sizeof *order + bytes.len);
        order->message.deliver = deliver_live;
        order->place = waiters[i];
        order->outcome = outcome;
        order->len = bytes.len;
        if (bytes.len != 0)
            memcpy(order->bytes, bytes.ptr, bytes.len);
        io_loop_post(order->place.worker->loop, &order->message);
    }
    mem_free(waiters);
}

/* With the mutex. */
static struct gw_call_place *take_waiters(struct gw_subscription *subscription, size_t *ret_n) {
    *ret_n = subscription->n_waiters;
    subscription->n_waiters = 0;
    return TAKE(subscription->waiters);
}

static int add_waiter(struct gw_subscription *subscription, const struct gw_call *call) {
    size_t n = subscription->n_waiters;
    struct gw_call_place *waiters =
        mem_realloc(subscription->waiters, (n + 1) * sizeof *subscription->waiters);
    if (waiters == NULL)
        return -ENOMEM;
    waiters[n] = (struct gw_call_place){.worker = call->worker, .serial = call->serial};
    subscription->waiters = waiters;
    subscription->n_waiters = n + 1;
    return 0;
}

/* --- what the server tells, on the home of the instance --- */

/* With the mutex. What was noted before is the past; params NULL: what is now is not known. */
static void note(struct gw_subscription *subscription, char *params, size_t len) {
    mem_free(subscription->params);
    subscription->is_updated = true;
    subscription->params = params;
    subscription->params_len = params != NULL ? len : 0;
}

static void on_live(void *context, enum upstream_outcome outcome, unsigned list_mask,
                    struct slice bytes) {
    struct gw_subscription *subscription = context;
    struct gw_session *session = subscription->session;
    bool is_live = outcome == UPSTREAM_RESULT;
    size_t n = 0;
    (void)list_mask; /* the gateway itself tells of lists */
    pthread_mutex_lock(&session->mutex);
    subscription->state = is_live ? GW_SUBSCRIPTION_LIVE : GW_SUBSCRIPTION_OVER;
    bool was_missed = subscription->is_again && !is_of_lists(subscription);
    if (was_missed)
        note(subscription, NULL, 0);
    struct gw_call_place *waiters = take_waiters(subscription, &n);
    pthread_mutex_unlock(&session->mutex);
    tell_waiters(waiters, n, outcome, bytes);
    if (was_missed)
        gw_notify_lists(session, 0);
}

static void on_updated(void *context, struct slice params) {
    struct gw_subscription *subscription = context;
    struct gw_session *session = subscription->session;
    char *copy = params.len != 0 && params.len <= PARAMS_KEPT ? mem_alloc(params.len) : NULL;
    if (copy != NULL)
        memcpy(copy, params.ptr, params.len);
    pthread_mutex_lock(&session->mutex);
    bool is_first = !subscription->is_updated && !subscription->is_dropped;
    note(subscription, copy, params.len);
    pthread_mutex_unlock(&session->mutex);
    if (is_first)
        gw_notify_lists(session, 0);
}

static void on_lost(void *context) {
    struct gw_subscription *subscription = context;
    struct gw_session *session = subscription->session;
    pthread_mutex_lock(&session->mutex);
    bool is_there = !subscription->is_dropped;
    subscription->state = GW_SUBSCRIPTION_OVER;
    note(subscription, NULL, 0);
    pthread_mutex_unlock(&session->mutex);
    if (is_there)
        gw_notify_lists(session, 0);
}

static void on_gone(void *context) {
    struct gw_subscription *subscription = context;
    struct gw_session *session = subscription->session;
    size_t n = 0;
    pthread_mutex_lock(&session->mutex);
    struct gw_call_place *waiters = take_waiters(subscription, &n);
    struct upstream_watch *watch = TAKE(subscription->watch);
    bool was_live = subscription->state == GW_SUBSCRIPTION_LIVE || subscription->is_again;
    bool is_lost = was_live && subscription->state != GW_SUBSCRIPTION_OVER;
    bool has_ended = !subscription->is_dropped && !is_lost && !subscription->is_updated;
    subscription->is_gone = true;
    if (!subscription->is_dropped && is_lost)
        subscription->state = GW_SUBSCRIPTION_LOST;
    else
        subscription->state = GW_SUBSCRIPTION_OVER;
    if (has_ended)
        (void)take_out(session, subscription);
    pthread_mutex_unlock(&session->mutex);
    if (is_lost)
        atomic_store(&session->gateway->has_lost_subscriptions, true);
    tell_waiters(waiters, n, UPSTREAM_FAILED, SLICE("the upstream is stopping"));
    stop(watch);
    if (has_ended)
        gw_subscription_unref(subscription);
    gw_subscription_unref(subscription);
    gw_session_unref(session);
}

/* --- beginning --- */

int gw_subscription_watch(struct gw_session *session, struct gw_subscription *subscription,
                          struct upstream_instance *instance) {
    static const struct upstream_watch_events events = {
        .on_live = on_live,
        .on_updated = on_updated,
        .on_lost = on_lost,
        .on_gone = on_gone,
    };
    atomic_fetch_add(&subscription->refs, 1);
    subscription->session = gw_session_ref(session);
    subscription->is_gone = false;
    struct upstream_watch *started =
        upstream_watch_start(instance, &subscription->wish, &events, subscription);
    if (started == NULL) {
        gw_session_unref(session);
        gw_subscription_unref(subscription);
        return -ENOMEM;
    }
    pthread_mutex_lock(&session->mutex);
    bool is_wanted = !subscription->is_dropped && !subscription->is_gone;
    if (is_wanted)
        subscription->watch = started;
    pthread_mutex_unlock(&session->mutex);
    if (!is_wanted)
        upstream_watch_stop(started);
    return 0;
}

static struct slice copy(char *at, struct slice text) {
    if (text.len != 0)
        memcpy(at, text.ptr, text.len);
    return slice_make(at, text.len);
}

static struct gw_subscription *make(const struct gw_subject *subject) {
    struct slice name = subject->wish.name;
    struct gw_subscription *subscription =
        mem_alloc(sizeof *subscription + name.len + subject->id.len);
    if (subscription == NULL)
        return NULL;
    atomic_init(&subscription->refs, 1);
    subscription->wish = subject->wish;
    subscription->wish.name = copy(subscription->text, name);
    subscription->id = copy(subscription->text + name.len, subject->id);
    subscription->capabilities = subject->capabilities;
    if (slice_to_cstr(upstream_name(subject->upstream), subscription->upstream,
                      sizeof subscription->upstream) != 0)
        subscription->upstream[0] = '\0'; /* never: a name fits */
    return subscription;
}

/* The call waits for one that another call has begun, or finds it there. */
static int join(struct gw_session *session, const struct gw_call *call,
                const struct gw_subject *subject, bool *ret_is_there) {
    int error = 0;
    enum upstream_watched kind = subject->wish.kind;
    pthread_mutex_lock(&session->mutex);
    struct gw_subscription *there =
        find(session, kind, kind == UPSTREAM_WATCHED_TASK ? subject->id : subject->wish.name);
    if (there != NULL && there->state == GW_SUBSCRIPTION_OVER)
        there = NULL;
    if (there == NULL)
        error = session->n_subscriptions < LIMIT_SUBSCRIPTIONS ? 0 : GW_E_SUBSCRIPTIONS;
    else if (there->state == GW_SUBSCRIPTION_PENDING)
        error = add_waiter(there, call);
    else
        error = GW_E_SUBSCRIBED;
    pthread_mutex_unlock(&session->mutex);
    *ret_is_there = there != NULL;
    return error;
}

int gw_subscription_begin(struct gw_call *call, struct gw_session *session,
                          const struct gw_subject *subject) {
    bool is_there = false;
    int error =
        subject->wish.kind != UPSTREAM_WATCHED_LISTS ? join(session, call, subject, &is_there) : 0;
    if (error != 0 || is_there)
        return error;
    struct gw_subscription *subscription = make(subject);
    error = subscription != NULL ? add_waiter(subscription, call) : -ENOMEM;
    if (error != 0) {
        gw_subscription_unref(subscription);
        return error;
    }
    pthread_mutex_lock(&session->mutex);
    list_push_back(&session->subscriptions, &subscription->link);
    session->n_subscriptions++;
    atomic_fetch_add(&subscription->refs, 1); /* or it may be gone before it is watched */
    pthread_mutex_unlock(&session->mutex);
    error = gw_subscription_watch(session, subscription, subject->instance);
    if (error != 0 || atomic_load(&session->is_closed)) /* by somebody who did not see it yet */
        gw_subscription_drop(session, subscription);
    gw_subscription_unref(subscription);
    return error;
}

/* --- requests of clients with sessions --- */

int gw_subscribe(struct gw_call *call, const struct gw_view_item *item, struct slice uri) {
    struct gw_subject subject = {
        .upstream = item->upstream,
        .instance = item->instance,
        .wish = {.kind = UPSTREAM_WATCHED_RESOURCE, .name = uri},
    };
    int error = gw_subscription_begin(call, call->session, &subject);
    if (error == GW_E_SUBSCRIPTIONS) {
        gw_call_answer_error(call, MCP_E_BUSY,
                             SLICE("this session is subscribed to 256 resources; unsubscribe from "
                                   "some of them"),
                             SLICE_EMPTY);
        return 0;
    }
    if (error == GW_E_SUBSCRIBED) {
        gw_call_answer_result(call, SLICE("{}"), call->revision);
        return 0;
    }
    return error;
}

void gw_unsubscribe(struct gw_call *call, const struct mcp_message *message) {
    struct buf uri CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI_LENGTH);
    struct gw_session *session = call->session;
    const struct json_node *node =
        mcp_param(call->worker->reader, message, SLICE("uri"), JSON_STRING);
    if (node == NULL || json_string_append(&uri, node) != 0) {
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS,
                             node == NULL
                                 ? SLICE("params.uri must be a string")
                                 : SLICE("params name something that is longer than 8,192 bytes"),
                             SLICE_EMPTY);
        return;
    }
    pthread_mutex_lock(&session->mutex);
    struct gw_subscription *subscription =
        find(session, UPSTREAM_WATCHED_RESOURCE, buf_slice(&uri));
    if (subscription != NULL)
        atomic_fetch_add(&subscription->refs, 1);
    pthread_mutex_unlock(&session->mutex);
    if (subscription != NULL)
        gw_subscription_drop(session, subscription);
    gw_subscription_unref(subscription);
    gw_call_answer_result(call, SLICE("{}"), call->revision);
}

/* --- telling --- */

static bool is_to_tell(const struct gw_subscription *subscription) {
    return subscription->is_updated;
}

/* Also of one's own instance, which outlives the permission by the time until it is idle. */
static bool may_hear(const struct gw_worker *worker, struct gw_session *session,
                     const struct gw_subscription *subscription) {
    struct slice name = slice_from_cstr(subscription->upstream);
    pthread_mutex_lock(&session->mutex);
    bool may = worker->policy != NULL && session->identity != NULL &&
               gw_policy_lets_know_all(worker->policy, name, session->identity);
    pthread_mutex_unlock(&session->mutex);
    return may;
}

static void write_updated(struct buf *out, struct gw_worker *worker,
                          const struct gw_session *session, struct slice uri, struct slice params) {
    struct buf made CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI_LENGTH * 6 + KIB(1));
    struct buf bridged CLEANUP(buf_deinit) = BUF_INIT(PARAMS_KEPT + LIMIT_URI_LENGTH * 6 + KIB(4));
    struct slice listen =
        session->listen_id != NULL ? slice_from_cstr(session->listen_id) : SLICE_EMPTY;
    struct json_writer writer;
    if (params.len == 0) {
        json_writer_init(&writer, &made);
        json_object_begin(&writer);
        json_kv_string(&writer, SLICE("uri"), uri);
        json_object_end(&writer);
        params = buf_slice(&made);
    }
    if (mcp_bridge_news(&bridged, worker->second_reader, params, listen) == 0 &&
        buf_error(&bridged) == 0)
        mcp_write_notification(out, MCP_NOTIFY_RESOURCE_UPDATED, buf_slice(&bridged));
}

static void tell(struct gw_exchange *stream, struct gw_subscription *subscription) {
    struct gw_session *session = stream->session;
    pthread_mutex_lock(&session->mutex);
    CLEANUP(mem_freep) char *params = TAKE(subscription->params);
    size_t len = subscription->params_len;
    bool is_over = subscription->state == GW_SUBSCRIPTION_OVER;
    bool is_new = subscription->is_updated && !subscription->is_dropped;
    subscription->params_len = 0;
    subscription->is_updated = false;
    pthread_mutex_unlock(&session->mutex);
    struct buf *out = gw_worker_scratch(stream->worker);
    if (is_new && may_hear(stream->worker, session, subscription))
        write_updated(out, stream->worker, session, subscription->wish.name,
                      slice_make(params, len));
    if (buf_len(out) != 0 && buf_error(out) == 0)
        gw_exchange_notify(stream, buf_slice(out));
    if (is_over)
        gw_subscription_drop(session, subscription);
}

void gw_subscriptions_flush(struct gw_exchange *stream) {
    size_t n = 0;
    struct gw_subscription **picked = gw_subscriptions_pick(stream->session, is_to_tell, &n);
    for (size_t i = 0; i < n; i++) {
        /* What is left is told when the client has read. */
        if (stream->connection != NULL && !gw_exchange_is_clogged(stream))
            (is_of_task(picked[i]) ? gw_task_news_tell : tell)(stream, picked[i]);
        gw_subscription_unref(picked[i]);
    }
    mem_free(picked);
}

/* --- once it is acknowledged --- */

static bool is_any(const struct gw_subscription *subscription) {
    (void)subscription;
    return true;
}

/* A child that has stopped changes nothing: it need not run for who listens. */
static bool is_of_child(const struct gw_subscription *subscription,
                        const struct upstream_list *list) {
    const struct upstream *upstream =
        upstream_list_find(list, slice_from_cstr(subscription->upstream), NULL);
    return upstream == NULL || upstream_config(upstream)->url.len == 0;
}

void gw_subscriptions_settle(struct gw_session *session, const struct upstream_list *list) {
    size_t n = 0;
    struct gw_subscription **picked = gw_subscriptions_pick(session, is_any, &n);
    for (size_t i = 0; i < n; i++) {
        pthread_mutex_lock(&session->mutex);
        bool is_live = picked[i]->state == GW_SUBSCRIPTION_LIVE;
        pthread_mutex_unlock(&session->mutex);
        if (is_of_lists(picked[i]) ? is_of_child(picked[i], list) : !is_live)
            gw_subscription_drop(session, picked[i]);
        gw_subscription_unref(picked[i]);
    }
    mem_free(picked);
}

void gw_subscriptions_write(struct gw_session *session, enum upstream_watched kind,
                            struct slice key, struct json_writer *writer) {
    bool is_any = false;
    pthread_mutex_lock(&session->mutex);
    LIST_FOREACH_SAFE (&session->subscriptions, link, tmp) {
        const struct gw_subscription *subscription =
            CONTAINER_OF(link, struct gw_subscription, link);
        if (subscription->wish.kind != kind || subscription->state != GW_SUBSCRIPTION_LIVE)
            continue;
        if (!is_any) {
            json_key(writer, key);
            json_array_begin(writer);
        }
        is_any = true;
        json_string(writer, name_of(subscription));
    }
    if (is_any)
        json_array_end(writer);
    pthread_mutex_unlock(&session->mutex);
}

/* --- the end --- */

void gw_subscriptions_drop(struct gw_session *session) {
    for (;;) {
        pthread_mutex_lock(&session->mutex);
        struct list_link *link = list_first(&session->subscriptions);
        struct gw_subscription *subscription =
            link != NULL ? CONTAINER_OF(link, struct gw_subscription, link) : NULL;
        struct upstream_watch *watch =
            subscription != NULL ? take_out(session, subscription) : NULL;
        pthread_mutex_unlock(&session->mutex);
        if (subscription == NULL)
            return;
        stop(watch);
        gw_subscription_unref(subscription);
    }
}
