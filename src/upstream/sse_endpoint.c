#include "sse_endpoint.h"

#include <errno.h>

#include "base/limits.h"
#include "http/uri.h"

static const char *refuse(const struct uri *url, const struct uri *endpoint) {
    if (!uri_same_origin(url, endpoint))
        return "its endpoint event points to another origin than url (scheme, host and port have "
               "to be the same); if that is meant to be so, put the address into message_url";
    if (endpoint->has_userinfo)
        return "its endpoint event has a user name or password in it";
    return endpoint->has_fragment ? "its endpoint event has a fragment" : NULL;
}

int sse_endpoint_read(struct buf *out, struct slice url, struct slice event,
                      const char **ret_reason) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
    struct uri base, endpoint;
    _Static_assert(LIMIT_URI == 8192, "the message says so");
    *ret_reason = "its endpoint event is no URL";
    if (event.len == 0 || uri_parse(url, &base, NULL) != 0)
        return ENDPOINT_E_REFUSED;
    int error = event.len > LIMIT_URI ? -E2BIG : uri_resolve(&text, &base, event);
    if (error == -E2BIG) {
        *ret_reason = "its endpoint event is longer than 8192 bytes";
        return ENDPOINT_E_REFUSED;
    }
    if (error < 0)
        return error;
    if (error != 0 || uri_parse(buf_slice(&text), &endpoint, NULL) != 0)
        return ENDPOINT_E_REFUSED;
    const char *reason = refuse(&base, &endpoint);
    if (reason != NULL) {
        *ret_reason = reason;
        return ENDPOINT_E_REFUSED;
    }
    buf_append(out, endpoint.path.len != 0 ? endpoint.path : SLICE("/"));
    if (endpoint.has_query) {
        buf_append_byte(out, '?');
        buf_append(out, endpoint.query);
    }
    return buf_error(out);
}
