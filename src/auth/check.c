/* Which credential a request has, and what it proves. */
#include "private.h"

static bool is_loopback(const struct network *address) {
    static const unsigned char v6[16] = {[15] = 1};
    if (address->family_bits == NETWORK_V4_BITS)
        return address->bytes[0] == 127;
    return address->family_bits == NETWORK_V6_BITS && memcmp(address->bytes, v6, sizeof v6) == 0;
}

/* The difference of eight bytes: of any alignment. */
static uint64_t word_difference(const char *a, const char *b) {
    uint64_t left UNCLEARED, right UNCLEARED;
    memcpy(&left, a, sizeof left);
    memcpy(&right, b, sizeof right);
    return left ^ right;
}

/* Constant time in the content, and many bytes at a time: this happens with every request. */
static bool is_same(struct slice a, struct slice b) {
    uint64_t difference = 0;
    size_t i = 0;
    if (a.len != b.len)
        return false;
    for (; i + 32 <= a.len; i += 32)
        difference |= word_difference(a.ptr + i, b.ptr + i) |
                      word_difference(a.ptr + i + 8, b.ptr + i + 8) |
                      word_difference(a.ptr + i + 16, b.ptr + i + 16) |
                      word_difference(a.ptr + i + 24, b.ptr + i + 24);
    for (; i < a.len; i++)
        difference |= (unsigned char)(a.ptr[i] ^ b.ptr[i]);
    return difference == 0;
}

bool auth_still_holds(const struct auth *auth, const struct auth_identity *identity,
                      struct slice authorization, struct slice endpoint, uint64_t directory_number,
                      uint64_t now_wall_ms, uint64_t now_ms) {
    return identity->engine == auth->number && !identity->depends_on_request &&
           (identity->directory == 0 || identity->directory == directory_number) &&
           now_wall_ms < identity->ends_wall_ms && now_ms < identity->forget_ms &&
           (identity->issuer == NULL ||
            oauth_generation(identity->issuer) == identity->keys_generation) &&
           (identity->endpoint.len == 0 || slice_eq(identity->endpoint, endpoint)) &&
           (identity->proof.len != 0) == (authorization.ptr != NULL) &&
           is_same(identity->proof, authorization);
}

static enum auth_verdict answer_with(struct auth_identity *identity, struct auth_answer *answer) {
    answer->identity = auth_identity_ref(identity);
    return AUTH_OK;
}

static enum auth_verdict refuse(const char *reason, struct auth_answer *answer) {
    answer->reason = reason;
    return AUTH_INVALID;
}

/* The local token is for those who can read it here. Behind a trusted proxy the caller's address is
 * what the proxy says, which may be another one next time; and 127.0.0.1 is this machine only when
 * the proxy is on it, too. */
static enum auth_verdict check_local(const struct auth *auth, const struct auth_request *request,
                                     struct auth_answer *answer) {
    if (!is_loopback(&request->client) ||
        (request->peer.family_bits != 0 && !is_loopback(&request->peer)))
        return refuse("this token works on the gateway's own machine only; make one with: cardea "
                      "token new NAME",
                      answer);
    if (!request->is_from_proxy)
        return answer_with(auth->local, answer);
    struct auth_draft draft = identity_draft(auth->local);
    draft.depends_on_request = true;
    answer->identity = identity_new(&draft);
    return answer->identity != NULL ? AUTH_OK : AUTH_NO_MEMORY;
}

/* All are compared, so that how long it takes tells nothing of which one it is. */
static const struct auth_token *find_token(const struct auth *auth,
                                           const unsigned char digest[static AUTH_DIGEST]) {
    const struct auth_token *found = NULL;
    for (size_t i = 0; i < auth->n_tokens; i++) {
        if (is_same(slice_make(auth->tokens[i].digest, AUTH_DIGEST),
                    slice_make(digest, AUTH_DIGEST)))
            found = &auth->tokens[i];
    }
    return found;
}

/* A token of the configuration, as it came: the identity that is remembered knows the field. */
static enum auth_verdict check_token(const struct auth_token *token,
                                     const struct auth_request *request, uint64_t now_wall_ms,
                                     struct auth_answer *answer) {
    if (now_wall_ms >= token->identity->ends_wall_ms)
        return refuse("the token has expired", answer);
    struct auth_draft draft = identity_draft(token->identity);
    draft.proof = request->authorization;
    draft.token_id = token->identity->name;
    answer->identity = identity_new(&draft);
    return answer->identity != NULL ? AUTH_OK : AUTH_NO_MEMORY;
}

/*
 * A token of a user of the store. It is looked up by its digest, which nobody can choose the bits
 * of: how long that takes says nothing about tokens that are there. NULL: no memory.
 */
