/*
 * The keys of a trail.
 *
 * Private ones are encrypted by whoever is given for that (base/sealing.h); those of before, in
 * plain, are read all the same.
 *
 * They are made once, when there is no trail yet. Afterwards a missing or damaged key is an error
 * that somebody has to look at: with a new key the gateway would go on, but what was written before
 * could no longer be told from what somebody resealed. So keys are never made beside segments, and
 * a file that is there is never replaced. public.pem says nothing that signing.pem does not, and is
 * written again when it is missing.
 *
 * Each file gets its name when it is whole and durable, signing.pem last. A crash in between leaves
 * hmac.key alone, which is then used.
 */
#include "audit/keys.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/secret.h"
#include "key_files.h"
#include "own.h"
#include "sha256.h"

enum {
    HMAC_KEY = 32,
    HMAC_KEY_CHARS = 43,
    KEY_ID = 12, /* bytes */
    MAX_SIGNED = 256
};

struct audit_public_key {
    EVP_PKEY *pkey;
    char id[AUDIT_KEY_ID_CHARS + 1];
};

struct audit_keys {
    EVP_PKEY *signing;
    struct audit_public_key *public_key;
    struct secret *hmac;
};

struct audit_hmac {
    struct sha256_hmac state;
};

static int refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return AUDIT_E_KEY;
}

/* For CLEANUP(). */
static void pkey_freep(EVP_PKEY **pkey) {
    EVP_PKEY_free(*pkey);
}

static void bio_freep(BIO **bio) {
    BIO_free_all(*bio);
}

/* --- public keys --- */

static int make_id(EVP_PKEY *pkey, char id[AUDIT_KEY_ID_CHARS + 1]) {
    unsigned char digest[AUDIT_HASH], *der = NULL;
    struct sha256 hash;
    int der_len = i2d_PUBKEY(pkey, &der);
    if (der_len <= 0)
        return -ENOMEM;
    sha256_init(&hash);
    sha256_update(&hash, slice_make(der, (size_t)der_len));
    sha256_final(&hash, digest);
    OPENSSL_free(der);
    audit_bytes_write(digest, KEY_ID, id);
    id[AUDIT_KEY_ID_CHARS] = '\0';
    return 0;
}

/* Takes a reference of its own. */
static int public_key_new(EVP_PKEY *pkey, struct audit_public_key **ret_key) {
    struct audit_public_key *key = mem_alloc(sizeof *key);
    if (key == NULL)
        return -ENOMEM;
    int error = make_id(pkey, key->id);
    if (error != 0 || EVP_PKEY_up_ref(pkey) != 1) {
        mem_free(key);
        return error != 0 ? error : -ENOMEM;
    }
    key->pkey = pkey;
    *ret_key = key;
    return 0;
}

struct audit_public_key *audit_public_key_free(struct audit_public_key *key) {
    if (key != NULL)
        EVP_PKEY_free(key->pkey);
    mem_free(key);
    return NULL;
}

const char *audit_public_key_id(const struct audit_public_key *key) {
    return key->id;
}

int audit_public_key_read(struct slice pem, struct audit_public_key **ret_key,
                          const char **ret_reason) {
    if (pem.len == 0 || pem.len > KEY_FILE_MAX)
        return refuse(ret_reason, "there is no public key in PEM in it");
    CLEANUP(bio_freep) BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    if (bio == NULL)
        return -ENOMEM;
    CLEANUP(pkey_freep) EVP_PKEY *pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    /* Which of two is meant nobody can say. */
    CLEANUP(pkey_freep)
    EVP_PKEY *second = pkey != NULL ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    ERR_clear_error();
    if (pkey == NULL)
        return refuse(ret_reason, "there is no public key in PEM in it");
    if (second != NULL)
        return refuse(ret_reason, "there is more than one key in it");
    if (!EVP_PKEY_is_a(pkey, "ED25519"))
        return refuse(ret_reason, "the key in it is no Ed25519 key");
    return public_key_new(pkey, ret_key);
}

/* --- opening --- */

/* A trail is there already. */
static int has_segments(const char *dir, bool *ret_has) {
    DIR *folder = opendir(dir);
    if (folder == NULL)
        return -errno;
    const struct dirent *entry;
    *ret_has = false;
    for (errno = 0; (entry = readdir(folder)) != NULL; errno = 0) {
        if (slice_ends_with(slice_from_cstr(entry->d_name), SLICE(".jsonl")))
            *ret_has = true;
    }
    int error = -errno;
    closedir(folder);
    return error;
}

/* -1: there is no passphrase. OpenSSL would else ask at the terminal. */
static int no_passphrase(char *out, int size, int is_writing, void *context) {
    (void)out, (void)size, (void)is_writing, (void)context;
    return -1;
}

static int read_signing(struct slice pem, struct audit_keys *keys, const char **ret_reason) {
    if (pem.len == 0)
        return refuse(ret_reason, key_file_damaged(KEY_FILE_SIGNING));
    CLEANUP(bio_freep) BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    if (bio == NULL)
        return -ENOMEM;
    keys->signing = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    ERR_clear_error();
    if (keys->signing == NULL || !EVP_PKEY_is_a(keys->signing, "ED25519"))
        return refuse(ret_reason, key_file_damaged(KEY_FILE_SIGNING));
    return 0;
}

