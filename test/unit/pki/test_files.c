/* The operator's files: what is refused and with which words, what is served with a warning. */
#include <openssl/pem.h>

#include "base/log.h"
#include "io/file.h"
#include "support.h"

/* Keys and certificates that the rows are made of. */
struct material {
    struct pki_identity authority, server, other, expired, early;
};

static void material_make(struct material *m) {
    struct pki_names names;
    const char *reason;
    *m = (struct material){.server = {.x509 = NULL}};
    pki_names_init(&names);
    if (pki_names_add(&names, SLICE("gw.example"), &reason) != 0 ||
        pki_make_authority(NULL, SLICE("test"), NOW, &m->authority) != 0 ||
        pki_make_server(&m->authority, &names, NOW, &m->server) != 0 ||
        pki_make_server(&m->authority, &names, NOW, &m->other) != 0 ||
        pki_make_server(&m->authority, &names, NOW - 200 * DAY, &m->expired) != 0 ||
        pki_make_server(&m->authority, &names, NOW + 200 * DAY, &m->early) != 0)
        CANNOT_GO_ON();
    pki_names_deinit(&names);
}

static void material_free(struct material *m) {
    struct pki_identity *all[] = {&m->authority, &m->server, &m->other, &m->expired, &m->early};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        pki_identity_deinit(all[i]);
}

enum part {
    NOTHING,
    CERT,
    CHAIN,
    WRONG_ORDER,
    KEY,
    OTHER,
    OTHER_KEY,
    CA,
    EXPIRED,
    EXPIRED_KEY,
    EARLY,
    EARLY_KEY,
    LOCKED_KEY,
    CHAIN_OUT_OF_ORDER
};

/* A key with a password. */
static void append_locked_key(struct buf *out, EVP_PKEY *key) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    char password[] = "secret";
    if (bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_128_cbc(), password,
                                                     sizeof password - 1, NULL, NULL) != 1)
        CANNOT_GO_ON();
    long len = BIO_get_mem_data(bio, &text);
    buf_append(out, slice_make(text, (size_t)len));
    BIO_free(bio);
}

static void append_part(struct buf *out, const struct material *m, enum part part) {
    X509 *certificates[3] = {NULL};
    EVP_PKEY *key = NULL;
    switch (part) {
    case NOTHING:
        buf_append_cstr(out, "-----BEGIN NOTHING-----\nAAAA\n-----END NOTHING-----\n");
        break;
    case CERT:
        certificates[0] = m->server.x509;
        break;
    case CHAIN:
        certificates[0] = m->server.x509;
        certificates[1] = m->authority.x509;
        break;
    case WRONG_ORDER:
        certificates[0] = m->authority.x509;
        certificates[1] = m->server.x509;
        break;
    case CHAIN_OUT_OF_ORDER:
        certificates[0] = m->server.x509;
        certificates[1] = m->other.x509;
        break;
    case OTHER:
        certificates[0] = m->other.x509;
        break;
    case CA:
        certificates[0] = m->authority.x509;
        break;
    case EXPIRED:
        certificates[0] = m->expired.x509;
        break;
    case EARLY:
        certificates[0] = m->early.x509;
        break;
    case KEY:
        key = m->server.key;
        break;
    case OTHER_KEY:
        key = m->other.key;
        break;
    case EXPIRED_KEY:
        key = m->expired.key;
        break;
    case EARLY_KEY:
        key = m->early.key;
        break;
    case LOCKED_KEY:
        append_locked_key(out, m->server.key);
        break;
    }
    int error = key != NULL ? pki_pem_write_key(out, key) : 0;
    for (size_t i = 0; error == 0 && i < 2 && certificates[i] != NULL; i++)
        error = pki_pem_write_certificate(out, certificates[i]);
    if (error != 0 || buf_error(out) != 0)
        CANNOT_GO_ON();
}

struct row {
    const char *name;
    enum part certificate[2], key[2];
    const char *reason; /* a part of it; NULL: it is taken */
    const char *warns;  /* a part of the log; NULL: nothing in it */
    mode_t mode;        /* of the key; 0: 0600 */
};

