/*
 * The vocabulary of the Model Context Protocol: revisions, methods, error codes, list kinds.
 * Tables, no state.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* In the order of time, so that they may be compared. */
enum mcp_revision {
    MCP_REVISION_NONE,
    MCP_2024_11_05,
    MCP_2025_03_26,
    MCP_2025_06_18,
    MCP_2025_11_25,
    MCP_2026_07_28,
};

/* The newest with the initialize handshake. */
#define MCP_LEGACY_LATEST MCP_2025_11_25

struct slice mcp_revision_name(enum mcp_revision revision);
/* MCP_REVISION_NONE for a text that is none. */
enum mcp_revision mcp_revision_parse(struct slice text);
/* With initialize and a session, which 2024-11-05 gets over Streamable HTTP, too: its clients on
 * stdio have no other way here, and the official servers do the same. */
bool mcp_revision_is_legacy(enum mcp_revision revision);
/* Without handshake and session: every request says it all. */
bool mcp_revision_is_modern(enum mcp_revision revision);

/* As much of the id of one of our sessions as logs and records may have, which lets nobody in: its
 * instance, and the beginning of what is random in it. */
struct slice mcp_session_shown(struct slice id);

enum mcp_method {
    MCP_METHOD_UNKNOWN,
    MCP_INITIALIZE,
    MCP_PING,
    MCP_SERVER_DISCOVER,
    MCP_TOOLS_LIST,
    MCP_TOOLS_CALL,
    MCP_PROMPTS_LIST,
    MCP_PROMPTS_GET,
    MCP_RESOURCES_LIST,
    MCP_RESOURCES_TEMPLATES_LIST,
    MCP_RESOURCES_READ,
    MCP_RESOURCES_SUBSCRIBE,
    MCP_RESOURCES_UNSUBSCRIBE,
    MCP_COMPLETION_COMPLETE,
    MCP_LOGGING_SET_LEVEL,
    MCP_SAMPLING_CREATE_MESSAGE,
    MCP_ROOTS_LIST,
    MCP_ELICITATION_CREATE,
    MCP_SUBSCRIPTIONS_LISTEN,
    MCP_TASKS_GET,
    MCP_TASKS_RESULT,
    MCP_TASKS_LIST,
    MCP_TASKS_UPDATE,
    MCP_TASKS_CANCEL,
    MCP_NOTIFY_INITIALIZED,
    MCP_NOTIFY_CANCELLED,
    MCP_NOTIFY_PROGRESS,
    MCP_NOTIFY_MESSAGE,
    MCP_NOTIFY_TOOLS_CHANGED,
    MCP_NOTIFY_PROMPTS_CHANGED,
    MCP_NOTIFY_RESOURCES_CHANGED,
    MCP_NOTIFY_RESOURCE_UPDATED,
    MCP_NOTIFY_ROOTS_CHANGED,
    MCP_NOTIFY_SUBSCRIPTIONS_ACKNOWLEDGED,
    MCP_NOTIFY_ELICITATION_COMPLETE,
    MCP_NOTIFY_TASKS,
    MCP_NOTIFY_TASKS_STATUS,
    MCP_METHOD_COUNT,
};

struct slice mcp_method_name(enum mcp_method method);
enum mcp_method mcp_method_parse(struct slice text);
/* Whether a request may reach a server twice when its answer was lost: it asks, and changes nothing
 * but what it would leave the same way. Never tools/call, whatever the tool says of itself. */
bool mcp_method_is_repeatable(enum mcp_method method);

/* What a server lists. */
enum mcp_list {
    MCP_LIST_TOOLS,
    MCP_LIST_PROMPTS,
    MCP_LIST_RESOURCES,
    MCP_LIST_TEMPLATES,
    MCP_LIST_COUNT
};

struct mcp_list_info {
    enum mcp_method method;  /* that asks for it */
    enum mcp_method changed; /* the notification that it changed */
    struct slice result_key; /* "tools": the array in the result */
    struct slice item_key;   /* "name", "uri": what identifies an item */
    struct slice capability; /* that a server declares when it has such a list */
    bool is_named;           /* identified by a name that gets the upstream's prefix */
};

const struct mcp_list_info *mcp_list_info(enum mcp_list list);

/* JSON-RPC 2.0 section 5.1, and codes of our own, which stay outside -32768..-32000 (MCP
 * 2026-07-28, basic). */
enum mcp_error_code {
    MCP_E_PARSE = -32700,
    MCP_E_INVALID_REQUEST = -32600,
    MCP_E_METHOD_NOT_FOUND = -32601,
    MCP_E_INVALID_PARAMS = -32602,
    MCP_E_INTERNAL = -32603,
    MCP_E_RESOURCE_NOT_FOUND = -32002,       /* up to 2025-11-25 */
    MCP_E_HEADER_MISMATCH = -32020,          /* these three: from 2026-07-28 on, with HTTP 400 */
    MCP_E_MISSING_CAPABILITY = -32021,       /* data.requiredCapabilities */
    MCP_E_UNSUPPORTED_VERSION = -32022,      /* data.supported, data.requested */
    MCP_E_URL_ELICITATION_REQUIRED = -32042, /* 2025-11-25 only */
    MCP_E_UNAUTHENTICATED = 401,
    MCP_E_FORBIDDEN = 403,
    MCP_E_NOT_FOUND = 404,
    MCP_E_UNSUPPORTED = 415,
    MCP_E_BUSY = 429,
    MCP_E_UNAVAILABLE = 503,
    MCP_E_TIMEOUT = 504,
};

/* Log levels of RFC 5424 as MCP names them, from debug (0) to emergency (7); -1 for another text.
 */
enum { MCP_LOG_LEVEL_LAST = 7 };
int mcp_log_level_parse(struct slice text);
struct slice mcp_log_level_name(int level);
