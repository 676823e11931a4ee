/* What servers ask of clients, for the record: counted, read from what either side wrote. */
#include "asked.h"
#include "test.h"

static const char *text_of(const struct asked *asked) {
    static char text[4096];
    struct buf out = BUF_INIT(sizeof text - 1);
    asked_write(asked, &out);
    CHECK_INT(buf_error(&out), 0);
    snprintf(text, sizeof text, "%.*s", SLICE_ARGS(buf_slice(&out)));
    buf_deinit(&out);
    return text;
}

static void test_counted(void) {
    struct asked asked = {0}, more = {0};
    CHECK_STR(slice_from_cstr(text_of(&asked)), "");
    asked_add(&asked, MCP_TOOLS_CALL, ASKED_OPEN); /* is no such thing */
    CHECK_STR(slice_from_cstr(text_of(&asked)), "");
    asked_add(&asked, MCP_ROOTS_LIST, ASKED_OPEN);
    asked_add(&asked, MCP_SAMPLING_CREATE_MESSAGE, ASKED_OPEN);
    asked_end(&asked, MCP_SAMPLING_CREATE_MESSAGE, ASKED_LATE);
    asked_end(&asked, MCP_SAMPLING_CREATE_MESSAGE, ASKED_FAILED); /* none was open */
    CHECK_STR(slice_from_cstr(text_of(&asked)),
              "{\"sampling\":{\"failed\":1,\"late\":1},\"roots\":{\"open\":1}}");
    asked_move(&more, &asked);
    CHECK_STR(slice_from_cstr(text_of(&asked)), "");
    asked_add(&asked, MCP_ROOTS_LIST, ASKED_OPEN);
    asked_move(&more, &asked);
    CHECK_STR(slice_from_cstr(text_of(&more)),
              "{\"sampling\":{\"failed\":1,\"late\":1},\"roots\":{\"open\":2}}");
}

/* However often: the number stays at its end, and the text is short. */
static void test_bounded(void) {
    static const enum mcp_method methods[] = {MCP_SAMPLING_CREATE_MESSAGE, MCP_ELICITATION_CREATE,
                                              MCP_ROOTS_LIST};
    struct asked asked = {0}, more;
    for (unsigned answer = 0; answer < ASKED_ANSWERS; answer++) {
        for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
            for (unsigned n = 0; n < 65534; n++)
                asked_add(&asked, methods[i], (enum asked_answer)answer);
        }
    }
    CHECK_INT(asked.n[0][0], 65534);
    more = asked;
    asked_add(&asked, methods[0], ASKED_OPEN);
    CHECK_INT(asked.n[0][0], 65535);
    asked_add(&asked, methods[0], ASKED_OPEN);
    CHECK_INT(asked.n[0][0], 65535);
    asked_move(&asked, &more);
    CHECK_INT(asked.n[2][ASKED_REFUSED], 65535);
    CHECK(strlen(text_of(&asked)) < 1024);
}

static void test_results(void) {
    static const struct {
        const char *text;
        enum asked_answer answer;
    } rows[] = {
        {"{\"action\":\"accept\",\"content\":{}}", ASKED_ACCEPTED},
        {"{\"action\":\"decline\"}", ASKED_DECLINED},
        {"{\"action\":\"cancel\"}", ASKED_CANCELLED},
        {"{\"action\":\"\\u0061ccept\"}", ASKED_ACCEPTED},
        {"{\"action\":\"ACCEPT\"}", ASKED_ANSWERED},
        {"{\"action\":[\"accept\"]}", ASKED_ANSWERED},
        {"{\"content\":{\"action\":\"accept\"}}", ASKED_ANSWERED},
        {"[]", ASKED_ANSWERED},
        {"", ASKED_ANSWERED},
        {"{\"action\":", ASKED_ANSWERED},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].text);
        struct slice text = slice_from_cstr(rows[i].text);
        CHECK_INT(asked_read(reader, MCP_ELICITATION_CREATE, text), rows[i].answer);
        CHECK_INT(asked_read(reader, MCP_ROOTS_LIST, text), ASKED_ANSWERED);
    }
}

#define WANTED(requests) "{\"resultType\":\"input_required\",\"inputRequests\":" requests "}"

static void test_wanted(void) {
    static const struct {
        const char *text;
        bool is_wanted;
        const char *asked;
    } rows[] = {
        {WANTED("{\"a\":{\"method\":\"roots/list\"},\"b\":{\"method\":\"roots/list\"}}"), true,
         "{\"roots\":{\"open\":2}}"},
        {WANTED("{\"a\":{\"method\":\"elicitation/create\",\"params\":{}},"
                "\"b\":{\"method\":\"tools/call\"},\"c\":{\"method\":5},\"d\":[],\"e\":null}"),
         true, "{\"elicitation\":{\"open\":1}}"},
        {WANTED("[]"), true, ""},
        {"{\"resultType\":\"input_required\"}", true, ""},
        {"{\"resultType\":\"complete\",\"content\":[\"input_required\"]}", false, ""},
        {"{\"resultType\":[\"input_required\"]}", false, ""},
        {"{\"resultType\":\"input_required\"", false, ""},
        {"[\"input_required\"]", false, ""},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct asked asked = {0};
        test_row(rows[i].text);
        CHECK(asked_read_wanted(&asked, reader, slice_from_cstr(rows[i].text)) ==
              rows[i].is_wanted);
        CHECK_STR(slice_from_cstr(text_of(&asked)), rows[i].asked);
    }
}

static void test_responses(void) {
    static const struct {
        const char *text, *asked;
    } rows[] = {
        {"{\"a\":{\"action\":\"accept\"},\"b\":{\"action\":\"decline\"},\"c\":{\"roots\":[]},"
         "\"d\":{\"role\":\"assistant\"}}",
         "{\"sampling\":{\"answered\":1},\"elicitation\":{\"accepted\":1,\"declined\":1},"
         "\"roots\":{\"answered\":1}}"},
        {"{\"a\":null,\"b\":5,\"c\":\"x\",\"d\":[]}", "{\"sampling\":{\"answered\":4}}"},
        {"{}", ""},
        {"[1]", ""},
        {"{\"a\":", ""},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct asked asked = {0};
        test_row(rows[i].text);
        asked_read_responses(&asked, reader, slice_from_cstr(rows[i].text));
        CHECK_STR(slice_from_cstr(text_of(&asked)), rows[i].asked);
    }
}

TEST_MAIN(TEST(test_counted), TEST(test_bounded), TEST(test_results), TEST(test_wanted),
          TEST(test_responses))
