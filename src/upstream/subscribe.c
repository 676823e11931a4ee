/*
 * Servers that have sessions are asked for one resource after the other: resources/subscribe and
 * resources/unsubscribe (MCP 2025-11-25, server/resources, subscriptions). A few requests are out
 * at a time, so that thousands of resources do not keep the handshake's own questions waiting.
 *
 * What an HTTP server tells by itself comes on its GET stream, and is lost while there is none. So
 * nothing is asked for before that stream is open, or has been refused.
 */

#include "base/buf.h"
#include "base/limits.h"
#include "http_failure.h"
#include "json/writer.h"
#include "private.h"

enum {
    MOST_AT_ONCE = 8,
    HEAR_MS = 2000, /* for the stream; some servers open it with the first event only */
};

static uint64_t patience(const struct upstream_instance *instance) {
    return instance->upstream->config->call_idle_timeout_ms;
}

/* Runs for the one that has waited longest. */
static void watch_time(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    struct list_link *first = list_first(&watches->out);
    if (first == NULL) {
        io_timer_stop(watches->ask_timer);
        return;
    }
    const struct topic *topic = CONTAINER_OF(first, struct topic, ask_link);
    uint64_t waited = io_loop_now(instance->loop) - topic->asked_ms, most = patience(instance);
    io_timer_start(watches->ask_timer, waited < most ? most - waited : 0);
}

static int send(struct upstream_instance *instance, uint64_t id, enum mcp_method method,
                struct slice uri) {
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI_LENGTH * 6 + KIB(1));
    struct buf line = BUF_INIT(LIMIT_URI_LENGTH * 6 + KIB(2));
    struct json_writer writer;
    char digits[SLICE_U64];
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("uri"), uri);
    json_object_end(&writer);
    mcp_write_request(&line, slice_of_u64(id, digits), method, buf_slice(&params));
    int error = instance_send(instance, id, method, false, &line);
    return error != 0 ? error : buf_error(&params);
}

static void ask(struct upstream_instance *instance, struct topic *topic) {
    struct watches *watches = &instance->watches;
    bool is_leaving = topic->state == TOPIC_ON;
    topic->ask_id = upstream_next_id(instance->upstream->set);
    topic->asked_ms = io_loop_now(instance->loop);
    topic->state = is_leaving ? TOPIC_LEAVING : TOPIC_ASKED;
    list_push_back(&watches->out, &topic->ask_link);
    watches->n_out++;
    if (send(instance, topic->ask_id,
             is_leaving ? MCP_RESOURCES_UNSUBSCRIBE : MCP_RESOURCES_SUBSCRIBE,
             topic_name(topic)) == 0)
        return;
    list_remove(&topic->ask_link);
    watches->n_out--;
    if (is_leaving)
        topic->state = TOPIC_OFF; /* it will notice its own end */
    else
        topic_refuse(instance, topic, UPSTREAM_FAILED,
                     SLICE("the upstream does not read its input; try again later"));
    topic_settle(instance, topic);
}

static void pump(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    while (subscribe_may_ask(instance) && watches->n_out < MOST_AT_ONCE) {
        struct list_link *link = list_pop_front(&watches->queue);
        if (link == NULL)
            break;
        struct topic *topic = CONTAINER_OF(link, struct topic, ask_link);
        bool is_wanted = !list_is_empty(&topic->watches);
        if (is_wanted == (topic->state == TOPIC_OFF))
            ask(instance, topic);
        else
            topic_settle(instance, topic); /* it has changed its mind in the queue */
    }
    watch_time(instance);
}

void subscribe_queue(struct upstream_instance *instance, struct topic *topic) {
    if (!list_is_linked(&topic->ask_link))
        list_push_back(&instance->watches.queue, &topic->ask_link);
    if (instance->watches.n_out < MOST_AT_ONCE)
        io_timer_start(instance->watches.ask_timer, 0); /* outside of whoever wants it */
}

/* Answers. */

static struct topic *take(struct upstream_instance *instance, uint64_t id) {
    struct watches *watches = &instance->watches;
    LIST_FOREACH_SAFE (&watches->out, link, tmp) {
        struct topic *topic = CONTAINER_OF(link, struct topic, ask_link);
        if (topic->ask_id != id)
            continue;
        list_remove(link);
        watches->n_out--;
        return topic;
    }
    return NULL;
}

