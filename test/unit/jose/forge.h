/*
 * What issuers and forgers do: keys, JWKs, signatures and tokens, made with OpenSSL alone, so that
 * nothing of what is tested takes part in it. All of it ends the program when it cannot be done.
 */
#pragma once

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/limits.h"
#include "jose/jwt.h"
#include "jose/keys.h"
#include "json/reader.h"
#include "test.h"

#define FORGE(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            CANNOT_GO_ON();                                                                        \
    } while (0)

#define FORGE_BUF BUF_INIT(MIB(2))

MAYBE_UNUSED static void forge_pkey_freep(EVP_PKEY **pkey) {
    EVP_PKEY_free(*pkey);
}

MAYBE_UNUSED static void forge_keys_freep(struct jose_keys **keys) {
    *keys = jose_keys_unref(*keys);
}

/* --- keys --- */

/* Several primes make large keys quickly (RFC 8017 section 3.2); whoever verifies sees nothing of
 * them. */
MAYBE_UNUSED static EVP_PKEY *forge_rsa(int bits, int primes) {
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *pkey = NULL;
    FORGE(ctx != NULL && EVP_PKEY_keygen_init(ctx) == 1 &&
          EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, bits) == 1 &&
          EVP_PKEY_CTX_set_rsa_keygen_primes(ctx, primes) == 1 &&
          EVP_PKEY_generate(ctx, &pkey) == 1);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

MAYBE_UNUSED static EVP_PKEY *forge_ec(const char *curve) {
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve);
    FORGE(pkey != NULL);
    return pkey;
}

/* "ED25519", "X25519", "ED448" */
MAYBE_UNUSED static EVP_PKEY *forge_okp(const char *name) {
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, name);
    FORGE(pkey != NULL);
    return pkey;
}

static void forge_bytes_member(struct buf *out, const char *name, const unsigned char *bytes,
                               size_t len) {
    buf_printf(out, ",\"%s\":\"", name);
    base64url_encode(out, slice_make(bytes, len));
    buf_append_cstr(out, "\"");
}

static void forge_number_member(struct buf *out, EVP_PKEY *pkey, const char *param,
                                const char *name, size_t len) {
    unsigned char bytes[1025];
    BIGNUM *number = NULL;
    FORGE(EVP_PKEY_get_bn_param(pkey, param, &number) == 1);
    size_t size = len != 0 ? len : (size_t)BN_num_bytes(number);
    FORGE(size <= sizeof bytes && BN_bn2binpad(number, bytes, (int)size) == (int)size);
    forge_bytes_member(out, name, bytes, size);
    BN_free(number);
}

/* Appends the public half as a JWK with `more` (",\"kid\":...") at its end. */
MAYBE_UNUSED static void forge_jwk(struct buf *out, EVP_PKEY *pkey, const char *more) {
    static const struct {
        const char *group, *crv;
        size_t len;
    } curves[] = {{"prime256v1", "P-256", 32},
                  {"secp384r1", "P-384", 48},
                  {"secp521r1", "P-521", 66},
                  {"secp256k1", "secp256k1", 32},
                  {"secp224r1", "P-224", 28}};
    char group[64];
    if (EVP_PKEY_is_a(pkey, "RSA")) {
        buf_append_cstr(out, "{\"kty\":\"RSA\"");
        forge_number_member(out, pkey, OSSL_PKEY_PARAM_RSA_N, "n", 0);
        forge_number_member(out, pkey, OSSL_PKEY_PARAM_RSA_E, "e", 0);
    } else if (EVP_PKEY_is_a(pkey, "EC")) {
        FORGE(EVP_PKEY_get_group_name(pkey, group, sizeof group, NULL) == 1);
        for (size_t i = 0; i < ARRAY_LEN(curves); i++) {
            if (strcmp(group, curves[i].group) != 0)
                continue;
            buf_printf(out, "{\"kty\":\"EC\",\"crv\":\"%s\"", curves[i].crv);
            forge_number_member(out, pkey, OSSL_PKEY_PARAM_EC_PUB_X, "x", curves[i].len);
            forge_number_member(out, pkey, OSSL_PKEY_PARAM_EC_PUB_Y, "y", curves[i].len);
        }
    } else {
        unsigned char bytes[64];
        size_t len = sizeof bytes;
        const char *crv = EVP_PKEY_is_a(pkey, "ED25519")  ? "Ed25519"
                          : EVP_PKEY_is_a(pkey, "X25519") ? "X25519"
                                                          : "Ed448";
        FORGE(EVP_PKEY_get_raw_public_key(pkey, bytes, &len) == 1);
        buf_printf(out, "{\"kty\":\"OKP\",\"crv\":\"%s\"", crv);
        forge_bytes_member(out, "x", bytes, len);
    }
    buf_append_cstr(out, more);
    buf_append_cstr(out, "}");
}

