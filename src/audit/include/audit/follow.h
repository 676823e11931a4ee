/*
 * Reading a trail from a place on, while it is being written: what the index, the sinks and
 * `cardea audit tail` do. Only whole lines are given out; they are not verified. Of one thread.
 */
#pragma once

#include <stdint.h>

#include "audit/line.h"

/* Behind a line: the segment (by the number of its first line), an offset in it, and the number of
 * the last line before. All 0: the beginning of what there is. */
struct audit_place {
    uint64_t segment, offset, seq;
};

struct audit_follow;

/* -errno. `stop_fd`: readable when waiting has to end; -1: none. */
MUST_CHECK int audit_follow_new(const char *dir, int stop_fd, struct audit_follow **ret_follow);
struct audit_follow *audit_follow_free(struct audit_follow *follow);
/*
 * From there on. A place with a number only is behind that line, wherever it stands: the lines from
 * there on to the oldest one that is still there count as missed. AUDIT_E_PLACE: there is no such
 * place (any more): the segment was deleted, or what was behind it cut off. Then seek by the number
 * alone; when that is not there either, the trail is another one: begin anew. -errno.
 */
enum { AUDIT_E_PLACE = 2 };
MUST_CHECK int audit_follow_seek(struct audit_follow *follow, const struct audit_place *place);
void audit_follow_seek_end(struct audit_follow *follow);

enum audit_followed {
    AUDIT_FOLLOWED_LINE, /* *ret_text: the line without its end, valid until the next call */
    AUDIT_FOLLOWED_END,  /* there is no more for now */
    AUDIT_FOLLOWED_STOP, /* stop_fd is readable */
    AUDIT_FOLLOWED_ERROR /* the files cannot be read; errno in *ret_error. ESTALE: what was given
                            out last was cut off meanwhile; seek */
};
/* `wait_ms`: how long to wait for a line at most; 0: not; UINT64_MAX: until it comes or is stopped.
 */
enum audit_followed audit_follow_next(struct audit_follow *follow, uint64_t wait_ms,
                                      struct slice *ret_text, int *ret_error);
/* Behind the line that was given out last. */
struct audit_place audit_follow_place(const struct audit_follow *follow);
/* Lines that were deleted before they could be given out, or are none (longer than any that is
 * written), since the last call. */
uint64_t audit_follow_missed(struct audit_follow *follow);

/* The segments of a directory, by the numbers of their first lines, in order; owned by the caller
 * (mem_free). -errno. */
MUST_CHECK int audit_segments(const char *dir, uint64_t **ret_segments, size_t *ret_n);
/* "00000000000000000001.jsonl" */
enum { AUDIT_SEGMENT_CHARS = 26 };
void audit_segment_name(uint64_t first_seq, char text[AUDIT_SEGMENT_CHARS + 1]);
/* False: it is no name of a segment. */
bool audit_segment_parse(struct slice name, uint64_t *ret_first_seq);
