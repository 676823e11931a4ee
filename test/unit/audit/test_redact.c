/* What of arguments is shown: names, paths, patterns, escapes; and what a key becomes. */
#include <time.h>

#include "names.h"
#include "record_world.h"

#define R "\"[redacted]\""

static const struct slice paths[] = {
    SLICE_INIT("ssn"),   SLICE_INIT("card.number"), SLICE_INIT("db.*.host"),
    SLICE_INIT("*.top"), SLICE_INIT("rows.cell"),
};
static const struct slice patterns[] = {SLICE_INIT("\\b\\d{4}-\\d{4}\\b"),
                                        SLICE_INIT("(?i)acme\\w*")};

/* The lists are not changed. */
static struct slice *list_of(const struct slice *rows) {
    union {
        const struct slice *from;
        struct slice *to;
    } same = {.from = rows};
    return same.to;
}

static struct config_audit usual(void) {
    return (struct config_audit){.max_arguments = KIB(2),
                                 .redact_shapes = true,
                                 .redact_paths = list_of(paths),
                                 .n_redact_paths = ARRAY_LEN(paths),
                                 .redact_patterns = list_of(patterns),
                                 .n_redact_patterns = ARRAY_LEN(patterns)};
}

static void test_arguments(void) {
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"{}", "{}"},
        {" [ 1 , 2.50 , -0e1 , true , null , \"a\\/\\u00e4\" ] ",
         "[1,2.50,-0e1,true,null,\"a/\xc3\xa4\"]"},
        {"\"x\"", "\"x\""},
        {"7", "7"},
        {"null", "null"},
        {"{\"a\":{\"b\":[{\"c\":[]},{}]},\"d\":[[],[[]]]}",
         "{\"a\":{\"b\":[{\"c\":[]},{}]},\"d\":[[],[[]]]}"},
        /* Names. */
        {"{\"password\":\"x\",\"user\":\"y\"}", "{\"password\":" R ",\"user\":\"y\"}"},
        {"{\"Pass-Word\":1,\"API_KEY\":true,\"x\":{\"client_secret\":[1,2]}}",
         "{\"Pass-Word\":" R ",\"API_KEY\":" R ",\"x\":{\"client_secret\":" R "}}"},
        {"{\"pass\\u0077ord\":\"x\"}", "{\"password\":" R "}"},
        {"{\"credentials\":{\"user\":\"a\",\"key\":\"b\"},\"z\":1}",
         "{\"credentials\":" R ",\"z\":1}"},
        {"[{\"token\":null}]", "[{\"token\":" R "}]"},
        {"{\"max_tokens\":5,\"tokens\":[1],\"token_count\":2,\"progressToken\":7}",
         "{\"max_tokens\":5,\"tokens\":[1],\"token_count\":2,\"progressToken\":7}"},
        {"{\"env\":[{\"name\":\"API_KEY\",\"value\":\"x\"},{\"name\":\"HOME\",\"value\":\"/"
         "root\"}]}",
         "{\"env\":[{\"name\":\"API_KEY\",\"value\":" R
         "},{\"name\":\"HOME\",\"value\":\"/root\"}]}"},
        {"{\"Value\":\"x\",\"a\":{\"b\":[]},\"Key\":\"auth\\u006frization\"}",
         "{\"Value\":" R ",\"a\":{\"b\":[]},\"Key\":\"authorization\"}"},
        {"{\"args\":[\"run\",\"--password\",\"x\",\"--force\",\"y\"]}",
         "{\"args\":[\"run\",\"--password\"," R ",\"--force\",\"y\"]}"},
        {"{\"a\":[\"--token\"],\"b\":\"x\"}", "{\"a\":[\"--token\"],\"b\":\"x\"}"},
        {"[\"--token\",{\"a\":[1]},2]", "[\"--token\"," R ",2]"},
        /* Paths. */
        {"{\"ssn\":1,\"a\":[{\"SSN\":\"x\"}]}", "{\"ssn\":" R ",\"a\":[{\"SSN\":" R "}]}"},
        {"{\"card\":{\"number\":1,\"x\":2},\"number\":3}",
         "{\"card\":{\"number\":" R ",\"x\":2},\"number\":3}"},
        {"{\"a\":{\"card\":{\"number\":1}}}", "{\"a\":{\"card\":{\"number\":1}}}"},
        {"{\"CARD\":[[{\"Number\":{\"x\":1}}]]}", "{\"CARD\":[[{\"Number\":" R "}]]}"},
        {"[{\"c\\u0061rd\":{\"n\\u0075mber\":1}}]", "[{\"card\":{\"number\":" R "}}]"},
        {"{\"db\":{\"a\":{\"host\":1,\"port\":2},\"host\":3}}",
         "{\"db\":{\"a\":{\"host\":" R ",\"port\":2},\"host\":3}}"},
        {"{\"db\":{\"a\":{\"b\":{\"host\":1}}}}", "{\"db\":{\"a\":{\"b\":{\"host\":1}}}}"},
        {"{\"a\":{\"top\":1},\"top\":2,\"b\":{\"c\":{\"top\":3}}}",
         "{\"a\":{\"top\":" R "},\"top\":2,\"b\":{\"c\":{\"top\":3}}}"},
        {"{\"rows\":[{\"cell\":1},[{\"cell\":2}]]}",
         "{\"rows\":[{\"cell\":" R "},[{\"cell\":" R "}]]}"},
        /* Shapes, also behind escapes; patterns. */
        {"{\"a\":\"\\u0073k-"
         "aB3dE5gH7jK9mN1pQ3sT5\"}",
         "{\"a\":" R "}"},
        {"{\"a\":\"x \\u0070assw\\u006frd\\u003dhunter2\"}", "{\"a\":\"x password=[redacted]\"}"},
        {"{\"a\":\"{\\\"password\\\":\\\"x\\\"}\"}",
         "{\"a\":\"{\\\"password\\\":\\\"[redacted]\\\"}\"}"},
        {"{\"a\":\"card 1234-5678 of AcmeCorp!\"}", "{\"a\":\"card [redacted] of [redacted]!\"}"},
        {"{\"a\":\"\\u0031234-5678\"}", "{\"a\":" R "}"},
        {"{\"a\":\"password=1234-5678;x\"}", "{\"a\":\"password=[redacted];x\"}"},
        {"{\"a\":\"acme1234-5678\"}", "{\"a\":\"[redacted]-5678\"}"},
        /* Keys. */
        {"{\"1234-5678\":1,\"acme\":2,\"x\":3}", "{\"[redacted]#1\":1,\"[redacted]#2\":2,\"x\":3}"},
        {"{\"[redacted]#1\":1,\"acme\":2}", "{\"[redacted]#1#1\":1,\"[redacted]#2\":2}"},
        {"{\"a\\u0022\\n\\ud83d\\ude00\":\"\\u0000\\u001f\\u007f\\\\\"}",
         "{\"a\\\"\\n\xf0\x9f\x98\x80\":\"\\u0000\\u001f\x7f\\\\\"}"},
        /* What is no JSON is not shown. */
        {"", ""},
        {"{", ""},
        {"{} {}", ""},
        {"{\"a\":\"\\ud800\"}", ""},
        {"{\"a\":1,\"a\":2}", ""},
        {"\"\xff\"", ""},
        {"\"\x01\"", ""},
    };
    struct record_world world;
    struct config_audit config = usual();
    record_world_open(&world, &config, NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].in);
        struct slice in = slice_from_cstr(rows[i].in);
        CHECK_STR(record_arguments(&world, in), rows[i].out);
        CHECK_STR(record_member(&world, "arguments_cut"), rows[i].out[0] == '\0' ? "true" : "");
        char digits[24];
        snprintf(digits, sizeof digits, "%zu", in.len);
        CHECK_STR(record_member(&world, "arguments_bytes"), digits);
    }
    record_world_close(&world);
}

