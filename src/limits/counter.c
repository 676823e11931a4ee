#include "counter.h"

#include <string.h>

#include "base/checked.h"
#include "base/mem.h"

/*
 * Words of a new counter and of one that grew. So many that a subject with a few calls needs one
 * block and never a second one: blocks that small do not grow in place, and what a hundred thousand
 * of them leave behind is not given back. Multiples of four fill malloc's blocks.
 */
enum { FIRST_WORDS = 12, WORDS_STEP = 4 };
enum { UNITS_BITS = 24 };
#define UNITS_MAX ((UINT32_C(1) << UNITS_BITS) - 1)

static size_t stepped(size_t words) {
    return (words + WORDS_STEP - 1) / WORDS_STEP * WORDS_STEP;
}

static uint64_t horizon_of(uint64_t now_ms, uint64_t interval_ms, uint64_t width_ms) {
    uint64_t since = now_ms > interval_ms ? now_ms - interval_ms : 0;
    return width_ms == 1 ? since : since / width_ms;
}

static uint64_t width_of(const struct counter *counter) {
    struct config_limit limit = {
        .limit = counter->is_bucketed ? LIMIT_RATE_EXACT + 1 : 1,
        .interval_ms = counter->interval_ms,
    };
    return limits_width_ms(&limit);
}

void counter_pace_at(const struct config_limit *limit, uint64_t now_ms,
                     struct counter_pace *ret_pace) {
    /* The configuration has the same bounds; here they keep the words from wrapping. */
    uint64_t units = limit->limit < LIMIT_RATE ? limit->limit : LIMIT_RATE;
    uint64_t interval_ms =
        limit->interval_ms < LIMIT_RATE_INTERVAL_MS ? limit->interval_ms : LIMIT_RATE_INTERVAL_MS;
    uint64_t width_ms =
        limits_width_ms(&(struct config_limit){.limit = units, .interval_ms = interval_ms});
    *ret_pace = (struct counter_pace){
        .now_ms = now_ms,
        .tick = width_ms == 1 ? now_ms : now_ms / width_ms,
        .horizon = horizon_of(now_ms, interval_ms, width_ms),
        .width_ms = width_ms,
        .interval_ms = (uint32_t)interval_ms,
        .limit = (uint32_t)units,
        .is_bucketed = units > LIMIT_RATE_EXACT,
    };
}

/* --- words --- */

static size_t place_of(const struct counter *counter, size_t index) {
    size_t place = counter->first + index;
    return place < counter->capacity ? place : place - counter->capacity;
}

static uint32_t units_of(const struct counter *counter, uint32_t word) {
    return counter->is_bucketed ? word & UNITS_MAX : 1;
}

static uint64_t age_of(const struct counter *counter, uint32_t word) {
    if (counter->is_bucketed)
        return (uint8_t)((uint32_t)counter->latest - (word >> UNITS_BITS));
    return (uint32_t)((uint32_t)counter->latest - word);
}

/* Up to so many units of the oldest word. */
static void take_out(struct counter *counter, uint32_t units) {
    uint32_t *word = &counter->words[counter->first];
    uint32_t has = units_of(counter, *word);
    if (units < has) {
        *word -= units; /* of a bucket: the units are its lower bits */
        counter->sum -= units;
        return;
    }
    counter->sum -= has;
    counter->first = (uint16_t)place_of(counter, 1);
    counter->n--;
}

static bool is_in_last(const struct counter *counter, uint64_t tick, uint32_t units) {
    if (!counter->is_bucketed || counter->n == 0 || tick > counter->latest)
        return false;
    uint32_t word = counter->words[place_of(counter, counter->n - 1U)];
    return age_of(counter, word) == 0 && (word & UNITS_MAX) + units <= UNITS_MAX;
}

/* There is room. Another thread's clock may have been ahead: then it is its time that counts. */
static void append(struct counter *counter, uint64_t tick, uint32_t units) {
    counter->sum += units;
    if (is_in_last(counter, tick, units)) {
        counter->words[place_of(counter, counter->n - 1U)] += units;
        return;
    }
    if (tick > counter->latest)
        counter->latest = tick;
    if (counter->is_bucketed) {
        counter->words[place_of(counter, counter->n++)] =
            (uint32_t)(counter->latest & 0xff) << UNITS_BITS | units;
        return;
    }
    for (uint32_t i = 0; i < units; i++)
        counter->words[place_of(counter, counter->n++)] = (uint32_t)counter->latest;
}

/* --- counters --- */

static struct counter *allocate(size_t capacity) {
    struct counter *counter = mem_alloc(sizeof *counter + capacity * sizeof counter->words[0]);
    if (counter != NULL)
        counter->capacity = (uint16_t)capacity;
    return counter;
}

static struct counter *make(uint64_t key, const struct counter_pace *pace, size_t capacity) {
    struct counter *counter = allocate(stepped(capacity));
    if (counter == NULL)
        return NULL;
    counter->key = key;
    counter->interval_ms = pace->interval_ms;
    counter->is_bucketed = pace->is_bucketed;
    return counter;
}

