/* Those who wait (waiters.h), and those of them who wait for keys. */
#include "base/limits.h"
#include "private.h"
#include "waiters.h"

enum { IDLE, WAITING, TOLD, CANCELLED };

/* --- anybody --- */

static bool change_state(struct oauth_waiter *waiter, int to) {
    int expected = WAITING;
    return atomic_compare_exchange_strong(&waiter->state, &expected, to);
}

void oauth_waiter_enter(struct oauth_waiter *waiter, struct list *list, struct io_loop *loop,
                        struct io_message *message, uint64_t deadline_ms) {
    waiter->loop = loop;
    waiter->message = message;
    waiter->deadline_ms = deadline_ms;
    atomic_store(&waiter->state, WAITING);
    list_push_back(list, &waiter->link);
}

bool oauth_waiter_take(struct oauth_waiter *waiter) {
    if (!change_state(waiter, TOLD))
        return false;
    list_remove(&waiter->link);
    return true;
}

bool oauth_waiter_is_waiting(const struct oauth_waiter *waiter) {
    return atomic_load(&waiter->state) == WAITING;
}

void oauth_waiter_post(struct oauth_waiter *waiter) {
    io_loop_post(waiter->loop, waiter->message);
}

bool oauth_waiter_give_up(struct oauth_waiter *waiter) {
    return change_state(waiter, CANCELLED);
}

uint64_t oauth_waiters_deadline(const struct list *list) {
    struct list_link *link = list_first(list);
    return link != NULL ? CONTAINER_OF(link, struct oauth_waiter, link)->deadline_ms : UINT64_MAX;
}

/* --- for keys --- */

bool oauth_wait_for_keys(struct oauth_issuer *issuer, struct oauth_wait *wait) {
    struct oauth *oauth = issuer->oauth;
    enum oauth_ask ask = OAUTH_ASK_REFUSED;
    pthread_mutex_lock(&oauth->mutex);
    uint64_t now = oauth_now(oauth);
    /* They came since: asking for them once more would use up the question of the next unknown key.
     */
    bool has_changed = atomic_load(&issuer->generation) != wait->generation;
    if (has_changed)
        ask = OAUTH_ASK_JOIN;
    else if (issuer->is_remote && oauth->is_started && !oauth->is_closed)
        ask = oauth_schedule_ask(&issuer->schedule, now);
    if (ask != OAUTH_ASK_REFUSED) {
        /* The loop has to begin, or to watch the time. */
        if (!has_changed && (ask == OAUTH_ASK_START || list_is_empty(&issuer->waiting)))
            oauth_wake(oauth);
        wait->issuer = issuer;
        oauth_waiter_enter(&wait->waiter, &issuer->waiting, wait->loop, &wait->message,
                           now + LIMIT_JWKS_WAIT_MS);
        if (has_changed && oauth_waiter_take(&wait->waiter))
            oauth_waiter_post(&wait->waiter);
    }
    pthread_mutex_unlock(&oauth->mutex);
    return ask != OAUTH_ASK_REFUSED;
}

bool oauth_wait_cancel(struct oauth_wait *wait) {
    if (!oauth_waiter_give_up(&wait->waiter))
        return false;
    struct oauth *oauth = wait->issuer->oauth;
    pthread_mutex_lock(&oauth->mutex);
    list_remove(&wait->waiter.link);
    pthread_cond_signal(&oauth->cancelled);
    pthread_mutex_unlock(&oauth->mutex);
    return true;
}

static void tell_until(struct oauth_issuer *issuer, uint64_t deadline_ms) {
    LIST_FOREACH_SAFE (&issuer->waiting, link, next) {
        struct oauth_waiter *waiter = CONTAINER_OF(link, struct oauth_waiter, link);
        if (waiter->deadline_ms > deadline_ms)
            return;
        if (oauth_waiter_take(waiter))
            oauth_waiter_post(waiter);
    }
}

void oauth_waiting_tell_all(struct oauth_issuer *issuer) {
    tell_until(issuer, UINT64_MAX);
}

void oauth_waiting_tell_late(struct oauth_issuer *issuer, uint64_t now_ms) {
    tell_until(issuer, now_ms);
}

uint64_t oauth_waiting_deadline(const struct oauth_issuer *issuer) {
    return oauth_waiters_deadline(&issuer->waiting);
}

void oauth_waiting_drain(struct oauth_issuer *issuer) {
    while (!list_is_empty(&issuer->waiting))
        pthread_cond_wait(&issuer->oauth->cancelled, &issuer->oauth->mutex);
}
