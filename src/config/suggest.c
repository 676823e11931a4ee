#include <stdint.h>

#include "base/checked.h"
#include "load.h"

enum { WORD_MAX = 48 };

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static size_t min3(size_t a, size_t b, size_t c) {
    return size_min(a, size_min(b, c));
}

/* Optimal string alignment: Damerau-Levenshtein in which no part is edited twice. */
size_t edit_distance(struct slice a, struct slice b) {
    size_t rows[3][WORD_MAX + 1];
    size_t *above = rows[0], *row = rows[1], *two_above = rows[2];
    if (a.len > WORD_MAX || b.len > WORD_MAX)
        return SIZE_MAX;
    for (size_t k = 0; k <= b.len; k++)
        row[k] = k;
    for (size_t i = 1; i <= a.len; i++) {
        size_t *free_row = two_above;
        two_above = above;
        above = row;
        row = free_row;
        row[0] = i;
        for (size_t k = 1; k <= b.len; k++) {
            char x = lower(a.ptr[i - 1]), y = lower(b.ptr[k - 1]);
            row[k] = min3(above[k] + 1, row[k - 1] + 1, above[k - 1] + (x != y));
            if (i > 1 && k > 1 && x == lower(b.ptr[k - 2]) && lower(a.ptr[i - 2]) == y)
                row[k] = size_min(row[k], two_above[k - 2] + 1);
        }
    }
    return row[b.len];
}
