/*
 * The start of a session with an upstream and its lists: probe, initialize where the revision has
 * it, then every list to its last page; later single lists again when the server says that they
 * changed, or when they are no longer fresh. One question at a time.
 *
 * The probe is server/discover (MCP 2026-07-28, basic/versioning and basic/transports): a server of
 * that revision answers it; one that answers with an error that is not of that revision is legacy
 * and goes on with initialize. A child that exits or stays silent for two seconds is started again
 * as legacy (instance.c). Of an HTTP server only what it says counts: 401, 403, 5xx, silence and
 * broken connections say nothing about its revision, and the start fails. One that refuses
 * initialize, too, as what does not know the request or the method, may be one of HTTP+SSE.
 */
#include <stdio.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "json/writer.h"
#include "mcp/capabilities.h"
#include "mcp/message.h"
#include "private.h"

enum {
    MAX_DISCOVERS = 2,
    /*
     * After lists that the server called changed comes a pause, in proportion to what they cost
     * this loop: a server that does so all the time takes a twentieth of it at most, and clients
     * hear of it ten times a second.
     */
    PAUSE_TIMES = 20,
    PAUSE_LEAST_MS = 100,
    PAUSE_MOST_MS = 5000,
    FAILED_MS = 5000, /* how long a list that could not be read counts as read */
    ERA_LEGACY = 1,   /* bits */
    ERA_MODERN = 2,
    ERA_UNKNOWN = 4,
};

static bool speaks_modern(const struct upstream_instance *instance) {
    const struct catalog *known = instance->next != NULL ? instance->next : instance->catalog;
    return known != NULL && mcp_revision_is_modern(known->revision);
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
    (void)!instance_send(instance, instance->ask_id, method, false, &line);
}

static void write_client_info(struct json_writer *writer,
                              const struct upstream_instance *instance) {
    const struct mcp_implementation *gateway = &instance->upstream->set->gateway;
    json_object_begin(writer);
    json_kv_string(writer, SLICE("name"), gateway->name);
    json_kv_string(writer, SLICE("version"), gateway->version);
    json_object_end(writer);
}

void handshake_write_envelope(struct json_writer *writer, const struct upstream_instance *instance,
                              unsigned capabilities) {
    json_key(writer, SLICE("_meta"));
    json_object_begin(writer);
    json_kv_string(writer, MCP_META_VERSION, mcp_revision_name(MCP_2026_07_28));
    json_key(writer, MCP_META_CLIENT_INFO);
    write_client_info(writer, instance);
    json_key(writer, MCP_META_CAPABILITIES);
    mcp_capabilities_write(writer, capabilities, NULL, MCP_2026_07_28);
    json_object_end(writer);
}

static void send_discover(struct upstream_instance *instance) {
    struct buf params = BUF_INIT(KIB(2));
    struct json_writer writer;
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    handshake_write_envelope(&writer, instance, instance->capabilities);
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
    json_key(&writer, SLICE("capabilities"));
    mcp_capabilities_write(&writer, instance->capabilities, NULL, MCP_LEGACY_LATEST);
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
    instance->lists_wanted = instance->lists_changed = 0;
    instance->lists_stale = instance->lists_told = instance->lists_read = 0;
    instance->lists_failed = 0;
    instance->n_discovered = 0;
    io_timer_stop(instance->start_timer);
    io_timer_stop(instance->probe_timer);
    io_timer_stop(instance->pause_timer);
}

void handshake_set_verdict(struct upstream_instance *instance, enum verdict verdict) {
    pthread_mutex_lock(&instance->upstream->mutex);
    instance->upstream->verdict = verdict;
    pthread_mutex_unlock(&instance->upstream->mutex);
    instance->is_probing = false;
    log_write(instance_log(instance), LOG_DEBUG, "upstream", "probed",
              LOG_TEXT("upstream", instance_name(instance)),
              LOG_CSTR("era", verdict == VERDICT_MODERN   ? "modern"
                              : verdict == VERDICT_LEGACY ? "legacy"
                                                          : "unknown"));
}

