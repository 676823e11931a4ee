/* Strings as text: what is written between two quotes, one unescaped character after the other. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/slice.h"

/*
 * Reads one escape; `p` is behind its backslash. Both halves of a surrogate pair are one escape.
 * Returns the byte behind it and writes 1 to 4 bytes of UTF-8, or returns NULL with *ret_offending
 * at the byte that is wrong.
 */
struct json_escape_error {
    const char *at;
    const char *reason;
    bool lone_surrogate;
};
MUST_CHECK const char *json_read_escape(const char *p, const char *end, char out[static 4],
                                        size_t *ret_len, struct json_escape_error *ret_error);

/* Whether two strings are equal after unescaping. A string that holds no backslash may be any text.
 */
bool json_equal_unescaped(struct slice a, bool a_escaped, struct slice b, bool b_escaped);
