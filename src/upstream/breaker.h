/*
 * The circuit breaker of one upstream, pure: calls and starts are told to it, time is passed in.
 *
 *            `threshold` failures in a row            the cooldown is over: one call
 *     CLOSED -----------------------------> OPEN -----------------------------------> HALF_OPEN
 *       ^                                    ^ the probe failed: the pause doubles       |  |
 *       |                                    +-------------------------------------------+  |
 *       +------------------------ the probe was answered -----------------------------------+
 *
 * A probe that ends without a verdict (its client cancelled it, a limit of ours stood in the way)
 * hands the right to probe to the next call.
 *
 * Two kinds of failures make up the row. That the server was not reached or did not start is taken
 * back by a start that succeeds, since nothing is left of it then: that is how the breaker and the
 * restarts of instance.c stay of one mind. What calls suffered is not: a server that starts well
 * and fails each call would never be left alone.
 *
 * Calls that were let through before the breaker last changed say nothing of the time after it:
 * their tickets are of an earlier round. The caller holds the lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

enum { BREAKER_MOST_PAUSES = 10 }; /* what the pause grows to, in cooldowns */

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

/* What a call, or a start, says of the server. */
enum breaker_verdict {
    BREAKER_NOTHING,     /* cancelled, or refused by us */
    BREAKER_FINE,        /* it answered, whatever */
    BREAKER_UNREACHABLE, /* no connection, no start */
    BREAKER_FAILED,      /* no answer, or none that is one */
};

enum breaker_change { BREAKER_AS_BEFORE, BREAKER_HAS_OPENED, BREAKER_HAS_CLOSED };

struct breaker_ticket {
    uint64_t round;
    bool is_probe;
};

struct breaker {
    uint64_t threshold; /* 0: never opens */
    uint64_t cooldown_ms;
    enum breaker_state state;
    uint64_t round;                   /* changes whenever it opens or closes */
    uint64_t n_unreachable, n_failed; /* in a row, together */
    uint64_t pause_ms, open_until_ms; /* when it is open */
    bool is_probing;                  /* half open: a probe is under way */
};

void breaker_init(struct breaker *breaker, uint64_t threshold, uint64_t cooldown_ms);

/* False: the call is not to be made. */
MUST_CHECK bool breaker_admit(struct breaker *breaker, uint64_t now_ms,
                              struct breaker_ticket *ret_ticket);
/* A call that was let through and has not been sent may still be. */
bool breaker_allows(const struct breaker *breaker, struct breaker_ticket ticket);
/* The end of a call that was let through; once for each ticket. */
enum breaker_change breaker_settle(struct breaker *breaker, struct breaker_ticket ticket,
                                   enum breaker_verdict verdict, uint64_t now_ms);
/* What is no call's: a start that failed, a process that ended. Counts while it is closed. */
enum breaker_change breaker_blame(struct breaker *breaker, enum breaker_verdict verdict,
                                  uint64_t now_ms);
/* A start succeeded. */
enum breaker_change breaker_started(struct breaker *breaker);

/* Failures in a row. */
uint64_t breaker_failures(const struct breaker *breaker);
/* Until a call is let through, while it is open; else 0. */
uint64_t breaker_wait_ms(const struct breaker *breaker, uint64_t now_ms);
const char *breaker_state_name(enum breaker_state state);
