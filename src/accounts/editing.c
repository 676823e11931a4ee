/*
 * Edit mode: windows in which writes are let through, for everybody, for a role, or for an
 * upstream. A window is a row with an end by the store's clock, so nobody has to close it, and
 * nothing keeps it open when whoever opened it is gone.
 *
 * That of a role is kept by the role's id: it follows when the role gets another name, and another
 * role that gets the name has no part in it.
 */
#include <errno.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "doors.h"

static const struct slice scopes[] = {
    [ACCOUNTS_EDIT_ALL] = SLICE_INIT("all"),
    [ACCOUNTS_EDIT_ROLE] = SLICE_INIT("role"),
    [ACCOUNTS_EDIT_UPSTREAM] = SLICE_INIT("upstream"),
};
enum { UPSTREAM_NAME = 256 };

struct slice accounts_scope_name(enum accounts_scope scope) {
    return scopes[scope];
}

bool accounts_find_scope(struct slice name, enum accounts_scope *ret_scope) {
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        if (slice_eq(scopes[i], name)) {
            *ret_scope = (enum accounts_scope)i;
            return true;
        }
    }
    return false;
}

static int refuse(int error, struct buf *reason, const char *sentence) {
    buf_append_cstr(reason, sentence);
    return error;
}

static bool is_text(struct slice text) {
    return utf8_is_valid(text) && slice_find_byte(text, '\0') == SIZE_MAX;
}

static int check_permission(const struct accounts_actor *actor, struct buf *reason) {
    if (doors_may(actor, PERMISSION_EDIT_OPEN))
        return 0;
    return refuse(ACCOUNTS_E_DENIED, reason,
                  "opening and closing edit mode needs the permission edit.open");
}

/* What the window is kept under: a role's id, an upstream's name, nothing. */
struct target {
    char name[UPSTREAM_NAME + 1];
};

/* By id or name, as in the functions for roles. */
static int find_role(struct store_tx *tx, struct slice name, struct target *ret_target,
                     struct buf *reason) {
    char key[DOORS_NAME + 1];
    struct store_rows *rows = NULL;
    if (!doors_fold(name, key))
        return refuse(ACCOUNTS_E_NONE, reason, "there is no such role");
    int error =
        store_query(tx, "SELECT id FROM roles WHERE key = $1 OR id = $2",
                    STORE_VALUES(store_text(slice_from_cstr(key)), store_text(name)), &rows);
    if (error != 0)
        return error;
    bool is_there =
        store_rows_next(rows) &&
        slice_to_cstr(store_rows_text(rows, 0), ret_target->name, sizeof ret_target->name) == 0;
    error = store_rows_end(rows);
    if (error == 0 && !is_there)
        error = refuse(ACCOUNTS_E_NONE, reason, "there is no such role");
    return error;
}

static int find_target(struct store_tx *tx, enum accounts_scope scope, struct slice name,
                       struct target *ret_target, struct buf *reason) {
    switch (scope) {
    case ACCOUNTS_EDIT_ALL:
        ret_target->name[0] = '\0';
        return name.len == 0
                   ? 0
                   : refuse(ACCOUNTS_E_WRONG, reason, "edit mode for everybody has no name");
    case ACCOUNTS_EDIT_ROLE:
        return find_role(tx, name, ret_target, reason);
    case ACCOUNTS_EDIT_UPSTREAM:
        if (name.len != 0 && is_text(name) &&
            slice_to_cstr(name, ret_target->name, sizeof ret_target->name) == 0)
            return 0;
        break;
    }
    return refuse(ACCOUNTS_E_WRONG, reason, "an upstream has a name of 1 to 256 bytes");
}

/* --- opening --- */

static int check_window(uint64_t for_ms, struct slice why, struct buf *reason) {
    if (for_ms < LIMIT_EDIT_LEAST_MS || for_ms > LIMIT_EDIT_MOST_MS)
        return refuse(ACCOUNTS_E_WRONG, reason,
                      "edit mode is opened for one minute to twenty-four hours");
    if (why.len == 0)
        return refuse(ACCOUNTS_E_WRONG, reason, "who opens edit mode says why");
    if (why.len > LIMIT_EDIT_REASON || !is_text(why))
        return refuse(ACCOUNTS_E_WRONG, reason, "a reason is a text of at most 1000 bytes");
    return 0;
}

/* What stands for nobody's name in lists, logs and records. */
static bool is_taken(struct slice name) {
    static const struct slice words[] = {SLICE_INIT("command"), SLICE_INIT("configuration"),
                                         SLICE_INIT("closed"), SLICE_INIT("time")};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (slice_eq_nocase(name, words[i]))
            return true;
    }
    return false;
}

/* A user's name, as it is now; such a one as user:NAME, which nobody can be called. */
static int find_name(struct store_tx *tx, const struct accounts_actor *actor, struct buf *ret_by) {
    struct store_rows *rows = NULL;
    if (actor->is_owner)
        return buf_append_cstr(ret_by, "command");
    int error = store_query(tx, "SELECT name FROM users WHERE id = $1",
                            STORE_VALUES(store_text(actor->user)), &rows);
    if (error != 0)
        return error;
    bool is_there = store_rows_next(rows);
    struct slice name = is_there ? store_rows_text(rows, 0) : SLICE_EMPTY;
    if (is_there && is_taken(name))
        buf_append_cstr(ret_by, "user:");
    int appended = is_there ? buf_append(ret_by, name) : 0;
    error = store_rows_end(rows);
    return error != 0 ? error : appended;
}

