/* One record and its outcome, read. */
#include "audit/export.h"

int audit_row_init(struct audit_row *row) {
    *row = (struct audit_row){.lines = {{0}}};
    for (size_t i = 0; i < ARRAY_LEN(row->readers); i++) {
        int error = json_reader_new(&row->readers[i]);
        if (error != 0) {
            audit_row_deinit(row);
            return error;
        }
    }
    return 0;
}

void audit_row_deinit(struct audit_row *row) {
    for (size_t i = 0; i < ARRAY_LEN(row->readers); i++)
        row->readers[i] = json_reader_free(row->readers[i]);
}

void audit_row_read(struct audit_row *row, const struct audit_hit *hit) {
    row->lines[0] = hit->line;
    row->lines[1] = hit->outcome;
    row->log = hit->log;
    for (size_t i = 0; i < ARRAY_LEN(row->readers); i++) {
        bool is_read = row->lines[i].len != 0 &&
                       json_read(row->readers[i], row->lines[i], &json_want_root, NULL, NULL) == 0;
        row->roots[i] = is_read ? json_root(row->readers[i]) : NULL;
    }
}

const struct json_node *audit_row_member(const struct audit_row *row, const char *key) {
    for (size_t i = 0; i < ARRAY_LEN(row->roots); i++) {
        const struct json_node *node =
            row->roots[i] != NULL
                ? json_member(row->readers[i], row->roots[i], slice_from_cstr(key))
                : NULL;
        if (node != NULL)
            return node;
    }
    return NULL;
}

static void append_line(struct buf *out, struct slice line, struct slice log) {
    if (log.len != 0 && slice_starts_with(line, SLICE("{\""))) {
        buf_append_cstr(out, "{\"log\":\"");
        buf_append(out, log); /* base64url */
        buf_append_cstr(out, "\",");
        line = slice_from(line, 1);
    }
    buf_append(out, line);
    buf_append_byte(out, '\n');
}

int audit_export_hit(const struct audit_hit *hit, struct buf *out) {
    append_line(out, hit->line, hit->log);
    if (hit->outcome.len != 0)
        append_line(out, hit->outcome, hit->log);
    return buf_error(out);
}

int audit_row_append(struct buf *out, const struct json_node *node) {
    if (node == NULL)
        return 0;
    return node->type == JSON_STRING ? json_string_append(out, node) : buf_append(out, node->raw);
}
