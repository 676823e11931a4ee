/* [mcp.servers.NAME], and the rules over several keys. */
#include <errno.h>

#include "load.h"

#define SERVER_ROW "mcp.servers.*"

static void check_command(struct loader *l, const struct place *place, const struct toml_node *cmd,
                          const struct config_server *server) {
    struct place inner = {.up = place, .key = cmd->key};
    if (cmd->type != TOML_ARRAY)
        return; /* told already */
    bool no_program =
        server->n_cmd > 0 && server->cmd[0].ptr != NULL && slice_is_empty(server->cmd[0]);
    if (cmd->n_children == 0 || no_program)
        problem_of(l, CONFIG_ERROR, cmd->at, &inner, "must begin with a program");
}

/* One problem when it is not clear what kind of server it is; OPTION_FOR_ALL then. */
static enum option_kind find_kind(struct loader *l, const struct place *place,
                                  const struct toml_node *node) {
    const struct toml_node *cmd = toml_get(node, "cmd");
    const struct toml_node *url = toml_get(node, "url");
    if (cmd != NULL && url != NULL)
        problem_of(l, CONFIG_ERROR, url->key_at, place, "has both cmd and url; keep one of them");
    else if (cmd == NULL && url == NULL)
        problem_of(l, l->is_stored ? CONFIG_ERROR : CONFIG_WARNING, node->key_at, place,
                   "has neither cmd nor url: it is not served; cmd is the command that speaks MCP "
                   "on its standard input and output, url the address of a server");
    else
        return url != NULL ? OPTION_FOR_HTTP : OPTION_FOR_CHILDREN;
    return OPTION_FOR_ALL;
}

static void check_times(struct loader *l, const struct place *place, const struct toml_node *node,
                        struct config_server *server) {
    const struct toml_node *idle = toml_get(node, "timeout");
    struct place timeout = {.up = place, .key = SLICE("timeout")};
    if (server->call_idle_timeout_ms > server->call_total_timeout_ms) {
        if (idle != NULL)
            problem_of(l, CONFIG_ERROR, idle->at, &timeout, "must not be longer than max_timeout");
        else
            server->call_idle_timeout_ms = server->call_total_timeout_ms;
    }
    const struct toml_node *restart = toml_get(node, "restart");
    struct place inner = {.up = place, .key = SLICE("restart")};
    if (restart != NULL && server->restart_initial_ms > server->restart_max_ms)
        problem_of(l, CONFIG_ERROR, restart->key_at, &inner,
                   "must have an initial that is not longer than its max");
}

/* Where messages go is a question of HTTP+SSE alone. */
static void check_message_url(struct loader *l, const struct place *place,
                              const struct toml_node *node, struct config_server *server) {
    struct place key = {.up = place, .key = SLICE("message_url")};
    if (server->message_url.len == 0)
        return;
    if (server->protocol == CONFIG_PROTOCOL_STREAMABLE_HTTP)
        problem_of(l, CONFIG_ERROR, toml_get(node, "message_url")->key_at, &key,
                   "is for HTTP+SSE, and protocol says \"streamable-http\"; keep one of them");
    server->protocol = CONFIG_PROTOCOL_SSE;
}

static bool is_switched_off(const struct toml_node *node) {
    const struct toml_node *enabled = toml_get(node, "enabled");
    return enabled != NULL && enabled->type == TOML_BOOL && !enabled->boolean;
}

void load_server(struct loader *l, const struct place *place, const struct toml_node *node) {
    const struct option *row = option_find("mcp.servers", SLICE_EMPTY);
    const char *wrong = check_server_name(node->key);
    if (wrong != NULL)
        problem_of(l, CONFIG_ERROR, node->key_at, place, "%s", wrong);
    if (!check_type(l, place, row, node))
        return;
    if (!l->is_stored && is_switched_off(node)) {
        walk_table(l, place, node, SERVER_ROW, NULL, WALK_NAMES);
        return;
    }
    bool is_served = toml_get(node, "cmd") != NULL || toml_get(node, "url") != NULL;
    struct config_server *server =
        is_served ? &l->config->servers[l->config->n_servers++] : &l->unserved[l->n_unserved++];
    store_defaults(l, OPTION_OF_SERVER, server);
    server->name = arena_dup(&l->config->arena, node->key);
    if (server->name.ptr == NULL)
        l->error = -ENOMEM;
    server->is_stored = l->is_stored;
    server->line = l->is_stored ? 0 : node->key_at.line;
    server->has_allow = toml_get(node, "allow") != NULL;
    l->kind = find_kind(l, place, node);
    walk_table(l, place, node, SERVER_ROW, server, WALK_ALL);
    if (l->kind == OPTION_FOR_CHILDREN)
        check_command(l, place, toml_get(node, "cmd"), server);
    l->kind = OPTION_FOR_ALL;
    check_message_url(l, place, node, server);
    check_times(l, place, node, server);
}

