/* Lines of a trail, times and heads. */
#include "made_log.h"
#include "test.h"

#define TIME            "2026-11-21T22:55:01.123456Z"
#define BEGIN           "\"time\":\"" TIME "\",\"event\":\"call\""
#define ZEROS           "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define LINE(seq, body) "{\"seq\":" seq "," body ",\"hash\":\"" ZEROS "\"}"

static struct audit_hasher *new_hasher(void) {
    struct audit_hasher *hasher = NULL;
    made_must(audit_hasher_new(&hasher));
    return hasher;
}

/* Calculated elsewhere. */
static void test_known_lines(void) {
    static const char expected[] =
        "{\"seq\":1," BEGIN ",\"n\":1,\"hash\":\"gYS4dKbREuaS7ajfh0bF15LIioVwCyzmuYg19e29SZY\"}\n"
        "{\"seq\":2,\"time\":\"2026-11-21T22:55:02.000000Z\",\"event\":\"stop\","
        "\"hash\":\"mfd2FLVllXWDwXSoraAtvU8AnduspeGFBISvVapreHQ\"}\n";
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = new_hasher();
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct audit_chain chain = {.seq = 0};
    const struct slice first[] = {SLICE(BEGIN), SLICE_EMPTY, SLICE(",\"n\":1"), {NULL, 0}};
    const struct slice second[] = {SLICE("\"time\":\"2026-11-21T22:55:02"),
                                   SLICE(".000000Z\",\"event\":\"st"), SLICE("op\"")};
    CHECK_INT(audit_line_write(hasher, &chain, first, 4, &out), 0);
    CHECK_INT(audit_line_write(hasher, &chain, second, 3, &out), 0);
    CHECK_STR(buf_slice(&out), expected);
    CHECK_INT(chain.seq, 2);
    char head[AUDIT_HEAD_CHARS + 1];
    CHECK_STR(audit_head_write(&chain, head), "2:mfd2FLVllXWDwXSoraAtvU8AnduspeGFBISvVapreHQ");
}

static void test_read(void) {
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = new_hasher();
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    const struct slice body = SLICE(BEGIN ",\"a\":\",\\\"hash\\\":\\\"\"");
    struct audit_chain chain = {.seq = 98}, from = chain, skipped = {.seq = 97};
    struct audit_line line;
    const char *reason = NULL;
    CHECK_INT(audit_line_write(hasher, &chain, &body, 1, &out), 0);
    struct slice text = slice_sub(buf_slice(&out), 0, buf_len(&out) - 1);
    REQUIRE(audit_line_read(text, &line, &reason) == 0);
    CHECK_INT(line.seq, 99);
    CHECK_SLICE(line.body, body);
    CHECK_STR(line.event, "call");
    CHECK_INT(line.time_us, MADE_TIME);
    CHECK(memcmp(line.hash, chain.hash, AUDIT_HASH) == 0);
    CHECK_INT(line.covered.len + AUDIT_LINE_TAIL, text.len);
    CHECK(!audit_line_follows(hasher, &skipped, &line));
    CHECK_INT(skipped.seq, 97);
    struct audit_chain other = from;
    other.hash[31] ^= 1;
    CHECK(!audit_line_follows(hasher, &other, &line));
    CHECK_INT(other.seq, 98);
    CHECK(audit_line_follows(hasher, &from, &line));
    CHECK_INT(from.seq, 99);
    CHECK(memcmp(from.hash, chain.hash, AUDIT_HASH) == 0);
    CHECK(!audit_line_follows(hasher, &from, &line));
}

