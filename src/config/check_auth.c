/* What the values of options about callers and TLS must look like. None of the sentences repeats a
 * value: it may be a secret. */
#include "base/limits.h"
#include "base/network.h"
#include "http/message.h"
#include "http/uri.h"
#include "options.h"

enum { SECRET_MIN = 32, NAME_MAX_LEN = 256, ORIGIN_MAX = 512, CLIENT_TEXT_MAX = 8192 };

const char *check_none(struct slice value) {
    return slice_eq(value, SLICE("I know"))
               ? NULL
               : "must be \"I know\", so that nobody writes it without knowing that it lets "
                 "everybody in, from other machines too";
}

const char *check_hash(struct slice value) {
    static const char wrong[] = "must be \"sha256:\" and the 64 hexadecimal digits of the token's "
                                "SHA-256, as cardea token new NAME prints them";
    static const struct slice prefix = SLICE_INIT("sha256:");
    struct slice digits = slice_from(value, prefix.len);
    if (!slice_starts_with(value, prefix) || digits.len != 64)
        return wrong;
    for (size_t i = 0; i < digits.len; i++) {
        char c = digits.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return wrong;
    }
    return NULL;
}

/* RFC 6749 section 3.3: a space would make two of it, a quotation mark end the challenge. */
const char *check_scope(struct slice value) {
    bool fine = value.len > 0 && value.len <= NAME_MAX_LEN;
    for (size_t i = 0; i < value.len && fine; i++) {
        char c = value.ptr[i];
        fine = c > 0x20 && c < 0x7f && c != '"' && c != '\\';
    }
    return fine ? NULL : "must be one scope: printable ASCII without spaces, '\"' and '\\'";
}

/* `plain`: what is said of http. */
static const char *check_safe_url(struct slice value, const char *plain, struct uri *ret_uri) {
    struct uri uri;
    const char *reason;
    if (value.len > LIMIT_URI)
        return "it is longer than 8192 bytes";
    if (uri_parse(value, &uri, &reason) != 0)
        return reason;
    bool is_https = slice_eq_nocase(uri.scheme, SLICE("https"));
    bool is_http = slice_eq_nocase(uri.scheme, SLICE("http"));
    if (uri.host.len == 0 || (!is_https && !is_http))
        return "it must begin with https://";
    if (!is_https && !option_uri_is_loopback(&uri))
        return plain;
    if (uri.has_userinfo)
        return "it must not hold a user name or password";
    if (uri.has_fragment)
        return "it must not have a fragment (a # and what follows)";
    *ret_uri = uri;
    return NULL;
}

static const char plain_answer[] =
    "it must begin with https:// (http:// is for hosts on this machine alone: whoever is on the "
    "way could put another answer there)";

const char *check_issuer_url(struct slice value) {
    struct uri uri;
    return check_safe_url(value, plain_answer, &uri);
}

/* RFC 8414 section 2. */
const char *check_issuer(struct slice value) {
    return check_resource(value);
}

const char *check_token_endpoint(struct slice value) {
    struct uri uri;
    return check_safe_url(value,
                          "it must begin with https:// (http:// is for hosts on this machine "
                          "alone: secrets would be sent unencrypted)",
                          &uri);
}

/* RFC 9728 section 1.2, RFC 8707 section 2. */
const char *check_resource(struct slice value) {
    struct uri uri = {.has_query = false};
    const char *wrong = check_safe_url(value, plain_answer, &uri);
    if (wrong == NULL && uri.has_query)
        return "it must not have a query (a ? and what follows)";
    return wrong;
}

/* RFC 8707 section 2. It is a name alone, which nobody connects to. */
const char *check_resource_name(struct slice value) {
    struct uri uri;
    bool is_fine = value.len <= LIMIT_URI && uri_parse(value, &uri, NULL) == 0 &&
                   !uri.has_userinfo && !uri.has_fragment;
    return is_fine ? NULL
                   : "must be an absolute URI without a fragment, such as "
                     "\"https://mcp.example.com/mcp\"";
}

/* RFC 6749 appendix A.1 and A.2. A line end is one that a file or a variable had too much. */
const char *check_client_text(struct slice value) {
    bool is_fine = value.len > 0 && value.len <= CLIENT_TEXT_MAX;
    for (size_t i = 0; i < value.len && is_fine; i++)
        is_fine = value.ptr[i] >= 0x20 && value.ptr[i] < 0x7f;
    return is_fine ? NULL : "must be printable ASCII without line ends, at most 8192 bytes";
}

/* RFC 7518 section 3.2: HS256 needs as many bits as its hash has. */
const char *check_secret(struct slice value) {
    return value.len >= SECRET_MIN
               ? NULL
               : "must have at least 32 bytes (openssl rand -hex 32 makes 64): a shorter one can "
                 "be found by trying, from one token";
}

