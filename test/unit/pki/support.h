/* A data directory for a test, options for it, and what certificates say. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "private.h"
#include "test.h"

#define DAY UINT64_C(86400000)
/* A day in 2026. */
#define NOW UINT64_C(1790000000000)

struct place {
    char dir[64];
    struct slice names[16];
    struct config_tls tls;
    struct pki_options options;
};

MAYBE_UNUSED static void place_make(struct place *place) {
    *place = (struct place){.tls = {.is_set = true, .is_auto = true}};
    (void)snprintf(place->dir, sizeof place->dir, "%s/cardea-test-XXXXXX", P_tmpdir);
    if (mkdtemp(place->dir) == NULL)
        CANNOT_GO_ON();
    place->tls.names = place->names;
    place->options = (struct pki_options){
        .tls = &place->tls, .data_dir = place->dir, .listen_address = SLICE("127.0.0.1:8000")};
}

MAYBE_UNUSED static void place_name(struct place *place, const char *name) {
    place->names[place->tls.n_names++] = slice_from_cstr(name);
}

/* Valid until the sixteenth call behind it. */
MAYBE_UNUSED static const char *path_in(const struct place *place, const char *name) {
    static char paths[16][256];
    static unsigned next;
    char *path = paths[next++ % 16];
    (void)snprintf(path, sizeof paths[0], "%s/%s", place->dir, name);
    return path;
}

MAYBE_UNUSED static int remove_one(const char *path, const struct stat *info, int kind,
                                   struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

MAYBE_UNUSED static void place_remove(struct place *place) {
    (void)nftw(place->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

MAYBE_UNUSED static void write_file(const char *path, struct slice content) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(content.ptr, 1, content.len, file) != content.len ||
        fclose(file) != 0)
        CANNOT_GO_ON();
}

/* The bytes of a file; freed by mem_free(). Empty: there is none. */
MAYBE_UNUSED static struct slice read_whole_file(const char *path) {
    struct buf text = BUF_INIT(MIB(1));
    size_t len = 0;
    if (pki_file_read(AT_FDCWD, path, &text, NULL) != 0) {
        pki_buf_wipe(&text);
        return slice_make(NULL, 0);
    }
    char *bytes = buf_take(&text, &len);
    return slice_make(bytes, len);
}

MAYBE_UNUSED static void slice_drop(struct slice *slice) {
    char *bytes = NULL;
    memcpy(&bytes, &slice->ptr, sizeof bytes);
    mem_free(bytes);
    *slice = SLICE_EMPTY;
}

/* pki_load() that has to succeed; its certificate. */
MAYBE_UNUSED static X509 *load_at(struct place *place, uint64_t now_ms) {
    CLEANUP(pki_pair_deinit) struct pki_pair pair;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    pki_pair_init(&pair);
    CHECK_INT(pki_load(&place->options, now_ms, &pair, &reason), 0);
    CHECK_STR(buf_slice(&reason), "");
    struct pki_identity pairs = {.x509 = pki_pem_certificate(buf_slice(&pair.chain), 0),
                                 .key = pki_pem_key(buf_slice(&pair.key))};
    CHECK(pki_identity_fits(&pairs));
    EVP_PKEY_free(pairs.key);
    return pairs.x509;
}

MAYBE_UNUSED static X509 *certificate_in(const struct place *place, const char *name) {
    struct slice text = read_whole_file(path_in(place, name));
    X509 *x509 = pki_pem_certificate(text, 0);
    slice_drop(&text);
    return x509;
}

/* X509_V_OK, or why a client that trusts only `authority` refuses it for that name or address. */
MAYBE_UNUSED static int verify(X509 *x509, X509 *authority, const char *name, uint64_t now_ms) {
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (store == NULL || ctx == NULL || X509_STORE_add_cert(store, authority) != 1 ||
        X509_STORE_CTX_init(ctx, store, x509, NULL) != 1)
        CANNOT_GO_ON();
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    X509_VERIFY_PARAM_set_time(param, (time_t)(now_ms / 1000));
    if (name != NULL && X509_VERIFY_PARAM_set1_ip_asc(param, name) != 1)
        X509_VERIFY_PARAM_set1_host(param, name, 0);
    int result = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return result;
}
