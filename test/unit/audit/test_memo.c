/* What is remembered of texts: that it is what was said of them, that it changes no byte of a
 * record, and that new rules begin with nothing. */
#include <stdio.h>

#include "memo.h"
#include "record.h"
#include "record_world.h"

static void test_facts(void) {
    static struct memo memo;
    struct slice text = SLICE("files__read");
    CHECK(!memo_knows(&memo, text, MEMO_TEXT));
    memo_note(&memo, text, MEMO_TEXT);
    CHECK(memo_knows(&memo, text, MEMO_TEXT));
    CHECK(!memo_knows(&memo, text, MEMO_KEY));
    memo_note(&memo, text, MEMO_KEY);
    CHECK(memo_knows(&memo, text, MEMO_TEXT) && memo_knows(&memo, text, MEMO_KEY));
    CHECK(!memo_knows(&memo, SLICE("files__rea"), MEMO_TEXT));
    CHECK(!memo_knows(&memo, SLICE("files__reae"), MEMO_TEXT));
    memo_clear(&memo);
    CHECK(!memo_knows(&memo, text, MEMO_TEXT) && !memo_knows(&memo, text, MEMO_KEY));
}

static void test_lengths(void) {
    static struct memo memo;
    char text[MEMO_LONGEST + 2];
    for (size_t len = 0; len <= sizeof text; len++) {
        memset(text, 'a', sizeof text);
        struct slice slice = slice_make(text, len);
        memo_clear(&memo);
        memo_note(&memo, slice, MEMO_TEXT);
        CHECK_INT(memo_knows(&memo, slice, MEMO_TEXT), len >= 1 && len <= MEMO_LONGEST);
        /* Each byte counts. */
        for (size_t i = 0; i < len; i++) {
            text[i] = 'b';
            CHECK(!memo_knows(&memo, slice, MEMO_TEXT));
            text[i] = 'a';
        }
    }
}

/* Many more texts than there are places: none is known that was not noted, and no facts of one are
 * another's. */
static void test_places(void) {
    static struct memo memo;
    size_t n_known = 0, n_keys = 0;
    char text[32];
    for (unsigned i = 0; i < 4000; i += 2) {
        int len = snprintf(text, sizeof text, "text %u", i);
        memo_note(&memo, slice_make(text, (size_t)len), i % 4 == 0 ? MEMO_TEXT : MEMO_KEY);
    }
    for (unsigned i = 0; i < 4000; i++) {
        int len = snprintf(text, sizeof text, "text %u", i);
        bool is_text = memo_knows(&memo, slice_make(text, (size_t)len), MEMO_TEXT);
        bool is_key = memo_knows(&memo, slice_make(text, (size_t)len), MEMO_KEY);
        CHECK(!is_text || i % 4 == 0);
        CHECK(!is_key || i % 4 == 2);
        n_known += is_text || is_key;
        n_keys += is_key;
    }
    /* They spread over the places. */
    CHECK(n_known > MEMO_PLACES * 3 / 4 && n_known <= MEMO_PLACES);
    CHECK(n_keys > MEMO_PLACES / 4);
}

/* --- the same bytes --- */

static uint64_t state = UINT64_C(0x2545f4914f6cdd1d);

static size_t next(size_t n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (size_t)(state >> 11) % n;
}

/* Usual ones and others, of which each comes again. */
static struct slice some_text(char space[128]) {
    static const char *const texts[] = {
        "",
        "a",
        "ann",
        "tools/call",
        "files__read",
        "claude-code 2.0.31",
        "a name of exactly 16",
        "quote \" in it",
        "back\\slash",
        "line\nend",
        "\xc3\xa9t\xc3\xa9",
        "not UTF-8 \xff",
        "\x7f",
        "token=kanari",
        "password",
        "Bearer abcdefgh12345678",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "[redacted]",
        "https://ann:kanari@host.example/",
        "name",
        "value",
        "DB_PASSWORD",
        "77-kanari-77",
        "ssn",
        "--password",
    };
    size_t which = next(ARRAY_LEN(texts) + 2);
    if (which < ARRAY_LEN(texts))
        return slice_from_cstr(texts[which]);
    /* Up to beyond what is remembered. */
    size_t len = next(128);
    for (size_t i = 0; i < len; i++)
        space[i] = which == ARRAY_LEN(texts) ? 'x' : (char)('a' + next(2));
    return slice_make(space, len);
}

static void append_string(struct buf *out, struct slice text) {
    buf_append_byte(out, '"');
    record_escape(out, text, false, SIZE_MAX);
    buf_append_byte(out, '"');
}

/* Members of one object have names of their own: a number in front, behind, or none. */
static void append_arguments(struct buf *out, size_t depth) {
    size_t n = next(4);
    char space[128];
    buf_append_byte(out, '{');
    for (size_t i = 0; i < n; i++) {
        struct slice key = some_text(space);
        buf_append_cstr(out, i > 0 ? ",\"" : "\"");
        if (i > 0)
            buf_append_u64(out, i);
        record_escape(out, key, false, SIZE_MAX);
        buf_append_cstr(out, "\":");
        if (depth < 4 && next(3) == 0) {
            append_arguments(out, depth + 1);
        } else if (next(4) == 0) {
            buf_append_byte(out, '[');
            append_string(out, some_text(space));
            buf_append_byte(out, ',');
            append_string(out, some_text(space));
            buf_append_byte(out, ']');
        } else {
            append_string(out, some_text(space));
        }
    }
    buf_append_byte(out, '}');
}

struct texts {
    struct slice texts[14];
    char spaces[14][128];
    struct buf arguments;
};

