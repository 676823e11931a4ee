/*
 * Secrets by name: rows of the table `sealed` of the kind "secret". The row "key/current" says by
 * its name which key they are under. Whoever writes reads it first and then holds on to it by an
 * update that changes nothing: a rotation, which changes it, comes before or after, never between.
 */
#include <errno.h>
#include <string.h>

#include "private.h"

#define KIND SLICE("secret")

static const char select_current[] =
    "SELECT token FROM sealed WHERE kind = 'key' AND name = 'current'";

static bool is_name_byte(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

bool vault_name_is_fine(struct slice name) {
    enum { LONGEST = 64 };
    bool is_fine = name.len >= 1 && name.len <= LONGEST;
    for (size_t i = 0; i < name.len && is_fine; i++)
        is_fine = is_name_byte(name.ptr[i]);
    return is_fine;
}

int sealed_owner(struct buf *out, struct slice kind, struct slice name) {
    buf_append(out, kind);
    buf_append_byte(out, '/');
    return buf_append(out, name);
}

/* --- the current key --- */

int vault_current_key(struct store_tx *tx, char ret_id[static VAULT_KEY_ID + 1]) {
    struct store_rows *rows = NULL;
    char id[VAULT_KEY_ID + 1] = "";
    int error = store_query(tx, select_current, NULL, 0, &rows);
    if (error == 0 && store_rows_next(rows))
        (void)!slice_to_cstr(store_rows_text(rows, 0), id, sizeof id);
    int end = store_rows_end(rows);
    error = error != 0 ? error : end;
    if (error == 0)
        memcpy(ret_id, id, sizeof id);
    return error;
}

int vault_is_empty(struct store_tx *tx, bool forgets, bool *ret_empty) {
    static const char all[] = "SELECT kind FROM sealed WHERE kind <> 'key' LIMIT 1";
    static const char what_cannot_be_made[] =
        "SELECT kind FROM sealed WHERE kind <> 'key' AND kind <> 'cluster' LIMIT 1";
    struct store_rows *rows = NULL;
    int error = store_query(tx, forgets ? what_cannot_be_made : all, NULL, 0, &rows);
    bool is_empty = error != 0 || !store_rows_next(rows);
    int end = store_rows_end(rows);
    error = error != 0 ? error : end;
    if (error == 0)
        *ret_empty = is_empty;
    return error;
}

static bool find_key(const struct vault *vault, const char *id, size_t *ret_key) {
    char own[VAULT_KEY_ID + 1];
    for (size_t i = 0; i < vault->n_keys; i++) {
        vault_key_id(vault, i, own);
        if (strcmp(own, id) == 0) {
            *ret_key = i;
            return true;
        }
    }
    return false;
}

static int take_first_place(struct store_tx *tx, const struct vault *vault) {
    static const char sql[] =
        "INSERT INTO sealed (kind, name, token, created_ms, updated_ms)"
        " VALUES ('key', 'current', $1, $2, $3) ON CONFLICT (kind, name) DO NOTHING";
    char id[VAULT_KEY_ID + 1];
    uint64_t now_ms;
    vault_key_id(vault, 0, id);
    int error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    struct store_value now = store_number((int64_t)now_ms);
    return store_exec(tx, sql, STORE_VALUES(store_text(slice_from_cstr(id)), now, now), NULL);
}

int sealed_hold_key(struct store_tx *tx, const struct vault *vault, size_t *ret_key) {
    static const char hold[] = "UPDATE sealed SET token = token"
                               " WHERE kind = 'key' AND name = 'current' AND token = $1";
    enum { TRIES = 3 }; /* it was not there, it was changed in between */
    for (int i = 0; i < TRIES; i++) {
        char id[VAULT_KEY_ID + 1];
        uint64_t n_held = 0;
        size_t key = 0;
        int error = vault_current_key(tx, id);
        if (error == 0 && id[0] == '\0') {
            error = take_first_place(tx, vault);
            if (error == 0)
                continue;
        }
        if (error == 0 && !find_key(vault, id, &key))
            error = VAULT_E_STALE;
        if (error == 0)
            error = store_exec(tx, hold, STORE_VALUES(store_text(slice_from_cstr(id))), &n_held);
        if (error != 0)
            return error;
        if (n_held == 1) {
            *ret_key = key;
            return 0;
        }
    }
    return VAULT_E_STALE;
}

/* --- secrets --- */

int vault_put(struct store_tx *tx, const struct vault *vault, struct slice name,
              struct slice plain) {
    static const char sql[] =
        "INSERT INTO sealed (kind, name, token, created_ms, updated_ms)"
        " VALUES ('secret', $1, $2, $3, $4) ON CONFLICT (kind, name)"
        " DO UPDATE SET token = excluded.token, updated_ms = excluded.updated_ms";
    struct buf owner CLEANUP(buf_deinit) = BUF_INIT(256);
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(SEALED_MAX);
    size_t key = 0;
    uint64_t now_ms = 0;
    if (!vault_name_is_fine(name))
        return -EINVAL;
    int error = sealed_hold_key(tx, vault, &key);
    if (error == 0)
        error = store_now_ms(tx, &now_ms);
    if (error == 0)
        error = sealed_owner(&owner, KIND, name);
    if (error == 0)
        error = seal_under(vault, key, now_ms / 1000, buf_slice(&owner), plain, &token);
    if (error != 0)
        return error;
    struct store_value now = store_number((int64_t)now_ms);
    return store_exec(
        tx, sql, STORE_VALUES(store_text(name), store_text(buf_slice(&token)), now, now), NULL);
}

static int unseal_row(const struct vault *vault, struct slice name, struct slice token,
                      struct secret **ret_plain, size_t *ret_key) {
    struct buf owner CLEANUP(buf_deinit) = BUF_INIT(256);
    int error = sealed_owner(&owner, KIND, name);
    return error == 0 ? vault_unseal(vault, buf_slice(&owner), token, ret_plain, ret_key) : error;
}

int vault_get(struct store_tx *tx, const struct vault *vault, struct slice name,
              struct secret **ret_plain) {
    static const char sql[] = "SELECT token FROM sealed WHERE kind = 'secret' AND name = $1";
    struct secret *plain CLEANUP(secret_freep) = NULL;
    struct store_rows *rows = NULL;
    if (!vault_name_is_fine(name))
        return VAULT_E_NONE;
    int error = store_query(tx, sql, STORE_VALUES(store_text(name)), &rows);
    if (error == 0)
        error = store_rows_next(rows)
                    ? unseal_row(vault, name, store_rows_text(rows, 0), &plain, NULL)
                    : VAULT_E_NONE;
    int end = store_rows_end(rows);
    if (end != 0)
        return end;
    if (error == 0)
        *ret_plain = TAKE(plain);
    return error;
}

int vault_has(struct store_tx *tx, struct slice name, bool *ret_has) {
    static const char sql[] = "SELECT name FROM sealed WHERE kind = 'secret' AND name = $1";
    struct store_rows *rows = NULL;
    int error = store_query(tx, sql, STORE_VALUES(store_text(name)), &rows);
    bool has = error == 0 && store_rows_next(rows);
    int end = store_rows_end(rows);
    error = error != 0 ? error : end;
    if (error == 0)
        *ret_has = has;
    return error;
}

int vault_delete(struct store_tx *tx, struct slice name) {
    static const char sql[] = "DELETE FROM sealed WHERE kind = 'secret' AND name = $1";
    uint64_t n_deleted = 0;
    int error = store_exec(tx, sql, STORE_VALUES(store_text(name)), &n_deleted);
    return error == 0 && n_deleted == 0 ? VAULT_E_NONE : error;
}

/* Opening it says more than looking at its signature: it may be another row's. */
static int list_row(const struct store_rows *rows, const struct vault *vault, vault_listed_fn *fn,
                    void *context) {
    struct secret *plain CLEANUP(secret_freep) = NULL;
    struct vault_listed listed = {
        .name = store_rows_text(rows, 0),
        .created_ms = (uint64_t)store_rows_number(rows, 2),
        .updated_ms = (uint64_t)store_rows_number(rows, 3),
    };
    size_t key = 0;
    int error = VAULT_E_TOKEN;
    if (vault != NULL)
        error = unseal_row(vault, listed.name, store_rows_text(rows, 1), &plain, &key);
    if (error == 0)
        vault_key_id(vault, key, listed.key);
    else if (error != VAULT_E_TOKEN && error != VAULT_E_MOVED)
        return error;
    fn(context, &listed);
    return 0;
}

int vault_list(struct store_tx *tx, const struct vault *vault, vault_listed_fn *fn, void *context) {
    static const char sql[] = "SELECT name, token, created_ms, updated_ms FROM sealed"
                              " WHERE kind = 'secret' ORDER BY name";
    struct store_rows *rows = NULL;
    int error = store_query(tx, sql, NULL, 0, &rows);
    while (error == 0 && store_rows_next(rows))
        error = list_row(rows, vault, fn, context);
    int end = store_rows_end(rows);
    return error != 0 ? error : end;
}
