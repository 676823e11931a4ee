/*
 * The upkeep of one issuer's keys. Everything here runs on the loop; what others look at (keys,
 * schedule, error, waiters) is changed under the mutex, in one go at the end of a fetch.
 *
 * A fetch is one GET of the configured address, or, where only the issuer is configured, up to
 * three for its metadata and one of the address that is found there. It has LIMIT_JWKS_FETCH_MS for
 * all of them. The address is asked for again every hour, and after each failure to use it.
 *
 * What becomes of an answer:
 *
 *   bytes as before          confirmed; the set and its generation stay as they are
 *   another set              takes the place of the old one, with a new generation: a key that is
 *                            gone proves nothing from this moment on
 *   a set without one key    likewise: the issuer has withdrawn them all. But that is so seldom
 *   that we could use        meant that it is asked again as after a failure
 *   anything else            a failure. The keys stay, until nobody has confirmed them for
 *                            LIMIT_JWKS_STALE_MS: then they go, and with them whoever needs them
 *
 * There is one timer for all that can be next: the end of the time that a fetch has, the next
 * fetch, the end of the keys, the end of a waiter's patience. oauth_issuer_tick() does what is due
 * by the clock, and sets it anew; so tests turn the clock and call it.
 */
#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/random.h"
#include "private.h"

enum { DISCOVERY_MS = 3600 * 1000 };

static const char no_memory[] = "there is not enough memory to read it";

static void arm(struct oauth_issuer *issuer);

/* --- the end of a fetch --- */

/* Not each time anew: the log hears of another reason, and of the end. */
static void log_failure(struct oauth_issuer *issuer, const char *message, const char *reason) {
    bool is_new = strcmp(issuer->told, reason) != 0;
    log_write(issuer->oauth->log, is_new ? LOG_WARN : LOG_DEBUG, "oauth", message,
              LOG_TEXT("issuer", issuer->label), LOG_CSTR("reason", reason));
    snprintf(issuer->told, sizeof issuer->told, "%s", reason);
}

static void end_fetch(struct oauth_issuer *issuer) {
    issuer->is_fetching = false;
    oauth_fetch_forget(&issuer->fetch);
    arm(issuer);
}

static void fail(struct oauth_issuer *issuer, const char *reason) {
    struct oauth *oauth = issuer->oauth;
    buf_reset(&issuer->jwks_uri, 0);
    log_failure(issuer, "keys cannot be fetched", reason);
    pthread_mutex_lock(&oauth->mutex);
    snprintf(issuer->error, sizeof issuer->error, "%s", reason);
    oauth_schedule_failed(&issuer->schedule, oauth_now(oauth), random_u64());
    oauth_waiting_tell_all(issuer);
    pthread_mutex_unlock(&oauth->mutex);
    end_fetch(issuer);
}

static void log_success(struct oauth_issuer *issuer, bool is_changed, size_t n_keys) {
    bool was_failing = issuer->told[0] != '\0';
    log_write(issuer->oauth->log, is_changed || was_failing ? LOG_INFO : LOG_DEBUG, "oauth",
              is_changed ? "keys fetched" : "keys confirmed", LOG_TEXT("issuer", issuer->label),
              LOG_NUM("keys", n_keys));
    issuer->told[0] = '\0';
}

/* `keys`: a new set, taken over; NULL: the old one is confirmed. */
static void succeed(struct oauth_issuer *issuer, struct jose_keys *keys) {
    static const char nothing[] = "it has no key that can be used";
    struct oauth *oauth = issuer->oauth;
    struct jose_keys *old = NULL;
    size_t n_keys = jose_keys_count(keys != NULL ? keys : issuer->keys);
    if (n_keys != 0)
        log_success(issuer, keys != NULL, n_keys);
    else
        log_failure(issuer, "there are no keys", nothing);
    pthread_mutex_lock(&oauth->mutex);
    uint64_t now = oauth_now(oauth);
    if (keys != NULL) {
        old = issuer->keys;
        issuer->keys = keys;
        atomic_fetch_add(&issuer->generation, 1);
    }
    if (n_keys != 0)
        oauth_schedule_succeeded(&issuer->schedule, now, issuer->fetch.lifetime_ms, random_u64());
    else
        oauth_schedule_emptied(&issuer->schedule, now, random_u64());
    snprintf(issuer->error, sizeof issuer->error, "%s", n_keys != 0 ? "" : nothing);
    oauth_waiting_tell_all(issuer);
    pthread_mutex_unlock(&oauth->mutex);
    jose_keys_unref(old);
    end_fetch(issuer);
}

