#include "base/base64.h"

#include <errno.h>
#include <stdint.h>

/* RFC 4648, sections 4 and 5: the last two characters are the difference. */
static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int encode(struct buf *out, struct slice bytes, const char *alphabet) {
    uint32_t bits = 0;
    unsigned n_bits = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        bits = (bits << 8) | (unsigned char)bytes.ptr[i];
        n_bits += 8;
        while (n_bits >= 6) {
            n_bits -= 6;
            buf_append_byte(out, alphabet[(bits >> n_bits) & 63]);
        }
    }
    if (n_bits != 0)
        buf_append_byte(out, alphabet[(bits << (6 - n_bits)) & 63]);
    return buf_error(out);
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
