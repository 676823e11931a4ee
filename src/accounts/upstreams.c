#include "accounts/upstreams.h"

#include "base/limits.h"
#include "config/config.h"
#include "people.h"

/* --- looking --- */

static int show_all(struct store_tx *tx, const char *sql, const struct store_value *values,
                    size_t n_values, accounts_upstream_fn *fn, void *context, size_t *ret_n) {
    struct store_rows *rows = NULL;
    bool goes_on = true;
    *ret_n = 0;
    int error = store_query(tx, sql, values, n_values, &rows);
    while (error == 0 && goes_on && store_rows_next(rows)) {
        struct accounts_upstream upstream = {
            .name = store_rows_text(rows, 0),
            .definition = store_rows_text(rows, 1),
            .is_disabled = store_rows_number(rows, 2) != 0,
            .created_ms = (uint64_t)store_rows_number(rows, 3),
            .updated_ms = (uint64_t)store_rows_number(rows, 4),
            .version = (uint64_t)store_rows_number(rows, 5),
        };
        goes_on = fn(context, &upstream);
        ++*ret_n;
    }
    int end = store_rows_end(rows);
    return error != 0 ? error : end;
}

#define COLUMNS                                                                                    \
    "SELECT name, definition, is_disabled, created_ms, updated_ms, version FROM upstreams"

int accounts_list_upstreams(struct store_tx *tx, accounts_upstream_fn *fn, void *context) {
    size_t n;
    return show_all(tx, COLUMNS " ORDER BY name", NULL, 0, fn, context, &n);
}

int accounts_get_upstream(struct store_tx *tx, struct slice name, accounts_upstream_fn *fn,
                          void *context) {
    size_t n;
    int error =
        show_all(tx, COLUMNS " WHERE name = $1", STORE_VALUES(store_text(name)), fn, context, &n);
    return error == 0 && n == 0 ? ACCOUNTS_E_NONE : error;
}

int accounts_mark_upstreams(struct store_tx *tx, struct buf *out) {
    struct store_rows *rows = NULL;
    int error = store_query(
        tx,
        "SELECT name, is_disabled, created_ms, updated_ms, version FROM upstreams ORDER BY name",
        NULL, 0, &rows);
    while (error == 0 && store_rows_next(rows)) {
        buf_append(out, store_rows_text(rows, 0));
        for (int column = 1; column <= 4; column++)
            buf_printf(out, " %lld", (long long)store_rows_number(rows, column));
        buf_append_byte(out, '\n');
    }
    int end = store_rows_end(rows);
    return error != 0 ? error : end != 0 ? end : buf_error(out);
}

/* --- who may --- */

/* Everything that the system role gives. */
static int may_all(struct store_tx *tx, const struct accounts_actor *actor, const char *what,
                   struct buf *reason) {
    CLEANUP(people_role_deinit) struct people_role all = {.rights = NULL};
    CLEANUP(buf_deinit) struct buf unsaid = BUF_INIT(KIB(4));
    int error = people_find_role(tx, SLICE(PEOPLE_ADMINISTRATOR), &all);
    if (error == 0)
        error = people_may_give(tx, actor, all.rights, "", &unsaid);
    return error == ACCOUNTS_E_DENIED
               ? people_refuse(reason, error, "only an administrator may have an upstream that %s",
                               what)
               : error;
}

int accounts_may_define(struct store_tx *tx, const struct accounts_actor *actor, unsigned needs,
                        struct buf *reason) {
    int error = people_may(tx, actor, PERMISSION_UPSTREAMS_WRITE, reason);
    if (error == 0 && (needs & CONFIG_NEEDS_SECRETS) != 0)
        error = people_may(tx, actor, PERMISSION_SECRETS_WRITE, reason);
    if (error == ACCOUNTS_E_DENIED && (needs & CONFIG_NEEDS_SECRETS) != 0)
        buf_append_cstr(reason, ": the definition says where a secret is sent");
    if (error == 0 && (needs & CONFIG_NEEDS_COMMANDS) != 0)
        error = may_all(tx, actor, "starts a program", reason);
    if (error == 0 && (needs & CONFIG_NEEDS_CALLERS) != 0)
        error = may_all(tx, actor, "is sent tokens or header fields of callers", reason);
    return error;
}

