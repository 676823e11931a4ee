/*
 * The requests for tokens: how one begins, and how it ends. Everything here runs on the loop; what
 * others look at is changed under the mutex, in one go when a request has ended.
 *
 * What becomes of it:
 *
 *   a token           for its subject, and all who wait for it
 *   a refusal         of this subject (what it has shown is not taken, or may not have that): it is
 *                     remembered for TOKENS_REFUSED_MS; others are not concerned. If more scopes
 *                     were asked for than before, they are denied, and it is asked without them
 *   an answer of no   this subject is left alone, twice as long each time; others may fare better,
 *   use               so no caller stops them with a token on which the server stumbles
 *   no answer, or     the source is left alone, twice as long each time: all who wait for it are
 *   none for us       told
 */
#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/secret.h"
#include "tokens.h"

static const char no_memory[] = "there is not enough memory";

/* --- what the log and the record hear --- */

static void tell(struct oauth_source *source, uint64_t lifetime_ms, const char *reason) {
    struct oauth_tokens *tokens = source->tokens;
    if (tokens->on_token != NULL)
        tokens->on_token(tokens->context, source->server, discovery_audience(source), lifetime_ms,
                         reason);
}

/* Not each time anew: the log hears of another reason, and of the end. */
static void log_failure(struct oauth_source *source, const struct tokens_failure *failure) {
    bool is_new = strcmp(source->told, failure->reason) != 0;
    log_write(source->tokens->log, is_new ? LOG_WARN : LOG_DEBUG, "oauth",
              "there is no token for the server", LOG_TEXT("server", source->server->name),
              LOG_TEXT("issuer", discovery_audience(source)), LOG_CSTR("reason", failure->reason));
    memcpy(source->told, failure->reason, sizeof source->told);
    tell(source, 0, failure->reason);
}

static void log_token(struct oauth_source *source, uint64_t lifetime_ms) {
    bool is_news = !source->has_got || source->told[0] != '\0';
    log_write(source->tokens->log, is_news ? LOG_INFO : LOG_DEBUG, "oauth",
              "token got for the server", LOG_TEXT("server", source->server->name),
              LOG_TEXT("issuer", discovery_audience(source)),
              LOG_NUM("expires_in_s", lifetime_ms / 1000));
    source->has_got = true;
    source->told[0] = '\0';
    tell(source, lifetime_ms, NULL);
}

/* --- the end of a request --- */

static struct token_request *request_free(struct token_request *request) {
    if (request == NULL)
        return NULL;
    oauth_fetch_deinit(&request->fetch);
    oauth_token_unref(request->token);
    buf_deinit(&request->scopes);
    mem_free(request);
    return NULL;
}

static void request_freep(struct token_request **request) {
    request_free(*request);
}

static void end(struct token_request *request) {
    struct oauth_source *source = request->source;
    list_remove(&request->link);
    source->n_running--;
    request_free(request);
}

void requests_tell_queue(struct oauth_source *source, const struct tokens_failure *failure) {
    struct list_link *link;
    subjects_tell_queued(source, failure);
    while ((link = list_pop_front(&source->queue)) != NULL)
        CONTAINER_OF(link, struct oauth_subject, queued)->state = SUBJECT_IDLE;
}

static void fail_source(struct oauth_source *source, const struct tokens_failure *failure) {
    log_failure(source, failure);
    pthread_mutex_lock(&source->mutex);
    tokens_failure_set(&source->failure, failure->lack, failure->reason);
    tokens_failure_pause(&source->failure, tokens_now(source->tokens));
    requests_tell_queue(source, &source->failure);
    pthread_mutex_unlock(&source->mutex);
}

void source_fail(struct oauth_source *source, enum oauth_lack lack, const char *reason) {
    struct tokens_failure failure = {.n = 0};
    tokens_failure_set(&failure, lack, reason);
    fail_source(source, &failure);
}

