/*
 * Records as CSV (RFC 4180): lines end with CR LF, every text stands between quotes, quotes in it
 * are doubled. One row a record; an intent and its outcome are one.
 *
 * Spreadsheets take a cell that begins with one of = + - @ for a formula, whatever the quotes say,
 * also behind white space, and in the full-width forms that some input methods make. A client that
 * calls a tool by such a name would have its formula run by whoever opens the export. So such a
 * cell begins with an apostrophe, which makes it a text. Numbers of records are written as numbers:
 * -32601 does nothing. Characters that a terminal acts upon, but for tab, CR and LF, are written as
 * \uXXXX.
 */
#include <string.h>

#include "audit/export.h"
#include "base/limits.h"
#include "base/utf8.h"

/* In this order, always all of them: programs count on it. New ones come at the end, before
 * `other`. */
static const char *const columns[] = {
    "seq",
    "time",
    "event",
    "id",
    "user",
    "groups",
    "authentication",
    "token",
    "client",
    "address",
    "session",
    "trace",
    "method",
    "operation",
    "arguments",
    "arguments_cut",
    "arguments_bytes",
    "arguments_hmac",
    "upstream",
    "upstream_operation",
    "instance",
    "access",
    "decision",
    "rule",
    "reason",
    "status",
    "http_status",
    "code",
    "message",
    "upstream_status",
    "bytes",
    "duration_us",
};
/* Behind them: of the outcome seq and time; whose trail it is in, where there are several; what
 * else the record has, as JSON; what was asked for. */
static const char *const last_columns[] = {"outcome_seq", "outcome_time", "log", "other", "filter"};

/* --- one cell --- */

static bool is_blank(uint32_t code_point) {
    return code_point <= 0x20 || (code_point >= 0x7f && code_point <= 0xa0) ||
           (code_point >= 0x2000 && code_point <= 0x200f) || code_point == 0x2028 ||
           code_point == 0x2029 || code_point == 0x202f || code_point == 0x205f ||
           code_point == 0x2060 || code_point == 0x3000 || code_point == 0xfeff;
}

static bool starts_formula(uint32_t code_point) {
    static const uint32_t starts[] = {'=',    '+',    '-',    '@',    0xff1d, 0xff0b, 0xff0d,
                                      0xff20, 0x2212, 0xfe62, 0xfe63, 0xfe66, 0xfe6b};
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        if (starts[i] == code_point)
            return true;
    }
    return false;
}

static bool is_dangerous(struct slice text) {
    if (text.len != 0 && (text.ptr[0] == '\t' || text.ptr[0] == '\r' || text.ptr[0] == '\n'))
        return true;
    while (text.len != 0) {
        uint32_t code_point = 0;
        size_t len = utf8_decode(text, &code_point);
        if (len == 0 || !is_blank(code_point))
            return len != 0 && starts_formula(code_point);
        text = slice_from(text, len);
    }
    return false;
}

/* What a terminal acts upon: controls, and what turns the direction of text around. */
static bool is_unsafe(uint32_t code_point) {
    return (code_point < 0x20 && code_point != '\t' && code_point != '\r' && code_point != '\n') ||
           (code_point >= 0x7f && code_point < 0xa0) ||
           (code_point >= 0x202a && code_point <= 0x202e) ||
           (code_point >= 0x2066 && code_point <= 0x2069);
}

static void append_text(struct buf *out, struct slice text) {
    buf_append_byte(out, '"');
    if (is_dangerous(text))
        buf_append_byte(out, '\'');
    while (text.len != 0) {
        uint32_t code_point = 0xfffd;
        size_t len = utf8_decode(text, &code_point);
        if (len == 0 || is_unsafe(code_point))
            buf_printf(out, "\\u%04x", (unsigned)code_point);
        else if (code_point == '"')
            buf_append_cstr(out, "\"\"");
        else
            buf_append(out, slice_make(text.ptr, len));
        text = slice_from(text, len != 0 ? len : 1);
    }
    buf_append_byte(out, '"');
}

/* A cell that cannot be made must not look like an empty one. */
static void refuse(struct buf *out, int error) {
    if (out->error == 0)
        out->error = error;
}

/* The code of a JSON-RPC error, which is a text in records. */
static bool is_code(const struct json_node *node) {
    struct slice text = json_string_raw(node);
    uint64_t number = 0;
    if (!json_key_is(node, SLICE("code")))
        return false;
    return slice_to_u64(slice_from(text, slice_starts_with(text, SLICE("-")) ? 1 : 0), &number) ==
           0;
}

static void append_node(struct buf *out, const struct json_node *node) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(1));
    if (node == NULL)
        return;
    if (node->type == JSON_NUMBER) {
        buf_append(out, node->raw);
        return;
    }
    if (is_code(node)) {
        buf_append(out, json_string_raw(node));
        return;
    }
    int error = audit_row_append(&text, node);
    if (error == 0)
        append_text(out, buf_slice(&text));
    else
        refuse(out, error);
}

/* --- one row --- */

static bool has_column(const struct json_node *node) {
    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        if (json_key_is(node, slice_from_cstr(columns[i])))
            return true;
    }
    return false;
}

/* A record that is no JSON is here as it is. */
static void append_other(struct buf *out, const struct audit_row *row) {
    CLEANUP(buf_deinit) struct buf json = BUF_INIT(MIB(1));
    if (row->roots[0] == NULL) {
        append_text(out, row->lines[0]);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(row->roots); i++) {
        for (const struct json_node *node =
                 row->roots[i] != NULL ? json_first(row->readers[i], row->roots[i]) : NULL;
             node != NULL; node = json_next(row->readers[i], node)) {
            if (has_column(node) || json_key_is(node, SLICE("hash")))
                continue;
            buf_append_cstr(&json, buf_len(&json) == 0 ? "{\"" : ",\"");
            buf_append(&json, node->key);
            buf_append_cstr(&json, "\":");
            buf_append(&json, node->raw);
        }
    }
    if (buf_len(&json) != 0 && buf_append_byte(&json, '}') == 0)
        append_text(out, buf_slice(&json));
    refuse(out, buf_error(&json));
}

static const struct json_node *outcome_member(const struct audit_row *row, struct slice key) {
    return row->roots[1] != NULL ? json_member(row->readers[1], row->roots[1], key) : NULL;
}

int audit_csv_header(struct buf *out) {
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        buf_printf(out, "%s,", columns[i]);
    for (size_t i = 0; i < ARRAY_LEN(last_columns); i++)
        buf_printf(out, "%s%s", i != 0 ? "," : "", last_columns[i]);
    return buf_append_cstr(out, "\r\n");
}

int audit_csv_row(struct audit_row *row, struct slice filter, struct buf *out) {
    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        append_node(out, audit_row_member(row, columns[i]));
        buf_append_byte(out, ',');
    }
    append_node(out, outcome_member(row, SLICE("seq")));
    buf_append_byte(out, ',');
    append_node(out, outcome_member(row, SLICE("time")));
    buf_append_byte(out, ',');
    if (row->log.len != 0)
        append_text(out, row->log);
    buf_append_byte(out, ',');
    append_other(out, row);
    buf_append_byte(out, ',');
    if (filter.len != 0)
        append_text(out, filter);
    return buf_append_cstr(out, "\r\n");
}
