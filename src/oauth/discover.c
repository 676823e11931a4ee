/*
 * Whom to ask for tokens for a server, and where (MCP 2026-07-28, basic/authorization,
 * "Authorization Server Location" and "... Metadata Discovery").
 *
 *   auth.token_endpoint        that one; nothing is looked for
 *   auth.issuer                the server's metadata, when it has some, must name that issuer; the
 *                              issuer's metadata then say where its token endpoint is
 *   neither                    the server's metadata say who the issuer is: the first that a token
 *                              was asked of is kept for the life of the source. A server that names
 *                              another one later is refused, because whoever can change what it
 * says would get the credentials
 *
 * The server's metadata are where its challenge said, or at the two well-known addresses. A search
 * is done once for all who wait, has LIMIT_TOKEN_FETCH_MS, and holds for TOKENS_METADATA_MS, or
 * until the token endpoint cannot be reached. Everything runs on the loop.
 */
#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "tokens.h"

static const char no_memory[] = "there is not enough memory";

static const struct config_oauth_client *client_of(const struct oauth_source *source) {
    return &source->server->auth_client;
}

/* That has to be it: the configured one, or the one that was used first. */
static struct slice wanted_issuer(const struct oauth_source *source) {
    struct slice configured = client_of(source)->issuer;
    return !slice_is_empty(configured) ? configured : buf_slice(&source->discovery.pinned);
}

static bool is_configured(const struct oauth_source *source) {
    return !slice_is_empty(client_of(source)->issuer);
}

/* --- its end --- */

static void end(struct discovery *discovery) {
    discovery->step = DISCOVERY_IDLE;
    oauth_fetch_stop(&discovery->fetch);
    oauth_fetch_forget(&discovery->fetch);
}

/* An address that the server has named and that was of no use is not asked again. */
static void forget_named(struct oauth_source *source) {
    pthread_mutex_lock(&source->mutex);
    buf_reset(&source->named, 0);
    pthread_mutex_unlock(&source->mutex);
}

static void fail(struct oauth_source *source, enum oauth_lack lack, const char *reason) {
    if (source->discovery.is_at_named)
        forget_named(source);
    discovery_forget(source);
    end(&source->discovery);
    source_fail(source, lack, reason);
}

static void fail_memory(struct oauth_source *source) {
    fail(source, OAUTH_LACK_MEMORY, no_memory);
}

/* What should be said when no candidate is of use: anything rather than that one of them is not
 * there, which is only to be expected. */
static void note(struct discovery *discovery, const char *reason, bool is_absent) {
    if (discovery->best[0] != '\0' && (!discovery->best_is_absent || is_absent))
        return;
    snprintf(discovery->best, sizeof discovery->best, "%.*s", OAUTH_REASON - 1, reason);
    discovery->best_is_absent = is_absent;
}

/* --- the issuer's metadata --- */

static void ask_issuer(struct oauth_source *source) {
    struct discovery *discovery = &source->discovery;
    struct buf url CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI + KIB(1));
    for (;; discovery->n_candidate++) {
        buf_reset(&url, LIMIT_URI);
        int error = oauth_candidate(buf_slice(&discovery->issuer), discovery->n_candidate, &url);
        if (error == OAUTH_E_END) {
            fail(source, OAUTH_LACK_UNREACHABLE, discovery->best);
            return;
        }
        if (error == OAUTH_E_INVALID) {
            fail(source, OAUTH_LACK_CLIENT, "the issuer is no URL that discovery knows");
            return;
        }
        if (error == 0)
            error = oauth_fetch_get(&discovery->fetch, buf_slice(&url), true);
        if (error == 0)
            return;
        if (error < 0) {
            fail_memory(source);
            return;
        }
        note(discovery, discovery->fetch.reason, false);
    }
}

static void begin_issuer(struct oauth_source *source) {
    struct discovery *discovery = &source->discovery;
    discovery->step = DISCOVERY_ISSUER;
    discovery->n_candidate = 0;
    discovery->best[0] = '\0';
    discovery->fetch.tls = NULL;
    discovery->fetch.proxy = SLICE_EMPTY;
    ask_issuer(source);
}

static void got_issuer(struct oauth_source *source) {
    struct discovery *discovery = &source->discovery;
    const char *reason = "";
    buf_reset(&discovery->token_endpoint, 0);
    int error = oauth_metadata_read(source->tokens->reader, buf_slice(&discovery->fetch.body),
                                    buf_slice(&discovery->issuer), OAUTH_TOKEN_ENDPOINT,
                                    &discovery->token_endpoint, &discovery->metadata, &reason);
    if (error < 0) {
        fail_memory(source);
    } else if (error > 0) {
        note(discovery, reason, false);
        discovery->n_candidate++;
        ask_issuer(source);
    } else {
        end(discovery);
        discovery->is_known = true;
        discovery->found_ms = tokens_now(source->tokens);
        source_found(source);
    }
}

