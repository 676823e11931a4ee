/*
 * The stdio server of the soak: what a call is to meet stands in its own arguments, as `do` with
 * `n` and `ms`, and every answer carries the `nonce` of the call that it answers, so that an answer
 * which reaches another caller is seen. It knows no JSON: it looks for members in lines that the
 * soak's clients made, none of which has an escaped quote before them. `legacy` or `modern` is the
 * era that it speaks.
 */
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"

enum { MAX_LATER = 1024, WORD = 128, MAX_LINE = 8 << 20 };

struct call {
    char id[WORD], token[WORD]; /* as they came; token is empty when no progress was asked for */
    char nonce[WORD], what[WORD];
    long n, ms;
    long done;        /* of n reports */
    long long due_ms; /* the next report, or the answer */
};

static bool is_modern;
static struct call later[MAX_LATER];
static size_t n_later;

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* The value of the first member of that name as it came: a string with its quotes, or a number. */
static bool member(const char *line, const char *name, char *ret_value) {
    char key[WORD];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(line, key);
    if (at == NULL)
        return false;
    at += strlen(key);
    size_t len = 0;
    if (*at == '"')
        for (len = 1; at[len] != '"' && at[len] != '\0'; len++)
            ;
    len = *at == '"' ? len + 1 : strcspn(at, ",}]");
    if (len >= WORD)
        return false;
    memcpy(ret_value, at, len);
    ret_value[len] = '\0';
    return true;
}

static void word(const char *line, const char *name, char *ret_value) {
    char value[WORD] = "\"\"";
    member(line, name, value);
    size_t len = strlen(value);
    snprintf(ret_value, WORD, "%.*s", (int)(len - 2), value + 1);
}

static long number(const char *line, const char *name) {
    char value[WORD] = "0";
    member(line, name, value);
    return strtol(value, NULL, 10);
}

static const char *complete(void) {
    return is_modern ? "\"resultType\":\"complete\"," : "";
}

/* The nonce and a comma, over and over, so many bytes; nothing but the nonce when n is 0. */
static void put_text(const char *nonce, long n) {
    size_t len = strlen(nonce);
    if (n == 0)
        fputs(nonce, stdout);
    for (long i = 0; i < n; i++)
        putchar((size_t)i % (len + 1) == len ? ',' : nonce[(size_t)i % (len + 1)]);
}

static void answer(const struct call *call) {
    if (strcmp(call->what, "refuse") == 0) {
        printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":4242,\"message\":\"%s\"}}\n",
               call->id, call->nonce);
        return;
    }
    printf(
        "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{%s\"content\":[{\"type\":\"text\",\"text\":\"",
        call->id, complete());
    put_text(call->nonce, strcmp(call->what, "big") == 0 ? call->n : 0);
    printf("\"}]%s}}\n", strcmp(call->what, "fail") == 0 ? ",\"isError\":true" : "");
}

static void report(const struct call *call, long progress) {
    if (call->token[0] != '\0')
        printf("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":"
               "{\"progressToken\":%s,\"progress\":%ld,\"message\":\"%s\"}}\n",
               call->token, progress, call->nonce);
}

static NO_RETURN void crash(const struct call *call) {
    if (strcmp(call->what, "crash-half") == 0) {
        printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"ty", call->id);
        fflush(stdout);
    }
    _exit(3);
}

static void flood_log(const struct call *call) {
    for (long i = 0; i < call->n; i++)
        printf("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":"
               "{\"level\":\"error\",\"data\":\"%s %ld\"}}\n",
               call->nonce, i);
}

static void flood_stderr(const struct call *call) {
    for (long i = 0; i < call->n; i++)
        fprintf(stderr, "%s complains for the %ldth time\n", call->nonce, i);
}

