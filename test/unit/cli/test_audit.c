/* `cardea audit`: CSV that does nothing in a spreadsheet, rows that do nothing to a terminal. */
#include "audit.h"
#include "base/limits.h"
#include "test.h"

/* In place of that of audit.c, which says it on stderr. */
int cli_audit_usage(const char *what, const char *word) {
    (void)what;
    (void)word;
    return CLI_USAGE;
}

/* A record with this text, as JSON has it, as its user. */
static struct buf csv_of(const char *line, const char *outcome, const char *filter) {
    struct audit_row row;
    struct buf out = BUF_INIT(MIB(4));
    if (audit_row_init(&row) != 0)
        CANNOT_GO_ON();
    const struct audit_hit hit = {.line = slice_from_cstr(line),
                                  .outcome = slice_from_cstr(outcome)};
    audit_row_read(&row, &hit);
    CHECK_INT(audit_csv_row(&row, slice_from_cstr(filter), &out), 0);
    audit_row_deinit(&row);
    return out;
}

struct cell_case {
    const char *json, *cell; /* a value; the cell that it becomes */
};

static const struct cell_case cells[] = {
    {"\"alice\"", "\"alice\""},
    {"\"\"", "\"\""},
    {"\"a,b;c\\td\"", "\"a,b;c\td\""},
    {"\"say \\\"hi\\\"\"", "\"say \"\"hi\"\"\""},
    {"\"two\\r\\nlines\"", "\"two\r\nlines\""},
    /* formulas */
    {"\"=1+1\"", "\"'=1+1\""},
    {"\"+1\"", "\"'+1\""},
    {"\"-\"", "\"'-\""},
    {"\"-1+2\"", "\"'-1+2\""},
    {"\"@SUM(1)\"", "\"'@SUM(1)\""},
    {"\"\\u003dHYPERLINK(\\\"http://x\\\")\"", "\"'=HYPERLINK(\"\"http://x\"\")\""},
    {"\"  =1\"", "\"'  =1\""},
    {"\"\\t=1\"", "\"'\t=1\""},
    {"\"\\tx\"", "\"'\tx\""},
    {"\"\\rx\"", "\"'\rx\""},
    {"\"\\n=1\"", "\"'\n=1\""},
    {"\"\\u00a0=1\"", "\"'\u00a0=1\""},
    {"\"\\u3000=1\"", "\"'\u3000=1\""},
    {"\"\\ufeff=1\"", "\"'\ufeff=1\""},
    {"\"\\u200b-1\"", "\"'\u200b-1\""},
    {"\"\\uff1d1\"", "\"'\uff1d1\""},
    {"\"\\uff0b1\"", "\"'\uff0b1\""},
    {"\"\\uff0d1\"", "\"'\uff0d1\""},
    {"\"\\uff20x\"", "\"'\uff20x\""},
    {"\" \\uff1d1\"", "\"' \uff1d1\""},
    {"\"\\u0000=1\"", "\"'\\u0000=1\""},
    {"\"a=1\"", "\"a=1\""},
    {"\"'=1\"", "\"'=1\""},
    /* what terminals act upon */
    {"\"\\u001b[2J\"", "\"\\u001b[2J\""},
    {"\"\\u009b2J\"", "\"\\u009b2J\""},
    {"\"\\u0000\\u0007\\u007f\"", "\"\\u0000\\u0007\\u007f\""},
    {"\"\\u202eevil\\u2066\"", "\"\\u202eevil\\u2066\""},
    /* numbers are numbers */
    {"-32601", "-32601"},
    {"0", "0"},
    {"\"-32601\"", "-32601"},
    {"true", "\"true\""},
    {"[\"=a\",\"b\"]", "\"[\"\"=a\"\",\"\"b\"\"]\""},
};

/* `code` is the 28th column. */
static void test_cells(void) {
    for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
        struct buf line = BUF_INIT(KIB(4)), expected = BUF_INIT(KIB(4));
        test_row(cells[i].json);
        buf_printf(&line, "{\"seq\":1,\"code\":%s,\"hash\":\"h\"}", cells[i].json);
        buf_append_byte(&line, '\0');
        buf_append_cstr(&expected, "1,,,,,,,,,,,,,,,,,,,,,,,,,,,");
        buf_append_cstr(&expected, cells[i].cell);
        buf_append_cstr(&expected, ",,,,,,,,,\r\n");
        struct buf row = csv_of(buf_slice(&line).ptr, "", "");
        CHECK_SLICE(buf_slice(&row), buf_slice(&expected));
        buf_deinit(&row);
        buf_deinit(&line);
        buf_deinit(&expected);
    }
}

static void test_header(void) {
    struct buf out = BUF_INIT(KIB(4));
    CHECK_INT(audit_csv_header(&out), 0);
    CHECK_STR(
        buf_slice(&out),
        "seq,time,event,id,user,groups,authentication,token,client,address,session,trace,"
        "method,operation,arguments,arguments_cut,arguments_bytes,arguments_hmac,upstream,"
        "upstream_operation,instance,access,decision,rule,reason,status,http_status,code,"
        "message,upstream_status,bytes,duration_us,outcome_seq,outcome_time,log,other,filter\r\n");
    buf_deinit(&out);
}

