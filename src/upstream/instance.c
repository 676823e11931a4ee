/*
 * One instance: a child and the MCP session to it, from the gateway's side as a client.
 *
 *     IDLE -> STARTING (process; probe; initialize; lists) -> READY -> IDLE (nobody used it)
 *                 |                                             |
 *                 +------------------> BACKOFF <----------------+   (any failure)
 *
 * BACKOFF ends by itself: the process is started again after a pause that doubles.
 */
#include <errno.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/checked.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/random.h"
#include "json/writer.h"
#include "mcp/message.h"
#include "set_private.h"

enum {
    PROBE_MS = 2000,
    STABLE_MS = 10000,  /* ready for so long: the next failure starts with the first delay again */
    PATIENCE_MS = 2000, /* a call waits for a restart that comes sooner */
    DETAIL = 160,
};

struct log *instance_log(const struct upstream_instance *instance) {
    return instance->upstream->set->options.log;
}

struct slice instance_name(const struct upstream_instance *instance) {
    return instance->upstream->config->name;
}

static void set_state(struct upstream_instance *instance, enum upstream_state state) {
    pthread_mutex_lock(&instance->upstream->mutex);
    instance->state = state;
    pthread_mutex_unlock(&instance->upstream->mutex);
    log_write(instance_log(instance), LOG_DEBUG, "upstream", "state",
              LOG_TEXT("upstream", instance_name(instance)), LOG_TEXT("owner", instance->owner),
              LOG_CSTR("state", upstream_state_name(state)));
}

void instance_announce(struct upstream_instance *instance, unsigned list_mask) {
    const struct upstream_hooks *hooks = &instance->upstream->set->options.hooks;
    if (hooks->on_changed != NULL)
        hooks->on_changed(hooks->context, instance->upstream, instance->owner, list_mask);
}

int instance_send_line(struct upstream_instance *instance, struct buf *line) {
    buf_append_byte(line, '\n');
    int error = buf_error(line);
    if (error == 0)
        error = instance->child != NULL ? stdio_write(instance->child, buf_slice(line)) : -EPIPE;
    buf_deinit(line);
    return error;
}

/* Starting and failing. */

static void start_child(struct upstream_instance *instance);

static bool take_slot(struct upstream_instance *instance) {
    struct upstream *upstream = instance->upstream;
    pthread_mutex_lock(&upstream->mutex);
    bool has_room = upstream->n_running < upstream->config->max_instances;
    upstream->n_running += has_room ? 1 : 0;
    pthread_mutex_unlock(&upstream->mutex);
    instance->has_slot = has_room;
    return has_room;
}

static void give_slot_back(struct upstream_instance *instance) {
    if (!instance->has_slot)
        return;
    pthread_mutex_lock(&instance->upstream->mutex);
    instance->upstream->n_running--;
    pthread_mutex_unlock(&instance->upstream->mutex);
    instance->has_slot = false;
}

static uint64_t next_delay(struct upstream_instance *instance) {
    const struct config_server *config = instance->upstream->config;
    uint64_t now = io_loop_now(instance->loop);
    bool was_stable = instance->ready_since_ms != 0 && now - instance->ready_since_ms >= STABLE_MS;
    if (instance->retry_delay_ms == 0 || was_stable)
        instance->retry_delay_ms = config->restart_initial_ms;
    else
        instance->retry_delay_ms = instance->retry_delay_ms * 2 < config->restart_max_ms
                                       ? instance->retry_delay_ms * 2
                                       : config->restart_max_ms;
    /* Jitter of a quarter either way, so that what fell together does not rise together. */
    uint64_t quarter = instance->retry_delay_ms / 4;
    return instance->retry_delay_ms - quarter + random_below(2 * quarter + 1);
}

