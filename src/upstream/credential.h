/*
 * The access token of a caller, where auth.type = "forward" sends it on. Immutable and counted:
 * each call, and each request that is out, has its caller's own; the instance keeps the one that
 * ends last for what it does by itself. The last reference wipes it.
 */
#pragma once

#include "base/compiler.h"
#include "base/slice.h"
#include "upstream/upstream.h"

/* NULL: there is no memory, or the token is none that a header field can hold. */
struct upstream_credential *credential_new(struct slice token, uint64_t ends_wall_ms);
/* Accepts NULL. */
struct upstream_credential *credential_ref(struct upstream_credential *credential);
bool credential_has_ended(const struct upstream_credential *credential);
/* Until it ends; UINT64_MAX: never. */
uint64_t credential_time_left(const struct upstream_credential *credential);
/* In constant time. */
bool credential_is(const struct upstream_credential *credential, struct slice token);
/* "Authorization: Bearer TOKEN\r\n" */
struct slice credential_line(const struct upstream_credential *credential);
