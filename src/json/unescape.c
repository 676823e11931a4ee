#include "unescape.h"

#include <errno.h>
#include <stdint.h>

#include "base/utf8.h"
#include "json/reader.h"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Four hexadecimal digits: the byte behind them, or NULL with *ret_at at the first that is none. */
static const char *read_hex4(const char *p, const char *end, uint32_t *ret_unit,
                             const char **ret_at) {
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++, p++) {
        int digit = p < end ? hex_digit(*p) : -1;
        if (digit < 0) {
            *ret_at = p;
            return NULL;
        }
        unit = unit << 4 | (uint32_t)digit;
    }
    *ret_unit = unit;
    return p;
}

static bool is_high_half(uint32_t unit) {
    return unit >= 0xd800 && unit <= 0xdbff;
}

static bool is_low_half(uint32_t unit) {
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* `p` is behind the u. RFC 8259 section 7; a half without its other half (section 8.2) is refused.
 */
static const char *read_unicode_escape(const char *p, const char *end, char out[static 4],
                                       size_t *ret_len, struct json_escape_error *ret_error) {
    const char *start = p;
    uint32_t unit = 0, low = 0;
    ret_error->reason = "an escape \\u without four hexadecimal digits";
    p = read_hex4(p, end, &unit, &ret_error->at);
    if (p == NULL)
        return NULL;
    if (is_high_half(unit) && end - p >= 2 && p[0] == '\\' && p[1] == 'u') {
        p = read_hex4(p + 2, end, &low, &ret_error->at);
        if (p == NULL)
            return NULL;
    }
    if (is_low_half(unit) || (is_high_half(unit) && !is_low_half(low))) {
        *ret_error = (struct json_escape_error){.at = start,
                                                .reason = "an escape for half of a surrogate pair",
                                                .lone_surrogate = true};
        return NULL;
    }
    if (is_high_half(unit))
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    *ret_len = utf8_encode(unit, out);
    return p;
}

const char *json_read_escape(const char *p, const char *end, char out[static 4], size_t *ret_len,
                             struct json_escape_error *ret_error) {
    /* The letter of each short escape, and what it stands for. */
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    ret_error->at = p;
    ret_error->reason = "an escape that JSON does not have";
    ret_error->lone_surrogate = false;
    if (p == end)
        return NULL;
    if (*p == 'u')
        return read_unicode_escape(p + 1, end, out, ret_len, ret_error);
    for (size_t i = 0; i < sizeof letters - 1; i++) {
        if (*p == letters[i]) {
            out[0] = meanings[i];
            *ret_len = 1;
            return p + 1;
        }
    }
    return NULL;
}

/* A string byte by byte, unescaped. */
struct cursor {
    const char *p, *end;
    bool escaped;
    char pending[4]; /* of the last escape */
    size_t n_pending, used;
};

static struct cursor cursor_make(struct slice s, bool escaped) {
    return (struct cursor){
        .p = s.ptr, .end = s.len > 0 ? s.ptr + s.len : s.ptr, .escaped = escaped};
}

/* The next byte, -1 at the end, -2 for an escape that is none. */
static int cursor_next(struct cursor *cursor) {
    if (cursor->used < cursor->n_pending)
        return (unsigned char)cursor->pending[cursor->used++];
    if (cursor->p == cursor->end)
        return -1;
    if (*cursor->p != '\\' || !cursor->escaped)
        return (unsigned char)*cursor->p++;
    struct json_escape_error error;
    const char *behind =
        json_read_escape(cursor->p + 1, cursor->end, cursor->pending, &cursor->n_pending, &error);
    if (behind == NULL)
        return -2;
    cursor->p = behind;
    cursor->used = 1;
    return (unsigned char)cursor->pending[0];
}

bool json_equal_unescaped(struct slice a, bool a_escaped, struct slice b, bool b_escaped) {
    if (!a_escaped && !b_escaped)
        return slice_eq(a, b);
    struct cursor left = cursor_make(a, a_escaped), right = cursor_make(b, b_escaped);
    for (;;) {
        int l = cursor_next(&left), r = cursor_next(&right);
        if (l != r || l == -2)
            return false;
        if (l == -1)
            return true;
    }
}

int json_unescape(struct buf *out, struct slice between_quotes) {
    size_t len_before = buf_len(out);
    const char *p = between_quotes.ptr, *end = between_quotes.len > 0 ? p + between_quotes.len : p;
    while (p < end && buf_error(out) == 0) {
        const char *backslash = memchr(p, '\\', (size_t)(end - p));
        if (backslash == NULL)
            return buf_append(out, slice_make(p, (size_t)(end - p)));
        char text[4];
        size_t len;
        struct json_escape_error error;
        const char *behind = json_read_escape(backslash + 1, end, text, &len, &error);
        if (behind == NULL) {
            buf_truncate(out, len_before);
            return -EINVAL; /* was not read with 0 */
        }
        buf_append(out, slice_make(p, (size_t)(backslash - p)));
        buf_append(out, slice_make(text, len));
        p = behind;
    }
    return buf_error(out);
}
