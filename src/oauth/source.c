/*
 * Sources of tokens for servers, from their beginning to their end, on whatever thread that comes.
 *
 * What a source has on the loop (its timer, requests) may be touched by the loop's thread alone. So
 * the loop makes it at its first look, and when the last reference goes the source is put into a
 * list, and the loop is woken to free it. After oauth_tokens_free(), which has ended all that runs,
 * there is nothing of the loop's left in a source, and whoever has the last reference frees it.
 * That a reference is the last one is decided with tokens->mutex held: so oauth_tokens_free() takes
 * references of sources that somebody has, and never meets one that is on its way out.
 */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/random.h"
#include "io/file.h"
#include "tokens.h"

enum { KEY_FILE_MAX = 64 * 1024 };

uint64_t tokens_now(const struct oauth_tokens *tokens) {
    return tokens->now_fn != NULL ? tokens->now_fn(tokens->clock_context) : clock_monotonic_ms();
}

uint64_t tokens_wall(const struct oauth_tokens *tokens) {
    return tokens->wall_fn != NULL ? tokens->wall_fn(tokens->clock_context) : clock_wall_ms();
}

bool source_is_exchange(const struct oauth_source *source) {
    return source->server->auth_type == CONFIG_UPSTREAM_AUTH_EXCHANGE;
}

/* --- all of them --- */

