/* The circuit breaker as a state machine: rows of what happens when, and what it says then. */
#include "breaker.h"
#include "test.h"

enum { COOLDOWN = 1000 };

/* What happens; the digit is the slot of the ticket that it is about. */
enum what {
    END,
    ADMIT,       /* a call asks; it is let through */
    PROBE,       /* likewise, as the probe */
    REFUSED,     /* a call asks; it is not */
    FINE,        /* the call of the slot was answered */
    FAIL,        /* ... got no answer */
    UNREACHED,   /* ... did not reach the server */
    CANCEL,      /* ... ended without a verdict */
    START_FAILS, /* no call's */
    CRASH,
    START,
    ALLOWED, /* the waiting call of the slot may be sent */
    NOT_ALLOWED,
    OPENS,
    CLOSES,
    STAYS, /* what the last step changed */
    IS_CLOSED,
    IS_OPEN,
    IS_HALF_OPEN,
    FAILURES, /* .at: in a row */
    WAIT,     /* .at: until a call is let through */
};

struct step {
    enum what what;
    unsigned slot;
    uint64_t at; /* the time; 0: as before */
};

static const struct row {
    const char *name;
    uint64_t threshold;
    struct step steps[40];
} rows[] = {
    {"below the threshold it stays closed",
     3,
     {{ADMIT, 0, 1},
      {FAIL, 0, 0},
      {STAYS, 0, 0},
      {ADMIT, 0, 0},
      {FAIL, 0, 0},
      {STAYS, 0, 0},
      {IS_CLOSED, 0, 0},
      {FAILURES, 0, 2},
      {WAIT, 0, 0},
      {ADMIT, 0, 0},
      {ALLOWED, 0, 0}}},
    {"at the threshold it opens",
     3,
     {{ADMIT, 0, 1},
      {FAIL, 0, 0},
      {ADMIT, 0, 0},
      {FAIL, 0, 0},
      {ADMIT, 0, 0},
      {FAIL, 0, 5},
      {OPENS, 0, 0},
      {IS_OPEN, 0, 0},
      {FAILURES, 0, 3},
      {WAIT, 0, COOLDOWN},
      {REFUSED, 0, 0},
      {IS_OPEN, 0, 0}}},
    {"a threshold of 1", 1, {{ADMIT, 0, 1}, {FAIL, 0, 0}, {OPENS, 0, 0}, {REFUSED, 0, 0}}},
    {"a threshold of 0 never opens, but counts",
     0,
     {{ADMIT, 0, 1},
      {FAIL, 0, 0},
      {ADMIT, 0, 0},
      {FAIL, 0, 0},
      {ADMIT, 0, 0},
      {FAIL, 0, 0},
      {STAYS, 0, 0},
      {CRASH, 0, 0},
      {STAYS, 0, 0},
      {FAILURES, 0, 4},
      {START_FAILS, 0, 0},
      {START, 0, 0},
      {STAYS, 0, 0},
      {FAILURES, 0, 4},
      {ADMIT, 0, 0},
      {FINE, 0, 0},
      {FAILURES, 0, 0}}},
    {"an answer ends the row",
     2,
     {{ADMIT, 0, 1},
      {FAIL, 0, 0},
      {ADMIT, 0, 0},
      {FINE, 0, 0},
      {FAILURES, 0, 0},
      {ADMIT, 0, 0},
      {FAIL, 0, 0},
      {STAYS, 0, 0},
      {IS_CLOSED, 0, 0}}},
    {"what is cancelled counts for nothing, and ends no row",
     2,
     {{ADMIT, 0, 1},
      {FAIL, 0, 0},
      {ADMIT, 0, 0},
      {CANCEL, 0, 0},
      {STAYS, 0, 0},
      {FAILURES, 0, 1},
      {ADMIT, 0, 0},
      {FAIL, 0, 0},
      {OPENS, 0, 0}}},
    {"of calls side by side",
     2,
     {{ADMIT, 0, 1},
      {ADMIT, 1, 0},
      {ADMIT, 2, 0},
      {FAIL, 0, 0},
      {FAIL, 1, 0},
      {OPENS, 0, 0},
      {FAIL, 2, 0},
      {STAYS, 0, 0},
      {FAILURES, 0, 2}}},
    {"the cooldown to its last millisecond",
     1,
     {{ADMIT, 0, 1},
      {FAIL, 0, 0},
      {REFUSED, 0, COOLDOWN},
      {WAIT, 0, 1},
      {IS_OPEN, 0, 0},
      {PROBE, 0, COOLDOWN + 1},
      {IS_HALF_OPEN, 0, 0},
      {WAIT, 0, 0}}},
    {"one probe, and no second one beside it",
     1,
     {{ADMIT, 0, 1},
      {FAIL, 0, 0},
      {PROBE, 0, 2000},
      {REFUSED, 0, 0},
      {REFUSED, 0, 900000},
      {ALLOWED, 0, 0}}},
    {"the probe is answered",
     2,
     {{ADMIT, 0, 1},
      {FAIL, 0, 0},
      {ADMIT, 0, 0},
      {FAIL, 0, 0},
      {PROBE, 0, 2000},
      {FINE, 0, 0},
      {CLOSES, 0, 0},
      {FAILURES, 0, 0},
      {ADMIT, 0, 0},
      {ADMIT, 1, 0},
      {FAIL, 0, 0},
      {STAYS, 0, 0},
      {FAIL, 1, 0},
      {OPENS, 0, 0},
      {WAIT, 0, COOLDOWN}}},
    {"the probe fails: the pause doubles, up to ten cooldowns",
     1,
     {{ADMIT, 0, 1},           {FAIL, 0, 0},        {WAIT, 0, COOLDOWN},
      {PROBE, 0, 10000},       {FAIL, 0, 0},        {OPENS, 0, 0},
      {WAIT, 0, 2 * COOLDOWN}, {REFUSED, 0, 11999}, {PROBE, 0, 20000},
      {UNREACHED, 0, 0},       {OPENS, 0, 0},       {WAIT, 0, 4 * COOLDOWN},
      {PROBE, 0, 30000},       {FAIL, 0, 0},        {WAIT, 0, 8 * COOLDOWN},
      {PROBE, 0, 40000},       {FAIL, 0, 0},        {WAIT, 0, 10 * COOLDOWN},
      {PROBE, 0, 60000},       {FAIL, 0, 0},        {WAIT, 0, 10 * COOLDOWN},
      {FAILURES, 0, 6},        {PROBE, 0, 80000},   {FINE, 0, 0},
      {CLOSES, 0, 0},          {ADMIT, 0, 0},       {FAIL, 0, 0},
      {OPENS, 0, 0},           {WAIT, 0, COOLDOWN}}},
    {"a cancelled probe is handed on at once",
     1,
     {{ADMIT, 0, 1},
      {FAIL, 0, 0},
      {PROBE, 0, 2000},
      {REFUSED, 0, 0},
      {CANCEL, 0, 0},
      {STAYS, 0, 0},
      {IS_HALF_OPEN, 0, 0},
      {PROBE, 1, 0},
      {REFUSED, 0, 0},
      {FINE, 1, 0},
      {CLOSES, 0, 0}}},
    {"what was let through before it opened says nothing later",
     2,
     {{ADMIT, 0, 1},
      {ADMIT, 1, 0},
      {ADMIT, 2, 0},
      {ADMIT, 3, 0},
      {FAIL, 0, 0},
      {FAIL, 1, 0},
      {OPENS, 0, 0},
      {FINE, 2, 0},
      {STAYS, 0, 0},
      {IS_OPEN, 0, 0},
      {PROBE, 4, 5000},
      {FAIL, 3, 0},
      {STAYS, 0, 0},
      {IS_HALF_OPEN, 0, 0},
      {REFUSED, 0, 0},
      {FINE, 4, 0},
      {CLOSES, 0, 0}}},
    {"nor a round later",
     1,
     {{ADMIT, 0, 1},
      {ADMIT, 1, 0},
      {FAIL, 0, 0},
      {PROBE, 2, 5000},
      {FINE, 2, 0},
      {CLOSES, 0, 0},
      {FAIL, 1, 0},
      {STAYS, 0, 0},
      {FAILURES, 0, 0},
      {IS_CLOSED, 0, 0}}},
    {"a call that waits when it opens is not to be sent, the probe is",
     1,
     {{ADMIT, 0, 1},
      {ADMIT, 1, 0},
      {ALLOWED, 1, 0},
      {FAIL, 0, 0},
      {NOT_ALLOWED, 1, 0},
      {PROBE, 2, 5000},
      {NOT_ALLOWED, 1, 0},
      {ALLOWED, 2, 0},
      {FINE, 2, 0},
      {ALLOWED, 1, 0}}},
    {"starts that fail open it, one that succeeds closes it",
     3,
     {{START_FAILS, 0, 1},
      {START_FAILS, 0, 0},
      {STAYS, 0, 0},
      {START_FAILS, 0, 0},
      {OPENS, 0, 0},
      {REFUSED, 0, 0},
      {START_FAILS, 0, 0},
      {STAYS, 0, 0},
      {WAIT, 0, COOLDOWN},
      {START, 0, 0},
      {CLOSES, 0, 0},
      {FAILURES, 0, 0},
      {ADMIT, 0, 0}}},
    {"a start takes back starts and connections, not what calls suffered",
     3,
     {{ADMIT, 0, 1},    {FAIL, 0, 0},  {START_FAILS, 0, 0}, {START, 0, 0},    {STAYS, 0, 0},
      {FAILURES, 0, 1}, {ADMIT, 0, 0}, {UNREACHED, 0, 0},   {FAILURES, 0, 2}, {START, 0, 0},
      {FAILURES, 0, 1}, {CRASH, 0, 0}, {START, 0, 0},       {FAILURES, 0, 2}, {ADMIT, 0, 0},
      {FAIL, 0, 0},     {OPENS, 0, 0}, {START, 0, 0},       {STAYS, 0, 0},    {IS_OPEN, 0, 0}}},
    {"open through crashes, and one start that failed",
     3,
     {{CRASH, 0, 1},
      {CRASH, 0, 0},
      {START_FAILS, 0, 0},
      {OPENS, 0, 0},
      {START, 0, 0},
      {CLOSES, 0, 0},
      {FAILURES, 0, 2},
      {CRASH, 0, 0},
      {OPENS, 0, 0}}},
    {"a start while the probe is out: it is closed, the probe says nothing more",
     1,
     {{START_FAILS, 0, 1},
      {OPENS, 0, 0},
      {PROBE, 0, 5000},
      {START, 0, 0},
      {CLOSES, 0, 0},
      {ALLOWED, 0, 0},
      {FAIL, 0, 0},
      {STAYS, 0, 0},
      {IS_CLOSED, 0, 0},
      {FAILURES, 0, 0}}},
    {"a start says nothing of a server whose probe failed at a call",
     1,
     {{START_FAILS, 0, 1},
      {PROBE, 0, 5000},
      {FAIL, 0, 0},
      {OPENS, 0, 0},
      {START, 0, 0},
      {STAYS, 0, 0},
      {IS_OPEN, 0, 0}}},
    {"no call's failures do not end a probe",
     1,
     {{CRASH, 0, 1},
      {OPENS, 0, 0},
      {PROBE, 0, 5000},
      {CRASH, 0, 0},
      {STAYS, 0, 0},
      {START_FAILS, 0, 0},
      {STAYS, 0, 0},
      {IS_HALF_OPEN, 0, 0},
      {FINE, 0, 0},
      {CLOSES, 0, 0}}},
    {"another loop's clock is behind",
     1,
     {{ADMIT, 0, 5000}, {FAIL, 0, 0}, {REFUSED, 0, 4990}, {WAIT, 0, COOLDOWN + 10}}},
};

