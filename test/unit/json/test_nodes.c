/* What the JSON reader puts on the tape, and walking it. */
#include <errno.h>

#include "base/buf.h"
#include "json/reader.h"
#include "test.h"

static struct json_reader *new_reader(void) {
    struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0)
        CANNOT_GO_ON();
    return reader;
}

/* The tape as text: [..] and {..} for opened containers, <...> for spans that were left closed. */
static void dump(struct buf *out, const struct json_reader *reader, const struct json_node *node) {
    if (!node->opened) {
        buf_printf(out, "<%.*s>", SLICE_ARGS(node->raw));
        return;
    }
    buf_append_byte(out, node->type == JSON_OBJECT ? '{' : '[');
    for (const struct json_node *child = json_first(reader, node); child != NULL;
         child = json_next(reader, child)) {
        if (child != json_first(reader, node))
            buf_append_byte(out, ' ');
        if (node->type == JSON_OBJECT)
            buf_printf(out, "%.*s:", SLICE_ARGS(child->key));
        dump(out, reader, child);
    }
    buf_append_byte(out, node->type == JSON_OBJECT ? '}' : ']');
}

static const struct json_want everything[2] = {{"*", everything}, {NULL, NULL}};
static const struct json_want want_all = {NULL, everything};

static const struct json_want want_name[] = {{"name", NULL}, {NULL, NULL}};
static const struct json_want want_params[] = {
    {"params", want_name}, {"_meta", NULL}, {NULL, NULL}};
static const struct json_want want_envelope = {NULL, want_params};

static const struct json_want want_tool[] = {{"*", want_name}, {NULL, NULL}};
static const struct json_want want_tools[] = {{"tools", want_tool}, {NULL, NULL}};
static const struct json_want want_list = {NULL, want_tools};

static const struct json_want want_first_row[] = {
    {"a", NULL}, {"*", want_name}, {"b", NULL}, {NULL, NULL}};
static const struct json_want want_first = {NULL, want_first_row};

static const struct json_want want_nothing_inside[] = {{NULL, NULL}};
static const struct json_want want_empty_table = {NULL, want_nothing_inside};

static void test_opening(void) {
    static const struct {
        const char *name;
        const struct json_want *want;
        struct slice text;
        const char *expected;
    } rows[] = {
        {"nothing", NULL, SLICE_INIT(" {\"a\":[1]} "), "<{\"a\":[1]}>"},
        {"nothing of a number", NULL, SLICE_INIT(" 12 "), "<12>"},
        {"root", &json_want_root, SLICE_INIT("{\"a\":[1], \"b\" : {\"c\":2} ,\"d\":3}"),
         "{a:<[1]> b:<{\"c\":2}> d:<3>}"},
        {"root array", &json_want_root, SLICE_INIT("[1,[2,3],{\"a\":4}]"),
         "[<1> <[2,3]> <{\"a\":4}>]"},
        {"root leaf", &json_want_root, SLICE_INIT(" \"x\" "), "<\"x\">"},
        {"root empty object", &json_want_root, SLICE_INIT("{ }"), "{}"},
        {"root empty array", &json_want_root, SLICE_INIT("[ ]"), "[]"},
        {"empty table", &want_empty_table, SLICE_INIT("{\"a\":[1]}"), "{a:<[1]>}"},
        {"all", &want_all, SLICE_INIT("{\"a\":[1,[2],{}],\"b\":{\"c\":[]}}"),
         "{a:[<1> [<2>] {}] b:{c:[]}}"},
        {"named", &want_envelope,
         SLICE_INIT("{\"id\":[1],\"params\":{\"name\":{\"x\":[1]},\"arguments\":{\"y\":1}},\"_"
                    "meta\":{\"z\":{}}}"),
         "{id:<[1]> params:{name:{x:<[1]>} arguments:<{\"y\":1}>} _meta:{z:<{}>}}"},
        {"named key escaped", &want_envelope, SLICE_INIT("{\"p\\u0061rams\":{\"a\":1}}"),
         "{p\\u0061rams:{a:<1>}}"},
        {"named prefix", &want_envelope,
         SLICE_INIT("{\"param\":{\"a\":1},\"paramss\":{\"a\":1},\"Params\":[]}"),
         "{param:<{\"a\":1}> paramss:<{\"a\":1}> Params:<[]>}"},
        {"named but a leaf", &want_envelope, SLICE_INIT("{\"params\":\"x\"}"), "{params:<\"x\">}"},
        {"named but an array", &want_envelope, SLICE_INIT("{\"params\":[{\"name\":1}]}"),
         "{params:[<{\"name\":1}>]}"},
        {"names say nothing in arrays", &want_envelope, SLICE_INIT("[{\"params\":1},[2]]"),
         "[<{\"params\":1}> <[2]>]"},
        {"same name deeper", &want_envelope, SLICE_INIT("{\"x\":{\"params\":{\"a\":1}}}"),
         "{x:<{\"params\":{\"a\":1}}>}"},
        {"elements", &want_list,
         SLICE_INIT("{\"tools\":[{\"name\":[1],\"d\":[2]},{\"e\":{}},3],\"n\":[4]}"),
         "{tools:[{name:[<1>] d:<[2]>} {e:<{}>} <3>] n:<[4]>}"},
        {"star and object", &want_list,
         SLICE_INIT("{\"tools\":{\"x\":{\"name\":[1]},\"y\":{\"z\":[]}}}"),
         "{tools:{x:{name:[<1>]} y:{z:<[]>}}}"},
        {"first row counts", &want_first,
         SLICE_INIT("{\"a\":{\"name\":[]},\"b\":{\"name\":[]},\"c\":{\"name\":[]}}"),
         "{a:{name:<[]>} b:{name:[]} c:{name:[]}}"},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        struct buf out = BUF_INIT(4096);
        CHECK_INT(json_read(reader, rows[i].text, rows[i].want, NULL, NULL), 0);
        dump(&out, reader, json_root(reader));
        CHECK_STR(buf_slice(&out), rows[i].expected);
        buf_deinit(&out);
    }
}