/* Of the request alone. `is_for_good`: the answer will be the same, for TOKENS_REFUSED_MS. */
static void fail_subject(struct token_request *request, const struct tokens_failure *failure,
                         bool is_for_good) {
    struct oauth_source *source = request->source;
    struct oauth_subject *subject = request->subject;
    log_failure(source, failure);
    pthread_mutex_lock(&source->mutex);
    uint64_t now = tokens_now(source->tokens);
    subject->state = SUBJECT_IDLE;
    tokens_failure_set(&subject->failure, failure->lack, failure->reason);
    if (is_for_good)
        subject->failure.until_ms = now + TOKENS_REFUSED_MS;
    else
        tokens_failure_pause(&subject->failure, now);
    subject_tell(source, subject, NULL, &subject->failure);
    pthread_mutex_unlock(&source->mutex);
    end(request);
}

/* Of the request and all others. */
static void fail_all(struct token_request *request, const struct tokens_failure *failure) {
    struct oauth_source *source = request->source;
    pthread_mutex_lock(&source->mutex);
    request->subject->state = SUBJECT_IDLE;
    subject_tell(source, request->subject, NULL, failure);
    pthread_mutex_unlock(&source->mutex);
    end(request);
    fail_source(source, failure);
}

static void fail(struct token_request *request, enum grant_blame blame, enum oauth_lack lack,
                 const char *reason) {
    struct tokens_failure failure = {.n = 0};
    tokens_failure_set(&failure, lack, reason);
    if (blame == GRANT_BLAME_SUBJECT)
        fail_subject(request, &failure, false);
    else
        fail_all(request, &failure);
}

/* More scopes than before are denied: it is asked without them, and not again for them. Those of a
 * challenge go for all: a server that challenges one caller for what he alone may have would lock
 * out all others. False: no more were asked for. */
static bool step_back(struct token_request *request, const struct tokens_failure *failure) {
    struct oauth_source *source = request->source;
    struct oauth_subject *subject = request->subject;
    pthread_mutex_lock(&source->mutex);
    bool was_stepping =
        subject->is_stepping && slice_eq(buf_slice(&request->scopes), buf_slice(&subject->wanted));
    /* Those of a challenge that another subject met: this one may have less. */
    bool was_challenged =
        !was_stepping && buf_len(&source->fixed_scopes) == 0 && buf_len(&subject->wanted) == 0 &&
        buf_len(&source->challenge_scopes) != 0 &&
        slice_eq(buf_slice(&request->scopes), buf_slice(&source->challenge_scopes));
    if (was_stepping) {
        uint64_t now = tokens_now(source->tokens);
        if (now - subject->denied_ms >= TOKENS_DENIED_MS)
            buf_reset(&subject->denied, 0);
        /* When there is no room for more, those that are in there will do. */
        (void)!oauth_scopes_add(&subject->denied, buf_slice(&subject->wanted));
        subject->denied_ms = now;
        subject->is_stepping = false;
        buf_reset(&subject->wanted, 0);
        (void)!buf_append(&subject->wanted, buf_slice(&subject->asked));
    } else if (was_challenged) {
        buf_reset(&source->challenge_scopes, 0);
    }
    if (was_stepping || was_challenged) {
        subject->state = SUBJECT_QUEUED;
        list_push_front(&source->queue, &subject->queued);
    }
    pthread_mutex_unlock(&source->mutex);
    if (was_stepping || was_challenged) {
        log_failure(source, failure);
        end(request);
    }
    return was_stepping || was_challenged;
}

/* --- answers --- */

/* No later than the subject (RFC 8693 section 2.2.1 leaves that to the server). */
static struct oauth_token *make_token(struct token_request *request, struct slice text,
                                      uint64_t *lifetime_ms, bool *ret_is_bound) {
    struct oauth_tokens *tokens = request->source->tokens;
    uint64_t wall = tokens_wall(tokens), subject_left = UINT64_MAX;
    uint64_t waited = tokens_now(tokens) - request->begun_ms;
    *lifetime_ms = *lifetime_ms > waited ? *lifetime_ms - waited : 0;
    if (*lifetime_ms > 2 * ROUNDING_MS)
        *lifetime_ms -= ROUNDING_MS;
    if (request->token != NULL && oauth_token_ends(request->token) != UINT64_MAX) {
        uint64_t ends = oauth_token_ends(request->token);
        subject_left = ends > wall ? ends - wall : 0;
    }
    *ret_is_bound = subject_left <= *lifetime_ms;
    if (*ret_is_bound)
        *lifetime_ms = subject_left;
    return oauth_token_new(text, wall + *lifetime_ms);
}

