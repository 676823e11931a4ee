/*
 * A record for people: one line, in columns. What it holds came from clients and servers: every
 * text goes through log_escape(), so that nothing of it does anything to a terminal, and is cut.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "base/limits.h"
#include "base/utf8.h"

enum { TIME_WIDTH = 24 };

struct column {
    const char *key;
    size_t width;
};

/* The first ones are of whoever did something. */
enum { CALLER_COLUMNS = 3 };
static const struct column columns[] = {
    {"event", 13},     {"user", 16},    {"address", 15},
    {"operation", 32}, {"decision", 8}, {"status", 11},
};

/* Characters that are seen, as far as can be told without a table. */
static size_t width_of(struct slice text) {
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += ((unsigned char)text.ptr[i] & 0xc0) != 0x80;
    return n;
}

static void append_padded(struct buf *out, struct slice text, size_t width) {
    CLEANUP(buf_deinit) struct buf safe = BUF_INIT(KIB(4));
    log_escape(&safe, text, 100);
    buf_append(out, buf_slice(&safe));
    for (size_t n = width_of(buf_slice(&safe)); n < width; n++)
        buf_append_byte(out, ' ');
}

static void append_member(struct buf *out, const struct audit_row *row, const char *key,
                          size_t width) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(128));
    (void)audit_row_append(&text, audit_row_member(row, key));
    append_padded(out, buf_slice(&text), width);
}

int audit_row_header(struct buf *out) {
    append_padded(out, SLICE("time (UTC)"), TIME_WIDTH);
    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        buf_append_cstr(out, i == 0 ? " " : "  ");
        append_padded(out, slice_from_cstr(columns[i].key), columns[i].width);
    }
    return buf_printf(out, "%9s  details", "took");
}

/* To the millisecond: "2026-11-21T22:55:01.123Z". */
static void append_time(struct buf *out, const struct audit_row *row) {
    enum { MILLISECONDS = TIME_WIDTH - 1 };
    const struct json_node *time = audit_row_member(row, "time");
    struct slice text = time != NULL ? json_string_raw(time) : SLICE_EMPTY;
    CLEANUP(buf_deinit) struct buf cut = BUF_INIT(64);
    buf_append(&cut, slice_sub(text, 0, MILLISECONDS));
    if (text.len > MILLISECONDS)
        buf_append_byte(&cut, 'Z');
    append_padded(out, buf_slice(&cut), TIME_WIDTH);
}

static void append_took(struct buf *out, const struct audit_row *row) {
    const struct json_node *node = audit_row_member(row, "duration_us");
    uint64_t us = 0;
    if (node == NULL || slice_to_u64(node->raw, &us) != 0)
        buf_printf(out, "%9s", "");
    else if (us < 1000000)
        buf_printf(out, "%6.1f ms", (double)us / 1e3);
    else
        buf_printf(out, "%7.1f s", (double)us / 1e6);
}

/* What has a column of its own there, or tells people nothing. */
static bool is_shown(const struct json_node *node) {
    static const char *const keys[] = {
        "seq",   "time",     "id",       "hash",   "signature", "previous",  "log",
        "key",   "groups",   "rule",     "reason", "message",   "client",    "session",
        "trace", "upstream", "instance", "access", "method",    "arguments", "duration_us"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (json_key_is(node, slice_from_cstr(keys[i])))
            return true;
    }
    for (size_t i = 0; i < CALLER_COLUMNS; i++) {
        if (json_key_is(node, slice_from_cstr(columns[i].key)))
            return true;
    }
    return false;
}

/* The members of the program's own records, "key=value". */
static void append_others(struct buf *out, const struct audit_row *row) {
    for (const struct json_node *node =
             row->roots[0] != NULL ? json_first(row->readers[0], row->roots[0]) : NULL;
         node != NULL; node = json_next(row->readers[0], node)) {
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(128));
        if (is_shown(node))
            continue;
        buf_append_cstr(out, "  ");
        append_padded(out, node->key, 0);
        buf_append_byte(out, '=');
        (void)audit_row_append(&text, node);
        append_padded(out, buf_slice(&text), 0);
    }
}

static void append_why(struct buf *out, const struct audit_row *row) {
    static const char *const keys[] = {"rule", "reason", "message"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (audit_row_member(row, keys[i]) == NULL)
            continue;
        buf_append_cstr(out, "  ");
        append_member(out, row, keys[i], 0);
    }
}

int audit_row_format(struct audit_row *row, struct buf *out) {
    if (row->roots[0] == NULL) {
        buf_append_cstr(out, "unreadable: ");
        return log_escape(out, row->lines[0], 200);
    }
    append_time(out, row);
    /* Records that are about no call have few of the columns: what they have comes first. */
    bool is_call = audit_row_member(row, "method") != NULL;
    bool has_caller =
        audit_row_member(row, "user") != NULL || audit_row_member(row, "address") != NULL;
    size_t n_columns = is_call ? ARRAY_LEN(columns) : has_caller ? CALLER_COLUMNS : 1;
    for (size_t i = 0; i < n_columns; i++) {
        buf_append_cstr(out, i == 0 ? " " : "  ");
        append_member(out, row, columns[i].key, columns[i].width);
    }
    if (is_call)
        append_took(out, row);
    else
        append_others(out, row);
    append_why(out, row);
    while (buf_len(out) != 0 && buf_slice(out).ptr[buf_len(out) - 1] == ' ')
        buf_truncate(out, buf_len(out) - 1);
    return buf_error(out);
}

/* --- JSON for terminals --- */

/* As in base/log.c: what a terminal acts upon. JSON has escapes for C0 controls only. */
static bool is_unsafe(uint32_t code_point) {
    return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0) ||
           (code_point >= 0x202a && code_point <= 0x202e) ||
           (code_point >= 0x2066 && code_point <= 0x2069) || code_point == 0x2028 ||
           code_point == 0x2029;
}

int cli_audit_safe_json(struct buf *out, struct slice json) {
    while (json.len != 0) {
        uint32_t code_point = 0xfffd;
        size_t len = utf8_decode(json, &code_point);
        if (len == 0)
            buf_append_cstr(out, "\\ufffd");
        else if (is_unsafe(code_point))
            buf_printf(out, "\\u%04x", (unsigned)code_point);
        else
            buf_append(out, slice_make(json.ptr, len));
        json = slice_from(json, len != 0 ? len : 1);
    }
    return buf_error(out);
}

void cli_audit_print_json(struct slice json) {
    CLEANUP(buf_deinit) struct buf safe = BUF_INIT(MIB(4));
    if (isatty(STDOUT_FILENO)) {
        if (cli_audit_safe_json(&safe, json) != 0)
            return;
        json = buf_slice(&safe);
    }
    fwrite(json.ptr, 1, json.len, stdout);
}
