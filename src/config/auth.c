/*
 * Rules over several keys about who is calling. Each sentence says what to write. What may be taken
 * from a nexus.toml as it is gets a warning where Cardea does less than Nexus (a header is taken
 * from trusted proxies only), and an error where two keys contradict each other.
 */
#include <errno.h>

#include "base/clock.h"
#include "load.h"

/* A table of the tree with its place in messages: [server.a], [server.a.b]. */
struct spot {
    struct place server, a, b;
    const struct toml_node *node;
};

static const struct toml_node *find(struct spot *spot, const struct toml_node *root, const char *a,
                                    const char *b) {
    spot->server = (struct place){.key = SLICE("server")};
    spot->a = (struct place){.up = &spot->server, .key = slice_from_cstr(a)};
    spot->b = (struct place){.up = &spot->a, .key = slice_from_cstr(b != NULL ? b : "")};
    spot->node = toml_get(toml_get(root, "server"), a);
    if (b != NULL)
        spot->node = toml_get(spot->node, b);
    return spot->node;
}

/* Of the first of these keys of [server.A] that is there: one key, told where it stands. */
static void tell(struct loader *l, const struct toml_node *root, enum config_severity severity,
                 const char *a, const char *b, const char *sentence) {
    struct spot spot;
    const struct toml_node *node = find(&spot, root, a, b);
    problem_of(l, severity, node != NULL ? node->key_at : (struct toml_position){0, 0},
               b != NULL ? &spot.b : &spot.a, "%s", sentence);
}

/* --- tokens --- */

void finish_token(struct loader *l, const struct place *place, const struct toml_node *node,
                  void *object) {
    struct config_token *token = object;
    const struct toml_node *expires = toml_get(node, "expires");
    struct place inner = {.up = place, .key = SLICE("expires")};
    token->line = node->key_at.line;
    token->has_servers = toml_get(node, "servers") != NULL;
    if (expires != NULL && token->expires_ms <= clock_wall_ms())
        problem_of(l, CONFIG_WARNING, expires->at, &inner,
                   "is over: the token lets nobody in; remove it, or make a new one with cardea "
                   "token new %.*s",
                   SLICE_ARGS(token->name));
}

static bool has_item(const struct slice *items, size_t n, struct slice item) {
    for (size_t i = 0; i < n; i++) {
        if (slice_eq(items[i], item))
            return true;
    }
    return false;
}

bool is_known_group(const struct config *config, struct slice group) {
    const struct config_identification *known = &config->identification;
    return known->n_group_values == 0 ||
           has_item(known->group_values, known->n_group_values, group);
}

bool has_groups(const struct config *config) {
    const struct config_identification *who = &config->identification;
    bool any = who->enabled && who->group_claim.len + who->group_header.len != 0;
    for (size_t i = 0; i < config->n_tokens && !any; i++)
        any = config->tokens[i].n_groups != 0;
    return any;
}

static const struct toml_node *item_at(const struct toml_node *list, size_t i) {
    return list != NULL && list->type == TOML_ARRAY && i < list->n_children ? &list->children[i]
                                                                            : list;
}

static void check_token_lists(struct loader *l, const struct toml_node *root,
                              const struct place *place, const struct toml_node *node,
                              const struct config_token *token) {
    const struct toml_node *servers = toml_get(toml_get(root, "mcp"), "servers");
    struct place list = {.up = place, .key = SLICE("servers")};
    for (size_t i = 0; i < token->n_servers; i++) {
        struct place entry = {.up = &list, .index = i};
        if (token->servers[i].ptr != NULL && toml_get(servers, token->servers[i].ptr) == NULL)
            problem_of(l, CONFIG_ERROR, item_at(toml_get(node, "servers"), i)->at, &entry,
                       "is no server of mcp.servers");
    }
    list.key = SLICE("groups");
    for (size_t i = 0; i < token->n_groups; i++) {
        struct place entry = {.up = &list, .index = i};
        if (token->groups[i].ptr != NULL && !is_known_group(l->config, token->groups[i]))
            problem_of(l, CONFIG_ERROR, item_at(toml_get(node, "groups"), i)->at, &entry,
                       "is not among server.client_identification.validation.group_values");
    }
}

