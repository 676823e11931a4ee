/* Tokens that are signed here are verified here, by what refuses every mistake; and keys that are
 * not to be used are not. */
#include <openssl/pem.h>

#include "forge.h"
#include "jose/sign.h"

enum form { PKCS8, TRADITIONAL, ENCRYPTED, PUBLIC, DER };

static int ignore_passphrase(char *out, int size, int is_writing, void *context) {
    (void)is_writing, (void)context;
    const char word[] = {'s', 'e', 'c', 'r', 'e', 't'};
    FORGE(size >= (int)sizeof word);
    memcpy(out, word, sizeof word);
    return (int)sizeof word;
}

/* Appends the key in that form. */
static void write_key(struct buf *out, EVP_PKEY *pkey, enum form form) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *bytes = NULL;
    int done = 0;
    FORGE(bio != NULL);
    switch (form) {
    case PKCS8:
        done = PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL);
        break;
    case TRADITIONAL:
        done = PEM_write_bio_PrivateKey_traditional(bio, pkey, NULL, NULL, 0, NULL, NULL);
        break;
    case ENCRYPTED:
        done = PEM_write_bio_PKCS8PrivateKey(bio, pkey, EVP_aes_128_cbc(), NULL, 0,
                                             ignore_passphrase, NULL);
        break;
    case PUBLIC:
        done = PEM_write_bio_PUBKEY(bio, pkey);
        break;
    case DER:
        done = i2d_PKCS8PrivateKey_bio(bio, pkey, NULL, NULL, 0, NULL, NULL);
        break;
    }
    FORGE(done == 1);
    long len = BIO_get_mem_data(bio, &bytes);
    CHECK_INT(buf_append(out, slice_make(bytes, (size_t)len)), 0);
    BIO_free(bio);
}

/* --- what is signed --- */

#define CLAIMS "{\"iss\":\"me\",\"sub\":\"me\",\"exp\":2000000000}"

static void check_token(struct slice token, EVP_PKEY *pkey, enum jose_algorithm algorithm,
                        struct slice key_id) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    CLEANUP(forge_keys_freep) struct jose_keys *keys = NULL;
    struct buf decoded CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    struct jwt jwt;
    const char *reason = "";
    FORGE(json_reader_new(&reader) == 0);
    keys = forge_set_of(pkey, "");
    REQUIRE(jwt_read(reader, token, &decoded, &jwt, &reason) == 0);
    CHECK_INT(jwt.algorithm, algorithm);
    CHECK(jwt.has_kid == (key_id.len != 0));
    CHECK_SLICE(jwt.kid, key_id);
    CHECK_STR(jwt.claims, CLAIMS);
    if (!jwt.has_kid) /* the set's key has no name */
        CHECK_INT(jwt_verify(&jwt, keys, 1u << algorithm, &reason), 0);
    /* Another key of the same kind has not made it. */
    CHECK(jwt_verify(&jwt, keys, JOSE_ALL_ALGORITHMS & ~(1u << algorithm), &reason) != 0);
}

static void check_key(EVP_PKEY *pkey, enum jose_algorithm algorithm, bool has_traditional) {
    for (enum form form = PKCS8; form <= (has_traditional ? TRADITIONAL : PKCS8); form++) {
        struct buf pem CLEANUP(buf_deinit) = FORGE_BUF;
        struct jose_signer *signer = NULL;
        const char *reason = "";
        buf_append_cstr(&pem, "a line that is no PEM\n");
        write_key(&pem, pkey, form);
        REQUIRE(jose_signer_new(buf_slice(&pem), &signer, &reason) == 0);
        CHECK_STR(jose_signer_algorithm(signer), jose_algorithm_name(algorithm));
        /* Now and then a half of an ECDSA signature begins with a zero. */
        for (int i = 0; i < (algorithm == JOSE_ES256 ? 200 : 4); i++) {
            struct slice key_id = i % 2 == 0 ? SLICE_EMPTY : SLICE("k\"1");
            struct buf token CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
            CHECK_INT(jose_sign(signer, key_id, SLICE(CLAIMS), &token), 0);
            check_token(buf_slice(&token), pkey, algorithm, key_id);
        }
        jose_signer_free(signer);
    }
    EVP_PKEY_free(pkey);
}

static void test_each_kind(void) {
    check_key(forge_rsa(2048, 2), JOSE_RS256, true);
    check_key(forge_rsa(8192, 5), JOSE_RS256, true);
    check_key(forge_ec("P-256"), JOSE_ES256, true);
    check_key(forge_ec("P-384"), JOSE_ES384, true);
    check_key(forge_ec("P-521"), JOSE_ES512, true);
    check_key(forge_okp("ED25519"), JOSE_EDDSA, false);
}

static void test_room(void) {
    struct buf pem CLEANUP(buf_deinit) = FORGE_BUF;
    struct buf small CLEANUP(buf_deinit) = BUF_INIT(20);
    struct jose_signer *signer = NULL;
    const char *reason = "";
    EVP_PKEY *pkey = forge_okp("ED25519");
    write_key(&pem, pkey, PKCS8);
    REQUIRE(jose_signer_new(buf_slice(&pem), &signer, &reason) == 0);
    CHECK_INT(jose_sign(signer, SLICE_EMPTY, SLICE(CLAIMS), &small), -E2BIG);
    CHECK_INT(buf_len(&small), 0);
    jose_signer_free(signer);
    EVP_PKEY_free(pkey);
}

