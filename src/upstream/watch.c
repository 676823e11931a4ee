#include "watch.h"

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "json/writer.h"
#include "private.h"

enum { MAX_HEARD = 32 };

#define IS_STOPPING "the upstream is stopping"
#define NO_SUBSCRIBER                                                                              \
    "{\"code\":-32601,\"message\":\"the upstream does not tell of changes of its resources: it "   \
    "has no capability resources.subscribe\"}"
#define NO_TASKS                                                                                   \
    "{\"code\":-32601,\"message\":\"the upstream does not tell of tasks: it has no extension "     \
    "io.modelcontextprotocol/tasks\"}"

/* Their end. */

static void unref(struct upstream_watch *watch) {
    if (atomic_fetch_sub(&watch->refs, 1) == 1)
        mem_free(watch);
}

/* Its end; the home's reference goes with it. */
static void end(struct upstream_watch *watch) {
    struct upstream_instance *instance = watch->instance;
    struct topic *topic = watch_leave(watch);
    list_remove(&watch->link);
    atomic_store(&watch->is_gone, true);
    watch->events.on_gone(watch->context);
    if (topic != NULL)
        topic_settle(instance, topic);
    watch->instance = upstream_instance_unref(instance);
    unref(watch);
}

/* Their beginning. */

static void fail(struct upstream_watch *watch, struct slice reason) {
    struct upstream_instance *instance = watch->instance;
    struct topic *topic = watch_leave(watch);
    watch_failed(watch, UPSTREAM_FAILED, reason);
    if (topic != NULL)
        topic_settle(instance, topic);
}

static bool has_room(const struct watches *watches, struct slice key) {
    size_t len = key.len - 1; /* of URI or id */
    return watches->n_resources < LIMIT_WATCHES &&
           (map_has(&watches->topics, key) || watches->n_bytes + len <= LIMIT_WATCHED_BYTES);
}

/* Among those who want something. NULL, or why not. */
static const char *enter(struct upstream_watch *watch) {
    struct watches *watches = &watch->instance->watches;
    struct slice key = slice_make(watch->key, watch->key_len);
    bool is_of_lists = watch->kind == UPSTREAM_WATCHED_LISTS;
    if (watch->is_too_long)
        return "the URI is longer than 8 KiB";
    if (!is_of_lists) {
        if (!has_room(watches, key))
            return "too many resources and tasks of the upstream are watched; try again later";
        watch->topic = map_get(&watches->topics, key);
        if (watch->topic == NULL)
            watch->topic = topic_new(watches, watch->kind, key);
        if (watch->topic == NULL)
            return "the gateway is out of memory";
        watches->n_resources++;
    }
    list_push_back(is_of_lists ? &watches->lists : &watch->topic->watches, &watch->want_link);
    atomic_fetch_add(&watches->n_wanted, 1);
    return NULL;
}

static struct slice lacks(const struct topic *topic) {
    return topic->is_task ? SLICE(NO_TASKS) : SLICE(NO_SUBSCRIBER);
}

static void want_lists(struct upstream_watch *watch) {
    struct upstream_instance *instance = watch->instance;
    unsigned mask = instance->catalog->telling;
    if (!watches_modern(instance)) {
        if (subscribe_may_ask(instance))
            watch_live(watch, mask);
    } else if (listen_lists(instance, &mask)) {
        watch_live(watch, mask);
    } else {
        listen_wanted(instance);
    }
}

static void want_topic(struct upstream_watch *watch) {
    struct upstream_instance *instance = watch->instance;
    struct topic *topic = watch->topic;
    if (!topic_is_served(instance, topic)) {
        topic_refuse(instance, topic, UPSTREAM_ERROR, lacks(topic));
        topic_settle(instance, topic);
    } else if (topic->state == TOPIC_ON) {
        watch_live(watch, 0);
    } else {
        topic->is_refused = false;
        if (watches_modern(instance))
            listen_wanted(instance);
        else
            topic_settle(instance, topic);
    }
}

/* The instance is ready. */
static void want(struct upstream_watch *watch) {
    if (watch->kind == UPSTREAM_WATCHED_LISTS)
        want_lists(watch);
    else
        want_topic(watch);
}

static void deliver_start(struct io_message *message) {
    struct upstream_watch *watch = CONTAINER_OF(message, struct upstream_watch, start_message);
    struct upstream_instance *instance = watch->instance;
    char text[PERMIT_REASON];
    watch->has_begun = true;
    if (watch->is_stopped) {
        end(watch);
        unref(watch);
        return;
    }
    if (instance->is_closing) {
        watch_failed(watch, UPSTREAM_FAILED, SLICE(IS_STOPPING));
        end(watch);
        return;
    }
    list_push_back(&instance->watches.all, &watch->link);
    const char *refusal = enter(watch);
    if (refusal != NULL) {
        fail(watch, slice_from_cstr(refusal));
        return;
    }
    if (instance->watches.is_ready) {
        want(watch);
        return;
    }
    struct slice reason = instance_refusal(instance, text, sizeof text);
    if (reason.len != 0)
        fail(watch, reason);
    else
        instance_wake(instance);
}

