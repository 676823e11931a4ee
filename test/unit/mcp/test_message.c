/*
 * JSON-RPC messages: the envelope, ids, keys that could be taken for others. Each document lies in
 * a block of exactly its size, and each that is accepted is refused when cut short anywhere.
 */
#include <errno.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "mcp/message.h"
#include "test.h"

static struct json_reader *new_reader(void) {
    struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0)
        CANNOT_GO_ON();
    return reader;
}

struct row {
    const char *name;
    struct slice document;
    const char *reason; /* a part of the refusal's sentence; NULL: accepted */
    enum mcp_error_code code;
    enum mcp_kind kind;
    enum mcp_method method;
    const char *id; /* of the message or the refusal; NULL: none */
};

#define PARSE(text)   .code = MCP_E_PARSE, .reason = (text)
#define REQUEST(text) .code = MCP_E_INVALID_REQUEST, .reason = (text)
#define DOC(text)     .document = SLICE_INIT(text)
#define V             "\"jsonrpc\":\"2.0\","
#define PING          V "\"method\":\"ping\""

static void check_message(const struct row *row, const struct mcp_message *message) {
    CHECK_INT(message->kind, row->kind);
    CHECK_INT(message->method, row->method);
    CHECK_STR(message->id, row->id != NULL ? row->id : "");
    bool is_call = message->kind == MCP_REQUEST || message->kind == MCP_NOTIFICATION;
    CHECK((message->method_text.len != 0) == is_call);
    CHECK((message->result.len != 0) == (message->kind == MCP_RESULT));
    CHECK((message->error.len != 0) == (message->kind == MCP_ERROR));
    CHECK(message->meta == NULL || message->params != NULL);
}

static void check_refusal(const struct row *row, const struct mcp_refusal *refusal) {
    CHECK_INT(refusal->code, row->code);
    CHECK_STR(refusal->id, row->id != NULL ? row->id : "");
    REQUIRE(refusal->reason != NULL);
    if (strstr(refusal->reason, row->reason) == NULL)
        CHECK_STR(slice_from_cstr(refusal->reason), row->reason);
}

static void check_rows(const struct row *rows, size_t n) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < n; i++) {
        test_row(rows[i].name);
        struct slice document = rows[i].document;
        CLEANUP(mem_freep) char *exact = mem_alloc(document.len);
        REQUIRE(exact != NULL);
        memcpy(exact, document.ptr, document.len);
        struct mcp_message message = {.kind = (enum mcp_kind)77}, untouched = message;
        struct mcp_refusal refusal = {.reason = "untouched"};
        int r = mcp_message_read(reader, slice_make(exact, document.len), &message, &refusal);
        CHECK_INT(r, rows[i].reason != NULL ? MCP_E_REFUSED : 0);
        if (r == 0) {
            check_message(&rows[i], &message);
            CHECK_STR(slice_from_cstr(refusal.reason), "untouched");
            for (size_t cut = 0; cut < document.len; cut++)
                CHECK_INT(mcp_message_read(reader, slice_make(exact, cut), &message, &refusal),
                          MCP_E_REFUSED);
        } else {
            check_refusal(&rows[i], &refusal);
            CHECK(memcmp(&message, &untouched, sizeof message) == 0);
        }
    }
}
#define CHECK_ROWS(rows) check_rows(rows, ARRAY_LEN(rows))

