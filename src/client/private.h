/*
 * What the files of client/ share. target.c and proxy.c: where a request goes, decided once and
 * immutable; rules.c: whether others may have named it; client.c: the client and its pools;
 * connection.c: from dialling to a connection that can carry a request; answer.c: what comes back
 * on it; call.c: one request and its end.
 */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "base/secret.h"
#include "client/client.h"
#include "http/uri.h"
#include "io/dial.h"

/* Where to connect to. */
struct client_peer {
    struct slice host; /* without brackets */
    uint16_t port;
    struct slice name;  /* "host:port", IPv6 in brackets */
    struct slice label; /* the same for people: "proxy host:port" of a proxy */
};

struct client_target {
    bool is_tls, has_proxy;
    struct client_peer origin, proxy;
    struct slice path;             /* origin-form: path and query */
    struct slice fields;           /* the lines that each request to here begins with */
    struct io_tls *tls;            /* its own; NULL: the client's */
    client_connect_fn *connect_fn; /* NULL: by the URL */
    void *connect_context;
    struct client_rules *rules; /* that it goes by; NULL: the configuration names it */
    struct secret *connect; /* the whole CONNECT request: it may carry a password; NULL: no proxy */
    /* Names the target in the keys of pools: unlike its address it is never used again. */
    unsigned char id[16];
    char *text; /* what the slices point into */
};

/* proxy.c */

struct client_proxy {
    struct slice url; /* empty: directly */
    bool is_from_environment;
    struct buf text; /* the URL with the scheme that the variable left out */
    struct uri uri;  /* after client_proxy_parse() */
};

/* Which proxy `uri` is reached through. */
struct client_proxy client_proxy_choose(const struct client_target_options *options,
                                        const struct uri *uri, bool is_tls);
/* 0, -ENOMEM, or CLIENT_E_INVALID with a sentence. */
MUST_CHECK int client_proxy_parse(struct client_proxy *proxy, const char **ret_reason);
void client_proxy_deinit(struct client_proxy *proxy);
/* The CONNECT request for `authority` ("host:port") to a proxy that was parsed. -ENOMEM. */
MUST_CHECK int client_proxy_connect(const struct uri *proxy, struct slice authority,
                                    struct secret **ret_request);

/* no_proxy.c */

/* A list such as "example.com, 10.0.0.0/8,host:8080" has the host (and port) of `uri`. */
bool client_no_proxy_has(struct slice list, const struct uri *uri);
bool client_is_loopback(const struct uri *uri);

/* rules.c */

/* The configuration names the authority of `uri`. */
bool client_rules_exempt(const struct client_rules *rules, const struct uri *uri, bool is_tls);
/* Why a URL of others is refused whatever the address of its name is: a fixed sentence, or NULL. */
const char *client_rules_refuse_url(const struct client_rules *rules, const struct uri *uri,
                                    bool is_tls, bool has_proxy);
bool client_rules_allow(const struct client_rules *rules, const struct network *address,
                        bool is_tls);
/* The sentence about an address that they do not allow: what it is, and the cure. */
enum { CLIENT_RULES_TEXT = 160 };
void client_rules_explain(const struct client_rules *rules, const struct network *address,
                          bool is_tls, char ret_text[CLIENT_RULES_TEXT]);

/* client.c */

/*
 * Connections that may stand for each other: of one target and one partition. Lives while it has
 * connections.
 */
struct client_pool {
    struct client *client;
    struct list kept; /* idle ones, the newest first */
    size_t n_kept;
    size_t n_connections; /* idle or not */
    struct slice key;     /* in `text` */
    struct slice origin;  /* in `text`: "host:port", for the log */
    char text[];
};

struct client {
    struct io_loop *loop;
    struct log *log;
    struct io_tls *tls;
    struct io_resolver *resolver;
    struct map pools; /* id and partition -> struct client_pool */
    struct buf key;   /* in which keys are put together */
    struct list connections;
    struct list kept; /* idle ones of all pools, the newest first */
    size_t n_kept;
    size_t n_connections;
};

/* The pool of a request, perhaps a new one without connections. -ENOMEM. */
MUST_CHECK int client_pool_get(struct client *client, const struct client_target *target,
                               struct slice partition, struct client_pool **ret_pool);
