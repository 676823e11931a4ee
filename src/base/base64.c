#include "base/base64.h"

#include <errno.h>
#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

int base64url_encode(struct buf *out, struct slice bytes) {
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

static int value_of(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

int base64url_decode(struct buf *out, struct slice text) {
    uint32_t bits = 0;
    unsigned n_bits = 0;
    if (text.len % 4 == 1)
        return -EINVAL;
    for (size_t i = 0; i < text.len; i++) {
        int value = value_of(text.ptr[i]);
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
