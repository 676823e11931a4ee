/*
 * Where the keys come from. One place at a time: what the environment says is not mixed with a
 * file, so that nobody wonders later which key opens what.
 *
 * The key file belongs to the data directory, and to nobody else. It is written whole under another
 * name, synced and renamed, under a lock, so that two that start at the same time have the same
 * key, and one that is killed leaves the old file or the new one.
 */
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/random.h"
#include "io/file.h"
#include "private.h"

#define KEY_FILE        "vault.key"
#define LOCK_FILE       "vault.lock"
#define CREDENTIAL_FILE "cardea.key"

/* Comments and line ends too. */
enum { KEYS_MAX = LIMIT_VAULT_KEYS * FERNET_KEY, TEXT_MAX = 16 * 1024 };

/* Everybody knows these: the identity of each, as vault_key_id() has it. */
static const char *const published[] = {
    "7ff6515f9680d2c7", /* of the specification's own examples */
};

static void write_id(const unsigned char *key, char id[static VAULT_KEY_ID + 1]) {
    static const unsigned char label[] = "cardea key id";
    unsigned char tag[32] = {0};
    unsigned len = sizeof tag;
    (void)!HMAC(EVP_sha256(), key, FERNET_KEY, label, sizeof label - 1, tag, &len);
    for (size_t i = 0; i < VAULT_KEY_ID / 2; i++)
        snprintf(id + 2 * i, 3, "%02x", tag[i]);
}

static bool is_known_to_all(const unsigned char *key) {
    char id[VAULT_KEY_ID + 1];
    bool is_one_byte = true;
    for (size_t i = 1; i < FERNET_KEY; i++)
        is_one_byte = is_one_byte && key[i] == key[0];
    write_id(key, id);
    for (size_t i = 0; i < ARRAY_LEN(published); i++) {
        if (strcmp(id, published[i]) == 0)
            return true;
    }
    return is_one_byte;
}

/* --- reading --- */

struct reading {
    const char *where; /* for people: "CARDEA_ENCRYPTION_KEY", a path */
    struct buf keys;   /* FERNET_KEY bytes each */
    struct buf *reason;
};

static int refuse(struct reading *reading, const char *what, size_t number) {
    buf_printf(reading->reason, "key %zu of %s %s; cardea key new makes one", number,
               reading->where, what);
    return VAULT_E_KEY;
}

static bool has_key(const struct reading *reading, const unsigned char *key) {
    struct slice keys = buf_slice(&reading->keys);
    bool has = false;
    for (size_t i = 0; i < keys.len; i += FERNET_KEY)
        has = has || CRYPTO_memcmp(keys.ptr + i, key, FERNET_KEY) == 0;
    return has;
}

static int add_key(struct reading *reading, struct slice text) {
    unsigned char key[FERNET_KEY] = {0};
    size_t number = buf_len(&reading->keys) / FERNET_KEY + 1;
    int error = 0;
    if (fernet_key_read(text, key) != 0)
        error =
            refuse(reading, "is no key: it has to be 32 bytes as base64url, 44 characters", number);
    else if (is_known_to_all(key))
        error = refuse(reading, "is one that everybody knows", number);
    else if (number > LIMIT_VAULT_KEYS)
        error = refuse(reading, "is one too many", number);
    else if (!has_key(reading, key))
        error = buf_append(&reading->keys, slice_make(key, sizeof key));
    secret_wipe(key, sizeof key);
    return error;
}

