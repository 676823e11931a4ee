/*
 * What must hold for tokens with any input. The input is taken three times: as a token; as edits of
 * good tokens, none of which may pass then; and as header and claims (in two lines) of a token that
 * is signed with a secret, which has to verify. What is read lies in the buffers that it is said to
 * lie in, encodes to the same text, and reads the same twice. A rule that breaks ends the process.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "jose/jwt.h"
#include "jose/keys.h"
#include "json/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { NOW = 1700000000, LEEWAY = 60 };

/* The public keys of RFC 7515 A.2 and A.3 and of RFC 8037 A.2. */
static const char jwks[] =
    "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPd"
    "dxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9"
    "wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZl"
    "xvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FR"
    "WyuXpoQ\",\"e\":\"AQAB\"},{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHM"
    "zV76e8Tus9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"},{\"kty\":\"OKP\","
    "\"crv\":\"Ed25519\",\"kid\":\"ed\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
static const char secret[] = "a secret of this test and of no one else";

#define CLAIMS                                                                                     \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "fQ"
/* RFC 7515 A.2 and A.3. */
static const char *const good[] = {
    "eyJhbGciOiJSUzI1NiJ9." CLAIMS
    ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5"
    "jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1"
    "L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYE"
    "UipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    "eyJhbGciOiJFUzI1NiJ9." CLAIMS
    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
};

struct world {
    struct json_reader *reader;
    struct jose_keys *keys, *secret;
    struct buf decoded;
};

static void world_begin(struct world *world) {
    struct jose_keys_report report;
    const char *reason;
    *world = (struct world){.decoded = BUF_INIT(LIMIT_JWT)};
    MUST(json_reader_new(&world->reader) == 0);
    MUST(jose_keys_read(world->reader, slice_make(jwks, sizeof jwks - 1), &world->keys, &report,
                        &reason) == 0);
    MUST(report.n_used == 3);
    MUST(jose_keys_from_secret(slice_make(secret, sizeof secret - 1), &world->secret) == 0);
}

static void world_end(struct world *world) {
    json_reader_free(world->reader);
    jose_keys_unref(world->keys);
    jose_keys_unref(world->secret);
    buf_deinit(&world->decoded);
}

/* --- reading --- */

static void must_lie_inside(struct slice whole, struct slice part) {
    MUST(part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len));
}

/* There is one way to write a part: that of the token. */
static void must_encode(struct slice text, struct slice bytes) {
    struct buf again CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    MUST(base64url_encode(&again, bytes) == 0 && slice_eq(buf_slice(&again), text));
}

static void must_be_date(uint64_t seconds) {
    MUST(seconds == UINT64_MAX || seconds <= (uint64_t)1 << 53);
}

static void must_hold(const struct world *world, struct slice token, const struct jwt *jwt) {
    struct slice inside = buf_slice(&world->decoded), header, claims, signature;
    MUST(token.len <= LIMIT_JWT && slice_eq(jwt->token, token));
    must_lie_inside(inside, jwt->claims);
    must_lie_inside(inside, jwt->kid);
    must_lie_inside(inside, jwt->issuer);
    must_lie_inside(inside, jwt->subject);
    must_lie_inside(inside, jwt->signature);
    must_lie_inside(token, jwt->signed_part);
    MUST(slice_cut(token, '.', &header, &claims) && slice_cut(claims, '.', &claims, &signature));
    MUST(jwt->signed_part.len == header.len + 1 + claims.len);
    must_encode(claims, jwt->claims);
    must_encode(signature, jwt->signature);
    MUST(jwt->signature.len > 0 && jwt->claims.len >= 2 && jwt->algorithm < JOSE_ALGORITHM_COUNT);
    MUST(jwt->has_issuer == (jwt->issuer.len > 0) && jwt->has_subject == (jwt->subject.len > 0));
    must_be_date(jwt->expires_s);
    must_be_date(jwt->not_before_s);
    must_be_date(jwt->issued_s);
}

static void must_be_same(const struct jwt *a, const struct jwt *b) {
    MUST(a->algorithm == b->algorithm && a->is_at_jwt == b->is_at_jwt);
    MUST(a->expires_s == b->expires_s && a->not_before_s == b->not_before_s);
    MUST(a->has_kid == b->has_kid && slice_eq(a->kid, b->kid) && a->issued_s == b->issued_s);
    MUST(slice_eq(a->issuer, b->issuer) && slice_eq(a->subject, b->subject));
    MUST(slice_eq(a->claims, b->claims) && slice_eq(a->signature, b->signature));
}

