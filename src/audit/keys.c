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
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/sealing.h"
#include "base/secret.h"
#include "io/file.h"
#include "own.h"
#include "sha256.h"

enum {
    HMAC_KEY = 32,
    HMAC_KEY_CHARS = 43,
    KEY_ID = 12, /* bytes */
    MAX_FILE = 16 * 1024,
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

static void wipe_buf(struct buf *buf) {
    if (buf->data != NULL)
        secret_wipe(buf->data, buf->cap);
    buf_deinit(buf);
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
    if (pem.len == 0 || pem.len > MAX_FILE)
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

/* --- files --- */

enum key_file { SIGNING, PUBLIC, HMAC, N_FILES };

/* What can be wrong with each, in words of its own. */
static const struct file_row {
    const char *name;
    struct slice sealed_name; /* below the data directory */
    const char *exposed, *irregular, *damaged, *locked;
} file_rows[N_FILES] = {
    [SIGNING] = {"signing.pem", SLICE_INIT("audit/signing.pem"),
                 "signing.pem can be read by others than its owner",
                 "signing.pem is no regular file", "signing.pem holds no Ed25519 private key",
                 "signing.pem is encrypted, and opened by no key that is here"},
    [PUBLIC] = {"public.pem", SLICE_INIT(""), "", "public.pem is no regular file",
                "public.pem does not belong to signing.pem", ""},
    [HMAC] = {"hmac.key", SLICE_INIT("audit/hmac.key"),
              "hmac.key can be read by others than its owner", "hmac.key is no regular file",
              "hmac.key does not hold 32 bytes in base64url and a line end",
              "hmac.key is encrypted, and opened by no key that is here"},
};

/* Where the files are, and who encrypts those that are private. */
struct place {
    const char *dir;
    const struct sealing *sealing; /* NULL: nobody */
};

static int path_of(const char *dir, const char *name, const char *suffix, char path[PATH_MAX]) {
    int n = snprintf(path, PATH_MAX, "%s/%s%s", dir, name, suffix);
    return n > 0 && n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int read_whole(int fd, struct buf *out) {
    for (;;) {
        char *room = buf_reserve(out, 1024);
        if (room == NULL)
            return buf_error(out) == -E2BIG ? -EFBIG : buf_error(out);
        ssize_t n = read(fd, room, 1024);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return 0;
        if (n > 0)
            buf_commit(out, (size_t)n);
    }
}

/* The memory is asked for once, so that nothing of a key stays in a block that was too small.
 * -ENOENT: it is missing. */
static int read_content(const char *dir, enum key_file which, struct buf *out,
                        const char **ret_reason) {
    const struct file_row *row = &file_rows[which];
    char path[PATH_MAX];
    struct stat info;
    wipe_buf(out);
    buf_init(out, MAX_FILE + 1024);
    int error = path_of(dir, row->name, "", path);
    if (error == 0 && buf_reserve(out, MAX_FILE) == NULL)
        error = -ENOMEM;
    if (error != 0)
        return error;
    /* A pipe would keep us waiting. */
    CLEANUP(io_fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ELOOP ? refuse(ret_reason, row->irregular) : -errno;
    if (fstat(fd, &info) != 0)
        return -errno;
    if (!S_ISREG(info.st_mode))
        return refuse(ret_reason, row->irregular);
    if (which != PUBLIC && (info.st_mode & 077) != 0)
        return refuse(ret_reason, row->exposed);
    error = read_whole(fd, out);
    return error == -EFBIG ? refuse(ret_reason, row->damaged) : error;
}

/* In the place of what is encrypted. */
static int open_content(const struct place *place, enum key_file which, struct buf *content) {
    CLEANUP(buf_deinit) struct buf unused = BUF_INIT(MAX_FILE);
    CLEANUP(secret_freep) struct secret *plain = NULL;
    int error = place->sealing->open(place->sealing->context, file_rows[which].sealed_name,
                                     buf_slice(content), &plain, &unused);
    if (error != 0)
        return error;
    buf_reset(content, MAX_FILE);
    return buf_append(content, secret_reveal(plain)); /* to be parsed */
}

static int read_file(const struct place *place, enum key_file which, struct buf *out,
                     const char **ret_reason) {
    int error = SEALING_E_REFUSED;
    for (int i = 0; i < SEALING_TRIES && error == SEALING_E_REFUSED; i++) {
        error = read_content(place->dir, which, out, ret_reason);
        if (error != 0 || which == PUBLIC || !sealing_is_sealed(buf_slice(out)))
            return error;
        if (place->sealing != NULL)
            error = open_content(place, which, out);
        else
            error = SEALING_E_REFUSED;
    }
    return error == SEALING_E_REFUSED ? refuse(ret_reason, file_rows[which].locked) : error;
}

static int sync_folder(const char *dir) {
    CLEANUP(io_fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 ? 0 : -errno;
}

struct writing {
    const char *dir;
    enum key_file which;
};

/* Whole or not at all; what is there stays. */
static int write_content(void *context, struct slice content) {
    const struct writing *writing = context;
    const char *dir = writing->dir;
    enum key_file which = writing->which;
    char path[PATH_MAX], beside[PATH_MAX];
    int error = path_of(dir, file_rows[which].name, "", path);
    if (error == 0)
        error = path_of(dir, file_rows[which].name, ".new", beside);
    if (error != 0)
        return error;
    /* Of a start that ended in the middle. */
    if (unlink(beside) != 0 && errno != ENOENT)
        return -errno;
    error = io_file_create_private(beside, content);
    if (error != 0)
        return error;
    if (renameat2(AT_FDCWD, beside, AT_FDCWD, path, RENAME_NOREPLACE) != 0 &&
        (errno != EINVAL || access(path, F_OK) == 0 || rename(beside, path) != 0)) {
        error = -errno;
        unlink(beside);
        return error;
    }
    return sync_folder(dir);
}

static int write_file(const struct place *place, enum key_file which, struct slice content) {
    CLEANUP(buf_deinit) struct buf unused = BUF_INIT(MAX_FILE);
    struct writing writing = {.dir = place->dir, .which = which};
    const struct sealing *sealing = place->sealing;
    if (sealing == NULL || which == PUBLIC)
        return write_content(&writing, content);
    int error = sealing->seal(sealing->context, file_rows[which].sealed_name, content,
                              write_content, &writing, &unused);
    return error == SEALING_E_REFUSED ? -ENOKEY : error;
}

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

/* --- opening --- */

/* -1: there is no passphrase. OpenSSL would else ask at the terminal. */
static int no_passphrase(char *out, int size, int is_writing, void *context) {
    (void)out, (void)size, (void)is_writing, (void)context;
    return -1;
}

static int read_signing(struct slice pem, struct audit_keys *keys, const char **ret_reason) {
    if (pem.len == 0)
        return refuse(ret_reason, file_rows[SIGNING].damaged);
    CLEANUP(bio_freep) BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    if (bio == NULL)
        return -ENOMEM;
    keys->signing = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    ERR_clear_error();
    if (keys->signing == NULL || !EVP_PKEY_is_a(keys->signing, "ED25519"))
        return refuse(ret_reason, file_rows[SIGNING].damaged);
    return 0;
}

static int read_hmac(struct slice text, struct audit_keys *keys, const char **ret_reason) {
    unsigned char bytes[HMAC_KEY];
    if (text.len != HMAC_KEY_CHARS + 1 || text.ptr[HMAC_KEY_CHARS] != '\n' ||
        !audit_hash_read(slice_sub(text, 0, HMAC_KEY_CHARS), bytes))
        return refuse(ret_reason, file_rows[HMAC].damaged);
    int error = secret_new(slice_make(bytes, sizeof bytes), &keys->hmac);
    secret_wipe(bytes, sizeof bytes);
    return error;
}

static int make_hmac(const struct place *place, struct audit_keys *keys, const char **ret_reason) {
    unsigned char bytes[HMAC_KEY];
    char text[HMAC_KEY_CHARS + 1];
    random_bytes(bytes, sizeof bytes);
    audit_hash_write(bytes, text);
    text[HMAC_KEY_CHARS] = '\n';
    int error = write_file(place, HMAC, slice_make(text, sizeof text));
    if (error == 0)
        error = read_hmac(slice_make(text, sizeof text), keys, ret_reason);
    secret_wipe(bytes, sizeof bytes);
    secret_wipe(text, sizeof text);
    return error;
}

static int write_pem(const struct place *place, enum key_file which, EVP_PKEY *pkey) {
    CLEANUP(bio_freep) BIO *bio = BIO_new(BIO_s_secmem());
    char *bytes = NULL;
    if (bio == NULL ||
        (which == SIGNING ? PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL)
                          : PEM_write_bio_PUBKEY(bio, pkey)) != 1)
        return -ENOMEM;
    long n = BIO_get_mem_data(bio, &bytes);
    return n > 0 ? write_file(place, which, slice_make(bytes, (size_t)n)) : -ENOMEM;
}

static int make_signing(const struct place *place, struct audit_keys *keys) {
    keys->signing = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return keys->signing != NULL ? write_pem(place, SIGNING, keys->signing) : -ENOMEM;
}

static int check_public(const struct place *place, struct audit_keys *keys,
                        const char **ret_reason) {
    CLEANUP(wipe_buf) struct buf pem = BUF_INIT(0);
    int error = public_key_new(keys->signing, &keys->public_key);
    if (error == 0)
        error = read_file(place, PUBLIC, &pem, ret_reason);
    if (error == -ENOENT)
        return write_pem(place, PUBLIC, keys->signing);
    if (error != 0)
        return error;
    struct audit_public_key *other = NULL;
    const char *unused;
    error = audit_public_key_read(buf_slice(&pem), &other, &unused);
    bool fits = error == 0 && EVP_PKEY_eq(other->pkey, keys->signing) == 1;
    audit_public_key_free(other);
    if (error < 0)
        return error;
    return fits ? 0 : refuse(ret_reason, file_rows[PUBLIC].damaged);
}

/* Which are to be made. */
static int plan(const char *dir, const bool is_there[N_FILES], const char **ret_reason) {
    bool has = false;
    if (is_there[SIGNING] && is_there[HMAC])
        return 0;
    if (is_there[SIGNING])
        return refuse(ret_reason, "hmac.key is missing, and signing.pem is there");
    if (is_there[PUBLIC])
        return refuse(ret_reason, "signing.pem is missing, and public.pem is there");
    int error = has_segments(dir, &has);
    if (error == 0 && has)
        return refuse(ret_reason, "signing.pem is missing, and there is a trail already");
    return error;
}

static int open_all(const struct place *place, struct audit_keys *keys, const char **ret_reason) {
    CLEANUP(wipe_buf) struct buf signing = BUF_INIT(0);
    CLEANUP(wipe_buf) struct buf public_pem = BUF_INIT(0);
    CLEANUP(wipe_buf) struct buf hmac = BUF_INIT(0);
    struct buf *contents[N_FILES] = {&signing, &public_pem, &hmac};
    bool is_there[N_FILES];
    for (unsigned i = 0; i < N_FILES; i++) {
        int error = read_file(place, i, contents[i], ret_reason);
        if (error != 0 && error != -ENOENT)
            return error;
        is_there[i] = error == 0;
    }
    int error = plan(place->dir, is_there, ret_reason);
    if (error == 0)
        error = is_there[HMAC] ? read_hmac(buf_slice(&hmac), keys, ret_reason)
                               : make_hmac(place, keys, ret_reason);
    if (error == 0)
        error = is_there[SIGNING] ? read_signing(buf_slice(&signing), keys, ret_reason)
                                  : make_signing(place, keys);
    return error == 0 ? check_public(place, keys, ret_reason) : error;
}

int audit_keys_open(const char *dir, const struct sealing *sealing, struct audit_keys **ret_keys,
                    const char **ret_reason) {
    const struct place place = {.dir = dir, .sealing = sealing};
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
