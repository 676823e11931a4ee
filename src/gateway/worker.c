/*
 * Workers: a thread, a loop, a listening socket each. Worker 0 is the calling thread; signals,
 * spawners and the end are its business. Ending happens in steps: no new connections, what runs is
 * answered, upstreams stop, loops stop.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/random.h"
#include "io/file.h"
#include "private.h"

enum { HOUSEKEEPING_LEAST_MS = 100, HOUSEKEEPING_MS = 30000 };

static void on_spawner_lost(void *context);

/* Often enough for a session to end soon after its time. */
static uint64_t housekeeping_ms(const struct gateway *gateway) {
    const struct config *config = gateway->workers[0].config;
    uint64_t part = config->session_idle_timeout_ms / 4, lifetime = config->session_lifetime_ms / 4;
    if (config->session_lifetime_ms != 0 && lifetime < part)
        part = lifetime;
    part = part > HOUSEKEEPING_LEAST_MS ? part : HOUSEKEEPING_LEAST_MS;
    return part < HOUSEKEEPING_MS ? part : HOUSEKEEPING_MS;
}

static void renew_subscriptions(void *context, struct gw_session *session) {
    gw_subscriptions_renew(context, session);
}

static void expire_replays(void *context, struct gw_session *session) {
    const uint64_t *now_ms = context;
    gw_replays_expire(session, *now_ms);
}

/* Nothing runs: what a rush has left with the allocator goes back to the system. */
static void on_housekeeping(void *context) {
    struct gw_worker *worker = context;
    struct gateway *gateway = worker->gateway;
    uint64_t now_ms = io_loop_now(worker->loop);
    gw_sessions_expire(gateway, now_ms);
    if (atomic_exchange(&gateway->has_lost_subscriptions, false))
        gw_sessions_each(&gateway->sessions, renew_subscriptions, worker);
    if (atomic_load(&gateway->n_replays) != 0)
        gw_sessions_each(&gateway->sessions, expire_replays, &now_ms);
    gw_directory_tick(gateway);
    if (budget_held(&gateway->budget) == 0 && list_is_empty(&worker->calls))
        mem_trim();
    io_timer_start(worker->housekeeping, housekeeping_ms(gateway));
}

void gw_housekeeping_soon(struct gateway *gateway) {
    struct io_timer *timer = gateway->workers[0].housekeeping;
    if (timer != NULL)
        io_timer_start(timer, housekeeping_ms(gateway));
}

void gw_worker_configure(struct gw_worker *worker) {
    const struct config_limits *configured = &worker->config->limits;
    struct json_limits limits = {.max_depth = (uint32_t)configured->max_json_depth,
                                 .max_keys = (uint32_t)configured->max_json_keys};
    json_reader_set_limits(worker->reader, &limits);
    json_reader_set_limits(worker->second_reader, &limits);
    if (worker->upstreams != NULL)
        upstream_worker_configure(worker->upstreams, worker->config);
}

static int worker_init(struct gw_worker *worker, struct gateway *gateway, size_t index) {
    worker->gateway = gateway;
    worker->config = gateway->config;
    worker->list = NULL;
    worker->index = index;
    worker->listen_fd = worker->health_fd = -1;
    list_init(&worker->connections);
    list_init(&worker->calls);
    list_init(&worker->waiters);
    list_init(&worker->parked);
    map_init(&worker->parked_by_id);
    map_init(&worker->calls_by_serial);
    map_init(&worker->streams);
    gw_views_init(&worker->views);
    buf_init(&worker->scratch, KIB(1));
    buf_init(&worker->frame, KIB(8));
    list_init(&worker->door.lingering);
    list_init(&worker->waits);
    list_init(&worker->authn_waits);
    list_init(&worker->record_waits);
    int error = json_reader_new(&worker->reader);
    if (error == 0)
        error = json_reader_new(&worker->second_reader);
    if (error == 0)
        error = auth_memory_new(&worker->auth_memory);
    if (error == 0) {
        gw_worker_configure(worker);
        error = io_loop_new(&worker->loop);
    }
    if (error == 0) {
        io_loop_set_budget(worker->loop, &gateway->budget);
        gw_door_init(worker);
        gw_shortage_init(worker);
        gw_waits_init(worker);
    }
    if (error == 0 && gateway->limits != NULL)
        error = limits_worker_new(gateway->limits, worker->loop, &worker->limits);
    if (error == 0 && index == 0)
        worker->housekeeping = io_timer_new(worker->loop, on_housekeeping, worker);
    return error;
}

