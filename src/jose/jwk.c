/*
 * One JSON Web Key (RFC 7517 section 4) into a key that may verify signatures, or the reason why
 * not. A key that says of itself that it is for something else (use, key_ops, alg) is believed. One
 * whose private half is published too proves nothing any more.
 */
#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <string.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "private.h"

enum { MAX_COORDINATE = 66, ED25519_BYTES = 32, MAX_NUMBER = 1024 + 8 };

#define BIT(algorithm) (1u << (algorithm))

static const unsigned rsa_algorithms = BIT(JOSE_RS256) | BIT(JOSE_RS384) | BIT(JOSE_RS512) |
                                       BIT(JOSE_PS256) | BIT(JOSE_PS384) | BIT(JOSE_PS512);

/* RFC 7518 sections 3.4 and 6.2.1.1: each algorithm belongs to one curve. */
struct curve {
    struct slice crv;
    size_t coordinate;
    enum jose_algorithm algorithm;
};

static const struct curve curves[] = {
    {SLICE_INIT("P-256"), 32, JOSE_ES256},
    {SLICE_INIT("P-384"), 48, JOSE_ES384},
    {SLICE_INIT("P-521"), MAX_COORDINATE, JOSE_ES512},
};

static int skip(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return JOSE_E_INVALID;
}

static bool member_is(const struct json_reader *reader, const struct json_node *jwk,
                      struct slice name, struct slice text) {
    const struct json_node *node = json_member(reader, jwk, name);
    return node != NULL && json_string_is(node, text);
}

/* Bytes in base64url. JOSE_E_INVALID: there are none, or more than `max`. */
static int read_bytes(const struct json_reader *reader, const struct json_node *jwk,
                      struct slice name, size_t max, struct buf *out) {
    const struct json_node *node = json_member_typed(reader, jwk, name, JSON_STRING);
    struct slice text = node != NULL ? json_string_raw(node) : SLICE_EMPTY;
    size_t before = buf_len(out);
    if (text.len > max * 2)
        return JOSE_E_INVALID;
    int r = base64url_decode(out, text);
    if (buf_error(out) == -ENOMEM)
        return -ENOMEM;
    return r == 0 && buf_len(out) > before && buf_len(out) - before <= max ? 0 : JOSE_E_INVALID;
}

/* --- what libcrypto makes of it --- */

static int make_pkey(const char *type, OSSL_PARAM *params, EVP_PKEY **ret_pkey) {
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    bool is_made = ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
                   EVP_PKEY_fromdata(ctx, ret_pkey, EVP_PKEY_PUBLIC_KEY, params) == 1;
    int r = is_made ? 0 : jose_crypto_error();
    EVP_PKEY_CTX_free(ctx);
    return r;
}

static int make_rsa(const BIGNUM *n, const BIGNUM *e, EVP_PKEY **ret_pkey) {
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    if (build != NULL && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e))
        params = OSSL_PARAM_BLD_to_param(build);
    int r = params != NULL ? make_pkey("RSA", params, ret_pkey) : -ENOMEM;
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    return r;
}

/* --- by kind --- */

/* RFC 7518 section 6.3.1. A zero in front of the modulus is no other number. */
static int read_rsa(const struct json_reader *reader, const struct json_node *jwk,
                    struct jose_key *key, const char **ret_reason) {
    struct buf modulus CLEANUP(buf_deinit) = BUF_INIT(2 * MAX_NUMBER);
    struct buf exponent CLEANUP(buf_deinit) = BUF_INIT(2 * MAX_NUMBER);
    int r = read_bytes(reader, jwk, SLICE("n"), MAX_NUMBER, &modulus);
    if (r == 0)
        r = read_bytes(reader, jwk, SLICE("e"), MAX_NUMBER, &exponent);
    if (r != 0)
        return r < 0 ? r : skip(ret_reason, "an RSA key without a proper n and e");
    struct slice n_bytes = buf_slice(&modulus), e_bytes = buf_slice(&exponent);
    BIGNUM *n = BN_bin2bn((const unsigned char *)n_bytes.ptr, (int)n_bytes.len, NULL);
    BIGNUM *e = BN_bin2bn((const unsigned char *)e_bytes.ptr, (int)e_bytes.len, NULL);
    r = n != NULL && e != NULL ? jose_rsa_check(n, e, ret_reason) : -ENOMEM;
    if (r == 0) {
        key->signature_len = (size_t)BN_num_bytes(n);
        key->algorithms = rsa_algorithms;
        r = make_rsa(n, e, &key->pkey);
        if (r == JOSE_E_INVALID)
            *ret_reason = "an RSA key that libcrypto refuses";
    }
    BN_free(n);
    BN_free(e);
    return r;
}