/* True: it was read. */
static bool read_token(struct world *world, struct slice token, struct jwt *ret_jwt) {
    struct buf decoded CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    struct jwt again;
    const char *reason = NULL;
    int r = jwt_read(world->reader, token, &world->decoded, ret_jwt, &reason);
    MUST(r == 0 || (r == JWT_E_REFUSED && reason != NULL));
    MUST(jwt_read(world->reader, token, &decoded, &again, &reason) == r);
    if (r != 0)
        return false;
    must_hold(world, token, ret_jwt);
    must_be_same(ret_jwt, &again);
    return true;
}

static bool is_good(struct slice token) {
    bool is = false;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        is = is || slice_eq(token, slice_from_cstr(good[i]));
    return is;
}

/* --- the three ways --- */

static void check_token(struct world *world, struct slice token) {
    struct jwt jwt;
    const char *reason;
    if (!read_token(world, token, &jwt))
        return;
    int r = jwt_verify(&jwt, world->keys, JOSE_ALL_ALGORITHMS, &reason);
    MUST(r >= 0 && (r == 0) == is_good(token));
    MUST(jwt_verify(&jwt, world->keys, 0, &reason) == JWT_E_REFUSED);
    MUST(jwt_verify(&jwt, world->secret, JOSE_ALL_ALGORITHMS, &reason) == JWT_E_REFUSED);
}

/* Each three bytes of the input: a place, and what is there from now on. */
static void check_edits(struct world *world, struct slice edits) {
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct buf token CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        MUST(buf_append_cstr(&token, good[i]) == 0);
        for (size_t at = 0; at + 3 <= edits.len && at < 64; at += 3) {
            size_t place = (unsigned char)edits.ptr[at] * 256u + (unsigned char)edits.ptr[at + 1];
            token.data[token.start + place % buf_len(&token)] = edits.ptr[at + 2];
        }
        check_token(world, buf_slice(&token));
    }
}

static void check_claims(struct world *world, const struct jwt *jwt) {
    static const struct slice audience = SLICE_INIT("a");
    const struct jwt_rules any = {.leeway_s = LEEWAY};
    const struct jwt_rules strict = {.issuer = SLICE("i"),
                                     .audiences = &audience,
                                     .n_audiences = 1,
                                     .needs_at_jwt = true,
                                     .leeway_s = LEEWAY};
    const char *reason = NULL;
    int loose = jwt_check(world->reader, jwt, &any, NOW, &reason);
    MUST(loose == 0 || (loose == JWT_E_REFUSED && reason != NULL));
    if (loose == 0) {
        MUST(jwt->expires_s != UINT64_MAX && jwt->expires_s + LEEWAY > NOW);
        MUST(jwt->not_before_s == UINT64_MAX || jwt->not_before_s <= NOW + LEEWAY);
        MUST(jwt->issued_s == UINT64_MAX || jwt->issued_s <= NOW + LEEWAY);
    }
    if (jwt_check(world->reader, jwt, &strict, NOW, &reason) == 0)
        MUST(loose == 0 && jwt->is_at_jwt && slice_eq(jwt->issuer, SLICE("i")) &&
             slice_find(jwt->claims, SLICE("\"a")) != SIZE_MAX);
}

static void check_signed(struct world *world, struct slice input) {
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    struct slice header, claims;
    struct jwt jwt;
    const char *reason;
    slice_cut(input, '\n', &header, &claims);
    if (input.len > LIMIT_JWT)
        return;
    base64url_encode(&token, header);
    buf_append_byte(&token, '.');
    base64url_encode(&token, claims);
    MUST(HMAC(EVP_sha256(), secret, sizeof secret - 1, (const unsigned char *)buf_slice(&token).ptr,
              buf_len(&token), mac, &len) != NULL);
    buf_append_byte(&token, '.');
    base64url_encode(&token, slice_make(mac, len));
    if (!read_token(world, buf_slice(&token), &jwt))
        return;
    int r = jwt_verify(&jwt, world->secret, JOSE_ALL_ALGORITHMS, &reason);
    MUST((r == 0) == (jwt.algorithm == JOSE_HS256));
    MUST(jwt_verify(&jwt, world->keys, JOSE_ALL_ALGORITHMS, &reason) != 0);
    check_claims(world, &jwt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice input = slice_make(data, size);
    struct world world;
    world_begin(&world);
    check_token(&world, input);
    check_edits(&world, input);
    check_signed(&world, input);
    world_end(&world);
    return 0;
}
