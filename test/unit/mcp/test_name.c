/* Names of items, what clients see of them, and resource templates. */
#include <errno.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "mcp/name.h"
#include "mcp/protocol.h"
#include "test.h"

#define A32 "abcdefghijklmnopqrstuvwxyz012345"

static void test_item_name(void) {
    char text[MCP_ITEM_NAME_MAX + 1];
    memset(text, 'a', sizeof text);
    CHECK(mcp_item_name_is_valid(slice_make(text, MCP_ITEM_NAME_MAX)));
    CHECK(!mcp_item_name_is_valid(slice_make(text, MCP_ITEM_NAME_MAX + 1)));
    CHECK(!mcp_item_name_is_valid(SLICE("")));
    CHECK(mcp_item_name_is_valid(SLICE("two words, \u00e9 and \u2028?")));
    for (int c = 0; c < 0x80; c++) {
        char byte = (char)c;
        CHECK_INT(mcp_item_name_is_valid(slice_make(&byte, 1)), c >= 0x20 && c != 0x7f);
    }
}

#define X16 "xxxxxxxxxxxxxxxx"

/* The names with a hash are pinned: clients write them into their configurations. */
static void test_expose(void) {
    static const struct {
        const char *upstream, *name, *expected;
    } rows[] = {
        {"up", "tool", "up__tool"},
        {"", "tool", "tool"},
        {"a_b", "_c", "a_b___c"},
        {"up", "a.b-c_D9", "up__a.b-c_D9"},
        {"up", X16 X16 X16 "123456789012", "up__" X16 X16 X16 "123456789012"},
        {"", X16 X16 X16 X16, X16 X16 X16 X16},
        {"up", "two words", "up__two_words_edlj7v4k5b"},
        {"up", X16 X16 X16 "1234567890123", "up__" X16 X16 X16 "1_pyuq42ehgq"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(LIMIT_EXPOSED_NAME);
        test_row(rows[i].name);
        CHECK_INT(
            mcp_expose_name(&out, slice_from_cstr(rows[i].upstream), slice_from_cstr(rows[i].name)),
            0);
        CHECK_STR(buf_slice(&out), rows[i].expected);
        if (rows[i].upstream[0] != '\0')
            CHECK_STR(mcp_exposed_upstream(buf_slice(&out)), rows[i].upstream);
    }
}

static bool is_plain(struct slice name) {
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-' || c == '.'))
            return false;
    }
    return name.len > 0 && name.len <= 64;
}

/* Whatever an upstream calls its tools, clients get 1 to 64 plain bytes behind its own prefix. */
static void test_expose_any(void) {
    char text[MCP_ITEM_NAME_MAX];
    for (size_t len = 1; len <= sizeof text; len++) {
        for (size_t i = 0; i < len; i++)
            text[i] = (char)(i * 7 + len);
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(LIMIT_EXPOSED_NAME);
        CHECK_INT(mcp_expose_name(&out, SLICE(A32), slice_make(text, len)), 0);
        CHECK(is_plain(buf_slice(&out)));
        CHECK(slice_starts_with(buf_slice(&out), SLICE(A32 "__")));
        buf_reset(&out, 0);
        CHECK_INT(mcp_expose_name(&out, SLICE_EMPTY, slice_make(text, len)), 0);
        CHECK(is_plain(buf_slice(&out)));
    }
}

