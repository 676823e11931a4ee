/*
 * The HTTP/1.1 client for every connection that the gateway opens: dials (directly or through a
 * CONNECT proxy, RFC 9110 section 9.3.6), speaks TLS, keeps connections for the next request, and
 * says of each failure whether the request can have reached the server. One client per worker's
 * loop. Redirects are not followed: an answer is an answer. Addresses that
 * others have named are dialled by rules (client/rules.h).
 *
 * No callback runs from inside the call that set it up, and none after client_cancel().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"
#include "client/rules.h"
#include "http/message.h"
#include "io/loop.h"
#include "io/tls.h"

struct client;
struct client_call;

/* Where requests go: immutable, shared by all workers. */
struct client_target;

/* A connected stream socket, non-blocking, close-on-exec; or -errno. */
typedef int client_connect_fn(void *context);

struct client_target_options {
    struct slice url; /* http or https; without userinfo and fragment */
    /* Empty: by the environment (below). "none": directly. Else the URL of a proxy,
     * http://[user:password@]host:port. */
    struct slice proxy;
    /*
     * The usual variables: https_proxy or http_proxy by the scheme, else all_proxy, each also in
     * capitals (but not HTTP_PROXY, which a CGI server sets from a request's header); no_proxy
     * lists names, domains (with or without a leading dot), addresses, CIDR blocks and host:port,
     * "*" for all. Loopback goes directly. NULL: the process's environment.
     */
    const char *(*getenv_fn)(void *context, const char *name);
    void *getenv_context;
    /* For https; a reference is taken. NULL: the client's. A context of its own is used for this
     * target's origin and for nothing else: it may show a certificate, or trust more. */
    struct io_tls *tls;
    /*
     * The URL came from others, and goes by these rules (client/rules.h): a reference is taken. One
     * that they do not let through, whatever address its name has, is CLIENT_E_INVALID; an address
     * that they do not is CLIENT_FAILED_REFUSED. NULL: the configuration names it.
     */
    struct client_rules *rules;
    /* Connections are made so, and the URL is only what is asked for: there is no proxy then. NULL:
     * by the URL. */
    client_connect_fn *connect;
    void *connect_context;
};

/* CLIENT_E_INVALID: *ret_reason is a sentence that says what is wrong (never with a password). */
enum { CLIENT_E_INVALID = 1 };
MUST_CHECK int client_target_new(const struct client_target_options *options,
                                 struct client_target **ret_target, const char **ret_reason);
struct client_target *client_target_free(struct client_target *target);
bool client_target_is_tls(const struct client_target *target);
/* "host:port" of the proxy, empty when the connection is direct. For the log. */
struct slice client_target_proxy(const struct client_target *target);

struct client_options {
    struct io_loop *loop;
    struct log *log;
    struct io_tls *tls; /* for https; a reference is taken; NULL: https fails */
};

MUST_CHECK int client_new(const struct client_options *options, struct client **ret_client);
/* What still runs is dropped without a callback. Accepts NULL. */
struct client *client_free(struct client *client);

struct client_request {
    const struct client_target *target; /* outlives the call and its connection */
    /* Connections are kept and used again within one partition only: that of a principal and its
     * credentials. */
    struct slice partition;
    enum http_method method;
    /* Another one than the target's URL has, on the same origin: path and query (RFC 9112 section
     * 3.2.1). Empty: that of the URL. */
    struct slice path;
    /* Whole lines made with http_write_field(); not Host, Content-Length, Connection,
     * Accept-Encoding, which the client writes. */
    struct slice fields;
    /* They hold a credential: what was copied of them is wiped. */
    bool has_secret;
    struct slice body;           /* copied */
    uint64_t connect_timeout_ms; /* dialling, proxy and TLS together; 0: LIMIT_CONNECT_MS */
    /* Of the answer; 0: LIMIT_UPSTREAM_MESSAGE; UINT64_MAX for endless streams. */
    uint64_t max_body;
    /* A request on a kept connection that ends before the first byte of an answer is sent once more
     * on a new one. Only when doing it twice does no harm. */
    bool is_idempotent;
};

enum client_failure_kind {
    CLIENT_FAILED_RESOLVE,
    CLIENT_FAILED_REFUSED, /* the rules of its target let no address of it through */
    CLIENT_FAILED_CONNECT,
    CLIENT_FAILED_PROXY, /* it refused, or did not answer as a proxy */
    CLIENT_FAILED_TLS,
    CLIENT_FAILED_RESET,    /* the connection broke before the answer was whole */
    CLIENT_FAILED_PROTOCOL, /* the answer is not strict HTTP/1.1, is compressed, or too long */
    CLIENT_FAILED_MEMORY,   /* or descriptors: this process lacks them */
};

struct client_failure {
    enum client_failure_kind kind;
    /* False: no byte of the request has left, so it may be sent again whatever it is. */
    bool may_have_arrived;
    bool was_repeated; /* it was sent twice, and both may have arrived */
    char reason[200];  /* for the operator: names host and step, never a secret */
};

struct client_events {
    /* The final head (1xx are skipped); valid during the call. */
    void (*on_head)(void *context, const struct http_head *head);
    void (*on_data)(void *context, struct slice bytes);
    /* The answer is whole; the call is gone afterwards. Exactly one of on_end and on_failed, unless
     * cancelled. */
    void (*on_end)(void *context);
    void (*on_failed)(void *context, const struct client_failure *failure);
};

/*
 * Starts a request. -ENOMEM; -EINVAL for CONNECT, unknown methods, and fields that are not whole
 * lines or the client's own to write. Time without an answer is the caller's to watch, who then
 * cancels: it knows what the wait is for. The client watches dialling only.
 */
MUST_CHECK int client_start(struct client *client, const struct client_request *request,
                            const struct client_events *events, void *context,
                            struct client_call **ret_call);
/* Closes the connection of an unfinished call. Also from inside its callbacks, except on_end and
 * on_failed. Accepts NULL. */
struct client_call *client_cancel(struct client_call *call);
/* Stops and resumes the answer: how back-pressure travels. A paused call hears nothing, but of a
 * failure before the request was sent. */
void client_pause(struct client_call *call, bool paused);
/* Connections in use and kept, of all partitions. */
size_t client_count_connections(const struct client *client);
