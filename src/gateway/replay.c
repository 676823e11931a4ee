/* See replay.h. */
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "private.h"

struct gw_replay {
    struct list_link link; /* in replays->streams, with a reference; unlinked: it is forgotten */
    unsigned refs;
    uint64_t number;    /* in its session, from 1 */
    uint64_t last;      /* the number of its newest event */
    uint64_t taken;     /* ... of the one that was written to a client last */
    uint64_t forgotten; /* ... of the newest that is not there any more */
    struct list events;
    struct list attached;         /* struct gw_exchange: source, listener, and who was it */
    struct gw_exchange *listener; /* NULL: nobody is there */
    struct gw_exchange *source;   /* NULL: standalone, or over */
    uint64_t ended_ms;            /* 0: it goes on */
    bool is_standalone;
    bool is_over;  /* nothing more will be said */
    bool is_woken; /* the listener's worker will look */
    atomic_bool is_clogged;
};

static struct gw_replay *replay_at(struct list_link *link) {
    return CONTAINER_OF(link, struct gw_replay, link);
}

static struct gw_event *first_event(const struct gw_replay *replay) {
    struct list_link *link = list_first(&replay->events);
    return link != NULL ? CONTAINER_OF(link, struct gw_event, link) : NULL;
}

static void lock(struct gw_session *session) {
    pthread_mutex_lock(&session->replays.mutex);
}

static void unlock(struct gw_session *session) {
    pthread_mutex_unlock(&session->replays.mutex);
}

/* What is kept. The lock is held in all of it. */

static size_t cost_of(size_t len) {
    return sizeof(struct gw_event) + len;
}

static void charge(struct gw_session *session, size_t cost) {
    session->replays.n_events++;
    session->replays.n_bytes += cost;
    atomic_fetch_add(&session->gateway->replay_held, cost);
    atomic_fetch_add(&session->principal->replay_held, cost);
    budget_add(&session->gateway->budget, cost);
}

static void discharge(struct gw_session *session, size_t cost) {
    session->replays.n_events--;
    session->replays.n_bytes -= cost;
    atomic_fetch_sub(&session->gateway->replay_held, cost);
    atomic_fetch_sub(&session->principal->replay_held, cost);
    budget_give_back(&session->gateway->budget, cost);
}

static void unref_event(struct gw_event *event) {
    if (--event->refs == 0)
        mem_free(event);
}

static void forget_first(struct gw_session *session, struct gw_replay *replay) {
    struct gw_event *event = first_event(replay);
    list_remove(&event->link);
    replay->forgotten = event->number;
    discharge(session, cost_of(event->len));
    unref_event(event);
}

static void forget_events(struct gw_session *session, struct gw_replay *replay) {
    while (!list_is_empty(&replay->events))
        forget_first(session, replay);
}

/* The listener has still to write it. */
static bool is_wanted(const struct gw_replay *replay, uint64_t number) {
    return replay->listener != NULL && number > replay->taken;
}

static bool is_too_much(const struct gw_session *session) {
    const struct gw_replays *replays = &session->replays;
    return replays->n_events > LIMIT_REPLAY_EVENTS ||
           replays->n_bytes > atomic_load(&session->gateway->resume_buffer) ||
           atomic_load(&session->gateway->replay_held) > LIMIT_REPLAY_HELD ||
           atomic_load(&session->principal->replay_held) > LIMIT_REPLAY_PRINCIPAL;
}

/* `a` goes before `b` (NULL: there is none). */
static bool goes_first(const struct gw_replay *a, const struct gw_replay *b) {
    const struct gw_event *first = first_event(a), *other = b != NULL ? first_event(b) : NULL;
    if (other == NULL)
        return true;
    bool was_written = first->number <= a->taken, other_was = other->number <= b->taken;
    return was_written != other_was ? was_written : first->stamp < other->stamp;
}