static void test_no_lines(void) {
    static const struct {
        const char *name, *text;
    } rows[] = {
        {"empty", ""},
        {"hash alone", ",\"hash\":\"" ZEROS "\"}"},
        {"no body", "{\"seq\":7,\"hash\":\"" ZEROS "\"}"},
        {"number 0", LINE("0", BEGIN)},
        {"zero in front", LINE("07", BEGIN)},
        {"sign", LINE("+7", BEGIN)},
        {"minus", LINE("-7", BEGIN)},
        {"fraction", LINE("7.0", BEGIN)},
        {"exponent", LINE("7e0", BEGIN)},
        {"no number", LINE("", BEGIN)},
        {"space before the number", LINE(" 7", BEGIN)},
        {"space behind the number", LINE("7 ", BEGIN)},
        {"one more than 64 bits", LINE("18446744073709551616", BEGIN)},
        {"21 digits", LINE("100000000000000000000", BEGIN)},
        {"number as text", LINE("\"7\"", BEGIN)},
        {"space in front", " " LINE("7", BEGIN)},
        {"space behind", LINE("7", BEGIN) " "},
        {"carriage return behind", LINE("7", BEGIN) "\r"},
        {"line end in it", LINE("7", BEGIN ",\"a\":\n1")},
        {"tab in it", LINE("7", BEGIN ",\"a\":\"\t\"")},
        {"unit separator in it", LINE("7", BEGIN ",\"a\":\"\x1f\"")},
        {"other key", "{\"SEQ\":7," BEGIN ",\"hash\":\"" ZEROS "\"}"},
        {"no time", LINE("7", "\"event\":\"call\"")},
        {"event first", LINE("7", "\"event\":\"call\",\"time\":\"" TIME "\"")},
        {"no event", LINE("7", "\"time\":\"" TIME "\"")},
        {"event empty", LINE("7", "\"time\":\"" TIME "\",\"event\":\"\"")},
        {"event in capitals", LINE("7", "\"time\":\"" TIME "\",\"event\":\"Call\"")},
        {"event with an escape", LINE("7", "\"time\":\"" TIME "\",\"event\":\"c\\u0061ll\"")},
        {"event without an end", LINE("7", "\"time\":\"" TIME "\",\"event\":\"call")},
        {"event too long",
         LINE("7", "\"time\":\"" TIME "\",\"event\":\"abcdefghijklmnopqrstuvwxy\"")},
        {"no comma behind the event", LINE("7", BEGIN ":1")},
        {"bad time", LINE("7", "\"time\":\"2026-02-30T00:00:00.000000Z\",\"event\":\"call\"")},
        {"hash with bits to spare",
         "{\"seq\":7," BEGIN ",\"hash\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB\"}"},
        {"hash with padding",
         "{\"seq\":7," BEGIN ",\"hash\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}"},
        {"hash in the other alphabet",
         "{\"seq\":7," BEGIN ",\"hash\":\"+AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"},
        {"hash a character short",
         "{\"seq\":7," BEGIN ",\"hash\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"},
        {"other end", "{\"seq\":7," BEGIN ",\"hash\":\"" ZEROS "\"]"},
        {"hash not last", LINE("7", BEGIN) "}"},
    };
    struct audit_line line = {.seq = 4711};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *reason = NULL;
        test_row(rows[i].name);
        CHECK_INT(audit_line_read(slice_from_cstr(rows[i].text), &line, &reason), AUDIT_E_LINE);
        CHECK(reason != NULL && reason[0] != '\0');
        CHECK_INT(line.seq, 4711);
        CHECK_INT(audit_line_read(slice_from_cstr(rows[i].text), &line, NULL), AUDIT_E_LINE);
    }
    test_row("");
    /* What the rows differ from is one. */
    CHECK_INT(audit_line_read(SLICE(LINE("7", BEGIN)), &line, NULL), 0);
    CHECK_INT(audit_line_read(SLICE(LINE("18446744073709551615", BEGIN ",")), &line, NULL), 0);
    CHECK_INT(audit_line_read(
                  SLICE(LINE("1", "\"time\":\"" TIME "\",\"event\":\"abcdefghijklmnopqrstuvwx\"")),
                  &line, NULL),
              0);
}

/* Every end that is cut off, in memory of exactly that size. */
static void test_cut(void) {
    static const char whole[] = LINE("7", BEGIN);
    struct audit_line line;
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        char *copy = mem_alloc(n);
        REQUIRE(copy != NULL);
        memcpy(copy, whole, n);
        CHECK_INT(audit_line_read(slice_make(copy, n), &line, NULL), AUDIT_E_LINE);
        mem_free(copy);
    }
}

