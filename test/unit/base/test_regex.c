/* Patterns on text from outside: the whole text, or a place in it, in bounded time, with several
 * threads. */
#include <threads.h>

#include "base/limits.h"
#include "base/regex.h"
#include "test.h"

static enum regex_verdict match(struct slice pattern, struct slice text) {
    struct regex *regex = NULL;
    struct regex_error error = {.offset = 0};
    struct regex_work work;
    if (regex_new(pattern, &regex, &error) != 0) {
        printf("# %s at %zu\n", error.text, error.offset);
        test_fail(__FILE__, __LINE__, "the pattern is refused");
        return REGEX_UNDECIDED;
    }
    regex_work_init(&work);
    enum regex_verdict verdict = regex_match(regex, text, &work);
    regex_work_deinit(&work);
    regex_free(regex);
    return verdict;
}

static void test_whole_text(void) {
    static const struct {
        struct slice pattern, text;
        enum regex_verdict verdict;
    } rows[] = {
        {SLICE_INIT("a+"), SLICE_INIT("aaa"), REGEX_MATCHES},
        {SLICE_INIT("a+"), SLICE_INIT("baaa"), REGEX_DIFFERS},
        {SLICE_INIT("a+"), SLICE_INIT("aaab"), REGEX_DIFFERS},
        {SLICE_INIT("a+"), SLICE_INIT("aaa\n"), REGEX_DIFFERS},
        {SLICE_INIT("^a+$"), SLICE_INIT("aaa\n"), REGEX_DIFFERS},
        {SLICE_INIT("^a+$"), SLICE_INIT("aaa"), REGEX_MATCHES},
        {SLICE_INIT("(?m)^a+$"), SLICE_INIT("aaa\nrm -rf"), REGEX_DIFFERS},
        /* An alternative that matches the front alone does not end the search. */
        {SLICE_INIT("a|ab"), SLICE_INIT("ab"), REGEX_MATCHES},
        {SLICE_INIT("safe|"), SLICE_INIT("safe; rm"), REGEX_DIFFERS},
        {SLICE_INIT("a(*ACCEPT)b"), SLICE_INIT("ac"), REGEX_DIFFERS},
        {SLICE_INIT("b\\Ka"), SLICE_INIT("ba"), REGEX_MATCHES},
        {SLICE_INIT("b\\Ka"), SLICE_INIT("a"), REGEX_DIFFERS},
        {SLICE_INIT(""), SLICE_INIT(""), REGEX_MATCHES},
        {SLICE_INIT(""), SLICE_INIT("x"), REGEX_DIFFERS},
        {SLICE_INIT("."), SLICE_INIT("\xc3\xa4"), REGEX_MATCHES},
        {SLICE_INIT("\\d"), SLICE_INIT("\xd9\xa3"), REGEX_DIFFERS}, /* a digit, not in ASCII */
        {SLICE_INIT("."), SLICE_INIT("\0"), REGEX_MATCHES},
        {SLICE_INIT("a"), SLICE_INIT("a\0b"), REGEX_DIFFERS},
        {SLICE_INIT("."), SLICE_INIT("\xff"), REGEX_UNDECIDED},
        {SLICE_INIT(".*"), SLICE_INIT("\xed\xa0\x80"), REGEX_UNDECIDED}, /* half a pair */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].pattern.ptr);
        CHECK_INT(match(rows[i].pattern, rows[i].text), rows[i].verdict);
    }
}

static void test_errors(void) {
    static const struct {
        struct slice pattern;
        size_t offset;
    } rows[] = {
        {SLICE_INIT("(a"), 2},  {SLICE_INIT("ab)"), 2},  {SLICE_INIT("[z-a]"), 3},
        {SLICE_INIT("\\C"), 2}, {SLICE_INIT("\xff"), 0}, {SLICE_INIT("*"), 0},
    };
    struct regex *regex = NULL;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct regex_error error = {.offset = 99};
        test_row(rows[i].pattern.ptr);
        CHECK_INT(regex_new(rows[i].pattern, &regex, &error), REGEX_E_PATTERN);
        CHECK_INT(error.offset, rows[i].offset);
        CHECK(error.text[0] != '\0' && strlen(error.text) < sizeof error.text);
        CHECK(regex == NULL);
        CHECK_INT(regex_new(rows[i].pattern, &regex, NULL), REGEX_E_PATTERN);
    }
    static char longest[LIMIT_PATTERN + 1];
    memset(longest, 'a', sizeof longest);
    test_row("length");
    CHECK_INT(regex_new(slice_make(longest, sizeof longest), &regex, NULL), REGEX_E_PATTERN);
    CHECK_INT(regex_new(slice_make(longest, sizeof longest - 1), &regex, NULL), 0);
    regex = regex_free(regex);
    CHECK(regex_free(NULL) == NULL);
}