/* The instance is down: tell callers, take its items off the lists, try again later. */
static void fail(struct upstream_instance *instance, struct slice detail,
                 struct slice for_callers) {
    struct upstream *upstream = instance->upstream;
    handshake_forget(instance);
    uint64_t delay = next_delay(instance);
    instance->ready_since_ms = 0;
    pthread_mutex_lock(&upstream->mutex);
    bool was_listed = instance->is_listed;
    instance->is_listed = false;
    instance->is_first_start = false;
    struct slice cut = slice_sub(detail, 0, sizeof instance->error - 1);
    memcpy(instance->error, cut.ptr, cut.len);
    instance->error[cut.len] = '\0';
    pthread_mutex_unlock(&upstream->mutex);
    set_state(instance, UPSTREAM_BACKOFF);
    log_write(instance_log(instance), LOG_WARN, "upstream", "is down",
              LOG_TEXT("upstream", instance_name(instance)), LOG_TEXT("owner", instance->owner),
              LOG_TEXT("reason", detail), LOG_NUM("retry_ms", delay));
    io_timer_start(instance->retry_timer, delay);
    calls_fail_all(instance, for_callers);
    instance_announce(instance, was_listed ? UPSTREAM_ALL_LISTS : 0);
}

static void on_retry(void *context) {
    start_child(context);
}

struct slice instance_refusal(const struct upstream_instance *instance, char *text, size_t size) {
    if (instance->is_closing)
        return SLICE("the upstream is stopping");
    if (instance->state != UPSTREAM_BACKOFF || instance->retry_delay_ms <= PATIENCE_MS)
        return SLICE_EMPTY;
    int len = snprintf(text, size, "the upstream is down; the gateway tries it again every %llu s",
                       (unsigned long long)(instance->retry_delay_ms / 1000));
    return slice_make(text, (size_t)len);
}

/* Stops a process that has not kept its side; on_gone() finds the reason. */
void instance_give_up(struct upstream_instance *instance, const char *reason) {
    instance->complaint = reason;
    if (instance->child != NULL)
        stdio_kill(instance->child);
}

static void on_start_timeout(void *context) {
    struct upstream_instance *instance = context;
    if (instance->state == UPSTREAM_READY)
        handshake_lists_late(instance);
    else
        instance_give_up(instance, "it was not ready within startup_timeout");
}

static void on_probe_timeout(void *context) {
    struct upstream_instance *instance = context;
    handshake_set_verdict(instance, VERDICT_LEGACY);
    instance->is_reprobe = true;
    if (instance->child != NULL)
        stdio_kill(instance->child);
}

static void send_level(struct upstream_instance *instance);

void instance_ready(struct upstream_instance *instance) {
    io_timer_stop(instance->start_timer);
    instance->ready_since_ms = instance->last_used_ms = io_loop_now(instance->loop);
    instance->sent_level = -1;
    set_state(instance, UPSTREAM_READY);
    log_write(instance_log(instance), LOG_INFO, "upstream", "ready",
              LOG_TEXT("upstream", instance_name(instance)), LOG_TEXT("owner", instance->owner),
              LOG_TEXT("server", instance->catalog->server_name),
              LOG_TEXT("revision", mcp_revision_name(instance->catalog->revision)),
              LOG_NUM("tools", instance->catalog->lists[MCP_LIST_TOOLS]->n_items));
    if (!io_timer_is_running(instance->tick_timer))
        io_timer_start(instance->tick_timer, 1000);
    send_level(instance);
    calls_flush(instance);
}

static void send_level(struct upstream_instance *instance) {
    pthread_mutex_lock(&instance->upstream->mutex);
    int level = instance->wanted_level;
    pthread_mutex_unlock(&instance->upstream->mutex);
    if (instance->state != UPSTREAM_READY || level < 0 || level == instance->sent_level ||
        !instance->catalog->has_logging)
        return;
    struct buf params = BUF_INIT(KIB(1)), line = BUF_INIT(KIB(2));
    char id[24];
    int len = snprintf(id, sizeof id, "%llu",
                       (unsigned long long)upstream_next_id(instance->upstream->set));
    buf_printf(&params, "{\"level\":\"%s\"}", mcp_log_level_name(level).ptr);
    mcp_write_request(&line, slice_make(id, (size_t)len), MCP_LOGGING_SET_LEVEL,
                      buf_slice(&params));
    buf_deinit(&params);
    if (instance_send_line(instance, &line) == 0)
        instance->sent_level = level;
}

/* The process. */

static void on_started(void *context) {
    struct upstream_instance *instance = context;
    if (instance->is_closing)
        return;
    handshake_begin(instance);
    if (instance->is_probing)
        io_timer_start(instance->probe_timer, PROBE_MS);
}

static void on_line(void *context, struct slice line) {
    instance_handle_line(context, line);
}

