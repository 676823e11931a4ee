/* Particular cases: closed windows, batches, the full table and the attack on it, what is given
 * back, reloads, what Redis let pass, and memory that runs out. */
#include "help.h"
#include "test.h"

enum { HOUR_MS = 3600000 };

static struct memory *memory_of(size_t max_counters) {
    struct memory *memory = NULL;
    if (memory_new(max_counters, &memory) != 0)
        CANNOT_GO_ON();
    return memory;
}

/* --- one counter --- */

static void test_window_is_closed(void) {
    static const struct {
        const char *name;
        uint64_t limit, interval_ms, start;
    } rows[] = {
        {"one a second", 1, 1000, 0},
        {"one a millisecond", 1, 1, 77},
        {"three an hour, across 32 bits", 3, HOUR_MS, 4294960000},
        {"the largest exact one", 1000, 60000, 1000000},
        {"the longest interval", 7, LIMIT_RATE_INTERVAL_MS, 4294960000},
        {"buckets of a millisecond", 1001, 128, 12345},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct memory *memory = memory_of(10);
        struct limits_rule rule = rule_of("r", rows[i].limit, rows[i].interval_ms);
        uint64_t start = rows[i].start, interval = rows[i].interval_ms;
        test_row(rows[i].name);
        CHECK_INT(take_all(memory, &rule, 1, start), rows[i].limit);
        struct limits_answer answer = take_one(memory, &rule, 1, start);
        CHECK_INT(answer.verdict, LIMITS_EXCEEDED);
        CHECK_INT(answer.wait_ms, interval + 1); /* both ends belong to the window */
        CHECK_INT(take_one(memory, &rule, 1, start + interval).wait_ms, 1);
        CHECK_INT(take_all(memory, &rule, 1, start + interval + 1), rows[i].limit);
        /* 2^32 later it is not as if no time had passed. */
        CHECK_INT(take_all(memory, &rule, 1, start + interval + 1 + (UINT64_C(1) << 32)),
                  rows[i].limit);
        memory_free(memory);
    }
}

