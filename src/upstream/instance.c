/*
 * One instance: a server and the MCP session to it, from the gateway's side as a client.
 *
 *     IDLE -> STARTING (process; probe; initialize; lists) -> READY -> IDLE (nobody used it)
 *                 |     ^-- (HTTP: session lost; SSE: stream ended) --'|
 *                 +------------------> BACKOFF <------------------+   (any failure)
 *
 * BACKOFF ends by itself: it is started again after a pause that doubles.
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
#include "mcp/protocol.h"
#include "private.h"
#include "stdio_child.h"

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

struct slice instance_owner_name(const struct upstream_instance *instance) {
    struct slice owner = instance->owner;
    bool is_session_id = instance->upstream->config->share == CONFIG_SHARE_SESSION &&
                         !slice_starts_with(owner, SLICE(OWNER_IS_PRINCIPAL));
    return is_session_id ? mcp_session_shown(owner) : owner;
}

static void set_state(struct upstream_instance *instance, enum upstream_state state) {
    pthread_mutex_lock(&instance->upstream->mutex);
    instance->state = state;
    upstream_note_change(instance->upstream);
    pthread_mutex_unlock(&instance->upstream->mutex);
    atomic_store(&instance->is_starting, state == UPSTREAM_STARTING);
    if (state != UPSTREAM_READY)
        watches_lost(instance);
    room_stir(&instance->upstream->set->room);
    log_write(instance_log(instance), LOG_DEBUG, "upstream", "state",
              LOG_TEXT("upstream", instance_name(instance)),
              LOG_TEXT("owner", instance_owner_name(instance)),
              LOG_CSTR("state", upstream_state_name(state)));
}

void instance_announce(struct upstream_instance *instance, unsigned list_mask) {
    const struct upstream_hooks *hooks = &instance->upstream->set->options.hooks;
    if (atomic_load(&instance->upstream->is_retired))
        list_mask = 0; /* clients do not see its lists any more */
    if (hooks->on_changed != NULL)
        hooks->on_changed(hooks->context, instance->upstream, instance->owner, list_mask);
}

bool instance_is_http(const struct upstream_instance *instance) {
    return instance->upstream->target != NULL;
}

int instance_send(struct upstream_instance *instance, uint64_t id, enum mcp_method method,
                  bool is_answer, struct buf *line) {
    buf_append_byte(line, '\n');
    int error = buf_error(line);
    struct transport_message message = {
        .id = id, .method = method, .is_answer = is_answer, .line = buf_slice(line)};
    if (error == 0)
        error = instance->transport != NULL
                    ? instance->transport->ops->send(instance->transport, &message)
                    : -EPIPE;
    buf_deinit(line);
    return error;
}

static void send_level(struct upstream_instance *instance);

/*
 * With the lock: an HTTP server has not taken the log level that is wanted. A request would
 * overtake logging/setLevel, and its messages be lost.
 */
static bool lacks_level(const struct upstream_instance *instance) {
    const struct catalog *catalog = instance->catalog;
    return instance->upstream->target != NULL && catalog != NULL && catalog->has_logging &&
           !mcp_revision_is_modern(catalog->revision) && instance->wanted_level >= 0 &&
           instance->wanted_level != instance->told_level;
}

bool instance_takes_calls(struct upstream_instance *instance) {
    pthread_mutex_lock(&instance->upstream->mutex);
    bool lacks = lacks_level(instance);
    pthread_mutex_unlock(&instance->upstream->mutex);
    if (instance->state != UPSTREAM_READY)
        return false;
    if (lacks && instance->level_id == 0)
        send_level(instance);
    return !lacks;
}

void instance_level_told(struct upstream_instance *instance) {
    instance->level_id = 0;
    pthread_mutex_lock(&instance->upstream->mutex);
    instance->told_level = instance->sent_level;
    pthread_mutex_unlock(&instance->upstream->mutex);
    if (instance_takes_calls(instance))
        calls_flush(instance);
}

