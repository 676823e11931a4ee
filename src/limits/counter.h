/*
 * One counter: the units of one rule and subject that have not expired, oldest first, in a ring of
 * words that grows. No lock, no table.
 *
 * Times are ticks: the monotonic clock divided by the width of limits_width_ms(). For an exact rule
 * a word is the tick of one unit, its lower 32 bits. For the others it is the lower eight bits of a
 * tick and a number of units; of those that have not expired no two ticks agree in eight bits, for
 * an interval has at most LIMITS_BUCKETS ticks and a part of one. Both are read as an age before
 * the youngest, whose tick is known in full: so nothing has to happen when the lower bits wrap.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "private.h"

struct counter {
    struct counter *next; /* of its chain in the table */
    uint64_t key;
    uint64_t latest; /* tick of the youngest */
    uint32_t interval_ms;
    uint32_t sum; /* units in all */
    uint16_t first, n, capacity;
    uint8_t is_bucketed : 1;
    uint8_t is_crowd : 1;
    uint8_t share; /* whose counters it belongs to, where they are numbered */
    uint32_t words[];
};

/* What a rule says at a time. */
struct counter_pace {
    uint64_t now_ms;
    uint64_t tick;     /* of a unit that passes now */
    uint64_t horizon;  /* the oldest tick that has not expired */
    uint64_t width_ms; /* of a tick */
    uint32_t interval_ms, limit;
    bool is_bucketed;
};

void counter_pace_at(const struct config_limit *limit, uint64_t now_ms,
                     struct counter_pace *ret_pace);

/* NULL without memory, each of them; they are freed by mem_free(). */

MUST_CHECK struct counter *counter_new(uint64_t key, const struct counter_pace *pace);
/* Of the same units, with room for so many words at least. */
MUST_CHECK struct counter *counter_copy(const struct counter *counter, size_t capacity);
/* The same units as another pace counts them: at the latest time that they may be of. */
MUST_CHECK struct counter *counter_refit(const struct counter *counter,
                                         const struct counter_pace *pace);

/* The rest is for a counter that fits the pace. */
static inline bool counter_fits(const struct counter *counter, const struct counter_pace *pace) {
    return counter->interval_ms == pace->interval_ms && counter->is_bucketed == pace->is_bucketed;
}

void counter_expire(struct counter *counter, uint64_t horizon);
/* 0: so many units may pass now, as far as what has not expired (counter_expire()) lets them. Else
 * how long it takes until they may. NULL: one that is empty. */
uint64_t counter_wait(const struct counter *counter, const struct counter_pace *pace,
                      uint32_t units);
bool counter_has_room(const struct counter *counter, const struct counter_pace *pace,
                      uint32_t units);
/* For which there is room. */
void counter_add(struct counter *counter, const struct counter_pace *pace, uint32_t units);
/* Takes out the oldest until so many units may pass. */
void counter_make_way(struct counter *counter, const struct counter_pace *pace, uint32_t units);

/* Whatever the pace: takes out what has expired. True: nothing is left. */
bool counter_is_over(struct counter *counter, uint64_t now_ms);
/* It has far more words than it needs. */
bool counter_is_spacious(const struct counter *counter);
/* For counter_copy(): the next size when so many words are to be added. */
size_t counter_grown(const struct counter *counter, const struct counter_pace *pace,
                     uint32_t units);
