/*
 * Tokens of MCP clients and programs. A token has 256 bits of chance, so that a fast hash without
 * salt tells nothing about it; the store has that hash alone.
 *
 * A token never gives more than its user has at the moment it is used. When it is made, it must not
 * give more than whoever makes it has either, who sees it: a token that somebody else makes is
 * bound to what its user has on that day, or it would grow with that beyond its maker.
 */
#include <errno.h>

#include "base/limits.h"
#include "base/random.h"
#include "base/secret.h"
#include "people.h"

static const uint64_t day_ms = 24u * 3600u * 1000u;

/* Letters and digits alone, so that a double click takes the whole of the part that is shown. */
static void make_token(char token[ACCOUNTS_TOKEN + 1]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    static const struct slice start = SLICE_INIT("cardea_");
    char secret[ACCOUNTS_SECRET + 1];
    memcpy(token, start.ptr, start.len);
    for (size_t i = 0; i < ACCOUNTS_PREFIX; i++)
        token[7 + i] = letters[random_below(sizeof letters - 1)];
    token[7 + ACCOUNTS_PREFIX] = '_';
    doors_make_secret(secret);
    memcpy(token + 7 + ACCOUNTS_PREFIX + 1, secret, sizeof secret);
    secret_wipe(secret, sizeof secret);
}

/* --- making --- */

struct making {
    const struct accounts_actor *actor;
    const struct accounts_token_new *options;
    struct buf *reason;
    bool is_self;
    char user[ACCOUNTS_ID + 1];
    struct buf rights; /* as the store has them; empty: the user's */
};

static int check_user(struct store_tx *tx, struct making *making) {
    int64_t is_disabled = 0, n = 0;
    struct slice user;
    int error = doors_find_user(tx, making->options->user, making->user);
    if (error == ACCOUNTS_E_NONE)
        return people_refuse(making->reason, error, "there is no such user");
    if (error != 0)
        return error;
    user = slice_from_cstr(making->user);
    making->is_self = !making->actor->is_owner && slice_eq(making->actor->user, user);
    error =
        people_may(tx, making->actor,
                   making->is_self ? PERMISSION_TOKENS_OWN : PERMISSION_TOKENS_ALL, making->reason);
    if (error == 0)
        error = doors_number(tx, "SELECT is_disabled FROM users WHERE id = $1",
                             STORE_VALUES(store_text(user)), 1, &is_disabled);
    if (error == 0 && is_disabled != 0)
        return people_refuse(making->reason, ACCOUNTS_E_DENIED, "this user is disabled");
    if (error == 0)
        error = doors_number(tx, "SELECT COUNT(*) FROM tokens WHERE user_id = $1",
                             STORE_VALUES(store_text(user)), 0, &n);
    if (error == 0 && n >= (int64_t)LIMIT_USER_TOKENS)
        return people_refuse(making->reason, ACCOUNTS_E_WRONG, "a user may have at most %u tokens",
                             LIMIT_USER_TOKENS);
    return error;
}

static int check_options(const struct accounts_token_new *options, struct buf *reason) {
    if (options->name.len == 0)
        return people_refuse(reason, ACCOUNTS_E_WRONG, "a token has a name");
    if (options->lifetime_ms > LIMIT_TOKEN_DAYS * day_ms)
        return people_refuse(reason, ACCOUNTS_E_WRONG, "a token may live for at most %u days",
                             LIMIT_TOKEN_DAYS);
    return people_check_text(options->name, "a token's name", LIMIT_DISPLAY_NAME, reason);
}

/* Else whoever finds a token that is over tomorrow has one for years. */
static int check_end(struct store_tx *tx, const struct making *making) {
    uint64_t now_ms = 0, until_ms = making->actor->until_ms;
    uint64_t lifetime_ms = making->options->lifetime_ms;
    if (making->actor->is_owner || until_ms == 0)
        return 0;
    int error = store_now_ms(tx, &now_ms);
    if (error == 0 && (lifetime_ms == 0 || now_ms + lifetime_ms > until_ms))
        error = people_refuse(making->reason, ACCOUNTS_E_DENIED,
                              "a token cannot make one that lives longer than itself");
    return error;
}

