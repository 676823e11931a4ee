/*
 * Trying an upstream: a connection of its own, with all that a gateway does before its tools are
 * listed, and what came of it. What needs no process of its own is tried by a little gateway beside
 * the one that serves, on a thread of the caller's; a program runs in the one that serves or not at
 * all.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/mem.h"
#include "private.h"

enum { LOOK_MS = 20, END_MS = 1000 };

static const char *what_it_lacks(const struct upstream *upstream) {
    switch (upstream_config(upstream)->auth_type) {
    case CONFIG_UPSTREAM_AUTH_FORWARD:
    case CONFIG_UPSTREAM_AUTH_EXCHANGE:
        return "it is opened by callers' tokens only (auth.type), so nobody else can try it";
    case CONFIG_UPSTREAM_AUTH_CLIENT:
    case CONFIG_UPSTREAM_AUTH_TOKEN:
        break;
    }
    return NULL;
}

static void write_found(struct json_writer *writer, const struct catalog *catalog) {
    json_kv_string(writer, SLICE("revision"), mcp_revision_name(catalog->revision));
    json_key(writer, SLICE("server"));
    json_object_begin(writer);
    json_kv_string(writer, SLICE("name"), catalog->server_name);
    json_kv_string(writer, SLICE("version"), catalog->server_version);
    json_object_end(writer);
    json_kv_u64(writer, SLICE("n_tools"), catalog->lists[MCP_LIST_TOOLS]->n_items);
}

/* `reason`: why it failed; NULL: it did not. */
static void write_outcome(struct buf *out, const struct upstream_status *status, const char *reason,
                          uint64_t since_ms) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_bool(&writer, SLICE("ok"), reason == NULL);
    if (reason != NULL)
        json_kv_string(&writer, SLICE("reason"), slice_from_cstr(reason));
    if (status->catalog != NULL && reason == NULL)
        write_found(&writer, status->catalog);
    json_kv_u64(&writer, SLICE("duration_ms"), clock_monotonic_ms() - since_ms);
    json_object_end(&writer);
}

/* True: it came to an end, which was written. */
static bool look(struct gw_worker *worker, struct upstream *upstream, uint64_t since_ms,
                 bool is_over, struct buf *out) {
    struct upstream_instance *instance = NULL;
    struct upstream_status status = {.state = UPSTREAM_IDLE};
    const char *reason = what_it_lacks(upstream);
    struct upstream_owner owner = {.principal = worker->gateway->own->id};
    int error = upstream_get(upstream, &owner, worker->upstreams, &instance);
    if (error == 0)
        upstream_instance_status(instance, &status);
    bool is_ready = status.state == UPSTREAM_READY && status.is_listed;
    bool is_down = status.state == UPSTREAM_BACKOFF;
    if (error != 0)
        reason = "the gateway has no room for it, or is stopping";
    else if (reason == NULL && is_down)
        reason = status.error[0] != '\0' ? status.error : "it does not answer as an MCP server";
    else if (reason == NULL && !is_ready && is_over)
        reason = "it did not answer in time";
    if (reason == NULL && !is_ready && instance != NULL)
        upstream_instance_start(instance);
    bool is_done = reason != NULL || is_ready;
    if (is_done)
        write_outcome(out, &status, reason, since_ms);
    catalog_unref(status.catalog);
    upstream_instance_unref(instance);
    return is_done;
}

int gateway_look_at_upstream(struct gateway *gateway, struct slice name, uint64_t since_ms,
                             bool is_over, struct buf *out) {
    struct gw_worker *worker = &gateway->workers[0];
    struct upstream *upstream = upstream_list_find(worker->list, name, NULL);
    if (upstream == NULL)
        return -ENOENT;
    (void)look(worker, upstream, since_ms, is_over, out);
    return buf_error(out);
}

/* --- beside the gateway that serves --- */

struct trial {
    struct gateway *gateway;
    const atomic_bool *gives_up;
    struct io_timer *timer;
    uint64_t since_ms, most_ms;
    bool is_done;
    struct buf *out;
};

static void on_look(void *context) {
    struct trial *trial = context;
    struct gw_worker *worker = &trial->gateway->workers[0];
    if (trial->is_done) { /* the server does not take the end of its session */
        gateway_stop(trial->gateway);
        return;
    }
    bool is_over = clock_monotonic_ms() - trial->since_ms >= trial->most_ms ||
                   (trial->gives_up != NULL && atomic_load(trial->gives_up));
    trial->is_done =
        look(worker, upstream_list_at(worker->list, 0), trial->since_ms, is_over, trial->out);
    io_timer_start(trial->timer, trial->is_done ? END_MS : LOOK_MS);
    if (trial->is_done)
        gateway_stop(trial->gateway);
}

static int run(struct trial *trial, struct config *config) {
    struct io_tls *tls = NULL;
    struct io_tls_client_options options = {
        .use_system_roots = true,
        .is_lazy = !slice_starts_with_nocase(config->servers[0].url, SLICE("https:"))};
    int error = io_tls_client_new(&options, &tls);
    if (error == 0)
        error = gateway_make_upstreams(trial->gateway, tls);
    io_tls_unref(tls);
    if (error != 0)
        return error;
    trial->timer = io_timer_new(gateway_loop(trial->gateway), on_look, trial);
    io_timer_start(trial->timer, LOOK_MS);
    error = gateway_run(trial->gateway);
    io_timer_free(trial->timer);
    return error;
}

int gateway_try(struct config *config, struct slice version, uint64_t most_ms,
                const atomic_bool *gives_up, struct buf *out) {
    struct trial trial = {
        .gives_up = gives_up, .since_ms = clock_monotonic_ms(), .most_ms = most_ms, .out = out};
    struct log *log = log_new(-1, LOG_OFF, LOG_STYLE_TEXT);
    struct gateway_options options = {
        .config = config, .log = log, .version = version, .is_local = true};
    config->workers = 1;
    config->shutdown_timeout_ms = 0;
    int error = config->n_servers == 1 && config->servers[0].n_cmd == 0 ? 0 : -EINVAL;
    if (error == 0)
        error = gateway_new(&options, &trial.gateway);
    if (error == 0)
        error = run(&trial, config);
    gateway_free(trial.gateway);
    log_free(log);
    return error != 0 ? error : buf_error(out);
}
