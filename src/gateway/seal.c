/*
 * Texts that clients keep for us (request_state.c, task_id.c): nobody can read or change them, and
 * what they are bound to has to be the same when they come back. base64url of nonce, AES-256-GCM,
 * tag; what it is bound to is the additional data.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/base64.h"
#include "base/random.h"
#include "private.h"

enum { NONCE = 12, TAG = 16 };

/* For CLEANUP(). */
static void cipher_freep(EVP_CIPHER_CTX **context) {
    EVP_CIPHER_CTX_free(*context);
}

static int seal(const unsigned char key[static GW_DERIVED_KEY], const unsigned char *bound,
                const unsigned char *nonce, struct slice plain, struct buf *out) {
    CLEANUP(cipher_freep) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    unsigned char *room = (unsigned char *)buf_reserve(out, plain.len + TAG);
    int len = 0, end = 0;
    if (room == NULL)
        return buf_error(out);
    bool is_fine = context != NULL && plain.len < INT32_MAX &&
                   EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
                   EVP_EncryptUpdate(context, NULL, &len, bound, GW_SEAL_BOUND) == 1 &&
                   EVP_EncryptUpdate(context, room, &len, (const unsigned char *)plain.ptr,
                                     (int)plain.len) == 1 &&
                   EVP_EncryptFinal_ex(context, room + len, &end) == 1 &&
                   EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG, room + plain.len) == 1;
    if (!is_fine)
        return -ENOMEM;
    buf_commit(out, plain.len + TAG);
    return 0;
}

/* False: it was not sealed with this key and binding. */
static bool open_sealed(const unsigned char key[static GW_DERIVED_KEY], const unsigned char *bound,
                        struct slice sealed, struct buf *out) {
    CLEANUP(cipher_freep) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    union {
        const char *in;
        unsigned char *out;
    } bytes = {.in = sealed.ptr};
    size_t n = sealed.len - NONCE - TAG;
    unsigned char *room = (unsigned char *)buf_reserve(out, n + 1);
    int len = 0, end = 0;
    bool is_fine =
        context != NULL && room != NULL && n < INT32_MAX &&
        EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, bytes.out) == 1 &&
        EVP_DecryptUpdate(context, NULL, &len, bound, GW_SEAL_BOUND) == 1 &&
        EVP_DecryptUpdate(context, room, &len, bytes.out + NONCE, (int)n) == 1 &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG, bytes.out + NONCE + n) == 1 &&
        EVP_DecryptFinal_ex(context, room + len, &end) == 1;
    if (is_fine)
        buf_commit(out, n);
    return is_fine;
}

static int seal_with(const struct gateway *gateway, const unsigned char *bound, const char *nonce,
                     struct slice plain, struct buf *out) {
    struct buf sealed CLEANUP(buf_deinit) = BUF_INIT(NONCE + plain.len + TAG + 64);
    buf_append(&sealed, slice_make(nonce, NONCE));
    int error = seal(gateway->state_key, bound, (const unsigned char *)nonce, plain, &sealed);
    return error != 0 ? error : base64url_encode(out, buf_slice(&sealed));
}

int gw_seal(const struct gateway *gateway, const unsigned char bound[static GW_SEAL_BOUND],
            struct slice plain, struct buf *out) {
    char nonce[NONCE];
    random_bytes(nonce, sizeof nonce);
    return seal_with(gateway, bound, nonce, plain, out);
}

int gw_seal_name(const struct gateway *gateway, const unsigned char bound[static GW_SEAL_BOUND],
                 struct slice plain, struct buf *out) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    char nonce[NONCE];
    unsigned len = 0;
    struct buf all CLEANUP(buf_deinit) = BUF_INIT(GW_SEAL_BOUND + plain.len);
    buf_append(&all, slice_make(bound, GW_SEAL_BOUND));
    buf_append(&all, plain);
    struct slice text = buf_slice(&all);
    if (buf_error(&all) != 0 ||
        HMAC(EVP_sha256(), gateway->name_key, GW_DERIVED_KEY, (const unsigned char *)text.ptr,
             text.len, digest, &len) == NULL)
        return -ENOMEM;
    memcpy(nonce, digest, sizeof nonce);
    return seal_with(gateway, bound, nonce, plain, out);
}

int gw_unseal(const struct gateway *gateway, const unsigned char bound[static GW_SEAL_BOUND],
              struct slice text, struct buf *out) {
    struct buf sealed CLEANUP(buf_deinit) = BUF_INIT(text.len + 64);
    if (base64url_decode(&sealed, text) != 0 || buf_len(&sealed) < NONCE + TAG)
        return GW_E_STATE;
    return open_sealed(gateway->state_key, bound, buf_slice(&sealed), out) ? 0 : GW_E_STATE;
}
