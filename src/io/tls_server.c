/*
 * Contexts for connections that come. Everything is checked when the context is made, so that a
 * wrong file is told at the start or at the reload, and not by the first client.
 *
 * The private key: the text that it came in is the caller's to wipe; OpenSSL wipes what it parsed
 * on the way and what it keeps. It is not locked in memory: OpenSSL could put it into its "secure
 * heap", but that one has a fixed size and holds the ephemeral keys of all handshakes as well, so
 * that clients who stop in the middle would fill it for everybody else.
 */
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "tls_private.h"

enum {
    SECURITY_LEVEL = 2, /* 112 bits: RSA from 2048 on, no SHA-1 */
    LEAST_RSA_BITS = 2048,
    MAX_CHAIN = 8,          /* certificates in our own */
    CLIENT_CHAIN_DEPTH = 3, /* authorities between a client's certificate and ours */
    CLIENT_CHAIN_BYTES = 32 * 1024,
};

/* RFC 9325 section 4.2: with forward secrecy and authenticated encryption only. TLS 1.3 has no
 * others; of those, in the order of what they cost. */
static const char ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK";
static const char suites[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

/* --- what is agreed on --- */

/* RFC 7301 section 3.2: whoever offers only what we do not have is refused. SNI is not looked at:
 * there is one certificate, and the Host field is checked later. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg) {
    (void)ssl, (void)arg;
    for (unsigned i = 0; i < in_len && in[i] < in_len - i; i += in[i] + 1u) {
        if (in[i] == tls_alpn[0] && memcmp(in + i, tls_alpn, TLS_ALPN_LEN) == 0) {
            *out = in + i + 1;
            *out_len = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* The system's openssl.cnf may say otherwise in some of this: it is overridden. */
static bool set_up(SSL_CTX *context, const struct io_tls_server_options *options) {
    int groups[] = {NID_X25519, NID_X9_62_prime256v1, NID_secp384r1};
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_clear_options(context,
                          SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
    /* The chain is what the file says, never what could be made of the clients' authorities. */
    SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_security_level(context, SECURITY_LEVEL);
    SSL_CTX_set_alpn_select_cb(context, select_alpn, NULL);
    SSL_CTX_set_max_cert_list(context, CLIENT_CHAIN_BYTES);
    return SSL_CTX_set_min_proto_version(context, options->only_tls13 ? TLS1_3_VERSION
                                                                      : TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(context, 0) == 1 &&
           SSL_CTX_set_num_tickets(context, 0) == 1 &&
           SSL_CTX_set_max_early_data(context, 0) == 1 &&
           SSL_CTX_set_ciphersuites(context, suites) == 1 &&
           SSL_CTX_set1_groups(context, groups, ARRAY_LEN(groups)) == 1;
}

/* --- reading PEM --- */

static BIO *open_text(struct slice text) {
    return text.len <= INT_MAX ? BIO_new_mem_buf(text.ptr, (int)text.len) : NULL;
}

/* A passphrase would have to be asked for, on a terminal that is not there. */
static int no_passphrase(char *buffer, int size, int is_writing, void *arg) {
    (void)buffer, (void)size, (void)is_writing;
    bool *was_asked = arg;
    *was_asked = true;
    return -1;
}

/* All certificates of the text, in order. False: one of them cannot be read. */
static bool read_certificates(struct slice text, STACK_OF(X509) * certificates) {
    BIO *bio = open_text(text);
    X509 *certificate;
    if (bio == NULL)
        return false;
    ERR_clear_error();
    while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (sk_X509_push(certificates, certificate) == 0) {
            X509_free(certificate);
            break;
        }
    }
    unsigned long code = ERR_peek_last_error();
    bool is_end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    BIO_free(bio);
    ERR_clear_error();
    return is_end;
}

static EVP_PKEY *read_key(struct slice text, const char **ret_reason) {
    bool was_asked = false;
    BIO *bio = open_text(text);
    EVP_PKEY *key =
        bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &was_asked) : NULL;
    if (key == NULL)
        *ret_reason = was_asked ? "the key is protected by a passphrase; write it without one"
                                : "the key is no private key in PEM";
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

/* --- our certificate --- */

static const char *check_kind(const EVP_PKEY *key) {
    char group[32] = "";
    size_t len = 0;
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
        return EVP_PKEY_get_bits(key) < LEAST_RSA_BITS ? "the RSA key has fewer than 2048 bits"
                                                       : NULL;
    case EVP_PKEY_ED25519:
        return NULL;
    case EVP_PKEY_EC:
        if (EVP_PKEY_get_group_name(key, group, sizeof group, &len) == 1 &&
            (strcmp(group, SN_X9_62_prime256v1) == 0 || strcmp(group, SN_secp384r1) == 0))
            return NULL;
        return "the curve of the key is neither P-256 nor P-384";
    default:
        return "the key is of a kind that is not used: RSA, P-256, P-384 and Ed25519 are";
    }
}

static const char *check_pair(STACK_OF(X509) * chain, EVP_PKEY *key) {
    X509 *own = sk_X509_value(chain, 0);
    if (X509_check_private_key(own, key) != 1) {
        for (int i = 1; i < sk_X509_num(chain); i++) {
            if (X509_check_private_key(sk_X509_value(chain, i), key) == 1)
                return "the certificate of the key is not the first one of its file";
        }
        return "the key does not belong to the certificate";
    }
    if (X509_check_purpose(own, X509_PURPOSE_SSL_SERVER, 0) != 1)
        return "the certificate is not made for servers";
    return check_kind(key);
}

/* RFC 8446 section 4.4.2: each certificate certifies the one before it. TLS 1.3 clients forgive
 * much of that, those of 1.2 do not. */
static const char *check_order(STACK_OF(X509) * chain) {
    for (int i = 1; i < sk_X509_num(chain); i++) {
        if (X509_check_issued(sk_X509_value(chain, i), sk_X509_value(chain, i - 1)) != X509_V_OK)
            return "the chain is not in order: behind each certificate comes that of its issuer";
    }
    return NULL;
}

static const char *reason_of_refusal(void) {
    unsigned long code = ERR_peek_error();
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CA_MD_TOO_WEAK)
        return "the signature of the certificate is of a weak kind";
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && (ERR_GET_REASON(code) == SSL_R_EE_KEY_TOO_SMALL ||
                                             ERR_GET_REASON(code) == SSL_R_CA_KEY_TOO_SMALL))
        return "the key of the certificate is too short";
    return "the certificate cannot be used";
}

