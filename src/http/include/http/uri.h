/*
 * URIs (RFC 3986), strict and sans-io: no white space, no control bytes, no backslash, valid
 * percent-encoding, ports in range, IPv4 in plain dotted decimal, IPv6 in brackets without zones.
 * Nothing is normalised behind the caller's back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

enum uri_host_kind { URI_HOST_NONE, URI_HOST_NAME, URI_HOST_IPV4, URI_HOST_IPV6 };

struct uri {
    struct slice scheme; /* as written */
    bool has_authority;
    bool has_userinfo;
    struct slice userinfo;
    struct slice host; /* without brackets */
    enum uri_host_kind host_kind;
    bool has_port;
    uint16_t port; /* the explicit one, or the default of http(s), ws(s), redis(s); else 0 */
    struct slice path;
    bool has_query;
    struct slice query;
    bool has_fragment;
    struct slice fragment;
};

/* An absolute URI. 0, or positive URI_E_INVALID with *ret_reason (may be NULL) a fixed sentence.
 * Slices point into text. */
enum { URI_E_INVALID = 1 };
MUST_CHECK int uri_parse(struct slice text, struct uri *ret_uri, const char **ret_reason);

/* "host", "host:port", "[v6]:port": an authority without userinfo, as in Host. Same result codes.
 */
struct uri_authority {
    struct slice host;
    enum uri_host_kind host_kind;
    bool has_port;
    uint16_t port;
};
MUST_CHECK int uri_parse_authority(struct slice text, struct uri_authority *ret_authority);

/*
 * A host name: labels of letters, digits, '-' and '_' that neither begin nor end with '-', at most
 * 253 bytes; a trailing dot is refused, and so is what could be taken for an address ("1",
 * "0x7f.1").
 */
bool uri_is_host_name(struct slice text);

/* Scheme, host (without case) and port are equal: RFC 6454. */
bool uri_same_origin(const struct uri *a, const struct uri *b);

/*
 * Resolves a reference against a base (RFC 3986 section 5.2) into `out`. The result was parsed
 * again and is valid. URI_E_INVALID, or the buffer's error.
 */
MUST_CHECK int uri_resolve(struct buf *out, const struct uri *base, struct slice reference);

/* Appends with percent-decoding; URI_E_INVALID for a bad sequence or a decoded NUL. */
MUST_CHECK int uri_percent_decode(struct buf *out, struct slice text);
/* Appends, encoding all but unreserved characters (section 2.3). */
int uri_percent_encode(struct buf *out, struct slice text);
