/* Parameters, errors and definitions of tools between the revisions. */
#include <errno.h>
#include <limits.h>

#include "bridge_support.h"

#define VERS     "\"" P "protocolVersion\":\"2026-07-28\""
#define CAPS(c)  "\"" P "clientCapabilities\":" c
#define INFO(i)  "\"" P "clientInfo\":" i
#define LOG(l)   "\"" P "logLevel\":\"" l "\""
#define STAMP    VERS "," CAPS("{}") "," INFO(GATEWAY)
#define ENVELOPE VERS "," CAPS("{}")

/* --- parameters --- */

struct params_row {
    const char *name;
    enum mcp_revision from, to;
    const char *params;   /* NULL: none */
    const char *expected; /* NULL: nothing */
    const char *rename;   /* the value of name takes this one */
    const char *token;
    int log_level; /* one more than the level */
    bool declare_nothing;
    bool no_gateway;
    const char *extensions, *experimental; /* of a session */
};

static int bridge_row(struct buf *out, struct json_reader *reader, const struct params_row *row,
                      struct slice document) {
    struct mcp_message message;
    struct mcp_refusal refusal;
    int r = mcp_message_read(reader, document, &message, &refusal);
    if (r != 0)
        return r;
    struct mcp_params_edit edit = {
        .from = row->from,
        .to = row->to,
        .token = slice_from_cstr(row->token),
        .log_level = row->log_level - 1,
        .declare_nothing = row->declare_nothing,
        .more = {slice_from_cstr(row->extensions), slice_from_cstr(row->experimental)},
        .gateway = row->no_gateway ? NULL : &gateway,
    };
    if (row->rename != NULL) {
        edit.name_span = mcp_param(reader, &message, SLICE("name"), JSON_STRING)->raw;
        edit.name = slice_from_cstr(row->rename);
    }
    return mcp_bridge_params(out, reader, &message, &edit);
}

static void append_request(struct buf *out, const char *params) {
    buf_append_cstr(out, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"");
    if (params != NULL) {
        buf_append_cstr(out, ",\"params\":");
        buf_append_cstr(out, params);
    }
    buf_append_cstr(out, "}");
}

