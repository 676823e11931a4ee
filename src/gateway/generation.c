/*
 * What is exchanged as a whole when the configuration is: itself, the issuers and their keys, the
 * engine that says who is calling. Made and freed on worker 0; each worker goes over to a new one
 * between two of its callbacks, and worker 0 frees the old one when all of them have.
 */
#include <errno.h>

#include "base/mem.h"
#include "private.h"

static int make_oauth(struct gateway *gateway, const struct gw_generation *previous,
                      struct gw_generation *generation) {
    struct client_rules *rules = NULL;
    struct oauth_options options = {
        .config = &generation->config->oauth,
        .log = gateway->log,
        .loop = gateway->loops[0],
        .tls = gateway->client_tls,
        .version = gateway->version,
        .previous = previous != NULL ? previous->oauth : NULL,
    };
    if (!generation->config->oauth.is_set || gateway->is_local)
        return 0;
    int error = oauth_rules_new(generation->config, &rules);
    options.rules = rules;
    if (error == 0)
        error = oauth_new(&options, &generation->oauth);
    oauth_rules_unref(rules);
    return error;
}

static int make_redact(struct gateway *gateway, struct gw_generation *generation) {
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    int error = audit_redact_new(&generation->config->audit, &generation->redact, &reason);
    if (error > 0)
        log_write(gateway->log, LOG_ERROR, "audit", "a rule of redaction cannot be used",
                  LOG_TEXT("reason", buf_slice(&reason)));
    return error > 0 ? -EINVAL : error;
}

int gw_generation_new(struct gateway *gateway, struct config *config,
                      const struct gw_generation *previous, struct gw_generation **ret_generation) {
    struct gw_generation *generation = mem_xalloc(sizeof *generation);
    generation->config = config;
    int error = border_new(config, &generation->border);
    if (error == 0)
        error = make_oauth(gateway, previous, generation);
    struct auth_options options = {
        .config = config,
        .local = gateway->token,
        .api = gateway->api_token,
        .oauth = generation->oauth,
    };
    if (error == 0)
        error = gw_policy_new(config, &generation->policy);
    if (error == 0)
        error = auth_new(&options, &generation->auth);
    if (error == 0 && gateway->audit != NULL)
        error = make_redact(gateway, generation);
    if (error != 0) {
        gw_generation_free(generation);
        return error;
    }
    *ret_generation = generation;
    return 0;
}

struct gw_generation *gw_generation_free(struct gw_generation *generation) {
    if (generation == NULL)
        return NULL;
    auth_free(generation->auth);
    gw_policy_unref(generation->policy);
    oauth_free(generation->oauth);
    audit_redact_free(generation->redact);
    border_free(generation->border);
    mem_free(generation);
    return NULL;
}

void gw_end_stale_streams(struct gw_worker *worker) {
    size_t cursor = 0;
    void *stream = NULL;
    while (map_next(&worker->streams, &cursor, NULL, &stream)) {
        if (!gw_authn_still_holds(stream))
            gw_exchange_end_stream(stream); /* and takes it out, which the cursor survives */
    }
}

void gw_worker_adopt(struct gw_worker *worker, struct gw_generation *generation) {
    worker->generation = generation;
    worker->config = generation->config;
    worker->border = generation->border;
    worker->auth = generation->auth;
    worker->policy = generation->policy;
    if (worker->audit_writer != NULL)
        audit_writer_set_redact(worker->audit_writer, generation->redact);
    if (worker->limits != NULL &&
        limits_worker_configure(worker->limits, &worker->config->rate_limits.storage) != 0)
        log_write(worker->gateway->log, LOG_ERROR, "limits",
                  "the storage of rate limits cannot be used");
    gw_authn_restart(worker);
    gw_end_stale_streams(worker);
}
