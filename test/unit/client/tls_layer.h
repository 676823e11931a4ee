/*
 * TLS for the scripted server, and the certificates: an authority made for the test, and one signed
 * by it for 127.0.0.1 and server.test.
 */
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include "server.h"

struct authority {
    EVP_PKEY *key;
    X509 *certificate;
    char path[64]; /* of its PEM file */
};

static void add_extension(X509 *certificate, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (extension == NULL || X509_add_ext(certificate, extension, -1) != 1)
        CANNOT_GO_ON();
    X509_EXTENSION_free(extension);
}

static X509 *certificate_new(EVP_PKEY *key, const char *name, long serial) {
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_NAME_new();
    const unsigned char *bytes = (const unsigned char *)name;
    if (certificate == NULL || subject == NULL ||
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, bytes, -1, -1, 0) != 1)
        CANNOT_GO_ON();
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_subject_name(certificate, subject);
    X509_set_pubkey(certificate, key);
    X509_NAME_free(subject);
    return certificate;
}

static void authority_make(struct authority *authority) {
    authority->key = EVP_EC_gen("P-256");
    authority->certificate = certificate_new(authority->key, "test authority", 1);
    X509_set_issuer_name(authority->certificate, X509_get_subject_name(authority->certificate));
    add_extension(authority->certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(authority->certificate, NID_key_usage, "critical,keyCertSign");
    X509_sign(authority->certificate, authority->key, EVP_sha256());
    snprintf(authority->path, sizeof authority->path, "%s/cardea-test-ca-XXXXXX", P_tmpdir);
    int fd = mkstemp(authority->path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL || PEM_write_X509(file, authority->certificate) != 1 || fclose(file) != 0)
        CANNOT_GO_ON();
}

static void authority_drop(struct authority *authority) {
    unlink(authority->path);
    X509_free(authority->certificate);
    EVP_PKEY_free(authority->key);
}

static SSL_CTX *tls_server_new(const struct authority *authority) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = certificate_new(key, "server", 2);
    X509_set_issuer_name(certificate, X509_get_subject_name(authority->certificate));
    add_extension(certificate, NID_subject_alt_name, "IP:127.0.0.1,DNS:server.test");
    X509_sign(certificate, authority->key, EVP_sha256());
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey(context, key) != 1)
        CANNOT_GO_ON();
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
}

/* --- the layer --- */

static void tls_layer_flush(struct server_peer *peer) {
    char *bytes = NULL;
    BIO *out = SSL_get_wbio(peer->layer);
    long n = BIO_get_mem_data(out, &bytes);
    if (n > 0)
        CHECK_INT(io_stream_write(peer->stream, slice_make(bytes, (size_t)n), MIB(64)), 0);
    (void)BIO_reset(out);
}

static void *tls_layer_open(struct server_peer *peer) {
    SSL *ssl = SSL_new(peer->server->layer_context);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(ssl);
    return ssl;
}

static void tls_layer_read(struct server_peer *peer, struct slice bytes) {
    char plain[16384];
    size_t n;
    CHECK_INT(BIO_write(SSL_get_rbio(peer->layer), bytes.ptr, (int)bytes.len), (int)bytes.len);
    while (SSL_read_ex(peer->layer, plain, sizeof plain, &n) == 1)
        server_input(peer, slice_make(plain, n));
    tls_layer_flush(peer);
}

static void tls_layer_write(struct server_peer *peer, struct slice bytes) {
    size_t n;
    if (bytes.len != 0)
        CHECK_INT(SSL_write_ex(peer->layer, bytes.ptr, bytes.len, &n), 1);
    tls_layer_flush(peer);
}

static void tls_layer_close(struct server_peer *peer, bool says_so) {
    if (says_so) {
        (void)SSL_shutdown(peer->layer);
        tls_layer_flush(peer);
    }
    SSL_free(peer->layer);
    peer->layer = NULL;
}

static const struct server_layer tls_layer = {
    .open = tls_layer_open,
    .read = tls_layer_read,
    .write = tls_layer_write,
    .close = tls_layer_close,
};
