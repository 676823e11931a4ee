/*
 * Request targets (RFC 9112 section 3.2), all four forms. What comes through here is looked up in
 * tables of routes and sent on, by code that may decode it once more than this one. So a path that
 * would mean something else after decoding or normalising is refused: dot segments, an encoded '/'
 * or '\', NUL and controls, each also when it is encoded twice, and octets that are not UTF-8 (0xC0
 * 0xAE is a '.' to some).
 */
#include "chars.h"
#include "http/uri.h"
#include "parser.h"
#include "utf8_state.h"

/* The octet of a valid triple at the front of s, or -1. */
static int triple_value(struct slice s) {
    if (s.len < 3 || s.ptr[0] != '%' || !char_is(s.ptr[1], CHAR_HEX) ||
        !char_is(s.ptr[2], CHAR_HEX))
        return -1;
    return (int)(char_hex_value(s.ptr[1]) * 16 + char_hex_value(s.ptr[2]));
}

static bool is_control(int octet) {
    return octet < 0x20 || octet == 0x7f;
}

/* "%25" again and again, then the two digits of something that is refused when it is encoded once,
 * or of a dot. */
static bool is_encoded_twice(struct slice s) {
    s = slice_from(s, 3);
    while (slice_starts_with(s, SLICE("25")))
        s = slice_from(s, 2);
    if (s.len < 2 || !char_is(s.ptr[0], CHAR_HEX) || !char_is(s.ptr[1], CHAR_HEX))
        return false;
    int octet = (int)(char_hex_value(s.ptr[0]) * 16 + char_hex_value(s.ptr[1]));
    return octet == '.' || octet == '/' || octet == '\\' || is_control(octet);
}

/* The triples of a path; *ret_has_high: some octet is from 0x80. */
static const char *check_triple(struct slice s, bool *ret_has_high) {
    int octet = triple_value(s);
    if (octet < 0)
        return "the path has a '%' without two hexadecimal digits";
    if (is_control(octet))
        return "the path has an encoded control character";
    if (octet == '/' || octet == '\\')
        return "the path has an encoded slash";
    if (octet == '%' && is_encoded_twice(s))
        return "the path is encoded twice";
    if (octet >= 0x80)
        *ret_has_high = true;
    return NULL;
}

/* "." and "..", with any dot encoded, also before ';' where some see parameters of the segment. */
static bool is_dot_segment(struct slice segment) {
    size_t dots = 0, at = 0;
    while (at < segment.len && dots < 3) {
        struct slice rest = slice_from(segment, at);
        size_t width = rest.ptr[0] == '.' ? 1 : triple_value(rest) == '.' ? 3 : 0;
        if (width == 0)
            return dots > 0 && (rest.ptr[0] == ';' || triple_value(rest) == ';');
        dots++;
        at += width;
    }
    return dots == 1 || dots == 2;
}

static bool has_dot_segment(struct slice path) {
    struct slice segment;
    bool more;
    do {
        more = slice_cut(path, '/', &segment, &path);
        if (is_dot_segment(segment))
            return true;
    } while (more);
    return false;
}

static bool is_utf8(struct slice path) {
    struct utf8_state state = {.open = 0};
    for (size_t i = 0; i < path.len; i++) {
        int octet = triple_value(slice_from(path, i));
        utf8_state_add(&state, octet >= 0 ? (unsigned char)octet : (unsigned char)path.ptr[i]);
        if (utf8_state_is_bad(&state))
            return false;
        if (octet >= 0)
            i += 2;
    }
    return !utf8_state_is_open(&state);
}

static const char *check_path(struct slice path) {
    bool has_high = false, may_have_dots = false;
    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];
        if (!char_is(c, CHAR_PATH))
            return "the path has a byte that is not allowed";
        if (c == '.')
            may_have_dots = true;
        if (c != '%')
            continue;
        const char *reason = check_triple(slice_from(path, i), &has_high);
        if (reason != NULL)
            return reason;
        may_have_dots = true;
        i += 2;
    }
    if (may_have_dots && has_dot_segment(path))
        return "the path has a dot segment";
    return has_high && !is_utf8(path) ? "the path is not UTF-8" : NULL;
}

