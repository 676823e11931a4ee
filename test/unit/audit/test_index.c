/* The index as a whole: restarts, crashes, retention, what is damaged, who fills it. */
#include <signal.h>
#include <sys/wait.h>

#include "index_world.h"
#include "values.h"

static uint64_t size_of(const struct world *world) {
    static const char *const files[] = {"index.sqlite", "index.sqlite-wal"};
    uint64_t size = 0;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[160];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", world->dir, files[i]);
        if (stat(path, &info) == 0)
            size += (uint64_t)info.st_size;
    }
    return size;
}

static struct audit_index *start(struct world *world) {
    struct audit_index *index = NULL;
    const struct audit_index_options options = world_options(world);
    if (audit_index_start(&options, &index) != 0)
        CANNOT_GO_ON();
    return index;
}

static struct audit_index_state state_of(struct audit_index *index) {
    struct audit_index_state state;
    audit_index_get_state(index, &state);
    return state;
}

#define WAIT_FOR_ALL(index, world) WAIT_UNTIL(state_of(index).seq == (world).chain.seq)

/* Intents whose outcomes come after any number of restarts are one record still. */
static void test_restarts(enum index_kind kind) {
    struct world world = world_begin(kind);
    for (int i = 0; i < 12; i++) {
        world_fill(&world, 400, 100);
        if (i % 3 == 0) {
            struct audit_index *index = start(&world);
            WAIT_FOR_ALL(index, world);
            CHECK_INT(state_of(index).n_records, world.n);
            audit_index_stop(index);
        } else
            update(&world, false);
    }
    check_queries(&world, 60, 0);
    update(&world, true);
    check_queries(&world, 60, 0);
    world_end(&world);
}

/* A process that fills it is killed, again and again, wherever it is. */
static void test_killed(enum index_kind kind) {
    struct world world = world_begin(kind);
    world_fill(&world, 12000, 40);
    for (int i = 0; i < 25; i++) {
        uint64_t us = pick(&world, kind == INDEX_IN_SQLITE ? 40000 : 250000);
        pid_t pid = fork();
        if (pid < 0)
            CANNOT_GO_ON();
        if (pid == 0) {
            struct buf reason = BUF_INIT(KIB(4));
            const struct audit_index_options options = world_options(&world);
            _exit(audit_index_update(&options, i % 8 == 7 ? AUDIT_INDEX_ANEW : AUDIT_INDEX_GO_ON,
                                     NULL, NULL, &reason));
        }
        struct timespec wait = {.tv_nsec = (long)us * 1000};
        (void)ppoll(NULL, 0, &wait, NULL);
        kill(pid, SIGKILL);
        int status = 0;
        CHECK_INT(waitpid(pid, &status, 0), pid);
        CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    }
    update(&world, false);
    check_queries(&world, 80, 0);
    world_end(&world);
}

static void damage(const struct world *world, off_t offset, const char *bytes, size_t n) {
    char path[160];
    snprintf(path, sizeof path, "%s/index.sqlite", world->dir);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, bytes, n, offset) != (ssize_t)n)
        CANNOT_GO_ON();
    io_fd_close(&fd);
}

/* Damaged, of another version, or no database at all: made anew. */
static void test_damaged(void) {
    struct world world = world_begin(INDEX_IN_SQLITE);
    char zeros[4096] = {0};
    static const off_t offsets[] = {0, 18, 60, 100, 4096 * 2, 4096 * 3};
    world_fill(&world, 1500, 100);
    for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
        update(&world, false);
        memset(zeros, i % 2 == 0 ? 0 : 0xff, sizeof zeros);
        damage(&world, offsets[i], zeros, offsets[i] == 60 ? 4 : sizeof zeros);
        world_fill(&world, 100, 100);
        struct audit_index *index = start(&world);
        WAIT_FOR_ALL(index, world);
        CHECK_STR(slice_from_cstr(state_of(index).error), "");
        audit_index_stop(index);
        check_queries(&world, 4, 0);
    }
    char path[160];
    snprintf(path, sizeof path, "%s/index.sqlite", world.dir);
    unlink(path);
    CHECK_INT(io_file_create_private(path, SLICE("this is no database, and never was one")), 0);
    update(&world, false);
    check_queries(&world, 10, 0);
    world_end(&world);
}

