/*
 * A PostgreSQL of the test's own: in a folder of its own, on a free port, gone with the test. It
 * runs as nobody, because it refuses to as root. It can be stopped and gone on with (SIGSTOP,
 * SIGCONT), and killed and started again on the same port.
 */
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/limits.h"
#include "io/file.h"
#include "test.h"

struct postgres_server {
    char folder[64], data[512], bin[256], port[8];
    pid_t owner; /* the process that started it, and ends it */
    pid_t pid;   /* 0: it does not run */
    bool is_ready;
};

static struct postgres_server the_postgres;

#define POSTGRES_PASSWORD        "correct horse: battery/staple@?#%"
#define POSTGRES_PASSWORD_IN_URL "correct%20horse%3A%20battery%2Fstaple%40%3F%23%25"

static void postgres_become_nobody(void) {
    if (geteuid() != 0)
        return;
    const struct passwd *nobody = getpwnam("nobody");
    if (nobody == NULL || setgroups(0, NULL) != 0 || setgid(nobody->pw_gid) != 0 ||
        setuid(nobody->pw_uid) != 0)
        _exit(126);
}

/* Whether nobody, too, can run it: a checkout may be in a folder of root's own. */
static bool postgres_is_reachable(const struct postgres_server *server) {
    char path[512];
    int status = -1;
    snprintf(path, sizeof path, "%s/initdb", server->bin);
    pid_t pid = fork();
    if (pid == 0) {
        postgres_become_nobody();
        _exit(access(path, X_OK) == 0 ? 0 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void postgres_copy_programs(struct postgres_server *server) {
    char tools[] = POSTGRES_TOOLS "/usr";
    char *const arguments[] = {(char[]){"cp"}, (char[]){"-r"}, tools, server->folder, NULL};
    char bin[sizeof server->bin];
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        execvp(arguments[0], arguments);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        CANNOT_GO_ON();
    snprintf(bin, sizeof bin, "%.60s%.150s", server->folder, server->bin + strlen(POSTGRES_TOOLS));
    memcpy(server->bin, bin, sizeof bin);
}

static bool postgres_find_in(struct postgres_server *server, const char *pattern) {
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0)
        return false;
    const char *last = found.gl_pathv[found.gl_pathc - 1];
    snprintf(server->bin, sizeof server->bin, "%.*s", (int)(strlen(last) - strlen("/initdb")),
             last);
    globfree(&found);
    return true;
}

/* The installed one, or what scripts/setup has unpacked. */
static void postgres_find(struct postgres_server *server) {
    const char *named = getenv("CARDEA_POSTGRES_BIN");
    if (named != NULL) {
        snprintf(server->bin, sizeof server->bin, "%s", named);
        return;
    }
    if (postgres_find_in(server, "/usr/lib/postgresql/*/bin/initdb"))
        return;
    if (!postgres_find_in(server, POSTGRES_TOOLS "/usr/lib/postgresql/*/bin/initdb")) {
        fprintf(stderr, "there is no PostgreSQL: scripts/setup test\n");
        CANNOT_GO_ON();
    }
    if (!postgres_is_reachable(server))
        postgres_copy_programs(server);
}

/* In the child: `said` gets what it prints. */
NO_RETURN static void postgres_exec(const struct postgres_server *server, const char *program,
                                    const char *const *arguments, int said) {
    char path[512];
    char *copies[32] = {NULL};
    snprintf(path, sizeof path, "%s/%s", server->bin, program);
    copies[0] = path;
    for (size_t i = 0; arguments[i] != NULL; i++)
        copies[i + 1] = mem_xstrdup(arguments[i]);
    postgres_become_nobody();
    prctl(PR_SET_PDEATHSIG, SIGQUIT); /* behind setuid(2), which clears it */
    if (chdir("/") != 0)
        _exit(126);
    dup2(said, STDOUT_FILENO);
    dup2(said, STDERR_FILENO);
    setenv("LC_ALL", "C", 1);
    execv(path, copies);
    _exit(127);
}

static pid_t postgres_fork(const struct postgres_server *server, const char *program,
                           const char *const *arguments, int *ret_said) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        CANNOT_GO_ON();
    pid_t pid = fork();
    if (pid < 0)
        CANNOT_GO_ON();
    if (pid == 0)
        postgres_exec(server, program, arguments, ends[1]);
    io_fd_close(&ends[1]);
    *ret_said = ends[0];
    return pid;
}

/* Until `wanted` was printed, or the end. */
static bool postgres_await(int said, const char *wanted, struct buf *out) {
    char bytes[1024];
    ssize_t n;
    while ((wanted == NULL || slice_find(buf_slice(out), slice_from_cstr(wanted)) == SIZE_MAX) &&
           (n = read(said, bytes, sizeof bytes)) > 0)
        buf_append(out, slice_make(bytes, (size_t)n));
    return wanted == NULL || slice_find(buf_slice(out), slice_from_cstr(wanted)) != SIZE_MAX;
}

static void postgres_init(const struct postgres_server *server) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    char password[128];
    int status = 0, said = -1;
    snprintf(password, sizeof password, "%s/password", server->folder);
    if (io_file_create_private(password, SLICE(POSTGRES_PASSWORD "\n")) != 0 ||
        chmod(password, 0644) != 0)
        CANNOT_GO_ON();
    const char *const arguments[] = {"-D",
                                     server->data,
                                     "-N",
                                     "-A",
                                     "scram-sha-256",
                                     "-U",
                                     "tester",
                                     "--pwfile",
                                     password,
                                     "-E",
                                     "UTF8",
                                     "--no-locale",
                                     "--no-instructions",
                                     NULL};
    pid_t pid = postgres_fork(server, "initdb", arguments, &said);
    (void)postgres_await(said, NULL, &out);
    io_fd_close(&said);
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "initdb failed: %.*s\n", SLICE_ARGS(buf_slice(&out)));
        CANNOT_GO_ON();
    }
}

