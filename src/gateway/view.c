/*
 * Views: what a caller sees of the upstreams, kept by each worker from one request to the next.
 *
 * To look at 200 instances takes 200 locks, more than all the rest of a call. So a worker keeps the
 * views that it has made, and the set of upstreams counts changes: as long as the count is the one
 * that a view was made at, nothing in it can have changed, and it is used as it is, without a lock
 * or a reference. When it is another one, the view is made again (the lists of the instances are
 * shared and stay as they are). A view belongs to a principal and an endpoint, and to a session
 * where an upstream has an instance for each session; nobody else is ever given it.
 *
 * Those that are not used are dropped: the oldest when there are too many, and all that are no
 * longer true as soon as the worker is told of a change, so that they hold no memory of upstreams
 * that are gone.
 */
#include <errno.h>

#include "base/mem.h"
#include "base/random.h"
#include "mcp/name.h"
#include "private.h"

enum { MAX_VIEWS = 64 };

/*
 * Resources and templates of all upstreams by their URI: the same one may come from several, and
 * names do not tell where it belongs. An open hash table of places.
 */
struct gw_uris {
    struct uri_entry {
        uint64_t hash;
        uint32_t upstream, item; /* the first that has it */
        bool is_listed;          /* one that is listed had it */
    } * entries;
    uint32_t *buckets; /* index + 1 into entries; 0: free */
    size_t n_entries, n_buckets;
    struct gw_place *repeated; /* items that belong to an earlier upstream, in order */
    size_t n_repeated, cap_repeated;
};

void gw_views_init(struct gw_views *views) {
    list_init(&views->recent);
    random_bytes(&views->key, sizeof views->key);
}

/* Making. */

static bool is_sleeping(const struct gw_view_item *item) {
    /* An HTTP server goes on without us, and tells nobody of changes who has no session. */
    return (item->status.state == UPSTREAM_IDLE || item->status.state == UPSTREAM_STARTING) &&
           upstream_config(item->upstream)->url.len != 0;
}

bool gw_view_item_can_refresh(const struct gw_view_item *item) {
    return item->status.catalog != NULL &&
           (item->status.state == UPSTREAM_READY || is_sleeping(item));
}

void gw_view_summarise(struct gw_view *view) {
    view->n_starting = 0;
    for (unsigned k = 0; k < MCP_LIST_COUNT; k++)
        view->fresh_until_ms[k] = UINT64_MAX;
    for (size_t i = 0; i < view->n; i++) {
        const struct gw_view_item *item = &view->items[i];
        const struct upstream_status *status = &item->status;
        view->n_starting += status->is_first_start && status->catalog == NULL ? 1 : 0;
        if (!gw_view_item_can_refresh(item))
            continue;
        for (unsigned k = 0; k < MCP_LIST_COUNT; k++) {
            uint64_t until = status->state == UPSTREAM_READY ? status->lists[k].until_ms : 0;
            if ((status->catalog->declared & (1u << k)) != 0 && until < view->fresh_until_ms[k])
                view->fresh_until_ms[k] = until;
        }
    }
}

static struct gw_view *make_view(struct gw_worker *worker, const struct gw_caller *caller,
                                 struct slice session, unsigned capabilities,
                                 struct upstream *only) {
    const struct upstream_list *list = worker->list;
    size_t count = only != NULL ? 1 : upstream_list_count(list);
    struct gw_view *view = mem_xalloc(sizeof *view);
    view->refs = 1;
    view->key = &worker->views.key;
    view->list = list;
    view->principal = gw_principal_ref(caller->principal);
    view->identity = auth_identity_ref(caller->identity);
    view->caller = gw_policy_caller(view->identity);
    view->only = only;
    view->capabilities = capabilities;
    struct upstream_owner owner = {caller->principal->id, session, capabilities};
    if (session.len != 0 && slice_to_cstr(session, view->session, sizeof view->session) != 0)
        view->session[0] = '\0'; /* never: a session's id fits */
    view->items = mem_xalloc(count * sizeof *view->items);
    /* Before it looks: what changes meanwhile makes it look again next time. */
    view->generation = upstream_set_generation(worker->gateway->upstreams);
    for (size_t i = 0; i < count; i++) {
        struct gw_view_item item = {.upstream = only != NULL ? only : upstream_list_at(list, i)};
        item.policy = gw_policy_server(worker, upstream_name(item.upstream), caller->identity);
        if (item.policy == NULL)
            continue;
        int error = upstream_get(item.upstream, &owner, worker->upstreams, &item.instance);
        if (error != 0) { /* no room for it, no memory, or the gateway is stopping */
            view->lacks_room = view->lacks_room || error == UPSTREAM_E_ROOM;
            view->generation = UINT64_MAX; /* looks again next time */
            continue;
        }
        gw_token_offer(caller, item.upstream, item.instance);
        upstream_instance_status(item.instance, &item.status);
        if (item.status.state == UPSTREAM_IDLE && item.status.catalog == NULL)
            upstream_instance_start(item.instance);
        view->items[view->n++] = item;
    }
    gw_view_summarise(view);
    return view;
}

