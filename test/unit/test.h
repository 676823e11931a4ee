/*
 * The unit tests' frame: a table of named functions, TAP on stdout, a message with file and line
 * for each check that fails. Include it in the one .c file of a test executable.
 *
 *     static void test_empty(void) { CHECK(slice_is_empty(SLICE_EMPTY)); }
 *     TEST_MAIN(TEST(test_empty), TEST(test_other))
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/mem.h"
#include "base/slice.h"

struct test_case {
    const char *name;
    void (*run)(void);
};

static int test_failures;
static const char *test_context = "";

/* Names the row of a table that the following checks are about. */
MAYBE_UNUSED static void test_row(const char *name) {
    test_context = name;
}

MAYBE_UNUSED static void test_fail(const char *file, int line, const char *what) {
    printf("# %s:%d: %s%s%s%s\n", file, line, what, test_context[0] ? " (row: " : "", test_context,
           test_context[0] ? ")" : "");
    test_failures++;
}

/* For what a test stands on and cannot do without: says where and why, and ends the program. */
#define CANNOT_GO_ON()                                                                             \
    do {                                                                                           \
        fprintf(stderr, "%s:%d: cannot go on: %s\n", __FILE__, __LINE__, strerror(errno));         \
        abort();                                                                                   \
    } while (0)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            test_fail(__FILE__, __LINE__, "CHECK(" #condition ")");                                \
    } while (0)

/* A check without which the rest of the test cannot run. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            test_fail(__FILE__, __LINE__, "REQUIRE(" #condition ")");                              \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#define CHECK_INT(actual, expected)                                                                \
    do {                                                                                           \
        long long actual_ = (long long)(actual), expected_ = (long long)(expected);                \
        if (actual_ != expected_) {                                                                \
            char text_[256];                                                                       \
            snprintf(text_, sizeof text_, "%s is %lld, expected %lld", #actual, actual_,           \
                     expected_);                                                                   \
            test_fail(__FILE__, __LINE__, text_);                                                  \
        }                                                                                          \
    } while (0)

MAYBE_UNUSED static void test_check_slice(const char *file, int line, const char *expr,
                                          struct slice actual, struct slice expected) {
    if (slice_eq(actual, expected))
        return;
    test_fail(file, line, expr);
    printf("#   actual:   \"%.*s\"\n#   expected: \"%.*s\"\n", SLICE_ARGS(actual),
           SLICE_ARGS(expected));
}

#define CHECK_SLICE(actual, expected)                                                              \
    test_check_slice(__FILE__, __LINE__, #actual, (actual), (expected))
#define CHECK_STR(actual, literal)                                                                 \
    test_check_slice(__FILE__, __LINE__, #actual, (actual), slice_from_cstr(literal))

/*
 * Runs `body(arg)` again and again with the first, second, ... allocation failing, until it runs
 * without asking for more than was granted. The body must cope: no crash, no leak, an error where
 * it cannot go on.
 */
MAYBE_UNUSED static void test_torture(void (*body)(void *arg), void *arg) {
    for (uint64_t n = 1; n < 100000; n++) {
        mem_fail_after(n);
        body(arg);
        uint64_t asked = mem_alloc_count();
        mem_fail_after(0);
        if (asked < n)
            return;
    }
    test_fail(__FILE__, __LINE__, "torture did not come to an end");
}

#define TEST(function)                                                                             \
    { #function, function }

#define TEST_MAIN(...)                                                                             \
    int main(void) {                                                                               \
        static const struct test_case cases[] = {__VA_ARGS__};                                     \
        int failed = 0;                                                                            \
        setvbuf(stdout, NULL, _IOLBF, 0);                                                          \
        printf("1..%zu\n", ARRAY_LEN(cases));                                                      \
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {                                            \
            test_failures = 0;                                                                     \
            test_context = "";                                                                     \
            cases[i].run();                                                                        \
            printf("%s %zu - %s\n", test_failures == 0 ? "ok" : "not ok", i + 1, cases[i].name);   \
            failed += test_failures != 0;                                                          \
        }                                                                                          \
        return failed == 0 ? 0 : 1;                                                                \
    }
