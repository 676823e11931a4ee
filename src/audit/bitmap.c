/* Sets of the records of one block (bitmap.h). */
#include "bitmap.h"

enum { MOST_LOWS = BITMAP_BYTES / 2 - 1 }; /* so that the length tells which form it is */

void bitmap_clear(struct bitmap *bitmap) {
    memset(bitmap, 0, sizeof *bitmap);
}

void bitmap_and(struct bitmap *bitmap, const struct bitmap *other) {
    for (size_t i = 0; i < BITMAP_WORDS; i++)
        bitmap->words[i] &= other->words[i];
}

bool bitmap_is_empty(const struct bitmap *bitmap) {
    uint64_t any = 0;
    for (size_t i = 0; i < BITMAP_WORDS; i++)
        any |= bitmap->words[i];
    return any == 0;
}

unsigned bitmap_next(const struct bitmap *bitmap, unsigned low) {
    if (low >= INDEX_BLOCK)
        return INDEX_BLOCK;
    unsigned i = low / 64;
    uint64_t word = bitmap->words[i] & UINT64_MAX << low % 64;
    while (word == 0 && ++i < BITMAP_WORDS)
        word = bitmap->words[i];
    return word == 0 ? INDEX_BLOCK : i * 64 + TRAILING_ZEROS_64(word);
}

static unsigned highest(uint64_t word) {
    unsigned bit = 0;
    for (unsigned step = 32; step != 0; step /= 2)
        if (word >> step != 0) {
            word >>= step;
            bit += step;
        }
    return bit;
}

unsigned bitmap_before(const struct bitmap *bitmap, unsigned low) {
    if (low >= INDEX_BLOCK)
        return INDEX_BLOCK;
    unsigned i = low / 64;
    uint64_t word = bitmap->words[i] & UINT64_MAX >> (63 - low % 64);
    while (word == 0 && i-- != 0)
        word = bitmap->words[i];
    return word == 0 ? INDEX_BLOCK : i * 64 + highest(word);
}

bool bitmap_add_stored(struct bitmap *bitmap, struct slice stored) {
    if (stored.len == BITMAP_BYTES) {
        for (size_t i = 0; i < BITMAP_WORDS; i++) {
            uint64_t word;
            memcpy(&word, stored.ptr + i * sizeof word, sizeof word);
            bitmap->words[i] |= word;
        }
        return true;
    }
    if (stored.len % 2 != 0 || stored.len > BITMAP_BYTES)
        return false;
    for (size_t i = 0; i < stored.len; i += 2) {
        uint16_t low;
        memcpy(&low, stored.ptr + i, sizeof low);
        if (low >= INDEX_BLOCK)
            return false;
        bitmap_set(bitmap, low);
    }
    return true;
}

struct slice bitmap_store(const uint16_t *lows, size_t n, struct bitmap *room) {
    if (n <= MOST_LOWS)
        return slice_make(lows, n * sizeof *lows);
    bitmap_clear(room);
    for (size_t i = 0; i < n; i++)
        bitmap_set(room, lows[i]);
    return slice_make(room->words, sizeof room->words);
}

struct slice bitmap_store_all(const struct bitmap *bitmap, uint16_t room[INDEX_BLOCK / 16]) {
    size_t n = 0;
    unsigned low = bitmap_next(bitmap, 0);
    for (; low < INDEX_BLOCK && n < MOST_LOWS; low = bitmap_next(bitmap, low + 1))
        room[n++] = (uint16_t)low;
    if (low < INDEX_BLOCK)
        return slice_make(bitmap->words, sizeof bitmap->words);
    return slice_make(room, n * sizeof *room);
}