static int read_hmac(struct slice text, struct audit_keys *keys, const char **ret_reason) {
    unsigned char bytes[HMAC_KEY];
    if (text.len != HMAC_KEY_CHARS + 1 || text.ptr[HMAC_KEY_CHARS] != '\n' ||
        !audit_hash_read(slice_sub(text, 0, HMAC_KEY_CHARS), bytes))
        return refuse(ret_reason, key_file_damaged(KEY_FILE_HMAC));
    int error = secret_new(slice_make(bytes, sizeof bytes), &keys->hmac);
    secret_wipe(bytes, sizeof bytes);
    return error;
}

static int make_hmac(const struct key_place *place, struct audit_keys *keys,
                     const char **ret_reason) {
    unsigned char bytes[HMAC_KEY];
    char text[HMAC_KEY_CHARS + 1];
    random_bytes(bytes, sizeof bytes);
    audit_hash_write(bytes, text);
    text[HMAC_KEY_CHARS] = '\n';
    int error = key_file_write(place, KEY_FILE_HMAC, slice_make(text, sizeof text));
    if (error == 0)
        error = read_hmac(slice_make(text, sizeof text), keys, ret_reason);
    secret_wipe(bytes, sizeof bytes);
    secret_wipe(text, sizeof text);
    return error;
}

static int write_pem(const struct key_place *place, enum key_file which, EVP_PKEY *pkey) {
    CLEANUP(bio_freep) BIO *bio = BIO_new(BIO_s_secmem());
    char *bytes = NULL;
    if (bio == NULL ||
        (which == KEY_FILE_SIGNING ? PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL)
                                   : PEM_write_bio_PUBKEY(bio, pkey)) != 1)
        return -ENOMEM;
    long n = BIO_get_mem_data(bio, &bytes);
    return n > 0 ? key_file_write(place, which, slice_make(bytes, (size_t)n)) : -ENOMEM;
}

static int make_signing(const struct key_place *place, struct audit_keys *keys) {
    keys->signing = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return keys->signing != NULL ? write_pem(place, KEY_FILE_SIGNING, keys->signing) : -ENOMEM;
}

static int check_public(const struct key_place *place, struct audit_keys *keys,
                        const char **ret_reason) {
    CLEANUP(secret_buf_deinit) struct buf pem = BUF_INIT(0);
    int error = public_key_new(keys->signing, &keys->public_key);
    if (error == 0)
        error = key_file_read(place, KEY_FILE_PUBLIC, &pem, ret_reason);
    if (error == -ENOENT)
        return write_pem(place, KEY_FILE_PUBLIC, keys->signing);
    if (error != 0)
        return error;
    struct audit_public_key *other = NULL;
    const char *unused;
    error = audit_public_key_read(buf_slice(&pem), &other, &unused);
    bool fits = error == 0 && EVP_PKEY_eq(other->pkey, keys->signing) == 1;
    audit_public_key_free(other);
    if (error < 0)
        return error;
    return fits ? 0 : refuse(ret_reason, key_file_damaged(KEY_FILE_PUBLIC));
}

/* Which are to be made. */
static int plan(const char *dir, const bool is_there[N_KEY_FILES], const char **ret_reason) {
    bool has = false;
    if (is_there[KEY_FILE_SIGNING] && is_there[KEY_FILE_HMAC])
        return 0;
    if (is_there[KEY_FILE_SIGNING])
        return refuse(ret_reason, "hmac.key is missing, and signing.pem is there");
    if (is_there[KEY_FILE_PUBLIC])
        return refuse(ret_reason, "signing.pem is missing, and public.pem is there");
    int error = has_segments(dir, &has);
    if (error == 0 && has)
        return refuse(ret_reason, "signing.pem is missing, and there is a trail already");
    return error;
}

static int open_all(const struct key_place *place, struct audit_keys *keys,
                    const char **ret_reason) {
    CLEANUP(secret_buf_deinit) struct buf signing = BUF_INIT(0);
    CLEANUP(secret_buf_deinit) struct buf public_pem = BUF_INIT(0);
    CLEANUP(secret_buf_deinit) struct buf hmac = BUF_INIT(0);
    struct buf *contents[N_KEY_FILES] = {&signing, &public_pem, &hmac};
    bool is_there[N_KEY_FILES];
    for (unsigned i = 0; i < N_KEY_FILES; i++) {
        int error = key_file_read(place, i, contents[i], ret_reason);
        if (error != 0 && error != -ENOENT)
            return error;
        is_there[i] = error == 0;
    }
    int error = plan(place->dir, is_there, ret_reason);
    if (error == 0)
        error = is_there[KEY_FILE_HMAC] ? read_hmac(buf_slice(&hmac), keys, ret_reason)
                                        : make_hmac(place, keys, ret_reason);
    if (error == 0)
        error = is_there[KEY_FILE_SIGNING] ? read_signing(buf_slice(&signing), keys, ret_reason)
                                           : make_signing(place, keys);
    return error == 0 ? check_public(place, keys, ret_reason) : error;
}

