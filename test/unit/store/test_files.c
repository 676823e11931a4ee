/* What a file may be that is named as the store, and what happens to it while it is worked with. */
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "migrations.h"
#include "sqlite_private.h"
#include "store_world.h"

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

static void write_file(const char *path, struct slice content) {
    unlink(path);
    if (io_file_create_private(path, content) != 0)
        CANNOT_GO_ON();
}

/* --- what it may be --- */

static void be_nothing(const char *path) {
    (void)path;
}

static void be_empty(const char *path) {
    write_file(path, SLICE_EMPTY);
}

static void be_text(const char *path) {
    write_file(path, SLICE("this is no database\n"));
}

static void be_long_text(const char *path) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    while (buf_len(&text) < KIB(32))
        buf_append_cstr(&text, "SQLite format 3, or not, who knows what this is\n");
    write_file(path, buf_slice(&text));
}

static void be_header_alone(const char *path) {
    write_file(path, SLICE("SQLite format 3\0"));
}

static void be_folder(const char *path) {
    if (mkdir(path, 0700) != 0)
        CANNOT_GO_ON();
}

static void be_link(const char *path) {
    if (symlink("/etc/passwd", path) != 0)
        CANNOT_GO_ON();
}

static void be_pipe(const char *path) {
    if (mkfifo(path, 0600) != 0)
        CANNOT_GO_ON();
}

static void be_of_others(const char *path) {
    run_sql(path, "CREATE TABLE users (id TEXT, name TEXT); INSERT INTO users VALUES ('a', 'b')");
}

static void be_new(const char *path) {
    const struct store_options options = {.path = path};
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    size_t n = 0;
    if (store_migrate(&options, &n, &reason) != 0 || n != n_migrations)
        CANNOT_GO_ON();
}

static void be_newer(const char *path) {
    be_new(path);
    run_sql(path, "UPDATE store_version SET version = version + 1");
}

static void be_older(const char *path) {
    be_new(path);
    run_sql(path, "UPDATE store_version SET version = 0");
}

static void be_readable(const char *path) {
    be_new(path);
    if (chmod(path, 0644) != 0)
        CANNOT_GO_ON();
}

/* The pages in the middle are gone. */
static void be_damaged(const char *path) {
    char zeros[4096];
    be_new(path);
    memset(zeros, 0x5a, sizeof zeros);
    CLEANUP(io_fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    for (off_t at = 4096; at < 20 * 4096; at += 4096)
        if (pwrite(fd, zeros, sizeof zeros, at) != (ssize_t)sizeof zeros)
            CANNOT_GO_ON();
}

static void be_cut(const char *path) {
    be_new(path);
    if (truncate(path, 10000) != 0)
        CANNOT_GO_ON();
}

struct file_case {
    const char *name;
    void (*make)(const char *path);
    int error, error_unmade; /* when it may be made and migrated; when not */
    const char *reason;
};

static const struct file_case file_cases[] = {
    {"nothing", be_nothing, 0, STORE_E_OLDER, "there is no such file"},
    {"an empty file", be_empty, 0, STORE_E_OLDER, "there is no store in it yet"},
    {"a store", be_new, 0, 0, ""},
    {"a text", be_text, STORE_E_BROKEN, STORE_E_BROKEN, "no database of SQLite"},
    {"a long text", be_long_text, STORE_E_BROKEN, STORE_E_BROKEN, "no database of SQLite"},
    {"a header alone", be_header_alone, STORE_E_BROKEN, STORE_E_BROKEN, "no database of SQLite"},
    {"a folder", be_folder, -EINVAL, -EINVAL, "it is no file"},
    {"a symbolic link", be_link, -ELOOP, -ELOOP, "it is a symbolic link"},
    {"a named pipe", be_pipe, -EINVAL, -EINVAL, "it is no file"},
    {"others' tables", be_of_others, STORE_E_BROKEN, STORE_E_BROKEN,
     "there are tables in it that are not Cardea's"},
    {"a newer one", be_newer, STORE_E_NEWER, STORE_E_NEWER, "a newer Cardea has worked with it"},
    {"a damaged one", be_damaged, STORE_E_BROKEN, STORE_E_BROKEN, "damaged"},
    {"one that was cut", be_cut, STORE_E_BROKEN, STORE_E_BROKEN, "damaged"},
    {"one that others can read", be_readable, 0, 0, ""},
};

static void check_file(const struct file_case *row, bool migrate) {
    struct store_world world;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    struct stat info;
    int wanted = migrate ? row->error : row->error_unmade;
    store_world_make(&world, STORE_WORLD_SQLITE);
    world.options.migrate = migrate;
    row->make(world.path);
    CHECK_INT(store_open(&world.options, &world.store, &reason), wanted);
    if (wanted != 0) {
        CHECK(world.store == NULL);
        CHECK(slice_find(buf_slice(&reason), slice_from_cstr(world.path)) != SIZE_MAX);
        CHECK(slice_find(buf_slice(&reason), slice_from_cstr(row->reason)) != SIZE_MAX);
    } else {
        CHECK_STR(buf_slice(&reason), "");
        CHECK(lstat(world.path, &info) == 0 && S_ISREG(info.st_mode));
        CHECK_INT(info.st_mode & 0777, 0600);
    }
    store_close(world.store);
    world.store = NULL;
    rmdir(world.path);
    store_world_close(&world);
}

static void test_files(void) {
    for (size_t i = 0; i < ARRAY_LEN(file_cases); i++) {
        test_row(file_cases[i].name);
        check_file(&file_cases[i], true);
        check_file(&file_cases[i], false);
    }
}

/* One that is older is refused where migrating is not asked for, also where making is. */
static void test_older(void) {
    struct store_world world;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    store_world_make(&world, STORE_WORLD_SQLITE);
    world.options.migrate = false;
    world.options.make = true;
    be_older(world.path);
    CHECK_INT(store_open(&world.options, &world.store, &reason), STORE_E_OLDER);
    CHECK(slice_find(buf_slice(&reason), SLICE("cardea store migrate")) != SIZE_MAX);
    unlink(world.path);
    CHECK_INT(store_open(&world.options, &world.store, &reason), 0);
    store_world_close(&world);
}

/* What SQLite puts beside it is for its owner alone, too. */
static int write_something(struct store_tx *tx, void *context) {
    const struct store_value text = store_text(*(const struct slice *)context);
    return store_exec(tx,
                      "INSERT INTO sealed (kind, name, token, created_ms, updated_ms)"
                      " VALUES ('k', 'n', $1, 0, 0)"
                      " ON CONFLICT (kind, name) DO UPDATE SET token = $1",
                      &text, 1, NULL);
}

static void test_modes(void) {
    static const char *const endings[] = {"", "-wal", "-shm"};
    struct store_world world;
    struct slice text = SLICE("x");
    mode_t mask = umask(0);
    store_world_open(&world, STORE_WORLD_SQLITE);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, &text), 0);
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        char path[128];
        struct stat info;
        snprintf(path, sizeof path, "%s%s", world.path, endings[i]);
        test_row(endings[i]);
        CHECK_INT(stat(path, &info), 0);
        CHECK_INT(info.st_mode & 0777, 0600);
    }
    store_world_close(&world);
    umask(mask);
}

