#include "cors.h"

#include <errno.h>

#include "http/uri.h"

/* With all answers; with answers to preflights. */
enum { ANSWER_MAX = 4 * 1024, PREFLIGHT_MAX = 64 * 1024 };

/* Entries. */

/* Scheme and authority of an entry, without what may be behind. */
static struct slice cut_path(struct slice text) {
    size_t from = slice_find(text, SLICE("://"));
    if (from == SIZE_MAX)
        return text;
    size_t slash = slice_find_byte(slice_from(text, from + 3), '/');
    return slash == SIZE_MAX ? text : slice_sub(text, 0, from + 3 + slash);
}

/* The same with letters in place of '*' and '?': as a URI is parsed. */
static struct slice without_wildcards(struct slice text, struct arena *arena) {
    char *copy = arena_alloc(arena, text.len + 1);
    if (copy == NULL)
        return SLICE_EMPTY;
    for (size_t i = 0; i < text.len; i++)
        copy[i] = text.ptr[i] == '*' || text.ptr[i] == '?' ? 'a' : text.ptr[i];
    return slice_make(copy, text.len);
}

static bool has_wildcard(struct slice text) {
    return slice_find_byte(text, '*') != SIZE_MAX || slice_find_byte(text, '?') != SIZE_MAX;
}

static bool is_origin(const struct uri *uri) {
    return uri->has_authority && uri->host.len != 0 && !uri->has_userinfo && uri->path.len == 0 &&
           !uri->has_query && !uri->has_fragment;
}

/* Wildcards are in the host alone, and not in the last label of a name. */
static bool wildcards_are_fine(const struct slice text, const struct cors_origin *origin,
                               const struct uri *uri) {
    size_t in_host = 0, in_all = 0;
    for (size_t i = 0; i < text.len; i++)
        in_all += text.ptr[i] == '*' || text.ptr[i] == '?';
    for (size_t i = 0; i < origin->host.len; i++)
        in_host += origin->host.ptr[i] == '*' || origin->host.ptr[i] == '?';
    if (in_host != in_all)
        return false;
    if (in_host == 0 || slice_eq(origin->host, SLICE("*")))
        return true;
    size_t last = origin->host.len;
    while (last != 0 && origin->host.ptr[last - 1] != '.')
        last--;
    return uri->host_kind == URI_HOST_NAME && last != 0 &&
           !has_wildcard(slice_from(origin->host, last));
}

/* False: it matches nothing. */
static bool parse_entry(struct slice entry, struct arena *arena, struct cors_origin *ret_origin) {
    struct slice text = cut_path(entry), plain = without_wildcards(text, arena);
    struct uri uri;
    if (plain.len == 0 || uri_parse(plain, &uri, NULL) != 0 || !is_origin(&uri))
        return false;
    struct cors_origin origin = {
        .scheme = uri.scheme,
        .host = slice_make(text.ptr + (uri.host.ptr - plain.ptr), uri.host.len),
        .port = uri.port,
    };
    origin.is_glob = has_wildcard(origin.host);
    if (!wildcards_are_fine(text, &origin, &uri))
        return false;
    *ret_origin = origin;
    return true;
}

/* Lines. */

/* "Name: a, b\r\n", or nothing. Only tokens: nothing of the file can begin another line. */
static void append_list(struct buf *out, const char *name, const struct slice *items, size_t n,
                        struct slice more) {
    bool is_first = true, has_more = more.len == 0;
    for (size_t i = 0; i <= n; i++) {
        struct slice item = i < n ? items[i] : has_more || is_first ? SLICE_EMPTY : more;
        if (!http_is_token(item))
            continue;
        has_more |= slice_eq_nocase(item, more);
        buf_append_cstr(out, is_first ? name : ", ");
        buf_append(out, item);
        is_first = false;
    }
    if (!is_first)
        buf_append_cstr(out, "\r\n");
}

static bool has_star(const struct slice *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (slice_eq(items[i], SLICE("*")))
            return true;
    }
    return false;
}

static int keep(const struct buf *lines, struct arena *arena, struct slice *ret_lines) {
    if (buf_error(lines) != 0)
        return buf_error(lines);
    *ret_lines = arena_dup(arena, buf_slice(lines));
    return ret_lines->ptr != NULL ? 0 : -ENOMEM;
}

