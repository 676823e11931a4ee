/*
 * Servers of 2026-07-28 are asked for everything at once: one subscriptions/listen for the lists
 * whose changes the server tells, and for all resources and tasks that are watched (MCP 2026-07-28,
 * basic/patterns/subscriptions; tasks extension, "Task Status Notifications"). What it asks for
 * cannot be changed, so when more is wanted another one is opened, and the one before ends when
 * that is acknowledged; over HTTP a moment later, for what was told meanwhile may still be on its
 * way. What both tell is passed on once, and where it cannot be known whether something is what
 * both tell, the gateway says itself that there may be something new (tally.h).
 *
 * It is kept open while the instance is ready, so that its catalog is never older than what the
 * server said; that is no use of the instance. A server that does not know the method is not asked
 * again before its next start; one that ends its streams is, with pauses that grow. Nobody knows
 * what was missed then: everything counts as changed.
 */
#include <errno.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/random.h"
#include "http_failure.h"
#include "json/writer.h"
#include "listen_private.h"
#include "mcp/capabilities.h"

enum {
    RETRY_MS = 1000,
    RETRY_MAX_MS = 60000,
    STABLE_MS = 10000, /* open for so long: the next pause is the first again */
    TRIES = 6,         /* when nobody watches */
    SURPLUS_MS = 200,  /* until the server hears that somebody does not watch any more */
};

#define NO_ANSWER                                                                                  \
    "the upstream ended the request for changes (subscriptions/listen) without an answer"

void listen_log(const struct upstream_instance *instance, const char *text) {
    log_write(instance_log(instance), LOG_DEBUG, "upstream", text,
              LOG_TEXT("upstream", instance_name(instance)));
}

/* The end of one. */

static struct listen *discard(struct listen *listen) {
    if (listen != NULL)
        post_cancel(listen->post);
    mem_free(listen);
    return NULL;
}

/* A child is told; an HTTP server sees its stream closed. */
static void cancel(const struct listen *listen) {
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct buf line = BUF_INIT(KIB(2));
    if (instance_is_http(listen->instance))
        return;
    buf_printf(&params, "{\"requestId\":%llu}", (unsigned long long)listen->id);
    mcp_write_notification(&line, MCP_NOTIFY_CANCELLED, buf_slice(&params));
    (void)!instance_send(listen->instance, 0, MCP_NOTIFY_CANCELLED, false, &line);
}

struct listen *listen_leave(struct listen *listen) {
    if (listen != NULL)
        cancel(listen);
    return discard(listen);
}

void listen_on_old(void *context) {
    struct upstream_instance *instance = context;
    if (instance->watches.old == NULL)
        return;
    instance->watches.old = listen_leave(instance->watches.old);
    listen_old_ended(instance, false);
}

/* The request. */

/* Templates have no word of their own: they change with the resources. */
struct slice listen_key(enum mcp_list list) {
    static const struct slice keys[MCP_LIST_COUNT] = {
        [MCP_LIST_TOOLS] = SLICE_INIT("toolsListChanged"),
        [MCP_LIST_PROMPTS] = SLICE_INIT("promptsListChanged"),
        [MCP_LIST_RESOURCES] = SLICE_INIT("resourcesListChanged"),
        [MCP_LIST_TEMPLATES] = SLICE_INIT("resourcesListChanged"),
    };
    return keys[list];
}

struct slice listen_topics_key(bool are_tasks) {
    return are_tasks ? SLICE("taskIds") : SLICE("resourceSubscriptions");
}

static void write_lists(struct json_writer *writer, unsigned mask) {
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        if ((mask & (1u << i)) != 0 && i != MCP_LIST_TEMPLATES)
            json_kv_bool(writer, listen_key((enum mcp_list)i), true);
    }
}

/* Whether this one asks for it. */
static bool takes(const struct watches *watches, const struct listen *listen,
                  const struct topic *topic) {
    if (list_is_empty(&topic->watches))
        return false;
    return topic->state != TOPIC_OFF || !watches->is_careful || listen->n_new == 0;
}

/* All of one kind; false: there is none. */
static bool write_topics(struct json_writer *writer, struct listen *listen, bool are_tasks) {
    struct watches *watches = &listen->instance->watches;
    size_t cursor = 0, n = 0;
    void *value = NULL;
    while (map_next(&watches->topics, &cursor, NULL, &value)) {
        struct topic *topic = value;
        if (topic->is_task != are_tasks || !takes(watches, listen, topic))
            continue;
        if (n++ == 0) {
            json_key(writer, listen_topics_key(are_tasks));
            json_array_begin(writer);
        }
        json_string(writer, topic_name(topic));
        listen->n_new += topic->state == TOPIC_OFF ? 1 : 0;
        topic->listen_id = listen->id;
        topic->is_honoured = false;
        if (topic->state == TOPIC_OFF)
            topic->state = TOPIC_ASKED;
    }
    if (n != 0)
        json_array_end(writer);
    return n != 0;
}