static bool is_known_modern(struct upstream *upstream) {
    pthread_mutex_lock(&upstream->mutex);
    bool is_modern = upstream->verdict == VERDICT_MODERN;
    pthread_mutex_unlock(&upstream->mutex);
    return is_modern;
}

void handshake_begin(struct upstream_instance *instance) {
    bool is_known = instance->kind == TRANSPORT_CHILD && is_known_modern(instance->upstream);
    if (instance->is_probing || is_known)
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

/* Nothing tells of its change, or it has been told and not been read yet: read when it is asked
 * for. */
static bool is_stale(const struct upstream_instance *instance, unsigned list) {
    return speaks_modern(instance) &&
           ((instance->lists_failed | instance->lists_changed) & (1u << list)) != 0;
}

/* What was read holds from when it was asked for. */
static void note_freshness(struct upstream_instance *instance) {
    uint64_t since = instance->reading_since_ms;
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        if ((instance->lists_read & (1u << i)) == 0)
            continue;
        uint64_t ttl = is_stale(instance, i) ? 0 : instance->catalog->lists[i]->cache.ttl_ms;
        instance->lists[i].read_ms = since;
        instance->lists[i].until_ms = ttl < UINT64_MAX - since ? since + ttl : UINT64_MAX;
    }
    instance->lists_read = instance->lists_failed = 0;
}

static void read_lists(struct upstream_instance *instance, unsigned wanted, unsigned told) {
    instance->lists_wanted = wanted;
    instance->lists_told = told;
    instance->list_cost_us = 0;
    /* Not the loop's time, which is as old as its turn: those who asked compare it with theirs. */
    instance->reading_since_ms = clock_monotonic_ms();
    if (instance->next == NULL)
        instance->next = catalog_new(instance->catalog);
    ask_next_list(instance, SLICE_EMPTY);
}

static void begin_pause(struct upstream_instance *instance) {
    uint64_t pause_ms = instance->list_cost_us * PAUSE_TIMES / 1000;
    if (pause_ms < PAUSE_LEAST_MS)
        pause_ms = PAUSE_LEAST_MS;
    if (pause_ms > PAUSE_MOST_MS)
        pause_ms = PAUSE_MOST_MS;
    io_timer_start(instance->pause_timer, pause_ms);
}

/* What came while lists were read. What was only told waits for the end of the pause. */
static void read_what_is_left(struct upstream_instance *instance) {
    unsigned stale = instance->lists_stale;
    unsigned told = io_timer_is_running(instance->pause_timer) ? instance->lists_changed & stale
                                                               : instance->lists_changed;
    instance->lists_stale = 0;
    instance->lists_changed &= ~told;
    if ((told | stale) != 0)
        read_lists(instance, told | stale, told);
}

void handshake_pause_over(struct upstream_instance *instance) {
    if (instance->state == UPSTREAM_READY && instance->ask == ASK_NOTHING)
        read_what_is_left(instance);
}

