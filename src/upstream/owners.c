/*
 * Whose instance is which: found, made, and given up when there is no room for another one.
 *
 * Locks: an upstream's mutex first, then the set's for open instances; never the other way round.
 * So what is claimed to make room is taken from its upstream afterwards, with neither held; until
 * then whoever finds it sees that it is claimed, and puts another one into its place.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/mem.h"
#include "private.h"

enum { TELL_MS = 10000 };

/*
 * The key of an owner: principal or session, and at its end (OWNER_MARK) what its client can do.
 * Clients of 2026-07-28 have no session. Where each session has an instance of its own, those of
 * one principal share one, under a name that no session id has.
 */
static int write_key(const struct upstream *upstream, const struct upstream_owner *owner,
                     struct buf *key) {
    unsigned capabilities = owner->capabilities;
    switch (upstream->config->share) {
    case CONFIG_SHARE_PRINCIPAL:
        buf_append(key, owner->principal);
        break;
    case CONFIG_SHARE_SESSION:
        if (owner->session.len == 0)
            buf_append_cstr(key, OWNER_IS_PRINCIPAL);
        buf_append(key, owner->session.len != 0 ? owner->session : owner->principal);
        break;
    case CONFIG_SHARE_ALL:
        capabilities = 0;
        break;
    }
    return buf_printf(key, "\x1f%02x", capabilities);
}

bool upstream_owner_is(struct slice owner, struct slice principal, struct slice session) {
    const struct slice prefix = SLICE(OWNER_IS_PRINCIPAL);
    if (session.len != 0)
        return slice_eq(owner, session);
    return slice_starts_with(owner, prefix) && slice_eq(slice_from(owner, prefix.len), principal);
}

/* Open instances. */

enum hold { HOLD_FINE, HOLD_STOPPING, HOLD_FULL, HOLD_NO_MEMORY };

/* Whether it is worth to make one; by the time that it is made it may be another matter. */
static enum hold expect(struct upstream_set *set) {
    pthread_mutex_lock(&set->open_mutex);
    enum hold hold = atomic_load(&set->is_stopping) ? HOLD_STOPPING
                     : !room_has_place(&set->room)  ? HOLD_FULL
                                                    : HOLD_FINE;
    pthread_mutex_unlock(&set->open_mutex);
    return hold;
}

static enum hold hold_open(struct upstream_set *set, struct upstream_instance *instance) {
    enum hold hold = HOLD_FINE;
    pthread_mutex_lock(&set->open_mutex);
    if (atomic_load(&set->is_stopping))
        hold = HOLD_STOPPING;
    else if (!room_has_place(&set->room))
        hold = HOLD_FULL;
    else if (room_add(&set->room, instance) != 0)
        hold = HOLD_NO_MEMORY;
    if (hold == HOLD_FINE) {
        atomic_fetch_add(&set->n_open, 1);
        list_push_back(&set->open, &instance->open_link);
    }
    pthread_mutex_unlock(&set->open_mutex);
    return hold;
}

/* Out of the map, if it is still the one in there. */
static void forget(struct upstream_instance *instance) {
    struct upstream *upstream = instance->upstream;
    struct upstream_instance *removed = NULL;
    pthread_mutex_lock(&upstream->mutex);
    if (map_get(&upstream->instances, instance->key) == instance)
        removed = map_remove(&upstream->instances, instance->key);
    upstream_note_change(upstream);
    pthread_mutex_unlock(&upstream->mutex);
    upstream_instance_unref(removed);
}

void set_instance_closed(struct upstream_set *set, struct upstream_instance *instance) {
    forget(instance);
    pthread_mutex_lock(&set->open_mutex);
    list_remove(&instance->open_link);
    room_remove(&set->room, instance);
    pthread_mutex_unlock(&set->open_mutex);
    set_let_go(set);
}

static void tell_full(struct upstream_set *set, size_t n) {
    log_write(set->options.log, LOG_WARN, "upstream",
              "callers are refused: all that mcp.downstream_cache.max_size allows is in use",
              LOG_NUM("instances", n));
}

/* False: there is no room for another one, or more are open than may be, and none of them can go.
 */
static bool make_room(struct upstream_set *set, bool is_for_another) {
    uint64_t now = clock_monotonic_ms();
    pthread_mutex_lock(&set->open_mutex);
    struct room *room = &set->room;
    size_t n = room->n, max = atomic_load(&room->max);
    bool has_place = is_for_another ? n < max : n <= max;
    struct upstream_instance *gone = has_place ? NULL : room_claim(room, now);
    if (gone != NULL)
        upstream_instance_ref(gone); /* its own reference ends with its home */
    bool is_news = !has_place && gone == NULL && is_for_another &&
                   (room->told_ms == 0 || now - room->told_ms >= TELL_MS);
    if (is_news)
        room->told_ms = now;
    pthread_mutex_unlock(&set->open_mutex);
    if (is_news)
        tell_full(set, n);
    if (gone == NULL)
        return has_place;
    log_write(instance_log(gone), LOG_INFO, "upstream",
              "closes: unused longest, and another one is needed (mcp.downstream_cache.max_size)",
              LOG_TEXT("upstream", instance_name(gone)),
              LOG_TEXT("owner", instance_owner_name(gone)));
    forget(gone);
    instance_close(gone);
    upstream_instance_unref(gone);
    return true;
}

