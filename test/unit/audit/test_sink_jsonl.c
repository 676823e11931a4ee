/* The sink that writes JSON Lines: nothing is missing, nothing is half. */
#include <signal.h>
#include <sys/resource.h>

#include "sink_world.h"

static void start(struct world *world) {
    world->config.jsonl_path = slice_from_cstr(world->path);
    CHECK_INT(audit_sink_jsonl(world->dir, &world->config, NULL, &world->sink), 0);
}

/* Of "copy.jsonl" and the like. */
static struct buf content(const struct world *world, const char *name) {
    char path[128];
    struct buf text = BUF_INIT(MIB(64));
    snprintf(path, sizeof path, "%s/%s", world->dir, name);
    (void)!io_file_read(path, &text);
    return text;
}

static void put(const struct world *world, const char *name, struct slice text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", world->dir, name);
    if (io_file_create_private(path, text) != 0)
        CANNOT_GO_ON();
}

static void check_copy(struct world *world) {
    struct buf copy = content(world, "copy.jsonl");
    CHECK_INT(buf_len(&copy), buf_len(&world->all));
    CHECK(slice_eq(buf_slice(&copy), buf_slice(&world->all)));
    buf_deinit(&copy);
}

static void test_copies(void) {
    struct world world = world_begin();
    struct stat info;
    world_calls(&world, 100);
    start(&world);
    WAIT_UNTIL(state_of(&world).seq == 100);
    world_calls(&world, 50);
    world_segment(&world);
    world_calls(&world, 50);
    WAIT_UNTIL(state_of(&world).seq == 200);
    check_copy(&world);
    CHECK(stat(world.path, &info) == 0 && (info.st_mode & 07777) == 0600);
    CHECK_STR(slice_from_cstr(state_of(&world).name), "jsonl");
    CHECK_STR(slice_from_cstr(state_of(&world).error), "");
    world_end(&world);
}

/* After a clean end no line comes twice, and what was written meanwhile comes. */
static void test_goes_on(void) {
    struct world world = world_begin();
    world_calls(&world, 10);
    start(&world);
    world_stop(&world);
    check_copy(&world);
    world_calls(&world, 10);
    start(&world);
    world_stop(&world);
    check_copy(&world);
    struct buf place = content(&world, "jsonl.place");
    CHECK(slice_ends_with(buf_slice(&place), SLICE(" 20\n")));
    buf_deinit(&place);
    world_end(&world);
}

/* All lines, in order, over the files from the oldest to the newest. */
static void test_rotates(void) {
    struct world world = world_begin();
    world.config.jsonl_max_bytes = 2000;
    start(&world);
    /* A batch is never torn apart, and what is there at once is one: so a line at a time. */
    for (uint64_t i = 1; i <= 40; i++) {
        world_calls(&world, 1);
        WAIT_UNTIL(state_of(&world).seq == i);
    }
    world_stop(&world);
    struct buf joined = BUF_INIT(MIB(1));
    static const char *const names[] = {"copy.jsonl.2", "copy.jsonl.1", "copy.jsonl"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct buf part = content(&world, names[i]);
        CHECK(buf_len(&part) != 0 && buf_len(&part) <= 2000);
        CHECK(slice_starts_with(buf_slice(&part), SLICE("{\"seq\":")));
        buf_append(&joined, buf_slice(&part));
        buf_deinit(&part);
    }
    struct buf gone = content(&world, "copy.jsonl.3");
    CHECK_INT(buf_len(&gone), 0);
    CHECK(buf_len(&joined) < buf_len(&world.all)); /* the oldest were overwritten */
    CHECK(slice_ends_with(buf_slice(&world.all), buf_slice(&joined)));
    buf_deinit(&joined);
    buf_deinit(&gone);
    world_end(&world);
}

