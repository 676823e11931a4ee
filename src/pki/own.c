/*
 * The gateway's own authority and certificate, in DIR/tls.
 *
 * ca.key and server.key each hold a key and, behind it, its certificate: so one rename changes
 * both, and no moment exists in which they do not fit. ca.pem and server.pem are copies of the
 * certificates, for people and for clients; what they should hold is known, so one that is missing
 * or damaged is written again.
 *
 * A load first looks, without the lock: that is all that happens on most starts, and it needs no
 * writable disk. When something has to be made it takes the lock, looks again (another process may
 * have made it meanwhile), and makes it. What is found is a `plan`, which is decided in one place
 * and without a file: decide().
 *
 * The authority is what clients have been given, so it is kept by all means. Near its end its
 * certificate is made anew with the same name and key, which those who have the old one go on
 * trusting until that ends. When its key is lost (missing, damaged) the certificate of the server
 * is still served for as long as it lasts; only then a new authority is made. A file that is there
 * and cannot be read (permissions, a failing disk) is never replaced: the load fails.
 *
 * A clock that is wrong (no battery, before the first NTP) makes a certificate look as if it was
 * not valid yet. When the authority is not valid yet either, the clock is what is wrong, and
 * nothing is made.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "private.h"

#define DAY_MS UINT64_C(86400000)

enum { AUTHORITY_LEFT_DAYS = 365, SERVER_LEFT_PART = 3 };

/* One of the two: what its files say. */
struct found {
    struct pki_identity identity; /* with a key, it fits */
    bool is_there;                /* some file of it */
    bool is_stale;                /* NAME.pem does not hold the certificate of NAME.key */
};

enum authority_plan { AUTHORITY_KEEP, AUTHORITY_RENEW, AUTHORITY_NEW };

struct plan {
    enum authority_plan authority;
    bool new_server;
};

struct own {
    const struct pki_options *options;
    uint64_t now_ms;
    bool force;
    struct pki_folder folder;
    struct found authority, server;
    struct pki_names names;
    struct buf *reason;
};

static void found_deinit(struct found *found) {
    pki_identity_deinit(&found->identity);
    *found = (struct found){.is_there = false};
}

/* Says so, and is the error. */
static int fail(const struct own *own, int error, const char *verb, const char *name) {
    buf_printf(own->reason, "cannot %s %s/tls/%s: %s", verb, own->options->data_dir, name,
               error == -EINVAL ? "it is no regular file" : strerror(-error));
    return error;
}

/* --- looking --- */

/* Empty when there is no such file. */
MUST_CHECK static int read_content(const struct own *own, const char *name, struct buf *out) {
    int error = pki_file_read(own->folder.fd, name, out, NULL);
    if (error == -EFBIG) /* as damaged as any other */
        error = 0;
    return error == 0 || error == -ENOENT ? 0 : fail(own, error, "read", name);
}

/* "tls/ca.key" */
static struct slice sealed_name(struct buf *out, const char *name) {
    buf_append_cstr(out, "tls/");
    buf_append_cstr(out, name);
    return buf_slice(out);
}

/* In the place of what is encrypted. */
MUST_CHECK static int open_content(const struct own *own, const char *name, struct buf *content) {
    CLEANUP(buf_deinit) struct buf whole = BUF_INIT(64);
    CLEANUP(secret_freep) struct secret *plain = NULL;
    const struct sealing *sealing = own->options->sealing;
    int error = sealing->open(sealing->context, sealed_name(&whole, name), buf_slice(content),
                              &plain, own->reason);
    if (error != 0)
        return error;
    pki_buf_wipe(content);
    buf_init(content, LIMIT_CERTIFICATE_FILE);
    struct slice bytes = secret_reveal(plain); /* to be parsed */
    return buf_reserve(content, bytes.len) != NULL ? buf_append(content, bytes)
                                                   : buf_error(content);
}

