/* What the files of pki/ share: names, certificates that are made, files, and the two kinds of
 * sources (own.c, files.c). */
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "base/network.h"
#include "base/slice.h"
#include "pki/pki.h"

/* --- names (names.c) --- */

struct pki_name {
    bool is_address;
    struct slice value; /* a DNS name in lower case, or 4 or 16 bytes */
};

/* A set; in the order in which they came. */
struct pki_names {
    struct pki_name items[LIMIT_CERTIFICATE_NAMES];
    size_t n;
    struct arena arena;
};

void pki_names_init(struct pki_names *names);
void pki_names_deinit(struct pki_names *names);
/*
 * A DNS name, perhaps with "*" as its first label, or an address; again is nothing. 0; -ENOMEM;
 * PKI_E_INVALID: *ret_reason is the end of a sentence that begins with the name.
 */
MUST_CHECK int pki_names_add(struct pki_names *names, struct slice text, const char **ret_reason);
/* An address as text; false: `name` is none. */
enum { PKI_ADDRESS_SIZE = 64 };
bool pki_name_text(const struct pki_name *name, char out[static PKI_ADDRESS_SIZE]);
/* Both have the same members, in whatever order. */
bool pki_names_same(const struct pki_names *a, const struct pki_names *b);
/* The subject alternative names of a certificate. PKI_E_INVALID: it has others than names and
 * addresses, or some that pki_names_add() would refuse. */
MUST_CHECK int pki_names_of(X509 *x509, struct pki_names *names);
/* What the gateway is called: tls.names, this machine's name and addresses. What is left out is
 * logged, when there is a log. */
MUST_CHECK int pki_names_collect(const struct pki_options *options, struct log *log,
                                 struct pki_names *names);

/* --- certificates (make.c, pem.c) --- */

/* Both, or one of them, or none. */
struct pki_identity {
    X509 *x509;
    EVP_PKEY *key;
};

void pki_identity_deinit(struct pki_identity *identity);
bool pki_identity_fits(const struct pki_identity *identity);

/*
 * An authority. With `old` it is the old one with its name and key, and a new term: who trusts the
 * old certificate trusts what is signed with it as before. NULL: a new name, which holds `host`,
 * and a new key. PKI_E_INVALID: OpenSSL cannot.
 */
MUST_CHECK int pki_make_authority(const struct pki_identity *old, struct slice host,
                                  uint64_t now_wall_ms, struct pki_identity *ret_identity);
/* A certificate for a server, with a new key. */
MUST_CHECK int pki_make_server(const struct pki_identity *authority, const struct pki_names *names,
                               uint64_t now_wall_ms, struct pki_identity *ret_identity);
/* `x509` is signed with the key of `issuer`, and names it. */
bool pki_is_issued_by(X509 *x509, X509 *issuer);

/* Milliseconds since 1970; times before that are 0. False: there is no such time. */
bool pki_time(const ASN1_TIME *time, uint64_t *ret_wall_ms);
struct pki_term {
    uint64_t from_ms, until_ms;
};
bool pki_term_of(const X509 *x509, struct pki_term *ret_term);

/* PEM (RFC 7468). The n-th certificate of the text, from 0; NULL: there are no more. The queue of
 * OpenSSL's errors is empty afterwards. */
X509 *pki_pem_certificate(struct slice pem, size_t n);
/* NULL: there is none that can be read without a password. */
EVP_PKEY *pki_pem_key(struct slice pem);
/* Appends. -ENOMEM, -E2BIG. */
MUST_CHECK int pki_pem_write_certificate(struct buf *out, X509 *x509);
MUST_CHECK int pki_pem_write_key(struct buf *out, EVP_PKEY *key);

/* Frees the memory of a buffer that had a key in it, and wipes it before. */
void pki_buf_wipe(struct buf *buf);

/* --- files (store.c) --- */

/*
 * Reads a regular file of at most LIMIT_CERTIFICATE_FILE in place of what was in `out`; the memory
 * is asked for once, so that nothing of a key stays in a block that was too small. *ret_mode may be
 * NULL. -EISDIR and -EINVAL: it is no regular file; -EFBIG.
 */
MUST_CHECK int pki_file_read(int directory, const char *path, struct buf *out, mode_t *ret_mode);

/* DIR/tls: 0700, of the same owner as DIR. */
struct pki_folder {
    int fd, lock;
    uid_t owner; /* of the files in it */
    gid_t group;
};

#define PKI_FOLDER_INIT ((struct pki_folder){.fd = -1, .lock = -1})

void pki_folder_close(struct pki_folder *folder);
/* `make`: it is made when it is not there. -ENOENT; -EPERM: it belongs to somebody else. */
MUST_CHECK int pki_folder_open(const char *data_dir, bool make, struct pki_folder *folder);
/* Waits a while for another process that writes; -EWOULDBLOCK: it did not end. */
MUST_CHECK int pki_folder_lock(struct pki_folder *folder);
/* In one step, and durable when it returns 0: there is the old file, or the whole new one. The
 * folder is locked. */
MUST_CHECK int pki_folder_write(const struct pki_folder *folder, const char *name,
                                struct slice content);

/* --- sources --- */

/* The gateway's own certificate (own.c). `force`: a new one, whatever the age of the old one. */
MUST_CHECK int pki_own_load(const struct pki_options *options, uint64_t now_wall_ms, bool force,
                            struct pki_pair *pair, struct buf *reason);
/* The certificate that own.c made is to be replaced: by its term, or because the names are others.
 */
bool pki_own_is_due(const struct pki_options *options, X509 *server, uint64_t now_wall_ms);

/* The operator's files (files.c). */
MUST_CHECK int pki_files_load(const struct pki_options *options, struct pki_pair *pair,
                              struct buf *reason);
/* Into the log: what is served all the same. */
void pki_files_warn(const struct pki_options *options, uint64_t now_wall_ms,
                    const struct pki_pair *pair);

/* As pki_load(), without the warnings (pki.c). */
MUST_CHECK int pki_load_quietly(const struct pki_options *options, uint64_t now_wall_ms,
                                struct pki_pair *pair, struct buf *reason);
/* Into the log: the pair's own warning. */
void pki_warn(const struct pki_options *options, const struct pki_pair *pair);
/* Neither certificate nor key is named: the gateway's own. */
bool pki_is_own(const struct pki_options *options);