static void test_one_file(void) {
    struct world world = world_begin();
    world.config.jsonl_max_bytes = 1000;
    world.config.jsonl_files = 1;
    start(&world);
    for (uint64_t i = 1; i <= 20; i++) {
        world_calls(&world, 1);
        WAIT_UNTIL(state_of(&world).seq == i);
    }
    struct buf copy = content(&world, "copy.jsonl");
    CHECK(buf_len(&copy) != 0 && buf_len(&copy) <= 1000);
    CHECK(slice_ends_with(buf_slice(&world.all), buf_slice(&copy)));
    buf_deinit(&copy);
    world_end(&world);
}

/* As logrotate does, by renaming and by deleting. */
static void test_moved_away(void) {
    struct world world = world_begin();
    char moved[128];
    snprintf(moved, sizeof moved, "%s/moved", world.dir);
    start(&world);
    world_calls(&world, 5);
    WAIT_UNTIL(state_of(&world).seq == 5);
    CHECK_INT(rename(world.path, moved), 0);
    world_calls(&world, 5);
    WAIT_UNTIL(state_of(&world).seq == 10);
    struct buf first = content(&world, "moved"), second = content(&world, "copy.jsonl");
    buf_append(&first, buf_slice(&second));
    CHECK(buf_len(&second) != 0);
    CHECK(slice_eq(buf_slice(&first), buf_slice(&world.all)));
    CHECK_INT(unlink(world.path), 0);
    world_calls(&world, 1);
    WAIT_UNTIL(state_of(&world).seq == 11);
    CHECK_INT(access(world.path, F_OK), 0);
    buf_deinit(&first);
    buf_deinit(&second);
    world_end(&world);
}

static bool has_whole_lines_only(const struct buf *text) {
    return buf_len(text) == 0 || slice_ends_with(buf_slice(text), SLICE("\"}\n"));
}

/* A disk is full in the middle of a line, as far as write(2) can tell. */
static void test_full(void) {
    struct world world = world_begin();
    struct rlimit before, small;
    signal(SIGXFSZ, SIG_IGN);
    world_calls(&world, 60);
    CHECK_INT(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 3333;
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &small), 0);
    start(&world);
    WAIT_UNTIL(state_of(&world).error[0] != '\0');
    struct buf half = content(&world, "copy.jsonl");
    CHECK(has_whole_lines_only(&half));
    CHECK(strstr(state_of(&world).error, "copy.jsonl") != NULL);
    CHECK_INT(state_of(&world).seq, 0);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &before), 0);
    WAIT_UNTIL(state_of(&world).seq == 60);
    WAIT_UNTIL(state_of(&world).error[0] == '\0');
    check_copy(&world);
    buf_deinit(&half);
    world_end(&world);
}

/* What a power failure leaves: half a line behind the place. It is cut off and comes again. */
static void test_torn(void) {
    for (size_t kept = 1; kept < 12; kept++) {
        struct world world = world_begin();
        world_calls(&world, 3);
        size_t whole = buf_len(&world.all);
        world_calls(&world, 3);
        put(&world, "copy.jsonl", slice_sub(buf_slice(&world.all), 0, whole + kept));
        char place[64];
        snprintf(place, sizeof place, "1 %zu 3\n", whole);
        put(&world, "jsonl.place", slice_from_cstr(place));
        start(&world);
        world_stop(&world);
        check_copy(&world);
        world_end(&world);
    }
}

/* A text of somebody else's is not touched. */
static void test_others(void) {
    struct world world = world_begin();
    put(&world, "copy.jsonl", SLICE("a note"));
    world_calls(&world, 1);
    start(&world);
    world_stop(&world);
    struct buf copy = content(&world, "copy.jsonl");
    CHECK(slice_starts_with(buf_slice(&copy), SLICE("a note\n{\"seq\":1,")));
    buf_deinit(&copy);
    world_end(&world);
}

