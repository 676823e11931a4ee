/*
 * What has been tried against readers of JWTs: an issuer with a set of keys, forgers, and rows, one
 * an attack. A row is refused where it has to be, and for its own reason: a token that is refused
 * for another one does not show that the attack fails. Rows that pass ("control") stand between
 * them, so that nothing is refused for being unusual.
 */
#pragma once

#include <openssl/pem.h>

#include "forge.h"

#define NOW     1700000000u
#define LEEWAY  60u
#define ISSUER  "https://issuer.example"
#define GATEWAY "https://gateway.example/mcp"

#define ISS "\"iss\":\"" ISSUER "\","
#define AUD "\"aud\":\"" GATEWAY "\","
#define SUB "\"sub\":\"alice\","
#define EXP "\"exp\":1700000300"

/* --- who signs --- */

enum pair {
    PAIR_EC,
    PAIR_EC384,
    PAIR_EC521,
    PAIR_RSA,
    PAIR_RSA_RS256,
    PAIR_RSA_PS256,
    PAIR_ED,
    PAIR_X25519,
    PAIR_K1,
    PAIR_WEAK,
    PAIR_FOREIGN,
    PAIRS
};

/* How the public half of "rsa" or "ec" may be spelled, to be taken for the secret of an HMAC. */
enum spelling {
    NO_SECRET,
    EMPTY,
    PEM,
    PEM_WITHOUT_END,
    PEM_CRLF,
    PEM_BODY,
    PEM_PKCS1,
    DER,
    DER_PKCS1,
    JWK,
    JWK_SET,
    MODULUS,
    MODULUS_TEXT,
    EC_PEM,
    EC_DER,
    EC_POINT_BYTES,
    ED_BYTES,
    OCT,
    SPELLINGS
};

static struct {
    EVP_PKEY *pairs[PAIRS];
    struct jose_keys *keys;
    struct buf spelled[SPELLINGS];
} world;

static void spell_pem(enum spelling how, EVP_PKEY *pkey, bool is_pkcs1) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    FORGE(bio != NULL);
    if (is_pkcs1) {
        unsigned char *der = NULL;
        int len = i2d_PublicKey(pkey, &der);
        FORGE(len > 0 && PEM_write_bio(bio, "RSA PUBLIC KEY", "", der, len) > 0);
        OPENSSL_free(der);
    } else {
        FORGE(PEM_write_bio_PUBKEY(bio, pkey) == 1);
    }
    long len = BIO_get_mem_data(bio, &text);
    buf_append(&world.spelled[how], slice_make(text, (size_t)len));
    BIO_free(bio);
}

static void spell_der(enum spelling how, EVP_PKEY *pkey, bool is_pkcs1) {
    unsigned char *der = NULL;
    int len = is_pkcs1 ? i2d_PublicKey(pkey, &der) : i2d_PUBKEY(pkey, &der);
    FORGE(len > 0);
    buf_append(&world.spelled[how], slice_make(der, (size_t)len));
    OPENSSL_free(der);
}

static void spell_variants(void) {
    struct slice pem = buf_slice(&world.spelled[PEM]), line, rest = pem;
    buf_append(&world.spelled[PEM_WITHOUT_END], slice_sub(pem, 0, pem.len - 1));
    while (rest.len > 0) {
        slice_cut(rest, '\n', &line, &rest);
        buf_append(&world.spelled[PEM_CRLF], line);
        buf_append_cstr(&world.spelled[PEM_CRLF], "\r\n");
        if (!slice_starts_with(line, SLICE("-----")))
            buf_append(&world.spelled[PEM_BODY], line);
    }
}