static void finish_closing(struct upstream_instance *instance) {
    handshake_forget(instance);
    io_timer_free(instance->start_timer);
    io_timer_free(instance->probe_timer);
    io_timer_free(instance->retry_timer);
    io_timer_free(instance->tick_timer);
    instance->start_timer = instance->probe_timer = NULL;
    instance->retry_timer = instance->tick_timer = NULL;
    set_state(instance, UPSTREAM_CLOSED);
    set_instance_closed(instance->upstream->set);
    upstream_instance_unref(instance); /* its own: it lives until it is closed */
}

static void on_gone(void *context, struct slice reason) {
    struct upstream_instance *instance = context;
    char detail[DETAIL * 2];
    const char *complaint = instance->complaint;
    int len = snprintf(detail, sizeof detail, "%s%s%.*s", complaint != NULL ? complaint : "",
                       complaint != NULL ? ": " : "", SLICE_ARGS(reason));
    struct slice text = slice_make(detail, size_min((size_t)len, sizeof detail - 1));
    instance->child = stdio_free(instance->child);
    give_slot_back(instance);
    if (instance->is_closing) {
        calls_fail_all(instance, SLICE("the upstream is stopping"));
        finish_closing(instance);
        return;
    }
    if (instance->is_reprobe || (instance->is_probing && instance->state == UPSTREAM_STARTING)) {
        if (instance->is_probing)
            handshake_set_verdict(instance, VERDICT_LEGACY);
        instance->is_reprobe = false;
        io_timer_stop(instance->probe_timer);
        start_child(instance);
        return;
    }
    if (instance->is_stopping_idle) {
        instance->is_stopping_idle = false;
        handshake_forget(instance);
        set_state(instance, UPSTREAM_IDLE);
        if (instance->n_calls != 0)
            instance_wake(instance);
        return;
    }
    bool was_ready = instance->state == UPSTREAM_READY;
    fail(instance, text,
         was_ready ? SLICE("the upstream stopped before it answered; it is being started again")
                   : SLICE("the upstream did not start; the gateway tries it again"));
}

static void start_child(struct upstream_instance *instance) {
    static const struct stdio_events events = {
        .on_started = on_started,
        .on_line = on_line,
        .on_gone = on_gone,
    };
    struct upstream *upstream = instance->upstream;
    const char *reason = "";
    char detail[DETAIL];
    if (instance->first_started_ms == 0 || instance->state == UPSTREAM_IDLE) {
        pthread_mutex_lock(&upstream->mutex);
        instance->first_started_ms = io_loop_now(instance->loop);
        pthread_mutex_unlock(&upstream->mutex);
    }
    if (!take_slot(instance)) {
        fail(instance, SLICE("max_instances of it run already"),
             SLICE("too many instances of this upstream run (max_instances); try again later"));
        return;
    }
    pthread_mutex_lock(&upstream->mutex);
    instance->is_probing = upstream->verdict == VERDICT_UNKNOWN;
    pthread_mutex_unlock(&upstream->mutex);
    instance->n_garbage = 0;
    instance->complaint = NULL;
    set_state(instance, UPSTREAM_STARTING);
    io_timer_start(instance->start_timer, upstream->config->startup_timeout_ms);
    int error = stdio_start(upstream->set->children, upstream->config, instance->loop,
                            instance_log(instance), &events, instance, &instance->child, &reason);
    if (error != 0) {
        give_slot_back(instance);
        int len = snprintf(detail, sizeof detail, "%s: %s", reason, strerror(-error));
        fail(instance, slice_make(detail, size_min((size_t)len, sizeof detail - 1)),
             SLICE("the upstream did not start; the gateway tries it again"));
    }
}

void instance_wake(struct upstream_instance *instance) {
    if (instance->state == UPSTREAM_IDLE && !instance->is_closing)
        start_child(instance);
}

/* Time: calls that wait too long while there are any, idleness when there are none. */
static void on_tick(void *context) {
    struct upstream_instance *instance = context;
    uint64_t now = io_loop_now(instance->loop);
    uint64_t idle_timeout = instance->upstream->config->idle_timeout_ms;
    if (calls_check_time(instance, now)) {
        io_timer_start(instance->tick_timer, 1000);
        return;
    }
    if (instance->state != UPSTREAM_READY || idle_timeout == 0)
        return;
    uint64_t idle = now - instance->last_used_ms;
    if (idle < idle_timeout) {
        io_timer_start(instance->tick_timer, idle_timeout - idle);
        return;
    }
    log_write(instance_log(instance), LOG_INFO, "upstream",
              "stops: nobody used it for idle_timeout",
              LOG_TEXT("upstream", instance_name(instance)), LOG_TEXT("owner", instance->owner));
    instance->is_stopping_idle = true;
    set_state(instance, UPSTREAM_STOPPING);
    stdio_stop(instance->child);
}