static void free_uris(struct gw_uris *uris) {
    if (uris == NULL)
        return;
    mem_free(uris->entries);
    mem_free(uris->buckets);
    mem_free(uris->repeated);
    mem_free(uris);
}

void gw_view_forget_uris(struct gw_view *view) {
    for (unsigned k = 0; k < MCP_LIST_COUNT; k++) {
        free_uris(view->uris[k]);
        view->uris[k] = NULL;
    }
}

void gw_view_close(struct gw_view *view) {
    if (--view->refs != 0)
        return;
    for (size_t i = 0; i < view->n; i++) {
        catalog_unref(view->items[i].status.catalog);
        upstream_instance_unref(view->items[i].instance);
    }
    gw_view_forget_uris(view);
    gw_view_forget_tools(view);
    auth_identity_unref(view->identity);
    gw_principal_unref(view->principal);
    mem_free(view->items);
    mem_free(view);
}

/* Keeping. */

static void drop(struct gw_views *views, struct gw_view *view) {
    list_remove(&view->link);
    views->n--;
    gw_view_close(view);
}

void gw_views_drop_old(struct gw_views *views, uint64_t generation) {
    LIST_FOREACH_SAFE (&views->recent, link, tmp) {
        struct gw_view *view = CONTAINER_OF(link, struct gw_view, link);
        if (view->generation != generation)
            drop(views, view);
    }
}

void gw_views_drop_all(struct gw_views *views) {
    if (views->recent.ring.next == NULL)
        return; /* the worker was never made */
    LIST_FOREACH_SAFE (&views->recent, link, tmp)
        drop(views, CONTAINER_OF(link, struct gw_view, link));
}

/* Rights are made anew with each picture of the store, and mostly say what they said before. */
static bool gives_the_same(const struct policy_rights *a, const struct policy_rights *b) {
    struct buf texts[2] = {BUF_INIT(MIB(1)), BUF_INIT(MIB(1))};
    if (a == b || a == NULL || b == NULL)
        return a == b;
    bool is_same = policy_rights_write(a, &texts[0]) == 0 &&
                   policy_rights_write(b, &texts[1]) == 0 &&
                   slice_eq(buf_slice(&texts[0]), buf_slice(&texts[1]));
    buf_deinit(&texts[0]);
    buf_deinit(&texts[1]);
    return is_same;
}

/* What of an identity decides what is seen is the same in both. */
static bool sees_the_same(const struct auth_identity *a, const struct auth_identity *b) {
    if (a == b)
        return true;
    bool is_same = !a->has_servers && !b->has_servers && a->n_groups == b->n_groups &&
                   a->groups_state == b->groups_state &&
                   a->has_unknown_group == b->has_unknown_group && a->n_roles == b->n_roles;
    for (size_t i = 0; i < a->n_groups && is_same; i++)
        is_same = slice_eq(a->groups[i], b->groups[i]);
    for (size_t i = 0; i < a->n_roles && is_same; i++)
        is_same = slice_eq(a->roles[i], b->roles[i]);
    return is_same && gives_the_same(a->rights, b->rights);
}

