/* TOML: what the scan refuses, positions, the order of the tree, limits. */
#include <errno.h>

#include "base/buf.h"
#include "base/limits.h"
#include "test.h"
#include "toml.h"

struct parsed {
    int result;
    struct arena arena;
    struct toml_node *root;
    struct toml_error error;
};

static struct parsed parse(struct slice text) {
    struct parsed p = {.arena = ARENA_INIT(LIMIT_CONFIG_MEMORY)};
    /* A block of its own, so that reads past the end show. */
    char *copy = mem_alloc(text.len);
    if (copy == NULL)
        return (struct parsed){.result = -ENOMEM};
    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    p.result = toml_parse(&p.arena, slice_make(copy, text.len), &p.root, &p.error);
    mem_free(copy);
    return p;
}

static const struct {
    const char *name;
    struct slice text;
    uint32_t line, column;
    const char *message;
} refused[] = {
    {"bare carriage return", SLICE_INIT("a=1\rb=2"), 1, 4, "a carriage return without"},
    {"carriage return in a comment", SLICE_INIT("# a\rb"), 1, 4, "a carriage return without"},
    {"carriage return in a string", SLICE_INIT("a='''\n\rb'''"), 2, 1, "a carriage return without"},
    {"carriage return at the end", SLICE_INIT("a=1\r"), 1, 4, "a carriage return without"},
    {"NUL", SLICE_INIT("a=1\n\0"), 2, 1, "a control character"},
    {"NUL in a string", SLICE_INIT("a=\"x\0\""), 1, 5, "a control character"},
    {"ESC in a comment", SLICE_INIT("# \x1b[31m"), 1, 3, "a control character"},
    {"DEL in a comment", SLICE_INIT("# \x7f"), 1, 3, "a control character"},
    {"DEL in a literal string", SLICE_INIT("a='\x7f'"), 1, 4, "a control character"},
    {"form feed", SLICE_INIT("a=1\x0c"), 1, 4, "a control character"},
    {"vertical tab", SLICE_INIT("a=1\x0b"), 1, 4, "a control character"},
    {"lone continuation byte", SLICE_INIT("a='\x80'"), 1, 4, "this is not valid UTF-8"},
    {"overlong", SLICE_INIT("# \xc0\x80"), 1, 3, "this is not valid UTF-8"},
    {"surrogate", SLICE_INIT("# \xed\xa0\x80"), 1, 3, "this is not valid UTF-8"},
    {"cut short", SLICE_INIT("# \xe2\x82"), 1, 3, "this is not valid UTF-8"},
    {"UTF-16 mark", SLICE_INIT("\xff\xfe"), 1, 1, "this is not valid UTF-8"},
    {"second mark", SLICE_INIT("\xef\xbb\xbf\xef\xbb\xbf"), 1, 1, NULL},
    {"string to the end of the line", SLICE_INIT("\na = \"x\n\""), 2, 5,
     "this string is not closed on its line"},
    {"literal string to the end of the line", SLICE_INIT("a = 'x\r\n'"), 1, 5,
     "this string is not closed on its line"},
    {"string to the end", SLICE_INIT("a = \"x"), 1, 5, "this string is not closed on its line"},
    {"backslash at the end", SLICE_INIT("a = \"\\"), 1, 5, "this string is not closed on its line"},
    {"multi-line string to the end", SLICE_INIT("a = \"\"\"x\n\"\""), 1, 5,
     "this string is not closed"},
    {"three quotes that are escaped", SLICE_INIT("a = \"\"\"x\\\"\"\""), 1, 5,
     "this string is not closed"},
    {"header without a name", SLICE_INIT("[]"), 1, 1, "the name of this table is missing"},
    {"header with a dot", SLICE_INIT(" [.a]"), 1, 2, "the name of this table is missing"},
    {"header with dots", SLICE_INIT("[[..]]"), 1, 1, "the name of this table is missing"},
    {"open header", SLICE_INIT("a=1\n["), 2, 1, "the name of this table is missing"},
    {"open header with a line end", SLICE_INIT("[\n"), 1, 1, "the name of this table is missing"},
    {"header with a letter that needs marks", SLICE_INIT("[\xc3\xa4]"), 1, 1,
     "the name of this table is missing"},
    {"header of three", SLICE_INIT("[[[a]]]"), 1, 1, "the name of this table is missing"},
    {"dots in a row", SLICE_INIT("[a..b]"), 1, 4, NULL},
    {"redefined", SLICE_INIT("a=1\na=2"), 2, 3, "cannot redefine existing integer 'a'"},
    {"no value", SLICE_INIT("a"), 1, 2, NULL},
    {"two values on a line", SLICE_INIT("a=1 b=2"), 1, 5, NULL},
    {"no-break space",
     SLICE_INIT("a =\xc2\xa0"
                "1"),
     1, 4, NULL},
    {"line separator",
     SLICE_INIT("a = 1\xe2\x80\xa8"
                "b = 2"),
     1, 6, NULL},
    {"line break in an inline table", SLICE_INIT("a = {\nb = 1}"), 1, 6, NULL},
    {"comma at the end of an inline table", SLICE_INIT("a = {b = 1,}"), 1, 12, NULL},
    {"integer too large", SLICE_INIT("a = 9223372036854775808"), 1, 24, NULL},
    {"unknown escape", SLICE_INIT("a = \"\\e\""), 1, 7, NULL},
    {"surrogate as an escape", SLICE_INIT("a = \"\\ud800\""), 1, 12, NULL},
};

