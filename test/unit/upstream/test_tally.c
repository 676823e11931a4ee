/* Two streams that tell the same while one takes over: each order in which that can be read. */
#include "tally.h"
#include "test.h"

enum {
    NOW = 1000000,
    MOST_BEFORE = 3, /* updates before the server knows of the second stream: the first alone has
                        them */
    MOST_AFTER = 4,  /* ... and after: both have them */
};

/* How far both have been read, and what was passed on. Updates are numbered from 1. */
struct state {
    struct tally tally;
    size_t n_before, n_after;      /* updates */
    size_t n_first, n_second;      /* read from each */
    bool is_acknowledged, has_end; /* the first has ended */
    bool is_calm_end;              /* ... when both had told all, a while before */
    size_t last, n_vague;          /* passed on: the last number, and how often without one */
    size_t vague_at;               /* ... the last time: how many updates had been read by then */
    char path[2 * (MOST_BEFORE + MOST_AFTER) + 4]; /* what was read, in order */
    size_t len;
};

static size_t n_ended;

static size_t seen(const struct state *state) {
    size_t second = state->n_second != 0 ? state->n_before + state->n_second : 0;
    return state->n_first > second ? state->n_first : second;
}

static void take_vague(struct state *state) {
    state->n_vague++;
    state->vague_at = seen(state);
}

static void take(struct state *state, enum tally_word word, size_t number) {
    if (word == TALLY_PERHAPS)
        take_vague(state);
    if (word != TALLY_NEWS)
        return;
    if (number <= state->last) { /* again, or an older one */
        printf("# %zu after %zu\n", number, state->last);
        test_fail(__FILE__, __LINE__, "passed on twice, or out of order");
    }
    state->last = number;
}

static void read_first(struct state *state) {
    size_t number = ++state->n_first;
    state->path[state->len++] = '1';
    if (state->is_acknowledged)
        tally_old(&state->tally, NOW);
    else
        take(state, tally_current(&state->tally, false, NOW), number);
}

static void read_second(struct state *state) {
    size_t number = state->n_before + ++state->n_second;
    state->path[state->len++] = '2';
    take(state, tally_current(&state->tally, !state->has_end, NOW), number);
}

static void acknowledge(struct state *state) {
    state->is_acknowledged = true;
    state->path[state->len++] = 'A';
    tally_turn(&state->tally, true, NOW);
}

static const struct an_end {
    char letter;
    bool is_cut;
    uint64_t later_ms; /* than all before */
} ends[] = {{'E', false, 0}, {'L', false, TALLY_LAG_MS}, {'X', true, 0}, {'Y', true, TALLY_LAG_MS}};

static void end(struct state *state, const struct an_end *how, bool all_is_read) {
    state->has_end = true;
    state->is_calm_end = all_is_read && !how->is_cut && how->later_ms != 0;
    state->path[state->len++] = how->letter;
    if (tally_end(&state->tally, how->is_cut, NOW + how->later_ms))
        take_vague(state);
}

/* The first ends some time, whatever it has told. What it alone had and has not told by then is
 * lost with it, unless the second tells something after it. */
static void check_over(const struct state *state) {
    size_t n = state->n_before + state->n_after;
    if (seen(state) == n && state->last < n && state->vague_at < n)
        test_fail(__FILE__, __LINE__, "the last update is lost");
    /* The server knew of the second one at once, and both told all: nothing is said in vain. */
    if (state->n_before == 0 && state->n_first == n && state->n_second == n && state->is_calm_end &&
        state->n_vague != 0)
        test_fail(__FILE__, __LINE__, "told without need");
    n_ended++;
}

static void walk(const struct state *from) {
    struct state state = *from;
    bool first_is_read = state.n_first == state.n_before + state.n_after;
    bool second_is_read = state.is_acknowledged && state.n_second == state.n_after;
    test_row(state.path);
    if (second_is_read && state.has_end)
        check_over(&state);
    if (!first_is_read && !state.has_end) {
        read_first(&state);
        walk(&state);
        state = *from;
    }
    if (!state.is_acknowledged) {
        acknowledge(&state);
        walk(&state);
        return;
    }
    if (!second_is_read) {
        read_second(&state);
        walk(&state);
        state = *from;
    }
    for (size_t how = 0; how < ARRAY_LEN(ends) && !state.has_end; how++) {
        /* By then all was read that comes at all: of one that is cut, the rest does not. */
        if (ends[how].later_ms != 0 && !(second_is_read && (first_is_read || ends[how].is_cut)))
            continue;
        end(&state, &ends[how], first_is_read && second_is_read);
        walk(&state);
        state = *from;
    }
}

