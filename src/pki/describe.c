/*
 * What is in a certificate, for people and programs. Certificates come from anywhere, so every text
 * in them is hostile: what goes to a terminal is escaped, and a name that could be read as two
 * stands in quotes.
 */
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "json/writer.h"
#include "private.h"

#define DAY_MS UINT64_C(86400000)

enum { TEXT_MAX = 4096, SHOWN_NAMES = 1000, SHOWN_CERTIFICATES = 64 };

/* Everything but its names, which are written as they are found. */
struct facts {
    struct buf subject, issuer, serial, key;
    char from[CLOCK_RFC3339_SIZE], until[CLOCK_RFC3339_SIZE];
    struct pki_term term;
    bool has_term, is_authority;
    unsigned char digest[32];
};

static void facts_deinit(struct facts *facts) {
    buf_deinit(&facts->subject);
    buf_deinit(&facts->issuer);
    buf_deinit(&facts->serial);
    buf_deinit(&facts->key);
}

/* RFC 4514, in UTF-8. */
MUST_CHECK static int write_name(struct buf *out, const X509_NAME *name) {
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL ||
        X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) <
            0) {
        BIO_free(bio);
        ERR_clear_error();
        return bio == NULL ? -ENOMEM : buf_append_cstr(out, "(unreadable)");
    }
    long len = BIO_get_mem_data(bio, &text);
    struct slice whole = slice_make(text, len > 0 ? (size_t)len : 0);
    int error = buf_append(out, slice_sub(whole, 0, TEXT_MAX));
    BIO_free(bio);
    return error;
}

static void write_hex(struct buf *out, const unsigned char *bytes, size_t len) {
    for (size_t i = 0; i < len; i++)
        buf_printf(out, "%s%02X", i == 0 ? "" : ":", bytes[i]);
}

static void write_serial(struct buf *out, X509 *x509) {
    const ASN1_INTEGER *serial = X509_get0_serialNumber(x509);
    size_t len = (size_t)ASN1_STRING_length(serial);
    if ((ASN1_STRING_type(serial) & V_ASN1_NEG) != 0)
        buf_append_byte(out, '-');
    write_hex(out, ASN1_STRING_get0_data(serial), len < 64 ? len : 64);
}

static void write_key_kind(struct buf *out, X509 *x509) {
    EVP_PKEY *key = X509_get0_pubkey(x509);
    char group[64] = "";
    if (key == NULL)
        buf_append_cstr(out, "unknown");
    else if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
             EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1)
        buf_printf(out, "EC %s", group);
    else
        buf_printf(out, "%s, %d bits",
                   EVP_PKEY_get0_type_name(key) != NULL ? EVP_PKEY_get0_type_name(key) : "unknown",
                   EVP_PKEY_get_bits(key));
    ERR_clear_error();
}

MUST_CHECK static int find_facts(X509 *x509, struct facts *facts) {
    unsigned int digest_len = 0;
    int error = write_name(&facts->subject, X509_get_subject_name(x509));
    if (error == 0)
        error = write_name(&facts->issuer, X509_get_issuer_name(x509));
    write_serial(&facts->serial, x509);
    write_key_kind(&facts->key, x509);
    facts->is_authority = X509_check_ca(x509) == 1;
    facts->has_term = pki_term_of(x509, &facts->term);
    if (facts->has_term) {
        clock_format_rfc3339(facts->term.from_ms, facts->from);
        clock_format_rfc3339(facts->term.until_ms, facts->until);
    }
    if (error == 0 && X509_digest(x509, EVP_sha256(), facts->digest, &digest_len) != 1)
        error = -ENOMEM;
    if (error == 0)
        error = buf_error(&facts->serial);
    ERR_clear_error();
    return error != 0 ? error : buf_error(&facts->key);
}

