/*
 * Certificates of the gateway itself: a local authority and a certificate made by it, in the data
 * directory, and the files that the operator names instead. Everything here is for the start, for a
 * slow timer and for the command line: files are read and keys are made on the calling thread, but
 * for the watch.
 *
 * DIR/tls/ca.pem, ca.key, server.pem, server.key, 0600 in a 0700 folder; written to a temporary
 * file, synced, renamed. Keys are EC P-256. The authority lives ten years and can sign certificates
 * for servers only, at depth 0. The certificate lives 90 days and is made anew when a third of that
 * is left, when names were added or removed, and when the authority is another one. A year before
 * the authority's end its certificate is made anew with the same name and key, so that clients that
 * have the old one go on trusting until that ends; the log says that they have to be given the new
 * one.
 *
 * ca.key and server.key hold the key and behind it its certificate, so that one rename changes
 * both; the .pem files are copies. Both are encrypted by whoever is given for that
 * (base/sealing.h). Other processes may read and renew meanwhile: writers take a lock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/sealing.h"
#include "base/slice.h"
#include "config/config.h"
#include "io/loop.h"

/* A certificate with its chain, and its key: PEM. The key is wiped by pki_pair_deinit(). */
struct pki_pair {
    struct buf chain, key;
    struct buf client_ca; /* the file of tls.client_ca; empty: none */
    struct buf warning;   /* what the log is told about it; empty: nothing */
};

void pki_pair_init(struct pki_pair *pair);
void pki_pair_deinit(struct pki_pair *pair);
/* Into an empty one. -ENOMEM. */
MUST_CHECK int pki_pair_copy(const struct pki_pair *from, struct pki_pair *to);

struct pki_options {
    const struct config_tls *tls; /* outlives it */
    const char *data_dir;
    const struct sealing *sealing; /* of ca.key and server.key; NULL: they are in plain */
    /* Addresses and names of this machine, beside tls->names. */
    struct slice listen_address; /* as gateway_address(): "0.0.0.0:8000" means all interfaces */
    struct slice health_address; /* of a listener of its own, likewise; empty: there is none */
    struct log *log;
};

/*
 * What the options want: the operator's files, or the gateway's own certificate, made or renewed as
 * needed. -errno or PKI_E_INVALID; *ret_reason (owned by the caller, a buf) says what is wrong and
 * what to do, with the path of the file.
 */
enum { PKI_E_INVALID = 1 };
MUST_CHECK int pki_load(const struct pki_options *options, uint64_t now_wall_ms,
                        struct pki_pair *pair, struct buf *reason);

/* The file of tls.client_ca alone, into pair->client_ca. */
MUST_CHECK int pki_load_client_ca(const struct pki_options *options, struct pki_pair *pair,
                                  struct buf *reason);

/* Makes a new certificate now, whatever its age. The running gateway takes it up by itself. */
MUST_CHECK int pki_renew(const struct pki_options *options, uint64_t now_wall_ms,
                         struct buf *reason);

/* Appends the authority's certificate in PEM; it is made when there is none. As pki_load(), and
 * PKI_E_INVALID when the certificate comes from files of the operator. */
MUST_CHECK int pki_authority(const struct pki_options *options, uint64_t now_wall_ms,
                             struct buf *pem, struct buf *reason);

/* What `cardea cert show` prints of one PEM chain: as text for people, or as one JSON object.
 * PKI_E_INVALID: there is no certificate in it. */
MUST_CHECK int pki_describe(struct slice chain_pem, uint64_t now_wall_ms, bool as_json,
                            struct buf *out);

/*
 * Looks after the files on a loop: every few seconds whether one of them is another one than before
 * (so that a renewed certificate, of whatever tool, is taken up), and whether the own one is due.
 * `fn` gets what pki_load() read, on the loop, when it is not what was `loaded` or came last; what
 * cannot be loaded is logged once and the old one stays. Files are read and written on a thread of
 * its own.
 */
struct pki_watch;
typedef void pki_changed_fn(void *context, const struct pki_pair *pair);
MUST_CHECK int pki_watch_new(struct io_loop *loop, const struct pki_options *options,
                             const struct pki_pair *loaded, pki_changed_fn *fn, void *context,
                             struct pki_watch **ret_watch);
/* At once, as after a reload. Any thread. */
void pki_watch_check(struct pki_watch *watch);
/* On the thread of the loop, or when that does not run. Waits for a look that is going on. */
struct pki_watch *pki_watch_free(struct pki_watch *watch);
