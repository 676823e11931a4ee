/* What of a listed item the MCP schema demands: every member of every kind with every type. */
#include "base/limits.h"
#include "shape.h"
#include "test.h"

static struct json_reader *new_reader(void) {
    struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0)
        CANNOT_GO_ON();
    return reader;
}

/* The sentence about this item, "" when there is none. */
static const char *check(enum mcp_list kind, struct slice item) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    const struct json_want want = {.children = shape_want_item};
    if (json_read(reader, item, &want, NULL, NULL) != 0)
        return "(not JSON)";
    const struct json_node *root = json_root(reader);
    struct buf key CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI_LENGTH);
    const char *problem = shape_check(reader, root, kind, MCP_LEGACY_LATEST);
    if (problem == NULL) {
        /* What passes has the key, and it is a string. */
        const struct json_node *node =
            json_member_typed(reader, root, mcp_list_info(kind)->item_key, JSON_STRING);
        if (node == NULL || json_string_append(&key, node) != 0)
            return "(no key)";
        problem = shape_check_key(buf_slice(&key), kind);
    }
    return problem != NULL ? problem : "";
}

#define CHECK_PROBLEM(kind, item, expected)                                                        \
    CHECK_STR(slice_from_cstr(check((kind), slice_from_cstr(item))), (expected))

enum { TOOL = 1, PROMPT = 2, RESOURCE = 4, TEMPLATE = 8, ALL = 15 };

static const struct member {
    const char *key;
    enum json_type type;
    unsigned kinds, required;
    const char *good;
} members[] = {
    {"name", JSON_STRING, ALL, ALL, "\"n\""},
    {"uri", JSON_STRING, RESOURCE, RESOURCE, "\"file:///a\""},
    {"uriTemplate", JSON_STRING, TEMPLATE, TEMPLATE, "\"file:///{a}\""},
    {"inputSchema", JSON_OBJECT, TOOL, TOOL, "{\"type\":\"object\"}"},
    {"outputSchema", JSON_OBJECT, TOOL, 0, "{\"type\":\"object\"}"},
    {"title", JSON_STRING, ALL, 0, "\"t\""},
    {"description", JSON_STRING, ALL, 0, "\"\""},
    {"annotations", JSON_OBJECT, TOOL | RESOURCE | TEMPLATE, 0, "{}"},
    {"arguments", JSON_ARRAY, PROMPT, 0, "[]"},
    {"mimeType", JSON_STRING, RESOURCE | TEMPLATE, 0, "\"text/plain\""},
    {"size", JSON_NUMBER, RESOURCE, 0, "12"},
    {"icons", JSON_ARRAY, ALL, 0, "[]"},
    {"execution", JSON_OBJECT, TOOL, 0, "{}"},
    {"_meta", JSON_OBJECT, ALL, 0, "{}"},
    {"unknown", JSON_NULL, 0, 0, "1"},
};

static const struct {
    enum json_type type;
    const char *text;
} values[] = {
    {JSON_NULL, "null"}, {JSON_FALSE, "false"},    {JSON_TRUE, "true"},
    {JSON_NUMBER, "1"},  {JSON_STRING, "\"a:s\""}, {JSON_OBJECT, "{\"type\":\"object\"}"},
    {JSON_ARRAY, "[]"},
};

/* An item with all that is required but `without`, and then that with `value` (NULL: left out). */
static void build(struct buf *out, unsigned kind_bit, const struct member *without,
                  const char *value) {
    const char *comma = "";
    buf_reset(out, KIB(4));
    buf_append_cstr(out, "{");
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if ((members[i].required & kind_bit) == 0 || &members[i] == without)
            continue;
        buf_printf(out, "%s\"%s\":%s", comma, members[i].key, members[i].good);
        comma = ",";
    }
    if (value != NULL)
        buf_printf(out, "%s\"%s\":%s", comma, without->key, value);
    buf_append_cstr(out, "}");
}