struct route *instance_route(struct upstream_instance *instance) {
    pthread_mutex_lock(&instance->upstream->mutex);
    bool is_open =
        instance->state == UPSTREAM_READY && instance->route != NULL && !lacks_level(instance);
    struct route *route = is_open ? route_ref(instance->route) : NULL;
    pthread_mutex_unlock(&instance->upstream->mutex);
    return route;
}

static void stop_transport(struct upstream_instance *instance) {
    if (instance->transport != NULL)
        instance->transport->ops->stop(instance->transport);
}

static void kill_transport(struct upstream_instance *instance) {
    if (instance->transport != NULL)
        instance->transport->ops->kill(instance->transport);
}

/* Starting and failing. */

static void start(struct upstream_instance *instance);

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
static void fail(struct upstream_instance *instance, struct slice detail, struct slice for_callers,
                 enum breaker_verdict verdict) {
    struct upstream *upstream = instance->upstream;
    handshake_forget(instance);
    uint64_t delay = next_delay(instance);
    instance->ready_since_ms = 0;
    instance->tries_sse = false;
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
              LOG_TEXT("upstream", instance_name(instance)),
              LOG_TEXT("owner", instance_owner_name(instance)), LOG_TEXT("reason", detail),
              LOG_NUM("retry_ms", delay));
    io_timer_start(instance->retry_timer, delay);
    if (instance->is_refused && upstream_wants_token(upstream))
        instance_refuse_token(instance);
    permit_blame(upstream, verdict, io_loop_now(instance->loop));
    calls_fail_all(instance, for_callers, verdict);
    watches_fail(instance, for_callers);
    instance_announce(instance, was_listed ? UPSTREAM_ALL_LISTS : 0);
}

static void on_retry(void *context) {
    instance_retry_token(context);
    start(context);
}

/*
 * What the end of its transport says of the server, once for all calls that it took with it. An
 * endpoint that is no longer tried says nothing: the calls that could not reach it have.
 */
static enum breaker_verdict verdict_of_end(const struct upstream_instance *instance) {
    if (instance->is_refused) /* or one user without rights would close it for all others */
        return BREAKER_NOTHING;
    if (instance->state == UPSTREAM_STARTING)
        return BREAKER_UNREACHABLE;
    return calls_any_sent(instance) ? BREAKER_FAILED : BREAKER_NOTHING;
}

struct slice instance_refusal(const struct upstream_instance *instance, char *text, size_t size) {
    if (instance->is_closing)
        return SLICE("the upstream is stopping");
    if (instance->state != UPSTREAM_BACKOFF || instance->retry_delay_ms <= PATIENCE_MS)
        return SLICE_EMPTY;
    if (instance->told != NULL)
        return slice_from_cstr(instance->told);
    int len = snprintf(text, size, "the upstream is down; the gateway tries it again every %llu s",
                       (unsigned long long)(instance->retry_delay_ms / 1000));
    return slice_make(text, (size_t)len);
}

void instance_tell(struct upstream_instance *instance, const char *told) {
    pthread_mutex_lock(&instance->upstream->mutex);
    instance->told = told;
    pthread_mutex_unlock(&instance->upstream->mutex);
}

/* Stops a process that has not kept its side; on_gone() finds the reason. */
void instance_give_up(struct upstream_instance *instance, const char *reason) {
    if (instance->complaint[0] == '\0')
        snprintf(instance->complaint, sizeof instance->complaint, "%s", reason);
    kill_transport(instance);
}

static void on_start_timeout(void *context) {
    struct upstream_instance *instance = context;
    if (instance->state == UPSTREAM_READY)
        handshake_lists_late(instance);
    else
        instance_give_up(instance, instance->late_reason != NULL
                                       ? instance->late_reason
                                       : "it was not ready within startup_timeout");
}

static void on_pause_over(void *context) {
    handshake_pause_over(context);
}

static void on_probe_timeout(void *context) {
    struct upstream_instance *instance = context;
    handshake_set_verdict(instance, VERDICT_LEGACY);
    instance->is_reprobe = true;
    kill_transport(instance);
}

