/*
 * A configuration made ready for being asked: lists of groups sorted, tools of a server in a map,
 * patterns compiled, limits with their identities. What is said of one tool in several places (its
 * table, two tables of limits, the whitelist) is one entry.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "private.h"

static int compare_slices(const void *a, const void *b) {
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

static int compile_groups(struct policy *policy, const struct slice *groups, size_t n,
                          struct policy_groups *ret_groups) {
    if (n == 0)
        return 0;
    struct slice *items = arena_alloc_array(&policy->arena, n, sizeof *items);
    if (items == NULL)
        return -ENOMEM;
    memcpy(items, groups, n * sizeof *items);
    qsort(items, n, sizeof *items, compare_slices);
    *ret_groups = (struct policy_groups){.items = items, .n = n};
    return 0;
}

static int compile_access(struct policy *policy, bool has_allow, const struct slice *allow,
                          size_t n_allow, const struct slice *deny, size_t n_deny,
                          struct policy_access *ret_access) {
    ret_access->has_allow = has_allow;
    int error = compile_groups(policy, allow, n_allow, &ret_access->allow);
    return error != 0 ? error : compile_groups(policy, deny, n_deny, &ret_access->deny);
}

struct policy_tool *policy_need_tool(struct policy *policy, struct policy_server *server,
                                     struct slice name) {
    struct policy_tool *tool = map_get(&server->tools, name);
    if (tool != NULL)
        return tool;
    tool = arena_alloc(&policy->arena, sizeof *tool);
    if (tool == NULL || map_set(&server->tools, name, tool) != 0)
        return NULL;
    tool->name = name;
    return tool;
}

static int compile_tool(struct policy *policy, struct policy_server *server,
                        const struct config_tool *config) {
    struct policy_tool *tool = policy_need_tool(policy, server, config->name);
    if (tool == NULL)
        return -ENOMEM;
    tool->config = config;
    server->has_tool_access |= config->has_allow || config->n_deny != 0;
    server->has_tool_writes |= config->access == CONFIG_ACCESS_WRITE;
    int error = compile_access(policy, config->has_allow, config->allow, config->n_allow,
                               config->deny, config->n_deny, &tool->access);
    return error != 0 ? error : policy_compile_arguments(policy, tool);
}

/* "server__tool" with the server's own name for the tool. No server's name has "__" in it, so the
 * first one is the border. */
static int compile_whitelist(struct policy *policy) {
    const struct config *config = policy->config;
    for (size_t i = 0; i < config->n_whitelist; i++) {
        struct slice entry = config->whitelist[i];
        size_t border = slice_find(entry, SLICE("__"));
        if (border == SIZE_MAX)
            continue;
        struct policy_server *server = map_get(&policy->by_name, slice_sub(entry, 0, border));
        if (server == NULL)
            continue;
        struct policy_tool *tool = policy_need_tool(policy, server, slice_from(entry, border + 2));
        if (tool == NULL)
            return -ENOMEM;
        tool->is_whitelisted = true;
    }
    return 0;
}

/*
 * A hash without a key: what is in the table comes from the configuration, and so a peer can make
 * no probe longer than the longest row of names that the operator has chosen.
 */
static size_t hash_name(struct slice name) {
    uint64_t hash = name.len, word;
    while (name.len >= sizeof word) {
        memcpy(&word, name.ptr, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
        name = slice_make(name.ptr + sizeof word, name.len - sizeof word);
    }
    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ (unsigned char)name.ptr[i]) * UINT64_C(0x100000001b3);
    return (size_t)(hash ^ hash >> 32);
}

static int make_slots(struct policy *policy, struct policy_server *server) {
    size_t n = 2, cursor = 0;
    void *tool;
    if (server->tools.count == 0)
        return 0;
    while (n < 2 * server->tools.count)
        n *= 2;
    server->slots = arena_alloc_array(&policy->arena, n, sizeof(const struct policy_tool *));
    if (server->slots == NULL)
        return -ENOMEM;
    server->n_slots = n;
    while (map_next(&server->tools, &cursor, NULL, &tool)) {
        size_t at = hash_name(((const struct policy_tool *)tool)->name) & (n - 1);
        while (server->slots[at] != NULL)
            at = (at + 1) & (n - 1);
        server->slots[at] = tool;
    }
    return 0;
}

const struct policy_tool *policy_find_tool(const struct policy_server *server,
                                           const struct policy_item *item) {
    if (server->slots == NULL || item->kind != POLICY_TOOL)
        return NULL;
    size_t mask = server->n_slots - 1;
    for (size_t at = hash_name(item->name) & mask; server->slots[at] != NULL;
         at = (at + 1) & mask) {
        if (slice_eq(server->slots[at]->name, item->name))
            return server->slots[at];
    }
    return NULL;
}

static int compile_server(struct policy *policy, struct policy_server *server) {
    const struct config_server *config = server->config;
    int error = map_set(&policy->by_name, config->name, server);
    if (error == 0)
        error = compile_access(policy, config->has_allow, config->allow, config->n_allow,
                               config->deny, config->n_deny, &server->access);
    for (size_t i = 0; i < config->n_tools && error == 0; i++)
        error = compile_tool(policy, server, &config->tools[i]);
    return error != 0 ? error : policy_compile_server_limits(policy, server);
}

static int compile(struct policy *policy) {
    const struct config *config = policy->config;
    if (config->n_servers != 0) {
        policy->servers =
            arena_alloc_array(&policy->arena, config->n_servers, sizeof *policy->servers);
        if (policy->servers == NULL)
            return -ENOMEM;
    }
    for (size_t i = 0; i < config->n_servers; i++) {
        struct policy_server *server = &policy->servers[policy->n_servers++];
        server->policy = policy;
        server->config = &config->servers[i];
        map_init(&server->tools);
        int error = compile_server(policy, server);
        if (error != 0)
            return error;
    }
    int error = compile_whitelist(policy);
    for (size_t i = 0; i < policy->n_servers && error == 0; i++)
        error = make_slots(policy, &policy->servers[i]);
    return error != 0 ? error : policy_compile_limits(policy);
}

int policy_new(const struct config *config, struct policy **ret_policy) {
    struct policy *policy = mem_alloc(sizeof *policy);
    if (policy == NULL)
        return -ENOMEM;
    policy->config = config;
    arena_init(&policy->arena, LIMIT_CONFIG_MEMORY);
    map_init(&policy->by_name);
    int error = compile(policy);
    if (error != 0) {
        policy_free(policy);
        return error;
    }
    *ret_policy = policy;
    return 0;
}

struct policy *policy_free(struct policy *policy) {
    if (policy == NULL)
        return NULL;
    for (size_t i = 0; i < policy->n_servers; i++) {
        size_t cursor = 0;
        void *tool;
        while (map_next(&policy->servers[i].tools, &cursor, NULL, &tool))
            policy_free_arguments(tool);
        map_deinit(&policy->servers[i].tools);
    }
    map_deinit(&policy->by_name);
    arena_deinit(&policy->arena);
    mem_free(policy);
    return NULL;
}

const struct policy_server *policy_find_server(const struct policy *policy, struct slice name) {
    return map_get(&policy->by_name, name);
}

bool policy_hides_locked(const struct policy *policy) {
    return policy->config->hide_denied;
}

bool policy_trusts_annotations(const struct policy *policy) {
    return policy->config->trust_annotations;
}

const struct config_server *policy_server_config(const struct policy_server *server) {
    return server->config;
}

const struct config_tool *policy_tool_config(const struct policy_tool *tool) {
    return tool != NULL ? tool->config : NULL;
}
