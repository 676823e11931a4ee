/*
 * Users. Every change is one transaction that looks first: writers stand in line (store/), so what
 * it has seen is still so when it ends, and the rule that an administrator stays holds also where
 * two ways to remove the last one come at once.
 *
 * Whoever may reset somebody's password, change their name or their address can become them. So
 * nobody but the owner of the data directory touches a user who has more rights than they have;
 * that holds for oneself too, where the request came with a token that has less.
 */
#include <errno.h>

#include "accounts/password.h"
#include "base/limits.h"
#include "people.h"

struct person {
    char id[ACCOUNTS_ID + 1];
    uint64_t version;
    bool has_password;
};

static struct store_value text_or_null(struct slice text) {
    return text.ptr != NULL ? store_text(text) : store_null();
}

static struct store_value number_or_null(int number) {
    return number >= 0 ? store_number(number != 0) : store_null();
}

static struct slice id_of(const struct person *person) {
    return slice_from_cstr(person->id);
}

/* --- finding --- */

static int find_person(struct store_tx *tx, struct slice user, struct person *ret_person,
                       struct buf *reason) {
    struct store_rows *rows = NULL;
    int error = doors_find_user(tx, user, ret_person->id);
    if (error == 0)
        error = store_query(tx, "SELECT version, password FROM users WHERE id = $1",
                            STORE_VALUES(store_text(id_of(ret_person))), &rows);
    if (error == 0 && store_rows_next(rows)) {
        ret_person->version = (uint64_t)store_rows_number(rows, 0);
        ret_person->has_password = store_rows_text(rows, 1).len != 0;
    }
    int end = store_rows_end(rows);
    error = error != 0 ? error : end;
    if (error == ACCOUNTS_E_NONE && reason != NULL)
        return people_refuse(reason, ACCOUNTS_E_NONE, "there is no such user");
    return error;
}

/* Also of somebody who is disabled: what they would have. */
static int rights_of(struct store_tx *tx, struct slice user_id, struct policy_rights **ret_rights) {
    return people_sum_rights(tx,
                             "SELECT r.rights FROM user_roles ur JOIN roles r ON r.id = ur.role_id"
                             " WHERE ur.user_id = $1",
                             STORE_VALUES(store_text(user_id)), ret_rights);
}

int accounts_user_rights(struct store_tx *tx, struct slice user,
                         struct policy_rights **ret_rights) {
    char id[ACCOUNTS_ID + 1];
    int error = doors_find_user(tx, user, id);
    if (error == ACCOUNTS_E_NONE)
        return policy_rights_union(NULL, 0, ret_rights);
    if (error != 0)
        return error;
    return people_sum_rights(tx,
                             "SELECT r.rights FROM user_roles ur JOIN roles r ON r.id = ur.role_id"
                             " JOIN users u ON u.id = ur.user_id"
                             " WHERE ur.user_id = $1 AND u.is_disabled = 0",
                             STORE_VALUES(store_text(slice_from_cstr(id))), ret_rights);
}

int accounts_has_users(struct store_tx *tx, bool *ret_has) {
    int64_t n = 0;
    int error = doors_number(tx, "SELECT 1 FROM users LIMIT 1", NULL, 0, 0, &n);
    if (error == 0)
        *ret_has = n != 0;
    return error;
}

/* --- checks --- */

/* A name that is the id of somebody else would be taken for them. */
static int check_free(struct store_tx *tx, struct slice name, struct slice but,
                      struct buf *reason) {
    char key[DOORS_NAME + 1];
    int64_t n = 0;
    int error = people_check_name(name, reason);
    if (error != 0)
        return error;
    if (!doors_fold(name, key))
        return people_refuse(reason, ACCOUNTS_E_WRONG, "this is no name");
    error = doors_number(
        tx, "SELECT COUNT(*) FROM users WHERE (key = $1 AND id <> $2) OR id = $3",
        STORE_VALUES(store_text(slice_from_cstr(key)), store_text(but), store_text(name)), 0, &n);
    if (error == 0 && n != 0)
        error = people_refuse(reason, ACCOUNTS_E_EXISTS, "there is a user with this name already");
    return error;
}

static int check_values(const struct accounts_user_change *change, struct buf *reason) {
    int error =
        people_check_text(change->display_name, "a display name", LIMIT_DISPLAY_NAME, reason);
    if (error == 0)
        error = people_check_email(change->email, reason);
    if (error == 0 && change->password_hash.len != 0 && !password_is_hash(change->password_hash))
        error = people_refuse(reason, ACCOUNTS_E_WRONG, "this is no hash of a password");
    if (error == 0 && change->n_roles > LIMIT_USER_ROLES)
        error = people_refuse(reason, ACCOUNTS_E_WRONG, "a user may have at most %u roles",
                              LIMIT_USER_ROLES);
    return error;
}

