/*
 * What one configuration says of who may come near, made ready to be asked for every request: which
 * hosts are ours, whose word counts about clients behind them, pages of which origins may call. It
 * is immutable and belongs to that configuration, which has to outlive it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/compiler.h"
#include "base/network.h"
#include "config/config.h"
#include "cors.h"
#include "http/forwarded.h"
#include "http/message.h"
#include "http/uri.h"

struct border_host {
    struct slice text;              /* as configured: most requests spell it so */
    struct uri_authority authority; /* without a port: any */
};

struct border {
    const struct config *config;
    struct border_host *hosts;
    size_t n_hosts;
    struct http_forwarded forwarded; /* server.trusted_proxies and server.client_ip */
    struct cors cors;
    struct slice hsts;     /* a whole line, for answers over TLS; may be empty */
    struct slice metadata; /* RFC 9728, JSON: what is the same for all endpoints; empty: none */
    struct arena arena;
};

/* -ENOMEM; -E2BIG for lists that fit in no answer. */
MUST_CHECK int border_new(const struct config *config, struct border **ret_border);
struct border *border_free(struct border *border);

/* The Host field, and Origin when there is one, name this gateway. */
bool border_host_is_ours(const struct border *border, const struct http_head *head);
bool border_origin_is_ours(const struct border *border, const struct http_head *head);
/* A browser may be told to use nothing but TLS with the host of this field: with "localhost" that
 * would be for all other programs of the machine, too. */
bool border_is_pinned(struct slice host);
/* What it says of the client that it speaks for is believed. */
bool border_trusts(const struct border *border, const struct network *address);
/*
 * The client's address: what X-Real-IP or X-Forwarded-For say, as [server.client_ip] says, where
 * the one who talks to us is a trusted proxy; else that one's own.
 */
struct network border_client(const struct border *border, const struct http_head *head,
                             const struct network *peer);

/* metadata.c: border->metadata. -ENOMEM, -E2BIG. */
MUST_CHECK int border_write_metadata(const struct config *config, struct arena *arena,
                                     struct slice *ret_metadata);
