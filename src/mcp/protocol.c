#include "mcp/protocol.h"

#include "base/compiler.h"

static const struct slice revisions[] = {
    [MCP_REVISION_NONE] = SLICE_INIT(""),        [MCP_2024_11_05] = SLICE_INIT("2024-11-05"),
    [MCP_2025_03_26] = SLICE_INIT("2025-03-26"), [MCP_2025_06_18] = SLICE_INIT("2025-06-18"),
    [MCP_2025_11_25] = SLICE_INIT("2025-11-25"), [MCP_2026_07_28] = SLICE_INIT("2026-07-28"),
};

struct slice mcp_revision_name(enum mcp_revision revision) {
    return revisions[revision];
}

enum mcp_revision mcp_revision_parse(struct slice text) {
    for (size_t i = 1; i < ARRAY_LEN(revisions); i++) {
        if (slice_eq(text, revisions[i]))
            return (enum mcp_revision)i;
    }
    return MCP_REVISION_NONE;
}

bool mcp_revision_is_legacy(enum mcp_revision revision) {
    return revision != MCP_REVISION_NONE && revision <= MCP_LEGACY_LATEST;
}

bool mcp_revision_is_modern(enum mcp_revision revision) {
    return revision > MCP_LEGACY_LATEST;
}

static const struct slice methods[MCP_METHOD_COUNT] = {
    [MCP_METHOD_UNKNOWN] = SLICE_INIT(""),
    [MCP_INITIALIZE] = SLICE_INIT("initialize"),
    [MCP_PING] = SLICE_INIT("ping"),
    [MCP_SERVER_DISCOVER] = SLICE_INIT("server/discover"),
    [MCP_TOOLS_LIST] = SLICE_INIT("tools/list"),
    [MCP_TOOLS_CALL] = SLICE_INIT("tools/call"),
    [MCP_PROMPTS_LIST] = SLICE_INIT("prompts/list"),
    [MCP_PROMPTS_GET] = SLICE_INIT("prompts/get"),
    [MCP_RESOURCES_LIST] = SLICE_INIT("resources/list"),
    [MCP_RESOURCES_TEMPLATES_LIST] = SLICE_INIT("resources/templates/list"),
    [MCP_RESOURCES_READ] = SLICE_INIT("resources/read"),
    [MCP_RESOURCES_SUBSCRIBE] = SLICE_INIT("resources/subscribe"),
    [MCP_RESOURCES_UNSUBSCRIBE] = SLICE_INIT("resources/unsubscribe"),
    [MCP_COMPLETION_COMPLETE] = SLICE_INIT("completion/complete"),
    [MCP_LOGGING_SET_LEVEL] = SLICE_INIT("logging/setLevel"),
    [MCP_SAMPLING_CREATE_MESSAGE] = SLICE_INIT("sampling/createMessage"),
    [MCP_ROOTS_LIST] = SLICE_INIT("roots/list"),
    [MCP_ELICITATION_CREATE] = SLICE_INIT("elicitation/create"),
    [MCP_SUBSCRIPTIONS_LISTEN] = SLICE_INIT("subscriptions/listen"),
    [MCP_TASKS_GET] = SLICE_INIT("tasks/get"),
    [MCP_TASKS_RESULT] = SLICE_INIT("tasks/result"),
    [MCP_TASKS_LIST] = SLICE_INIT("tasks/list"),
    [MCP_TASKS_UPDATE] = SLICE_INIT("tasks/update"),
    [MCP_TASKS_CANCEL] = SLICE_INIT("tasks/cancel"),
    [MCP_NOTIFY_INITIALIZED] = SLICE_INIT("notifications/initialized"),
    [MCP_NOTIFY_CANCELLED] = SLICE_INIT("notifications/cancelled"),
    [MCP_NOTIFY_PROGRESS] = SLICE_INIT("notifications/progress"),
    [MCP_NOTIFY_MESSAGE] = SLICE_INIT("notifications/message"),
    [MCP_NOTIFY_TOOLS_CHANGED] = SLICE_INIT("notifications/tools/list_changed"),
    [MCP_NOTIFY_PROMPTS_CHANGED] = SLICE_INIT("notifications/prompts/list_changed"),
    [MCP_NOTIFY_RESOURCES_CHANGED] = SLICE_INIT("notifications/resources/list_changed"),
    [MCP_NOTIFY_RESOURCE_UPDATED] = SLICE_INIT("notifications/resources/updated"),
    [MCP_NOTIFY_ROOTS_CHANGED] = SLICE_INIT("notifications/roots/list_changed"),
    [MCP_NOTIFY_SUBSCRIPTIONS_ACKNOWLEDGED] =
        SLICE_INIT("notifications/subscriptions/acknowledged"),
    [MCP_NOTIFY_ELICITATION_COMPLETE] = SLICE_INIT("notifications/elicitation/complete"),
    [MCP_NOTIFY_TASKS] = SLICE_INIT("notifications/tasks"),
    [MCP_NOTIFY_TASKS_STATUS] = SLICE_INIT("notifications/tasks/status"),
};

