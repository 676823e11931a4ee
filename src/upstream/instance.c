/*
 * One instance: a child and the MCP session to it, from the gateway's side as a client.
 *
 *     IDLE -> STARTING (process; probe; initialize; lists) -> READY -> IDLE (nobody used it)
 *                 |                                             |
 *                 +------------------> BACKOFF <----------------+   (any failure; starts again by
 * itself)
 *
 * The probe: a server of 2026-07-28 answers server/discover; one that answers with an error is
 * legacy and goes on with initialize in the same process; one that exits or stays silent for two
 * seconds is started again as legacy. The verdict is kept with the upstream. (MCP 2026-07-28,
 * basic/transports/stdio, backward compatibility.)
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
    MAX_GARBAGE = 1000, /* lines that are no messages, in a process's life */
    DETAIL = 160,
};

static struct log *log_of(const struct upstream_instance *instance) {
    return instance->upstream->set->options.log;
}

static struct slice name_of(const struct upstream_instance *instance) {
    return instance->upstream->config->name;
}

static void set_state(struct upstream_instance *instance, enum upstream_state state) {
    pthread_mutex_lock(&instance->upstream->mutex);
    instance->state = state;
    pthread_mutex_unlock(&instance->upstream->mutex);
    log_write(log_of(instance), LOG_DEBUG, "upstream", "state",
              LOG_TEXT("upstream", name_of(instance)), LOG_TEXT("owner", instance->owner),
              LOG_CSTR("state", upstream_state_name(state)));
}

static void announce(struct upstream_instance *instance, unsigned list_mask) {
    const struct upstream_hooks *hooks = &instance->upstream->set->options.hooks;
    if (hooks->on_changed != NULL)
        hooks->on_changed(hooks->context, instance->upstream, instance->owner, list_mask);
}

/* Sending. */

static int send_line(struct upstream_instance *instance, struct buf *line) {
    buf_append_byte(line, '\n');
    int error = buf_error(line);
    if (error == 0)
        error = instance->child != NULL ? stdio_write(instance->child, buf_slice(line)) : -EPIPE;
    buf_deinit(line);
    return error;
}

static void ask_server(struct upstream_instance *instance, enum ask ask, enum mcp_method method,
                       struct slice params) {
    struct buf line = BUF_INIT(LIMIT_UPSTREAM_MESSAGE);
    char id[24];
    instance->ask = ask;
    instance->ask_id = upstream_next_id(instance->upstream->set);
    int len = snprintf(id, sizeof id, "%llu", (unsigned long long)instance->ask_id);
    mcp_write_request(&line, slice_make(id, (size_t)len), method, params);
    /* When it cannot be written the process is ending, and its end will be handled. */
    (void)!send_line(instance, &line);
}

static void write_client_info(struct json_writer *writer,
                              const struct upstream_instance *instance) {
    json_object_begin(writer);
    json_kv_string(writer, SLICE("name"), SLICE("cardea"));
    json_kv_string(writer, SLICE("version"), instance->upstream->set->options.version);
    json_object_end(writer);
}

static void send_discover(struct upstream_instance *instance) {
    struct buf params = BUF_INIT(KIB(2));
    struct json_writer writer;
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_key(&writer, SLICE("_meta"));
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("io.modelcontextprotocol/protocolVersion"),
                   mcp_revision_name(MCP_2026_07_28));
    json_key(&writer, SLICE("io.modelcontextprotocol/clientInfo"));
    write_client_info(&writer, instance);
    json_kv_raw(&writer, SLICE("io.modelcontextprotocol/clientCapabilities"), SLICE("{}"));
    json_object_end(&writer);
    json_object_end(&writer);
    ask_server(instance, ASK_DISCOVER, MCP_SERVER_DISCOVER, buf_slice(&params));
    buf_deinit(&params);
}

static void send_initialize(struct upstream_instance *instance) {
    struct buf params = BUF_INIT(KIB(2));
    struct json_writer writer;
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("protocolVersion"), mcp_revision_name(MCP_LEGACY_LATEST));
    json_kv_raw(&writer, SLICE("capabilities"), SLICE("{}"));
    json_key(&writer, SLICE("clientInfo"));
    write_client_info(&writer, instance);
    json_object_end(&writer);
    ask_server(instance, ASK_INITIALIZE, MCP_INITIALIZE, buf_slice(&params));
    buf_deinit(&params);
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

