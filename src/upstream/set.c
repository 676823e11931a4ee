#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/secret.h"
#include "fields.h"
#include "private.h"

static void on_spawner_lost(void *context) {
    struct upstream_set *set = context;
    if (set->options.hooks.on_spawner_lost != NULL && !atomic_load(&set->is_stopping))
        set->options.hooks.on_spawner_lost(set->options.hooks.context);
}

/* Where an HTTP server is, and what every request to it says. */
static int make_target(struct upstream_set *set, struct upstream *upstream) {
    const struct config_server *server = upstream->config;
    struct client_target_options options = {.url = server->url, .proxy = server->proxy};
    const char *reason = "";
    int error = client_target_new(&options, &upstream->target, &reason);
    if (error != 0) {
        log_write(set->options.log, LOG_ERROR, "upstream", "its url or proxy cannot be used",
                  LOG_TEXT("upstream", server->name), LOG_CSTR("reason", reason));
        return error < 0 ? error : -EINVAL;
    }
    struct slice proxy = client_target_proxy(upstream->target);
    if (proxy.len != 0)
        log_write(set->options.log, LOG_INFO, "upstream", "is reached through a proxy",
                  LOG_TEXT("upstream", server->name), LOG_TEXT("proxy", proxy));
    buf_init(&upstream->fields, LIMIT_HTTP_HEADER_BLOCK);
    snprintf(upstream->agent, sizeof upstream->agent, "cardea/%.*s",
             SLICE_ARGS(set->options.version));
    error = upstream_write_fields(upstream, &upstream->fields, NULL, NULL);
    if (error == 0)
        error = buf_error(&upstream->fields);
    if (error != 0) {
        log_write(set->options.log, LOG_ERROR, "upstream",
                  "its header rules make more than 32 KiB of fields",
                  LOG_TEXT("upstream", server->name));
        return error;
    }
    upstream->rule_fields = buf_slice(&upstream->fields);
    upstream->wants_caller_fields = fields_want_caller(set->options.config, server);
    return 0;
}

bool upstream_wants_caller_fields(const struct upstream *upstream) {
    return upstream->wants_caller_fields;
}

int upstream_write_fields(const struct upstream *upstream, struct buf *out,
                          upstream_caller_field *caller, void *context) {
    return fields_write(out, upstream->set->options.config, upstream->config,
                        slice_from_cstr(upstream->agent), caller, context);
}

int upstream_set_new(const struct upstream_set_options *options, struct upstream_set **ret_set) {
    const struct config *config = options->config;
    struct upstream_set *set = mem_xalloc(sizeof *set);
    set->options = *options;
    set->options.tls = options->tls != NULL ? io_tls_ref(options->tls) : NULL;
    set->gateway = (struct mcp_implementation){SLICE("cardea"), options->version};
    pthread_mutex_init(&set->open_mutex, NULL);
    list_init(&set->open);
    set->workers = mem_xalloc(options->n_loops * sizeof *set->workers);
    int error = children_new(options->loops[0], options->isolated, options->plain, on_spawner_lost,
                             set, &set->children);
    for (size_t i = 0; i < options->n_loops && error == 0; i++)
        error = upstream_worker_init(&set->workers[i], set, options->loops[i]);
    if (error != 0) {
        upstream_set_free(set);
        return error;
    }
    map_init(&set->by_name);
    set->upstreams = mem_xalloc(config->n_servers * sizeof *set->upstreams);
    set->n_upstreams = config->n_servers;
    for (size_t i = 0; i < set->n_upstreams; i++) {
        struct upstream *upstream = mem_xalloc(sizeof *upstream);
        upstream->set = set;
        upstream->config = &config->servers[i];
        upstream->index = i;
        pthread_mutex_init(&upstream->mutex, NULL);
        map_init(&upstream->instances);
        upstream_permits_init(upstream);
        if (map_set(&set->by_name, upstream->config->name, upstream) != 0)
            mem_exhausted(sizeof *upstream);
        set->upstreams[i] = upstream;
        if (error == 0 && upstream->config->url.len != 0)
            error = make_target(set, upstream);
    }
    if (error != 0) {
        upstream_set_free(set);
        return error;
    }
    *ret_set = set;
    return 0;
}