static const struct params_row params_rows[] = {
    /* legacy to legacy */
    {"nothing to do", L4, L2, "{ \"a\" : 1.50 , \"b\":[ ] }",
     .expected = "{ \"a\" : 1.50 , \"b\":[ ] }"},
    {"no params", L4, L4, NULL, .expected = NULL},
    {"name", L4, L4, "{\"name\" :\"up__a\",\"arguments\":{ }}",
     "{\"name\" :\"a \\\"b\\\"\",\"arguments\":{ }}", .rename = "a \"b\""},
    {"token", L4, L4, "{\"_meta\":{\"progressToken\": \"t\" ,\"x\":1}}",
     "{\"_meta\":{\"progressToken\": 17 ,\"x\":1}}", .token = "17"},
    {"no token to replace", L4, L4, "{\"_meta\":{\"x\":1}}", "{\"_meta\":{\"x\":1}}",
     .token = "17"},
    {"token stays without another", L4, L4, "{\"_meta\":{\"progressToken\":1}}",
     .expected = "{\"_meta\":{\"progressToken\":1}}"},
    {"token behind the name", L4, L4, "{\"name\":\"x\",\"_meta\":{\"progressToken\":1}}",
     "{\"name\":\"y\",\"_meta\":{\"progressToken\":2}}", .rename = "y", .token = "2"},
    {"token in front of the name", L4, L4, "{\"_meta\":{\"progressToken\":1},\"name\":\"x\"}",
     "{\"_meta\":{\"progressToken\":2},\"name\":\"y\"}", .rename = "y", .token = "2"},
    {"a legacy log level is not stamped", L4, L4, "{\"_meta\":{}}", "{\"_meta\":{}}",
     .log_level = 3},
    {"what a legacy client calls so", L4, L4, "{\"_meta\":{" LOG("error") "},\"requestState\":1}",
     .expected = "{\"_meta\":{" LOG("error") "},\"requestState\":1}"},
    /* legacy to modern */
    {"stamp on nothing", L4, MODERN, NULL, .expected = "{\"_meta\":{" STAMP "}}"},
    {"stamp without a gateway", L4, MODERN, NULL, "{\"_meta\":{" ENVELOPE "}}", .no_gateway = true},
    {"stamp on empty params", L1, MODERN, "{}", .expected = "{\"_meta\":{" STAMP "}}"},
    {"stamp on empty params with space", L1, MODERN, "{ \n }",
     .expected = "{\"_meta\":{" STAMP "} \n }"},
    {"stamp on params", L3, MODERN, "{ \"cursor\" : \"\" }",
     .expected = "{\"_meta\":{" STAMP "}, \"cursor\" : \"\" }"},
    {"stamp on empty _meta", L3, MODERN, "{\"_meta\":{ }}", .expected = "{\"_meta\":{" STAMP " }}"},
    {"stamp on _meta", L3, MODERN, "{\"_meta\":{ \"progressToken\":\"a\"},\"name\":\"x\"}",
     "{\"_meta\":{" STAMP ", \"progressToken\":9},\"name\":\"y\"}", .rename = "y", .token = "9"},
    {"log level", L4, MODERN, "{}", "{\"_meta\":{" STAMP "," LOG("notice") "}}", .log_level = 3},
    {"lowest log level", L4, MODERN, "{\"_meta\":{\"a\":1}}",
     "{\"_meta\":{" STAMP "," LOG("debug") ",\"a\":1}}", .log_level = 1},
    {"a legacy client's own capabilities are replaced", L4, MODERN,
     "{\"_meta\":{" CAPS("{\"sampling\":{}}") ",\"a\":1," LOG("debug") "}}",
     .expected = "{\"_meta\":{" STAMP ",\"a\":1}}"},
    {"a legacy client's whole envelope is replaced", L4, MODERN,
     "{\"_meta\":{ " CAPS("{\"roots\":{}}") " , " VERS " ," INFO("{}") "}}",
     .expected = "{\"_meta\":{" STAMP " }}"},
    {"answers that nobody asked for", L4, MODERN,
     "{\"inputResponses\":{},\"name\":\"x\",\"requestState\":\"s\"}",
     .expected = "{\"_meta\":{" STAMP "},\"name\":\"x\"}"},
    {"only answers", L4, MODERN, "{\"inputResponses\":{} , \"requestState\":\"s\"}",
     .expected = "{\"_meta\":{" STAMP "}}"},
    /* modern to legacy */
    {"envelope goes", MODERN, L4, "{\"_meta\":{" ENVELOPE "}}", .expected = "{\"_meta\":{}}"},
    {"all of it goes", MODERN, L1,
     "{ \"name\":\"x\", \"_meta\" : { " INFO("{\"name\":\"c\"}") " , " LOG(
         "info") " , " VERS " ,\"traceparent\":\"00-1\", " CAPS("{ }") " } }",
     .expected = "{ \"name\":\"x\", \"_meta\" : { \"traceparent\":\"00-1\" } }"},
    {"first and last go", MODERN, L4,
     "{\"_meta\":{" VERS ", \"a\":{\"progressToken\":1}, \"progressToken\":\"q\", " CAPS("{}") "}}",
     "{\"_meta\":{\"a\":{\"progressToken\":1}, \"progressToken\":5}}", .token = "5"},
    {"space inside stays", MODERN, L4, "{\"_meta\":{ " VERS " , " CAPS("{}") " \n}}",
     .expected = "{\"_meta\":{  \n}}"},
    {"no params to legacy", MODERN, L4, NULL, .expected = NULL},
    {"retry goes", MODERN, L4,
     "{\"requestState\":\"\",\"inputResponses\":{},\"name\":\"x\",\"_meta\":{" ENVELOPE "}}",
     "{\"name\":\"y\",\"_meta\":{}}", .rename = "y"},
    {"no log level to legacy", MODERN, L4, "{\"_meta\":{" ENVELOPE "}}", "{\"_meta\":{}}",
     .log_level = 2},
    /* modern to modern */
    {"nothing to do, modern", MODERN, MODERN,
     "{\"_meta\":{" ENVELOPE "," INFO("{\"name\":\"c\"}") "},\"requestState\":\"s\"}",
     .expected = "{\"_meta\":{" ENVELOPE "," INFO("{\"name\":\"c\"}") "},\"requestState\":\"s\"}"},
    {"who the client is", MODERN, MODERN, "{\"_meta\":{" ENVELOPE "}}",
     .expected = "{\"_meta\":{" INFO(GATEWAY) "," ENVELOPE "}}"},
    {"nobody says who the client is", MODERN, MODERN, "{\"_meta\":{" ENVELOPE "}}",
     "{\"_meta\":{" ENVELOPE "}}", .no_gateway = true},
    {"capabilities without tasks", MODERN, MODERN,
     "{\"_meta\":{" CAPS("{\"tasks\":{},\"elicitation\":{ \"url\":{}},\"x\":1, \"y\":2 , "
                         "\"roots\":{},\"extensions\":{} }") "," VERS "}}",
     "{\"_meta\":{" CAPS("{\"elicitation\":{ \"url\":{}},\"x\":1, \"y\":2 , "
                         "\"roots\":{},\"extensions\":{} }") "," VERS "}}",
     .no_gateway = true},
    {"extensions, tasks among them, and experiments", MODERN, MODERN,
     "{\"_meta\":{" CAPS("{\"extensions\":{\"a/b\":{\"c\":1},"
                         "\"io.modelcontextprotocol\\/tasks\":{} ,\"d/e\":{}},"
                         "\"experimental\":{\"x\":{}}}") "," VERS "}}",
     "{\"_meta\":{" CAPS("{\"extensions\":{\"a/b\":{\"c\":1},"
                         "\"io.modelcontextprotocol\\/tasks\":{} ,\"d/e\":{}},"
                         "\"experimental\":{\"x\":{}}}") "," VERS "}}",
     .no_gateway = true},
    {"nothing is left of capabilities", MODERN, MODERN,
     "{\"_meta\":{" CAPS("{ \"tasks\":{} }") "," VERS "}}",
     "{\"_meta\":{" CAPS("{  }") "," VERS "}}", .no_gateway = true},
    {"a session's extensions and experiments", L4, MODERN, "{}",
     "{\"_meta\":{" VERS
     "," CAPS("{\"extensions\":{\"a/b\":{}},\"experimental\":{\"x\":1}}") "," INFO(GATEWAY) "}}",
     .extensions = "{\"a/b\":{}}", .experimental = "{\"x\":1}"},
    {"nothing is declared, whatever a session has", L4, MODERN, "{}", "{\"_meta\":{" STAMP "}}",
     .extensions = "{\"a/b\":{}}", .declare_nothing = true},
    {"all capabilities that are relayed", MODERN, MODERN,
     "{\"_meta\":{" CAPS("{\"sampling\":{\"tools\":{}},\"roots\":{},\"elicitation\":{}}") "," VERS
                                                                                          "}}",
     "{\"_meta\":{" CAPS("{\"sampling\":{\"tools\":{}},\"roots\":{},\"elicitation\":{}}") "," VERS
                                                                                          "}}",
     .no_gateway = true},
    {"nothing is declared", MODERN, MODERN, "{\"_meta\":{" CAPS("{\"sampling\":{}}") "," VERS "}}",
     "{\"_meta\":{" CAPS("{}") "," VERS "}}", .declare_nothing = true, .no_gateway = true},
    {"own log level is kept", MODERN, MODERN, "{\"_meta\":{" ENVELOPE "," LOG("alert") "}}",
     "{\"_meta\":{" ENVELOPE "," LOG("alert") "}}", .log_level = 1, .no_gateway = true},
    {"log level of a client without", MODERN, MODERN, "{\"_meta\":{" ENVELOPE "}}",
     "{\"_meta\":{" LOG("debug") "," ENVELOPE "}}", .log_level = 1, .no_gateway = true},
    {"name and token, modern", MODERN, MODERN,
     "{\"_meta\":{\"progressToken\":1.5e0," ENVELOPE "},\"name\":\"x\"}",
     "{\"_meta\":{\"progressToken\":\"q\"," ENVELOPE "},\"name\":\"y\"}", .rename = "y",
     .token = "\"q\"", .no_gateway = true},
};