static void test_names(void) {
    static const char *const secrets[] = {
        "password",
        "Passwd",
        "pwd",
        "passphrase",
        "secret",
        "clientSecret",
        "token",
        "access_token",
        "refresh-token",
        "idToken",
        "apiKey",
        "X-API-Key",
        "Authorization",
        "Proxy-Authorization",
        "cookie",
        "Set-Cookie",
        "credential",
        "credentials",
        "private_key",
        "sshKey",
        "signing_key",
        "encryptionKey",
        "bearer",
        "jwt",
        "session_id",
        "otp",
        "pin",
        "new_password",
        "passwordConfirm",
        "password2",
        "github_token",
        "GITHUB TOKEN",
        "slackBotToken",
        "my.api.key",
        "aws_secret_access_key",
        "SecretString",
        "cvv",
        "cvc2",
        "pgpassword",
        "private_key_id",
        "AccountKey",
        "recovery-codes",
        "wifi_password_2g",
    };
    static const char *const harmless[] = {
        "",
        "a",
        "tokens",
        "max_tokens",
        "maxTokens",
        "token_count",
        "tokenType",
        "tokenizer",
        "token_limit",
        "page_token",
        "nextPageToken",
        "continuation_token",
        "progressToken",
        "eos_token",
        "key",
        "keys",
        "primary_key",
        "publicKey",
        "user",
        "name",
        "author",
        "authority",
        "secretary",
        "secret_name",
        "password_length",
        "passwordPolicy",
        "compass",
        "bypass",
        "spinner",
        "shipping",
        "opinion",
        "session",
        "id",
        "code",
        "signature",
        "hash",
        "sort",
        "pins",
        "passenger",
        "tokenize",
        "123",
        "_-_",
    };
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        test_row(secrets[i]);
        CHECK(name_is_secret(slice_from_cstr(secrets[i])));
    }
    for (size_t i = 0; i < ARRAY_LEN(harmless); i++) {
        test_row(harmless[i]);
        CHECK(!name_is_secret(slice_from_cstr(harmless[i])));
    }
}

