/* What the commands of `cardea audit` share: the directory, the filters, one record for people. */
#pragma once

#include "audit/index.h"
#include "cli.h"
#include "json/reader.h"

/* The directory of the trail: --dir, else `audit` in the data directory. It has to be there; else
 * stderr says what to do. CLI_OK, CLI_FAILED. Owned by the caller. */
MUST_CHECK int cli_audit_dir(const struct cli_options *options, char **ret_dir);
/* Says on stderr what is wrong with the words; CLI_USAGE. */
MUST_CHECK int cli_audit_usage(const char *what, const char *word);
/* "what: reason" on stderr; CLI_FAILED. */
MUST_CHECK int cli_audit_failed(const char *what, int error);
/* A whole number of an option; NULL gives `usual`. CLI_OK, CLI_USAGE. */
MUST_CHECK int cli_audit_number(const char *option, const char *text, uint64_t least, uint64_t most,
                                uint64_t usual, uint64_t *ret_number);

/* The filters of the options, checked. CLI_OK, CLI_USAGE. */
MUST_CHECK int cli_audit_query(const struct cli_options *options, struct audit_query *ret_query);
bool cli_audit_is_filtered(const struct audit_query *query);
/* Appends the filters as a JSON object. */
int cli_audit_write_filter(struct buf *out, const struct audit_query *query);
/* "2026-11-21T22:55:01Z" with any offset, "2026-11-21", or "15m", "2d" before `now_us`. */
bool cli_audit_time(struct slice text, uint64_t now_us, uint64_t *ret_us);

/* One record, and of an intent its outcome. */
struct audit_row {
    struct json_reader *readers[2];
    const struct json_node *roots[2]; /* NULL: there is none, or it is no JSON */
    struct slice lines[2];
};

MUST_CHECK int audit_row_init(struct audit_row *row);
void audit_row_deinit(struct audit_row *row);
void audit_row_read(struct audit_row *row, struct slice line, struct slice outcome);
/* The member of the record, else of its outcome; NULL: neither has it. */
const struct json_node *audit_row_member(const struct audit_row *row, const char *key);
/* Appends a string unescaped, anything else as it is written. */
int audit_row_append(struct buf *out, const struct json_node *node);
/* For people: one line without its end; nothing of it can do anything to a terminal. */
int audit_row_format(struct audit_row *row, struct buf *out);
/* What stands above such lines. */
int audit_row_header(struct buf *out);

/* Of an export: the columns, and one record. `filter`: the JSON of what was asked for, or empty. */
int audit_csv_header(struct buf *out);
int audit_csv_row(struct audit_row *row, struct slice filter, struct buf *out);

/* Whole lines of JSON. On a terminal, characters that it would act upon are written as \uXXXX. */
void cli_audit_print_json(struct slice json);
/* Appends the same, whether or not there is a terminal. */
int cli_audit_safe_json(struct buf *out, struct slice json);
