/*
 * Bodies of the trail's own lines. Segments and checkpoints are read by going along what the writer
 * writes, byte by byte: nothing but the writer's own spelling is one, so no second member of the
 * same name, and no escape, can make two readers see two things.
 */
#include <errno.h>

#include "base/random.h"
#include "own.h"

enum { LOG_BYTES = 16, SIGNATURE_CHARS = AUDIT_BYTES_CHARS(AUDIT_SIGNATURE), DIGITS = 20 };

void audit_log_new(char log[AUDIT_LOG_CHARS + 1]) {
    unsigned char bytes[LOG_BYTES];
    random_bytes(bytes, LOG_BYTES);
    audit_bytes_write(bytes, LOG_BYTES, log);
    log[AUDIT_LOG_CHARS] = '\0';
}

/* --- writing --- */

static void begin(struct buf *out, uint64_t time_us, struct slice event) {
    char time[AUDIT_TIME_CHARS + 1];
    audit_time_write(time_us, time);
    buf_append(out, SLICE("\"time\":\""));
    buf_append(out, slice_make(time, AUDIT_TIME_CHARS));
    buf_append(out, SLICE("\",\"event\":\""));
    buf_append(out, event);
    buf_append_byte(out, '"');
}

static void put_text(struct buf *out, struct slice key, struct slice text) {
    buf_append(out, SLICE(",\""));
    buf_append(out, key);
    buf_append(out, SLICE("\":\""));
    buf_append(out, text);
    buf_append_byte(out, '"');
}

static void put_number(struct buf *out, struct slice key, uint64_t number) {
    buf_append(out, SLICE(",\""));
    buf_append(out, key);
    buf_append(out, SLICE("\":"));
    buf_append_u64(out, number);
}

static bool is_base64url(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i], lower = (char)(c | 0x20);
        if ((lower < 'a' || lower > 'z') && (c < '0' || c > '9') && c != '-' && c != '_')
            return false;
    }
    return true;
}

static bool is_log(struct slice text) {
    return text.len == AUDIT_LOG_CHARS && is_base64url(text);
}

static bool is_key(struct slice text) {
    return text.len == AUDIT_KEY_ID_CHARS && is_base64url(text);
}

static bool is_program(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < ' ' || text.ptr[i] > '~' || text.ptr[i] == '"' || text.ptr[i] == '\\')
            return false;
    }
    return text.len != 0 && text.len <= AUDIT_PROGRAM_CHARS;
}

int audit_body_segment(const struct audit_segment_body *segment, struct buf *out) {
    char previous[AUDIT_HASH_CHARS];
    if (!is_log(segment->log) || !is_key(segment->key) || !is_program(segment->program))
        return -EINVAL;
    audit_hash_write(segment->previous, previous);
    begin(out, segment->time_us, SLICE("segment"));
    put_text(out, SLICE("log"), segment->log);
    put_number(out, SLICE("number"), segment->number);
    put_text(out, SLICE("previous"), slice_make(previous, sizeof previous));
    put_text(out, SLICE("key"), segment->key);
    put_text(out, SLICE("program"), segment->program);
    return buf_error(out);
}

int audit_body_checkpoint(const struct audit_keys *keys, uint64_t time_us, struct slice log,
                          uint64_t records, const struct audit_chain *up_to, struct buf *out) {
    unsigned char signature[AUDIT_SIGNATURE];
    char text[SIGNATURE_CHARS];
    char time[AUDIT_TIME_CHARS + 1];
    if (!is_log(log))
        return -EINVAL;
    audit_time_write(time_us, time);
    const struct audit_checkpoint checkpoint = {
        .log = log,
        .time = slice_make(time, AUDIT_TIME_CHARS),
        .records = records,
        .up_to = up_to,
    };
    int error = audit_sign(keys, &checkpoint, signature);
    if (error != 0)
        return error;
    audit_bytes_write(signature, sizeof signature, text);
    begin(out, time_us, SLICE("checkpoint"));
    put_text(out, SLICE("log"), log);
    put_text(out, SLICE("key"), slice_from_cstr(audit_keys_id(keys)));
    put_number(out, SLICE("records"), records);
    put_text(out, SLICE("signature"), slice_make(text, sizeof text));
    return buf_error(out);
}

int audit_body_gap(uint64_t time_us, uint64_t lost, const char *reason, struct buf *out) {
    begin(out, time_us, SLICE("gap"));
    put_number(out, SLICE("lost"), lost);
    put_text(out, SLICE("reason"), slice_from_cstr(reason));
    return buf_error(out);
}

