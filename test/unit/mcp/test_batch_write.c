/* Batches, keys of ids, writing and splicing of messages; and all of it without memory. */
#include <errno.h>

#include "base/limits.h"
#include "mcp/message.h"
#include "test.h"

#define V    "\"jsonrpc\":\"2.0\","
#define PING V "\"method\":\"ping\""

static struct json_reader *new_reader(void) {
    struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0)
        CANNOT_GO_ON();
    return reader;
}

static void test_is_batch(void) {
    CHECK(mcp_is_batch(SLICE("[]")));
    CHECK(mcp_is_batch(SLICE(" \t\r\n[")));
    CHECK(!mcp_is_batch(SLICE("{}")));
    CHECK(!mcp_is_batch(SLICE("")));
    CHECK(!mcp_is_batch(SLICE("  ")));
    CHECK(!mcp_is_batch(SLICE("\f[]")));
    CHECK(!mcp_is_batch(SLICE("\xef\xbb\xbf[]")));
    CHECK(!mcp_is_batch((struct slice){.ptr = NULL, .len = 0}));
}

enum { MAX_ELEMENTS = 100 };

static void test_batch(void) {
    static const struct {
        const char *name;
        struct slice document;
        const char *reason; /* NULL: accepted */
        enum mcp_error_code code;
        size_t count;
        const char *first, *last;
    } rows[] = {
        {"one", SLICE_INIT("[{" PING "}]"), .count = 1, .first = "{" PING "}",
         .last = "{" PING "}"},
        {"space", SLICE_INIT(" [ 1 ,\n\"a\" ] "), .count = 2, .first = "1", .last = "\"a\""},
        {"nested", SLICE_INIT("[[{}],[]]"), .count = 2, .first = "[{}]", .last = "[]"},
        {"empty", SLICE_INIT("[]"), .reason = "empty", .code = MCP_E_INVALID_REQUEST},
        {"empty with space", SLICE_INIT("[ ]"), .reason = "empty", .code = MCP_E_INVALID_REQUEST},
        {"comma behind", SLICE_INIT("[{},]"), .reason = "", .code = MCP_E_PARSE},
        {"cut", SLICE_INIT("[{}"), .reason = "too early", .code = MCP_E_PARSE},
        {"a bad one spoils all", SLICE_INIT("[{},{\"a\":1,\"a\":2}]"), .reason = "twice",
         .code = MCP_E_PARSE},
        {"no array", SLICE_INIT("{\"a\":{" PING "}}"), .reason = "array",
         .code = MCP_E_INVALID_REQUEST},
        {"no container", SLICE_INIT("1"), .reason = "array", .code = MCP_E_INVALID_REQUEST},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice elements[MAX_ELEMENTS];
        struct mcp_refusal refusal = {0};
        size_t count = 4711;
        test_row(rows[i].name);
        int r = mcp_batch_split(reader, rows[i].document, elements, MAX_ELEMENTS, &count, &refusal);
        CHECK_INT(r, rows[i].reason != NULL ? MCP_E_REFUSED : 0);
        CHECK_INT(refusal.code, rows[i].code);
        CHECK_INT(count, rows[i].reason != NULL ? 4711 : rows[i].count);
        if (rows[i].reason != NULL) {
            REQUIRE(refusal.reason != NULL);
            CHECK(strstr(refusal.reason, rows[i].reason) != NULL);
        } else if (count == rows[i].count) {
            CHECK_STR(elements[0], rows[i].first);
            CHECK_STR(elements[count - 1], rows[i].last);
        }
    }
}

