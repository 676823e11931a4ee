#include "base/limits.h"
#include "private.h"

static void limit_readers(struct upstream_worker *worker, const struct config *config) {
    struct json_limits limits = {.max_depth = (uint32_t)config->limits.max_json_depth,
                                 .max_keys = (uint32_t)config->limits.max_json_keys};
    json_reader_set_limits(worker->reader, &limits);
    json_reader_set_limits(worker->home_reader, &limits);
}

void upstream_worker_configure(struct upstream_worker *worker, const struct config *config) {
    limit_readers(worker, config);
    set_resize(worker->set, (size_t)config->cache_max_size);
}

int upstream_worker_init(struct upstream_worker *worker, struct upstream_set *set,
                         struct io_loop *loop, const struct config *config) {
    struct client_options options = {
        .loop = loop,
        .log = set->options.log,
        .tls = set->options.tls,
    };
    worker->set = set;
    worker->loop = loop;
    list_init(&worker->posts);
    map_init(&worker->askable);
    buf_init(&worker->fields, LIMIT_HTTP_HEADER_BLOCK * 2);
    int error = json_reader_new(&worker->reader);
    if (error == 0)
        error = json_reader_new(&worker->home_reader);
    if (error != 0)
        return error;
    limit_readers(worker, config);
    return client_new(&options, &worker->client);
}

void upstream_worker_deinit(struct upstream_worker *worker) {
    if (worker->loop == NULL)
        return; /* never made */
    posts_free(worker);
    map_deinit(&worker->askable);
    client_free(worker->client);
    json_reader_free(worker->reader);
    json_reader_free(worker->home_reader);
    buf_deinit(&worker->fields);
}

static bool drop_message(void *context, struct slice document) {
    (void)context;
    (void)document;
    return true;
}

static void drop_end(void *context, const struct post_end *end) {
    (void)context;
    (void)end;
}

static void send_alone(const struct post_options *options) {
    static const struct post_events events = {.on_message = drop_message, .on_end = drop_end};
    struct post *post = NULL;
    (void)!post_start(options, &events, NULL, &post); /* whoever is not told will notice */
}

void upstream_worker_note(struct upstream_worker *worker, struct route *route,
                          struct oauth_token *token, struct slice line) {
    send_alone(&(struct post_options){
        .worker = worker,
        .route = route,
        .method = HTTP_METHOD_POST,
        .body = line,
        .token = token,
        .most_ms = route->upstream->config->startup_timeout_ms,
    });
}

void upstream_worker_farewell(struct upstream_worker *worker, struct route *route,
                              struct oauth_token *token) {
    send_alone(&(struct post_options){
        .worker = worker,
        .route = route,
        .method = HTTP_METHOD_DELETE,
        .token = token,
        .most_ms = route->upstream->config->shutdown_timeout_ms,
    });
}
