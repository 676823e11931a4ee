/*
 * Tokens that the gateway gets for servers: with its own credentials (OAuth 2.1 section 4.2,
 * "client_credentials"), or for a caller's token (RFC 8693, "exchange").
 *
 * One `struct oauth_tokens` has what fetching needs, on one loop. A source is one server's: whom to
 * ask, as which client, for which resource; and the tokens it has got, each for one subject only:
 * for the gateway itself, or for one access token of one caller. They are kept until they end, were
 * not used for mcp.downstream_cache.idle_timeout, or there are more than its max_size; renewed in
 * the background while they are used and their end comes near; dropped when the server refuses
 * them.
 *
 * Whom to ask (MCP 2026-07-28, basic/authorization): the server's own metadata (RFC 9728) name its
 * authorization servers, and have to name the resource that it is. The configured issuer has to be
 * among them; without one the first that is used is kept, and no other one is ever shown the
 * credentials. The issuer's metadata (RFC 8414) have to name that very issuer. Everything that is
 * found so is dialled by the rules of client/rules.h.
 *
 * What an authorization server answers is hostile: size, time and forms are limited, token requests
 * follow no redirect, error texts do not go to callers.
 *
 * Threading: oauth_tokens_new() and _free() on the loop's thread (or before it runs, after it
 * stopped); the rest from any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"
#include "config/config.h"
#include "http/message.h"
#include "io/loop.h"
#include "io/tls.h"
#include "oauth/token.h"
#include "oauth/waiter.h"

struct oauth_tokens;
struct oauth_source;

struct oauth_tokens_options {
    struct io_loop *loop; /* where it fetches */
    struct log *log;
    struct io_tls *tls;   /* for https; a reference is taken; may be NULL */
    struct slice version; /* of the gateway, for User-Agent */
    /* For records, on `loop`: a token was got that is good so long, or (`reason` not NULL) was not.
     * May be NULL. */
    void (*on_token)(void *context, const struct config_server *server, struct slice issuer,
                     uint64_t lifetime_ms, const char *reason);
    void *context;
};

MUST_CHECK int oauth_tokens_new(const struct oauth_tokens_options *options,
                                struct oauth_tokens **ret_tokens);
/* Whoever waits is told that there is no token. Sources may outlive it, and have none then. Accepts
 * NULL. */
struct oauth_tokens *oauth_tokens_free(struct oauth_tokens *tokens);

/*
 * Of a server with auth.type exchange or client_credentials. References are taken of `config`, and
 * it has `server`. OAUTH_E_SOURCE: its key cannot be used, *ret_reason (a fixed sentence) says why;
 * -errno: the file cannot be read; -ENOMEM.
 */
enum { OAUTH_E_SOURCE = 1 };
MUST_CHECK int oauth_source_new(struct oauth_tokens *tokens, struct config *config,
                                const struct config_server *server,
                                struct oauth_source **ret_source, const char **ret_reason);
/* A configuration has the rules for found addresses that the source goes by (oauth_rules_new()).
 * False when there is no memory to find out. */
bool oauth_source_has_rules(const struct oauth_source *source, const struct config *config);
struct oauth_source *oauth_source_ref(struct oauth_source *source);
/* Accepts NULL. */
struct oauth_source *oauth_source_unref(struct oauth_source *source);

/* Why there is no token. */
enum oauth_lack {
    OAUTH_LACK_REFUSED,     /* the authorization server gives none for this subject */
    OAUTH_LACK_CLIENT,      /* it does not take the gateway, or what was configured is wrong */
    OAUTH_LACK_UNREACHABLE, /* it did not answer, or with nonsense; it is tried again later */
    OAUTH_LACK_CHALLENGE,   /* nothing says whom to ask: a request without a token may find out, by
                               the 401 that oauth_source_refused() is told of (token: NULL) */
    OAUTH_LACK_MEMORY,
};

enum { OAUTH_LACK_REASON = 200 };

/*
 * Someone who waits for a token: inside a struct of their own, which has `message.deliver` and
 * `loop`. When the message is delivered, `token` is a reference that is theirs, or NULL, and then
 * `lack` and `reason` (for the operator: never a secret, bounded, printable) say why.
 */
struct oauth_token_wait {
    struct io_message message;
    struct io_loop *loop;
    struct oauth_token *token;
    enum oauth_lack lack;
    char reason[OAUTH_LACK_REASON];
    struct oauth_source *source; /* private from here on; a reference while it waits */
    const void *subject;
    struct oauth_waiter waiter;
};

enum oauth_answer {
    OAUTH_ANSWER_TOKEN, /* wait->token is there already: no message comes */
    OAUTH_ANSWER_WAIT,  /* the message comes once, within LIMIT_TOKEN_FETCH_MS */
    OAUTH_ANSWER_NONE,  /* as when the message comes without a token: it failed a moment ago */
};

/*
 * The token for this subject: the caller's access token, or NULL for the gateway itself. `wait` is
 * not waiting already. Never the token of another subject.
 */
MUST_CHECK enum oauth_answer oauth_source_get(struct oauth_source *source,
                                              struct oauth_token *subject,
                                              struct oauth_token_wait *wait);
/* True: the message will not be delivered. False: it is under way, or was delivered, or nobody
 * waited; then what is in `token` is the waiter's. */
bool oauth_token_wait_cancel(struct oauth_token_wait *wait);

/*
 * The server has refused this token of the source (NULL: a request without one): 401, or 403 with
 * insufficient_scope (`head` is the answer's, of which WWW-Authenticate is read: RFC 6750 section
 * 3, RFC 9728 section 5.1). It is dropped unless it was already. True: asking again may help (there
 * was nothing newer before). False: it would not (scopes that were asked for already, were denied,
 * or are not the configured ones), or the server has refused several in a row; then the token
 * stays, so that a server that takes none does not make us ask without end.
 */
MUST_CHECK bool oauth_source_refused(struct oauth_source *source, struct oauth_token *subject,
                                     struct oauth_token *token, const struct http_head *head);
