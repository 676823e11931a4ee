/* The life of an issuer's keys: rotation, outage, the end; who is found by which `iss`; what a new
 * configuration takes over. */
#include "base/limits.h"
#include "world.h"

#define HOUR ((uint64_t)3600 * 1000)
#define DAY  (24 * HOUR)

/* Runs the fetch that is due by now. */
static void run_due(struct world *world) {
    size_t n = world->server.n_requests;
    oauth_tick(world->oauth);
    CHECK(world->oauth->issuers[0].is_fetching);
    world_wait(world);
    CHECK(world->server.n_requests > n);
}

/* --- nothing before its time --- */

static void test_nothing_before_the_start(void) {
    static const struct reply reply = ANSWER(KEYS(KEY_EC));
    struct world world;
    struct waiter waiter;
    world_open(&world, &reply, 1);
    world_add(&world, "/keys", NULL);
    world.oauth = world_make(&world, NULL);
    CHECK(!waiter_start(&waiter, &world));
    CHECK(!oauth_wait_cancel(&waiter.wait));
    world_settle(&world);
    CHECK_INT(world.server.n_accepted, 0);
    oauth_start(world.oauth);
    world_wait(&world);
    CHECK_INT(world.server.n_requests, 1);
    world_close(&world);
}

static void test_no_issuers(void) {
    struct world world;
    struct buf status CLEANUP(buf_deinit) = BUF_INIT(100);
    world_open(&world, NULL, 0);
    world_start(&world);
    CHECK_INT(oauth_count(world.oauth), 0);
    CHECK(oauth_find(world.oauth, true, SLICE("x")) == NULL);
    CHECK(oauth_find(world.oauth, false, SLICE_EMPTY) == NULL);
    CHECK_INT(oauth_write_status(world.oauth, 0, &status), 0);
    CHECK_STR(buf_slice(&status), "[]");
    world_close(&world);
    CHECK(oauth_free(NULL) == NULL);
}

/* --- rotation --- */

static void test_rotation(void) {
    static const struct reply replies[] = {ANSWER(KEYS(KEY_EC)), ANSWER(KEYS(KEY_EC "," KEY_ED)),
                                           ANSWER(KEYS(KEY_EC "," KEY_ED)), ANSWER(KEYS(KEY_ED)),
                                           ANSWER(KEYS(""))};
    static const struct {
        int keys;
        uint64_t generation;
    } expect[] = {{1, 1}, {2, 2}, {2, 2}, {1, 3}, {0, 4}};
    struct world world;
    world_open(&world, replies, ARRAY_LEN(replies));
    world_add(&world, "/keys", NULL);
    world_start(&world);
    world_wait(&world);
    struct jose_keys *first = oauth_keys(oauth_at(world.oauth, 0), world.now, NULL);
    for (size_t i = 0;; i++) {
        CHECK_INT(world_keys(&world, 0), expect[i].keys);
        CHECK_INT(world_generation(&world, 0), expect[i].generation);
        CHECK_INT(world.server.n_requests, i + 1);
        if (i + 1 == ARRAY_LEN(expect))
            break;
        world.now += HOUR / 10 * 8;
        run_due(&world);
    }
    CHECK_INT(jose_keys_count(first), 1); /* whoever has it goes on with it */
    jose_keys_unref(first);
    CHECK_INT(world_count_log(&world, "keys fetched"), 3);
    CHECK_INT(world_count_log(&world, "there are no keys"), 1);
    /* An empty set is asked again soon. */
    CHECK(world.oauth->issuers[0].schedule.next_ms - world.now <= 1000);
    world_close(&world);
}

static void test_cache_control(void) {
    static const struct reply reply = {
        SLICE_INIT("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\n\r\n" KEYS(KEY_EC)),
        REPLY_CLOSE};
    for (int is_polled = 0; is_polled < 2; is_polled++) {
        struct world world;
        world_open(&world, &reply, 1);
        world_add(&world, "/keys", NULL)->poll_interval_ms = is_polled ? 5000 : 0;
        world_start(&world);
        world_wait(&world);
        uint64_t pause = world.oauth->issuers[0].schedule.next_ms - world.now;
        if (is_polled)
            CHECK(pause >= 4500 && pause <= 5000);
        else
            CHECK(pause >= 432 * 1000 && pause <= 480 * 1000);
        world_advance(&world, pause - 1);
        CHECK(!world.oauth->issuers[0].is_fetching);
        world.now++;
        run_due(&world);
        CHECK_INT(world.server.n_requests, 2);
        world_close(&world);
    }
}