/* Buckets: never early, and at most one percent of the interval late. */
static void test_window_of_buckets(void) {
    static const struct config_limit rows[] = {
        {1001, 129},
        {1001, 1000},
        {1500, 60000},
        {2000, HOUR_MS},
        {1001, 24 * HOUR_MS},
        {3000, 999},
        {1001, LIMIT_RATE_INTERVAL_MS},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (uint64_t offset = 0; offset < 7; offset++) {
            struct memory *memory = memory_of(10);
            struct limits_rule rule = rule_of("r", rows[i].limit, rows[i].interval_ms);
            uint64_t start = UINT64_C(5000000000) + offset * 13, interval = rows[i].interval_ms;
            CHECK_INT(take_all(memory, &rule, 1, start), rows[i].limit);
            CHECK_INT(take_all(memory, &rule, 1, start + interval), 0);
            uint64_t wait_ms = take_one(memory, &rule, 1, start).wait_ms;
            CHECK(wait_ms > interval && wait_ms <= interval + 1 + interval / 100);
            CHECK_INT(take_all(memory, &rule, 1, start + wait_ms - 1), 0);
            CHECK_INT(take_all(memory, &rule, 1, start + wait_ms), rows[i].limit);
            memory_free(memory);
        }
}

static void test_limit_of_none(void) {
    struct memory *memory = memory_of(10);
    struct limits_rule rule = rule_of("r", 0, 5000);
    struct limits_answer answer = take_one(memory, &rule, 1, 100);
    CHECK_INT(answer.verdict, LIMITS_EXCEEDED);
    CHECK_INT(answer.wait_ms, 5000);
    CHECK_INT(take_one(memory, &rule, 1, 5101).verdict, LIMITS_EXCEEDED);
    CHECK_INT(memory_n_counters(memory), 0);
    memory_free(memory);
}

/* The largest limit: units of a bucket do not fit into one word. */
static void test_largest_limit(void) {
    struct memory *memory = memory_of(10);
    struct limits_rule rule = rule_of("r", LIMIT_RATE, 1000);
    struct limits_charge charges[LIMIT_RATE_LEVELS];
    struct limits_answer answer;
    for (size_t i = 0; i < LIMIT_RATE_LEVELS; i++)
        charges[i] = (struct limits_charge){.rule = &rule, .subject = subject_of(1)};
    const uint64_t n = (UINT64_C(1) << 24) / LIMIT_RATE_LEVELS + 1000;
    for (uint64_t i = 0; i < n; i++) {
        memory_take(memory, charges, LIMIT_RATE_LEVELS, 7, &answer);
        if (answer.verdict != LIMITS_PASS)
            break;
    }
    CHECK_INT(answer.verdict, LIMITS_PASS);
    /* The rest is known exactly. */
    struct limits_rule less = rule_of("r", n * LIMIT_RATE_LEVELS + 5, 1000);
    CHECK_INT(take_all(memory, &less, 1, 7), 5);
    CHECK_INT(take_all(memory, &less, 1, 1007), 0);
    CHECK_INT(take_one(memory, &less, 1, 1016).verdict, LIMITS_PASS);
    memory_free(memory);
}

static void test_batch(void) {
    struct memory *memory = memory_of(10);
    struct limits_rule few = rule_of("few", 3, 1000), many = rule_of("many", 10, 5000);
    struct limits_charge charges[] = {
        {.rule = &many, .subject = subject_of(0)},
        {.rule = &few, .subject = subject_of(1)},
        {.rule = &few, .subject = subject_of(1)},
        {.rule = &many, .subject = subject_of(1)},
    };
    struct limits_answer answer;
    memory_take(memory, charges, 4, 0, &answer);
    CHECK_INT(answer.verdict, LIMITS_PASS);
    /* Two of `few` do not fit any more, one does; of the others nothing was taken. */
    memory_take(memory, charges, 4, 10, &answer);
    CHECK_INT(answer.verdict, LIMITS_EXCEEDED);
    CHECK_INT(answer.charge, 1);
    CHECK_INT(answer.wait_ms, 991);
    CHECK_INT(take_all(memory, &few, 1, 10), 1);
    CHECK_INT(take_all(memory, &many, 0, 10), 9);
    CHECK_INT(take_all(memory, &many, 1, 10), 9);
    /* The longest wait is told, whichever comes first. */
    memory_take(memory, charges, 4, 20, &answer);
    CHECK_INT(answer.verdict, LIMITS_EXCEEDED);
    CHECK_INT(answer.wait_ms, 4981);
    CHECK(answer.charge == 0 || answer.charge == 3);
    memory_take(memory, charges, 0, 20, &answer);
    CHECK_INT(answer.verdict, LIMITS_PASS);
    memory_free(memory);
}

/* Threads read the clock before they come to the lock. */
static void test_clock_of_another_thread(void) {
    struct memory *memory = memory_of(10);
    struct limits_rule rule = rule_of("r", 2, 1000);
    CHECK_INT(take_one(memory, &rule, 1, 5001).verdict, LIMITS_PASS);
    CHECK_INT(take_one(memory, &rule, 1, 4999).verdict, LIMITS_PASS);
    CHECK_INT(take_one(memory, &rule, 1, 4998).wait_ms, 6002 - 4998);
    CHECK_INT(take_all(memory, &rule, 1, 6001), 0);
    CHECK_INT(take_all(memory, &rule, 1, 6002), 2);
    memory_free(memory);
}

/* --- reloads --- */

static void test_reload_keeps(void) {
    static const struct {
        const char *name;
        struct config_limit before, after;
        uint64_t used, left; /* after the reload, at once */
    } rows[] = {
        {"raised", {10, 1000}, {15, 1000}, 10, 5},
        {"lowered", {10, 1000}, {4, 1000}, 6, 0},
        {"lowered and not used up", {10, 1000}, {8, 1000}, 6, 2},
        {"raised to buckets", {1000, 1000}, {1500, 1000}, 1000, 500},
        {"lowered from buckets", {1500, 1000}, {1000, 1000}, 900, 100},
        {"buckets raised", {1500, 1000}, {2000, 1000}, 1200, 800},
        {"longer", {10, 1000}, {10, 5000}, 7, 3},
        {"shorter", {10, 5000}, {10, 1000}, 7, 3},
        {"longer buckets", {1500, 1000}, {1500, 60000}, 1400, 100},
        {"shorter buckets", {1500, 60000}, {1500, 1000}, 1400, 100},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct memory *memory = memory_of(10);
        struct limits_rule before = rule_of("r", rows[i].before.limit, rows[i].before.interval_ms);
        struct limits_rule after = rule_of("r", rows[i].after.limit, rows[i].after.interval_ms);
        test_row(rows[i].name);
        for (uint64_t k = 0; k < rows[i].used; k++)
            CHECK_INT(take_one(memory, &before, 1, 100000).verdict, LIMITS_PASS);
        CHECK_INT(take_all(memory, &after, 1, 100000), rows[i].left);
        CHECK_INT(take_all(memory, &after, 1, 100000 + rows[i].after.interval_ms), 0);
        CHECK_INT(take_all(memory, &after, 1, 100002 + rows[i].after.interval_ms * 101 / 100),
                  rows[i].after.limit);
        memory_free(memory);
    }
}

/* --- the table --- */

/* So many keys that chains come and go, all over again. */
static void test_grows_and_shrinks(void) {
    enum { N = 20000 };
    struct memory *memory = memory_of(LIMIT_COUNTERS);
    struct limits_rule rule = rule_of("r", 2, 1000);
    for (uint64_t round = 0; round < 3; round++) {
        uint64_t now = round * 100000;
        for (uint64_t i = 1; i <= N; i++)
            CHECK_INT(take_one(memory, &rule, i, now).verdict, LIMITS_PASS);
        CHECK_INT(memory_n_counters(memory), N);
        for (uint64_t i = 1; i <= N; i++)
            CHECK_INT(take_one(memory, &rule, i, now + 500).verdict, LIMITS_PASS);
        for (uint64_t i = 1; i <= N; i++)
            CHECK_INT(take_one(memory, &rule, i, now + 1000).verdict, LIMITS_EXCEEDED);
        CHECK_INT(memory_n_counters(memory), N);
        for (uint64_t i = 1; i <= N / 2; i++)
            CHECK_INT(take_one(memory, &rule, i, now + 1001).verdict, LIMITS_PASS);
        sweep_all(memory, now + 1501);
        CHECK_INT(memory_n_counters(memory), N / 2);
        for (uint64_t i = 1; i <= N / 2; i++)
            CHECK_INT(take_all(memory, &rule, i, now + 1501), 1);
        sweep_all(memory, now + 5000);
        CHECK_INT(memory_n_counters(memory), 0);
    }
    memory_free(memory);
}

/* A counter that was large gives its room back, and keeps what has not expired. */
static void test_sweep_shrinks_counters(void) {
    struct memory *memory = memory_of(10);
    struct limits_rule rule = rule_of("r", 1000, 1000);
    for (uint64_t i = 0; i < 995; i++)
        CHECK_INT(take_one(memory, &rule, 1, i < 990 ? 0 : 900).verdict, LIMITS_PASS);
    sweep_all(memory, 1001);
    CHECK_INT(memory_n_counters(memory), 1);
    CHECK_INT(take_all(memory, &rule, 1, 1001), 995);
    CHECK_INT(take_all(memory, &rule, 1, 1901), 5);
    memory_free(memory);
}

enum { ROOM = 1000, KEYS = 100000, CROWDS = 64 };

/*
 * Ten million keys against a table of a hundred thousand, on a smaller scale: each of KEYS comes
 * three times. What the attacker gets is bounded; who has a counter keeps it exactly; users of
 * another rule still get one.
 */
static void test_attack_of_many_keys(void) {
    struct memory *memory = memory_of(ROOM);
    struct limits_rule ip = rule_of("ip", 5, HOUR_MS), user = rule_of("user", 10, HOUR_MS);
    size_t n_passed = 0;
    for (uint64_t i = 1; i <= 100; i++)
        for (size_t k = 0; k < 4; k++)
            CHECK_INT(take_one(memory, &user, i, 1000 + k).verdict, LIMITS_PASS);
    for (uint64_t round = 0; round < 3; round++)
        for (uint64_t i = 1; i <= KEYS; i++)
            n_passed += take_one(memory, &ip, i, 2000 + round).verdict == LIMITS_PASS;
    CHECK(n_passed <= (ROOM * 3 / 4 + CROWDS) * 5);
    CHECK(n_passed >= CROWDS * 5);
    CHECK(memory_n_counters(memory) <= ROOM + CROWDS);
    for (uint64_t i = 1; i <= 100; i++)
        CHECK_INT(take_all(memory, &user, i, 3000), 6);
    for (uint64_t i = 101; i <= 200; i++)
        CHECK_INT(take_all(memory, &user, i, 3000), 10);
    /* A fresh name gets nothing for being fresh. */
    for (uint64_t i = KEYS + 1; i <= KEYS + 1000; i++)
        CHECK_INT(take_one(memory, &ip, i, 4000).verdict, LIMITS_EXCEEDED);
    /* It is over: all of it comes back, and newcomers have their own again. */
    sweep_all(memory, 10000 + HOUR_MS);
    CHECK_INT(memory_n_counters(memory), 0);
    for (uint64_t i = 1; i <= 700; i++)
        CHECK_INT(take_all(memory, &ip, i, 10000 + HOUR_MS), 5);
    memory_free(memory);
}

/* Newcomers find room as soon as counters have expired, also before any sweep. */
static void test_room_is_found(void) {
    struct memory *memory = memory_of(ROOM);
    struct limits_rule rule = rule_of("r", 1, 1000);
    for (uint64_t i = 1; i <= 2 * ROOM; i++)
        (void)take_one(memory, &rule, i, 0);
    size_t n_passed = 0;
    for (uint64_t i = 1; i <= ROOM; i++)
        n_passed += take_one(memory, &rule, 100000 + i, 1001).verdict == LIMITS_PASS;
    CHECK(n_passed > ROOM / 2);
    CHECK(memory_n_counters(memory) <= ROOM + CROWDS);
    memory_free(memory);
}

/* Who was in the crowd and gets a counter of his own begins with what the crowd has used. */
static void test_own_counter_after_the_crowd(void) {
    struct memory *memory = memory_of(4); /* three of one rule */
    struct limits_rule rule = rule_of("r", 3, 1000), other = rule_of("r", 3, 5000);
    for (uint64_t i = 1; i <= 3; i++)
        CHECK_INT(take_all(memory, &rule, i, 0), 3);
    CHECK_INT(take_all(memory, &rule, 4, 500), 3); /* in the crowd */
    sweep_all(memory, 1001);                       /* room again */
    CHECK_INT(memory_n_counters(memory), 1);
    struct limits_answer answer = take_one(memory, &rule, 4, 1001);
    CHECK_INT(answer.verdict, LIMITS_EXCEEDED);
    CHECK_INT(answer.wait_ms, 500);
    CHECK_INT(take_all(memory, &other, 4, 1001), 0); /* after a reload neither */
    CHECK_INT(take_all(memory, &rule, 4, 1501), 3);
    memory_free(memory);
}

/* Subjects of one check that come to the same crowd: it is charged for all of them, or for none. */
static void test_crowd_in_a_batch(void) {
    enum { SUBJECTS = LIMIT_RATE_LEVELS, LIMIT = 2 };
    size_t n_shared = 0;
    for (size_t round = 0; round < 200; round++) {
        struct memory *memory = memory_of(1); /* others find other crowds */
        struct limits_rule rule = rule_of("r", LIMIT, 1000);
        struct limits_charge charges[SUBJECTS];
        struct limits_answer answer;
        for (uint64_t i = 0; i <= SUBJECTS; i++)
            CHECK_INT(take_one(memory, &rule, 100 - i, 0).verdict == LIMITS_PASS || i > LIMIT, 1);
        size_t n_crowds = memory_n_counters(memory) - 1;
        sweep_all(memory, 2000);
        CHECK_INT(take_one(memory, &rule, 100, 3000).verdict, LIMITS_PASS);
        for (uint64_t i = 0; i < SUBJECTS; i++)
            charges[i] = (struct limits_charge){.rule = &rule, .subject = subject_of(99 - i)};
        memory_take(memory, charges, SUBJECTS, 3000, &answer);
        size_t n = answer.verdict == LIMITS_PASS ? SUBJECTS : 0;
        for (uint64_t i = 0; i < SUBJECTS; i++)
            n += take_all(memory, &rule, 99 - i, 3000);
        CHECK_INT(memory_n_counters(memory) - 1, n_crowds);
        CHECK_INT(n, n_crowds * LIMIT);
        n_shared += n_crowds < SUBJECTS;
        memory_free(memory);
    }
    CHECK(n_shared > 0);
}

/* --- what Redis let pass --- */

static void test_force(void) {
    struct memory *memory = memory_of(10);
    struct limits_rule exact = rule_of("exact", 3, 1000), none = rule_of("none", 0, 1000),
                       buckets = rule_of("buckets", 1200, 1000);
    struct limits_charge charges[] = {
        {.rule = &exact, .subject = subject_of(1)},
        {.rule = &none, .subject = subject_of(1)},
        {.rule = &buckets, .subject = subject_of(1)},
    };
    for (uint64_t i = 0; i < 2; i++)
        memory_force(memory, charges, 3, 1000);
    CHECK_INT(take_all(memory, &exact, 1, 1000), 1);
    CHECK_INT(take_all(memory, &buckets, 1, 1000), 1198);
    /* Beyond the limits: the youngest ones are what counts. */
    for (uint64_t i = 0; i < 5; i++)
        memory_force(memory, charges, 3, 1500);
    CHECK_INT(take_all(memory, &exact, 1, 2500), 0);
    CHECK_INT(take_all(memory, &exact, 1, 2501), 3);
    CHECK_INT(take_all(memory, &buckets, 1, 2001), 0);
    CHECK_INT(take_all(memory, &buckets, 1, 2008), 1195);
    CHECK_INT(take_all(memory, &buckets, 1, 2520), 5);
    memory_free(memory);
}

/* Without room it is the crowd that has it. */
static void test_force_without_room(void) {
    struct memory *memory = memory_of(4);
    struct limits_rule rule = rule_of("r", 3, 1000);
    for (uint64_t i = 1; i <= 5000; i++) {
        struct limits_charge charge = {.rule = &rule, .subject = subject_of(i)};
        for (size_t k = 0; k < 3; k++)
            memory_force(memory, &charge, 1, 1000);
    }
    CHECK(memory_n_counters(memory) <= 4 + CROWDS);
    for (uint64_t i = 1; i <= 5000; i++)
        CHECK_INT(take_one(memory, &rule, i, 2000).verdict, LIMITS_EXCEEDED);
    memory_free(memory);
}

/* --- without memory --- */

static void torture_new(void *arg) {
    struct memory *memory = NULL;
    (void)arg;
    if (memory_new(100, &memory) != 0)
        CHECK(memory == NULL);
    memory_free(memory);
}

/* Whatever fails, nobody passes who must not, and what is refused has taken nothing. */
static void check_shortage(uint64_t n, size_t used, bool *ret_is_over) {
    struct memory *memory = memory_of(1000);
    struct limits_rule all = rule_of("all", 100, 1000), one = rule_of("one", 90, 1000);
    struct limits_charge charges[] = {
        {.rule = &all, .subject = subject_of(0)},
        {.rule = &one, .subject = subject_of(1)},
    };
    struct limits_answer answer;
    size_t n_passed = 0;
    for (size_t i = 0; i < used; i++)
        memory_take(memory, charges, 2, 0, &answer);
    mem_fail_after(n);
    for (size_t i = used; i < 60; i++) {
        memory_take(memory, charges, 2, 0, &answer);
        CHECK(answer.verdict != LIMITS_EXCEEDED);
        n_passed += answer.verdict == LIMITS_PASS;
    }
    *ret_is_over = mem_alloc_count() < n;
    mem_fail_after(0);
    CHECK(n_passed == 60 - used || !*ret_is_over);
    CHECK_INT(take_all(memory, &one, 1, 0), 90 - used - n_passed);
    CHECK_INT(take_all(memory, &all, 0, 0), 100 - used - n_passed);
    memory_free(memory);
}

static void test_shortage(void) {
    static const size_t used[] = {0, 11, 12, 40};
    test_torture(torture_new, NULL);
    for (size_t i = 0; i < ARRAY_LEN(used); i++) {
        bool is_over = false;
        uint64_t n = 1;
        for (; !is_over && n < 100; n++)
            check_shortage(n, used[i], &is_over);
        CHECK(n > 2);
        CHECK(is_over);
    }
}

/* A counter that cannot be counted anew, or cannot become one's own, passes nobody. */
static void test_shortage_in_reload_and_crowd(void) {
    struct memory *memory = memory_of(4);
    struct limits_rule rule = rule_of("r", 3, 1000), longer = rule_of("r", 3, 2000);
    for (uint64_t i = 1; i <= 3; i++)
        CHECK_INT(take_one(memory, &rule, i, 0).verdict, LIMITS_PASS);
    mem_fail_after(1);
    CHECK_INT(take_one(memory, &longer, 1, 0).verdict, LIMITS_UNAVAILABLE);
    CHECK_INT(take_one(memory, &rule, 4, 0).verdict, LIMITS_UNAVAILABLE); /* the crowd's first */
    mem_fail_after(0);
    CHECK_INT(take_one(memory, &longer, 1, 0).verdict, LIMITS_PASS);
    CHECK_INT(take_one(memory, &rule, 4, 500).verdict, LIMITS_PASS);
    sweep_all(memory, 1001); /* leaves room */
    mem_fail_after(1);
    CHECK_INT(take_one(memory, &rule, 4, 1001).verdict, LIMITS_UNAVAILABLE);
    mem_fail_after(0);
    CHECK_INT(take_all(memory, &rule, 4, 1001), 2);
    memory_free(memory);
}

/* Chains are a comfort: without memory for more of them all is found all the same. */
static void test_shortage_of_chains(void) {
    enum { N = 4000 };
    struct memory *memory = memory_of(LIMIT_COUNTERS);
    struct limits_rule rule = rule_of("r", 1, 1000);
    size_t n_passed = 0;
    for (uint64_t i = 1; i <= N; i++) {
        mem_fail_after(2); /* after the counter itself */
        n_passed += take_one(memory, &rule, i, 0).verdict == LIMITS_PASS;
    }
    mem_fail_after(0);
    CHECK_INT(n_passed, N);
    for (uint64_t i = 1; i <= N; i++)
        CHECK_INT(take_one(memory, &rule, i, 1).verdict, LIMITS_EXCEEDED);
    sweep_all(memory, 1001);
    CHECK_INT(memory_n_counters(memory), 0);
    memory_free(memory);
}

TEST_MAIN(TEST(test_window_is_closed), TEST(test_window_of_buckets), TEST(test_limit_of_none),
          TEST(test_largest_limit), TEST(test_batch), TEST(test_clock_of_another_thread),
          TEST(test_reload_keeps), TEST(test_grows_and_shrinks), TEST(test_sweep_shrinks_counters),
          TEST(test_attack_of_many_keys), TEST(test_room_is_found),
          TEST(test_own_counter_after_the_crowd), TEST(test_crowd_in_a_batch), TEST(test_force),
          TEST(test_force_without_room), TEST(test_shortage),
          TEST(test_shortage_in_reload_and_crowd), TEST(test_shortage_of_chains))
