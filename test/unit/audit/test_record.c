/* Bodies of records: what the sections write, that it is JSON whatever comes in, how long it is,
 * and that no secret gets into it. */
#include <stdlib.h>
#include <unistd.h>

#include "record_world.h"

static const struct config_audit plain = {.max_arguments = KIB(2), .redact_shapes = true};

static void write_all(struct record_world *world, struct slice text, struct slice arguments) {
    struct network address;
    struct slice groups[300];
    if (!network_parse_address(SLICE("192.0.2.17"), &address))
        CANNOT_GO_ON();
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        groups[i] = text;
    struct audit_who who = {.user = text,
                            .groups = groups,
                            .n_groups = ARRAY_LEN(groups),
                            .authentication = text,
                            .token = text,
                            .client = text,
                            .address = &address,
                            .session = text,
                            .trace = text};
    struct audit_what what = {.method = text, .operation = text, .arguments = arguments};
    struct audit_where where = {
        .upstream = text, .upstream_operation = text, .instance = text, .access = text};
    struct audit_decided decided = {.decision = text, .rule = text, .reason = text};
    struct audit_result result = {.status = text,
                                  .http_status = 200,
                                  .code = text,
                                  .message = text,
                                  .upstream_status = 502,
                                  .bytes = UINT64_MAX - 1,
                                  .duration_us = 17};
    buf_reset(&world->body, SIZE_MAX);
    audit_write_begin(&world->body, "call", UINT64_C(1795301701123456), text);
    audit_write_who(world->writer, &world->body, &who);
    audit_write_what(world->writer, &world->body, &what);
    audit_write_where(world->writer, &world->body, &where);
    audit_write_decision(world->writer, &world->body, &decided);
    audit_write_result(world->writer, &world->body, &result);
}

static void test_sections(void) {
    struct record_world world;
    struct network address;
    struct slice groups[] = {SLICE("ops"), SLICE("dev \"x\"")};
    record_world_open(&world, &plain, NULL);
    REQUIRE(network_parse_address(SLICE("192.0.2.107"), &address));
    struct audit_who who = {.user = SLICE("ann"),
                            .groups = groups,
                            .n_groups = 2,
                            .authentication = SLICE("token"),
                            .token = SLICE("ann-laptop"),
                            .client = SLICE("claude 1.0"),
                            .address = &address,
                            .session = SLICE("5f3a"),
                            .trace = SLICE("4bf92f3577b34da6a3ce929d0e0e4736")};
    struct audit_what what = {.method = SLICE("tools/call"),
                              .operation = SLICE("files__read"),
                              .arguments = SLICE("{ \"path\": \"/a\" }")};
    struct audit_where where = {.upstream = SLICE("files"),
                                .upstream_operation = SLICE("read"),
                                .instance = SLICE("principal"),
                                .access = SLICE("read")};
    struct audit_decided decided = {
        .decision = SLICE("allowed"), .rule = SLICE("allow"), .reason = SLICE("it may")};
    struct audit_result result = {.status = SLICE("ok"),
                                  .http_status = 200,
                                  .code = SLICE_EMPTY,
                                  .message = SLICE("Bearer abc12345 is no token"),
                                  .upstream_status = AUDIT_NONE,
                                  .bytes = 0,
                                  .duration_us = 1234};
    audit_write_begin(&world.body, "call", UINT64_C(1795301701123456), SLICE("7-1"));
    audit_write_who(world.writer, &world.body, &who);
    audit_write_what(world.writer, &world.body, &what);
    audit_write_where(world.writer, &world.body, &where);
    audit_write_decision(world.writer, &world.body, &decided);
    audit_write_result(world.writer, &world.body, &result);
    audit_write_text(world.writer, &world.body, SLICE("note"), SLICE("password=x"));
    audit_write_text(world.writer, &world.body, SLICE("none"), SLICE_EMPTY);
    audit_write_number(&world.body, SLICE("n"), 18446744073709551614U);
    audit_write_number(&world.body, SLICE("no"), AUDIT_NONE);
    audit_write_raw(&world.body, SLICE("raw"), SLICE("[1]"));
    char time[AUDIT_TIME_CHARS + 1];
    audit_time_write(UINT64_C(1795301701123456), time);
    struct buf expected = BUF_INIT(KIB(4));
    buf_printf(&expected, "\"time\":\"%s\"", time);
    buf_append_cstr(
        &expected,
        ",\"event\":\"call\",\"id\":\"7-1\",\"user\":\"ann\",\"groups\":[\"ops\",\"dev "
        "\\\"x\\\"\"],"
        "\"authentication\":\"token\",\"token\":\"ann-laptop\",\"client\":\"claude 1.0\","
        "\"address\":\"192.0.2.107\",\"session\":\"5f3a\","
        "\"trace\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"method\":\"tools/call\","
        "\"operation\":\"files__read\",\"arguments\":{\"path\":\"/a\"},\"arguments_bytes\":16,"
        "\"upstream\":\"files\",\"upstream_operation\":\"read\",\"instance\":\"principal\","
        "\"access\":\"read\",\"decision\":\"allowed\",\"rule\":\"allow\",\"reason\":\"it may\","
        "\"status\":\"ok\",\"http_status\":200,\"message\":\"Bearer [redacted] is no token\","
        "\"bytes\":0,\"duration_us\":1234,\"note\":\"password=[redacted]\","
        "\"n\":18446744073709551614,\"raw\":[1]");
    CHECK_SLICE(buf_slice(&world.body), buf_slice(&expected));
    CHECK(record_is_sound(&world));
    buf_deinit(&expected);
    record_world_close(&world);
}

