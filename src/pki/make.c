/* Makes certificates (RFC 5280). No text is pasted together: names go in as values. */
#include <errno.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "base/random.h"
#include "private.h"

#define SECONDS_OF_DAYS(n) ((time_t)(n)*86400)

enum {
    SKEW = 3600, /* seconds that a client's clock may be behind ours */
    AUTHORITY_DAYS = 3653,
    SERVER_DAYS = 90,
    COMMON_NAME_MAX = 64, /* RFC 5280, ub-common-name */
    SERIAL_BYTES = 16,    /* at most 20 octets, positive (section 4.1.2.2) */
};

struct extension {
    int nid;
    const char *value; /* as in openssl x509v3_config(5) */
};

/* Such an authority vouches for servers alone: not for clients, and not for other authorities. */
static const struct extension authority_extensions[] = {
    {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
    {NID_key_usage, "critical,keyCertSign,cRLSign"},
    {NID_ext_key_usage, "serverAuth"},
    {NID_subject_key_identifier, "hash"},
    {NID_authority_key_identifier, "keyid:always"},
    {NID_undef, NULL},
};

static const struct extension server_extensions[] = {
    {NID_basic_constraints, "critical,CA:FALSE"},
    {NID_key_usage, "critical,digitalSignature"},
    {NID_ext_key_usage, "serverAuth"},
    {NID_subject_key_identifier, "hash"},
    {NID_authority_key_identifier, "keyid:always"},
    {NID_undef, NULL},
};

static bool add_extensions(X509 *x509, X509 *issuer, const struct extension *rows) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
    for (; rows->value != NULL; rows++) {
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, rows->nid, rows->value);
        bool is_added = extension != NULL && X509_add_ext(x509, extension, -1) == 1;
        X509_EXTENSION_free(extension);
        if (!is_added)
            return false;
    }
    return true;
}

static GENERAL_NAME *general_name(const struct pki_name *name) {
    int len = (int)name->value.len;
    GENERAL_NAME *general = GENERAL_NAME_new();
    ASN1_STRING *value = name->is_address ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
    if (general == NULL || value == NULL || ASN1_STRING_set(value, name->value.ptr, len) != 1) {
        GENERAL_NAME_free(general);
        ASN1_STRING_free(value);
        return NULL;
    }
    GENERAL_NAME_set0_value(general, name->is_address ? GEN_IPADD : GEN_DNS, value);
    return general;
}

static bool add_names(X509 *x509, const struct pki_names *names) {
    GENERAL_NAMES *all = sk_GENERAL_NAME_new_null();
    bool is_whole = all != NULL;
    for (size_t i = 0; is_whole && i < names->n; i++) {
        GENERAL_NAME *general = general_name(&names->items[i]);
        is_whole = general != NULL && sk_GENERAL_NAME_push(all, general) > 0;
        if (!is_whole)
            GENERAL_NAME_free(general);
    }
    is_whole = is_whole && X509_add1_ext_i2d(x509, NID_subject_alt_name, all, 0, 0) == 1;
    sk_GENERAL_NAME_pop_free(all, GENERAL_NAME_free);
    return is_whole;
}

static bool set_serial(X509 *x509) {
    unsigned char bytes[SERIAL_BYTES];
    random_bytes(bytes, sizeof bytes);
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool is_set = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)) != NULL;
    BN_free(number);
    return is_set;
}

static bool set_term(X509 *x509, time_t from, time_t until) {
    return ASN1_TIME_set(X509_getm_notBefore(x509), from) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(x509), until) != NULL;
}

static bool set_common_name(X509 *x509, struct slice name) {
    const unsigned char *bytes = (const unsigned char *)name.ptr;
    return X509_NAME_add_entry_by_NID(X509_get_subject_name(x509), NID_commonName, MBSTRING_ASC,
                                      bytes, (int)name.len, -1, 0) == 1;
}