/* Whatever the room is: JSON, no longer than that, and nothing of a secret. */
static void test_cut(void) {
    static const char document[] =
        "{\"first\":\"some text here\",\"list\":[1,[2,[3,{\"deep\":{\"er\":[]}}]],\"x\"],"
        "\"password\":\"kanari\",\"n\":123456789,\"key\":\"tail ghp_"
        "kanariAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA end\",\"last\":\"\\u00e4\\u00e4\\u00e4\\u00e4\"}";
    struct slice in = slice_make(document, sizeof document - 1);
    bool was_whole = false;
    for (size_t max = 1; max < 400; max++) {
        struct record_world world;
        struct config_audit config = usual();
        config.max_arguments = max;
        record_world_open(&world, &config, NULL);
        struct slice out = record_arguments(&world, in);
        bool is_cut = record_member(&world, "arguments_cut").len != 0;
        CHECK(out.len <= max);
        CHECK(slice_find(buf_slice(&world.body), SLICE("kanari")) == SIZE_MAX);
        CHECK(was_whole ? !is_cut : true);
        was_whole = was_whole || !is_cut;
        record_world_close(&world);
    }
    CHECK(was_whole);
    /* Nothing is shown, and nothing is said to be cut. */
    struct record_world world;
    struct config_audit config = usual();
    config.max_arguments = 0;
    record_world_open(&world, &config, NULL);
    CHECK_STR(record_arguments(&world, in), "");
    CHECK_STR(record_member(&world, "arguments_cut"), "");
    CHECK(record_member(&world, "arguments_bytes").len == 3);
    record_world_close(&world);
}

/* A text with a secret behind `before` bytes, and `behind` bytes behind it. */
static void put_long_text(struct buf *in, size_t before, size_t behind) {
    buf_reset(in, SIZE_MAX);
    buf_append(in, SLICE("{\"t\":\""));
    for (size_t i = 0; i < before; i++)
        buf_append_byte(in, i % 7 == 6 ? ' ' : 'x');
    buf_append(in, SLICE(" ghp_kanari0000kanari0000kanari0000000000 password=kanari"));
    for (size_t i = 0; i < behind; i++)
        buf_append_byte(in, i % 7 == 0 ? ' ' : 'y');
    buf_append(in, SLICE("\"}"));
}

/* A secret that is cut by the length of texts was seen before. */
static void test_long_texts(void) {
    struct record_world world;
    struct config_audit config = usual();
    struct buf in = BUF_INIT(MIB(1));
    config.max_arguments = KIB(8);
    record_world_open(&world, &config, NULL);
    for (size_t i = 0; i < 2400; i++) {
        put_long_text(&in, 900 + i / 2, i % 2 * 5000);
        struct slice out = record_arguments(&world, buf_slice(&in));
        CHECK(out.len <= LIMIT_AUDIT_STRING + 20);
        CHECK(slice_find(buf_slice(&world.body), SLICE("kanar")) == SIZE_MAX);
        CHECK(slice_find(buf_slice(&world.body), SLICE("ghp_")) == SIZE_MAX);
    }
    CHECK_STR(record_member(&world, "arguments_cut"), "true");
    /* More than sixteen times as much is not looked at. */
    buf_reset(&in, SIZE_MAX);
    buf_append_byte(&in, '"');
    while (buf_len(&in) < 17 * KIB(8))
        buf_append_byte(&in, 'x');
    buf_append_byte(&in, '"');
    CHECK_STR(record_arguments(&world, buf_slice(&in)), "");
    CHECK_STR(record_member(&world, "arguments_cut"), "true");
    record_world_close(&world);
    buf_deinit(&in);
}

