/* Certificates for the tests of TLS, made when they are needed. */
#pragma once

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "test.h"

struct cert {
    X509 *x509;
    EVP_PKEY *key;
};

struct cert_spec {
    const char *subject;     /* the common name */
    const char *names;       /* "DNS:a.test,IP:127.0.0.1"; NULL: no subject alternative names */
    const char *usage;       /* extended key usage; NULL: any */
    const char *constraints; /* name constraints; NULL: none */
    long valid_from, valid_until; /* seconds from now; 0 and 0: around now */
    bool is_authority, is_short;  /* is_short: RSA with 1024 bits */
    bool uses_sha1;
};

enum { DAY = 86400 };

static void cert_extend(X509 *x509, X509 *issuer, int nid, const char *value) {
    X509V3_CTX ctx;
    if (value == NULL)
        return;
    X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    if (extension == NULL || X509_add_ext(x509, extension, -1) != 1)
        CANNOT_GO_ON();
    X509_EXTENSION_free(extension);
}

/* `issuer` NULL: signs itself. */
static struct cert cert_make(const struct cert_spec *spec, const struct cert *issuer) {
    struct cert cert = {.x509 = X509_new(),
                        .key = spec->is_short ? EVP_RSA_gen(1024) : EVP_EC_gen("P-256")};
    X509 *x509 = cert.x509;
    long serial = 0;
    if (x509 == NULL || cert.key == NULL)
        CANNOT_GO_ON();
    memcpy(&serial, &x509, sizeof serial);
    X509_set_version(x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), serial & 0xffffff);
    bool is_now = spec->valid_from == 0 && spec->valid_until == 0;
    X509_gmtime_adj(X509_getm_notBefore(x509), is_now ? -DAY : spec->valid_from);
    X509_gmtime_adj(X509_getm_notAfter(x509), is_now ? DAY : spec->valid_until);
    X509_set_pubkey(x509, cert.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_UTF8,
                               (const unsigned char *)spec->subject, -1, -1, 0);
    X509 *signer = issuer != NULL ? issuer->x509 : x509;
    X509_set_issuer_name(x509, X509_get_subject_name(signer));
    cert_extend(x509, signer, NID_basic_constraints,
                spec->is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    cert_extend(x509, signer, NID_subject_alt_name, spec->names);
    cert_extend(x509, signer, NID_ext_key_usage, spec->usage);
    cert_extend(x509, signer, NID_name_constraints, spec->constraints);
    if (X509_sign(x509, issuer != NULL ? issuer->key : cert.key,
                  spec->uses_sha1 ? EVP_sha1() : EVP_sha256()) == 0)
        CANNOT_GO_ON();
    return cert;
}

static void cert_free(struct cert *cert) {
    X509_free(cert->x509);
    EVP_PKEY_free(cert->key);
    *cert = (struct cert){.x509 = NULL};
}

/* The certificate as a file; `path` is a template for mkstemp(3). */
MAYBE_UNUSED static void cert_write(const struct cert *cert, char *path) {
    int fd = mkstemp(path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL || PEM_write_X509(file, cert->x509) != 1 || fclose(file) != 0)
        CANNOT_GO_ON();
}

/* Its key as a file; a passphrase if there is one. */
MAYBE_UNUSED static void cert_write_key(const struct cert *cert, char *path, char *passphrase) {
    int fd = mkstemp(path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL ||
        PEM_write_PrivateKey(file, cert->key, passphrase != NULL ? EVP_aes_128_cbc() : NULL, NULL,
                             0, NULL, passphrase) != 1 ||
        fclose(file) != 0)
        CANNOT_GO_ON();
}