/* The timer, not the test, begins the next one. */
static void test_by_the_timer(void) {
    static const struct reply reply = ANSWER(KEYS(KEY_EC));
    struct world world;
    world_open(&world, &reply, 1);
    world_add(&world, "/keys", NULL)->poll_interval_ms = 1;
    world.oauth = world_make(&world, NULL);
    world.oauth->now_fn = NULL; /* the real clock */
    oauth_start(world.oauth);
    world_run_until_requests(&world, 5);
    CHECK(world.server.n_requests >= 5);
    world_close(&world);
}

/* --- outage --- */

static void test_outage(void) {
    static const struct reply replies[] = {ANSWER(KEYS(KEY_EC)), STATUS("503 X")};
    static const struct reply again[] = {ANSWER(KEYS(KEY_EC))};
    struct world world;
    world_open(&world, replies, ARRAY_LEN(replies));
    world_add(&world, "/keys", NULL);
    world_start(&world);
    world_wait(&world);
    uint64_t confirmed = world.now;
    size_t n_failures = 0;
    while (world.oauth->issuers[0].schedule.next_ms < confirmed + DAY) {
        world.now = world.oauth->issuers[0].schedule.next_ms;
        run_due(&world);
        n_failures++;
        CHECK_INT(world_keys(&world, 0), 1);
        CHECK_INT(world_generation(&world, 0), 1);
    }
    /* Every five minutes, in the end. */
    CHECK(n_failures > 23 * 12 && n_failures < 25 * 14);
    CHECK_INT(world_count_log(&world, "keys cannot be fetched"), 1);
    world.now = confirmed + DAY - 1;
    oauth_tick(world.oauth);
    CHECK_INT(world_keys(&world, 0), 1);
    /* By the clock alone, before the loop has looked; and then for all. */
    world.now++;
    CHECK_INT(world_keys(&world, 0), -1);
    CHECK_INT(world_generation(&world, 0), 1);
    oauth_tick(world.oauth);
    CHECK_INT(world_keys(&world, 0), -1);
    CHECK_INT(world_generation(&world, 0), 2);
    for (int i = 0; i < 10; i++)
        world_advance(&world, 1);
    CHECK_INT(world_count_log(&world, "were not confirmed for a day"), 1);
    CHECK_INT(world_generation(&world, 0), 2);
    world_settle(&world);

    /* The same bytes as before are read anew. */
    world.server.replies = again;
    world.server.n_replies = 1;
    world.now = world.oauth->issuers[0].schedule.next_ms;
    run_due(&world);
    CHECK_INT(world_keys(&world, 0), 1);
    CHECK_INT(world_generation(&world, 0), 3);
    CHECK_INT(world_count_log(&world, "keys fetched"), 2);
    world_close(&world);
}

/* The end of the keys comes while a fetch runs. */
static void test_stale_in_mid_fetch(void) {
    static const struct reply replies[] = {ANSWER(KEYS(KEY_EC)), {SLICE_INIT(""), REPLY_HOLD}};
    struct world world;
    struct waiter waiter;
    world_open(&world, replies, ARRAY_LEN(replies));
    world_add(&world, "/keys", NULL);
    world_start(&world);
    world_wait(&world);
    world.now += DAY - 1;
    oauth_tick(world.oauth);
    world_run_until_requests(&world, 2);
    CHECK_INT(world_keys(&world, 0), 1);
    world_advance(&world, 1);
    CHECK_INT(world_keys(&world, 0), -1);
    CHECK(world.oauth->issuers[0].is_fetching);
    CHECK(waiter_start(&waiter, &world));
    world_advance(&world, LIMIT_JWKS_FETCH_MS);
    guarded_run(&world.guarded);
    CHECK_INT(waiter.n_told, 1);
    world_close(&world);
}

/* --- who is found --- */

