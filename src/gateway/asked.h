/*
 * What a server has asked of its client in the course of a call, for the record of the call: of
 * what kind, how often, and how that was answered. Numbers alone, so it is bounded.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "json/reader.h"
#include "mcp/protocol.h"

enum asked_kind { ASKED_SAMPLING, ASKED_ELICITATION, ASKED_ROOTS, ASKED_KINDS };
enum asked_answer {
    ASKED_OPEN,     /* nobody has answered when the record is written */
    ASKED_ANSWERED, /* with a result; the next three are an elicitation's */
    ASKED_ACCEPTED,
    ASKED_DECLINED,
    ASKED_CANCELLED,
    ASKED_FAILED,    /* with an error */
    ASKED_LATE,      /* not in time */
    ASKED_WITHDRAWN, /* by the server */
    ASKED_REFUSED,   /* by the gateway: the client was not asked */
    ASKED_ANSWERS
};

/* Of zeros: nothing. A number that is at its end stays there. */
struct asked {
    uint16_t n[ASKED_KINDS][ASKED_ANSWERS];
};

/* Of a method that is no such request nothing is counted. */
void asked_add(struct asked *asked, enum mcp_method method, enum asked_answer answer);
/* One that was open has come to this end. */
void asked_end(struct asked *asked, enum mcp_method method, enum asked_answer answer);
/* Moves all of it; `from` is of zeros then. */
void asked_move(struct asked *to, struct asked *from);
/* What a client's result says to a request of this method. `reader`: its tape is replaced. */
enum asked_answer asked_read(struct json_reader *reader, enum mcp_method method,
                             struct slice result);
/* Of a server's result of 2026-07-28: what it wants counts as open. False: it wants nothing.
 * `reader` as above. */
bool asked_read_wanted(struct asked *asked, struct json_reader *reader, struct slice result);
/* Of a client's inputResponses, which do not say what they are answers to, but show it. `reader` as
 * above. */
void asked_read_responses(struct asked *asked, struct json_reader *reader, struct slice responses);
/* Appends an object; nothing where nothing was asked. */
void asked_write(const struct asked *asked, struct buf *out);
