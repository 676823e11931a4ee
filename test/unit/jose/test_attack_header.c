/* Attacks on the form of tokens and on their headers (attack.h). */
#include "attack.h"

static void without_header(struct buf *token) {
    replace_part(token, 0, SLICE(""));
}

static void without_claims(struct buf *token) {
    replace_part(token, 1, SLICE(""));
}

static void with_point(struct buf *token) {
    buf_append_cstr(token, ".");
}

static void with_two_parts_more(struct buf *token) {
    buf_append_cstr(token, ".AAAA.AAAA");
}

static void with_newline(struct buf *token) {
    buf_append_cstr(token, "\n");
}

static void with_crlf(struct buf *token) {
    buf_append_cstr(token, "\r\n");
}

static void with_space(struct buf *token) {
    buf_append_cstr(token, " ");
}

static void with_nul(struct buf *token) {
    buf_append_byte(token, '\0');
}

static void with_prefix(struct buf *token, const char *prefix) {
    struct buf made CLEANUP(buf_deinit) = FORGE_BUF;
    buf_append_cstr(&made, prefix);
    buf_append(&made, buf_slice(token));
    buf_reset(token, SIZE_MAX);
    buf_append(token, buf_slice(&made));
}

static void behind_space(struct buf *token) {
    with_prefix(token, " ");
}

static void behind_bearer(struct buf *token) {
    with_prefix(token, "Bearer ");
}

static void behind_bom(struct buf *token) {
    with_prefix(token, "\xef\xbb\xbf");
}

static void pad(struct buf *token, int index) {
    struct buf text CLEANUP(buf_deinit) = FORGE_BUF;
    buf_append(&text, part_of(token, index));
    buf_append_cstr(&text, "=");
    replace_part(token, index, buf_slice(&text));
}

static void pad_header(struct buf *token) {
    pad(token, 0);
}

static void pad_claims(struct buf *token) {
    pad(token, 1);
}

static void pad_signature(struct buf *token) {
    pad(token, 2);
}

/* Of 64 bytes the last character holds two bits, and four that have to be 0. */
static void with_trailing_bits(struct buf *token) {
    char *last = token->data + token->end - 1;
    FORGE(*last == 'A' || *last == 'Q' || *last == 'g' || *last == 'w');
    (*last)++;
}

static void with_foreign_plus(struct buf *token) {
    token->data[token->end - 3] = '+';
}

static void with_foreign_slash(struct buf *token) {
    token->data[token->end - 3] = '/';
}

static void with_character_more(struct buf *token) {
    buf_append_cstr(token, "AAA");
}

static void with_space_inside(struct buf *token) {
    token->data[token->end - 3] = ' ';
}

static void with_line_end_inside(struct buf *token) {
    token->data[token->end - 3] = '\n';
}

static const char not_base64[] = "not strict base64url";
static const char bad_header[] = "its header is not a strict JSON object";
static const char bad_claims[] = "its claims are not a strict JSON object";

