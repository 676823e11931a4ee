/* What was asked for: times as people write them, the filters as JSON. */
#include <string.h>

#include "audit/export.h"
#include "json/writer.h"

/* --- times --- */

static bool read_ago(struct slice text, uint64_t now_us, uint64_t *ret_us) {
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    uint64_t number = 0;
    if (text.len < 2 || slice_to_u64(slice_sub(text, 0, text.len - 1), &number) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (units[i].unit != text.ptr[text.len - 1])
            continue;
        uint64_t most = now_us / 1000000 / units[i].seconds;
        *ret_us = number > most ? 0 : now_us - number * units[i].seconds * 1000000;
        return true;
    }
    return false;
}

/* "+02:00", RFC 3339 section 4.2. */
static bool read_offset(struct slice text, bool *ret_is_east, uint64_t *ret_seconds) {
    uint64_t hours = 0, minutes = 0;
    if (text.len != 6 || (text.ptr[0] != '+' && text.ptr[0] != '-') || text.ptr[3] != ':' ||
        slice_to_u64(slice_sub(text, 1, 3), &hours) != 0 ||
        slice_to_u64(slice_sub(text, 4, 6), &minutes) != 0 || hours > 23 || minutes > 59)
        return false;
    *ret_is_east = text.ptr[0] == '+';
    *ret_seconds = hours * 3600 + minutes * 60;
    return true;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool audit_query_time(struct slice text, uint64_t now_us, uint64_t *ret_us) {
    enum { DATE = 10, SECONDS = 19, FRACTION = 6 };
    char whole[AUDIT_TIME_CHARS + 1] = "0000-00-00T00:00:00.000000Z";
    uint64_t us = 0, offset = 0;
    bool is_east = false;
    if (read_ago(text, now_us, ret_us))
        return true;
    if (text.len != DATE && text.len <= SECONDS)
        return false;
    memcpy(whole, text.ptr, text.len == DATE ? DATE : SECONDS);
    if (text.len > SECONDS) {
        if (whole[DATE] != 'T' && whole[DATE] != 't' && whole[DATE] != ' ')
            return false;
        whole[DATE] = 'T';
        size_t at = SECONDS;
        if (text.ptr[at] == '.') {
            size_t n = 0;
            for (at++; at < text.len && is_digit(text.ptr[at]); at++, n++) {
                if (n < FRACTION)
                    whole[SECONDS + 1 + n] = text.ptr[at];
            }
            if (n == 0)
                return false;
        }
        struct slice zone = slice_from(text, at);
        if (!slice_eq_nocase(zone, SLICE("Z")) && !read_offset(zone, &is_east, &offset))
            return false;
    }
    if (!audit_time_read(slice_make(whole, AUDIT_TIME_CHARS), &us))
        return false;
    offset *= 1000000;
    if (is_east && offset > us)
        return false;
    *ret_us = is_east ? us - offset : us + offset;
    return true;
}

/* --- as JSON --- */

struct filter {
    struct slice name, value;
};

enum { FILTERS = 9 };

static void list_filters(const struct audit_query *query, struct filter filters[FILTERS]) {
    const struct filter all[FILTERS] = {
        {SLICE_INIT("user"), query->user},           {SLICE_INIT("group"), query->group},
        {SLICE_INIT("operation"), query->operation}, {SLICE_INIT("upstream"), query->upstream},
        {SLICE_INIT("status"), query->status},       {SLICE_INIT("decision"), query->decision},
        {SLICE_INIT("event"), query->event},         {SLICE_INIT("address"), query->address},
        {SLICE_INIT("text"), query->text},
    };
    memcpy(filters, all, sizeof all);
}

bool audit_query_is_filtered(const struct audit_query *query) {
    struct filter filters[FILTERS];
    list_filters(query, filters);
    for (size_t i = 0; i < FILTERS; i++) {
        if (filters[i].value.len != 0)
            return true;
    }
    return query->since_us != 0 || query->until_us != 0;
}

static void write_time(struct json_writer *writer, struct slice key, uint64_t us) {
    char text[AUDIT_TIME_CHARS + 1];
    if (us == 0)
        return;
    audit_time_write(us, text);
    json_kv_string(writer, key, slice_from_cstr(text));
}

int audit_query_write(struct buf *out, const struct audit_query *query) {
    struct filter filters[FILTERS];
    struct json_writer writer;
    list_filters(query, filters);
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    for (size_t i = 0; i < FILTERS; i++) {
        if (filters[i].value.len != 0)
            json_kv_string(&writer, filters[i].name, filters[i].value);
    }
    write_time(&writer, SLICE("since"), query->since_us);
    write_time(&writer, SLICE("until"), query->until_us);
    json_object_end(&writer);
    return buf_error(out);
}