/* One that is encrypted and cannot be opened is not a damaged one: nothing takes its place. */
MUST_CHECK static int read_file(const struct own *own, const char *name, struct buf *out) {
    int error = SEALING_E_REFUSED;
    for (int i = 0; i < SEALING_TRIES && error == SEALING_E_REFUSED; i++) {
        error = read_content(own, name, out);
        if (error != 0 || !sealing_is_sealed(buf_slice(out)))
            return error;
        buf_reset(own->reason, 0);
        error = SEALING_E_REFUSED;
        if (own->options->sealing != NULL)
            error = open_content(own, name, out);
    }
    if (error == SEALING_E_REFUSED && buf_len(own->reason) == 0)
        buf_printf(own->reason, "%s/tls/%s is encrypted, and there is no key",
                   own->options->data_dir, name);
    return error == SEALING_E_REFUSED ? PKI_E_INVALID : error;
}

static bool is_same(const X509 *a, const X509 *b) {
    return a != NULL && b != NULL && X509_cmp(a, b) == 0;
}

MUST_CHECK static int look_at(const struct own *own, const char *key_name, const char *pem_name,
                              struct found *found) {
    CLEANUP(pki_buf_wipe) struct buf key = BUF_INIT(0);
    CLEANUP(pki_buf_wipe) struct buf pem = BUF_INIT(0);
    found_deinit(found);
    int error = read_file(own, key_name, &key);
    if (error == 0)
        error = read_file(own, pem_name, &pem);
    if (error != 0)
        return error;
    found->is_there = key.data != NULL || pem.data != NULL;
    struct pki_identity whole = {.x509 = pki_pem_certificate(buf_slice(&key), 0),
                                 .key = pki_pem_key(buf_slice(&key))};
    X509 *copy = pki_pem_certificate(buf_slice(&pem), 0);
    if (pki_identity_fits(&whole)) {
        found->is_stale = !is_same(whole.x509, copy);
        found->identity = whole;
        X509_free(copy);
        return 0;
    }
    /* The key is lost; the certificate may be known all the same. */
    pki_identity_deinit(&whole);
    found->identity.x509 = copy;
    return 0;
}

MUST_CHECK static int look(struct own *own) {
    int error = look_at(own, "ca.key", "ca.pem", &own->authority);
    return error == 0 ? look_at(own, "server.key", "server.pem", &own->server) : error;
}

/* --- deciding --- */

static bool has_names(X509 *x509, const struct pki_names *wanted) {
    struct pki_names names;
    pki_names_init(&names);
    bool has = pki_names_of(x509, &names) == 0 && pki_names_same(&names, wanted);
    pki_names_deinit(&names);
    return has;
}

static bool is_near_end(X509 *x509, uint64_t now_ms) {
    struct pki_term term;
    if (!pki_term_of(x509, &term) || term.until_ms <= term.from_ms)
        return true;
    uint64_t left = (term.until_ms - term.from_ms) / SERVER_LEFT_PART;
    return now_ms >= term.until_ms - left;
}

static bool begins_later(X509 *x509, uint64_t now_ms) {
    struct pki_term term;
    return !pki_term_of(x509, &term) || term.from_ms > now_ms;
}

static bool is_server_good(const struct own *own) {
    X509 *server = own->server.identity.x509, *authority = own->authority.identity.x509;
    if (own->server.identity.key == NULL || authority == NULL ||
        !pki_is_issued_by(server, authority) || !has_names(server, &own->names) ||
        is_near_end(server, own->now_ms))
        return false;
    return !begins_later(server, own->now_ms) || begins_later(authority, own->now_ms);
}

