/*
 * The stdio transport (MCP 2025-11-25, basic/transports): a child process, one JSON-RPC message a
 * line each way. It frames lines and looks after the process; what the lines say is the session's
 * business (instance.c).
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

struct stdio;

struct stdio_events {
    void (*on_started)(void *context);
    /* One line without its end; valid during the call. */
    void (*on_line)(void *context, struct slice line);
    /* The process is gone, its output was read to the end. Once; the owner frees the transport
     * then. */
    void (*on_gone)(void *context, struct slice reason);
};

/* Sends the order to start. -errno: nothing was started; *ret_reason says at what, for the log. */
MUST_CHECK int stdio_start(struct children *children, const struct config_server *config,
                           struct io_loop *loop, struct log *log, const struct stdio_events *events,
                           void *context, struct stdio **ret_stdio, const char **ret_reason);
/* Writes one line, which holds its end. -ENOBUFS: the child does not read and too much is waiting
 * already. */
MUST_CHECK int stdio_write(struct stdio *stdio, struct slice line);
/* Closes stdin; TERM and KILL to the group follow, each after shutdown_timeout. on_gone tells the
 * end. */
void stdio_stop(struct stdio *stdio);
/* KILL to the group at once. on_gone tells the end. */
void stdio_kill(struct stdio *stdio);
/* After on_gone, or when the loop has stopped. */
struct stdio *stdio_free(struct stdio *stdio);
