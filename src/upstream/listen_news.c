/* What a subscriptions/listen brings: its acknowledgement, and news under its id. */
#include "base/buf.h"
#include "base/limits.h"
#include "listen_private.h"

enum { OLD_MS = 500 }; /* for what the one before still tells */

#define NOT_TOLD "the upstream does not tell of changes of this"

/* The acknowledgement. */

static void read_topics(const struct listen *listen, const struct json_node *filter,
                        enum upstream_watched kind) {
    struct upstream_instance *instance = listen->instance;
    const struct json_reader *reader = instance->worker->home_reader;
    const struct json_node *names = json_member_typed(
        reader, filter, listen_topics_key(kind == UPSTREAM_WATCHED_TASK), JSON_ARRAY);
    for (const struct json_node *node = names != NULL ? json_first(reader, names) : NULL;
         node != NULL; node = json_next(reader, node)) {
        struct topic *topic = node->type == JSON_STRING ? watches_find(instance, kind, node) : NULL;
        if (topic != NULL && topic->listen_id == listen->id)
            topic->is_honoured = true;
    }
}

static void read_honoured(struct listen *listen, struct slice params) {
    static const struct json_want want_nothing[] = {{0}};
    static const struct json_want want_names[] = {
        {"resourceSubscriptions", want_nothing}, {"taskIds", want_nothing}, {0}};
    static const struct json_want want_filter[] = {{"notifications", want_names}, {0}};
    static const struct json_want want = {.children = want_filter};
    struct upstream_instance *instance = listen->instance;
    struct json_reader *reader = instance->worker->home_reader;
    if (json_read(reader, params, &want, NULL, NULL) != 0)
        return;
    const struct json_node *filter =
        json_member_typed(reader, json_root(reader), SLICE("notifications"), JSON_OBJECT);
    if (filter == NULL)
        return;
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        if (json_member_typed(reader, filter, listen_key((enum mcp_list)i), JSON_TRUE) != NULL)
            listen->told |= listen->asked & (1u << i);
    }
    read_topics(listen, filter, UPSTREAM_WATCHED_RESOURCE);
    read_topics(listen, filter, UPSTREAM_WATCHED_TASK);
}

static void settle_topics(struct upstream_instance *instance, const struct listen *listen,
                          bool had_current) {
    bool has_old = instance->watches.old != NULL;
    struct watches *watches = &instance->watches;
    size_t cursor = 0;
    void *value = NULL;
    bool has_off = false;
    while (map_next(&watches->topics, &cursor, NULL, &value)) {
        struct topic *topic = value;
        topic->was_on = had_current && topic->state == TOPIC_ON;
        tally_turn(&topic->tally, has_old && topic->was_on, listen->acked_ms);
        if (topic->listen_id != listen->id) {
            has_off = true;
            continue;
        }
        if (!topic->is_honoured)
            topic_refuse(instance, topic, UPSTREAM_FAILED, SLICE(NOT_TOLD));
        else if (topic->state != TOPIC_ON)
            topic_on(instance, topic);
        topic_settle(instance, topic);
    }
    watches->is_careful = watches->is_careful && has_off;
}

static void acknowledged(struct listen *listen, const struct mcp_message *message) {
    struct upstream_instance *instance = listen->instance;
    struct watches *watches = &instance->watches;
    struct listen *before = watches->current;
    if (listen != watches->next) {
        listen_log(instance, "has acknowledged a subscription again");
        return;
    }
    io_timer_stop(watches->ack_timer);
    read_honoured(listen, message->params->raw);
    listen->is_acked = true;
    listen->acked_ms = io_loop_now(instance->loop);
    watches->next = NULL;
    watches->current = listen;
    watches->lists_was = before != NULL ? before->told : 0;
    if (before != NULL && instance_is_http(instance)) {
        watches->old = before;
        io_timer_start(watches->old_timer, OLD_MS);
    } else { /* what a child told it before has been read before */
        listen_leave(before);
    }
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++)
        tally_turn(&watches->list_tallies[i], watches->old != NULL, listen->acked_ms);
    settle_topics(instance, listen, before != NULL);
    watches_lists_live(instance, listen->told);
    if (watches->has_lost) {
        watches->has_lost = false;
        handshake_lists_changed(instance, UPSTREAM_ALL_LISTS, false);
    }
    listen_update(instance);
}

/* What it tells. */