/* --- changing --- */

struct row {
    bool is_there;
    uint64_t version;
};

static bool take_row(void *context, const struct accounts_upstream *upstream) {
    struct row *row = context;
    row->is_there = true;
    row->version = upstream->version;
    return true;
}

static int check_version(const struct row *row, uint64_t version, struct buf *reason) {
    return version == 0 || version == row->version
               ? 0
               : people_refuse(reason, ACCOUNTS_E_STALE,
                               "the upstream was changed meanwhile; look again");
}

static int find(struct store_tx *tx, struct slice name, struct row *row, struct buf *reason) {
    int error = accounts_get_upstream(tx, name, take_row, row);
    return error == ACCOUNTS_E_NONE
               ? people_refuse(reason, error, "there is no such upstream in the store")
               : error;
}

static int check_room(struct store_tx *tx, struct buf *reason) {
    int64_t n = 0;
    int error = doors_number(tx, "SELECT COUNT(*) FROM upstreams", NULL, 0, 0, &n);
    if (error == 0 && n >= (int64_t)LIMIT_STORED_UPSTREAMS)
        error = people_refuse(reason, ACCOUNTS_E_DENIED,
                              "there are %u upstreams in the store, and "
                              "no more are kept",
                              LIMIT_STORED_UPSTREAMS);
    return error;
}

int accounts_add_upstream(struct store_tx *tx, const struct accounts_actor *actor,
                          struct slice name, const struct accounts_upstream_change *upstream,
                          struct buf *reason) {
    struct row row = {.is_there = false};
    uint64_t now_ms = 0;
    int error = accounts_may_define(tx, actor, upstream->needs, reason);
    if (error == 0)
        error = accounts_get_upstream(tx, name, take_row, &row);
    if (error == ACCOUNTS_E_NONE)
        error = 0;
    if (error == 0 && row.is_there)
        error = people_refuse(reason, ACCOUNTS_E_EXISTS,
                              "there is an upstream of that name in the store");
    if (error == 0)
        error = check_room(tx, reason);
    if (error == 0)
        error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    return store_exec(tx,
                      "INSERT INTO upstreams (name, definition, is_disabled, created_ms,"
                      " updated_ms, version) VALUES ($1, $2, $3, $4, $4, 1)",
                      STORE_VALUES(store_text(name), store_text(upstream->definition),
                                   store_number(upstream->is_disabled == 1),
                                   store_number((int64_t)now_ms)),
                      NULL);
}

int accounts_change_upstream(struct store_tx *tx, const struct accounts_actor *actor,
                             struct slice name, const struct accounts_upstream_change *change,
                             struct buf *reason) {
    struct row row = {.is_there = false};
    uint64_t now_ms = 0;
    int error = accounts_may_define(tx, actor, change->needs, reason);
    if (error == 0)
        error = find(tx, name, &row, reason);
    if (error == 0)
        error = check_version(&row, change->version, reason);
    if (error == 0)
        error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    return store_exec(
        tx,
        "UPDATE upstreams SET definition = COALESCE($2, definition),"
        " is_disabled = COALESCE($3, is_disabled), updated_ms = $4, version = version + 1"
        " WHERE name = $1",
        STORE_VALUES(store_text(name),
                     change->definition.ptr != NULL ? store_text(change->definition) : store_null(),
                     change->is_disabled >= 0 ? store_number(change->is_disabled) : store_null(),
                     store_number((int64_t)now_ms)),
        NULL);
}

int accounts_delete_upstream(struct store_tx *tx, const struct accounts_actor *actor,
                             struct slice name, uint64_t version, struct buf *reason) {
    struct row row = {.is_there = false};
    int error = people_may(tx, actor, PERMISSION_UPSTREAMS_WRITE, reason);
    if (error == 0)
        error = find(tx, name, &row, reason);
    if (error == 0)
        error = check_version(&row, version, reason);
    if (error != 0)
        return error;
    return store_exec(tx, "DELETE FROM upstreams WHERE name = $1", STORE_VALUES(store_text(name)),
                      NULL);
}