static void test_refused_bodies(void) {
    static const struct {
        const char *name, *body;
    } rows[] = {
        {"empty", ""},
        {"no time", "\"event\":\"call\""},
        {"line end", BEGIN ",\"a\":\n1"},
        {"line end last", BEGIN "\n"},
        {"nothing but a time", "\"time\":\"" TIME "\""},
        {"brace", "{" BEGIN},
    };
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = new_hasher();
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct audit_chain chain = {.seq = 5, .hash = {1, 2, 3}}, before = chain;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice body = slice_from_cstr(rows[i].body);
        test_row(rows[i].name);
        CHECK_INT(audit_line_write(hasher, &chain, &body, 1, &out), -EINVAL);
        CHECK_INT(buf_len(&out), 0);
        CHECK_INT(buf_error(&out), 0);
        CHECK(memcmp(&chain, &before, sizeof chain) == 0);
    }
    test_row("");
    struct slice good = SLICE(BEGIN);
    CHECK_INT(audit_line_write(hasher, &chain, NULL, 0, &out), -EINVAL);
    chain.seq = UINT64_MAX;
    CHECK_INT(audit_line_write(hasher, &chain, &good, 1, &out), -EOVERFLOW);
    chain.seq = UINT64_MAX - 1;
    CHECK_INT(audit_line_write(hasher, &chain, &good, 1, &out), 0);
    struct audit_line line;
    CHECK_INT(audit_line_read(slice_sub(buf_slice(&out), 0, buf_len(&out) - 1), &line, NULL), 0);
    CHECK(line.seq == UINT64_MAX);
}

/* Each byte at each place behind the event, in bodies of many lengths: the blocks that are looked
 * at at once begin and end everywhere. */
static void test_controls(void) {
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = new_hasher();
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    char body[sizeof BEGIN + 40];
    size_t wrong = 0, first = sizeof BEGIN ",\"" - 1;
    for (size_t len = first + 1; len <= sizeof body; len++) {
        for (size_t at = first; at < len; at++) {
            for (int byte = 0; byte < 256; byte++) {
                struct audit_chain chain = {.seq = 5};
                struct slice text = slice_make(body, len);
                memset(body, 'x', sizeof body);
                memcpy(body, BEGIN ",\"", first);
                body[at] = (char)(unsigned char)byte;
                buf_reset(&out, KIB(1));
                int error = audit_line_write(hasher, &chain, &text, 1, &out);
                wrong += error != (byte < 0x20 ? -EINVAL : 0);
            }
        }
    }
    CHECK_INT(wrong, 0);
}

static void test_longest(void) {
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = new_hasher();
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(80));
    struct audit_chain chain = {.seq = 0};
    struct audit_line line;
    char *body = mem_alloc(LIMIT_AUDIT_BODY + 1);
    REQUIRE(body != NULL);
    memset(body, 'x', LIMIT_AUDIT_BODY + 1);
    memcpy(body, BEGIN ",\"", sizeof BEGIN ",\"" - 1);
    struct slice most = slice_make(body, LIMIT_AUDIT_BODY);
    struct slice more[] = {most, slice_make(body + LIMIT_AUDIT_BODY, 1)};
    CHECK_INT(audit_line_write(hasher, &chain, more, 2, &out), -EMSGSIZE);
    CHECK_INT(audit_line_write(hasher, &chain, &most, 1, &out), 0);
    struct slice text = slice_sub(buf_slice(&out), 0, buf_len(&out) - 1);
    CHECK_INT(audit_line_read(text, &line, NULL), 0);
    /* A byte more in the middle. */
    CHECK(buf_append(&out, SLICE("x")) == 0);
    memmove(out.data + 1000, out.data + 999, text.len - 999);
    CHECK_INT(audit_line_read(slice_make(out.data, text.len + 1), &line, NULL), AUDIT_E_LINE);
    /* A buffer without room. */
    struct buf small CLEANUP(buf_deinit) = BUF_INIT(100);
    struct slice body_of_call = SLICE(BEGIN);
    struct audit_chain before = chain;
    CHECK_INT(audit_line_write(hasher, &chain, &body_of_call, 1, &small), -E2BIG);
    CHECK(memcmp(&chain, &before, sizeof chain) == 0);
    mem_free(body);
}