static void lists_done(struct upstream_instance *instance) {
    struct upstream *upstream = instance->upstream;
    struct catalog *new = TAKE(instance->next), *old = instance->catalog;
    /* What the server itself calls changed is passed on, also when the lists look the same. */
    unsigned mask = changed_lists(instance->is_listed ? old : NULL, new) | instance->lists_told;
    if (instance->lists_told != 0)
        begin_pause(instance);
    instance->lists_told = 0;
    pthread_mutex_lock(&upstream->mutex);
    instance->catalog = new;
    instance->is_listed = true;
    instance->is_first_start = false;
    note_freshness(instance);
    instance->error[0] = '\0';
    upstream_note_change(upstream);
    pthread_mutex_unlock(&upstream->mutex);
    catalog_unref(old);
    instance->ask = ASK_NOTHING;
    io_timer_stop(instance->start_timer);
    if (instance->state == UPSTREAM_STARTING)
        instance_ready(instance);
    /* Also with an empty mask: whoever waits for this upstream looks again. */
    instance_announce(instance, mask);
    read_what_is_left(instance);
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
    struct json_writer writer;
    json_writer_init(&writer, &params);
    if (cursor.len != 0 || speaks_modern(instance)) {
        json_object_begin(&writer);
        if (cursor.len != 0)
            json_kv_raw(&writer, SLICE("cursor"), cursor);
        if (speaks_modern(instance))
            handshake_write_envelope(&writer, instance, instance->capabilities);
        json_object_end(&writer);
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
    instance->lists_read |= 1u << instance->ask_list;
    ask_next_list(instance, SLICE_EMPTY);
}

/* What was read of it so far is served when there was nothing before. */
static void on_list_failed(struct upstream_instance *instance, struct slice reason) {
    log_write(instance_log(instance), LOG_WARN, "upstream", "a list could not be read",
              LOG_TEXT("upstream", instance_name(instance)),
              LOG_TEXT("list", mcp_list_info(instance->ask_list)->result_key),
              LOG_TEXT("reason", reason));
    if (instance->next->lists[instance->ask_list]->n_items != 0) {
        catalog_list_unref(instance->page_list);
        instance->page_list = catalog_list_ref(instance->next->lists[instance->ask_list]);
    } else if (speaks_modern(instance)) {
        instance->page_list->cache.is_public = false;
    }
    if (speaks_modern(instance))
        instance->lists_failed |= 1u << instance->ask_list;
}

static void on_list_answer(struct upstream_instance *instance, const struct mcp_message *message) {
    const char *reason = "it answered with an error";
    struct buf cursor = BUF_INIT(KIB(32));
    struct catalog_source source = {
        .kind = instance->ask_list,
        .revision = instance->next->revision,
        .is_http = instance_is_http(instance),
        .upstream = instance_name(instance),
        .log = instance_log(instance),
        .max_items = instance->upstream->config->max_tools,
        .max_definition = instance->upstream->config->max_definition,
    };
    int error = CATALOG_E_INVALID;
    uint64_t began_ns = clock_monotonic_ns();
    if (message->kind == MCP_RESULT)
        error = catalog_list_add_page(instance->page_list, &source, message->result,
                                      instance->worker->home_reader, &cursor, &reason);
    instance->list_cost_us += (clock_monotonic_ns() - began_ns) / 1000;
    if (error != 0)
        on_list_failed(instance,
                       error < 0 ? SLICE("there is no room for it") : slice_from_cstr(reason));
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

/* A server of 2026-07-28 that says so takes back how long it has called them fresh. */
static void end_freshness(struct upstream_instance *instance, unsigned mask) {
    struct upstream *upstream = instance->upstream;
    if (!speaks_modern(instance))
        return;
    pthread_mutex_lock(&upstream->mutex);
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        if ((mask & (1u << i)) != 0)
            instance->lists[i].until_ms = 0;
    }
    upstream_note_change(upstream);
    pthread_mutex_unlock(&upstream->mutex);
}

void handshake_lists_changed(struct upstream_instance *instance, unsigned mask, bool is_told) {
    mask &= instance->lists_declared;
    if (mask == 0)
        return;
    if (is_told)
        end_freshness(instance, mask);
    bool waits =
        (is_told && io_timer_is_running(instance->pause_timer)) || instance_lacks_token(instance);
    if (waits || instance->state != UPSTREAM_READY || instance->ask != ASK_NOTHING) {
        if (is_told)
            instance->lists_changed |= mask;
        else
            instance->lists_stale |= mask;
        return;
    }
    read_lists(instance, mask, is_told ? mask : 0);
}

/* The handshake. */

/* The revision is agreed on: what the server offers is asked for. */
static void begin_lists(struct upstream_instance *instance, struct catalog *catalog) {
    instance->next = catalog;
    instance->lists_changed = instance->lists_stale = 0;
    read_lists(instance, instance->lists_declared, 0);
}

static void on_initialize_answer(struct upstream_instance *instance,
                                 const struct mcp_message *message) {
    const char *reason = "it refused initialize";
    struct catalog *catalog = catalog_new(NULL);
    int error = CATALOG_E_INVALID;
    if (message->kind == MCP_RESULT)
        error = catalog_read_initialize(catalog, message->result, instance->worker->home_reader,
                                        &instance->lists_declared, &reason);
    if (error != 0) {
        catalog_unref(catalog);
        handshake_set_verdict(instance, VERDICT_UNKNOWN); /* it may be another server by now */
        instance_give_up(instance, error < 0 ? "the gateway is out of memory" : reason);
        return;
    }
    instance->transport->ops->agree(instance->transport, catalog->revision);
    struct buf line = BUF_INIT(KIB(1));
    mcp_write_notification(&line, MCP_NOTIFY_INITIALIZED, SLICE_EMPTY);
    if (instance_send(instance, 0, MCP_NOTIFY_INITIALIZED, false, &line) != 0) {
        catalog_unref(catalog);
        instance_give_up(instance, "it does not read its input");
        return;
    }
    begin_lists(instance, catalog);
}

static void go_on_as_legacy(struct upstream_instance *instance) {
    handshake_set_verdict(instance, VERDICT_LEGACY);
    send_initialize(instance);
}

/* Which eras the revisions of a list belong to. */
static unsigned eras_of(const struct json_reader *reader, const struct json_node *list) {
    unsigned eras = 0;
    for (const struct json_node *node = list != NULL ? json_first(reader, list) : NULL;
         node != NULL; node = json_next(reader, node)) {
        enum mcp_revision revision = mcp_revision_parse(json_string_raw(node));
        if (revision == MCP_REVISION_NONE)
            eras |= ERA_UNKNOWN;
        else
            eras |= mcp_revision_is_modern(revision) ? ERA_MODERN : ERA_LEGACY;
    }
    return eras;
}

/* Of an error's data.supported. */
static unsigned supported_eras(struct upstream_instance *instance, struct slice error) {
    static const struct json_want want_open[] = {{0}};
    static const struct json_want want_data[] = {{"supported", want_open}, {0}};
    static const struct json_want want[] = {{"data", want_data}, {0}};
    struct json_reader *reader = instance->worker->home_reader;
    if (json_read(reader, error, &(struct json_want){.children = want}, NULL, NULL) != 0)
        return 0;
    const struct json_node *data =
        json_member_typed(reader, json_root(reader), SLICE("data"), JSON_OBJECT);
    return eras_of(reader, data != NULL
                               ? json_member_typed(reader, data, SLICE("supported"), JSON_ARRAY)
                               : NULL);
}

static void go_on_as(struct upstream_instance *instance, unsigned eras) {
    /* It names revisions, and none is ours: initialize would be answered with one of them. */
    if (eras == ERA_UNKNOWN)
        instance_give_up(instance, "it names no protocol revision that the gateway speaks");
    else
        go_on_as_legacy(instance);
}

static void on_discovered(struct upstream_instance *instance, const struct mcp_message *message) {
    const char *reason = "";
    struct catalog *catalog = catalog_new(NULL);
    int error = catalog_read_discover(catalog, message->result, instance->worker->home_reader,
                                      &instance->lists_declared, &reason);
    if (error == 0) {
        handshake_set_verdict(instance, VERDICT_MODERN);
        catalog->fresh_until_ms = clock_monotonic_ms() + catalog->cache.ttl_ms;
        instance->transport->ops->agree(instance->transport, catalog->revision);
        begin_lists(instance, catalog);
        return;
    }
    catalog_unref(catalog);
    if (error < 0) {
        instance_give_up(instance, "the gateway is out of memory");
        return;
    }
    /* What it answered is no DiscoverResult at all, or one without a revision of this era. */
    const struct json_node *root = json_root(instance->worker->home_reader);
    const struct json_node *versions =
        root != NULL ? json_member_typed(instance->worker->home_reader, root,
                                         SLICE("supportedVersions"), JSON_ARRAY)
                     : NULL;
    go_on_as(instance, eras_of(instance->worker->home_reader, versions));
}

/*
 * An error of 2026-07-28 proves that the server knows that revision's rules: -32022 says which it
 * serves, and only when it names a legacy one is initialize tried. Any other error is a legacy
 * server's way of not knowing the method.
 */
static void on_discover_error(struct upstream_instance *instance, int code, struct slice error) {
    if (code != MCP_E_UNSUPPORTED_VERSION) {
        go_on_as_legacy(instance);
        return;
    }
    unsigned eras = supported_eras(instance, error);
    if ((eras & ERA_MODERN) != 0 && ++instance->n_discovered < MAX_DISCOVERS)
        send_discover(instance);
    else
        go_on_as(instance, eras);
}

static int error_code(const struct upstream_instance *instance) {
    int64_t code = 0;
    const struct json_node *error = json_member(
        instance->worker->home_reader, json_root(instance->worker->home_reader), SLICE("error"));
    const struct json_node *number =
        json_member(instance->worker->home_reader, error, SLICE("code"));
    if (number == NULL || json_to_i64(number, &code) != 0 || code < INT32_MIN || code > INT32_MAX)
        return 0;
    return (int)code;
}

void handshake_answer(struct upstream_instance *instance, const struct mcp_message *message) {
    enum ask ask = instance->ask;
    instance->ask = ASK_NOTHING;
    switch (ask) {
    case ASK_NOTHING:
        return;
    case ASK_DISCOVER:
        io_timer_stop(instance->probe_timer);
        if (message->kind == MCP_RESULT)
            on_discovered(instance, message);
        else
            on_discover_error(instance, error_code(instance), message->error);
        return;
    case ASK_INITIALIZE:
        on_initialize_answer(instance, message);
        return;
    case ASK_LIST:
        on_list_answer(instance, message);
        return;
    }
}

/* 4xx but those about who asks: it does not know the method, the endpoint or the revision. */
static bool is_verdict(unsigned status) {
    return status >= 400 && status < 500 && status != 401 && status != 403 && status != 407 &&
           status != 408 && status != 429;
}

/* It cannot start, or not with the token that there is. */
static void give_up(struct upstream_instance *instance, const struct transport_failure *failure) {
    bool is_refused = failure->status == 401 || failure->status == 403;
    bool is_of_caller = upstream_wants_token(instance->upstream);
    bool lacks_setting = instance->upstream->source == NULL && !is_of_caller;
    char reason[200];
    instance->is_refused = failure->lacks_token || (is_refused && is_of_caller);
    instance_tell(instance, is_refused && is_of_caller
                                ? "the upstream does not take your access token"
                                : failure->told);
    if (is_refused)
        snprintf(reason, sizeof reason, "it refuses %s (HTTP %u)%s",
                 is_of_caller ? "the access token of its user" : "the gateway's credentials",
                 failure->status, lacks_setting ? "; set auth.token" : "");
    else
        snprintf(reason, sizeof reason, "%.*s", SLICE_ARGS(failure->reason));
    instance_give_up(instance, reason);
}

/* MCP 2025-11-25, basic/transports, backwards compatibility. */
static bool may_be_sse(const struct upstream_instance *instance, unsigned status) {
    return instance->kind == TRANSPORT_STREAMABLE &&
           instance->upstream->config->protocol == CONFIG_PROTOCOL_AUTO &&
           (status == 400 || status == 404 || status == 405);
}

/* HTTP only: the POST ended without the answer. */
void handshake_failed(struct upstream_instance *instance, const struct transport_failure *failure) {
    enum ask ask = instance->ask;
    bool says_no = is_verdict(failure->status) || failure->status == 200 || failure->status == 202;
    instance->ask = ASK_NOTHING;
    if (ask == ASK_DISCOVER && says_no) {
        on_discover_error(instance, failure->code, failure->error);
    } else if (ask == ASK_INITIALIZE && may_be_sse(instance, failure->status)) {
        instance_try_sse(instance, failure->reason);
    } else if (ask == ASK_LIST && instance->state == UPSTREAM_READY && failure->is_session_lost) {
        instance_renew(instance);
    } else if (ask == ASK_LIST && instance->state == UPSTREAM_READY) {
        on_list_failed(instance, failure->reason);
        end_list(instance);
    } else {
        give_up(instance, failure);
    }
}
