/*
 * An access token on its way to a server. Immutable and counted; the last reference wipes it. Any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct oauth_token;

/* NULL: there is no memory, or it is no token (RFC 6750 section 2.1: b64token) of at most
 * LIMIT_JWT. `ends_wall_ms`: UINT64_MAX when nobody knows. */
struct oauth_token *oauth_token_new(struct slice token, uint64_t ends_wall_ms);
/* Both accept NULL. */
struct oauth_token *oauth_token_ref(struct oauth_token *token);
struct oauth_token *oauth_token_unref(struct oauth_token *token);
void oauth_token_unrefp(struct oauth_token **token);

uint64_t oauth_token_ends(const struct oauth_token *token);
bool oauth_token_has_ended(const struct oauth_token *token);
/* Until it ends; UINT64_MAX: nobody knows. */
uint64_t oauth_token_time_left(const struct oauth_token *token);
/* In constant time. */
bool oauth_token_is(const struct oauth_token *token, struct slice text);
/* The token itself, and "Authorization: Bearer TOKEN\r\n" */
struct slice oauth_token_text(const struct oauth_token *token);
struct slice oauth_token_line(const struct oauth_token *token);