static struct auth_identity *user_identity(const struct auth *auth,
                                           const struct auth_request *request,
                                           const struct directory_token *token) {
    struct buf principal CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    enum { PART_OF_ID = 8 };
    /* A name may be another person's one day. */
    buf_append_cstr(&principal, "user:");
    principal_append(&principal, token->user_name);
    buf_append_byte(&principal, '~');
    principal_append(&principal, slice_sub(token->user_id, 0, PART_OF_ID));
    struct auth_draft draft = {
        .kind = AUTH_USER,
        .principal = buf_slice(&principal),
        .name = token->user_name,
        .client_id = token->user_name,
        .token_id = slice_from_cstr(token->id),
        .proof = request->authorization,
        .groups = token->roles,
        .n_groups = token->n_roles,
        .groups_state = token->n_roles != 0 ? AUTH_GROUPS_FINE : AUTH_GROUPS_NONE,
        .has_all_scopes = true,
        .ends_wall_ms = token->expires_ms,
        .engine = auth->number,
        .forget_ms = UINT64_MAX,
        .rights = token->rights,
        .roles = token->roles,
        .n_roles = token->n_roles,
        .directory = request->directory_number,
    };
    return buf_error(&principal) == 0 ? identity_new(&draft) : NULL;
}

static enum auth_verdict check_user(const struct auth *auth, const struct auth_request *request,
                                    const struct directory_token *token, uint64_t now_wall_ms,
                                    struct auth_answer *answer) {
    if (now_wall_ms >= token->expires_ms)
        return refuse("the token has expired", answer);
    if (request->is_silent)
        return refuse("the store does not answer, and without it the gateway cannot know whether "
                      "this token still holds; try again later",
                      answer);
    answer->identity = user_identity(auth, request, token);
    return answer->identity != NULL ? AUTH_OK : AUTH_NO_MEMORY;
}

/* What roles the groups of an OAuth caller have in the store. */
static enum auth_verdict add_rights(const struct auth_request *request,
                                    struct auth_identity **identity) {
    enum { MOST_ROLES = 64 };
    struct slice roles[MOST_ROLES];
    size_t n_roles = 0;
    if ((*identity)->kind != AUTH_OAUTH || request->directory == NULL)
        return AUTH_OK;
    struct auth_draft draft = identity_draft(*identity);
    struct policy_rights *rights = NULL;
    if (directory_group_rights(request->directory, draft.groups, draft.n_groups, &rights, roles,
                               MOST_ROLES, &n_roles) != 0) {
        *identity = auth_identity_unref(*identity);
        return AUTH_NO_MEMORY;
    }
    draft.rights = rights;
    draft.roles = roles;
    draft.n_roles = n_roles;
    draft.directory = request->directory_number;
    struct auth_identity *made = identity_new(&draft);
    policy_rights_unref(rights);
    auth_identity_unref(*identity);
    *identity = made;
    return made != NULL ? AUTH_OK : AUTH_NO_MEMORY;
}

/* RFC 7515 section 7.1. */
static bool looks_like_jwt(struct slice token) {
    size_t dots = 0;
    for (size_t i = 0; i < token.len; i++)
        dots += token.ptr[i] == '.';
    return dots >= 2;
}

struct times {
    uint64_t wall_ms, ms;
    bool is_last;
};

/* Remembered by the whole digest, until it ends, its issuer's keys or the engine change, or five
 * minutes are over. */
static enum auth_verdict check_bearer(struct auth *auth, struct auth_memory *memory,
                                      struct json_reader *reader,
                                      const struct auth_request *request, struct slice token,
                                      const struct times *times, struct auth_answer *answer) {
    unsigned char digest[AUTH_DIGEST];
    if (auth->local_secret != NULL && secret_equals(auth->local_secret, token))
        return check_local(auth, request, answer);
    if (auth->api_secret != NULL && secret_equals(auth->api_secret, token))
        return answer_with(auth->api, answer);
    if (!memory_digest(memory, token, request->certificate_digest, digest))
        return AUTH_NO_MEMORY;
    struct auth_identity *known = memory_find(memory, digest);
    if (known != NULL && auth_still_holds(auth, known, request->authorization, request->endpoint,
                                          request->directory_number, times->wall_ms, times->ms)) {
        answer->identity = known;
        return AUTH_OK;
    }
    /* Proved before, and only the picture of the store is another one: that is no login. */
    bool was_known = known != NULL && known->engine == auth->number && known->directory != 0;
    auth_identity_unref(known);
    enum auth_verdict verdict;
    unsigned char plain[AUTH_DIGEST];
    if (!memory_digest(memory, token, NULL, plain))
        return AUTH_NO_MEMORY;
    const struct auth_token *configured = find_token(auth, plain);
    const struct directory_token *of_user = configured == NULL && request->directory != NULL
                                                ? directory_find_token(request->directory, plain)
                                                : NULL;
    if (configured != NULL)
        verdict = check_token(configured, request, times->wall_ms, answer);
    else if (of_user != NULL)
        verdict = check_user(auth, request, of_user, times->wall_ms, answer);
    else if (auth->oauth != NULL && looks_like_jwt(token))
        verdict = bearer_check(auth, memory_scratch(memory), reader, request, token, plain,
                               times->wall_ms, times->ms, times->is_last, answer);
    else
        verdict = refuse("the bearer token is not valid", answer);
    if (verdict == AUTH_OK) {
        memory_keep(memory, digest, answer->identity);
        answer->is_new = !was_known;
    }
    return verdict;
}