int audit_keys_open(const char *dir, const struct sealing *sealing, struct audit_keys **ret_keys,
                    const char **ret_reason) {
    const struct key_place place = {.dir = dir, .sealing = sealing};
    struct audit_keys *keys = mem_alloc(sizeof *keys);
    if (keys == NULL)
        return -ENOMEM;
    int error = open_all(&place, keys, ret_reason);
    if (error == 0)
        *ret_keys = keys;
    else
        audit_keys_free(keys);
    return error;
}

int audit_keys_read(struct slice signing_pem, struct slice hmac_key, struct audit_keys **ret_keys,
                    const char **ret_reason) {
    struct audit_keys *keys = mem_alloc(sizeof *keys);
    if (keys == NULL)
        return -ENOMEM;
    int error = read_hmac(hmac_key, keys, ret_reason);
    if (error == 0)
        error = read_signing(signing_pem, keys, ret_reason);
    if (error == 0)
        error = public_key_new(keys->signing, &keys->public_key);
    if (error == 0)
        *ret_keys = keys;
    else
        audit_keys_free(keys);
    return error;
}

struct audit_keys *audit_keys_free(struct audit_keys *keys) {
    if (keys == NULL)
        return NULL;
    EVP_PKEY_free(keys->signing);
    audit_public_key_free(keys->public_key);
    secret_free(keys->hmac);
    mem_free(keys);
    return NULL;
}

const char *audit_keys_id(const struct audit_keys *keys) {
    return keys->public_key->id;
}

const struct audit_public_key *audit_keys_public(const struct audit_keys *keys) {
    return keys->public_key;
}

/* --- signing --- */

/* One spelling for each checkpoint, and none of anything else that this key could be made to sign:
 * no part of it has a line end in it, as none of a line has. */
MUST_CHECK static int write_signed(const struct audit_checkpoint *checkpoint, char text[MAX_SIGNED],
                                   size_t *ret_n) {
    char hash[AUDIT_HASH_CHARS];
    audit_hash_write(checkpoint->up_to->hash, hash);
    int n = snprintf(text, MAX_SIGNED,
                     "cardea audit checkpoint 1\n%.*s\n%" PRIu64 "\n%.*s\n%.*s\n%" PRIu64 "\n",
                     SLICE_ARGS(checkpoint->log), checkpoint->up_to->seq, AUDIT_HASH_CHARS, hash,
                     SLICE_ARGS(checkpoint->time), checkpoint->records);
    if (n < 0 || n >= MAX_SIGNED)
        return -E2BIG;
    *ret_n = (size_t)n;
    return 0;
}

/* For CLEANUP(). */
static void md_ctx_freep(EVP_MD_CTX **ctx) {
    EVP_MD_CTX_free(*ctx);
}

int audit_sign(const struct audit_keys *keys, const struct audit_checkpoint *checkpoint,
               unsigned char ret_signature[AUDIT_SIGNATURE]) {
    char text[MAX_SIGNED];
    size_t text_len;
    CLEANUP(md_ctx_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char signature[AUDIT_SIGNATURE];
    size_t n = sizeof signature;
    int error = write_signed(checkpoint, text, &text_len);
    if (error != 0)
        return error;
    if (ctx == NULL || EVP_DigestSignInit(ctx, NULL, NULL, NULL, keys->signing) != 1 ||
        EVP_DigestSign(ctx, signature, &n, (const unsigned char *)text, text_len) != 1 ||
        n != sizeof signature)
        return -ENOMEM;
    memcpy(ret_signature, signature, sizeof signature);
    return 0;
}

bool audit_signature_is_good(const struct audit_public_key *key,
                             const struct audit_checkpoint *checkpoint,
                             const unsigned char signature[AUDIT_SIGNATURE]) {
    char text[MAX_SIGNED];
    size_t text_len;
    CLEANUP(md_ctx_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx == NULL || write_signed(checkpoint, text, &text_len) != 0)
        return false;
    bool is_good = EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key->pkey) == 1 &&
                   EVP_DigestVerify(ctx, signature, AUDIT_SIGNATURE, (const unsigned char *)text,
                                    text_len) == 1;
    ERR_clear_error();
    return is_good;
}

/* --- HMAC --- */

int audit_hmac_new(const struct audit_keys *keys, struct audit_hmac **ret_hmac) {
    struct audit_hmac *hmac = mem_alloc(sizeof *hmac);
    if (hmac == NULL)
        return -ENOMEM;
    sha256_hmac_init(&hmac->state, secret_reveal(keys->hmac)); /* for what is made of it */
    *ret_hmac = hmac;
    return 0;
}

struct audit_hmac *audit_hmac_free(struct audit_hmac *hmac) {
    if (hmac != NULL)
        secret_wipe(hmac, sizeof *hmac);
    mem_free(hmac);
    return NULL;
}

int audit_hmac(struct audit_hmac *hmac, struct slice bytes, unsigned char ret_digest[AUDIT_HASH]) {
    sha256_hmac(&hmac->state, bytes, ret_digest);
    return 0;
}
