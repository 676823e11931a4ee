/*
 * Contexts for connections that we open. All of it is made by the loading thread and is not changed
 * afterwards: reading the roots takes tens of milliseconds.
 *
 * Roots are read eagerly. OpenSSL would rather look for a root when it needs it, which would be a
 * file read on the loop.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/secret.h"
#include "io/file.h"
#include "tls_private.h"

/* Where systems keep their roots, when OpenSSL itself knows of no file. */
static const char *const bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Arch, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora */
    "/etc/ssl/ca-bundle.pem",             /* SUSE */
    "/etc/ssl/cert.pem",
};

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* The names under which OpenSSL looks for a root in a directory: "4042bcee.0". */
static bool is_hash_name(const char *name) {
    for (int i = 0; i < 8; i++) {
        if (!is_hex(name[i]))
            return false;
    }
    return name[8] == '.' && name[9] >= '0' && name[9] <= '9';
}

static void load_directory(X509_STORE *store, const char *path) {
    /* Not opendir(), of which ThreadSanitizer does not know that it makes a descriptor: libuv has
     * closed the last one of that number, and without telling it either. */
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    if (directory == NULL) {
        io_fd_close(&fd);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        char file[4096];
        if (is_hash_name(entry->d_name) &&
            snprintf(file, sizeof file, "%s/%s", path, entry->d_name) < (int)sizeof file)
            (void)X509_STORE_load_file(store, file); /* one that cannot be read is one less */
    }
    closedir(directory);
}

/* SSL_CERT_DIR is a list with colons. */
static void load_directories(X509_STORE *store, const char *list) {
    struct slice rest = slice_from_cstr(list), head;
    while (rest.len != 0) {
        char path[4096];
        slice_cut(rest, ':', &head, &rest);
        if (head.len != 0 && slice_to_cstr(head, path, sizeof path) == 0)
            load_directory(store, path);
    }
}

static bool load_bundle(X509_STORE *store, const char *path) {
    return access(path, R_OK) == 0 && X509_STORE_load_file(store, path) == 1;
}

static void load_system_roots(const struct io_tls *tls, X509_STORE *store) {
    bool has_file = false;
    if (tls->env_file != NULL) {
        has_file = load_bundle(store, tls->env_file);
    } else {
        has_file = load_bundle(store, X509_get_default_cert_file());
        for (size_t i = 0; i < ARRAY_LEN(bundles) && !has_file; i++)
            has_file = load_bundle(store, bundles[i]);
    }
    if (tls->env_directory != NULL)
        load_directories(store, tls->env_directory);
    else if (!has_file && tls->env_file == NULL)
        load_directories(store, X509_get_default_cert_dir());
}

static int load_roots(struct io_tls *tls, X509_STORE *store) {
    if (tls->accepts_anything)
        return 0;
    if (tls->ca_file != NULL) {
        if (access(tls->ca_file, R_OK) != 0) {
            tls->reason = "the file of certificate authorities cannot be read";
            return -errno;
        }
        if (X509_STORE_load_file(store, tls->ca_file) != 1) {
            tls->reason = "the file of certificate authorities holds no certificate";
            return -EKEYREJECTED;
        }
    }
    if (tls->use_system_roots)
        load_system_roots(tls, store);
    if (sk_X509_OBJECT_num(X509_STORE_get0_objects(store)) > 0)
        return 0;
    tls->reason = tls->use_system_roots
                      ? "this system has no certificate authorities (package ca-certificates)"
                      : "no certificate authority is configured";
    return -ENOKEY;
}

/* --- what this side shows --- */

enum { OWN_FILE_MAX = 256 * 1024 };

struct own_file {
    char *bytes; /* owned */
    size_t len;
};

static void own_file_deinit(struct own_file *file) {
    if (file->bytes != NULL)
        secret_wipe(file->bytes, file->len);
    mem_free(file->bytes);
}