/* A crash cut lines off that the index has: they must not be found, nor what others join. */
static void test_trail_was_cut(enum index_kind kind) {
    struct world world = world_begin(kind);
    world_fill(&world, 1000, 10);
    struct audit_chain chain = world.chain;
    uint64_t segment = world.segment, offset = world.offset;
    size_t n = world.n;
    for (int i = 0; i < 50; i++)
        world_record(&world, 3);
    update(&world, false);
    REQUIRE(world.segment == segment);
    CHECK_INT(ftruncate(world.fd, (off_t)offset), 0);
    world.chain = chain;
    world.offset = offset;
    world.n = n;
    memset(world.records + n, 0, (WORLD_RECORDS - n) * sizeof *world.records);
    for (int i = 0; i < 80; i++)
        world_record(&world, 3);
    update(&world, false);
    check_queries(&world, 40, 0);
    world_end(&world);
}

/* While the thread runs. */
static void test_trail_is_cut(enum index_kind kind) {
    struct world world = world_begin(kind);
    struct audit_index *index = start(&world);
    world_fill(&world, 500, 10);
    struct audit_chain chain = world.chain;
    uint64_t offset = world.offset, segment = world.segment;
    size_t n = world.n;
    world_record(&world, 3);
    WAIT_FOR_ALL(index, world);
    REQUIRE(world.segment == segment);
    CHECK_INT(ftruncate(world.fd, (off_t)offset), 0);
    world.chain = chain;
    world.n = n;
    memset(world.records + n, 0, (WORLD_RECORDS - n) * sizeof *world.records);
    for (int i = 0; i < 20; i++)
        world_record(&world, 3);
    WAIT_UNTIL(state_of(index).n_records == world.n && state_of(index).seq == world.chain.seq);
    audit_index_stop(index);
    check_queries(&world, 20, 0);
    world_end(&world);
}

static bool has_user(struct world *world, struct slice user) {
    struct index_db *db = NULL;
    int64_t number = 0;
    if (world->kind == INDEX_IN_POSTGRES) {
        struct audit_query query = {.user = user, .limit = 1};
        struct audit_page page = {.n = 0};
        struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        size_t index = 0;
        struct found found = {.world = world, .indexes = &index};
        CHECK_INT(audit_find(world->finder, &query, keep_found, &found, &page, &reason), 0);
        return page.n != 0;
    }
    if (index_db_open(world->dir, false, &db) != 0)
        CANNOT_GO_ON();
    int status = values_find(db, INDEX_USER, user, &number);
    index_db_close(db);
    return status == 0;
}

/* Segments go from the beginning on; the records go, and what only they had. */
static void test_retention(enum index_kind kind) {
    struct world world = world_begin(kind);
    /* The oracle does not know of it: it goes first. */
    world_line(&world, "call", world_time(&world), SLICE(",\"user\":\"once\""));
    world_segment(&world);
    world_fill(&world, 15000, 120); /* 27 blocks */
    struct audit_index *index = start(&world);
    WAIT_FOR_ALL(index, world);
    CHECK(has_user(&world, SLICE("once")));
    CHECK(has_user(&world, SLICE("alice")));
    uint64_t full = size_of(&world), *segments = NULL;
    size_t n = 0, first = 0;
    REQUIRE(audit_segments(world.dir, &segments, &n) == 0 && n > 6);
    for (size_t i = 0; i + 1 < n; i++) {
        char name[AUDIT_SEGMENT_CHARS + 1];
        audit_segment_name(segments[i], name);
        world_unlink(&world, name);
        if (i % 5 != 0 && i + 2 != n)
            continue; /* several at once */
        while (first < world.n && world.records[first].seq < segments[i + 1])
            first++;
        world.first = first;
        if (kind == INDEX_IN_SQLITE)
            check_queries(&world, 4, first); /* at once, and when the index has followed */
        world_fill(&world, 30, 120);
        WAIT_UNTIL(state_of(index).n_records == world.n - first);
        check_queries(&world, 4, first);
    }
    audit_index_stop(index);
    update(&world, false);
    CHECK(kind == INDEX_IN_POSTGRES || size_of(&world) < full);
    CHECK(!has_user(&world, SLICE("once")));
    CHECK(has_user(&world, SLICE("alice")));
    check_queries(&world, 20, first);
    mem_free(segments);
    world_end(&world);
}

