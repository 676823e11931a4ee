/*
 * What the gateway connects to: the URLs that the file names, and the networks that addresses may
 * be in which others name (security.allow_networks).
 */
#include "base/map.h"
#include "base/network.h"
#include "load.h"

void config_each_url(const struct config *config, void (*fn)(void *context, struct slice url),
                     void *context) {
    const struct config_oauth *oauth = &config->oauth;
    for (size_t i = 0; i < oauth->n_issuers; i++) {
        if (oauth->issuers[i].issuer.len != 0)
            fn(context, oauth->issuers[i].issuer);
        if (oauth->issuers[i].url.len != 0)
            fn(context, oauth->issuers[i].url);
    }
    for (size_t i = 0; i < config->n_servers; i++) {
        const struct config_server *server = &config->servers[i];
        if (server->url.len != 0)
            fn(context, server->url);
        if (server->auth_client.issuer.len != 0)
            fn(context, server->auth_client.issuer);
        if (server->auth_client.token_endpoint.len != 0)
            fn(context, server->auth_client.token_endpoint);
    }
}

struct authorities {
    struct map map;
    int error;
};

/* Scheme and authority as they are written: a path more or less names nobody else. */
static void add_authority(void *context, struct slice url) {
    struct authorities *all = context;
    size_t end = slice_find(url, SLICE("://"));
    end = end == SIZE_MAX ? 0 : end + 3;
    while (end < url.len && url.ptr[end] != '/' && url.ptr[end] != '?')
        end++;
    if (all->error == 0)
        all->error = map_set(&all->map, slice_sub(url, 0, end), all);
}

static bool same_authorities(const struct authorities *a, const struct authorities *b) {
    bool is_same = a->error == 0 && b->error == 0 && a->map.count == b->map.count;
    size_t cursor = 0;
    struct slice key;
    while (is_same && map_next(&a->map, &cursor, &key, NULL))
        is_same = map_has(&b->map, key);
    return is_same;
}

static bool same_networks(const struct config *a, const struct config *b) {
    bool is_same = a->n_allow_networks == b->n_allow_networks;
    for (size_t i = 0; is_same && i < a->n_allow_networks; i++)
        is_same = slice_eq(a->allow_networks[i], b->allow_networks[i]);
    return is_same;
}

bool config_same_outside(const struct config *a, const struct config *b) {
    if (!same_networks(a, b))
        return false;
    struct authorities of_a = {.error = 0}, of_b = {.error = 0};
    map_init(&of_a.map);
    map_init(&of_b.map);
    config_each_url(a, add_authority, &of_a);
    config_each_url(b, add_authority, &of_b);
    bool is_same = same_authorities(&of_a, &of_b);
    map_deinit(&of_a.map);
    map_deinit(&of_b.map);
    return is_same;
}

void check_outside(struct loader *l, const struct toml_node *root) {
    const struct toml_node *list = toml_get(toml_get(root, "security"), "allow_networks");
    struct place security = {.key = SLICE("security")};
    struct place networks = {.up = &security, .key = SLICE("allow_networks")};
    for (size_t i = 0; i < l->config->n_allow_networks; i++) {
        struct network network;
        struct place entry = {.up = &networks, .index = i};
        if (network_parse(l->config->allow_networks[i], &network) && network.bits == 0)
            problem_of(l, CONFIG_WARNING, list->children[i].at, &entry,
                       "is every address there is: whoever answers the gateway can point it at "
                       "this machine, its network and the cloud's own addresses; name the networks "
                       "that are meant, such as \"10.20.0.0/16\"");
    }
}
