/*
 * Cross-origin resource sharing (Fetch standard, section 3.2): which pages of other origins may
 * call, as [server.cors] says. Pure: one configuration in, answers to questions about Origin out.
 *
 * Closed until opened. An origin is scheme, host and port, compared as such; a default port may be
 * written or not. In the host of an entry
 *
 *     "*" alone      is every host of that scheme and port,
 *     "*." in front  is one label or more ("*.example.com": a.example.com, a.b.example.com,
 *                    never example.com),
 *     other '*', '?' are any characters, or one, of the label that they stand in.
 *
 * The last label of a name is always written out: "example.*" would be anybody's domain. What is
 * after the host is cut off, as Nexus does. "null" is the origin of every sandboxed frame and of
 * every local file: it never matches, not even "*". With "*" among allow_origins every other origin
 * does; then credentials are never allowed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "config/config.h"
#include "http/message.h"

struct cors_origin {
    struct slice scheme, host;
    uint16_t port; /* the scheme's default where none is written; 0: there is no such */
    bool is_glob;
};

struct cors {
    bool is_set;     /* there is a table */
    bool allows_all; /* "*" */
    bool allows_private_network;
    struct cors_origin *origins;
    size_t n_origins;
    struct slice answer;    /* whole lines, for answers to allowed origins */
    struct slice preflight; /* likewise, for preflights, beside `answer` */
};

/* The memory is the arena's. What is no origin matches nothing. -ENOMEM; -E2BIG: the lists
 * fit in no answer. */
MUST_CHECK int cors_init(struct cors *cors, const struct config_cors *config, struct arena *arena);
/* `origin`: the value of the request's one Origin field. */
bool cors_allows(const struct cors *cors, struct slice origin);
/* What a browser sends in front of a request that may not be asked for without asking. */
bool cors_is_preflight(const struct http_head *head);
/* The lines of an answer; `origin` was allowed, or is empty when there was none or not an allowed
 * one: then caches are told that it would have mattered. */
void cors_write(const struct cors *cors, struct slice origin, struct buf *out);
/* The lines of an answer to a preflight, beside those of cors_write(). */
void cors_write_preflight(const struct cors *cors, const struct http_head *head, struct buf *out);