static void forget_asks(struct upstream_instance *instance) {
    instance->ask = ASK_NOTHING;
    instance->page_list = catalog_list_unref(instance->page_list);
    instance->next = catalog_unref(instance->next);
    instance->lists_wanted = instance->lists_changed = instance->lists_told = 0;
    io_timer_stop(instance->start_timer);
    io_timer_stop(instance->probe_timer);
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
    forget_asks(instance);
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
    log_write(log_of(instance), LOG_WARN, "upstream", "is down",
              LOG_TEXT("upstream", name_of(instance)), LOG_TEXT("owner", instance->owner),
              LOG_TEXT("reason", detail), LOG_NUM("retry_ms", delay));
    io_timer_start(instance->retry_timer, delay);
    calls_fail_all(instance, for_callers);
    announce(instance, was_listed ? UPSTREAM_ALL_LISTS : 0);
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
static void give_up(struct upstream_instance *instance, const char *reason) {
    instance->complaint = reason;
    if (instance->child != NULL)
        stdio_kill(instance->child);
}

static void on_start_timeout(void *context) {
    give_up(context, "it was not ready within startup_timeout");
}

static void set_verdict(struct upstream_instance *instance, enum verdict verdict) {
    pthread_mutex_lock(&instance->upstream->mutex);
    instance->upstream->verdict = verdict;
    pthread_mutex_unlock(&instance->upstream->mutex);
    instance->is_probing = false;
    log_write(log_of(instance), LOG_DEBUG, "upstream", "probed",
              LOG_TEXT("upstream", name_of(instance)),
              LOG_CSTR("era", verdict == VERDICT_MODERN ? "modern" : "legacy"));
}

static void on_probe_timeout(void *context) {
    struct upstream_instance *instance = context;
    set_verdict(instance, VERDICT_LEGACY);
    instance->is_reprobe = true;
    if (instance->child != NULL)
        stdio_kill(instance->child);
}

/* Lists. */

static void ask_next_list(struct upstream_instance *instance, struct slice cursor);

static unsigned changed_lists(const struct catalog *old, const struct catalog *new) {
    unsigned mask = 0;
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        if (old == NULL ? new->lists[i]->n_items != 0
                        : !catalog_list_equal(old->lists[i], new->lists[i]))
            mask |= 1u << i;
    }
    return mask;
}

static void become_ready(struct upstream_instance *instance) {
    io_timer_stop(instance->start_timer);
    instance->ready_since_ms = instance->last_used_ms = io_loop_now(instance->loop);
    instance->sent_level = -1;
    set_state(instance, UPSTREAM_READY);
    log_write(log_of(instance), LOG_INFO, "upstream", "ready",
              LOG_TEXT("upstream", name_of(instance)), LOG_TEXT("owner", instance->owner),
              LOG_TEXT("server", instance->catalog->server_name),
              LOG_TEXT("revision", mcp_revision_name(instance->catalog->revision)),
              LOG_NUM("tools", instance->catalog->lists[MCP_LIST_TOOLS]->n_items));
    if (!io_timer_is_running(instance->tick_timer))
        io_timer_start(instance->tick_timer, 1000);
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
    if (send_line(instance, &line) == 0)
        instance->sent_level = level;
}

