#include "serving_keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "sealed_files.h"

/* --- private files --- */

/* A full disk or one that can only be read is no reason for not serving: they stay as they are, and
 * the next start tries again. */
static int seal_files(const struct serving_keys *keys, struct log *log) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    struct vault_files_done done;
    int error =
        vault_seal_files(&keys->place.options, cli_sealed_files, CLI_SEALED_FILES, &done, &reason);
    if (done.n_plain != 0)
        log_write(log, LOG_INFO, "vault", "private keys that were in plain are encrypted now",
                  LOG_NUM("files", done.n_plain));
    if (done.n_resealed != 0)
        log_write(log, LOG_INFO, "vault",
                  "private keys that were under older keys are under the first one now",
                  LOG_NUM("files", done.n_resealed));
    if (error > 0)
        return cli_store_failed("cannot use the private keys", &reason);
    if (error < 0)
        log_write(log, LOG_ERROR, "vault", "private keys stay as they are, maybe in plain",
                  LOG_TEXT("reason", buf_len(&reason) != 0 ? buf_slice(&reason)
                                                           : slice_from_cstr(strerror(-error))));
    return CLI_OK;
}

/* --- the cluster's key --- */

struct asking {
    const struct vault *vault;
    struct secret *key;
    char current[VAULT_KEY_ID + 1];
};

static int read_key(struct store_tx *tx, void *context) {
    struct asking *asking = context;
    asking->key = secret_free(asking->key);
    int error = vault_current_key(tx, asking->current);
    return error == 0 ? vault_cluster_key(tx, asking->vault, &asking->key) : error;
}

static int make_key(struct store_tx *tx, void *context) {
    struct asking *asking = context;
    asking->key = secret_free(asking->key);
    return vault_make_cluster_key(tx, asking->vault, &asking->key);
}

static int fail(int error, const char *current) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    switch (error) {
    case VAULT_E_TOKEN:
    case VAULT_E_STALE:
        buf_printf(&reason,
                   "it is under the key %s, which is not here (cardea key list shows those that "
                   "are): give CARDEA_ENCRYPTION_KEY, or the key file, that key too; when it is "
                   "lost, delete the secrets that it has locked (cardea secret list), and run: "
                   "cardea key rotate --force",
                   current);
        break;
    case VAULT_E_MOVED:
        buf_append_cstr(&reason,
                        "what the store has in its place belongs to something else: somebody has "
                        "changed the store; a new one is made after: cardea key rotate --force");
        break;
    case STORE_E_GONE:
        buf_append_cstr(&reason, "the store does not answer");
        break;
    default:
        buf_append_cstr(&reason, error < 0 ? strerror(-error) : "the store refused it");
    }
    return cli_store_failed("cannot use the key of the cluster", &reason);
}

/* A rotation may change the keys between the opening and the reading: once more, then. */
static int load_cluster_key(const struct cli_options *options, struct store *store,
                            struct serving_keys *keys) {
    struct asking asking = {.vault = NULL};
    int error = VAULT_E_STALE;
    for (int i = 0; i < 3 && (error == VAULT_E_STALE || error == VAULT_E_TOKEN); i++) {
        CLEANUP(vault_freep) struct vault *vault = NULL;
        int result = cli_open_writing_vault(options, store, false, &vault);
        if (result != CLI_OK)
            return result;
        asking.vault = vault;
        error = store_run(store, STORE_READ, read_key, &asking);
        if (error == VAULT_E_NONE)
            error = store_run(store, STORE_WRITE, make_key, &asking);
    }
    if (error != 0) {
        secret_free(asking.key);
        return fail(error, asking.current);
    }
    keys->cluster = asking.key;
    return CLI_OK;
}

int serving_keys_start(const struct cli_options *options, const char *data_dir, struct store *store,
                       struct log *log, struct serving_keys *keys) {
    CLEANUP(vault_freep) struct vault *vault = NULL;
    keys->place.options = cli_vault_options(options, data_dir);
    keys->sealing = vault_sealing(&keys->place);
    int result = cli_open_writing_vault(options, store, false, &vault);
    if (result == CLI_OK)
        result = seal_files(keys, log);
    return result == CLI_OK ? load_cluster_key(options, store, keys) : result;
}

void serving_keys_end(struct serving_keys *keys) {
    keys->cluster = secret_free(keys->cluster);
}
