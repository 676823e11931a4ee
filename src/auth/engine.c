/* What is made of a configuration once: the identities that do not depend on a token's content, the
 * digests of tokens, the audiences. */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/random.h"
#include "http/uri.h"
#include "private.h"

/* The proof is the field as nearly all clients write it; others are read anew with each request. */
static struct auth_identity *secret_identity(const struct auth *auth, enum auth_kind kind,
                                             const char *principal, const struct secret *secret) {
    struct buf proof CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    struct slice name = slice_from_cstr(principal);
    if (secret != NULL) {
        buf_append_cstr(&proof, "Bearer ");
        buf_append(&proof, secret_reveal(secret));
    }
    size_t colon = slice_find_byte(name, ':');
    struct auth_draft draft = {
        .kind = kind,
        .principal = name,
        .name = colon != SIZE_MAX ? slice_from(name, colon + 1) : name,
        .proof = buf_slice(&proof),
        .has_all_scopes = kind == AUTH_LOCAL,
        .ends_wall_ms = UINT64_MAX,
        .forget_ms = UINT64_MAX,
        .engine = auth->number,
    };
    draft.client_id = draft.name;
    struct auth_identity *identity = buf_error(&proof) == 0 ? identity_new(&draft) : NULL;
    if (proof.data != NULL)
        secret_wipe(proof.data, proof.cap);
    return identity;
}

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "sha256:" and 64 digits: the configuration has checked it. */
static bool read_digest(struct slice hash, unsigned char digest[static AUTH_DIGEST]) {
    static const struct slice prefix = SLICE_INIT("sha256:");
    if (hash.len != prefix.len + 2 * (size_t)AUTH_DIGEST || !slice_starts_with(hash, prefix))
        return false;
    for (size_t i = 0; i < AUTH_DIGEST; i++) {
        int high = hex(hash.ptr[prefix.len + 2 * i]), low = hex(hash.ptr[prefix.len + 2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest[i] = (unsigned char)(high * 16 + low);
    }
    return true;
}

static int make_token(struct auth *auth, const struct config_token *config) {
    struct buf principal CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct slice groups[LIMIT_GROUPS] UNCLEARED;
    struct auth_token *token = &auth->tokens[auth->n_tokens];
    size_t n_groups = config->n_groups;
    bool has_unknown = false;
    if (n_groups > LIMIT_GROUPS || !read_digest(config->hash, token->digest))
        return -EINVAL;
    for (size_t i = 0; i < n_groups; i++)
        groups[i] = config->groups[i];
    (void)groups_settle(&auth->config->identification, groups, &n_groups, &has_unknown);
    buf_append_cstr(&principal, "token:");
    buf_append(&principal, config->name);
    struct auth_draft draft = {
        .kind = AUTH_TOKEN,
        .principal = buf_slice(&principal),
        .name = config->name,
        .client_id = config->name,
        .groups = groups,
        .n_groups = n_groups,
        .groups_state = n_groups != 0 ? AUTH_GROUPS_FINE : AUTH_GROUPS_NONE,
        .has_unknown_group = has_unknown,
        .scopes = config->scopes,
        .n_scopes = config->n_scopes,
        .has_servers = config->has_servers,
        .servers = config->servers,
        .n_servers = config->n_servers,
        .ends_wall_ms = config->expires_ms != 0 ? config->expires_ms : UINT64_MAX,
        .forget_ms = UINT64_MAX,
        .engine = auth->number,
    };
    token->config = config;
    token->identity = buf_error(&principal) == 0 ? identity_new(&draft) : NULL;
    if (token->identity == NULL)
        return -ENOMEM;
    auth->n_tokens++;
    return 0;
}

static int add_audience(struct auth *auth, struct slice text) {
    auth->audiences[auth->n_audiences] = arena_dup(&auth->arena, text);
    return auth->audiences[auth->n_audiences++].ptr != NULL ? 0 : -ENOMEM;
}

static int make_audiences(struct auth *auth) {
    const struct config *config = auth->config;
    struct slice resource = config->oauth.resource;
    struct uri uri;
    struct buf url CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI * 2);
    if (resource.len == 0)
        return 0;
    int error = add_audience(auth, resource);
    /* RFC 3986 section 6.2.3: an empty path is the same as "/". */
    if (error == 0 && uri_parse(resource, &uri, NULL) == 0 && !uri.has_query) {
        if (uri.path.len == 0) {
            buf_append(&url, resource);
            buf_append_byte(&url, '/');
            error = buf_error(&url) != 0 ? buf_error(&url) : add_audience(auth, buf_slice(&url));
        } else if (slice_eq(uri.path, SLICE("/"))) {
            error = add_audience(auth, slice_sub(resource, 0, resource.len - 1));
        }
    }
    buf_reset(&url, KIB(1));
    if (error == 0)
        error = config_endpoint_url(config, config->mcp_path, &url);
    return error != 0 ? error : add_audience(auth, buf_slice(&url));
}

static int make_identities(struct auth *auth) {
    const struct config *config = auth->config;
    auth->local = secret_identity(auth, AUTH_LOCAL, "local", auth->local_secret);
    auth->api = secret_identity(auth, AUTH_TOKEN, "token:MCP_API_TOKEN", auth->api_secret);
    if (auth->local == NULL || auth->api == NULL)
        return -ENOMEM;
    if (config->auth_anonymous || config->auth_none.len != 0) {
        auth->anonymous = secret_identity(auth, AUTH_ANONYMOUS, "anonymous", NULL);
        if (auth->anonymous == NULL)
            return -ENOMEM;
    }
    auth->tokens = mem_alloc((config->n_tokens + 1) * sizeof *auth->tokens);
    int error = auth->tokens != NULL ? 0 : -ENOMEM;
    for (size_t i = 0; i < config->n_tokens && error == 0; i++)
        error = make_token(auth, &config->tokens[i]);
    return error;
}

int auth_new(const struct auth_options *options, struct auth **ret_auth) {
    struct auth *auth = mem_alloc(sizeof *auth);
    if (auth == NULL)
        return -ENOMEM;
    arena_init(&auth->arena, LIMIT_URI * 8);
    /* Told apart by number, not by address: a new engine may lie where an old one was. */
    random_bytes(&auth->number, sizeof auth->number);
    auth->config = options->config;
    auth->oauth = options->oauth;
    auth->local_secret = options->local;
    auth->api_secret = options->api;
    int error = make_identities(auth);
    if (error == 0)
        error = make_audiences(auth);
    if (error != 0) {
        auth_free(auth);
        return error;
    }
    *ret_auth = auth;
    return 0;
}

struct auth *auth_free(struct auth *auth) {
    if (auth == NULL)
        return NULL;
    for (size_t i = 0; i < auth->n_tokens; i++)
        auth_identity_unref(auth->tokens[i].identity);
    auth_identity_unref(auth->local);
    auth_identity_unref(auth->api);
    auth_identity_unref(auth->anonymous);
    mem_free(auth->tokens);
    arena_deinit(&auth->arena);
    mem_free(auth);
    return NULL;
}
