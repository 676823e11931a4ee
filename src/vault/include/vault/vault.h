/*
 * Secrets at rest. Each is a Fernet token (the published format: version 0x80, time, IV,
 * AES-128-CBC, HMAC-SHA256; readable by others who have the key) under one of the vault's keys; the
 * first one encrypts, all decrypt. What is encrypted begins with what the secret belongs to, so
 * that a token that was moved to another row is refused.
 *
 * What is in the store is encrypted with one key at a time, whatever keys who writes has: the store
 * has a row with the name of that key, and every write holds on to it. vault_reseal() sets it, then
 * seals anew what is under others. So nobody can write under a key that is about to be dropped.
 *
 * Keys come from CARDEA_ENCRYPTION_KEY (one or several, separated by commas: the first encrypts),
 * from $CREDENTIALS_DIRECTORY/cardea.key (systemd), or from a file in the data directory, made with
 * mode 0600 at the first start. Whoever uses a secret records that, not the vault.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/sealing.h"
#include "base/secret.h"
#include "base/slice.h"
#include "store/store.h"

/* --- Fernet (vault/fernet.c): keys are 32 bytes --- */

enum { FERNET_KEY = 32 };
/* A key as base64url of 32 bytes, with or without padding. -EINVAL. */
MUST_CHECK int fernet_key_read(struct slice text, unsigned char ret_key[FERNET_KEY]);
/* Appends the token, with padding. `iv`: 16 bytes, NULL: random. */
MUST_CHECK int fernet_seal(const unsigned char key[FERNET_KEY], uint64_t now_s,
                           const unsigned char *iv, struct slice plain, struct buf *out);
/* Appends what is in it; constant time in the key. FERNET_E_TOKEN: malformed, or of another key.
 * *ret_time_s (may be NULL): when it was made. */
enum { FERNET_E_TOKEN = 1 };
MUST_CHECK int fernet_open(const unsigned char key[FERNET_KEY], struct slice token,
                           uint64_t *ret_time_s, struct buf *out);

/* --- keys --- */

struct vault; /* the keys; immutable, any thread */

enum vault_source { VAULT_ENVIRONMENT, VAULT_CREDENTIAL, VAULT_FILE };
struct vault_options {
    const char *data_dir;
    const struct secret *environment; /* the value of CARDEA_ENCRYPTION_KEY; NULL: not set */
    const char *credentials_dir;      /* $CREDENTIALS_DIRECTORY; NULL: not set */
    bool make;                        /* a key file, when there is none and nothing else */
};
/* `reason` says what is wrong and what to do. -ENOENT: there is no key. VAULT_E_KEY: what there is
 * is none; VAULT_E_OPEN: others may read the file. */
enum { /* of all functions here; not those of the store, which may come from the same call */
       VAULT_E_KEY = STORE_E_USER + 64,
       VAULT_E_OPEN,
       VAULT_E_TOKEN,
       VAULT_E_MOVED,
       VAULT_E_NONE,
       VAULT_E_STALE, /* the store's secrets are under a key that this vault does not have */
};
MUST_CHECK int vault_open(const struct vault_options *options, struct vault **ret_vault,
                          struct buf *reason);
struct vault *vault_free(struct vault *vault);
void vault_freep(struct vault **vault); /* for CLEANUP() */
enum vault_source vault_source(const struct vault *vault);
/* For people. */
const char *vault_source_name(enum vault_source source);
size_t vault_count_keys(const struct vault *vault);
/* A name for a key that says nothing of it: 16 hexadecimal digits. */
enum { VAULT_KEY_ID = 16 };
void vault_key_id(const struct vault *vault, size_t i, char id[static VAULT_KEY_ID + 1]);
/* Appends a new key as it stands in CARDEA_ENCRYPTION_KEY: 44 characters. */
MUST_CHECK int vault_make_key(struct buf *out);

/* --- sealing --- */

/* Under the first key. `owner`: what it belongs to, such as "secret/github". -E2BIG: longer than
 * LIMIT_SECRET. */
MUST_CHECK int vault_seal(const struct vault *vault, struct slice owner, uint64_t now_s,
                          struct slice plain, struct buf *out);
/* VAULT_E_TOKEN: no key of ours opens it; VAULT_E_MOVED: it belongs to something else. *ret_key
 * (may be NULL): which key it was. */
MUST_CHECK int vault_unseal(const struct vault *vault, struct slice owner, struct slice token,
                            struct secret **ret_plain, size_t *ret_key);

/* --- secrets by name, in the store (vault/secrets.c): of store_work_fn()s --- */

/* 1 to 64 of A-Z a-z 0-9 _ - . */
bool vault_name_is_fine(struct slice name);
/* VAULT_E_STALE: open the vault again, there are new keys. */
MUST_CHECK int vault_put(struct store_tx *tx, const struct vault *vault, struct slice name,
                         struct slice plain);
