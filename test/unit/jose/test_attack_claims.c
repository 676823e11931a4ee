/* Attacks on claims, and on sizes (attack.h). */
#include "attack.h"

static void test_times(void) {
    static const char no_end[] = "(exp) is no time", no_start[] = "(nbf) is no time",
                      no_issue[] = "(iat) is no time";
    static const char expired[] = "expired", early[] = "not valid yet", future[] = "in the future";
#define WITH(claim) "{" ISS SUB AUD claim "}"
    static const struct attack rows[] = {
        BY_CLAIMS("exp missing", "{" ISS AUD "\"sub\":\"alice\"}", AT_CHECK, "no end"),
        BY_CLAIMS("exp in capitals only", WITH("\"EXP\":1700000300"), AT_CHECK, "no end"),
        BY_CLAIMS("exp a string", WITH("\"exp\":\"1700000300\""), AT_READ, no_end),
        BY_CLAIMS("exp null", WITH("\"exp\":null"), AT_READ, no_end),
        BY_CLAIMS("exp true", WITH("\"exp\":true"), AT_READ, no_end),
        BY_CLAIMS("exp array", WITH("\"exp\":[1700000300]"), AT_READ, no_end),
        BY_CLAIMS("exp object", WITH("\"exp\":{}"), AT_READ, no_end),
        BY_CLAIMS("exp negative", WITH("\"exp\":-1"), AT_READ, no_end),
        BY_CLAIMS("exp -0", WITH("\"exp\":-0"), AT_READ, no_end),
        BY_CLAIMS("exp 0", WITH("\"exp\":0"), AT_CHECK, expired),
        BY_CLAIMS("exp 0e999999999999999999999", WITH("\"exp\":0e999999999999999999999"), AT_CHECK,
                  expired),
        BY_CLAIMS("exp 1e18", WITH("\"exp\":1e18"), AT_READ, no_end),
        BY_CLAIMS("exp 1e999", WITH("\"exp\":1e999"), AT_READ, no_end),
        BY_CLAIMS("exp 1e99999999999999999999", WITH("\"exp\":1e99999999999999999999"), AT_READ,
                  no_end),
        BY_CLAIMS("exp 1e-99999999999999999999", WITH("\"exp\":1e-99999999999999999999"), AT_CHECK,
                  expired),
        BY_CLAIMS("exp of twenty digits", WITH("\"exp\":18446744073709551616"), AT_READ, no_end),
        BY_CLAIMS("exp 2^64 - 1", WITH("\"exp\":18446744073709551615"), AT_READ, no_end),
        BY_CLAIMS("exp 2^53 + 1", WITH("\"exp\":9007199254740993"), AT_READ, no_end),
        BY_CLAIMS("control: exp 2^53", WITH("\"exp\":9007199254740992"), PASSES, ""),
        BY_CLAIMS("control: exp a fraction", WITH("\"exp\":1700000300.75"), PASSES, ""),
        BY_CLAIMS("control: exp with an exponent", WITH("\"exp\":1.7000003E+9"), PASSES, ""),
        BY_CLAIMS("control: exp with a negative exponent", WITH("\"exp\":17000003000000e-4"),
                  PASSES, ""),
        BY_CLAIMS("control: exp, the last second", WITH("\"exp\":1699999941"), PASSES, ""),
        BY_CLAIMS("exp, one past the last second", WITH("\"exp\":1699999940"), AT_CHECK, expired),
        BY_CLAIMS("exp, cut to past the last second", WITH("\"exp\":1699999940.999"), AT_CHECK,
                  expired),
        BY_CLAIMS("exp in milliseconds of the past", WITH("\"exp\":1600000"), AT_CHECK, expired),
        BY_CLAIMS("control: nbf, the last second", WITH(EXP ",\"nbf\":1700000060"), PASSES, ""),
        BY_CLAIMS("nbf, one past", WITH(EXP ",\"nbf\":1700000061"), AT_CHECK, early),
        BY_CLAIMS("nbf a string", WITH(EXP ",\"nbf\":\"0\""), AT_READ, no_start),
        BY_CLAIMS("nbf negative", WITH(EXP ",\"nbf\":-5"), AT_READ, no_start),
        BY_CLAIMS("nbf null", WITH(EXP ",\"nbf\":null"), AT_READ, no_start),
        BY_CLAIMS("nbf 1e18", WITH(EXP ",\"nbf\":1e18"), AT_READ, no_start),
        BY_CLAIMS("nbf false", WITH(EXP ",\"nbf\":false"), AT_READ, no_start),
        BY_CLAIMS("control: iat, the last second", WITH(EXP ",\"iat\":1700000060"), PASSES, ""),
        BY_CLAIMS("iat, one past", WITH(EXP ",\"iat\":1700000061"), AT_CHECK, future),
        BY_CLAIMS("iat in milliseconds", WITH(EXP ",\"iat\":1700000000000"), AT_CHECK, future),
        BY_CLAIMS("iat a string", WITH(EXP ",\"iat\":\"2023-11-14\""), AT_READ, no_issue),
        BY_CLAIMS("iat negative", WITH(EXP ",\"iat\":-1.5"), AT_READ, no_issue),
        BY_CLAIMS("iat null", WITH(EXP ",\"iat\":null"), AT_READ, no_issue),
        BY_CLAIMS("iat 1e18", WITH(EXP ",\"iat\":1e18"), AT_READ, no_issue),
        BY_CLAIMS("control: iat and nbf in the past", WITH(EXP ",\"iat\":1,\"nbf\":0.5e1"), PASSES,
                  ""),
    };
#undef WITH
    RUN_ALL(rows);
}

