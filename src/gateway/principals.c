/*
 * Principals: whose state is whose. One is there as long as somebody holds it: a connection, a
 * session, a view, a call; and while it is there, everybody who proves to be it gets the same one,
 * on whatever worker.
 */
#include "base/mem.h"
#include "base/random.h"
#include "private.h"

void gw_principals_init(struct gw_principals *principals, size_t max_in_flight) {
    principals->max_in_flight = max_in_flight;
    random_bytes(&principals->key, sizeof principals->key);
    for (size_t i = 0; i < GW_PRINCIPAL_SHARDS; i++) {
        pthread_mutex_init(&principals->shards[i].mutex, NULL);
        map_init(&principals->shards[i].by_id);
    }
}

void gw_principals_deinit(struct gw_principals *principals) {
    for (size_t i = 0; i < GW_PRINCIPAL_SHARDS; i++) {
        map_deinit(&principals->shards[i].by_id);
        pthread_mutex_destroy(&principals->shards[i].mutex);
    }
}

static struct gw_principal_shard *shard_of(struct gw_principals *principals, struct slice id) {
    return &principals->shards[hash_siphash(&principals->key, id) % GW_PRINCIPAL_SHARDS];
}

static void destroy(struct gw_principal *principal) {
    admission_deinit(&principal->admission);
    pthread_mutex_destroy(&principal->mutex);
    mem_free(principal);
}

static struct gw_principal *make(struct gw_principals *principals, struct slice id) {
    struct gw_principal *principal = mem_alloc(sizeof *principal + id.len + 1);
    if (principal == NULL)
        return NULL;
    memcpy(principal->id_text, id.ptr, id.len);
    principal->id = slice_make(principal->id_text, id.len);
    principal->registry = principals;
    atomic_init(&principal->refs, 1);
    admission_init(&principal->admission, principals->max_in_flight);
    principal->subject = limits_subject_of(principal->id);
    pthread_mutex_init(&principal->mutex, NULL);
    list_init(&principal->sessions);
    atomic_init(&principal->requests_log_level, -1);
    return principal;
}

/* One whose last holder has just let go is not brought back: it is being taken out. */
static bool ref_unless_gone(struct gw_principal *principal) {
    unsigned refs = atomic_load(&principal->refs);
    while (refs != 0) {
        if (atomic_compare_exchange_weak(&principal->refs, &refs, refs + 1))
            return true;
    }
    return false;
}

struct gw_principal *gw_principal_find(struct gw_principals *principals, struct slice id) {
    struct gw_principal_shard *shard = shard_of(principals, id);
    pthread_mutex_lock(&shard->mutex);
    struct gw_principal *principal = map_get(&shard->by_id, id);
    if (principal != NULL && !ref_unless_gone(principal))
        principal = NULL;
    pthread_mutex_unlock(&shard->mutex);
    return principal;
}

struct gw_principal *gw_principal_get(struct gw_principals *principals, struct slice id) {
    struct gw_principal_shard *shard = shard_of(principals, id);
    pthread_mutex_lock(&shard->mutex);
    struct gw_principal *principal = map_get(&shard->by_id, id);
    if (principal == NULL || !ref_unless_gone(principal)) {
        principal = make(principals, id);
        if (principal != NULL && map_set(&shard->by_id, id, principal) != 0) {
            destroy(principal);
            principal = NULL;
        }
    }
    pthread_mutex_unlock(&shard->mutex);
    return principal;
}

struct gw_principal *gw_principal_ref(struct gw_principal *principal) {
    atomic_fetch_add(&principal->refs, 1);
    return principal;
}

struct gw_principal *gw_principal_unref(struct gw_principal *principal) {
    if (principal == NULL || atomic_fetch_sub(&principal->refs, 1) != 1)
        return NULL;
    struct gw_principal_shard *shard = shard_of(principal->registry, principal->id);
    pthread_mutex_lock(&shard->mutex);
    if (map_get(&shard->by_id, principal->id) == principal) /* or another one has its place */
        (void)map_remove(&shard->by_id, principal->id);
    pthread_mutex_unlock(&shard->mutex);
    destroy(principal);
    return NULL;
}

void gw_principals_each(struct gw_principals *principals, gw_principal_fn *fn, void *context) {
    for (size_t i = 0; i < GW_PRINCIPAL_SHARDS; i++) {
        struct gw_principal_shard *shard = &principals->shards[i];
        size_t cursor = 0;
        void *principal = NULL;
        pthread_mutex_lock(&shard->mutex);
        while (map_next(&shard->by_id, &cursor, NULL, &principal))
            fn(context, principal);
        pthread_mutex_unlock(&shard->mutex);
    }
}

struct gw_caller *gw_caller_new(struct gw_worker *worker, struct auth_identity *identity) {
    struct gw_caller *caller = mem_alloc(sizeof *caller);
    struct gw_principal *principal =
        caller != NULL ? gw_principal_get(&worker->gateway->principals, identity->principal) : NULL;
    if (principal == NULL) {
        mem_free(caller);
        auth_identity_unref(identity);
        return NULL;
    }
    caller->refs = 1;
    caller->identity = identity;
    caller->principal = principal;
    return caller;
}

struct gw_caller *gw_caller_ref(struct gw_caller *caller) {
    caller->refs++;
    return caller;
}

struct gw_caller *gw_caller_unref(struct gw_caller *caller) {
    if (caller == NULL || --caller->refs != 0)
        return NULL;
    auth_identity_unref(caller->identity);
    gw_principal_unref(caller->principal);
    mem_free(caller);
    return NULL;
}
