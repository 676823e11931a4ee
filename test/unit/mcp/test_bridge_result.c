/* Results between the revisions. */
#include <errno.h>

#include "base/clock.h"
#include "bridge_support.h"

#define INFO     "\"" P "serverInfo\":" GATEWAY
#define COMPLETE "\"resultType\":\"complete\""
#define CACHED   ",\"ttlMs\":0,\"cacheScope\":\"private\""
#define STAMP    COMPLETE ",\"_meta\":{" INFO "}"
#define CACHE    COMPLETE CACHED ",\"_meta\":{" INFO "}"
#define TEXT(t)  "{\"type\":\"text\",\"text\":\"" t "\"}"
#define AUDIO    "[audio left out: the protocol revision of this client has none]"

#define CALL MCP_TOOLS_CALL
#define READ MCP_RESOURCES_READ
#define GET  MCP_PROMPTS_GET
#define LIST MCP_TOOLS_LIST

struct row {
    const char *name;
    enum mcp_revision from, to;
    enum mcp_method method;
    const char *result;
    const char *expected; /* NULL: as it is */
};

static int bridge_exact(struct buf *out, struct json_reader *reader, const struct row *row,
                        const char **ret_reason) {
    CLEANUP(mem_freep) char *exact = exact_copy(slice_from_cstr(row->result));
    return mcp_bridge_result(out, reader, row->method, slice_make(exact, strlen(row->result)),
                             row->from, row->to, &gateway, ret_reason);
}

static void check_rows(const struct row *rows, size_t n) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < n; i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
        const char *reason = "untouched";
        test_row(rows[i].name);
        const char *expected = rows[i].expected != NULL ? rows[i].expected : rows[i].result;
        CHECK_INT(bridge_exact(&out, reader, &rows[i], &reason), 0);
        CHECK_STR(buf_slice(&out), expected);
        CHECK_STR(slice_from_cstr(reason), "untouched");
        check_json(buf_slice(&out));
        buf_deinit(&out);
        out.max = strlen(expected) - 1;
        CHECK_INT(bridge_exact(&out, reader, &rows[i], &reason), -E2BIG);
        CHECK_STR(slice_from_cstr(reason), "untouched");
    }
}
#define CHECK_ROWS(rows) check_rows(rows, ARRAY_LEN(rows))

static void test_needed(void) {
    for (int from = MCP_2024_11_05; from <= MCP_2026_07_28; from++) {
        for (int to = MCP_2024_11_05; to <= MCP_2026_07_28; to++) {
            bool crosses = (from == MCP_2026_07_28) != (to == MCP_2026_07_28);
            bool is_older = to < from && to < MCP_2025_06_18;
            CHECK_INT(mcp_bridge_result_needed((enum mcp_revision)from, (enum mcp_revision)to),
                      crosses || is_older);
        }
    }
}

