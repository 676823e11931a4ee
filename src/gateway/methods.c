/*
 * What clients may ask, by era, and the methods that the gateway answers by itself. What limits,
 * access and guard will have to say belongs before gw_method_run() calls a handler.
 */
#include "base/mem.h"
#include "mcp/capabilities.h"
#include "private.h"

static void handle_ping(struct gw_call *call, const struct mcp_message *message) {
    (void)message;
    gw_call_answer_result(call, SLICE("{}"), call->revision);
}

/* Where no server has tasks, they are no method of ours either. */
static void handle_tasks(struct gw_call *call, const struct mcp_message *message) {
    struct gw_view *view = gw_view_open(call->worker, call->exchange->caller, call->session,
                                        call->capabilities, call->only);
    bool is_there = gw_has_tasks(view, call->revision);
    gw_view_close(view);
    if (is_there)
        gw_call_start(call, message);
    else
        gw_call_answer_error(call, MCP_E_METHOD_NOT_FOUND, SLICE("Method not found"), SLICE_EMPTY);
}

static void handle_set_level(struct gw_call *call, const struct mcp_message *message) {
    const struct json_node *node =
        mcp_param(call->worker->reader, message, SLICE("level"), JSON_STRING);
    int level = node != NULL ? mcp_log_level_parse(json_string_raw(node)) : -1;
    if (level < 0) {
        gw_call_answer_error(
            call, MCP_E_INVALID_PARAMS,
            SLICE("level must be one of debug, info, notice, warning, error, critical, "
                  "alert, emergency"),
            SLICE_EMPTY);
        return;
    }
    atomic_store(&call->session->log_level, level);
    int owner_level = gw_principal_log_level(call->principal);
    struct gw_view *view = gw_view_open(call->worker, call->exchange->caller, call->session,
                                        call->capabilities, call->only);
    for (size_t i = 0; i < view->n; i++) {
        enum config_share share = upstream_config(view->items[i].upstream)->share;
        if (share != CONFIG_SHARE_ALL) /* whose log nobody gets but the operator */
            upstream_instance_set_log_level(view->items[i].instance,
                                            share == CONFIG_SHARE_SESSION ? level : owner_level);
    }
    gw_view_close(view);
    gw_call_answer_result(call, SLICE("{}"), call->revision);
}

/* What the gateway is: initialize and server/discover. */

/* Every revision that a client may name is answered with one that both know (MCP 2025-11-25,
 * basic/lifecycle). */
static enum mcp_revision negotiate(const struct json_reader *reader,
                                   const struct mcp_message *message) {
    const struct json_node *node =
        mcp_param(reader, message, SLICE("protocolVersion"), JSON_STRING);
    enum mcp_revision wanted =
        node != NULL ? mcp_revision_parse(json_string_raw(node)) : MCP_REVISION_NONE;
    return mcp_revision_is_legacy(wanted) ? wanted : MCP_LEGACY_LATEST;
}

/* What the servers of the same revision have of tasks, all of them together; `unknown`: what one
 * counts as having that has not been up yet. */
static unsigned find_tasks(const struct gw_view *view, enum mcp_revision revision,
                           unsigned unknown) {
    unsigned tasks = 0;
    for (size_t i = 0; i < view->n; i++) {
        const struct catalog *catalog = view->items[i].status.catalog;
        unsigned has = catalog == NULL                 ? unknown
                       : catalog->revision == revision ? catalog->tasks
                                                       : 0;
        if (upstream_config(view->items[i].upstream)->share == CONFIG_SHARE_ALL)
            has &= CATALOG_TASK_CALLS | CATALOG_TASK_CANCEL;
        tasks |= has;
    }
    return tasks & (mcp_revision_is_modern(revision) ? CATALOG_TASK_EXTENSION
                    : revision == MCP_2025_11_25     ? CATALOG_TASK_ALL & ~CATALOG_TASK_EXTENSION
                                                     : 0u);
}