/* Frees it when it has no connections. */
void client_pool_put(struct client_pool *pool);
/* The connection that was used last, or NULL. */
struct client_connection *client_pool_take(struct client_pool *pool);
/* Makes it idle, and closes those that are too many then. */
void client_pool_keep(struct client_connection *connection, uint64_t idle_ms);
/* Out of the idle ones. */
void client_pool_forget(struct client_connection *connection);

/* connection.c */

enum client_state {
    CLIENT_DIALLING,
    CLIENT_TUNNELLING, /* CONNECT was sent, its answer is not whole */
    CLIENT_SECURING,   /* TLS handshake */
    CLIENT_BUSY,       /* a request was sent */
    CLIENT_IDLE,       /* kept for the next one */
    CLIENT_FAILED,     /* in the next turn of the loop the call hears of it */
};

struct client_connection {
    enum client_state state;
    struct client *client;
    struct client_pool *pool;
    struct client_call *call;           /* NULL when idle */
    const struct client_target *target; /* until the tunnel and TLS stand */
    struct io_dial *dial;
    struct io_stream *stream;
    uint64_t accepted_before; /* by the stream, when the request was written */
    struct http_parser *parser;
    /* Dialling, proxy and TLS; a held answer; the idle time; a failure: by the state. */
    struct io_timer *timer;
    uint64_t deadline; /* of the first of these, in the loop's time */
    struct client_failure failure;
    struct list_link link;      /* of client->connections */
    struct list_link pool_link; /* of pool->kept */
    struct list_link kept_link; /* of client->kept */
    /* What came while the call was paused. */
    struct buf held;
    bool is_held, has_ended;
    int end_error;
    bool is_feeding, is_freed; /* a callback freed it: the memory goes when the feeding ends */
};

/* For the call; starts to dial. -ENOMEM. All else is reported later. */
MUST_CHECK int client_connection_open(struct client_pool *pool, struct client_call *call,
                                      const struct client_target *target);
/* Closes it. The call, if there is one, is left without connection. */
struct client_connection *client_connection_free(struct client_connection *connection);
void client_connection_end_feeding(struct client_connection *connection);
/* Writes the request of its call. 0, or how that failed; the connection is of no use then. */
MUST_CHECK int client_connection_send(struct client_connection *connection);
/* The call hears of the failure in the next turn of the loop. */
void client_connection_fail_later(struct client_connection *connection,
                                  const struct client_failure *failure);
void client_connection_enter(struct client_connection *connection, enum client_state state);

/* answer.c */

void client_answer_read(struct client_connection *connection, struct slice bytes);
void client_answer_end(struct client_connection *connection, int error);
/* The call is not paused any more: what was held goes to it. */
void client_answer_resume(struct client_connection *connection);

/* call.c */

struct client_call {
    struct client *client;
    struct client_connection *connection; /* from client_start() to the end */
    struct client_events events;
    void *context;
    const struct client_target *target;
    struct buf request; /* head and body, until it cannot be needed again */
    uint64_t connect_timeout_ms;
    uint64_t max_body;
    uint64_t n_body; /* of the answer, so far */
    bool is_head, is_idempotent;
    bool is_paused;
    bool is_on_kept; /* the connection carried another request before */
    bool is_sent;    /* a byte of it may have left */
    bool was_repeated;
    bool is_answered; /* a byte came back */
    bool has_secret;  /* in `request` */
};

/* The connection broke and goes: the request is sent once more where that is harmless, else this is
 * its failure. */
void client_call_broken(struct client_call *call, const char *what);
/* It has left, and cannot be needed again. */
void client_call_forget_request(struct client_call *call);
/* It can become necessary to send it once more, on another connection. */
bool client_call_may_need_request(const struct client_call *call);
/* Nothing of it left by the connection that it is on. */
void client_call_unsent(struct client_call *call);
/* Ends the call and its connection. */
void client_call_fail(struct client_call *call, const struct client_failure *failure);
/* The answer is whole; the connection is no more the call's. */
void client_call_end(struct client_call *call);
/* Its reason is "host:port: what", a long host being cut. */
struct client_failure client_failure_make(const struct client_call *call,
                                          enum client_failure_kind kind,
                                          const struct client_peer *peer, const char *what);