static void test_names(void) {
    static const char foreign[] = "another audience", malformed[] = "neither a string nor a list",
                      other[] = "another issuer";
    static const char no_iss[] = "(iss) is no proper string",
                      no_sub[] = "(sub) is no proper string";
#define WITH_AUD(value) "{" ISS SUB "\"aud\":" value "," EXP "}"
#define WITH_ISS(value) "{" SUB AUD "\"iss\":" value "," EXP "}"
#define WITH_SUB(value) "{" ISS AUD "\"sub\":" value "," EXP "}"
    static const struct attack rows[] = {
        BY_CLAIMS("aud missing", "{" ISS SUB EXP "}", AT_CHECK, "no audience"),
        BY_CLAIMS("aud of another", WITH_AUD("\"https://other.example\""), AT_CHECK, foreign),
        BY_CLAIMS("aud a prefix", WITH_AUD("\"https://gateway.example/mc\""), AT_CHECK, foreign),
        BY_CLAIMS("aud the host", WITH_AUD("\"https://gateway.example\""), AT_CHECK, foreign),
        BY_CLAIMS("aud longer", WITH_AUD("\"" GATEWAY "/admin\""), AT_CHECK, foreign),
        BY_CLAIMS("aud with a slash at its end", WITH_AUD("\"" GATEWAY "/\""), AT_CHECK, foreign),
        BY_CLAIMS("aud in capitals", WITH_AUD("\"https://GATEWAY.example/mcp\""), AT_CHECK,
                  foreign),
        BY_CLAIMS("aud with a NUL", WITH_AUD("\"" GATEWAY "\\u0000\""), AT_CHECK, foreign),
        BY_CLAIMS("aud of several in one string", WITH_AUD("\"" GATEWAY " https://other.example\""),
                  AT_CHECK, foreign),
        BY_CLAIMS("aud a pattern", WITH_AUD("\"*\""), AT_CHECK, foreign),
        BY_CLAIMS("aud empty", WITH_AUD("\"\""), AT_CHECK, foreign),
        BY_CLAIMS("aud array without ours", WITH_AUD("[\"a\",\"b\"]"), AT_CHECK, foreign),
        BY_CLAIMS("aud array that is empty", WITH_AUD("[]"), AT_CHECK, malformed),
        BY_CLAIMS("aud array with a number", WITH_AUD("[\"" GATEWAY "\",7]"), AT_CHECK, malformed),
        BY_CLAIMS("aud array with null", WITH_AUD("[null,\"" GATEWAY "\"]"), AT_CHECK, malformed),
        BY_CLAIMS("aud array in an array", WITH_AUD("[[\"" GATEWAY "\"]]"), AT_CHECK, malformed),
        BY_CLAIMS("aud object", WITH_AUD("{\"" GATEWAY "\":true}"), AT_CHECK, malformed),
        BY_CLAIMS("aud null", WITH_AUD("null"), AT_CHECK, malformed),
        BY_CLAIMS("aud true", WITH_AUD("true"), AT_CHECK, malformed),
        BY_CLAIMS("aud number", WITH_AUD("0"), AT_CHECK, malformed),
        BY_CLAIMS("control: aud array", WITH_AUD("[\"x\",\"" GATEWAY "\"]"), PASSES, ""),
        BY_CLAIMS("control: aud with escapes", WITH_AUD("\"https:\\/\\/gateway.example\\/mcp\""),
                  PASSES, ""),
        BY_CLAIMS("iss missing", "{" SUB AUD EXP "}", AT_CHECK, other),
        BY_CLAIMS("iss of another", WITH_ISS("\"https://evil.example\""), AT_CHECK, other),
        BY_CLAIMS("iss with a slash at its end", WITH_ISS("\"" ISSUER "/\""), AT_CHECK, other),
        BY_CLAIMS("iss in capitals", WITH_ISS("\"https://Issuer.example\""), AT_CHECK, other),
        BY_CLAIMS("iss without TLS", WITH_ISS("\"http://issuer.example\""), AT_CHECK, other),
        BY_CLAIMS("iss a prefix", WITH_ISS("\"https://issuer.exampl\""), AT_CHECK, other),
        BY_CLAIMS("iss longer", WITH_ISS("\"" ISSUER ".evil.example\""), AT_CHECK, other),
        BY_CLAIMS("iss that looks like it", WITH_ISS("\"https://\\u0456ssuer.example\""), AT_CHECK,
                  other),
        BY_CLAIMS("iss with a NUL", WITH_ISS("\"" ISSUER "\\u0000\""), AT_READ, no_iss),
        BY_CLAIMS("iss empty", WITH_ISS("\"\""), AT_READ, no_iss),
        BY_CLAIMS("iss array", WITH_ISS("[\"" ISSUER "\"]"), AT_READ, no_iss),
        BY_CLAIMS("iss number", WITH_ISS("1"), AT_READ, no_iss),
        BY_CLAIMS("iss null", WITH_ISS("null"), AT_READ, no_iss),
        BY_CLAIMS("control: iss with escapes", WITH_ISS("\"https:\\/\\/issuer.example\""), PASSES,
                  ""),
        BY_CLAIMS("control: sub missing", "{" ISS AUD EXP "}", PASSES, ""),
        BY_CLAIMS("control: sub in any script", WITH_SUB("\"\\u00e5lice@\xc3\xa9.example\""),
                  PASSES, ""),
        BY_CLAIMS("sub empty", WITH_SUB("\"\""), AT_READ, no_sub),
        BY_CLAIMS("sub number", WITH_SUB("1000"), AT_READ, no_sub),
        BY_CLAIMS("sub array", WITH_SUB("[\"alice\",\"root\"]"), AT_READ, no_sub),
        BY_CLAIMS("sub object", WITH_SUB("{\"$ne\":\"\"}"), AT_READ, no_sub),
        BY_CLAIMS("sub null", WITH_SUB("null"), AT_READ, no_sub),
        BY_CLAIMS("sub with a NUL", WITH_SUB("\"root\\u0000alice\""), AT_READ, no_sub),
        BY_CLAIMS("sub with a line end", WITH_SUB("\"alice\\r\\nX-Admin: 1\""), AT_READ, no_sub),
        BY_CLAIMS("sub with an escape of the terminal", WITH_SUB("\"\\u001b[2J\""), AT_READ,
                  no_sub),
        BY_CLAIMS("sub with DEL", WITH_SUB("\"\x7f\""), AT_READ, no_sub),
    };
#undef WITH_AUD
#undef WITH_ISS
#undef WITH_SUB
    RUN_ALL(rows);
}

