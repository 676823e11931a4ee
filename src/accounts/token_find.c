/* Who a token is, asked of the store: for those who ask seldom, and want it as it is now. The data
 * path has the directory. */
#include <errno.h>

#include "base/limits.h"
#include "doors.h"

/* The text is of the store. */
static int own_rights(struct slice text, struct policy_rights **ret_rights) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(1));
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    int error = json_reader_new(&reader);
    if (error == 0)
        error = policy_rights_read(reader, text, ret_rights, &reason);
    return error;
}

/* What cannot be read gives nothing. */
static int meet(struct slice text, struct policy_rights *users, struct policy_rights **ret_rights) {
    struct policy_rights *own = NULL;
    int error = own_rights(text, &own);
    if (error > 0)
        return policy_rights_union(NULL, 0, ret_rights);
    if (error == 0)
        error = policy_rights_meet(users, own, ret_rights);
    policy_rights_unref(own);
    return error;
}

static int look_at(struct store_tx *tx, const struct store_rows *rows, uint64_t now_ms,
                   accounts_token_fn *fn, void *context, struct policy_rights **ret_rights) {
    const struct accounts_token token = {
        .id = store_rows_text(rows, 0),
        .user = store_rows_text(rows, 1),
        .user_name = store_rows_text(rows, 2),
        .name = store_rows_text(rows, 3),
        .prefix = store_rows_text(rows, 4),
        .rights = store_rows_text(rows, 5),
        .created_ms = (uint64_t)store_rows_number(rows, 6),
        .expires_ms = (uint64_t)store_rows_number(rows, 7),
        .used_ms = (uint64_t)store_rows_number(rows, 8),
    };
    struct policy_rights *users = NULL, *rights = NULL;
    if ((token.expires_ms != 0 && token.expires_ms <= now_ms) || store_rows_number(rows, 9) != 0)
        return ACCOUNTS_E_NONE;
    int error = accounts_user_rights(tx, token.user, &users);
    if (error == 0 && token.rights.len == 0)
        rights = policy_rights_ref(users);
    else if (error == 0)
        error = meet(token.rights, users, &rights);
    policy_rights_unref(users);
    if (error != 0)
        return error;
    (void)fn(context, &token);
    *ret_rights = rights;
    return 0;
}

int accounts_find_token(struct store_tx *tx, struct slice token, accounts_token_fn *fn,
                        void *context, struct policy_rights **ret_rights) {
    struct store_rows *rows = NULL;
    char digest[DOORS_DIGEST + 1];
    uint64_t now_ms = 0;
    if (!doors_is_base64url(token, ACCOUNTS_TOKEN))
        return ACCOUNTS_E_NONE;
    doors_digest(token, digest);
    int error = store_now_ms(tx, &now_ms);
    if (error == 0)
        error =
            store_query(tx,
                        "SELECT t.id, t.user_id, u.name, t.name, t.prefix, t.rights, t.created_ms,"
                        " t.expires_ms, t.used_ms, u.is_disabled FROM tokens t"
                        " JOIN users u ON u.id = t.user_id WHERE t.digest = $1",
                        STORE_VALUES(store_text(slice_from_cstr(digest))), &rows);
    if (error != 0)
        return error;
    error = store_rows_next(rows) ? look_at(tx, rows, now_ms, fn, context, ret_rights)
                                  : ACCOUNTS_E_NONE;
    int ended = store_rows_end(rows);
    return ended != 0 ? ended : error;
}
