/* How the gateway and its upstreams are: for /ready and for the control socket. */
#include "private.h"

/* /ready is asked often, and by machines: no lists of names, no texts. */
enum detail { DETAIL_BRIEF, DETAIL_ALL };

static bool is_per_session(const struct gw_worker *worker, const struct upstream *upstream) {
    return upstream_config(upstream)->share == CONFIG_SHARE_SESSION && !worker->gateway->is_local;
}

struct upstream_instance *gw_own_instance(struct gw_worker *worker, struct upstream *upstream) {
    struct upstream_owner owner = {.principal = worker->gateway->own->id};
    struct upstream_instance *instance = NULL;
    if (is_per_session(worker, upstream) ||
        upstream_get(upstream, &owner, worker->upstreams, &instance) != 0)
        return NULL;
    return instance;
}

/* Whoever only asks how it is makes none: that could cost another principal's its place. */
static struct upstream_instance *find_own(struct gw_worker *worker, struct upstream *upstream) {
    struct upstream_owner owner = {.principal = worker->gateway->own->id};
    return is_per_session(worker, upstream) ? NULL : upstream_find(upstream, &owner);
}

bool gateway_is_settled(struct gateway *gateway) {
    bool is_settled = true;
    const struct upstream_list *list = gateway->workers[0].list;
    for (size_t i = 0; i < upstream_list_count(list); i++) {
        struct upstream_instance *instance =
            gw_own_instance(&gateway->workers[0], upstream_list_at(list, i));
        if (instance == NULL)
            continue;
        struct upstream_status status;
        upstream_instance_status(instance, &status);
        is_settled = is_settled && !status.is_first_start;
        catalog_unref(status.catalog);
        upstream_instance_unref(instance);
    }
    return is_settled;
}

/* Tools that nobody can call as edit mode is now. */
static size_t count_locked(struct gw_worker *worker, struct upstream *upstream,
                           const struct upstream_status *status) {
    const struct policy_server *server =
        policy_find_server(worker->policy->policy, upstream_name(upstream));
    const struct gw_view_item item = {.upstream = upstream, .status = *status};
    bool edit_is_open = gw_edit_is_open(worker, NULL, upstream_name(upstream));
    size_t n = 0;
    for (size_t i = 0;
         server != NULL && status->is_listed && i < status->catalog->lists[MCP_LIST_TOOLS]->n_items;
         i++) {
        struct policy_item facts = gw_policy_item(
            worker, &item, MCP_LIST_TOOLS, &status->catalog->lists[MCP_LIST_TOOLS]->items[i]);
        n += policy_is_locked(server, &facts, edit_is_open) ? 1 : 0;
    }
    return n;
}

/* Those that the caller may know of; NULL: all. */
static size_t count_tools(struct gw_worker *worker, struct upstream *upstream,
                          const struct upstream_status *status,
                          const struct auth_identity *identity) {
    const struct gw_view_item item = {.upstream = upstream, .status = *status};
    const struct catalog_list *list =
        status->is_listed ? status->catalog->lists[MCP_LIST_TOOLS] : NULL;
    const struct policy_server *server =
        identity != NULL ? gw_policy_server(worker, upstream_name(upstream), identity) : NULL;
    if (list == NULL || identity == NULL)
        return list != NULL ? list->n_items : 0;
    struct policy_caller caller = gw_policy_caller(identity);
    if (server != NULL && policy_allows_all(server, &caller, POLICY_TOOL, true))
        return list->n_items;
    size_t n = 0;
    for (size_t i = 0; i < list->n_items && server != NULL; i++) {
        struct policy_item facts = gw_policy_item(worker, &item, MCP_LIST_TOOLS, &list->items[i]);
        n += policy_decide(server, &caller, &facts, true).verdict != POLICY_UNKNOWN ? 1 : 0;
    }
    return n;
}

static void write_tools(struct json_writer *writer, const struct upstream_status *status) {
    json_key(writer, SLICE("tools"));
    json_array_begin(writer);
    if (status->is_listed) {
        const struct catalog_list *list = status->catalog->lists[MCP_LIST_TOOLS];
        for (size_t i = 0; i < list->n_items; i++)
            json_string(writer, list->items[i].exposed);
    }
    json_array_end(writer);
}

static void write_health(struct json_writer *writer, struct upstream *upstream, uint64_t now_ms) {
    struct upstream_health health;
    upstream_health(upstream, now_ms, &health);
    json_kv_string(writer, SLICE("breaker"), slice_from_cstr(health.breaker));
    json_kv_u64(writer, SLICE("failures"), health.n_failures);
    json_kv_u64(writer, SLICE("retry_ms"), health.retry_ms);
    json_kv_u64(writer, SLICE("in_flight"), health.n_in_flight);
}