static char big[MIB(4)];

static void test_steps(void) {
    static const struct {
        struct slice pattern;
        char fill, last;
        size_t len;
        enum regex_verdict verdict;
    } rows[] = {
        {SLICE_INIT("(a+)+[bc]"), 'a', 'a', 40, REGEX_UNDECIDED},
        {SLICE_INIT("(a|a)*b|a*"), 'a', 'a', 5, REGEX_MATCHES},
        {SLICE_INIT("(a|a)*b|a*"), 'a', 'a', 40, REGEX_UNDECIDED},
        {SLICE_INIT("(a|aa)+$"), 'a', 'b', 60, REGEX_UNDECIDED},
        {SLICE_INIT("(.*a){25}[bc]"), 'a', 'a', 100, REGEX_UNDECIDED},
        {SLICE_INIT("((a*)*)*[bd]"), 'a', 'c', 50, REGEX_UNDECIDED},
        {SLICE_INIT("(?R)?a"), 'a', 'a', 10000, REGEX_UNDECIDED},
        /* A long text is no problem for a pattern that looks at it once... */
        {SLICE_INIT("[a-z]*"), 'a', 'z', sizeof big, REGEX_MATCHES},
        {SLICE_INIT("(?s).*"), 'a', '\n', sizeof big, REGEX_MATCHES},
        {SLICE_INIT("[^;]*"), 'a', ';', sizeof big, REGEX_DIFFERS},
        /* ... and not for long for one that does not. */
        {SLICE_INIT("(?s).*.*.*[bc]"), 'a', 'a', sizeof big, REGEX_UNDECIDED},
        {SLICE_INIT("(a|b)*"), 'a', 'b', sizeof big, REGEX_UNDECIDED},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].pattern.ptr);
        memset(big, rows[i].fill, rows[i].len);
        big[rows[i].len - 1] = rows[i].last;
        CHECK_INT(match(rows[i].pattern, slice_make(big, rows[i].len)), rows[i].verdict);
    }
}

/* Each alone is within its limit, all of them together are not. */
static void test_work_is_shared(void) {
    struct regex *regex = NULL;
    struct regex_work work;
    struct slice text = SLICE("aaaaaaaaaaaa");
    REQUIRE(regex_new(SLICE("(a|a)*b|a*"), &regex, NULL) == 0);
    regex_work_init(&work);
    size_t n = 0;
    while (n < 1000 && regex_match(regex, text, &work) == REGEX_MATCHES)
        n++;
    CHECK(n >= 5 && n < 1000);
    CHECK(work.steps < LIMIT_PATTERN_STEPS);
    /* What needs no more than a first look still passes. */
    CHECK_INT(regex_match(regex, SLICE("a"), &work), REGEX_MATCHES);
    regex_work_deinit(&work);
    regex_free(regex);
}

static void test_caseless(void) {
    static const struct {
        struct slice text, other;
        enum regex_verdict verdict;
    } rows[] = {
        {SLICE_INIT("Gr\xc3\xb6\xc3\x9f"), SLICE_INIT("GR\xc3\x96\xc3\x9f"), REGEX_MATCHES},
        {SLICE_INIT("a.c"), SLICE_INIT("abc"), REGEX_DIFFERS},
        {SLICE_INIT("a.c"), SLICE_INIT("A.C"), REGEX_MATCHES},
        {SLICE_INIT("ks"), SLICE_INIT("\xe2\x84\xaa\xc5\xbf"), REGEX_MATCHES},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct regex *regex = NULL;
        struct regex_work work;
        test_row(rows[i].text.ptr);
        REQUIRE(regex_new_caseless(rows[i].text, &regex) == 0);
        regex_work_init(&work);
        CHECK_INT(regex_match(regex, rows[i].other, &work), rows[i].verdict);
        regex_work_deinit(&work);
        regex_free(regex);
    }
}

