/* Sets of keys: what gets in, what is left out and why, limits, and the lack of memory. */
#include <openssl/crypto.h>

#include "forge.h"

#define X256                                                                                       \
    "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","                                       \
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\""
#define EC256 "\"kty\":\"EC\",\"crv\":\"P-256\"," X256
#define ED                                                                                         \
    "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\""

/* --- one set --- */

struct outcome {
    int r;
    size_t n_used, n_skipped, n_counted;
    const char *reason; /* of the set, or of the first that was skipped */
};

static struct outcome read_document(struct slice document) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    CLEANUP(forge_keys_freep) struct jose_keys *keys = NULL;
    CLEANUP(mem_freep) char *exact = mem_alloc(document.len);
    struct jose_keys_report report = {.n_used = 77};
    const char *reason = NULL;
    if (exact == NULL || json_reader_new(&reader) != 0)
        return (struct outcome){.r = -ENOMEM};
    if (document.len > 0)
        memcpy(exact, document.ptr, document.len);
    int r = jose_keys_read(reader, slice_make(exact, document.len), &keys, &report, &reason);
    CHECK((r == 0) == (keys != NULL));
    CHECK((r > 0) == (reason != NULL));
    CHECK(r == 0 || report.n_used == 77); /* outputs stay as they were */
    return (struct outcome){
        .r = r,
        .n_used = r == 0 ? report.n_used : 0,
        .n_skipped = r == 0 ? report.n_skipped : 0,
        .n_counted = r == 0 ? jose_keys_count(keys) : 0,
        .reason = r == 0 ? report.first_reason : reason,
    };
}

static struct outcome read_jwks(struct slice jwks) {
    struct buf document CLEANUP(buf_deinit) = FORGE_BUF;
    buf_append_cstr(&document, "{\"keys\":[");
    buf_append(&document, jwks);
    buf_append_cstr(&document, "]}");
    return read_document(buf_slice(&document));
}

static bool says(const char *reason, const char *part) {
    return reason != NULL && strstr(reason, part) != NULL;
}

/* One JWK gets in (NULL), or does not for this reason. */
static void expect(struct slice jwk, const char *reason) {
    struct outcome is = read_jwks(jwk);
    CHECK_INT(is.r, 0);
    CHECK_INT(is.n_used, reason == NULL ? 1 : 0);
    CHECK_INT(is.n_counted, is.n_used);
    CHECK_INT(is.n_skipped, reason == NULL ? 0 : 1);
    bool is_its_own = reason == NULL ? is.reason == NULL : says(is.reason, reason);
    CHECK(is_its_own);
    if (!is_its_own)
        printf("#   said \"%s\"\n", is.reason != NULL ? is.reason : "");
}

static void expect_pair(const char *name, EVP_PKEY *pkey, const char *more, const char *reason) {
    struct buf jwk CLEANUP(buf_deinit) = FORGE_BUF;
    test_row(name);
    forge_jwk(&jwk, pkey, more);
    expect(buf_slice(&jwk), reason);
    EVP_PKEY_free(pkey);
}

/* --- documents --- */

static void test_documents(void) {
    static const char no_set[] = "no set of keys", no_json[] = "not strict JSON";
    static const struct {
        const char *document, *reason;
    } rows[] = {
        {"", no_json},
        {"{", no_json},
        {"null", no_set},
        {"[]", no_set},
        {"{}", no_set},
        {"\"keys\"", no_set},
        {"{\"keys\":{}}", no_set},
        {"{\"keys\":null}", no_set},
        {"{\"keys\":\"[]\"}", no_set},
        {"{\"Keys\":[]}", no_set},
        {"{" EC256 "}", no_set},
        {"[{" EC256 "}]", no_set},
        {"{\"keys\":[],\"keys\":[]}", no_json},
        {"{\"keys\":[{" EC256 "}],\"\\u006beys\":[]}", no_json},
        {"{\"keys\":[{" EC256 ",\"kty\":\"RSA\"}]}", no_json},
        {"{\"keys\":[]}x", no_json},
        {"\xef\xbb\xbf{\"keys\":[]}", no_json},
        {"<html>", no_json},
        {"{\"keys\":[]}", NULL},
        {" {\"x\":[{}],\"keys\":[ ]\r\n}\n", NULL},
        {"{\"\\u006beys\":[]}", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].document);
        struct outcome is = read_document(slice_from_cstr(rows[i].document));
        CHECK_INT(is.r, rows[i].reason == NULL ? 0 : JOSE_E_INVALID);
        CHECK(rows[i].reason == NULL ? is.reason == NULL : says(is.reason, rows[i].reason));
        CHECK_INT(is.n_used + is.n_skipped, 0);
    }
}

