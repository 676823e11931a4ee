/*
 * Whose address a request has. Everybody can write X-Forwarded-For and X-Real-IP, so they count
 * only from those in server.trusted_proxies, and only what is configured. X-Real-IP goes before
 * X-Forwarded-For, as in Nexus. What is malformed is as if it were not there, and in the end the
 * address is the one of whoever talks to us: never one that a client may choose.
 *
 * X-Forwarded-For is one list over all its lines (RFC 9110 section 5.3), read from the right: each
 * proxy appends who talked to it, so what stands left of the first address that is not a trusted
 * proxy's was written by a stranger.
 */
#include "base/limits.h"
#include "border.h"

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
static bool find_forwarded(const struct border *border, const struct http_head *head,
                           struct network *ret_client) {
    const struct config_client_ip *config = &border->config->client_ip;
    struct entries entries = {
        .head = head, .name = SLICE("x-forwarded-for"), .next_field = head->n_fields};
    struct slice entry;
    struct network address = {.family_bits = 0};
    for (size_t i = 0; i < LIMIT_FORWARDED && next_entry(&entries, &entry); i++) {
        if (config->hops != UINT64_MAX) {
            if (i == config->hops)
                return parse_address(entry, ret_client);
            continue;
        }
        if (!parse_address(entry, &address))
            return false;
        if (!border_trusts(border, &address)) {
            *ret_client = address;
            return true;
        }
    }
    return false;
}

struct network border_client(const struct border *border, const struct http_head *head,
                             const struct network *peer) {
    const struct config_client_ip *config = &border->config->client_ip;
    bool is_forwarded = config->x_forwarded_for || config->hops != UINT64_MAX;
    struct network client = *peer;
    if ((!config->x_real_ip && !is_forwarded) || !border_trusts(border, peer))
        return client;
    static const struct slice real_ip = SLICE_INIT("x-real-ip");
    if (config->x_real_ip && http_head_count(head, real_ip) == 1 &&
        parse_address(http_head_get(head, real_ip), &client))
        return client;
    if (is_forwarded)
        (void)find_forwarded(border, head, &client);
    return client;
}
