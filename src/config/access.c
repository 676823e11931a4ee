/*
 * Rules over several keys about who may call what, and with which arguments. A key that says
 * something that can not be meant is an error; what can be meant, and closes more than one may
 * think, is a warning. A nexus.toml may repeat a group in a list.
 */
#include <errno.h>

#include "base/limits.h"
#include "base/regex.h"
#include "load.h"

#define NOBODY_HAS_GROUPS                                                                          \
    "configure server.client_identification.group_id, or groups of a token in "                    \
    "[server.auth.tokens]"

/* One list of a table. */
struct list {
    struct place place; /* of the list; its `up` is the table's */
    const struct toml_node *node;
    const struct slice *items;
    size_t n;
};

/* Its node is NULL when it is not there, or was told to be something else. */
static struct list list_of(const struct place *table, const struct toml_node *node, const char *key,
                           const struct slice *items, size_t n) {
    struct list list = {
        .place = {.up = table, .key = slice_from_cstr(key)},
        .node = toml_get(node, key),
        .items = items,
        .n = n,
    };
    if (list.node == NULL || list.node->type != TOML_ARRAY || list.node->n_children != n)
        list.node = NULL;
    return list;
}

/* What could not be read was told, and has no pointer: it is equal to nothing. */
static bool has_before(const struct slice *items, size_t n, struct slice item) {
    for (size_t i = 0; i < n && item.ptr != NULL; i++) {
        if (items[i].ptr != NULL && slice_eq(items[i], item))
            return true;
    }
    return false;
}

static void warn_about_entry(struct loader *l, const struct list *list, size_t i,
                             const char *sentence) {
    struct place entry = {.up = &list->place, .index = i};
    problem_of(l, CONFIG_WARNING, list->node->children[i].at, &entry, "%s", sentence);
}

static void check_twice(struct loader *l, const struct list *list) {
    for (size_t i = 0; i < list->n && list->node != NULL; i++) {
        if (has_before(list->items, i, list->items[i]))
            warn_about_entry(l, list, i, "is in the list already");
    }
}

/* Groups that nobody can be in, and a list that is for nobody. */
static void check_groups(struct loader *l, const struct list *list, const char *sentence) {
    if (list->node == NULL || list->n == 0)
        return;
    check_twice(l, list);
    for (size_t i = 0; i < list->n; i++) {
        struct place entry = {.up = &list->place, .index = i};
        if (list->items[i].ptr != NULL && !is_known_group(l->config, list->items[i]))
            problem_of(l, CONFIG_ERROR, list->node->children[i].at, &entry,
                       "is not among server.client_identification.validation.group_values");
    }
    if (!has_groups(l->config))
        problem_of(l, CONFIG_WARNING, list->node->key_at, &list->place, "%s", sentence);
}

static void check_both(struct loader *l, const struct list *allow, const struct slice *deny,
                       size_t n_deny, const char *sentence) {
    for (size_t i = 0; i < allow->n && allow->node != NULL; i++) {
        if (has_before(deny, n_deny, allow->items[i]))
            warn_about_entry(l, allow, i, sentence);
    }
}

static void check_lists(struct loader *l, const struct list *allow, const struct list *deny) {
    check_groups(l, allow, "lets nobody in: nothing gives a caller groups; " NOBODY_HAS_GROUPS);
    check_groups(l, deny, "refuses everybody: no caller's groups are known; " NOBODY_HAS_GROUPS);
    check_both(l, allow, deny->items, deny->n, "is in deny, too, and deny wins");
}

/* --- servers and tools --- */

void finish_tool(struct loader *l, const struct place *place, const struct toml_node *node,
                 void *object) {
    struct config_tool *tool = object;
    (void)l;
    (void)place;
    tool->has_allow = toml_get(node, "allow") != NULL;
}

static void check_tool(struct loader *l, const struct place *tools, const struct toml_node *node,
                       const struct config_server *server, const struct config_tool *tool) {
    struct place place = {.up = tools, .key = tool->name};
    if (node == NULL)
        return;
    struct list allow = list_of(&place, node, "allow", tool->allow, tool->n_allow);
    struct list deny = list_of(&place, node, "deny", tool->deny, tool->n_deny);
    check_lists(l, &allow, &deny);
    check_both(l, &allow, server->deny, server->n_deny, "is in the server's deny, which wins");
}

static void check_server(struct loader *l, const struct toml_node *root,
                         const struct config_server *server) {
    struct server_place at;
    find_server(&at, root, server->name);
    if (at.node == NULL)
        return;
    struct list allow = list_of(&at.server, at.node, "allow", server->allow, server->n_allow);
    struct list deny = list_of(&at.server, at.node, "deny", server->deny, server->n_deny);
    check_lists(l, &allow, &deny);
    const struct toml_node *tools = toml_get(at.node, "tools");
    struct place place = {.up = &at.server, .key = SLICE("tools")};
    for (size_t i = 0; i < server->n_tools; i++) {
        if (server->tools[i].name.ptr != NULL)
            check_tool(l, &place, toml_get(tools, server->tools[i].name.ptr), server,
                       &server->tools[i]);
    }
}

