/*
 * Legacy sessions, of Streamable HTTP (MCP 2025-03-26 to 2025-11-25) and of HTTP+SSE (sse.c). A
 * session belongs to a principal and an endpoint; for everybody else it does not exist. Its fixed
 * facts are readable on every worker; calls may land on any of them.
 */
#include "base/base64.h"
#include "base/mem.h"
#include "base/random.h"
#include "private.h"

void gw_sessions_init(struct gw_sessions *sessions, struct slice instance) {
    for (size_t i = 0; i < GW_SESSION_SHARDS; i++) {
        pthread_mutex_init(&sessions->shards[i].mutex, NULL);
        map_init(&sessions->shards[i].by_id);
    }
    random_bytes(&sessions->key, sizeof sessions->key);
    random_bytes(&sessions->event_key, sizeof sessions->event_key);
    if (slice_to_cstr(instance, sessions->instance, sizeof sessions->instance) != 0)
        sessions->instance[0] = '\0'; /* never: check_instance() */
}

void gw_sessions_deinit(struct gw_sessions *sessions) {
    for (size_t i = 0; i < GW_SESSION_SHARDS; i++) {
        size_t cursor = 0;
        void *session = NULL;
        while (map_next(&sessions->shards[i].by_id, &cursor, NULL, &session))
            gw_session_unref(session);
        map_deinit(&sessions->shards[i].by_id);
        pthread_mutex_destroy(&sessions->shards[i].mutex);
    }
}

static struct gw_session_shard *shard_of(struct gw_sessions *sessions, struct slice id) {
    return &sessions->shards[hash_siphash(&sessions->key, id) % GW_SESSION_SHARDS];
}

struct gw_session *gw_session_ref(struct gw_session *session) {
    atomic_fetch_add(&session->refs, 1);
    return session;
}

struct gw_session *gw_session_unref(struct gw_session *session) {
    if (session != NULL && atomic_fetch_sub(&session->refs, 1) == 1) {
        size_t cursor = 0;
        void *place = NULL;
        while (map_next(&session->calls, &cursor, NULL, &place))
            mem_free(place);
        map_deinit(&session->calls);
        gw_subscriptions_drop(session);
        mem_free(session->listen_id);
        gw_replays_deinit(session);
        gw_task_tokens_free(session->task_tokens);
        gw_principal_unref(session->principal);
        auth_identity_unref(session->identity);
        pthread_mutex_destroy(&session->mutex);
        mem_free(session->declared);
        mem_free(session);
    }
    return NULL;
}

void gw_session_declare(struct gw_session *session, struct slice extensions,
                        struct slice experimental) {
    char *text = mem_alloc(extensions.len + experimental.len + 1);
    if (text == NULL)
        return; /* servers are told less */
    if (extensions.len != 0)
        memcpy(text, extensions.ptr, extensions.len);
    if (experimental.len != 0)
        memcpy(text + extensions.len, experimental.ptr, experimental.len);
    mem_free(session->declared);
    session->declared = text;
    session->extensions_len = extensions.len;
    session->experimental_len = experimental.len;
}

/* Unguessable, whatever stands before it. The dot is no character of base64url: what is before the
 * first one is the instance, or there is none. */
MUST_CHECK static int make_id(const struct gw_sessions *sessions, struct gw_session *session) {
    char bytes[GW_SESSION_RANDOM_BYTES];
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(GW_SESSION_ID_CHARS);
    random_bytes(bytes, sizeof bytes);
    if (sessions->instance[0] != '\0')
        buf_printf(&text, "%s.", sessions->instance);
    int error = base64url_encode(&text, slice_make(bytes, sizeof bytes));
    if (error == 0)
        error = buf_error(&text);
    return error == 0 ? slice_to_cstr(buf_slice(&text), session->id, sizeof session->id) : error;
}

bool gw_session_is_over(const struct gw_session *session, uint64_t now_ms) {
    uint64_t lifetime = atomic_load(&session->gateway->session_lifetime_ms);
    return lifetime != 0 && now_ms > session->opened_ms && now_ms - session->opened_ms >= lifetime;
}

static bool is_in_use(struct gw_session *session, uint64_t now_ms) {
    pthread_mutex_lock(&session->mutex);
    /* A stream on which nobody has said anything yet is none that works. */
    bool is_begun = session->kind != GW_SESSION_SSE || atomic_load(&session->is_begun);
    bool has_stream =
        session->stream_worker != NULL && is_begun && !gw_session_is_over(session, now_ms);
    bool is_used = session->calls.count != 0 || has_stream;
    pthread_mutex_unlock(&session->mutex);
    return is_used;
}

/* Makes room: clients that never end their sessions must not lock themselves out, nor push out the
 * one that works. False: all are in use. */
