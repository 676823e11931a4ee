/*
 * What has been tried against readers of JWTs, one row an attack. A row is refused where it has to
 * be, and for its own reason: a token that is refused for another one does not show that the attack
 * fails. Rows that pass stand between them, so that nothing is refused for being unusual.
 */
#include <openssl/pem.h>

#include "forge.h"

#define NOW     1700000000u
#define LEEWAY  60u
#define ISSUER  "https://issuer.example"
#define GATEWAY "https://gateway.example/mcp"

#define ISS "\"iss\":\"" ISSUER "\","
#define AUD "\"aud\":\"" GATEWAY "\","
#define SUB "\"sub\":\"alice\","
#define EXP "\"exp\":1700000300"

/* --- who signs --- */

enum pair { EC, EC384, EC521, RSA, RSA_RS256, RSA_PS256, ED, X25519, K1, WEAK, FOREIGN, PAIRS };

/* How the public half of "rsa" or "ec" may be spelled, to be taken for the secret of an HMAC. */
enum spelling {
    NO_SECRET,
    EMPTY,
    PEM,
    PEM_WITHOUT_END,
    PEM_CRLF,
    PEM_BODY,
    PEM_PKCS1,
    DER,
    DER_PKCS1,
    JWK,
    JWK_SET,
    MODULUS,
    MODULUS_TEXT,
    EC_PEM,
    EC_DER,
    EC_POINT_BYTES,
    ED_BYTES,
    OCT,
    SPELLINGS
};

static struct {
    EVP_PKEY *pairs[PAIRS];
    struct jose_keys *keys;
    struct buf spelled[SPELLINGS];
} world;

static void spell_pem(enum spelling how, EVP_PKEY *pkey, bool is_pkcs1) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    FORGE(bio != NULL);
    if (is_pkcs1) {
        unsigned char *der = NULL;
        int len = i2d_PublicKey(pkey, &der);
        FORGE(len > 0 && PEM_write_bio(bio, "RSA PUBLIC KEY", "", der, len) > 0);
        OPENSSL_free(der);
    } else {
        FORGE(PEM_write_bio_PUBKEY(bio, pkey) == 1);
    }
    long len = BIO_get_mem_data(bio, &text);
    buf_append(&world.spelled[how], slice_make(text, (size_t)len));
    BIO_free(bio);
}

static void spell_der(enum spelling how, EVP_PKEY *pkey, bool is_pkcs1) {
    unsigned char *der = NULL;
    int len = is_pkcs1 ? i2d_PublicKey(pkey, &der) : i2d_PUBKEY(pkey, &der);
    FORGE(len > 0);
    buf_append(&world.spelled[how], slice_make(der, (size_t)len));
    OPENSSL_free(der);
}

static void spell_variants(void) {
    struct slice pem = buf_slice(&world.spelled[PEM]), line, rest = pem;
    buf_append(&world.spelled[PEM_WITHOUT_END], slice_sub(pem, 0, pem.len - 1));
    while (rest.len > 0) {
        slice_cut(rest, '\n', &line, &rest);
        buf_append(&world.spelled[PEM_CRLF], line);
        buf_append_cstr(&world.spelled[PEM_CRLF], "\r\n");
        if (!slice_starts_with(line, SLICE("-----")))
            buf_append(&world.spelled[PEM_BODY], line);
    }
}

static void spell_all(void) {
    unsigned char bytes[256];
    size_t len = sizeof bytes;
    BIGNUM *n = NULL;
    for (int i = 0; i < SPELLINGS; i++)
        buf_init(&world.spelled[i], KIB(64));
    spell_pem(PEM, world.pairs[RSA], false);
    spell_pem(PEM_PKCS1, world.pairs[RSA], true);
    spell_pem(EC_PEM, world.pairs[EC], false);
    spell_der(DER, world.pairs[RSA], false);
    spell_der(DER_PKCS1, world.pairs[RSA], true);
    spell_der(EC_DER, world.pairs[EC], false);
    spell_der(EC_POINT_BYTES, world.pairs[EC], true);
    spell_variants();
    forge_jwk(&world.spelled[JWK], world.pairs[RSA], "");
    buf_append_cstr(&world.spelled[JWK_SET], "{\"keys\":[");
    buf_append(&world.spelled[JWK_SET], buf_slice(&world.spelled[JWK]));
    buf_append_cstr(&world.spelled[JWK_SET], "]}");
    FORGE(EVP_PKEY_get_bn_param(world.pairs[RSA], OSSL_PKEY_PARAM_RSA_N, &n) == 1);
    FORGE(BN_bn2binpad(n, bytes, sizeof bytes) == (int)sizeof bytes);
    buf_append(&world.spelled[MODULUS], slice_make(bytes, sizeof bytes));
    base64url_encode(&world.spelled[MODULUS_TEXT], slice_make(bytes, sizeof bytes));
    BN_free(n);
    FORGE(EVP_PKEY_get_raw_public_key(world.pairs[ED], bytes, &len) == 1);
    buf_append(&world.spelled[ED_BYTES], slice_make(bytes, len));
    buf_append_cstr(&world.spelled[OCT], "0123456789abcdef0123456789abcdef");
    for (int i = 0; i < SPELLINGS; i++)
        FORGE(buf_error(&world.spelled[i]) == 0 &&
              (i <= EMPTY) == (buf_len(&world.spelled[i]) == 0));
}

/* The issuer's set, with keys in it that must not count. */
static void publish(void) {
    static const struct {
        enum pair pair;
        const char *more;
    } rows[] = {
        {EC, ",\"kid\":\"ec\",\"use\":\"sig\",\"alg\":\"ES256\""},
        {EC384, ",\"kid\":\"ec384\""},
        {EC521, ",\"kid\":\"ec521\""},
        {RSA, ",\"kid\":\"rsa\",\"use\":\"sig\""},
        {RSA_RS256, ",\"kid\":\"rs256\",\"alg\":\"RS256\""},
        {RSA_PS256, ",\"kid\":\"ps256\",\"alg\":\"PS256\""},
        {ED, ",\"kid\":\"ed\""},
        {X25519, ",\"kid\":\"x\""},
        {K1, ",\"kid\":\"k1\""},
        {WEAK, ",\"kid\":\"weak\""},
        {FOREIGN, ",\"kid\":\"enc\",\"use\":\"enc\""},
        {FOREIGN, ",\"kid\":\"ops\",\"key_ops\":[\"sign\"]"},
        {FOREIGN, ",\"kid\":\"leaked\",\"d\":\"AQAB\""},
    };
    struct buf jwks CLEANUP(buf_deinit) = FORGE_BUF;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        forge_jwk(&jwks, world.pairs[rows[i].pair], rows[i].more);
        buf_append_cstr(&jwks, ",");
    }
    buf_append_cstr(&jwks, "{\"kty\":\"oct\",\"kid\":\"oct\",\"k\":\"");
    base64url_encode(&jwks, buf_slice(&world.spelled[OCT]));
    buf_append_cstr(&jwks, "\"},"
                           "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"small\",\"x\":"
                           "\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}");
    buf_append_byte(&jwks, '\0');
    world.keys = forge_set(buf_slice(&jwks).ptr);
    FORGE(jose_keys_count(world.keys) == 7);
}

static void world_begin(void) {
    world.pairs[EC] = forge_ec("P-256");
    world.pairs[EC384] = forge_ec("P-384");
    world.pairs[EC521] = forge_ec("P-521");
    world.pairs[RSA] = forge_rsa(2048, 2);
    world.pairs[RSA_RS256] = forge_rsa(2048, 2);
    world.pairs[RSA_PS256] = forge_rsa(2048, 2);
    world.pairs[ED] = forge_okp("ED25519");
    world.pairs[X25519] = forge_okp("X25519");
    world.pairs[K1] = forge_ec("secp256k1");
    world.pairs[WEAK] = forge_rsa(1024, 2);
    world.pairs[FOREIGN] = forge_ec("P-256");
    spell_all();
    publish();
}