static void test_kinds(void) {
    static const struct row rows[] = {
        {"request", DOC("{" PING ",\"id\":1}"), .kind = MCP_REQUEST, .method = MCP_PING, .id = "1"},
        {"notification", DOC("{" V "\"method\":\"notifications/initialized\"}"),
         .kind = MCP_NOTIFICATION, .method = MCP_NOTIFY_INITIALIZED},
        {"slash escaped", DOC("{" V "\"id\":1,\"method\":\"tools\\/call\"}"), .kind = MCP_REQUEST,
         .method = MCP_TOOLS_CALL, .id = "1"},
        {"unknown method", DOC("{" V "\"id\":\"a\",\"method\":\"Ping\"}"), .kind = MCP_REQUEST,
         .id = "\"a\""},
        {"result", DOC("{" V "\"id\":1,\"result\":{}}"), .kind = MCP_RESULT, .id = "1"},
        {"error", DOC("{" V "\"id\":1,\"error\":{\"code\":-32601,\"message\":\"\"}}"),
         .kind = MCP_ERROR, .id = "1"},
        {"error of nobody", DOC("{" V "\"id\":null,\"error\":{\"code\":1,\"message\":\"m\"}}"),
         .kind = MCP_ERROR},
        {"error without id", DOC("{" V "\"error\":{\"code\":1,\"message\":\"m\",\"data\":[1]}}"),
         .kind = MCP_ERROR},
        {"other keys", DOC("{" PING ",\"id\":1,\"extra\":{\"a\":[]}}"), .kind = MCP_REQUEST,
         .method = MCP_PING, .id = "1"},
        {"empty params", DOC("{" PING ",\"id\":1,\"params\":{}}"), .kind = MCP_REQUEST,
         .method = MCP_PING, .id = "1"},
        {"empty _meta", DOC("{" PING ",\"id\":1,\"params\":{\"_meta\":{}}}"), .kind = MCP_REQUEST,
         .method = MCP_PING, .id = "1"},
        {"space around", DOC("{ " PING " }"), .kind = MCP_NOTIFICATION, .method = MCP_PING},
        {"not JSON", DOC("{" PING), PARSE("ends too early")},
        {"two documents", DOC("{" PING "}{}"), PARSE("")},
        {"byte order mark", DOC("\xef\xbb\xbf{" PING "}"), PARSE("")},
        {"invalid UTF-8", DOC("{" PING ",\"x\":\"\xff\"}"), PARSE("UTF-8")},
        {"duplicate key", DOC("{" PING ",\"id\":1,\"id\":2}"), PARSE("twice")},
        {"duplicate key, escaped", DOC("{" PING ",\"id\":1,\"\\u0069d\":2}"), PARSE("twice")},
        {"duplicate deep inside",
         DOC("{" PING ",\"params\":{\"arguments\":{\"a\":1,\"\\u0061\":2}}}"), PARSE("twice")},
        {"null", DOC("null"), REQUEST("must be a JSON object")},
        {"string", DOC("\"ping\""), REQUEST("must be a JSON object")},
        {"array", DOC("[{" PING "}]"), REQUEST("must be a JSON object")},
        {"empty object", DOC("{}"), REQUEST("jsonrpc")},
        {"only the version", DOC("{\"jsonrpc\":\"2.0\"}"), REQUEST("needs a method")},
        {"only an id", DOC("{" V "\"id\":1}"), REQUEST("needs a method"), .id = "1"},
        {"both answers",
         DOC("{" V "\"id\":1,\"result\":{},\"error\":{\"code\":1,\"message\":\"m\"}}"),
         REQUEST("both result and error"), .id = "1"},
        {"result and null error", DOC("{" V "\"id\":1,\"result\":{},\"error\":null}"),
         REQUEST("both result and error"), .id = "1"},
        {"method and result", DOC("{" PING ",\"id\":1,\"result\":{}}"),
         REQUEST("a method and an answer"), .id = "1"},
        {"method and error", DOC("{" PING ",\"id\":1,\"error\":null}"),
         REQUEST("a method and an answer"), .id = "1"},
    };
    CHECK_ROWS(rows);
}