/* Each bit of one line: it is no line, or has another hash. */
static void test_each_bit(void) {
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = new_hasher();
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct slice body = SLICE(BEGIN ",\"operation\":\"files__read\",\"n\":[1,2,3]");
    struct audit_chain chain = {.seq = 41}, from = chain;
    CHECK_INT(audit_line_write(hasher, &chain, &body, 1, &out), 0);
    size_t n_found = 0, n_bits = (buf_len(&out) - 1) * 8;
    for (size_t bit = 0; bit < n_bits; bit++) {
        struct audit_chain next = from;
        struct audit_line line;
        out.data[bit / 8] = (char)(out.data[bit / 8] ^ (1 << bit % 8));
        if (audit_line_read(slice_make(out.data, buf_len(&out) - 1), &line, NULL) != 0 ||
            !audit_line_follows(hasher, &next, &line))
            n_found++;
        out.data[bit / 8] = (char)(out.data[bit / 8] ^ (1 << bit % 8));
    }
    CHECK_INT(n_found, n_bits);
}

static void test_time(void) {
    static const struct {
        const char *text;
        uint64_t us;
    } rows[] = {
        {"1970-01-01T00:00:00.000000Z", 0},
        {"1970-01-01T00:00:00.000001Z", 1},
        {"1972-02-29T12:00:00.000000Z", UINT64_C(68212800000000)},
        {"2000-02-29T00:00:00.000000Z", UINT64_C(951782400000000)},
        {"2026-11-21T22:55:01.123456Z", UINT64_C(1795301701123456)},
        {"2100-03-01T00:00:00.000000Z", UINT64_C(4107542400000000)},
        {"9999-12-31T23:59:59.999999Z", UINT64_C(253402300799999999)},
    };
    static const char *const bad[] = {
        "",
        "2026-11-21T22:55:01.123456",
        "2026-11-21T22:55:01.123456z",
        "2026-11-21t22:55:01.123456Z",
        "2026-11-21 22:55:01.123456Z",
        "2026-11-21T22:55:01,123456Z",
        "2026-11-21T22:55:01.12345Z",
        "2026-11-21T22:55:01.1234567Z",
        "2026-11-21T22:55:60.000000Z",
        "2026-11-21T22:60:00.000000Z",
        "2026-11-21T24:00:00.000000Z",
        "2026-11-31T00:00:00.000000Z",
        "2026-00-01T00:00:00.000000Z",
        "2026-13-01T00:00:00.000000Z",
        "2026-11-00T00:00:00.000000Z",
        "2025-02-29T00:00:00.000000Z",
        "2100-02-29T00:00:00.000000Z",
        "1969-12-31T23:59:59.999999Z",
        "+026-11-21T22:55:01.123456Z",
        "2026-1 -21T22:55:01.123456Z",
    };
    char text[AUDIT_TIME_CHARS + 1];
    uint64_t us = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].text);
        audit_time_write(rows[i].us, text);
        CHECK_STR(slice_from_cstr(text), rows[i].text);
        CHECK(audit_time_read(slice_from_cstr(rows[i].text), &us) && us == rows[i].us);
    }
    us = 4711;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        test_row(bad[i]);
        CHECK(!audit_time_read(slice_from_cstr(bad[i]), &us));
        CHECK_INT(us, 4711);
    }
    test_row("");
    /* Each day of 500 years, there and back. */
    for (uint64_t day = 0; day < 182622; day++) {
        uint64_t expected = day * UINT64_C(86400000000) + 45296789012;
        audit_time_write(expected, text);
        REQUIRE(audit_time_read(slice_from_cstr(text), &us) && us == expected);
    }
}

