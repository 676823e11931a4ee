/* What is told of a certificate: the words, JSON, and nothing that acts on a terminal. */
#include <openssl/pem.h>

#include "base/utf8.h"
#include "json/reader.h"
#include "support.h"

/* A certificate that means harm: any common name, any DNS name, of any bytes. */
static void make_hostile(struct slice common_name, struct slice dns_name, struct buf *pem) {
    X509 *x509 = X509_new();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    GENERAL_NAME *general = GENERAL_NAME_new();
    ASN1_STRING *value = ASN1_IA5STRING_new();
    if (x509 == NULL || key == NULL || names == NULL || general == NULL || value == NULL)
        CANNOT_GO_ON();
    X509_set_version(x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), -5);
    X509_gmtime_adj(X509_getm_notBefore(x509), 0);
    X509_gmtime_adj(X509_getm_notAfter(x509), 1);
    X509_set_pubkey(x509, key);
    X509_NAME_add_entry_by_NID(X509_get_subject_name(x509), NID_commonName, V_ASN1_UTF8STRING,
                               (const unsigned char *)common_name.ptr, (int)common_name.len, -1, 0);
    ASN1_STRING_set(value, dns_name.ptr, (int)dns_name.len);
    GENERAL_NAME_set0_value(general, GEN_DNS, value);
    sk_GENERAL_NAME_push(names, general);
    X509_add1_ext_i2d(x509, NID_subject_alt_name, names, 0, 0);
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    if (X509_sign(x509, key, EVP_sha256()) <= 0 || pki_pem_write_certificate(pem, x509) != 0)
        CANNOT_GO_ON();
    EVP_PKEY_free(key);
    X509_free(x509);
}

static bool is_harmless(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if ((c < ' ' && c != '\n') || c == 0x7f)
            return false;
    }
    return utf8_is_valid(text);
}

static bool has(const struct buf *text, const char *part) {
    return slice_find(buf_slice(text), slice_from_cstr(part)) != SIZE_MAX;
}

static bool is_json(struct slice text) {
    struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0)
        CANNOT_GO_ON();
    bool is_read = json_read(reader, text, NULL, NULL, NULL) == 0;
    json_reader_free(reader);
    return is_read;
}

static void test_own(void) {
    struct place place;
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(64));
    CLEANUP(buf_deinit) struct buf json = BUF_INIT(KIB(64));
    place_make(&place);
    place_name(&place, "gw.example");
    X509_free(load_at(&place, NOW));
    struct slice pem = read_whole_file(path_in(&place, "tls/server.pem"));
    CHECK_INT(pki_describe(pem, NOW + 29 * DAY, false, &text), 0);
    CHECK(has(&text, "subject      CN=gw.example\n"));
    CHECK(has(&text, "issuer       CN=Cardea "));
    CHECK(has(&text, "names        gw.example, "));
    CHECK(has(&text, "127.0.0.1, ::1") && has(&text, "localhost"));
    CHECK(has(&text, "(expires in 61 days)"));
    CHECK(has(&text, "key          EC prime256v1"));
    CHECK(has(&text, "fingerprint  SHA-256 "));
    CHECK_INT(pki_describe(pem, NOW + 29 * DAY, true, &json), 0);
    CHECK(is_json(buf_slice(&json)));
    CHECK(has(&json, "{\"certificates\":[{\"subject\":\"CN=gw.example\""));
    CHECK(has(&json, "\"names\":[\"gw.example\",") && has(&json, "\"expires_in_days\":61"));
    CHECK(has(&json, "\"validity\":\"valid\"") && has(&json, "\"is_authority\":false"));
    slice_drop(&pem);
    place_remove(&place);
}

static void test_terms(void) {
    static const struct {
        const char *name;
        uint64_t now;
        const char *text, *json;
    } cases[] = {
        {"early", NOW - 3 * DAY, "(NOT YET VALID, begins in 2 days)", "\"not yet valid\""},
        {"the last day", NOW + 89 * DAY, "(expires in 1 day)", "\"expires_in_days\":1,"},
        {"the last hours", NOW + 90 * DAY - 1000, "(expires in 0 days)", "\"expires_in_days\":0,"},
        {"over", NOW + 100 * DAY, "(EXPIRED 10 days ago)", "\"expires_in_days\":-10,"},
    };
    struct place place;
    place_make(&place);
    X509_free(load_at(&place, NOW));
    struct slice pem = read_whole_file(path_in(&place, "tls/server.pem"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(64));
        CLEANUP(buf_deinit) struct buf json = BUF_INIT(KIB(64));
        test_row(cases[i].name);
        CHECK_INT(pki_describe(pem, cases[i].now, false, &text), 0);
        CHECK_INT(pki_describe(pem, cases[i].now, true, &json), 0);
        CHECK(has(&text, cases[i].text) && has(&json, cases[i].json));
    }
    slice_drop(&pem);
    place_remove(&place);
}