static void test_to_modern(void) {
    static const struct row rows[] = {
        {"empty", L4, MODERN, CALL, "{}", "{" STAMP "}"},
        {"empty with space", L4, MODERN, CALL, " { \n } ", " {" STAMP " \n } "},
        {"a call", L4, MODERN, CALL, "{\"content\":[ ],\"isError\":true}",
         "{" STAMP ",\"content\":[ ],\"isError\":true}"},
        {"the oldest", L1, MODERN, GET, "{ \"messages\":[]}", "{" STAMP ", \"messages\":[]}"},
        {"a list", L4, MODERN, LIST, "{\"tools\":[]}", "{" CACHE ",\"tools\":[]}"},
        {"a resource", L4, MODERN, READ, "{\"contents\":[{}]}", "{" CACHE ",\"contents\":[{}]}"},
        {"a completion is not cached", L4, MODERN, MCP_COMPLETION_COMPLETE,
         "{\"completion\":{\"values\":[]}}", "{" STAMP ",\"completion\":{\"values\":[]}}"},
        {"empty contents of a call", L4, MODERN, CALL, "{\"contents\":[]}",
         "{" STAMP ",\"contents\":[]}"},
        {"no contents", L4, MODERN, READ, "{}", "{" CACHE "}"},
        {"complete already", L4, MODERN, CALL, "{\"a\":1,\"resultType\" : \"complete\"}",
         "{\"_meta\":{" INFO "},\"a\":1,\"resultType\" : \"complete\"}"},
        {"complete with escapes", L4, MODERN, CALL, "{\"result\\u0054ype\":\"c\\u006fmplete\"}",
         "{\"_meta\":{" INFO "},\"result\\u0054ype\":\"c\\u006fmplete\"}"},
        {"its own word on caching counts for nothing", L4, MODERN, LIST,
         "{\"cacheScope\":\"public\",\"tools\":[],\"ttl\\u004ds\":99999 }",
         "{" CACHE ",\"tools\":[] }"},
        {"what a tool calls so", L4, MODERN, CALL, "{\"ttlMs\":\"x\"}",
         "{" STAMP ",\"ttlMs\":\"x\"}"},
        {"_meta", L4, MODERN, CALL, "{\"_meta\":{ \"a\":1 },\"content\":[]}",
         "{" COMPLETE ",\"_meta\":{" INFO ", \"a\":1 },\"content\":[]}"},
        {"empty _meta", L4, MODERN, CALL, "{\"_meta\":{ }}",
         "{" COMPLETE ",\"_meta\":{" INFO " }}"},
        {"_meta that is null", L4, MODERN, CALL, "{\"_meta\":null}",
         "{" COMPLETE ",\"_meta\":{" INFO "}}"},
        {"who it is already", L4, MODERN, CALL, "{\"_meta\":{\"" P "serverInfo\":{\"name\":1}}}",
         "{" COMPLETE ",\"_meta\":{\"" P "serverInfo\":{\"name\":1}}}"},
        {"who it is, with an escaped slash", L4, MODERN, CALL,
         "{\"_meta\":{\"io.modelcontextprotocol\\/serverInfo\":{}}}",
         "{" COMPLETE ",\"_meta\":{\"io.modelcontextprotocol\\/serverInfo\":{}}}"},
        {"who it is, but no object", L4, MODERN, CALL,
         "{\"_meta\":{\"a\":1, \"" P "serverInfo\":\"x\"}}",
         "{" COMPLETE ",\"_meta\":{" INFO ",\"a\":1}}"},
        {"numbers and order stay", L4, MODERN, CALL,
         "{\"z\":1.0e+3,\"a\":-0 , \"structuredContent\":[1,2],\"\\u0061b\":\"\\/\"}",
         "{" STAMP ",\"z\":1.0e+3,\"a\":-0 , \"structuredContent\":[1,2],\"\\u0061b\":\"\\/\"}"},
        {"content of newer types stays", L3, MODERN, CALL,
         "{\"content\":[{\"type\":\"audio\"},{\"type\":\"resource_link\"}]}",
         "{" STAMP ",\"content\":[{\"type\":\"audio\"},{\"type\":\"resource_link\"}]}"},
    };
    CHECK_ROWS(rows);
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    const char *reason = NULL;
    CHECK_INT(
        mcp_bridge_result(&out, reader, CALL, SLICE("{\"_meta\":null}"), L4, MODERN, NULL, &reason),
        0);
    CHECK_STR(buf_slice(&out), "{" COMPLETE ",\"_meta\":{}}");
    buf_reset(&out, 0);
    CHECK_INT(mcp_bridge_result(&out, reader, CALL, SLICE("{}"), L4, MODERN, NULL, &reason), 0);
    CHECK_STR(buf_slice(&out), "{" COMPLETE "}");
}

