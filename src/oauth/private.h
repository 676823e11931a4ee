/*
 * What the files of oauth/ share about issuers of callers' tokens. schedule.c: when to fetch,
 * sans-io; metadata.c: where the keys are, sans-io; fetch.c: one document over HTTP; issuer.c: the
 * upkeep of one issuer's keys; wait.c: those who wait for them; oauth.c: the whole. tokens.h has
 * what is about tokens for servers.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "client/client.h"
#include "fetch.h"
#include "http/message.h"
#include "http/uri.h"
#include "jose/keys.h"
#include "json/reader.h"
#include "oauth/oauth.h"

/* --- schedule.c: when to fetch. Times in milliseconds of one clock, all handed in. --- */

struct oauth_schedule {
    uint64_t poll_interval_ms; /* 0: as the answers say */
    bool is_running;           /* a fetch was begun, or is about to be */
    uint64_t next_ms;          /* of the next one that nobody has to ask for */
    unsigned n_failures;       /* in a row */
    bool is_confirmed;         /* there are keys ... */
    uint64_t confirmed_ms;     /* ... and the issuer said then that they are its keys */
    bool was_asked;            /* an unknown key has started a fetch ... */
    uint64_t asked_ms;         /* ... then */
};

/* `random` is uniform in all its bits: fetches of many gateways spread out. */
void oauth_schedule_succeeded(struct oauth_schedule *schedule, uint64_t now_ms,
                              uint64_t lifetime_ms, uint64_t random);
/* The answer was one, but an empty one: the next fetch is that of a failure. */
void oauth_schedule_emptied(struct oauth_schedule *schedule, uint64_t now_ms, uint64_t random);
void oauth_schedule_failed(struct oauth_schedule *schedule, uint64_t now_ms, uint64_t random);
bool oauth_schedule_is_due(const struct oauth_schedule *schedule, uint64_t now_ms);
bool oauth_schedule_is_stale(const struct oauth_schedule *schedule, uint64_t now_ms);

enum oauth_ask { OAUTH_ASK_REFUSED, OAUTH_ASK_JOIN, OAUTH_ASK_START };
/* A key is not there. OAUTH_ASK_START: is_running is set, and the caller has to begin. */
enum oauth_ask oauth_schedule_ask(struct oauth_schedule *schedule, uint64_t now_ms);

/* --- issuer.c --- */

struct oauth_issuer {
    struct oauth *oauth;
    const struct config_issuer *config;
    struct slice label;    /* for people: without what may be a secret */
    struct slice expected; /* `iss` of its tokens; empty: any */
    bool is_remote;        /* its keys are fetched */
    struct jose_keys *secret_keys;
    atomic_uint_least64_t generation; /* written under the mutex */

    /* Under oauth->mutex. */
    struct jose_keys *keys;
    struct oauth_schedule schedule;
    struct list waiting;      /* struct oauth_wait, in the order of their deadlines */
    char error[OAUTH_REASON]; /* of the last fetch; empty: it went well */

    /* The loop's. */
    struct io_timer *timer; /* for whatever is next */
    struct oauth_fetch fetch;
    bool is_fetching;
    uint64_t limit_ms;       /* until when the fetch has to be done */
    bool is_at_keys;         /* the request that runs is for them, not for metadata */
    unsigned n_candidate;    /* that is asked for metadata */
    char best[OAUTH_REASON]; /* of what the candidates said so far */
    bool best_is_absent;
    struct buf jwks_uri;  /* found by discovery */
    uint64_t jwks_uri_ms; /* and when */
    char *document;       /* of the set that `keys` is; NULL: there is none */
    size_t document_len;
    char told[OAUTH_REASON]; /* the failure that the log has heard of */
};

void oauth_issuer_init(struct oauth_issuer *issuer, struct oauth *oauth,
                       const struct config_issuer *config);
/* -ENOMEM; OAUTH_E_INVALID: the secret is too short. */
MUST_CHECK int oauth_issuer_open(struct oauth_issuer *issuer);
void oauth_issuer_deinit(struct oauth_issuer *issuer);
/* Takes over what `from`, which is configured alike, knows. -ENOMEM. */
MUST_CHECK int oauth_issuer_inherit(struct oauth_issuer *issuer, struct oauth_issuer *from);
/* Does all that is due now, and sets the timer for what is next. */
void oauth_issuer_tick(struct oauth_issuer *issuer);

/* --- wait.c: those who wait for keys; with oauth->mutex held --- */

void oauth_waiting_tell_all(struct oauth_issuer *issuer);
void oauth_waiting_tell_late(struct oauth_issuer *issuer, uint64_t now_ms);
/* UINT64_MAX: nobody waits. */
uint64_t oauth_waiting_deadline(const struct oauth_issuer *issuer);
/* Until nobody is in oauth_wait_cancel() any more. */
void oauth_waiting_drain(struct oauth_issuer *issuer);

/* --- oauth.c --- */

struct oauth {
    struct log *log;
    struct io_loop *loop;
    struct client *client;
    struct client_rules *rules; /* or NULL */
    struct json_reader *reader; /* the loop's */
    char *version;
    struct oauth_issuer *issuers;
    size_t n_issuers;
    /*
     * Guards what the issuers say it does. Held for a look or a swap of pointers, while a message
     * is posted, never while something is fetched or parsed.
     */
    pthread_mutex_t mutex;
    pthread_cond_t cancelled; /* a waiter has left a list */
    bool is_started, is_closed;
    /* Makes the loop look after all issuers; its own from post to delivery. */
    struct io_message wake;
    bool is_waking;
    /* For tests: another clock. */
    uint64_t (*now_fn)(void *context);
    void *now_context;
};

uint64_t oauth_now(const struct oauth *oauth);
/* With the mutex held, on any thread. */
void oauth_wake(struct oauth *oauth);
/* As if the timers of all issuers had fired. The loop's thread. */
void oauth_tick(struct oauth *oauth);