static const struct row rows[] = {
    {.name = "a pair", .certificate = {CERT}, .key = {KEY}},
    {.name = "a chain", .certificate = {CHAIN}, .key = {KEY}},
    {.name = "both in both", .certificate = {CERT, KEY}, .key = {CERT, KEY}},
    {.name = "another key", .certificate = {CERT}, .key = {OTHER_KEY}, .reason = "does not belong"},
    {.name = "the issuer first",
     .certificate = {WRONG_ORDER},
     .key = {KEY},
     .reason = "must begin with"},
    {.name = "the files are exchanged",
     .certificate = {KEY},
     .key = {CERT},
     .reason = "holds a key and no certificate"},
    {.name = "a certificate as key",
     .certificate = {CERT},
     .key = {CERT},
     .reason = "holds a certificate and no key"},
    {.name = "no certificate",
     .certificate = {NOTHING},
     .key = {KEY},
     .reason = "no certificate in PEM"},
    {.name = "no key", .certificate = {CERT}, .key = {NOTHING}, .reason = "no private key in PEM"},
    {.name = "a password", .certificate = {CERT}, .key = {LOCKED_KEY}, .reason = "with a password"},
    {.name = "expired", .certificate = {EXPIRED}, .key = {EXPIRED_KEY}, .warns = "has expired"},
    {.name = "early", .certificate = {EARLY}, .key = {EARLY_KEY}, .warns = "not valid yet"},
    {.name = "read by all",
     .certificate = {CERT},
     .key = {KEY},
     .mode = 0644,
     .warns = "chmod 600"},
    {.name = "read by the group",
     .certificate = {CERT},
     .key = {KEY},
     .mode = 0640,
     .warns = "chmod 600"},
    {.name = "out of order",
     .certificate = {CHAIN_OUT_OF_ORDER},
     .key = {KEY},
     .warns = "not in order"},
};

static void write_parts(const char *path, const struct material *m, const enum part parts[2]) {
    CLEANUP(pki_buf_wipe) struct buf text = BUF_INIT(KIB(64));
    append_part(&text, m, parts[0]);
    if (parts[1] != NOTHING)
        append_part(&text, m, parts[1]);
    write_file(path, buf_slice(&text));
}

static void check_row(const struct row *row, const struct material *m) {
    struct place place;
    CLEANUP(pki_pair_deinit) struct pki_pair pair;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    CLEANUP(io_fd_close) int log_fd = -1;
    place_make(&place);
    pki_pair_init(&pair);
    const char *certificate = path_in(&place, "cert.pem"), *key = path_in(&place, "key.pem");
    write_parts(certificate, m, row->certificate);
    write_parts(key, m, row->key);
    CHECK_INT(chmod(key, row->mode != 0 ? row->mode : 0600), 0);
    REQUIRE(io_file_open_append(path_in(&place, "log"), &log_fd) == 0);
    place.tls.certificate = slice_from_cstr(certificate);
    place.tls.key = slice_from_cstr(key);
    place.options.log = log_new(log_fd, LOG_INFO, LOG_STYLE_TEXT);
    int error = pki_load(&place.options, NOW, &pair, &reason);
    place.options.log = log_free(place.options.log);
    struct slice logged = read_whole_file(path_in(&place, "log"));
    CHECK_INT(error, row->reason != NULL ? PKI_E_INVALID : 0);
    if (row->reason != NULL) {
        CHECK(slice_find(buf_slice(&reason), slice_from_cstr(row->reason)) != SIZE_MAX);
        CHECK(slice_find(buf_slice(&reason), slice_from_cstr(place.dir)) != SIZE_MAX);
        CHECK_INT(buf_len(&pair.chain) + buf_len(&pair.key), 0);
    } else {
        CHECK(buf_len(&pair.chain) != 0 && buf_len(&pair.key) != 0);
    }
    if (row->warns != NULL)
        CHECK(slice_find(logged, slice_from_cstr(row->warns)) != SIZE_MAX);
    else
        CHECK_SLICE(logged, SLICE_EMPTY);
    slice_drop(&logged);
    place_remove(&place);
}