static void test_members(void) {
    static const struct row rows[] = {
        {"no version", DOC("{\"method\":\"ping\",\"id\":5}"), REQUEST("jsonrpc"), .id = "5"},
        {"version 1.0", DOC("{\"jsonrpc\":\"1.0\",\"method\":\"ping\"}"), REQUEST("jsonrpc")},
        {"version as a number", DOC("{\"jsonrpc\":2.0,\"method\":\"ping\"}"), REQUEST("jsonrpc")},
        {"version escaped", DOC("{\"jsonrpc\":\"2\\u002e0\",\"method\":\"ping\"}"),
         REQUEST("jsonrpc")},
        {"version null", DOC("{\"jsonrpc\":null,\"method\":\"ping\"}"), REQUEST("jsonrpc")},
        {"method number", DOC("{" V "\"method\":1}"), REQUEST("must be a string")},
        {"method null", DOC("{" V "\"method\":null}"), REQUEST("must be a string")},
        {"method object", DOC("{" V "\"method\":{}}"), REQUEST("must be a string")},
        {"method empty", DOC("{" V "\"method\":\"\"}"), REQUEST("1 to 128")},
        {"method escaped", DOC("{" V "\"method\":\"p\\u0069ng\"}"), REQUEST("without escapes")},
        {"unknown method with a slash escaped", DOC("{" V "\"method\":\"tools\\/coll\"}"),
         REQUEST("without escapes")},
        {"method with two escapes", DOC("{" V "\"method\":\"tools\\/c\\u0061ll\"}"),
         REQUEST("without escapes")},
        {"params array", DOC("{" PING ",\"params\":[]}"), REQUEST("params must be an object")},
        {"params null", DOC("{" PING ",\"params\":null}"), REQUEST("params must be an object")},
        {"params string", DOC("{" PING ",\"params\":\"\"}"), REQUEST("params must be an object")},
        {"_meta array", DOC("{" PING ",\"params\":{\"_meta\":[]}}"), REQUEST("_meta must be")},
        {"_meta null", DOC("{" PING ",\"params\":{\"_meta\":null}}"), REQUEST("_meta must be")},
        {"_meta string", DOC("{" PING ",\"params\":{\"_meta\":\"{}\"}}"), REQUEST("_meta must be")},
        {"result null", DOC("{" V "\"id\":1,\"result\":null}"), REQUEST("result must be"),
         .id = "1"},
        {"result array", DOC("{" V "\"id\":1,\"result\":[]}"), REQUEST("result must be"),
         .id = "1"},
        {"result without id", DOC("{" V "\"result\":{}}"), REQUEST("needs an id")},
        {"result with null id", DOC("{" V "\"id\":null,\"result\":{}}"), REQUEST("id must be")},
        {"error null", DOC("{" V "\"id\":1,\"error\":null}"), REQUEST("integer code"), .id = "1"},
        {"error string", DOC("{" V "\"id\":1,\"error\":\"no\"}"), REQUEST("integer code"),
         .id = "1"},
        {"error without code", DOC("{" V "\"id\":1,\"error\":{\"message\":\"m\"}}"),
         REQUEST("integer code"), .id = "1"},
        {"error code string", DOC("{" V "\"id\":1,\"error\":{\"code\":\"1\",\"message\":\"m\"}}"),
         REQUEST("integer code"), .id = "1"},
        {"error code with a fraction",
         DOC("{" V "\"id\":1,\"error\":{\"code\":1.5,\"message\":\"m\"}}"), REQUEST("integer code"),
         .id = "1"},
        {"error code huge",
         DOC("{" V "\"id\":1,\"error\":{\"code\":9223372036854775808,\"message\":\"m\"}}"),
         REQUEST("integer code"), .id = "1"},
        {"error without message", DOC("{" V "\"id\":1,\"error\":{\"code\":1}}"),
         REQUEST("a message"), .id = "1"},
        {"error message number", DOC("{" V "\"id\":1,\"error\":{\"code\":1,\"message\":1}}"),
         REQUEST("a message"), .id = "1"},
    };
    CHECK_ROWS(rows);
}

static void test_ids(void) {
    static const struct {
        const char *id;
        bool is_valid;
    } rows[] = {
        {"0", true},
        {"-1", true},
        {"\"\"", true},
        {"\"1\"", true},
        {"\"\\u0031\"", true},
        {"\"\\u0000\"", true},
        {"\"\u00e9\"", true},
        {"9007199254740993", true},
        {"123456789012345678901234567890", true},
        {"-123456789012345678901234567890", true},
        {"1.0", false},
        {"0.5", false},
        {"1e3", false},
        {"1E3", false},
        {"-1e-3", false},
        {"null", false},
        {"true", false},
        {"false", false},
        {"{}", false},
        {"[]", false},
        {"[1]", false},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf document CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        struct mcp_message message = {0};
        struct mcp_refusal refusal = {0};
        test_row(rows[i].id);
        buf_printf(&document, "{" PING ",\"id\":%s}", rows[i].id);
        int r = mcp_message_read(reader, buf_slice(&document), &message, &refusal);
        CHECK_INT(r, rows[i].is_valid ? 0 : MCP_E_REFUSED);
        CHECK_STR(message.id, rows[i].is_valid ? rows[i].id : "");
        CHECK_INT(refusal.code, rows[i].is_valid ? 0 : MCP_E_INVALID_REQUEST);
        CHECK_INT(refusal.id.len, 0);
    }
}

