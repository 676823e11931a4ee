/* Which names a certificate is made for, and what comes out of it again. */
#include "support.h"

struct row {
    const char *name, *text;
    const char *reason; /* a part of it; NULL: it is taken */
    const char *as;     /* NULL: as written */
    bool is_address;
};

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct row rows[] = {
    {.name = "a name", .text = "gw.example.com"},
    {.name = "one label", .text = "gateway"},
    {.name = "upper case", .text = "GW.Example.COM", .as = "gw.example.com"},
    {.name = "digits first", .text = "1st.example"},
    {.name = "an underscore", .text = "my_host.local"},
    {.name = "IDN in its ASCII form", .text = "xn--bcher-kva.example"},
    {.name = "IDN as text",
     .text = "b\xc3\xbc"
             "cher.example",
     .reason = "ASCII form"},
    {.name = "empty behind xn--", .text = "xn--.example", .reason = "'-'"},
    {.name = "a wildcard", .text = "*.example.com"},
    {.name = "a wildcard of a top-level domain", .text = "*.com", .reason = "top-level"},
    {.name = "a star alone", .text = "*", .reason = "first label"},
    {.name = "a star further right", .text = "a.*.example.com", .reason = "first label"},
    {.name = "two stars", .text = "*.*.example.com", .reason = "first label"},
    {.name = "a partial star", .text = "gw*.example.com", .reason = "first label"},
    {.name = "a star for an address", .text = "*.0.0.1", .reason = "address"},
    {.name = "empty", .text = "", .reason = "empty"},
    {.name = "a dot", .text = ".", .reason = "empty label"},
    {.name = "a last dot", .text = "gw.example.com.", .reason = "empty label"},
    {.name = "a first dot", .text = ".example.com", .reason = "empty label"},
    {.name = "two dots", .text = "gw..example.com", .reason = "empty label"},
    {.name = "63 bytes", .text = L63 ".example"},
    {.name = "64 bytes", .text = L63 "a.example", .reason = "63"},
    {.name = "253 bytes",
     .text = L63 "." L63 "." L63 ".bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
                 "bbbbbbbbbbbb"},
    {.name = "254 bytes",
     .text = L63 "." L63 "." L63 ".bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
                 "bbbbbbbbbbbbb",
     .reason = "253"},
    {.name = "1000 bytes", .text = L63 L63 L63 L63 L63 L63 L63, .reason = "253"},
    {.name = "a hyphen first", .text = "-gw.example", .reason = "'-'"},
    {.name = "a hyphen last", .text = "gw-.example", .reason = "'-'"},
    {.name = "a space", .text = "gw example", .reason = "character"},
    {.name = "a port", .text = "gw.example:8000", .reason = "character"},
    {.name = "a URL", .text = "https://gw.example", .reason = "character"},
    {.name = "a line break", .text = "gw\n.example", .reason = "character"},
    {.name = "a comma, as in a list of openssl",
     .text = "a.example,DNS:b.example",
     .reason = "character"},
    {.name = "a zone", .text = "fe80::1%eth0", .reason = "character"},
    {.name = "a number", .text = "12", .reason = "address"},
    {.name = "a short address", .text = "127.1", .reason = "address"},
    {.name = "an address that is none", .text = "256.1.1.1", .reason = "address"},
    {.name = "a hexadecimal address", .text = "0x7f000001", .reason = "address"},
    {.name = "IPv4", .text = "192.168.1.213", .is_address = true},
    {.name = "IPv6", .text = "2001:DB8::1", .as = "2001:db8::1", .is_address = true},
    {.name = "IPv6 in brackets", .text = "[::1]", .as = "::1", .is_address = true},
    {.name = "IPv4 in IPv6", .text = "::ffff:10.0.0.1", .as = "10.0.0.1", .is_address = true},
    {.name = "all of IPv4", .text = "0.0.0.0", .reason = "all addresses"},
    {.name = "all of IPv6", .text = "::", .reason = "all addresses"},
    {.name = "a group of IPv4", .text = "224.0.0.1", .reason = "group"},
    {.name = "a group of IPv6", .text = "ff02::1", .reason = "group"},
};

