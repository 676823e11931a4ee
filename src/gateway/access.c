/*
 * What a caller may do with what it sees: the facts that policy/ wants, gathered; and of lists, the
 * items that are left out or shown as locked.
 *
 * Lists and calls ask the same function. What a list leaves out is found once for a view and kept
 * as long as edit mode is as it was; a call asks for its one item.
 */
#include <errno.h>

#include "base/mem.h"
#include "private.h"

struct gw_policy *gw_policy_ref(struct gw_policy *policy) {
    atomic_fetch_add(&policy->refs, 1);
    return policy;
}

struct gw_policy *gw_policy_unref(struct gw_policy *policy) {
    if (policy == NULL || atomic_fetch_sub(&policy->refs, 1) != 1)
        return NULL;
    policy_free(policy->policy);
    config_unref(policy->config);
    mem_free(policy);
    return NULL;
}

int gw_policy_new(struct config *config, struct gw_policy **ret_policy) {
    struct gw_policy *policy = mem_alloc(sizeof *policy);
    if (policy == NULL)
        return -ENOMEM;
    int error = policy_new(config, &policy->policy);
    if (error != 0) {
        mem_free(policy);
        return error;
    }
    atomic_init(&policy->refs, 1);
    policy->config = config_ref(config);
    *ret_policy = policy;
    return 0;
}

struct gw_policy *gw_policy_newest(struct gateway *gateway) {
    pthread_mutex_lock(&gateway->policy_mutex);
    struct gw_policy *policy = gateway->policy != NULL ? gw_policy_ref(gateway->policy) : NULL;
    pthread_mutex_unlock(&gateway->policy_mutex);
    return policy;
}

void gw_policy_adopt(struct gateway *gateway, struct gw_policy *policy) {
    struct gw_policy *old = gateway->policy;
    pthread_mutex_lock(&gateway->policy_mutex);
    gateway->policy = gw_policy_ref(policy);
    pthread_mutex_unlock(&gateway->policy_mutex);
    gw_policy_unref(old);
}

/* Facts. */

struct policy_caller gw_policy_caller(const struct auth_identity *identity) {
    return (struct policy_caller){
        .groups = identity->groups,
        .n_groups = identity->n_groups,
        .groups_are_known = identity->n_groups != 0 && identity->groups_state == AUTH_GROUPS_FINE &&
                            !identity->has_unknown_group,
        .rights = identity->rights,
    };
}

static const struct policy_server *find_server(const struct gw_policy *policy, struct slice name,
                                               const struct auth_identity *identity) {
    struct policy_caller caller = gw_policy_caller(identity);
    if (!auth_may_use_server(identity, name))
        return NULL;
    const struct policy_server *server = policy_find_server(policy->policy, name);
    return server != NULL && policy_may_know(server, &caller) ? server : NULL;
}

const struct policy_server *gw_policy_server(const struct gw_worker *worker, struct slice name,
                                             const struct auth_identity *identity) {
    return find_server(worker->policy, name, identity);
}

bool gw_policy_lets_know(const struct gw_policy *policy, struct slice server,
                         const struct auth_identity *identity) {
    return find_server(policy, server, identity) != NULL;
}

bool gw_policy_lets_know_all(const struct gw_policy *policy, struct slice name,
                             const struct auth_identity *identity) {
    struct policy_caller caller = gw_policy_caller(identity);
    return policy_allows_all(find_server(policy, name, identity), &caller, POLICY_RESOURCE, true);
}

bool gw_policy_has_scopes(const struct policy_server *of_server, const struct config_tool *tool,
                          const struct auth_identity *identity) {
    const struct config_server *server = policy_server_config(of_server);
    return identity->has_all_scopes ||
           (auth_has_scopes(identity, server->scopes, server->n_scopes) &&
            (tool == NULL || auth_has_scopes(identity, tool->scopes, tool->n_scopes)));
}

enum policy_kind gw_policy_kind(enum mcp_list list) {
    return list == MCP_LIST_TOOLS     ? POLICY_TOOL
           : list == MCP_LIST_PROMPTS ? POLICY_PROMPT
                                      : POLICY_RESOURCE;
}

