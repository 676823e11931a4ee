/* What stands in [audit]. */
#include "base/limits.h"
#include "base/regex.h"
#include "http/uri.h"
#include "options.h"

const char *check_redact_path(struct slice value) {
    if (slice_is_empty(value))
        return "it is empty: name a member of the arguments, such as \"password\" or \"db.*.pin\"";
    for (bool more = true; more;) {
        struct slice part;
        more = slice_cut(value, '.', &part, &value);
        if (slice_is_empty(part))
            return "it has an empty part: names are separated by one dot each";
    }
    return NULL;
}

const char *check_redact_pattern(struct slice value) {
    struct regex *regex = NULL;
    if (slice_is_empty(value))
        return "it is empty, and would match everywhere";
    _Static_assert(LIMIT_PATTERN == 4096, "the message says so");
    if (value.len > LIMIT_PATTERN)
        return "it is longer than 4 KiB";
    int error = regex_new_search(value, &regex, NULL);
    regex_free(regex);
    return error > 0 ? "it is no regular expression that PCRE2 takes" : NULL;
}

const char *check_syslog_url(struct slice value) {
    struct uri uri;
    static const char form[] = "it must be udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT";
    if (uri_parse(value, &uri, NULL) != 0)
        return form;
    bool is_known = slice_eq(uri.scheme, SLICE("udp")) || slice_eq(uri.scheme, SLICE("tcp")) ||
                    slice_eq(uri.scheme, SLICE("tls"));
    return is_known && uri.host_kind != URI_HOST_NONE && uri.has_port && uri.path.len <= 1 &&
                   !uri.has_query && !uri.has_fragment && !uri.has_userinfo
               ? NULL
               : form;
}