static void test_params(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(params_rows); i++) {
        const struct params_row *row = &params_rows[i];
        struct buf document CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
        test_row(row->name);
        append_request(&document, row->params);
        CLEANUP(mem_freep) char *exact = exact_copy(buf_slice(&document));
        CHECK_INT(bridge_row(&out, reader, row, slice_make(exact, buf_len(&document))), 0);
        CHECK_STR(buf_slice(&out), row->expected != NULL ? row->expected : "");
        if (row->expected != NULL)
            check_json(buf_slice(&out));
        buf_deinit(&out);
        out.max = row->expected != NULL ? strlen(row->expected) - 1 : 0;
        if (row->expected != NULL)
            CHECK_INT(bridge_row(&out, reader, row, slice_make(exact, buf_len(&document))), -E2BIG);
    }
}

/* What is bridged to the other era is read there without a refusal, and has an envelope or none. */
static void test_params_are_taken(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(params_rows); i++) {
        const struct params_row *row = &params_rows[i];
        struct buf document CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
        struct mcp_message message;
        struct mcp_refusal refusal;
        struct mcp_envelope envelope;
        const char *reason = "";
        test_row(row->name);
        append_request(&document, row->params);
        CHECK_INT(bridge_row(&out, reader, row, buf_slice(&document)), 0);
        buf_reset(&document, KIB(8));
        buf_append_byte(&out, '\0');
        append_request(&document, row->expected != NULL ? buf_slice(&out).ptr : NULL);
        REQUIRE(mcp_message_read(reader, buf_slice(&document), &message, &refusal) == 0);
        CHECK_INT(mcp_has_envelope(reader, &message), mcp_revision_is_modern(row->to));
        CHECK_INT(mcp_envelope_read(reader, &message, &envelope, &reason),
                  mcp_revision_is_modern(row->to) ? 0 : MCP_E_REFUSED);
    }
}

