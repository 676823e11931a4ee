/*
 * The operator's certificate and key. What makes serving impossible is an error with its reason;
 * what makes clients refuse it is a warning, because a certificate that has expired is still better
 * than a gateway that does not start, and it is replaced without a restart.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>

#include "private.h"

#define DAY_MS UINT64_C(86400000)

MUST_CHECK static int invalid(struct buf *reason, struct slice path, const char *what) {
    buf_append(reason, path);
    buf_append_byte(reason, ' ');
    buf_append_cstr(reason, what);
    return PKI_E_INVALID;
}

/* `key` says it in the words of the configuration. */
MUST_CHECK static int read_file(struct slice path, const char *key, struct buf *out,
                                struct buf *reason) {
    char name[4096];
    int error = slice_to_cstr(path, name, sizeof name);
    if (error == 0)
        error = pki_file_read(AT_FDCWD, name, out, NULL);
    if (error == 0)
        return 0;
    const char *why = strerror(-error);
    if (error == -EINVAL)
        why = "it is no regular file";
    else if (error == -EFBIG)
        why = "it is too long to be a certificate or key";
    buf_printf(reason, "cannot read %s %.*s: %s", key, SLICE_ARGS(path), why);
    return error;
}

MUST_CHECK static int no_key(struct slice path, struct slice pem, struct buf *reason) {
    if (slice_find(pem, SLICE("ENCRYPTED")) != SIZE_MAX)
        return invalid(reason, path,
                       "is a key with a password, which nobody is there to type; write it without "
                       "one: openssl pkey -in FILE -out NEW");
    if (slice_find(pem, SLICE("BEGIN CERTIFICATE")) != SIZE_MAX)
        return invalid(reason, path, "holds a certificate and no key");
    return invalid(reason, path, "holds no private key in PEM");
}

MUST_CHECK static int no_certificate(struct slice path, struct slice pem, struct buf *reason) {
    if (slice_find(pem, SLICE("PRIVATE KEY")) != SIZE_MAX)
        return invalid(reason, path, "holds a key and no certificate");
    return invalid(reason, path, "holds no certificate in PEM");
}

/* The certificate of the key is not the first one: which is it, if any? */
MUST_CHECK static int not_a_pair(const struct config_tls *tls, struct slice chain, EVP_PKEY *key,
                                 struct buf *reason) {
    bool is_later = false;
    X509 *x509;
    for (size_t n = 1; !is_later && (x509 = pki_pem_certificate(chain, n)) != NULL; n++) {
        is_later = X509_check_private_key(x509, key) == 1;
        X509_free(x509);
    }
    ERR_clear_error();
    if (is_later)
        return invalid(reason, tls->certificate,
                       "must begin with the gateway's own certificate; its issuers come behind it");
    buf_printf(reason, "the key %.*s does not belong to the certificate %.*s", SLICE_ARGS(tls->key),
               SLICE_ARGS(tls->certificate));
    return PKI_E_INVALID;
}

MUST_CHECK static int check_pair(const struct config_tls *tls, const struct pki_pair *pair,
                                 struct buf *reason) {
    struct slice chain = buf_slice(&pair->chain), key = buf_slice(&pair->key);
    struct pki_identity identity = {.x509 = pki_pem_certificate(chain, 0), .key = pki_pem_key(key)};
    int error = 0;
    if (identity.x509 == NULL)
        error = no_certificate(tls->certificate, chain, reason);
    else if (identity.key == NULL)
        error = no_key(tls->key, key, reason);
    else if (!pki_identity_fits(&identity))
        error = not_a_pair(tls, chain, identity.key, reason);
    pki_identity_deinit(&identity);
    return error;
}

int pki_load_client_ca(const struct pki_options *options, struct pki_pair *pair,
                       struct buf *reason) {
    const struct config_tls *tls = options->tls;
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(0);
    if (tls->client_ca.len == 0) {
        buf_deinit(&pair->client_ca);
        return 0;
    }
    int error = read_file(tls->client_ca, "server.tls.client_ca", &text, reason);
    if (error != 0)
        return error;
    X509 *x509 = pki_pem_certificate(buf_slice(&text), 0);
    if (x509 == NULL)
        return no_certificate(tls->client_ca, buf_slice(&text), reason);
    X509_free(x509);
    buf_deinit(&pair->client_ca);
    pair->client_ca = text;
    text = BUF_INIT(0);
    return 0;
}

