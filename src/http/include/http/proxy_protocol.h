/*
 * The PROXY protocol, version 2 (HAProxy, doc/proxy-protocol.txt, section 2.2): what a balancer
 * writes in front of a connection, so that the address of whoever connected to it is known. Only
 * the binary form; what follows the addresses (TLVs) is skipped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/network.h"
#include "base/slice.h"

enum proxy_verdict {
    PROXY_NEED_MORE,
    PROXY_DONE,
    PROXY_REFUSED, /* it is none, of another version, not for TCP, or longer than the limit */
};

struct proxy_header {
    size_t len; /* bytes of it, from the first */
    /* True: `source` is who connected. False: the balancer speaks for itself (LOCAL), or does not
     * know (AF_UNSPEC, AF_UNIX): the connection's own address stays. */
    bool has_source;
    struct network source;
    const char *reason; /* of a refusal; fixed */
};

/* `bytes` is all that came so far; the answer is the same however they were cut. */
enum proxy_verdict proxy_header_read(struct slice bytes, struct proxy_header *ret_header);