static void test_to_legacy(void) {
    static const struct row rows[] = {
        {"nothing to do", MODERN, L4, CALL, "{ \"content\" : [ ] , \"a\":1.0}", NULL},
        {"nothing at all", MODERN, L4, CALL, "{}", NULL},
        {"type goes", MODERN, L4, CALL, "{\"resultType\":\"complete\",\"content\":[]}",
         "{\"content\":[]}"},
        {"type goes, last", MODERN, L4, CALL, "{\"content\":[] ,\"resultType\" : \"complete\" }",
         "{\"content\":[] }"},
        {"type goes, alone", MODERN, L4, CALL, "{ \"resultType\":\"complete\" }", "{  }"},
        {"type goes, with escapes", MODERN, L4, CALL,
         "{\"result\\u0054ype\":\"\\u0063omplete\",\"a\":1}", "{\"a\":1}"},
        {"all go", MODERN, L3, LIST,
         "{\"ttlMs\":5,\"resultType\":\"complete\",\"tools\":[{\"ttlMs\":1}],\"cacheScope\":"
         "\"public\"}",
         "{\"tools\":[{\"ttlMs\":1}]}"},
        {"all go and nothing stays", MODERN, L4, READ,
         "{\"ttlMs\":5 , \"resultType\":\"complete\" , \"cacheScope\":\"public\"}", "{}"},
        {"who it is goes", MODERN, L4, CALL,
         "{\"_meta\":{\"a\":1,\"" P "serverInfo\":{\"name\":\"s\"}},\"content\":[]}",
         "{\"_meta\":{\"a\":1},\"content\":[]}"},
        {"who it is goes, alone", MODERN, L4, CALL,
         "{\"_meta\":{\"io.modelcontextprotocol\\/serverInfo\":{}}}", "{\"_meta\":{}}"},
        {"_meta that is null", MODERN, L4, CALL, "{\"_meta\":null,\"a\":1}",
         "{\"_meta\":{},\"a\":1}"},
        {"empty contents", MODERN, L4, READ, "{\"contents\":[]}", NULL},
        {"structured object", MODERN, L4, CALL,
         "{\"content\":[],\"structuredContent\":{ \"a\":1 }}", NULL},
        {"structured array", MODERN, L4, CALL,
         "{\"content\":[" TEXT("x") "],\"structuredContent\": [1, 2.0] }",
         "{\"content\":[" TEXT("x") "],\"structuredContent\": {\"result\":[1, 2.0]} }"},
        {"structured text, no content", MODERN, L4, CALL,
         "{\"structuredContent\":\"a\\n\\\"b\\\"\",\"resultType\":\"complete\"}",
         "{\"content\":[" TEXT(
             "\\\"a\\\\n\\\\\\\"b\\\\\\\"\\\"") "],\"structuredContent\":"
                                                "{\"result\":\"a\\n\\\"b\\\"\"}}"},
        {"structured number, empty content", MODERN, L4, CALL,
         "{\"structuredContent\":1.50,\"content\":[ \n ]}",
         "{\"structuredContent\":{\"result\":1.50},\"content\":[" TEXT("1.50") "]}"},
        {"structured null, content null", MODERN, L4, CALL,
         "{\"content\":null,\"structuredContent\":null,\"ttlMs\":1}",
         "{\"content\":[" TEXT("null") "],\"structuredContent\":{\"result\":null}}"},
        {"structured, of something else", MODERN, L4, GET, "{\"structuredContent\":1}", NULL},
        {"structured object with line ends, to the old", MODERN, L2, CALL,
         "{\"content\":[],\"structuredContent\":{\n\"a\":\t1}}",
         "{\"content\":[" TEXT("{\\n\\\"a\\\":\\t1}") "],\"structuredContent\":{\n\"a\":\t1}}"},
        {"structured object, legacy to the old", L3, L1, CALL, "{\"structuredContent\":{}}",
         "{\"content\":[" TEXT("{}") "],\"structuredContent\":{}}"},
        {"a legacy array stays one", L3, L1, CALL,
         "{\"content\":[" TEXT("x") "],\"structuredContent\":[1]}", NULL},
        {"what a legacy server calls so", L3, L1, CALL,
         "{\"resultType\":\"x\",\"ttlMs\":1,\"_meta\":null}", NULL},
    };
    CHECK_ROWS(rows);
}