static void tokens_unref(struct oauth_tokens *tokens) {
    if (atomic_fetch_sub(&tokens->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&tokens->mutex);
    mem_free(tokens->version);
    mem_free(tokens);
}

static void destroy(struct oauth_source *source);

static struct oauth_source *source_of(struct list_link *link) {
    return CONTAINER_OF(link, struct oauth_source, woken);
}

/* Those that nobody has any more. The loop's thread. */
static void free_dead(struct oauth_tokens *tokens) {
    struct list dead;
    list_init(&dead);
    pthread_mutex_lock(&tokens->mutex);
    list_splice_back(&dead, &tokens->dead);
    pthread_mutex_unlock(&tokens->mutex);
    struct list_link *link;
    while ((link = list_pop_front(&dead)) != NULL) {
        struct oauth_source *source = source_of(link);
        source_stop(source);
        destroy(source);
    }
}

static struct oauth_source *take_woken(struct oauth_tokens *tokens) {
    pthread_mutex_lock(&tokens->mutex);
    struct list_link *link = list_pop_front(&tokens->woken);
    pthread_mutex_unlock(&tokens->mutex);
    return link != NULL ? source_of(link) : NULL;
}

static void on_wake(struct io_message *message) {
    struct oauth_tokens *tokens = CONTAINER_OF(message, struct oauth_tokens, wake);
    struct oauth_source *source;
    pthread_mutex_lock(&tokens->mutex);
    tokens->is_waking = false;
    bool is_closed = tokens->is_closed;
    pthread_mutex_unlock(&tokens->mutex);
    if (!is_closed) {
        free_dead(tokens);
        /* One that dies meanwhile lives until the next time. */
        while ((source = take_woken(tokens)) != NULL)
            source_tick(source);
    }
    tokens_unref(tokens);
}

/* With tokens->mutex held. */
static void wake(struct oauth_tokens *tokens) {
    if (tokens->is_waking || tokens->is_closed)
        return;
    tokens->is_waking = true;
    atomic_fetch_add(&tokens->refs, 1);
    io_loop_post(tokens->loop, &tokens->wake);
}

void source_wake(struct oauth_source *source) {
    struct oauth_tokens *tokens = source->tokens;
    pthread_mutex_lock(&tokens->mutex);
    if (!tokens->is_closed && !list_is_linked(&source->woken))
        list_push_back(&tokens->woken, &source->woken);
    wake(tokens);
    pthread_mutex_unlock(&tokens->mutex);
}

void tokens_tick(struct oauth_tokens *tokens) {
    for (struct list_link *at = tokens->sources.ring.next; at != &tokens->sources.ring;
         at = at->next)
        source_tick(CONTAINER_OF(at, struct oauth_source, link));
}

static void tokens_freep(struct oauth_tokens **tokens) {
    *tokens = oauth_tokens_free(*tokens);
}

int oauth_tokens_new(const struct oauth_tokens_options *options, struct oauth_tokens **ret_tokens) {
    struct oauth_tokens *tokens CLEANUP(tokens_freep) = mem_xalloc(sizeof *tokens);
    struct client_options client = {
        .loop = options->loop, .log = options->log, .tls = options->tls};
    atomic_init(&tokens->refs, 1);
    tokens->log = options->log;
    tokens->on_token = options->on_token;
    tokens->context = options->context;
    tokens->loop = options->loop;
    tokens->wake.deliver = on_wake;
    pthread_mutex_init(&tokens->mutex, NULL);
    list_init(&tokens->sources);
    list_init(&tokens->woken);
    list_init(&tokens->dead);
    int error = client_new(&client, &tokens->client);
    if (error == 0)
        error = json_reader_new(&tokens->reader);
    if (error == 0)
        error = slice_dup_cstr(options->version, &tokens->version);
    if (error == 0)
        *ret_tokens = TAKE(tokens);
    return error;
}

/* Ends all that it does, and tells who waits. The loop's thread. */
static void close_source(struct oauth_source *source) {
    struct tokens_failure failure;
    tokens_failure_set(&failure, OAUTH_LACK_UNREACHABLE, "the gateway is being stopped");
    source_stop(source);
    pthread_mutex_lock(&source->mutex);
    source->is_closed = true;
    subjects_tell_all(source, &failure);
    pthread_mutex_unlock(&source->mutex);
    oauth_source_unref(source);
}

struct oauth_tokens *oauth_tokens_free(struct oauth_tokens *tokens) {
    if (tokens == NULL)
        return NULL;
    struct list_link *link;
    pthread_mutex_lock(&tokens->mutex);
    tokens->is_closed = true;
    while (list_pop_front(&tokens->woken) != NULL)
        ;
    for (link = tokens->sources.ring.next; link != &tokens->sources.ring; link = link->next)
        atomic_fetch_add(&CONTAINER_OF(link, struct oauth_source, link)->refs, 1);
    pthread_mutex_unlock(&tokens->mutex);
    free_dead(tokens);
    for (;;) {
        pthread_mutex_lock(&tokens->mutex);
        link = list_pop_front(&tokens->sources);
        pthread_mutex_unlock(&tokens->mutex);
        if (link == NULL)
            break;
        close_source(CONTAINER_OF(link, struct oauth_source, link));
    }
    tokens->client = client_free(tokens->client);
    tokens->reader = json_reader_free(tokens->reader);
    tokens_unref(tokens);
    return NULL;
}

/* --- one --- */

static void destroy(struct oauth_source *source) {
    discovery_deinit(source);
    subjects_clear(source);
    map_deinit(&source->subjects);
    pthread_mutex_destroy(&source->mutex);
    buf_deinit(&source->fixed_scopes);
    buf_deinit(&source->challenge_scopes);
    buf_deinit(&source->named);
    source->signer = jose_signer_free(source->signer);
    io_tls_unref(source->tls);
    client_rules_unref(source->rules);
    config_unref(source->config);
    tokens_unref(source->tokens);
    mem_free(source);
}

static int read_key(struct oauth_source *source, const char **ret_reason) {
    const struct config_oauth_client *client = &source->server->auth_client;
    struct buf pem CLEANUP(oauth_wipe) = BUF_INIT(KEY_FILE_MAX);
    if (slice_is_empty(client->key_path))
        return 0;
    if (buf_reserve(&pem, KEY_FILE_MAX) == NULL)
        return -ENOMEM;
    int error = io_file_read(client->key_path.ptr, &pem);
    return error != 0 ? error : jose_signer_new(buf_slice(&pem), &source->signer, ret_reason);
}

/* For the server's own metadata, as for its calls; read when it is needed. */
static int make_tls(struct oauth_source *source) {
    const struct config_upstream_tls *tls = &source->server->tls;
    if (!tls->is_set)
        return 0;
    struct io_tls_client_options options = {
        .use_system_roots = true,
        .ca_file = tls->ca_bundle.ptr,
        .is_lazy = true,
        .cert_file = tls->client_cert.ptr,
        .key_file = tls->client_key.ptr,
        .accept_invalid_hostnames = tls->accept_invalid_hostnames,
        .accept_anything = !tls->verify_certs,
    };
    return io_tls_client_new(&options, &source->tls);
}

static int open_source(struct oauth_source *source, const char **ret_reason) {
    const struct config_server *server = source->server;
    int error = 0;
    for (size_t i = 0; i < server->n_auth_scopes && error == 0; i++)
        error = oauth_scopes_add(&source->fixed_scopes, server->auth_scopes[i]);
    if (error != 0) {
        *ret_reason = "its auth.scopes are no scopes, or too many";
        return error == -ENOMEM ? error : OAUTH_E_SOURCE;
    }
    error = oauth_rules_new(source->config, &source->rules);
    if (error == 0)
        error = make_tls(source);
    if (error == 0)
        error = read_key(source, ret_reason);
    return error > 0 ? OAUTH_E_SOURCE : error;
}

int oauth_source_new(struct oauth_tokens *tokens, struct config *config,
                     const struct config_server *server, struct oauth_source **ret_source,
                     const char **ret_reason) {
    struct oauth_source *source = mem_alloc(sizeof *source);
    if (source == NULL)
        return -ENOMEM;
    atomic_init(&source->refs, 1);
    atomic_fetch_add(&tokens->refs, 1);
    source->tokens = tokens;
    source->config = config_ref(config);
    source->server = server;
    pthread_mutex_init(&source->mutex, NULL);
    map_init(&source->subjects);
    random_bytes(source->keys, sizeof source->keys);
    list_init(&source->by_use);
    list_init(&source->queue);
    list_init(&source->waiting);
    list_init(&source->running);
    buf_init(&source->fixed_scopes, OAUTH_SCOPES_TEXT);
    buf_init(&source->challenge_scopes, OAUTH_SCOPES_TEXT);
    buf_init(&source->named, LIMIT_URI);
    int error = open_source(source, ret_reason);
    discovery_init(source);
    if (error != 0) {
        destroy(source);
        return error;
    }
    pthread_mutex_lock(&tokens->mutex);
    source->is_closed = tokens->is_closed;
    if (!tokens->is_closed)
        list_push_back(&tokens->sources, &source->link);
    pthread_mutex_unlock(&tokens->mutex);
    *ret_source = source;
    return 0;
}

struct oauth_source *oauth_source_ref(struct oauth_source *source) {
    atomic_fetch_add(&source->refs, 1);
    return source;
}

struct oauth_source *oauth_source_unref(struct oauth_source *source) {
    if (source == NULL)
        return NULL;
    struct oauth_tokens *tokens = source->tokens;
    pthread_mutex_lock(&tokens->mutex);
    bool is_last = atomic_fetch_sub(&source->refs, 1) == 1;
    bool is_closed = tokens->is_closed;
    if (is_last && !is_closed) {
        list_remove(&source->link);
        list_remove(&source->woken);
        list_push_back(&tokens->dead, &source->woken);
        wake(tokens);
    }
    pthread_mutex_unlock(&tokens->mutex);
    if (is_last && is_closed)
        destroy(source);
    return NULL;
}

bool oauth_source_has_rules(const struct oauth_source *source, const struct config *config) {
    struct client_rules *rules = NULL;
    if (oauth_rules_new(config, &rules) != 0)
        return false;
    bool has = client_rules_equal(source->rules, rules);
    client_rules_unref(rules);
    return has;
}
