/*
 * A trail in a directory of its own, on a system that fails when it is told to: how many bytes
 * there is room for, which error a sync has, how long it takes, what time it is. And somebody who
 * waits.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/verify.h"
#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"
#include "trail_private.h"

/* What the system does; of a whole test program, since its functions have no context. */
static struct {
    atomic_uint_fast64_t room; /* bytes that can be written; UINT64_MAX: any */
    atomic_int write_error;    /* what there is behind them */
    atomic_int sync_error;     /* 0: none */
    atomic_int n_good_syncs;   /* that come before it */
    atomic_int sync_ms;        /* how long one takes */
    /* The n-th sync from `gate_base` on waits for bit n of `gates`; 0 in `good`: it fails then. */
    atomic_bool is_gated;
    atomic_uint_fast64_t gate_base, gates, good;
    atomic_uint_fast64_t n_syncs;
    atomic_int_fast64_t wall_shift_us;
} faults;

MAYBE_UNUSED static void faults_reset(void) {
    atomic_store(&faults.room, UINT64_MAX);
    atomic_store(&faults.write_error, ENOSPC);
    atomic_store(&faults.sync_error, 0);
    atomic_store(&faults.n_good_syncs, 0);
    atomic_store(&faults.sync_ms, 0);
    atomic_store(&faults.n_syncs, 0);
    atomic_store(&faults.wall_shift_us, 0);
    atomic_store(&faults.is_gated, false);
}

static ssize_t fault_write(int fd, const void *bytes, size_t n) {
    uint64_t room = atomic_load(&faults.room);
    if (room == UINT64_MAX)
        return write(fd, bytes, n);
    if (room == 0) {
        errno = atomic_load(&faults.write_error);
        return -1;
    }
    ssize_t written = write(fd, bytes, n < room ? n : (size_t)room);
    if (written > 0)
        atomic_fetch_sub(&faults.room, (uint64_t)written);
    return written;
}

static int pass_gate(uint64_t number) {
    while (atomic_load(&faults.is_gated) && (atomic_load(&faults.gates) >> number & 1) == 0)
        poll(NULL, 0, 1);
    if ((atomic_load(&faults.good) >> number & 1) != 0)
        return 0;
    errno = EIO;
    return -1;
}

static int fault_sync(int fd) {
    (void)fd;
    uint64_t number = atomic_fetch_add(&faults.n_syncs, 1);
    if (atomic_load(&faults.is_gated))
        return pass_gate(number - atomic_load(&faults.gate_base));
    int ms = atomic_load(&faults.sync_ms);
    if (ms != 0)
        poll(NULL, 0, ms);
    int error = atomic_load(&faults.sync_error);
    if (error == 0 || atomic_fetch_sub(&faults.n_good_syncs, 1) > 0)
        return 0;
    errno = error;
    return -1;
}

static uint64_t fault_wall_us(void) {
    return clock_wall_us() + (uint64_t)atomic_load(&faults.wall_shift_us);
}

struct world {
    char dir[64];
    struct trail_system system;
    struct audit_options options;
    struct audit *audit;
    struct io_loop *loop;
    size_t n_expected, n_delivered, n_durable;
};

MAYBE_UNUSED static void world_make(struct world *world, enum audit_mode mode) {
    *world = (struct world){.dir = "/tmp/cardea-trail-XXXXXX", .system = trail_system};
    faults_reset();
    if (mkdtemp(world->dir) == NULL || io_loop_new(&world->loop) != 0)
        CANNOT_GO_ON();
    world->system.write = fault_write;
    world->system.sync_data = world->system.sync_whole = fault_sync;
    world->system.wall_us = fault_wall_us;
    world->system.tick_ms = 1;
    world->system.retry_ms = 1;
    world->options = (struct audit_options){.dir = world->dir,
                                            .mode = mode,
                                            .max_bytes = MIB(64),
                                            .max_age_ms = UINT64_C(90) * 24 * 3600 * 1000,
                                            .n_workers = 4,
                                            .program = SLICE("cardea test")};
}

MAYBE_UNUSED static int world_open(struct world *world) {
    const char *reason = NULL;
    return trail_open(&world->options, &world->system, &world->audit, &reason);
}

MAYBE_UNUSED static void world_must_open(struct world *world) {
    int error = world_open(world);
    errno = -error;
    if (error != 0)
        CANNOT_GO_ON();
}

