/*
 * What a server says when it wants credentials: WWW-Authenticate (RFC 9110 sections 11.2, 11.3 and
 * 11.6.1). Strict and sans-io. A field may have several challenges, and there may be several
 * fields; both use the comma, so only the whole grammar tells where a challenge ends.
 */
#pragma once

#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "http/message.h"

enum { HTTP_CHALLENGES = 16, HTTP_CHALLENGE_PARAMETERS = 32 }; /* of a field; of a challenge */

struct http_challenge {
    struct slice scheme;
    struct slice token68;    /* empty: there is none, but perhaps parameters */
    struct slice parameters; /* as they stand; empty: none */
};

/*
 * Reads one field's value. HTTP_E_CHALLENGE: it is not well-formed, a parameter comes twice in one
 * challenge, or there are more than the limits above; nothing of it is to be believed then. Slices
 * point into the value.
 */
enum { HTTP_E_CHALLENGE = 1, HTTP_E_ABSENT = 2 };
MUST_CHECK int http_challenges_read(struct slice value,
                                    struct http_challenge ret_challenges[static HTTP_CHALLENGES],
                                    size_t *ret_n);
/* The first challenge of this scheme (without case) in all WWW-Authenticate fields; those that are
 * not well-formed are left out. HTTP_E_ABSENT: there is none. */
MUST_CHECK int http_challenge_find(const struct http_head *head, struct slice scheme,
                                   struct http_challenge *ret_challenge);
/* Appends the value of a parameter (its name without case), unquoted. HTTP_E_ABSENT, or the
 * buffer's error. */
MUST_CHECK int http_challenge_get(const struct http_challenge *challenge, struct slice name,
                                  struct buf *out);