/* A token of exactly `len` bytes, whose claims are filled up. */
static void forge_long(struct buf *token, struct slice header, size_t len) {
    struct buf claims CLEANUP(buf_deinit) = FORGE_BUF;
    struct buf made CLEANUP(buf_deinit) = FORGE_BUF;
    for (size_t fill = len * 3 / 4 - 400; fill < len && buf_len(&made) != len; fill++) {
        buf_reset(&claims, SIZE_MAX);
        buf_reset(&made, SIZE_MAX);
        buf_append_cstr(&claims, "{" ISS SUB AUD EXP ",\"x\":\"");
        for (size_t i = 0; i < fill; i++)
            buf_append_byte(&claims, 'x');
        buf_append_cstr(&claims, "\"}");
        forge_token(&made, header, buf_slice(&claims), world.pairs[PAIR_EC], JOSE_ES256);
    }
    FORGE(buf_len(&made) == len);
    buf_append(token, buf_slice(&made));
}

static void test_longest(void) {
    struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
    const struct jwt_rules rules = {.leeway_s = LEEWAY};
    const char *reason;
    forge_long(&token, SLICE("{\"alg\":\"ES256\"}"), LIMIT_JWT);
    CHECK_INT(forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason),
              PASSES);
    buf_reset(&token, SIZE_MAX);
    forge_long(&token, SLICE("{\"alg\":\"ES256\" }"), LIMIT_JWT + 1);
    CHECK_INT(forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason),
              AT_READ);
    CHECK(strstr(reason, "too long") != NULL);
}

