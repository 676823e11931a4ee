/*
 * Names of certificates, and what is told of certificates that come from anywhere. The first byte
 * says what follows:
 *
 * 'n'  lines, each a name as in server.tls.names. What is accepted goes into a certificate, comes
 *      out of it again as the same set, and is what OpenSSL, as a client, finds there.
 * 'p'  a PEM text; 'd' a certificate in DER, of which the PEM is made here. What is told of them
 *      has no byte that a terminal acts on, and as JSON it is JSON.
 *
 * A rule that breaks ends the process.
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/base64.h"
#include "base/utf8.h"
#include "json/reader.h"
#include "private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

#define NOW UINT64_C(1790000000000)

/* Made once: signing is what a run costs. */
static const struct pki_identity *authority(void) {
    static struct pki_identity made;
    if (made.key == NULL)
        MUST(pki_make_authority(NULL, SLICE("fuzz"), NOW, &made) == 0);
    return &made;
}

static void must_be_found(X509 *x509, const struct pki_name *name) {
    char text[256];
    if (name->is_address) {
        MUST(name->value.len == 4 || name->value.len == 16);
        MUST(X509_check_ip(x509, (const unsigned char *)name->value.ptr, name->value.len, 0) == 1);
        return;
    }
    MUST(name->value.len > 0 && name->value.len <= 253);
    MUST(slice_to_cstr(name->value, text, sizeof text) == 0);
    if (text[0] == '*')
        text[0] = 'w'; /* a host that it stands for */
    MUST(strchr(text, '*') == NULL);
    MUST(X509_check_host(x509, text, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1);
}

static void try_names(struct slice lines) {
    struct pki_names names, read;
    struct pki_identity made = {.x509 = NULL};
    bool more = true;
    pki_names_init(&names);
    pki_names_init(&read);
    while (more) {
        struct slice line;
        const char *reason = NULL;
        size_t before = names.n;
        more = slice_cut(lines, '\n', &line, &lines);
        int error = pki_names_add(&names, line, &reason);
        MUST(error == 0 || (error == PKI_E_INVALID && reason != NULL && names.n == before));
    }
    MUST(pki_make_server(authority(), &names, NOW, &made) == 0);
    MUST(pki_names_of(made.x509, &read) == 0 && pki_names_same(&names, &read));
    /* Each look decodes all of them. */
    for (size_t i = 0; i < names.n; i += 1 + names.n / 16)
        must_be_found(made.x509, &names.items[i]);
    MUST(pki_is_issued_by(made.x509, authority()->x509));
    pki_identity_deinit(&made);
    pki_names_deinit(&names);
    pki_names_deinit(&read);
}

static void must_be_harmless(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        MUST((c >= ' ' || c == '\n') && c != 0x7f);
    }
    MUST(utf8_is_valid(text));
}

static void try_pem(struct slice pem) {
    struct buf text = BUF_INIT(MIB(8)), json = BUF_INIT(MIB(8));
    struct json_reader *reader = NULL;
    int as_text = pki_describe(pem, NOW, false, &text);
    int as_json = pki_describe(pem, NOW, true, &json);
    MUST(as_text == as_json && (as_text == 0 || as_text == PKI_E_INVALID));
    if (as_text == 0) {
        must_be_harmless(buf_slice(&text));
        MUST(slice_starts_with(buf_slice(&text), SLICE("subject      ")));
        MUST(json_reader_new(&reader) == 0);
        MUST(json_read(reader, buf_slice(&json), NULL, NULL, NULL) == 0);
        json_reader_free(reader);
    }
    MUST(ERR_peek_error() == 0);
    buf_deinit(&text);
    buf_deinit(&json);
}

static void try_der(struct slice der) {
    struct buf pem = BUF_INIT(MIB(16)), line = BUF_INIT(MIB(16));
    struct slice rest;
    buf_append_cstr(&pem, "-----BEGIN CERTIFICATE-----\n");
    MUST(base64_encode(&line, der) == 0);
    for (rest = buf_slice(&line); rest.len != 0; rest = slice_from(rest, 64)) {
        buf_append(&pem, slice_sub(rest, 0, 64));
        buf_append_byte(&pem, '\n');
    }
    MUST(buf_append_cstr(&pem, "-----END CERTIFICATE-----\n") == 0);
    X509 *x509 = pki_pem_certificate(buf_slice(&pem), 0);
    if (x509 != NULL) {
        struct pki_names names;
        pki_names_init(&names);
        (void)!pki_names_of(x509, &names);
        MUST(names.n <= LIMIT_CERTIFICATE_NAMES);
        pki_names_deinit(&names);
        X509_free(x509);
        ERR_clear_error();
    }
    try_pem(buf_slice(&pem));
    buf_deinit(&pem);
    buf_deinit(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice rest = slice_make(size != 0 ? data + 1 : data, size != 0 ? size - 1 : 0);
    if (size == 0)
        return 0;
    if (data[0] == 'n')
        try_names(rest);
    else if (data[0] == 'p')
        try_pem(rest);
    else if (data[0] == 'd')
        try_der(rest);
    return 0;
}