/* With the mutex held. */
static void keep_token(struct token_request *request, struct oauth_token *token,
                       uint64_t lifetime_ms, bool is_bound) {
    struct oauth_source *source = request->source;
    struct oauth_subject *subject = request->subject;
    subject->state = SUBJECT_IDLE;
    subject_drop_token(subject);
    subject->token = token;
    subject->lifetime_ms = lifetime_ms;
    subject->ends_ms = tokens_now(source->tokens) + lifetime_ms;
    subject->is_bound = is_bound;
    buf_reset(&subject->asked, 0);
    (void)!buf_append(&subject->asked, buf_slice(&request->scopes));
    subject->is_stepping = false;
    subject_tell(source, subject, token, NULL);
}

static void succeed(struct token_request *request, struct oauth_token *token, uint64_t lifetime_ms,
                    bool is_bound) {
    struct oauth_source *source = request->source;
    struct oauth_subject *subject = request->subject;
    log_token(source, lifetime_ms);
    pthread_mutex_lock(&source->mutex);
    source->failure.n = subject->failure.n = 0;
    source->failure.until_ms = subject->failure.until_ms = 0;
    if (subject->is_stepping &&
        !slice_eq(buf_slice(&request->scopes), buf_slice(&subject->wanted))) {
        /* While it ran, the server has asked for more: this one is of no use any more. */
        subject->state = SUBJECT_QUEUED;
        list_push_front(&source->queue, &subject->queued);
        oauth_token_unref(token);
    } else {
        keep_token(request, token, lifetime_ms, is_bound);
    }
    pthread_mutex_unlock(&source->mutex);
    end(request);
}

static void read_token(struct token_request *request) {
    struct oauth_source *source = request->source;
    struct buf text CLEANUP(oauth_wipe) = BUF_INIT(LIMIT_TOKEN_ANSWER);
    bool is_exchange = source_is_exchange(source), is_bound = false;
    uint64_t lifetime_ms = 0;
    const char *reason = "";
    struct slice issuer = slice_is_empty(source->server->auth_client.issuer)
                              ? buf_slice(&source->discovery.issuer)
                              : source->server->auth_client.issuer;
    int error = grant_read(source->tokens->reader, buf_slice(&request->fetch.body), is_exchange,
                           issuer, &text, &lifetime_ms, &reason);
    if (error != 0) {
        fail(request, GRANT_BLAME_SUBJECT, error < 0 ? OAUTH_LACK_MEMORY : OAUTH_LACK_UNREACHABLE,
             error < 0 ? no_memory : reason);
        return;
    }
    struct oauth_token *token = make_token(request, buf_slice(&text), &lifetime_ms, &is_bound);
    if (token == NULL)
        fail(request, GRANT_BLAME_SUBJECT, OAUTH_LACK_UNREACHABLE,
             "the access_token of its answer is none that can be sent");
    else if (lifetime_ms == 0) {
        oauth_token_unref(token);
        fail(request, GRANT_BLAME_SUBJECT, OAUTH_LACK_UNREACHABLE,
             "the token had ended when it came");
    } else
        succeed(request, token, lifetime_ms, is_bound);
}

/* It may repeat what it was sent. A long word can be a token, or a form of a secret. */
static bool may_be_shown(const struct oauth_source *source, struct slice description) {
    enum { WORD_MAX = 40 };
    struct slice secret = source->server->auth_client.client_secret;
    size_t len = 0;
    if (!slice_is_empty(secret) && slice_find(description, secret) != SIZE_MAX)
        return false;
    for (size_t i = 0; i < description.len; i++) {
        len = (unsigned char)description.ptr[i] > ' ' ? len + 1 : 0;
        if (len > WORD_MAX)
            return false;
    }
    return true;
}

