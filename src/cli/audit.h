/* What the commands of `cardea audit` share: the directory, the filters, one record for people. */
#pragma once

#include "audit/export.h"
#include "cli.h"

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

/* Where records are looked for: in the PostgreSQL of the configuration's [store], or in `dir`;
 * where --dir names one, there. *ret_config has to outlive the URL. CLI_OK, or what
 * cli_load_store_config() answers. */
MUST_CHECK int cli_audit_index(const struct cli_options *options, const char *dir,
                               struct config **ret_config, struct audit_index_options *ret_index);
/* Brings that up to date, where no gateway does and nobody else owns the trail: whose gateway could
 * not write what is made here. `how`: of AUDIT_INDEX_GO_ON and _IF_IDLE. In `why` stands then why
 * lines may be missing all the same, and the cure; empty: they are not, but for those that come. */
void cli_audit_update(const struct audit_index_options *index, enum audit_index_how how,
                      struct buf *why);
/* Says on stderr that audit_find() has failed, with its reason and that of cli_audit_update();
 * CLI_FAILED. */
MUST_CHECK int cli_audit_find_failed(int error, const struct buf *reason, const struct buf *why);
/* Says on stderr how many lines are missing, if any, and why. */
void cli_audit_tell_lag(uint64_t lag, const struct buf *why);
/* The filters of the options, checked. CLI_OK, CLI_USAGE. */
MUST_CHECK int cli_audit_query(const struct cli_options *options, struct audit_query *ret_query);

/* For people: one line without its end; nothing of it can do anything to a terminal. */
int audit_row_format(struct audit_row *row, struct buf *out);
/* What stands above such lines. */
int audit_row_header(struct buf *out);

/* Whole lines of JSON. On a terminal, characters that it would act upon are written as \uXXXX. */
void cli_audit_print_json(struct slice json);
/* Appends the same, whether or not there is a terminal. */
int cli_audit_safe_json(struct buf *out, struct slice json);
