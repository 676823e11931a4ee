#include "io/tls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/list.h"
#include "base/mem.h"
#include "io/file.h"
#include "tls_private.h"

/*
 * The context: settings and roots. All of it is made by the loading thread and is not changed
 * afterwards. The mutex guards is_loaded and the waiters, and is held while they are posted: so
 * whoever frees a stream knows that the message is either not posted at all or already in the
 * mailbox of a loop that still lives.
 *
 * Roots are read eagerly. OpenSSL would rather look for a root when it needs it, which would be a
 * file read on the loop.
 */
struct io_tls {
    atomic_uint refs;
    pthread_t loader;
    bool use_system_roots;
    char *ca_file, *env_file, *env_directory; /* owned; or NULL */
    SSL_CTX *context;
    int error; /* of the loading */
    const char *reason;
    pthread_mutex_t mutex;
    bool is_loaded;
    struct list waiters;
};

/* RFC 9325 section 4.2: with forward secrecy and authenticated encryption only. TLS 1.3 has no
 * others. */
static const char ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!PSK";
static const unsigned char alpn[] = "\x08http/1.1"; /* RFC 7301 */

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

/* What clients and, one day, servers have in common. */
static bool set_up(SSL_CTX *context) {
    SSL_CTX_set_options(context,
                        SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(context, ciphers) == 1;
}

static bool set_up_client(SSL_CTX *context) {
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    /* RFC 9525: names in the subject alternative names only, "*" as a whole label only. */
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    /* Whatever ca_file names is trusted, also an authority that another one has signed. */
    return X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN) == 1 &&
           SSL_CTX_set_alpn_protos(context, alpn, sizeof alpn - 1) == 0;
}

static int load(struct io_tls *tls) {
    tls->context = SSL_CTX_new(TLS_client_method());
    if (tls->context == NULL || !set_up(tls->context) || !set_up_client(tls->context)) {
        tls->reason = "TLS cannot be set up on this machine";
        return -ENOMEM;
    }
    return load_roots(tls, SSL_CTX_get_cert_store(tls->context));
}

static void *run_loader(void *arg) {
    struct io_tls *tls = arg;
    struct list_link *link;
    int error = load(tls);
    ERR_clear_error();
    pthread_mutex_lock(&tls->mutex);
    tls->error = error;
    tls->is_loaded = true;
    while ((link = list_pop_front(&tls->waiters)) != NULL) {
        struct tls_waiter *waiter = CONTAINER_OF(link, struct tls_waiter, message.link);
        waiter->is_waiting = false;
        io_loop_post(waiter->loop, &waiter->message);
    }
    pthread_mutex_unlock(&tls->mutex);
    return NULL;
}

/* Signals are for the threads that wait for them. */
static int start_loader(struct io_tls *tls) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&tls->loader, NULL, run_loader, tls);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -error;
}

static char *dup_or_null(const char *string) {
    return string != NULL && string[0] != '\0' ? mem_xstrdup(string) : NULL;
}

static void free_tls(struct io_tls *tls) {
    SSL_CTX_free(tls->context);
    pthread_mutex_destroy(&tls->mutex);
    mem_free(tls->ca_file);
    mem_free(tls->env_file);
    mem_free(tls->env_directory);
    mem_free(tls);
}

int io_tls_client_new(const struct io_tls_client_options *options, struct io_tls **ret_tls) {
    struct io_tls *tls = mem_xalloc(sizeof *tls);
    atomic_init(&tls->refs, 1);
    tls->use_system_roots = options->use_system_roots;
    tls->ca_file = dup_or_null(options->ca_file);
    /* The environment is read here: not beside a thread that may be changing it. */
    tls->env_file = dup_or_null(getenv(X509_get_default_cert_file_env()));
    tls->env_directory = dup_or_null(getenv(X509_get_default_cert_dir_env()));
    pthread_mutex_init(&tls->mutex, NULL);
    list_init(&tls->waiters);
    int error = start_loader(tls);
    if (error != 0) {
        free_tls(tls);
        return error;
    }
    *ret_tls = tls;
    return 0;
}

struct io_tls *io_tls_ref(struct io_tls *tls) {
    atomic_fetch_add(&tls->refs, 1);
    return tls;
}

struct io_tls *io_tls_unref(struct io_tls *tls) {
    if (tls != NULL && atomic_fetch_sub(&tls->refs, 1) == 1) {
        pthread_join(tls->loader, NULL);
        free_tls(tls);
    }
    return NULL;
}

void tls_wait(struct io_tls *tls, struct tls_waiter *waiter) {
    pthread_mutex_lock(&tls->mutex);
    waiter->is_waiting = !tls->is_loaded;
    if (waiter->is_waiting)
        list_push_back(&tls->waiters, &waiter->message.link);
    else
        io_loop_post(waiter->loop, &waiter->message);
    pthread_mutex_unlock(&tls->mutex);
}

bool tls_wait_cancel(struct io_tls *tls, struct tls_waiter *waiter) {
    pthread_mutex_lock(&tls->mutex);
    bool was_waiting = waiter->is_waiting;
    if (was_waiting)
        list_remove(&waiter->message.link);
    waiter->is_waiting = false;
    pthread_mutex_unlock(&tls->mutex);
    return was_waiting;
}

int tls_context(const struct io_tls *tls, SSL_CTX **ret_context, const char **ret_reason) {
    if (tls->error != 0) {
        *ret_reason = tls->reason;
        return tls->error;
    }
    *ret_context = tls->context;
    return 0;
}