struct policy_item gw_policy_item(struct gw_worker *worker, const struct gw_view_item *item,
                                  enum mcp_list list, const struct catalog_item *found) {
    struct policy_item facts = {.kind = gw_policy_kind(list)};
    if (found == NULL)
        return facts;
    facts.name = found->key;
    if (list == MCP_LIST_TOOLS && policy_trusts_annotations(worker->policy->policy))
        facts.says_read_only = gw_definition_says_read_only(
            worker, upstream_name(item->upstream), item->status.catalog->lists[list], found);
    return facts;
}

/* Of all but tools, either all of a server's or none. */
bool gw_view_item_has(const struct gw_view *view, const struct gw_view_item *item,
                      enum mcp_list list) {
    return list == MCP_LIST_TOOLS ||
           policy_allows_all(item->policy, &view->caller, gw_policy_kind(list), true);
}

struct policy_decision gw_decide(struct gw_worker *worker, const struct gw_view *view,
                                 const struct gw_view_item *item, enum mcp_list list,
                                 const struct catalog_item *found) {
    struct policy_item facts = gw_policy_item(worker, item, list, found);
    return policy_decide(item->policy, &view->caller, &facts,
                         gw_edit_is_open(worker, view->identity, upstream_name(item->upstream)));
}

/* What lists show. Only tools are decided one by one: of all else a server's are alike. */

static int note(struct gw_places *places, struct gw_place place) {
    if (places->n == places->cap) {
        size_t cap = places->cap != 0 ? places->cap * 2 : 16;
        struct gw_place *items = mem_realloc(places->items, cap * sizeof *items);
        if (items == NULL)
            return -ENOMEM;
        places->items = items;
        places->cap = cap;
    }
    places->items[places->n++] = place;
    return 0;
}

static int note_tool(struct gw_worker *worker, struct gw_view *view, struct gw_place place,
                     bool edit_is_open) {
    const struct gw_view_item *item = &view->items[place.upstream];
    const struct catalog_item *found =
        &item->status.catalog->lists[MCP_LIST_TOOLS]->items[place.item];
    struct policy_item facts = gw_policy_item(worker, item, MCP_LIST_TOOLS, found);
    struct policy_decision decision =
        policy_decide(item->policy, &view->caller, &facts, edit_is_open);
    if (decision.verdict == POLICY_ALLOWED)
        return 0;
    if (decision.verdict == POLICY_LOCKED && !policy_hides_locked(worker->policy->policy))
        return note(&view->locked, place);
    return note(&view->hidden, place);
}

static int find_tools(struct gw_worker *worker, struct gw_view *view) {
    int error = 0;
    for (uint32_t i = 0; i < view->n && error == 0; i++) {
        const struct gw_view_item *item = &view->items[i];
        const struct catalog *catalog = item->status.catalog;
        bool edit_is_open = gw_edit_is_open(worker, view->identity, upstream_name(item->upstream));
        if (catalog == NULL ||
            policy_allows_all(item->policy, &view->caller, POLICY_TOOL, edit_is_open))
            continue;
        for (uint32_t k = 0; k < catalog->lists[MCP_LIST_TOOLS]->n_items && error == 0; k++)
            error = note_tool(worker, view, (struct gw_place){i, k}, edit_is_open);
    }
    return error;
}

void gw_view_forget_tools(struct gw_view *view) {
    mem_free(view->hidden.items);
    mem_free(view->locked.items);
    view->hidden = view->locked = (struct gw_places){0};
    view->tools_are_known = false;
}

int gw_view_find_tools(struct gw_worker *worker, struct gw_view *view) {
    /* Each of the two only grows. */
    uint64_t epoch = worker->edit_epoch + worker->directory_number;
    bool is_cut_off = gw_edit_is_cut_off(worker->gateway);
    if (view->tools_are_known && view->edit_epoch == epoch && view->was_cut_off == is_cut_off)
        return 0;
    gw_view_forget_tools(view);
    int error = find_tools(worker, view);
    if (error != 0)
        gw_view_forget_tools(view);
    view->tools_are_known = error == 0;
    view->edit_epoch = epoch;
    view->was_cut_off = is_cut_off;
    return error;
}