/* A set of what is given as JWKs, separated by commas. */
MAYBE_UNUSED static struct jose_keys *forge_set(const char *jwks) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct buf document CLEANUP(buf_deinit) = FORGE_BUF;
    struct jose_keys *keys = NULL;
    struct jose_keys_report report;
    const char *reason;
    buf_append_cstr(&document, "{\"keys\":[");
    buf_append_cstr(&document, jwks);
    buf_append_cstr(&document, "]}");
    FORGE(json_reader_new(&reader) == 0 &&
          jose_keys_read(reader, buf_slice(&document), &keys, &report, &reason) == 0);
    return keys;
}

/* The set of one key. */
MAYBE_UNUSED static struct jose_keys *forge_set_of(EVP_PKEY *pkey, const char *more) {
    struct buf jwk CLEANUP(buf_deinit) = FORGE_BUF;
    forge_jwk(&jwk, pkey, more);
    buf_append_byte(&jwk, '\0');
    return forge_set(buf_slice(&jwk).ptr);
}

/* --- signatures --- */

static const EVP_MD *forge_hash(enum jose_algorithm algorithm) {
    const char *name = jose_algorithm_name(algorithm);
    return name[2] == '2' ? EVP_sha256() : name[2] == '3' ? EVP_sha384() : EVP_sha512();
}

/* DER into two numbers of the same length (RFC 7518 section 3.4). */
MAYBE_UNUSED static void forge_p1363(struct buf *out, const unsigned char *der, size_t len,
                                     size_t half) {
    unsigned char bytes[132];
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &der, (long)len);
    FORGE(pair != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(pair), bytes, (int)half) > 0 &&
          BN_bn2binpad(ECDSA_SIG_get0_s(pair), bytes + half, (int)half) > 0);
    buf_append(out, slice_make(bytes, 2 * half));
    ECDSA_SIG_free(pair);
}

/* PSS with this length of the salt and this hash for MGF1. */
static size_t forge_raw(unsigned char *signature, size_t room, EVP_PKEY *pkey, const EVP_MD *hash,
                        bool is_pss, int salt, const EVP_MD *mgf1, struct slice text) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *options = NULL;
    size_t len = room;
    FORGE(ctx != NULL && EVP_DigestSignInit(ctx, &options, hash, NULL, pkey) == 1);
    if (is_pss)
        FORGE(EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) == 1 &&
              EVP_PKEY_CTX_set_rsa_mgf1_md(options, mgf1) == 1 &&
              EVP_PKEY_CTX_set_rsa_pss_saltlen(options, salt) == 1);
    FORGE(EVP_DigestSign(ctx, signature, &len, (const unsigned char *)text.ptr, text.len) == 1);
    EVP_MD_CTX_free(ctx);
    return len;
}

