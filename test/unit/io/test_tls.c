/*
 * TLS up to the end of the handshake: which certificates and servers are taken, which are not and
 * what is said then; where the roots come from. What travels afterwards is in test_tls_stream.c.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "tls_peer.h"

static struct cert root;
static char root_file[] = "/tmp/root-XXXXXX";

static void prepare(void) {
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    root = cert_make(&(struct cert_spec){.subject = "test root", .is_authority = true}, NULL);
    cert_write(&root, root_file);
}

static void clean_up(void) {
    CHECK_INT(unlink(root_file), 0);
    cert_free(&root);
}

/* --- certificates --- */

/* Who signs the server's certificate. */
enum signer { BY_ROOT, BY_ITSELF, BY_STRANGER, BY_STRANGER_IN_CHAIN, BY_LEAF, BY_LIMITED };

struct certificate_row {
    const char *label;
    struct cert_spec spec;
    const char *name; /* that the client asks for */
    enum signer signer;
    const char *reason; /* NULL: it is taken */
};

#define OTHER_NAME "the certificate is for another name"
#define OTHER_IP   "the certificate is not for this IP address"

static const struct certificate_row certificate_rows[] = {
    {.label = "good", .spec = {.names = "DNS:host.test"}, .name = "host.test"},
    {.label = "second name",
     .spec = {.names = "DNS:other.test,DNS:host.test"},
     .name = "host.test"},
    {.label = "case", .spec = {.names = "DNS:Host.Test"}, .name = "hOST.tEST"},
    {.label = "last dot", .spec = {.names = "DNS:host.test"}, .name = "host.test."},
    {.label = "wildcard", .spec = {.names = "DNS:*.host.test"}, .name = "a.host.test"},
    {.label = "wildcard, two labels",
     .spec = {.names = "DNS:*.host.test"},
     .name = "a.b.host.test",
     .reason = OTHER_NAME},
    {.label = "wildcard, no label",
     .spec = {.names = "DNS:*.host.test"},
     .name = "host.test",
     .reason = OTHER_NAME},
    {.label = "wildcard, not first",
     .spec = {.names = "DNS:a.*.test"},
     .name = "a.host.test",
     .reason = OTHER_NAME},
    {.label = "partial wildcard in front",
     .spec = {.names = "DNS:*oo.host.test"},
     .name = "foo.host.test",
     .reason = OTHER_NAME},
    {.label = "partial wildcard behind",
     .spec = {.names = "DNS:fo*.host.test"},
     .name = "foo.host.test",
     .reason = OTHER_NAME},
    {.label = "partial wildcard inside",
     .spec = {.names = "DNS:f*o.host.test"},
     .name = "foo.host.test",
     .reason = OTHER_NAME},
    {.label = "wrong name",
     .spec = {.names = "DNS:other.test"},
     .name = "host.test",
     .reason = OTHER_NAME},
    {.label = "name is the end of it",
     .spec = {.names = "DNS:a.host.test"},
     .name = "host.test",
     .reason = OTHER_NAME},
    {.label = "common name only",
     .spec = {.subject = "host.test"},
     .name = "host.test",
     .reason = OTHER_NAME},
    {.label = "common name beside",
     .spec = {.subject = "host.test", .names = "DNS:a"},
     .name = "host.test",
     .reason = OTHER_NAME},
    {.label = "no name", .spec = {.subject = "x"}, .name = "host.test", .reason = OTHER_NAME},
    {.label = "email",
     .spec = {.names = "email:host.test"},
     .name = "host.test",
     .reason = OTHER_NAME},
    {.label = "IPv4", .spec = {.names = "IP:127.0.0.1"}, .name = "127.0.0.1"},
    {.label = "IPv6", .spec = {.names = "IP:::1"}, .name = "::1"},
    {.label = "IPv6 in full", .spec = {.names = "IP:::1"}, .name = "0:0:0:0:0:0:0:1"},
    {.label = "other IPv4",
     .spec = {.names = "IP:127.0.0.2"},
     .name = "127.0.0.1",
     .reason = OTHER_IP},
    {.label = "IPv4 as a name",
     .spec = {.names = "DNS:127.0.0.1"},
     .name = "127.0.0.1",
     .reason = OTHER_IP},
    {.label = "IPv4 under a wildcard",
     .spec = {.names = "DNS:*.0.0.1"},
     .name = "127.0.0.1",
     .reason = OTHER_IP},
    {.label = "IPv4 as common name",
     .spec = {.subject = "127.0.0.1"},
     .name = "127.0.0.1",
     .reason = OTHER_IP},
    {.label = "expired",
     .spec = {.names = "DNS:host.test", .valid_from = -2 * DAY, .valid_until = -60},
     .name = "host.test",
     .reason = "the certificate has expired"},
    {.label = "not yet valid",
     .spec = {.names = "DNS:host.test", .valid_from = 3600, .valid_until = DAY},
     .name = "host.test",
     .reason = "the certificate is not valid yet"},
    {.label = "self-signed",
     .spec = {.names = "DNS:host.test"},
     .name = "host.test",
     .signer = BY_ITSELF,
     .reason = "the certificate is self-signed"},
    {.label = "unknown issuer",
     .spec = {.names = "DNS:host.test"},
     .name = "host.test",
     .signer = BY_STRANGER,
     .reason = "the issuer of the certificate is not known here"},
    {.label = "unknown issuer sent along",
     .spec = {.names = "DNS:host.test"},
     .name = "host.test",
     .signer = BY_STRANGER_IN_CHAIN,
     .reason = "the certificate comes from an authority that is not trusted here"},
    {.label = "issuer is no authority",
     .spec = {.names = "DNS:host.test"},
     .name = "host.test",
     .signer = BY_LEAF,
     .reason = "the issuer of the certificate is not an authority"},
    {.label = "issuer is limited, name is in it",
     .spec = {.names = "DNS:a.mine.test"},
     .name = "a.mine.test",
     .signer = BY_LIMITED},
    {.label = "issuer is limited",
     .spec = {.names = "DNS:host.test"},
     .name = "host.test",
     .signer = BY_LIMITED,
     .reason = "the authority must not vouch for this name"},
    {.label = "for clients",
     .spec = {.names = "DNS:host.test", .usage = "clientAuth"},
     .name = "host.test",
     .reason = "the certificate is not made for servers"},
    {.label = "for servers",
     .spec = {.names = "DNS:host.test", .usage = "serverAuth"},
     .name = "host.test"},
    {.label = "short key",
     .spec = {.names = "DNS:host.test", .is_short = true},
     .name = "host.test",
     .reason = "the key of the certificate is too short"},
    {.label = "weak signature",
     .spec = {.names = "DNS:host.test", .uses_sha1 = true},
     .name = "host.test",
     .reason = "the signature of the certificate is of a weak kind"},

};

