/* Tasks in messages: where their ids stand, and what an answer says of one. */
#include <errno.h>

#include "base/limits.h"
#include "mcp/message.h"
#include "mcp/tasks.h"
#include "test.h"

/* "ID" becomes "our:ID"; "bad" is refused. */
static int rename_one(void *context, const struct json_node *id, struct buf *out) {
    int *count = context;
    (*count)++;
    if (json_string_is(id, SLICE("bad")))
        return -EINVAL;
    buf_append_cstr(out, "\"our:");
    buf_append(out, json_string_raw(id));
    return buf_append_byte(out, '"');
}

static const struct {
    unsigned places;
    const char *document, *expected; /* NULL: refused */
} rename_rows[] = {
    {MCP_TASK_AT_ROOT, "{\"taskId\":\"a\",\"x\":1}", "{\"taskId\":\"our:a\",\"x\":1}"},
    {MCP_TASK_AT_ROOT, "{ \"t\\u0061skId\" : \"a\" }", "{ \"t\\u0061skId\" : \"our:a\" }"},
    {MCP_TASK_CREATED, "{\"task\":{\"taskId\":\"a\"},\"taskId\":\"b\"}",
     "{\"task\":{\"taskId\":\"our:a\"},\"taskId\":\"b\"}"},
    {MCP_TASK_LISTED,
     "{\"tasks\":[{\"taskId\":\"a\"},{},7,{\"taskId\":\"b\"}],\"nextCursor\":\"c\"}",
     "{\"tasks\":[{\"taskId\":\"our:a\"},{},7,{\"taskId\":\"our:b\"}],\"nextCursor\":\"c\"}"},
    {MCP_TASK_RELATED,
     "{\"_meta\":{\"io.modelcontextprotocol/related-task\":{\"taskId\":\"a\"}},\"taskId\":\"b\"}",
     "{\"_meta\":{\"io.modelcontextprotocol/related-task\":{\"taskId\":\"our:a\"}},\"taskId\":"
     "\"b\"}"},
    {MCP_TASK_AT_ROOT | MCP_TASK_RELATED,
     "{\"taskId\":\"b\",\"_meta\":{\"io.modelcontextprotocol\\/related-task\":{\"taskId\":\"a\"}}}",
     "{\"taskId\":\"our:b\",\"_meta\":{\"io.modelcontextprotocol\\/related-task\":{\"taskId\":"
     "\"our:a\"}}}"},
    {MCP_TASK_RELATED, "{\"_meta\":null}", "{\"_meta\":null}"},
    {MCP_TASK_RELATED, "{\"_meta\":{\"io.modelcontextprotocol/related-task\":[]}}",
     "{\"_meta\":{\"io.modelcontextprotocol/related-task\":[]}}"},
    {MCP_TASK_CREATED, "{\"task\":\"taskId\"}", "{\"task\":\"taskId\"}"},
    {0, "{\"taskId\":\"a\"}", "{\"taskId\":\"a\"}"},
    {MCP_TASK_AT_ROOT, "{\"taskId\":7}", NULL},
    {MCP_TASK_AT_ROOT, "{\"taskId\":\"bad\"}", NULL},
    {MCP_TASK_LISTED, "{\"tasks\":[{\"taskId\":\"a\"},{\"taskId\":null}]}", NULL},
    {MCP_TASK_AT_ROOT, "[]", NULL},
    {MCP_TASK_AT_ROOT, "{\"taskId\":\"a\"", NULL},
};

static void test_rename(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rename_rows); i++) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
        int count = 0;
        test_row(rename_rows[i].document);
        int error = mcp_tasks_rename(&out, reader, slice_from_cstr(rename_rows[i].document),
                                     rename_rows[i].places, rename_one, &count);
        CHECK_INT(error == 0, rename_rows[i].expected != NULL);
        if (error == 0 && rename_rows[i].expected != NULL)
            CHECK_STR(buf_slice(&out), rename_rows[i].expected);
        if (count != 0)
            CHECK(mcp_tasks_possible(slice_from_cstr(rename_rows[i].document)));
    }
}

static void test_strip(void) {
    static const char *const rows[][2] = {
        {"{\"_meta\":{\"io.modelcontextprotocol/related-task\":{\"taskId\":\"a\"}},\"x\":1}",
         "{\"_meta\":{},\"x\":1}"},
        {"{\"_meta\":{\"a\":1,\"io.modelcontextprotocol/related-task\":{},\"b\":2}}",
         "{\"_meta\":{\"a\":1,\"b\":2}}"},
        {"{\"taskId\":\"a\"}", "{\"taskId\":\"a\"}"},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
        test_row(rows[i][0]);
        CHECK_INT(mcp_tasks_strip(&out, reader, slice_from_cstr(rows[i][0])), 0);
        CHECK_STR(buf_slice(&out), rows[i][1]);
    }
}

