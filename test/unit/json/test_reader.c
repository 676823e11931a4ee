/* The JSON reader: what it accepts, what it refuses and where, duplicate keys, limits, memory. */
#include <errno.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "cases.h"
#include "json/reader.h"
#include "test.h"

enum { DOCUMENT_MAX = 4 * 1024 * 1024 };

static const struct json_want everything[2] = {{"*", everything}, {NULL, NULL}};
static const struct json_want want_all = {NULL, everything};

/* Reads from a block of exactly the document's size, so that a sanitizer sees any byte read behind
 * it. */
static int read_exact(struct json_reader *reader, struct slice text, const struct json_want *want,
                      const struct json_limits *limits, struct json_error *ret_error) {
    CLEANUP(mem_freep) char *copy = mem_alloc(text.len);
    if (copy == NULL)
        return -ENOMEM;
    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    return json_read(reader, slice_make(copy, text.len), want, limits, ret_error);
}

static void check_read(struct json_reader *reader, struct slice text, int result, size_t offset) {
    struct json_error error = {.reason = NULL, .offset = SIZE_MAX};
    CHECK_INT(read_exact(reader, text, NULL, NULL, &error), result);
    if (result == 0) {
        CHECK(error.reason == NULL);
    } else {
        CHECK(error.reason != NULL && error.reason[0] != '\0');
        CHECK_INT(error.offset, offset);
    }
    /* What is asked for changes nothing about what is accepted. */
    CHECK_INT(read_exact(reader, text, &want_all, NULL, NULL), result);
}

static struct json_reader *new_reader(void) {
    struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0)
        CANNOT_GO_ON();
    return reader;
}

static void test_documents(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(document_cases); i++) {
        const struct document_case *row = &document_cases[i];
        test_row(row->name);
        check_read(reader, row->text, row->result, row->offset);
    }
}

static size_t without_space_behind(struct slice text) {
    while (text.len > 0 && strchr(" \t\r\n", text.ptr[text.len - 1]) != NULL)
        text.len--;
    return text.len;
}

/* A document that is cut short is none, wherever the cut is. */
static void test_prefixes(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(document_cases); i++) {
        const struct document_case *row = &document_cases[i];
        size_t whole = without_space_behind(row->text);
        test_row(row->name);
        for (size_t cut = 0; cut < row->text.len; cut++) {
            int r = read_exact(reader, slice_sub(row->text, 0, cut), &want_all, NULL, NULL);
            if (row->result == 0 && !row->open_ended)
                CHECK((r == 0) == (cut >= whole));
        }
    }
}

/* A value that is accepted alone is accepted inside others, wherever it lies in memory. */
static void test_wrapped(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(document_cases); i++) {
        const struct document_case *row = &document_cases[i];
        test_row(row->name);
        for (int pad = 0; pad < 34 && row->result == 0; pad++) {
            struct buf text = BUF_INIT(4096);
            buf_printf(&text, "{\"%*s\":[", pad, "");
            buf_append(&text, row->text);
            buf_append_cstr(&text, ",");
            buf_append(&text, row->text);
            buf_append_cstr(&text, "],\"x\":");
            buf_append(&text, row->text);
            buf_append_cstr(&text, "}");
            check_read(reader, buf_slice(&text), 0, 0);
            buf_deinit(&text);
        }
    }
}

static void check_content(struct json_reader *reader, const struct content_case *row, size_t before,
                          size_t behind, bool as_key) {
    struct buf text = BUF_INIT(4096), unescaped = BUF_INIT(4096);
    struct json_error error = {.offset = SIZE_MAX};
    buf_append_cstr(&text, as_key ? "{\"" : "\"");
    size_t start = buf_len(&text) + before;
    for (size_t i = 0; i < before; i++)
        buf_append_byte(&text, 'p');
    buf_append(&text, row->text);
    for (size_t i = 0; i < behind; i++)
        buf_append_byte(&text, 's');
    buf_append_cstr(&text, as_key ? "\":0}" : "\"");
    CHECK_INT(read_exact(reader, buf_slice(&text), &want_all, NULL, &error), row->result);
    if (row->result != 0) {
        CHECK_INT(error.offset, start + row->offset);
    } else if (!as_key) {
        REQUIRE(json_read(reader, buf_slice(&text), NULL, NULL, NULL) == 0);
        REQUIRE(json_string_append(&unescaped, json_root(reader)) == 0);
        CHECK(json_string_is(json_root(reader), buf_slice(&unescaped)));
        CHECK_INT(buf_len(&unescaped), before + row->unescaped.len + behind);
        CHECK_SLICE(slice_sub(buf_slice(&unescaped), before, before + row->unescaped.len),
                    row->unescaped);
    }
    buf_deinit(&text);
    buf_deinit(&unescaped);
}

