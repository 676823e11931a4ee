/* What cannot be written or synced: nobody is told that it was, everybody is told once, the chain
 * stays whole, and what is missing is said. */
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "test.h"
#include "trail_world.h"

/* Until it writes again; asks in between, which must not be told as durable when it is not. */
static void until_it_writes(struct world *world) {
    while (!audit_can_write(world->audit))
        poll(NULL, 0, 1);
}

static void until_it_does_not(struct world *world) {
    while (audit_can_write(world->audit))
        world_ask(world, 1);
}

/* Room ends behind each of so many bytes. */
static void test_full_at_every_byte(void) {
    enum audit_mode modes[] = {AUDIT_BEST_EFFORT, AUDIT_REQUIRED};
    for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
        struct world world;
        struct reading reading = {0};
        struct audit_state state;
        size_t n_durable = 0;
        world_make(&world, modes[m]);
        world_must_open(&world);
        for (uint64_t room = 0; room < 400; room += 3) {
            atomic_store(&faults.room, room);
            for (size_t i = 0; i < 3; i++)
                n_durable += world_ask(&world, 2);
            until_it_does_not(&world);
            CHECK_INT(submit(&world, 1, "kept", NULL), 0);
            audit_get_state(world.audit, &state);
            CHECK(!state.can_write && strstr(state.error, "No space") != NULL);
            atomic_store(&faults.room, UINT64_MAX);
            until_it_writes(&world);
            size_t now = world_ask(&world, 1);
            CHECK_INT(now, 1);
            n_durable += now;
        }
        world.audit = audit_close(world.audit);
        CHECK(world_read(&world, &reading));
        CHECK(reading.n_gaps >= 134);
        CHECK(strstr(reading.last_gap, "\"lost\":0") != NULL);
        CHECK(reading.n_calls >= n_durable + 134);
        CHECK_INT(world_verify(&world, NULL), 0);
        world_end(&world);
    }
}

/* More than can be held is lost, counted and told. */
static void test_lost(void) {
    static char large[LIMIT_AUDIT_BODY - 100];
    struct slice head =
        SLICE("\"time\":\"2026-11-21T22:55:01.123456Z\",\"event\":\"call\",\"x\":\"");
    struct world world;
    struct reading reading = {0};
    struct audit_verified verified;
    struct audit_state state;
    size_t n_held = 0, n_lost = 0;
    world_make(&world, AUDIT_BEST_EFFORT);
    world_must_open(&world);
    memset(large, 'x', sizeof large);
    struct slice pieces[3] = {head, {.ptr = large, .len = sizeof large}, SLICE("\"")};
    pieces[1].len -= head.len;
    atomic_store(&faults.room, 0);
    while (n_lost < 10) {
        int error = audit_submit(audit_worker(world.audit, 0), pieces, 3, NULL);
        n_held += error == 0;
        n_lost += error == AUDIT_E_LOST;
    }
    CHECK(n_held * LIMIT_AUDIT_BODY < 3 * LIMIT_AUDIT_HELD);
    CHECK(!audit_can_write(world.audit));
    audit_get_state(world.audit, &state);
    CHECK_INT(state.n_lost, 10);
    atomic_store(&faults.room, UINT64_MAX);
    until_it_writes(&world);
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK_INT(reading.n_calls, n_held);
    CHECK(strstr(reading.last_stop, "\"lost\":10") != NULL);
    CHECK_INT(world_verify(&world, &verified), 0);
    CHECK_INT(verified.n_lost, 10);
    world_end(&world);
}