static bool is_between(char c) {
    return c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Keys with commas, spaces or line ends between them; a line that begins with # is a comment. */
static int read_keys(struct reading *reading, struct slice text) {
    int error = 0;
    for (size_t i = 0; i < text.len && error == 0;) {
        size_t from = i;
        if (text.ptr[i] == '#' && (i == 0 || text.ptr[i - 1] == '\n')) {
            while (i < text.len && text.ptr[i] != '\n')
                i++;
            continue;
        }
        while (i < text.len && !is_between(text.ptr[i]))
            i++;
        if (i > from)
            error = add_key(reading, slice_sub(text, from, i));
        else
            i++;
    }
    if (error == 0 && buf_len(&reading->keys) == 0) {
        buf_printf(reading->reason, "%s is empty: give it a key, or take it away", reading->where);
        return VAULT_E_KEY;
    }
    return error;
}

static int make_vault(struct reading *reading, enum vault_source source, struct vault **ret_vault) {
    struct vault *vault = mem_alloc(sizeof *vault);
    if (vault == NULL)
        return -ENOMEM;
    vault->source = source;
    vault->n_keys = buf_len(&reading->keys) / FERNET_KEY;
    int error = secret_new(buf_slice(&reading->keys), &vault->keys);
    if (error == 0)
        *ret_vault = vault;
    else
        mem_free(vault);
    return error;
}

static int read_text(struct slice text, const char *where, enum vault_source source,
                     struct vault **ret_vault, struct buf *reason) {
    struct reading reading = {.where = where, .keys = BUF_INIT(KEYS_MAX), .reason = reason};
    int error = buf_reserve(&reading.keys, KEYS_MAX) == NULL ? -ENOMEM : read_keys(&reading, text);
    if (error == 0)
        error = make_vault(&reading, source, ret_vault);
    secret_buf_deinit(&reading.keys);
    return error;
}

/* --- files --- */

int vault_join(struct buf *path, const char *dir, const char *name) {
    buf_init(path, PATH_MAX);
    buf_append_cstr(path, dir);
    buf_append_byte(path, '/');
    buf_append_cstr(path, name);
    return buf_append_byte(path, '\0') == -E2BIG ? -ENAMETOOLONG : buf_error(path);
}

/*
 * systemd gives a service its credentials by an access list, which the bits of the group stand for:
 * those of a credential say nothing.
 */
static int check_closed(const char *path, enum vault_source source, const struct stat *info,
                        struct buf *reason) {
    mode_t open = source == VAULT_CREDENTIAL ? S_IRWXO : S_IRWXG | S_IRWXO;
    if ((info->st_mode & open) != 0) {
        buf_printf(reason,
                   "other accounts may use %s, and so read every secret that is kept; close it: "
                   "chmod 600 %s",
                   path, path);
        return VAULT_E_OPEN;
    }
    if (info->st_uid != geteuid() && info->st_uid != 0) {
        buf_printf(reason,
                   "%s belongs to another account, which could put another key there; make it "
                   "yours: chown %u %s",
                   path, (unsigned)geteuid(), path);
        return VAULT_E_OPEN;
    }
    return 0;
}

static int read_file(const char *path, enum vault_source source, struct vault **ret_vault,
                     struct buf *reason) {
    struct stat info;
    struct buf text CLEANUP(secret_buf_deinit) = BUF_INIT(TEXT_MAX);
    int error = io_file_read_regular(path, &text, &info);
    if (error == -ENOENT || error == -ENOMEM)
        return error;
    if (error != 0) {
        buf_printf(reason, "%s cannot be read: %s", path,
                   error == -EINVAL ? "it is no regular file" : strerror(-error));
        return error;
    }
    error = check_closed(path, source, &info, reason);
    return error == 0 ? read_text(buf_slice(&text), path, source, ret_vault, reason) : error;
}

int vault_lock(const char *data_dir, int *ret_fd, struct buf *reason) {
    struct buf path CLEANUP(buf_deinit) = BUF_INIT(0);
    int error = vault_join(&path, data_dir, LOCK_FILE);
    if (error == 0)
        error = io_lock_file_wait(buf_slice(&path).ptr, ret_fd);
    if (error != 0 && error != -ENOMEM)
        buf_printf(reason, "%s/%s cannot be locked: %s", data_dir, LOCK_FILE, strerror(-error));
    return error;
}

int vault_make_key(struct buf *out) {
    unsigned char key[FERNET_KEY];
    random_bytes(key, sizeof key);
    base64url_encode(out, slice_make(key, sizeof key));
    secret_wipe(key, sizeof key);
    return buf_append_byte(out, '=');
}

/* Puts the keys of `vault` from the first to the last, behind a new one if there is to be one, into
 * the file. NULL: the new one alone. */
static int write_file(const char *path, bool adds, const struct vault *vault, size_t n_keys,
                      struct buf *reason) {
    struct buf text CLEANUP(secret_buf_deinit) = BUF_INIT(TEXT_MAX);
    if (buf_reserve(&text, TEXT_MAX) == NULL)
        return buf_error(&text);
    int error = adds ? vault_make_key(&text) : 0;
    if (adds)
        buf_append_byte(&text, '\n');
    for (size_t i = 0; i < n_keys; i++) {
        base64url_encode(&text, slice_make(vault_key(vault, i), FERNET_KEY));
        buf_append_cstr(&text, "=\n");
    }
    if (error == 0)
        error = buf_error(&text);
    if (error == 0)
        error = io_file_put_private(path, buf_slice(&text));
    if (error != 0 && error != -ENOMEM)
        buf_printf(reason, "%s cannot be written: %s", path, strerror(-error));
    return error;
}

/* Those who wait for the lock find the key of the one before them. */
static int make_file(const char *data_dir, const char *path, struct vault **ret_vault,
                     struct buf *reason) {
    CLEANUP(io_fd_close) int held = -1;
    int error = vault_lock(data_dir, &held, reason);
    if (error == 0)
        error = read_file(path, VAULT_FILE, ret_vault, reason);
    if (error != -ENOENT || held < 0)
        return error;
    error = write_file(path, true, NULL, 0, reason);
    return error == 0 ? read_file(path, VAULT_FILE, ret_vault, reason) : error;
}

static int open_key_file(const struct vault_options *options, struct vault **ret_vault,
                         struct buf *reason) {
    struct buf path CLEANUP(buf_deinit) = BUF_INIT(0);
    int error = vault_join(&path, options->data_dir, KEY_FILE);
    if (error != 0)
        return error;
    const char *name = buf_slice(&path).ptr;
    error = read_file(name, VAULT_FILE, ret_vault, reason);
    if (error == -ENOENT && options->make)
        error = make_file(options->data_dir, name, ret_vault, reason);
    if (error == -ENOENT && buf_len(reason) == 0)
        buf_printf(reason,
                   "there is no key: CARDEA_ENCRYPTION_KEY is not set, and there is no %s (it is "
                   "made at the first start)",
                   name);
    return error;
}

/* -ENOENT: there is none. */
static int open_credential(const char *dir, struct vault **ret_vault, struct buf *reason) {
    struct buf path CLEANUP(buf_deinit) = BUF_INIT(0);
    if (dir == NULL || dir[0] == '\0')
        return -ENOENT;
    int error = vault_join(&path, dir, CREDENTIAL_FILE);
    return error == 0 ? read_file(buf_slice(&path).ptr, VAULT_CREDENTIAL, ret_vault, reason)
                      : error;
}

/* --- public --- */

int vault_open(const struct vault_options *options, struct vault **ret_vault, struct buf *reason) {
    if (options->environment != NULL)
        return read_text(secret_reveal(options->environment), "CARDEA_ENCRYPTION_KEY",
                         VAULT_ENVIRONMENT, ret_vault, reason);
    int error = open_credential(options->credentials_dir, ret_vault, reason);
    return error == -ENOENT ? open_key_file(options, ret_vault, reason) : error;
}

struct vault *vault_free(struct vault *vault) {
    if (vault != NULL)
        secret_free(vault->keys);
    mem_free(vault);
    return NULL;
}

void vault_freep(struct vault **vault) {
    *vault = vault_free(*vault);
}

enum vault_source vault_source(const struct vault *vault) {
    return vault->source;
}

const char *vault_source_name(enum vault_source source) {
    switch (source) {
    case VAULT_ENVIRONMENT:
        return "CARDEA_ENCRYPTION_KEY";
    case VAULT_CREDENTIAL:
        return "$CREDENTIALS_DIRECTORY/cardea.key";
    case VAULT_FILE:
        return "vault.key in the data directory";
    }
    return "";
}

size_t vault_count_keys(const struct vault *vault) {
    return vault->n_keys;
}

void vault_key_id(const struct vault *vault, size_t i, char id[static VAULT_KEY_ID + 1]) {
    write_id(vault_key(vault, i), id);
}

/* The file as it is, for whoever holds the lock. */
static int open_locked(const char *data_dir, struct buf *path, struct vault **ret_vault,
                       struct buf *reason) {
    int error = vault_join(path, data_dir, KEY_FILE);
    if (error == 0)
        error = read_file(buf_slice(path).ptr, VAULT_FILE, ret_vault, reason);
    if (error != -ENOENT)
        return error;
    buf_printf(reason, "there is no %s", buf_slice(path).ptr);
    return VAULT_E_NONE;
}

int vault_add_key(const char *data_dir, struct buf *reason) {
    struct buf path CLEANUP(buf_deinit) = BUF_INIT(0);
    struct vault *vault CLEANUP(vault_freep) = NULL;
    CLEANUP(io_fd_close) int held = -1;
    int error = vault_lock(data_dir, &held, reason);
    if (error == 0)
        error = open_locked(data_dir, &path, &vault, reason);
    if (error != 0)
        return error;
    if (vault->n_keys == LIMIT_VAULT_KEYS) {
        buf_printf(reason, "%s has as many keys as it may have", buf_slice(&path).ptr);
        return VAULT_E_KEY;
    }
    return write_file(buf_slice(&path).ptr, true, vault, vault->n_keys, reason);
}

int vault_drop_old_keys(const struct vault *vault, const char *data_dir, struct buf *reason) {
    struct buf path CLEANUP(buf_deinit) = BUF_INIT(0);
    struct vault *now CLEANUP(vault_freep) = NULL;
    CLEANUP(io_fd_close) int held = -1;
    int error = vault_lock(data_dir, &held, reason);
    if (error == 0)
        error = open_locked(data_dir, &path, &now, reason);
    if (error != 0)
        return error;
    if (CRYPTO_memcmp(vault_key(now, 0), vault_key(vault, 0), FERNET_KEY) != 0) {
        buf_printf(reason, "%s has got another key in the meantime", buf_slice(&path).ptr);
        return VAULT_E_STALE;
    }
    return now->n_keys > 1 ? write_file(buf_slice(&path).ptr, false, now, 1, reason) : 0;
}
