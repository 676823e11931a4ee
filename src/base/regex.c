/*
 * A backtracking matcher may take exponential time, so that each match has a limit of steps. It is
 * tried with few of them first and then with ten times as many: what a match has cost is known to a
 * factor of ten that way, for PCRE2 does not tell, and that is what the work pays. First tries are
 * free: there are as many as texts, whose number and bytes the message limits.
 *
 * One step may look at the whole rest of the text, as `.*` does. So a step costs more in a long
 * text: LONG_TEXT bytes in one step are as much work as a step.
 *
 * PCRE2 counts the steps of a search anew at each place of the text where a match may begin. Most
 * of these places are left at once, so that a search pays for one of STARTS only; and for each byte
 * one step in any case, because nobody limits how often a text is searched.
 */
#include "base/regex.h"

#include <errno.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/limits.h"
#include "base/mem.h"

enum { LEVELS = 4, FIRST_STEPS = 100, LONG_TEXT = 4096, STARTS = 16 };

_Static_assert(LIMIT_PATTERN_STEPS == FIRST_STEPS * 1000u, "the last level is the whole limit");

#define WHOLE_TEXT (PCRE2_ANCHORED | PCRE2_ENDANCHORED)

struct regex {
    pcre2_code *code;
    pcre2_match_context *levels[LEVELS]; /* each with ten times the steps of the one before */
};

static void *allocate(size_t size, void *context) {
    (void)context;
    return mem_alloc(size);
}

static void release(void *ptr, void *context) {
    (void)context;
    mem_free(ptr);
}

struct regex *regex_free(struct regex *regex) {
    if (regex == NULL)
        return NULL;
    for (size_t i = 0; i < LEVELS; i++)
        pcre2_match_context_free(regex->levels[i]);
    pcre2_code_free(regex->code);
    mem_free(regex);
    return NULL;
}

static int make_levels(struct regex *regex, pcre2_general_context *memory) {
    uint32_t steps = FIRST_STEPS;
    for (size_t i = 0; i < LEVELS; i++, steps *= 10) {
        pcre2_match_context *level = pcre2_match_context_create(memory);
        if (level == NULL)
            return -ENOMEM;
        regex->levels[i] = level;
        pcre2_set_match_limit(level, steps);
        pcre2_set_depth_limit(level, steps);
        pcre2_set_heap_limit(level, (uint32_t)(LIMIT_PATTERN_MEMORY / KIB(1)));
    }
    return 0;
}

static int tell(struct regex_error *ret_error, int code, size_t offset) {
    if (code == PCRE2_ERROR_HEAP_FAILED)
        return -ENOMEM;
    if (ret_error != NULL) {
        *ret_error = (struct regex_error){.offset = offset};
        /* What does not fit is cut, and still ends with a NUL. */
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)ret_error->text, sizeof ret_error->text);
    }
    return REGEX_E_PATTERN;
}

