/*
 * How the gateway proves itself to HTTP servers, over several keys: [mcp.servers.X.tls], and
 * auth.type = "forward".
 *
 * To send a caller's token on is what MCP forbids (2025-11-25 and 2026-07-28, basic/authorization,
 * "Access Token Privilege Restriction": a server "MUST NOT pass through the token it received from
 * the MCP client"), because a token for the gateway would open other servers, and they could not
 * tell who calls. So it is done only where the token itself says, by its audience, that its issuer
 * meant it for that server, too; and whoever configures it is told.
 */
#include <errno.h>
#include <stdio.h>

#include "http/uri.h"
#include "load.h"

/* [mcp.servers.NAME] in the tree and in messages. */
struct at {
    struct place mcp, servers, server, auth, tls;
    const struct toml_node *node;
};

static void find(struct at *at, const struct toml_node *root, struct slice name) {
    at->mcp = (struct place){.key = SLICE("mcp")};
    at->servers = (struct place){.up = &at->mcp, .key = SLICE("servers")};
    at->server = (struct place){.up = &at->servers, .key = name};
    at->auth = (struct place){.up = &at->server, .key = SLICE("auth")};
    at->tls = (struct place){.up = &at->server, .key = SLICE("tls")};
    at->node = toml_get(toml_get(toml_get(root, "mcp"), "servers"), name.ptr);
}

/* About the key of that table, which is there. */
static void tell(struct loader *l, enum config_severity severity, const struct place *table,
                 const struct toml_node *node, const char *key, const char *sentence) {
    const struct toml_node *child = toml_get(node, key);
    struct place inner = {.up = table, .key = slice_from_cstr(key)};
    if (child != NULL)
        problem_of(l, severity, child->key_at, &inner, "%s", sentence);
}

/* --- TLS --- */

static void check_certificate(struct loader *l, const struct at *at, const struct toml_node *tls) {
    bool has_cert = toml_get(tls, "client_cert_path") != NULL;
    bool has_key = toml_get(tls, "client_key_path") != NULL;
    if (has_cert && !has_key)
        tell(l, CONFIG_ERROR, &at->tls, tls, "client_cert_path", "needs client_key_path");
    if (has_key && !has_cert)
        tell(l, CONFIG_ERROR, &at->tls, tls, "client_key_path", "needs client_cert_path");
}

static void check_tls(struct loader *l, const struct at *at, struct config_server *server) {
    const struct toml_node *tls = toml_get(at->node, "tls");
    struct config_upstream_tls *config = &server->tls;
    if (tls == NULL || !config->is_set)
        return;
    if (server->url.len != 0 && !slice_starts_with_nocase(server->url, SLICE("https:")))
        problem_of(l, CONFIG_ERROR, tls->key_at, &at->tls,
                   "is for servers with an https URL: nothing of it would be so with http");
    if (toml_get(tls, "ca_bundle") != NULL && toml_get(tls, "root_ca_cert_path") != NULL)
        tell(l, CONFIG_ERROR, &at->tls, tls, "root_ca_cert_path",
             "is another name for ca_bundle; keep one of them, a file may hold several");
    if (config->ca_bundle.len == 0)
        config->ca_bundle = config->root_ca_cert_path;
    config->root_ca_cert_path = config->ca_bundle;
    check_certificate(l, at, tls);
    if (!config->verify_certs)
        tell(l, CONFIG_WARNING, &at->tls, tls, "verify_certs",
             "is false: any certificate is taken, and anybody on the way can read and change what "
             "is sent; for an authority of your own there is ca_bundle");
    if (config->accept_invalid_hostnames)
        tell(l, CONFIG_WARNING, &at->tls, tls, "accept_invalid_hostnames",
             "is true: whoever has a certificate for any name can stand in for the server");
}

/* --- callers' tokens --- */

/* The URL as RFC 8707 and MCP (basic/authorization, "Canonical Server URI") name a resource: scheme
 * and host in small letters, no query, no port or path that goes without saying. */
