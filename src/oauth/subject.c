/*
 * The tokens of a source, one for each subject: who asks for whom gets the token of that very
 * subject and of no other. A subject is found by a keyed hash of 128 bits of the caller's token,
 * whose keys nobody else knows, and then compared whole: of no token is there a copy but the
 * counted one, which is wiped.
 *
 * What oauth_source_get() finds:
 *
 *   a token             it is handed out, as long as both clocks say that it has not ended. With
 *                       less than a fifth of its life left (30 s at least, half of it at most) the
 *                       next one is asked for meanwhile
 *   a request           that runs or waits for its turn: the caller waits with all the others
 *   a failure           a moment ago, of this subject or of the whole source: it counts again
 *   nothing             a request is put into the queue
 *
 * Everything here runs on any thread, with the source's mutex held.
 */
#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"
#include "tokens.h"

/* --- failures --- */

void tokens_failure_set(struct tokens_failure *failure, enum oauth_lack lack, const char *reason) {
    failure->lack = lack;
    snprintf(failure->reason, sizeof failure->reason, "%.*s", OAUTH_LACK_REASON - 1, reason);
}

void tokens_failure_pause(struct tokens_failure *failure, uint64_t now_ms) {
    enum { DOUBLINGS = 6 };
    uint64_t pause = (uint64_t)TOKENS_PAUSE_MS << failure->n;
    if (failure->n < DOUBLINGS)
        failure->n++;
    failure->until_ms = now_ms + (pause < LIMIT_TOKEN_PAUSE_MS ? pause : LIMIT_TOKEN_PAUSE_MS);
}

bool tokens_failure_lasts(const struct tokens_failure *failure, uint64_t now_ms) {
    return now_ms < failure->until_ms;
}

/* --- one subject --- */

static struct slice make_key(const struct oauth_source *source, const struct oauth_token *subject,
                             char key[static 16]) {
    uint64_t halves[2] = {0, 0};
    if (subject == NULL)
        return SLICE("own");
    for (size_t i = 0; i < 2; i++)
        halves[i] = hash_siphash(&source->keys[i], oauth_token_text(subject));
    memcpy(key, halves, sizeof halves);
    return slice_make(key, sizeof halves);
}

static bool is_of(const struct oauth_subject *subject, const struct oauth_token *token) {
    if (subject->subject == NULL || token == NULL)
        return subject->subject == token;
    return oauth_token_is(subject->subject, oauth_token_text(token));
}

struct oauth_subject *subject_find(const struct oauth_source *source, struct oauth_token *token) {
    char key[16];
    struct oauth_subject *subject = map_get(&source->subjects, make_key(source, token, key));
    return subject != NULL && is_of(subject, token) ? subject : NULL;
}

void subject_drop_token(struct oauth_subject *subject) {
    subject->token = oauth_token_unref(subject->token);
}

static void forget(struct oauth_source *source, struct oauth_subject *subject) {
    char key[16];
    list_remove(&subject->by_use);
    list_remove(&subject->queued);
    map_remove(&source->subjects, make_key(source, subject->subject, key));
    subject_drop_token(subject);
    oauth_token_unref(subject->subject);
    buf_deinit(&subject->asked);
    buf_deinit(&subject->wanted);
    buf_deinit(&subject->denied);
    mem_free(subject);
}

static struct oauth_subject *add(struct oauth_source *source, struct oauth_token *token) {
    char key[16];
    struct slice name = make_key(source, token, key);
    /* Another token with the same hash: nobody has ever seen that, and it is no other's. */
    if (map_get(&source->subjects, name) != NULL)
        return NULL;
    struct oauth_subject *subject = mem_alloc(sizeof *subject);
    if (subject == NULL || map_set(&source->subjects, name, subject) != 0) {
        mem_free(subject);
        return NULL;
    }
    subject->subject = oauth_token_ref(token);
    buf_init(&subject->asked, OAUTH_SCOPES_TEXT);
    buf_init(&subject->wanted, OAUTH_SCOPES_TEXT);
    buf_init(&subject->denied, OAUTH_SCOPES_TEXT);
    return subject;
}

struct oauth_subject *subject_get(struct oauth_source *source, struct oauth_token *token) {
    struct oauth_subject *subject = subject_find(source, token);
    if (subject == NULL)
        subject = add(source, token);
    if (subject == NULL)
        return NULL;
    subject->used_ms = tokens_now(source->tokens);
    list_remove(&subject->by_use);
    list_push_back(&source->by_use, &subject->by_use);
    return subject;
}