void instance_ready(struct upstream_instance *instance) {
    permit_started(instance->upstream);
    io_timer_stop(instance->start_timer);
    instance->ready_since_ms = io_loop_now(instance->loop);
    atomic_store(&instance->last_used_ms, instance->ready_since_ms);
    instance->sent_level = -1;
    instance->level_id = 0;
    pthread_mutex_lock(&instance->upstream->mutex);
    instance->told_level = -1;
    pthread_mutex_unlock(&instance->upstream->mutex);
    set_state(instance, UPSTREAM_READY);
    log_write(instance_log(instance), LOG_INFO, "upstream", "ready",
              LOG_TEXT("upstream", instance_name(instance)),
              LOG_TEXT("owner", instance_owner_name(instance)),
              LOG_TEXT("server", instance->catalog->server_name),
              LOG_TEXT("revision", mcp_revision_name(instance->catalog->revision)),
              LOG_NUM("tools", instance->catalog->lists[MCP_LIST_TOOLS]->n_items));
    instance_tick_soon(instance);
    send_level(instance);
    if (instance_takes_calls(instance))
        calls_flush(instance);
    watches_ready(instance);
}

static void send_level(struct upstream_instance *instance) {
    pthread_mutex_lock(&instance->upstream->mutex);
    int level = instance->wanted_level;
    pthread_mutex_unlock(&instance->upstream->mutex);
    if (instance->state != UPSTREAM_READY || level < 0 || level == instance->sent_level ||
        !instance->catalog->has_logging || mcp_revision_is_modern(instance->catalog->revision))
        return;
    struct buf params = BUF_INIT(KIB(1)), line = BUF_INIT(KIB(2));
    char text[24];
    uint64_t id = upstream_next_id(instance->upstream->set);
    instance->level_id = id;
    int len = snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    buf_printf(&params, "{\"level\":\"%s\"}", mcp_log_level_name(level).ptr);
    mcp_write_request(&line, slice_make(text, (size_t)len), MCP_LOGGING_SET_LEVEL,
                      buf_slice(&params));
    buf_deinit(&params);
    instance->sent_level = level;
    if (instance_send(instance, id, MCP_LOGGING_SET_LEVEL, false, &line) != 0) {
        instance->sent_level = -1;
        instance->level_id = 0; /* nobody is to wait for an answer */
    }
}

/* The transport. */

static void on_started(void *context) {
    struct upstream_instance *instance = context;
    if (instance->is_closing)
        return;
    handshake_begin(instance);
    /* Silence says something about a child only: over HTTP it may be the network's. */
    if (instance->is_probing && !instance_is_http(instance))
        io_timer_start(instance->probe_timer, PROBE_MS);
}

static bool on_message(void *context, uint64_t request, struct slice document) {
    return instance_handle_message(context, request, document);
}

static void on_failed(void *context, uint64_t request, const struct transport_failure *failure) {
    struct upstream_instance *instance = context;
    if (instance->ask != ASK_NOTHING && request == instance->ask_id)
        handshake_failed(instance, failure);
    else if (instance->level_id != 0 && request == instance->level_id)
        instance_level_told(instance); /* asked in vain, but nobody is to wait for it */
    else if (!watches_refused(instance, request, failure) &&
             !calls_refused(instance, request, failure))
        log_write(instance_log(instance), LOG_DEBUG, "upstream", "a request got no answer",
                  LOG_TEXT("upstream", instance_name(instance)),
                  LOG_TEXT("reason", failure->reason));
}

void instance_call_over(struct upstream_instance *instance) {
    if (atomic_fetch_sub(&instance->n_under_way, 1) != 1)
        return;
    room_stir(&instance->upstream->set->room);
    if (atomic_load(&instance->upstream->is_retired))
        instance_close(instance);
}