static void deliver_stop(struct io_message *message) {
    struct upstream_watch *watch = CONTAINER_OF(message, struct upstream_watch, stop_message);
    if (!watch->has_begun) { /* messages of two threads may overtake each other */
        watch->is_stopped = true;
        return;
    }
    if (!atomic_load(&watch->is_gone))
        end(watch);
    unref(watch);
}

/* The one that its owner has now, when this one makes room for others. A reference. */
static struct upstream_instance *latest(struct upstream_instance *instance) {
    upstream_instance_ref(instance);
    while ((atomic_load(&instance->n_under_way) & ROOM_CLAIMED) != 0) {
        struct upstream_instance *next = NULL;
        if (set_get(instance->upstream, instance->key, instance->worker, &next) != 0)
            break; /* which its home tells */
        upstream_instance_unref(instance);
        instance = next;
    }
    return instance;
}

struct upstream_watch *upstream_watch_start(struct upstream_instance *instance,
                                            const struct upstream_wish *wish,
                                            const struct upstream_watch_events *events,
                                            void *context) {
    bool is_too_long = wish->name.len > LIMIT_URI_LENGTH;
    bool has_key = wish->kind != UPSTREAM_WATCHED_LISTS && !is_too_long;
    struct upstream_watch *watch = mem_alloc(sizeof *watch + (has_key ? 1 + wish->name.len : 0));
    if (watch == NULL)
        return NULL;
    instance = latest(instance);
    atomic_init(&watch->refs, 2);
    watch->loop = instance->loop;
    watch->instance = instance;
    watch->events = *events;
    watch->context = context;
    watch->start_message.deliver = deliver_start;
    watch->stop_message.deliver = deliver_stop;
    watch->kind = wish->kind;
    watch->is_too_long = is_too_long;
    watch->list_mask = wish->kind == UPSTREAM_WATCHED_LISTS ? wish->list_mask : 0;
    if (has_key) {
        watch->key_len = 1 + wish->name.len;
        watch->key[0] = (char)wish->kind;
        if (wish->name.len != 0)
            memcpy(watch->key + 1, wish->name.ptr, wish->name.len);
    }
    io_loop_post(watch->loop, &watch->start_message);
    return watch;
}

void upstream_watch_stop(struct upstream_watch *watch) {
    if (atomic_load(&watch->is_gone))
        unref(watch);
    else
        io_loop_post(watch->loop, &watch->stop_message);
}

/* What becomes of the instance. */

void watches_init(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    list_init(&watches->all);
    list_init(&watches->lists);
    list_init(&watches->queue);
    list_init(&watches->out);
    map_init(&watches->topics);
    watches->ask_timer = io_timer_new(instance->loop, subscribe_on_late, instance);
    watches->hear_timer = io_timer_new(instance->loop, subscribe_on_heard, instance);
    watches->listen_timer = io_timer_new(instance->loop, listen_on_retry, instance);
    watches->ack_timer = io_timer_new(instance->loop, listen_on_late, instance);
    watches->old_timer = io_timer_new(instance->loop, listen_on_old, instance);
}

void watches_free_timers(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    watches->ask_timer = io_timer_free(watches->ask_timer);
    watches->hear_timer = io_timer_free(watches->hear_timer);
    watches->listen_timer = io_timer_free(watches->listen_timer);
    watches->ack_timer = io_timer_free(watches->ack_timer);
    watches->old_timer = io_timer_free(watches->old_timer);
    map_deinit(&watches->topics);
}

bool watches_any(const struct upstream_instance *instance) {
    return atomic_load(&instance->watches.n_wanted) != 0;
}

/* Before anything is asked for: what a server has not is not waited for. */
static void refuse_unserved(struct upstream_instance *instance) {
    size_t cursor = 0;
    void *value = NULL;
    while (map_next(&instance->watches.topics, &cursor, NULL, &value)) {
        struct topic *topic = value;
        if (topic_is_served(instance, topic))
            continue;
        topic_refuse(instance, topic, UPSTREAM_ERROR, lacks(topic));
        topic_settle(instance, topic);
    }
}

void watches_ready(struct upstream_instance *instance) {
    instance->watches.is_ready = true;
    refuse_unserved(instance);
    if (watches_modern(instance))
        listen_begin(instance);
    else
        subscribe_begin(instance);
}

void watches_lost(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    size_t cursor = 0;
    void *value = NULL;
    if (!watches->is_ready)
        return;
    subscribe_end(instance);
    listen_end(instance);
    watches->is_ready = false;
    while (map_next(&watches->topics, &cursor, NULL, &value)) {
        struct topic *topic = value;
        topic->state = TOPIC_OFF;
        topic->is_refused = false;
        topic_settle(instance, topic);
    }
}

