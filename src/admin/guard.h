/*
 * What a request's head has to be before anybody looks at who sent it. Pure: no store, no clock, no
 * loop. Each function reads what a stranger wrote.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accounts/accounts.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "http/message.h"
#include "http/uri.h"

/* --- Host and Origin --- */

struct guard_hosts {
    struct arena arena;
    struct uri_authority *hosts; /* without a port: any */
    size_t n;
};

/* `listen`: the address that is listened on; of every address (0.0.0.0) it names nothing. */
MUST_CHECK int guard_hosts_new(struct slice listen, const struct slice *hosts, size_t n,
                               struct guard_hosts **ret_hosts);
struct guard_hosts *guard_hosts_free(struct guard_hosts *hosts);
/*
 * A page of another name cannot reach us by having that name point here (DNS rebinding): ours are
 * localhost, loopback addresses, the address that is listened on, and the names given. One Host,
 * and no absolute form that says otherwise.
 */
bool guard_host_is_ours(const struct guard_hosts *hosts, const struct http_head *head);

/*
 * What a browser says of the page that asks (RFC 6454 section 7, Fetch metadata): where Origin is
 * there it is https:// and the Host of this request, and Sec-Fetch-Site is same-origin, or none for
 * what a person typed. Another port of this machine is another origin.
 */
bool guard_origin_is_ours(const struct http_head *head);

/* --- who --- */

#define GUARD_COOKIE "__Host-cardea-session"

enum guard_credentials {
    GUARD_NOBODY,
    GUARD_COOKIE_SENT,
    GUARD_BEARER,
    GUARD_AMBIGUOUS, /* two cookies of our name, two fields, a cookie and a token: nobody guesses */
    GUARD_MALFORMED, /* a cookie or token that we have not made, another scheme */
};
struct guard_who {
    struct slice session, secret; /* of the cookie */
    struct slice token;
};
/* Slices point into the head. */
enum guard_credentials guard_credentials(const struct http_head *head, struct guard_who *ret_who);

/* --- the version that a change is for (RFC 9110 sections 8.8.3, 13.1.1) --- */

enum guard_match {
    GUARD_MATCH_NONE,  /* there is no If-Match */
    GUARD_MATCH_ANY,   /* "*" */
    GUARD_MATCH_ONE,   /* *ret_version */
    GUARD_MATCH_OTHER, /* a tag that is none of ours: nothing has it */
    GUARD_MATCH_BAD,   /* not well-formed, or several */
};
enum guard_match guard_if_match(const struct http_head *head, uint64_t *ret_version);
int guard_write_etag(struct buf *out, uint64_t version);

/* --- paths and queries --- */

enum { GUARD_PARAMETERS = 2 };
/*
 * "/api/v1/users/{user}" against the path as it was sent: letters between slashes are compared
 * exactly and never decoded, so that there is one spelling of each path. What stands for {user} is
 * decoded into `arena`; it is never empty, "." or "..", and has no slash, backslash or control
 * character, whatever it was written as. -ENOMEM; GUARD_E_NO_MATCH.
 */
enum { GUARD_E_NO_MATCH = 1 };
MUST_CHECK int guard_match_path(struct slice pattern, struct slice path, struct arena *arena,
                                struct slice ret_parameters[static GUARD_PARAMETERS]);

/* The next "name=value" of *rest, decoded ("+" is a plus), or false at the end. *ret_error:
 * -ENOMEM, GUARD_E_QUERY: bad percent-encoding, a NUL, no valid UTF-8, or no "=". */
enum { GUARD_E_QUERY = 1 };
MUST_CHECK bool guard_next_query(struct slice *rest, struct arena *arena, struct slice *ret_name,
                                 struct slice *ret_value, int *ret_error);

/* Opaque to clients: base64url of where a page ended. */
int guard_write_cursor(struct buf *out, struct slice place);
/* GUARD_E_QUERY: it is none. */
MUST_CHECK int guard_read_cursor(struct slice cursor, struct buf *place);
/* The same of a list by creation. */
int guard_write_place(struct buf *out, const struct accounts_place *place);
MUST_CHECK int guard_read_place(struct slice cursor, struct accounts_place *ret_place);
