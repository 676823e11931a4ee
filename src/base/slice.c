#include "base/slice.h"

#include <errno.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "base/checked.h"
#include "base/mem.h"

static unsigned char lower(char c) {
    unsigned char byte = (unsigned char)c;
    return byte >= 'A' && byte <= 'Z' ? (unsigned char)(byte + ('a' - 'A')) : byte;
}

static bool same_bytes_nocase(const char *a, const char *b, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (a[i] != b[i] && lower(a[i]) != lower(b[i]))
            return false;
    }
    return true;
}

enum { WORD = sizeof(uint64_t), HALF = sizeof(uint32_t) };

/*
 * Eight bytes at once. The two cases of a letter differ in bit 5 and in nothing else; so may bytes
 * that are no letters, which is looked at last: both sums below carry into bit 7 of a byte, the
 * first from 'a' on, the second behind 'z', and no further, as bit 7 was cleared before.
 */
static inline bool same_words_nocase(uint64_t left, uint64_t right) {
    const uint64_t each = 0x0101010101010101U, bit5 = each * 0x20, bit7 = each * 0x80;
    uint64_t differ = left ^ right;
    if (differ == 0)
        return true;
    if ((differ & ~bit5) != 0)
        return false;
    uint64_t lowered = left | bit5, low = lowered & ~bit7;
    uint64_t is_letter = (low + each * (0x80 - 'a')) & ~(low + each * (0x7f - 'z')) & ~lowered;
    return ((differ << 2) & ~is_letter & bit7) == 0;
}

static inline bool same_word_nocase(const char *a, const char *b) {
    uint64_t left, right;
    memcpy(&left, a, WORD);
    memcpy(&right, b, WORD);
    return same_words_nocase(left, right);
}

/* The first four bytes and the last four, of four to eight. */
static inline uint64_t two_halves(const char *text, size_t len) {
    uint32_t first, last;
    memcpy(&first, text, HALF);
    memcpy(&last, text + len - HALF, HALF);
    return (uint64_t)last << 32 | first;
}

bool slice_same_nocase(const char *a, const char *b, size_t len) {
    if (len < HALF)
        return same_bytes_nocase(a, b, len);
    if (len < WORD)
        return same_words_nocase(two_halves(a, len), two_halves(b, len));
    for (size_t i = 0; i + WORD < len; i += WORD) {
        if (!same_word_nocase(a + i, b + i))
            return false;
    }
    return same_word_nocase(a + len - WORD, b + len - WORD);
}