static void write_request(struct buf *line, struct listen *listen) {
    struct upstream_instance *instance = listen->instance;
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(LIMIT_UPSTREAM_MESSAGE);
    struct json_writer writer;
    char digits[SLICE_U64];
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_key(&writer, SLICE("notifications"));
    json_object_begin(&writer);
    write_lists(&writer, listen->asked);
    (void)write_topics(&writer, listen, false);
    bool has_tasks = write_topics(&writer, listen, true);
    json_object_end(&writer);
    handshake_write_envelope(&writer, instance,
                             instance->capabilities | (has_tasks ? MCP_CAN_TASKS : 0u));
    json_object_end(&writer);
    mcp_write_request(line, slice_of_u64(listen->id, digits), MCP_SUBSCRIPTIONS_LISTEN,
                      buf_slice(&params));
}

static bool on_message(void *context, struct slice document);
static void on_end(void *context, const struct post_end *end);

static int post(struct listen *listen, struct slice line) {
    static const struct post_events events = {.on_message = on_message, .on_end = on_end};
    struct upstream_instance *instance = listen->instance;
    CLEANUP(oauth_token_unrefp)
    struct oauth_token *token = instance_token(instance);
    struct post_options options = {
        .worker = instance->worker,
        .route = instance->route,
        .method = HTTP_METHOD_POST,
        .mcp_method = MCP_SUBSCRIPTIONS_LISTEN,
        .body = line,
        .token = token,
        .is_idempotent = true,
        .ends_with_token = true,
    };
    if (options.route == NULL)
        return -EPIPE;
    return post_start(&options, &events, listen, &listen->post);
}

static int send(struct listen *listen) {
    struct buf line = BUF_INIT(LIMIT_UPSTREAM_MESSAGE);
    write_request(&line, listen);
    if (!instance_is_http(listen->instance))
        return instance_send(listen->instance, listen->id, MCP_SUBSCRIPTIONS_LISTEN, false, &line);
    int error = buf_error(&line);
    if (error == 0)
        error = post(listen, buf_slice(&line));
    buf_deinit(&line);
    return error;
}

/* What is wanted and not asked for. */
static bool is_lacking(const struct upstream_instance *instance) {
    const struct watches *watches = &instance->watches;
    size_t cursor = 0;
    void *value = NULL;
    unsigned asked = watches->current != NULL ? watches->current->asked : 0;
    if ((instance->catalog->telling & ~asked) != 0)
        return true;
    while (map_next(&watches->topics, &cursor, NULL, &value)) {
        const struct topic *topic = value;
        if (topic->state == TOPIC_OFF && !topic->is_refused)
            return true;
    }
    return false;
}

static bool wants_nothing(const struct upstream_instance *instance) {
    return instance->catalog->telling == 0 && instance->watches.topics.count == 0;
}

static void plan(struct upstream_instance *instance, uint64_t lived_ms) {
    struct watches *watches = &instance->watches;
    if (lived_ms >= STABLE_MS)
        watches->n_failed = 0;
    if (watches->n_failed == 0)
        watches->retry_ms = RETRY_MS;
    else if (watches->retry_ms < RETRY_MAX_MS / 2)
        watches->retry_ms *= 2;
    else
        watches->retry_ms = RETRY_MAX_MS;
    if (++watches->n_failed >= TRIES && !watches_any(instance)) {
        watches->is_refused = true;
        listen_log(instance,
                   "is not asked for changes any more: it ends the stream again and again");
        return;
    }
    uint64_t quarter = watches->retry_ms / 4;
    uint64_t delay = watches->retry_ms - quarter + random_below(2 * quarter + 1);
    watches->retry_at_ms = io_loop_now(instance->loop) + delay;
    io_timer_start(watches->listen_timer, delay);
}

static void next_failed(struct upstream_instance *instance, enum upstream_outcome outcome,
                        struct slice bytes, bool is_unknown);

