/*
 * Records for those who take them elsewhere: as rows of CSV, and what was asked for. `cardea audit`
 * and the API of the console write the same.
 */
#pragma once

#include "audit/index.h"
#include "json/reader.h"

/* One record, and of an intent its outcome. */
struct audit_row {
    struct json_reader *readers[2];
    const struct json_node *roots[2]; /* NULL: there is none, or it is no JSON */
    struct slice lines[2];
    struct slice log; /* whose trail it is in; empty: that is known */
};

MUST_CHECK int audit_row_init(struct audit_row *row);
void audit_row_deinit(struct audit_row *row);
void audit_row_read(struct audit_row *row, const struct audit_hit *hit);
/* The member of the record, else of its outcome; NULL: neither has it. */
const struct json_node *audit_row_member(const struct audit_row *row, const char *key);
/* Appends a string unescaped, anything else as it is written. */
int audit_row_append(struct buf *out, const struct json_node *node);

/* Of an export as JSON Lines: the lines, and where there are several trails with "log" as their
 * first member. */
int audit_export_hit(const struct audit_hit *hit, struct buf *out);
/* Of an export: the columns, and one record. `filter`: the JSON of what was asked for, or empty. */
int audit_csv_header(struct buf *out);
int audit_csv_row(struct audit_row *row, struct slice filter, struct buf *out);

/* "2026-11-21T22:55:01Z" with any offset, "2026-11-21", or "15m", "2d" before `now_us`. */
bool audit_query_time(struct slice text, uint64_t now_us, uint64_t *ret_us);
bool audit_query_is_filtered(const struct audit_query *query);
/* Appends the filters as a JSON object. */
int audit_query_write(struct buf *out, const struct audit_query *query);