static bool close_oldest_unused(struct gw_principal *principal, uint64_t now_ms) {
    struct gw_session *oldest = NULL;
    uint64_t oldest_ms = UINT64_MAX;
    pthread_mutex_lock(&principal->mutex);
    LIST_FOREACH_SAFE (&principal->sessions, link, tmp) {
        struct gw_session *session = CONTAINER_OF(link, struct gw_session, principal_link);
        uint64_t last_used_ms = atomic_load(&session->last_used_ms);
        if (last_used_ms < oldest_ms && !is_in_use(session, now_ms)) {
            oldest = session;
            oldest_ms = last_used_ms;
        }
    }
    if (oldest != NULL)
        gw_session_ref(oldest);
    pthread_mutex_unlock(&principal->mutex);
    if (oldest == NULL)
        return false;
    gw_session_close(oldest);
    gw_session_unref(oldest);
    return true;
}

static bool take_place(struct gw_principal *principal, uint64_t max) {
    pthread_mutex_lock(&principal->mutex);
    bool has_room = principal->n_sessions < max;
    principal->n_sessions += has_room ? 1 : 0;
    pthread_mutex_unlock(&principal->mutex);
    return has_room;
}

static void give_place_back(struct gw_principal *principal) {
    pthread_mutex_lock(&principal->mutex);
    principal->n_sessions--;
    pthread_mutex_unlock(&principal->mutex);
}

struct gw_session *gw_session_new(struct gateway *gateway, struct gw_principal *principal,
                                  struct upstream *only, enum gw_session_kind kind,
                                  enum mcp_revision revision, unsigned capabilities,
                                  uint64_t now_ms) {
    uint64_t max = atomic_load(&gateway->max_sessions);
    /* Each principal has a number of its own, so that one cannot lock out another. */
    if (!take_place(principal, max) &&
        !(close_oldest_unused(principal, now_ms) && take_place(principal, max)))
        return NULL;
    struct gw_session *session = mem_alloc(sizeof *session);
    if (session == NULL || make_id(&gateway->sessions, session) != 0) {
        mem_free(session);
        give_place_back(principal);
        return NULL;
    }
    atomic_init(&session->refs, 2); /* the table's and the caller's */
    session->gateway = gateway;
    session->principal = gw_principal_ref(principal);
    if (only != NULL &&
        slice_to_cstr(upstream_name(only), session->only, sizeof session->only) != 0)
        session->only[0] = '\0'; /* never: a name fits */
    session->kind = kind;
    session->opened_ms = now_ms;
    session->revision = revision;
    session->capabilities = capabilities;
    atomic_init(&session->last_used_ms, now_ms);
    atomic_init(&session->log_level, -1);
    pthread_mutex_init(&session->mutex, NULL);
    map_init(&session->calls);
    list_init(&session->subscriptions);
    gw_replays_init(&session->replays);
    struct slice id = slice_from_cstr(session->id);
    struct gw_session_shard *shard = shard_of(&gateway->sessions, id);
    pthread_mutex_lock(&shard->mutex);
    int error = map_set(&shard->by_id, id, session);
    pthread_mutex_unlock(&shard->mutex);
    if (error != 0) {
        give_place_back(principal);
        atomic_store(&session->refs, 1);
        gw_session_unref(session);
        return NULL;
    }
    atomic_fetch_add(&gateway->sessions.count, 1);
    pthread_mutex_lock(&principal->mutex);
    list_push_back(&principal->sessions, &session->principal_link);
    pthread_mutex_unlock(&principal->mutex);
    return session;
}

bool gw_session_is_at(const struct gw_session *session, const struct upstream *only) {
    return slice_eq(slice_from_cstr(session->only),
                    only != NULL ? upstream_name(only) : SLICE_EMPTY);
}

struct gw_session *gw_session_find(struct gateway *gateway, struct slice id,
                                   const struct gw_principal *principal,
                                   const struct upstream *only, enum gw_session_kind kind,
                                   uint64_t now_ms) {
    struct gw_session_shard *shard = shard_of(&gateway->sessions, id);
    pthread_mutex_lock(&shard->mutex);
    struct gw_session *session = map_get(&shard->by_id, id);
    bool is_ours = session != NULL && session->kind == kind && session->principal == principal &&
                   gw_session_is_at(session, only) &&
                   (!gw_session_is_over(session, now_ms) || is_in_use(session, now_ms));
    if (is_ours)
        gw_session_ref(session);
    pthread_mutex_unlock(&shard->mutex);
    if (!is_ours)
        return NULL;
    atomic_store(&session->last_used_ms, now_ms);
    return session;
}

