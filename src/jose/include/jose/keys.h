/*
 * Keys that prove tokens: JSON Web Keys and sets of them (RFC 7517, RFC 7518 section 6, RFC 8037),
 * and shared secrets. A set is immutable once made, counted, and used by any thread.
 *
 * Only keys that may verify signatures get in: public RSA of 2048 to 8192 bits with an odd exponent
 * above 2^16 of at most 64 bits, without a small factor and without the fingerprint of weak
 * generators (CVE-2017-15361); points on P-256, P-384, P-521; OKP with Ed25519, not of small order.
 * A key whose `use`, `key_ops` or `alg` says that it is for something else is left out, and so is
 * one that this code does not know: a set with one strange key is still a set (RFC 7517 section 5).
 * Symmetric keys in a set are left out always: a document that anybody may read holds no secret.
 * For the same reason a key whose private half is published too is left out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/slice.h"
#include "json/reader.h"

/* RFC 7518 section 3.1, RFC 8037 section 3.1. A bit each in masks: 1u << JOSE_RS256. */
enum jose_algorithm {
    JOSE_RS256,
    JOSE_RS384,
    JOSE_RS512,
    JOSE_PS256,
    JOSE_PS384,
    JOSE_PS512,
    JOSE_ES256,
    JOSE_ES384,
    JOSE_ES512,
    JOSE_EDDSA,
    JOSE_HS256,
    JOSE_HS384,
    JOSE_HS512,
    JOSE_ALGORITHM_COUNT,
};
#define JOSE_ALL_ALGORITHMS ((1u << JOSE_ALGORITHM_COUNT) - 1u)

/* "RS256", exactly so. False: unknown. */
bool jose_algorithm_parse(struct slice name, enum jose_algorithm *ret_algorithm);
const char *jose_algorithm_name(enum jose_algorithm algorithm);

struct jose_keys;

/* What became of the keys of a set. */
struct jose_keys_report {
    size_t n_used, n_skipped;
    const char *first_reason; /* why the first one was skipped; NULL: none was */
};

enum { JOSE_E_INVALID = 1 };

/*
 * Reads a JWK Set: {"keys":[...]}. JOSE_E_INVALID: it is none, or has more than LIMIT_JWKS_KEYS;
 * *ret_reason is a fixed sentence. Two used keys with one kid and one algorithm family: both are
 * kept and tried. -ENOMEM.
 */
MUST_CHECK int jose_keys_read(struct json_reader *reader, struct slice document,
                              struct jose_keys **ret_keys, struct jose_keys_report *ret_report,
                              const char **ret_reason);
/* A shared secret for HS256 to HS512, each of them only when it is long enough for it (RFC 7518
 * section 3.2): JOSE_E_INVALID below 32 bytes. A copy is made and wiped at the end. It has no name:
 * it is tried whatever `kid` a token has. */
MUST_CHECK int jose_keys_from_secret(struct slice secret, struct jose_keys **ret_keys);
struct jose_keys *jose_keys_ref(struct jose_keys *keys);
/* Accepts NULL, returns NULL. */
struct jose_keys *jose_keys_unref(struct jose_keys *keys);
size_t jose_keys_count(const struct jose_keys *keys);