static struct cert make_issuer(enum signer signer) {
    switch (signer) {
    case BY_STRANGER:
    case BY_STRANGER_IN_CHAIN:
        return cert_make(&(struct cert_spec){.subject = "strange root", .is_authority = true},
                         NULL);
    case BY_LEAF:
        return cert_make(&(struct cert_spec){.subject = "leaf", .names = "DNS:leaf.test"}, &root);
    case BY_LIMITED:
        return cert_make(&(struct cert_spec){.subject = "limited",
                                             .constraints = "permitted;DNS:mine.test",
                                             .is_authority = true},
                         &root);
    case BY_ROOT:
    case BY_ITSELF:
        break;
    }
    return (struct cert){.x509 = NULL};
}

static void check_certificate(const struct certificate_row *row, int version) {
    struct cert_spec spec = row->spec;
    if (spec.subject == NULL)
        spec.subject = "server";
    struct cert issuer = make_issuer(row->signer);
    const struct cert *signer = issuer.x509 != NULL ? &issuer : &root;
    struct cert cert = cert_make(&spec, row->signer == BY_ITSELF ? NULL : signer);
    struct client client;
    struct peer peer;
    client_open(&client, root_file);
    client.stops_when_ready = true;
    peer_init(&peer, &cert, peer_shakes_and_drains);
    SSL_CTX_set_max_proto_version(peer.ctx, version);
    if (issuer.x509 != NULL && row->signer != BY_STRANGER)
        CHECK_INT(SSL_CTX_add1_chain_cert(peer.ctx, issuer.x509), 1);
    client_start(&client, &peer, slice_from_cstr(row->name));
    guarded_run(&client.guarded);
    CHECK_INT(client.readies, 1);
    CHECK_INT(client.ready_error, row->reason == NULL ? 0 : -EKEYREJECTED);
    CHECK_STR(slice_from_cstr(client.reason), row->reason != NULL ? row->reason : "");
    if (row->reason != NULL)
        CHECK_INT(io_stream_write(client.stream, SLICE("secret"), 100), -EPIPE);
    client_settle(&client);
    CHECK_INT(client.readies, 1);
    CHECK_INT(client.ends + client.reads + client.drains, 0);
    client_close(&client);
    peer_stop(&peer);
    CHECK_INT(peer.count, 0);
    /* SNI is for names. */
    bool is_name = strchr(row->name, ':') == NULL && row->name[0] != '1';
    CHECK_INT(peer.has_sni, is_name);
    if (is_name) {
        size_t n = strlen(row->name) - (row->name[strlen(row->name) - 1] == '.');
        CHECK_SLICE(slice_from_cstr(peer.sni), slice_make(row->name, n));
    }
    CHECK(row->reason != NULL || strcmp(peer.alpn, "http/1.1") == 0);
    cert_free(&cert);
    cert_free(&issuer);
}

