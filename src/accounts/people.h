/* What users, roles and tokens share: names, who may do what to whom. */
#pragma once

#include "doors.h"

enum { PEOPLE_NAME = DOORS_NAME, PEOPLE_EMAIL = 254 };
/* Of the system role (store/migrations.c) that somebody always has. */
#define PEOPLE_ADMINISTRATOR "administrator000000000"

/* --- values (names.c) --- */

/* Says in `reason` what is wrong, for the value called `what`. 0 or ACCOUNTS_E_WRONG. */
MUST_CHECK int people_check_name(struct slice name, struct buf *reason);
/* At most `most` bytes of UTF-8 that show as what they are: no controls, nothing that cannot be
 * seen, nothing that turns the direction of text around. */
MUST_CHECK int people_check_text(struct slice text, const char *what, size_t most,
                                 struct buf *reason);
MUST_CHECK int people_check_email(struct slice email, struct buf *reason);
/* Appends the sentence and gives `code` back. */
int people_refuse(struct buf *reason, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* --- rights (names.c) --- */

/* In the store's own text; one that cannot be read: nothing. */
MUST_CHECK int people_read_rights(struct slice json, struct policy_rights **ret_rights);
/* As the store keeps them, who reads them back. ACCOUNTS_E_WRONG: they are too long for that. */
MUST_CHECK int people_write_rights(const struct policy_rights *rights, struct buf *out,
                                   struct buf *reason);
/* Adds what is in *rights, in its place. */
MUST_CHECK int people_add_rights(struct policy_rights **rights, const struct policy_rights *more);
/* What the rows of one column, which are documents of rights, give together. */
MUST_CHECK int people_sum_rights(struct store_tx *tx, const char *sql,
                                 const struct store_value *values, size_t n_values,
                                 struct policy_rights **ret_rights);
void people_unrefp(struct policy_rights **rights);

/* Both ask what the actor had when they came and what the store says that they have now. 0, or
 * ACCOUNTS_E_DENIED with the reason. */
MUST_CHECK int people_may(struct store_tx *tx, const struct accounts_actor *actor,
                          enum permission permission, struct buf *reason);
MUST_CHECK int people_may_give(struct store_tx *tx, const struct accounts_actor *actor,
                               const struct policy_rights *given, const char *what,
                               struct buf *reason);

/* --- tokens, for users (tokens.c) --- */

/* All of this user's, by id; whether the actor may was asked. */
MUST_CHECK int people_delete_tokens(struct store_tx *tx, struct slice user_id, uint64_t *ret_n);

/* --- roles, for users (roles.c) --- */

struct people_role {
    char id[ACCOUNTS_ID + 1];
    bool is_system;
    uint64_t version;
    struct policy_rights *rights;
};
void people_role_deinit(struct people_role *role);
/* By id or name; ACCOUNTS_E_NONE. */
MUST_CHECK int people_find_role(struct store_tx *tx, struct slice role,
                                struct people_role *ret_role);
/* ACCOUNTS_E_DENIED where nobody would be an administrator any more and somebody was. */
MUST_CHECK int people_keep_administrator(struct store_tx *tx, int64_t n_before, struct buf *reason);
MUST_CHECK int people_count_administrators(struct store_tx *tx, int64_t *ret_n);
