/*
 * What the files share that get tokens for servers.
 *
 *     source.c     the life of a source, of all of them, and their way onto the loop
 *     subject.c    the tokens that there are, one for each subject, and when they are of use; any
 *                  thread
 *     refused.c    what a server says when it refuses one; any thread
 *     request.c    one request, and what becomes of its answer; the loop's
 *     turns.c      the turns of those that wait, and time; the loop's
 *     discover.c   whom to ask: the server's metadata, then the issuer's; the loop's
 *     grant.c      what is sent to a token endpoint, and what its answer means; without I/O
 *
 * What any thread looks at is guarded by source->mutex, which is held for a look or a change of
 * pointers and never while anything is fetched or parsed. The rest is the loop's. Two clocks: the
 * monotonic one for how long anything takes, lasts or is left alone; the wall's beside it for the
 * end of a token, so that neither a clock that is set nor a machine that slept keeps an ended token
 * in use.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "client/client.h"
#include "fetch.h"
#include "jose/sign.h"
#include "oauth/oauth.h"
#include "oauth/source.h"
#include "waiters.h"

enum {
    TOKENS_LIFETIME_MS = 300 * 1000,           /* of a token that has no expires_in */
    TOKENS_LIFETIME_MAX_MS = 24 * 3600 * 1000, /* and the longest that is believed */
    ROUNDING_MS = 1000,           /* expires_in and `exp` count whole seconds, from two moments */
    TOKENS_RENEW_MS = 30 * 1000,  /* before its end, or a fifth of its lifetime */
    TOKENS_REFUSED_MS = 5 * 1000, /* that a refusal of a subject is remembered */
    TOKENS_PAUSE_MS = 1000,       /* the first one after a failure */
    TOKENS_METADATA_MS = 3600 * 1000, /* that metadata are taken for true */
    TOKENS_DROPS = 3,                 /* tokens that a server may refuse in a row, and ... */
    TOKENS_DROP_MS = 10 * 1000,       /* ... how long it takes until it may refuse one more */
    TOKENS_DENIED_MS = 600 * 1000,    /* that denied scopes are not asked for again */
};

struct oauth_tokens {
    atomic_uint refs; /* of the owner, of each source, of a message that is under way */
    struct log *log;
    struct io_loop *loop;
    void (*on_token)(void *context, const struct config_server *server, struct slice issuer,
                     uint64_t lifetime_ms, const char *reason);
    void *context;
    struct client *client; /* the loop's, as is the reader */
    struct json_reader *reader;
    char *version;
    pthread_mutex_t mutex; /* guards what follows; taken behind source->mutex */
    struct list sources;
    struct list woken; /* those of which the loop has to look after something */
    struct list dead;  /* nobody has a reference: the loop frees them */
    struct io_message wake;
    bool is_waking, is_closed;
    /* For tests: other clocks. */
    uint64_t (*now_fn)(void *context);
    uint64_t (*wall_fn)(void *context);
    void *clock_context;
};

uint64_t tokens_now(const struct oauth_tokens *tokens);
uint64_t tokens_wall(const struct oauth_tokens *tokens);

/* --- why there is no token --- */

struct tokens_failure {
    enum oauth_lack lack;
    char reason[OAUTH_LACK_REASON];
    uint64_t until_ms; /* nothing is asked before; 0: it has not failed */
    unsigned n;        /* in a row */
};

/* --- subject.c --- */

enum subject_state { SUBJECT_IDLE, SUBJECT_QUEUED, SUBJECT_RUNNING };

struct oauth_subject {
    struct list_link by_use;     /* in source->by_use */
    struct list_link queued;     /* in source->queue */
    struct oauth_token *subject; /* the caller's; NULL: the gateway itself */
    char key[16];                /* in source->subjects */
    enum subject_state state;
    bool is_renewed; /* its request is one for which nobody waits */
    uint64_t used_ms;
    /* The token that there is. */
    struct oauth_token *token;
    uint64_t ends_ms, lifetime_ms;
    bool is_bound;    /* it ends because the subject does: no other one would last longer */
    struct buf asked; /* for which scopes */
    struct tokens_failure failure;
    /* What the server has refused. */
    unsigned n_drops;
    uint64_t dropped_ms;
    struct buf wanted; /* scopes that it needs beyond those of the source; empty: none */
    bool is_stepping;  /* they have not been granted yet */
    struct buf denied; /* scopes that were not */
    uint64_t denied_ms;
};

