/*
 * What a client does for a server: the requests that go the other way (sampling, elicitation,
 * roots), as a mask of bits. A server hears of what its caller can do, as far as the gateway passes
 * it on, and of nothing else.
 */
#pragma once

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "json/reader.h"
#include "json/writer.h"
#include "mcp/protocol.h"

enum {
    MCP_CAN_SAMPLE = 1u << 0,
    MCP_CAN_SAMPLE_TOOLS = 1u << 1,   /* from 2025-11-25 on, as the next */
    MCP_CAN_SAMPLE_CONTEXT = 1u << 2, /* includeContext */
    MCP_CAN_ELICIT_FORM = 1u << 3,    /* from 2025-06-18 on */
    MCP_CAN_ELICIT_URL = 1u << 4,     /* from 2025-11-25 on */
    MCP_CAN_ROOTS = 1u << 5,
    MCP_CAN_SHOW_APPS = 1u << 6, /* MCP Apps: the extension of that name, in every revision */
    MCP_CAN_ALL = (1u << 7) - 1,
    /* It takes a task for a result (MCP_EXTENSION_TASKS): said by each request of 2026-07-28, and
     * no capability of a session. */
    MCP_CAN_TASKS = 1u << 7,
};

/* MCP Apps: servers that know of it look for it before they offer what has a user interface. */
#define MCP_EXTENSION_APPS "io.modelcontextprotocol/ui"
/* Tasks of 2026-07-28, and what a client of 2025-11-25 declares that runs tasks itself, which is
 * not passed on. */
#define MCP_EXTENSION_TASKS  "io.modelcontextprotocol/tasks"
#define MCP_CAPABILITY_TASKS "tasks"

/* What else a client declares: JSON objects as written, or empty. */
struct mcp_capabilities_more {
    struct slice extensions, experimental;
};

/*
 * Reads an object of capabilities, as written; what its revision does not know is not in the mask.
 * `reader`: its tape is replaced. What cannot be read is nothing (0).
 */
unsigned mcp_capabilities_read(struct json_reader *reader, struct slice capabilities,
                               enum mcp_revision revision);
/*
 * Appends what else stands in it, each to a buffer of its own: nothing where it is not there, or no
 * object. `extensions` come without those that are not passed on. 0, or the error of a buffer.
 */
MUST_CHECK int mcp_capabilities_read_more(struct json_reader *reader, struct slice capabilities,
                                          struct buf *extensions, struct buf *experimental);
/* Writes the object that says so to a server of this revision: what that does not know is left
 * out. `more` may be NULL. */
void mcp_capabilities_write(struct json_writer *writer, unsigned mask,
                            const struct mcp_capabilities_more *more, enum mcp_revision revision);
/*
 * What a request of a server needs of the client: all of these bits. 0: it is none that a client
 * can be asked. `params`: of it, opened, or NULL.
 */
unsigned mcp_capabilities_needed(const struct json_reader *reader, enum mcp_method method,
                                 const struct json_node *params);
