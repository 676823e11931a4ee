/*
 * URIs are where parsers disagree, and where two of them disagree an address rule can be walked
 * around. So this one is narrower than RFC 3986, on purpose:
 *
 * - a host is a name of letters, digits, '-' and '_', or IPv4, or IPv6. No percent-encoding in it,
 * no IPvFuture;
 * - a host that any resolver could take for an address (its last label is a decimal or 0x number:
 * inet_aton(3) and browsers read "0x7f.1" and "127.1" as 127.0.0.1) must be a plain dotted quad
 * without leading zeros;
 * - IPv6 by RFC 4291 section 2.2 without zone (RFC 6874): a zone names an interface of whoever
 * wrote it;
 * - a port has one to five digits, no leading zero, and is 1 to 65535; "host:" without a port is
 * refused.
 */
#include "http/uri.h"

#include "base/checked.h"
#include "chars.h"

enum { HOST_NAME_MAX_LEN = 253, LABEL_MAX_LEN = 63, IPV6_MAX_LEN = 45, PORT_DIGITS = 5 };

struct default_port {
    struct slice scheme;
    uint16_t port;
};

static const struct default_port default_ports[] = {
    {SLICE_INIT("http"), 80}, {SLICE_INIT("https"), 443},  {SLICE_INIT("ws"), 80},
    {SLICE_INIT("wss"), 443}, {SLICE_INIT("redis"), 6379}, {SLICE_INIT("rediss"), 6379},
};

/* 0 for a scheme that is not in the table; those in it need a host. */
static uint16_t default_port(struct slice scheme) {
    for (size_t i = 0; i < ARRAY_LEN(default_ports); i++) {
        if (slice_eq_nocase(default_ports[i].scheme, scheme))
            return default_ports[i].port;
    }
    return 0;
}

/* The last label is a number, as a resolver would see it (WHATWG URL, "ends in a number"). */
static bool looks_numeric(struct slice host) {
    size_t from = host.len;
    while (from > 0 && host.ptr[from - 1] != '.')
        from--;
    struct slice last = slice_from(host, from);
    if (slice_starts_with_nocase(last, SLICE("0x")))
        return char_all(slice_from(last, 2), CHAR_HEX);
    size_t digits = 0;
    while (digits < last.len && char_is_digit(last.ptr[digits]))
        digits++;
    return last.len > 0 && digits == last.len;
}

/* Four decimal numbers up to 255 without leading zeros: those would be octal to some. */
static bool is_ipv4(struct slice text) {
    for (unsigned part = 0; part < 4; part++) {
        unsigned value = 0;
        size_t n = 0;
        while (n < text.len && n < 4 && char_is_digit(text.ptr[n]))
            value = value * 10 + (unsigned)(text.ptr[n++] - '0');
        if (n == 0 || n > 3 || value > 255 || (n > 1 && text.ptr[0] == '0'))
            return false;
        text = slice_from(text, n);
        if (part == 3)
            return text.len == 0;
        if (text.len == 0 || text.ptr[0] != '.')
            return false;
        text = slice_from(text, 1);
    }
    return false;
}

/* RFC 4291 section 2.2: groups of one to four digits, at most one "::", the last two groups also as
 * IPv4. */
static bool is_ipv6(struct slice text) {
    if (text.len > IPV6_MAX_LEN)
        return false;
    bool gap = slice_starts_with(text, SLICE("::"));
    struct slice rest = gap ? slice_from(text, 2) : text;
    unsigned groups = 0;
    while (rest.len > 0 || !gap) {
        size_t digits = char_span(rest, CHAR_HEX);
        if (digits < rest.len && rest.ptr[digits] == '.') {
            if (!is_ipv4(rest))
                return false;
            groups += 2;
            break;
        }
        if (digits == 0 || digits > 4)
            return false;
        groups++;
        rest = slice_from(rest, digits);
        if (rest.len == 0)
            break;
        if (slice_starts_with(rest, SLICE("::"))) {
            if (gap)
                return false;
            gap = true;
            rest = slice_from(rest, 2);
        } else if (rest.ptr[0] == ':' && rest.len > 1) {
            rest = slice_from(rest, 1);
        } else {
            return false;
        }
    }
    return gap ? groups <= 7 : groups == 8;
}

