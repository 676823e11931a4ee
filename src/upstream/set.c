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

/*
 * Of [mcp.servers.NAME.tls]. It loads at once, on a thread of its own: what it reads is what the
 * files say when the gateway starts or takes a new configuration over.
 */
static int make_tls(const struct config_server *server, struct io_tls **ret_tls) {
    const struct config_upstream_tls *tls = &server->tls;
    if (!tls->is_set)
        return 0;
    /* All of them NUL-terminated: the loader's strings are. */
    struct io_tls_client_options options = {
        .use_system_roots = true,
        .ca_file = tls->ca_bundle.ptr,
        .cert_file = tls->client_cert.ptr,
        .key_file = tls->client_key.ptr,
        .accept_invalid_hostnames = tls->accept_invalid_hostnames,
        .accept_anything = !tls->verify_certs,
    };
    return io_tls_client_new(&options, ret_tls);
}

/* Both addresses of HTTP+SSE, where it has two. */
static int make_client_targets(struct upstream *upstream, const char **ret_reason) {
    const struct config_server *server = upstream->config;
    struct io_tls *tls = NULL;
    int error = make_tls(server, &tls);
    if (error != 0)
        return error;
    struct client_target_options options = {.url = server->url, .proxy = server->proxy, .tls = tls};
    if (server->is_stored)
        error = client_rules_for_stored(&options.rules);
    if (error == 0)
        error = client_target_new(&options, &upstream->target, ret_reason);
    options.url = server->message_url;
    if (error == 0 && options.url.len != 0)
        error = client_target_new(&options, &upstream->message_target, ret_reason);
    client_rules_unref(options.rules);
    io_tls_unref(tls);
    return error;
}

/* Where the tokens come from that it is sent. */
static int make_source(struct upstream_set *set, struct upstream *upstream,
                       const char **ret_reason) {
    enum config_upstream_auth type = upstream->config->auth_type;
    if (type != CONFIG_UPSTREAM_AUTH_EXCHANGE && type != CONFIG_UPSTREAM_AUTH_CLIENT)
        return 0;
    int error = oauth_source_new(set->tokens, upstream->all, upstream->config, &upstream->source,
                                 ret_reason);
    if (error == OAUTH_E_SOURCE)
        return -EINVAL;
    if (error < 0 && error != -ENOMEM) {
        *ret_reason = "its auth.client_key_path cannot be read";
        return -EINVAL;
    }
    return error;
}

/* Where an HTTP server is, and what every request to it says. */
static int make_target(struct upstream_set *set, struct upstream *upstream,
                       const char **ret_reason) {
    const struct config_server *server = upstream->config;
    int error = make_client_targets(upstream, ret_reason);
    if (error != 0)
        return error < 0 ? error : -EINVAL;
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
        *ret_reason = "its header rules make more than 32 KiB of fields";
        return error == -ENOMEM ? error : -EINVAL;
    }
    upstream->rule_fields = buf_slice(&upstream->fields);
    upstream->wants_caller_fields = fields_want_caller(upstream->all, server);
    return make_source(set, upstream, ret_reason);
}

bool upstream_wants_caller_fields(const struct upstream *upstream) {
    return upstream->wants_caller_fields;
}

int upstream_write_fields(const struct upstream *upstream, struct buf *out,
                          upstream_caller_field *caller, void *context) {
    return fields_write(out, upstream->all, upstream->config, slice_from_cstr(upstream->agent),
                        caller, context);
}

/* Upstreams. */

struct upstream *upstream_ref(struct upstream *upstream) {
    atomic_fetch_add(&upstream->refs, 1);
    return upstream;
}

struct upstream *upstream_unref(struct upstream *upstream) {
    if (upstream == NULL || atomic_fetch_sub(&upstream->refs, 1) != 1)
        return NULL;
    map_deinit(&upstream->instances);
    client_target_free(upstream->target);
    client_target_free(upstream->message_target);
    oauth_source_unref(upstream->source);
    if (upstream->fields.data != NULL)
        secret_wipe(upstream->fields.data, upstream->fields.cap);
    buf_deinit(&upstream->fields);
    pthread_mutex_destroy(&upstream->mutex);
    config_unref(upstream->all);
    mem_free(upstream);
    return NULL;
}

static int upstream_new(struct upstream_set *set, struct config *config, size_t index,
                        struct upstream **ret_upstream, const char **ret_reason) {
    struct upstream *upstream = mem_alloc(sizeof *upstream);
    if (upstream == NULL)
        return -ENOMEM;
    atomic_init(&upstream->refs, 1);
    upstream->set = set;
    upstream->all = config_ref(config);
    upstream->config = &config->servers[index];
    pthread_mutex_init(&upstream->mutex, NULL);
    map_init(&upstream->instances);
    upstream_permits_init(upstream);
    int error = upstream->config->url.len != 0 ? make_target(set, upstream, ret_reason) : 0;
    if (error != 0)
        upstream_unref(upstream);
    else
        *ret_upstream = upstream;
    return error;
}

/* Lists. */

struct upstream_list *upstream_list_ref(struct upstream_list *list) {
    atomic_fetch_add(&list->refs, 1);
    return list;
}