/* Its bytes, or its text when it is an address. Empty: it is of another kind. */
MUST_CHECK static int alternative_name(const GENERAL_NAME *general, struct buf *out) {
    int type = 0;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(general, &type);
    buf_reset(out, TEXT_MAX);
    if (type == GEN_DNS || type == GEN_EMAIL || type == GEN_URI) {
        struct slice bytes =
            slice_make(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
        return buf_append(out, slice_sub(bytes, 0, TEXT_MAX));
    }
    if (type != GEN_IPADD)
        return 0;
    size_t len = (size_t)ASN1_STRING_length(value);
    char text[PKI_ADDRESS_SIZE];
    struct pki_name name = {true, slice_make(ASN1_STRING_get0_data(value), len)};
    if (!pki_name_text(&name, text))
        return 0;
    return buf_append_cstr(out, text);
}

struct each_name {
    int (*fn)(void *context, size_t n, struct slice name);
    void *context;
};

MUST_CHECK static int for_names(X509 *x509, const struct each_name *each) {
    GENERAL_NAMES *all = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(TEXT_MAX);
    size_t n = 0;
    int error = 0;
    for (int i = 0; error == 0 && i < sk_GENERAL_NAME_num(all) && n < SHOWN_NAMES; i++) {
        error = alternative_name(sk_GENERAL_NAME_value(all, i), &text);
        if (error == 0 && buf_len(&text) != 0)
            error = each->fn(each->context, n++, buf_slice(&text));
    }
    GENERAL_NAMES_free(all);
    ERR_clear_error();
    return error;
}

static const char *validity(const struct facts *facts, uint64_t now_ms, uint64_t *ret_days) {
    *ret_days = 0;
    if (!facts->has_term)
        return "unreadable";
    if (now_ms < facts->term.from_ms) {
        *ret_days = (facts->term.from_ms - now_ms) / DAY_MS;
        return "not yet valid";
    }
    if (now_ms >= facts->term.until_ms) {
        *ret_days = (now_ms - facts->term.until_ms) / DAY_MS;
        return "expired";
    }
    *ret_days = (facts->term.until_ms - now_ms) / DAY_MS;
    return "valid";
}

/* --- as text --- */

static bool is_plain(struct slice name) {
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c <= ' ' || c >= 0x7f || c == ',' || c == '"' || c == '\\')
            return false;
    }
    return true;
}

static int name_as_text(void *context, size_t n, struct slice name) {
    struct buf *out = context;
    const char *quote = is_plain(name) ? "" : "\"";
    buf_printf(out, "%s%s", n == 0 ? "names        " : ", ", quote);
    log_escape(out, name, TEXT_MAX);
    return buf_append_cstr(out, quote);
}

static void term_as_text(struct buf *out, const struct facts *facts, uint64_t now_ms) {
    uint64_t days = 0;
    const char *state = validity(facts, now_ms, &days);
    const char *plural = days == 1 ? "" : "s";
    buf_append_cstr(out, "valid        ");
    if (!facts->has_term) {
        buf_append_cstr(out, "unreadable\n");
        return;
    }
    buf_printf(out, "%s to %s (", facts->from, facts->until);
    if (state[0] == 'v')
        buf_printf(out, "expires in %llu day%s)\n", (unsigned long long)days, plural);
    else if (state[0] == 'e')
        buf_printf(out, "EXPIRED %llu day%s ago)\n", (unsigned long long)days, plural);
    else
        buf_printf(out, "NOT YET VALID, begins in %llu day%s)\n", (unsigned long long)days, plural);
}

static void line_as_text(struct buf *out, const char *key, const struct buf *value) {
    buf_printf(out, "%-12s ", key);
    log_escape(out, buf_slice(value), TEXT_MAX);
    buf_append_byte(out, '\n');
}

