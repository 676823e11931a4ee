/* All issuers of one configuration: found by the `iss` of a token, started, ended, told about. */
#include <errno.h>

#include "base/clock.h"
#include "base/mem.h"
#include "json/writer.h"
#include "private.h"

uint64_t oauth_now(const struct oauth *oauth) {
    return oauth->now_fn != NULL ? oauth->now_fn(oauth->now_context) : clock_monotonic_ms();
}

void oauth_tick(struct oauth *oauth) {
    for (size_t i = 0; i < oauth->n_issuers; i++)
        oauth_issuer_tick(&oauth->issuers[i]);
}

static void destroy(struct oauth *oauth) {
    pthread_cond_destroy(&oauth->cancelled);
    pthread_mutex_destroy(&oauth->mutex);
    mem_free(oauth->issuers);
    mem_free(oauth->version);
    mem_free(oauth);
}

static void on_wake(struct io_message *message) {
    struct oauth *oauth = CONTAINER_OF(message, struct oauth, wake);
    pthread_mutex_lock(&oauth->mutex);
    oauth->is_waking = false;
    bool is_closed = oauth->is_closed;
    pthread_mutex_unlock(&oauth->mutex);
    if (is_closed)
        destroy(oauth);
    else
        oauth_tick(oauth);
}

void oauth_wake(struct oauth *oauth) {
    if (oauth->is_waking)
        return;
    oauth->is_waking = true;
    io_loop_post(oauth->loop, &oauth->wake);
}

/* --- beginning and end --- */

static struct oauth_issuer *find_alike(const struct oauth *oauth,
                                       const struct config_issuer *config) {
    for (size_t i = 0; i < oauth->n_issuers; i++) {
        const struct config_issuer *other = oauth->issuers[i].config;
        if (slice_eq(other->url, config->url) && slice_eq(other->issuer, config->issuer))
            return &oauth->issuers[i];
    }
    return NULL;
}

/* An issuer that is new gets a number that no other one had: who remembers only the number does not
 * take one for another. */
static int inherit(struct oauth *oauth, const struct oauth *previous) {
    uint64_t highest = 0;
    for (size_t i = 0; i < previous->n_issuers; i++) {
        uint64_t generation = oauth_generation(&previous->issuers[i]);
        highest = generation > highest ? generation : highest;
    }
    int error = 0;
    for (size_t i = 0; i < oauth->n_issuers && error == 0; i++) {
        struct oauth_issuer *issuer = &oauth->issuers[i];
        struct oauth_issuer *from = find_alike(previous, issuer->config);
        if (from != NULL && issuer->is_remote)
            error = oauth_issuer_inherit(issuer, from);
        else
            atomic_store(&issuer->generation, highest + 1);
    }
    return error;
}

static int open_issuers(struct oauth *oauth, const struct oauth_options *options) {
    int error = 0;
    for (size_t i = 0; i < oauth->n_issuers && error == 0; i++)
        error = oauth_issuer_open(&oauth->issuers[i]);
    if (error == 0 && options->previous != NULL)
        error = inherit(oauth, options->previous);
    return error > 0 ? -EINVAL : error;
}

static int open_parts(struct oauth *oauth, const struct oauth_options *options) {
    struct client_options client = {
        .loop = options->loop, .log = options->log, .tls = options->tls};
    int error = client_new(&client, &oauth->client);
    if (error == 0)
        error = json_reader_new(&oauth->reader);
    if (error == 0)
        error = slice_dup_cstr(options->version, &oauth->version);
    return error != 0 ? error : open_issuers(oauth, options);
}

static void freep(struct oauth **oauth) {
    *oauth = oauth_free(*oauth);
}

int oauth_new(const struct oauth_options *options, struct oauth **ret_oauth) {
    const struct config_oauth *config = options->config;
    struct oauth *oauth CLEANUP(freep) = mem_xalloc(sizeof *oauth);
    oauth->log = options->log;
    oauth->loop = options->loop;
    oauth->rules = options->rules != NULL ? client_rules_ref(options->rules) : NULL;
    oauth->wake.deliver = on_wake;
    oauth->n_issuers = config->n_issuers;
    oauth->issuers = mem_xalloc(config->n_issuers * sizeof oauth->issuers[0]);
    pthread_mutex_init(&oauth->mutex, NULL);
    pthread_cond_init(&oauth->cancelled, NULL);
    for (size_t i = 0; i < oauth->n_issuers; i++)
        oauth_issuer_init(&oauth->issuers[i], oauth, &config->issuers[i]);
    int error = open_parts(oauth, options);
    if (error == 0)
        *ret_oauth = TAKE(oauth);
    return error;
}