static void test_bad_places(void) {
    static const struct {
        const char *path;
        int error;
    } rows[] = {
        {"/nowhere/at/all/store.sqlite", STORE_E_OLDER},
        {"/proc/version", -EACCES},
        {"", -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct store *store = NULL;
        struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
        const struct store_options options = {.path = rows[i].path, .migrate = true};
        test_row(rows[i].path);
        int error = store_open(&options, &store, &reason);
        CHECK(error != 0 && store == NULL);
        CHECK(error == rows[i].error || i == 1);
    }
}

/* --- while it is worked with --- */

static int count_roles(struct store_tx *tx, void *context) {
    return store_get_number(tx, "SELECT count(*) FROM roles", context);
}

MUST_CHECK static int say_full(struct store_tx *tx, void *context) {
    (void)tx;
    (void)context;
    return -ENOSPC; /* of a disk that is another one */
}

/* SQLite's own bound on the file says the same as a disk that is full. */
static void test_full_disk(void) {
    struct store_world world;
    struct buf large CLEANUP(buf_deinit) = BUF_INIT(MIB(2));
    struct buf said CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    while (buf_len(&large) < MIB(1))
        buf_append_cstr(&large, "0123456789abcdef");
    struct slice text = buf_slice(&large), little = SLICE("x");
    store_world_open(&world, STORE_WORLD_SQLITE);
    struct lite *lite = lite_of(world.store->direct.tx);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, &little), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, say_full, NULL), -ENOSPC);
    CHECK(store_can_write(world.store));
    CHECK_INT(lite_run(lite, "PRAGMA max_page_count = 60"), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(store_run(world.store, STORE_WRITE, write_something, &text), -ENOSPC);
    CHECK(!store_can_write(world.store));
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, &little), 0);
    CHECK(store_can_write(world.store));
    store_world_said(&world, &said);
    size_t at = slice_find(buf_slice(&said), SLICE("the store cannot be written"));
    CHECK(at != SIZE_MAX);
    CHECK(slice_find(slice_from(buf_slice(&said), at + 1), SLICE("the store cannot")) == SIZE_MAX);
    CHECK(slice_find(slice_from(buf_slice(&said), at), SLICE("can be written again")) != SIZE_MAX);
    CHECK_INT(lite_run(lite, "PRAGMA max_page_count = 100000"), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, &text), 0);
    store_world_close(&world);
}

static void test_read_only(void) {
    struct store_world world;
    struct slice text = SLICE("x");
    uint64_t n = 0;
    store_world_open(&world, STORE_WORLD_SQLITE);
    struct lite *lite = lite_of(world.store->direct.tx);
    CHECK_INT(lite_run(lite, "PRAGMA query_only = ON"), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, &text), -EROFS);
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), 0);
    CHECK_INT(n, 3);
    store_world_close(&world);
}