static void test_links(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    /*                              0  1       2     3       4       5  6       7     8 */
    struct slice text =
        SLICE("{\"a\":[ true , [ null ] , {} ] , \"b\":\"x\\n\", \"\\u0063\":false}");
    CHECK(json_root(reader) == NULL);
    CHECK_INT(json_read(reader, text, &want_all, NULL, NULL), 0);
    const struct json_node *n = json_root(reader);
    static const struct {
        enum json_type type;
        const char *key, *raw;
        uint32_t next, parent;
        bool key_escaped, value_escaped, opened;
    } rows[] = {
        {JSON_OBJECT, "", NULL, 8, 0, false, false, true},
        {JSON_ARRAY, "a", "[ true , [ null ] , {} ]", 6, 0, false, false, true},
        {JSON_TRUE, "", "true", 3, 1, false, false, false},
        {JSON_ARRAY, "", "[ null ]", 5, 1, false, false, true},
        {JSON_NULL, "", "null", 5, 3, false, false, false},
        {JSON_OBJECT, "", "{}", 6, 1, false, false, true},
        {JSON_STRING, "b", "\"x\\n\"", 7, 0, false, true, false},
        {JSON_FALSE, "\\u0063", "false", 8, 0, true, false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CHECK_INT(n[i].type, rows[i].type);
        CHECK_STR(n[i].key, rows[i].key);
        CHECK_SLICE(n[i].raw, rows[i].raw != NULL ? slice_from_cstr(rows[i].raw) : text);
        CHECK_INT(n[i].next, rows[i].next);
        CHECK_INT(n[i].parent, rows[i].parent);
        CHECK_INT(n[i].key_escaped, rows[i].key_escaped);
        CHECK_INT(n[i].value_escaped, rows[i].value_escaped);
        CHECK_INT(n[i].opened, rows[i].opened);
    }
    CHECK(json_next(reader, &n[0]) == NULL);
    CHECK(json_first(reader, &n[0]) == &n[1]);
    CHECK(json_next(reader, &n[1]) == &n[6]);
    CHECK(json_next(reader, &n[6]) == &n[7]);
    CHECK(json_next(reader, &n[7]) == NULL);
    CHECK(json_first(reader, &n[1]) == &n[2]);
    CHECK(json_next(reader, &n[2]) == &n[3]);
    CHECK(json_next(reader, &n[3]) == &n[5]);
    CHECK(json_next(reader, &n[4]) == NULL);
    CHECK(json_next(reader, &n[5]) == NULL);
    CHECK(json_first(reader, &n[5]) == NULL);
    CHECK(json_first(reader, &n[2]) == NULL);
    /* Spans lie in the caller's document. */
    CHECK(n[0].raw.ptr == text.ptr && n[2].raw.ptr == text.ptr + 7);

    /* An element has no key, whatever key stands in front of its array. */
    REQUIRE(json_read(reader, SLICE("{\"\\u0061\":[1]}"), &want_all, NULL, NULL) == 0);
    n = json_root(reader);
    CHECK(n[1].key_escaped && !n[2].key_escaped);
    CHECK(slice_is_empty(n[2].key));
}

static void test_members(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    REQUIRE(json_read(reader, SLICE("{\"a\":1,\"\\u0062\":\"x\",\"c\\u0000d\":[],\"\":{\"a\":2}}"),
                      &json_want_root, NULL, NULL) == 0);
    const struct json_node *root = json_root(reader);
    const struct json_node *b = json_member(reader, root, SLICE("b"));
    REQUIRE(b != NULL);
    CHECK_STR(b->raw, "\"x\"");
    CHECK(json_key_is(b, SLICE("b")) && !json_key_is(b, SLICE("\\u0062")) &&
          !json_key_is(b, SLICE("bb")) && !json_key_is(b, SLICE_EMPTY));
    CHECK(json_member(reader, root, SLICE("\\u0062")) == NULL);
    CHECK(json_member(reader, root, SLICE("A")) == NULL);
    CHECK(json_member(reader, root, SLICE("c")) == NULL);
    CHECK(json_member(reader, root, SLICE("c\0d")) != NULL);
    CHECK(json_member(reader, root, SLICE("d")) == NULL);
    const struct json_node *empty = json_member(reader, root, SLICE_EMPTY);
    REQUIRE(empty != NULL);
    CHECK_INT(empty->type, JSON_OBJECT);
    CHECK(json_member(reader, empty, SLICE("a")) == NULL); /* not opened */
    CHECK(json_member(reader, b, SLICE("a")) == NULL);     /* no object */
    CHECK(json_member_typed(reader, root, SLICE("b"), JSON_STRING) == b);
    CHECK(json_member_typed(reader, root, SLICE("b"), JSON_NUMBER) == NULL);
    CHECK(json_member_typed(reader, root, SLICE("x"), JSON_STRING) == NULL);

    REQUIRE(json_read(reader, SLICE("[1,2]"), &json_want_root, NULL, NULL) == 0);
    CHECK(json_member(reader, json_root(reader), SLICE_EMPTY) ==
          NULL); /* elements have no key, not an empty one */
}

static void test_refused_document_leaves_no_root(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct json_error error = {.reason = "untouched", .offset = 77};
    CHECK_INT(json_read(reader, SLICE("[1]"), &want_all, NULL, &error), 0);
    CHECK_STR(slice_from_cstr(error.reason), "untouched");
    CHECK_INT(error.offset, 77);
    CHECK(json_root(reader) != NULL);
    CHECK_INT(json_read(reader, SLICE("[1"), &want_all, NULL, &error), JSON_E_SYNTAX);
    CHECK(json_root(reader) == NULL);
    CHECK_INT(json_read(reader, SLICE_EMPTY, &want_all, NULL, NULL), JSON_E_SYNTAX);
    CHECK_INT(json_read(reader, (struct slice){.ptr = NULL, .len = 0}, &want_all, NULL, NULL),
              JSON_E_SYNTAX);
    CHECK(json_root(reader) == NULL);
    CHECK_INT(json_read(reader, SLICE("[2]"), &want_all, NULL, NULL), 0);
    CHECK(json_root(reader) != NULL);
    CHECK(json_reader_free(NULL) == NULL);
    CHECK_INT(json_read(reader, slice_make("", (size_t)0x80000000u), NULL, NULL, NULL),
              JSON_E_LIMIT);
}

static void test_strings(void) {
    static const struct {
        struct slice text;
        struct slice is;
    } rows[] = {
        {SLICE_INIT("\"\""), SLICE_INIT("")},
        {SLICE_INIT("\"abc\""), SLICE_INIT("abc")},
        {SLICE_INIT("\"a\\u0062c\""), SLICE_INIT("abc")},
        {SLICE_INIT("\"\\u0000\""), SLICE_INIT("\0")},
        {SLICE_INIT("\"\\ud83d\\ude42!\""), SLICE_INIT("\xf0\x9f\x99\x82!")},
        {SLICE_INIT("\"\\\\u0061\""), SLICE_INIT("\\u0061")},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].text.ptr);
        struct buf out = BUF_INIT(64), longer = BUF_INIT(64);
        REQUIRE(json_read(reader, rows[i].text, NULL, NULL, NULL) == 0);
        const struct json_node *root = json_root(reader);
        CHECK(json_string_is(root, rows[i].is));
        CHECK_SLICE(json_string_raw(root), slice_sub(rows[i].text, 1, rows[i].text.len - 1));
        buf_append_cstr(&out, "+");
        CHECK_INT(json_string_append(&out, root), 0);
        CHECK_SLICE(slice_from(buf_slice(&out), 1), rows[i].is);
        buf_append(&longer, rows[i].is);
        buf_append_byte(&longer, 'x');
        CHECK(!json_string_is(root, buf_slice(&longer)));
        if (rows[i].is.len > 0)
            CHECK(!json_string_is(root, slice_sub(rows[i].is, 0, rows[i].is.len - 1)));
        if (!slice_eq(json_string_raw(root), rows[i].is))
            CHECK(!json_string_is(root, json_string_raw(root)));
        /* Exactly as much as there is room for, and one byte less. */
        struct buf exact = BUF_INIT(rows[i].is.len);
        CHECK_INT(json_string_append(&exact, root), 0);
        buf_deinit(&exact);
        struct buf small = BUF_INIT(rows[i].is.len - 1);
        if (rows[i].is.len > 0)
            CHECK_INT(json_string_append(&small, root), -E2BIG);
        buf_deinit(&small);
        buf_deinit(&out);
        buf_deinit(&longer);
    }
    struct buf out = BUF_INIT(64);
    REQUIRE(json_read(reader, SLICE("12"), NULL, NULL, NULL) == 0);
    CHECK(!json_string_is(json_root(reader), SLICE("12")));
    CHECK(slice_is_empty(json_string_raw(json_root(reader))));
    CHECK(!json_string_is(json_root(reader), SLICE_EMPTY));
    CHECK_INT(json_string_append(&out, json_root(reader)), 0);
    CHECK_INT(buf_len(&out), 0);
    buf_deinit(&out);
}

