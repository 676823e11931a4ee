/*
 * What HTTP servers are sent, over the whole file: two credentials in one place, and secrets on a
 * line that anybody on the way can read.
 */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "http/uri.h"
#include "load.h"

static const struct toml_node *rule_at(const struct toml_node *table, size_t i) {
    const struct toml_node *headers = toml_get(table, "headers");
    return headers != NULL && i < headers->n_children ? &headers->children[i] : NULL;
}

/* RFC 6761 section 6.3 for the names. */
bool option_uri_is_loopback(const struct uri *uri) {
    char text[INET6_ADDRSTRLEN];
    struct in6_addr v6;
    switch (uri->host_kind) {
    case URI_HOST_NAME: {
        static const struct slice name = SLICE_INIT("localhost");
        size_t before = uri->host.len > name.len ? uri->host.len - name.len : 0;
        return slice_eq_nocase(slice_from(uri->host, before), name) &&
               (before == 0 || uri->host.ptr[before - 1] == '.');
    }
    case URI_HOST_IPV4: /* plain dotted decimal: http/uri.h */
        return slice_starts_with(uri->host, SLICE("127."));
    case URI_HOST_IPV6:
        return slice_to_cstr(uri->host, text, sizeof text) == 0 &&
               inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
    case URI_HOST_NONE:
        return false;
    }
    return false;
}

static bool is_unencrypted(struct slice url) {
    struct uri uri;
    return url.len > 0 && uri_parse(url, &uri, NULL) == 0 &&
           slice_eq_nocase(uri.scheme, SLICE("http")) && !option_uri_is_loopback(&uri);
}

bool http_is_sent_unencrypted(const struct config_server *server) {
    return is_unencrypted(server->url) || is_unencrypted(server->message_url);
}

static bool contains_nocase(struct slice text, struct slice word) {
    for (size_t i = 0; i + word.len <= text.len; i++) {
        if (slice_starts_with_nocase(slice_from(text, i), word))
            return true;
    }
    return false;
}

static bool is_secret_name(struct slice name) {
    return slice_eq_nocase(name, SLICE("Authorization")) ||
           slice_eq_nocase(name, SLICE("Cookie")) || contains_nocase(name, SLICE("key")) ||
           contains_nocase(name, SLICE("token"));
}

/* It sends something that stands in the file, under a name that says that it is a secret. */
static bool sends_secret(const struct config_header_rule *rule) {
    if (rule->value.len == 0)
        return false;
    switch (rule->kind) {
    case CONFIG_HEADER_INSERT:
        return is_secret_name(rule->name);
    case CONFIG_HEADER_FORWARD:
        return is_secret_name(rule->rename);
    case CONFIG_HEADER_RENAME_DUPLICATE:
        return is_secret_name(rule->name) || is_secret_name(rule->rename);
    case CONFIG_HEADER_REMOVE:
        return false;
    }
    return false;
}

/* Inserts or removes it; the other rules may not name it, which was told already (header.c). */
bool http_sets_authorization(const struct config_header_rule *rules, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool is_allowed =
            rules[i].kind == CONFIG_HEADER_INSERT || rules[i].kind == CONFIG_HEADER_REMOVE;
        if (is_allowed && slice_eq_nocase(rules[i].name, SLICE("Authorization")))
            return true;
    }
    return false;
}

static void check_token_of(struct loader *l, const struct server_place *at,
                           const struct config_server *server) {
    struct place auth = {.up = &at->server, .key = SLICE("auth")};
    struct place place = {.up = &auth, .key = SLICE("token")};
    const struct toml_node *token = find_secret(toml_get(at->node, "auth"), "token");
    if (token == NULL || server->auth_token.len == 0)
        return;
    place.key = token->key;
    if (http_sets_authorization(server->headers, server->n_headers))
        problem_of(l, CONFIG_ERROR, token->key_at, &place,
                   "and a rule of headers are both about Authorization; keep one of them");
    else if (!server->is_stored &&
             http_sets_authorization(l->config->headers, l->config->n_headers))
        problem_of(l, CONFIG_ERROR, token->key_at, &place,
                   "and a rule of mcp.headers are both about Authorization; keep one of them");
    if (http_is_sent_unencrypted(server))
        problem_of(l, CONFIG_WARNING, token->key_at, &place, "is sent unencrypted; use https");
}

static void check_server(struct loader *l, const struct toml_node *root,
                         const struct config_server *server) {
    struct server_place at;
    find_server(&at, root, server->name);
    check_token_of(l, &at, server);
    if (!http_is_sent_unencrypted(server))
        return;
    struct place headers = {.up = &at.server, .key = SLICE("headers")};
    for (size_t i = 0; i < server->n_headers; i++) {
        const struct toml_node *node = rule_at(at.node, i);
        struct place place = {.up = &headers, .index = i};
        if (node != NULL && sends_secret(&server->headers[i]))
            problem_of(l, CONFIG_WARNING, node->key_at, &place, "is sent unencrypted; use https");
    }
}

/* One warning for each rule, not for each server that it is for. */
static void check_global(struct loader *l, const struct toml_node *mcp) {
    const struct config_server *plain = NULL;
    for (size_t i = 0; i < l->config->n_servers && plain == NULL; i++) {
        if (!l->config->servers[i].is_stored && http_is_sent_unencrypted(&l->config->servers[i]))
            plain = &l->config->servers[i];
    }
    struct place top = {.key = SLICE("mcp")}, headers = {.up = &top, .key = SLICE("headers")};
    for (size_t i = 0; i < l->config->n_headers && plain != NULL; i++) {
        const struct toml_node *node = rule_at(mcp, i);
        struct place place = {.up = &headers, .index = i};
        if (node != NULL && sends_secret(&l->config->headers[i]))
            problem_of(l, CONFIG_WARNING, node->key_at, &place,
                       "is sent to mcp.servers.%.*s unencrypted; use https there",
                       SLICE_ARGS(plain->name));
    }
}

void check_http(struct loader *l, const struct toml_node *root) {
    const struct toml_node *mcp = toml_get(root, "mcp");
    check_global(l, mcp);
    for (size_t i = 0; i < l->config->n_servers; i++)
        check_server(l, root, &l->config->servers[i]);
}