static void test_content(void) {
    static const struct row rows[] = {
        {"all are known", MODERN, L3, CALL,
         "{\"content\":[{\"type\":\"audio\"},{\"type\":\"resource_link\",\"uri\":\"u\"}]}", NULL},
        {"a link", L4, L2, CALL,
         "{\"content\":[" TEXT("x") " , {\"type\":\"resource_link\",\"uri\":\"a:\\u0062\",\"name\":"
                                    "\"n \\\"q\\\"\"} ,{\"type\":\"image\"}]}",
         "{\"content\":[" TEXT("x") " , " TEXT("Resource n \\\"q\\\": a:\\u0062") " ,{\"type\":"
                                                                                  "\"image\"}]}"},
        {"a link with all", L4, L2, CALL,
         "{\"content\":[{\"description\":\"d\",\"mimeType\":\"t/p\",\"size\":1,\"title\":\"T\","
         "\"annotations\":{\"priority\":0.10},\"name\":\"n\",\"uri\":\"u\",\"typ\\u0065\":"
         "\"resource\\u005flink\",\"_meta\":{}}]}",
         "{\"content\":[{\"type\":\"text\",\"text\":\"Resource T (t/p): u\\nd\",\"annotations\":{"
         "\"priority\":0.10}}]}"},
        {"a link without anything", L4, L1, CALL, "{\"content\":[{\"type\":\"resource_link\"}]}",
         "{\"content\":[" TEXT("Resource : ") "]}"},
        {"a link with wrong types", L4, L1, CALL,
         "{\"content\":[{\"type\":\"resource_link\",\"uri\":{},\"name\":[1],\"annotations\":7}]}",
         "{\"content\":[" TEXT("Resource : ") "]}"},
        {"audio stays where it is known", L4, L2, CALL, "{\"content\":[{\"type\":\"audio\"}]}",
         NULL},
        {"audio", L2, L1, CALL,
         "{\"content\":[{\"type\":\"audio\",\"data\":\"AAAA\",\"mimeType\":\"audio/wav\"}]}",
         "{\"content\":[" TEXT("[audio of type audio/wav left out: the protocol revision of this "
                               "client has none]") "]}"},
        {"all in a row", MODERN, L1, CALL,
         "{\"resultType\":\"complete\",\"content\":[{\"type\":\"audio\"},{\"type\":\"audio\"}]}",
         "{\"content\":[" TEXT(AUDIO) "," TEXT(AUDIO) "]}"},
        {"in a prompt", MODERN, L1, GET,
         "{\"messages\":[{\"role\":\"user\",\"content\":{\"type\":\"audio\"} },{\"content\":"
         "{\"type\":\"resource_link\",\"uri\":\"u\",\"name\":\"n\"},\"role\":\"assistant\"},"
         "{\"content\":{\"type\":\"text\"}}],\"description\":\"d\"}",
         "{\"messages\":[{\"role\":\"user\",\"content\":" TEXT(AUDIO) " },{\"content\":" TEXT(
             "Resource n: u") ",\"role\":\"assistant\"},{\"content\":{\"type\":\"text\"}}],"
                              "\"description\":\"d\"}"},
        {"elsewhere it is nobody's", MODERN, L1, READ, "{\"content\":[{\"type\":\"audio\"}]}",
         NULL},
        {"messages of a call", MODERN, L1, CALL,
         "{\"messages\":[{\"content\":{\"type\":\"audio\"}}]}", NULL},
        {"deeper it is data", MODERN, L1, CALL,
         "{\"content\":[{\"type\":\"text\",\"x\":{\"type\":\"audio\"}},[{\"type\":\"audio\"}]]}",
         NULL},
        {"odd content", MODERN, L1, CALL, "{\"content\":{\"type\":\"audio\"}}", NULL},
        {"odd messages", MODERN, L1, GET,
         "{\"messages\":[1,[],{\"content\":[{\"type\":\"audio\"}"
         "]},{\"content\":\"audio\"}]}",
         NULL},
        {"odd types", MODERN, L1, CALL,
         "{\"content\":[{\"type\":null},{\"type\":[\"audio\"]},{},1,\"audio\"]}", NULL},
    };
    CHECK_ROWS(rows);
}