static void read_keys(struct oauth_issuer *issuer) {
    struct jose_keys *keys = NULL;
    struct jose_keys_report report = {.n_used = 0};
    const char *reason = "";
    struct slice document = buf_slice(&issuer->fetch.body);
    if (issuer->document != NULL &&
        slice_eq(document, slice_make(issuer->document, issuer->document_len))) {
        succeed(issuer, NULL);
        return;
    }
    int error = jose_keys_read(issuer->oauth->reader, document, &keys, &report, &reason);
    if (error != 0) {
        fail(issuer, error > 0 ? reason : no_memory);
        return;
    }
    size_t len = 0;
    char *kept = buf_take(&issuer->fetch.body, &len);
    if (kept == NULL) {
        jose_keys_unref(keys);
        fail(issuer, no_memory);
        return;
    }
    mem_free(issuer->document);
    issuer->document = kept;
    issuer->document_len = len;
    if (report.n_skipped != 0)
        log_write(issuer->oauth->log, LOG_WARN, "oauth", "keys are left out",
                  LOG_TEXT("issuer", issuer->label), LOG_NUM("keys", report.n_skipped),
                  LOG_CSTR("reason", report.first_reason));
    succeed(issuer, keys);
}

/* --- a fetch --- */

static void get(struct oauth_issuer *issuer, struct slice url, bool is_at_keys, bool is_found) {
    issuer->is_at_keys = is_at_keys;
    int error = oauth_fetch_get(&issuer->fetch, url, is_found);
    if (error != 0)
        fail(issuer, error > 0 ? issuer->fetch.reason : no_memory);
}

static void get_metadata(struct oauth_issuer *issuer) {
    struct buf url CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI + KIB(1));
    int error = oauth_candidate(issuer->config->issuer, issuer->n_candidate, &url);
    if (error == 0)
        get(issuer, buf_slice(&url), false, false);
    else if (error == OAUTH_E_END)
        fail(issuer, issuer->best);
    else
        fail(issuer, error < 0 ? no_memory : "the issuer is no URL that discovery knows");
}

/* What the log should say when no candidate is of use: anything rather than that one of them is not
 * there, which is only to be expected. */
static void get_next_metadata(struct oauth_issuer *issuer, const char *reason, bool is_absent) {
    if (issuer->best[0] == '\0' || (issuer->best_is_absent && !is_absent)) {
        snprintf(issuer->best, sizeof issuer->best, "%s", reason);
        issuer->best_is_absent = is_absent;
    }
    issuer->n_candidate++;
    get_metadata(issuer);
}

static void read_metadata(struct oauth_issuer *issuer) {
    const char *reason = "";
    buf_reset(&issuer->jwks_uri, 0);
    int error = oauth_metadata_read(issuer->oauth->reader, buf_slice(&issuer->fetch.body),
                                    issuer->config->issuer, OAUTH_JWKS_URI, &issuer->jwks_uri, NULL,
                                    &reason);
    if (error > 0) {
        get_next_metadata(issuer, reason, false);
    } else if (error < 0) {
        fail(issuer, no_memory);
    } else {
        issuer->jwks_uri_ms = oauth_now(issuer->oauth);
        get(issuer, buf_slice(&issuer->jwks_uri), true, true);
    }
}

static void on_got(void *context, enum oauth_got got) {
    struct oauth_issuer *issuer = context;
    if (got == OAUTH_GOT_DOCUMENT && issuer->is_at_keys)
        read_keys(issuer);
    else if (got == OAUTH_GOT_DOCUMENT)
        read_metadata(issuer);
    else if (got == OAUTH_GOT_ANOTHER && !issuer->is_at_keys)
        get_next_metadata(issuer, issuer->fetch.reason, issuer->fetch.is_absent);
    else
        fail(issuer, issuer->fetch.reason);
}

static void begin_fetch(struct oauth_issuer *issuer, uint64_t now_ms) {
    issuer->is_fetching = true;
    issuer->limit_ms = now_ms + LIMIT_JWKS_FETCH_MS;
    issuer->n_candidate = 0;
    issuer->best[0] = '\0';
    if (!slice_is_empty(issuer->config->url))
        get(issuer, issuer->config->url, true, false);
    else if (buf_len(&issuer->jwks_uri) != 0 && now_ms - issuer->jwks_uri_ms < DISCOVERY_MS)
        get(issuer, buf_slice(&issuer->jwks_uri), true, true);
    else
        get_metadata(issuer);
}

/* --- time --- */

static void arm(struct oauth_issuer *issuer) {
    struct oauth *oauth = issuer->oauth;
    pthread_mutex_lock(&oauth->mutex);
    uint64_t next = oauth_waiting_deadline(issuer);
    if (issuer->is_fetching && issuer->limit_ms < next)
        next = issuer->limit_ms;
    if (!issuer->schedule.is_running && issuer->schedule.next_ms < next)
        next = issuer->schedule.next_ms;
    if (issuer->keys != NULL && issuer->schedule.confirmed_ms + LIMIT_JWKS_STALE_MS < next)
        next = issuer->schedule.confirmed_ms + LIMIT_JWKS_STALE_MS;
    uint64_t now = oauth_now(oauth);
    pthread_mutex_unlock(&oauth->mutex);
    if (next != UINT64_MAX)
        io_timer_start(issuer->timer, next > now ? next - now : 0);
    else
        io_timer_stop(issuer->timer);
}

/* With the mutex held. The keys are the caller's to free. */
static struct jose_keys *take_stale(struct oauth_issuer *issuer, uint64_t now_ms) {
    if (issuer->keys == NULL || !oauth_schedule_is_stale(&issuer->schedule, now_ms))
        return NULL;
    issuer->schedule.is_confirmed = false;
    atomic_fetch_add(&issuer->generation, 1);
    return TAKE(issuer->keys);
}

