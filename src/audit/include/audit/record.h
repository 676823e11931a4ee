/*
 * Bodies of records (audit/line.h), in sections that are appended one after the other, so that a
 * record grows with its call: begin, who, what, where, decision, result. Each section is JSON
 * members that follow others. Every string that comes from outside goes through redaction.
 *
 * A body is at most AUDIT_BODY bytes; strings are cut at AUDIT_STRING characters ("..." follows).
 * Empty slices, and numbers that are AUDIT_NONE, are left out.
 */
#pragma once

#include <stdint.h>

#include "audit/keys.h"
#include "audit/redact.h"
#include "base/network.h"

#define AUDIT_NONE UINT64_MAX

/* Of one thread: the scratch memory and the rules. */
struct audit_writer;

struct audit_writer_options {
    const struct audit_redact *redact; /* outlives it; audit_writer_set_redact() */
    const struct audit_keys *keys;     /* NULL: no HMAC */
};
MUST_CHECK int audit_writer_new(const struct audit_writer_options *options,
                                struct audit_writer **ret_writer);
struct audit_writer *audit_writer_free(struct audit_writer *writer);
/* Of a new configuration. */
void audit_writer_set_redact(struct audit_writer *writer, const struct audit_redact *redact);

/* Always the first: {"time","event","id"}; `id` joins intent and outcome of a call, may be empty.
 */
void audit_write_begin(struct buf *out, const char *event, uint64_t time_us, struct slice id);

struct audit_who {
    struct slice user; /* the principal */
    const struct slice *groups;
    size_t n_groups;
    struct slice authentication;   /* "token", "oauth", "certificate", "local", "none" */
    struct slice token;            /* its id: never the token */
    struct slice client;           /* what the program calls itself: "name version" */
    const struct network *address; /* NULL: none */
    struct slice session;          /* a part of its id */
    struct slice trace;            /* W3C trace-id */
};
void audit_write_who(struct audit_writer *writer, struct buf *out, const struct audit_who *who);

struct audit_what {
    struct slice method;    /* "tools/call" */
    struct slice operation; /* the tool's, prompt's name as the client wrote it; or the URI */
    struct slice arguments; /* JSON as it came; ptr NULL: none */
};
/* `arguments` (redacted, at most max_arguments bytes of JSON; "arguments_cut":true when there was
 * more), arguments_bytes, arguments_hmac (of the whole, as it came). */
void audit_write_what(struct audit_writer *writer, struct buf *out, const struct audit_what *what);

struct audit_where {
    struct slice upstream;
    struct slice upstream_operation; /* the name there, when it is another one */
    struct slice instance;           /* whose: "principal", "session", "all" */
    struct slice access;             /* "read", "write" */
};
void audit_write_where(struct audit_writer *writer, struct buf *out,
                       const struct audit_where *where);

struct audit_decided {
    struct slice decision; /* "allowed", "denied" */
    struct slice rule;     /* which one said so */
    struct slice reason;   /* a sentence */
};
void audit_write_decision(struct audit_writer *writer, struct buf *out,
                          const struct audit_decided *decided);

struct audit_result {
    struct slice status;  /* "ok", "tool-error", "error", "refused", "cancelled", "timeout", ... */
    uint64_t http_status; /* that the client got */
    struct slice code;    /* a number, as text: of a JSON-RPC error */
    struct slice message;
    uint64_t upstream_status; /* of the server's HTTP answer */
    uint64_t bytes;           /* of the answer's message */
    uint64_t duration_us;
};
void audit_write_result(struct audit_writer *writer, struct buf *out,
                        const struct audit_result *result);

/* Any other member, after redaction. */
void audit_write_text(struct audit_writer *writer, struct buf *out, struct slice key,
                      struct slice text);
void audit_write_number(struct buf *out, struct slice key, uint64_t number);
/* A member whose value is JSON of ours. */
void audit_write_raw(struct buf *out, struct slice key, struct slice json);
