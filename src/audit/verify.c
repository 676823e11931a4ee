/*
 * Verification. A line is good when its number and its hash follow from the line before; then, and
 * only then, what it says is looked at.
 *
 * After a line that is not good, the verifier has to find back, so that one change in a log is told
 * once and what is behind it is still examined. The line behind may follow from three hashes: the
 * one that the bad line has written in it (its text was changed), the one that it should have (its
 * hash was changed), or that of the last good line (it was put in). With one of them the chain goes
 * on, whatever the numbers are: they are under the hash, and that something is wrong here has been
 * told. With none of them the line is bad as well. This also finds back behind lines that cannot be
 * read at all, as long as their last characters are those of a line.
 *
 * What can be trusted is what is signed. Hashes have no key: whoever can write the files can chain
 * lines of their own behind the last checkpoint, or behind any one, when they cut off the rest. The
 * first is bounded (AUDIT_UNSIGNED_LINES), the second is what an expected head is for. For the same
 * reason a retention line counts only when a checkpoint follows it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/limits.h"
#include "base/mem.h"
#include "verifying.h"

enum {
    /* Two lines whose line end was changed are looked at as one. */
    PENDING_MOST = 2 * (LIMIT_AUDIT_BODY + KIB(1)),
    INTENTS_MOST = 256 * 1024
};

/* --- findings --- */

PRINTF_LIKE(4, 5)
static void found(struct audit_verifier *v, enum audit_finding_kind kind, uint64_t seq,
                  const char *format, ...) {
    struct audit_finding finding = {
        .kind = kind, .segment = v->segment, .line = v->line, .offset = v->offset, .seq = seq};
    v->result.n_findings++;
    if (v->options->on_finding == NULL || v->result.n_findings > LIMIT_AUDIT_FINDINGS)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(finding.text, sizeof finding.text, format, args);
    va_end(args);
    v->options->on_finding(v->options->context, &finding);
}

/* --- the chain --- */

static bool is_hash(const unsigned char a[AUDIT_HASH], const unsigned char b[AUDIT_HASH]) {
    return memcmp(a, b, AUDIT_HASH) == 0;
}

static void set_candidate(struct audit_verifier *v, enum audit_candidate which,
                          const unsigned char hash[AUDIT_HASH]) {
    memmove(v->candidates[which], hash, AUDIT_HASH);
    v->has_candidate[which] = true;
}

static bool hash_of(struct audit_verifier *v, const unsigned char before[AUDIT_HASH],
                    struct slice covered, unsigned char ret_hash[AUDIT_HASH]) {
    int error = audit_hash(v->hasher, before, covered, ret_hash);
    if (error != 0)
        v->error = error;
    return error == 0;
}

/* The line follows. *ret_before: the hash before it. */
static bool is_next(struct audit_verifier *v, const struct audit_line *line,
                    unsigned char ret_before[AUDIT_HASH]) {
    unsigned char hash[AUDIT_HASH];
    if (v->is_sure && line->seq != v->seq + 1)
        return false;
    for (unsigned i = 0; i < (v->is_sure ? 1U : AUDIT_N_CANDIDATES); i++) {
        if (!v->has_candidate[i] || !hash_of(v, v->candidates[i], line->covered, hash) ||
            !is_hash(hash, line->hash))
            continue;
        memcpy(ret_before, v->candidates[i], AUDIT_HASH);
        return true;
    }
    return false;
}

/* On from a good line. */
static void go_on(struct audit_verifier *v, const struct audit_line *line) {
    v->is_sure = true;
    v->seq = line->seq;
    set_candidate(v, AUDIT_BY_STATED, line->hash);
    v->has_candidate[AUDIT_BY_COMPUTED] = v->has_candidate[AUDIT_BY_GOOD] = false;
    v->result.head.seq = line->seq;
    memcpy(v->result.head.hash, line->hash, AUDIT_HASH);
}

/* On from a bad one, as far as there is something to go on from: `seq` is its number, or the one
 * that it should have; empty text: nothing is known of it. */
