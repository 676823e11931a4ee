/* The decision step by step, for people. What decides is in access.c and arguments.c alone: this
 * asks them, and says what they looked at. */
#include "private.h"

static const char *const kinds[] = {
    [POLICY_TOOL] = "tool", [POLICY_PROMPT] = "prompt", [POLICY_RESOURCE] = "resource"};

static void write_caller(struct buf *out, const struct policy_caller *caller) {
    buf_append(out, SLICE("caller: "));
    if (caller->n_groups == 0)
        buf_append(out, SLICE("in no group"));
    else {
        buf_append_cstr(out, caller->n_groups == 1 ? "in the group " : "in the groups ");
        for (size_t i = 0; i < caller->n_groups; i++) {
            buf_append_cstr(out, i != 0 ? ", " : "");
            policy_write_toml_key(out, caller->groups[i]);
        }
    }
    if (!policy_knows_groups(caller))
        buf_append(out, SLICE("; its groups are not known for sure, so whatever has a deny is "
                              "denied"));
    buf_append_byte(out, '\n');
}

static void write_place(struct buf *out, const struct policy_server *server,
                        const struct policy_tool *tool) {
    if (tool != NULL)
        policy_write_tool_key(out, server, tool->name);
    else
        policy_write_server_key(out, server);
}

/* "deny: mcp.servers.db.deny = ["x"]: the caller is in it". */
static void write_deny(struct buf *out, const struct policy_server *server,
                       const struct policy_tool *tool, const struct policy_caller *caller) {
    const struct policy_access *access = tool != NULL ? &tool->access : &server->access;
    if (access->deny.n == 0)
        return;
    buf_append(out, SLICE("deny: "));
    write_place(out, server, tool);
    buf_append(out, SLICE(".deny = "));
    policy_write_toml_strings(out, access->deny.items, access->deny.n);
    buf_append_cstr(out, policy_groups_meet(&access->deny, caller) ? ": the caller is in it\n"
                         : policy_knows_groups(caller)             ? ": the caller is not in it\n"
                                                       : ": the caller's groups are not known\n");
}

static void write_allow(struct buf *out, const struct policy_server *server,
                        const struct policy_tool *tool, const struct policy_caller *caller) {
    bool is_of_tool = tool != NULL && tool->access.has_allow;
    const struct policy_access *access = is_of_tool ? &tool->access : &server->access;
    buf_append(out, SLICE("allow: "));
    if (!access->has_allow) {
        buf_append(out, SLICE("there is none, so everybody\n"));
        return;
    }
    write_place(out, server, is_of_tool ? tool : NULL);
    buf_append(out, SLICE(".allow = "));
    policy_write_toml_strings(out, access->allow.items, access->allow.n);
    if (is_of_tool && server->access.has_allow)
        buf_append(out, SLICE(" (in place of the server's)"));
    buf_append_cstr(out, access->allow.n == 0 ? ": nobody\n"
                         : policy_groups_meet(&access->allow, caller)
                             ? ": the caller is in it\n"
                             : ": the caller is not in it\n");
}

/* Who lacks one is told so with 403, before anything else is looked at; so it is no part of the
 * decision. */
static void write_scopes(struct buf *out, const struct policy_server *server,
                         const struct policy_tool *tool) {
    const struct config_server *of_server = server->config;
    const struct config_tool *of_tool = tool != NULL ? tool->config : NULL;
    for (int i = 0; i < 2; i++) {
        size_t n = i == 0 ? of_server->n_scopes : of_tool != NULL ? of_tool->n_scopes : 0;
        if (n == 0)
            continue;
        buf_append(out, SLICE("scopes: the token has to have "));
        write_place(out, server, i == 0 ? NULL : tool);
        buf_append(out, SLICE(".scopes = "));
        policy_write_toml_strings(out, i == 0 ? of_server->scopes : of_tool->scopes, n);
        buf_append_byte(out, '\n');
    }
}

static void write_access(struct buf *out, const struct policy_decision *decision,
                         const struct policy_item *item) {
    const struct policy_server *server = decision->server;
    const struct policy_tool *tool = decision->tool;
    bool is_of_tool =
        tool != NULL && tool->config != NULL && tool->config->access != CONFIG_ACCESS_UNSET;
    bool trusts = server->policy->config->trust_annotations;
    buf_printf(out, "access: %s, ", decision->is_write ? "write" : "read");
    if (item->kind != POLICY_TOOL)
        buf_printf(out, "as every %s", kinds[item->kind]);
    else if (is_of_tool || server->config->access != CONFIG_ACCESS_UNSET) {
        write_place(out, server, is_of_tool ? tool : NULL);
        buf_append_cstr(out, decision->is_write ? ".access = \"write\"" : ".access = \"read\"");
    } else if (trusts)
        buf_append_cstr(
            out,
            item->says_read_only
                ? "it set readOnlyHint when it was first seen (a changed definition is a write)"
                : "no readOnlyHint is known of it from when it was first seen");
    else
        buf_append_cstr(out, "nothing says that it only reads");
    buf_append_byte(out, '\n');
}

