#include "permit.h"

#include <stdio.h>

#include "private.h"

/* Of upstream->gate: the round of the breaker's tickets, and whether tickets have to be asked for.
 */
enum { GATE_SHUT = 1 };

static uint64_t gate_of(const struct breaker *breaker) {
    return breaker->round << 1 | (breaker->state == BREAKER_CLOSED ? 0 : GATE_SHUT);
}

/* With the lock: what the fast paths look at. */
static void publish(struct upstream *upstream, enum breaker_change change) {
    atomic_store(&upstream->gate, gate_of(&upstream->breaker));
    atomic_store(&upstream->has_failures, upstream->breaker.state != BREAKER_CLOSED ||
                                              breaker_failures(&upstream->breaker) != 0);
    if (change != BREAKER_HAS_OPENED)
        return;
    size_t cursor = 0;
    void *instance = NULL;
    while (map_next(&upstream->instances, &cursor, NULL, &instance))
        instance_look_at_waiting(instance);
}

static void tell(const struct upstream *upstream, enum breaker_change change, uint64_t n_failures,
                 uint64_t pause_ms) {
    struct log *log = upstream->set->options.log;
    struct slice name = upstream->config->name;
    switch (change) {
    case BREAKER_AS_BEFORE:
        return;
    case BREAKER_HAS_OPENED:
        log_write(log, LOG_WARN, "upstream", "fails again and again: its calls are refused",
                  LOG_TEXT("upstream", name), LOG_NUM("failures", n_failures),
                  LOG_NUM("pause_ms", pause_ms));
        return;
    case BREAKER_HAS_CLOSED:
        log_write(log, LOG_INFO, "upstream", "is well again: its calls go through",
                  LOG_TEXT("upstream", name));
        return;
    }
}

void upstream_permits_init(struct upstream *upstream) {
    const struct config_server *config = upstream->config;
    breaker_init(&upstream->breaker, config->failure_threshold, config->cooldown_ms);
    atomic_init(&upstream->gate, gate_of(&upstream->breaker));
}

/* Taking one. */

static bool take_place(struct upstream *upstream) {
    size_t n = atomic_load(&upstream->n_in_flight);
    do {
        if (n >= upstream->config->max_in_flight)
            return false;
    } while (!atomic_compare_exchange_weak(&upstream->n_in_flight, &n, n + 1));
    return true;
}

static struct slice printed(char *text, int len, size_t size) {
    return slice_make(text, (size_t)len < size ? (size_t)len : size - 1);
}

static struct slice say_full(const struct upstream *upstream, char *text, size_t size) {
    struct slice name = upstream->config->name;
    int len = snprintf(text, size,
                       "%.*s has max_in_flight = %llu calls running (mcp.servers.%.*s); "
                       "try again later",
                       SLICE_ARGS(name), (unsigned long long)upstream->config->max_in_flight,
                       SLICE_ARGS(name));
    return printed(text, len, size);
}

/* With the lock. */
static struct slice say_open(const struct upstream *upstream, uint64_t now_ms, char *text,
                             size_t size) {
    const struct breaker *breaker = &upstream->breaker;
    struct slice name = upstream->config->name;
    uint64_t wait_ms = breaker_wait_ms(breaker, now_ms);
    char until[80];
    if (wait_ms != 0)
        snprintf(until, sizeof until, "refused for another %llu ms", (unsigned long long)wait_ms);
    else
        snprintf(until, sizeof until, "refused until the one is answered that tries it again");
    int len = snprintf(text, size,
                       "%.*s failed %llu times in a row: calls are %s (failure_threshold = %llu, "
                       "cooldown = %llu ms of mcp.servers.%.*s)",
                       SLICE_ARGS(name), (unsigned long long)breaker_failures(breaker), until,
                       (unsigned long long)breaker->threshold,
                       (unsigned long long)breaker->cooldown_ms, SLICE_ARGS(name));
    return printed(text, len, size);
}

/* The breaker is not closed. */
static struct slice ask(struct permit *permit, struct upstream *upstream, uint64_t now_ms,
                        char *text, size_t size) {
    struct slice reason = SLICE_EMPTY;
    pthread_mutex_lock(&upstream->mutex);
    if (!breaker_admit(&upstream->breaker, now_ms, &permit->ticket))
        reason = say_open(upstream, now_ms, text, size);
    publish(upstream, BREAKER_AS_BEFORE);
    pthread_mutex_unlock(&upstream->mutex);
    return reason;
}