static void test_headers(void) {
    static const char crit[] = "extensions (crit)", other[] = "another kind of token (typ)";
    static const struct attack rows[] = {
        BY_HEADER("control: no kid", "{\"alg\":\"ES256\"}", PASSES, ""),
        BY_HEADER("control: kid with an escape", KID("\"\\u0065c\""), PASSES, ""),
        BY_HEADER("control: unknown parameters", H("\"x5t\":\"AAAA\",\"nonce\":[1,{}],\"iss\":3"),
                  PASSES, ""),
        BY_HEADER("kid of a file", KID("\"../../../../../../dev/null\""), AT_KEY, "not known"),
        BY_HEADER("kid of a file with a NUL",
                  KID("\"/proc/sys/kernel/randomize_va_space\\u0000.pem\""), AT_KEY, "not known"),
        BY_HEADER("kid SQL", KID("\"ec' OR '1'='1\""), AT_KEY, "not known"),
        BY_HEADER("kid SQL that gives a secret", KID("\"x' UNION SELECT 'c2VjcmV0'-- \""), AT_KEY,
                  "not known"),
        BY_HEADER("kid a command", KID("\"ec|/usr/bin/id;$(id)\""), AT_KEY, "not known"),
        BY_HEADER("kid an address", KID("\"https://evil.example/jwks.json\""), AT_KEY, "not known"),
        BY_HEADER("kid with a NUL", KID("\"ec\\u0000\""), AT_KEY, "not known"),
        BY_HEADER("kid with a line end", KID("\"ec\\r\\nX-Admin: 1\""), AT_KEY, "not known"),
        BY_HEADER("kid with a space", KID("\"ec \""), AT_KEY, "not known"),
        BY_HEADER("kid in capitals", KID("\"EC\""), AT_KEY, "not known"),
        BY_HEADER("kid a prefix", KID("\"e\""), AT_KEY, "not known"),
        BY_HEADER("kid empty", KID("\"\""), AT_KEY, "not known"),
        BY_HEADER("kid of another key", KID("\"ec384\""), AT_VERIFY, "for another algorithm"),
        BY_HEADER("kid array", KID("[\"ec\"]"), AT_READ, "(kid) is no string"),
        BY_HEADER("kid object", KID("{\"ec\":1}"), AT_READ, "(kid) is no string"),
        BY_HEADER("kid number", KID("0"), AT_READ, "(kid) is no string"),
        BY_HEADER("kid null", KID("null"), AT_READ, "(kid) is no string"),
        BY_HEADER("crit unknown", H("\"crit\":[\"foo\"],\"foo\":1"), AT_READ, crit),
        BY_HEADER("crit empty", H("\"crit\":[]"), AT_READ, crit),
        BY_HEADER("crit of standard ones", H("\"crit\":[\"alg\",\"kid\"]"), AT_READ, crit),
        BY_HEADER("crit exp", H("\"crit\":[\"exp\"],\"exp\":1"), AT_READ, crit),
        BY_HEADER("crit b64", H("\"crit\":[\"b64\"],\"b64\":false"), AT_READ, crit),
        BY_HEADER("crit null", H("\"crit\":null"), AT_READ, crit),
        BY_HEADER("crit a string", H("\"crit\":\"exp\""), AT_READ, crit),
        BY_HEADER("crit with an escape", H("\"cr\\u0069t\":[\"foo\"]"), AT_READ, crit),
        BY_HEADER("b64 false", H("\"b64\":false"), AT_READ, "(b64)"),
        BY_HEADER("b64 true", H("\"b64\":true"), AT_READ, "(b64)"),
        BY_HEADER("jku", H("\"jku\":\"https://evil.example/jwks.json\""), AT_READ, "(jku)"),
        BY_HEADER("jku of the issuer", H("\"jku\":\"" ISSUER "/jwks.json\""), AT_READ, "(jku)"),
        BY_HEADER("x5u", H("\"x5u\":\"https://evil.example/cert.pem\""), AT_READ, "(x5u)"),
        SIGNED_BY("jwk of somebody else",
                  "{\"alg\":\"ES256\",\"jwk\":{\"kty\":\"EC\",\"crv\":\"P-256\"}}", PAIR_FOREIGN,
                  AT_READ, "(jwk)"),
        WITH_SECRET("jwk symmetric", "{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"AA\"}}",
                    OCT, AT_READ, "(jwk)"),
        BY_HEADER("x5c", H("\"x5c\":[\"MIIB\"]"), AT_READ, "(x5c)"),
        BY_HEADER("zip", H("\"zip\":\"DEF\""), AT_READ, "(zip)"),
        BY_HEADER("enc", H("\"enc\":\"A128GCM\""), AT_READ, "(enc)"),
        BY_HEADER("cty JWT", H("\"cty\":\"JWT\""), AT_READ, "(cty)"),
        BY_HEADER("cty application/jwt", H("\"cty\":\"application/jwt\""), AT_READ, "(cty)"),
        BY_HEADER("cty no string", H("\"cty\":[\"JWT\"]"), AT_READ, "(cty)"),
        BY_HEADER("control: cty json", H("\"cty\":\"application/json\""), PASSES, ""),
        BY_HEADER("control: typ JWT", H("\"typ\":\"JWT\""), PASSES, ""),
        BY_HEADER("control: typ jwt", H("\"typ\":\"jwt\""), PASSES, ""),
        BY_HEADER("control: typ application/jwt", H("\"typ\":\"application/jwt\""), PASSES, ""),
        {.name = "control: typ at+jwt",
         .header = H("\"typ\":\"at+jwt\""),
         .needs_at_jwt = true,
         .stage = PASSES},
        {.name = "control: typ AT+JWT",
         .header = H("\"typ\":\"AT+JWT\""),
         .needs_at_jwt = true,
         .stage = PASSES},
        {.name = "control: typ application/at+jwt",
         .header = H("\"typ\":\"Application\\/at+jwt\""),
         .needs_at_jwt = true,
         .stage = PASSES},
        {.name = "typ JWT where at+jwt is asked for",
         .header = H("\"typ\":\"JWT\""),
         .needs_at_jwt = true,
         .stage = AT_CHECK,
         .reason = "no access token"},
        {.name = "typ missing where at+jwt is asked for",
         .needs_at_jwt = true,
         .stage = AT_CHECK,
         .reason = "no access token"},
        BY_HEADER("typ of a logout token", H("\"typ\":\"logout+jwt\""), AT_READ, other),
        BY_HEADER("typ of a security event", H("\"typ\":\"secevent+jwt\""), AT_READ, other),
        BY_HEADER("typ of a proof", H("\"typ\":\"dpop+jwt\""), AT_READ, other),
        BY_HEADER("typ of a request object", H("\"typ\":\"oauth-authz-req+jwt\""), AT_READ, other),
        BY_HEADER("typ of a refresh token", H("\"typ\":\"Refresh\""), AT_READ, other),
        BY_HEADER("typ JOSE", H("\"typ\":\"JOSE\""), AT_READ, other),
        BY_HEADER("typ empty", H("\"typ\":\"\""), AT_READ, other),
        BY_HEADER("typ application/ alone", H("\"typ\":\"application/\""), AT_READ, other),
        BY_HEADER("typ with the prefix twice", H("\"typ\":\"application/application/jwt\""),
                  AT_READ, other),
        BY_HEADER("typ of another tree", H("\"typ\":\"text/jwt\""), AT_READ, other),
        BY_HEADER("typ with a space", H("\"typ\":\"JWT \""), AT_READ, other),
        BY_HEADER("typ with a parameter", H("\"typ\":\"at+jwt; charset=utf-8\""), AT_READ, other),
        BY_HEADER("typ array", H("\"typ\":[\"JWT\"]"), AT_READ, other),
        BY_HEADER("typ null", H("\"typ\":null"), AT_READ, other),
    };
    RUN_ALL(rows);
}