/* A string in header or claims that fills the token: plain, and with one escape. */
static void judge_filled(const char *before, const char *after, bool is_header, size_t fill,
                         const char *escape, enum forge_stage stage, const char *part) {
    struct buf filled CLEANUP(buf_deinit) = FORGE_BUF;
    struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
    const struct jwt_rules rules = {.leeway_s = LEEWAY};
    const char *reason;
    buf_append_cstr(&filled, before);
    buf_append_cstr(&filled, escape);
    for (size_t i = 0; i < fill; i++)
        buf_append_byte(&filled, 'k');
    buf_append_cstr(&filled, after);
    struct slice header = is_header ? buf_slice(&filled) : SLICE("{\"alg\":\"ES256\"}");
    struct slice claims = is_header ? SLICE("{" ISS SUB AUD EXP "}") : buf_slice(&filled);
    forge_token(&token, header, claims, world.pairs[PAIR_EC], JOSE_ES256);
    CHECK_INT(forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason),
              stage);
    CHECK(strstr(reason, part) != NULL);
}

static void test_long_strings(void) {
    static const char kid[] = "{\"alg\":\"ES256\",\"kid\":\"",
                      sub[] = "{" ISS AUD EXP ",\"sub\":\"";
    judge_filled(kid, "\"}", true, 11000, "", AT_KEY, "not known");
    judge_filled(kid, "\"}", true, 2000, "\\n", AT_KEY, "not known");
    judge_filled(kid, "\"}", true, 11000, "\\n", AT_READ, "too long");
    judge_filled(kid, "\"}", true, 1000000, "", AT_READ, "too long");
    judge_filled(sub, "\"}", false, 11000, "", PASSES, "");
    judge_filled(sub, "\"}", false, 2000, "\\/", PASSES, "");
    judge_filled(sub, "\"}", false, 11000, "\\/", AT_READ, "too long");
}

static void test_deep(void) {
    struct buf claims CLEANUP(buf_deinit) = FORGE_BUF;
    struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
    const struct jwt_rules rules = {.leeway_s = LEEWAY};
    const char *reason;
    for (int extra = 0; extra < 2; extra++) {
        int depth = (int)LIMIT_JSON_DEPTH - 1 + extra;
        buf_reset(&claims, SIZE_MAX);
        buf_reset(&token, SIZE_MAX);
        buf_append_cstr(&claims, "{" ISS SUB AUD EXP ",\"x\":");
        for (int i = 0; i < depth; i++)
            buf_append_cstr(&claims, "[");
        for (int i = 0; i < depth; i++)
            buf_append_cstr(&claims, "]");
        buf_append_cstr(&claims, "}");
        forge_token(&token, SLICE("{\"alg\":\"ES256\"}"), buf_slice(&claims), world.pairs[PAIR_EC],
                    JOSE_ES256);
        CHECK_INT(
            forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason),
            extra == 0 ? PASSES : AT_READ);
    }
}

TEST_MAIN(TEST(test_begin), TEST(test_times), TEST(test_names), TEST(test_longest),
          TEST(test_long_strings), TEST(test_deep), TEST(test_end))
