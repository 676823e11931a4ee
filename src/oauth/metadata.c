/*
 * Where an issuer's keys are. Its metadata is at an address that is made of its identifier, and has
 * to name that very identifier: so an issuer cannot speak for another one (RFC 8414 section 3.3,
 * section 6.2; OpenID Connect Discovery 1.0 section 4.3). The MCP specification (authorization,
 * "Authorization Server Metadata Discovery") gives the order of the addresses.
 */
#include <errno.h>

#include "base/limits.h"
#include "private.h"

enum placement { INSERTED, APPENDED };

struct well_known {
    struct slice name;
    enum placement placement;
};

static const struct well_known with_path[] = {
    {SLICE_INIT("/.well-known/oauth-authorization-server"), INSERTED},
    {SLICE_INIT("/.well-known/openid-configuration"), INSERTED},
    {SLICE_INIT("/.well-known/openid-configuration"), APPENDED},
};
/* Without a path, both ways of the second one are the same. */
enum { N_WITHOUT_PATH = 2 };

static bool is_http_or_https(const struct uri *uri) {
    return slice_eq_nocase(uri->scheme, SLICE("https")) ||
           slice_eq_nocase(uri->scheme, SLICE("http"));
}

/* RFC 8414 section 2: a URL without query or fragment. http is for development, and is a line of
 * the operator's configuration. */
static bool is_issuer(struct slice issuer, struct uri *ret_uri) {
    struct uri uri;
    if (issuer.len > LIMIT_URI || uri_parse(issuer, &uri, NULL) != 0)
        return false;
    if (!is_http_or_https(&uri) || uri.has_userinfo || uri.has_query || uri.has_fragment)
        return false;
    *ret_uri = uri;
    return true;
}

int oauth_candidate(struct slice issuer, unsigned n, struct buf *out) {
    struct uri uri;
    if (!is_issuer(issuer, &uri))
        return OAUTH_E_INVALID;
    struct slice origin = slice_sub(issuer, 0, issuer.len - uri.path.len);
    /* RFC 8414 section 3.1: any terminating "/" is removed. */
    struct slice path = uri.path;
    if (slice_ends_with(path, SLICE("/")))
        path = slice_sub(path, 0, path.len - 1);
    if (n >= (path.len != 0 ? ARRAY_LEN(with_path) : (size_t)N_WITHOUT_PATH))
        return OAUTH_E_END;
    const struct well_known *well_known = &with_path[n];
    buf_append(out, origin);
    buf_append(out, well_known->placement == INSERTED ? well_known->name : path);
    return buf_append(out, well_known->placement == INSERTED ? path : well_known->name);
}

/* https, or where the operator has said already that http will do. */
static const char *refuse_jwks_uri(struct slice text, const struct uri *issuer) {
    struct uri uri;
    if (text.len > LIMIT_URI || uri_parse(text, &uri, NULL) != 0 || !is_http_or_https(&uri) ||
        uri.has_userinfo || uri.has_fragment)
        return "the jwks_uri of its metadata is no URL that can be fetched";
    if (!slice_eq_nocase(uri.scheme, SLICE("https")) && !uri_same_origin(&uri, issuer))
        return "the jwks_uri of its metadata is not https";
    return NULL;
}

static const char *find_jwks_uri(const struct json_reader *reader, struct slice issuer,
                                 const struct json_node **ret_node) {
    const struct json_node *root = json_root(reader);
    if (root->type != JSON_OBJECT)
        return "its metadata is no JSON object";
    const struct json_node *named = json_member_typed(reader, root, SLICE("issuer"), JSON_STRING);
    if (named == NULL)
        return "its metadata names no issuer";
    if (!json_string_is(named, issuer))
        return "its metadata is that of another issuer";
    *ret_node = json_member_typed(reader, root, SLICE("jwks_uri"), JSON_STRING);
    return *ret_node == NULL ? "its metadata has no jwks_uri" : NULL;
}

int oauth_metadata_read(struct json_reader *reader, struct slice document, struct slice issuer,
                        struct buf *out, const char **ret_reason) {
    const struct json_node *node = NULL;
    struct uri uri;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWKS);
    if (!is_issuer(issuer, &uri)) {
        *ret_reason = "the issuer is no URL that discovery knows";
        return OAUTH_E_INVALID;
    }
    int error = json_read(reader, document, &json_want_root, NULL, NULL);
    if (error < 0)
        return error;
    const char *reason =
        error != 0 ? "its metadata is no JSON" : find_jwks_uri(reader, issuer, &node);
    if (reason == NULL) {
        error = json_string_append(&text, node);
        if (error != 0)
            return error;
        reason = refuse_jwks_uri(buf_slice(&text), &uri);
    }
    if (reason != NULL) {
        *ret_reason = reason;
        return OAUTH_E_INVALID;
    }
    return buf_append(out, buf_slice(&text));
}