/* Each content at each place within the blocks in which strings are looked through. */
static void test_string_contents(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(content_cases); i++) {
        test_row(content_cases[i].name);
        for (size_t before = 0; before < 36; before++) {
            for (size_t behind = 0; behind < 36; behind += 1 + behind / 4) {
                /* "\u123z" and the like need what is behind them to be no digit: "s" is none. */
                check_content(reader, &content_cases[i], before, behind, false);
                check_content(reader, &content_cases[i], before, behind, true);
            }
        }
    }
}

static void test_every_byte(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (unsigned byte = 0; byte < 256; byte++) {
        for (size_t at = 0; at < 40; at++) {
            char text[42];
            memset(text, 'x', sizeof text);
            text[0] = text[41] = '"';
            text[1 + at] = (char)byte;
            int expected = byte >= 0x80                                 ? JSON_E_UTF8
                           : byte < 0x20 || byte == '"' || byte == '\\' ? JSON_E_SYNTAX
                                                                        : 0;
            size_t offset = 1 + at;
            if (byte == '"')
                offset++;
            if (byte == '\\')
                offset = at == 39 ? sizeof text : offset + 1; /* \" at the end, else \x */
            check_read(reader, slice_make(text, sizeof text), expected, offset);
        }
    }
}

/* All sequences of two bytes, and of three and four with the last ones from the edges, against
 * base/utf8. */
static void test_utf8(void) {
    static const unsigned char edges[] = {0x00, 0x22, 0x7f, 0x80, 0x8f, 0x90,
                                          0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (unsigned first = 0x80; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            for (size_t i = 0; i < ARRAY_LEN(edges); i++) {
                char text[6] = {
                    '"', (char)first, (char)second, (char)edges[i], (char)edges[(i * 7) % 11], '"'};
                bool controls = second < 0x20 || second == '"' || edges[i] < 0x20 ||
                                edges[i] == '"' || (unsigned char)text[4] < 0x20 || text[4] == '"';
                bool valid =
                    !controls && second != '\\' && utf8_is_valid(slice_make(text, sizeof text));
                int r = json_read(reader, slice_make(text, sizeof text), NULL, NULL, NULL);
                CHECK_INT(r == 0, valid);
            }
        }
    }
}

static void test_every_unicode_escape(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (uint32_t unit = 0; unit < 0x10000; unit++) {
        char text[9], expected[4];
        struct buf unescaped = BUF_INIT(4);
        bool half = unit >= 0xd800 && unit <= 0xdfff;
        snprintf(text, sizeof text, unit % 2 ? "\"\\u%04x\"" : "\"\\u%04X\"", unit);
        int r = json_read(reader, slice_make(text, 8), NULL, NULL, NULL);
        CHECK_INT(r, half ? JSON_E_UTF8 : 0);
        if (r == 0) {
            CHECK_INT(json_string_append(&unescaped, json_root(reader)), 0);
            CHECK_SLICE(buf_slice(&unescaped), slice_make(expected, utf8_encode(unit, expected)));
        }
        buf_deinit(&unescaped);
    }
}

/* --- duplicate keys --- */

/* {"k0":0,"k1":1,...}: `n` keys; key number `escaped` begins with \u006b; behind them `extra`. */
static void append_object(struct buf *out, size_t n, size_t escaped, const char *extra) {
    buf_append_byte(out, '{');
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s\"%s%zu\":%zu", i > 0 ? "," : "", i == escaped ? "\\u006b" : "k", i, i);
    buf_append_cstr(out, extra);
    buf_append_byte(out, '}');
}

static void test_duplicates_in_objects_of_all_sizes(void) {
    static const size_t sizes[] = {1,  2,  3,  4,  5,   16,  31,  32,   33,
                                   34, 63, 64, 65, 127, 129, 300, 1000, 5000};
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t n = sizes[i], step = n / 20 + 1;
        struct buf text = BUF_INIT(DOCUMENT_MAX);
        append_object(&text, n, n / 2, "");
        check_read(reader, buf_slice(&text), 0, 0);
        for (size_t twice = 0; twice < n; twice += step) {
            for (int form = 0; form < 4; form++) {
                char extra[64];
                snprintf(extra, sizeof extra, ",\"%s%zu\":0", form % 2 ? "\\u006B" : "k", twice);
                buf_reset(&text, DOCUMENT_MAX);
                append_object(&text, n, form / 2 ? twice : SIZE_MAX, extra);
                check_read(reader, buf_slice(&text), JSON_E_DUPLICATE,
                           buf_len(&text) - strlen(extra));
            }
        }
        buf_deinit(&text);
    }
}