static void test_find(void) {
    struct world world;
    world_open(&world, NULL, 0);
    static const struct config_issuer issuers[] = {
        {.url = SLICE_INIT("http://127.0.0.1:1/"), .expected_issuer = SLICE_INIT("https://a")},
        {.issuer = SLICE_INIT("https://b"), .expected_issuer = SLICE_INIT("https://b")},
        {.issuer = SLICE_INIT("https://c")},
        {.issuer = SLICE_INIT("https://d"), .expected_issuer = SLICE_INIT("https://e")},
    };
    static const struct {
        bool has_iss;
        const char *iss;
        int expect;
    } rows[] = {
        {true, "https://a", 0},   {true, "https://b", 1},  {true, "https://c", 2},
        {true, "https://e", 3},   {true, "https://d", -1}, {true, "https://a/", -1},
        {true, "https://A", -1},  {true, "", -1},          {false, "", -1},
        {false, "https://a", -1},
    };
    memcpy(world.issuers, issuers, sizeof issuers);
    world.config.n_issuers = ARRAY_LEN(issuers);
    for (int with_any = 0; with_any < 2; with_any++) {
        if (with_any) /* ... of any issuer, in the place of the second one */
            world.issuers[1] = (struct config_issuer){.url = SLICE("http://127.0.0.1:1/")};
        world.oauth = world_make(&world, NULL);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            int expect = rows[i].expect >= 0 || !with_any ? rows[i].expect : 1;
            test_row(rows[i].iss);
            CHECK(oauth_find(world.oauth, rows[i].has_iss, slice_from_cstr(rows[i].iss)) ==
                  (expect < 0 ? NULL : oauth_at(world.oauth, (size_t)expect)));
        }
        world.oauth = oauth_free(world.oauth);
    }
    world_close(&world);
}

/* --- secrets --- */

#define SECRET "0123456789abcdef0123456789abcdef"

static void test_secret(void) {
    static const struct reply reply = ANSWER(KEYS(KEY_EC));
    struct world world;
    struct waiter waiter;
    world_open(&world, &reply, 1);
    world_add(&world, NULL, NULL)->secret = SLICE(SECRET);
    world.issuers[0].expected_issuer = SLICE("https://hs");
    world_add(&world, "/keys", NULL)->secret = SLICE(SECRET);
    world_add(&world, "/keys", NULL);
    world_start(&world);
    CHECK(!waiter_start(&waiter, &world)); /* there is nothing to wait for */
    world_run_until_requests(&world, 2);
    world_settle(&world);
    CHECK_INT(world.server.n_requests, 2);
    struct jose_keys *keys = oauth_keys(oauth_at(world.oauth, 0), UINT64_MAX, NULL);
    struct jose_keys *secret = oauth_secret_keys(oauth_at(world.oauth, 0));
    CHECK(keys != NULL && keys == secret);
    jose_keys_unref(keys);
    jose_keys_unref(secret);
    /* Of both kinds: each in a set of its own. */
    keys = oauth_keys(oauth_at(world.oauth, 1), world.now, NULL);
    secret = oauth_secret_keys(oauth_at(world.oauth, 1));
    CHECK(keys != NULL && secret != NULL && keys != secret);
    jose_keys_unref(keys);
    jose_keys_unref(secret);
    CHECK(oauth_secret_keys(oauth_at(world.oauth, 2)) == NULL);
    CHECK_INT(world_count_log(&world, SECRET), 0);
    world_close(&world);
}

static void test_short_secret(void) {
    struct world world;
    struct oauth *oauth = NULL;
    world_open(&world, NULL, 0);
    world_add(&world, NULL, NULL)->secret = SLICE("0123456789abcdef0123456789abcde");
    struct oauth_options options = {.config = &world.config, .loop = world.guarded.loop};
    CHECK_INT(oauth_new(&options, &oauth), -EINVAL);
    CHECK(oauth == NULL);
    world_close(&world);
}

/* --- a new configuration --- */

