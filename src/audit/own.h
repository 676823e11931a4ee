/*
 * What the files of audit/ share about a trail's own lines (audit/line.h): segment, checkpoint,
 * gap, retention, start. One place writes their bodies (bodies.c), and one reads them.
 *
 * What verify.c holds a trail to, and so what the trail has to keep:
 *
 *   - The first line of each file is a `segment`. Its name is that line's number. `number` counts
 *     the files of the log, from 1; `previous` is the hash of the line before, of the first one 32
 *     zero bytes. All of a log have the same `log`.
 *   - The last line of each file but the newest is a `checkpoint`. In the newest at most
 *     AUDIT_UNSIGNED_LINES lines follow the last checkpoint, or begin a log without one.
 *   - `records` of a checkpoint are the lines between it and the checkpoint before (the beginning
 *     of the log): its own number, minus the number of that one, minus 1.
 *   - Before files are deleted, a `retention` line and a checkpoint behind it are durable: a line
 *     that nobody signed could have been added by whoever deleted the files.
 *   - At most two checkpoints are not durable. A `start` that had to put away
 *     AUDIT_TORN_CHECKPOINTS or more says so: `recovered_checkpoints`.
 *   - A `start` says that intents before it have no outcome any more.
 */
#pragma once

#include "audit/keys.h"
#include "audit/line.h"

enum {
    AUDIT_LINE_TAIL = 9 + AUDIT_HASH_CHARS + 2, /* ,"hash":"..."} */
    AUDIT_LOG_CHARS = 22,                       /* base64url of 16 random bytes */
    AUDIT_UNSIGNED_LINES = 65536,
    AUDIT_TORN_CHECKPOINTS = 3, /* and more cannot be lost by a crash (recover.c) */
    AUDIT_ID_CHARS = 64         /* the longest id of an intent that is looked at */
};

/* SHA-256(previous, covered). -ENOMEM. */
MUST_CHECK int audit_hash(struct audit_hasher *hasher, const unsigned char previous[AUDIT_HASH],
                          struct slice covered, unsigned char ret_hash[AUDIT_HASH]);
/* Base64url without padding, without memory: of n bytes, and back into exactly n, at most those of
 * a signature. False: it is not written so, in that one spelling. */
#define AUDIT_BYTES_CHARS(n) (((n)*8 + 5) / 6)
void audit_bytes_write(const unsigned char *bytes, size_t n, char *text);
bool audit_bytes_read(struct slice text, unsigned char *ret_bytes, size_t n);
void audit_hash_write(const unsigned char hash[AUDIT_HASH], char text[AUDIT_HASH_CHARS]);
bool audit_hash_read(struct slice text, unsigned char ret_hash[AUDIT_HASH]);
/* What stands at the end of a line, whatever is before it. False: it is no end; *ret_covered is
 * set also then, when the text is long enough, and empty slices are never hashed for it. */
bool audit_line_end(struct slice text, struct slice *ret_covered,
                    unsigned char ret_hash[AUDIT_HASH]);

/* --- bodies of the trail's own lines (bodies.c): all writers append; the buffer's error --- */

/* A new log's id. */
void audit_log_new(char log[AUDIT_LOG_CHARS + 1]);

/* {"time","event","log","number","previous","key","program"} */
struct audit_segment_body {
    uint64_t time_us;
    struct slice log;
    uint64_t number;
    unsigned char previous[AUDIT_HASH];
    struct slice key;     /* audit_keys_id() */
    struct slice program; /* at most AUDIT_PROGRAM_CHARS of ASCII, without quotes, backslashes and
                             control characters; else -EINVAL */
};
enum { AUDIT_PROGRAM_CHARS = 64 };
MUST_CHECK int audit_body_segment(const struct audit_segment_body *segment, struct buf *out);

/* {"time","event","log","key","records","signature"}: signed here. `up_to`: the line before. */
MUST_CHECK int audit_body_checkpoint(const struct audit_keys *keys, uint64_t time_us,
                                     struct slice log, uint64_t records,
                                     const struct audit_chain *up_to, struct buf *out);

/* {"time","event","lost","reason"} and {"time","event","before","reason"}; `reason` is text of
 * ours.
 */
MUST_CHECK int audit_body_gap(uint64_t time_us, uint64_t lost, const char *reason, struct buf *out);
MUST_CHECK int audit_body_retention(uint64_t time_us, uint64_t before, const char *reason,
                                    struct buf *out);
/* A file with what was torn off is going to be deleted. */
MUST_CHECK int audit_body_torn(uint64_t time_us, const char *file, uint64_t bytes,
                               const char *reason, struct buf *out);

/* Of a line that audit_line_read() took. False: it is not written as the writer writes it. The
 * slices point into the line. */
bool audit_segment_body_read(const struct audit_line *line, struct audit_segment_body *ret_segment);
struct audit_checkpoint_body {
    struct slice time, log, key;
    uint64_t records;
    unsigned char signature[AUDIT_SIGNATURE];
};
bool audit_checkpoint_body_read(const struct audit_line *line,
                                struct audit_checkpoint_body *ret_checkpoint);
/* The "id" behind the event; empty: there is none, or a longer one than AUDIT_ID_CHARS. */
struct slice audit_body_id(const struct audit_line *line);

/* Keys from memory instead of files, for tests. */
MUST_CHECK int audit_keys_read(struct slice signing_pem, struct slice hmac_key,
                               struct audit_keys **ret_keys, const char **ret_reason);
