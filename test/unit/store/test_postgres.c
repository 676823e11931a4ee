/* PostgreSQL that goes away, stands still, refuses, or is not what it should be. */
#include <dirent.h>
#include <pthread.h>

#include "base/clock.h"
#include "loop_guard.h"
#include "migrations.h"
#include "postgres_private.h"
#include "store_world.h"

static int count_roles(struct store_tx *tx, void *context) {
    return store_get_number(tx, "SELECT count(*) FROM roles", context);
}

static int write_something(struct store_tx *tx, void *context) {
    (void)context;
    return store_exec(tx,
                      "INSERT INTO login_failures (key, count, last_ms) VALUES ('k', 1, 0)"
                      " ON CONFLICT (key) DO UPDATE SET count = login_failures.count + 1",
                      NULL, 0, NULL);
}

static int count_written(struct store_tx *tx, void *context) {
    return store_get_number(tx, "SELECT count FROM login_failures WHERE key = 'k'", context);
}

/* --- URLs --- */

struct url_case {
    const char *name, *url; /* %s: the port of the server */
    int error;
    const char *reason;
};

static const struct url_case url_cases[] = {
    {"no URL", "sqlite:store", STORE_E_URL, "it is no URL of a store"},
    {"another scheme", "mysql://a:secret@127.0.0.1/b", STORE_E_URL, "it is no URL of a store"},
    {"a slash in the password", "postgres://a:sec/ret@127.0.0.1/b", STORE_E_URL, "%2F"},
    {"a question mark in it", "postgres://a:sec?ret@127.0.0.1/b", STORE_E_URL, "%3F"},
    {"an @ in it", "postgres://a:secret@secret@127.0.0.1/b", STORE_E_URL, "%40"},
    {"a broken escape", "postgres://a:secret%zz@127.0.0.1/b", STORE_E_URL, "not understood"},
    {"an unknown parameter", "postgres://a@127.0.0.1/b?secret=1", STORE_E_URL, "not understood"},
    {"a colon in the password", "postgres://tester:sec:ret@127.0.0.1:%s/postgres", -EACCES,
     "password authentication failed"},
    {"the wrong password", "postgres://tester:secret@127.0.0.1:%s/postgres", STORE_E_GONE,
     "password authentication failed"},
    {"no password", "postgres://tester@127.0.0.1:%s/postgres", STORE_E_GONE,
     "no password supplied"},
    {"no such database", "postgres://tester:" POSTGRES_PASSWORD_IN_URL "@127.0.0.1:%s/nowhere",
     STORE_E_GONE, "\"nowhere\" does not exist"},
    {"a port where nobody is", "postgres://tester:secret@127.0.0.1:1/b", STORE_E_GONE, "refused"},
    {"TLS where there is none",
     "postgres://tester:" POSTGRES_PASSWORD_IN_URL "@127.0.0.1:%s/postgres?sslmode=require",
     STORE_E_GONE, "does not support SSL"},
    {"TLS that has to be verified",
     "postgres://tester:" POSTGRES_PASSWORD_IN_URL "@127.0.0.1:%s/postgres?sslmode=verify-full",
     STORE_E_GONE, "SSL"},
};

static void check_url(const struct url_case *row) {
    char url[512] = "";
    const char *port = strstr(row->url, "%s");
    struct store *store = NULL;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    if (port != NULL)
        snprintf(url, sizeof url, "%.*s%s%s", (int)(port - row->url), row->url, the_postgres.port,
                 port + 2);
    const struct store_options options = {
        .url = slice_from_cstr(port != NULL ? url : row->url),
        .migrate = true,
    };
    int error = store_open(&options, &store, &reason);
    CHECK(error == row->error || (row->error == -EACCES && error == STORE_E_GONE));
    CHECK(store == NULL);
    if (slice_find(buf_slice(&reason), slice_from_cstr(row->reason)) == SIZE_MAX)
        printf("# %.*s\n", SLICE_ARGS(buf_slice(&reason)));
    CHECK(slice_find(buf_slice(&reason), slice_from_cstr(row->reason)) != SIZE_MAX);
    CHECK(slice_find(buf_slice(&reason), SLICE("sec")) == SIZE_MAX);
    CHECK(slice_find(buf_slice(&reason), SLICE("correct")) == SIZE_MAX);
}

static void test_urls(void) {
    postgres_start();
    for (size_t i = 0; i < ARRAY_LEN(url_cases); i++) {
        test_row(url_cases[i].name);
        check_url(&url_cases[i]);
    }
}

