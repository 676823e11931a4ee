/* The header fields of a request that come from the configuration: token and rules, and User-Agent,
 * which rules may change. */
#pragma once

#include "base/buf.h"
#include "config/config.h"
#include "upstream/upstream.h"

/* True when a rule wants to see the caller's fields. */
bool fields_want_caller(const struct config *config, const struct config_server *server);
/* Appends the lines. `caller` may be NULL: there is none. 0 or the buffer's error. */
MUST_CHECK int fields_write(struct buf *out, const struct config *config,
                            const struct config_server *server, struct slice agent,
                            upstream_caller_field *caller, void *context);
