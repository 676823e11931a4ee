/* What a crash leaves: the last segment cut at every byte of its last two lines, changed there, or
 * only begun. What is good stays, what is torn is kept elsewhere, and the chain goes on. */
#include "test.h"
#include "trail_world.h"

struct ending {
    struct buf whole; /* the segment */
    size_t two, one;  /* where its last two lines begin */
    uint64_t first_seq, last_seq;
    char path[160];
};

static void path_of(const struct world *world, uint64_t segment, char *path, size_t size) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    audit_segment_name(segment, name);
    snprintf(path, size, "%s/%s", world->dir, name);
}

static uint64_t last_segment(struct world *world) {
    CLEANUP(mem_freep) uint64_t *segments = NULL;
    size_t n = 0;
    if (audit_segments(world->dir, &segments, &n) != 0 || n == 0)
        CANNOT_GO_ON();
    return segments[n - 1];
}

static void write_file(const char *path, struct slice content) {
    FILE *file = fopen(path, "w");
    if (file == NULL || fwrite(content.ptr, 1, content.len, file) != content.len ||
        fclose(file) != 0)
        CANNOT_GO_ON();
}

static size_t line_before(struct slice text, size_t end) {
    for (size_t at = end - 1; at > 0; at--) {
        if (text.ptr[at - 1] == '\n')
            return at;
    }
    return 0;
}

/* Records without a stop line behind them: what is there while it runs. */
static void make_ending(struct world *world, struct ending *ending) {
    struct audit_state state;
    ending->whole = BUF_INIT(MIB(8));
    world->system.sign_ms = 3600000;
    world_must_open(world);
    CHECK_INT(world_ask(world, 3), 3);
    audit_get_state(world->audit, &state);
    ending->first_seq = last_segment(world);
    ending->last_seq = state.head.seq;
    path_of(world, ending->first_seq, ending->path, sizeof ending->path);
    if (io_file_read(ending->path, &ending->whole) != 0)
        CANNOT_GO_ON();
    struct slice text = buf_slice(&ending->whole);
    ending->one = line_before(text, text.len);
    ending->two = line_before(text, ending->one);
    world->audit = audit_close(world->audit);
}

/* Opens what is there, adds a record, and looks at all of it. */
static void check_goes_on(struct world *world, struct ending *ending, size_t n_good, uint64_t seq,
                          struct slice torn) {
    CLEANUP(buf_deinit) struct buf kept = BUF_INIT(MIB(1));
    struct reading reading = {0};
    struct audit_verified verified;
    char path[160], recovered[64];
    world_must_open(world);
    CHECK_INT(world_ask(world, 1), 1);
    world->audit = audit_close(world->audit);
    CHECK(world_read(world, &reading));
    snprintf(path, sizeof path, "%s/torn-%020llu", world->dir, (unsigned long long)seq + 1);
    if (torn.len == 0) {
        CHECK(access(path, F_OK) != 0);
        CHECK(strstr(reading.last_start, "recovered") == NULL);
    } else {
        snprintf(recovered, sizeof recovered, "\"recovered\":%zu", torn.len);
        CHECK(strstr(reading.last_start, recovered) != NULL);
        CHECK_INT(io_file_read(path, &kept), 0);
        CHECK_SLICE(buf_slice(&kept), torn);
        unlink(path);
    }
    CHECK_INT(world_verify(world, &verified), 0);
    CHECK_INT(verified.n_recoveries, torn.len != 0);
    CLEANUP(buf_deinit) struct buf now = BUF_INIT(MIB(8));
    CHECK_INT(io_file_read(ending->path, &now), 0);
    CHECK_SLICE(slice_sub(buf_slice(&now), 0, n_good),
                slice_sub(buf_slice(&ending->whole), 0, n_good));
}

