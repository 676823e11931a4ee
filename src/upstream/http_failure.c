#include "http_failure.h"

#include <stdio.h>

#include "mcp/message.h"

static bool names_session(struct slice text) {
    static const struct slice word = SLICE_INIT("session");
    for (size_t i = 0; i + word.len <= text.len; i++) {
        if (slice_eq_nocase(slice_sub(text, i, i + word.len), word))
            return true;
    }
    return false;
}

/* Said of a request that was looked at, in a session therefore; its words may be of anything. */
static bool is_of_method(int code) {
    return code == MCP_E_INVALID_PARAMS || code == MCP_E_METHOD_NOT_FOUND || code == MCP_E_INTERNAL;
}

struct transport_failure http_failure(struct json_reader *reader, const struct route *route,
                                      const struct post_end *end) {
    struct transport_failure failure = {
        .status = end->status,
        .told = end->obstacle == POST_LACKS_TOKEN ? token_lack(end->lack) : NULL,
        .lacks_token = end->obstacle == POST_LACKS_TOKEN,
        .reason = slice_from_cstr(end->reason),
        .end = end,
    };
    struct mcp_message message;
    struct mcp_refusal refusal;
    if (end->body.len != 0 && mcp_message_read(reader, end->body, &message, &refusal) == 0 &&
        message.kind == MCP_ERROR) {
        int64_t code = 0;
        const struct json_node *error = json_member(reader, json_root(reader), SLICE("error"));
        const struct json_node *number = json_member(reader, error, SLICE("code"));
        if (number != NULL && json_to_i64(number, &code) == 0 && code >= INT32_MIN &&
            code <= INT32_MAX)
            failure.code = (int)code;
        failure.error = message.error;
    }
    /* One of HTTP+SSE is part of its endpoint. */
    bool in_session = route != NULL && (route->session.len != 0 || route_is_of_stream(route));
    if (in_session)
        failure.is_session_lost =
            end->status == 404 ||
            (end->status == 400 && !is_of_method(failure.code) && names_session(end->body));
    return failure;
}

enum breaker_verdict http_verdict(const struct post_end *end, bool is_session_lost) {
    if (end->is_ours || end->obstacle != POST_NO_OBSTACLE)
        return BREAKER_NOTHING;
    if (!end->can_reach && !end->may_have_arrived)
        return BREAKER_UNREACHABLE;
    bool is_refusal = end->status >= 400 && end->status < 500 && !end->was_accepted;
    return is_refusal && !is_session_lost ? BREAKER_FINE : BREAKER_FAILED;
}

struct slice http_describe(const struct upstream *upstream, const struct post_end *end,
                           bool is_session_lost, char text[static HTTP_DESCRIPTION]) {
    enum { size = HTTP_DESCRIPTION };
    if (end->obstacle == POST_MAY_NOT_LEAVE)
        snprintf(text, size, "%s", CALL_MAY_NOT_LEAVE);
    else if (end->obstacle == POST_LACKS_TOKEN)
        snprintf(text, size, "%s", token_lack(end->lack));
    else if (end->is_ours && !end->may_have_arrived)
        snprintf(text, size,
                 "the gateway is out of memory or file descriptors, and did not send the call; try "
                 "again later");
    else if (end->is_ours)
        snprintf(text, size,
                 "the upstream's answer was refused: %s; the call may have been "
                 "carried out",
                 end->reason);
    else if (!end->can_reach && !end->may_have_arrived)
        snprintf(text, size, "the upstream cannot be reached; the gateway tries it again");
    else if (end->is_cut)
        snprintf(text, size,
                 "the connection to the upstream broke before it answered; the call may have been "
                 "carried out");
    else if (end->status < 300 || end->was_accepted)
        snprintf(text, size,
                 "the upstream's answer could not be used; the call may have been carried out");
    else if (end->status == 401 || end->status == 403)
        snprintf(text, size, "the upstream refused %s (HTTP %u)",
                 upstream_wants_token(upstream) ? "the caller's access token"
                                                : "the gateway's credentials",
                 end->status);
    else if (is_session_lost)
        snprintf(text, size, "the upstream forgets its sessions (HTTP %u); try again later",
                 end->status);
    else
        snprintf(text, size, "the upstream refused the request with HTTP %u", end->status);
    return slice_from_cstr(text);
}
