/* A log as files of lines, which a test cuts, moves and exchanges; and what the verifier says. */
#pragma once

#include "made_log.h"
#include "test.h"
#include "verifying.h"

enum { MOST_LINES = 400, MOST_FOUND = 64 };

struct text_file {
    uint64_t first_seq;
    struct slice lines[MOST_LINES]; /* with their line ends */
    size_t n;
};

struct text_log {
    struct text_file files[MADE_SEGMENTS];
    size_t n;
};

struct heard {
    struct audit_verified verified;
    struct audit_finding findings[MOST_FOUND]; /* the first ones */
    size_t n;
    char open[MOST_FOUND][AUDIT_ID_CHARS + 1];
    uint64_t open_seq[MOST_FOUND];
    size_t n_open;
};

MAYBE_UNUSED static struct text_file split(uint64_t first_seq, struct slice bytes) {
    struct text_file file = {.first_seq = first_seq};
    while (bytes.len != 0 && file.n < MOST_LINES) {
        size_t end = slice_find_byte(bytes, '\n');
        size_t len = end == SIZE_MAX ? bytes.len : end + 1;
        file.lines[file.n++] = slice_sub(bytes, 0, len);
        bytes = slice_from(bytes, len);
    }
    return file;
}

MAYBE_UNUSED static void text_of(const struct made_log *log, struct text_log *text) {
    text->n = log->n;
    for (size_t i = 0; i < log->n; i++)
        text->files[i] = split(log->segments[i].first_seq, buf_slice(&log->segments[i].bytes));
}

MAYBE_UNUSED static void hear_finding(void *context, const struct audit_finding *finding) {
    struct heard *heard = context;
    if (heard->n < MOST_FOUND)
        heard->findings[heard->n] = *finding;
    heard->n++;
}

MAYBE_UNUSED static void hear_open(void *context, struct slice id, uint64_t seq) {
    struct heard *heard = context;
    if (heard->n_open < MOST_FOUND) {
        made_must(slice_to_cstr(id, heard->open[heard->n_open], AUDIT_ID_CHARS + 1));
        heard->open_seq[heard->n_open] = seq;
    }
    heard->n_open++;
}

MAYBE_UNUSED static struct audit_verify_options
options_for(struct heard *heard, const struct audit_keys *keys, const struct audit_chain *expect) {
    return (struct audit_verify_options){.key = audit_keys_public(keys),
                                         .expect = expect,
                                         .on_finding = hear_finding,
                                         .on_open_intent = hear_open,
                                         .context = heard};
}

/* `step`: how many bytes at once; 0: whole lines. */
MAYBE_UNUSED static int hear_stepped(const struct text_log *log, const struct audit_keys *keys,
                                     const struct audit_chain *expect, size_t step,
                                     struct heard *heard) {
    *heard = (struct heard){.n = 0};
    const struct audit_verify_options options = options_for(heard, keys, expect);
    CLEANUP(audit_verifier_freep) struct audit_verifier *verifier = NULL;
    int error = audit_verifier_new(&options, &verifier);
    for (size_t i = 0; i < log->n && error == 0; i++) {
        const struct text_file *file = &log->files[i];
        audit_verifier_begin(verifier, file->first_seq, i + 1 == log->n);
        for (size_t j = 0; j < file->n && error == 0; j++) {
            size_t at_once = step != 0 ? step : file->lines[j].len;
            for (size_t at = 0; at < file->lines[j].len && error == 0; at += at_once)
                error = audit_verifier_feed(verifier, slice_sub(file->lines[j], at, at + at_once));
        }
        if (error == 0)
            error = audit_verifier_end(verifier);
    }
    return error == 0 ? audit_verifier_finish(verifier, &heard->verified) : error;
}

MAYBE_UNUSED static void hear(const struct text_log *log, const struct audit_keys *keys,
                              const struct audit_chain *expect, struct heard *heard) {
    made_must(hear_stepped(log, keys, expect, 0, heard));
}

