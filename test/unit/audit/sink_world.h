/* A trail written by hand for the tests of sinks, and what is waited for. */
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/follow.h"
#include "audit/line.h"
#include "audit/sink.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "io/file.h"
#include "test.h"

enum { WAIT_MS = 20000 };

struct world {
    char dir[64], path[96]; /* of the trail; of the copy */
    struct audit_hasher *hasher;
    struct audit_chain chain;
    int fd;         /* of the newest segment */
    struct buf all; /* every line, as it is in the trail */
    struct config_audit config;
    struct audit_sink *sink;
};

static void world_segment(struct world *world) {
    char name[AUDIT_SEGMENT_CHARS + 1], path[128];
    io_fd_close(&world->fd);
    audit_segment_name(world->chain.seq + 1, name);
    snprintf(path, sizeof path, "%s/%s", world->dir, name);
    world->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (world->fd < 0)
        CANNOT_GO_ON();
}

/* `members`: what stands behind time and event. */
static void world_line(struct world *world, const char *event, struct slice members) {
    struct buf line = BUF_INIT(MIB(1)), body = BUF_INIT(KIB(8));
    buf_printf(&body, "\"time\":\"2026-11-21T22:55:01.123456Z\",\"event\":\"%s\"", event);
    struct slice pieces[] = {buf_slice(&body), members};
    if (audit_line_write(world->hasher, &world->chain, pieces, 2, &line) != 0 ||
        write(world->fd, buf_slice(&line).ptr, buf_len(&line)) != (ssize_t)buf_len(&line) ||
        buf_append(&world->all, buf_slice(&line)) != 0)
        CANNOT_GO_ON();
    buf_deinit(&line);
    buf_deinit(&body);
}

static void world_calls(struct world *world, int n) {
    for (int i = 0; i < n; i++)
        world_line(world, "call", SLICE(",\"user\":\"alice\",\"decision\":\"allowed\""));
}

static struct world world_begin(void) {
    struct world world = {.dir = "/tmp/cardea-sink-XXXXXX", .fd = -1, .all = BUF_INIT(MIB(64))};
    if (mkdtemp(world.dir) == NULL || audit_hasher_new(&world.hasher) != 0)
        CANNOT_GO_ON();
    snprintf(world.path, sizeof world.path, "%s/copy.jsonl", world.dir);
    world.config.jsonl_path = slice_make(NULL, 0); /* set by world_jsonl(): `world` moves */
    world.config.jsonl_max_bytes = MIB(1);
    world.config.jsonl_files = 3;
    world_segment(&world);
    return world;
}

MAYBE_UNUSED static void world_stop(struct world *world) {
    world->sink = audit_sink_stop(world->sink, 5000);
}

static void world_end(struct world *world) {
    world->sink = audit_sink_stop(world->sink, 1000);
    io_fd_close(&world->fd);
    buf_deinit(&world->all);
    audit_hasher_free(world->hasher);
    uint64_t *segments = NULL;
    size_t n = 0;
    if (audit_segments(world->dir, &segments, &n) == 0) {
        for (size_t i = 0; i < n; i++) {
            char name[AUDIT_SEGMENT_CHARS + 1], path[128];
            audit_segment_name(segments[i], name);
            snprintf(path, sizeof path, "%s/%s", world->dir, name);
            unlink(path);
        }
    }
    mem_free(segments);
    static const char *const others[] = {"copy.jsonl",   "copy.jsonl.1", "copy.jsonl.2",
                                         "copy.jsonl.3", "moved",        "jsonl.place",
                                         "syslog.place", "ca.pem",       "jsonl.place.new"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", world->dir, others[i]);
        unlink(path);
    }
    CHECK_INT(rmdir(world->dir), 0);
}

/* Until it holds, or time is over. */
#define WAIT_UNTIL(condition)                                                                      \
    do {                                                                                           \
        uint64_t until_ = clock_monotonic_ms() + WAIT_MS;                                          \
        while (!(condition) && clock_monotonic_ms() < until_)                                      \
            poll(NULL, 0, 2);                                                                      \
        CHECK(condition);                                                                          \
    } while (0)

static struct audit_sink_state state_of(struct world *world) {
    struct audit_sink_state state;
    audit_sink_get_state(world->sink, &state);
    return state;
}
