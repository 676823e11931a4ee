/*
 * Private files of a module, encrypted by somebody that it does not know: keys of the audit trail
 * and of TLS, by the vault. NULL in the place of a struct sealing: they are written in plain, and
 * those that are encrypted cannot be read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/secret.h"
#include "base/slice.h"

/* 0, or an error that is passed on. */
typedef int sealing_put_fn(void *context, struct slice content);

/* `reason` says what is wrong and what to do. Of open(): the file may have been sealed again, and
 * the key been dropped, since it was read; so it is read again, SEALING_TRIES times in all. */
enum { SEALING_E_REFUSED = 1, SEALING_TRIES = 3 };

/* -errno and SEALING_E_REFUSED. */
struct sealing {
    const void *context;
    /* Hands what the file is to hold to `put`, which writes it; until that returns no key is
     * dropped. `name`: of the file, below the data directory. */
    int (*seal)(const void *context, struct slice name, struct slice plain, sealing_put_fn *put,
                void *put_context, struct buf *reason);
    int (*open)(const void *context, struct slice name, struct slice content,
                struct secret **ret_plain, struct buf *reason);
};

/* A file with this content is encrypted; else it is in plain. None that is holds less. */
static inline bool sealing_is_sealed(struct slice content) {
    enum { LEAST = 100 };
    return content.len >= LEAST && slice_starts_with(content, SLICE("gAAAAA"));
}
