/*
 * Reloads of a gateway that runs: by SIGHUP, by `cardea reload` over the control socket, and when
 * the upstreams of the store change. The file that the gateway was started with is read again, on a
 * thread of its own, and then applied as a whole or not at all. They are done one after the other;
 * who asks while one is going on gets the outcome of the next, which has seen the file as it was
 * when it was asked.
 */
#pragma once

#include "admin/control.h"
#include "base/log.h"
#include "cli.h"
#include "config/config.h"
#include "gateway/gateway.h"

struct cli_reloader;

/*
 * Something beside the gateway that goes by the configuration: certificates, the console. As with
 * gateway_reload_prepare(), all that can fail is in `prepare`, which says why in `reason`; `commit`
 * follows at once, or nothing, when another part cannot. On the loop of worker 0.
 */
struct cli_reload_part {
    void *context;
    int (*prepare)(void *context, struct config *config, struct buf *reason);
    void (*commit)(void *context);
};

struct cli_reloader_options {
    const struct cli_options *options; /* outlives it, as what follows */
    struct gateway *gateway;
    struct log *log;
    struct config *config;                  /* that is served at first; a reference is taken */
    const struct cli_reload_part *parts[2]; /* NULL: none */
    /* Another one is served by now; on the loop of worker 0. NULL: nobody wants to know. */
    void (*on_applied)(void *context, struct config *config);
    void *context;
};

struct cli_reloader *cli_reloader_new(const struct cli_reloader_options *options);
/* When the loop does not run any more; after the control socket, before the gateway. Accepts NULL.
 */
struct cli_reloader *cli_reloader_free(struct cli_reloader *reloader);
/* Without an answer but in the log. */
void cli_reloader_start(struct cli_reloader *reloader);
/* The upstreams of the store have changed (gateway_on_upstreams()); the context is the reloader. Of
 * the file the text is taken that was read last: what somebody is writing into it waits for a
 * reload that was asked for. */
void cli_reloader_take_upstreams(void *context);
/* {"command":"reload"}; the context is the reloader. */
control_command_fn cli_reloader_command;
