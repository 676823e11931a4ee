#include "mcp/name.h"

#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"

static bool is_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool mcp_item_name_is_valid(struct slice name) {
    if (name.len == 0 || name.len > MCP_ITEM_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        if (c < 0x20 || c == 0x7f)
            return false;
    }
    return true;
}

/* MCP 2025-11-25, server/tools: the characters that every client takes. */
static bool is_plain(struct slice name) {
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!is_alnum(c) && c != '_' && c != '-' && c != '.')
            return false;
    }
    return true;
}

enum { HASH_CHARS = 10 };

int mcp_expose_name(struct buf *out, struct slice upstream, struct slice name) {
    static const struct hash_key fixed = {0x6361726465610000U, 0x6e616d6573000001U};
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    size_t begin = buf_len(out);
    struct slice separator = upstream.len != 0 ? SLICE("__") : SLICE_EMPTY;
    if (upstream.len + separator.len + name.len <= LIMIT_EXPOSED_NAME && is_plain(name)) {
        buf_append(out, upstream);
        buf_append(out, separator);
        if (buf_append(out, name) != 0)
            buf_truncate(out, begin);
        return buf_error(out);
    }
    struct buf whole = BUF_INIT(MCP_UPSTREAM_NAME_MAX + 2 + MCP_ITEM_NAME_MAX);
    buf_append(&whole, upstream);
    buf_append(&whole, separator);
    int error = buf_append(&whole, name);
    if (error != 0) {
        buf_deinit(&whole);
        return error;
    }
    uint64_t hash = hash_siphash(&fixed, buf_slice(&whole));
    struct slice kept = slice_sub(buf_slice(&whole), 0, LIMIT_EXPOSED_NAME - HASH_CHARS - 1);
    for (size_t i = 0; i < kept.len; i++) {
        char c = kept.ptr[i];
        buf_append_byte(out, is_plain(slice_make(&c, 1)) ? c : '_');
    }
    buf_deinit(&whole);
    buf_append_byte(out, '_');
    for (int i = 0; i < HASH_CHARS; i++)
        buf_append_byte(out, digits[(hash >> (5 * i)) & 31]);
    if (buf_error(out) != 0)
        buf_truncate(out, begin);
    return buf_error(out);
}

struct slice mcp_exposed_upstream(struct slice exposed) {
    size_t at = slice_find(exposed, SLICE("__"));
    return at != SIZE_MAX ? slice_sub(exposed, 0, at) : slice_make(NULL, 0);
}

/*
 * Matching keeps the set of places in the URI that the template read so far can end at, and moves
 * it over literals and expressions. So the cost is the template's parts times the URI's length,
 * whatever an upstream and a client make up together; trying one place after the other would be
 * exponential.
 */
struct places {
    struct slice uri;
    bool is_end[LIMIT_URI_LENGTH + 1]; /* [n]: the part read so far matches the first n bytes */
};

static void pass_literal(struct places *places, struct slice literal) {
    for (size_t n = places->uri.len + 1; n-- > 0;)
        places->is_end[n] = n >= literal.len && places->is_end[n - literal.len] &&
                            slice_eq(slice_sub(places->uri, n - literal.len, n), literal);
}

static void pass_expression(struct places *places, struct slice expression) {
    bool allows_slash =
        expression.len != 0 &&
        (expression.ptr[0] == '+' || expression.ptr[0] == '#' || expression.ptr[0] == '/');
    bool is_inside = false;
    for (size_t n = 0; n <= places->uri.len; n++) {
        if (n != 0 && places->uri.ptr[n - 1] == '/' && !allows_slash)
            is_inside = false;
        is_inside = is_inside || places->is_end[n];
        places->is_end[n] = is_inside;
    }
}

bool mcp_template_matches(struct slice uri_template, struct slice uri) {
    if (uri.len > LIMIT_URI_LENGTH)
        return false;
    /* Most templates are about other URIs, which their first literal tells. */
    size_t first = slice_find_byte(uri_template, '{');
    if (!slice_starts_with(uri, slice_sub(uri_template, 0, first)))
        return false;
    struct places places;
    places.uri = uri;
    memset(places.is_end, 0, uri.len + 1);
    places.is_end[0] = true;
    for (size_t n_expressions = 0;; n_expressions++) {
        size_t open = slice_find_byte(uri_template, '{');
        pass_literal(&places, slice_sub(uri_template, 0, open));
        if (open == SIZE_MAX)
            return places.is_end[uri.len];
        size_t close = slice_find_byte(uri_template, '}');
        if (close == SIZE_MAX || close < open || n_expressions == LIMIT_TEMPLATE_EXPRESSIONS)
            return false;
        pass_expression(&places, slice_sub(uri_template, open + 1, close));
        uri_template = slice_from(uri_template, close + 1);
    }
}