/* Names that look alike after the replacement of bytes, or are cut at the same place. */
static void test_expose_apart(void) {
    static const struct slice names[] = {
        SLICE_INIT("a b"),
        SLICE_INIT("a_b"),
        SLICE_INIT("a/b"),
        SLICE_INIT("a\tb"),
        SLICE_INIT("a  b"),
        SLICE_INIT("a\u00e9b"),
        SLICE_INIT("a\u00e8b"),
        SLICE_INIT("A b"),
        SLICE_INIT(X16 X16 X16 X16 "1"),
        SLICE_INIT(X16 X16 X16 X16 "2"),
        SLICE_INIT(X16 X16 X16 X16 X16),
        SLICE_INIT(X16 X16 X16 X16),
        SLICE_INIT("a b\0"),
        SLICE_INIT("a b\0\0"),
    };
    struct buf seen[ARRAY_LEN(names)];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        seen[i] = BUF_INIT(LIMIT_EXPOSED_NAME);
        CHECK_INT(mcp_expose_name(&seen[i], SLICE("up"), names[i]), 0);
        for (size_t k = 0; k < i; k++)
            CHECK(!slice_eq(buf_slice(&seen[i]), buf_slice(&seen[k])));
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        buf_deinit(&seen[i]);
}

/* A buffer without room gets nothing. */
static void test_expose_without_room(void) {
    static const struct slice names[] = {SLICE_INIT("tool"), SLICE_INIT("two words")};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(8);
        CHECK_INT(buf_append_cstr(&out, "old"), 0);
        CHECK_INT(mcp_expose_name(&out, SLICE("up"), names[i]), -E2BIG);
        CHECK_STR(buf_slice(&out), "old");
    }
    static char text[MCP_ITEM_NAME_MAX + 1];
    memset(text, 'a', sizeof text);
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    CHECK_INT(mcp_expose_name(&out, SLICE(A32), slice_make(text, sizeof text)), -E2BIG);
    CHECK_INT(buf_len(&out), 0);
}

static void torture_body(void *arg) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(LIMIT_EXPOSED_NAME);
    (void)arg;
    int r = mcp_expose_name(&out, SLICE("up"), SLICE("two words"));
    CHECK(r == 0 || r == -ENOMEM);
    CHECK((buf_len(&out) != 0) == (r == 0));
}

static void test_out_of_memory(void) {
    test_torture(torture_body, NULL);
}

static void test_exposed_upstream(void) {
    CHECK_STR(mcp_exposed_upstream(SLICE("up__tool")), "up");
    CHECK_STR(mcp_exposed_upstream(SLICE("up__a__b")), "up");
    CHECK_STR(mcp_exposed_upstream(SLICE("up___a")), "up");
    CHECK_STR(mcp_exposed_upstream(SLICE("__a")), "");
    CHECK(mcp_exposed_upstream(SLICE("__a")).ptr != NULL);
    CHECK(mcp_exposed_upstream(SLICE("up_tool")).ptr == NULL);
    CHECK(mcp_exposed_upstream(SLICE("")).ptr == NULL);
}

static void test_template(void) {
    static const struct {
        const char *pattern, *uri;
        bool matches;
    } rows[] = {
        {"file:///a", "file:///a", true},
        {"file:///a", "file:///ab", false},
        {"file:///ab", "file:///a", false},
        {"file:///{name}", "file:///a", true},
        {"file:///{name}", "file:///", true},
        {"file:///{name}", "file:///a/b", false},
        {"file:///{name}", "file://", false},
        {"file:///{name}", "File:///a", false},
        {"file:///{+path}", "file:///a/b", true},
        {"x:{#frag}", "x:#a/b", true},
        {"x:{/a,b}", "x:/a/b", true},
        {"x:{?q}", "x:?q=a/b", false},
        {"x:{a}/{b}", "x:1/2", true},
        {"x:{a}/{b}", "x:1/2/3", false},
        {"x:{a}/{+b}", "x:1/2/3", true},
        {"x:{a}-{b}.txt", "x:1-2-3.txt", true},
        {"x:{a}-{b}.txt", "x:1-2-3.txt.gz", false},
        {"x:{a}{b}", "x:12", true},
        {"x:{a}aa", "x:aaa", true},
        {"x:{a}aa{b}ab", "x:aaaab", true},
        {"{+all}", "", true},
        {"{+all}", "any:thing/at?all", true},
        {"{}", "abc", true},
        {"", "", true},
        {"", "x", false},
        {"x:{a", "x:a", false},
        {"x:a}", "x:a", false},
        {"x:}{a}", "x:1", false},
        {"x:{a}}", "x:1}", true},
        {"x:{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}{l}{m}{n}{o}{p}", "x:1", true},
        {"x:{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}{l}{m}{n}{o}{p}{q}", "x:1", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].pattern);
        CHECK_INT(
            mcp_template_matches(slice_from_cstr(rows[i].pattern), slice_from_cstr(rows[i].uri)),
            rows[i].matches);
    }
}

