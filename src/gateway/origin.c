/*
 * DNS rebinding (MCP 2025-11-25, basic/transports, security warning): a page in a browser may reach
 * a loopback listener under a name of its own. Host and Origin must name this gateway, always,
 * token or not. Ours are the loopback names, the listen address (0.0.0.0 is none), server.hosts,
 * tls.names (without wildcards) and the host of the protected resource.
 */
#include "border.h"

static bool is_ours(const struct border *border, const struct uri_authority *authority) {
    for (size_t i = 0; i < border->n_hosts; i++) {
        const struct uri_authority *ours = &border->hosts[i].authority;
        if (slice_eq_nocase(ours->host, authority->host) &&
            (!ours->has_port || (authority->has_port && ours->port == authority->port)))
            return true;
    }
    return false;
}

/* As it is written in the configuration, which is what most callers send. */
static bool is_spelled_as_ours(const struct border *border, struct slice host) {
    for (size_t i = 0; i < border->n_hosts; i++) {
        if (slice_eq(border->hosts[i].text, host))
            return true;
    }
    return false;
}

bool border_host_is_ours(const struct border *border, const struct http_head *head) {
    struct uri_authority authority;
    /* HTTP/1.0 without a Host names nobody. */
    if (head->host.len == 0)
        return false;
    if (!is_spelled_as_ours(border, head->host) &&
        (uri_parse_authority(head->host, &authority) != 0 || !is_ours(border, &authority)))
        return false;
    return head->authority.len == 0 || slice_eq_nocase(head->authority, head->host);
}

bool border_origin_is_ours(const struct border *border, const struct http_head *head) {
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
    return is_ours(border, &authority);
}
