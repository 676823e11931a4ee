/*
 * What a caller may do, and how often it counts: pure decisions, facts in, decision out. Lists,
 * calls, completion and whatever else asks, ask here. No I/O, no clock, no state: whether edit mode
 * is open, what an annotation was when it was first seen, are facts that the caller of a function
 * brings.
 *
 * A policy is made of one configuration and is immutable; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "base/network.h"
#include "base/slice.h"
#include "config/config.h"
#include "json/reader.h"
#include "limits/limits.h"
#include "policy/rights.h"

struct policy;
struct policy_server; /* what it says of one upstream */
struct policy_tool;   /* ... of one tool of it */

/* -ENOMEM, -EINVAL: a pattern that config/ should have refused. `config` outlives it. */
MUST_CHECK int policy_new(const struct config *config, struct policy **ret_policy);
/* Accepts NULL. */
struct policy *policy_free(struct policy *policy);
/* NULL: it is not configured (any more), and nothing of it may be known. */
const struct policy_server *policy_find_server(const struct policy *policy, struct slice name);
/* Its table, and that of the tool (NULL: there is none). */
const struct config_server *policy_server_config(const struct policy_server *server);
const struct config_tool *policy_tool_config(const struct policy_tool *tool);

/* --- facts --- */

struct policy_caller {
    const struct slice *groups; /* sorted */
    size_t n_groups;
    /* Every group that the credential names is there. False: it names none, they are malformed, or
     * one is outside of group_values. Then whatever has a `deny` is denied, and so it is
     * without any group. */
    bool groups_are_known;
    /* What roles of the store give; NULL: they say nothing about this caller. Prompts and resources
     * need a grant of everything that the server has. */
    const struct policy_rights *rights;
};

enum policy_kind { POLICY_TOOL, POLICY_PROMPT, POLICY_RESOURCE /* and templates */ };

struct policy_item {
    enum policy_kind kind;
    struct slice name;   /* as the server calls it */
    bool says_read_only; /* a tool: readOnlyHint, in the definition that was seen first */
};

/* --- decisions --- */

enum policy_verdict {
    POLICY_ALLOWED,
    POLICY_UNKNOWN, /* the caller may not know of it: it is answered as what does not exist */
    POLICY_LOCKED,  /* a write, and edit mode does not let it through */
};

/* Which rule decided. */
enum policy_rule {
    POLICY_RULE_NONE,         /* nothing stands against it */
    POLICY_RULE_ALLOW,        /* the caller is in no group of `allow`, or it is empty */
    POLICY_RULE_DENY,         /* it is in one of `deny` */
    POLICY_RULE_DENY_UNKNOWN, /* there is a `deny`, and its groups are not known */
    POLICY_RULE_EDIT_MODE,    /* it is off */
    POLICY_RULE_WHITELIST,    /* it is on, for others than this */
    POLICY_RULE_RIGHTS,       /* no role of the caller gives it */
};

struct policy_decision {
    enum policy_verdict verdict;
    enum policy_rule rule;
    bool is_of_tool; /* the rule stands in the tool's table, else in the server's or in security */
    bool is_write;
    const struct policy_server *server;
    const struct policy_tool *tool; /* NULL: nothing is said of it alone */
};

/* Something of the server may be known: an endpoint, an entry of /ready. */
bool policy_may_know(const struct policy_server *server, const struct policy_caller *caller);
/* `edit_is_open`: edit mode, now. */
struct policy_decision policy_decide(const struct policy_server *server,
                                     const struct policy_caller *caller,
                                     const struct policy_item *item, bool edit_is_open);
/* A tool that nobody can call as edit mode is, whoever may know of it. */
bool policy_is_locked(const struct policy_server *server, const struct policy_item *item,
                      bool edit_is_open);
/* Everything of that kind is allowed to this caller: nothing has to be asked one by one. */
bool policy_allows_all(const struct policy_server *server, const struct policy_caller *caller,
                       enum policy_kind kind, bool edit_is_open);
/* Locked tools are left out of lists. */
bool policy_hides_locked(const struct policy *policy);
bool policy_trusts_annotations(const struct policy *policy);

/* The key of the rule: "mcp.servers.db.tools.drop.deny", "security.edit_mode". */
int policy_write_rule(struct buf *out, const struct policy_decision *decision, struct slice name);
/* A sentence for the caller of a locked tool: what is so, which rule says so, what opens it. Plain
 * text; `name` is the server's for the tool. */
int policy_write_locked(struct buf *out, const struct policy_decision *decision, struct slice name);

/* --- arguments --- */

/* There are rules about arguments of the decision's tool. */
bool policy_has_argument_rules(const struct policy_decision *decision);
/*
 * Whether the arguments (a JSON object as it came, or empty) keep to them. 0; POLICY_E_ARGUMENT:
 * `reason` gets a sentence that names argument, rule and cure (never the value); -ENOMEM. What
 * cannot be decided, such as a match that takes too many steps, is refused.
 */
enum { POLICY_E_ARGUMENT = 1 };
MUST_CHECK int policy_check_arguments(const struct policy_decision *decision, struct slice name,
                                      struct json_reader *reader, struct slice arguments,
                                      struct buf *reason);

/* --- how often --- */

/*
 * What one call of the item takes: of the server, of the tool, of the user, of the user's tool.
 * Returns how many charges were written, at most LIMIT_RATE_LEVELS. `user`: of the principal.
 */
size_t policy_charges(const struct policy_server *server, const struct policy_caller *caller,
                      const struct policy_item *item, struct limits_subject user,
                      struct limits_charge charges[static LIMIT_RATE_LEVELS]);
/* What one HTTP request takes: of all, of its address (IPv6: of its /64). */
size_t policy_request_charges(const struct policy *policy, const struct network *client,
                              struct limits_charge charges[static LIMIT_RATE_LEVELS]);
/* "mcp.servers.github.rate_limits.tools.search_code allows 30 calls in 1m", of a charge that one of
 * the two has made. */
int policy_write_charge(struct buf *out, const struct limits_charge *charge);
/* The same with "; try again in 12 s". */
int policy_write_limited(struct buf *out, const struct limits_charge *charge, uint64_t wait_ms);

/* --- how it came about --- */

struct policy_question {
    struct policy_caller caller;
    struct policy_item item;
    struct slice arguments; /* a JSON object; empty: they are not looked at */
    bool edit_is_open;
};

/*
 * The same decision with each step that led to it, a line each: what was looked at, what it says,
 * what follows. `reader` is used for the arguments. POLICY_E_ARGUMENT: it is allowed, but not with
 * these; the buffer's error; -ENOMEM.
 */
int policy_explain(struct buf *out, const struct policy *policy, struct slice server,
                   const struct policy_question *question, struct json_reader *reader,
                   struct policy_decision *ret_decision);
