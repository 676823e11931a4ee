/*
 * What is held for peers in all: bytes of messages that came and are not yet gone. A count that any
 * thread changes; who sees it exceeded stops reading until others have finished. It promises no
 * exact bound: what was read in the same moment on other threads is counted right after.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct budget {
    atomic_size_t held;
    size_t max; /* 0: no bound */
};

static inline void budget_add(struct budget *budget, size_t n) {
    if (budget != NULL)
        atomic_fetch_add_explicit(&budget->held, n, memory_order_relaxed);
}

static inline void budget_give_back(struct budget *budget, size_t n) {
    if (budget != NULL)
        atomic_fetch_sub_explicit(&budget->held, n, memory_order_relaxed);
}

static inline size_t budget_held(const struct budget *budget) {
    return budget != NULL ? atomic_load_explicit(&budget->held, memory_order_relaxed) : 0;
}

static inline bool budget_is_exceeded(const struct budget *budget) {
    return budget != NULL && budget->max != 0 && budget_held(budget) > budget->max;
}

/* Enough was given back for reading to begin again: an eighth, so that it does not flutter. */
static inline bool budget_has_room(const struct budget *budget) {
    return budget == NULL || budget->max == 0 ||
           budget_held(budget) <= budget->max - budget->max / 8;
}