static void test_little(void) {
    struct record_world world;
    record_world_open(&world, &plain, NULL);
    audit_write_begin(&world.body, "stop", 0, SLICE_EMPTY);
    audit_write_who(world.writer, &world.body, &(struct audit_who){.address = NULL});
    audit_write_what(world.writer, &world.body, &(struct audit_what){.method = SLICE_EMPTY});
    audit_write_where(world.writer, &world.body, &(struct audit_where){.access = SLICE_EMPTY});
    audit_write_decision(world.writer, &world.body, &(struct audit_decided){.reason = SLICE_EMPTY});
    audit_write_result(world.writer, &world.body,
                       &(struct audit_result){.http_status = AUDIT_NONE,
                                              .upstream_status = AUDIT_NONE,
                                              .bytes = AUDIT_NONE,
                                              .duration_us = AUDIT_NONE});
    CHECK_STR(buf_slice(&world.body),
              "\"time\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"stop\"");
    record_world_close(&world);
    CHECK(audit_writer_free(NULL) == NULL);
}

static void test_addresses(void) {
    static const char *const rows[] = {"0.0.0.0", "9.10.99.100", "255.255.255.255", "::1",
                                       "2001:db8::17"};
    struct record_world world;
    record_world_open(&world, &plain, NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct network address;
        char expected[64];
        test_row(rows[i]);
        REQUIRE(network_parse_address(slice_from_cstr(rows[i]), &address));
        snprintf(expected, sizeof expected, "\"time\":0,\"address\":\"%s\"", rows[i]);
        buf_reset(&world.body, SIZE_MAX);
        buf_append_cstr(&world.body, "\"time\":0");
        audit_write_who(world.writer, &world.body, &(struct audit_who){.address = &address});
        CHECK_STR(buf_slice(&world.body), expected);
    }
    record_world_close(&world);
}

/* Each byte, in texts of each length around the limits, in every place at once. */
static void test_bytes(void) {
    static const size_t lengths[] = {1, 5, 170, 171, 1023, 1024, 1025, 2048, 4096, 4097, 20000};
    static const struct slice units[] = {
        SLICE_INIT("a"),
        SLICE_INIT("\""),
        SLICE_INIT("\\"),
        SLICE_INIT("\0"),
        SLICE_INIT("\n"),
        SLICE_INIT("\x1f"),
        SLICE_INIT("\x7f"),
        SLICE_INIT("\xff"),
        SLICE_INIT("\xc3"),
        SLICE_INIT("\xc3\xa4"),
        SLICE_INIT("\xe2\x82\xac"),
        SLICE_INIT("\xf0\x9f\x98\x80"),
        SLICE_INIT("\xed\xa0\x80"),
        SLICE_INIT("\xf0\x9f\x98"),
        SLICE_INIT("token=\xff "),
        SLICE_INIT("a=b:c "),
        SLICE_INIT("\xe2\x80\xa8"),
    };
    struct record_world world;
    struct buf text = BUF_INIT(KIB(64));
    record_world_open(&world, &plain, NULL);
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
            buf_reset(&text, SIZE_MAX);
            while (buf_len(&text) + units[i].len <= lengths[k])
                buf_append(&text, units[i]);
            write_all(&world, buf_slice(&text), buf_slice(&text));
            CHECK(record_is_sound(&world));
            CHECK(record_member(&world, "reason").len <= LIMIT_AUDIT_STRING + 5);
        }
    }
    record_world_close(&world);
    buf_deinit(&text);
}

