/* What the values of options about HTTP servers must look like. None of the sentences repeats a
 * value: it may be a secret. */
#include "base/limits.h"
#include "http/message.h"
#include "http/uri.h"
#include "options.h"

enum { TOKEN_MAX = 8192, HEADER_NAME_MAX = 256, HEADER_VALUE_MAX = 8192 };

/* RFC 9110 section 4.2.4: user information in an http URL is a way to be deceived; a fragment is
 * never sent (section 4.2.5). */
const char *check_upstream_url(struct slice value) {
    _Static_assert(LIMIT_URI == 8192, "the message says so");
    struct uri uri;
    const char *reason;
    if (value.len > LIMIT_URI)
        return "it is longer than 8192 bytes";
    if (uri_parse(value, &uri, &reason) != 0)
        return reason;
    if (!slice_eq_nocase(uri.scheme, SLICE("http")) && !slice_eq_nocase(uri.scheme, SLICE("https")))
        return "the scheme must be http or https";
    if (uri.has_userinfo)
        return "it must not hold a user name or password; a token goes into auth.token, anything "
               "else into a rule of headers";
    return uri.has_fragment ? "it must not have a fragment (a # and what follows)" : NULL;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* What Basic can not carry (RFC 7617 section 2), hidden by percent-encoding: control characters,
 * and a colon in the user name. The URI was parsed, so that two digits follow each '%'. */
static bool has_broken_user(struct slice userinfo) {
    bool in_user = true;
    for (size_t i = 0; i < userinfo.len; i++) {
        in_user = in_user && userinfo.ptr[i] != ':';
        if (userinfo.ptr[i] != '%')
            continue;
        int byte = hex_digit(userinfo.ptr[i + 1]) * 16 + hex_digit(userinfo.ptr[i + 2]);
        if (byte < 0x20 || byte == 0x7f || (in_user && byte == ':'))
            return true;
    }
    return false;
}

/* The way to a proxy is plain HTTP, and a CONNECT request has no path (RFC 9110 section 9.3.6). */
const char *check_proxy(struct slice value) {
    struct uri uri;
    const char *reason;
    if (slice_eq(value, SLICE("none")))
        return NULL;
    if (value.len > LIMIT_URI)
        return "it is longer than 8192 bytes";
    if (uri_parse(value, &uri, &reason) != 0)
        return reason;
    if (!slice_eq_nocase(uri.scheme, SLICE("http")))
        return "the scheme must be http";
    if (uri.path.len > 0 && !slice_eq(uri.path, SLICE("/")))
        return "it must not have a path";
    if (uri.has_query || uri.has_fragment)
        return "it must not have a query or a fragment";
    return has_broken_user(uri.userinfo) ? "its user name and password must not hold control "
                                           "characters, nor the user name a colon"
                                         : NULL;
}

/* What can stand behind "Bearer " without being read as anything else; wider than the token68 of
 * RFC 6750 section 2.1, which not every issuer keeps to. */
const char *check_token(struct slice value) {
    if (value.len == 0)
        return "must not be empty";
    if (value.len > TOKEN_MAX)
        return "is longer than 8192 bytes";
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] <= 0x20 || value.ptr[i] >= 0x7f)
            return "must be printable ASCII without spaces and line ends";
    }
    return NULL;
}

/* Headers that frame or route a message, belong to one connection, or that MCP gives a meaning. */
static bool belongs_to_protocol(struct slice name) {
    static const struct slice names[] = {
        SLICE_INIT("Host"),
        SLICE_INIT("Content-Length"),
        SLICE_INIT("Content-Type"),
        SLICE_INIT("Content-Encoding"),
        SLICE_INIT("Transfer-Encoding"),
        SLICE_INIT("Connection"),
        SLICE_INIT("Keep-Alive"),
        SLICE_INIT("TE"),
        SLICE_INIT("Trailer"),
        SLICE_INIT("Upgrade"),
        SLICE_INIT("Accept"),
        SLICE_INIT("Accept-Encoding"),
        SLICE_INIT("Expect"),
        SLICE_INIT("MCP-Protocol-Version"),
        SLICE_INIT("Mcp-Session-Id"),
        SLICE_INIT("Mcp-Method"),
        SLICE_INIT("Mcp-Name"),
        SLICE_INIT("Last-Event-ID"),
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (slice_eq_nocase(name, names[i]))
            return true;
    }
    return slice_starts_with_nocase(name, SLICE("Proxy-")) ||
           slice_starts_with_nocase(name, SLICE("Mcp-Param-"));
}

const char *check_header_name(struct slice value) {
    if (!http_is_token(value) || value.len > HEADER_NAME_MAX)
        return "must be the name of a header: letters, digits, '-' and '_', at most 256";
    if (belongs_to_protocol(value))
        return "is a header of HTTP or MCP itself, which no rule may touch";
    return NULL;
}

/* RFC 9110 section 5.5. Spaces at the ends would be lost on the way, so they are a mistake. */
const char *check_header_value(struct slice value) {
    if (value.len > HEADER_VALUE_MAX)
        return "is longer than 8192 bytes";
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        if (c != '\t' && (c < 0x20 || c >= 0x7f))
            return "must be printable ASCII without line ends";
    }
    return slice_trim(value).len == value.len ? NULL : "must not begin or end with a space or tab";
}