/* Ten thousand keys around the few that matter. */
static void test_large_params(void) {
    static const struct params_row rows[] = {
        {"to modern", L4, MODERN, NULL, NULL, .rename = "y", .token = "2"},
        {"to legacy", MODERN, L4, NULL, NULL, .rename = "y", .token = "2"},
        {"modern", MODERN, MODERN, NULL, NULL, .rename = "y", .token = "2"},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(MIB(4));
    buf_append_cstr(&params, "{\"name\":\"x\",\"_meta\":{" CAPS("{\"a\":1"));
    for (int i = 0; i < 9000; i++)
        buf_printf(&params, ",\"c%d\":{}", i);
    buf_append_cstr(&params, "}," VERS);
    for (int i = 0; i < 9000; i++)
        buf_printf(&params, ",\"m%d\":[]", i);
    buf_append_cstr(&params, ",\"progressToken\":1}");
    for (int i = 0; i < 9000; i++)
        buf_printf(&params, ",\"p%d\":{}", i);
    buf_append_byte(&params, '}');
    buf_append_byte(&params, '\0');
    REQUIRE(buf_error(&params) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf document CLEANUP(buf_deinit) = BUF_INIT(MIB(4));
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(4));
        test_row(rows[i].name);
        append_request(&document, buf_slice(&params).ptr);
        CHECK_INT(bridge_row(&out, reader, &rows[i], buf_slice(&document)), 0);
        check_json(buf_slice(&out));
        struct slice text = buf_slice(&out);
        CHECK((slice_find(text, SLICE("\"c8999\"")) != SIZE_MAX) ==
              (mcp_revision_is_modern(rows[i].from) && mcp_revision_is_modern(rows[i].to)));
        CHECK(slice_find(text, SLICE("\"m8999\":[],\"progressToken\":2}")) != SIZE_MAX);
        CHECK(slice_ends_with(text, SLICE("\"p8999\":{}}")));
    }
}

/* --- requests of servers --- */

static void test_asks(void) {
    static const struct {
        const char *name;
        enum mcp_method method;
        const char *params, *modern, *legacy; /* NULL: as it is */
        int error;
    } rows[] = {
        {"none", MCP_ROOTS_LIST, "", NULL, NULL, 0},
        {"a form", MCP_ELICITATION_CREATE, "{\"mode\":\"form\",\"x\":1}", NULL, NULL, 0},
        {"by URL", MCP_ELICITATION_CREATE, "{ \"mode\":\"url\",\"url\":\"u\"}", NULL,
         "{\"elicitationId\":\"new\", \"mode\":\"url\",\"url\":\"u\"}", 0},
        {"by URL, with its id", MCP_ELICITATION_CREATE,
         "{\"mode\":\"url\", \"elicitat\\u0069onId\":\"e\",\"url\":\"u\"}",
         "{\"mode\":\"url\",\"url\":\"u\"}", NULL, 0},
        {"nothing but an id", MCP_ELICITATION_CREATE, "{\"elicitationId\":0}", "{}", NULL, 0},
        {"a member of that name elsewhere", MCP_SAMPLING_CREATE_MESSAGE,
         "{\"elicitationId\":0,\"mode\":\"url\",\"metadata\":{\"progressToken\":1}}", NULL, NULL,
         0},
        {"a token", MCP_SAMPLING_CREATE_MESSAGE,
         "{\"_meta\":{\"a/b\":1,\"progressToken\":\"\"},\"progressToken\":1}",
         "{\"_meta\":{\"a/b\":1},\"progressToken\":1}", NULL, 0},
        {"a token and an id", MCP_ELICITATION_CREATE,
         "{\"_meta\":{ \"progressToken\":0},\"elicitationId\":\"e\",\"mode\":\"url\"}",
         "{\"_meta\":{ },\"mode\":\"url\"}", NULL, 0},
        {"_meta that is none", MCP_ROOTS_LIST, "{\"_meta\":[1]}", NULL, NULL, 0},
        {"no object", MCP_ROOTS_LIST, "[]", NULL, NULL, MCP_E_REFUSED},
        {"no JSON", MCP_ROOTS_LIST, "{", NULL, NULL, MCP_E_REFUSED},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice params = slice_from_cstr(rows[i].params);
        struct buf modern CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        struct buf legacy CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        bool is_read = rows[i].error == 0;
        test_row(rows[i].name);
        CHECK_INT(mcp_bridge_ask_to_modern(&modern, reader, rows[i].method, params), rows[i].error);
        CHECK_INT(mcp_bridge_ask_to_legacy(&legacy, reader, rows[i].method, params, SLICE("new")),
                  rows[i].error);
        CHECK_STR(buf_slice(&modern), !is_read                 ? ""
                                      : rows[i].modern != NULL ? rows[i].modern
                                                               : rows[i].params);
        CHECK_STR(buf_slice(&legacy), !is_read                 ? ""
                                      : rows[i].legacy != NULL ? rows[i].legacy
                                                               : rows[i].params);
    }
    struct buf small CLEANUP(buf_deinit) = BUF_INIT(8);
    CHECK_INT(mcp_bridge_ask_to_modern(&small, reader, MCP_ROOTS_LIST, SLICE("{\"abc\":12345}")),
              -E2BIG);
}

/* --- errors --- */