static void test_head(void) {
    static const char *const bad[] = {
        "",
        ":" ZEROS,
        "1:",
        "1" ZEROS,
        "1:" ZEROS "A",
        "01:" ZEROS,
        "-1:" ZEROS,
        " 1:" ZEROS,
        "1: " ZEROS,
        "18446744073709551616:" ZEROS,
        "1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB",
        "0:BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", /* nothing has no other hash */
    };
    struct audit_chain chain = {.seq = 4711}, most = {.seq = UINT64_MAX};
    char text[AUDIT_HEAD_CHARS + 1];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        test_row(bad[i]);
        CHECK(!audit_head_read(slice_from_cstr(bad[i]), &chain));
        CHECK_INT(chain.seq, 4711);
    }
    test_row("");
    CHECK(audit_head_read(SLICE("0:" ZEROS), &chain));
    CHECK_INT(chain.seq, 0);
    memset(most.hash, 0xfb, sizeof most.hash);
    struct slice head = audit_head_write(&most, text);
    CHECK_INT(head.len, AUDIT_HEAD_CHARS);
    CHECK(audit_head_read(head, &chain));
    CHECK(memcmp(&chain, &most, sizeof chain) == 0);
}

static void write_without_memory(void *arg) {
    struct audit_hasher *hasher = arg;
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct audit_chain chain = {.seq = 0};
    struct slice body = SLICE(BEGIN);
    int error = audit_line_write(hasher, &chain, &body, 1, &out);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK_INT(chain.seq, error == 0 ? 1 : 0);
    struct audit_hasher *another = NULL;
    error = audit_hasher_new(&another);
    CHECK(error == 0 ? another != NULL : error == -ENOMEM && another == NULL);
    audit_hasher_free(another);
}

static void test_memory(void) {
    struct audit_hasher *hasher = new_hasher();
    test_torture(write_without_memory, hasher);
    audit_hasher_free(hasher);
}

/* --- bodies of the trail's own --- */

static void test_own_bodies(void) {
    struct made_log log;
    struct audit_line line;
    struct audit_segment_body segment;
    struct audit_checkpoint_body checkpoint;
    made_init(&log, SLICE(MADE_KEY), SLICE(MADE_LOG));
    made_segment(&log);
    struct slice first = buf_slice(made_file(&log));
    REQUIRE(audit_line_read(slice_sub(first, 0, first.len - 1), &line, NULL) == 0);
    REQUIRE(audit_segment_body_read(&line, &segment));
    CHECK_STR(segment.log, MADE_LOG);
    CHECK_STR(segment.program, "cardea 0.1.0");
    CHECK_INT(segment.number, 1);
    CHECK(segment.time_us == MADE_TIME);
    CHECK(!audit_checkpoint_body_read(&line, &checkpoint));
    CHECK(slice_is_empty(audit_body_id(&line)));
    struct audit_chain up_to = log.chain;
    made_checkpoint(&log);
    struct slice second = slice_from(buf_slice(made_file(&log)), first.len);
    REQUIRE(audit_line_read(slice_sub(second, 0, second.len - 1), &line, NULL) == 0);
    REQUIRE(audit_checkpoint_body_read(&line, &checkpoint));
    CHECK(!audit_segment_body_read(&line, &segment));
    CHECK_INT(checkpoint.records, 1);
    const struct audit_checkpoint what = {.log = checkpoint.log,
                                          .time = checkpoint.time,
                                          .records = checkpoint.records,
                                          .up_to = &up_to};
    CHECK(audit_signature_is_good(audit_keys_public(log.keys), &what, checkpoint.signature));
    made_deinit(&log);
}