bool uri_is_host_name(struct slice text) {
    if (text.len == 0 || text.len > HOST_NAME_MAX_LEN || looks_numeric(text))
        return false;
    size_t label = 0;
    for (size_t i = 0; i <= text.len; i++) {
        if (i < text.len && text.ptr[i] != '.') {
            if (!char_is(text.ptr[i], CHAR_LABEL))
                return false;
            label++;
            continue;
        }
        if (label == 0 || label > LABEL_MAX_LEN || text.ptr[i - label] == '-' ||
            text.ptr[i - 1] == '-')
            return false;
        label = 0;
    }
    return true;
}

static const char *parse_port(struct slice text, uint16_t *ret_port) {
    unsigned port = 0;
    if (text.len == 0 || text.len > PORT_DIGITS || text.ptr[0] == '0')
        return "the port is not a number from 1 to 65535";
    for (size_t i = 0; i < text.len; i++) {
        if (!char_is_digit(text.ptr[i]))
            return "the port is not a number from 1 to 65535";
        port = port * 10 + (unsigned)(text.ptr[i] - '0');
    }
    if (port > UINT16_MAX)
        return "the port is not a number from 1 to 65535";
    *ret_port = (uint16_t)port;
    return NULL;
}

/* Splits off the host; *ret_rest is empty or begins with what is behind it. */
static const char *parse_host(struct slice text, struct uri_authority *authority,
                              struct slice *ret_rest) {
    if (text.ptr[0] == '[') {
        size_t close = slice_find_byte(text, ']');
        if (close == SIZE_MAX)
            return "the bracket of an IPv6 address is not closed";
        authority->host = slice_sub(text, 1, close);
        authority->host_kind = URI_HOST_IPV6;
        *ret_rest = slice_from(text, close + 1);
        return is_ipv6(authority->host) ? NULL : "the IPv6 address is not valid";
    }
    size_t colon = slice_find_byte(text, ':');
    authority->host = slice_sub(text, 0, colon);
    *ret_rest = slice_from(text, colon);
    if (looks_numeric(authority->host)) {
        authority->host_kind = URI_HOST_IPV4;
        return is_ipv4(authority->host) ? NULL
                                        : "a numeric host must be an IPv4 address of four numbers";
    }
    authority->host_kind = URI_HOST_NAME;
    return uri_is_host_name(authority->host) ? NULL : "the host name is not valid";
}

static const char *parse_host_port(struct slice text, struct uri_authority *ret_authority) {
    struct uri_authority authority = {.host_kind = URI_HOST_NONE};
    struct slice rest;
    if (text.len == 0)
        return "the host is missing";
    const char *reason = parse_host(text, &authority, &rest);
    if (reason == NULL && rest.len > 0) {
        if (rest.ptr[0] != ':')
            return "the authority does not end behind the host";
        authority.has_port = true;
        reason = parse_port(slice_from(rest, 1), &authority.port);
    }
    if (reason == NULL)
        *ret_authority = authority;
    return reason;
}

int uri_parse_authority(struct slice text, struct uri_authority *ret_authority) {
    return parse_host_port(text, ret_authority) == NULL ? 0 : URI_E_INVALID;
}

/* The characters of a component, and two hexadecimal digits behind each '%' (RFC 3986 section 2.1).
 */
static bool component_is_valid(struct slice text, enum char_class class) {
    for (size_t i = 0; i < text.len; i++) {
        if (!char_is(text.ptr[i], class))
            return false;
        if (text.ptr[i] != '%')
            continue;
        if (text.len - i < 3 || !char_is(text.ptr[i + 1], CHAR_HEX) ||
            !char_is(text.ptr[i + 2], CHAR_HEX))
            return false;
        i += 2;
    }
    return true;
}

static size_t scheme_length(struct slice text) {
    size_t n = 0;
    while (n < text.len && (char_is_letter(text.ptr[n]) ||
                            (n > 0 && (char_is_digit(text.ptr[n]) || text.ptr[n] == '+' ||
                                       text.ptr[n] == '-' || text.ptr[n] == '.'))))
        n++;
    return n;
}

static const char *parse_authority(struct slice text, struct uri *uri) {
    size_t at = slice_find_byte(text, '@');
    if (at != SIZE_MAX) {
        uri->has_userinfo = true;
        uri->userinfo = slice_sub(text, 0, at);
        if (!component_is_valid(uri->userinfo, CHAR_USERINFO))
            return "the user information is not valid";
        text = slice_from(text, at + 1);
    }
    uint16_t port = default_port(uri->scheme);
    if (text.len == 0 && !uri->has_userinfo && port == 0)
        return NULL; /* file:///path */
    struct uri_authority authority;
    const char *reason = parse_host_port(text, &authority);
    if (reason != NULL)
        return reason;
    uri->host = authority.host;
    uri->host_kind = authority.host_kind;
    uri->has_port = authority.has_port;
    uri->port = authority.has_port ? authority.port : port;
    return NULL;
}