void instance_renew(struct upstream_instance *instance) {
    if (instance->state != UPSTREAM_READY || instance->is_closing)
        return;
    log_write(instance_log(instance), LOG_INFO, "upstream",
              "the session is gone: opens another one",
              LOG_TEXT("upstream", instance_name(instance)),
              LOG_TEXT("owner", instance_owner_name(instance)));
    handshake_forget(instance);
    instance->transport->ops->agree(instance->transport, MCP_REVISION_NONE);
    instance->is_probing = true; /* it may be another server by now */
    set_state(instance, UPSTREAM_STARTING);
    io_timer_start(instance->start_timer, instance->upstream->config->startup_timeout_ms);
    handshake_begin(instance);
}

static void free_timers(struct upstream_instance *instance) {
    instance->start_timer = io_timer_free(instance->start_timer);
    instance->probe_timer = io_timer_free(instance->probe_timer);
    instance->retry_timer = io_timer_free(instance->retry_timer);
    instance->tick_timer = io_timer_free(instance->tick_timer);
    instance->pause_timer = io_timer_free(instance->pause_timer);
    watches_free_timers(instance);
}

static void finish_closing(struct upstream_instance *instance) {
    handshake_forget(instance);
    free_timers(instance);
    instance_drop_token(instance);
    set_state(instance, UPSTREAM_CLOSED);
    set_instance_closed(instance->upstream->set, instance);
    if ((atomic_load(&instance->n_under_way) & ROOM_CLAIMED) != 0)
        instance_announce(instance, 0); /* whoever waits for it waits for the next one */
    upstream_instance_unref(instance);  /* its own: it lives until it is closed */
}

/* What callers hear. A limit of ours is theirs to know; what else is wrong with it is the
 * operator's business. */
static struct slice describe_end(const struct upstream_instance *instance, struct slice reason,
                                 char *text, size_t size) {
    bool is_limit = slice_find(reason, SLICE("max_message")) != SIZE_MAX;
    if (instance->told != NULL)
        return slice_from_cstr(instance->told);
    if (instance->state != UPSTREAM_READY)
        return SLICE("the upstream did not start; the gateway tries it again");
    bool is_http = instance_is_http(instance);
    int len = snprintf(text, size,
                       "the %s before it answered%s%.*s; the call may have been carried out%s",
                       is_http ? "connection to the upstream ended" : "upstream stopped",
                       is_limit ? ": " : "", is_limit ? (int)reason.len : 0, reason.ptr,
                       is_http ? "" : "; the upstream is being started again");
    return slice_make(text, size_min((size_t)len, size - 1));
}

/* How a child ended says more; an HTTP session was ended by us, and why has been said. */
static struct slice say_end(const struct upstream_instance *instance, struct slice reason,
                            char *text, size_t size) {
    const char *complaint = instance->complaint;
    bool is_told = complaint[0] != '\0';
    bool is_tried = instance->tries_sse && instance->state == UPSTREAM_STARTING;
    if (is_told && instance_is_http(instance))
        reason = SLICE_EMPTY;
    int len = snprintf(text, size, "%s%s%s%s%.*s", is_tried ? instance->refusal : "",
                       is_tried ? "; as HTTP+SSE: " : "", complaint,
                       is_told && reason.len != 0 ? ": " : "", SLICE_ARGS(reason));
    return slice_make(text, size_min((size_t)len, size - 1));
}

/*
 * The stream of a session that served for a while has ended: proxies end those that are silent, and
 * servers do when they are started again. Another one is opened at once, and the items stay listed.
 */
static bool can_reopen(const struct upstream_instance *instance) {
    return instance->kind == TRANSPORT_SSE && instance->state == UPSTREAM_READY &&
           instance->complaint[0] == '\0' &&
           io_loop_now(instance->loop) - instance->ready_since_ms >= STABLE_MS;
}

static void reopen(struct upstream_instance *instance, struct slice text) {
    char told[DETAIL * 3];
    enum breaker_verdict verdict = verdict_of_end(instance);
    log_write(instance_log(instance), LOG_INFO, "upstream",
              "the session is gone: opens another one",
              LOG_TEXT("upstream", instance_name(instance)),
              LOG_TEXT("owner", instance_owner_name(instance)), LOG_TEXT("reason", text));
    handshake_forget(instance);
    permit_blame(instance->upstream, verdict, io_loop_now(instance->loop));
    calls_fail_all(instance, describe_end(instance, text, told, sizeof told), verdict);
    start(instance);
}