static void write_edit(struct buf *out, const struct policy_decision *decision, bool edit_is_open) {
    const struct policy_tool *tool = decision->tool;
    size_t n = decision->server->policy->config->n_whitelist;
    if (!decision->is_write)
        return;
    buf_append_cstr(out, edit_is_open ? "edit mode: on" : "edit mode: off");
    if (n != 0)
        buf_append_cstr(out, tool != NULL && tool->is_whitelisted
                                 ? ", and security.whitelist names it"
                                 : ", and security.whitelist does not name it");
    buf_append_byte(out, '\n');
}

static void write_charges(struct buf *out, const struct policy *policy,
                          const struct policy_decision *decision,
                          const struct policy_question *question) {
    struct limits_charge charges[LIMIT_RATE_LEVELS];
    struct limits_subject user = {1, 1};
    struct network client = {.family_bits = 0};
    for (int of_call = 0; of_call < 2; of_call++) {
        size_t n = of_call ? policy_charges(decision->server, &question->caller, &question->item,
                                            user, charges)
                           : policy_request_charges(policy, &client, charges);
        for (size_t i = 0; i < n; i++) {
            buf_append(out, SLICE("counts for: "));
            policy_write_charge(out, &charges[i]);
            buf_append_byte(out, '\n');
        }
    }
    if (!policy->config->rate_limits.enabled)
        buf_append(out, SLICE("limits: none, server.rate_limits.enabled = false\n"));
}

static void write_result(struct buf *out, const struct policy_decision *decision,
                         const struct policy_item *item) {
    switch (decision->verdict) {
    case POLICY_ALLOWED:
        buf_append(out, SLICE("result: allowed\n"));
        return;
    case POLICY_LOCKED:
        buf_append(out, SLICE("result: locked. "));
        policy_write_locked(out, decision, item->name);
        break;
    case POLICY_UNKNOWN:
        buf_append(out, SLICE("result: denied by "));
        policy_write_rule(out, decision, item->name);
        buf_append(out, SLICE(", and answered as what does not exist"));
        break;
    }
    buf_append_byte(out, '\n');
}

/* 0, POLICY_E_ARGUMENT, or an error. */
static int write_arguments(struct buf *out, const struct policy_decision *decision,
                           const struct policy_question *question, struct json_reader *reader) {
    if (decision->verdict != POLICY_ALLOWED || !policy_has_argument_rules(decision))
        return 0;
    if (question->arguments.len == 0)
        return buf_append(out, SLICE("arguments: there are rules, and nothing to check\n"));
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(64));
    int refused =
        policy_check_arguments(decision, question->item.name, reader, question->arguments, &reason);
    if (refused == 0)
        buf_append(out, SLICE("arguments: fine\n"));
    if (refused == POLICY_E_ARGUMENT) {
        buf_append(out, SLICE("result: refused. "));
        buf_append(out, buf_slice(&reason));
        buf_append_byte(out, '\n');
    }
    return refused;
}

int policy_explain(struct buf *out, const struct policy *policy, struct slice server,
                   const struct policy_question *question, struct json_reader *reader,
                   struct policy_decision *ret_decision) {
    const struct policy_item *item = &question->item;
    const struct policy_caller *caller = &question->caller;
    const struct policy_server *found = policy_find_server(policy, server);
    struct policy_decision decision = policy_decide(found, caller, item, question->edit_is_open);
    int refused = 0;
    if (found == NULL) {
        buf_append(out, SLICE("server: no mcp.servers."));
        policy_write_toml_key(out, server);
        buf_append(out, SLICE(" is configured and enabled\nresult: there is no such "));
        buf_printf(out, "%s\n", kinds[item->kind]);
    } else {
        buf_printf(out, "%s: ", kinds[item->kind]);
        policy_write_toml_string(out, item->name);
        buf_append(out, SLICE(" of "));
        policy_write_server_key(out, found);
        buf_append_byte(out, '\n');
        write_caller(out, caller);
        write_scopes(out, found, decision.tool);
        write_deny(out, found, NULL, caller);
        if (decision.tool != NULL)
            write_deny(out, found, decision.tool, caller);
        write_allow(out, found, decision.tool, caller);
        write_access(out, &decision, item);
        write_edit(out, &decision, question->edit_is_open);
        refused = write_arguments(out, &decision, question, reader);
        if (decision.verdict == POLICY_ALLOWED && refused == 0)
            write_charges(out, policy, &decision, question);
        if (refused == 0)
            write_result(out, &decision, item);
    }
    *ret_decision = decision;
    return buf_error(out) != 0 ? buf_error(out) : refused;
}
