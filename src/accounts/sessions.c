/*
 * Sessions of the console. A session has an id, which is shown in lists, and a secret, which only
 * the browser has: both are in the cookie, and the store keeps the secret's SHA-256. A fast hash
 * without salt is enough for 256 bits of chance. The CSRF token is made of the secret, too, each
 * time. So neither a copy of the store nor a list of sessions lets anybody in.
 *
 * A session ends when nobody came for `idle_ms`, at `ends_ms` whatever happens, and when its user
 * is disabled or changed. That is asked of the store each time, by the store's clock, so that it
 * holds at once on every instance; rights are the user's as they are, and never kept in a session.
 */
#include <errno.h>

#include "base/compiler.h"
#include "base/limits.h"
#include "base/secret.h"
#include "doors.h"

/* When it was seen is written at most once a minute; sooner where so long a time would matter. */
enum { SEEN_MS = 60 * 1000, SEEN_PART = 4 };

static int now(struct store_tx *tx, uint64_t *ret_now_ms) {
    return store_now_ms(tx, ret_now_ms);
}

/* --- logging in --- */

struct account {
    char id[ACCOUNTS_ID + 1], key[DOORS_NAME + 1];
};

/* Nobody who was disabled meanwhile, and nobody whose password was changed while the old one was
 * being looked at. */
static int find_account(struct store_tx *tx, const struct accounts_session_new *options,
                        struct account *ret_account) {
    struct store_rows *rows = NULL;
    int error = doors_find_user(tx, options->user, ret_account->id);
    if (error != 0)
        return error == ACCOUNTS_E_NONE ? ACCOUNTS_E_LOGIN : error;
    error = store_query(tx, "SELECT key, password, is_disabled FROM users WHERE id = $1",
                        STORE_VALUES(store_text(slice_from_cstr(ret_account->id))), &rows);
    if (error != 0)
        return error;
    bool may =
        store_rows_next(rows) && store_rows_number(rows, 2) == 0 &&
        (options->hash.len == 0 || slice_eq(store_rows_text(rows, 1), options->hash)) &&
        slice_to_cstr(store_rows_text(rows, 0), ret_account->key, sizeof ret_account->key) == 0;
    error = store_rows_end(rows);
    if (error != 0)
        return error;
    return may ? 0 : ACCOUNTS_E_LOGIN;
}

/* Those that are over, and the oldest where there are too many. The new one is not there yet. */
static int make_room(struct store_tx *tx, struct slice user_id, uint64_t now_ms) {
    int error = store_exec(
        tx,
        "DELETE FROM sessions WHERE user_id = $1 AND (ends_ms <= $2 OR seen_ms + idle_ms <= $2)",
        STORE_VALUES(store_text(user_id), store_number((int64_t)now_ms)), NULL);
    if (error != 0)
        return error;
    return store_exec(
        tx,
        "DELETE FROM sessions WHERE user_id = $1 AND id NOT IN (SELECT id FROM sessions"
        " WHERE user_id = $1 ORDER BY created_ms DESC, id LIMIT $2)",
        STORE_VALUES(store_text(user_id), store_number(LIMIT_SESSIONS - 1)), NULL);
}

static void make_cookie(struct accounts_cookie *cookie) {
    doors_make_id(cookie->session);
    doors_make_secret(cookie->secret);
    doors_make_csrf(slice_from_cstr(cookie->secret), cookie->csrf);
}

static int insert(struct store_tx *tx, const struct accounts_session_new *options,
                  struct slice user_id, const struct accounts_cookie *cookie, uint64_t now_ms) {
    CLEANUP(buf_deinit) struct buf address = BUF_INIT(LIMIT_SESSION_TEXT);
    CLEANUP(buf_deinit) struct buf agent = BUF_INIT(LIMIT_SESSION_TEXT);
    char digest[DOORS_DIGEST + 1];
    int error = doors_append_text(&address, options->address, LIMIT_SESSION_TEXT);
    if (error == 0)
        error = doors_append_text(&agent, options->agent, LIMIT_SESSION_TEXT);
    if (error != 0)
        return error;
    doors_digest(slice_from_cstr(cookie->secret), digest);
    return store_exec(
        tx,
        "INSERT INTO sessions (id, user_id, digest, address, agent, created_ms, seen_ms, idle_ms,"
        " ends_ms) VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8)",
        STORE_VALUES(store_text(slice_from_cstr(cookie->session)), store_text(user_id),
                     store_text(slice_from_cstr(digest)), store_text(buf_slice(&address)),
                     store_text(buf_slice(&agent)), store_number((int64_t)now_ms),
                     store_number((int64_t)options->idle_ms),
                     store_number((int64_t)(now_ms + options->max_ms))),
        NULL);
}

