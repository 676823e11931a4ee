/*
 * A million arrivals over simulated time against a naive account of what has passed: random rules,
 * several charges together, bursts, long idle times, clocks that wrap 32 bits, sweeps and reloads
 * in between.
 */
#include "help.h"
#include "test.h"

enum { RULES = 5, SUBJECTS = 4, ARRIVALS = 8000, PASSED = 8 * ARRIVALS, ROUNDS = 130 };

/* When units of one rule and subject passed, in order. */
struct account {
    uint64_t *times;
    size_t n;
};

struct world {
    struct memory *memory;
    struct limits_rule rules[RULES];
    struct account accounts[RULES][SUBJECTS];
    uint64_t state, now;
    size_t favourite; /* subject */
    bool is_loose;    /* only that nothing passes which must not */
};

struct arrival {
    struct limits_charge charges[LIMIT_RATE_LEVELS];
    size_t rules[LIMIT_RATE_LEVELS], subjects[LIMIT_RATE_LEVELS];
    size_t n;
};

static const char *const ids[RULES] = {"global", "server:a", "server:a:tool:t", "user", "ip"};

/* How many passed at that time or later. */
static uint64_t since(const struct account *account, uint64_t time) {
    size_t low = 0, high = account->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (account->times[middle] < time)
            low = middle + 1;
        else
            high = middle;
    }
    return account->n - low;
}

static uint64_t minus(uint64_t a, uint64_t b) {
    return a > b ? a - b : 0;
}

static uint64_t units_of(const struct arrival *arrival, size_t i) {
    uint64_t units = 0;
    for (size_t k = 0; k < arrival->n; k++)
        units +=
            arrival->rules[k] == arrival->rules[i] && arrival->subjects[k] == arrival->subjects[i];
    return units;
}

/* Until the charge may pass: by the book, and with units that come back late. */
static uint64_t wait_of(const struct world *world, const struct arrival *arrival, size_t i) {
    const struct config_limit *limit = &world->rules[arrival->rules[i]].limit;
    const struct account *account = &world->accounts[arrival->rules[i]][arrival->subjects[i]];
    uint64_t units = units_of(arrival, i);
    if (units > limit->limit)
        return limit->limit == 0 ? limit->interval_ms : limit->interval_ms + 1;
    uint64_t counted = since(account, minus(world->now, limit->interval_ms));
    if (counted + units <= limit->limit)
        return 0;
    uint64_t last = account->times[account->n - (limit->limit - units) - 1];
    return last + limit->interval_ms + 1 - world->now;
}

static bool is_exact(const struct limits_rule *rule) {
    return rule->limit.limit <= LIMIT_RATE_EXACT;
}

static uint64_t late_ms(const struct limits_rule *rule) {
    return is_exact(rule) ? 0 : rule->limit.interval_ms / 100;
}

static void charge(struct world *world, struct arrival *arrival, size_t rule, size_t subject) {
    arrival->rules[arrival->n] = rule;
    arrival->subjects[arrival->n] = subject;
    arrival->charges[arrival->n++] = (struct limits_charge){
        .rule = &world->rules[rule],
        .subject = subject_of(subject),
    };
}

/* Half of them are batches of the one rule and subject that is used most. */
static void draw_arrival(struct world *world, struct arrival *arrival) {
    size_t most = draw(&world->state, 4) == 0 ? LIMIT_RATE_LEVELS : 3;
    size_t n = 1 + draw(&world->state, most);
    arrival->n = 0;
    if (draw(&world->state, 2) == 0)
        for (size_t i = 0; i < LIMIT_RATE_LEVELS; i++)
            charge(world, arrival, 0, world->favourite);
    else
        for (size_t i = 0; i < n; i++)
            charge(world, arrival, draw(&world->state, RULES), draw(&world->state, SUBJECTS));
}