static void test_cut(void) {
    struct world world;
    struct ending ending;
    world_make(&world, AUDIT_BEST_EFFORT);
    make_ending(&world, &ending);
    struct slice whole = buf_slice(&ending.whole);
    CHECK(ending.two > 0 && ending.one > ending.two);
    for (size_t at = ending.two; at <= whole.len; at++) {
        size_t n_good = at == whole.len ? at : at >= ending.one ? ending.one : ending.two;
        uint64_t seq = ending.last_seq - (n_good == whole.len ? 0 : n_good == ending.one ? 1 : 2);
        char row[32];
        snprintf(row, sizeof row, "cut at %zu of %zu", at, whole.len);
        test_row(row);
        write_file(ending.path, slice_sub(whole, 0, at));
        check_goes_on(&world, &ending, n_good, seq, slice_sub(whole, n_good, at));
    }
    test_row("");
    buf_deinit(&ending.whole);
    world_end(&world);
}

/* Zeros where a page was not written, and bytes that are others. */
static void test_changed(void) {
    struct world world;
    struct ending ending;
    world_make(&world, AUDIT_BEST_EFFORT);
    make_ending(&world, &ending);
    struct slice whole = buf_slice(&ending.whole);
    char *changed = mem_xalloc(whole.len + KIB(200));
    for (size_t at = ending.two; at < whole.len; at += 7) {
        size_t n_good = at >= ending.one ? ending.one : ending.two;
        memcpy(changed, whole.ptr, whole.len);
        changed[at] = (char)(changed[at] ^ 1);
        write_file(ending.path, slice_make(changed, whole.len));
        check_goes_on(&world, &ending, n_good, ending.last_seq - (n_good == ending.one ? 1 : 2),
                      slice_make(changed + n_good, whole.len - n_good));
        memset(changed + at, 0, whole.len - at);
        write_file(ending.path, slice_make(changed, whole.len));
        check_goes_on(&world, &ending, n_good, ending.last_seq - (n_good == ending.one ? 1 : 2),
                      slice_make(changed + n_good, whole.len - n_good));
    }
    /* More than a line can have, without an end. */
    memcpy(changed, whole.ptr, whole.len);
    memset(changed + whole.len, 'x', KIB(200));
    write_file(ending.path, slice_make(changed, whole.len + KIB(200)));
    check_goes_on(&world, &ending, whole.len, ending.last_seq,
                  slice_make(changed + whole.len, KIB(200)));
    mem_free(changed);
    buf_deinit(&ending.whole);
    world_end(&world);
}

/* A segment that was begun: its first two lines cut at every byte, from none at all on. */
static void test_begun(void) {
    struct world world;
    struct ending ending;
    struct reading reading = {0};
    char second[160];
    world_make(&world, AUDIT_BEST_EFFORT);
    world.system.least_segment = KIB(4);
    world.options.max_bytes = KIB(64);
    world_must_open(&world);
    while (last_segment(&world) == 1)
        CHECK_INT(world_ask(&world, 1), 1);
    uint64_t newest = last_segment(&world);
    world.audit = audit_close(world.audit);
    path_of(&world, newest, second, sizeof second);
    ending.whole = BUF_INIT(MIB(1));
    REQUIRE(io_file_read(second, &ending.whole) == 0);
    struct slice whole = buf_slice(&ending.whole), first;
    size_t head = slice_find_byte(whole, '\n') + 1;
    head += slice_find_byte(slice_from(whole, head), '\n') + 1;
    slice_cut(whole, '\n', &first, &(struct slice){0});
    for (size_t at = 0; at < head; at += at < 20 || at > head - 20 ? 1 : 13) {
        char row[64], torn[160];
        snprintf(row, sizeof row, "%zu bytes of %zu", at, head);
        test_row(row);
        write_file(second, slice_sub(whole, 0, at));
        world_must_open(&world);
        CHECK_INT(world_ask(&world, 1), 1);
        world.audit = audit_close(world.audit);
        reading = (struct reading){0};
        CHECK(world_read(&world, &reading));
        CHECK_INT(world_verify(&world, NULL), 0);
        snprintf(torn, sizeof torn, "%s/torn-%020llu", world.dir, (unsigned long long)newest);
        CHECK(access(torn, F_OK) == 0);
        unlink(torn);
        /* Back to the first one alone. */
        uint64_t last;
        while ((last = last_segment(&world)) != 1 && last >= newest) {
            char path[160];
            path_of(&world, last, path, sizeof path);
            unlink(path);
        }
    }
    test_row("");
    buf_deinit(&ending.whole);
    world_end(&world);
}

