/* Looking into the index, against a plain scan of all records. */
#include "index_world.h"

static void test_model(enum index_kind kind) {
    struct world world = world_begin(kind);
    world_fill(&world, 20000, 20);
    update(&world, false);
    check_queries(&world, 500, 0);
    world_end(&world);
}

/* Every step of the index is one that a reader may see. */
static void test_while_records_arrive(enum index_kind kind) {
    struct world world = world_begin(kind);
    struct audit_index *index = NULL;
    struct audit_index_state state = {.seq = 0};
    world_fill(&world, 3000, 20);
    const struct audit_index_options options = world_options(&world);
    REQUIRE(audit_index_start(&options, &index) == 0);
    for (int i = 0; i < 10; i++) {
        world_fill(&world, 300, 60);
        WAIT_UNTIL((audit_index_get_state(index, &state), state.seq == world.chain.seq));
        check_queries(&world, 5, 0);
    }
    CHECK_INT(state.n_records, world.n);
    CHECK_STR(slice_from_cstr(state.error), "");
    audit_index_stop(index);
    check_queries(&world, 50, 0);
    world_end(&world);
}

/* What is behind a cursor stays as it is. */
static void test_cursor_is_stable(enum index_kind kind) {
    struct world world = world_begin(kind);
    struct buf reason = BUF_INIT(KIB(4));
    struct found found = {.world = &world,
                          .indexes = mem_xalloc(WORLD_RECORDS * sizeof *found.indexes)};
    struct audit_query query = {.decision = SLICE("denied"), .limit = 100};
    struct audit_page page;
    world.is_steady = true;
    world_fill(&world, 5000, 20);
    update(&world, false);
    size_t n_before = world.n, n_pages = 0;
    do {
        CHECK_INT(audit_find(world.finder, &query, keep_found, &found, &page, &reason), 0);
        query.cursor = slice_from_cstr(page.next);
        world_fill(&world, 500, 20);
        update(&world, false);
        n_pages++;
    } while (page.next[0] != '\0');
    size_t at = 0;
    for (size_t i = n_before; i-- > 0;)
        if (is_found(&world.records[i], &query))
            CHECK(at < found.n && found.indexes[at++] == i);
    CHECK_INT(at, found.n);
    CHECK_INT(found.n_wrong, 0);
    CHECK(n_pages > 4);
    mem_free(found.indexes);
    world_end(&world);
}

/* The last page says so, and is not followed by an empty one. */
static void test_pages_end(enum index_kind kind) {
    struct world world = world_begin(kind);
    struct buf reason = BUF_INIT(KIB(4));
    size_t indexes[8];
    for (int i = 0; i < 6; i++)
        world_record(&world, 1);
    update(&world, false);
    for (size_t limit = 1; limit <= 7; limit++)
        for (int oldest = 0; oldest < 2; oldest++) {
            struct found found = {.world = &world, .indexes = indexes};
            struct audit_query query = {.limit = limit, .oldest_first = oldest == 1};
            struct audit_page page;
            size_t n_pages = 0;
            do {
                REQUIRE(audit_find(world.finder, &query, keep_found, &found, &page, &reason) == 0);
                query.cursor = slice_from_cstr(page.next);
                n_pages++;
            } while (page.next[0] != '\0' && n_pages < 20);
            CHECK_INT(found.n, 6);
            CHECK_INT(n_pages, (6 + limit - 1) / limit);
            CHECK_INT(page.lag, 0);
        }
    world_record(&world, 1);
    world_record(&world, 1);
    struct audit_query all = {.limit = 1};
    struct audit_page page;
    struct found found = {.world = &world, .indexes = indexes};
    CHECK_INT(audit_find(world.finder, &all, keep_found, &found, &page, &reason), 0);
    CHECK(page.lag >= 2); /* and outcomes */
    world_end(&world);
}

