/*
 * Upstreams of the store: JSON objects with the keys of [mcp.servers.NAME]. What may stand in them
 * is for the loader of the configuration to say (config/config.h), before the transaction; here is
 * who may write them. As in accounts.h, the functions are for work in a transaction.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accounts/accounts.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "store/store.h"

struct accounts_upstream {
    struct slice name, definition;
    bool is_disabled;
    uint64_t created_ms, updated_ms;
    uint64_t version; /* for ETag: grows with each change */
};
/* What is pointed to is of the call alone. False stops. */
typedef bool accounts_upstream_fn(void *context, const struct accounts_upstream *upstream);

/* By name. */
MUST_CHECK int accounts_list_upstreams(struct store_tx *tx, accounts_upstream_fn *fn,
                                       void *context);
/* ACCOUNTS_E_NONE. */
MUST_CHECK int accounts_get_upstream(struct store_tx *tx, struct slice name,
                                     accounts_upstream_fn *fn, void *context);
/* Appends a text that differs where anything of any upstream does. */
MUST_CHECK int accounts_mark_upstreams(struct store_tx *tx, struct buf *out);

struct accounts_upstream_change {
    struct slice definition; /* ptr NULL: stays as it is */
    unsigned needs;          /* of `definition`: CONFIG_NEEDS_*, as the loader told */
    int is_disabled;         /* -1: stays */
    uint64_t version;        /* that it has to have; 0: any */
};
/*
 * All need PERMISSION_UPSTREAMS_WRITE. A definition that names secrets wants
 * PERMISSION_SECRETS_WRITE, too, because it says where they are sent; one that starts programs or
 * takes what callers have sent wants all that an administrator may.
 */
MUST_CHECK int accounts_add_upstream(struct store_tx *tx, const struct accounts_actor *actor,
                                     struct slice name,
                                     const struct accounts_upstream_change *upstream,
                                     struct buf *reason);
MUST_CHECK int accounts_change_upstream(struct store_tx *tx, const struct accounts_actor *actor,
                                        struct slice name,
                                        const struct accounts_upstream_change *change,
                                        struct buf *reason);
MUST_CHECK int accounts_delete_upstream(struct store_tx *tx, const struct accounts_actor *actor,
                                        struct slice name, uint64_t version, struct buf *reason);
/* Whether somebody may have such a definition written, or tried. 0, ACCOUNTS_E_DENIED. */
MUST_CHECK int accounts_may_define(struct store_tx *tx, const struct accounts_actor *actor,
                                   unsigned needs, struct buf *reason);
