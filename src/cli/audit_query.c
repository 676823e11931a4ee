/* The filters of `cardea audit list` and `export`. */
#include <stdio.h>
#include <string.h>

#include "audit.h"
#include "base/clock.h"
#include "base/network.h"

static int read_time(const char *option, const char *text, uint64_t *ret_us) {
    if (text == NULL || audit_query_time(slice_from_cstr(text), clock_wall_ms() * 1000, ret_us))
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
    static const char *const statuses[] = {"ok",      "tool-error", "error",   "input_required",
                                           "refused", "cancelled",  "timeout", "unavailable",
                                           "lost",    NULL};
    struct network block;
    const struct cli_audit_options *audit = &options->audit;
    if (audit->decision != NULL && !is_one_of(audit->decision, decisions))
        return cli_audit_usage("a decision is allowed or denied, not", audit->decision);
    if (audit->status != NULL && !is_one_of(audit->status, statuses))
        return cli_audit_usage("a status is ok, tool-error, error, input_required, refused, "
                               "cancelled, timeout, unavailable or lost, not",
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
