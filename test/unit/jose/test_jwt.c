/* Tokens that are right: vectors of the RFCs, every algorithm, what is read out of them; which keys
 * are tried; rules; several threads; the lack of memory. What is wrong is in test_attack_*.c. */
#include <pthread.h>

#include "forge.h"
#include "private.h"

/* --- vectors --- */

#define RFC7515_CLAIMS                                                                             \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "fQ"
#define RFC7520_TEXT                                                                               \
    "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250" \
    "byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hl" \
    "cmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4"
#define RFC7520_RSA                                                                                \
    "{\"kty\":\"RSA\",\"kid\":\"bilbo.baggins@hobbiton.example\",\"use\":\"sig\",\"n\":\"n4EPtAOC" \
    "c9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMR"  \
    "BSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E"  \
    "6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqK"  \
    "nS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw\",\"e\":\"AQAB\"}"

static const struct vector {
    const char *name, *jwk;
    const char *signed_part, *signature;
    enum jose_algorithm algorithm;
    bool is_jwt; /* the payload is a JSON object */
} vectors[] = {
    {.name = "RFC 7515 A.2",
     .jwk = "{\"kty\":\"RSA\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHm"
            "fHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soM"
            "Zo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV"
            "MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kz"
            "k2PAcDTW9gb54h4FRWyuXpoQ\",\"e\":\"AQAB\"}",
     .signed_part = "eyJhbGciOiJSUzI1NiJ9." RFC7515_CLAIMS,
     .signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF"
                  "5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK"
                  "5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqt"
                  "FZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB"
                  "p0igcN_IoypGlUPQGe77Rw",
     .algorithm = JOSE_RS256,
     .is_jwt = true},
    {.name = "RFC 7515 A.3",
     .jwk = "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
            "\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
     .signed_part = "eyJhbGciOiJFUzI1NiJ9." RFC7515_CLAIMS,
     .signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-K"
                  "g6NU1Q",
     .algorithm = JOSE_ES256,
     .is_jwt = true},
    {.name = "RFC 7515 A.4",
     .jwk = "{\"kty\":\"EC\",\"crv\":\"P-521\",\"x\":\"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrr"
            "jcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk\",\"y\":\"ADSmRA43Z1DSNx_RvcLI87cdL07l6"
            "jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2\"}",
     .signed_part = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA",
     .signature = "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO"
                  "0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9E"
                  "RBXukOXolLzeO_Jn",
     .algorithm = JOSE_ES512},
    {.name = "RFC 7520 4.1",
     .jwk = RFC7520_RSA,
     .signed_part =
         "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9." RFC7520_TEXT,
     .signature = "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx"
                  "996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHR"
                  "D68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrD"
                  "aLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH8"
                  "4ogoree7vjbU5y18kDquDg",
     .algorithm = JOSE_RS256},
    {.name = "RFC 7520 4.2",
     .jwk = RFC7520_RSA,
     .signed_part =
         "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9." RFC7520_TEXT,
     .signature = "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsG"
                  "qDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8Z"
                  "nyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8c"
                  "BE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmW"
                  "jwZ6oD4ifKo8DYM-X72Eaw",
     .algorithm = JOSE_PS384},
    {.name = "RFC 7520 4.3",
     .jwk = "{\"kty\":\"EC\",\"kid\":\"bilbo.baggins@hobbiton.example\",\"use\":\"sig\",\"crv\":\""
            "P-521\",\"x\":\"AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekW"
            "F-7ytDyRXYgCF5cj0Kt\",\"y\":\"AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVyS"
            "sUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1\"}",
     .signed_part =
         "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9." RFC7520_TEXT,
     .signature = "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4V"
                  "a2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8"
                  "OcGDqoRuBomu9xQ2",
     .algorithm = JOSE_ES512},
    {.name = "RFC 8037 A.4",
     .jwk = "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHU"
            "Ro\"}",
     .signed_part = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
     .signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_M"
                  "uM0KAg",
     .algorithm = JOSE_EDDSA},
};