/* Cuts off what begins with `mark`. */
static bool cut_tail(struct slice *text, char mark, struct slice *ret_tail) {
    size_t at = slice_find_byte(*text, mark);
    if (at == SIZE_MAX)
        return false;
    *ret_tail = slice_from(*text, at + 1);
    *text = slice_sub(*text, 0, at);
    return true;
}

/*
 * The five components as RFC 3986 appendix B cuts them, unchecked. Without a scheme it is a
 * relative reference; the authority stays in `host`.
 */
static void split(struct slice text, struct uri *uri) {
    *uri = (struct uri){.host_kind = URI_HOST_NONE};
    size_t scheme = scheme_length(text);
    if (scheme > 0 && scheme < text.len && text.ptr[scheme] == ':') {
        uri->scheme = slice_sub(text, 0, scheme);
        text = slice_from(text, scheme + 1);
    }
    uri->has_fragment = cut_tail(&text, '#', &uri->fragment);
    uri->has_query = cut_tail(&text, '?', &uri->query);
    if (slice_starts_with(text, SLICE("//"))) {
        text = slice_from(text, 2);
        uri->has_authority = true;
        size_t slash = slice_find_byte(text, '/');
        uri->host = slice_sub(text, 0, slash);
        text = slice_from(text, slash);
    }
    uri->path = text;
}

static const char *parse(struct slice text, struct uri *uri) {
    split(text, uri);
    if (uri->scheme.len == 0)
        return "the scheme is missing";
    if (!component_is_valid(uri->path, CHAR_PATH))
        return "the path is not valid";
    if (!component_is_valid(uri->query, CHAR_QUERY))
        return "the query is not valid";
    if (!component_is_valid(uri->fragment, CHAR_QUERY))
        return "the fragment is not valid";
    if (!uri->has_authority)
        return default_port(uri->scheme) == 0 ? NULL : "the scheme needs a host";
    struct slice authority = uri->host;
    uri->host = SLICE_EMPTY;
    return parse_authority(authority, uri);
}

int uri_parse(struct slice text, struct uri *ret_uri, const char **ret_reason) {
    struct uri uri;
    const char *reason = parse(text, &uri);
    if (reason != NULL) {
        if (ret_reason != NULL)
            *ret_reason = reason;
        return URI_E_INVALID;
    }
    *ret_uri = uri;
    return 0;
}

bool uri_same_origin(const struct uri *a, const struct uri *b) {
    return a->host.len > 0 && slice_eq_nocase(a->scheme, b->scheme) &&
           a->host_kind == b->host_kind && slice_eq_nocase(a->host, b->host) && a->port == b->port;
}

/* Resolving. */

/* RFC 3986 section 5.2.4, with the output as its own stack: ".." cuts it back, never before its
 * start. */
static void append_without_dots(struct buf *out, struct slice path) {
    size_t start = buf_len(out);
    while (path.len > 0 && buf_error(out) == 0) {
        size_t from = path.ptr[0] == '/' ? 1 : 0;
        size_t end = slice_find_byte(slice_from(path, from), '/');
        struct slice piece = slice_sub(path, 0, end == SIZE_MAX ? path.len : from + end);
        struct slice segment = slice_from(piece, from);
        bool last = end == SIZE_MAX;
        path = slice_from(path, piece.len);
        bool up = slice_eq(segment, SLICE(".."));
        if (!up && !slice_eq(segment, SLICE("."))) {
            buf_append(out, piece);
            continue;
        }
        if (up) {
            struct slice done = slice_from(buf_slice(out), start);
            while (done.len > 0 && done.ptr[done.len - 1] != '/')
                done.len--;
            buf_truncate(out, start + (done.len > 0 ? done.len - 1 : 0));
        }
        if (last && from == 1)
            buf_append_byte(out, '/');
        else if (from == 0 && !last)
            path = slice_from(path, 1); /* rule A: a leading "../" or "./" goes with its slash */
    }
}

/* Section 5.2.3, then 5.2.4. */
static int append_merged_path(struct buf *out, const struct uri *base, struct slice reference) {
    struct buf merged CLEANUP(buf_deinit) = BUF_INIT(base->path.len + reference.len + 1);
    if (base->has_authority && base->path.len == 0) {
        buf_append_byte(&merged, '/');
    } else {
        size_t keep = base->path.len;
        while (keep > 0 && base->path.ptr[keep - 1] != '/')
            keep--;
        buf_append(&merged, slice_sub(base->path, 0, keep));
    }
    buf_append(&merged, reference);
    append_without_dots(out, buf_slice(&merged));
    return buf_error(&merged);
}

