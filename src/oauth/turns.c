/*
 * Turns and time of a source: no more than LIMIT_TOKEN_REQUESTS requests at once, in the order in
 * which they were asked for, and none before it is known whom to ask. There is one timer for all
 * that can be next: the end of the time that a search or a request has, of a waiter's patience, of
 * a subject that was not used for long. source_tick() does what is due by the clock and sets it
 * anew; so tests turn the clock and call it. Everything here runs on the loop.
 */
#include "base/limits.h"
#include "tokens.h"

static bool has_queue(struct oauth_source *source, uint64_t now_ms) {
    pthread_mutex_lock(&source->mutex);
    bool has_queue = !list_is_empty(&source->queue);
    if (has_queue && tokens_failure_lasts(&source->failure, now_ms)) {
        requests_tell_queue(source, &source->failure);
        has_queue = false;
    }
    pthread_mutex_unlock(&source->mutex);
    return has_queue;
}

static void start_all(struct oauth_source *source, uint64_t now_ms) {
    while (source->n_running < LIMIT_TOKEN_REQUESTS && has_queue(source, now_ms) &&
           discovery_ensure(source, now_ms) && requests_start_one(source, now_ms))
        ;
}

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static void arm(struct oauth_source *source, uint64_t now_ms) {
    uint64_t next = discovery_next(source);
    struct list_link *first = list_first(&source->running);
    if (first != NULL)
        next = min_u64(next, CONTAINER_OF(first, struct token_request, link)->limit_ms);
    pthread_mutex_lock(&source->mutex);
    next = min_u64(next, oauth_waiters_deadline(&source->waiting));
    next = min_u64(next, subjects_next(source));
    pthread_mutex_unlock(&source->mutex);
    if (next != UINT64_MAX)
        io_timer_start(source->timer, next > now_ms ? next - now_ms : 0);
    else
        io_timer_stop(source->timer);
}

static void on_timer(void *context) {
    source_tick(context);
}

void source_tick(struct oauth_source *source) {
    if (source->timer == NULL)
        source->timer = io_timer_new(source->tokens->loop, on_timer, source);
    uint64_t now = tokens_now(source->tokens);
    requests_end_late(source, now);
    discovery_tick(source, now);
    pthread_mutex_lock(&source->mutex);
    subjects_tell_late(source, now);
    subjects_sweep(source, now);
    pthread_mutex_unlock(&source->mutex);
    start_all(source, now);
    arm(source, now);
}

void source_found(struct oauth_source *source) {
    const struct oauth_metadata *metadata = &source->discovery.metadata;
    bool is_there =
        source_is_exchange(source) ? metadata->has_exchange : metadata->has_client_credentials;
    bool is_hinted = metadata->has_grants && !is_there;
    log_write(source->tokens->log, is_hinted ? LOG_WARN : LOG_DEBUG, "oauth",
              is_hinted ? "the authorization server does not list this kind of grant"
                        : "authorization server found",
              LOG_TEXT("server", source->server->name),
              LOG_TEXT("issuer", discovery_audience(source)));
}

void source_stop(struct oauth_source *source) {
    discovery_stop(source);
    requests_stop(source);
    source->timer = io_timer_free(source->timer);
}