/* A login is no change of the user: `version` stays. */
static int note_login(struct store_tx *tx, const struct accounts_session_new *options,
                      struct slice user_id, uint64_t now_ms) {
    int error = store_exec(tx, "UPDATE users SET login_ms = $2 WHERE id = $1",
                           STORE_VALUES(store_text(user_id), store_number((int64_t)now_ms)), NULL);
    if (error == 0 && options->new_hash.len != 0 && options->hash.len != 0)
        error = store_exec(tx, "UPDATE users SET password = $2 WHERE id = $1 AND password = $3",
                           STORE_VALUES(store_text(user_id), store_text(options->new_hash),
                                        store_text(options->hash)),
                           NULL);
    return error;
}

int accounts_open_session(struct store_tx *tx, const struct accounts_session_new *options,
                          struct accounts_cookie *ret_cookie) {
    struct account account;
    struct accounts_cookie cookie;
    uint64_t now_ms = 0;
    int error = now(tx, &now_ms);
    if (error == 0)
        error = find_account(tx, options, &account);
    if (error != 0)
        return error;
    struct slice user_id = slice_from_cstr(account.id);
    make_cookie(&cookie);
    error = make_room(tx, user_id, now_ms);
    if (error == 0)
        error = insert(tx, options, user_id, &cookie, now_ms);
    if (error == 0)
        error = note_login(tx, options, user_id, now_ms);
    if (error == 0)
        error = accounts_pass_login(tx, slice_from_cstr(account.key), options->address);
    if (error == 0)
        *ret_cookie = cookie;
    secret_wipe(&cookie, sizeof cookie);
    return error;
}

int accounts_renew_session(struct store_tx *tx, struct slice session,
                           struct accounts_cookie *ret_cookie) {
    struct accounts_cookie cookie;
    char digest[DOORS_DIGEST + 1];
    uint64_t changed = 0;
    if (!doors_is_base64url(session, ACCOUNTS_ID))
        return ACCOUNTS_E_NONE;
    make_cookie(&cookie);
    doors_digest(slice_from_cstr(cookie.secret), digest);
    int error =
        store_exec(tx, "UPDATE sessions SET id = $2, digest = $3 WHERE id = $1",
                   STORE_VALUES(store_text(session), store_text(slice_from_cstr(cookie.session)),
                                store_text(slice_from_cstr(digest))),
                   &changed);
    if (error == 0 && changed == 0)
        error = ACCOUNTS_E_NONE;
    if (error == 0)
        *ret_cookie = cookie;
    secret_wipe(&cookie, sizeof cookie);
    return error;
}

/* --- finding and listing --- */

/* Columns of both: id, user_id, name, address, agent, created_ms, seen_ms, idle_ms, ends_ms,
 * must_change. */
static void read_session(const struct store_rows *rows, uint64_t now_ms,
                         struct accounts_session *session) {
    uint64_t idle_ms = (uint64_t)store_rows_number(rows, 7);
    uint64_t step = idle_ms / SEEN_PART < SEEN_MS ? idle_ms / SEEN_PART : SEEN_MS;
    *session = (struct accounts_session){
        .id = store_rows_text(rows, 0),
        .user = store_rows_text(rows, 1),
        .user_name = store_rows_text(rows, 2),
        .address = store_rows_text(rows, 3),
        .agent = store_rows_text(rows, 4),
        .created_ms = (uint64_t)store_rows_number(rows, 5),
        .seen_ms = (uint64_t)store_rows_number(rows, 6),
        .ends_ms = (uint64_t)store_rows_number(rows, 8),
        .must_change = store_rows_number(rows, 9) != 0,
    };
    session->is_due = now_ms > session->seen_ms && now_ms - session->seen_ms >= step;
    if (session->seen_ms + idle_ms < session->ends_ms)
        session->ends_ms = session->seen_ms + idle_ms;
}

/* Valid and with the right secret, or ACCOUNTS_E_NONE. */
static int look_at(struct store_tx *tx, const struct store_rows *rows, uint64_t now_ms,
                   struct slice secret, accounts_session_fn *fn, void *context,
                   struct policy_rights **ret_rights) {
    struct accounts_session session;
    struct policy_rights *rights = NULL;
    char csrf[ACCOUNTS_SECRET + 1];
    bool is_it = doors_is_digest_of(store_rows_text(rows, 11), secret);
    read_session(rows, now_ms, &session);
    if (!is_it || session.ends_ms <= now_ms || store_rows_number(rows, 10) != 0)
        return ACCOUNTS_E_NONE;
    int error = accounts_user_rights(tx, session.user, &rights);
    if (error != 0)
        return error;
    doors_make_csrf(secret, csrf);
    session.csrf = slice_from_cstr(csrf);
    fn(context, &session);
    secret_wipe(csrf, sizeof csrf);
    *ret_rights = rights;
    return 0;
}