static void spell_all(void) {
    unsigned char bytes[256];
    size_t len = sizeof bytes;
    BIGNUM *n = NULL;
    for (int i = 0; i < SPELLINGS; i++)
        buf_init(&world.spelled[i], KIB(64));
    spell_pem(PEM, world.pairs[PAIR_RSA], false);
    spell_pem(PEM_PKCS1, world.pairs[PAIR_RSA], true);
    spell_pem(EC_PEM, world.pairs[PAIR_EC], false);
    spell_der(DER, world.pairs[PAIR_RSA], false);
    spell_der(DER_PKCS1, world.pairs[PAIR_RSA], true);
    spell_der(EC_DER, world.pairs[PAIR_EC], false);
    spell_der(EC_POINT_BYTES, world.pairs[PAIR_EC], true);
    spell_variants();
    forge_jwk(&world.spelled[JWK], world.pairs[PAIR_RSA], "");
    buf_append_cstr(&world.spelled[JWK_SET], "{\"keys\":[");
    buf_append(&world.spelled[JWK_SET], buf_slice(&world.spelled[JWK]));
    buf_append_cstr(&world.spelled[JWK_SET], "]}");
    FORGE(EVP_PKEY_get_bn_param(world.pairs[PAIR_RSA], OSSL_PKEY_PARAM_RSA_N, &n) == 1);
    FORGE(BN_bn2binpad(n, bytes, sizeof bytes) == (int)sizeof bytes);
    buf_append(&world.spelled[MODULUS], slice_make(bytes, sizeof bytes));
    base64url_encode(&world.spelled[MODULUS_TEXT], slice_make(bytes, sizeof bytes));
    BN_free(n);
    FORGE(EVP_PKEY_get_raw_public_key(world.pairs[PAIR_ED], bytes, &len) == 1);
    buf_append(&world.spelled[ED_BYTES], slice_make(bytes, len));
    buf_append_cstr(&world.spelled[OCT], "0123456789abcdef0123456789abcdef");
    for (int i = 0; i < SPELLINGS; i++)
        FORGE(buf_error(&world.spelled[i]) == 0 &&
              (i <= EMPTY) == (buf_len(&world.spelled[i]) == 0));
}

/* The issuer's set, with keys in it that must not count. */
static void publish(void) {
    static const struct {
        enum pair pair;
        const char *more;
    } rows[] = {
        {PAIR_EC, ",\"kid\":\"ec\",\"use\":\"sig\",\"alg\":\"ES256\""},
        {PAIR_EC384, ",\"kid\":\"ec384\""},
        {PAIR_EC521, ",\"kid\":\"ec521\""},
        {PAIR_RSA, ",\"kid\":\"rsa\",\"use\":\"sig\""},
        {PAIR_RSA_RS256, ",\"kid\":\"rs256\",\"alg\":\"RS256\""},
        {PAIR_RSA_PS256, ",\"kid\":\"ps256\",\"alg\":\"PS256\""},
        {PAIR_ED, ",\"kid\":\"ed\""},
        {PAIR_X25519, ",\"kid\":\"x\""},
        {PAIR_K1, ",\"kid\":\"k1\""},
        {PAIR_WEAK, ",\"kid\":\"weak\""},
        {PAIR_FOREIGN, ",\"kid\":\"enc\",\"use\":\"enc\""},
        {PAIR_FOREIGN, ",\"kid\":\"ops\",\"key_ops\":[\"sign\"]"},
        {PAIR_FOREIGN, ",\"kid\":\"leaked\",\"d\":\"AQAB\""},
    };
    struct buf jwks CLEANUP(buf_deinit) = FORGE_BUF;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        forge_jwk(&jwks, world.pairs[rows[i].pair], rows[i].more);
        buf_append_cstr(&jwks, ",");
    }
    buf_append_cstr(&jwks, "{\"kty\":\"oct\",\"kid\":\"oct\",\"k\":\"");
    base64url_encode(&jwks, buf_slice(&world.spelled[OCT]));
    buf_append_cstr(&jwks, "\"},"
                           "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"small\",\"x\":"
                           "\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}");
    buf_append_byte(&jwks, '\0');
    world.keys = forge_set(buf_slice(&jwks).ptr);
    FORGE(jose_keys_count(world.keys) == 7);
}

