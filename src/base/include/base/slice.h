/*
 * A slice: bytes that somebody else owns. All strings inside the gateway are slices, passed by
 * value; they are not NUL-terminated and may hold any byte. A slice with len 0 may have any ptr,
 * NULL included.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/compiler.h"

struct slice {
    const char *ptr;
    size_t len;
};

/* A slice of a string literal. */
#define SLICE(literal) ((struct slice){.ptr = "" literal, .len = sizeof(literal) - 1})
/* The same as a constant initialiser in static tables. */
#define SLICE_INIT(literal)                                                                        \
    { .ptr = "" literal, .len = sizeof(literal) - 1 }
#define SLICE_EMPTY ((struct slice){.ptr = "", .len = 0})

/* For printf: printf("%.*s", SLICE_ARGS(s)). Escape peers' bytes before they reach a terminal or a
 * log. */
#define SLICE_ARGS(s) (int)((s).len > 4096 ? 4096 : (s).len), ((s).ptr != NULL ? (s).ptr : "")

static inline struct slice slice_make(const void *ptr, size_t len) {
    return (struct slice){.ptr = ptr, .len = len};
}

/* The bytes of a NUL-terminated string; NULL gives the empty slice. */
static inline struct slice slice_from_cstr(const char *string) {
    return slice_make(string != NULL ? string : "", string != NULL ? strlen(string) : 0);
}

static inline bool slice_is_empty(struct slice s) {
    return s.len == 0;
}

static inline bool slice_eq(struct slice a, struct slice b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool slice_same_nocase(const char *a, const char *b, size_t len);
/* Equal when ASCII letters are compared without case; all other bytes exactly. */
static inline bool slice_eq_nocase(struct slice a, struct slice b) {
    /* Two cases of a letter differ in bit 5, so most texts are told apart by their first and last
     * bytes. */
    return a.len == b.len && (a.len == 0 || (((a.ptr[0] ^ b.ptr[0]) & ~0x20) == 0 &&
                                             ((a.ptr[a.len - 1] ^ b.ptr[a.len - 1]) & ~0x20) == 0 &&
                                             slice_same_nocase(a.ptr, b.ptr, a.len)));
}
/* <0, 0, >0 as memcmp on the common part, then by length. */
int slice_cmp(struct slice a, struct slice b);
bool slice_starts_with(struct slice s, struct slice prefix);
bool slice_ends_with(struct slice s, struct slice suffix);
bool slice_starts_with_nocase(struct slice s, struct slice prefix);

/* Index of the first occurrence, or SIZE_MAX. */
size_t slice_find_byte(struct slice s, char byte);
size_t slice_find(struct slice s, struct slice needle);

/* The part [from, to); indexes past the end are cut to it, and from > to gives the empty slice. */
struct slice slice_sub(struct slice s, size_t from, size_t to);
/* Everything from `from` on. */
struct slice slice_from(struct slice s, size_t from);
/* Without leading and trailing spaces and tabs. */
struct slice slice_trim(struct slice s);

/*
 * Cuts at the first separator: *head gets what is before it and *rest what is behind. Without a
 * separator *head gets everything, *rest the empty slice, and false is returned.
 */
bool slice_cut(struct slice s, char separator, struct slice *ret_head, struct slice *ret_rest);

/*
 * Copies into a NUL-terminated array at the border of the system. Refuses with -EINVAL an embedded
 * NUL, with -ENAMETOOLONG what does not fit; `out` is untouched then.
 */
MUST_CHECK int slice_to_cstr(struct slice s, char *out, size_t out_size);
/* The same into memory of its own (mem_free). -EINVAL, -ENOMEM. */
MUST_CHECK int slice_dup_cstr(struct slice s, char **ret_string);

/* A number in decimal, at the end of `digits`. */
enum { SLICE_U64 = 20 };
struct slice slice_of_u64(uint64_t number, char digits[static SLICE_U64]);

/* Strict decimal: digits only, no sign, no space, at least one digit, no overflow; else -EINVAL or
 * -ERANGE. */
MUST_CHECK int slice_to_u64(struct slice s, uint64_t *ret_number);