static void test_other_errors(void) {
    static const int errors[] = {EIO, EROFS, EDQUOT, EFBIG, EINTR};
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        struct world world;
        struct audit_state state;
        test_row(strerror(errors[i]));
        world_make(&world, AUDIT_REQUIRED);
        world_must_open(&world);
        if (errors[i] == EINTR) { /* is no error */
            CHECK_INT(world_ask(&world, 5), 5);
            world_end(&world);
            continue;
        }
        atomic_store(&faults.write_error, errors[i]);
        atomic_store(&faults.room, 10);
        CHECK_INT(world_ask(&world, 5), 0);
        audit_get_state(world.audit, &state);
        CHECK(strstr(state.error, strerror(errors[i])) != NULL);
        CHECK(strstr(state.error, ".jsonl") != NULL);
        atomic_store(&faults.room, UINT64_MAX);
        until_it_writes(&world);
        CHECK_INT(world_ask(&world, 5), 5);
        world.audit = audit_close(world.audit);
        CHECK_INT(world_verify(&world, NULL), 0);
        world_end(&world);
    }
    test_row("");
}

/* Nothing of a file whose sync failed is trusted: a new one is begun, and says how much that is. */
static void test_sync_fails(void) {
    enum audit_mode modes[] = {AUDIT_BEST_EFFORT, AUDIT_REQUIRED};
    for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
        struct world world;
        struct reading reading = {0};
        struct audit_state state;
        world_make(&world, modes[m]);
        world.system.sign_ms = 1;
        world_must_open(&world);
        for (int n_good = 0; n_good < 12; n_good++) {
            size_t n_segments;
            audit_get_state(world.audit, &state);
            n_segments = state.n_segments;
            atomic_store(&faults.n_good_syncs, n_good);
            atomic_store(&faults.sync_error, EIO);
            until_it_does_not(&world);
            CHECK(world_ask(&world, 4) == 0 || modes[m] == AUDIT_BEST_EFFORT || n_good > 0);
            audit_get_state(world.audit, &state);
            CHECK(strstr(state.error, "Input/output error") != NULL);
            atomic_store(&faults.sync_error, 0);
            until_it_writes(&world);
            CHECK_INT(world_ask(&world, 4), 4);
            audit_get_state(world.audit, &state);
            CHECK(state.n_segments > n_segments);
        }
        world.audit = audit_close(world.audit);
        CHECK(world_read(&world, &reading));
        CHECK(reading.n_gaps >= 12);
        CHECK(strstr(reading.last_gap, "\"unsynced\":") != NULL);
        CHECK_INT(world_verify(&world, NULL), 0);
        world_end(&world);
    }
}

