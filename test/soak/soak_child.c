/*
 * The stdio server of the soak: what a call is to meet stands in its own arguments, as `do` with
 * `n` and `ms`, and every answer carries the `nonce` of the call that it answers, so that an answer
 * which reaches another caller is seen. It knows no JSON: it looks for members in lines that the
 * soak's clients made, none of which has an escaped quote before them. `legacy` or `modern` is the
 * era that it speaks, the last argument its name, which is in the URIs of its resources.
 */
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"

enum { MAX_LATER = 1024, MAX_LISTENS = 64, RESOURCES = 8, WORD = 128, MAX_LINE = 8 << 20 };

struct call {
    char id[WORD], token[WORD]; /* as they came; token is empty when no progress was asked for */
    char nonce[WORD], what[WORD];
    long n, ms;
    long done;        /* of n reports */
    long long due_ms; /* the next report, or the answer */
    bool is_asking;   /* due never: when the client has answered */
    char said[2 * WORD];
};

/* Of subscriptions/listen; the legacy era has but one, which has no id. */
struct listen {
    char id[WORD];
    bool has_lists, has_resource[RESOURCES];
};

static bool is_modern;
static const char *own_name = "soak";
static struct listen listens[MAX_LISTENS];
static size_t n_listens;
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
    put_text(strcmp(call->what, "ask") == 0 ? call->said : call->nonce,
             strcmp(call->what, "big") == 0 ? call->n : 0);
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

static void put_notification(const char *method, const struct listen *listen, const char *params) {
    printf("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/%s\",\"params\":{%s", method, params);
    if (is_modern)
        printf("%s\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%s}",
               params[0] != '\0' ? "," : "", listen->id);
    puts("}}");
}

/* A number past the last is of a resource that nobody asked for. */
static void touch(long n) {
    char params[WORD * 2];
    snprintf(params, sizeof params, "\"uri\":\"soak://%s/%ld\"", own_name, n);
    for (size_t i = 0; i < n_listens; i++)
        if (n >= RESOURCES || (n >= 0 && listens[i].has_resource[n]))
            put_notification("resources/updated", &listens[i], params);
}

static void change_lists(void) {
    if (!is_modern)
        puts("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}");
    for (size_t i = 0; is_modern && i < n_listens; i++)
        if (listens[i].has_lists)
            put_notification("tools/list_changed", &listens[i], "");
}

static void end_listens(void) {
    for (size_t i = 0; is_modern && i < n_listens; i++)
        printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{%s\"_meta\":{"
               "\"io.modelcontextprotocol/subscriptionId\":%s}}}\n",
               listens[i].id, complete(), listens[i].id);
    if (is_modern)
        n_listens = 0;
}

static const char elicitation[] =
    "\"method\":\"elicitation/create\",\"params\":{\"mode\":\"form\",\"message\":\"%s\","
    "\"requestedSchema\":{\"type\":\"object\",\"properties\":{\"said\":{\"type\":\"string\"}}}}";

/* What the answer to a question makes of the call. */
static void take_said(struct call *call, const char *line) {
    char action[WORD] = "error";
    word(line, "action", action);
    if (strcmp(action, "accept") == 0)
        word(line, "said", call->said);
    else
        snprintf(call->said, sizeof call->said, "%s %s", action[0] != '\0' ? action : "error",
                 call->nonce);
}

/* True: it has been answered already. */
static bool ask(struct call *call, const char *line) {
    if (is_modern && strstr(line, "\"inputResponses\":{\"who\":") != NULL) {
        char state[WORD];
        word(line, "requestState", state);
        take_said(call, line);
        if (strcmp(state, call->nonce) != 0)
            snprintf(call->said, sizeof call->said, "another's state");
        return true;
    }
    if (is_modern) {
        printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"resultType\":\"input_required\","
               "\"inputRequests\":{\"who\":{",
               call->id);
        printf(elicitation, call->nonce);
        printf("}},\"requestState\":\"%s\"}}\n", call->nonce);
    } else if (n_later < MAX_LATER) {
        call->is_asking = true;
        later[n_later++] = *call;
        printf("{\"jsonrpc\":\"2.0\",\"id\":\"%s\",", call->nonce);
        printf(elicitation, call->nonce);
        puts("}");
    }
    return false;
}

/* The client's answer. */
static void take_answer(const char *id, const char *line) {
    for (size_t i = 0; i < n_later; i++) {
        struct call call = later[i];
        if (!call.is_asking || strncmp(id + 1, call.nonce, strlen(call.nonce)) != 0 ||
            id[1 + strlen(call.nonce)] != '"')
            continue;
        take_said(&call, line);
        later[i] = later[--n_later];
        answer(&call);
        return;
    }
}

/* What comes before the answer. False: there will be none now. */
static bool prelude(struct call *call, const char *line) {
    const char *what = call->what;
    if (strcmp(what, "ask") == 0)
        return ask(call, line);
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
        change_lists();
    else if (strcmp(what, "touch") == 0)
        touch(call->n);
    else if (strcmp(what, "strange") == 0)
        touch(RESOURCES);
    else if (strcmp(what, "end-listens") == 0)
        end_listens();
    return true;
}