static void worker_deinit(struct gw_worker *worker) {
    io_timer_free(worker->housekeeping);
    gw_door_deinit(worker);
    gw_shortage_deinit(worker);
    gw_waits_deinit(worker);
    worker->limits = limits_worker_free(worker->limits);
    audit_writer_free(worker->audit_writer);
    buf_deinit(&worker->record_begin);
    buf_deinit(&worker->record_end);
    buf_deinit(&worker->client_info);
    buf_deinit(&worker->client_text);
    io_listener_free(worker->listener);
    io_listener_free(worker->health_listener);
    io_fd_close(&worker->listen_fd);
    io_fd_close(&worker->health_fd);
    io_loop_free(worker->loop);
    gw_record_waits_free(worker); /* but those that the trail has told: the loop had them */
    io_tls_unref(worker->tls);
    upstream_list_unref(worker->list);
    json_reader_free(worker->reader);
    json_reader_free(worker->second_reader);
    auth_memory_free(worker->auth_memory);
    map_deinit(&worker->calls_by_serial);
    map_deinit(&worker->parked_by_id);
    map_deinit(&worker->streams);
    buf_deinit(&worker->scratch);
    buf_deinit(&worker->frame);
}

static size_t longest_message(const struct config *config) {
    uint64_t longest = LIMIT_UPSTREAM_MESSAGE;
    for (size_t i = 0; i < config->n_servers; i++)
        longest =
            config->servers[i].max_message > longest ? config->servers[i].max_message : longest;
    return (size_t)longest;
}

/* What clogs a connection, and one answer; or of a batch as many as fit in 64 MiB. */
static size_t write_queue(const struct config *config) {
    uint64_t answer = longest_message(config);
    answer += config->max_request_body + MIB(1); /* as gw_worker_scratch() */
    return LIMIT_UNREAD + (size_t)(answer > MIB(64) ? answer : MIB(64));
}

void gw_make_room(struct gateway *gateway, const struct config *config) {
    size_t message = longest_message(config), queue = write_queue(config);
    if (message > atomic_load(&gateway->max_message))
        atomic_store(&gateway->max_message, message);
    if (queue > atomic_load(&gateway->write_queue))
        atomic_store(&gateway->write_queue, queue);
    atomic_store(&gateway->max_sessions, config->max_sessions);
    atomic_store(&gateway->session_lifetime_ms, config->session_lifetime_ms);
    atomic_store(&gateway->resume_buffer, config->resume_buffer);
}

size_t gateway_count_workers(const struct config *config) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (config->workers != 0)
        return (size_t)config->workers;
    return cores > 0 ? (size_t)cores : 1;
}

