/* `cardea serve --stdio`: one client on standard input and output, who is the local principal. What
 * it says goes the way of everybody else's messages, by a bridge to the gateway in this process. */
#pragma once

#include "base/log.h"
#include "base/secret.h"
#include "cli.h"
#include "config/config.h"
#include "gateway/gateway.h"

struct serving_stdio;

/* After gateway_open_inside() and before gateway_run(). The gateway is stopped when the client has
 * closed its side. What is wrong is said on stderr. CLI_OK, CLI_FAILED. */
MUST_CHECK int serving_stdio_start(struct gateway *gateway, const struct config *config,
                                   struct log *log, const struct secret *token,
                                   struct serving_stdio **ret_stdio);
/* The session ends, and then the gateway; from worker 0. False: there is none (any more). */
bool serving_stdio_stop(struct serving_stdio *stdio);
/* After gateway_run(). Accepts NULL. */
struct serving_stdio *serving_stdio_free(struct serving_stdio *stdio);