void load_servers(struct loader *l, const struct place *place, const struct toml_node *table) {
    l->config->servers =
        arena_alloc_array(&l->config->arena, table->n_children + 1, sizeof *l->config->servers);
    l->unserved = arena_alloc_array(&l->config->arena, table->n_children + 1, sizeof *l->unserved);
    if (l->config->servers == NULL || l->unserved == NULL) {
        l->error = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < table->n_children && l->error == 0; i++) {
        struct place inner = {.up = place, .key = table->children[i].key};
        size_t index;
        if (!stored_is_at(table->children[i].key_at, &index)) /* stored_load() does those */
            load_server(l, &inner, &table->children[i]);
    }
}

const struct config_server *loaded_server(const struct loader *l, size_t i) {
    size_t n = l->config->n_servers;
    if (i < n)
        return &l->config->servers[i];
    return i - n < l->n_unserved ? &l->unserved[i - n] : NULL;
}

void find_server(struct server_place *at, const struct toml_node *root, struct slice name) {
    at->mcp = (struct place){.key = SLICE("mcp")};
    at->servers = (struct place){.up = &at->mcp, .key = SLICE("servers")};
    at->server = (struct place){.up = &at->servers, .key = name};
    at->node = toml_get(toml_get(toml_get(root, "mcp"), "servers"), name.ptr);
}

/* `path` is `above` or lies below it. */
static bool is_within(struct slice path, struct slice above) {
    return slice_starts_with(path, above) && (path.len == above.len || path.ptr[above.len] == '/');
}

/* Both of table and key, or NULL. */
static const struct toml_node *get2(const struct toml_node *root, const char *table,
                                    const char *key) {
    return toml_get(toml_get(root, table), key);
}

static struct toml_position position_of(const struct toml_node *node) {
    return node != NULL ? node->at : (struct toml_position){0, 0};
}

static void check_paths(struct loader *l, const struct toml_node *root) {
    static const struct slice taken[] = {SLICE_INIT("/ready"), SLICE_INIT("/metrics"),
                                         SLICE_INIT("/.well-known")};
    const struct config *config = l->config;
    const struct toml_node *mcp = get2(root, "mcp", "path");
    const struct toml_node *health = toml_get(get2(root, "server", "health"), "path");
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        if (is_within(config->mcp_path, taken[i]))
            problem_at(l, CONFIG_ERROR, position_of(mcp),
                       "mcp.path must not be %s, which the gateway uses itself", taken[i].ptr);
        if (is_within(config->health_path, taken[i]))
            problem_at(l, CONFIG_ERROR, position_of(health),
                       "server.health.path must not be %s, which the gateway uses itself",
                       taken[i].ptr);
    }
    if (config->health_enabled && config->mcp_enabled &&
        is_within(config->health_path, config->mcp_path))
        problem_at(l, CONFIG_ERROR, position_of(health != NULL ? health : mcp),
                   "server.health.path must not lie inside mcp.path");
}

/* A process costs what a session does not. */
static void fill_max_instances(struct config *config) {
    enum { PROCESSES = 16, SESSIONS = 1000 };
    for (size_t i = 0; i < config->n_servers; i++) {
        struct config_server *server = &config->servers[i];
        if (server->max_instances == INSTANCES_NOT_SET)
            server->max_instances = server->url.len != 0 ? SESSIONS : PROCESSES;
    }
}

static void fill_idle_timeouts(struct config *config) {
    for (size_t i = 0; i < config->n_servers; i++) {
        if (config->servers[i].idle_timeout_ms == IDLE_NOT_SET)
            config->servers[i].idle_timeout_ms = config->cache_idle_timeout_ms;
    }
}

void check_config(struct loader *l, const struct toml_node *root) {
    fill_idle_timeouts(l->config);
    fill_max_instances(l->config);
    check_paths(l, root);
    check_auth(l, root);
    check_http(l, root);
    check_upstreams(l, root);
    check_outside(l, root);
    check_access(l, root);
    check_rates(l, root);
    check_stored(l, root);
    if (l->config->mcp_enabled && loaded_server(l, 0) == NULL && l->n_errors == 0)
        problem_at(
            l, CONFIG_WARNING, (struct toml_position){0, 0},
            "no MCP servers are configured: [mcp.servers.NAME] with a cmd or a url adds one");
}