int gateway_new(const struct gateway_options *options, struct gateway **ret_gateway) {
    struct gateway *gateway = mem_xalloc(sizeof *gateway);
    gateway->config = config_ref(options->config);
    gateway->log = options->log;
    pthread_mutex_init(&gateway->tls_mutex, NULL);
    pthread_mutex_init(&gateway->policy_mutex, NULL);
    gw_directory_init(gateway);
    gateway->token = options->token;
    gateway->api_token = options->api_token;
    gateway->version = options->version;
    gateway->isolated = options->isolated;
    gateway->plain = options->plain;
    gateway->is_local = options->is_local;
    gateway->audit = options->audit;
    gateway->budget.max = options->config->max_held;
    const struct config_limits *limits = &options->config->limits;
    gw_principals_init(&gateway->principals, (size_t)limits->max_in_flight);
    gateway->own = gw_principal_get(&gateway->principals, config_lets_everybody_in(options->config)
                                                              ? SLICE("anonymous")
                                                              : SLICE("local"));
    if (gateway->own == NULL)
        mem_exhausted(sizeof *gateway->own);
    peers_init(&gateway->peers, (size_t)limits->max_connections,
               (size_t)limits->max_connections_per_address);
    gw_make_room(gateway, options->config);
    gw_sessions_init(&gateway->sessions, options->config->instance);
    gateway->n_workers = gateway_count_workers(options->config);
    gateway->workers = mem_xalloc(gateway->n_workers * sizeof *gateway->workers);
    gw_definitions_init(&gateway->definitions);
    gw_edit_configure(gateway, gateway->config);
    int unread = options->definitions_path != NULL
                     ? gw_definitions_open(&gateway->definitions, options->definitions_path)
                     : 0;
    if (unread != 0)
        log_write(gateway->log, LOG_WARN, "policy",
                  "definitions that were seen before cannot be read: no annotation is trusted",
                  LOG_CSTR("path", options->definitions_path),
                  LOG_CSTR("reason", strerror(-unread)));
    int error =
        gw_hash_key_derive(options->cluster_key, SLICE("cursors of lists"), &gateway->cursor_key);
    if (error == 0)
        error = gw_key_derive(options->cluster_key, SLICE("requestState"), gateway->state_key);
    if (error == 0)
        error = gw_key_derive(options->cluster_key, SLICE("ids of tasks"), gateway->name_key);
    struct limits_options limits_options = {.log = options->log, .n_workers = gateway->n_workers};
    if (error == 0 && !gateway->is_local)
        error = limits_new(&limits_options, &gateway->limits);
    gateway->loops = mem_xalloc(gateway->n_workers * sizeof *gateway->loops);
    for (size_t i = 0; i < gateway->n_workers && error == 0; i++) {
        error = worker_init(&gateway->workers[i], gateway, i);
        gateway->loops[i] = gateway->workers[i].loop;
    }
    if (error != 0) {
        gateway_free(gateway);
        return error;
    }
    *ret_gateway = gateway;
    return 0;
}

static int start_records(struct gw_worker *worker, const struct gw_generation *generation) {
    struct audit *audit = worker->gateway->audit;
    struct audit_writer_options options = {.redact = generation->redact,
                                           .keys = audit_trail_keys(audit)};
    worker->audit = audit_worker(audit, worker->index);
    worker->record_base = random_u64();
    return audit_writer_new(&options, &worker->audit_writer);
}

int gateway_make_upstreams(struct gateway *gateway, struct io_tls *tls) {
    struct upstream_set_options options = {
        .config = gateway->config,
        .log = gateway->log,
        .loops = gateway->loops,
        .n_loops = gateway->n_workers,
        .tls = tls,
        .isolated = gateway->isolated,
        .plain = gateway->plain,
        .version = gateway->version,
        .hooks = {.context = gateway,
                  .on_changed = gw_notify_changed,
                  .on_log = gw_notify_log,
                  .on_task_status = gw_notify_task_status,
                  .on_spawner_lost = on_spawner_lost,
                  .on_token = gw_record_token},
    };
    gateway->client_tls = tls != NULL ? io_tls_ref(tls) : NULL;
    int error = gw_generation_new(gateway, gateway->config, NULL, &gateway->generation);
    if (error == 0)
        gw_policy_adopt(gateway, gateway->generation->policy);
    for (size_t i = 0; i < gateway->n_workers && error == 0 && gateway->audit != NULL; i++)
        error = start_records(&gateway->workers[i], gateway->generation);
    for (size_t i = 0; i < gateway->n_workers && error == 0; i++)
        gw_worker_adopt(&gateway->workers[i], gateway->generation);
    if (error == 0)
        error = upstream_set_new(&options, &gateway->upstreams);
    for (size_t i = 0; i < gateway->n_workers && error == 0; i++) {
        gateway->workers[i].upstreams = upstream_set_worker(gateway->upstreams, i);
        gateway->workers[i].list = upstream_set_list(gateway->upstreams);
    }
    if (error == 0)
        gateway->has_instances_of_sessions = upstream_list_has_sessions(gateway->workers[0].list);
    return error;
}