static void go_on_somehow(struct audit_verifier *v, uint64_t seq, struct slice text) {
    unsigned char stated[AUDIT_HASH], computed[AUDIT_HASH];
    struct slice covered = SLICE_EMPTY;
    bool has_stated = audit_line_end(text, &covered, stated), has_computed = false;
    enum audit_candidate before =
        v->has_candidate[AUDIT_BY_STATED] ? AUDIT_BY_STATED : AUDIT_BY_COMPUTED;
    if (covered.len != 0 && v->has_candidate[before])
        has_computed = hash_of(v, v->candidates[before], covered, computed);
    if (v->is_sure)
        set_candidate(v, AUDIT_BY_GOOD, v->candidates[AUDIT_BY_STATED]);
    v->has_candidate[AUDIT_BY_STATED] = v->has_candidate[AUDIT_BY_COMPUTED] = false;
    if (has_stated)
        set_candidate(v, AUDIT_BY_STATED, stated);
    if (has_computed)
        set_candidate(v, AUDIT_BY_COMPUTED, computed);
    v->seq = seq;
    v->is_sure = false;
    v->knows_checkpoint = false;
    v->is_checked_end = true;
}

/* The first line of all: what it says is before it, or the beginning. */
static void begin_chain(struct audit_verifier *v, const struct audit_line *line) {
    static const unsigned char nothing[AUDIT_HASH];
    const struct audit_chain *expect = v->options->expect;
    struct audit_segment_body body;
    v->is_begun = true;
    v->is_sure = false;
    v->seq = v->checkpoint_seq = v->segment != 0 ? v->segment - 1 : 0;
    memset(v->has_candidate, 0, sizeof v->has_candidate);
    if (v->segment <= 1) {
        set_candidate(v, AUDIT_BY_STATED, nothing);
    } else if (line != NULL && audit_segment_body_read(line, &body)) {
        set_candidate(v, AUDIT_BY_STATED, body.previous);
        if (expect != NULL && expect->seq == v->seq && is_hash(expect->hash, body.previous))
            v->is_expected_found = true;
    } else {
        return;
    }
    /* As each file, the one before ended with a checkpoint. */
    v->is_sure = v->knows_checkpoint = true;
}

/* --- what good lines say --- */

static bool is_log_known(const struct audit_verifier *v) {
    return v->log[0] != '\0';
}

static bool is_other_log(const struct audit_verifier *v, struct slice log) {
    return is_log_known(v) && !slice_eq(log, slice_from_cstr(v->log));
}

static void adopt_log(struct audit_verifier *v, struct slice log) {
    memcpy(v->log, log.ptr, AUDIT_LOG_CHARS);
    if (v->result.log[0] == '\0')
        memcpy(v->result.log, v->log, sizeof v->log);
}

static const char *own_key(const struct audit_verifier *v) {
    return audit_public_key_id(v->options->key);
}

static void see_segment(struct audit_verifier *v, const struct audit_line *line,
                        const unsigned char before[AUDIT_HASH]) {
    struct audit_segment_body body;
    if (!audit_segment_body_read(line, &body)) {
        found(v, AUDIT_FOUND_SEGMENT, line->seq, "the first line of a file is not written as such");
        v->number = 0;
        return;
    }
    uint64_t number = v->number;
    bool is_other = is_other_log(v, body.log);
    adopt_log(v, body.log);
    v->number = body.number;
    if (v->line != 1)
        found(v, AUDIT_FOUND_SEGMENT, line->seq, "a segment begins in the middle of a file");
    else if (line->seq != v->segment)
        found(v, AUDIT_FOUND_SEGMENT, line->seq,
              "the file has the name of line %" PRIu64 ", and begins with line %" PRIu64,
              v->segment, line->seq);
    else if (is_other)
        found(v, AUDIT_FOUND_SEGMENT, line->seq, "the file is of another log: %.*s",
              SLICE_ARGS(body.log));
    else if (!slice_eq(body.key, slice_from_cstr(own_key(v))))
        found(v, AUDIT_FOUND_SIGNATURE, line->seq, "the file is signed with the key %.*s, not %s",
              SLICE_ARGS(body.key), own_key(v));
    else if ((line->seq == 1 && body.number != 1) || body.number == 0 ||
             (number != 0 && body.number != number + 1))
        found(v, AUDIT_FOUND_SEGMENT, line->seq,
              "the file is number %" PRIu64 " of the log, behind number %" PRIu64, body.number,
              number);
    else if (!is_hash(body.previous, before))
        found(v, AUDIT_FOUND_SEGMENT, line->seq, "the file says that another line is before it");
}