static void world_end(void) {
    for (int i = 0; i < PAIRS; i++)
        EVP_PKEY_free(world.pairs[i]);
    for (int i = 0; i < SPELLINGS; i++)
        buf_deinit(&world.spelled[i]);
    world.keys = jose_keys_unref(world.keys);
}

/* --- rows --- */

struct attack {
    const char *name;
    const char *header; /* NULL: that of the control */
    const char *claims; /* likewise */
    enum pair by;
    enum jose_algorithm as; /* of the signature; JOSE_RS256 means that of the pair */
    enum spelling secret;   /* an HMAC with it in place of a signature */
    const char *token;      /* all of it */
    void (*spoil)(struct buf *token);
    bool needs_at_jwt;
    enum forge_stage stage;
    const char *reason; /* a part of it */
};

static enum jose_algorithm own_algorithm(enum pair pair) {
    switch (pair) {
    case EC:
    case K1:
    case FOREIGN:
    case X25519:
    case PAIRS:
        return JOSE_ES256;
    case EC384:
        return JOSE_ES384;
    case EC521:
        return JOSE_ES512;
    case RSA_PS256:
        return JOSE_PS256;
    case ED:
        return JOSE_EDDSA;
    case RSA:
    case RSA_RS256:
    case WEAK:
        break;
    }
    return JOSE_RS256;
}

static void forge(const struct attack *row, struct buf *token) {
    const char *header = row->header != NULL ? row->header : "{\"alg\":\"ES256\",\"kid\":\"ec\"}";
    const char *claims = row->claims != NULL ? row->claims : "{" ISS SUB AUD EXP "}";
    struct slice head = slice_from_cstr(header), body = slice_from_cstr(claims);
    enum jose_algorithm as = row->as != JOSE_RS256 ? row->as : own_algorithm(row->by);
    if (row->token != NULL)
        buf_append_cstr(token, row->token);
    else if (row->secret != NO_SECRET)
        forge_mac_token(token, head, body, buf_slice(&world.spelled[row->secret]),
                        row->as != JOSE_RS256 ? row->as : JOSE_HS256);
    else
        forge_token(token, head, body, world.pairs[row->by], as);
    if (row->spoil != NULL)
        row->spoil(token);
}

static void run(const struct attack *row) {
    struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
    const struct slice audience = SLICE(GATEWAY);
    const struct jwt_rules rules = {.issuer = SLICE(ISSUER),
                                    .audiences = &audience,
                                    .n_audiences = 1,
                                    .needs_at_jwt = row->needs_at_jwt,
                                    .leeway_s = LEEWAY};
    const char *reason;
    test_row(row->name);
    forge(row, &token);
    FORGE(buf_error(&token) == 0);
    enum forge_stage stage =
        forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason);
    CHECK_INT(stage, row->stage);
    const char *expected = row->reason != NULL ? row->reason : "";
    if (strstr(reason, expected) == NULL || (row->stage == PASSES) != (reason[0] == '\0')) {
        printf("#   said \"%s\"\n", reason);
        CHECK(!"the reason is its own");
    }
}

static void run_all(const struct attack *rows, size_t n) {
    for (size_t i = 0; i < n; i++)
        run(&rows[i]);
}
#define RUN_ALL(rows) run_all(rows, ARRAY_LEN(rows))

/* --- spoiling --- */

static struct slice part_of(const struct buf *token, int index) {
    struct slice part = SLICE_EMPTY, rest = buf_slice(token);
    for (int i = 0; i <= index; i++)
        (void)slice_cut(rest, '.', &part, &rest);
    return part;
}

static void replace_part(struct buf *token, int index, struct slice text) {
    struct buf made CLEANUP(buf_deinit) = FORGE_BUF;
    for (int i = 0; i < 3; i++) {
        buf_append_cstr(&made, i > 0 ? "." : "");
        buf_append(&made, i == index ? text : part_of(token, i));
    }
    buf_reset(token, SIZE_MAX);
    buf_append(token, buf_slice(&made));
}

static void replace_signature(struct buf *token, struct slice bytes) {
    struct buf text CLEANUP(buf_deinit) = FORGE_BUF;
    base64url_encode(&text, bytes);
    replace_part(token, 2, buf_slice(&text));
}

/* The signature's bytes. */
static size_t signature_of(const struct buf *token, unsigned char out[static 1024]) {
    struct buf bytes CLEANUP(buf_deinit) = FORGE_BUF;
    FORGE(base64url_decode(&bytes, part_of(token, 2)) == 0 && buf_len(&bytes) <= 1024);
    memcpy(out, buf_slice(&bytes).ptr, buf_len(&bytes));
    return buf_len(&bytes);
}

static void without_signature(struct buf *token) {
    replace_part(token, 2, SLICE(""));
}
static void without_second_point(struct buf *token) {
    replace_part(token, 2, SLICE(""));
    buf_truncate(token, buf_len(token) - 1);
}
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
static void with_other_claims(struct buf *token) {
    struct buf text CLEANUP(buf_deinit) = FORGE_BUF;
    base64url_encode(&text, SLICE("{" ISS "\"sub\":\"root\"," AUD EXP "}"));
    replace_part(token, 1, buf_slice(&text));
}
static void with_other_header(struct buf *token) {
    struct buf text CLEANUP(buf_deinit) = FORGE_BUF;
    base64url_encode(&text, SLICE("{\"alg\":\"ES256\",\"kid\":\"ec\",\"typ\":\"at+jwt\"}"));
    replace_part(token, 0, buf_slice(&text));
}

/* --- spoiled signatures --- */

static void zero_range(struct buf *token, size_t from, size_t to) {
    unsigned char bytes[1024];
    size_t len = signature_of(token, bytes);
    FORGE(from <= to && to <= len);
    memset(bytes + from, 0, to - from);
    replace_signature(token, slice_make(bytes, len));
}
static void zero_both(struct buf *token) {
    zero_range(token, 0, 64);
}
static void zero_r(struct buf *token) {
    zero_range(token, 0, 32);
}
static void zero_s(struct buf *token) {
    zero_range(token, 32, 64);
}
static void zero_rsa(struct buf *token) {
    zero_range(token, 0, 256);
}

/* The order of P-256 (SEC 2 section 2.4.2). */
static const unsigned char order[32] = {
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};