MAYBE_UNUSED static void take_out(struct text_file *file, size_t at) {
    memmove(&file->lines[at], &file->lines[at + 1], (file->n - at - 1) * sizeof file->lines[0]);
    file->n--;
}

MAYBE_UNUSED static void put_in(struct text_file *file, size_t at, struct slice line) {
    memmove(&file->lines[at + 1], &file->lines[at], (file->n - at) * sizeof file->lines[0]);
    file->lines[at] = line;
    file->n++;
}

MAYBE_UNUSED static void take_file_out(struct text_log *log, size_t at) {
    memmove(&log->files[at], &log->files[at + 1], (log->n - at - 1) * sizeof log->files[0]);
    log->n--;
}

MAYBE_UNUSED static void explain(const struct heard *heard) {
    for (size_t i = 0; i < heard->n && i < MOST_FOUND; i++)
        printf("#   kind %d, segment %llu, line %llu, offset %llu, seq %llu: %s\n",
               (int)heard->findings[i].kind, (unsigned long long)heard->findings[i].segment,
               (unsigned long long)heard->findings[i].line,
               (unsigned long long)heard->findings[i].offset,
               (unsigned long long)heard->findings[i].seq, heard->findings[i].text);
}

/* --- the log of most tests: 64 KiB in five files --- */

enum { REAL_BYTES = 64 * 1024, REAL_FILES = 5 };

MAYBE_UNUSED static size_t made_bytes(const struct made_log *log) {
    size_t n = 0;
    for (size_t i = 0; i < log->n; i++)
        n += buf_len(&log->segments[i].bytes);
    return n;
}

MAYBE_UNUSED static void made_calls(struct made_log *log, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned long long id = (unsigned long long)log->chain.seq;
        made_line(log,
                  "\"event\":\"intent\",\"id\":\"%llx\",\"user\":\"anna\",\"groups\":[\"a\",\"b\"],"
                  "\"authentication\":\"token\",\"method\":\"tools/call\",\"operation\":"
                  "\"files__read\",\"arguments\":{\"path\":\"/srv/%llu\"},\"arguments_bytes\":17,"
                  "\"decision\":\"allowed\",\"rule\":\"groups.readers\"",
                  id, id);
        made_line(log,
                  "\"event\":\"outcome\",\"id\":\"%llx\",\"status\":\"ok\",\"http_status\":200,"
                  "\"bytes\":136,\"duration_us\":%llu",
                  id, 100 + id % 77);
    }
}

/* So that the whole has exactly as many bytes. */
MAYBE_UNUSED static void made_filling(struct made_log *log, size_t bytes) {
    static char filling[4096];
    size_t before = made_bytes(log), missing = bytes - before;
    const struct audit_chain chain = log->chain;
    uint64_t time_us = log->time_us;
    memset(filling, 'x', sizeof filling);
    made_line(log, "\"event\":\"call\",\"filling\":\"\"");
    size_t least = made_bytes(log) - before;
    made_must(missing >= least && missing - least < sizeof filling ? 0 : ERANGE);
    buf_truncate(made_file(log), buf_len(made_file(log)) - least);
    log->chain = chain;
    log->time_us = time_us;
    made_line(log, "\"event\":\"call\",\"filling\":\"%.*s\"", (int)(missing - least), filling);
}

MAYBE_UNUSED static void made_real(struct made_log *log, struct slice pem, struct slice id,
                                   const char *user) {
    made_init(log, pem, id);
    for (size_t i = 0; i < REAL_FILES; i++) {
        made_segment(log);
        made_checkpoint(log);
        if (i == 0)
            made_line(log,
                      "\"event\":\"start\",\"program\":\"cardea 0.1.0\",\"mode\":\"required\"");
        made_calls(log, 10);
        made_line(log, "\"event\":\"login\",\"user\":\"%s\"", user);
        made_checkpoint(log);
        made_calls(log, 10);
        made_gap(log, 3);
        made_checkpoint(log);
    }
    made_calls(log, 5);
    made_filling(log, REAL_BYTES);
}
