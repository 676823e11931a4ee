/* Statements, transactions and what both databases have to answer alike. */
#include "store_private.h"
#include "store_world.h"

/* --- values --- */

struct value_case {
    const char *name;
    struct store_value value;
    int error;
};

static const struct value_case value_cases[] = {
    {"a text", {.type = STORE_TEXT, .text = SLICE_INIT("abc")}, 0},
    {"an empty text", {.type = STORE_TEXT, .text = SLICE_INIT("")}, 0},
    {"quotation marks",
     {.type = STORE_TEXT, .text = SLICE_INIT("'; DROP TABLE sealed; --\"$1\\")},
     0},
    {"letters of the world",
     {.type = STORE_TEXT, .text = SLICE_INIT("\xc3\xa4\xe2\x82\xac\xf0\x9f\x94\x91")},
     0},
    {"control characters", {.type = STORE_TEXT, .text = SLICE_INIT("\x01\x1b\x7f\r\n\t")}, 0},
    {"a number as a text", {.type = STORE_TEXT, .text = SLICE_INIT("0012")}, 0},
    {"a NUL byte", {.type = STORE_TEXT, .text = SLICE_INIT("a\0b")}, -EINVAL},
    {"a NUL byte at the end", {.type = STORE_TEXT, .text = SLICE_INIT("a\0")}, -EINVAL},
    {"no UTF-8", {.type = STORE_TEXT, .text = SLICE_INIT("a\xff")}, -EINVAL},
    {"half of a letter", {.type = STORE_TEXT, .text = SLICE_INIT("a\xc3")}, -EINVAL},
    {"a surrogate", {.type = STORE_TEXT, .text = SLICE_INIT("\xed\xa0\x80")}, -EINVAL},
    {"NULL where none may be", {.type = STORE_NULL}, STORE_E_CONFLICT},
};

static int put_text(struct store_tx *tx, void *context) {
    const struct value_case *row = context;
    return store_exec(tx,
                      "INSERT INTO sealed (kind, name, token, created_ms, updated_ms)"
                      " VALUES ('t', 'x', $1, 0, 0)",
                      &row->value, 1, NULL);
}

static int check_text(struct store_tx *tx, void *context) {
    const struct value_case *row = context;
    struct store_rows *rows = NULL;
    int error =
        store_query(tx, "SELECT token, kind FROM sealed WHERE token = $1", &row->value, 1, &rows);
    CHECK_INT(error, 0);
    CHECK(store_rows_next(rows));
    CHECK_SLICE(store_rows_text(rows, 0), row->value.text);
    CHECK_STR(store_rows_text(rows, 1), "t");
    CHECK(!store_rows_is_null(rows, 0));
    CHECK(!store_rows_next(rows));
    CHECK(!store_rows_next(rows));
    CHECK_STR(store_rows_text(rows, 0), "");
    return store_rows_end(rows);
}

static int delete_all(struct store_tx *tx, void *context) {
    return store_exec(tx, "DELETE FROM sealed", NULL, 0, context);
}

static void test_values(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    for (size_t i = 0; i < ARRAY_LEN(value_cases); i++) {
        struct value_case row = value_cases[i];
        uint64_t deleted = 9;
        test_row(row.name);
        CHECK_INT(store_run(world.store, STORE_WRITE, put_text, &row), row.error);
        if (row.error == 0)
            CHECK_INT(store_run(world.store, STORE_READ, check_text, &row), 0);
        CHECK_INT(store_run(world.store, STORE_WRITE, delete_all, &deleted), 0);
        CHECK_INT(deleted, row.error == 0);
    }
    store_world_close(&world);
}
STORE_TEST(test_values)

static int put_number(struct store_tx *tx, void *context) {
    const int64_t *number = context;
    return store_exec(tx,
                      "INSERT INTO login_failures (key, count, last_ms) VALUES ('x', $1, $2)"
                      " ON CONFLICT (key) DO UPDATE SET count = $1, last_ms = $2",
                      STORE_VALUES(store_number(*number), store_number(0)), NULL);
}

static int get_number(struct store_tx *tx, void *context) {
    int64_t *number = context;
    struct store_rows *rows = NULL;
    int error = store_query(tx,
                            "SELECT count, NULL, count(*), key FROM login_failures"
                            " WHERE count = $1 GROUP BY count, key",
                            STORE_VALUES(store_number(*number)), &rows);
    *number = 0;
    if (error != 0 || !store_rows_next(rows))
        return store_rows_end(rows);
    *number = store_rows_number(rows, 0);
    CHECK(store_rows_is_null(rows, 1));
    CHECK_INT(store_rows_number(rows, 1), 0);
    CHECK_STR(store_rows_text(rows, 1), "");
    CHECK_INT(store_rows_number(rows, 2), 1);
    CHECK_INT(store_rows_number(rows, 3), 0); /* it is a text */
    return store_rows_end(rows);
}