static void check_member(enum mcp_list kind, const struct member *member) {
    unsigned bit = 1u << kind;
    bool belongs = (member->kinds & bit) != 0;
    struct buf item CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    build(&item, bit, member, member->good);
    CHECK_STR(slice_from_cstr(check(kind, buf_slice(&item))), "");
    build(&item, bit, member, NULL);
    bool is_missed = check(kind, buf_slice(&item))[0] != '\0';
    CHECK_INT(is_missed, (member->required & bit) != 0);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        build(&item, bit, member, values[i].text);
        const char *problem = check(kind, buf_slice(&item));
        bool is_wrong = belongs && values[i].type != member->type;
        if ((problem[0] != '\0') != is_wrong)
            printf("# kind %d, value %s: %s\n", kind, values[i].text, problem);
        CHECK_INT(problem[0] != '\0', is_wrong);
        if (is_wrong && strstr(problem, member->key) == NULL)
            CHECK_STR(slice_from_cstr(problem), member->key);
    }
}

static void test_every_member(void) {
    _Static_assert(MCP_LIST_TOOLS == 0 && MCP_LIST_PROMPTS == 1 && MCP_LIST_RESOURCES == 2 &&
                       MCP_LIST_TEMPLATES == 3 && MCP_LIST_COUNT == 4,
                   "the masks above are 1 << kind");
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        test_row(members[i].key);
        for (int kind = 0; kind < MCP_LIST_COUNT; kind++)
            check_member((enum mcp_list)kind, &members[i]);
    }
}

static void test_no_object(void) {
    for (int kind = 0; kind < MCP_LIST_COUNT; kind++) {
        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
            if (values[i].type != JSON_OBJECT)
                CHECK_PROBLEM((enum mcp_list)kind, values[i].text, "it is no object");
        }
        CHECK(check((enum mcp_list)kind, SLICE("{}"))[0] != '\0');
    }
}

static void test_tools(void) {
#define TOOL_WITH(members) "{\"name\":\"n\"," members "}"
#define INPUT              "\"inputSchema\":{\"type\":\"object\"}"
    static const struct {
        const char *item, *problem;
    } rows[] = {
        {TOOL_WITH(INPUT), ""},
        {TOOL_WITH("\"inputSchema\":{\"type\":\"obj\\u0065ct\",\"required\":[]}"), ""},
        {TOOL_WITH("\"inputSchema\":{}"), "its inputSchema does not have the type \"object\""},
        {TOOL_WITH("\"inputSchema\":{\"type\":\"string\"}"),
         "its inputSchema does not have the type \"object\""},
        {TOOL_WITH("\"inputSchema\":{\"type\":[\"object\"]}"),
         "its inputSchema does not have the type \"object\""},
        {TOOL_WITH("\"inputSchema\":{\"type\":null}"),
         "its inputSchema does not have the type \"object\""},
        {TOOL_WITH(INPUT ",\"outputSchema\":{}"),
         "its outputSchema does not have the type \"object\""},
        {TOOL_WITH(INPUT ",\"outputSchema\":{\"type\":\"array\"}"),
         "its outputSchema does not have the type \"object\""},
        {TOOL_WITH(INPUT ",\"outputSchema\":{\"type\":\"object\"}"), ""},
        {TOOL_WITH("\"input\\u0053chema\":{\"type\":\"object\"}"), ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].item);
        CHECK_PROBLEM(MCP_LIST_TOOLS, rows[i].item, rows[i].problem);
    }
}

static void test_prompts(void) {
    static const char bad[] = "one of its arguments is no object with a name";
    static const struct {
        const char *arguments, *problem;
    } rows[] = {
        {"{\"name\":\"a\"}", ""},
        {"{\"name\":\"a\"},{\"name\":\"a\",\"required\":true}", ""},
        {"{\"name\":\"\"}", ""},
        {"{}", bad},
        {"{\"name\":1}", bad},
        {"{\"name\":null}", bad},
        {"{\"name\":\"a\"},{\"title\":\"b\"}", bad},
        {"\"a\"", bad},
        {"null", bad},
        {"[]", bad},
        {"[{\"name\":\"a\"}]", bad},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf item CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i].arguments);
        buf_printf(&item, "{\"name\":\"p\",\"arguments\":[%s]}", rows[i].arguments);
        CHECK_STR(slice_from_cstr(check(MCP_LIST_PROMPTS, buf_slice(&item))), rows[i].problem);
    }
}

