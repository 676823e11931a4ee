/*
 * The verifier without files (verify.c): bytes of segments in, findings out. verify_files.c feeds
 * it from a directory, tests from memory.
 */
#pragma once

#include "audit/verify.h"
#include "base/buf.h"
#include "base/map.h"
#include "json/reader.h"
#include "own.h"

/* What is kept of calls that are not over. In memory of its own, so that a verifier without a line
 * begun can be copied and put back (tests do). */
struct audit_intents {
    struct map open;      /* id -> seq */
    uint64_t n_untracked; /* that there was no room for */
};

/* By which hash the next line may be the next one. */
enum audit_candidate {
    AUDIT_BY_STATED,   /* the hash that the last line has written in it */
    AUDIT_BY_COMPUTED, /* the hash that it should have */
    AUDIT_BY_GOOD,     /* of the last line that was good */
    AUDIT_N_CANDIDATES
};

struct audit_verifier {
    const struct audit_verify_options *options;
    struct audit_hasher *hasher;
    struct json_reader *reader;
    struct audit_intents *intents;
    struct audit_verified result;
    int error; /* sticky: -ENOMEM */

    /* The line that is being read. */
    uint64_t segment, line, offset;
    bool is_newest;     /* the last file there is */
    struct buf pending; /* its beginning, when its end has not come yet */
    bool is_overlong;   /* more came than can be a line: the rest is passed over */
    uint64_t pending_n; /* how much came */

    /* The chain. */
    bool is_begun; /* a line was read, so there is one before the next */
    bool is_sure;  /* the last line was good */
    uint64_t seq;  /* of the last line, or the one that it should have */
    unsigned char candidates[AUDIT_N_CANDIDATES][AUDIT_HASH];
    bool has_candidate[AUDIT_N_CANDIDATES];

    /* The segment. */
    char log[AUDIT_LOG_CHARS + 1]; /* empty: not known yet */
    uint64_t number;               /* 0: not known */
    bool is_checked_end; /* its last line is a checkpoint, or there is a finding about it */

    /* Checkpoints. */
    bool knows_checkpoint; /* where the last one was, and nothing was found since */
    uint64_t checkpoint_seq;
    uint64_t retained, retained_signed; /* lines below are deleted, as retention lines say */
    bool is_expected_found;
};

/* `options` outlives it. -ENOMEM. */
MUST_CHECK int audit_verifier_new(const struct audit_verify_options *options,
                                  struct audit_verifier **ret_verifier);
struct audit_verifier *audit_verifier_free(struct audit_verifier *verifier);
void audit_verifier_freep(struct audit_verifier **verifier);

/* A file: its beginning, its bytes in pieces of any size, its end. -ENOMEM. */
void audit_verifier_begin(struct audit_verifier *verifier, uint64_t first_seq, bool is_newest);
MUST_CHECK int audit_verifier_feed(struct audit_verifier *verifier, struct slice bytes);
MUST_CHECK int audit_verifier_end(struct audit_verifier *verifier);
/* In place of a file: it is none. */
void audit_verifier_no_file(struct audit_verifier *verifier, uint64_t first_seq);
/* All files up to here were deleted while they were read: the next one is the first. */
void audit_verifier_forget(struct audit_verifier *verifier);
/* Bytes behind the last line end. */
bool audit_verifier_is_within_line(const struct audit_verifier *verifier);
/* Behind the last file. */
MUST_CHECK int audit_verifier_finish(struct audit_verifier *verifier,
                                     struct audit_verified *ret_verified);