static void log_description(const struct oauth_source *source, struct slice description) {
    bool is_shown = may_be_shown(source, description);
    if (description.len != 0)
        log_write(source->tokens->log, LOG_DEBUG, "oauth", "what the authorization server says",
                  LOG_TEXT("server", source->server->name),
                  LOG_TEXT("description", is_shown
                                              ? slice_sub(description, 0, 500)
                                              : SLICE("(not shown: it may hold a credential)")));
}

static void read_error(struct token_request *request) {
    struct oauth_source *source = request->source;
    struct buf description CLEANUP(buf_deinit) = BUF_INIT(LIMIT_TOKEN_ANSWER);
    struct tokens_failure failure = {.n = 0};
    unsigned status = request->fetch.status;
    bool is_about_scope = false;
    enum grant_blame blame =
        grant_read_error(source->tokens->reader, buf_slice(&request->fetch.body), status,
                         source_is_exchange(source), &failure, &is_about_scope, &description);
    log_description(source, buf_slice(&description));
    if (status == 404 || status == 405 || status == 410)
        discovery_forget(source);
    if (is_about_scope && step_back(request, &failure))
        return;
    if (blame == GRANT_BLAME_SUBJECT)
        fail_subject(request, &failure, failure.lack == OAUTH_LACK_REFUSED);
    else
        fail_all(request, &failure);
}

/* Too much to do, or on its way out: all others will hear the same. */
static bool is_about_source(const struct oauth_fetch *fetch) {
    return fetch->is_unreached || fetch->status == 0 || fetch->status == 429 ||
           fetch->status == 503 || fetch->status / 100 == 3;
}

static void on_got(void *context, enum oauth_got got) {
    struct token_request *request = context;
    struct oauth_source *source = request->source;
    if (got == OAUTH_GOT_DOCUMENT && request->fetch.status == 200) {
        read_token(request);
    } else if (got == OAUTH_GOT_DOCUMENT) {
        read_error(request);
    } else {
        if (request->fetch.is_unreached)
            discovery_forget(source);
        fail(request, is_about_source(&request->fetch) ? GRANT_BLAME_SOURCE : GRANT_BLAME_SUBJECT,
             OAUTH_LACK_UNREACHABLE, request->fetch.reason);
    }
    source_tick(source);
}

/* --- a request --- */

static int send(struct token_request *request, const char **ret_reason) {
    struct oauth_source *source = request->source;
    const struct config_oauth_client *client = &source->server->auth_client;
    bool is_configured = !slice_is_empty(client->token_endpoint);
    struct buf form CLEANUP(oauth_wipe) = BUF_INIT(0);
    struct buf authorization CLEANUP(oauth_wipe) = BUF_INIT(0);
    struct oauth_metadata none = {.has_methods = false};
    struct grant grant = {
        .server = source->server,
        .signer = source->signer,
        .audience = discovery_audience(source),
        .metadata = is_configured ? &none : &source->discovery.metadata,
        .subject = request->token != NULL ? oauth_token_text(request->token) : SLICE_EMPTY,
        .scopes = buf_slice(&request->scopes),
        .wall_ms = tokens_wall(source->tokens),
    };
    int error = grant_write(&grant, &form, &authorization, ret_reason);
    if (error != 0)
        return error;
    error = oauth_fetch_post(&request->fetch,
                             is_configured ? client->token_endpoint
                                           : buf_slice(&source->discovery.token_endpoint),
                             !is_configured, buf_slice(&authorization), buf_slice(&form));
    if (error > 0)
        *ret_reason = request->fetch.reason;
    return error;
}

/* The credentials go to this issuer now, and to no other one later. */
static int pin(struct oauth_source *source) {
    struct discovery *discovery = &source->discovery;
    if (!slice_is_empty(source->server->auth_client.issuer) || buf_len(&discovery->pinned) != 0)
        return 0;
    return buf_append(&discovery->pinned, buf_slice(&discovery->issuer));
}

