/* Who waits for a slot, who is next; and the counts when many threads come, leave and give up. */
#include "admission.h"
#include "base/buf.h"
#include "test.h"

struct waiter {
    char name;
    struct admission_ticket ticket;
};

static void wait_in(struct admission *admission, struct waiter *waiter, char name, uint64_t flow) {
    *waiter = (struct waiter){.name = name};
    CHECK(!admission_enter(admission));
    CHECK(!admission_wait(admission, &waiter->ticket, flow));
}

/* One that runs leaves; the name of who runs instead, '-': nobody. */
static char leave(struct admission *admission) {
    if (!admission_leave(admission))
        return '-';
    struct admission_ticket *ticket = admission_next(admission);
    return ticket != NULL ? CONTAINER_OF(ticket, struct waiter, ticket)->name : '-';
}

static void fill(struct admission *admission, size_t max) {
    admission_init(admission, max);
    for (size_t i = 0; i < max; i++)
        CHECK(admission_enter(admission));
}

static void check_empty(struct admission *admission) {
    CHECK_INT(atomic_load(&admission->count), 0);
    CHECK_INT(admission->owed, 0);
    CHECK_INT(admission->n_waiting, 0);
    CHECK_INT(admission->flows.count, 0);
    CHECK(list_is_empty(&admission->fresh));
    CHECK(list_is_empty(&admission->served));
    admission_deinit(admission);
}

static void test_limit(void) {
    struct admission admission;
    struct waiter waiter;
    fill(&admission, 32);
    wait_in(&admission, &waiter, 'a', 1);
    CHECK_INT(leave(&admission), 'a');
    for (size_t i = 0; i < 32; i++)
        CHECK_INT(leave(&admission), '-');
    check_empty(&admission);
}

/* Letters are flows; in which order their requests run when they came in the order of `came`. */
static void test_turns(void) {
    static const struct {
        const char *came, *ran;
    } rows[] = {
        {"aaa", "aaa"},
        {"ab", "ab"},
        {"aaabbb", "aababb"},       /* new and old ones in turn */
        {"aaaaabc", "aabacaa"},     /* who asks once waits for one other */
        {"aaaabbbb", "aabababb"},   /* all old: round and round */
        {"aaaabbbbc", "aabacbabb"}, /* between them */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct admission admission;
        struct waiter waiters[16];
        size_t n = strlen(rows[i].came);
        char ran[17] = {0};
        test_row(rows[i].came);
        fill(&admission, 1);
        for (size_t k = 0; k < n; k++)
            wait_in(&admission, &waiters[k], rows[i].came[k], (uint64_t)rows[i].came[k]);
        for (size_t k = 0; k < n; k++)
            ran[k] = leave(&admission);
        CHECK_STR(slice_from_cstr(ran), rows[i].ran);
        CHECK_INT(leave(&admission), '-');
        check_empty(&admission);
    }
}

/* A thousand wait; who comes now is next, or the one after it. */
static void test_newcomer(void) {
    enum { CROWD = 1000 };
    struct admission admission;
    struct waiter *crowd = mem_xalloc(CROWD * sizeof *crowd), other;
    fill(&admission, 4);
    for (size_t i = 0; i < CROWD; i++)
        wait_in(&admission, &crowd[i], 'a', 1);
    CHECK_INT(leave(&admission), 'a');
    for (size_t round = 0; round < 300; round++) {
        wait_in(&admission, &other, 'b', 2);
        char first = leave(&admission);
        CHECK(first == 'b' || leave(&admission) == 'b');
    }
    while (admission.n_waiting != 0)
        CHECK_INT(leave(&admission), 'a');
    for (size_t i = 0; i < 4; i++)
        CHECK_INT(leave(&admission), '-');
    check_empty(&admission);
    mem_free(crowd);
}

/* Who takes a new name for every request gets half of the turns, not all. */
static void test_names_without_end(void) {
    enum { CROWD = 100 };
    struct admission admission;
    struct waiter honest[CROWD], liars[CROWD];
    size_t n_honest = 0;
    fill(&admission, 1);
    for (size_t i = 0; i < CROWD; i++)
        wait_in(&admission, &honest[i], 'a', 1);
    CHECK_INT(leave(&admission), 'a');
    for (uint64_t i = 0; i < CROWD; i++)
        wait_in(&admission, &liars[i], 'b', 100 + i);
    for (size_t i = 0; i < CROWD; i++)
        n_honest += leave(&admission) == 'a' ? 1 : 0;
    CHECK_INT(n_honest, CROWD / 2);
    while (admission.n_waiting != 0)
        (void)leave(&admission);
    CHECK_INT(leave(&admission), '-');
    check_empty(&admission);
}