/* An intent and its outcome are one row; what has no column is not lost. */
static void test_outcome(void) {
    struct buf row = csv_of(
        "{\"seq\":7,\"time\":\"T1\",\"event\":\"intent\",\"id\":\"x\",\"user\":\"u\",\"extra\":\"="
        "1\",\"hash\":\"h\"}",
        "{\"seq\":9,\"time\":\"T2\",\"event\":\"outcome\",\"id\":\"x\",\"status\":\"ok\",\"more\":{"
        "\"a\":1},\"hash\":\"h\"}",
        "{\"user\":\"u\"}");
    CHECK_STR(buf_slice(&row), "7,\"T1\",\"intent\",\"x\",\"u\",,,,,,,,,,,,,,,,,,,,,\"ok\",,,,,,,9,"
                               "\"T2\",,\"{\"\"extra\"\":\"\"=1\"\",\"\"more\"\":{\"\"a\"\":1}}\","
                               "\"{\"\"user\"\":\"\"u\"\"}\"\r\n");
    buf_deinit(&row);
}

static const char long_record[] =
    "{\"seq\":7,\"event\":\"call\",\"user\":\"=1\",\"groups\":[\"a\"],\"extra\":1,\"code\":\"-1\"}";

struct torture {
    struct slice expected; /* what comes without failure; ptr NULL: not known yet */
};

/* Without memory a row is refused: no cell of it is left out. */
static void write_for_torture(void *arg) {
    const struct torture *torture = arg;
    struct audit_row row;
    struct buf out = BUF_INIT(KIB(64)), text = BUF_INIT(KIB(64));
    if (audit_row_init(&row) != 0)
        return;
    audit_row_read(&row, &(struct audit_hit){.line = slice_from_cstr(long_record)});
    if (row.roots[0] != NULL && audit_csv_row(&row, SLICE("{}"), &out) == 0)
        CHECK_SLICE(buf_slice(&out), torture->expected);
    (void)audit_row_format(&row, &text);
    buf_deinit(&out);
    buf_deinit(&text);
    audit_row_deinit(&row);
}

static void test_without_memory(void) {
    struct buf row = csv_of(long_record, "", "{}");
    struct torture torture = {.expected = buf_slice(&row)};
    test_torture(write_for_torture, &torture);
    buf_deinit(&row);
}

/* A line that is no JSON is shown as it is, as a text. */
static void test_unreadable(void) {
    struct buf row = csv_of("=cmd \x1b[2J \xff", "", "");
    CHECK(slice_find(buf_slice(&row), SLICE("\"'=cmd \\u001b[2J \\ufffd\"")) != SIZE_MAX);
    buf_deinit(&row);
}

/* --- for people --- */

static bool is_harmless(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x20 || c == 0x7f ||
            (c == 0xc2 && i + 1 < text.len && (unsigned char)text.ptr[i + 1] < 0xa0))
            return false;
    }
    return true;
}

static void test_terminal(void) {
    static const char *const values[] = {
        "\"\\u001b]0;title\\u0007\"", "\"\\u009b2J\"", "\"\xc2\x9b\x32J\"", "\"a\\nb\\rc\"",
        "\"\xe2\x80\xae evil\"",      "\"\x7f\"",      "\"\\u0000\"",       "{\"a\":\"\xc2\x85\"}",
    };
    static const char *const keys[] = {"time",   "event",   "user",  "address",     "operation",
                                       "status", "message", "extra", "duration_us", "decision"};
    static const char *const ends[] = {"", ",\"method\":\"tools/call\""};
    struct audit_row row;
    REQUIRE(audit_row_init(&row) == 0);
    for (size_t v = 0; v < ARRAY_LEN(values); v++) {
        for (size_t k = 0; k < ARRAY_LEN(keys) * ARRAY_LEN(ends); k++) {
            struct buf line = BUF_INIT(KIB(4)), out = BUF_INIT(KIB(64)), json = BUF_INIT(KIB(64));
            test_row(values[v]);
            buf_printf(&line, "{\"seq\":1,\"%s\":%s%s}", keys[k / 2], values[v], ends[k % 2]);
            audit_row_read(&row, &(struct audit_hit){.line = buf_slice(&line)});
            CHECK_INT(audit_row_format(&row, &out), 0);
            CHECK(row.roots[0] != NULL);
            CHECK(is_harmless(buf_slice(&out)));
            CHECK_INT(cli_audit_safe_json(&json, buf_slice(&line)), 0);
            CHECK(is_harmless(buf_slice(&json)));
            CHECK(slice_find(buf_slice(&json), SLICE("\xe2\x80\xae")) == SIZE_MAX);
            CHECK(slice_find(buf_slice(&out), SLICE("\xe2\x80\xae")) == SIZE_MAX);
            buf_deinit(&line);
            buf_deinit(&out);
            buf_deinit(&json);
        }
    }
    audit_row_deinit(&row);
}

