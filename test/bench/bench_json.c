/*
 * How fast the JSON reader is: MB/s (10^6 bytes) on an array of MCP messages of about 4 MiB, made
 * here, always the same.
 *
 *     bench_json [ROUNDS [FILE]]     prints a row for each document; with FILE, that document alone
 *     bench_json --dump              prints the first document
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "json/reader.h"
#include "json/writer.h"

enum { ROUNDS = 40, ROUNDS_MAX = 10000 };
#define DOCUMENT_SIZE MIB(4)

/* xorshift64*: the same documents in each run. */
static uint32_t draw(uint64_t *state, uint32_t bound) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * UINT64_C(0x2545f4914f6cdd1d)) >> 32) % bound;
}

static const char *const words[] = {
    "the",     "quarterly",  "report",         "for",     "Zürich",     "was",
    "moved",   "to",         "/srv/data/2026", "and",     "reviewed",   "by",
    "Søren",   "please",     "check",          "whether", "totals",     "match",
    "invoice", "€ 1.234,56", "日本語",         "summary", "of",         "open",
    "issues",  "in",         "repository",     "main",    "branch",     "pending",
    "🙂",    "timeout",    "after",          "retry",   "connection", "closed",
};

static void append_text(struct buf *out, uint64_t *state, uint32_t n_words, bool lines) {
    for (uint32_t i = 0; i < n_words; i++) {
        if (i > 0)
            buf_append_byte(out, lines && draw(state, 12) == 0 ? '\n' : ' ');
        if (draw(state, 40) == 0)
            buf_append_cstr(out, "\"quoted\"");
        else
            buf_append_cstr(out, words[draw(state, ARRAY_LEN(words))]);
    }
}

static void write_text(struct json_writer *writer, uint64_t *state, uint32_t n_words, bool lines) {
    struct buf text = BUF_INIT(KIB(64));
    append_text(&text, state, n_words, lines);
    json_string(writer, buf_slice(&text));
    buf_deinit(&text);
}

static void write_query(struct json_writer *writer, uint64_t *state) {
    json_kv_u64(writer, SLICE("limit"), 10 + draw(state, 90));
    json_kv_bool(writer, SLICE("includeArchived"), draw(state, 2) != 0);
    json_key(writer, SLICE("filter"));
    json_object_begin(writer);
    json_kv_string(writer, SLICE("state"), SLICE("open"));
    json_kv_string(writer, SLICE("since"), SLICE("2026-03-14T09:26:53Z"));
    json_key(writer, SLICE("labels"));
    json_array_begin(writer);
    for (uint32_t i = draw(state, 4); i > 0; i--)
        json_string(writer, slice_from_cstr(words[draw(state, ARRAY_LEN(words))]));
    json_array_end(writer);
    json_kv_raw(writer, SLICE("score"), SLICE("0.8125"));
    json_kv_raw(writer, SLICE("cursor"), SLICE("null"));
    json_object_end(writer);
    json_key(writer, SLICE("query"));
    write_text(writer, state, 3 + draw(state, 6), false);
}

static void write_points(struct json_writer *writer, uint64_t *state) {
    json_key(writer, SLICE("points"));
    json_array_begin(writer);
    for (uint32_t i = 4 + draw(state, 12); i > 0; i--) {
        json_object_begin(writer);
        json_kv_i64(writer, SLICE("x"), (int64_t)draw(state, 20000) - 10000);
        json_kv_raw(writer, SLICE("y"), draw(state, 2) ? SLICE("-12.75") : SLICE("3.1415926e-2"));
        json_kv_string(writer, SLICE("id"), SLICE("a81bc81b-dead-4e5d-abff-90865d1e13b1"));
        json_object_end(writer);
    }
    json_array_end(writer);
}

static void write_file(struct json_writer *writer, uint64_t *state) {
    json_kv_string(writer, SLICE("path"), SLICE("/home/user/project/src/main/index.ts"));
    json_kv_string(writer, SLICE("encoding"), SLICE("utf-8"));
    json_key(writer, SLICE("content"));
    write_text(writer, state, 20 + draw(state, 120), true);
}

static void write_message(struct json_writer *writer, uint64_t *state, uint64_t id) {
    static const char *const names[] = {"github__search_issues", "charts__plot",
                                        "filesystem__write_file"};
    uint32_t kind = draw(state, 3);
    json_object_begin(writer);
    json_kv_string(writer, SLICE("jsonrpc"), SLICE("2.0"));
    json_kv_u64(writer, SLICE("id"), id);
    json_kv_string(writer, SLICE("method"), SLICE("tools/call"));
    json_key(writer, SLICE("params"));
    json_object_begin(writer);
    json_kv_string(writer, SLICE("name"), slice_from_cstr(names[kind]));
    json_key(writer, SLICE("arguments"));
    json_object_begin(writer);
    if (kind == 0)
        write_query(writer, state);
    else if (kind == 1)
        write_points(writer, state);
    else
        write_file(writer, state);
    json_object_end(writer);
    json_key(writer, SLICE("_meta"));
    json_object_begin(writer);
    json_kv_u64(writer, SLICE("progressToken"), id * 7);
    json_object_end(writer);
    json_object_end(writer);
    json_object_end(writer);
}

