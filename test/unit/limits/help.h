/* What the tests of the counters share: rules and subjects by number, one draw after the other. */
#pragma once

#include <stdint.h>

#include "base/compiler.h"
#include "private.h"

/* xorshift64*: the same in each run. */
MAYBE_UNUSED static uint64_t draw(uint64_t *state, uint64_t bound) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (*state * UINT64_C(0x2545f4914f6cdd1d) >> 11) % bound;
}

MAYBE_UNUSED static struct limits_rule rule_of(const char *id, uint64_t limit,
                                               uint64_t interval_ms) {
    struct limits_rule rule;
    limits_rule_init(&rule, slice_from_cstr(id),
                     (struct config_limit){.limit = limit, .interval_ms = interval_ms});
    return rule;
}

/* 0: everybody. Not limits_subject_of(), which is slower than all the rest together. */
MAYBE_UNUSED static struct limits_subject subject_of(uint64_t number) {
    return number == 0 ? (struct limits_subject){0}
                       : (struct limits_subject){
                             .high = number * UINT64_C(0x9e3779b97f4a7c15),
                             .low = ~number,
                         };
}

/* One unit of one rule. */
MAYBE_UNUSED static struct limits_answer
take_one(struct memory *memory, const struct limits_rule *rule, uint64_t subject, uint64_t now_ms) {
    struct limits_charge charge = {.rule = rule, .subject = subject_of(subject)};
    struct limits_answer answer;
    memory_take(memory, &charge, 1, now_ms, &answer);
    return answer;
}

/* How many units pass at that time. */
MAYBE_UNUSED static size_t take_all(struct memory *memory, const struct limits_rule *rule,
                                    uint64_t subject, uint64_t now_ms) {
    size_t n = 0;
    while (take_one(memory, rule, subject, now_ms).verdict == LIMITS_PASS)
        n++;
    return n;
}

/* All shards, and each of them to its end. */
MAYBE_UNUSED static void sweep_all(struct memory *memory, uint64_t now_ms) {
    for (size_t i = 0; i < 1024; i++)
        memory_sweep(memory, now_ms);
}