/* One element more than fits; the array that is given has not a byte more. */
static void test_batch_limit(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    CLEANUP(mem_freep) struct slice *elements = mem_alloc(MAX_ELEMENTS * sizeof *elements);
    REQUIRE(elements != NULL);
    for (size_t n = MAX_ELEMENTS - 1; n <= MAX_ELEMENTS + 1; n++) {
        struct buf document CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
        struct mcp_refusal refusal = {0};
        size_t count = 0;
        for (size_t i = 0; i < n; i++)
            buf_append_cstr(&document, i == 0 ? "[{" PING "}" : ",{" PING "}");
        buf_append_cstr(&document, "]");
        int r =
            mcp_batch_split(reader, buf_slice(&document), elements, MAX_ELEMENTS, &count, &refusal);
        CHECK_INT(r, n <= MAX_ELEMENTS ? 0 : MCP_E_REFUSED);
        CHECK_INT(count, n <= MAX_ELEMENTS ? n : 0);
    }
}

static void test_id_key(void) {
    static const struct {
        const char *id;
        struct slice key;
    } rows[] = {
        {"1", SLICE_INIT("i1")},
        {"\"1\"", SLICE_INIT("s1")},
        {"\"\\u0031\"", SLICE_INIT("s1")},
        {"\"i1\"", SLICE_INIT("si1")},
        {"\"\"", SLICE_INIT("s")},
        {"0", SLICE_INIT("i0")},
        {"-0", SLICE_INIT("i0")},
        {"-1", SLICE_INIT("i-1")},
        {"\"a\\/b\"", SLICE_INIT("sa/b")},
        {"\"a/b\"", SLICE_INIT("sa/b")},
        {"\"\\u0000\"", SLICE_INIT("s\0")},
        {"\"\\ud83d\\ude42\"", SLICE_INIT("s\U0001F642")},
        {"\"\\\"\"", SLICE_INIT("s\"")},
        {"9007199254740993", SLICE_INIT("i9007199254740993")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf key CLEANUP(buf_deinit) = BUF_INIT(LIMIT_RPC_ID + 1);
        test_row(rows[i].id);
        CHECK_INT(mcp_id_key(&key, slice_from_cstr(rows[i].id)), 0);
        CHECK_SLICE(buf_slice(&key), rows[i].key);
    }
}

static void test_write(void) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    CHECK_INT(mcp_write_request(&out, SLICE("7"), MCP_TOOLS_CALL, SLICE("{\"a\": 1}")), 0);
    CHECK_STR(buf_slice(&out), "{" V "\"id\":7,\"method\":\"tools/call\",\"params\":{\"a\": 1}}");
    buf_reset(&out, KIB(4));
    CHECK_INT(mcp_write_request(&out, SLICE("\"x\""), MCP_PING, SLICE_EMPTY), 0);
    CHECK_STR(buf_slice(&out), "{" V "\"id\":\"x\",\"method\":\"ping\"}");
    buf_reset(&out, KIB(4));
    CHECK_INT(mcp_write_notification(&out, MCP_NOTIFY_TOOLS_CHANGED, SLICE_EMPTY), 0);
    CHECK_STR(buf_slice(&out), "{" V "\"method\":\"notifications/tools/list_changed\"}");
    buf_reset(&out, KIB(4));
    CHECK_INT(mcp_write_result(&out, SLICE("0"), SLICE("{}")), 0);
    CHECK_STR(buf_slice(&out), "{" V "\"id\":0,\"result\":{}}");
    buf_reset(&out, KIB(4));
    CHECK_INT(mcp_write_error_object(&out, SLICE("1"), SLICE("{\"code\":1,\"message\":\"\"}")), 0);
    CHECK_STR(buf_slice(&out), "{" V "\"id\":1,\"error\":{\"code\":1,\"message\":\"\"}}");
    buf_reset(&out, KIB(4));
    CHECK_INT(mcp_write_error(&out, SLICE_EMPTY, MCP_E_PARSE, SLICE("a \"b\"\n\xff"), SLICE_EMPTY),
              0);
    CHECK_STR(buf_slice(&out),
              "{" V "\"error\":{\"code\":-32700,\"message\":\"a \\\"b\\\"\\n\ufffd\"}}");
    buf_reset(&out, KIB(4));
    CHECK_INT(mcp_write_error(&out, SLICE("2"), MCP_E_FORBIDDEN, SLICE("no"), SLICE("[1]")), 0);
    CHECK_STR(buf_slice(&out),
              "{" V "\"id\":2,\"error\":{\"code\":403,\"message\":\"no\",\"data\":[1]}}");
    buf_reset(&out, KIB(4));
    CHECK_INT(mcp_write_tool_error(&out, SLICE("</a>")), 0);
    CHECK_STR(buf_slice(&out),
              "{\"content\":[{\"type\":\"text\",\"text\":\"</a>\"}],\"isError\":true}");
}