void gw_session_close(struct gw_session *session) {
    struct gateway *gateway = session->gateway;
    if (atomic_exchange(&session->is_closed, true))
        return;
    struct slice id = slice_from_cstr(session->id);
    pthread_mutex_lock(&session->principal->mutex);
    list_remove(&session->principal_link);
    session->principal->n_sessions--;
    pthread_mutex_unlock(&session->principal->mutex);
    gw_notify_end_stream(session);
    gw_session_cancel_calls(session);
    gw_subscriptions_drop(session);
    gw_replays_close(session);
    upstream_set_forget_session(gateway->upstreams, id, session->capabilities);
    if (atomic_load(&gateway->has_instances_of_sessions))
        gw_notify_recheck(gateway); /* their memory is in views until somebody looks */
    struct gw_session_shard *shard = shard_of(&gateway->sessions, id);
    pthread_mutex_lock(&shard->mutex);
    struct gw_session *removed = map_remove(&shard->by_id, id);
    pthread_mutex_unlock(&shard->mutex);
    atomic_fetch_sub(&gateway->sessions.count, 1);
    gw_session_unref(removed);
}

/* On worker 0. */
static bool is_expired(struct gw_session *session, uint64_t now_ms) {
    uint64_t timeout = session->gateway->workers[0].config->session_idle_timeout_ms;
    uint64_t last_used = atomic_load(&session->last_used_ms);
    if (gw_session_is_over(session, now_ms))
        return !is_in_use(session, now_ms);
    if (timeout == 0 || now_ms < last_used || now_ms - last_used < timeout)
        return false;
    return !is_in_use(session, now_ms);
}

/* Of Streamable HTTP: with HTTP+SSE the answers of its last calls go there. */
static void end_stream_of_old(struct gw_session *session, uint64_t now_ms) {
    if (session->kind == GW_SESSION_HTTP && gw_session_is_over(session, now_ms))
        gw_notify_end_stream(session);
}

void gw_sessions_expire(struct gateway *gateway, uint64_t now_ms) {
    for (size_t i = 0; i < GW_SESSION_SHARDS; i++) {
        struct gw_session_shard *shard = &gateway->sessions.shards[i];
        struct gw_session *expired = NULL;
        do { /* one at a time, so that closing happens without the shard's lock */
            size_t cursor = 0;
            void *session = NULL;
            expired = NULL;
            pthread_mutex_lock(&shard->mutex);
            while (expired == NULL && map_next(&shard->by_id, &cursor, NULL, &session)) {
                if (is_expired(session, now_ms))
                    expired = gw_session_ref(session);
                else
                    end_stream_of_old(session, now_ms);
            }
            pthread_mutex_unlock(&shard->mutex);
            if (expired != NULL)
                gw_session_close(expired);
            gw_session_unref(expired);
        } while (expired != NULL);
    }
}

void gw_session_note_caller(struct gw_session *session, struct auth_identity *identity) {
    pthread_mutex_lock(&session->mutex);
    struct auth_identity *old = session->identity;
    if (old != identity)
        session->identity = auth_identity_ref(identity);
    pthread_mutex_unlock(&session->mutex);
    if (old != identity)
        auth_identity_unref(old);
}

/* Those of a shard, with references: `fn` must not run under its lock. NULL: none. */
static struct gw_session **take_sessions(struct gw_session_shard *shard, size_t *ret_n) {
    size_t n = 0, cursor = 0;
    void *session = NULL;
    pthread_mutex_lock(&shard->mutex);
    struct gw_session **sessions =
        shard->by_id.count != 0 ? mem_xalloc(shard->by_id.count * sizeof(struct gw_session *))
                                : NULL;
    while (sessions != NULL && map_next(&shard->by_id, &cursor, NULL, &session))
        sessions[n++] = gw_session_ref(session);
    pthread_mutex_unlock(&shard->mutex);
    *ret_n = n;
    return sessions;
}

void gw_sessions_each(struct gw_sessions *sessions, gw_session_fn *fn, void *context) {
    for (size_t i = 0; i < GW_SESSION_SHARDS; i++) {
        size_t n = 0;
        struct gw_session **taken = take_sessions(&sessions->shards[i], &n);
        for (size_t k = 0; k < n; k++) {
            fn(context, taken[k]);
            gw_session_unref(taken[k]);
        }
        mem_free(taken);
    }
}

int gw_principal_log_level(struct gw_principal *principal) {
    int least = atomic_load(&principal->requests_log_level);
    pthread_mutex_lock(&principal->mutex);
    LIST_FOREACH_SAFE (&principal->sessions, link, tmp) {
        struct gw_session *session = CONTAINER_OF(link, struct gw_session, principal_link);
        int level = atomic_load(&session->log_level);
        if (level >= 0 && (least < 0 || level < least))
            least = level;
    }
    pthread_mutex_unlock(&principal->mutex);
    return least;
}
