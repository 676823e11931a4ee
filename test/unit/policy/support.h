/* A policy out of a text, and who asks it. */
#pragma once

#include "base/limits.h"
#include "config/config.h"
#include "policy/policy.h"
#include "test.h"

/* What every configuration of these tests begins with: groups may be named. */
#define HEAD                                                                                       \
    "[server.client_identification]\nenabled = true\nclient_id.jwt_claim = \"sub\"\n"              \
    "group_id.jwt_claim = \"groups\"\n[server.client_identification.validation]\n"                 \
    "group_values = [\"dev\", \"ops\", \"free\", \"pro\", \"a b\"]\n"                              \
    "[server.oauth]\nurl = \"https://idp.example/keys\"\n"                                         \
    "protected_resource.resource = \"https://gw.example/mcp\"\n"

struct loaded_policy {
    struct config *config;
    struct policy *policy;
    struct json_reader *reader;
};

static struct config *load_config(const char *text) {
    struct config *config = NULL;
    struct config_problems problems;
    config_problems_init(&problems);
    struct slice path = SLICE("test.toml");
    if (config_load_text(path, slice_from_cstr(text), NULL, NULL, &problems, &config) != 0) {
        for (size_t i = 0; i < problems.n; i++)
            fprintf(stderr, "%u: %.*s\n", problems.items[i].line,
                    SLICE_ARGS(problems.items[i].message));
        CANNOT_GO_ON();
    }
    config_problems_deinit(&problems);
    return config;
}

MAYBE_UNUSED static struct loaded_policy load_policy(const char *text) {
    struct loaded_policy loaded = {.config = load_config(text)};
    if (policy_new(loaded.config, &loaded.policy) != 0 || json_reader_new(&loaded.reader) != 0)
        CANNOT_GO_ON();
    return loaded;
}

MAYBE_UNUSED static void unload_policy(struct loaded_policy *loaded) {
    policy_free(loaded->policy);
    json_reader_free(loaded->reader);
    config_unref(loaded->config);
}

/* Groups by name with a blank between two, sorted as a caller's are; "?" says that they are not
 * known. */
struct caller {
    struct slice groups[8];
    struct policy_caller it;
};

static int compare_groups(const void *a, const void *b) {
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

MAYBE_UNUSED static const struct policy_caller *caller_of(struct caller *caller,
                                                          const char *groups) {
    struct slice rest = slice_from_cstr(groups), word;
    *caller = (struct caller){.it = {.groups = caller->groups, .groups_are_known = true}};
    while (rest.len != 0) {
        (void)slice_cut(rest, ' ', &word, &rest);
        if (slice_eq(word, SLICE("?")))
            caller->it.groups_are_known = false;
        else
            caller->groups[caller->it.n_groups++] = word;
    }
    qsort(caller->groups, caller->it.n_groups, sizeof caller->groups[0], compare_groups);
    return &caller->it;
}

MAYBE_UNUSED static struct policy_item tool_named(const char *name) {
    return (struct policy_item){.kind = POLICY_TOOL, .name = slice_from_cstr(name)};
}
