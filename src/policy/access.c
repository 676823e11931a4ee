/*
 * The decision. A tool's allow replaces the server's; deny of both adds up and wins. A deny can
 * only be told to be without effect for a caller all of whose groups are known: who leaves a group
 * out, or garbles it, would get past the rule otherwise. Prompts and resources go by the server's
 * rules.
 *
 * Whatever is not said to be a read is a write. Locks come after access: who may not know of a tool
 * does not hear that it is locked.
 */
#include "private.h"

static bool has_sorted(const struct slice *items, size_t n, struct slice wanted) {
    size_t low = 0;
    while (low < n) {
        size_t middle = low + (n - low) / 2;
        int order = slice_cmp(items[middle], wanted);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            n = middle;
    }
    return false;
}

/* Most names differ in length or in the first byte. */
static bool has_near(const struct slice *items, size_t n, struct slice wanted) {
    for (size_t i = 0; i < n; i++) {
        if (items[i].len == wanted.len && (wanted.len == 0 || items[i].ptr[0] == wanted.ptr[0]) &&
            slice_eq(items[i], wanted))
            return true;
    }
    return false;
}

/* Both are sorted: the shorter one's items are looked up in the other one. */
bool policy_groups_meet(const struct policy_groups *groups, const struct policy_caller *caller) {
    enum { FEW = 8 };
    bool fewer = groups->n < caller->n_groups;
    const struct slice *few = fewer ? groups->items : caller->groups;
    const struct slice *many = fewer ? caller->groups : groups->items;
    size_t n_few = fewer ? groups->n : caller->n_groups;
    size_t n_many = fewer ? caller->n_groups : groups->n;
    for (size_t i = 0; i < n_few; i++) {
        if (n_many <= FEW ? has_near(many, n_many, few[i]) : has_sorted(many, n_many, few[i]))
            return true;
    }
    return false;
}

static enum policy_rule deny_rule(const struct policy_access *access,
                                  const struct policy_caller *caller) {
    if (LIKELY(access->deny.n == 0))
        return POLICY_RULE_NONE;
    if (policy_groups_meet(&access->deny, caller))
        return POLICY_RULE_DENY;
    return policy_knows_groups(caller) ? POLICY_RULE_NONE : POLICY_RULE_DENY_UNKNOWN;
}

enum policy_rule policy_access_rule(const struct policy_server *server,
                                    const struct policy_tool *tool,
                                    const struct policy_caller *caller, bool *ret_is_of_tool) {
    enum policy_rule rule = deny_rule(&server->access, caller);
    *ret_is_of_tool = false;
    if (rule != POLICY_RULE_NONE)
        return rule;
    const struct policy_access *allow = &server->access;
    if (tool != NULL) {
        rule = deny_rule(&tool->access, caller);
        *ret_is_of_tool = rule != POLICY_RULE_NONE || tool->access.has_allow;
        if (rule != POLICY_RULE_NONE)
            return rule;
        if (tool->access.has_allow)
            allow = &tool->access;
    }
    if (allow->has_allow && !policy_groups_meet(&allow->allow, caller))
        return POLICY_RULE_ALLOW;
    *ret_is_of_tool = false;
    return POLICY_RULE_NONE;
}

bool policy_is_read(const struct policy_server *server, const struct policy_tool *tool,
                    const struct policy_item *item) {
    if (item->kind != POLICY_TOOL)
        return true;
    enum config_access access = CONFIG_ACCESS_UNSET;
    if (tool != NULL && tool->config != NULL)
        access = tool->config->access;
    if (access == CONFIG_ACCESS_UNSET)
        access = server->config->access;
    if (access == CONFIG_ACCESS_UNSET)
        return item->says_read_only && server->policy->config->trust_annotations;
    return access == CONFIG_ACCESS_READ;
}

