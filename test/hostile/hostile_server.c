/*
 * MCP servers on stdio that misbehave: `hostile_server WAY`, one row of `ways` for each. A way
 * begins with the process ("hang-start") or with a call of the tool "bad"; until then, and for the
 * tool "echo", it is an honest legacy server. It trusts its peer, which is the gateway: it looks
 * for words in a message instead of reading JSON.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/compiler.h"

enum { LINE_BYTES = 1 << 20, ID_BYTES = 64, MIB_BYTES = 1 << 20 };

struct way {
    const char *name;
    void (*start)(void);          /* before anything is read */
    void (*bad)(const char *id);  /* the tool */
    void (*list)(const char *id); /* tools/list */
    bool lingers;                 /* stays when its input has ended */
};

static const struct way *way;

static void write_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno != EINTR)
            _exit(1);
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
}

static void say(const char *text) {
    write_all(STDOUT_FILENO, text, strlen(text));
}

PRINTF_LIKE(1, 2) static void say_line(const char *format, ...) {
    static char line[1 << 16];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= sizeof line)
        abort();
    say(line);
    say("\n");
}

static void answer(const char *id, const char *text) {
    say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":"
             "\"%s\"}]}}",
             id, text);
}

NO_RETURN static void stay(void) {
    for (;;)
        pause();
}

/* ---- ways ---- */

static void be_silent(const char *id) {
    (void)id;
}

static void exit_at_start(void) {
    _exit(1);
}

static void answer_twice(const char *id) {
    answer(id, "first");
    answer(id, "second");
    say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":1,\"message\":\"third\"}}", id);
}

static void answer_unknown(const char *id) {
    say_line("{\"jsonrpc\":\"2.0\",\"id\":1000000%s,\"result\":{}}", id);
    say_line("{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"result\":{}}", id);
    say_line("{\"jsonrpc\":\"2.0\",\"id\":-%s,\"result\":{}}", id);
    say_line("{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}");
    say_line("{\"jsonrpc\":\"2.0\",\"result\":{}}");
}

static void answer_refused(const char *id) {
    say_line(
        "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{},\"error\":{\"code\":1,\"message\":\"\"}}",
        id);
    say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"id\":%s,\"result\":{}}", id, id);
    say_line("{\"jsonrpc\":\"2.0\",\"\\u0069d\":%s,\"result\":{}}", id);
    say_line("{\"jsonrpc\":\"2.0\",\"ID\":%s,\"result\":{}}", id);
    say_line("{\"jsonrpc\":\"1.0\",\"id\":%s,\"result\":{}}", id);
    say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"a\":\"\xff\"}}", id);
    say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":[]}", id);
    say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"a\":NaN}}", id);
    say_line("[{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}]", id);
    say_line("{\"jsonrpc\":\"2.0\",\"id\":%s}", id);
    char deep[201];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    deep[200] = '\0';
    say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"a\":%s}}", id, deep);
}

static void crash(const char *id) {
    (void)id;
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static void leave_in_mid_answer(const char *id) {
    char half[128];
    int n = snprintf(half, sizeof half, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"con", id);
    write_all(STDOUT_FILENO, half, (size_t)n);
    _exit(0);
}

static void stop_in_mid_answer(const char *id) {
    char half[128];
    int n = snprintf(half, sizeof half, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"con", id);
    write_all(STDOUT_FILENO, half, (size_t)n);
}

static void drip(const char *id) {
    char start[128];
    int n =
        snprintf(start, sizeof start, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"x\":\"", id);
    write_all(STDOUT_FILENO, start, (size_t)n);
    for (;;) {
        say("x");
        (void)poll(NULL, 0, 20);
    }
}

/* What loggers and crashes leave on stdout, and half a KiB of everything. */
static void print_garbage(const char *id) {
    char noise[512];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(i * 131 % 251);
    say("\n\r\n\n{\n}\n[[[[\nnull\n\"\n0\n\xef\xbb\xbf\nlistening on port 3000\n");
    write_all(STDOUT_FILENO, noise, sizeof noise);
    say("\n");
    answer(id, "clear");
}

/* And the same for ever, or until nobody takes it. */
static void flood_garbage(const char *id) {
    for (;;) {
        say("Segmentation fault (core not dumped)\n");
        (void)id;
    }
}

/* 1 GiB, if anybody takes it. */
static void endless_line(const char *id) {
    (void)id;
    static char chunk[MIB_BYTES];
    memset(chunk, 'x', sizeof chunk);
    for (int i = 0; i < 1024; i++)
        write_all(STDOUT_FILENO, chunk, sizeof chunk);
    say("\n");
}

/* 8 MiB in lines, then 8 MiB in one, while a call waits. */
static void flood_stderr(const char *id) {
    static char lines[MIB_BYTES];
    for (size_t i = 0; i < sizeof lines; i++)
        lines[i] = i % 64 == 63 ? '\n' : 'e';
    for (int i = 0; i < 8; i++)
        write_all(STDERR_FILENO, lines, sizeof lines);
    memset(lines, 'E', sizeof lines);
    for (int i = 0; i < 8; i++)
        write_all(STDERR_FILENO, lines, sizeof lines);
    answer(id, "told");
}

static void ignore_term(void) {
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
}

/* The one that stays has all three pipes, is in a session of its own, and ignores what it can. */
static void fork_and_leave(const char *id) {
    (void)id;
    if (fork() != 0)
        _exit(0);
    setsid();
    prctl(PR_SET_PDEATHSIG, 0);
    ignore_term();
    stay();
}

static void close_stdout(const char *id) {
    (void)id;
    close(STDOUT_FILENO);
}

static void close_stdin(const char *id) {
    (void)id;
    close(STDIN_FILENO);
    stay();
}

static void list_for_ever(const char *id) {
    static unsigned page;
    say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"tools\":[],\"nextCursor\":\"%u\"}}", id,
             ++page);
}