/* Each sync of the opening fails in its turn: it does not open, and does so later. */
static void test_open_fails(void) {
    struct world world;
    struct reading reading = {0};
    world_make(&world, AUDIT_REQUIRED);
    int n_good = 0, error;
    do {
        atomic_store(&faults.n_good_syncs, n_good++);
        atomic_store(&faults.sync_error, EIO);
        error = world_open(&world);
        CHECK(error == 0 || error == -EIO);
    } while (error != 0);
    atomic_store(&faults.sync_error, 0);
    CHECK(n_good > 3);
    world.audit = audit_close(world.audit);
    for (uint64_t room = 0;; room += 50) {
        atomic_store(&faults.room, room);
        error = world_open(&world);
        atomic_store(&faults.room, UINT64_MAX);
        if (error == 0)
            break;
        CHECK_INT(error, -ENOSPC);
    }
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

/* New segments on a disk that is full now and then, and whose syncs fail: each wait comes once. */
static void test_segments_fail(void) {
    struct world world;
    struct reading reading = {0};
    size_t n_durable = 0;
    world_make(&world, AUDIT_REQUIRED);
    world.system.least_segment = KIB(2);
    world.options.max_bytes = KIB(16);
    world_must_open(&world);
    world.options.max_bytes = MIB(8);
    for (unsigned i = 0; i < 150; i++) {
        if (i % 5 == 0)
            atomic_store(&faults.room, i * 37 % 4000);
        if (i % 7 == 0) {
            atomic_store(&faults.n_good_syncs, (int)(i % 4));
            atomic_store(&faults.sync_error, EIO);
        }
        for (size_t k = 0; k < 3; k++)
            n_durable += world_ask(&world, 3);
        atomic_store(&faults.room, UINT64_MAX);
        atomic_store(&faults.sync_error, 0);
        until_it_writes(&world);
        size_t now = world_ask(&world, 1);
        CHECK(now == 1);
        n_durable += now;
    }
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK_INT(world_verify(&world, NULL), 0);
    CHECK(n_durable > 150);
    world_end(&world);
}

/* Syncs overlap, and each one answers for what was written when it began, and for nothing when one
 * beside it fails. */
static void test_overlapping_syncs(void) {
    static const struct {
        const char *name;
        uint64_t first;   /* which of both syncs ends first */
        bool fails;       /* that one */
        size_t n_told;    /* then */
        size_t n_durable; /* in the end */
    } rows[] = {
        {"the first one answers for the first record alone", 0, false, 1, 2},
        {"the second one answers for both", 1, false, 2, 2},
        {"the first one fails: the second is not believed", 0, true, 2, 0},
        {"the second one fails: the first is not believed", 1, true, 2, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world world;
        struct waiter waiters[2];
        test_row(rows[i].name);
        world_make(&world, AUDIT_REQUIRED);
        world.system.sign_ms = world.system.retry_ms = 3600000;
        world_must_open(&world);
        uint64_t base = atomic_load(&faults.n_syncs);
        atomic_store(&faults.gate_base, base);
        atomic_store(&faults.gates, 0);
        atomic_store(&faults.good, rows[i].fails ? ~(UINT64_C(1) << rows[i].first) : UINT64_MAX);
        atomic_store(&faults.is_gated, true);
        for (uint64_t k = 0; k < 2; k++) {
            CHECK_INT(submit(&world, k, "waited", waiter_init(&waiters[k], &world)), 0);
            while (atomic_load(&faults.n_syncs) != base + k + 1)
                poll(NULL, 0, 1);
        }
        CHECK_INT(world.n_delivered, 0);
        atomic_store(&faults.gates, UINT64_C(1) << rows[i].first);
        world_wait(&world, rows[i].n_told);
        CHECK(waiters[0].n_delivered == 1);
        CHECK_INT(waiters[1].n_delivered, rows[i].n_told - 1);
        CHECK_INT(world.n_durable, rows[i].fails ? 0 : rows[i].n_told);
        atomic_store(&faults.gates, UINT64_MAX);
        atomic_store(&faults.good, UINT64_MAX);
        world_wait(&world, 2);
        CHECK_INT(world.n_durable, rows[i].n_durable);
        world.audit = audit_close(world.audit);
        CHECK(waiters[0].n_delivered == 1 && waiters[1].n_delivered == 1);
        CHECK_INT(world_verify(&world, NULL), 0);
        world_end(&world);
    }
    test_row("");
}

/* Who waits when it is closed hears of it before that returns: of success, or not. */
static void test_close_with_waits(void) {
    enum { WAITERS = 64 };
    for (int fails = 0; fails < 3; fails++) {
        struct world world;
        struct waiter waiters[WAITERS];
        size_t n_sent = 0;
        world_make(&world, AUDIT_REQUIRED);
        world_must_open(&world);
        atomic_store(&faults.sync_ms, 5);
        if (fails == 1)
            atomic_store(&faults.sync_error, EIO);
        if (fails == 2)
            atomic_store(&faults.room, 0);
        for (size_t i = 0; i < WAITERS; i++)
            n_sent += submit(&world, i % 4, "late", waiter_init(&waiters[i], &world)) == 0;
        atomic_store(&faults.sync_ms, 0);
        world.audit = audit_close(world.audit);
        world_wait(&world, n_sent);
        CHECK_INT(world.n_delivered, n_sent);
        CHECK_INT(world.n_durable, fails == 0 ? WAITERS : 0);
        for (size_t i = 0; i < n_sent; i++)
            CHECK(waiters[i].n_delivered <= 1);
        world_end(&world);
    }
}

/* A real limit of the size of files (the signal is ignored, as the gateway does). */
static void test_limit_of_files(void) {
    struct world world;
    struct reading reading = {0};
    struct rlimit before, small;
    world_make(&world, AUDIT_REQUIRED);
    world.options.max_bytes = MIB(256);
    world_must_open(&world);
    signal(SIGXFSZ, SIG_IGN);
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    small = before;
    small.rlim_cur = 5000;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    size_t n_durable = 0;
    while (audit_can_write(world.audit))
        n_durable += world_ask(&world, 3);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    until_it_writes(&world);
    n_durable += world_ask(&world, 3);
    CHECK(n_durable > 6);
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK_INT(reading.n_calls, n_durable);
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

/* --- a real disk that is full (needs root, for the mount) --- */

static void fill_disk(const char *dir) {
    static char block[KIB(64)];
    char path[96];
    snprintf(path, sizeof path, "%s/filler", dir);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        CANNOT_GO_ON();
    setvbuf(file, NULL, _IONBF, 0);
    for (size_t n = sizeof block; n > 0; n /= 2) {
        while (fwrite(block, 1, n, file) == n)
            continue;
    }
    fclose(file);
}

static void test_full_disk(void) {
    struct world world;
    struct reading reading = {0};
    struct audit_state state;
    struct network address;
    struct stat info;
    char reserve[96], filler[96];
    world_make(&world, AUDIT_REQUIRED);
    if (geteuid() != 0 || mount("tmpfs", world.dir, "tmpfs", 0, "size=20m") != 0) {
        printf("# skipped: no right to mount\n");
        world_end(&world);
        return;
    }
    snprintf(reserve, sizeof reserve, "%s/reserve", world.dir);
    snprintf(filler, sizeof filler, "%s/filler", world.dir);
    world.system.denied_ms = 1;
    world_must_open(&world);
    CHECK(stat(reserve, &info) == 0 && info.st_size == (off_t)LIMIT_AUDIT_RESERVE);
    fill_disk(world.dir);
    /* It goes on in the reserve; strangers are counted only. */
    size_t n_durable = 0;
    for (size_t i = 0; i < 200; i++)
        n_durable += world_ask(&world, 20);
    CHECK_INT(n_durable, 4000);
    CHECK(stat(reserve, &info) != 0);
    REQUIRE(network_parse_address(SLICE("192.0.2.7"), &address));
    audit_deny(audit_worker(world.audit, 0), &address, "no token");
    while (audit_can_write(world.audit))
        n_durable += world_ask(&world, 200);
    audit_get_state(world.audit, &state);
    CHECK(strstr(state.error, "No space") != NULL);
    CHECK(world_read(&world, &reading)); /* also now, without a torn line */
    CHECK_INT(reading.n_denied, 0);
    CHECK(reading.n_calls >= n_durable);
    unlink(filler);
    until_it_writes(&world);
    while (stat(reserve, &info) != 0 || info.st_size != (off_t)LIMIT_AUDIT_RESERVE)
        n_durable += world_ask(&world, 1);
    world.audit = audit_close(world.audit);
    reading = (struct reading){0};
    CHECK(world_read(&world, &reading));
    CHECK_INT(reading.n_denied, 1);
    CHECK(reading.n_calls >= n_durable);
    CHECK(reading.n_gaps > 0);
    CHECK_INT(world_verify(&world, NULL), 0);
    /* And a file system that is read-only. */
    CHECK_INT(mount("tmpfs", world.dir, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=20m"), 0);
    CHECK_INT(world_open(&world), -EROFS);
    CHECK_INT(umount(world.dir), 0);
    world_end(&world);
}

TEST_MAIN(TEST(test_full_at_every_byte), TEST(test_lost), TEST(test_other_errors),
          TEST(test_sync_fails), TEST(test_open_fails), TEST(test_segments_fail),
          TEST(test_overlapping_syncs), TEST(test_close_with_waits), TEST(test_limit_of_files),
          TEST(test_full_disk))