static void check_tokens(struct loader *l, const struct toml_node *root) {
    const struct config *config = l->config;
    struct spot spot;
    const struct toml_node *tokens = find(&spot, root, "auth", "tokens");
    for (size_t i = 0; i < config->n_tokens; i++) {
        const struct config_token *token = &config->tokens[i];
        const struct toml_node *node = toml_get(tokens, token->name.ptr);
        struct place place = {.up = &spot.b, .key = token->name};
        if (node == NULL)
            continue; /* its name was refused */
        check_token_lists(l, root, &place, node, token);
        for (size_t k = 0; k < i && token->hash.len != 0; k++) {
            if (slice_eq(config->tokens[k].hash, token->hash))
                problem_of(l, CONFIG_ERROR, node->key_at, &place,
                           "has the hash of %.*s: it would not be clear who is calling; make a "
                           "token of its own with cardea token new",
                           SLICE_ARGS(config->tokens[k].name));
        }
    }
}

/* --- OAuth --- */

static size_t secret_needed(struct slice algorithm) {
    if (slice_eq(algorithm, SLICE("HS256")))
        return 32;
    if (slice_eq(algorithm, SLICE("HS384")))
        return 48;
    return slice_eq(algorithm, SLICE("HS512")) ? 64 : 0;
}

static void check_algorithms(struct loader *l, const struct place *place,
                             const struct toml_node *node, const struct config_issuer *issuer) {
    const struct toml_node *list = toml_get(node, "algorithms");
    struct place inner = {.up = place, .key = SLICE("algorithms")};
    bool any_shared = false;
    if (list == NULL)
        return;
    if (issuer->n_algorithms == 0)
        problem_of(l, CONFIG_ERROR, list->at, &inner,
                   "is empty, so that every token would be refused; leave it out for all");
    for (size_t i = 0; i < issuer->n_algorithms; i++) {
        size_t needed = secret_needed(issuer->algorithms[i]);
        struct place entry = {.up = &inner, .index = i};
        any_shared = any_shared || needed != 0;
        if (needed > issuer->secret.len)
            problem_of(l, CONFIG_ERROR, item_at(list, i)->at, &entry,
                       "needs a secret of at least %zu bytes", needed);
    }
    if (issuer->secret.len != 0 && !any_shared && issuer->n_algorithms != 0)
        problem_of(l, CONFIG_ERROR, list->at, &inner,
                   "has none of HS256, HS384 and HS512, which secret is for");
}

void finish_issuer(struct loader *l, const struct place *place, const struct toml_node *node,
                   void *object) {
    struct config_issuer *issuer = object;
    if (toml_get(node, "url") == NULL && toml_get(node, "issuer") == NULL &&
        find_secret(node, "secret") == NULL)
        problem_of(l, CONFIG_ERROR, node->key_at, place,
                   "needs issuer (the URL of the authorization server), url (that of its keys) or "
                   "a secret");
    check_algorithms(l, place, node, issuer);
    if (issuer->expected_issuer.len == 0)
        issuer->expected_issuer = issuer->issuer;
}

/* Keys of [server.oauth] that are an issuer's. */
static bool has_own_keys(const struct toml_node *oauth) {
    static const char *const names[] = {
        "url",    "issuer",     "poll_interval", "expected_issuer", "expected_audience",
        "secret", "algorithms", "token_type",    "leeway",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (find_secret(oauth, names[i]) != NULL)
            return true;
    }
    return false;
}

/* The table's own issuer before the others. */
static void gather_issuers(struct loader *l, const struct spot *spot) {
    struct config_oauth *oauth = &l->config->oauth;
    if (oauth->n_issuers != 0 && !has_own_keys(spot->node))
        return;
    size_t n_errors = l->n_errors;
    finish_issuer(l, &spot->a, spot->node, &oauth->own);
    if (l->n_errors != n_errors)
        return;
    struct config_issuer *all =
        arena_alloc_array(&l->config->arena, oauth->n_issuers + 1, sizeof *all);
    if (all == NULL) {
        l->error = -ENOMEM;
        return;
    }
    all[0] = oauth->own;
    for (size_t i = 0; i < oauth->n_issuers; i++)
        all[i + 1] = oauth->issuers[i];
    oauth->issuers = all;
    oauth->n_issuers++;
    oauth->has_own = true;
}