static void order_and_order(struct buf *token) {
    unsigned char bytes[64];
    memcpy(bytes, order, 32);
    memcpy(bytes + 32, order, 32);
    replace_signature(token, slice_make(bytes, sizeof bytes));
}
static void one_and_order(struct buf *token) {
    unsigned char bytes[64] = {[31] = 1};
    memcpy(bytes + 32, order, 32);
    replace_signature(token, slice_make(bytes, sizeof bytes));
}
static void all_ones(struct buf *token) {
    unsigned char bytes[64];
    memset(bytes, 0xff, sizeof bytes);
    replace_signature(token, slice_make(bytes, sizeof bytes));
}
static void swapped(struct buf *token) {
    unsigned char bytes[1024], other[64];
    FORGE(signature_of(token, bytes) == sizeof other);
    memcpy(other, bytes + 32, 32);
    memcpy(other + 32, bytes, 32);
    replace_signature(token, slice_make(other, sizeof other));
}
static void one_byte_less(struct buf *token) {
    unsigned char bytes[1024];
    size_t len = signature_of(token, bytes);
    replace_signature(token, slice_make(bytes, len - 1));
}
static void one_byte_more(struct buf *token) {
    unsigned char bytes[1024];
    size_t len = signature_of(token, bytes);
    bytes[len] = 0;
    replace_signature(token, slice_make(bytes, len + 1));
}
static void zero_in_front(struct buf *token) {
    unsigned char bytes[1024], longer[1024] = {0};
    size_t len = signature_of(token, bytes);
    memcpy(longer + 1, bytes, len);
    replace_signature(token, slice_make(longer, len + 1));
}
static void one_bit(struct buf *token) {
    unsigned char bytes[1024];
    size_t len = signature_of(token, bytes);
    bytes[len / 2] ^= 1;
    replace_signature(token, slice_make(bytes, len));
}
static void as_der(struct buf *token) {
    unsigned char bytes[1024], *der = NULL;
    FORGE(signature_of(token, bytes) == 64);
    ECDSA_SIG *pair = ECDSA_SIG_new();
    FORGE(pair != NULL &&
          ECDSA_SIG_set0(pair, BN_bin2bn(bytes, 32, NULL), BN_bin2bn(bytes + 32, 32, NULL)) == 1);
    int len = i2d_ECDSA_SIG(pair, &der);
    FORGE(len > 0);
    replace_signature(token, slice_make(der, (size_t)len));
    OPENSSL_free(der);
    ECDSA_SIG_free(pair);
}
/* Ed25519: S + L is the same number modulo L (RFC 8032 section 5.1.7 refuses it). */
static void plus_order_ed(struct buf *token) {
    static const unsigned char l[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,       0xd6,
                                        0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
    unsigned char bytes[1024];
    unsigned carry = 0;
    FORGE(signature_of(token, bytes) == 64);
    for (int i = 0; i < 32; i++) {
        carry += (unsigned)bytes[32 + i] + l[i];
        bytes[32 + i] = (unsigned char)(carry & 0xff);
        carry >>= 8;
    }
    replace_signature(token, slice_make(bytes, 64));
}
/* RSA: the same number modulo n, when it still fits. */
static void plus_modulus(struct buf *token) {
    unsigned char bytes[1024];
    size_t len = signature_of(token, bytes);
    BIGNUM *s = BN_bin2bn(bytes, (int)len, NULL), *n = NULL;
    FORGE(s != NULL && EVP_PKEY_get_bn_param(world.pairs[RSA], OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
          BN_add(s, s, n) == 1);
    int size = BN_num_bytes(s);
    FORGE(BN_bn2bin(s, bytes) == size);
    replace_signature(token, slice_make(bytes, (size_t)size));
    BN_free(s);
    BN_free(n);
}
static void sign_otherwise(struct buf *token, const EVP_MD *hash, bool is_pss, int salt,
                           const EVP_MD *mgf1) {
    unsigned char bytes[1024];
    struct slice text = buf_slice(token);
    text.len -= part_of(token, 2).len + 1;
    size_t len = forge_raw(bytes, sizeof bytes, world.pairs[RSA], hash, is_pss, salt, mgf1, text);
    replace_signature(token, slice_make(bytes, len));
}
static void pss_without_salt(struct buf *token) {
    sign_otherwise(token, EVP_sha256(), true, 0, EVP_sha256());
}
static void pss_with_long_salt(struct buf *token) {
    sign_otherwise(token, EVP_sha256(), true, RSA_PSS_SALTLEN_MAX, EVP_sha256());
}
static void pss_with_sha1_mask(struct buf *token) {
    sign_otherwise(token, EVP_sha256(), true, 32, EVP_sha1());
}
static void pss_with_sha512(struct buf *token) {
    sign_otherwise(token, EVP_sha512(), true, 64, EVP_sha512());
}
static void pkcs1_with_sha1(struct buf *token) {
    sign_otherwise(token, EVP_sha1(), false, 0, NULL);
}
static void pkcs1_with_sha512(struct buf *token) {
    sign_otherwise(token, EVP_sha512(), false, 0, NULL);
}
static void pkcs1(struct buf *token) {
    sign_otherwise(token, EVP_sha256(), false, 0, NULL);
}
static void pss(struct buf *token) {
    sign_otherwise(token, EVP_sha256(), true, 32, EVP_sha256());
}

/* --- the tables --- */

#define H(rest)    "{\"alg\":\"ES256\",\"kid\":\"ec\"," rest "}"
#define ALG(value) "{\"alg\":" value ",\"kid\":\"ec\"}"
#define KID(value) "{\"alg\":\"ES256\",\"kid\":" value "}"
#define HS(kid)    "{\"alg\":\"HS256\",\"kid\":\"" kid "\"}"

static const char no_algorithm[] = "its algorithm (alg) is none that is accepted";
static const char no_fit[] = "does not fit the issuer's keys";
static const char bad_signature[] = "its signature is wrong";
static const char not_base64[] = "not strict base64url";
static const char bad_header[] = "its header is not a strict JSON object";
static const char bad_claims[] = "its claims are not a strict JSON object";

static void test_algorithms(void) {
    static const struct attack rows[] = {
        {.name = "control: ES256", .stage = PASSES},
        {.name = "control: ES384",
         .header = "{\"alg\":\"ES384\",\"kid\":\"ec384\"}",
         .by = EC384,
         .stage = PASSES},
        {.name = "control: ES512",
         .header = "{\"alg\":\"ES512\",\"kid\":\"ec521\"}",
         .by = EC521,
         .stage = PASSES},
        {.name = "control: RS256",
         .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .stage = PASSES},
        {.name = "control: RS512",
         .header = "{\"alg\":\"RS512\",\"kid\":\"rsa\"}",
         .by = RSA,
         .as = JOSE_RS512,
         .stage = PASSES},
        {.name = "control: PS256",
         .header = "{\"alg\":\"PS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .as = JOSE_PS256,
         .stage = PASSES},
        {.name = "control: pinned PS256",
         .header = "{\"alg\":\"PS256\",\"kid\":\"ps256\"}",
         .by = RSA_PS256,
         .stage = PASSES},
        {.name = "control: EdDSA",
         .header = "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}",
         .by = ED,
         .stage = PASSES},
        {.name = "control: alg with an escape", .header = ALG("\"\\u0045S256\""), .stage = PASSES},
        {.name = "alg none, signed",
         .header = ALG("\"none\""),
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg none, not signed",
         .header = ALG("\"none\""),
         .spoil = without_signature,
         .stage = AT_READ,
         .reason = "not signed"},
        {.name = "alg none, without the point",
         .header = ALG("\"none\""),
         .spoil = without_second_point,
         .stage = AT_READ,
         .reason = "three parts"},
        {.name = "alg None", .header = ALG("\"None\""), .stage = AT_READ, .reason = no_algorithm},
        {.name = "alg nOnE", .header = ALG("\"nOnE\""), .stage = AT_READ, .reason = no_algorithm},
        {.name = "alg NONE", .header = ALG("\"NONE\""), .stage = AT_READ, .reason = no_algorithm},
        {.name = "alg none with an escape",
         .header = ALG("\"n\\u006fne\""),
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg empty", .header = ALG("\"\""), .stage = AT_READ, .reason = no_algorithm},
        {.name = "alg missing",
         .header = "{\"kid\":\"ec\"}",
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg in capitals only",
         .header = "{\"ALG\":\"ES256\",\"kid\":\"ec\"}",
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg null", .header = ALG("null"), .stage = AT_READ, .reason = no_algorithm},
        {.name = "alg true", .header = ALG("true"), .stage = AT_READ, .reason = no_algorithm},
        {.name = "alg 0", .header = ALG("0"), .stage = AT_READ, .reason = no_algorithm},
        {.name = "alg array",
         .header = ALG("[\"ES256\"]"),
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg array with none",
         .header = ALG("[\"none\",\"ES256\"]"),
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg object",
         .header = ALG("{\"ES256\":1}"),
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg in small letters",
         .header = ALG("\"es256\""),
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg with a space",
         .header = ALG("\"ES256 \""),
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg with a NUL",
         .header = ALG("\"ES256\\u0000\""),
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg ES256K",
         .header = "{\"alg\":\"ES256K\",\"kid\":\"k1\"}",
         .by = K1,
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg ES521", .header = ALG("\"ES521\""), .stage = AT_READ, .reason = no_algorithm},
        {.name = "alg RS1",
         .header = "{\"alg\":\"RS1\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = pkcs1_with_sha1,
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg of encryption",
         .header = ALG("\"RSA-OAEP\""),
         .stage = AT_READ,
         .reason = no_algorithm},
        {.name = "alg dir", .header = ALG("\"dir\""), .stage = AT_READ, .reason = no_algorithm},
    };
    RUN_ALL(rows);
}

static void test_confusion(void) {
    static const struct attack rows[] = {
        {.name = "HS256 with the PEM",
         .header = HS("rsa"),
         .secret = PEM,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the PEM without its end",
         .header = HS("rsa"),
         .secret = PEM_WITHOUT_END,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the PEM and CRLF",
         .header = HS("rsa"),
         .secret = PEM_CRLF,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the body of the PEM",
         .header = HS("rsa"),
         .secret = PEM_BODY,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the PEM of PKCS #1",
         .header = HS("rsa"),
         .secret = PEM_PKCS1,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the DER",
         .header = HS("rsa"),
         .secret = DER,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the DER of PKCS #1",
         .header = HS("rsa"),
         .secret = DER_PKCS1,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the JWK",
         .header = HS("rsa"),
         .secret = JWK,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the JWK set",
         .header = HS("rsa"),
         .secret = JWK_SET,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the modulus",
         .header = HS("rsa"),
         .secret = MODULUS,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the text of the modulus",
         .header = HS("rsa"),
         .secret = MODULUS_TEXT,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the PEM of EC",
         .header = HS("ec"),
         .secret = EC_PEM,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the DER of EC",
         .header = HS("ec"),
         .secret = EC_DER,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the point",
         .header = HS("ec"),
         .secret = EC_POINT_BYTES,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with the bytes of Ed25519",
         .header = HS("ed"),
         .secret = ED_BYTES,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with nothing",
         .header = HS("rsa"),
         .secret = EMPTY,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 with a published oct key",
         .header = HS("oct"),
         .secret = OCT,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS256 without kid",
         .header = "{\"alg\":\"HS256\"}",
         .secret = PEM,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS384 with the PEM",
         .header = "{\"alg\":\"HS384\",\"kid\":\"rsa\"}",
         .secret = PEM,
         .as = JOSE_HS384,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS512 with the PEM",
         .header = "{\"alg\":\"HS512\",\"kid\":\"rsa\"}",
         .secret = PEM,
         .as = JOSE_HS512,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "an HMAC under RS256",
         .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
         .secret = PEM,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "an HMAC under ES256",
         .secret = EC_PEM,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "RS256 with a PS256 key",
         .header = "{\"alg\":\"RS256\",\"kid\":\"ps256\"}",
         .by = RSA_PS256,
         .spoil = NULL,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "PS256 with an RS256 key",
         .header = "{\"alg\":\"PS256\",\"kid\":\"rs256\"}",
         .by = RSA_RS256,
         .as = JOSE_PS256,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "RS384 with an RS256 key",
         .header = "{\"alg\":\"RS384\",\"kid\":\"rs256\"}",
         .by = RSA_RS256,
         .as = JOSE_RS384,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "PKCS #1 under PS256",
         .header = "{\"alg\":\"PS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = pkcs1,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "PSS under RS256",
         .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = pss,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "SHA-1 under RS256",
         .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = pkcs1_with_sha1,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "SHA-512 under RS256",
         .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = pkcs1_with_sha512,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "SHA-512 under PS256",
         .header = "{\"alg\":\"PS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = pss_with_sha512,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "PSS without salt",
         .header = "{\"alg\":\"PS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = pss_without_salt,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "PSS with the longest salt",
         .header = "{\"alg\":\"PS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = pss_with_long_salt,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "PSS with MGF1 of SHA-1",
         .header = "{\"alg\":\"PS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = pss_with_sha1_mask,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "ES384 with a P-256 key",
         .header = "{\"alg\":\"ES384\",\"kid\":\"ec\"}",
         .as = JOSE_ES384,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "ES256 with a P-384 key",
         .header = KID("\"ec384\""),
         .by = EC384,
         .as = JOSE_ES256,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "ES512 with a P-256 key",
         .header = "{\"alg\":\"ES512\",\"kid\":\"ec\"}",
         .as = JOSE_ES512,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "RS256 with an EC key",
         .header = "{\"alg\":\"RS256\",\"kid\":\"ec\"}",
         .by = RSA,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "ES256 with an RSA key",
         .header = KID("\"rsa\""),
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "EdDSA with an EC key",
         .header = "{\"alg\":\"EdDSA\",\"kid\":\"ec\"}",
         .by = ED,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "ES256 with an Ed25519 key",
         .header = KID("\"ed\""),
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "EdDSA with an X25519 key",
         .header = "{\"alg\":\"EdDSA\",\"kid\":\"x\"}",
         .by = ED,
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "ES256 with a secp256k1 key",
         .header = KID("\"k1\""),
         .by = K1,
         .stage = AT_KEY,
         .reason = "not known"},
    };
    RUN_ALL(rows);
}

static void test_signatures(void) {
    static const struct attack rows[] = {
        {.name = "ES256 r = s = 0",
         .spoil = zero_both,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "ES256 r = 0", .spoil = zero_r, .stage = AT_VERIFY, .reason = bad_signature},
        {.name = "ES256 s = 0", .spoil = zero_s, .stage = AT_VERIFY, .reason = bad_signature},
        {.name = "ES256 r = s = n",
         .spoil = order_and_order,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "ES256 r = 1, s = n",
         .spoil = one_and_order,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "ES256 all ones", .spoil = all_ones, .stage = AT_VERIFY, .reason = bad_signature},
        {.name = "ES256 r and s swapped",
         .spoil = swapped,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "ES256 in DER", .spoil = as_der, .stage = AT_VERIFY, .reason = bad_signature},
        {.name = "ES256 a byte less",
         .spoil = one_byte_less,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "ES256 a byte more",
         .spoil = one_byte_more,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "ES256 a zero in front",
         .spoil = zero_in_front,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "ES256 one bit", .spoil = one_bit, .stage = AT_VERIFY, .reason = bad_signature},
        {.name = "ES256 of somebody else",
         .by = FOREIGN,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "other claims under the signature",
         .spoil = with_other_claims,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "another header under the signature",
         .spoil = with_other_header,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "EdDSA with S + L",
         .header = "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}",
         .by = ED,
         .spoil = plus_order_ed,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "EdDSA zeros",
         .header = "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}",
         .by = ED,
         .spoil = zero_both,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "EdDSA a byte less",
         .header = "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}",
         .by = ED,
         .spoil = one_byte_less,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "EdDSA a byte more",
         .header = "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}",
         .by = ED,
         .spoil = one_byte_more,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "EdDSA one bit",
         .header = "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}",
         .by = ED,
         .spoil = one_bit,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "RS256 zeros",
         .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = zero_rsa,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "RS256 a byte less",
         .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = one_byte_less,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "RS256 a zero in front",
         .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = zero_in_front,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "RS256 plus the modulus",
         .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = plus_modulus,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "RS256 one bit",
         .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
         .by = RSA,
         .spoil = one_bit,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        {.name = "RS256 with 1,024 bits",
         .header = "{\"alg\":\"RS256\",\"kid\":\"weak\"}",
         .by = WEAK,
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "ES256 with a key for encryption",
         .header = KID("\"enc\""),
         .by = FOREIGN,
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "ES256 with a key for signing only",
         .header = KID("\"ops\""),
         .by = FOREIGN,
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "ES256 with a key that everybody has",
         .header = KID("\"leaked\""),
         .by = FOREIGN,
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "EdDSA with a key of small order",
         .header = "{\"alg\":\"EdDSA\",\"kid\":\"small\"}",
         .by = ED,
         .stage = AT_KEY,
         .reason = "not known"},
    };
    RUN_ALL(rows);
}

static void test_headers(void) {
    static const char crit[] = "extensions (crit)", other[] = "another kind of token (typ)";
    static const struct attack rows[] = {
        {.name = "control: no kid", .header = "{\"alg\":\"ES256\"}", .stage = PASSES},
        {.name = "control: kid with an escape", .header = KID("\"\\u0065c\""), .stage = PASSES},
        {.name = "control: unknown parameters",
         .header = H("\"x5t\":\"AAAA\",\"nonce\":[1,{}],\"iss\":3"),
         .stage = PASSES},
        {.name = "kid of a file",
         .header = KID("\"../../../../../../dev/null\""),
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "kid of a file with a NUL",
         .header = KID("\"/proc/sys/kernel/randomize_va_space\\u0000.pem\""),
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "kid SQL",
         .header = KID("\"ec' OR '1'='1\""),
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "kid SQL that gives a secret",
         .header = KID("\"x' UNION SELECT 'c2VjcmV0'-- \""),
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "kid a command",
         .header = KID("\"ec|/usr/bin/id;$(id)\""),
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "kid an address",
         .header = KID("\"https://evil.example/jwks.json\""),
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "kid with a NUL",
         .header = KID("\"ec\\u0000\""),
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "kid with a line end",
         .header = KID("\"ec\\r\\nX-Admin: 1\""),
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "kid with a space",
         .header = KID("\"ec \""),
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "kid in capitals",
         .header = KID("\"EC\""),
         .stage = AT_KEY,
         .reason = "not known"},
        {.name = "kid a prefix", .header = KID("\"e\""), .stage = AT_KEY, .reason = "not known"},
        {.name = "kid empty", .header = KID("\"\""), .stage = AT_KEY, .reason = "not known"},
        {.name = "kid of another key",
         .header = KID("\"ec384\""),
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "kid array",
         .header = KID("[\"ec\"]"),
         .stage = AT_READ,
         .reason = "(kid) is no string"},
        {.name = "kid object",
         .header = KID("{\"ec\":1}"),
         .stage = AT_READ,
         .reason = "(kid) is no string"},
        {.name = "kid number",
         .header = KID("0"),
         .stage = AT_READ,
         .reason = "(kid) is no string"},
        {.name = "kid null",
         .header = KID("null"),
         .stage = AT_READ,
         .reason = "(kid) is no string"},
        {.name = "crit unknown",
         .header = H("\"crit\":[\"foo\"],\"foo\":1"),
         .stage = AT_READ,
         .reason = crit},
        {.name = "crit empty", .header = H("\"crit\":[]"), .stage = AT_READ, .reason = crit},
        {.name = "crit of standard ones",
         .header = H("\"crit\":[\"alg\",\"kid\"]"),
         .stage = AT_READ,
         .reason = crit},
        {.name = "crit exp",
         .header = H("\"crit\":[\"exp\"],\"exp\":1"),
         .stage = AT_READ,
         .reason = crit},
        {.name = "crit b64",
         .header = H("\"crit\":[\"b64\"],\"b64\":false"),
         .stage = AT_READ,
         .reason = crit},
        {.name = "crit null", .header = H("\"crit\":null"), .stage = AT_READ, .reason = crit},
        {.name = "crit a string",
         .header = H("\"crit\":\"exp\""),
         .stage = AT_READ,
         .reason = crit},
        {.name = "crit with an escape",
         .header = H("\"cr\\u0069t\":[\"foo\"]"),
         .stage = AT_READ,
         .reason = crit},
        {.name = "b64 false", .header = H("\"b64\":false"), .stage = AT_READ, .reason = "(b64)"},
        {.name = "b64 true", .header = H("\"b64\":true"), .stage = AT_READ, .reason = "(b64)"},
        {.name = "jku",
         .header = H("\"jku\":\"https://evil.example/jwks.json\""),
         .stage = AT_READ,
         .reason = "(jku)"},
        {.name = "jku of the issuer",
         .header = H("\"jku\":\"" ISSUER "/jwks.json\""),
         .stage = AT_READ,
         .reason = "(jku)"},
        {.name = "x5u",
         .header = H("\"x5u\":\"https://evil.example/cert.pem\""),
         .stage = AT_READ,
         .reason = "(x5u)"},
        {.name = "jwk of somebody else",
         .header = "{\"alg\":\"ES256\",\"jwk\":{\"kty\":\"EC\",\"crv\":\"P-256\"}}",
         .by = FOREIGN,
         .stage = AT_READ,
         .reason = "(jwk)"},
        {.name = "jwk symmetric",
         .header = "{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"AA\"}}",
         .secret = OCT,
         .stage = AT_READ,
         .reason = "(jwk)"},
        {.name = "x5c", .header = H("\"x5c\":[\"MIIB\"]"), .stage = AT_READ, .reason = "(x5c)"},
        {.name = "zip", .header = H("\"zip\":\"DEF\""), .stage = AT_READ, .reason = "(zip)"},
        {.name = "enc", .header = H("\"enc\":\"A128GCM\""), .stage = AT_READ, .reason = "(enc)"},
        {.name = "cty JWT", .header = H("\"cty\":\"JWT\""), .stage = AT_READ, .reason = "(cty)"},
        {.name = "cty application/jwt",
         .header = H("\"cty\":\"application/jwt\""),
         .stage = AT_READ,
         .reason = "(cty)"},
        {.name = "cty no string",
         .header = H("\"cty\":[\"JWT\"]"),
         .stage = AT_READ,
         .reason = "(cty)"},
        {.name = "control: cty json", .header = H("\"cty\":\"application/json\""), .stage = PASSES},
        {.name = "control: typ JWT", .header = H("\"typ\":\"JWT\""), .stage = PASSES},
        {.name = "control: typ jwt", .header = H("\"typ\":\"jwt\""), .stage = PASSES},
        {.name = "control: typ application/jwt",
         .header = H("\"typ\":\"application/jwt\""),
         .stage = PASSES},
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
        {.name = "typ of a logout token",
         .header = H("\"typ\":\"logout+jwt\""),
         .stage = AT_READ,
         .reason = other},
        {.name = "typ of a security event",
         .header = H("\"typ\":\"secevent+jwt\""),
         .stage = AT_READ,
         .reason = other},
        {.name = "typ of a proof",
         .header = H("\"typ\":\"dpop+jwt\""),
         .stage = AT_READ,
         .reason = other},
        {.name = "typ of a request object",
         .header = H("\"typ\":\"oauth-authz-req+jwt\""),
         .stage = AT_READ,
         .reason = other},
        {.name = "typ of a refresh token",
         .header = H("\"typ\":\"Refresh\""),
         .stage = AT_READ,
         .reason = other},
        {.name = "typ JOSE", .header = H("\"typ\":\"JOSE\""), .stage = AT_READ, .reason = other},
        {.name = "typ empty", .header = H("\"typ\":\"\""), .stage = AT_READ, .reason = other},
        {.name = "typ application/ alone",
         .header = H("\"typ\":\"application/\""),
         .stage = AT_READ,
         .reason = other},
        {.name = "typ with the prefix twice",
         .header = H("\"typ\":\"application/application/jwt\""),
         .stage = AT_READ,
         .reason = other},
        {.name = "typ of another tree",
         .header = H("\"typ\":\"text/jwt\""),
         .stage = AT_READ,
         .reason = other},
        {.name = "typ with a space",
         .header = H("\"typ\":\"JWT \""),
         .stage = AT_READ,
         .reason = other},
        {.name = "typ with a parameter",
         .header = H("\"typ\":\"at+jwt; charset=utf-8\""),
         .stage = AT_READ,
         .reason = other},
        {.name = "typ array", .header = H("\"typ\":[\"JWT\"]"), .stage = AT_READ, .reason = other},
        {.name = "typ null", .header = H("\"typ\":null"), .stage = AT_READ, .reason = other},
    };
    RUN_ALL(rows);
}

static void test_forms(void) {
    static const struct attack rows[] = {
        {.name = "nothing", .token = "", .stage = AT_READ, .reason = "three parts"},
        {.name = "a point", .token = ".", .stage = AT_READ, .reason = "three parts"},
        {.name = "two points", .token = "..", .stage = AT_READ, .reason = "no header"},
        {.name = "one part",
         .token = "eyJhbGciOiJFUzI1NiJ9",
         .stage = AT_READ,
         .reason = "three parts"},
        {.name = "two parts",
         .spoil = without_second_point,
         .stage = AT_READ,
         .reason = "three parts"},
        {.name = "four parts", .spoil = with_point, .stage = AT_READ, .reason = "three parts"},
        {.name = "five parts",
         .spoil = with_two_parts_more,
         .stage = AT_READ,
         .reason = "encrypted"},
        {.name = "JSON serialisation",
         .token = "{\"payload\":\"e30\",\"protected\":\"e30\",\"signature\":\"AA\"}",
         .stage = AT_READ,
         .reason = "compact form"},
        {.name = "JSON serialisation, general",
         .token = "{\"payload\":\"e30\",\"signatures\":[]}",
         .stage = AT_READ,
         .reason = "compact form"},
        {.name = "no header", .spoil = without_header, .stage = AT_READ, .reason = "no header"},
        {.name = "no claims", .spoil = without_claims, .stage = AT_READ, .reason = "no claims"},
        {.name = "no signature",
         .spoil = without_signature,
         .stage = AT_READ,
         .reason = "not signed"},
        {.name = "padding behind the header",
         .spoil = pad_header,
         .stage = AT_READ,
         .reason = not_base64},
        {.name = "padding behind the claims",
         .spoil = pad_claims,
         .stage = AT_READ,
         .reason = not_base64},
        {.name = "padding behind the signature",
         .spoil = pad_signature,
         .stage = AT_READ,
         .reason = not_base64},
        {.name = "bits behind the end",
         .spoil = with_trailing_bits,
         .stage = AT_READ,
         .reason = not_base64},
        {.name = "a plus sign", .spoil = with_foreign_plus, .stage = AT_READ, .reason = not_base64},
        {.name = "a slash", .spoil = with_foreign_slash, .stage = AT_READ, .reason = not_base64},
        {.name = "a number of characters that none gives",
         .spoil = with_character_more,
         .stage = AT_READ,
         .reason = not_base64},
        {.name = "a space behind", .spoil = with_space, .stage = AT_READ, .reason = not_base64},
        {.name = "a space in front", .spoil = behind_space, .stage = AT_READ, .reason = not_base64},
        {.name = "a space inside",
         .spoil = with_space_inside,
         .stage = AT_READ,
         .reason = not_base64},
        {.name = "a line end inside",
         .spoil = with_line_end_inside,
         .stage = AT_READ,
         .reason = not_base64},
        {.name = "a line end", .spoil = with_newline, .stage = AT_READ, .reason = not_base64},
        {.name = "CRLF", .spoil = with_crlf, .stage = AT_READ, .reason = not_base64},
        {.name = "a NUL behind", .spoil = with_nul, .stage = AT_READ, .reason = not_base64},
        {.name = "Bearer in front", .spoil = behind_bearer, .stage = AT_READ, .reason = not_base64},
        {.name = "a byte order mark in front",
         .spoil = behind_bom,
         .stage = AT_READ,
         .reason = not_base64},
        {.name = "a byte order mark in the header",
         .header = "\xef\xbb\xbf{\"alg\":\"ES256\"}",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "a header that is an array",
         .header = "[{\"alg\":\"ES256\"}]",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "a header that is a string",
         .header = "\"ES256\"",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "a header that is null", .header = "null", .stage = AT_READ, .reason = bad_header},
        {.name = "a header with something behind",
         .header = "{\"alg\":\"ES256\"}x",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "two headers",
         .header = "{\"alg\":\"ES256\"}{\"alg\":\"none\"}",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "two alg",
         .header = "{\"alg\":\"none\",\"alg\":\"ES256\"}",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "two alg, one with an escape",
         .header = "{\"alg\":\"ES256\",\"\\u0061lg\":\"none\"}",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "two kid", .header = H("\"kid\":\"rsa\""), .stage = AT_READ, .reason = bad_header},
        {.name = "a header with a comment",
         .header = "{/**/\"alg\":\"ES256\"}",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "a header with single quotes",
         .header = "{'alg':'ES256'}",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "a header with a comma too many",
         .header = "{\"alg\":\"ES256\",}",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "a header that is not UTF-8",
         .header = "{\"alg\":\"ES256\",\"x\":\"\xff\"}",
         .stage = AT_READ,
         .reason = bad_header},
        {.name = "claims that are an array",
         .claims = "[{" ISS SUB AUD EXP "}]",
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "claims that are a string",
         .claims = "\"" ISSUER "\"",
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "claims that are another token",
         .claims = "eyJhbGciOiJub25lIn0.e30.",
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "claims that end too early",
         .claims = "{" ISS SUB AUD EXP,
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "two exp",
         .claims = "{" ISS SUB AUD EXP ",\"exp\":1}",
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "two exp, one with an escape",
         .claims = "{" ISS SUB AUD EXP ",\"\\u0065xp\":9000000000}",
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "two sub",
         .claims = "{" ISS SUB AUD EXP ",\"sub\":\"root\"}",
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "two names deep inside",
         .claims = "{" ISS SUB AUD EXP ",\"a\":{\"b\":[{\"c\":1,\"c\":2}]}}",
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "claims with NaN",
         .claims = "{" ISS SUB AUD "\"exp\":NaN}",
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "claims with a lone surrogate",
         .claims = "{" ISS AUD EXP ",\"sub\":\"\\ud800\"}",
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "claims that are not UTF-8",
         .claims = "{" ISS AUD EXP ",\"sub\":\"\xc0\x80\"}",
         .stage = AT_READ,
         .reason = bad_claims},
        {.name = "control: white space in the claims",
         .claims = " {\r\n" ISS SUB AUD "\t" EXP "} ",
         .stage = PASSES},
        {.name = "control: claims that are not known",
         .claims = "{" ISS SUB AUD EXP ",\"jti\":[],\"scope\":7,\"cnf\":{}}",
         .stage = PASSES},
    };
    RUN_ALL(rows);
}

static void test_times(void) {
    static const char no_end[] = "(exp) is no time", no_start[] = "(nbf) is no time",
                      no_issue[] = "(iat) is no time";
    static const char expired[] = "expired", early[] = "not valid yet", future[] = "in the future";
#define WITH(claim) "{" ISS SUB AUD claim "}"
    static const struct attack rows[] = {
        {.name = "exp missing",
         .claims = "{" ISS AUD "\"sub\":\"alice\"}",
         .stage = AT_CHECK,
         .reason = "no end"},
        {.name = "exp in capitals only",
         .claims = WITH("\"EXP\":1700000300"),
         .stage = AT_CHECK,
         .reason = "no end"},
        {.name = "exp a string",
         .claims = WITH("\"exp\":\"1700000300\""),
         .stage = AT_READ,
         .reason = no_end},
        {.name = "exp null", .claims = WITH("\"exp\":null"), .stage = AT_READ, .reason = no_end},
        {.name = "exp true", .claims = WITH("\"exp\":true"), .stage = AT_READ, .reason = no_end},
        {.name = "exp array",
         .claims = WITH("\"exp\":[1700000300]"),
         .stage = AT_READ,
         .reason = no_end},
        {.name = "exp object", .claims = WITH("\"exp\":{}"), .stage = AT_READ, .reason = no_end},
        {.name = "exp negative", .claims = WITH("\"exp\":-1"), .stage = AT_READ, .reason = no_end},
        {.name = "exp -0", .claims = WITH("\"exp\":-0"), .stage = AT_READ, .reason = no_end},
        {.name = "exp 0", .claims = WITH("\"exp\":0"), .stage = AT_CHECK, .reason = expired},
        {.name = "exp 0e999999999999999999999",
         .claims = WITH("\"exp\":0e999999999999999999999"),
         .stage = AT_CHECK,
         .reason = expired},
        {.name = "exp 1e18", .claims = WITH("\"exp\":1e18"), .stage = AT_READ, .reason = no_end},
        {.name = "exp 1e999", .claims = WITH("\"exp\":1e999"), .stage = AT_READ, .reason = no_end},
        {.name = "exp 1e99999999999999999999",
         .claims = WITH("\"exp\":1e99999999999999999999"),
         .stage = AT_READ,
         .reason = no_end},
        {.name = "exp 1e-99999999999999999999",
         .claims = WITH("\"exp\":1e-99999999999999999999"),
         .stage = AT_CHECK,
         .reason = expired},
        {.name = "exp of twenty digits",
         .claims = WITH("\"exp\":18446744073709551616"),
         .stage = AT_READ,
         .reason = no_end},
        {.name = "exp 2^64 - 1",
         .claims = WITH("\"exp\":18446744073709551615"),
         .stage = AT_READ,
         .reason = no_end},
        {.name = "exp 2^53 + 1",
         .claims = WITH("\"exp\":9007199254740993"),
         .stage = AT_READ,
         .reason = no_end},
        {.name = "control: exp 2^53", .claims = WITH("\"exp\":9007199254740992"), .stage = PASSES},
        {.name = "control: exp a fraction",
         .claims = WITH("\"exp\":1700000300.75"),
         .stage = PASSES},
        {.name = "control: exp with an exponent",
         .claims = WITH("\"exp\":1.7000003E+9"),
         .stage = PASSES},
        {.name = "control: exp with a negative exponent",
         .claims = WITH("\"exp\":17000003000000e-4"),
         .stage = PASSES},
        {.name = "control: exp, the last second",
         .claims = WITH("\"exp\":1699999941"),
         .stage = PASSES},
        {.name = "exp, one past the last second",
         .claims = WITH("\"exp\":1699999940"),
         .stage = AT_CHECK,
         .reason = expired},
        {.name = "exp, cut to past the last second",
         .claims = WITH("\"exp\":1699999940.999"),
         .stage = AT_CHECK,
         .reason = expired},
        {.name = "exp in milliseconds of the past",
         .claims = WITH("\"exp\":1600000"),
         .stage = AT_CHECK,
         .reason = expired},
        {.name = "control: nbf, the last second",
         .claims = WITH(EXP ",\"nbf\":1700000060"),
         .stage = PASSES},
        {.name = "nbf, one past",
         .claims = WITH(EXP ",\"nbf\":1700000061"),
         .stage = AT_CHECK,
         .reason = early},
        {.name = "nbf a string",
         .claims = WITH(EXP ",\"nbf\":\"0\""),
         .stage = AT_READ,
         .reason = no_start},
        {.name = "nbf negative",
         .claims = WITH(EXP ",\"nbf\":-5"),
         .stage = AT_READ,
         .reason = no_start},
        {.name = "nbf null",
         .claims = WITH(EXP ",\"nbf\":null"),
         .stage = AT_READ,
         .reason = no_start},
        {.name = "nbf 1e18",
         .claims = WITH(EXP ",\"nbf\":1e18"),
         .stage = AT_READ,
         .reason = no_start},
        {.name = "nbf false",
         .claims = WITH(EXP ",\"nbf\":false"),
         .stage = AT_READ,
         .reason = no_start},
        {.name = "control: iat, the last second",
         .claims = WITH(EXP ",\"iat\":1700000060"),
         .stage = PASSES},
        {.name = "iat, one past",
         .claims = WITH(EXP ",\"iat\":1700000061"),
         .stage = AT_CHECK,
         .reason = future},
        {.name = "iat in milliseconds",
         .claims = WITH(EXP ",\"iat\":1700000000000"),
         .stage = AT_CHECK,
         .reason = future},
        {.name = "iat a string",
         .claims = WITH(EXP ",\"iat\":\"2023-11-14\""),
         .stage = AT_READ,
         .reason = no_issue},
        {.name = "iat negative",
         .claims = WITH(EXP ",\"iat\":-1.5"),
         .stage = AT_READ,
         .reason = no_issue},
        {.name = "iat null",
         .claims = WITH(EXP ",\"iat\":null"),
         .stage = AT_READ,
         .reason = no_issue},
        {.name = "iat 1e18",
         .claims = WITH(EXP ",\"iat\":1e18"),
         .stage = AT_READ,
         .reason = no_issue},
        {.name = "control: iat and nbf in the past",
         .claims = WITH(EXP ",\"iat\":1,\"nbf\":0.5e1"),
         .stage = PASSES},
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
        {.name = "aud missing",
         .claims = "{" ISS SUB EXP "}",
         .stage = AT_CHECK,
         .reason = "no audience"},
        {.name = "aud of another",
         .claims = WITH_AUD("\"https://other.example\""),
         .stage = AT_CHECK,
         .reason = foreign},
        {.name = "aud a prefix",
         .claims = WITH_AUD("\"https://gateway.example/mc\""),
         .stage = AT_CHECK,
         .reason = foreign},
        {.name = "aud the host",
         .claims = WITH_AUD("\"https://gateway.example\""),
         .stage = AT_CHECK,
         .reason = foreign},
        {.name = "aud longer",
         .claims = WITH_AUD("\"" GATEWAY "/admin\""),
         .stage = AT_CHECK,
         .reason = foreign},
        {.name = "aud with a slash at its end",
         .claims = WITH_AUD("\"" GATEWAY "/\""),
         .stage = AT_CHECK,
         .reason = foreign},
        {.name = "aud in capitals",
         .claims = WITH_AUD("\"https://GATEWAY.example/mcp\""),
         .stage = AT_CHECK,
         .reason = foreign},
        {.name = "aud with a NUL",
         .claims = WITH_AUD("\"" GATEWAY "\\u0000\""),
         .stage = AT_CHECK,
         .reason = foreign},
        {.name = "aud of several in one string",
         .claims = WITH_AUD("\"" GATEWAY " https://other.example\""),
         .stage = AT_CHECK,
         .reason = foreign},
        {.name = "aud a pattern",
         .claims = WITH_AUD("\"*\""),
         .stage = AT_CHECK,
         .reason = foreign},
        {.name = "aud empty", .claims = WITH_AUD("\"\""), .stage = AT_CHECK, .reason = foreign},
        {.name = "aud array without ours",
         .claims = WITH_AUD("[\"a\",\"b\"]"),
         .stage = AT_CHECK,
         .reason = foreign},
        {.name = "aud array that is empty",
         .claims = WITH_AUD("[]"),
         .stage = AT_CHECK,
         .reason = malformed},
        {.name = "aud array with a number",
         .claims = WITH_AUD("[\"" GATEWAY "\",7]"),
         .stage = AT_CHECK,
         .reason = malformed},
        {.name = "aud array with null",
         .claims = WITH_AUD("[null,\"" GATEWAY "\"]"),
         .stage = AT_CHECK,
         .reason = malformed},
        {.name = "aud array in an array",
         .claims = WITH_AUD("[[\"" GATEWAY "\"]]"),
         .stage = AT_CHECK,
         .reason = malformed},
        {.name = "aud object",
         .claims = WITH_AUD("{\"" GATEWAY "\":true}"),
         .stage = AT_CHECK,
         .reason = malformed},
        {.name = "aud null", .claims = WITH_AUD("null"), .stage = AT_CHECK, .reason = malformed},
        {.name = "aud true", .claims = WITH_AUD("true"), .stage = AT_CHECK, .reason = malformed},
        {.name = "aud number", .claims = WITH_AUD("0"), .stage = AT_CHECK, .reason = malformed},
        {.name = "control: aud array",
         .claims = WITH_AUD("[\"x\",\"" GATEWAY "\"]"),
         .stage = PASSES},
        {.name = "control: aud with escapes",
         .claims = WITH_AUD("\"https:\\/\\/gateway.example\\/mcp\""),
         .stage = PASSES},
        {.name = "iss missing", .claims = "{" SUB AUD EXP "}", .stage = AT_CHECK, .reason = other},
        {.name = "iss of another",
         .claims = WITH_ISS("\"https://evil.example\""),
         .stage = AT_CHECK,
         .reason = other},
        {.name = "iss with a slash at its end",
         .claims = WITH_ISS("\"" ISSUER "/\""),
         .stage = AT_CHECK,
         .reason = other},
        {.name = "iss in capitals",
         .claims = WITH_ISS("\"https://Issuer.example\""),
         .stage = AT_CHECK,
         .reason = other},
        {.name = "iss without TLS",
         .claims = WITH_ISS("\"http://issuer.example\""),
         .stage = AT_CHECK,
         .reason = other},
        {.name = "iss a prefix",
         .claims = WITH_ISS("\"https://issuer.exampl\""),
         .stage = AT_CHECK,
         .reason = other},
        {.name = "iss longer",
         .claims = WITH_ISS("\"" ISSUER ".evil.example\""),
         .stage = AT_CHECK,
         .reason = other},
        {.name = "iss that looks like it",
         .claims = WITH_ISS("\"https://\\u0456ssuer.example\""),
         .stage = AT_CHECK,
         .reason = other},
        {.name = "iss with a NUL",
         .claims = WITH_ISS("\"" ISSUER "\\u0000\""),
         .stage = AT_READ,
         .reason = no_iss},
        {.name = "iss empty", .claims = WITH_ISS("\"\""), .stage = AT_READ, .reason = no_iss},
        {.name = "iss array",
         .claims = WITH_ISS("[\"" ISSUER "\"]"),
         .stage = AT_READ,
         .reason = no_iss},
        {.name = "iss number", .claims = WITH_ISS("1"), .stage = AT_READ, .reason = no_iss},
        {.name = "iss null", .claims = WITH_ISS("null"), .stage = AT_READ, .reason = no_iss},
        {.name = "control: iss with escapes",
         .claims = WITH_ISS("\"https:\\/\\/issuer.example\""),
         .stage = PASSES},
        {.name = "control: sub missing", .claims = "{" ISS AUD EXP "}", .stage = PASSES},
        {.name = "control: sub in any script",
         .claims = WITH_SUB("\"\\u00e5lice@\xc3\xa9.example\""),
         .stage = PASSES},
        {.name = "sub empty", .claims = WITH_SUB("\"\""), .stage = AT_READ, .reason = no_sub},
        {.name = "sub number", .claims = WITH_SUB("1000"), .stage = AT_READ, .reason = no_sub},
        {.name = "sub array",
         .claims = WITH_SUB("[\"alice\",\"root\"]"),
         .stage = AT_READ,
         .reason = no_sub},
        {.name = "sub object",
         .claims = WITH_SUB("{\"$ne\":\"\"}"),
         .stage = AT_READ,
         .reason = no_sub},
        {.name = "sub null", .claims = WITH_SUB("null"), .stage = AT_READ, .reason = no_sub},
        {.name = "sub with a NUL",
         .claims = WITH_SUB("\"root\\u0000alice\""),
         .stage = AT_READ,
         .reason = no_sub},
        {.name = "sub with a line end",
         .claims = WITH_SUB("\"alice\\r\\nX-Admin: 1\""),
         .stage = AT_READ,
         .reason = no_sub},
        {.name = "sub with an escape of the terminal",
         .claims = WITH_SUB("\"\\u001b[2J\""),
         .stage = AT_READ,
         .reason = no_sub},
        {.name = "sub with DEL",
         .claims = WITH_SUB("\"\x7f\""),
         .stage = AT_READ,
         .reason = no_sub},
    };
#undef WITH_AUD
#undef WITH_ISS
#undef WITH_SUB
    RUN_ALL(rows);
}

/* --- sizes --- */

/* A token of exactly `len` bytes, whose claims are filled up. */
static void forge_long(struct buf *token, size_t len) {
    struct buf claims CLEANUP(buf_deinit) = FORGE_BUF;
    struct buf made CLEANUP(buf_deinit) = FORGE_BUF;
    for (size_t fill = len * 3 / 4 - 400; fill < len && buf_len(&made) != len; fill++) {
        buf_reset(&claims, SIZE_MAX);
        buf_reset(&made, SIZE_MAX);
        buf_append_cstr(&claims, "{" ISS SUB AUD EXP ",\"x\":\"");
        for (size_t i = 0; i < fill; i++)
            buf_append_byte(&claims, 'x');
        buf_append_cstr(&claims, "\"}");
        forge_token(&made, SLICE("{\"alg\":\"ES256\",\"kid\":\"ec\"}"), buf_slice(&claims),
                    world.pairs[EC], JOSE_ES256);
    }
    FORGE(buf_len(&made) == len);
    buf_append(token, buf_slice(&made));
}

static void test_longest(void) {
    struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
    const struct jwt_rules rules = {.leeway_s = LEEWAY};
    const char *reason;
    forge_long(&token, LIMIT_JWT);
    CHECK_INT(forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason),
              PASSES);
    buf_reset(&token, SIZE_MAX);
    forge_long(&token, LIMIT_JWT + 2); /* + 1 is no length of base64url here */
    CHECK_INT(forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason),
              AT_READ);
    CHECK(strstr(reason, "too long") != NULL);
    buf_truncate(&token, LIMIT_JWT + 1);
    CHECK_INT(forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason),
              AT_READ);
    CHECK(strstr(reason, "too long") != NULL);
    buf_truncate(&token, LIMIT_JWT);
    CHECK_INT(forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason),
              AT_VERIFY);
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
    forge_token(&token, header, claims, world.pairs[EC], JOSE_ES256);
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
        forge_token(&token, SLICE("{\"alg\":\"ES256\"}"), buf_slice(&claims), world.pairs[EC],
                    JOSE_ES256);
        CHECK_INT(
            forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason),
            extra == 0 ? PASSES : AT_READ);
    }
}

