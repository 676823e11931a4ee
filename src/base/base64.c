#include "base/base64.h"

#include <errno.h>
#include <stdint.h>

/* RFC 4648, sections 4 and 5: the last two characters are the difference. */
static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Three bytes are four characters. */
static size_t encode_into(char *text, struct slice bytes, const char *alphabet) {
    const unsigned char *in = (const unsigned char *)bytes.ptr;
    char *to = text;
    size_t left = bytes.len;
    for (; left >= 3; left -= 3, in += 3, to += 4) {
        uint32_t bits = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        to[0] = alphabet[bits >> 18];
        to[1] = alphabet[bits >> 12 & 63];
        to[2] = alphabet[bits >> 6 & 63];
        to[3] = alphabet[bits & 63];
    }
    if (left != 0) {
        uint32_t bits = (uint32_t)in[0] << 8 | (left == 2 ? in[1] : 0U);
        *to++ = alphabet[bits >> 10];
        *to++ = alphabet[bits >> 4 & 63];
        if (left == 2)
            *to++ = alphabet[bits << 2 & 63];
    }
    return (size_t)(to - text);
}

static int encode(struct buf *out, struct slice bytes, const char *alphabet) {
    size_t rest = bytes.len % 3;
    char *text = buf_reserve(out, bytes.len / 3 * 4 + (rest != 0 ? rest + 1 : 0));
    if (text == NULL)
        return buf_error(out);
    buf_commit(out, encode_into(text, bytes, alphabet));
    return 0;
}

static int value_of(char c, const char *alphabet) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == alphabet[62] ? 62 : c == alphabet[63] ? 63 : -1;
}

static int decode(struct buf *out, struct slice text, const char *alphabet) {
    uint32_t bits = 0;
    unsigned n_bits = 0;
    if (text.len % 4 == 1)
        return -EINVAL;
    for (size_t i = 0; i < text.len; i++) {
        int value = value_of(text.ptr[i], alphabet);
        if (value < 0)
            return -EINVAL;
        bits = (bits << 6) | (uint32_t)value;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            buf_append_byte(out, (char)((bits >> n_bits) & 0xff));
        }
    }
    if ((bits & ((1U << n_bits) - 1)) != 0)
        return -EINVAL;
    return buf_error(out);
}

size_t base64url_write(char *text, struct slice bytes) {
    return encode_into(text, bytes, url);
}

int base64url_encode(struct buf *out, struct slice bytes) {
    return encode(out, bytes, url);
}

int base64url_decode(struct buf *out, struct slice text) {
    return decode(out, text, url);
}

int base64_encode(struct buf *out, struct slice bytes) {
    encode(out, bytes, standard);
    for (size_t n = bytes.len; n % 3 != 0; n++)
        buf_append_byte(out, '=');
    return buf_error(out);
}

int base64_decode(struct buf *out, struct slice text) {
    if (text.len % 4 != 0)
        return -EINVAL;
    for (int i = 0; i < 2 && slice_ends_with(text, SLICE("=")); i++)
        text.len--;
    return decode(out, text, standard);
}
