#include "base/slice.h"

#include <errno.h>

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

enum { WORD = sizeof(uint64_t) };

/*
 * Eight bytes at once. The two cases of a letter differ in bit 5 and in nothing else; so may bytes
 * that are no letters, which is looked at last: both sums below carry into bit 7 of a byte, the
 * first from 'a' on, the second behind 'z', and no further, as bit 7 was cleared before.
 */
static bool same_word_nocase(const char *a, const char *b) {
    const uint64_t each = 0x0101010101010101U, bit5 = each * 0x20, bit7 = each * 0x80;
    uint64_t left, right;
    memcpy(&left, a, WORD);
    memcpy(&right, b, WORD);
    uint64_t differ = left ^ right;
    if (differ == 0)
        return true;
    if ((differ & ~bit5) != 0)
        return false;
    uint64_t lowered = left | bit5, low = lowered & ~bit7;
    uint64_t is_letter = (low + each * (0x80 - 'a')) & ~(low + each * (0x7f - 'z')) & ~lowered;
    return ((differ << 2) & ~is_letter & bit7) == 0;
}

bool slice_same_nocase(const char *a, const char *b, size_t len) {
    if (len < WORD)
        return same_bytes_nocase(a, b, len);
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

size_t slice_find(struct slice s, struct slice needle) {
    if (needle.len == 0)
        return 0;
    if (s.len < needle.len)
        return SIZE_MAX;
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
