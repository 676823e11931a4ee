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

enum counter_owner { COUNTER_OWN, COUNTER_CROWDS, COUNTER_EVERYBODYS };

struct counter {
    struct counter *next; /* of its chain in the table */
    uint64_t key;
    uint64_t latest; /* tick of the youngest */
    uint32_t kind;   /* of its rule: the interval, and COUNTER_BUCKETS */
    uint32_t sum;    /* units in all */
    uint16_t first, n, capacity;
    uint8_t owner; /* enum counter_owner */
    uint8_t share; /* with whose counters it is numbered */
    uint32_t words[];
};

/* What a rule says at a time. */
struct counter_pace {
    uint64_t now_ms;
    uint64_t tick;     /* of a unit that passes now */
    uint64_t horizon;  /* the oldest tick that has not expired */
    uint64_t width_ms; /* of a tick */
    uint32_t kind, limit;
};

/* An interval is shorter than 2^31: the highest bit is for rules that are counted in buckets. */
#define COUNTER_BUCKETS (UINT32_C(1) << 31)
_Static_assert(LIMIT_RATE_INTERVAL_MS < COUNTER_BUCKETS, "a bit is free");

static inline bool counter_is_bucketed(uint32_t kind) {
    return (kind & COUNTER_BUCKETS) != 0;
}

static inline uint32_t counter_interval_ms(uint32_t kind) {
    return kind & ~COUNTER_BUCKETS;
}

static inline uint64_t counter_horizon(uint64_t now_ms, uint64_t interval_ms, uint64_t width_ms) {
    uint64_t since = now_ms > interval_ms ? now_ms - interval_ms : 0;
    return width_ms == 1 ? since : since / width_ms;
}

/* By limits_rule_init() the limit is within its bounds, which keep the words from wrapping. */
static inline void counter_pace_at(const struct config_limit *limit, uint64_t now_ms,
                                   struct counter_pace *ret_pace) {
    uint64_t width_ms = limits_width_ms(limit);
    ret_pace->now_ms = now_ms;
    ret_pace->tick = width_ms == 1 ? now_ms : now_ms / width_ms;
    ret_pace->horizon = counter_horizon(now_ms, limit->interval_ms, width_ms);
    ret_pace->width_ms = width_ms;
    ret_pace->kind =
        (uint32_t)limit->interval_ms | (limit->limit > LIMIT_RATE_EXACT ? COUNTER_BUCKETS : 0);
    ret_pace->limit = (uint32_t)limit->limit;
}

/* NULL without memory, each of them; they are freed by mem_free(). */

MUST_CHECK struct counter *counter_new(uint64_t key, const struct counter_pace *pace);
/* Of the same units, with room for so many words at least. */
MUST_CHECK struct counter *counter_copy(const struct counter *counter, size_t capacity);
/* The same units as another pace counts them: at the latest time that they may be of. */
MUST_CHECK struct counter *counter_refit(const struct counter *counter,
                                         const struct counter_pace *pace);

/* The rest is for a counter that fits the pace. */
static inline bool counter_fits(const struct counter *counter, const struct counter_pace *pace) {
    return counter->kind == pace->kind;
}

/* --- words --- */

enum { COUNTER_UNITS_BITS = 24 };
#define COUNTER_UNITS_MAX ((UINT32_C(1) << COUNTER_UNITS_BITS) - 1)

static inline size_t counter_place(const struct counter *counter, size_t index) {
    size_t place = counter->first + index;
    return place < counter->capacity ? place : place - counter->capacity;
}

/* Ticks before the youngest. */
static inline uint64_t counter_age(const struct counter *counter, uint32_t word) {
    if (counter_is_bucketed(counter->kind))
        return (uint8_t)((uint32_t)counter->latest - (word >> COUNTER_UNITS_BITS));
    return (uint32_t)((uint32_t)counter->latest - word);
}

static inline bool counter_is_in_last(const struct counter *counter, uint64_t tick,
                                      uint32_t units) {
    if (!counter_is_bucketed(counter->kind) || counter->n == 0 || tick > counter->latest)
        return false;
    uint32_t word = counter->words[counter_place(counter, counter->n - 1U)];
    return counter_age(counter, word) == 0 &&
           (word & COUNTER_UNITS_MAX) + units <= COUNTER_UNITS_MAX;
}

static inline uint32_t counter_units(const struct counter *counter, uint32_t word) {
    return counter_is_bucketed(counter->kind) ? word & COUNTER_UNITS_MAX : 1;
}

static inline void counter_drop_oldest(struct counter *counter) {
    counter->sum -= counter_units(counter, counter->words[counter->first]);
    counter->first = (uint16_t)counter_place(counter, 1);
    counter->n--;
}

static inline void counter_expire(struct counter *counter, uint64_t horizon) {
    if (UNLIKELY(counter->latest < horizon)) {
        counter->first = counter->n = 0;
        counter->sum = 0;
    }
    uint64_t age = counter->latest - horizon;
    while (counter->n > 0 && counter_age(counter, counter->words[counter->first]) > age)
        counter_drop_oldest(counter);
}

static inline bool counter_has_room(const struct counter *counter, const struct counter_pace *pace,
                                    uint32_t units) {
    if (!counter_is_bucketed(counter->kind))
        return (size_t)counter->n + units <= counter->capacity;
    return counter->n < counter->capacity || counter_is_in_last(counter, pace->tick, units);
}

/* There is room. Another thread's clock may have been ahead: then it is its time that counts. */
static inline void counter_add(struct counter *counter, uint64_t tick, uint32_t units) {
    counter->sum += units;
    if (counter_is_in_last(counter, tick, units)) {
        counter->words[counter_place(counter, counter->n - 1U)] += units;
        return;
    }
    if (tick > counter->latest)
        counter->latest = tick;
    uint32_t latest = (uint32_t)counter->latest;
    if (counter_is_bucketed(counter->kind)) {
        counter->words[counter_place(counter, counter->n++)] =
            (latest & 0xff) << COUNTER_UNITS_BITS | units;
        return;
    }
    for (uint32_t i = 0; i < units; i++)
        counter->words[counter_place(counter, counter->n++)] = latest;
}

/* Undoes the last counter_add(). */
static inline void counter_give_back(struct counter *counter, uint32_t units) {
    counter->sum -= units;
    if (!counter_is_bucketed(counter->kind)) {
        counter->n = (uint16_t)(counter->n - units);
        return;
    }
    uint32_t *word = &counter->words[counter_place(counter, counter->n - 1U)];
    *word -= units;
    if ((*word & COUNTER_UNITS_MAX) == 0)
        counter->n--;
}

/* 0: so many units may pass now, as far as what has not expired (counter_expire()) lets them. Else
 * how long it takes until they may. NULL: one that is empty. */
uint64_t counter_wait(const struct counter *counter, const struct counter_pace *pace,
                      uint32_t units);
/* Takes out the oldest until so many units may pass. */
void counter_make_way(struct counter *counter, const struct counter_pace *pace, uint32_t units);

/* Whatever the pace: takes out what has expired. True: nothing is left. */
bool counter_is_over(struct counter *counter, uint64_t now_ms);
/* It has far more words than it needs. */
bool counter_is_spacious(const struct counter *counter);
/* For counter_copy(): the next size when so many words are to be added. */
size_t counter_grown(const struct counter *counter, const struct counter_pace *pace,
                     uint32_t units);
