/*
 * How long a result of 2026-07-28 may be kept, and for whom (MCP 2026-07-28,
 * server/utilities/caching): hints of a server, which a client need not follow, and no access
 * control.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "json/reader.h"
#include "json/writer.h"
#include "mcp/protocol.h"

/* The longest that anything is called fresh, whatever a server says. */
#define MCP_FRESH_MAX_MS UINT64_C(86400000)

struct mcp_cache {
    uint64_t ttl_ms; /* at most MCP_FRESH_MAX_MS where it was read */
    bool is_public;  /* also for others than who asked */
};

/* Whether complete results of the method carry these hints. */
bool mcp_is_cached(enum mcp_method method);

/* Of a result that was read (its root). What is missing, or is not as the specification has it (a
 * negative number, a fraction, a string), is 0 and private. */
struct mcp_cache mcp_cache_read(const struct json_reader *reader, const struct json_node *result);

/* Of two parts of one answer: the shorter time, and private if one of them is. */
struct mcp_cache mcp_cache_merge(struct mcp_cache a, struct mcp_cache b);

/* Both members. */
void mcp_cache_write(struct json_writer *writer, struct mcp_cache cache);

/*
 * A server's result of a cached method with its hints cut down to `most`; one that is not complete
 * (it asks for input) with none. Appends; no other byte is touched. `reader`: its tape is replaced.
 * MCP_E_REFUSED: it is no result that can be read, or has a key that other parsers could take for
 * one of the protocol's; *ret_reason is a sentence for the caller. -ENOMEM, -E2BIG.
 */
MUST_CHECK int mcp_cache_limit(struct buf *out, struct json_reader *reader, struct slice result,
                               struct mcp_cache most, const char **ret_reason);