void subject_enqueue(struct oauth_source *source, struct oauth_subject *subject, bool is_renewal) {
    if (subject->state != SUBJECT_IDLE)
        return;
    subject->state = SUBJECT_QUEUED;
    subject->is_renewed = is_renewal;
    list_push_back(&source->queue, &subject->queued);
    source_wake(source);
}

/* --- those who wait --- */

static struct oauth_token_wait *wait_of(struct list_link *link) {
    struct oauth_waiter *waiter = CONTAINER_OF(link, struct oauth_waiter, link);
    return CONTAINER_OF(waiter, struct oauth_token_wait, waiter);
}

static void answer_failure(struct oauth_token_wait *wait, const struct tokens_failure *failure) {
    wait->token = NULL;
    wait->lack = failure->lack;
    memcpy(wait->reason, failure->reason, sizeof wait->reason);
}

static void tell(struct oauth_token_wait *wait, struct oauth_token *token,
                 const struct tokens_failure *failure) {
    struct oauth_source *source = wait->source;
    if (!oauth_waiter_take(&wait->waiter))
        return;
    if (token != NULL)
        wait->token = oauth_token_ref(token);
    else
        answer_failure(wait, failure);
    oauth_waiter_post(&wait->waiter);
    oauth_source_unref(source); /* not the last one: whoever tells has one too */
}

void subject_tell(struct oauth_source *source, const struct oauth_subject *subject,
                  struct oauth_token *token, const struct tokens_failure *failure) {
    LIST_FOREACH_SAFE (&source->waiting, link, next) {
        struct oauth_token_wait *wait = wait_of(link);
        if (wait->subject == subject)
            tell(wait, token, failure);
    }
}

/* The subject of one that has given up, and has not left the list yet, may be gone. */
void subjects_tell_queued(struct oauth_source *source, const struct tokens_failure *failure) {
    LIST_FOREACH_SAFE (&source->waiting, link, next) {
        struct oauth_token_wait *wait = wait_of(link);
        const struct oauth_subject *subject = wait->subject;
        if (oauth_waiter_is_waiting(&wait->waiter) && subject->state == SUBJECT_QUEUED)
            tell(wait, NULL, failure);
    }
}

bool subject_is_awaited(const struct oauth_source *source, const struct oauth_subject *subject) {
    for (struct list_link *at = source->waiting.ring.next; at != &source->waiting.ring;
         at = at->next) {
        if (wait_of(at)->subject == subject)
            return true;
    }
    return false;
}

void subjects_tell_late(struct oauth_source *source, uint64_t now_ms) {
    struct tokens_failure late = {.lack = OAUTH_LACK_UNREACHABLE,
                                  .reason = "the authorization server did not answer in time"};
    LIST_FOREACH_SAFE (&source->waiting, link, next) {
        struct oauth_token_wait *wait = wait_of(link);
        if (wait->waiter.deadline_ms > now_ms)
            return;
        tell(wait, NULL, &late);
    }
}

void subjects_tell_all(struct oauth_source *source, const struct tokens_failure *failure) {
    LIST_FOREACH_SAFE (&source->waiting, link, next) {
        tell(wait_of(link), NULL, failure);
    }
}

/* --- what is there --- */

/* By the clock that says the less. */
static uint64_t time_left(const struct oauth_source *source, const struct oauth_subject *subject,
                          uint64_t now_ms) {
    uint64_t wall = tokens_wall(source->tokens), ends_wall = oauth_token_ends(subject->token);
    uint64_t left = subject->ends_ms > now_ms ? subject->ends_ms - now_ms : 0;
    uint64_t left_wall = ends_wall > wall ? ends_wall - wall : 0;
    return left < left_wall ? left : left_wall;
}

static bool is_near_its_end(const struct oauth_subject *subject, uint64_t left_ms) {
    uint64_t early = subject->lifetime_ms / 5;
    if (early < TOKENS_RENEW_MS)
        early = TOKENS_RENEW_MS;
    if (early > subject->lifetime_ms / 2)
        early = subject->lifetime_ms / 2;
    return left_ms < early && !subject->is_bound;
}

static const struct tokens_failure *failure_of(const struct oauth_source *source,
                                               const struct oauth_subject *subject,
                                               uint64_t now_ms) {
    if (tokens_failure_lasts(&source->failure, now_ms))
        return &source->failure;
    return tokens_failure_lasts(&subject->failure, now_ms) ? &subject->failure : NULL;
}

