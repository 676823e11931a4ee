/* Dates and times as RFC 3339 writes them. */
#include "base/checked.h"
#include "options.h"

struct moment {
    unsigned year, month, day, hour, minute, second, ms;
    int offset_minutes; /* east of UTC */
};

/* Exactly `n` digits at the front of *text. */
static bool take_digits(struct slice *text, size_t n, unsigned *ret_number) {
    unsigned number = 0;
    if (text->len < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (text->ptr[i] < '0' || text->ptr[i] > '9')
            return false;
        number = number * 10 + (unsigned)(text->ptr[i] - '0');
    }
    *text = slice_from(*text, n);
    *ret_number = number;
    return true;
}

static bool take_one_of(struct slice *text, const char *choices) {
    if (text->len == 0 || text->ptr[0] == '\0' || strchr(choices, text->ptr[0]) == NULL)
        return false;
    *text = slice_from(*text, 1);
    return true;
}

static unsigned days_of(unsigned year, unsigned month) {
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && is_leap ? 1u : 0u);
}

static bool take_date(struct slice *text, struct moment *moment) {
    return take_digits(text, 4, &moment->year) && take_one_of(text, "-") &&
           take_digits(text, 2, &moment->month) && take_one_of(text, "-") &&
           take_digits(text, 2, &moment->day) && moment->year >= 1970 && moment->month >= 1 &&
           moment->month <= 12 && moment->day >= 1 &&
           moment->day <= days_of(moment->year, moment->month);
}

/* Digits past the third are cut. */
static bool take_fraction(struct slice *text, struct moment *moment) {
    unsigned digit, factor = 100, n = 0;
    if (!take_one_of(text, "."))
        return true;
    for (; take_digits(text, 1, &digit); n++, factor /= 10)
        moment->ms += digit * factor;
    return n > 0;
}

static bool take_offset(struct slice *text, struct moment *moment) {
    unsigned hours, minutes;
    if (take_one_of(text, "zZ"))
        return true;
    bool is_west = text->len > 0 && text->ptr[0] == '-';
    if (!take_one_of(text, "+-") || !take_digits(text, 2, &hours) || !take_one_of(text, ":") ||
        !take_digits(text, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    int offset = (int)(hours * 60 + minutes);
    moment->offset_minutes = is_west ? -offset : offset;
    return true;
}

/* A leap second (60) is taken for the first of the next minute. */
static bool take_time(struct slice *text, struct moment *moment) {
    return take_one_of(text, "tT ") && take_digits(text, 2, &moment->hour) &&
           take_one_of(text, ":") && take_digits(text, 2, &moment->minute) &&
           take_one_of(text, ":") && take_digits(text, 2, &moment->second) && moment->hour <= 23 &&
           moment->minute <= 59 && moment->second <= 60 && take_fraction(text, moment) &&
           take_offset(text, moment);
}

static int64_t days_since_1970(const struct moment *moment) {
    int64_t days = 0;
    for (unsigned year = 1970; year < moment->year; year++)
        days += 337 + (int64_t)days_of(year, 2);
    for (unsigned month = 1; month < moment->month; month++)
        days += (int64_t)days_of(moment->year, month);
    return days + (int64_t)moment->day - 1;
}

int option_parse_time(struct slice text, uint64_t *ret_ms, const char **ret_reason) {
    struct moment moment = {.year = 0};
    struct slice rest = text;
    bool fine = take_date(&rest, &moment);
    bool is_date = fine && rest.len == 0;
    if (fine && !is_date)
        fine = take_time(&rest, &moment) && rest.len == 0;
    if (!fine) {
        *ret_reason = "must be a date or a time with its offset, such as \"2027-01-31\" or "
                      "\"2027-01-31T12:00:00Z\"";
        return OPTION_E_INVALID;
    }
    int64_t minutes = (days_since_1970(&moment) + (is_date ? 1 : 0)) * 1440 +
                      (int64_t)moment.hour * 60 + (int64_t)moment.minute - moment.offset_minutes;
    int64_t ms = (minutes * 60 + (int64_t)moment.second) * 1000 + (int64_t)moment.ms;
    *ret_ms = ms > 0 ? (uint64_t)ms : 1; /* 0 means never */
    return 0;
}