void set_resize(struct upstream_set *set, size_t max) {
    if (atomic_exchange(&set->room.max, max) == max)
        return;
    room_stir(&set->room);
    for (;;) {
        pthread_mutex_lock(&set->open_mutex);
        bool is_over = set->room.n > max;
        pthread_mutex_unlock(&set->open_mutex);
        if (!is_over || !make_room(set, false))
            return;
    }
}

/* Finding and making. */

/* With the lock: the one of this owner, unless it is on its way out; *ret_removed is to be given
 * up then. */
static struct upstream_instance *look(struct upstream *upstream, struct slice key,
                                      struct upstream_instance **ret_removed) {
    struct upstream_instance *instance = map_get(&upstream->instances, key);
    if (instance == NULL || (atomic_load(&instance->n_under_way) & ROOM_CLAIMED) == 0)
        return instance;
    *ret_removed = map_remove(&upstream->instances, key);
    return NULL;
}

/* With the lock. */
static enum hold make(struct upstream *upstream, struct slice key, struct upstream_worker *worker,
                      struct upstream_instance **ret_instance) {
    enum hold hold = expect(upstream->set);
    if (hold != HOLD_FINE)
        return hold;
    struct upstream_instance *instance = instance_new(upstream, key, worker);
    if (instance == NULL)
        return HOLD_NO_MEMORY;
    hold = map_set(&upstream->instances, key, instance) == 0 ? hold_open(upstream->set, instance)
                                                             : HOLD_NO_MEMORY;
    if (hold == HOLD_FINE) {
        *ret_instance = instance;
    } else {
        (void)map_remove(&upstream->instances, key);
        instance_discard(instance);
    }
    return hold;
}

int set_get(struct upstream *upstream, struct slice key, struct upstream_worker *worker,
            struct upstream_instance **ret_instance) {
    for (;;) {
        struct upstream_instance *removed = NULL;
        enum hold hold = HOLD_FINE;
        pthread_mutex_lock(&upstream->mutex);
        struct upstream_instance *instance = look(upstream, key, &removed);
        if (instance == NULL)
            hold = atomic_load(&upstream->is_retired) ? HOLD_STOPPING
                                                      : make(upstream, key, worker, &instance);
        if (hold == HOLD_FINE)
            *ret_instance = upstream_instance_ref(instance);
        pthread_mutex_unlock(&upstream->mutex);
        upstream_instance_unref(removed);
        switch (hold) {
        case HOLD_FINE:
            return 0;
        case HOLD_STOPPING:
            return -ECANCELED;
        case HOLD_NO_MEMORY:
            return -ENOMEM;
        case HOLD_FULL:
            break;
        }
        if (!make_room(upstream->set, true))
            return UPSTREAM_E_ROOM;
    }
}

int upstream_get(struct upstream *upstream, const struct upstream_owner *owner,
                 struct upstream_worker *worker, struct upstream_instance **ret_instance) {
    struct buf key CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    int error = write_key(upstream, owner, &key);
    return error != 0 ? error : set_get(upstream, buf_slice(&key), worker, ret_instance);
}

struct upstream_instance *upstream_find(struct upstream *upstream,
                                        const struct upstream_owner *owner) {
    struct buf key CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    if (write_key(upstream, owner, &key) != 0)
        return NULL;
    pthread_mutex_lock(&upstream->mutex);
    struct upstream_instance *instance = map_get(&upstream->instances, buf_slice(&key));
    if (instance != NULL)
        upstream_instance_ref(instance);
    pthread_mutex_unlock(&upstream->mutex);
    return instance;
}

static void forget_session(struct upstream *upstream, const struct upstream_owner *owner) {
    struct buf key CLEANUP(buf_deinit) = BUF_INIT(KIB(1)); /* a session's id is short */
    if (upstream->config->share != CONFIG_SHARE_SESSION || write_key(upstream, owner, &key) != 0)
        return;
    pthread_mutex_lock(&upstream->mutex);
    struct upstream_instance *instance = map_remove(&upstream->instances, buf_slice(&key));
    if (instance != NULL)
        upstream_note_change(upstream);
    pthread_mutex_unlock(&upstream->mutex);
    if (instance != NULL)
        instance_close(instance);
    upstream_instance_unref(instance);
}

void upstream_set_forget_session(struct upstream_set *set, struct slice session,
                                 unsigned capabilities) {
    struct upstream_owner owner = {.session = session, .capabilities = capabilities};
    struct upstream_list *list = upstream_set_list(set);
    for (size_t i = 0; i < list->n; i++)
        forget_session(list->items[i].upstream, &owner);
    upstream_list_unref(list);
}
