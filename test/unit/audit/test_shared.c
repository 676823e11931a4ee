/* The index in PostgreSQL where it differs from the one in SQLite: several trails, and what becomes
 * of it when somebody else, or nobody, is at work with it. */
#include <errno.h>

#include "index_world.h"
#include "index_write.h"
#include "shared.h"

static struct audit_index *start(const struct world *world) {
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

static uint64_t count(const struct world *world, const char *sql) {
    char text[32];
    uint64_t n = 0;
    postgres_ask(world->database, sql, text, sizeof text);
    CHECK_INT(slice_to_u64(slice_from_cstr(text), &n), 0);
    return n;
}

/* --- several trails --- */

/* Pages of what is found of two trails, as they come. */
struct both {
    const struct world *worlds[2];
    size_t n, n_of[2], n_wrong;
    struct slice logs[2];
    struct {
        size_t world;
        uint64_t time_us, seq;
    } hits[2 * WORLD_RECORDS];
};

static void keep_both(void *context, const struct audit_hit *hit) {
    struct both *both = context;
    struct audit_line line;
    size_t i = slice_eq(hit->log, both->logs[0]) ? 0 : 1;
    if (!slice_eq(hit->log, both->logs[i]) || audit_line_read(hit->line, &line, NULL) != 0) {
        both->n_wrong++;
        return;
    }
    both->hits[both->n].world = i;
    both->hits[both->n].time_us = line.time_us;
    both->hits[both->n++].seq = line.seq;
    both->n_of[i]++;
}

static struct both *find_both(struct world *a, struct world *b, struct audit_query query) {
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    struct audit_page page = {.n = 0};
    struct both *both = mem_xalloc(sizeof *both);
    both->logs[0] = slice_from_cstr(a->log);
    both->logs[1] = slice_from_cstr(b->log);
    do {
        CHECK_INT(audit_find(b->finder, &query, keep_both, both, &page, &reason), 0);
        query.cursor = slice_from_cstr(page.next);
    } while (page.next[0] != '\0');
    CHECK_INT(both->n_wrong, 0);
    for (size_t i = 1; i < both->n; i++) {
        uint64_t before = both->hits[i - 1].time_us, time = both->hits[i].time_us;
        CHECK(query.oldest_first ? before <= time : before >= time);
    }
    return both;
}

static size_t count_found(const struct world *world, const struct audit_query *query) {
    size_t n = 0;
    for (size_t i = 0; i < world->n; i++)
        n += is_found(&world->records[i], query);
    return n;
}

static void test_two_trails(void) {
    static const struct audit_query queries[] = {
        {.limit = 97},
        {.limit = 101, .oldest_first = true},
        {.limit = 13, .user = SLICE_INIT("alice")},
        {.limit = 300, .decision = SLICE_INIT("denied"), .oldest_first = true},
        {.limit = 50, .status = SLICE_INIT("ok"), .address = SLICE_INIT("10.1.60.0/27")},
        {.limit = 5, .text = SLICE_INIT("op_1"), .upstream = SLICE_INIT("db")},
    };
    struct world a = world_begin(INDEX_IN_POSTGRES);
    struct world b = world_begin_in(INDEX_IN_POSTGRES, &a);
    struct buf reason = BUF_INIT(KIB(4));
    b.random = 1234567;
    for (int i = 0; i < 4; i++) {
        world_fill(&a, 900, 20);
        update(&a, false);
        world_fill(&b, 700, 30);
        update(&b, false);
    }
    for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
        struct both *both = find_both(&a, &b, queries[i]);
        CHECK_INT(both->n_of[0], count_found(&a, &queries[i]));
        CHECK_INT(both->n_of[1], count_found(&b, &queries[i]));
        mem_free(both);
    }
    CHECK_INT(audit_index_forget(slice_from_cstr(a.url), SLICE("nobody"), &reason), AUDIT_E_INDEX);
    CHECK(slice_find(buf_slice(&reason), SLICE("no such log")) != SIZE_MAX);
    CHECK_INT(audit_index_forget(slice_from_cstr(a.url), slice_from_cstr(b.log), &reason), 0);
    struct both *rest = find_both(&a, &b, queries[0]);
    CHECK_INT(rest->n_of[0], a.n);
    CHECK_INT(rest->n_of[1], 0);
    mem_free(rest);
    update(&a, false); /* deletes them, too */
    CHECK_INT(count(&a, "SELECT count(*) FROM cardea.audit_records"), a.n);
    CHECK_INT(count(&a, "SELECT count(DISTINCT log) FROM cardea.audit_postings"), 1);
    CHECK_INT(count(&a, "SELECT count(*) FROM cardea.audit_logs"), 1);
    update(&b, false); /* it is not gone after all */
    struct both *again = find_both(&a, &b, queries[0]);
    CHECK_INT(again->n, a.n + b.n);
    mem_free(again);
    buf_deinit(&reason);
    world_end(&b);
    world_end(&a);
}