static void test_numbers(enum store_world_kind kind) {
    static const int64_t numbers[] = {0,         1,        -1, INT32_MAX, (int64_t)INT32_MAX + 1,
                                      INT64_MAX, INT64_MIN};
    struct store_world world;
    store_world_open(&world, kind);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        int64_t number = numbers[i];
        CHECK_INT(store_run(world.store, STORE_WRITE, put_number, &number), 0);
        CHECK_INT(store_run(world.store, STORE_READ, get_number, &number), 0);
        CHECK_INT(number, numbers[i]);
    }
    store_world_close(&world);
}
STORE_TEST(test_numbers)

/* --- statements --- */

struct sql_case {
    const char *name, *sql;
    size_t n_values;
    int error;
    bool writes;
};

static const struct sql_case sql_cases[] = {
    {"a value too few", "SELECT count(*) FROM setup WHERE id = $1 OR expires_ms = $2", 1, -EINVAL,
     false},
    {"a value too many", "SELECT count(*) FROM setup WHERE id = $1", 2, -EINVAL, false},
    {"two statements", "SELECT 1; SELECT 2", 0, -EINVAL, false},
    {"nothing", "", 0, -EINVAL, false},
    {"no such table", "SELECT id FROM nowhere", 0, STORE_E_BROKEN, false},
    {"writes in a transaction that reads", "DELETE FROM setup", 0, -EROFS, false},
    {"writes and answers in one that reads", "DELETE FROM setup RETURNING id", 0, -EROFS, false},
    {"the same value twice", "SELECT count(*) FROM setup WHERE id = $1 OR expires_ms = $1", 1, 0,
     false},
    {"values in another order", "SELECT count(*) FROM setup WHERE id = $2 OR expires_ms = $1", 2, 0,
     false},
    {"no such row",
     "INSERT INTO user_roles (user_id, role_id) VALUES ('nobody', 'viewer0000000000000000')", 0,
     STORE_E_CONFLICT, true},
    {"there already", "INSERT INTO changes (id, number) VALUES (1, 1)", 0, STORE_E_CONFLICT, true},
};

static int run_case(struct store_tx *tx, void *context) {
    const struct sql_case *row = context;
    const struct store_value values[] = {store_number(1), store_number(2)};
    struct store_rows *rows = NULL;
    int error = store_query(tx, row->sql, values, row->n_values, &rows);
    if (error == 0)
        error = store_rows_end(rows);
    CHECK_INT(error, row->error);
    if (error != 0) { /* it stays */
        CHECK_INT(store_exec(tx, "SELECT count(*) FROM roles", NULL, 0, NULL), error);
        CHECK_INT(store_query(tx, "SELECT count(*) FROM users", NULL, 0, &rows), error);
        CHECK(!store_rows_next(NULL));
    }
    return 0;
}

static void test_statements(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    for (size_t i = 0; i < ARRAY_LEN(sql_cases); i++) {
        struct sql_case row = sql_cases[i];
        test_row(row.name);
        CHECK_INT(store_run(world.store, row.writes ? STORE_WRITE : STORE_READ, run_case, &row),
                  row.error);
    }
    store_world_close(&world);
}
STORE_TEST(test_statements)

/* While rows are read others are asked for, with the same statement, too. */
static int nest(struct store_tx *tx, void *context) {
    static const char sql[] = "SELECT id FROM roles ORDER BY id";
    unsigned *n = context;
    struct store_rows *outer = NULL;
    int error = store_query(tx, sql, NULL, 0, &outer);
    while (error == 0 && store_rows_next(outer)) {
        struct store_rows *inner = NULL;
        error = store_query(tx, sql, NULL, 0, &inner);
        while (error == 0 && store_rows_next(inner))
            ++*n;
        CHECK_INT(store_rows_end(inner), 0);
        CHECK(store_rows_text(outer, 0).len == 22);
        error = error != 0 ? error
                           : store_exec(tx, "UPDATE roles SET version = version + 1 WHERE id = $1",
                                        STORE_VALUES(store_text(store_rows_text(outer, 0))), NULL);
    }
    int end = store_rows_end(outer);
    return error != 0 ? error : end;
}

