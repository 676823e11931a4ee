/* Following a trail that grows, is cut, deleted, and hostile. */
#include <pthread.h>

#include "index_world.h"

static enum audit_followed next(struct audit_follow *follow, struct slice *ret_text) {
    int error = 0;
    return audit_follow_next(follow, 0, ret_text, &error);
}

#define CHECK_LINE(follow, expected)                                                               \
    do {                                                                                           \
        struct slice line_ = SLICE_EMPTY;                                                          \
        CHECK_INT(next((follow), &line_), AUDIT_FOLLOWED_LINE);                                    \
        CHECK_SLICE(line_, (expected));                                                            \
    } while (0)
#define CHECK_END(follow)                                                                          \
    do {                                                                                           \
        struct slice line_;                                                                        \
        CHECK_INT(next((follow), &line_), AUDIT_FOLLOWED_END);                                     \
    } while (0)

static struct audit_follow *follow_new(const struct world *world) {
    struct audit_follow *follow = NULL;
    if (audit_follow_new(world->dir, -1, &follow) != 0)
        CANNOT_GO_ON();
    return follow;
}

static struct slice put(struct world *world) {
    return world_line(world, "call", world_time(world), SLICE_EMPTY);
}

static void put_raw(struct world *world, struct slice bytes) {
    if (write(world->fd, bytes.ptr, bytes.len) != (ssize_t)bytes.len)
        CANNOT_GO_ON();
}

static void remove_segment(struct world *world, uint64_t segment) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    audit_segment_name(segment, name);
    world_unlink(world, name);
}

static void test_whole_lines_only(void) {
    struct world world = world_begin(INDEX_NONE);
    struct audit_follow *follow = follow_new(&world);
    CHECK_END(follow);
    struct slice first = put(&world);
    CHECK_LINE(follow, first);
    CHECK_END(follow);
    struct audit_place place = audit_follow_place(follow);
    CHECK_INT(place.segment, 1);
    CHECK_INT(place.offset, first.len + 1);
    CHECK_INT(place.seq, 1);
    /* A byte at a time: nothing before the line end, then the same as at once. */
    const struct slice half = SLICE("{\"seq\":2,\"time\":\"half\"}");
    for (size_t i = 0; i < half.len; i++) {
        put_raw(&world, slice_sub(half, i, i + 1));
        CHECK_END(follow);
    }
    put_raw(&world, SLICE("\n"));
    CHECK_LINE(follow, half);
    CHECK_INT(audit_follow_place(follow).seq, 2);
    CHECK_INT(audit_follow_missed(follow), 0);
    audit_follow_free(follow);
    world_end(&world);
}

static void test_segments(void) {
    struct world world = world_begin(INDEX_NONE);
    struct audit_follow *follow = follow_new(&world);
    struct slice lines[6];
    lines[0] = put(&world);
    CHECK_LINE(follow, lines[0]);
    CHECK_END(follow);
    lines[1] = put(&world); /* the last of the old one, and two newer ones: nothing is left out */
    world_segment(&world);
    lines[2] = put(&world);
    lines[3] = put(&world);
    world_segment(&world);
    lines[4] = put(&world);
    for (size_t i = 1; i < 5; i++)
        CHECK_LINE(follow, lines[i]);
    CHECK_END(follow);
    CHECK_INT(audit_follow_place(follow).segment, 5);
    lines[5] = put(&world);
    CHECK_LINE(follow, lines[5]);
    CHECK_INT(audit_follow_missed(follow), 0);
    audit_follow_free(follow);
    world_end(&world);
}

