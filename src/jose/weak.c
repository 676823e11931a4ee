/*
 * Keys that look like keys and prove nothing. Whoever publishes one is mistaken or an attacker;
 * signatures by it can be made by others.
 *
 * RSA: too short; with an exponent that is even or so small that old forgeries work; with one so
 * large that checking a signature costs what making one does; with a small factor; or from the
 * generator of CVE-2017-15361 ("ROCA"). Primes of that generator have the form
 * k * M + (65537^a mod M), M being the product of the first primes. So the modulus too is a power
 * of 65537 modulo each of those primes, which other moduli are for all of them once in 2^27 or so.
 *
 * Ed25519: a point of small order, for which anybody can make signatures of any message; what is no
 * point at all, or a second spelling of one (RFC 8032 section 5.1.3).
 */
#include <errno.h>
#include <openssl/bn.h>
#include <stdint.h>

#include "base/compiler.h"
#include "private.h"

enum { RSA_MIN_BITS = 2048, RSA_MAX_BITS = 8192, RSA_MAX_EXPONENT_BITS = 64 };

static int refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return JOSE_E_INVALID;
}

/* --- RSA --- */

static const uint8_t small_primes[] = {
    3,  5,  7,  11, 13, 17,  19,  23,  29,  31,  37,  41,  43,  47,  53,  59,  61,  67,  71,
    73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167};

static bool is_power_of_65537(unsigned residue, unsigned prime) {
    unsigned power = 1;
    do {
        if (power == residue)
            return true;
        power = power * (65537u % prime) % prime;
    } while (power != 1);
    return false;
}

int jose_rsa_check(const BIGNUM *n, const BIGNUM *e, const char **ret_reason) {
    if (BN_num_bits(n) < RSA_MIN_BITS)
        return refuse(ret_reason, "an RSA key of less than 2048 bits");
    if (BN_num_bits(n) > RSA_MAX_BITS)
        return refuse(ret_reason, "an RSA key of more than 8192 bits");
    /* FIPS 186-4 B.3.1: odd, above 2^16. The upper bound keeps the work for one token small. */
    if (!BN_is_odd(e) || BN_num_bits(e) < 17)
        return refuse(ret_reason, "an RSA key with an exponent that is even or too small");
    if (BN_num_bits(e) > RSA_MAX_EXPONENT_BITS)
        return refuse(ret_reason, "an RSA key with an exponent of more than 64 bits");
    bool is_fingerprint = true, has_factor = !BN_is_odd(n);
    for (size_t i = 0; i < ARRAY_LEN(small_primes); i++) {
        unsigned residue = (unsigned)BN_mod_word(n, small_primes[i]);
        has_factor = has_factor || residue == 0;
        is_fingerprint = is_fingerprint && is_power_of_65537(residue, small_primes[i]);
    }
    if (has_factor)
        return refuse(ret_reason, "an RSA key whose modulus has a small factor");
    if (is_fingerprint)
        return refuse(ret_reason, "an RSA key of a weak generator (CVE-2017-15361)");
    return 0;
}

/* --- Ed25519 --- */

/* Numbers modulo p = 2^255 - 19; d of the curve -x^2 + y^2 = 1 + d x^2 y^2 (RFC 8032 section 5.1).
 */
static const char p_hex[] = "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed";
static const char d_hex[] = "52036cee2b6ffe738cc740797779e89800700a4d4141d8ab75eb4dca135978a3";

struct edwards {
    BN_CTX *ctx;
    BIGNUM *p, *d, *y;
    BIGNUM *yy;   /* y^2 */
    BIGNUM *u;    /* y^2 - 1 */
    BIGNUM *v;    /* d y^2 + 1; x^2 is u / v */
    BIGNUM *half; /* d y^4 + 2 y^2 - 1 */
    BIGNUM *uv;
};

static bool edwards_compute(struct edwards *at, const unsigned char *key) {
    unsigned char bytes[32];
    memcpy(bytes, key, sizeof bytes);
    bytes[31] &= 0x7f; /* the highest bit is the sign of x */
    BIGNUM **const numbers[] = {&at->p, &at->d, &at->y,    &at->yy,
                                &at->u, &at->v, &at->half, &at->uv};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        *numbers[i] = BN_CTX_get(at->ctx);
        if (*numbers[i] == NULL)
            return false;
    }
    return BN_hex2bn(&at->p, p_hex) != 0 && BN_hex2bn(&at->d, d_hex) != 0 &&
           BN_lebin2bn(bytes, sizeof bytes, at->y) != NULL &&
           BN_mod_sqr(at->yy, at->y, at->p, at->ctx) &&
           BN_mod_sub(at->u, at->yy, BN_value_one(), at->p, at->ctx) &&
           BN_mod_mul(at->v, at->d, at->yy, at->p, at->ctx) &&
           BN_mod_add(at->v, at->v, BN_value_one(), at->p, at->ctx) &&
           BN_mod_mul(at->half, at->v, at->yy, at->p, at->ctx) &&
           BN_mod_add(at->half, at->half, at->u, at->p, at->ctx) &&
           BN_mod_mul(at->uv, at->u, at->v, at->p, at->ctx);
}

/*
 * Of order 1 or 2: y is 1 or -1, and u is 0. Of order 4: y is 0. Of order 8: twice the point has
 * y = 0, so x^2 = -y^2, which the curve's equation turns into d y^4 + 2 y^2 - 1 = 0.
 */
static bool edwards_has_small_order(const struct edwards *at) {
    return BN_is_zero(at->u) || BN_is_zero(at->y) || BN_is_zero(at->half);
}

int jose_ed25519_check(const unsigned char *key, const char **ret_reason) {
    BN_CTX *ctx = BN_CTX_new();
    if (ctx == NULL)
        return -ENOMEM;
    BN_CTX_start(ctx);
    struct edwards at = {.ctx = ctx};
    int r = -ENOMEM;
    if (edwards_compute(&at, key)) {
        int symbol = BN_kronecker(at.uv, at.p, ctx); /* of a square: 1 or 0; of another: -1 */
        if (symbol == -2)
            r = -ENOMEM;
        else if (BN_cmp(at.y, at.p) >= 0 || symbol == -1)
            r = refuse(ret_reason, "an Ed25519 key that is no point of the curve");
        else if (edwards_has_small_order(&at))
            r = refuse(ret_reason, "an Ed25519 key of small order");
        else
            r = 0;
    }
    BN_CTX_end(ctx);
    BN_CTX_free(ctx);
    return r;
}