static bool shows(const struct pki_name *name, const char *text) {
    char address[PKI_ADDRESS_SIZE];
    if (name->is_address)
        return pki_name_text(name, address) && strcmp(address, text) == 0;
    return slice_eq(name->value, slice_from_cstr(text));
}

static void test_rows(void) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        struct pki_names names;
        const char *reason = NULL;
        test_row(row->name);
        pki_names_init(&names);
        int result = pki_names_add(&names, slice_from_cstr(row->text), &reason);
        if (row->reason != NULL) {
            CHECK_INT(result, PKI_E_INVALID);
            CHECK_INT(names.n, 0);
            CHECK(reason != NULL && strstr(reason, row->reason) != NULL);
        } else {
            CHECK_INT(result, 0);
            CHECK_INT(names.n, 1);
            CHECK(names.n == 1 && names.items[0].is_address == row->is_address &&
                  shows(&names.items[0], row->as != NULL ? row->as : row->text));
        }
        pki_names_deinit(&names);
    }
}

static void test_embedded_nul(void) {
    struct pki_names names;
    const char *reason;
    pki_names_init(&names);
    CHECK_INT(pki_names_add(&names, SLICE("bank.example\0.evil.example"), &reason), PKI_E_INVALID);
    CHECK_INT(pki_names_add(&names, SLICE("127.0.0.1\0"), &reason), PKI_E_INVALID);
    CHECK_INT(pki_names_add(&names, slice_make(NULL, 0), &reason), PKI_E_INVALID);
    CHECK_INT(names.n, 0);
    pki_names_deinit(&names);
}

static void test_set(void) {
    struct pki_names a, b;
    const char *reason;
    pki_names_init(&a);
    pki_names_init(&b);
    CHECK_INT(pki_names_add(&a, SLICE("one.example"), &reason), 0);
    CHECK_INT(pki_names_add(&a, SLICE("ONE.example"), &reason), 0);
    CHECK_INT(pki_names_add(&a, SLICE("10.0.0.1"), &reason), 0);
    CHECK_INT(pki_names_add(&a, SLICE("::ffff:10.0.0.1"), &reason), 0);
    CHECK_INT(a.n, 2);
    CHECK_INT(pki_names_add(&b, SLICE("10.0.0.1"), &reason), 0);
    CHECK(!pki_names_same(&a, &b) && !pki_names_same(&b, &a));
    CHECK_INT(pki_names_add(&b, SLICE("one.example"), &reason), 0);
    CHECK(pki_names_same(&a, &b) && pki_names_same(&b, &a));
    CHECK_INT(pki_names_add(&b, SLICE("two.example"), &reason), 0);
    CHECK(!pki_names_same(&a, &b) && !pki_names_same(&b, &a));
    pki_names_deinit(&a);
    pki_names_deinit(&b);
}

static void test_limit(void) {
    struct pki_names names;
    const char *reason = "";
    char text[32];
    pki_names_init(&names);
    for (unsigned i = 0; i < LIMIT_CERTIFICATE_NAMES; i++) {
        (void)snprintf(text, sizeof text, "host-%u.example", i);
        CHECK_INT(pki_names_add(&names, slice_from_cstr(text), &reason), 0);
    }
    CHECK_INT(pki_names_add(&names, SLICE("host-0.example"), &reason), 0);
    CHECK_INT(pki_names_add(&names, SLICE("one.more"), &reason), PKI_E_INVALID);
    CHECK(strstr(reason, "one more") != NULL);
    CHECK_INT(names.n, LIMIT_CERTIFICATE_NAMES);
    pki_names_deinit(&names);
}

static bool has_name(const struct pki_names *names, const char *text) {
    for (size_t i = 0; i < names->n; i++) {
        if (shows(&names->items[i], text))
            return true;
    }
    return false;
}