/* Those who have not come for a day are gone, and what is old of them goes. */
static void test_gone(void) {
    enum { DAY_MS = 24 * 3600 * 1000 };
    struct world a = world_begin(INDEX_IN_POSTGRES);
    struct world b = world_begin_in(INDEX_IN_POSTGRES, &a);
    struct buf reason = BUF_INIT(KIB(4));
    struct audit_index_options options = world_options(&a);
    b.time_us = clock_wall_us() - UINT64_C(10) * DAY_MS * 1000;
    b.is_steady = true;
    world_record(&a, 1);
    world_fill(&b, 800, 60);
    update(&b, false);
    uint64_t n = b.n + 1;
    options.max_age_ms = UINT64_C(5) * DAY_MS;
    CHECK_INT(audit_index_update(&options, AUDIT_INDEX_GO_ON, NULL, NULL, &reason), 0);
    CHECK_INT(count(&a, "SELECT count(*) FROM cardea.audit_records"), n); /* it was just here */
    postgres_do(a.database, "UPDATE cardea.audit_logs SET seen_ms = seen_ms - 90000000"
                            " WHERE records > 1");
    options.max_age_ms = UINT64_C(30) * DAY_MS;
    CHECK_INT(audit_index_update(&options, AUDIT_INDEX_GO_ON, NULL, NULL, &reason), 0);
    CHECK_INT(count(&a, "SELECT count(*) FROM cardea.audit_records"), n); /* it is not old */
    options.max_age_ms = 0;
    CHECK_INT(audit_index_update(&options, AUDIT_INDEX_GO_ON, NULL, NULL, &reason), 0);
    CHECK_INT(count(&a, "SELECT count(*) FROM cardea.audit_records"), n);
    options.max_age_ms = UINT64_C(5) * DAY_MS;
    CHECK_INT(audit_index_update(&options, AUDIT_INDEX_GO_ON, NULL, NULL, &reason), 0);
    CHECK_INT(count(&a, "SELECT count(*) FROM cardea.audit_records"), 1);
    CHECK_INT(count(&a, "SELECT count(*) FROM cardea.audit_postings"), 0);
    CHECK_INT(count(&a, "SELECT count(*) FROM cardea.audit_blocks"), 0);
    CHECK_INT(count(&a, "SELECT count(*) FROM cardea.audit_logs"), 1);
    buf_deinit(&reason);
    world_end(&b);
    world_end(&a);
}

/* --- who else is at work with it --- */

static void keep_nothing(void *context, const struct audit_hit *hit) {
    (void)context;
    (void)hit;
}

