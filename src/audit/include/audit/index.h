/*
 * The index: what records are looked for by. It is filled by a thread of its own, may lag behind,
 * and can be made anew at any time: it proves nothing. An intent and its outcome are one row.
 *
 * It is a SQLite database beside the trail (DIR/index.sqlite), which says where records stand; they
 * are read from the trail. Or it is in the PostgreSQL of the store, in tables that all instances
 * fill, each from its own trail, with the records themselves: any instance finds those of all.
 *
 * Looking needs no gateway: any process that may read the directory, or the database, can.
 */
#pragma once

#include "audit/follow.h"
#include "audit/trail.h"
#include "base/log.h"

struct audit_index;

/* Which index. */
struct audit_index_options {
    const char *dir;     /* of the trail */
    struct slice url;    /* "postgres://...", of a store that is there; empty: SQLite in `dir` */
    uint64_t max_age_ms; /* of records of instances that are gone (PostgreSQL); 0: for ever */
    struct audit *audit; /* told of the size; NULL: nobody */
    struct log *log;     /* NULL: none */
};

/* Everything is copied, but for `audit` and `log`. -errno, -ENOMEM. */
MUST_CHECK int audit_index_start(const struct audit_index_options *options,
                                 struct audit_index **ret_index);
struct audit_index *audit_index_stop(struct audit_index *index);

struct audit_index_state {
    uint64_t n_records; /* of this trail */
    uint64_t seq;       /* of the last line that is in it */
    char error[160];
};
void audit_index_get_state(struct audit_index *index, struct audit_index_state *ret_state);

enum audit_index_how {
    AUDIT_INDEX_GO_ON,   /* from where it stands; waits for a gateway that fills it */
    AUDIT_INDEX_IF_IDLE, /* the same, unless a gateway fills it: then AUDIT_E_BUSY, at once */
    AUDIT_INDEX_ANEW,    /* from nothing; a gateway that fills it does that */
};
/* Brings the index up to date in this thread; where no line is missing IF_IDLE writes nothing.
 * AUDIT_E_INDEX: *ret_reason says why it cannot. */
enum { AUDIT_E_INDEX = 1, AUDIT_E_BUSY = 2 };
MUST_CHECK int audit_index_update(const struct audit_index_options *options,
                                  enum audit_index_how how,
                                  void (*on_progress)(void *context, uint64_t n_records),
                                  void *context, struct buf *ret_reason);

/* PostgreSQL: leaves out the records of a log (as `segment` lines name it), and deletes them. An
 * instance that still has that trail puts them in anew. AUDIT_E_INDEX. */
MUST_CHECK int audit_index_forget(struct slice url, struct slice log, struct buf *ret_reason);

/* What to look for: all that is set has to hold. Empty slices and 0: anything. */
struct audit_query {
    struct slice user, group, operation, upstream, status, decision, event;
    struct slice address;        /* an address or a block */
    uint64_t since_us, until_us; /* since 1970; the second one excluded */
    struct slice text;           /* stands in the record, without regard to case (ASCII) */
    bool oldest_first;
    struct slice
        cursor;   /* audit_page.next of the page before; empty: from the beginning (or end) */
    size_t limit; /* of the page; at most LIMIT_AUDIT_PAGE; 0: 50 */
};

enum { AUDIT_CURSOR = 64 };
struct audit_page {
    size_t n;
    char next[AUDIT_CURSOR]; /* for the next page: letters of a URL; empty: that was the last one */
    uint64_t lag;            /* lines of the trail that are not in the index yet */
};

/* What was found; valid in the call. */
struct audit_hit {
    struct slice line;    /* the record, as it stands in the trail */
    struct slice outcome; /* of an intent, else empty */
    struct slice log;     /* PostgreSQL: whose trail it stands in; else empty */
};
typedef void audit_found(void *context, const struct audit_hit *hit);

/* Who looks: any thread, several at once. Keeps connections to PostgreSQL. Copies its arguments. */
struct audit_finder;
MUST_CHECK int audit_finder_new(const char *dir, struct slice url,
                                struct audit_finder **ret_finder);
struct audit_finder *audit_finder_free(struct audit_finder *finder);
void audit_finder_freep(struct audit_finder **finder);
bool audit_finder_is_shared(const struct audit_finder *finder); /* PostgreSQL */

/*
 * One page, in the order of the records (SQLite); of several trails by time, log and number. It
 * stops looking after a moment (LIMIT_AUDIT_QUERY_MS) and may then have fewer records than asked
 * for, none too, with `next` set. New records never change what follows a cursor, unless their time
 * lies there; an intent is found by its status from the moment on in which its outcome is in the
 * index. AUDIT_E_INDEX: *ret_reason says why it cannot, and what helps; AUDIT_E_CURSOR: it is none.
 */
enum { AUDIT_E_CURSOR = 3 };
MUST_CHECK int audit_find(struct audit_finder *finder, const struct audit_query *query,
                          audit_found *found, void *context, struct audit_page *ret_page,
                          struct buf *ret_reason);