static void test_give_up(void) {
    struct admission admission;
    struct waiter a, b, c;
    fill(&admission, 1);
    wait_in(&admission, &a, 'a', 1);
    wait_in(&admission, &b, 'b', 1);
    wait_in(&admission, &c, 'c', 2);
    CHECK(admission_give_up(&admission, &a.ticket));
    CHECK(admission_give_up(&admission, &c.ticket));
    CHECK_INT(leave(&admission), 'b');
    CHECK(!admission_give_up(&admission, &b.ticket)); /* it was chosen already */
    CHECK_INT(leave(&admission), '-');
    check_empty(&admission);
}

/* The steps of two threads that cross: each of the pairs in the one order and in the other. */
static void test_crossing(void) {
    struct admission admission;
    struct waiter a, b;

    /* One leaves before the one that it owes a slot has come to the queue. */
    fill(&admission, 1);
    CHECK(!admission_enter(&admission));
    CHECK(admission_leave(&admission));
    CHECK(admission_next(&admission) == NULL);
    CHECK(admission_wait(&admission, &a.ticket, 1));
    CHECK_INT(leave(&admission), '-');
    check_empty(&admission);

    /* The waiter gives up between the two steps of the one that leaves. */
    fill(&admission, 1);
    wait_in(&admission, &a, 'a', 1);
    CHECK(admission_leave(&admission));
    CHECK(admission_give_up(&admission, &a.ticket));
    CHECK(admission_enter(&admission)); /* the slot is free */
    wait_in(&admission, &b, 'b', 1);
    CHECK(admission_next(&admission) == NULL); /* b is owed nothing */
    CHECK_INT(leave(&admission), 'b');
    CHECK_INT(leave(&admission), '-');
    check_empty(&admission);
}

/* Threads that do everything at once: never more than `max` run, and all is even at the end. */
enum { THREADS = 8, ROUNDS = 20000, SLOTS = 3 };

struct crowd {
    struct admission admission;
    atomic_int running;
    atomic_bool too_many;
    atomic_size_t n_ran, n_gave_up;
};

struct member {
    struct crowd *crowd;
    pthread_t thread;
    uint64_t flow, random;
};

struct shared_ticket {
    struct admission_ticket ticket;
    atomic_bool is_chosen;
};

static void leave_crowd(struct crowd *crowd) {
    atomic_fetch_sub(&crowd->running, 1);
    if (!admission_leave(&crowd->admission))
        return;
    struct admission_ticket *ticket = admission_next(&crowd->admission);
    if (ticket != NULL)
        atomic_store(&CONTAINER_OF(ticket, struct shared_ticket, ticket)->is_chosen, true);
}

static bool wait_for_turn(struct member *member) {
    struct crowd *crowd = member->crowd;
    struct shared_ticket ticket = {.is_chosen = false};
    if (admission_wait(&crowd->admission, &ticket.ticket, member->flow))
        return true;
    size_t patience = member->random % 50;
    for (size_t i = 0; i < patience && !atomic_load(&ticket.is_chosen); i++)
        sched_yield();
    if (atomic_load(&ticket.is_chosen))
        return true;
    if (admission_give_up(&crowd->admission, &ticket.ticket))
        return false;
    while (!atomic_load(&ticket.is_chosen)) /* the message is under way */
        sched_yield();
    return true;
}

static void *run_member(void *context) {
    struct member *member = context;
    struct crowd *crowd = member->crowd;
    for (size_t i = 0; i < ROUNDS; i++) {
        member->random = member->random * 6364136223846793005u + 1442695040888963407u;
        if (!admission_enter(&crowd->admission) && !wait_for_turn(member)) {
            atomic_fetch_add(&crowd->n_gave_up, 1);
            continue;
        }
        if (atomic_fetch_add(&crowd->running, 1) >= SLOTS)
            atomic_store(&crowd->too_many, true);
        if (member->random % 3 == 0)
            sched_yield();
        atomic_fetch_add(&crowd->n_ran, 1);
        leave_crowd(crowd);
    }
    return NULL;
}

static void test_threads(void) {
    struct crowd crowd = {.running = 0};
    struct member members[THREADS];
    admission_init(&crowd.admission, SLOTS);
    for (size_t i = 0; i < THREADS; i++) {
        members[i] = (struct member){.crowd = &crowd, .flow = i / 2, .random = i * 77 + 1};
        if (pthread_create(&members[i].thread, NULL, run_member, &members[i]) != 0)
            CANNOT_GO_ON();
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(members[i].thread, NULL);
    CHECK(!atomic_load(&crowd.too_many));
    CHECK_INT(crowd.n_ran + crowd.n_gave_up, THREADS * ROUNDS);
    CHECK(crowd.n_ran > 0);
    check_empty(&crowd.admission);
}

TEST_MAIN(TEST(test_limit), TEST(test_turns), TEST(test_newcomer), TEST(test_names_without_end),
          TEST(test_give_up), TEST(test_crossing), TEST(test_threads))