/* --- schemas --- */

/* Others may be in the same database, in `public`; whoever has put tables where ours belong is
 * told. */
static void test_others_tables(void) {
    struct store_world world;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    char n[16];
    store_world_make(&world, STORE_WORLD_POSTGRES);
    postgres_do(world.database, "CREATE TABLE users (id int); CREATE TABLE changes (id int);"
                                "INSERT INTO users VALUES (1)");
    store_world_start(&world);
    postgres_ask(world.database, "SELECT count(*) FROM public.users", n, sizeof n);
    CHECK_STR(slice_from_cstr(n), "1");
    postgres_ask(world.database, "SELECT count(*) FROM cardea.roles", n, sizeof n);
    CHECK_STR(slice_from_cstr(n), "3");
    store_world_close(&world);

    store_world_make(&world, STORE_WORLD_POSTGRES);
    postgres_do(world.database, "CREATE SCHEMA cardea; CREATE TABLE cardea.users (id int)");
    CHECK_INT(store_open(&world.options, &world.store, &reason), STORE_E_BROKEN);
    CHECK(slice_find(buf_slice(&reason), SLICE("not Cardea's")) != SIZE_MAX);
    postgres_do(world.database, "DROP TABLE cardea.users"); /* a schema that was made for us */
    store_world_start(&world);
    store_world_close(&world);
}

static void test_versions(void) {
    struct store_world world;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    uint64_t n = 0;
    store_world_make(&world, STORE_WORLD_POSTGRES);
    world.options.migrate = false;
    CHECK_INT(store_open(&world.options, &world.store, &reason), STORE_E_OLDER);
    world.options.make = true;
    store_world_start(&world);
    /* A newer program comes: the connection that is there goes on until it is told. */
    postgres_do(world.database, "UPDATE cardea.store_version SET version = version + 1");
    world.store->direct.tx->driver->close(world.store->direct.tx);
    world.store->direct.tx = NULL;
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), STORE_E_NEWER);
    world.store = store_close(world.store);
    CHECK_INT(store_open(&world.options, &world.store, &reason), STORE_E_NEWER);
    CHECK(slice_find(buf_slice(&reason), SLICE("newer")) != SIZE_MAX);
    store_world_close(&world);
}

/* The row that writers stand in line behind is gone: nobody writes without it. */
static void test_row_gone(void) {
    struct store_world world;
    uint64_t n = 0;
    store_world_open(&world, STORE_WORLD_POSTGRES);
    postgres_do(world.database, "DELETE FROM cardea.changes");
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, NULL), STORE_E_BROKEN);
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), 0);
    store_world_close(&world);
}

/* The server's own bounds: they say what is meant. */
static void test_read_only(void) {
    struct store_world world;
    uint64_t n = 0;
    store_world_open(&world, STORE_WORLD_POSTGRES);
    postgres_do(world.database, "REVOKE ALL ON ALL TABLES IN SCHEMA cardea FROM public");
    struct pg *pg = pg_of(world.store->direct.tx);
    PGresult *result = NULL;
    CHECK_INT(pg_run(pg,
                     "CREATE ROLE looker_only; GRANT USAGE ON SCHEMA cardea TO looker_only;"
                     "GRANT SELECT ON ALL TABLES IN SCHEMA cardea TO looker_only;"
                     "GRANT UPDATE ON changes TO looker_only; SET ROLE looker_only",
                     &result),
              0);
    pg_clear(&result);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, NULL), -EACCES);
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), 0);
    CHECK_INT(n, 3);
    CHECK_INT(pg_run(pg, "RESET ROLE; DROP OWNED BY looker_only; DROP ROLE looker_only", &result),
              0);
    pg_clear(&result);
    store_world_close(&world);
}

/* --- it goes away --- */

static void wait_until_back(struct store_world *world) {
    uint64_t n = 0, until = clock_monotonic_ms() + 20000;
    int error = STORE_E_GONE;
    while (error == STORE_E_GONE && clock_monotonic_ms() < until)
        error = store_run(world->store, STORE_READ, count_roles, &n);
    CHECK_INT(error, 0);
    CHECK_INT(n, 3);
}

/* A connection that was kept and is dead by now is nobody's concern. */
static void test_restarted(void) {
    struct store_world world;
    uint64_t n = 0;
    store_world_open(&world, STORE_WORLD_POSTGRES);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, NULL), 0);
    postgres_kill(&the_postgres);
    postgres_run(&the_postgres);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, NULL), 0);
    CHECK_INT(store_run(world.store, STORE_READ, count_written, &n), 0);
    CHECK_INT(n, 2);
    store_world_close(&world);
}