static void deliver_stopped(struct io_message *message) {
    struct upstream_set *set = CONTAINER_OF(message, struct upstream_set, stopped_message);
    set->on_stopped(set->stop_context);
}

static void check_stopped(struct upstream_set *set) {
    if (!atomic_load(&set->is_stopping) || atomic_load(&set->n_open) != 0 ||
        atomic_exchange(&set->stopped_sent, true))
        return;
    set->stopped_message.deliver = deliver_stopped;
    io_loop_post(set->options.loops[0], &set->stopped_message);
}

static void hold_open(struct upstream_set *set, struct upstream_instance *instance) {
    atomic_fetch_add(&set->n_open, 1);
    pthread_mutex_lock(&set->open_mutex);
    list_push_back(&set->open, &instance->open_link);
    pthread_mutex_unlock(&set->open_mutex);
}

static void let_go(struct upstream_set *set) {
    atomic_fetch_sub(&set->n_open, 1);
    check_stopped(set);
}

void set_instance_closed(struct upstream_set *set, struct upstream_instance *instance) {
    pthread_mutex_lock(&set->open_mutex);
    list_remove(&instance->open_link);
    pthread_mutex_unlock(&set->open_mutex);
    let_go(set);
}

void upstream_set_stop(struct upstream_set *set, void (*on_stopped)(void *context), void *context) {
    set->on_stopped = on_stopped;
    set->stop_context = context;
    /* Held open while the instances are told, so that the last one cannot be counted too early. */
    atomic_fetch_add(&set->n_open, 1);
    atomic_store(&set->is_stopping, true);
    for (size_t i = 0; i < set->n_upstreams; i++) {
        struct upstream *upstream = set->upstreams[i];
        size_t cursor = 0;
        void *instance = NULL;
        pthread_mutex_lock(&upstream->mutex);
        while (map_next(&upstream->instances, &cursor, NULL, &instance))
            instance_close(instance);
        pthread_mutex_unlock(&upstream->mutex);
    }
    let_go(set);
}

void upstream_set_kill(struct upstream_set *set) {
    pthread_mutex_lock(&set->open_mutex);
    LIST_FOREACH_SAFE (&set->open, link, tmp)
        instance_kill(CONTAINER_OF(link, struct upstream_instance, open_link));
    pthread_mutex_unlock(&set->open_mutex);
}

struct upstream_set *upstream_set_free(struct upstream_set *set) {
    if (set == NULL)
        return NULL;
    for (size_t i = 0; i < set->n_upstreams && set->upstreams[i] != NULL; i++) {
        struct upstream *upstream = set->upstreams[i];
        size_t cursor = 0;
        void *instance = NULL;
        while (map_next(&upstream->instances, &cursor, NULL, &instance))
            upstream_instance_unref(instance);
        map_deinit(&upstream->instances);
    }
    for (size_t i = 0; set->workers != NULL && i < set->options.n_loops; i++)
        upstream_worker_deinit(&set->workers[i]);
    for (size_t i = 0; i < set->n_upstreams && set->upstreams[i] != NULL; i++) {
        struct upstream *upstream = set->upstreams[i];
        client_target_free(upstream->target);
        if (upstream->fields.data != NULL)
            secret_wipe(upstream->fields.data, upstream->fields.cap);
        buf_deinit(&upstream->fields);
        pthread_mutex_destroy(&upstream->mutex);
        mem_free(upstream);
    }
    map_deinit(&set->by_name);
    mem_free(set->workers);
    mem_free(set->upstreams);
    children_free(set->children);
    pthread_mutex_destroy(&set->open_mutex);
    io_tls_unref(set->options.tls);
    mem_free(set);
    return NULL;
}

struct upstream_worker *upstream_set_worker(struct upstream_set *set, size_t index) {
    return &set->workers[index];
}

size_t upstream_set_count(const struct upstream_set *set) {
    return set->n_upstreams;
}

