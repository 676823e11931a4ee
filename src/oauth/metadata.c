/*
 * Where an issuer's keys and its token endpoint are. Its metadata is at an address that is made of
 * its identifier, and has to name that very identifier: so an issuer cannot speak for another one
 * (RFC 8414 section 3.3, section 6.2; OpenID Connect Discovery 1.0 section 4.3). The MCP
 * specification (authorization, "Authorization Server Metadata Discovery") gives the order of the
 * addresses.
 */
#include <errno.h>

#include "base/limits.h"
#include "base/network.h"
#include "fetch.h"

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

/* --- a document --- */

struct endpoint {
    struct slice name;
    const char *is_missing, *is_no_url, *is_plain;
};

static const struct endpoint endpoints[] = {
    [OAUTH_JWKS_URI] = {SLICE_INIT("jwks_uri"), "its metadata has no jwks_uri",
                        "the jwks_uri of its metadata is no URL that can be fetched",
                        "the jwks_uri of its metadata is not https"},
    [OAUTH_TOKEN_ENDPOINT] = {SLICE_INIT("token_endpoint"), "its metadata has no token_endpoint",
                              "the token_endpoint of its metadata is no URL that can be asked",
                              "the token_endpoint of its metadata is not https: what is sent "
                              "there is secret; auth.token_endpoint may name another one"},
};

static const struct json_want want_strings[] = {{.key = NULL}};
static const struct json_want want_members[] = {
    {"token_endpoint_auth_methods_supported", want_strings},
    {"grant_types_supported", want_strings},
    {.key = NULL}};
static const struct json_want want_metadata = {.key = NULL, .children = want_members};

static bool is_this_machine(struct slice host) {
    static const unsigned char v4[4] = {127}, v6[16] = {[15] = 1};
    struct network address, loopback_v4, loopback_v6;
    network_from_bytes(v4, NETWORK_V4_BITS, &loopback_v4);
    network_from_bytes(v6, NETWORK_V6_BITS, &loopback_v6);
    loopback_v4.bits = 8;
    if (!network_parse_address(host, &address))
        return slice_eq_nocase(host, SLICE("localhost"));
    return network_has(&loopback_v4, &address) || network_has(&loopback_v6, &address);
}

/*
 * Whether it may be dialled is for the rules to say (client/rules.h). But they let everything
 * through that the configuration names, be it another server in plain text, and that is not for an
 * issuer to choose.
 */
static const char *refuse_endpoint(const struct endpoint *endpoint, struct slice text,
                                   const struct uri *issuer) {
    struct uri uri;
    if (text.len > LIMIT_URI || uri_parse(text, &uri, NULL) != 0 || !is_http_or_https(&uri) ||
        uri.has_userinfo || uri.has_fragment)
        return endpoint->is_no_url;
    if (!slice_eq_nocase(uri.scheme, SLICE("https")) && !uri_same_origin(&uri, issuer) &&
        !is_this_machine(uri.host))
        return endpoint->is_plain;
    return NULL;
}

static const char *find_endpoint(const struct json_reader *reader, const struct endpoint *endpoint,
                                 struct slice issuer, const struct json_node **ret_node) {
    const struct json_node *root = json_root(reader);
    if (root->type != JSON_OBJECT)
        return "its metadata is no JSON object";
    const struct json_node *named = json_member_typed(reader, root, SLICE("issuer"), JSON_STRING);
    if (named == NULL)
        return "its metadata names no issuer";
    if (!json_string_is(named, issuer))
        return "its metadata is that of another issuer";
    *ret_node = json_member_typed(reader, root, endpoint->name, JSON_STRING);
    return *ret_node == NULL ? endpoint->is_missing : NULL;
}

static bool list_has(const struct json_reader *reader, const struct json_node *list,
                     struct slice text) {
    for (const struct json_node *at = json_first(reader, list); at != NULL;
         at = json_next(reader, at)) {
        if (json_string_is(at, text))
            return true;
    }
    return false;
}

static void read_details(const struct json_reader *reader, struct oauth_metadata *ret_metadata) {
    static const struct slice methods[] = {SLICE_INIT("client_secret_basic"),
                                           SLICE_INIT("client_secret_post"),
                                           SLICE_INIT("private_key_jwt"), SLICE_INIT("none")};
    const struct json_node *root = json_root(reader);
    const struct json_node *list =
        json_member_typed(reader, root, SLICE("token_endpoint_auth_methods_supported"), JSON_ARRAY);
    struct oauth_metadata metadata = {.has_methods = list != NULL};
    for (unsigned i = 0; i < ARRAY_LEN(methods) && list != NULL; i++)
        metadata.methods |= list_has(reader, list, methods[i]) ? 1u << i : 0u;
    list = json_member_typed(reader, root, SLICE("grant_types_supported"), JSON_ARRAY);
    if (list != NULL) {
        metadata.has_grants = true;
        metadata.has_client_credentials = list_has(reader, list, SLICE("client_credentials"));
        metadata.has_exchange =
            list_has(reader, list, SLICE("urn:ietf:params:oauth:grant-type:token-exchange"));
    }
    *ret_metadata = metadata;
}

int oauth_metadata_read(struct json_reader *reader, struct slice document, struct slice issuer,
                        enum oauth_endpoint endpoint, struct buf *out,
                        struct oauth_metadata *ret_metadata, const char **ret_reason) {
    const struct json_node *node = NULL;
    struct uri uri;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWKS);
    if (!is_issuer(issuer, &uri)) {
        *ret_reason = "the issuer is no URL that discovery knows";
        return OAUTH_E_INVALID;
    }
    int error = json_read(reader, document, &want_metadata, NULL, NULL);
    if (error < 0)
        return error;
    const char *reason = error != 0 ? "its metadata is no JSON"
                                    : find_endpoint(reader, &endpoints[endpoint], issuer, &node);
    if (reason == NULL) {
        error = json_string_append(&text, node);
        if (error != 0)
            return error;
        reason = refuse_endpoint(&endpoints[endpoint], buf_slice(&text), &uri);
    }
    if (reason != NULL) {
        *ret_reason = reason;
        return OAUTH_E_INVALID;
    }
    if (ret_metadata != NULL)
        read_details(reader, ret_metadata);
    return buf_append(out, buf_slice(&text));
}
