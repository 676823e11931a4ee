/*
 * What the files of redis share. redis.c: a worker's way to its Redis, and the checks that wait;
 * redis_pool.c: the connections to one server, and when one is made; redis_connection.c: one of
 * them, from dialling to replies; redis_target.c: the address; redis_script.c: the question and its
 * answer.
 */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "base/secret.h"
#include "io/dial.h"
#include "io/stream.h"
#include "io/tls.h"
#include "private.h"
#include "resp/resp.h"

/* --- redis_script.c --- */

/* For SCRIPT LOAD. */
struct slice redis_script(void);
/*
 * Appends the command that takes one unit of each: by the script's name (40 hex digits), or with
 * the script itself when that is empty. `at_us` 0: the server's clock; else that time, for tests.
 */
int redis_script_write(struct buf *out, struct slice sha, struct slice key_prefix,
                       const struct limits_charge *charges, size_t n, uint64_t at_us);
/* False: the reply is none of the script's. */
bool redis_script_read(const struct resp_reply *reply, size_t n, struct limits_answer *ret_answer);

/* --- redis_target.c --- */

enum { REDIS_SHA_LEN = 40 };

/* A server and all that decides about the connections to it. Immutable. */
struct redis_target {
    struct slice host; /* without brackets */
    uint16_t port;
    struct slice name;       /* "host:port", for the log */
    struct secret *auth;     /* the whole AUTH command; NULL: none */
    struct secret *password; /* in clear, so that no message of the server repeats it */
    struct slice database;   /* decimal; empty: the first */
    struct slice key_prefix;
    struct io_tls *tls; /* NULL: in the clear */
    uint64_t response_ms, create_ms, wait_ms, recycle_ms;
    size_t n_min, n_max; /* connections of one worker */
    struct buf text;     /* what the slices point into */
};

/* REDIS_E_INVALID: *ret_reason is a fixed sentence. -ENOMEM. */
enum { REDIS_E_INVALID = 1 };
MUST_CHECK int redis_target_init(struct redis_target *target, const struct config_storage *storage,
                                 size_t n_workers, const char **ret_reason);
void redis_target_deinit(struct redis_target *target);

/* --- redis.c --- */

struct redis {
    struct limits_worker *worker;
    struct io_resolver *resolver; /* from the first server on */
    struct redis_pool *pool;      /* of the server that is asked; NULL: none is */
    struct list old;              /* pools that answer what waits for them, and end */
    struct list unanswered;       /* checks that Redis did not answer; `conclude` tells them so */
    struct io_timer *conclude;
    size_t n_checks;              /* that wait, cancelled ones among them */
    bool is_concluding, is_freed; /* by a `done`: the memory goes when `conclude` ends */
    struct secret *identity; /* all that the pool was made from: another one is another server */
};

struct limits_check {
    struct list_link link; /* of a connection's `sent`, a pool's `waiting`, or `unanswered` */
    struct redis *redis;
    uint64_t deadline;
    unsigned n_sent;      /* how often: a server may have forgotten the script */
    bool brings_script;   /* it was sent as EVAL */
    limits_done_fn *done; /* NULL: cancelled, its reply is still to come */
    void *context;
    size_t n;
    struct limits_charge charges[LIMIT_RATE_LEVELS];
};

/* What Redis said, or NULL; the check is on no list. `done` may free all there is. */
void redis_answer(struct limits_check *check, const struct limits_answer *asked);
/* It did not; their `done` comes in the next turn of the loop. Empties the list. */
void redis_give_up(struct redis *redis, struct list *checks);
/* Without a word. */
void redis_forget(struct list *checks);

/* --- redis_pool.c --- */

enum redis_pool_state {
    REDIS_STARTING, /* nothing is known yet: checks wait for a connection */
    REDIS_UP,
    REDIS_DOWN,    /* checks do not wait */
    REDIS_REFUSED, /* the same; and it is asked again rarely */
};

struct redis_pool {
    struct list_link link; /* of redis->old */
    struct redis *redis;
    struct redis_target target;
    enum redis_pool_state state;
    struct list connections, waiting;
    size_t n_connections, n_ready;
    unsigned n_failures;       /* in a row, for how long to wait before the next try */
    struct io_timer *retry;    /* the next try to connect */
    struct io_timer *patience; /* of the checks in `waiting` */
    struct io_timer *flush;    /* what was written in this turn of the loop leaves */
    bool is_old;
};

/* Begins to connect. Takes the target over, also when it fails. -ENOMEM. */
MUST_CHECK int redis_pool_new(struct redis *redis, struct redis_target *target,
                              struct redis_pool **ret_pool);
/* At once; what waits is forgotten. Accepts NULL. */
struct redis_pool *redis_pool_free(struct redis_pool *pool);
/* It is asked no more: ends with the last reply that is still to come, perhaps now. */
void redis_pool_retire(struct redis_pool *pool);
/* Sends it, or keeps it until there is a connection. False: neither. */
MUST_CHECK bool redis_pool_ask(struct redis_pool *pool, struct limits_check *check);

enum redis_failure {
    REDIS_CLOSED_IDLE, /* the server ended a connection on which nothing was under way */
    REDIS_BROKEN,
    REDIS_IS_CLUSTER,
};

/* What its connections tell it. */
struct redis_connection;
void redis_pool_ready(struct redis_pool *pool, struct redis_connection *connection);
/* The connection is of no use: it ends, and what it owed is given up. `reason` is for the log. */
void redis_pool_broken(struct redis_pool *pool, struct redis_connection *connection,
                       enum redis_failure failure, struct slice reason);
/* It has been idle for too long: another one takes its place. */
void redis_pool_recycle(struct redis_pool *pool, struct redis_connection *connection);
/* Nothing is under way on it any more. */
void redis_pool_idle(struct redis_pool *pool, struct redis_connection *connection);

/* --- redis_connection.c --- */

enum redis_state {
    REDIS_DIALLING,
    REDIS_SECURING,
    REDIS_GREETING, /* AUTH, SELECT, INFO, SCRIPT LOAD, a first check */
    REDIS_READY,
};

struct redis_connection {
    struct list_link link; /* of pool->connections */
    struct redis_pool *pool;
    enum redis_state state;
    unsigned greeting; /* the next reply that is awaited */
    struct io_dial *dial;
    struct io_stream *stream;
    struct resp_reader *reader;
    struct io_timer *timer; /* of the state: until it is ready; the oldest check; idle for long */
    uint64_t timer_at;
    struct buf out;
    char sha[REDIS_SHA_LEN]; /* the script's name there */
    bool is_loading;         /* EVAL is under way: what is behind it finds the script */
    struct list sent;        /* checks, in the order of their replies */
    size_t n_sent;
    uint64_t ready_at, used_at; /* in the loop's time */
    bool is_reading, is_freed;  /* a callback freed it: the memory goes when the reading ends */
};

/* Starts to dial; all that follows is told to the pool. -ENOMEM. */
MUST_CHECK int redis_connection_new(struct redis_pool *pool,
                                    struct redis_connection **ret_connection);
/* At once. Out of its pool's list; its checks were taken away before. */
struct redis_connection *redis_connection_free(struct redis_connection *connection);
/* Of a ready one. Written with what else is asked in this turn of the loop. -ENOMEM, -E2BIG: the
 * connection is of no use any more; the check is still the caller's. */
MUST_CHECK int redis_connection_ask(struct redis_connection *connection,
                                    struct limits_check *check);
/* -errno: it is of no use any more. */
MUST_CHECK int redis_connection_flush(struct redis_connection *connection);