static int check_room(struct store_tx *tx, struct buf *reason) {
    int64_t n = 0;
    int error = doors_number(tx, "SELECT COUNT(*) FROM users", NULL, 0, 0, &n);
    if (error == 0 && n >= (int64_t)LIMIT_USERS)
        error =
            people_refuse(reason, ACCOUNTS_E_WRONG, "there may be at most %u users", LIMIT_USERS);
    return error;
}

static int check_version(uint64_t wanted, uint64_t version, struct buf *reason) {
    if (wanted == 0 || wanted == version)
        return 0;
    return people_refuse(reason, ACCOUNTS_E_STALE, "the user was changed meanwhile; look again");
}

/* What people may change of themselves, without looking after users. */
static bool is_own(const struct accounts_actor *actor, const struct person *person,
                   const struct accounts_user_change *change) {
    bool is_self = !actor->is_owner && slice_eq(actor->user, id_of(person));
    return is_self && change->name.ptr == NULL && change->roles == NULL &&
           change->is_disabled < 0 && (change->must_change < 0 || change->password_hash.len != 0);
}

static int check_actor(struct store_tx *tx, const struct accounts_actor *actor,
                       const struct person *person, struct buf *reason) {
    CLEANUP(people_unrefp) struct policy_rights *rights = NULL;
    int error = rights_of(tx, id_of(person), &rights);
    if (error == 0)
        error = people_may_give(tx, actor, rights, "this user", reason);
    return error;
}

/* --- roles of users --- */

static int check_role(struct store_tx *tx, const struct accounts_actor *actor, struct slice name,
                      struct buf *reason) {
    CLEANUP(people_role_deinit) struct people_role role = {.rights = NULL};
    int error = people_find_role(tx, name, &role);
    if (error == ACCOUNTS_E_NONE)
        return people_refuse(reason, ACCOUNTS_E_WRONG, "there is no role with one of these names");
    return error == 0 ? people_may_give(tx, actor, role.rights, "this role", reason) : error;
}

static int give_role(struct store_tx *tx, struct slice user_id, struct slice name) {
    CLEANUP(people_role_deinit) struct people_role role = {.rights = NULL};
    int error = people_find_role(tx, name, &role);
    if (error != 0)
        return error;
    return store_exec(tx,
                      "INSERT INTO user_roles (user_id, role_id) VALUES ($1, $2)"
                      " ON CONFLICT (user_id, role_id) DO NOTHING",
                      STORE_VALUES(store_text(user_id), store_text(slice_from_cstr(role.id))),
                      NULL);
}

static int set_roles(struct store_tx *tx, const struct accounts_actor *actor, struct slice user_id,
                     const struct accounts_user_change *change, struct buf *reason) {
    if (change->roles == NULL)
        return 0;
    int error = 0;
    /* All of them before any is taken away: they may be the actor's own. */
    for (size_t i = 0; i < change->n_roles && error == 0; i++)
        error = check_role(tx, actor, change->roles[i], reason);
    if (error == 0)
        error = store_exec(tx, "DELETE FROM user_roles WHERE user_id = $1",
                           STORE_VALUES(store_text(user_id)), NULL);
    for (size_t i = 0; i < change->n_roles && error == 0; i++)
        error = give_role(tx, user_id, change->roles[i]);
    return error;
}

/* --- changes --- */

static int insert(struct store_tx *tx, const struct accounts_actor *actor,
                  const struct accounts_user_change *user, struct slice id) {
    char key[DOORS_NAME + 1] = "";
    uint64_t now_ms = 0;
    bool has_password = user->password_hash.len != 0;
    /* Who adds somebody else knows their password. */
    bool must_change =
        user->must_change > 0 || (user->must_change < 0 && has_password && !actor->is_owner);
    int error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    (void)doors_fold(user->name, key);
    return store_exec(
        tx,
        "INSERT INTO users (id, name, key, display_name, email, password, is_disabled, must_change,"
        " login_ms, created_ms, updated_ms, version)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $9, 1)",
        STORE_VALUES(store_text(id), store_text(user->name), store_text(slice_from_cstr(key)),
                     store_text(user->display_name), store_text(user->email),
                     store_text(user->password_hash), store_number(user->is_disabled > 0),
                     store_number(must_change), store_number((int64_t)now_ms)),
        NULL);
}

