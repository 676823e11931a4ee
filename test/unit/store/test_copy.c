/* Copies of whole stores: backups, restores, moves from one database to the other. */
#include <sqlite3.h>

#include "store_private.h"
#include "store_world.h"
#include "tables.h"

/* A row in each table; letters, quotes and large numbers among them. */
static const char *const rows_of_all[] = {
    "INSERT INTO sealed VALUES ('secret', 'github', 'gAAAA\xc3\xa4''\"$1', 1, 2)",
    "INSERT INTO roles VALUES ('r1', 'Night', 'night', 'at\nnight', 0, '{}', 1, 2, 3)",
    "INSERT INTO role_groups VALUES ('r1', 'ops')",
    "INSERT INTO role_groups VALUES ('viewer0000000000000000', 'all')",
    ("INSERT INTO users VALUES ('u1', 'Ann', 'ann', '', '', '$argon2id$', 0, 1,"
     " 9223372036854775807, 1, 2, 3)"),
    "INSERT INTO user_roles VALUES ('u1', 'r1')",
    "INSERT INTO tokens VALUES ('t1', 'u1', 'ci', 'abcdefgh', 'digest', '', 1, 2, 3)",
    "INSERT INTO sessions VALUES ('s1', 'u1', 'd', '::1', 'Firefox', 1, 2, 3, 4)",
    "INSERT INTO login_failures VALUES ('k', 5, 6)",
    "INSERT INTO setup VALUES (1, 'd', 7)",
    "INSERT INTO edit_windows VALUES ('e1', 'upstream', 'github', 1, 2, 'why', 'ann')",
    "INSERT INTO upstreams VALUES ('github', '{\"url\":\"https://x\"}', 0, 1, 2, 3)",
};

static int fill(struct store_tx *tx, void *context) {
    int error = 0;
    (void)context;
    for (size_t i = 0; i < ARRAY_LEN(rows_of_all) && error == 0; i++)
        error = store_exec(tx, rows_of_all[i], NULL, 0, NULL);
    return error;
}

/* Everything, as one text. */
static int dump(struct store_tx *tx, void *context) {
    struct buf *out = context;
    buf_reset(out, 0);
    for (size_t i = 0; i < n_store_all_tables; i++) {
        const struct store_table *table = &store_all_tables[i];
        struct store_rows *rows = NULL;
        int error = store_query(tx, table->select, NULL, 0, &rows);
        while (error == 0 && store_rows_next(rows)) {
            buf_append_cstr(out, table->name);
            for (int column = 0; column < (int)table->n_columns; column++)
                buf_printf(out, "|%.*s%lld", SLICE_ARGS(store_rows_text(rows, column)),
                           (long long)store_rows_number(rows, column));
            buf_append_byte(out, '\n');
        }
        int end = store_rows_end(rows);
        if (error != 0 || end != 0)
            return error != 0 ? error : end;
    }
    return buf_error(out);
}

static bool has_same_rows(struct slice a, struct slice b) {
    struct slice line, rest = a;
    bool same = a.len == b.len;
    while (rest.len != 0 && same) {
        (void)slice_cut(rest, '\n', &line, &rest);
        same = slice_find(b, line) != SIZE_MAX;
    }
    return same;
}

static void copy_between(enum store_world_kind first, enum store_world_kind second) {
    struct store_world from, to;
    struct buf before CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct buf after CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    uint64_t n = 0;
    store_world_open(&from, first);
    store_world_make(&to, second);
    CHECK_INT(store_run(from.store, STORE_WRITE, fill, NULL), 0);
    CHECK_INT(store_run(from.store, STORE_READ, dump, &before), 0);
    CHECK_INT(store_copy(&from.options, &to.options, &n, &reason), 0);
    CHECK_STR(buf_slice(&reason), "");
    CHECK_INT(n, ARRAY_LEN(rows_of_all) + 3);
    store_world_start(&to);
    CHECK_INT(store_run(to.store, STORE_READ, dump, &after), 0);
    CHECK(buf_len(&before) > 500);
    CHECK(has_same_rows(buf_slice(&before), buf_slice(&after)));
    /* It is not written over by mistake, and it is when that is what is wanted. */
    CHECK_INT(store_copy(&from.options, &to.options, &n, &reason), STORE_E_CONFLICT);
    CHECK(slice_find(buf_slice(&reason), SLICE("it is not empty: there are 1 rows in its table "
                                               "sealed")) != SIZE_MAX);
    to.options.replace = true;
    CHECK_INT(store_copy(&from.options, &to.options, &n, &reason), 0);
    CHECK_INT(store_run(to.store, STORE_READ, dump, &after), 0);
    CHECK(has_same_rows(buf_slice(&before), buf_slice(&after)));
    CHECK_INT(store_copy(&from.options, &from.options, &n, &reason), STORE_E_CONFLICT);
    store_world_close(&from);
    store_world_close(&to);
}