/* Into the bounds, but for what is on its way to a listener. */
static void trim(struct gw_session *session) {
    while (is_too_much(session)) {
        struct gw_replay *victim = NULL;
        LIST_FOREACH_SAFE (&session->replays.streams, link, tmp) {
            struct gw_replay *replay = replay_at(link);
            const struct gw_event *event = first_event(replay);
            if (event != NULL && !is_wanted(replay, event->number) && goes_first(replay, victim))
                victim = replay;
        }
        if (victim == NULL)
            return;
        forget_first(session, victim);
    }
}

static struct gw_event *new_event(struct gw_session *session, const struct gw_replay *replay,
                                  uint64_t number, const struct slice *pieces, size_t n_pieces) {
    size_t len = 0;
    for (size_t i = 0; i < n_pieces; i++)
        len += pieces[i].len;
    if (!list_is_linked(&replay->link) ||
        (!is_wanted(replay, number) &&
         cost_of(len) > atomic_load(&session->gateway->resume_buffer)))
        return NULL;
    struct gw_event *event = mem_alloc(cost_of(len));
    if (event == NULL)
        return NULL;
    char *end = event->bytes;
    for (size_t i = 0; i < n_pieces; i++) {
        if (pieces[i].len != 0)
            memcpy(end, pieces[i].ptr, pieces[i].len);
        end += pieces[i].len;
    }
    event->refs = 1;
    event->number = number;
    event->stamp = ++session->replays.last_stamp;
    event->len = len;
    return event;
}

/* What cannot be kept is forgotten at once, and with it what came before: nobody could go on
 * behind that without missing it. */
static void keep(struct gw_session *session, struct gw_replay *replay, const struct slice *pieces,
                 size_t n_pieces) {
    struct gw_event *event = new_event(session, replay, replay->last, pieces, n_pieces);
    if (event == NULL) {
        forget_events(session, replay);
        replay->forgotten = replay->last;
        return;
    }
    list_push_back(&replay->events, &event->link);
    charge(session, cost_of(event->len));
    trim(session);
}

void gw_event_unref(struct gw_session *session, struct gw_event *event) {
    lock(session);
    unref_event(event);
    unlock(session);
}

/* Streams. */

struct gw_replay *gw_replay_ref(struct gw_replay *replay) {
    replay->refs++;
    return replay;
}

static void unref(struct gw_replay *replay) {
    if (--replay->refs == 0)
        mem_free(replay);
}

void gw_replay_unref(struct gw_session *session, struct gw_replay *replay) {
    lock(session);
    unref(replay);
    unlock(session);
}

static void forget(struct gw_session *session, struct gw_replay *replay) {
    forget_events(session, replay);
    replay->forgotten = replay->last;
    list_remove(&replay->link);
    session->replays.n_streams--;
    atomic_fetch_sub(&session->gateway->n_replays, 1);
    if (session->replays.standalone == replay)
        session->replays.standalone = NULL;
    unref(replay);
}

static bool is_expired(const struct gw_replay *replay, uint64_t now_ms) {
    return replay->ended_ms != 0 && replay->listener == NULL && now_ms >= replay->ended_ms &&
           now_ms - replay->ended_ms >= LIMIT_REPLAY_MS;
}

static void forget_expired(struct gw_session *session, uint64_t now_ms) {
    LIST_FOREACH_SAFE (&session->replays.streams, link, tmp) {
        if (is_expired(replay_at(link), now_ms))
            forget(session, replay_at(link));
    }
}

/* False: all of them go on. */
static bool forget_oldest_ended(struct gw_session *session) {
    LIST_FOREACH_SAFE (&session->replays.streams, link, tmp) {
        struct gw_replay *replay = replay_at(link);
        if (replay->ended_ms != 0 && replay->listener == NULL) {
            forget(session, replay);
            return true;
        }
    }
    return false;
}

void gw_replays_init(struct gw_replays *replays) {
    pthread_mutex_init(&replays->mutex, NULL);
    list_init(&replays->streams);
}