static struct gw_view *find_kept(struct gw_views *views, const struct gw_caller *caller,
                                 struct slice session, unsigned capabilities,
                                 const struct upstream *only) {
    LIST_FOREACH_SAFE (&views->recent, link, tmp) {
        struct gw_view *view = CONTAINER_OF(link, struct gw_view, link);
        if (view->principal == caller->principal && view->only == only &&
            view->capabilities == capabilities && sees_the_same(view->identity, caller->identity) &&
            slice_eq(slice_from_cstr(view->session), session))
            return view;
    }
    return NULL;
}

static void keep(struct gw_views *views, struct gw_view *view) {
    list_push_front(&views->recent, &view->link);
    if (++views->n > MAX_VIEWS)
        drop(views, CONTAINER_OF(views->recent.ring.prev, struct gw_view, link));
}

/* Whether some upstream that the caller sees has an instance for this session alone. */
static bool depends_on_session(const struct gw_worker *worker, const struct upstream *only) {
    return only != NULL ? upstream_config(only)->share == CONFIG_SHARE_SESSION
                        : upstream_list_has_sessions(worker->list);
}

/* Of an endpoint that a reload has taken away since the request came: nothing is there. */
static struct gw_view *make_empty(struct gw_worker *worker, struct upstream *only) {
    struct gw_view *view = mem_xalloc(sizeof *view);
    view->refs = 1;
    view->key = &worker->views.key;
    view->list = worker->list;
    view->only = only;
    gw_view_summarise(view);
    return view;
}

struct gw_view *gw_view_open(struct gw_worker *worker, const struct gw_caller *caller,
                             const struct gw_session *session, unsigned capabilities,
                             struct upstream *only) {
    struct gw_views *views = &worker->views;
    struct upstream *now =
        only != NULL ? upstream_list_find(worker->list, upstream_name(only), NULL) : NULL;
    if (UNLIKELY(only != NULL && now == NULL))
        return make_empty(worker, only);
    only = now; /* the one of that name that is configured today */
    struct upstream_set *set = worker->gateway->upstreams;
    struct slice id = session != NULL && depends_on_session(worker, only)
                          ? slice_from_cstr(session->id)
                          : SLICE_EMPTY;
    struct gw_view *view = find_kept(views, caller, id, capabilities, only);
    if (view != NULL) /* its instances may change by that */
        gw_token_offer_all(caller, view);
    if (view != NULL && view->generation != upstream_set_generation(set)) {
        drop(views, view);
        view = NULL;
    }
    if (view == NULL) {
        view = make_view(worker, caller, id, capabilities, only);
        keep(views, view);
        /* Closed in the meantime: an instance that was made for it just now would stay for ever. */
        if (session != NULL && atomic_load(&session->is_closed))
            upstream_set_forget_session(set, slice_from_cstr(session->id), capabilities);
    } else if (list_first(&views->recent) != &view->link) {
        list_remove(&view->link);
        list_push_front(&views->recent, &view->link);
    }
    view->refs++;
    return view;
}

/* Looking up. */

static const struct catalog_item *item_at(const struct gw_view *view, enum mcp_list list,
                                          struct gw_place place) {
    return &view->items[place.upstream].status.catalog->lists[list]->items[place.item];
}

static struct uri_entry *find_uri(const struct gw_view *view, const struct gw_uris *uris,
                                  enum mcp_list list, struct slice uri, uint64_t hash,
                                  size_t *ret_bucket) {
    size_t mask = uris->n_buckets - 1, at = (size_t)hash & mask;
    for (; uris->buckets[at] != 0; at = (at + 1) & mask) {
        struct uri_entry *entry = &uris->entries[uris->buckets[at] - 1];
        struct gw_place place = {entry->upstream, entry->item};
        if (entry->hash == hash && slice_eq(item_at(view, list, place)->key, uri))
            return entry;
    }
    *ret_bucket = at;
    return NULL;
}

static bool note_repeated(struct gw_uris *uris, struct gw_place place) {
    if (uris->n_repeated == uris->cap_repeated) {
        size_t cap = uris->cap_repeated != 0 ? uris->cap_repeated * 2 : 16;
        struct gw_place *repeated = mem_realloc(uris->repeated, cap * sizeof *repeated);
        if (repeated == NULL)
            return false;
        uris->repeated = repeated;
        uris->cap_repeated = cap;
    }
    uris->repeated[uris->n_repeated++] = place;
    return true;
}

