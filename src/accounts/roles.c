/*
 * Roles. A role is as strong as its rights: whoever makes one, changes one, or maps a group of
 * OAuth to it hands these rights out, and must have them. The three system roles stay what they
 * are; only the groups that have them can be chosen.
 */
#include <errno.h>

#include "base/arena.h"
#include "base/limits.h"
#include "people.h"

enum { MOST_GROUP = 256 /* bytes of a group's name */ };

void people_role_deinit(struct people_role *role) {
    role->rights = policy_rights_unref(role->rights);
}

/* --- administrators --- */

int people_count_administrators(struct store_tx *tx, int64_t *ret_n) {
    return doors_number(tx,
                        "SELECT COUNT(*) FROM user_roles ur JOIN users u ON u.id = ur.user_id"
                        " WHERE ur.role_id = '" PEOPLE_ADMINISTRATOR "' AND u.is_disabled = 0",
                        NULL, 0, 0, ret_n);
}

int people_keep_administrator(struct store_tx *tx, int64_t n_before, struct buf *reason) {
    int64_t n = 0;
    int error = people_count_administrators(tx, &n);
    if (error == 0 && n == 0 && n_before != 0)
        error = people_refuse(reason, ACCOUNTS_E_DENIED,
                              "this is the last administrator; make another one first");
    return error;
}

/* --- finding --- */

static int take_role(const struct store_rows *rows, struct people_role *role) {
    int error = slice_to_cstr(store_rows_text(rows, 0), role->id, sizeof role->id);
    role->is_system = store_rows_number(rows, 1) != 0;
    role->version = (uint64_t)store_rows_number(rows, 2);
    return error == 0 ? people_read_rights(store_rows_text(rows, 3), &role->rights) : error;
}

static int find_by(struct store_tx *tx, const char *sql, struct slice value,
                   struct people_role *role) {
    struct store_rows *rows = NULL;
    int error = store_query(tx, sql, STORE_VALUES(store_text(value)), &rows);
    if (error == 0)
        error = store_rows_next(rows) ? take_role(rows, role) : ACCOUNTS_E_NONE;
    int end = store_rows_end(rows);
    return end != 0 ? end : error;
}

int people_find_role(struct store_tx *tx, struct slice role, struct people_role *ret_role) {
    char key[DOORS_NAME + 1];
    int error = ACCOUNTS_E_NONE;
    if (doors_is_base64url(role, ACCOUNTS_ID))
        error = find_by(tx, "SELECT id, is_system, version, rights FROM roles WHERE id = $1", role,
                        ret_role);
    if (error != ACCOUNTS_E_NONE || !doors_fold(role, key))
        return error;
    return find_by(tx, "SELECT id, is_system, version, rights FROM roles WHERE key = $1",
                   slice_from_cstr(key), ret_role);
}

static int find_role(struct store_tx *tx, struct slice role, struct people_role *ret_role,
                     struct buf *reason) {
    int error = people_find_role(tx, role, ret_role);
    if (error == ACCOUNTS_E_NONE)
        return people_refuse(reason, error, "there is no such role");
    return error;
}

/* --- checks --- */

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
        tx, "SELECT COUNT(*) FROM roles WHERE (key = $1 AND id <> $2) OR id = $3",
        STORE_VALUES(store_text(slice_from_cstr(key)), store_text(but), store_text(name)), 0, &n);
    if (error == 0 && n != 0)
        error = people_refuse(reason, ACCOUNTS_E_EXISTS, "there is a role with this name already");
    return error;
}

static int check_groups(const struct accounts_role_change *change, struct buf *reason) {
    if (change->n_groups > LIMIT_ROLE_GROUPS)
        return people_refuse(reason, ACCOUNTS_E_WRONG, "a role may have at most %u groups",
                             LIMIT_ROLE_GROUPS);
    for (size_t i = 0; i < change->n_groups; i++) {
        if (change->groups[i].len == 0)
            return people_refuse(reason, ACCOUNTS_E_WRONG, "a group has a name");
        int error = people_check_text(change->groups[i], "a group", MOST_GROUP, reason);
        if (error != 0)
            return error;
    }
    return 0;
}

/* What is said about them, before it is looked at who says it. *ret_rights stays NULL where they
 * stay. */