/* Appends the signature that `algorithm` asks for. */
MAYBE_UNUSED static void forge_sign(struct buf *out, EVP_PKEY *pkey, enum jose_algorithm algorithm,
                                    struct slice text) {
    unsigned char signature[1024];
    const char *name = jose_algorithm_name(algorithm);
    bool is_pss = name[0] == 'P', is_ecdsa = name[0] == 'E' && name[1] == 'S';
    const EVP_MD *hash = algorithm == JOSE_EDDSA ? NULL : forge_hash(algorithm);
    size_t len = forge_raw(signature, sizeof signature, pkey, hash, is_pss, RSA_PSS_SALTLEN_DIGEST,
                           hash, text);
    if (is_ecdsa)
        forge_p1363(out, signature, len, (size_t)(EVP_PKEY_get_bits(pkey) + 7) / 8);
    else
        buf_append(out, slice_make(signature, len));
}

MAYBE_UNUSED static void forge_mac(struct buf *out, struct slice secret,
                                   enum jose_algorithm algorithm, struct slice text) {
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    FORGE(HMAC(forge_hash(algorithm), secret.ptr, (int)secret.len, (const unsigned char *)text.ptr,
               text.len, mac, &len) != NULL);
    buf_append(out, slice_make(mac, len));
}

/* --- tokens --- */

/* Appends base64url of header, a point, base64url of claims. */
MAYBE_UNUSED static void forge_signed_part(struct buf *out, struct slice header,
                                           struct slice claims) {
    base64url_encode(out, header);
    buf_append_cstr(out, ".");
    base64url_encode(out, claims);
}

MAYBE_UNUSED static void forge_add_signature(struct buf *token, struct slice signature) {
    buf_append_cstr(token, ".");
    base64url_encode(token, signature);
}

MAYBE_UNUSED static void forge_token(struct buf *token, struct slice header, struct slice claims,
                                     EVP_PKEY *pkey, enum jose_algorithm algorithm) {
    struct buf signature CLEANUP(buf_deinit) = FORGE_BUF;
    forge_signed_part(token, header, claims);
    forge_sign(&signature, pkey, algorithm, buf_slice(token));
    forge_add_signature(token, buf_slice(&signature));
}

MAYBE_UNUSED static void forge_mac_token(struct buf *token, struct slice header,
                                         struct slice claims, struct slice secret,
                                         enum jose_algorithm algorithm) {
    struct buf mac CLEANUP(buf_deinit) = FORGE_BUF;
    forge_signed_part(token, header, claims);
    forge_mac(&mac, secret, algorithm, buf_slice(token));
    forge_add_signature(token, buf_slice(&mac));
}

/* --- looking at them --- */

enum forge_stage { AT_READ, AT_KEY, AT_VERIFY, AT_CHECK, PASSES, NO_MEMORY };

/* All three steps; where the token stopped, and why. The token lies in a block of exactly its size.
 */
MAYBE_UNUSED static enum forge_stage forge_judge(struct slice token, const struct jose_keys *keys,
                                                 unsigned algorithms, const struct jwt_rules *rules,
                                                 uint64_t now_s, const char **ret_reason) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct buf decoded CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    CLEANUP(mem_freep) char *exact = mem_alloc(token.len);
    struct jwt jwt;
    *ret_reason = "";
    if (exact == NULL || json_reader_new(&reader) != 0)
        return NO_MEMORY;
    if (token.len > 0)
        memcpy(exact, token.ptr, token.len);
    int r = jwt_read(reader, slice_make(exact, token.len), &decoded, &jwt, ret_reason);
    if (r != 0)
        return r < 0 ? NO_MEMORY : AT_READ;
    r = jwt_verify(&jwt, keys, algorithms, ret_reason);
    if (r != 0)
        return r < 0 ? NO_MEMORY : r == JWT_E_UNKNOWN_KEY ? AT_KEY : AT_VERIFY;
    r = jwt_check(reader, &jwt, rules, now_s, ret_reason);
    return r < 0 ? NO_MEMORY : r > 0 ? AT_CHECK : PASSES;
}
