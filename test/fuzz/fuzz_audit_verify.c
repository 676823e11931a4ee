/*
 * The verifier with any bytes. An input whose first byte is even is the bytes of files, each behind
 * a line "@" with the number in its name. Of others a log is made, and the input says how it is
 * changed afterwards: bytes, lines, files.
 *
 * What must hold: the same is found whether the bytes come whole or in pieces. And a log in which
 * nothing is found is one that we could have written: each line written again from its body, with
 * the hashes that follow, gives the same bytes. Of a made log more is known: it is what was made,
 * with the newest lines missing at most.
 */
#include <stdint.h>
#include <stdlib.h>

#include "made_log.h"
#include "verifying.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { FILES = 8 };

struct files {
    struct fuzz_file {
        uint64_t first_seq;
        struct buf bytes;
    } items[FILES];
    size_t n;
};

static void files_deinit(struct files *files) {
    for (size_t i = 0; i < FILES; i++)
        buf_deinit(&files->items[i].bytes);
}

static void verify(const struct files *files, const struct audit_keys *keys, size_t step,
                   struct audit_verified *ret_verified) {
    const struct audit_verify_options options = {.key = audit_keys_public(keys)};
    CLEANUP(audit_verifier_freep) struct audit_verifier *verifier = NULL;
    MUST(audit_verifier_new(&options, &verifier) == 0);
    for (size_t i = 0; i < files->n; i++) {
        struct slice bytes = buf_slice(&files->items[i].bytes);
        audit_verifier_begin(verifier, files->items[i].first_seq, i + 1 == files->n);
        for (size_t at = 0; at < bytes.len; at += step)
            MUST(audit_verifier_feed(verifier, slice_sub(bytes, at, at + step)) == 0);
        MUST(audit_verifier_end(verifier) == 0);
    }
    MUST(audit_verifier_finish(verifier, ret_verified) == 0);
}

/* Nothing was found in it. */
static void must_be_writable(const struct files *files) {
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = NULL;
    struct audit_chain chain = {.seq = 0};
    MUST(audit_hasher_new(&hasher) == 0);
    for (size_t i = 0; i < files->n; i++) {
        struct buf again CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        struct slice rest = buf_slice(&files->items[i].bytes);
        for (bool is_first = true; rest.len != 0; is_first = false) {
            struct audit_line line;
            struct audit_segment_body segment;
            size_t end = slice_find_byte(rest, '\n');
            MUST(end != SIZE_MAX && audit_line_read(slice_sub(rest, 0, end), &line, NULL) == 0);
            MUST(is_first == audit_segment_body_read(&line, &segment));
            if (chain.seq == 0) {
                chain.seq = line.seq - 1;
                memcpy(chain.hash, segment.previous, AUDIT_HASH);
            }
            MUST(audit_line_write(hasher, &chain, &line.body, 1, &again) == 0);
            rest = slice_from(rest, end + 1);
        }
        MUST(slice_eq(buf_slice(&again), buf_slice(&files->items[i].bytes)));
    }
}

/* @NUMBER\nbytes@NUMBER\nbytes */
static void files_of_text(struct slice text, struct files *files) {
    struct slice part;
    (void)slice_cut(text, '@', &part, &text);
    while (text.len != 0 && files->n < FILES) {
        struct slice number;
        uint64_t first_seq = files->n + 1;
        (void)slice_cut(text, '@', &part, &text);
        (void)slice_cut(part, '\n', &number, &part);
        if (slice_to_u64(number, &first_seq) != 0)
            first_seq = files->n + 1;
        files->items[files->n].first_seq = first_seq;
        files->items[files->n].bytes = BUF_INIT(MIB(1));
        MUST(buf_append(&files->items[files->n++].bytes, part) == 0);
    }
}

static void make_files(struct made_log *log, uint8_t how, struct files *files) {
    made_init(log, SLICE(MADE_KEY), SLICE(MADE_LOG));
    for (size_t i = 0; i < 2U + how % 3; i++) {
        made_segment(log);
        for (size_t j = 0; j < 1U + how % 2; j++)
            made_line(log, "\"event\":\"intent\",\"id\":\"%zu\"", j);
        made_gap(log, 1);
        made_checkpoint(log);
    }
    made_line(log, "\"event\":\"call\"");
    for (size_t i = 0; i < log->n; i++) {
        files->items[i].first_seq = log->segments[i].first_seq;
        files->items[i].bytes = BUF_INIT(MIB(1));
        MUST(buf_append(&files->items[i].bytes, buf_slice(&log->segments[i].bytes)) == 0);
    }
    files->n = log->n;
}