static void test_previous(void) {
    static const struct reply replies[] = {ANSWER(KEYS(KEY_EC)), ANSWER(KEYS(KEY_EC)),
                                           STATUS("503 X")};
    struct world world;
    world_open(&world, replies, ARRAY_LEN(replies));
    world_add(&world, "/a", NULL);
    world_add(&world, "/b", NULL);
    world_start(&world);
    world_run_until_requests(&world, 2);
    world_settle(&world);
    CHECK_INT(world_keys(&world, 0), 1);
    CHECK_INT(world_keys(&world, 1), 1);
    uint64_t confirmed = world.now;

    /* The second one is the first now, and another one is new. */
    struct oauth *before = world.oauth;
    struct config_issuer swapped[] = {world.issuers[1], world.issuers[0]};
    swapped[1].issuer = SLICE("https://new.example");
    swapped[0].poll_interval_ms = 7000;
    struct config_oauth config = {.is_set = true, .issuers = swapped, .n_issuers = 2};
    struct config_oauth kept = world.config;
    world.config = config;
    world.now += HOUR;
    world.oauth = world_make(&world, before);
    world.config = kept;
    oauth_free(before);
    CHECK_INT(world_keys(&world, 0), 1);
    CHECK_INT(world_generation(&world, 0), 1);
    CHECK_INT(world_keys(&world, 1), -1);
    CHECK_INT(world_generation(&world, 1), 2); /* a number that nobody had */
    CHECK_INT(world.server.n_requests, 2);

    /* Their age goes with them: a reload gives no new day. */
    oauth_start(world.oauth);
    world_wait(&world);
    CHECK(world_error(&world)[0] != '\0');
    CHECK_INT(world_keys(&world, 0), 1);
    world.now = confirmed + DAY;
    CHECK_INT(world_keys(&world, 0), -1);
    world_close(&world);
}

/* What is confirmed by the same bytes keeps its generation over a reload, too. */
static void test_previous_is_confirmed(void) {
    static const struct reply reply = ANSWER(KEYS(KEY_EC));
    struct world world;
    world_open(&world, &reply, 1);
    world_add(&world, "/a", NULL);
    world_start(&world);
    world_wait(&world);
    for (int i = 0; i < 5; i++) {
        struct oauth *before = world.oauth;
        world.oauth = world_make(&world, before);
        oauth_free(before);
        oauth_start(world.oauth);
        world_wait(&world);
        CHECK_INT(world_keys(&world, 0), 1);
        CHECK_INT(world_generation(&world, 0), 1);
    }
    CHECK_INT(world.server.n_requests, 6);
    world_close(&world);
}

/* --- status --- */

static void check_status(struct world *world, const char *expect) {
    struct buf status CLEANUP(buf_deinit) = BUF_INIT(4096);
    CHECK_INT(oauth_write_status(world->oauth, world->now, &status), 0);
    CHECK_STR(buf_slice(&status), expect);
}

static void test_status(void) {
    static const struct reply replies[] = {ANSWER(KEYS(KEY_EC "," KEY_ED)), STATUS("500 X")};
    struct world world;
    char expect[512];
    world_open(&world, replies, ARRAY_LEN(replies));
    world_add(&world, "/keys?key=secret", NULL);
    world_add(&world, NULL, NULL)->secret = SLICE(SECRET);
    world.issuers[1].expected_issuer = SLICE("https://hs");
    world_start(&world);
#define HS "{\"issuer\":\"https://hs\",\"keys\":1,\"age_ms\":null,\"error\":null}]"
    snprintf(expect, sizeof expect,
             "[{\"issuer\":\"http://%s/keys\",\"keys\":0,\"age_ms\":null,\"error\":null}," HS,
             world.server.address.text);
    check_status(&world, expect);
    world_wait(&world);
    world.now += 31000;
    world_wait(&world);
    snprintf(expect, sizeof expect,
             "[{\"issuer\":\"http://%s/keys\",\"keys\":2,\"age_ms\":31000,"
             "\"error\":\"it answers with status 500\"}," HS,
             world.server.address.text);
    check_status(&world, expect);
    CHECK_INT(world_count_log(&world, "secret"), 0);
    world_close(&world);
}

TEST_MAIN(TEST(test_nothing_before_the_start), TEST(test_no_issuers), TEST(test_rotation),
          TEST(test_cache_control), TEST(test_by_the_timer), TEST(test_outage),
          TEST(test_stale_in_mid_fetch), TEST(test_find), TEST(test_secret),
          TEST(test_short_secret), TEST(test_previous), TEST(test_previous_is_confirmed),
          TEST(test_status))
