/*
 * Translation between the revisions: what one side said, as the other side has to hear it. Each
 * function appends to `out` and touches no byte that need not change. The rules and their sources
 * stand in bridge.c; what cannot be said in the other revision is refused, never guessed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "json/reader.h"
#include "mcp/capabilities.h"
#include "mcp/message.h"
#include "mcp/modern.h"
#include "mcp/protocol.h"

/* Who we are, told in results (serverInfo) and requests (clientInfo). */
struct mcp_implementation {
    struct slice name, version;
};

/*
 * Requests: params of a client's message for an upstream. `reader` is the one that read `message`
 * (its tape is looked at, not replaced). Edits that are empty change nothing.
 */
struct mcp_params_edit {
    enum mcp_revision from, to; /* of the client, of the upstream */
    struct slice name_span;     /* in params: a string to be replaced */
    struct slice name;          /* by this, unescaped */
    struct slice token;         /* JSON: takes the place of the progress token, when there is one */
    /* For an upstream of 2026-07-28. */
    int log_level;         /* stamped when >= 0; of a client of 2026-07-28 its own key is kept */
    unsigned capabilities; /* of a legacy client (mcp/capabilities.h), and what else it declared */
    struct mcp_capabilities_more more;
    bool declare_nothing; /* capabilities: {} instead of what both the client has and the gateway
                             relays */
    /* JSON: what the client of a legacy session answered, and what the upstream wants back with it,
     * which takes the place of what a modern client has sent; empty: nothing. */
    struct slice input_responses, request_state;
    /* Tasks. The client's own `task` is passed on within a revision alone. */
    bool makes_task;                          /* the call gets a `task` of the gateway's */
    bool drops_cursor;                        /* the client's is of another server */
    const struct mcp_implementation *gateway; /* clientInfo where the client gave none */
};

/*
 * legacy to legacy and modern to modern: name and token; modern to modern: capabilities without
 * tasks that the client runs. legacy to modern: the envelope is stamped. modern to legacy: the
 * envelope's keys are taken out of _meta. Also for messages without params ("{}" then, or nothing:
 * out stays empty, where the upstream needs none).
 */
int mcp_bridge_params(struct buf *out, const struct json_reader *reader,
                      const struct mcp_message *message, const struct mcp_params_edit *edit);

/*
 * Requests of servers, `params` of them as JSON (empty: there are none, and nothing is appended).
 * What belongs to the request itself is taken out for a client that is asked by a result: its
 * progress token, and an elicitationId. What is asked by a result and becomes a request to a legacy
 * client: an elicitation by URL gets the elicitationId that it needs there, from `id` (plain text).
 * `reader`: its tape is replaced. MCP_E_REFUSED: no object that can be read. -ENOMEM, -E2BIG.
 */
MUST_CHECK int mcp_bridge_ask_to_modern(struct buf *out, struct json_reader *reader,
                                        enum mcp_method method, struct slice params);
MUST_CHECK int mcp_bridge_ask_to_legacy(struct buf *out, struct json_reader *reader,
                                        enum mcp_method method, struct slice params,
                                        struct slice id);

/* Results. */

/* False: the result goes on as it is, unread. */
bool mcp_bridge_result_needed(enum mcp_revision from, enum mcp_revision to);

/*
 * `method` is that of the request. MCP_E_REFUSED: the result cannot be said in revision `to` (it
 * asks for input, or is of a kind that nobody knows), *ret_reason is a sentence for the caller.
 *
 * To 2026-07-28: resultType "complete" where there is none; ttlMs 0 and cacheScope "private" on
 * results that are cached; _meta serverInfo where there is none; MCP_E_REFUSED with
 * *ret_reason NULL for a read resource whose `contents` are empty (it does not exist). From
 * 2026-07-28: these are taken out, structuredContent that is no object becomes {"result": ...}
 * (and is said as text where the content is empty). To clients older than a content type: a
 * resource_link becomes text (before 2025-06-18), audio becomes text that says what was left out
 * (before 2025-03-26). `reader` is used for the result: its tape is replaced. -ENOMEM, -E2BIG.
 */
MUST_CHECK int mcp_bridge_result(struct buf *out, struct json_reader *reader,
                                 enum mcp_method method, struct slice result,
                                 enum mcp_revision from, enum mcp_revision to,
                                 const struct mcp_implementation *gateway, const char **ret_reason);

/*
 * The error object of an upstream. "Resource not found" is -32602 with data.uri in 2026-07-28 and
 * -32002 before (from modern, only when the method is resources/read and data.uri is there);
 * -32020 to -32022 and -32042, which mean nothing in the other era, become -32603 with the same
 * message. `uri`: what was read, JSON as written, or empty. *ret_code: the code that was written.
 * MCP_E_REFUSED: it is no error object that can be read.
 */
MUST_CHECK int mcp_bridge_error(struct buf *out, struct json_reader *reader, enum mcp_method method,
                                struct slice error, struct slice uri, enum mcp_revision from,
                                enum mcp_revision to, int *ret_code);

/*
 * Params of a notification (an object) for a client: with the id of the listen that it belongs to
 * (JSON) in _meta, or without one where that is empty. MCP_E_REFUSED: they are no JSON object that
 * can be read. The buffer's error.
 */
MUST_CHECK int mcp_bridge_news(struct buf *out, struct json_reader *reader, struct slice params,
                               struct slice subscription);

/*
 * One definition of tools/list (JSON as written): to 2026-07-28 without `execution`; from it, an
 * outputSchema whose root is no object is wrapped as the results are. *ret_changed false: nothing
 * was appended, it goes on as it is. MCP_E_REFUSED: it is no JSON object that can be read. A tool
 * without the member mcp_bridge_tool_member() is never changed.
 */
struct slice mcp_bridge_tool_member(enum mcp_revision from);
MUST_CHECK int mcp_bridge_tool(struct buf *out, struct json_reader *reader, struct slice tool,
                               enum mcp_revision from, enum mcp_revision to, bool *ret_changed);