static struct slice line_at(struct slice bytes, size_t at) {
    size_t from = at;
    while (from > 0 && bytes.ptr[from - 1] != '\n')
        from--;
    size_t end = slice_find_byte(slice_from(bytes, from), '\n');
    return slice_sub(bytes, from, end == SIZE_MAX ? bytes.len : from + end + 1);
}

/* Puts `with` in the place of `n` bytes. */
static void replace(struct buf *bytes, size_t at, size_t n, struct slice with) {
    struct buf out = BUF_INIT(MIB(1));
    struct slice old = buf_slice(bytes);
    buf_append(&out, slice_sub(old, 0, at));
    buf_append(&out, with);
    buf_append(&out, slice_from(old, at + n));
    MUST(buf_error(&out) == 0);
    buf_deinit(bytes);
    *bytes = out;
}

/* Four bytes of the input each. */
static void change(struct files *files, const uint8_t *edit) {
    size_t which = edit[1] % files->n;
    struct fuzz_file *file = &files->items[which];
    struct slice bytes = buf_slice(&file->bytes);
    if (bytes.len == 0)
        return;
    size_t at = ((size_t)edit[2] << 8 | edit[3]) % bytes.len;
    struct slice line = line_at(bytes, at);
    size_t from = (size_t)(line.ptr - bytes.ptr);
    char byte = (char)edit[3];
    switch (edit[0] % 8) {
    case 0:
        file->bytes.data[file->bytes.start + at] ^= (char)(1 << edit[0] / 8 % 8);
        break;
    case 1:
        replace(&file->bytes, from, line.len, SLICE_EMPTY);
        break;
    case 2:
        replace(&file->bytes, from, 0, line);
        break;
    case 3:
        replace(&file->bytes, at, bytes.len - at, SLICE_EMPTY);
        break;
    case 4:
        replace(&file->bytes, at, 0, slice_make(&byte, 1));
        break;
    case 5: /* to the end of another file */
        replace(&files->items[edit[0] / 8 % files->n].bytes, 0, 0, line);
        break;
    case 6:
        file->first_seq += edit[3];
        break;
    default: /* the files behind it go */
        while (files->n > which + 1)
            buf_deinit(&files->items[--files->n].bytes);
        break;
    }
}

/* Nothing was found: each file is what was made, the last one a beginning of it. */
static void must_be_made(const struct files *files, const struct made_log *log) {
    MUST(files->n <= log->n);
    for (size_t i = 0; i < files->n; i++) {
        struct slice made = buf_slice(&log->segments[i].bytes);
        struct slice bytes = buf_slice(&files->items[i].bytes);
        MUST(files->items[i].first_seq == log->segments[i].first_seq);
        MUST(i + 1 == files->n ? slice_starts_with(made, bytes) : slice_eq(made, bytes));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct files files CLEANUP(files_deinit) = {.n = 0};
    struct made_log log = {.keys = NULL};
    struct audit_verified whole, pieces;
    if (size == 0)
        return 0;
    bool is_made = data[0] % 2 != 0;
    if (is_made) {
        make_files(&log, data[0] / 2, &files);
        for (size_t at = 1; at + 4 <= size && at < 64; at += 4)
            change(&files, data + at);
    } else {
        log.keys = made_keys(SLICE(MADE_KEY));
        files_of_text(slice_make(data + 1, size - 1), &files);
    }
    verify(&files, log.keys, MIB(1), &whole);
    verify(&files, log.keys, 1 + data[size - 1] % 100, &pieces);
    MUST(memcmp(&whole, &pieces, sizeof whole) == 0);
    if (whole.n_findings == 0) {
        must_be_writable(&files);
        if (is_made)
            must_be_made(&files, &log);
    }
    made_deinit(&log);
    return 0;
}
