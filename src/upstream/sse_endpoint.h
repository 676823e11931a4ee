/*
 * The endpoint event of HTTP+SSE (MCP 2024-11-05, basic/transports): where messages go, as the
 * server says on its stream. Whoever writes that is not who configured the server, so it may choose
 * the path and the query, and nothing else.
 */
#pragma once

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

enum { ENDPOINT_E_REFUSED = 1 };

/*
 * Resolves what the event says against the URL of the stream, which was checked when it was
 * configured, and appends path and query of the result. ENDPOINT_E_REFUSED: *ret_reason is a fixed
 * sentence. Else the buffer's error.
 */
MUST_CHECK int sse_endpoint_read(struct buf *out, struct slice url, struct slice event,
                                 const char **ret_reason);
