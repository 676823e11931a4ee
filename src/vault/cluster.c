/*
 * The key of the cluster: the row "cluster/key". Who finds none makes one, and takes what is there
 * then, so that of several that start at once all have the same.
 */
#include "base/random.h"
#include "private.h"

#define OWNER SLICE("cluster/key")

int vault_cluster_key(struct store_tx *tx, const struct vault *vault, struct secret **ret_key) {
    static const char sql[] = "SELECT token FROM sealed WHERE kind = 'cluster' AND name = 'key'";
    struct secret *key CLEANUP(secret_freep) = NULL;
    struct store_rows *rows = NULL;
    int error = store_query(tx, sql, NULL, 0, &rows);
    if (error == 0)
        error = store_rows_next(rows)
                    ? vault_unseal(vault, OWNER, store_rows_text(rows, 0), &key, NULL)
                    : VAULT_E_NONE;
    int end = store_rows_end(rows);
    if (end != 0)
        return end;
    if (error == 0 && secret_reveal(key).len != VAULT_CLUSTER_KEY) /* to see how long it is */
        error = VAULT_E_TOKEN;
    if (error == 0)
        *ret_key = TAKE(key);
    return error;
}

static int insert(struct store_tx *tx, const struct vault *vault) {
    static const char sql[] = "INSERT INTO sealed (kind, name, token, created_ms, updated_ms)"
                              " VALUES ('cluster', 'key', $1, $2, $3)"
                              " ON CONFLICT (kind, name) DO NOTHING";
    unsigned char bytes[VAULT_CLUSTER_KEY];
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(512);
    size_t key = 0;
    uint64_t now_ms = 0;
    int error = sealed_hold_key(tx, vault, &key);
    if (error == 0)
        error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    random_bytes(bytes, sizeof bytes);
    error = seal_under(vault, key, now_ms / 1000, OWNER, slice_make(bytes, sizeof bytes), &token);
    secret_wipe(bytes, sizeof bytes);
    if (error != 0)
        return error;
    struct store_value now = store_number((int64_t)now_ms);
    return store_exec(tx, sql, STORE_VALUES(store_text(buf_slice(&token)), now, now), NULL);
}

int vault_make_cluster_key(struct store_tx *tx, const struct vault *vault,
                           struct secret **ret_key) {
    int error = vault_cluster_key(tx, vault, ret_key);
    if (error != VAULT_E_NONE)
        return error;
    error = insert(tx, vault);
    return error == 0 ? vault_cluster_key(tx, vault, ret_key) : error;
}