static void test_one_strange_key_spoils_nothing(void) {
    struct outcome is = read_jwks(SLICE("{\"kty\":\"AKP\",\"alg\":\"ML-DSA-44\",\"pub\":\"AA\"},"
                                        "7,null,[],\"x\",{},{" EC256 ",\"kid\":\"a\"},"
                                        "{\"kty\":\"RSA\",\"n\":{},\"e\":[]},"
                                        "{" ED ",\"kid\":\"a\"},{" EC256 "}"));
    CHECK_INT(is.r, 0);
    CHECK_INT(is.n_used, 3);
    CHECK_INT(is.n_skipped, 7);
    CHECK(says(is.reason, "kind (kty)"));
}

static void test_limits(void) {
    struct buf jwks CLEANUP(buf_deinit) = FORGE_BUF;
    for (unsigned i = 0; i < LIMIT_JWKS_KEYS; i++)
        buf_printf(&jwks, "%s{" ED ",\"kid\":\"%u\"}", i > 0 ? "," : "", i);
    struct outcome is = read_jwks(buf_slice(&jwks));
    CHECK_INT(is.r, 0);
    CHECK_INT(is.n_used, LIMIT_JWKS_KEYS);
    buf_append_cstr(&jwks, ",{}");
    is = read_jwks(buf_slice(&jwks));
    CHECK_INT(is.r, JOSE_E_INVALID);
    CHECK(says(is.reason, "too many"));

    buf_reset(&jwks, SIZE_MAX);
    buf_append_cstr(&jwks, "{\"keys\":[]}");
    while (buf_len(&jwks) < LIMIT_JWKS)
        buf_append_byte(&jwks, ' ');
    CHECK_INT(read_document(buf_slice(&jwks)).r, 0);
    buf_append_byte(&jwks, ' ');
    is = read_document(buf_slice(&jwks));
    CHECK_INT(is.r, JOSE_E_INVALID);
    CHECK(says(is.reason, "too large"));
}

/* --- what a key says of itself --- */