int pki_files_load(const struct pki_options *options, struct pki_pair *pair, struct buf *reason) {
    CLEANUP(pki_pair_deinit) struct pki_pair read;
    pki_pair_init(&read);
    int error = read_file(options->tls->certificate, "server.tls.certificate", &read.chain, reason);
    if (error == 0)
        error = read_file(options->tls->key, "server.tls.key", &read.key, reason);
    if (error == 0)
        error = check_pair(options->tls, &read, reason);
    if (error != 0)
        return error;
    buf_deinit(&pair->chain);
    pki_buf_wipe(&pair->key);
    pair->chain = read.chain;
    pair->key = read.key;
    read.chain = read.key = BUF_INIT(0);
    return 0;
}

/* --- what is served all the same --- */

static void warn_of_mode(const struct pki_options *options) {
    char path[4096];
    struct stat info;
    if (slice_to_cstr(options->tls->key, path, sizeof path) != 0 || stat(path, &info) != 0 ||
        (info.st_mode & 0077) == 0)
        return;
    CLEANUP(buf_deinit) struct buf line = BUF_INIT(KIB(8));
    buf_printf(&line, "chmod 600 '%s'", path);
    log_write(options->log, LOG_WARN, "tls", "the key can be read or changed by other accounts",
              LOG_TEXT("cure", buf_slice(&line)));
}

static void warn_of_term(const struct pki_options *options, X509 *x509, uint64_t now_ms) {
    struct pki_term term;
    struct slice path = options->tls->certificate;
    if (!pki_term_of(x509, &term))
        log_write(options->log, LOG_WARN, "tls", "the certificate has no valid term",
                  LOG_TEXT("path", path));
    else if (now_ms < term.from_ms)
        log_write(options->log, LOG_WARN, "tls",
                  "the certificate is not valid yet; clients refuse it", LOG_TEXT("path", path));
    else if (now_ms >= term.until_ms)
        log_write(options->log, LOG_WARN, "tls", "the certificate has expired; clients refuse it",
                  LOG_TEXT("path", path), LOG_NUM("days_ago", (now_ms - term.until_ms) / DAY_MS));
}

static void warn_of_use(const struct pki_options *options, X509 *x509) {
    const char *why = NULL;
    int at = X509_get_ext_by_NID(x509, NID_subject_alt_name, -1);
    if (at < 0)
        why = "the certificate has no subject alternative names; clients refuse it";
    else if ((X509_get_extended_key_usage(x509) & XKU_SSL_SERVER) == 0)
        why = "the certificate is not made for servers (extended key usage); clients refuse it";
    if (why != NULL)
        log_write(options->log, LOG_WARN, "tls", why, LOG_TEXT("path", options->tls->certificate));
    ERR_clear_error();
}

/* RFC 8446 section 4.4.2 wants each one certified by the next. */
static void warn_of_chain(const struct pki_options *options, struct slice chain) {
    X509 *one = pki_pem_certificate(chain, 0), *next;
    for (size_t n = 1; one != NULL && (next = pki_pem_certificate(chain, n)) != NULL; n++) {
        bool is_in_order = X509_check_issued(next, one) == X509_V_OK;
        X509_free(one);
        one = next;
        if (is_in_order)
            continue;
        log_write(options->log, LOG_WARN, "tls",
                  "the certificates are not in order, each behind the one that it has signed; some "
                  "clients refuse that",
                  LOG_TEXT("path", options->tls->certificate));
        break;
    }
    X509_free(one);
    ERR_clear_error();
}

void pki_files_warn(const struct pki_options *options, uint64_t now_wall_ms,
                    const struct pki_pair *pair) {
    X509 *x509 = pki_pem_certificate(buf_slice(&pair->chain), 0);
    if (x509 == NULL)
        return;
    warn_of_mode(options);
    warn_of_term(options, x509, now_wall_ms);
    warn_of_use(options, x509);
    warn_of_chain(options, buf_slice(&pair->chain));
    X509_free(x509);
}