/* `n` times `fill` between `before` and `behind`, read as a message. */
static int read_filled(const char *before, char fill, size_t n, const char *behind) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct buf document CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    struct mcp_message message;
    struct mcp_refusal refusal;
    buf_append_cstr(&document, before);
    for (size_t i = 0; i < n; i++)
        buf_append_byte(&document, fill);
    buf_append_cstr(&document, behind);
    return mcp_message_read(reader, buf_slice(&document), &message, &refusal);
}

static void test_limits(void) {
    static const struct {
        const char *name, *before, *behind;
        size_t max;
    } rows[] = {
        {"method", "{" V "\"method\":\"", "\"}", LIMIT_RPC_METHOD},
        {"id string", "{" PING ",\"id\":\"", "\"}", LIMIT_RPC_ID - 2},
        {"id number", "{" PING ",\"id\":", "}", LIMIT_RPC_ID},
    };
    CHECK_INT(LIMIT_RPC_METHOD, 128);
    CHECK_INT(LIMIT_RPC_ID, 1024);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        CHECK_INT(read_filled(rows[i].before, '1', rows[i].max, rows[i].behind), 0);
        CHECK_INT(read_filled(rows[i].before, '1', rows[i].max + 1, rows[i].behind), MCP_E_REFUSED);
    }
}

/* A key that another parser could take for a protocol key. */
static void test_confusable_keys(void) {
    static const struct {
        const char *name, *key;
        bool refused;
    } rows[] = {
        {"as it is", "name", false},
        {"escaped", "\\u006eame", true},
        {"the last letter escaped", "nam\\u0065", true},
        {"escaped in capitals", "\\u004Eame", true},
        {"first letter", "Name", true},
        {"all letters", "NAME", true},
        {"cursor in capitals", "cURSOR", true},
        {"_meta in capitals", "_META", true},
        {"_meta escaped", "\\u005fmeta", true},
        {"without the capital", "requestid", true},
        {"Kelvin sign", "progressTo\u212aen", true},
        {"Kelvin sign escaped", "progressTo\\u212aen", true},
        {"Kelvin sign escaped, capital digits", "progressTo\\u212Aen", true},
        {"long s", "argument\u017f", true},
        {"long s escaped", "me\\u017fsage", true},
        {"both long s", "me\u017f\u017fage", true},
        {"sharp s", "me\u00dfage", true},
        {"capital sharp s, escaped", "me\\u1e9eage", true},
        {"ligature of f and i", "noti\ufb01cations", true},
        {"ligature of s and t", "reque\ufb06State", true},
        {"ligature of long s and t", "\ufb05opSequences", true},
        {"ligature in a capital key", "REQUE\ufb06STATE", true},
        {"i without a dot", "ur\u0131", true},
        {"capital i with a dot", "UR\u0130", true},
        {"capital i with a dot, escaped", "ur\\u0130", true},
        {"what a task is", "TaskID", true},
        {"round of input", "inputresponses", true},
        {"ligature in no key", "na\ufb00me", false},
        {"half a ligature", "reque\ufb06tState", false},
        {"j with a caron", "\u01f0sonrpc", false},
        {"longer", "names", false},
        {"shorter", "nam", false},
        {"a space", "name ", false},
        {"a NUL, where C ends a text", "name\\u0000", true},
        {"a NUL, and more", "Arguments\\u0000x", true},
        {"a NUL within", "na\\u0000me", false},
        {"empty", "", false},
        {"Cyrillic", "n\u0430me", false},
        {"full width", "\uff4eame", false},
        {"accent", "nam\u00e9", false},
        {"other, escaped", "\\u006eothing", false},
        {"as long as the longest", "name567890123456789012345678901234567890123456789012345678901",
         false},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf document CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        struct mcp_message message = {0};
        struct mcp_refusal refusal = {0};
        test_row(rows[i].name);
        buf_printf(&document, "{" PING ",\"id\":7,\"params\":{\"other\":0,\"%s\":{}}}",
                   rows[i].key);
        int r = mcp_message_read(reader, buf_slice(&document), &message, &refusal);
        CHECK_INT(r, rows[i].refused ? MCP_E_REFUSED : 0);
        CHECK_STR(refusal.id, rows[i].refused ? "7" : "");
        /* Where the gateway looks at nothing, a key may be what it wants. */
        buf_reset(&document, KIB(4));
        buf_printf(&document, "{" PING ",\"params\":{\"arguments\":{\"%s\":{}},\"x\":{\"%s\":1}}}",
                   rows[i].key, rows[i].key);
        CHECK_INT(mcp_message_read(reader, buf_slice(&document), &message, &refusal), 0);
    }
}

