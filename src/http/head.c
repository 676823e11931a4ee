/* The start line and the fields of a head. Lines come whole; each is read once, front to end. */
#include "chars.h"
#include "http/uri.h"
#include "parser.h"

/* Start lines (RFC 9112 sections 3 and 4). */

static const struct slice method_names[] = {
    [HTTP_METHOD_GET] = SLICE_INIT("GET"),         [HTTP_METHOD_HEAD] = SLICE_INIT("HEAD"),
    [HTTP_METHOD_POST] = SLICE_INIT("POST"),       [HTTP_METHOD_PUT] = SLICE_INIT("PUT"),
    [HTTP_METHOD_DELETE] = SLICE_INIT("DELETE"),   [HTTP_METHOD_CONNECT] = SLICE_INIT("CONNECT"),
    [HTTP_METHOD_OPTIONS] = SLICE_INIT("OPTIONS"), [HTTP_METHOD_TRACE] = SLICE_INIT("TRACE"),
    [HTTP_METHOD_PATCH] = SLICE_INIT("PATCH"),
};
_Static_assert(ARRAY_LEN(method_names) == HTTP_METHOD_OTHER, "a method has no name");

struct slice http_method_name(enum http_method method) {
    return method < HTTP_METHOD_OTHER ? method_names[method] : SLICE_EMPTY;
}

static bool parse_method(struct http_parser *parser, struct slice text) {
    struct http_head *head = &parser->head;
    if (!http_is_token(text))
        return http_refuse(parser, 400, "the method is not a token");
    head->method_text = text;
    for (unsigned i = 0; i < HTTP_METHOD_OTHER; i++) {
        if (slice_eq(method_names[i], text)) {
            head->method = (enum http_method)i;
            return true;
        }
    }
    /* Methods are case-sensitive (RFC 9110 section 9.1), but not to everybody behind us. */
    for (unsigned i = 0; i < HTTP_METHOD_OTHER; i++) {
        if (slice_eq_nocase(method_names[i], text))
            return http_refuse(parser, 400, "the method is not in capital letters");
    }
    head->method = HTTP_METHOD_OTHER;
    return true;
}

/* "HTTP/1.0" or "HTTP/1.1" (section 2.3). */
static bool parse_version(struct http_parser *parser, struct slice text) {
    if (text.len != 8 || !slice_starts_with(text, SLICE("HTTP/")) || !char_is_digit(text.ptr[5]) ||
        text.ptr[6] != '.' || !char_is_digit(text.ptr[7]))
        return http_refuse(parser, 400, "the version is not valid");
    if (text.ptr[5] != '1' || text.ptr[7] > '1')
        return http_refuse(parser, 505, "the version is neither HTTP/1.0 nor HTTP/1.1");
    parser->head.minor_version = (uint8_t)(text.ptr[7] - '0');
    return true;
}

static bool parse_request_line(struct http_parser *parser, struct slice line) {
    struct slice method, target, version;
    if (!slice_cut(line, ' ', &method, &line) || !slice_cut(line, ' ', &target, &version) ||
        target.len == 0)
        return http_refuse(parser, 400, "the request line is not three words");
    parser->head.target = target;
    return parse_version(parser, version) && parse_method(parser, method) &&
           http_parse_target(parser);
}

static bool parse_status_line(struct http_parser *parser, struct slice line) {
    struct slice version, code = SLICE_EMPTY, reason = SLICE_EMPTY;
    slice_cut(line, ' ', &version, &line);
    if (!parse_version(parser, version))
        return false;
    slice_cut(line, ' ', &code, &reason);
    if (code.len != 3 || code.ptr[0] < '1' || code.ptr[0] > '5' || !char_is_digit(code.ptr[1]) ||
        !char_is_digit(code.ptr[2]))
        return http_refuse(parser, 502, "the status is not a number from 100 to 599");
    if (!char_all_field(reason))
        return http_refuse(parser, 502, "the reason has a byte that is not allowed");
    parser->head.status =
        (uint16_t)((code.ptr[0] - '0') * 100 + (code.ptr[1] - '0') * 10 + (code.ptr[2] - '0'));
    parser->head.reason = reason;
    return parser->head.status != 101 ||
           http_refuse(parser, 502, "the response switches protocols");
}

bool http_parse_start_line(struct http_parser *parser, struct slice line) {
    return parser->role == HTTP_REQUESTS ? parse_request_line(parser, line)
                                         : parse_status_line(parser, line);
}

/* Fields (section 5). */