static void test_errors(void) {
    static const struct {
        const char *name;
        enum mcp_revision from, to;
        enum mcp_method method;
        const char *error, *uri, *expected; /* NULL: as it is */
        int code;
    } rows[] = {
        {"as it is", L4, L2, MCP_TOOLS_CALL, "{\"code\":-32042 ,\"message\":\"m\"}", "", NULL,
         -32042},
        {"as it is, modern", MODERN, MODERN, MCP_RESOURCES_READ,
         "{\"code\":-32021,\"message\":\"\",\"data\":{}}", "\"u\"", NULL, -32021},
        {"invalid params to modern", L4, MODERN, MCP_TOOLS_CALL,
         "{ \"message\":\"m\", \"code\":-32602}", "\"u\"", NULL, -32602},
        {"invalid params to legacy", MODERN, L4, MCP_TOOLS_CALL,
         "{\"code\":-32602,\"message\":\"m\",\"data\":{\"uri\":\"u\"}}", "", NULL, -32602},
        {"no uri, to legacy", MODERN, L4, MCP_RESOURCES_READ,
         "{\"code\":-32602,\"message\":\"m\",\"data\":{\"url\":\"u\"}}", "\"u\"", NULL, -32602},
        {"uri is no text", MODERN, L4, MCP_RESOURCES_READ,
         "{\"code\":-32602,\"message\":\"m\",\"data\":{\"uri\":1}}", "\"u\"", NULL, -32602},
        {"not found, to legacy", MODERN, L4, MCP_RESOURCES_READ,
         "{\"code\":-32602,\"message\":\"m\",\"data\":{\"uri\":\"u\"}}", "",
         "{\"code\":-32002,\"message\":\"m\",\"data\":{\"uri\":\"u\"}}", -32002},
        {"not found, code behind", MODERN, L1, MCP_RESOURCES_READ,
         "{\"data\":{\"ur\\u0069\":\"u\"} , \"message\":\"m\",\"code\" : -32602 }", "",
         "{\"data\":{\"ur\\u0069\":\"u\"} , \"message\":\"m\",\"code\" : -32002 }", -32002},
        {"not found, to modern", L4, MODERN, MCP_RESOURCES_READ,
         "{\"code\":-32002,\"message\":\"m\",\"data\":{ \"uri\":\"v\"}}", "\"u\"",
         "{\"code\":-32602,\"message\":\"m\",\"data\":{ \"uri\":\"v\"}}", -32602},
        {"not found, without data", L4, MODERN, MCP_RESOURCES_READ,
         "{\"code\":-32002,\"message\":\"m\"}", "\"a\\u0062\"",
         "{\"data\":{\"uri\":\"a\\u0062\"},\"code\":-32602,\"message\":\"m\"}", -32602},
        {"not found, null", L4, MODERN, MCP_RESOURCES_READ,
         "{\"code\":-32002,\"message\":\"m\",\"data\":null}", "\"u\"",
         "{\"code\":-32602,\"message\":\"m\",\"data\":{\"uri\":\"u\"}}", -32602},
        {"not found, other data", L4, MODERN, MCP_RESOURCES_READ,
         "{\"data\":{\"a\":[1]},\"code\":-32002,\"message\":\"m\"}", "\"u\"",
         "{\"data\":{\"uri\":\"u\",\"a\":[1]},\"code\":-32602,\"message\":\"m\"}", -32602},
        {"not found, empty data", L4, MODERN, MCP_RESOURCES_READ,
         "{\"data\":{},\"code\":-32002,\"message\":\"m\"}", "\"u\"",
         "{\"data\":{\"uri\":\"u\"},\"code\":-32602,\"message\":\"m\"}", -32602},
        {"not found, uri is no text", L4, MODERN, MCP_RESOURCES_READ,
         "{\"data\":{\"uri\":[],\"a\":1},\"code\":-32002,\"message\":\"m\"}", "\"u\"",
         "{\"data\":{\"uri\":\"u\",\"a\":1},\"code\":-32602,\"message\":\"m\"}", -32602},
        {"not found, data is text", L4, MODERN, MCP_RESOURCES_READ,
         "{\"data\":\"x\",\"code\":-32002,\"message\":\"m\"}", "\"u\"",
         "{\"data\":\"x\",\"code\":-32602,\"message\":\"m\"}", -32602},
        {"not found, nothing was read", L4, MODERN, MCP_PROMPTS_GET,
         "{\"code\":-32002,\"message\":\"m\"}", "", "{\"code\":-32602,\"message\":\"m\"}", -32602},
        {"header mismatch, to legacy", MODERN, L4, MCP_TOOLS_CALL,
         "{\"code\":-32020,\"message\":\"m\"}", "", "{\"code\":-32603,\"message\":\"m\"}", -32603},
        {"capability, to legacy", MODERN, L4, MCP_TOOLS_CALL,
         "{\"code\":-32021,\"message\":\"m\",\"data\":{\"requiredCapabilities\":{}}}", "",
         "{\"code\":-32603,\"message\":\"m\",\"data\":{\"requiredCapabilities\":{}}}", -32603},
        {"version, to legacy", MODERN, L2, MCP_TOOLS_CALL, "{\"code\":-32022,\"message\":\"m\"}",
         "", "{\"code\":-32603,\"message\":\"m\"}", -32603},
        {"URL elicitation, to legacy", MODERN, L4, MCP_TOOLS_CALL,
         "{\"code\":-32042,\"message\":\"m\"}", "", "{\"code\":-32603,\"message\":\"m\"}", -32603},
        {"others of the range, to legacy", MODERN, L4, MCP_TOOLS_CALL,
         "{\"code\":-32050,\"message\":\"m\"}", "", NULL, -32050},
        {"URL elicitation, to modern", L4, MODERN, MCP_TOOLS_CALL,
         "{\"code\":-32042,\"message\":\"m\",\"data\":{}}", "",
         "{\"code\":-32603,\"message\":\"m\",\"data\":{}}", -32603},
        {"first of the range, to modern", L4, MODERN, MCP_TOOLS_CALL,
         "{\"code\":-32020,\"message\":\"m\"}", "", "{\"code\":-32603,\"message\":\"m\"}", -32603},
        {"last of the range, to modern", L4, MODERN, MCP_TOOLS_CALL,
         "{\"code\":-32099,\"message\":\"m\"}", "", "{\"code\":-32603,\"message\":\"m\"}", -32603},
        {"in front of the range", L4, MODERN, MCP_TOOLS_CALL, "{\"code\":-32019,\"message\":\"m\"}",
         "", NULL, -32019},
        {"behind the range", L4, MODERN, MCP_TOOLS_CALL, "{\"code\":-32100,\"message\":\"m\"}", "",
         NULL, -32100},
        {"code with an escape", MODERN, L4, MCP_TOOLS_CALL,
         "{\"cod\\u0065\":-32020,\"message\":\"m\"}", "",
         "{\"cod\\u0065\":-32603,\"message\":\"m\"}", -32603},
        {"a code past int", MODERN, L4, MCP_TOOLS_CALL,
         "{\"code\":9223372036854775807,\"message\":\"m\"}", "", NULL, INT_MAX},
        {"a code below int", L4, MODERN, MCP_TOOLS_CALL,
         "{\"code\":-9223372036854775808,\"message\":\"m\"}", "", NULL, INT_MIN},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        int code = 4711;
        test_row(rows[i].name);
        CLEANUP(mem_freep) char *exact = exact_copy(slice_from_cstr(rows[i].error));
        CHECK_INT(mcp_bridge_error(&out, reader, rows[i].method,
                                   slice_make(exact, strlen(rows[i].error)),
                                   slice_from_cstr(rows[i].uri), rows[i].from, rows[i].to, &code),
                  0);
        CHECK_STR(buf_slice(&out), rows[i].expected != NULL ? rows[i].expected : rows[i].error);
        CHECK_INT(code, rows[i].code);
        check_json(buf_slice(&out));
    }
}