static void test_bare(void) {
    static const char *const rows[][2] = {
        {"{\"resultType\":\"complete\",\"taskId\":\"a\",\"_meta\":{\"x\":1,"
         "\"io.modelcontextprotocol/serverInfo\":{\"name\":\"s\"}}}",
         "{\"taskId\":\"a\",\"_meta\":{\"x\":1}}"},
        {"{\"taskId\":\"a\",\"_meta\":{\"io.modelcontextprotocol/serverInfo\":0},"
         "\"result\":{\"resultType\":\"complete\",\"_meta\":{"
         "\"io.modelcontextprotocol/serverInfo\":1}},\"resultType\":7}",
         "{\"taskId\":\"a\",\"_meta\":{},\"result\":{\"resultType\":\"complete\",\"_meta\":{"
         "\"io.modelcontextprotocol/serverInfo\":1}}}"},
        {"{\"_meta\":null,\"taskId\":\"a\"}", "{\"taskId\":\"a\"}"},
        {"{\"taskId\":\"a\"}", "{\"taskId\":\"a\"}"},
    };
    static const char *const refused[] = {"[]", "\"taskId\"", "{\"taskId\":}", ""};
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
        test_row(rows[i][0]);
        CHECK_INT(mcp_task_bare(&out, reader, slice_from_cstr(rows[i][0])), 0);
        CHECK_STR(buf_slice(&out), rows[i][1]);
    }
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
        test_row(refused[i]);
        CHECK_INT(mcp_task_bare(&out, reader, slice_from_cstr(refused[i])), MCP_E_REFUSED);
    }
}

static const struct {
    enum mcp_revision revision;
    const char *result;
    const char *id; /* NULL: it is none */
    uint64_t poll_ms;
} created_rows[] = {
    {MCP_2025_11_25, "{\"task\":{\"taskId\":\"a\",\"status\":\"working\"}}", "\"a\"",
     LIMIT_TASK_POLL_USUAL_MS},
    {MCP_2025_11_25, "{\"task\":{\"taskId\":\"a\",\"status\":\"working\",\"pollInterval\":500}}",
     "\"a\"", 500},
    {MCP_2025_11_25, "{\"task\":{\"taskId\":\"a\",\"status\":\"elsewhere\"}}", NULL, 0},
    {MCP_2025_11_25, "{\"task\":{\"taskId\":7,\"status\":\"working\"}}", NULL, 0},
    {MCP_2025_11_25, "{\"resultType\":\"task\",\"taskId\":\"a\",\"status\":\"working\"}", NULL, 0},
    {MCP_2026_07_28, "{\"resultType\":\"task\",\"taskId\":\"a\",\"status\":\"working\"}", "\"a\"",
     LIMIT_TASK_POLL_USUAL_MS},
    {MCP_2026_07_28, "{\"resultType\":\"t\\u0061sk\",\"taskId\":\"a\",\"status\":\"working\"}",
     "\"a\"", LIMIT_TASK_POLL_USUAL_MS},
    {MCP_2026_07_28,
     "{\"resultType\":\"task\",\"taskId\":\"a\",\"status\":\"working\",\"pollIntervalMs\":0}",
     "\"a\"", LIMIT_TASK_POLL_LEAST_MS},
    {MCP_2026_07_28,
     "{\"resultType\":\"task\",\"taskId\":\"a\",\"status\":\"working\",\"pollIntervalMs\":249}",
     "\"a\"", LIMIT_TASK_POLL_LEAST_MS},
    {MCP_2026_07_28,
     "{\"resultType\":\"task\",\"taskId\":\"a\",\"status\":\"working\",\"pollIntervalMs\":30001}",
     "\"a\"", LIMIT_TASK_POLL_MOST_MS},
    {MCP_2026_07_28,
     "{\"resultType\":\"task\",\"taskId\":\"a\",\"status\":\"working\",\"pollIntervalMs\":1e99}",
     "\"a\"", LIMIT_TASK_POLL_USUAL_MS},
    {MCP_2026_07_28, "{\"resultType\":\"complete\",\"taskId\":\"a\",\"status\":\"working\"}", NULL,
     0},
    {MCP_2026_07_28, "{\"task\":{\"taskId\":\"a\",\"status\":\"working\"}}", NULL, 0},
};

static void test_created(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(created_rows); i++) {
        struct mcp_task task;
        test_row(created_rows[i].result);
        bool is_one = mcp_task_read_created(reader, slice_from_cstr(created_rows[i].result),
                                            created_rows[i].revision, &task);
        CHECK_INT(is_one, created_rows[i].id != NULL);
        if (!is_one || created_rows[i].id == NULL)
            continue;
        CHECK_STR(task.id->raw, created_rows[i].id);
        CHECK_INT((int)task.poll_ms, (int)created_rows[i].poll_ms);
    }
}

static void test_read(void) {
    struct slice result = SLICE(
        "{\"taskId\":\"a\",\"status\":\"input_required\",\"inputRequests\":{\"k\":{\"method\":"
        "\"roots/list\",\"params\":{}}},\"result\":{\"x\":1},\"error\":{\"code\":1}}");
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    struct mcp_task task;
    REQUIRE(mcp_task_read(reader, result, &task));
    CHECK_INT(task.status, MCP_TASK_INPUT_REQUIRED);
    CHECK_STR(task.result, "{\"x\":1}");
    CHECK_STR(task.error, "{\"code\":1}");
    REQUIRE(task.input != NULL && json_first(reader, task.input) != NULL);
    const struct json_node *request = json_first(reader, task.input);
    CHECK(json_member_typed(reader, request, SLICE("params"), JSON_OBJECT) != NULL);
    CHECK(!mcp_task_read(reader, SLICE("{\"taskId\":\"a\"}"), &task));
    CHECK(!mcp_task_read(reader, SLICE("7"), &task));
}

TEST_MAIN(TEST(test_rename), TEST(test_strip), TEST(test_bare), TEST(test_created), TEST(test_read))