struct upstream *upstream_set_at(const struct upstream_set *set, size_t index) {
    return set->upstreams[index];
}

struct upstream *upstream_set_find(const struct upstream_set *set, struct slice name) {
    return map_get(&set->by_name, name);
}

size_t upstream_index(const struct upstream *upstream) {
    return upstream->index;
}

uint64_t upstream_set_generation(const struct upstream_set *set) {
    return atomic_load(&set->generation);
}

struct slice upstream_name(const struct upstream *upstream) {
    return upstream->config->name;
}

const struct config_server *upstream_config(const struct upstream *upstream) {
    return upstream->config;
}

/*
 * Clients of 2026-07-28 have no session. Where each session has an instance of its own, those of
 * one principal share one, under a name that no session id has (put together in `text`).
 */
static struct slice owner_of(const struct upstream *upstream, struct slice principal,
                             struct slice session, struct buf *text) {
    switch (upstream->config->share) {
    case CONFIG_SHARE_PRINCIPAL:
        return principal;
    case CONFIG_SHARE_SESSION:
        if (session.len != 0)
            return session;
        buf_append_cstr(text, "principal:");
        (void)!buf_append(text, principal); /* the caller looks */
        return buf_slice(text);
    case CONFIG_SHARE_ALL:
        break;
    }
    return SLICE_EMPTY;
}

struct upstream_instance *upstream_get(struct upstream *upstream, struct slice principal,
                                       struct slice session, struct upstream_worker *worker) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    struct slice owner = owner_of(upstream, principal, session, &text);
    struct upstream_set *set = upstream->set;
    pthread_mutex_lock(&upstream->mutex);
    struct upstream_instance *instance = map_get(&upstream->instances, owner);
    if (instance == NULL && !atomic_load(&set->is_stopping) && buf_error(&text) == 0) {
        instance = instance_new(upstream, owner, worker);
        if (instance != NULL && map_set(&upstream->instances, owner, instance) != 0)
            instance = instance_discard(instance);
        if (instance != NULL)
            hold_open(set, instance);
    }
    if (instance != NULL)
        instance_ref(instance);
    pthread_mutex_unlock(&upstream->mutex);
    return instance;
}

void upstream_set_forget_session(struct upstream_set *set, struct slice session) {
    for (size_t i = 0; i < set->n_upstreams; i++) {
        struct upstream *upstream = set->upstreams[i];
        if (upstream->config->share != CONFIG_SHARE_SESSION)
            continue;
        pthread_mutex_lock(&upstream->mutex);
        struct upstream_instance *instance = map_remove(&upstream->instances, session);
        if (instance != NULL)
            upstream_note_change(upstream);
        pthread_mutex_unlock(&upstream->mutex);
        if (instance != NULL)
            instance_close(instance);
        upstream_instance_unref(instance);
    }
}

void upstream_instance_status(struct upstream_instance *instance,
                              struct upstream_status *ret_status) {
    pthread_mutex_lock(&instance->upstream->mutex);
    *ret_status = (struct upstream_status){
        .state = instance->state,
        .is_listed = instance->is_listed,
        .is_first_start = instance->is_first_start,
        .first_started_ms = instance->first_started_ms,
        .catalog = instance->catalog != NULL ? catalog_ref(instance->catalog) : NULL,
    };
    memcpy(ret_status->lists, instance->lists, sizeof ret_status->lists);
    memcpy(ret_status->error, instance->error, sizeof ret_status->error);
    pthread_mutex_unlock(&instance->upstream->mutex);
}

const char *upstream_state_name(enum upstream_state state) {
    static const char *const names[] = {
        [UPSTREAM_IDLE] = "idle",    [UPSTREAM_STARTING] = "starting", [UPSTREAM_READY] = "ready",
        [UPSTREAM_BACKOFF] = "down", [UPSTREAM_STOPPING] = "stopping", [UPSTREAM_CLOSED] = "closed",
    };
    return names[state];
}

uint64_t upstream_next_id(struct upstream_set *set) {
    return atomic_fetch_add(&set->last_id, 1) + 1;
}
