/*
 * TLS of connections that come, up to the end of the handshake: which certificates make a server,
 * which clients are let in, what is known of them then. What travels afterwards is in
 * test_tls_server_stream.c.
 */
#include "tls_visitor.h"

static struct cert root, cert;

static void prepare(void) {
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    root = cert_make(&(struct cert_spec){.subject = "test root", .is_authority = true}, NULL);
    cert = cert_make(&(struct cert_spec){.subject = "s", .names = "DNS:host.test"}, &root);
}

static void clean_up(void) {
    cert_free(&root);
    cert_free(&cert);
}

/* --- our own certificate --- */

/* A certificate with a key of another kind than cert_make() makes. */
static struct cert with_key(EVP_PKEY *key) {
    struct cert other = cert_make(&(struct cert_spec){.subject = "s"}, &root);
    const EVP_MD *digest = EVP_PKEY_get_id(root.key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
    if (key == NULL || X509_set_pubkey(other.x509, key) != 1 ||
        X509_sign(other.x509, root.key, digest) == 0)
        CANNOT_GO_ON();
    EVP_PKEY_free(other.key);
    other.key = key;
    return other;
}

struct context_row {
    const char *label;
    const char *reason; /* NULL: it is taken */
    void (*make)(struct buf *chain, struct buf *key, struct buf *ca);
};

static void add_cert(struct buf *out, const struct cert *one) {
    cert_pem(out, &one, 1);
}

static void make_plain(struct buf *chain, struct buf *key, struct buf *ca) {
    (void)ca;
    add_cert(chain, &cert);
    key_pem(key, cert.key, NULL);
}

static void make_with_root(struct buf *chain, struct buf *key, struct buf *ca) {
    make_plain(chain, key, ca);
    add_cert(chain, &root);
}

static void make_swapped(struct buf *chain, struct buf *key, struct buf *ca) {
    (void)ca;
    add_cert(chain, &root);
    add_cert(chain, &cert);
    key_pem(key, cert.key, NULL);
}

static void make_disorder(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert middle =
        cert_make(&(struct cert_spec){.subject = "middle", .is_authority = true}, &root);
    struct cert leaf = cert_make(&(struct cert_spec){.subject = "s"}, &middle);
    (void)ca;
    add_cert(chain, &leaf);
    add_cert(chain, &root);
    add_cert(chain, &middle);
    key_pem(key, leaf.key, NULL);
    cert_free(&middle);
    cert_free(&leaf);
}

static void make_chain_of_three(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert middle =
        cert_make(&(struct cert_spec){.subject = "middle", .is_authority = true}, &root);
    struct cert leaf = cert_make(&(struct cert_spec){.subject = "s"}, &middle);
    (void)ca;
    add_cert(chain, &leaf);
    add_cert(chain, &middle);
    add_cert(chain, &root);
    key_pem(key, leaf.key, NULL);
    cert_free(&middle);
    cert_free(&leaf);
}

static void make_foreign_chain(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert stranger =
        cert_make(&(struct cert_spec){.subject = "stranger", .is_authority = true}, NULL);
    make_plain(chain, key, ca);
    add_cert(chain, &stranger);
    cert_free(&stranger);
}

static void make_long_chain(struct buf *chain, struct buf *key, struct buf *ca) {
    make_plain(chain, key, ca);
    for (int i = 0; i < 8; i++)
        add_cert(chain, &root);
}

static void make_other_key(struct buf *chain, struct buf *key, struct buf *ca) {
    EVP_PKEY *other = EVP_EC_gen("P-256");
    (void)ca;
    add_cert(chain, &cert);
    key_pem(key, other, NULL);
    EVP_PKEY_free(other);
}

static void make_secret_key(struct buf *chain, struct buf *key, struct buf *ca) {
    (void)ca;
    add_cert(chain, &cert);
    key_pem(key, cert.key, "sesame");
}

static void make_no_key(struct buf *chain, struct buf *key, struct buf *ca) {
    (void)key, (void)ca;
    add_cert(chain, &cert);
}

static void make_key_is_certificate(struct buf *chain, struct buf *key, struct buf *ca) {
    (void)ca;
    add_cert(chain, &cert);
    add_cert(key, &cert);
}

static void make_no_certificate(struct buf *chain, struct buf *key, struct buf *ca) {
    (void)ca;
    CHECK_INT(buf_append_cstr(chain, "nothing here\n"), 0);
    key_pem(key, cert.key, NULL);
}

static void make_empty(struct buf *chain, struct buf *key, struct buf *ca) {
    (void)chain, (void)ca;
    key_pem(key, cert.key, NULL);
}

static void make_damaged(struct buf *chain, struct buf *key, struct buf *ca) {
    make_plain(chain, key, ca);
    chain->data[chain->start + 100] ^= 0x15;
}

static void make_second_damaged(struct buf *chain, struct buf *key, struct buf *ca) {
    make_with_root(chain, key, ca);
    buf_truncate(chain, buf_len(chain) - 40);
}

static void make_short(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert other = with_key(EVP_RSA_gen(1024));
    (void)ca;
    add_cert(chain, &other);
    key_pem(key, other.key, NULL);
    cert_free(&other);
}

static void make_almost_long(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert other = with_key(EVP_RSA_gen(2040));
    (void)ca;
    add_cert(chain, &other);
    key_pem(key, other.key, NULL);
    cert_free(&other);
}

static void make_rsa(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert other = with_key(EVP_RSA_gen(2048));
    (void)ca;
    add_cert(chain, &other);
    key_pem(key, other.key, NULL);
    cert_free(&other);
}

static void make_p384(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert other = with_key(EVP_EC_gen("P-384"));
    (void)ca;
    add_cert(chain, &other);
    key_pem(key, other.key, NULL);
    cert_free(&other);
}

static void make_p521(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert other = with_key(EVP_EC_gen("P-521"));
    (void)ca;
    add_cert(chain, &other);
    key_pem(key, other.key, NULL);
    cert_free(&other);
}

static void make_secp256k1(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert other = with_key(EVP_EC_gen("secp256k1"));
    (void)ca;
    add_cert(chain, &other);
    key_pem(key, other.key, NULL);
    cert_free(&other);
}

static void make_ed25519(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert other = with_key(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
    (void)ca;
    add_cert(chain, &other);
    key_pem(key, other.key, NULL);
    cert_free(&other);
}

static void make_ed448(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert other = with_key(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"));
    (void)ca;
    add_cert(chain, &other);
    key_pem(key, other.key, NULL);
    cert_free(&other);
}

static void make_sha1(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert other = cert_make(&(struct cert_spec){.subject = "s", .uses_sha1 = true}, &root);
    (void)ca;
    add_cert(chain, &other);
    key_pem(key, other.key, NULL);
    cert_free(&other);
}

static void make_for_clients(struct buf *chain, struct buf *key, struct buf *ca) {
    struct cert other =
        cert_make(&(struct cert_spec){.subject = "s", .usage = "clientAuth"}, &root);
    (void)ca;
    add_cert(chain, &other);
    key_pem(key, other.key, NULL);
    cert_free(&other);
}

static void make_with_parameters(struct buf *chain, struct buf *key, struct buf *ca) {
    (void)ca;
    /* As `openssl ecparam -genkey` writes it, and with text around it. */
    CHECK_INT(buf_append_cstr(key, "a key\n-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
                                   "-----END EC PARAMETERS-----\n"),
              0);
    CHECK_INT(buf_append_cstr(chain, "a certificate\n"), 0);
    make_plain(chain, key, ca);
    CHECK_INT(buf_append_cstr(chain, "its end\n"), 0);
}

static void make_client_ca(struct buf *chain, struct buf *key, struct buf *ca) {
    make_plain(chain, key, ca);
    add_cert(ca, &root);
    add_cert(ca, &root); /* twice is once */
}

static void make_client_ca_is_leaf(struct buf *chain, struct buf *key, struct buf *ca) {
    make_plain(chain, key, ca);
    add_cert(ca, &root);
    add_cert(ca, &cert);
}

static void make_client_ca_empty(struct buf *chain, struct buf *key, struct buf *ca) {
    make_plain(chain, key, ca);
    CHECK_INT(buf_append_cstr(ca, "\n"), 0);
}

static void make_client_ca_damaged(struct buf *chain, struct buf *key, struct buf *ca) {
    make_client_ca(chain, key, ca);
    buf_truncate(ca, buf_len(ca) - 40);
}

#define DISORDER "the chain is not in order: behind each certificate comes that of its issuer"
#define DAMAGED  "the certificate cannot be read: it is not PEM, or damaged"
#define CURVE    "the curve of the key is neither P-256 nor P-384"

static const struct context_row context_rows[] = {
    {"P-256", NULL, make_plain},
    {"P-384", NULL, make_p384},
    {"RSA", NULL, make_rsa},
    {"Ed25519", NULL, make_ed25519},
    {"with its root", NULL, make_with_root},
    {"chain of three", NULL, make_chain_of_three},
    {"parameters and text", NULL, make_with_parameters},
    {"authorities of clients", NULL, make_client_ca},
    {"root first", "the certificate of the key is not the first one of its file", make_swapped},
    {"intermediate last", DISORDER, make_disorder},
    {"foreign chain", DISORDER, make_foreign_chain},
    {"nine certificates", "there are more than 8 certificates in the chain", make_long_chain},
    {"other key", "the key does not belong to the certificate", make_other_key},
    {"passphrase", "the key is protected by a passphrase; write it without one", make_secret_key},
    {"no key", "the key is no private key in PEM", make_no_key},
    {"a certificate for a key", "the key is no private key in PEM", make_key_is_certificate},
    {"no certificate", "there is no certificate in its file", make_no_certificate},
    {"empty", "there is no certificate in its file", make_empty},
    {"damaged", DAMAGED, make_damaged},
    {"second is cut off", DAMAGED, make_second_damaged},
    {"RSA 1024", "the RSA key has fewer than 2048 bits", make_short},
    {"RSA 2040", "the RSA key has fewer than 2048 bits", make_almost_long},
    {"P-521", CURVE, make_p521},
    {"secp256k1", CURVE, make_secp256k1},
    {"Ed448", "the key is of a kind that is not used: RSA, P-256, P-384 and Ed25519 are",
     make_ed448},
    {"SHA-1", "the signature of the certificate is of a weak kind", make_sha1},
    {"for clients", "the certificate is not made for servers", make_for_clients},
    {"client_ca is a leaf", "client_ca holds a certificate that is none of an authority",
     make_client_ca_is_leaf},
    {"client_ca is empty", "there is no certificate in client_ca", make_client_ca_empty},
    {"client_ca is damaged", "client_ca cannot be read: it is not PEM, or damaged",
     make_client_ca_damaged},
};

/* The text in a block of its own length, without a NUL behind it. */
static struct slice exact(const struct buf *buf) {
    char *copy = mem_alloc(buf_len(buf));
    if (copy == NULL)
        CANNOT_GO_ON();
    memcpy(copy, buf_slice(buf).ptr, buf_len(buf));
    return slice_make(copy, buf_len(buf));
}

static void free_exact(struct slice slice) {
    union {
        const char *in;
        char *out;
    } text = {.in = slice.ptr};
    mem_free(text.out);
}

static void test_contexts(void) {
    for (size_t i = 0; i < ARRAY_LEN(context_rows); i++) {
        const struct context_row *row = &context_rows[i];
        struct buf chain = BUF_INIT(KIB(64)), key = BUF_INIT(KIB(64)), ca = BUF_INIT(KIB(64));
        struct io_tls *tls = NULL;
        const char *reason = "untouched";
        test_row(row->label);
        row->make(&chain, &key, &ca);
        struct io_tls_server_options options = {
            .chain = exact(&chain), .key = exact(&key), .client_ca = exact(&ca)};
        CHECK_INT(io_tls_server_new(&options, &tls, &reason),
                  row->reason == NULL ? 0 : IO_TLS_E_INVALID);
        CHECK_STR(slice_from_cstr(reason), row->reason != NULL ? row->reason : "untouched");
        CHECK((tls != NULL) == (row->reason == NULL));
        CHECK_INT((long long)ERR_peek_error(), 0);
        io_tls_unref(tls);
        free_exact(options.chain);
        free_exact(options.key);
        free_exact(options.client_ca);
        buf_deinit(&chain);
        buf_deinit(&key);
        buf_deinit(&ca);
    }
}

/* --- handshakes --- */

/* OpenSSL's macros for these cast const away. */
static void set_list(SSL_CTX *ctx, int command, const char *list) {
    char copy[100];
    snprintf(copy, sizeof copy, "%s", list);
    CHECK_INT(SSL_CTX_ctrl(ctx, command, 0, copy), 1);
}

static void set_tls11(SSL_CTX *ctx) {
    SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
}

static void set_tls12(SSL_CTX *ctx) {
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
}

static void set_cbc(SSL_CTX *ctx) {
    set_tls12(ctx);
    SSL_CTX_set_cipher_list(ctx, "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384");
}

static void set_dhe(SSL_CTX *ctx) {
    set_tls12(ctx);
    SSL_CTX_set_cipher_list(ctx, "DHE-RSA-AES128-GCM-SHA256:DHE-DSS-AES128-GCM-SHA256");
}

static void set_rsa_exchange(SSL_CTX *ctx) {
    set_tls12(ctx);
    SSL_CTX_set_cipher_list(ctx, "AES128-GCM-SHA256:AES256-GCM-SHA384");
}

static void set_anonymous(SSL_CTX *ctx) {
    set_tls12(ctx);
    SSL_CTX_set_cipher_list(ctx, "AECDH-AES128-SHA:ADH-AES128-GCM-SHA256:@SECLEVEL=0");
}

/* The client would rather have the last one; ours is the order that counts. */
static void set_order(SSL_CTX *ctx) {
    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256");
    set_list(ctx, SSL_CTRL_SET_GROUPS_LIST, "P-384:P-256:X25519");
}

static void set_chacha(SSL_CTX *ctx) {
    SSL_CTX_set_ciphersuites(ctx, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256");
}

static void set_p384(SSL_CTX *ctx) {
    set_list(ctx, SSL_CTRL_SET_GROUPS_LIST, "P-521:P-384");
}

static void set_p521(SSL_CTX *ctx) {
    set_list(ctx, SSL_CTRL_SET_GROUPS_LIST, "P-521:X448");
}

static void set_ffdhe(SSL_CTX *ctx) {
    set_list(ctx, SSL_CTRL_SET_GROUPS_LIST, "ffdhe2048");
}

static void set_sha1(SSL_CTX *ctx) {
    set_tls12(ctx);
    set_list(ctx, SSL_CTRL_SET_SIGALGS_LIST, "ECDSA+SHA1:RSA+SHA1");
}

static void set_alpn_http1(SSL_CTX *ctx) {
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2\x08http/1.1", 12);
}

static void set_alpn_h2(SSL_CTX *ctx) {
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2\x08http/1.0", 12);
}

static void set_alpn_longer(SSL_CTX *ctx) {
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x09http/1.12\x07http/1.", 18);
}

struct handshake_row {
    const char *label;
    void (*set)(SSL_CTX *ctx);
    const char *reason; /* NULL: it is taken */
    int version;
    const char *cipher, *group, *alpn; /* NULL: any */
};

#define REFUSED(label_, set_, reason_)                                                             \
    { .label = label_, .set = set_, .reason = reason_ }

static const struct handshake_row handshake_rows[] = {
    {"as it is", NULL, NULL, TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", "X25519", ""},
    {"TLS 1.2", set_tls12, NULL, TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", "X25519", ""},
    REFUSED("TLS 1.1", set_tls11, "the client speaks neither TLS 1.2 nor TLS 1.3"),
    REFUSED("CBC", set_cbc, "there is no cipher that both sides take"),
    REFUSED("DHE", set_dhe, "there is no cipher that both sides take"),
    REFUSED("RSA key exchange", set_rsa_exchange, "there is no cipher that both sides take"),
    REFUSED("anonymous", set_anonymous, "there is no cipher that both sides take"),
    {"our order", set_order, NULL, TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", NULL, ""},
    {"a client without AES", set_chacha, NULL, TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", NULL,
     ""},
    {"P-384", set_p384, NULL, TLS1_3_VERSION, NULL, "P-384", ""},
    REFUSED("P-521", set_p521, "there is no key exchange that both sides take"),
    REFUSED("finite field", set_ffdhe, "there is no key exchange that both sides take"),
    REFUSED("SHA-1", set_sha1, "there is no signature that both sides take"),
    {"ALPN", set_alpn_http1, NULL, TLS1_3_VERSION, NULL, NULL, "http/1.1"},
    REFUSED("ALPN without http/1.1", set_alpn_h2, "the client does not offer HTTP/1.1"),
    REFUSED("ALPN with other lengths", set_alpn_longer, "the client does not offer HTTP/1.1"),
};

static void test_handshakes(void) {
    struct io_tls *tls = server_tls(&cert, NULL, false);
    for (size_t i = 0; i < ARRAY_LEN(handshake_rows); i++) {
        const struct handshake_row *row = &handshake_rows[i];
        struct house house;
        struct visitor visitor;
        test_row(row->label);
        house_open(&house, tls);
        visitor_init(&visitor, visitor_shakes_and_drains);
        if (row->set != NULL)
            row->set(visitor.ctx);
        visitor_start(&visitor, house_connect(&house));
        guarded_run(&house.guarded);
        CHECK_INT(house.readies, 1);
        CHECK_INT(house.ready_error, row->reason == NULL ? 0 : -EPROTO);
        CHECK_STR(slice_from_cstr(house.reason), row->reason != NULL ? row->reason : "");
        CHECK(!io_stream_tls_has_certificate(house.stream));
        house_settle(&house);
        CHECK_INT(house.reads + house.ends, 0);
        house_close(&house);
        visitor_stop(&visitor);
        CHECK_INT(visitor.shook, row->reason == NULL);
        if (row->reason != NULL)
            continue;
        CHECK_INT(visitor.version, row->version);
        CHECK_INT(visitor.records, 0); /* no tickets */
        if (row->cipher != NULL)
            CHECK_STR(slice_from_cstr(visitor.cipher), row->cipher);
        if (row->group != NULL)
            CHECK_STR(slice_from_cstr(visitor.group), row->group);
        CHECK_STR(slice_from_cstr(visitor.alpn), row->alpn);
    }
    io_tls_unref(tls);
}

/* no_application_protocol: RFC 7301 section 3.2 */
static void test_alpn_alert(void) {
    struct io_tls *tls = server_tls(&cert, NULL, false);
    struct house house;
    struct visitor visitor;
    house_open(&house, tls);
    visitor_init(&visitor, visitor_shakes_and_drains);
    set_alpn_h2(visitor.ctx);
    visitor_start(&visitor, house_connect(&house));
    guarded_run(&house.guarded);
    house_close(&house);
    visitor_stop(&visitor);
    CHECK_INT(visitor.reason, SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
    io_tls_unref(tls);
}

static void test_only_tls13(void) {
    struct buf chain = BUF_INIT(KIB(64)), key = BUF_INIT(KIB(64)), ca = BUF_INIT(KIB(64));
    struct io_tls *tls = NULL;
    const char *reason = "";
    make_plain(&chain, &key, &ca);
    struct io_tls_server_options options = {
        .chain = buf_slice(&chain), .key = buf_slice(&key), .only_tls13 = true};
    REQUIRE(io_tls_server_new(&options, &tls, &reason) == 0);
    for (int i = 0; i < 2; i++) {
        struct house house;
        struct visitor visitor;
        house_open(&house, tls);
        visitor_init(&visitor, visitor_shakes_and_drains);
        if (i == 0)
            set_tls12(visitor.ctx);
        visitor_start(&visitor, house_connect(&house));
        guarded_run(&house.guarded);
        CHECK_INT(house.ready_error, i == 0 ? -EPROTO : 0);
        house_close(&house);
        visitor_stop(&visitor);
    }
    io_tls_unref(tls);
    buf_deinit(&chain);
    buf_deinit(&key);
    buf_deinit(&ca);
}

/* A session of before is not taken up, whatever the client still has. */
static SSL_SESSION *kept;

static void visitor_keeps_session(struct visitor *visitor) {
    if (kept != NULL)
        SSL_set_session(visitor->ssl, kept);
    if (!visitor_shake(visitor))
        return;
    visitor->is_wrong = SSL_session_reused(visitor->ssl) != 0;
    SSL_SESSION_free(kept);
    kept = SSL_get1_session(visitor->ssl);
    visitor->count = SSL_SESSION_is_resumable(kept) != 0 && SSL_SESSION_has_ticket(kept) != 0;
    visitor_drain(visitor);
}

static void test_no_resumption(void) {
    struct io_tls *tls = server_tls(&cert, NULL, false);
    for (int i = 0; i < 4; i++) {
        struct house house;
        struct visitor visitor;
        house_open(&house, tls);
        visitor_init(&visitor, visitor_keeps_session);
        if (i < 2)
            set_tls12(visitor.ctx);
        visitor_start(&visitor, house_connect(&house));
        guarded_run(&house.guarded);
        CHECK_INT(house.ready_error, 0);
        house_close(&house);
        visitor_stop(&visitor);
        CHECK(visitor.shook);
        CHECK(!visitor.is_wrong);
        CHECK_INT(visitor.count, 0);
    }
    SSL_SESSION_free(TAKE(kept));
    io_tls_unref(tls);
}

/* --- certificates of clients --- */

enum signer { NOBODY, BY_ROOT, BY_ITSELF, BY_STRANGER, BY_LEAF, BY_MIDDLE, BY_FIVE };

static const struct client_row {
    const char *label;
    enum signer signer; /* NOBODY: it shows none */
    struct cert_spec spec;
    bool is_required;
    const char *reason; /* NULL: it is let in */
    int error;
} client_rows[] = {
    {.label = "good", .signer = BY_ROOT, .is_required = true},
    {.label = "good, optional", .signer = BY_ROOT},
    {.label = "for clients", .signer = BY_ROOT, .spec = {.usage = "clientAuth"}},
    {.label = "none, optional", .signer = NOBODY},
    {.label = "none",
     .signer = NOBODY,
     .is_required = true,
     .reason = "the client showed no certificate",
     .error = -EPROTO},
    {.label = "for servers",
     .signer = BY_ROOT,
     .spec = {.usage = "serverAuth"},
     .reason = "the certificate is not made for clients"},
    {.label = "expired",
     .signer = BY_ROOT,
     .spec = {.valid_from = -2 * DAY, .valid_until = -60},
     .reason = "the certificate has expired"},
    {.label = "not yet valid",
     .signer = BY_ROOT,
     .spec = {.valid_from = 3600, .valid_until = DAY},
     .reason = "the certificate is not valid yet"},
    {.label = "self-signed", .signer = BY_ITSELF, .reason = "the certificate is self-signed"},
    {.label = "other authority of the same name",
     .signer = BY_STRANGER,
     .reason = "the signature of the certificate is wrong"},
    {.label = "signed by a client",
     .signer = BY_LEAF,
     .reason = "the issuer of the certificate is not an authority"},
    {.label = "by an intermediate", .signer = BY_MIDDLE},
    {.label = "by too many", .signer = BY_FIVE, .reason = "the chain of certificates is too long"},
    {.label = "short key",
     .signer = BY_ROOT,
     .spec = {.is_short = true},
     .reason = "the key of the certificate is too short"},
    {.label = "weak signature",
     .signer = BY_ROOT,
     .spec = {.uses_sha1 = true},
     .reason = "the signature of the certificate is of a weak kind"},
};

/* A certificate and what it is sent with. */
struct shown {
    struct cert cert, chain[5];
    size_t n_chain;
};

static void make_shown(struct shown *shown, const struct client_row *row) {
    struct cert_spec spec = row->spec, authority = {.subject = "test root", .is_authority = true};
    const struct cert *issuer = &root;
    spec.subject = "client";
    *shown = (struct shown){.n_chain = row->signer == BY_FIVE ? 5 : row->signer >= BY_STRANGER};
    for (size_t i = shown->n_chain; i-- > 0;) {
        authority.is_authority = row->signer != BY_LEAF;
        char middle[] = {'m', 'i', 'd', 'd', 'l', 'e', (char)('0' + i), '\0'};
        authority.subject = row->signer == BY_STRANGER ? "test root" : middle;
        shown->chain[i] = cert_make(&authority, row->signer == BY_STRANGER ? NULL : issuer);
        issuer = &shown->chain[i];
    }
    shown->cert = cert_make(&spec, row->signer == BY_ITSELF ? NULL : issuer);
    if (row->signer == BY_STRANGER)
        shown->n_chain = 0; /* it is not sent along */
}

static void show(SSL_CTX *ctx, const struct shown *shown) {
    if (SSL_CTX_use_certificate(ctx, shown->cert.x509) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, shown->cert.key) != 1)
        CANNOT_GO_ON();
    for (size_t i = 0; i < shown->n_chain; i++) {
        if (SSL_CTX_add1_chain_cert(ctx, shown->chain[i].x509) != 1)
            CANNOT_GO_ON();
    }
}

static void check_client(const struct client_row *row, int version) {
    struct io_tls *tls = server_tls(&cert, &root, row->is_required);
    struct shown shown;
    struct house house;
    struct visitor visitor;
    unsigned char digest[32], expected[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    make_shown(&shown, row);
    house_open(&house, tls);
    visitor_init(&visitor, visitor_shakes_and_drains);
    SSL_CTX_set_max_proto_version(visitor.ctx, version);
    if (row->signer != NOBODY)
        show(visitor.ctx, &shown);
    visitor_start(&visitor, house_connect(&house));
    guarded_run(&house.guarded);
    CHECK_INT(house.readies, 1);
    CHECK_INT(house.ready_error, row->reason == NULL ? 0
                                 : row->error != 0   ? row->error
                                                     : -EKEYREJECTED);
    CHECK_STR(slice_from_cstr(house.reason), row->reason != NULL ? row->reason : "");
    bool has_one = row->reason == NULL && row->signer != NOBODY;
    CHECK_INT(io_stream_tls_has_certificate(house.stream), has_one);
    CHECK_INT(io_stream_tls_peer_digest(house.stream, digest), has_one);
    if (has_one) {
        CHECK_INT(X509_digest(shown.cert.x509, EVP_sha256(), expected, &len), 1);
        CHECK(memcmp(digest, expected, sizeof digest) == 0);
    }
    struct buf name = BUF_INIT(100);
    CHECK_INT(io_stream_tls_peer_name(house.stream, IO_TLS_COMMON_NAME, &name),
              has_one ? 0 : -ENOENT);
    CHECK_STR(buf_slice(&name), has_one ? "client" : "");
    buf_deinit(&name);
    house_close(&house);
    visitor_stop(&visitor);
    cert_free(&shown.cert);
    for (size_t i = 0; i < ARRAY_LEN(shown.chain); i++)
        cert_free(&shown.chain[i]);
    io_tls_unref(tls);
}

static void test_clients(void) {
    for (size_t i = 0; i < ARRAY_LEN(client_rows); i++) {
        test_row(client_rows[i].label);
        check_client(&client_rows[i], TLS1_3_VERSION);
        check_client(&client_rows[i], TLS1_2_VERSION);
    }
}

/* A client that is not asked shows none, and nothing is said of it. */
static void test_not_asked(void) {
    struct io_tls *tls = server_tls(&cert, NULL, false);
    struct client_row row = {.signer = BY_ROOT};
    struct shown shown;
    struct house house;
    struct visitor visitor;
    unsigned char digest[32] = {0};
    struct buf name = BUF_INIT(100);
    make_shown(&shown, &row);
    house_open(&house, tls);
    visitor_init(&visitor, visitor_shakes_and_drains);
    show(visitor.ctx, &shown);
    visitor_start(&visitor, house_connect(&house));
    CHECK(!io_stream_tls_has_certificate(house.stream)); /* before the handshake */
    guarded_run(&house.guarded);
    CHECK_INT(house.ready_error, 0);
    CHECK(!io_stream_tls_has_certificate(house.stream));
    CHECK(!io_stream_tls_peer_digest(house.stream, digest));
    CHECK_INT(io_stream_tls_peer_name(house.stream, IO_TLS_SUBJECT, &name), -ENOENT);
    house_close(&house);
    visitor_stop(&visitor);
    cert_free(&shown.cert);
    io_tls_unref(tls);
}

/* --- names --- */

/* A part of a subject, or an alternative name, byte for byte. */
struct part {
    int nid, type; /* of a subject: NID_* and V_ASN1_*; of an alternative name: 0 and GEN_* */
    const char *bytes;
    int len; /* 0: up to the NUL */
};

static int part_len(const struct part *part) {
    return part->len != 0 ? part->len : (int)strlen(part->bytes);
}

static void add_part(X509_NAME *subject, GENERAL_NAMES *names, const struct part *part) {
    const unsigned char *bytes = (const unsigned char *)part->bytes;
    if (part->nid != 0) {
        X509_NAME_ENTRY *entry = X509_NAME_ENTRY_create_by_NID(NULL, part->nid, V_ASN1_UTF8STRING,
                                                               (const unsigned char *)"x", 1);
        ASN1_STRING *value = ASN1_STRING_type_new(part->type);
        if (entry == NULL || value == NULL || ASN1_STRING_set(value, bytes, part_len(part)) != 1 ||
            ASN1_STRING_copy(X509_NAME_ENTRY_get_data(entry), value) != 1 ||
            X509_NAME_add_entry(subject, entry, -1, 0) != 1)
            CANNOT_GO_ON();
        X509_NAME_ENTRY_free(entry);
        ASN1_STRING_free(value);
        return;
    }
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *value = ASN1_IA5STRING_new();
    if (name == NULL || value == NULL || ASN1_STRING_set(value, bytes, part_len(part)) != 1)
        CANNOT_GO_ON();
    GENERAL_NAME_set0_value(name, part->type, value);
    sk_GENERAL_NAME_push(names, name);
}

static struct cert make_named(const struct part *parts, size_t n) {
    struct cert made = cert_make(&(struct cert_spec){.subject = "x"}, &root);
    X509_NAME *subject = X509_NAME_new();
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    for (size_t i = 0; i < n && parts[i].bytes != NULL; i++)
        add_part(subject, names, &parts[i]);
    if (X509_set_subject_name(made.x509, subject) != 1 ||
        (sk_GENERAL_NAME_num(names) > 0 &&
         X509_add1_ext_i2d(made.x509, NID_subject_alt_name, names, 0, 0) != 1) ||
        X509_sign(made.x509, root.key, EVP_sha256()) == 0)
        CANNOT_GO_ON();
    X509_NAME_free(subject);
    GENERAL_NAMES_free(names);
    return made;
}

#define CN  NID_commonName
#define UTF V_ASN1_UTF8STRING

static const struct name_row {
    const char *label;
    struct part parts[4];
    const char *names[5]; /* in the order of enum io_tls_name; NULL: -ENOENT */
} name_rows[] = {
    {"all of them",
     {{CN, UTF, "client", 0},
      {0, GEN_DNS, "a.test", 0},
      {0, GEN_EMAIL, "a@b.test", 0},
      {0, GEN_URI, "spiffe://a/b", 0}},
     {"CN=client", "client", "a.test", "a@b.test", "spiffe://a/b"}},
    {"the first of its kind",
     {{0, GEN_URI, "urn:a", 0}, {0, GEN_DNS, "a", 0}, {0, GEN_DNS, "b", 0}},
     {NULL, NULL, "a", NULL, "urn:a"}},
    {"the whole subject",
     {{NID_countryName, V_ASN1_PRINTABLESTRING, "DE", 0},
      {NID_organizationName, UTF, "A, B + C", 0},
      {CN, UTF, "x", 0}},
     {"CN=x,O=A\\, B \\+ C,C=DE", "x", NULL, NULL, NULL}},
    {"other scripts",
     {{CN, UTF, "J\xc3\xbcrgen", 0}},
     {"CN=J\xc3\xbcrgen", "J\xc3\xbcrgen", NULL, NULL, NULL}},
    {"BMPString", {{CN, V_ASN1_BMPSTRING, "\0J\0\xfc", 4}}, {"CN=J\xc3\xbc", "J\xc3\xbc"}},
    {"T61String is Latin-1", {{CN, V_ASN1_T61STRING, "J\xfc", 0}}, {"CN=J\xc3\xbc", "J\xc3\xbc"}},
    {"two common names", {{CN, UTF, "a", 0}, {CN, UTF, "b", 0}}, {"CN=b,CN=a", NULL}},
    {"NUL in the common name", {{CN, UTF, "admin\0.evil", 11}}, {NULL, NULL}},
    {"NUL in BMPString", {{CN, V_ASN1_BMPSTRING, "\0a\0\0\0b", 6}}, {NULL, NULL}},
    {"NUL elsewhere in the subject",
     {{NID_organizationName, UTF, "a\0b", 3}, {CN, UTF, "a", 0}},
     {NULL, "a"}},
    {"newline", {{CN, UTF, "a\nCN=admin", 0}}, {NULL, NULL}},
    {"DEL", {{CN, UTF, "a\x7f", 0}}, {NULL, NULL}},
    {"C1", {{CN, UTF, "a\xc2\x85", 0}}, {NULL, NULL}},
    {"NUL in DNS", {{0, GEN_DNS, "a.test\0.evil.test", 17}}, {NULL, NULL, NULL}},
    {"a good DNS name behind it",
     {{0, GEN_DNS, "a\0b", 3}, {0, GEN_DNS, "good.test", 0}},
     {NULL, NULL, NULL}},
    {"wildcard", {{0, GEN_DNS, "*.test", 0}}, {NULL, NULL, NULL}},
    {"space in DNS", {{0, GEN_DNS, "a b", 0}}, {NULL, NULL, NULL}},
    {"letters of others in DNS", {{0, GEN_DNS, "\xc3\xbc.test", 0}}, {NULL, NULL, NULL}},
    {"NUL in email", {{0, GEN_EMAIL, "a@b\0@c", 6}}, {NULL, NULL, NULL, NULL}},
    {"newline in email", {{0, GEN_EMAIL, "a@b\nx", 0}}, {NULL, NULL, NULL, NULL}},
    {"NUL in URI", {{0, GEN_URI, "urn:a\0b", 7}}, {NULL, NULL, NULL, NULL, NULL}},
    {"space in URI", {{0, GEN_URI, "urn:a b", 0}}, {NULL, NULL, NULL, NULL, NULL}},
    {"nothing", {{0}}, {NULL, NULL, NULL, NULL, NULL}},
};

static void check_names(const struct name_row *row, struct io_tls *tls) {
    struct house house;
    struct visitor visitor;
    struct shown shown = {.cert = make_named(row->parts, ARRAY_LEN(row->parts))};
    house_open(&house, tls);
    visitor_init(&visitor, visitor_shakes_and_drains);
    show(visitor.ctx, &shown);
    visitor_start(&visitor, house_connect(&house));
    guarded_run(&house.guarded);
    CHECK_INT(house.ready_error, 0);
    CHECK(io_stream_tls_has_certificate(house.stream));
    for (unsigned kind = IO_TLS_SUBJECT; kind <= IO_TLS_SAN_URI; kind++) {
        const char *expected = row->names[kind];
        struct buf name = BUF_INIT(100);
        CHECK_INT(buf_append_cstr(&name, "before "), 0);
        CHECK_INT(io_stream_tls_peer_name(house.stream, (enum io_tls_name)kind, &name),
                  expected != NULL ? 0 : -ENOENT);
        CHECK_STR(slice_from(buf_slice(&name), 7), expected != NULL ? expected : "");
        buf_deinit(&name);
    }
    struct buf tiny = BUF_INIT(0);
    CHECK_INT(io_stream_tls_peer_name(house.stream, IO_TLS_COMMON_NAME, &tiny),
              row->names[IO_TLS_COMMON_NAME] != NULL ? -E2BIG : -ENOENT);
    house_close(&house);
    visitor_stop(&visitor);
    cert_free(&shown.cert);
}

static void test_names(void) {
    struct io_tls *tls = server_tls(&cert, &root, true);
    for (size_t i = 0; i < ARRAY_LEN(name_rows); i++) {
        test_row(name_rows[i].label);
        check_names(&name_rows[i], tls);
    }
    io_tls_unref(tls);
}

/* --- clients that do not shake hands --- */

static void says(struct visitor *visitor, const char *bytes, size_t n) {
    visitor->count = (size_t)write(visitor->fd, bytes, n) == n;
    shutdown(visitor->fd, SHUT_WR);
    size_t got = 0;
    ssize_t r;
    while ((r = read(visitor->fd, visitor->said + got, sizeof visitor->said - 1 - got)) > 0)
        got += (size_t)r;
}

static void visitor_says_nothing(struct visitor *visitor) {
    (void)visitor;
}

static void visitor_speaks_garbage(struct visitor *visitor) {
    static char bytes[8192];
    pattern_fill(bytes, 1, sizeof bytes);
    says(visitor, bytes, sizeof bytes);
}

static void visitor_sends_long_record(struct visitor *visitor) {
    says(visitor, "\x16\x03\x01\xff\xff", 5);
}

static void visitor_sends_half_a_hello(struct visitor *visitor) {
    says(visitor, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
}

static void visitor_sends_one_byte(struct visitor *visitor) {
    says(visitor, "\x16", 1);
}

static void visitor_sends_sslv2(struct visitor *visitor) {
    says(visitor, "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x07\x00\xc0", 14);
}

static void visitor_sends_alert(struct visitor *visitor) {
    says(visitor, "\x15\x03\x03\x00\x02\x02\x28", 7);
}

static void visitor_sends_proxy_header(struct visitor *visitor) {
    says(visitor, "\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c", 16);
}

static void visitor_sends_warnings(struct visitor *visitor) {
    static const char warning[] = "\x15\x03\x03\x00\x02\x01\x5a";
    for (int i = 0; i < 100000 && write(visitor->fd, warning, 7) == 7; i++)
        visitor->count++;
}

static void visitor_resets(struct visitor *visitor) {
    struct linger linger = {.l_onoff = 1};
    visitor->count = (size_t)write(visitor->fd, "\x16\x03\x01", 3);
    setsockopt(visitor->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    io_fd_close(&visitor->fd);
}

#define CLOSED "the client closed the connection during the TLS handshake"

static const struct silent_row {
    const char *label;
    visitor_fn *run;
    int error;
    const char *reason; /* NULL: any */
} silent_rows[] = {
    {"nothing", visitor_says_nothing, -ENODATA,
     "the client closed the connection before the TLS handshake"},
    {"garbage", visitor_speaks_garbage, -EPROTO, NULL},
    {"long record", visitor_sends_long_record, -EPROTO, NULL},
    {"half a hello", visitor_sends_half_a_hello, -ECONNRESET, CLOSED},
    {"one byte", visitor_sends_one_byte, -ECONNRESET, CLOSED},
    {"SSLv2", visitor_sends_sslv2, -ECONNRESET, NULL},
    {"alert", visitor_sends_alert, -EPROTO, NULL},
    {"PROXY header", visitor_sends_proxy_header, -EPROTO, NULL},
    {"warnings", visitor_sends_warnings, -EPROTO, NULL},
    {"reset", visitor_resets, -ECONNRESET, NULL},
};

static void test_silent(void) {
    struct io_tls *tls = server_tls(&cert, NULL, false);
    for (size_t i = 0; i < 2 * ARRAY_LEN(silent_rows); i++) {
        const struct silent_row *row = &silent_rows[i / 2];
        struct house house;
        struct visitor visitor;
        test_row(row->label);
        house_open(&house, tls);
        house.frees_when_ready = i % 2 == 1;
        visitor_init(&visitor, row->run);
        visitor_start(&visitor, house_connect(&house));
        guarded_run(&house.guarded);
        CHECK_INT(house.readies, 1);
        CHECK_INT(house.ready_error, row->error);
        if (row->reason != NULL)
            CHECK_STR(slice_from_cstr(house.reason), row->reason);
        if (house.stream != NULL)
            CHECK_INT(io_stream_write(house.stream, SLICE("secret"), 100), -EPIPE);
        house_settle(&house);
        CHECK_INT(house.readies, 1);
        CHECK_INT(house.ends + house.reads + house.drains, 0);
        house_close(&house);
        visitor_stop(&visitor);
        CHECK(strstr(visitor.said, "secret") == NULL);
    }
    io_tls_unref(tls);
}

/* --- HTTP in the clear --- */

static void visitor_speaks_http(struct visitor *visitor) {
    static const char text[] = "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    for (size_t i = 0; i < sizeof text - 1 && write(visitor->fd, text + i, 1) == 1; i++)
        visitor->count++;
    says(visitor, "", 0);
}

static void answer(struct house *house) {
    CHECK_INT(house->ready_error, -EPROTONOSUPPORT);
    CHECK_INT(io_stream_write(house->stream, SLICE("HTTP/1.1 400 Bad Request\r\n\r\n"), 100), 0);
    io_stream_shutdown(house->stream);
}

static void test_http(void) {
    struct io_tls *tls = server_tls(&cert, NULL, false);
    for (int i = 0; i < 3; i++) {
        struct house house;
        struct visitor visitor;
        house_open(&house, tls);
        house.stops_when_ready = i == 2;
        house.frees_when_ready = i == 2;
        house.on_ready = i == 2 ? NULL : answer;
        house.reads_when_ready = house.stops_at_end = true;
        if (i == 1)
            house.early = SLICE("GET / ");
        visitor_init(&visitor, visitor_speaks_http);
        visitor_start(&visitor, house_connect(&house));
        guarded_run(&house.guarded);
        CHECK_INT(house.readies, 1);
        CHECK_INT(house.ready_error, -EPROTONOSUPPORT);
        CHECK_INT(house.ends, i == 2 ? 0 : 1);
        house_close(&house);
        visitor_stop(&visitor);
        if (i != 2)
            CHECK_STR(slice_from_cstr(visitor.said), "HTTP/1.1 400 Bad Request\r\n\r\n");
    }
    io_tls_unref(tls);
}

/* --- what came before --- */

/* The handshake's first bytes were read together with something else. */
static void visitor_waits_then_shakes(struct visitor *visitor) {
    visitor_shakes_and_drains(visitor);
}

static void test_early(void) {
    struct io_tls *tls = server_tls(&cert, NULL, false);
    struct visitor visitor;
    struct house house;
    int fds[2];
    char hello[4096];
    /* What a client says first, and the client itself, which waits for the answer. */
    REQUIRE(tcp_pair(fds, 64 * 1024));
    visitor_init(&visitor, visitor_waits_then_shakes);
    visitor_start(&visitor, fds[1]);
    for (size_t n = 1; n <= 3; n++) {
        ssize_t len = recv(fds[0], hello, sizeof hello, MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT);
        if (len > 0)
            break;
        ssize_t one = recv(fds[0], hello, 1, MSG_PEEK);
        CHECK_INT(one, 1);
    }
    ssize_t len = recv(fds[0], hello, 100, 0);
    CHECK(len > 0);
    static const struct io_stream_events events = {.on_read = house_on_read,
                                                   .on_end = house_on_end};
    house_open(&house, tls);
    REQUIRE(io_stream_new(house.loop, IO_STREAM_TCP, fds[0], &events, &house, &house.stream) == 0);
    CHECK_INT(io_stream_accept_tls(house.stream, tls, slice_make(hello, (size_t)len),
                                   house_on_ready, &house),
              0);
    memset(hello, 0, sizeof hello); /* it was copied */
    CHECK_INT(io_stream_accept_tls(house.stream, tls, SLICE_EMPTY, house_on_ready, &house),
              -EALREADY);
    guarded_run(&house.guarded);
    CHECK_INT(house.ready_error, 0);
    house_close(&house);
    visitor_stop(&visitor);
    CHECK(visitor.shook);
    io_tls_unref(tls);
}

/* Freed before anything came, while the first message is under way, and in the middle. */
static void test_free_early(void) {
    struct io_tls *tls = server_tls(&cert, NULL, false);
    for (int i = 0; i < 4; i++) {
        struct house house;
        house_open(&house, tls);
        if (i == 1)
            house.early = SLICE("\x16\x03\x01");
        int fd = house_connect(&house);
        if (i >= 2)
            house_settle(&house);
        if (i == 3) {
            CHECK_INT(write(fd, "\x16\x03\x01\x00", 4), 4);
            house_settle(&house);
        }
        house.stream = io_stream_free(house.stream);
        house_settle(&house);
        CHECK_INT(house.readies, 0);
        house_close(&house);
        io_fd_close(&fd);
    }
    io_tls_unref(tls);
}

TEST_MAIN(TEST(prepare), TEST(test_contexts), TEST(test_handshakes), TEST(test_alpn_alert),
          TEST(test_only_tls13), TEST(test_no_resumption), TEST(test_clients), TEST(test_not_asked),
          TEST(test_names), TEST(test_silent), TEST(test_http), TEST(test_early),
          TEST(test_free_early), TEST(clean_up))