static void test_collect(void) {
    static const struct {
        const char *listen, *has, *has_not;
    } cases[] = {
        {"127.0.0.1:8000", "::1", "0.0.0.0"},       {"192.0.2.7:443", "192.0.2.7", "0.0.0.0"},
        {"[2001:db8::7]:443", "2001:db8::7", "::"}, {"0.0.0.0:8000", "127.0.0.1", "0.0.0.0"},
        {"[::]:8000", "127.0.0.1", "::"},           {"nonsense", "localhost", "nonsense"},
    };
    struct place place;
    place_make(&place);
    place.options.health_address = SLICE("192.0.2.99:9000");
    place_name(&place, "gw.example");
    place_name(&place, "not a name");
    place_name(&place, "192.168.1.213");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pki_names names;
        test_row(cases[i].listen);
        pki_names_init(&names);
        place.options.listen_address = slice_from_cstr(cases[i].listen);
        CHECK_INT(pki_names_collect(&place.options, NULL, &names), 0);
        CHECK(has_name(&names, "gw.example") && has_name(&names, "192.168.1.213"));
        CHECK(has_name(&names, "localhost") && has_name(&names, "127.0.0.1"));
        CHECK(has_name(&names, cases[i].has) && !has_name(&names, cases[i].has_not));
        CHECK(has_name(&names, "192.0.2.99") && !has_name(&names, "not a name"));
        pki_names_deinit(&names);
    }
    place_remove(&place);
}

/* What goes into a certificate comes out of it, and is what a client finds there. */
static void test_round_trip(void) {
    struct pki_identity authority = {.x509 = NULL}, server = {.x509 = NULL};
    struct pki_names names, read;
    const char *reason;
    pki_names_init(&names);
    pki_names_init(&read);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].reason == NULL)
            CHECK_INT(pki_names_add(&names, slice_from_cstr(rows[i].text), &reason), 0);
    }
    REQUIRE(pki_make_authority(NULL, SLICE("here"), NOW, &authority) == 0);
    REQUIRE(pki_make_server(&authority, &names, NOW, &server) == 0);
    CHECK_INT(pki_names_of(server.x509, &read), 0);
    CHECK(pki_names_same(&names, &read));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].reason != NULL || strchr(rows[i].text, '*') != NULL)
            continue;
        test_row(rows[i].name);
        CHECK_INT(verify(server.x509, authority.x509,
                         rows[i].as != NULL ? rows[i].as : rows[i].text, NOW),
                  X509_V_OK);
    }
    test_row("");
    CHECK_INT(verify(server.x509, authority.x509, "sub.example.com", NOW), X509_V_OK);
    CHECK_INT(verify(server.x509, authority.x509, "a.sub.example.com", NOW),
              X509_V_ERR_HOSTNAME_MISMATCH);
    CHECK_INT(verify(server.x509, authority.x509, "other.example", NOW),
              X509_V_ERR_HOSTNAME_MISMATCH);
    CHECK_INT(verify(server.x509, authority.x509, "10.0.0.2", NOW), X509_V_ERR_IP_ADDRESS_MISMATCH);
    pki_names_deinit(&names);
    pki_names_deinit(&read);
    pki_identity_deinit(&authority);
    pki_identity_deinit(&server);
}

static void collect_body(void *arg) {
    struct place *place = arg;
    struct pki_names names;
    pki_names_init(&names);
    int error = pki_names_collect(&place->options, NULL, &names);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK(error != 0 || has_name(&names, "gw.example"));
    pki_names_deinit(&names);
}

static void test_without_memory(void) {
    struct place place;
    place_make(&place);
    place_name(&place, "gw.example");
    test_torture(collect_body, &place);
    place_remove(&place);
}

TEST_MAIN(TEST(test_rows), TEST(test_embedded_nul), TEST(test_set), TEST(test_limit),
          TEST(test_collect), TEST(test_round_trip), TEST(test_without_memory))
