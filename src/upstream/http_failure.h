/* Why an HTTP server gave no answer: the one reading of it for sessions and calls of all
 * transports.
 */
#pragma once

#include "json/reader.h"
#include "private.h"

/*
 * Reads the JSON-RPC error in the body, and whether the session is gone (404; or 400 that says so:
 * common servers answer so after a restart). Slices point into `end` and the route's fields.
 */
struct transport_failure http_failure(struct json_reader *reader, const struct route *route,
                                      const struct post_end *end);
/* What an answer other than a message says of the server. */
enum breaker_verdict http_verdict(const struct post_end *end, bool is_session_lost);
enum { HTTP_DESCRIPTION = 320 };
/* What the caller is told whose request got no answer. */
struct slice http_describe(const struct upstream *upstream, const struct post_end *end,
                           bool is_session_lost, char text[static HTTP_DESCRIPTION]);