static void test_errors_refused(void) {
    static const char *const rows[] = {"",
                                       "{}",
                                       "[]",
                                       "null",
                                       "{\"code\":\"1\"}",
                                       "{\"code\":1.0}",
                                       "{\"code\":1",
                                       "{1",
                                       "{\"code\":9223372036854775808}"};
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        int code = 4711;
        test_row(rows[i]);
        CHECK_INT(mcp_bridge_error(&out, reader, MCP_TOOLS_CALL, slice_from_cstr(rows[i]),
                                   SLICE_EMPTY, L4, MODERN, &code),
                  MCP_E_REFUSED);
        CHECK_INT(code, 4711);
        CHECK_INT(buf_len(&out), 0);
    }
}

/* --- tools --- */

#define T(schema) "{\"name\":\"t\", \"outputSchema\" : " schema " ,\"inputSchema\":{}}"
#define OTHER(inner)                                                                               \
    "{\"type\":\"object\",\"properties\":{\"result\":" inner "},\"required\":[\"result\"]}"
#define OPEN(inner)                                                                                \
    "{\"type\":\"object\",\"anyOf\":[" inner ",{\"properties\":{\"result\":{\"$ref\":\"#/anyOf/"   \
    "0\"}},\"required\":[\"result\"]}]}"

static void test_tools(void) {
    static const struct {
        const char *name;
        enum mcp_revision from, to;
        const char *tool, *expected; /* NULL: not changed */
    } rows[] = {
        {"legacy", L4, L1, "{\"name\":\"t\",\"execution\":{}}", NULL},
        {"modern", MODERN, MODERN, T("{\"type\":\"array\"}"), NULL},
        {"nothing to take out", L4, MODERN, "{\"name\":\"t\",\"x\":{\"execution\":{}}}", NULL},
        {"execution", L4, MODERN, "{\"name\":\"t\", \"execution\" : {\"a\":1} , \"z\":1}",
         "{\"name\":\"t\" , \"z\":1}"},
        {"execution first", L4, MODERN, "{ \"execution\":{},\"name\":\"t\"}", "{ \"name\":\"t\"}"},
        {"execution last", L4, MODERN, "{\"name\":\"t\",\"execution\":null }", "{\"name\":\"t\" }"},
        {"execution alone", L4, MODERN, "{\"execution\":{}}", "{}"},
        {"execution with an escape", L4, MODERN, "{\"executi\\u006fn\":{},\"a\":1}", "{\"a\":1}"},
        {"execution stays in front of legacy", MODERN, L4, "{\"execution\":{}}", NULL},
        {"array schemas stay as they are, to modern", L4, MODERN, T("{\"type\":\"array\"}"), NULL},
        {"no schema", MODERN, L4, "{\"name\":\"t\"}", NULL},
        {"object", MODERN, L4, T("{\"type\":\"object\"}"), NULL},
        {"object with an escape", MODERN, L4, T("{\"typ\\u0065\":\"\\u006fbject\"}"), NULL},
        {"null is no schema", MODERN, L4, T("null"), "{\"name\":\"t\" ,\"inputSchema\":{}}"},
        {"a number is no schema", MODERN, L4, T("1"), "{\"name\":\"t\" ,\"inputSchema\":{}}"},
        {"array", MODERN, L4, T("{ \"type\":\"array\", \"items\":{} }"),
         T(OTHER("{ \"type\":\"array\", \"items\":{} }"))},
        {"string", MODERN, L1, T("{\"type\":\"string\"}"), T(OTHER("{\"type\":\"string\"}"))},
        {"several types", MODERN, L4, T("{\"type\":[\"string\",\"null\"]}"),
         T(OTHER("{\"type\":[\"string\",\"null\"]}"))},
        {"several types and object", MODERN, L4, T("{\"type\":[\"null\",\"object\"]}"),
         T(OPEN("{\"type\":[\"null\",\"object\"]}"))},
        {"no type", MODERN, L4, T("{\"properties\":{}}"), T(OPEN("{\"properties\":{}}"))},
        {"empty", MODERN, L4, T("{}"), T(OPEN("{}"))},
        {"true", MODERN, L4, T("true"), T(OPEN("true"))},
        {"false", MODERN, L4, T("false"), T(OPEN("false"))},
        {"references", MODERN, L4,
         T("{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/a\"},\"$defs\":{\"a\":{\"anyOf\":[{"
           "\"$ref\":\"#\"},{\"$ref\":\"#anchor\"},{\"$ref\":\"x#/a\"},{\"$dynamicRef\":\"#/b\"},{"
           "\"$ref\":\"\"}]}}}"),
         T(OTHER("{\"type\":\"array\",\"items\":{\"$ref\":\"#/properties/result/$defs/a\"},\"$defs"
                 "\":{\"a\":{\"anyOf\":[{\"$ref\":\"#/properties/result\"},{\"$ref\":\"#anchor\"},"
                 "{\"$ref\":\"x#/a\"},{\"$dynamicRef\":\"#/properties/result/b\"},{\"$ref\":\"\"}]"
                 "}}}"))},
        {"references in open schemas", MODERN, L4,
         T("{\"oneOf\":[{\"$ref\":\"#/$defs/a\"},{\"type\":\"null\"}],\"$defs\":{\"a\":{}}}"),
         T(OPEN("{\"oneOf\":[{\"$ref\":\"#/anyOf/0/$defs/a\"},{\"type\":\"null\"}],\"$defs\":{"
                "\"a\":{}}}"))},
        {"references with escapes", MODERN, L4,
         T("{\"type\":\"array\",\"items\":{\"$r\\u0065f\":\"\\u0023\\/a\"},\"not\":{\"$ref\":\"#"
           "\\u002fa\"}}"),
         T(OTHER("{\"type\":\"array\",\"items\":{\"$r\\u0065f\":\"\\u0023/properties/result\\/a\"},"
                 "\"not\":{\"$ref\":\"#/properties/result\\u002fa\"}}"))},
        {"what only looks like a reference", MODERN, L4,
         T("{\"type\":\"array\",\"const\":{\"$ref\":\"#\"},\"enum\":[{\"$ref\":\"#\"}],\"items\":{"
           "\"properties\":{\"$ref\":{\"title\":\"#\"},\"default\":{\"$ref\":\"#\"}}}}"),
         T(OTHER("{\"type\":\"array\",\"const\":{\"$ref\":\"#\"},\"enum\":[{\"$ref\":\"#\"}],"
                 "\"items\":{\"properties\":{\"$ref\":{\"title\":\"#\"},\"default\":{\"$ref\":\"#/"
                 "properties/result\"}}}}"))},
        {"a root of its own", MODERN, L4,
         T("{\"$schema\":\"s\",\"$id\":\"x:y\",\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}"),
         T("{\"$schema\":\"s\",\"type\":\"object\",\"properties\":{\"result\":{\"$schema\":\"s\","
           "\"$id\":\"x:y\",\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}},\"required\":["
           "\"result\"]}")},
        {"a part with a root of its own", MODERN, L4,
         T("{\"type\":\"array\",\"items\":{\"a\":{\"$ref\":\"#\"},\"$id\":\"x:y\"},\"not\":{"
           "\"$ref\":\"#\"}}"),
         T(OTHER("{\"type\":\"array\",\"items\":{\"a\":{\"$ref\":\"#\"},\"$id\":\"x:y\"},\"not\":{"
                 "\"$ref\":\"#/properties/result\"}}"))},
        {"an anchor of old", MODERN, L4,
         T("{\"type\":\"array\",\"items\":{\"$id\":\"#a\",\"not\":{\"$ref\":\"#\"}}}"),
         T(OTHER("{\"type\":\"array\",\"items\":{\"$id\":\"#a\",\"not\":{\"$ref\":\"#/properties/"
                 "result\"}}}"))},
        {"dialect", MODERN, L4, T("{\"type\":\"array\" , \"$schema\":\"s\"}"),
         T("{\"$schema\":\"s\",\"type\":\"object\",\"properties\":{\"result\":{\"type\":\"array\"}}"
           ",\"required\":[\"result\"]}")},
        {"dialect first", MODERN, L4, T("{\"$schema\":\"s\",\"type\":\"array\"}"),
         T("{\"$schema\":\"s\",\"type\":\"object\",\"properties\":{\"result\":{\"type\":\"array\"}}"
           ",\"required\":[\"result\"]}")},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        bool changed = rows[i].expected == NULL;
        test_row(rows[i].name);
        CLEANUP(mem_freep) char *exact = exact_copy(slice_from_cstr(rows[i].tool));
        struct slice tool = slice_make(exact, strlen(rows[i].tool));
        CHECK_INT(mcp_bridge_tool(&out, reader, tool, rows[i].from, rows[i].to, &changed), 0);
        CHECK_INT(changed, rows[i].expected != NULL);
        CHECK_STR(buf_slice(&out), rows[i].expected != NULL ? rows[i].expected : "");
        if (rows[i].expected != NULL)
            check_json(buf_slice(&out));
        check_json(tool);
        for (size_t cut = 0; cut < tool.len && rows[i].expected != NULL; cut++) {
            buf_reset(&out, 0);
            CHECK_INT(mcp_bridge_tool(&out, reader, slice_sub(tool, 0, cut), rows[i].from,
                                      rows[i].to, &changed),
                      MCP_E_REFUSED);
        }
    }
}

