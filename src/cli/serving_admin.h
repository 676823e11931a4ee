/* The store, the vault and the API of the console, of a gateway that serves. */
#pragma once

#include "audit/index.h"
#include "cli.h"
#include "config/config.h"
#include "gateway/gateway.h"
#include "pki/pki.h"
#include "reloader.h"
#include "store/store.h"

struct serving_admin;
struct serving_keys;

struct serving_admin_options {
    const struct cli_options *options; /* outlives it, as what follows */
    struct gateway *gateway;           /* listens already, and has its upstreams */
    struct store *store;
    struct audit *audit; /* NULL: nothing is recorded */
    struct audit_finder *finder;
    struct log *log;
    const char *data_dir;
    const struct serving_keys *keys;
};

/* After serving_tls_start(), before gateway_run(). With admin.enabled = false *ret_admin is NULL.
 * What is wrong is said on stderr. */
MUST_CHECK int serving_admin_start(const struct serving_admin_options *options,
                                   struct config *config, struct serving_admin **ret_admin);
/* Another configuration is served; on worker 0. Accepts NULL, as what follows. */
void serving_admin_reloaded(struct serving_admin *admin, struct config *config);
/* The certificate that the gateway serves is this one now; on worker 0. */
void serving_admin_use(struct serving_admin *admin, const struct pki_pair *pair);
/* What a reload changes of it: the names by which it is asked. NULL: there is none. */
const struct cli_reload_part *serving_admin_part(const struct serving_admin *admin);
/* Something that its event streams tell has changed. */
void serving_admin_notice(struct serving_admin *admin);
/* "https://127.0.0.1:7443"; and while there is nobody a code that makes the first administrator,
 * made by this call. */
int serving_admin_origin(const struct serving_admin *admin, struct buf *out);
MUST_CHECK int serving_admin_setup_code(const struct serving_admin *admin, struct buf *out);
/* After gateway_run(), before the trail and the store are closed. Accepts NULL. */
struct serving_admin *serving_admin_free(struct serving_admin *admin);
