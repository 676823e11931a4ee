/*
 * What counts for which limit. A counter is named by level and names ("server:db:user:tool:drop");
 * names are percent-escaped down to [A-Za-z0-9_.-], so that no two counters have one name, whatever
 * servers, tools and groups are called.
 *
 * The row of a group takes the place of per_user for its members. Of several the one that allows
 * most holds; rows are sorted by that once, by cross-multiplying (a limit is at most 10^9 and an
 * interval below 2^31 ms, so products fit). Of two that allow the same the longer interval goes
 * first, which leaves more room for bursts; then the name decides, so that all gateways agree.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "private.h"

_Static_assert((uint64_t)LIMIT_RATE <= UINT64_MAX / LIMIT_RATE_INTERVAL_MS, "products fit");

/* The parts of a counter's name and of the key where the limit stands. */
static const struct {
    const char *id_end, *key_end; /* behind the server's */
    bool has_name;
} levels[] = {
    [POLICY_LEVEL_GLOBAL] = {"global", "server.rate_limits.global", false},
    [POLICY_LEVEL_IP] = {"ip", "server.rate_limits.per_ip", false},
    [POLICY_LEVEL_SERVER] = {"", ".rate_limits", false},
    [POLICY_LEVEL_TOOL] = {":tool:", ".rate_limits.tools.", true},
    [POLICY_LEVEL_USER] = {":user", ".rate_limits.per_user", false},
    [POLICY_LEVEL_USER_TOOL] = {":user:tool:", ".rate_limits.per_user.tools.", true},
    [POLICY_LEVEL_GROUP] = {":user:group:", ".rate_limits.per_user.groups.", true},
};

static bool is_of_request(enum policy_level level) {
    return level == POLICY_LEVEL_GLOBAL || level == POLICY_LEVEL_IP;
}

