/* What of Streamable HTTP the session and single calls have in common. */
#pragma once

#include "json/reader.h"
#include "post.h"
#include "transport.h"

/*
 * Reads why there was no answer: the JSON-RPC error in the body, and whether the session is gone
 * (404; or 400 that says so: common servers answer so after a restart). Slices point into `end` and
 * the route's fields.
 */
struct transport_failure http_failure(struct json_reader *reader, const struct route *route,
                                      const struct post_end *end);