/* Objects inside objects: the keys of the outer ones are still known behind the inner ones, tables
 * included. */
static void test_duplicates_around_inner_objects(void) {
    static const size_t sizes[] = {0, 1, 32, 33, 40, 200};
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t outer = 0; outer < ARRAY_LEN(sizes); outer++) {
        for (size_t inner = 0; inner < ARRAY_LEN(sizes); inner++) {
            for (size_t more = 0; more < ARRAY_LEN(sizes); more++) {
                struct buf text = BUF_INIT(DOCUMENT_MAX);
                buf_append_byte(&text, '{');
                for (size_t i = 0; i < sizes[outer]; i++)
                    buf_printf(&text, "\"k%zu\":[],", i);
                buf_append_cstr(&text, "\"inner\":[");
                append_object(&text, sizes[inner], SIZE_MAX, "");
                buf_append_byte(&text, ',');
                append_object(&text, sizes[inner], SIZE_MAX, "");
                buf_append_cstr(&text, "]");
                for (size_t i = 0; i < sizes[more]; i++)
                    buf_printf(&text, ",\"m%zu\":{\"k0\":0}", i);
                size_t end = buf_len(&text);
                buf_append_byte(&text, '}');
                check_read(reader, buf_slice(&text), 0, 0);
                for (size_t i = 0; i < sizes[outer]; i += 7) {
                    buf_truncate(&text, end);
                    buf_printf(&text, ",\"k%zu\":0}", i);
                    check_read(reader, buf_slice(&text), JSON_E_DUPLICATE, end + 1);
                }
                buf_truncate(&text, end);
                buf_append_cstr(&text, ",\"inner\":0}");
                check_read(reader, buf_slice(&text), JSON_E_DUPLICATE, end + 1);
                buf_deinit(&text);
            }
        }
    }
}

/* Keys of all lengths that differ in one byte, wherever that is; and the same key twice. */
static void test_keys_of_all_lengths(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t len = 0; len <= 70; len++) {
        char key[71], other[71];
        memset(key, 'k', sizeof key);
        for (size_t differs = 0; differs <= len; differs++) {
            memcpy(other, key, sizeof key);
            other[differs] = 'x'; /* at `len`: not part of the key */
            struct buf text = BUF_INIT(512);
            buf_printf(&text, "{\"%.*s\":0,\"%.*s\":0}", (int)len, key, (int)len, other);
            bool same = differs == len;
            check_read(reader, buf_slice(&text), same ? JSON_E_DUPLICATE : 0, len + 6);
            /* A key that is the beginning of the other one. */
            buf_reset(&text, 512);
            buf_printf(&text, "{\"%.*s\":0,\"%.*s\":0}", (int)len, key, (int)differs, key);
            check_read(reader, buf_slice(&text), same ? JSON_E_DUPLICATE : 0, len + 6);
            buf_deinit(&text);
        }
    }
}

/* --- limits and memory --- */

static void append_nested(struct buf *out, size_t depth, bool objects) {
    for (size_t i = 0; i < depth; i++)
        buf_append_cstr(out, objects ? "{\"a\":" : "[");
    buf_append_cstr(out, "1");
    for (size_t i = 0; i < depth; i++)
        buf_append_byte(out, objects ? '}' : ']');
}

static void test_depth(void) {
    static const struct json_limits three = {.max_depth = 3}, many = {.max_depth = 100000};
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct json_error error;
    for (int objects = 0; objects < 2; objects++) {
        struct buf text = BUF_INIT(DOCUMENT_MAX);
        size_t width = objects ? 5 : 1;
        append_nested(&text, LIMIT_JSON_DEPTH, objects);
        check_read(reader, buf_slice(&text), 0, 0);
        buf_reset(&text, DOCUMENT_MAX);
        append_nested(&text, LIMIT_JSON_DEPTH + 1, objects);
        check_read(reader, buf_slice(&text), JSON_E_LIMIT, LIMIT_JSON_DEPTH * width);
        buf_reset(&text, DOCUMENT_MAX);
        append_nested(&text, 3, objects);
        CHECK_INT(read_exact(reader, buf_slice(&text), NULL, &three, NULL), 0);
        buf_reset(&text, DOCUMENT_MAX);
        append_nested(&text, 4, objects);
        CHECK_INT(read_exact(reader, buf_slice(&text), NULL, &three, &error), JSON_E_LIMIT);
        CHECK_INT(error.offset, 3 * width);
        buf_reset(&text, DOCUMENT_MAX);
        append_nested(&text, 100000, objects);
        CHECK_INT(read_exact(reader, buf_slice(&text), &want_all, &many, NULL), 0);
        CHECK_INT(read_exact(reader, buf_slice(&text), NULL, NULL, NULL), JSON_E_LIMIT);
        buf_deinit(&text);
    }
    struct buf text = BUF_INIT(DOCUMENT_MAX);
    for (size_t i = 0; i < DOCUMENT_MAX; i++)
        buf_append_byte(&text, '[');
    check_read(reader, buf_slice(&text), JSON_E_LIMIT, LIMIT_JSON_DEPTH);
    buf_deinit(&text);
}