static void test_gone(void) {
    struct store_world world;
    uint64_t n = 0;
    store_world_open(&world, STORE_WORLD_POSTGRES);
    postgres_kill(&the_postgres);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, NULL), STORE_E_GONE);
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), STORE_E_GONE);
    postgres_run(&the_postgres);
    wait_until_back(&world);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, NULL), 0);
    store_world_close(&world);
}

/* In the middle of a transaction: it is run again, from its beginning. */
static int lose_connection(struct store_tx *tx, void *context) {
    unsigned *n = context;
    int error = write_something(tx, NULL);
    if (error == 0 && ++*n == 1)
        error = store_exec(tx, "SELECT pg_terminate_backend(pg_backend_pid())", NULL, 0, NULL);
    return error == 0 ? write_something(tx, NULL) : error;
}

static void test_lost_once(void) {
    struct store_world world;
    unsigned n = 0;
    uint64_t written = 0;
    store_world_open(&world, STORE_WORLD_POSTGRES);
    CHECK_INT(store_run(world.store, STORE_WRITE, lose_connection, &n), 0);
    CHECK_INT(n, 2);
    CHECK_INT(store_run(world.store, STORE_READ, count_written, &written), 0);
    CHECK_INT(written, 2);
    store_world_close(&world);
}

/* While it was asked to keep what was written: nobody knows, and nothing is done twice. */
static void test_unsure(void) {
    struct store_world world;
    struct store_tx *tx;
    uint64_t number = 0;
    store_world_open(&world, STORE_WORLD_POSTGRES);
    tx = world.store->direct.tx;
    CHECK_INT(tx->driver->begin(tx, STORE_WRITE), 0);
    tx->error = 0;
    tx->is_open = true;
    CHECK_INT(write_something(tx, NULL), 0);
    postgres_kill(&the_postgres);
    CHECK_INT(store_finish(tx, 0), STORE_E_GONE);
    CHECK(tx->is_unsure);
    CHECK(!tx->driver->is_alive(tx));
    postgres_run(&the_postgres);
    wait_until_back(&world);
    CHECK_INT(store_run(world.store, STORE_READ, count_written, &number), 0);
    CHECK_INT(number, 0);
    store_world_close(&world);
}

/* --- under load --- */

enum { LOAD_JOBS = 8, LOAD_WRITES = 40 };

struct load {
    struct store_world world;
    struct guarded guarded;
    struct load_job {
        struct store_job job;
        struct load *load;
    } jobs[LOAD_JOBS];
    unsigned n_fine, n_gone, n_running;
    bool is_back; /* the server; then each job is wanted to go well once more */
};

static void load_done(struct io_message *message);

static void load_submit(struct load_job *one) {
    one->job = (struct store_job){
        .message.deliver = load_done,
        .loop = one->load->guarded.loop,
        .kind = STORE_WRITE,
        .work = write_something,
    };
    store_submit(one->load->world.store, &one->job);
}

/* At a third of what is to be done the server is gone; it comes back when all have felt that. */
static void load_done(struct io_message *message) {
    struct load_job *one =
        CONTAINER_OF(CONTAINER_OF(message, struct store_job, message), struct load_job, job);
    struct load *load = one->load;
    CHECK(one->job.result == 0 || one->job.result == STORE_E_GONE);
    load->n_fine += one->job.result == 0;
    load->n_gone += one->job.result != 0;
    if (the_postgres.pid != 0 && !load->is_back && load->n_fine == LOAD_WRITES / 3)
        postgres_kill(&the_postgres);
    if (the_postgres.pid == 0 && load->n_gone >= 3 * LOAD_JOBS) {
        postgres_run(&the_postgres);
        load->is_back = true;
    }
    if (load->n_fine < LOAD_WRITES || !load->is_back)
        load_submit(one);
    else if (--load->n_running == 0)
        io_loop_stop(load->guarded.loop);
}