static void test_nested(enum store_world_kind kind) {
    struct store_world world;
    unsigned n = 0;
    store_world_open(&world, kind);
    CHECK_INT(store_run(world.store, STORE_WRITE, nest, &n), 0);
    CHECK_INT(n, 9);
    store_world_close(&world);
}
STORE_TEST(test_nested)

/* --- transactions --- */

static int count_roles(struct store_tx *tx, void *context) {
    return store_get_number(tx, "SELECT count(*) FROM roles", context);
}

enum { REFUSED = STORE_E_USER + 3 };

static int add_and_fail(struct store_tx *tx, void *context) {
    struct store_rows *left = NULL;
    int error = store_exec(tx, "DELETE FROM roles", NULL, 0, NULL);
    CHECK_INT(error, 0);
    /* What is left open here is closed by the store. */
    CHECK_INT(store_query(tx, "SELECT id FROM changes", NULL, 0, &left), 0);
    CHECK(store_rows_next(left));
    return *(int *)context;
}

static int ignore_error(struct store_tx *tx, void *context) {
    (void)context;
    CHECK_INT(store_exec(tx, "DELETE FROM roles", NULL, 0, NULL), 0);
    CHECK_INT(store_exec(tx, "INSERT INTO changes (id, number) VALUES (1, 1)", NULL, 0, NULL),
              STORE_E_CONFLICT);
    return 0;
}

static int translate_error(struct store_tx *tx, void *context) {
    (void)context;
    int error = store_exec(tx, "INSERT INTO changes (id, number) VALUES (1, 1)", NULL, 0, NULL);
    return error == STORE_E_CONFLICT ? REFUSED : error;
}

static void test_rollback(enum store_world_kind kind) {
    struct store_world world;
    uint64_t n = 0;
    int result = REFUSED, failed = -EPROTO;
    store_world_open(&world, kind);
    CHECK_INT(store_run(world.store, STORE_WRITE, add_and_fail, &result), REFUSED);
    CHECK_INT(store_run(world.store, STORE_WRITE, add_and_fail, &failed), -EPROTO);
    CHECK_INT(store_run(world.store, STORE_WRITE, ignore_error, NULL), STORE_E_CONFLICT);
    CHECK_INT(store_run(world.store, STORE_WRITE, translate_error, NULL), REFUSED);
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), 0);
    CHECK_INT(n, 3);
    store_world_close(&world);
}
STORE_TEST(test_rollback)

static int number_of(struct store_tx *tx, void *context) {
    return store_get_number(tx, "SELECT number FROM changes", context);
}

static int change_nothing(struct store_tx *tx, void *context) {
    uint64_t n = 9;
    int error = store_exec(tx, "UPDATE roles SET version = 7 WHERE id = 'none'", NULL, 0, &n);
    CHECK_INT(n, 0);
    struct store_rows *rows = NULL;
    if (error == 0)
        error = store_query(tx, "DELETE FROM users WHERE id = 'none' RETURNING id", NULL, 0, &rows);
    CHECK(!store_rows_next(rows));
    CHECK_INT(store_rows_end(rows), 0);
    (void)context;
    return error;
}

static int change_and_look_away(struct store_tx *tx, void *context) {
    struct store_rows *rows = NULL;
    (void)context;
    int error = store_query(tx, "UPDATE roles SET version = 7 RETURNING id", NULL, 0, &rows);
    int end = store_rows_end(rows);
    return error != 0 ? error : end;
}

/* `changes` grows with what was written, and with nothing else. */
static void test_changes(enum store_world_kind kind) {
    struct store_world world;
    uint64_t before = 0, after = 0;
    int refused = REFUSED;
    store_world_open(&world, kind);
    CHECK_INT(store_run(world.store, STORE_READ, number_of, &before), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, add_and_fail, &refused), REFUSED);
    CHECK_INT(store_run(world.store, STORE_WRITE, change_nothing, NULL), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, count_roles, &after), 0);
    CHECK_INT(store_run(world.store, STORE_READ, number_of, &after), 0);
    CHECK_INT(after, before);
    CHECK_INT(store_run(world.store, STORE_WRITE, change_and_look_away, NULL), 0);
    CHECK_INT(store_run(world.store, STORE_READ, number_of, &after), 0);
    CHECK_INT(after, before + 1);
    store_world_close(&world);
}
STORE_TEST(test_changes)

