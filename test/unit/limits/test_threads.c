/* Eight threads at once: not one unit too many, not one lost, and none taken by who is refused. */
#include <pthread.h>

#include "help.h"
#include "test.h"

enum { THREADS = 8, USERS = 5, USER_LIMIT = 701, ALL_LIMIT = 5000, TRIES = 2500 };

struct shared {
    struct memory *memory;
    struct limits_rule all, few, user, tool;
    pthread_barrier_t barrier;
};

struct thread {
    pthread_t id;
    struct shared *shared;
    size_t number;
    size_t passed[USERS];
};

static void start(struct shared *shared, struct thread *threads, void *(*run)(void *)) {
    pthread_barrier_init(&shared->barrier, NULL, THREADS);
    for (size_t i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.shared = shared, .number = i};
        if (pthread_create(&threads[i].id, NULL, run, &threads[i]) != 0)
            CANNOT_GO_ON();
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i].id, NULL);
    pthread_barrier_destroy(&shared->barrier);
}

static size_t passed(const struct thread *threads, size_t user) {
    size_t n = 0;
    for (size_t i = 0; i < THREADS; i++)
        n += threads[i].passed[user];
    return n;
}

/* Each thread calls for all users in turn, in its own order. */
static void *call(void *context) {
    struct thread *thread = context;
    struct shared *shared = thread->shared;
    struct limits_answer answer;
    pthread_barrier_wait(&shared->barrier);
    for (size_t i = 0; i < TRIES; i++) {
        size_t user = (i + thread->number) % USERS;
        struct limits_charge charges[] = {
            {.rule = &shared->user, .subject = subject_of(user + 1)},
            {.rule = &shared->all, .subject = subject_of(0)},
            {.rule = &shared->tool, .subject = subject_of(user + 1)},
        };
        if ((thread->number & 1) != 0) {
            struct limits_charge first = charges[0];
            charges[0] = charges[1];
            charges[1] = first;
        }
        memory_take(shared->memory, charges, 3, 1000 + i / 100, &answer);
        thread->passed[user] += answer.verdict == LIMITS_PASS;
        if (i % 50 == 0)
            memory_sweep(shared->memory, 1000 + i / 100);
    }
    return NULL;
}

static void test_together(void) {
    static const struct {
        const char *name;
        uint64_t all, user, passed; /* of all, by all users */
    } rows[] = {
        {"users at their limits", ALL_LIMIT, USER_LIMIT, USERS * USER_LIMIT},
        {"all at the limit", 997, USER_LIMIT, 997},
        {"all at the limit of a rule in buckets", 3001, USER_LIMIT, 3001},
        {"users in buckets", 100000, 1100, USERS * 1100},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct shared shared = {0};
        struct thread threads[THREADS];
        size_t n = 0;
        test_row(rows[i].name);
        REQUIRE(memory_new(100, &shared.memory) == 0);
        shared.all = rule_of("all", rows[i].all, 3600000);
        shared.user = rule_of("user", rows[i].user, 3600000);
        shared.tool = rule_of("tool", 100000, 3600000);
        start(&shared, threads, call);
        for (size_t user = 0; user < USERS; user++) {
            size_t of_user = passed(threads, user);
            n += of_user;
            CHECK(of_user <= rows[i].user);
            CHECK_INT(take_all(shared.memory, &shared.user, user + 1, 2000),
                      rows[i].user - of_user);
        }
        CHECK_INT(n, rows[i].passed);
        CHECK_INT(take_all(shared.memory, &shared.all, 0, 2000), rows[i].all - n);
        memory_free(shared.memory);
    }
}

/* Subjects that nobody has seen, in a table that is too small, while others sweep. */
static void *come_new(void *context) {
    struct thread *thread = context;
    struct shared *shared = thread->shared;
    pthread_barrier_wait(&shared->barrier);
    for (uint64_t i = 0; i < 4000; i++) {
        uint64_t now = 1000 + i / 10; /* one interval is 100 of these */
        struct limits_answer answer = take_one(shared->memory, &shared->few, 1 + i % 1000, now);
        thread->passed[0] += answer.verdict == LIMITS_PASS;
        if (thread->number == 0)
            memory_sweep(shared->memory, now);
    }
    return NULL;
}

static void test_newcomers(void) {
    struct shared shared = {0};
    struct thread threads[THREADS];
    REQUIRE(memory_new(300, &shared.memory) == 0);
    shared.few = rule_of("few", 2, 3600000);
    start(&shared, threads, come_new);
    /* Nothing expires: 225 of their own, and 64 crowds. */
    CHECK(passed(threads, 0) <= (225 + 64) * 2);
    CHECK(passed(threads, 0) >= (225 + 1) * 2 - THREADS);
    CHECK(memory_n_counters(shared.memory) <= 300 + 64);
    CHECK_INT(take_all(shared.memory, &shared.few, 1000, 2000), 0);
    sweep_all(shared.memory, 4000000);
    CHECK_INT(memory_n_counters(shared.memory), 0);
    memory_free(shared.memory);
}

TEST_MAIN(TEST(test_together), TEST(test_newcomers))
