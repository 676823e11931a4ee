/*
 * Texts that come again and again: users, groups, programs, names of tools and of arguments. What
 * is known of one is that it is written as it stands: redaction finds nothing in it, and it needs
 * no escapes. So nothing that redaction hides is ever kept here.
 *
 * Each text has one place, chosen by its hash, and whoever comes last has it. Who sends texts that
 * push others out gets a slower record, and nothing else: a place says something only of the text
 * that stands in it, compared whole. Holds for one set of rules.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum { MEMO_PLACES = 256, MEMO_LONGEST = 94 };

enum memo_fact {
    MEMO_TEXT = 1, /* as a text, it is written as it stands */
    MEMO_KEY = 2   /* likewise as a member's name, and that is no secret's */
};

struct memo_place {
    unsigned char len; /* 0: it is free */
    unsigned char facts;
    char text[MEMO_LONGEST];
};

struct memo {
    struct memo_place places[MEMO_PLACES];
    bool is_off; /* for tests: nothing is kept */
};

bool memo_knows(const struct memo *memo, struct slice text, enum memo_fact fact);
/* Long texts, and empty ones, are not kept. */
void memo_note(struct memo *memo, struct slice text, enum memo_fact fact);
/* For new rules. */
void memo_clear(struct memo *memo);
