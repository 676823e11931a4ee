#include "border.h"

#include <errno.h>

#include "base/mem.h"

/* Ours under any configuration (RFC 6761 section 6.3 for the name). */
static const struct slice loopback_names[] = {SLICE_INIT("localhost"), SLICE_INIT("127.0.0.1"),
                                              SLICE_INIT("[::1]")};

/* 0.0.0.0 and [::] are every address: the name of no host. */
static bool is_unspecified(const struct uri_authority *authority) {
    static const unsigned char nothing[NETWORK_V6_BITS / 8] = {0};
    struct network address;
    return network_parse_address(authority->host, &address) &&
           memcmp(address.bytes, nothing, address.family_bits / 8) == 0;
}

/* The array has room. What is no authority names nothing. */
static void add_host(struct border *border, struct slice text, bool any_port) {
    struct border_host host = {.text = text};
    if (uri_parse_authority(text, &host.authority) != 0 || is_unspecified(&host.authority))
        return;
    if (any_port)
        host.authority.has_port = false;
    border->hosts[border->n_hosts++] = host;
}

/* A name or an address, which in a list of names has no brackets. "*.example.com", which is no host
 * name, is for the certificate alone: whoever gets a name below it must not be ours by that. */
static void add_name(struct border *border, struct slice name) {
    if (slice_find_byte(name, ':') == SIZE_MAX) {
        add_host(border, name, true);
        return;
    }
    struct network address;
    char *text = arena_printf(&border->arena, "[%.*s]", SLICE_ARGS(name));
    if (text != NULL && network_parse_address(name, &address))
        add_host(border, slice_from_cstr(text), true);
}

/* Of the URL that clients use; a port there is one that is ours, a proxy's perhaps. */
static void add_resource(struct border *border, struct slice resource) {
    struct uri uri;
    if (resource.len != 0 && uri_parse(resource, &uri, NULL) == 0 && uri.host.len != 0) {
        size_t is_v6 = uri.host_kind == URI_HOST_IPV6;
        add_host(border, slice_make(uri.host.ptr - is_v6, uri.host.len + 2 * is_v6), true);
    }
}

static int make_hosts(struct border *border, const struct config *config) {
    size_t most = ARRAY_LEN(loopback_names) + 2 + config->n_hosts + config->tls.n_names;
    border->hosts = arena_alloc_array(&border->arena, most, sizeof *border->hosts);
    if (border->hosts == NULL)
        return -ENOMEM;
    add_host(border, config->listen_address, true);
    for (size_t i = 0; i < ARRAY_LEN(loopback_names); i++)
        add_host(border, loopback_names[i], true);
    for (size_t i = 0; i < config->n_hosts; i++)
        add_host(border, config->hosts[i], false);
    for (size_t i = 0; i < config->tls.n_names; i++)
        add_name(border, config->tls.names[i]);
    add_resource(border, config->oauth.resource);
    return arena_failed(&border->arena) ? -ENOMEM : 0;
}

static int make_trusted(struct border *border, const struct config *config) {
    size_t n = 0;
    struct network *trusted =
        arena_alloc_array(&border->arena, config->n_trusted_proxies + 1, sizeof *trusted);
    if (trusted == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_trusted_proxies; i++)
        n += network_parse(config->trusted_proxies[i], &trusted[n]);
    border->forwarded =
        (struct http_forwarded){.x_real_ip = config->client_ip.x_real_ip,
                                .x_forwarded_for = config->client_ip.x_forwarded_for,
                                .hops = config->client_ip.hops,
                                .trusted = trusted,
                                .n_trusted = n};
    return 0;
}

/* RFC 6797 section 6.1. */
static int make_hsts(struct border *border, const struct config *config) {
    border->hsts = SLICE_EMPTY;
    if (config->tls.hsts_ms == 0)
        return 0;
    char *line = arena_printf(&border->arena, "Strict-Transport-Security: max-age=%llu\r\n",
                              (unsigned long long)(config->tls.hsts_ms / 1000));
    border->hsts = slice_from_cstr(line);
    return line != NULL ? 0 : -ENOMEM;
}

int border_new(const struct config *config, struct border **ret_border) {
    struct border *border = mem_alloc(sizeof *border);
    if (border == NULL)
        return -ENOMEM;
    border->config = config;
    arena_init(&border->arena, LIMIT_CONFIG_MEMORY);
    int error = make_hosts(border, config);
    if (error == 0)
        error = make_trusted(border, config);
    if (error == 0)
        error = make_hsts(border, config);
    if (error == 0)
        error = cors_init(&border->cors, &config->cors, &border->arena);
    if (error == 0 && config->oauth.is_set)
        error = border_write_metadata(config, &border->arena, &border->metadata);
    if (error != 0) {
        border_free(border);
        return error;
    }
    *ret_border = border;
    return 0;
}

struct border *border_free(struct border *border) {
    if (border == NULL)
        return NULL;
    arena_deinit(&border->arena);
    mem_free(border);
    return NULL;
}

bool border_is_pinned(struct slice host) {
    struct slice name, port;
    slice_cut(host, ':', &name, &port);
    return name.len != 0 && !slice_eq_nocase(name, SLICE("localhost"));
}

bool border_trusts(const struct border *border, const struct network *address) {
    return http_forwarded_trusts(&border->forwarded, address);
}

struct network border_client(const struct border *border, const struct http_head *head,
                             const struct network *peer) {
    return http_forwarded_client(&border->forwarded, head, peer);
}
