/* [mcp.servers.NAME]: who may call what, with which arguments, how often. */
#include "option_rows.h"

#define SERVER "mcp.servers.*"
#define TOOL   SERVER ".tools.*"
#define OF_SERVER(member)                                                                          \
    .owner = OPTION_OF_SERVER, .offset = offsetof(struct config_server, member)
#define SERVER_COUNT(member) .count_offset = offsetof(struct config_server, member)
#define OF_TOOL(member)      .owner = OPTION_OF_TOOL, .offset = offsetof(struct config_tool, member)
#define TOOL_COUNT(member)   .count_offset = offsetof(struct config_tool, member)
#define OF_ARGUMENT(member)                                                                        \
    .owner = OPTION_OF_ARGUMENT, .offset = offsetof(struct config_argument, member)
#define OF_NAMED(member)                                                                           \
    .owner = OPTION_OF_NAMED_LIMIT, .offset = offsetof(struct config_named_limit, member)

#define NAMED_LIMIT(of)                                                                            \
    LIMIT_KEY(of, OF_NAMED(limit.limit), "Calls that pass in any window."),                        \
        INTERVAL_KEY(of, OF_NAMED(limit.interval_ms))

static const char *const access_choices[] = {"read", "write", NULL};

static const struct option_entry named_limit = {
    .owner = OPTION_OF_NAMED_LIMIT,
    .size = sizeof(struct config_named_limit),
    .finish = finish_named_limit,
};
static const struct option_entry tool_entry = {
    .owner = OPTION_OF_TOOL,
    .size = sizeof(struct config_tool),
    .finish = finish_tool,
};
static const struct option_entry argument_entry = {
    .owner = OPTION_OF_ARGUMENT,
    .size = sizeof(struct config_argument),
    .finish = finish_argument,
};

