/*
 * A Redis of the test's own: in a folder of its own, on a free port, gone with the test. It can be
 * stopped and gone on with (SIGSTOP, SIGCONT), killed and started again on the same port, and asked
 * over its Unix socket by a client that waits for the reply.
 */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/limits.h"
#include "io/file.h"
#include "resp/resp.h"
#include "test.h"

enum { REDIS_MORE = 16 };

struct redis_server {
    char folder[64], socket[96], port[8];
    const char *more[REDIS_MORE]; /* options, NULL behind the last one */
    bool is_tls;
    pid_t pid;
    int said; /* what it says on stdout */
    int control;
    struct resp_reader *reader;
};

/* Below what the bus of a cluster, 10,000 above, allows. */
static void redis_pick_port(struct redis_server *server) {
    unsigned port = 65535;
    while (port > 55535) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        socklen_t size = sizeof address;
        CLEANUP(io_fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 ||
            getsockname(fd, (struct sockaddr *)&address, &size) != 0)
            CANNOT_GO_ON();
        port = ntohs(address.sin_port);
    }
    snprintf(server->port, sizeof server->port, "%u", port);
}

NO_RETURN static void redis_exec(const struct redis_server *server, int out) {
    const char *arguments[32 + REDIS_MORE] = {
        "redis-server",
        "--dir",
        server->folder,
        "--unixsocket",
        server->socket,
        "--bind",
        "127.0.0.1",
        server->is_tls ? "--tls-port" : "--port",
        server->port,
        "--save",
        "",
        "--appendonly",
        "no",
        "--logfile",
        "",
        "--loglevel",
        "notice",
        "--enable-debug-command",
        "yes",
    };
    char *copies[ARRAY_LEN(arguments)] = {NULL};
    size_t n = 19;
    if (server->is_tls) {
        arguments[n++] = "--port";
        arguments[n++] = "0";
    }
    for (size_t i = 0; i < REDIS_MORE && server->more[i] != NULL; i++)
        arguments[n++] = server->more[i];
    for (size_t i = 0; i < n; i++)
        copies[i] = mem_xstrdup(arguments[i]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    execvp(copies[0], copies);
    /* Debian's redis-tools has the program without that name. */
    execvp("redis-check-rdb", copies);
    fprintf(stderr, "redis-server cannot be run: %s\n", strerror(errno));
    _exit(127);
}

/* It says so when it can be asked. */
static void redis_await(const struct redis_server *server) {
    struct buf said CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    while (slice_find(buf_slice(&said), SLICE("eady to accept connections")) == SIZE_MAX) {
        char bytes[512];
        ssize_t n = read(server->said, bytes, sizeof bytes);
        if (n <= 0) {
            fprintf(stderr, "redis-server did not start: %.*s\n", SLICE_ARGS(buf_slice(&said)));
            CANNOT_GO_ON();
        }
        buf_append(&said, slice_make(bytes, (size_t)n));
    }
}

static void redis_control_open(struct redis_server *server) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", server->socket);
    server->control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->control < 0 ||
        connect(server->control, (struct sockaddr *)&address, sizeof address) != 0 ||
        resp_reader_new(&server->reader) != 0)
        CANNOT_GO_ON();
}

static void redis_control_close(struct redis_server *server) {
    io_fd_close(&server->control);
    server->reader = resp_reader_free(server->reader);
}

/* Again with what it was started with the first time. */
static void redis_server_run(struct redis_server *server) {
    int ends[2];
    if (pipe(ends) != 0)
        CANNOT_GO_ON();
    server->pid = fork();
    if (server->pid == 0)
        redis_exec(server, ends[1]);
    io_fd_close(&ends[1]);
    server->said = ends[0];
    if (server->pid < 0)
        CANNOT_GO_ON();
    redis_await(server);
    redis_control_open(server);
}

/* `server` has its options already, if any. */
static void redis_server_start(struct redis_server *server) {
    snprintf(server->folder, sizeof server->folder, "/tmp/cardea-redis-XXXXXX");
    if (mkdtemp(server->folder) == NULL)
        CANNOT_GO_ON();
    snprintf(server->socket, sizeof server->socket, "%s/socket", server->folder);
    redis_pick_port(server);
    redis_server_run(server);
}

static void redis_server_kill(struct redis_server *server) {
    redis_control_close(server);
    if (kill(server->pid, SIGKILL) != 0 || waitpid(server->pid, NULL, 0) != server->pid)
        CANNOT_GO_ON();
    io_fd_close(&server->said);
}

static void redis_server_end(struct redis_server *server) {
    redis_server_kill(server);
    unlink(server->socket);
    rmdir(server->folder);
}

/* Returns when it stands still. */
MAYBE_UNUSED static void redis_server_stop(const struct redis_server *server) {
    int status;
    if (kill(server->pid, SIGSTOP) != 0 ||
        waitpid(server->pid, &status, WUNTRACED) != server->pid || !WIFSTOPPED(status))
        CANNOT_GO_ON();
}

MAYBE_UNUSED static void redis_server_go_on(const struct redis_server *server) {
    kill(server->pid, SIGCONT);
}

/* --- asking it --- */

static struct resp_reply *redis_ask_bytes(struct redis_server *server, struct slice bytes) {
    struct resp_reply *reply = NULL;
    while (bytes.len > 0) {
        ssize_t n = write(server->control, bytes.ptr, bytes.len);
        if (n <= 0)
            CANNOT_GO_ON();
        bytes = slice_from(bytes, (size_t)n);
    }
    for (;;) {
        char chunk[4096];
        if (resp_next(server->reader, &reply) != 0)
            CANNOT_GO_ON();
        if (reply != NULL)
            return reply;
        ssize_t n = read(server->control, chunk, sizeof chunk);
        if (n <= 0 || resp_feed(server->reader, slice_make(chunk, (size_t)n)) != 0)
            CANNOT_GO_ON();
    }
}

/* A command of words between single blanks. */
MAYBE_UNUSED static struct resp_reply *redis_ask(struct redis_server *server, const char *command) {
    struct slice words[16], rest = slice_from_cstr(command);
    struct buf bytes CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    size_t n = 0;
    while (rest.len > 0 && n < ARRAY_LEN(words))
        slice_cut(rest, ' ', &words[n++], &rest);
    resp_write_command(&bytes, words, n);
    return redis_ask_bytes(server, buf_slice(&bytes));
}

/* One that has to go well. */
MAYBE_UNUSED static void redis_do(struct redis_server *server, const char *command) {
    struct resp_reply *reply = redis_ask(server, command);
    if (resp_type(reply) == RESP_ERROR) {
        fprintf(stderr, "%s: %.*s\n", command, SLICE_ARGS(resp_text(reply)));
        CANNOT_GO_ON();
    }
    resp_reply_free(reply);
}

MAYBE_UNUSED static int64_t redis_number(struct redis_server *server, const char *command) {
    struct resp_reply *reply = redis_ask(server, command);
    int64_t number = resp_type(reply) == RESP_INTEGER ? resp_integer(reply) : INT64_MIN;
    resp_reply_free(reply);
    return number;
}