/* What the book says about an answer. */
static void check(const struct world *world, const struct arrival *arrival,
                  const struct limits_answer *answer) {
    uint64_t least = 0, most = 0, of_charge = 0;
    for (size_t i = 0; i < arrival->n; i++) {
        const struct limits_rule *rule = &world->rules[arrival->rules[i]];
        uint64_t wait_ms = wait_of(world, arrival, i);
        uint64_t upper = wait_ms + late_ms(rule);
        least = wait_ms > least ? wait_ms : least;
        most = upper > most ? upper : most;
        if (i == answer->charge)
            of_charge = upper;
    }
    if (answer->verdict == LIMITS_PASS) {
        CHECK_INT(least, 0); /* never more than the limit */
        return;
    }
    CHECK_INT(answer->verdict, LIMITS_EXCEEDED);
    CHECK(answer->wait_ms >= 1);
    CHECK(answer->charge < arrival->n);
    CHECK(answer->wait_ms >= least);
    if (world->is_loose)
        return;
    CHECK(most > 0);
    CHECK(answer->wait_ms <= most);
    CHECK(answer->wait_ms <= of_charge);
}

static enum limits_verdict arrive(struct world *world, const struct arrival *arrival,
                                  struct limits_answer *ret_answer) {
    memory_take(world->memory, arrival->charges, arrival->n, world->now, ret_answer);
    check(world, arrival, ret_answer);
    for (size_t i = 0; i < arrival->n && ret_answer->verdict == LIMITS_PASS; i++) {
        struct account *account = &world->accounts[arrival->rules[i]][arrival->subjects[i]];
        account->times[account->n++] = world->now;
    }
    return ret_answer->verdict;
}

static uint64_t draw_interval(uint64_t *state) {
    static const uint64_t some[] = {1,    2,     100,   127,     128,      129,
                                    255,  256,   257,   1000,    1001,     60000,
                                    9999, 60000, 86399, 3600000, 86400000, LIMIT_RATE_INTERVAL_MS};
    return draw(state, 3) == 0 ? 1 + draw(state, 100000) : some[draw(state, ARRAY_LEN(some))];
}

static uint64_t draw_limit(uint64_t *state) {
    static const uint64_t some[] = {0, 1, 1, 2, 3, 4, 5, 10, 12, 13, 25, 100, 999, 1000};
    return draw(state, 4) == 0 ? 1001 + draw(state, 700) : some[draw(state, ARRAY_LEN(some))];
}

static void pass_time(struct world *world) {
    const struct config_limit *limit = &world->rules[draw(&world->state, RULES)].limit;
    uint64_t interval = limit->interval_ms;
    switch (draw(&world->state, 200)) {
    case 0:
        world->now += interval - 1;
        return;
    case 1:
        world->now += interval;
        return;
    case 2:
        world->now += interval + 1;
        return;
    case 3:
        world->now += draw(&world->state, interval);
        return;
    case 4:
        if (draw(&world->state, 10) == 0)
            world->now += (UINT64_C(1) << 32) - draw(&world->state, 3);
        else if (draw(&world->state, 10) == 0)
            world->now += 256 * limits_width_ms(limit);
        return;
    default:
        if (draw(&world->state, 3) == 0)
            world->now += draw(&world->state, interval / (limit->limit + 1) + 2);
    }
}

/* Another limit, of the same kind or not; perhaps another interval. */
static void reload(struct world *world, bool crosses) {
    size_t i = draw(&world->state, RULES);
    struct config_limit limit = world->rules[i].limit;
    bool was_exact = is_exact(&world->rules[i]);
    do
        limit.limit = draw_limit(&world->state);
    while (!crosses && (limit.limit <= LIMIT_RATE_EXACT) != was_exact);
    if (crosses && draw(&world->state, 2) == 0)
        limit.interval_ms -= draw(&world->state, limit.interval_ms / 10 + 1);
    limits_rule_init(&world->rules[i], slice_from_cstr(ids[i]), limit);
    /* No more than that is remembered on the way. */
    for (size_t k = 0; k < SUBJECTS && !was_exact && is_exact(&world->rules[i]); k++) {
        struct account *account = &world->accounts[i][k];
        if (account->n <= LIMIT_RATE_EXACT)
            continue;
        size_t left_out = account->n - LIMIT_RATE_EXACT;
        memmove(account->times, account->times + left_out,
                LIMIT_RATE_EXACT * sizeof account->times[0]);
        account->n = LIMIT_RATE_EXACT;
    }
}