static struct slice canonical_url(struct loader *l, struct slice url) {
    struct uri uri;
    if (uri_parse(url, &uri, NULL) != 0)
        return url; /* told already */
    bool is_v6 = uri.host_kind == URI_HOST_IPV6;
    bool is_usual = uri.port == (slice_eq_nocase(uri.scheme, SLICE("https")) ? 443 : 80);
    struct slice path = slice_eq(uri.path, SLICE("/")) ? SLICE_EMPTY : uri.path;
    char port[8] = "";
    if (!is_usual)
        snprintf(port, sizeof port, ":%u", (unsigned)uri.port);
    char *text = arena_printf(&l->config->arena, "%.*s://%s%.*s%s%s%.*s", SLICE_ARGS(uri.scheme),
                              is_v6 ? "[" : "", SLICE_ARGS(uri.host), is_v6 ? "]" : "", port,
                              SLICE_ARGS(path));
    if (text == NULL) {
        l->error = -ENOMEM;
        return url;
    }
    size_t end = strlen(text) - path.len;
    for (size_t i = 0; i < end; i++)
        text[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i]);
    return slice_from_cstr(text);
}

static void check_conflicts(struct loader *l, const struct at *at, const struct toml_node *auth,
                            const struct config_server *server) {
    const struct config *config = l->config;
    if (toml_get(auth, "token") != NULL)
        tell(l, CONFIG_ERROR, &at->auth, auth, "token",
             "and type = \"forward\" are both about Authorization; keep one of them");
    if (http_sets_authorization(server->headers, server->n_headers) ||
        http_sets_authorization(config->headers, config->n_headers))
        tell(l, CONFIG_ERROR, &at->auth, auth, "type",
             "= \"forward\" and a rule of headers are both about Authorization; keep one of them");
    if (server->share == CONFIG_SHARE_ALL)
        tell(l, CONFIG_ERROR, &at->server, at->node, "share",
             "must not be \"all\" with auth.type = \"forward\": what one caller's token has opened "
             "would serve all others");
    if (http_is_sent_unencrypted(server))
        tell(l, CONFIG_ERROR, &at->auth, auth, "type",
             "= \"forward\" needs an https URL: callers' tokens would be sent unencrypted");
}

static void check_forward(struct loader *l, const struct at *at, struct config_server *server) {
    const struct toml_node *auth = toml_get(at->node, "auth");
    const struct toml_node *type = toml_get(auth, "type");
    struct place place = {.up = &at->auth, .key = SLICE("type")};
    if (server->auth_type != CONFIG_UPSTREAM_AUTH_FORWARD) {
        tell(l, CONFIG_ERROR, &at->auth, auth, "audience", "is for type = \"forward\"");
        tell(l, CONFIG_ERROR, &at->auth, auth, "scopes", "is for type = \"forward\"");
        return;
    }
    check_conflicts(l, at, auth, server);
    server->has_own_audience = server->auth_audience.len != 0;
    if (!server->has_own_audience)
        server->auth_audience = canonical_url(l, server->url);
    if (!l->config->oauth.is_set)
        problem_of(l, CONFIG_WARNING, type->key_at, &place,
                   "= \"forward\" serves nobody without [server.oauth]: only access tokens of its "
                   "issuers are sent on");
    problem_of(
        l, CONFIG_WARNING, type->key_at, &place,
        "= \"forward\" sends callers' access tokens on, which the MCP specification forbids "
        "(basic/authorization); only tokens that name this server in their audience, too, are "
        "sent: auth.audience, or the URL where that is not set");
}

void check_upstreams(struct loader *l, const struct toml_node *root) {
    for (size_t i = 0; i < l->config->n_servers; i++) {
        struct config_server *server = &l->config->servers[i];
        struct at at;
        find(&at, root, server->name);
        if (at.node == NULL)
            continue; /* its name was refused */
        check_tls(l, &at, server);
        check_forward(l, &at, server);
    }
}