static void test_refused(void) {
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        test_row(refused[i].name);
        struct parsed p = parse(refused[i].text);
        CHECK_INT(p.result, TOML_E_SYNTAX);
        CHECK_INT(p.error.at.line, refused[i].line);
        CHECK_INT(p.error.at.column, refused[i].column);
        CHECK(p.error.message[0] != '\0');
        if (refused[i].message != NULL)
            CHECK(slice_starts_with(slice_from_cstr(p.error.message),
                                    slice_from_cstr(refused[i].message)));
        arena_deinit(&p.arena);
    }
}

/* One key `a`, whose value is the string. */
static void test_strings(void) {
    static const struct {
        const char *name;
        struct slice text, value;
    } rows[] = {
        {"basic", SLICE_INIT("a = \"x\""), SLICE_INIT("x")},
        {"empty", SLICE_INIT("a = \"\""), SLICE_INIT("")},
        {"empty and a comment", SLICE_INIT("a = '' # \"\"\" '''"), SLICE_INIT("")},
        {"a mark of bytes",
         SLICE_INIT("\xef\xbb\xbf"
                    "a = \"x\""),
         SLICE_INIT("x")},
        {"line ends of two", SLICE_INIT("a = \"x\"\r\n\r\n"), SLICE_INIT("x")},
        {"escapes", SLICE_INIT("a = \"\\\"\\\\\\u00e4\\n\\u0000\""),
         SLICE_INIT("\"\\\xc3\xa4\n\0")},
        {"literal", SLICE_INIT("a = '\\\"'"), SLICE_INIT("\\\"")},
        {"comment sign inside", SLICE_INIT("a = \"#\""), SLICE_INIT("#")},
        {"brackets inside", SLICE_INIT("a = '[[[{{{{.....'"), SLICE_INIT("[[[{{{{.....")},
        {"multi-line", SLICE_INIT("a = \"\"\"\nx\ny\"\"\""), SLICE_INIT("x\ny")},
        {"marks before the end", SLICE_INIT("a = \"\"\"x\"\"\"\"\""), SLICE_INIT("x\"\"")},
        {"marks in the middle", SLICE_INIT("a = '''x''y'''"), SLICE_INIT("x''y")},
        {"marks at the beginning", SLICE_INIT("a = '''''x'''"), SLICE_INIT("''x")},
        {"line that goes on", SLICE_INIT("a = \"\"\"x\\\n  y\"\"\""), SLICE_INIT("xy")},
        /* U+00A1 to U+0499 at this place is what the tables of toml++ 3.3 have no answer for. */
        {"letter behind the marks", SLICE_INIT("a = \"\"\"\xc3\xa4\"\"\""), SLICE_INIT("\xc3\xa4")},
        {"letter behind three", SLICE_INIT("a = '''\xd2\x90'''"), SLICE_INIT("\xd2\x90")},
        {"letter behind a line that goes on", SLICE_INIT("a = \"\"\"\\\n\xc2\xa7\"\"\""),
         SLICE_INIT("\xc2\xa7")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        struct parsed p = parse(rows[i].text);
        REQUIRE(p.result == 0);
        const struct toml_node *a = toml_get(p.root, "a");
        REQUIRE(a != NULL && a->type == TOML_STRING && p.root->n_children == 1);
        CHECK_SLICE(a->string, rows[i].value);
        arena_deinit(&p.arena);
    }
}

static void check_node(const struct toml_node *node, enum toml_type type, const char *key,
                       uint32_t key_line, uint32_t key_column, uint32_t line, uint32_t column) {
    test_row(key);
    CHECK_INT(node->type, type);
    CHECK_STR(node->key, key);
    CHECK_INT(node->key_at.line, key_line);
    CHECK_INT(node->key_at.column, key_column);
    CHECK_INT(node->at.line, line);
    CHECK_INT(node->at.column, column);
}

static void test_tree(void) {
    struct parsed p = parse(SLICE("z = -5\n"
                                  "b = [1.5, \"\xc3\xa4\xc3\xa4\", {c = true}]\n"
                                  "[t.y]\n"
                                  "\"k \\u0041\" = 1979-05-27\n"
                                  "[t.x]\n"
                                  "[[t.list]]\n"
                                  "[[t.list]]\n"
                                  "w = 07:32:00\n"
                                  "[t]\n"
                                  "v.u = 0x10\n"));
    REQUIRE(p.result == 0);
    const struct toml_node *root = p.root;
    REQUIRE(root->n_children == 3);
    check_node(&root->children[0], TOML_INTEGER, "z", 1, 1, 1, 5);
    CHECK_INT(root->children[0].integer, -5);
    const struct toml_node *b = &root->children[1];
    check_node(b, TOML_ARRAY, "b", 2, 1, 2, 5);
    REQUIRE(b->n_children == 3);
    check_node(&b->children[0], TOML_FLOAT, "", 2, 6, 2, 6);
    CHECK(b->children[0].number == 1.5);
    check_node(&b->children[1], TOML_STRING, "", 2, 11, 2, 11);
    check_node(&b->children[2], TOML_TABLE, "", 2, 17, 2, 17);
    const struct toml_node *c = toml_get(&b->children[2], "c");
    REQUIRE(c != NULL);
    check_node(c, TOML_BOOL, "c", 2, 18, 2, 22);
    CHECK(c->boolean);
    const struct toml_node *t = &root->children[2];
    check_node(t, TOML_TABLE, "t", 3, 2, 9, 1);
    REQUIRE(t->n_children == 4);
    check_node(&t->children[0], TOML_TABLE, "y", 3, 4, 3, 1);
    check_node(&t->children[0].children[0], TOML_TIME, "k A", 4, 1, 4, 14);
    check_node(&t->children[1], TOML_TABLE, "x", 5, 4, 5, 1);
    check_node(&t->children[2], TOML_ARRAY, "list", 6, 5, 6, 1);
    CHECK_INT(t->children[2].n_children, 2);
    check_node(&t->children[2].children[1].children[0], TOML_TIME, "w", 8, 1, 8, 5);
    check_node(&t->children[3], TOML_TABLE, "v", 10, 1, 10, 1);
    CHECK_INT(toml_get(&t->children[3], "u")->integer, 16);
    CHECK(toml_get(t, "none") == NULL);
    CHECK(toml_get(b, "c") == NULL);
    CHECK(toml_get(NULL, "c") == NULL);
    arena_deinit(&p.arena);
}

static void append_times(struct buf *out, const char *text, size_t n) {
    while (n-- > 0)
        buf_append_cstr(out, text);
}

/* At each limit, and one past it. */
static void test_limits(void) {
    static const struct {
        const char *name, *before, *repeated, *after, *closing;
        size_t limit;
    } rows[] = {
        {"lists", "a=", "[", "", "]", LIMIT_TOML_DEPTH},
        {"tables", "a=", "{b=", "1", "}", LIMIT_TOML_DEPTH},
        {"parts of a key", "", "a.", "a=1", "", LIMIT_TOML_KEY_PARTS - 1},
        {"parts of a header", "[", "a.", "a]", "", LIMIT_TOML_KEY_PARTS - 1},
        {"parts with spaces", "", "a . ", "a=1", "", LIMIT_TOML_KEY_PARTS - 1},
        {"parts in marks", "", "'a.'.", "a=1", "", LIMIT_TOML_KEY_PARTS - 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t over = 0; over < 2; over++) {
            test_row(rows[i].name);
            CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(1));
            buf_append_cstr(&text, rows[i].before);
            append_times(&text, rows[i].repeated, rows[i].limit + over);
            buf_append_cstr(&text, rows[i].after);
            append_times(&text, rows[i].closing, rows[i].limit + over);
            struct parsed p = parse(buf_slice(&text));
            CHECK_INT(p.result, over == 0 ? 0 : TOML_E_SYNTAX);
            arena_deinit(&p.arena);
        }
    }
}

