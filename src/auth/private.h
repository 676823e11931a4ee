/*
 * What the files of auth/ share. A request goes through them so:
 *
 *     check.c     which credential there is, and what it proves
 *     bearer.c    JWTs        memory.c  those that were verified lately
 *     claims.c    what their claims say of the caller
 *     fields.c    what a trusted proxy says of the caller
 *     identity.c  identities themselves
 *     engine.c    what is made of a configuration once
 */
#pragma once

#include "auth/auth.h"
#include "base/limits.h"

enum { AUTH_DIGEST = 32 }; /* SHA-256 */

struct auth_token {
    const struct config_token *config;
    unsigned char digest[AUTH_DIGEST];
    struct auth_identity *identity;
};

struct auth {
    uint64_t number; /* by chance: no other engine of the process has it */
    const struct config *config;
    struct oauth *oauth;
    const struct secret *local_secret, *api_secret;
    struct auth_identity *local, *anonymous, *api;
    struct auth_token *tokens;
    size_t n_tokens;
    /* Audiences that stand for every endpoint: the resource, with and without the slash that an
     * empty path may be written with, and the merged endpoint. */
    struct slice audiences[3];
    size_t n_audiences;
    struct arena arena; /* of these */
};

/* identity.c */

/* What an identity is made of. Slices are copied. */
struct auth_draft {
    enum auth_kind kind;
    struct slice principal, name, client_id, token_id, proof, endpoint;
    const struct slice *groups, *scopes, *servers, *audiences;
    size_t n_groups, n_scopes, n_servers, n_audiences;
    enum auth_groups_state groups_state;
    bool has_unknown_group, has_all_scopes, has_servers, depends_on_request;
    uint64_t ends_wall_ms;
    uint64_t engine;
    const struct oauth_issuer *issuer;
    uint64_t keys_generation, forget_ms;
    struct policy_rights *rights; /* stays whose it is */
    const struct slice *roles;
    size_t n_roles;
    uint64_t directory;
};

/* NULL: no memory. */
struct auth_identity *identity_new(const struct auth_draft *draft);
/* The draft of which the identity could have been made; it points into it. */
struct auth_draft identity_draft(const struct auth_identity *identity);
/* A part of a principal that others may have chosen: spaces, which stand between parts, are
 * written as "%20", so that no part looks like two. */
void principal_append(struct buf *principal, struct slice part);

/* memory.c */

/* The digest of a token and of the certificate that it came with (NULL: none). False: no memory. */
MUST_CHECK bool memory_digest(struct auth_memory *memory, struct slice token,
                              const unsigned char *certificate,
                              unsigned char ret_digest[static AUTH_DIGEST]);
/* With a reference, or NULL. */
struct auth_identity *memory_find(struct auth_memory *memory,
                                  const unsigned char digest[static AUTH_DIGEST]);
/* Takes a reference; forgets the one that was used longest ago when it is full. */
void memory_keep(struct auth_memory *memory, const unsigned char digest[static AUTH_DIGEST],
                 struct auth_identity *identity);
void memory_drop(struct auth_memory *memory, const unsigned char digest[static AUTH_DIGEST]);
size_t memory_count(const struct auth_memory *memory);
/* A buffer for one token's parts. */
struct buf *memory_scratch(struct auth_memory *memory);

/* claims.c */

/* Where claims are put together, until the identity is made. */
struct auth_claims {
    struct arena arena;
    struct slice subject; /* with "client:" before it when it is no `sub` */
    bool is_client;       /* it is none */
    struct slice client_id;
    struct slice token_id; /* its `jti`, when that is fit to be shown */
    struct slice groups[LIMIT_GROUPS];
    size_t n_groups;
    struct slice scopes[LIMIT_GROUPS];
    size_t n_scopes;
    struct slice
        audiences[LIMIT_AUDIENCES]; /* of more, the first: who is not among them gets none */
    size_t n_audiences;
    enum auth_groups_state groups_state;
    bool has_unknown_group;
    bool lacks_memory;
};

/* Reads what the claims say. AUTH_OK, AUTH_INVALID, AUTH_NO_CLIENT, AUTH_BAD_GROUP, AUTH_NO_MEMORY.
 */
enum auth_verdict claims_read(const struct config *config, struct json_reader *reader,
                              struct slice document, const unsigned char *certificate_digest,
                              struct auth_claims *claims, const char **ret_reason);
/* Sorts groups, drops repetitions and those that are not in group_values. False: all that there
 * were are outside of these. */
bool groups_settle(const struct config_identification *identification, struct slice *groups,
                   size_t *n_groups, bool *ret_has_unknown);
/* No spaces alone, not too long, no control characters. */
bool client_id_is_fine(struct slice id);

/* bearer.c */

/* `scratch` is for the parts of the token. */
enum auth_verdict bearer_check(struct auth *auth, struct buf *scratch, struct json_reader *reader,
                               const struct auth_request *request, struct slice token,
                               const unsigned char token_digest[static AUTH_DIGEST],
                               uint64_t now_wall_ms, uint64_t now_ms, bool is_last,
                               struct auth_answer *answer);

/* fields.c */

/* Applies client_identification by header: *identity becomes another one where that says more. */
enum auth_verdict fields_apply(const struct auth *auth, const struct auth_request *request,
                               struct auth_identity **identity, const char **ret_reason);