/* What it said of itself; nothing when it has not answered yet. */
static void write_server(struct json_writer *writer, const struct upstream_status *status) {
    if (status->catalog == NULL)
        return;
    json_kv_string(writer, SLICE("revision"), mcp_revision_name(status->catalog->revision));
    json_key(writer, SLICE("server"));
    json_object_begin(writer);
    json_kv_string(writer, SLICE("name"), status->catalog->server_name);
    json_kv_string(writer, SLICE("version"), status->catalog->server_version);
    json_object_end(writer);
}

/* `instance` may be NULL: there is none. */
static void write_instance(struct json_writer *writer, struct gw_worker *worker,
                           struct upstream *upstream, struct upstream_instance *instance,
                           const struct auth_identity *caller, enum detail detail) {
    struct upstream_status status = {.state = UPSTREAM_IDLE};
    if (instance != NULL)
        upstream_instance_status(instance, &status);
    size_t n_tools = count_tools(worker, upstream, &status, caller);
    json_kv_string(writer, SLICE("state"), slice_from_cstr(upstream_state_name(status.state)));
    json_kv_u64(writer, SLICE("n_tools"), n_tools);
    if (detail == DETAIL_ALL) {
        if (status.error[0] != '\0')
            json_kv_string(writer, SLICE("error"), slice_from_cstr(status.error));
        json_kv_u64(writer, SLICE("locked"), count_locked(worker, upstream, &status));
        write_server(writer, &status);
        write_tools(writer, &status);
    }
    catalog_unref(status.catalog);
}

/* By the configuration of today: the upstream may be of an older one, in which it was the same. */
static void write_source(struct json_writer *writer, const struct config *config,
                         struct slice name) {
    const struct config_server *server = config_find_server(config, name);
    if (server == NULL || server->is_stored) {
        json_kv_string(writer, SLICE("source"), SLICE("store"));
        return;
    }
    json_kv_string(writer, SLICE("source"), SLICE("file"));
    json_kv_string(writer, SLICE("file"), config_file_name(config));
    json_kv_u64(writer, SLICE("line"), server->line);
}

/* Those of the store that are not served. */
static void write_left_out(struct json_writer *writer, const struct config *config) {
    static const char *const states[] = {[CONFIG_STORED_DISABLED] = "disabled",
                                         [CONFIG_STORED_SHADOWED] = "shadowed",
                                         [CONFIG_STORED_INVALID] = "invalid"};
    json_key(writer, SLICE("left_out"));
    json_array_begin(writer);
    for (size_t i = 0; i < config->n_stored; i++) {
        const struct config_stored_upstream *stored = &config->stored[i];
        if (stored->kind == CONFIG_STORED_SERVED)
            continue;
        json_object_begin(writer);
        json_kv_string(writer, SLICE("name"), stored->name);
        json_kv_string(writer, SLICE("source"), SLICE("store"));
        json_kv_string(writer, SLICE("state"), slice_from_cstr(states[stored->kind]));
        if (stored->reason.len != 0)
            json_kv_string(writer, SLICE("error"), stored->reason);
        json_object_end(writer);
    }
    json_array_end(writer);
}

/* `caller`: those that it may use; NULL: all. */
static void write_upstreams(struct json_writer *writer, struct gw_worker *worker,
                            const struct auth_identity *caller, enum detail detail) {
    uint64_t now_ms = io_loop_now(worker->loop);
    json_key(writer, SLICE("upstreams"));
    json_array_begin(writer);
    for (size_t i = 0; i < upstream_list_count(worker->list); i++) {
        struct upstream *upstream = upstream_list_at(worker->list, i);
        if (caller != NULL && gw_policy_server(worker, upstream_name(upstream), caller) == NULL)
            continue;
        struct upstream_instance *instance = find_own(worker, upstream);
        json_object_begin(writer);
        json_kv_string(writer, SLICE("name"), upstream_name(upstream));
        if (detail == DETAIL_ALL)
            write_source(writer, worker->config, upstream_name(upstream));
        if (!is_per_session(worker, upstream))
            write_instance(writer, worker, upstream, instance, caller, detail);
        else
            json_kv_string(writer, SLICE("state"), SLICE("per session"));
        write_health(writer, upstream, now_ms);
        json_object_end(writer);
        upstream_instance_unref(instance);
    }
    json_array_end(writer);
}

static void add_waiting(void *context, struct gw_principal *principal) {
    size_t *n_waiting = context;
    *n_waiting += admission_waiting(&principal->admission);
}