static void test_purposes(void) {
    static const char alg[] = "(alg)", use[] = "(use)", ops[] = "(key_ops)",
                      priv[] = "private half";
    static const struct {
        const char *jwk, *reason;
    } rows[] = {
        {"{" EC256 "}", NULL},
        {"{" ED "}", NULL},
        {"{" EC256 ",\"use\":\"sig\",\"key_ops\":[\"verify\"],\"alg\":\"ES256\",\"kid\":\"a\"}",
         NULL},
        {"{" EC256 ",\"key_ops\":[\"sign\",\"verify\"],\"x5c\":[\"MIIB\"],\"iat\":7}", NULL},
        {"{" EC256 ",\"\\u0075se\":\"s\\u0069g\"}", NULL},
        {"{" EC256 ",\"kid\":\"\"}", NULL},
        {"{" EC256 ",\"kid\":\"\\u0000\"}", NULL},
        {"{" EC256 ",\"use\":\"enc\"}", use},
        {"{" EC256 ",\"use\":\"SIG\"}", use},
        {"{" EC256 ",\"use\":\"\"}", use},
        {"{" EC256 ",\"use\":[\"sig\"]}", use},
        {"{" EC256 ",\"use\":null}", use},
        {"{" EC256 ",\"key_ops\":[]}", ops},
        {"{" EC256 ",\"key_ops\":[\"sign\"]}", ops},
        {"{" EC256 ",\"key_ops\":[\"deriveKey\",\"encrypt\"]}", ops},
        {"{" EC256 ",\"key_ops\":[\"verify\",7]}", ops},
        {"{" EC256 ",\"key_ops\":[[\"verify\"]]}", ops},
        {"{" EC256 ",\"key_ops\":\"verify\"}", ops},
        {"{" EC256 ",\"key_ops\":{\"verify\":true}}", ops},
        {"{" EC256 ",\"use\":\"sig\",\"key_ops\":[\"encrypt\"]}", ops},
        {"{" EC256 ",\"alg\":\"ES384\"}", alg},
        {"{" EC256 ",\"alg\":\"RS256\"}", alg},
        {"{" EC256 ",\"alg\":\"HS256\"}", alg},
        {"{" EC256 ",\"alg\":\"none\"}", alg},
        {"{" EC256 ",\"alg\":\"es256\"}", alg},
        {"{" EC256 ",\"alg\":\"ECDH-ES\"}", alg},
        {"{" EC256 ",\"alg\":null}", alg},
        {"{" EC256 ",\"alg\":[\"ES256\"]}", alg},
        {"{" ED ",\"alg\":\"EdDSA\"}", NULL},
        {"{" ED ",\"alg\":\"ES256\"}", alg},
        {"{" EC256 ",\"kid\":7}", "(kid)"},
        {"{" EC256 ",\"kid\":null}", "(kid)"},
        {"{" EC256 ",\"d\":\"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI\"}", priv},
        {"{" EC256 ",\"d\":null}", priv},
        {"{" EC256 ",\"\\u0064\":\"\"}", priv},
        {"{" ED ",\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\"}", priv},
        {"{" ED ",\"k\":\"AAAA\"}", priv},
        {"{\"kty\":\"oct\",\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}", "symmetric"},
        {"{\"kty\":\"oct\"}", "symmetric"},
        {"{\"kty\":\"\\u006fct\"}", "symmetric"},
        {"{\"kty\":\"ec\",\"crv\":\"P-256\"," X256 "}", "(kty)"},
        {"{\"kty\":[\"EC\"],\"crv\":\"P-256\"," X256 "}", "(kty)"},
        {"{\"crv\":\"P-256\"," X256 "}", "(kty)"},
        {"[]", "no object"},
        {"\"EC\"", "no object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].jwk);
        expect(slice_from_cstr(rows[i].jwk), rows[i].reason);
    }
}

/* --- curves --- */

static void test_points(void) {
    static const char point[] = "no point", length[] = "curve's length",
                      curve[] = "curve that is not known";
    static const struct {
        const char *jwk, *reason;
    } rows[] = {
        {"{\"kty\":\"EC\",\"crv\":\"P-384\"," X256 "}", length},
        {"{\"kty\":\"EC\",\"crv\":\"P-521\"," X256 "}", length},
        {"{\"kty\":\"EC\",\"crv\":\"secp256k1\"," X256 "}", curve},
        {"{\"kty\":\"EC\",\"crv\":\"p-256\"," X256 "}", curve},
        {"{\"kty\":\"EC\",\"crv\":\"prime256v1\"," X256 "}", curve},
        {"{\"kty\":\"EC\",\"crv\":\"Ed25519\"," X256 "}", curve},
        {"{\"kty\":\"EC\"," X256 "}", curve},
        {"{\"kty\":\"EC\",\"crv\":null," X256 "}", curve},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}",
         length},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"\",\"y\":\"\"}", length},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":7,\"y\":8}", length},
        /* y changed in one bit; the two swapped; (0, 0); larger than the field */
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
         "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a4\"}",
         point},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
         "\"x\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
         point},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
         "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
         point},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"__________________________________________8\","
         "\"y\":\"__________________________________________8\"}",
         point},
        /* a zero in front; 31 bytes; padding; a foreign character; bits behind the end */
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AH_NjtdzVvBdgfL7m_bS3tYBzM1e-nvE7rPbjx70VRFF\","
         "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
         length},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVA\","
         "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
         length},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU=\","
         "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
         length},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
         "\"y\":\"x/FEzRu9m36HLN/tue659LNpXW6pCyStikYjKIWI5a0\"}",
         length},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEV\","
         "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
         length},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}", "32 bytes"},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_"
         "7TyWQHOg7hcvPapiMlrwIaaPcHUQ\"}",
         "32 bytes"},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_"
         "7TyWQHOg7hcvPapiMlrwIaaPcHURoA\"}",
         "32 bytes"},
        {"{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-"
         "IK08\"}",
         "not Ed25519"},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":\"AAAA\"}", "not Ed25519"},
        {"{\"kty\":\"EC\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_"
         "7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
         curve},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].jwk);
        expect(slice_from_cstr(rows[i].jwk), rows[i].reason);
    }
}