/* Whatever is put where lines could be. */
static void test_other_files(void) {
    static const char *const names[] = {"torn-7", "00000000000000000003.jsonl.new",
                                        "00000000000000000000.jsonl", "3.jsonl",
                                        "99999999999999999999.jsonl"};
    struct world world = world_begin(INDEX_NONE);
    char path[160], fifo[160], folder[160], link[160];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", world.dir, names[i]);
        CHECK_INT(io_file_create_private(path, SLICE("{\"seq\":1,\"no\":1}\n")), 0);
    }
    snprintf(fifo, sizeof fifo, "%s/00000000000000000002.jsonl", world.dir);
    snprintf(folder, sizeof folder, "%s/00000000000000000003.jsonl", world.dir);
    snprintf(link, sizeof link, "%s/00000000000000000004.jsonl", world.dir);
    CHECK_INT(mkfifo(fifo, 0600), 0);
    CHECK_INT(mkdir(folder, 0700), 0);
    CHECK_INT(symlink(path, link), 0);
    struct audit_follow *follow = follow_new(&world);
    struct slice first = put(&world);
    CHECK_LINE(follow, first);
    CHECK_END(follow);
    struct slice second = put(&world); /* they are no newer segments */
    CHECK_LINE(follow, second);
    CHECK_END(follow);
    world.chain.seq = 9;
    world_segment(&world);
    struct slice third = put(&world);
    CHECK_LINE(follow, third);
    CHECK_INT(audit_follow_missed(follow), 7);
    audit_follow_free(follow);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        world_unlink(&world, names[i]);
    unlink(fifo);
    rmdir(folder);
    unlink(link);
    world_end(&world);
}

static void test_deleted_underneath(void) {
    struct world world = world_begin(INDEX_NONE);
    struct audit_follow *follow = follow_new(&world);
    struct slice first = put(&world);
    CHECK_LINE(follow, first);
    struct slice second = put(&world); /* of a file that is deleted, but open */
    world_segment(&world);
    put(&world);
    put(&world);
    world_segment(&world);
    struct slice last = put(&world);
    struct audit_place place = audit_follow_place(follow);
    remove_segment(&world, 1);
    remove_segment(&world, 3);
    CHECK_LINE(follow, second);
    CHECK_LINE(follow, last);
    CHECK_INT(audit_follow_missed(follow), 2);
    CHECK_INT(audit_follow_missed(follow), 0);
    /* From the outside: the place is gone, the number is not. */
    CHECK_INT(audit_follow_seek(follow, &place), AUDIT_E_PLACE);
    CHECK_INT(audit_follow_seek(follow, &(struct audit_place){.seq = 1}), 0);
    CHECK_LINE(follow, last);
    CHECK_INT(audit_follow_missed(follow), 3);
    CHECK_INT(audit_follow_seek(follow, &(struct audit_place){.seq = 5}), 0);
    CHECK_END(follow);
    CHECK_INT(audit_follow_seek(follow, &(struct audit_place){.seq = 6}), AUDIT_E_PLACE);
    audit_follow_free(follow);
    world_end(&world);
}

