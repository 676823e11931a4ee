/*
 * Signing with a key of the gateway's own. What may be signed with is what jose/ would verify: the
 * bounds of keys are those of jwk.c, so an assertion that is sent is one that a strict server can
 * take.
 *
 * The PEM is read from memory that is wiped, and libcrypto holds what it makes of it. A file with a
 * passphrase is refused without anybody being asked for one: OpenSSL's own way would be to read it
 * from the terminal.
 */
#include "jose/sign.h"

#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

#include "base/base64.h"
#include "base/limits.h"
#include "base/mem.h"
#include "json/writer.h"
#include "private.h"

enum { MAX_SIGNATURE = 1024, MAX_PEM = 64 * 1024 };

struct jose_signer {
    EVP_PKEY *pkey;
    enum jose_algorithm algorithm;
    size_t coordinate; /* of ECDSA: each half of a signature has that many bytes; else 0 */
};

static int refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return JOSE_E_KEY;
}

/* --- reading a key --- */

/* -1: there is no passphrase, which is an error. *context says that one was asked for. */
static int no_passphrase(char *out, int size, int is_writing, void *context) {
    bool *was_asked = context;
    (void)out, (void)size, (void)is_writing;
    *was_asked = true;
    return -1;
}

static int read_pem(struct slice pem, EVP_PKEY **ret_pkey, const char **ret_reason) {
    bool was_asked = false;
    if (pem.len == 0 || pem.len > MAX_PEM)
        return refuse(ret_reason, "the file holds no private key in PEM");
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    if (bio == NULL)
        return -ENOMEM;
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &was_asked);
    int error = pkey == NULL ? jose_crypto_error() : 0;
    if (error > 0)
        error = refuse(ret_reason, was_asked ? "the private key is protected with a passphrase"
                                             : "the file holds no private key in PEM");
    /* Which of two is meant nobody can say. */
    EVP_PKEY *second =
        error == 0 ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &was_asked) : NULL;
    if (second != NULL || was_asked)
        error = error != 0 ? error : refuse(ret_reason, "the file holds more than one private key");
    ERR_clear_error();
    EVP_PKEY_free(second);
    BIO_free(bio);
    if (error == 0)
        *ret_pkey = pkey;
    else
        EVP_PKEY_free(pkey);
    return error;
}