struct counter *counter_new(uint64_t key, const struct counter_pace *pace) {
    return make(key, pace, size_min(FIRST_WORDS, pace->limit));
}

struct counter *counter_copy(const struct counter *counter, size_t capacity) {
    struct counter *copy = allocate(stepped(size_max(capacity, counter->n)));
    if (copy == NULL)
        return NULL;
    uint16_t has = copy->capacity;
    *copy = *counter; /* without the words */
    copy->capacity = has;
    copy->first = 0;
    size_t tail = size_min(counter->n, (size_t)counter->capacity - counter->first);
    memcpy(copy->words, counter->words + counter->first, tail * sizeof copy->words[0]);
    memcpy(copy->words + tail, counter->words, (counter->n - tail) * sizeof copy->words[0]);
    return copy;
}

struct counter *counter_refit(const struct counter *counter, const struct counter_pace *pace) {
    /* Of more no exact rule will ever want to know. */
    uint32_t excess = 0;
    if (!pace->is_bucketed && counter->sum > LIMIT_RATE_EXACT)
        excess = counter->sum - LIMIT_RATE_EXACT;
    size_t capacity =
        pace->is_bucketed ? size_min(counter->n, 2U * LIMITS_BUCKETS) : counter->sum - excess;
    struct counter *made = make(counter->key, pace, size_max(capacity, 1));
    if (made == NULL)
        return NULL;
    made->next = counter->next;
    made->is_crowd = counter->is_crowd;
    made->share = counter->share;
    uint64_t width_ms = width_of(counter);
    for (size_t i = 0; i < counter->n; i++) {
        uint32_t word = counter->words[place_of(counter, i)], units = units_of(counter, word);
        uint32_t left_out = units < excess ? units : excess;
        uint64_t last_ms = (counter->latest - age_of(counter, word) + 1) * width_ms - 1;
        uint64_t tick = (last_ms < pace->now_ms ? last_ms : pace->now_ms) / pace->width_ms;
        excess -= left_out;
        if (units > left_out && tick >= pace->horizon)
            append(made, tick, units - left_out);
    }
    return made;
}

void counter_expire(struct counter *counter, uint64_t horizon) {
    if (counter->latest < horizon) {
        counter->first = counter->n = 0;
        counter->sum = 0;
        return;
    }
    uint64_t age = counter->latest - horizon;
    while (counter->n > 0 && age_of(counter, counter->words[counter->first]) > age)
        take_out(counter, UINT32_MAX);
}

/* When so many of the oldest units have expired; there are as many. */
static uint64_t time_of(const struct counter *counter, const struct counter_pace *pace,
                        uint64_t units) {
    size_t i = 0;
    if (!counter->is_bucketed)
        i = (size_t)units - 1;
    else
        for (uint64_t seen = 0; i < counter->n; i++) {
            seen += units_of(counter, counter->words[place_of(counter, i)]);
            if (seen >= units)
                break;
        }
    uint64_t tick = counter->latest - age_of(counter, counter->words[place_of(counter, i)]);
    return (tick + 1) * pace->width_ms + pace->interval_ms;
}

uint64_t counter_wait(const struct counter *counter, const struct counter_pace *pace,
                      uint32_t units) {
    if (UNLIKELY(units > pace->limit))
        return pace->interval_ms > 0 ? pace->interval_ms : 1; /* and will never pass */
    if (counter == NULL)
        return 0;
    uint64_t sum = (uint64_t)counter->sum + units;
    return LIKELY(sum <= pace->limit) ? 0
                                      : time_of(counter, pace, sum - pace->limit) - pace->now_ms;
}

bool counter_has_room(const struct counter *counter, const struct counter_pace *pace,
                      uint32_t units) {
    if (!counter->is_bucketed)
        return (size_t)counter->n + units <= counter->capacity;
    return counter->n < counter->capacity || is_in_last(counter, pace->tick, units);
}

void counter_add(struct counter *counter, const struct counter_pace *pace, uint32_t units) {
    append(counter, pace->tick, units);
}

void counter_make_way(struct counter *counter, const struct counter_pace *pace, uint32_t units) {
    uint64_t sum = (uint64_t)counter->sum + units;
    uint64_t excess = sum > pace->limit ? sum - pace->limit : 0;
    while (excess > 0 && counter->n > 0) {
        uint32_t before = counter->sum;
        take_out(counter, (uint32_t)excess);
        excess -= before - counter->sum;
    }
}

bool counter_is_over(struct counter *counter, uint64_t now_ms) {
    counter_expire(counter, horizon_of(now_ms, counter->interval_ms, width_of(counter)));
    return counter->n == 0;
}

bool counter_is_spacious(const struct counter *counter) {
    return counter->capacity > 2 * FIRST_WORDS && counter->n < counter->capacity / 4;
}

size_t counter_grown(const struct counter *counter, const struct counter_pace *pace,
                     uint32_t units) {
    size_t words = size_max(counter->n + (size_t)units, counter->n + (size_t)counter->n / 2);
    /* An exact rule never has more than its limit, except from before a reload. */
    size_t most = size_max(pace->limit, counter->n + (size_t)units);
    return size_min(size_max(words, FIRST_WORDS), most);
}