/* After the wait it passes, one millisecond before it does not. */
static size_t check_wait(struct world *world, const struct arrival *arrival, uint64_t wait_ms) {
    struct limits_answer answer;
    uint64_t from = world->now;
    for (size_t i = 0; i < arrival->n; i++)
        if (units_of(arrival, i) > world->rules[arrival->rules[i]].limit.limit)
            return 0;
    if (wait_ms > 1) {
        world->now = from + wait_ms - 1;
        CHECK_INT(arrive(world, arrival, &answer), LIMITS_EXCEEDED);
        CHECK_INT(answer.wait_ms, 1);
    }
    world->now = from + wait_ms;
    CHECK_INT(arrive(world, arrival, &answer), LIMITS_PASS);
    return 2;
}

struct mode {
    size_t max_counters;
    bool reloads, crosses;
};

static size_t run(uint64_t seed, const struct mode *mode) {
    static const uint64_t starts[] = {0, 1, 5000, 4294960000, 4294967295, 8589934000, 1u << 31};
    static uint64_t times[RULES][SUBJECTS][PASSED];
    struct world world = {.state = seed * 0x9e3779b97f4a7c15 + 1};
    struct arrival arrival;
    struct limits_answer answer;
    size_t n_refused = 0;
    world.is_loose = mode->crosses || mode->max_counters < LIMIT_COUNTERS;
    world.now = starts[draw(&world.state, ARRAY_LEN(starts))];
    world.favourite = draw(&world.state, SUBJECTS);
    for (size_t i = 0; i < RULES; i++) {
        world.rules[i] = rule_of(ids[i], draw_limit(&world.state), draw_interval(&world.state));
        for (size_t k = 0; k < SUBJECTS; k++)
            world.accounts[i][k].times = times[i][k];
    }
    if (seed % 2 == 0) /* the favourite is counted in buckets */
        world.rules[0] =
            rule_of(ids[0], 1001 + draw(&world.state, 700), draw_interval(&world.state));
    if (memory_new(mode->max_counters, &world.memory) != 0)
        CANNOT_GO_ON();
    for (size_t i = 0; i < ARRIVALS && test_failures == 0; i++) {
        pass_time(&world);
        draw_arrival(&world, &arrival);
        if (arrive(&world, &arrival, &answer) == LIMITS_EXCEEDED) {
            n_refused++;
            if (draw(&world.state, 8) == 0 && !mode->reloads && mode->max_counters > SUBJECTS)
                i += check_wait(&world, &arrival, answer.wait_ms);
        }
        if (draw(&world.state, 50) == 0)
            memory_sweep(world.memory, world.now);
        if (mode->reloads && draw(&world.state, 500) == 0)
            reload(&world, mode->crosses);
    }
    memory_free(world.memory);
    return n_refused;
}

static void run_all(size_t rounds, const struct mode *mode) {
    size_t n_refused = 0;
    for (size_t i = 0; i < rounds && test_failures == 0; i++) {
        char row[32];
        snprintf(row, sizeof row, "round %zu", i);
        test_row(row);
        n_refused += run(i + 1, mode);
    }
    test_row("");
    CHECK(n_refused > rounds * ARRIVALS / 20); /* it is about limits, and not */
    CHECK(n_refused < rounds * ARRIVALS);      /* about what never passes */
}

static void test_limits(void) {
    run_all(ROUNDS, &(struct mode){.max_counters = LIMIT_COUNTERS});
}

static void test_reloads_of_limits(void) {
    run_all(ROUNDS / 4, &(struct mode){.max_counters = LIMIT_COUNTERS, .reloads = true});
}

static void test_reloads_across_kinds(void) {
    run_all(ROUNDS / 4,
            &(struct mode){.max_counters = LIMIT_COUNTERS, .reloads = true, .crosses = true});
}

/* Room for some of the counters: the rest goes to the crowd's and comes back, and never anything
 * passes that must not. */
static void test_little_room(void) {
    run_all(ROUNDS / 8, &(struct mode){.max_counters = 2});
    run_all(ROUNDS / 8, &(struct mode){.max_counters = 4, .reloads = true});
}

TEST_MAIN(TEST(test_limits), TEST(test_reloads_of_limits), TEST(test_reloads_across_kinds),
          TEST(test_little_room))