static int compile(struct slice pattern, uint32_t options, struct regex **ret_regex,
                   struct regex_error *ret_error) {
    int code = 0, error = -ENOMEM;
    PCRE2_SIZE offset = 0;
    pcre2_general_context *memory = pcre2_general_context_create(allocate, release, NULL);
    pcre2_compile_context *context = memory != NULL ? pcre2_compile_context_create(memory) : NULL;
    struct regex *regex = context != NULL ? mem_alloc(sizeof *regex) : NULL;
    if (regex != NULL) {
        pcre2_set_max_pattern_length(context, LIMIT_PATTERN);
        regex->code = pcre2_compile((PCRE2_SPTR)(pattern.len != 0 ? pattern.ptr : ""), pattern.len,
                                    PCRE2_UTF | options, &code, &offset, context);
        error = regex->code == NULL ? tell(ret_error, code, offset) : make_levels(regex, memory);
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    if (error == 0)
        *ret_regex = TAKE(regex);
    regex_free(regex);
    return error;
}

int regex_new(struct slice pattern, struct regex **ret_regex, struct regex_error *ret_error) {
    return compile(pattern, WHOLE_TEXT | PCRE2_NEVER_BACKSLASH_C, ret_regex, ret_error);
}

int regex_new_search(struct slice pattern, struct regex **ret_regex,
                     struct regex_error *ret_error) {
    return compile(pattern, PCRE2_NEVER_BACKSLASH_C, ret_regex, ret_error);
}

int regex_new_caseless(struct slice text, struct regex **ret_regex) {
    return compile(text, WHOLE_TEXT | PCRE2_LITERAL | PCRE2_CASELESS, ret_regex, NULL);
}

void regex_work_init(struct regex_work *work) {
    *work = (struct regex_work){.steps = LIMIT_PATTERN_WORK};
}

void regex_work_deinit(struct regex_work *work) {
    pcre2_match_data_free(work->scratch);
    work->scratch = NULL;
}

/* The scratch memory keeps what a match has needed, up to LIMIT_PATTERN_MEMORY. */
static pcre2_match_data *scratch_of(struct regex_work *work) {
    if (work->scratch == NULL) {
        pcre2_general_context *memory = pcre2_general_context_create(allocate, release, NULL);
        if (memory != NULL)
            work->scratch = pcre2_match_data_create(1, memory);
        pcre2_general_context_free(memory);
    }
    return work->scratch;
}

/* One try, with the steps of a level. False: it needs more of them. */
static bool try_level(const struct regex *regex, size_t level, struct slice text, size_t from,
                      uint32_t options, pcre2_match_data *scratch,
                      enum regex_verdict *ret_verdict) {
    int result = pcre2_match(regex->code, (PCRE2_SPTR)(text.len != 0 ? text.ptr : ""), text.len,
                             from, options, scratch, regex->levels[level]);
    if (result == PCRE2_ERROR_MATCHLIMIT || result == PCRE2_ERROR_DEPTHLIMIT)
        return false;
    *ret_verdict = result >= 0                     ? REGEX_MATCHES
                   : result == PCRE2_ERROR_NOMATCH ? REGEX_DIFFERS
                                                   : REGEX_UNDECIDED;
    return true;
}

/* With more and more steps; `price`: of a hundred of them. */
static enum regex_verdict try_levels(const struct regex *regex, struct slice text, size_t from,
                                     uint32_t options, uint64_t price, struct regex_work *work) {
    enum regex_verdict verdict = REGEX_UNDECIDED;
    pcre2_match_data *scratch = scratch_of(work);
    if (scratch == NULL)
        return REGEX_UNDECIDED;
    for (size_t i = 0; i < LEVELS; i++) {
        if (try_level(regex, i, text, from, options, scratch, &verdict))
            return verdict;
        price *= 10;
        if (price > work->steps)
            return REGEX_UNDECIDED;
        work->steps -= price;
    }
    return REGEX_UNDECIDED;
}

enum regex_verdict regex_match(const struct regex *regex, struct slice text,
                               struct regex_work *work) {
    return try_levels(regex, text, 0, 0, FIRST_STEPS * (1 + text.len / LONG_TEXT), work);
}

enum regex_verdict regex_search(const struct regex *regex, struct slice text, size_t from,
                                struct regex_work *work, size_t *ret_begin, size_t *ret_end) {
    if (from >= text.len)
        return REGEX_DIFFERS;
    size_t left = text.len - from;
    if (left > work->steps)
        return REGEX_UNDECIDED;
    work->steps -= left;
    enum regex_verdict verdict =
        try_levels(regex, text, from, PCRE2_NOTEMPTY, FIRST_STEPS * (1 + left / STARTS), work);
    if (verdict != REGEX_MATCHES)
        return verdict;
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(work->scratch);
    /* With \K a match may begin behind its end. */
    if (place[0] < from || place[1] <= place[0] || place[1] > text.len)
        return REGEX_UNDECIDED;
    *ret_begin = place[0];
    *ret_end = place[1];
    return REGEX_MATCHES;
}
