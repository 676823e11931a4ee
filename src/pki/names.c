/*
 * The names of the gateway, as they stand in the subject alternative names of its certificate.
 *
 * A name that a client would not compare with anything (RFC 9525 section 6.3, RFC 5280 section
 * 4.2.1.6) is left out, and never the reason for having no certificate: what is refused here is
 * what OpenSSL, or a browser, would pass over in a certificate, or take for something else.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include "io/stream.h"
#include "private.h"

enum { NAME_MAX_LEN = 253, LABEL_MAX_LEN = 63 }; /* RFC 1035 section 2.3.4 */

void pki_names_init(struct pki_names *names) {
    names->n = 0;
    arena_init(&names->arena, KIB(128));
}

void pki_names_deinit(struct pki_names *names) {
    arena_deinit(&names->arena);
    names->n = 0;
}

static bool name_eq(const struct pki_name *a, const struct pki_name *b) {
    return a->is_address == b->is_address && slice_eq(a->value, b->value);
}

static bool has(const struct pki_names *names, const struct pki_name *name) {
    for (size_t i = 0; i < names->n; i++) {
        if (name_eq(&names->items[i], name))
            return true;
    }
    return false;
}

bool pki_names_same(const struct pki_names *a, const struct pki_names *b) {
    for (size_t i = 0; i < a->n; i++) {
        if (!has(b, &a->items[i]))
            return false;
    }
    return a->n == b->n;
}

