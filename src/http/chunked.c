/*
 * The chunked coding (RFC 9112 section 7.1): chunk lines and trailers, each line whole.
 *
 * Extensions are read by their grammar and ignored. White space is allowed where the grammar has
 * BWS, but not directly behind the size: there, peers disagree on what belongs to the number. All
 * extensions of one body share a limit, since otherwise a peer could make us read 256 bytes for
 * each byte of body.
 */
#include "base/checked.h"
#include "chars.h"
#include "parser.h"

/* 1 to 16 hexadecimal digits; how many there were, 0 when it is not so. */
static size_t parse_size(struct slice line, uint64_t *ret_size) {
    size_t digits = char_span(line, CHAR_HEX);
    uint64_t size = 0;
    if (digits == 0 || digits > LIMIT_HTTP_CHUNK_DIGITS)
        return 0;
    for (size_t i = 0; i < digits; i++)
        size = size << 4 | char_hex_value(line.ptr[i]);
    *ret_size = size;
    return digits;
}

static void skip_space(struct slice *s) {
    while (s->len > 0 && (s->ptr[0] == ' ' || s->ptr[0] == '\t'))
        *s = slice_from(*s, 1);
}

static bool skip_byte(struct slice *s, char byte) {
    if (s->len == 0 || s->ptr[0] != byte)
        return false;
    *s = slice_from(*s, 1);
    return true;
}

static bool skip_token(struct slice *s) {
    size_t len = char_span(*s, CHAR_TOKEN);
    *s = slice_from(*s, len);
    return len > 0;
}

/* Behind the opening quote (RFC 9110 section 5.6.4). */
static bool skip_quoted(struct slice *s) {
    for (size_t i = 0; i < s->len; i++) {
        if (s->ptr[i] == '"') {
            *s = slice_from(*s, i + 1);
            return true;
        }
        if (s->ptr[i] == '\\')
            i++;
        if (i == s->len || !char_is(s->ptr[i], CHAR_FIELD))
            return false;
    }
    return false;
}

/* *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ), section 7.1.1. */
static bool extensions_are_valid(struct slice s) {
    if (s.len > 0 && s.ptr[0] != ';')
        return false;
    while (s.len > 0) {
        skip_space(&s);
        if (!skip_byte(&s, ';'))
            return false;
        skip_space(&s);
        if (!skip_token(&s))
            return false;
        struct slice after_name = s;
        skip_space(&s);
        if (!skip_byte(&s, '=')) {
            s = after_name;
            continue;
        }
        skip_space(&s);
        if (!(skip_byte(&s, '"') ? skip_quoted(&s) : skip_token(&s)))
            return false;
    }
    return true;
}

bool http_parse_chunk_line(struct http_parser *parser, struct slice line) {
    uint64_t size, total;
    size_t digits = parse_size(line, &size);
    struct slice extensions = slice_from(line, digits);
    if (digits == 0)
        return http_refuse(parser, 400, "the chunk size is not 1 to 16 hexadecimal digits");
    if (!extensions_are_valid(extensions))
        return http_refuse(parser, 400, "what follows the chunk size is not valid");
    parser->extension_len += extensions.len;
    if (parser->extension_len > LIMIT_HTTP_CHUNK_EXTENSIONS)
        return http_refuse_limit(parser, 413, "there are more chunk extensions than the limit",
                                 LIMIT_HTTP_CHUNK_EXTENSIONS);
    if (u64_add_overflows(parser->body_len, size, &total) || total > parser->max_body)
        return http_refuse_limit(parser, 413, "the body is longer than the limit",
                                 parser->max_body);
    parser->body_len = total;
    parser->remaining = size;
    return true;
}

/* Names that a peer may not move out of sight: into trailers, or into the list of Connection. */

enum { IN_TRAILERS = 1, IN_CONNECTION = 2, IN_BOTH = 3 };

struct guarded_name {
    struct slice name;
    bool is_prefix;
    int where;
};

static const struct guarded_name guarded_names[] = {
    {SLICE_INIT("accept"), false, IN_BOTH},
    {SLICE_INIT("age"), false, IN_TRAILERS},
    {SLICE_INIT("authorization"), false, IN_BOTH},
    {SLICE_INIT("cache-control"), false, IN_TRAILERS},
    {SLICE_INIT("connection"), false, IN_TRAILERS},
    {SLICE_INIT("content-encoding"), false, IN_BOTH},
    {SLICE_INIT("content-length"), false, IN_BOTH},
    {SLICE_INIT("content-range"), false, IN_BOTH},
    {SLICE_INIT("content-type"), false, IN_BOTH},
    {SLICE_INIT("cookie"), false, IN_BOTH},
    {SLICE_INIT("date"), false, IN_TRAILERS},
    {SLICE_INIT("expect"), false, IN_BOTH},
    {SLICE_INIT("expires"), false, IN_TRAILERS},
    {SLICE_INIT("forwarded"), false, IN_BOTH},
    {SLICE_INIT("host"), false, IN_BOTH},
    {SLICE_INIT("if-"), true, IN_TRAILERS},
    {SLICE_INIT("keep-alive"), false, IN_TRAILERS},
    {SLICE_INIT("last-event-id"), false, IN_BOTH},
    {SLICE_INIT("location"), false, IN_TRAILERS},
    {SLICE_INIT("max-forwards"), false, IN_BOTH},
    {SLICE_INIT("mcp-"), true, IN_BOTH},
    {SLICE_INIT("origin"), false, IN_BOTH},
    {SLICE_INIT("pragma"), false, IN_TRAILERS},
    {SLICE_INIT("proxy-"), true, IN_TRAILERS},
    {SLICE_INIT("proxy-authorization"), false, IN_CONNECTION},
    {SLICE_INIT("range"), false, IN_BOTH},
    {SLICE_INIT("retry-after"), false, IN_TRAILERS},
    {SLICE_INIT("set-cookie"), false, IN_TRAILERS},
    {SLICE_INIT("te"), false, IN_TRAILERS},
    {SLICE_INIT("trailer"), false, IN_TRAILERS},
    {SLICE_INIT("transfer-encoding"), false, IN_BOTH},
    {SLICE_INIT("upgrade"), false, IN_TRAILERS},
    {SLICE_INIT("vary"), false, IN_TRAILERS},
    {SLICE_INIT("via"), false, IN_TRAILERS},
    {SLICE_INIT("www-authenticate"), false, IN_TRAILERS},
    {SLICE_INIT("x-forwarded-"), true, IN_BOTH},
    {SLICE_INIT("x-real-ip"), false, IN_BOTH},
};

static bool is_guarded(struct slice name, int where) {
    for (size_t i = 0; i < ARRAY_LEN(guarded_names); i++) {
        const struct guarded_name *row = &guarded_names[i];
        if ((row->where & where) != 0 && (row->is_prefix ? slice_starts_with_nocase(name, row->name)
                                                         : slice_eq_nocase(name, row->name)))
            return true;
    }
    return false;
}

bool http_is_end_to_end(struct slice name) {
    return is_guarded(name, IN_CONNECTION);
}

bool http_parse_trailer_line(struct http_parser *parser, struct slice line) {
    struct http_field field;
    const char *reason = http_parse_field_line(line, &field);
    if (reason != NULL)
        return http_refuse(parser, 400, reason);
    if (is_guarded(field.name, IN_TRAILERS))
        return http_refuse(parser, 400, "a trailer has a name that is for the head only");
    if (++parser->n_trailers > parser->max_fields)
        return http_refuse_limit(parser, 431, "there are more trailers than the limit",
                                 parser->max_fields);
    return true;
}
