/*
 * JSON Web Tokens, signed, in compact form (RFC 7519, RFC 7515), read and checked as RFC 8725 says.
 * No clock and no I/O: times are arguments, keys come from whoever keeps them. A token is checked
 * in three steps, because between the first and the second the issuer's keys have to be found:
 *
 *     jwt_read()       form and header; what it says is not proved
 *     jwt_verify()     the signature, with keys of the issuer that it names
 *     jwt_check()      claims: issuer, audience, times, type
 *
 * Refused in the first step already: `none` and every unknown alg, any `crit` (RFC 7515 section
 * 4.1.11: we understand no extension), jku, x5u, jwk, x5c (a token does not bring its own key),
 * `zip`, `b64`, encrypted and nested tokens, `typ` of other kinds of tokens (it is missing, JWT or
 * at+jwt, with or without "application/", in any case of letters), base64url with padding, foreign
 * characters or set bits behind the end, duplicate keys, other JSON than an object, more than
 * LIMIT_JWT bytes, an `iss` or `sub` that is empty or holds control characters.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "jose/keys.h"
#include "json/reader.h"

struct jwt {
    struct slice token; /* the caller's bytes */
    enum jose_algorithm algorithm;
    bool has_kid, is_at_jwt;
    /* In the caller's `decoded`, and only while it stays as it is. Claims of the wrong type make
     * jwt_read() refuse the token. */
    struct slice claims; /* the payload: a JSON object, checked */
    struct slice kid;    /* unescaped */
    struct slice issuer, subject;
    bool has_issuer, has_subject;
    /* NumericDate in seconds, cut to whole ones; UINT64_MAX: absent. Negative, or beyond 2^53: the
     * token is refused. */
    uint64_t expires_s, not_before_s, issued_s;
    struct slice signed_part, signature; /* RFC 7515 section 5.2; the signature is decoded */
};

enum { JWT_E_REFUSED = 1, JWT_E_UNKNOWN_KEY = 2 };

/*
 * `decoded` is emptied and holds header, claims and signature afterwards; its max is LIMIT_JWT at
 * least. JWT_E_REFUSED: *ret_reason is a fixed sentence for the log and the caller, without
 * anything of the token in it. -ENOMEM.
 */
MUST_CHECK int jwt_read(struct json_reader *reader, struct slice token, struct buf *decoded,
                        struct jwt *ret_jwt, const char **ret_reason);
/*
 * JWT_E_UNKNOWN_KEY: no key of the set has its kid (or, without one, fits its algorithm): newer
 * keys may. JWT_E_REFUSED: there are keys and none of them made this signature. `algorithms`: a
 * mask of those that are allowed. A key is used for the algorithms of its own kind only, one with
 * `alg` for that one. At most LIMIT_JWT_TRIES keys are tried with one token.
 */
MUST_CHECK int jwt_verify(const struct jwt *jwt, const struct jose_keys *keys, unsigned algorithms,
                          const char **ret_reason);

struct jwt_rules {
    struct slice issuer;           /* empty: any */
    const struct slice *audiences; /* one of them has to be in `aud`; none: not checked */
    size_t n_audiences;
    bool needs_at_jwt; /* typ has to be at+jwt (RFC 9068 section 2.1) */
    uint64_t leeway_s;
};

/* exp is required. 0, JWT_E_REFUSED, -ENOMEM. */
MUST_CHECK int jwt_check(struct json_reader *reader, const struct jwt *jwt,
                         const struct jwt_rules *rules, uint64_t now_s, const char **ret_reason);