/* What we write, we read: every kind, by the strict reader. */
static void test_write_and_read(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct mcp_message message = {0};
    struct mcp_refusal refusal = {0};
    for (int method = 1; method < MCP_METHOD_COUNT; method++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        enum mcp_method m = (enum mcp_method)method;
        REQUIRE(mcp_write_request(&out, SLICE("\"\\\"\""), m, SLICE("{}")) == 0);
        CHECK_INT(mcp_message_read(reader, buf_slice(&out), &message, &refusal), 0);
        CHECK_INT(message.method, method);
        CHECK_STR(message.id, "\"\\\"\"");
        CHECK_INT(mcp_method_parse(mcp_method_name(m)), method);
    }
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    REQUIRE(mcp_write_error(&out, SLICE_EMPTY, MCP_E_PARSE, SLICE(""), SLICE_EMPTY) == 0);
    CHECK_INT(mcp_message_read(reader, buf_slice(&out), &message, &refusal), 0);
    CHECK_INT(message.kind, MCP_ERROR);
}

static void test_splice(void) {
    static const struct {
        const char *name;
        struct {
            size_t from, to;
            const char *text;
        } edits[2];
        size_t n;
        const char *expected;
    } rows[] = {
        {"none", .n = 0, .expected = "0123456789"},
        {"at the start", {{0, 2, "ab"}}, 1, "ab23456789"},
        {"inserted at the start", {{0, 0, "ab"}}, 1, "ab0123456789"},
        {"at the end", {{8, 10, "ab"}}, 1, "01234567ab"},
        {"inserted at the end", {{10, 10, "ab"}}, 1, "0123456789ab"},
        {"cut out", {{3, 6, ""}}, 1, "0126789"},
        {"everything", {{0, 10, "x"}}, 1, "x"},
        {"both ends", {{0, 1, "abc"}, {9, 10, "xyz"}}, 2, "abc12345678xyz"},
        {"side by side", {{2, 4, "a"}, {4, 6, "b"}}, 2, "01ab6789"},
        {"inserted twice at one place", {{5, 5, "a"}, {5, 5, "b"}}, 2, "01234ab56789"},
        {"nothing left", {{0, 5, ""}, {5, 10, ""}}, 2, ""},
    };
    static const struct slice document = SLICE_INIT("0123456789");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct mcp_edit edits[2];
        size_t len = strlen(rows[i].expected);
        test_row(rows[i].name);
        for (size_t k = 0; k < rows[i].n; k++)
            edits[k] = (struct mcp_edit){
                .span = slice_sub(document, rows[i].edits[k].from, rows[i].edits[k].to),
                .replacement = slice_from_cstr(rows[i].edits[k].text),
            };
        for (size_t k = 0; k < rows[i].n; k++)
            edits[k].span.ptr = document.ptr + rows[i].edits[k].from;
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(len);
        CHECK_INT(mcp_splice(&out, document, edits, rows[i].n), 0);
        CHECK_STR(buf_slice(&out), rows[i].expected);
        struct buf small CLEANUP(buf_deinit) = BUF_INIT(len - 1);
        if (len > 0)
            CHECK_INT(mcp_splice(&small, document, edits, rows[i].n), -E2BIG);
    }
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(8);
    CHECK_INT(mcp_splice(&out, (struct slice){.ptr = NULL, .len = 0}, NULL, 0), 0);
    CHECK_INT(buf_len(&out), 0);
}