/* Whoever goes on with a file that was taken away writes into nowhere. */
static void test_taken_away(void) {
    struct store_world world;
    struct slice text = SLICE("x");
    char away[128];
    uint64_t n = 0;
    store_world_open(&world, STORE_WORLD_SQLITE);
    snprintf(away, sizeof away, "%s-away", world.path);
    REQUIRE(rename(world.path, away) == 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, &text), STORE_E_GONE);
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), STORE_E_GONE);
    struct stat info;
    CHECK(stat(world.path, &info) != 0); /* and none is made */
    REQUIRE(rename(away, world.path) == 0);
    int error = STORE_E_GONE;
    uint64_t until = clock_monotonic_ms() + 10000;
    while (error == STORE_E_GONE && clock_monotonic_ms() < until)
        error = store_run(world.store, STORE_READ, count_roles, &n);
    CHECK_INT(error, 0);
    CHECK_INT(n, 3);
    store_world_close(&world);
}

/* Another process holds it for longer than anybody waits. */
static void test_held(void) {
    struct store_world world;
    struct slice text = SLICE("x");
    sqlite3 *other = NULL;
    uint64_t n = 0;
    store_world_open(&world, STORE_WORLD_SQLITE);
    REQUIRE(sqlite3_open(world.path, &other) == SQLITE_OK);
    REQUIRE(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK);
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, &text), STORE_E_GONE);
    sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, &text), 0);
    sqlite3_close(other);
    store_world_close(&world);
}

/* A newer program has migrated it meanwhile: a new connection sees that. */
static void test_newer_meanwhile(void) {
    struct store_world world;
    uint64_t n = 0;
    store_world_open(&world, STORE_WORLD_SQLITE);
    run_sql(world.path, "UPDATE store_version SET version = version + 1");
    world.store->direct.tx->driver->close(world.store->direct.tx);
    world.store->direct.tx = NULL;
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), STORE_E_NEWER);
    store_world_close(&world);
}

/* --- migrating --- */

MUST_CHECK static int migrate(const struct store_world *world, size_t *ret_n) {
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    int error = store_migrate(&world->options, ret_n, &reason);
    if (error != 0)
        printf("# %.*s\n", SLICE_ARGS(buf_slice(&reason)));
    return error;
}

/* Several at once: one does the work, the others find it done. */
static void test_at_once(enum store_world_kind kind) {
    enum { PROCESSES = 6 };
    struct store_world world;
    pid_t children[PROCESSES];
    int start[2];
    unsigned n_done = 0, n_fine = 0;
    store_world_make(&world, kind);
    REQUIRE(pipe(start) == 0);
    for (size_t i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        if (children[i] != 0)
            continue;
        char go;
        size_t n = 0;
        close(start[1]);
        ssize_t ended = read(start[0], &go, 1); /* all of them at the same moment */
        _exit(ended == 0 && migrate(&world, &n) == 0 ? (int)n : 99);
    }
    close(start[0]);
    close(start[1]);
    for (size_t i = 0; i < PROCESSES; i++) {
        int status = -1;
        CHECK(waitpid(children[i], &status, 0) == children[i] && WIFEXITED(status));
        n_done += WEXITSTATUS(status) == (int)n_migrations;
        n_fine += WEXITSTATUS(status) == 0;
    }
    CHECK_INT(n_done, 1);
    CHECK_INT(n_fine, PROCESSES - 1);
    store_world_close(&world);
}
STORE_TEST(test_at_once)

/* The system ends the process in the middle of writing, at one size of its files after the other.
 */
static void test_killed(void) {
    unsigned n_killed = 0;
    int status = -1;
    for (rlim_t size = 2048; status != 0 && size < MIB(4); size += 2048 + size / 8) {
        struct store_world world;
        size_t n = 9;
        store_world_make(&world, STORE_WORLD_SQLITE);
        pid_t child = fork();
        if (child == 0) {
            const struct rlimit limit = {size, size}, none = {0, 0};
            signal(SIGXFSZ, SIG_DFL);
            (void)setrlimit(RLIMIT_CORE, &none);
            (void)setrlimit(RLIMIT_FSIZE, &limit);
            _exit(migrate(&world, &n) == 0 ? 0 : 1);
        }
        CHECK(waitpid(child, &status, 0) == child);
        n_killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ;
        CHECK_INT(migrate(&world, &n), 0);
        CHECK(n == n_migrations || n == 0);
        store_world_start(&world);
        uint64_t roles = 0;
        CHECK_INT(store_run(world.store, STORE_READ, count_roles, &roles), 0);
        CHECK_INT(roles, 3);
        store_world_close(&world);
    }
    CHECK_INT(status, 0);
    CHECK(n_killed >= 5);
}

TEST_MAIN(TEST(test_files), TEST(test_older), TEST(test_modes), TEST(test_bad_places),
          TEST(test_full_disk), TEST(test_read_only), TEST(test_taken_away), TEST(test_held),
          TEST(test_newer_meanwhile), TEST(test_at_once_sqlite), TEST(test_at_once_postgres),
          TEST(test_killed))
