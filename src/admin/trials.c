/*
 * Tests of connections: of an upstream that is there, or of a definition that is not kept yet. They
 * start nothing that an administrator has not configured: what was not kept has to have a url, and
 * a program runs as the gateway runs it, or is not tried. Some at a time, some seconds each; what
 * is answered is what a server calls itself, and how many tools it has.
 */
#include <errno.h>

#include "base/clock.h"
#include "defining.h"
#include "handlers.h"

enum { LOOK_MS = 50 };

/* False: too many are under way, and the request is answered. */
static bool enter(struct api_request *request) {
    struct api *api = request->api;
    api_answer_reset(&request->answer);
    if (api->n_trials < API_TRIALS) {
        api->n_trials++;
        return true;
    }
    (void)api_refuse(request, 503, "too many others wait for this", "try again in a moment");
    api_request_done(request, API_E_REFUSED);
    return false;
}

static void leave(struct api_request *request, int error) {
    request->api->n_trials--;
    api_request_done(request, error);
}

static void on_tried(struct api_request *request) {
    const struct defining *defining = request->own;
    leave(request, defining->error);
}

static void write_failed(struct api_request *request, struct slice reason) {
    struct json_writer writer;
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    json_kv_bool(&writer, SLICE("ok"), false);
    api_write_text(&writer, "reason", reason);
    json_kv_u64(&writer, SLICE("duration_ms"), 0);
    json_object_end(&writer);
}

/* --- over HTTP, on a thread of its own --- */

static void try_it(struct api_request *request) {
    struct defining *defining = request->own;
    config_keep_server(defining->config, defining->name);
    defining->error = gateway_try(defining->config, request->api->options.version, API_TRIAL_MS,
                                  &request->api->gives_up, &request->answer.body);
}

static void begin_trial(struct api_request *request) {
    struct api *api = request->api;
    if (enter(request) && !api_in_crew(request, api->testers, try_it, on_tried))
        api->n_trials--; /* the request is answered, and gone */
}

/* --- a program, which the gateway runs --- */

static int look_at_it(void *context, struct buf *out) {
    struct api_request *request = context;
    const struct defining *defining = request->own;
    bool is_over = clock_monotonic_ms() - defining->since_ms >= API_TRIAL_MS ||
                   atomic_load(&request->api->gives_up);
    return gateway_look_at_upstream(request->api->options.gateway, defining->name,
                                    defining->since_ms, is_over, out);
}

static void on_looked(struct api_request *request, int error) {
    struct defining *defining = request->own;
    if (error == -ENOENT)
        error = api_refuse(request, 409, "the gateway does not serve it", "enable it first");
    if (error != 0 || buf_len(&request->answer.body) != 0)
        leave(request, error);
    else
        io_timer_start(defining->timer, LOOK_MS);
}

static void on_timer(void *context) {
    struct api_request *request = context;
    if (request->api->is_stopping)
        leave(request, -ECANCELED);
    else
        api_ask(request, look_at_it, request, on_looked);
}

static void begin_look(struct api_request *request) {
    struct defining *defining = request->own;
    if (!enter(request))
        return;
    defining->since_ms = clock_monotonic_ms();
    defining->timer = io_timer_new(request->api->loop, on_timer, request);
    on_timer(request);
}

/* --- one that is there --- */

/* What the file has, is the file's; else what the store has, also when it is disabled. */
static void on_loaded(struct api_request *request) {
    struct defining *defining = request->own;
    const struct config_stored_upstream *found = defining_found(defining);
    const struct config_server *server =
        defining->config != NULL ? config_find_server(defining->config, defining->name) : NULL;
    bool is_invalid = found != NULL && found->kind == CONFIG_STORED_INVALID;
    api_answer_reset(&request->answer);
    if (defining->config == NULL || (server == NULL && defining->n_rows == 0)) {
        int error = defining->error != 0 && buf_len(&defining->reason) == 0 ? defining->error : 0;
        if (error == 0)
            error = defining->config == NULL
                        ? api_refuse(request, 503, "the configuration file has errors",
                                     "cardea check tells them")
                        : api_refuse(request, 404, "there is no such upstream", NULL);
        api_request_done(request, error);
    } else if (is_invalid || server == NULL) {
        write_failed(request, is_invalid ? found->reason : SLICE("it is not served"));
        api_request_done(request, 0);
    } else if (server->n_cmd != 0) {
        begin_look(request);
    } else {
        begin_trial(request);
    }
}

static void on_row(struct api_request *request) {
    struct defining *defining = request->own;
    if (request->job.result != 0) {
        api_request_done(request, request->job.result);
        return;
    }
    if (defining->n_rows != 0)
        defining->definition = defining->rows[0].definition;
    (void)!api_in_crew(request, request->api->readers, defining_run, on_loaded);
}

static int get_row(struct store_tx *tx, struct api_request *request) {
    struct defining *defining = request->own;
    struct defining_rows rows = {.request = request, .with_definitions = true};
    defining->n_rows = 0;
    int error = accounts_get_upstream(tx, defining->name, defining_take_row, &rows);
    return error == ACCOUNTS_E_NONE ? 0 : error;
}

void api_test_upstream(struct api_request *request) {
    defining_of(request)->name = request->parameters[0];
    api_in_store(request, STORE_READ, get_row, on_row);
}

/* --- a definition that is not kept --- */

static int may_try(struct store_tx *tx, struct api_request *request) {
    const struct defining *defining = request->own;
    const struct config_stored_upstream *found = defining_found(defining);
    /* The route says what its row can: upstreams.write. */
    if (!api_may(request, PERMISSION_UPSTREAMS_TEST))
        return api_refuse_kind(request, 403, "permission",
                               "this needs the permission upstreams.test",
                               "ask an administrator for a role that has it");
    int error = defining_check(tx, request);
    if (error == 0 && (found->needs & CONFIG_NEEDS_COMMANDS) != 0)
        error = api_refuse(request, 422, "cmd: a program is not started before it is kept",
                           "keep it first");
    return error;
}

static void on_allowed(struct api_request *request) {
    if (request->job.result != 0)
        api_request_done(request, request->job.result);
    else
        begin_trial(request);
}

void api_try_upstream(struct api_request *request) {
    struct defining *defining = defining_of(request);
    defining->name = SLICE("definition-on-trial");
    defining->definition = schema_raw(request->reader, "definition");
    defining->is_trial = true;
    defining_load(request, may_try, on_allowed);
}
