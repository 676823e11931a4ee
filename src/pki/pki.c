#include "pki/pki.h"

#include <errno.h>
#include <string.h>

#include "private.h"

void pki_pair_init(struct pki_pair *pair) {
    *pair = (struct pki_pair){.chain = BUF_INIT(LIMIT_CERTIFICATE_FILE),
                              .key = BUF_INIT(LIMIT_CERTIFICATE_FILE),
                              .client_ca = BUF_INIT(LIMIT_CERTIFICATE_FILE),
                              .warning = BUF_INIT(KIB(8))};
}

void pki_pair_deinit(struct pki_pair *pair) {
    buf_deinit(&pair->chain);
    pki_buf_wipe(&pair->key);
    buf_deinit(&pair->client_ca);
    buf_deinit(&pair->warning);
}

int pki_pair_copy(const struct pki_pair *from, struct pki_pair *to) {
    struct slice key = buf_slice(&from->key);
    char *room = buf_reserve(&to->key, key.len + 1); /* once: no copy of a key is left behind */
    if (room == NULL || buf_append(&to->key, key) != 0 ||
        buf_append(&to->chain, buf_slice(&from->chain)) != 0 ||
        buf_append(&to->client_ca, buf_slice(&from->client_ca)) != 0)
        return -ENOMEM;
    return 0;
}

void pki_warn(const struct pki_options *options, const struct pki_pair *pair) {
    log_write(options->log, LOG_WARN, "tls", "the certificate needs attention",
              LOG_TEXT("reason", buf_slice(&pair->warning)));
}

bool pki_is_own(const struct pki_options *options) {
    return options->tls->certificate.len == 0;
}

int pki_load_quietly(const struct pki_options *options, uint64_t now_wall_ms, struct pki_pair *pair,
                     struct buf *reason) {
    CLEANUP(pki_pair_deinit) struct pki_pair loaded;
    pki_pair_init(&loaded);
    int error = pki_load_client_ca(options, &loaded, reason);
    if (error == 0)
        error = pki_is_own(options) ? pki_own_load(options, now_wall_ms, false, &loaded, reason)
                                    : pki_files_load(options, &loaded, reason);
    if (error != 0)
        return error;
    pki_pair_deinit(pair);
    *pair = loaded;
    pki_pair_init(&loaded);
    return 0;
}

int pki_load(const struct pki_options *options, uint64_t now_wall_ms, struct pki_pair *pair,
             struct buf *reason) {
    int error = pki_load_quietly(options, now_wall_ms, pair, reason);
    if (error == 0 && buf_len(&pair->warning) != 0)
        pki_warn(options, pair);
    if (error == 0 && !pki_is_own(options))
        pki_files_warn(options, now_wall_ms, pair);
    return error;
}

int pki_renew(const struct pki_options *options, uint64_t now_wall_ms, struct buf *reason) {
    CLEANUP(pki_pair_deinit) struct pki_pair pair;
    pki_pair_init(&pair);
    if (!pki_is_own(options)) {
        buf_printf(reason,
                   "the certificate comes from %.*s: renew that file; a running gateway takes it "
                   "up by itself",
                   SLICE_ARGS(options->tls->certificate));
        return PKI_E_INVALID;
    }
    return pki_own_load(options, now_wall_ms, true, &pair, reason);
}

int pki_authority(const struct pki_options *options, uint64_t now_wall_ms, struct buf *pem,
                  struct buf *reason) {
    CLEANUP(pki_pair_deinit) struct pki_pair pair;
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(LIMIT_CERTIFICATE_FILE);
    struct pki_folder folder = PKI_FOLDER_INIT;
    pki_pair_init(&pair);
    if (!pki_is_own(options)) {
        buf_printf(reason, "the certificate comes from %.*s, and so from an authority elsewhere",
                   SLICE_ARGS(options->tls->certificate));
        return PKI_E_INVALID;
    }
    int error = pki_own_load(options, now_wall_ms, false, &pair, reason);
    if (error != 0)
        return error;
    error = pki_folder_open(options->data_dir, false, &folder);
    if (error == 0)
        error = pki_file_read(folder.fd, "ca.pem", &text, NULL);
    pki_folder_close(&folder);
    if (error == 0)
        error = buf_append(pem, buf_slice(&text));
    if (error != 0)
        buf_printf(reason, "cannot read %s/tls/ca.pem: %s", options->data_dir, strerror(-error));
    return error;
}
