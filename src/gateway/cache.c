/*
 * What clients of 2026-07-28 may keep of an answer, for how long and for whom (MCP 2026-07-28,
 * server/utilities/caching). An answer that is made of several servers' lists is fresh as long as
 * the first of them is, counted from when it was read there, and it is for everybody only if each
 * of them is, and if nobody else would have been answered otherwise: it was asked for without a
 * credential, no rule leaves anything out, and no server has an instance for this caller alone.
 *
 * What the gateway adds may change at any time: a reload, a rule, edit mode. So nothing is called
 * fresh for longer than a few minutes, and tools that depend on edit mode are not at all. Legacy
 * servers say nothing of this: 0 and private.
 */
#include "base/clock.h"
#include "private.h"

#define FRESH_MAX_MS UINT64_C(300000)

static const struct mcp_cache nothing = {0};

/* Everything of that kind is seen, as nobody sees more, whatever happens to edit mode. */
static bool is_whole(const struct gw_worker *worker, const struct gw_view *view,
                     const struct gw_view_item *item, enum policy_kind kind) {
    bool is_always_open = atomic_load(&worker->gateway->edit.is_always);
    return policy_allows_all(item->policy, &view->caller, kind, is_always_open);
}

/* Whoever asks this server gets the same. */
static bool is_for_all(const struct gw_worker *worker, const struct gw_view *view,
                       const struct gw_view_item *item, enum policy_kind kind) {
    return view->identity->kind == AUTH_ANONYMOUS &&
           upstream_config(item->upstream)->share == CONFIG_SHARE_ALL &&
           !upstream_wants_caller_fields(item->upstream) && is_whole(worker, view, item, kind);
}

/* Nothing is left out that others may see. */
static bool has_all(const struct gw_view *view) {
    return view->n == (view->only != NULL ? 1 : upstream_list_count(view->list));
}

static uint64_t left(uint64_t until_ms, uint64_t now_ms) {
    return until_ms > now_ms ? until_ms - now_ms : 0;
}

/* What of one server's list is known; `list` MCP_LIST_COUNT: of what it says of itself. */
static struct mcp_cache cache_of(const struct gw_view_item *item, enum mcp_list list,
                                 uint64_t now_ms) {
    const struct upstream_status *status = &item->status;
    const struct catalog *catalog = status->catalog;
    if (catalog == NULL || status->state != UPSTREAM_READY || !status->is_listed ||
        !mcp_revision_is_modern(catalog->revision))
        return nothing;
    struct mcp_cache cache = {left(catalog->fresh_until_ms, now_ms), catalog->cache.is_public};
    if (list == MCP_LIST_COUNT)
        return cache;
    if ((catalog->declared & (1u << list)) == 0) /* which it says once, when it starts */
        return (struct mcp_cache){FRESH_MAX_MS, cache.is_public};
    return (struct mcp_cache){left(status->lists[list].until_ms, now_ms),
                              catalog->lists[list]->cache.is_public};
}

static struct mcp_cache merge(const struct gw_worker *worker, const struct gw_view *view,
                              enum mcp_list list, enum policy_kind kind) {
    struct mcp_cache cache = {FRESH_MAX_MS, has_all(view)};
    uint64_t now = clock_monotonic_ms();
    if (view->n == 0 || view->generation == UINT64_MAX) /* what is not there yet may come soon */
        return nothing;
    for (size_t i = 0; i < view->n; i++) {
        const struct gw_view_item *item = &view->items[i];
        struct mcp_cache one = cache_of(item, list, now);
        if (list == MCP_LIST_TOOLS && !is_whole(worker, view, item, kind))
            one = nothing;
        one.is_public = one.is_public && is_for_all(worker, view, item, kind);
        cache = mcp_cache_merge(cache, one);
    }
    return cache;
}

struct mcp_cache gw_cache_of_list(const struct gw_worker *worker, const struct gw_view *view,
                                  enum mcp_list list) {
    return merge(worker, view, list, gw_policy_kind(list));
}

/* What depends on the caller in there is the instructions, which go with prompts (methods.c). */
struct mcp_cache gw_cache_of_discovery(const struct gw_worker *worker, const struct gw_view *view) {
    return merge(worker, view, MCP_LIST_COUNT, POLICY_PROMPT);
}

struct mcp_cache gw_cache_of_read(const struct gw_worker *worker, const struct gw_view *view,
                                  const struct gw_view_item *item) {
    return (struct mcp_cache){MCP_FRESH_MAX_MS, is_for_all(worker, view, item, POLICY_RESOURCE)};
}
