#include "doors.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/base64.h"
#include "base/random.h"
#include "base/secret.h"
#include "base/utf8.h"

void doors_digest(struct slice text, char digest[DOORS_DIGEST + 1]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)text.ptr, text.len, bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        digest[2 * i] = digits[bytes[i] >> 4];
        digest[2 * i + 1] = digits[bytes[i] & 15];
    }
    digest[DOORS_DIGEST] = '\0';
}

bool doors_is_digest_of(struct slice digest, struct slice text) {
    char own[DOORS_DIGEST + 1];
    doors_digest(text, own);
    return digest.len == DOORS_DIGEST && CRYPTO_memcmp(digest.ptr, own, DOORS_DIGEST) == 0;
}

void doors_make_secret(char secret[ACCOUNTS_SECRET + 1]) {
    unsigned char bytes[32];
    random_bytes(bytes, sizeof bytes);
    secret[base64url_write(secret, slice_make(bytes, sizeof bytes))] = '\0';
    secret_wipe(bytes, sizeof bytes);
}

/* Another text than what doors_digest() hashes, so that the store's digest does not tell it. */
void doors_make_csrf(struct slice secret, char csrf[ACCOUNTS_SECRET + 1]) {
    static const struct slice what = SLICE_INIT("cardea csrf ");
    unsigned char text[64], bytes[SHA256_DIGEST_LENGTH];
    struct slice part = slice_sub(secret, 0, sizeof text - what.len);
    memcpy(text, what.ptr, what.len);
    memcpy(text + what.len, part.ptr, part.len);
    SHA256(text, what.len + part.len, bytes);
    csrf[base64url_write(csrf, slice_make(bytes, sizeof bytes))] = '\0';
    secret_wipe(text, sizeof text);
    secret_wipe(bytes, sizeof bytes);
}

void doors_make_id(char id[ACCOUNTS_ID + 1]) {
    unsigned char bytes[16];
    /* A command would take it for an option. */
    do {
        random_bytes(bytes, sizeof bytes);
        id[base64url_write(id, slice_make(bytes, sizeof bytes))] = '\0';
    } while (id[0] == '-');
}

bool doors_is_base64url(struct slice text, size_t n) {
    if (text.len != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = text.ptr[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!is_letter && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
    }
    return true;
}

int doors_append_text(struct buf *out, struct slice text, size_t most) {
    size_t before = buf_len(out);
    while (text.len != 0 && buf_error(out) == 0) {
        uint32_t code = 0;
        size_t len = utf8_decode(text, &code);
        bool is_control = code < 0x20 || (code >= 0x7f && code < 0xa0);
        size_t written = len == 0 || is_control ? 1 : len;
        if (buf_len(out) - before + written > most)
            break;
        if (len == 0 || is_control)
            buf_append_byte(out, len == 0 ? '?' : ' ');
        else
            buf_append(out, slice_sub(text, 0, len));
        text = slice_from(text, len != 0 ? len : 1);
    }
    return buf_error(out);
}

static int take_id(struct store_tx *tx, const char *sql, struct slice value,
                   char id[ACCOUNTS_ID + 1]) {
    struct store_rows *rows = NULL;
    int error = store_query(tx, sql, STORE_VALUES(store_text(value)), &rows);
    if (error != 0)
        return error;
    bool is_there =
        store_rows_next(rows) && slice_to_cstr(store_rows_text(rows, 0), id, ACCOUNTS_ID + 1) == 0;
    error = store_rows_end(rows);
    if (error != 0)
        return error;
    return is_there ? 0 : ACCOUNTS_E_NONE;
}

bool doors_fold(struct slice name, char key[DOORS_NAME + 1]) {
    if (name.len == 0 || name.len > DOORS_NAME)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c <= ' ' || c > '~')
            return false;
        key[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    key[name.len] = '\0';
    return true;
}

int doors_find_user(struct store_tx *tx, struct slice user, char id[ACCOUNTS_ID + 1]) {
    char key[DOORS_NAME + 1];
    int error = ACCOUNTS_E_NONE;
    if (doors_is_base64url(user, ACCOUNTS_ID))
        error = take_id(tx, "SELECT id FROM users WHERE id = $1", user, id);
    if (error != ACCOUNTS_E_NONE || !doors_fold(user, key))
        return error;
    return take_id(tx, "SELECT id FROM users WHERE key = $1", slice_from_cstr(key), id);
}

bool doors_may(const struct accounts_actor *actor, enum permission permission) {
    return actor->is_owner ||
           (actor->rights != NULL && policy_rights_have(actor->rights, permission));
}

int doors_number(struct store_tx *tx, const char *sql, const struct store_value *values,
                 size_t n_values, int64_t none, int64_t *ret_number) {
    struct store_rows *rows = NULL;
    int error = store_query(tx, sql, values, n_values, &rows);
    if (error != 0)
        return error;
    int64_t number = store_rows_next(rows) ? store_rows_number(rows, 0) : none;
    error = store_rows_end(rows);
    if (error == 0)
        *ret_number = number;
    return error;
}