static void open_next(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    struct listen *listen = mem_alloc(sizeof *listen);
    watches->has_surplus = false;
    if (listen == NULL) {
        plan(instance, 0);
        return;
    }
    listen->instance = instance;
    listen->id = upstream_next_id(instance->upstream->set);
    listen->asked = instance->catalog->telling;
    io_timer_stop(watches->old_timer);
    listen_on_old(instance);
    listen_asks(instance);
    watches->next = listen;
    io_timer_start(watches->ack_timer, instance->upstream->config->call_idle_timeout_ms);
    int error = send(listen);
    if (error == 0)
        return;
    next_failed(instance, UPSTREAM_FAILED,
                error == -EACCES   ? SLICE(LACKS_TOKEN)
                : error == -ENOMEM ? SLICE("the gateway is out of memory")
                                   : SLICE("the upstream does not take requests; try again later"),
                false);
}

void listen_update(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    if (!watches->is_ready || watches->next != NULL || watches->is_refused ||
        watches->retry_at_ms != 0)
        return;
    if (is_lacking(instance))
        open_next(instance);
}

void listen_on_retry(void *context) {
    struct upstream_instance *instance = context;
    struct watches *watches = &instance->watches;
    watches->retry_at_ms = 0;
    if (!watches->is_ready)
        return;
    if (watches->has_surplus && watches->next == NULL && wants_nothing(instance)) {
        watches->has_surplus = false;
        watches->current = listen_leave(watches->current);
    } else if (watches->has_surplus && watches->next == NULL && watches->current != NULL) {
        open_next(instance);
    } else {
        listen_update(instance);
    }
}

void listen_wanted(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    uint64_t soon = io_loop_now(instance->loop) + RETRY_MS;
    watches->is_refused = false;
    if (watches->retry_at_ms == 0) { /* with those that come in the same turn */
        io_timer_start(watches->listen_timer, 0);
    } else if (watches->retry_at_ms > soon) {
        watches->retry_at_ms = soon;
        io_timer_start(watches->listen_timer, RETRY_MS);
    }
}

void listen_unwanted(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    watches->has_surplus = true;
    if (!io_timer_is_running(watches->listen_timer))
        io_timer_start(watches->listen_timer, SURPLUS_MS);
}

bool listen_lists(const struct upstream_instance *instance, unsigned *ret_list_mask) {
    const struct watches *watches = &instance->watches;
    bool is_known =
        watches->current != NULL || watches->is_refused || instance->catalog->telling == 0;
    if (is_known)
        *ret_list_mask = watches->current != NULL ? watches->current->told : 0;
    return is_known;
}

/* What becomes of it. */

/* Those that it asked for go back to where they were. */
static void next_failed(struct upstream_instance *instance, enum upstream_outcome outcome,
                        struct slice bytes, bool is_unknown) {
    struct watches *watches = &instance->watches;
    size_t cursor = 0, n_new = watches->next->n_new;
    void *value = NULL;
    /* It may be one resource that the server refuses all of them for. */
    bool is_one_of_many = outcome == UPSTREAM_ERROR && !is_unknown && n_new > 1;
    bool is_final = outcome == UPSTREAM_ERROR && n_new <= 1;
    watches->next = discard(watches->next);
    io_timer_stop(watches->ack_timer);
    watches->is_careful = watches->is_careful || is_one_of_many;
    while (map_next(&watches->topics, &cursor, NULL, &value)) {
        struct topic *topic = value;
        bool is_concerned =
            topic->state == TOPIC_ASKED || (is_unknown && topic->state == TOPIC_OFF);
        if (!is_concerned)
            continue;
        topic->state = TOPIC_OFF;
        if (is_one_of_many)
            continue;
        if (is_final)
            topic_refuse(instance, topic, outcome, bytes);
        else
            topic_fail(instance, topic, outcome, bytes);
        topic_settle(instance, topic);
    }
    if (watches->current == NULL && is_unknown)
        watches_lists_live(instance, 0);
    else if (watches->current == NULL && (outcome != UPSTREAM_ERROR || n_new == 0))
        watches_lists_fail(instance, outcome, bytes);
    if (is_unknown)
        watches->is_refused = true;
    else if (is_one_of_many || (is_final && n_new == 1))
        listen_update(instance);
    else if (is_lacking(instance))
        plan(instance, 0);
}

static void current_lost(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    const struct listen *next = watches->next;
    size_t cursor = 0;
    void *value = NULL;
    uint64_t lived = io_loop_now(instance->loop) - watches->current->acked_ms;
    watches->current = discard(watches->current);
    watches->has_lost = true;
    while (map_next(&watches->topics, &cursor, NULL, &value)) {
        struct topic *topic = value;
        bool is_asked = next != NULL && topic->listen_id == next->id;
        if (topic->state == TOPIC_ON)
            topic->state = is_asked ? TOPIC_ASKED : TOPIC_OFF;
    }
    if (next == NULL)
        plan(instance, lived);
}