static void list_nonsense(const char *id) {
    say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"tools\":{\"length\":1}}}", id);
}

static const struct way ways[] = {
    {.name = "honest"},
    {.name = "hang-start", .start = stay, .lingers = true},
    {.name = "exit-start", .start = exit_at_start},
    {.name = "silent", .bad = be_silent},
    {.name = "twice", .bad = answer_twice},
    {.name = "unknown-id", .bad = answer_unknown},
    {.name = "refused", .bad = answer_refused},
    {.name = "crash", .bad = crash},
    {.name = "leave-in-answer", .bad = leave_in_mid_answer},
    {.name = "stop-in-answer", .bad = stop_in_mid_answer},
    {.name = "drip", .bad = drip},
    {.name = "garbage", .bad = print_garbage},
    {.name = "garbage-flood", .bad = flood_garbage},
    {.name = "gib-line", .bad = endless_line},
    {.name = "stderr", .bad = flood_stderr},
    {.name = "ignore-term", .start = ignore_term, .bad = be_silent, .lingers = true},
    {.name = "fork-leave", .bad = fork_and_leave},
    {.name = "close-stdout", .bad = close_stdout, .lingers = true},
    {.name = "close-stdin", .bad = close_stdin, .lingers = true},
    {.name = "list-forever", .list = list_for_ever},
    {.name = "list-nonsense", .list = list_nonsense},
};

/* ---- the honest part ---- */

/* The JSON value behind `key`, a number or a string without escapes, as written. */
static bool value_of(const char *message, const char *key, char out[ID_BYTES]) {
    const char *at = strstr(message, key);
    if (at == NULL)
        return false;
    at += strlen(key);
    size_t n = *at == '"' ? strcspn(at + 1, "\"") + 2 : strspn(at, "-0123456789");
    if (n == 0 || n >= ID_BYTES)
        return false;
    memcpy(out, at, n);
    out[n] = '\0';
    return true;
}

static void handle(const char *message) {
    char id[ID_BYTES], text[ID_BYTES] = "\"\"", version[ID_BYTES] = "\"2025-11-25\"";
    if (!value_of(message, "\"id\":", id))
        return;
    if (strstr(message, "\"method\":\"initialize\"") != NULL) {
        (void)value_of(message, "\"protocolVersion\":", version);
        say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"protocolVersion\":%s,"
                 "\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"hostile\",\"version\":"
                 "\"1\"}}}",
                 id, version);
    } else if (strstr(message, "\"method\":\"tools/list\"") != NULL) {
        if (way->list != NULL)
            way->list(id);
        else
            say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"tools\":[{\"name\":\"echo\","
                     "\"inputSchema\":{\"type\":\"object\"}},{\"name\":\"bad\",\"inputSchema\":{"
                     "\"type\":\"object\"}}]}}",
                     id);
    } else if (strstr(message, "\"method\":\"tools/call\"") == NULL) {
        say_line(
            "{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":-32601,\"message\":\"Method not "
            "found\"}}",
            id);
    } else if (strstr(message, "\"name\":\"bad\"") != NULL && way->bad != NULL) {
        way->bad(id);
    } else {
        (void)value_of(message, "\"text\":", text);
        say_line("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"type\":\"text\","
                 "\"text\":%s}]}}",
                 id, text);
    }
}

static void serve(void) {
    static char held[LINE_BYTES];
    size_t len = 0;
    for (;;) {
        ssize_t n = read(STDIN_FILENO, held + len, sizeof held - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        len += (size_t)n;
        char *line = held, *end;
        while ((end = memchr(line, '\n', len - (size_t)(line - held))) != NULL) {
            *end = '\0';
            handle(line);
            line = end + 1;
        }
        len -= (size_t)(line - held);
        memmove(held, line, len);
        if (len == sizeof held - 1)
            _exit(1);
    }
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 2 && i < ARRAY_LEN(ways); i++)
        if (strcmp(argv[1], ways[i].name) == 0)
            way = &ways[i];
    if (way == NULL)
        return 2;
    if (way->start != NULL)
        way->start();
    serve();
    if (way->lingers)
        stay();
    return 0;
}