/* RFC 6750 section 2.1: the scheme without case, one space or more, printable ASCII. */
static bool read_token(struct slice value, struct slice *ret_token) {
    struct slice scheme;
    if (!slice_cut(value, ' ', &scheme, ret_token) || !slice_eq_nocase(scheme, SLICE("bearer")))
        return false;
    *ret_token = slice_trim(*ret_token);
    for (size_t i = 0; i < ret_token->len; i++) {
        if (ret_token->ptr[i] <= 0x20 || ret_token->ptr[i] >= 0x7f)
            return false;
    }
    return ret_token->len != 0 && ret_token->len <= LIMIT_JWT;
}

static enum auth_verdict check_certificate(const struct auth *auth,
                                           const struct auth_request *request, uint64_t now_wall_ms,
                                           struct auth_answer *answer) {
    struct buf principal CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    if (!client_id_is_fine(request->certificate_name))
        return refuse("the client's certificate has no name, or one longer than 256 bytes, where "
                      "server.tls.client_identity looks for it",
                      answer);
    if (now_wall_ms >= request->certificate_ends_wall_ms)
        return refuse("the client's certificate has expired", answer);
    buf_append_cstr(&principal, "certificate:");
    principal_append(&principal, request->certificate_name);
    struct auth_draft draft = {
        .kind = AUTH_CERTIFICATE,
        .principal = buf_slice(&principal),
        .name = request->certificate_name,
        .client_id = request->certificate_name,
        .ends_wall_ms = request->certificate_ends_wall_ms,
        .forget_ms = UINT64_MAX,
        .engine = auth->number,
    };
    answer->identity = buf_error(&principal) == 0 ? identity_new(&draft) : NULL;
    answer->is_new = true;
    return answer->identity != NULL ? AUTH_OK : AUTH_NO_MEMORY;
}

static enum auth_verdict check_credential(struct auth *auth, struct auth_memory *memory,
                                          struct json_reader *reader,
                                          const struct auth_request *request,
                                          const struct times *times, struct auth_answer *answer) {
    struct slice token;
    if (request->n_authorization > 1) {
        answer->reason = "there must be one Authorization field";
        return AUTH_MALFORMED;
    }
    if (request->n_authorization == 1) {
        if (!read_token(request->authorization, &token))
            return refuse("Authorization must be: Bearer TOKEN", answer);
        return check_bearer(auth, memory, reader, request, token, times, answer);
    }
    if (request->certificate_digest != NULL)
        return check_certificate(auth, request, times->wall_ms, answer);
    if (auth->anonymous != NULL)
        return answer_with(auth->anonymous, answer);
    answer->reason = "a bearer token is required: Authorization: Bearer TOKEN";
    return AUTH_MISSING;
}

enum auth_verdict auth_check(struct auth *auth, struct auth_memory *memory,
                             struct json_reader *reader, const struct auth_request *request,
                             uint64_t now_wall_ms, uint64_t now_ms, bool is_last,
                             struct auth_answer *ret_answer) {
    struct auth_answer answer = {.reason = ""};
    const struct times times = {.wall_ms = now_wall_ms, .ms = now_ms, .is_last = is_last};
    enum auth_verdict verdict = check_credential(auth, memory, reader, request, &times, &answer);
    if (verdict == AUTH_OK)
        verdict = fields_apply(auth, request, &answer.identity, &answer.reason);
    if (verdict == AUTH_OK)
        verdict = add_rights(request, &answer.identity);
    if (verdict == AUTH_NO_MEMORY)
        answer.reason = "the gateway is out of memory";
    if (verdict != AUTH_OK)
        answer.identity = auth_identity_unref(answer.identity);
    *ret_answer = answer;
    return verdict;
}
