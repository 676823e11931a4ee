#include "stdio_child.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/file.h"
#include "io/stream.h"

enum {
    KILL_MS = 5000,        /* for the end after SIGKILL */
    LAST_OUTPUT_MS = 1000, /* for the pipe's end after the process's */
};

enum stop_stage { STOP_NOT, STOP_CLOSED, STOP_TERM, STOP_KILL };

struct stdio {
    struct transport base;
    struct children *children;
    const struct config_server *config;
    struct io_loop *loop;
    struct log *log;
    uint64_t child; /* 0: none any more */
    struct io_stream *in, *out, *err;
    struct buf line, err_line;
    bool skips_err_line; /* the rest of an overlong line */
    struct io_timer *timer;
    enum stop_stage stop;
    bool has_exited, out_ended, is_reported;
    char reason[128];
    uint64_t err_second;
    unsigned err_lines;
};

static void stop(struct stdio *stdio);
static void kill_now(struct stdio *stdio);

static void set_reason(struct stdio *stdio, struct slice reason) {
    if (stdio->reason[0] != '\0')
        return;
    struct slice cut = slice_sub(reason, 0, sizeof stdio->reason - 1);
    memcpy(stdio->reason, cut.ptr, cut.len);
}

/* Tells the owner when both the process and its output have ended. */
static void report_gone(struct stdio *stdio) {
    if (!stdio->has_exited || !stdio->out_ended || stdio->is_reported)
        return;
    stdio->is_reported = true;
    io_timer_stop(stdio->timer);
    stdio->base.events.on_gone(stdio->base.context, slice_from_cstr(stdio->reason));
}

/* stdout. */

static void handle_line(struct stdio *stdio, struct slice line) {
    if (slice_ends_with(line, SLICE("\r")))
        line = slice_sub(line, 0, line.len - 1);
    if (line.len != 0 && stdio->stop < STOP_TERM)
        (void)stdio->base.events.on_message(stdio->base.context, 0, line);
}

static void refuse_line(struct stdio *stdio, int error) {
    char text[sizeof stdio->reason];
    if (error == -E2BIG)
        snprintf(text, sizeof text, "it wrote a message that is longer than max_message, %llu",
                 (unsigned long long)stdio->config->max_message);
    else
        snprintf(text, sizeof text, "there is no memory for a message that it wrote");
    set_reason(stdio, slice_from_cstr(text));
    kill_now(stdio);
}

static void on_out_read(void *context, struct slice bytes) {
    struct stdio *stdio = context;
    while (bytes.len != 0 && stdio->stop != STOP_KILL) {
        size_t at = slice_find_byte(bytes, '\n');
        struct slice part = slice_sub(bytes, 0, at);
        bytes = at != SIZE_MAX ? slice_from(bytes, at + 1) : SLICE_EMPTY;
        if (at != SIZE_MAX && buf_len(&stdio->line) == 0) {
            handle_line(stdio, part);
            continue;
        }
        int error = buf_append(&stdio->line, part);
        if (error != 0) {
            refuse_line(stdio, error);
            return;
        }
        if (at != SIZE_MAX) {
            handle_line(stdio, buf_slice(&stdio->line));
            buf_reset(&stdio->line, KIB(64));
            if (stdio->out != NULL)
                io_stream_yield(stdio->out);
        }
    }
}

static void on_out_end(void *context, int error) {
    struct stdio *stdio = context;
    (void)error; /* the process's end says more */
    stdio->out = io_stream_free(stdio->out);
    stdio->out_ended = true;
    if (!stdio->has_exited) {
        /* Without a stdout it serves nobody. */
        stop(stdio);
        return;
    }
    report_gone(stdio);
}

/* stderr goes to the log, a line an event, and not more than a reader can take. */

static bool may_log_err(struct stdio *stdio) {
    uint64_t second = io_loop_now(stdio->loop) / 1000;
    if (second != stdio->err_second) {
        if (stdio->err_lines > LIMIT_STDERR_LINES)
            log_write(stdio->log, LOG_WARN, "upstream", "left out lines of stderr",
                      LOG_TEXT("upstream", stdio->config->name),
                      LOG_NUM("lines", stdio->err_lines - LIMIT_STDERR_LINES));
        stdio->err_second = second;
        stdio->err_lines = 0;
    }
    return ++stdio->err_lines <= LIMIT_STDERR_LINES;
}

static void log_err_line(struct stdio *stdio) {
    if (buf_len(&stdio->err_line) != 0 && may_log_err(stdio))
        log_write(stdio->log, LOG_INFO, "upstream", "stderr",
                  LOG_TEXT("upstream", stdio->config->name),
                  LOG_TEXT("line", buf_slice(&stdio->err_line)));
    buf_reset(&stdio->err_line, LIMIT_STDERR_LINE);
}