static void lists_done(struct upstream_instance *instance) {
    struct upstream *upstream = instance->upstream;
    struct catalog *new = TAKE(instance->next);
    pthread_mutex_lock(&upstream->mutex);
    struct catalog *old = instance->catalog;
    /* What the server itself calls changed is passed on, also when the lists look the same. */
    unsigned mask = changed_lists(instance->is_listed ? old : NULL, new) | instance->lists_told;
    instance->lists_told = 0;
    instance->catalog = new;
    instance->is_listed = true;
    instance->is_first_start = false;
    instance->error[0] = '\0';
    pthread_mutex_unlock(&upstream->mutex);
    catalog_unref(old);
    instance->ask = ASK_NOTHING;
    if (instance->state == UPSTREAM_STARTING) {
        become_ready(instance);
        send_level(instance);
        calls_flush(instance);
    }
    /* Also with an empty mask: whoever waits for this upstream looks again. */
    announce(instance, mask);
    if (instance->lists_changed != 0) {
        instance->lists_wanted = instance->lists_told = instance->lists_changed;
        instance->lists_changed = 0;
        instance->next = catalog_new(instance->catalog);
        ask_next_list(instance, SLICE_EMPTY);
    }
}

static void ask_next_list(struct upstream_instance *instance, struct slice cursor) {
    if (instance->lists_wanted == 0) {
        lists_done(instance);
        return;
    }
    if (instance->page_list == NULL) {
        unsigned kind = 0;
        while ((instance->lists_wanted & (1u << kind)) == 0)
            kind++;
        instance->ask_list = (enum mcp_list)kind;
        instance->page_list = catalog_list_new();
        instance->n_pages = 0;
    }
    struct buf params = BUF_INIT(KIB(64));
    if (cursor.len != 0) {
        buf_append_cstr(&params, "{\"cursor\":");
        buf_append(&params, cursor);
        buf_append_byte(&params, '}');
    }
    ask_server(instance, ASK_LIST, mcp_list_info(instance->ask_list)->method,
               buf_error(&params) == 0 ? buf_slice(&params) : SLICE_EMPTY);
    buf_deinit(&params);
}

/* The list is as long as it gets: takes it over and goes on with the next one. */
static void end_list(struct upstream_instance *instance) {
    catalog_set_list(instance->next, instance->ask_list, TAKE(instance->page_list));
    instance->lists_wanted &= ~(1u << instance->ask_list);
    ask_next_list(instance, SLICE_EMPTY);
}

static void on_list_answer(struct upstream_instance *instance, const struct mcp_message *message) {
    const char *reason = "it answered with an error";
    struct buf cursor = BUF_INIT(KIB(32));
    int error = CATALOG_E_INVALID;
    if (message->kind == MCP_RESULT)
        error = catalog_list_add_page(instance->page_list, instance->ask_list, name_of(instance),
                                      message->result, instance->reader, log_of(instance), &cursor,
                                      &reason);
    if (error < 0)
        reason = "there is no room for it";
    if (error != 0)
        log_write(log_of(instance), LOG_WARN, "upstream", "a list could not be read",
                  LOG_TEXT("upstream", name_of(instance)),
                  LOG_TEXT("list", mcp_list_info(instance->ask_list)->result_key),
                  LOG_CSTR("reason", reason));
    bool goes_on = error == 0 && buf_len(&cursor) != 0;
    if (goes_on && ++instance->n_pages >= LIMIT_LIST_PAGES) {
        log_write(log_of(instance), LOG_WARN, "upstream", "a list has more than 100 pages: cut",
                  LOG_TEXT("upstream", name_of(instance)));
        goes_on = false;
    }
    if (goes_on)
        ask_next_list(instance, buf_slice(&cursor));
    else
        end_list(instance);
    buf_deinit(&cursor);
}

static void on_lists_changed(struct upstream_instance *instance, unsigned mask) {
    mask &= instance->lists_declared;
    if (mask == 0)
        return;
    if (instance->state != UPSTREAM_READY || instance->ask != ASK_NOTHING) {
        instance->lists_changed |= mask;
        return;
    }
    instance->lists_wanted = instance->lists_told = mask;
    instance->next = catalog_new(instance->catalog);
    ask_next_list(instance, SLICE_EMPTY);
}

/* The handshake. */

