/*
 * Hashes of passwords: Argon2id (RFC 9106) by libsodium. bcrypt, which older systems have, is read
 * and replaced at the next login.
 *
 * A hash tells itself what it costs to check, and it may have come by an import: so its parameters
 * are looked at before it is worked with, and one that would take all memory or hours is none.
 */
#include "accounts/password.h"

#include <crypt.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/mem.h"
#include "base/secret.h"

/* At least what OWASP's cheat sheet asks for (19 MiB, twice); some 50 ms on a small machine. */
enum { ROUNDS = 2, MOST_ROUNDS = 16, BCRYPT_LEN = 60, BCRYPT_MOST = 14 };
#define MEMORY      ((size_t)64 * 1024 * 1024)
#define MOST_MEMORY ((size_t)512 * 1024 * 1024)

struct plain {
    char text[PASSWORD_MOST + 1];
};

static void wipe(struct plain *plain) {
    secret_wipe(plain->text, sizeof plain->text);
}

/* --- what a hash looks like --- */

static bool take_number(struct slice *text, const char *name, char end, uint64_t most) {
    struct slice key = slice_from_cstr(name), head, rest;
    uint64_t number;
    if (!slice_starts_with(*text, key) || !slice_cut(slice_from(*text, key.len), end, &head, &rest))
        return false;
    if (slice_to_u64(head, &number) != 0 || number == 0 || number > most)
        return false;
    *text = rest;
    return true;
}

static bool is_of(struct slice text, const char *alphabet) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\0' || strchr(alphabet, text.ptr[i]) == NULL)
            return false;
    }
    return text.len != 0;
}

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* $argon2id$v=19$m=65536,t=2,p=1$SALT$HASH */
static bool is_argon2id(struct slice text) {
    struct slice start = SLICE("$argon2id$v=19$"), salt, hash;
    if (text.len >= crypto_pwhash_STRBYTES || !slice_starts_with(text, start))
        return false;
    text = slice_from(text, start.len);
    return take_number(&text, "m=", ',', MOST_MEMORY / 1024) &&
           take_number(&text, "t=", ',', MOST_ROUNDS) && take_number(&text, "p=", '$', 1) &&
           slice_cut(text, '$', &salt, &hash) && is_of(salt, LETTERS "+/") &&
           is_of(hash, LETTERS "+/");
}

/* $2b$12$ and 53 characters; 2a and 2y are the same for what libcrypt makes of them. */
static bool is_bcrypt(struct slice text) {
    uint64_t cost;
    if (text.len != BCRYPT_LEN || text.ptr[0] != '$' || text.ptr[1] != '2' ||
        !is_of(slice_sub(text, 2, 3), "aby") || text.ptr[3] != '$' || text.ptr[6] != '$')
        return false;
    return slice_to_u64(slice_sub(text, 4, 6), &cost) == 0 && cost >= 4 && cost <= BCRYPT_MOST &&
           is_of(slice_from(text, 7), LETTERS "./");
}

bool password_is_hash(struct slice text) {
    return is_argon2id(text) || is_bcrypt(text);
}

/* --- making and comparing --- */

int password_hash(struct slice password, struct buf *out) {
    char hash[crypto_pwhash_STRBYTES];
    if (password.len > PASSWORD_MOST)
        return -EINVAL;
    if (sodium_init() < 0 || crypto_pwhash_str_alg(hash, password.ptr, password.len, ROUNDS, MEMORY,
                                                   crypto_pwhash_ALG_ARGON2ID13) != 0)
        return -ENOMEM;
    return buf_append_cstr(out, hash);
}

static bool is_of_argon2id(const struct plain *plain, struct slice hash, bool *ret_is_old) {
    char text[crypto_pwhash_STRBYTES] = {0};
    memcpy(text, hash.ptr, hash.len);
    if (sodium_init() < 0 || crypto_pwhash_str_verify(text, plain->text, strlen(plain->text)) != 0)
        return false;
    *ret_is_old = crypto_pwhash_str_needs_rehash(text, ROUNDS, MEMORY) != 0;
    return true;
}

/* It looks at the first 72 bytes alone, as the systems did that made the hash. */
static bool is_of_bcrypt(const struct plain *plain, struct slice hash, bool *ret_is_old) {
    char text[BCRYPT_LEN + 1] = {0};
    struct crypt_data *data = mem_alloc(sizeof *data);
    if (data == NULL)
        return false;
    memcpy(text, hash.ptr, hash.len);
    /* Unlike crypt_r() it never answers with what could be taken for a hash. */
    const char *made = crypt_rn(plain->text, text, data, (int)sizeof *data);
    bool is_right =
        made != NULL && strlen(made) == hash.len && sodium_memcmp(made, text, hash.len) == 0;
    secret_wipe(data, sizeof *data);
    mem_free(data);
    if (is_right)
        *ret_is_old = true;
    return is_right;
}

bool password_is(struct slice password, struct slice hash, bool *ret_is_old) {
    struct plain plain;
    bool is_right = false, is_old = false;
    if (slice_to_cstr(password, plain.text, sizeof plain.text) != 0)
        return false;
    if (is_argon2id(hash))
        is_right = is_of_argon2id(&plain, hash, &is_old);
    else if (is_bcrypt(hash))
        is_right = is_of_bcrypt(&plain, hash, &is_old);
    wipe(&plain);
    if (is_right)
        *ret_is_old = is_old;
    return is_right;
}

void password_pretend(struct slice password) {
    static const unsigned char salt[crypto_pwhash_SALTBYTES] = "nobody has this";
    unsigned char hash[32];
    struct plain plain;
    /* What password_is() does not work with costs nothing here either. */
    if (slice_to_cstr(password, plain.text, sizeof plain.text) != 0 || sodium_init() < 0)
        return;
    (void)!crypto_pwhash(hash, sizeof hash, plain.text, password.len, salt, ROUNDS, MEMORY,
                         crypto_pwhash_ALG_ARGON2ID13);
    secret_wipe(hash, sizeof hash);
    wipe(&plain);
}