/* A directory with keys, as if nothing had been written yet. */
static void make_keys(struct world *world) {
    char path[160];
    world_must_open(world);
    world->audit = audit_close(world->audit);
    path_of(world, 1, path, sizeof path);
    unlink(path);
}

/* Nothing but a file that was begun, or none at all with keys there: a log begins. */
static void test_first_begun(void) {
    struct world world;
    struct reading reading = {0};
    char path[160];
    world_make(&world, AUDIT_BEST_EFFORT);
    make_keys(&world);
    path_of(&world, 1, path, sizeof path);
    write_file(path, SLICE("{\"seq\":1,"));
    world_must_open(&world);
    CHECK_INT(world_ask(&world, 1), 1);
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK(strstr(reading.last_start, "\"recovered\":9") != NULL);
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

/* Torn twice at the same place: none of both is lost. */
static void test_torn_again(void) {
    struct world world;
    struct ending ending;
    char path[160];
    world_make(&world, AUDIT_BEST_EFFORT);
    make_ending(&world, &ending);
    struct slice whole = buf_slice(&ending.whole);
    for (unsigned i = 1; i <= 3; i++) {
        write_file(ending.path, slice_sub(whole, 0, ending.one + i));
        world_must_open(&world);
        world.audit = audit_close(world.audit);
    }
    for (unsigned i = 1; i <= 3; i++) {
        struct stat info;
        snprintf(path, sizeof path, i == 1 ? "%s/torn-%020llu" : "%s/torn-%020llu-%u", world.dir,
                 (unsigned long long)ending.last_seq, i);
        CHECK(stat(path, &info) == 0 && info.st_size == i);
        CHECK_INT(info.st_mode & 0777, 0600);
    }
    buf_deinit(&ending.whole);
    world_end(&world);
}

/* What lies in the place of a segment is not followed, and not waited for. */
static void test_not_a_file(void) {
    struct world world;
    char path[160];
    world_make(&world, AUDIT_BEST_EFFORT);
    make_keys(&world);
    path_of(&world, 1, path, sizeof path);
    REQUIRE(symlink("/etc/passwd", path) == 0);
    CHECK(world_open(&world) < 0);
    unlink(path);
    REQUIRE(mkfifo(path, 0600) == 0);
    CHECK(world_open(&world) < 0);
    unlink(path);
    world_must_open(&world);
    world_end(&world);
}

static uint64_t finding_at;

static void note_finding(void *context, const struct audit_finding *finding) {
    (void)context;
    CHECK_INT(finding->kind, AUDIT_FOUND_CUT);
    finding_at = finding->seq;
}

static uint64_t findings_of(struct world *world) {
    return world_verify_with(world, note_finding, NULL);
}

/* The checkpoints behind `at`. */
static unsigned checkpoints_behind(struct slice whole, size_t at) {
    struct slice text, rest = slice_from(whole, at);
    unsigned n = 0;
    while (rest.len != 0 && slice_cut(rest, '\n', &text, &rest))
        n += slice_find(text, SLICE("\"event\":\"checkpoint\"")) != SIZE_MAX;
    return n;
}

/* A bit that was changed long before the end, in any line: more is put away than a crash can take,
 * and that is told. */
static void test_more_than_a_crash(void) {
    struct world world;
    struct ending ending = {.whole = BUF_INIT(MIB(8))};
    char told[64];
    world_make(&world, AUDIT_BEST_EFFORT);
    world.system.sign_ms = 0;
    world_must_open(&world);
    for (unsigned i = 0; i < 6; i++)
        CHECK_INT(world_ask(&world, 1), 1);
    world.audit = audit_close(world.audit);
    path_of(&world, 1, ending.path, sizeof ending.path);
    REQUIRE(io_file_read(ending.path, &ending.whole) == 0);
    struct slice whole = buf_slice(&ending.whole);
    char *changed = mem_xalloc(whole.len);
    unsigned n_told = 0, n_not = 0;
    for (size_t at = 20; at < whole.len;
         at = slice_find_byte(slice_from(whole, at), '\n') + at + 21) {
        struct reading reading = {0};
        size_t line = line_before(whole, at + 1);
        bool is_headless = checkpoints_behind(whole, 0) == checkpoints_behind(whole, line);
        unsigned n = checkpoints_behind(whole, is_headless ? 0 : line);
        memcpy(changed, whole.ptr, whole.len);
        changed[at] = (char)(changed[at] ^ 1);
        write_file(ending.path, slice_make(changed, whole.len));
        world_must_open(&world);
        world.audit = audit_close(world.audit);
        REQUIRE(world_read(&world, &reading));
        snprintf(told, sizeof told, "\"recovered_checkpoints\":%u", n);
        bool is_told = strstr(reading.last_start, told) != NULL;
        CHECK_INT(strstr(reading.last_start, "recovered_checkpoints") != NULL, n >= 3);
        CHECK_INT(is_told, n >= 3);
        CHECK_INT(findings_of(&world), n >= 3);
        n_told += is_told;
        n_not += !is_told;
    }
    CHECK(n_told >= 6 && n_not >= 2);
    mem_free(changed);
    buf_deinit(&ending.whole);
    world_end(&world);
}

/* Somebody has put a retention line, and others, behind the last checkpoint: nobody signs it. */
static void test_retention_added(void) {
    struct world world;
    struct reading reading = {0};
    char path[160], time[AUDIT_TIME_CHARS + 1];
    CLEANUP(buf_deinit) struct buf whole = BUF_INIT(MIB(1));
    CLEANUP(buf_deinit) struct buf body = BUF_INIT(KIB(4));
    CLEANUP(audit_hasher_freep) struct audit_hasher *hasher = NULL;
    world_make(&world, AUDIT_BEST_EFFORT);
    world_must_open(&world);
    CHECK_INT(world_ask(&world, 3), 3);
    world.audit = audit_close(world.audit);
    path_of(&world, 1, path, sizeof path);
    REQUIRE(io_file_read(path, &whole) == 0 && audit_hasher_new(&hasher) == 0);
    struct slice text = buf_slice(&whole), last = slice_from(text, line_before(text, text.len));
    struct audit_line line;
    REQUIRE(audit_line_read(slice_sub(last, 0, last.len - 1), &line, NULL) == 0);
    struct audit_chain chain = {.seq = line.seq};
    memcpy(chain.hash, line.hash, AUDIT_HASH);
    for (unsigned i = 0; i < 3; i++) {
        buf_reset(&body, KIB(4));
        audit_time_write(clock_wall_us(), time);
        REQUIRE(audit_body_retention(clock_wall_us(), 3, "age", &body) == 0);
        struct slice pieces = buf_slice(&body);
        if (i == 1) {
            buf_reset(&body, KIB(4));
            buf_printf(&body, "\"time\":\"%s\",\"event\":\"call\"", time);
            pieces = buf_slice(&body);
        }
        REQUIRE(audit_line_write(hasher, &chain, &pieces, 1, &whole) == 0);
    }
    write_file(path, buf_slice(&whole));
    world_must_open(&world);
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK_INT(reading.n_retentions, 0);
    CHECK_INT(reading.n_calls, 3);
    CHECK(strstr(reading.last_start, "\"recovered\":") != NULL);
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

/* --- how much of it is kept --- */

static void put_torn(const struct world *world, unsigned seq, off_t bytes) {
    char path[160];
    snprintf(path, sizeof path, "%s/torn-%020u", world->dir, seq);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || ftruncate(fd, bytes) != 0)
        CANNOT_GO_ON();
    io_fd_close(&fd);
}

static bool has_torn(const struct world *world, unsigned seq) {
    char path[160];
    snprintf(path, sizeof path, "%s/torn-%020u", world->dir, seq);
    return access(path, F_OK) == 0;
}

/* The lines that say that this one is deleted, for this reason. */
static unsigned lines_about(struct world *world, unsigned seq, const char *reason) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(8));
    char path[160], line[160];
    unsigned n = 0;
    path_of(world, 1, path, sizeof path);
    if (io_file_read(path, &text) != 0)
        CANNOT_GO_ON();
    snprintf(line, sizeof line, "\"event\":\"torn\",\"file\":\"torn-%020u\",", seq);
    struct slice rest = buf_slice(&text), one;
    while (rest.len != 0 && slice_cut(rest, '\n', &one, &rest)) {
        char end[32];
        snprintf(end, sizeof end, ",\"reason\":\"%s\",", reason);
        n += slice_find(one, slice_from_cstr(line)) != SIZE_MAX &&
             slice_find(one, slice_from_cstr(end)) != SIZE_MAX;
    }
    return n;
}

