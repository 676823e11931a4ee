/* Where a task is that somebody asks about, or wants to hear of; and whether it may. */
#include <errno.h>

#include "private.h"

struct upstream *gw_task_upstream(const struct gw_worker *worker, const struct gw_caller *caller,
                                  struct upstream *only, struct slice name) {
    struct upstream *upstream = only != NULL ? only : upstream_list_find(worker->list, name, NULL);
    return upstream != NULL && slice_eq(upstream_name(upstream), name) &&
                   gw_policy_server(worker, name, caller->identity) != NULL
               ? upstream
               : NULL;
}

int gw_task_instance(const struct gw_worker *worker, const struct gw_caller *caller,
                     struct upstream *upstream, const struct gw_task_home *home,
                     struct upstream_instance **ret_instance) {
    struct upstream_owner owner = {caller->principal->id, home->session, home->capabilities};
    int error = upstream_get(upstream, &owner, worker->upstreams, ret_instance);
    if (error == 0)
        gw_token_offer(caller, upstream, *ret_instance);
    return error;
}

bool gw_task_lets_ask(const struct gw_worker *worker, const struct upstream *upstream,
                      const struct auth_identity *identity) {
    const struct policy_server *server =
        gw_policy_server(worker, upstream_name(upstream), identity);
    return server != NULL && upstream_config(upstream)->share != CONFIG_SHARE_ALL &&
           gw_policy_has_scopes(server, NULL, identity) && gw_token_lets_use(identity, upstream);
}

int gw_task_find(const struct gw_call *call, struct slice id, struct gw_task_place *place) {
    const struct gw_worker *worker = call->worker;
    const struct gw_caller *caller = call->exchange->caller;
    struct gw_task_name *name = &place->name;
    int error = gw_task_open(worker->gateway, call->principal->id, gw_call_endpoint(call), id,
                             &place->memory, name);
    if (error != 0)
        return error;
    if (name->kind != GW_TASK_MODERN || name->home.session.len != 0)
        return GW_E_STATE;
    place->upstream = gw_task_upstream(worker, caller, call->only, name->home.upstream);
    if (place->upstream == NULL || !gw_task_lets_ask(worker, place->upstream, caller->identity))
        return GW_E_STATE;
    error = gw_task_instance(worker, caller, place->upstream, &name->home, &place->instance);
    return error == 0 || error == -ENOMEM ? error : GW_E_STATE;
}

void gw_task_place_deinit(struct gw_task_place *place) {
    buf_deinit(&place->memory);
    upstream_instance_unref(place->instance);
}
