/* Certificates and keys as text (RFC 7468, RFC 5958), and the times in them. */
#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <time.h>

#include "base/secret.h"
#include "private.h"

void pki_identity_deinit(struct pki_identity *identity) {
    X509_free(identity->x509);
    EVP_PKEY_free(identity->key);
    *identity = (struct pki_identity){.x509 = NULL};
}

bool pki_identity_fits(const struct pki_identity *identity) {
    bool fits = identity->x509 != NULL && identity->key != NULL &&
                X509_check_private_key(identity->x509, identity->key) == 1;
    ERR_clear_error();
    return fits;
}

static BIO *reader_of(struct slice pem) {
    return pem.len > INT_MAX ? NULL : BIO_new_mem_buf(pem.ptr, (int)pem.len);
}

/* Nobody is asked for a password, and no terminal is opened for it. */
static int no_password(char *out, int size, int is_writing, void *context) {
    (void)out, (void)size, (void)is_writing, (void)context;
    return 0;
}

X509 *pki_pem_certificate(struct slice pem, size_t n) {
    BIO *bio = reader_of(pem);
    X509 *x509 = NULL;
    for (size_t i = 0; bio != NULL && i <= n; i++) {
        X509_free(x509);
        x509 = PEM_read_bio_X509(bio, NULL, no_password, NULL);
        if (x509 == NULL)
            break;
    }
    BIO_free(bio);
    ERR_clear_error();
    return x509;
}

EVP_PKEY *pki_pem_key(struct slice pem) {
    BIO *bio = reader_of(pem);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

/* The memory of a BIO is wiped when it is freed. */
MUST_CHECK static int take_text(struct buf *out, BIO *bio, bool is_written) {
    char *text = NULL;
    long len = is_written ? BIO_get_mem_data(bio, &text) : -1;
    ERR_clear_error();
    return len < 0 ? -ENOMEM : buf_append(out, slice_make(text, (size_t)len));
}

int pki_pem_write_certificate(struct buf *out, X509 *x509) {
    BIO *bio = BIO_new(BIO_s_mem());
    int error = take_text(out, bio, bio != NULL && PEM_write_bio_X509(bio, x509) == 1);
    BIO_free(bio);
    return error;
}

int pki_pem_write_key(struct buf *out, EVP_PKEY *key) {
    BIO *bio = BIO_new(BIO_s_mem());
    bool is_written =
        bio != NULL && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1;
    int error = take_text(out, bio, is_written);
    BIO_free(bio);
    return error;
}

void pki_buf_wipe(struct buf *buf) {
    if (buf->data != NULL)
        secret_wipe(buf->data, buf->cap);
    buf_deinit(buf);
}

bool pki_time(const ASN1_TIME *time, uint64_t *ret_wall_ms) {
    struct tm parts;
    if (time == NULL || ASN1_TIME_to_tm(time, &parts) != 1)
        return false;
    time_t seconds = timegm(&parts);
    *ret_wall_ms = seconds > 0 ? (uint64_t)seconds * 1000u : 0;
    return true;
}

bool pki_term_of(const X509 *x509, struct pki_term *ret_term) {
    struct pki_term term;
    if (!pki_time(X509_get0_notBefore(x509), &term.from_ms) ||
        !pki_time(X509_get0_notAfter(x509), &term.until_ms))
        return false;
    *ret_term = term;
    return true;
}
