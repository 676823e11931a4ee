/*
 * What two subscriptions/listen tell of one thing while one takes over from the other, pure: what
 * each tells is told to it, time is passed in. What both tell is passed on once, and what only one
 * of them tells is not lost.
 *
 * From its acknowledgement on the current one is believed: it tells all that is new. What the old
 * one still tells is held back. It is older than what the current one tells after it; where that
 * tells nothing until the old one ends, something may have been updated.
 *
 * What the old one told between the request for the current one and its acknowledgement was passed
 * on. The server may have known of the current one by then: it tells that again, and has not told
 * it before the old one. Or not: then what it tells first is news. So as many are taken for the
 * same, unless nothing was told for TALLY_LAG_MS: by then both have told the same. If they were
 * news the old one tells them, too. Where it ends before that is known (TALLY_PERHAPS,
 * tally_end()), something may have been updated.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

enum { TALLY_LAG_MS = 200 };

enum tally_word {
    TALLY_NEWS,
    TALLY_COPY,    /* it was passed on */
    TALLY_PERHAPS, /* one of both */
};

struct tally {
    unsigned early; /* what the current one has told since a next one was asked for, if one was */
    unsigned again; /* what the old one has told of that kind, and the current one may tell again */
    bool leads;     /* the current one has told news */
    bool is_held;   /* the old one has told something */
    bool is_owed;   /* something of the current one was taken for a copy */
    uint64_t heard_ms;
};

/* A next one is asked for. There is no old one then. */
void tally_ask(struct tally *tally);
/* It is acknowledged and the current one now. `has_old`: the one before goes on for a while. */
void tally_turn(struct tally *tally, bool has_old, uint64_t now_ms);
/* The old one tells it. */
void tally_old(struct tally *tally, uint64_t now_ms);
/* The current one does. `has_old`: there is an old one that is to tell it, too. */
MUST_CHECK enum tally_word tally_current(struct tally *tally, bool has_old, uint64_t now_ms);
/* The old one ends. `is_cut`: not by us. True: something may not have been passed on. */
MUST_CHECK bool tally_end(struct tally *tally, bool is_cut, uint64_t now_ms);