/* PostgreSQL is killed and started again while records arrive. */
static void test_restarted(void) {
    struct world world = world_begin(INDEX_IN_POSTGRES);
    struct audit_index *index = start(&world);
    struct buf reason = BUF_INIT(KIB(4));
    struct audit_query any = {.limit = 1};
    struct found found = {.world = &world};
    struct audit_page page;
    if (postgres_given_url() != NULL) {
        audit_index_stop(index);
        world_end(&world);
        return;
    }
    for (int i = 0; i < 3; i++) {
        world_fill(&world, 2000, 20);
        WAIT_UNTIL(state_of(index).seq != 0);
        CHECK_INT(audit_find(world.finder, &any, keep_nothing, NULL, &page, &reason), 0);
        postgres_kill(&the_postgres);
        world_fill(&world, 500, 20);
        CHECK_INT(audit_find(world.finder, &any, keep_found, &found, &page, &reason),
                  AUDIT_E_INDEX);
        CHECK(slice_find(buf_slice(&reason), SLICE("does not answer")) != SIZE_MAX);
        CHECK(slice_find(buf_slice(&reason), SLICE("horse")) == SIZE_MAX);
        WAIT_UNTIL(state_of(index).error[0] != '\0');
        postgres_run(&the_postgres);
        WAIT_UNTIL(state_of(index).seq == world.chain.seq);
        check_queries(&world, 10, 0);
    }
    CHECK_INT(state_of(index).n_records, world.n);
    audit_index_stop(index);
    buf_deinit(&reason);
    world_end(&world);
}

/* All tables are gone: they are made anew, and filled. */
static void test_dropped(void) {
    struct world world = world_begin(INDEX_IN_POSTGRES);
    struct audit_index *index = start(&world);
    world_fill(&world, 1500, 20);
    WAIT_UNTIL(state_of(index).seq == world.chain.seq);
    postgres_do(world.database, "DROP TABLE cardea.audit_index, cardea.audit_logs,"
                                " cardea.audit_records, cardea.audit_blocks,"
                                " cardea.audit_postings");
    world_fill(&world, 100, 20);
    WAIT_UNTIL(state_of(index).seq == world.chain.seq && state_of(index).error[0] == '\0');
    audit_index_stop(index);
    check_queries(&world, 20, 0);
    world_end(&world);
}

/* Somebody has moved the place while a transaction was being prepared: nothing is there twice. */
static void test_place_moved(void) {
    struct world world = world_begin(INDEX_IN_POSTGRES);
    struct index_writer *writer = NULL;
    struct buf why = BUF_INIT(KIB(4));
    world_fill(&world, 300, 20);
    struct audit_index_options options = world_options(&world);
    const struct index_where where = {.dir = options.dir, .url = options.url};
    REQUIRE(index_shared.open(&where, &writer, &why) == 0);
    update(&world, false);
    struct audit_place behind = {.segment = 1, .offset = world.records[0].line.len + 1};
    CHECK_INT(index_shared.add(writer, world.records[0].line, &behind), -ESTALE);
    index_shared.free(writer);
    check_queries(&world, 10, 0);
    CHECK_INT(count(&world, "SELECT count(*) FROM cardea.audit_records"), world.n);
    buf_deinit(&why);
    world_end(&world);
}

static void test_other_version(void) {
    struct world world = world_begin(INDEX_IN_POSTGRES);
    struct buf reason = BUF_INIT(KIB(4));
    struct audit_page page;
    struct found found = {.world = &world};
    struct audit_query any = {.limit = 1};
    world_record(&world, 1);
    update(&world, false);
    postgres_do(world.database, "UPDATE cardea.audit_index SET version = version + 1");
    struct audit_index_options options = world_options(&world);
    CHECK_INT(audit_index_update(&options, AUDIT_INDEX_ANEW, NULL, NULL, &reason), AUDIT_E_INDEX);
    CHECK(slice_find(buf_slice(&reason), SLICE("newer version")) != SIZE_MAX);
    CHECK_INT(audit_find(world.finder, &any, keep_found, &found, &page, &reason), AUDIT_E_INDEX);
    CHECK_INT(count(&world, "SELECT count(*) FROM cardea.audit_records"), 1);
    buf_deinit(&reason);
    world_end(&world);
}