static enum oauth_answer look(struct oauth_source *source, struct oauth_subject *subject,
                              struct oauth_token_wait *wait) {
    uint64_t now = tokens_now(source->tokens);
    const struct tokens_failure *failure = failure_of(source, subject, now);
    if (subject->token != NULL) {
        uint64_t left = time_left(source, subject, now);
        if (left != 0) {
            wait->token = oauth_token_ref(subject->token);
            if (failure == NULL && is_near_its_end(subject, left))
                subject_enqueue(source, subject, true);
            return OAUTH_ANSWER_TOKEN;
        }
        subject_drop_token(subject);
    }
    if (failure != NULL && subject->state == SUBJECT_IDLE) {
        answer_failure(wait, failure);
        return OAUTH_ANSWER_NONE;
    }
    subject_enqueue(source, subject, false);
    if (list_is_empty(&source->waiting)) /* the loop has to watch the time */
        source_wake(source);
    wait->source = oauth_source_ref(source);
    wait->subject = subject;
    oauth_waiter_enter(&wait->waiter, &source->waiting, wait->loop, &wait->message,
                       now + LIMIT_TOKEN_FETCH_MS);
    return OAUTH_ANSWER_WAIT;
}

static enum oauth_answer refuse(struct oauth_token_wait *wait, enum oauth_lack lack,
                                const char *reason) {
    struct tokens_failure failure;
    tokens_failure_set(&failure, lack, reason);
    answer_failure(wait, &failure);
    return OAUTH_ANSWER_NONE;
}

static enum oauth_answer get(struct oauth_source *source, struct oauth_token *token,
                             struct oauth_token_wait *wait) {
    if (source->is_closed)
        return refuse(wait, OAUTH_LACK_UNREACHABLE, "the gateway is being stopped");
    if (source_is_exchange(source) != (token != NULL))
        return refuse(wait, OAUTH_LACK_REFUSED, "there is no access token to exchange");
    if (token != NULL && oauth_token_ends(token) <= tokens_wall(source->tokens))
        return refuse(wait, OAUTH_LACK_REFUSED, "the caller's access token has ended");
    struct oauth_subject *subject = subject_get(source, token);
    if (subject == NULL)
        return refuse(wait, OAUTH_LACK_MEMORY, "there is not enough memory");
    enum oauth_answer answer = look(source, subject, wait);
    subjects_sweep(source, subject->used_ms);
    return answer;
}

enum oauth_answer oauth_source_get(struct oauth_source *source, struct oauth_token *subject,
                                   struct oauth_token_wait *wait) {
    wait->token = NULL;
    pthread_mutex_lock(&source->mutex);
    enum oauth_answer answer = get(source, subject, wait);
    pthread_mutex_unlock(&source->mutex);
    return answer;
}

bool oauth_token_wait_cancel(struct oauth_token_wait *wait) {
    if (!oauth_waiter_give_up(&wait->waiter))
        return false;
    struct oauth_source *source = wait->source;
    pthread_mutex_lock(&source->mutex);
    list_remove(&wait->waiter.link);
    pthread_mutex_unlock(&source->mutex);
    oauth_source_unref(source);
    return true;
}

/* --- how many, how long --- */

static struct oauth_subject *used_before(const struct oauth_source *source,
                                         const struct list_link *link) {
    struct list_link *at = link != NULL ? link->next : source->by_use.ring.next;
    return at != &source->by_use.ring ? CONTAINER_OF(at, struct oauth_subject, by_use) : NULL;
}

static bool is_idle(const struct oauth_source *source, const struct oauth_subject *subject,
                    uint64_t now_ms) {
    uint64_t timeout = source->config->cache_idle_timeout_ms;
    return timeout != 0 && now_ms - subject->used_ms >= timeout;
}

/* One for which a request runs stays, and so does the one that was used just now. */
void subjects_sweep(struct oauth_source *source, uint64_t now_ms) {
    LIST_FOREACH_SAFE (&source->by_use, link, next) {
        struct oauth_subject *subject = CONTAINER_OF(link, struct oauth_subject, by_use);
        bool is_old = is_idle(source, subject, now_ms);
        bool is_one_too_many =
            source->subjects.count > source->config->cache_max_size && next != &source->by_use.ring;
        if (!is_old && !is_one_too_many)
            return;
        if (subject->state == SUBJECT_IDLE)
            forget(source, subject);
    }
}

uint64_t subjects_next(const struct oauth_source *source) {
    const struct oauth_subject *subject = used_before(source, NULL);
    while (subject != NULL && subject->state != SUBJECT_IDLE)
        subject = used_before(source, &subject->by_use);
    uint64_t timeout = source->config->cache_idle_timeout_ms;
    return subject != NULL && timeout != 0 ? subject->used_ms + timeout : UINT64_MAX;
}

void subjects_clear(struct oauth_source *source) {
    LIST_FOREACH_SAFE (&source->by_use, link, next) {
        forget(source, CONTAINER_OF(link, struct oauth_subject, by_use));
    }
}
