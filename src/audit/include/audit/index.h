/*
 * The index: a SQLite database beside the trail (DIR/index.sqlite) with what records are looked for
 * by, and where they stand. It is filled by a thread of its own, may lag behind, and can be made
 * anew at any time: it proves nothing. The records themselves are read from the trail.
 *
 * An intent and its outcome are one row. Looking needs no gateway: any process that may read the
 * directory can.
 */
#pragma once

#include "audit/follow.h"
#include "audit/trail.h"
#include "base/log.h"

struct audit_index;

/* `audit`: told of the size; NULL: nobody. -errno, -ENOMEM. */
MUST_CHECK int audit_index_start(const char *dir, struct audit *audit, struct log *log,
                                 struct audit_index **ret_index);
struct audit_index *audit_index_stop(struct audit_index *index);

struct audit_index_state {
    uint64_t n_records;
    uint64_t seq; /* of the last line that is in it */
    char error[160];
};
void audit_index_get_state(struct audit_index *index, struct audit_index_state *ret_state);

/* Brings the index up to date in this thread, from nothing when `anew`; when a gateway fills it,
 * that one goes on. AUDIT_E_INDEX: *ret_reason says why it cannot. */
enum { AUDIT_E_INDEX = 1 };
MUST_CHECK int audit_index_update(const char *dir, bool anew,
                                  void (*on_progress)(void *context, uint64_t n_records),
                                  void *context, struct buf *ret_reason);

/* What to look for: all that is set has to hold. Empty slices and 0: anything. */
struct audit_query {
    struct slice user, group, operation, upstream, status, decision, event;
    struct slice address;        /* an address or a block */
    uint64_t since_us, until_us; /* since 1970; the second one excluded */
    struct slice text;           /* stands in the record, without regard to case (ASCII) */
    bool oldest_first;
    uint64_t cursor; /* audit_page.next of the page before; 0: from the beginning (or end) */
    size_t limit;    /* of the page; at most LIMIT_AUDIT_PAGE; 0: 50 */
};

struct audit_page {
    size_t n;
    uint64_t next; /* for the next page; 0: that was the last one */
    uint64_t lag;  /* lines of the trail that are not in the index yet */
};

/* `line`: the record as it stands in the trail; `outcome`: of an intent, else empty. */
typedef void audit_found(void *context, struct slice line, struct slice outcome);

/*
 * One page. It stops looking after a moment (LIMIT_AUDIT_QUERY_MS) and may then have fewer records
 * than asked for, none too, with `next` set. New records never change what follows a cursor; an
 * intent is found by its status from the moment on in which its outcome is in the index.
 * AUDIT_E_INDEX: *ret_reason says why it cannot.
 */
MUST_CHECK int audit_find(const char *dir, const struct audit_query *query, audit_found *found,
                          void *context, struct audit_page *ret_page, struct buf *ret_reason);