static int request_new(struct oauth_source *source, struct token_request **ret_request) {
    struct token_request *request = mem_alloc(sizeof *request);
    if (request == NULL)
        return -ENOMEM;
    request->source = source;
    buf_init(&request->scopes, OAUTH_SCOPES_TEXT);
    oauth_fetch_init(&request->fetch, LIMIT_TOKEN_ANSWER);
    request->fetch.client = source->tokens->client;
    request->fetch.version = slice_from_cstr(source->tokens->version);
    request->fetch.rules = source->rules;
    request->fetch.is_for_stored = source->server->is_stored;
    request->fetch.on_done = on_got;
    request->fetch.context = request;
    *ret_request = request;
    return 0;
}

/* What is configured; else what the server has said is needed, the last time that it said so; else
 * what its metadata list. */
static struct slice choose_scopes(const struct oauth_source *source,
                                  const struct oauth_subject *subject) {
    if (buf_len(&source->fixed_scopes) != 0)
        return buf_slice(&source->fixed_scopes);
    if (buf_len(&subject->wanted) != 0)
        return buf_slice(&subject->wanted);
    if (buf_len(&source->challenge_scopes) != 0)
        return buf_slice(&source->challenge_scopes);
    return buf_slice(&source->discovery.scopes);
}

/* With the mutex held. NULL: no turn is due. */
static struct oauth_subject *take_turn(struct oauth_source *source, struct token_request *request) {
    struct list_link *link;
    while ((link = list_pop_front(&source->queue)) != NULL) {
        struct oauth_subject *subject = CONTAINER_OF(link, struct oauth_subject, queued);
        subject->state = SUBJECT_IDLE;
        if (!subject->is_renewed && !subject_is_awaited(source, subject))
            continue;
        subject->state = SUBJECT_RUNNING;
        request->subject = subject;
        request->token = oauth_token_ref(subject->subject);
        buf_append(&request->scopes, choose_scopes(source, subject));
        return subject;
    }
    return NULL;
}

bool requests_start_one(struct oauth_source *source, uint64_t now_ms) {
    CLEANUP(request_freep) struct token_request *request = NULL;
    const char *reason = no_memory;
    if (request_new(source, &request) != 0) {
        source_fail(source, OAUTH_LACK_MEMORY, no_memory);
        return false;
    }
    pthread_mutex_lock(&source->mutex);
    bool has_turn = take_turn(source, request) != NULL;
    pthread_mutex_unlock(&source->mutex);
    if (!has_turn)
        return false;
    struct token_request *running = TAKE(request);
    list_push_back(&source->running, &running->link);
    source->n_running++;
    running->begun_ms = now_ms;
    running->limit_ms = now_ms + LIMIT_TOKEN_FETCH_MS;
    int error = buf_error(&running->scopes);
    if (error == 0)
        error = pin(source);
    if (error == 0)
        error = send(running, &reason);
    if (error != 0)
        fail(running, GRANT_BLAME_SOURCE, error > 0 ? OAUTH_LACK_CLIENT : OAUTH_LACK_MEMORY,
             error > 0 ? reason : no_memory);
    return true;
}

/* --- for turns.c --- */

void requests_end_late(struct oauth_source *source, uint64_t now_ms) {
    LIST_FOREACH_SAFE (&source->running, link, next) {
        struct token_request *request = CONTAINER_OF(link, struct token_request, link);
        if (request->limit_ms > now_ms)
            return;
        oauth_fetch_stop(&request->fetch);
        fail(request, GRANT_BLAME_SOURCE, OAUTH_LACK_UNREACHABLE, "it did not answer in time");
    }
}

void requests_stop(struct oauth_source *source) {
    LIST_FOREACH_SAFE (&source->running, link, next) {
        struct token_request *request = CONTAINER_OF(link, struct token_request, link);
        pthread_mutex_lock(&source->mutex);
        request->subject->state = SUBJECT_IDLE;
        pthread_mutex_unlock(&source->mutex);
        end(request);
    }
}