static enum breaker_change settle(struct breaker *breaker, struct breaker_ticket ticket,
                                  enum what what, uint64_t now) {
    return breaker_settle(breaker, ticket,
                          what == FINE        ? BREAKER_FINE
                          : what == FAIL      ? BREAKER_FAILED
                          : what == UNREACHED ? BREAKER_UNREACHABLE
                                              : BREAKER_NOTHING,
                          now);
}

static void admit(struct breaker *breaker, struct breaker_ticket *ticket, enum what what,
                  uint64_t now) {
    struct breaker_ticket untouched = {.round = 77}, got = untouched;
    bool is_let_through = breaker_admit(breaker, now, &got);
    CHECK_INT(is_let_through, what != REFUSED);
    CHECK_INT(got.is_probe, what == PROBE);
    if (is_let_through)
        *ticket = got;
    else
        CHECK_INT(got.round, untouched.round);
}

static void check(const struct breaker *breaker, const struct step *step,
                  enum breaker_change change, struct breaker_ticket ticket, uint64_t now) {
    switch ((int)step->what) {
    case ALLOWED:
    case NOT_ALLOWED:
        CHECK_INT(breaker_allows(breaker, ticket), step->what == ALLOWED);
        return;
    case OPENS:
        CHECK_INT(change, BREAKER_HAS_OPENED);
        return;
    case CLOSES:
        CHECK_INT(change, BREAKER_HAS_CLOSED);
        return;
    case STAYS:
        CHECK_INT(change, BREAKER_AS_BEFORE);
        return;
    case IS_CLOSED:
    case IS_OPEN:
    case IS_HALF_OPEN:
        CHECK_INT(breaker->state, step->what - IS_CLOSED);
        return;
    case FAILURES:
        CHECK_INT(breaker_failures(breaker), step->at);
        return;
    case WAIT:
        CHECK_INT(breaker_wait_ms(breaker, now), step->at);
        return;
    default:
        test_fail(__FILE__, __LINE__, "no such step");
    }
}