static int read_change(const struct accounts_role_change *change, struct policy_rights **ret_rights,
                       struct buf *reason) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    int error = people_check_text(change->description, "a description", LIMIT_DESCRIPTION, reason);
    if (error == 0)
        error = check_groups(change, reason);
    if (error != 0 || change->rights.ptr == NULL)
        return error;
    error = json_reader_new(&reader);
    if (error == 0)
        error = policy_rights_read(reader, change->rights, ret_rights, reason);
    return error == RIGHTS_E_WRONG ? ACCOUNTS_E_WRONG : error;
}

static int check_room(struct store_tx *tx, struct buf *reason) {
    int64_t n = 0;
    int error = doors_number(tx, "SELECT COUNT(*) FROM roles", NULL, 0, 0, &n);
    if (error == 0 && n >= (int64_t)LIMIT_ROLES)
        error =
            people_refuse(reason, ACCOUNTS_E_WRONG, "there may be at most %u roles", LIMIT_ROLES);
    return error;
}

/* --- changes --- */

static int set_groups(struct store_tx *tx, struct slice id,
                      const struct accounts_role_change *change) {
    if (change->groups == NULL)
        return 0;
    int error = store_exec(tx, "DELETE FROM role_groups WHERE role_id = $1",
                           STORE_VALUES(store_text(id)), NULL);
    for (size_t i = 0; i < change->n_groups && error == 0; i++)
        error = store_exec(tx,
                           "INSERT INTO role_groups (role_id, group_name) VALUES ($1, $2)"
                           " ON CONFLICT (role_id, group_name) DO NOTHING",
                           STORE_VALUES(store_text(id), store_text(change->groups[i])), NULL);
    return error;
}

static int insert(struct store_tx *tx, struct slice id, const struct accounts_role_change *role,
                  const struct policy_rights *rights, struct buf *reason) {
    CLEANUP(buf_deinit) struct buf json = BUF_INIT(LIMIT_RIGHTS * 2);
    char key[DOORS_NAME + 1] = "";
    uint64_t now_ms = 0;
    (void)doors_fold(role->name, key);
    int error = people_write_rights(rights, &json, reason);
    if (error == 0)
        error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    return store_exec(tx,
                      "INSERT INTO roles (id, name, key, description, is_system, rights,"
                      " created_ms, updated_ms, version) VALUES ($1, $2, $3, $4, 0, $5, $6, $6, 1)",
                      STORE_VALUES(store_text(id), store_text(role->name),
                                   store_text(slice_from_cstr(key)), store_text(role->description),
                                   store_text(buf_slice(&json)), store_number((int64_t)now_ms)),
                      NULL);
}

int accounts_add_role(struct store_tx *tx, const struct accounts_actor *actor,
                      const struct accounts_role_change *role, char id[ACCOUNTS_ID + 1],
                      struct buf *reason) {
    CLEANUP(people_unrefp) struct policy_rights *rights = NULL;
    char made[ACCOUNTS_ID + 1];
    doors_make_id(made);
    int error = people_may(tx, actor, PERMISSION_ROLES_WRITE, reason);
    if (error == 0)
        error = read_change(role, &rights, reason);
    if (error == 0 && rights == NULL)
        error = policy_rights_union(NULL, 0, &rights);
    if (error == 0)
        error = people_may_give(tx, actor, rights, "this role", reason);
    if (error == 0)
        error = check_free(tx, role->name, SLICE_EMPTY, reason);
    if (error == 0)
        error = check_room(tx, reason);
    if (error == 0)
        error = insert(tx, slice_from_cstr(made), role, rights, reason);
    if (error == 0)
        error = set_groups(tx, slice_from_cstr(made), role);
    if (error == 0)
        memcpy(id, made, sizeof made);
    return error;
}

static struct store_value text_or_null(struct slice text) {
    return text.ptr != NULL ? store_text(text) : store_null();
}

static int update(struct store_tx *tx, struct slice id, const struct accounts_role_change *change,
                  const struct policy_rights *rights, struct buf *reason) {
    CLEANUP(buf_deinit) struct buf json = BUF_INIT(LIMIT_RIGHTS * 2);
    char key[DOORS_NAME + 1] = "";
    bool has_key = change->name.ptr != NULL && doors_fold(change->name, key);
    uint64_t now_ms = 0;
    int error = rights != NULL ? people_write_rights(rights, &json, reason) : 0;
    if (error == 0)
        error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    return store_exec(tx,
                      "UPDATE roles SET name = COALESCE($2, name), key = COALESCE($3, key),"
                      " description = COALESCE($4, description), rights = COALESCE($5, rights),"
                      " updated_ms = $6, version = version + 1 WHERE id = $1",
                      STORE_VALUES(store_text(id), text_or_null(change->name),
                                   has_key ? store_text(slice_from_cstr(key)) : store_null(),
                                   text_or_null(change->description),
                                   rights != NULL ? store_text(buf_slice(&json)) : store_null(),
                                   store_number((int64_t)now_ms)),
                      NULL);
}