static int write_escaped(struct buf *out, struct slice name) {
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
        if (is_plain)
            buf_append_byte(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
    return buf_error(out);
}

static int compile_limit(struct policy *policy, struct policy_limit *limit, enum policy_level level,
                         struct slice server, struct slice name, struct config_limit config) {
    if (config.interval_ms == 0 || !policy->config->rate_limits.enabled)
        return 0;
    CLEANUP(buf_deinit) struct buf id = BUF_INIT(LIMIT_CONFIG_STRING);
    *limit = (struct policy_limit){.level = level, .server = server, .name = name};
    if (!is_of_request(level)) {
        buf_append(&id, SLICE("server:"));
        write_escaped(&id, server);
    }
    buf_append_cstr(&id, levels[level].id_end);
    if (levels[level].has_name)
        write_escaped(&id, name);
    struct slice kept =
        buf_error(&id) == 0 ? arena_dup(&policy->arena, buf_slice(&id)) : slice_make(NULL, 0);
    if (kept.ptr == NULL)
        return -ENOMEM;
    limits_rule_init(&limit->rule, kept, config);
    return 0;
}

int policy_compile_limits(struct policy *policy) {
    const struct config_server_limits *config = &policy->config->rate_limits;
    int error = compile_limit(policy, &policy->global, POLICY_LEVEL_GLOBAL, SLICE_EMPTY,
                              SLICE_EMPTY, config->global);
    if (error == 0)
        error = compile_limit(policy, &policy->per_ip, POLICY_LEVEL_IP, SLICE_EMPTY, SLICE_EMPTY,
                              config->per_ip);
    return error;
}

static int compare_rates(const void *a, const void *b) {
    const struct policy_limit *left = a, *right = b;
    const struct config_limit *l = &left->rule.limit, *r = &right->rule.limit;
    uint64_t of_left = l->limit * r->interval_ms, of_right = r->limit * l->interval_ms;
    if (of_left != of_right)
        return of_left > of_right ? -1 : 1;
    if (l->interval_ms != r->interval_ms)
        return l->interval_ms > r->interval_ms ? -1 : 1;
    return slice_cmp(left->name, right->name);
}

static int compile_groups(struct policy *policy, struct policy_server *server) {
    const struct config_rate_limits *config = &server->config->rate_limits;
    if (config->n_groups == 0 || !policy->config->rate_limits.enabled)
        return 0;
    server->groups = arena_alloc_array(&policy->arena, config->n_groups, sizeof *server->groups);
    if (server->groups == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_groups; i++) {
        const struct config_named_limit *row = &config->groups[i];
        if (row->limit.interval_ms == 0)
            continue;
        int error = compile_limit(policy, &server->groups[server->n_groups], POLICY_LEVEL_GROUP,
                                  server->config->name, row->name, row->limit);
        if (error != 0)
            return error;
        server->n_groups++;
    }
    if (server->n_groups != 0)
        qsort(server->groups, server->n_groups, sizeof *server->groups, compare_rates);
    return 0;
}

static int compile_tools(struct policy *policy, struct policy_server *server,
                         const struct config_named_limit *rows, size_t n, enum policy_level level) {
    for (size_t i = 0; i < n; i++) {
        struct policy_tool *tool = policy_need_tool(policy, server, rows[i].name);
        if (tool == NULL)
            return -ENOMEM;
        int error = compile_limit(policy, level == POLICY_LEVEL_TOOL ? &tool->all : &tool->user,
                                  level, server->config->name, rows[i].name, rows[i].limit);
        if (error != 0)
            return error;
        server->has_tool_limits = true;
    }
    return 0;
}

int policy_compile_server_limits(struct policy *policy, struct policy_server *server) {
    const struct config_rate_limits *config = &server->config->rate_limits;
    struct slice name = server->config->name;
    int error =
        compile_limit(policy, &server->all, POLICY_LEVEL_SERVER, name, SLICE_EMPTY, config->all);
    if (error == 0)
        error = compile_limit(policy, &server->user, POLICY_LEVEL_USER, name, SLICE_EMPTY,
                              config->user);
    if (error == 0)
        error = compile_groups(policy, server);
    if (error == 0)
        error = compile_tools(policy, server, config->tools, config->n_tools, POLICY_LEVEL_TOOL);
    if (error == 0)
        error = compile_tools(policy, server, config->user_tools, config->n_user_tools,
                              POLICY_LEVEL_USER_TOOL);
    return error;
}

struct charges {
    struct limits_charge *items;
    size_t n;
};

static void add(struct charges *charges, const struct policy_limit *limit,
                struct limits_subject subject) {
    if (limit->rule.limit.interval_ms != 0)
        charges->items[charges->n++] =
            (struct limits_charge){.rule = &limit->rule, .subject = subject};
}

/* per_user, or the best row of the caller's groups. */
static const struct policy_limit *user_limit(const struct policy_server *server,
                                             const struct policy_caller *caller) {
    for (size_t i = 0; i < server->n_groups; i++) {
        struct policy_groups group = {.items = &server->groups[i].name, .n = 1};
        if (policy_groups_meet(&group, caller))
            return &server->groups[i];
    }
    return &server->user;
}

size_t policy_charges(const struct policy_server *server, const struct policy_caller *caller,
                      const struct policy_item *item, struct limits_subject user,
                      struct limits_charge charges[static LIMIT_RATE_LEVELS]) {
    static const struct limits_subject everybody = {0, 0};
    struct charges taken = {.items = charges};
    if (server == NULL)
        return 0;
    const struct policy_tool *tool =
        server->has_tool_limits ? policy_find_tool(server, item) : NULL;
    add(&taken, &server->all, everybody);
    if (tool != NULL)
        add(&taken, &tool->all, everybody);
    add(&taken, user_limit(server, caller), user);
    if (tool != NULL)
        add(&taken, &tool->user, user);
    return taken.n;
}

/* A host has a whole /64 of IPv6 to itself (RFC 6177), and so any number of addresses. An address
 * of no family is one, too: all of those together. */
static struct limits_subject address_subject(const struct network *client) {
    size_t n = client->family_bits == NETWORK_V4_BITS   ? NETWORK_V4_BITS / 8
               : client->family_bits == NETWORK_V6_BITS ? 64 / 8
                                                        : 0;
    /* The address itself: it is short, and every request has one. */
    struct limits_subject subject = {.high = 1 + n};
    for (size_t i = 0; i < n; i++)
        subject.low = subject.low << 8 | client->bytes[i];
    return subject;
}

size_t policy_request_charges(const struct policy *policy, const struct network *client,
                              struct limits_charge charges[static LIMIT_RATE_LEVELS]) {
    struct charges taken = {.items = charges};
    add(&taken, &policy->global, (struct limits_subject){0, 0});
    if (policy->per_ip.rule.limit.interval_ms != 0)
        add(&taken, &policy->per_ip, address_subject(client));
    return taken.n;
}

static int write_key(struct buf *out, const struct policy_limit *limit) {
    if (!is_of_request(limit->level)) {
        buf_append(out, SLICE("mcp.servers."));
        policy_write_toml_key(out, limit->server);
    }
    buf_append_cstr(out, levels[limit->level].key_end);
    if (levels[limit->level].has_name)
        policy_write_toml_key(out, limit->name);
    return buf_error(out);
}

int policy_write_charge(struct buf *out, const struct limits_charge *charge) {
    /* Every rule that is handed out is in one of these. */
    _Static_assert(offsetof(struct policy_limit, rule) == 0, "one is the other");
    const struct policy_limit *limit = (const struct policy_limit *)(const void *)charge->rule;
    const struct config_limit *rate = &limit->rule.limit;
    write_key(out, limit);
    buf_append(out, SLICE(" allows "));
    buf_append_u64(out, rate->limit);
    buf_append_cstr(out, is_of_request(limit->level) ? " request" : " call");
    buf_append_cstr(out, rate->limit == 1 ? " in " : "s in ");
    return policy_write_duration(out, rate->interval_ms);
}

int policy_write_limited(struct buf *out, const struct limits_charge *charge, uint64_t wait_ms) {
    policy_write_charge(out, charge);
    buf_append(out, SLICE("; try again in "));
    buf_append_u64(out, wait_ms / 1000 + (wait_ms % 1000 != 0 || wait_ms == 0));
    return buf_append(out, SLICE(" s"));
}
