/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

bool utf8_is_valid(struct slice s);
/* Reads one code point at the front; its length in bytes, or 0 when malformed or cut short. */
size_t utf8_decode(struct slice s, uint32_t *ret_code_point);
/* Writes 1 to 4 bytes; code_point must be a scalar value. */
size_t utf8_encode(uint32_t code_point, char out[static 4]);
/* The longest prefix of at most `max` bytes that does not cut a sequence. */
struct slice utf8_truncate(struct slice s, size_t max);

/*
 * What Unicode case folding makes ASCII of, beside A to Z: in CaseFolding.txt of Unicode 14.0 all
 * code points whose whole folding is ASCII: status C (U+017F, U+212A), status F, which makes
 * several letters of one (sharp s, the ligatures), and status T, the Turkish i (with and without
 * its dot), which parsers also get that compare in upper or in lower case. Empty: it is no such
 * one.
 */
struct slice utf8_ascii_folding(uint32_t code_point);