static void on_gone(void *context, struct slice reason) {
    struct upstream_instance *instance = context;
    char detail[DETAIL * 2];
    bool is_http = instance_is_http(instance);
    struct slice text = say_end(instance, reason, detail, sizeof detail);
    instance->transport->ops->free(TAKE(instance->transport));
    give_slot_back(instance);
    if (instance->is_closing) {
        calls_fail_all(instance, SLICE("the upstream is stopping"), BREAKER_NOTHING);
        finish_closing(instance);
        return;
    }
    bool ended_by_probe = instance->is_probing && instance->state == UPSTREAM_STARTING && !is_http;
    if (instance->is_reprobe || ended_by_probe) {
        if (instance->is_probing)
            handshake_set_verdict(instance, VERDICT_LEGACY);
        instance->is_reprobe = false;
        io_timer_stop(instance->probe_timer);
        start(instance);
        return;
    }
    if (can_reopen(instance)) {
        reopen(instance, text);
        return;
    }
    if (instance->is_stopping_idle) {
        instance->is_stopping_idle = false;
        handshake_forget(instance);
        set_state(instance, UPSTREAM_IDLE);
        if (instance->n_calls != 0 || watches_any(instance))
            instance_wake(instance);
        else
            instance_drop_token(instance);
        return;
    }
    char told[DETAIL * 3];
    fail(instance, text, describe_end(instance, text, told, sizeof told), verdict_of_end(instance));
}

/* Nobody has brought a token so far, or not a newer one: it waits for that. */
static void wait_for_token(struct upstream_instance *instance, bool was_waiting) {
    calls_fail_all(instance, SLICE(LACKS_TOKEN), BREAKER_NOTHING);
    watches_fail(instance, SLICE(LACKS_TOKEN));
    if (instance->state != UPSTREAM_IDLE)
        set_state(instance, UPSTREAM_IDLE);
    if (!was_waiting)
        instance_announce(instance, 0); /* whoever waits for it need not */
}

/* Streamable HTTP goes first where nobody has said what it is (MCP 2025-11-25, basic/transports,
 * backwards compatibility). */
static enum transport_kind kind_to_start(const struct upstream_instance *instance) {
    const struct upstream *upstream = instance->upstream;
    if (upstream->target == NULL)
        return TRANSPORT_CHILD;
    bool is_sse = upstream->config->protocol == CONFIG_PROTOCOL_SSE || instance->tries_sse;
    return is_sse ? TRANSPORT_SSE : TRANSPORT_STREAMABLE;
}

static int start_transport(struct upstream_instance *instance, const char **ret_reason) {
    static const struct transport_events events = {
        .on_started = on_started,
        .on_message = on_message,
        .on_failed = on_failed,
        .on_gone = on_gone,
    };
    struct upstream *upstream = instance->upstream;
    switch (instance->kind) {
    case TRANSPORT_CHILD:
        return stdio_start(upstream->set->children, upstream->config, instance->loop,
                           instance_log(instance), &events, instance, &instance->transport,
                           ret_reason);
    case TRANSPORT_STREAMABLE:
        return http_session_start(instance, &events, &instance->transport, ret_reason);
    case TRANSPORT_SSE:
        return sse_session_start(instance, &events, &instance->transport, ret_reason);
    }
    return -EINVAL;
}