/* Keys that are cut or redacted stay apart, whatever others there are. */
static void test_keys_apart(void) {
    struct record_world world;
    struct config_audit config = usual();
    struct buf in = BUF_INIT(MIB(1));
    config.max_arguments = KIB(32);
    record_world_open(&world, &config, NULL);
    buf_append_byte(&in, '{');
    for (size_t i = 0; i < 40; i++) {
        buf_append_byte(&in, '"');
        for (size_t n = 0; n < 230 + i; n++)
            buf_append_byte(&in, 'k');
        buf_append(&in, SLICE("\":1,\""));
        for (size_t n = 0; n < 240 + i; n++)
            buf_append_byte(&in, 'k');
        buf_append(&in, SLICE("...#"));
        buf_append_u64(&in, i);
        buf_append(&in, SLICE("\":2,\"acme"));
        buf_append_u64(&in, i);
        buf_append(&in, SLICE("\":3,\"[redacted]#"));
        buf_append_u64(&in, i);
        buf_append(&in, SLICE("\":4,"));
    }
    buf_append(&in, SLICE("\"z\":0}"));
    CHECK(record_arguments(&world, buf_slice(&in)).len > KIB(16));
    /* One that is cut in front of an escape, and one that is what it becomes. */
    buf_reset(&in, SIZE_MAX);
    for (size_t i = 0; i < 2; i++) {
        buf_append(&in, i == 0 ? SLICE("{\"") : SLICE(",\""));
        for (size_t n = 0; n < 251; n++)
            buf_append_byte(&in, 'k');
        buf_append(&in, i == 0 ? SLICE("\\u0001\":1") : SLICE("...\":2}"));
    }
    CHECK(record_arguments(&world, buf_slice(&in)).len > 500);
    CHECK_STR(record_member(&world, "arguments_cut"), "");
    record_world_close(&world);
    buf_deinit(&in);
}

/* As deep as a record can be read; what is deeper is not shown. */
static void test_deep(void) {
    struct record_world world;
    struct config_audit config = usual();
    char in[400];
    record_world_open(&world, &config, NULL);
    for (size_t depth = LIMIT_JSON_DEPTH - 4; depth <= LIMIT_JSON_DEPTH + 1; depth++) {
        memset(in, '[', depth);
        memset(in + depth, ']', depth);
        struct slice out = record_arguments(&world, slice_make(in, 2 * depth));
        bool fits = depth <= LIMIT_JSON_DEPTH - 2;
        CHECK_SLICE(out, fits ? slice_make(in, 2 * depth) : SLICE_EMPTY);
        CHECK_STR(record_member(&world, "arguments_cut"), fits ? "" : "true");
    }
    record_world_close(&world);
}

static void test_rules(void) {
    static const struct {
        struct slice path, pattern;
        const char *reason;
    } rows[] = {
        {SLICE_INIT("a..b"), SLICE_INIT("x"), "audit.redact.paths: entry 1 has an empty part"},
        {SLICE_INIT(""), SLICE_INIT("x"), "audit.redact.paths: entry 1 has an empty part"},
        {SLICE_INIT("a."), SLICE_INIT("x"), "audit.redact.paths: entry 1 has an empty part"},
        {SLICE_INIT("a"), SLICE_INIT(""), "audit.redact.patterns: entry 1 is empty"},
        {SLICE_INIT("a"), SLICE_INIT("(x"),
         "audit.redact.patterns: entry 1 is no pattern: missing closing parenthesis (at byte 2 of "
         "it)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config_audit config = {.redact_paths = list_of(&rows[i].path),
                                      .n_redact_paths = 1,
                                      .redact_patterns = list_of(&rows[i].pattern),
                                      .n_redact_patterns = 1};
        struct audit_redact *redact = NULL;
        struct buf reason = BUF_INIT(1000);
        test_row(rows[i].reason);
        CHECK_INT(audit_redact_new(&config, &redact, &reason), AUDIT_E_RULE);
        CHECK_STR(buf_slice(&reason), rows[i].reason);
        CHECK(redact == NULL);
        buf_deinit(&reason);
    }
    CHECK(audit_redact_free(NULL) == NULL);
}