struct oauth_source;

/* The one of a caller's token (NULL: the gateway itself), perhaps a new one. NULL: there is no
 * memory. */
struct oauth_subject *subject_get(struct oauth_source *source, struct oauth_token *token);
/* The one that there is, or NULL. */
struct oauth_subject *subject_find(const struct oauth_source *source, struct oauth_token *token);
void subject_drop_token(struct oauth_subject *subject);
/* Puts it at the end of the queue, if it is not in there and not running. */
void subject_enqueue(struct oauth_source *source, struct oauth_subject *subject, bool is_renewal);
/* Tells those who wait for it: what is in `token` (or why there is none). */
void subject_tell(struct oauth_source *source, const struct oauth_subject *subject,
                  struct oauth_token *token, const struct tokens_failure *failure);
/* In one go: there may be as many of them as there are callers. */
void subjects_tell_queued(struct oauth_source *source, const struct tokens_failure *failure);
void subjects_tell_late(struct oauth_source *source, uint64_t now_ms);
void subjects_tell_all(struct oauth_source *source, const struct tokens_failure *failure);
bool subject_is_awaited(const struct oauth_source *source, const struct oauth_subject *subject);
/* Forgets those that were not used for long, and those that are too many. */
void subjects_sweep(struct oauth_source *source, uint64_t now_ms);
/* When the next one was not used for long; UINT64_MAX: never. */
uint64_t subjects_next(const struct oauth_source *source);
/* All of them. */
void subjects_clear(struct oauth_source *source);

void tokens_failure_set(struct tokens_failure *failure, enum oauth_lack lack, const char *reason);
/* Until then nothing is asked: twice as long each time. */
void tokens_failure_pause(struct tokens_failure *failure, uint64_t now_ms);
bool tokens_failure_lasts(const struct tokens_failure *failure, uint64_t now_ms);

/* --- discover.c --- */

enum discovery_step { DISCOVERY_IDLE, DISCOVERY_RESOURCE, DISCOVERY_ISSUER };

struct discovery {
    enum discovery_step step;
    struct oauth_fetch fetch;
    uint64_t limit_ms;
    unsigned n_candidate;
    bool is_at_named;        /* the address is one that the server's challenge has named */
    char best[OAUTH_REASON]; /* of what the candidates said so far */
    bool best_is_absent;
    /* What was found. */
    bool is_known;
    uint64_t found_ms;
    struct buf issuer; /* configured, or the server's */
    struct buf pinned; /* the one that has been shown the credentials; empty: none was */
    struct buf token_endpoint;
    struct buf scopes;
    struct oauth_metadata metadata;
};

void discovery_init(struct oauth_source *source);
void discovery_deinit(struct oauth_source *source);
/* True: whom to ask is known. False: a search runs, at the end of which discovery_found() or
 * source_fail() is called. */
bool discovery_ensure(struct oauth_source *source, uint64_t now_ms);
/* Does what is due; UINT64_MAX: nothing will be. */
void discovery_tick(struct oauth_source *source, uint64_t now_ms);
uint64_t discovery_next(const struct oauth_source *source);
void discovery_forget(struct oauth_source *source);
void discovery_stop(struct oauth_source *source);
/* The issuer, or the token endpoint where none is configured: the audience of assertions. */
struct slice discovery_audience(const struct oauth_source *source);

/* --- grant.c --- */

struct grant {
    const struct config_server *server;
    const struct jose_signer *signer; /* or NULL */
    struct slice audience;            /* of assertions */
    const struct oauth_metadata *metadata;
    struct slice subject; /* the caller's token; empty: the gateway asks for itself */
    struct slice scopes;
    uint64_t wall_ms;
};

/* Makes the body of a request, and the value of its Authorization (may stay empty). OAUTH_E_INVALID
 * with *ret_reason; -ENOMEM. Both buffers are new, and secrets. */