/* --- what is not to be used --- */

static void check_refused(struct slice pem, const char *expect) {
    struct jose_signer *signer = NULL;
    const char *reason = "";
    CHECK_INT(jose_signer_new(pem, &signer, &reason), JOSE_E_KEY);
    CHECK(signer == NULL);
    CHECK_STR(slice_from_cstr(reason), expect);
    jose_signer_free(signer);
}

static void check_refused_key(EVP_PKEY *pkey, enum form form, const char *expect) {
    struct buf pem CLEANUP(buf_deinit) = FORGE_BUF;
    write_key(&pem, pkey, form);
    check_refused(buf_slice(&pem), expect);
    EVP_PKEY_free(pkey);
}

#define NO_PEM    "the file holds no private key in PEM"
#define NO_CURVE  "a key on another curve than P-256, P-384 and P-521"
#define PROTECTED "the private key is protected with a passphrase"
#define NO_KIND   "a key that is neither RSA nor on P-256, P-384, P-521 or Ed25519"

static void test_refused_keys(void) {
    check_refused_key(forge_rsa(1024, 2), PKCS8, "an RSA key of less than 2048 bits");
    check_refused_key(forge_rsa(2040, 2), TRADITIONAL, "an RSA key of less than 2048 bits");
    check_refused_key(forge_ec("secp256k1"), PKCS8, NO_CURVE);
    check_refused_key(forge_ec("secp224r1"), TRADITIONAL, NO_CURVE);
    check_refused_key(forge_okp("ED448"), PKCS8, NO_KIND);
    check_refused_key(forge_okp("X25519"), PKCS8, NO_KIND);
    check_refused_key(forge_ec("P-256"), ENCRYPTED, PROTECTED);
    check_refused_key(forge_rsa(2048, 2), ENCRYPTED, PROTECTED);
    check_refused_key(forge_ec("P-256"), PUBLIC, NO_PEM);
    check_refused_key(forge_ec("P-256"), DER, NO_PEM);
}

static void test_refused_files(void) {
    struct buf pem CLEANUP(buf_deinit) = FORGE_BUF;
    struct buf two CLEANUP(buf_deinit) = FORGE_BUF;
    EVP_PKEY *pkey = forge_ec("P-256"), *other = forge_okp("ED25519");
    check_refused(SLICE_EMPTY, NO_PEM);
    check_refused(SLICE("x"), NO_PEM);
    check_refused(SLICE("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), NO_PEM);
    check_refused(SLICE("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), NO_PEM);
    write_key(&pem, pkey, PKCS8);
    buf_append(&two, buf_slice(&pem));
    write_key(&two, other, PKCS8);
    check_refused(buf_slice(&two), "the file holds more than one private key");
    /* Every beginning of it, in memory of its own, and every byte changed. */
    size_t len = buf_len(&pem);
    for (size_t n = 0; n + 3 < len; n++) {
        char *copy = mem_xalloc(n);
        memcpy(copy, buf_slice(&pem).ptr, n);
        struct jose_signer *signer = NULL;
        const char *reason = "";
        CHECK(jose_signer_new(slice_make(copy, n), &signer, &reason) != 0 ||
              n + strlen("-----\n") >= len);
        jose_signer_free(signer);
        mem_free(copy);
    }
    char *changed = mem_xalloc(len);
    for (size_t n = 0; n < len; n++) {
        struct jose_signer *signer = NULL;
        const char *reason = "";
        memcpy(changed, buf_slice(&pem).ptr, len);
        changed[n] ^= 1;
        if (jose_signer_new(slice_make(changed, len), &signer, &reason) != 0)
            CHECK(reason[0] != '\0');
        jose_signer_free(signer);
    }
    mem_free(changed);
    EVP_PKEY_free(pkey);
    EVP_PKEY_free(other);
}

/* --- without memory --- */

static void sign_once(void *arg) {
    const struct buf *pem = arg;
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    struct jose_signer *signer = NULL;
    const char *reason = "";
    int error = jose_signer_new(buf_slice(pem), &signer, &reason);
    CHECK(error == 0 || error == -ENOMEM);
    if (error == 0) {
        error = jose_sign(signer, SLICE("k"), SLICE(CLAIMS), &token);
        CHECK(error == 0 || error == -ENOMEM);
        CHECK(error != 0 || buf_len(&token) != 0);
    }
    jose_signer_free(signer);
}

static void test_without_memory(void) {
    struct buf pem CLEANUP(buf_deinit) = FORGE_BUF;
    EVP_PKEY *pkey = forge_ec("P-256");
    write_key(&pem, pkey, PKCS8);
    test_torture(sign_once, &pem);
    EVP_PKEY_free(pkey);
}

TEST_MAIN(TEST(test_each_kind), TEST(test_room), TEST(test_refused_keys), TEST(test_refused_files),
          TEST(test_without_memory))