void gw_replays_close(struct gw_session *session) {
    lock(session);
    session->replays.is_closed = true;
    LIST_FOREACH_SAFE (&session->replays.streams, link, tmp)
        forget(session, replay_at(link));
    unlock(session);
}

void gw_replays_deinit(struct gw_session *session) {
    gw_replays_close(session);
    pthread_mutex_destroy(&session->replays.mutex);
}

void gw_replays_expire(struct gw_session *session, uint64_t now_ms) {
    lock(session);
    forget_expired(session, now_ms);
    unlock(session);
}

static uint64_t now_of(const struct gw_exchange *exchange) {
    return io_loop_now(exchange->worker->loop);
}

static void attach(struct gw_exchange *exchange, struct gw_replay *replay) {
    replay->refs++;
    exchange->replay = replay;
    list_push_back(&replay->attached, &exchange->replay_link);
    replay->listener = exchange;
    atomic_store(&replay->is_clogged, false);
    replay->is_woken = false;
}

static bool has_room(struct gw_session *session, uint64_t now_ms) {
    forget_expired(session, now_ms);
    return !session->replays.is_closed &&
           (session->replays.n_streams < LIMIT_REPLAY_STREAMS || forget_oldest_ended(session));
}

/* The standalone stream before this one is none any more. */
static void take_place(struct gw_session *session, struct gw_replay *replay, uint64_t now_ms) {
    struct gw_replay *old = session->replays.standalone;
    if (old != NULL) {
        old->is_over = true;
        old->ended_ms = old->ended_ms != 0 ? old->ended_ms : now_ms;
    }
    session->replays.standalone = replay;
}

void gw_replay_begin(struct gw_exchange *exchange) {
    struct gw_session *session = exchange->session;
    if (session == NULL || session->kind != GW_SESSION_HTTP ||
        atomic_load(&session->gateway->resume_buffer) == 0)
        return;
    struct gw_replay *replay = mem_alloc(sizeof *replay);
    if (replay == NULL)
        return;
    list_init(&replay->events);
    list_init(&replay->attached);
    replay->is_standalone = exchange->is_get_stream;
    replay->source = replay->is_standalone ? NULL : exchange;
    replay->refs = 1;
    lock(session);
    if (has_room(session, now_of(exchange))) {
        replay->number = ++session->replays.last_number;
        list_push_back(&session->replays.streams, &replay->link);
        session->replays.n_streams++;
        atomic_fetch_add(&session->gateway->n_replays, 1);
        attach(exchange, replay);
        if (replay->is_standalone)
            take_place(session, replay, now_of(exchange));
    } else {
        unref(replay);
    }
    unlock(session);
}

/* Saying something. */

static void wake_listener(struct gw_session *session, struct gw_replay *replay) {
    if (replay->listener == NULL || replay->is_woken)
        return;
    replay->is_woken = true;
    gw_resume_wake(session, replay, replay->listener->worker);
}

bool gw_replay_add(struct gw_exchange *exchange, const struct slice *pieces, size_t n_pieces,
                   uint64_t *ret_number) {
    struct gw_session *session = exchange->session;
    struct gw_replay *replay = exchange->replay;
    lock(session);
    bool is_direct = replay->listener == exchange && replay->taken == replay->last;
    uint64_t number = ++replay->last;
    if (is_direct)
        replay->taken = number;
    keep(session, replay, pieces, n_pieces);
    if (!is_direct)
        wake_listener(session, replay);
    unlock(session);
    *ret_number = number;
    return is_direct;
}

void gw_replay_keep(struct gw_session *session, struct slice message) {
    lock(session);
    struct gw_replay *replay = session->replays.standalone;
    if (replay != NULL) {
        replay->last++;
        keep(session, replay, &message, 1);
        wake_listener(session, replay);
    }
    unlock(session);
}

/* Ids. */