/* Each byte of a token that is changed makes it another one, which nobody signed. */
static void test_every_byte(void) {
    static const struct attack rows[] = {
        {.name = "ES256", .stage = PASSES},
        {.name = "RS256", .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", .by = RSA},
        {.name = "EdDSA", .header = "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", .by = ED},
    };
    static const char others[] = "AQgw_-z9.= \n";
    const struct jwt_rules rules = {.leeway_s = LEEWAY};
    const char *reason;
    for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
        struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
        test_row(rows[row].name);
        forge(&rows[row], &token);
        CHECK_INT(
            forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason),
            PASSES);
        for (size_t i = 0; i < buf_len(&token); i++) {
            char *at = token.data + token.start + i, was = *at;
            *at = others[i % (sizeof others - 1)] != was ? others[i % (sizeof others - 1)] : 'x';
            CHECK(forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW,
                              &reason) != PASSES);
            *at = was;
            CHECK(forge_judge(slice_make(token.data + token.start, i), world.keys,
                              JOSE_ALL_ALGORITHMS, &rules, NOW, &reason) != PASSES);
        }
    }
}

static void test_begin(void) {
    world_begin();
    CHECK(world.keys != NULL);
}

static void test_end(void) {
    world_end();
    CHECK(world.keys == NULL);
}

TEST_MAIN(TEST(test_begin), TEST(test_algorithms), TEST(test_confusion), TEST(test_signatures),
          TEST(test_headers), TEST(test_forms), TEST(test_times), TEST(test_names),
          TEST(test_longest), TEST(test_long_strings), TEST(test_deep), TEST(test_every_byte),
          TEST(test_end))
