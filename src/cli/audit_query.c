/* The filters of `cardea audit list` and `export`. */
#include <stdio.h>
#include <string.h>

#include "audit.h"
#include "base/clock.h"
#include "base/network.h"
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

bool cli_audit_time(struct slice text, uint64_t now_us, uint64_t *ret_us) {
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

static int read_time(const char *option, const char *text, uint64_t *ret_us) {
    if (text == NULL || cli_audit_time(slice_from_cstr(text), clock_wall_ms() * 1000, ret_us))
        return CLI_OK;
    char what[128];
    snprintf(what, sizeof what,
             "%s takes a time like 2026-11-21T22:55:01Z, a day, or how long ago, like 15m or 2d; "
             "not",
             option);
    return cli_audit_usage(what, text);
}

/* --- words --- */

static bool is_one_of(const char *text, const char *const *words) {
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0)
            return true;
    }
    return false;
}

static int check_words(const struct cli_options *options) {
    static const char *const decisions[] = {"allowed", "denied", NULL};
    static const char *const statuses[] = {"ok",          "tool-error", "error",
                                           "refused",     "cancelled",  "timeout",
                                           "unavailable", "lost",       NULL};
    struct network block;
    const struct cli_audit_options *audit = &options->audit;
    if (audit->decision != NULL && !is_one_of(audit->decision, decisions))
        return cli_audit_usage("a decision is allowed or denied, not", audit->decision);
    if (audit->status != NULL && !is_one_of(audit->status, statuses))
        return cli_audit_usage("a status is ok, tool-error, error, refused, cancelled, timeout, "
                               "unavailable or lost, not",
                               audit->status);
    if (audit->address != NULL && !network_parse(slice_from_cstr(audit->address), &block))
        return cli_audit_usage(
            "an address is one like 192.0.2.1, or a block like 192.0.2.0/24, not", audit->address);
    if (options->n_groups > 1)
        return cli_audit_usage("records are looked for by one group, not by several",
                               options->groups[1]);
    return CLI_OK;
}

int cli_audit_query(const struct cli_options *options, struct audit_query *ret_query) {
    const struct cli_audit_options *audit = &options->audit;
    struct audit_query query = {
        .user = slice_from_cstr(audit->user),
        .group = slice_from_cstr(options->n_groups != 0 ? options->groups[0] : NULL),
        .operation = slice_from_cstr(audit->operation),
        .upstream = slice_from_cstr(audit->upstream),
        .status = slice_from_cstr(audit->status),
        .decision = slice_from_cstr(audit->decision),
        .event = slice_from_cstr(audit->event),
        .address = slice_from_cstr(audit->address),
        .text = slice_from_cstr(audit->text),
        .oldest_first = audit->oldest_first,
    };
    int result = check_words(options);
    if (result == CLI_OK)
        result = read_time("--since", audit->since, &query.since_us);
    if (result == CLI_OK)
        result = read_time("--until", audit->until, &query.until_us);
    if (result == CLI_OK && query.until_us != 0 && query.since_us >= query.until_us)
        result = cli_audit_usage("nothing is between --since and --until", NULL);
    if (result == CLI_OK)
        *ret_query = query;
    return result;
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

bool cli_audit_is_filtered(const struct audit_query *query) {
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

int cli_audit_write_filter(struct buf *out, const struct audit_query *query) {
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
