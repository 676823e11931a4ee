/*
 * Rules over several keys about how often, and where it is counted. Half a limit is an error: it
 * would limit nothing, or everything.
 */
#include "http/uri.h"
#include "load.h"

/* --- limits --- */

/* A limit and its interval in one table. False: there is neither. */
static bool check_pair(struct loader *l, const struct place *place, const struct toml_node *table) {
    const struct toml_node *limit = toml_get(table, "limit");
    const struct toml_node *interval = toml_get(table, "interval");
    struct place inner = {.up = place, .key = SLICE("limit")};
    if (limit != NULL && interval == NULL)
        problem_of(l, CONFIG_ERROR, limit->key_at, &inner,
                   "needs interval beside it, such as interval = \"60s\"");
    if (limit != NULL && limit->type == TOML_INTEGER && limit->integer == 0)
        problem_of(l, CONFIG_WARNING, limit->at, &inner, "is 0: nobody passes");
    inner.key = SLICE("interval");
    if (interval != NULL && limit == NULL)
        problem_of(l, CONFIG_ERROR, interval->key_at, &inner,
                   "needs limit beside it: how many pass in it");
    return limit != NULL || interval != NULL;
}

/* A table that is there for the two alone. */
static void check_whole_pair(struct loader *l, const struct place *place,
                             const struct toml_node *table) {
    if (table != NULL && table->type == TOML_TABLE && !check_pair(l, place, table))
        problem_of(l, CONFIG_ERROR, table->key_at, place,
                   "needs limit and interval, such as limit = 100 and interval = \"60s\"");
}

void finish_named_limit(struct loader *l, const struct place *place, const struct toml_node *node,
                        void *object) {
    (void)object;
    check_whole_pair(l, place, node);
}

static void check_group_rows(struct loader *l, const struct place *per_user,
                             const struct toml_node *node, const struct config_rate_limits *rates) {
    struct place groups = {.up = per_user, .key = SLICE("groups")};
    if (node == NULL || node->n_children != rates->n_groups)
        return;
    for (size_t i = 0; i < rates->n_groups; i++) {
        struct place row = {.up = &groups, .key = node->children[i].key};
        if (!is_known_group(l->config, node->children[i].key))
            problem_of(l, CONFIG_ERROR, node->children[i].key_at, &row,
                       "is not among server.client_identification.validation.group_values");
    }
    if (rates->n_groups != 0 && !has_groups(l->config))
        problem_of(l, CONFIG_WARNING, node->key_at, &groups,
                   "is for nobody: nothing gives a caller groups; configure "
                   "server.client_identification.group_id, or groups of a token in "
                   "[server.auth.tokens]");
}

static void check_server(struct loader *l, const struct toml_node *root,
                         const struct config_server *server) {
    struct server_place at;
    find_server(&at, root, server->name);
    const struct toml_node *rates = toml_get(at.node, "rate_limits");
    const struct toml_node *user = toml_get(rates, "per_user");
    struct place place = {.up = &at.server, .key = SLICE("rate_limits")};
    struct place per_user = {.up = &place, .key = SLICE("per_user")};
    if (rates != NULL)
        (void)check_pair(l, &place, rates);
    if (user != NULL)
        (void)check_pair(l, &per_user, user);
    check_group_rows(l, &per_user, toml_get(user, "groups"), &server->rate_limits);
}

static bool is_limited(const struct config_rate_limits *rates) {
    return rates->all.interval_ms + rates->user.interval_ms != 0 ||
           rates->n_tools + rates->n_user_tools + rates->n_groups != 0;
}

/* --- storage --- */

/* [server.rate_limits.storage]: the tables, and their places. */
struct storage_place {
    struct place server, rates, storage, pool, tls;
    const struct toml_node *node, *node_pool, *node_tls;
};

static void tell(struct loader *l, enum config_severity severity, const struct place *table,
                 const struct toml_node *node, const char *key, const char *sentence) {
    struct place inner = {.up = table, .key = slice_from_cstr(key)};
    const struct toml_node *child = find_secret(node, key);
    if (child != NULL)
        inner.key = child->key;
    problem_of(l, severity, child != NULL ? child->key_at : node->key_at, &inner, "%s", sentence);
}

