#include "chars.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Bits of enum char_class; a test tries every byte. Those from 0x80 have none. */
const uint8_t http_char_table[256] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x1f, 0x02, 0x03, 0x1f, 0x1f, 0x1f, 0x1f, 0x1e, 0x1e, 0x1f, 0x1f, 0x1e, 0xdf, 0x5f, 0x0e,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1e, 0x1e, 0x02, 0x1e, 0x02, 0x0a,
    0x0e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf,
    0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0x02, 0x02, 0x02, 0x03, 0xdf,
    0x03, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf,
    0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0x02, 0x03, 0x02, 0x5f, 0x00,
};

#define EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* False when any of the eight bytes is below 0x20, 0x7f, or from 0x80: most often all are fine at
 * once. */
static bool word_is_printable(uint64_t word) {
    uint64_t below_space = (word - EACH_BYTE(0x20)) & ~word;
    uint64_t without_delete = word ^ EACH_BYTE(0x7f);
    uint64_t delete = (without_delete - EACH_BYTE(0x01)) & ~without_delete;
    return ((word | below_space | delete) & EACH_BYTE(0x80)) == 0;
}

#if defined(__SSE2__)
enum { BLOCK = 64 };

/* Some bit of each byte that may not stand there: 0x20 to 0x7e become the smallest numbers that
 * there are with a sign. */
static __m128i strange(const char *ptr) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)ptr);
    return _mm_cmpgt_epi8(_mm_add_epi8(bytes, _mm_set1_epi8(0x60)),
                          _mm_set1_epi8(0x7e + 0x60 - 0x100));
}

/* A block at a time: tokens in header fields are a thousand bytes long. */
static struct slice skip_printable(struct slice s) {
    while (s.len >= BLOCK) {
        __m128i left = _mm_or_si128(strange(s.ptr), strange(s.ptr + 16));
        __m128i right = _mm_or_si128(strange(s.ptr + 32), strange(s.ptr + 48));
        if (_mm_movemask_epi8(_mm_or_si128(left, right)) != 0)
            break;
        s = slice_make(s.ptr + BLOCK, s.len - BLOCK);
    }
    return s;
}
#else
static struct slice skip_printable(struct slice s) {
    return s;
}
#endif

static bool word_is_field(const char *ptr) {
    uint64_t word;
    memcpy(&word, ptr, sizeof word);
    return word_is_printable(word) || char_all(slice_make(ptr, sizeof word), CHAR_FIELD);
}

bool char_all_field(struct slice s) {
    enum { WORD = sizeof(uint64_t) };
    if (s.len < WORD)
        return char_all(s, CHAR_FIELD);
    const char *last = s.ptr + s.len - WORD; /* has bytes of the word before */
    s = skip_printable(s);
    for (; s.len > WORD; s = slice_make(s.ptr + WORD, s.len - WORD)) {
        if (!word_is_field(s.ptr))
            return false;
    }
    return word_is_field(last);
}
