/*
 * Algorithms and signatures (RFC 7518 section 3, RFC 8037 section 3.1).
 *
 * The algorithm of a token chooses hash and padding, never the kind of key: a key has a mask of
 * algorithms that came from its own kind, so a public RSA key can not become the secret of an HMAC.
 * OpenSSL computes; what it does not ask for is asked here: the exact length of a signature, and
 * that neither half of an ECDSA signature is zero (CVE-2022-21449 was another library's).
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <stdint.h>
#include <string.h>

#include "private.h"

enum kind { PKCS1, PSS, ECDSA, EDDSA, MAC };

struct row {
    const char *name;
    enum kind kind;
    unsigned hash_bits; /* 0: the algorithm hashes by itself */
};

static const struct row rows[JOSE_ALGORITHM_COUNT] = {
    [JOSE_RS256] = {"RS256", PKCS1, 256}, [JOSE_RS384] = {"RS384", PKCS1, 384},
    [JOSE_RS512] = {"RS512", PKCS1, 512}, [JOSE_PS256] = {"PS256", PSS, 256},
    [JOSE_PS384] = {"PS384", PSS, 384},   [JOSE_PS512] = {"PS512", PSS, 512},
    [JOSE_ES256] = {"ES256", ECDSA, 256}, [JOSE_ES384] = {"ES384", ECDSA, 384},
    [JOSE_ES512] = {"ES512", ECDSA, 512}, [JOSE_EDDSA] = {"EdDSA", EDDSA, 0},
    [JOSE_HS256] = {"HS256", MAC, 256},   [JOSE_HS384] = {"HS384", MAC, 384},
    [JOSE_HS512] = {"HS512", MAC, 512},
};

bool jose_algorithm_parse(struct slice name, enum jose_algorithm *ret_algorithm) {
    for (unsigned i = 0; i < JOSE_ALGORITHM_COUNT; i++) {
        if (slice_eq(name, slice_from_cstr(rows[i].name))) {
            *ret_algorithm = (enum jose_algorithm)i;
            return true;
        }
    }
    return false;
}

const char *jose_algorithm_name(enum jose_algorithm algorithm) {
    assert(algorithm < JOSE_ALGORITHM_COUNT);
    return rows[algorithm].name;
}

bool jose_is_symmetric(enum jose_algorithm algorithm) {
    return rows[algorithm].kind == MAC;
}

static const EVP_MD *hash_of(const struct row *row) {
    switch (row->hash_bits) {
    case 256:
        return EVP_sha256();
    case 384:
        return EVP_sha384();
    case 512:
        return EVP_sha512();
    default:
        return NULL;
    }
}

static const unsigned char *bytes_of(struct slice s) {
    return (const unsigned char *)s.ptr;
}

/* --- ECDSA: the two numbers side by side (RFC 7518 section 3.4) into DER, as OpenSSL wants --- */

enum {
    MAX_COORDINATE = 66,                       /* of P-521 */
    MAX_INTEGER = 2 + 1 + MAX_COORDINATE,      /* tag, length, a zero in front of a set bit */
    MAX_ECDSA_DER = 2 + 1 + (2 * MAX_INTEGER), /* tag, length in two bytes */
};

/* Writes an INTEGER; 0 when the number is 0. */
static size_t write_integer(unsigned char *out, const unsigned char *number, size_t len) {
    while (len > 0 && *number == 0) {
        number++;
        len--;
    }
    if (len == 0)
        return 0;
    size_t pad = *number >= 0x80 ? 1 : 0;
    out[0] = 0x02;
    out[1] = (unsigned char)(len + pad);
    out[2] = 0;
    memcpy(out + 2 + pad, number, len);
    return 2 + pad + len;
}

/* The length of the DER, or 0 when one half is zero. */
static size_t write_der(unsigned char out[static MAX_ECDSA_DER], struct slice signature) {
    unsigned char integers[2 * MAX_INTEGER];
    size_t half = signature.len / 2;
    size_t r = write_integer(integers, bytes_of(signature), half);
    size_t s = write_integer(integers + r, bytes_of(signature) + half, half);
    if (r == 0 || s == 0)
        return 0;
    size_t len = r + s, head = 0;
    out[head++] = 0x30;
    if (len >= 0x80)
        out[head++] = 0x81;
    out[head++] = (unsigned char)len;
    memcpy(out + head, integers, len);
    return head + len;
}

/* --- verifying --- */

int jose_crypto_error(void) {
    int r = JOSE_E_INVALID;
    for (unsigned long error = ERR_get_error(); error != 0; error = ERR_get_error()) {
        if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE)
            r = -ENOMEM;
    }
    return r;
}

static bool verify_init(EVP_MD_CTX *ctx, const struct row *row, EVP_PKEY *pkey) {
    EVP_PKEY_CTX *options = NULL; /* belongs to ctx */
    if (EVP_DigestVerifyInit(ctx, &options, hash_of(row), NULL, pkey) != 1)
        return false;
    /* RFC 7518 section 3.5: salt as long as the hash, MGF1 with the same hash. */
    return row->kind != PSS ||
           (EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) == 1 &&
            EVP_PKEY_CTX_set_rsa_mgf1_md(options, hash_of(row)) == 1 &&
            EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST) == 1);
}

static int verify(const struct row *row, EVP_PKEY *pkey, struct slice signed_part,
                  struct slice signature) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int r = 0;
    if (ctx == NULL || !verify_init(ctx, row, pkey)) {
        ERR_clear_error();
        r = -ENOMEM; /* key and algorithm fit each other, and nothing was looked at yet */
    } else if (EVP_DigestVerify(ctx, bytes_of(signature), signature.len, bytes_of(signed_part),
                                signed_part.len) != 1) {
        r = jose_crypto_error(); /* not right, whatever the reason is */
    }
    EVP_MD_CTX_free(ctx);
    return r;
}

int jose_signature_verify(const struct jose_key *key, enum jose_algorithm algorithm,
                          struct slice signed_part, struct slice signature) {
    const struct row *row = &rows[algorithm];
    unsigned char der[MAX_ECDSA_DER];
    if ((key->algorithms & (1u << algorithm)) == 0 || row->kind == MAC ||
        signature.len != key->signature_len)
        return JOSE_E_INVALID;
    if (row->kind == ECDSA) {
        assert(signature.len <= (size_t)2 * MAX_COORDINATE);
        size_t len = write_der(der, signature);
        if (len == 0)
            return JOSE_E_INVALID;
        signature = slice_make(der, len);
    }
    ERR_clear_error();
    return verify(row, key->pkey, signed_part, signature);
}

int jose_mac_verify(const struct secret *secret, enum jose_algorithm algorithm,
                    struct slice signed_part, struct slice mac) {
    const struct row *row = &rows[algorithm];
    struct slice key = secret_reveal(secret); /* for the HMAC that checks a token */
    unsigned char expected[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (row->kind != MAC || mac.len != row->hash_bits / 8 || key.len < row->hash_bits / 8 ||
        key.len > INT_MAX)
        return JOSE_E_INVALID;
    bool is_made = HMAC(hash_of(row), key.ptr, (int)key.len, bytes_of(signed_part), signed_part.len,
                        expected, &len) != NULL;
    if (!is_made) {
        ERR_clear_error();
        return -ENOMEM;
    }
    int r = len == mac.len && CRYPTO_memcmp(expected, mac.ptr, len) == 0 ? 0 : JOSE_E_INVALID;
    OPENSSL_cleanse(expected, sizeof expected);
    return r;
}