static int add_user(struct store_tx *tx, void *context) {
    (void)context;
    int error = store_exec(
        tx,
        "INSERT INTO users (id, name, key, display_name, email, password, is_disabled, must_change,"
        " login_ms, created_ms, updated_ms, version)"
        " VALUES ('u', 'U', 'u', '', '', '', 0, 0, 0, 0, 0, 1)",
        NULL, 0, NULL);
    if (error == 0)
        error = store_exec(
            tx, "INSERT INTO user_roles (user_id, role_id) VALUES ('u', 'viewer0000000000000000')",
            NULL, 0, NULL);
    return error;
}

static int delete_user(struct store_tx *tx, void *context) {
    int error = store_exec(tx, "DELETE FROM users WHERE id = 'u'", NULL, 0, NULL);
    if (error == 0)
        error = store_get_number(tx, "SELECT count(*) FROM user_roles", context);
    return error;
}

static int delete_role(struct store_tx *tx, void *context) {
    (void)context;
    return store_exec(tx, "DELETE FROM roles WHERE key = 'viewer'", NULL, 0, NULL);
}

static void test_references(enum store_world_kind kind) {
    struct store_world world;
    uint64_t n = 9;
    store_world_open(&world, kind);
    CHECK_INT(store_run(world.store, STORE_WRITE, add_user, NULL), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, delete_role, NULL), STORE_E_CONFLICT);
    CHECK_INT(store_run(world.store, STORE_WRITE, delete_user, &n), 0);
    CHECK_INT(n, 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, delete_role, NULL), 0);
    store_world_close(&world);
}
STORE_TEST(test_references)

static int look_at_clock(struct store_tx *tx, void *context) {
    return store_now_ms(tx, context);
}

static void test_clock(enum store_world_kind kind) {
    struct store_world world;
    uint64_t first = 0, second = 0;
    store_world_open(&world, kind);
    CHECK_INT(store_run(world.store, STORE_READ, look_at_clock, &first), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, look_at_clock, &second), 0);
    CHECK(first > UINT64_C(1600000000000) && first < UINT64_C(4000000000000));
    CHECK(second >= first);
    store_world_close(&world);
}
STORE_TEST(test_clock)

static void test_describe(enum store_world_kind kind) {
    struct store_world world;
    struct buf about CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    store_world_open(&world, kind);
    store_describe(world.store, &about);
    if (kind == STORE_WORLD_SQLITE) {
        CHECK(slice_starts_with(buf_slice(&about), SLICE("SQLite 3.")));
        CHECK(slice_ends_with(buf_slice(&about), SLICE("/store.sqlite")));
    } else {
        CHECK(slice_starts_with(buf_slice(&about), SLICE("PostgreSQL ")));
        CHECK(slice_ends_with(buf_slice(&about), slice_from_cstr(world.database)));
        CHECK(slice_find(buf_slice(&about), SLICE("correct")) == SIZE_MAX);
    }
    CHECK(store_is_shared(world.store) == (kind == STORE_WORLD_POSTGRES));
    store_world_close(&world);
}
STORE_TEST(test_describe)

/* --- memory --- */

static void open_and_close(void *arg) {
    struct store_world *world = arg;
    struct store *store = NULL;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    uint64_t n = 0;
    int error = store_open(&world->options, &store, &reason);
    if (error == 0)
        error = store_run(store, STORE_READ, count_roles, &n);
    CHECK(error == 0 || error == -ENOMEM || error == STORE_E_GONE);
    CHECK(error != 0 || n == 3);
    store_close(store);
}

static void test_memory(enum store_world_kind kind) {
    struct store_world world;
    store_world_make(&world, kind);
    test_torture(open_and_close, &world);
    store_world_close(&world);
}
STORE_TEST(test_memory)

static void write_once(void *arg) {
    struct store_world *world = arg;
    unsigned n = 0;
    int error = store_run(world->store, STORE_WRITE, nest, &n);
    CHECK(error == 0 || error == -ENOMEM);
}

static void test_memory_of_work(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    test_torture(write_once, &world);
    store_world_close(&world);
}
STORE_TEST(test_memory_of_work)

#define BOTH(function) TEST(function##_sqlite), TEST(function##_postgres)

TEST_MAIN(BOTH(test_values), BOTH(test_numbers), BOTH(test_statements), BOTH(test_nested),
          BOTH(test_rollback), BOTH(test_changes), BOTH(test_references), BOTH(test_clock),
          BOTH(test_describe), BOTH(test_memory), BOTH(test_memory_of_work))