/* Text that no reader has seen does no harm. */
static void test_unescape_of_garbage(void) {
    static const struct slice rows[] = {
        SLICE_INIT("abc\\"),          SLICE_INIT("abc\\x"),     SLICE_INIT("\\u12"),
        SLICE_INIT("\\n\\ud800"),     SLICE_INIT("\\ud800\\u"), SLICE_INIT("\\ud800\\u123"),
        SLICE_INIT("\\ud800\\ud800"), SLICE_INIT("\\udc00"),
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(64);
        CLEANUP(mem_freep) char *exact = mem_alloc(rows[i].len);
        REQUIRE(exact != NULL);
        memcpy(exact, rows[i].ptr, rows[i].len);
        buf_append_cstr(&out, "before");
        CHECK_INT(json_unescape(&out, slice_make(exact, rows[i].len)), -EINVAL);
        CHECK_STR(buf_slice(&out), "before");
        buf_deinit(&out);
    }
}

static void test_integers(void) {
    static const struct {
        struct slice text;
        int result;
        int64_t number;
    } rows[] = {
        {SLICE_INIT("0"), 0, 0},
        {SLICE_INIT("-0"), 0, 0},
        {SLICE_INIT("1"), 0, 1},
        {SLICE_INIT("-1"), 0, -1},
        {SLICE_INIT("9007199254740993"), 0, 9007199254740993},
        {SLICE_INIT("9223372036854775807"), 0, INT64_MAX},
        {SLICE_INIT("-9223372036854775807"), 0, -INT64_MAX},
        {SLICE_INIT("-9223372036854775808"), 0, INT64_MIN},
        {SLICE_INIT("9223372036854775808"), -EINVAL, 0},
        {SLICE_INIT("-9223372036854775809"), -EINVAL, 0},
        {SLICE_INIT("18446744073709551616"), -EINVAL, 0},
        {SLICE_INIT("99999999999999999999999999"), -EINVAL, 0},
        {SLICE_INIT("1.0"), -EINVAL, 0},
        {SLICE_INIT("1e2"), -EINVAL, 0},
        {SLICE_INIT("\"1\""), -EINVAL, 0},
        {SLICE_INIT("null"), -EINVAL, 0},
        {SLICE_INIT("[1]"), -EINVAL, 0},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t number = 4711;
        test_row(rows[i].text.ptr);
        REQUIRE(json_read(reader, rows[i].text, NULL, NULL, NULL) == 0);
        CHECK_INT(json_to_i64(json_root(reader), &number), rows[i].result);
        CHECK_INT(number, rows[i].result == 0 ? rows[i].number : 4711);
    }
}

TEST_MAIN(TEST(test_opening), TEST(test_links), TEST(test_members),
          TEST(test_refused_document_leaves_no_root), TEST(test_strings),
          TEST(test_unescape_of_garbage), TEST(test_integers))