static void test_vectors(void) {
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        const struct vector *row = &vectors[i];
        CLEANUP(forge_keys_freep) struct jose_keys *keys = forge_set(row->jwk);
        struct buf signature CLEANUP(buf_deinit) = FORGE_BUF;
        struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
        const char *reason;
        test_row(row->name);
        REQUIRE(jose_keys_count(keys) == 1);
        FORGE(base64url_decode(&signature, slice_from_cstr(row->signature)) == 0);
        struct slice signed_part = slice_from_cstr(row->signed_part), bytes = buf_slice(&signature);
        CHECK_INT(jose_signature_verify(&keys->keys[0], row->algorithm, signed_part, bytes), 0);
        for (size_t byte = 0; byte < bytes.len; byte += 7) {
            signature.data[signature.start + byte] ^= 0x20;
            CHECK_INT(jose_signature_verify(&keys->keys[0], row->algorithm, signed_part, bytes),
                      JOSE_E_INVALID);
            signature.data[signature.start + byte] ^= 0x20;
        }
        signed_part.len--;
        CHECK_INT(jose_signature_verify(&keys->keys[0], row->algorithm, signed_part, bytes),
                  JOSE_E_INVALID);
        /* The whole token: those that are no JWT are refused as such. */
        buf_printf(&token, "%s.%s", row->signed_part, row->signature);
        struct jwt_rules rules = {.issuer = SLICE("joe")};
        CHECK_INT(
            forge_judge(buf_slice(&token), keys, JOSE_ALL_ALGORITHMS, &rules, 1300819379, &reason),
            row->is_jwt ? PASSES : AT_READ);
        CHECK_INT(
            forge_judge(buf_slice(&token), keys, JOSE_ALL_ALGORITHMS, &rules, 1300819380, &reason),
            row->is_jwt ? AT_CHECK : AT_READ);
    }
}