static void test_refused(enum index_kind kind) {
    static const char *const addresses[] = {"10.0.0.0/33", "10.0.0", "x", "10.0.0.0/", "1/8/8"};
    struct world world = world_begin(kind);
    struct audit_page page = {.n = 77};
    struct found found = {.world = &world};
    world_record(&world, 1);
    struct buf reason = BUF_INIT(KIB(4));
    struct audit_query any = {.limit = 1};
    CHECK_INT(audit_find(world.finder, &any, keep_found, &found, &page, &reason), AUDIT_E_INDEX);
    CHECK(slice_find(buf_slice(&reason), SLICE("no index")) != SIZE_MAX);
    update(&world, false);
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct audit_query query = {.address = slice_from_cstr(addresses[i]), .limit = 1};
        buf_reset(&reason, 0);
        CHECK_INT(audit_find(world.finder, &query, keep_found, &found, &page, &reason),
                  AUDIT_E_INDEX);
        CHECK(slice_find(buf_slice(&reason), SLICE("no address")) != SIZE_MAX);
    }
    static const char *const cursors[] = {"x", "-", "1-", "1-2-x", "99999999999999999999", "1--2"};
    for (size_t i = 0; i < ARRAY_LEN(cursors); i++) {
        struct audit_query query = {.cursor = slice_from_cstr(cursors[i]), .limit = 1};
        CHECK_INT(audit_find(world.finder, &query, keep_found, &found, &page, &reason),
                  AUDIT_E_CURSOR);
    }
    CHECK_INT(page.n, 77);
    CHECK_INT(found.n, 0);
    buf_deinit(&reason);
    world_end(&world);
}

/* A line that is not where the index says, since somebody changed the file, is not given out as
 * what it is not. */
static void test_other_line(void) {
    struct world world = world_begin(INDEX_IN_SQLITE);
    struct buf reason = BUF_INIT(KIB(4));
    struct audit_page page;
    struct found found = {.world = &world};
    world_record(&world, 1);
    update(&world, false);
    char name[AUDIT_SEGMENT_CHARS + 1], path[128];
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/%s", world.dir, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    off_t at = world.records[0].line.ptr - buf_slice(&world.texts).ptr;
    REQUIRE(fd >= 0 && pwrite(fd, "{\"seq\":9", 8, at) == 8);
    io_fd_close(&fd);
    struct audit_query query = {.limit = 1};
    CHECK_INT(audit_find(world.finder, &query, keep_found, &found, &page, &reason), 0);
    CHECK_INT(page.n, 0);
    CHECK_INT(found.n + found.n_wrong, 0);
    world_end(&world);
}

struct torture {
    struct world *world;
    struct found found;
};

static void torture_find(void *arg) {
    struct torture *torture = arg;
    struct buf reason = BUF_INIT(KIB(4));
    struct audit_page page;
    struct audit_query query = {.group = SLICE("staff"),
                                .address = SLICE("10.0.0.0/12"),
                                .text = SLICE("\"the\""),
                                .limit = 10};
    torture->found.n = 0;
    int status =
        audit_find(torture->world->finder, &query, keep_found, &torture->found, &page, &reason);
    CHECK(status == 0 || status == -ENOMEM || status == AUDIT_E_INDEX);
    buf_deinit(&reason);
}

static void test_without_memory(enum index_kind kind) {
    struct world world = world_begin(kind);
    struct torture torture = {
        .world = &world,
        .found = {.world = &world, .indexes = mem_xalloc(WORLD_RECORDS * sizeof(size_t))}};
    world_fill(&world, 1000, 100);
    update(&world, false);
    test_torture(torture_find, &torture);
    CHECK(torture.found.n > 0);
    CHECK_INT(torture.found.n_wrong, 0);
    mem_free(torture.found.indexes);
    world_end(&world);
}

INDEX_TEST(test_model)
INDEX_TEST(test_while_records_arrive)
INDEX_TEST(test_cursor_is_stable)
INDEX_TEST(test_pages_end)
INDEX_TEST(test_refused)
INDEX_TEST(test_without_memory)

TEST_MAIN(TEST(test_model_sqlite), TEST(test_model_postgres),
          TEST(test_while_records_arrive_sqlite), TEST(test_while_records_arrive_postgres),
          TEST(test_cursor_is_stable_sqlite), TEST(test_cursor_is_stable_postgres),
          TEST(test_pages_end_sqlite), TEST(test_pages_end_postgres), TEST(test_refused_sqlite),
          TEST(test_refused_postgres), TEST(test_other_line), TEST(test_without_memory_sqlite),
          TEST(test_without_memory_postgres))
