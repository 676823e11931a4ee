/*
 * What roles give: permissions in the console and its API, and which operations of which upstreams.
 * Pure; a set of rights is immutable and counted, any thread.
 *
 * As JSON, which is what the store has and the API speaks:
 *   {"permissions":["audit.read","tokens.own"],
 *    "operations":[{"upstream":"db-*","operation":"*","access":"read"}]}
 * A star stands for any characters. "write" includes reading. An empty list gives nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "json/reader.h"

enum permission {
    PERMISSION_STATUS_READ,     /* health, statistics */
    PERMISSION_CONFIG_READ,     /* the live configuration, without secrets */
    PERMISSION_UPSTREAMS_READ,  /* and the inventory of tools */
    PERMISSION_UPSTREAMS_WRITE, /* of the store */
    PERMISSION_UPSTREAMS_TEST,
    PERMISSION_AUDIT_READ,
    PERMISSION_AUDIT_EXPORT,
    PERMISSION_EDIT_OPEN, /* edit mode; who may open it may close it */
    PERMISSION_USERS_READ,
    PERMISSION_USERS_WRITE,
    PERMISSION_ROLES_READ, /* also: who can call what */
    PERMISSION_ROLES_WRITE,
    PERMISSION_TOKENS_OWN, /* tokens of one's own */
    PERMISSION_TOKENS_ALL,
    PERMISSION_SESSIONS_ALL, /* those of others; one's own are always one's own */
    PERMISSION_SECRETS_READ, /* their names */
    PERMISSION_SECRETS_WRITE,
    PERMISSION_COUNT
};
/* "status.read" and so on. */
struct slice permission_name(enum permission permission);
/* False: there is none. */
bool permission_find(struct slice name, enum permission *ret_permission);

struct policy_rights;

/* RIGHTS_E_WRONG: `reason` gets a sentence that names the place. */
enum { RIGHTS_E_WRONG = 1 };
MUST_CHECK int policy_rights_read(struct json_reader *reader, struct slice json,
                                  struct policy_rights **ret_rights, struct buf *reason);
/* Of several roles together; n 0: nothing. -E2BIG: met and united more than 4 times over. */
MUST_CHECK int policy_rights_union(const struct policy_rights *const *rights, size_t n,
                                   struct policy_rights **ret_rights);
/* What both give: a token's within its owner's. */
MUST_CHECK int policy_rights_meet(const struct policy_rights *a, const struct policy_rights *b,
                                  struct policy_rights **ret_rights);
struct policy_rights *policy_rights_ref(struct policy_rights *rights);
struct policy_rights *policy_rights_unref(struct policy_rights *rights);

bool policy_rights_have(const struct policy_rights *rights, enum permission permission);
/* An operation: a tool, a prompt, a resource's URI, by the name that its server has for it. */
bool policy_rights_allow(const struct policy_rights *rights, struct slice upstream,
                         struct slice operation, bool is_write);
/* Anything of the upstream at all; of what two have in common: both do. */
bool policy_rights_know(const struct policy_rights *rights, struct slice upstream);
/* Everything of it, so that nothing has to be asked one by one. */
bool policy_rights_allow_all(const struct policy_rights *rights, struct slice upstream,
                             bool is_write);
/* Everything that `other` gives: nobody hands out more than they have. Yes is always right; no may
 * be said where only several grants together would give what one of `other` does. */
bool policy_rights_cover(const struct policy_rights *rights, const struct policy_rights *other);
/* As JSON, sorted. What two have in common is {"all_of":[{"operations":[...]},...]} in place of
 * operations ("any_of" for such ones united): to be shown, not to be read again. */
MUST_CHECK int policy_rights_write(const struct policy_rights *rights, struct buf *out);