/* The same URI from two upstreams belongs to the first in the file that has it; in lists, to the
 * first that is listed. */
static bool add_uri(const struct gw_view *view, struct gw_uris *uris, enum mcp_list list,
                    struct gw_place place) {
    bool is_listed = view->items[place.upstream].status.is_listed;
    struct slice uri = item_at(view, list, place)->key;
    uint64_t hash = hash_siphash(view->key, uri);
    size_t bucket = 0;
    struct uri_entry *known = find_uri(view, uris, list, uri, hash, &bucket);
    if (known == NULL) {
        uris->entries[uris->n_entries] =
            (struct uri_entry){hash, place.upstream, place.item, is_listed};
        uris->buckets[bucket] = (uint32_t)++uris->n_entries;
        return true;
    }
    if (is_listed && known->is_listed && !note_repeated(uris, place))
        return false;
    known->is_listed = known->is_listed || is_listed;
    return true;
}

static size_t count_items(const struct gw_view *view, enum mcp_list list) {
    size_t n = 0;
    for (size_t i = 0; i < view->n; i++) {
        const struct catalog *catalog = view->items[i].status.catalog;
        n += catalog != NULL ? catalog->lists[list]->n_items : 0;
    }
    return n;
}

static struct gw_uris *make_uris(const struct gw_view *view, enum mcp_list list) {
    size_t n = count_items(view, list), n_buckets = 16;
    while (n_buckets < n * 2)
        n_buckets *= 2;
    struct gw_uris *uris = mem_alloc(sizeof *uris);
    if (uris == NULL)
        return NULL;
    uris->entries = mem_alloc(n * sizeof *uris->entries);
    uris->buckets = mem_alloc(n_buckets * sizeof *uris->buckets);
    uris->n_buckets = n_buckets;
    bool is_whole = uris->entries != NULL && uris->buckets != NULL;
    for (size_t i = 0; i < view->n && is_whole; i++) {
        const struct catalog *catalog = view->items[i].status.catalog;
        bool has_list = catalog != NULL && gw_view_item_has(view, &view->items[i], list);
        size_t n_items = has_list ? catalog->lists[list]->n_items : 0;
        for (size_t k = 0; k < n_items && is_whole; k++)
            is_whole = add_uri(view, uris, list, (struct gw_place){(uint32_t)i, (uint32_t)k});
    }
    if (is_whole)
        return uris;
    free_uris(uris);
    return NULL;
}

int gw_view_repeated(struct gw_view *view, enum mcp_list list, const struct gw_place **ret_places,
                     size_t *ret_n) {
    bool can_repeat = view->n > 1 && !mcp_list_info(list)->is_named;
    if (can_repeat && view->uris[list] == NULL)
        view->uris[list] = make_uris(view, list);
    if (can_repeat && view->uris[list] == NULL)
        return -ENOMEM;
    *ret_places = can_repeat ? view->uris[list]->repeated : NULL;
    *ret_n = can_repeat ? view->uris[list]->n_repeated : 0;
    return 0;
}

struct gw_view_item *gw_view_named(const struct gw_view *view, struct slice name) {
    if (view->only != NULL)
        return view->n != 0 ? &view->items[0] : NULL;
    size_t at = 0;
    const struct upstream *upstream =
        upstream_list_find(view->list, mcp_exposed_upstream(name), &at);
    if (upstream == NULL)
        return NULL;
    /* All are there and at their places, unless the gateway is stopping. */
    if (at < view->n && view->items[at].upstream == upstream)
        return &view->items[at];
    for (at = 0; at < view->n; at++) {
        if (view->items[at].upstream == upstream)
            return &view->items[at];
    }
    return NULL;
}