static void test_refused_own_bodies(void) {
    static const struct {
        const char *name, *event, *rest;
    } rows[] = {
        {"another member", "segment",
         "\"log\":\"" MADE_LOG "\",\"number\":1,\"previous\":\"" ZEROS
         "\",\"key\":\"AAAAAAAAAAAAAAAA\",\"program\":\"p\",\"a\":1"},
        {"another order", "segment",
         "\"number\":1,\"log\":\"" MADE_LOG "\",\"previous\":\"" ZEROS
         "\",\"key\":\"AAAAAAAAAAAAAAAA\",\"program\":\"p\""},
        {"escape in the program", "segment",
         "\"log\":\"" MADE_LOG "\",\"number\":1,\"previous\":\"" ZEROS
         "\",\"key\":\"AAAAAAAAAAAAAAAA\",\"program\":\"\\u0070\""},
        {"zero in front", "segment",
         "\"log\":\"" MADE_LOG "\",\"number\":01,\"previous\":\"" ZEROS
         "\",\"key\":\"AAAAAAAAAAAAAAAA\",\"program\":\"p\""},
        {"short log", "segment",
         "\"log\":\"AAA\",\"number\":1,\"previous\":\"" ZEROS
         "\",\"key\":\"AAAAAAAAAAAAAAAA\",\"program\":\"p\""},
        {"short signature", "checkpoint",
         "\"log\":\"" MADE_LOG "\",\"key\":\"AAAAAAAAAAAAAAAA\",\"records\":1,"
         "\"signature\":\"" ZEROS "\""},
        {"bits to spare", "checkpoint",
         "\"log\":\"" MADE_LOG "\",\"key\":\"AAAAAAAAAAAAAAAA\",\"records\":1,"
         "\"signature\":\"" ZEROS ZEROS "B\""},
    };
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = new_hasher();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf body CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        struct audit_chain chain = {.seq = 0};
        struct audit_line line;
        struct audit_segment_body segment;
        struct audit_checkpoint_body checkpoint;
        test_row(rows[i].name);
        buf_printf(&body, "\"time\":\"" TIME "\",\"event\":\"%s\",%s", rows[i].event, rows[i].rest);
        struct slice piece = buf_slice(&body);
        CHECK_INT(audit_line_write(hasher, &chain, &piece, 1, &out), 0);
        REQUIRE(audit_line_read(slice_sub(buf_slice(&out), 0, buf_len(&out) - 1), &line, NULL) ==
                0);
        CHECK(!audit_segment_body_read(&line, &segment));
        CHECK(!audit_checkpoint_body_read(&line, &checkpoint));
    }
    test_row("");
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct audit_segment_body segment = {
        .log = SLICE(MADE_LOG), .key = SLICE("AAAAAAAAAAAAAAAA"), .program = SLICE("a\"b")};
    CHECK_INT(audit_body_segment(&segment, &out), -EINVAL);
    segment.program = SLICE("a\nb");
    CHECK_INT(audit_body_segment(&segment, &out), -EINVAL);
    segment.program = SLICE("p");
    segment.log = SLICE("x");
    CHECK_INT(audit_body_segment(&segment, &out), -EINVAL);
}

static void test_ids(void) {
    static const struct {
        const char *rest, *id;
    } rows[] = {
        {",\"id\":\"a1\"", "a1"},
        {",\"id\":\"a1\",\"x\":2", "a1"},
        {"", ""},
        {",\"x\":1,\"id\":\"a1\"", ""},
        {",\"id\":7", ""},
        {",\"id\":\"a1", ""},
        {",\"id\":\"0123456789012345678901234567890123456789012345678901234567890123\"",
         "0123456789012345678901234567890123456789012345678901234567890123"},
        {",\"id\":\"01234567890123456789012345678901234567890123456789012345678901234\"", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        struct audit_line line;
        buf_printf(&text, "{\"seq\":7," BEGIN "%s,\"hash\":\"" ZEROS "\"}", rows[i].rest);
        test_row(rows[i].rest);
        REQUIRE(audit_line_read(buf_slice(&text), &line, NULL) == 0);
        CHECK_STR(audit_body_id(&line), rows[i].id);
    }
}

TEST_MAIN(TEST(test_known_lines), TEST(test_read), TEST(test_no_lines), TEST(test_cut),
          TEST(test_refused_bodies), TEST(test_controls), TEST(test_longest), TEST(test_each_bit),
          TEST(test_time), TEST(test_head), TEST(test_memory), TEST(test_own_bodies),
          TEST(test_refused_own_bodies), TEST(test_ids))