/* Rights that were asked for: within the user's and the maker's. */
static int take_rights(struct store_tx *tx, struct making *making,
                       const struct policy_rights *users) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    CLEANUP(people_unrefp) struct policy_rights *wanted = NULL;
    int error = json_reader_new(&reader);
    if (error == 0)
        error = policy_rights_read(reader, making->options->rights, &wanted, making->reason);
    if (error == RIGHTS_E_WRONG)
        return ACCOUNTS_E_WRONG;
    if (error == 0 && !policy_rights_cover(users, wanted))
        return people_refuse(making->reason, ACCOUNTS_E_DENIED,
                             "the token would have rights that its user does not have");
    if (error == 0)
        error = people_may_give(tx, making->actor, wanted, "the token", making->reason);
    return error == 0 ? people_write_rights(wanted, &making->rights, making->reason) : error;
}

/* All that the user has: at any time, or, where somebody else makes it, today. */
static int take_all(struct store_tx *tx, struct making *making, const struct policy_rights *users) {
    int error = people_may_give(tx, making->actor, users, "this user", making->reason);
    if (error != 0 || making->is_self || making->actor->is_owner)
        return error;
    return people_write_rights(users, &making->rights, making->reason);
}

static int choose_rights(struct store_tx *tx, struct making *making) {
    CLEANUP(people_unrefp) struct policy_rights *users = NULL;
    int error = accounts_user_rights(tx, slice_from_cstr(making->user), &users);
    if (error != 0)
        return error;
    return making->options->rights.len != 0 ? take_rights(tx, making, users)
                                            : take_all(tx, making, users);
}

/* All of them are read at each change of the store: one user has a part of that alone. */
static int check_rights_room(struct store_tx *tx, const struct making *making) {
    int64_t n = 0;
    if (buf_len(&making->rights) == 0)
        return 0;
    int error =
        doors_number(tx, "SELECT COALESCE(SUM(LENGTH(rights)), 0) FROM tokens WHERE user_id = $1",
                     STORE_VALUES(store_text(slice_from_cstr(making->user))), 0, &n);
    if (error == 0 && (uint64_t)n + buf_len(&making->rights) > LIMIT_TOKEN_RIGHTS)
        error = people_refuse(making->reason, ACCOUNTS_E_WRONG,
                              "the rights of all tokens of a user may have at most %u bytes",
                              (unsigned)LIMIT_TOKEN_RIGHTS);
    return error;
}

static int insert(struct store_tx *tx, const struct making *making, struct slice id,
                  struct slice token) {
    char digest[DOORS_DIGEST + 1];
    uint64_t now_ms = 0, lifetime_ms = making->options->lifetime_ms;
    int error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    doors_digest(token, digest);
    return store_exec(
        tx,
        "INSERT INTO tokens (id, user_id, name, prefix, digest, rights, created_ms, expires_ms,"
        " used_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)",
        STORE_VALUES(store_text(id), store_text(slice_from_cstr(making->user)),
                     store_text(making->options->name),
                     store_text(slice_sub(token, 7, 7 + ACCOUNTS_PREFIX)),
                     store_text(slice_from_cstr(digest)), store_text(buf_slice(&making->rights)),
                     store_number((int64_t)now_ms),
                     store_number(lifetime_ms != 0 ? (int64_t)(now_ms + lifetime_ms) : 0)),
        NULL);
}

int accounts_add_token(struct store_tx *tx, const struct accounts_actor *actor,
                       const struct accounts_token_new *options, char id[ACCOUNTS_ID + 1],
                       char token[ACCOUNTS_TOKEN + 1], struct buf *reason) {
    struct making making = {
        .actor = actor, .options = options, .reason = reason, .rights = BUF_INIT(LIMIT_RIGHTS * 2)};
    char made_id[ACCOUNTS_ID + 1], made[ACCOUNTS_TOKEN + 1];
    doors_make_id(made_id);
    make_token(made);
    int error = check_options(options, reason);
    if (error == 0)
        error = check_user(tx, &making);
    if (error == 0)
        error = check_end(tx, &making);
    if (error == 0)
        error = choose_rights(tx, &making);
    if (error == 0)
        error = check_rights_room(tx, &making);
    if (error == 0)
        error = insert(tx, &making, slice_from_cstr(made_id), slice_from_cstr(made));
    if (error == 0) {
        memcpy(id, made_id, sizeof made_id);
        memcpy(token, made, sizeof made);
    }
    secret_wipe(made, sizeof made);
    buf_deinit(&making.rights);
    return error;
}