static struct slice redact(const struct audit_redact *rules, struct slice text, struct buf *out) {
    struct regex_work work;
    regex_work_init(&work);
    buf_reset(out, SIZE_MAX);
    CHECK_INT(audit_redact_text(rules, &work, text, out), 0);
    regex_work_deinit(&work);
    return buf_slice(out);
}

/* Where a pattern cannot be decided, nothing is shown; many patterns; shapes switched off. */
static void test_patterns(void) {
    static const struct slice many[] = {
        SLICE_INIT("one"),   SLICE_INIT("two"),     SLICE_INIT("three"), SLICE_INIT("f(?=our)"),
        SLICE_INIT("our f"), SLICE_INIT("six"),     SLICE_INIT("x s"),   SLICE_INIT("z*"),
        SLICE_INIT("eight"), SLICE_INIT("(a|a)+b"),
    };
    struct config_audit config = {.redact_patterns = list_of(many),
                                  .n_redact_patterns = ARRAY_LEN(many)};
    struct audit_redact *rules = NULL;
    struct buf reason = BUF_INIT(1000), out = BUF_INIT(MIB(2));
    REQUIRE(audit_redact_new(&config, &rules, &reason) == 0);
    CHECK_STR(redact(rules, SLICE("one two-four five six seven"), &out),
              "[redacted] [redacted]-[redacted]ive [redacted]even");
    CHECK_STR(redact(rules, SLICE("sixone"), &out), "[redacted]");
    CHECK_STR(redact(rules,
                     SLICE("password=x ghp_"
                           "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6"),
                     &out),
              "password=x ghp_"
              "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6");
    CHECK_STR(
        redact(rules, SLICE("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac b"), &out),
        "[redacted]");
    CHECK_STR(redact(rules, SLICE("a\xff"), &out), "[redacted]");
    CHECK_STR(redact(rules, SLICE(""), &out), "");
    audit_redact_free(rules);
    buf_deinit(&reason);
    buf_deinit(&out);
}

/* Texts that were made to be slow: each takes a moment, not minutes. */
static void test_slow_texts(void) {
    static const char *const units[] = {
        "=",
        ":",
        "-",
        "--",
        "token:",
        "token: ",
        "password=",
        "eyJ",
        "eyJhbGc",
        "sk-",
        "bearer ",
        "Bearer+",
        "://",
        "a://b:",
        "a://b:c@",
        "-----BEGIN ",
        "--token \"",
        "\"password\":\"\\",
        "\\\"",
        "<token>",
        "password: ",
        "{\"token\":{",
        "AKIA",
        "-u a:b ",
        "-----BEGIN PRIVATE KEY-----",
        "gAAAAA",
        "password='",
        "\"token\":[",
        "cookie: ",
        "authorization:",
        "a=b",
        "12345678:",
        "--password -",
        "AKIAIOSFODNN7EXAMPLE/",
    };
    struct config_audit config = {.redact_shapes = true};
    struct audit_redact *rules = NULL;
    struct buf reason = BUF_INIT(1000), in = BUF_INIT(MIB(1)), out = BUF_INIT(MIB(16));
    REQUIRE(audit_redact_new(&config, &rules, &reason) == 0);
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        buf_reset(&in, SIZE_MAX);
        while (buf_len(&in) < KIB(256))
            buf_append_cstr(&in, units[i]);
        clock_t begin = clock();
        redact(rules, buf_slice(&in), &out);
        double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        test_row(units[i]);
        CHECK(seconds < 2.0);
        test_row("");
    }
    audit_redact_free(rules);
    buf_deinit(&reason);
    buf_deinit(&in);
    buf_deinit(&out);
}

TEST_MAIN(TEST(test_arguments), TEST(test_names), TEST(test_cut), TEST(test_long_texts),
          TEST(test_keys_apart), TEST(test_deep), TEST(test_rules), TEST(test_patterns),
          TEST(test_slow_texts))