static void on_initialize_answer(struct upstream_instance *instance,
                                 const struct mcp_message *message) {
    const char *reason = "it refused initialize";
    struct catalog *catalog = catalog_new(NULL);
    int error = CATALOG_E_INVALID;
    if (message->kind == MCP_RESULT)
        error = catalog_read_initialize(catalog, message->result, instance->reader,
                                        &instance->lists_declared, &reason);
    if (error != 0) {
        catalog_unref(catalog);
        if (instance->upstream->verdict == VERDICT_MODERN)
            reason = "it speaks 2026-07-28 only, which this version cannot use over stdio yet";
        give_up(instance, error < 0 ? "the gateway is out of memory" : reason);
        return;
    }
    struct buf line = BUF_INIT(KIB(1));
    mcp_write_notification(&line, MCP_NOTIFY_INITIALIZED, SLICE_EMPTY);
    if (send_line(instance, &line) != 0) {
        catalog_unref(catalog);
        give_up(instance, "it does not read its input");
        return;
    }
    instance->next = catalog;
    instance->lists_wanted = instance->lists_declared;
    instance->lists_changed = 0;
    ask_next_list(instance, SLICE_EMPTY);
}

static void on_ask_answer(struct upstream_instance *instance, const struct mcp_message *message) {
    enum ask ask = instance->ask;
    instance->ask = ASK_NOTHING;
    switch (ask) {
    case ASK_NOTHING:
        return;
    case ASK_DISCOVER:
        io_timer_stop(instance->probe_timer);
        set_verdict(instance, message->kind == MCP_RESULT ? VERDICT_MODERN : VERDICT_LEGACY);
        send_initialize(instance);
        return;
    case ASK_INITIALIZE:
        on_initialize_answer(instance, message);
        return;
    case ASK_LIST:
        on_list_answer(instance, message);
        return;
    }
}

/* What the server sends. */

static void on_server_request(struct upstream_instance *instance,
                              const struct mcp_message *message) {
    struct buf line = BUF_INIT(KIB(8));
    if (message->method == MCP_PING)
        mcp_write_result(&line, message->id, SLICE("{}"));
    else
        mcp_write_error(&line, message->id, MCP_E_METHOD_NOT_FOUND,
                        SLICE("the gateway declared no capability for this request"), SLICE_EMPTY);
    (void)!send_line(instance, &line);
}

static void on_log_message(struct upstream_instance *instance, const struct mcp_message *message) {
    const struct json_node *node =
        mcp_param(instance->reader, message, SLICE("level"), JSON_STRING);
    int level = node != NULL ? mcp_log_level_parse(json_string_raw(node)) : -1;
    if (level < 0)
        return;
    const struct upstream_hooks *hooks = &instance->upstream->set->options.hooks;
    if (instance->upstream->config->share == CONFIG_SHARE_ALL) {
        /* What one owner's call caused is not for another's eyes: to the operator alone. */
        log_write(
            log_of(instance), LOG_INFO, "upstream", "log", LOG_TEXT("upstream", name_of(instance)),
            LOG_TEXT("level", mcp_log_level_name(level)), LOG_TEXT("params", message->params->raw));
        return;
    }
    if (!calls_log(instance, message->params->raw) && hooks->on_log != NULL)
        hooks->on_log(hooks->context, instance->upstream, instance->owner, level,
                      message->params->raw);
}

static void on_notification(struct upstream_instance *instance, const struct mcp_message *message) {
    if (message->method == MCP_NOTIFY_PROGRESS) {
        const struct json_node *token =
            mcp_param(instance->reader, message, SLICE("progressToken"), JSON_NUMBER);
        if (token != NULL)
            (void)!calls_progress(instance, token->raw, message->params->raw);
    } else if (message->method == MCP_NOTIFY_MESSAGE) {
        on_log_message(instance, message);
    } else {
        unsigned mask = 0;
        for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
            if (mcp_list_info((enum mcp_list)i)->changed == message->method)
                mask |= 1u << i;
        }
        on_lists_changed(instance, mask);
    }
}

/* The first number behind an "id" of a line that cannot be read as JSON; empty: there is none. */
static struct slice shown_id(struct slice line) {
    size_t at = slice_find(line, SLICE("\"id\":"));
    if (at == SIZE_MAX)
        return SLICE_EMPTY;
    struct slice rest = slice_trim(slice_from(line, at + 5));
    size_t len = 0;
    while (len < rest.len && rest.ptr[len] >= '0' && rest.ptr[len] <= '9')
        len++;
    return slice_sub(rest, 0, len);
}

