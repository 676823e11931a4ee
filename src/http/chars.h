/*
 * Which byte may stand where: one table, a bit for each class. Private to the module.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum char_class {
    CHAR_TOKEN = 0x01,      /* tchar, RFC 9110 section 5.6.2 */
    CHAR_FIELD = 0x02,      /* field values: VCHAR, SP, HTAB; obs-text is refused */
    CHAR_PATH = 0x04,       /* pchar, '/' and the '%' of a triple, RFC 3986 section 3.3 */
    CHAR_QUERY = 0x08,      /* CHAR_PATH and '?', section 3.4; fragments too */
    CHAR_USERINFO = 0x10,   /* section 3.2.1, with the '%' of a triple */
    CHAR_HEX = 0x20,        /* hexadecimal digits */
    CHAR_UNRESERVED = 0x40, /* section 2.3 */
    CHAR_LABEL = 0x80,      /* letters, digits, '-' and '_' of a host name */
};

extern const uint8_t http_char_table[256];

static inline bool char_is(char c, enum char_class class) {
    return (http_char_table[(unsigned char)c] & class) != 0;
}

static inline bool char_is_digit(char c) {
    return c >= '0' && c <= '9';
}

static inline bool char_is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The value of a digit of CHAR_HEX. */
static inline unsigned char_hex_value(char c) {
    return char_is_digit(c) ? (unsigned)(c - '0') : ((unsigned char)c | 0x20u) - 'a' + 10u;
}

/* How many bytes at the front are of the class. */
static inline size_t char_span(struct slice s, enum char_class class) {
    size_t n = 0;
    while (n < s.len && char_is(s.ptr[n], class))
        n++;
    return n;
}

static inline bool char_all(struct slice s, enum char_class class) {
    return char_span(s, class) == s.len;
}

/* char_all(s, CHAR_FIELD), many bytes at a time. */
bool char_all_field(struct slice s);