static void test_certificates(void) {
    for (size_t i = 0; i < ARRAY_LEN(certificate_rows); i++) {
        test_row(certificate_rows[i].label);
        check_certificate(&certificate_rows[i], TLS1_3_VERSION);
        check_certificate(&certificate_rows[i], TLS1_2_VERSION);
    }
}

/* An authority that another one has signed may be the one to trust. */
static void test_intermediate_as_root(void) {
    struct cert middle =
        cert_make(&(struct cert_spec){.subject = "middle", .is_authority = true}, &root);
    struct cert cert =
        cert_make(&(struct cert_spec){.subject = "s", .names = "DNS:host.test"}, &middle);
    char file[] = "/tmp/middle-XXXXXX";
    struct client client;
    struct peer peer;
    cert_write(&middle, file);
    client_open(&client, file);
    client.stops_when_ready = true;
    peer_init(&peer, &cert, peer_shakes_and_drains);
    client_start(&client, &peer, SLICE("host.test"));
    guarded_run(&client.guarded);
    CHECK_INT(client.ready_error, 0);
    client_close(&client);
    peer_stop(&peer);
    unlink(file);
    cert_free(&cert);
    cert_free(&middle);
}

/* --- servers --- */

static void peer_sends(struct peer *peer, const char *bytes, size_t n) {
    char in[4096];
    if (read(peer->fd, in, sizeof in) > 0)
        peer->result = (int)write(peer->fd, bytes, n);
}

static void peer_speaks_http(struct peer *peer) {
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    peer_sends(peer, text, sizeof text - 1);
}

static void peer_sends_garbage(struct peer *peer) {
    static char bytes[8192];
    pattern_fill(bytes, 7, sizeof bytes);
    peer_sends(peer, bytes, sizeof bytes);
}

static void peer_sends_long_record(struct peer *peer) {
    static char bytes[70000] = "\x16\x03\x03\xff\xff";
    peer_sends(peer, bytes, sizeof bytes);
}

/* Records without an end, none of which is the answer. */
static void peer_sends_warnings(struct peer *peer) {
    static const char warning[] = "\x15\x03\x03\x00\x02\x01\x5a";
    char in[4096];
    if (read(peer->fd, in, sizeof in) <= 0)
        return;
    for (int i = 0; i < 100000 && write(peer->fd, warning, 7) == 7; i++)
        peer->count++;
}

static void peer_hangs_up(struct peer *peer) {
    (void)peer;
}

static void peer_hangs_up_after_hello(struct peer *peer) {
    char in[4096];
    peer->result = (int)read(peer->fd, in, sizeof in);
}

static void peer_hangs_up_in_middle(struct peer *peer) {
    /* the head of a record of 80 bytes, and half of it */
    peer_sends(peer, "\x16\x03\x03\x00\x50\x02\x00\x00\x4c\x03\x03", 11);
}

static void peer_resets(struct peer *peer) {
    char in[4096];
    struct linger linger = {.l_onoff = 1};
    peer->result = (int)read(peer->fd, in, sizeof in);
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    io_fd_close(&peer->fd);
}

static void set_old(SSL_CTX *ctx) {
    SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
}

static void set_cbc(SSL_CTX *ctx) {
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(ctx, "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384");
}