struct upstream_list *upstream_list_unref(struct upstream_list *list) {
    if (list == NULL || atomic_fetch_sub(&list->refs, 1) != 1)
        return NULL;
    for (size_t i = 0; i < list->n; i++)
        upstream_unref(list->items[i].upstream);
    map_deinit(&list->by_name);
    mem_free(list);
    return NULL;
}

size_t upstream_list_count(const struct upstream_list *list) {
    return list->n;
}

struct upstream *upstream_list_at(const struct upstream_list *list, size_t index) {
    return list->items[index].upstream;
}

bool upstream_list_waits(const struct upstream_list *list, size_t index) {
    return list->items[index].waits;
}

bool upstream_list_has_sessions(const struct upstream_list *list) {
    return list->has_sessions;
}

bool upstream_list_wants_tokens(const struct upstream_list *list) {
    return list->wants_tokens;
}

struct upstream *upstream_list_find(const struct upstream_list *list, struct slice name,
                                    size_t *ret_index) {
    const struct list_item *item = map_get(&list->by_name, name);
    if (item != NULL && ret_index != NULL)
        *ret_index = (size_t)(item - list->items);
    return item != NULL ? item->upstream : NULL;
}

/* All that an upstream takes from a configuration is as it was. */
static bool is_unchanged(const struct upstream *upstream, const struct config *config,
                         const struct config_server *server) {
    const struct config *old = upstream->all;
    return config_server_runs_alike(upstream->config, server) &&
           (upstream->source == NULL || oauth_source_has_rules(upstream->source, config)) &&
           (server->url.len == 0 ||
            config_headers_equal(old->headers, old->n_headers, config->headers, config->n_headers));
}

/* The upstream of the old list that goes on, or a new one. */
static int fill_item(struct upstream_set *set, const struct upstream_list *old,
                     struct config *config, size_t index, struct list_item *item,
                     const char **ret_reason) {
    const struct config_server *server = &config->servers[index];
    struct upstream *known = old != NULL ? upstream_list_find(old, server->name, NULL) : NULL;
    bool is_same = known != NULL && is_unchanged(known, config, server);
    item->waits = server->n_cmd != 0 && server->isolation == CONFIG_ISOLATION_NONE &&
                  set->options.plain == NULL;
    if (!is_same && (known == NULL || !item->waits))
        return upstream_new(set, config, index, &item->upstream, ret_reason);
    item->upstream = upstream_ref(known);
    return 0;
}

int upstream_set_prepare(struct upstream_set *set, struct config *config,
                         struct upstream_list **ret_list, struct slice *ret_name,
                         const char **ret_reason) {
    const struct upstream_list *old = set->list; /* changed by this thread only */
    struct upstream_list *list =
        mem_alloc(sizeof *list + config->n_servers * sizeof list->items[0]);
    if (list == NULL)
        return -ENOMEM;
    atomic_init(&list->refs, 1);
    map_init(&list->by_name);
    int error = 0;
    for (size_t i = 0; i < config->n_servers && error == 0; i++) {
        struct list_item *item = &list->items[i];
        *ret_name = config->servers[i].name;
        error = fill_item(set, old, config, i, item, ret_reason);
        if (error != 0)
            break;
        list->n++;
        list->has_sessions =
            list->has_sessions || item->upstream->config->share == CONFIG_SHARE_SESSION;
        list->wants_tokens = list->wants_tokens || upstream_wants_token(item->upstream);
        error = map_set(&list->by_name, item->upstream->config->name, item);
    }
    if (error != 0)
        upstream_list_unref(list);
    else
        *ret_list = list;
    return error;
}

struct upstream_list *upstream_set_list(struct upstream_set *set) {
    pthread_mutex_lock(&set->list_mutex);
    struct upstream_list *list = upstream_list_ref(set->list);
    pthread_mutex_unlock(&set->list_mutex);
    return list;
}

void upstream_set_adopt(struct upstream_set *set, struct upstream_list *list) {
    upstream_list_ref(list);
    pthread_mutex_lock(&set->list_mutex);
    struct upstream_list *old = set->list;
    set->list = list;
    pthread_mutex_unlock(&set->list_mutex);
    upstream_list_unref(old);
    atomic_fetch_add(&set->generation, 1);
}

/* Those that have calls close when the last one is over (instance_call_over()). */
static void retire(struct upstream *upstream) {
    size_t cursor = 0;
    void *value = NULL;
    pthread_mutex_lock(&upstream->mutex);
    atomic_store(&upstream->is_retired, true);
    while (map_next(&upstream->instances, &cursor, NULL, &value)) {
        struct upstream_instance *instance = value;
        if (atomic_load(&instance->n_under_way) == 0)
            instance_close(instance);
    }
    pthread_mutex_unlock(&upstream->mutex);
}

void upstream_list_retire(const struct upstream_list *old, const struct upstream_list *list) {
    for (size_t i = 0; i < old->n; i++) {
        struct upstream *upstream = old->items[i].upstream;
        if (upstream_list_find(list, upstream->config->name, NULL) != upstream)
            retire(upstream);
    }
}

/* The set. */

