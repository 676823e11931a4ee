/* What a client can be asked: read, said again, and what a request needs. */
#include <errno.h>

#include "base/limits.h"
#include "mcp/capabilities.h"
#include "test.h"

#define FORM    MCP_CAN_ELICIT_FORM
#define URL     MCP_CAN_ELICIT_URL
#define SAMPLE  MCP_CAN_SAMPLE
#define TOOLS   MCP_CAN_SAMPLE_TOOLS
#define CONTEXT MCP_CAN_SAMPLE_CONTEXT
#define ROOTS   MCP_CAN_ROOTS
#define APPS    MCP_CAN_SHOW_APPS

#define UI(members) "{\"extensions\":{\"io.modelcontextprotocol/ui\":" members "}}"
#define HTML        "\"text/html;profile=mcp-app\""

static const struct {
    const char *json;
    unsigned latest, of_2025_06_18, of_2025_03_26;
} read_rows[] = {
    {"{}", 0, 0, 0},
    {"{\"sampling\":{}}", SAMPLE, SAMPLE, SAMPLE},
    {"{\"sampling\":{\"tools\":{},\"context\":{}}}", SAMPLE | TOOLS | CONTEXT, SAMPLE, SAMPLE},
    {"{\"elicitation\":{}}", FORM, FORM, 0},
    {"{\"elicitation\":{\"form\":{}}}", FORM, FORM, 0},
    {"{\"elicitation\":{\"form\":{\"applyDefaults\":true}}}", FORM, FORM, 0},
    {"{\"elicitation\":{\"url\":{}}}", URL, 0, 0},
    {"{\"elicitation\":{\"url\":{},\"form\":{}}}", FORM | URL, FORM, 0},
    {"{\"roots\":{\"listChanged\":true}}", ROOTS, ROOTS, ROOTS},
    {"{\"sampling\":{},\"elicitation\":{},\"roots\":{},\"x\":{}}", SAMPLE | FORM | ROOTS,
     SAMPLE | FORM | ROOTS, SAMPLE | ROOTS},
    {"{\"sampling\":true,\"elicitation\":null,\"roots\":[]}", 0, 0, 0},
    {"{\"sampl\\u0069ng\":{}}", SAMPLE, SAMPLE, SAMPLE},
    {UI("{\"mimeTypes\":[1,\"x\"," HTML "]}"), APPS, APPS, APPS},
    {UI("{\"mimeTypes\":[\"text\\/html;profile=mcp-app\"]}"), APPS, APPS, APPS},
    {UI("{\"mimeTypes\":[\"text/html\"]}"), 0, 0, 0},
    {UI("{\"mimeTypes\":" HTML "}"), 0, 0, 0},
    {UI("{}"), 0, 0, 0},
    {UI("[" HTML "]"), 0, 0, 0},
    {"{\"extensions\":[]}", 0, 0, 0},
    {"[\"sampling\"]", 0, 0, 0},
    {"{\"sampling\":{},\"sampling\":{}}", 0, 0, 0},
    {"{\"sampling\":{}", 0, 0, 0},
};

static void test_read(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(read_rows); i++) {
        struct slice json = slice_from_cstr(read_rows[i].json);
        test_row(read_rows[i].json);
        CHECK_INT(mcp_capabilities_read(reader, json, MCP_2026_07_28), read_rows[i].latest);
        CHECK_INT(mcp_capabilities_read(reader, json, MCP_2025_11_25), read_rows[i].latest);
        CHECK_INT(mcp_capabilities_read(reader, json, MCP_2025_06_18), read_rows[i].of_2025_06_18);
        CHECK_INT(mcp_capabilities_read(reader, json, MCP_2025_03_26), read_rows[i].of_2025_03_26);
    }
}

/* Said by each request of 2026-07-28; in the era before it means nothing. */
static void test_tasks(void) {
    static const struct {
        const char *json;
        unsigned modern;
    } rows[] = {
        {"{\"extensions\":{\"io.modelcontextprotocol/tasks\":{}}}", MCP_CAN_TASKS},
        {"{\"extensions\":{\"io.modelcontextprotocol\\/tasks\":{\"a\":1},\"b/c\":{}}}",
         MCP_CAN_TASKS},
        {"{\"extensions\":{\"io.modelcontextprotocol/tasks\":true}}", 0},
        {"{\"extensions\":{\"io.modelcontextprotocol/task\":{}}}", 0},
        {"{\"extensions\":[],\"tasks\":{}}", 0},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(1));
    struct json_writer writer;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice json = slice_from_cstr(rows[i].json);
        test_row(rows[i].json);
        CHECK_INT(mcp_capabilities_read(reader, json, MCP_2026_07_28), rows[i].modern);
        CHECK_INT(mcp_capabilities_read(reader, json, MCP_2025_11_25), 0);
    }
    json_writer_init(&writer, &out);
    mcp_capabilities_write(&writer, MCP_CAN_TASKS, NULL, MCP_2026_07_28);
    CHECK_STR(buf_slice(&out), rows[0].json);
    static const struct {
        const char *extensions, *expected;
    } mores[] = {
        {"{}", "{\"extensions\":{\"io.modelcontextprotocol/tasks\":{}}}"},
        {"{ }", "{\"extensions\":{\"io.modelcontextprotocol/tasks\":{}}}"},
        {"{\"a/b\":{}}", "{\"extensions\":{\"io.modelcontextprotocol/tasks\":{},\"a/b\":{}}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(mores); i++) {
        struct mcp_capabilities_more more = {.extensions = slice_from_cstr(mores[i].extensions)};
        buf_reset(&out, 0);
        json_writer_init(&writer, &out);
        mcp_capabilities_write(&writer, MCP_CAN_TASKS, &more, MCP_2026_07_28);
        CHECK_STR(buf_slice(&out), mores[i].expected);
    }
}

