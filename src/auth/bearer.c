/*
 * JWTs of the configured issuers.
 *
 * The audience (RFC 9068 section 4, RFC 8707, MCP authorization): without expected_audience it has
 * to be the URL of this resource. One that names the resource or the merged endpoint is for all
 * endpoints; one that names the endpoint of a single server is for that alone.
 */
#include "base/base64.h"
#include "jose/jwt.h"
#include "private.h"

struct bearer {
    struct auth *auth;
    struct json_reader *reader;
    const struct auth_request *request;
    const unsigned char *token_digest;
    uint64_t now_wall_ms, now_ms;
    struct oauth_issuer *issuer;
    const struct config_issuer *config;
    uint64_t keys_generation;
    struct jwt jwt;
    struct slice endpoint; /* that its audience names alone; empty: all */
};

static unsigned allowed_algorithms(const struct config_issuer *config) {
    unsigned mask = config->n_algorithms == 0 ? JOSE_ALL_ALGORITHMS : 0;
    for (size_t i = 0; i < config->n_algorithms; i++) {
        enum jose_algorithm algorithm;
        if (jose_algorithm_parse(config->algorithms[i], &algorithm))
            mask |= 1u << algorithm;
    }
    return mask;
}

/* 0, JWT_E_REFUSED, JWT_E_UNKNOWN_KEY, -ENOMEM. */
static int verify(struct bearer *bearer, const char **ret_reason) {
    bool is_symmetric = bearer->jwt.algorithm >= JOSE_HS256;
    struct jose_keys *keys = oauth_keys(bearer->issuer, bearer->now_ms, &bearer->keys_generation);
    if (is_symmetric) {
        jose_keys_unref(keys);
        keys = oauth_secret_keys(bearer->issuer);
    }
    if (keys == NULL) {
        *ret_reason = is_symmetric ? "it is signed with a secret, and none is configured"
                                   : "the keys of its issuer are not available";
        return is_symmetric ? JWT_E_REFUSED : JWT_E_UNKNOWN_KEY;
    }
    int error = jwt_verify(&bearer->jwt, keys, allowed_algorithms(bearer->config), ret_reason);
    jose_keys_unref(keys);
    return error;
}

static int check_for(struct bearer *bearer, const struct slice *audiences, size_t n,
                     const char **ret_reason) {
    const struct jwt_rules rules = {
        .issuer = bearer->config->expected_issuer,
        .audiences = audiences,
        .n_audiences = n,
        .needs_at_jwt = bearer->config->token_type == CONFIG_TOKEN_AT_JWT,
        .leeway_s = bearer->config->leeway_ms / 1000,
    };
    return jwt_check(bearer->reader, &bearer->jwt, &rules, bearer->now_wall_ms / 1000, ret_reason);
}

static int check(struct bearer *bearer, const char **ret_reason) {
    const struct auth *auth = bearer->auth;
    if (bearer->config->expected_audience.len != 0)
        return check_for(bearer, &bearer->config->expected_audience, 1, ret_reason);
    if (auth->n_audiences == 0) { /* which would be: any */
        *ret_reason = "nothing says which audience is ours";
        return JWT_E_REFUSED;
    }
    int error = check_for(bearer, auth->audiences, auth->n_audiences, ret_reason);
    if (error != JWT_E_REFUSED)
        return error;
    struct buf url CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI * 2);
    const char *reason;
    if (config_endpoint_url(auth->config, bearer->request->endpoint, &url) != 0)
        return error;
    struct slice own = buf_slice(&url);
    int second = check_for(bearer, &own, 1, &reason);
    if (second == 0)
        bearer->endpoint = bearer->request->endpoint;
    return second == JWT_E_REFUSED ? error : second;
}