struct slice permit_take(struct permit *permit, struct upstream *upstream, uint64_t now_ms,
                         char *text, size_t size) {
    struct permit taken = {.upstream = upstream};
    uint64_t gate = atomic_load(&upstream->gate);
    struct slice reason = SLICE_EMPTY;
    taken.ticket.round = gate >> 1;
    if ((gate & GATE_SHUT) != 0)
        reason = ask(&taken, upstream, now_ms, text, size);
    if (reason.len != 0)
        return reason;
    if (!take_place(upstream)) {
        permit_settle(&taken, BREAKER_NOTHING, now_ms); /* a probe is handed on */
        return say_full(upstream, text, size);
    }
    *permit = taken;
    return SLICE_EMPTY;
}

/* And giving it back. */

void permit_settle(struct permit *permit, enum breaker_verdict verdict, uint64_t now_ms) {
    struct upstream *upstream = permit->upstream;
    if (upstream == NULL || permit->is_settled)
        return;
    permit->is_settled = true;
    bool is_news = verdict == BREAKER_UNREACHABLE || verdict == BREAKER_FAILED ||
                   permit->ticket.is_probe ||
                   (verdict == BREAKER_FINE && atomic_load(&upstream->has_failures));
    if (!is_news)
        return;
    pthread_mutex_lock(&upstream->mutex);
    enum breaker_change change =
        breaker_settle(&upstream->breaker, permit->ticket, verdict, now_ms);
    publish(upstream, change);
    uint64_t n_failures = breaker_failures(&upstream->breaker);
    uint64_t pause_ms = upstream->breaker.pause_ms;
    pthread_mutex_unlock(&upstream->mutex);
    tell(upstream, change, n_failures, pause_ms);
}

void permit_return(struct permit *permit, enum breaker_verdict verdict, uint64_t now_ms) {
    if (permit->upstream == NULL)
        return;
    permit_settle(permit, verdict, now_ms);
    atomic_fetch_sub(&permit->upstream->n_in_flight, 1);
    permit->upstream = NULL;
}

struct slice permit_lost(const struct permit *permit, uint64_t now_ms, char *text, size_t size) {
    struct upstream *upstream = permit->upstream;
    struct slice reason = SLICE_EMPTY;
    if (upstream == NULL || (atomic_load(&upstream->gate) & GATE_SHUT) == 0)
        return SLICE_EMPTY;
    pthread_mutex_lock(&upstream->mutex);
    if (!breaker_allows(&upstream->breaker, permit->ticket))
        reason = say_open(upstream, now_ms, text, size);
    pthread_mutex_unlock(&upstream->mutex);
    return reason;
}

/* What is no call's. */

void permit_blame(struct upstream *upstream, enum breaker_verdict verdict, uint64_t now_ms) {
    pthread_mutex_lock(&upstream->mutex);
    enum breaker_change change = breaker_blame(&upstream->breaker, verdict, now_ms);
    publish(upstream, change);
    uint64_t n_failures = breaker_failures(&upstream->breaker);
    uint64_t pause_ms = upstream->breaker.pause_ms;
    pthread_mutex_unlock(&upstream->mutex);
    tell(upstream, change, n_failures, pause_ms);
}

void permit_started(struct upstream *upstream) {
    pthread_mutex_lock(&upstream->mutex);
    enum breaker_change change = breaker_started(&upstream->breaker);
    publish(upstream, change);
    pthread_mutex_unlock(&upstream->mutex);
    tell(upstream, change, 0, 0);
}

void upstream_health(struct upstream *upstream, uint64_t now_ms,
                     struct upstream_health *ret_health) {
    pthread_mutex_lock(&upstream->mutex);
    const struct breaker *breaker = &upstream->breaker;
    uint64_t wait_ms = breaker_wait_ms(breaker, now_ms);
    bool is_due = breaker->state == BREAKER_OPEN && wait_ms == 0;
    *ret_health = (struct upstream_health){
        .breaker = breaker_state_name(is_due ? BREAKER_HALF_OPEN : breaker->state),
        .n_failures = breaker_failures(breaker),
        .retry_ms = wait_ms,
        .n_in_flight = atomic_load(&upstream->n_in_flight),
    };
    pthread_mutex_unlock(&upstream->mutex);
}