/* All that the index knows of was deleted while nobody filled it. */
static void test_deleted_meanwhile(enum index_kind kind) {
    struct world world = world_begin(kind);
    world_fill(&world, 300, 10);
    update(&world, false);
    uint64_t *segments = NULL;
    size_t n = 0, first = world.n;
    REQUIRE(audit_segments(world.dir, &segments, &n) == 0);
    world_segment(&world);
    world_fill(&world, 300, 10);
    for (size_t i = 0; i < n; i++) {
        char name[AUDIT_SEGMENT_CHARS + 1];
        audit_segment_name(segments[i], name);
        world_unlink(&world, name);
    }
    for (size_t i = 0; i < first; i++) /* an outcome alone is a record, which the oracle has not */
        if (world.records[i].outcome.ptr != NULL)
            world.records[i].outcome = SLICE_EMPTY;
    mem_free(segments);
    struct buf reason = BUF_INIT(KIB(4));
    struct audit_index *index = start(&world);
    WAIT_FOR_ALL(index, world);
    CHECK(state_of(index).n_records >= world.n - first);
    audit_index_stop(index);
    struct found found = {.world = &world,
                          .indexes = mem_xalloc(WORLD_RECORDS * sizeof *found.indexes)};
    struct audit_query query = {.event = SLICE("intent"), .limit = 1000};
    CHECK(is_as_oracle(&world, &query, first, &found));
    mem_free(found.indexes);
    buf_deinit(&reason);
    world_end(&world);
}

/* What tells one index from the one that was made anew after it. */
static uint64_t identity_of(const struct world *world) {
    char path[160], id[32];
    struct stat info;
    uint64_t number = 0;
    if (world->kind == INDEX_IN_POSTGRES) {
        postgres_ask(world->database, "SELECT id FROM cardea.audit_logs WHERE name IS NOT NULL", id,
                     sizeof id);
        CHECK_INT(slice_to_u64(slice_from_cstr(id), &number), 0);
        return number;
    }
    snprintf(path, sizeof path, "%s/index.sqlite", world->dir);
    if (stat(path, &info) != 0)
        CANNOT_GO_ON();
    return info.st_ino;
}

/* Whoever fills it goes on, and makes it anew for the one who asks. */
static void test_asked_anew(enum index_kind kind) {
    struct world world = world_begin(kind);
    struct audit_index *index = start(&world);
    world_fill(&world, 2000, 20);
    WAIT_FOR_ALL(index, world);
    char path[160];
    snprintf(path, sizeof path, "%s/index.sqlite", world.dir);
    uint64_t before = identity_of(&world);
    int keep = open(path, O_RDONLY | O_CLOEXEC); /* so that the number of the file is not reused */
    update(&world, true);
    uint64_t after = identity_of(&world);
    CHECK(before != after);
    io_fd_close(&keep);
    CHECK_INT(state_of(index).n_records, world.n);
    update(&world, false);
    CHECK(identity_of(&world) == after);
    check_queries(&world, 20, 0);
    audit_index_stop(index);
    world_end(&world);
}

