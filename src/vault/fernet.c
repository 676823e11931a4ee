/*
 * Fernet, as its specification has it (github.com/fernet/spec): a key is 16 bytes to sign and 16 to
 * encrypt with; a token is the base64url text, with padding, of
 *
 *     0x80 | seconds since 1970, 64 bits | IV, 16 bytes | AES-128-CBC, PKCS #7 | HMAC-SHA256
 *
 * The signature is of all before it, and is looked at before anything is decrypted: whoever changes
 * a token learns nothing from what is wrong with its padding. What is wrong with a token has one
 * answer. A token has no end of life here: what is at rest does not expire.
 *
 * The bytes of a key go through no table and no branch; those of a token are no secret.
 */
#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/base64.h"
#include "base/checked.h"
#include "base/random.h"
#include "vault/vault.h"

enum {
    VERSION = 0x80,
    HALF = FERNET_KEY / 2,
    BLOCK = 16,
    AT_TIME = 1,
    AT_IV = AT_TIME + 8,
    AT_TEXT = AT_IV + BLOCK,
    TAG = 32,
    TOKEN_MIN = AT_TEXT + BLOCK + TAG,
    KEY_TEXT = 43, /* without padding */
    PLAIN_MAX = 64 * 1024 * 1024,
};

/* All bits when low <= c <= high, or none. */
static uint32_t in_range(uint32_t c, uint32_t low, uint32_t high) {
    return 0U - (((low - 1 - c) & (c - high - 1)) >> 31);
}

int fernet_key_read(struct slice text, unsigned char ret_key[FERNET_KEY]) {
    unsigned char key[FERNET_KEY + 1];
    uint32_t bits = 0, is_wrong = 0;
    unsigned n_bits = 0;
    size_t n = 0;
    if (text.len == KEY_TEXT + 1 && text.ptr[KEY_TEXT] == '=')
        text.len--;
    if (text.len != KEY_TEXT)
        return -EINVAL;
    for (size_t i = 0; i < KEY_TEXT; i++) {
        uint32_t c = (unsigned char)text.ptr[i];
        uint32_t upper = in_range(c, 'A', 'Z'), lower = in_range(c, 'a', 'z');
        uint32_t digit = in_range(c, '0', '9');
        uint32_t minus = in_range(c, '-', '-'), line = in_range(c, '_', '_');
        is_wrong |= ~(upper | lower | digit | minus | line);
        bits = bits << 6 | (upper & (c - 'A')) | (lower & (c - 'a' + 26)) |
               (digit & (c - '0' + 52)) | (minus & 62) | (line & 63);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            key[n++] = (unsigned char)(bits >> n_bits);
        }
    }
    is_wrong |= bits & ((1U << n_bits) - 1); /* two that belong to no byte */
    if (is_wrong == 0)
        memcpy(ret_key, key, FERNET_KEY);
    OPENSSL_cleanse(key, sizeof key);
    OPENSSL_cleanse(&bits, sizeof bits);
    return is_wrong == 0 ? 0 : -EINVAL;
}

static int sign(const unsigned char *key, struct slice bytes, unsigned char tag[TAG]) {
    unsigned len = TAG;
    const unsigned char *in = (const unsigned char *)bytes.ptr;
    return HMAC(EVP_sha256(), key, HALF, in, bytes.len, tag, &len) != NULL ? 0 : -ENOMEM;
}

static void free_cipher(EVP_CIPHER_CTX **context) {
    EVP_CIPHER_CTX_free(*context); /* wipes it */
}

/* Into room for text.len + BLOCK bytes. 0; 1: its padding is wrong; -ENOMEM. */
static int crypt(bool encrypts, const unsigned char *key, const unsigned char *iv,
                 struct slice text, char *out, size_t *ret_len) {
    CLEANUP(free_cipher) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    unsigned char *to = (unsigned char *)out;
    int first = 0, last = 0;
    if (context == NULL ||
        EVP_CipherInit_ex(context, EVP_aes_128_cbc(), NULL, key + HALF, iv, encrypts) != 1 ||
        EVP_CipherUpdate(context, to, &first, (const unsigned char *)text.ptr, (int)text.len) != 1)
        return -ENOMEM;
    if (EVP_CipherFinal_ex(context, to + first, &last) != 1)
        return encrypts ? -ENOMEM : 1;
    *ret_len = (size_t)first + (size_t)last;
    return 0;
}

