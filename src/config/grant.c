/*
 * auth.type "exchange" and "client_credentials": the gateway as a client of an authorization
 * server, over several keys. What it shows there opens other doors, too: its own secret, and with
 * exchange the token of a caller. So the file says whom they are for, or is told that it does not.
 */
#include "upstream.h"

static bool has(const struct upstream_place *at, const char *key) {
    return find_secret(at->auth_node, key) != NULL;
}

/* --- who the gateway is there --- */

static void check_proof(struct loader *l, const struct upstream_place *at, const char *type) {
    bool has_secret = has(at, "client_secret"), has_key = has(at, "client_key_path");
    if (!has(at, "client_id"))
        upstream_tell(l, CONFIG_ERROR, &at->auth, at->auth_node, "type",
                      "= \"%s\" needs auth.client_id: the name that the authorization server has "
                      "given the gateway",
                      type);
    if (!has_secret && !has_key)
        upstream_tell(l, CONFIG_ERROR, &at->auth, at->auth_node, "type",
                      "= \"%s\" needs auth.client_secret = \"{{ env.NAME }}\" or "
                      "auth.client_key_path",
                      type);
    if (has_secret && has_key)
        upstream_tell(l, CONFIG_ERROR, &at->auth, at->auth_node, "client_key_path",
                      "and client_secret prove the same; keep one of them");
    if (has(at, "client_key_id") && !has_key)
        upstream_tell(l, CONFIG_ERROR, &at->auth, at->auth_node, "client_key_id",
                      "names a key: it needs client_key_path");
}

static void check_way(struct loader *l, const struct upstream_place *at,
                      const struct config_oauth_client *client) {
    bool has_secret = has(at, "client_secret"), has_key = has(at, "client_key_path");
    if (has_secret == has_key)
        return; /* told already */
    switch (client->method) {
    case CONFIG_CLIENT_AUTH_AUTO:
        return;
    case CONFIG_CLIENT_AUTH_BASIC:
    case CONFIG_CLIENT_AUTH_POST:
        if (has_key)
            upstream_tell(l, CONFIG_ERROR, &at->auth, at->auth_node, "client_auth",
                          "is for a client_secret, and there is client_key_path: keep one of them, "
                          "or write \"private_key_jwt\"");
        return;
    case CONFIG_CLIENT_AUTH_KEY:
        if (has_secret)
            upstream_tell(l, CONFIG_ERROR, &at->auth, at->auth_node, "client_auth",
                          "is for a key: it needs client_key_path in place of client_secret");
        return;
    }
}

/* --- whom it asks --- */

/* How many issuers of [server.oauth] have an `issuer`, and the last of them. */
static size_t find_issuers(const struct config_oauth *oauth, struct slice *ret_last) {
    size_t n = 0;
    for (size_t i = 0; i < oauth->n_issuers; i++) {
        if (oauth->issuers[i].issuer.len == 0)
            continue;
        *ret_last = oauth->issuers[i].issuer;
        n++;
    }
    if (oauth->n_issuers == 0 && oauth->own.issuer.len != 0) { /* refused for something else */
        *ret_last = oauth->own.issuer;
        n = 1;
    }
    return n;
}

/* The one who issued the callers' tokens can exchange them. */
static void fill_issuer(struct loader *l, const struct upstream_place *at,
                        struct config_oauth_client *client) {
    size_t n = find_issuers(&l->config->oauth, &client->issuer);
    if (n == 1)
        return;
    client->issuer = SLICE_EMPTY;
    upstream_tell(l, CONFIG_ERROR, &at->auth, at->auth_node, "type",
                  "= \"exchange\" needs auth.issuer = \"https://...\", the authorization server "
                  "that exchanges callers' tokens: [server.oauth] %s",
                  n == 0 ? "names none by its issuer" : "names several");
}

static void check_whom(struct loader *l, const struct upstream_place *at,
                       struct config_server *server) {
    struct config_oauth_client *client = &server->auth_client;
    bool is_exchange = server->auth_type == CONFIG_UPSTREAM_AUTH_EXCHANGE;
    bool has_issuer = has(at, "issuer"), has_endpoint = has(at, "token_endpoint");
    /* RFC 7523 section 3: it is for one authorization server, which it names. */
    if (has_endpoint && !has_issuer && has(at, "client_key_path"))
        upstream_tell(l, CONFIG_ERROR, &at->auth, at->auth_node, "client_key_path",
                      "needs auth.issuer beside auth.token_endpoint: what the key signs names the "
                      "authorization server that it is for");
    if (has_issuer || has_endpoint)
        return;
    if (is_exchange)
        fill_issuer(l, at, client);
    else
        upstream_tell(l, CONFIG_WARNING, &at->auth, at->auth_node, "type",
                      "= \"client_credentials\" shows the gateway's credentials to the "
                      "authorization server that the server names first; auth.issuer = "
                      "\"https://...\" pins it");
}

void check_grant(struct loader *l, const struct upstream_place *at, struct config_server *server) {
    bool is_exchange = server->auth_type == CONFIG_UPSTREAM_AUTH_EXCHANGE;
    check_proof(l, at, is_exchange ? "exchange" : "client_credentials");
    check_way(l, at, &server->auth_client);
    check_whom(l, at, server);
    if (is_exchange && !l->config->oauth.is_set)
        upstream_tell(l, CONFIG_WARNING, &at->auth, at->auth_node, "type",
                      "= \"exchange\" serves nobody without [server.oauth]: only access tokens of "
                      "its issuers are exchanged");
}