/* As deep as can be read, and ten thousand keys beside each other. */
static void test_large_tools(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct buf tool CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    bool changed = false;
    enum { DEEP = LIMIT_JSON_DEPTH - 2 };
    buf_append_cstr(&tool, "{\"outputSchema\":{\"type\":\"array\",\"not\":");
    for (int i = 0; i < DEEP - 1; i++)
        buf_append_cstr(&tool, "[");
    buf_append_cstr(&tool, "{\"$ref\":\"#/not\"}");
    for (int i = 0; i < DEEP - 1; i++)
        buf_append_cstr(&tool, "]");
    buf_append_cstr(&tool, "}}");
    check_json(buf_slice(&tool));
    CHECK_INT(mcp_bridge_tool(&out, reader, buf_slice(&tool), MODERN, L4, &changed), 0);
    CHECK(changed);
    CHECK(slice_find(buf_slice(&out), SLICE("\"#/properties/result/not\"")) != SIZE_MAX);
    buf_reset(&tool, MIB(1));
    buf_reset(&out, MIB(1));
    buf_append_cstr(&tool, "{\"outputSchema\":{\"properties\":{");
    for (int i = 0; i < 9999; i++)
        buf_printf(&tool, "%s\"p%d\":{\"$ref\":\"#\"}", i == 0 ? "" : ",", i);
    buf_append_cstr(&tool, "}}}");
    CHECK_INT(mcp_bridge_tool(&out, reader, buf_slice(&tool), MODERN, L4, &changed), 0);
    CHECK(slice_find(buf_slice(&out), SLICE("\"p9998\":{\"$ref\":\"#/anyOf/0\"}")) != SIZE_MAX);
    CHECK(slice_find(buf_slice(&out), SLICE("\"#\"")) == SIZE_MAX);
    check_json(buf_slice(&out));
}