/* What would overflow the stack of toml++. */
static void test_depth(void) {
    static const char *const repeated[] = {"a.", "[", "[[", "a={", "[a.", "{a=[", "\"a\" . "};
    for (size_t i = 0; i < ARRAY_LEN(repeated); i++) {
        test_row(repeated[i]);
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(LIMIT_CONFIG_FILE);
        append_times(&text, repeated[i], 500000);
        struct parsed p = parse(buf_slice(&text));
        CHECK_INT(p.result, TOML_E_SYNTAX);
        arena_deinit(&p.arena);
    }
}

/* The deepest that the two limits let through together can be walked and freed. */
static void test_deepest(void) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(1));
    buf_append_cstr(&text, "[");
    append_times(&text, "h.", LIMIT_TOML_KEY_PARTS - 1);
    buf_append_cstr(&text, "h]\n");
    for (size_t i = 0; i < LIMIT_TOML_DEPTH; i++) {
        append_times(&text, "k.", LIMIT_TOML_KEY_PARTS - 1);
        buf_append_cstr(&text, "k={");
    }
    append_times(&text, "k.", LIMIT_TOML_KEY_PARTS - 1);
    buf_append_cstr(&text, "k=1");
    append_times(&text, "}", LIMIT_TOML_DEPTH);
    struct parsed p = parse(buf_slice(&text));
    REQUIRE(p.result == 0);
    size_t depth = 0;
    for (const struct toml_node *n = p.root; n->n_children > 0; n = &n->children[0])
        depth++;
    CHECK_INT(depth, (LIMIT_TOML_DEPTH + 2) * LIMIT_TOML_KEY_PARTS);
    arena_deinit(&p.arena);
}

