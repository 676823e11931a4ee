/*
 * What a client's certificate says of it. The authority has signed it, but perhaps without looking:
 * a name that ends somewhere else for one reader than for another (a NUL in it: CVE-2009-2408), or
 * that looks like another one in a log, is no name.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "base/utf8.h"
#include "stream_private.h"
#include "tls_private.h"

static X509 *certificate_of(const struct io_stream *stream) {
    const SSL *ssl = stream->tls != NULL ? tls_stream_ssl(stream->tls) : NULL;
    if (ssl == NULL || !SSL_is_server(ssl) || SSL_get_verify_result(ssl) != X509_V_OK)
        return NULL;
    return SSL_get0_peer_certificate(ssl);
}

/* --- the subject --- */

static bool is_clean(struct slice text) {
    if (text.len == 0 || !utf8_is_valid(text))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)text.ptr[i + 1] < 0xa0))
            return false; /* C0, DEL, C1 */
    }
    return true;
}

/* The value as UTF-8, owned by OpenSSL's allocator; NULL: it is none. */
static unsigned char *value_of(const X509_NAME_ENTRY *entry, struct slice *ret_value) {
    unsigned char *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
    if (len <= 0 || !is_clean(slice_make(text, (size_t)len))) {
        OPENSSL_free(text);
        return NULL;
    }
    *ret_value = slice_make(text, (size_t)len);
    return text;
}

static int append_common_name(X509_NAME *subject, struct buf *out) {
    struct slice value = SLICE_EMPTY;
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    /* Of two, one reader takes the first and another one the last. */
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return -ENOENT;
    unsigned char *text = value_of(X509_NAME_get_entry(subject, at), &value);
    if (text == NULL)
        return -ENOENT;
    int error = buf_append(out, value);
    OPENSSL_free(text);
    return error;
}

static int append_subject(X509_NAME *subject, struct buf *out) {
    /* As RFC 4514 writes it, but letters of other scripts as they are. */
    static const unsigned long flags = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    int n = X509_NAME_entry_count(subject);
    for (int i = 0; i < n; i++) {
        struct slice value = SLICE_EMPTY;
        unsigned char *text = value_of(X509_NAME_get_entry(subject, i), &value);
        OPENSSL_free(text);
        if (text == NULL)
            return -ENOENT;
    }
    BIO *bio = n > 0 ? BIO_new(BIO_s_mem()) : NULL;
    char *text = NULL;
    int error = n > 0 ? -ENOMEM : -ENOENT;
    if (bio != NULL && X509_NAME_print_ex(bio, subject, 0, flags) >= 0) {
        long len = BIO_get_mem_data(bio, &text);
        struct slice value = slice_make(text, len > 0 ? (size_t)len : 0);
        error = is_clean(value) ? buf_append(out, value) : -ENOENT;
    }
    BIO_free(bio);
    return error;
}

/* --- subject alternative names --- */

static bool is_name_char(char c, enum io_tls_name kind) {
    bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '.' || c == '-' || c == '_';
    /* A wildcard names many, and so nobody. */
    return kind == IO_TLS_SAN_DNS ? is_plain : c > ' ' && c < 0x7f;
}

/* These are of ASCII (RFC 5280 section 4.2.1.6). */
static int append_ascii(const ASN1_STRING *string, enum io_tls_name kind, struct buf *out) {
    int len = ASN1_STRING_length(string);
    struct slice value = slice_make(ASN1_STRING_get0_data(string), len > 0 ? (size_t)len : 0);
    for (size_t i = 0; i < value.len; i++) {
        if (!is_name_char(value.ptr[i], kind))
            return -ENOENT;
    }
    return value.len != 0 ? buf_append(out, value) : -ENOENT;
}

static int append_alternative(X509 *certificate, enum io_tls_name kind, struct buf *out) {
    int wanted = kind == IO_TLS_SAN_DNS ? GEN_DNS : kind == IO_TLS_SAN_EMAIL ? GEN_EMAIL : GEN_URI;
    int error = -ENOENT;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int type = 0;
        const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        if (type == wanted) {
            error = append_ascii(value, kind, out);
            break;
        }
    }
    GENERAL_NAMES_free(names);
    return error;
}

/* --- */

bool io_stream_tls_has_certificate(const struct io_stream *stream) {
    return certificate_of(stream) != NULL;
}

int io_stream_tls_peer_name(const struct io_stream *stream, enum io_tls_name kind,
                            struct buf *out) {
    X509 *certificate = certificate_of(stream);
    int error = -ENOENT;
    if (certificate == NULL)
        return error;
    switch (kind) {
    case IO_TLS_SUBJECT:
        error = append_subject(X509_get_subject_name(certificate), out);
        break;
    case IO_TLS_COMMON_NAME:
        error = append_common_name(X509_get_subject_name(certificate), out);
        break;
    case IO_TLS_SAN_DNS:
    case IO_TLS_SAN_EMAIL:
    case IO_TLS_SAN_URI:
        error = append_alternative(certificate, kind, out);
        break;
    }
    ERR_clear_error();
    return error;
}

/* In the same order, as files are mostly changed for our own certificate: nothing is computed. */
static bool has_same_authorities(const SSL_CTX *a, const SSL_CTX *b) {
    STACK_OF(X509_OBJECT) *of_a = X509_STORE_get0_objects(SSL_CTX_get_cert_store(a));
    STACK_OF(X509_OBJECT) *of_b = X509_STORE_get0_objects(SSL_CTX_get_cert_store(b));
    bool is_same = sk_X509_OBJECT_num(of_a) == sk_X509_OBJECT_num(of_b);
    for (int i = 0; is_same && i < sk_X509_OBJECT_num(of_a); i++) {
        const X509 *one = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(of_a, i));
        const X509 *other = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(of_b, i));
        is_same = one != NULL && other != NULL && X509_cmp(one, other) == 0;
    }
    return is_same;
}

bool io_stream_tls_would_be_trusted(const struct io_stream *stream, const struct io_tls *tls) {
    X509 *certificate = certificate_of(stream);
    if (certificate != NULL &&
        has_same_authorities(SSL_get_SSL_CTX(tls_stream_ssl(stream->tls)), tls->context))
        return true;
    X509_STORE_CTX *check = certificate != NULL ? X509_STORE_CTX_new() : NULL;
    bool is_trusted =
        check != NULL &&
        X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(tls->context), certificate,
                            SSL_get_peer_cert_chain(tls_stream_ssl(stream->tls))) == 1 &&
        X509_STORE_CTX_set_default(check, "ssl_client") == 1 &&
        X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(check),
                               SSL_CTX_get0_param(tls->context)) == 1 &&
        X509_verify_cert(check) == 1;
    X509_STORE_CTX_free(check);
    ERR_clear_error();
    return is_trusted;
}

uint64_t io_stream_tls_peer_ends_ms(const struct io_stream *stream) {
    const X509 *certificate = certificate_of(stream);
    struct tm parts;
    if (certificate == NULL || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts) != 1)
        return 0;
    time_t ends = timegm(&parts);
    return ends > 0 ? (uint64_t)ends * 1000 : 0;
}

bool io_stream_tls_peer_digest(const struct io_stream *stream, unsigned char ret_digest[32]) {
    X509 *certificate = certificate_of(stream);
    unsigned len = 0;
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (certificate == NULL || X509_digest(certificate, EVP_sha256(), digest, &len) != 1 ||
        len != 32)
        return false;
    memcpy(ret_digest, digest, len);
    return true;
}
