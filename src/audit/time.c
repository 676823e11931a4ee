/* Times as records have them (RFC 3339, UTC, microseconds). */
#include "audit/line.h"

#define MOST_SECONDS INT64_C(253402300799) /* the end of the year 9999 */

static void write_two(char *text, unsigned number) {
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    memcpy(text, pairs + 2 * (size_t)number, 2);
}

/* By hand: each record has one, and what the C library does takes longer than all the rest of it.
 * Days are counted from 0000-03-01, so that the day that leaps is the last of its year; 400 years
 * have 146,097 of them. */
void audit_time_write(uint64_t us_since_1970, char text[AUDIT_TIME_CHARS + 1]) {
    uint64_t seconds = us_since_1970 / 1000000;
    if (seconds > (uint64_t)MOST_SECONDS)
        seconds = (uint64_t)MOST_SECONDS;
    unsigned days = (unsigned)(seconds / 86400) + 719468, second = (unsigned)(seconds % 86400);
    unsigned era = days / 146097, day = days % 146097;
    unsigned year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    unsigned month = (5 * day + 2) / 153; /* from March on */
    day -= (153 * month + 2) / 5;
    year += 400 * era + (month >= 10 ? 1 : 0);
    memcpy(text, "0000-00-00T00:00:00.000000Z", AUDIT_TIME_CHARS + 1);
    unsigned us = (unsigned)(us_since_1970 % 1000000);
    write_two(text, year / 100);
    write_two(text + 2, year % 100);
    write_two(text + 5, month < 10 ? month + 3 : month - 9);
    write_two(text + 8, day + 1);
    write_two(text + 11, second / 3600);
    write_two(text + 14, second / 60 % 60);
    write_two(text + 17, second % 60);
    write_two(text + 20, us / 10000);
    write_two(text + 22, us / 100 % 100);
    write_two(text + 24, us % 100);
}

/* What is no digit sets *wrong. */
static unsigned read_two(const char *text, unsigned *wrong) {
    unsigned tens = (unsigned char)text[0] - (unsigned)'0';
    unsigned ones = (unsigned char)text[1] - (unsigned)'0';
    *wrong |= (unsigned)(tens > 9) | (unsigned)(ones > 9);
    return 10 * tens + ones;
}

static unsigned days_of(unsigned year, unsigned month) {
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leaps = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leaps ? 1U : 0U);
}

/* From 1970-01-01 on. Counted from March, so that the day that leaps is the last of its year. */
static uint64_t days_since_1970(unsigned year, unsigned month, unsigned day) {
    unsigned shifted = month > 2 ? year : year - 1, from_march = (month + 9) % 12;
    unsigned whole_years = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400;
    return whole_years + (from_march * 153 + 2) / 5 + day - 1 - 719468;
}

enum { YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, MICROSECOND, N_NUMBERS };

static bool read_numbers(const char *text, unsigned n[N_NUMBERS]) {
    unsigned wrong = 0;
    n[YEAR] = 100 * read_two(text, &wrong) + read_two(text + 2, &wrong);
    n[MONTH] = read_two(text + 5, &wrong);
    n[DAY] = read_two(text + 8, &wrong);
    n[HOUR] = read_two(text + 11, &wrong);
    n[MINUTE] = read_two(text + 14, &wrong);
    n[SECOND] = read_two(text + 17, &wrong);
    n[MICROSECOND] = 10000 * read_two(text + 20, &wrong);
    n[MICROSECOND] += 100 * read_two(text + 22, &wrong);
    n[MICROSECOND] += read_two(text + 24, &wrong);
    return wrong == 0 && text[4] == '-' && text[7] == '-' && text[10] == 'T' && text[13] == ':' &&
           text[16] == ':' && text[19] == '.' && text[26] == 'Z';
}

/* A leap second is none of ours: audit_time_write() has no such second. */
bool audit_time_read(struct slice text, uint64_t *ret_us) {
    unsigned n[N_NUMBERS];
    if (text.len != AUDIT_TIME_CHARS || !read_numbers(text.ptr, n))
        return false;
    if (n[YEAR] < 1970 || n[MONTH] < 1 || n[MONTH] > 12 || n[DAY] < 1 ||
        n[DAY] > days_of(n[YEAR], n[MONTH]) || n[HOUR] > 23 || n[MINUTE] > 59 || n[SECOND] > 59)
        return false;
    uint64_t seconds = days_since_1970(n[YEAR], n[MONTH], n[DAY]) * 86400 + n[HOUR] * 3600U +
                       n[MINUTE] * 60U + n[SECOND];
    *ret_us = seconds * 1000000 + n[MICROSECOND];
    return true;
}
