#include "utf8_state.h"

static void begin(struct utf8_state *state, uint8_t open, uint8_t low, uint8_t high) {
    state->open = open;
    state->low = low;
    state->high = high;
}

/* The bounds of the second byte are what refuses overlong forms, surrogates and what is past
 * U+10FFFF (section 4). */
void utf8_state_add(struct utf8_state *state, unsigned char byte) {
    if (state->open > 0) {
        state->bad = byte < state->low || byte > state->high;
        begin(state, (uint8_t)(state->open - 1), 0x80, 0xbf);
    } else if (byte >= 0x80) {
        if (byte >= 0xc2 && byte <= 0xdf)
            begin(state, 1, 0x80, 0xbf);
        else if (byte >= 0xe0 && byte <= 0xef)
            begin(state, 2, byte == 0xe0 ? 0xa0 : 0x80, byte == 0xed ? 0x9f : 0xbf);
        else if (byte >= 0xf0 && byte <= 0xf4)
            begin(state, 3, byte == 0xf0 ? 0x90 : 0x80, byte == 0xf4 ? 0x8f : 0xbf);
        else
            state->bad = true;
    }
}

#define EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* True when some of the eight bytes is CR, LF or not ASCII (rarely also when none is: a caller only
 * looks closer). */
static bool needs_a_look(uint64_t word) {
    uint64_t cr = word ^ EACH_BYTE('\r'), lf = word ^ EACH_BYTE('\n');
    uint64_t found = ((cr - EACH_BYTE(1)) & ~cr) | ((lf - EACH_BYTE(1)) & ~lf) | word;
    return (found & EACH_BYTE(0x80)) != 0;
}

size_t utf8_state_span(struct utf8_state *state, struct slice text) {
    size_t n = 0;
    while (n < text.len) {
        uint64_t word;
        if (state->open == 0 && text.len - n >= sizeof word) {
            memcpy(&word, text.ptr + n, sizeof word);
            if (!needs_a_look(word)) {
                n += sizeof word;
                continue;
            }
        }
        unsigned char byte = (unsigned char)text.ptr[n];
        if (byte == '\r' || byte == '\n')
            break;
        utf8_state_add(state, byte);
        if (state->bad)
            break;
        n++;
    }
    return n;
}
