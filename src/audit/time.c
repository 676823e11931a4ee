/* Times as records have them (RFC 3339, UTC, microseconds). */
#include <stdio.h>
#include <time.h>

#include "audit/line.h"

#define MOST_SECONDS INT64_C(253402300799) /* the end of the year 9999 */

void audit_time_write(uint64_t us_since_1970, char text[AUDIT_TIME_CHARS + 1]) {
    struct tm parts;
    time_t seconds = (time_t)(us_since_1970 / 1000000);
    if (seconds > (time_t)MOST_SECONDS)
        seconds = (time_t)MOST_SECONDS;
    gmtime_r(&seconds, &parts);
    snprintf(text, AUDIT_TIME_CHARS + 1, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ",
             (unsigned)(parts.tm_year + 1900) % 10000, (unsigned)(parts.tm_mon + 1) % 100,
             (unsigned)parts.tm_mday % 100, (unsigned)parts.tm_hour % 100,
             (unsigned)parts.tm_min % 100, (unsigned)parts.tm_sec % 100,
             (unsigned)(us_since_1970 % 1000000));
}

static bool read_digits(const char *text, size_t n, unsigned *ret_number) {
    unsigned number = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (unsigned)(text[i] - '0');
    }
    *ret_number = number;
    return true;
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

/* A leap second is none of ours: audit_time_write() has no such second. */
bool audit_time_read(struct slice text, uint64_t *ret_us) {
    unsigned year, month, day, hour, minute, second, us;
    const char *p = text.ptr;
    if (text.len != AUDIT_TIME_CHARS || p[4] != '-' || p[7] != '-' || p[10] != 'T' ||
        p[13] != ':' || p[16] != ':' || p[19] != '.' || p[26] != 'Z')
        return false;
    if (!read_digits(p, 4, &year) || !read_digits(p + 5, 2, &month) ||
        !read_digits(p + 8, 2, &day) || !read_digits(p + 11, 2, &hour) ||
        !read_digits(p + 14, 2, &minute) || !read_digits(p + 17, 2, &second) ||
        !read_digits(p + 20, 6, &us))
        return false;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_of(year, month) ||
        hour > 23 || minute > 59 || second > 59)
        return false;
    uint64_t seconds =
        days_since_1970(year, month, day) * 86400 + hour * 3600U + minute * 60U + second;
    *ret_us = seconds * 1000000 + us;
    return true;
}