static void postgres_pick_port(struct postgres_server *server) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        CANNOT_GO_ON();
    snprintf(server->port, sizeof server->port, "%u", ntohs(address.sin_port));
    io_fd_close(&fd);
}

/* Returns when it can be asked. */
static void postgres_run(struct postgres_server *server) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    int said = -1;
    const char *const arguments[] = {
        "-D",        server->data, "-p", server->port,         "-k", server->folder, "-h",
        "127.0.0.1", "-F",         "-c", "max_connections=50", "-c", "fsync=off",    "-c",
        "jit=off",   NULL};
    server->pid = postgres_fork(server, "postgres", arguments, &said);
    if (!postgres_await(said, "ready to accept connections", &out)) {
        fprintf(stderr, "postgres did not start: %.*s\n", SLICE_ARGS(buf_slice(&out)));
        CANNOT_GO_ON();
    }
    /* It goes on to write there: nobody reads it, and it must not stand still. */
    if (fcntl(said, F_SETFL, O_NONBLOCK) != 0 || fcntl(said, F_SETPIPE_SZ, 1 << 20) < 0)
        CANNOT_GO_ON();
}

static void postgres_kill(struct postgres_server *server) {
    if (server->pid == 0)
        return;
    kill(server->pid, SIGCONT);
    kill(server->pid, SIGQUIT);
    if (waitpid(server->pid, NULL, 0) != server->pid)
        CANNOT_GO_ON();
    server->pid = 0;
}

static int postgres_remove(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void postgres_end(void) {
    if (the_postgres.owner != getpid())
        return;
    postgres_kill(&the_postgres);
    (void)nftw(the_postgres.folder, postgres_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *postgres_given_url(void) {
    const char *url = getenv("CARDEA_TEST_POSTGRES");
    return url != NULL && url[0] != '\0' ? url : NULL;
}

static void postgres_start(void) {
    struct postgres_server *server = &the_postgres;
    if (server->is_ready || postgres_given_url() != NULL)
        return;
    snprintf(server->folder, sizeof server->folder, "/tmp/cardea-postgres-XXXXXX");
    if (mkdtemp(server->folder) == NULL || chmod(server->folder, 0777) != 0)
        CANNOT_GO_ON();
    server->owner = getpid();
    atexit(postgres_end);
    snprintf(server->data, sizeof server->data, "%.60s/data", server->folder);
    postgres_find(server);
    postgres_init(server);
    postgres_pick_port(server);
    postgres_run(server);
    server->is_ready = true;
}

/* --- databases --- */

/* The URL up to the name of the database. */
static void postgres_url(const char *database, char *out, size_t size) {
    const char *given = postgres_given_url();
    postgres_start();
    if (given == NULL) {
        snprintf(out, size, "postgres://tester:%s@127.0.0.1:%s/%s", POSTGRES_PASSWORD_IN_URL,
                 the_postgres.port, database);
        return;
    }
    struct slice url = slice_from_cstr(given), before, behind;
    (void)slice_cut(slice_from(url, slice_find(url, SLICE("//")) + 2), '/', &before, &behind);
    snprintf(out, size, "postgres://%.*s/%s", SLICE_ARGS(before), database);
}

/* Asks it beside the store; the first value of the answer, or "". */
static void postgres_ask(const char *database, const char *sql, char *ret_value, size_t size) {
    char url[512];
    postgres_url(database, url, sizeof url);
    PGconn *connection = PQconnectdb(url);
    PGresult *result = PQexec(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fprintf(stderr, "%s: %s\n", sql, PQerrorMessage(connection));
        CANNOT_GO_ON();
    }
    if (ret_value != NULL)
        snprintf(ret_value, size, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(connection);
}

MAYBE_UNUSED static void postgres_do(const char *database, const char *sql) {
    postgres_ask(database, sql, NULL, 0);
}

MAYBE_UNUSED static void postgres_make_database(const char *name) {
    char sql[128];
    snprintf(sql, sizeof sql, "CREATE DATABASE %s", name);
    postgres_do("postgres", sql);
}

MAYBE_UNUSED static void postgres_drop_database(const char *name) {
    char sql[128];
    snprintf(sql, sizeof sql, "DROP DATABASE %s WITH (FORCE)", name);
    postgres_do("postgres", sql);
}
