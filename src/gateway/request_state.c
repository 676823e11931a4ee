/*
 * requestState, as clients of 2026-07-28 get it (MCP 2026-07-28, basic/patterns/mrtr): a text that
 * comes back with the answers. What stands in it (the server's own, or where the call waits) is
 * sealed, and bound to whom it was given, for which server, method, name and arguments, and for how
 * long: for everything else it is no state.
 *
 * base64url of nonce, AES-256-GCM of (time of its end, kind, what it holds), tag. What it is bound
 * to is the additional data. White space between the tokens of the arguments does not count.
 */
#include <errno.h>
#include <openssl/evp.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/random.h"
#include "private.h"

enum { NONCE = 12, TAG = 16, HEAD = 9, DIGEST = 32 };

/* For CLEANUP(). */
static void cipher_freep(EVP_CIPHER_CTX **context) {
    EVP_CIPHER_CTX_free(*context);
}

static void digest_freep(EVP_MD_CTX **context) {
    EVP_MD_CTX_free(*context);
}

static bool add(EVP_MD_CTX *digest, struct slice text) {
    uint64_t len = text.len;
    return EVP_DigestUpdate(digest, &len, sizeof len) == 1 &&
           EVP_DigestUpdate(digest, text.ptr, text.len) == 1;
}

/* JSON without the white space that means nothing. */
static bool add_json(EVP_MD_CTX *digest, struct slice json) {
    size_t from = 0;
    bool in_string = false, is_fine = true;
    for (size_t i = 0; i < json.len && is_fine; i++) {
        char c = json.ptr[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == ' ' || c == '\t' || c == '\n' || c == '\r')) {
            is_fine = EVP_DigestUpdate(digest, json.ptr + from, i - from) == 1;
            from = i + 1;
        }
    }
    return is_fine && EVP_DigestUpdate(digest, json.ptr + from, json.len - from) == 1;
}

static int bind(const struct gw_state_binding *binding, unsigned char digest[static DIGEST]) {
    CLEANUP(digest_freep) EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_fine = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
                   add(context, binding->principal) && add(context, binding->upstream) &&
                   add(context, mcp_method_name(binding->method)) && add(context, binding->name) &&
                   add_json(context, binding->arguments) &&
                   EVP_DigestFinal_ex(context, digest, NULL) == 1;
    return is_fine ? 0 : -ENOMEM;
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
                   EVP_EncryptUpdate(context, NULL, &len, bound, DIGEST) == 1 &&
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
        EVP_DecryptUpdate(context, NULL, &len, bound, DIGEST) == 1 &&
        EVP_DecryptUpdate(context, room, &len, bytes.out + NONCE, (int)n) == 1 &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG, bytes.out + NONCE + n) == 1 &&
        EVP_DecryptFinal_ex(context, room + len, &end) == 1;
    if (is_fine)
        buf_commit(out, n);
    return is_fine;
}

int gw_state_seal(const struct gateway *gateway, const struct gw_state_binding *binding,
                  enum gw_state_kind kind, struct slice payload, struct buf *out) {
    unsigned char bound[DIGEST];
    char nonce[NONCE];
    uint64_t ends_ms = clock_wall_ms() + LIMIT_ASK_MS;
    struct buf plain CLEANUP(buf_deinit) = BUF_INIT(HEAD + payload.len);
    struct buf sealed CLEANUP(buf_deinit) = BUF_INIT(NONCE + HEAD + payload.len + TAG + 64);
    random_bytes(nonce, sizeof nonce);
    buf_append(&plain, slice_make(&ends_ms, sizeof ends_ms));
    buf_append_byte(&plain, (char)kind);
    buf_append(&plain, payload);
    buf_append(&sealed, slice_make(nonce, sizeof nonce));
    int error = buf_error(&plain) != 0 ? buf_error(&plain) : bind(binding, bound);
    if (error == 0)
        error = seal(gateway->state_key, bound, (const unsigned char *)nonce, buf_slice(&plain),
                     &sealed);
    return error != 0 ? error : base64url_encode(out, buf_slice(&sealed));
}

int gw_state_open(const struct gateway *gateway, const struct gw_state_binding *binding,
                  struct slice text, enum gw_state_kind *ret_kind, struct buf *out) {
    unsigned char bound[DIGEST];
    uint64_t ends_ms = 0;
    struct buf sealed CLEANUP(buf_deinit) = BUF_INIT(text.len + 64);
    struct buf plain CLEANUP(buf_deinit) = BUF_INIT(text.len + 64);
    if (base64url_decode(&sealed, text) != 0 || buf_len(&sealed) < NONCE + HEAD + TAG)
        return GW_E_STATE;
    int error = bind(binding, bound);
    if (error != 0)
        return error;
    if (!open_sealed(gateway->state_key, bound, buf_slice(&sealed), &plain))
        return GW_E_STATE;
    struct slice opened = buf_slice(&plain);
    memcpy(&ends_ms, opened.ptr, sizeof ends_ms);
    if (clock_wall_ms() > ends_ms)
        return GW_E_STATE;
    *ret_kind = (enum gw_state_kind)opened.ptr[sizeof ends_ms];
    return buf_append(out, slice_from(opened, HEAD));
}