/* --- memory --- */

static void torture_body(void *arg) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct buf document CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    int code = 4711;
    bool changed = false;
    (void)arg;
    int r = json_reader_new(&reader);
    append_request(&document, "{\"name\":\"x\",\"_meta\":{\"progressToken\":1}}");
    if (r != 0 || buf_error(&document) != 0)
        return;
    struct params_row row = {
        "", L4, MODERN, "", "", .rename = "\u00e9", .token = "7", .log_level = 1};
    r = bridge_row(&out, reader, &row, buf_slice(&document));
    CHECK(r == 0 || r == -ENOMEM);
    buf_deinit(&out);
    r = mcp_bridge_error(&out, reader, MCP_RESOURCES_READ,
                         SLICE("{\"code\":-32002,\"message\":\"m\"}"), SLICE("\"u\""), L4, MODERN,
                         &code);
    CHECK(r == 0 || r == -ENOMEM);
    CHECK_INT(code, r == 0 ? -32602 : 4711);
    buf_deinit(&out);
    r = mcp_bridge_tool(&out, reader,
                        SLICE(T("{\"$schema\":\"s\",\"type\":\"array\",\"not\":{\"$ref\":\"#\"}}")),
                        MODERN, L4, &changed);
    CHECK(r == 0 || r == -ENOMEM);
    CHECK_INT(changed, r == 0);
    if (r == 0)
        CHECK(slice_find(buf_slice(&out), SLICE("#/properties/result")) != SIZE_MAX);
}

static void test_out_of_memory(void) {
    test_torture(torture_body, NULL);
}

TEST_MAIN(TEST(test_params), TEST(test_params_are_taken), TEST(test_large_params), TEST(test_asks),
          TEST(test_errors), TEST(test_errors_refused), TEST(test_tools), TEST(test_large_tools),
          TEST(test_out_of_memory))