static void test_restarted_under_load(void) {
    struct load load = {.n_running = LOAD_JOBS};
    uint64_t written = 0;
    store_world_open(&load.world, STORE_WORLD_POSTGRES);
    guarded_new(&load.guarded);
    for (size_t i = 0; i < LOAD_JOBS; i++) {
        load.jobs[i].load = &load;
        load_submit(&load.jobs[i]);
    }
    guarded_run(&load.guarded);
    CHECK(load.n_gone >= 3 * LOAD_JOBS);
    CHECK(load.n_fine >= LOAD_WRITES);
    /* Nothing that was said to be kept is missing; what nobody could tell may be there. */
    CHECK_INT(store_run(load.world.store, STORE_READ, count_written, &written), 0);
    CHECK(written >= load.n_fine && written <= load.n_fine + load.n_gone);
    store_world_close(&load.world);
    guarded_free(&load.guarded);
}

/* --- it stands still --- */

/* Its processes are not in one group: each is found as a child of the first. */
static void signal_all(int number) {
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    kill(the_postgres.pid, number);
    while ((entry = readdir(proc)) != NULL) {
        char path[300], text[256] = "";
        long pid = strtol(entry->d_name, NULL, 10);
        snprintf(path, sizeof path, "/proc/%.20s/stat", entry->d_name);
        CLEANUP(io_fd_close) int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
            continue;
        const char *behind = strrchr(text, ')');
        if (behind != NULL && strtol(behind + 4, NULL, 10) == (long)the_postgres.pid)
            kill((pid_t)pid, number);
    }
    closedir(proc);
}

static void test_hung(void) {
    struct store_world world;
    uint64_t n = 0, begun = clock_monotonic_ms();
    store_world_open(&world, STORE_WORLD_POSTGRES);
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), 0);
    signal_all(SIGSTOP);
    CHECK_INT(store_run(world.store, STORE_READ, count_roles, &n), STORE_E_GONE); /* a statement */
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, NULL), STORE_E_GONE);
    signal_all(SIGCONT);
    CHECK(clock_monotonic_ms() - begun < 15000);
    wait_until_back(&world);
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, NULL), 0);
    store_world_close(&world);
}

/* Another instance stands still in the middle of writing: the server ends its transaction. */
static void test_held(void) {
    struct store_world world;
    char url[512];
    store_world_open(&world, STORE_WORLD_POSTGRES);
    postgres_url(world.database, url, sizeof url);
    PGconn *other = PQconnectdb(url);
    PQclear(PQexec(other, "SET idle_in_transaction_session_timeout = 4500"));
    PQclear(PQexec(other, "BEGIN; SELECT number FROM cardea.changes WHERE id = 1 FOR UPDATE"));
    CHECK_INT(store_run(world.store, STORE_WRITE, write_something, NULL), STORE_E_GONE);
    int error = STORE_E_GONE;
    for (unsigned i = 0; i < 5 && error == STORE_E_GONE; i++)
        error = store_run(world.store, STORE_WRITE, write_something, NULL);
    CHECK_INT(error, 0);
    PQfinish(other);
    store_world_close(&world);
}

/* --- migrating --- */

/* Killed in the middle: the next one begins anew. */
static void test_killed(void) {
    struct store_world world;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    char url[512], n[16] = "0";
    size_t n_done = 0;
    store_world_make(&world, STORE_WORLD_POSTGRES);
    postgres_url(world.database, url, sizeof url);
    PGconn *other = PQconnectdb(url);
    /* It will wait for this one's schema, and hold the lock. */
    PQclear(PQexec(other, "BEGIN; CREATE SCHEMA cardea"));
    pid_t child = fork();
    if (child == 0) {
        _exit(store_migrate(&world.options, &n_done, &reason) == 0 ? 0 : 1);
    }
    uint64_t until = clock_monotonic_ms() + 20000;
    while (strcmp(n, "0") == 0 && clock_monotonic_ms() < until)
        postgres_ask(world.database,
                     "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cardea'"
                     " AND datname = current_database() AND wait_event_type = 'Lock'",
                     n, sizeof n);
    CHECK_STR(slice_from_cstr(n), "1");
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    PQclear(PQexec(other, "ROLLBACK"));
    PQfinish(other);
    CHECK_INT(store_migrate(&world.options, &n_done, &reason), 0);
    CHECK_INT(n_done, n_migrations);
    store_world_start(&world);
    store_world_close(&world);
}

TEST_MAIN(TEST(test_urls), TEST(test_others_tables), TEST(test_versions), TEST(test_row_gone),
          TEST(test_read_only), TEST(test_restarted), TEST(test_gone), TEST(test_lost_once),
          TEST(test_unsure), TEST(test_restarted_under_load), TEST(test_hung), TEST(test_held),
          TEST(test_killed))
