/* One rule of headers: what stands in it must fit what it does. */
#include "load.h"

enum need { NEVER, MAY, MUST };

static const struct {
    const char *name;
    enum need value, fallback, rename;
} kinds[] = {
    [CONFIG_HEADER_INSERT] = {.name = "insert", .value = MUST},
    [CONFIG_HEADER_REMOVE] = {.name = "remove"},
    [CONFIG_HEADER_FORWARD] = {.name = "forward", .fallback = MAY, .rename = MAY},
    [CONFIG_HEADER_RENAME_DUPLICATE] = {.name = "rename_duplicate",
                                        .fallback = MAY,
                                        .rename = MUST},
};

static void check_need(struct loader *l, const struct place *place, const struct toml_node *node,
                       const char *key, enum need need, const char *rule) {
    const struct toml_node *child = toml_get(node, key);
    struct place inner = {.up = place, .key = slice_from_cstr(key)};
    if (child == NULL && need == MUST)
        problem_of(l, CONFIG_ERROR, node->key_at, place, "needs %s", key);
    if (child != NULL && need == NEVER)
        problem_of(l, CONFIG_ERROR, child->key_at, &inner, "has no meaning with rule = \"%s\"",
                   rule);
}

/* A caller proves itself to the gateway; who sends that on lets the upstream act as the caller
 * (MCP, security best practices, "Token Passthrough"). */
static void check_credentials(struct loader *l, const struct place *place,
                              const struct toml_node *node, const char *key, struct slice name) {
    static const struct slice names[] = {SLICE_INIT("Authorization"), SLICE_INIT("Cookie")};
    const struct toml_node *child = toml_get(node, key);
    struct place inner = {.up = place, .key = slice_from_cstr(key)};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (child != NULL && slice_eq_nocase(name, names[i]))
            problem_of(l, CONFIG_ERROR, child->at, &inner,
                       "is for credentials, and those of a caller are sent to no server");
    }
}

void finish_header_rule(struct loader *l, const struct place *place, const struct toml_node *node,
                        void *object) {
    struct config_header_rule *rule = object;
    const char *name = kinds[rule->kind].name;
    check_need(l, place, node, "value", kinds[rule->kind].value, name);
    check_need(l, place, node, "default", kinds[rule->kind].fallback, name);
    check_need(l, place, node, "rename", kinds[rule->kind].rename, name);
    if (rule->kind != CONFIG_HEADER_FORWARD && rule->kind != CONFIG_HEADER_RENAME_DUPLICATE)
        return;
    check_credentials(l, place, node, "name", rule->name);
    check_credentials(l, place, node, "rename", rule->rename);
    const struct toml_node *rename = toml_get(node, "rename");
    struct place inner = {.up = place, .key = SLICE("rename")};
    if (rename == NULL)
        rule->rename = rule->name;
    else if (rule->kind == CONFIG_HEADER_RENAME_DUPLICATE &&
             slice_eq_nocase(rule->name, rule->rename))
        problem_of(l, CONFIG_ERROR, rename->at, &inner, "must be another name");
}