/* Each revision and level is found again by its name; no other text is one. */
static void test_vocabulary(void) {
    for (int i = MCP_2024_11_05; i <= MCP_2026_07_28; i++)
        CHECK_INT(mcp_revision_parse(mcp_revision_name((enum mcp_revision)i)), i);
    CHECK_INT(mcp_revision_parse(SLICE("")), MCP_REVISION_NONE);
    CHECK_INT(mcp_revision_parse(SLICE("2025-11-2")), MCP_REVISION_NONE);
    CHECK_INT(mcp_revision_parse(SLICE("2025-11-255")), MCP_REVISION_NONE);
    CHECK(!mcp_revision_is_legacy(MCP_REVISION_NONE));
    CHECK(mcp_revision_is_legacy(MCP_2024_11_05));
    CHECK(mcp_revision_is_legacy(MCP_2025_03_26) && mcp_revision_is_legacy(MCP_2025_11_25));
    CHECK(!mcp_revision_is_legacy(MCP_2026_07_28));
    CHECK_INT(mcp_method_parse(SLICE("")), MCP_METHOD_UNKNOWN);
    CHECK_INT(mcp_method_parse(SLICE("tools/List")), MCP_METHOD_UNKNOWN);
    CHECK_INT(mcp_method_parse(SLICE("tools/list\0")), MCP_METHOD_UNKNOWN);
    for (int i = 0; i < 8; i++)
        CHECK_INT(mcp_log_level_parse(mcp_log_level_name(i)), i);
    CHECK_INT(mcp_log_level_parse(SLICE("warn")), -1);
    CHECK_INT(mcp_log_level_parse(SLICE("")), -1);
    for (int i = 0; i < MCP_LIST_COUNT; i++) {
        const struct mcp_list_info *info = mcp_list_info((enum mcp_list)i);
        CHECK(info->method != MCP_METHOD_UNKNOWN && info->changed != MCP_METHOD_UNKNOWN);
        CHECK(info->result_key.len != 0 && info->item_key.len != 0 && info->capability.len != 0);
    }
}

static void torture_body(void *arg) {
    static const struct slice document =
        SLICE_INIT("{" V "\"id\":\"\\u0031\",\"method\":\"tools/call\",\"params\":{\"name\":\"n\","
                   "\"\\u0061b\":1,\"_meta\":{\"\\u0061b\":1}}}");
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    struct mcp_message message = {0};
    struct mcp_refusal refusal = {0};
    struct slice elements[2];
    size_t count = 0;
    (void)arg;
    int r = json_reader_new(&reader);
    if (r != 0) {
        CHECK_INT(r, -ENOMEM);
        return;
    }
    r = mcp_message_read(reader, document, &message, &refusal);
    /* Without memory to unescape a key it counts as confusable: closed. */
    CHECK(r == 0 || r == -ENOMEM || (r == MCP_E_REFUSED && refusal.code == MCP_E_INVALID_REQUEST));
    r = mcp_batch_split(reader, SLICE("[{},{}]"), elements, 2, &count, &refusal);
    CHECK(r == -ENOMEM || (r == 0 && count == 2));
    r = mcp_id_key(&out, SLICE("\"\\u0031\""));
    CHECK(r == 0 || r == -ENOMEM);
    r = mcp_write_tool_error(&out, SLICE("text"));
    CHECK(r == 0 || r == -ENOMEM);
    r = mcp_splice(&out, document, NULL, 0);
    CHECK(r == 0 || r == -ENOMEM);
}

static void test_out_of_memory(void) {
    test_torture(torture_body, NULL);
}

TEST_MAIN(TEST(test_is_batch), TEST(test_batch), TEST(test_batch_limit), TEST(test_id_key),
          TEST(test_write), TEST(test_write_and_read), TEST(test_splice), TEST(test_vocabulary),
          TEST(test_out_of_memory))
