/*
 * A log in memory, made with the writers of the trail: for tests and fuzz targets that read one.
 * The keys are of these tests alone. What cannot be made ends the program.
 */
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "own.h"

#define MADE_KEY                                                                                   \
    "-----BEGIN PRIVATE KEY-----\n"                                                                \
    "MC4CAQAwBQYDK2VwBCIEIGITceg6boINcw8YmFz0ZIxO6Ra98tcICa/qDzQtPUuB\n"                           \
    "-----END PRIVATE KEY-----\n"
#define MADE_OTHER_KEY                                                                             \
    "-----BEGIN PRIVATE KEY-----\n"                                                                \
    "MC4CAQAwBQYDK2VwBCIEINXQ+BggSsSenypJE64BpOyCYuLnQcIYxfOw/NcFNUMP\n"                           \
    "-----END PRIVATE KEY-----\n"
#define MADE_HMAC_KEY  "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n" /* 0, 1, 2, ... 31 */
#define MADE_LOG       "AAAAAAAAAAAAAAAAAAAAAA"
#define MADE_OTHER_LOG "AQEBAQEBAQEBAQEBAQEBAQ"
#define MADE_TIME      UINT64_C(1795301701123456) /* 2026-11-21T22:55:01.123456Z */

enum { MADE_SEGMENTS = 16 };

struct made_log {
    struct audit_keys *keys;
    struct audit_hasher *hasher;
    struct slice log;
    struct audit_chain chain;
    uint64_t checkpoint_seq, number, time_us;
    struct made_segment {
        uint64_t first_seq;
        struct buf bytes;
    } segments[MADE_SEGMENTS];
    size_t n;
};

static inline void made_must(int error) {
    if (error == 0)
        return;
    fprintf(stderr, "a log cannot be made: %s\n", strerror(error < 0 ? -error : error));
    abort();
}

MAYBE_UNUSED static struct audit_keys *made_keys(struct slice pem) {
    struct audit_keys *keys = NULL;
    const char *reason;
    made_must(audit_keys_read(pem, SLICE(MADE_HMAC_KEY), &keys, &reason));
    return keys;
}

MAYBE_UNUSED static void made_init(struct made_log *log, struct slice pem, struct slice id) {
    *log = (struct made_log){.log = id, .time_us = MADE_TIME};
    log->keys = made_keys(pem);
    made_must(audit_hasher_new(&log->hasher));
}

MAYBE_UNUSED static void made_deinit(struct made_log *log) {
    for (size_t i = 0; i < log->n; i++)
        buf_deinit(&log->segments[i].bytes);
    audit_hasher_free(log->hasher);
    audit_keys_free(log->keys);
}

MAYBE_UNUSED static struct buf *made_file(struct made_log *log) {
    return &log->segments[log->n - 1].bytes;
}

MAYBE_UNUSED static void made_body(struct made_log *log, struct slice body) {
    made_must(audit_line_write(log->hasher, &log->chain, &body, 1, made_file(log)));
    log->time_us += 1000;
}

/* The body behind its time: made_line(log, "\"event\":\"call\""). */
PRINTF_LIKE(2, 3)
MAYBE_UNUSED static void made_line(struct made_log *log, const char *format, ...) {
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
    char time[AUDIT_TIME_CHARS + 1];
    audit_time_write(log->time_us, time);
    buf_printf(&body, "\"time\":\"%s\",", time);
    va_list args;
    va_start(args, format);
    buf_vprintf(&body, format, args);
    va_end(args);
    made_must(buf_error(&body));
    made_body(log, buf_slice(&body));
}

MAYBE_UNUSED static void made_segment(struct made_log *log) {
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
    struct audit_segment_body segment = {
        .time_us = log->time_us,
        .log = log->log,
        .number = ++log->number,
        .key = slice_from_cstr(audit_keys_id(log->keys)),
        .program = SLICE("cardea 0.1.0"),
    };
    memcpy(segment.previous, log->chain.hash, AUDIT_HASH);
    made_must(log->n < MADE_SEGMENTS ? 0 : ENOSPC);
    log->segments[log->n++] =
        (struct made_segment){.first_seq = log->chain.seq + 1, .bytes = BUF_INIT(MIB(64))};
    made_must(audit_body_segment(&segment, &body));
    made_body(log, buf_slice(&body));
}

MAYBE_UNUSED static void made_checkpoint(struct made_log *log) {
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
    made_must(audit_body_checkpoint(log->keys, log->time_us, log->log,
                                    log->chain.seq - log->checkpoint_seq, &log->chain, &body));
    made_body(log, buf_slice(&body));
    log->checkpoint_seq = log->chain.seq;
}

MAYBE_UNUSED static void made_retention(struct made_log *log, uint64_t before) {
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
    made_must(audit_body_retention(log->time_us, before, "size", &body));
    made_body(log, buf_slice(&body));
}

MAYBE_UNUSED static void made_gap(struct made_log *log, uint64_t lost) {
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
    made_must(audit_body_gap(log->time_us, lost, "the disk is full", &body));
    made_body(log, buf_slice(&body));
}