static void test_number_of_keys(void) {
    static const struct json_limits two = {.max_keys = 2};
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct buf text = BUF_INIT(DOCUMENT_MAX);
    append_object(&text, LIMIT_JSON_KEYS, SIZE_MAX, "");
    check_read(reader, buf_slice(&text), 0, 0);
    buf_reset(&text, DOCUMENT_MAX);
    append_object(&text, LIMIT_JSON_KEYS, SIZE_MAX, ",\"one too many\":0");
    check_read(reader, buf_slice(&text), JSON_E_LIMIT,
               buf_len(&text) - strlen("\"one too many\":0}"));
    buf_deinit(&text);
    /* Of each object, not of the document. */
    CHECK_INT(json_read(reader, SLICE("[{\"a\":{\"b\":0,\"c\":0},\"b\":0},{\"a\":0,\"b\":0}]"),
                        NULL, &two, NULL),
              0);
    CHECK_INT(json_read(reader, SLICE("{\"a\":{\"b\":0,\"c\":0,\"d\":0}}"), NULL, &two, NULL),
              JSON_E_LIMIT);
}

static void test_number_of_nodes(void) {
    static const struct json_limits four = {.max_nodes = 4};
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    CHECK_INT(json_read(reader, SLICE("[1,2,3]"), &json_want_root, &four, NULL), 0);
    CHECK_INT(json_read(reader, SLICE("[1,2,[3,4,5,6]]"), &json_want_root, &four, NULL), 0);
    CHECK_INT(json_read(reader, SLICE("[1,2,3,4]"), &json_want_root, &four, NULL), JSON_E_LIMIT);
    CHECK_INT(json_read(reader, SLICE("[1,2,3,4]"), NULL, &four, NULL), 0);
    struct buf text = BUF_INIT(DOCUMENT_MAX);
    buf_append_byte(&text, '[');
    for (size_t i = 0; i < LIMIT_JSON_TAPE_NODES - 2; i++)
        buf_append_cstr(&text, "0,");
    size_t end = buf_len(&text);
    buf_append_cstr(&text, "0]");
    CHECK_INT(json_read(reader, buf_slice(&text), &json_want_root, NULL, NULL), 0);
    buf_truncate(&text, end);
    buf_append_cstr(&text, "0,0]");
    CHECK_INT(json_read(reader, buf_slice(&text), &json_want_root, NULL, NULL), JSON_E_LIMIT);
    CHECK_INT(json_read(reader, buf_slice(&text), NULL, NULL, NULL), 0);
    buf_deinit(&text);
}

static uint64_t allocations_for(struct json_reader *reader, const struct buf *text,
                                const struct json_want *want) {
    static const struct json_limits generous = {.max_keys = 100000, .max_depth = 100000};
    mem_fail_after(1000000);
    int r = json_read(reader, buf_slice(text), want, &generous, NULL);
    uint64_t count = mem_alloc_count();
    mem_fail_after(0);
    CHECK_INT(r, 0);
    return count;
}

