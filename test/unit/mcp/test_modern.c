/* The envelope of 2026-07-28 and the value codec of its header fields. */
#include <errno.h>

#include "base/limits.h"
#include "mcp/modern.h"
#include "test.h"

#define V    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\""
#define P    "io.modelcontextprotocol/"
#define VERS "\"" P "protocolVersion\":\"2026-07-28\""
#define CAPS "\"" P "clientCapabilities\":{}"

static struct json_reader *new_reader(void) {
    struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0)
        CANNOT_GO_ON();
    return reader;
}

static void test_envelope(void) {
    static const struct {
        const char *name, *meta; /* NULL: no _meta; "": no params */
        const char *reason;      /* a part of the refusal's; NULL: read */
        bool has_claim;
        enum mcp_revision revision;
        const char *version;
        int log_level;
        const char *client_info;
    } rows[] = {
        {"no params", "", .reason = "lacks io.modelcontextprotocol/protocolVersion and"},
        {"no _meta", NULL, .reason = "lacks io.modelcontextprotocol/protocolVersion and"},
        {"empty _meta", "{}",
         .reason = "protocolVersion and io.modelcontextprotocol/clientCapabilities"},
        {"least", "{" VERS "," CAPS "}", .has_claim = true, .revision = MCP_2026_07_28,
         .version = "\"2026-07-28\"", .log_level = -1},
        {"all",
         "{" CAPS ",\"" P "logLevel\":\"warning\",\"" P "clientInfo\":{\"name\":\"c\"}," VERS "}",
         .has_claim = true, .revision = MCP_2026_07_28, .version = "\"2026-07-28\"", .log_level = 3,
         .client_info = "{\"name\":\"c\"}"},
        {"no capabilities", "{" VERS "}", "lacks io.modelcontextprotocol/clientCapabilities",
         .has_claim = true},
        {"no version", "{" CAPS "}", .reason = "lacks io.modelcontextprotocol/protocolVersion"},
        {"version is a number", "{\"" P "protocolVersion\":2026," CAPS "}", "be a string",
         .has_claim = true},
        {"version is null", "{\"" P "protocolVersion\":null," CAPS "}", "be a string",
         .has_claim = true},
        {"version is an object, alone", "{\"" P "protocolVersion\":{}}", "clientCapabilities",
         .has_claim = true},
        {"a legacy version", "{\"" P "protocolVersion\":\"2025-11-25\"," CAPS "}",
         .has_claim = true, .revision = MCP_2025_11_25, .version = "\"2025-11-25\"",
         .log_level = -1},
        {"an unknown version", "{\"" P "protocolVersion\":\"2027-01-01\"," CAPS "}",
         .has_claim = true, .version = "\"2027-01-01\"", .log_level = -1},
        {"an empty version", "{\"" P "protocolVersion\":\"\"," CAPS "}", .has_claim = true,
         .version = "\"\"", .log_level = -1},
        {"version with an escape", "{\"" P "protocolVersion\":\"2026-07-2\\u0038\"," CAPS "}",
         .has_claim = true, .revision = MCP_2026_07_28, .version = "\"2026-07-2\\u0038\"",
         .log_level = -1},
        {"version with a NUL behind", "{\"" P "protocolVersion\":\"2026-07-28\\u0000\"," CAPS "}",
         .has_claim = true, .version = "\"2026-07-28\\u0000\"", .log_level = -1},
        {"capabilities are an array", "{" VERS ",\"" P "clientCapabilities\":[]}", "be an object",
         .has_claim = true},
        {"capabilities are null", "{" VERS ",\"" P "clientCapabilities\":null}", "be an object",
         .has_claim = true},
        {"clientInfo is text", "{" VERS "," CAPS ",\"" P "clientInfo\":\"me\"}", "clientInfo must",
         .has_claim = true},
        {"clientInfo is null", "{" VERS "," CAPS ",\"" P "clientInfo\":null}", "clientInfo must",
         .has_claim = true},
        {"log level unknown", "{" VERS "," CAPS ",\"" P "logLevel\":\"warn\"}", "logLevel must",
         .has_claim = true},
        {"log level in capitals", "{" VERS "," CAPS ",\"" P "logLevel\":\"ERROR\"}",
         "logLevel must", .has_claim = true},
        {"log level is a number", "{" VERS "," CAPS ",\"" P "logLevel\":3}", "logLevel must",
         .has_claim = true},
        {"lowest log level", "{" VERS "," CAPS ",\"" P "logLevel\":\"debug\"}", .has_claim = true,
         .revision = MCP_2026_07_28, .version = "\"2026-07-28\""},
        {"highest log level", "{" VERS "," CAPS ",\"" P "logLevel\":\"emergenc\\u0079\"}",
         .has_claim = true, .revision = MCP_2026_07_28, .version = "\"2026-07-28\"",
         .log_level = 7},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf document CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        struct mcp_message message;
        struct mcp_refusal refusal;
        struct mcp_envelope envelope = {.log_level = 4711};
        const char *reason = NULL;
        test_row(rows[i].name);
        buf_append_cstr(&document, V);
        if (rows[i].meta == NULL)
            buf_append_cstr(&document, ",\"params\":{}");
        else if (rows[i].meta[0] != '\0')
            buf_printf(&document, ",\"params\":{\"_meta\":%s}", rows[i].meta);
        buf_append_cstr(&document, "}");
        REQUIRE(mcp_message_read(reader, buf_slice(&document), &message, &refusal) == 0);
        CHECK_INT(mcp_has_envelope(reader, &message), rows[i].has_claim);
        int r = mcp_envelope_read(reader, &message, &envelope, &reason);
        CHECK_INT(r, rows[i].reason != NULL ? MCP_E_REFUSED : 0);
        if (r != 0) {
            CHECK_INT(envelope.log_level, 4711);
            REQUIRE(reason != NULL && rows[i].reason != NULL);
            CHECK(strstr(reason, rows[i].reason) != NULL);
            continue;
        }
        CHECK(reason == NULL);
        CHECK_INT(envelope.revision, rows[i].revision);
        CHECK_STR(envelope.version, rows[i].version);
        CHECK_INT(envelope.log_level, rows[i].log_level);
        CHECK(envelope.capabilities != NULL && envelope.capabilities->opened);
        CHECK((envelope.client_info != NULL) == (rows[i].client_info != NULL));
        if (envelope.client_info != NULL)
            CHECK_STR(envelope.client_info->raw, rows[i].client_info);
    }
}

