#include "defining.h"

#include <errno.h>

#include "base/limits.h"
#include "base/mem.h"

static void free_defining(struct api_request *request) {
    struct defining *defining = request->own;
    config_unref(defining->config);
    buf_deinit(&defining->reason);
    buf_deinit(&defining->text);
    json_reader_free(defining->reader);
    io_timer_free(defining->timer);
    mem_free(defining);
}

struct defining *defining_of(struct api_request *request) {
    if (request->own != NULL)
        return request->own;
    struct defining *defining = mem_xalloc(sizeof *defining);
    buf_init(&defining->reason, KIB(16));
    request->own = defining;
    request->free_own = free_defining;
    return defining;
}

/* --- looking at it --- */

void defining_run(struct api_request *request) {
    const struct api_options *options = &request->api->options;
    struct defining *defining = request->own;
    defining->config = config_unref(defining->config);
    buf_reset(&defining->reason, KIB(16));
    defining->error = options->define == NULL
                          ? -ENOSYS
                          : options->define(options->context, defining->name, defining->definition,
                                            &defining->config, &defining->reason);
}

static void on_loaded(struct api_request *request) {
    struct defining *defining = request->own;
    if (defining->error != 0 && buf_len(&defining->reason) == 0) {
        api_request_done(request,
                         defining->error == -ENOSYS
                             ? api_refuse(request, 503, "this gateway keeps no upstreams", NULL)
                             : defining->error);
        return;
    }
    api_in_store(request, defining->is_trial ? STORE_READ : STORE_WRITE, defining->work,
                 defining->next);
}

void defining_load(struct api_request *request, api_work_fn *work,
                   void (*next)(struct api_request *request)) {
    struct defining *defining = defining_of(request);
    defining->work = work;
    defining->next = next;
    (void)!api_in_crew(request, request->api->readers, defining_run, on_loaded);
}

const struct config_stored_upstream *defining_found(const struct defining *defining) {
    return defining->config != NULL ? config_find_stored(defining->config, defining->name) : NULL;
}

int defining_check(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    struct defining *defining = request->own;
    const struct config_stored_upstream *found = defining_found(defining);
    struct buf *reason = &request->answer.reason;
    int error = accounts_may_define(tx, &actor, found != NULL ? found->needs : 0, reason);
    if (error != 0)
        return error;
    if (found == NULL) {
        (void)api_refuse(request, 503,
                         "the configuration file has errors, so that nothing can be "
                         "checked by it: ",
                         "cardea check tells them");
        buf_append(reason, buf_slice(&defining->reason));
        return API_E_REFUSED;
    }
    switch (found->kind) {
    case CONFIG_STORED_SERVED:
    case CONFIG_STORED_DISABLED:
        break;
    case CONFIG_STORED_SHADOWED:
        return api_refuse_kind(request, 409, "file",
                               "the configuration file has an upstream of that name",
                               "choose another name, or change the file and reload it");
    case CONFIG_STORED_INVALID:
        (void)api_refuse_kind(request, 422, "definition", "", NULL);
        buf_append(reason, found->reason);
        return API_E_REFUSED;
    }
    return 0;
}

/* --- rows --- */

bool defining_take_row(void *context, const struct accounts_upstream *upstream) {
    const struct defining_rows *rows = context;
    struct arena *arena = &rows->request->arena;
    struct defining *defining = rows->request->own;
    if (defining->rows == NULL)
        defining->rows = arena_alloc_array(arena, LIMIT_STORED_UPSTREAMS, sizeof *defining->rows);
    if (defining->rows == NULL || defining->n_rows == LIMIT_STORED_UPSTREAMS)
        return false;
    struct defined_row *row = &defining->rows[defining->n_rows++];
    *row = (struct defined_row){
        .name = arena_dup(arena, upstream->name),
        .definition = rows->with_definitions ? arena_dup(arena, upstream->definition) : SLICE_EMPTY,
        .is_disabled = upstream->is_disabled,
        .created_ms = upstream->created_ms,
        .updated_ms = upstream->updated_ms,
        .version = upstream->version,
    };
    return !arena_failed(arena);
}