static void check_storage_tls(struct loader *l, const struct storage_place *at, bool is_tls) {
    const struct config_storage *storage = &l->config->rate_limits.storage;
    const struct toml_node *enabled = toml_get(at->node_tls, "enabled");
    bool has_cert = toml_get(at->node_tls, "client_cert_path") != NULL;
    bool has_key = toml_get(at->node_tls, "client_key_path") != NULL;
    if (at->node_tls == NULL || at->node_tls->type != TOML_TABLE)
        return;
    if (has_cert && !has_key)
        tell(l, CONFIG_ERROR, &at->tls, at->node_tls, "client_cert_path",
             "needs client_key_path beside it");
    if (has_key && !has_cert)
        tell(l, CONFIG_ERROR, &at->tls, at->node_tls, "client_key_path",
             "needs client_cert_path beside it");
    if (storage->tls_insecure)
        tell(l, CONFIG_WARNING, &at->tls, at->node_tls, "insecure",
             "takes any certificate: whoever is on the way reads the password and decides who "
             "passes; name the authority with ca_cert_path");
    if (storage->url.len == 0 || storage->type != CONFIG_STORAGE_REDIS)
        return;
    if (is_tls && enabled != NULL && !storage->tls_enabled)
        tell(l, CONFIG_WARNING, &at->tls, at->node_tls, "enabled",
             "is false and has no effect: rediss:// is TLS");
    if (!is_tls &&
        (enabled == NULL || storage->tls_insecure || has_cert || storage->tls_ca.len != 0))
        problem_of(l, CONFIG_WARNING, at->node_tls->key_at, &at->tls,
                   "has no effect: redis:// is not encrypted; use rediss://");
}

static bool has_password(const struct uri *uri) {
    struct slice user, password;
    return slice_cut(uri->userinfo, ':', &user, &password) && password.len != 0;
}

static void check_url(struct loader *l, const struct storage_place *at, bool is_tls,
                      const struct uri *uri) {
    const struct config_storage *storage = &l->config->rate_limits.storage;
    if (storage->type != CONFIG_STORAGE_REDIS)
        tell(l, CONFIG_WARNING, &at->storage, at->node, "url",
             "has no effect without type = \"redis\"");
    else if (!is_tls && has_password(uri) && !option_uri_is_loopback(uri))
        tell(l, CONFIG_WARNING, &at->storage, at->node, "url",
             "sends a password to another machine unencrypted; use rediss://");
}

static void check_storage(struct loader *l, const struct toml_node *rates) {
    const struct config_storage *storage = &l->config->rate_limits.storage;
    struct storage_place at = {.server = {.key = SLICE("server")}};
    at.rates = (struct place){.up = &at.server, .key = SLICE("rate_limits")};
    at.storage = (struct place){.up = &at.rates, .key = SLICE("storage")};
    at.pool = (struct place){.up = &at.storage, .key = SLICE("pool")};
    at.tls = (struct place){.up = &at.storage, .key = SLICE("tls")};
    at.node = toml_get(rates, "storage");
    at.node_pool = toml_get(at.node, "pool");
    at.node_tls = toml_get(at.node, "tls");
    if (at.node == NULL)
        return;
    struct uri uri;
    bool has_url = storage->url.len != 0 && uri_parse(storage->url, &uri, NULL) == 0;
    bool is_tls = has_url && (storage->tls_enabled || slice_eq_nocase(uri.scheme, SLICE("rediss")));
    if (storage->type == CONFIG_STORAGE_REDIS && find_secret(at.node, "url") == NULL)
        tell(l, CONFIG_ERROR, &at.storage, at.node, "type",
             "is \"redis\" and needs url beside it: \"redis://host:6379\", or rediss:// for TLS");
    if (has_url)
        check_url(l, &at, is_tls, &uri);
    check_storage_tls(l, &at, is_tls);
    if (storage->pool_min_idle > storage->pool_max_size)
        tell(l, CONFIG_ERROR, &at.pool, at.node_pool, "min_idle",
             "must not be larger than max_size");
}

void check_rates(struct loader *l, const struct toml_node *root) {
    const struct toml_node *rates = toml_get(toml_get(root, "server"), "rate_limits");
    struct place server = {.key = SLICE("server")};
    struct place place = {.up = &server, .key = SLICE("rate_limits")};
    struct place global = {.up = &place, .key = SLICE("global")};
    struct place per_ip = {.up = &place, .key = SLICE("per_ip")};
    const struct config_server *one, *limited = NULL;
    check_whole_pair(l, &global, toml_get(rates, "global"));
    check_whole_pair(l, &per_ip, toml_get(rates, "per_ip"));
    check_storage(l, rates);
    for (size_t i = 0; (one = loaded_server(l, i)) != NULL; i++) {
        check_server(l, root, one);
        if (limited == NULL && is_limited(&one->rate_limits))
            limited = one;
    }
    struct place enabled = {.up = &place, .key = SLICE("enabled")};
    if (!l->config->rate_limits.enabled && limited != NULL)
        problem_of(l, CONFIG_WARNING, toml_get(rates, "enabled")->at, &enabled,
                   "switches off the limits of servers, too, such as those of mcp.servers.%.*s",
                   SLICE_ARGS(limited->name));
}
