/*
 * A reload: the workers go over to another configuration one after the other, each between two of
 * its callbacks, so that nothing in a worker ever sees two of them.
 *
 *     prepare   all that can fail: upstreams, issuers, the engine that says who is calling. Nothing
 *               of it is seen by anybody.
 *     commit    a message to each worker, which takes configuration, upstreams and all the rest at
 *               once, and drops what it has kept of the old ones.
 *     settle    on worker 0, when the last one has: what only the old configuration had retires.
 *               No call can begin on it any more; those that run end as they would have.
 *
 * Between the first message and the last, some workers serve by the old configuration and some by
 * the new one, each wholly: so would two clients see it that ask a moment before and after.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "private.h"

struct swap {
    struct io_message message;
    struct gateway_reload *reload;
    struct gw_worker *worker;
};

struct gateway_reload {
    struct gateway *gateway;
    struct config *config; /* a reference */
    struct upstream_list *list, *old_list;
    struct gw_generation *generation, *old_generation;
    bool is_over;      /* the gateway has ended before */
    bool concerns_all; /* what callers may see is not only a matter of servers */
    struct buf report;
    struct swap *swaps; /* of each worker */
    atomic_size_t n_left;
    struct io_message settle_message;
    void (*done)(void *context);
    void *context;
};

/* What is said of it. */

struct differences {
    struct gateway_reload *reload;
    struct json_writer *writer;
    bool needs_restart; /* which ones are written */
};

static void write_difference(void *context, const char *key, bool needs_restart) {
    struct differences *differences = context;
    struct slice text = slice_from_cstr(key);
    if (needs_restart == differences->needs_restart)
        json_string(differences->writer, text);
    if (slice_starts_with(text, SLICE("server.auth")) ||
        slice_starts_with(text, SLICE("server.oauth")) ||
        slice_starts_with(text, SLICE("server.client_identification")) ||
        slice_starts_with(text, SLICE("security")))
        differences->reload->concerns_all = true;
}

static void write_keys(struct gateway_reload *reload, struct json_writer *writer,
                       bool needs_restart) {
    struct differences differences = {reload, writer, needs_restart};
    config_compare(reload->gateway->config, reload->config, write_difference, &differences);
}

static void write_key(struct json_writer *writer, struct slice server, const char *last) {
    char key[GW_SERVER_NAME_CHARS + 32];
    int len = snprintf(key, sizeof key, "mcp.servers.%.*s.%s", SLICE_ARGS(server), last);
    json_string(writer, slice_make(key, (size_t)len));
}

struct permissions {
    struct gateway_reload *reload;
    struct json_writer *writer;
    struct slice server;
};

static void write_permission(void *context, const char *key) {
    const struct permissions *permissions = context;
    write_key(permissions->writer, permissions->server, key);
    permissions->reload->concerns_all = true;
}

/* Of servers that run on: who may call them, and how often. */
static void write_permissions(struct gateway_reload *reload, struct json_writer *writer) {
    const struct config *old = reload->gateway->config, *config = reload->config;
    for (size_t i = 0; i < config->n_servers; i++) {
        const struct config_server *server = &config->servers[i];
        struct permissions permissions = {reload, writer, server->name};
        for (size_t k = 0; k < old->n_servers; k++) {
            if (config_server_runs_alike(server, &old->servers[k]))
                config_server_compare(server, &old->servers[k], write_permission, &permissions);
        }
    }
}

static void write_waiting(const struct gateway_reload *reload, struct json_writer *writer) {
    for (size_t i = 0; i < upstream_list_count(reload->list); i++) {
        if (upstream_list_waits(reload->list, i))
            write_key(writer, upstream_name(upstream_list_at(reload->list, i)), "isolation");
    }
}

/* Of the same name. */
static const struct upstream *twin(const struct upstream *upstream,
                                   const struct upstream_list *other) {
    return upstream_list_find(other, upstream_name(upstream), NULL);
}

static void write_servers(const struct gateway_reload *reload, struct json_writer *writer) {
    static const struct slice keys[] = {SLICE_INIT("added"), SLICE_INIT("changed")};
    const struct upstream_list *list = reload->list, *old = reload->old_list;
    size_t n_unchanged = 0;
    json_object_begin(writer);
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        json_key(writer, keys[k]);
        json_array_begin(writer);
        for (size_t i = 0; i < upstream_list_count(list); i++) {
            const struct upstream *upstream = upstream_list_at(list, i);
            const struct upstream *known = twin(upstream, old);
            if (known != upstream && (known == NULL) == (k == 0))
                json_string(writer, upstream_name(upstream));
            n_unchanged += k == 0 && known == upstream ? 1 : 0;
        }
        json_array_end(writer);
    }
    json_key(writer, SLICE("removed"));
    json_array_begin(writer);
    for (size_t i = 0; i < upstream_list_count(old); i++) {
        if (twin(upstream_list_at(old, i), list) == NULL)
            json_string(writer, upstream_name(upstream_list_at(old, i)));
    }
    json_array_end(writer);
    json_kv_u64(writer, SLICE("unchanged"), n_unchanged);
    json_object_end(writer);
}