/* A line that is no message: banners on stdout are common and harmless, endless garbage is not. */
static void on_garbage(struct upstream_instance *instance, struct slice line, const char *reason) {
    if (instance->n_garbage++ < 10)
        log_write(log_of(instance), LOG_WARN, "upstream", "wrote a line that is no valid message",
                  LOG_TEXT("upstream", name_of(instance)), LOG_CSTR("reason", reason),
                  LOG_TEXT("line", slice_sub(line, 0, 200)));
    if (instance->n_garbage > MAX_GARBAGE) {
        give_up(instance, "it wrote more than 1,000 lines that are no messages");
        return;
    }
    /* An answer that was refused: the call whose id it shows need not wait for its timeout. */
    struct slice id = shown_id(line);
    if (id.len != 0)
        (void)!calls_answer(instance, id, UPSTREAM_FAILED,
                            SLICE("the upstream's answer is not a valid message and was refused"));
}

static void on_line(void *context, struct slice line) {
    struct upstream_instance *instance = context;
    struct mcp_message message;
    struct mcp_refusal refusal;
    int error = mcp_message_read(instance->reader, line, &message, &refusal);
    if (error != 0) {
        on_garbage(instance, line, error > 0 ? refusal.reason : "out of memory");
        return;
    }
    uint64_t id;
    switch (message.kind) {
    case MCP_RESULT:
    case MCP_ERROR:
        if (instance->ask != ASK_NOTHING && slice_to_u64(message.id, &id) == 0 &&
            id == instance->ask_id)
            on_ask_answer(instance, &message);
        else if (!calls_answer(instance, message.id,
                               message.kind == MCP_RESULT ? UPSTREAM_RESULT : UPSTREAM_ERROR,
                               message.kind == MCP_RESULT ? message.result : message.error))
            log_write(log_of(instance), LOG_DEBUG, "upstream", "answered nobody",
                      LOG_TEXT("upstream", name_of(instance)), LOG_TEXT("id", message.id));
        return;
    case MCP_REQUEST:
        on_server_request(instance, &message);
        return;
    case MCP_NOTIFICATION:
        on_notification(instance, &message);
        return;
    }
}

/* The process. */

static void on_started(void *context) {
    struct upstream_instance *instance = context;
    if (instance->is_closing)
        return;
    if (instance->is_probing) {
        send_discover(instance);
        io_timer_start(instance->probe_timer, PROBE_MS);
    } else {
        send_initialize(instance);
    }
}

static void finish_closing(struct upstream_instance *instance) {
    forget_asks(instance);
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
            set_verdict(instance, VERDICT_LEGACY);
        instance->is_reprobe = false;
        io_timer_stop(instance->probe_timer);
        start_child(instance);
        return;
    }
    if (instance->is_stopping_idle) {
        instance->is_stopping_idle = false;
        forget_asks(instance);
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
                            log_of(instance), &events, instance, &instance->child, &reason);
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
    log_write(log_of(instance), LOG_INFO, "upstream", "stops: nobody used it for idle_timeout",
              LOG_TEXT("upstream", name_of(instance)), LOG_TEXT("owner", instance->owner));
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

struct notice {
    struct io_message message;
    struct upstream_instance *instance;
    size_t len;
    char line[];
};

static void deliver_notice(struct io_message *message) {
    struct notice *notice = CONTAINER_OF(message, struct notice, message);
    struct upstream_instance *instance = notice->instance;
    if (instance->state == UPSTREAM_READY && instance->child != NULL)
        (void)!stdio_write(instance->child, slice_make(notice->line, notice->len));
    upstream_instance_unref(instance);
    mem_free(notice);
}

void upstream_notify(struct upstream_instance *instance, struct slice line) {
    struct notice *notice = mem_alloc(sizeof *notice + line.len);
    if (notice == NULL)
        return;
    notice->message.deliver = deliver_notice;
    notice->instance = instance_ref(instance);
    notice->len = line.len;
    memcpy(notice->line, line.ptr, line.len);
    io_loop_post(instance->loop, &notice->message);
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