static int write_token(struct buf *out, struct slice raw) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(raw.len / 3 * 4 + 4);
    int error = base64url_encode(&text, raw);
    for (size_t n = raw.len; n % 3 != 0; n++)
        buf_append_byte(&text, '=');
    if (error == 0)
        error = buf_error(&text);
    return error == 0 ? buf_append(out, buf_slice(&text)) : error;
}

int fernet_seal(const unsigned char key[FERNET_KEY], uint64_t now_s, const unsigned char *iv,
                struct slice plain, struct buf *out) {
    unsigned char head[AT_TEXT] = {VERSION};
    unsigned char tag[TAG];
    size_t len = 0;
    if (plain.len > PLAIN_MAX)
        return -E2BIG;
    struct buf raw CLEANUP(buf_deinit) = BUF_INIT(TOKEN_MIN + plain.len + BLOCK);
    for (unsigned i = 0; i < 8; i++)
        head[AT_TIME + i] = (unsigned char)(now_s >> (56 - 8 * i));
    if (iv != NULL)
        memcpy(head + AT_IV, iv, BLOCK);
    else
        random_bytes(head + AT_IV, BLOCK);
    buf_append(&raw, slice_make(head, sizeof head));
    char *room = buf_reserve(&raw, plain.len + BLOCK + TAG);
    int error = room == NULL ? buf_error(&raw) : crypt(true, key, head + AT_IV, plain, room, &len);
    if (error != 0)
        return error;
    buf_commit(&raw, len);
    error = sign(key, buf_slice(&raw), tag);
    if (error == 0)
        error = buf_append(&raw, slice_make(tag, sizeof tag));
    return error == 0 ? write_token(out, buf_slice(&raw)) : error;
}

/* The bytes of a token that looks like one. 0, FERNET_E_TOKEN, -ENOMEM. */
static int read_token(struct slice token, struct buf *raw) {
    if (token.len % 4 != 0 || token.len > PLAIN_MAX * (size_t)2)
        return FERNET_E_TOKEN;
    for (int i = 0; i < 2 && slice_ends_with(token, SLICE("=")); i++)
        token.len--;
    buf_init(raw, token.len);
    if (buf_reserve(raw, token.len) == NULL)
        return buf_error(raw);
    int error = base64url_decode(raw, token);
    if (error != 0)
        return error == -EINVAL ? FERNET_E_TOKEN : error;
    struct slice bytes = buf_slice(raw);
    bool is_fine = bytes.len >= TOKEN_MIN && (bytes.len - TOKEN_MIN) % BLOCK == 0 &&
                   (unsigned char)bytes.ptr[0] == VERSION;
    return is_fine ? 0 : FERNET_E_TOKEN;
}

int fernet_open(const unsigned char key[FERNET_KEY], struct slice token, uint64_t *ret_time_s,
                struct buf *out) {
    struct buf raw CLEANUP(buf_deinit) = BUF_INIT(0);
    unsigned char tag[TAG];
    uint64_t time_s = 0;
    int error = read_token(token, &raw);
    if (error != 0)
        return error;
    struct slice all = buf_slice(&raw);
    struct slice signed_part = slice_sub(all, 0, all.len - TAG);
    error = sign(key, signed_part, tag);
    if (error != 0)
        return error;
    if (CRYPTO_memcmp(tag, all.ptr + signed_part.len, TAG) != 0)
        return FERNET_E_TOKEN;
    const unsigned char *head = (const unsigned char *)all.ptr;
    for (unsigned i = 0; i < 8; i++)
        time_s = time_s << 8 | head[AT_TIME + i];
    struct slice text = slice_from(signed_part, AT_TEXT);
    struct buf plain CLEANUP(secret_buf_deinit) = BUF_INIT(text.len + BLOCK);
    char *room = buf_reserve(&plain, text.len + BLOCK);
    size_t len = 0;
    error = room == NULL ? buf_error(&plain) : crypt(false, key, head + AT_IV, text, room, &len);
    if (error != 0)
        return error == 1 ? FERNET_E_TOKEN : error;
    error = buf_append(out, slice_make(room, len));
    if (error == 0 && ret_time_s != NULL)
        *ret_time_s = time_s;
    return error;
}