/* RFC 7518 section 6.2.1: both coordinates in full length. libcrypto refuses a point that is not on
 * the curve. */
static int read_ec(const struct json_reader *reader, const struct json_node *jwk,
                   struct jose_key *key, const char **ret_reason) {
    struct buf point CLEANUP(buf_deinit) = BUF_INIT(1 + 4 * MAX_COORDINATE);
    const struct curve *curve = NULL;
    for (size_t i = 0; i < ARRAY_LEN(curves) && curve == NULL; i++)
        curve = member_is(reader, jwk, SLICE("crv"), curves[i].crv) ? &curves[i] : NULL;
    if (curve == NULL)
        return skip(ret_reason, "an EC key on a curve that is not known");
    buf_append_byte(&point, 0x04); /* not compressed (SEC 1 section 2.3.3) */
    int r = read_bytes(reader, jwk, SLICE("x"), curve->coordinate, &point);
    if (r == 0 && buf_len(&point) == 1 + curve->coordinate)
        r = read_bytes(reader, jwk, SLICE("y"), curve->coordinate, &point);
    if (r < 0)
        return r;
    if (r != 0 || buf_len(&point) != 1 + 2 * curve->coordinate)
        return skip(ret_reason, "an EC key without coordinates of its curve's length");
    char group[sizeof "P-256"];
    if (slice_to_cstr(curve->crv, group, sizeof group) != 0)
        return -EINVAL;
    char *bytes = point.data + point.start;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, bytes, buf_len(&point)),
        OSSL_PARAM_construct_end(),
    };
    key->signature_len = 2 * curve->coordinate;
    key->algorithms = BIT(curve->algorithm);
    r = make_pkey("EC", params, &key->pkey);
    return r == JOSE_E_INVALID ? skip(ret_reason, "an EC key that is no point of its curve") : r;
}

/* RFC 8037 section 2. */
static int read_okp(const struct json_reader *reader, const struct json_node *jwk,
                    struct jose_key *key, const char **ret_reason) {
    struct buf bytes CLEANUP(buf_deinit) = BUF_INIT(4 * ED25519_BYTES);
    if (!member_is(reader, jwk, SLICE("crv"), SLICE("Ed25519")))
        return skip(ret_reason, "an OKP key that is not Ed25519");
    int r = read_bytes(reader, jwk, SLICE("x"), ED25519_BYTES, &bytes);
    if (r < 0)
        return r;
    if (r != 0 || buf_len(&bytes) != ED25519_BYTES)
        return skip(ret_reason, "an Ed25519 key that is not 32 bytes");
    const unsigned char *point = (const unsigned char *)buf_slice(&bytes).ptr;
    r = jose_ed25519_check(point, ret_reason);
    if (r != 0)
        return r;
    key->signature_len = (size_t)2 * ED25519_BYTES;
    key->algorithms = BIT(JOSE_EDDSA);
    key->pkey = EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, point, ED25519_BYTES);
    return key->pkey != NULL ? 0 : -ENOMEM;
}

/* --- what it says of itself --- */

/* RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1, RFC 8037 section 2. */
static bool is_private(const struct json_reader *reader, const struct json_node *jwk) {
    static const struct slice names[] = {
        SLICE_INIT("d"),  SLICE_INIT("p"),  SLICE_INIT("q"),   SLICE_INIT("dp"),
        SLICE_INIT("dq"), SLICE_INIT("qi"), SLICE_INIT("oth"), SLICE_INIT("k"),
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (json_member(reader, jwk, names[i]) != NULL)
            return true;
    }
    return false;
}

