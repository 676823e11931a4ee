#include "memo.h"

#include "words.h"

/* Of a text with at least one byte. It spreads what is usual, and keeps nobody from choosing. */
static size_t place_of(struct slice text) {
    const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t hash = text.len;
    if (text.len < WORD_BYTES) {
        hash += word_of_short(text);
    } else {
        for (size_t at = 0; at + WORD_BYTES < text.len; at += WORD_BYTES) {
            hash = (hash ^ word_at(text.ptr + at)) * odd;
            hash ^= hash >> 32;
        }
        hash ^= word_at(text.ptr + text.len - WORD_BYTES);
    }
    hash *= odd;
    return (size_t)((hash ^ hash >> 32) * odd >> 56);
}

_Static_assert(MEMO_PLACES == 1 << 8, "eight bits of the hash choose one");
_Static_assert(MEMO_LONGEST <= UINT8_MAX, "its length fits");

bool memo_knows(const struct memo *memo, struct slice text, enum memo_fact fact) {
    if (text.len - 1 >= MEMO_LONGEST) /* 0 is too long, too */
        return false;
    const struct memo_place *place = &memo->places[place_of(text)];
    return place->len == text.len && (place->facts & fact) != 0 &&
           memcmp(place->text, text.ptr, text.len) == 0;
}

void memo_note(struct memo *memo, struct slice text, enum memo_fact fact) {
    if (text.len - 1 >= MEMO_LONGEST || memo->is_off)
        return;
    struct memo_place *place = &memo->places[place_of(text)];
    if (!slice_eq(slice_make(place->text, place->len), text)) {
        place->facts = 0;
        place->len = (unsigned char)text.len;
        memcpy(place->text, text.ptr, text.len);
    }
    place->facts |= (unsigned char)fact;
}

void memo_clear(struct memo *memo) {
    memset(memo->places, 0, sizeof memo->places);
}
