/* Attacks on algorithms and signatures (attack.h). */
#include "attack.h"

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
    FORGE(s != NULL &&
          EVP_PKEY_get_bn_param(world.pairs[PAIR_RSA], OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
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
    size_t len =
        forge_raw(bytes, sizeof bytes, world.pairs[PAIR_RSA], hash, is_pss, salt, mgf1, text);
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

static const char no_algorithm[] = "its algorithm (alg) is none that is accepted";
static const char no_fit[] = "does not fit the issuer's keys";
static const char bad_signature[] = "its signature is wrong";

static void test_algorithms(void) {
    static const struct attack rows[] = {
        {.name = "control: ES256", .stage = PASSES},
        SIGNED_BY("control: ES384", AK("ES384", "ec384"), PAIR_EC384, PASSES, ""),
        SIGNED_BY("control: ES512", AK("ES512", "ec521"), PAIR_EC521, PASSES, ""),
        SIGNED_BY("control: RS256", AK("RS256", "rsa"), PAIR_RSA, PASSES, ""),
        {.name = "control: RS512",
         .header = AK("RS512", "rsa"),
         .by = PAIR_RSA,
         .as = JOSE_RS512,
         .stage = PASSES},
        {.name = "control: PS256",
         .header = AK("PS256", "rsa"),
         .by = PAIR_RSA,
         .as = JOSE_PS256,
         .stage = PASSES},
        SIGNED_BY("control: pinned PS256", AK("PS256", "ps256"), PAIR_RSA_PS256, PASSES, ""),
        SIGNED_BY("control: EdDSA", AK("EdDSA", "ed"), PAIR_ED, PASSES, ""),
        BY_HEADER("control: alg with an escape", ALG("\"\\u0045S256\""), PASSES, ""),
        BY_HEADER("alg none, signed", ALG("\"none\""), AT_READ, no_algorithm),
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
        BY_HEADER("alg None", ALG("\"None\""), AT_READ, no_algorithm),
        BY_HEADER("alg nOnE", ALG("\"nOnE\""), AT_READ, no_algorithm),
        BY_HEADER("alg NONE", ALG("\"NONE\""), AT_READ, no_algorithm),
        BY_HEADER("alg none with an escape", ALG("\"n\\u006fne\""), AT_READ, no_algorithm),
        BY_HEADER("alg empty", ALG("\"\""), AT_READ, no_algorithm),
        BY_HEADER("alg missing", "{\"kid\":\"ec\"}", AT_READ, no_algorithm),
        BY_HEADER("alg in capitals only", "{\"ALG\":\"ES256\",\"kid\":\"ec\"}", AT_READ,
                  no_algorithm),
        BY_HEADER("alg null", ALG("null"), AT_READ, no_algorithm),
        BY_HEADER("alg true", ALG("true"), AT_READ, no_algorithm),
        BY_HEADER("alg 0", ALG("0"), AT_READ, no_algorithm),
        BY_HEADER("alg array", ALG("[\"ES256\"]"), AT_READ, no_algorithm),
        BY_HEADER("alg array with none", ALG("[\"none\",\"ES256\"]"), AT_READ, no_algorithm),
        BY_HEADER("alg object", ALG("{\"ES256\":1}"), AT_READ, no_algorithm),
        BY_HEADER("alg in small letters", ALG("\"es256\""), AT_READ, no_algorithm),
        BY_HEADER("alg with a space", ALG("\"ES256 \""), AT_READ, no_algorithm),
        BY_HEADER("alg with a NUL", ALG("\"ES256\\u0000\""), AT_READ, no_algorithm),
        SIGNED_BY("alg ES256K", "{\"alg\":\"ES256K\",\"kid\":\"k1\"}", PAIR_K1, AT_READ,
                  no_algorithm),
        BY_HEADER("alg ES521", ALG("\"ES521\""), AT_READ, no_algorithm),
        FORGED("alg RS1", "{\"alg\":\"RS1\",\"kid\":\"rsa\"}", PAIR_RSA, pkcs1_with_sha1, AT_READ,
               no_algorithm),
        BY_HEADER("alg of encryption", ALG("\"RSA-OAEP\""), AT_READ, no_algorithm),
        BY_HEADER("alg dir", ALG("\"dir\""), AT_READ, no_algorithm),
    };
    RUN_ALL(rows);
}

static void test_confusion(void) {
    static const struct attack rows[] = {
        WITH_SECRET("HS256 with the PEM", AK("HS256", "rsa"), PEM, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the PEM without its end", AK("HS256", "rsa"), PEM_WITHOUT_END,
                    AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the PEM and CRLF", AK("HS256", "rsa"), PEM_CRLF, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the body of the PEM", AK("HS256", "rsa"), PEM_BODY, AT_VERIFY,
                    no_fit),
        WITH_SECRET("HS256 with the PEM of PKCS #1", AK("HS256", "rsa"), PEM_PKCS1, AT_VERIFY,
                    no_fit),
        WITH_SECRET("HS256 with the DER", AK("HS256", "rsa"), DER, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the DER of PKCS #1", AK("HS256", "rsa"), DER_PKCS1, AT_VERIFY,
                    no_fit),
        WITH_SECRET("HS256 with the JWK", AK("HS256", "rsa"), JWK, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the JWK set", AK("HS256", "rsa"), JWK_SET, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the modulus", AK("HS256", "rsa"), MODULUS, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the text of the modulus", AK("HS256", "rsa"), MODULUS_TEXT,
                    AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the PEM of EC", AK("HS256", "ec"), EC_PEM, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the DER of EC", AK("HS256", "ec"), EC_DER, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the point", AK("HS256", "ec"), EC_POINT_BYTES, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with the bytes of Ed25519", AK("HS256", "ed"), ED_BYTES, AT_VERIFY,
                    no_fit),
        WITH_SECRET("HS256 with nothing", AK("HS256", "rsa"), EMPTY, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 with a published oct key", AK("HS256", "oct"), OCT, AT_VERIFY, no_fit),
        WITH_SECRET("HS256 without kid", "{\"alg\":\"HS256\"}", PEM, AT_VERIFY, no_fit),
        {.name = "HS384 with the PEM",
         .header = AK("HS384", "rsa"),
         .secret = PEM,
         .as = JOSE_HS384,
         .stage = AT_VERIFY,
         .reason = no_fit},
        {.name = "HS512 with the PEM",
         .header = AK("HS512", "rsa"),
         .secret = PEM,
         .as = JOSE_HS512,
         .stage = AT_VERIFY,
         .reason = no_fit},
        WITH_SECRET("an HMAC under RS256", AK("RS256", "rsa"), PEM, AT_VERIFY, bad_signature),
        {.name = "an HMAC under ES256",
         .secret = EC_PEM,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        SIGNED_BY("RS256 with a PS256 key", AK("RS256", "ps256"), PAIR_RSA_PS256, AT_VERIFY,
                  "for another algorithm"),
        {.name = "PS256 with an RS256 key",
         .header = AK("PS256", "rs256"),
         .by = PAIR_RSA_RS256,
         .as = JOSE_PS256,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "RS384 with an RS256 key",
         .header = AK("RS384", "rs256"),
         .by = PAIR_RSA_RS256,
         .as = JOSE_RS384,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        FORGED("PKCS #1 under PS256", AK("PS256", "rsa"), PAIR_RSA, pkcs1, AT_VERIFY,
               bad_signature),
        FORGED("PSS under RS256", AK("RS256", "rsa"), PAIR_RSA, pss, AT_VERIFY, bad_signature),
        FORGED("SHA-1 under RS256", AK("RS256", "rsa"), PAIR_RSA, pkcs1_with_sha1, AT_VERIFY,
               bad_signature),
        FORGED("SHA-512 under RS256", AK("RS256", "rsa"), PAIR_RSA, pkcs1_with_sha512, AT_VERIFY,
               bad_signature),
        FORGED("SHA-512 under PS256", AK("PS256", "rsa"), PAIR_RSA, pss_with_sha512, AT_VERIFY,
               bad_signature),
        FORGED("PSS without salt", AK("PS256", "rsa"), PAIR_RSA, pss_without_salt, AT_VERIFY,
               bad_signature),
        FORGED("PSS with the longest salt", AK("PS256", "rsa"), PAIR_RSA, pss_with_long_salt,
               AT_VERIFY, bad_signature),
        FORGED("PSS with MGF1 of SHA-1", AK("PS256", "rsa"), PAIR_RSA, pss_with_sha1_mask,
               AT_VERIFY, bad_signature),
        {.name = "ES384 with a P-256 key",
         .header = AK("ES384", "ec"),
         .as = JOSE_ES384,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "ES256 with a P-384 key",
         .header = KID("\"ec384\""),
         .by = PAIR_EC384,
         .as = JOSE_ES256,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        {.name = "ES512 with a P-256 key",
         .header = AK("ES512", "ec"),
         .as = JOSE_ES512,
         .stage = AT_VERIFY,
         .reason = "for another algorithm"},
        SIGNED_BY("RS256 with an EC key", AK("RS256", "ec"), PAIR_RSA, AT_VERIFY,
                  "for another algorithm"),
        BY_HEADER("ES256 with an RSA key", KID("\"rsa\""), AT_VERIFY, "for another algorithm"),
        SIGNED_BY("EdDSA with an EC key", AK("EdDSA", "ec"), PAIR_ED, AT_VERIFY,
                  "for another algorithm"),
        BY_HEADER("ES256 with an Ed25519 key", KID("\"ed\""), AT_VERIFY, "for another algorithm"),
        SIGNED_BY("EdDSA with an X25519 key", "{\"alg\":\"EdDSA\",\"kid\":\"x\"}", PAIR_ED, AT_KEY,
                  "not known"),
        SIGNED_BY("ES256 with a secp256k1 key", KID("\"k1\""), PAIR_K1, AT_KEY, "not known"),
    };
    RUN_ALL(rows);
}

static void test_signatures(void) {
    static const struct attack rows[] = {
        SPOILED("ES256 r = s = 0", zero_both, AT_VERIFY, bad_signature),
        SPOILED("ES256 r = 0", zero_r, AT_VERIFY, bad_signature),
        SPOILED("ES256 s = 0", zero_s, AT_VERIFY, bad_signature),
        SPOILED("ES256 r = s = n", order_and_order, AT_VERIFY, bad_signature),
        SPOILED("ES256 r = 1, s = n", one_and_order, AT_VERIFY, bad_signature),
        SPOILED("ES256 all ones", all_ones, AT_VERIFY, bad_signature),
        SPOILED("ES256 r and s swapped", swapped, AT_VERIFY, bad_signature),
        SPOILED("ES256 in DER", as_der, AT_VERIFY, bad_signature),
        SPOILED("ES256 a byte less", one_byte_less, AT_VERIFY, bad_signature),
        SPOILED("ES256 a byte more", one_byte_more, AT_VERIFY, bad_signature),
        SPOILED("ES256 a zero in front", zero_in_front, AT_VERIFY, bad_signature),
        SPOILED("ES256 one bit", one_bit, AT_VERIFY, bad_signature),
        {.name = "ES256 of somebody else",
         .by = PAIR_FOREIGN,
         .stage = AT_VERIFY,
         .reason = bad_signature},
        SPOILED("other claims under the signature", with_other_claims, AT_VERIFY, bad_signature),
        SPOILED("another header under the signature", with_other_header, AT_VERIFY, bad_signature),
        FORGED("EdDSA with S + L", AK("EdDSA", "ed"), PAIR_ED, plus_order_ed, AT_VERIFY,
               bad_signature),
        FORGED("EdDSA zeros", AK("EdDSA", "ed"), PAIR_ED, zero_both, AT_VERIFY, bad_signature),
        FORGED("EdDSA a byte less", AK("EdDSA", "ed"), PAIR_ED, one_byte_less, AT_VERIFY,
               bad_signature),
        FORGED("EdDSA a byte more", AK("EdDSA", "ed"), PAIR_ED, one_byte_more, AT_VERIFY,
               bad_signature),
        FORGED("EdDSA one bit", AK("EdDSA", "ed"), PAIR_ED, one_bit, AT_VERIFY, bad_signature),
        FORGED("RS256 zeros", AK("RS256", "rsa"), PAIR_RSA, zero_rsa, AT_VERIFY, bad_signature),
        FORGED("RS256 a byte less", AK("RS256", "rsa"), PAIR_RSA, one_byte_less, AT_VERIFY,
               bad_signature),
        FORGED("RS256 a zero in front", AK("RS256", "rsa"), PAIR_RSA, zero_in_front, AT_VERIFY,
               bad_signature),
        FORGED("RS256 plus the modulus", AK("RS256", "rsa"), PAIR_RSA, plus_modulus, AT_VERIFY,
               bad_signature),
        FORGED("RS256 one bit", AK("RS256", "rsa"), PAIR_RSA, one_bit, AT_VERIFY, bad_signature),
        SIGNED_BY("RS256 with 1,024 bits", "{\"alg\":\"RS256\",\"kid\":\"weak\"}", PAIR_WEAK,
                  AT_KEY, "not known"),
        SIGNED_BY("ES256 with a key for encryption", KID("\"enc\""), PAIR_FOREIGN, AT_KEY,
                  "not known"),
        SIGNED_BY("ES256 with a key for signing only", KID("\"ops\""), PAIR_FOREIGN, AT_KEY,
                  "not known"),
        SIGNED_BY("ES256 with a key that everybody has", KID("\"leaked\""), PAIR_FOREIGN, AT_KEY,
                  "not known"),
        SIGNED_BY("EdDSA with a key of small order", "{\"alg\":\"EdDSA\",\"kid\":\"small\"}",
                  PAIR_ED, AT_KEY, "not known"),
    };
    RUN_ALL(rows);
}

/* Each byte of a token that is changed makes it another one, which nobody signed. */
static void test_every_byte(void) {
    static const struct attack rows[] = {
        {.name = "ES256", .stage = PASSES},
        SIGNED_BY("RS256", AK("RS256", "rsa"), PAIR_RSA, PASSES, ""),
        SIGNED_BY("EdDSA", AK("EdDSA", "ed"), PAIR_ED, PASSES, ""),
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

TEST_MAIN(TEST(test_begin), TEST(test_algorithms), TEST(test_confusion), TEST(test_signatures),
          TEST(test_every_byte), TEST(test_end))
