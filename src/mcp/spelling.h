/* Keys that another parser could take for a protocol key (message.h says why they are refused). */
#pragma once

#include <stdbool.h>

#include "base/slice.h"
#include "json/reader.h"

/* Where a key has a meaning in some revision. */
enum mcp_place {
    MCP_PLACE_ENVELOPE,
    MCP_PLACE_PARAMS,
    MCP_PLACE_META, /* of params, of results and of notifications */
    MCP_PLACE_REF,
    MCP_PLACE_CAPABILITIES, /* of a client */
    MCP_PLACE_RESULT,
    MCP_PLACE_COUNT
};

/*
 * True when a key of the opened object equals a key of that place only after Unicode case folding,
 * or (`refuse_escapes`) only after unescaping.
 */
bool mcp_has_other_spelling(const struct json_reader *reader, const struct json_node *object,
                            enum mcp_place place, bool refuse_escapes);
