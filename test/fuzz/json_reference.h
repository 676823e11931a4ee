/*
 * A second opinion on whether a text is JSON: the grammar of RFC 8259 written down as plainly as
 * possible, a byte at a time, recursive, without a thought for speed. It does not know about
 * duplicate keys.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/compiler.h"
#include "base/slice.h"

struct reference {
    const char *p, *end;
    unsigned depth, max_depth;
};

static bool reference_value(struct reference *r);

/* The next byte when it is one of `set`, which is then consumed. */
static bool reference_take(struct reference *r, const char *set) {
    if (r->p == r->end || *r->p == '\0' || strchr(set, *r->p) == NULL)
        return false;
    r->p++;
    return true;
}

static void reference_space(struct reference *r) {
    while (reference_take(r, " \t\r\n"))
        ;
}

static bool reference_digits(struct reference *r) {
    bool any = false;
    while (reference_take(r, "0123456789"))
        any = true;
    return any;
}

static bool reference_number(struct reference *r) {
    reference_take(r, "-");
    if (!reference_take(r, "0") && !reference_digits(r))
        return false;
    if (reference_take(r, ".") && !reference_digits(r))
        return false;
    if (reference_take(r, "eE")) {
        reference_take(r, "+-");
        return reference_digits(r);
    }
    return true;
}

/* Table 3-7 of the Unicode standard, row by row. */
static bool reference_utf8(struct reference *r) {
    static const struct {
        unsigned char first, last, second_first, second_last;
        int more;
    } rows[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 1}, {0xe0, 0xe0, 0xa0, 0xbf, 2}, {0xe1, 0xec, 0x80, 0xbf, 2},
        {0xed, 0xed, 0x80, 0x9f, 2}, {0xee, 0xef, 0x80, 0xbf, 2}, {0xf0, 0xf0, 0x90, 0xbf, 3},
        {0xf1, 0xf3, 0x80, 0xbf, 3}, {0xf4, 0xf4, 0x80, 0x8f, 3},
    };
    unsigned char first = (unsigned char)*r->p++;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (first < rows[i].first || first > rows[i].last)
            continue;
        for (int n = 0; n < rows[i].more; n++, r->p++) {
            unsigned char c = r->p < r->end ? (unsigned char)*r->p : 0;
            if (c < (n == 0 ? rows[i].second_first : 0x80) ||
                c > (n == 0 ? rows[i].second_last : 0xbf))
                return false;
        }
        return true;
    }
    return false;
}

/* Behind \u: the unit, or -1. */
static long reference_hex4(struct reference *r) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    long unit = 0;
    for (int i = 0; i < 4; i++) {
        const char *at = r->p < r->end && *r->p != '\0' ? strchr(digits, *r->p) : NULL;
        if (at == NULL)
            return -1;
        unit = unit * 16 + (at - digits) % 16;
        r->p++;
    }
    return unit;
}

static bool reference_escape(struct reference *r) {
    if (reference_take(r, "\"\\/bfnrt"))
        return true;
    if (!reference_take(r, "u"))
        return false;
    long unit = reference_hex4(r);
    if (unit < 0xd800 || unit > 0xdfff)
        return unit >= 0;
    if (unit > 0xdbff || !reference_take(r, "\\") || !reference_take(r, "u"))
        return false;
    unit = reference_hex4(r);
    return unit >= 0xdc00 && unit <= 0xdfff;
}

static bool reference_character(struct reference *r) {
    unsigned char c = (unsigned char)*r->p;
    if (c >= 0x80)
        return reference_utf8(r);
    r->p++;
    return c == '\\' ? reference_escape(r) : c >= 0x20;
}

static bool reference_string(struct reference *r) {
    if (!reference_take(r, "\""))
        return false;
    while (r->p < r->end) {
        if (reference_take(r, "\""))
            return true;
        if (!reference_character(r))
            return false;
    }
    return false;
}

/* `close` is the bracket at its end; `keys`: it is an object. */
static bool reference_container(struct reference *r, const char *close, bool keys) {
    r->p++;
    if (++r->depth > r->max_depth)
        return false;
    reference_space(r);
    if (!reference_take(r, close)) {
        do {
            reference_space(r);
            if (keys && !reference_string(r))
                return false;
            reference_space(r);
            if (keys && !reference_take(r, ":"))
                return false;
            if (!reference_value(r))
                return false;
        } while (reference_take(r, ","));
        if (!reference_take(r, close))
            return false;
    }
    r->depth--;
    return true;
}

static bool reference_literal(struct reference *r, struct slice literal) {
    if (!slice_starts_with(slice_make(r->p, (size_t)(r->end - r->p)), literal))
        return false;
    r->p += literal.len;
    return true;
}

/* With the white space around it. */
static bool reference_value(struct reference *r) {
    reference_space(r);
    bool fine = false;
    char c = r->p < r->end ? *r->p : '\0';
    if (c == '"')
        fine = reference_string(r);
    else if (c == '{')
        fine = reference_container(r, "}", true);
    else if (c == '[')
        fine = reference_container(r, "]", false);
    else if (c == 't')
        fine = reference_literal(r, SLICE("true"));
    else if (c == 'f')
        fine = reference_literal(r, SLICE("false"));
    else if (c == 'n')
        fine = reference_literal(r, SLICE("null"));
    else
        fine = reference_number(r);
    reference_space(r);
    return fine;
}

static bool reference_accepts(struct slice document, unsigned max_depth) {
    const char *start = document.len > 0 ? document.ptr : "";
    struct reference r = {.p = start, .end = start + document.len, .max_depth = max_depth};
    return reference_value(&r) && r.p == r.end;
}