struct gateway *gateway_free(struct gateway *gateway) {
    if (gateway == NULL)
        return NULL;
    for (size_t i = 0; i < gateway->n_workers; i++) {
        gateway->workers[i].audit = NULL; /* it was closed before */
        gw_views_drop_all(&gateway->workers[i].views);
    }
    gw_reload_abandon(gateway);
    upstream_set_free(gateway->upstreams);
    gw_generation_free(gateway->generation); /* what it fetches is on a loop */
    gw_edit_deinit(gateway);
    gw_notes_free(gateway);
    gw_directory_free(gateway);
    for (size_t i = 0; i < gateway->n_workers; i++)
        worker_deinit(&gateway->workers[i]);
    gw_reload_free(gateway);
    limits_free(gateway->limits);
    gw_definitions_deinit(&gateway->definitions);
    gw_sessions_deinit(&gateway->sessions);
    peers_deinit(&gateway->peers);
    gw_principal_unref(gateway->own);
    gw_principals_deinit(&gateway->principals);
    io_tls_unref(gateway->client_tls);
    io_tls_unref(gateway->tls);
    pthread_mutex_destroy(&gateway->tls_mutex);
    gw_policy_unref(gateway->policy);
    pthread_mutex_destroy(&gateway->policy_mutex);
    config_unref(gateway->config);
    mem_free(gateway->workers);
    mem_free(gateway->loops);
    mem_free(gateway);
    return NULL;
}

/* On worker 0 alone: who asks for health comes seldom. */
static int listen_for_health(struct gateway *gateway) {
    struct slice text = gateway->config->health_listen;
    if (text.len == 0 || !gateway->config->health_enabled)
        return 0;
    int error = io_address_parse(text, &gateway->health_address);
    if (error == 0)
        error = io_listen_socket(&gateway->health_address, true, &gateway->workers[0].health_fd);
    if (error == 0)
        log_write(gateway->log, LOG_INFO, "gateway", "listening for health checks",
                  LOG_CSTR("health_address", gateway->health_address.text));
    return error;
}

int gateway_listen(struct gateway *gateway, struct slice *ret_address) {
    *ret_address = gateway->config->listen_address;
    int error = io_address_parse(gateway->config->listen_address, &gateway->address);
    if (error != 0)
        return error;
    gw_door_open(gateway);
    for (size_t i = 0; i < gateway->n_workers && error == 0; i++)
        error = io_listen_socket(&gateway->address, i == 0, &gateway->workers[i].listen_fd);
    if (error != 0)
        return error;
    *ret_address = gateway->config->health_listen;
    return listen_for_health(gateway);
}

void gateway_open_inside(struct gateway *gateway) {
    gateway->is_inside = true;
    gw_door_open(gateway);
}

