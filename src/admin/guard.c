#include "guard.h"

#include <errno.h>

#include "base/base64.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/network.h"
#include "base/utf8.h"

enum { MOST_CURSOR = 512, MOST_PARAMETER = 512 };

/* --- Host and Origin --- */

static bool is_loopback(const struct uri_authority *authority) {
    static const unsigned char v6[16] = {[15] = 1};
    struct network address;
    if (slice_eq_nocase(authority->host, SLICE("localhost")))
        return true;
    if (authority->host_kind == URI_HOST_NAME || !network_parse_address(authority->host, &address))
        return false;
    return address.family_bits == NETWORK_V4_BITS ? address.bytes[0] == 127
                                                  : memcmp(address.bytes, v6, sizeof v6) == 0;
}

static bool is_unspecified(const struct uri_authority *authority) {
    static const unsigned char nothing[16] = {0};
    struct network address;
    return network_parse_address(authority->host, &address) &&
           memcmp(address.bytes, nothing, address.family_bits / 8) == 0;
}

/* What is no authority (a pattern, say) names nothing. An address without brackets is one, too:
 * certificates have them so. */
static void add_host(struct guard_hosts *hosts, struct slice text, bool any_port) {
    struct uri_authority authority;
    struct network address;
    struct slice copy = arena_dup(&hosts->arena, text);
    if (slice_find_byte(text, ':') != SIZE_MAX && network_parse_address(text, &address)) {
        char *in_brackets = arena_printf(&hosts->arena, "[%.*s]", SLICE_ARGS(text));
        copy = slice_from_cstr(in_brackets);
    }
    if (arena_failed(&hosts->arena) || uri_parse_authority(copy, &authority) != 0 ||
        is_unspecified(&authority))
        return;
    if (any_port)
        authority.has_port = false;
    hosts->hosts[hosts->n++] = authority;
}

int guard_hosts_new(struct slice listen, const struct slice *names, size_t n,
                    struct guard_hosts **ret_hosts) {
    struct guard_hosts *hosts = mem_alloc(sizeof *hosts);
    if (hosts == NULL)
        return -ENOMEM;
    arena_init(&hosts->arena, MIB(1));
    hosts->hosts = arena_alloc_array(&hosts->arena, n + 1, sizeof *hosts->hosts);
    if (hosts->hosts != NULL) {
        add_host(hosts, listen, true);
        for (size_t i = 0; i < n; i++)
            add_host(hosts, names[i], false);
    }
    if (arena_failed(&hosts->arena)) {
        guard_hosts_free(hosts);
        return -ENOMEM;
    }
    *ret_hosts = hosts;
    return 0;
}

struct guard_hosts *guard_hosts_free(struct guard_hosts *hosts) {
    if (hosts == NULL)
        return NULL;
    arena_deinit(&hosts->arena);
    mem_free(hosts);
    return NULL;
}

bool guard_host_is_ours(const struct guard_hosts *hosts, const struct http_head *head) {
    struct uri_authority authority;
    /* HTTP/1.0 without a Host names nobody. */
    if (head->host.len == 0 || uri_parse_authority(head->host, &authority) != 0)
        return false;
    if (head->authority.len != 0 && !slice_eq_nocase(head->authority, head->host))
        return false;
    if (is_loopback(&authority))
        return true;
    for (size_t i = 0; i < hosts->n; i++) {
        const struct uri_authority *ours = &hosts->hosts[i];
        if (slice_eq_nocase(ours->host, authority.host) &&
            (!ours->has_port || (authority.has_port && ours->port == authority.port)))
            return true;
    }
    return false;
}

bool guard_origin_is_ours(const struct http_head *head) {
    struct slice origin = http_head_get(head, SLICE("origin"));
    struct slice site = http_head_get(head, SLICE("sec-fetch-site"));
    struct slice scheme = SLICE("https://");
    if (http_head_count(head, SLICE("sec-fetch-site")) > 1 ||
        (site.ptr != NULL && !slice_eq(site, SLICE("same-origin")) &&
         !slice_eq(site, SLICE("none"))))
        return false;
    if (origin.ptr == NULL)
        return true;
    return http_head_count(head, SLICE("origin")) == 1 &&
           slice_starts_with_nocase(origin, scheme) &&
           slice_eq_nocase(slice_from(origin, scheme.len), head->host);
}

