/*
 * The URLs of the endpoints. server.oauth.protected_resource.resource is the URL by which clients
 * know the merged endpoint, or the origin (perhaps with a prefix that a proxy takes away) below
 * which all endpoints are:
 *
 *     resource                          base                    /mcp/files
 *     https://gw.example/mcp            https://gw.example      https://gw.example/mcp/files
 *     https://gw.example                https://gw.example      https://gw.example/mcp/files
 *     https://gw.example/tools/mcp      https://gw.example/tools
 *                                                         https://gw.example/tools/mcp/files
 */
#include <errno.h>

#include "config/config.h"
#include "http/uri.h"
#include "options.h"

/* RFC 9728 section 3: it goes between the origin and the path. */
static const struct slice well_known = SLICE_INIT("/.well-known/oauth-protected-resource");

struct base {
    struct slice origin; /* scheme and authority as written */
    struct slice prefix; /* in front of mcp.path: empty, or "/..." without a '/' at the end */
    bool names_endpoint; /* the resource is the merged endpoint itself */
};

static struct slice without_slashes(struct slice path) {
    while (path.len != 0 && path.ptr[path.len - 1] == '/')
        path.len--;
    return path;
}

/* Scheme and authority of a valid URI that has both. */
static struct slice origin_of(struct slice text) {
    size_t end = slice_find(text, SLICE("://")) + 3;
    while (end < text.len && text.ptr[end] != '/' && text.ptr[end] != '?' && text.ptr[end] != '#')
        end++;
    return slice_sub(text, 0, end);
}

/* False: no resource is configured. */
static bool find_base(const struct config *config, struct base *ret_base) {
    struct uri uri;
    struct slice resource = config->oauth.resource;
    if (resource.len == 0 || uri_parse(resource, &uri, NULL) != 0 || !uri.has_authority)
        return false;
    struct slice path = without_slashes(uri.path);
    struct base base = {
        .origin = origin_of(resource),
        .prefix = path,
        .names_endpoint = slice_ends_with(path, config->mcp_path),
    };
    if (base.names_endpoint)
        base.prefix = without_slashes(slice_sub(path, 0, path.len - config->mcp_path.len));
    *ret_base = base;
    return true;
}

bool config_is_endpoint(const struct config *config, struct slice path, struct slice *ret_name) {
    struct slice name = slice_from(path, config->mcp_path.len);
    if (!config->mcp_enabled || !slice_starts_with(path, config->mcp_path))
        return false;
    if (name.len != 0 && (name.ptr[0] != '/' || check_server_name(slice_from(name, 1)) != NULL))
        return false;
    *ret_name = slice_from(name, 1);
    return true;
}

struct slice config_endpoint_of(const struct config *config, struct slice path,
                                enum config_door *ret_door) {
    static const struct slice tails[] = {
        [CONFIG_DOOR_SSE] = SLICE_INIT("/sse"), [CONFIG_DOOR_MESSAGE] = SLICE_INIT("/message")};
    struct slice name;
    *ret_door = CONFIG_DOOR_HTTP;
    for (unsigned i = CONFIG_DOOR_SSE; i <= CONFIG_DOOR_MESSAGE; i++) {
        if (!slice_ends_with(path, tails[i]))
            continue;
        struct slice endpoint = slice_sub(path, 0, path.len - tails[i].len);
        if (config_is_endpoint(config, endpoint, &name)) {
            *ret_door = (enum config_door)i;
            return endpoint;
        }
    }
    return path;
}

int config_message_path(const struct config *config, struct slice endpoint, struct buf *out) {
    struct base base;
    if (find_base(config, &base))
        buf_append(out, base.prefix);
    buf_append(out, endpoint);
    return buf_append_cstr(out, "/message");
}

int config_endpoint_url(const struct config *config, struct slice path, struct buf *out) {
    struct base base;
    if (!find_base(config, &base))
        return -ENOENT;
    /* As it is configured, to the last '/': audiences are compared byte by byte. */
    if (path.len == 0 || (base.names_endpoint && slice_eq(path, config->mcp_path)))
        return buf_append(out, config->oauth.resource);
    buf_append(out, base.origin);
    buf_append(out, base.prefix);
    return buf_append(out, path);
}

int config_metadata_url(const struct config *config, struct slice path, struct buf *out) {
    struct base base;
    if (!find_base(config, &base))
        return -ENOENT;
    buf_append(out, base.origin);
    buf_append(out, well_known);
    if (path.len != 0)
        buf_append(out, base.prefix);
    return buf_append(out, path);
}

bool config_is_metadata(const struct config *config, struct slice path,
                        struct slice *ret_endpoint) {
    struct base base;
    struct slice name;
    if (!slice_starts_with(path, well_known) || !find_base(config, &base))
        return false;
    path = slice_from(path, well_known.len);
    if (path.len == 0) {
        *ret_endpoint = SLICE_EMPTY;
        return true;
    }
    /* A proxy that takes the prefix away from the endpoints may, and may not, do so here. */
    if (base.prefix.len != 0 && slice_starts_with(path, base.prefix) &&
        config_is_endpoint(config, slice_from(path, base.prefix.len), &name)) {
        *ret_endpoint = slice_from(path, base.prefix.len);
        return true;
    }
    if (!config_is_endpoint(config, path, &name))
        return false;
    *ret_endpoint = path;
    return true;
}