static void append_authority(struct buf *out, const struct uri *uri) {
    if (!uri->has_authority)
        return;
    buf_append(out, SLICE("//"));
    if (uri->has_userinfo) {
        buf_append(out, uri->userinfo);
        buf_append_byte(out, '@');
    }
    bool bracket = uri->host_kind == URI_HOST_IPV6;
    if (bracket)
        buf_append_byte(out, '[');
    buf_append(out, uri->host);
    if (bracket)
        buf_append_byte(out, ']');
    if (uri->has_port) {
        buf_append_byte(out, ':');
        buf_append_u64(out, uri->port);
    }
}

static void append_tail(struct buf *out, char mark, bool present, struct slice text) {
    if (!present)
        return;
    buf_append_byte(out, mark);
    buf_append(out, text);
}

/* Section 5.2.2; `reference` was only cut, so that its authority is still whole in `host`. */
static int append_resolved(struct buf *out, const struct uri *base, const struct uri *reference) {
    int r = 0;
    bool own_scheme = reference->scheme.len > 0;
    buf_append(out, own_scheme ? reference->scheme : base->scheme);
    buf_append_byte(out, ':');
    struct slice query = reference->query;
    bool has_query = reference->has_query;
    if (own_scheme || reference->has_authority) {
        if (reference->has_authority) {
            buf_append(out, SLICE("//"));
            buf_append(out, reference->host);
        }
        append_without_dots(out, reference->path);
    } else {
        append_authority(out, base);
        if (reference->path.len == 0) {
            buf_append(out, base->path);
            query = has_query ? query : base->query;
            has_query = has_query || base->has_query;
        } else if (reference->path.ptr[0] == '/') {
            append_without_dots(out, reference->path);
        } else {
            r = append_merged_path(out, base, reference->path);
        }
    }
    append_tail(out, '?', has_query, query);
    append_tail(out, '#', reference->has_fragment, reference->fragment);
    return r;
}

int uri_resolve(struct buf *out, const struct uri *base, struct slice reference) {
    struct uri cut, check;
    split(reference, &cut);
    /* Three separators, a port and the brackets are all that is added to the two texts. */
    struct buf result CLEANUP(buf_deinit) =
        BUF_INIT(base->scheme.len + base->userinfo.len + base->host.len + base->path.len +
                 base->query.len + reference.len + 32);
    int r = append_resolved(&result, base, &cut);
    if (r == 0)
        r = buf_error(&result);
    if (r != 0)
        return r;
    bool has_authority = cut.has_authority || (cut.scheme.len == 0 && base->has_authority);
    /* A path "//x" that came out of ".." without an authority would be read as one: refused. */
    if (uri_parse(buf_slice(&result), &check, NULL) != 0 || check.has_authority != has_authority)
        return URI_E_INVALID;
    return buf_append(out, buf_slice(&result));
}

/* Percent-encoding. */

int uri_percent_decode(struct buf *out, struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\0')
            return URI_E_INVALID;
        if (text.ptr[i] != '%')
            continue;
        if (text.len - i < 3 || !char_is(text.ptr[i + 1], CHAR_HEX) ||
            !char_is(text.ptr[i + 2], CHAR_HEX) ||
            (text.ptr[i + 1] == '0' && text.ptr[i + 2] == '0'))
            return URI_E_INVALID;
        i += 2;
    }
    char *room = buf_reserve(out, text.len);
    if (room == NULL)
        return buf_error(out);
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '%') {
            room[n++] = (char)(unsigned char)(char_hex_value(text.ptr[i + 1]) * 16 +
                                              char_hex_value(text.ptr[i + 2]));
            i += 2;
        } else {
            room[n++] = text.ptr[i];
        }
    }
    buf_commit(out, n);
    return 0;
}

int uri_percent_encode(struct buf *out, struct slice text) {
    static const char digits[] = "0123456789ABCDEF";
    while (text.len > 0) {
        size_t plain = char_span(text, CHAR_UNRESERVED);
        buf_append(out, slice_sub(text, 0, plain));
        if (plain < text.len) {
            unsigned char byte = (unsigned char)text.ptr[plain];
            const char triple[3] = {'%', digits[byte >> 4], digits[byte & 15]};
            buf_append(out, slice_make(triple, sizeof triple));
            plain++;
        }
        text = slice_from(text, plain);
    }
    return buf_error(out);
}