static enum regex_verdict search(struct slice pattern, struct slice text, size_t from,
                                 size_t *ret_begin, size_t *ret_end) {
    struct regex *regex = NULL;
    struct regex_error error = {.offset = 0};
    struct regex_work work;
    if (regex_new_search(pattern, &regex, &error) != 0) {
        printf("# %s at %zu\n", error.text, error.offset);
        test_fail(__FILE__, __LINE__, "the pattern is refused");
        return REGEX_UNDECIDED;
    }
    regex_work_init(&work);
    enum regex_verdict verdict = regex_search(regex, text, from, &work, ret_begin, ret_end);
    regex_work_deinit(&work);
    regex_free(regex);
    return verdict;
}

static void test_search(void) {
    static const struct {
        struct slice pattern, text;
        size_t from;
        enum regex_verdict verdict;
        size_t begin, end;
    } rows[] = {
        {SLICE_INIT("a+"), SLICE_INIT("xaaay"), 0, REGEX_MATCHES, 1, 4},
        {SLICE_INIT("a+"), SLICE_INIT("xaaay"), 2, REGEX_MATCHES, 2, 4},
        {SLICE_INIT("a+"), SLICE_INIT("xaaay"), 4, REGEX_DIFFERS, 99, 99},
        {SLICE_INIT("a+"), SLICE_INIT("xaaay"), 5, REGEX_DIFFERS, 99, 99},
        {SLICE_INIT("a+"), SLICE_INIT("xaaay"), SIZE_MAX, REGEX_DIFFERS, 99, 99},
        {SLICE_INIT("a+"), SLICE_INIT(""), 0, REGEX_DIFFERS, 99, 99},
        /* Nothing is no match, whatever the pattern says. */
        {SLICE_INIT("a*"), SLICE_INIT("xxaa"), 0, REGEX_MATCHES, 2, 4},
        {SLICE_INIT("a*"), SLICE_INIT("xx"), 0, REGEX_DIFFERS, 99, 99},
        {SLICE_INIT("|a"), SLICE_INIT("xa"), 0, REGEX_MATCHES, 1, 2},
        {SLICE_INIT("(?<=x)a"), SLICE_INIT("aaxa"), 3, REGEX_MATCHES, 3, 4},
        {SLICE_INIT("\\ba"), SLICE_INIT("aa"), 1, REGEX_DIFFERS, 99, 99},
        {SLICE_INIT("^a"), SLICE_INIT("aa"), 1, REGEX_DIFFERS, 99, 99},
        {SLICE_INIT("(?m)^a"), SLICE_INIT("b\na"), 1, REGEX_MATCHES, 2, 3},
        {SLICE_INIT("x\\Ka"), SLICE_INIT("axa"), 0, REGEX_MATCHES, 2, 3},
        {SLICE_INIT("\\d{4}"), SLICE_INIT("no 1234."), 0, REGEX_MATCHES, 3, 7},
        {SLICE_INIT("."), SLICE_INIT("\xc3\xa4"), 0, REGEX_MATCHES, 0, 2},
        {SLICE_INIT("b"), SLICE_INIT("a\0b"), 0, REGEX_MATCHES, 2, 3},
        {SLICE_INIT("a"), SLICE_INIT("a\xff"), 0, REGEX_UNDECIDED, 99, 99},
        {SLICE_INIT("z"), SLICE_INIT("\xc3\xa4z"), 1, REGEX_UNDECIDED, 99, 99},
        {SLICE_INIT("(a+)+[bc]"), SLICE_INIT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), 0,
         REGEX_UNDECIDED, 99, 99},
        {SLICE_INIT("(a|a)*b|x"), SLICE_INIT("aaaaaax"), 0, REGEX_MATCHES, 6, 7},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t begin = 99, end = 99;
        test_row(rows[i].pattern.ptr);
        CHECK_INT(search(rows[i].pattern, rows[i].text, rows[i].from, &begin, &end),
                  rows[i].verdict);
        CHECK_INT(begin, rows[i].begin);
        CHECK_INT(end, rows[i].end);
    }
    struct regex *regex = NULL;
    struct regex_error error = {.offset = 99};
    CHECK_INT(regex_new_search(SLICE("(a"), &regex, &error), REGEX_E_PATTERN);
    CHECK_INT(error.offset, 2);
    CHECK(regex == NULL && error.text[0] != '\0');
}