/* Everything as long as it can be: the last section is still there; what there is no room for is
 * left out whole. */
static void test_length(void) {
    struct record_world world;
    struct config_audit config = plain;
    struct buf text = BUF_INIT(MIB(1)), arguments = BUF_INIT(MIB(1));
    config.max_arguments = KIB(32);
    record_world_open(&world, &config, NULL);
    for (size_t i = 0; i < 3000; i++)
        buf_append_byte(&text, '\x01');
    buf_append_byte(&arguments, '[');
    for (size_t i = 0; i < KIB(40); i++)
        buf_append(&arguments, SLICE("\"\\u0001\","));
    buf_append(&arguments, SLICE("0]"));
    write_all(&world, buf_slice(&text), buf_slice(&arguments));
    CHECK_STR(record_member(&world, "duration_us"), "17");
    CHECK(record_member(&world, "arguments").len > KIB(31));
    CHECK(record_member(&world, "arguments").len <= KIB(32));
    CHECK(record_member(&world, "groups").len > KIB(2));
    CHECK(record_member(&world, "groups").len <= KIB(4));
    for (size_t i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "extra%zu", i);
        audit_write_text(world.writer, &world.body, slice_from_cstr(key), buf_slice(&text));
        snprintf(key, sizeof key, "number%zu", i);
        audit_write_number(&world.body, slice_from_cstr(key), UINT64_MAX - 1);
        snprintf(key, sizeof key, "raw%zu", i);
        audit_write_raw(&world.body, slice_from_cstr(key), SLICE("[0,0,0,0,0,0,0,0,0,0,0,0,0]"));
        CHECK(record_is_sound(&world));
    }
    CHECK(buf_len(&world.body) > LIMIT_AUDIT_BODY - 2 * LIMIT_AUDIT_STRING);
    record_world_close(&world);
    buf_deinit(&text);
    buf_deinit(&arguments);
}

static void test_hmac(void) {
    char dir[] = "/tmp/cardea-test-record-XXXXXX";
    struct audit_keys *keys = NULL;
    struct audit_hmac *hmac = NULL;
    const char *reason = NULL;
    unsigned char digest[AUDIT_HASH];
    struct record_world world;
    struct buf big = BUF_INIT(MIB(4)), expected = BUF_INIT(100);
    if (mkdtemp(dir) == NULL)
        CANNOT_GO_ON();
    REQUIRE(audit_keys_open(dir, NULL, &keys, &reason) == 0);
    REQUIRE(audit_hmac_new(keys, &hmac) == 0);
    record_world_open(&world, &plain, keys);
    buf_append_byte(&big, '"');
    for (size_t i = 0; i < MIB(3); i++)
        buf_append_byte(&big, 'x');
    buf_append_byte(&big, '"');
    struct slice rows[] = {SLICE(""), SLICE("{}"), SLICE("{ }"), SLICE("no JSON"), buf_slice(&big)};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        record_arguments(&world, rows[i]);
        REQUIRE(audit_hmac(hmac, rows[i], digest) == 0);
        buf_reset(&expected, SIZE_MAX);
        buf_append_byte(&expected, '"');
        static const char letters[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for (size_t bit = 0; bit < 8 * sizeof digest; bit += 6) {
            unsigned pair = (unsigned)digest[bit / 8] << 8 |
                            (bit / 8 + 1 < sizeof digest ? digest[bit / 8 + 1] : 0U);
            buf_append_byte(&expected, letters[pair >> (10 - bit % 8) & 63]);
        }
        buf_append_byte(&expected, '"');
        CHECK_SLICE(record_member(&world, "arguments_hmac"), buf_slice(&expected));
    }
    record_world_close(&world);
    audit_hmac_free(hmac);
    audit_keys_free(keys);
    buf_deinit(&big);
    buf_deinit(&expected);
    static const char *const files[] = {"signing.pem", "public.pem", "hmac.key"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[100];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    CHECK_INT(rmdir(dir), 0);
}

/* --- random documents with secrets in them --- */

struct generator {
    uint64_t state;
    struct buf out;
    size_t n_planted;
};

static uint64_t next(struct generator *generator, uint64_t bound) {
    generator->state ^= generator->state << 13;
    generator->state ^= generator->state >> 7;
    generator->state ^= generator->state << 17;
    return generator->state % bound;
}

/* A string of JSON, some of its characters written as escapes. */
static void put_string(struct generator *generator, struct slice text) {
    bool escapes = next(generator, 3) == 0;
    buf_append_byte(&generator->out, '"');
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x80 && (c < ' ' || c == '"' || c == '\\' || (escapes && next(generator, 4) == 0)))
            buf_printf(&generator->out, "\\u%04x", c);
        else
            buf_append_byte(&generator->out, (char)c);
    }
    buf_append_byte(&generator->out, '"');
}