static void test_confusable_places(void) {
    static const struct row rows[] = {
        {"envelope, long s", DOC("{" V "\"id\":1,\"re\u017fult\":{}}"), REQUEST("of the message")},
        {"envelope, long s escaped", DOC("{" V "\"id\":1,\"re\\u017fult\":{}}"),
         REQUEST("of the message")},
        {"envelope, params", DOC("{" PING ",\"param\u017f\":{}}"), REQUEST("of the message")},
        {"envelope, capital id", DOC("{" PING ",\"Id\":1}"), REQUEST("of the message")},
        {"envelope, both ids", DOC("{" PING ",\"id\":1,\"ID\":2}"), REQUEST("of the message")},
        {"envelope, escaped method", DOC("{" V "\"\\u006dethod\":\"ping\"}"),
         REQUEST("of the message")},
        {"envelope, escaped jsonrpc", DOC("{\"json\\u0072pc\":\"2.0\",\"method\":\"ping\"}"),
         REQUEST("of the message")},
        {"envelope, error beside result", DOC("{" V "\"id\":1,\"result\":{},\"Error\":{}}"),
         REQUEST("of the message")},
        {"params key in the envelope", DOC("{" PING ",\"Name\":1}"), .kind = MCP_NOTIFICATION,
         .method = MCP_PING},
        {"_meta, Kelvin", DOC("{" PING ",\"params\":{\"_meta\":{\"progressTo\u212aen\":1}}}"),
         REQUEST("of _meta")},
        {"_meta, escaped slash",
         DOC("{" PING ",\"params\":{\"_meta\":{\"io.modelcontextprotocol\\/protocolVersion\":1}}}"),
         REQUEST("of _meta")},
        {"_meta, capitals",
         DOC("{" PING ",\"params\":{\"_meta\":{\"IO.ModelContextProtocol/ClientInfo\":1}}}"),
         REQUEST("of _meta")},
        {"_meta, every byte escaped",
         DOC("{" PING ",\"params\":{\"_meta\":{\"\\u0074\\u0072\\u0061\\u0063\\u0065\\u0073\\u0074"
             "\\u0061\\u0074\\u0065\":1}}}"),
         REQUEST("of _meta")},
        {"_meta, another's prefix",
         DOC("{" PING ",\"params\":{\"_meta\":{\"com.example/PROGRESSTOKEN\":1}}}"),
         .kind = MCP_NOTIFICATION, .method = MCP_PING},
        {"reference", DOC("{" PING ",\"params\":{\"ref\":{\"Type\":\"ref/prompt\"}}}"),
         REQUEST("of params.ref")},
        {"reference, long s", DOC("{" PING ",\"params\":{\"ref\":{\"uri\":1,\"ur\u0131\":2}}}"),
         REQUEST("of params.ref")},
        {"reference, escaped", DOC("{" PING ",\"params\":{\"ref\":{\"\\u006eame\":\"a\"}}}"),
         REQUEST("of params.ref")},
        {"reference, deeper", DOC("{" PING ",\"params\":{\"ref\":{\"x\":{\"Name\":1}}}}"),
         .kind = MCP_NOTIFICATION, .method = MCP_PING},
        {"reference that is an array", DOC("{" PING ",\"params\":{\"ref\":[{\"Name\":1}]}}"),
         .kind = MCP_NOTIFICATION, .method = MCP_PING},
        {"capabilities",
         DOC("{" PING ",\"params\":{\"_meta\":{\"io.modelcontextprotocol/clientCapabilities\":"
             "{\"elicitation\":{},\"Elicitation\":{}}}}}"),
         REQUEST("of clientCapabilities")},
        {"capabilities, escaped",
         DOC("{" PING ",\"params\":{\"_meta\":{\"io.modelcontextprotocol/clientCapabilities\":"
             "{\"\\u0073ampling\":{}}}}}"),
         REQUEST("of clientCapabilities")},
        {"capabilities elsewhere", DOC("{" PING ",\"params\":{\"_meta\":{\"x\":{\"Roots\":{}}}}}"),
         .kind = MCP_NOTIFICATION, .method = MCP_PING},
        {"both spellings of name", DOC("{" PING ",\"params\":{\"name\":\"a\",\"NAME\":\"b\"}}"),
         REQUEST("of params")},
        {"both, equal after unescaping",
         DOC("{" PING ",\"params\":{\"name\":\"a\",\"nam\\u0065\":\"b\"}}"), PARSE("twice")},
        {"the longest _meta key, every byte escaped",
         DOC("{" PING ",\"params\":{\"_meta\":{\""
             "\\u0069\\u006f\\u002e\\u006d\\u006f\\u0064\\u0065\\u006c\\u0063\\u006f\\u006e\\u0074"
             "\\u0065\\u0078\\u0074\\u0070\\u0072\\u006f\\u0074\\u006f\\u0063\\u006f\\u006c\\u002f"
             "\\u0063\\u006c\\u0069\\u0065\\u006e\\u0074\\u0043\\u0061\\u0070\\u0061\\u0062\\u0069"
             "\\u006c\\u0069\\u0074\\u0069\\u0065\\u0073\":1}}}"),
         REQUEST("of _meta")},
    };
    CHECK_ROWS(rows);
}

