/*
 * What a server says of itself (RFC 9728): which resource it is, and who gives tokens for it. Such
 * a document is found by the server's address, or named by its challenge; in both cases it has to
 * be about that very server (section 3.3), because whoever may write one for another resource could
 * have tokens made for that one, and sent here.
 *
 * A server may be known by a resource of a shorter path (a host with several endpoints): so MCP's
 * own clients take it.
 */
#include <errno.h>

#include "base/limits.h"
#include "fetch.h"

static const struct slice well_known = SLICE_INIT("/.well-known/oauth-protected-resource");

static const struct json_want want_strings[] = {{.key = NULL}};
static const struct json_want want_members[] = {
    {"authorization_servers", want_strings}, {"scopes_supported", want_strings}, {.key = NULL}};
static const struct json_want want_resource = {.key = NULL, .children = want_members};

static struct slice without_last_slash(struct slice path) {
    return slice_ends_with(path, SLICE("/")) ? slice_sub(path, 0, path.len - 1) : path;
}

/* Section 3.1: between host and path; then, as MCP has it, at the root. */
int oauth_resource_candidate(struct slice url, unsigned n, struct buf *out) {
    struct uri uri;
    if (url.len > LIMIT_URI || uri_parse(url, &uri, NULL) != 0 || !uri.has_authority)
        return OAUTH_E_INVALID;
    struct slice origin = slice_make(url.ptr, (size_t)(uri.path.ptr - url.ptr));
    struct slice path = without_last_slash(uri.path);
    if (n >= (path.len != 0 ? 2u : 1u))
        return OAUTH_E_END;
    buf_append(out, origin);
    buf_append(out, well_known);
    return buf_append(out, n == 0 ? path : SLICE_EMPTY);
}

/* Of the same origin, and the path or one that is above it. */
static bool is_about(struct slice resource, struct slice url) {
    struct uri named, own;
    if (resource.len > LIMIT_URI || uri_parse(resource, &named, NULL) != 0 ||
        uri_parse(url, &own, NULL) != 0)
        return false;
    if (named.has_userinfo || named.has_query || named.has_fragment ||
        !uri_same_origin(&named, &own))
        return false;
    struct slice path = without_last_slash(named.path);
    struct slice rest = slice_from(own.path, path.len);
    return slice_starts_with(own.path, path) && (rest.len == 0 || rest.ptr[0] == '/');
}

static const char no_memory[] = "there is not enough memory";

/* The unescaped text. */
static int read_text(const struct json_node *node, struct buf *out) {
    buf_reset(out, LIMIT_JWKS);
    return node->type == JSON_STRING ? json_string_append(out, node) : OAUTH_E_INVALID;
}

static int check_resource(const struct json_reader *reader, const struct json_node *root,
                          const struct oauth_resource_wanted *wanted, struct buf *text,
                          const char **ret_reason) {
    const struct json_node *node = json_member_typed(reader, root, SLICE("resource"), JSON_STRING);
    if (node == NULL) {
        *ret_reason = "its metadata name no resource";
        return OAUTH_E_INVALID;
    }
    int error = read_text(node, text);
    if (error != 0)
        return error;
    if (slice_eq(buf_slice(text), wanted->resource) || is_about(buf_slice(text), wanted->url))
        return 0;
    *ret_reason = "its metadata are those of another resource";
    return OAUTH_E_END;
}

static bool is_url(struct slice text) {
    struct uri uri;
    return text.len <= LIMIT_URI && uri_parse(text, &uri, NULL) == 0 && uri.has_authority &&
           !uri.has_userinfo && !uri.has_query && !uri.has_fragment;
}

/* The issuer that is wanted, or the first that can be. */
static int find_issuer(const struct json_reader *reader, const struct json_node *root,
                       struct slice wanted, struct buf *text, struct buf *issuer,
                       const char **ret_reason) {
    const struct json_node *list = json_member(reader, root, SLICE("authorization_servers"));
    const struct json_node *at =
        list != NULL && list->type == JSON_ARRAY ? json_first(reader, list) : NULL;
    if (at == NULL && wanted.len != 0)
        return 0;
    for (; at != NULL; at = json_next(reader, at)) {
        int error = read_text(at, text);
        if (error < 0)
            return error;
        struct slice named = buf_slice(text);
        if (error == 0 && (wanted.len != 0 ? slice_eq(named, wanted) : is_url(named)))
            return buf_append(issuer, named);
    }
    *ret_reason = wanted.len != 0 ? "its metadata name other authorization servers than the issuer"
                                  : "its metadata name no authorization server";
    return OAUTH_E_END;
}

/* What is no scope is left out; so many that nobody can have meant them are left out altogether. */
static int read_scopes(const struct json_reader *reader, const struct json_node *root,
                       struct buf *text, struct buf *scopes) {
    const struct json_node *list =
        json_member_typed(reader, root, SLICE("scopes_supported"), JSON_ARRAY);
    size_t n = 0;
    if (list == NULL)
        return 0;
    for (const struct json_node *at = json_first(reader, list); at != NULL;
         at = json_next(reader, at)) {
        int error = ++n <= LIMIT_SCOPES ? read_text(at, text) : -E2BIG;
        if (error == 0 && slice_find_byte(buf_slice(text), ' ') == SIZE_MAX)
            error = oauth_scopes_add(scopes, buf_slice(text));
        if (error == -E2BIG) {
            buf_reset(scopes, OAUTH_SCOPES_TEXT);
            return 0;
        }
        if (error < 0)
            return error;
    }
    return 0;
}

int oauth_resource_read(struct json_reader *reader, struct slice document,
                        const struct oauth_resource_wanted *wanted, struct buf *issuer,
                        struct buf *scopes, const char **ret_reason) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWKS);
    *ret_reason = no_memory;
    int error = json_read(reader, document, &want_resource, NULL, NULL);
    if (error < 0)
        return error;
    const struct json_node *root = error == 0 ? json_root(reader) : NULL;
    if (root == NULL || root->type != JSON_OBJECT) {
        *ret_reason = root == NULL ? "its metadata is no JSON" : "its metadata is no JSON object";
        return OAUTH_E_INVALID;
    }
    error = check_resource(reader, root, wanted, &text, ret_reason);
    if (error == 0)
        error = find_issuer(reader, root, wanted->issuer, &text, issuer, ret_reason);
    if (error == 0)
        error = read_scopes(reader, root, &text, scopes);
    return error;
}
