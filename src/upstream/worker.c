#include "base/limits.h"
#include "private.h"

int upstream_reader_new(const struct upstream_set *set, struct json_reader **ret_reader) {
    const struct config_limits *limits = &set->options.config->limits;
    int error = json_reader_new(ret_reader);
    if (error == 0)
        json_reader_set_limits(*ret_reader,
                               &(struct json_limits){.max_depth = (uint32_t)limits->max_json_depth,
                                                     .max_keys = (uint32_t)limits->max_json_keys});
    return error;
}

int upstream_worker_init(struct upstream_worker *worker, struct upstream_set *set,
                         struct io_loop *loop) {
    struct client_options options = {
        .loop = loop,
        .log = set->options.log,
        .tls = set->options.tls,
    };
    worker->set = set;
    worker->loop = loop;
    list_init(&worker->posts);
    buf_init(&worker->fields, LIMIT_HTTP_HEADER_BLOCK * 2);
    int error = upstream_reader_new(set, &worker->reader);
    return error == 0 ? client_new(&options, &worker->client) : error;
}

void upstream_worker_deinit(struct upstream_worker *worker) {
    if (worker->loop == NULL)
        return; /* never made */
    posts_free(worker);
    client_free(worker->client);
    json_reader_free(worker->reader);
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

void upstream_worker_note(struct upstream_worker *worker, struct route *route, struct slice line) {
    send_alone(&(struct post_options){
        .worker = worker,
        .route = route,
        .method = HTTP_METHOD_POST,
        .body = line,
        .most_ms = route->upstream->config->startup_timeout_ms,
    });
}

void upstream_worker_farewell(struct upstream_worker *worker, struct route *route) {
    send_alone(&(struct post_options){
        .worker = worker,
        .route = route,
        .method = HTTP_METHOD_DELETE,
        .most_ms = route->upstream->config->shutdown_timeout_ms,
    });
}
