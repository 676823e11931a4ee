/*
 * Patterns of the configuration on text from outside: PCRE2 in UTF mode, the whole text and not a
 * part of it (unless made for a search), \d and the like in ASCII. A match may take
 * LIMIT_PATTERN_STEPS steps, several that belong together as many as their regex_work has left, and
 * LIMIT_PATTERN_MEMORY; what cannot be decided within that is UNDECIDED, which the caller has to
 * take for the worse answer.
 *
 * A compiled pattern is immutable: any thread may match with it at any time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/slice.h"

struct regex;

struct regex_error {
    size_t offset; /* in the pattern, at or behind what is wrong */
    char text[128];
};

/*
 * REGEX_E_PATTERN: *ret_error (may be NULL) says why it is none, as the rest of a sentence; the
 * pattern is longer than LIMIT_PATTERN, too. -ENOMEM.
 */
enum { REGEX_E_PATTERN = 1 };
MUST_CHECK int regex_new(struct slice pattern, struct regex **ret_regex,
                         struct regex_error *ret_error);
/* A pattern that is looked for in a text: for regex_search() alone. */
MUST_CHECK int regex_new_search(struct slice pattern, struct regex **ret_regex,
                                struct regex_error *ret_error);
/* Of the text as it stands, without regard to case (Unicode's simple case folding). */
MUST_CHECK int regex_new_caseless(struct slice text, struct regex **ret_regex);
/* Accepts NULL. */
struct regex *regex_free(struct regex *regex);

/* What matches that belong together may cost, and their scratch memory. Of one thread. */
struct regex_work {
    uint64_t steps; /* left */
    void *scratch;
};

void regex_work_init(struct regex_work *work);
void regex_work_deinit(struct regex_work *work);

enum regex_verdict {
    REGEX_MATCHES,
    REGEX_DIFFERS,
    REGEX_UNDECIDED, /* too many steps, too much memory, no UTF-8 */
};

enum regex_verdict regex_match(const struct regex *regex, struct slice text,
                               struct regex_work *work);
/*
 * The first place at or behind `from` where the pattern matches, which is at least one byte long;
 * what is before `from` is still there to be looked back at. The limit of steps is one of each
 * place at which a match may begin, so that a search costs more of the work the longer the text is:
 * one step a byte, also when nothing is found, and much more as soon as a pattern tries back and
 * forth.
 */
enum regex_verdict regex_search(const struct regex *regex, struct slice text, size_t from,
                                struct regex_work *work, size_t *ret_begin, size_t *ret_end);
