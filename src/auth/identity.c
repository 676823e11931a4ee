#include <stdlib.h>

#include "base/mem.h"
#include "private.h"

/* Its strings: names of groups and scopes, and a token. */
#define IDENTITY_BYTES MIB(1)

void principal_append(struct buf *principal, struct slice part) {
    for (size_t i = 0; i < part.len; i++) {
        if (part.ptr[i] == ' ')
            buf_append_cstr(principal, "%20");
        else if (part.ptr[i] == '%')
            buf_append_cstr(principal, "%25");
        else
            buf_append_byte(principal, part.ptr[i]);
    }
}

static struct slice *copy_list(struct arena *arena, const struct slice *list, size_t n) {
    struct slice *copy = arena_alloc_array(arena, n + 1, sizeof *copy);
    for (size_t i = 0; copy != NULL && i < n; i++)
        copy[i] = arena_dup(arena, list[i]);
    return copy;
}

struct auth_identity *identity_new(const struct auth_draft *draft) {
    struct auth_identity *identity = mem_alloc(sizeof *identity);
    if (identity == NULL)
        return NULL;
    struct arena *arena = &identity->arena;
    arena_init(arena, IDENTITY_BYTES);
    atomic_init(&identity->refs, 1);
    identity->kind = draft->kind;
    identity->principal = arena_dup(arena, draft->principal);
    identity->name = arena_dup(arena, draft->name);
    identity->client_id = arena_dup(arena, draft->client_id);
    identity->token_id = arena_dup(arena, draft->token_id);
    identity->proof = arena_dup(arena, draft->proof);
    identity->endpoint = arena_dup(arena, draft->endpoint);
    identity->groups = copy_list(arena, draft->groups, draft->n_groups);
    identity->n_groups = draft->n_groups;
    identity->scopes = copy_list(arena, draft->scopes, draft->n_scopes);
    identity->n_scopes = draft->n_scopes;
    identity->audiences = copy_list(arena, draft->audiences, draft->n_audiences);
    identity->n_audiences = draft->n_audiences;
    identity->servers = copy_list(arena, draft->servers, draft->n_servers);
    identity->n_servers = draft->n_servers;
    identity->groups_state = draft->groups_state;
    identity->has_unknown_group = draft->has_unknown_group;
    identity->has_all_scopes = draft->has_all_scopes;
    identity->has_servers = draft->has_servers;
    identity->depends_on_request = draft->depends_on_request;
    identity->ends_wall_ms = draft->ends_wall_ms;
    identity->engine = draft->engine;
    identity->issuer = draft->issuer;
    identity->keys_generation = draft->keys_generation;
    identity->forget_ms = draft->forget_ms;
    identity->rights = draft->rights != NULL ? policy_rights_ref(draft->rights) : NULL;
    identity->roles = copy_list(arena, draft->roles, draft->n_roles);
    identity->n_roles = draft->n_roles;
    identity->directory = draft->directory;
    return arena_failed(arena) ? auth_identity_unref(identity) : identity;
}

struct auth_draft identity_draft(const struct auth_identity *identity) {
    return (struct auth_draft){
        .kind = identity->kind,
        .principal = identity->principal,
        .name = identity->name,
        .client_id = identity->client_id,
        .token_id = identity->token_id,
        .proof = identity->proof,
        .endpoint = identity->endpoint,
        .groups = identity->groups,
        .n_groups = identity->n_groups,
        .scopes = identity->scopes,
        .n_scopes = identity->n_scopes,
        .audiences = identity->audiences,
        .n_audiences = identity->n_audiences,
        .servers = identity->servers,
        .n_servers = identity->n_servers,
        .groups_state = identity->groups_state,
        .has_unknown_group = identity->has_unknown_group,
        .has_all_scopes = identity->has_all_scopes,
        .has_servers = identity->has_servers,
        .depends_on_request = identity->depends_on_request,
        .ends_wall_ms = identity->ends_wall_ms,
        .engine = identity->engine,
        .issuer = identity->issuer,
        .keys_generation = identity->keys_generation,
        .forget_ms = identity->forget_ms,
        .rights = identity->rights,
        .roles = identity->roles,
        .n_roles = identity->n_roles,
        .directory = identity->directory,
    };
}

struct auth_identity *auth_identity_ref(struct auth_identity *identity) {
    atomic_fetch_add(&identity->refs, 1);
    return identity;
}

struct auth_identity *auth_identity_unref(struct auth_identity *identity) {
    if (identity == NULL || atomic_fetch_sub(&identity->refs, 1) != 1)
        return NULL;
    if (identity->proof.len != 0)
        secret_wipe((void *)(uintptr_t)identity->proof.ptr, identity->proof.len);
    policy_rights_unref(identity->rights);
    arena_deinit(&identity->arena);
    mem_free(identity);
    return NULL;
}

bool auth_list_has(const struct slice *list, size_t n, struct slice item) {
    for (size_t i = 0; i < n; i++) {
        if (slice_eq(list[i], item))
            return true;
    }
    return false;
}

bool auth_may_use_server(const struct auth_identity *identity, struct slice server) {
    return !identity->has_servers || auth_list_has(identity->servers, identity->n_servers, server);
}

struct slice auth_access_token(const struct auth_identity *identity) {
    struct slice scheme, token = SLICE_EMPTY;
    if (identity->kind != AUTH_OAUTH || !slice_cut(identity->proof, ' ', &scheme, &token))
        return SLICE_EMPTY;
    return slice_trim(token);
}

bool auth_has_scopes(const struct auth_identity *identity, const struct slice *scopes, size_t n) {
    for (size_t i = 0; i < n && !identity->has_all_scopes; i++) {
        if (!auth_list_has(identity->scopes, identity->n_scopes, scopes[i]))
            return false;
    }
    return true;
}
