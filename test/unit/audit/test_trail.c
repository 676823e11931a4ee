/* What a trail does when all is well: lines, waits, checkpoints, segments, retention, strangers. */
#include <dirent.h>
#include <sys/stat.h>

#include "test.h"
#include "trail_world.h"

static void test_names(void) {
    static const struct {
        const char *name;
        uint64_t seq; /* 0: it is none */
    } rows[] = {
        {"00000000000000000001.jsonl", 1},
        {"18446744073709551615.jsonl", UINT64_MAX},
        {"18446744073709551616.jsonl", 0},
        {"00000000000000000000.jsonl", 0},
        {"0000000000000000001.jsonl", 0},
        {"000000000000000000001.jsonl", 0},
        {"0000000000000000000x.jsonl", 0},
        {"+0000000000000000001.jsonl", 0},
        {"00000000000000000001.jsonl~", 0},
        {"00000000000000000001.jsonL", 0},
        {"", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t seq = 0;
        char name[AUDIT_SEGMENT_CHARS + 1];
        test_row(rows[i].name);
        CHECK(audit_segment_parse(slice_from_cstr(rows[i].name), &seq) == (rows[i].seq != 0));
        CHECK(seq == rows[i].seq);
        if (seq == 0)
            continue;
        audit_segment_name(seq, name);
        CHECK_SLICE(slice_from_cstr(name), slice_from_cstr(rows[i].name));
    }
    test_row("");
}

static void test_run(enum audit_mode mode) {
    struct world world;
    struct reading reading = {0};
    struct audit_verified verified;
    struct audit *second = NULL;
    struct audit_state state;
    const char *reason = NULL;
    world_make(&world, mode);
    for (uint64_t run = 1; run <= 3; run++) {
        world_must_open(&world);
        CHECK(audit_can_write(world.audit));
        CHECK_INT(trail_open(&world.options, &world.system, &second, &reason), -EWOULDBLOCK);
        for (size_t i = 0; i < 10; i++)
            CHECK_INT(submit(&world, i % 4, "plain", NULL), 0);
        CHECK_INT(world_ask(&world, 10), 10);
        audit_count_requests(audit_worker(world.audit, 1), 20);
        audit_get_state(world.audit, &state);
        CHECK(state.can_write && state.n_lost == 0 && state.error[0] == '\0');
        CHECK_INT(state.n_segments, 1);
        CHECK(state.signed_head.seq <= state.head.seq && state.signed_head.seq > 0);
        world.audit = audit_close(world.audit);
        reading = (struct reading){0};
        CHECK(world_read(&world, &reading));
        CHECK_INT(reading.n_calls, 20 * run);
        CHECK_INT(reading.n_starts, run);
        CHECK_INT(reading.n_stops, run);
    }
    CHECK(strstr(reading.last_stop, "\"requests\":20,\"submitted\":20,\"refused\":0,\"denied\":0,"
                                    "\"lost\":0") != NULL);
    CHECK(strstr(reading.last_start, "recovered") == NULL);
    CHECK_INT(world_verify(&world, &verified), 0);
    CHECK_INT(verified.n_unsigned, 0);
    world_end(&world);
}

static void test_best_effort(void) {
    test_run(AUDIT_BEST_EFFORT);
}

static void test_required(void) {
    test_run(AUDIT_REQUIRED);
}

/* In required mode no wait comes before a sync; in the other one it needs none. */
static void test_what_waits_are_for(void) {
    struct world world;
    world_make(&world, AUDIT_REQUIRED);
    world_must_open(&world);
    uint64_t before = atomic_load(&faults.n_syncs);
    CHECK_INT(world_ask(&world, 1), 1);
    CHECK(atomic_load(&faults.n_syncs) > before);
    world_end(&world);

    world_make(&world, AUDIT_BEST_EFFORT);
    world.system.sign_ms = 3600000;
    world_must_open(&world);
    before = atomic_load(&faults.n_syncs);
    CHECK_INT(world_ask(&world, 1), 1);
    CHECK_INT(atomic_load(&faults.n_syncs), before);
    world_end(&world);
}

/* What is no record is none: nothing gets into the trail that could not be read again. */
static void test_bad_bodies(void) {
    static char large[LIMIT_AUDIT_BODY + 2];
    struct world world;
    struct reading reading = {0};
    struct audit_state state;
    struct waiter waiter;
    struct slice bad =
        SLICE("\"time\":\"2026-11-21T22:55:01.123456Z\",\"event\":\"call\",\"x\":\"\n\"");
    world_make(&world, AUDIT_BEST_EFFORT);
    world_must_open(&world);
    memset(large, 'x', sizeof large);
    struct audit_worker *worker = audit_worker(world.audit, 0);
    struct slice pieces[2] = {{.ptr = large, .len = LIMIT_AUDIT_BODY}, {.ptr = large, .len = 1}};
    CHECK_INT(audit_submit(worker, pieces, 2, NULL), AUDIT_E_LOST);
    CHECK_INT(world_ask(&world, 1), 1); /* the gap is written with it, at the latest */
    CHECK_INT(audit_submit(worker, &bad, 1, NULL), 0);
    REQUIRE(audit_submit(worker, &bad, 1, waiter_init(&waiter, &world)) == 0);
    world.n_delivered = world.n_durable = 0;
    world_wait(&world, 1);
    CHECK_INT(world.n_durable, 0);
    audit_get_state(world.audit, &state);
    CHECK_INT(state.n_lost, 2);
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK_INT(reading.n_calls, 1);
    CHECK(reading.n_gaps >= 1);
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

/* The longest body fits, and 64 of them follow each other. */
static void test_large_bodies(void) {
    static char large[LIMIT_AUDIT_BODY];
    struct world world;
    struct reading reading = {0};
    struct slice head =
        SLICE("\"time\":\"2026-11-21T22:55:01.123456Z\",\"event\":\"call\",\"x\":\"");
    world_make(&world, AUDIT_BEST_EFFORT);
    world_must_open(&world);
    memset(large, 'x', sizeof large);
    struct slice pieces[3] = {
        head, {.ptr = large, .len = sizeof large - head.len - 1}, SLICE("\"")};
    for (size_t i = 0; i < 60; i++)
        CHECK_INT(audit_submit(audit_worker(world.audit, i % 4), pieces, 3, NULL), 0);
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK_INT(reading.n_calls, 60);
    CHECK(reading.n_segments > 1 || world.options.max_bytes / 16 > 60 * sizeof large);
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

static void test_checkpoints(void) {
    struct world world;
    struct reading reading = {0};
    struct audit_state state;
    world_make(&world, AUDIT_BEST_EFFORT);
    world_must_open(&world);
    for (size_t i = 0; i < 40000; i++)
        CHECK_INT(submit(&world, 0, "many", NULL), 0);
    CHECK_INT(world_ask(&world, 1), 1);
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK(reading.n_checkpoints >= 5 && reading.n_checkpoints < 15); /* one each 8,192 */

    /* By time: without another record, and without anybody who asks for it. */
    world.system.sign_ms = 1;
    world_must_open(&world);
    CHECK_INT(world_ask(&world, 1), 1);
    do {
        poll(NULL, 0, 1);
        audit_get_state(world.audit, &state);
    } while (state.signed_head.seq != state.head.seq);
    CHECK(state.signed_head.seq > 10000);
    world_end(&world);
}

/* Segments of 4 KiB: they are closed, follow each other, and the oldest ones go. */
static void test_retention_by_size(void) {
    struct world world;
    struct reading reading = {0};
    struct audit_verified verified;
    struct audit_state state;
    world_make(&world, AUDIT_REQUIRED);
    world.system.least_segment = KIB(4);
    world.options.max_bytes = KIB(64);
    world_must_open(&world);
    for (size_t i = 0; i < 100; i++) {
        CHECK_INT(world_ask(&world, 20), 20);
        audit_get_state(world.audit, &state);
    }
    world.audit = audit_close(world.audit);
    world_must_open(&world); /* what the keeper did not come to is done now */
    do {
        poll(NULL, 0, 1);
        audit_get_state(world.audit, &state);
    } while (state.bytes > world.options.max_bytes);
    CHECK(state.n_segments >= 8);
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK(reading.n_retentions >= 1);
    CHECK(reading.n_segments < 18);
    CHECK_INT(world_verify(&world, &verified), 0);
    CHECK(verified.first_seq > 1 && verified.n_dropped == verified.first_seq - 1);
    world_end(&world);
}

/* Segments in the directory, each time that something becomes durable. */
static struct {
    const char *dir;
    atomic_uint_fast64_t most;
} watched;

static int sync_and_measure(int fd) {
    uint64_t sum = 0;
    DIR *dir = opendir(watched.dir);
    struct stat status;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        if (strlen(entry->d_name) == AUDIT_SEGMENT_CHARS &&
            fstatat(dirfd(dir), entry->d_name, &status, 0) == 0)
            sum += (uint64_t)status.st_size;
    }
    if (dir != NULL)
        closedir(dir);
    if (sum > atomic_load(&watched.most))
        atomic_store(&watched.most, sum);
    (void)fd;
    return 0;
}

/* Also when more comes at once than the keeper has left room for. */
static void test_retention_in_one_commit(void) {
    static char large[KIB(4)];
    struct world world;
    world_make(&world, AUDIT_BEST_EFFORT);
    world.system.least_segment = KIB(64);
    world.options.max_bytes = MIB(1);
    world.system.sync_whole = sync_and_measure;
    watched.dir = world.dir;
    atomic_store(&watched.most, 0);
    world_must_open(&world);
    memset(large, 'x', sizeof large);
    struct slice pieces[] = {
        SLICE("\"time\":\"2026-11-21T22:55:01.123456Z\",\"event\":\"call\",\"x\":\""),
        {.ptr = large, .len = sizeof large},
        SLICE("\"")};
    for (size_t round = 0; round < 20; round++) {
        for (size_t i = 0; i < 200; i++)
            CHECK_INT(audit_submit(audit_worker(world.audit, i % 4), pieces, 3, NULL), 0);
        CHECK_INT(world_ask(&world, 1), 1);
    }
    world.audit = audit_close(world.audit);
    CHECK(atomic_load(&watched.most) > MIB(1) / 2);
    CHECK(atomic_load(&watched.most) <= MIB(1));
    printf("# %llu bytes at the most\n", (unsigned long long)atomic_load(&watched.most));
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

/* What is told of counts; with more than the bound of it, the newest segment alone stays. */
static void test_told_size(void) {
    struct world world;
    struct audit_state state;
    world_make(&world, AUDIT_BEST_EFFORT);
    world.system.least_segment = KIB(4);
    world.options.max_bytes = KIB(512);
    world_must_open(&world);
    for (size_t i = 0; i < 50; i++)
        CHECK_INT(world_ask(&world, 20), 20);
    audit_get_state(world.audit, &state);
    CHECK(state.n_segments > 1);
    audit_tell_size(world.audit, MIB(1));
    audit_set_bounds(world.audit, KIB(512), world.options.max_age_ms);
    do {
        poll(NULL, 0, 1);
        audit_get_state(world.audit, &state);
    } while (state.n_segments != 1);
    CHECK(state.bytes > 0);
    world.audit = audit_close(world.audit);
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

#define DAY_US (INT64_C(24) * 3600 * 1000000)

static uint64_t segments_of(struct world *world) {
    struct reading reading = {0};
    CHECK(world_read(world, &reading));
    return reading.n_segments;
}

/* One segment for each shift of the clock; then it is looked at what is kept. */
static uint64_t kept_after(const int64_t *days, size_t n, int64_t now_days) {
    struct world world;
    struct audit_state state;
    world_make(&world, AUDIT_BEST_EFFORT);
    world.system.day_ms = 0; /* each chunk has its own */
    world.options.max_age_ms = UINT64_C(10) * 24 * 3600 * 1000;
    for (size_t i = 0; i < n; i++) {
        atomic_store(&faults.wall_shift_us, days[i] * DAY_US);
        world_must_open(&world);
        CHECK_INT(world_ask(&world, 1), 1);
        audit_get_state(world.audit, &state);
        world.audit = audit_close(world.audit);
    }
    atomic_store(&faults.wall_shift_us, now_days * DAY_US);
    world.system.day_ms = UINT64_MAX;
    world_must_open(&world);
    CHECK_INT(world_ask(&world, 1), 1);
    /* The keeper looks when it starts, and before it ends. */
    trail_retain(world.audit);
    world.audit = audit_close(world.audit);
    CHECK_INT(world_verify(&world, NULL), 0);
    uint64_t kept = segments_of(&world);
    world_end(&world);
    return kept;
}

static void test_retention_by_age(void) {
    static const struct {
        const char *name;
        int64_t days[4];
        int64_t now;
        bool is_dropped; /* something is */
        bool is_one;     /* only the newest stays */
    } rows[] = {
        {"young", {-3, -2, -1, 0}, 0, false, false},
        {"old ones go", {-20, -15, -1, 0}, 0, true, false},
        {"all are old: the newest stays", {-40, -35, -30, -25}, 0, true, true},
        {"the clock was behind: nothing goes early", {-1, -9000, -9000, -9000}, 0, false, false},
        {"the clock was ahead: nothing goes early", {4000, 4000, -1, 0}, 0, false, false},
        {"the clock was ahead, long ago: the files' time counts",
         {4000, 4000, 0, 0},
         20,
         true,
         true},
        {"the clock goes back", {0, 0, 0, 0}, -9000, false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        static const int64_t none[4] = {0};
        uint64_t all = kept_after(none, 4, 0);
        uint64_t kept = kept_after(rows[i].days, 4, rows[i].now);
        CHECK((kept < all) == rows[i].is_dropped);
        CHECK((kept == 1) == rows[i].is_one);
    }
    test_row("");
}

/* --- strangers --- */

static uint64_t sum_counts(struct world *world, uint64_t *ret_n_rows) {
    CLEANUP(mem_freep) uint64_t *segments = NULL;
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(16));
    size_t n = 0;
    uint64_t sum = 0;
    char name[AUDIT_SEGMENT_CHARS + 1], path[160];
    if (audit_segments(world->dir, &segments, &n) != 0)
        CANNOT_GO_ON();
    for (size_t i = 0; i < n; i++) {
        audit_segment_name(segments[i], name);
        snprintf(path, sizeof path, "%s/%s", world->dir, name);
        if (io_file_read(path, &text) != 0)
            CANNOT_GO_ON();
    }
    struct slice rest = buf_slice(&text);
    for (size_t at; (at = slice_find(rest, SLICE("\"count\":"))) != SIZE_MAX; (*ret_n_rows)++) {
        rest = slice_from(rest, at + 8);
        sum += strtoull(rest.ptr, NULL, 10);
    }
    return sum;
}

static void test_denied(void) {
    struct world world;
    struct reading reading = {0};
    struct network address;
    uint64_t n_rows = 0;
    char text[64];
    world_make(&world, AUDIT_BEST_EFFORT);
    world_must_open(&world);
    for (unsigned i = 0; i < 1000; i++) { /* 1000 blocks, from two workers, two reasons */
        snprintf(text, sizeof text, "10.%u.%u.%u", i / 250, i % 250, i % 200);
        REQUIRE(network_parse_address(slice_from_cstr(text), &address));
        audit_deny(audit_worker(world.audit, i % 2), &address, i % 3 ? "no token" : "bad token");
        snprintf(text, sizeof text, "2001:db8:1:%x::%x", i, i); /* one block */
        REQUIRE(network_parse_address(slice_from_cstr(text), &address));
        audit_deny(audit_worker(world.audit, i % 2), &address, "no token");
    }
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK_INT(reading.n_denied, LIMIT_AUDIT_ROWS + 1);
    CHECK_INT(sum_counts(&world, &n_rows), 2000);
    CHECK_INT(n_rows, LIMIT_AUDIT_ROWS + 1);
    CHECK(strstr(reading.last_stop, "\"denied\":2000") != NULL);
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

static bool take_some(void *context, struct slice body) {
    size_t *left = context;
    CHECK(slice_starts_with(body, SLICE("\"time\":\"")));
    if (*left == 0)
        return false;
    (*left)--;
    return true;
}

/* What is not taken is counted on, without its block. */
static void test_denied_is_not_taken(void) {
    struct denied denied;
    struct network address;
    size_t left = 3;
    denied_init(&denied);
    for (unsigned i = 0; i < 10; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.0.%u.1", i);
        REQUIRE(network_parse_address(slice_from_cstr(text), &address));
        denied_count(&denied, &address, "no token", 1000 - i);
    }
    CHECK_INT(denied.n_rows, 10);
    denied_write(&denied, 2000, take_some, &left);
    CHECK_INT(denied.n_rows, 0);
    CHECK_INT(denied.rest.count, 7);
    left = 1;
    denied_write(&denied, 3000, take_some, &left);
    CHECK(denied_is_empty(&denied));
    denied_deinit(&denied);
}

/* While the reserve is given free they are counted on. */
static void test_denied_on_a_full_disk(void) {
    struct world world;
    struct network address;
    uint64_t n_rows = 0;
    world_make(&world, AUDIT_BEST_EFFORT);
    world.system.denied_ms = 1;
    world_must_open(&world);
    REQUIRE(network_parse_address(SLICE("192.0.2.7"), &address));
    audit_deny(audit_worker(world.audit, 0), &address, "no token");
    while (n_rows == 0) { /* once it is time */
        CHECK_INT(world_ask(&world, 1), 1);
        sum_counts(&world, &n_rows);
    }
    world_end(&world);
}

struct torture {
    struct world world;
};

static void torture_open(void *arg) {
    struct torture *torture = arg;
    int error = world_open(&torture->world);
    if (error != 0)
        CHECK(torture->world.audit == NULL);
    torture->world.audit = audit_close(torture->world.audit);
}

static void test_shortage(void) {
    struct torture torture;
    world_make(&torture.world, AUDIT_BEST_EFFORT);
    world_must_open(&torture.world);
    torture.world.audit = audit_close(torture.world.audit);
    test_torture(torture_open, &torture);
    CHECK_INT(world_verify(&torture.world, NULL), 0);
    world_end(&torture.world);
}

TEST_MAIN(TEST(test_names), TEST(test_best_effort), TEST(test_required),
          TEST(test_what_waits_are_for), TEST(test_bad_bodies), TEST(test_large_bodies),
          TEST(test_checkpoints), TEST(test_retention_by_size), TEST(test_retention_in_one_commit),
          TEST(test_told_size), TEST(test_retention_by_age), TEST(test_denied),
          TEST(test_denied_is_not_taken), TEST(test_denied_on_a_full_disk), TEST(test_shortage))