static struct gw_view_item *find_by_uri(struct gw_view *view, enum mcp_list list, struct slice uri,
                                        const struct catalog_item **ret_found) {
    const struct gw_place *repeated = NULL;
    size_t n_repeated = 0, bucket = 0;
    if (view->n > 1 && gw_view_repeated(view, list, &repeated, &n_repeated) == 0) {
        const struct uri_entry *entry =
            find_uri(view, view->uris[list], list, uri, hash_siphash(view->key, uri), &bucket);
        if (entry == NULL)
            return NULL;
        *ret_found = item_at(view, list, (struct gw_place){entry->upstream, entry->item});
        return &view->items[entry->upstream];
    }
    for (size_t i = 0; i < view->n; i++) { /* one, or no memory for the table */
        const struct catalog *catalog = view->items[i].status.catalog;
        const struct catalog_item *found =
            catalog != NULL && gw_view_item_has(view, &view->items[i], list)
                ? catalog_find(catalog, list, uri, view->only == NULL)
                : NULL;
        if (found != NULL) {
            *ret_found = found;
            return &view->items[i];
        }
    }
    return NULL;
}

struct gw_view_item *gw_view_find(struct gw_view *view, enum mcp_list list, struct slice name,
                                  const struct catalog_item **ret_found) {
    if (!mcp_list_info(list)->is_named)
        return find_by_uri(view, list, name, ret_found);
    /* What clients see always begins with the upstream's name, also when it was shortened. */
    struct gw_view_item *item = gw_view_named(view, name);
    const struct catalog_item *found =
        item != NULL && item->status.catalog != NULL && gw_view_item_has(view, item, list)
            ? catalog_find(item->status.catalog, list, name, view->only == NULL)
            : NULL;
    if (found == NULL)
        return NULL;
    *ret_found = found;
    return item;
}

/* Time. */

uint64_t gw_view_item_patience(const struct gw_view_item *item, uint64_t now_ms, uint64_t most_ms) {
    const struct upstream_status *status = &item->status;
    if (!status->is_first_start || status->catalog != NULL)
        return 0;
    uint64_t since = status->first_started_ms != 0 ? status->first_started_ms : now_ms;
    uint64_t waited = now_ms > since ? now_ms - since : 0;
    return waited < most_ms ? most_ms - waited : 0;
}

uint64_t gw_view_patience(const struct gw_view *view, uint64_t now_ms, uint64_t most_ms) {
    uint64_t patience = 0;
    for (size_t i = 0; view->n_starting != 0 && i < view->n; i++) {
        uint64_t one = gw_view_item_patience(&view->items[i], now_ms, most_ms);
        if (one > patience)
            patience = one;
    }
    return patience;
}

/* Lists of the mask that are no longer fresh, and were read before this call began. */
static unsigned stale_lists(const struct gw_view_item *item, const struct gw_call *call,
                            unsigned list_mask, bool is_running) {
    const struct upstream_status *status = &item->status;
    uint64_t now = io_loop_now(call->worker->loop);
    unsigned stale = 0;
    for (unsigned k = 0; k < MCP_LIST_COUNT; k++) {
        const struct upstream_freshness *list = &status->lists[k];
        if ((now > list->until_ms || !is_running) && list->read_ms < call->began_ms)
            stale |= 1u << k;
    }
    return stale & status->catalog->declared & list_mask;
}

/* None of these lists can have gone stale. */
static bool is_fresh(const struct gw_view *view, unsigned list_mask, uint64_t now_ms) {
    for (unsigned k = 0; k < MCP_LIST_COUNT; k++) {
        if ((list_mask & (1u << k)) != 0 && now_ms > view->fresh_until_ms[k])
            return false;
    }
    return true;
}

uint64_t gw_view_refresh(const struct gw_view *view, struct gw_call *call, unsigned list_mask) {
    bool is_first = !call->has_refreshed, is_stale = false;
    if (is_fresh(view, list_mask, io_loop_now(call->worker->loop)))
        return 0;
    for (size_t i = 0; i < view->n; i++) {
        const struct gw_view_item *item = &view->items[i];
        bool is_running = item->status.state == UPSTREAM_READY;
        if (!gw_view_item_can_refresh(item))
            continue; /* one that starts reads its lists anyway */
        unsigned wanted = stale_lists(item, call, list_mask, is_running);
        if (wanted == 0)
            continue;
        is_stale = true;
        call->has_refreshed = true;
        if (is_first && is_running)
            upstream_instance_refresh(item->instance, wanted);
        else if (item->status.state == UPSTREAM_IDLE)
            upstream_instance_start(item->instance);
    }
    return is_stale ? call->worker->config->list_timeout_ms : 0;
}