static void test_capabilities(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct mcp_message message;
    struct mcp_refusal refusal;
    struct mcp_envelope envelope;
    const char *reason;
    static const struct slice document =
        SLICE_INIT(V ",\"params\":{\"_meta\":{" VERS ",\"" P "clientCapabilities\":"
                     "{\"elicitation\":{\"url\":{}},\"x\":1}}}}");
    REQUIRE(mcp_message_read(reader, document, &message, &refusal) == 0);
    REQUIRE(mcp_envelope_read(reader, &message, &envelope, &reason) == 0);
    const struct json_node *elicitation =
        json_member(reader, envelope.capabilities, SLICE("elicitation"));
    REQUIRE(elicitation != NULL);
    CHECK_STR(elicitation->raw, "{\"url\":{}}");
    CHECK(json_member(reader, envelope.capabilities, SLICE("sampling")) == NULL);
}

static void test_codec(void) {
    static const struct {
        const char *name;
        struct slice text, field;
    } rows[] = {
        {"plain", SLICE_INIT("get_weather"), SLICE_INIT("get_weather")},
        {"empty", SLICE_INIT(""), SLICE_INIT("")},
        {"tab and space inside", SLICE_INIT("a \t b"), SLICE_INIT("a \t b")},
        {"every plain byte", SLICE_INIT("!\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~"),
         SLICE_INIT("!\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~")},
        {"space in front", SLICE_INIT(" a"), SLICE_INIT("=?base64?IGE=?=")},
        {"space behind", SLICE_INIT("a "), SLICE_INIT("=?base64?YSA=?=")},
        {"tab behind", SLICE_INIT("a\t"), SLICE_INIT("=?base64?YQk=?=")},
        {"only a space", SLICE_INIT(" "), SLICE_INIT("=?base64?IA==?=")},
        {"not ASCII", SLICE_INIT("\u00e9"), SLICE_INIT("=?base64?w6k=?=")},
        {"line end", SLICE_INIT("a\r\nMcp-Name: b"), SLICE_INIT("=?base64?YQ0KTWNwLU5hbWU6IGI=?=")},
        {"NUL", SLICE_INIT("\0"), SLICE_INIT("=?base64?AA==?=")},
        {"DEL", SLICE_INIT("a\x7f"), SLICE_INIT("=?base64?YX8=?=")},
        {"plus and slash", SLICE_INIT("\xfb\xff\xfe"), SLICE_INIT("=?base64?+//+?=")},
        {"like the sentinel", SLICE_INIT("=?base64?YQ==?="),
         SLICE_INIT("=?base64?PT9iYXNlNjQ/WVE9PT89?=")},
        {"the sentinel of nothing", SLICE_INIT("=?base64?\?="),
         SLICE_INIT("=?base64?PT9iYXNlNjQ/Pz0=?=")},
        {"markers overlap", SLICE_INIT("=?base64?="), SLICE_INIT("=?base64?PT9iYXNlNjQ/PQ==?=")},
        {"capital marker", SLICE_INIT("=?BASE64?YQ==?="), SLICE_INIT("=?BASE64?YQ==?=")},
        {"only the front", SLICE_INIT("=?base64?YQ=="), SLICE_INIT("=?base64?YQ==")},
        {"only the end", SLICE_INIT("YQ==?="), SLICE_INIT("YQ==?=")},
        {"something in front", SLICE_INIT("x=?base64?YQ==?="), SLICE_INIT("x=?base64?YQ==?=")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(200);
        test_row(rows[i].name);
        CHECK_INT(mcp_field_encode(&out, rows[i].text), 0);
        CHECK_SLICE(buf_slice(&out), rows[i].field);
        CHECK_INT(mcp_field_is_plain(rows[i].text), slice_eq(rows[i].text, rows[i].field));
        buf_reset(&out, 0);
        buf_append_cstr(&out, "x");
        CHECK_INT(mcp_field_decode(&out, rows[i].field), 0);
        CHECK_SLICE(slice_from(buf_slice(&out), 1), rows[i].text);
    }
}

static void test_decode_refused(void) {
    static const struct slice rows[] = {
        SLICE_INIT("=?base64?="),
        SLICE_INIT("=?base64?YQ?="),
        SLICE_INIT("=?base64?YQ=?="),
        SLICE_INIT("=?base64?YQ===?="),
        SLICE_INIT("=?base64?YR==?="), /* unused bits */
        SLICE_INIT("=?base64?====?="),
        SLICE_INIT("=?base64?=?="),
        SLICE_INIT("=?base64?Y Q=?="),
        SLICE_INIT("=?base64?YQ==\t?="),
        SLICE_INIT("=?base64?Y-_=?="),
        SLICE_INIT("=?base64?YWFhY?="),
        SLICE_INIT("=?base64?YQ==YQ==?="),
        SLICE_INIT("a\xc3\xa9"),
        SLICE_INIT("a\x7f"),
        SLICE_INIT("a\nb"),
        SLICE_INIT("a\0"),
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(200);
        test_row(rows[i].ptr);
        buf_append_cstr(&out, "x");
        CHECK_INT(mcp_field_decode(&out, rows[i]), MCP_E_REFUSED);
        CHECK_STR(buf_slice(&out), "x");
    }
    struct buf small CLEANUP(buf_deinit) = BUF_INIT(3);
    CHECK_INT(mcp_field_decode(&small, SLICE("=?base64?YWFhYQ==?=")), -E2BIG);
}

/* Whatever the bytes: what is encoded is a field's value, and comes back. */
static void test_codec_round(void) {
    char text[3];
    for (unsigned i = 0; i < 256 * 256; i++) {
        struct buf field CLEANUP(buf_deinit) = BUF_INIT(64);
        struct buf back CLEANUP(buf_deinit) = BUF_INIT(64);
        text[0] = (char)(i & 255);
        text[1] = (char)(i >> 8);
        text[2] = 'x';
        struct slice whole = slice_make(text, 1 + i % 3);
        REQUIRE(mcp_field_encode(&field, whole) == 0);
        struct slice value = buf_slice(&field);
        for (size_t k = 0; k < value.len; k++)
            REQUIRE(value.ptr[k] == '\t' || (value.ptr[k] >= 0x20 && value.ptr[k] <= 0x7e));
        REQUIRE(slice_trim(value).len == value.len);
        REQUIRE(mcp_field_decode(&back, value) == 0);
        REQUIRE(slice_eq(buf_slice(&back), whole));
    }
}

static void test_named_by(void) {
    for (int i = 0; i < MCP_METHOD_COUNT; i++) {
        enum mcp_method method = (enum mcp_method)i;
        const char *expected =
            method == MCP_TOOLS_CALL || method == MCP_PROMPTS_GET ? "name"
            : method == MCP_RESOURCES_READ                        ? "uri"
            : method == MCP_TASKS_GET || method == MCP_TASKS_UPDATE || method == MCP_TASKS_CANCEL
                ? "taskId"
                : "";
        CHECK_STR(mcp_named_by(method), expected);
    }
}

/* Every method has a name of its own that is read as that method. */
static void test_methods(void) {
    for (int i = MCP_METHOD_UNKNOWN + 1; i < MCP_METHOD_COUNT; i++) {
        enum mcp_method method = (enum mcp_method)i;
        CHECK(mcp_method_name(method).len != 0);
        CHECK_INT(mcp_method_parse(mcp_method_name(method)), method);
    }
    CHECK_INT(mcp_method_parse(SLICE("tasks/get")), MCP_TASKS_GET);
    CHECK_INT(mcp_method_parse(SLICE("subscriptions/listen")), MCP_SUBSCRIPTIONS_LISTEN);
    CHECK_INT(mcp_method_parse(SLICE("tasks/Get")), MCP_METHOD_UNKNOWN);
}

static void torture_body(void *arg) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(200);
    (void)arg;
    int r = mcp_field_encode(&out, SLICE("\u00e9 and some more text than fits into the first block"
                                         " of memory that a buffer asks for"));
    CHECK(r == 0 || r == -ENOMEM);
    buf_reset(&out, 0);
    r = mcp_field_decode(&out, SLICE("=?base64?PT9iYXNlNjQ/PQ==?="));
    CHECK(r == 0 || r == -ENOMEM);
}

static void test_out_of_memory(void) {
    test_torture(torture_body, NULL);
}

TEST_MAIN(TEST(test_envelope), TEST(test_capabilities), TEST(test_codec), TEST(test_decode_refused),
          TEST(test_codec_round), TEST(test_named_by), TEST(test_methods), TEST(test_out_of_memory))
