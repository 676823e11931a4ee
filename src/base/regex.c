/*
 * A backtracking matcher may take exponential time, so that each match has a limit of steps. It is
 * tried with few of them first and then with ten times as many: what a match has cost is known to a
 * factor of ten that way, for PCRE2 does not tell, and that is what the work pays. First tries are
 * free: there are as many as texts, whose number and bytes the message limits.
 *
 * One step may look at the whole rest of the text, as `.*` does. So a step costs more in a long
 * text: LONG_TEXT bytes in one step are as much work as a step.
 */
#include "base/regex.h"

#include <errno.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/limits.h"
#include "base/mem.h"

enum { LEVELS = 4, FIRST_STEPS = 100, LONG_TEXT = 4096 };

_Static_assert(LIMIT_PATTERN_STEPS == FIRST_STEPS * 1000u, "the last level is the whole limit");

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
                                    PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED | options, &code,
                                    &offset, context);
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
    return compile(pattern, PCRE2_NEVER_BACKSLASH_C, ret_regex, ret_error);
}

int regex_new_caseless(struct slice text, struct regex **ret_regex) {
    return compile(text, PCRE2_LITERAL | PCRE2_CASELESS, ret_regex, NULL);
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

enum regex_verdict regex_match(const struct regex *regex, struct slice text,
                               struct regex_work *work) {
    pcre2_match_data *scratch = scratch_of(work);
    if (scratch == NULL)
        return REGEX_UNDECIDED;
    uint64_t price = FIRST_STEPS * (1 + text.len / LONG_TEXT);
    for (size_t i = 0; i < LEVELS; i++) {
        int result = pcre2_match(regex->code, (PCRE2_SPTR)(text.len != 0 ? text.ptr : ""), text.len,
                                 0, 0, scratch, regex->levels[i]);
        if (result >= 0)
            return REGEX_MATCHES;
        if (result == PCRE2_ERROR_NOMATCH)
            return REGEX_DIFFERS;
        bool needs_more = result == PCRE2_ERROR_MATCHLIMIT || result == PCRE2_ERROR_DEPTHLIMIT;
        price *= 10;
        if (!needs_more || price > work->steps)
            return REGEX_UNDECIDED;
        work->steps -= price;
    }
    return REGEX_UNDECIDED;
}
