/*
 * What a definition of the store may not say, though the file may. Whoever may write upstreams is
 * trusted with these, and not with the machine that the gateway runs on, its environment and files,
 * nor with what others have told it in confidence. So no variable, no file, no other account, no
 * missing isolation; programs only where the file allows them; no address of the link or the
 * cloud, where machines get their own credentials; and no credential as it is, because definitions
 * are shown: it stands in the vault, and its name here.
 */
#include "base/limits.h"
#include "base/network.h"
#include "http/uri.h"
#include "load.h"
#include "stored.h"

/* --- credentials --- */

/* Exactly {{ secret.NAME }}. */
static bool is_reference(struct slice text) {
    struct slice rest = slice_trim(text);
    if (!slice_starts_with(rest, SLICE("{{")) || !slice_ends_with(rest, SLICE("}}")))
        return false;
    rest = slice_trim(slice_sub(rest, 2, rest.len - 2));
    return slice_starts_with(rest, SLICE("secret.")) && slice_find_byte(rest, '|') == SIZE_MAX &&
           slice_find_byte(rest, '}') == SIZE_MAX;
}

/* What begins so is not kept as it stands, wherever there is a template in the same text. */
static bool has_default(struct slice text) {
    return slice_find(text, SLICE("{{")) != SIZE_MAX && slice_find_byte(text, '|') != SIZE_MAX;
}

static bool has_word(struct slice name, struct slice word) {
    for (size_t i = 0; i + word.len <= name.len; i++) {
        if (slice_eq_nocase(slice_sub(name, i, i + word.len), word))
            return true;
    }
    return false;
}

/* Of a header, a variable, a parameter of a URL. */
static bool names_credential(struct slice name) {
    static const struct slice words[] = {
        SLICE_INIT("auth"),       SLICE_INIT("token"),  SLICE_INIT("secret"),
        SLICE_INIT("key"),        SLICE_INIT("passw"),  SLICE_INIT("pwd"),
        SLICE_INIT("credential"), SLICE_INIT("cookie"), SLICE_INIT("session"),
        SLICE_INIT("signature"),
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (has_word(name, words[i]))
            return true;
    }
    return false;
}

#define REFERENCE "cardea secret set NAME keeps it, and {{ secret.NAME }} stands for it here"

static bool refuse_literal(struct loader *l, const struct place *place,
                           const struct toml_node *node) {
    problem_of(l, CONFIG_ERROR, node->at, place,
               "must not hold a credential itself, because definitions are shown: " REFERENCE);
    return true;
}

/* A text that is a secret by its name: some of it has to come from the vault. */
static bool check_named(struct loader *l, const struct place *place, struct slice name,
                        const struct toml_node *value) {
    if (value == NULL || value->type != TOML_STRING || value->string.len == 0)
        return false;
    bool is_literal = slice_find(value->string, SLICE("{{")) == SIZE_MAX;
    if ((is_literal && names_credential(name)) || has_default(value->string))
        return refuse_literal(l, place, value);
    return false;
}

static bool check_map(struct loader *l, const struct place *place, const struct toml_node *node) {
    bool refused = false;
    for (size_t i = 0; node->type == TOML_TABLE && i < node->n_children; i++) {
        struct place inner = {.up = place, .key = node->children[i].key};
        refused = check_named(l, &inner, node->children[i].key, &node->children[i]) || refused;
    }
    return refused;
}

static bool check_headers(struct loader *l, const struct place *place,
                          const struct toml_node *node) {
    static const char *const keys[] = {"value", "default"};
    bool refused = false;
    for (size_t i = 0; node->type == TOML_ARRAY && i < node->n_children; i++) {
        const struct toml_node *rule = &node->children[i];
        const struct toml_node *name = rule->type == TOML_TABLE ? toml_get(rule, "name") : NULL;
        struct place entry = {.up = place, .index = i};
        if (name == NULL || name->type != TOML_STRING)
            continue; /* told elsewhere */
        for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
            struct place inner = {.up = &entry, .key = slice_from_cstr(keys[k])};
            refused = check_named(l, &inner, name->string, toml_get(rule, keys[k])) || refused;
        }
    }
    return refused;
}

static bool check_query(struct loader *l, const struct place *place, const struct toml_node *node) {
    struct slice rest, pair, name, value, before;
    if (node->type != TOML_STRING)
        return false;
    if (has_default(node->string))
        return refuse_literal(l, place, node);
    if (!slice_cut(node->string, '?', &before, &rest))
        return false;
    for (bool more = true; more;) {
        more = slice_cut(rest, '&', &pair, &rest);
        if (slice_cut(pair, '=', &name, &value) && names_credential(name) &&
            slice_find(value, SLICE("{{")) == SIZE_MAX && value.len != 0)
            return refuse_literal(l, place, node);
    }
    return false;
}

static bool is_row(const struct option *row, const char *key) {
    struct slice path = slice_from_cstr(row->path), server = SLICE("mcp.servers.*.");
    return slice_starts_with(path, server) &&
           slice_eq(slice_from(path, server.len), slice_from_cstr(key));
}

static bool check_secrets(struct loader *l, const struct place *place, const struct option *row,
                          const struct toml_node *node) {
    if (row->secret && node->type == TOML_STRING && !is_reference(node->string) &&
        !(is_row(row, "proxy") && slice_eq(node->string, SLICE("none"))))
        return refuse_literal(l, place, node);
    if (is_row(row, "url") || is_row(row, "message_url"))
        return check_query(l, place, node);
    if (is_row(row, "headers"))
        return check_headers(l, place, node);
    return row->type == OPTION_MAP && check_map(l, place, node);
}