static void test_hostile(void) {
    static const struct {
        const char *name;
        struct slice common_name, dns_name;
        const char *text; /* a part of it */
    } cases[] = {
        {"an escape sequence", SLICE_INIT("\x1b]0;owned\x07"), SLICE_INIT("\x1b[2J.example"),
         "\\x1b"},
        {"a NUL", SLICE_INIT("bank\0evil"), SLICE_INIT("bank.example\0.evil.example"),
         "\"bank.example\\x00.evil.example\""},
        {"a name like two", SLICE_INIT("a,b"), SLICE_INIT("a.example, b.example"),
         "\"a.example, b.example\""},
        {"a line of ours", SLICE_INIT("x\nsubject CN=y"), SLICE_INIT("a\nvalid        always"),
         "\\x0a"},
        {"no UTF-8", SLICE_INIT("x"), SLICE_INIT("\xff\xfe\x80"), "\\xff"},
        {"text that turns round",
         SLICE_INIT("\xe2\x80\xae"
                    "txt"),
         SLICE_INIT("a.example"), "a.example"},
        {"empty", SLICE_INIT("x"), SLICE_INIT(""), "CN=x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buf_deinit) struct buf pem = BUF_INIT(KIB(64));
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(64));
        CLEANUP(buf_deinit) struct buf json = BUF_INIT(KIB(64));
        test_row(cases[i].name);
        make_hostile(cases[i].common_name, cases[i].dns_name, &pem);
        CHECK_INT(pki_describe(buf_slice(&pem), NOW, false, &text), 0);
        CHECK_INT(pki_describe(buf_slice(&pem), NOW, true, &json), 0);
        CHECK(is_harmless(buf_slice(&text)) && is_harmless(buf_slice(&json)));
        CHECK(has(&text, cases[i].text));
        CHECK(is_json(buf_slice(&json)));
        CHECK(has(&text, "serial       -05"));
        size_t lines = 0;
        for (size_t k = 0; k < buf_len(&text); k++)
            lines += buf_slice(&text).ptr[k] == '\n';
        CHECK(lines == 7 || cases[i].dns_name.len == 0);
    }
}

static void test_nothing(void) {
    static const struct slice cases[] = {SLICE_INIT(""), SLICE_INIT("text"),
                                         SLICE_INIT("-----BEGIN CERTIFICATE-----\nAAAA\n"
                                                    "-----END CERTIFICATE-----\n")};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(64));
        CHECK_INT(pki_describe(cases[i], NOW, false, &out), PKI_E_INVALID);
        CHECK_INT(buf_len(&out), 0);
        CHECK_INT(pki_describe(cases[i], NOW, true, &out), PKI_E_INVALID);
    }
}

static void test_several(void) {
    struct place place;
    CLEANUP(buf_deinit) struct buf both = BUF_INIT(KIB(64));
    CLEANUP(buf_deinit) struct buf json = BUF_INIT(KIB(64));
    place_make(&place);
    X509_free(load_at(&place, NOW));
    struct slice server = read_whole_file(path_in(&place, "tls/server.pem"));
    struct slice authority = read_whole_file(path_in(&place, "tls/ca.pem"));
    buf_append(&both, server);
    buf_append(&both, authority);
    CHECK_INT(pki_describe(buf_slice(&both), NOW, true, &json), 0);
    CHECK(is_json(buf_slice(&json)));
    CHECK(has(&json, "\"is_authority\":false") && has(&json, "\"is_authority\":true"));
    slice_drop(&server);
    slice_drop(&authority);
    place_remove(&place);
}

static void describe_body(void *arg) {
    const struct slice *pem = arg;
    for (int as_json = 0; as_json < 2; as_json++) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(64));
        int error = pki_describe(*pem, NOW, as_json != 0, &out);
        CHECK(error == 0 || error == -ENOMEM);
    }
}

static void test_without_memory(void) {
    struct place place;
    place_make(&place);
    X509_free(load_at(&place, NOW));
    struct slice pem = read_whole_file(path_in(&place, "tls/server.pem"));
    test_torture(describe_body, &pem);
    /* And too little room. */
    CLEANUP(buf_deinit) struct buf whole = BUF_INIT(KIB(64));
    CHECK_INT(pki_describe(pem, NOW, false, &whole), 0);
    for (size_t max = 0; max < buf_len(&whole); max += 13) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(max);
        CHECK_INT(pki_describe(pem, NOW, false, &out), -E2BIG);
        CHECK(buf_len(&out) <= max);
    }
    slice_drop(&pem);
    place_remove(&place);
}

TEST_MAIN(TEST(test_own), TEST(test_terms), TEST(test_hostile), TEST(test_nothing),
          TEST(test_several), TEST(test_without_memory))
