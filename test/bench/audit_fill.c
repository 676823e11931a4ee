/*
 * Writes a trail to measure with: audit_fill DIR RECORDS. Keys, segments, checkpoints and chain are
 * real (`cardea audit verify` takes it); the records are made up, of 2,000 users in 50 groups, 300
 * operations of 20 upstreams, 5,000 addresses; one in eight is an intent whose outcome comes later.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "audit/follow.h"
#include "audit/keys.h"
#include "base/clock.h"
#include "base/limits.h"
#include "io/file.h"
#include "own.h"

enum {
    SEGMENT_BYTES = 64 * 1024 * 1024,
    CHECKPOINT_LINES = 16384,
    USERS = 2000,
    OPERATIONS = 300,
    UPSTREAMS = 20,
    GROUPS = 50,
    ADDRESSES = 5000,
    OPEN = 256, /* intents at a time */
    CHUNK = 1024 * 1024,
};

#define FIRST_TIME_US UINT64_C(1795000000000000)

struct fill {
    const char *dir;
    struct audit_keys *keys;
    struct audit_hasher *hasher;
    struct audit_chain chain;
    char log[AUDIT_LOG_CHARS + 1];
    int fd;
    uint64_t n_segments, bytes, n_checkpoint_lines;
    struct buf out, body;
    uint64_t random, time_us;
    uint64_t open[OPEN]; /* ids of intents; 0: none */
};

static void give_up(const char *what, int error) {
    fprintf(stderr, "audit_fill: %s: %s\n", what, strerror(-error));
    exit(1);
}

static void must(int error, const char *what) {
    if (error != 0)
        give_up(what, error);
}

/* xorshift64: the same trail each time. */
static uint64_t next_random(struct fill *fill, uint64_t n) {
    fill->random ^= fill->random << 13;
    fill->random ^= fill->random >> 7;
    fill->random ^= fill->random << 17;
    return (fill->random >> 11) % n;
}

/* Few are often there, many seldom. */
static uint64_t next_skewed(struct fill *fill, uint64_t n) {
    uint64_t a = next_random(fill, n), b = next_random(fill, n);
    return a < b ? a : b;
}

static void write_out(struct fill *fill) {
    struct slice rest = buf_slice(&fill->out);
    while (rest.len != 0) {
        ssize_t n = write(fill->fd, rest.ptr, rest.len);
        if (n < 0)
            give_up("write", -errno);
        rest = slice_from(rest, (size_t)n);
    }
    fill->bytes += buf_len(&fill->out);
    buf_reset(&fill->out, CHUNK * 2);
}

static void put_line(struct fill *fill) {
    struct slice body = buf_slice(&fill->body);
    must(audit_line_write(fill->hasher, &fill->chain, &body, 1, &fill->out), "line");
    buf_reset(&fill->body, KIB(8));
    fill->n_checkpoint_lines++;
    if (buf_len(&fill->out) > CHUNK)
        write_out(fill);
}

static void put_checkpoint(struct fill *fill) {
    must(audit_body_checkpoint(fill->keys, fill->time_us, slice_from_cstr(fill->log),
                               fill->n_checkpoint_lines, &fill->chain, &fill->body),
         "checkpoint");
    put_line(fill);
    fill->n_checkpoint_lines = 0;
}

static void begin_segment(struct fill *fill) {
    char name[AUDIT_SEGMENT_CHARS + 1], path[4096];
    audit_segment_name(fill->chain.seq + 1, name);
    snprintf(path, sizeof path, "%s/%s", fill->dir, name);
    fill->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fill->fd < 0)
        give_up(path, -errno);
    struct audit_segment_body segment = {.time_us = fill->time_us,
                                         .log = slice_from_cstr(fill->log),
                                         .number = ++fill->n_segments,
                                         .key = slice_from_cstr(audit_keys_id(fill->keys)),
                                         .program = SLICE("cardea bench")};
    memcpy(segment.previous, fill->chain.hash, AUDIT_HASH);
    must(audit_body_segment(&segment, &fill->body), "segment");
    fill->bytes = 0;
    put_line(fill);
}

static void end_segment(struct fill *fill) {
    if (fill->n_checkpoint_lines != 0)
        put_checkpoint(fill);
    write_out(fill);
    io_fd_close(&fill->fd);
}

static void put_begin(struct fill *fill, const char *event) {
    char time[AUDIT_TIME_CHARS + 1];
    fill->time_us += next_random(fill, 20000);
    audit_time_write(fill->time_us, time);
    buf_printf(&fill->body, "\"time\":\"%s\",\"event\":\"%s\"", time, event);
}

