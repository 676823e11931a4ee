/* What the files of jose/ share: a key, a set of them, and the steps between. */
#pragma once

#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/secret.h"
#include "base/slice.h"
#include "jose/jwt.h"
#include "jose/keys.h"
#include "json/reader.h"

/* --- one key --- */

struct jose_key {
    EVP_PKEY *pkey;      /* holds what OpenSSL computes once for a key; safe to share for reading */
    unsigned algorithms; /* mask: those of its kind, or the one that its `alg` pins */
    size_t signature_len; /* of every signature that it can make */
    bool has_kid;
    struct slice kid; /* unescaped */
    char *kid_memory; /* that it lies in, or NULL */
};

/*
 * Reads one JWK, a node whose `key_ops` is opened. JOSE_E_INVALID: it is not for us, and
 * *ret_reason says why in a fixed sentence. -ENOMEM.
 */
MUST_CHECK int jose_jwk_read(const struct json_reader *reader, const struct json_node *jwk,
                             struct jose_key *ret_key, const char **ret_reason);
void jose_key_deinit(struct jose_key *key);

/* --- a set --- */

struct jose_keys {
    atomic_uint refs;
    struct secret *secret; /* of a set that is a shared secret; such a set has no other key */
    size_t n;
    struct jose_key keys[];
};

/* --- libcrypto --- */

/* It says "no" and "no memory" alike; the reasons are in the thread's queue of errors, which has to
 * be empty before the call (ERR_clear_error()) and is empty afterwards: -ENOMEM or JOSE_E_INVALID.
 * TLS on the same thread reads that queue too. */
MUST_CHECK int jose_crypto_error(void);

/* --- signatures --- */

bool jose_is_symmetric(enum jose_algorithm algorithm);

/* The key made this signature: 0. It did not, or cannot have: JOSE_E_INVALID. -ENOMEM. */
MUST_CHECK int jose_signature_verify(const struct jose_key *key, enum jose_algorithm algorithm,
                                     struct slice signed_part, struct slice signature);
/* The same for HS256 to HS512, in constant time. A secret that is too short for the algorithm
 * made none. */
MUST_CHECK int jose_mac_verify(const struct secret *secret, enum jose_algorithm algorithm,
                               struct slice signed_part, struct slice mac);

/* --- keys that prove nothing --- */

/* Big-endian numbers. 0; JOSE_E_INVALID with *ret_reason; -ENOMEM. */
MUST_CHECK int jose_rsa_check(const BIGNUM *n, const BIGNUM *e, const char **ret_reason);
/* RFC 8032 section 5.1.2, 32 bytes. */
MUST_CHECK int jose_ed25519_check(const unsigned char *key, const char **ret_reason);

/* --- tokens --- */

/* A claim with this name that has to be a NumericDate: 0 and UINT64_MAX when there is none. */
MUST_CHECK int jose_read_date(const struct json_reader *reader, const struct json_node *claims,
                              struct slice name, uint64_t *ret_seconds);