static const char *use(SSL_CTX *context, STACK_OF(X509) * chain, EVP_PKEY *key) {
    bool is_fine = SSL_CTX_use_certificate(context, sk_X509_value(chain, 0)) == 1;
    for (int i = 1; i < sk_X509_num(chain) && is_fine; i++)
        is_fine = SSL_CTX_add1_chain_cert(context, sk_X509_value(chain, i)) == 1;
    if (is_fine && SSL_CTX_use_PrivateKey(context, key) == 1)
        return NULL;
    return reason_of_refusal();
}

static const char *set_certificate(SSL_CTX *context, struct slice chain_text,
                                   struct slice key_text) {
    STACK_OF(X509) *chain = sk_X509_new_null();
    EVP_PKEY *key = NULL;
    const char *reason = NULL;
    if (chain == NULL || !read_certificates(chain_text, chain))
        reason = "the certificate cannot be read: it is not PEM, or damaged";
    else if (sk_X509_num(chain) == 0)
        reason = "there is no certificate in its file";
    else if (sk_X509_num(chain) > MAX_CHAIN)
        reason = "there are more than 8 certificates in the chain";
    else
        key = read_key(key_text, &reason);
    if (key != NULL) {
        reason = check_pair(chain, key);
        if (reason == NULL)
            reason = check_order(chain);
        if (reason == NULL)
            reason = use(context, chain, key);
    }
    EVP_PKEY_free(key);
    sk_X509_pop_free(chain, X509_free);
    ERR_clear_error();
    return reason;
}

/* --- certificates of clients --- */

static bool trust(SSL_CTX *context, X509 *authority, STACK_OF(X509_NAME) * names) {
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(authority));
    if (name == NULL || sk_X509_NAME_push(names, name) == 0) {
        X509_NAME_free(name);
        return false;
    }
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority) == 1;
}

static const char *trust_all(SSL_CTX *context, STACK_OF(X509) * authorities) {
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    const char *reason = names == NULL ? tls_no_context : NULL;
    for (int i = 0; i < sk_X509_num(authorities) && reason == NULL; i++) {
        X509 *authority = sk_X509_value(authorities, i);
        if (X509_check_ca(authority) == 0)
            reason = "client_ca holds a certificate that is none of an authority";
        else if (!trust(context, authority, names))
            reason = tls_no_context;
    }
    if (reason != NULL) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return reason;
    }
    SSL_CTX_set_client_CA_list(context, names);
    return NULL;
}

static const char *set_client_ca(SSL_CTX *context, const struct io_tls_server_options *options) {
    STACK_OF(X509) *authorities = sk_X509_new_null();
    const char *reason = NULL;
    if (authorities == NULL || !read_certificates(options->client_ca, authorities))
        reason = "client_ca cannot be read: it is not PEM, or damaged";
    else if (sk_X509_num(authorities) == 0)
        reason = "there is no certificate in client_ca";
    else
        reason = trust_all(context, authorities);
    sk_X509_pop_free(authorities, X509_free);
    ERR_clear_error();
    if (reason != NULL)
        return reason;
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context);
    int mode = SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE;
    if (options->require_certificate)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(context, mode, NULL);
    SSL_CTX_set_verify_depth(context, CLIENT_CHAIN_DEPTH);
    /* Whatever the file names is trusted, also an authority that another one has signed; nothing
     * else is. */
    if (X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_CLIENT) != 1 ||
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN) != 1)
        return tls_no_context;
    return NULL;
}

int io_tls_server_new(const struct io_tls_server_options *options, struct io_tls **ret_tls,
                      const char **ret_reason) {
    struct io_tls *tls = tls_new();
    const char *reason = NULL;
    tls->is_server = true;
    tls->context = SSL_CTX_new(TLS_server_method());
    if (tls->context == NULL || !tls_set_up(tls->context, ciphers) ||
        !set_up(tls->context, options)) {
        ERR_clear_error();
        io_tls_unref(tls);
        return -ENOMEM;
    }
    reason = set_certificate(tls->context, options->chain, options->key);
    if (reason == NULL && options->client_ca.len != 0)
        reason = set_client_ca(tls->context, options);
    if (reason != NULL) {
        io_tls_unref(tls);
        *ret_reason = reason;
        return IO_TLS_E_INVALID;
    }
    tls_loaded(tls, 0);
    *ret_tls = tls;
    return 0;
}
