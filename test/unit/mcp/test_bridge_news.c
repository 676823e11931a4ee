/* Notifications of what was subscribed to: whose listen they belong to. */
#include <errno.h>

#include "bridge_support.h"

#define ID "\"" P "subscriptionId\":"

struct row {
    const char *name, *params, *id;
    const char *expected; /* NULL: refused */
};

static const struct row rows[] = {
    {"stamped", "{\"uri\":\"a\"}", "7", "{\"_meta\":{" ID "7},\"uri\":\"a\"}"},
    {"stamped, with a text", "{\"uri\":\"a\"}", "\"\"", "{\"_meta\":{" ID "\"\"},\"uri\":\"a\"}"},
    {"nothing else", "{}", "0", "{\"_meta\":{" ID "0}}"},
    {"in a _meta of its own", "{\"_meta\":{\"x\":1},\"uri\":\"a\"}", "7",
     "{\"_meta\":{" ID "7,\"x\":1},\"uri\":\"a\"}"},
    {"the server's goes", "{\"_meta\":{\"x\":1," ID "\"theirs\"}}", "7",
     "{\"_meta\":{" ID "7,\"x\":1}}"},
    {"the server's goes alone", "{\"_meta\":{" ID "9}}", "7", "{\"_meta\":{" ID "7}}"},
    {"for a session", "{\"_meta\":{\"x\":1," ID "9},\"uri\":\"a\",\"y\":[2]}", "",
     "{\"_meta\":{\"x\":1},\"uri\":\"a\",\"y\":[2]}"},
    {"for a session, and nothing else was there", "{\"_meta\":{" ID "9},\"uri\":\"a\"}", "",
     "{\"uri\":\"a\"}"},
    {"for a session, as it was", "{\"uri\":\"a\"}", "", "{\"uri\":\"a\"}"},
    {"written with escapes", "{\"_meta\":{\"io.modelcontextprotocol\\/subscriptionId\":9}}", "7",
     "{\"_meta\":{" ID "7}}"},
    {"elsewhere it is data", "{\"uri\":\"a\",\"z\":{" ID "9}}", "",
     "{\"uri\":\"a\",\"z\":{" ID "9}}"},
    {"an array", "[1]", "7", NULL},
    {"not JSON", "{\"uri\":", "7", NULL},
    {"twice", "{\"_meta\":{},\"_meta\":{}}", "7", NULL},
};

static int news(struct buf *out, struct json_reader *reader, const struct row *row) {
    CLEANUP(mem_freep) char *exact = exact_copy(slice_from_cstr(row->params));
    return mcp_bridge_news(out, reader, slice_make(exact, strlen(row->params)),
                           slice_from_cstr(row->id));
}

static void test_rows(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i].name);
        int error = news(&out, reader, &rows[i]);
        if (rows[i].expected == NULL) {
            CHECK_INT(error, MCP_E_REFUSED);
            continue;
        }
        CHECK_INT(error, 0);
        CHECK_STR(buf_slice(&out), rows[i].expected);
        check_json(buf_slice(&out));
        buf_deinit(&out);
        out.max = strlen(rows[i].expected) - 1;
        CHECK_INT(news(&out, reader, &rows[i]), -E2BIG);
    }
}

TEST_MAIN(TEST(test_rows))
