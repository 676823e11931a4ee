/*
 * The record of what was decided (audit/): of each request of a caller one, of strangers' a count.
 *
 * A call gathers its record as it goes: who and what when it is made, where and why when that is
 * known, what came of it at its end. In best-effort mode it is written then, and nobody waits.
 * Where records are required the same text is written as an intent before the call leaves for its
 * server, which waits until that is durable; and the answer, whatever it is, is held back until the
 * end is.
 */
#pragma once

#include "asked.h"
#include "audit/record.h"
#include "request.h"

struct gw_call;
struct gw_record_wait;

/* In the call. Of zeros: nothing is recorded. */
struct gw_record {
    struct buf text;             /* the sections so far */
    uint64_t began_us, began_ns; /* since 1970; monotonic */
    const char *status;          /* NULL: it has not ended yet */
    int code;                    /* of an error; 0: none */
    uint64_t upstream_status;    /* AUDIT_NONE: none */
    bool is_on;                  /* records are kept */
    size_t before_where;         /* length of the text; 0: "where" is not in it */
    bool is_decided;             /* "decision" is in the text */
    bool has_intent;             /* it is durable */
    bool is_elsewhere;           /* ... and names another server than the one it is for now */
    struct gw_record_wait *wait; /* NULL: does not wait for the trail */
    char *held;                  /* owned: an answer that waits */
    size_t held_len;
    struct buf message; /* of an error */
    struct asked asked; /* by its server */
};

/* record.c: calls */

void gw_record_begin(struct gw_call *call, const struct mcp_message *message);
/* The server and the thing there. */
void gw_record_where(struct gw_call *call, const struct upstream *upstream, struct slice name,
                     bool is_write);
/* Once; what was decided first is what stands. `rule`: its key in the configuration, or a word. */
void gw_record_allow(struct gw_call *call);
void gw_record_deny(struct gw_call *call, struct slice rule, struct slice reason);
/* By the code that the caller is told, where nobody has said more. */
void gw_record_refusal(struct gw_call *call, enum mcp_error_code code, struct slice text);
/* How it ends; what is denied stays refused. `message` is what the caller is told. */
void gw_record_status(struct gw_call *call, const char *status, int code, struct slice message);
/*
 * Before the call leaves for its server, with the message at hand. False: it waits, and
 * gw_route_go_on() comes; or it was refused, because the trail cannot be written.
 */
bool gw_record_intent(struct gw_call *call, const struct mcp_message *message, bool is_write);
/* `http_status`: of an HTTP server; 0: it is none, or there was none. */
void gw_record_answer(struct gw_call *call, enum upstream_outcome outcome, struct slice bytes,
                      unsigned http_status);
/* The client of 2026-07-28 has come back with what its server wanted. */
void gw_record_responses(struct gw_call *call, const struct mcp_message *message);
/* The end. True: the answer is held until that is durable, or another one was given: the call is
 * not the caller's any more. */
bool gw_record_end(struct gw_call *call, const struct slice *parts, size_t n_parts);
/* The end of one that gets no answer. */
void gw_record_cancelled(struct gw_call *call);
void gw_record_free(struct gw_call *call);
/* The worker's loop has ended: nobody is told any more. */
void gw_record_waits_free(struct gw_worker *worker);

/* What the client of a new session calls itself, by its initialize. */
void gw_record_note_client(struct gw_session *session, struct gw_worker *worker,
                           const struct mcp_message *message);

/* record_request.c: what is no call */

/* An HTTP request is refused: a record when the caller is known, else it is counted. */
void gw_record_refused(struct gw_exchange *exchange, uint16_t status, const char *reason,
                       struct slice text);
/* Somebody who never came as far as a request. */
void gw_record_stranger(struct gw_worker *worker, const struct network *address,
                        const char *reason);
/* "stream", "session", "login": the GET stream is open; the session was ended; a credential was
 * proved that was not known. */
void gw_record_done(struct gw_exchange *exchange, const char *event);
/* A credential was proved that was not known. */
void gw_record_login(struct gw_exchange *exchange);
/* What the caller of this exchange is, for a record. */
void gw_record_write_who(struct gw_exchange *exchange, struct slice client, struct slice trace,
                         struct buf *out);
/* W3C trace-id of a traceparent, or empty. */
struct slice gw_record_trace(struct slice traceparent);

/* upstream_hooks.on_token */
void gw_record_token(void *context, const struct config_server *server, struct slice issuer,
                     uint64_t lifetime_ms, const char *reason);
/* Of worker 0: edit mode, configuration. `write` appends members. */
void gw_record_event(struct gateway *gateway, const char *event,
                     void (*write)(struct audit_writer *writer, struct buf *out,
                                   const void *context),
                     const void *context);