static const char *const words[] = {
    "a",
    "query",
    "SELECT 1",
    "hello world",
    "x: y",
    "k=v",
    "https://example.com/a?b=c",
    "item",
    "\xc3\xa4\xe2\x82\xac",
    "line\nline",
    "\"quoted\"",
    "tokens",
    "max_tokens",
    "",
    "[redacted]",
    "[redacted]#1",
    "path/to/file",
    "the token is",
    "550e8400-e29b-41d4-a716",
};

static struct slice a_word(struct generator *generator) {
    return slice_from_cstr(words[next(generator, ARRAY_LEN(words))]);
}

/* "kanari" is in each, so that a record with it has let one through. */
static const char *const planted_texts[] = {
    "ghp_kanari0123456789kanari0123456789ABCD",
    "sk-kanari0123456789kanari0123456789",
    "cardea_kanari0123456789kanari0123456789kanari01234",
    "glpat-kanari0123456789kanari",
    "eyJhbGciOiJIUzI1NiJ9.eyJhIjoia2FuYXJpIn0.kanari",
    "-----BEGIN PRIVATE KEY-----\nkanari\n-----END PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nkanari",
    "postgres://app:kanari@db/x",
    "https://a:b@kanari:kanari@host/",
    "password=kanari",
    "?token=kanari&a=b",
    "{\"password\": \"kanari\"}",
    "{\\\"api_key\\\":\\\"kanari\\\"}",
    "Authorization: Bearer kanari0123",
    "Cookie: a=kanari; b=kanari",
    "run --password kanari",
    "curl -u me:kanari https://example.com/",
    "<password>kanari</password>",
    "id 77-kanari-77 end", /* a pattern */
    "Server=a;Pwd=kanari;x=y",
};

static const char *const secret_names[] = {
    "password", "Api-Key", "client_secret", "access_token", "credentials", "ssn", "COOKIE"};

static void put_value(struct generator *generator, size_t depth);

static void put_text(struct generator *generator) {
    struct buf text = BUF_INIT(KIB(64));
    size_t fill = next(generator, 12) == 0 ? next(generator, 4000) : next(generator, 20);
    for (size_t i = 0; i < fill; i++)
        buf_append_byte(&text, "abcdef ghij,\n"[next(generator, 13)]);
    buf_append_byte(&text, ' ');
    if (next(generator, 3) == 0) {
        buf_append_cstr(&text, planted_texts[next(generator, ARRAY_LEN(planted_texts))]);
        generator->n_planted++;
    } else {
        buf_append(&text, a_word(generator));
    }
    put_string(generator, buf_slice(&text));
    buf_deinit(&text);
}

/* Anything, with the word in it. */
static void put_planted_value(struct generator *generator) {
    static const char *const values[] = {"\"kanari\"", "[\"kanari\"]", "{\"a\":{\"kanari\":1}}",
                                         "\"k\\u0061nari\"", "[[[\"kanari\"],1],2]"};
    generator->n_planted++;
    buf_append_cstr(&generator->out, values[next(generator, ARRAY_LEN(values))]);
}

