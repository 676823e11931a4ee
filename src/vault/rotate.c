/*
 * Rotation in the store. First the row "key/current" names the new key: from then on nobody writes
 * under an older one (secrets.c). Then one pass over all rows, in the order of their names, finds
 * whatever is under others. A transaction of the pass changes some rows and fails if the key is not
 * current any more: another rotation goes on, which has more keys than this one.
 */
#include <errno.h>

#include "base/arena.h"
#include "base/limits.h"
#include "private.h"

enum { BATCH = 16 };

struct row {
    struct slice kind, name, token;
};

struct pass {
    const struct vault *vault;
    bool forgets;
    /* What it begins behind; of the pass. */
    struct slice kind, name;
    /* What one transaction found. */
    struct arena *arena;
    struct row rows[BATCH];
    size_t n_rows;
    struct vault_resealed found;
};

/*
 * From a key that this vault has: else it is one of an older file, and another rotation was faster.
 * Where there are no secrets there is nothing to lose: a key that was lost can be left behind so.
 */
static int set_current(struct store_tx *tx, void *context) {
    static const char sql[] = "UPDATE sealed SET token = $1, updated_ms = $2"
                              " WHERE kind = 'key' AND name = 'current' AND token = $3";
    const struct pass *pass = context;
    char old[VAULT_KEY_ID + 1], new[VAULT_KEY_ID + 1];
    uint64_t now_ms = 0, n_changed = 0;
    bool is_fine = false, is_empty = false;
    size_t key = 0;
    int error = vault_current_key(tx, old);
    if (error != 0)
        return error;
    if (old[0] == '\0')
        return sealed_hold_key(tx, pass->vault, &key); /* the first one becomes it */
    for (size_t i = 0; i < vault_count_keys(pass->vault) && !is_fine; i++) {
        vault_key_id(pass->vault, i, new);
        is_fine = slice_eq(slice_from_cstr(new), slice_from_cstr(old));
    }
    if (!is_fine)
        error = vault_is_empty(tx, pass->forgets, &is_empty);
    if (error == 0 && !is_fine && !is_empty)
        error = VAULT_E_STALE;
    if (error == 0)
        error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    vault_key_id(pass->vault, 0, new);
    error = store_exec(tx, sql,
                       STORE_VALUES(store_text(slice_from_cstr(new)), store_number((int64_t)now_ms),
                                    store_text(slice_from_cstr(old))),
                       &n_changed);
    return error == 0 && n_changed == 0 ? VAULT_E_STALE : error;
}

static int read_rows(struct store_tx *tx, struct pass *pass) {
    static const char sql[] = "SELECT kind, name, token FROM sealed"
                              " WHERE kind <> 'key' AND (kind > $1 OR (kind = $1 AND name > $2))"
                              " ORDER BY kind, name LIMIT 16";
    struct store_rows *rows = NULL;
    int error =
        store_query(tx, sql, STORE_VALUES(store_text(pass->kind), store_text(pass->name)), &rows);
    while (error == 0 && pass->n_rows < BATCH && store_rows_next(rows)) {
        struct row *row = &pass->rows[pass->n_rows++];
        row->kind = arena_dup(pass->arena, store_rows_text(rows, 0));
        row->name = arena_dup(pass->arena, store_rows_text(rows, 1));
        row->token = arena_dup(pass->arena, store_rows_text(rows, 2));
        if (row->kind.ptr == NULL || row->name.ptr == NULL || row->token.ptr == NULL)
            error = -ENOMEM;
    }
    int end = store_rows_end(rows);
    return error != 0 ? error : end;
}

static bool is_cluster(const struct row *row) {
    return slice_eq(row->kind, SLICE("cluster"));
}

static int forget(struct store_tx *tx, const struct row *row) {
    static const char sql[] = "DELETE FROM sealed WHERE kind = $1 AND name = $2 AND token = $3";
    return store_exec(
        tx, sql, STORE_VALUES(store_text(row->kind), store_text(row->name), store_text(row->token)),
        NULL);
}

