/*
 * What is watched: resources and tasks, each with those who want it and with what its server knows
 * of that, and lists. And what they hear of it.
 */
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "json/writer.h"
#include "private.h"

/* What one of them hears. */

struct topic *watch_leave(struct upstream_watch *watch) {
    struct watches *watches = &watch->instance->watches;
    struct topic *topic = TAKE(watch->topic);
    if (!list_is_linked(&watch->want_link))
        return NULL;
    list_remove(&watch->want_link);
    atomic_fetch_sub(&watches->n_wanted, 1);
    watches->n_resources -= watch->kind == UPSTREAM_WATCHED_LISTS ? 0 : 1;
    return topic;
}

void watch_live(struct upstream_watch *watch, unsigned list_mask) {
    if (watch->is_told)
        return;
    watch->is_told = true;
    watch->events.on_live(watch->context, UPSTREAM_RESULT, watch->list_mask & list_mask,
                          SLICE_EMPTY);
}

void watch_failed(struct upstream_watch *watch, enum upstream_outcome outcome, struct slice bytes) {
    watch->is_told = true;
    watch->events.on_live(watch->context, outcome, 0, bytes);
}

/* Resources and tasks. */

struct slice topic_name(const struct topic *topic) {
    return slice_make(topic->key + 1, topic->len - 1);
}

struct topic *topic_new(struct watches *watches, enum upstream_watched kind, struct slice key) {
    struct topic *topic = mem_alloc(sizeof *topic + key.len);
    if (topic == NULL)
        return NULL;
    list_init(&topic->watches);
    topic->is_task = kind == UPSTREAM_WATCHED_TASK;
    topic->len = key.len;
    memcpy(topic->key, key.ptr, key.len);
    if (map_set(&watches->topics, key, topic) != 0) {
        mem_free(topic);
        return NULL;
    }
    watches->n_bytes += topic_name(topic).len;
    return topic;
}

void topic_free(struct watches *watches, struct topic *topic) {
    list_remove(&topic->ask_link);
    watches->n_bytes -= topic_name(topic).len;
    (void)map_remove(&watches->topics, slice_make(topic->key, topic->len));
    mem_free(topic);
}

bool watches_modern(const struct upstream_instance *instance) {
    return instance->catalog != NULL && mcp_revision_is_modern(instance->catalog->revision);
}

bool topic_is_served(const struct upstream_instance *instance, const struct topic *topic) {
    const struct catalog *catalog = instance->catalog;
    return topic->is_task
               ? watches_modern(instance) && (catalog->tasks & CATALOG_TASK_EXTENSION) != 0
               : catalog->has_subscriptions;
}

void topic_settle(struct upstream_instance *instance, struct topic *topic) {
    struct watches *watches = &instance->watches;
    bool is_wanted = !list_is_empty(&topic->watches);
    if (watches->is_ready && !watches_modern(instance)) {
        bool is_on = topic->state == TOPIC_ON, is_off = topic->state == TOPIC_OFF;
        if ((is_on && !is_wanted) || (is_off && is_wanted && !topic->is_refused))
            subscribe_queue(instance, topic);
        else if (is_off && !is_wanted)
            topic_free(watches, topic);
        return;
    }
    if (is_wanted)
        return;
    bool is_asked = topic->state != TOPIC_OFF;
    topic_free(watches, topic);
    if (is_asked && watches->is_ready)
        listen_unwanted(instance);
}

/* Made by us, where nobody knows what the server would say, or it says too much. */
static void write_updated(struct buf *out, struct slice uri) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("uri"), uri);
    json_object_end(&writer);
}

void topic_tell(struct upstream_instance *instance, struct topic *topic, struct slice params) {
    struct buf made CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI_LENGTH * 6 + 16);
    (void)instance;
    bool is_known = params.len != 0 && params.len <= LIMIT_UPDATED;
    if (!is_known && topic->is_task) {
        params = SLICE_EMPTY; /* what it is like, the server alone can say */
    } else if (!is_known) {
        write_updated(&made, topic_name(topic));
        if (buf_error(&made) != 0)
            return;
        params = buf_slice(&made);
    }
    LIST_FOREACH_SAFE (&topic->watches, link, tmp) {
        struct upstream_watch *watch = CONTAINER_OF(link, struct upstream_watch, want_link);
        if (watch->is_told)
            watch->events.on_updated(watch->context, params);
    }
}

void topic_on(struct upstream_instance *instance, struct topic *topic) {
    topic->state = TOPIC_ON;
    topic->is_refused = false;
    topic_tell(instance, topic, SLICE_EMPTY);
    LIST_FOREACH_SAFE (&topic->watches, link, tmp)
        watch_live(CONTAINER_OF(link, struct upstream_watch, want_link), 0);
}

void topic_fail(struct upstream_instance *instance, struct topic *topic,
                enum upstream_outcome outcome, struct slice bytes) {
    (void)instance;
    topic->state = TOPIC_OFF;
    LIST_FOREACH_SAFE (&topic->watches, link, tmp) {
        struct upstream_watch *watch = CONTAINER_OF(link, struct upstream_watch, want_link);
        if (watch->is_told)
            continue;
        (void)watch_leave(watch);
        watch_failed(watch, outcome, bytes);
    }
}

static void tell_lost(const struct topic *topic) {
    LIST_FOREACH_SAFE (&topic->watches, link, tmp) {
        struct upstream_watch *watch = CONTAINER_OF(link, struct upstream_watch, want_link);
        if (watch->is_told)
            watch->events.on_lost(watch->context);
    }
}

void topic_refuse(struct upstream_instance *instance, struct topic *topic,
                  enum upstream_outcome outcome, struct slice bytes) {
    if (topic->is_task)
        tell_lost(topic);
    topic_fail(instance, topic, outcome, bytes);
    topic->is_refused = true;
    if (!topic->is_task)
        topic_tell(instance, topic, SLICE_EMPTY);
}

void watches_missed(struct upstream_instance *instance) {
    size_t cursor = 0;
    void *value = NULL;
    while (map_next(&instance->watches.topics, &cursor, NULL, &value)) {
        struct topic *topic = value;
        if (topic->state == TOPIC_ON)
            topic_tell(instance, topic, SLICE_EMPTY);
    }
}

struct topic *watches_find(struct upstream_instance *instance, enum upstream_watched kind,
                           const struct json_node *name) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI_LENGTH + 1);
    buf_append_byte(&text, (char)kind);
    if (name == NULL || json_string_append(&text, name) != 0)
        return NULL;
    return map_get(&instance->watches.topics, buf_slice(&text));
}

/* Lists. */

unsigned watches_list_mask(enum mcp_method method) {
    unsigned mask = 0;
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        if (mcp_list_info((enum mcp_list)i)->changed == method)
            mask |= 1u << i;
    }
    return mask;
}

void watches_lists_live(struct upstream_instance *instance, unsigned list_mask) {
    LIST_FOREACH_SAFE (&instance->watches.lists, link, tmp)
        watch_live(CONTAINER_OF(link, struct upstream_watch, want_link), list_mask);
}

void watches_lists_fail(struct upstream_instance *instance, enum upstream_outcome outcome,
                        struct slice reason) {
    LIST_FOREACH_SAFE (&instance->watches.lists, link, tmp) {
        struct upstream_watch *watch = CONTAINER_OF(link, struct upstream_watch, want_link);
        if (watch->is_told)
            continue;
        (void)watch_leave(watch);
        watch_failed(watch, outcome, reason);
    }
}
