/*
 * Tasks as they stand in messages: of 2025-11-25 (basic/utilities/tasks) and of the extension
 * io.modelcontextprotocol/tasks of 2026-07-28. Who stands between a client and several servers
 * gives the client other ids; here is where they are.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "json/reader.h"
#include "mcp/protocol.h"

/* In `_meta` of what belongs to a task of 2025-11-25. */
#define MCP_META_RELATED_TASK SLICE("io.modelcontextprotocol/related-task")

bool mcp_method_is_of_tasks(enum mcp_method method);

/* Places of a taskId in a result or in params; a mask. */
enum {
    MCP_TASK_AT_ROOT = 1u << 0, /* the document is a task */
    MCP_TASK_CREATED = 1u << 1, /* in its member `task` */
    MCP_TASK_LISTED = 1u << 2,  /* in each element of `tasks` */
    MCP_TASK_RELATED = 1u << 3, /* in _meta */
};

/* Appends another id for this one, as JSON with its quotes. Another answer than 0 ends it all. */
typedef int mcp_task_rename_fn(void *context, const struct json_node *id, struct buf *out);

/* It may have an id in one of these places, which is worth reading it. One search. */
bool mcp_tasks_possible(struct slice document);
/*
 * Appends the document with other ids. MCP_E_REFUSED: it is no object that can be read, or an id is
 * no string; -ENOMEM, -E2BIG, what `rename` answers. `reader`: its tape is replaced.
 */
MUST_CHECK int mcp_tasks_rename(struct buf *out, struct json_reader *reader, struct slice document,
                                unsigned places, mcp_task_rename_fn *rename, void *context);
/* Appends it without what says to which task it belongs, for whoever knows of none. The same
 * answers. */
MUST_CHECK int mcp_tasks_strip(struct buf *out, struct json_reader *reader, struct slice document);

/* Appends an answer to tasks/get as a notification says it: without its type, and without who has
 * answered. MCP_E_REFUSED: it is no object that can be read. -ENOMEM, -E2BIG. */
MUST_CHECK int mcp_task_bare(struct buf *out, struct json_reader *reader, struct slice document);

enum mcp_task_status {
    MCP_TASK_WORKING,
    MCP_TASK_INPUT_REQUIRED,
    MCP_TASK_COMPLETED,
    MCP_TASK_FAILED,
    MCP_TASK_CANCELLED,
};

/* A task, as an answer says it; nodes and slices of the reader's document. */
struct mcp_task {
    const struct json_node *id; /* a string */
    enum mcp_task_status status;
    uint64_t poll_ms;              /* LIMIT_TASK_POLL_*: what the server wishes, within bounds */
    struct slice result, error;    /* objects; empty: it has none */
    const struct json_node *input; /* inputRequests, opened with their params; NULL: none */
};

/*
 * Reads what created a task: `task` of 2025-11-25, or the result itself in 2026-07-28, when its
 * type is "task". False: it is none. What is wrong with it makes it none.
 */
bool mcp_task_read_created(struct json_reader *reader, struct slice result,
                           enum mcp_revision revision, struct mcp_task *ret_task);
/* The result says that it is one of 2026-07-28, whatever else is in it. */
bool mcp_result_is_task(struct json_reader *reader, struct slice result);
/* Reads the result of tasks/get of 2026-07-28. */
bool mcp_task_read(struct json_reader *reader, struct slice result, struct mcp_task *ret_task);