int accounts_add_user(struct store_tx *tx, const struct accounts_actor *actor,
                      const struct accounts_user_change *user, char id[ACCOUNTS_ID + 1],
                      struct buf *reason) {
    char made[ACCOUNTS_ID + 1];
    doors_make_id(made);
    int error = people_may(tx, actor, PERMISSION_USERS_WRITE, reason);
    if (error == 0)
        error = check_values(user, reason);
    if (error == 0)
        error = check_free(tx, user->name, SLICE_EMPTY, reason);
    if (error == 0)
        error = check_room(tx, reason);
    if (error == 0)
        error = insert(tx, actor, user, slice_from_cstr(made));
    if (error == 0)
        error = set_roles(tx, actor, slice_from_cstr(made), user, reason);
    if (error == 0)
        memcpy(id, made, sizeof made);
    return error;
}

/* A password that somebody else has set has to be changed by its user. */
static int must_change(const struct accounts_actor *actor, const struct person *person,
                       const struct accounts_user_change *change) {
    bool is_self = !actor->is_owner && slice_eq(actor->user, id_of(person));
    if (change->must_change >= 0 || change->password_hash.len == 0)
        return change->must_change;
    return is_self ? 0 : 1;
}

static int update(struct store_tx *tx, const struct accounts_actor *actor,
                  const struct person *person, const struct accounts_user_change *change) {
    char key[DOORS_NAME + 1] = "";
    bool has_key = change->name.ptr != NULL && doors_fold(change->name, key);
    uint64_t now_ms = 0;
    int error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    return store_exec(
        tx,
        "UPDATE users SET name = COALESCE($2, name), key = COALESCE($3, key),"
        " display_name = COALESCE($4, display_name), email = COALESCE($5, email),"
        " password = COALESCE($6, password), is_disabled = COALESCE($7, is_disabled),"
        " must_change = COALESCE($8, must_change), updated_ms = $9, version = version + 1"
        " WHERE id = $1",
        STORE_VALUES(store_text(id_of(person)), text_or_null(change->name),
                     has_key ? store_text(slice_from_cstr(key)) : store_null(),
                     text_or_null(change->display_name), text_or_null(change->email),
                     text_or_null(change->password_hash), number_or_null(change->is_disabled),
                     number_or_null(must_change(actor, person, change)),
                     store_number((int64_t)now_ms)),
        NULL);
}

static int check_change(struct store_tx *tx, const struct accounts_actor *actor,
                        const struct person *person, const struct accounts_user_change *change,
                        struct buf *reason) {
    int error = 0;
    if (!is_own(actor, person, change))
        error = people_may(tx, actor, PERMISSION_USERS_WRITE, reason);
    if (error == 0)
        error = check_version(change->version, person->version, reason);
    if (error == 0)
        error = check_values(change, reason);
    if (error == 0)
        error = check_actor(tx, actor, person, reason);
    if (error == 0 && change->name.ptr != NULL)
        error = check_free(tx, change->name, id_of(person), reason);
    return error;
}

int accounts_change_user(struct store_tx *tx, const struct accounts_actor *actor, struct slice user,
                         const struct accounts_user_change *change, struct buf *reason) {
    struct person person = {.version = 0};
    int64_t n_before = 0;
    int error = find_person(tx, user, &person, reason);
    if (error == 0)
        error = check_change(tx, actor, &person, change, reason);
    if (error == 0)
        error = people_count_administrators(tx, &n_before);
    if (error == 0)
        error = update(tx, actor, &person, change);
    if (error == 0)
        error = set_roles(tx, actor, id_of(&person), change, reason);
    if (error == 0)
        error = people_keep_administrator(tx, n_before, reason);
    bool ends =
        change->roles != NULL || change->is_disabled >= 0 || change->password_hash.ptr != NULL;
    if (error == 0 && ends)
        error = accounts_end_sessions(tx, id_of(&person), actor->session);
    if (error == 0 && change->revokes_tokens)
        error = people_delete_tokens(tx, id_of(&person), NULL);
    return error;
}

int accounts_delete_user(struct store_tx *tx, const struct accounts_actor *actor, struct slice user,
                         uint64_t version, struct buf *reason) {
    struct person person = {.version = 0};
    int64_t n_before = 0;
    int error = people_may(tx, actor, PERMISSION_USERS_WRITE, reason);
    if (error == 0)
        error = find_person(tx, user, &person, reason);
    if (error == 0)
        error = check_version(version, person.version, reason);
    if (error == 0)
        error = check_actor(tx, actor, &person, reason);
    if (error == 0)
        error = people_count_administrators(tx, &n_before);
    /* Roles, tokens and sessions go with the user. */
    if (error == 0)
        error = store_exec(tx, "DELETE FROM users WHERE id = $1",
                           STORE_VALUES(store_text(id_of(&person))), NULL);
    if (error == 0)
        error = people_keep_administrator(tx, n_before, reason);
    return error;
}