static void test_seek(void) {
    struct world world = world_begin(INDEX_NONE);
    struct audit_follow *follow = follow_new(&world);
    struct slice lines[4];
    struct audit_place places[4];
    for (size_t i = 0; i < 4; i++) {
        if (i == 2)
            world_segment(&world);
        lines[i] = put(&world);
        CHECK_LINE(follow, lines[i]);
        places[i] = audit_follow_place(follow);
    }
    for (size_t i = 0; i < 3; i++) {
        CHECK_INT(audit_follow_seek(follow, &places[i]), 0);
        CHECK_LINE(follow, lines[i + 1]);
        CHECK_INT(audit_follow_seek(follow, &(struct audit_place){.seq = i + 1}), 0);
        CHECK_LINE(follow, lines[i + 1]);
    }
    CHECK_INT(audit_follow_seek(follow, &places[3]), 0);
    CHECK_END(follow);
    CHECK_INT(audit_follow_seek(follow, &(struct audit_place){.seq = 0}), 0);
    CHECK_LINE(follow, lines[0]);
    CHECK_INT(audit_follow_missed(follow), 0);
    for (uint64_t offset = 0; offset < places[1].offset + 3; offset++) {
        struct audit_place place = {.segment = 1, .offset = offset, .seq = 1};
        bool is_line = offset == 0 || offset == places[0].offset || offset == places[1].offset;
        CHECK_INT(audit_follow_seek(follow, &place), is_line ? 0 : AUDIT_E_PLACE);
    }
    struct audit_place bad[] = {{.segment = 1, .offset = UINT64_MAX, .seq = 1},
                                {.segment = 2, .offset = 0, .seq = 1},
                                {.segment = UINT64_MAX, .offset = 0, .seq = 1},
                                {.seq = UINT64_MAX}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK_INT(audit_follow_seek(follow, &bad[i]), AUDIT_E_PLACE);
    audit_follow_seek_end(follow);
    CHECK_END(follow);
    CHECK_INT(audit_follow_place(follow).seq, 4);
    CHECK_INT(audit_follow_place(follow).offset, places[3].offset);
    CHECK_INT(audit_follow_place(follow).segment, places[3].segment);
    put_raw(&world, SLICE("{\"seq\":5,\"hal"));
    audit_follow_seek_end(follow);
    CHECK_INT(audit_follow_place(follow).seq, 4);
    put_raw(&world, SLICE("f\":1}\n"));
    CHECK_LINE(follow, SLICE("{\"seq\":5,\"half\":1}"));
    audit_follow_free(follow);
    world_end(&world);
}

/* A crash: what was not durable is cut off, and other lines come in its place. */
static void test_cut_off(void) {
    struct world world = world_begin(INDEX_NONE);
    struct audit_follow *follow = follow_new(&world);
    struct slice first = put(&world), text;
    int error = 0;
    size_t kept = (size_t)world.offset;
    CHECK_LINE(follow, first);
    put_raw(&world, SLICE("{\"seq\":2,\"torn"));
    CHECK_END(follow);
    /* Only what was torn: nobody has seen it. */
    CHECK_INT(ftruncate(world.fd, (off_t)kept), 0);
    struct slice second = put(&world);
    CHECK_LINE(follow, second);
    CHECK_INT(audit_follow_missed(follow), 0);
    struct audit_place place = audit_follow_place(follow);
    /* A line that was given out already. */
    CHECK_INT(ftruncate(world.fd, (off_t)kept), 0);
    CHECK_INT(audit_follow_next(follow, 0, &text, &error), AUDIT_FOLLOWED_ERROR);
    CHECK_INT(error, ESTALE);
    CHECK_INT(audit_follow_seek(follow, &place), AUDIT_E_PLACE);
    CHECK_INT(audit_follow_seek(follow, &(struct audit_place){.seq = 2}), AUDIT_E_PLACE);
    CHECK_INT(audit_follow_seek(follow, &(struct audit_place){.seq = 1}), 0);
    put_raw(&world,
            SLICE("{\"seq\":2,\"and it is a longer one than the one that was there, which "
                  "has time, event and hash, but not much else, so this will do\":true}\n"));
    CHECK_INT(audit_follow_seek(follow, &place), AUDIT_E_PLACE);
    audit_follow_free(follow);
    world_end(&world);
}

static void test_long_lines(void) {
    struct world world = world_begin(INDEX_NONE);
    struct audit_follow *follow = follow_new(&world);
    size_t len = MIB(3);
    char *bytes = mem_xalloc(len);
    memset(bytes, 'x', len);
    struct slice first = put(&world);
    put_raw(&world, slice_make(bytes, len));
    CHECK_LINE(follow, first);
    CHECK_END(follow); /* not whole yet */
    CHECK_END(follow);
    put_raw(&world, SLICE("\n"));
    CHECK_END(follow);
    CHECK_INT(audit_follow_missed(follow), 1);
    world.chain.seq = 2;
    struct slice third = put(&world);
    CHECK_LINE(follow, third);
    CHECK_INT(audit_follow_missed(follow), 0);
    struct audit_place place = audit_follow_place(follow);
    CHECK_INT(place.seq, 3);
    CHECK_INT(place.offset, first.len + 1 + len + 1 + third.len + 1);
    /* Without an end, in a segment that is left. */
    put_raw(&world, slice_make(bytes, len));
    world.chain.seq = 4;
    world_segment(&world);
    struct slice fifth = put(&world);
    CHECK_LINE(follow, fifth);
    CHECK_INT(audit_follow_missed(follow), 1);
    /* The longest that is a line. */
    put_raw(&world, slice_make(bytes, LIMIT_AUDIT_BODY + KIB(7)));
    put_raw(&world, SLICE("\n"));
    CHECK_LINE(follow, slice_make(bytes, LIMIT_AUDIT_BODY + KIB(7)));
    mem_free(bytes);
    audit_follow_free(follow);
    world_end(&world);
}

static void *write_later(void *arg) {
    struct world *world = arg;
    put(world);
    world_segment(world);
    put(world);
    return NULL;
}

/* Waiting ends when a line comes, also in a new file, and when it has to. */
static void test_waiting(void) {
    struct world world = world_begin(INDEX_NONE);
    struct audit_follow *follow = NULL;
    struct slice text = SLICE_EMPTY;
    int error = 0, read_fd = -1, write_fd = -1;
    pthread_t thread;
    REQUIRE(io_pipe(&read_fd, &write_fd) == 0);
    REQUIRE(audit_follow_new(world.dir, read_fd, &follow) == 0);
    uint64_t began = clock_monotonic_ms();
    CHECK_INT(audit_follow_next(follow, 20, &text, &error), AUDIT_FOLLOWED_END);
    CHECK(clock_monotonic_ms() - began >= 20);
    REQUIRE(pthread_create(&thread, NULL, write_later, &world) == 0);
    CHECK_INT(audit_follow_next(follow, UINT64_MAX, &text, &error), AUDIT_FOLLOWED_LINE);
    CHECK_INT(audit_follow_place(follow).seq, 1);
    CHECK_INT(audit_follow_next(follow, UINT64_MAX, &text, &error), AUDIT_FOLLOWED_LINE);
    CHECK_INT(audit_follow_place(follow).seq, 2);
    pthread_join(thread, NULL);
    /* Told to stop, it still gives out what is there. */
    put(&world);
    io_fd_close(&write_fd);
    CHECK_INT(audit_follow_next(follow, UINT64_MAX, &text, &error), AUDIT_FOLLOWED_LINE);
    CHECK_INT(audit_follow_next(follow, UINT64_MAX, &text, &error), AUDIT_FOLLOWED_STOP);
    CHECK_INT(audit_follow_next(follow, 0, &text, &error), AUDIT_FOLLOWED_END);
    audit_follow_free(follow);
    io_fd_close(&read_fd);
    world_end(&world);
}

static void torture_follow(void *arg) {
    struct world *world = arg;
    struct audit_follow *follow = NULL;
    struct slice text;
    int status = audit_follow_new(world->dir, -1, &follow);
    CHECK(status == 0 || status == -ENOMEM);
    if (status != 0)
        return;
    (void)next(follow, &text);
    (void)next(follow, &text);
    status = audit_follow_seek(follow, &(struct audit_place){.seq = 1});
    CHECK(status == 0 || status == -ENOMEM || status == AUDIT_E_PLACE);
    audit_follow_free(follow);
}

static void test_without_memory(void) {
    struct world world = world_begin(INDEX_NONE);
    put(&world);
    world_segment(&world);
    put(&world);
    test_torture(torture_follow, &world);
    struct audit_follow *follow = NULL;
    CHECK_INT(audit_follow_new("/nowhere/at/all", -1, &follow), -ENOENT);
    CHECK_INT(audit_follow_new("/dev/null", -1, &follow), -ENOTDIR);
    CHECK(follow == NULL);
    world_end(&world);
}

TEST_MAIN(TEST(test_whole_lines_only), TEST(test_segments), TEST(test_other_files),
          TEST(test_deleted_underneath), TEST(test_seek), TEST(test_cut_off), TEST(test_long_lines),
          TEST(test_waiting), TEST(test_without_memory))