/* --- who --- */

static bool is_base64url(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool is_fine = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_';
        if (!is_fine)
            return false;
    }
    return true;
}

/*
 * All cookies of our name, in all fields; the value of the first one. Those of the name in another
 * case count as well, without a value: browsers that compare with case do not keep others from
 * setting such a one (RFC 6265bis section 5.7).
 */
static size_t find_cookies(const struct http_head *head, struct slice *ret_value) {
    size_t n = 0;
    for (size_t i = 0; i < head->n_fields; i++) {
        struct slice rest = head->fields[i].value, pair;
        if (!slice_eq_nocase(head->fields[i].name, SLICE("cookie")))
            continue;
        for (bool goes_on = true; goes_on;) {
            struct slice name, value;
            goes_on = slice_cut(rest, ';', &pair, &rest);
            (void)slice_cut(slice_trim(pair), '=', &name, &value);
            name = slice_trim(name);
            if (slice_eq_nocase(name, SLICE(GUARD_COOKIE)) && n++ == 0 &&
                slice_eq(name, SLICE(GUARD_COOKIE)))
                *ret_value = slice_trim(value);
        }
    }
    return n;
}

static enum guard_credentials read_cookie(struct slice value, struct guard_who *ret_who) {
    struct slice session, secret;
    if (!slice_cut(value, '.', &session, &secret) || session.len != ACCOUNTS_ID ||
        secret.len != ACCOUNTS_SECRET || !is_base64url(session) || !is_base64url(secret))
        return GUARD_MALFORMED;
    ret_who->session = session;
    ret_who->secret = secret;
    return GUARD_COOKIE_SENT;
}

static enum guard_credentials read_bearer(struct slice value, struct guard_who *ret_who) {
    struct slice scheme, token;
    (void)slice_cut(value, ' ', &scheme, &token);
    token = slice_trim(token);
    if (!slice_eq_nocase(scheme, SLICE("bearer")) || token.len != ACCOUNTS_TOKEN ||
        !is_base64url(token))
        return GUARD_MALFORMED;
    ret_who->token = token;
    return GUARD_BEARER;
}

enum guard_credentials guard_credentials(const struct http_head *head, struct guard_who *ret_who) {
    struct slice cookie = SLICE_EMPTY;
    size_t n_cookies = find_cookies(head, &cookie);
    size_t n_fields = http_head_count(head, SLICE("authorization"));
    *ret_who = (struct guard_who){.session = SLICE_EMPTY};
    if (n_cookies + n_fields > 1)
        return GUARD_AMBIGUOUS;
    if (n_cookies == 1)
        return read_cookie(cookie, ret_who);
    if (n_fields == 1)
        return read_bearer(http_head_get(head, SLICE("authorization")), ret_who);
    return GUARD_NOBODY;
}

/* --- versions --- */

enum guard_match guard_if_match(const struct http_head *head, uint64_t *ret_version) {
    struct slice tag = http_head_get(head, SLICE("if-match"));
    uint64_t version = 0;
    if (tag.ptr == NULL)
        return GUARD_MATCH_NONE;
    if (http_head_count(head, SLICE("if-match")) != 1)
        return GUARD_MATCH_BAD;
    if (slice_eq(tag, SLICE("*")))
        return GUARD_MATCH_ANY;
    if (slice_starts_with(tag, SLICE("W/\""))) /* is never equal in the strong comparison */
        return GUARD_MATCH_OTHER;
    if (tag.len < 2 || tag.ptr[0] != '"' || tag.ptr[tag.len - 1] != '"')
        return GUARD_MATCH_BAD;
    struct slice inside = slice_sub(tag, 1, tag.len - 1);
    if (slice_find_byte(inside, '"') != SIZE_MAX)
        return GUARD_MATCH_BAD;
    if (inside.len == 0 || inside.ptr[0] == '0' || slice_to_u64(inside, &version) != 0)
        return GUARD_MATCH_OTHER;
    *ret_version = version;
    return GUARD_MATCH_ONE;
}

int guard_write_etag(struct buf *out, uint64_t version) {
    return buf_printf(out, "ETag: \"%llu\"\r\n", (unsigned long long)version);
}