static void write(unsigned mask, enum mcp_revision revision, struct buf *out) {
    struct json_writer writer;
    buf_reset(out, 0);
    json_writer_init(&writer, out);
    mcp_capabilities_write(&writer, mask, NULL, revision);
    CHECK_INT(buf_error(out), 0);
}

static void test_write(void) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(1));
    unsigned all = MCP_CAN_ALL & ~APPS;
    write(all, MCP_2025_11_25, &out);
    CHECK_STR(buf_slice(&out), "{\"sampling\":{\"tools\":{},\"context\":{}},"
                               "\"elicitation\":{\"form\":{},\"url\":{}},\"roots\":{}}");
    write(all, MCP_2025_06_18, &out);
    CHECK_STR(buf_slice(&out), "{\"sampling\":{},\"elicitation\":{},\"roots\":{}}");
    write(all, MCP_2024_11_05, &out);
    CHECK_STR(buf_slice(&out), "{\"sampling\":{},\"roots\":{}}");
    write(APPS, MCP_2025_11_25, &out);
    CHECK_STR(buf_slice(&out), UI("{\"mimeTypes\":[" HTML "]}"));
    write(URL, MCP_2025_06_18, &out);
    CHECK_STR(buf_slice(&out), "{}");
    write(0, MCP_2026_07_28, &out);
    CHECK_STR(buf_slice(&out), "{}");
}

/* What is said of a client is read as the same, for each set of bits and each revision. */
static void test_there_and_back(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(1));
    REQUIRE(json_reader_new(&reader) == 0);
    for (unsigned mask = 0; mask <= MCP_CAN_ALL; mask++) {
        bool is_sampling = (mask & SAMPLE) != 0 || (mask & (TOOLS | CONTEXT)) == 0;
        if (!is_sampling)
            continue; /* a client that is asked with tools can be asked without */
        write(mask, MCP_2025_11_25, &out);
        CHECK_INT(mcp_capabilities_read(reader, buf_slice(&out), MCP_2025_11_25), mask);
    }
}

static void test_more(void) {
    static const struct {
        const char *json, *extensions, *experimental;
    } rows[] = {
        {"{}", "", ""},
        {"{\"extensions\":{ \"a/b\":{ }},\"experimental\":{ }}", "{ \"a/b\":{ }}", "{ }"},
        {"{\"extensions\":{\"io.modelcontextprotocol/tasks\":{},\"a/b\":1}}", "{\"a/b\":1}", ""},
        {"{\"extensions\":{\"io.modelcontextprotocol\\/tasks\":{}}}", "{}", ""},
        {"{\"extensions\":[],\"experimental\":true}", "", ""},
        {"[{\"extensions\":{}}]", "", ""},
        {"{\"extensions\":{}", "", ""},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_deinit) struct buf extensions = BUF_INIT(KIB(1));
        CLEANUP(buf_deinit) struct buf experimental = BUF_INIT(KIB(1));
        test_row(rows[i].json);
        CHECK_INT(mcp_capabilities_read_more(reader, slice_from_cstr(rows[i].json), &extensions,
                                             &experimental),
                  0);
        CHECK_STR(buf_slice(&extensions), rows[i].extensions);
        CHECK_STR(buf_slice(&experimental), rows[i].experimental);
    }
    CLEANUP(buf_deinit) struct buf small = BUF_INIT(8), none = BUF_INIT(8);
    struct slice long_one = SLICE("{\"extensions\":{\"a/b\":{\"c\":1}}}");
    CHECK_INT(mcp_capabilities_read_more(reader, long_one, &small, &none), -E2BIG);
}

static void test_needed(void) {
    static const struct {
        enum mcp_method method;
        const char *params;
        unsigned needed;
    } rows[] = {
        {MCP_SAMPLING_CREATE_MESSAGE, "{\"messages\":[]}", SAMPLE},
        {MCP_SAMPLING_CREATE_MESSAGE, "{\"tools\":[]}", SAMPLE | TOOLS},
        {MCP_SAMPLING_CREATE_MESSAGE, "{\"toolChoice\":{}}", SAMPLE | TOOLS},
        {MCP_ELICITATION_CREATE, "{\"message\":\"m\"}", FORM},
        {MCP_ELICITATION_CREATE, "{\"mode\":\"form\"}", FORM},
        {MCP_ELICITATION_CREATE, "{\"mode\":\"url\"}", URL},
        {MCP_ROOTS_LIST, "{}", ROOTS},
        {MCP_TOOLS_LIST, "{}", 0},
        {MCP_METHOD_UNKNOWN, "{}", 0},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].params);
        REQUIRE(json_read(reader, slice_from_cstr(rows[i].params), &json_want_root, NULL, NULL) ==
                0);
        CHECK_INT(mcp_capabilities_needed(reader, rows[i].method, json_root(reader)),
                  rows[i].needed);
    }
    CHECK_INT(mcp_capabilities_needed(NULL, MCP_ELICITATION_CREATE, NULL), FORM);
    CHECK_INT(mcp_capabilities_needed(NULL, MCP_SAMPLING_CREATE_MESSAGE, NULL), SAMPLE);
}

TEST_MAIN(TEST(test_read), TEST(test_write), TEST(test_there_and_back), TEST(test_more),
          TEST(test_needed), TEST(test_tasks))