MUST_CHECK int grant_write(const struct grant *grant, struct buf *form, struct buf *authorization,
                           const char **ret_reason);

/* Appends the token of an answer with status 200; its own memory is a secret. OAUTH_E_INVALID with
 * *ret_reason; -ENOMEM. `issuer`: what `iss` may say; empty: anything. */
MUST_CHECK int grant_read(struct json_reader *reader, struct slice document, bool is_exchange,
                          struct slice issuer, struct buf *token, uint64_t *ret_lifetime_ms,
                          const char **ret_reason);
/* Of an answer with another status: what the failure is, in `failure` (without a time), and what
 * the server has to say about it, for the log alone. */
enum grant_blame { GRANT_BLAME_SUBJECT, GRANT_BLAME_SOURCE };
enum grant_blame grant_read_error(struct json_reader *reader, struct slice document,
                                  unsigned status, bool is_exchange, struct tokens_failure *failure,
                                  bool *ret_is_about_scope, struct buf *ret_description);

/* --- request.c --- */

struct token_request {
    struct list_link link;
    struct oauth_source *source;
    struct oauth_subject *subject;
    struct oauth_token *token; /* of the subject, or NULL */
    struct buf scopes;         /* that are asked for */
    struct oauth_fetch fetch;
    uint64_t limit_ms;
    uint64_t begun_ms; /* the answer's expires_in counts from then on */
};

/* Begins the one whose turn it is. False: it is nobody's. */
bool requests_start_one(struct oauth_source *source, uint64_t now_ms);
/* Those whose time is over have failed. */
void requests_end_late(struct oauth_source *source, uint64_t now_ms);
/* Ends all, without telling anybody. */
void requests_stop(struct oauth_source *source);
/* With source->mutex held. All whose turn has not come hear of a failure. */
void requests_tell_queue(struct oauth_source *source, const struct tokens_failure *failure);
/* All that waits for its turn has failed. Begins a pause. */
void source_fail(struct oauth_source *source, enum oauth_lack lack, const char *reason);

/* --- turns.c --- */

/* Does all that is due now, and sets the timer for what is next. The loop's thread. */
void source_tick(struct oauth_source *source);
/* Whom to ask is known. */
void source_found(struct oauth_source *source);
/* Ends all that runs, without telling anybody. */
void source_stop(struct oauth_source *source);

/* --- source.c --- */

struct oauth_source {
    struct oauth_tokens *tokens;  /* a reference */
    atomic_uint refs;             /* the last one goes with tokens->mutex held */
    struct list_link link, woken; /* in tokens->sources; in tokens->woken, or dead */
    struct config *config;        /* a reference */
    const struct config_server *server;
    struct client_rules *rules;
    struct io_tls *tls; /* of the server, for its own metadata; or NULL */
    struct jose_signer *signer;
    struct buf fixed_scopes; /* auth.scopes: no others are asked for then */

    pthread_mutex_t mutex; /* guards what follows */
    bool is_closed;
    struct map subjects;
    struct hash_key keys[2];
    struct list by_use; /* the one that was not used for longest first */
    struct list queue;
    struct list waiting; /* struct oauth_token_wait, of all subjects */
    struct tokens_failure failure;
    struct buf challenge_scopes; /* of the last 401 that named some */
    struct buf named;            /* where its metadata are, by such a challenge */
    bool is_stale;               /* ... which is new: discovery is to be done anew */

    /* The loop's. */
    struct io_timer *timer; /* NULL until the first tick */
    struct list running;    /* struct token_request */
    size_t n_running;
    struct discovery discovery;
    char told[OAUTH_LACK_REASON]; /* the failure that the log has heard of */
    bool has_got;                 /* the log has heard of a token, too */
};

bool source_is_exchange(const struct oauth_source *source);
/* Makes the loop look after it. Any thread; source->mutex may be held. */
void source_wake(struct oauth_source *source);
/* For tests: as if the timers of all sources had fired. The loop's thread. */
void tokens_tick(struct oauth_tokens *tokens);