static void run(const struct row *row) {
    struct breaker breaker;
    struct breaker_ticket tickets[8] = {{0}};
    enum breaker_change change = BREAKER_AS_BEFORE;
    uint64_t now = 0;
    breaker_init(&breaker, row->threshold, COOLDOWN);
    for (const struct step *step = row->steps; step->what != END; step++) {
        struct breaker_ticket *ticket = &tickets[step->slot];
        if (step->what < OPENS && step->at != 0)
            now = step->at;
        switch ((int)step->what) {
        case ADMIT:
        case PROBE:
        case REFUSED:
            admit(&breaker, ticket, step->what, now);
            break;
        case FINE:
        case FAIL:
        case UNREACHED:
        case CANCEL:
            change = settle(&breaker, *ticket, step->what, now);
            break;
        case START_FAILS:
            change = breaker_blame(&breaker, BREAKER_UNREACHABLE, now);
            break;
        case CRASH:
            change = breaker_blame(&breaker, BREAKER_FAILED, now);
            break;
        case START:
            change = breaker_started(&breaker);
            break;
        default:
            check(&breaker, step, change, *ticket, now);
        }
    }
}

static void test_rows(void) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        run(&rows[i]);
    }
}

static void test_blaming_nobody(void) {
    struct breaker breaker;
    breaker_init(&breaker, 1, COOLDOWN);
    CHECK_INT(breaker_blame(&breaker, BREAKER_NOTHING, 1), BREAKER_AS_BEFORE);
    CHECK_INT(breaker_blame(&breaker, BREAKER_FINE, 1), BREAKER_AS_BEFORE);
    CHECK_INT(breaker_failures(&breaker), 0);
}