int slice_cmp(struct slice a, struct slice b) {
    size_t common = size_min(a.len, b.len);
    int order = common != 0 ? memcmp(a.ptr, b.ptr, common) : 0;
    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

bool slice_starts_with(struct slice s, struct slice prefix) {
    return s.len >= prefix.len && slice_eq(slice_make(s.ptr, prefix.len), prefix);
}

bool slice_ends_with(struct slice s, struct slice suffix) {
    return s.len >= suffix.len && slice_eq(slice_from(s, s.len - suffix.len), suffix);
}

bool slice_starts_with_nocase(struct slice s, struct slice prefix) {
    return s.len >= prefix.len && slice_eq_nocase(slice_make(s.ptr, prefix.len), prefix);
}

size_t slice_find_byte(struct slice s, char byte) {
    const char *found = s.len != 0 ? memchr(s.ptr, byte, s.len) : NULL;
    return found != NULL ? (size_t)(found - s.ptr) : SIZE_MAX;
}

#if defined(__SSE2__)
enum { BLOCK = 16, SHORT_NEEDLE = 32, SHORT_TEXT = 2048 };

static inline __m128i load(const char *ptr) {
    return _mm_loadu_si128((const __m128i *)(const void *)ptr);
}

/* Where in a block of places the first and the last byte of the needle stand, a bit each. */
static inline unsigned candidates(const char *at, __m128i first, __m128i last, size_t distance) {
    __m128i begins = _mm_cmpeq_epi8(load(at), first);
    __m128i ends = _mm_cmpeq_epi8(load(at + distance), last);
    return (unsigned)_mm_movemask_epi8(_mm_and_si128(begins, ends));
}

/*
 * memmem() first makes a table, which for a short text costs more than the search. In a long one it
 * is the faster, and never takes the needle's length times that of the text.
 */
static size_t find_short(struct slice s, struct slice needle) {
    const __m128i first = _mm_set1_epi8(needle.ptr[0]),
                  last = _mm_set1_epi8(needle.ptr[needle.len - 1]);
    size_t n_places = s.len - needle.len + 1, distance = needle.len - 1;
    for (size_t i = 0; i < n_places; i += BLOCK) {
        if (n_places - i < BLOCK) /* the last block has places of the one before */
            i = n_places - BLOCK;
        unsigned mask = candidates(s.ptr + i, first, last, distance);
        for (; mask != 0; mask &= mask - 1) {
            size_t at = i + TRAILING_ZEROS(mask);
            if (memcmp(s.ptr + at, needle.ptr, needle.len) == 0)
                return at;
        }
    }
    return SIZE_MAX;
}

static bool has_blocks(struct slice s, struct slice needle) {
    return needle.len <= SHORT_NEEDLE && s.len <= SHORT_TEXT && s.len - needle.len + 1 >= BLOCK;
}
#else
static size_t find_short(struct slice s, struct slice needle) {
    (void)s;
    (void)needle;
    return SIZE_MAX;
}

static bool has_blocks(struct slice s, struct slice needle) {
    (void)s;
    (void)needle;
    return false;
}
#endif

size_t slice_find(struct slice s, struct slice needle) {
    if (needle.len == 0)
        return 0;
    if (s.len < needle.len)
        return SIZE_MAX;
    if (has_blocks(s, needle))
        return find_short(s, needle);
    const char *found = memmem(s.ptr, s.len, needle.ptr, needle.len);
    return found != NULL ? (size_t)(found - s.ptr) : SIZE_MAX;
}

struct slice slice_sub(struct slice s, size_t from, size_t to) {
    to = size_min(to, s.len);
    if (from >= to)
        return SLICE_EMPTY;
    return slice_make(s.ptr + from, to - from);
}

struct slice slice_from(struct slice s, size_t from) {
    return slice_sub(s, from, s.len);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice s) {
    size_t from = 0, to = s.len;
    while (from < to && is_blank(s.ptr[from]))
        from++;
    while (to > from && is_blank(s.ptr[to - 1]))
        to--;
    return slice_sub(s, from, to);
}

bool slice_cut(struct slice s, char separator, struct slice *ret_head, struct slice *ret_rest) {
    size_t at = slice_find_byte(s, separator);
    bool found = at != SIZE_MAX;
    *ret_head = found ? slice_sub(s, 0, at) : s;
    *ret_rest = found ? slice_from(s, at + 1) : SLICE_EMPTY;
    return found;
}

int slice_to_cstr(struct slice s, char *out, size_t out_size) {
    if (slice_find_byte(s, '\0') != SIZE_MAX)
        return -EINVAL;
    if (s.len >= out_size)
        return -ENAMETOOLONG;
    if (s.len != 0)
        memcpy(out, s.ptr, s.len);
    out[s.len] = '\0';
    return 0;
}

int slice_dup_cstr(struct slice s, char **ret_string) {
    size_t size;
    if (size_add_overflows(s.len, 1, &size))
        return -ENOMEM;
    char *copy = mem_alloc(size);
    if (copy == NULL)
        return -ENOMEM;
    int error = slice_to_cstr(s, copy, size);
    if (error != 0) {
        mem_free(copy);
        return error;
    }
    *ret_string = copy;
    return 0;
}

struct slice slice_of_u64(uint64_t number, char digits[static SLICE_U64]) {
    size_t at = SLICE_U64;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return slice_make(digits + at, SLICE_U64 - at);
}

int slice_to_u64(struct slice s, uint64_t *ret_number) {
    uint64_t number = 0;
    if (s.len == 0)
        return -EINVAL;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return -EINVAL;
        if (u64_mul_overflows(number, 10, &number) ||
            u64_add_overflows(number, (uint64_t)(s.ptr[i] - '0'), &number))
            return -ERANGE;
    }
    *ret_number = number;
    return 0;
}
