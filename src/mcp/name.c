#include "mcp/name.h"

#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"

static bool is_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool mcp_upstream_name_is_valid(struct slice name) {
    static const struct slice reserved[] = {SLICE_INIT("sse"), SLICE_INIT("message"),
                                            SLICE_INIT("server-card")};
    if (name.len == 0 || name.len > MCP_UPSTREAM_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (is_alnum(c) || c == '-')
            continue;
        bool inside = i != 0 && i + 1 != name.len && name.ptr[i - 1] != '_';
        if (c != '_' || !inside)
            return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(reserved); i++) {
        if (slice_eq(name, reserved[i]))
            return false;
    }
    return true;
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
        return buf_append(out, name);
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

/* The text of a URI that an expression may stand for, up to `end`. */
static bool expression_allows(struct slice expression, struct slice text) {
    bool allows_slash =
        expression.len != 0 &&
        (expression.ptr[0] == '+' || expression.ptr[0] == '#' || expression.ptr[0] == '/');
    return allows_slash || slice_find_byte(text, '/') == SIZE_MAX;
}

/* Bounds the backtracking: templates of servers are not to cost more than a look. */
enum { MAX_EXPRESSIONS = 16, MAX_STEPS = 20000 };

static bool matches(struct slice pattern, struct slice uri, size_t depth, size_t *steps) {
    if (depth > MAX_EXPRESSIONS || ++*steps > MAX_STEPS)
        return false;
    size_t open = slice_find_byte(pattern, '{');
    if (open == SIZE_MAX)
        return slice_eq(pattern, uri);
    size_t close = slice_find_byte(pattern, '}');
    if (close == SIZE_MAX || close < open || !slice_starts_with(uri, slice_sub(pattern, 0, open)))
        return false;
    struct slice expression = slice_sub(pattern, open + 1, close);
    struct slice rest_pattern = slice_from(pattern, close + 1);
    struct slice rest = slice_from(uri, open);
    for (size_t n = 0; n <= rest.len; n++) {
        if (!expression_allows(expression, slice_sub(rest, 0, n)))
            return false;
        if (matches(rest_pattern, slice_from(rest, n), depth + 1, steps))
            return true;
    }
    return false;
}

bool mcp_template_matches(struct slice uri_template, struct slice uri) {
    size_t steps = 0;
    return matches(uri_template, uri, 0, &steps);
}