static void test_orders(void) {
    for (size_t n_before = 0; n_before <= MOST_BEFORE; n_before++) {
        for (size_t n_after = 0; n_after <= MOST_AFTER; n_after++) {
            struct state state = {.n_before = n_before, .n_after = n_after};
            tally_ask(&state.tally);
            walk(&state);
        }
    }
    test_row("");
    CHECK(n_ended > 1000);
}

/* Calm: what one of both alone told is nothing that the other one has to tell. */
static void test_calm(void) {
    struct tally tally = {0};
    uint64_t now = NOW;
    tally_ask(&tally);
    CHECK_INT(tally_current(&tally, false, now), TALLY_NEWS);
    tally_turn(&tally, true, now + TALLY_LAG_MS - 1);
    CHECK_INT(tally_current(&tally, true, now + TALLY_LAG_MS - 1), TALLY_COPY);
    CHECK_INT(tally_current(&tally, true, now + TALLY_LAG_MS - 1), TALLY_NEWS);
    tally_ask(&tally);
    CHECK_INT(tally_current(&tally, false, now), TALLY_NEWS);
    tally_turn(&tally, true, now + TALLY_LAG_MS);
    CHECK_INT(tally_current(&tally, true, now + TALLY_LAG_MS), TALLY_NEWS);
    /* Also where the time passes after the acknowledgement. */
    tally_ask(&tally);
    now += TALLY_LAG_MS;
    CHECK_INT(tally_current(&tally, false, now), TALLY_NEWS);
    tally_turn(&tally, true, now);
    CHECK_INT(tally_current(&tally, true, now + TALLY_LAG_MS), TALLY_NEWS);
    /* Only the second of these may come again. */
    tally_ask(&tally);
    CHECK_INT(tally_current(&tally, false, now), TALLY_NEWS);
    now += TALLY_LAG_MS;
    CHECK_INT(tally_current(&tally, false, now), TALLY_NEWS);
    tally_turn(&tally, true, now);
    CHECK_INT(tally_current(&tally, true, now), TALLY_COPY);
    CHECK_INT(tally_current(&tally, true, now), TALLY_NEWS);
    /* A request that came to nothing, and another one. */
    tally_ask(&tally);
    CHECK_INT(tally_current(&tally, false, now), TALLY_NEWS);
    tally_ask(&tally);
    tally_turn(&tally, true, now);
    CHECK_INT(tally_current(&tally, true, now), TALLY_NEWS);
}

/* What was taken for a copy, and what only the old one told. */
static void test_end(void) {
    static const struct {
        const char *name;
        bool is_held;
        uint64_t later_ms;
        bool is_cut, is_lacking;
    } rows[] = {
        {"soon", false, TALLY_LAG_MS - 1, false, true},
        {"later", false, TALLY_LAG_MS, false, false},
        {"cut later", false, TALLY_LAG_MS, true, true},
        {"held", true, TALLY_LAG_MS, false, true},
        {"held and cut", true, TALLY_LAG_MS, true, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tally tally = {0};
        uint64_t end = NOW + rows[i].later_ms;
        test_row(rows[i].name);
        CHECK_INT(tally_current(&tally, false, NOW), TALLY_NEWS);
        tally_turn(&tally, true, NOW);
        if (rows[i].is_held)
            tally_old(&tally, NOW);
        else
            CHECK_INT(tally_current(&tally, true, NOW), TALLY_COPY);
        CHECK_INT(tally_end(&tally, rows[i].is_cut, end), rows[i].is_lacking);
        CHECK(!tally_end(&tally, rows[i].is_cut, end));
    }
    test_row("");
    struct tally tally = {0};
    CHECK_INT(tally_current(&tally, false, NOW), TALLY_NEWS);
    tally_turn(&tally, true, NOW);
    CHECK(!tally_end(&tally, false, NOW));
    CHECK_INT(tally_current(&tally, false, NOW), TALLY_PERHAPS);
    CHECK_INT(tally_current(&tally, false, NOW), TALLY_NEWS);
    /* What comes after it makes up for it. */
    tally_turn(&tally, true, NOW);
    CHECK_INT(tally_current(&tally, true, NOW), TALLY_COPY);
    CHECK_INT(tally_current(&tally, true, NOW), TALLY_NEWS);
    tally_old(&tally, NOW);
    CHECK(!tally_end(&tally, true, NOW));
    /* A child's one ends at once: what it told before the acknowledgement was before it. */
    tally_turn(&tally, false, NOW);
    CHECK_INT(tally_current(&tally, false, NOW), TALLY_NEWS);
}

TEST_MAIN(TEST(test_orders), TEST(test_calm), TEST(test_end))
