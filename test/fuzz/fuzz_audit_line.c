/*
 * What must hold for any text: it is read as a line or refused, twice in the same way; what is read
 * as a line is written again from its parts, behind the same number, as the same bytes but for the
 * hash; and with the hash as well when it follows from the hash before. So no line has two
 * spellings. The same text as a body: what is written is read. Times and heads: one spelling each.
 */
#include <stdint.h>
#include <stdlib.h>

#include "made_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void check_line(struct audit_hasher *hasher, struct slice text) {
    struct buf again CLEANUP(buf_deinit) = BUF_INIT(KIB(80));
    struct audit_line line, second;
    const char *reason = NULL;
    int r = audit_line_read(text, &line, &reason);
    MUST(r == 0 ? reason == NULL : r == AUDIT_E_LINE && reason != NULL);
    if (r != 0)
        return;
    MUST(audit_line_read(text, &second, NULL) == 0 && second.seq == line.seq);
    struct audit_chain chain = {.seq = line.seq - 1}, follows = chain;
    MUST(audit_line_write(hasher, &chain, &line.body, 1, &again) == 0);
    MUST(chain.seq == line.seq && buf_len(&again) == text.len + 1);
    MUST(slice_eq(slice_sub(buf_slice(&again), 0, line.covered.len), line.covered));
    bool is_same = slice_eq(slice_sub(buf_slice(&again), 0, text.len), text);
    MUST(is_same == audit_line_follows(hasher, &follows, &line));
    char time[AUDIT_TIME_CHARS + 1];
    audit_time_write(line.time_us, time);
    MUST(slice_starts_with(slice_from(line.body, sizeof "\"time\":\"" - 1), slice_from_cstr(time)));
    /* The trail's own: one spelling as well. */
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct audit_segment_body segment;
    struct audit_checkpoint_body checkpoint;
    if (audit_segment_body_read(&line, &segment))
        MUST(audit_body_segment(&segment, &body) == 0 && slice_eq(buf_slice(&body), line.body));
    if (audit_checkpoint_body_read(&line, &checkpoint))
        MUST(slice_eq(checkpoint.time, slice_from_cstr(time)));
    MUST(audit_body_id(&line).len <= AUDIT_ID_CHARS);
}

/* In two pieces, wherever it is cut. */
static void check_body(struct audit_hasher *hasher, struct slice body, uint64_t seq) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(80));
    struct audit_chain chain = {.seq = seq}, before = chain;
    struct audit_line line;
    const struct slice pieces[] = {slice_sub(body, 0, body.len / 2),
                                   slice_from(body, body.len / 2)};
    int error = audit_line_write(hasher, &chain, pieces, 2, &out);
    MUST(error == 0 || error == -EINVAL || error == -EMSGSIZE || error == -EOVERFLOW);
    if (error != 0) {
        MUST(buf_len(&out) == 0 && chain.seq == before.seq);
        return;
    }
    MUST(slice_find_byte(buf_slice(&out), '\n') == buf_len(&out) - 1);
    MUST(audit_line_read(slice_sub(buf_slice(&out), 0, buf_len(&out) - 1), &line, NULL) == 0);
    MUST(slice_eq(line.body, body) && audit_line_follows(hasher, &before, &line));
}

static void check_short(struct slice text) {
    char written[AUDIT_HEAD_CHARS + 1];
    struct audit_chain chain;
    uint64_t us;
    if (audit_head_read(text, &chain))
        MUST(slice_eq(audit_head_write(&chain, written), text));
    if (audit_time_read(text, &us)) {
        audit_time_write(us, written);
        MUST(slice_eq(slice_from_cstr(written), text));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = NULL;
    struct slice text = slice_make(data, size);
    MUST(audit_hasher_new(&hasher) == 0);
    check_line(hasher, text);
    check_body(hasher, text, size);
    check_short(text);
    return 0;
}