static void test_rows(void) {
    struct material m;
    material_make(&m);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        check_row(&rows[i], &m);
    }
    material_free(&m);
}

/* Files that cannot be read, or never end. */
static void test_unreadable(void) {
    static const struct {
        const char *name, *path, *says;
    } cases[] = {
        {"missing", "missing.pem", "No such file"},
        {"a folder", "folder", "Is a directory"},
        {"a pipe without a writer", "pipe", "no regular file"},
        {"too long", "long", "too long"},
        {"without an end", "/dev/zero", "no regular file"},
    };
    struct place place;
    CLEANUP(buf_deinit) struct buf zeros = BUF_INIT(MIB(2));
    place_make(&place);
    CHECK_INT(mkdir(path_in(&place, "folder"), 0700), 0);
    CHECK_INT(mkfifo(path_in(&place, "pipe"), 0600), 0);
    char *room = buf_reserve(&zeros, LIMIT_CERTIFICATE_FILE + 1);
    REQUIRE(room != NULL);
    memset(room, 0, LIMIT_CERTIFICATE_FILE + 1);
    write_file(path_in(&place, "long"), slice_make(room, LIMIT_CERTIFICATE_FILE + 1));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(pki_pair_deinit) struct pki_pair pair;
        CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
        const char *path = cases[i].path[0] == '/' ? cases[i].path : path_in(&place, cases[i].path);
        test_row(cases[i].name);
        pki_pair_init(&pair);
        place.tls.certificate = place.tls.key = slice_from_cstr(path);
        CHECK(pki_load(&place.options, NOW, &pair, &reason) < 0);
        CHECK(slice_find(buf_slice(&reason), slice_from_cstr(cases[i].says)) != SIZE_MAX);
        CHECK(slice_find(buf_slice(&reason), slice_from_cstr(path)) != SIZE_MAX);
        CHECK(slice_find(buf_slice(&reason), SLICE("server.tls.certificate")) != SIZE_MAX);
    }
    place_remove(&place);
}

static void test_client_ca(void) {
    struct place place;
    struct material m;
    CLEANUP(pki_pair_deinit) struct pki_pair pair;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    place_make(&place);
    material_make(&m);
    pki_pair_init(&pair);
    const char *path = path_in(&place, "clients.pem");
    place.tls.client_ca = slice_from_cstr(path);
    write_parts(path, &m, (enum part[2]){KEY, NOTHING});
    CHECK_INT(pki_load(&place.options, NOW, &pair, &reason), PKI_E_INVALID);
    CHECK(slice_find(buf_slice(&reason), SLICE("holds a key")) != SIZE_MAX);
    write_parts(path, &m, (enum part[2]){CA, NOTHING});
    buf_reset(&reason, 0);
    CHECK_INT(pki_load(&place.options, NOW, &pair, &reason), 0);
    struct slice text = read_whole_file(path);
    CHECK_SLICE(buf_slice(&pair.client_ca), text);
    slice_drop(&text);
    material_free(&m);
    place_remove(&place);
}

static void load_body(void *arg) {
    struct place *place = arg;
    CLEANUP(pki_pair_deinit) struct pki_pair pair;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    pki_pair_init(&pair);
    int error = pki_load(&place->options, NOW, &pair, &reason);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK(error == 0 || buf_len(&pair.key) == 0);
}

static void test_without_memory(void) {
    struct place place;
    struct material m;
    place_make(&place);
    material_make(&m);
    const char *certificate = path_in(&place, "cert.pem"), *key = path_in(&place, "key.pem");
    write_parts(certificate, &m, (enum part[2]){CHAIN, NOTHING});
    write_parts(key, &m, (enum part[2]){KEY, NOTHING});
    CHECK_INT(chmod(key, 0600), 0);
    place.tls.certificate = place.tls.client_ca = slice_from_cstr(certificate);
    place.tls.key = slice_from_cstr(key);
    test_torture(load_body, &place);
    material_free(&m);
    place_remove(&place);
}

TEST_MAIN(TEST(test_rows), TEST(test_unreadable), TEST(test_client_ca), TEST(test_without_memory))