static void test_mac_vectors(void) {
    static const struct {
        const char *name, *secret, *token;
        bool is_jwt;
    } rows[] = {
        {"RFC 7515 A.1",
         "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
         "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." RFC7515_CLAIMS
         ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
         true},
        {"RFC 7520 4.4", "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
         "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9"
         "." RFC7520_TEXT ".s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
         false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(forge_keys_freep) struct jose_keys *keys = NULL;
        struct buf secret CLEANUP(buf_deinit) = FORGE_BUF;
        struct buf mac CLEANUP(buf_deinit) = FORGE_BUF;
        struct slice token = slice_from_cstr(rows[i].token);
        const struct jwt_rules rules = {.issuer = SLICE("joe")};
        const char *reason;
        test_row(rows[i].name);
        FORGE(base64url_decode(&secret, slice_from_cstr(rows[i].secret)) == 0);
        FORGE(jose_keys_from_secret(buf_slice(&secret), &keys) == 0);
        FORGE(base64url_decode(&mac, slice_sub(token, token.len - 43, token.len)) == 0);
        CHECK_INT(jose_mac_verify(keys->secret, JOSE_HS256, slice_sub(token, 0, token.len - 44),
                                  buf_slice(&mac)),
                  0);
        CHECK_INT(forge_judge(token, keys, JOSE_ALL_ALGORITHMS, &rules, 1300819379, &reason),
                  rows[i].is_jwt ? PASSES : AT_READ);
    }
}

/* --- every algorithm --- */

#define CLAIMS "{\"iss\":\"https://issuer.example\",\"sub\":\"alice\",\"aud\":\"a\",\"exp\":2000}"

/* The algorithm of the signature is the header's, and each other one's signature is wrong (which is
 * not tried with large keys, that need long). */
static void try_all(const char *name, EVP_PKEY *pkey, const struct jose_keys *keys,
                    unsigned algorithms) {
    bool is_large = EVP_PKEY_get_bits(pkey) > 2048;
    const struct jwt_rules rules = {.leeway_s = 0};
    for (unsigned as = 0; as < JOSE_HS256; as++) {
        for (unsigned header = 0; header < JOSE_HS256; header++) {
            struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
            struct buf head CLEANUP(buf_deinit) = FORGE_BUF;
            const char *reason;
            if ((algorithms & (1u << as)) == 0 || (is_large && as != header))
                continue;
            test_row(name);
            buf_printf(&head, "{\"alg\":\"%s\"}", jose_algorithm_name((enum jose_algorithm)header));
            forge_token(&token, buf_slice(&head), SLICE(CLAIMS), pkey, (enum jose_algorithm)as);
            enum forge_stage stage =
                forge_judge(buf_slice(&token), keys, JOSE_ALL_ALGORITHMS, &rules, 1000, &reason);
            CHECK_INT(stage, as == header                         ? PASSES
                             : (algorithms & (1u << header)) != 0 ? AT_VERIFY
                                                                  : AT_KEY);
            CHECK_INT(forge_judge(buf_slice(&token), keys, JOSE_ALL_ALGORITHMS & ~(1u << header),
                                  &rules, 1000, &reason),
                      AT_VERIFY);
            CHECK_STR(slice_from_cstr(reason), "its algorithm (alg) is not allowed");
        }
    }
}

static void test_algorithms(void) {
    static const unsigned rsa = 1u << JOSE_RS256 | 1u << JOSE_RS384 | 1u << JOSE_RS512 |
                                1u << JOSE_PS256 | 1u << JOSE_PS384 | 1u << JOSE_PS512;
    const struct {
        const char *name;
        EVP_PKEY *pkey;
        unsigned algorithms;
    } rows[] = {
        {"RSA 2048", forge_rsa(2048, 2), rsa},
        {"RSA 2056", forge_rsa(2056, 2), rsa},
        {"RSA 4096", forge_rsa(4096, 4), rsa},
        {"RSA 8192", forge_rsa(8192, 5), rsa},
        {"P-256", forge_ec("P-256"), 1u << JOSE_ES256},
        {"P-384", forge_ec("P-384"), 1u << JOSE_ES384},
        {"P-521", forge_ec("P-521"), 1u << JOSE_ES512},
        {"Ed25519", forge_okp("ED25519"), 1u << JOSE_EDDSA},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(forge_keys_freep) struct jose_keys *keys = forge_set_of(rows[i].pkey, "");
        try_all(rows[i].name, rows[i].pkey, keys, rows[i].algorithms);
        EVP_PKEY_free(rows[i].pkey);
    }
}

/* So many that numbers with zeros in front and with a set highest bit are among them. */
static void test_many_ecdsa(void) {
    static const struct {
        const char *curve;
        enum jose_algorithm algorithm;
    } rows[] = {{"P-256", JOSE_ES256}, {"P-384", JOSE_ES384}, {"P-521", JOSE_ES512}};
    for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
        EVP_PKEY *pkey = forge_ec(rows[row].curve);
        CLEANUP(forge_keys_freep) struct jose_keys *keys = forge_set_of(pkey, "");
        test_row(rows[row].curve);
        for (int i = 0; i < (row == 0 ? 600 : 60); i++) {
            struct buf signature CLEANUP(buf_deinit) = FORGE_BUF;
            forge_sign(&signature, pkey, rows[row].algorithm, SLICE("text"));
            CHECK_INT(jose_signature_verify(&keys->keys[0], rows[row].algorithm, SLICE("text"),
                                            buf_slice(&signature)),
                      0);
        }
        EVP_PKEY_free(pkey);
    }
}

/* RFC 7518 section 3.2: a secret is as long as the hash, or longer. */
static void test_secrets(void) {
    static const char bytes[129] =
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const size_t lengths[] = {32, 47, 48, 63, 64, 128};
    const struct jwt_rules rules = {.leeway_s = 0};
    const char *reason;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct slice secret = slice_make(bytes, lengths[i]);
        CLEANUP(forge_keys_freep) struct jose_keys *keys = NULL;
        FORGE(jose_keys_from_secret(secret, &keys) == 0);
        for (unsigned a = JOSE_HS256; a <= JOSE_HS512; a++) {
            struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
            struct buf head CLEANUP(buf_deinit) = FORGE_BUF;
            const char *name = jose_algorithm_name((enum jose_algorithm)a);
            size_t needed = a == JOSE_HS256 ? 32 : a == JOSE_HS384 ? 48 : 64;
            test_row(name);
            buf_printf(&head, "{\"alg\":\"%s\",\"kid\":\"any\"}", name);
            forge_mac_token(&token, buf_slice(&head), SLICE(CLAIMS), secret,
                            (enum jose_algorithm)a);
            CHECK_INT(
                forge_judge(buf_slice(&token), keys, JOSE_ALL_ALGORITHMS, &rules, 1000, &reason),
                secret.len >= needed ? PASSES : AT_VERIFY);
            CHECK_INT(forge_judge(buf_slice(&token), keys, JOSE_ALL_ALGORITHMS & ~(1u << a), &rules,
                                  1000, &reason),
                      AT_VERIFY);
            char *last = token.data + token.end - 3;
            *last = *last == 'A' ? 'B' : 'A';
            CHECK_INT(
                forge_judge(buf_slice(&token), keys, JOSE_ALL_ALGORITHMS, &rules, 1000, &reason),
                AT_VERIFY);
        }
    }
}