static void start(struct upstream_instance *instance) {
    struct upstream *upstream = instance->upstream;
    const char *reason = "";
    char detail[DETAIL];
    bool was_waiting = atomic_load(&instance->waits_for_token);
    if (instance_lacks_token(instance)) {
        wait_for_token(instance, was_waiting);
        return;
    }
    if (instance->first_started_ms == 0 || instance->state == UPSTREAM_IDLE) {
        pthread_mutex_lock(&upstream->mutex);
        instance->first_started_ms = io_loop_now(instance->loop);
        upstream_note_change(upstream);
        pthread_mutex_unlock(&upstream->mutex);
    }
    if (mem_is_short()) {
        fail(instance, SLICE("the gateway is out of memory"),
             SLICE("the gateway is out of memory and cannot start this upstream; it tries again"),
             BREAKER_NOTHING);
        return;
    }
    if (!take_slot(instance)) {
        fail(instance, SLICE("max_instances of it run already"),
             SLICE("too many instances of this upstream run (max_instances); try again later"),
             BREAKER_NOTHING);
        return;
    }
    pthread_mutex_lock(&upstream->mutex);
    instance->kind = kind_to_start(instance);
    /* A child's verdict costs a process to find, an endpoint's one request; and HTTP+SSE is of the
     * era before. */
    instance->is_probing =
        instance->kind == TRANSPORT_STREAMABLE ||
        (instance->kind == TRANSPORT_CHILD && upstream->verdict == VERDICT_UNKNOWN);
    pthread_mutex_unlock(&upstream->mutex);
    instance->n_garbage = 0;
    instance->complaint[0] = '\0';
    instance->is_refused = false;
    instance_tell(instance, NULL);
    atomic_store(&instance->unreachable_generation, 0);
    set_state(instance, UPSTREAM_STARTING);
    io_timer_start(instance->start_timer, upstream->config->startup_timeout_ms);
    int error = start_transport(instance, &reason);
    if (error != 0) {
        give_slot_back(instance);
        int len = snprintf(detail, sizeof detail, "%s: %s", reason, strerror(-error));
        /* It never got as far as the server. */
        fail(instance, slice_make(detail, size_min((size_t)len, sizeof detail - 1)),
             SLICE("the upstream did not start; the gateway tries it again"), BREAKER_NOTHING);
    }
}

void instance_try_sse(struct upstream_instance *instance, struct slice reason) {
    snprintf(instance->refusal, sizeof instance->refusal, "%.*s", SLICE_ARGS(reason));
    instance->tries_sse = true;
    instance->is_reprobe = true;
    kill_transport(instance);
}

void instance_rest(struct upstream_instance *instance, struct slice reason) {
    calls_fail_all(instance, reason, BREAKER_NOTHING);
    instance->is_stopping_idle = true;
    set_state(instance, UPSTREAM_STOPPING);
    stop_transport(instance);
}

void instance_wake(struct upstream_instance *instance) {
    if (instance->state == UPSTREAM_IDLE && !instance->is_closing)
        start(instance);
}

void instance_start_now(struct upstream_instance *instance) {
    if (instance->state == UPSTREAM_BACKOFF && !instance->is_closing) {
        io_timer_stop(instance->retry_timer);
        start(instance);
    } else {
        instance_wake(instance);
    }
}

/* The timer may run already, but for the idleness that is minutes away. */
void instance_tick_soon(struct upstream_instance *instance) {
    if (instance->ticks_for_calls)
        return;
    instance->ticks_for_calls = true;
    io_timer_start(instance->tick_timer, 1000);
}

/* Time: calls that wait too long while there are any, idleness when there are none. */
static void on_tick(void *context) {
    struct upstream_instance *instance = context;
    uint64_t now = io_loop_now(instance->loop);
    uint64_t idle_timeout = instance->upstream->config->idle_timeout_ms;
    instance->ticks_for_calls = false;
    if (calls_check_time(instance, now)) {
        instance_tick_soon(instance);
        return;
    }
    if (instance->state != UPSTREAM_READY || idle_timeout == 0)
        return;
    uint64_t last_used = atomic_load(&instance->last_used_ms);
    if (atomic_load(&instance->n_direct) != 0 || watches_any(instance))
        last_used = now;
    uint64_t idle = now > last_used ? now - last_used : 0;
    if (idle < idle_timeout) {
        io_timer_start(instance->tick_timer, idle_timeout - idle);
        return;
    }
    log_write(instance_log(instance), LOG_INFO, "upstream",
              "stops: nobody used it for idle_timeout",
              LOG_TEXT("upstream", instance_name(instance)),
              LOG_TEXT("owner", instance_owner_name(instance)));
    instance_rest(instance, SLICE("the upstream is stopping"));
}