/* What comes before the answer. False: there will be none now. */
static bool prelude(struct call *call) {
    const char *what = call->what;
    if (strncmp(what, "crash", 5) == 0)
        crash(call);
    if (strcmp(what, "hang") == 0)
        return false;
    if (strcmp(what, "slow") == 0 || strcmp(what, "progress") == 0) {
        call->due_ms = now_ms() + call->ms;
        if (n_later < MAX_LATER)
            later[n_later++] = *call;
        return false;
    }
    if (strcmp(what, "flood") == 0)
        for (long i = 1; i <= call->n; i++)
            report(call, i);
    else if (strcmp(what, "log") == 0)
        flood_log(call);
    else if (strcmp(what, "stderr") == 0)
        flood_stderr(call);
    else if (strcmp(what, "garbage") == 0)
        puts("this is no message {\"jsonrpc\"");
    else if (strcmp(what, "stray") == 0)
        puts("{\"jsonrpc\":\"2.0\",\"id\":987654321,\"result\":{\"content\":[]}}");
    else if (strcmp(what, "twice") == 0)
        answer(call);
    else if (strcmp(what, "changed") == 0)
        puts("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}");
    return true;
}

static void take_call(const char *line, const char *id) {
    struct call call = {.n = number(line, "n"), .ms = number(line, "ms")};
    snprintf(call.id, sizeof call.id, "%s", id);
    member(line, "progressToken", call.token);
    word(line, "nonce", call.nonce);
    word(line, "do", call.what);
    if (prelude(&call))
        answer(&call);
}

static void put_start(const char *id) {
    const char *capabilities = "\"capabilities\":{\"tools\":{\"listChanged\":true},\"logging\":{}}";
    if (is_modern)
        printf(
            "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{%s\"supportedVersions\":[\"2026-07-28\"],"
            "%s,\"ttlMs\":1000,\"cacheScope\":\"public\"}}\n",
            id, complete(), capabilities);
    else
        printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"protocolVersion\":\"2025-11-25\",%s,"
               "\"serverInfo\":{\"name\":\"soak\",\"version\":\"1\"}}}\n",
               id, capabilities);
}

static void take(const char *line) {
    char id[WORD] = "", method[WORD] = "";
    word(line, "method", method);
    bool is_call = strcmp(method, "tools/call") == 0;
    if (!member(line, "id", id) || strncmp(method, "notifications/", 14) == 0)
        return;
    if (is_call)
        take_call(line, id);
    else if (strcmp(method, is_modern ? "server/discover" : "initialize") == 0)
        put_start(id);
    else if (strcmp(method, "tools/list") == 0)
        printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{%s\"tools\":[{\"name\":\"t\","
               "\"inputSchema\":"
               "{\"type\":\"object\"}}]%s}}\n",
               id, complete(), is_modern ? ",\"ttlMs\":1000,\"cacheScope\":\"public\"" : "");
    else if (strcmp(method, "logging/setLevel") == 0 || strcmp(method, "ping") == 0)
        printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n", id);
    else
        printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":-32601,\"message\":\"Method not "
               "found\"}}\n",
               id);
}

/* Those that are due; how long until the next one is, in milliseconds, -1 when there is none. */
static int run_later(void) {
    long long now = now_ms();
    long long next = -1;
    for (size_t i = 0; i < n_later; i++) {
        struct call *call = &later[i];
        if (call->due_ms <= now) {
            bool is_reporting = strcmp(call->what, "progress") == 0 && call->done < call->n;
            call->due_ms = now + call->ms;
            if (is_reporting)
                report(call, ++call->done);
            else {
                answer(call);
                *call = later[--n_later];
                i--;
                continue;
            }
        }
        if (next < 0 || call->due_ms - now < next)
            next = call->due_ms - now;
    }
    return (int)next;
}

int main(int argc, char **argv) {
    static char held[MAX_LINE];
    size_t len = 0;
    is_modern = argc > 1 && strcmp(argv[1], "modern") == 0;
    for (;;) {
        int wait = run_later();
        fflush(stdout);
        struct pollfd in = {.fd = 0, .events = POLLIN};
        if (poll(&in, 1, wait) <= 0)
            continue;
        ssize_t n = read(0, held + len, sizeof held - 1 - len);
        if (n <= 0)
            return 0;
        len += (size_t)n;
        held[len] = '\0';
        char *from = held;
        for (char *end; (end = strchr(from, '\n')) != NULL; from = end + 1) {
            *end = '\0';
            take(from);
        }
        len -= (size_t)(from - held);
        memmove(held, from, len);
        if (len == sizeof held - 1)
            return 4;
    }
}