/* Every beginning of a document is accepted or refused, and nothing else. */
static void test_beginnings(void) {
    static const struct slice text = SLICE_INIT(
        "\xef\xbb\xbf# c\r\n[a.\"b.c\".'d']\nx = \"\"\"\xc3\xa4\\\n \\u00e4\"\"\"\"\"\n"
        "y = [ 1, [ 'z', { w = 1979-05-27T07:32:00Z, v = {} } ], ] # end\n[[e]]\nf.g = +inf\n");
    for (size_t n = 0; n <= text.len; n++) {
        struct parsed p = parse(slice_sub(text, 0, n));
        CHECK(p.result == 0 || p.result == TOML_E_SYNTAX);
        if (n == text.len)
            CHECK_INT(p.result, 0);
        arena_deinit(&p.arena);
    }
}

static void parse_for_torture(void *arg) {
    (void)arg;
    struct parsed p = parse(SLICE("a = [1, \"x\", {b = 'y'}]\n[c.d]\ne = 1\n"));
    CHECK(p.result == 0 || p.result == -ENOMEM);
    arena_deinit(&p.arena);
}

static void test_without_memory(void) {
    test_torture(parse_for_torture, NULL);
}

TEST_MAIN(TEST(test_refused), TEST(test_strings), TEST(test_tree), TEST(test_limits),
          TEST(test_depth), TEST(test_deepest), TEST(test_beginnings), TEST(test_without_memory))
