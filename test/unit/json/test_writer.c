/* The JSON writer, and that the reader takes what it writes for what was meant. */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/utf8.h"
#include "json/reader.h"
#include "json/writer.h"
#include "test.h"

static void write_all_kinds(struct json_writer *writer) {
    json_object_begin(writer);
    json_kv_string(writer, SLICE("text"), SLICE("a\"b"));
    json_kv_u64(writer, SLICE("u"), UINT64_MAX);
    json_kv_i64(writer, SLICE("i"), INT64_MIN);
    json_kv_bool(writer, SLICE("yes"), true);
    json_kv_bool(writer, SLICE("no"), false);
    json_kv_raw(writer, SLICE("raw"), SLICE("[1.50, {}]"));
    json_key(writer, SLICE("k\ney"));
    json_array_begin(writer);
    json_null(writer);
    json_i64(writer, 0);
    json_array_begin(writer);
    json_array_end(writer);
    json_object_begin(writer);
    json_object_end(writer);
    json_object_begin(writer);
    json_key(writer, SLICE(""));
    json_u64(writer, 7);
    json_object_end(writer);
    json_bool(writer, false);
    json_array_end(writer);
    json_object_end(writer);
}

static const char all_kinds[] = "{\"text\":\"a\\\"b\",\"u\":18446744073709551615,\"i\":-"
                                "9223372036854775808,\"yes\":true,\"no\":false,"
                                "\"raw\":[1.50, {}],\"k\\ney\":[null,0,[],{},{\"\":7},false]}";

static void test_all_kinds(void) {
    struct buf out = BUF_INIT(4096);
    struct json_writer writer;
    json_writer_init(&writer, &out);
    write_all_kinds(&writer);
    CHECK_INT(buf_error(&out), 0);
    CHECK_STR(buf_slice(&out), all_kinds);
    CHECK_INT(writer.depth, 0);
    buf_deinit(&out);
}

/* Deeper than there are bits for the kinds of containers. */
static void test_deep(void) {
    struct buf out = BUF_INIT(4096), expected = BUF_INIT(4096);
    struct json_writer writer;
    json_writer_init(&writer, &out);
    for (int i = 0; i < 100; i++) {
        json_object_begin(&writer);
        json_key(&writer, SLICE("a"));
        json_array_begin(&writer);
        json_i64(&writer, i % 10);
        buf_append_cstr(&expected, "{\"a\":[");
        buf_append_u64(&expected, (uint64_t)i % 10);
        buf_append_byte(&expected, ',');
    }
    json_null(&writer);
    buf_append_cstr(&expected, "null");
    for (int i = 0; i < 100; i++) {
        json_array_end(&writer);
        json_object_end(&writer);
        buf_append_cstr(&expected, "]}");
    }
    CHECK_SLICE(buf_slice(&out), buf_slice(&expected));
    buf_deinit(&out);
    buf_deinit(&expected);
}

static void test_escapes(void) {
    static const struct {
        struct slice text, escaped;
    } rows[] = {
        {SLICE_INIT(""), SLICE_INIT("")},
        {SLICE_INIT("plain / text'"), SLICE_INIT("plain / text'")},
        {SLICE_INIT("\"\\"), SLICE_INIT("\\\"\\\\")},
        {SLICE_INIT("\b\f\n\r\t"), SLICE_INIT("\\b\\f\\n\\r\\t")},
        {SLICE_INIT("\0\x01\x1f\x7f"), SLICE_INIT("\\u0000\\u0001\\u001f\x7f")},
        {SLICE_INIT("\xc3\xa9\xe6\x97\xa5\xf0\x9f\x99\x82"),
         SLICE_INIT("\xc3\xa9\xe6\x97\xa5\xf0\x9f\x99\x82")},
        {SLICE_INIT("a\xff"
                    "b"),
         SLICE_INIT("a\xef\xbf\xbd"
                    "b")},
        {SLICE_INIT("\xc3"), SLICE_INIT("\xef\xbf\xbd")},
        {SLICE_INIT("\xc0\xa2"), SLICE_INIT("\xef\xbf\xbd\xef\xbf\xbd")},
        {SLICE_INIT("\xed\xa0\x80"), SLICE_INIT("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")},
        {SLICE_INIT("\xc3\xa9\xff\xc3\xa9"), SLICE_INIT("\xc3\xa9\xef\xbf\xbd\xc3\xa9")},
        {SLICE_INIT("\xc3\xa9\n\xe6\x97"), SLICE_INIT("\xc3\xa9\\n\xef\xbf\xbd\xef\xbf\xbd")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t pad = 0; pad < 36; pad++) {
            struct buf text = BUF_INIT(256), out = BUF_INIT(256);
            for (size_t n = 0; n < pad; n++)
                buf_append_byte(&text, 'p');
            buf_append(&text, rows[i].text);
            CLEANUP(mem_freep) char *exact = mem_alloc(buf_len(&text));
            REQUIRE(exact != NULL);
            if (buf_len(&text) > 0)
                memcpy(exact, buf_slice(&text).ptr, buf_len(&text));
            CHECK_INT(json_escape(&out, slice_make(exact, buf_len(&text))), 0);
            CHECK_SLICE(slice_from(buf_slice(&out), pad), rows[i].escaped);
            buf_deinit(&text);
            buf_deinit(&out);
        }
    }
    struct buf out = BUF_INIT(16);
    CHECK_INT(json_escape(&out, (struct slice){.ptr = NULL, .len = 0}), 0);
    CHECK_INT(buf_len(&out), 0);
    buf_deinit(&out);
}