static int write_report(struct gateway_reload *reload) {
    struct json_writer writer;
    json_writer_init(&writer, &reload->report);
    json_object_begin(&writer);
    json_key(&writer, SLICE("applied"));
    json_array_begin(&writer);
    write_keys(reload, &writer, false);
    write_permissions(reload, &writer);
    json_array_end(&writer);
    json_key(&writer, SLICE("needs_restart"));
    json_array_begin(&writer);
    write_keys(reload, &writer, true);
    write_waiting(reload, &writer);
    json_array_end(&writer);
    json_key(&writer, SLICE("servers"));
    write_servers(reload, &writer);
    json_object_end(&writer);
    return buf_error(&reload->report);
}

struct slice gateway_reload_report(const struct gateway_reload *reload) {
    return buf_slice(&reload->report);
}

/* Preparing. */

/* By the values that it would be served with, which need not be those of the file. */
static int check_start(struct gateway_reload *reload, struct buf *reason) {
    struct config_problems problems;
    config_problems_init(&problems);
    int error = config_check_start(reload->config, reload->gateway->api_token != NULL, &problems);
    for (size_t i = 0; i < problems.n; i++)
        buf_printf(reason, "%s%.*s", i == 0 ? "" : "; ", SLICE_ARGS(problems.items[i].message));
    config_problems_deinit(&problems);
    return error == CONFIG_E_INVALID ? -EINVAL : error;
}

static int prepare(struct gateway_reload *reload, struct buf *reason) {
    struct gateway *gateway = reload->gateway;
    struct slice name = SLICE_EMPTY;
    const char *why = "";
    int error =
        upstream_set_prepare(gateway->upstreams, reload->config, &reload->list, &name, &why);
    if (error == -EINVAL)
        buf_printf(reason, "mcp.servers.%.*s: %s", SLICE_ARGS(name), why);
    if (error == 0)
        error = write_report(reload);
    if (error == 0)
        error = config_keep(reload->config, gateway->config);
    if (error == 0 && !gateway->is_local)
        error = check_start(reload, reason);
    if (error != 0)
        return error;
    error = gw_generation_new(gateway, reload->config, gateway->generation, &reload->generation);
    if (error != 0)
        buf_printf(reason, "who may call cannot be set up: %s", strerror(-error));
    return error;
}

int gateway_reload_prepare(struct gateway *gateway, struct config *config, struct buf *reason,
                           struct gateway_reload **ret_reload) {
    if (gateway->is_stopping)
        return -ESHUTDOWN;
    if (gateway->reload != NULL)
        return -EBUSY;
    struct gateway_reload *reload = mem_alloc(sizeof *reload);
    if (reload == NULL)
        return -ENOMEM;
    reload->gateway = gateway;
    reload->config = config_ref(config);
    reload->old_list = upstream_set_list(gateway->upstreams);
    reload->old_generation = gateway->generation;
    buf_init(&reload->report, MIB(1));
    reload->swaps = mem_alloc(gateway->n_workers * sizeof *reload->swaps);
    int error = reload->swaps != NULL ? prepare(reload, reason) : -ENOMEM;
    if (error != 0) {
        gateway_reload_drop(reload);
        return error;
    }
    *ret_reload = reload;
    return 0;
}

static void free_reload(struct gateway_reload *reload) {
    upstream_list_unref(reload->list);
    upstream_list_unref(reload->old_list);
    config_unref(reload->config);
    buf_deinit(&reload->report);
    mem_free(reload->swaps);
    mem_free(reload);
}

struct gateway_reload *gateway_reload_drop(struct gateway_reload *reload) {
    if (reload == NULL)
        return NULL;
    gw_generation_free(reload->generation);
    free_reload(reload);
    return NULL;
}

/* Settling: worker 0, all serve by the new configuration. */

static bool is_changed(const struct gateway_reload *reload, struct slice name) {
    return upstream_list_find(reload->list, name, NULL) !=
           upstream_list_find(reload->old_list, name, NULL);
}

static bool any_changed(const struct gateway_reload *reload) {
    if (upstream_list_count(reload->list) != upstream_list_count(reload->old_list))
        return true;
    for (size_t i = 0; i < upstream_list_count(reload->list); i++) {
        if (is_changed(reload, upstream_name(upstream_list_at(reload->list, i))))
            return true;
    }
    return false;
}