static const char *check_query(struct slice query) {
    for (size_t i = 0; i < query.len; i++) {
        if (!char_is(query.ptr[i], CHAR_QUERY))
            return "the query has a byte that is not allowed";
        if (query.ptr[i] == '%' && triple_value(slice_from(query, i)) < 0)
            return "the query has a '%' without two hexadecimal digits";
    }
    return NULL;
}

static const char *parse_origin_form(struct http_head *head) {
    if (slice_starts_with(head->target, SLICE("//")))
        return "the path begins with two slashes";
    struct slice path, query;
    slice_cut(head->target, '?', &path, &query);
    const char *reason = check_path(path);
    if (reason == NULL)
        reason = check_query(query);
    head->path = path;
    head->query = query;
    return reason;
}

static const char *parse_absolute_form(struct http_head *head) {
    struct uri uri;
    const char *reason;
    if (uri_parse(head->target, &uri, &reason) != 0)
        return reason;
    if (!slice_eq_nocase(uri.scheme, SLICE("http")) && !slice_eq_nocase(uri.scheme, SLICE("https")))
        return "the target's scheme is neither http nor https";
    if (uri.has_userinfo || uri.has_fragment)
        return "the target has user information or a fragment";
    if (slice_starts_with(uri.path, SLICE("//")))
        return "the path begins with two slashes";
    size_t from = uri.scheme.len + 3; /* behind "://" */
    struct slice rest = slice_from(head->target, from);
    size_t len = 0;
    while (len < rest.len && rest.ptr[len] != '/' && rest.ptr[len] != '?')
        len++;
    head->authority = slice_sub(rest, 0, len);
    head->query = uri.query;
    if (uri.path.len > 0)
        head->path = uri.path;
    else /* section 3.2.4: without path and query, OPTIONS is about the server */
        head->path =
            head->method == HTTP_METHOD_OPTIONS && !uri.has_query ? SLICE("*") : SLICE("/");
    return check_path(head->path);
}

static const char *parse_authority_form(struct http_head *head) {
    struct uri_authority authority;
    if (uri_parse_authority(head->target, &authority) != 0 || !authority.has_port)
        return "the target of CONNECT is not host and port";
    head->authority = head->target;
    return NULL;
}

static const char *parse_target(struct http_head *head) {
    if (head->method == HTTP_METHOD_CONNECT)
        return parse_authority_form(head);
    if (head->target.ptr[0] == '/')
        return parse_origin_form(head);
    if (slice_eq(head->target, SLICE("*"))) {
        head->path = head->target;
        return head->method == HTTP_METHOD_OPTIONS ? NULL : "the target '*' is for OPTIONS only";
    }
    return parse_absolute_form(head);
}

bool http_parse_target(struct http_parser *parser) {
    const char *reason = parse_target(&parser->head);
    return reason == NULL || http_refuse(parser, 400, reason);
}

/* A port that is not written is that of the target's scheme; for CONNECT there is none to take. */
static bool is_same_authority(const struct http_head *head) {
    struct uri_authority target, host;
    if (uri_parse_authority(head->authority, &target) != 0 ||
        uri_parse_authority(head->host, &host) != 0)
        return false;
    if (!slice_eq_nocase(target.host, host.host) || target.host_kind != host.host_kind)
        return false;
    bool is_connect = head->method == HTTP_METHOD_CONNECT;
    uint16_t usual = slice_starts_with_nocase(head->target, SLICE("https:")) ? 443 : 80;
    uint16_t target_port = target.has_port ? target.port : usual;
    uint16_t host_port = host.has_port ? host.port : is_connect ? target_port : usual;
    return target_port == host_port;
}

bool http_check_target_host(struct http_parser *parser) {
    const struct http_head *head = &parser->head;
    if (head->authority.len == 0 || !parser->seen.host || is_same_authority(head))
        return true;
    return http_refuse(parser, 400, "Host is not the authority of the target");
}