/* What the caller's roles give. Who may only read knows of what writes: it is locked for them. */
static enum policy_verdict rights_verdict(const struct policy_server *server,
                                          const struct policy_caller *caller,
                                          const struct policy_item *item, bool is_write) {
    struct slice name = server->config->name;
    if (caller->rights == NULL)
        return POLICY_ALLOWED;
    if (item->kind != POLICY_TOOL)
        return policy_rights_allow_all(caller->rights, name, false) ? POLICY_ALLOWED
                                                                    : POLICY_UNKNOWN;
    if (policy_rights_allow(caller->rights, name, item->name, is_write))
        return POLICY_ALLOWED;
    return is_write && policy_rights_allow(caller->rights, name, item->name, false)
               ? POLICY_LOCKED
               : POLICY_UNKNOWN;
}

static enum policy_rule lock_rule(const struct policy_server *server,
                                  const struct policy_tool *tool, bool edit_is_open) {
    if (!edit_is_open)
        return POLICY_RULE_EDIT_MODE;
    if (server->policy->config->n_whitelist != 0 && (tool == NULL || !tool->is_whitelisted))
        return POLICY_RULE_WHITELIST;
    return POLICY_RULE_NONE;
}

struct policy_decision policy_decide(const struct policy_server *server,
                                     const struct policy_caller *caller,
                                     const struct policy_item *item, bool edit_is_open) {
    struct policy_decision decision = {.verdict = POLICY_UNKNOWN, .server = server};
    if (server == NULL)
        return decision;
    const struct policy_tool *tool = policy_find_tool(server, item);
    decision.tool = tool;
    decision.is_write = !policy_is_read(server, tool, item);
    decision.rule = policy_access_rule(server, tool, caller, &decision.is_of_tool);
    if (decision.rule != POLICY_RULE_NONE)
        return decision;
    decision.verdict = rights_verdict(server, caller, item, decision.is_write);
    if (decision.verdict != POLICY_ALLOWED) {
        decision.rule = POLICY_RULE_RIGHTS;
        return decision;
    }
    if (decision.is_write)
        decision.rule = lock_rule(server, tool, edit_is_open);
    decision.verdict = decision.rule == POLICY_RULE_NONE ? POLICY_ALLOWED : POLICY_LOCKED;
    return decision;
}

bool policy_is_locked(const struct policy_server *server, const struct policy_item *item,
                      bool edit_is_open) {
    const struct policy_tool *tool = policy_find_tool(server, item);
    return !policy_is_read(server, tool, item) &&
           lock_rule(server, tool, edit_is_open) != POLICY_RULE_NONE;
}

bool policy_may_know(const struct policy_server *server, const struct policy_caller *caller) {
    bool is_of_tool;
    if (server == NULL ||
        (caller->rights != NULL && !policy_rights_know(caller->rights, server->config->name)))
        return false;
    enum policy_rule rule = policy_access_rule(server, NULL, caller, &is_of_tool);
    if (rule == POLICY_RULE_NONE)
        return true;
    if (rule != POLICY_RULE_ALLOW || !server->has_tool_access)
        return false;
    /* A tool may let in whom the server does not. */
    size_t cursor = 0;
    void *tool;
    while (map_next(&server->tools, &cursor, NULL, &tool)) {
        if (policy_access_rule(server, tool, caller, &is_of_tool) == POLICY_RULE_NONE)
            return true;
    }
    return false;
}

bool policy_allows_all(const struct policy_server *server, const struct policy_caller *caller,
                       enum policy_kind kind, bool edit_is_open) {
    bool is_of_tool;
    if (server == NULL || policy_access_rule(server, NULL, caller, &is_of_tool) != POLICY_RULE_NONE)
        return false;
    if (caller->rights != NULL &&
        !policy_rights_allow_all(caller->rights, server->config->name, kind == POLICY_TOOL))
        return false;
    if (kind != POLICY_TOOL)
        return true;
    if (server->has_tool_access)
        return false;
    if (edit_is_open && server->policy->config->n_whitelist == 0)
        return true;
    return server->config->access == CONFIG_ACCESS_READ && !server->has_tool_writes;
}

bool policy_has_argument_rules(const struct policy_decision *decision) {
    return decision->tool != NULL && decision->tool->n_arguments != 0;
}
