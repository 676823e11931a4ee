/* Short texts, eight bytes at a time. */
#pragma once

#include <stdint.h>

#include "base/slice.h"

enum { WORD_BYTES = 8 };

/* Eight bytes of a text. */
static inline uint64_t word_at(const char *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* All bytes of a text of 1 to 7, some of them twice, and nothing that is not of it. */
static inline uint64_t word_of_short(struct slice text) {
    if (text.len >= 4) {
        uint32_t front, back;
        memcpy(&front, text.ptr, sizeof front);
        memcpy(&back, text.ptr + text.len - sizeof back, sizeof back);
        return (uint64_t)back << 32 | front;
    }
    const unsigned char *bytes = (const unsigned char *)text.ptr;
    uint64_t first = bytes[0], middle = bytes[text.len / 2], last = bytes[text.len - 1];
    return UINT64_C(0x0101010101) * first << 24 | last << 16 | middle << 8 | first;
}

/* Bit 7 of each byte that is below the space; of what is above the first such byte it may be wrong,
 * and of bytes from 0x80 on. */
static inline uint64_t word_controls(uint64_t word) {
    return word - UINT64_C(0x2020202020202020);
}

/* Some byte cannot stand in a string of JSON as it is (RFC 8259 section 7), or is not ASCII. A
 * subtraction borrows from the next byte only where it has found one. */
static inline bool word_is_special(uint64_t word) {
    const uint64_t each = UINT64_C(0x0101010101010101);
    uint64_t quote = (word ^ each * '"') - each, backslash = (word ^ each * '\\') - each;
    return ((word | word_controls(word) | quote | backslash) & each * 0x80) != 0;
}

/* The text stands in a string of JSON as it is. False also where it does, and is not ASCII. */
static inline bool text_is_plain(struct slice text) {
    if (text.len < WORD_BYTES)
        return text.len == 0 || !word_is_special(word_of_short(text));
    for (size_t at = 0; at + WORD_BYTES < text.len; at += WORD_BYTES) {
        if (word_is_special(word_at(text.ptr + at)))
            return false;
    }
    return !word_is_special(word_at(text.ptr + text.len - WORD_BYTES));
}
