/*
 * What is fetched from authorization servers and from servers that name them (fetch.c), where it
 * lies (metadata.c) and what it says (metadata.c, resource.c).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "client/client.h"
#include "http/message.h"
#include "http/uri.h"
#include "json/reader.h"

enum { OAUTH_REASON = 200 };
enum { OAUTH_E_INVALID = 1, OAUTH_E_END = 2 };

/* --- fetch.c: one document, one answer --- */

enum oauth_got {
    OAUTH_GOT_DOCUMENT, /* in `body`, `lifetime_ms`; of a form also with status 4xx, in `status` */
    OAUTH_GOT_ANOTHER,  /* `reason`; another address of the same server may do better */
    OAUTH_GOT_NOTHING,  /* `reason`; it would not */
};

struct oauth_fetch {
    struct client *client;
    struct slice version;       /* NUL-terminated; the owner's, as all of these */
    struct client_rules *rules; /* for addresses that others name; NULL: anything goes */
    void (*on_done)(void *context, enum oauth_got got);
    void *context;
    /* Of the server that is asked with GET, as long as it is that one. */
    struct io_tls *tls;
    struct slice proxy;

    struct client_target *target; /* of the last request */
    struct client_call *call;     /* NULL: none runs */
    struct buf url;               /* of the last request */
    struct buf body;
    uint64_t lifetime_ms;
    unsigned n_redirects;
    uint16_t status; /* 0: there was none */
    bool is_post;
    bool is_found;      /* the URL goes by the rules */
    bool is_for_stored; /* every URL does: an upstream of the store names no exempt ones */
    bool is_absent;     /* 404 and the like: the least that can be said */
    bool is_unreached;  /* no connection came about */
    char reason[OAUTH_REASON];
};

void oauth_fetch_init(struct oauth_fetch *fetch, size_t max_body);
/* on_done is called once, never from inside; unless it is stopped. -ENOMEM; OAUTH_E_INVALID with
 * `reason`: no request can be made to that URL. */
MUST_CHECK int oauth_fetch_get(struct oauth_fetch *fetch, struct slice url, bool is_found);
MUST_CHECK int oauth_fetch_post(struct oauth_fetch *fetch, struct slice url, bool is_found,
                                struct slice authorization, struct slice form);
void oauth_fetch_stop(struct oauth_fetch *fetch);
/* Gives the body back; wiped when it may hold a token. */
void oauth_fetch_forget(struct oauth_fetch *fetch);
void oauth_fetch_deinit(struct oauth_fetch *fetch);

/* How long an answer may be used, by its Cache-Control and Age (RFC 9111 sections 4.2, 5.2): in
 * schedule.c. */
uint64_t oauth_lifetime(const struct http_head *head);

/* For CLEANUP(): overwrites what is in the buffer, and frees it. */
void oauth_wipe(struct buf *buf);

/* --- metadata.c: of authorization servers --- */

/*
 * Appends the n-th address at which the metadata of `issuer` may be. OAUTH_E_END: there are no more
 * than n; OAUTH_E_INVALID: the issuer is no URL that discovery knows; or the error of the buffer.
 */
MUST_CHECK int oauth_candidate(struct slice issuer, unsigned n, struct buf *out);

enum oauth_endpoint { OAUTH_JWKS_URI, OAUTH_TOKEN_ENDPOINT };

/* What token_endpoint_auth_methods_supported has of what we can do. */
enum {
    OAUTH_METHOD_BASIC = 1,
    OAUTH_METHOD_POST = 2,
    OAUTH_METHOD_KEY = 4,
    OAUTH_METHOD_NONE = 8,
};

struct oauth_metadata {
    bool has_methods;
    unsigned methods; /* OAUTH_METHOD_ */
    bool has_grants;  /* grant_types_supported, and ... */
    bool has_client_credentials, has_exchange;
};

/* Appends the endpoint. OAUTH_E_INVALID: it is not to be used, *ret_reason says why; -ENOMEM.
 * `ret_metadata` may be NULL. */
MUST_CHECK int oauth_metadata_read(struct json_reader *reader, struct slice document,
                                   struct slice issuer, enum oauth_endpoint endpoint,
                                   struct buf *out, struct oauth_metadata *ret_metadata,
                                   const char **ret_reason);

/* --- resource.c: of servers (RFC 9728) --- */

/* As oauth_candidate(), of the server at `url`. */
MUST_CHECK int oauth_resource_candidate(struct slice url, unsigned n, struct buf *out);

struct oauth_resource_wanted {
    struct slice url;      /* of the server */
    struct slice resource; /* by which it is configured */
    struct slice issuer;   /* has to be among its authorization servers; empty: any */
};

/*
 * Appends the issuer to `issuer` (the wanted one, or the first that is a URL; nothing when it is
 * known and the document names none at all) and its scopes to `scopes`. OAUTH_E_INVALID: it is no
 * metadata; OAUTH_E_END: it is, but not of this server or with other authorization servers, and no
 * other document will do. *ret_reason says why. -ENOMEM.
 */
MUST_CHECK int oauth_resource_read(struct json_reader *reader, struct slice document,
                                   const struct oauth_resource_wanted *wanted, struct buf *issuer,
                                   struct buf *scopes, const char **ret_reason);

/* --- scope.c: sets of scopes, as they are written (RFC 6749 section 3.3): "a b c" --- */

enum { OAUTH_SCOPES_TEXT = 4096 };

/* Adds those that the set lacks, at most LIMIT_SCOPES in all. OAUTH_E_INVALID: one of them is none,
 * or they are too many (the set has grown then, or not). Or the error of the buffer. */
MUST_CHECK int oauth_scopes_add(struct buf *set, struct slice scopes);
bool oauth_scopes_has(struct slice set, struct slice scopes);
