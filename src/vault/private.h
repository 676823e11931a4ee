/* What the parts of the vault share. */
#pragma once

#include "base/limits.h"
#include "vault/vault.h"

/* A token of the longest secret. */
enum { SEALED_MAX = LIMIT_SECRET * 2 };

struct vault {
    enum vault_source source;
    struct secret *keys; /* FERNET_KEY bytes each, the one that encrypts first */
    size_t n_keys;
};

static inline const unsigned char *vault_key(const struct vault *vault, size_t i) {
    return (const unsigned char *)secret_reveal(vault->keys).ptr + i * FERNET_KEY;
}

/* "cardea:1:13:secret/github,": what is encrypted begins so. */
MUST_CHECK int seal_begin(struct buf *out, struct slice owner);
/* vault_seal() under the key `i`. */
MUST_CHECK int seal_under(const struct vault *vault, size_t i, uint64_t now_s, struct slice owner,
                          struct slice plain, struct buf *out);

/* "secret/github" */
MUST_CHECK int sealed_owner(struct buf *out, struct slice kind, struct slice name);
/* The index of the key of which the store says that it encrypts; nobody changes that before the
 * transaction ends. The first one takes that place when it is empty. VAULT_E_STALE. */
MUST_CHECK int sealed_hold_key(struct store_tx *tx, const struct vault *vault, size_t *ret_key);

/* DIR/NAME, with a NUL at its end. */
MUST_CHECK int vault_join(struct buf *path, const char *dir, const char *name);
/* Whoever changes keys, or writes a file that is sealed under them, holds it meanwhile. */
MUST_CHECK int vault_lock(const char *data_dir, int *ret_fd, struct buf *reason);