/* A secret makes no public key's algorithm good. */
static void test_public_algorithm_with_a_secret(void) {
    CLEANUP(forge_keys_freep) struct jose_keys *keys = NULL;
    EVP_PKEY *pkey = forge_ec("P-256");
    struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
    const struct jwt_rules rules = {.leeway_s = 0};
    const char *reason;
    FORGE(jose_keys_from_secret(SLICE("0123456789abcdef0123456789abcdef"), &keys) == 0);
    forge_token(&token, SLICE("{\"alg\":\"ES256\"}"), SLICE(CLAIMS), pkey, JOSE_ES256);
    CHECK_INT(forge_judge(buf_slice(&token), keys, JOSE_ALL_ALGORITHMS, &rules, 1000, &reason),
              AT_VERIFY);
    EVP_PKEY_free(pkey);
}

/* --- which keys are tried --- */

struct set {
    struct buf jwks;
    EVP_PKEY *good, *other;
    struct jose_keys *keys;
};

static void set_add(struct set *set, EVP_PKEY *pkey, const char *more) {
    buf_append_cstr(&set->jwks, buf_len(&set->jwks) > 0 ? "," : "");
    forge_jwk(&set->jwks, pkey, more);
}

static void set_begin(struct set *set) {
    *set = (struct set){.good = forge_ec("P-256"), .other = forge_ec("P-256")};
    buf_init(&set->jwks, MIB(1));
}

static void set_end(struct set *set) {
    EVP_PKEY_free(set->good);
    EVP_PKEY_free(set->other);
    buf_deinit(&set->jwks);
    jose_keys_unref(set->keys);
}

static enum forge_stage set_judge(struct set *set, const char *header) {
    struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
    const struct jwt_rules rules = {.leeway_s = 0};
    const char *reason;
    if (set->keys == NULL) {
        buf_append_byte(&set->jwks, '\0');
        set->keys = forge_set(buf_slice(&set->jwks).ptr);
    }
    forge_token(&token, slice_from_cstr(header), SLICE(CLAIMS), set->good, JOSE_ES256);
    return forge_judge(buf_slice(&token), set->keys, JOSE_ALL_ALGORITHMS, &rules, 1000, &reason);
}

static void test_same_name(void) {
    struct set set;
    set_begin(&set);
    EVP_PKEY *rsa = forge_rsa(2048, 2);
    set_add(&set, rsa, ",\"kid\":\"a\"");
    set_add(&set, set.other, ",\"kid\":\"a\"");
    set_add(&set, set.good, ",\"kid\":\"\\u0061\"");
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\",\"kid\":\"a\"}"), PASSES);
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\"}"), PASSES);
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\",\"kid\":\"b\"}"), AT_KEY);
    EVP_PKEY_free(rsa);
    set_end(&set);
}

static void test_name_of_another_key(void) {
    struct set set;
    set_begin(&set);
    set_add(&set, set.good, ",\"kid\":\"good\"");
    set_add(&set, set.other, ",\"kid\":\"other\"");
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\",\"kid\":\"other\"}"), AT_VERIFY);
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\",\"kid\":\"good\"}"), PASSES);
    set_end(&set);
}