static void test_forms(void) {
    static const struct attack rows[] = {
        WHOLE("nothing", "", "three parts"),
        WHOLE("a point", ".", "three parts"),
        WHOLE("two points", "..", "no header"),
        WHOLE("one part", "eyJhbGciOiJFUzI1NiJ9", "three parts"),
        SPOILED("two parts", without_second_point, AT_READ, "three parts"),
        SPOILED("four parts", with_point, AT_READ, "three parts"),
        SPOILED("five parts", with_two_parts_more, AT_READ, "encrypted"),
        WHOLE("JSON serialisation",
              "{\"payload\":\"e30\",\"protected\":\"e30\",\"signature\":\"AA\"}", "compact form"),
        WHOLE("JSON serialisation, general", "{\"payload\":\"e30\",\"signatures\":[]}",
              "compact form"),
        SPOILED("no header", without_header, AT_READ, "no header"),
        SPOILED("no claims", without_claims, AT_READ, "no claims"),
        SPOILED("no signature", without_signature, AT_READ, "not signed"),
        SPOILED("padding behind the header", pad_header, AT_READ, not_base64),
        SPOILED("padding behind the claims", pad_claims, AT_READ, not_base64),
        SPOILED("padding behind the signature", pad_signature, AT_READ, not_base64),
        SPOILED("bits behind the end", with_trailing_bits, AT_READ, not_base64),
        SPOILED("a plus sign", with_foreign_plus, AT_READ, not_base64),
        SPOILED("a slash", with_foreign_slash, AT_READ, not_base64),
        SPOILED("a number of characters that none gives", with_character_more, AT_READ, not_base64),
        SPOILED("a space behind", with_space, AT_READ, not_base64),
        SPOILED("a space in front", behind_space, AT_READ, not_base64),
        SPOILED("a space inside", with_space_inside, AT_READ, not_base64),
        SPOILED("a line end inside", with_line_end_inside, AT_READ, not_base64),
        SPOILED("a line end", with_newline, AT_READ, not_base64),
        SPOILED("CRLF", with_crlf, AT_READ, not_base64),
        SPOILED("a NUL behind", with_nul, AT_READ, not_base64),
        SPOILED("Bearer in front", behind_bearer, AT_READ, not_base64),
        SPOILED("a byte order mark in front", behind_bom, AT_READ, not_base64),
        BY_HEADER("a byte order mark in the header", "\xef\xbb\xbf{\"alg\":\"ES256\"}", AT_READ,
                  bad_header),
        BY_HEADER("a header that is an array", "[{\"alg\":\"ES256\"}]", AT_READ, bad_header),
        BY_HEADER("a header that is a string", "\"ES256\"", AT_READ, bad_header),
        BY_HEADER("a header that is null", "null", AT_READ, bad_header),
        BY_HEADER("a header with something behind", "{\"alg\":\"ES256\"}x", AT_READ, bad_header),
        BY_HEADER("two headers", "{\"alg\":\"ES256\"}{\"alg\":\"none\"}", AT_READ, bad_header),
        BY_HEADER("two alg", "{\"alg\":\"none\",\"alg\":\"ES256\"}", AT_READ, bad_header),
        BY_HEADER("two alg, one with an escape", "{\"alg\":\"ES256\",\"\\u0061lg\":\"none\"}",
                  AT_READ, bad_header),
        BY_HEADER("two kid", H("\"kid\":\"rsa\""), AT_READ, bad_header),
        BY_HEADER("a header with a comment", "{/**/\"alg\":\"ES256\"}", AT_READ, bad_header),
        BY_HEADER("a header with single quotes", "{'alg':'ES256'}", AT_READ, bad_header),
        BY_HEADER("a header with a comma too many", "{\"alg\":\"ES256\",}", AT_READ, bad_header),
        BY_HEADER("a header that is not UTF-8", "{\"alg\":\"ES256\",\"x\":\"\xff\"}", AT_READ,
                  bad_header),
        BY_CLAIMS("claims that are an array", "[{" ISS SUB AUD EXP "}]", AT_READ, bad_claims),
        BY_CLAIMS("claims that are a string", "\"" ISSUER "\"", AT_READ, bad_claims),
        BY_CLAIMS("claims that are another token", "eyJhbGciOiJub25lIn0.e30.", AT_READ, bad_claims),
        BY_CLAIMS("claims that end too early", "{" ISS SUB AUD EXP, AT_READ, bad_claims),
        BY_CLAIMS("two exp", "{" ISS SUB AUD EXP ",\"exp\":1}", AT_READ, bad_claims),
        BY_CLAIMS("two exp, one with an escape", "{" ISS SUB AUD EXP ",\"\\u0065xp\":9000000000}",
                  AT_READ, bad_claims),
        BY_CLAIMS("two sub", "{" ISS SUB AUD EXP ",\"sub\":\"root\"}", AT_READ, bad_claims),
        BY_CLAIMS("two names deep inside",
                  "{" ISS SUB AUD EXP ",\"a\":{\"b\":[{\"c\":1,\"c\":2}]}}", AT_READ, bad_claims),
        BY_CLAIMS("claims with NaN", "{" ISS SUB AUD "\"exp\":NaN}", AT_READ, bad_claims),
        BY_CLAIMS("claims with a lone surrogate", "{" ISS AUD EXP ",\"sub\":\"\\ud800\"}", AT_READ,
                  bad_claims),
        BY_CLAIMS("claims that are not UTF-8", "{" ISS AUD EXP ",\"sub\":\"\xc0\x80\"}", AT_READ,
                  bad_claims),
        BY_CLAIMS("control: white space in the claims", " {\r\n" ISS SUB AUD "\t" EXP "} ", PASSES,
                  ""),
        BY_CLAIMS("control: claims that are not known",
                  "{" ISS SUB AUD EXP ",\"jti\":[],\"scope\":7,\"cnf\":{}}", PASSES, ""),
    };
    RUN_ALL(rows);
}

TEST_MAIN(TEST(test_begin), TEST(test_headers), TEST(test_forms), TEST(test_end))
