/*
 * What the gateway connects to: the URLs that the file names, and the networks that addresses may
 * be in which others name (security.allow_networks).
 */
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
        if (server->is_stored)
            continue; /* what stands there opens no network */
        if (server->url.len != 0)
            fn(context, server->url);
        if (server->auth_client.issuer.len != 0)
            fn(context, server->auth_client.issuer);
        if (server->auth_client.token_endpoint.len != 0)
            fn(context, server->auth_client.token_endpoint);
    }
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