/* Opens, waits until the keeper has looked, and closes: `seq` is there no more. */
static void let_go(struct world *world, unsigned seq) {
    world_must_open(world);
    while (has_torn(world, seq))
        poll(NULL, 0, 1);
    world->audit = audit_close(world->audit);
    CHECK_INT(world_verify(world, NULL), 0);
}

static void test_kept_by_count(void) {
    struct world world;
    enum { MORE = 5 };
    world_make(&world, AUDIT_BEST_EFFORT);
    for (unsigned seq = 1; seq <= LIMIT_AUDIT_TORN; seq++)
        put_torn(&world, 100 + seq, 1);
    world_must_open(&world);
    trail_retain_torn(world.audit); /* at the limit */
    world.audit = audit_close(world.audit);
    CHECK(has_torn(&world, 101));
    for (unsigned seq = 0; seq < MORE; seq++)
        put_torn(&world, 1000 + seq, 1);
    let_go(&world, 100 + MORE);
    for (unsigned seq = 1; seq <= LIMIT_AUDIT_TORN; seq++) {
        CHECK(has_torn(&world, 100 + seq) == (seq > MORE));
        CHECK((lines_about(&world, 100 + seq, "count") != 0) == (seq <= MORE));
    }
    CHECK(has_torn(&world, 1000 + MORE - 1));
    world_end(&world);
}