static void on_err_read(void *context, struct slice bytes) {
    struct stdio *stdio = context;
    while (bytes.len != 0) {
        size_t at = slice_find_byte(bytes, '\n');
        struct slice part = slice_sub(bytes, 0, at);
        bytes = at != SIZE_MAX ? slice_from(bytes, at + 1) : SLICE_EMPTY;
        if (!stdio->skips_err_line) {
            size_t room = LIMIT_STDERR_LINE - buf_len(&stdio->err_line);
            stdio->skips_err_line = part.len > room;
            (void)buf_append(&stdio->err_line, slice_sub(part, 0, room));
            if (at != SIZE_MAX || stdio->skips_err_line)
                log_err_line(stdio);
        }
        if (at != SIZE_MAX)
            stdio->skips_err_line = false;
    }
}

static void on_err_end(void *context, int error) {
    struct stdio *stdio = context;
    (void)error;
    log_err_line(stdio);
    stdio->err = io_stream_free(stdio->err);
}

/* stdin. */

static void on_in_read(void *context, struct slice bytes) {
    (void)context; /* a pipe that we write to is never read */
    (void)bytes;
}

static void on_in_end(void *context, int error) {
    struct stdio *stdio = context;
    (void)error;
    stdio->in = io_stream_free(stdio->in);
    if (!stdio->has_exited)
        stop(stdio); /* it closed its stdin: it takes no calls any more */
}

static int write_line(struct stdio *stdio, struct slice line) {
    if (stdio->in == NULL || stdio->stop != STOP_NOT)
        return -EPIPE;
    /* One line always has room: how long it may be was decided where it came from. */
    size_t max = io_stream_queued(stdio->in) == 0 ? SIZE_MAX : LIMIT_STDIN_QUEUE;
    int error = io_stream_write(stdio->in, line, max);
    if (error != 0 && error != -ENOBUFS)
        stop(stdio); /* it closed its stdin; nobody reads this pipe and would notice */
    return error;
}

/* The process. */

static void on_child(void *context, enum spawner_event_kind kind, struct slice reason) {
    struct stdio *stdio = context;
    switch (kind) {
    case SPAWNER_STARTED:
        stdio->base.events.on_started(stdio->base.context);
        return;
    case SPAWNER_FAILED:
    case SPAWNER_EXITED:
        break;
    }
    set_reason(stdio, reason);
    children_forget(stdio->children, stdio->child);
    stdio->child = 0;
    stdio->has_exited = true;
    stdio->in = io_stream_free(stdio->in);
    if (stdio->out_ended)
        report_gone(stdio);
    else
        io_timer_start(stdio->timer, LAST_OUTPUT_MS);
}

static void signal_child(struct stdio *stdio, int signal) {
    if (stdio->child != 0)
        children_signal(stdio->children, stdio->config->isolation != CONFIG_ISOLATION_NONE,
                        stdio->child, signal);
}

static void on_timer(void *context) {
    struct stdio *stdio = context;
    if (stdio->has_exited) {
        /* Something that left the process's group still holds the pipe. */
        stdio->out = io_stream_free(stdio->out);
        stdio->out_ended = true;
        report_gone(stdio);
    } else if (stdio->stop == STOP_KILL) {
        /* It cannot be killed, being stuck in the kernel: the spawner sees to it, nobody waits. */
        on_child(stdio, SPAWNER_EXITED, SLICE("it could not be ended"));
    } else if (stdio->stop == STOP_CLOSED) {
        stdio->stop = STOP_TERM;
        signal_child(stdio, SIGTERM);
        io_timer_start(stdio->timer, stdio->config->shutdown_timeout_ms);
    } else {
        kill_now(stdio);
    }
}

static void stop(struct stdio *stdio) {
    if (stdio->stop != STOP_NOT || stdio->has_exited)
        return;
    stdio->stop = STOP_CLOSED;
    stdio->in = io_stream_free(stdio->in);
    io_timer_start(stdio->timer, stdio->config->shutdown_timeout_ms);
}

static void kill_now(struct stdio *stdio) {
    if (stdio->stop == STOP_KILL || stdio->has_exited)
        return;
    stdio->stop = STOP_KILL;
    stdio->in = io_stream_free(stdio->in);
    io_timer_start(stdio->timer, KILL_MS);
    signal_child(stdio, SIGKILL);
}

/* Starting. */

static const char *const always_inherited[] = {"PATH", "HOME", "LANG", "TZ", "USER", "TMPDIR"};

static bool is_declared(const struct config_server *config, struct slice name) {
    for (size_t i = 0; i < config->n_env; i++) {
        if (slice_eq(config->env[i].key, name))
            return true;
    }
    return false;
}