/* --- the others --- */

/* Somebody else's token is not there for those who may not see it. */
int accounts_delete_token(struct store_tx *tx, const struct accounts_actor *actor,
                          struct slice token, struct buf *reason) {
    uint64_t n = 0;
    int error = 0;
    bool is_any = doors_may(actor, PERMISSION_TOKENS_ALL);
    if (!is_any)
        error = people_may(tx, actor, PERMISSION_TOKENS_OWN, reason);
    else if (!actor->is_owner)
        error = people_may(tx, actor, PERMISSION_TOKENS_ALL, reason);
    if (error == 0 && doors_is_base64url(token, ACCOUNTS_ID) && is_any)
        error =
            store_exec(tx, "DELETE FROM tokens WHERE id = $1", STORE_VALUES(store_text(token)), &n);
    else if (error == 0 && doors_is_base64url(token, ACCOUNTS_ID))
        error = store_exec(tx, "DELETE FROM tokens WHERE id = $1 AND user_id = $2",
                           STORE_VALUES(store_text(token), store_text(actor->user)), &n);
    if (error == 0 && n == 0)
        return people_refuse(reason, ACCOUNTS_E_NONE, "there is no such token");
    return error;
}

int people_delete_tokens(struct store_tx *tx, struct slice user_id, uint64_t *ret_n) {
    return store_exec(tx, "DELETE FROM tokens WHERE user_id = $1",
                      STORE_VALUES(store_text(user_id)), ret_n);
}

int accounts_delete_tokens(struct store_tx *tx, const struct accounts_actor *actor,
                           struct slice user, uint64_t *ret_n, struct buf *reason) {
    char id[ACCOUNTS_ID + 1];
    int error = people_may(tx, actor, PERMISSION_TOKENS_ALL, reason);
    if (error == 0)
        error = doors_find_user(tx, user, id);
    if (error == ACCOUNTS_E_NONE)
        return people_refuse(reason, ACCOUNTS_E_NONE, "there is no such user");
    return error == 0 ? people_delete_tokens(tx, slice_from_cstr(id), ret_n) : error;
}

static bool show(const struct store_rows *rows, accounts_token_fn *fn, void *context) {
    struct accounts_token token = {
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
    return fn(context, &token);
}

int accounts_list_tokens(struct store_tx *tx, struct slice user, const struct accounts_place *after,
                         size_t most, accounts_token_fn *fn, void *context) {
    struct store_rows *rows = NULL;
    char id[ACCOUNTS_ID + 1] = "";
    int64_t created_ms = after != NULL ? (int64_t)after->created_ms : -1;
    int64_t limit = most > INT32_MAX ? INT32_MAX : (int64_t)most;
    bool goes_on = true;
    int error = user.len != 0 ? doors_find_user(tx, user, id) : 0;
    if (error == 0)
        error =
            store_query(tx,
                        "SELECT t.id, t.user_id, u.name, t.name, t.prefix, t.rights, t.created_ms,"
                        " t.expires_ms, t.used_ms FROM tokens t JOIN users u ON u.id = t.user_id"
                        " WHERE ($1 = '' OR t.user_id = $1)"
                        " AND (t.created_ms > $2 OR (t.created_ms = $2 AND t.id > $3))"
                        " ORDER BY t.created_ms, t.id LIMIT $4",
                        STORE_VALUES(store_text(slice_from_cstr(id)), store_number(created_ms),
                                     store_text(slice_from_cstr(after != NULL ? after->id : "")),
                                     store_number(limit)),
                        &rows);
    while (error == 0 && goes_on && store_rows_next(rows))
        goes_on = show(rows, fn, context);
    int end = store_rows_end(rows);
    return error != 0 ? error : end;
}

int accounts_note_uses(struct store_tx *tx, const struct accounts_use *uses, size_t n) {
    int error = 0;
    for (size_t i = 0; i < n && error == 0; i++)
        error = store_exec(tx, "UPDATE tokens SET used_ms = $2 WHERE id = $1 AND used_ms < $2",
                           STORE_VALUES(store_text(slice_from_cstr(uses[i].id)),
                                        store_number((int64_t)uses[i].used_ms)),
                           NULL);
    return error;
}