/* VAULT_E_NONE: there is none. */
MUST_CHECK int vault_get(struct store_tx *tx, const struct vault *vault, struct slice name,
                         struct secret **ret_plain);
MUST_CHECK int vault_delete(struct store_tx *tx, struct slice name);
/* Whether there is one: no key is needed. */
MUST_CHECK int vault_has(struct store_tx *tx, struct slice name, bool *ret_has);
/* The name of the key that the store's secrets are under; "": none was ever written. */
MUST_CHECK int vault_current_key(struct store_tx *tx, char ret_id[static VAULT_KEY_ID + 1]);
/* Nothing is sealed: then a new key does not take the place of one that is missing. `forgets`: the
 * cluster's key does not count, because it can be made anew. */
MUST_CHECK int vault_is_empty(struct store_tx *tx, bool forgets, bool *ret_empty);

struct vault_listed {
    struct slice name; /* of the call alone */
    uint64_t created_ms, updated_ms;
    char key[VAULT_KEY_ID + 1]; /* of the key that it is under; "": no key of ours opens it */
};
typedef void vault_listed_fn(void *context, const struct vault_listed *listed);
MUST_CHECK int vault_list(struct store_tx *tx, const struct vault *vault, vault_listed_fn *fn,
                          void *context);

/* --- the key of the cluster (vault/cluster.c): of a store_work_fn() --- */

/*
 * The same for all gateways on one store, and sealed in it: for texts that come back from clients,
 * to whichever gateway. VAULT_E_NONE: nobody has made it yet.
 */
enum { VAULT_CLUSTER_KEY = 32 };
MUST_CHECK int vault_cluster_key(struct store_tx *tx, const struct vault *vault,
                                 struct secret **ret_key);
/* The same; made where there is none. Of several that do so at once one makes it. */
MUST_CHECK int vault_make_cluster_key(struct store_tx *tx, const struct vault *vault,
                                      struct secret **ret_key);

/* --- files of the data directory (vault/files.c) --- */

/* A private file, which holds a token and behind it a line with the name of its key. */
struct vault_file {
    const char *name; /* below the data directory: "tls/ca.key" */
    const char *path; /* where it lies, if not there; NULL: there */
    bool is_spare;    /* nobody needs it: whoever cannot open it leaves it as it is */
    bool is_strict;   /* in plain, and others may read it: its reader refuses it, so it stays */
    const char *cure; /* what to do when the key that it needs is lost */
};
enum vault_file_state { VAULT_FILE_NONE, VAULT_FILE_PLAIN, VAULT_FILE_SEALED, VAULT_FILE_LOCKED };
/* `id` is the name of the key that it is under; of one that is locked (no key of ours opens it; all
 * of them, when `vault` is NULL) what the file says, or "". -errno. */
MUST_CHECK int vault_look_at_file(const struct vault *vault, const char *data_dir,
                                  const struct vault_file *file, enum vault_file_state *ret_state,
                                  char id[static VAULT_KEY_ID + 1]);

/* Encrypts and opens for those that write such files, each time with the keys as they are then. Any
 * thread. `place` outlives it. */
struct vault_place {
    struct vault_options options;
    bool may_be_plain; /* where there is no key yet: before the first start of a gateway */
};
struct sealing vault_sealing(const struct vault_place *place);

/*
 * Those in plain are sealed, and those under other keys sealed again, under the first key. Each in
 * one step, under the lock that writers and rotation take, too. VAULT_E_TOKEN, VAULT_E_MOVED: one
 * of them cannot be opened; -errno.
 */
struct vault_files_done {
    size_t n_plain, n_resealed;
};
MUST_CHECK int vault_seal_files(const struct vault_options *options, const struct vault_file *files,
                                size_t n_files, struct vault_files_done *ret_done,
                                struct buf *reason);

/* --- rotation (vault/rotate.c) --- */

/*
 * The first key becomes that of the store; then what is under others is sealed again, some rows a
 * transaction: killed at any point, nothing is lost, and the next run goes on. While others read
 * and write. `forgets`: a key of the cluster that no key opens is deleted, to be made anew by the
 * next start. VAULT_E_STALE: another rotation overtook this one.
 */
struct vault_resealed {
    uint64_t n_done, n_left; /* secrets; those that no key opens */
    bool is_cluster_left;    /* no key opens the cluster's */
};
MUST_CHECK int vault_reseal(struct store *store, const struct vault *vault, bool forgets,
                            struct vault_resealed *ret_resealed);
/* Of a vault with a key file: a new key in front (write, sync, rename). VAULT_E_NONE: there is no
 * such file. */
MUST_CHECK int vault_add_key(const char *data_dir, struct buf *reason);
/* Only the first stays, after vault_reseal() left nothing with this vault, and vault_seal_files().
 * VAULT_E_STALE: the file has another first key by now; nothing is dropped. */
MUST_CHECK int vault_drop_old_keys(const struct vault *vault, const char *data_dir,
                                   struct buf *reason);
