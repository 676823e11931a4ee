/* The listener, the loop and the thread. */
#include "admin/api.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"
#include "private.h"

enum {
    HASHES_WAITING = 16, /* 64 MiB and 50 ms each, one at a time */
    READERS = 2,
    READS_WAITING = 64,
    SWEEP_MS = 10 * 60 * 1000,
};

/* --- now and then --- */

struct sweep {
    struct store_job job;
    struct api *api;
};

static int sweep_work(struct store_tx *tx, void *context) {
    (void)context;
    return accounts_sweep(tx);
}

/* Counts as a request, so that the loop waits for it. */
static void end_sweep(struct io_message *message) {
    struct store_job *job = CONTAINER_OF(message, struct store_job, message);
    struct sweep *sweep = CONTAINER_OF(job, struct sweep, job);
    struct api *api = sweep->api;
    if (job->result != 0 && job->result != -ECANCELED)
        log_write(api->options.log, LOG_WARN, "admin",
                  "what is over could not be swept out of the store",
                  LOG_NUM("error", job->result));
    mem_free(sweep);
    if (--api->n_requests == 0 && api->is_stopping)
        io_loop_stop(api->loop);
}

static void on_sweep(void *context) {
    struct api *api = context;
    struct sweep *sweep = mem_xalloc(sizeof *sweep);
    sweep->api = api;
    sweep->job = (struct store_job){
        .message = {.deliver = end_sweep},
        .loop = api->loop,
        .kind = STORE_NOTE,
        .work = sweep_work,
    };
    api->n_requests++;
    store_submit(api->options.store, &sweep->job);
    io_timer_start(api->sweep, SWEEP_MS);
}

static void deliver_notice(struct io_message *message) {
    struct api *api = CONTAINER_OF(message, struct api, notice);
    atomic_store(&api->is_noticed, false);
    if (!api->is_stopping)
        events_look(api->events);
}

void api_notice(struct api *api) {
    if (atomic_exchange(&api->is_noticed, true))
        return;
    api->notice = (struct io_message){.deliver = deliver_notice};
    io_loop_post(api->loop, &api->notice);
}

/* --- begin --- */

static void on_accept(void *context, int fd, const struct network *peer) {
    api_connection_new(context, fd, peer);
}

static void on_full(void *context, int fd, int error) {
    const struct api *api = context;
    log_write(api->options.log, LOG_WARN, "admin", "turned a client away",
              LOG_CSTR("reason", strerror(error)));
    io_fd_close(&fd);
}

static int start_parts(struct api *api) {
    int error = crew_new(1, HASHES_WAITING, &api->hashers);
    if (error == 0)
        error = crew_new(READERS, READS_WAITING, &api->readers);
    if (error == 0)
        error = crew_new(API_TRIALS, API_TRIALS, &api->testers);
    if (error == 0)
        error = events_new(api, &api->events);
    if (error == 0)
        error = api_write_openapi(&api->openapi, api->options.version);
    return error;
}

int api_new(const struct api_options *options, struct api **ret_api) {
    struct api *api = mem_xalloc(sizeof *api);
    api->options = *options;
    api->options.tls = NULL;
    api->options.listen = SLICE_EMPTY;
    api->options.hosts = NULL;
    api->options.forwarded = (struct http_forwarded){.trusted = NULL};
    api->listen_fd = -1;
    api->held.max = API_HELD;
    api->started_ms = clock_wall_ms();
    list_init(&api->connections);
    list_init(&api->requests);
    list_init(&api->queries);
    list_init(&api->refreshes);
    buf_init(&api->openapi, MIB(1));
    pthread_mutex_init(&api->mutex, NULL);
    int error = io_address_parse(options->listen, &api->address);
    if (error == 0)
        error = io_listen_socket(&api->address, true, &api->listen_fd);
    if (error == 0)
        error = io_loop_new(&api->loop);
    if (error == 0)
        error = guard_hosts_new(slice_from_cstr(api->address.text), options->hosts,
                                options->n_hosts, &api->hosts);
    if (error == 0)
        error = api_set_forwarded(api, &options->forwarded);
    if (error == 0)
        error = start_parts(api);
    if (error != 0) {
        api_free(api);
        return error;
    }
    api->tls = io_tls_ref(options->tls);
    *ret_api = api;
    return 0;
}

const struct io_address *api_address(const struct api *api) {
    return &api->address;
}