static uint32_t draw(uint64_t *state, uint32_t bound) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33) % bound;
}

/* Characters of all kinds, and (when `garbage`) bytes of any kind. */
static void append_random_text(struct buf *out, uint64_t *state, bool garbage) {
    static const uint32_t bounds[] = {0x20, 0x80, 0x800, 0xd800, 0x10000, 0x110000};
    for (uint32_t n = draw(state, 60); n > 0; n--) {
        char bytes[4];
        if (garbage && draw(state, 4) == 0) {
            buf_append_byte(out, (char)draw(state, 256));
            continue;
        }
        uint32_t code_point = draw(state, bounds[draw(state, ARRAY_LEN(bounds))]);
        if (code_point >= 0xd800 && code_point < 0xe000)
            code_point = '\\';
        buf_append(out, slice_make(bytes, utf8_encode(code_point, bytes)));
    }
}

/* unescape(escape(text)) == text, through the reader. */
static void test_text_survives(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    uint64_t state = 1;
    REQUIRE(json_reader_new(&reader) == 0);
    for (int round = 0; round < 20000; round++) {
        struct buf text = BUF_INIT(1024), document = BUF_INIT(8192), back = BUF_INIT(8192);
        struct json_writer writer;
        append_random_text(&text, &state, round % 2 != 0);
        bool valid = utf8_is_valid(buf_slice(&text));
        json_writer_init(&writer, &document);
        json_string(&writer, buf_slice(&text));
        CHECK_INT(json_read(reader, buf_slice(&document), NULL, NULL, NULL), 0);
        REQUIRE(json_root(reader) != NULL);
        CHECK_INT(json_string_append(&back, json_root(reader)), 0);
        CHECK(utf8_is_valid(buf_slice(&back)));
        CHECK(valid == slice_eq(buf_slice(&back), buf_slice(&text)));
        CHECK(json_string_is(json_root(reader), buf_slice(&text)) == valid);
        buf_deinit(&text);
        buf_deinit(&document);
        buf_deinit(&back);
    }
}

/* Random documents: what the writer makes, the reader accepts, and holds the same values. */
static size_t write_random(struct json_writer *writer, uint64_t *state, unsigned depth) {
    struct buf text = BUF_INIT(1024);
    uint32_t kind = draw(state, depth < 6 ? 8 : 6);
    size_t count = 1;
    if (kind < 3) {
        append_random_text(&text, state, true);
        json_string(writer, buf_slice(&text));
    } else if (kind == 3) {
        json_i64(writer, (int64_t)(*state));
    } else if (kind == 4) {
        json_u64(writer, *state);
    } else if (kind == 5) {
        json_null(writer);
    } else {
        (kind == 6 ? json_array_begin : json_object_begin)(writer);
        for (uint32_t i = 0, n = draw(state, 24); i < n; i++) {
            if (kind == 7) {
                buf_reset(&text, 1024);
                append_random_text(&text, state, false);
                buf_append_u64(&text, i);
                buf_append_byte(&text, '#');
                json_key(writer, buf_slice(&text));
            }
            count += write_random(writer, state, depth + 1);
        }
        (kind == 6 ? json_array_end : json_object_end)(writer);
    }
    buf_deinit(&text);
    return count;
}