/* NULL: it is good. */
static const char *check_checkpoint(const struct audit_verifier *v, const struct audit_line *line,
                                    const struct audit_checkpoint_body *body,
                                    const unsigned char before[AUDIT_HASH]) {
    struct audit_chain up_to = {.seq = line->seq - 1};
    memcpy(up_to.hash, before, AUDIT_HASH);
    const struct audit_checkpoint checkpoint = {
        .log = body->log, .time = body->time, .records = body->records, .up_to = &up_to};
    if (is_other_log(v, body->log))
        return "the checkpoint is of another log";
    if (!slice_eq(body->key, slice_from_cstr(own_key(v))))
        return "the checkpoint is signed with another key";
    if (!audit_signature_is_good(v->options->key, &checkpoint, body->signature))
        return "the signature of the checkpoint is wrong";
    if (v->knows_checkpoint && body->records != line->seq - v->checkpoint_seq - 1)
        return "the checkpoint counts another number of lines";
    return NULL;
}

static void see_checkpoint(struct audit_verifier *v, const struct audit_line *line,
                           const unsigned char before[AUDIT_HASH]) {
    struct audit_checkpoint_body body;
    const char *reason = "the checkpoint is not written as one";
    v->is_checked_end = true;
    if (audit_checkpoint_body_read(line, &body))
        reason = check_checkpoint(v, line, &body, before);
    if (reason != NULL) {
        v->knows_checkpoint = false;
        found(v, AUDIT_FOUND_SIGNATURE, line->seq, "%s", reason);
        return;
    }
    if (!is_log_known(v))
        adopt_log(v, body.log);
    v->knows_checkpoint = true;
    v->checkpoint_seq = line->seq;
    v->retained_signed = v->retained;
    v->result.n_checkpoints++;
    v->result.signed_seq = line->seq;
    v->result.n_unsigned = 0;
}

/* The member of a line that is JSON. False: it is none, or has no such number. */
static bool read_number(struct audit_verifier *v, const struct audit_line *line, struct slice key,
                        uint64_t *ret_number) {
    struct slice text = slice_make(line->covered.ptr, line->covered.len + AUDIT_LINE_TAIL);
    int64_t number;
    int r = json_read(v->reader, text, &json_want_root, NULL, NULL);
    if (r < 0)
        v->error = r;
    if (r != 0)
        return false;
    const struct json_node *node =
        json_member_typed(v->reader, json_root(v->reader), key, JSON_NUMBER);
    if (node == NULL || json_to_i64(node, &number) != 0 || number < 0)
        return false;
    *ret_number = (uint64_t)number;
    return true;
}

static void see_gap(struct audit_verifier *v, const struct audit_line *line,
                    const unsigned char before[AUDIT_HASH]) {
    uint64_t lost;
    (void)before;
    if (!read_number(v, line, SLICE("lost"), &lost))
        found(v, AUDIT_FOUND_LINE, line->seq, "the gap does not say how much was lost");
    else if (u64_add_overflows(v->result.n_lost, lost, &v->result.n_lost))
        v->result.n_lost = UINT64_MAX;
}

static void see_retention(struct audit_verifier *v, const struct audit_line *line,
                          const unsigned char before_hash[AUDIT_HASH]) {
    uint64_t before;
    (void)before_hash;
    if (!read_number(v, line, SLICE("before"), &before) || before > line->seq)
        found(v, AUDIT_FOUND_LINE, line->seq, "the line does not say what was deleted");
    else if (before > v->retained)
        v->retained = before;
}

static void report_open(struct audit_verifier *v, struct slice id, const void *seq) {
    v->result.n_open_intents++;
    if (v->options->on_open_intent != NULL)
        v->options->on_open_intent(v->options->context, id, (uint64_t)(uintptr_t)seq);
}

static void report_all_open(struct audit_verifier *v) {
    size_t cursor = 0;
    struct slice id;
    void *seq;
    while (map_next(&v->intents->open, &cursor, &id, &seq))
        report_open(v, id, seq);
    map_clear(&v->intents->open);
    v->result.n_open_intents += v->intents->n_untracked;
    v->intents->n_untracked = 0;
}