static void write_tasks(struct json_writer *writer, unsigned tasks) {
    if ((tasks & CATALOG_TASK_CALLS) == 0)
        return;
    json_key(writer, SLICE("tasks"));
    json_object_begin(writer);
    if ((tasks & CATALOG_TASK_LIST) != 0)
        json_kv_raw(writer, SLICE("list"), SLICE("{}"));
    if ((tasks & CATALOG_TASK_CANCEL) != 0)
        json_kv_raw(writer, SLICE("cancel"), SLICE("{}"));
    json_kv_raw(writer, SLICE("requests"), SLICE("{\"tools\":{\"call\":{}}}"));
    json_object_end(writer);
}

/* Changes are told on a session's stream, or on that of a listen. */
static void write_capabilities(struct json_writer *writer, const struct gw_view *view,
                               const struct gw_call *call) {
    /* An endpoint of one upstream has what that one has, once it is known. */
    const struct catalog *known =
        call->only != NULL && view->n == 1 ? view->items[0].status.catalog : NULL;
    json_object_begin(writer);
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        if (i == MCP_LIST_TEMPLATES || (known != NULL && (known->declared & (1u << i)) == 0))
            continue;
        bool subscribes = i == MCP_LIST_RESOURCES && (known == NULL || known->has_subscriptions);
        json_kv_raw(writer, mcp_list_info((enum mcp_list)i)->capability,
                    subscribes ? SLICE("{\"subscribe\":true,\"listChanged\":true}")
                               : SLICE("{\"listChanged\":true}"));
    }
    if (known == NULL || known->has_logging)
        json_kv_raw(writer, SLICE("logging"), SLICE("{}"));
    if (known == NULL || known->has_completions)
        json_kv_raw(writer, SLICE("completions"), SLICE("{}"));
    /* Tools of 2025-11-25 say by themselves whether they run as tasks. */
    unsigned tasks =
        find_tasks(view, call->revision, CATALOG_TASK_ALL & ~(unsigned)CATALOG_TASK_EXTENSION);
    write_tasks(writer, tasks);
    gw_write_offers(writer, view, call, (tasks & CATALOG_TASK_EXTENSION) != 0);
    json_object_end(writer);
}

/* What the upstreams say of themselves, each under its name when there are several. */
static void write_instructions(struct json_writer *writer, const struct gw_view *view,
                               bool is_only) {
    struct buf text = BUF_INIT(KIB(64));
    for (size_t i = 0; i < view->n; i++) {
        const struct catalog *catalog = view->items[i].status.catalog;
        if (catalog == NULL || catalog->instructions.len == 0 || !view->items[i].status.is_listed ||
            !gw_view_item_has(view, &view->items[i], MCP_LIST_PROMPTS)) /* or of some tools alone */
            continue;
        size_t before = buf_len(&text);
        if (!is_only)
            buf_printf(&text, "%s# %.*s\n\n", before != 0 ? "\n\n" : "",
                       SLICE_ARGS(upstream_name(view->items[i].upstream)));
        if (buf_append(&text, catalog->instructions) != 0) {
            text.error = 0; /* what does not fit is left out */
            buf_truncate(&text, before);
        }
    }
    if (buf_len(&text) != 0)
        json_kv_string(writer, SLICE("instructions"), buf_slice(&text));
    buf_deinit(&text);
}

/* The members that both have. */
static void write_server(struct json_writer *writer, const struct gw_view *view,
                         const struct gw_call *call) {
    json_key(writer, SLICE("capabilities"));
    write_capabilities(writer, view, call);
    write_instructions(writer, view, call->only != NULL);
}

#define SERVER_RESULT KIB(512) /* escaping makes six bytes of one */

/* HTTP+SSE: the session is there since its stream is. False: it has been refused. */
static bool take_session(struct gw_call *call, enum mcp_revision revision) {
    if (call->session->is_initialized) {
        gw_call_answer_error(call, MCP_E_INVALID_REQUEST,
                             SLICE("this session is initialized already; open another stream"),
                             SLICE_EMPTY);
        return false;
    }
    call->session->is_initialized = true;
    call->session->revision = revision;
    call->session->capabilities = call->capabilities;
    return true;
}

