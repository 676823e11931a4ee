#include "tiny_mcp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"

/*
 * The tools for numbers. `small` is a message of 136 bytes, `medium` one of 10 kB, `large` 1 MB as
 * one ASCII string, `rows` 1 MB of small objects in structuredContent. (An id of eight digits, as
 * the load has, is in the count.)
 */
enum { SMALL_BYTES = 136, MEDIUM_BYTES = 10000, LARGE_BYTES = 1000000, ID_BYTES = 8 };

#define IS(name)                                                                                   \
    (method_len == sizeof(name) + 1 && strncmp(method + 1, name, sizeof(name) - 1) == 0)
#define HEAD     "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{"
#define TEXT     "\"content\":[{\"type\":\"text\",\"text\":"
#define TEXT_END "}]}}"
#define COMPLETE "\"resultType\":\"complete\","
/* What every modern result has beside its own; the lists and discover can be cached. */
#define MODERN                                                                                     \
    COMPLETE "\"_meta\":{\"io.modelcontextprotocol/serverInfo\":"                                  \
             "{\"name\":\"tiny\",\"version\":\"1\"}},"
#define CACHED "\"ttlMs\":600000,\"cacheScope\":\"public\","
#define TOOL(name, about)                                                                          \
    "{\"name\":\"" name "\",\"description\":\"" about                                              \
    "\",\"inputSchema\":{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}}}}"

static char letters[LARGE_BYTES];
static char rows[LARGE_BYTES];
static size_t rows_len;

static const struct size {
    const char *name; /* as JSON */
    size_t bytes;
    bool is_rows;
} sizes[] = {
    {"\"small\"", SMALL_BYTES, false},
    {"\"medium\"", MEDIUM_BYTES, false},
    {"\"large\"", LARGE_BYTES, false},
    {"\"rows\"", LARGE_BYTES, true},
};

/* The JSON value behind the first `key`, as written: a string or a number. */
static size_t value_of(const char *message, const char *key, const char **ret_value) {
    const char *at = strstr(message, key);
    if (at == NULL)
        return 0;
    at += strlen(key);
    size_t n = 0;
    if (*at == '"') {
        for (n = 1; at[n] != '\0' && at[n] != '"'; n++)
            n += at[n] == '\\' && at[n + 1] != '\0';
        n++;
    } else {
        n = strspn(at, "-0123456789");
    }
    *ret_value = at;
    return n;
}

PRINTF_LIKE(2, 3) static void say(struct tiny_answer *answer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(answer->head, TINY_HEAD, format, arguments);
    va_end(arguments);
    if (n < 0 || n >= TINY_HEAD)
        abort();
    answer->head_len = (size_t)n;
}

static void append(struct tiny_answer *answer, const char *text, size_t len) {
    if (len > TINY_HEAD - answer->head_len)
        abort();
    memcpy(answer->head + answer->head_len, text, len);
    answer->head_len += len;
}

#define APPEND(answer, literal) append(answer, literal, sizeof(literal) - 1)

static void end_with(struct tiny_answer *answer, const char *payload, size_t len,
                     const char *tail) {
    answer->payload = payload;
    answer->payload_len = len;
    answer->tail = tail;
    answer->tail_len = strlen(tail);
}

/* The message has as many bytes as the tool says, when the id has as many as the load's. */
static void answer_size(const struct size *size, bool is_modern, size_t id_len, const char *id,
                        struct tiny_answer *answer) {
    APPEND(answer, "{\"jsonrpc\":\"2.0\",\"id\":");
    append(answer, id, id_len);
    APPEND(answer, ",\"result\":{");
    if (is_modern)
        APPEND(answer, COMPLETE);
    if (size->is_rows) {
        APPEND(answer, TEXT "\"see the rows\"}],\"structuredContent\":{\"rows\":[");
        end_with(answer, rows, rows_len, "]}}}");
    } else {
        APPEND(answer, TEXT "\"");
        size_t around = answer->head_len - id_len + ID_BYTES + sizeof("\"" TEXT_END) - 1;
        end_with(answer, letters, size->bytes > around ? size->bytes - around : 0, "\"" TEXT_END);
    }
}

/* A client has a name too, so each name is looked at. */
static const struct size *size_of(const char *message) {
    const char *name = message;
    for (size_t len; (len = value_of(name, "\"name\":", &name)) > 0; name += len) {
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
            if (len == strlen(sizes[i].name) && memcmp(name, sizes[i].name, len) == 0)
                return &sizes[i];
    }
    return NULL;
}

