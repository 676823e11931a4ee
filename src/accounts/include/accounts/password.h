/* Passwords: what may be one, and their hashes (Argon2id; bcrypt of older systems is accepted). */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

enum { PASSWORD_LEAST = 12, PASSWORD_MOST = 1024 };

/* NULL: it may be one; else a sentence that says why not. `name`: of the user; may be empty. */
const char *password_refusal(struct slice password, struct slice name);
/* Appends the hash, with its parameters ("$argon2id$..."). Takes some 50 ms and 64 MiB. */
MUST_CHECK int password_hash(struct slice password, struct buf *out);
/* Constant in time where the hash is well-formed. *ret_is_old: right, and worth to be hashed anew.
 */
bool password_is(struct slice password, struct slice hash, bool *ret_is_old);
/* Of a password that nobody has: an unknown name takes as long as a wrong password. */
void password_pretend(struct slice password);
bool password_is_hash(struct slice text);
