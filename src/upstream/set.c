#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "set_private.h"

static void on_spawner_lost(void *context) {
    struct upstream_set *set = context;
    if (set->options.hooks.on_spawner_lost != NULL && !atomic_load(&set->is_stopping))
        set->options.hooks.on_spawner_lost(set->options.hooks.context);
}

int upstream_set_new(const struct upstream_set_options *options, struct upstream_set **ret_set) {
    const struct config *config = options->config;
    struct upstream_set *set = mem_xalloc(sizeof *set);
    set->options = *options;
    int error = children_new(options->loop, options->isolated, options->plain, on_spawner_lost, set,
                             &set->children);
    if (error != 0) {
        mem_free(set);
        return error;
    }
    set->upstreams = mem_xalloc(config->n_servers * sizeof *set->upstreams);
    set->n_upstreams = config->n_servers;
    for (size_t i = 0; i < set->n_upstreams; i++) {
        struct upstream *upstream = mem_xalloc(sizeof *upstream);
        upstream->set = set;
        upstream->config = &config->servers[i];
        upstream->index = i;
        pthread_mutex_init(&upstream->mutex, NULL);
        map_init(&upstream->instances);
        set->upstreams[i] = upstream;
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
    io_loop_post(set->options.loop, &set->stopped_message);
}

void set_instance_closed(struct upstream_set *set) {
    atomic_fetch_sub(&set->n_open, 1);
    check_stopped(set);
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
    set_instance_closed(set);
}

struct upstream_set *upstream_set_free(struct upstream_set *set) {
    if (set == NULL)
        return NULL;
    for (size_t i = 0; i < set->n_upstreams; i++) {
        struct upstream *upstream = set->upstreams[i];
        size_t cursor = 0;
        void *instance = NULL;
        while (map_next(&upstream->instances, &cursor, NULL, &instance))
            upstream_instance_unref(instance);
        map_deinit(&upstream->instances);
        pthread_mutex_destroy(&upstream->mutex);
        mem_free(upstream);
    }
    mem_free(set->upstreams);
    children_free(set->children);
    mem_free(set);
    return NULL;
}

size_t upstream_set_count(const struct upstream_set *set) {
    return set->n_upstreams;
}

struct upstream *upstream_set_at(const struct upstream_set *set, size_t index) {
    return set->upstreams[index];
}

struct upstream *upstream_set_find(const struct upstream_set *set, struct slice name) {
    for (size_t i = 0; i < set->n_upstreams; i++) {
        if (slice_eq(set->upstreams[i]->config->name, name))
            return set->upstreams[i];
    }
    return NULL;
}

struct slice upstream_name(const struct upstream *upstream) {
    return upstream->config->name;
}

const struct config_server *upstream_config(const struct upstream *upstream) {
    return upstream->config;
}

static struct slice owner_of(const struct upstream *upstream, struct slice principal,
                             struct slice session) {
    switch (upstream->config->share) {
    case CONFIG_SHARE_PRINCIPAL:
        return principal;
    case CONFIG_SHARE_SESSION:
        return session;
    case CONFIG_SHARE_ALL:
        break;
    }
    return SLICE_EMPTY;
}

struct upstream_instance *upstream_get(struct upstream *upstream, struct slice principal,
                                       struct slice session, struct io_loop *loop) {
    struct slice owner = owner_of(upstream, principal, session);
    struct upstream_set *set = upstream->set;
    pthread_mutex_lock(&upstream->mutex);
    struct upstream_instance *instance = map_get(&upstream->instances, owner);
    if (instance == NULL && !atomic_load(&set->is_stopping)) {
        instance = instance_new(upstream, owner, loop);
        if (map_set(&upstream->instances, owner, instance) != 0)
            mem_exhausted(owner.len);
        atomic_fetch_add(&set->n_open, 1);
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