const char *check_algorithm(struct slice value) {
    static const struct slice names[] = {
        SLICE_INIT("RS256"), SLICE_INIT("RS384"), SLICE_INIT("RS512"), SLICE_INIT("PS256"),
        SLICE_INIT("PS384"), SLICE_INIT("PS512"), SLICE_INIT("ES256"), SLICE_INIT("ES384"),
        SLICE_INIT("ES512"), SLICE_INIT("EdDSA"), SLICE_INIT("HS256"), SLICE_INIT("HS384"),
        SLICE_INIT("HS512"),
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (slice_eq(value, names[i]))
            return NULL;
    }
    return "must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, "
           "HS256, HS384 and HS512";
}

/* "*.example.com": for the certificate alone; as a Host it would be good for hosts that nobody
 * thought of. Clients want two labels behind the star. */
static bool is_pattern(struct slice value) {
    struct slice rest = slice_from(value, 2);
    return slice_starts_with(value, SLICE("*.")) && uri_is_host_name(rest) &&
           slice_find_byte(rest, '.') != SIZE_MAX;
}

const char *check_tls_name(struct slice value) {
    struct network address;
    if (network_parse_address(value, &address) || uri_is_host_name(value) || is_pattern(value))
        return NULL;
    return "must be a DNS name or an address, without a port (\"gw.example.com\", \"192.0.2.7\", "
           "\"fd00::7\")";
}

const char *check_field_name(struct slice value) {
    return http_is_token(value) && value.len <= NAME_MAX_LEN
               ? NULL
               : "must be the name of a header: letters, digits, '-' and '_', at most 256";
}

const char *check_cors_header(struct slice value) {
    return check_field_name(value); /* '*' is a token too */
}

const char *check_method(struct slice value) {
    static const struct slice names[] = {
        SLICE_INIT("*"),      SLICE_INIT("GET"),     SLICE_INIT("POST"),  SLICE_INIT("PUT"),
        SLICE_INIT("DELETE"), SLICE_INIT("HEAD"),    SLICE_INIT("PATCH"), SLICE_INIT("OPTIONS"),
        SLICE_INIT("TRACE"),  SLICE_INIT("CONNECT"),
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (slice_eq(value, names[i]))
            return NULL;
    }
    return "must be \"*\" or a method in capitals, such as \"POST\"";
}

static bool is_wildcard(char c) {
    return c == '*' || c == '?';
}

/* Not in the last label, where "https://example.*" would be anybody's; alone it is every host. */
static bool wildcards_are_fine(struct slice host, enum uri_host_kind kind) {
    bool any = false, in_last = false;
    for (size_t i = 0; i < host.len; i++) {
        in_last = host.ptr[i] != '.' && (in_last || is_wildcard(host.ptr[i]));
        any = any || is_wildcard(host.ptr[i]);
    }
    return !any || slice_eq(host, SLICE("*")) ||
           (kind == URI_HOST_NAME && !in_last && slice_find_byte(host, '.') != SIZE_MAX);
}

/* RFC 6454, with a path that is cut off, as Nexus does. */
const char *check_origin(struct slice value) {
    static const char wrong[] =
        "must be \"*\" or an origin such as \"https://app.example.com\" or "
        "\"https://*.example.com\": scheme, host and perhaps a port, with wildcards in the host "
        "alone and not in its last label";
    char plain[ORIGIN_MAX];
    size_t host = slice_find(value, SLICE("://"));
    struct uri uri;
    if (slice_eq(value, SLICE("*")))
        return NULL;
    if (host == SIZE_MAX)
        return wrong;
    size_t slash = slice_find_byte(slice_from(value, host + 3), '/');
    if (slash != SIZE_MAX)
        value = slice_sub(value, 0, host + 3 + slash);
    if (value.len > sizeof plain)
        return wrong;
    for (size_t i = 0; i < value.len; i++)
        plain[i] = value.ptr[i];
    /* What stands for any name is read as one. */
    for (size_t i = host + 3; i < value.len && plain[i] != ':'; i++)
        plain[i] = is_wildcard(plain[i]) ? 'a' : plain[i];
    if (uri_parse(slice_make(plain, value.len), &uri, NULL) != 0 || uri.host.len == 0 ||
        uri.has_userinfo || uri.has_query || uri.has_fragment)
        return wrong;
    struct slice written = slice_sub(value, (size_t)(uri.host.ptr - plain),
                                     (size_t)(uri.host.ptr - plain) + uri.host.len);
    return wildcards_are_fine(written, uri.host_kind) ? NULL : wrong;
}