/* RFC 7517 section 4.3: an array of strings; "verify" has to be among them. */
static bool has_verify(const struct json_reader *reader, const struct json_node *operations) {
    bool is_there = false;
    if (operations->type != JSON_ARRAY)
        return false;
    const struct json_node *node = json_first(reader, operations);
    for (; node != NULL; node = json_next(reader, node)) {
        if (node->type != JSON_STRING)
            return false;
        is_there = is_there || json_string_is(node, SLICE("verify"));
    }
    return is_there;
}

/* RFC 7517 sections 4.2 to 4.4: the reason why not, or NULL. */
static const char *check_purpose(const struct json_reader *reader, const struct json_node *jwk,
                                 unsigned *algorithms) {
    const struct json_node *use = json_member(reader, jwk, SLICE("use"));
    const struct json_node *operations = json_member(reader, jwk, SLICE("key_ops"));
    const struct json_node *alg = json_member(reader, jwk, SLICE("alg"));
    if (use != NULL && !json_string_is(use, SLICE("sig")))
        return "a key that is not for signatures (use)";
    if (operations != NULL && !has_verify(reader, operations))
        return "a key that is not for verifying (key_ops)";
    if (alg == NULL)
        return NULL;
    for (unsigned i = 0; i < JOSE_ALGORITHM_COUNT; i++) {
        const char *name = jose_algorithm_name((enum jose_algorithm)i);
        if ((*algorithms & BIT(i)) != 0 && json_string_is(alg, slice_from_cstr(name))) {
            *algorithms = BIT(i);
            return NULL;
        }
    }
    return "a key for another algorithm (alg) than its kind has";
}

static int read_kid(const struct json_reader *reader, const struct json_node *jwk,
                    struct jose_key *key, const char **ret_reason) {
    const struct json_node *node = json_member(reader, jwk, SLICE("kid"));
    if (node == NULL)
        return 0;
    if (node->type != JSON_STRING)
        return skip(ret_reason, "a key whose name (kid) is no string");
    struct buf kid CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWKS);
    int r = json_string_append(&kid, node);
    if (r != 0)
        return r;
    key->has_kid = true;
    if (buf_len(&kid) == 0)
        return 0;
    key->kid_memory = buf_take(&kid, &key->kid.len);
    key->kid.ptr = key->kid_memory;
    return key->kid_memory != NULL ? 0 : -ENOMEM;
}

static int read_by_kind(const struct json_reader *reader, const struct json_node *jwk,
                        struct jose_key *key, const char **ret_reason) {
    if (member_is(reader, jwk, SLICE("kty"), SLICE("RSA")))
        return read_rsa(reader, jwk, key, ret_reason);
    if (member_is(reader, jwk, SLICE("kty"), SLICE("EC")))
        return read_ec(reader, jwk, key, ret_reason);
    if (member_is(reader, jwk, SLICE("kty"), SLICE("OKP")))
        return read_okp(reader, jwk, key, ret_reason);
    return skip(ret_reason, "a key of a kind (kty) that is not known");
}

int jose_jwk_read(const struct json_reader *reader, const struct json_node *jwk,
                  struct jose_key *ret_key, const char **ret_reason) {
    struct jose_key key = {.pkey = NULL};
    if (jwk->type != JSON_OBJECT)
        return skip(ret_reason, "a key that is no object");
    if (member_is(reader, jwk, SLICE("kty"), SLICE("oct")))
        return skip(ret_reason, "a symmetric key (oct) in a public set");
    if (is_private(reader, jwk))
        return skip(ret_reason, "a key whose private half is published");
    ERR_clear_error();
    int r = read_by_kind(reader, jwk, &key, ret_reason);
    ERR_clear_error();
    const char *reason = r == 0 ? check_purpose(reader, jwk, &key.algorithms) : NULL;
    if (reason != NULL)
        r = skip(ret_reason, reason);
    if (r == 0)
        r = read_kid(reader, jwk, &key, ret_reason);
    if (r == 0)
        *ret_key = key;
    else
        jose_key_deinit(&key);
    return r;
}

void jose_key_deinit(struct jose_key *key) {
    EVP_PKEY_free(key->pkey);
    key->pkey = NULL;
    mem_free(key->kid_memory);
    key->kid_memory = NULL;
}