void watches_fail(struct upstream_instance *instance, struct slice reason) {
    LIST_FOREACH_SAFE (&instance->watches.all, link, tmp) {
        struct upstream_watch *watch = CONTAINER_OF(link, struct upstream_watch, link);
        if (!watch->is_told)
            fail(watch, reason);
    }
}

void watches_close(struct upstream_instance *instance) {
    watches_lost(instance);
    watches_fail(instance, SLICE(IS_STOPPING));
    LIST_FOREACH_SAFE (&instance->watches.all, link, tmp)
        end(CONTAINER_OF(link, struct upstream_watch, link));
}

void watches_drop(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    size_t cursor = 0;
    void *value = NULL;
    mem_free(watches->current); /* their posts are freed with the worker's */
    mem_free(watches->next);
    mem_free(watches->old);
    LIST_FOREACH_SAFE (&watches->all, link, tmp) {
        struct upstream_watch *watch = CONTAINER_OF(link, struct upstream_watch, link);
        (void)watch_leave(watch);
        list_remove(&watch->link);
        atomic_store(&watch->is_gone, true);
        watch->instance = upstream_instance_unref(watch->instance);
        unref(watch);
    }
    while (map_next(&watches->topics, &cursor, NULL, &value))
        topic_free(watches, value);
    map_deinit(&watches->topics);
}

bool watches_answer(struct upstream_instance *instance, const struct mcp_message *message) {
    uint64_t id;
    return slice_to_u64(message->id, &id) == 0 &&
           (subscribe_answer(instance, id, message) || listen_answer(instance, id, message));
}

bool watches_refused(struct upstream_instance *instance, uint64_t id,
                     const struct transport_failure *failure) {
    return subscribe_refused(instance, id, failure);
}

/* What the server tells. */

static void on_updated(struct upstream_instance *instance, const struct json_node *uri,
                       struct slice params) {
    struct topic *topic = watches_find(instance, UPSTREAM_WATCHED_RESOURCE, uri);
    if (topic != NULL && topic->state != TOPIC_OFF)
        topic_tell(instance, topic, params);
}

void watches_notified(struct upstream_instance *instance, const struct mcp_message *message) {
    const struct json_node *uri =
        message->method == MCP_NOTIFY_RESOURCE_UPDATED
            ? mcp_param(instance->worker->home_reader, message, SLICE("uri"), JSON_STRING)
            : NULL;
    if (watches_modern(instance))
        listen_notified(instance, message);
    else if (uri != NULL)
        on_updated(instance, uri, message->params->raw);
    else
        handshake_lists_changed(instance, watches_list_mask(message->method), true);
}

struct heard {
    struct io_message message;
    struct upstream_instance *instance; /* a reference */
    size_t len;
    char params[];
};

static void deliver_heard(struct io_message *message) {
    struct heard *heard = CONTAINER_OF(message, struct heard, message);
    struct upstream_instance *instance = heard->instance;
    struct json_reader *reader = instance->worker->home_reader;
    struct slice params = slice_make(heard->params, heard->len);
    if (json_read(reader, params, &json_want_root, NULL, NULL) == 0)
        on_updated(instance,
                   json_member_typed(reader, json_root(reader), SLICE("uri"), JSON_STRING), params);
    atomic_fetch_sub(&instance->watches.n_heard, 1);
    if (atomic_exchange(&instance->watches.has_missed, false))
        watches_missed(instance);
    upstream_instance_unref(instance);
    mem_free(heard);
}

/* Without its other members where it is too long. */
static void copy_params(struct buf *out, const struct json_node *uri, struct slice params) {
    if (params.len <= LIMIT_UPDATED)
        buf_append(out, params);
    else
        buf_printf(out, "{\"uri\":%.*s}", SLICE_ARGS(uri->raw));
}

void watches_overhear(struct upstream_instance *instance, const struct json_reader *reader,
                      const struct mcp_message *message) {
    const struct json_node *uri = mcp_param(reader, message, SLICE("uri"), JSON_STRING);
    if (uri == NULL || !watches_any(instance))
        return;
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI_LENGTH * 6 + LIMIT_UPDATED);
    copy_params(&params, uri, message->params->raw);
    struct slice text = buf_slice(&params);
    /* Those that are on their way look at the flag, unless this is the only one by now. */
    if (atomic_fetch_add(&instance->watches.n_heard, 1) >= MAX_HEARD) {
        atomic_store(&instance->watches.has_missed, true);
        if (atomic_fetch_sub(&instance->watches.n_heard, 1) != 1)
            return;
        atomic_fetch_add(&instance->watches.n_heard, 1);
    }
    struct heard *heard = buf_error(&params) == 0 ? mem_alloc(sizeof *heard + text.len) : NULL;
    if (heard == NULL) {
        atomic_fetch_sub(&instance->watches.n_heard, 1);
        return;
    }
    heard->message.deliver = deliver_heard;
    heard->instance = upstream_instance_ref(instance);
    heard->len = text.len;
    memcpy(heard->params, text.ptr, text.len);
    io_loop_post(instance->loop, &heard->message);
}
