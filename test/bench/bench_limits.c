/*
 * What the counters of the limits cost: nanoseconds of a check, and bytes of a user.
 *
 *     bench_limits            prints all
 *     bench_limits --buckets  500,000 checks of six charges each, for callgrind:
 *         valgrind --tool=callgrind --toggle-collect=limits_take_at bench_limits --buckets
 *     bench_limits --exact    likewise
 */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "limits/limits.h"

enum { USERS = 100000, CALLS = 10, HOUR_MS = 3600000, CHECKS = 100000 };

static struct limits *make(void) {
    struct limits_options options = {.n_workers = 1};
    struct limits *limits = NULL;
    if (limits_new(&options, &limits) != 0)
        abort();
    return limits;
}

static struct limits_rule rule_of(const char *id, uint64_t limit, uint64_t interval_ms) {
    struct limits_rule rule;
    limits_rule_init(&rule, slice_from_cstr(id),
                     (struct config_limit){.limit = limit, .interval_ms = interval_ms});
    return rule;
}

static struct limits_subject user(uint64_t number) {
    char name[32];
    int len = snprintf(name, sizeof name, "user:%" PRIu64, number);
    return limits_subject_of(slice_make(name, (size_t)len));
}

/* --- bytes --- */

static size_t resident(void) {
    char line[256], *rest = line;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fgets(line, sizeof line, file) == NULL)
        abort();
    fclose(file);
    (void)strtoul(line, &rest, 10); /* all of it */
    return strtoul(rest, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t allocated(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static double per_user(size_t before, size_t after) {
    return (double)(after - before) / USERS;
}

/* Every user once, then every user again: as the memory is at its worst. */
static void print_bytes(uint64_t limit, size_t calls) {
    struct limits_subject *subjects = calloc(USERS, sizeof *subjects);
    if (subjects == NULL)
        abort();
    for (size_t i = 0; i < USERS; i++)
        subjects[i] = user(i);
    size_t resident_before = resident(), allocated_before = allocated();
    struct limits *limits = make();
    struct limits_rule rule = rule_of("server:github:user", limit, HOUR_MS);
    for (uint64_t call = 0; call < calls; call++)
        for (size_t i = 0; i < USERS; i++) {
            struct limits_charge charge = {.rule = &rule, .subject = subjects[i]};
            struct limits_answer answer;
            uint64_t now_ms = UINT64_C(1000000) + call * (HOUR_MS / 20) + i / 100;
            limits_take_at(limits, &charge, 1, now_ms, &answer);
            if (answer.verdict != LIMITS_PASS)
                abort();
        }
    printf("%6" PRIu64 " an hour, %2zu calls  %6.1f bytes a user allocated, %6.1f resident\n",
           limit, calls, per_user(allocated_before, allocated()),
           per_user(resident_before, resident()));
    limits_free(limits);
    free(subjects);
}

/* Each in a process of its own, whose memory nothing has shaped. */
static void print_bytes_apart(uint64_t limit, size_t calls) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        print_bytes(limit, calls);
        exit(0);
    }
    if (pid < 0 || waitpid(pid, NULL, 0) != pid)
        abort();
}

/* --- nanoseconds --- */

enum { LEVELS = 6 };

/* As a call has them: of two everybody's, the rest the user's or the address's. */
static void charges_of(struct limits_rule rules[LEVELS], struct config_limit limit,
                       struct limits_charge charges[LEVELS]) {
    static const char *const ids[LEVELS] = {
        "global",        "ip",
        "server:github", "server:github:tool:search",
        "server:user",   "server:github:user:tool:search",
    };
    for (size_t i = 0; i < LEVELS; i++) {
        rules[i] = rule_of(ids[i], limit.limit, limit.interval_ms);
        charges[i].rule = &rules[i];
    }
}

static void print_checks(const char *title, size_t n_charges, struct config_limit limit,
                         size_t users) {
    struct limits *limits = make();
    struct limits_rule rules[LEVELS];
    struct limits_charge charges[LEVELS] = {{0}};
    struct limits_subject *subjects = calloc(users, sizeof *subjects);
    struct limits_answer answer;
    size_t n_passed = 0;
    if (subjects == NULL)
        abort();
    charges_of(rules, limit, charges);
    for (size_t i = 0; i < users; i++)
        subjects[i] = user(i);
    uint64_t best_ns = UINT64_MAX, now_ms = 1000000;
    for (size_t round = 0; round < 5; round++) {
        uint64_t start_ns = clock_monotonic_ns();
        for (size_t i = 0; i < CHECKS; i++) {
            struct limits_subject who = subjects[i * 7919 % users];
            charges[1].subject = charges[4].subject = charges[5].subject = who;
            limits_take_at(limits, charges, n_charges, now_ms += (i & 3) == 0, &answer);
            n_passed += answer.verdict == LIMITS_PASS;
        }
        uint64_t took_ns = clock_monotonic_ns() - start_ns;
        best_ns = took_ns < best_ns ? took_ns : best_ns;
    }
    printf("%-34s %zu charges, %6zu users  %6.0f ns a check, %3.0f %% passed\n", title, n_charges,
           users, (double)best_ns / CHECKS, (double)n_passed * 100 / (5 * CHECKS));
    free(subjects);
    limits_free(limits);
}

static void print_subject(void) {
    uint64_t mixed = 0, start_ns = clock_monotonic_ns();
    for (size_t i = 0; i < CHECKS; i++)
        mixed ^= user(i).low;
    uint64_t took_ns = clock_monotonic_ns() - start_ns;
    printf("a subject's name to its hash: %.0f ns (%02x)\n", (double)took_ns / CHECKS,
           (unsigned)(mixed & 0xff));
}

int main(int argc, char **argv) {
    const struct config_limit buckets = {.limit = 1000000, .interval_ms = 60000};
    const struct config_limit exact = {.limit = 1000, .interval_ms = 200};
    const struct config_limit few = {.limit = 100, .interval_ms = 1000};
    if (argc > 1) {
        bool is_exact = strcmp(argv[1], "--exact") == 0;
        print_checks(argv[1], LEVELS, is_exact ? exact : buckets, 100);
        return 0;
    }
    print_bytes_apart(100, CALLS);
    print_bytes_apart(10000, CALLS);
    print_bytes_apart(100, 1);
    print_checks("in buckets", 1, buckets, 100);
    print_checks("in buckets", LEVELS, buckets, 100);
    print_checks("exact", LEVELS, exact, 100);
    print_checks("in buckets", LEVELS, buckets, USERS);
    print_checks("exact, most are refused", LEVELS, few, 100);
    print_subject();
    return 0;
}
