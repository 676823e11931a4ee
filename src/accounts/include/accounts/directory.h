/*
 * What a call needs to know of all this, in memory: an immutable picture of tokens, users, roles
 * and edit mode, made anew when the store has changed. Counted, any thread; looking something up
 * takes no lock and no system call.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accounts/accounts.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "policy/rights.h"
#include "store/store.h"

struct directory;

/* In a transaction that reads. Of an unreadable role the rights are nothing. */
MUST_CHECK int directory_load(struct store_tx *tx, struct directory **ret_directory);
struct directory *directory_ref(struct directory *directory);
struct directory *directory_unref(struct directory *directory);

struct directory_token {
    char id[ACCOUNTS_ID + 1];
    struct slice prefix, name;       /* of the token */
    struct slice user_id, user_name; /* of a user who is not disabled */
    struct slice *roles;             /* names, sorted */
    size_t n_roles;
    struct policy_rights *rights; /* the user's, and no more than the token's */
    uint64_t expires_ms;          /* wall clock; UINT64_MAX: never */
};
/* By the SHA-256 of the whole token; NULL: there is none. Whether it is over is the caller's to
 * look at. */
const struct directory_token *directory_find_token(const struct directory *directory,
                                                   const unsigned char digest[32]);
/*
 * What roles the groups of a caller give. *ret_rights is NULL where none of the groups has a role:
 * rights say nothing about the caller then; else a reference, for the union of them. -ENOMEM is
 * not the same as NULL. `ret_roles` (may be NULL): names, at most `most`, pointing into the
 * directory.
 */
MUST_CHECK int directory_group_rights(const struct directory *directory, const struct slice *groups,
                                      size_t n_groups, struct policy_rights **ret_rights,
                                      struct slice *ret_roles, size_t most, size_t *ret_n_roles);
bool directory_has_users(const struct directory *directory);

/*
 * Until when edit mode is open for a caller with these roles at this upstream, by the wall clock of
 * the store; 0: it is not. What was open when this was loaded may be over by now: it is open only
 * while directory_now_ms() is before that.
 */
uint64_t directory_edit_until(const struct directory *directory, struct slice upstream,
                              const struct slice *roles, size_t n_roles);
/* The time of the store when `boot_ms` (clock_boot_ms()) is now; never behind it as long as its
 * clock is not set. */
uint64_t directory_now_ms(const struct directory *directory, uint64_t boot_ms);
/* The moment at which the first window closes, of those that were open when this was loaded; 0:
 * none was. The directory has to be loaded anew then. */
uint64_t directory_next_close_ms(const struct directory *directory);
