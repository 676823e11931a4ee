/*
 * The certificate that the running gateway serves: loaded at the start, looked after while it runs,
 * and a part of what a reload of the configuration changes.
 */
#pragma once

#include "base/buf.h"
#include "base/log.h"
#include "cli.h"
#include "config/config.h"
#include "gateway/gateway.h"
#include "pki/pki.h"
#include "reloader.h"

struct serving_tls;

struct serving_tls_options {
    struct gateway *gateway; /* outlives it, as what follows; listens already */
    struct log *log;
    const char *data_dir;
    const struct sealing *sealing; /* of the gateway's own keys */
    /* Another certificate is served from now on; NULL: nobody has to know. */
    void (*on_pair)(void *context, const struct pki_pair *pair);
    void *context;
};

/*
 * Gives the gateway its certificate when the configuration wants TLS, else *ret_tls is NULL. What
 * is wrong is said on stderr. CLI_OK, CLI_FAILED. Before gateway_run().
 */
MUST_CHECK int serving_tls_start(const struct serving_tls_options *options, struct config *config,
                                 struct serving_tls **ret_tls);
/* For the reloader. NULL for NULL: TLS comes and goes by a restart only. */
const struct cli_reload_part *serving_tls_part(const struct serving_tls *tls);
/* After gateway_run(), before the gateway is freed. Accepts NULL. */
struct serving_tls *serving_tls_free(struct serving_tls *tls);

/* Appends "https://gw.example:8000": what clients reach the gateway by, as far as it is known;
 * those on this machine, when the gateway listens on all of its addresses, by a loopback one. */
int serving_tls_origin(const struct config *config, struct slice address, bool is_from_here,
                       struct buf *out);
/* "0.0.0.0:8000", "[::]:8000" */
bool serving_is_for_all(struct slice address);
/* Appends what a person does so that clients trust the gateway's own authority; nothing where the
 * certificate is somebody else's. */
int serving_tls_advice(const struct config *config, const char *data_dir, struct buf *out);