/* Messages from other threads. */

static void deliver_start(struct io_message *message) {
    struct upstream_instance *instance =
        CONTAINER_OF(message, struct upstream_instance, start_message);
    atomic_store(&instance->start_posted, false);
    if (instance->is_refused) /* here is another token */
        instance_start_now(instance);
    else
        instance_wake(instance);
    room_stir(&instance->upstream->set->room);
    handshake_pause_over(instance); /* lists that waited for a token */
    upstream_instance_unref(instance);
}

void upstream_instance_start(struct upstream_instance *instance) {
    if (atomic_exchange(&instance->start_posted, true))
        return;
    upstream_instance_ref(instance);
    io_loop_post(instance->loop, &instance->start_message);
}

/* No call tries it any more until it was started again. */
static void close_unreachable(struct upstream_instance *instance) {
    set_state(instance, UPSTREAM_STOPPING);
    instance_give_up(instance, "it cannot be reached");
}

/* What calls learned on their workers, and lists that somebody wants anew. */
static void deliver_report(struct io_message *message) {
    struct upstream_instance *instance =
        CONTAINER_OF(message, struct upstream_instance, refresh_message);
    atomic_store(&instance->refresh_posted, false);
    uint64_t lost = atomic_exchange(&instance->lost_generation, 0);
    uint64_t unreachable = atomic_exchange(&instance->unreachable_generation, 0);
    uint64_t current = instance->route != NULL ? instance->route->generation : 0;
    unsigned changed = atomic_exchange(&instance->changes_heard, 0);
    unsigned wanted = atomic_exchange(&instance->refresh_wanted, 0);
    if (instance->state == UPSTREAM_READY && !instance->is_closing) {
        if (lost != 0 && lost == current)
            instance_renew(instance);
        else if (unreachable != 0 && unreachable == current)
            close_unreachable(instance);
        handshake_lists_changed(instance, changed, true);
        handshake_lists_changed(instance, wanted & ~changed, false);
    }
    upstream_instance_unref(instance);
}

void instance_report(struct upstream_instance *instance) {
    if (atomic_exchange(&instance->refresh_posted, true))
        return;
    upstream_instance_ref(instance);
    io_loop_post(instance->loop, &instance->refresh_message);
}

void upstream_instance_refresh(struct upstream_instance *instance, unsigned list_mask) {
    atomic_fetch_or(&instance->refresh_wanted, list_mask);
    instance_report(instance);
}

static void deliver_look(struct io_message *message) {
    struct upstream_instance *instance =
        CONTAINER_OF(message, struct upstream_instance, look_message);
    atomic_store(&instance->look_posted, false);
    calls_look_at_waiting(instance);
    upstream_instance_unref(instance);
}

void instance_look_at_waiting(struct upstream_instance *instance) {
    if (atomic_exchange(&instance->look_posted, true))
        return;
    upstream_instance_ref(instance);
    io_loop_post(instance->loop, &instance->look_message);
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
    upstream_instance_ref(instance);
    io_loop_post(instance->loop, &instance->level_message);
}

static void deliver_close(struct io_message *message) {
    struct upstream_instance *instance =
        CONTAINER_OF(message, struct upstream_instance, close_message);
    instance->is_closing = true;
    io_timer_stop(instance->retry_timer);
    io_timer_stop(instance->tick_timer);
    watches_close(instance);
    if (instance->transport != NULL) {
        set_state(instance, UPSTREAM_STOPPING);
        stop_transport(instance);
    } else {
        calls_fail_all(instance, SLICE("the upstream is stopping"), BREAKER_NOTHING);
        finish_closing(instance);
    }
    upstream_instance_unref(instance);
}