/* Messages from other threads. */

static void deliver_start(struct io_message *message) {
    struct upstream_instance *instance =
        CONTAINER_OF(message, struct upstream_instance, start_message);
    atomic_store(&instance->start_posted, false);
    instance_wake(instance);
    upstream_instance_unref(instance);
}

void upstream_instance_start(struct upstream_instance *instance) {
    if (atomic_exchange(&instance->start_posted, true))
        return;
    instance_ref(instance);
    io_loop_post(instance->loop, &instance->start_message);
}

static void deliver_level(struct io_message *message) {
    struct upstream_instance *instance =
        CONTAINER_OF(message, struct upstream_instance, level_message);
    atomic_store(&instance->level_posted, false);
    send_level(instance);
    upstream_instance_unref(instance);
}

void upstream_instance_set_log_level(struct upstream_instance *instance, int level) {
    pthread_mutex_lock(&instance->upstream->mutex);
    bool changes = instance->wanted_level != level;
    instance->wanted_level = level;
    pthread_mutex_unlock(&instance->upstream->mutex);
    if (!changes || atomic_exchange(&instance->level_posted, true))
        return;
    instance_ref(instance);
    io_loop_post(instance->loop, &instance->level_message);
}

static void deliver_close(struct io_message *message) {
    struct upstream_instance *instance =
        CONTAINER_OF(message, struct upstream_instance, close_message);
    instance->is_closing = true;
    io_timer_stop(instance->retry_timer);
    io_timer_stop(instance->tick_timer);
    if (instance->child != NULL) {
        set_state(instance, UPSTREAM_STOPPING);
        stdio_stop(instance->child);
    } else {
        calls_fail_all(instance, SLICE("the upstream is stopping"));
        finish_closing(instance);
    }
    upstream_instance_unref(instance);
}

void instance_close(struct upstream_instance *instance) {
    if (atomic_exchange(&instance->close_posted, true))
        return;
    instance_ref(instance);
    io_loop_post(instance->loop, &instance->close_message);
}

/* Birth and death. */

struct upstream_instance *instance_new(struct upstream *upstream, struct slice owner,
                                       struct io_loop *loop) {
    struct upstream_instance *instance = mem_xalloc(sizeof *instance);
    char *text = mem_xalloc(owner.len + 1);
    if (owner.len != 0)
        memcpy(text, owner.ptr, owner.len);
    atomic_init(&instance->refs, 2); /* the caller's and its own */
    instance->upstream = upstream;
    instance->owner = slice_make(text, owner.len);
    instance->loop = loop;
    instance->is_first_start = true;
    instance->wanted_level = instance->sent_level = -1;
    instance->start_message.deliver = deliver_start;
    instance->level_message.deliver = deliver_level;
    instance->close_message.deliver = deliver_close;
    list_init(&instance->calls);
    map_init(&instance->pending);
    instance->start_timer = io_timer_new(loop, on_start_timeout, instance);
    instance->probe_timer = io_timer_new(loop, on_probe_timeout, instance);
    instance->retry_timer = io_timer_new(loop, on_retry, instance);
    instance->tick_timer = io_timer_new(loop, on_tick, instance);
    if (json_reader_new(&instance->reader) != 0)
        mem_exhausted(sizeof *instance);
    return instance;
}

struct upstream_instance *instance_ref(struct upstream_instance *instance) {
    atomic_fetch_add(&instance->refs, 1);
    return instance;
}

struct upstream_instance *upstream_instance_unref(struct upstream_instance *instance) {
    if (instance != NULL && atomic_fetch_sub(&instance->refs, 1) == 1) {
        catalog_unref(instance->catalog);
        json_reader_free(instance->reader);
        map_deinit(&instance->pending);
        union {
            const char *in;
            char *out;
        } owner = {.in = instance->owner.ptr};
        mem_free(owner.out);
        mem_free(instance);
    }
    return NULL;
}
