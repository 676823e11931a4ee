/*
 * Sets of the records of one block, in memory and as they are stored: a few of them as 16-bit
 * numbers, ascending; many as bits. Both in the byte order of the machine: the file is made anew
 * where another machine cannot read it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/slice.h"
#include "index_db.h"

enum { BITMAP_WORDS = INDEX_BLOCK / 64, BITMAP_BYTES = INDEX_BLOCK / 8 };

struct bitmap {
    uint64_t words[BITMAP_WORDS];
};

void bitmap_clear(struct bitmap *bitmap);
static inline void bitmap_set(struct bitmap *bitmap, unsigned low) {
    bitmap->words[low / 64] |= UINT64_C(1) << low % 64;
}
static inline bool bitmap_has(const struct bitmap *bitmap, unsigned low) {
    return (bitmap->words[low / 64] >> low % 64 & 1) != 0;
}
void bitmap_and(struct bitmap *bitmap, const struct bitmap *other);
bool bitmap_is_empty(const struct bitmap *bitmap);
/* The first one that is set, from `low` on upwards or downwards; INDEX_BLOCK: none. */
unsigned bitmap_next(const struct bitmap *bitmap, unsigned low);
unsigned bitmap_before(const struct bitmap *bitmap, unsigned low);

/* Adds what is stored. False: that cannot have been stored. */
MUST_CHECK bool bitmap_add_stored(struct bitmap *bitmap, struct slice stored);
/* `lows`: ascending, each once. The result is in `room` or is `lows` itself. */
struct slice bitmap_store(const uint16_t *lows, size_t n, struct bitmap *room);
/* The same of a bitmap. */
struct slice bitmap_store_all(const struct bitmap *bitmap, uint16_t room[INDEX_BLOCK / 16]);
