/*
 * Memory of one owner (a request, a connection, a configuration), freed as a whole. Nothing that
 * lives longer may point into it. Grows in blocks up to a hard maximum; past it, or without memory,
 * allocations return NULL and arena_failed() stays true until arena_reset().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/slice.h"

struct arena_block;

struct arena {
    struct arena_block *head; /* the block that is being filled */
    size_t used;              /* bytes handed out */
    size_t max;
    bool failed;
};

#define ARENA_INIT(maximum) ((struct arena){.max = (maximum)})

void arena_init(struct arena *arena, size_t max);
void arena_deinit(struct arena *arena);
/* Overwrites what is in it, in a way that the compiler cannot drop: there were secrets. What is
 * kept is to be freed then. */
void arena_wipe(struct arena *arena);
/* Forgets every allocation; keeps one block for the next round. */
void arena_reset(struct arena *arena);

static inline bool arena_failed(const struct arena *arena) {
    return arena->failed;
}

/* Zeroed and aligned for any type; NULL on failure. */
MUST_CHECK void *arena_alloc(struct arena *arena, size_t size);
MUST_CHECK void *arena_alloc_array(struct arena *arena, size_t count, size_t size);
/* A copy of the bytes with a NUL behind them, not counted in len. On failure the slice has a NULL
 * ptr. */
struct slice arena_dup(struct arena *arena, struct slice bytes);
/* As arena_dup for the border of the system: NULL on failure or embedded NUL. */
MUST_CHECK char *arena_cstr(struct arena *arena, struct slice bytes);
MUST_CHECK char *arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);