/* Opening a pipe would wait for a reader; a link leads elsewhere. */
static void test_no_file(void) {
    for (int is_link = 0; is_link < 2; is_link++) {
        struct world world = world_begin();
        world_calls(&world, 1);
        if (is_link)
            CHECK_INT(symlink("/dev/null", world.path), 0);
        else
            CHECK_INT(mkfifo(world.path, 0600), 0);
        start(&world);
        WAIT_UNTIL(strstr(state_of(&world).error, "no regular file") != NULL);
        uint64_t begin = clock_monotonic_ms();
        world.sink = audit_sink_stop(world.sink, 60000);
        CHECK(clock_monotonic_ms() - begin < 10000);
        world_end(&world);
    }
}

struct place_case {
    const char *name, *place;
    uint64_t first, n_missed; /* line that comes first; lines that are told to be gone */
};

/* Segments 1 (lines 1 to 5), deleted; 6 (6 to 10) and 11 (11 to 15). */
static void test_places(void) {
    static const struct place_case cases[] = {
        {"garbage", "x y z\n", 6, 0},
        {"too few", "6 0\n", 6, 0},
        {"no line end", "6 0 5", 6, 0},
        {"deleted", "1 10 2\n", 6, 3},
        {"not at the end of a line", "6 7 8\n", 6, 0},
        {"behind the end of the file", "11 999999 99\n", 11, 0},
        {"of another trail", "77 10 99\n", 6, 0},
        {"fine", "11 0 10\n", 11, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        test_row(cases[i].name);
        struct world world = world_begin();
        world_calls(&world, 5);
        world_segment(&world);
        world_calls(&world, 5);
        world_segment(&world);
        world_calls(&world, 5);
        char path[128];
        snprintf(path, sizeof path, "%s/00000000000000000001.jsonl", world.dir);
        CHECK_INT(unlink(path), 0);
        put(&world, "jsonl.place", slice_from_cstr(cases[i].place));
        start(&world);
        WAIT_UNTIL(state_of(&world).seq == 15 && access(world.path, F_OK) == 0);
        CHECK_INT(state_of(&world).n_missed, cases[i].n_missed);
        struct buf copy = content(&world, "copy.jsonl");
        char head[32];
        snprintf(head, sizeof head, "{\"seq\":%d,", (int)cases[i].first);
        CHECK(slice_starts_with(buf_slice(&copy), slice_from_cstr(head)));
        CHECK(slice_ends_with(buf_slice(&world.all), buf_slice(&copy)));
        buf_deinit(&copy);
        world_end(&world);
    }
}

/* kill -9: the place on the disk is older than the file. Lines come twice, none is missing. */
static void test_old_place(void) {
    struct world world = world_begin();
    world_calls(&world, 2);
    size_t two = buf_len(&world.all);
    world_calls(&world, 2);
    put(&world, "copy.jsonl", buf_slice(&world.all));
    char place[64];
    snprintf(place, sizeof place, "1 %zu 2\n", two);
    put(&world, "jsonl.place", slice_from_cstr(place));
    start(&world);
    world_stop(&world);
    struct buf copy = content(&world, "copy.jsonl");
    CHECK_INT(buf_len(&copy), 2 * buf_len(&world.all) - two);
    CHECK(slice_starts_with(buf_slice(&copy), buf_slice(&world.all)));
    CHECK(slice_ends_with(buf_slice(&copy), slice_from(buf_slice(&world.all), two)));
    buf_deinit(&copy);
    world_end(&world);
}

static void test_no_trail(void) {
    struct audit_sink *sink = NULL;
    struct config_audit config = {.jsonl_path = SLICE("/nonexistent/copy"), .jsonl_files = 1};
    CHECK_INT(audit_sink_jsonl("/nonexistent", &config, NULL, &sink), -ENOENT);
    CHECK(audit_sink_stop(NULL, 1) == NULL);
}

TEST_MAIN(TEST(test_copies), TEST(test_goes_on), TEST(test_rotates), TEST(test_one_file),
          TEST(test_moved_away), TEST(test_full), TEST(test_torn), TEST(test_others),
          TEST(test_no_file), TEST(test_places), TEST(test_old_place), TEST(test_no_trail))