static uint64_t min(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* When it ends by its own words, leeway included; not after the end of time. */
static uint64_t end_of(const struct bearer *bearer) {
    return min(bearer->jwt.expires_s, UINT64_MAX / 2000) * 1000 + bearer->config->leeway_ms;
}

/* A user may be called "client:job", too. */
static void append_subject(struct buf *principal, const struct auth_claims *claims) {
    static const struct slice prefix = SLICE_INIT("client:");
    struct slice subject = claims->subject;
    if (!claims->is_client && slice_starts_with(subject, prefix)) {
        buf_append_cstr(principal, "client%3A");
        subject = slice_from(subject, prefix.len);
    }
    principal_append(principal, subject);
}

static enum auth_verdict make(struct bearer *bearer, const struct auth_claims *claims,
                              struct auth_identity **ret_identity) {
    struct buf principal CLEANUP(buf_deinit) = BUF_INIT(KIB(32));
    const struct config_issuer *config = bearer->config;
    struct slice issuer = config->expected_issuer.len != 0 ? config->expected_issuer
                          : config->url.len != 0           ? config->url
                                                           : SLICE("secret");
    buf_append_cstr(&principal, "oauth:");
    principal_append(&principal, issuer);
    if (config->expected_issuer.len == 0) { /* always, or a subject could stand in its place */
        buf_append_cstr(&principal, " iss:");
        principal_append(&principal, bearer->jwt.has_issuer ? bearer->jwt.issuer : SLICE_EMPTY);
    }
    buf_append_byte(&principal, ' ');
    append_subject(&principal, claims);
    if (!slice_eq(claims->client_id, claims->subject)) {
        buf_append_cstr(&principal, " client:");
        principal_append(&principal, claims->client_id);
    }
    enum { SHOWN = 9 }; /* bytes of the digest: enough to tell tokens apart */
    struct buf token_id CLEANUP(buf_deinit) = BUF_INIT(KIB(32));
    int error = claims->token_id.len != 0
                    ? buf_append(&token_id, claims->token_id)
                    : base64url_encode(&token_id, slice_make(bearer->token_digest, SHOWN));
    if (error != 0)
        return AUTH_NO_MEMORY;
    struct auth_draft draft = {
        .kind = AUTH_OAUTH,
        .principal = buf_slice(&principal),
        .name = claims->subject,
        .client_id = claims->client_id,
        .token_id = buf_slice(&token_id),
        .proof = bearer->request->authorization,
        .endpoint = bearer->endpoint,
        .groups = claims->groups,
        .n_groups = claims->n_groups,
        .scopes = claims->scopes,
        .n_scopes = claims->n_scopes,
        .audiences = claims->audiences,
        .n_audiences = claims->n_audiences,
        .groups_state = claims->groups_state,
        .has_unknown_group = claims->has_unknown_group,
        .ends_wall_ms = end_of(bearer),
        .engine = bearer->auth->number,
        .issuer = bearer->issuer,
        .keys_generation = bearer->keys_generation,
        .forget_ms = bearer->now_ms + LIMIT_KNOWN_TOKEN_MS,
    };
    *ret_identity = buf_error(&principal) == 0 ? identity_new(&draft) : NULL;
    return *ret_identity != NULL ? AUTH_OK : AUTH_NO_MEMORY;
}

static enum auth_verdict refuse(int error, const char *reason, struct auth_answer *answer) {
    answer->reason = error < 0 ? "the gateway is out of memory" : reason;
    return error < 0 ? AUTH_NO_MEMORY : AUTH_INVALID;
}

static enum auth_verdict identify(struct bearer *bearer, struct auth_answer *answer) {
    struct auth_claims claims = {.n_groups = 0};
    arena_init(&claims.arena, LIMIT_JWT * 8);
    enum auth_verdict verdict =
        claims_read(bearer->auth->config, bearer->reader, bearer->jwt.claims,
                    bearer->request->certificate_digest, &claims, &answer->reason);
    if (verdict == AUTH_OK)
        verdict = make(bearer, &claims, &answer->identity);
    arena_deinit(&claims.arena);
    return verdict;
}

enum auth_verdict bearer_check(struct auth *auth, struct buf *scratch, struct json_reader *reader,
                               const struct auth_request *request, struct slice token,
                               const unsigned char token_digest[static AUTH_DIGEST],
                               uint64_t now_wall_ms, uint64_t now_ms, bool is_last,
                               struct auth_answer *answer) {
    struct bearer bearer = {
        .auth = auth,
        .reader = reader,
        .request = request,
        .token_digest = token_digest,
        .now_wall_ms = now_wall_ms,
        .now_ms = now_ms,
    };
    const char *reason = "";
    int error = jwt_read(reader, token, scratch, &bearer.jwt, &reason);
    if (error != 0)
        return refuse(error, reason, answer);
    bearer.issuer = oauth_find(auth->oauth, bearer.jwt.has_issuer, bearer.jwt.issuer);
    if (bearer.issuer == NULL)
        return refuse(JWT_E_REFUSED, "its issuer is none that this gateway trusts", answer);
    bearer.config = oauth_issuer_config(bearer.issuer);
    error = verify(&bearer, &reason);
    if (error == JWT_E_UNKNOWN_KEY && !is_last) {
        answer->issuer = bearer.issuer;
        answer->keys_generation = bearer.keys_generation;
        return AUTH_NEEDS_KEYS;
    }
    if (error == 0)
        error = check(&bearer, &reason);
    return error != 0 ? refuse(error, reason, answer) : identify(&bearer, answer);
}