MUST_CHECK static int as_text(X509 *x509, const struct facts *facts, uint64_t now_ms, size_t n,
                              struct buf *out) {
    struct each_name each = {name_as_text, out};
    if (n != 0)
        buf_append_byte(out, '\n');
    line_as_text(out, "subject", &facts->subject);
    line_as_text(out, "issuer", &facts->issuer);
    size_t before = buf_len(out);
    int error = for_names(x509, &each);
    if (error != 0)
        return error;
    if (buf_len(out) != before)
        buf_append_byte(out, '\n');
    line_as_text(out, "serial", &facts->serial);
    line_as_text(out, "key", &facts->key);
    term_as_text(out, facts, now_ms);
    buf_append_cstr(out, "fingerprint  SHA-256 ");
    write_hex(out, facts->digest, sizeof facts->digest);
    return buf_append_byte(out, '\n');
}

/* --- as JSON --- */

static int name_as_json(void *context, size_t n, struct slice name) {
    struct json_writer *writer = context;
    (void)n;
    json_string(writer, name);
    return buf_error(writer->out);
}

MUST_CHECK static int as_json(X509 *x509, const struct facts *facts, uint64_t now_ms,
                              struct json_writer *writer) {
    struct each_name each = {name_as_json, writer};
    CLEANUP(buf_deinit) struct buf digest = BUF_INIT(128);
    uint64_t days = 0;
    const char *state = validity(facts, now_ms, &days);
    write_hex(&digest, facts->digest, sizeof facts->digest);
    json_object_begin(writer);
    json_kv_string(writer, SLICE("subject"), buf_slice(&facts->subject));
    json_kv_string(writer, SLICE("issuer"), buf_slice(&facts->issuer));
    json_key(writer, SLICE("names"));
    json_array_begin(writer);
    int error = for_names(x509, &each);
    json_array_end(writer);
    json_kv_string(writer, SLICE("serial"), buf_slice(&facts->serial));
    json_kv_string(writer, SLICE("key"), buf_slice(&facts->key));
    json_kv_bool(writer, SLICE("is_authority"), facts->is_authority);
    json_kv_string(writer, SLICE("validity"), slice_from_cstr(state));
    if (facts->has_term) {
        json_kv_string(writer, SLICE("not_before"), slice_from_cstr(facts->from));
        json_kv_string(writer, SLICE("not_after"), slice_from_cstr(facts->until));
        int64_t signed_days = state[0] == 'e' ? -(int64_t)days : (int64_t)days;
        if (state[0] != 'n')
            json_kv_i64(writer, SLICE("expires_in_days"), signed_days);
    }
    json_kv_string(writer, SLICE("sha256"), buf_slice(&digest));
    json_object_end(writer);
    if (error == 0)
        error = buf_error(&digest);
    return error != 0 ? error : buf_error(writer->out);
}

int pki_describe(struct slice chain_pem, uint64_t now_wall_ms, bool as_json_object,
                 struct buf *out) {
    struct json_writer writer;
    size_t n = 0;
    int error = 0;
    json_writer_init(&writer, out);
    if (as_json_object) {
        json_object_begin(&writer);
        json_key(&writer, SLICE("certificates"));
        json_array_begin(&writer);
    }
    X509 *x509;
    while (error == 0 && n < SHOWN_CERTIFICATES &&
           (x509 = pki_pem_certificate(chain_pem, n)) != NULL) {
        CLEANUP(facts_deinit)
        struct facts facts = {.subject = BUF_INIT(KIB(64)),
                              .issuer = BUF_INIT(KIB(64)),
                              .serial = BUF_INIT(KIB(1)),
                              .key = BUF_INIT(KIB(1))};
        error = find_facts(x509, &facts);
        if (error == 0)
            error = as_json_object ? as_json(x509, &facts, now_wall_ms, &writer)
                                   : as_text(x509, &facts, now_wall_ms, n, out);
        X509_free(x509);
        n++;
    }
    if (as_json_object) {
        json_array_end(&writer);
        json_object_end(&writer);
    }
    if (error == 0 && n == 0)
        error = PKI_E_INVALID;
    return error != 0 ? error : buf_error(out);
}