static void refuse(struct upstream_instance *instance, struct topic *topic,
                   enum upstream_outcome outcome, struct slice bytes) {
    if (topic->state == TOPIC_LEAVING)
        topic->state = TOPIC_OFF;
    else
        topic_refuse(instance, topic, outcome, bytes);
    topic_settle(instance, topic);
}

bool subscribe_answer(struct upstream_instance *instance, uint64_t id,
                      const struct mcp_message *message) {
    struct topic *topic = take(instance, id);
    if (topic == NULL)
        return false;
    (void)instance->transport->ops->forget(instance->transport, id);
    if (message->kind == MCP_RESULT && topic->state == TOPIC_ASKED) {
        topic_on(instance, topic);
        topic_settle(instance, topic);
    } else {
        refuse(instance, topic, UPSTREAM_ERROR, message->error);
    }
    pump(instance);
    return true;
}

bool subscribe_refused(struct upstream_instance *instance, uint64_t id,
                       const struct transport_failure *failure) {
    char text[HTTP_DESCRIPTION];
    struct topic *topic = take(instance, id);
    if (topic == NULL)
        return false;
    if (failure->is_session_lost) {
        topic->state = TOPIC_OFF;
        instance_renew(instance); /* and it is asked for in the next one */
    } else if (failure->error.len != 0) {
        refuse(instance, topic, UPSTREAM_ERROR, failure->error);
    } else if (failure->end->is_late) {
        refuse(instance, topic, UPSTREAM_TIMEOUT, SLICE(WATCH_TIMEOUT));
    } else {
        refuse(instance, topic, UPSTREAM_FAILED,
               http_describe(instance->upstream, failure->end, false, text));
    }
    pump(instance);
    return true;
}

static void give_up(struct upstream_instance *instance, struct topic *topic) {
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct buf line = BUF_INIT(KIB(2));
    (void)take(instance, topic->ask_id);
    if (instance->transport->ops->forget(instance->transport, topic->ask_id)) {
        buf_printf(&params, "{\"requestId\":%llu,\"reason\":\"timeout\"}",
                   (unsigned long long)topic->ask_id);
        mcp_write_notification(&line, MCP_NOTIFY_CANCELLED, buf_slice(&params));
        (void)!instance_send(instance, 0, MCP_NOTIFY_CANCELLED, false, &line);
    }
    refuse(instance, topic, UPSTREAM_TIMEOUT, SLICE(WATCH_TIMEOUT));
}

void subscribe_on_late(void *context) {
    struct upstream_instance *instance = context;
    struct watches *watches = &instance->watches;
    uint64_t now = io_loop_now(instance->loop);
    if (!watches->is_ready)
        return;
    LIST_FOREACH_SAFE (&watches->out, link, tmp) {
        struct topic *topic = CONTAINER_OF(link, struct topic, ask_link);
        if (now - topic->asked_ms >= patience(instance))
            give_up(instance, topic);
    }
    pump(instance);
}

/* When it may be asked. */

bool subscribe_may_ask(const struct upstream_instance *instance) {
    return instance->watches.is_ready && !io_timer_is_running(instance->watches.hear_timer);
}

static void begin(struct upstream_instance *instance) {
    size_t cursor = 0;
    void *value = NULL;
    watches_lists_live(instance, instance->catalog->telling);
    while (map_next(&instance->watches.topics, &cursor, NULL, &value))
        topic_settle(instance, value);
    pump(instance);
}

void subscribe_on_heard(void *context) {
    struct upstream_instance *instance = context;
    if (instance->watches.is_ready)
        begin(instance);
}

void subscribe_begin(struct upstream_instance *instance) {
    if (instance->watches.is_deaf)
        io_timer_start(instance->watches.hear_timer, HEAR_MS);
    else
        begin(instance);
}

void subscribe_end(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    while (list_pop_front(&watches->queue) != NULL)
        continue;
    while (list_pop_front(&watches->out) != NULL)
        continue;
    watches->n_out = 0;
    io_timer_stop(watches->ask_timer);
    io_timer_stop(watches->hear_timer);
}

void watches_hearing(struct upstream_instance *instance, bool is_hearing) {
    struct watches *watches = &instance->watches;
    bool was_deaf = watches->is_deaf;
    watches->is_deaf = !is_hearing;
    if (!is_hearing || !was_deaf || !watches->is_ready)
        return;
    bool waits = io_timer_is_running(watches->hear_timer);
    io_timer_stop(watches->hear_timer);
    watches_missed(instance);
    if (waits)
        begin(instance);
}
