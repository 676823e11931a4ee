/*
 * Names of syslog servers. getaddrinfo(3) cannot be told to end: it runs on a thread of its own,
 * and who does not want to wait any longer leaves it alone.
 */
#pragma once

#include <netdb.h>

#include "sink_private.h"

/* `host` without brackets, `port` in digits. 0: *ret_found is for freeaddrinfo(). -errno, after
 * sink_tell(). */
MUST_CHECK int syslog_lookup(struct audit_sink *sink, const char *host, const char *port,
                             int socket_type, uint64_t until_ms, struct addrinfo **ret_found);
