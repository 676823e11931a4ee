#include "breaker.h"

void breaker_init(struct breaker *breaker, uint64_t threshold, uint64_t cooldown_ms) {
    *breaker = (struct breaker){.threshold = threshold, .cooldown_ms = cooldown_ms, .round = 1};
}

uint64_t breaker_failures(const struct breaker *breaker) {
    return breaker->n_unreachable + breaker->n_failed;
}

/* Loops look at the clock once a turn: another one's time may be a little behind. */
uint64_t breaker_wait_ms(const struct breaker *breaker, uint64_t now_ms) {
    if (breaker->state != BREAKER_OPEN || now_ms >= breaker->open_until_ms)
        return 0;
    return breaker->open_until_ms - now_ms;
}

static enum breaker_change open_for(struct breaker *breaker, uint64_t pause_ms, uint64_t now_ms) {
    breaker->state = BREAKER_OPEN;
    breaker->round++;
    breaker->is_probing = false;
    breaker->pause_ms = pause_ms;
    breaker->open_until_ms = now_ms < UINT64_MAX - pause_ms ? now_ms + pause_ms : UINT64_MAX;
    return BREAKER_HAS_OPENED;
}

static enum breaker_change close_again(struct breaker *breaker) {
    breaker->state = BREAKER_CLOSED;
    breaker->round++;
    breaker->is_probing = false;
    return BREAKER_HAS_CLOSED;
}

static void count(struct breaker *breaker, enum breaker_verdict verdict) {
    if (verdict == BREAKER_UNREACHABLE)
        breaker->n_unreachable++;
    else
        breaker->n_failed++;
}

bool breaker_admit(struct breaker *breaker, uint64_t now_ms, struct breaker_ticket *ret_ticket) {
    switch (breaker->state) {
    case BREAKER_CLOSED:
        *ret_ticket = (struct breaker_ticket){.round = breaker->round};
        return true;
    case BREAKER_OPEN:
        if (breaker_wait_ms(breaker, now_ms) != 0)
            return false;
        breaker->state = BREAKER_HALF_OPEN;
        break;
    case BREAKER_HALF_OPEN:
        if (breaker->is_probing)
            return false;
        break;
    }
    breaker->is_probing = true;
    *ret_ticket = (struct breaker_ticket){.round = breaker->round, .is_probe = true};
    return true;
}

bool breaker_allows(const struct breaker *breaker, struct breaker_ticket ticket) {
    return breaker->state == BREAKER_CLOSED || (ticket.is_probe && ticket.round == breaker->round);
}

static enum breaker_change settle_probe(struct breaker *breaker, enum breaker_verdict verdict,
                                        uint64_t now_ms) {
    uint64_t most = breaker->cooldown_ms * BREAKER_MOST_PAUSES;
    uint64_t next = breaker->pause_ms * 2;
    breaker->is_probing = false;
    switch (verdict) {
    case BREAKER_NOTHING:
        return BREAKER_AS_BEFORE;
    case BREAKER_FINE:
        breaker->n_unreachable = breaker->n_failed = 0;
        return close_again(breaker);
    case BREAKER_UNREACHABLE:
    case BREAKER_FAILED:
        break;
    }
    count(breaker, verdict);
    return open_for(breaker, next < most ? next : most, now_ms);
}

enum breaker_change breaker_blame(struct breaker *breaker, enum breaker_verdict verdict,
                                  uint64_t now_ms) {
    if (breaker->state != BREAKER_CLOSED ||
        (verdict != BREAKER_UNREACHABLE && verdict != BREAKER_FAILED))
        return BREAKER_AS_BEFORE;
    count(breaker, verdict);
    if (breaker->threshold == 0 || breaker_failures(breaker) < breaker->threshold)
        return BREAKER_AS_BEFORE;
    return open_for(breaker, breaker->cooldown_ms, now_ms);
}

enum breaker_change breaker_settle(struct breaker *breaker, struct breaker_ticket ticket,
                                   enum breaker_verdict verdict, uint64_t now_ms) {
    if (ticket.round != breaker->round)
        return BREAKER_AS_BEFORE;
    if (ticket.is_probe)
        return settle_probe(breaker, verdict, now_ms);
    if (verdict == BREAKER_FINE)
        breaker->n_unreachable = breaker->n_failed = 0;
    return breaker_blame(breaker, verdict, now_ms);
}

enum breaker_change breaker_started(struct breaker *breaker) {
    bool was_unreachable = breaker->n_unreachable != 0;
    breaker->n_unreachable = 0;
    if (breaker->state == BREAKER_CLOSED || !was_unreachable ||
        breaker->n_failed >= breaker->threshold)
        return BREAKER_AS_BEFORE;
    return close_again(breaker);
}

const char *breaker_state_name(enum breaker_state state) {
    static const char *const names[] = {
        [BREAKER_CLOSED] = "closed",
        [BREAKER_OPEN] = "open",
        [BREAKER_HALF_OPEN] = "half-open",
    };
    return names[state];
}
