/*
 * Finding the end of what needs no look at each byte: plain text in strings, white space between
 * tokens. Sixteen bytes at a time with SSE2, eight in a register elsewhere. Nothing at or behind
 * `end` is ever read.
 *
 * JSON_PORTABLE_SCAN chooses the form without SSE2; the unit tests run with both.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/compiler.h"

#if defined(__SSE2__) && !defined(JSON_PORTABLE_SCAN)
#define JSON_SCAN_SSE2 1
#include <emmintrin.h>
#else
#define JSON_SCAN_SSE2 0
#endif

static inline uint64_t json_load64(const char *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* Plain: stands in a string as it is and is ASCII. Not plain: controls, quote, backslash, bytes
 * from 0x80. */
static inline bool json_is_plain(char byte) {
    unsigned char c = (unsigned char)byte;
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static inline bool json_is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

#if JSON_SCAN_SSE2

/* The first byte that is not plain, or `end`. */
static inline const char *json_skip_plain(const char *p, const char *end) {
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'),
                  space = _mm_set1_epi8(' ');
    while (end - p >= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        /* A signed comparison: bytes from 0x80 are negative, so they are below the space too. */
        __m128i special =
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, backslash)),
                         _mm_cmplt_epi8(x, space));
        unsigned mask = (unsigned)_mm_movemask_epi8(special);
        if (mask != 0)
            return p + TRAILING_ZEROS(mask);
        p += 16;
    }
    while (p < end && json_is_plain(*p))
        p++;
    return p;
}

/* Indentation: the first byte that is not white space, or `end`. */
static inline const char *json_skip_spaces(const char *p, const char *end) {
    while (end - p >= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i white = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8(' ')),
                                                  _mm_cmpeq_epi8(x, _mm_set1_epi8('\n'))),
                                     _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('\r')),
                                                  _mm_cmpeq_epi8(x, _mm_set1_epi8('\t'))));
        unsigned mask = (unsigned)_mm_movemask_epi8(white) ^ 0xffffu;
        if (mask != 0)
            return p + TRAILING_ZEROS(mask);
        p += 16;
    }
    while (p < end && json_is_space(*p))
        p++;
    return p;
}

#else

#define JSON_EACH_BYTE(b) (UINT64_C(0x0101010101010101) * (b))

/* True when one of the eight bytes is zero; which one, the bytes themselves tell. */
static inline bool json_has_zero(uint64_t x) {
    return ((x - JSON_EACH_BYTE(0x01)) & ~x & JSON_EACH_BYTE(0x80)) != 0;
}

static inline const char *json_skip_plain(const char *p, const char *end) {
    while (end - p >= 8) {
        uint64_t x = json_load64(p);
        /* With no byte from 0x80 there is no borrow between bytes that could hide one below 0x20.
         */
        if ((x & JSON_EACH_BYTE(0x80)) != 0 ||
            ((x - JSON_EACH_BYTE(0x20)) & JSON_EACH_BYTE(0x80)) != 0 ||
            json_has_zero(x ^ JSON_EACH_BYTE('"')) || json_has_zero(x ^ JSON_EACH_BYTE('\\')))
            break;
        p += 8;
    }
    while (p < end && json_is_plain(*p))
        p++;
    return p;
}

static inline const char *json_skip_spaces(const char *p, const char *end) {
    while (end - p >= 8 && json_load64(p) == JSON_EACH_BYTE(' '))
        p += 8;
    while (p < end && json_is_space(*p))
        p++;
    return p;
}

#endif

/* Most documents are compact: none is the common answer. */
static inline const char *json_skip_space(const char *p, const char *end) {
    return LIKELY(p < end && (unsigned char)*p > ' ') ? p : json_skip_spaces(p, end);
}