/* The value is copied. */
MUST_CHECK static int add(struct pki_names *names, const struct pki_name *name,
                          const char **ret_reason) {
    if (has(names, name))
        return 0;
    if (names->n == LIMIT_CERTIFICATE_NAMES) {
        *ret_reason = "is one more than a certificate may have here";
        return PKI_E_INVALID;
    }
    struct slice copy = arena_dup(&names->arena, name->value);
    if (copy.ptr == NULL)
        return -ENOMEM;
    names->items[names->n++] = (struct pki_name){name->is_address, copy};
    return 0;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter_digit(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z');
}

/* RFC 5890 section 2.3.1, and '_', which is found in names of machines and compared by all. */
static const char *label_reason(struct slice label) {
    if (label.len == 0)
        return "has an empty label (two dots, or one at an end)";
    if (label.len > LABEL_MAX_LEN)
        return "has a label of more than 63 bytes";
    for (size_t i = 0; i < label.len; i++) {
        char c = label.ptr[i];
        if ((unsigned char)c >= 0x80)
            return "has to be written in its ASCII form (xn--...)";
        if (c == '*')
            return "may have \"*\" only as its whole first label";
        if (!is_letter_digit(c) && c != '-' && c != '_')
            return "has a character that no name of a host has";
    }
    if (label.ptr[0] == '-' || label.ptr[label.len - 1] == '-')
        return "has a label with '-' at an end";
    return NULL;
}

static bool all_digits(struct slice label) {
    for (size_t i = 0; i < label.len; i++) {
        if (!is_digit(label.ptr[i]))
            return false;
    }
    return true;
}

/* What inet_aton(3) and browsers (URL standard, "ends in a number") take for an address. */
static bool looks_like_address(struct slice last) {
    return all_digits(last) || slice_starts_with(last, SLICE("0x"));
}

/* `text` is in lower case. */
static const char *dns_reason(struct slice text) {
    struct slice rest = text, label = SLICE_EMPTY;
    size_t labels = 0;
    if (text.len == 0)
        return "is empty";
    if (text.len > NAME_MAX_LEN)
        return "is longer than 253 bytes";
    bool is_wildcard = slice_starts_with(text, SLICE("*."));
    if (is_wildcard)
        rest = slice_from(text, 2);
    for (bool more = true; more; labels++) {
        more = slice_cut(rest, '.', &label, &rest);
        const char *reason = label_reason(label);
        if (reason != NULL)
            return reason;
    }
    if (looks_like_address(label))
        return "could be taken for an address, and is none";
    /* "*.com": clients want two labels behind the star. */
    if (is_wildcard && labels < 2)
        return "is a \"*\" for a whole top-level domain, which clients do not accept";
    return NULL;
}

/* "[::1]" is "::1". */
static struct slice without_brackets(struct slice text) {
    bool is_bracketed = text.len > 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']';
    return is_bracketed ? slice_sub(text, 1, text.len - 1) : text;
}

static const char *address_reason(const struct network *address) {
    static const unsigned char none[16];
    size_t size = address->family_bits / 8;
    if (memcmp(address->bytes, none, size) == 0)
        return "stands for all addresses, and is none";
    bool is_multicast =
        size == 4 ? address->bytes[0] >= 224 && address->bytes[0] < 240 : address->bytes[0] == 0xff;
    return is_multicast ? "is an address of a group of machines" : NULL;
}

MUST_CHECK static int add_address(struct pki_names *names, const struct network *address,
                                  const char **ret_reason) {
    *ret_reason = address_reason(address);
    if (*ret_reason != NULL)
        return PKI_E_INVALID;
    struct pki_name name = {true, slice_make(address->bytes, address->family_bits / 8)};
    return add(names, &name, ret_reason);
}

int pki_names_add(struct pki_names *names, struct slice text, const char **ret_reason) {
    struct network address;
    char lower[NAME_MAX_LEN + 1];
    if (network_parse_address(without_brackets(text), &address))
        return add_address(names, &address, ret_reason);
    size_t len = text.len < sizeof lower ? text.len : sizeof lower;
    for (size_t i = 0; i < len; i++) {
        char c = text.ptr[i];
        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    struct pki_name name = {false, slice_make(lower, len)};
    *ret_reason = dns_reason(name.value);
    return *ret_reason != NULL ? PKI_E_INVALID : add(names, &name, ret_reason);
}

bool pki_name_text(const struct pki_name *name, char out[static PKI_ADDRESS_SIZE]) {
    bool is_v4 = name->value.len == 4;
    return name->is_address && (is_v4 || name->value.len == 16) &&
           inet_ntop(is_v4 ? AF_INET : AF_INET6, name->value.ptr, out, PKI_ADDRESS_SIZE) != NULL;
}

MUST_CHECK static int add_general(struct pki_names *names, const GENERAL_NAME *general) {
    const char *reason;
    int type = 0;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(general, &type);
    struct slice bytes = SLICE_EMPTY;
    if (type == GEN_DNS || type == GEN_IPADD)
        bytes = slice_make(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
    if (type == GEN_DNS)
        return pki_names_add(names, bytes, &reason);
    if (type == GEN_IPADD && (bytes.len == 4 || bytes.len == 16)) {
        struct network address;
        network_from_bytes(bytes.ptr, (unsigned)bytes.len * 8, &address);
        return add_address(names, &address, &reason);
    }
    return PKI_E_INVALID;
}

int pki_names_of(X509 *x509, struct pki_names *names) {
    int error = 0;
    GENERAL_NAMES *all = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; error == 0 && i < sk_GENERAL_NAME_num(all); i++)
        error = add_general(names, sk_GENERAL_NAME_value(all, i));
    GENERAL_NAMES_free(all);
    return error;
}

/* --- this machine --- */

/* Only with an interface's name beside it does such an address mean something (RFC 4007), and a
 * certificate has no place for that; 169.254.0.0/16 changes and is no address to connect to. */
static bool is_link_local(const struct network *address) {
    struct network v4, v6;
    return (network_parse(SLICE("169.254.0.0/16"), &v4) && network_has(&v4, address)) ||
           (network_parse(SLICE("fe80::/10"), &v6) && network_has(&v6, address));
}

MUST_CHECK static int add_interfaces(struct pki_names *names) {
    struct ifaddrs *all = NULL;
    const char *reason;
    int error = 0;
    if (getifaddrs(&all) != 0)
        return 0; /* a machine that does not tell has its other names */
    for (const struct ifaddrs *one = all; one != NULL && error >= 0; one = one->ifa_next) {
        struct network address = {.family_bits = 0};
        if (one->ifa_addr != NULL && (one->ifa_flags & IFF_UP) != 0)
            address = io_sockaddr_network(one->ifa_addr);
        if (address.family_bits != 0 && !is_link_local(&address))
            error = add_address(names, &address, &reason);
    }
    freeifaddrs(all);
    return error < 0 ? error : 0;
}

/* The address that is listened on, or what it stands for. */
MUST_CHECK static int add_listen_address(struct pki_names *names, struct slice text) {
    struct io_address parsed;
    const char *reason;
    if (io_address_parse(text, &parsed) != 0)
        return 0;
    struct network address = io_address_network(&parsed);
    int error = add_address(names, &address, &reason);
    return error == PKI_E_INVALID ? add_interfaces(names) : error;
}

MUST_CHECK static int add_told(const struct pki_options *options, struct log *log,
                               struct pki_names *names) {
    int error = 0;
    for (size_t i = 0; i < options->tls->n_names && error >= 0; i++) {
        const char *reason;
        error = pki_names_add(names, options->tls->names[i], &reason);
        if (error == PKI_E_INVALID)
            log_write(log, LOG_WARN, "tls", "a name of server.tls.names is left out",
                      LOG_TEXT("name", options->tls->names[i]), LOG_CSTR("reason", reason));
    }
    return error < 0 ? error : 0;
}

int pki_names_collect(const struct pki_options *options, struct log *log, struct pki_names *names) {
    static const struct slice always[] = {SLICE_INIT("localhost"), SLICE_INIT("127.0.0.1"),
                                          SLICE_INIT("::1")};
    char host[256];
    const char *reason;
    int error = add_told(options, log, names);
    if (error == 0 && gethostname(host, sizeof host) == 0) {
        host[sizeof host - 1] = '\0';
        error = pki_names_add(names, slice_from_cstr(host), &reason);
    }
    for (size_t i = 0; i < ARRAY_LEN(always) && error >= 0; i++)
        error = pki_names_add(names, always[i], &reason);
    if (error >= 0)
        error = add_listen_address(names, options->listen_address);
    if (error >= 0)
        error = add_listen_address(names, options->health_address);
    return error < 0 ? error : 0;
}