static void test_kept_by_size(void) {
    struct world world;
    world_make(&world, AUDIT_REQUIRED);
    world.options.max_bytes = MIB(64); /* segments of 4 MiB */
    put_torn(&world, 1, MIB(4));
    put_torn(&world, 2, MIB(4));
    world_must_open(&world);
    trail_retain_torn(world.audit); /* at the limit */
    CHECK_INT(world.audit->torn_bytes, MIB(8));
    world.audit = audit_close(world.audit);
    CHECK(has_torn(&world, 1));
    put_torn(&world, 3, 1);
    let_go(&world, 1);
    CHECK(lines_about(&world, 1, "size") != 0);
    CHECK(has_torn(&world, 2) && has_torn(&world, 3));
    /* However long the last one is, it stays. */
    put_torn(&world, 4, MIB(100));
    let_go(&world, 3);
    CHECK(!has_torn(&world, 2) && has_torn(&world, 4));
    world_end(&world);
}

static void test_kept_by_age(void) {
    struct world world;
    world_make(&world, AUDIT_BEST_EFFORT);
    const int64_t age_us = (int64_t)world.options.max_age_ms * 1000, hour_us = INT64_C(3600000000);
    put_torn(&world, 7, 10);
    atomic_store(&faults.wall_shift_us, age_us - hour_us);
    world_must_open(&world);
    trail_retain_torn(world.audit);
    world.audit = audit_close(world.audit);
    CHECK(has_torn(&world, 7));
    atomic_store(&faults.wall_shift_us, age_us + hour_us);
    let_go(&world, 7);
    CHECK(lines_about(&world, 7, "age") != 0);
    world_end(&world);
}