/* --- arguments --- */

static bool is_same_value(const struct config_value *a, const struct config_value *b) {
    return a->type == b->type && slice_eq(a->text, b->text);
}

static bool has_value(const struct config_value *values, size_t n,
                      const struct config_value *value) {
    for (size_t i = 0; i < n; i++) {
        if (is_same_value(&values[i], value))
            return true;
    }
    return false;
}

static void check_values(struct loader *l, const struct place *place, const struct toml_node *node,
                         const char *key, const struct config_value *values, size_t n) {
    const struct toml_node *list = toml_get(node, key);
    struct place inner = {.up = place, .key = slice_from_cstr(key)};
    for (size_t i = 0; i < n; i++) {
        struct place entry = {.up = &inner, .index = i};
        if (has_value(values, i, &values[i]))
            problem_of(l, CONFIG_WARNING, list->children[i].at, &entry, "is in the list already");
    }
}

static void check_allowed_values(struct loader *l, const struct place *place,
                                 const struct toml_node *node, const struct config_argument *rule) {
    const struct toml_node *list = toml_get(node, "allow");
    struct place inner = {.up = place, .key = SLICE("allow")};
    if (rule->has_allow && rule->n_allow == 0)
        problem_of(l, CONFIG_WARNING, list->at, &inner, "is empty: no value is let through");
    for (size_t i = 0; i < rule->n_allow; i++) {
        struct place entry = {.up = &inner, .index = i};
        if (has_value(rule->deny, rule->n_deny, &rule->allow[i]))
            problem_of(l, CONFIG_WARNING, list->children[i].at, &entry,
                       "is in deny, too, and deny wins");
    }
}

/* Once more by whoever matches with it; here it only has to be one. */
static void check_pattern(struct loader *l, const struct place *place, const struct toml_node *node,
                          struct slice pattern) {
    struct place inner = {.up = place, .key = SLICE("pattern")};
    struct toml_position at = toml_get(node, "pattern")->at;
    struct regex *regex = NULL;
    struct regex_error error;
    _Static_assert(LIMIT_PATTERN == 4096, "the message says so");
    if (pattern.len > LIMIT_PATTERN) {
        problem_of(l, CONFIG_ERROR, at, &inner, "is longer than 4 KiB");
        return;
    }
    int r = regex_new(pattern, &regex, &error);
    regex_free(regex);
    if (r == REGEX_E_PATTERN)
        problem_of(l, CONFIG_ERROR, at, &inner, "is no pattern: %s (at byte %zu of it)", error.text,
                   error.offset);
    else if (r != 0)
        l->error = r;
}

void finish_argument(struct loader *l, const struct place *place, const struct toml_node *node,
                     void *object) {
    struct config_argument *rule = object;
    rule->has_allow = toml_get(node, "allow") != NULL;
    rule->has_max = toml_get(node, "max") != NULL;
    if (!rule->has_allow && !rule->has_max && rule->n_deny == 0 && rule->pattern.len == 0) {
        problem_of(l, CONFIG_ERROR, node->key_at, place,
                   "restricts nothing: it needs allow, deny, pattern or max");
        return;
    }
    check_values(l, place, node, "allow", rule->allow, rule->n_allow);
    check_values(l, place, node, "deny", rule->deny, rule->n_deny);
    check_allowed_values(l, place, node, rule);
    if (rule->pattern.len != 0)
        check_pattern(l, place, node, rule->pattern);
    const struct toml_node *optional = toml_get(node, "optional");
    struct place inner = {.up = place, .key = SLICE("optional")};
    if (rule->optional && !rule->has_allow && rule->pattern.len == 0)
        problem_of(l, CONFIG_WARNING, optional->key_at, &inner,
                   "has no effect without allow or pattern: the argument may be left out anyway");
}

/* --- what edit mode lets through --- */

static void check_whitelist(struct loader *l, const struct toml_node *root) {
    const struct config *config = l->config;
    const struct toml_node *servers = toml_get(toml_get(root, "mcp"), "servers");
    struct place security = {.key = SLICE("security")};
    struct list list = list_of(&security, toml_get(root, "security"), "whitelist",
                               config->whitelist, config->n_whitelist);
    check_twice(l, &list);
    for (size_t i = 0; i < list.n && list.node != NULL && l->error == 0; i++) {
        struct place entry = {.up = &list.place, .index = i};
        struct slice item = list.items[i];
        char name[64];
        if (item.ptr == NULL || slice_to_cstr(slice_sub(item, 0, slice_find(item, SLICE("__"))),
                                              name, sizeof name) != 0)
            continue; /* told */
        if (toml_get(servers, name) == NULL)
            problem_of(l, CONFIG_ERROR, list.node->children[i].at, &entry,
                       "is no tool of a server in mcp.servers: \"server__tool\" with the name of "
                       "the server there");
    }
}

void check_access(struct loader *l, const struct toml_node *root) {
    const struct config_server *server;
    for (size_t i = 0; (server = loaded_server(l, i)) != NULL; i++)
        check_server(l, root, server);
    check_whitelist(l, root);
}
