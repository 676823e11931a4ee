/*
 * A secret of bounded length: lives in locked memory, is wiped when freed and in a forked child,
 * compared in constant time, and never printed (log it as SECRET_REDACTED).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/slice.h"

#define SECRET_REDACTED "[redacted]"

struct secret; /* opaque */

/* A copy of the bytes. 0, -ENOMEM. The caller wipes its own. */
MUST_CHECK int secret_new(struct slice bytes, struct secret **ret_secret);
/* Wipes and frees; accepts NULL, returns NULL. */
struct secret *secret_free(struct secret *secret);
/* For CLEANUP(). */
void secret_freep(struct secret **secret);

/* Constant time in the content; the length of a secret is not secret. */
bool secret_equals(const struct secret *secret, struct slice bytes);
/* The bytes, valid while the secret lives: for handing it to a child, a header, a file. Name the
 * use in the call. */
struct slice secret_reveal(const struct secret *secret);

/* Overwrites memory in a way that the compiler cannot drop. */
void secret_wipe(void *ptr, size_t len);
/* For CLEANUP(): buf_deinit() of a buffer that held a secret. What it left behind where it lay
 * before it grew is not reached: such a buffer is given its room at once (buf_reserve). */
struct buf;
void secret_buf_deinit(struct buf *buf);
