/*
 * The start of a session with an upstream and its lists: probe, initialize, then every list to its
 * last page; later single lists again when the server says that they changed. One question at a
 * time.
 *
 * The probe: a server of 2026-07-28 answers server/discover; one that answers with an error is
 * legacy and goes on with initialize in the same process; one that exits or stays silent for two
 * seconds is started again as legacy (instance.c). The verdict is kept with the upstream. (MCP
 * 2026-07-28, basic/transports/stdio, backward compatibility.)
 */
#include <stdio.h>

#include "base/buf.h"
#include "base/limits.h"
#include "json/writer.h"
#include "mcp/message.h"
#include "set_private.h"

static void ask_server(struct upstream_instance *instance, enum ask ask, enum mcp_method method,
                       struct slice params) {
    struct buf line = BUF_INIT(LIMIT_UPSTREAM_MESSAGE);
    char id[24];
    instance->ask = ask;
    instance->ask_id = upstream_next_id(instance->upstream->set);
    int len = snprintf(id, sizeof id, "%llu", (unsigned long long)instance->ask_id);
    mcp_write_request(&line, slice_make(id, (size_t)len), method, params);
    /* When it cannot be written the process is ending, and its end will be handled. */
    (void)!instance_send_line(instance, &line);
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

void handshake_forget(struct upstream_instance *instance) {
    instance->ask = ASK_NOTHING;
    instance->page_list = catalog_list_unref(instance->page_list);
    instance->next = catalog_unref(instance->next);
    instance->lists_wanted = instance->lists_changed = instance->lists_told = 0;
    io_timer_stop(instance->start_timer);
    io_timer_stop(instance->probe_timer);
}

void handshake_set_verdict(struct upstream_instance *instance, enum verdict verdict) {
    pthread_mutex_lock(&instance->upstream->mutex);
    instance->upstream->verdict = verdict;
    pthread_mutex_unlock(&instance->upstream->mutex);
    instance->is_probing = false;
    log_write(instance_log(instance), LOG_DEBUG, "upstream", "probed",
              LOG_TEXT("upstream", instance_name(instance)),
              LOG_CSTR("era", verdict == VERDICT_MODERN ? "modern" : "legacy"));
}

void handshake_begin(struct upstream_instance *instance) {
    if (instance->is_probing)
        send_discover(instance);
    else
        send_initialize(instance);
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
    io_timer_stop(instance->start_timer);
    if (instance->state == UPSTREAM_STARTING)
        instance_ready(instance);
    /* Also with an empty mask: whoever waits for this upstream looks again. */
    instance_announce(instance, mask);
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
    if (instance->state == UPSTREAM_READY)
        io_timer_start(instance->start_timer, instance->upstream->config->startup_timeout_ms);
}

void handshake_lists_late(struct upstream_instance *instance) {
    log_write(instance_log(instance), LOG_WARN, "upstream",
              "did not list again what it said has changed",
              LOG_TEXT("upstream", instance_name(instance)),
              LOG_TEXT("list", mcp_list_info(instance->ask_list)->result_key));
    handshake_forget(instance);
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
        error = catalog_list_add_page(instance->page_list, instance->ask_list,
                                      instance_name(instance), message->result, instance->reader,
                                      instance_log(instance), &cursor, &reason);
    if (error < 0)
        reason = "there is no room for it";
    if (error != 0)
        log_write(instance_log(instance), LOG_WARN, "upstream", "a list could not be read",
                  LOG_TEXT("upstream", instance_name(instance)),
                  LOG_TEXT("list", mcp_list_info(instance->ask_list)->result_key),
                  LOG_CSTR("reason", reason));
    bool goes_on = error == 0 && buf_len(&cursor) != 0;
    if (goes_on && ++instance->n_pages >= LIMIT_LIST_PAGES) {
        log_write(instance_log(instance), LOG_WARN, "upstream",
                  "a list has more than 100 pages: cut",
                  LOG_TEXT("upstream", instance_name(instance)));
        goes_on = false;
    }
    if (goes_on)
        ask_next_list(instance, buf_slice(&cursor));
    else
        end_list(instance);
    buf_deinit(&cursor);
}

void handshake_lists_changed(struct upstream_instance *instance, unsigned mask) {
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

static bool is_modern(struct upstream *upstream) {
    pthread_mutex_lock(&upstream->mutex);
    bool is_modern = upstream->verdict == VERDICT_MODERN;
    pthread_mutex_unlock(&upstream->mutex);
    return is_modern;
}

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
        if (is_modern(instance->upstream))
            reason = "it speaks 2026-07-28 only, which this version cannot use over stdio yet";
        instance_give_up(instance, error < 0 ? "the gateway is out of memory" : reason);
        return;
    }
    struct buf line = BUF_INIT(KIB(1));
    mcp_write_notification(&line, MCP_NOTIFY_INITIALIZED, SLICE_EMPTY);
    if (instance_send_line(instance, &line) != 0) {
        catalog_unref(catalog);
        instance_give_up(instance, "it does not read its input");
        return;
    }
    instance->next = catalog;
    instance->lists_wanted = instance->lists_declared;
    instance->lists_changed = 0;
    ask_next_list(instance, SLICE_EMPTY);
}

void handshake_answer(struct upstream_instance *instance, const struct mcp_message *message) {
    enum ask ask = instance->ask;
    instance->ask = ASK_NOTHING;
    switch (ask) {
    case ASK_NOTHING:
        return;
    case ASK_DISCOVER:
        io_timer_stop(instance->probe_timer);
        handshake_set_verdict(instance,
                              message->kind == MCP_RESULT ? VERDICT_MODERN : VERDICT_LEGACY);
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
