/* Whether a listed item has the shape that the MCP schema demands: clients refuse a whole list for
 * one that has not. */
#pragma once

#include "json/reader.h"
#include "mcp/protocol.h"

/* What of an item has to be opened on the tape for the check. */
extern const struct json_want shape_want_item[];

/* NULL, or a sentence that says what is wrong with an item of a server of that revision. */
const char *shape_check(const struct json_reader *reader, const struct json_node *item,
                        enum mcp_list kind, enum mcp_revision revision);
/* The same about what identifies the item (mcp_list_info), unescaped: clients see it so. */
const char *shape_check_key(struct slice key, enum mcp_list kind);