static const char **append_inherited(struct arena *arena, const struct config_server *config,
                                     const char **at, struct slice name) {
    char key[256];
    if (is_declared(config, name) || slice_to_cstr(name, key, sizeof key) != 0)
        return at;
    const char *value = getenv(key);
    if (value != NULL)
        *at++ = arena_printf(arena, "%s=%s", key, value);
    return at;
}

/* Declared variables, PATH, HOME, LANG, TZ, USER, TMPDIR, and what inherit_env names; no more. */
static const char **make_environment(struct arena *arena, const struct config_server *config,
                                     const struct passwd *user) {
    size_t n = ARRAY_LEN(always_inherited) + config->n_env + config->n_inherit_env + 1;
    const char **envp = arena_alloc_array(arena, n, sizeof *envp);
    const char **at = envp;
    if (envp == NULL)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(always_inherited); i++) {
        struct slice name = slice_from_cstr(always_inherited[i]);
        bool is_of_user = user != NULL && !is_declared(config, name);
        if (is_of_user && slice_eq(name, SLICE("HOME")))
            *at++ = arena_printf(arena, "HOME=%s", user->pw_dir);
        else if (is_of_user && slice_eq(name, SLICE("USER")))
            *at++ = arena_printf(arena, "USER=%s", user->pw_name);
        else
            at = append_inherited(arena, config, at, name);
    }
    for (size_t i = 0; i < config->n_inherit_env; i++)
        at = append_inherited(arena, config, at, config->inherit_env[i]);
    for (size_t i = 0; i < config->n_env; i++)
        *at++ = arena_printf(arena, "%.*s=%s", SLICE_ARGS(config->env[i].key),
                             config->env[i].value.ptr);
    return arena_failed(arena) ? NULL : envp;
}

struct ends {
    int child_in, child_out, child_err; /* for the child */
    int in, out, err;                   /* for us */
};

static void close_ends(struct ends *ends) {
    io_fd_close(&ends->child_in);
    io_fd_close(&ends->child_out);
    io_fd_close(&ends->child_err);
    io_fd_close(&ends->in);
    io_fd_close(&ends->out);
    io_fd_close(&ends->err);
}

static int open_stderr(const struct config_server *config, struct log *log, struct ends *ends) {
    switch (config->stderr_kind) {
    case CONFIG_STDERR_NULL:
        return io_null_open(&ends->child_err);
    case CONFIG_STDERR_INHERIT:
        ends->child_err = dup(STDERR_FILENO);
        return ends->child_err >= 0 ? 0 : -errno;
    case CONFIG_STDERR_PIPE:
        return io_pipe(&ends->err, &ends->child_err);
    case CONFIG_STDERR_FILE:
        break;
    }
    int error = io_file_open_append(config->stderr_file.ptr, &ends->child_err);
    if (error != -ENOSPC && error != -EDQUOT)
        return error;
    /* A server is worth more than what it says beside its answers. */
    log_write(log, LOG_WARN, "upstream", "its stderr is lost: the disk is full",
              LOG_TEXT("upstream", config->name), LOG_TEXT("file", config->stderr_file));
    return io_null_open(&ends->child_err);
}

static int open_streams(struct stdio *stdio, struct ends *ends) {
    static const struct io_stream_events in_events = {.on_read = on_in_read, .on_end = on_in_end};
    static const struct io_stream_events out_events = {.on_read = on_out_read,
                                                       .on_end = on_out_end};
    static const struct io_stream_events err_events = {.on_read = on_err_read,
                                                       .on_end = on_err_end};
    int fd = ends->in;
    ends->in = -1;
    int error = io_stream_new(stdio->loop, IO_STREAM_PIPE, fd, &in_events, stdio, &stdio->in);
    if (error != 0)
        return error;
    fd = ends->out;
    ends->out = -1;
    error = io_stream_new(stdio->loop, IO_STREAM_PIPE, fd, &out_events, stdio, &stdio->out);
    if (error == 0 && ends->err >= 0) {
        fd = ends->err;
        ends->err = -1;
        error = io_stream_new(stdio->loop, IO_STREAM_PIPE, fd, &err_events, stdio, &stdio->err);
    }
    if (error != 0)
        return error;
    io_stream_drains(stdio->out);
    io_stream_read(stdio->out, true);
    if (stdio->err != NULL) {
        io_stream_never_starves(stdio->err); /* or the child would wait, and its answers with it */
        io_stream_read(stdio->err, true);
    }
    return 0;
}

/* By name, else by number. */
static int find_user(struct slice name, struct passwd *entry, char *text, size_t size,
                     struct passwd **ret_user) {
    uint64_t number;
    int error = getpwnam_r(name.ptr, entry, text, size, ret_user);
    if (error != 0 || *ret_user != NULL || slice_to_u64(name, &number) != 0 || number >= UINT32_MAX)
        return error;
    return getpwuid_r((uid_t)number, entry, text, size, ret_user);
}