static void test_row_text(void) {
    struct audit_row row;
    struct buf out = BUF_INIT(KIB(64));
    REQUIRE(audit_row_init(&row) == 0);
    const struct audit_hit hit = {
        SLICE_INIT("{\"seq\":1,\"time\":\"2026-11-21T22:55:01.123456Z\",\"event\":\"intent\","
                   "\"user\":\"alice\",\"address\":\"192.0.2.1\",\"method\":\"tools/call\","
                   "\"operation\":\"files__read\",\"decision\":\"allowed\"}"),
        SLICE_INIT("{\"seq\":2,\"status\":\"error\",\"duration_us\":12345,\"message\":\"no\"}"),
        SLICE_EMPTY};
    audit_row_read(&row, &hit);
    CHECK_INT(audit_row_format(&row, &out), 0);
    CHECK_STR(buf_slice(&out),
              "2026-11-21T22:55:01.123Z intent         alice             192.0.2.1        "
              "files__read                       allowed   error        12.3 ms  no");
    buf_deinit(&out);
    audit_row_deinit(&row);
}

/* --- times --- */

struct time_case {
    const char *text;
    const char *is; /* NULL: refused */
};

static void test_times(void) {
    static const struct time_case cases[] = {
        {"2026-11-21T22:55:01Z", "2026-11-21T22:55:01.000000Z"},
        {"2026-11-21t22:55:01.5z", "2026-11-21T22:55:01.500000Z"},
        {"2026-11-21 22:55:01.123456789Z", "2026-11-21T22:55:01.123456Z"},
        {"2026-11-21T22:55:01+02:00", "2026-11-21T20:55:01.000000Z"},
        {"2026-11-21T22:55:01-01:30", "2026-11-22T00:25:01.000000Z"},
        {"2026-11-21", "2026-11-21T00:00:00.000000Z"},
        {"30s", "2026-11-20T23:59:30.000000Z"},
        {"15m", "2026-11-20T23:45:00.000000Z"},
        {"1h", "2026-11-20T23:00:00.000000Z"},
        {"2d", "2026-11-19T00:00:00.000000Z"},
        {"1w", "2026-11-14T00:00:00.000000Z"},
        {"99999999999999999d", "1970-01-01T00:00:00.000000Z"},
        {"2026-11-21T22:55:01", NULL},
        {"2026-11-21T22:55Z", NULL},
        {"2026-11-21T22:55:01.Z", NULL},
        {"2026-11-21T22:55:01+0200", NULL},
        {"2026-11-21T22:55:01+24:00", NULL},
        {"2026-11-21T22:55:01ZZ", NULL},
        {"2026-13-21", NULL},
        {"2026-02-30T00:00:00Z", NULL},
        {"1970-01-01T00:00:00+01:00", NULL},
        {"2026-11-2x", NULL},
        {"15", NULL},
        {"m", NULL},
        {"-5m", NULL},
        {"5y", NULL},
        {"", NULL},
    };
    uint64_t now = 0;
    REQUIRE(audit_time_read(SLICE("2026-11-21T00:00:00.000000Z"), &now));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t us = 0;
        char text[AUDIT_TIME_CHARS + 1];
        test_row(cases[i].text);
        bool is_time = audit_query_time(slice_from_cstr(cases[i].text), now, &us);
        CHECK_INT(is_time, cases[i].is != NULL);
        if (is_time && cases[i].is != NULL) {
            audit_time_write(us, text);
            CHECK_STR(slice_from_cstr(text), cases[i].is);
        }
    }
}

static void test_filters(void) {
    struct cli_options options = {.audit = {.user = "a\"b", .status = "ok", .since = "2026-11-21"},
                                  .groups = {"g"},
                                  .n_groups = 1};
    struct audit_query query;
    struct buf out = BUF_INIT(KIB(4));
    CHECK_INT(cli_audit_query(&options, &query), CLI_OK);
    CHECK(audit_query_is_filtered(&query));
    CHECK_INT(audit_query_write(&out, &query), 0);
    CHECK_STR(buf_slice(&out), "{\"user\":\"a\\\"b\",\"group\":\"g\",\"status\":\"ok\","
                               "\"since\":\"2026-11-21T00:00:00.000000Z\"}");
    options.audit.until = "2026-11-20";
    CHECK_INT(cli_audit_query(&options, &query), CLI_USAGE);
    options.audit.until = NULL;
    options.audit.status = "fine";
    CHECK_INT(cli_audit_query(&options, &query), CLI_USAGE);
    options.audit.status = NULL;
    options.audit.address = "192.0.2.0/33";
    CHECK_INT(cli_audit_query(&options, &query), CLI_USAGE);
    options = (struct cli_options){.audit = {.oldest_first = true}};
    CHECK_INT(cli_audit_query(&options, &query), CLI_OK);
    CHECK(!audit_query_is_filtered(&query));
    buf_deinit(&out);
}

TEST_MAIN(TEST(test_cells), TEST(test_header), TEST(test_outcome), TEST(test_unreadable),
          TEST(test_without_memory), TEST(test_terminal), TEST(test_row_text), TEST(test_times),
          TEST(test_filters))