void oauth_start(struct oauth *oauth) {
    uint64_t now = oauth_now(oauth);
    pthread_mutex_lock(&oauth->mutex);
    oauth->is_started = true;
    for (size_t i = 0; i < oauth->n_issuers; i++)
        oauth->issuers[i].schedule.next_ms = now;
    pthread_mutex_unlock(&oauth->mutex);
    oauth_tick(oauth);
}

struct oauth *oauth_free(struct oauth *oauth) {
    if (oauth == NULL)
        return NULL;
    pthread_mutex_lock(&oauth->mutex);
    oauth->is_closed = true;
    for (size_t i = 0; i < oauth->n_issuers; i++) {
        oauth_waiting_tell_all(&oauth->issuers[i]);
        oauth_waiting_drain(&oauth->issuers[i]);
    }
    bool is_waking = oauth->is_waking;
    pthread_mutex_unlock(&oauth->mutex);
    for (size_t i = 0; i < oauth->n_issuers; i++)
        oauth_issuer_deinit(&oauth->issuers[i]);
    oauth->client = client_free(oauth->client);
    oauth->rules = client_rules_unref(oauth->rules);
    oauth->reader = json_reader_free(oauth->reader);
    if (!is_waking) /* else the message does it, when it is delivered */
        destroy(oauth);
    return NULL;
}

/* --- looks --- */

size_t oauth_count(const struct oauth *oauth) {
    return oauth->n_issuers;
}

struct oauth_issuer *oauth_at(const struct oauth *oauth, size_t index) {
    return &oauth->issuers[index];
}

const struct config_issuer *oauth_issuer_config(const struct oauth_issuer *issuer) {
    return issuer->config;
}

struct oauth_issuer *oauth_find(const struct oauth *oauth, bool has_iss, struct slice iss) {
    struct oauth_issuer *any = NULL;
    for (size_t i = 0; i < oauth->n_issuers; i++) {
        struct oauth_issuer *issuer = &oauth->issuers[i];
        if (slice_is_empty(issuer->expected))
            any = any != NULL ? any : issuer;
        else if (has_iss && slice_eq(issuer->expected, iss))
            return issuer;
    }
    return any;
}

struct jose_keys *oauth_keys(struct oauth_issuer *issuer, uint64_t now_ms,
                             uint64_t *ret_generation) {
    struct jose_keys *keys = NULL;
    pthread_mutex_lock(&issuer->oauth->mutex);
    if (!issuer->is_remote)
        keys = issuer->secret_keys;
    else if (!oauth_schedule_is_stale(&issuer->schedule, now_ms))
        keys = issuer->keys;
    if (keys != NULL)
        keys = jose_keys_ref(keys);
    if (ret_generation != NULL)
        *ret_generation = atomic_load(&issuer->generation);
    pthread_mutex_unlock(&issuer->oauth->mutex);
    return keys;
}

struct jose_keys *oauth_secret_keys(const struct oauth_issuer *issuer) {
    return issuer->secret_keys != NULL ? jose_keys_ref(issuer->secret_keys) : NULL;
}

uint64_t oauth_generation(const struct oauth_issuer *issuer) {
    return atomic_load(&issuer->generation);
}

/* With the mutex held. */
static void write_issuer(struct json_writer *writer, const struct oauth_issuer *issuer,
                         uint64_t now_ms) {
    const struct jose_keys *keys = issuer->is_remote ? issuer->keys : issuer->secret_keys;
    const struct oauth_schedule *schedule = &issuer->schedule;
    json_object_begin(writer);
    json_kv_string(writer, SLICE("issuer"), issuer->label);
    json_kv_u64(writer, SLICE("keys"), keys != NULL ? jose_keys_count(keys) : 0);
    json_key(writer, SLICE("age_ms"));
    if (schedule->is_confirmed)
        json_u64(writer, now_ms > schedule->confirmed_ms ? now_ms - schedule->confirmed_ms : 0);
    else
        json_null(writer);
    json_key(writer, SLICE("error"));
    if (issuer->error[0] != '\0')
        json_string(writer, slice_from_cstr(issuer->error));
    else
        json_null(writer);
    json_object_end(writer);
}

int oauth_write_status(struct oauth *oauth, uint64_t now_ms, struct buf *out) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_array_begin(&writer);
    pthread_mutex_lock(&oauth->mutex);
    for (size_t i = 0; i < oauth->n_issuers; i++)
        write_issuer(&writer, &oauth->issuers[i], now_ms);
    pthread_mutex_unlock(&oauth->mutex);
    json_array_end(&writer);
    return buf_error(out);
}
