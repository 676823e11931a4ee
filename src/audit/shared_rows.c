/* Bytes that PostgreSQL takes and gives (shared.h): COPY's binary format, arrays, our own BYTEA. */
#include <errno.h>

#include "base/limits.h"
#include "shared.h"

/* --- COPY (FORMAT binary): the manual's section on COPY, "File Formats" --- */

static void put(struct buf *out, uint64_t number, size_t n_bytes) {
    char bytes[8];
    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = (char)(number >> 8 * (n_bytes - 1 - i));
    buf_append(out, slice_make(bytes, n_bytes));
}

void shared_copy_begin(struct buf *rows) {
    static const char signature[] = "PGCOPY\n\377\r\n";
    buf_append(rows, slice_make(signature, sizeof signature)); /* with its NUL */
    put(rows, 0, 4);                                           /* flags */
    put(rows, 0, 4);                                           /* the length of an extension */
}

void shared_copy_row(struct buf *rows, uint16_t n_columns) {
    put(rows, n_columns, 2);
}

void shared_copy_number(struct buf *rows, int64_t number) {
    put(rows, 8, 4);
    put(rows, (uint64_t)number, 8);
}

void shared_copy_bytes(struct buf *rows, struct slice bytes) {
    put(rows, bytes.len, 4);
    buf_append(rows, bytes);
}

void shared_copy_null(struct buf *rows) {
    put(rows, UINT32_MAX, 4);
}

/* An array of BIGINT with one dimension, or none when it is empty. */
void shared_copy_numbers(struct buf *rows, const int64_t *numbers, size_t n) {
    enum { TYPE_INT8 = 20, HEAD = 12, DIMENSION = 8, NUMBER = 12 };
    put(rows, n == 0 ? HEAD : HEAD + DIMENSION + n * NUMBER, 4);
    put(rows, n == 0 ? 0 : 1, 4);
    put(rows, 0, 4); /* none of them is NULL */
    put(rows, TYPE_INT8, 4);
    if (n == 0)
        return;
    put(rows, n, 4);
    put(rows, 1, 4); /* the first one's index */
    for (size_t i = 0; i < n; i++)
        shared_copy_number(rows, numbers[i]);
}

void shared_copy_end(struct buf *rows) {
    put(rows, UINT16_MAX, 2);
}

/* --- arrays as text --- */

void shared_array_begin(struct buf *text) {
    buf_reset(text, KIB(64));
    buf_append_byte(text, '{');
}

void shared_array_add(struct buf *text, int64_t number) {
    buf_printf(text, "%s%lld", buf_len(text) > 1 ? "," : "", (long long)number);
}

void shared_array_end(struct buf *text) {
    buf_append_byte(text, '}');
}

bool shared_array_next(struct slice *text, int64_t *ret_number) {
    uint64_t number = 0;
    size_t at = 0;
    while (at < text->len && (text->ptr[at] == '{' || text->ptr[at] == ','))
        at++;
    bool is_negative = at < text->len && text->ptr[at] == '-';
    size_t digits = at += is_negative;
    for (; at < text->len && text->ptr[at] >= '0' && text->ptr[at] <= '9'; at++)
        number = number * 10 + (uint64_t)(text->ptr[at] - '0');
    *text = slice_from(*text, at);
    *ret_number = (int64_t)(is_negative ? 0 - number : number);
    return at != digits;
}

/* --- BYTEA --- */

/* A digit's value, and above 15 for what is none. */
static unsigned digit_of(char c) {
    unsigned digit = (unsigned)(unsigned char)c - '0', letter = (unsigned)(unsigned char)c - 'a';
    return digit < 10 ? digit : letter < 6 ? letter + 10 : 16;
}

int shared_read_bytes(struct slice text, struct buf *out) {
    unsigned seen = 0;
    buf_reset(out, KIB(256));
    if (text.len % 2 != 0 || !slice_starts_with(text, SLICE("\\x")))
        return -EUCLEAN;
    size_t n = text.len / 2 - 1;
    char *bytes = n != 0 ? buf_reserve(out, n) : NULL;
    if (bytes == NULL)
        return n != 0 ? buf_error(out) : 0;
    for (size_t i = 0; i < n; i++) {
        unsigned high = digit_of(text.ptr[2 * i + 2]), low = digit_of(text.ptr[2 * i + 3]);
        seen |= high | low;
        bytes[i] = (char)(high << 4 | (low & 15));
    }
    if (seen > 15)
        return -EUCLEAN;
    buf_commit(out, n);
    return 0;
}

/* --- which of a block's records: a few as numbers of two bytes, many as bits --- */

enum { BITS = SHARED_BLOCK / 8, MOST_LOWS = BITS / 2 - 1 /* so that the length tells */ };

void shared_write_lows(struct buf *out, const uint16_t *lows, size_t n) {
    char bits[BITS] = {0};
    if (n > MOST_LOWS) {
        for (size_t i = 0; i < n; i++)
            bits[lows[i] / 8] = (char)(bits[lows[i] / 8] | 1 << lows[i] % 8);
        buf_append(out, slice_make(bits, sizeof bits));
        return;
    }
    for (size_t i = 0; i < n; i++)
        put(out, lows[i], 2);
}

bool shared_read_lows(struct slice bytes, struct bitmap *bitmap) {
    if (bytes.len == BITS) {
        for (unsigned i = 0; i < BITS / 8; i++) {
            uint64_t word = 0;
            for (unsigned at = 0; at < 8; at++)
                word |= (uint64_t)(unsigned char)bytes.ptr[i * 8 + at] << at * 8;
            bitmap->words[i] |= word;
        }
        return true;
    }
    if (bytes.len % 2 != 0 || bytes.len > BITS)
        return false;
    for (size_t i = 0; i < bytes.len; i += 2) {
        unsigned low = (unsigned)(unsigned char)bytes.ptr[i] << 8 | (unsigned char)bytes.ptr[i + 1];
        if (low >= SHARED_BLOCK)
            return false;
        bitmap_set(bitmap, low);
    }
    return true;
}

/* --- times: each as what it has more than the one before, in seven bits a byte --- */

static void put_short(struct buf *out, uint64_t number) {
    for (; number >= 0x80; number >>= 7)
        buf_append_byte(out, (char)(0x80 | (number & 0x7f)));
    buf_append_byte(out, (char)number);
}

static bool take_short(struct slice *bytes, uint64_t *ret_number) {
    *ret_number = 0;
    for (unsigned shift = 0; bytes->len != 0 && shift < 64; shift += 7) {
        unsigned char byte = (unsigned char)bytes->ptr[0];
        *bytes = slice_from(*bytes, 1);
        *ret_number |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return true;
    }
    return false;
}

void shared_write_time(struct shared_times *times, unsigned low, int64_t time) {
    uint64_t more = (uint64_t)time - (uint64_t)times->time;
    put_short(times->out, low - times->low);
    /* Those below 0 become the odd ones. */
    put_short(times->out, (int64_t)more < 0 ? ~(more << 1) : more << 1);
    times->low = low;
    times->time = time;
}

bool shared_read_time(struct slice *bytes, unsigned *low, int64_t *time) {
    uint64_t step = 0, more = 0;
    if (!take_short(bytes, &step) || !take_short(bytes, &more) || step >= SHARED_BLOCK - *low)
        return false;
    *low += (unsigned)step;
    more = (more & 1) != 0 ? ~(more >> 1) : more >> 1;
    *time = (int64_t)((uint64_t)*time + more);
    return true;
}