static void see_start(struct audit_verifier *v, const struct audit_line *line,
                      const unsigned char before[AUDIT_HASH]) {
    uint64_t recovered, n_checkpoints;
    (void)before;
    v->result.n_starts++;
    if (read_number(v, line, SLICE("recovered_checkpoints"), &n_checkpoints))
        found(v, AUDIT_FOUND_CUT, line->seq,
              "before this start %" PRIu64
              " checkpoints with their lines were changed or torn off: "
              "more than a crash can do",
              n_checkpoints);
    if (read_number(v, line, SLICE("recovered"), &recovered))
        v->result.n_recoveries++;
    report_all_open(v);
}

static void see_stop(struct audit_verifier *v, const struct audit_line *line,
                     const unsigned char before[AUDIT_HASH]) {
    (void)line, (void)before;
    v->result.n_stops++;
}

_Static_assert(sizeof(void *) >= sizeof(uint64_t), "numbers of lines are kept as pointers");

static void see_intent(struct audit_verifier *v, const struct audit_line *line,
                       const unsigned char before[AUDIT_HASH]) {
    struct slice id = audit_body_id(line);
    (void)before;
    if (id.len == 0)
        return;
    /* The same once more: the first one has no outcome of its own any more. */
    void *earlier = map_remove(&v->intents->open, id);
    if (earlier != NULL)
        report_open(v, id, earlier);
    if (v->intents->open.count >= INTENTS_MOST)
        v->intents->n_untracked++;
    else if (map_set(&v->intents->open, id, (void *)(uintptr_t)line->seq) != 0)
        v->error = -ENOMEM;
}

static void see_outcome(struct audit_verifier *v, const struct audit_line *line,
                        const unsigned char before[AUDIT_HASH]) {
    struct slice id = audit_body_id(line);
    (void)before;
    if (id.len != 0 && map_remove(&v->intents->open, id) == NULL && v->intents->n_untracked != 0)
        v->intents->n_untracked--;
}

/* Its intent could not be confirmed, so all of the call was written once more. */
static void see_call(struct audit_verifier *v, const struct audit_line *line,
                     const unsigned char before[AUDIT_HASH]) {
    (void)before;
    if (v->intents->open.count == 0)
        return;
    struct slice id = audit_body_id(line);
    if (id.len != 0)
        (void)map_remove(&v->intents->open, id);
}

static const struct event_row {
    struct slice event;
    void (*see)(struct audit_verifier *v, const struct audit_line *line,
                const unsigned char before[AUDIT_HASH]);
} event_rows[] = {
    {SLICE_INIT("intent"), see_intent},       {SLICE_INIT("outcome"), see_outcome},
    {SLICE_INIT("call"), see_call},           {SLICE_INIT("checkpoint"), see_checkpoint},
    {SLICE_INIT("segment"), see_segment},     {SLICE_INIT("gap"), see_gap},
    {SLICE_INIT("retention"), see_retention}, {SLICE_INIT("start"), see_start},
    {SLICE_INIT("stop"), see_stop},
};

static void see(struct audit_verifier *v, const struct audit_line *line,
                const unsigned char before[AUDIT_HASH]) {
    if (v->line == 1 && !slice_eq(line->event, SLICE("segment"))) {
        v->number = 0;
        found(v, AUDIT_FOUND_SEGMENT, line->seq, "the file does not begin as a segment");
    }
    for (size_t i = 0; i < ARRAY_LEN(event_rows); i++) {
        if (slice_eq(line->event, event_rows[i].event)) {
            event_rows[i].see(v, line, before);
            return;
        }
    }
}

/* --- lines --- */

/* The first line of a file that does not follow from the one before. When it follows from what it
 * says is before it, the rest of it can be believed, for what comes behind. */
static bool adopt_stray_segment(struct audit_verifier *v, const struct audit_line *line) {
    struct audit_segment_body body;
    unsigned char hash[AUDIT_HASH];
    v->number = 0;
    if (!audit_segment_body_read(line, &body) || !hash_of(v, body.previous, line->covered, hash) ||
        !is_hash(hash, line->hash))
        return false;
    bool is_other = is_other_log(v, body.log);
    adopt_log(v, body.log);
    v->number = body.number;
    return is_other;
}