static void test_sqlite_to_sqlite(void) {
    copy_between(STORE_WORLD_SQLITE, STORE_WORLD_SQLITE);
}

static void test_sqlite_to_postgres(void) {
    copy_between(STORE_WORLD_SQLITE, STORE_WORLD_POSTGRES);
}

static void test_postgres_to_sqlite(void) {
    copy_between(STORE_WORLD_POSTGRES, STORE_WORLD_SQLITE);
}

static void test_postgres_to_postgres(void) {
    copy_between(STORE_WORLD_POSTGRES, STORE_WORLD_POSTGRES);
}

/* Whoever adds a table or a column and not a line to tables.c has it lost in each backup. */
static void test_complete(void) {
    struct store_world world;
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    size_t n_tables = 0;
    store_world_open(&world, STORE_WORLD_SQLITE);
    CHECK_INT(sqlite3_open_v2(world.path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    REQUIRE(sqlite3_prepare_v2(db,
                               "SELECT m.name, group_concat(p.name, ', ') FROM sqlite_schema m,"
                               " pragma_table_info(m.name) p WHERE m.type = 'table'"
                               " AND m.name NOT IN ('changes', 'store_version') GROUP BY m.name",
                               -1, &statement, NULL) == SQLITE_OK);
    while (sqlite3_step(statement) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(statement, 0);
        char select[1024];
        size_t found = 0;
        snprintf(select, sizeof select, "SELECT %s FROM %s",
                 (const char *)sqlite3_column_text(statement, 1), name);
        for (size_t i = 0; i < n_store_all_tables; i++)
            found += strcmp(store_all_tables[i].select, select) == 0;
        test_row(name);
        CHECK_INT(found, 1);
        n_tables++;
    }
    CHECK_INT(n_tables, n_store_all_tables);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    store_world_close(&world);
}

/* A backup is one file, for its owner alone. */
static void test_one_file(void) {
    struct store_world from, to;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    char beside[128];
    struct stat info;
    uint64_t n = 0;
    store_world_open(&from, STORE_WORLD_SQLITE);
    store_world_make(&to, STORE_WORLD_SQLITE);
    CHECK_INT(store_copy(&from.options, &to.options, &n, &reason), 0);
    CHECK_INT(stat(to.path, &info), 0);
    CHECK_INT(info.st_mode & 0777, 0600);
    snprintf(beside, sizeof beside, "%s-wal", to.path);
    CHECK(stat(beside, &info) != 0);
    store_world_close(&from);
    store_world_close(&to);
}

static void test_nothing_to_copy(void) {
    struct store_world from, to;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    struct stat info;
    uint64_t n = 0;
    store_world_make(&from, STORE_WORLD_SQLITE);
    store_world_make(&to, STORE_WORLD_SQLITE);
    CHECK_INT(store_copy(&from.options, &to.options, &n, &reason), STORE_E_OLDER);
    CHECK(slice_ends_with(buf_slice(&reason), SLICE("there is no such file")));
    CHECK(stat(from.path, &info) != 0);
    CHECK(stat(to.path, &info) != 0);
    store_world_close(&from);
    store_world_close(&to);
}

/* --- hostile backups --- */

static void run_sql(const char *path, const char *sql) {
    sqlite3 *db = NULL;
    char *error = NULL;
    if (sqlite3_open(path, &db) != SQLITE_OK ||
        sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, error);
        CANNOT_GO_ON();
    }
    sqlite3_close(db);
}

struct hostile_case {
    const char *name, *sql;
    int error;
};

static const struct hostile_case hostile_cases[] = {
    {"a text with a NUL", "INSERT INTO sealed VALUES ('a' || char(0), 'b', 'c', 1, 2)",
     STORE_E_BROKEN},
    {"no UTF-8", "INSERT INTO sealed VALUES (CAST(x'61ff' AS TEXT), 'b', 'c', 1, 2)",
     STORE_E_BROKEN},
    {"a blob", "INSERT INTO sealed VALUES ('a', 'b', x'00', 1, 2)", STORE_E_BROKEN},
    {"a real number", "INSERT INTO sealed VALUES ('a', 'b', 'c', 1.5, 2)", STORE_E_BROKEN},
    {"a reference to nobody", "INSERT INTO user_roles VALUES ('nobody', 'nothing')",
     STORE_E_CONFLICT},
    {"a view in place of a table",
     "DROP TABLE setup; CREATE VIEW setup AS SELECT 1 AS id, 'x' AS digest, 2 AS expires_ms",
     STORE_E_BROKEN},
    {"a table is missing", "DROP TABLE setup", STORE_E_BROKEN},
    {"a column is missing", "ALTER TABLE setup DROP COLUMN digest", STORE_E_BROKEN},
    {"a trigger", "CREATE TRIGGER t AFTER INSERT ON setup BEGIN DELETE FROM users; END", 0},
    {"a newer schema", "UPDATE store_version SET version = 99", STORE_E_NEWER},
    {"another program's", "PRAGMA application_id = 7", STORE_E_BROKEN},
};

static void test_hostile(enum store_world_kind kind) {
    for (size_t i = 0; i < ARRAY_LEN(hostile_cases); i++) {
        const struct hostile_case *row = &hostile_cases[i];
        struct store_world from, to;
        struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
        uint64_t n = 0;
        test_row(row->name);
        store_world_open(&from, STORE_WORLD_SQLITE);
        store_world_make(&to, kind);
        from.store = store_close(from.store);
        run_sql(from.path, row->sql);
        CHECK_INT(store_copy(&from.options, &to.options, &n, &reason), row->error);
        CHECK((buf_len(&reason) == 0) == (row->error == 0));
        /* The other one is as it was. */
        store_world_start(&to);
        CHECK_INT(store_run(to.store, STORE_READ, dump, &reason), 0);
        CHECK(slice_find(buf_slice(&reason), SLICE("sealed")) == SIZE_MAX);
        CHECK(slice_find(buf_slice(&reason), SLICE("roles|viewer")) != SIZE_MAX);
        store_world_close(&from);
        store_world_close(&to);
    }
}
STORE_TEST(test_hostile)

/* --- under load --- */

/* Two rows that are always changed together. */
static int change_both(struct store_tx *tx, void *context) {
    (void)context;
    int error = store_exec(tx, "UPDATE users SET version = version + 1", NULL, 0, NULL);
    if (error == 0)
        error = store_exec(tx, "UPDATE upstreams SET version = version + 1", NULL, 0, NULL);
    return error;
}

static int check_both(struct store_tx *tx, void *context) {
    uint64_t one = 0, other = 0;
    int error = store_get_number(tx, "SELECT version FROM users", &one);
    if (error == 0)
        error = store_get_number(tx, "SELECT version FROM upstreams", &other);
    CHECK(one >= 3);
    CHECK_INT(one, other);
    *(uint64_t *)context = one;
    return error;
}

static void *write_on(void *arg) {
    struct store_world *world = arg;
    for (unsigned i = 0; i < 200; i++)
        if (store_run(world->store, STORE_WRITE, change_both, NULL) != 0)
            return arg; /* refused */
    return NULL;
}

static void test_under_load(enum store_world_kind kind) {
    struct store_world from, to;
    pthread_t writer;
    void *failed = NULL;
    uint64_t n = 0, at_end = 0;
    store_world_open(&from, kind);
    CHECK_INT(store_run(from.store, STORE_WRITE, fill, NULL), 0);
    REQUIRE(pthread_create(&writer, NULL, write_on, &from) == 0);
    for (unsigned i = 0; i < 5; i++) {
        struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
        uint64_t at = 0;
        store_world_make(&to, STORE_WORLD_SQLITE);
        CHECK_INT(store_copy(&from.options, &to.options, &n, &reason), 0);
        store_world_start(&to);
        CHECK_INT(store_run(to.store, STORE_READ, check_both, &at), 0);
        store_world_close(&to);
    }
    pthread_join(writer, &failed);
    CHECK(failed == NULL);
    CHECK_INT(store_run(from.store, STORE_READ, check_both, &at_end), 0);
    CHECK_INT(at_end, 203);
    store_world_close(&from);
}
STORE_TEST(test_under_load)

static void copy_once(void *arg) {
    struct store_world *worlds = arg;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    uint64_t n = 0;
    int error = store_copy(&worlds[0].options, &worlds[1].options, &n, &reason);
    CHECK(error == 0 || error == -ENOMEM);
}

static void test_memory(enum store_world_kind kind) {
    struct store_world worlds[2];
    store_world_open(&worlds[0], kind);
    CHECK_INT(store_run(worlds[0].store, STORE_WRITE, fill, NULL), 0);
    store_world_make(&worlds[1], STORE_WORLD_SQLITE);
    worlds[1].options.replace = true;
    test_torture(copy_once, worlds);
    store_world_close(&worlds[0]);
    store_world_close(&worlds[1]);
}
STORE_TEST(test_memory)

TEST_MAIN(TEST(test_complete), TEST(test_sqlite_to_sqlite), TEST(test_sqlite_to_postgres),
          TEST(test_postgres_to_sqlite), TEST(test_postgres_to_postgres), TEST(test_one_file),
          TEST(test_nothing_to_copy), TEST(test_hostile_sqlite), TEST(test_hostile_postgres),
          TEST(test_under_load_sqlite), TEST(test_under_load_postgres), TEST(test_memory_sqlite),
          TEST(test_memory_postgres))