/* A session's id is new when its rights are: those who have the role log in again. */
static int end_sessions(struct store_tx *tx, struct slice id, struct slice but) {
    return store_exec(tx,
                      "DELETE FROM sessions WHERE id <> $2 AND user_id IN"
                      " (SELECT user_id FROM user_roles WHERE role_id = $1)",
                      STORE_VALUES(store_text(id), store_text(but)), NULL);
}

static int check_change(struct store_tx *tx, const struct accounts_actor *actor,
                        const struct people_role *role, const struct accounts_role_change *change,
                        const struct policy_rights *rights, struct buf *reason) {
    int error = 0;
    if (change->version != 0 && change->version != role->version)
        return people_refuse(reason, ACCOUNTS_E_STALE,
                             "the role was changed meanwhile; look again");
    if (role->is_system &&
        (change->name.ptr != NULL || change->description.ptr != NULL || change->rights.ptr != NULL))
        return people_refuse(reason, ACCOUNTS_E_DENIED,
                             "of a system role only the groups can be changed");
    error = people_may_give(tx, actor, role->rights, "this role", reason);
    if (error == 0 && rights != NULL)
        error = people_may_give(tx, actor, rights, "this role", reason);
    if (error == 0 && change->name.ptr != NULL)
        error = check_free(tx, change->name, slice_from_cstr(role->id), reason);
    return error;
}

int accounts_change_role(struct store_tx *tx, const struct accounts_actor *actor, struct slice role,
                         const struct accounts_role_change *change, struct buf *reason) {
    CLEANUP(people_role_deinit) struct people_role old = {.rights = NULL};
    CLEANUP(people_unrefp) struct policy_rights *rights = NULL;
    int error = people_may(tx, actor, PERMISSION_ROLES_WRITE, reason);
    if (error == 0)
        error = find_role(tx, role, &old, reason);
    if (error == 0)
        error = read_change(change, &rights, reason);
    if (error == 0)
        error = check_change(tx, actor, &old, change, rights, reason);
    if (error == 0)
        error = update(tx, slice_from_cstr(old.id), change, rights, reason);
    if (error == 0)
        error = set_groups(tx, slice_from_cstr(old.id), change);
    if (error == 0 && rights != NULL)
        error = end_sessions(tx, slice_from_cstr(old.id), actor->session);
    return error;
}

static int check_unused(struct store_tx *tx, struct slice id, struct buf *reason) {
    int64_t n = 0;
    int error = doors_number(tx, "SELECT COUNT(*) FROM user_roles WHERE role_id = $1",
                             STORE_VALUES(store_text(id)), 0, &n);
    if (error == 0 && n != 0)
        error = people_refuse(reason, ACCOUNTS_E_DENIED, "there are users who have this role: %lld",
                              (long long)n);
    return error;
}

int accounts_delete_role(struct store_tx *tx, const struct accounts_actor *actor, struct slice role,
                         uint64_t version, struct buf *reason) {
    CLEANUP(people_role_deinit) struct people_role old = {.rights = NULL};
    int error = people_may(tx, actor, PERMISSION_ROLES_WRITE, reason);
    if (error == 0)
        error = find_role(tx, role, &old, reason);
    if (error == 0 && version != 0 && version != old.version)
        error =
            people_refuse(reason, ACCOUNTS_E_STALE, "the role was changed meanwhile; look again");
    if (error == 0 && old.is_system)
        error = people_refuse(reason, ACCOUNTS_E_DENIED, "a system role cannot be deleted");
    if (error == 0)
        error = people_may_give(tx, actor, old.rights, "this role", reason);
    if (error == 0)
        error = check_unused(tx, slice_from_cstr(old.id), reason);
    if (error == 0)
        error = store_exec(tx, "DELETE FROM edit_windows WHERE scope = 'role' AND name = $1",
                           STORE_VALUES(store_text(slice_from_cstr(old.id))), NULL);
    if (error == 0)
        error = store_exec(tx, "DELETE FROM roles WHERE id = $1",
                           STORE_VALUES(store_text(slice_from_cstr(old.id))), NULL);
    return error;
}