static void take_bad_line(struct audit_verifier *v, const struct audit_line *line) {
    uint64_t expected = v->seq + 1;
    bool is_other_log = v->line == 1 && adopt_stray_segment(v, line);
    if (is_other_log)
        found(v, AUDIT_FOUND_SEGMENT, line->seq, "the file is of another log: %s", v->log);
    else if (line->seq == expected)
        found(v, AUDIT_FOUND_HASH, line->seq,
              "line %" PRIu64 ", or the one before, is not what was written", line->seq);
    else if (line->seq > expected)
        found(v, AUDIT_FOUND_SEQUENCE, line->seq,
              "line %" PRIu64 " stands behind line %" PRIu64 ": lines are missing, or its number "
              "was changed",
              line->seq, v->seq);
    else
        found(v, AUDIT_FOUND_SEQUENCE, line->seq,
              "line %" PRIu64 " stands behind line %" PRIu64 ": it is repeated or moved, or its "
              "number was changed",
              line->seq, v->seq);
}

static void take_line(struct audit_verifier *v, struct slice text, bool is_overlong) {
    unsigned char before[AUDIT_HASH];
    const char *reason = "is longer than a line can be";
    struct audit_line line;
    int r = is_overlong ? AUDIT_E_LINE : audit_line_read(text, &line, &reason);
    v->line++;
    v->result.n_lines++;
    v->result.n_unsigned++;
    if (!v->is_begun)
        begin_chain(v, r == 0 ? &line : NULL);
    v->is_checked_end = false;
    if (r != 0) {
        if (v->line == 1)
            v->number = 0;
        found(v, AUDIT_FOUND_LINE, v->seq + 1, "the line %s", reason);
        go_on_somehow(v, v->seq + 1, is_overlong ? SLICE_EMPTY : text);
        return;
    }
    if (!is_next(v, &line, before)) {
        take_bad_line(v, &line);
        go_on_somehow(v, line.seq, text);
        return;
    }
    const struct audit_chain *expect = v->options->expect;
    if (expect != NULL && expect->seq == line.seq && is_hash(expect->hash, line.hash))
        v->is_expected_found = true;
    go_on(v, &line);
    see(v, &line, before);
}

/* What a piece adds to a line whose end is not there yet. */
static void keep(struct audit_verifier *v, struct slice part) {
    v->pending_n += part.len;
    if (v->is_overlong || v->pending_n > PENDING_MOST)
        v->is_overlong = true;
    else if (buf_append(&v->pending, part) != 0)
        v->error = buf_error(&v->pending);
}

int audit_verifier_feed(struct audit_verifier *v, struct slice bytes) {
    while (bytes.len != 0 && v->error == 0) {
        size_t end = slice_find_byte(bytes, '\n');
        if (end == SIZE_MAX || v->pending_n != 0)
            keep(v, slice_sub(bytes, 0, end));
        if (end == SIZE_MAX)
            return v->error;
        bool is_kept = v->pending_n != 0;
        struct slice text = is_kept ? buf_slice(&v->pending) : slice_sub(bytes, 0, end);
        uint64_t len = is_kept ? v->pending_n : end;
        if (v->error == 0)
            take_line(v, text, v->is_overlong || len > PENDING_MOST);
        buf_reset(&v->pending, PENDING_MOST);
        v->pending_n = 0;
        v->is_overlong = false;
        v->offset += len + 1;
        bytes = slice_from(bytes, end + 1);
    }
    return v->error;
}

bool audit_verifier_is_within_line(const struct audit_verifier *v) {
    return v->pending_n != 0;
}

/* --- files --- */

void audit_verifier_begin(struct audit_verifier *v, uint64_t first_seq, bool is_newest) {
    if (v->result.first_seq == 0)
        v->result.first_seq = first_seq;
    v->segment = first_seq;
    v->is_newest = is_newest;
    v->line = v->offset = 0;
    v->is_checked_end = false;
    v->result.n_segments++;
}

