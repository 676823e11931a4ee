/*
 * What a call needs to be made: a place among max_in_flight and the breaker's leave, both of the
 * upstream as a whole, over all principals, instances and workers. Any thread; a permit itself
 * belongs to whoever has the call.
 *
 * While the breaker is closed and nothing failed, taking and giving back are two atomics; all else
 * is under upstream->mutex.
 */
#pragma once

#include <stddef.h>

#include "base/slice.h"
#include "breaker.h"

struct upstream;

struct permit {
    struct upstream *upstream; /* NULL: none, or given back */
    struct breaker_ticket ticket;
    bool is_settled; /* the breaker knows what became of the call */
};

/* Longer than any reason. */
enum { PERMIT_REASON = 512 };

/* Empty: it has been granted. Else why not, in `text`. */
MUST_CHECK struct slice permit_take(struct permit *permit, struct upstream *upstream,
                                    uint64_t now_ms, char *text, size_t size);
/* The server has shown what there is to know, though the call goes on. */
void permit_settle(struct permit *permit, enum breaker_verdict verdict, uint64_t now_ms);
/* The call is over. Again: nothing. */
void permit_return(struct permit *permit, enum breaker_verdict verdict, uint64_t now_ms);
/* Empty: the call, which waits, may still be sent. Else why not, in `text`. */
struct slice permit_lost(const struct permit *permit, uint64_t now_ms, char *text, size_t size);

/* What is no call's. */
void permit_blame(struct upstream *upstream, enum breaker_verdict verdict, uint64_t now_ms);
void permit_started(struct upstream *upstream);
