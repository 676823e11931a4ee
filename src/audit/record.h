/* What the parts of a record are written with. */
#pragma once

#include "audit/record.h"
#include "redact.h"
#include "words.h"

/* For tests: each text is looked at as if it had never been seen. */
void record_remember_nothing(struct audit_writer *writer);

/* Appends three texts as they stand. False: there is no memory for them at once, or no room;
 * nothing was appended. */
static ALWAYS_INLINE bool record_copy(struct buf *out, struct slice start, struct slice text,
                                      struct slice end) {
    size_t len = start.len + text.len + end.len;
    if (UNLIKELY(len > out->cap - out->end || len > out->max - buf_len(out) || out->error != 0))
        return false;
    char *to = out->data + out->end;
    memcpy(to, start.ptr, start.len);
    memcpy(to + start.len, text.ptr, text.len);
    memcpy(to + start.len + text.len, end.ptr, end.len);
    out->end += len;
    return true;
}

/* Likewise when the one in the middle is at most `most` bytes, and needs no escapes. */
static ALWAYS_INLINE bool record_plain(struct buf *out, struct slice start, struct slice text,
                                       size_t most, struct slice end) {
    return text.len <= most && text_is_plain(text) && record_copy(out, start, text, end);
}

/* Appends the text escaped, at most `most` bytes of it, and "..." when that is not all of it, or
 * `is_cut` says that it was not all before. True: it was not. */
bool record_escape(struct buf *out, struct slice text, bool is_cut, size_t most);

/*
 * Appends the redacted copy of a JSON value, at most `max` bytes. False: nothing was appended, for
 * not even its beginning has room, or it is none. *ret_cut: there is more than it shows.
 */
bool arguments_write(const struct audit_redact *redact, struct redact_room *room,
                     struct json_reader *reader, struct slice json, size_t max, struct buf *out,
                     bool *ret_cut);