static void world_begin(void) {
    world.pairs[PAIR_EC] = forge_ec("P-256");
    world.pairs[PAIR_EC384] = forge_ec("P-384");
    world.pairs[PAIR_EC521] = forge_ec("P-521");
    world.pairs[PAIR_RSA] = forge_rsa(2048, 2);
    world.pairs[PAIR_RSA_RS256] = forge_rsa(2048, 2);
    world.pairs[PAIR_RSA_PS256] = forge_rsa(2048, 2);
    world.pairs[PAIR_ED] = forge_okp("ED25519");
    world.pairs[PAIR_X25519] = forge_okp("X25519");
    world.pairs[PAIR_K1] = forge_ec("secp256k1");
    world.pairs[PAIR_WEAK] = forge_rsa(1024, 2);
    world.pairs[PAIR_FOREIGN] = forge_ec("P-256");
    spell_all();
    publish();
}

static void world_end(void) {
    for (int i = 0; i < PAIRS; i++)
        EVP_PKEY_free(world.pairs[i]);
    for (int i = 0; i < SPELLINGS; i++)
        buf_deinit(&world.spelled[i]);
    world.keys = jose_keys_unref(world.keys);
}

/* --- rows --- */

struct attack {
    const char *name;
    const char *header; /* NULL: that of the control */
    const char *claims; /* likewise */
    enum pair by;
    enum jose_algorithm as; /* of the signature; JOSE_RS256 means that of the pair */
    enum spelling secret;   /* an HMAC with it in place of a signature */
    const char *token;      /* all of it */
    void (*spoil)(struct buf *token);
    bool needs_at_jwt;
    enum forge_stage stage;
    const char *reason; /* a part of it */
};

/* --- rows in short --- */

/* The control with another header, or with other claims. */
#define BY_HEADER(n, h, s, r)                                                                      \
    { .name = n, .header = h, .stage = s, .reason = r }
#define BY_CLAIMS(n, c, s, r)                                                                      \
    { .name = n, .claims = c, .stage = s, .reason = r }
#define SPOILED(n, how, s, r)                                                                      \
    { .name = n, .spoil = how, .stage = s, .reason = r }
#define WHOLE(n, t, r)                                                                             \
    { .name = n, .token = t, .stage = AT_READ, .reason = r }
#define SIGNED_BY(n, h, p, s, r)                                                                   \
    { .name = n, .header = h, .by = p, .stage = s, .reason = r }
#define WITH_SECRET(n, h, w, s, r)                                                                 \
    { .name = n, .header = h, .secret = w, .stage = s, .reason = r }
#define FORGED(n, h, p, how, s, r)                                                                 \
    { .name = n, .header = h, .by = p, .spoil = how, .stage = s, .reason = r }

#define H(rest)    "{\"alg\":\"ES256\",\"kid\":\"ec\"," rest "}"
#define ALG(value) "{\"alg\":" value ",\"kid\":\"ec\"}"
#define KID(value) "{\"alg\":\"ES256\",\"kid\":" value "}"
#define AK(a, k)   "{\"alg\":\"" a "\",\"kid\":\"" k "\"}"

static enum jose_algorithm own_algorithm(enum pair pair) {
    switch (pair) {
    case PAIR_EC:
    case PAIR_K1:
    case PAIR_FOREIGN:
    case PAIR_X25519:
    case PAIRS:
        return JOSE_ES256;
    case PAIR_EC384:
        return JOSE_ES384;
    case PAIR_EC521:
        return JOSE_ES512;
    case PAIR_RSA_PS256:
        return JOSE_PS256;
    case PAIR_ED:
        return JOSE_EDDSA;
    case PAIR_RSA:
    case PAIR_RSA_RS256:
    case PAIR_WEAK:
        break;
    }
    return JOSE_RS256;
}