/* `is_of_old`: the old one is to tell it, if there is one; what that tells itself is held back. */
static enum tally_word weigh(const struct listen *listen, struct tally *tally, bool is_of_old) {
    const struct upstream_instance *instance = listen->instance;
    const struct watches *watches = &instance->watches;
    uint64_t now = io_loop_now(instance->loop);
    if (listen != watches->old)
        return tally_current(tally, is_of_old && watches->old != NULL, now);
    tally_old(tally, now);
    return TALLY_COPY;
}

void listen_asks(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    size_t cursor = 0;
    void *value = NULL;
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++)
        tally_ask(&watches->list_tallies[i]);
    while (map_next(&watches->topics, &cursor, NULL, &value))
        tally_ask(&((struct topic *)value)->tally);
}

void listen_old_ended(struct upstream_instance *instance, bool is_cut) {
    struct watches *watches = &instance->watches;
    uint64_t now = io_loop_now(instance->loop);
    size_t cursor = 0;
    void *value = NULL;
    unsigned owed = 0;
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++)
        owed |= tally_end(&watches->list_tallies[i], is_cut, now) ? 1u << i : 0;
    while (map_next(&watches->topics, &cursor, NULL, &value)) {
        struct topic *topic = value;
        if (tally_end(&topic->tally, is_cut, now) && topic->state == TOPIC_ON)
            topic_tell(instance, topic, SLICE_EMPTY);
    }
    handshake_lists_changed(instance, owed, true);
}

static void on_lists(struct listen *listen, unsigned mask) {
    struct upstream_instance *instance = listen->instance;
    struct watches *watches = &instance->watches;
    unsigned news = 0;
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        bool is_told = (mask & listen->told & (1u << i)) != 0;
        bool is_of_old = (watches->lists_was & (1u << i)) != 0;
        if (is_told && weigh(listen, &watches->list_tallies[i], is_of_old) != TALLY_COPY)
            news |= 1u << i;
    }
    handshake_lists_changed(instance, news, true);
}

static void on_updated(struct listen *listen, const struct mcp_message *message,
                       enum upstream_watched kind) {
    struct upstream_instance *instance = listen->instance;
    const struct watches *watches = &instance->watches;
    const struct json_node *name =
        mcp_param(instance->worker->home_reader, message,
                  kind == UPSTREAM_WATCHED_TASK ? SLICE("taskId") : SLICE("uri"), JSON_STRING);
    struct topic *topic = watches_find(instance, kind, name);
    if (topic == NULL || topic->state != TOPIC_ON || (listen == watches->old && !topic->was_on))
        return;
    switch (weigh(listen, &topic->tally, topic->was_on)) {
    case TALLY_NEWS:
        topic_tell(instance, topic, message->params->raw);
        return;
    case TALLY_PERHAPS: /* its words may have been passed on */
        topic_tell(instance, topic, SLICE_EMPTY);
        return;
    case TALLY_COPY:
        break;
    }
}

/* The one that a notification names; its id has to have the type that it was sent with. */
static struct listen *named(const struct upstream_instance *instance,
                            const struct mcp_message *message) {
    const struct watches *watches = &instance->watches;
    struct listen *const all[] = {watches->current, watches->next, watches->old};
    const struct json_node *node =
        message->meta != NULL ? json_member_typed(instance->worker->home_reader, message->meta,
                                                  MCP_META_SUBSCRIPTION, JSON_NUMBER)
                              : NULL;
    uint64_t id;
    if (node == NULL || slice_to_u64(node->raw, &id) != 0)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i] != NULL && all[i]->id == id)
            return all[i];
    }
    return NULL;
}

void listen_news(struct upstream_instance *instance, const struct listen *stream,
                 const struct mcp_message *message) {
    struct listen *listen = named(instance, message);
    bool is_ours = listen != NULL && (stream == NULL || stream == listen);
    if (is_ours && message->method == MCP_NOTIFY_SUBSCRIPTIONS_ACKNOWLEDGED)
        acknowledged(listen, message);
    else if (!is_ours || !listen->is_acked)
        listen_log(instance, "told something that it was not asked for");
    else if (message->method == MCP_NOTIFY_RESOURCE_UPDATED)
        on_updated(listen, message, UPSTREAM_WATCHED_RESOURCE);
    else if (message->method == MCP_NOTIFY_TASKS)
        on_updated(listen, message, UPSTREAM_WATCHED_TASK);
    else
        on_lists(listen, watches_list_mask(message->method));
}

void listen_notified(struct upstream_instance *instance, const struct mcp_message *message) {
    listen_news(instance, NULL, message);
}