static void answer_call(const struct tiny_revisions *revisions, bool is_modern, size_t id_len,
                        const char *id, const char *message, struct tiny_answer *answer) {
    const struct size *size = revisions->has_sizes ? size_of(message) : NULL;
    if (size != NULL) {
        answer_size(size, is_modern, id_len, id, answer);
        return;
    }
    const char *text = "\"\"";
    size_t len = value_of(message, "\"text\":", &text);
    say(answer, HEAD "%s" TEXT, (int)id_len, id, is_modern ? MODERN : "");
    end_with(answer, text, len == 0 ? 2 : len, TEXT_END);
}

static void answer_list(const struct tiny_revisions *revisions, bool is_modern, size_t id_len,
                        const char *id, struct tiny_answer *answer) {
    say(answer, HEAD "%s\"tools\":[" TOOL("echo", "Says the text again") "%s]}}", (int)id_len, id,
        is_modern ? MODERN CACHED : "",
        revisions->has_sizes ? "," TOOL("small", "136 bytes") "," TOOL("medium", "10 kB") "," TOOL(
                                   "large", "1 MB of text") "," TOOL("rows", "1 MB of rows")
                             : "");
}

bool tiny_is_modern(const char *message) {
    return strstr(message, "io.modelcontextprotocol/protocolVersion") != NULL;
}

void tiny_answer(const struct tiny_revisions *revisions, const char *message,
                 struct tiny_answer *ret_answer) {
    const char *id = "", *method = "", *version = "\"2025-11-25\"";
    size_t id_len = value_of(message, "\"id\":", &id);
    size_t method_len = value_of(message, "\"method\":", &method);
    bool is_modern = tiny_is_modern(message);
    struct tiny_answer *answer = ret_answer;
    answer->status = id_len == 0 ? 202 : 200;
    answer->is_opening = false;
    answer->head_len = 0;
    end_with(answer, "", 0, "");
    if (id_len == 0)
        return;
    if (is_modern && !revisions->is_modern) {
        answer->status = 400;
        say(answer, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32000,\"message\":\"Bad Request: "
                    "Unsupported "
                    "protocol version\"}}");
    } else if (!is_modern && !revisions->is_legacy) {
        answer->status = 400;
        say(answer,
            "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":-32022,\"message\":\"Unsupported "
            "protocol version\",\"data\":{\"supported\":[\"2026-07-28\"],\"requested\":"
            "\"2025-11-25\"}}}",
            (int)id_len, id);
    } else if (IS("tools/call")) {
        answer_call(revisions, is_modern, id_len, id, message, answer);
    } else if (IS("tools/list")) {
        answer_list(revisions, is_modern, id_len, id, answer);
    } else if (is_modern && IS("server/discover")) {
        say(answer,
            HEAD MODERN CACHED
            "\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"tools\":{}}}}",
            (int)id_len, id);
    } else if (!is_modern && IS("initialize")) {
        size_t len = value_of(message, "\"protocolVersion\":", &version);
        answer->is_opening = true;
        say(answer,
            HEAD "\"protocolVersion\":%.*s,\"capabilities\":{\"tools\":{}},"
                 "\"serverInfo\":{\"name\":\"tiny\",\"version\":\"1\"}}}",
            (int)id_len, id, len == 0 ? 12 : (int)len, version);
    } else if (!is_modern && (IS("ping") || IS("logging/setLevel"))) {
        say(answer, HEAD "}}", (int)id_len, id);
    } else {
        answer->status = is_modern ? 404 : 200;
        say(answer,
            "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":-32601,\"message\":\"Method not "
            "found\"}}",
            (int)id_len, id);
    }
}

void tiny_make_sizes(void) {
    for (size_t i = 0; i < sizeof letters; i++)
        letters[i] = "The quick brown fox jumps over the lazy dog. "[i % 45];
    size_t room = sizeof rows - 200; /* what stands around them */
    for (size_t i = 0; rows_len < room; i++) {
        char row[160];
        int n = i % 2 == 0
                    ? snprintf(row, sizeof row,
                               "{\"id\":%zu,\"name\":\"switch-%zu\",\"serial\":\"FDO2140A0BC\","
                               "\"up\":true,\"load\":0.37,\"site\":null,\"ports\":48}",
                               i, i)
                    : snprintf(row, sizeof row,
                               "{\"id\":%zu,\"name\":\"router-%zu\",\"serial\":null,\"up\":false,"
                               "\"load\":12.5,\"site\":\"Basel \\\"2\\\"\",\"ports\":24}",
                               i, i);
        if (n < 0 || rows_len + (size_t)n + 1 > room)
            break;
        if (i > 0)
            rows[rows_len++] = ',';
        memcpy(rows + rows_len, row, (size_t)n);
        rows_len += (size_t)n;
    }
}