struct io_loop *api_loop(struct api *api) {
    return api->loop;
}

static void *run(void *context) {
    struct api *api = context;
    io_loop_run(api->loop);
    return NULL;
}

int api_start(struct api *api) {
    int fd = api->listen_fd;
    api->listen_fd = -1;
    int error = io_listener_new(api->loop, fd, on_accept, api, &api->listener);
    if (error != 0)
        return error;
    io_listener_on_full(api->listener, on_full);
    api->sweep = io_timer_new(api->loop, on_sweep, api);
    io_timer_start(api->sweep, SWEEP_MS);
    error = -pthread_create(&api->thread, NULL, run, api);
    api->has_thread = error == 0;
    if (error == 0)
        log_write(api->options.log, LOG_INFO, "admin", "the console's API listens",
                  LOG_CSTR("address", api->address.text));
    return error;
}

/* --- from other threads --- */

void api_set_tls(struct api *api, struct io_tls *tls) {
    pthread_mutex_lock(&api->mutex);
    struct io_tls *old = api->tls;
    api->tls = io_tls_ref(tls);
    pthread_mutex_unlock(&api->mutex);
    io_tls_unref(old);
}

int api_set_hosts(struct api *api, const struct slice *names, size_t n_names) {
    struct guard_hosts *hosts = NULL;
    int error = guard_hosts_new(slice_from_cstr(api->address.text), names, n_names, &hosts);
    if (error != 0)
        return error;
    pthread_mutex_lock(&api->mutex);
    struct guard_hosts *old = api->hosts;
    api->hosts = hosts;
    pthread_mutex_unlock(&api->mutex);
    guard_hosts_free(old);
    return 0;
}

int api_set_forwarded(struct api *api, const struct http_forwarded *forwarded) {
    size_t n = forwarded->n_trusted;
    struct network *trusted = mem_alloc((n + 1) * sizeof *trusted);
    if (trusted == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        trusted[i] = forwarded->trusted[i];
    pthread_mutex_lock(&api->mutex);
    struct network *old = api->trusted;
    api->forwarded = *forwarded;
    api->forwarded.trusted = api->trusted = trusted;
    pthread_mutex_unlock(&api->mutex);
    mem_free(old);
    return 0;
}

bool api_trusts(struct api *api, const struct network *peer) {
    pthread_mutex_lock(&api->mutex);
    bool trusts = http_forwarded_trusts(&api->forwarded, peer);
    pthread_mutex_unlock(&api->mutex);
    return trusts;
}

struct network api_client(struct api *api, const struct http_head *head,
                          const struct network *peer) {
    pthread_mutex_lock(&api->mutex);
    struct network client = http_forwarded_client(&api->forwarded, head, peer);
    pthread_mutex_unlock(&api->mutex);
    return client;
}

/* --- end --- */

/* What waits for the gateway waits in vain: it does not run any more. What is in the store, in a
 * crew or on its way to the trail comes back by itself. */
static void deliver_stop(struct io_message *message) {
    struct api *api = CONTAINER_OF(message, struct api, stop);
    api->is_stopping = true;
    atomic_store(&api->gives_up, true);
    api->listener = io_listener_free(api->listener);
    api->sweep = io_timer_free(api->sweep);
    events_stop(api->events);
    LIST_FOREACH_SAFE (&api->connections, link, tmp)
        api_connection_free(CONTAINER_OF(link, struct api_connection, link));
    api_forget_queries(api);
    api_forget_refreshes(api);
    if (api->n_requests == 0)
        io_loop_stop(api->loop);
}

struct api *api_free(struct api *api) {
    if (api == NULL)
        return NULL;
    if (api->has_thread) {
        api->stop.deliver = deliver_stop;
        io_loop_post(api->loop, &api->stop);
        pthread_join(api->thread, NULL);
    }
    api->is_stopping = true; /* a notice may lie in the mailbox still */
    atomic_store(&api->gives_up, true);
    crew_free(api->hashers);
    crew_free(api->readers);
    crew_free(api->testers);
    events_free(api->events);
    io_listener_free(api->listener);
    io_timer_free(api->sweep);
    io_loop_free(api->loop);
    io_fd_close(&api->listen_fd);
    io_tls_unref(api->tls);
    guard_hosts_free(api->hosts);
    mem_free(api->trusted);
    buf_deinit(&api->openapi);
    pthread_mutex_destroy(&api->mutex);
    mem_free(api);
    return NULL;
}