/* One level deeper: what the SDKs check as well, and refuse a whole list for. */
static void test_inner_members(void) {
    static const struct {
        const char *members;
        bool fits;
    } rows[] = {
        {"\"annotations\":{\"readOnlyHint\":true,\"title\":\"t\",\"other\":1}", true},
        {"\"annotations\":{\"readOnlyHint\":\"true\"}", false},
        {"\"annotations\":{\"title\":1}", false},
        {"\"annotations\":{\"openWorldHint\":null}", false},
        {"\"icons\":[]", true},
        {"\"icons\":[{\"src\":\"https://h/i\",\"sizes\":[\"48x48\"]}]", true},
        {"\"icons\":[{}]", false},
        {"\"icons\":[{\"src\":\"https://h/i\"},1]", false},
        {"\"icons\":[{\"src\":\"https://h/i\",\"sizes\":[1]}]", false},
        {"\"icons\":[{\"src\":\"https://h/i\",\"sizes\":\"48x48\"}]", false},
        {"\"execution\":{}", true},
        {"\"execution\":{\"taskSupport\":\"optional\"}", true},
        {"\"execution\":{\"taskSupport\":\"sometimes\"}", false},
        {"\"execution\":{\"taskSupport\":true}", false},
        {"\"outputSchema\":{\"type\":\"object\",\"required\":[\"a\"]}", true},
        {"\"outputSchema\":{\"type\":\"object\",\"required\":[1]}", false},
        {"\"outputSchema\":{\"type\":\"object\",\"required\":\"a\"}", false},
        {"\"outputSchema\":{\"type\":\"object\",\"properties\":[]}", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf item CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i].members);
        buf_printf(&item, "{\"name\":\"t\",\"inputSchema\":{\"type\":\"object\"},%s}",
                   rows[i].members);
        CHECK((check(MCP_LIST_TOOLS, buf_slice(&item))[0] == '\0') == rows[i].fits);
    }
}

static void test_uris(void) {
    static const char bad[] = "its uri has no scheme";
    static const struct {
        const char *uri, *problem;
    } rows[] = {
        {"file:///a", ""},
        {"a:", ""},
        {"git+ssh://h", ""},
        {"git\\u002bssh://h", ""}, /* as some writers escape the plus */
        {"x-y.z2:b", ""},
        {"HTTP://h", ""},
        {"http:\\/\\/h\\/p", ""},
        {"", bad},
        {":", bad},
        {"name", bad},
        {"/a:b", bad},
        {"2a:b", bad},
        {"+a:b", bad},
        {" a:b", bad},
        {"a b:c", bad},
        {"a_b:c", bad},
        {"\\u00e9:c", bad},
        {"a\\u0020b:c", bad},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf item CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i].uri);
        buf_printf(&item, "{\"name\":\"r\",\"uri\":\"%s\"}", rows[i].uri);
        CHECK_STR(slice_from_cstr(check(MCP_LIST_RESOURCES, buf_slice(&item))), rows[i].problem);
    }
}

static void test_templates(void) {
    static const char bad[] = "the braces of its uriTemplate do not match";
    static const struct {
        const char *text, *problem;
    } rows[] = {
        {"a:{b}", ""},
        {"a:{b}/{+c}", ""},
        {"", ""},
        {"a:b", ""},
        {"a:\\u007bb\\u007d", ""},
        {"a:{", bad},
        {"a:}", bad},
        {"a:}{", bad},
        {"a:{b", bad},
        {"a:{b}}", bad},
        {"a:{{b}}", bad},
        {"a:{b{c}", bad},
        {"a:\\u007bb", bad}, /* what clients see is a brace */
        {"a:{b}\\u007d", bad},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf item CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i].text);
        buf_printf(&item, "{\"name\":\"t\",\"uriTemplate\":\"%s\"}", rows[i].text);
        CHECK_STR(slice_from_cstr(check(MCP_LIST_TEMPLATES, buf_slice(&item))), rows[i].problem);
    }
}

TEST_MAIN(TEST(test_every_member), TEST(test_no_object), TEST(test_tools), TEST(test_prompts),
          TEST(test_inner_members), TEST(test_uris), TEST(test_templates))
