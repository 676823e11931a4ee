/*
 * Whose access token may be used for which server, where auth.type is about callers' tokens.
 *
 * "forward": a token is sent on when it was proved to be for this gateway (auth/), is an OAuth
 * token, and names the server in its audience as well: then its issuer meant it for both, and the
 * server can tell that it did. Anything else would be the passthrough that MCP forbids (2025-11-25
 * and 2026-07-28, basic/authorization; security best practices, "Token Passthrough").
 *
 * "exchange": the same token is shown to the authorization server instead, which gives another one
 * for the server, or does not (RFC 8693). The server never sees the caller's own.
 *
 * A token that was used for one server opens no other by that, and no other credential (local
 * token, API token, certificate) ever leaves the gateway. What a caller has is given to its
 * instances whenever it comes with a request: tokens are renewed during a session. A call is sent
 * with the token that came with it.
 */
#include <errno.h>

#include "base/clock.h"
#include "private.h"

enum verdict { TOKEN_FINE, TOKEN_MISSING, TOKEN_ENDED, TOKEN_AUDIENCE, TOKEN_SCOPE };

/* "https://a.example/" and "https://a.example" name the same (MCP, basic/authorization, "Canonical
 * Server URI"); with a path they do not. */
static struct slice without_root(struct slice url) {
    size_t scheme = slice_find(url, SLICE("://"));
    if (scheme == SIZE_MAX)
        return url;
    size_t slash = slice_find_byte(slice_from(url, scheme + 3), '/');
    return slash != SIZE_MAX && scheme + 3 + slash == url.len - 1 ? slice_sub(url, 0, url.len - 1)
                                                                  : url;
}

static bool names(const struct auth_identity *identity, struct slice audience) {
    for (size_t i = 0; i < identity->n_audiences; i++) {
        if (slice_eq(without_root(identity->audiences[i]), without_root(audience)))
            return true;
    }
    return false;
}

static enum verdict judge(const struct auth_identity *identity, const struct config_server *server,
                          struct slice *ret_scope) {
    if (auth_access_token(identity).len == 0)
        return TOKEN_MISSING;
    if (clock_wall_ms() >= identity->ends_wall_ms)
        return TOKEN_ENDED;
    if (server->auth_type == CONFIG_UPSTREAM_AUTH_EXCHANGE)
        return TOKEN_FINE; /* the authorization server judges the rest */
    if (!names(identity, server->auth_audience))
        return TOKEN_AUDIENCE;
    for (size_t i = 0; i < server->n_auth_scopes; i++) {
        *ret_scope = server->auth_scopes[i];
        if (!auth_list_has(identity->scopes, identity->n_scopes, server->auth_scopes[i]))
            return TOKEN_SCOPE;
    }
    return TOKEN_FINE;
}

static void explain_missing(struct buf *out, const struct config_server *server,
                            struct slice audience) {
    struct slice name = server->name;
    if (server->auth_type == CONFIG_UPSTREAM_AUTH_EXCHANGE)
        buf_printf(out,
                   "the access token of its caller is exchanged for one for %.*s "
                   "(mcp.servers.%.*s.auth.type = \"exchange\"), and you have shown another "
                   "credential: sign in by OAuth",
                   SLICE_ARGS(name), SLICE_ARGS(name));
    else
        buf_printf(out,
                   "%.*s is sent the access token of its caller (mcp.servers.%.*s.auth.type = "
                   "\"forward\"), and you have shown another credential: sign in by OAuth, with a "
                   "token whose audience (aud) names %.*s, too",
                   SLICE_ARGS(name), SLICE_ARGS(name), SLICE_ARGS(audience));
}

/* Rule and cure. */
static void explain(struct buf *out, enum verdict verdict, const struct config_server *server,
                    struct slice scope) {
    struct slice name = server->name;
    struct buf audience CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    if (server->has_own_audience)
        buf_printf(&audience, "\"%.*s\"", SLICE_ARGS(slice_sub(server->auth_audience, 0, 512)));
    else
        buf_append_cstr(&audience, "its URL");
    switch (verdict) {
    case TOKEN_FINE:
        return;
    case TOKEN_MISSING:
        explain_missing(out, server, buf_slice(&audience));
        return;
    case TOKEN_ENDED:
        buf_printf(out,
                   "the access token has expired before it could be used for %.*s "
                   "(mcp.servers.%.*s.auth.type): come with a new one",
                   SLICE_ARGS(name), SLICE_ARGS(name));
        return;
    case TOKEN_AUDIENCE:
        buf_printf(
            out,
            "your access token is not sent to %.*s, because its audience (aud) does not name "
            "%.*s (mcp.servers.%.*s.auth.audience): ask the authorization server for one that "
            "names it, too",
            SLICE_ARGS(name), SLICE_ARGS(buf_slice(&audience)), SLICE_ARGS(name));
        return;
    case TOKEN_SCOPE:
        buf_printf(
            out,
            "your access token is not sent to %.*s, because it lacks the scope \"%.*s\" "
            "(mcp.servers.%.*s.auth.scopes): ask the authorization server for one that has it",
            SLICE_ARGS(name), SLICE_ARGS(scope), SLICE_ARGS(name));
        return;
    }
}

bool gw_token_lets_use(const struct auth_identity *identity, const struct upstream *upstream) {
    struct slice scope;
    return LIKELY(!upstream_wants_token(upstream)) ||
           judge(identity, upstream_config(upstream), &scope) == TOKEN_FINE;
}

bool gw_token_check(struct gw_call *call, const struct upstream *upstream) {
    const struct config_server *server = upstream_config(upstream);
    struct slice scope = SLICE_EMPTY;
    if (LIKELY(!upstream_wants_token(upstream)))
        return true;
    enum verdict verdict = judge(call->exchange->caller->identity, server, &scope);
    if (verdict == TOKEN_FINE)
        return true;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    explain(&text, verdict, server, scope);
    gw_call_refuse(call, MCP_E_FORBIDDEN, buf_slice(&text));
    return false;
}

/* A NULL credential: it may not have one. */
static int take(const struct auth_identity *identity, const struct upstream *upstream,
                struct upstream_instance *instance, struct oauth_token **ret_token) {
    struct slice scope;
    if (judge(identity, upstream_config(upstream), &scope) != TOKEN_FINE)
        return 0;
    struct oauth_token *token =
        upstream_instance_take_token(instance, auth_access_token(identity), identity->ends_wall_ms);
    if (token == NULL)
        return -ENOMEM;
    *ret_token = token;
    return 0;
}

int gw_token_take(const struct gw_caller *caller, const struct upstream *upstream,
                  struct upstream_instance *instance, struct oauth_token **ret_token) {
    if (LIKELY(!upstream_wants_token(upstream)))
        return 0;
    return take(caller->identity, upstream, instance, ret_token);
}

void gw_token_offer(const struct gw_caller *caller, const struct upstream *upstream,
                    struct upstream_instance *instance) {
    struct oauth_token *token = NULL;
    (void)!gw_token_take(caller, upstream, instance, &token);
    oauth_token_unref(token);
}

void gw_token_offer_all(const struct gw_caller *caller, const struct gw_view *view) {
    if (LIKELY(!upstream_list_wants_tokens(view->list)))
        return;
    for (size_t i = 0; i < view->n; i++)
        gw_token_offer(caller, view->items[i].upstream, view->items[i].instance);
}
