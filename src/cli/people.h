/* What `cardea user`, `role` and `token` share: the store is opened, one transaction works in it,
 * and what it has to say is printed. */
#pragma once

#include "accounts/accounts.h"
#include "cli.h"
#include "json/reader.h"
#include "json/writer.h"

enum { PEOPLE_ROLES = 65 };

/* One command. */
struct people {
    const struct cli_options *options;
    const char *event; /* that a change is: "admin-user" */
    const char *what;  /* it does: "add the user" */
    store_work_fn *work;
    struct buf reason;
    struct buf out;          /* for standard output */
    struct json_writer json; /* into it */
    struct slice who;        /* which user, role, token */
    struct slice why;        /* a reason that was given; may be empty */
    struct accounts_user_change user;
    struct accounts_role_change role;
    struct accounts_token_new token;
    struct slice names[PEOPLE_ROLES]; /* of roles or groups */
    struct buf text;                  /* that is written: a hash, rights */
    char id[ACCOUNTS_ID + 1], made[ACCOUNTS_TOKEN + 1];
    size_t n;
};

/* With whatever the options say for all commands; `event` and `what` as above. */
void people_init(struct people *people, const struct cli_options *options, const char *event,
                 const char *what);
void people_deinit(struct people *people);
extern const struct accounts_actor people_owner;

/* Runs it in a transaction, and says on stderr what is wrong. Of what writes there is a note for
 * the audit trail, about people->who. CLI_OK, CLI_FAILED, CLI_CONFIG. */
MUST_CHECK int people_run(struct people *people, enum store_kind kind, store_work_fn *work);
/* The same, and prints what was written. */
MUST_CHECK int people_print(struct people *people, store_work_fn *work);

/* The rights that --permission and --operation name, as JSON into people->text; none of them:
 * nothing. CLI_OK, CLI_USAGE. */
MUST_CHECK int people_take_rights(struct people *people);
/* For people: a line each. */
void people_write_rights_text(struct people *people, struct slice rights);

/* Appends text of somebody, safe for a terminal, padded with spaces. */
void people_write_cell(struct people *people, struct slice text, size_t width);
void people_write_when(struct people *people, uint64_t ms);
/* With --json: {"KEY":[...]} and a line end. */
void people_begin_list(struct people *people, struct slice key);
void people_end_list(struct people *people);
/* Members of an object: a time or null, texts. */
void people_write_time(struct people *people, struct slice key, uint64_t ms);
void people_write_texts(struct people *people, struct slice key, const struct slice *texts,
                        size_t n);
