/*
 * Authorization servers and their keys. One `struct oauth` is made of one configuration; it finds
 * the JWKS of each issuer (by its address, or by discovery: RFC 8414 section 3, OpenID Connect
 * Discovery 1.0 section 4), fetches it on one loop, and keeps it fresh:
 *
 *  - again before it expires: after poll_interval, or what Cache-Control allows (one minute to a
 *    day; an hour when it says nothing);
 *  - again when a token names a key that is not there: at most once in LIMIT_JWKS_PAUSE_MS, for all
 *    who ask together;
 *  - kept when that fails, with pauses that double, but no longer than LIMIT_JWKS_STALE_MS (24 h)
 *    after it was last confirmed. Then there are no keys, and who needs them is denied.
 *
 * What a server answers is hostile: the metadata's `issuer` has to be the configured one, byte for
 * byte (RFC 8414 section 3.3); jwks_uri and redirects go by the rules of client/rules.h; size, time
 * and number of keys are limited.
 *
 * Threading: oauth_new(), oauth_start(), oauth_free() on the loop's thread (or before it runs); the
 * rest from any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"
#include "config/config.h"
#include "io/loop.h"
#include "io/tls.h"
#include "oauth/waiter.h"

struct oauth;
struct oauth_issuer;
struct jose_keys;    /* jose/keys.h */
struct client_rules; /* client/rules.h */

struct oauth_options {
    const struct config_oauth *config; /* outlives it */
    struct log *log;
    struct io_loop *loop; /* where it fetches */
    struct io_tls *tls;   /* for https; a reference is taken */
    struct slice version; /* of the gateway, for User-Agent */
    /* For what metadata say; a reference is taken. NULL: anything goes. */
    struct client_rules *rules;
    /* That of the configuration before: keys of issuers that are configured as they were are taken
     * over, so that a reload during an outage locks nobody out. NULL: there is none. */
    struct oauth *previous;
};

MUST_CHECK int oauth_new(const struct oauth_options *options, struct oauth **ret_oauth);
/* Begins to fetch. */
void oauth_start(struct oauth *oauth);
/* Whoever waits is told (with what is there). Accepts NULL. */
struct oauth *oauth_free(struct oauth *oauth);

size_t oauth_count(const struct oauth *oauth);
struct oauth_issuer *oauth_at(const struct oauth *oauth, size_t index);
const struct config_issuer *oauth_issuer_config(const struct oauth_issuer *issuer);
/* The issuer of tokens with this `iss` (has_iss: it has one). An issuer whose tokens may come from
 * anywhere is taken when no other one fits. NULL: none. */
struct oauth_issuer *oauth_find(const struct oauth *oauth, bool has_iss, struct slice iss);

/*
 * The keys as they are now, with a reference; those of its secret for an issuer that has nothing
 * else. NULL: none were ever fetched, or they are too old. `generation` (may be NULL) grows with
 * every change of the set, and with its end: what was verified with an older one has to be verified
 * again.
 */
struct jose_keys *oauth_keys(struct oauth_issuer *issuer, uint64_t now_ms,
                             uint64_t *ret_generation);
/*
 * The keys for HS256 to HS512, with a reference; NULL: it has no secret. An issuer may have keys of
 * both kinds, and they never meet in one set: a token's algorithm says which of them it is for.
 */
struct jose_keys *oauth_secret_keys(const struct oauth_issuer *issuer);
/* The generation alone: one atomic load. */
uint64_t oauth_generation(const struct oauth_issuer *issuer);

/* Someone who waits for newer keys: inside a struct of their own. */
struct oauth_wait {
    struct io_message message; /* delivered on `loop`; `deliver` is the waiter's */
    struct io_loop *loop;
    uint64_t generation;         /* of the keys that were of no use, by oauth_keys() */
    struct oauth_issuer *issuer; /* private from here on */
    struct oauth_waiter waiter;
};

/*
 * Asks for keys, because there are none or the one that is needed is not among them. True: the
 * message is delivered once, when the next answer is there or failed (LIMIT_JWKS_WAIT_MS at most),
 * or at once when the keys have changed since `wait->generation`.
 * False: they were asked for a moment ago, or nothing is fetched (a secret's keys, before
 * oauth_start()); there will be no others for now. `wait` has `message.deliver`, `loop` and
 * `generation`, and is not waiting already.
 */
MUST_CHECK bool oauth_wait_for_keys(struct oauth_issuer *issuer, struct oauth_wait *wait);
/*
 * True: the message will not be delivered. False: it is already under way, or was delivered, or
 * nobody waited. Also while oauth_free() runs, and after it.
 */
bool oauth_wait_cancel(struct oauth_wait *wait);

/* The rules of a configuration for addresses that it does not name. -ENOMEM. */
MUST_CHECK int oauth_rules_new(const struct config *config, struct client_rules **ret_rules);
/* The caller's reference, for those who do not know client/. Accepts NULL. */
struct client_rules *oauth_rules_unref(struct client_rules *rules);

/* For status: {"issuer","keys","age_ms","error"} of each, as a JSON array. */
int oauth_write_status(struct oauth *oauth, uint64_t now_ms, struct buf *out);
