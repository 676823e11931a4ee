/*
 * A line of the trail: JSON in one line, in the order in which it was written, chained to the line
 * before.
 *
 *     {"seq":7,"time":"2026-11-21T22:55:01.123456Z","event":"call",...,"hash":"<43 characters>"}\n
 *
 * `hash` is the base64url (RFC 4648 section 5, without padding, spare bits zero) of
 * SHA-256(hash of the line before, 32 bytes; this line from its brace to the character before
 * `,"hash"`). The first line of a trail follows 32 zero bytes. Every byte of a line is either under
 * the hash, or has one spelling only: a trail with one bit changed is another trail.
 *
 * What stands between `{"seq":7,` and `,"hash"` is the body, made by audit/record.h. It begins with
 * `"time":"..."` of fixed width and `"event":"name"`. Which members a reader relies on is written
 * in docs/AUDIT.md; the program's own lines are:
 *
 *   segment     the first of each file: log, number, previous (the hash before it), key, program
 *   checkpoint  log, key, records (lines since the checkpoint before), signature
 *   start, stop of the gateway: program, mode; recovered (bytes cut off behind a crash), requests
 *   gap         lost, reason: records that could not be written
 *   retention   before: lines below this one were deleted with their files, by age or size
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

enum {
    AUDIT_HASH = 32,
    AUDIT_HASH_CHARS = 43,
    AUDIT_TIME_CHARS = 27, /* 2026-11-21T22:55:01.123456Z */
    AUDIT_EVENT_CHARS = 24 /* the longest name of an event */
};

/* The end of a chain: the hash and number of the last line; seq 0 and zeros: nothing yet. */
struct audit_chain {
    uint64_t seq;
    unsigned char hash[AUDIT_HASH];
};

/* A line, as slices of its text. */
struct audit_line {
    uint64_t seq;
    struct slice covered; /* what the hash is of, beside the one before */
    struct slice body;
    uint64_t time_us;   /* since 1970 */
    struct slice event; /* "call" */
    unsigned char hash[AUDIT_HASH];
};

/* SHA-256 with its memory, of one thread: kept, because making it costs more than a line. */
struct audit_hasher;
MUST_CHECK int audit_hasher_new(struct audit_hasher **ret_hasher); /* 0, -ENOMEM */
struct audit_hasher *audit_hasher_free(struct audit_hasher *hasher);
void audit_hasher_freep(struct audit_hasher **hasher);

/*
 * Appends the line that follows `chain`, with its line end, and moves `chain` on. The body is the
 * pieces one behind the other. -EINVAL: it does not begin as a body has to, or has a control
 * character in it; -EMSGSIZE: it is longer than LIMIT_AUDIT_BODY; these two leave the buffer as it
 * was. Else the buffer's error, -ENOMEM. `chain` is untouched then.
 */
MUST_CHECK int audit_line_write(struct audit_hasher *hasher, struct audit_chain *chain,
                                const struct slice *pieces, size_t n_pieces, struct buf *out);

/*
 * Reads one line, without its line end. AUDIT_E_LINE: it is none that audit_line_write() could have
 * written from a body that begins as it has to; *ret_reason (may be NULL) says why, as the rest of
 * a sentence. The JSON inside the body is not looked at, the hash is not compared.
 */
enum { AUDIT_E_LINE = 1 };
MUST_CHECK int audit_line_read(struct slice text, struct audit_line *ret_line,
                               const char **ret_reason);
/* The line is the next one of the chain: number and hash. `chain` is moved on when it is. */
bool audit_line_follows(struct audit_hasher *hasher, struct audit_chain *chain,
                        const struct audit_line *line);

/* The time as records have it, and back. False: it is not written so, or there is no such day. */
void audit_time_write(uint64_t us_since_1970, char text[AUDIT_TIME_CHARS + 1]);
bool audit_time_read(struct slice text, uint64_t *ret_us);

/* A head, to be kept elsewhere: "SEQ:HASH". */
enum { AUDIT_HEAD_CHARS = 20 + 1 + AUDIT_HASH_CHARS };
struct slice audit_head_write(const struct audit_chain *chain, char text[AUDIT_HEAD_CHARS + 1]);
bool audit_head_read(struct slice text, struct audit_chain *ret_chain);