void instance_close(struct upstream_instance *instance) {
    if (atomic_exchange(&instance->close_posted, true))
        return;
    upstream_instance_ref(instance);
    io_loop_post(instance->loop, &instance->close_message);
}

static void deliver_kill(struct io_message *message) {
    struct upstream_instance *instance =
        CONTAINER_OF(message, struct upstream_instance, kill_message);
    kill_transport(instance);
    upstream_instance_unref(instance);
}

void instance_kill(struct upstream_instance *instance) {
    if (atomic_exchange(&instance->kill_posted, true))
        return;
    upstream_instance_ref(instance);
    io_loop_post(instance->loop, &instance->kill_message);
}

/* Birth and death. */

static unsigned digit(char c) {
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void read_key(struct upstream_instance *instance) {
    struct slice key = instance->key;
    const char *mark = key.ptr + key.len - OWNER_MARK_CHARS;
    instance->owner = slice_sub(key, 0, key.len - OWNER_MARK_CHARS);
    instance->capabilities = digit(mark[1]) << 4 | digit(mark[2]);
}

struct upstream_instance *instance_new(struct upstream *upstream, struct slice key,
                                       struct upstream_worker *worker) {
    struct io_loop *loop = worker->loop;
    /* "NAME key": a name holds no space. */
    struct slice name = upstream->config->name;
    struct upstream_instance *instance = mem_alloc(sizeof *instance);
    char *text = mem_alloc(name.len + 1 + key.len);
    if (instance == NULL || text == NULL) {
        mem_free(instance);
        mem_free(text);
        return NULL;
    }
    memcpy(text, name.ptr, name.len);
    text[name.len] = ' ';
    memcpy(text + name.len + 1, key.ptr, key.len);
    atomic_init(&instance->refs, 2); /* the caller's and its own */
    instance->upstream = upstream_ref(upstream);
    instance->partition = slice_make(text, name.len + 1 + key.len);
    instance->key = slice_from(instance->partition, name.len + 1);
    read_key(instance);
    instance->worker = worker;
    instance->loop = loop;
    atomic_init(&instance->last_used_ms, io_loop_now(loop));
    instance->is_first_start = true;
    instance->wanted_level = instance->sent_level = instance->told_level = -1;
    instance->start_message.deliver = deliver_start;
    instance->level_message.deliver = deliver_level;
    instance->close_message.deliver = deliver_close;
    instance->kill_message.deliver = deliver_kill;
    instance->refresh_message.deliver = deliver_report;
    instance->look_message.deliver = deliver_look;
    list_init(&instance->calls);
    list_init(&instance->askable);
    map_init(&instance->pending);
    instance->start_timer = io_timer_new(loop, on_start_timeout, instance);
    instance->probe_timer = io_timer_new(loop, on_probe_timeout, instance);
    instance->retry_timer = io_timer_new(loop, on_retry, instance);
    instance->tick_timer = io_timer_new(loop, on_tick, instance);
    instance->pause_timer = io_timer_new(loop, on_pause_over, instance);
    watches_init(instance);
    return instance;
}

struct upstream_instance *instance_discard(struct upstream_instance *instance) {
    free_timers(instance);
    upstream_instance_unref(instance);
    return upstream_instance_unref(instance);
}

struct upstream_instance *upstream_instance_ref(struct upstream_instance *instance) {
    atomic_fetch_add(&instance->refs, 1);
    return instance;
}

struct upstream_instance *upstream_instance_unref(struct upstream_instance *instance) {
    if (instance != NULL && atomic_fetch_sub(&instance->refs, 1) == 1) {
        catalog_unref(instance->catalog);
        map_deinit(&instance->pending);
        union {
            const char *in;
            char *out;
        } text = {.in = instance->partition.ptr};
        mem_free(text.out);
        route_unref(instance->route);
        oauth_token_unref(instance->token);
        oauth_token_unref(instance->refused_token);
        oauth_token_unref(instance->tried_token);
        upstream_unref(instance->upstream);
        mem_free(instance);
    }
    return NULL;
}