struct slice mcp_method_name(enum mcp_method method) {
    return methods[method];
}

enum mcp_method mcp_method_parse(struct slice text) {
    for (size_t i = 1; i < ARRAY_LEN(methods); i++) {
        if (slice_eq(text, methods[i]))
            return (enum mcp_method)i;
    }
    return MCP_METHOD_UNKNOWN;
}

bool mcp_method_is_repeatable(enum mcp_method method) {
    static const bool repeatable[MCP_METHOD_COUNT] = {
        [MCP_INITIALIZE] = true, /* at worst a session that nobody uses */
        [MCP_PING] = true,
        [MCP_SERVER_DISCOVER] = true,
        [MCP_TOOLS_LIST] = true,
        [MCP_PROMPTS_LIST] = true,
        [MCP_PROMPTS_GET] = true,
        [MCP_RESOURCES_LIST] = true,
        [MCP_RESOURCES_TEMPLATES_LIST] = true,
        [MCP_RESOURCES_READ] = true,
        [MCP_COMPLETION_COMPLETE] = true,
        [MCP_LOGGING_SET_LEVEL] = true,
        [MCP_TASKS_GET] = true,
        [MCP_TASKS_RESULT] = true,
        [MCP_TASKS_LIST] = true,
    };
    return repeatable[method];
}

static const struct mcp_list_info lists[MCP_LIST_COUNT] = {
    [MCP_LIST_TOOLS] =
        {
            .method = MCP_TOOLS_LIST,
            .changed = MCP_NOTIFY_TOOLS_CHANGED,
            .result_key = SLICE_INIT("tools"),
            .item_key = SLICE_INIT("name"),
            .capability = SLICE_INIT("tools"),
            .is_named = true,
        },
    [MCP_LIST_PROMPTS] =
        {
            .method = MCP_PROMPTS_LIST,
            .changed = MCP_NOTIFY_PROMPTS_CHANGED,
            .result_key = SLICE_INIT("prompts"),
            .item_key = SLICE_INIT("name"),
            .capability = SLICE_INIT("prompts"),
            .is_named = true,
        },
    [MCP_LIST_RESOURCES] =
        {
            .method = MCP_RESOURCES_LIST,
            .changed = MCP_NOTIFY_RESOURCES_CHANGED,
            .result_key = SLICE_INIT("resources"),
            .item_key = SLICE_INIT("uri"),
            .capability = SLICE_INIT("resources"),
        },
    [MCP_LIST_TEMPLATES] =
        {
            .method = MCP_RESOURCES_TEMPLATES_LIST,
            .changed = MCP_NOTIFY_RESOURCES_CHANGED,
            .result_key = SLICE_INIT("resourceTemplates"),
            .item_key = SLICE_INIT("uriTemplate"),
            .capability = SLICE_INIT("resources"),
        },
};

struct slice mcp_session_shown(struct slice id) {
    enum { SHOWN = 8 };
    size_t dot = slice_find_byte(id, '.');
    return slice_sub(id, 0, dot != SIZE_MAX ? dot + 1 + SHOWN : SHOWN);
}

const struct mcp_list_info *mcp_list_info(enum mcp_list list) {
    return &lists[list];
}

static const struct slice log_levels[] = {
    SLICE_INIT("debug"), SLICE_INIT("info"),     SLICE_INIT("notice"), SLICE_INIT("warning"),
    SLICE_INIT("error"), SLICE_INIT("critical"), SLICE_INIT("alert"),  SLICE_INIT("emergency"),
};

int mcp_log_level_parse(struct slice text) {
    for (size_t i = 0; i < ARRAY_LEN(log_levels); i++) {
        if (slice_eq(text, log_levels[i]))
            return (int)i;
    }
    return -1;
}

struct slice mcp_log_level_name(int level) {
    return log_levels[level];
}