static void test_params(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct mcp_message message;
    struct mcp_refusal refusal;
    static const struct slice document =
        SLICE_INIT("{" V "\"id\":\"x\",\"method\":\"tools/call\",\"params\":{\"name\":\"a\\u0062\","
                   "\"arguments\":{\"n\":1e2},\"_meta\":{\"progressToken\":7}}}");
    REQUIRE(mcp_message_read(reader, document, &message, &refusal) == 0);
    CHECK_INT(message.method, MCP_TOOLS_CALL);
    CHECK_STR(message.method_text, "tools/call");
    const struct json_node *name = mcp_param(reader, &message, SLICE("name"), JSON_STRING);
    REQUIRE(name != NULL && message.meta != NULL);
    CHECK(json_string_is(name, SLICE("ab")));
    CHECK(mcp_param(reader, &message, SLICE("name"), JSON_NUMBER) == NULL);
    CHECK(mcp_param(reader, &message, SLICE("uri"), JSON_STRING) == NULL);
    const struct json_node *arguments =
        mcp_param(reader, &message, SLICE("arguments"), JSON_OBJECT);
    REQUIRE(arguments != NULL);
    CHECK_STR(arguments->raw, "{\"n\":1e2}");
    CHECK(json_member_typed(reader, message.meta, SLICE("progressToken"), JSON_NUMBER) != NULL);
    REQUIRE(mcp_message_read(reader, SLICE("{" PING "}"), &message, &refusal) == 0);
    CHECK(mcp_param(reader, &message, SLICE("name"), JSON_STRING) == NULL);
}

TEST_MAIN(TEST(test_kinds), TEST(test_members), TEST(test_ids), TEST(test_limits),
          TEST(test_confusable_keys), TEST(test_confusable_places), TEST(test_params))