static void test_key_without_name(void) {
    struct set set;
    set_begin(&set);
    set_add(&set, set.good, "");
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\"}"), PASSES);
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\",\"kid\":\"a\"}"), AT_KEY);
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\",\"kid\":\"\"}"), AT_KEY);
    set_end(&set);
}

static void test_empty_name(void) {
    struct set set;
    set_begin(&set);
    set_add(&set, set.good, ",\"kid\":\"\"");
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\",\"kid\":\"\"}"), PASSES);
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\",\"kid\":\"a\"}"), AT_KEY);
    set_end(&set);
}

static void test_empty_set(void) {
    struct set set;
    set_begin(&set);
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\"}"), AT_KEY);
    CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\",\"kid\":\"a\"}"), AT_KEY);
    set_end(&set);
}

/* The last key that is tried, and the first that is not; keys of another kind do not count. */
static void test_tries(void) {
    for (unsigned extra = 0; extra < 2; extra++) {
        struct set set;
        set_begin(&set);
        EVP_PKEY *ed = forge_okp("ED25519"), *p384 = forge_ec("P-384");
        for (unsigned i = 0; i + 1 < LIMIT_JWT_TRIES + extra; i++)
            set_add(&set, set.other, "");
        for (unsigned i = 0; i < 8; i++) {
            set_add(&set, ed, "");
            set_add(&set, p384, "");
        }
        set_add(&set, set.good, "");
        CHECK_INT(set_judge(&set, "{\"alg\":\"ES256\"}"), extra == 0 ? PASSES : AT_VERIFY);
        EVP_PKEY_free(ed);
        EVP_PKEY_free(p384);
        set_end(&set);
    }
}

/* --- what is read --- */

static bool is_inside(struct slice part, struct slice whole) {
    return part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len;
}

static void test_fields(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct buf decoded CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
    struct jwt jwt;
    const char *reason = NULL;
    struct slice claims = SLICE("{\"sub\":\"\\u0061lice\",\"iss\":\"h:\\/\\/i\",\"nbf\":5.9,"
                                "\"exp\":2e3,\"iat\":7,\"x\":\"\\u0061\"}");
    forge_signed_part(
        &token, SLICE("{\"typ\":\"AT+jwt\",\"kid\":\"k\\t\\ud83d\\ude00\",\"alg\":\"ES256\"}"),
        claims);
    size_t signed_len = buf_len(&token);
    forge_add_signature(&token, SLICE("signature"));
    FORGE(json_reader_new(&reader) == 0);
    buf_append_cstr(&decoded, "from before");
    REQUIRE(jwt_read(reader, buf_slice(&token), &decoded, &jwt, &reason) == 0);
    CHECK(reason == NULL);
    CHECK_SLICE(jwt.token, buf_slice(&token));
    CHECK_INT(jwt.algorithm, JOSE_ES256);
    CHECK(jwt.is_at_jwt && jwt.has_kid && jwt.has_issuer && jwt.has_subject);
    CHECK_STR(jwt.kid, "k\t\xf0\x9f\x98\x80");
    CHECK_STR(jwt.issuer, "h://i");
    CHECK_STR(jwt.subject, "alice");
    CHECK_SLICE(jwt.claims, claims);
    CHECK_STR(jwt.signature, "signature");
    CHECK_SLICE(jwt.signed_part, slice_sub(buf_slice(&token), 0, signed_len));
    CHECK_INT(jwt.expires_s, 2000);
    CHECK_INT(jwt.not_before_s, 5);
    CHECK_INT(jwt.issued_s, 7);
    struct slice all = buf_slice(&decoded);
    CHECK(is_inside(jwt.kid, all) && is_inside(jwt.issuer, all) && is_inside(jwt.subject, all) &&
          is_inside(jwt.claims, all) && is_inside(jwt.signature, all));
    CHECK(is_inside(jwt.signed_part, jwt.token));

    /* Nothing of it is there in the next. */
    buf_reset(&token, SIZE_MAX);
    forge_signed_part(&token, SLICE("{\"alg\":\"RS512\"}"), SLICE("{}"));
    forge_add_signature(&token, SLICE("s"));
    REQUIRE(jwt_read(reader, buf_slice(&token), &decoded, &jwt, &reason) == 0);
    CHECK(!jwt.is_at_jwt && !jwt.has_kid && !jwt.has_issuer && !jwt.has_subject);
    CHECK(jwt.expires_s == UINT64_MAX && jwt.not_before_s == UINT64_MAX);
    CHECK(jwt.issued_s == UINT64_MAX && jwt.algorithm == JOSE_RS512);
}