MAYBE_UNUSED static void world_remove(struct world *world, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", world->dir, name);
    unlink(path);
}

MAYBE_UNUSED static void world_end(struct world *world) {
    static const char *const others[] = {"lock", "reserve", "signing.pem", "public.pem",
                                         "hmac.key"};
    uint64_t *segments = NULL;
    size_t n = 0;
    world->audit = audit_close(world->audit);
    world->loop = io_loop_free(world->loop);
    if (audit_segments(world->dir, &segments, &n) != 0)
        return;
    for (size_t i = 0; i < n; i++) {
        char name[AUDIT_SEGMENT_CHARS + 1];
        audit_segment_name(segments[i], name);
        world_remove(world, name);
    }
    mem_free(segments);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        world_remove(world, others[i]);
    if (rmdir(world->dir) != 0) { /* torn-* */
        char command[128];
        for (unsigned seq = 1; seq < 5000 && rmdir(world->dir) != 0; seq++) {
            snprintf(command, sizeof command, "torn-%020u", seq);
            world_remove(world, command);
            for (unsigned again = 2; again < 5; again++) {
                snprintf(command, sizeof command, "torn-%020u-%u", seq, again);
                world_remove(world, command);
            }
        }
    }
}

/* --- records, and who waits for them --- */

MAYBE_UNUSED static int submit(struct world *world, size_t worker, const char *id,
                               struct audit_wait *wait) {
    char time[AUDIT_TIME_CHARS + 1], body[256];
    audit_time_write(fault_wall_us(), time);
    int len =
        snprintf(body, sizeof body, "\"time\":\"%s\",\"event\":\"call\",\"id\":\"%s\"", time, id);
    struct slice pieces[2] = {slice_make(body, 10), slice_make(body + 10, (size_t)len - 10)};
    return audit_submit(audit_worker(world->audit, worker), pieces, 2, wait);
}

struct waiter {
    struct audit_wait wait;
    struct world *world;
    int n_delivered;
};

static void on_waited(struct io_message *message) {
    struct audit_wait *wait = CONTAINER_OF(message, struct audit_wait, message);
    struct waiter *waiter = CONTAINER_OF(wait, struct waiter, wait);
    waiter->n_delivered++;
    waiter->world->n_durable += wait->is_durable;
    if (++waiter->world->n_delivered == waiter->world->n_expected)
        io_loop_stop(waiter->world->loop);
}

MAYBE_UNUSED static struct audit_wait *waiter_init(struct waiter *waiter, struct world *world) {
    *waiter = (struct waiter){.world = world};
    waiter->wait.message.deliver = on_waited;
    waiter->wait.loop = world->loop;
    return &waiter->wait;
}

/* Runs the loop until as many messages came. */
MAYBE_UNUSED static void world_wait(struct world *world, size_t n) {
    world->n_expected = n;
    if (world->n_delivered < n)
        io_loop_run(world->loop);
    world->n_expected = 0;
}

/* Submits `n` records of which each one is waited for; how many were durable. */
MAYBE_UNUSED static size_t world_ask(struct world *world, size_t n) {
    struct waiter *waiters = calloc(n, sizeof *waiters);
    size_t n_sent = 0;
    if (waiters == NULL)
        CANNOT_GO_ON();
    world->n_delivered = world->n_durable = 0;
    for (size_t i = 0; i < n; i++)
        n_sent += submit(world, i % world->options.n_workers, "waited",
                         waiter_init(&waiters[i], world)) == 0;
    world_wait(world, n_sent);
    size_t n_delivered = 0;
    for (size_t i = 0; i < n; i++) {
        CHECK(waiters[i].n_delivered <= 1);
        n_delivered += (size_t)waiters[i].n_delivered;
    }
    CHECK_INT(n_delivered, n_sent);
    free(waiters);
    return world->n_durable;
}

/* --- what is there --- */

struct reading {
    uint64_t n_segments, n_lines, n_checkpoints, n_calls, n_gaps, n_starts, n_stops, n_denied;
    uint64_t n_retentions, last_seq;
    char last_gap[512], last_start[512], last_stop[512];
    void (*on_call)(void *context, const struct audit_line *line);
    void *context;
};

static void keep_text(char *out, size_t size, struct slice text) {
    snprintf(out, size, "%.*s", SLICE_ARGS(text));
}

