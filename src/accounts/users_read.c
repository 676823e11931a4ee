/* Users, to be looked at. */
#include <errno.h>

#include "base/arena.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "people.h"

enum {
    COLUMN_ID,
    COLUMN_NAME,
    COLUMN_DISPLAY_NAME,
    COLUMN_EMAIL,
    COLUMN_DISABLED,
    COLUMN_MUST_CHANGE,
    COLUMN_PASSWORD,
    COLUMN_CREATED,
    COLUMN_UPDATED,
    COLUMN_LOGIN,
    COLUMN_VERSION
};

/* Nothing of a role's name is longer than a name. */
#define ROLES_MEMORY KIB(64)

static int read_roles(struct store_tx *tx, struct slice user_id, struct arena *arena,
                      struct accounts_user *user) {
    struct store_rows *rows = NULL;
    struct slice *roles = arena_alloc_array(arena, LIMIT_USER_ROLES, sizeof *roles);
    size_t n = 0;
    if (roles == NULL)
        return -ENOMEM;
    int error = store_query(tx,
                            "SELECT r.name FROM user_roles ur JOIN roles r ON r.id = ur.role_id"
                            " WHERE ur.user_id = $1 ORDER BY r.key",
                            STORE_VALUES(store_text(user_id)), &rows);
    while (error == 0 && n < LIMIT_USER_ROLES && store_rows_next(rows)) {
        roles[n] = arena_dup(arena, store_rows_text(rows, 0));
        if (roles[n++].ptr == NULL)
            error = -ENOMEM;
    }
    int end = store_rows_end(rows);
    user->roles = roles;
    user->n_roles = n;
    return error != 0 ? error : end;
}

static int show(struct store_tx *tx, const struct store_rows *rows, accounts_user_fn *fn,
                void *context, bool *ret_more) {
    CLEANUP(arena_deinit) struct arena arena = ARENA_INIT(ROLES_MEMORY);
    struct accounts_user user = {
        .id = store_rows_text(rows, COLUMN_ID),
        .name = store_rows_text(rows, COLUMN_NAME),
        .display_name = store_rows_text(rows, COLUMN_DISPLAY_NAME),
        .email = store_rows_text(rows, COLUMN_EMAIL),
        .is_disabled = store_rows_number(rows, COLUMN_DISABLED) != 0,
        .must_change = store_rows_number(rows, COLUMN_MUST_CHANGE) != 0,
        .has_password = store_rows_number(rows, COLUMN_PASSWORD) != 0,
        .created_ms = (uint64_t)store_rows_number(rows, COLUMN_CREATED),
        .updated_ms = (uint64_t)store_rows_number(rows, COLUMN_UPDATED),
        .login_ms = (uint64_t)store_rows_number(rows, COLUMN_LOGIN),
        .version = (uint64_t)store_rows_number(rows, COLUMN_VERSION),
    };
    int error = read_roles(tx, user.id, &arena, &user);
    if (error == 0)
        *ret_more = fn(context, &user);
    return error;
}

static int show_all(struct store_tx *tx, const char *sql, const struct store_value *values,
                    size_t n_values, accounts_user_fn *fn, void *context, size_t *ret_n) {
    struct store_rows *rows = NULL;
    bool goes_on = true;
    size_t n = 0;
    int error = store_query(tx, sql, values, n_values, &rows);
    while (error == 0 && goes_on && store_rows_next(rows)) {
        error = show(tx, rows, fn, context, &goes_on);
        n++;
    }
    int end = store_rows_end(rows);
    *ret_n = n;
    return error != 0 ? error : end;
}

/* The hash itself is never read for a list. */
#define USER_COLUMNS                                                                               \
    "SELECT id, name, display_name, email, is_disabled, must_change,"                              \
    " CASE WHEN password = '' THEN 0 ELSE 1 END, created_ms, updated_ms, login_ms, version"        \
    " FROM users"

int accounts_get_user(struct store_tx *tx, struct slice user, accounts_user_fn *fn, void *context) {
    char id[ACCOUNTS_ID + 1];
    size_t n = 0;
    int error = doors_find_user(tx, user, id);
    if (error == 0)
        error = show_all(tx, USER_COLUMNS " WHERE id = $1",
                         STORE_VALUES(store_text(slice_from_cstr(id))), fn, context, &n);
    return error == 0 && n == 0 ? ACCOUNTS_E_NONE : error;
}

/* What LIKE takes for the text itself, anywhere. */
static int write_pattern(struct buf *out, struct slice search) {
    if (search.len == 0)
        return 0;
    buf_append_byte(out, '%');
    for (size_t i = 0; i < search.len; i++) {
        if (search.ptr[i] == '%' || search.ptr[i] == '_' || search.ptr[i] == '!')
            buf_append_byte(out, '!');
        buf_append_byte(out, search.ptr[i]);
    }
    return buf_append_byte(out, '%');
}

int accounts_list_users(struct store_tx *tx, struct slice search, struct slice after, size_t most,
                        accounts_user_fn *fn, void *context) {
    CLEANUP(buf_deinit) struct buf pattern = BUF_INIT(KIB(2));
    char key[DOORS_NAME + 1] = "";
    size_t n = 0;
    /* Nobody has a longer one, nor such a name. */
    if (search.len > PEOPLE_EMAIL || !utf8_is_valid(search) ||
        slice_find_byte(search, '\0') != SIZE_MAX || (after.len != 0 && !doors_fold(after, key)))
        return 0;
    int error = write_pattern(&pattern, search);
    if (error != 0)
        return error;
    return show_all(
        tx,
        USER_COLUMNS " WHERE key > $1 AND ($2 = '' OR key LIKE LOWER($2) ESCAPE '!'"
                     " OR LOWER(display_name) LIKE LOWER($2) ESCAPE '!'"
                     " OR LOWER(email) LIKE LOWER($2) ESCAPE '!')"
                     " ORDER BY key LIMIT $3",
        STORE_VALUES(store_text(slice_from_cstr(key)), store_text(buf_slice(&pattern)),
                     store_number(most > LIMIT_USERS ? (int64_t)LIMIT_USERS : (int64_t)most)),
        fn, context, &n);
}
