/*
 * The control socket: `control.sock` in the data directory, mode 0600, the peer's uid checked (the
 * gateway's own, or root). One JSON object a line each way: {"command":"status"} is answered with
 * {"ok":true,...} or {"ok":false,"error":"..."}.
 */
#pragma once

#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"
#include "gateway/gateway.h"

struct control;

/* Listens at `path`, on the loop of worker 0. -errno. */
MUST_CHECK int control_new(struct gateway *gateway, const char *path, struct log *log,
                           struct control **ret_control);
/* Removes the socket. Accepts NULL. */
struct control *control_free(struct control *control);

/* The client's side, blocking: one command, one answer. -ECONNREFUSED or -ENOENT: no gateway runs
 * there. */
MUST_CHECK int control_request(const char *path, struct slice command, struct buf *answer);