/* The server has ended it. */
static void ended(struct listen *listen, enum upstream_outcome outcome, struct slice bytes,
                  bool is_unknown) {
    struct upstream_instance *instance = listen->instance;
    struct watches *watches = &instance->watches;
    if (listen == watches->next) {
        next_failed(instance, outcome, bytes, is_unknown);
    } else if (listen == watches->current) {
        listen_log(instance, "has ended what it told changes with");
        current_lost(instance);
    } else {
        watches->old = discard(watches->old);
        io_timer_stop(watches->old_timer);
        listen_old_ended(instance, true);
    }
}

static void answered(struct listen *listen, const struct mcp_message *message) {
    if (message->kind == MCP_RESULT) {
        ended(listen, UPSTREAM_FAILED, SLICE(NO_ANSWER), false);
        return;
    }
    int64_t code = 0;
    const struct json_reader *reader = listen->instance->worker->home_reader;
    const struct json_node *error = json_member(reader, json_root(reader), SLICE("error"));
    const struct json_node *number = json_member(reader, error, SLICE("code"));
    bool has_code = number != NULL && json_to_i64(number, &code) == 0;
    ended(listen, UPSTREAM_ERROR, message->error, has_code && code == MCP_E_METHOD_NOT_FOUND);
}

void listen_on_late(void *context) {
    struct upstream_instance *instance = context;
    struct watches *watches = &instance->watches;
    if (watches->next == NULL)
        return;
    cancel(watches->next);
    next_failed(instance, UPSTREAM_TIMEOUT, SLICE(WATCH_TIMEOUT), false);
}

bool listen_answer(struct upstream_instance *instance, uint64_t id,
                   const struct mcp_message *message) {
    const struct watches *watches = &instance->watches;
    struct listen *const all[] = {watches->current, watches->next, watches->old};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i] != NULL && all[i]->id == id && !instance_is_http(instance)) {
            answered(all[i], message);
            return true;
        }
    }
    return false;
}

/* Its stream. */

static bool on_garbage(struct listen *listen) {
    if (listen->n_garbage++ < LIMIT_GARBAGE_MESSAGES)
        return false;
    listen->post = post_cancel(listen->post);
    ended(listen, UPSTREAM_FAILED, SLICE("the upstream sends what is no valid message"), false);
    return false;
}

static bool on_message(void *context, struct slice document) {
    struct listen *listen = context;
    struct mcp_message message;
    struct mcp_refusal refusal;
    uint64_t id;
    if (mcp_message_read(listen->instance->worker->home_reader, document, &message, &refusal) != 0)
        return on_garbage(listen);
    switch (message.kind) {
    case MCP_RESULT:
    case MCP_ERROR:
        if (slice_to_u64(message.id, &id) != 0 || id != listen->id)
            return false;
        listen->post = NULL; /* it reads the rest of the stream by itself */
        answered(listen, &message);
        return true;
    case MCP_REQUEST:
        return false; /* it must not ask */
    case MCP_NOTIFICATION:
        listen_news(listen->instance, listen, &message);
        return false;
    }
    return false;
}

/* It does not know the method, or not at this address. */
static bool is_unknown(const struct transport_failure *failure) {
    bool is_status = failure->status == 404 || failure->status == 405 || failure->status == 501;
    return failure->code == MCP_E_METHOD_NOT_FOUND || (is_status && failure->code == 0);
}

static void on_end(void *context, const struct post_end *end) {
    struct listen *listen = context;
    struct upstream_instance *instance = listen->instance;
    char text[HTTP_DESCRIPTION];
    listen->post = NULL;
    struct transport_failure failure = http_failure(instance->worker->home_reader, NULL, end);
    if (failure.error.len != 0)
        ended(listen, UPSTREAM_ERROR, failure.error, is_unknown(&failure));
    else
        ended(listen, UPSTREAM_FAILED, http_describe(instance->upstream, end, false, text),
              is_unknown(&failure));
}

/* With the instance. */

void listen_begin(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    watches->is_refused = watches->is_careful = watches->has_surplus = watches->has_lost = false;
    watches->n_failed = 0;
    watches->retry_at_ms = 0;
    if (instance->catalog->telling == 0)
        watches_lists_live(instance, 0);
    listen_update(instance);
}

void listen_end(struct upstream_instance *instance) {
    struct watches *watches = &instance->watches;
    watches->current = discard(watches->current);
    watches->next = discard(watches->next);
    watches->old = discard(watches->old);
    watches->retry_at_ms = 0;
    io_timer_stop(watches->listen_timer);
    io_timer_stop(watches->ack_timer);
    io_timer_stop(watches->old_timer);
}