static struct plan decide(const struct own *own) {
    const struct pki_identity *authority = &own->authority.identity;
    struct plan plan = {.new_server = own->force || !is_server_good(own)};
    struct pki_term term;
    if (authority->key == NULL)
        plan.authority = plan.new_server ? AUTHORITY_NEW : AUTHORITY_KEEP;
    else if (!pki_term_of(authority->x509, &term) ||
             own->now_ms + AUTHORITY_LEFT_DAYS * DAY_MS > term.until_ms)
        plan.authority = AUTHORITY_RENEW;
    if (plan.authority == AUTHORITY_NEW)
        plan.new_server = true;
    return plan;
}

static bool is_nothing_to_do(const struct own *own, const struct plan *plan) {
    return plan->authority == AUTHORITY_KEEP && !plan->new_server && !own->authority.is_stale &&
           !own->server.is_stale;
}

/* Not as it should be, and better than none. */
static bool is_servable(const struct own *own) {
    struct pki_term term;
    return own->server.identity.key != NULL && pki_term_of(own->server.identity.x509, &term) &&
           own->now_ms < term.until_ms;
}

/* --- making --- */

struct writing {
    const struct pki_folder *folder;
    const char *name;
};

MUST_CHECK static int put(void *context, struct slice content) {
    const struct writing *writing = context;
    return pki_folder_write(writing->folder, writing->name, content);
}

MUST_CHECK static int write_key(const struct own *own, const char *name, struct slice text) {
    CLEANUP(buf_deinit) struct buf whole = BUF_INIT(64);
    struct writing writing = {.folder = &own->folder, .name = name};
    const struct sealing *sealing = own->options->sealing;
    if (sealing == NULL)
        return put(&writing, text);
    return sealing->seal(sealing->context, sealed_name(&whole, name), text, put, &writing,
                         own->reason);
}

/* NAME.key first: it is what counts. */
MUST_CHECK static int write_identity(const struct own *own, const char *key_name,
                                     const char *pem_name, const struct pki_identity *identity,
                                     bool only_copy) {
    CLEANUP(pki_buf_wipe) struct buf text = BUF_INIT(LIMIT_CERTIFICATE_FILE);
    CLEANUP(buf_deinit) struct buf pem = BUF_INIT(LIMIT_CERTIFICATE_FILE);
    int error = buf_reserve(&text, KIB(64)) != NULL ? 0 : -ENOMEM;
    if (error == 0)
        error = pki_pem_write_certificate(&pem, identity->x509);
    if (error == 0 && !only_copy) {
        error = pki_pem_write_key(&text, identity->key);
        if (error == 0)
            error = buf_append(&text, buf_slice(&pem));
        if (error == 0)
            error = write_key(own, key_name, buf_slice(&text));
    }
    if (error != 0)
        return error > 0 ? PKI_E_INVALID : fail(own, error, "write", key_name);
    error = pki_folder_write(&own->folder, pem_name, buf_slice(&pem));
    return error == 0 ? 0 : fail(own, error, "write", pem_name);
}

MUST_CHECK static int cannot_make(const struct own *own) {
    buf_printf(own->reason, "OpenSSL cannot make a certificate on this machine");
    return PKI_E_INVALID;
}

static void log_authority(const struct own *own, bool is_renewed, bool was_there) {
    const char *message = "an authority of its own was made; clients have to be given its "
                          "certificate, which `cardea cert ca` prints";
    if (is_renewed)
        message = "the authority was given a new term with the same key; give clients its new "
                  "certificate before the old one ends (`cardea cert ca` prints it)";
    else if (was_there)
        message = "the authority's key was missing or damaged, so a new authority was made: "
                  "CLIENTS THAT TRUST THE OLD ONE REFUSE THIS GATEWAY until they are given the "
                  "new certificate, which `cardea cert ca` prints";
    log_write(own->options->log, is_renewed || was_there ? LOG_WARN : LOG_INFO, "tls", message,
              LOG_CSTR("data_dir", own->options->data_dir));
}

/* What was there stays beside it, for whoever has a use for it. */
static void keep_old(const struct own *own, const char *name, const char *as) {
    (void)renameat(own->folder.fd, name, own->folder.fd, as);
}

