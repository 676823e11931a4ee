/*
 * Who is calling: credentials of a request into an identity, by one configuration. Bearer tokens
 * are the local one (of the data directory, from this machine only), API tokens of the
 * configuration and of MCP_API_TOKEN, tokens of users of the store, and JWTs of the configured
 * issuers; without one, the
 * certificate of a client, or nobody where the configuration lets nobody in. A credential that is
 * wrong is never taken for none.
 *
 * Nothing here knows of HTTP connections or MCP. An engine (struct auth) is made of one
 * configuration and is immutable; each worker has a memory of its own (struct auth_memory) of what
 * it has verified lately.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accounts/directory.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/network.h"
#include "base/secret.h"
#include "base/slice.h"
#include "config/config.h"
#include "json/reader.h"
#include "oauth/oauth.h"

/* --- identities --- */

enum auth_kind {
    AUTH_ANONYMOUS,
    AUTH_LOCAL,
    AUTH_TOKEN, /* of the configuration, and MCP_API_TOKEN */
    AUTH_USER,  /* of a user of the store */
    AUTH_OAUTH,
    AUTH_CERTIFICATE
};

enum auth_groups_state { AUTH_GROUPS_NONE, AUTH_GROUPS_FINE, AUTH_GROUPS_MALFORMED };

/*
 * What one verified credential says of its owner. Immutable, counted, any thread. All strings are
 * NUL-terminated slices in its own memory.
 */
struct auth_identity {
    enum auth_kind kind;
    /* Whose state it is: connections, sessions, children and caches belong to it. Unique over all
     * kinds of credentials and all issuers: "local", "token:NAME", "oauth:ISSUER SUBJECT", ... */
    struct slice principal;
    struct slice name;      /* for people: the subject, the token's name, the certificate's */
    struct slice client_id; /* by client_identification; else the name */
    struct slice token_id;  /* for records: its `jti` or a part of its digest; a token's name */
    struct slice *groups;   /* sorted, without repetitions */
    size_t n_groups;
    enum auth_groups_state groups_state;
    bool has_unknown_group; /* one outside of group_values; it is not among `groups` */
    struct slice *scopes;
    size_t n_scopes;
    bool has_all_scopes;     /* the owner of the machine */
    struct slice *audiences; /* of an access token: all that it names, ours among them */
    size_t n_audiences;
    bool has_servers; /* may use `servers` only */
    struct slice *servers;
    size_t n_servers;
    uint64_t ends_wall_ms; /* not valid from then on; UINT64_MAX: never */
    /* For the same credential on the same connection, see auth_still_holds(). */
    struct slice proof;      /* the Authorization value that it was made of; empty: none */
    bool depends_on_request; /* on more than that: other fields, or the client's address */
    struct slice endpoint;   /* an audience that names one: for its path only; empty: for all */
    /* What roles of the store give: those of the user, of an OAuth caller those that groups have.
     * NULL: roles say nothing about this caller. A reference. */
    struct policy_rights *rights;
    struct slice *roles; /* their names, sorted */
    size_t n_roles;
    /* Of the picture of the store that this was made with; 0: none of it depends on the store. */
    uint64_t directory;
    /* Private. */
    atomic_uint refs;
    struct arena arena;
    uint64_t engine; /* the number of the engine that made it */
    const struct oauth_issuer *issuer;
    uint64_t keys_generation, forget_ms;
};

struct auth_identity *auth_identity_ref(struct auth_identity *identity);
struct auth_identity *auth_identity_unref(struct auth_identity *identity);
bool auth_may_use_server(const struct auth_identity *identity, struct slice server);
bool auth_list_has(const struct slice *list, size_t n, struct slice item);
/* The access token itself, for servers that its audience names, too; empty: there is none. */
struct slice auth_access_token(const struct auth_identity *identity);
/* All of these scopes. */
bool auth_has_scopes(const struct auth_identity *identity, const struct slice *scopes, size_t n);

/* --- engines --- */

struct auth;

struct auth_options {
    const struct config *config; /* outlives it */
    const struct secret *local;  /* the token of the data directory; NULL: there is none */
    const struct secret *api;    /* MCP_API_TOKEN; NULL: not set */
    struct oauth *oauth;         /* outlives it; NULL: no issuers */
};

MUST_CHECK int auth_new(const struct auth_options *options, struct auth **ret_auth);
struct auth *auth_free(struct auth *auth);

/* A request's credentials and where they come from. */
struct auth_request {
    struct slice authorization; /* the field's value; ptr NULL: there is none */
    size_t n_authorization;     /* how many such fields */
    struct network client;      /* by client_ip */
    struct network peer;        /* who is connected to us; without bits: the client */
    bool is_from_proxy;         /* the connection comes from a trusted proxy: its headers count */
    struct slice endpoint;      /* the path, for the audience */
    /* How many fields of that name the request has, and the value of the first. */
    size_t (*field)(void *context, struct slice name, struct slice *ret_value);
    void *field_context;
    struct slice certificate_name;           /* by tls.client_identity; ptr NULL: no certificate */
    const unsigned char *certificate_digest; /* 32 bytes, or NULL */
    uint64_t certificate_ends_wall_ms;       /* of the same */
    const struct directory *directory;       /* users of the store, as last heard; NULL: no store */
    uint64_t directory_number; /* another one for each, and for silence; 0: no store */
    bool is_silent; /* the store has not been heard for too long: its tokens are refused */
};

enum auth_verdict {
    AUTH_OK,
    AUTH_MISSING,    /* 401 without an error code */
    AUTH_MALFORMED,  /* 400 invalid_request: two fields, another scheme */
    AUTH_INVALID,    /* 401 invalid_token */
    AUTH_NO_CLIENT,  /* 400: client_identification needs an identity and there is none */
    AUTH_BAD_GROUP,  /* 400: a group outside of group_values */
    AUTH_NEEDS_KEYS, /* newer keys of *ret_issuer may help: oauth_wait_for_keys(), then again */
    AUTH_NO_MEMORY,
};

struct auth_answer {
    struct auth_identity *identity; /* AUTH_OK: a reference */
    struct oauth_issuer *issuer;    /* AUTH_NEEDS_KEYS, with: */
    uint64_t keys_generation;       /* of the keys that did not do */
    bool is_new; /* AUTH_OK: the credential was proved now, and is not one that was remembered */
    const char *reason; /* the others: a fixed sentence for the caller */
};

/*
 * Whether the identity, made by auth_check() from the same connection's last Authorization field,
 * still holds for a request with this value. False: auth_check() has to look again. Cheap; constant
 * time in the value.
 */
bool auth_still_holds(const struct auth *auth, const struct auth_identity *identity,
                      struct slice authorization, struct slice endpoint, uint64_t directory_number,
                      uint64_t now_wall_ms, uint64_t now_ms);

/* What a worker remembers of tokens that it has verified. */
struct auth_memory;
MUST_CHECK int auth_memory_new(struct auth_memory **ret_memory);
struct auth_memory *auth_memory_free(struct auth_memory *memory);

/* `is_last`: there will be no newer keys; AUTH_INVALID in place of AUTH_NEEDS_KEYS. */
enum auth_verdict auth_check(struct auth *auth, struct auth_memory *memory,
                             struct json_reader *reader, const struct auth_request *request,
                             uint64_t now_wall_ms, uint64_t now_ms, bool is_last,
                             struct auth_answer *ret_answer);