const struct option option_access_rows[] = {
    {.path = SERVER ".allow",
     .type = OPTION_LIST,
     OF_SERVER(allow),
     SERVER_COUNT(n_allow),
     .max = LIMIT_ACCESS_GROUPS,
     .check = check_filled,
     .doc = "Groups of which a caller has to be in one to know of the server's tools, prompts and "
            "resources; for others they do not exist. An empty list is for nobody; without the "
            "key it is for everybody."},
    {.path = SERVER ".deny",
     .type = OPTION_LIST,
     OF_SERVER(deny),
     SERVER_COUNT(n_deny),
     .max = LIMIT_ACCESS_GROUPS,
     .check = check_filled,
     .doc = "Groups for which they do not exist, whatever `allow` says. With an entry, callers "
            "whose groups are not known (none, malformed, or one that is not among "
            "`group_values`) are denied, too."},
    {.path = SERVER ".access",
     .type = OPTION_ENUM,
     OF_SERVER(access),
     .min = CONFIG_ACCESS_READ,
     .choices = access_choices,
     .has_no_default = true,
     .doc = "What its tools do, where a tool does not say otherwise. `\"read\"`: they change "
            "nothing and are called without edit mode. `\"write\"`: they need it, and so they do "
            "when nothing is said (see `security.trust_annotations`)."},
    {.path = SERVER ".scopes",
     .type = OPTION_LIST,
     OF_SERVER(scopes),
     SERVER_COUNT(n_scopes),
     .check = check_scope,
     .doc = "Scopes that a caller needs for anything of this server. A client with an access token "
            "that lacks one is told which (403, `insufficient_scope`), so that it can ask for it."},
    {.path = SERVER ".tools",
     .type = OPTION_NAMED,
     OF_SERVER(tools),
     SERVER_COUNT(n_tools),
     .max = LIMIT_TOOLS_PER_UPSTREAM,
     .check = check_filled,
     .entry = &tool_entry,
     .doc = "Rules for single tools, by the name that the server gives them."},
    {.path = TOOL, .type = OPTION_TABLE, .doc = "One tool."},
    {.path = TOOL ".allow",
     .type = OPTION_LIST,
     OF_TOOL(allow),
     TOOL_COUNT(n_allow),
     .max = LIMIT_ACCESS_GROUPS,
     .check = check_filled,
     .doc = "Groups that may know of it, in place of the server's `allow`. An empty list: nobody."},
    {.path = TOOL ".deny",
     .type = OPTION_LIST,
     OF_TOOL(deny),
     TOOL_COUNT(n_deny),
     .max = LIMIT_ACCESS_GROUPS,
     .check = check_filled,
     .doc = "Groups that may not, beside those of the server's `deny`."},
    {.path = TOOL ".access",
     .type = OPTION_ENUM,
     OF_TOOL(access),
     .min = CONFIG_ACCESS_READ,
     .choices = access_choices,
     .has_no_default = true,
     .doc = "`\"read\"` or `\"write\"`; the server's when not set."},
    {.path = TOOL ".scopes",
     .type = OPTION_LIST,
     OF_TOOL(scopes),
     TOOL_COUNT(n_scopes),
     .check = check_scope,
     .doc = "Scopes that a call of it needs, beside those of the server."},
    {.path = TOOL ".arguments",
     .type = OPTION_NAMED,
     OF_TOOL(arguments),
     TOOL_COUNT(n_arguments),
     .max = LIMIT_ARGUMENT_RULES,
     .check = check_filled,
     .entry = &argument_entry,
     .doc = "Rules for what stands directly in the arguments of a call, by name. A call that "
            "breaks one is refused with a result that names the rule."},
    {.path = TOOL ".arguments.*",
     .type = OPTION_TABLE,
     .doc = "One argument; of a list each entry keeps to the rule. Each key that is set has to be "
            "kept."},
    {.path = TOOL ".arguments.*.allow",
     .type = OPTION_VALUES,
     OF_ARGUMENT(allow),
     .count_offset = offsetof(struct config_argument, n_allow),
     .max = LIMIT_ARGUMENT_VALUES,
     .doc = "It has to be one of these: the same type, and the same value."},
    {.path = TOOL ".arguments.*.deny",
     .type = OPTION_VALUES,
     OF_ARGUMENT(deny),
     .count_offset = offsetof(struct config_argument, n_deny),
     .max = LIMIT_ARGUMENT_VALUES,
     .doc = "It must be none of these, neither as a string nor as a number."},
    {.path = TOOL ".arguments.*.pattern",
     .type = OPTION_STRING,
     OF_ARGUMENT(pattern),
     .check = check_filled,
     .doc = "A regular expression (PCRE2) that its whole text has to match, at most 4 KiB. In "
            "TOML, single quotes leave backslashes alone: `'[a-z]+\\.txt'`."},
    {.path = TOOL ".arguments.*.max",
     .type = OPTION_NUMBER,
     OF_ARGUMENT(max),
     .doc = "The largest number; of a string the number of characters (and the number that it "
            "spells, if any), of a list the number of entries."},
    {.path = TOOL ".arguments.*.optional",
     .type = OPTION_BOOL,
     OF_ARGUMENT(optional),
     .doc = "With `allow` or `pattern` the argument has to be there; with `true` it may be left "
            "out."},

    {.path = SERVER ".rate_limits",
     .type = OPTION_TABLE,
     .doc = "How often the server is called: at most `limit` calls, of everybody together, in any "
            "window of `interval`. A call counts on every level that it belongs to, on all of them "
            "or none."},
    LIMIT_KEY(SERVER ".rate_limits", OF_SERVER(rate_limits.all.limit),
              "Calls that pass in any window, over all tools, prompts and resources."),
    INTERVAL_KEY(SERVER ".rate_limits", OF_SERVER(rate_limits.all.interval_ms)),
    {.path = SERVER ".rate_limits.tools",
     .type = OPTION_NAMED,
     OF_SERVER(rate_limits.tools),
     SERVER_COUNT(rate_limits.n_tools),
     .max = LIMIT_TOOLS_PER_UPSTREAM,
     .check = check_filled,
     .entry = &named_limit,
     .doc = "Single tools, by the name that the server gives them, by everybody."},
    {.path = SERVER ".rate_limits.tools.*",
     .type = OPTION_TABLE,
     .doc = "One tool; both keys are needed."},
    NAMED_LIMIT(SERVER ".rate_limits.tools.*"),
    {.path = SERVER ".rate_limits.per_user",
     .type = OPTION_TABLE,
     .doc = "The same for each user: each principal has a count of its own."},
    LIMIT_KEY(SERVER ".rate_limits.per_user", OF_SERVER(rate_limits.user.limit),
              "Calls of each user that pass in any window."),
    INTERVAL_KEY(SERVER ".rate_limits.per_user", OF_SERVER(rate_limits.user.interval_ms)),
    {.path = SERVER ".rate_limits.per_user.tools",
     .type = OPTION_NAMED,
     OF_SERVER(rate_limits.user_tools),
     SERVER_COUNT(rate_limits.n_user_tools),
     .max = LIMIT_TOOLS_PER_UPSTREAM,
     .check = check_filled,
     .entry = &named_limit,
     .doc = "Single tools, by each user."},
    {.path = SERVER ".rate_limits.per_user.tools.*",
     .type = OPTION_TABLE,
     .doc = "One tool; both keys are needed."},
    NAMED_LIMIT(SERVER ".rate_limits.per_user.tools.*"),
    {.path = SERVER ".rate_limits.per_user.groups",
     .type = OPTION_NAMED,
     OF_SERVER(rate_limits.groups),
     SERVER_COUNT(rate_limits.n_groups),
     .max = LIMIT_ACCESS_GROUPS,
     .check = check_filled,
     .entry = &named_limit,
     .doc = "What holds for each user who is a member of a group, in place of `limit` and "
            "`interval` of `per_user`; of several groups the one that allows most. "
            "`per_user.tools` stays."},
    {.path = SERVER ".rate_limits.per_user.groups.*",
     .type = OPTION_TABLE,
     .doc = "One group; both keys are needed."},
    NAMED_LIMIT(SERVER ".rate_limits.per_user.groups.*"),
};
const size_t option_access_count = ARRAY_LEN(option_access_rows);
