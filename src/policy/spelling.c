/*
 * Texts as other programs could read them. The gateway and a server have to agree on what an
 * argument is called and what its value is; where a server may be more lenient than JSON, a rule
 * has to hold for the lenient reading, too.
 *
 * Names: parsers that ignore case. What folds into ASCII is folded here (utf8_ascii_folding()); the
 * rest is for PCRE2, which knows the simple foldings.
 *
 * Numbers: servers that take strings for numbers. JavaScript and Python trim the blanks of Unicode,
 * and read 0x, 0o, 0b and Infinity; Python the digits of every script, and underscores between
 * digits; Java a d or f at the end. C reads to the first NUL.
 */
#include <stdlib.h>

#include "base/utf8.h"
#include "private.h"

/* Zero of each script (general category Nd of Unicode 14.0); nine more follow each. */
static const uint32_t zeros[] = {
    0x0660,  0x06f0,  0x07c0,  0x0966,  0x09e6,  0x0a66,  0x0ae6,  0x0b66,  0x0be6,  0x0c66,
    0x0ce6,  0x0d66,  0x0de6,  0x0e50,  0x0ed0,  0x0f20,  0x1040,  0x1090,  0x17e0,  0x1810,
    0x1946,  0x19d0,  0x1a80,  0x1a90,  0x1b50,  0x1bb0,  0x1c40,  0x1c50,  0xa620,  0xa8d0,
    0xa900,  0xa9d0,  0xa9f0,  0xaa50,  0xabf0,  0xff10,  0x104a0, 0x10d30, 0x11066, 0x110f0,
    0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950,
    0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec,
    0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
};

bool policy_is_ascii(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        if (((unsigned char)text.ptr[i] & 0x80) != 0)
            return false;
    }
    return true;
}

int policy_fold(struct buf *out, struct slice text) {
    while (text.len != 0) {
        uint32_t code_point = 0;
        size_t len = utf8_decode(text, &code_point);
        if (len == 0) /* no UTF-8: it stays as it is */
            len = 1;
        struct slice folded = utf8_ascii_folding(code_point);
        buf_append(out, folded.len != 0 ? folded : slice_sub(text, 0, len));
        text = slice_from(text, len);
    }
    return buf_error(out);
}

/* White_Space of Unicode, what Python adds, and the byte order mark, which JavaScript adds. */
static bool is_blank(uint32_t c) {
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000 || c == 0xfeff;
}

/* The ASCII digit for a digit of any script; else the character itself. */
static uint32_t plain_digit(uint32_t c) {
    for (size_t i = 0; c >= 0x80 && i < ARRAY_LEN(zeros); i++) {
        if (c >= zeros[i] && c < zeros[i] + 10)
            return '0' + (c - zeros[i]);
    }
    return c;
}

/*
 * Copies what may be a number: without blanks around it, all digits in ASCII, no underscores. False
 * at the first character that no number has, which ends most texts at once.
 */
static bool copy_number(struct buf *scratch, struct slice text) {
    bool is_begun = false, is_over = false;
    while (text.len != 0) {
        uint32_t c = 0;
        size_t len = utf8_decode(text, &c);
        if (len == 0)
            return false;
        text = slice_from(text, len);
        if (is_blank(c)) {
            is_over = is_begun;
            continue;
        }
        c = plain_digit(c);
        bool is_part = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '+' || c == '-' || c == '.' || c == '_';
        if (!is_part || is_over)
            return false;
        /* digits, a sign, a point, inf, nan, true, false */
        if (!is_begun && c >= 'A' && strchr("iInNtTfF", (int)c) == NULL)
            return false;
        is_begun = true;
        if (c != '_')
            buf_append_byte(scratch, (char)c);
    }
    return is_begun && buf_append_byte(scratch, '\0') == 0;
}

/* 0o17, 0b101: what strtod() does not know. */
static bool read_other_base(struct slice text, double *ret_number) {
    bool is_negative = text.len != 0 && text.ptr[0] == '-';
    if (text.len != 0 && (text.ptr[0] == '-' || text.ptr[0] == '+'))
        text = slice_from(text, 1);
    if (text.len < 3 || text.ptr[0] != '0')
        return false;
    unsigned base = (text.ptr[1] | 0x20) == 'o' ? 8 : (text.ptr[1] | 0x20) == 'b' ? 2 : 0;
    double number = 0;
    for (size_t i = 2; i < text.len; i++) {
        unsigned digit = (unsigned)text.ptr[i] - '0';
        if (digit >= base)
            return false;
        number = number * base + digit;
    }
    *ret_number = is_negative ? -number : number;
    return true;
}

bool policy_reads_as_number(struct buf *scratch, struct slice text, double *ret_number) {
    struct slice head, rest;
    buf_reset(scratch, KIB(4));
    (void)slice_cut(text, '\0', &head, &rest);
    if (!copy_number(scratch, head))
        return false;
    struct slice copy = slice_sub(buf_slice(scratch), 0, buf_len(scratch) - 1);
    if (slice_eq_nocase(copy, SLICE("true")) || slice_eq_nocase(copy, SLICE("false"))) {
        *ret_number = copy.len == 4;
        return true;
    }
    char *end = NULL;
    double number = strtod(copy.ptr, &end);
    size_t left = copy.len - (size_t)(end - copy.ptr);
    bool has_suffix = left == 1 && left != copy.len && strchr("dDfF", *end) != NULL;
    if (end != copy.ptr && (left == 0 || has_suffix)) {
        *ret_number = number;
        return true;
    }
    return read_other_base(copy, ret_number);
}