static void test_outputs_stay(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct buf decoded CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    struct jwt jwt;
    char before[sizeof jwt];
    const char *reason = NULL;
    memset(&jwt, 0x5a, sizeof jwt);
    memcpy(before, &jwt, sizeof jwt);
    FORGE(json_reader_new(&reader) == 0);
    CHECK_INT(jwt_read(reader, SLICE("eyJhbGciOiJFUzI1NiJ9.e31.AA"), &decoded, &jwt, &reason),
              JWT_E_REFUSED);
    CHECK(reason != NULL && memcmp((const char *)&jwt, before, sizeof jwt) == 0);
}

/* --- rules --- */

static void test_rules(void) {
    static const struct slice audiences[] = {SLICE_INIT(""), SLICE_INIT("a"), SLICE_INIT("b")};
    static const struct {
        const char *name, *claims;
        struct jwt_rules rules;
        uint64_t now_s;
        bool passes;
    } rows[] = {
        {"nothing is asked", "{\"exp\":2000}", {.n_audiences = 0}, 1999, true},
        {"the end", "{\"exp\":2000}", {.n_audiences = 0}, 2000, false},
        {"leeway", "{\"exp\":2000}", {.leeway_s = 1}, 2000, true},
        {"the end of the leeway", "{\"exp\":2000}", {.leeway_s = 1}, 2001, false},
        {"endless leeway", "{\"exp\":0}", {.leeway_s = UINT64_MAX}, UINT64_MAX - 1, true},
        {"the end of time", "{\"exp\":2000}", {.leeway_s = 60}, UINT64_MAX, false},
        {"the beginning of time", "{\"exp\":2000,\"nbf\":60}", {.leeway_s = 60}, 0, true},
        {"before it", "{\"exp\":2000,\"nbf\":61}", {.leeway_s = 60}, 0, false},
        {"any audience", "{\"exp\":2000,\"aud\":\"x\"}", {.n_audiences = 0}, 0, true},
        {"any audience, but not of any form",
         "{\"exp\":2000,\"aud\":[]}",
         {.n_audiences = 0},
         0,
         false},
        {"any audience, but not any type",
         "{\"exp\":2000,\"aud\":7}",
         {.n_audiences = 0},
         0,
         false},
        {"the second audience",
         "{\"exp\":2000,\"aud\":\"b\"}",
         {.audiences = audiences, .n_audiences = 3},
         0,
         true},
        {"a third one",
         "{\"exp\":2000,\"aud\":[\"c\"]}",
         {.audiences = audiences, .n_audiences = 3},
         0,
         false},
        {"empty is no audience",
         "{\"exp\":2000,\"aud\":\"\"}",
         {.audiences = audiences, .n_audiences = 3},
         0,
         false},
        {"empty in a list neither",
         "{\"exp\":2000,\"aud\":[\"\"]}",
         {.audiences = audiences, .n_audiences = 3},
         0,
         false},
        {"not among the expected",
         "{\"exp\":2000,\"aud\":\"b\"}",
         {.audiences = audiences, .n_audiences = 2},
         0,
         false},
        {"any issuer", "{\"exp\":2000,\"iss\":\"x\"}", {.n_audiences = 0}, 0, true},
        {"its issuer", "{\"exp\":2000,\"iss\":\"x\"}", {.issuer = SLICE_INIT("x")}, 0, true},
        {"no issuer", "{\"exp\":2000}", {.issuer = SLICE_INIT("x")}, 0, false},
        {"no at+jwt", "{\"exp\":2000}", {.needs_at_jwt = true}, 0, false},
    };
    EVP_PKEY *pkey = forge_okp("ED25519");
    CLEANUP(forge_keys_freep) struct jose_keys *keys = forge_set_of(pkey, "");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
        const char *reason;
        test_row(rows[i].name);
        forge_token(&token, SLICE("{\"alg\":\"EdDSA\"}"), slice_from_cstr(rows[i].claims), pkey,
                    JOSE_EDDSA);
        CHECK_INT(forge_judge(buf_slice(&token), keys, JOSE_ALL_ALGORITHMS, &rows[i].rules,
                              rows[i].now_s, &reason),
                  rows[i].passes ? PASSES : AT_CHECK);
    }
    EVP_PKEY_free(pkey);
}