/* No key opens it. */
static int leave_row(struct store_tx *tx, struct pass *pass, const struct row *row) {
    if (is_cluster(row) && pass->forgets)
        return forget(tx, row);
    if (is_cluster(row))
        pass->found.is_cluster_left = true;
    else
        pass->found.n_left++;
    return 0;
}

static int replace_row(struct store_tx *tx, struct pass *pass, const struct row *row,
                       struct slice token) {
    static const char sql[] = "UPDATE sealed SET token = $1"
                              " WHERE kind = $2 AND name = $3 AND token = $4";
    uint64_t n_changed = 0;
    /* Somebody else's newer value is under the current key already. */
    int error = store_exec(tx, sql,
                           STORE_VALUES(store_text(token), store_text(row->kind),
                                        store_text(row->name), store_text(row->token)),
                           &n_changed);
    if (!is_cluster(row))
        pass->found.n_done += n_changed;
    return error;
}

static int reseal_row(struct store_tx *tx, struct pass *pass, const struct row *row,
                      uint64_t now_ms) {
    struct buf owner CLEANUP(buf_deinit) = BUF_INIT(512);
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(SEALED_MAX);
    struct secret *plain CLEANUP(secret_freep) = NULL;
    size_t key = 0;
    int error = sealed_owner(&owner, row->kind, row->name);
    if (error == 0)
        error = vault_unseal(pass->vault, buf_slice(&owner), row->token, &plain, &key);
    if (error == VAULT_E_TOKEN || error == VAULT_E_MOVED)
        return leave_row(tx, pass, row);
    if (error != 0 || key == 0)
        return error;
    error =
        seal_under(pass->vault, 0, now_ms / 1000, buf_slice(&owner), secret_reveal(plain), &token);
    return error == 0 ? replace_row(tx, pass, row, buf_slice(&token)) : error;
}

/* May be run again: all that it leaves behind is set anew. */
static int reseal_some(struct store_tx *tx, void *context) {
    struct pass *pass = context;
    size_t current = 0;
    uint64_t now_ms = 0;
    arena_reset(pass->arena);
    pass->n_rows = 0;
    pass->found = (struct vault_resealed){.n_done = 0};
    int error = sealed_hold_key(tx, pass->vault, &current);
    if (error == 0 && current != 0)
        error = VAULT_E_STALE;
    if (error == 0)
        error = store_now_ms(tx, &now_ms);
    if (error == 0)
        error = read_rows(tx, pass);
    for (size_t i = 0; i < pass->n_rows && error == 0; i++)
        error = reseal_row(tx, pass, &pass->rows[i], now_ms);
    return error;
}

int vault_reseal(struct store *store, const struct vault *vault, bool forgets,
                 struct vault_resealed *ret_resealed) {
    struct arena batch CLEANUP(arena_deinit) = ARENA_INIT(MIB(8));
    struct arena place CLEANUP(arena_deinit) = ARENA_INIT(KIB(64));
    struct pass pass = {.vault = vault,
                        .forgets = forgets,
                        .kind = SLICE_EMPTY,
                        .name = SLICE_EMPTY,
                        .arena = &batch};
    struct vault_resealed all = {.n_done = 0};
    int error = store_run(store, STORE_WRITE, set_current, &pass);
    do {
        if (error == 0)
            error = store_run(store, STORE_WRITE, reseal_some, &pass);
        if (error != 0)
            return error;
        all.n_done += pass.found.n_done;
        all.n_left += pass.found.n_left;
        all.is_cluster_left = all.is_cluster_left || pass.found.is_cluster_left;
        if (pass.n_rows != 0) {
            arena_reset(&place);
            pass.kind = arena_dup(&place, pass.rows[pass.n_rows - 1].kind);
            pass.name = arena_dup(&place, pass.rows[pass.n_rows - 1].name);
            if (pass.kind.ptr == NULL || pass.name.ptr == NULL)
                return -ENOMEM;
        }
    } while (pass.n_rows == BATCH);
    *ret_resealed = all;
    return 0;
}