/* An upstream writes the template, a client the URI: together they must not hold the loop. */
static void test_template_cost(void) {
    static const char *const patterns[] = {
        "x:{+a}a{+b}a{+c}a{+d}a{+e}a{+f}a{+g}a{+h}a{+i}a{+j}a{+k}a{+l}a{+m}a{+n}a{+o}a{+p}!",
        "x:{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}{l}{m}{n}{o}{p}!",
        "x:{a}",
        "x:{+a}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
    };
    static char uri[LIMIT_URI_LENGTH];
    memset(uri, 'a', sizeof uri);
    uri[1] = ':';
    uri[0] = 'x';
    uint64_t begin = clock_monotonic_ms();
    for (size_t round = 0; round < 20; round++) {
        for (size_t i = 0; i < ARRAY_LEN(patterns); i++)
            CHECK_INT(
                mcp_template_matches(slice_from_cstr(patterns[i]), slice_make(uri, sizeof uri)),
                i == 2);
    }
    uint64_t spent = clock_monotonic_ms() - begin;
    printf("# %llu ms for %zu matches\n", (unsigned long long)spent, 20 * ARRAY_LEN(patterns));
    CHECK(spent < 5000);
    /* However many places have to be tried, the one that matches is found. */
    uri[sizeof uri - 1] = '!';
    CHECK(mcp_template_matches(slice_from_cstr(patterns[0]), slice_make(uri, sizeof uri)));
    uri[sizeof uri / 2] = uri[sizeof uri - 2] = '/';
    CHECK(mcp_template_matches(SLICE("x:{+a}a{b}/!"), slice_make(uri, sizeof uri)));
    CHECK(!mcp_template_matches(SLICE("x:{+a}b{b}/!"), slice_make(uri, sizeof uri)));
    static char longer[LIMIT_URI_LENGTH + 1];
    memset(longer, 'x', sizeof longer);
    CHECK(mcp_template_matches(SLICE("{a}"), slice_make(longer, sizeof longer - 1)));
    CHECK(!mcp_template_matches(SLICE("{a}"), slice_make(longer, sizeof longer)));
}

/* Named one by one: whatever comes later is not to be sent twice by accident. */
static void test_repeatable(void) {
    static const char *const names[] = {
        "initialize",       "ping",
        "server/discover",  "tools/list",
        "prompts/list",     "prompts/get",
        "resources/list",   "resources/templates/list",
        "resources/read",   "completion/complete",
        "logging/setLevel", "tasks/get",
        "tasks/result",     "tasks/list",
    };
    size_t n = 0;
    for (int i = 0; i < MCP_METHOD_COUNT; i++)
        n += mcp_method_is_repeatable((enum mcp_method)i);
    CHECK_INT(n, ARRAY_LEN(names));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        test_row(names[i]);
        CHECK(mcp_method_is_repeatable(mcp_method_parse(slice_from_cstr(names[i]))));
    }
    CHECK(!mcp_method_is_repeatable(MCP_TOOLS_CALL));
    CHECK(!mcp_method_is_repeatable(MCP_METHOD_UNKNOWN));
}

TEST_MAIN(TEST(test_repeatable), TEST(test_item_name), TEST(test_expose), TEST(test_expose_any),
          TEST(test_expose_apart), TEST(test_expose_without_room), TEST(test_exposed_upstream),
          TEST(test_template), TEST(test_template_cost), TEST(test_out_of_memory))