static bool open_session(struct gw_call *call, enum mcp_revision revision) {
    struct gw_exchange *exchange = call->exchange;
    exchange->session =
        gw_session_new(call->worker->gateway, call->principal, call->only, GW_SESSION_HTTP,
                       revision, call->capabilities, io_loop_now(call->worker->loop));
    if (exchange->session == NULL) {
        gw_call_answer_error(call, MCP_E_BUSY,
                             mem_is_short()
                                 ? SLICE("the gateway is out of memory; try again later")
                                 : SLICE("max_sessions are open and in use; try again later"),
                             SLICE_EMPTY);
        return false;
    }
    exchange->returns_session = true;
    return true;
}

/* What the session's servers of 2026-07-28 are told of its client. */
static void note_declared(struct gw_call *call, struct slice capabilities) {
    struct gw_session *session = call->exchange->session;
    struct buf extensions CLEANUP(buf_deinit) = BUF_INIT(LIMIT_EXTENSIONS);
    struct buf experimental CLEANUP(buf_deinit) = BUF_INIT(LIMIT_EXTENSIONS);
    /* What is too long is not passed on, none of it. */
    if (mcp_capabilities_read_more(call->worker->second_reader, capabilities, &extensions,
                                   &experimental) == 0)
        gw_session_declare(session, buf_slice(&extensions), buf_slice(&experimental));
}

/* The endpoint of one server says what that one is: it waits for it while it starts. */
static void try_initialize(struct gw_call *call, bool is_late) {
    struct gw_session *session = call->exchange->session;
    struct gw_view *view =
        gw_view_open(call->worker, call->exchange->caller, session, call->capabilities, call->only);
    uint64_t patience = call->only != NULL && !is_late
                            ? gw_view_patience(view, io_loop_now(call->worker->loop),
                                               call->worker->config->list_timeout_ms)
                            : 0;
    if (patience != 0) {
        gw_view_close(view);
        gw_call_wait(call, try_initialize, patience);
        return;
    }
    struct json_writer writer;
    struct buf result = BUF_INIT(SERVER_RESULT);
    json_writer_init(&writer, &result);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("protocolVersion"), mcp_revision_name(session->revision));
    write_server(&writer, view, call);
    json_key(&writer, SLICE("serverInfo"));
    gw_write_implementation(&writer, call->worker->gateway);
    json_object_end(&writer);
    gw_view_close(view);
    gw_call_answer_result(call, buf_slice(&result), call->revision);
    buf_deinit(&result);
}

static void handle_initialize(struct gw_call *call, const struct mcp_message *message) {
    struct gw_exchange *exchange = call->exchange;
    bool is_sse = call->session != NULL; /* all others have none before this */
    enum mcp_revision revision = negotiate(call->worker->reader, message);
    const struct json_node *capabilities =
        mcp_param(call->worker->reader, message, SLICE("capabilities"), JSON_OBJECT);
    if (capabilities != NULL)
        call->capabilities =
            mcp_capabilities_read(call->worker->second_reader, capabilities->raw, revision);
    if (!(is_sse ? take_session(call, revision) : open_session(call, revision)))
        return;
    if (capabilities != NULL)
        note_declared(call, capabilities->raw);
    gw_record_note_client(exchange->session, call->worker, message);
    gw_session_note_caller(exchange->session, exchange->caller->identity);
    try_initialize(call, false);
}

static void write_discovery(struct buf *out, const struct gw_view *view,
                            const struct gw_call *call) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_key(&writer, SLICE("supportedVersions"));
    json_array_begin(&writer);
    json_string(&writer, mcp_revision_name(MCP_2026_07_28));
    json_array_end(&writer);
    write_server(&writer, view, call);
    struct mcp_cache cache = gw_cache_of_discovery(call->worker, view);
    gw_write_modern_members(&writer, call->worker->gateway, &cache);
    json_object_end(&writer);
}

/* Clients ask once and keep the answer: it waits for upstreams that start, as lists do. */
static void try_discover(struct gw_call *call, bool is_late) {
    struct gw_view *view = gw_view_open(call->worker, call->exchange->caller, call->session,
                                        call->capabilities, call->only);
    uint64_t patience = gw_view_patience(view, io_loop_now(call->worker->loop),
                                         call->worker->config->list_timeout_ms);
    if (patience != 0 && !is_late) {
        gw_view_close(view);
        gw_call_wait(call, try_discover, patience);
        return;
    }
    struct buf result = BUF_INIT(SERVER_RESULT);
    write_discovery(&result, view, call);
    gw_view_close(view);
    gw_call_answer_result(call, buf_slice(&result), call->revision);
    buf_deinit(&result);
}

