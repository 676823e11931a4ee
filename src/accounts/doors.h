/* What sessions, throttle, set-up and edit mode share, and what users and roles need of them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accounts/accounts.h"

enum { DOORS_DIGEST = 2 * 32 /* hexadecimal digits */, DOORS_NAME = 64 };

/* The SHA-256 of a text in small hexadecimal digits, as the store has it. */
void doors_digest(struct slice text, char digest[DOORS_DIGEST + 1]);
/* In constant time; a digest that is none is nobody's. */
bool doors_is_digest_of(struct slice digest, struct slice text);
/* Of a session's secret: another text for each, from which the secret cannot be told. */
void doors_make_csrf(struct slice secret, char csrf[ACCOUNTS_SECRET + 1]);
/* 256 bits of chance; 128 bits. */
void doors_make_secret(char secret[ACCOUNTS_SECRET + 1]);
void doors_make_id(char id[ACCOUNTS_ID + 1]);
/* `n` characters of base64url: what else comes from outside as an id or a secret is none, and is
 * not asked for. */
bool doors_is_base64url(struct slice text, size_t n);
/* Appends at most `most` bytes of what a stranger says of itself, as a text that both databases
 * take: UTF-8 without controls. */
int doors_append_text(struct buf *out, struct slice text, size_t most);

/* As the `key` column has a name. False: nobody can have that name. */
bool doors_fold(struct slice name, char key[DOORS_NAME + 1]);
/* The user's id, by id or name. ACCOUNTS_E_NONE. */
MUST_CHECK int doors_find_user(struct store_tx *tx, struct slice user, char id[ACCOUNTS_ID + 1]);
/* The owner, or somebody with this permission. */
bool doors_may(const struct accounts_actor *actor, enum permission permission);
/* One row, one number of it, by one statement. No row: `none`. */
MUST_CHECK int doors_number(struct store_tx *tx, const char *sql, const struct store_value *values,
                            size_t n_values, int64_t none, int64_t *ret_number);

/* sessions.c: all of a user's (an id) but this one (may be empty): rights or password changed. */
MUST_CHECK int accounts_end_sessions(struct store_tx *tx, struct slice user_id, struct slice but);

/* throttle.c: the login was right: what was counted for it is taken back, and the address is one
 * of the user's from then on. */
MUST_CHECK int accounts_pass_login(struct store_tx *tx, struct slice name, struct slice address);
MUST_CHECK int accounts_sweep_failures(struct store_tx *tx, uint64_t now_ms);

/* editing.c: as the store has it. */
struct slice accounts_scope_name(enum accounts_scope scope);
bool accounts_find_scope(struct slice name, enum accounts_scope *ret_scope);