static void write_record(struct audit_writer *writer, const struct texts *texts, struct buf *out) {
    const struct slice *text = texts->texts;
    struct audit_who who = {.user = text[0],
                            .groups = &text[1],
                            .n_groups = 3,
                            .authentication = SLICE("token"),
                            .token = text[4],
                            .client = text[5],
                            .session = text[6],
                            .trace = text[7]};
    struct audit_what what = {
        .method = text[8], .operation = text[9], .arguments = buf_slice(&texts->arguments)};
    struct audit_where where = {
        .upstream = text[10], .upstream_operation = text[11], .access = SLICE("read")};
    struct audit_result result = {.status = SLICE("ok"), .code = text[12], .message = text[13]};
    buf_reset(out, SIZE_MAX);
    audit_write_begin(out, "call", 0, SLICE("1"));
    audit_write_who(writer, out, &who);
    audit_write_what(writer, out, &what);
    audit_write_where(writer, out, &where);
    audit_write_result(writer, out, &result);
}

static void compare_records(const struct config_audit *config) {
    struct record_world with, without;
    struct texts texts = {.arguments = BUF_INIT(MIB(1))};
    size_t n_redacted = 0;
    record_world_open(&with, config, NULL);
    record_world_open(&without, config, NULL);
    record_remember_nothing(without.writer);
    for (size_t i = 0; i < 5000; i++) {
        for (size_t k = 0; k < ARRAY_LEN(texts.texts); k++)
            texts.texts[k] = some_text(texts.spaces[k]);
        buf_reset(&texts.arguments, SIZE_MAX);
        append_arguments(&texts.arguments, 0);
        write_record(with.writer, &texts, &with.body);
        write_record(without.writer, &texts, &without.body);
        REQUIRE(record_is_sound(&with));
        n_redacted += slice_find(buf_slice(&with.body), SLICE(AUDIT_REDACTED)) != SIZE_MAX;
        if (!slice_eq(buf_slice(&with.body), buf_slice(&without.body))) {
            CHECK_SLICE(buf_slice(&with.body), buf_slice(&without.body));
            break;
        }
    }
    CHECK(n_redacted > 1000);
    buf_deinit(&texts.arguments);
    record_world_close(&with);
    record_world_close(&without);
}

static void test_same_bytes(void) {
    static struct slice paths[] = {SLICE_INIT("ssn"), SLICE_INIT("name.*")};
    static struct slice patterns[] = {SLICE_INIT("\\d\\d-k\\w+-\\d\\d"), SLICE_INIT("an+")};
    static const struct config_audit rows[] = {
        {.max_arguments = KIB(4), .redact_shapes = true},
        {.max_arguments = 100, .redact_shapes = true, .redact_paths = paths, .n_redact_paths = 2},
        {.max_arguments = KIB(4),
         .redact_shapes = true,
         .redact_paths = paths,
         .n_redact_paths = 2,
         .redact_patterns = patterns,
         .n_redact_patterns = 2},
        {.max_arguments = KIB(4), .redact_patterns = patterns, .n_redact_patterns = 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        compare_records(&rows[i]);
}

/* --- other rules --- */

static void write_one(struct record_world *world) {
    struct slice groups[] = {SLICE("ann's group")};
    struct audit_who who = {.user = SLICE("ann"),
                            .groups = groups,
                            .n_groups = 1,
                            .client = SLICE("ghp_abcdefghijklmnopqrstuvwxyz0123456789")};
    struct audit_what what = {.operation = SLICE("anna"),
                              .arguments = SLICE("{\"ann\":1,\"ssn\":2}")};
    buf_reset(&world->body, SIZE_MAX);
    audit_write_who(world->writer, &world->body, &who);
    audit_write_what(world->writer, &world->body, &what);
}

static const char shown[] =
    ",\"user\":\"ann\",\"groups\":[\"ann's group\"],"
    "\"client\":\"ghp_abcdefghijklmnopqrstuvwxyz0123456789\",\"operation\":\"anna\","
    "\"arguments\":{\"ann\":1,\"ssn\":2},\"arguments_bytes\":17";
static const char hidden[] = ",\"user\":\"[redacted]\",\"groups\":[\"[redacted]'s group\"],"
                             "\"client\":\"[redacted]\",\"operation\":\"[redacted]a\","
                             "\"arguments\":{\"[redacted]#1\":1,\"ssn\":\"[redacted]\"},"
                             "\"arguments_bytes\":17";

static void test_new_rules(void) {
    static struct slice paths[] = {SLICE_INIT("ssn")}, patterns[] = {SLICE_INIT("ann")};
    const struct config_audit loose = {.max_arguments = KIB(1)};
    const struct config_audit strict = {.max_arguments = KIB(1),
                                        .redact_shapes = true,
                                        .redact_paths = paths,
                                        .n_redact_paths = 1,
                                        .redact_patterns = patterns,
                                        .n_redact_patterns = 1};
    struct record_world world;
    struct audit_redact *other = NULL;
    struct buf reason = BUF_INIT(1000);
    record_world_open(&world, &loose, NULL);
    REQUIRE(audit_redact_new(&strict, &other, &reason) == 0);
    for (size_t i = 0; i < 3; i++) {
        write_one(&world);
        CHECK_STR(buf_slice(&world.body), shown);
    }
    audit_writer_set_redact(world.writer, other);
    for (size_t i = 0; i < 3; i++) {
        write_one(&world);
        CHECK_STR(buf_slice(&world.body), hidden);
    }
    audit_writer_set_redact(world.writer, world.redact);
    write_one(&world);
    CHECK_STR(buf_slice(&world.body), shown);
    record_world_close(&world);
    audit_redact_free(other);
    buf_deinit(&reason);
}

TEST_MAIN(TEST(test_facts), TEST(test_lengths), TEST(test_places), TEST(test_same_bytes),
          TEST(test_new_rules))
