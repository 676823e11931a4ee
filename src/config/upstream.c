/*
 * How the gateway proves itself to HTTP servers, over several keys: [mcp.servers.X.tls], and
 * auth.type "forward". The types for which tokens are got are in grant.c.
 *
 * To send a caller's token on is what MCP forbids (2025-11-25 and 2026-07-28, basic/authorization,
 * "Access Token Privilege Restriction": a server "MUST NOT pass through the token it received from
 * the MCP client"), because a token for the gateway would open other servers, and they could not
 * tell who calls. So it is done only where the token itself says, by its audience, that its issuer
 * meant it for that server, too; and whoever configures it is told.
 */
#include "upstream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "http/uri.h"

static void find(struct upstream_place *at, const struct toml_node *root, struct slice name) {
    find_server(&at->server, root, name);
    at->auth = (struct place){.up = &at->server.server, .key = SLICE("auth")};
    at->tls = (struct place){.up = &at->server.server, .key = SLICE("tls")};
    at->auth_node = toml_get(at->server.node, "auth");
}

void upstream_tell(struct loader *l, enum config_severity severity, const struct place *table,
                   const struct toml_node *node, const char *key, const char *format, ...) {
    const struct toml_node *child = find_secret(node, key);
    struct place inner = {.up = table, .key = child != NULL ? child->key : SLICE_EMPTY};
    char sentence[SENTENCE_MAX];
    if (child == NULL)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    problem_of(l, severity, child->key_at, &inner, "%s", sentence);
}

/* --- TLS --- */

static void check_certificate(struct loader *l, const struct upstream_place *at,
                              const struct toml_node *tls) {
    bool has_cert = toml_get(tls, "client_cert_path") != NULL;
    bool has_key = toml_get(tls, "client_key_path") != NULL;
    if (has_cert && !has_key)
        upstream_tell(l, CONFIG_ERROR, &at->tls, tls, "client_cert_path", "needs client_key_path");
    if (has_key && !has_cert)
        upstream_tell(l, CONFIG_ERROR, &at->tls, tls, "client_key_path", "needs client_cert_path");
}

static void check_tls(struct loader *l, const struct upstream_place *at,
                      struct config_server *server) {
    const struct toml_node *tls = toml_get(at->server.node, "tls");
    struct config_upstream_tls *config = &server->tls;
    if (tls == NULL || !config->is_set)
        return;
    bool is_https = slice_starts_with_nocase(server->url, SLICE("https:")) ||
                    slice_starts_with_nocase(server->message_url, SLICE("https:"));
    if (server->url.len != 0 && !is_https)
        problem_of(l, CONFIG_ERROR, tls->key_at, &at->tls,
                   "is for servers with an https URL: nothing of it would be so with http");
    if (toml_get(tls, "ca_bundle") != NULL && toml_get(tls, "root_ca_cert_path") != NULL)
        upstream_tell(l, CONFIG_ERROR, &at->tls, tls, "root_ca_cert_path",
                      "is another name for ca_bundle; keep one of them, a file may hold several");
    if (config->ca_bundle.len == 0)
        config->ca_bundle = config->root_ca_cert_path;
    config->root_ca_cert_path = config->ca_bundle;
    check_certificate(l, at, tls);
    if (!config->verify_certs)
        upstream_tell(l, CONFIG_WARNING, &at->tls, tls, "verify_certs",
                      "is false: any certificate is taken, and anybody on the way can read and "
                      "change what is sent; for an authority of your own there is ca_bundle");
    if (config->accept_invalid_hostnames)
        upstream_tell(l, CONFIG_WARNING, &at->tls, tls, "accept_invalid_hostnames",
                      "is true: whoever has a certificate for any name can stand in for the "
                      "server");
}

/* --- tokens that differ from caller to caller, or are got --- */

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

static const char *type_name(enum config_upstream_auth type) {
    switch (type) {
    case CONFIG_UPSTREAM_AUTH_TOKEN:
        return "token";
    case CONFIG_UPSTREAM_AUTH_FORWARD:
        return "forward";
    case CONFIG_UPSTREAM_AUTH_EXCHANGE:
        return "exchange";
    case CONFIG_UPSTREAM_AUTH_CLIENT:
        return "client_credentials";
    }
    return "";
}