struct telling {
    const struct gateway_reload *reload;
    bool has_changes;
};

/* It ends with its endpoint; else its client is told to look again, when there is something new. */
static void tell_session(void *context, struct gw_session *session) {
    const struct telling *telling = context;
    const struct gateway_reload *reload = telling->reload;
    struct slice only = slice_from_cstr(session->only);
    if (only.len != 0 && upstream_list_find(reload->list, only, NULL) == NULL)
        gw_session_close(session);
    else if (reload->concerns_all ||
             (only.len == 0 ? telling->has_changes : is_changed(reload, only)))
        gw_notify_lists(session, UPSTREAM_ALL_LISTS);
}

static void tell_sessions(const struct gateway_reload *reload) {
    struct telling telling = {reload, any_changed(reload)};
    if (telling.has_changes || reload->concerns_all)
        gw_sessions_each(&reload->gateway->sessions, tell_session, &telling);
}

static void settle(struct io_message *message) {
    struct gateway_reload *reload = CONTAINER_OF(message, struct gateway_reload, settle_message);
    struct gateway *gateway = reload->gateway;
    if (reload->is_over)
        return;
    gateway->reload = NULL;
    gw_generation_free(reload->old_generation);
    config_unref(gateway->config);
    gateway->config = config_ref(reload->config);
    gw_edit_configure(gateway, gateway->config);
    if (gateway->audit != NULL)
        audit_set_bounds(gateway->audit, gateway->config->audit.max_bytes,
                         gateway->config->audit.max_age_ms);
    upstream_list_retire(reload->old_list, reload->list);
    atomic_store(&gateway->has_instances_of_sessions, upstream_list_has_sessions(reload->list));
    tell_sessions(reload);
    if (!gateway->is_stopping)
        gw_housekeeping_soon(gateway);
    gw_notify_recheck(gateway);
    reload->done(reload->context);
    free_reload(reload);
}

/* Committing. */

static void deliver_swap(struct io_message *message) {
    struct swap *swap = CONTAINER_OF(message, struct swap, message);
    struct gateway_reload *reload = swap->reload;
    struct gw_worker *worker = swap->worker;
    struct upstream_list *old_list = worker->list;
    if (reload->is_over)
        return;
    gw_views_drop_all(&worker->views); /* they are of the old list */
    worker->list = upstream_list_ref(reload->list);
    gw_worker_adopt(worker, reload->generation);
    gw_worker_configure(worker);
    upstream_list_unref(old_list);
    gw_start_upstreams(worker, reload->old_list);
    gw_calls_recheck(worker);
    /* The last step: from here on the reload may be gone. */
    if (atomic_fetch_sub(&reload->n_left, 1) == 1)
        io_loop_post(reload->gateway->loops[0], &reload->settle_message);
}

void gateway_reload_commit(struct gateway_reload *reload, void (*done)(void *context),
                           void *context) {
    struct gateway *gateway = reload->gateway;
    gateway->reload = reload;
    gateway->generation = reload->generation;
    gw_policy_adopt(gateway, reload->generation->policy);
    reload->done = done;
    reload->context = context;
    reload->settle_message.deliver = settle;
    atomic_init(&reload->n_left, gateway->n_workers);
    /* Closed before the first worker goes over, opened after the last one has: a worker that has
     * the new whitelist already and the old switch still would let pass what neither file does. */
    if (!reload->config->edit_mode)
        gw_edit_configure(gateway, reload->config);
    gw_make_room(gateway, reload->config);
    if (upstream_list_has_sessions(reload->list))
        atomic_store(&gateway->has_instances_of_sessions, true);
    upstream_set_adopt(gateway->upstreams, reload->list);
    if (reload->generation->oauth != NULL)
        oauth_start(reload->generation->oauth);
    for (size_t i = 0; i < gateway->n_workers; i++) {
        struct gw_worker *worker = &gateway->workers[i];
        reload->swaps[i] =
            (struct swap){.message = {.deliver = deliver_swap}, .reload = reload, .worker = worker};
        io_loop_post(worker->loop, &reload->swaps[i].message);
    }
}

/* Some workers have the old generation, some the new one; none runs any more. Messages may still be
 * in their mailboxes, and are delivered once more when the loops are freed. */
void gw_reload_abandon(struct gateway *gateway) {
    if (gateway->reload == NULL)
        return;
    gateway->reload->is_over = true;
    gw_generation_free(gateway->reload->old_generation);
}

void gw_reload_free(struct gateway *gateway) {
    if (gateway->reload != NULL)
        free_reload(TAKE(gateway->reload));
}
