/*
 * Names. An upstream is `[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*`, so it never holds two underscores in a
 * row; what a client sees of its tools and prompts is `upstream__name`. Clients take at most 64
 * bytes of [A-Za-z0-9_.-]: what is longer or has other bytes is shortened and gets a stable hash of
 * the whole name. Only the catalog maps such a name back.
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"

#define MCP_UPSTREAM_NAME_MAX 32u
/* Of the name that an upstream gives a tool or prompt; a longer one is dropped from the list. */
#define MCP_ITEM_NAME_MAX 512u

/* Non-empty, at most MCP_ITEM_NAME_MAX bytes, no control characters. */
bool mcp_item_name_is_valid(struct slice name);
/* Appends what clients see; without a prefix when `upstream` is empty. */
int mcp_expose_name(struct buf *out, struct slice upstream, struct slice name);
/* The part before the first "__", or an empty slice with a NULL ptr. */
struct slice mcp_exposed_upstream(struct slice exposed);

/*
 * Whether a URI can come from a resource template (RFC 6570): literals must be equal, an expression
 * takes any text up to the next literal, without '/' unless its operator allows one (+, #, /). More
 * than 16 expressions, or a URI past LIMIT_URI_LENGTH, match nothing.
 */
bool mcp_template_matches(struct slice uri_template, struct slice uri);