/* The clock near its end, and the longest cooldown that can be configured. */
static void test_time_does_not_wrap(void) {
    struct breaker breaker;
    struct breaker_ticket ticket;
    uint64_t day = 24u * 60 * 60 * 1000;
    breaker_init(&breaker, 1, day);
    CHECK_INT(breaker_blame(&breaker, BREAKER_FAILED, UINT64_MAX - 5), BREAKER_HAS_OPENED);
    CHECK(!breaker_admit(&breaker, UINT64_MAX - 1, &ticket));
    breaker_init(&breaker, 1, day);
    uint64_t now = 1;
    CHECK_INT(breaker_blame(&breaker, BREAKER_FAILED, now), BREAKER_HAS_OPENED);
    for (int i = 0; i < 100; i++) {
        now += breaker_wait_ms(&breaker, now);
        REQUIRE(breaker_admit(&breaker, now, &ticket));
        CHECK_INT(breaker_settle(&breaker, ticket, BREAKER_FAILED, now), BREAKER_HAS_OPENED);
        CHECK(breaker_wait_ms(&breaker, now) <= day * BREAKER_MOST_PAUSES);
    }
}

/* Whatever happens: closed lets all through, half open one at a time, and it can always recover. */
static void test_random_walk(void) {
    uint64_t seed = 12345;
    for (unsigned round = 0; round < 200; round++) {
        struct breaker breaker;
        struct breaker_ticket tickets[64];
        size_t n_tickets = 0;
        uint64_t now = 1;
        breaker_init(&breaker, round % 5, 100);
        for (unsigned i = 0; i < 2000; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            unsigned dice = (unsigned)(seed >> 33);
            now += dice % 40;
            enum breaker_verdict verdict = (enum breaker_verdict)(dice / 64 % 4);
            if (dice % 3 == 0 && n_tickets < ARRAY_LEN(tickets)) {
                enum breaker_state before = breaker.state;
                bool is_let_through = breaker_admit(&breaker, now, &tickets[n_tickets]);
                if (before == BREAKER_CLOSED)
                    CHECK(is_let_through && !tickets[n_tickets].is_probe);
                n_tickets += is_let_through;
            } else if (dice % 3 == 1 && n_tickets != 0) {
                size_t at = dice / 3 % n_tickets;
                breaker_settle(&breaker, tickets[at], verdict, now);
                tickets[at] = tickets[--n_tickets];
            } else if (dice % 7 == 0) {
                breaker_started(&breaker);
            } else if (dice % 7 == 1) {
                breaker_blame(&breaker, verdict, now);
            }
            size_t n_probes = 0;
            for (size_t k = 0; k < n_tickets; k++)
                n_probes += tickets[k].is_probe && tickets[k].round == breaker.round;
            CHECK_INT(n_probes, breaker.is_probing);
            CHECK(!breaker.is_probing || breaker.state == BREAKER_HALF_OPEN);
            if (breaker.state == BREAKER_OPEN)
                CHECK(breaker_failures(&breaker) >= breaker.threshold && breaker.threshold != 0);
        }
        while (n_tickets != 0)
            breaker_settle(&breaker, tickets[--n_tickets], BREAKER_NOTHING, now);
        struct breaker_ticket last;
        now += 100 * BREAKER_MOST_PAUSES;
        REQUIRE(breaker_admit(&breaker, now, &last));
        breaker_settle(&breaker, last, BREAKER_FINE, now);
        CHECK_INT(breaker.state, BREAKER_CLOSED);
    }
}

TEST_MAIN(TEST(test_rows), TEST(test_blaming_nobody), TEST(test_time_does_not_wrap),
          TEST(test_random_walk))