static int spawn(struct stdio *stdio, const struct ends *ends, const char **ret_reason) {
    const struct config_server *config = stdio->config;
    struct arena arena = ARENA_INIT(MIB(1));
    struct passwd entry, *user = NULL;
    char entry_text[4096];
    int error = 0;
    if (config->user.len != 0 &&
        (find_user(config->user, &entry, entry_text, sizeof entry_text, &user) != 0 ||
         user == NULL)) {
        *ret_reason = "cannot find the user that the configuration names";
        error = -ENOENT;
    }
    const char **argv = arena_alloc_array(&arena, config->n_cmd + 1, sizeof *argv);
    const char **envp = make_environment(&arena, config, user);
    if (error == 0 && (argv == NULL || envp == NULL)) {
        *ret_reason = "the command and its environment are longer than 1 MiB";
        error = -E2BIG;
    }
    if (error == 0) {
        for (size_t i = 0; i < config->n_cmd; i++)
            argv[i] = config->cmd[i].ptr;
        struct spawner_command command = {
            .argv = argv,
            .envp = envp,
            .cwd = config->cwd.len != 0 ? config->cwd.ptr : NULL,
            .change_user = user != NULL,
            .uid = user != NULL ? user->pw_uid : 0,
            .gid = user != NULL ? user->pw_gid : 0,
            .stdin_fd = ends->child_in,
            .stdout_fd = ends->child_out,
            .stderr_fd = ends->child_err,
        };
        *ret_reason = "cannot give the order to start it";
        error = children_spawn(stdio->children, config->isolation != CONFIG_ISOLATION_NONE,
                               &command, stdio->loop, on_child, stdio, &stdio->child);
    }
    arena_deinit(&arena);
    return error;
}

static void free_stdio(struct stdio *stdio) {
    if (stdio->child != 0)
        children_forget(stdio->children, stdio->child);
    io_stream_free(stdio->in);
    io_stream_free(stdio->out);
    io_stream_free(stdio->err);
    io_timer_free(stdio->timer);
    buf_deinit(&stdio->line);
    buf_deinit(&stdio->err_line);
    mem_free(stdio);
}

/* The transport. */

static struct stdio *of(struct transport *transport) {
    return CONTAINER_OF(transport, struct stdio, base);
}

static int op_send(struct transport *transport, const struct transport_message *message) {
    return write_line(of(transport), message->line);
}

static bool op_forget(struct transport *transport, uint64_t id) {
    (void)transport; /* it was written at once */
    (void)id;
    return true;
}

static void op_doubt(struct transport *transport) {
    (void)transport; /* the end of a process is noticed */
}

static void op_agree(struct transport *transport, enum mcp_revision revision) {
    (void)transport; /* a line is a line in every revision */
    (void)revision;
}

static void op_stop(struct transport *transport) {
    stop(of(transport));
}

static void op_kill(struct transport *transport) {
    kill_now(of(transport));
}

static void op_free(struct transport *transport) {
    free_stdio(of(transport));
}

static const struct transport_ops stdio_ops = {
    .send = op_send,
    .forget = op_forget,
    .doubt = op_doubt,
    .agree = op_agree,
    .stop = op_stop,
    .kill = op_kill,
    .free = op_free,
};

int stdio_start(struct children *children, const struct config_server *config, struct io_loop *loop,
                struct log *log, const struct transport_events *events, void *context,
                struct transport **ret_transport, const char **ret_reason) {
    struct ends ends = {-1, -1, -1, -1, -1, -1};
    struct stdio *stdio = mem_xalloc(sizeof *stdio);
    stdio->base = (struct transport){.ops = &stdio_ops, .events = *events, .context = context};
    stdio->children = children;
    stdio->config = config;
    stdio->loop = loop;
    stdio->log = log;
    stdio->timer = io_timer_new(loop, on_timer, stdio);
    buf_init_held(&stdio->line, (size_t)config->max_message, io_loop_budget(loop));
    buf_init(&stdio->err_line, LIMIT_STDERR_LINE);
    *ret_reason = "cannot make its pipes";
    int error = io_pipe(&ends.child_in, &ends.in);
    if (error == 0)
        error = io_pipe(&ends.out, &ends.child_out);
    if (error == 0) {
        *ret_reason = "cannot open its stderr";
        error = open_stderr(config, log, &ends);
    }
    if (error == 0)
        error = open_streams(stdio, &ends);
    if (error == 0)
        error = spawn(stdio, &ends, ret_reason);
    close_ends(&ends);
    if (error != 0) {
        free_stdio(stdio);
        return error;
    }
    *ret_transport = &stdio->base;
    return 0;
}
