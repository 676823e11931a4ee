/*
 * Those who wait for keys, from any thread. A waiter is in its issuer's list from
 * oauth_wait_for_keys() until it is told, or gives up; who of the two comes first is decided by one
 * atomic exchange of its state, because the waiter's memory may go right after it was told, and
 * the issuer's right after it has told everybody:
 *
 *   WAITING -> TOLD       by the one who tells, with the mutex held, who unlinks and posts it
 *   WAITING -> CANCELLED  by the waiter, who then takes the mutex and unlinks it. It stays in the
 *                         list meanwhile, and oauth_free() waits until the list is empty.
 */
#include "base/limits.h"
#include "private.h"

enum { IDLE, WAITING, TOLD, CANCELLED };

static bool change_state(struct oauth_wait *wait, int to) {
    int expected = WAITING;
    return atomic_compare_exchange_strong(&wait->state, &expected, to);
}

bool oauth_wait_for_keys(struct oauth_issuer *issuer, struct oauth_wait *wait) {
    struct oauth *oauth = issuer->oauth;
    enum oauth_ask ask = OAUTH_ASK_REFUSED;
    pthread_mutex_lock(&oauth->mutex);
    uint64_t now = oauth_now(oauth);
    if (issuer->is_remote && oauth->is_started && !oauth->is_closed)
        ask = oauth_schedule_ask(&issuer->schedule, now);
    if (ask != OAUTH_ASK_REFUSED) {
        /* The loop has to begin, or to watch the time. */
        if (ask == OAUTH_ASK_START || list_is_empty(&issuer->waiting))
            oauth_wake(oauth);
        wait->issuer = issuer;
        wait->deadline_ms = now + LIMIT_JWKS_WAIT_MS;
        atomic_store(&wait->state, WAITING);
        list_push_back(&issuer->waiting, &wait->link);
    }
    pthread_mutex_unlock(&oauth->mutex);
    return ask != OAUTH_ASK_REFUSED;
}

bool oauth_wait_cancel(struct oauth_wait *wait) {
    if (!change_state(wait, CANCELLED))
        return false;
    struct oauth *oauth = wait->issuer->oauth;
    pthread_mutex_lock(&oauth->mutex);
    list_remove(&wait->link);
    pthread_cond_signal(&oauth->cancelled);
    pthread_mutex_unlock(&oauth->mutex);
    return true;
}

/* Afterwards it is not to be touched. */
static void tell(struct oauth_wait *wait) {
    if (!change_state(wait, TOLD))
        return;
    list_remove(&wait->link);
    io_loop_post(wait->loop, &wait->message);
}

void oauth_waiting_tell_all(struct oauth_issuer *issuer) {
    LIST_FOREACH_SAFE (&issuer->waiting, link, next) {
        tell(CONTAINER_OF(link, struct oauth_wait, link));
    }
}

void oauth_waiting_tell_late(struct oauth_issuer *issuer, uint64_t now_ms) {
    LIST_FOREACH_SAFE (&issuer->waiting, link, next) {
        struct oauth_wait *wait = CONTAINER_OF(link, struct oauth_wait, link);
        if (wait->deadline_ms > now_ms)
            return;
        tell(wait);
    }
}

uint64_t oauth_waiting_deadline(const struct oauth_issuer *issuer) {
    struct list_link *link = list_first(&issuer->waiting);
    return link != NULL ? CONTAINER_OF(link, struct oauth_wait, link)->deadline_ms : UINT64_MAX;
}

void oauth_waiting_drain(struct oauth_issuer *issuer) {
    while (!list_is_empty(&issuer->waiting))
        pthread_cond_wait(&issuer->oauth->cancelled, &issuer->oauth->mutex);
}