/* Not by stdio, whose buffer would keep the key. */
static int own_file_read(const char *path, struct own_file *ret_file) {
    /* What is none is not waited for. */
    CLEANUP(io_fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    CLEANUP(own_file_deinit) struct own_file file = {.bytes = NULL};
    if (fd < 0)
        return -errno;
    file.bytes = mem_xalloc(OWN_FILE_MAX);
    for (;;) {
        ssize_t n = read(fd, file.bytes + file.len, OWN_FILE_MAX - file.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        file.len += (size_t)n;
        if (file.len == OWN_FILE_MAX)
            return -EFBIG;
        if (n == 0)
            break;
    }
    *ret_file = file;
    file = (struct own_file){.bytes = NULL};
    return 0;
}

/* A passphrase would have to be asked for, on a terminal that is not there. */
static int no_passphrase(char *buffer, int size, int is_writing, void *arg) {
    (void)buffer, (void)size, (void)is_writing;
    bool *was_asked = arg;
    *was_asked = true;
    return -1;
}

/* The first one of the file is this side's; those behind it are of its issuers. */
static bool use_chain(SSL_CTX *context, BIO *bio) {
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    bool is_fine = certificate != NULL && SSL_CTX_use_certificate(context, certificate) == 1;
    X509_free(certificate);
    ERR_clear_error();
    while (is_fine && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        is_fine = SSL_CTX_add1_chain_cert(context, certificate) == 1;
        X509_free(certificate);
    }
    unsigned long code = ERR_peek_last_error();
    return is_fine && ERR_GET_LIB(code) == ERR_LIB_PEM &&
           ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

static const char *use_key(SSL_CTX *context, BIO *bio) {
    bool was_asked = false;
    const char *reason = NULL;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &was_asked);
    if (key == NULL)
        reason = was_asked ? "the file of the client's key is protected by a passphrase"
                           : "the file of the client's key holds no private key in PEM";
    else if (X509_check_private_key(SSL_CTX_get0_certificate(context), key) != 1)
        reason = "the client's key does not belong to the client's certificate";
    else if (SSL_CTX_use_PrivateKey(context, key) != 1)
        reason = "the client's key cannot be used";
    EVP_PKEY_free(key);
    return reason;
}

static int load_own(struct io_tls *tls) {
    CLEANUP(own_file_deinit) struct own_file chain = {.bytes = NULL};
    CLEANUP(own_file_deinit) struct own_file key = {.bytes = NULL};
    if (tls->cert_file == NULL && tls->key_file == NULL)
        return 0;
    if (tls->cert_file == NULL || tls->key_file == NULL) {
        tls->reason = tls->key_file == NULL ? "the client's certificate has no key"
                                            : "the client's key has no certificate";
        return -EKEYREJECTED;
    }
    int error = own_file_read(tls->cert_file, &chain);
    if (error != 0) {
        tls->reason = "the file of the client's certificate cannot be read";
        return error;
    }
    error = own_file_read(tls->key_file, &key);
    if (error != 0) {
        tls->reason = "the file of the client's key cannot be read";
        return error;
    }
    /* The chain is what the file says, never what could be made of the roots. */
    SSL_CTX_set_mode(tls->context, SSL_MODE_NO_AUTO_CHAIN);
    BIO *chain_bio = BIO_new_mem_buf(chain.bytes, (int)chain.len);
    BIO *key_bio = BIO_new_mem_buf(key.bytes, (int)key.len);
    if (chain_bio == NULL || key_bio == NULL)
        tls->reason = tls_no_context;
    else if (!use_chain(tls->context, chain_bio))
        tls->reason = "the file of the client's certificate holds none that can be used";
    else
        tls->reason = use_key(tls->context, key_bio);
    BIO_free(chain_bio);
    BIO_free(key_bio);
    return tls->reason == NULL ? 0 : -EKEYREJECTED;
}

/* --- the context --- */

/* Of the server's certificate, when nothing is checked. */
static int take_anything(X509_STORE_CTX *store, void *arg) {
    (void)store, (void)arg;
    return 1;
}

/* RFC 9325 section 4.2: with forward secrecy and authenticated encryption only. TLS 1.3 has no
 * others. */
static const char ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!PSK";

static bool set_up_client(const struct io_tls *tls) {
    SSL_CTX *context = tls->context;
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (tls->accepts_anything)
        SSL_CTX_set_cert_verify_callback(context, take_anything, NULL);
    /* RFC 9525: names in the subject alternative names only, "*" as a whole label only. */
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    /* Whatever ca_file names is trusted, also an authority that another one has signed. */
    return X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN) == 1 &&
           SSL_CTX_set_alpn_protos(context, tls_alpn, TLS_ALPN_LEN) == 0;
}

static int load(struct io_tls *tls) {
    tls->context = SSL_CTX_new(TLS_client_method());
    if (tls->context == NULL || !tls_set_up(tls->context, ciphers) || !set_up_client(tls)) {
        tls->reason = tls_no_context;
        return -ENOMEM;
    }
    int error = load_own(tls);
    return error != 0 ? error : load_roots(tls, SSL_CTX_get_cert_store(tls->context));
}

static void *run_loader(void *arg) {
    struct io_tls *tls = arg;
    int error = load(tls);
    ERR_clear_error();
    tls_loaded(tls, error);
    return NULL;
}

/* Signals are for the threads that wait for them. */
int tls_start_loader(struct io_tls *tls) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&tls->loader, NULL, run_loader, tls);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    tls->has_loader = error == 0;
    return -error;
}

static char *dup_or_null(const char *string) {
    return string != NULL && string[0] != '\0' ? mem_xstrdup(string) : NULL;
}

int io_tls_client_new(const struct io_tls_client_options *options, struct io_tls **ret_tls) {
    struct io_tls *tls = tls_new();
    tls->use_system_roots = options->use_system_roots;
    tls->ca_file = dup_or_null(options->ca_file);
    tls->cert_file = dup_or_null(options->cert_file);
    tls->key_file = dup_or_null(options->key_file);
    tls->accepts_anything = options->accept_anything;
    tls->accepts_any_name = options->accept_invalid_hostnames || options->accept_anything;
    /* The environment is read here: not beside a thread that may be changing it. */
    tls->env_file = dup_or_null(getenv(X509_get_default_cert_file_env()));
    tls->env_directory = dup_or_null(getenv(X509_get_default_cert_dir_env()));
    tls->is_lazy = options->is_lazy;
    int error = tls->is_lazy ? 0 : tls_start_loader(tls);
    if (error != 0) {
        io_tls_unref(tls);
        return error;
    }
    *ret_tls = tls;
    return 0;
}
