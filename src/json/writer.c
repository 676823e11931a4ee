#include "json/writer.h"

#include <assert.h>

#include "base/utf8.h"
#include "scan.h"

enum { TELLS_APART = 64 }; /* bits in json_writer.objects */

void json_writer_init(struct json_writer *writer, struct buf *out) {
    *writer = (struct json_writer){.out = out};
}

static bool in_object(const struct json_writer *writer) {
    return writer->depth > 0 && writer->depth <= TELLS_APART &&
           (writer->objects >> (writer->depth - 1) & 1) != 0;
}

static bool in_array(const struct json_writer *writer) {
    return writer->depth > 0 && writer->depth <= TELLS_APART && !in_object(writer);
}

/* In front of each value: the comma, unless a key stands there; one value at depth 0. */
static void begin_value(struct json_writer *writer) {
    assert(writer->after_key || !in_object(writer));
    assert(writer->depth > 0 || !writer->need_comma);
    if (writer->need_comma && !writer->after_key)
        buf_append_byte(writer->out, ',');
    writer->need_comma = true;
    writer->after_key = false;
}

static void begin_container(struct json_writer *writer, char bracket) {
    begin_value(writer);
    buf_append_byte(writer->out, bracket);
    if (writer->depth < TELLS_APART) {
        uint64_t bit = UINT64_C(1) << writer->depth;
        writer->objects = bracket == '{' ? writer->objects | bit : writer->objects & ~bit;
    }
    writer->depth++;
    writer->need_comma = false;
}

static void end_container(struct json_writer *writer, char bracket) {
    assert(writer->depth > 0 && !writer->after_key);
    buf_append_byte(writer->out, bracket);
    writer->depth--;
    writer->need_comma = true;
}

void json_object_begin(struct json_writer *writer) {
    begin_container(writer, '{');
}

void json_object_end(struct json_writer *writer) {
    assert(!in_array(writer));
    end_container(writer, '}');
}

void json_array_begin(struct json_writer *writer) {
    begin_container(writer, '[');
}

void json_array_end(struct json_writer *writer) {
    assert(!in_object(writer));
    end_container(writer, ']');
}

/* RFC 8259 section 7: the short escape where there is one, else four digits. */
static void append_escape(struct buf *out, unsigned char c) {
    static const char digits[] = "0123456789abcdef";
    static const char letters[] = {['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
                                   ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
    char text[6] = {'\\', c < sizeof letters ? letters[c] : '\0'};
    if (text[1] != '\0') {
        buf_append(out, slice_make(text, 2));
        return;
    }
    text[1] = 'u';
    text[2] = text[3] = '0';
    text[4] = digits[c >> 4];
    text[5] = digits[c & 15];
    buf_append(out, slice_make(text, sizeof text));
}

/* The valid UTF-8 at `p`, where a byte from 0x80 stands: the byte behind it; `p` itself for an
 * invalid byte. */
static const char *skip_utf8(const char *p, const char *end) {
    uint32_t code_point;
    while (p < end && (unsigned char)*p >= 0x80) {
        size_t len = utf8_decode(slice_make(p, (size_t)(end - p)), &code_point);
        if (len == 0)
            break;
        p += len;
    }
    return p;
}

int json_escape(struct buf *out, struct slice text) {
    const char *p = text.len > 0 ? text.ptr : "", *end = p + text.len, *copied = p;
    while (p < end && buf_error(out) == 0) {
        p = skip_utf8(json_skip_plain(p, end), end);
        if (p < end && json_is_plain(*p))
            continue;
        buf_append(out, slice_make(copied, (size_t)(p - copied)));
        if (p < end) {
            unsigned char c = (unsigned char)*p++;
            if (c >= 0x80)
                buf_append(out, SLICE("\xef\xbf\xbd")); /* U+FFFD */
            else
                append_escape(out, c);
        }
        copied = p;
    }
    return buf_error(out);
}

static void append_quoted(struct buf *out, struct slice text) {
    buf_append_byte(out, '"');
    json_escape(out, text);
    buf_append_byte(out, '"');
}

void json_key(struct json_writer *writer, struct slice key) {
    assert(!writer->after_key && writer->depth > 0 && !in_array(writer));
    if (writer->need_comma)
        buf_append_byte(writer->out, ',');
    append_quoted(writer->out, key);
    buf_append_byte(writer->out, ':');
    writer->after_key = true;
}

void json_string(struct json_writer *writer, struct slice text) {
    begin_value(writer);
    append_quoted(writer->out, text);
}

void json_i64(struct json_writer *writer, int64_t number) {
    begin_value(writer);
    if (number < 0)
        buf_append_byte(writer->out, '-');
    buf_append_u64(writer->out, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

void json_u64(struct json_writer *writer, uint64_t number) {
    begin_value(writer);
    buf_append_u64(writer->out, number);
}

void json_bool(struct json_writer *writer, bool value) {
    begin_value(writer);
    buf_append(writer->out, value ? SLICE("true") : SLICE("false"));
}

void json_null(struct json_writer *writer) {
    begin_value(writer);
    buf_append(writer->out, SLICE("null"));
}

void json_raw(struct json_writer *writer, struct slice json) {
    begin_value(writer);
    buf_append(writer->out, json);
}

void json_kv_string(struct json_writer *writer, struct slice key, struct slice text) {
    json_key(writer, key);
    json_string(writer, text);
}

void json_kv_u64(struct json_writer *writer, struct slice key, uint64_t number) {
    json_key(writer, key);
    json_u64(writer, number);
}

void json_kv_i64(struct json_writer *writer, struct slice key, int64_t number) {
    json_key(writer, key);
    json_i64(writer, number);
}

void json_kv_bool(struct json_writer *writer, struct slice key, bool value) {
    json_key(writer, key);
    json_bool(writer, value);
}

void json_kv_raw(struct json_writer *writer, struct slice key, struct slice json) {
    json_key(writer, key);
    json_raw(writer, json);
}