/* --- paths and queries --- */

static bool is_fine_parameter(struct slice text) {
    if (text.len == 0 || text.len > MOST_PARAMETER || !utf8_is_valid(text) ||
        slice_eq(text, SLICE(".")) || slice_eq(text, SLICE("..")))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x20 || c == 0x7f || c == '/' || c == '\\')
            return false;
    }
    return true;
}

/* GUARD_E_QUERY, -ENOMEM. */
static int decode(struct slice text, struct arena *arena, struct slice *ret_text) {
    CLEANUP(buf_deinit) struct buf decoded = BUF_INIT(LIMIT_URI);
    int error = uri_percent_decode(&decoded, text);
    if (error != 0)
        return error < 0 ? -ENOMEM : GUARD_E_QUERY;
    if (!utf8_is_valid(buf_slice(&decoded)))
        return GUARD_E_QUERY;
    struct slice copy = arena_dup(arena, buf_slice(&decoded));
    if (copy.ptr == NULL)
        return -ENOMEM;
    *ret_text = copy;
    return 0;
}

int guard_match_path(struct slice pattern, struct slice path, struct arena *arena,
                     struct slice ret_parameters[static GUARD_PARAMETERS]) {
    struct slice found[GUARD_PARAMETERS] = {{0}}, raw[GUARD_PARAMETERS] = {{0}};
    size_t n = 0;
    for (bool more = true; more;) {
        struct slice wanted, part;
        more = slice_cut(pattern, '/', &wanted, &pattern);
        if (slice_cut(path, '/', &part, &path) != more)
            return GUARD_E_NO_MATCH;
        if (wanted.len != 0 && wanted.ptr[0] == '{')
            raw[n++] = part;
        else if (!slice_eq(wanted, part))
            return GUARD_E_NO_MATCH;
    }
    for (size_t i = 0; i < n; i++) {
        int error = decode(raw[i], arena, &found[i]);
        if (error < 0)
            return error;
        if (error != 0 || !is_fine_parameter(found[i]))
            return GUARD_E_NO_MATCH;
    }
    memcpy(ret_parameters, found, sizeof found);
    return 0;
}

bool guard_next_query(struct slice *rest, struct arena *arena, struct slice *ret_name,
                      struct slice *ret_value, int *ret_error) {
    struct slice pair, name, value;
    if (rest->len == 0)
        return false;
    (void)slice_cut(*rest, '&', &pair, rest);
    *ret_error = slice_cut(pair, '=', &name, &value) ? 0 : GUARD_E_QUERY;
    if (*ret_error == 0)
        *ret_error = decode(name, arena, ret_name);
    if (*ret_error == 0)
        *ret_error = decode(value, arena, ret_value);
    return true;
}

int guard_write_cursor(struct buf *out, struct slice place) {
    return base64url_encode(out, place);
}

int guard_read_cursor(struct slice cursor, struct buf *place) {
    int error = cursor.len <= MOST_CURSOR ? base64url_decode(place, cursor) : -EINVAL;
    if (error == -ENOMEM)
        return error;
    struct slice text = buf_slice(place);
    return error == 0 && text.len != 0 && utf8_is_valid(text) &&
                   slice_find_byte(text, '\0') == SIZE_MAX
               ? 0
               : GUARD_E_QUERY;
}

int guard_write_place(struct buf *out, const struct accounts_place *place) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MOST_CURSOR);
    int error = buf_printf(&text, "%llu.%s", (unsigned long long)place->created_ms, place->id);
    return error == 0 ? guard_write_cursor(out, buf_slice(&text)) : error;
}

int guard_read_place(struct slice cursor, struct accounts_place *ret_place) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MOST_CURSOR);
    struct accounts_place place = {.created_ms = 0};
    struct slice created, id;
    int error = guard_read_cursor(cursor, &text);
    if (error != 0)
        return error;
    if (!slice_cut(buf_slice(&text), '.', &created, &id) || id.len != ACCOUNTS_ID ||
        !is_base64url(id) || slice_to_u64(created, &place.created_ms) != 0 ||
        place.created_ms > INT64_MAX)
        return GUARD_E_QUERY;
    memcpy(place.id, id.ptr, id.len);
    *ret_place = place;
    return 0;
}