/* What cannot be said is not done; and what has another name is nobody's. */
static void test_kept_unless_told(void) {
    static const char *const others[] = {"torn-1", "torn-00000000000000000001-1",
                                         "torn-00000000000000000001-x", "torn-",
                                         "torn-99999999999999999999"};
    struct world world;
    char path[160];
    world_make(&world, AUDIT_BEST_EFFORT);
    world.options.max_age_ms = 0;
    world.system.retry_ms = 3600000;
    world_must_open(&world);
    CHECK_INT(world_ask(&world, 1), 1);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        snprintf(path, sizeof path, "%s/%s", world.dir, others[i]);
        write_file(path, SLICE("x"));
    }
    snprintf(path, sizeof path, "%s/torn-%020u", world.dir, 8);
    REQUIRE(symlink("/etc/passwd", path) == 0);
    atomic_store(&faults.wall_shift_us, INT64_C(60000000));
    atomic_store(&faults.sync_error, EIO);
    put_torn(&world, 9, 10);
    trail_retain_torn(world.audit);
    CHECK(has_torn(&world, 9));
    world.audit = audit_close(world.audit);
    atomic_store(&faults.sync_error, 0);
    let_go(&world, 9);
    CHECK(unlink(path) == 0);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        snprintf(path, sizeof path, "%s/%s", world.dir, others[i]);
        CHECK(unlink(path) == 0);
    }
    world_end(&world);
}

/* --- how much a crash can take --- */

static struct { unsigned n, most; } unsynced;

static ssize_t count_checkpoints(int fd, const void *bytes, size_t n) {
    struct slice rest = slice_make(bytes, n);
    const struct slice event = SLICE("\"event\":\"checkpoint\"");
    size_t at;
    while ((at = slice_find(rest, event)) != SIZE_MAX) {
        rest = slice_from(rest, at + event.len);
        unsynced.n++;
    }
    unsynced.most = unsynced.n > unsynced.most ? unsynced.n : unsynced.most;
    return write(fd, bytes, n);
}

static int count_sync(int fd) {
    (void)fd;
    unsynced.n = 0;
    return 0;
}

/* However much comes at once, and where segments end. */
static void test_bound(void) {
    struct world world;
    enum { N = 20000 };
    world_make(&world, AUDIT_BEST_EFFORT);
    world.system.write = count_checkpoints;
    world.system.sync_data = world.system.sync_whole = count_sync;
    world.system.least_segment = KIB(512);
    world.system.tick_ms = 200;
    world.options.max_bytes = MIB(8);
    world_must_open(&world);
    for (unsigned i = 0; i < N; i++)
        CHECK_INT(submit(&world, i % 4, "burst", NULL), 0);
    world.audit = audit_close(world.audit);
    CHECK(unsynced.most >= 1 && unsynced.most < AUDIT_TORN_CHECKPOINTS);
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

TEST_MAIN(TEST(test_cut), TEST(test_changed), TEST(test_begun), TEST(test_first_begun),
          TEST(test_torn_again), TEST(test_not_a_file), TEST(test_more_than_a_crash),
          TEST(test_retention_added), TEST(test_kept_by_count), TEST(test_kept_by_size),
          TEST(test_kept_by_age), TEST(test_kept_unless_told), TEST(test_bound))
