/*
 * What a token belongs to is a part of what is encrypted: a netstring (its length in decimal, a
 * colon, the text, a comma), so that no owner's beginning is the beginning of another's:
 *
 *     cardea:1:13:secret/github,THE SECRET
 *
 * A token that somebody copied from one row to another decrypts as well there, and is refused for
 * its beginning; so is one of another program that has the same key.
 */
#include <errno.h>

#include "base/checked.h"
#include "base/limits.h"
#include "private.h"

enum { OWNER_MAX = 512, BEGIN_MAX = OWNER_MAX + 32 };

int seal_begin(struct buf *out, struct slice owner) {
    if (owner.len == 0 || owner.len > OWNER_MAX)
        return -EINVAL;
    buf_printf(out, "cardea:1:%zu:", owner.len);
    buf_append(out, owner);
    return buf_append_byte(out, ',');
}

int seal_under(const struct vault *vault, size_t i, uint64_t now_s, struct slice owner,
               struct slice plain, struct buf *out) {
    if (plain.len > LIMIT_SECRET)
        return -E2BIG;
    struct buf text CLEANUP(secret_buf_deinit) = BUF_INIT(BEGIN_MAX + plain.len);
    if (buf_reserve(&text, BEGIN_MAX + plain.len) == NULL)
        return buf_error(&text);
    int error = seal_begin(&text, owner);
    if (error == 0)
        error = buf_append(&text, plain);
    return error == 0 ? fernet_seal(vault_key(vault, i), now_s, NULL, buf_slice(&text), out)
                      : error;
}

int vault_seal(const struct vault *vault, struct slice owner, uint64_t now_s, struct slice plain,
               struct buf *out) {
    return seal_under(vault, 0, now_s, owner, plain, out);
}

static int open_with_any(const struct vault *vault, struct slice token, struct buf *out,
                         size_t *ret_key) {
    int error = FERNET_E_TOKEN;
    for (size_t i = 0; i < vault->n_keys && error == FERNET_E_TOKEN; i++) {
        error = fernet_open(vault_key(vault, i), token, NULL, out);
        if (error == 0)
            *ret_key = i;
    }
    return error == FERNET_E_TOKEN ? VAULT_E_TOKEN : error;
}

int vault_unseal(const struct vault *vault, struct slice owner, struct slice token,
                 struct secret **ret_plain, size_t *ret_key) {
    enum { TEXT_MAX = BEGIN_MAX + LIMIT_SECRET };
    struct buf begin CLEANUP(buf_deinit) = BUF_INIT(BEGIN_MAX);
    struct buf text CLEANUP(secret_buf_deinit) = BUF_INIT(TEXT_MAX);
    size_t key = 0;
    int error = seal_begin(&begin, owner);
    if (error != 0)
        return error;
    /* Base64: three quarters of it. Longer ones are none that vault_seal() made. */
    if (token.len / 4 * 3 > TEXT_MAX + FERNET_KEY * (size_t)4)
        return VAULT_E_TOKEN;
    if (buf_reserve(&text, size_min(token.len, TEXT_MAX)) == NULL)
        return buf_error(&text);
    error = open_with_any(vault, token, &text, &key);
    if (error != 0)
        return error == -E2BIG ? VAULT_E_TOKEN : error;
    if (!slice_starts_with(buf_slice(&text), buf_slice(&begin)))
        return VAULT_E_MOVED;
    error = secret_new(slice_from(buf_slice(&text), buf_len(&begin)), ret_plain);
    if (error == 0 && ret_key != NULL)
        *ret_key = key;
    return error;
}