/* A reader at its working size allocates nothing. */
static void test_memory_is_kept(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct buf usual = BUF_INIT(DOCUMENT_MAX);
    append_object(&usual, 1000, 500,
                  ",\"a\":[[[[[[[[[[[[[[[[[[[[{\"\\u0061\":{}}]]]]]]]]]]]]]]]]]]]]");
    CHECK(allocations_for(reader, &usual, &want_all) > 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(allocations_for(reader, &usual, &want_all), 0);
    buf_deinit(&usual);
}

/* Keys and tables of an object that closed make room for those of the next one. */
static void test_memory_of_closed_objects_is_used_again(void) {
    CLEANUP(json_reader_freep) struct json_reader *first = new_reader();
    CLEANUP(json_reader_freep) struct json_reader *second = new_reader();
    struct buf one = BUF_INIT(DOCUMENT_MAX), many = BUF_INIT(DOCUMENT_MAX);
    buf_append_byte(&one, '[');
    append_object(&one, 40, 20, "");
    buf_append(&many, buf_slice(&one));
    for (int i = 0; i < 1000; i++) {
        buf_append_byte(&many, ',');
        append_object(&many, 40, 20, "");
    }
    buf_append_byte(&one, ']');
    buf_append_byte(&many, ']');
    CHECK_INT(allocations_for(first, &many, NULL), allocations_for(second, &one, NULL));
    buf_deinit(&one);
    buf_deinit(&many);
}

/*
 * What an unusual document made grow is given back: the document behind it needs as many
 * allocations as a new reader needs, but for the stack of frames, which has a size of its own.
 */
static void test_memory_is_given_back(void) {
    struct buf usual = BUF_INIT(DOCUMENT_MAX), large = BUF_INIT(DOCUMENT_MAX);
    append_object(&usual, 1000, SIZE_MAX, "");
    append_object(&large, 30000, SIZE_MAX, "");
    for (int opened = 0; opened < 2; opened++) {
        const struct json_want *want = opened ? &want_all : NULL;
        CLEANUP(json_reader_freep) struct json_reader *fresh = new_reader();
        CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
        CHECK(allocations_for(reader, &large, want) > 0);
        uint64_t kept = opened ? 1 : 2; /* a tape that holds the root alone stays small too */
        CHECK_INT(allocations_for(reader, &usual, want),
                  allocations_for(fresh, &usual, want) - kept);
        CHECK_INT(allocations_for(reader, &usual, want), 0);
        CHECK(json_read(reader, slice_sub(buf_slice(&large), 0, buf_len(&large) - 1), want, NULL,
                        NULL) > 0);
        CHECK(allocations_for(reader, &usual, want) > 0); /* after a refusal as well */
    }
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    buf_reset(&large, DOCUMENT_MAX);
    append_nested(&large, 1000, false);
    CHECK(allocations_for(reader, &large, NULL) > 0);
    CHECK(allocations_for(reader, &large, NULL) > 0);
    buf_reset(&large, DOCUMENT_MAX);
    buf_append_cstr(&large, "{\"\\n");
    for (int i = 0; i < 100000; i++)
        buf_append_byte(&large, 'k');
    buf_append_cstr(&large, "\":0}");
    CHECK(allocations_for(reader, &large, NULL) > 0);
    CHECK(allocations_for(reader, &large, NULL) > 0);
    buf_deinit(&usual);
    buf_deinit(&large);
}

static void read_without_memory(void *arg) {
    const struct buf *text = arg;
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct buf out = BUF_INIT(64);
    int r = json_reader_new(&reader);
    if (r != 0) {
        CHECK_INT(r, -ENOMEM);
        CHECK(reader == NULL);
        return;
    }
    for (int i = 0; i < 2; i++) {
        r = json_read(reader, buf_slice(text), &want_all, NULL, NULL);
        CHECK(r == 0 || r == -ENOMEM);
        CHECK((json_root(reader) != NULL) == (r == 0));
        const struct json_node *key =
            r == 0 ? json_member(reader, json_root(reader), SLICE("text")) : NULL;
        CHECK((key != NULL) == (r == 0));
        if (key != NULL)
            CHECK(json_string_append(&out, key) == 0 || buf_error(&out) == -ENOMEM);
    }
    buf_deinit(&out);
}

static void test_without_memory(void) {
    struct buf text = BUF_INIT(DOCUMENT_MAX);
    append_object(
        &text, 300, 150,
        ",\"\\u0074ext\":\"\\u00e9\",\"in\":[[[[[[[[[[[[[[[[[[[[1,{\"a\":{}}]]]]]]]]]]]]]]]]]]]]");
    test_torture(read_without_memory, &text);
    buf_deinit(&text);
}

TEST_MAIN(TEST(test_documents), TEST(test_prefixes), TEST(test_wrapped), TEST(test_string_contents),
          TEST(test_every_byte), TEST(test_utf8), TEST(test_every_unicode_escape),
          TEST(test_duplicates_in_objects_of_all_sizes), TEST(test_duplicates_around_inner_objects),
          TEST(test_keys_of_all_lengths), TEST(test_depth), TEST(test_number_of_keys),
          TEST(test_number_of_nodes), TEST(test_memory_is_kept),
          TEST(test_memory_of_closed_objects_is_used_again), TEST(test_memory_is_given_back),
          TEST(test_without_memory))