/* Version 3, serial number, key and term. */
static bool begin(struct pki_identity *identity, time_t from, time_t until) {
    if (identity->key == NULL)
        identity->key = EVP_EC_gen("P-256");
    identity->x509 = X509_new();
    return identity->key != NULL && identity->x509 != NULL &&
           X509_set_version(identity->x509, 2) == 1 && set_serial(identity->x509) &&
           set_term(identity->x509, from, until) &&
           X509_set_pubkey(identity->x509, identity->key) == 1;
}

MUST_CHECK static int finish(bool is_made, struct pki_identity *made,
                             struct pki_identity *ret_identity) {
    if (!is_made) {
        pki_identity_deinit(made);
        return PKI_E_INVALID;
    }
    ERR_clear_error();
    *ret_identity = *made;
    return 0;
}

/* "Cardea HOST 1a2b3c4d": two authorities of one machine are never taken for each other. */
static bool name_authority(X509 *x509, struct slice host) {
    char text[COMMON_NAME_MAX + 1];
    struct pki_names checked;
    const char *reason;
    pki_names_init(&checked);
    bool is_fine = host.len <= 40 && pki_names_add(&checked, host, &reason) == 0;
    pki_names_deinit(&checked);
    struct slice shown = is_fine ? host : SLICE("gateway");
    int len = snprintf(text, sizeof text, "Cardea %.*s %08x", SLICE_ARGS(shown),
                       (unsigned)random_below(UINT64_C(1) << 32));
    return len > 0 && set_common_name(x509, slice_make(text, (size_t)len));
}

int pki_make_authority(const struct pki_identity *old, struct slice host, uint64_t now_wall_ms,
                       struct pki_identity *ret_identity) {
    struct pki_identity made = {.x509 = NULL};
    time_t now = (time_t)(now_wall_ms / 1000);
    if (old != NULL && EVP_PKEY_up_ref(old->key) == 1)
        made.key = old->key;
    bool is_made =
        begin(&made, now - SKEW, now + SECONDS_OF_DAYS(AUTHORITY_DAYS)) &&
        (old != NULL ? X509_set_subject_name(made.x509, X509_get_subject_name(old->x509)) == 1
                     : name_authority(made.x509, host)) &&
        X509_set_issuer_name(made.x509, X509_get_subject_name(made.x509)) == 1 &&
        add_extensions(made.x509, made.x509, authority_extensions) &&
        X509_sign(made.x509, made.key, EVP_sha256()) > 0;
    return finish(is_made, &made, ret_identity);
}

/* The first name that fits; the subject is for people, clients read the alternative names. */
static struct slice common_name(const struct pki_names *names) {
    for (size_t i = 0; i < names->n; i++) {
        const struct pki_name *name = &names->items[i];
        if (!name->is_address && name->value.len <= COMMON_NAME_MAX)
            return name->value;
    }
    return SLICE("cardea");
}

int pki_make_server(const struct pki_identity *authority, const struct pki_names *names,
                    uint64_t now_wall_ms, struct pki_identity *ret_identity) {
    struct pki_identity made = {.x509 = NULL};
    struct pki_term term;
    if (!pki_term_of(authority->x509, &term))
        return PKI_E_INVALID;
    time_t now = (time_t)(now_wall_ms / 1000), last = (time_t)(term.until_ms / 1000);
    time_t until = now + SECONDS_OF_DAYS(SERVER_DAYS);
    bool is_made = begin(&made, now - SKEW, until < last ? until : last) &&
                   set_common_name(made.x509, common_name(names)) &&
                   X509_set_issuer_name(made.x509, X509_get_subject_name(authority->x509)) == 1 &&
                   add_extensions(made.x509, authority->x509, server_extensions) &&
                   add_names(made.x509, names) &&
                   X509_sign(made.x509, authority->key, EVP_sha256()) > 0;
    return finish(is_made, &made, ret_identity);
}

bool pki_is_issued_by(X509 *x509, X509 *issuer) {
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    bool is_issued =
        key != NULL && X509_check_issued(issuer, x509) == X509_V_OK && X509_verify(x509, key) == 1;
    ERR_clear_error();
    return is_issued;
}