static void put_members(struct generator *generator, size_t depth) {
    size_t n = next(generator, 6);
    buf_append_byte(&generator->out, '{');
    for (size_t i = 0; i < n; i++) {
        char key[100];
        bool is_secret = next(generator, 6) == 0;
        if (i > 0)
            buf_append_byte(&generator->out, ',');
        /* The number keeps keys apart; at the end of a name it does not count. */
        if (is_secret)
            snprintf(key, sizeof key, "%s%zu",
                     secret_names[next(generator, ARRAY_LEN(secret_names) - 2)], i);
        else if (next(generator, 8) == 0)
            snprintf(key, sizeof key,
                     "ghp_"
                     "kanari0123456789kanari0123456789AB%02zu",
                     i);
        else
            snprintf(key, sizeof key, "%.40s%zu", words[next(generator, ARRAY_LEN(words))], i);
        put_string(generator, slice_from_cstr(key));
        buf_append_byte(&generator->out, ':');
        if (is_secret)
            put_planted_value(generator);
        else
            put_value(generator, depth + 1);
    }
    /* A path of the configuration. */
    if (next(generator, 5) == 0) {
        buf_append_cstr(&generator->out, n > 0 ? "," : "");
        buf_append_cstr(&generator->out, "\"SsN\":");
        put_planted_value(generator);
    }
    buf_append_byte(&generator->out, '}');
}

static void put_elements(struct generator *generator, size_t depth) {
    size_t n = next(generator, 5);
    buf_append_byte(&generator->out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_append_cstr(&generator->out, next(generator, 2) == 0 ? "," : " , ");
        if (next(generator, 10) == 0) {
            put_string(generator, SLICE("--password"));
            buf_append_byte(&generator->out, ',');
            put_planted_value(generator);
        } else {
            put_value(generator, depth + 1);
        }
    }
    buf_append_byte(&generator->out, ']');
}

static void put_value(struct generator *generator, size_t depth) {
    static const char *const others[] = {"0", "-1.5e+10", "true", "false", "null", "7700007700"};
    uint64_t kind = next(generator, depth < 5 ? 6 : 3);
    if (kind >= 4)
        put_members(generator, depth);
    else if (kind == 3)
        put_elements(generator, depth);
    else if (kind == 2)
        buf_append_cstr(&generator->out, others[next(generator, ARRAY_LEN(others))]);
    else
        put_text(generator);
}

static void test_random(void) {
    static struct slice paths[] = {SLICE_INIT("ssn"), SLICE_INIT("credentials.*")};
    static struct slice patterns[] = {SLICE_INIT("\\d\\d-k\\w+-\\d\\d")};
    struct generator generator = {.state = UINT64_C(0x9e3779b97f4a7c15), .out = BUF_INIT(MIB(4))};
    size_t n_shown = 0, n_cut = 0;
    for (size_t round = 0; round < 4; round++) {
        struct record_world world;
        struct config_audit config = {.max_arguments = round == 0 ? KIB(32) : KIB(1) << round,
                                      .redact_shapes = true,
                                      .redact_paths = paths,
                                      .n_redact_paths = ARRAY_LEN(paths),
                                      .redact_patterns = patterns,
                                      .n_redact_patterns = ARRAY_LEN(patterns)};
        record_world_open(&world, &config, NULL);
        for (size_t i = 0; i < 5000; i++) {
            buf_reset(&generator.out, SIZE_MAX);
            put_value(&generator, 0);
            REQUIRE(buf_error(&generator.out) == 0);
            struct slice shown = record_arguments(&world, buf_slice(&generator.out));
            n_shown += shown.len != 0;
            n_cut += record_member(&world, "arguments_cut").len != 0;
            CHECK(shown.len <= config.max_arguments);
            if (slice_find(buf_slice(&world.body), SLICE("kanari")) != SIZE_MAX) {
                printf("# of %.*s\n# it was %.*s\n", SLICE_ARGS(buf_slice(&world.body)),
                       SLICE_ARGS(buf_slice(&generator.out)));
                test_fail(__FILE__, __LINE__, "a secret was let through");
                break;
            }
        }
        record_world_close(&world);
    }
    CHECK(generator.n_planted > 20000);
    CHECK(n_shown > 15000 && n_cut > 1000 && n_cut < 15000);
    buf_deinit(&generator.out);
}