/* That of the same target is replaced, and does not count. */
static int make_room(struct store_tx *tx, enum accounts_scope scope, const struct target *target,
                     uint64_t now_ms, struct buf *reason) {
    int64_t n = 0;
    int error = store_exec(
        tx, "DELETE FROM edit_windows WHERE until_ms <= $1 OR (scope = $2 AND name = $3)",
        STORE_VALUES(store_number((int64_t)now_ms), store_text(scopes[scope]),
                     store_text(slice_from_cstr(target->name))),
        NULL);
    if (error == 0)
        error = doors_number(tx, "SELECT COUNT(*) FROM edit_windows", NULL, 0, 0, &n);
    if (error == 0 && n >= LIMIT_EDIT_WINDOWS)
        error = refuse(ACCOUNTS_E_DENIED, reason, "too many are open; close some first");
    return error;
}

int accounts_open_edit(struct store_tx *tx, const struct accounts_actor *actor,
                       enum accounts_scope scope, struct slice name, uint64_t for_ms,
                       struct slice why, struct buf *reason) {
    CLEANUP(buf_deinit) struct buf by = BUF_INIT(KIB(1));
    struct target target;
    char id[ACCOUNTS_ID + 1];
    uint64_t now_ms = 0;
    why = slice_trim(why);
    int error = check_permission(actor, reason);
    if (error == 0)
        error = check_window(for_ms, why, reason);
    if (error == 0)
        error = find_target(tx, scope, name, &target, reason);
    if (error == 0)
        error = store_now_ms(tx, &now_ms);
    if (error == 0)
        error = make_room(tx, scope, &target, now_ms, reason);
    if (error == 0)
        error = find_name(tx, actor, &by);
    if (error != 0)
        return error;
    doors_make_id(id);
    return store_exec(tx,
                      "INSERT INTO edit_windows (id, scope, name, opened_ms, until_ms, why, by)"
                      " VALUES ($1, $2, $3, $4, $5, $6, $7)",
                      STORE_VALUES(store_text(slice_from_cstr(id)), store_text(scopes[scope]),
                                   store_text(slice_from_cstr(target.name)),
                                   store_number((int64_t)now_ms),
                                   store_number((int64_t)(now_ms + for_ms)), store_text(why),
                                   store_text(buf_slice(&by))),
                      NULL);
}

/* --- closing --- */

int accounts_close_edit(struct store_tx *tx, const struct accounts_actor *actor,
                        enum accounts_scope scope, struct slice name, uint64_t *ret_closed,
                        struct buf *reason) {
    struct target target = {{0}};
    uint64_t now_ms = 0, closed = 0;
    int error = check_permission(actor, reason);
    if (error == 0 && name.len != 0)
        error = find_target(tx, scope, name, &target, reason);
    if (error == 0)
        error = store_now_ms(tx, &now_ms);
    /* Those that are over go by the sweep, and do not count as closed. */
    if (error == 0)
        error = store_exec(tx,
                           "DELETE FROM edit_windows WHERE scope = $1 AND (name = $2 OR $2 = '')"
                           " AND until_ms > $3",
                           STORE_VALUES(store_text(scopes[scope]),
                                        store_text(slice_from_cstr(target.name)),
                                        store_number((int64_t)now_ms)),
                           &closed);
    if (error == 0)
        *ret_closed = closed;
    return error;
}

/* --- listing --- */

int accounts_list_edits(struct store_tx *tx, accounts_edit_fn *fn, void *context) {
    struct store_rows *rows = NULL;
    uint64_t now_ms = 0;
    int error = store_now_ms(tx, &now_ms);
    if (error == 0)
        error = store_query(
            tx,
            "SELECT w.id, w.scope, w.name, w.opened_ms, w.until_ms, w.why, w.by, r.name"
            " FROM edit_windows w LEFT JOIN roles r ON w.scope = 'role' AND r.id = w.name"
            " WHERE w.until_ms > $1 AND (w.scope <> 'role' OR r.id IS NOT NULL)"
            " ORDER BY w.scope, w.opened_ms, w.id",
            STORE_VALUES(store_number((int64_t)now_ms)), &rows);
    if (error != 0)
        return error;
    bool goes_on = true;
    while (goes_on && store_rows_next(rows)) {
        struct accounts_edit edit = {
            .id = store_rows_text(rows, 0),
            .opened_ms = (uint64_t)store_rows_number(rows, 3),
            .until_ms = (uint64_t)store_rows_number(rows, 4),
            .reason = store_rows_text(rows, 5),
            .by = store_rows_text(rows, 6),
        };
        if (!accounts_find_scope(store_rows_text(rows, 1), &edit.scope))
            continue;
        edit.name = store_rows_text(rows, edit.scope == ACCOUNTS_EDIT_ROLE ? 7 : 2);
        goes_on = fn(context, &edit);
    }
    return store_rows_end(rows);
}