/* What is no line, or not a record's JSON, stops nothing. */
static void test_hostile_lines(enum index_kind kind) {
    static const char *const lines[] = {"no line\n", "{\"seq\":1,\"time\":1}\n", "\n", "{}\n",
                                        "{\"seq\":18446744073709551615,\n"};
    static const char *const members[] = {
        ",\"user\":7,\"groups\":\"x\",\"operation\":[1],\"address\":{}",
        ",\"groups\":[1,null,{},[],\"staff\",\"staff\"],\"address\":\"no address\"",
        ",\"user\":\"twice\",\"user\":\"twice\"",
        ",\"user\":\"\\ud800\"",
        ",\"broken",
        ",[[[[[["};
    struct world world = world_begin(kind);
    struct buf reason = BUF_INIT(KIB(4));
    struct audit_page page = {.n = 0};
    struct found found = {.world = &world};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (write(world.fd, lines[i], strlen(lines[i])) < 0)
            CANNOT_GO_ON();
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        world_line(&world, "call", world_time(&world), slice_from_cstr(members[i]));
    /* An outcome of nothing, and two of the same. */
    world_line(&world, "outcome", world_time(&world), SLICE(",\"id\":\"x\",\"status\":\"ok\""));
    world_line(&world, "outcome", world_time(&world), SLICE(",\"status\":\"ok\""));
    world_line(&world, "intent", world_time(&world), SLICE(",\"id\":\"y\""));
    world_line(&world, "outcome", world_time(&world), SLICE(",\"id\":\"y\",\"status\":\"ok\""));
    world_line(&world, "outcome", world_time(&world), SLICE(",\"id\":\"y\",\"status\":\"ok\""));
    world.chain.seq = (UINT64_C(1) << 45) - 1; /* more than fits */
    world_line(&world, "call", world_time(&world), SLICE_EMPTY);
    update(&world, false);
    struct audit_query query = {.limit = 100};
    size_t indexes[32];
    found.indexes = indexes;
    CHECK_INT(audit_find(world.finder, &query, keep_found, &found, &page, &reason), 0);
    CHECK_INT(page.n, ARRAY_LEN(members) + 4);
    query.group = SLICE("staff");
    CHECK_INT(audit_find(world.finder, &query, keep_found, &found, &page, &reason), 0);
    CHECK_INT(page.n, 1);
    buf_deinit(&reason);
    world_end(&world);
}

static void torture_update(void *arg) {
    struct world *world = arg;
    struct buf reason = BUF_INIT(KIB(4));
    const struct audit_index_options options = world_options(world);
    int status = audit_index_update(&options, AUDIT_INDEX_ANEW, NULL, NULL, &reason);
    CHECK(status == 0 || status == -ENOMEM || status == AUDIT_E_INDEX);
    buf_deinit(&reason);
}

static void test_without_memory(enum index_kind kind) {
    struct world world = world_begin(kind);
    world_fill(&world, 12, 20000); /* few, in several blocks */
    test_torture(torture_update, &world);
    check_queries(&world, 20, 0);
    world_end(&world);
}

static void test_nowhere(void) {
    struct buf reason = BUF_INIT(KIB(4));
    const struct audit_index_options options = {.dir = "/nowhere/at/all"};
    CHECK_INT(audit_index_update(&options, AUDIT_INDEX_GO_ON, NULL, NULL, &reason), AUDIT_E_INDEX);
    CHECK(buf_len(&reason) != 0);
    buf_deinit(&reason);
    CHECK(audit_index_stop(NULL) == NULL);
}

INDEX_TEST(test_killed)
INDEX_TEST(test_restarts)
INDEX_TEST(test_trail_was_cut)
INDEX_TEST(test_trail_is_cut)
INDEX_TEST(test_retention)
INDEX_TEST(test_deleted_meanwhile)
INDEX_TEST(test_asked_anew)
INDEX_TEST(test_hostile_lines)
INDEX_TEST(test_without_memory)

TEST_MAIN(TEST(test_killed_sqlite), TEST(test_killed_postgres), TEST(test_restarts_sqlite),
          TEST(test_restarts_postgres), TEST(test_damaged), TEST(test_trail_was_cut_sqlite),
          TEST(test_trail_was_cut_postgres), TEST(test_trail_is_cut_sqlite),
          TEST(test_trail_is_cut_postgres), TEST(test_retention_sqlite),
          TEST(test_retention_postgres), TEST(test_deleted_meanwhile_sqlite),
          TEST(test_deleted_meanwhile_postgres), TEST(test_asked_anew_sqlite),
          TEST(test_asked_anew_postgres), TEST(test_hostile_lines_sqlite),
          TEST(test_hostile_lines_postgres), TEST(test_without_memory_sqlite),
          TEST(test_without_memory_postgres), TEST(test_nowhere))
