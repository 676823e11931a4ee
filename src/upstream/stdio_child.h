/*
 * The stdio transport (MCP 2025-11-25, basic/transports): a child process, one JSON-RPC message a
 * line each way. It frames lines and looks after the process.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"
#include "children.h"
#include "config/config.h"
#include "io/loop.h"
#include "transport.h"

/* Sends the order to start. -errno: nothing was started; *ret_reason says at what, for the log. */
MUST_CHECK int stdio_start(struct children *children, const struct config_server *config,
                           struct io_loop *loop, struct log *log,
                           const struct transport_events *events, void *context,
                           struct transport **ret_transport, const char **ret_reason);