int gateway_connect(void *context) {
    struct gateway *gateway = context;
    struct network loopback;
    int fds[2];
    if (!network_parse_address(SLICE("127.0.0.1"), &loopback) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        return -errno;
    gw_door_enter(&gateway->workers[0], fds[0], &loopback);
    return fds[1];
}

static void adopt_tls(struct gw_worker *worker) {
    struct gateway *gateway = worker->gateway;
    pthread_mutex_lock(&gateway->tls_mutex);
    struct io_tls *tls = io_tls_ref(gateway->tls);
    pthread_mutex_unlock(&gateway->tls_mutex);
    io_tls_unref(worker->tls);
    worker->tls = tls;
    worker->tls_number++;
}

static void deliver_tls(struct io_message *message) {
    struct gw_worker *worker = CONTAINER_OF(message, struct gw_worker, tls_message);
    atomic_store(&worker->tls_posted, false);
    adopt_tls(worker);
    gw_opening_recheck(worker);
}

void gateway_set_tls(struct gateway *gateway, struct io_tls *tls) {
    struct io_tls *old = gateway->tls;
    pthread_mutex_lock(&gateway->tls_mutex);
    gateway->tls = io_tls_ref(tls);
    pthread_mutex_unlock(&gateway->tls_mutex);
    io_tls_unref(old);
    for (size_t i = 0; i < gateway->n_workers; i++) {
        struct gw_worker *worker = &gateway->workers[i];
        if (!gateway->is_running) {
            adopt_tls(worker);
        } else if (!atomic_exchange(&worker->tls_posted, true)) {
            worker->tls_message.deliver = deliver_tls;
            io_loop_post(worker->loop, &worker->tls_message);
        }
    }
}

const struct io_address *gateway_address(const struct gateway *gateway) {
    return &gateway->address;
}

struct io_loop *gateway_loop(struct gateway *gateway) {
    return gateway->workers[0].loop;
}

struct config *gateway_config(const struct gateway *gateway) {
    return config_ref(gateway->config);
}

void gateway_on_change(struct gateway *gateway, void (*fn)(void *context), void *context) {
    gateway->on_change = fn;
    gateway->change_context = context;
}

/* Running. */

static void *run_worker(void *context) {
    struct gw_worker *worker = context;
    io_loop_run(worker->loop);
    return NULL;
}

/* The upstreams of the principal that will most likely call: so that the first list is there at
 * once. */
void gw_start_upstreams(struct gw_worker *worker, const struct upstream_list *known) {
    struct gateway *gateway = worker->gateway;
    for (size_t i = worker->index; i < upstream_list_count(worker->list); i += gateway->n_workers) {
        struct upstream *upstream = upstream_list_at(worker->list, i);
        bool is_known =
            known != NULL && upstream_list_find(known, upstream_name(upstream), NULL) == upstream;
        if (is_known || upstream_config(upstream)->share == CONFIG_SHARE_SESSION)
            continue;
        struct upstream_owner owner = {.principal = gateway->own->id};
        struct upstream_instance *instance = NULL;
        if (upstream_get(upstream, &owner, worker->upstreams, &instance) == 0)
            upstream_instance_start(instance);
        upstream_instance_unref(instance);
    }
}

static int start_listener(struct gw_worker *worker, int *fd, io_accept_fn *enter,
                          struct io_listener **ret_listener) {
    int taken = *fd;
    if (taken < 0)
        return 0;
    *fd = -1;
    int error = io_listener_new(worker->loop, taken, enter, worker, ret_listener);
    if (error == 0)
        io_listener_on_full(*ret_listener, gw_shortage_of_descriptors);
    return error;
}

static int start_listening(struct gw_worker *worker) {
    int error = start_listener(worker, &worker->listen_fd, gw_door_enter, &worker->listener);
    if (error == 0)
        error = start_listener(worker, &worker->health_fd, gw_door_enter_health,
                               &worker->health_listener);
    return error;
}

int gateway_run(struct gateway *gateway) {
    int error = 0;
    gateway->is_running = true;
    for (size_t i = 0; i < gateway->n_workers; i++)
        gw_start_upstreams(&gateway->workers[i], NULL);
    if (gateway->generation->oauth != NULL)
        oauth_start(gateway->generation->oauth);
    io_timer_start(gateway->workers[0].housekeeping, housekeeping_ms(gateway));
    for (size_t i = 0; i < gateway->n_workers && error == 0; i++)
        error = start_listening(&gateway->workers[i]);
    for (size_t i = 1; i < gateway->n_workers && error == 0; i++) {
        struct gw_worker *worker = &gateway->workers[i];
        error = -pthread_create(&worker->thread, NULL, run_worker, worker);
        worker->has_thread = error == 0;
    }
    if (error != 0)
        gateway->result = error; /* started threads are still told to end */
    if (error == 0)
        io_loop_run(gateway->workers[0].loop);
    for (size_t i = 1; i < gateway->n_workers; i++) {
        if (!gateway->workers[i].has_thread)
            continue;
        io_loop_stop(gateway->workers[i].loop);
        pthread_join(gateway->workers[i].thread, NULL);
    }
    return gateway->result;
}

/* Ending. */

static void on_upstreams_stopped(void *context) {
    struct gateway *gateway = context;
    for (size_t i = 0; i < gateway->n_workers; i++)
        io_loop_stop(gateway->workers[i].loop);
}

static void end_worker(struct gw_worker *worker) {
    worker->is_ended = true;
    gw_parked_drop(worker, true);
    LIST_FOREACH_SAFE (&worker->calls, link, tmp)
        gw_call_cancel(worker, CONTAINER_OF(link, struct gw_call, link)->serial,
                       SLICE("the gateway stops"));
    LIST_FOREACH_SAFE (&worker->connections, link, tmp)
        gw_connection_free(CONTAINER_OF(link, struct gw_connection, link));
}

static void deliver_drained(struct io_message *message) {
    struct gateway *gateway = CONTAINER_OF(message, struct gateway, drained_message);
    if (gateway->upstreams_stopping)
        return;
    gateway->upstreams_stopping = true;
    gw_directory_stop(gateway);
    gateway->drain_timer = io_timer_free(gateway->drain_timer);
    gateway->workers[0].housekeeping = io_timer_free(gateway->workers[0].housekeeping);
    upstream_set_stop(gateway->upstreams, on_upstreams_stopped, gateway);
    if (gateway->is_hurried)
        upstream_set_kill(gateway->upstreams);
}

static void deliver_end(struct io_message *message) {
    end_worker(CONTAINER_OF(message, struct gw_worker, end_message));
}

/* Serving is over on every worker, in time or not. */
static void end_now(struct gateway *gateway) {
    for (size_t i = 0; i < gateway->n_workers; i++) {
        struct gw_worker *worker = &gateway->workers[i];
        if (worker->end_message.deliver != NULL)
            continue; /* told already */
        worker->end_message.deliver = deliver_end;
        io_loop_post(worker->loop, &worker->end_message);
    }
}

void gw_worker_check_drained(struct gw_worker *worker) {
    struct gateway *gateway = worker->gateway;
    if (!worker->is_draining || worker->n_connections != 0 || !list_is_empty(&worker->calls) ||
        !list_is_empty(&worker->parked))
        return;
    worker->is_draining = false; /* counted once */
    worker->is_ended = true;
    if (atomic_fetch_sub(&gateway->n_undrained, 1) != 1)
        return;
    gateway->drained_message.deliver = deliver_drained;
    io_loop_post(gateway->workers[0].loop, &gateway->drained_message);
}

static void deliver_drain(struct io_message *message) {
    struct gw_worker *worker = CONTAINER_OF(message, struct gw_worker, drain_message);
    worker->is_draining = true;
    io_listener_accept_rest(worker->listener); /* who got in before us may have asked already */
    worker->listener = io_listener_free(worker->listener);
    worker->health_listener = io_listener_free(worker->health_listener);
    size_t cursor = 0;
    void *stream = NULL;
    while (map_next(&worker->streams, &cursor, NULL, &stream)) {
        gw_exchange_drain_stream(stream); /* and takes it out, which the cursor survives */
    }
    LIST_FOREACH_SAFE (&worker->connections, link, tmp)
        gw_connection_drain(CONTAINER_OF(link, struct gw_connection, link));
    gw_parked_drop(worker, false);
    LIST_FOREACH_SAFE (&worker->calls, link, tmp) {
        struct gw_call *call = CONTAINER_OF(link, struct gw_call, link);
        if (!gw_exchange_is_followed(call->exchange))
            gw_call_cancel(worker, call->serial, SLICE("the gateway stops"));
    }
    gw_worker_check_drained(worker);
}

static void on_drain_timeout(void *context) {
    end_now(context);
}

void gateway_stop(struct gateway *gateway) {
    if (gateway->is_stopping) {
        log_write(gateway->log, LOG_WARN, "gateway", "stops at once");
        gateway->is_hurried = true;
        end_now(gateway);
        if (gateway->upstreams_stopping)
            upstream_set_kill(gateway->upstreams);
        return;
    }
    gateway->is_stopping = true;
    log_write(gateway->log, LOG_INFO, "gateway", "draining");
    atomic_store(&gateway->n_undrained, gateway->n_workers);
    gateway->drain_timer = io_timer_new(gateway->workers[0].loop, on_drain_timeout, gateway);
    io_timer_start(gateway->drain_timer, gateway->workers[0].config->shutdown_timeout_ms);
    for (size_t i = 0; i < gateway->n_workers; i++) {
        struct gw_worker *worker = &gateway->workers[i];
        worker->drain_message.deliver = deliver_drain;
        io_loop_post(worker->loop, &worker->drain_message);
    }
}

static void deliver_lost(struct io_message *message) {
    struct gateway *gateway = CONTAINER_OF(message, struct gateway, lost_message);
    log_write(gateway->log, LOG_ERROR, "gateway",
              "the spawner is gone, and all children with it: the gateway ends; start it again");
    gateway->result = -EPIPE;
    if (!gateway->is_stopping)
        gateway_stop(gateway);
    end_now(gateway);
}

static void on_spawner_lost(void *context) {
    struct gateway *gateway = context;
    if (atomic_exchange(&gateway->lost_posted, true))
        return;
    gateway->lost_message.deliver = deliver_lost;
    io_loop_post(gateway->workers[0].loop, &gateway->lost_message);
}