static uint64_t authenticity(const struct gw_session *session, uint64_t stream, uint64_t number) {
    char bytes[GW_SESSION_ID_CHARS + sizeof stream + sizeof number] = {0};
    size_t len = strlen(session->id);
    memcpy(bytes, session->id, len);
    memcpy(bytes + GW_SESSION_ID_CHARS, &stream, sizeof stream);
    memcpy(bytes + GW_SESSION_ID_CHARS + sizeof stream, &number, sizeof number);
    return hash_siphash(&session->gateway->sessions.event_key, slice_make(bytes, sizeof bytes));
}

struct slice gw_replay_id(const struct gw_exchange *exchange, uint64_t number,
                          char text[static GW_EVENT_ID_CHARS]) {
    uint64_t parts[] = {exchange->replay->number, number,
                        authenticity(exchange->session, exchange->replay->number, number)};
    _Static_assert(sizeof parts == GW_EVENT_ID_BYTES, "three numbers");
    return slice_make(text, base64url_write(text, slice_make(parts, sizeof parts)));
}

static bool read_id(const struct gw_session *session, struct slice id, uint64_t *ret_stream,
                    uint64_t *ret_number) {
    struct buf bytes CLEANUP(buf_deinit) = BUF_INIT(GW_EVENT_ID_BYTES);
    uint64_t parts[3];
    if (id.len != GW_EVENT_ID_CHARS || base64url_decode(&bytes, id) != 0)
        return false;
    memcpy(parts, buf_slice(&bytes).ptr, sizeof parts);
    *ret_stream = parts[0];
    *ret_number = parts[1];
    return authenticity(session, parts[0], parts[1]) == parts[2];
}

/* Taking a stream up again. */

static struct gw_replay *find(struct gw_session *session, uint64_t number) {
    LIST_FOREACH_SAFE (&session->replays.streams, link, tmp) {
        if (replay_at(link)->number == number)
            return replay_at(link);
    }
    return NULL;
}

static enum gw_replay_verdict judge(const struct gw_replay *replay, uint64_t number) {
    if (replay == NULL || number < replay->forgotten || number > replay->last)
        return GW_REPLAY_LOST;
    return replay->is_over && number == replay->last ? GW_REPLAY_DONE : GW_REPLAY_RESUMED;
}

enum gw_replay_verdict gw_replay_resume(struct gw_exchange *exchange, struct slice id) {
    struct gw_session *session = exchange->session;
    uint64_t stream = 0, number = 0;
    if (!read_id(session, id, &stream, &number))
        return GW_REPLAY_UNKNOWN;
    lock(session);
    forget_expired(session, now_of(exchange));
    struct gw_replay *replay = find(session, stream);
    enum gw_replay_verdict verdict = judge(replay, number);
    if (replay != NULL && verdict == GW_REPLAY_RESUMED) {
        struct gw_exchange *old = replay->listener;
        attach(exchange, replay);
        replay->taken = exchange->resumed_at = number;
        if (!replay->is_over)
            replay->ended_ms = 0;
        if (old != NULL)
            gw_resume_wake(session, replay, old->worker);
    }
    unlock(session);
    return verdict;
}

bool gw_replay_is_standalone(const struct gw_exchange *exchange) {
    struct gw_session *session = exchange->session;
    lock(session);
    bool is = session->replays.standalone == exchange->replay;
    unlock(session);
    return is;
}

static struct gw_event *take_next(struct gw_session *session, struct gw_replay *replay) {
    LIST_FOREACH_SAFE (&replay->events, link, tmp) {
        struct gw_event *event = CONTAINER_OF(link, struct gw_event, link);
        if (event->number <= replay->taken)
            continue;
        event->refs++;
        replay->taken = event->number;
        trim(session);
        return event;
    }
    return NULL;
}

