/*
 * X-Forwarded-For is one list over all its lines (RFC 9110 section 5.3), read from the right: each
 * proxy appends who talked to it, so what stands left of the first address that is not a trusted
 * proxy's was written by a stranger.
 */
#include "http/forwarded.h"

#include "base/limits.h"
#include "http/uri.h"

bool http_forwarded_trusts(const struct http_forwarded *forwarded, const struct network *address) {
    for (size_t i = 0; i < forwarded->n_trusted && address->family_bits != 0; i++) {
        if (network_has(&forwarded->trusted[i], address))
            return true;
    }
    return false;
}

/* "1.2.3.4", "1.2.3.4:55", "::1", "[::1]", "[::1]:5", as proxies write them. */
static bool parse_address(struct slice text, struct network *ret_address) {
    struct uri_authority authority;
    if (network_parse_address(text, ret_address))
        return true;
    return uri_parse_authority(text, &authority) == 0 &&
           network_parse_address(authority.host, ret_address);
}

/* Over the entries of a field that may be on several lines, from the last one on. */
struct entries {
    const struct http_head *head;
    struct slice name;
    size_t next_field; /* fields before this one are to come */
    struct slice rest; /* of the field at hand */
    bool has_rest;
};

static bool next_entry(struct entries *at, struct slice *ret_entry) {
    while (!at->has_rest) {
        if (at->next_field == 0)
            return false;
        const struct http_field *field = &at->head->fields[--at->next_field];
        if (!slice_eq_nocase(field->name, at->name))
            continue;
        at->rest = field->value;
        at->has_rest = true;
    }
    size_t from = at->rest.len;
    while (from != 0 && at->rest.ptr[from - 1] != ',')
        from--;
    *ret_entry = slice_trim(slice_from(at->rest, from));
    at->has_rest = from != 0;
    at->rest = slice_sub(at->rest, 0, from != 0 ? from - 1 : 0);
    return true;
}

/* The n-th from the right, or the first that is no trusted proxy's. */
static bool find_forwarded(const struct http_forwarded *forwarded, const struct http_head *head,
                           struct network *ret_client) {
    struct entries entries = {
        .head = head, .name = SLICE("x-forwarded-for"), .next_field = head->n_fields};
    struct slice entry;
    struct network address = {.family_bits = 0};
    for (size_t i = 0; i < LIMIT_FORWARDED && next_entry(&entries, &entry); i++) {
        if (forwarded->hops != HTTP_NO_HOPS) {
            if (i == forwarded->hops)
                return parse_address(entry, ret_client);
            continue;
        }
        if (!parse_address(entry, &address))
            return false;
        if (!http_forwarded_trusts(forwarded, &address)) {
            *ret_client = address;
            return true;
        }
    }
    return false;
}

struct network http_forwarded_client(const struct http_forwarded *forwarded,
                                     const struct http_head *head, const struct network *peer) {
    static const struct slice real_ip = SLICE_INIT("x-real-ip");
    bool is_listed = forwarded->x_forwarded_for || forwarded->hops != HTTP_NO_HOPS;
    struct network client = *peer;
    if ((!forwarded->x_real_ip && !is_listed) || !http_forwarded_trusts(forwarded, peer))
        return client;
    if (forwarded->x_real_ip && http_head_count(head, real_ip) == 1 &&
        parse_address(http_head_get(head, real_ip), &client))
        return client;
    if (is_listed)
        (void)find_forwarded(forwarded, head, &client);
    return client;
}
