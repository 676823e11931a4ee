/* The rules for addresses that others name, as one configuration has them. */
#include <errno.h>

#include "base/limits.h"
#include "base/mem.h"
#include "private.h"

struct urls {
    struct slice *list;
    size_t n, cap;
    bool lacks_memory;
};

static void add_url(void *context, struct slice url) {
    struct urls *urls = context;
    if (urls->n == urls->cap) {
        size_t cap = urls->cap != 0 ? urls->cap * 2 : 16;
        struct slice *list = mem_realloc(urls->list, cap * sizeof *list);
        if (list == NULL) {
            urls->lacks_memory = true;
            return;
        }
        urls->list = list;
        urls->cap = cap;
    }
    urls->list[urls->n++] = url;
}

int oauth_rules_new(const struct config *config, struct client_rules **ret_rules) {
    struct urls urls = {.list = NULL};
    struct network networks[LIMIT_ALLOW_NETWORKS];
    size_t n_networks = 0;
    config_each_url(config, add_url, &urls);
    for (size_t i = 0; i < config->n_allow_networks && n_networks < LIMIT_ALLOW_NETWORKS; i++) {
        if (network_parse(config->allow_networks[i], &networks[n_networks]))
            n_networks++;
    }
    int error = urls.lacks_memory
                    ? -ENOMEM
                    : client_rules_new(urls.list, urls.n, networks, n_networks, ret_rules);
    mem_free(urls.list);
    return error;
}

struct client_rules *oauth_rules_unref(struct client_rules *rules) {
    return client_rules_unref(rules);
}