/* Issuer `i` of the gathered list in the tree: the table itself, or one of its array. */
static void check_one_of_several(struct loader *l, const struct spot *spot, size_t i,
                                 bool has_own) {
    const struct config_oauth *oauth = &l->config->oauth;
    const struct config_issuer *issuer = &oauth->issuers[i];
    const struct toml_node *list = toml_get(spot->node, "issuers");
    struct place array = {.up = &spot->a, .key = SLICE("issuers")};
    struct place entry = {.up = &array, .index = i - has_own};
    bool is_own = has_own && i == 0;
    const struct place *place = is_own ? &spot->a : &entry;
    struct toml_position at = (is_own ? spot->node : item_at(list, i - has_own))->key_at;
    if (issuer->expected_issuer.len == 0)
        problem_of(l, CONFIG_ERROR, at, place,
                   "needs issuer or expected_issuer: with several issuers a token belongs to the "
                   "one that its iss names");
    for (size_t k = 0; k < i && issuer->expected_issuer.len != 0; k++) {
        if (slice_eq(oauth->issuers[k].expected_issuer, issuer->expected_issuer))
            problem_of(l, CONFIG_ERROR, at, place,
                       "has the iss of another issuer; each needs one of its own");
    }
}

static void warn_about_issuer(struct loader *l, const struct toml_node *root,
                              const struct config_issuer *issuer) {
    const struct config_oauth *oauth = &l->config->oauth;
    bool is_own = oauth->own.url.len + oauth->own.issuer.len + oauth->own.secret.len != 0;
    if (issuer->expected_issuer.len == 0 && issuer->url.len != 0)
        tell(l, root, CONFIG_WARNING, "oauth", is_own ? "url" : "issuers",
             "is trusted for tokens of any issuer: set expected_issuer to what iss of its tokens "
             "is");
    if (issuer->issuer.len == 0 && oauth->n_authorization_servers == 0)
        tell(l, root, CONFIG_WARNING, "oauth", NULL,
             "does not say where clients get tokens: set issuer, or "
             "protected_resource.authorization_servers");
}

static void check_oauth(struct loader *l, const struct toml_node *root) {
    struct spot spot;
    struct config_oauth *oauth = &l->config->oauth;
    if (!oauth->is_set || find(&spot, root, "oauth", NULL) == NULL)
        return;
    const struct toml_node *resource = toml_get(spot.node, "protected_resource");
    if (oauth->resource.len == 0 && toml_get(resource, "resource") == NULL)
        problem_of(l, CONFIG_ERROR, spot.node->key_at, &spot.a,
                   "needs protected_resource.resource: the URL by which clients know the gateway, "
                   "such as \"https://gw.example.com/mcp\"");
    size_t n_listed = oauth->n_issuers;
    size_t n_errors = l->n_errors;
    gather_issuers(l, &spot);
    if (l->n_errors != n_errors || oauth->n_issuers == 0 || l->error != 0)
        return;
    if (oauth->n_issuers == 1 && l->n_errors == 0)
        warn_about_issuer(l, root, &oauth->issuers[0]);
    for (size_t i = 0; i < oauth->n_issuers && oauth->n_issuers > 1; i++)
        check_one_of_several(l, &spot, i, oauth->n_issuers > n_listed);
}

/* --- scopes --- */

static bool anybody_has_scopes(const struct config *config) {
    bool any = config->oauth.is_set;
    for (size_t i = 0; i < config->n_tokens; i++)
        any = any || config->tokens[i].n_scopes != 0;
    return any;
}

/* "mcp.servers.X.scopes", or "mcp.servers.X.tools.T.scopes". */
static void tell_scopes(struct loader *l, const struct toml_node *server, struct slice name,
                        const struct config_tool *tool) {
    struct place mcp = {.key = SLICE("mcp")}, servers = {.up = &mcp, .key = SLICE("servers")};
    struct place one = {.up = &servers, .key = name}, tools = {.up = &one, .key = SLICE("tools")};
    struct place named = {.up = &tools};
    struct place scopes = {.up = &one, .key = SLICE("scopes")};
    const struct toml_node *node = server;
    if (tool != NULL) {
        named.key = tool->name;
        scopes.up = &named;
        node = toml_get(toml_get(server, "tools"), tool->name.ptr);
    }
    node = toml_get(node, "scopes");
    problem_of(l, CONFIG_ERROR, node != NULL ? node->key_at : (struct toml_position){0, 0}, &scopes,
               "is for callers that carry scopes, and there are none: configure [server.oauth], "
               "or scopes of a token in [server.auth.tokens]");
}