int upstream_set_new(const struct upstream_set_options *options, struct upstream_set **ret_set) {
    struct upstream_set *set = mem_xalloc(sizeof *set);
    struct upstream_list *list = NULL;
    struct slice name = SLICE_EMPTY;
    const char *reason = "";
    set->options = *options;
    set->options.tls = options->tls != NULL ? io_tls_ref(options->tls) : NULL;
    set->options.config = NULL; /* each list and upstream has its own */
    set->gateway = (struct mcp_implementation){SLICE("cardea"), options->version};
    pthread_mutex_init(&set->open_mutex, NULL);
    pthread_mutex_init(&set->list_mutex, NULL);
    list_init(&set->open);
    atomic_init(&set->room.max, (size_t)options->config->cache_max_size);
    set->workers = mem_xalloc(options->n_loops * sizeof *set->workers);
    struct oauth_tokens_options tokens = {.loop = options->loops[0],
                                          .log = options->log,
                                          .tls = options->tls,
                                          .version = options->version,
                                          .on_token = options->hooks.on_token,
                                          .context = options->hooks.context};
    int error = oauth_tokens_new(&tokens, &set->tokens);
    if (error == 0)
        error = children_new(options->loops[0], options->isolated, options->plain, on_spawner_lost,
                             set, &set->children);
    for (size_t i = 0; i < options->n_loops && error == 0; i++)
        error = upstream_worker_init(&set->workers[i], set, options->loops[i], options->config);
    if (error == 0)
        error = upstream_set_prepare(set, options->config, &list, &name, &reason);
    if (error == -EINVAL)
        log_write(set->options.log, LOG_ERROR, "upstream", "it cannot be set up",
                  LOG_TEXT("upstream", name), LOG_CSTR("reason", reason));
    if (error != 0) {
        upstream_set_free(set);
        return error;
    }
    set->list = list;
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

void set_let_go(struct upstream_set *set) {
    atomic_fetch_sub(&set->n_open, 1);
    check_stopped(set);
}

void upstream_set_stop(struct upstream_set *set, void (*on_stopped)(void *context), void *context) {
    set->on_stopped = on_stopped;
    set->stop_context = context;
    /* Held open while the instances are told, so that the last one cannot be counted too early. */
    atomic_fetch_add(&set->n_open, 1);
    pthread_mutex_lock(&set->open_mutex);
    atomic_store(&set->is_stopping, true);
    LIST_FOREACH_SAFE (&set->open, link, tmp) /* of upstreams that have retired, too */
        instance_close(CONTAINER_OF(link, struct upstream_instance, open_link));
    pthread_mutex_unlock(&set->open_mutex);
    set_let_go(set);
}

void upstream_set_kill(struct upstream_set *set) {
    pthread_mutex_lock(&set->open_mutex);
    LIST_FOREACH_SAFE (&set->open, link, tmp)
        instance_kill(CONTAINER_OF(link, struct upstream_instance, open_link));
    pthread_mutex_unlock(&set->open_mutex);
}

/* That the gateway ended before it closed. */
static void drop_instance(struct upstream_instance *instance) {
    struct upstream *upstream = instance->upstream;
    list_remove(&instance->open_link);
    instance->is_closing = true; /* for a message that is still on its way */
    watches_drop(instance);
    if (map_get(&upstream->instances, instance->key) != instance)
        return;
    (void)map_remove(&upstream->instances, instance->key);
    upstream_instance_unref(instance);
}

struct upstream_set *upstream_set_free(struct upstream_set *set) {
    if (set == NULL)
        return NULL;
    LIST_FOREACH_SAFE (&set->open, link, tmp)
        drop_instance(CONTAINER_OF(link, struct upstream_instance, open_link));
    for (size_t i = 0; set->workers != NULL && i < set->options.n_loops; i++)
        upstream_worker_deinit(&set->workers[i]);
    upstream_list_unref(set->list);
    mem_free(set->workers);
    oauth_tokens_free(set->tokens);
    children_free(set->children);
    room_deinit(&set->room);
    pthread_mutex_destroy(&set->open_mutex);
    pthread_mutex_destroy(&set->list_mutex);
    io_tls_unref(set->options.tls);
    mem_free(set);
    return NULL;
}

struct upstream_worker *upstream_set_worker(struct upstream_set *set, size_t index) {
    return &set->workers[index];
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

void upstream_instance_status(struct upstream_instance *instance,
                              struct upstream_status *ret_status) {
    pthread_mutex_lock(&instance->upstream->mutex);
    *ret_status = (struct upstream_status){
        .state = instance->state,
        .is_listed = instance->is_listed,
        /* Without a token it does not start, and nobody is to wait for it. */
        .is_first_start = instance->is_first_start &&
                          (instance->token != NULL || !upstream_wants_token(instance->upstream)),
        .first_started_ms = instance->first_started_ms,
        .catalog = instance->catalog != NULL ? catalog_ref(instance->catalog) : NULL,
    };
    memcpy(ret_status->lists, instance->lists, sizeof ret_status->lists);
    memcpy(ret_status->error, instance->error, sizeof ret_status->error);
    ret_status->told = instance->told;
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