MUST_CHECK static int make_authority(struct own *own, bool is_renewal) {
    struct pki_identity made = {.x509 = NULL};
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    int error = pki_make_authority(is_renewal ? &own->authority.identity : NULL,
                                   slice_from_cstr(host), own->now_ms, &made);
    if (error != 0)
        return cannot_make(own);
    bool was_there = own->authority.is_there;
    if (!is_renewal && was_there) {
        keep_old(own, "ca.key", "ca.key.old");
        keep_old(own, "ca.pem", "ca.pem.old");
    }
    error = write_identity(own, "ca.key", "ca.pem", &made, false);
    if (error != 0) {
        pki_identity_deinit(&made);
        return error;
    }
    log_authority(own, is_renewal, was_there);
    found_deinit(&own->authority);
    own->authority = (struct found){.identity = made, .is_there = true};
    return 0;
}

static void log_server(const struct own *own) {
    const struct found *old = &own->server;
    const char *why = "there was none";
    if (own->force)
        why = "it was asked for";
    else if (old->is_there && old->identity.key == NULL)
        why = "its files were damaged or incomplete";
    else if (old->is_there && !pki_is_issued_by(old->identity.x509, own->authority.identity.x509))
        why = "the authority is another one";
    else if (old->is_there && !has_names(old->identity.x509, &own->names))
        why = "the names or addresses of the gateway are others";
    else if (old->is_there)
        why = "it is near its end, or its begin is still to come";
    bool is_damaged = old->is_there && old->identity.key == NULL;
    log_write(own->options->log, is_damaged ? LOG_WARN : LOG_INFO, "tls",
              "a new certificate was made", LOG_CSTR("because", why));
}

MUST_CHECK static int make_server(struct own *own) {
    struct pki_identity made = {.x509 = NULL};
    struct pki_names told;
    if (pki_make_server(&own->authority.identity, &own->names, own->now_ms, &made) != 0)
        return cannot_make(own);
    int error = write_identity(own, "server.key", "server.pem", &made, false);
    if (error != 0) {
        pki_identity_deinit(&made);
        return error;
    }
    log_server(own);
    /* Once for each certificate: what of tls.names is not in it. */
    pki_names_init(&told);
    error = pki_names_collect(own->options, own->options->log, &told);
    pki_names_deinit(&told);
    found_deinit(&own->server);
    own->server = (struct found){.identity = made, .is_there = true};
    return error;
}

MUST_CHECK static int lock_folder(struct own *own) {
    int error = pki_folder_open(own->options->data_dir, true, &own->folder);
    if (error == -EPERM)
        buf_printf(own->reason, "%s/tls belongs to another user; remove it or give it to this one",
                   own->options->data_dir);
    else if (error != 0)
        return fail(own, error, "make", "");
    if (error == 0)
        error = pki_folder_lock(&own->folder);
    return error == 0 || error == -EPERM ? error : fail(own, error, "lock", "lock");
}

/* A copy that cannot be written is no reason for not serving. */
static void write_copies(const struct own *own) {
    int error = 0;
    if (own->authority.is_stale)
        error = write_identity(own, "ca.key", "ca.pem", &own->authority.identity, true);
    if (error == 0 && own->server.is_stale)
        error = write_identity(own, "server.key", "server.pem", &own->server.identity, true);
    if (error != 0)
        log_write(own->options->log, LOG_WARN, "tls",
                  "a copy of a certificate cannot be written again",
                  LOG_TEXT("reason", buf_slice(own->reason)));
    buf_reset(own->reason, 0);
}

MUST_CHECK static int make(struct own *own) {
    int error = lock_folder(own);
    if (error == 0)
        error = look(own);
    if (error != 0)
        return error;
    struct plan plan = decide(own);
    if (plan.authority != AUTHORITY_KEEP)
        error = make_authority(own, plan.authority == AUTHORITY_RENEW);
    if (error == 0 && plan.new_server)
        error = make_server(own);
    if (error == 0)
        write_copies(own);
    return error;
}