static void take_call(const char *line, const char *id) {
    struct call call = {.n = number(line, "n"), .ms = number(line, "ms")};
    snprintf(call.id, sizeof call.id, "%s", id);
    member(line, "progressToken", call.token);
    word(line, "nonce", call.nonce);
    word(line, "do", call.what);
    if (prelude(&call, line))
        answer(&call);
}

static void put_start(const char *id) {
    const char *capabilities = "\"capabilities\":{\"tools\":{\"listChanged\":true},\"resources\":"
                               "{\"listChanged\":true,\"subscribe\":true},\"logging\":{}}";
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

static void put_list(const char *id, const char *key) {
    printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{%s\"%s\":[", id, complete(), key);
    if (strcmp(key, "tools") == 0)
        printf("{\"name\":\"t\",\"inputSchema\":{\"type\":\"object\"}}");
    for (int n = 0; n < RESOURCES && strcmp(key, "resources") == 0; n++)
        printf("%s{\"name\":\"%d\",\"uri\":\"soak://%s/%d\"}", n > 0 ? "," : "", n, own_name, n);
    printf("]%s}}\n", is_modern ? ",\"ttlMs\":1000,\"cacheScope\":\"public\"" : "");
}

/* The resources that are named in it are wanted, or no longer. */
static void note_resources(const char *line, struct listen *listen, bool are_wanted) {
    char uri[WORD];
    for (int n = 0; n < RESOURCES; n++) {
        snprintf(uri, sizeof uri, "\"soak://%s/%d\"", own_name, n);
        if (strstr(line, uri) != NULL)
            listen->has_resource[n] = are_wanted;
    }
}

static void subscribe(const char *line, const char *id, bool are_wanted) {
    n_listens = 1;
    note_resources(line, &listens[0], are_wanted);
    printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n", id);
}

static void take_listen(const char *line, const char *id) {
    if (n_listens == MAX_LISTENS)
        _exit(5);
    struct listen *listen = &listens[n_listens++];
    *listen = (struct listen){.has_lists = strstr(line, "\"toolsListChanged\":true") != NULL};
    snprintf(listen->id, sizeof listen->id, "%s", id);
    note_resources(line, listen, true);
    char honoured[RESOURCES * WORD] = "";
    for (int n = 0, len = 0; n < RESOURCES; n++)
        if (listen->has_resource[n])
            len += snprintf(honoured + len, sizeof honoured - (size_t)len, "%s\"soak://%s/%d\"",
                            len > 0 ? "," : "", own_name, n);
    char params[RESOURCES * WORD + WORD];
    snprintf(params, sizeof params,
             "\"notifications\":{\"toolsListChanged\":%s,\"resourceSubscriptions\":[%s]}",
             listen->has_lists ? "true" : "false", honoured);
    put_notification("subscriptions/acknowledged", listen, params);
}

static void take_notification(const char *method, const char *line) {
    char id[WORD] = "";
    if (strcmp(method, "notifications/cancelled") != 0 || !member(line, "requestId", id))
        return;
    for (size_t i = 0; is_modern && i < n_listens; i++)
        if (strcmp(listens[i].id, id) == 0)
            listens[i--] = listens[--n_listens];
    for (size_t i = 0; i < n_later; i++)
        if (later[i].is_asking && strcmp(later[i].id, id) == 0)
            later[i--] = later[--n_later];
}

static void take_request(const char *method, const char *line, const char *id) {
    if (strcmp(method, "tools/call") == 0)
        take_call(line, id);
    else if (strcmp(method, is_modern ? "server/discover" : "initialize") == 0)
        put_start(id);
    else if (strcmp(method, "tools/list") == 0)
        put_list(id, "tools");
    else if (strcmp(method, "resources/list") == 0)
        put_list(id, "resources");
    else if (strcmp(method, "resources/templates/list") == 0)
        put_list(id, "resourceTemplates");
    else if (is_modern && strcmp(method, "subscriptions/listen") == 0)
        take_listen(line, id);
    else if (!is_modern && strcmp(method, "resources/subscribe") == 0)
        subscribe(line, id, true);
    else if (!is_modern && strcmp(method, "resources/unsubscribe") == 0)
        subscribe(line, id, false);
    else if (strcmp(method, "logging/setLevel") == 0 || strcmp(method, "ping") == 0)
        printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n", id);
    else
        printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":-32601,\"message\":\"Method not "
               "found\"}}\n",
               id);
}

static void take(const char *line) {
    char id[WORD] = "", method[WORD] = "";
    word(line, "method", method);
    bool has_id = member(line, "id", id);
    if (method[0] == '\0') {
        if (has_id)
            take_answer(id, line);
    } else if (strncmp(method, "notifications/", 14) == 0)
        take_notification(method, line);
    else if (has_id)
        take_request(method, line, id);
}

/* Those that are due; how long until the next one is, in milliseconds, -1 when there is none. */
static int run_later(void) {
    long long now = now_ms();
    long long next = -1;
    for (size_t i = 0; i < n_later; i++) {
        struct call *call = &later[i];
        if (call->is_asking)
            continue;
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
    if (argc > 3)
        own_name = argv[3];
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