static void test_refused(void) {
    static const struct {
        const char *name;
        enum mcp_revision from, to;
        enum mcp_method method;
        const char *result, *reason; /* "": none is given */
    } rows[] = {
        {"input", MODERN, L4, CALL, "{\"resultType\":\"input_required\"}", "asks for input"},
        {"input with escapes", MODERN, L4, GET, "{\"resultTyp\\u0065\":\"input\\u005frequired\"}",
         "asks for input"},
        {"a task", MODERN, L4, CALL, "{\"resultType\":\"task\",\"taskId\":\"1\"}", "of a kind"},
        {"another type", MODERN, L4, CALL, "{\"resultType\":\"Complete\"}", "of a kind"},
        {"complete and more", MODERN, L4, CALL, "{\"resultType\":\"complete \"}", "of a kind"},
        {"no text", MODERN, L4, CALL, "{\"resultType\":[\"complete\"]}", "of a kind"},
        {"null", MODERN, L4, CALL, "{\"resultType\":null}", "of a kind"},
        {"input from a legacy server", L4, MODERN, CALL, "{\"resultType\":\"input_required\"}",
         "asks for input"},
        {"anything from a legacy server", L4, MODERN, CALL, "{\"resultType\":1}", "of a kind"},
        {"another spelling of the type", MODERN, L4, CALL, "{\"resulttype\":\"input_required\"}",
         "another spelling"},
        {"both spellings", MODERN, L4, CALL,
         "{\"resultType\":\"complete\",\"ResultType\":\"input_required\"}", "another spelling"},
        {"long s", L4, MODERN, CALL, "{\"re\u017fultType\":\"x\"}", "another spelling"},
        {"long s with an escape", L4, MODERN, CALL, "{\"re\\u017fultType\":\"x\"}",
         "another spelling"},
        {"a ligature", L4, MODERN, CALL, "{\"reque\ufb06State\":\"x\"}", "another spelling"},
        {"another spelling in _meta", L4, MODERN, CALL, "{\"_meta\":{\"" P "serverinfo\":{}}}",
         "another spelling"},
        {"_meta is an array", L4, MODERN, CALL, "{\"_meta\":[]}", "_meta"},
        {"_meta is text", MODERN, L4, CALL, "{\"_meta\":\"\"}", "_meta"},
        {"a resource that is not there", L4, MODERN, READ, "{\"contents\":[ ]}", ""},
        {"no object", L4, MODERN, CALL, "[]", "no object"},
        {"text", MODERN, L1, CALL, "\"x\"", "no object"},
        {"no JSON", MODERN, L1, CALL, "{", "more than"},
        {"the same key twice", MODERN, L4, CALL,
         "{\"resultType\":\"complete\",\"result\\u0054ype\":\"complete\"}", "more than"},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        struct row row = {rows[i].name,   rows[i].from,   rows[i].to,
                          rows[i].method, rows[i].result, NULL};
        const char *reason = "untouched";
        test_row(rows[i].name);
        CHECK_INT(bridge_exact(&out, reader, &row, &reason), MCP_E_REFUSED);
        CHECK_INT(buf_len(&out), 0);
        CHECK((reason == NULL) == (rows[i].reason[0] == '\0'));
        if (reason != NULL && strstr(reason, rows[i].reason) == NULL)
            CHECK_STR(slice_from_cstr(reason), rows[i].reason);
    }
}

