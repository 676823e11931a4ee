/*
 * Templates in strings: {{ env.NAME }}, {{ secret.NAME }}, {{ file.PATH }}, each with or without
 * | default("text"), and, for braces that are meant, {{ "text" }}. Expanded once, after the file
 * was parsed: what a reference stands for is never read as a template or as TOML.
 */
#pragma once

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

enum {
    EXPAND_E_SYNTAX = 1,  /* *ret_detail: what is wrong, a fixed sentence */
    EXPAND_E_UNKNOWN = 2, /* *ret_detail: the word that is not known */
    EXPAND_E_UNSET = 3,   /* the resolver knows what */
    EXPAND_E_TOLD = 4,    /* the resolver has said what is wrong */
};

enum expand_scope { EXPAND_ENV, EXPAND_SECRET, EXPAND_FILE };

/* Appends what the name stands for. EXPAND_E_UNSET: nothing, and nothing is appended; a default may
 * take its place. Any other code ends the expansion. `name` has no NUL. */
typedef int expand_resolve(void *context, enum expand_scope scope, struct slice name,
                           struct buf *out);

/*
 * Appends the expanded text. 0, a code from above, or the buffer's error. `out` may hold a part on
 * failure. *ret_detail points into text or is constant.
 */
MUST_CHECK int expand_text(struct buf *out, struct slice text, expand_resolve *resolve,
                           void *context, struct slice *ret_detail);