/* --- without memory --- */

static size_t last_length;

static void record_with_little_memory(void *arg) {
    static struct slice patterns[] = {SLICE_INIT("a1"), SLICE_INIT("b2"), SLICE_INIT("c3"),
                                      SLICE_INIT("d4"), SLICE_INIT("e5"), SLICE_INIT("f6"),
                                      SLICE_INIT("g7"), SLICE_INIT("h8")};
    struct config_audit config = {.max_arguments = KIB(2),
                                  .redact_shapes = true,
                                  .redact_patterns = patterns,
                                  .n_redact_patterns = ARRAY_LEN(patterns)};
    struct audit_redact *redact = NULL;
    struct audit_writer *writer = NULL;
    struct buf reason = BUF_INIT(1000), body = BUF_INIT(LIMIT_AUDIT_BODY);
    (void)arg;
    int error = audit_redact_new(&config, &redact, &reason);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK((error == 0) == (redact != NULL));
    if (error == 0) {
        error = audit_writer_new(&(struct audit_writer_options){.redact = redact}, &writer);
        CHECK(error == 0 || error == -ENOMEM);
    }
    if (error == 0) {
        struct audit_what what = {
            .method = SLICE("tools/call b2"),
            .operation = SLICE("password=kanari a1"),
            .arguments = SLICE("{\"p\\u0061ssword\":\"kanari\",\"x\":[\"k\\u0065y=1 token=kanari\","
                               "{\"y\":\"c3\"}]}"),
        };
        audit_write_begin(&body, "call", 0, SLICE("id"));
        audit_write_what(writer, &body, &what);
        /* One that fails is seen by the buffer's error, or has less in it. */
        CHECK(slice_find(buf_slice(&body), SLICE("kanari")) == SIZE_MAX);
        last_length = buf_error(&body) == 0 ? buf_len(&body) : 0;
    }
    audit_writer_free(writer);
    audit_redact_free(redact);
    buf_deinit(&reason);
    buf_deinit(&body);
}

static void test_memory(void) {
    record_with_little_memory(NULL);
    size_t whole = last_length;
    CHECK(whole > 100);
    test_torture(record_with_little_memory, NULL);
    CHECK_INT(last_length, whole);
}

/* What can be written of a record with little memory is still JSON. */
static void sound_with_little_memory(void *arg) {
    write_all(arg, SLICE("token=x \x01 \xff"),
              SLICE("{\"a\\u0020b\":[\"c\\n\",{}],\"d\":\"e=f\"}"));
}

static void test_memory_sound(void) {
    /* Each time a new writer, for one that has grown asks for nothing. */
    for (uint64_t n = 1; n < 200; n++) {
        struct record_world world;
        record_world_open(&world, &plain, NULL);
        if (buf_reserve(&world.body, LIMIT_AUDIT_BODY) == NULL)
            CANNOT_GO_ON();
        mem_fail_after(n);
        sound_with_little_memory(&world);
        bool is_last = mem_alloc_count() < n;
        mem_fail_after(0);
        CHECK(buf_error(&world.body) != 0 || record_is_sound(&world));
        record_world_close(&world);
        if (is_last)
            return;
    }
    test_fail(__FILE__, __LINE__, "it did not come to an end");
}

/* A new configuration. */
static void test_set_redact(void) {
    struct record_world world;
    struct config_audit config = {.max_arguments = 3};
    struct audit_redact *other = NULL;
    struct buf reason = BUF_INIT(1000);
    record_world_open(&world, &plain, NULL);
    REQUIRE(audit_redact_new(&config, &other, &reason) == 0);
    CHECK_STR(record_arguments(&world, SLICE("[1,2,3]")), "[1,2,3]");
    audit_writer_set_redact(world.writer, other);
    CHECK_STR(record_arguments(&world, SLICE("[1,2,3]")), "[1]");
    record_world_close(&world);
    audit_redact_free(other);
    buf_deinit(&reason);
}

TEST_MAIN(TEST(test_sections), TEST(test_little), TEST(test_addresses), TEST(test_bytes),
          TEST(test_length), TEST(test_hmac), TEST(test_random), TEST(test_memory),
          TEST(test_memory_sound), TEST(test_set_redact))