static void put_call(struct fill *fill) {
    uint64_t user = next_skewed(fill, USERS), operation = next_skewed(fill, OPERATIONS);
    uint64_t address = (user * 7 + next_random(fill, 3) * 1009) % ADDRESSES;
    buf_printf(&fill->body,
               ",\"user\":\"user-%04d\",\"groups\":[\"group-%02d\",\"group-%02d\"],"
               "\"authentication\":\"oauth\",\"client\":\"bench 1.0\",\"address\":\"10.%d.%d.%d\","
               "\"trace\":\"%016llx%016llx\",\"method\":\"tools/call\","
               "\"operation\":\"upstream%02d__operation_%03d\",\"arguments\":{\"query\":\"item "
               "%d\",\"limit\":%d},\"arguments_bytes\":%d,\"upstream\":\"upstream%02d\","
               "\"access\":\"%s\"",
               (int)user, (int)(user % GROUPS), (int)(user / 40 % GROUPS), (int)(address / 1000),
               (int)(address / 250 % 4), (int)(address % 250 + 1), (unsigned long long)fill->random,
               (unsigned long long)fill->time_us, (int)(operation % UPSTREAMS), (int)operation,
               (int)next_random(fill, 100000), (int)next_random(fill, 100),
               (int)next_random(fill, 300), (int)(operation % UPSTREAMS),
               operation % 3 == 0 ? "write" : "read");
}

static void put_result(struct fill *fill) {
    static const char *const statuses[] = {"ok", "ok", "ok",         "ok",    "ok",
                                           "ok", "ok", "tool-error", "error", "timeout"};
    buf_printf(&fill->body,
               ",\"status\":\"%s\",\"http_status\":200,\"upstream_status\":200,\"bytes\":%d,"
               "\"duration_us\":%d",
               statuses[next_random(fill, ARRAY_LEN(statuses))], (int)next_random(fill, 9000),
               (int)next_random(fill, 90000));
}

/* Of the intent in this place, if there is one. */
static void put_outcome(struct fill *fill, uint64_t slot) {
    if (fill->open[slot] == 0)
        return;
    put_begin(fill, "outcome");
    buf_printf(&fill->body, ",\"id\":\"c%llu\"", (unsigned long long)fill->open[slot]);
    put_result(fill);
    put_line(fill);
    fill->open[slot] = 0;
}

static void put_record(struct fill *fill, uint64_t number) {
    uint64_t kind = next_random(fill, 1000);
    if (kind < 125) {
        uint64_t slot = next_random(fill, OPEN);
        put_outcome(fill, slot);
        put_begin(fill, "intent");
        buf_printf(&fill->body, ",\"id\":\"c%llu\"", (unsigned long long)number);
        put_call(fill);
        buf_append_cstr(&fill->body, ",\"decision\":\"allowed\",\"rule\":\"access\"");
        fill->open[slot] = number;
    } else {
        bool is_denied = kind >= 980;
        put_begin(fill, kind >= 960 && kind < 970 ? "request" : "call");
        put_call(fill);
        buf_printf(&fill->body, ",\"decision\":\"%s\",\"rule\":\"access\"",
                   is_denied ? "denied" : "allowed");
        if (is_denied)
            buf_append_cstr(&fill->body, ",\"status\":\"refused\"");
        else
            put_result(fill);
    }
    put_line(fill);
}

int main(int argc, char **argv) {
    uint64_t n_records = 0;
    const char *reason = "";
    if (argc != 3 || slice_to_u64(slice_from_cstr(argv[2]), &n_records) != 0) {
        fprintf(stderr, "usage: audit_fill DIR RECORDS\n");
        return 2;
    }
    struct fill fill = {.dir = argv[1],
                        .fd = -1,
                        .out = BUF_INIT(MIB(4)),
                        .body = BUF_INIT(KIB(64)),
                        .random = UINT64_C(88172645463325252),
                        .time_us = FIRST_TIME_US};
    must(io_directory_make(fill.dir), fill.dir);
    if (audit_keys_open(fill.dir, NULL, &fill.keys, &reason) != 0) {
        fprintf(stderr, "audit_fill: %s: %s\n", fill.dir, reason);
        return 1;
    }
    must(audit_hasher_new(&fill.hasher), "hash");
    audit_log_new(fill.log);
    uint64_t started = clock_monotonic_ms();
    begin_segment(&fill);
    for (uint64_t number = 1; number <= n_records; number++) {
        put_record(&fill, number);
        if (fill.n_checkpoint_lines >= CHECKPOINT_LINES)
            put_checkpoint(&fill);
        if (fill.bytes >= SEGMENT_BYTES) {
            end_segment(&fill);
            begin_segment(&fill);
        }
    }
    for (uint64_t slot = 0; slot < OPEN; slot++)
        put_outcome(&fill, slot);
    end_segment(&fill);
    printf("%llu records, %llu lines, %llu segments, %.1f s\n", (unsigned long long)n_records,
           (unsigned long long)fill.chain.seq, (unsigned long long)fill.n_segments,
           (double)(clock_monotonic_ms() - started) / 1000);
    buf_deinit(&fill.out);
    buf_deinit(&fill.body);
    audit_hasher_free(fill.hasher);
    audit_keys_free(fill.keys);
    return 0;
}