static size_t count_waiting(struct gateway *gateway) {
    size_t n_waiting = 0;
    gw_principals_each(&gateway->principals, add_waiting, &n_waiting);
    return n_waiting;
}

/* How old the keys of each issuer are, and why they are not newer. */
static void write_issuers(struct json_writer *writer, const struct gateway *gateway) {
    struct buf issuers CLEANUP(buf_deinit) = BUF_INIT(KIB(256));
    struct oauth *oauth = gateway->generation != NULL ? gateway->generation->oauth : NULL;
    if (oauth != NULL &&
        oauth_write_status(oauth, io_loop_now(gateway->workers[0].loop), &issuers) == 0)
        json_kv_raw(writer, SLICE("issuers"), buf_slice(&issuers));
}

/* Where the rate limits are counted, when that can fail. */
static void write_limits(struct json_writer *writer, const struct gw_worker *worker) {
    const struct gateway *gateway = worker->gateway;
    const struct config_storage *storage = &worker->config->rate_limits.storage;
    const char *text = NULL;
    enum limits_health health =
        gateway->limits != NULL ? limits_health(gateway->limits) : LIMITS_IN_MEMORY;
    if (health == LIMITS_REDIS_UP)
        text = "redis";
    else if (health != LIMITS_IN_MEMORY)
        text = storage->on_failure == CONFIG_FAILURE_DENY
                   ? "redis cannot be asked: what is limited is refused"
                   : "redis cannot be asked: counted in memory";
    if (text != NULL)
        json_kv_string(writer, SLICE("rate_limits"), slice_from_cstr(text));
}

static void write_edit(struct json_writer *writer, struct gateway *gateway) {
    struct buf edit CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    if (gateway_write_edit(gateway, &edit) == 0)
        json_kv_raw(writer, SLICE("edit"), buf_slice(&edit));
}

/* The trail, with the head that is good to be kept elsewhere. */
static void write_audit(struct json_writer *writer, struct gateway *gateway) {
    struct audit_state state;
    char head[AUDIT_HEAD_CHARS + 1];
    if (gateway->audit == NULL)
        return;
    audit_get_state(gateway->audit, &state);
    json_key(writer, SLICE("audit"));
    json_object_begin(writer);
    json_kv_string(writer, SLICE("mode"),
                   audit_mode(gateway->audit) == AUDIT_REQUIRED ? SLICE("required")
                                                                : SLICE("best_effort"));
    json_kv_bool(writer, SLICE("can_write"), state.can_write);
    json_kv_string(writer, SLICE("head"), audit_head_write(&state.signed_head, head));
    json_kv_u64(writer, SLICE("seq"), state.head.seq);
    json_kv_u64(writer, SLICE("lost"), state.n_lost);
    if (state.error[0] != '\0')
        json_kv_string(writer, SLICE("error"), slice_from_cstr(state.error));
    json_object_end(writer);
}

int gateway_write_status(struct gateway *gateway, struct buf *out) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("address"), slice_from_cstr(gateway->address.text));
    json_kv_u64(&writer, SLICE("workers"), gateway->n_workers);
    json_kv_u64(&writer, SLICE("sessions"), atomic_load(&gateway->sessions.count));
    json_kv_u64(&writer, SLICE("connections"), atomic_load(&gateway->peers.count));
    json_kv_u64(&writer, SLICE("waiting"), count_waiting(gateway));
    json_kv_u64(&writer, SLICE("held"), budget_held(&gateway->budget));
    write_issuers(&writer, gateway);
    write_limits(&writer, &gateway->workers[0]);
    write_edit(&writer, gateway);
    write_audit(&writer, gateway);
    write_upstreams(&writer, &gateway->workers[0], NULL, DETAIL_ALL);
    write_left_out(&writer, gateway->workers[0].config);
    json_object_end(&writer);
    return buf_error(out);
}

bool gw_write_ready(struct gw_worker *worker, const struct auth_identity *caller, struct buf *out) {
    struct gateway *gateway = worker->gateway;
    bool is_lost = atomic_load(&gateway->lost_posted);
    bool is_mute = gateway->audit != NULL && audit_mode(gateway->audit) == AUDIT_REQUIRED &&
                   !audit_can_write(gateway->audit);
    const char *status = worker->is_draining ? "draining"
                         : is_lost           ? "lost"
                         : is_mute           ? "cannot record"
                                             : "ready";
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("status"), slice_from_cstr(status));
    write_limits(&writer, worker);
    if (caller != NULL)
        write_audit(&writer, gateway);
    if (caller != NULL)
        write_upstreams(&writer, worker, caller, DETAIL_BRIEF);
    json_object_end(&writer);
    return !worker->is_draining && !is_lost && !is_mute;
}
