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

static size_t stepped(size_t words) {
    return (words + WORDS_STEP - 1) / WORDS_STEP * WORDS_STEP;
}

static uint64_t width_of(const struct counter *counter) {
    struct config_limit limit = {
        .limit = counter_is_bucketed(counter->kind) ? LIMIT_RATE_EXACT + 1 : 1,
        .interval_ms = counter_interval_ms(counter->kind),
    };
    return limits_width_ms(&limit);
}

/* --- words --- */

/* Up to so many units of the oldest word. */
static void take_out(struct counter *counter, uint32_t units) {
    uint32_t *word = &counter->words[counter->first];
    uint32_t has = counter_units(counter, *word);
    if (units < has) {
        *word -= units; /* of a bucket: the units are its lower bits */
        counter->sum -= units;
        return;
    }
    counter_drop_oldest(counter);
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
    counter->kind = pace->kind;
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
    if (!counter_is_bucketed(pace->kind) && counter->sum > LIMIT_RATE_EXACT)
        excess = counter->sum - LIMIT_RATE_EXACT;
    size_t capacity = counter_is_bucketed(pace->kind) ? size_min(counter->n, 2U * LIMITS_BUCKETS)
                                                      : counter->sum - excess;
    struct counter *made = make(counter->key, pace, size_max(capacity, 1));
    if (made == NULL)
        return NULL;
    made->next = counter->next;
    made->owner = counter->owner;
    made->share = counter->share;
    uint64_t width_ms = width_of(counter);
    for (size_t i = 0; i < counter->n; i++) {
        uint32_t word = counter->words[counter_place(counter, i)],
                 units = counter_units(counter, word);
        uint32_t left_out = units < excess ? units : excess;
        uint64_t last_ms = (counter->latest - counter_age(counter, word) + 1) * width_ms - 1;
        uint64_t tick = (last_ms < pace->now_ms ? last_ms : pace->now_ms) / pace->width_ms;
        excess -= left_out;
        if (units > left_out && tick >= pace->horizon)
            counter_add(made, tick, units - left_out);
    }
    return made;
}

/* When so many of the oldest units have expired; there are as many. */
static uint64_t time_of(const struct counter *counter, const struct counter_pace *pace,
                        uint64_t units) {
    size_t i = 0;
    if (!counter_is_bucketed(counter->kind))
        i = (size_t)units - 1;
    else
        for (uint64_t seen = 0; i < counter->n; i++) {
            seen += counter_units(counter, counter->words[counter_place(counter, i)]);
            if (seen >= units)
                break;
        }
    uint64_t tick =
        counter->latest - counter_age(counter, counter->words[counter_place(counter, i)]);
    return (tick + 1) * pace->width_ms + counter_interval_ms(pace->kind);
}

uint64_t counter_wait(const struct counter *counter, const struct counter_pace *pace,
                      uint32_t units) {
    if (UNLIKELY(units > pace->limit)) /* they will never pass: as long as any others at most */
        return counter_interval_ms(pace->kind) +
               (pace->limit == 0 && counter_interval_ms(pace->kind) > 0 ? 0 : pace->width_ms);
    if (counter == NULL)
        return 0;
    uint64_t sum = (uint64_t)counter->sum + units;
    return LIKELY(sum <= pace->limit) ? 0
                                      : time_of(counter, pace, sum - pace->limit) - pace->now_ms;
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
    counter_expire(counter,
                   counter_horizon(now_ms, counter_interval_ms(counter->kind), width_of(counter)));
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