static void make_messages(struct buf *out) {
    uint64_t state = 42;
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_array_begin(&writer);
    for (uint64_t id = 1; buf_len(out) < DOCUMENT_SIZE; id++)
        write_message(&writer, &state, id);
    json_array_end(&writer);
}

/* What no message looks like: one object after the other with as many keys as there may be. */
static void make_many_keys(struct buf *out) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_array_begin(&writer);
    while (buf_len(out) < DOCUMENT_SIZE) {
        json_object_begin(&writer);
        for (uint32_t i = 0; i < LIMIT_JSON_KEYS; i++) {
            struct buf key = BUF_INIT(KIB(1));
            buf_append_u64(&key, i);
            json_kv_u64(&writer, buf_slice(&key), 0);
            buf_deinit(&key);
        }
        json_object_end(&writer);
    }
    json_array_end(&writer);
}

static void repeat(struct buf *out, struct slice unit) {
    buf_append_byte(out, '[');
    while (buf_len(out) + unit.len < DOCUMENT_SIZE) {
        if (buf_len(out) > 1)
            buf_append_byte(out, ',');
        buf_append(out, unit);
    }
    buf_append_byte(out, ']');
}

static void make_zeros(struct buf *out) {
    repeat(out, SLICE("0"));
}

static void make_escapes(struct buf *out) {
    repeat(out, SLICE("\"\\n\\t\\\"\\u00e9\\ud83d\\ude42\\n\\\\\""));
}

static void make_japanese(struct buf *out) {
    repeat(out, SLICE("\"日本語のテキストは三バイトずつ\""));
}

static void make_escaped_keys(struct buf *out) {
    repeat(out, SLICE("{\"\\u0061\":0,\"\\u0062\":0,\"\\u0063\":0,\"\\u0064\":0,\"\\u0065\":0}"));
}

static void make_nested(struct buf *out) {
    repeat(out, SLICE("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"));
}

static int compare(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static int measure(const char *name, struct slice document, const struct json_want *want,
                   size_t rounds) {
    static const struct json_limits limits = {.max_nodes = 10000000};
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    uint64_t times[ROUNDS_MAX];
    struct json_error error;
    int r = json_reader_new(&reader);
    for (size_t i = 0; i < rounds && r == 0; i++) {
        uint64_t start = clock_monotonic_ns();
        r = json_read(reader, document, want, &limits, &error);
        times[i] = clock_monotonic_ns() - start;
    }
    if (r != 0) {
        printf("%-28s refused: %s at %zu\n", name, r > 0 ? error.reason : "no memory",
               r > 0 ? error.offset : 0);
        return r;
    }
    qsort(times, rounds, sizeof times[0], compare);
    double bytes = (double)document.len * 1000.0;
    size_t middle = rounds / 2;
    printf("%-28s %8.2f MB   best %6.0f MB/s   median %6.0f MB/s\n", name,
           (double)document.len / 1e6, bytes / (double)times[0], bytes / (double)times[middle]);
    return 0;
}

static const struct json_want want_arguments[] = {
    {"arguments", NULL}, {"_meta", NULL}, {NULL, NULL}};
static const struct json_want want_params[] = {{"params", want_arguments}, {NULL, NULL}};
static const struct json_want want_messages[] = {{"*", want_params}, {NULL, NULL}};
static const struct json_want envelopes = {NULL, want_messages};

static int measure_file(const char *path, size_t rounds) {
    struct buf document = BUF_INIT(MIB(64));
    FILE *file = fopen(path, "rb");
    size_t n = 1;
    while (file != NULL && n > 0) {
        char *room = buf_reserve(&document, KIB(64));
        n = room != NULL ? fread(room, 1, KIB(64), file) : 0;
        buf_commit(&document, n);
    }
    if (file != NULL)
        (void)fclose(file);
    int r = measure(path, buf_slice(&document), NULL, rounds);
    buf_deinit(&document);
    return r;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*make)(struct buf *out);
        const struct json_want *want;
    } rows[] = {
        {"messages", make_messages, NULL},
        {"messages, params on the tape", make_messages, &envelopes},
        {"10,000 keys an object", make_many_keys, NULL},
        {"zeros on the tape", make_zeros, &json_want_root},
        {"escapes", make_escapes, NULL},
        {"three-byte text", make_japanese, NULL},
        {"escaped keys", make_escaped_keys, NULL},
        {"nested arrays", make_nested, NULL},
    };
    bool dump = argc > 1 && strcmp(argv[1], "--dump") == 0;
    size_t rounds = argc > 1 && !dump ? strtoul(argv[1], NULL, 10) : ROUNDS;
    if (rounds == 0 || rounds > ROUNDS_MAX)
        return 2;
    if (argc > 2)
        return measure_file(argv[2], rounds) == 0 ? 0 : 1;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf document = BUF_INIT(2 * DOCUMENT_SIZE);
        rows[i].make(&document);
        if (dump) {
            fwrite(buf_slice(&document).ptr, 1, buf_len(&document), stdout);
            buf_deinit(&document);
            return 0;
        }
        int r = measure(rows[i].name, buf_slice(&document), rows[i].want, rounds);
        buf_deinit(&document);
        if (r != 0)
            return 1;
    }
    return 0;
}