static void check_scopes(struct loader *l, const struct toml_node *root) {
    const struct config *config = l->config;
    const struct toml_node *servers = toml_get(toml_get(root, "mcp"), "servers");
    if (anybody_has_scopes(config))
        return;
    const struct config_server *server;
    for (size_t i = 0; (server = loaded_server(l, i)) != NULL; i++) {
        const struct toml_node *node = toml_get(servers, server->name.ptr);
        if (server->n_scopes != 0)
            tell_scopes(l, node, server->name, NULL);
        for (size_t k = 0; k < server->n_tools; k++) {
            if (server->tools[k].n_scopes != 0)
                tell_scopes(l, node, server->name, &server->tools[k]);
        }
    }
}

/* --- TLS --- */

static void check_tls(struct loader *l, const struct toml_node *root) {
    const struct config *config = l->config;
    const struct config_tls *tls = &config->tls;
    bool has_files = tls->certificate.len != 0 || tls->key.len != 0;
    if (tls->certificate.len != 0 && tls->key.len == 0)
        tell(l, root, CONFIG_ERROR, "tls", "certificate", "needs server.tls.key beside it");
    if (tls->key.len != 0 && tls->certificate.len == 0)
        tell(l, root, CONFIG_ERROR, "tls", "key", "needs server.tls.certificate beside it");
    if (has_files && tls->is_auto)
        tell(l, root, CONFIG_ERROR, "tls", "auto",
             "makes a certificate, and there is one already: remove auto, or certificate and key");
    if (tls->require_client_certificate && tls->client_ca.len == 0)
        tell(l, root, CONFIG_ERROR, "tls", "require_client_certificate",
             "needs server.tls.client_ca: the authorities of clients");
    if (config->plaintext && (has_files || tls->is_auto || tls->client_ca.len != 0))
        tell(l, root, CONFIG_ERROR, "plaintext", NULL,
             "and [server.tls] contradict each other; keep one of them");
}

/* --- client identification --- */

static void check_source(struct loader *l, const struct toml_node *root, const char *which,
                         struct slice *claim, struct slice header) {
    struct spot spot;
    const struct toml_node *node = find(&spot, root, "client_identification", which);
    const struct toml_node *written = toml_get(node, "jwt_claim");
    const struct toml_node *field = toml_get(node, "http_header");
    struct place inner = {.up = &spot.b, .key = SLICE("http_header")};
    if (written != NULL && field != NULL)
        problem_of(l, CONFIG_ERROR, node->key_at, &spot.b,
                   "has both jwt_claim and http_header; keep one of them");
    if (header.len != 0 && written == NULL)
        *claim = SLICE_EMPTY;
    if (field != NULL && header.len != 0 && l->config->n_trusted_proxies == 0)
        problem_of(l, CONFIG_WARNING, field->key_at, &inner,
                   "is taken from nobody until server.trusted_proxies names the proxies that set "
                   "it: server.trusted_proxies = [\"192.0.2.7\"]");
    inner.key = SLICE("jwt_claim");
    if (written != NULL && !l->config->oauth.is_set)
        problem_of(l, CONFIG_WARNING, written->key_at, &inner,
                   "has no effect without [server.oauth]: only access tokens have claims");
}

static void check_identification(struct loader *l, const struct toml_node *root) {
    struct config_identification *who = &l->config->identification;
    struct spot spot;
    const struct toml_node *node = find(&spot, root, "client_identification", NULL);
    if (node == NULL)
        return;
    if (toml_get(node, "enabled") == NULL)
        tell(l, root, CONFIG_WARNING, "client_identification", NULL,
             "is off: write enabled = true, or enabled = false");
    if (!who->enabled)
        return;
    check_source(l, root, "client_id", &who->client_claim, who->client_header);
    check_source(l, root, "group_id", &who->group_claim, who->group_header);
}

/* --- proxies --- */

static void tell_unread(struct loader *l, const struct toml_node *root) {
    const struct place admin = {.key = SLICE("admin")};
    const struct place proxies = {.up = &admin, .key = SLICE("trusted_proxies")};
    const struct toml_node *node = toml_get(toml_get(root, "admin"), "trusted_proxies");
    problem_of(l, CONFIG_WARNING, node != NULL ? node->key_at : (struct toml_position){0, 0},
               &proxies,
               "are not asked for a client's address until server.client_ip says which field has "
               "it: server.client_ip.x_forwarded_for = true");
}