struct gw_event *gw_replay_next(struct gw_exchange *exchange, enum gw_replay_state *ret_state) {
    struct gw_session *session = exchange->session;
    struct gw_replay *replay = exchange->replay;
    struct gw_event *event = NULL;
    *ret_state = GW_REPLAY_GOES_ON;
    lock(session);
    if (replay->listener != exchange)
        ; /* another message tells it */
    else if (replay->forgotten > replay->taken)
        *ret_state = GW_REPLAY_BREAKS;
    else if (replay->taken != replay->last)
        event = take_next(session, replay);
    else if (replay->is_over)
        *ret_state = GW_REPLAY_ENDS;
    unlock(session);
    return event;
}

/* Leaving. */

static void unhear(struct gw_replay *replay, const struct gw_exchange *exchange) {
    if (replay->listener != exchange)
        return;
    replay->listener = NULL;
    atomic_store(&replay->is_clogged, false);
}

void gw_replay_unhear(struct gw_exchange *exchange) {
    lock(exchange->session);
    unhear(exchange->replay, exchange);
    unlock(exchange->session);
}

void gw_replay_leave(struct gw_exchange *exchange) {
    struct gw_session *session = exchange->session;
    struct gw_replay *replay = TAKE(exchange->replay);
    if (replay == NULL)
        return;
    lock(session);
    list_remove(&exchange->replay_link);
    unhear(replay, exchange);
    if (replay->source == exchange) {
        replay->source = NULL;
        replay->is_over = true;
        replay->ended_ms = now_of(exchange);
        wake_listener(session, replay);
    } else if (replay->source == NULL && replay->listener == NULL) {
        replay->ended_ms = replay->ended_ms != 0 ? replay->ended_ms : now_of(exchange);
    } else if (replay->source != NULL && replay->listener == NULL) {
        gw_resume_wake(session, replay, replay->source->worker); /* it may be waited for in vain */
    }
    trim(session); /* what was wanted may be too much now */
    unref(replay);
    unlock(session);
}

bool gw_replay_is_heard(const struct gw_exchange *exchange) {
    lock(exchange->session);
    bool is_heard = exchange->replay->listener != NULL;
    unlock(exchange->session);
    return is_heard;
}

void gw_replay_clog(struct gw_exchange *exchange, bool is_clogged) {
    lock(exchange->session);
    if (exchange->replay->listener == exchange)
        atomic_store(&exchange->replay->is_clogged, is_clogged);
    unlock(exchange->session);
}

bool gw_replay_is_clogged(const struct gw_exchange *exchange) {
    return atomic_load(&exchange->replay->is_clogged);
}

/* Telling workers. */

static enum gw_replay_task task_of(const struct gw_replay *replay,
                                   const struct gw_exchange *exchange) {
    bool can_write = exchange->connection != NULL && !exchange->connection->is_aborted;
    bool is_said = replay->taken != replay->last || replay->is_over;
    if (replay->listener == exchange)
        return can_write && is_said ? GW_REPLAY_WRITE : GW_REPLAY_IDLE;
    if (can_write)
        return GW_REPLAY_HANG_UP;
    bool is_alone = exchange->connection == NULL && replay->listener == NULL;
    return replay->source == exchange && is_alone && exchange->worker->is_draining
               ? GW_REPLAY_CANCEL
               : GW_REPLAY_IDLE;
}

enum gw_replay_task gw_replay_next_task(struct gw_session *session, struct gw_replay *replay,
                                        struct gw_worker *worker,
                                        struct gw_exchange **ret_exchange) {
    enum gw_replay_task task = GW_REPLAY_IDLE;
    lock(session);
    if (replay->listener != NULL && replay->listener->worker == worker)
        replay->is_woken = false;
    LIST_FOREACH_SAFE (&replay->attached, link, tmp) {
        struct gw_exchange *exchange = CONTAINER_OF(link, struct gw_exchange, replay_link);
        if (task == GW_REPLAY_IDLE && exchange->worker == worker) {
            task = task_of(replay, exchange);
            *ret_exchange = exchange;
        }
    }
    unlock(session);
    return task;
}
