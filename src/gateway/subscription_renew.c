/* Subscriptions whose instances are gone: begun again with those that serve their sessions now. */
#include "base/mem.h"
#include "private.h"

static bool is_of(const struct gw_subscription *subscription, enum upstream_watched kind) {
    return subscription->wish.kind == kind;
}

static bool is_lost(const struct gw_subscription *subscription) {
    return subscription->state == GW_SUBSCRIPTION_LOST;
}

/* Who asks again for what it had. */
struct renewal {
    struct gw_worker *worker;
    struct gw_session *session;
    struct gw_caller *caller;
    struct upstream *only;
    struct gw_view *view;
};

static struct gw_view_item *find_item(const struct renewal *renewal,
                                      const struct gw_subscription *subscription) {
    struct gw_view *view = renewal->view;
    const struct catalog_item *found = NULL;
    if (!is_of(subscription, UPSTREAM_WATCHED_LISTS)) {
        struct gw_view_item *item = gw_view_find_resource(view, subscription->wish.name, &found);
        return item != NULL &&
                       gw_decide(renewal->worker, view, item, MCP_LIST_RESOURCES, found).verdict !=
                           POLICY_UNKNOWN
                   ? item
                   : NULL;
    }
    for (size_t i = 0; i < view->n; i++) {
        if (slice_eq(upstream_name(view->items[i].upstream),
                     slice_from_cstr(subscription->upstream)))
            return &view->items[i];
    }
    return NULL;
}

/* The one that it is watched by from now on, with a reference; NULL: there is none. */
static struct upstream_instance *find_instance(const struct renewal *renewal,
                                               const struct gw_subscription *subscription) {
    struct gw_task_home home = {.upstream = slice_from_cstr(subscription->upstream),
                                .capabilities = subscription->capabilities};
    struct upstream_instance *instance = NULL;
    if (!is_of(subscription, UPSTREAM_WATCHED_TASK)) {
        const struct gw_view_item *item = find_item(renewal, subscription);
        return item != NULL ? upstream_instance_ref(item->instance) : NULL;
    }
    struct upstream *upstream =
        gw_task_upstream(renewal->worker, renewal->caller, renewal->only, home.upstream);
    bool is_there = upstream != NULL && gw_task_instance(renewal->worker, renewal->caller, upstream,
                                                         &home, &instance) == 0;
    return is_there ? instance : NULL;
}

/* Now or later. */
static bool may_come_back(const struct renewal *renewal,
                          const struct gw_subscription *subscription) {
    const struct upstream *upstream =
        upstream_list_find(renewal->worker->list, slice_from_cstr(subscription->upstream), NULL);
    return upstream != NULL &&
           (!is_of(subscription, UPSTREAM_WATCHED_TASK) ||
            gw_task_lets_ask(renewal->worker, upstream, renewal->caller->identity));
}

static void renew(const struct renewal *renewal, struct gw_subscription *subscription) {
    struct gw_session *session = renewal->session;
    bool is_possible = may_come_back(renewal, subscription);
    struct upstream_instance *instance = is_possible ? find_instance(renewal, subscription) : NULL;
    pthread_mutex_lock(&session->mutex);
    subscription->is_again = true;
    subscription->state = instance != NULL ? GW_SUBSCRIPTION_PENDING
                          : is_possible    ? GW_SUBSCRIPTION_LOST
                                           : GW_SUBSCRIPTION_OVER;
    /* The client asks for it, and hears that it is not there any more. */
    bool is_over = subscription->state == GW_SUBSCRIPTION_OVER;
    subscription->is_updated = subscription->is_updated || is_over;
    pthread_mutex_unlock(&session->mutex);
    if (is_over)
        gw_notify_lists(session, 0);
    bool is_watched =
        instance != NULL && gw_subscription_watch(session, subscription, instance) == 0;
    if (instance != NULL && !is_watched) {
        pthread_mutex_lock(&session->mutex);
        subscription->state = GW_SUBSCRIPTION_LOST;
        pthread_mutex_unlock(&session->mutex);
    }
    upstream_instance_unref(instance);
    if (!is_over && !is_watched)
        atomic_store(&session->gateway->has_lost_subscriptions, true);
}

void gw_subscriptions_renew(struct gw_worker *worker, struct gw_session *session) {
    size_t n = 0;
    struct gw_subscription **picked =
        atomic_load(&session->is_closed) ? NULL : gw_subscriptions_pick(session, is_lost, &n);
    pthread_mutex_lock(&session->mutex);
    struct auth_identity *identity =
        n != 0 && session->identity != NULL ? auth_identity_ref(session->identity) : NULL;
    pthread_mutex_unlock(&session->mutex);
    struct gw_caller *caller = identity != NULL ? gw_caller_new(worker, identity) : NULL;
    struct upstream *only =
        session->only[0] != '\0'
            ? upstream_list_find(worker->list, slice_from_cstr(session->only), NULL)
            : NULL;
    bool has_place = caller != NULL && (session->only[0] == '\0' || only != NULL);
    struct gw_view *view =
        has_place
            ? gw_view_open(worker, caller, session->kind == GW_SESSION_LISTEN ? NULL : session,
                           session->capabilities, only)
            : NULL;
    struct renewal renewal = {worker, session, caller, only, view};
    for (size_t i = 0; i < n; i++) {
        if (view != NULL)
            renew(&renewal, picked[i]);
        gw_subscription_unref(picked[i]);
    }
    if (view != NULL)
        gw_view_close(view);
    if (caller != NULL)
        gw_caller_unref(caller);
    mem_free(picked);
}