/* A search of a long text is paid for, and ends. */
static void test_search_costs(void) {
    struct regex *regex = NULL;
    struct regex_work work;
    size_t begin = 99, end = 99;
    memset(big, 'a', sizeof big);
    REQUIRE(regex_new_search(SLICE("b"), &regex, NULL) == 0);
    regex_work_init(&work);
    CHECK_INT(regex_search(regex, slice_make(big, LIMIT_PATTERN_WORK), 0, &work, &begin, &end),
              REGEX_DIFFERS);
    CHECK_INT(work.steps, 0);
    CHECK_INT(regex_search(regex, SLICE("ab"), 0, &work, &begin, &end), REGEX_UNDECIDED);
    CHECK_INT(regex_search(regex, SLICE(""), 0, &work, &begin, &end), REGEX_DIFFERS);
    CHECK_INT(begin, 99);
    regex_work_deinit(&work);
    regex_free(regex);
    regex = NULL;
    /* Back and forth at each place. */
    REQUIRE(regex_new_search(SLICE("a{1,500}[ac][bd]"), &regex, NULL) == 0);
    regex_work_init(&work);
    size_t n = 0;
    while (n < 100 &&
           regex_search(regex, slice_make(big, KIB(4)), 0, &work, &begin, &end) == REGEX_DIFFERS)
        n++;
    CHECK(n < 10);
    regex_work_deinit(&work);
    regex_free(regex);
}

static int match_many(void *context) {
    const struct regex *regex = context;
    int right = 0;
    for (int i = 0; i < 500; i++) {
        struct regex_work work;
        regex_work_init(&work);
        right += regex_match(regex, SLICE("aaaaaaaab"), &work) == REGEX_MATCHES &&
                 regex_match(regex, SLICE("aaaaaaaac"), &work) == REGEX_DIFFERS;
        regex_work_deinit(&work);
    }
    return right;
}

static void test_threads(void) {
    struct regex *regex = NULL;
    thrd_t threads[4];
    REQUIRE(regex_new(SLICE("(a|aa)+b"), &regex, NULL) == 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        REQUIRE(thrd_create(&threads[i], match_many, regex) == thrd_success);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        int right = 0;
        thrd_join(threads[i], &right);
        CHECK_INT(right, 500);
    }
    regex_free(regex);
}

static enum regex_verdict last_verdict;

static void match_with_little_memory(void *arg) {
    struct regex *regex = NULL;
    struct regex_work work;
    (void)arg;
    int error = regex_new(SLICE("([a-z]+,)*x\\d{1,3}"), &regex, NULL);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK((error == 0) == (regex != NULL));
    if (error != 0)
        return;
    regex_work_init(&work);
    last_verdict = regex_match(regex, SLICE("ab,cd,x12"), &work);
    CHECK(last_verdict != REGEX_DIFFERS);
    regex_work_deinit(&work);
    regex_free(regex);
}

static void search_with_little_memory(void *arg) {
    struct regex *regex = NULL;
    struct regex_work work;
    size_t begin = 99, end = 99;
    (void)arg;
    int error = regex_new_search(SLICE("([a-z]+,)*x\\d{1,3}"), &regex, NULL);
    CHECK(error == 0 || error == -ENOMEM);
    if (error != 0)
        return;
    regex_work_init(&work);
    last_verdict = regex_search(regex, SLICE("??ab,cd,x12"), 0, &work, &begin, &end);
    CHECK(last_verdict == (begin == 2 && end == 11 ? REGEX_MATCHES : REGEX_UNDECIDED));
    regex_work_deinit(&work);
    regex_free(regex);
}

static void test_memory(void) {
    test_torture(match_with_little_memory, NULL);
    CHECK_INT(last_verdict, REGEX_MATCHES);
    test_torture(search_with_little_memory, NULL);
    CHECK_INT(last_verdict, REGEX_MATCHES);
}

TEST_MAIN(TEST(test_whole_text), TEST(test_errors), TEST(test_steps), TEST(test_work_is_shared),
          TEST(test_caseless), TEST(test_search), TEST(test_search_costs), TEST(test_threads),
          TEST(test_memory))