static void check_conflicts(struct loader *l, const struct upstream_place *at,
                            const struct config_server *server) {
    const struct config *config = l->config;
    const struct toml_node *auth = at->auth_node;
    const char *type = type_name(server->auth_type);
    bool is_callers = server->auth_type != CONFIG_UPSTREAM_AUTH_CLIENT;
    upstream_tell(l, CONFIG_ERROR, &at->auth, auth, "token",
                  "and type = \"%s\" are both about Authorization; keep one of them", type);
    if (http_sets_authorization(server->headers, server->n_headers) ||
        (!server->is_stored && http_sets_authorization(config->headers, config->n_headers)))
        upstream_tell(l, CONFIG_ERROR, &at->auth, auth, "type",
                      "= \"%s\" and a rule of headers are both about Authorization; keep one of "
                      "them",
                      type);
    if (server->share == CONFIG_SHARE_ALL && is_callers)
        upstream_tell(l, CONFIG_ERROR, &at->server.server, at->server.node, "share",
                      "must not be \"all\" with auth.type = \"%s\": what one caller's token has "
                      "opened would serve all others",
                      type);
    if (http_is_sent_unencrypted(server))
        upstream_tell(l, CONFIG_ERROR, &at->auth, auth, "type",
                      "= \"%s\" needs an https URL: %s would be sent unencrypted", type,
                      is_callers ? "callers' tokens" : "its tokens");
}

static void check_forward(struct loader *l, const struct upstream_place *at,
                          struct config_server *server) {
    server->has_own_audience = server->auth_audience.len != 0;
    if (!server->has_own_audience)
        server->auth_audience = canonical_url(l, server->url);
    if (!l->config->oauth.is_set)
        upstream_tell(l, CONFIG_WARNING, &at->auth, at->auth_node, "type",
                      "= \"forward\" serves nobody without [server.oauth]: only access tokens of "
                      "its issuers are sent on");
    upstream_tell(
        l, CONFIG_WARNING, &at->auth, at->auth_node, "type",
        "= \"forward\" sends callers' access tokens on, which the MCP specification forbids "
        "(basic/authorization); only tokens that name this server in their audience, too, are "
        "sent: auth.audience, or the URL where that is not set");
}

/* Keys of [auth] that are not for every type. */
enum { FORWARD = 1, EXCHANGE = 2, CLIENT = 4 };
static const struct {
    const char *key;
    unsigned types;
    const char *sentence;
} typed[] = {
    {"audience", FORWARD | EXCHANGE,
     "is for type = \"forward\" and \"exchange\"; \"client_credentials\" has resource"},
    {"scopes", FORWARD | EXCHANGE | CLIENT,
     "is for type = \"forward\", \"exchange\" and \"client_credentials\""},
#define GOT "is for type = \"exchange\" and \"client_credentials\""
    {"issuer", EXCHANGE | CLIENT, GOT},
    {"token_endpoint", EXCHANGE | CLIENT, GOT},
    {"client_id", EXCHANGE | CLIENT, GOT},
    {"client_secret", EXCHANGE | CLIENT, GOT},
    {"client_key_path", EXCHANGE | CLIENT, GOT},
    {"client_key_id", EXCHANGE | CLIENT, GOT},
    {"client_auth", EXCHANGE | CLIENT, GOT},
    {"resource", EXCHANGE | CLIENT, GOT},
#undef GOT
};

static void check_keys(struct loader *l, const struct upstream_place *at,
                       enum config_upstream_auth type) {
    unsigned bit = type == CONFIG_UPSTREAM_AUTH_FORWARD    ? FORWARD
                   : type == CONFIG_UPSTREAM_AUTH_EXCHANGE ? EXCHANGE
                   : type == CONFIG_UPSTREAM_AUTH_CLIENT   ? CLIENT
                                                           : 0;
    for (size_t i = 0; i < ARRAY_LEN(typed); i++) {
        if ((typed[i].types & bit) == 0)
            upstream_tell(l, CONFIG_ERROR, &at->auth, at->auth_node, typed[i].key, "%s",
                          typed[i].sentence);
    }
}

static void check_credentials(struct loader *l, const struct upstream_place *at,
                              struct config_server *server) {
    enum config_upstream_auth type = server->auth_type;
    check_keys(l, at, type);
    if (type == CONFIG_UPSTREAM_AUTH_TOKEN)
        return;
    check_conflicts(l, at, server);
    if (type == CONFIG_UPSTREAM_AUTH_FORWARD) {
        check_forward(l, at, server);
        return;
    }
    if (server->auth_client.resource.len == 0)
        server->auth_client.resource = canonical_url(l, server->url);
    check_grant(l, at, server);
}

void check_upstreams(struct loader *l, const struct toml_node *root) {
    for (size_t i = 0; i < l->config->n_servers; i++) {
        struct config_server *server = &l->config->servers[i];
        struct upstream_place at;
        find(&at, root, server->name);
        if (at.server.node == NULL)
            continue; /* its name was refused */
        check_tls(l, &at, server);
        check_credentials(l, &at, server);
    }
}