static void test_reader_accepts_what_is_written(void) {
    static const struct json_want everything[2] = {{"*", everything}, {NULL, NULL}};
    static const struct json_want want_all = {NULL, everything};
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    uint64_t state = 2;
    REQUIRE(json_reader_new(&reader) == 0);
    for (int round = 0; round < 300; round++) {
        struct buf document = BUF_INIT(4 * 1024 * 1024);
        struct json_writer writer;
        json_writer_init(&writer, &document);
        json_array_begin(&writer);
        size_t count = 1 + write_random(&writer, &state, 1);
        json_array_end(&writer);
        CHECK_INT(buf_error(&document), 0);
        CHECK_INT(json_read(reader, buf_slice(&document), &want_all, NULL, NULL), 0);
        REQUIRE(json_root(reader) != NULL);
        CHECK_INT(json_root(reader)->next, count);
        buf_deinit(&document);
    }
}

static void test_full_buffer(void) {
    for (size_t max = 0; max <= sizeof all_kinds; max++) {
        struct buf out = BUF_INIT(max);
        struct json_writer writer;
        json_writer_init(&writer, &out);
        write_all_kinds(&writer);
        CHECK_INT(buf_error(&out), max < sizeof all_kinds - 1 ? -E2BIG : 0);
        CHECK_INT(writer.depth, 0);
        buf_deinit(&out);
    }
    struct buf out = BUF_INIT(5);
    CHECK_INT(json_escape(&out, SLICE("\x01")), -E2BIG);
    CHECK_INT(json_escape(&out, SLICE("a")), -E2BIG);
    buf_deinit(&out);
}

static void write_without_memory(void *arg) {
    (void)arg;
    struct buf out = BUF_INIT(4096);
    struct json_writer writer;
    json_writer_init(&writer, &out);
    write_all_kinds(&writer);
    write_all_kinds(&(struct json_writer){.out = &out});
    CHECK(buf_error(&out) == -ENOMEM || buf_error(&out) == 0);
    buf_deinit(&out);
}

static void test_without_memory(void) {
    test_torture(write_without_memory, NULL);
}

/* --- what is nested wrongly ends the process --- */

static void end_without_begin(struct json_writer *writer) {
    json_object_end(writer);
}

static void value_without_key(struct json_writer *writer) {
    json_object_begin(writer);
    json_null(writer);
}

static void key_in_array(struct json_writer *writer) {
    json_array_begin(writer);
    json_key(writer, SLICE("a"));
}

static void key_outside(struct json_writer *writer) {
    json_key(writer, SLICE("a"));
}

static void two_keys(struct json_writer *writer) {
    json_object_begin(writer);
    json_key(writer, SLICE("a"));
    json_key(writer, SLICE("b"));
}

static void key_without_value(struct json_writer *writer) {
    json_object_begin(writer);
    json_key(writer, SLICE("a"));
    json_object_end(writer);
}

static void array_closed_as_object(struct json_writer *writer) {
    json_array_begin(writer);
    json_object_end(writer);
}

static void object_closed_as_array(struct json_writer *writer) {
    json_object_begin(writer);
    json_array_end(writer);
}

static void two_roots(struct json_writer *writer) {
    json_null(writer);
    json_null(writer);
}

static void nothing_wrong(struct json_writer *writer) {
    json_null(writer);
}

static void test_wrong_nesting(void) {
    static const struct {
        const char *name;
        void (*run)(struct json_writer *writer);
        int signal;
    } rows[] = {
        {"end without begin", end_without_begin, SIGABRT},
        {"value without key", value_without_key, SIGABRT},
        {"key in array", key_in_array, SIGABRT},
        {"key outside", key_outside, SIGABRT},
        {"two keys", two_keys, SIGABRT},
        {"key without value", key_without_value, SIGABRT},
        {"array closed as object", array_closed_as_object, SIGABRT},
        {"object closed as array", object_closed_as_array, SIGABRT},
        {"two roots", two_roots, SIGABRT},
        {"nothing wrong", nothing_wrong, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            static const struct rlimit no_core = {0, 0};
            struct buf out = BUF_INIT(256);
            struct json_writer writer;
            if (setrlimit(RLIMIT_CORE, &no_core) != 0 || freopen("/dev/null", "w", stderr) == NULL)
                _exit(1);
            json_writer_init(&writer, &out);
            rows[i].run(&writer);
            _exit(0);
        }
        int status = -1;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK_INT(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), rows[i].signal);
    }
}

TEST_MAIN(TEST(test_all_kinds), TEST(test_deep), TEST(test_escapes), TEST(test_text_survives),
          TEST(test_reader_accepts_what_is_written), TEST(test_full_buffer),
          TEST(test_without_memory), TEST(test_wrong_nesting))