static void forge(const struct attack *row, struct buf *token) {
    const char *header = row->header != NULL ? row->header : AK("ES256", "ec");
    const char *claims = row->claims != NULL ? row->claims : "{" ISS SUB AUD EXP "}";
    struct slice head = slice_from_cstr(header), body = slice_from_cstr(claims);
    enum jose_algorithm as = row->as != JOSE_RS256 ? row->as : own_algorithm(row->by);
    if (row->token != NULL)
        buf_append_cstr(token, row->token);
    else if (row->secret != NO_SECRET)
        forge_mac_token(token, head, body, buf_slice(&world.spelled[row->secret]),
                        row->as != JOSE_RS256 ? row->as : JOSE_HS256);
    else
        forge_token(token, head, body, world.pairs[row->by], as);
    if (row->spoil != NULL)
        row->spoil(token);
}

static void run(const struct attack *row) {
    struct buf token CLEANUP(buf_deinit) = FORGE_BUF;
    const struct slice audience = SLICE(GATEWAY);
    const struct jwt_rules rules = {.issuer = SLICE(ISSUER),
                                    .audiences = &audience,
                                    .n_audiences = 1,
                                    .needs_at_jwt = row->needs_at_jwt,
                                    .leeway_s = LEEWAY};
    const char *reason;
    test_row(row->name);
    forge(row, &token);
    FORGE(buf_error(&token) == 0);
    enum forge_stage stage =
        forge_judge(buf_slice(&token), world.keys, JOSE_ALL_ALGORITHMS, &rules, NOW, &reason);
    CHECK_INT(stage, row->stage);
    const char *expected = row->reason != NULL ? row->reason : "";
    bool is_its_own =
        strstr(reason, expected) != NULL && (row->stage == PASSES) == (reason[0] == '\0');
    CHECK(is_its_own);
    if (!is_its_own)
        printf("#   said \"%s\"\n", reason);
}

MAYBE_UNUSED static void run_all(const struct attack *rows, size_t n) {
    for (size_t i = 0; i < n; i++)
        run(&rows[i]);
}
#define RUN_ALL(rows) run_all(rows, ARRAY_LEN(rows))

/* --- spoiling --- */

MAYBE_UNUSED static struct slice part_of(const struct buf *token, int index) {
    struct slice part = SLICE_EMPTY, rest = buf_slice(token);
    for (int i = 0; i <= index; i++)
        (void)slice_cut(rest, '.', &part, &rest);
    return part;
}

MAYBE_UNUSED static void replace_part(struct buf *token, int index, struct slice text) {
    struct buf made CLEANUP(buf_deinit) = FORGE_BUF;
    for (int i = 0; i < 3; i++) {
        buf_append_cstr(&made, i > 0 ? "." : "");
        buf_append(&made, i == index ? text : part_of(token, i));
    }
    buf_reset(token, SIZE_MAX);
    buf_append(token, buf_slice(&made));
}

MAYBE_UNUSED static void replace_signature(struct buf *token, struct slice bytes) {
    struct buf text CLEANUP(buf_deinit) = FORGE_BUF;
    base64url_encode(&text, bytes);
    replace_part(token, 2, buf_slice(&text));
}

/* The signature's bytes. */
MAYBE_UNUSED static size_t signature_of(const struct buf *token, unsigned char out[static 1024]) {
    struct buf bytes CLEANUP(buf_deinit) = FORGE_BUF;
    FORGE(base64url_decode(&bytes, part_of(token, 2)) == 0 && buf_len(&bytes) <= 1024);
    memcpy(out, buf_slice(&bytes).ptr, buf_len(&bytes));
    return buf_len(&bytes);
}

MAYBE_UNUSED static void without_signature(struct buf *token) {
    replace_part(token, 2, SLICE(""));
}

MAYBE_UNUSED static void without_second_point(struct buf *token) {
    replace_part(token, 2, SLICE(""));
    buf_truncate(token, buf_len(token) - 1);
}

MAYBE_UNUSED static void test_begin(void) {
    world_begin();
    CHECK(world.keys != NULL);
}

MAYBE_UNUSED static void test_end(void) {
    world_end();
    CHECK(world.keys == NULL);
}
