/*
 * Writing messages. Whatever a tool, an upstream or a configuration put into a field, it cannot end
 * the line: each piece is checked first, room is made for the whole line, and only then is it
 * written.
 */
#include <errno.h>

#include "chars.h"
#include "parser.h"

/* RFC 9110 section 15, and 429 and 431 of RFC 6585. */
static const struct {
    uint16_t status;
    const char *text;
} status_texts[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
    {511, "Network Authentication Required"},
};

const char *http_status_text(uint16_t status) {
    for (size_t i = 0; i < ARRAY_LEN(status_texts); i++) {
        if (status_texts[i].status == status)
            return status_texts[i].text;
    }
    return "";
}

/* All or nothing: the pieces one behind the other. */
static int write_pieces(struct buf *out, const struct slice *pieces, size_t n) {
    size_t total = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        total += pieces[i].len; /* each lies in memory already */
    char *room = buf_reserve(out, total);
    if (room == NULL)
        return buf_error(out);
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].len > 0)
            memcpy(room + at, pieces[i].ptr, pieces[i].len);
        at += pieces[i].len;
    }
    buf_commit(out, total);
    return 0;
}

/* At the end of `digits`. */
static struct slice hex_text(uint64_t number, char digits[static 16]) {
    size_t at = 16;
    do {
        digits[--at] = "0123456789abcdef"[number % 16];
        number /= 16;
    } while (number != 0);
    return slice_make(digits + at, 16 - at);
}

int http_write_status(struct buf *out, uint16_t status) {
    char digits[SLICE_U64];
    if (status < 100 || status > 999)
        return -EINVAL;
    const struct slice pieces[] = {
        SLICE("HTTP/1.1 "), slice_of_u64(status, digits),
        SLICE(" "),         slice_from_cstr(http_status_text(status)),
        SLICE("\r\n"),
    };
    return write_pieces(out, pieces, ARRAY_LEN(pieces));
}

int http_write_request_line(struct buf *out, enum http_method method, struct slice target) {
    if (method >= HTTP_METHOD_OTHER || target.len == 0 || !char_all_field(target) ||
        slice_find_byte(target, ' ') != SIZE_MAX || slice_find_byte(target, '\t') != SIZE_MAX)
        return -EINVAL;
    const struct slice pieces[] = {http_method_name(method), SLICE(" "), target,
                                   SLICE(" HTTP/1.1\r\n")};
    return write_pieces(out, pieces, ARRAY_LEN(pieces));
}

int http_write_field(struct buf *out, struct slice name, struct slice value) {
    if (!http_is_token(name) || !char_all_field(value))
        return -EINVAL;
    const struct slice pieces[] = {name, SLICE(": "), value, SLICE("\r\n")};
    return write_pieces(out, pieces, ARRAY_LEN(pieces));
}

int http_write_field_u64(struct buf *out, struct slice name, uint64_t number) {
    char digits[SLICE_U64];
    return http_write_field(out, name, slice_of_u64(number, digits));
}

int http_write_chunk_begin(struct buf *out, size_t len) {
    return buf_printf(out, "%zx\r\n", len);
}

int http_write_chunk(struct buf *out, struct slice data) {
    char digits[16];
    if (data.len == 0)
        return buf_error(out); /* "0" would end the body */
    const struct slice pieces[] = {hex_text(data.len, digits), SLICE("\r\n"), data, SLICE("\r\n")};
    return write_pieces(out, pieces, ARRAY_LEN(pieces));
}

int http_write_last_chunk(struct buf *out) {
    return buf_append(out, SLICE("0\r\n\r\n"));
}