static int refuse_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg) {
    (void)ssl, (void)out, (void)out_len, (void)in, (void)in_len, (void)arg;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void set_h2(SSL_CTX *ctx) {
    SSL_CTX_set_alpn_select_cb(ctx, refuse_alpn, NULL);
}

static void set_client_certificate(SSL_CTX *ctx) {
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

#define NO_TLS  "the server does not speak TLS here"
#define CLOSED  "the server closed the connection during the TLS handshake"
#define NOTHING "the server found no cipher or key that both sides take"

static const struct server_row {
    const char *label;
    peer_fn *run;
    void (*set)(SSL_CTX *ctx);
    int error;
    const char *reason; /* NULL: any */
    const char *name;
} server_rows[] = {
    {.label = "HTTP", .run = peer_speaks_http, .error = -EPROTO, .reason = NO_TLS},
    {.label = "garbage", .run = peer_sends_garbage, .error = -EPROTO},
    {.label = "long record", .run = peer_sends_long_record, .error = -EPROTO, .reason = NO_TLS},
    {.label = "warnings", .run = peer_sends_warnings, .error = -EPROTO},
    {.label = "closed at once", .run = peer_hangs_up, .error = -ECONNRESET, .reason = CLOSED},
    {.label = "closed after hello",
     .run = peer_hangs_up_after_hello,
     .error = -ECONNRESET,
     .reason = CLOSED},
    {.label = "closed in the middle",
     .run = peer_hangs_up_in_middle,
     .error = -ECONNRESET,
     .reason = CLOSED},
    {.label = "reset", .run = peer_resets, .error = -ECONNRESET, .reason = CLOSED},
    {.label = "TLS 1.1",
     .run = peer_shakes_and_drains,
     .set = set_old,
     .error = -EPROTO,
     .reason = "the server speaks neither TLS 1.2 nor TLS 1.3"},
    {.label = "CBC only",
     .run = peer_shakes_and_drains,
     .set = set_cbc,
     .error = -EPROTO,
     .reason = NOTHING},
    {.label = "h2 only",
     .run = peer_shakes_and_drains,
     .set = set_h2,
     .error = -EPROTO,
     .reason = "the server does not offer HTTP/1.1"},
    {.label = "client certificate",
     .run = peer_shakes_and_drains,
     .set = set_client_certificate,
     .error = -EPROTO,
     .reason = NOTHING},
    {.label = "unknown name",
     .run = peer_shakes_and_drains,
     .error = -EPROTO,
     .reason = "the server does not know this name",
     .name = "stranger.test"},

};

static void test_servers(void) {
    struct cert cert =
        cert_make(&(struct cert_spec){.subject = "s", .names = "DNS:host.test"}, &root);
    for (size_t i = 0; i < ARRAY_LEN(server_rows); i++) {
        const struct server_row *row = &server_rows[i];
        struct client client;
        struct peer peer;
        test_row(row->label);
        client_open(&client, root_file);
        peer_init(&peer, &cert, row->run);
        if (row->set != NULL)
            row->set(peer.ctx);
        client_start(&client, &peer, slice_from_cstr(row->name != NULL ? row->name : "host.test"));
        guarded_run(&client.guarded);
        CHECK_INT(client.readies, 1);
        CHECK_INT(client.ready_error, row->error);
        CHECK(client.reason != NULL && client.reason[0] != '\0');
        if (row->reason != NULL)
            CHECK_STR(slice_from_cstr(client.reason), row->reason);
        client_settle(&client);
        CHECK_INT(client.readies, 1);
        CHECK_INT(client.ends + client.reads + client.drains, 0);
        client_close(&client);
        peer_stop(&peer);
        CHECK(!peer.shook);
    }
    cert_free(&cert);
}

/* A server that says nothing or stops in the middle: the client waits, and can give up. */
static void peer_waits(struct peer *peer) {
    char in[4096];
    peer->result = (int)write(peer->fd, "\x16\x03\x03\x00\x50\x02", 6);
    while (read(peer->fd, in, sizeof in) > 0)
        peer->count++;
}

static void test_gives_up(void) {
    struct client client;
    struct peer peer;
    client_open(&client, root_file);
    peer_init(&peer, NULL, peer_waits);
    client_start(&client, &peer, SLICE("host.test"));
    client_settle(&client);
    client_settle(&client);
    CHECK_INT(client.readies, 0);
    CHECK_INT(io_stream_write(client.stream, SLICE("early"), 100), -ENOTCONN);
    io_stream_read(client.stream, true); /* nothing */
    client.stream = io_stream_free(client.stream);
    client_settle(&client);
    CHECK_INT(client.readies + client.ends + client.reads, 0);
    client_close(&client);
    peer_stop(&peer);
}

static void test_free_when_ready(void) {
    struct cert cert =
        cert_make(&(struct cert_spec){.subject = "s", .names = "DNS:host.test"}, &root);
    static peer_fn *const peers[] = {peer_shakes_and_drains, peer_speaks_http, peer_hangs_up};
    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        struct client client;
        struct peer peer;
        client_open(&client, root_file);
        client.frees_when_ready = true;
        client.stops_when_ready = true;
        peer_init(&peer, &cert, peers[i]);
        client_start(&client, &peer, SLICE("host.test"));
        guarded_run(&client.guarded);
        client_settle(&client);
        CHECK_INT(client.readies, 1);
        CHECK_INT(client.ends, 0);
        client_close(&client);
        peer_stop(&peer);
    }
    cert_free(&cert);
}

static void test_names(void) {
    static const struct slice bad[] = {
        SLICE_INIT(""),           SLICE_INIT("."),
        SLICE_INIT(".host.test"), SLICE_INIT("*.host.test"),
        SLICE_INIT("a b"),        SLICE_INIT("host.test\0.evil.test"),
        SLICE_INIT("127.1"),      SLICE_INIT("[::1]"),
        SLICE_INIT("host..test"), SLICE_INIT("host.test/"),
    };
    struct client client;
    struct peer peer;
    static const struct io_stream_events events = {.on_read = client_on_read,
                                                   .on_end = client_on_end};
    int fds[2];
    client_open(&client, root_file);
    REQUIRE(tcp_pair(fds, SMALL_SEND_BUFFER));
    REQUIRE(io_stream_new(client.loop, IO_STREAM_TCP, fds[0], &events, &client, &client.stream) ==
            0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        test_row(bad[i].ptr);
        CHECK_INT(io_stream_start_tls(client.stream, client.tls, bad[i], client_on_ready, &client),
                  -EINVAL);
    }
    CHECK_STR(slice_from_cstr(io_stream_tls_reason(client.stream)), "");
    CHECK_INT(io_stream_start_tls(client.stream, client.tls, SLICE("a"), client_on_ready, &client),
              0);
    CHECK_INT(io_stream_start_tls(client.stream, client.tls, SLICE("a"), client_on_ready, &client),
              -EALREADY);
    peer_init(&peer, NULL, peer_hangs_up);
    peer_start(&peer, fds[1]);
    guarded_run(&client.guarded);
    CHECK_INT(client.readies, 1);
    client_close(&client);
    peer_stop(&peer);
}

/* --- roots --- */

/* The context alone: what a good server is told. */
static int shake_with(struct io_tls *tls, const char **ret_reason) {
    struct cert cert =
        cert_make(&(struct cert_spec){.subject = "s", .names = "DNS:host.test"}, &root);
    struct client client = {.tls = tls, .got = BUF_INIT(100), .stops_when_ready = true};
    struct peer peer;
    client.loop = guarded_new(&client.guarded);
    peer_init(&peer, &cert, peer_shakes_and_drains);
    client_start(&client, &peer, SLICE("host.test"));
    guarded_run(&client.guarded);
    *ret_reason = client.reason;
    int error = client.ready_error;
    client_close(&client);
    peer_stop(&peer);
    cert_free(&cert);
    return error;
}

static void test_roots(void) {
    char folder[] = "/tmp/roots-XXXXXX", empty[] = "/tmp/empty-XXXXXX", link[300], list[400];
    int fd = mkstemp(empty);
    io_fd_close(&fd);
    REQUIRE(mkdtemp(folder) != NULL);
    snprintf(link, sizeof link, "%s/%08lx.0", folder, X509_subject_name_hash(root.x509));
    snprintf(list, sizeof list, "/nowhere:%s", folder);
    CHECK_INT(symlink(root_file, link), 0);
    const char *const no_such = "/nowhere/roots.pem";
    const struct {
        const char *label, *ca_file, *cert_file, *cert_dir;
        bool system;
        int error;
        const char *reason;
    } rows[] = {
        {"ca_file", root_file, no_such, NULL, false, 0, ""},
        {"SSL_CERT_FILE", NULL, root_file, NULL, true, 0, ""},
        {"SSL_CERT_DIR", NULL, no_such, list, true, 0, ""},
        {"ca_file and system", root_file, no_such, folder, true, 0, ""},
        {"only the system's if asked", NULL, root_file, folder, false, -ENOKEY,
         "no certificate authority is configured"},
        {"no system roots", NULL, no_such, NULL, true, -ENOKEY,
         "this system has no certificate authorities (package ca-certificates)"},
        {"no ca_file", no_such, root_file, NULL, true, -ENOENT,
         "the file of certificate authorities cannot be read"},
        {"empty ca_file", empty, root_file, NULL, true, -EKEYREJECTED,
         "the file of certificate authorities holds no certificate"},
        {"ca_file is a folder", folder, root_file, NULL, true, -EKEYREJECTED,
         "the file of certificate authorities holds no certificate"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct io_tls_client_options options = {.use_system_roots = rows[i].system,
                                                .ca_file = rows[i].ca_file};
        struct io_tls *tls = NULL;
        const char *reason = "";
        test_row(rows[i].label);
        CHECK_INT(setenv("SSL_CERT_FILE", rows[i].cert_file, 1), 0);
        CHECK_INT(rows[i].cert_dir != NULL ? setenv("SSL_CERT_DIR", rows[i].cert_dir, 1)
                                           : unsetenv("SSL_CERT_DIR"),
                  0);
        REQUIRE(io_tls_client_new(&options, &tls) == 0);
        CHECK_INT(shake_with(tls, &reason), rows[i].error);
        CHECK_STR(slice_from_cstr(reason), rows[i].reason);
    }
    unsetenv("SSL_CERT_FILE");
    unsetenv("SSL_CERT_DIR");
    unlink(link);
    unlink(empty);
    rmdir(folder);
}

/* What this system has; it does not know our root. */
static void test_system_roots(void) {
    struct io_tls_client_options options = {.use_system_roots = true};
    struct io_tls *tls = NULL;
    const char *reason = "";
    bool has_roots = access("/etc/ssl/certs/ca-certificates.crt", R_OK) == 0;
    REQUIRE(io_tls_client_new(&options, &tls) == 0);
    int error = shake_with(tls, &reason);
    CHECK_INT(error, has_roots ? -EKEYREJECTED : -ENOKEY);
    if (has_roots)
        CHECK_STR(slice_from_cstr(reason), "the issuer of the certificate is not known here");
}

/* Streams that wait for the roots may go, and the context too. */
static void test_free_while_loading(void) {
    for (unsigned i = 0; i < 12; i++) {
        struct io_tls_client_options options = {.use_system_roots = i % 3 == 0,
                                                .ca_file = root_file};
        static const struct io_stream_events events = {.on_read = client_on_read,
                                                       .on_end = client_on_end};
        struct client client = {.got = BUF_INIT(100)};
        struct io_stream *streams[4];
        int fds[4][2];
        client.loop = guarded_new(&client.guarded);
        REQUIRE(io_tls_client_new(&options, &client.tls) == 0);
        for (size_t s = 0; s < ARRAY_LEN(streams); s++) {
            REQUIRE(tcp_pair(fds[s], SMALL_SEND_BUFFER));
            REQUIRE(io_stream_new(client.loop, IO_STREAM_TCP, fds[s][0], &events, &client,
                                  &streams[s]) == 0);
            CHECK_INT(io_stream_start_tls(streams[s], client.tls, SLICE("host.test"),
                                          client_on_ready, &client),
                      0);
        }
        client.tls = io_tls_unref(client.tls); /* the streams have theirs */
        if (i % 4 == 3)
            client_settle(&client);
        for (size_t s = 0; s < ARRAY_LEN(streams); s++) {
            io_stream_free(streams[s]);
            io_fd_close(&fds[s][1]);
        }
        CHECK_INT(client.readies + client.ends, 0);
        client_close(&client);
    }
}

/* One context, several loops on threads of their own, streams from before the end of loading. */
static void *run_worker(void *arg) {
    struct io_tls *tls = arg;
    const char *reason = "";
    for (int i = 0; i < 3; i++) {
        if (shake_with(io_tls_ref(tls), &reason) != 0)
            return arg;
    }
    return NULL;
}

static void test_threads(void) {
    struct io_tls_client_options options = {.use_system_roots = true, .ca_file = root_file};
    struct io_tls *tls = NULL;
    pthread_t threads[4];
    REQUIRE(io_tls_client_new(&options, &tls) == 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        CHECK_INT(pthread_create(&threads[i], NULL, run_worker, tls), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *failed = NULL;
        CHECK_INT(pthread_join(threads[i], &failed), 0);
        CHECK(failed == NULL);
    }
    CHECK(io_tls_unref(tls) == NULL);
    CHECK(io_tls_unref(NULL) == NULL);
}

/* --- what is not checked --- */

/* A server with this certificate, and a client that is told so much. */
static int shake_as_told(const struct io_tls_client_options *options, const char *name,
                         struct peer *peer, const char **ret_reason) {
    struct client client = {.got = BUF_INIT(100), .stops_when_ready = true};
    if (io_tls_client_new(options, &client.tls) != 0)
        CANNOT_GO_ON();
    client.loop = guarded_new(&client.guarded);
    client_start(&client, peer, slice_from_cstr(name));
    guarded_run(&client.guarded);
    *ret_reason = client.reason;
    int error = client.ready_error;
    client_close(&client);
    peer_stop(peer);
    return error;
}

static void test_unchecked(void) {
    struct cert good =
        cert_make(&(struct cert_spec){.subject = "s", .names = "DNS:host.test"}, &root);
    struct cert stranger =
        cert_make(&(struct cert_spec){.subject = "x", .names = "DNS:host.test"}, NULL);
    struct cert expired = cert_make(
        &(struct cert_spec){
            .subject = "s", .names = "DNS:host.test", .valid_from = -2 * DAY, .valid_until = -60},
        &root);
    const struct {
        const char *label, *name;
        const struct cert *cert;
        bool any_name, anything, no_roots;
        const char *reason; /* NULL: it is taken */
    } rows[] = {
        {"name", "host.test", &good, .any_name = true},
        {"other name", "other.test", &good, .any_name = true},
        {"address", "127.0.0.1", &good, .any_name = true},
        {"IPv6 address", "::1", &good, .any_name = true},
        {"other name, and a stranger", "other.test", &stranger, .any_name = true,
         .reason = "the certificate is self-signed"},
        {"other name, and expired", "other.test", &expired, .any_name = true,
         .reason = "the certificate has expired"},
        {"any name needs roots", "other.test", &good, .any_name = true, .no_roots = true,
         .reason = "no certificate authority is configured"},
        {"anything: a stranger", "host.test", &stranger, .anything = true},
        {"anything: expired", "host.test", &expired, .anything = true},
        {"anything: other name", "127.0.0.1", &stranger, .anything = true},
        {"anything needs no roots", "other.test", &expired, .anything = true, .no_roots = true},
        {"neither: other name", "other.test", &good, .reason = OTHER_NAME},
        {"neither: address", "::1", &good, .reason = OTHER_IP},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            struct io_tls_client_options options = {.ca_file = rows[i].no_roots ? NULL : root_file,
                                                    .accept_invalid_hostnames = rows[i].any_name,
                                                    .accept_anything = rows[i].anything};
            struct peer peer;
            const char *reason = "";
            test_row(rows[i].label);
            peer_init(&peer, rows[i].cert, peer_shakes_and_drains);
            SSL_CTX_set_max_proto_version(peer.ctx, version);
            int error = shake_as_told(&options, rows[i].name, &peer, &reason);
            CHECK_INT(error == 0, rows[i].reason == NULL);
            CHECK_STR(slice_from_cstr(reason), rows[i].reason != NULL ? rows[i].reason : "");
            /* The server still learns which name is meant. */
            bool has_spoken = rows[i].anything || !rows[i].no_roots;
            CHECK_INT(peer.has_sni, has_spoken && rows[i].name[0] >= 'a');
        }
    }
    cert_free(&good);
    cert_free(&stranger);
    cert_free(&expired);
}

/* That the server speaks TLS well still counts. */
static void test_anything_is_tls(void) {
    struct io_tls_client_options options = {.accept_anything = true};
    const char *reason = "";
    struct peer peer;
    peer_init(&peer, NULL, peer_speaks_http);
    CHECK_INT(shake_as_told(&options, "host.test", &peer, &reason), -EPROTO);
    CHECK_STR(slice_from_cstr(reason), NO_TLS);
}

/* --- what this side shows --- */

static void want_certificate(SSL_CTX *ctx) {
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root.x509);
}

/* Whether this side's certificate counts is known when the server has answered (TLS 1.3). */
static void peer_notes_certificate(struct peer *peer) {
    if (!peer_shake(peer))
        return;
    X509 *shown = SSL_get1_peer_certificate(peer->ssl);
    if (shown != NULL)
        X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, peer->alpn,
                                  sizeof peer->alpn);
    X509_free(shown);
    peer->count = (size_t)sk_X509_num(SSL_get_peer_cert_chain(peer->ssl));
}

