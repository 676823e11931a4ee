/* Durations and sizes: read, and written as they are read. */
#include <errno.h>

#include "base/checked.h"
#include "options.h"

struct unit {
    struct slice name;
    uint64_t factor;
};

/* Down to the millisecond, with the spellings that Nexus takes. The first of each factor is the one
 * that is written. */
static const struct unit duration_units[] = {
    {SLICE_INIT("w"), 604800000},
    {SLICE_INIT("week"), 604800000},
    {SLICE_INIT("weeks"), 604800000},
    {SLICE_INIT("d"), 86400000},
    {SLICE_INIT("day"), 86400000},
    {SLICE_INIT("days"), 86400000},
    {SLICE_INIT("h"), 3600000},
    {SLICE_INIT("hr"), 3600000},
    {SLICE_INIT("hour"), 3600000},
    {SLICE_INIT("hours"), 3600000},
    {SLICE_INIT("m"), 60000},
    {SLICE_INIT("min"), 60000},
    {SLICE_INIT("mins"), 60000},
    {SLICE_INIT("minute"), 60000},
    {SLICE_INIT("minutes"), 60000},
    {SLICE_INIT("s"), 1000},
    {SLICE_INIT("sec"), 1000},
    {SLICE_INIT("secs"), 1000},
    {SLICE_INIT("second"), 1000},
    {SLICE_INIT("seconds"), 1000},
    {SLICE_INIT("ms"), 1},
    {SLICE_INIT("msec"), 1},
    {SLICE_INIT("millisecond"), 1},
    {SLICE_INIT("milliseconds"), 1},
};

static const struct unit size_units[] = {
    {SLICE_INIT("GiB"), UINT64_C(1) << 30},
    {SLICE_INIT("MiB"), UINT64_C(1) << 20},
    {SLICE_INIT("KiB"), UINT64_C(1) << 10},
    {SLICE_INIT("B"), 1},
};

static const struct unit *find_unit(const struct unit *units, size_t n, struct slice name) {
    for (size_t i = 0; i < n; i++) {
        if (slice_eq(units[i].name, name))
            return &units[i];
    }
    return NULL;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The longest prefix of such bytes; *text moves behind it. */
static struct slice take_while(struct slice *text, bool (*wanted)(char)) {
    size_t n = 0;
    while (n < text->len && wanted(text->ptr[n]))
        n++;
    struct slice taken = slice_sub(*text, 0, n);
    *text = slice_from(*text, n);
    return taken;
}

/* "30 s" at the front of *text. 0, OPTION_E_INVALID, or -ERANGE. */
MUST_CHECK static int take_quantity(struct slice *text, const struct unit *units, size_t n_units,
                                    uint64_t *ret_value) {
    uint64_t number;
    struct slice digits = take_while(text, is_digit);
    int r = slice_to_u64(digits, &number);
    if (r != 0)
        return digits.len > 0 ? -ERANGE : OPTION_E_INVALID;
    *text = slice_trim(*text);
    const struct unit *unit = find_unit(units, n_units, take_while(text, is_letter));
    if (unit == NULL)
        return OPTION_E_INVALID;
    *text = slice_trim(*text);
    return u64_mul_overflows(number, unit->factor, ret_value) ? -ERANGE : 0;
}

MUST_CHECK static int refuse(const char *reason, const char **ret_reason) {
    *ret_reason = reason;
    return OPTION_E_INVALID;
}

int option_parse_duration(struct slice text, uint64_t *ret_ms, const char **ret_reason) {
    uint64_t total = 0;
    struct slice rest = slice_trim(text);
    do {
        uint64_t part;
        int r = take_quantity(&rest, duration_units, ARRAY_LEN(duration_units), &part);
        if (r == OPTION_E_INVALID)
            return refuse("must be a duration such as \"500ms\", \"30s\", \"5m\" or \"1h 30m\"",
                          ret_reason);
        if (r != 0 || u64_add_overflows(total, part, &total))
            return refuse("is too long a duration", ret_reason);
    } while (rest.len > 0);
    *ret_ms = total;
    return 0;
}

int option_parse_size(struct slice text, uint64_t *ret_bytes, const char **ret_reason) {
    uint64_t bytes;
    struct slice rest = slice_trim(text);
    int r = take_quantity(&rest, size_units, ARRAY_LEN(size_units), &bytes);
    if (r == -ERANGE)
        return refuse("is too large a size", ret_reason);
    if (r != 0 || rest.len > 0)
        return refuse("must be an integer of bytes, or a size such as \"512KiB\" or \"4MiB\"",
                      ret_reason);
    *ret_bytes = bytes;
    return 0;
}

int option_write_duration(struct buf *out, uint64_t ms) {
    if (ms == 0)
        return buf_append_cstr(out, "0s");
    const char *space = "";
    for (size_t i = 0; i < ARRAY_LEN(duration_units); i++) {
        const struct unit *unit = &duration_units[i];
        if (ms < unit->factor || unit->factor == UINT64_C(604800000))
            continue; /* days read better than weeks */
        buf_append_cstr(out, space);
        buf_append_u64(out, ms / unit->factor);
        buf_append(out, unit->name);
        ms %= unit->factor;
        space = " ";
    }
    return buf_error(out);
}

int option_write_size(struct buf *out, uint64_t bytes) {
    for (size_t i = 0; i < ARRAY_LEN(size_units); i++) {
        if (bytes < size_units[i].factor || bytes % size_units[i].factor != 0)
            continue;
        buf_append_u64(out, bytes / size_units[i].factor);
        return buf_append(out, size_units[i].name);
    }
    return buf_append_cstr(out, "0B");
}

int option_write_number(struct buf *out, const struct option *row, uint64_t number) {
    if (row->type == OPTION_DURATION)
        return option_write_duration(out, number);
    if (row->type == OPTION_SIZE)
        return option_write_size(out, number);
    return buf_append_u64(out, number);
}
