/*
 * DNS rebinding (MCP 2025-11-25, basic/transports, security warning): a page in a browser may reach
 * a loopback listener under a name of its own. Host and Origin must name this gateway, always,
 * token or not.
 */
#include "http/uri.h"
#include "private.h"

static bool matches_entry(struct slice entry, const struct uri_authority *authority) {
    struct uri_authority allowed;
    if (uri_parse_authority(entry, &allowed) != 0)
        return false;
    return slice_eq_nocase(allowed.host, authority->host) &&
           (!allowed.has_port || (authority->has_port && allowed.port == authority->port));
}

/* Loopback names, the listen address, and what server.hosts adds; an entry without a port allows
 * every port. */
static bool is_ours(const struct gateway *gateway, const struct uri_authority *authority) {
    static const struct slice loopback[] = {SLICE_INIT("localhost"), SLICE_INIT("127.0.0.1"),
                                            SLICE_INIT("::1")};
    for (size_t i = 0; i < ARRAY_LEN(loopback); i++) {
        if (slice_eq_nocase(authority->host, loopback[i]))
            return true;
    }
    struct uri_authority own;
    if (uri_parse_authority(slice_from_cstr(gateway->address.text), &own) == 0 &&
        slice_eq_nocase(own.host, authority->host))
        return true;
    for (size_t i = 0; i < gateway->config->n_hosts; i++) {
        if (matches_entry(gateway->config->hosts[i], authority))
            return true;
    }
    return false;
}

bool gw_host_is_ours(const struct gateway *gateway, const struct http_head *head) {
    struct uri_authority authority;
    /* HTTP/1.0 without a Host names nobody. */
    if (head->host.len == 0 || uri_parse_authority(head->host, &authority) != 0)
        return false;
    if (!is_ours(gateway, &authority))
        return false;
    return head->authority.len == 0 || slice_eq_nocase(head->authority, head->host);
}

bool gw_origin_is_ours(const struct gateway *gateway, const struct http_head *head) {
    struct slice origin = http_head_get(head, SLICE("origin"));
    if (origin.ptr == NULL)
        return true;
    struct uri uri;
    if (http_head_count(head, SLICE("origin")) != 1 || uri_parse(origin, &uri, NULL) != 0)
        return false; /* "null" among others */
    bool is_web =
        slice_eq_nocase(uri.scheme, SLICE("http")) || slice_eq_nocase(uri.scheme, SLICE("https"));
    if (!is_web || !uri.has_authority || uri.has_userinfo || uri.path.len != 0 || uri.has_query ||
        uri.has_fragment)
        return false;
    struct uri_authority authority = {
        .host = uri.host,
        .host_kind = uri.host_kind,
        .has_port = uri.has_port,
        .port = uri.port,
    };
    return is_ours(gateway, &authority);
}
