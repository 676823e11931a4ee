/*
 * Verification, offline, with the public key alone: every line is chained to the one before, every
 * checkpoint is signed by the key, segments follow each other, what is missing at the beginning was
 * dropped by retention. Lines behind the last checkpoint are chained, but not signed yet.
 */
#pragma once

#include "audit/keys.h"

enum audit_finding_kind {
    AUDIT_FOUND_LINE,      /* is no line of a trail */
    AUDIT_FOUND_HASH,      /* it, or the one before, is another than was written */
    AUDIT_FOUND_SEQUENCE,  /* lines are missing, repeated, or in another order */
    AUDIT_FOUND_SIGNATURE, /* a checkpoint is not signed by this key, or for this log */
    AUDIT_FOUND_SEGMENT,   /* a file does not begin as it has to, or is of another log */
    AUDIT_FOUND_BEGINNING, /* the first lines are missing, and retention did not say so */
    AUDIT_FOUND_TORN,      /* the last line has no end */
    AUDIT_FOUND_HEAD,      /* the expected head is not in the trail */
    AUDIT_FOUND_UNSIGNED,  /* a whole file, or more than an open one can have, is not signed */
    AUDIT_FOUND_CUT,       /* a start had to put away more than a crash can have torn */
};

struct audit_finding {
    enum audit_finding_kind kind;
    uint64_t segment;      /* by the number of its first line as its name has it */
    uint64_t line, offset; /* in that file, from 1 and from 0 */
    uint64_t seq;          /* of the line, or the one that should be there */
    char text[160];        /* a sentence */
};

struct audit_verify_options {
    const char *dir;
    const struct audit_public_key *key;
    const struct audit_chain *expect; /* NULL: none */
    /* For people who wait; may be NULL. */
    void (*on_progress)(void *context, uint64_t done_bytes, uint64_t all_bytes);
    /* Each finding, in the order of the files, then those about the whole (a missing beginning, the
     * expected head, of which segment and line are 0); after LIMIT_AUDIT_FINDINGS only counted. */
    void (*on_finding)(void *context, const struct audit_finding *finding);
    /* A call that was let through and of which no end is recorded: its intent's id and line. Told
     * as soon as a `start` shows that none will come, or at the end. */
    void (*on_open_intent)(void *context, struct slice id, uint64_t seq);
    void *context;
};

struct audit_verified {
    uint64_t n_segments, n_lines, n_checkpoints, n_findings;
    uint64_t first_seq;
    struct audit_chain head; /* of the last good line */
    uint64_t signed_seq;     /* the last good checkpoint: it and the lines before are signed */
    uint64_t n_unsigned;     /* lines behind it */
    uint64_t n_open_intents;
    uint64_t n_lost; /* as gaps say */
    uint64_t n_recoveries, n_starts, n_stops;
    uint64_t n_dropped; /* lines, by retention */
    char log[32];       /* the log's id */
};

/* 0, also with findings; -errno: it could not be read. */
MUST_CHECK int audit_verify(const struct audit_verify_options *options,
                            struct audit_verified *ret_verified);