const char *http_parse_field_line(struct slice line, struct http_field *ret_field) {
    size_t name = char_span(line, CHAR_TOKEN);
    if (name == line.len)
        return "a header field has no colon";
    if (line.ptr[name] != ':') {
        if (name == 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t'))
            return "a header field is folded";
        if (line.ptr[name] == ' ' || line.ptr[name] == '\t')
            return "there is a space before the colon of a header field";
        return "a field name has a byte that is not allowed";
    }
    if (name == 0)
        return "a header field has no name";
    struct slice value = slice_trim(slice_from(line, name + 1));
    if (!char_all_field(value))
        return "a field value has a byte that is not allowed";
    *ret_field = (struct http_field){.name = slice_make(line.ptr, name), .value = value};
    return NULL;
}

static bool note_host(struct http_parser *parser, struct slice value) {
    struct uri_authority authority;
    if (parser->role == HTTP_RESPONSES)
        return true;
    if (parser->seen.host)
        return http_refuse(parser, 400, "there is more than one Host");
    if (value.len == 0 ||
        !slice_eq(value, slice_make(parser->valid_host, parser->valid_host_len))) {
        if (uri_parse_authority(value, &authority) != 0)
            return http_refuse(parser, 400, "Host is not valid");
        if (slice_to_cstr(value, parser->valid_host, sizeof parser->valid_host) == 0)
            parser->valid_host_len = value.len;
    }
    parser->seen.host = true;
    parser->head.host = value;
    return true;
}

static bool note_content_length(struct http_parser *parser, struct slice value) {
    uint64_t length;
    if (parser->seen.length)
        return http_refuse(parser, 400, "there is more than one Content-Length");
    if (slice_to_u64(value, &length) != 0)
        return http_refuse(parser, 400, "Content-Length is not a number");
    parser->seen.length = true;
    parser->head.content_length = length;
    return true;
}

static bool note_transfer_encoding(struct http_parser *parser, struct slice value) {
    if (parser->seen.coding)
        return http_refuse(parser, 400, "there is more than one Transfer-Encoding");
    if (parser->head.minor_version == 0)
        return http_refuse(parser, 400, "Transfer-Encoding in HTTP/1.0");
    if (!slice_eq_nocase(value, SLICE("chunked")))
        return http_refuse(parser, 400, "Transfer-Encoding is not chunked");
    parser->seen.coding = true;
    return true;
}

/*
 * Connection lists what is for this hop only. A peer that puts Authorization there asks whoever
 * obeys to drop it (RFC 9110 section 7.6.1); upstreams' odd lists do no harm, since nothing is
 * dropped by them.
 */
static bool note_connection(struct http_parser *parser, struct slice value) {
    struct slice option;
    while (http_list_next(&value, &option)) {
        if (!http_is_token(option))
            return http_refuse(parser, 400, "Connection is not a list of words");
        if (slice_eq_nocase(option, SLICE("close")))
            parser->seen.close = true;
        else if (slice_eq_nocase(option, SLICE("keep-alive")))
            parser->seen.keep_alive = true;
        else if (parser->role == HTTP_REQUESTS && http_is_end_to_end(option))
            return http_refuse(parser, 400, "Connection names a field that is not for this hop");
    }
    return true;
}

/* RFC 9110 section 10.1.1; in HTTP/1.0 it has no meaning. */
static bool note_expect(struct http_parser *parser, struct slice value) {
    if (parser->role == HTTP_RESPONSES || parser->head.minor_version == 0)
        return true;
    if (parser->seen.expect || !slice_eq_nocase(value, SLICE("100-continue")))
        return http_refuse(parser, 417, "Expect is not 100-continue");
    parser->seen.expect = true;
    parser->head.expect_continue = true;
    return true;
}

/* Nothing here unpacks, and what is not unpacked is not checked. Of responses, the layer above says
 * so. */
static bool note_content_encoding(struct http_parser *parser, struct slice value) {
    return parser->role == HTTP_RESPONSES || slice_eq_nocase(value, SLICE("identity")) ||
           http_refuse(parser, 415, "Content-Encoding is not identity");
}

/* Each at the length of its name, which no two of them share: most fields need no further look. */
#define NOTE(field, function) [sizeof(field) - 1] = {.name = SLICE_INIT(field), .note = (function)}
static const struct {
    struct slice name;
    bool (*note)(struct http_parser *parser, struct slice value);
} notes[] = {
    NOTE("host", note_host),
    NOTE("expect", note_expect),
    NOTE("connection", note_connection),
    NOTE("content-length", note_content_length),
    NOTE("content-encoding", note_content_encoding),
    NOTE("transfer-encoding", note_transfer_encoding),
};

bool http_note_field(struct http_parser *parser, const struct http_field *field) {
    size_t len = field->name.len;
    if (len >= ARRAY_LEN(notes) || notes[len].note == NULL ||
        !slice_eq_nocase(field->name, notes[len].name))
        return true;
    return notes[len].note(parser, field->value);
}

/* The end of the head (section 6.3). */

static bool set_length(struct http_parser *parser) {
    if (parser->head.content_length > parser->max_body)
        return http_refuse_limit(parser, 413, "the body is longer than the limit",
                                 parser->max_body);
    parser->head.body = HTTP_BODY_LENGTH;
    return true;
}

static bool finish_request(struct http_parser *parser) {
    if (!parser->seen.host && parser->head.minor_version == 1)
        return http_refuse(parser, 400, "Host is missing");
    if (!http_check_target_host(parser))
        return false;
    if (parser->seen.coding)
        parser->head.body = HTTP_BODY_CHUNKED;
    return !parser->seen.length || set_length(parser);
}

static bool finish_response(struct http_parser *parser) {
    struct http_head *head = &parser->head;
    const struct http_seen *seen = &parser->seen;
    bool is_bare = head->status < 200 || head->status == 204;
    if (is_bare && (seen->coding || (seen->length && head->content_length > 0)))
        return http_refuse(parser, 502, "a response that has no body announces one");
    if (is_bare || head->status == 304 || parser->no_body)
        return true;
    if (seen->coding)
        head->body = HTTP_BODY_CHUNKED;
    else if (seen->length)
        return set_length(parser);
    else
        head->body = HTTP_BODY_UNTIL_CLOSE;
    return true;
}

bool http_finish_head(struct http_parser *parser) {
    struct http_head *head = &parser->head;
    const struct http_seen *seen = &parser->seen;
    if (seen->coding && seen->length)
        return http_refuse(parser, 400, "both Content-Length and Transfer-Encoding");
    head->body = HTTP_BODY_NONE;
    if (!(parser->role == HTTP_REQUESTS ? finish_request(parser) : finish_response(parser)))
        return false;
    head->keep_alive = !seen->close && head->body != HTTP_BODY_UNTIL_CLOSE &&
                       (head->minor_version == 1 || seen->keep_alive);
    return true;
}
