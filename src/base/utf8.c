#include "base/utf8.h"

#include "base/compiler.h"

static bool is_continuation(unsigned char byte) {
    return (byte & 0xc0) == 0x80;
}

/* Length by the first byte, and the least code point that may be written so (RFC 3629 section 4).
 */
static size_t sequence_length(unsigned char first, uint32_t *ret_least) {
    if (first < 0x80) {
        *ret_least = 0;
        return 1;
    }
    if (first >= 0xc2 && first <= 0xdf) {
        *ret_least = 0x80;
        return 2;
    }
    if ((first & 0xf0) == 0xe0) {
        *ret_least = 0x800;
        return 3;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        *ret_least = 0x10000;
        return 4;
    }
    return 0;
}

size_t utf8_decode(struct slice s, uint32_t *ret_code_point) {
    const unsigned char *bytes = (const unsigned char *)s.ptr;
    uint32_t least = 0;
    size_t len = s.len != 0 ? sequence_length(bytes[0], &least) : 0;
    if (len == 0 || len > s.len)
        return 0;
    static const unsigned char first_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t code_point = bytes[0] & first_bits[len];
    for (size_t i = 1; i < len; i++) {
        if (!is_continuation(bytes[i]))
            return 0;
        code_point = (code_point << 6) | (bytes[i] & 0x3f);
    }
    if (code_point < least || code_point > 0x10ffff ||
        (code_point >= 0xd800 && code_point <= 0xdfff))
        return 0;
    *ret_code_point = code_point;
    return len;
}

bool utf8_is_valid(struct slice s) {
    uint32_t code_point;
    while (s.len != 0) {
        size_t len = utf8_decode(s, &code_point);
        if (len == 0)
            return false;
        s = slice_from(s, len);
    }
    return true;
}

size_t utf8_encode(uint32_t code_point, char out[static 4]) {
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xc0 | (code_point >> 6));
        out[1] = (char)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point < 0x10000) {
        out[0] = (char)(0xe0 | (code_point >> 12));
        out[1] = (char)(0x80 | ((code_point >> 6) & 0x3f));
        out[2] = (char)(0x80 | (code_point & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | (code_point >> 18));
    out[1] = (char)(0x80 | ((code_point >> 12) & 0x3f));
    out[2] = (char)(0x80 | ((code_point >> 6) & 0x3f));
    out[3] = (char)(0x80 | (code_point & 0x3f));
    return 4;
}

struct slice utf8_truncate(struct slice s, size_t max) {
    if (s.len <= max)
        return s;
    while (max != 0 && is_continuation((unsigned char)s.ptr[max]))
        max--;
    return slice_make(s.ptr, max);
}

static const struct {
    uint32_t code_point;
    struct slice text;
} foldings[] = {
    {0x00df, SLICE_INIT("ss")},  {0x0130, SLICE_INIT("i")},   {0x0131, SLICE_INIT("i")},
    {0x017f, SLICE_INIT("s")},   {0x1e9e, SLICE_INIT("ss")},  {0x212a, SLICE_INIT("k")},
    {0xfb00, SLICE_INIT("ff")},  {0xfb01, SLICE_INIT("fi")},  {0xfb02, SLICE_INIT("fl")},
    {0xfb03, SLICE_INIT("ffi")}, {0xfb04, SLICE_INIT("ffl")}, {0xfb05, SLICE_INIT("st")},
    {0xfb06, SLICE_INIT("st")},
};

struct slice utf8_ascii_folding(uint32_t code_point) {
    for (size_t i = 0; code_point > 0x7f && i < ARRAY_LEN(foldings); i++) {
        if (foldings[i].code_point == code_point)
            return foldings[i].text;
    }
    return SLICE_EMPTY;
}