/* --- the server's metadata --- */

/* There are none. */
static void skip_resource(struct oauth_source *source) {
    struct discovery *discovery = &source->discovery;
    char reason[OAUTH_LACK_REASON];
    if (is_configured(source)) {
        log_write(source->tokens->log, LOG_DEBUG, "oauth", "the server has no metadata of its own",
                  LOG_TEXT("server", source->server->name), LOG_CSTR("reason", discovery->best));
        buf_reset(&discovery->issuer, 0);
        if (buf_append(&discovery->issuer, client_of(source)->issuer) != 0)
            fail_memory(source);
        else
            begin_issuer(source);
        return;
    }
    snprintf(reason, sizeof reason,
             "the server names no authorization server, and auth.issuer is not set: %.100s",
             discovery->best);
    fail(source, discovery->best_is_absent ? OAUTH_LACK_CHALLENGE : OAUTH_LACK_UNREACHABLE, reason);
}

static void ask_server(struct oauth_source *source) {
    struct discovery *discovery = &source->discovery;
    struct buf url CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI + KIB(1));
    struct slice base = source->server->url, query;
    slice_cut(base, '?', &base, &query);
    for (;; discovery->n_candidate++) {
        buf_reset(&url, LIMIT_URI);
        int error = oauth_resource_candidate(base, discovery->n_candidate, &url);
        if (error > 0) {
            skip_resource(source);
            return;
        }
        if (error == 0)
            error = oauth_fetch_get(&discovery->fetch, buf_slice(&url), true);
        if (error == 0)
            return;
        if (error < 0) {
            fail_memory(source);
            return;
        }
        note(discovery, discovery->fetch.reason, false);
    }
}

/* Its own way to it is that of calls: its certificates, its proxy. */
static void begin_server(struct oauth_source *source) {
    source->discovery.n_candidate = 0;
    source->discovery.fetch.tls = source->tls;
    source->discovery.fetch.proxy = source->server->proxy;
    ask_server(source);
}

static bool is_of_server(const struct oauth_source *source, struct slice url) {
    struct uri uri, own;
    return uri_parse(url, &uri, NULL) == 0 && uri_parse(source->server->url, &own, NULL) == 0 &&
           uri_same_origin(&uri, &own);
}

/* Where its challenge said. False: it said nothing. */
static bool ask_named(struct oauth_source *source) {
    struct discovery *discovery = &source->discovery;
    struct buf named CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
    pthread_mutex_lock(&source->mutex);
    buf_append(&named, buf_slice(&source->named));
    source->is_stale = false;
    pthread_mutex_unlock(&source->mutex);
    if (buf_len(&named) == 0)
        return false;
    discovery->is_at_named = true;
    /* What was set for the server is for no other, but for itself it is. */
    bool is_own = is_of_server(source, buf_slice(&named));
    discovery->fetch.tls = is_own ? source->tls : NULL;
    discovery->fetch.proxy = is_own ? source->server->proxy : SLICE_EMPTY;
    int error = oauth_fetch_get(&discovery->fetch, buf_slice(&named), true);
    if (error == 0)
        return true;
    note(discovery, error > 0 ? discovery->fetch.reason : no_memory, false);
    discovery->is_at_named = false;
    forget_named(source);
    return false;
}

static void got_no_resource(struct oauth_source *source, const char *reason, bool is_absent) {
    struct discovery *discovery = &source->discovery;
    note(discovery, reason, is_absent);
    if (discovery->is_at_named) {
        discovery->is_at_named = false;
        forget_named(source);
        begin_server(source);
        return;
    }
    discovery->n_candidate++;
    ask_server(source);
}

static void got_resource(struct oauth_source *source) {
    struct discovery *discovery = &source->discovery;
    const char *reason = "";
    struct oauth_resource_wanted wanted = {.url = source->server->url,
                                           .resource = client_of(source)->resource,
                                           .issuer = wanted_issuer(source)};
    struct buf issuer CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWKS);
    buf_reset(&discovery->scopes, 0);
    int error = oauth_resource_read(source->tokens->reader, buf_slice(&discovery->fetch.body),
                                    &wanted, &issuer, &discovery->scopes, &reason);
    if (error == OAUTH_E_INVALID) {
        got_no_resource(source, reason, false);
        return;
    }
    if (error > 0) {
        bool is_other = !is_configured(source) && !slice_is_empty(wanted.issuer);
        char text[OAUTH_LACK_REASON];
        snprintf(text, sizeof text, "of the server: %s%s", reason,
                 is_other ? " that was used first" : "");
        fail(source, OAUTH_LACK_CLIENT, text);
        return;
    }
    buf_reset(&discovery->issuer, 0);
    if (error == 0)
        error = buf_append(&discovery->issuer,
                           buf_len(&issuer) != 0 ? buf_slice(&issuer) : wanted.issuer);
    if (error != 0)
        fail_memory(source);
    else
        begin_issuer(source);
}