static int make_lines(struct cors *cors, const struct config_cors *config, struct arena *arena) {
    struct buf answer CLEANUP(buf_deinit) = BUF_INIT(ANSWER_MAX);
    struct buf preflight CLEANUP(buf_deinit) = BUF_INIT(PREFLIGHT_MAX);
    if (config->allow_credentials && !cors->allows_all)
        buf_append_cstr(&answer, "Access-Control-Allow-Credentials: true\r\n");
    append_list(&answer, "Access-Control-Expose-Headers: ", config->expose_headers,
                config->n_expose_headers, SLICE_EMPTY);
    /* "*" is every method but not Authorization: Fetch, CORS-preflight fetch, step 7. */
    append_list(&preflight, "Access-Control-Allow-Methods: ", config->allow_methods,
                config->n_allow_methods,
                has_star(config->allow_methods, config->n_allow_methods) ? SLICE_EMPTY
                                                                         : SLICE("OPTIONS"));
    append_list(&preflight, "Access-Control-Allow-Headers: ", config->allow_headers,
                config->n_allow_headers,
                has_star(config->allow_headers, config->n_allow_headers) ? SLICE("Authorization")
                                                                         : SLICE_EMPTY);
    if (config->max_age_ms != UINT64_MAX)
        http_write_field_u64(&preflight, SLICE("Access-Control-Max-Age"),
                             config->max_age_ms / 1000);
    int error = keep(&answer, arena, &cors->answer);
    return error != 0 ? error : keep(&preflight, arena, &cors->preflight);
}

int cors_init(struct cors *cors, const struct config_cors *config, struct arena *arena) {
    *cors = (struct cors){.is_set = config->is_set,
                          .allows_private_network = config->allow_private_network};
    if (!config->is_set)
        return 0;
    cors->allows_all = has_star(config->allow_origins, config->n_allow_origins);
    cors->origins = arena_alloc_array(arena, config->n_allow_origins + 1, sizeof *cors->origins);
    if (cors->origins == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_allow_origins; i++) {
        if (parse_entry(config->allow_origins[i], arena, &cors->origins[cors->n_origins]))
            cors->n_origins++;
    }
    if (arena_failed(arena))
        return -ENOMEM;
    return make_lines(cors, config, arena);
}

/* Matching. */

static char lower(char byte) {
    return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

/* No wildcard matches a dot. The last star takes more when what follows it does not fit. */
static bool labels_match(struct slice pattern, struct slice host) {
    size_t p = 0, h = 0, star = SIZE_MAX, star_host = 0;
    while (h < host.len) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = ++p;
            star_host = h;
        } else if (p < pattern.len && (lower(pattern.ptr[p]) == lower(host.ptr[h]) ||
                                       (pattern.ptr[p] == '?' && host.ptr[h] != '.'))) {
            p++;
            h++;
        } else if (star != SIZE_MAX && host.ptr[star_host] != '.') {
            p = star;
            h = ++star_host;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*')
        p++;
    return p == pattern.len;
}

static bool host_matches(const struct cors_origin *allowed, const struct uri *uri) {
    if (!allowed->is_glob)
        return slice_eq_nocase(allowed->host, uri->host);
    if (slice_eq(allowed->host, SLICE("*")))
        return true;
    if (uri->host_kind != URI_HOST_NAME)
        return false;
    if (!slice_starts_with(allowed->host, SLICE("*.")))
        return labels_match(allowed->host, uri->host);
    struct slice rest = slice_from(allowed->host, 2);
    for (size_t i = 1; i < uri->host.len; i++) {
        if (uri->host.ptr[i] == '.' && labels_match(rest, slice_from(uri->host, i + 1)))
            return true;
    }
    return false;
}

bool cors_allows(const struct cors *cors, struct slice origin) {
    struct uri uri;
    if (!cors->is_set || uri_parse(origin, &uri, NULL) != 0 || !is_origin(&uri))
        return false; /* "null" among others */
    for (size_t i = 0; i < cors->n_origins; i++) {
        const struct cors_origin *allowed = &cors->origins[i];
        if (slice_eq_nocase(allowed->scheme, uri.scheme) && allowed->port == uri.port &&
            host_matches(allowed, &uri))
            return true;
    }
    return cors->allows_all;
}

/* Answers. */

bool cors_is_preflight(const struct http_head *head) {
    return head->method == HTTP_METHOD_OPTIONS && http_head_count(head, SLICE("origin")) != 0 &&
           http_head_count(head, SLICE("access-control-request-method")) != 0;
}

void cors_write(const struct cors *cors, struct slice origin, struct buf *out) {
    if (!cors->allows_all)
        buf_append_cstr(out, "Vary: Origin\r\n");
    if (origin.len == 0)
        return;
    buf_append_cstr(out, "Access-Control-Allow-Origin: ");
    buf_append(out, cors->allows_all ? SLICE("*") : origin);
    buf_append_cstr(out, "\r\n");
    buf_append(out, cors->answer);
}

void cors_write_preflight(const struct cors *cors, const struct http_head *head, struct buf *out) {
    buf_append_cstr(out, "Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n");
    buf_append(out, cors->preflight);
    if (cors->allows_private_network &&
        slice_eq(http_head_get(head, SLICE("access-control-request-private-network")),
                 SLICE("true")))
        buf_append_cstr(out, "Access-Control-Allow-Private-Network: true\r\n");
}