static void drop_stale(struct oauth_issuer *issuer, struct jose_keys *keys) {
    if (keys == NULL)
        return;
    jose_keys_unref(keys);
    mem_free(TAKE(issuer->document));
    log_write(issuer->oauth->log, LOG_ERROR, "oauth",
              "keys were not confirmed for a day: tokens of this issuer are refused from now on",
              LOG_TEXT("issuer", issuer->label), LOG_CSTR("reason", issuer->told));
}

void oauth_issuer_tick(struct oauth_issuer *issuer) {
    struct oauth *oauth = issuer->oauth;
    if (!issuer->is_remote)
        return;
    uint64_t now = oauth_now(oauth);
    if (issuer->is_fetching && now >= issuer->limit_ms) {
        oauth_fetch_stop(&issuer->fetch);
        fail(issuer, "it did not answer in time");
    }
    pthread_mutex_lock(&oauth->mutex);
    struct jose_keys *stale = take_stale(issuer, now);
    oauth_waiting_tell_late(issuer, now);
    if (oauth_schedule_is_due(&issuer->schedule, now))
        issuer->schedule.is_running = true;
    bool begins = issuer->schedule.is_running && !issuer->is_fetching;
    pthread_mutex_unlock(&oauth->mutex);
    drop_stale(issuer, stale);
    if (begins)
        begin_fetch(issuer, now);
    arm(issuer);
}

static void on_timer(void *context) {
    oauth_issuer_tick(context);
}

/* --- its life --- */

/* The issuer's own name where it has one. A query may be a secret. */
static struct slice make_label(const struct config_issuer *config) {
    if (!slice_is_empty(config->issuer))
        return config->issuer;
    if (slice_is_empty(config->url))
        return config->expected_issuer;
    struct slice label, query;
    slice_cut(config->url, '?', &label, &query);
    return label;
}

void oauth_issuer_init(struct oauth_issuer *issuer, struct oauth *oauth,
                       const struct config_issuer *config) {
    issuer->oauth = oauth;
    issuer->config = config;
    issuer->label = make_label(config);
    issuer->expected =
        !slice_is_empty(config->expected_issuer) ? config->expected_issuer : config->issuer;
    issuer->is_remote = !slice_is_empty(config->url) || !slice_is_empty(config->issuer);
    issuer->schedule.poll_interval_ms = config->poll_interval_ms;
    atomic_init(&issuer->generation, 0);
    list_init(&issuer->waiting);
    buf_init(&issuer->jwks_uri, LIMIT_URI);
    oauth_fetch_init(&issuer->fetch, LIMIT_JWKS);
}

int oauth_issuer_open(struct oauth_issuer *issuer) {
    struct oauth *oauth = issuer->oauth;
    if (!slice_is_empty(issuer->config->secret)) {
        int error = jose_keys_from_secret(issuer->config->secret, &issuer->secret_keys);
        if (error != 0)
            return error > 0 ? OAUTH_E_INVALID : error;
    }
    if (issuer->is_remote) {
        issuer->timer = io_timer_new(oauth->loop, on_timer, issuer);
        issuer->fetch.client = oauth->client;
        issuer->fetch.rules = oauth->rules;
        issuer->fetch.version = slice_from_cstr(oauth->version);
        issuer->fetch.on_done = on_got;
        issuer->fetch.context = issuer;
    }
    return 0;
}

void oauth_issuer_deinit(struct oauth_issuer *issuer) {
    oauth_fetch_deinit(&issuer->fetch);
    issuer->timer = io_timer_free(issuer->timer);
    issuer->keys = jose_keys_unref(issuer->keys);
    issuer->secret_keys = jose_keys_unref(issuer->secret_keys);
    buf_deinit(&issuer->jwks_uri);
    mem_free(TAKE(issuer->document));
}

int oauth_issuer_inherit(struct oauth_issuer *issuer, struct oauth_issuer *from) {
    char *copy = NULL;
    if (from->document != NULL) {
        copy = mem_alloc(from->document_len);
        if (copy == NULL)
            return -ENOMEM;
        memcpy(copy, from->document, from->document_len);
    }
    issuer->document = copy;
    issuer->document_len = from->document_len;
    pthread_mutex_lock(&from->oauth->mutex);
    issuer->keys = from->keys != NULL ? jose_keys_ref(from->keys) : NULL;
    atomic_store(&issuer->generation, atomic_load(&from->generation));
    issuer->schedule.is_confirmed = from->schedule.is_confirmed;
    issuer->schedule.confirmed_ms = from->schedule.confirmed_ms;
    issuer->schedule.was_asked = from->schedule.was_asked;
    issuer->schedule.asked_ms = from->schedule.asked_ms;
    memcpy(issuer->error, from->error, sizeof issuer->error);
    pthread_mutex_unlock(&from->oauth->mutex);
    memcpy(issuer->told, from->told, sizeof issuer->told);
    return 0;
}