/* --- a search --- */

static void on_got(void *context, enum oauth_got got) {
    struct oauth_source *source = context;
    struct discovery *discovery = &source->discovery;
    const char *reason = discovery->fetch.reason;
    bool is_at_server = discovery->step == DISCOVERY_RESOURCE;
    if (got == OAUTH_GOT_DOCUMENT && is_at_server) {
        got_resource(source);
    } else if (got == OAUTH_GOT_DOCUMENT) {
        got_issuer(source);
    } else if (is_at_server) {
        got_no_resource(source, reason, discovery->fetch.is_absent);
    } else if (got == OAUTH_GOT_ANOTHER) {
        note(discovery, reason, discovery->fetch.is_absent);
        discovery->n_candidate++;
        ask_issuer(source);
    } else {
        fail(source, OAUTH_LACK_UNREACHABLE, reason);
    }
    source_tick(source);
}

static void begin(struct oauth_source *source, uint64_t now_ms) {
    struct discovery *discovery = &source->discovery;
    discovery->step = DISCOVERY_RESOURCE;
    /* A server that is silent leaves time for the issuer. */
    discovery->limit_ms =
        now_ms + (is_configured(source) ? LIMIT_TOKEN_FETCH_MS / 2 : LIMIT_TOKEN_FETCH_MS);
    discovery->is_at_named = false;
    discovery->best[0] = '\0';
    buf_reset(&discovery->scopes, 0);
    if (!ask_named(source))
        begin_server(source);
}

static bool is_stale(struct oauth_source *source, uint64_t now_ms) {
    pthread_mutex_lock(&source->mutex);
    bool is_stale = source->is_stale;
    pthread_mutex_unlock(&source->mutex);
    return is_stale || now_ms - source->discovery.found_ms >= TOKENS_METADATA_MS;
}

bool discovery_ensure(struct oauth_source *source, uint64_t now_ms) {
    struct discovery *discovery = &source->discovery;
    if (!slice_is_empty(client_of(source)->token_endpoint))
        return true;
    if (discovery->step != DISCOVERY_IDLE)
        return false;
    if (discovery->is_known && !is_stale(source, now_ms))
        return true;
    discovery->is_known = false;
    begin(source, now_ms);
    return false;
}

uint64_t discovery_next(const struct oauth_source *source) {
    const struct discovery *discovery = &source->discovery;
    return discovery->step != DISCOVERY_IDLE ? discovery->limit_ms : UINT64_MAX;
}

void discovery_tick(struct oauth_source *source, uint64_t now_ms) {
    static const char reason[] = "it did not answer in time";
    struct discovery *discovery = &source->discovery;
    if (now_ms < discovery_next(source))
        return;
    oauth_fetch_stop(&discovery->fetch);
    if (discovery->step == DISCOVERY_RESOURCE && is_configured(source)) {
        discovery->limit_ms = now_ms + LIMIT_TOKEN_FETCH_MS / 2;
        note(discovery, reason, false);
        skip_resource(source);
    } else {
        fail(source, OAUTH_LACK_UNREACHABLE, reason);
    }
}

void discovery_forget(struct oauth_source *source) {
    source->discovery.is_known = false;
}

void discovery_stop(struct oauth_source *source) {
    end(&source->discovery);
}

struct slice discovery_audience(const struct oauth_source *source) {
    const struct config_oauth_client *client = client_of(source);
    if (!slice_is_empty(client->issuer))
        return client->issuer;
    if (!slice_is_empty(client->token_endpoint))
        return client->token_endpoint;
    return buf_slice(&source->discovery.issuer);
}

void discovery_init(struct oauth_source *source) {
    struct discovery *discovery = &source->discovery;
    oauth_fetch_init(&discovery->fetch, LIMIT_JWKS);
    discovery->fetch.client = source->tokens->client;
    discovery->fetch.version = slice_from_cstr(source->tokens->version);
    discovery->fetch.rules = source->rules;
    discovery->fetch.is_for_stored = source->server->is_stored;
    discovery->fetch.on_done = on_got;
    discovery->fetch.context = source;
    buf_init(&discovery->issuer, LIMIT_URI);
    buf_init(&discovery->pinned, LIMIT_URI);
    buf_init(&discovery->token_endpoint, LIMIT_URI);
    buf_init(&discovery->scopes, OAUTH_SCOPES_TEXT);
}

void discovery_deinit(struct oauth_source *source) {
    struct discovery *discovery = &source->discovery;
    oauth_fetch_deinit(&discovery->fetch);
    buf_deinit(&discovery->issuer);
    buf_deinit(&discovery->pinned);
    buf_deinit(&discovery->token_endpoint);
    buf_deinit(&discovery->scopes);
}