/* --- what others ask --- */

MUST_CHECK static int give(const struct own *own, struct pki_pair *pair) {
    CLEANUP(pki_buf_wipe) struct buf key = BUF_INIT(LIMIT_CERTIFICATE_FILE);
    CLEANUP(buf_deinit) struct buf chain = BUF_INIT(LIMIT_CERTIFICATE_FILE);
    int error = buf_reserve(&key, KIB(16)) != NULL ? 0 : -ENOMEM;
    if (error == 0)
        error = pki_pem_write_key(&key, own->server.identity.key);
    if (error == 0)
        error = pki_pem_write_certificate(&chain, own->server.identity.x509);
    if (error != 0)
        return error;
    pki_buf_wipe(&pair->key);
    buf_deinit(&pair->chain);
    pair->key = key;
    pair->chain = chain;
    key = chain = BUF_INIT(0);
    return 0;
}

static void add_warning(struct pki_pair *pair, const char *text) {
    if (buf_len(&pair->warning) != 0)
        buf_append_cstr(&pair->warning, "; ");
    buf_append_cstr(&pair->warning, text);
}

static void find_warnings(const struct own *own, struct pki_pair *pair) {
    if (own->authority.identity.key == NULL)
        add_warning(pair,
                    "the key of the authority (ca.key in the folder tls of the data directory) is "
                    "missing or damaged: the certificate is served until its renewal is due, then "
                    "a new authority is made, which clients have to be given; a backup of the "
                    "file, put back, prevents that");
    if (begins_later(own->server.identity.x509, own->now_ms))
        add_warning(pair,
                    "the certificate and its authority begin in the future: is the clock right?");
}

MUST_CHECK static int load(struct own *own, struct pki_pair *pair) {
    int error = pki_names_collect(own->options, NULL, &own->names);
    if (error == 0)
        error = pki_folder_open(own->options->data_dir, false, &own->folder);
    bool is_there = error == 0;
    if (is_there)
        error = look(own);
    else if (error == -ENOENT || error == -EPERM)
        error = 0; /* make() says what is wrong */
    if (error != 0)
        return error;
    struct plan plan = decide(own);
    if (is_there && is_nothing_to_do(own, &plan))
        return 0;
    error = make(own);
    if (error == 0 || own->force || !is_servable(own))
        return error;
    /* A full or read-only disk must not end what still works. */
    add_warning(pair, "it has to be made anew, which failed, so the old one is served on: ");
    buf_append(&pair->warning, buf_slice(own->reason));
    buf_reset(own->reason, 0);
    return 0;
}

int pki_own_load(const struct pki_options *options, uint64_t now_wall_ms, bool force,
                 struct pki_pair *pair, struct buf *reason) {
    struct own own = {.options = options,
                      .now_ms = now_wall_ms,
                      .force = force,
                      .folder = PKI_FOLDER_INIT,
                      .reason = reason};
    pki_names_init(&own.names);
    int error = load(&own, pair);
    if (error == 0)
        error = give(&own, pair);
    if (error == 0)
        find_warnings(&own, pair);
    if (error != 0 && buf_len(reason) == 0)
        (void)fail(&own, error < 0 ? error : -EIO, "use", "");
    found_deinit(&own.authority);
    found_deinit(&own.server);
    pki_names_deinit(&own.names);
    pki_folder_close(&own.folder);
    return error;
}

bool pki_own_is_due(const struct pki_options *options, X509 *server, uint64_t now_wall_ms) {
    struct pki_names wanted;
    pki_names_init(&wanted);
    bool is_due = pki_names_collect(options, NULL, &wanted) == 0 &&
                  (!has_names(server, &wanted) || is_near_end(server, now_wall_ms));
    pki_names_deinit(&wanted);
    return is_due;
}
