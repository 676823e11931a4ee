/*
 * Sinks: copies of the trail elsewhere. Each follows the segments on a thread of its own, at its
 * own pace, and remembers how far it came (DIR/NAME.place): after a restart it goes on there, and
 * while its destination is away nothing is held in memory.
 */
#pragma once

#include "audit/trail.h"
#include "base/log.h"
#include "config/config.h"

struct audit_sink;

/* JSON Lines: the lines as they are, into config->jsonl_path; when that is longer than
 * jsonl_max_bytes it becomes PATH.1, that PATH.2, and so on, jsonl_files in all. -errno. */
MUST_CHECK int audit_sink_jsonl(const char *dir, const struct config_audit *config, struct log *log,
                                struct audit_sink **ret_sink);
/* RFC 5424 to config->syslog_url: udp (RFC 5426), tcp (RFC 6587 section 3.4.1, octet counting), tls
 * (RFC 5425). -errno. */
MUST_CHECK int audit_sink_syslog(const char *dir, const struct config_audit *config,
                                 struct log *log, struct audit_sink **ret_sink);

struct audit_sink_state {
    const char *name;  /* "jsonl", "syslog" */
    uint64_t seq;      /* of the last line that was handed over */
    uint64_t n_missed; /* that were deleted before */
    char error[160];   /* why it does not go on; empty: it does */
};
void audit_sink_get_state(struct audit_sink *sink, struct audit_sink_state *ret_state);
/* Hands over what is there, for `most_ms` at most, and ends. Accepts NULL. */
struct audit_sink *audit_sink_stop(struct audit_sink *sink, uint64_t most_ms);