/* Not a word of the password, whatever is wrong. */
static void test_password(void) {
    static const char *const urls[] = {
        "postgres://tester:geheimnis@127.0.0.1:1/x", "postgres://tester:geheimnis@127.0.0.1:x/y",
        "postgres://tester:geheim/nis@127.0.0.1:1/x", "postgres://tester:geheimnis@[::1/x"};
    struct world world = world_begin(INDEX_IN_SQLITE);
    world_record(&world, 1);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct buf reason = BUF_INIT(KIB(4));
        struct audit_finder *finder = NULL;
        struct audit_page page;
        struct audit_query any = {.limit = 1};
        const struct audit_index_options options = {.dir = world.dir,
                                                    .url = slice_from_cstr(urls[i])};
        CHECK_INT(audit_index_update(&options, AUDIT_INDEX_GO_ON, NULL, NULL, &reason),
                  AUDIT_E_INDEX);
        REQUIRE(audit_finder_new(world.dir, options.url, &finder) == 0);
        CHECK_INT(audit_find(finder, &any, NULL, NULL, &page, &reason), AUDIT_E_INDEX);
        CHECK_INT(audit_index_forget(options.url, SLICE("x"), &reason), AUDIT_E_INDEX);
        CHECK(slice_find(buf_slice(&reason), SLICE("geheim")) == SIZE_MAX);
        CHECK(slice_find(buf_slice(&reason), SLICE("nis@")) == SIZE_MAX);
        audit_finder_free(finder);
        buf_deinit(&reason);
    }
    world_end(&world);
}

/* What PostgreSQL takes for no text is found all the same. */
static void test_no_text(void) {
    struct world world = world_begin(INDEX_IN_POSTGRES);
    struct buf reason = BUF_INIT(KIB(4));
    size_t indexes[4];
    struct audit_page page = {.n = 0};
    struct found found = {.world = &world, .indexes = indexes};
    world_line(&world, "call", world_time(&world),
               SLICE(",\"user\":\"\xff\xc3\",\"status\":\"ok\""));
    world_line(&world, "intent", world_time(&world), SLICE(",\"id\":\"\xfe\",\"user\":\"zoe\""));
    world_line(&world, "outcome", world_time(&world),
               SLICE(",\"id\":\"\xfe\",\"status\":\"\x80\""));
    update(&world, false);
    struct audit_query query = {.limit = 10};
    CHECK_INT(audit_find(world.finder, &query, keep_found, &found, &page, &reason), 0);
    CHECK(page.n >= 2);
    buf_deinit(&reason);
    world_end(&world);
}

/* --- parts --- */