static void append_certificate(const struct cert *cert, const char *path) {
    FILE *file = fopen(path, "a");
    if (file == NULL || PEM_write_X509(file, cert->x509) != 1 || fclose(file) != 0)
        CANNOT_GO_ON();
}

static void check_shown(const struct cert *server, const char *cert_file, const char *key_file,
                        int version) {
    struct io_tls_client_options options = {
        .ca_file = root_file, .cert_file = cert_file, .key_file = key_file};
    struct peer peer;
    const char *reason = "";
    peer_init(&peer, server, peer_notes_certificate);
    SSL_CTX_set_max_proto_version(peer.ctx, version);
    want_certificate(peer.ctx);
    CHECK_INT(shake_as_told(&options, "host.test", &peer, &reason), 0);
    CHECK_STR(slice_from_cstr(reason), "");
    CHECK(peer.shook);
    CHECK_STR(slice_from_cstr(peer.alpn), "client");
    CHECK(peer.count == 1 || peer.count == 2); /* as the file has it, without its own */
}

static void test_own_certificate(void) {
    struct cert server =
        cert_make(&(struct cert_spec){.subject = "s", .names = "DNS:host.test"}, &root);
    struct cert middle =
        cert_make(&(struct cert_spec){.subject = "middle", .is_authority = true}, &root);
    struct cert client =
        cert_make(&(struct cert_spec){.subject = "client", .usage = "clientAuth"}, &middle);
    struct cert small =
        cert_make(&(struct cert_spec){.subject = "client", .is_short = true}, &root);
    char cert_file[] = "/tmp/own-XXXXXX", key_file[] = "/tmp/key-XXXXXX",
         closed[] = "/tmp/closed-XXXXXX", empty[] = "/tmp/empty-XXXXXX",
         other[] = "/tmp/other-XXXXXX", other_key[] = "/tmp/rsa-XXXXXX",
         damaged[] = "/tmp/damaged-XXXXXX", fifo[] = "/tmp/fifo-XXXXXX";
    cert_write(&client, cert_file);
    append_certificate(&middle, cert_file);
    cert_write_key(&client, key_file, NULL);
    cert_write_key(&client, closed, (char[]){"secret"});
    cert_write_key(&server, other, NULL);
    cert_write_key(&small, other_key, NULL);
    cert_write(&client, damaged);
    FILE *file = fopen(damaged, "a");
    REQUIRE(file != NULL && fputs("-----BEGIN CERTIFICATE-----\nAAAA\n", file) >= 0 &&
            fclose(file) == 0);
    int fd = mkstemp(empty);
    io_fd_close(&fd);
    fd = mkstemp(fifo);
    io_fd_close(&fd);
    REQUIRE(unlink(fifo) == 0 && mkfifo(fifo, 0600) == 0);

    check_shown(&server, cert_file, key_file, TLS1_2_VERSION);
    check_shown(&server, cert_file, key_file, TLS1_3_VERSION);

    const struct {
        const char *label, *cert, *key;
        int error;
        const char *reason;
    } rows[] = {
        {"no certificate file", "/nowhere/c.pem", key_file, -ENOENT,
         "the file of the client's certificate cannot be read"},
        {"no key file", cert_file, "/nowhere/k.pem", -ENOENT,
         "the file of the client's key cannot be read"},
        {"a folder", "/tmp", key_file, -EISDIR,
         "the file of the client's certificate cannot be read"},
        {"without end", cert_file, "/dev/zero", -EFBIG,
         "the file of the client's key cannot be read"},
        {"never written to", fifo, key_file, -EKEYREJECTED,
         "the file of the client's certificate holds none that can be used"},
        {"empty certificate", empty, key_file, -EKEYREJECTED,
         "the file of the client's certificate holds none that can be used"},
        {"the files exchanged", key_file, cert_file, -EKEYREJECTED,
         "the file of the client's certificate holds none that can be used"},
        {"damaged chain", damaged, key_file, -EKEYREJECTED,
         "the file of the client's certificate holds none that can be used"},
        {"empty key", cert_file, empty, -EKEYREJECTED,
         "the file of the client's key holds no private key in PEM"},
        {"passphrase", cert_file, closed, -EKEYREJECTED,
         "the file of the client's key is protected by a passphrase"},
        {"key of another", cert_file, other, -EKEYREJECTED,
         "the client's key does not belong to the client's certificate"},
        {"key of another kind", cert_file, other_key, -EKEYREJECTED,
         "the client's key does not belong to the client's certificate"},
        {"certificate alone", cert_file, NULL, -EKEYREJECTED,
         "the client's certificate has no key"},
        {"key alone", NULL, key_file, -EKEYREJECTED, "the client's key has no certificate"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        /* Nothing that is accepted otherwise makes up for it. */
        for (int anything = 0; anything < 2; anything++) {
            struct io_tls_client_options options = {.ca_file = root_file,
                                                    .cert_file = rows[i].cert,
                                                    .key_file = rows[i].key,
                                                    .accept_anything = anything == 1};
            struct peer peer;
            const char *reason = "";
            test_row(rows[i].label);
            peer_init(&peer, &server, peer_shakes_and_drains);
            CHECK_INT(shake_as_told(&options, "host.test", &peer, &reason), rows[i].error);
            CHECK_STR(slice_from_cstr(reason), rows[i].reason);
            CHECK(!peer.shook);
        }
    }
    const char *const files[] = {cert_file, key_file,  closed,  empty,
                                 other,     other_key, damaged, fifo};
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        CHECK_INT(unlink(files[i]), 0);
    cert_free(&server);
    cert_free(&middle);
    cert_free(&client);
    cert_free(&small);
}

TEST_MAIN(TEST(prepare), TEST(test_certificates), TEST(test_intermediate_as_root),
          TEST(test_servers), TEST(test_gives_up), TEST(test_free_when_ready), TEST(test_names),
          TEST(test_roots), TEST(test_system_roots), TEST(test_free_while_loading),
          TEST(test_threads), TEST(test_unchecked), TEST(test_anything_is_tls),
          TEST(test_own_certificate), TEST(clean_up))
