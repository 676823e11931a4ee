/* What the parts of bridge share. */
#pragma once

#include "base/buf.h"
#include "json/writer.h"
#include "mcp/bridge.h"
#include "mcp/cache.h"

/* {"name":...,"version":...} */
int bridge_append_implementation(struct buf *out, const struct mcp_implementation *implementation);
/* The comma, when the buffer holds members already, and a key that needs no escapes. */
void bridge_append_key(struct buf *members, struct slice key);
/* Those of mcp/cache.h. */
void bridge_append_cache(struct buf *members, struct mcp_cache cache);