int audit_body_retention(uint64_t time_us, uint64_t before, const char *reason, struct buf *out) {
    begin(out, time_us, SLICE("retention"));
    put_number(out, SLICE("before"), before);
    put_text(out, SLICE("reason"), slice_from_cstr(reason));
    return buf_error(out);
}

int audit_body_torn(uint64_t time_us, const char *file, uint64_t bytes, const char *reason,
                    struct buf *out) {
    begin(out, time_us, SLICE("torn"));
    put_text(out, SLICE("file"), slice_from_cstr(file));
    put_number(out, SLICE("bytes"), bytes);
    put_text(out, SLICE("reason"), slice_from_cstr(reason));
    return buf_error(out);
}

/* --- reading --- */

static bool take(struct slice *rest, struct slice literal) {
    if (!slice_starts_with(*rest, literal))
        return false;
    *rest = slice_from(*rest, literal.len);
    return true;
}

/* ,"KEY": */
static bool take_key(struct slice *rest, struct slice key) {
    return take(rest, SLICE(",\"")) && take(rest, key) && take(rest, SLICE("\":"));
}

/* To the next quote. */
static bool take_text(struct slice *rest, struct slice key, struct slice *ret_text) {
    if (!take_key(rest, key) || !take(rest, SLICE("\"")))
        return false;
    size_t end = slice_find_byte(*rest, '"');
    if (end == SIZE_MAX)
        return false;
    *ret_text = slice_sub(*rest, 0, end);
    *rest = slice_from(*rest, end + 1);
    return true;
}

static bool take_number(struct slice *rest, struct slice key, uint64_t *ret_number) {
    size_t n = 0;
    if (!take_key(rest, key))
        return false;
    while (n < rest->len && n < DIGITS && rest->ptr[n] >= '0' && rest->ptr[n] <= '9')
        n++;
    struct slice digits = slice_sub(*rest, 0, n);
    *rest = slice_from(*rest, n);
    return (n == 1 || (n > 1 && digits.ptr[0] != '0')) && slice_to_u64(digits, ret_number) == 0;
}

/* Behind "time" and "event", which audit_line_read() has looked at. */
static struct slice members_of(const struct audit_line *line) {
    size_t behind = (size_t)(line->event.ptr + line->event.len + 1 - line->body.ptr);
    return slice_from(line->body, behind);
}

bool audit_segment_body_read(const struct audit_line *line,
                             struct audit_segment_body *ret_segment) {
    struct audit_segment_body segment = {.time_us = line->time_us};
    struct slice rest = members_of(line), previous;
    if (!slice_eq(line->event, SLICE("segment")) || !take_text(&rest, SLICE("log"), &segment.log) ||
        !take_number(&rest, SLICE("number"), &segment.number) ||
        !take_text(&rest, SLICE("previous"), &previous) ||
        !take_text(&rest, SLICE("key"), &segment.key) ||
        !take_text(&rest, SLICE("program"), &segment.program) || rest.len != 0)
        return false;
    if (!is_log(segment.log) || !is_key(segment.key) || !is_program(segment.program) ||
        !audit_hash_read(previous, segment.previous))
        return false;
    *ret_segment = segment;
    return true;
}

bool audit_checkpoint_body_read(const struct audit_line *line,
                                struct audit_checkpoint_body *ret_checkpoint) {
    static const size_t time_at = sizeof "\"time\":\"" - 1;
    struct audit_checkpoint_body checkpoint = {
        .time = slice_sub(line->body, time_at, time_at + AUDIT_TIME_CHARS)};
    struct slice rest = members_of(line), signature;
    if (!slice_eq(line->event, SLICE("checkpoint")) ||
        !take_text(&rest, SLICE("log"), &checkpoint.log) ||
        !take_text(&rest, SLICE("key"), &checkpoint.key) ||
        !take_number(&rest, SLICE("records"), &checkpoint.records) ||
        !take_text(&rest, SLICE("signature"), &signature) || rest.len != 0)
        return false;
    if (!is_log(checkpoint.log) || !is_key(checkpoint.key) ||
        !audit_bytes_read(signature, checkpoint.signature, AUDIT_SIGNATURE))
        return false;
    *ret_checkpoint = checkpoint;
    return true;
}

struct slice audit_body_id(const struct audit_line *line) {
    struct slice rest = members_of(line), id;
    if (!take_text(&rest, SLICE("id"), &id) || id.len > AUDIT_ID_CHARS)
        return SLICE_EMPTY;
    return id;
}