/* --- the gateway's machine --- */

static bool names_file(const struct option *row, const struct toml_node *node) {
    return row->type == OPTION_PATH || (row->type == OPTION_STDERR && node->type != TOML_STRING);
}

/* Keys of the machine; NULL: none of them. */
static const char *why_not(const struct loader *l, const struct option *row,
                           const struct toml_node *node) {
    if (names_file(row, node))
        return "names a file of the gateway's machine";
    if (is_row(row, "user"))
        return "names an account of the gateway's machine";
    if (is_row(row, "inherit_env"))
        return "takes variables of the gateway's environment";
    if (is_row(row, "isolation") &&
        (node->type != TOML_STRING || !slice_eq(node->string, SLICE("auto"))))
        return "opens the gateway's own files to it";
    if (is_row(row, "cmd") && !l->config->admin.allow_commands)
        return "starts a program on the gateway's machine, and admin.allow_commands is not true";
    return NULL;
}

bool trust_refuses(struct loader *l, const struct place *place, const struct option *row,
                   const struct toml_node *node) {
    const char *why = why_not(l, row, node);
    if (is_row(row, "enabled")) {
        problem_of(l, CONFIG_ERROR, node->key_at, place,
                   "is for the configuration file; here it is disabled or enabled as a whole");
        return true;
    }
    if (why == NULL)
        return check_secrets(l, place, row, node);
    problem_of(l, CONFIG_ERROR, node->key_at, place, "%s: only the configuration file may have it",
               why);
    return true;
}

/* --- where it is --- */

static bool is_this_machine(struct slice host) {
    struct network address;
    return slice_eq_nocase(host, SLICE("localhost")) ||
           (slice_ends_with(host, SLICE(".localhost")) && host.len != 0) ||
           (network_parse_address(host, &address) && network_is_loopback(&address));
}

/* `listener`: an address and a port as they are configured. */
static bool is_listener(const struct uri *uri, struct slice listener) {
    struct uri_authority own;
    struct network address, asked;
    if (listener.len == 0 || uri_parse_authority(listener, &own) != 0 || own.port != uri->port ||
        own.port == 0 || !network_parse_address(own.host, &address))
        return false;
    bool is_any = slice_eq(own.host, SLICE("0.0.0.0")) || slice_eq(own.host, SLICE("::"));
    if (is_this_machine(uri->host))
        return is_any || network_is_loopback(&address);
    return network_parse_address(uri->host, &asked) && network_has(&address, &asked);
}

static const char *refuse_url(const struct config *config, struct slice url) {
    struct uri uri;
    struct network address;
    if (url.len == 0 || uri_parse(url, &uri, NULL) != 0)
        return NULL; /* told elsewhere, or "none" */
    if (network_parse_address(uri.host, &address) && network_is_inner(&address))
        return "is an address of the link or of a cloud itself, where machines get their "
               "credentials: only the configuration file may have it";
    if (is_listener(&uri, config->listen_address) || is_listener(&uri, config->health_listen) ||
        (config->admin.enabled && is_listener(&uri, config->admin.listen)))
        return "is the gateway itself";
    return NULL;
}

static void check_urls(struct loader *l, const struct server_place *at,
                       const struct config_server *server) {
    const struct {
        struct slice url;
        const char *table, *key;
    } urls[] = {
        {server->url, NULL, "url"},
        {server->message_url, NULL, "message_url"},
        {server->proxy, NULL, "proxy"},
        {server->auth_client.issuer, "auth", "issuer"},
        {server->auth_client.token_endpoint, "auth", "token_endpoint"},
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        const char *why = refuse_url(l->config, urls[i].url);
        struct place table = {.up = &at->server,
                              .key = slice_from_cstr(urls[i].table != NULL ? urls[i].table : "")};
        struct place place = {.up = urls[i].table != NULL ? &table : &at->server,
                              .key = slice_from_cstr(urls[i].key)};
        if (why != NULL)
            problem_of(l, CONFIG_ERROR, at->node->key_at, &place, "%s", why);
    }
}

/* What rules make of fields has a limit that would keep the gateway from starting. */
static void check_size(struct loader *l, const struct server_place *at,
                       const struct config_server *server) {
    struct place place = {.up = &at->server, .key = SLICE("headers")};
    size_t size = 0;
    for (size_t i = 0; i < server->n_headers; i++)
        size += server->headers[i].name.len + server->headers[i].rename.len +
                2 * server->headers[i].value.len + 8;
    if (size > LIMIT_HTTP_HEADER_BLOCK / 2)
        problem_of(l, CONFIG_ERROR, at->node->key_at, &place, "makes more than %zu KiB of fields",
                   LIMIT_HTTP_HEADER_BLOCK / 2 / KIB(1));
}

void check_stored(struct loader *l, const struct toml_node *root) {
    for (size_t i = 0; i < l->config->n_servers; i++) {
        struct server_place at;
        if (!l->config->servers[i].is_stored)
            continue;
        find_server(&at, root, l->config->servers[i].name);
        if (at.node == NULL)
            continue;
        check_urls(l, &at, &l->config->servers[i]);
        check_size(l, &at, &l->config->servers[i]);
    }
}