/* Bytes of y, the least first, and the sign of x in the highest bit (RFC 8032 section 5.1.2). */
static void test_ed25519(void) {
    static const char small[] = "small order", point[] = "no point";
    static const struct {
        const char *name, *hex, *reason;
    } rows[] = {
        {"order 1", "0100000000000000000000000000000000000000000000000000000000000000", small},
        {"order 1 with a sign", "0100000000000000000000000000000000000000000000000000000000000080",
         small},
        {"order 2", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", small},
        {"order 4", "0000000000000000000000000000000000000000000000000000000000000000", small},
        {"order 4, negative", "0000000000000000000000000000000000000000000000000000000000000080",
         small},
        {"order 8", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", small},
        {"order 8, negative", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
         small},
        {"order 8, the other", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
         small},
        {"order 8, the other, negative",
         "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", small},
        {"p for 0", "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", point},
        {"p + 1 for 1", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", point},
        {"all bits", "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", point},
        {"2, which is on no point",
         "0200000000000000000000000000000000000000000000000000000000000000", point},
        {"3, which is on a point",
         "0300000000000000000000000000000000000000000000000000000000000000", NULL},
        {"the base point", "5866666666666666666666666666666666666666666666666666666666666666",
         NULL},
        {"RFC 8037", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf jwk CLEANUP(buf_deinit) = FORGE_BUF;
        unsigned char bytes[32];
        size_t len = 0;
        test_row(rows[i].name);
        FORGE(OPENSSL_hexstr2buf_ex(bytes, sizeof bytes, &len, rows[i].hex, '\0') == 1 &&
              len == sizeof bytes);
        buf_append_cstr(&jwk, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\"");
        forge_bytes_member(&jwk, "x", bytes, len);
        buf_append_cstr(&jwk, "}");
        expect(buf_slice(&jwk), rows[i].reason);
    }
}

/* --- RSA --- */

/* A JWK of numbers that need not be a key. */
static void expect_numbers(const char *name, const BIGNUM *n, const char *e, size_t zeros,
                           const char *reason) {
    struct buf jwk CLEANUP(buf_deinit) = FORGE_BUF;
    unsigned char bytes[1200];
    size_t len = (size_t)BN_num_bytes(n) + zeros;
    test_row(name);
    FORGE(len <= sizeof bytes && BN_bn2binpad(n, bytes, (int)len) == (int)len);
    buf_append_cstr(&jwk, "{\"kty\":\"RSA\"");
    forge_bytes_member(&jwk, "n", bytes, len);
    buf_printf(&jwk, ",\"e\":\"%s\"}", e);
    expect(buf_slice(&jwk), reason);
}

static bool has_small_factor(const BIGNUM *n) {
    for (BN_ULONG p = 3; p < 168; p += 2) {
        if (BN_mod_word(n, p) == 0)
            return true;
    }
    return false;
}

/* An odd number of exactly so many bits, as far as weak.c looks at it. */
static BIGNUM *like_a_modulus(int bits) {
    BIGNUM *n = BN_new();
    FORGE(n != NULL && BN_set_bit(n, bits - 1) == 1 && BN_set_bit(n, 0) == 1);
    while (has_small_factor(n))
        FORGE(BN_add_word(n, 2) == 1);
    return n;
}

static void expect_bits(const char *name, int bits, const char *reason) {
    BIGNUM *n = like_a_modulus(bits);
    expect_numbers(name, n, "AQAB", 0, reason);
    BN_free(n);
}

static void test_rsa_sizes(void) {
    expect_bits("2048 bits", 2048, NULL);
    expect_bits("2047 bits", 2047, "less than 2048");
    expect_bits("1024 bits", 1024, "less than 2048");
    expect_bits("3000 bits", 3000, NULL);
    expect_bits("8192 bits", 8192, NULL);
    expect_bits("8193 bits", 8193, "more than 8192");
}

static void test_rsa_numbers(void) {
    static const char exponent[] = "even or too small", none[] = "without a proper";
    BIGNUM *n = like_a_modulus(2048);
    expect_numbers("zeros in front", n, "AAABAAE", 1, NULL);
    expect_numbers("e = 65537", n, "AQAB", 0, NULL);
    expect_numbers("e = 65539", n, "AQAD", 0, NULL);
    expect_numbers("e of 64 bits", n, "__________8", 0, NULL);
    expect_numbers("e of 65 bits", n, "AQAAAAAAAAAB", 0, "more than 64");
    expect_numbers("e = 65535", n, "__8", 0, exponent);
    expect_numbers("e = 65536", n, "AQAA", 0, exponent);
    expect_numbers("e = 3", n, "Aw", 0, exponent);
    expect_numbers("e = 1", n, "AQ", 0, exponent);
    expect_numbers("e = 0", n, "AA", 0, exponent);
    expect_numbers("e empty", n, "", 0, none);
    expect_numbers("e padded", n, "AQAB=", 0, none);
    expect_numbers("e foreign", n, "AQA+", 0, none);
    FORGE(BN_add_word(n, 1) == 1);
    expect_numbers("an even modulus", n, "AQAB", 0, "small factor");
    FORGE(BN_sub_word(n, 1) == 1);
    while (BN_mod_word(n, 167) != 0)
        FORGE(BN_add_word(n, 2) == 1);
    expect_numbers("a multiple of 167", n, "AQAB", 0, "small factor");
    BN_zero(n);
    expect_numbers("zero", n, "AQAB", 1, "less than 2048");
    BN_free(n);
    test_row("members missing");
    expect(SLICE("{\"kty\":\"RSA\"}"), none);
    expect(SLICE("{\"kty\":\"RSA\",\"n\":\"\",\"e\":\"AQAB\"}"), none);
    expect(SLICE("{\"kty\":\"RSA\",\"n\":65537,\"e\":65537}"), none);
}

/* n = k * M + 65537^a mod M, as both primes of such a key have that form. One bit off, it has it no
 * longer. */
static void test_rsa_fingerprint(void) {
    static const unsigned primes[] = {
        2,  3,  5,  7,  11, 13,  17,  19,  23,  29,  31,  37,  41,  43,  47,  53,  59,  61,  67, 71,
        73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167};
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *m = BN_new(), *n = BN_new(), *power = BN_new(), *base = BN_new(), *a = BN_new();
    FORGE(ctx != NULL && m != NULL && n != NULL && power != NULL && base != NULL && a != NULL);
    FORGE(BN_one(m) == 1 && BN_set_word(base, 65537) == 1 && BN_set_word(a, 123457) == 1);
    for (size_t i = 0; i < ARRAY_LEN(primes); i++)
        FORGE(BN_mul_word(m, primes[i]) == 1);
    FORGE(BN_mod_exp(power, base, a, m, ctx) == 1);
    FORGE(BN_lshift(n, m, 2047 - BN_num_bits(m) + 1) == 1 && BN_add(n, n, power) == 1);
    CHECK_INT(BN_num_bits(n), 2048);
    expect_numbers("of a weak generator", n, "AQAB", 0, "CVE-2017-15361");
    FORGE(BN_add_word(n, 2) == 1);
    while (has_small_factor(n))
        FORGE(BN_add_word(n, 2) == 1);
    expect_numbers("near one", n, "AQAB", 0, NULL);
    BN_free(m);
    BN_free(n);
    BN_free(power);
    BN_free(base);
    BN_free(a);
    BN_CTX_free(ctx);
}

static void test_generated(void) {
    expect_pair("RSA 2048", forge_rsa(2048, 2), ",\"alg\":\"PS512\"", NULL);
    expect_pair("RSA 4096 of three primes", forge_rsa(4096, 3), "", NULL);
    expect_pair("RSA 1024", forge_rsa(1024, 2), "", "less than 2048");
    expect_pair("P-256", forge_ec("P-256"), "", NULL);
    expect_pair("P-384", forge_ec("P-384"), ",\"alg\":\"ES384\"", NULL);
    expect_pair("P-521", forge_ec("P-521"), ",\"use\":\"sig\"", NULL);
    expect_pair("P-224", forge_ec("P-224"), "", "curve that is not known");
    expect_pair("secp256k1", forge_ec("secp256k1"), "", "curve that is not known");
    for (int i = 0; i < 50; i++)
        expect_pair("Ed25519", forge_okp("ED25519"), "", NULL);
    expect_pair("Ed448", forge_okp("ED448"), "", "not Ed25519");
    expect_pair("X25519", forge_okp("X25519"), "", "not Ed25519");
}

/* --- secrets, references, memory --- */

static void test_secrets(void) {
    static const char bytes[64] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";
    struct jose_keys *keys = NULL;
    CHECK_INT(jose_keys_from_secret(SLICE(""), &keys), JOSE_E_INVALID);
    CHECK_INT(jose_keys_from_secret(slice_make(bytes, 31), &keys), JOSE_E_INVALID);
    CHECK(keys == NULL);
    CHECK_INT(jose_keys_from_secret(slice_make(bytes, 32), &keys), 0);
    REQUIRE(keys != NULL);
    CHECK_INT(jose_keys_count(keys), 1);
    struct jose_keys *again = jose_keys_ref(keys);
    CHECK(again == keys);
    CHECK(jose_keys_unref(keys) == NULL);
    CHECK_INT(jose_keys_count(again), 1);
    CHECK(jose_keys_unref(again) == NULL);
    CHECK(jose_keys_unref(NULL) == NULL);
}

static void test_names_of_algorithms(void) {
    enum jose_algorithm parsed = JOSE_HS512;
    for (unsigned i = 0; i < JOSE_ALGORITHM_COUNT; i++) {
        const char *name = jose_algorithm_name((enum jose_algorithm)i);
        CHECK(jose_algorithm_parse(slice_from_cstr(name), &parsed));
        CHECK_INT(parsed, i);
        CHECK(!jose_algorithm_parse(slice_make(name, 4), &parsed));
    }
    CHECK(!jose_algorithm_parse(SLICE("none"), &parsed));
    CHECK(!jose_algorithm_parse(SLICE("rs256"), &parsed));
    CHECK(!jose_algorithm_parse(SLICE(""), &parsed));
    CHECK(!jose_algorithm_parse(SLICE("RS256\0"), &parsed));
}

#define MIXED                                                                                      \
    "{\"keys\":[{" EC256 ",\"kid\":\"\\u0061\",\"key_ops\":[\"verify\"]},{" ED                     \
    ",\"kid\":\"b\"},{\"kty\":\"oct\"},{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}"

/* No part of a set is a set, and no byte behind its end is looked at. */
static void test_cut_short(void) {
    struct slice whole = SLICE(MIXED);
    for (size_t len = 0; len < whole.len; len++)
        CHECK_INT(read_document(slice_make(whole.ptr, len)).r, JOSE_E_INVALID);
    struct outcome is = read_document(whole);
    CHECK_INT(is.r, 0);
    CHECK_INT(is.n_used, 2);
    CHECK_INT(is.n_skipped, 2);
}

static void read_mixed(void *arg) {
    size_t *n_fine = arg;
    struct outcome is = read_document(SLICE(MIXED));
    CHECK(is.r == 0 || is.r == -ENOMEM);
    CHECK(is.r != 0 || (is.n_used == 2 && is.n_skipped == 2));
    *n_fine += is.r == 0;
}

static void test_no_memory(void) {
    size_t n_fine = 0;
    test_torture(read_mixed, &n_fine);
    CHECK_INT(n_fine, 1); /* each allocation is needed */
}

TEST_MAIN(TEST(test_documents), TEST(test_one_strange_key_spoils_nothing), TEST(test_limits),
          TEST(test_purposes), TEST(test_points), TEST(test_ed25519), TEST(test_rsa_sizes),
          TEST(test_rsa_numbers), TEST(test_rsa_fingerprint), TEST(test_generated),
          TEST(test_secrets), TEST(test_names_of_algorithms), TEST(test_cut_short),
          TEST(test_no_memory))
