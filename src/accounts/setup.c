/*
 * The first administrator. There is no account that anybody could take first: until somebody is
 * there, only the holder of a code can make one, who has read it in the gateway's terminal or in a
 * file of its data directory. The code has 256 bits of chance, the store has its SHA-256, and it is
 * used up by whoever comes first.
 */
#include "doors.h"

int accounts_make_setup(struct store_tx *tx, uint64_t lifetime_ms, char code[ACCOUNTS_SECRET + 1]) {
    char made[ACCOUNTS_SECRET + 1], digest[DOORS_DIGEST + 1];
    uint64_t now_ms = 0;
    bool has_users = false;
    int error = accounts_has_users(tx, &has_users);
    if (error == 0)
        error = has_users ? ACCOUNTS_E_EXISTS : store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    doors_make_secret(made);
    doors_digest(slice_from_cstr(made), digest);
    error = store_exec(tx,
                       "INSERT INTO setup (id, digest, expires_ms) VALUES (1, $1, $2)"
                       " ON CONFLICT (id) DO UPDATE SET digest = $1, expires_ms = $2",
                       STORE_VALUES(store_text(slice_from_cstr(digest)),
                                    store_number((int64_t)(now_ms + lifetime_ms))),
                       NULL);
    if (error == 0)
        memcpy(code, made, sizeof made);
    return error;
}

/* 0: this code is good, and is used up with it. */
static int take_code(struct store_tx *tx, struct slice code) {
    struct store_rows *rows = NULL;
    uint64_t now_ms = 0;
    int error = store_now_ms(tx, &now_ms);
    if (error == 0)
        error = store_query(tx, "SELECT digest FROM setup WHERE id = 1 AND expires_ms > $1",
                            STORE_VALUES(store_number((int64_t)now_ms)), &rows);
    if (error != 0)
        return error;
    bool is_it = store_rows_next(rows) && doors_is_digest_of(store_rows_text(rows, 0), code);
    error = store_rows_end(rows);
    if (error != 0)
        return error;
    return is_it ? store_exec(tx, "DELETE FROM setup WHERE id = 1", NULL, 0, NULL)
                 : ACCOUNTS_E_LOGIN;
}

int accounts_use_setup(struct store_tx *tx, struct slice code,
                       const struct accounts_user_change *user, char id[ACCOUNTS_ID + 1],
                       struct buf *reason) {
    static const struct slice roles[] = {SLICE_INIT("administrator")};
    bool has_users = false;
    int error = accounts_has_users(tx, &has_users);
    if (error == 0)
        error = has_users ? ACCOUNTS_E_LOGIN : take_code(tx, code);
    if (error == ACCOUNTS_E_LOGIN)
        buf_append_cstr(reason, "this set-up link is not good, or not any more");
    if (error != 0)
        return error;
    if (user->password_hash.len == 0) {
        buf_append_cstr(reason, "the first administrator needs a password");
        return ACCOUNTS_E_WRONG;
    }
    struct accounts_user_change first = *user;
    first.is_disabled = first.must_change = 0;
    first.roles = roles;
    first.n_roles = 1;
    first.version = 0;
    /* When that refuses, the whole is rolled back, and the code is as good as before. */
    return accounts_add_user(tx, &(struct accounts_actor){.is_owner = true}, &first, id, reason);
}
