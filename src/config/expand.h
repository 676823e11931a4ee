/*
 * Templates in strings: {{ env.NAME }}, {{ env.NAME | default("text") }} and, for braces that are
 * meant, {{ "text" }}. Expanded once, after the file was parsed: what a variable holds is never
 * read as a template or as TOML.
 */
#pragma once

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "config/config.h"

enum {
    EXPAND_E_SYNTAX = 1,   /* *ret_detail: what is wrong, a fixed sentence */
    EXPAND_E_UNKNOWN = 2,  /* *ret_detail: the word that is not known */
    EXPAND_E_UNSET = 3,    /* *ret_detail: the variable */
    EXPAND_E_ENCODING = 4, /* *ret_detail: the variable whose value is not UTF-8 */
};

/*
 * Appends the expanded text. 0, a code from above, or the buffer's error. `out` may hold a part on
 * failure. *ret_detail points into text or is constant.
 */
MUST_CHECK int expand_text(struct buf *out, struct slice text, config_getenv *getenv_fn,
                           void *context, struct slice *ret_detail);