/* Many members, many blocks, deep nesting: in time, and what is too much is refused. */
static void test_large(void) {
    enum { BLOCKS = 60000 };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct buf result CLEANUP(buf_deinit) = BUF_INIT(MIB(8));
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(32));
    const char *reason = NULL;
    uint64_t begin = clock_monotonic_ms();
    buf_append_cstr(&result, "{");
    for (int i = 0; i < 9990; i++)
        buf_printf(&result, "\"k%d\":{\"resultType\":%d},", i, i);
    buf_append_cstr(&result, "\"resultType\":\"complete\",\"content\":[{}");
    for (int i = 0; i < BLOCKS; i++)
        buf_append_cstr(&result, ",{\"type\":\"audio\"}");
    buf_append_cstr(&result, "]}");
    REQUIRE(buf_error(&result) == 0);
    CHECK_INT(
        mcp_bridge_result(&out, reader, CALL, buf_slice(&result), MODERN, L1, &gateway, &reason),
        0);
    struct slice text = buf_slice(&out);
    CHECK(slice_starts_with(text, SLICE("{\"k0\":{\"resultType\":0},")));
    CHECK(slice_ends_with(text, SLICE(TEXT(AUDIO) "]}")));
    CHECK(slice_find(text, SLICE("complete")) == SIZE_MAX);
    check_json(text);
    buf_reset(&out, MIB(32));
    CHECK_INT(
        mcp_bridge_result(&out, reader, CALL, buf_slice(&result), MODERN, L4, &gateway, &reason),
        0);
    CHECK_INT(buf_len(&out), buf_len(&result) - strlen(",\"resultType\":\"complete\""));
    buf_truncate(&result, buf_len(&result) - 2);
    for (int i = 0; i < 2 * BLOCKS; i++)
        buf_append_cstr(&result, ",{\"type\":\"audio\"}");
    buf_append_cstr(&result, "]}");
    buf_reset(&out, MIB(32));
    CHECK_INT(
        mcp_bridge_result(&out, reader, CALL, buf_slice(&result), MODERN, L1, &gateway, &reason),
        MCP_E_REFUSED);
    CHECK(reason != NULL && strstr(reason, "more than") != NULL);
    CHECK_INT(
        mcp_bridge_result(&out, reader, CALL, buf_slice(&result), L4, MODERN, &gateway, &reason),
        0);
    printf("# %llu ms\n", (unsigned long long)(clock_monotonic_ms() - begin));
    CHECK(clock_monotonic_ms() - begin < 10000);
    buf_reset(&result, MIB(8));
    buf_append_cstr(&result, "{\"content\":[");
    for (int i = 0; i < (int)LIMIT_JSON_DEPTH - 2; i++)
        buf_append_cstr(&result, "[");
    for (int i = 0; i < (int)LIMIT_JSON_DEPTH - 2; i++)
        buf_append_cstr(&result, "]");
    buf_append_cstr(&result, "]}");
    buf_reset(&out, MIB(32));
    CHECK_INT(
        mcp_bridge_result(&out, reader, CALL, buf_slice(&result), MODERN, L1, &gateway, &reason),
        0);
    CHECK_SLICE(buf_slice(&out), buf_slice(&result));
}

static void torture_body(void *arg) {
    static const struct {
        enum mcp_revision from, to;
        struct slice result;
    } rows[] = {
        {L4, MODERN, SLICE_INIT("{\"_meta\":{\"\\u0061\":1},\"\\u0062\":[]}")},
        {L4, MODERN, SLICE_INIT("{\"_meta\":null}")},
        {MODERN, L4, SLICE_INIT("{\"resultType\":\"complete\",\"structuredContent\":[1]}")},
        {MODERN, L1, SLICE_INIT("{\"content\":[{\"type\":\"audio\"}],\"_meta\":{}}")},
    };
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        const char *reason = NULL;
        int r = json_reader_new(&reader);
        if (r == 0)
            r = mcp_bridge_result(&out, reader, CALL, rows[i].result, rows[i].from, rows[i].to,
                                  &gateway, &reason);
        /* A key with escapes that cannot be compared without memory is refused. */
        CHECK(r == 0 || r == -ENOMEM || (r == MCP_E_REFUSED && i == 0));
        if (r == 0)
            CHECK(buf_len(&out) > rows[i].result.len / 2);
    }
}

static void test_out_of_memory(void) {
    test_torture(torture_body, NULL);
}

TEST_MAIN(TEST(test_needed), TEST(test_to_modern), TEST(test_to_legacy), TEST(test_content),
          TEST(test_refused), TEST(test_large), TEST(test_out_of_memory))