/* --- looking --- */

/* The groups of one role, with their names. */
#define GROUPS_MEMORY (LIMIT_ROLE_GROUPS * (MOST_GROUP + sizeof(struct slice) + 32) + KIB(8))

static int read_groups(struct store_tx *tx, struct slice id, struct arena *arena,
                       struct accounts_role *role) {
    struct store_rows *rows = NULL;
    struct slice *groups = arena_alloc_array(arena, LIMIT_ROLE_GROUPS, sizeof *groups);
    size_t n = 0;
    if (groups == NULL)
        return -ENOMEM;
    int error =
        store_query(tx, "SELECT group_name FROM role_groups WHERE role_id = $1 ORDER BY group_name",
                    STORE_VALUES(store_text(id)), &rows);
    while (error == 0 && n < LIMIT_ROLE_GROUPS && store_rows_next(rows)) {
        groups[n] = arena_dup(arena, store_rows_text(rows, 0));
        if (groups[n++].ptr == NULL)
            error = -ENOMEM;
    }
    int end = store_rows_end(rows);
    role->groups = groups;
    role->n_groups = n;
    return error != 0 ? error : end;
}

static int show(struct store_tx *tx, const struct store_rows *rows, accounts_role_fn *fn,
                void *context, bool *ret_more) {
    CLEANUP(arena_deinit) struct arena arena = ARENA_INIT(GROUPS_MEMORY);
    struct accounts_role role = {
        .id = store_rows_text(rows, 0),
        .name = store_rows_text(rows, 1),
        .description = store_rows_text(rows, 2),
        .is_system = store_rows_number(rows, 3) != 0,
        .rights = store_rows_text(rows, 4),
        .created_ms = (uint64_t)store_rows_number(rows, 5),
        .updated_ms = (uint64_t)store_rows_number(rows, 6),
        .version = (uint64_t)store_rows_number(rows, 7),
        .n_users = (uint64_t)store_rows_number(rows, 8),
    };
    int error = read_groups(tx, role.id, &arena, &role);
    if (error == 0)
        *ret_more = fn(context, &role);
    return error;
}

static int show_all(struct store_tx *tx, const char *sql, const struct store_value *values,
                    size_t n_values, accounts_role_fn *fn, void *context) {
    struct store_rows *rows = NULL;
    bool goes_on = true;
    int error = store_query(tx, sql, values, n_values, &rows);
    while (error == 0 && goes_on && store_rows_next(rows))
        error = show(tx, rows, fn, context, &goes_on);
    int end = store_rows_end(rows);
    return error != 0 ? error : end;
}

#define ROLE_COLUMNS                                                                               \
    "SELECT r.id, r.name, r.description, r.is_system, r.rights, r.created_ms, r.updated_ms,"       \
    " r.version, (SELECT COUNT(*) FROM user_roles ur WHERE ur.role_id = r.id) FROM roles r"

int accounts_get_role(struct store_tx *tx, struct slice role, accounts_role_fn *fn, void *context) {
    CLEANUP(people_role_deinit) struct people_role found = {.rights = NULL};
    int error = people_find_role(tx, role, &found);
    if (error == 0)
        error = show_all(tx, ROLE_COLUMNS " WHERE r.id = $1",
                         STORE_VALUES(store_text(slice_from_cstr(found.id))), fn, context);
    return error;
}

int accounts_list_roles(struct store_tx *tx, const struct accounts_role *after, size_t most,
                        accounts_role_fn *fn, void *context) {
    char key[DOORS_NAME + 1] = "";
    int64_t kind = after == NULL ? 2 : after->is_system;
    /* Nobody has such a name: nothing is behind it. */
    if (after != NULL && !doors_fold(after->name, key))
        return 0;
    return show_all(
        tx,
        ROLE_COLUMNS " WHERE r.is_system < $1 OR (r.is_system = $1 AND r.key > $2)"
                     " ORDER BY r.is_system DESC, r.key LIMIT $3",
        STORE_VALUES(store_number(kind), store_text(slice_from_cstr(key)),
                     store_number(most > LIMIT_ROLES ? (int64_t)LIMIT_ROLES : (int64_t)most)),
        fn, context);
}