int accounts_find_session(struct store_tx *tx, struct slice session, struct slice secret,
                          accounts_session_fn *fn, void *context,
                          struct policy_rights **ret_rights) {
    struct store_rows *rows = NULL;
    uint64_t now_ms = 0;
    if (!doors_is_base64url(session, ACCOUNTS_ID) || !doors_is_base64url(secret, ACCOUNTS_SECRET))
        return ACCOUNTS_E_NONE;
    int error = now(tx, &now_ms);
    if (error == 0)
        error = store_query(
            tx,
            "SELECT s.id, s.user_id, u.name, s.address, s.agent, s.created_ms, s.seen_ms,"
            " s.idle_ms, s.ends_ms, u.must_change, u.is_disabled, s.digest FROM sessions s"
            " JOIN users u ON u.id = s.user_id WHERE s.id = $1",
            STORE_VALUES(store_text(session)), &rows);
    if (error != 0)
        return error;
    error = store_rows_next(rows) ? look_at(tx, rows, now_ms, secret, fn, context, ret_rights)
                                  : ACCOUNTS_E_NONE;
    int ended = store_rows_end(rows);
    return ended != 0 ? ended : error;
}

int accounts_touch_session(struct store_tx *tx, struct slice session) {
    uint64_t now_ms = 0;
    int error = now(tx, &now_ms);
    if (error != 0)
        return error;
    /* Never backwards, and not one that has meanwhile come to its end. */
    return store_exec(tx,
                      "UPDATE sessions SET seen_ms = $2 WHERE id = $1 AND seen_ms < $2"
                      " AND ends_ms > $2 AND seen_ms + idle_ms > $2",
                      STORE_VALUES(store_text(session), store_number((int64_t)now_ms)), NULL);
}

int accounts_list_sessions(struct store_tx *tx, struct slice user,
                           const struct accounts_place *after, size_t most, accounts_session_fn *fn,
                           void *context) {
    char id[ACCOUNTS_ID + 1] = "";
    int64_t limit = most > INT32_MAX ? INT32_MAX : (int64_t)most;
    int64_t created_ms = after != NULL ? (int64_t)after->created_ms : INT64_MAX;
    struct store_rows *rows = NULL;
    uint64_t now_ms = 0;
    int error = now(tx, &now_ms);
    if (error == 0 && user.len != 0)
        error = doors_find_user(tx, user, id);
    if (error == 0)
        error = store_query(
            tx,
            "SELECT s.id, s.user_id, u.name, s.address, s.agent, s.created_ms, s.seen_ms,"
            " s.idle_ms, s.ends_ms, u.must_change FROM sessions s JOIN users u ON u.id = s.user_id"
            " WHERE (s.user_id = $1 OR $1 = '') AND s.ends_ms > $2 AND s.seen_ms + s.idle_ms > $2"
            " AND u.is_disabled = 0 AND (s.created_ms < $3 OR (s.created_ms = $3 AND s.id > $4))"
            " ORDER BY s.created_ms DESC, s.id LIMIT $5",
            STORE_VALUES(store_text(slice_from_cstr(id)), store_number((int64_t)now_ms),
                         store_number(created_ms),
                         store_text(slice_from_cstr(after != NULL ? after->id : "")),
                         store_number(limit)),
            &rows);
    if (error != 0)
        return error;
    bool goes_on = true;
    while (goes_on && store_rows_next(rows)) {
        struct accounts_session session;
        read_session(rows, now_ms, &session);
        goes_on = fn(context, &session);
    }
    return store_rows_end(rows);
}

/* --- ending --- */

int accounts_end_session(struct store_tx *tx, const struct accounts_actor *actor,
                         struct slice session, struct buf *reason) {
    uint64_t changed = 0;
    int error = 0;
    if (doors_is_base64url(session, ACCOUNTS_ID) && doors_may(actor, PERMISSION_SESSIONS_ALL))
        error = store_exec(tx, "DELETE FROM sessions WHERE id = $1",
                           STORE_VALUES(store_text(session)), &changed);
    else if (doors_is_base64url(session, ACCOUNTS_ID) && actor->user.len != 0)
        error = store_exec(tx, "DELETE FROM sessions WHERE id = $1 AND user_id = $2",
                           STORE_VALUES(store_text(session), store_text(actor->user)), &changed);
    if (error != 0 || changed != 0)
        return error;
    buf_append_cstr(reason, "there is no such session");
    return ACCOUNTS_E_NONE;
}

int accounts_end_sessions(struct store_tx *tx, struct slice user_id, struct slice but) {
    return store_exec(tx, "DELETE FROM sessions WHERE user_id = $1 AND id <> $2",
                      STORE_VALUES(store_text(user_id), store_text(but)), NULL);
}

int accounts_sweep(struct store_tx *tx) {
    static const char *const statements[] = {
        "DELETE FROM sessions WHERE ends_ms <= $1 OR seen_ms + idle_ms <= $1",
        "DELETE FROM setup WHERE expires_ms <= $1",
        "DELETE FROM edit_windows WHERE until_ms <= $1",
    };
    uint64_t now_ms = 0;
    int error = now(tx, &now_ms);
    for (size_t i = 0; error == 0 && i < ARRAY_LEN(statements); i++)
        error = store_exec(tx, statements[i], STORE_VALUES(store_number((int64_t)now_ms)), NULL);
    return error == 0 ? accounts_sweep_failures(tx, now_ms) : error;
}