static uint64_t random_of(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void test_lows(void) {
    static const size_t sizes[] = {0, 1, 2, 510, 511, 512, 513, 4096, SHARED_BLOCK};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
        struct bitmap bitmap;
        uint16_t lows[SHARED_BLOCK];
        unsigned low = 0;
        for (size_t at = 0; at < sizes[i]; at++)
            lows[at] = (uint16_t)(at * SHARED_BLOCK / sizes[i]);
        shared_write_lows(&out, lows, sizes[i]);
        bitmap_clear(&bitmap);
        REQUIRE(shared_read_lows(buf_slice(&out), &bitmap));
        low = bitmap_next(&bitmap, 0);
        for (size_t at = 0; at < sizes[i]; at++, low = bitmap_next(&bitmap, low + 1))
            CHECK_INT(low, lows[at]);
        CHECK_INT(low, INDEX_BLOCK);
    }
    struct bitmap bitmap;
    bitmap_clear(&bitmap);
    CHECK(!shared_read_lows(SLICE("abc"), &bitmap));
    CHECK(!shared_read_lows(SLICE("\x20\x01"), &bitmap)); /* 8193 */
    CHECK(!shared_read_lows(slice_make(bitmap.words, SHARED_BLOCK / 8 + 2), &bitmap));
    struct buf bytes CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    static const char *const bad[] = {"", "\\x0", "x00", "\\xAA", "\\xg0"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK_INT(shared_read_bytes(slice_from_cstr(bad[i]), &bytes), -EUCLEAN);
}

static void test_times(void) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct shared_times times = {.out = &out};
    int64_t expected[1000], time = 0;
    uint64_t state = 88172645463325252;
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        expected[i] = (int64_t)(random_of(&state) >> random_of(&state) % 64 >> 1);
        shared_write_time(&times, (unsigned)i * 8, expected[i]);
    }
    struct slice bytes = buf_slice(&out), cut = slice_make("\x80\x80", 2);
    unsigned low = 0;
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        REQUIRE(shared_read_time(&bytes, &low, &time));
        CHECK_INT(low, i * 8);
        CHECK(time == expected[i]);
    }
    CHECK(!shared_read_time(&bytes, &low, &time));
    CHECK(!shared_read_time(&cut, &low, &time));
    struct slice far = slice_make("\xff\x7f\x00", 3);
    CHECK(!shared_read_time(&far, &low, &time));
}

/* A record in a block of addresses has the term that is looked for. */
static void test_address_terms(void) {
    uint64_t state = 42;
    for (int i = 0; i < 4000; i++) {
        char address[64], block[64];
        uint64_t a = random_of(&state);
        bool is_v4 = i % 2 == 0;
        unsigned most = is_v4 ? 32 : 128;
        unsigned bits = (unsigned)(random_of(&state) % (most + 1));
        unsigned own = bits + (unsigned)(random_of(&state) % (most - bits + 1));
        char host[48];
        if (is_v4)
            snprintf(host, sizeof host, "%u.%u.%u.%u", (unsigned)(a & 0xff),
                     (unsigned)(a >> 8 & 0xff), (unsigned)(a >> 16 & 0xff),
                     (unsigned)(a >> 24 & 0xff));
        else
            snprintf(host, sizeof host, "%x:%x:%x:%x:1:2:3:%x", 0x2001 + (unsigned)(a & 3),
                     (unsigned)(a >> 8 & 0xffff), (unsigned)(a >> 24 & 0xffff),
                     (unsigned)(a >> 40 & 0xffff), (unsigned)(a & 0xffff));
        struct network network;
        REQUIRE(network_parse_address(slice_from_cstr(host), &network));
        char text[NETWORK_TEXT];
        for (int which = 0; which < 2; which++) {
            unsigned keep = which == 0 ? own : bits;
            struct network cut = network;
            for (unsigned bit = keep; bit < most; bit++)
                cut.bytes[bit / 8] &= (unsigned char)~(0x80u >> bit % 8);
            struct slice written = network_write_address(&cut, text);
            snprintf(which == 0 ? address : block, sizeof address, "%.*s/%u", SLICE_ARGS(written),
                     keep);
        }
        struct index_record record = {.address = slice_from_cstr(address)};
        struct audit_query query = {.address = slice_from_cstr(block)};
        int64_t terms[SHARED_TERMS], asked[SHARED_ASKED];
        size_t n_asked = 0, n = shared_terms_of(&record, terms);
        bool has = false;
        CHECK_INT(shared_terms_asked(&query, asked, &n_asked), 0);
        CHECK_INT(n_asked, 1);
        for (size_t at = 0; at < n; at++)
            has = has || terms[at] == asked[0];
        CHECK(has);
    }
}

TEST_MAIN(TEST(test_two_trails), TEST(test_gone), TEST(test_restarted), TEST(test_dropped),
          TEST(test_place_moved), TEST(test_other_version), TEST(test_password), TEST(test_no_text),
          TEST(test_lows), TEST(test_times), TEST(test_address_terms))
