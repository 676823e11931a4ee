/* What the parts of policy/ share: a configuration as it is asked on the hot path. */
#pragma once

#include "base/arena.h"
#include "base/map.h"
#include "base/regex.h"
#include "policy/policy.h"

/* Sorted, each once. */
struct policy_groups {
    const struct slice *items;
    size_t n;
};

struct policy_access {
    bool has_allow; /* only these, perhaps none */
    struct policy_groups allow, deny;
};

/* Where a limit stands. The row of a table in charges.c. */
enum policy_level {
    POLICY_LEVEL_GLOBAL,
    POLICY_LEVEL_IP,
    POLICY_LEVEL_SERVER,
    POLICY_LEVEL_TOOL,
    POLICY_LEVEL_USER,
    POLICY_LEVEL_USER_TOOL,
    POLICY_LEVEL_GROUP,
};

struct policy_limit {
    struct limits_rule rule; /* without an interval: there is none */
    enum policy_level level;
    struct slice server, name; /* of the tool or the group */
};

/* Denied values, or allowed ones, so that each of many arguments is found fast. */
struct policy_values {
    struct slice *texts; /* sorted */
    size_t n_texts;
    double *numbers; /* sorted */
    size_t n_numbers;
    bool has_true, has_false;
};

struct policy_argument {
    const struct config_argument *config;
    struct policy_values allow, deny;
    struct regex *pattern; /* NULL: any */
    struct slice folded;   /* the name as spelling.c folds it */
    struct regex *alike;   /* what the name may not be mistaken for; NULL: `folded` is ASCII */
};

struct policy_tool {
    struct slice name;
    const struct config_tool *config; /* NULL: it has no table, but limits or a whitelist entry */
    struct policy_access access;
    bool is_whitelisted;
    struct policy_argument *arguments;
    size_t n_arguments;
    struct json_want *wants; /* the arguments with a rule, all that is in them */
    struct policy_limit all, user;
};

struct policy_server {
    const struct policy *policy;
    const struct config_server *config;
    struct policy_access access;
    struct map tools;                 /* of struct policy_tool, to walk and to build with */
    const struct policy_tool **slots; /* the same for the hot path; NULL: there are none */
    size_t n_slots;                   /* a power of two, at most half of them taken */
    bool has_tool_access, has_tool_writes, has_tool_limits;
    struct policy_limit all, user;
    struct policy_limit *groups; /* the one that allows most first */
    size_t n_groups;
};

struct policy {
    const struct config *config;
    struct arena arena;
    struct policy_server *servers;
    size_t n_servers;
    struct map by_name;
    struct policy_limit global, per_ip;
};

/* NULL: nothing is said of it alone. */
const struct policy_tool *policy_find_tool(const struct policy_server *server,
                                           const struct policy_item *item);

/* Who is in no group names none: that is not known to be all of them. */
static inline bool policy_knows_groups(const struct policy_caller *caller) {
    return caller->groups_are_known && caller->n_groups != 0;
}
bool policy_groups_meet(const struct policy_groups *groups, const struct policy_caller *caller);
/* Which rule of access keeps the caller away. `tool` may be NULL. */
enum policy_rule policy_access_rule(const struct policy_server *server,
                                    const struct policy_tool *tool,
                                    const struct policy_caller *caller, bool *ret_is_of_tool);
bool policy_is_read(const struct policy_server *server, const struct policy_tool *tool,
                    const struct policy_item *item);

/* charges.c: -ENOMEM. */
MUST_CHECK int policy_compile_limits(struct policy *policy);
MUST_CHECK int policy_compile_server_limits(struct policy *policy, struct policy_server *server);
/* The tool's entry, made when it is not there yet; NULL without memory. */
struct policy_tool *policy_need_tool(struct policy *policy, struct policy_server *server,
                                     struct slice name);

/* arguments.c: -ENOMEM, -EINVAL. */
MUST_CHECK int policy_compile_arguments(struct policy *policy, struct policy_tool *tool);
void policy_free_arguments(struct policy_tool *tool);

/* spelling.c: a text as others could read it. */

/* Appends it with each character that folds into ASCII so folded; the others stay. */
int policy_fold(struct buf *out, struct slice text);
bool policy_is_ascii(struct slice text);
/* Whether a server that takes strings for numbers could take this one for a number, and which.
 * `scratch` is overwritten. False also when it is out of memory: buf_error() tells. */
bool policy_reads_as_number(struct buf *scratch, struct slice text, double *ret_number);

/* write.c: keys and texts of TOML. */

/* "mcp.servers.NAME" and what follows. */
int policy_write_server_key(struct buf *out, const struct policy_server *server);
int policy_write_tool_key(struct buf *out, const struct policy_server *server, struct slice tool);
/* A bare key, or a string where it needs quotes. */
int policy_write_toml_key(struct buf *out, struct slice key);
int policy_write_toml_string(struct buf *out, struct slice text);
int policy_write_toml_strings(struct buf *out, const struct slice *texts, size_t n);
/* server__tool, in quotes where a key would need them. */
int policy_write_tool_name(struct buf *out, const struct policy_server *server, struct slice tool);
int policy_write_duration(struct buf *out, uint64_t ms);