static void check_proxies(struct loader *l, const struct toml_node *root) {
    static const char words[] =
        "is taken from nobody until server.trusted_proxies names the proxies that set it: "
        "server.trusted_proxies = [\"192.0.2.7\"]";
    const struct config *config = l->config;
    bool has_hops = config->client_ip.hops != UINT64_MAX;
    if (config->client_ip.x_forwarded_for && has_hops)
        tell(l, root, CONFIG_ERROR, "client_ip", "x_forwarded_for_trusted_hops",
             "and x_forwarded_for are two ways to read one header; keep one of them");
    if (config->proxy_protocol && config->n_trusted_proxies == 0)
        tell(l, root, CONFIG_ERROR, "proxy_protocol", NULL,
             "needs server.trusted_proxies, the addresses of the proxies that speak it");
    bool has_field = config->client_ip.x_real_ip || config->client_ip.x_forwarded_for || has_hops;
    if (config->admin.n_trusted_proxies != 0 && !has_field)
        tell_unread(l, root);
    if (config->n_trusted_proxies != 0 || config->admin.n_trusted_proxies != 0)
        return;
    if (config->client_ip.x_real_ip)
        tell(l, root, CONFIG_WARNING, "client_ip", "x_real_ip", words);
    if (config->client_ip.x_forwarded_for)
        tell(l, root, CONFIG_WARNING, "client_ip", "x_forwarded_for", words);
    if (has_hops)
        tell(l, root, CONFIG_WARNING, "client_ip", "x_forwarded_for_trusted_hops", words);
}

/* --- browsers --- */

static bool is_for_all(struct slice item) {
    return slice_eq(item, SLICE("*")) || slice_ends_with(item, SLICE("://*"));
}

/* Fetch, "CORS protocol and credentials": browsers take no "*" then, and an origin that is sent
 * back whatever it is lets every page act as the user. */
static void check_cors(struct loader *l, const struct toml_node *root) {
    const struct config_cors *cors = &l->config->cors;
    const struct {
        const char *key;
        const struct slice *items;
        size_t n;
    } lists[] = {
        {"allow_origins", cors->allow_origins, cors->n_allow_origins},
        {"allow_methods", cors->allow_methods, cors->n_allow_methods},
        {"allow_headers", cors->allow_headers, cors->n_allow_headers},
        {"expose_headers", cors->expose_headers, cors->n_expose_headers},
    };
    bool for_any_page = false;
    for (size_t k = 0; k < cors->n_allow_origins && config_lets_everybody_in(l->config); k++)
        for_any_page = for_any_page || is_for_all(cors->allow_origins[k]);
    if (for_any_page)
        tell(l, root, CONFIG_WARNING, "cors", "allow_origins",
             "lets every page in, and server.auth lets everybody in: whatever page is open in a "
             "browser that reaches the gateway can call everything; list the pages that may");
    for (size_t i = 0; i < ARRAY_LEN(lists) && cors->allow_credentials; i++) {
        bool for_all = false;
        for (size_t k = 0; k < lists[i].n; k++)
            for_all = for_all || is_for_all(lists[i].items[k]);
        if (for_all)
            tell(l, root, CONFIG_ERROR, "cors", lists[i].key,
                 "must not be \"*\" together with allow_credentials: list what is meant");
    }
}

static void check_csrf(struct loader *l, const struct toml_node *root) {
    struct spot spot;
    const struct toml_node *node = find(&spot, root, "csrf", NULL);
    if (node != NULL && toml_get(node, "enabled") == NULL)
        tell(l, root, CONFIG_WARNING, "csrf", NULL,
             "is off: write enabled = true, or enabled = false");
}

/* --- nobody --- */

static void check_anonymous(struct loader *l, const struct toml_node *root) {
    const struct config *config = l->config;
    const char *other = config->oauth.is_set             ? "[server.oauth]"
                        : config->n_tokens != 0          ? "[server.auth.tokens]"
                        : config->tls.client_ca.len != 0 ? "server.tls.client_ca"
                                                         : NULL;
    if (!config_lets_everybody_in(config) || other == NULL)
        return;
    struct spot spot;
    const struct toml_node *node =
        find(&spot, root, "auth", config->auth_anonymous ? "anonymous" : "none");
    problem_of(l, CONFIG_ERROR, node != NULL ? node->key_at : (struct toml_position){0, 0}, &spot.b,
               "lets everybody in, and %s is there to tell callers apart; keep one of them", other);
}

void check_auth(struct loader *l, const struct toml_node *root) {
    check_tls(l, root);
    check_oauth(l, root);
    check_tokens(l, root);
    check_scopes(l, root);
    check_identification(l, root);
    check_proxies(l, root);
    check_cors(l, root);
    check_csrf(l, root);
    check_anonymous(l, root);
}
