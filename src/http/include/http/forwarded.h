/*
 * Whose address a request has. Everybody can write X-Forwarded-For and X-Real-IP, so they count
 * only from those who are trusted, and only the one that was chosen. X-Real-IP goes before
 * X-Forwarded-For, as in Nexus. What is malformed is as if it were not there, and in the end the
 * address is the one of whoever talks to us: never one that a client may choose.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/network.h"
#include "http/message.h"

#define HTTP_NO_HOPS UINT64_MAX
struct http_forwarded {
    bool x_real_ip;
    bool x_forwarded_for;          /* the last address that nobody trusts */
    uint64_t hops;                 /* or the one at this place of it, from the right, from 0 on */
    const struct network *trusted; /* proxies */
    size_t n_trusted;
};

/* What it says of the client that it speaks for is believed. */
bool http_forwarded_trusts(const struct http_forwarded *forwarded, const struct network *address);
/* `peer`, who talks to us, or the client that it speaks for. */
struct network http_forwarded_client(const struct http_forwarded *forwarded,
                                     const struct http_head *head, const struct network *peer);
