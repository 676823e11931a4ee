/*
 * UTF-8 (RFC 3629) that may be cut anywhere: the state says which bytes may come next. Private to
 * the module.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct utf8_state { /* all zero at the start */
    uint8_t open;   /* continuation bytes that are still to come */
    uint8_t low;    /* bounds of the next one, when open > 0 */
    uint8_t high;
    bool bad;
};

static inline bool utf8_state_is_bad(const struct utf8_state *state) {
    return state->bad;
}

/* A sequence is not whole yet. */
static inline bool utf8_state_is_open(const struct utf8_state *state) {
    return state->open > 0;
}

/* Sets `bad` for a byte that may not come. */
void utf8_state_add(struct utf8_state *state, unsigned char byte);

/* Adds bytes up to the first CR or LF, a bad byte, or the end; how many were added. */
size_t utf8_state_span(struct utf8_state *state, struct slice text);