int audit_verifier_end(struct audit_verifier *v) {
    bool is_torn = v->pending_n != 0, is_empty = v->line == 0 && !is_torn;
    if (is_torn || is_empty)
        v->line++;
    if (is_torn)
        found(v, AUDIT_FOUND_TORN, v->seq + 1, "the last line has no end");
    else if (is_empty)
        found(v, AUDIT_FOUND_SEGMENT, v->seq + 1, "the file is empty");
    else if (!v->is_newest && !v->is_checked_end)
        found(v, AUDIT_FOUND_UNSIGNED, v->seq,
              "the file does not end with a checkpoint, and is not the newest");
    buf_reset(&v->pending, PENDING_MOST);
    v->pending_n = 0;
    v->is_overlong = false;
    return v->error;
}

void audit_verifier_no_file(struct audit_verifier *v, uint64_t first_seq) {
    audit_verifier_begin(v, first_seq, false);
    found(v, AUDIT_FOUND_SEGMENT, first_seq, "it is no regular file");
}

void audit_verifier_forget(struct audit_verifier *v) {
    v->is_begun = false;
    v->number = 0;
    v->result.first_seq = 0;
}

/* --- the whole --- */

static void check_beginning(struct audit_verifier *v) {
    uint64_t first = v->result.first_seq;
    if (v->result.n_segments == 0) {
        found(v, AUDIT_FOUND_BEGINNING, 1, "there is no trail");
        return;
    }
    v->segment = first;
    v->line = 1;
    if (first <= 1)
        return;
    if (v->retained_signed >= first)
        v->result.n_dropped = first - 1;
    else if (v->retained >= first)
        found(v, AUDIT_FOUND_BEGINNING, 1,
              "lines 1 to %" PRIu64 " are missing; that they were deleted is said, but not signed",
              first - 1);
    else
        found(v, AUDIT_FOUND_BEGINNING, 1,
              "lines 1 to %" PRIu64 " are missing, and no line says that they were deleted",
              first - 1);
}

static void check_head(struct audit_verifier *v) {
    const struct audit_chain *expect = v->options->expect;
    if (expect == NULL || expect->seq == 0 || v->is_expected_found)
        return;
    v->segment = v->line = 0;
    if (expect->seq > v->result.head.seq)
        found(v, AUDIT_FOUND_HEAD, expect->seq,
              "the trail ends with line %" PRIu64 ", before the expected line %" PRIu64,
              v->result.head.seq, expect->seq);
    else if (expect->seq < v->result.first_seq)
        found(v, AUDIT_FOUND_HEAD, expect->seq,
              "the expected line %" PRIu64
              " cannot be compared: the trail begins with line %" PRIu64,
              expect->seq, v->result.first_seq);
    else
        found(v, AUDIT_FOUND_HEAD, expect->seq, "line %" PRIu64 " is not the expected one",
              expect->seq);
}

int audit_verifier_finish(struct audit_verifier *v, struct audit_verified *ret_verified) {
    report_all_open(v);
    if (v->result.n_unsigned > AUDIT_UNSIGNED_LINES)
        found(v, AUDIT_FOUND_UNSIGNED, v->result.signed_seq + 1,
              "%" PRIu64 " lines at the end are not signed", v->result.n_unsigned);
    v->offset = 0;
    check_beginning(v);
    check_head(v);
    if (v->error == 0)
        *ret_verified = v->result;
    return v->error;
}

int audit_verifier_new(const struct audit_verify_options *options,
                       struct audit_verifier **ret_verifier) {
    CLEANUP(audit_verifier_freep) struct audit_verifier *v = mem_alloc(sizeof *v);
    if (v == NULL)
        return -ENOMEM;
    v->options = options;
    buf_init(&v->pending, PENDING_MOST);
    int error = audit_hasher_new(&v->hasher);
    if (error == 0)
        error = json_reader_new(&v->reader);
    if (error == 0 && (v->intents = mem_alloc(sizeof *v->intents)) == NULL)
        error = -ENOMEM;
    if (error != 0)
        return error;
    map_init(&v->intents->open);
    *ret_verifier = TAKE(v);
    return 0;
}

struct audit_verifier *audit_verifier_free(struct audit_verifier *v) {
    if (v == NULL)
        return NULL;
    if (v->intents != NULL)
        map_deinit(&v->intents->open);
    mem_free(v->intents);
    json_reader_free(v->reader);
    audit_hasher_free(v->hasher);
    buf_deinit(&v->pending);
    mem_free(v);
    return NULL;
}

void audit_verifier_freep(struct audit_verifier **verifier) {
    *verifier = audit_verifier_free(*verifier);
}
