/*
 * Who is calling. The local bearer token makes the principal "local"; without a token, and only
 * where the configuration says so, it is "anonymous". A token that is wrong is never taken for
 * none.
 */
#include "private.h"

enum gw_authn gw_authenticate(struct gateway *gateway, const struct http_head *head,
                              struct gw_principal **ret_principal) {
    struct slice value = http_head_get(head, SLICE("authorization"));
    if (value.ptr == NULL) {
        if (!gateway->config->auth_anonymous)
            return GW_AUTHN_MISSING;
        *ret_principal = &gateway->anonymous;
        return GW_AUTHN_OK;
    }
    struct slice scheme, token;
    /* RFC 6750 section 2.1: one field, the scheme without case, one space or more, the token. */
    if (http_head_count(head, SLICE("authorization")) != 1 ||
        !slice_cut(value, ' ', &scheme, &token) || !slice_eq_nocase(scheme, SLICE("bearer")) ||
        !secret_equals(gateway->token, slice_trim(token)))
        return GW_AUTHN_INVALID;
    *ret_principal = &gateway->local;
    return GW_AUTHN_OK;
}