/* --- threads, memory --- */

struct crowd {
    struct jose_keys *keys;
    struct slice token;
    size_t n_passed;
};

static void *verify_often(void *arg) {
    struct crowd *crowd = arg;
    const struct jwt_rules rules = {.leeway_s = 0};
    const char *reason;
    for (int i = 0; i < 50; i++) {
        struct jose_keys *keys = jose_keys_ref(crowd->keys);
        crowd->n_passed +=
            forge_judge(crowd->token, keys, JOSE_ALL_ALGORITHMS, &rules, 1000, &reason) == PASSES;
        jose_keys_unref(keys);
    }
    jose_keys_unref(crowd->keys);
    return NULL;
}

static void test_threads(void) {
    EVP_PKEY *pkey = forge_rsa(2048, 2);
    struct jose_keys *keys = forge_set_of(pkey, "");
    struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
    struct crowd crowds[4];
    pthread_t threads[4];
    forge_token(&token, SLICE("{\"alg\":\"PS256\"}"), SLICE(CLAIMS), pkey, JOSE_PS256);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        crowds[i] = (struct crowd){.keys = jose_keys_ref(keys), .token = buf_slice(&token)};
        FORGE(pthread_create(&threads[i], NULL, verify_often, &crowds[i]) == 0);
    }
    jose_keys_unref(keys);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        FORGE(pthread_join(threads[i], NULL) == 0);
        CHECK_INT(crowds[i].n_passed, 50);
    }
    EVP_PKEY_free(pkey);
}

struct torture {
    struct jose_keys *keys;
    struct slice token;
    enum forge_stage stage;
    size_t n_fine;
};

static void judge_once(void *arg) {
    struct torture *torture = arg;
    static const struct slice audience = SLICE_INIT("a");
    const struct jwt_rules rules = {.audiences = &audience, .n_audiences = 1};
    const char *reason;
    enum forge_stage stage =
        forge_judge(torture->token, torture->keys, JOSE_ALL_ALGORITHMS, &rules, 1000, &reason);
    CHECK(stage == torture->stage || stage == NO_MEMORY);
    torture->n_fine += stage == torture->stage;
}

static void test_no_memory(void) {
    EVP_PKEY *pkey = forge_ec("P-256"), *other = forge_ec("P-256");
    struct torture torture = {.keys = forge_set_of(pkey, ",\"kid\":\"a\"")};
    for (int wrong = 0; wrong < 2; wrong++) {
        struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
        forge_token(&token, SLICE("{\"alg\":\"ES256\",\"kid\":\"\\u0061\"}"),
                    SLICE("{\"iss\":\"\\/\",\"aud\":[\"b\",\"\\u0061\"],\"exp\":2000}"),
                    wrong ? other : pkey, JOSE_ES256);
        torture.token = buf_slice(&token);
        torture.stage = wrong ? AT_VERIFY : PASSES;
        torture.n_fine = 0;
        test_torture(judge_once, &torture);
        CHECK_INT(torture.n_fine, 1); /* each allocation is needed */
    }
    jose_keys_unref(torture.keys);
    EVP_PKEY_free(pkey);
    EVP_PKEY_free(other);
}

TEST_MAIN(TEST(test_vectors), TEST(test_mac_vectors), TEST(test_algorithms), TEST(test_many_ecdsa),
          TEST(test_secrets), TEST(test_public_algorithm_with_a_secret), TEST(test_same_name),
          TEST(test_name_of_another_key), TEST(test_key_without_name), TEST(test_empty_name),
          TEST(test_empty_set), TEST(test_tries), TEST(test_fields), TEST(test_outputs_stay),
          TEST(test_rules), TEST(test_threads), TEST(test_no_memory))