static int check_rsa(struct jose_signer *signer, const char **ret_reason) {
    BIGNUM *n = NULL, *e = NULL;
    int error = -ENOMEM;
    if (EVP_PKEY_get_bn_param(signer->pkey, OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
        EVP_PKEY_get_bn_param(signer->pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1)
        error = jose_rsa_check(n, e, ret_reason);
    BN_free(n);
    BN_free(e);
    signer->algorithm = JOSE_RS256;
    return error > 0 ? JOSE_E_KEY : error;
}

struct curve {
    const char *name;
    enum jose_algorithm algorithm;
    size_t coordinate;
};

/* RFC 7518 section 3.4. */
static int check_ec(struct jose_signer *signer, const char **ret_reason) {
    static const struct curve curves[] = {
        {"prime256v1", JOSE_ES256, 32},
        {"secp384r1", JOSE_ES384, 48},
        {"secp521r1", JOSE_ES512, 66},
    };
    char name[64] = "";
    size_t len = 0;
    /* A curve that is spelled out in numbers has no name, and may be any (CVE-2020-0601). */
    if (EVP_PKEY_get_group_name(signer->pkey, name, sizeof name, &len) == 1) {
        for (size_t i = 0; i < ARRAY_LEN(curves); i++) {
            if (strcmp(curves[i].name, name) == 0) {
                signer->algorithm = curves[i].algorithm;
                signer->coordinate = curves[i].coordinate;
                return 0;
            }
        }
    }
    return refuse(ret_reason, "a key on another curve than P-256, P-384 and P-521");
}

static int check(struct jose_signer *signer, const char **ret_reason) {
    if (EVP_PKEY_is_a(signer->pkey, "RSA"))
        return check_rsa(signer, ret_reason);
    if (EVP_PKEY_is_a(signer->pkey, "EC"))
        return check_ec(signer, ret_reason);
    if (EVP_PKEY_is_a(signer->pkey, "ED25519")) {
        signer->algorithm = JOSE_EDDSA;
        return 0;
    }
    return refuse(ret_reason, "a key that is neither RSA nor on P-256, P-384, P-521 or Ed25519");
}

static void freep(struct jose_signer **signer) {
    *signer = jose_signer_free(*signer);
}

int jose_signer_new(struct slice pem, struct jose_signer **ret_signer, const char **ret_reason) {
    struct jose_signer *signer CLEANUP(freep) = mem_alloc(sizeof *signer);
    if (signer == NULL)
        return -ENOMEM;
    ERR_clear_error();
    int error = read_pem(pem, &signer->pkey, ret_reason);
    if (error == 0)
        error = check(signer, ret_reason);
    ERR_clear_error();
    if (error == 0)
        *ret_signer = TAKE(signer);
    return error;
}

struct jose_signer *jose_signer_free(struct jose_signer *signer) {
    if (signer != NULL) {
        EVP_PKEY_free(signer->pkey); /* wipes what is private */
        mem_free(signer);
    }
    return NULL;
}

struct slice jose_signer_algorithm(const struct jose_signer *signer) {
    return slice_from_cstr(jose_algorithm_name(signer->algorithm));
}

/* --- signing --- */

/* RFC 7518 section 3.4: both numbers side by side, in place of the DER that libcrypto makes. */
static int split_ecdsa(const struct jose_signer *signer, unsigned char *signature, size_t *len) {
    const unsigned char *at = signature;
    unsigned char both[2 * 66];
    ECDSA_SIG *parts = d2i_ECDSA_SIG(NULL, &at, (long)*len);
    int half = (int)signer->coordinate;
    bool is_split = parts != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(parts), both, half) == half &&
                    BN_bn2binpad(ECDSA_SIG_get0_s(parts), both + half, half) == half;
    ECDSA_SIG_free(parts);
    if (!is_split)
        return -ENOMEM;
    *len = 2 * signer->coordinate;
    memcpy(signature, both, *len);
    return 0;
}

static int make_signature(const struct jose_signer *signer, struct slice text,
                          unsigned char out[static MAX_SIGNATURE], size_t *ret_len) {
    const EVP_MD *hash = signer->algorithm == JOSE_EDDSA   ? NULL
                         : signer->algorithm == JOSE_ES384 ? EVP_sha384()
                         : signer->algorithm == JOSE_ES512 ? EVP_sha512()
                                                           : EVP_sha256();
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t len = MAX_SIGNATURE;
    ERR_clear_error();
    /* The key was looked at when it was read: what goes wrong here is a lack of memory. */
    int error = -ENOMEM;
    if (context != NULL && EVP_DigestSignInit(context, NULL, hash, NULL, signer->pkey) == 1 &&
        EVP_DigestSign(context, out, &len, (const unsigned char *)text.ptr, text.len) == 1)
        error = signer->coordinate != 0 ? split_ecdsa(signer, out, &len) : 0;
    ERR_clear_error();
    EVP_MD_CTX_free(context);
    if (error == 0)
        *ret_len = len;
    return error;
}

static int write_header(const struct jose_signer *signer, struct slice key_id, struct buf *out) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("alg"), jose_signer_algorithm(signer));
    json_kv_string(&writer, SLICE("typ"), SLICE("JWT"));
    if (!slice_is_empty(key_id))
        json_kv_string(&writer, SLICE("kid"), key_id);
    json_object_end(&writer);
    return buf_error(out);
}

int jose_sign(const struct jose_signer *signer, struct slice key_id, struct slice claims,
              struct buf *out) {
    struct buf header CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    unsigned char signature[MAX_SIGNATURE];
    size_t len = 0;
    int error = write_header(signer, key_id, &header);
    if (error != 0)
        return error;
    base64url_encode(&token, buf_slice(&header));
    buf_append_byte(&token, '.');
    base64url_encode(&token, claims);
    error = buf_error(&token);
    if (error == 0)
        error = make_signature(signer, buf_slice(&token), signature, &len);
    if (error != 0)
        return error;
    buf_append_byte(&token, '.');
    base64url_encode(&token, slice_make(signature, len));
    error = buf_error(&token);
    return error != 0 ? error : buf_append(out, buf_slice(&token));
}