static void read_event(struct reading *reading, const struct audit_line *line) {
    reading->n_lines++;
    reading->last_seq = line->seq;
    if (slice_eq(line->event, SLICE("call"))) {
        reading->n_calls++;
        if (reading->on_call != NULL)
            reading->on_call(reading->context, line);
    } else if (slice_eq(line->event, SLICE("checkpoint"))) {
        reading->n_checkpoints++;
    } else if (slice_eq(line->event, SLICE("gap"))) {
        reading->n_gaps++;
        keep_text(reading->last_gap, sizeof reading->last_gap, line->body);
    } else if (slice_eq(line->event, SLICE("start"))) {
        reading->n_starts++;
        keep_text(reading->last_start, sizeof reading->last_start, line->body);
    } else if (slice_eq(line->event, SLICE("stop"))) {
        reading->n_stops++;
        keep_text(reading->last_stop, sizeof reading->last_stop, line->body);
    } else if (slice_eq(line->event, SLICE("denied"))) {
        reading->n_denied++;
    } else if (slice_eq(line->event, SLICE("retention"))) {
        reading->n_retentions++;
    }
}

static bool read_segment(struct world *world, uint64_t segment, struct audit_hasher *hasher,
                         struct audit_chain *chain, struct reading *reading) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(128));
    char name[AUDIT_SEGMENT_CHARS + 1], path[160];
    struct slice rest, line_text;
    audit_segment_name(segment, name);
    snprintf(path, sizeof path, "%s/%s", world->dir, name);
    if (io_file_read(path, &text) != 0)
        return false;
    rest = buf_slice(&text);
    bool is_first = true;
    while (rest.len != 0) {
        struct audit_segment_body head;
        struct audit_line line;
        if (!slice_cut(rest, '\n', &line_text, &rest) ||
            audit_line_read(line_text, &line, NULL) != 0)
            return false;
        if (is_first && (line.seq != segment || !audit_segment_body_read(&line, &head)))
            return false;
        if (is_first && chain->seq == 0) {
            chain->seq = segment - 1;
            memcpy(chain->hash, head.previous, AUDIT_HASH);
        }
        if (!audit_line_follows(hasher, chain, &line))
            return false;
        is_first = false;
        read_event(reading, &line);
    }
    reading->n_segments++;
    return !is_first;
}

/* All lines, each checked against the one before. False: they are no chain. */
MAYBE_UNUSED static bool world_read(struct world *world, struct reading *reading) {
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = NULL;
    CLEANUP(mem_freep) uint64_t *segments = NULL;
    struct audit_chain chain = {.seq = 0};
    size_t n = 0;
    if (audit_hasher_new(&hasher) != 0 || audit_segments(world->dir, &segments, &n) != 0)
        CANNOT_GO_ON();
    bool is_good = n != 0;
    for (size_t i = 0; i < n && is_good; i++)
        is_good = read_segment(world, segments[i], hasher, &chain, reading);
    return is_good;
}

static void print_finding(void *context, const struct audit_finding *finding) {
    (void)context;
    printf("# line %llu: %s\n", (unsigned long long)finding->seq, finding->text);
}

/* How much the verifier finds; `on_finding` hears what. */
MAYBE_UNUSED static uint64_t
world_verify_with(struct world *world,
                  void (*on_finding)(void *context, const struct audit_finding *finding),
                  struct audit_verified *ret_verified) {
    CLEANUP(buf_deinit) struct buf pem = BUF_INIT(KIB(4));
    struct audit_public_key *key = NULL;
    struct audit_verified verified = {0};
    const char *reason;
    char path[160];
    snprintf(path, sizeof path, "%s/public.pem", world->dir);
    if (io_file_read(path, &pem) != 0 || audit_public_key_read(buf_slice(&pem), &key, &reason) != 0)
        CANNOT_GO_ON();
    struct audit_verify_options options = {.dir = world->dir, .key = key, .on_finding = on_finding};
    if (audit_verify(&options, &verified) != 0)
        CANNOT_GO_ON();
    audit_public_key_free(key);
    if (ret_verified != NULL)
        *ret_verified = verified;
    return verified.n_findings;
}

/* What the verifier says; 0: nothing. */
MAYBE_UNUSED static uint64_t world_verify(struct world *world,
                                          struct audit_verified *ret_verified) {
    return world_verify_with(world, print_finding, ret_verified);
}