static void handle_discover(struct gw_call *call, const struct mcp_message *message) {
    (void)message;
    try_discover(call, false);
}

/* The table. */

enum { LEGACY = 1, MODERN = 2, BOTH = LEGACY | MODERN };
enum needs { NOTHING, TOOLS, PROMPTS, RESOURCES, COMPLETIONS, TASKS };

/* A method without a row does not exist. */
static const struct method_row {
    void (*handle)(struct gw_call *call, const struct mcp_message *message);
    unsigned eras;
    enum needs needs;
} methods[MCP_METHOD_COUNT] = {
    [MCP_INITIALIZE] = {handle_initialize, LEGACY, NOTHING},
    [MCP_PING] = {handle_ping, LEGACY, NOTHING},
    [MCP_LOGGING_SET_LEVEL] = {handle_set_level, LEGACY, NOTHING},
    [MCP_SERVER_DISCOVER] = {handle_discover, MODERN, NOTHING},
    [MCP_TOOLS_LIST] = {gw_list_start, BOTH, TOOLS},
    [MCP_TOOLS_CALL] = {gw_call_start, BOTH, TOOLS},
    [MCP_PROMPTS_LIST] = {gw_list_start, BOTH, PROMPTS},
    [MCP_PROMPTS_GET] = {gw_call_start, BOTH, PROMPTS},
    [MCP_RESOURCES_LIST] = {gw_list_start, BOTH, RESOURCES},
    [MCP_RESOURCES_TEMPLATES_LIST] = {gw_list_start, BOTH, RESOURCES},
    [MCP_RESOURCES_READ] = {gw_call_start, BOTH, RESOURCES},
    [MCP_RESOURCES_SUBSCRIBE] = {gw_call_start, LEGACY, RESOURCES},
    [MCP_RESOURCES_UNSUBSCRIBE] = {gw_unsubscribe, LEGACY, RESOURCES},
    [MCP_SUBSCRIPTIONS_LISTEN] = {gw_listen_start, MODERN, NOTHING},
    [MCP_COMPLETION_COMPLETE] = {gw_call_start, BOTH, COMPLETIONS},
    [MCP_TASKS_GET] = {handle_tasks, BOTH, TASKS},
    [MCP_TASKS_RESULT] = {handle_tasks, LEGACY, TASKS},
    [MCP_TASKS_LIST] = {handle_tasks, LEGACY, TASKS},
    [MCP_TASKS_UPDATE] = {handle_tasks, MODERN, TASKS},
    [MCP_TASKS_CANCEL] = {handle_tasks, BOTH, TASKS},
};

bool gw_method_is_served(enum mcp_method method, enum mcp_revision revision) {
    unsigned era = mcp_revision_is_modern(revision) ? MODERN : LEGACY;
    return (methods[method].eras & era) != 0;
}

bool gw_has_tasks(const struct gw_view *view, enum mcp_revision revision) {
    return find_tasks(view, revision, CATALOG_TASK_ALL) != 0;
}

bool gw_method_is_absent(enum mcp_method method, const struct gw_view *view) {
    const struct catalog *known = view->n == 1 ? view->items[0].status.catalog : NULL;
    if (known == NULL)
        return false;
    switch (methods[method].needs) {
    case NOTHING:
        return false;
    case TOOLS:
        return (known->declared & (1u << MCP_LIST_TOOLS)) == 0;
    case PROMPTS:
        return (known->declared & (1u << MCP_LIST_PROMPTS)) == 0;
    case RESOURCES:
        return (known->declared & (1u << MCP_LIST_RESOURCES)) == 0;
    case COMPLETIONS:
        return !known->has_completions;
    case TASKS:
        return false; /* see gw_has_tasks() */
    }
    return false;
}

void gw_method_run(struct gw_call *call, const struct mcp_message *message) {
    if (gw_method_is_served(call->method, call->revision))
        methods[call->method].handle(call, message);
    else
        gw_call_answer_error(call, MCP_E_METHOD_NOT_FOUND, SLICE("Method not found"), SLICE_EMPTY);
}
